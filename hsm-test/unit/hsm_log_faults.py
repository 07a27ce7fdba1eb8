"""The operation log of pfx-hsm against ill will and bad luck: floods of refusals, a start that
can't be noted, entries added to the files of a stopped host, a reopen that fails or is cut off."""

import glob
import grp
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from cryptography import x509
from cryptography.hazmat.primitives import hashes

import hsm_rig as rig
from hsm_log_rig import LogCase
from hsm_rig import Rig

NOBODY = 65534
AGENT = os.environ.get("PFX_AGENT", "")
# As another user: connects so often, and is sent away.
FLOOD = """
import socket, sys, time
for _ in range(int(sys.argv[2])):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        for _ in range(500):
            try:
                s.connect(sys.argv[1])
                break
            except BlockingIOError:
                time.sleep(0.01)
        try:
            s.recv(10)
        except ConnectionError:
            pass
"""


def wait_for(what, seconds=30):
    until = time.time() + seconds
    while not what() and time.time() < until:
        time.sleep(0.1)
    return what()


class Begun(LogCase):
    """One host with a log; each test finds it stopped and leaves it so."""

    @classmethod
    def setUpClass(cls):
        cls.r = Rig(ceilings={"builds_per_hour": 30})
        try:
            with open(cls.r.policy_path, "a", encoding="utf-8") as f:
                f.write("access:\n  uploader_user: daemon\n")
            cls.r.start().init()
            cls.r.stop()
        except BaseException:
            cls.r.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.r.close()

    def setUp(self):
        log = self.log(self.r)
        self.size = len(log.entries)
        self.assertEqual((log.entries[-1]["event"], log.covered), ("stop", self.size))

    def tearDown(self):
        self.r.stop()

    def new(self, **like):
        return [e for e in self.log(self.r).events(**like) if e["seq"] >= self.size]

    def works(self):
        enrolment = 100 + self.size
        self.assertTrue(
            wait_for(lambda: self.r.key_csr(enrolment, key_type="ec-p256")["class"] == "ok"),
            self.r.logged()[-3000:])

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_strangers(self):
        """Whoever may use no socket at all can't use up the refusals of those who may."""
        r = self.r.start()
        os.chmod(r.dir, 0o755)
        self.assertEqual(r.admin("hsm.status")[1]["exit"], 0)
        subprocess.run([sys.executable, "-c", FLOOD, r.run + "/uploader", "1050"], user=NOBODY,
                       group=NOBODY, extra_groups=[], check=True, timeout=120)
        self.assertEqual(r.key_csr(1, key_type="dsa")["class"], "refused")
        self.assertEqual(r.admin("key.show", name="nothing")[1]["exit"], 2)
        r.stop()
        refused = self.new(event="request.refused")
        self.assertEqual(len([e for e in refused if e["actor"].get("uid") == NOBODY]), 100)
        others = [e["target"]["name"] for e in refused if e["actor"].get("uid") != NOBODY]
        self.assertIn("hsm.key_csr", others)
        self.assertIn("key.show", others)
        # The stop tells how many more there were.
        self.assertEqual([e["count"] for e in self.new(event="log.quota")], [950])

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_auditors(self):
        """Whoever is in the auditors' group reads and exports the log, with pfx-hsm dead too, and
        sees nothing else; nobody else reads anything."""
        r, folder = self.r, os.path.join(self.r.state, "log")
        os.chmod(r.dir, 0o711)
        with open(r.policy_path, "a", encoding="utf-8") as f:
            f.write("  auditors: games\n")  # of access; any group of any Debian
        group = grp.getgrnam("games").gr_gid
        r.start()
        self.works()
        r.stop(signal.SIGKILL)
        try:
            self.assertEqual(os.stat(r.state).st_mode & 0o7777, 0o711)
            for path in [folder] + glob.glob(folder + "/**", recursive=True):
                mode = 0o750 if os.path.isdir(path) else 0o640
                facts = os.stat(path)
                self.assertEqual((facts.st_gid, facts.st_mode & 0o7777), (group, mode), path)
            self.read_as_auditor(group)
            self.read_as_nobody()
        finally:
            r.start()
            self.works()

    def as_other(self, groups, *command):
        return subprocess.run(
            command, user=NOBODY, group=NOBODY, extra_groups=groups, capture_output=True,
            env=dict(self.r.env, PFX_LOG_DIR=os.path.join(self.r.state, "log"),
                     ASAN_OPTIONS="detect_leaks=0"), timeout=60, check=False, text=True)

    def readable(self, groups):
        """What of the state folder can be read, by names that root knows."""
        script = ("import os, sys; print(*[n for n in sys.argv[2:]"
                  " if os.access(os.path.join(sys.argv[1], n), os.R_OK)])")
        done = self.as_other(groups, sys.executable, "-c", script, self.r.state, ".",
                             *sorted(os.listdir(self.r.state)))
        self.assertEqual(done.returncode, 0, done)
        return done.stdout.split()

    def place(self):
        place = tempfile.mkdtemp(dir=self.r.dir)
        os.chown(place, NOBODY, NOBODY)
        return place

    def read_as_auditor(self, group):
        self.assertEqual(self.readable([group]), ["client-main.crt", "log"])
        tail = self.as_other([group], AGENT, "log", "tail", "--json")
        place = self.place()
        export = self.as_other([group], AGENT, "log", "export", place)
        self.assertEqual((tail.returncode, export.returncode), (0, 0), (tail, export))
        self.assertIn("key.make", tail.stdout)
        with open(place + "/checkpoint", encoding="utf-8") as f:
            self.assertEqual(int(f.read().split("\n")[1]), self.log(self.r).covered)

    def read_as_nobody(self):
        self.assertEqual(self.readable([]), ["client-main.crt"])
        for verb in (["tail", "--json"], ["export", self.place()]):
            done = self.as_other([], AGENT, "log", *verb)
            self.assertNotEqual(done.returncode, 0, done)
            self.assertNotIn("key.make", done.stdout)
            self.assertRegex(done.stderr, "EACCES|[Pp]ermission")
            self.assertEqual(os.listdir(verb[1]) if verb[0] == "export" else [], [])

    def test_policy_that_cant_be_kept(self):
        """No key is used by a start whose entries aren't all there; the change is told once."""
        r = self.r
        folder = os.path.join(r.state, "log", "policy")
        os.rename(folder, folder + ".away")
        with open(folder, "w", encoding="ascii"):
            pass
        with open(r.policy_path, "a", encoding="utf-8") as f:
            f.write("# another text\n")
        try:
            r.start()
            self.assertEqual(r.admin("hsm.status")[1]["exit"], 0)
            self.assertEqual(r.key_csr(1, key_type="ec-p256")["class"], "transient")
            events = [e["event"] for e in self.new()]
            self.assertEqual(events[:2], ["start", "policy.changed"])
            self.assertNotIn("probe", events)
            self.assertNotIn("key.make", events)
        finally:
            os.unlink(folder)
            os.rename(folder + ".away", folder)
        self.works()  # by itself: it is tried again
        r.stop()
        self.assertEqual(len(self.new(event="start")), 1)
        changes = self.new(event="policy.changed")
        self.assertEqual(len(changes), 1)
        path = os.path.join(folder, changes[0]["policy"]["sha256"] + ".yaml")
        with open(path, "rb") as kept, open(r.policy_path, "rb") as policy:
            self.assertEqual(kept.read(), policy.read())

    def test_forged_tail(self):
        """Entries that somebody added without PIN and token are told as uncovered, once."""
        log = self.log(self.r)
        forge(log, [dict(log.entries[-1], event="start"),
                    dict(log.entries[-1], event="token.ready")])
        self.r.start()
        found = self.covered(self.r, event="log.recovered", fail_code="uncovered")
        self.assertEqual([(e["count"], e["log"]["size"]) for e in found], [(2, self.size)])
        self.works()
        self.r.stop()
        self.assertEqual(len(self.new(event="log.recovered", fail_code="uncovered")), 1)

    def test_reopen_fails(self):
        """The log of before goes on: what is refused while the token is away is noted."""
        r = self.r
        os.rename(r.tokens, r.tokens + ".away")
        os.mkdir(r.tokens)
        try:
            r.start()
            self.assertEqual(r.admin("hsm.status")[1]["exit"], 0)
            self.assertNotEqual(r.admin("log.reopen")[1]["exit"], 0)
            for _ in range(3):
                self.assertNotEqual(r.admin("key.show", name="two")[1]["exit"], 0)
            wait_for(lambda: len(self.new(target_name="key.show")) >= 3, 5)
            self.assertEqual([e["event"] for e in self.new(target_name="key.show")],
                             ["request.refused"] * 3)
        finally:
            os.rmdir(r.tokens)
            os.rename(r.tokens + ".away", r.tokens)
        r.stop()
        r.start()
        self.works()
        self.assertEqual([e for e in self.new() if e.get("before")], [])

    def test_reopen_cut_off(self):
        """The power went after the folder was set aside: the successor names it all the same."""
        r, folder = self.r, os.path.join(self.r.state, "log")
        notes = []
        for path in glob.glob(folder + "/checkpoint.?"):
            with open(path, "rb") as f:
                notes.append(f.read()[17:].rstrip(b"\0").decode())
        os.rename(folder, folder + ".1.2026-11-22T21:00:00.000Z")
        os.mkdir(folder, 0o750)
        r.start()
        items, end = r.admin("log.reopen")
        self.assertEqual(end["exit"], 0, (end, r.logged()[-3000:]))
        self.assertTrue(any(".1.2026-11-22" in i.get("text", "") for i in items), items)
        first = self.log(r).entries[0]
        self.assertEqual((first["event"], first["log"]["anchor"], first["log"]["restored"]),
                         ("log.reopen", self.size, self.size))
        self.assertEqual(first["log"].get("before"),
                         max(notes, key=lambda note: int(note.split("\n")[1])))


def forge(log, entries):
    """Behind the log's last entry, with all that needs no key."""
    path = max(p for p in glob.glob(log.folder + "/entries/*")
               if int(os.path.basename(p)) < len(log.raw))
    raw = list(log.raw)
    with open(path, "r+b") as f:
        f.seek(sum(2 + len(text) for text in raw[int(os.path.basename(path)):]))
        for entry in entries:
            entry.update(seq=len(raw), prev=hashlib.sha256(b"\0" + raw[-1]).hexdigest())
            raw.append(json.dumps(entry, sort_keys=True, separators=(",", ":"),
                                  ensure_ascii=False).encode())
            f.write(struct.pack(">H", len(raw[-1])) + raw[-1])


@unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
class Beginning(LogCase):
    @classmethod
    def setUpClass(cls):
        cls.r = Rig(module=rig.SLOW_MODULE)

    @classmethod
    def tearDownClass(cls):
        cls.r.close()

    def init(self):
        return self.r.admin("init", encryption_pin=self.r.pin("encryption"))

    def test_init(self):
        """Much was done before the log; then nobody signs its checkpoints any more, for a while."""
        r = self.r.start()
        quick = os.path.join(r.dir, "fail-generate")
        with open(quick, "w", encoding="ascii") as f:
            f.write("6")  # CKR_FUNCTION_FAILED
        for _ in range(10):
            r.admin("hsm.test", encryption_pin=r.pin("encryption"))
        os.unlink(quick)
        certificate = os.path.join(r.state, "client-main.crt")
        dumb = os.path.join(r.dir, "fail-sign-after")
        with open(dumb, "w", encoding="ascii") as f:
            f.write(certificate)
        items, end = self.init()
        self.assertNotEqual(end["exit"], 0, items)
        with self.subTest("nobody else reads a certificate that no checkpoint covers"):
            self.assertEqual(os.stat(certificate).st_mode & 0o7777, 0o600)
            self.assertNotIn("certificate", [i["kind"] for i in items])
        os.unlink(dumb)
        self.assertTrue(wait_for(lambda: self.init()[1]["exit"] == 0), r.logged()[-3000:])
        self.assertEqual(os.stat(certificate).st_mode & 0o7777, 0o644)
        with open(certificate, "rb") as f:
            made = x509.load_pem_x509_certificate(f.read())
        self.certificate = made.fingerprint(hashes.SHA256()).hex()
        r.stop()
        self.before(self.log(r))
        self.withheld(self.log(r))

    def before(self, log):
        """What is kept is the end, where the log's own keys are made, and how much isn't."""
        early = [e for e in log.entries if e.get("before")]
        self.assertEqual([e["seq"] for e in early], list(range(1, 65)))
        made = {e["target"]["name"] for e in early if e["event"] == "ceremony.key"}
        self.assertLessEqual({"log-1", "anchor-a-1", "anchor-b-1"}, made)
        lost = log.entries[65]
        self.assertEqual(lost["event"], "log.quota", lost)
        self.assertGreater(lost["count"], 0)

    def withheld(self, log):
        """The certificate was made, and the log says that it wasn't handed out then."""
        told = log.events(event="release.withheld")
        self.assertEqual(len(told), 1, told)
        result = log.entries[told[0]["ref"]]
        self.assertEqual((result["event"], result["phase"], result["outcome"], result["op"]),
                         ("ceremony.certificate", "result", "ok", told[0]["op"]))
        self.assertEqual((told[0]["phase"], told[0]["outcome"], told[0]["fail"]["code"]),
                         ("note", "device", "CKR_DEVICE_ERROR"))
        self.assertEqual(result["cert"]["sha256"], self.certificate)


if __name__ == "__main__":
    rig.main()
