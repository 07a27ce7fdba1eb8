"""The units at work, inside the container that boot.py makes. One world for all tests, in order."""

import argparse
import contextlib
import ctypes
import glob
import json
import os
import pwd
import re
import signal
import socket
import struct
import sys
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import installed  # noqa: E402  (the line above makes it found)
from installed import (UNITS, USERS, cursor, dropin, harness, is_up, journal, main_pid,  # noqa: E402
                       run, sh_as, show, systemctl)
import oracle  # noqa: E402
import people  # noqa: E402
import run as runner  # noqa: E402
from control import Control  # noqa: E402

LIMITS = {"pfx-agentd": 1.0, "pfx-hsm": 1.0, "pfx-uploader": 1.5, "pfx-agent-pass": 1.0,
          "pfx-agent-rotate": 1.0}
ROTATION = os.path.join(os.path.dirname(installed.GUIDE), "rotation.md")
TOKEN = "/run/pfx-test-token/socket"
WORLD = None


def status_of(pid):
    with open("/proc/%d/status" % pid, encoding="utf-8") as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)


def exposure(text):
    return float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", text).group(1))


class Case(unittest.TestCase):
    maxDiff = None

    @property
    def world(self):
        return WORLD

    def until_active(self, upns, seconds=60):
        def done():
            states = self.world.states()
            return all("ACTIVE" in states.get(u, []) for u in upns)

        def step():
            if not done():
                self.world.run_once("5s", seconds=60)
            return done()
        try:
            harness.wait_for("ACTIVE for %s" % upns, step, seconds, 0.5)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, self.world.why_not())) from None

    def assert_nothing_lost(self):
        """No order twice, no record twice, and the log says so to an auditor."""
        self.assertLessEqual(self.world.control("/state")["digicert"]["max_orders_per_key"], 1)
        records = [r["id"] for r in self.world.records()]
        self.assertEqual(len(records), len(set(records)))
        folder = self.world.path("export-%d" % time.monotonic_ns())
        self.assertEqual(self.world.cli("log", "export", folder).code, 0)
        verdict = self.world.run(harness.program("pfx-audit"), "verify", folder, "--key",
                                 self.world.path("out", "log-1.vkey"))
        self.assertEqual(verdict.code, 0, repr(verdict))

    def enrol(self, number, *killed):
        """One more member, from the group to Intune; `killed` are called while it runs."""
        upn = people.upn(number)
        self.world.control("/graph/member", {"group": people.GROUP, "add": people.user(number)})
        for kill in killed:
            self.world.spawn("run", harness.program("pfx-agent"), "run", "--once", "--wait", "3s")
            time.sleep(0.3)
            kill()
            self.world.processes.pop("run").wait(90)
        self.until_active([upn])
        return upn


class A_Install(Case):
    """What the guide says works as typed."""

    def test_examples_that_the_guide_makes_have_users_and_groups(self):
        for name, words in (("agent", ("operators: pfx-operators", "auditors: pfx-auditors",
                                       "hsm_user: pfx-hsm", "uploader_user: pfx-uploader")),
                            ("hsm-policy", ("agent_user: pfx-agent", "uploader_user: pfx-uploader",
                                            "admins: pfx-admins", "auditors: pfx-auditors")),
                            ("uploader", ("agent_user: pfx-agent", "hsm_user: pfx-hsm"))):
            text = self.world.examples[name]
            self.assertIn("\naccess:\n", text)
            for word in words:
                self.assertIn("\n  %s\n" % word, text)

    def test_pins_are_not_echoed_and_not_readable_at_rest(self):
        for role in ("users", "service", "log"):
            pin = self.world.pin(role)
            self.assertNotIn(pin, self.world.typed)
            path = "/etc/credstore.encrypted/pfx-hsm.%s-pin" % role
            with open(path, "rb") as stream:
                self.assertNotIn(pin.encode(), stream.read())
            self.assertEqual(os.stat(os.path.dirname(path)).st_mode & 0o777, 0o700)

    def test_exposure(self):
        figures = []
        unit_folder = "/usr/local/lib/systemd/system"
        for unit, most in LIMITS.items():
            path = "%s/%s.service" % (unit_folder, unit)
            offline = exposure(run("systemd-analyze", "--no-pager", "security", "--offline=true",
                                   path).out)
            live = exposure(run("systemd-analyze", "--no-pager", "security", unit).out)
            figures.append("%s %.1f offline, %.1f live" % (unit, offline, live))
            self.assertLessEqual(offline, most)
            self.assertLessEqual(live, most)
        networked = self.world.path("networked")
        os.makedirs(networked + "/pfx-hsm.service.d")
        for source, target in ((unit_folder + "/pfx-hsm.service", "/pfx-hsm.service"),
                               (installed.DROPINS + "/network-hsm.conf",
                                "/pfx-hsm.service.d/network-hsm.conf")):
            with open(source, encoding="utf-8") as stream, \
                    open(networked + target, "w", encoding="utf-8") as copy:
                copy.write(stream.read())
        offline = exposure(run("systemd-analyze", "--no-pager", "security", "--offline=true",
                               networked + "/pfx-hsm.service").out)
        figures.append("pfx-hsm with network-hsm.conf %.1f offline" % offline)
        self.assertLessEqual(offline, 1.5)
        print("      exposure: " + "; ".join(figures))

    def test_verify_finds_no_mistake(self):
        said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                   *glob.glob("/usr/local/lib/systemd/system/pfx-*"))
        self.assertEqual((said.out + said.err).strip(), "")


class B_Apart(Case):
    """Three users, who have nothing of each other."""

    def test_each_process_is_its_own_user_without_any_right(self):
        uids = set()
        for unit in UNITS:
            pid = main_pid(unit)
            status = status_of(pid)
            self.assertEqual(run("id", "--user", "--name", status["Uid"].split()[0]).out.strip(),
                             USERS[unit])
            uids.add(status["Uid"].split()[0])
            self.assertEqual(len(set(status["Uid"].split())), 1)
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[name], 16), 0, "%s of %s" % (name, unit))
            self.assertEqual(status["NoNewPrivs"], "1")
            self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(len(uids), 3)

    def test_only_the_uploader_has_the_network(self):
        here = os.readlink("/proc/self/ns/net")
        self.assertEqual(os.readlink("/proc/%d/ns/net" % main_pid("pfx-uploader")), here)
        for unit in ("pfx-agentd", "pfx-hsm"):
            self.assertNotEqual(os.readlink("/proc/%d/ns/net" % main_pid(unit)), here)

    def test_files_of_one_are_closed_to_the_others(self):
        private = {"pfx-agent": "/var/lib/pfx-agent/store.db",
                   "pfx-hsm": "/run/credentials/pfx-hsm.service/users-pin"}
        private_of_hsm = [p for p in glob.glob("/var/lib/pfx-hsm/**", recursive=True)
                          if os.path.isfile(p) and "/log/" not in p and not p.endswith(".crt")]
        self.assertTrue(os.path.isfile(private["pfx-agent"]), os.listdir("/var/lib/pfx-agent"))
        self.assertTrue(private_of_hsm)
        files = [("pfx-agent", private["pfx-agent"]), ("pfx-hsm", private["pfx-hsm"])]
        files += [("pfx-hsm", path) for path in private_of_hsm]
        files += [("pfx-hsm", p) for p in glob.glob("/var/lib/softhsm/tokens/*/token.object")]
        for owner, path in files:
            # As its unit: pfx-hsm is one of softhsm's group there.
            groups = ["softhsm"] if "softhsm" in path else None
            self.assertEqual(sh_as(owner, "test", "-r", path, groups=groups).code, 0,
                             "%s: %s" % (owner, path))
            for user in (*USERS.values(), "nobody", "alice"):
                # She is an auditor by now.
                if user != owner and not (user == "alice" and "/ceremonies/" in path):
                    self.assertNotEqual(sh_as(user, "cat", path).code, 0, "%s: %s" % (user, path))
        for user in USERS.values():
            for path in ("/etc/pfx-agent/new", "/usr/local/bin/new"):
                self.assertNotEqual(sh_as(user, "touch", path).code, 0)
            self.assertNotEqual(sh_as(user, "ls", "/etc/credstore.encrypted").code, 0)

    def test_no_way_to_a_token_from_where_the_others_are(self):
        """Through their own mount namespaces, by root: what isn't there can't be reached."""
        module = harness.kinds.SOFTHSM
        seen = {}
        for unit in UNITS:
            inside = "/proc/%d/root" % main_pid(unit)
            seen[unit] = [path for path in (module, "/var/lib/softhsm/tokens",
                                            "/var/lib/pfx-agent/store.db",
                                            "/var/lib/pfx-hsm/pin-guard")
                          if os.path.exists(inside + path)]
        self.assertEqual(seen, {"pfx-agentd": ["/var/lib/pfx-agent/store.db"], "pfx-uploader": [],
                                "pfx-hsm": [module, "/var/lib/softhsm/tokens",
                                            "/var/lib/pfx-hsm/pin-guard"]})

    def test_who_may_ask_what_at_which_socket(self):
        for user, groups, status, pause, admin in (
                ("alice", ["pfx-operators"], True, True, False),
                ("alice", ["pfx-auditors"], True, False, False),
                ("alice", ["pfx-admins"], False, False, True),
                ("nobody", [], False, False, False),
                ("pfx-uploader", [], False, False, False),
                ("pfx-hsm", [], False, False, False)):
            if user == "alice":
                run("usermod", "--groups", ",".join(groups), user)
            found = []
            for verb in (["enrolment", "list"], ["pause", "--orders"], ["key", "list"]):
                said = sh_as(user, harness.program("pfx-agent"), *verb)
                self.assertIn(said.code, (0, 1, 3, 4), repr(said))
                found.append(said.code in (0, 1))
                if said.code == 0 and verb[0] == "pause":
                    self.assertEqual(self.world.cli("resume", "--orders").code, 0)
            self.assertEqual(found, [status, pause, admin or user == "pfx-hsm"], "%s %s" % (user, groups))

    def test_an_arm_must_be_the_right_user(self):
        hello = {"v": 1, "t": "hello", "id": 1, "role": "hsm", "version": "0.1.0",
                 "incarnation": "00000000-0000-4000-8000-0000000000ff"}
        before = self.world.facts()["hsm"]
        for path, role, users in (
                ("/run/pfx-agent/hsm", "hsm", ("pfx-uploader", "alice", "nobody")),
                ("/run/pfx-agent/uploader", "uploader", ("pfx-hsm", "alice", "nobody")),
                ("/run/pfx-hsm/uploader", "uploader", ("pfx-agent", "alice", "nobody"))):
            for user in users:
                answer = said_to(user, path, dict(hello, role=role))
                self.assertNotIn(b"welcome", answer, "%s at %s" % (user, path))
        self.assertEqual(self.world.facts()["hsm"], before)

    def test_auditors_read_the_log_and_nothing_else(self):
        run("usermod", "--groups", "pfx-auditors", "alice")
        said = sh_as("alice", harness.program("pfx-agent"), "log", "tail")
        self.assertEqual(said.code, 0, repr(said))
        self.assertTrue(said.out.strip())
        self.assertNotEqual(sh_as("alice", "ls", "/var/lib/pfx-hsm").code, 0)
        self.assertNotEqual(sh_as("nobody", "ls", "/var/lib/pfx-hsm/log").code, 0)
        self.assertNotEqual(sh_as("alice", "touch", "/var/lib/pfx-hsm/log/new").code, 0)

    def test_the_filter_of_the_units_lets_the_sandbox_be_made(self):
        """A program in place of ours, under the same settings."""
        probe = os.path.join(HERE, "probe.py")
        for unit in UNITS:
            with open("/usr/local/lib/systemd/system/%s.service" % unit, encoding="utf-8") as stream:
                lines = stream.read().splitlines()
            kept = [x for x in lines if not x.startswith(
                ("Type=", "NotifyAccess=", "Exec", "NoExecPaths=", "Restart", "Wants=", "After=",
                 "WantedBy=", "Also=", "Watchdog", "RuntimeDirectory", "StateDirectory",
                 "LoadCredential", "SystemCallErrorNumber="))]
            kept.insert(kept.index("[Service]") + 1, "Type=oneshot\nStandardOutput=file:%s\n"
                        "SystemCallErrorNumber=EPERM\nExecStart=/usr/bin/python3 %s"
                        % (self.world.path("probe-" + unit), probe))
            with open("/run/systemd/system/probe-%s.service" % unit, "w", encoding="utf-8") as stream:
                stream.write("\n".join(kept) + "\n")
            systemctl("daemon-reload")
            systemctl("start", "probe-" + unit)
            with open(self.world.path("probe-" + unit), encoding="utf-8") as stream:
                found = json.load(stream)
            for name in ("seccomp", "landlock_create_ruleset", "mlock"):
                self.assertEqual(found[name], "works", "%s: %s" % (unit, found))
            self.assertEqual(found["memfd_secret"],
                             "refused" if unit == "pfx-agentd" else "works", unit)
            for name in ("ptrace", "mount", "keyctl", "bpf", "unshare_user", "setuid", "exec_memory",
                         "chroot", "packet_socket", "clock_settime", "personality"):
                self.assertEqual(found[name], "refused", "%s %s: %s" % (unit, name, found))
            self.assertEqual(found["inet_socket"],
                             "works" if unit == "pfx-uploader" else "refused", unit)


def said_to(user, path, message):
    """The answer to a frame of another user's process; empty when the line is closed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = b""
        with contextlib.suppress(OSError):
            import pwd
            entry = pwd.getpwnam(user)
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(5)
                line.connect(path)
                text = json.dumps(message).encode()
                line.sendall(struct.pack(">I", len(text)) + text)
                answer = line.recv(4096)
        os.write(writer, answer or b"-")
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 4096)
    os.close(reader)
    os.waitpid(pid, 0)
    return answer


class C_Flow(Case):
    """The work, under the units."""

    def test_users_get_their_certificates(self):
        upns = [people.upn(n) for n in (1, 2)]
        self.until_active(upns)
        judge = oracle.Oracle(self.world)
        sealed = self.world.sealed()
        self.assertEqual(len(sealed), 2)
        for record_id, record in sealed.items():
            judge.prove(record_id, record, ("openssl", "cryptography"))
        self.assert_nothing_lost()
        # Each entry of the operation log says in which boot of the host it was. (The container's own
        # boot id isn't what a unit sees.)
        entries = self.world.cli("log", "tail", "--json", "-n", "1000").out.splitlines()
        boots = {json.loads(e)["boot"] for e in entries}
        self.assertEqual((len(boots), "unknown" in boots), (1, False), boots)

    def test_the_timer_starts_a_pass(self):
        installed.Typist({}).type(self.world.timer)
        self.assertIn("pfx-agent-pass.timer", systemctl("list-timers"))
        # What stands for the morning: the same timer, a moment from now.
        folder = "/run/systemd/system/pfx-agent-pass.timer.d"
        os.makedirs(folder)
        with open(folder + "/soon.conf", "w", encoding="ascii") as stream:
            stream.write("[Timer]\nOnCalendar=\nOnActiveSec=100ms\nRandomizedDelaySec=0\n"
                         "AccuracySec=10ms\n")
        systemctl("daemon-reload")
        systemctl("restart", "pfx-agent-pass.timer")
        harness.wait_for("a pass that the timer started", lambda: show(
            "pfx-agent-pass.service", "ExecMainExitTimestamp") and show(
                "pfx-agent-pass.service", "ActiveState") != "activating", 20)
        self.assertEqual(show("pfx-agent-pass.service", "Result"), "success",
                         journal("pfx-agent-pass"))
        systemctl("disable", "--now", "pfx-agent-pass.timer")


class CA_Rotates(Case):
    """The timer that stages the next encryption key, off until the guide's lines are typed."""

    def rotated(self):
        """One run of its service, and what that said."""
        since = cursor()
        systemctl("start", "pfx-agent-rotate.service", check=False)
        said = journal(since=since)
        self.assertEqual(show("pfx-agent-rotate.service", "Result"), "success", said)
        return said

    def test_stages_and_nothing_more(self):
        self.assertNotIn("pfx-agent-rotate.timer", systemctl("list-timers"))
        with open(ROTATION, encoding="utf-8") as stream:
            block = next(b for b in re.findall(r"^```sh\n(.*?)^```", stream.read(), re.S | re.M)
                         if "pfx-agent-rotate" in b)
        typist = installed.Typist({"encryption": self.world.pin("encryption")})
        typist.type(block)
        self.assertNotIn(self.world.pin("encryption"), typist.said)
        self.assertIn("pfx-agent-rotate.timer", systemctl("list-timers"))
        self.assertIn("There is no schedule", self.rotated())
        since = cursor()
        self.world.extra["policy"]["encryption_key"] = {"rotate_every": "10d"}
        self.world.write_conf()
        self.world.restart("pfx-hsm")
        self.world.until_well()
        harness.wait_for("a warning in the journal", lambda: "no other one is staged" in journal(
            since=since), 20)
        self.assertIn("is staged", self.rotated())
        status = self.world.cli("key", "status")
        uid = pwd.getpwnam("pfx-rotate").pw_uid
        self.assertIn("by uid %d, as the schedule asked for" % uid, status.out)
        self.assertEqual(len(glob.glob("/var/lib/pfx-rotate/*-key.rotate.txt")), 1)
        self.assertTrue(os.path.exists("/var/lib/pfx-rotate/encryption-key-2.pem"))
        self.assertIn("generation 2 is staged", self.rotated())
        self.assertNotIn(self.world.pin("encryption"), journal())
        systemctl("disable", "--now", "pfx-agent-rotate.timer")


class D_ComesBack(Case):
    """Whatever ends one of them."""

    def ended(self, unit, end, words, seconds=30):
        """`end` ends it; it comes back by itself with another process, and says why it went."""
        since, pid, restarts = cursor(), main_pid(unit), int(show(unit, "NRestarts"))
        end(pid)
        harness.wait_for("%s again" % unit, lambda: is_up(unit) and main_pid(unit) not in (0, pid),
                         seconds, 0.1)
        said = journal(since=since)
        for word in words:
            self.assertIn(word, said)
        self.assertGreater(int(show(unit, "NRestarts")), restarts)

    def test_each_of_them_killed_while_it_works(self):
        for number, unit in enumerate(UNITS, 3):
            self.enrol(number, lambda u=unit: self.ended(
                u, lambda pid: os.kill(pid, 9), ["code=killed, status=9/KILL"]))
        self.world.until_well()
        self.assert_nothing_lost()

    def test_each_of_them_frozen_is_ended_by_the_watchdog(self):
        for unit in UNITS:
            dropin(unit, "watchdog", "WatchdogSec=2s")
        self.world.restart()
        self.world.until_well()
        time.sleep(3)  # whoever didn't tell that it is alive would have been ended by now
        pids = {unit: main_pid(unit) for unit in UNITS}
        self.world.until_well()
        self.assertEqual({unit: main_pid(unit) for unit in UNITS}, pids)
        since = cursor()
        for unit in UNITS:
            os.kill(pids[unit], 19)
        harness.wait_for("three units again", lambda: all(
            is_up(unit) and main_pid(unit) not in (0, pids[unit]) for unit in UNITS), 30, 0.1)
        said = journal(since=since)
        for unit in UNITS:
            self.assertIn("%s.service: Watchdog timeout (limit 2s)!" % unit, said)
            self.assertIn("%s.service: Killing process %d" % (unit, pids[unit]), said)
            self.assertIn("%s.service: Scheduled restart job" % unit, said)
        self.assertIn("with signal SIGKILL", said)
        self.world.until_well()
        for unit in UNITS:
            os.unlink("/run/systemd/system/%s.service.d/watchdog.conf" % unit)
        systemctl("daemon-reload")
        self.enrol(6)
        self.assert_nothing_lost()

    def test_told_to_stop_they_end_at_once_and_well(self):
        began = time.monotonic()
        systemctl("stop", *UNITS)
        self.assertLess(time.monotonic() - began, 20)
        for unit in UNITS:
            self.assertEqual((show(unit, "Result"), show(unit, "ExecMainStatus")), ("success", "0"))
        self.assertEqual(glob.glob("/run/pfx-*/*"), [])
        systemctl("start", "pfx-agentd")  # the others come with it
        self.world.until_well()

    def test_what_the_sandbox_ended_is_not_started_again(self):
        since = cursor()
        systemctl("kill", "--signal=SIGSYS", "pfx-uploader")
        time.sleep(3)  # longer than RestartSec=
        said = journal(since=since)
        self.assertEqual(show("pfx-uploader", "ActiveState"), "failed", said)
        self.assertEqual(show("pfx-uploader", "ExecMainStatus"), str(int(signal.SIGSYS)))
        self.assertEqual(said.count("the sandbox ends this process"), 1, said)
        systemctl("start", "pfx-uploader")
        self.world.until_well()

    def test_the_identity_of_a_cloud_machine_is_out_of_reach(self):
        self.assertIn("169.254.169.254", show("pfx-uploader", "IPAddressDeny"))

    def test_a_mistake_in_a_file_is_said_once(self):
        path = "/etc/pfx-agent/uploader.yaml"
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        since = cursor()
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("hsots: none\n")
        systemctl("restart", "pfx-uploader", check=False)
        time.sleep(3)  # longer than RestartSec=
        said = journal(since=since)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        self.assertEqual(show("pfx-uploader", "ActiveState"), "failed")
        self.assertEqual(said.count("hsots"), 1, said)
        systemctl("start", "pfx-uploader")
        self.world.until_well()


class E_Token(Case):
    """The token in a process of its own, that counts and hangs."""

    @classmethod
    def setUpClass(cls):
        library = os.path.join(harness.build_folder(), "hsm-test", "libpfx_test_token.so")
        with open("/run/systemd/system/pfx-test-token.service", "w", encoding="ascii") as stream:
            stream.write("[Service]\nUser=pfx-hsm\nSupplementaryGroups=softhsm\n"
                         "RuntimeDirectory=pfx-test-token\nExecStart=%s --socket %s --module %s\n"
                         % (harness.program("pfx-test-token"), TOKEN, harness.kinds.SOFTHSM))
        systemctl("daemon-reload")
        systemctl("start", "pfx-test-token")
        harness.wait_for("pfx-test-token", lambda: os.path.exists(TOKEN + ".control"), 10)
        cls.token = Control(TOKEN + ".control")
        dropin("pfx-hsm", "test-token", "Environment=PFX_TEST_TOKEN=" + TOKEN)
        WORLD.module = library
        WORLD.extra["policy"] = {"call_deadline": "5s"}
        WORLD.write_conf()
        WORLD.restart("pfx-hsm")
        WORLD.until_well()

    def test_a_hung_call_ends_in_a_restart_and_nothing_is_lost(self):
        for number, function in enumerate(("C_GenerateKeyPair", "C_WrapKey"), 7):
            since, pid = cursor(), main_pid("pfx-hsm")
            rule = self.token.fault(function, "1", "hang-after")

            def hang():
                harness.wait_for("pfx-hsm again", lambda: is_up("pfx-hsm") and
                                 main_pid("pfx-hsm") not in (0, pid), 40, 0.1)
            self.enrol(number, hang)
            said = journal(since=since)
            self.assertIn("the Cryptoki call %s hasn't come back" % function, said)
            self.assertIn("status=70", said)
            self.token.ask("clear %d" % rule)
        self.world.until_well()
        self.assert_nothing_lost()

    def test_a_wrong_pin_is_said_and_tried_once(self):
        right = self.world.pin("log")
        self.world.credential("log", "%08d" % ((int(right) + 1) % 10 ** 8))
        systemctl("stop", "pfx-hsm")
        self.token.reset()
        since = cursor()
        for _ in range(3):
            self.world.restart("pfx-hsm")
            harness.wait_for("its word on the PIN", lambda: self.world.facts().get(
                "token log", ("",))[0] == "bad", 20)
        time.sleep(2.5)  # its own next try comes after a second
        self.assertTrue(is_up("pfx-hsm"))
        refused = [c for c in self.token.calls() if c.function == "C_Login" and c.rv]
        said = journal(since=since)
        self.assertEqual(len(refused), 1, refused)
        self.assertIn("CKR_PIN_INCORRECT", said)
        for pin in (right, "%08d" % ((int(right) + 1) % 10 ** 8)):
            self.assertNotIn(pin, said)
        # The right one again; the token wants to see it once from elsewhere.
        self.world.credential("log", right)
        log_in("pfx-log", right)
        self.world.restart("pfx-hsm")
        self.world.until_well()
        self.enrol(10)

    def test_a_credential_that_is_missing_is_said(self):
        path = "/etc/credstore.encrypted/pfx-hsm.service-pin"
        os.rename(path, path + ".away")
        since = cursor()
        systemctl("restart", "pfx-hsm", check=False)
        try:
            harness.wait_for("its word on the credential",
                             lambda: "service-pin" in journal(since=since), 20)
        finally:
            os.rename(path + ".away", path)
            systemctl("restart", "pfx-hsm")
        print("      missing credential: " + next(
            line for line in journal(since=since).splitlines() if "service-pin" in line))
        self.world.until_well()


def log_in(label, pin):
    """C_Login by SoftHSM's own library, as pfx-hsm's user, without any of our code."""
    pid = os.fork()
    if pid:
        if os.waitpid(pid, 0)[1] != 0:
            raise AssertionError("SoftHSM doesn't take the right PIN")
        return
    code = 1
    try:
        import grp
        import pwd
        user = pwd.getpwnam("pfx-hsm")
        os.setgroups([grp.getgrnam("softhsm").gr_gid])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        library = ctypes.CDLL(harness.kinds.SOFTHSM)
        library.C_Initialize(None)
        n = ctypes.c_ulong(64)
        slots = (ctypes.c_ulong * 64)()
        library.C_GetSlotList(ctypes.c_ubyte(1), slots, ctypes.byref(n))
        for slot in slots[:n.value]:
            info = ctypes.create_string_buffer(1024)
            library.C_GetTokenInfo(ctypes.c_ulong(slot), info)
            if info.raw[:32].decode().rstrip() != label:
                continue
            session = ctypes.c_ulong()
            library.C_OpenSession(ctypes.c_ulong(slot), ctypes.c_ulong(4), None, None,
                                  ctypes.byref(session))
            code = library.C_Login(session, ctypes.c_ulong(1), pin.encode(),
                                   ctypes.c_ulong(len(pin)))
    finally:
        os._exit(1 if code else 0)


class F_Secrets(Case):
    """Last: what the whole run left behind."""

    def test_no_secret_in_journal_arguments_or_environment(self):
        secrets = [self.world.pin(role) for role in installed.ROLES] + [self.world.api_key]
        judge = oracle.Oracle(self.world)
        secrets += [judge.open_password(r).decode() for r in self.world.sealed().values()]
        said = run("journalctl", "--no-pager", "--output=cat", "--all").out
        self.assertIn("pfx-hsm", said)
        for secret in secrets:
            self.assertFalse(secret in said, "a secret stands in the journal")
        self.assertEqual(harness.no_trace_of(secrets, [main_pid(u) for u in UNITS]), [])


def setUpModule():
    global WORLD  # pylint: disable=global-statement
    WORLD = installed.Installed(2)
    try:
        begin()
    except BaseException as error:
        tearDownModule()
        if isinstance(error, AssertionError):
            raise AssertionError("%s\n=== journal\n%s" % (error, journal()[-8000:])) from None
        raise


def begin():
    WORLD.set_up()
    result = WORLD.cli("init", "--out", WORLD.path("out"), secret=WORLD.pin("encryption"), seconds=120)
    if result.code != 0:
        raise AssertionError("init: %r\n%s" % (result, WORLD.log("hsm")))
    certificate = os.path.join(WORLD.folder, WORLD.tenant["apps"][0]["certificates"][0])
    with open(WORLD.path("out", "client-main.crt"), "rb") as source, open(certificate, "wb") as copy:
        copy.write(source.read())
    result = WORLD.set_api_key()
    if result.code != 0:
        raise AssertionError("secret set: %r" % result)
    WORLD.until_well()


def tearDownModule():
    for name in list(WORLD.processes):
        WORLD.stop(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", default=os.devnull)
    parser.add_argument("--pattern")
    options = parser.parse_args()
    loader = unittest.defaultTestLoader
    if options.pattern:
        loader.testNamePatterns = ["*%s*" % options.pattern]
    recorder = runner.Recorder(options.results)
    recorder.began = time.monotonic()
    suite = loader.loadTestsFromModule(sys.modules[__name__])
    suite.run(recorder)
    return 1 if recorder.bad or not recorder.seen else 0


if __name__ == "__main__":
    sys.modules["units"] = sys.modules[__name__]
    sys.exit(main())
