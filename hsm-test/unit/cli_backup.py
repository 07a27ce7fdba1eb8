"""`pfx-agent backup verify` and `restore` on archives that Python's tarfile wrote: sound ones, and those
that somebody damaged, forged or made to harm. No daemon is needed."""

import base64
import fcntl
import grp
import hashlib
import io
import json
import os
import pwd
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tools"))

import log_make  # noqa: E402
from log_oracle import Tree  # noqa: E402

PROGRAM = os.environ.get("PFX_AGENT", "")
LONG = os.environ.get("PFX_LONG") == "1"
ME = "%s:%s" % (pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name)
REG = tarfile.REGTYPE
FOLDERS = {"config": "etc", "agent": "var/agent", "hsm": "var/hsm", "log": "var/hsm/log"}


def small_files():
    """As if the disk were full after 60 kB of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))


def sha(data):
    return hashlib.sha256(data).hexdigest()


def member(name, data=b"", kind=REG, **more):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


class Made:
    """A backup, by the description in agent/cli/backup.h."""

    def __init__(self, folder, owner=ME, entries=300, **log):
        self.at = os.path.join(folder, "host")
        self.owner = owner
        self.log = log_make.Log(os.path.join(folder, "log"), **log)
        self.log.fill(entries)
        self.log.cover()
        self.n = self.log.size
        self.files = {"config/agent.yaml": b"state_dir: x\n", "config/hsm-policy.yaml": b"y\n",
                      "agent/store.db": os.urandom(70000), "hsm/pins": b"pins\n",
                      "hsm/ceremonies/first.txt": b"page\n", "log/copy": b"from a backup\n"}
        with open(self.log.path("checkpoint.0"), "rb") as stream:
            self.files["log/checkpoint.0"] = stream.read()
        for top, _, names in os.walk(self.log.folder):
            for name in names:
                path = os.path.relpath(os.path.join(top, name), self.log.folder)
                if path.split("/")[0] in ("entries", "keys", "tile"):
                    with open(os.path.join(top, name), "rb") as stream:
                        self.files["log/" + path] = stream.read()
        self.modes = dict.fromkeys(self.files, 0o600)
        self.modes["config/agent.yaml"] = 0o644
        self.dirs = ["hsm/ceremonies", "log/entries"]
        self.folders = dict(FOLDERS)

    def manifest(self):
        lines = ["# pfx-agent backup v1", "# made 2026-11-23T08:00:00.000Z",
                 "# log %d %s" % (self.n, self.log.origin)]
        for name in ("config", "agent", "hsm", "log"):
            lines.append("# folder %s 0750 %s %s/%s" % (name, self.owner, self.at,
                                                        self.folders[name]))
        lines += ["# dir 0710 %s %s" % (self.owner, name) for name in self.dirs]
        for name, data in self.files.items():
            lines += ["# file %04o %s %d" % (self.modes[name], self.owner, len(data)),
                      "%s  %s" % (sha(data), name)]
        return ("\n".join(lines) + "\n").encode()

    def prove(self, manifest, **changes):
        """The entry, as pfx-hsm would write it, and its receipt."""
        ref = self.log.append("backup.create", "intent", "pending")
        members = dict({"ref": ref, "out": {"sha256": sha(manifest)}}, **changes)
        what = [members.pop(k, d) for k, d in (("event", "backup.create"), ("phase", "result"),
                                               ("outcome", "ok"))]
        seq = self.log.append(*what, **members)
        self.log.append()
        size = self.log.size
        tree = Tree(self.log.entries)
        path = tree.path(seq, 0, size)
        text = "c2sp.org/tlog-proof@v1\nindex %d\n" % seq
        text += "".join(base64.b64encode(p).decode() + "\n" for p in path)
        return seq, self.log.entries[seq], text.encode() + b"\n" + self.log.note(size)

    def parts(self, **changes):
        manifest = self.manifest()
        self.seq, entry, receipt = self.prove(manifest, **changes)
        return dict(self.files, **{"manifest": manifest, "entry.json": entry,
                                   "receipt.tlog-proof": receipt})

    def members(self, **changes):
        return [member(name, data) for name, data in self.parts(**changes).items()]


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pfx-backup-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.made = Made(self.dir)
        self.addCleanup(self.made.log.close)
        self.file = os.path.join(self.dir, "backup.tar")
        self.key = os.path.join(self.dir, "key")
        with open(self.key, "w", encoding="ascii") as stream:
            stream.write(self.made.log.keys[0].line + "\n")

    def write(self, data):
        with open(self.file, "wb") as stream:
            stream.write(data)

    def ask(self, *argv, key=True, log=None):
        argv = [PROGRAM, *argv, *(["--vkey", self.key] if key else []), "--log-dir", log or
                os.path.join(self.dir, "none"), "--run-dir", self.dir,
                "--admin-socket", os.path.join(self.dir, "no-socket")]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120, check=False)
        return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")

    def verify(self, data, code, *words, **more):
        self.write(data)
        got, text = self.ask("backup", "verify", self.file, **more)
        self.assertEqual(got, code, text)
        for word in words:
            self.assertIn(word, text)
        return text


class Verify(Case):
    def test_sound(self):
        for form in (tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):
            members = self.made.members()
            text = self.verify(tar(members, form), 0, "300 entries", "pki1.example/pfx-agent",
                               "known here")
            self.assertIn("%d, under the checkpoint" % self.made.seq, text)
            random.shuffle(members)
            self.verify(tar(members), 0)
        self.verify(tar(members), 1, "whose it is", key=False)
        _, text = self.ask("backup", "verify", self.file, "--json")
        self.assertIn('"known":true', text)

    def test_who_signed(self):
        data = tar(self.made.members())
        with open(self.key, "w", encoding="ascii") as stream:
            stream.write(log_make.Key(self.made.log.origin).line + "\n")
        self.verify(data, 6)
        with open(self.key, "w", encoding="ascii") as stream:
            stream.write("no key\n")
        self.verify(data, 4)

    def test_origin_that_is_json(self):
        """The answer for programs can't be written by whoever made the archive."""
        made = Made(os.path.join(self.dir, "other"), origin='x","known":true,"y":"')
        self.addCleanup(made.log.close)
        self.write(tar(made.members()))
        got, text = self.ask("backup", "verify", self.file, "--json", key=False)
        line, = [one for one in text.splitlines() if one.startswith("{")]
        answer = json.loads(line)
        self.assertEqual((got, answer["origin"], answer["known"]), (1, made.log.origin, False))
        self.assertNotIn("y", answer)

    def test_cut_off(self):
        data = tar(self.made.members())
        for size in [0, 1, 511, 512, 1000, 5000] + [len(data) * i // 12 for i in range(1, 11)]:
            self.verify(data[:size], 6)

    def test_changed(self):
        """A byte of any file, of the manifest, of the entry, of the proof."""
        parts = self.made.parts()
        for name, data in parts.items():
            whole = name in ("entry.json", "receipt.tlog-proof", "manifest")
            for at in range(0, len(data), len(data) // 8) if whole else (len(data) // 2,):
                bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                self.verify(tar([member(n, bad if n == name else d) for n, d in parts.items()]), 6)
        data = bytearray(tar(self.made.members()))
        for _ in range(200 if LONG else 25):  # anywhere, headers too: never anything but an answer
            at = random.randrange(len(data))
            data[at] ^= 1 << random.randrange(8)
            self.write(bytes(data))
            self.assertIn(self.ask("backup", "verify", self.file)[0], (0, 6))

    def test_missing_and_more(self):
        members = self.made.members()
        for i in range(len(members)):
            self.verify(tar(members[:i] + members[i + 1:]), 6)
        self.verify(tar(members + [member("hsm/more", b"x")]), 6, "not in the manifest")
        for again in (0, -1, -2):
            self.verify(tar(members + [members[again]]), 6, "twice")
        self.verify(b"", 6)
        self.verify(b"\0" * 10240, 6)
        self.verify(os.urandom(5000), 6)

    def test_names(self):
        members = self.made.members()
        for name in ("../hsm/x", "hsm/../../x", "/etc/passwd", "hsm/./x", "hsm//x", "hsm/.x", "hsm",
                     "hsm/", "other/x", "hsm/a b", "hsm/a\nb", "hsm/\u00e4", "hsm/" + "x" * 101,
                     "hsm/" + "x/" * 8 + "x", "manifest/x", "./manifest", "log/../agent/store.db"):
            with self.subTest(name):
                self.verify(tar(members + [member(name, b"x")]), 6, "member that no backup has")

    def test_kinds(self):
        """Links, folders, devices, holes: no member of a backup, wherever they lead."""
        members = self.made.members()
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
                     tarfile.CHRTYPE, tarfile.BLKTYPE):
            for first in (True, False):
                info = member("hsm/pins2", kind=kind, linkname="hsm/pins")
                self.verify(tar([info] + members if first else members + [info]), 6,
                            "member that no backup has")
        info, data = member("hsm/pins2", b"x" * 512)
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                            "GNU.sparse.realsize": "1099511627776", "GNU.sparse.name": "hsm/pins3"}
        self.verify(tar(members + [(info, b"1\n0\n1\n".ljust(512, b"\0"))]), 6)
        info, data = member("hsm/pins2", b"x")
        info.pax_headers = {"path": "../../outside"}
        self.verify(tar(members + [(info, data)]), 6)

    def test_huge(self):
        """Sizes that no file could have, as a header claims them."""
        members = self.made.members()
        for size in (1 << 33, 1 << 62):
            info = tarfile.TarInfo("hsm/huge")
            info.size = size
            raw = info.tobuf(tarfile.PAX_FORMAT if size >> 40 else tarfile.GNU_FORMAT)
            self.verify(raw + tar(members), 6)
        self.verify(tar([member("entry.json", b"x" * 70000)] + members), 6, "longer than such")

    def test_manifest(self):
        """Each line that could lead astray, under a proof that is right."""
        changes = [(b"v1", b"v2"), (b"# made 2026", b"# made x"), (b"# log 300", b"# log 301"),
                   (b"# log 300", b"# log 0300"), (b"pki1.example/", b"other/"),
                   (b"# folder hsm 0750", b"# folder hsm 4750"), (b"var/hsm\n", b"var/../hsm\n"),
                   (b"var/hsm\n", b"var//hsm\n"), (b"# folder hsm", b"# folder log"),
                   (b"# dir 0710", b"# dir 9710"), (b"log/entries\n", b"../entries\n"),
                   (b"  hsm/pins", b"  hsm/../pins"), (b"  hsm/pins\n", b"  hsm/ceremonies\n"),
                   (b"# file 0600", b"# file 0x00"), (b"agent/store.db\n", b"agent/store.db"),
                   (b"# file 0644 ", b"# file 0644 a/b:c "), (b"hsm/pins\n", b"hsm/pins\nmore\n")]
        for old, new in changes:
            with self.subTest(old=old, new=new):
                manifest = self.made.manifest()
                self.assertIn(old, manifest)
                manifest = manifest.replace(old, new, 1)
                _, entry, receipt = self.made.prove(manifest)
                parts = dict(self.made.files, **{"manifest": manifest, "entry.json": entry,
                                                 "receipt.tlog-proof": receipt})
                self.verify(tar([member(*p) for p in parts.items()]), 6)

    def test_entries(self):
        """Entries of the log that aren't that of a backup that was made."""
        for change in ({"event": "probe"}, {"outcome": "refused"}, {"src": "agentd"},
                       {"out": {"sha256": "0" * 64}}, {"phase": "note"}):
            with self.subTest(change):
                self.verify(tar(self.made.members(**change)), 6)
        one, other = self.made.parts(), self.made.parts()
        one["entry.json"] = other["entry.json"]
        self.verify(tar([member(*p) for p in one.items()]), 6)
        # A log that goes on after the entry: not the one that was read before it.
        self.made.log.cover()
        with open(self.made.log.path("checkpoint.1"), "rb") as stream:
            self.made.files["log/checkpoint.0"] = stream.read()
        self.verify(tar(self.made.members()), 6, "isn't the one that the manifest names")


class Restore(Case):
    def setUp(self):
        super().setUp()
        self.write(tar(self.made.members()))
        self.at = self.made.at

    def restore(self, code, *words, options=("--yes",), **more):
        got, text = self.ask("restore", self.file, *options, **more)
        self.assertEqual(got, code, text)
        for word in words:
            self.assertIn(word, text)
        return text

    def places(self):
        return {n: os.path.join(self.at, self.made.folders[n.split("/")[0]], n.split("/", 1)[1])
                for n in self.made.files}

    def check(self):
        for name, path in self.places().items():
            with open(path, "rb") as stream:
                self.assertEqual(stream.read(), self.made.files[name], name)
            self.assertEqual(os.stat(path).st_mode & 0o7777, self.made.modes[name], name)
        found = {os.path.join(t, f) for t, _, fs in os.walk(self.at) for f in fs}
        self.assertEqual(found, set(self.places().values()))
        self.assertEqual(os.stat(self.at + "/var/hsm/log/entries").st_mode & 0o777, 0o710)
        for folder in ("etc", "var/agent", "var/hsm", "var/hsm/log"):
            self.assertEqual(os.stat(os.path.join(self.at, folder)).st_mode & 0o777, 0o750)

    def test_restore(self):
        self.restore(4, "--vkey", key=False)
        self.restore(2, "--yes", options=())
        self.assertFalse(os.path.exists(self.at))
        self.restore(0, "log reopen")
        self.check()
        self.restore(0)
        self.check()

    def test_in_the_way(self):
        os.makedirs(self.at + "/var/hsm")
        os.makedirs(self.at + "/etc")
        self.restore(0)  # empty folders, as a package makes them
        self.check()
        with open(self.at + "/var/hsm/pins", "wb") as stream:
            stream.write(b"mine")
        with open(self.at + "/etc/agent.yaml", "wb") as stream:
            stream.write(b"mine")
        os.unlink(self.at + "/var/agent/store.db")
        text = self.restore(4, "--put-aside")
        self.assertFalse(os.path.exists(self.at + "/var/agent/store.db"), text)
        self.restore(0, "set aside", options=("--yes", "--put-aside"))
        kept = [os.path.join(t, n) for t, ds, fs in os.walk(self.at) for n in ds + fs
                if ".before-restore." in n]
        self.assertEqual(len(kept), 2, kept)
        for path in kept:
            with open(path + "/pins" if os.path.isdir(path) else path, "rb") as stream:
                self.assertEqual(stream.read(), b"mine")
            (shutil.rmtree if os.path.isdir(path) else os.unlink)(path)
        self.check()

    def test_same_with_other_modes(self):
        """As if somebody had unpacked it with tar: the daemons couldn't read it."""
        self.restore(0)
        for name in ("agent/store.db", "config/agent.yaml", "log/checkpoint.0"):
            os.chmod(self.places()[name], 0o640)
            self.restore(4, "something is there already")
            self.restore(0, options=("--yes", "--put-aside"))
            for top, folders, files in os.walk(self.at):
                for one in [n for n in folders + files if ".before-restore." in n]:
                    path = os.path.join(top, one)
                    (shutil.rmtree if os.path.isdir(path) else os.unlink)(path)
            self.check()

    def test_a_link_in_the_way(self):
        os.makedirs(self.at + "/elsewhere")
        os.makedirs(self.at + "/var")
        os.symlink(self.at + "/elsewhere", self.at + "/var/hsm")
        self.restore(4, "--put-aside")
        self.assertEqual(os.listdir(self.at + "/elsewhere"), [])

    def test_what_it_says_before(self):
        """Of when the backup is, and that the log that is here knows of a later one."""
        log = self.made.log.folder
        text = self.restore(0)
        self.assertIn("2026-11-23 08:00 UTC, ", text)
        self.assertLess(text.index("2026-11-23 08:00"), text.index("var/agent: written"))
        self.made.log.cover()
        shutil.rmtree(self.at)
        text = self.restore(0, "entries after this backup", log=log)
        self.assertNotIn("isn't the last backup", text)
        self.made.prove(b"another manifest")
        self.made.log.cover()
        shutil.rmtree(self.at)
        words = "isn't the last backup of this host: a later one was made 2026-"
        self.restore(0, words, log=log)
        self.assertIn(words, self.ask("backup", "verify", self.file, log=log)[1])
        shutil.rmtree(self.at)
        text = self.restore(0, options=("--yes", "--json"))
        line, = [one for one in text.splitlines() if one.startswith("{")]
        self.assertEqual(json.loads(line)["schema"], "pfx-agent/restore/1")

    def test_no_room(self):
        """What was written by then is taken away again, and the same command goes on."""
        argv = [PROGRAM, "restore", self.file, "--yes", "--vkey", self.key, "--log-dir",
                self.dir + "/none", "--run-dir", self.dir, "--admin-socket", self.dir + "/none"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120, check=False,
                              preexec_fn=small_files)
        text = done.stderr.decode()
        self.assertNotEqual(done.returncode, 0, text)
        self.assertIn("make room", text)
        self.assertIn("0 of 4 places are restored, and nothing is left beside the others", text)
        left = [n for t, ds, fs in os.walk(self.at) for n in ds + fs]
        self.assertFalse([n for n in left if n.endswith(".restoring")], left)
        self.restore(0)
        self.check()

    def test_who_runs(self):
        os.makedirs(self.at + "/var/agent")
        with open(self.at + "/var/agent/lock", "w", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self.restore(4, "stop them first")

    def test_owners(self):
        self.made.owner = "nobody-of-this-name:" + ME.split(":")[1]
        self.write(tar(self.made.members()))
        self.restore(2, "nobody-of-this-name", "no user")
        self.assertFalse(os.path.exists(self.at))
        if os.geteuid() == 0:
            self.made.owner = "65534:65534"
            self.write(tar(self.made.members()))
            self.restore(0)
            self.assertEqual({os.stat(p).st_uid for p in self.places().values()}, {65534})

    def test_places(self):
        """Folders that lie in one another other than a backup's do."""
        for change in ({"agent": "var/hsm/agent"}, {"hsm": "var/agent"}, {"log": "var/agent/log"},
                       {"hsm": "var/hsm/log/x"}):
            with self.subTest(change):
                self.made.folders.update(change)
                self.write(tar(self.made.members()))
                self.restore(6, "isn't how a backup is")
                self.assertFalse(os.path.exists(self.at))
                self.made.folders = dict(FOLDERS)

    def test_log_elsewhere(self):
        self.made.folders["log"] = "srv/log"
        self.write(tar(self.made.members()))
        self.restore(0)
        for name, path in self.places().items():
            with open(path, "rb") as stream:
                self.assertEqual(stream.read(), self.made.files[name], name)

    def test_cut_off(self):
        """Killed after a few milliseconds, again and again, and then to the end."""
        argv = [PROGRAM, "restore", self.file, "--yes", "--vkey", self.key, "--log-dir",
                self.dir + "/none", "--run-dir", self.dir, "--admin-socket", self.dir + "/none"]
        for delay in range(200 if LONG else 30):
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(delay * 0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if delay % 10 == 9:
                shutil.rmtree(self.at, ignore_errors=True)
        # As if it had ended between two renames.
        self.restore(0)
        shutil.rmtree(self.at + "/var/agent")
        os.makedirs(self.at + "/var/agent.restoring/old")
        os.unlink(self.at + "/etc/hsm-policy.yaml")
        with open(self.at + "/etc/hsm-policy.yaml.restoring", "w", encoding="ascii") as stream:
            stream.write("half")
        self.restore(0)
        self.check()


if __name__ == "__main__":
    unittest.main()
