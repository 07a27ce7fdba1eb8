"""A pfx-agentd that lies to the real pfx-hsm and to the real pfx-uploader: about every member of every
message and of every job's body. Neither takes anything of it, sends anything into the network over
it, or makes or uses a key; both stay small and serve on."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib

sys.dont_write_bytecode = True
import hostile_lies as lies  # noqa: E402
from hostile_desk import Desk, ends  # noqa: E402
from hostile_rig import LONG, SLOW, Closed, Tape, Watch, Wire, guid  # noqa: E402

import hsm_rig  # noqa: E402

UPLOADER = os.environ.get("PFX_UPLOADER", "")
AGENT = os.environ.get("PFX_AGENT", "")
TABLES = lies.Tables() if lies.TABLES else None


class Uploader:
    """A pfx-uploader of its own, in front of a network that counts who knocks."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pfx-liar-")
        self.knocked = 0
        self.network = socket.socket()
        self.network.bind(("127.0.0.1", 0))
        self.network.listen(50)
        threading.Thread(target=self._count, daemon=True).start()
        self.tape = Tape()
        self.desk = Desk(os.path.join(self.dir, "agent"), self.tape)
        with open(os.path.join(self.dir, "ca.pem"), "wb") as stream:
            stream.write(hsm_rig.Authority().root.public_bytes(
                hsm_rig.serialization.Encoding.PEM))
        url = "https://localhost:%d" % self.network.getsockname()[1]
        config = os.path.join(self.dir, "uploader.yaml")
        with open(config, "w", encoding="utf-8") as stream:
            stream.write("agent_socket: %s/agent\nhsm_socket: %s/hsm\n" % (self.dir, self.dir))
            for section in ("digicert", "graph", "exchange"):
                stream.write("%s:\n  url: %s\n" % (section, url))
            stream.write("entra:\n  url: %s\n  tenant: %s\n" % (url, guid(1)))
            stream.write("tls:\n  ca_bundle: %s/ca.pem\n" % self.dir)
        os.chmod(config, 0o600)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(
            [UPLOADER, "--config", config], stderr=self.log, stdin=subprocess.DEVNULL,
            env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", "")))

    def _count(self):
        while True:
            try:
                self.network.accept()[0].close()
                self.knocked += 1
            except OSError:
                return

    def text(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.desk.close()
        self.network.close()
        self.log.close()
        text = self.text()
        shutil.rmtree(self.dir)
        assert code == 0, (code, text[-3000:])
        assert "Sanitizer" not in text and "runtime error" not in text, text[-3000:]


def tell_envelopes(desk, told, count, case):
    """Lies about what pfx-agentd may say: the arm ends each line, and comes back."""
    for lie in told:
        if lie.message == "welcome":
            desk.accept()
        else:
            desk.welcome()
        try:
            desk.wire.text(lie.text)
        except Closed:
            pass
        ends(desk.wire, case, lie[:3], ("pull", "beat") if lie.message != "welcome" else ("beat",))
        count.add(lie)


def envelopes():
    """Lies about everything: what an arm takes, and what it doesn't."""
    found = []
    for name in TABLES.envelopes:
        found += lies.envelope_lies(TABLES, name)
        if name not in ("welcome", "job", "ack", "bye"):
            found.append(lies.Lie(name, "", "isn't for an arm", lies.dump(lies.envelope_of(
                TABLES, name, lies.full(TABLES.envelopes[name])))))
    return found


class ToUploader(unittest.TestCase):
    def uploader(self):
        uploader = Uploader()
        self.addCleanup(uploader.close)
        return uploader

    def test_jobs(self):
        u = self.uploader()
        count = lies.Count("pfx-agentd to pfx-uploader, jobs")
        u.desk.welcome()
        kinds = u.desk.hello["kinds"]
        self.assertEqual(sorted(kinds), sorted(k for k in TABLES.requests if k.startswith("up.")))
        watch = Watch(u.process)
        for kind in kinds:
            told = list(lies.body_lies(kind, TABLES.requests[kind]))
            whole = [lie for lie in told if not lies.spoils(lie)]
            spoilt = [lie for lie in told if lies.spoils(lie)]
            count.of += len(told)
            u.desk.tell(lies.fair_part(whole, 1 if SLOW <= 3 or LONG else 4), count, self)
            u.desk.tell(spoilt if LONG else spoilt[zlib.crc32(kind.encode()) % 7::40][:2], count, self)
        for kind in TABLES.requests:  # what another arm does
            if kind.startswith("hsm."):
                self.assertEqual(u.desk.do(kind)["class"], "refused")
        self.assertEqual(u.desk.do("up.format_disk", now=True)["class"], "refused")
        print(count.line())
        self.assertEqual(u.knocked, 0, "something was asked of the network")
        self.assertLess(watch.memory(), watch.rss + 60000 * SLOW)
        self.assertTrue(watch.idle())

    def test_envelopes(self):
        """Several at once: each lie costs the arm's back-off."""
        told = envelopes()
        count = lies.Count("pfx-agentd to its arms, envelopes")
        count.of = len(told)
        told = lies.fair_part(told, 1 if LONG else 30)
        arms = [self.uploader() for _ in range(6)]
        bad = []

        def run(number):
            try:
                tell_envelopes(arms[number].desk, told[number::len(arms)], count, self)
            except BaseException as error:
                bad.append(error)
        threads = [threading.Thread(target=run, args=(n,)) for n in range(len(arms))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in bad:
            raise error
        print(count.line())
        for u in arms:
            self.assertIsNone(u.process.poll())
            self.assertEqual(u.knocked, 0)


class Counter:
    """A pfx-agentd's CLI socket by hand: answers each request with the frames it is told."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pfx-liar-")
        self.path = os.path.join(self.dir, "cli")
        self.frames = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                wire = Wire(connection=self.socket.accept()[0])
            except OSError:
                return
            try:
                wire.read()
                for frame in self.frames:
                    wire.text(frame)
                wire.last_words()
            except Closed:
                pass
            wire.close()

    def run(self, *argv):
        return subprocess.run([AGENT, *argv], capture_output=True, text=True,
                              errors="replace", timeout=60, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, PFX_AGENT_SOCKET=self.path,
                                       PFX_HSM_SOCKET=self.path + "-nobody"), check=False)

    def close(self):
        self.socket.close()
        shutil.rmtree(self.dir)


class ToOperator(unittest.TestCase):
    """pfx-agent in front of a pfx-agentd that lies."""

    VERBS = (("status", ("status",)), ("enrolment.list", ("enrolment", "list", "--all")),
             ("record.list", ("record", "list", "--all")), ("setup.digicert", ("setup", "digicert")))

    def setUp(self):
        self.counter = Counter()
        self.addCleanup(self.counter.close)

    def item(self, text):
        return b'{"v":1,"t":"item","id":1,"body":' + text + b"}"

    END = b'{"v":1,"t":"end","id":1,"exit":0}'

    def test_members(self):
        count = lies.Count("pfx-agentd to pfx-agent")
        for verb, argv in self.VERBS:
            schema = TABLES.verbs["agent"][verb][1]
            told = [(lie, self.item(lie.text)) for lie in lies.body_lies(verb, schema)]
            if verb == "status":
                for name in TABLES.envelopes:
                    told += [(lie, lie.text) for lie in lies.envelope_lies(TABLES, name)]
            count.of += len(told)
            kept = set(lies.fair_part([lie for lie, _ in told], 1 if LONG else 60))
            for lie, frame in told:
                if lie not in kept:
                    continue
                self.counter.frames = [frame, self.END]
                done = self.counter.run(*argv)
                said = done.stdout + done.stderr
                self.assertIn(done.returncode, (1, 4, 70) if verb == "status" else (4, 70),
                              (lie[:3], said))
                self.assertIn("can't read", said, lie[:3])
                count.add(lie)
        print(count.line())

    def test_what_it_says_is_its_word(self):
        """An operator reads what pfx-agentd says; what pfx-hsm says comes from pfx-hsm itself."""
        fact = lies.Members([("kind", "fact"), ("name", "hsm"), ("value", "all is well"),
                             ("level", "ok")])
        self.counter.frames = [self.item(lies.dump(fact)), self.END]
        done = self.counter.run("status", "--all")
        self.assertIn("all is well", done.stdout)
        self.assertIn("isn't running", done.stdout + done.stderr)
        # Nothing of it is a command to the terminal.
        wait = lies.Members([("kind", "wait"), ("who", "operator"), ("count", 1),
                             ("what", "\u202e\u009b31m\u001b]0;x\u0007".replace("\u001b", "").replace(
                                 "\u0007", ""))])
        self.counter.frames = [self.item(lies.dump(wait)), self.END]
        done = self.counter.run("status", "--all")
        self.assertNotRegex(done.stdout + done.stderr, "[\u0080-\u009f\u202a-\u202e\u2066-\u2069]")


if __name__ == "__main__":
    if TABLES is None:
        print("skipped: PFX_WIRE_TABLES isn't there")
        sys.exit(77)
    hsm_rig.main()
