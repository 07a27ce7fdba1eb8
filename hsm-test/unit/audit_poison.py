"""pfx-audit on exports that were made to mislead it: links out of the folder, pipes in place of files,
name maps that are none. Nothing outside is read, nothing hangs, and the log stays readable."""

import os
import shutil
import subprocess
import sys
import threading
import time
import unittest

from audit_rig import PROGRAM, Reading
from audit_log import User, canonical, note

FILES = ["checkpoint", "tail", "names.jsonl", "tile/entries/001", "tile/0/001", "export.json"]
FOLDERS = ["tile", "tile/entries", "tile/0", "checkpoints", "keys", "policy"]


class Poison(Reading):
    def setUp(self):
        super().setUp()
        self.vkey = self.put("log.vkey", "".join(s.line + "\n" for s in self.world.log.signers))
        self.total = len(self.world.log.entries)

    def read(self):
        """How many entries show gives."""
        return len(self.of(self.json("show", self.export), "entry"))

    def moved_out(self, name):
        """The name becomes a link to what it was, which lies outside now."""
        inside, outside = os.path.join(self.export, name), self.path("outside")
        os.rename(inside, outside)
        os.symlink(outside, inside)

    def test_links_are_not_followed(self):
        self.assertEqual(self.total, self.read())
        for name, left in (("tile", 1), ("tile/entries", 1), ("tile/entries/001", self.total - 256),
                           ("tail", self.total - 1)):
            with self.subTest(name):
                self.moved_out(name)
                self.assertEqual(left, self.read())
                if name != "tail":  # which isn't covered anyway
                    self.run_it("verify", self.export, "--key", self.vkey, code=6)
                os.unlink(os.path.join(self.export, name))
                os.rename(self.path("outside"), os.path.join(self.export, name))
        self.moved_out("names.jsonl")
        _, err = self.run_it("show", self.export, "--to", "1")
        self.assertIn("users stand as hashes, for the name map can't be used", err)
        self.run_it("show", self.export, "--user", self.world.bob.upn, code=2)

    def test_links_of_what_verify_reads(self):
        # This log's entries are made for reading: whole, but with findings of meaning.
        self.run_it("verify", self.export, "--key", self.vkey, code=1)
        for name in ("tile/0", "checkpoint"):
            with self.subTest(name):
                self.moved_out(name)
                self.run_it("verify", self.export, "--key", self.vkey, code=6)
                self.run_it("prove", self.export, "3", code=6)
                os.unlink(os.path.join(self.export, name))
                os.rename(self.path("outside"), os.path.join(self.export, name))

    def test_the_export_itself_may_be_named_by_a_link(self):
        os.symlink(self.export, self.path("link"))
        self.export = self.path("link")
        self.assertEqual(self.total, self.read())

    def test_pipes_do_not_hang(self):
        for name in FILES + FOLDERS:
            path = os.path.join(self.export, name)
            if not os.path.exists(path):
                continue
            with self.subTest(name):
                os.rename(path, self.path("kept"))
                os.mkfifo(path)
                for args in (["verify", self.export, "--key", self.vkey], ["show", self.export],
                             ["prove", self.export, "3"], ["history", self.export, "542772"]):
                    done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, timeout=20)
                    self.assertIn(done.returncode, (0, 1, 2, 6), args)
                os.unlink(path)
                os.rename(self.path("kept"), path)

    def test_pipes_that_were_named(self):
        """The command that `log export` prints names keys inside of the export."""
        os.mkfifo(self.path("pipe"))
        for args in (["verify", self.export, "--key", self.path("pipe")],
                     ["show", self.export, "--names", self.path("pipe")],
                     ["check", self.path("pipe"), "--key", self.vkey]):
            done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=20)
            self.assertIn(done.returncode, (2, 6), args)

    def test_a_key_from_the_shell(self):
        """--key <(...), and what is in front of the pipe takes its time."""
        with open(self.vkey, "rb") as stream:
            lines = stream.read()
        reader, writer = os.pipe()

        def write():
            for at in range(0, len(lines), 100):
                time.sleep(0.2)
                os.write(writer, lines[at:at + 100])
            os.close(writer)
        thread = threading.Thread(target=write)
        thread.start()
        done = subprocess.run([PROGRAM, "verify", self.export, "--key", "/dev/fd/%d" % reader],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              pass_fds=[reader])
        thread.join()
        os.close(reader)
        self.assertEqual((1, b""), (done.returncode, done.stderr))

    def test_many_gaps(self):
        """Thousands of small files far from each other: the folders are read once, not once a gap."""
        many = 12_000 if os.environ.get("PFX_LONG") == "1" else 300
        for n in range(many):
            number = 1000 + n * 70
            folder = os.path.join(self.export, "tile/entries", "x%03d" % (number // 1000))
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, "%03d" % (number % 1000)), "wb"):
                pass
        with open(os.path.join(self.export, "checkpoint"), "wb") as stream:
            stream.write(note(self.world.log.origin, 1 << 50, bytes(32), self.world.log.signers))
        out, _ = self.run_it("stats", self.export)
        self.assertIn("damaged: bundles of %d entries" % (many * 256), out)

    def test_deep_and_odd_names(self):
        deep = os.path.join(self.export, "tile", "entries")
        for name in ["x999"] * 40 + ["..."]:
            deep = os.path.join(deep, name)
        os.makedirs(deep)
        os.makedirs(os.path.join(self.export, "tile", "entries", "\x1b[2J"))
        os.unlink(os.path.join(self.export, "checkpoint"))
        out, err = self.run_it("stats", self.export)
        self.assertIn("no checkpoint that can be read", out)
        self.assertNotIn("\x1b", out + err)


class NameMap(Reading):
    def map(self, *lines):
        with open(os.path.join(self.export, "names.jsonl"), "wb") as stream:
            stream.write(b"".join(lines))

    def test_a_broken_map_hides_nothing(self):
        wanted = len(self.world.log.entries)
        line = canonical(self.world.alice.members()) + b"\n"
        other = dict(self.world.bob.members(), user=self.world.alice.hash)
        for bad in (b"\x1b[2J\n", b"x" * 200_000 + b"\n", line + line[:-1], canonical(other) + b"\n",
                    line + b"\0" * 70_000):
            self.map(bad)
            out, err = self.run_it("show", self.export)
            self.assertIn("%d entries shown" % wanted, out)
            self.assertIn("can't be used", err)
            self.assertNotIn("\x1b", out + err)
            self.assertNotIn("alice@", out)
            # One that the auditor names must be right.
            self.run_it("show", self.export, "--names",
                        shutil.copy(os.path.join(self.export, "names.jsonl"), self.path("m")), code=6)

    def test_long_upn(self):
        """As long as pfx-agentd takes them."""
        user = User(1, "a" * 1012 + "@example.com")
        self.assertEqual(1024, len(user.upn))
        self.map(canonical(user.members()) + b"\n")
        out, err = self.run_it("show", self.export, "--user", user.upn)
        self.assertEqual("", err)
        self.assertIn(user.upn + " e12.2 direct", out)


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
