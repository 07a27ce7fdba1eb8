"""pfx-agentd beside strangers: leases by hand, rubbish on its sockets, full disks, foreign users."""

import grp
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True
from agent_case import alone, main  # noqa: E402
from agent_rig import AGENTD, Closed, Fail, GROUP, Line, Rig  # noqa: E402


class Leases(unittest.TestCase):
    """An arm written by hand, message by message."""

    def setUp(self):
        self.rig = Rig(arms=False, options=["--job-deadline", "2"])
        self.addCleanup(self.rig.close)
        self.rig.world.groups[GROUP] = [self.rig.world.user("alice")]
        self.line = None

    def hello(self, role="uploader", incarnation="0" * 8 + "-0000-4000-8000-" + "0" * 12, holds=(),
              **more):
        line = Line(self.rig.run + "/" + role, 5)
        self.addCleanup(line.close)
        fields = dict(role=role, version="0.1.0", incarnation=incarnation, pid=1,
                      kinds=["up.members", "up.records"] if role == "uploader" else ["hsm.report"],
                      capacity=4, holds=list(holds))
        fields.update(more)
        line.send("hello", **fields)
        return line, line.read()

    def begin(self):
        def run():
            try:
                self.rig.run_once()
            except Exception:
                pass
        thread = threading.Thread(target=run, daemon=True)
        thread.start()

    def members_job(self, line):
        line.send("pull", max=2)
        jobs = [line.read(), line.read()]
        return [j for j in jobs if j["kind"] == "up.members"][0]

    def stale(self):
        return self.rig.sql("SELECT what FROM history WHERE what LIKE 'stale%'")

    def test_stale_lease_wrong_incarnation_duplicate(self):
        line, first = self.hello()
        self.assertEqual(first["t"], "welcome")
        self.begin()
        job = self.members_job(line)
        answer = {"class": "ok", "body": {"users": []}}
        line.send("done", job=job["job"], lease=job["lease"] + 1, **answer)
        self.assertEqual(line.read()["t"], "ack")
        line.send("done", job=999999, lease=1, **answer)
        self.assertEqual(line.read()["t"], "ack")
        self.assertEqual(len(self.stale()), 2)
        # The process is gone; its answer, brought by another one, isn't taken.
        line.close()
        other = "1" * 8 + "-1111-4111-8111-" + "1" * 12
        first = {}
        while first.get("t") != "welcome":  # until the old line is seen to be closed
            line, first = self.hello(incarnation=other)
        line.send("done", job=job["job"], lease=job["lease"], **answer)
        self.assertEqual(line.read()["t"], "ack")
        self.assertEqual(len(self.stale()), 3)
        again = self.members_job(line)
        self.assertEqual(again["job"], job["job"])
        self.assertGreater(again["lease"], job["lease"])
        line.send("done", job=again["job"], lease=again["lease"], **answer)
        self.assertEqual(line.read()["t"], "ack")
        line.send("done", job=again["job"], lease=again["lease"], **answer)
        self.assertEqual(line.read()["t"], "ack")
        self.assertEqual(len(self.stale()), 4)

    def test_silent_job_and_beat(self):
        line, _ = self.hello()
        self.begin()
        line.send("pull", max=2)
        jobs = [line.read(), line.read()]
        start = time.time()
        while time.time() < start + 4:  # twice the deadline
            for job in jobs:
                line.send("beat", job=job["job"], lease=job["lease"])
            time.sleep(0.3)
        bye = line.read()
        self.assertEqual(bye["t"], "bye")
        self.assertIn("sign of life", bye["why"])
        self.assertGreater(time.time() - start, 5.5)

    def test_hellos_that_are_refused(self):
        for changes in (dict(role="hsm"), dict(kinds=["hsm.key_csr"]), dict(kinds=["up.unknown"])):
            with self.subTest(changes=changes):
                line = Line(self.rig.run + "/uploader", 5)
                self.addCleanup(line.close)
                fields = dict(role="uploader", version="1", pid=1, kinds=["up.order"], capacity=4,
                              incarnation="0" * 8 + "-0000-4000-8000-" + "0" * 12, holds=[])
                fields.update(changes)
                line.send("hello", **fields)
                self.assertEqual(line.read()["t"], "bye")

    def test_second_arm_of_a_role(self):
        _, first = self.hello()
        _, second = self.hello(incarnation="2" * 8 + "-2222-4222-8222-" + "2" * 12)
        self.assertEqual((first["t"], second["t"]), ("welcome", "bye"))
        _, same = self.hello()
        self.assertEqual(same["t"], "welcome", "the same process may come back")


class Hostile(unittest.TestCase):
    def setUp(self):
        self.rig = Rig()
        self.addCleanup(self.rig.close)
        self.rig.world.groups[GROUP] = [self.rig.world.user("alice")]

    def alive(self):
        self.assertIsNone(self.rig.process.poll())
        self.assertEqual(self.rig.ask("status")[1], 0)

    def test_frames(self):
        frames = [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}",
                  b"\x00\x00\x00\x04null", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000,
                  b"\x00\x00\x00\x10" + b"{" * 16, os.urandom(5000),
                  b'\x00\x00\x00\x21{"v":2,"t":"req","id":1,"verb":""}']
        for name in ("cli", "hsm", "uploader"):
            for frame in frames:
                line = Line(self.rig.run + "/" + name, 2)
                try:
                    line.raw(frame)
                    line.sock.shutdown(1)
                    while line.sock.recv(4096):
                        pass
                except OSError:
                    pass
                finally:
                    line.close()
        self.alive()
        self.assertEqual(self.rig.run_once()[1], 0)

    def test_half_frames_and_floods(self):
        lines = []
        for name in ("cli", "hsm", "uploader"):
            for _ in range(50):
                try:
                    line = Line(self.rig.run + "/" + name, 2)
                    line.raw(b"\x00\x00\x00\x40{")
                    lines.append(line)
                except Exception:
                    pass
        time.sleep(0.3)
        # The arms that are connected work on while strangers sit on the other places.
        self.assertIsNone(self.rig.process.poll())
        fds = len(os.listdir("/proc/%d/fd" % self.rig.process.pid))
        self.assertLess(fds, 80)
        for line in lines:
            line.close()
        self.rig.wait_for(lambda: self.rig.ask("status")[1] == 0)
        self.assertEqual(self.rig.run_once()[1], 0)

    def test_who_knocks_on_one_socket_hides_nobody_on_another(self):
        def knock(name):
            line = Line(self.rig.run + "/" + name, 5)
            line.raw(b"\xff\xff\xff\xff")
            try:
                while line.sock.recv(4096):
                    pass
            except OSError:
                pass
            line.close()

        def told(name):
            return self.rig.log().count("socket %s: pid %d refused" % (name, os.getpid()))

        for _ in range(80):
            knock("hsm")
        self.assertTrue(40 < told("hsm") <= 50, told("hsm"))
        knock("uploader")
        self.assertEqual(told("uploader"), 1)

    def test_no_hello(self):
        line = Line(self.rig.run + "/hsm", 15)
        start = time.time()
        self.assertEqual(line.read()["t"], "bye")
        self.assertGreater(time.time() - start, 8)
        line.close()

    @alone
    def test_slow_reader(self):
        """Who asks for everything and doesn't read holds up nobody."""
        self.rig.run_once()
        lines = []
        for _ in range(10):
            line = Line(self.rig.run + "/cli", 0.2)
            lines.append(line)
            try:
                for number in range(2000):
                    line.send("req", id=number + 1, verb="enrolment.list", args={})
            except Closed:
                pass  # no room any more: that is what bounds it
        start = time.time()
        self.alive()
        self.assertLess(time.time() - start, 2)
        for line in lines:
            line.close()

    def test_bad_requests(self):
        for args in ({"verb": "enrolment.list", "args": {"nope": 1}}, {"verb": "no.such.verb"},
                     {"verb": "enrolment.show"}, {"verb": "pause"},
                     {"verb": "enrolment.list", "args": {"state": "SLEEPING"}}):
            line = Line(self.rig.run + "/cli", 5)
            line.send("req", id=3, **args)
            end = line.read()
            self.assertEqual(end["t"], "end")
            self.assertIn(end["exit"], (2, 4))
            line.close()
        self.alive()


class Machine(unittest.TestCase):
    def test_sigterm(self):
        rig = Rig()
        rig.world.groups[GROUP] = [rig.world.user("alice")]
        rig.run_once()
        self.assertEqual(rig.close(), 0)

    def test_second_daemon_is_refused(self):
        rig = Rig()
        self.addCleanup(rig.close)
        second = subprocess.run([AGENTD, "--config", rig.config_path], capture_output=True,
                                text=True, timeout=10)
        self.assertEqual(second.returncode, 2)
        self.assertIn("another pfx-agentd", second.stderr)

    def test_modes(self):
        rig = Rig()
        self.addCleanup(rig.close)
        self.assertEqual(os.stat(rig.state).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(rig.run).st_mode & 0o777, 0o750)
        for name in os.listdir(rig.state):
            self.assertEqual(os.stat(os.path.join(rig.state, name)).st_mode & 0o077, 0, name)
        for name in ("cli", "hsm", "uploader"):
            self.assertEqual(os.stat(os.path.join(rig.run, name)).st_mode & 0o777, 0o600)

    def test_disk_full(self):
        """No room: nothing is given out, nothing is applied, nothing is lost; then it goes on."""
        rig = Rig(schedule={"retry_min": "1s", "retry_max": "1s"})
        self.addCleanup(rig.close)
        rig.world.groups[GROUP] = [rig.world.user("u%d" % i) for i in range(3)]
        rig.world.fault("hsm.key_csr", *[Fail("transient")] * 3)
        rig.run_once()
        self.assertEqual(rig.states(), ["NEW"] * 3)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        time.sleep(2.5)
        self.assertIsNone(rig.process.poll())
        self.assertEqual(rig.world.counts["hsm.key_csr"], 3,
                         "no job leaves that can't be written down")
        facts = {i["name"]: i for i in rig.ask("status")[0] if i["kind"] == "fact"}
        self.assertEqual(facts["store"]["level"], "bad")
        self.assertIn("disk", facts["store"]["value"])
        _, code, error = rig.ask("pause", orders=True)
        self.assertEqual(code, 5)
        self.assertIn("disk", error["text"])
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, unlimited)
        rig.wait_for(lambda: rig.states() == ["ACTIVE"] * 3, 30)
        self.assertEqual(len(rig.world.bought), 3)
        self.assertEqual(len(set(rig.world.bought)), 3)
        self.assertNotIn("store", [i.get("name") for i in rig.ask("status")[0]])

    def test_disk_full_while_an_answer_comes(self):
        """What can't be stored isn't acknowledged: the arm brings it again."""
        rig = Rig()
        self.addCleanup(rig.close)
        world = rig.world
        world.groups[GROUP] = [world.user("alice")]

        def buy_on_a_full_disk(body):
            resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            threading.Timer(1.0, lambda: resource.prlimit(
                rig.process.pid, resource.RLIMIT_FSIZE,
                (resource.RLIM_INFINITY, resource.RLIM_INFINITY))).start()
            return world.up_order(body)
        world.fault("up.order", buy_on_a_full_disk)
        rig.run_once(wait=20)
        rig.wait_for(lambda: rig.states() == ["ACTIVE"], 15)
        self.assertEqual((len(world.bought), world.counts["up.order"]), (1, 1))
        self.assertNotIn("up.order_settle", world.counts)

    def test_with_arms(self):
        """Both programs start from beside pfx-agentd, again when they end, and end with it."""
        folder = tempfile.mkdtemp(prefix="pfx-arms-")
        self.addCleanup(shutil.rmtree, folder)
        daemon = shutil.copy(AGENTD, folder)
        for name in ("pfx-hsm", "pfx-uploader"):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write('#!/bin/sh\necho "$$ $*" >> "%s.log"\nexec sleep 1000\n' % path)
            os.chmod(path, 0o755)

        def starts(name):
            try:
                with open(os.path.join(folder, name + ".log"), encoding="utf-8") as file:
                    return [line.split(" ", 1) for line in file.read().splitlines()]
            except FileNotFoundError:
                return []
        rig = Rig(arms=False)
        self.addCleanup(rig.close)
        rig.terminate()
        process = subprocess.Popen(
            [daemon, "--config", rig.config_path, "--with-arms", "--hsm-policy", "/p",
             "--uploader-config", "/u"], stderr=subprocess.DEVNULL)
        try:
            rig.wait_for(lambda: starts("pfx-hsm") and starts("pfx-uploader"))
            self.assertEqual(starts("pfx-hsm")[0][1], "--policy /p --child")
            self.assertEqual(starts("pfx-uploader")[0][1], "--config /u --child")
            os.kill(int(starts("pfx-hsm")[0][0]), signal.SIGKILL)
            rig.wait_for(lambda: len(starts("pfx-hsm")) == 2, 5)
            self.assertEqual(len(starts("pfx-uploader")), 1)
        finally:
            process.terminate()
            self.assertEqual(process.wait(10), 0)
        for pid in (starts("pfx-hsm")[1][0], starts("pfx-uploader")[0][0]):
            self.assertFalse(os.path.exists("/proc/" + pid))
        os.unlink(os.path.join(folder, "pfx-hsm"))
        out = subprocess.run([daemon, "--config", rig.config_path, "--with-arms"],
                             capture_output=True, text=True, timeout=10)
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("beside pfx-agentd", out.stderr)

    @alone
    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_who_may(self):
        """Operators may all, auditors may look, others nothing; arms come from their users only."""
        operators, auditors = grp.getgrnam("users"), grp.getgrnam("games")
        nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
        rig = Rig(arms=False, access="{operators: users, auditors: games, hsm_user: daemon}")
        self.addCleanup(rig.close)
        os.chmod(rig.dir, 0o755)

        def ask(group, verb, **args):
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            try:
                os.setgroups([])
                os.setgid(group)
                os.setuid(nobody.pw_uid)
                os._exit(rig.ask(verb, timeout=5, **args)[1])
            except Closed:
                os._exit(99)
            finally:
                os._exit(98)
        self.assertEqual(ask(operators.gr_gid, "status"), 0)
        self.assertEqual(ask(operators.gr_gid, "pause", orders=True), 0)
        self.assertEqual(ask(auditors.gr_gid, "status"), 0)
        self.assertEqual(ask(auditors.gr_gid, "enrolment.list"), 0)
        for verb in ("run", "pause", "resume", "enrolment.cancel", "enrolment.retry",
                     "enrolment.release"):
            self.assertEqual(ask(auditors.gr_gid, verb), 4, verb)
            self.assertEqual(ask(nobody.pw_gid, verb), 4, verb)
        self.assertEqual(ask(nobody.pw_gid, "status"), 4)

        def hello(uid):
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            try:
                os.setgroups([])
                os.setuid(uid)
                line = Line(rig.run + "/hsm", 5)
                line.send("hello", role="hsm", version="1", pid=1, kinds=["hsm.report"], capacity=1,
                          incarnation="3" * 8 + "-3333-4333-8333-" + "3" * 12, holds=[])
                os._exit(0 if line.read()["t"] == "welcome" else 1)
            except Exception:
                os._exit(1)
        self.assertEqual(hello(daemon.pw_uid), 0)
        self.assertEqual(hello(nobody.pw_uid), 1)

    def test_version_and_usage(self):
        out = subprocess.run([AGENTD, "--version"], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0)
        self.assertIn("pfx-agentd", out.stdout)
        for args in (["--nope"], ["x"], ["--hsm-policy", "x"], ["--job-deadline", "0"], ["--patience", "x"]):
            self.assertEqual(subprocess.run([AGENTD] + args, capture_output=True).returncode, 2)


if __name__ == "__main__":
    main()
