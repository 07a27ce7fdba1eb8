"""pfx-audit show, history and stats on exports that are damaged, long, or lie about their size."""

import json
import os
import subprocess
import sys
import unittest

from audit_rig import PROGRAM, Audit, Reading
from audit_log import Log, User, canonical, note


class Damaged(Reading):
    def gaps(self):
        items = self.json("show", self.export)
        return [(item["from"], item["to"], item["why"]) for item in self.of(items, "gap")], items

    def test_absent(self):
        os.unlink(os.path.join(self.export, "tile/entries/001"))
        os.unlink(os.path.join(self.export, "tile/entries/002"))
        gaps, items = self.gaps()
        self.assertEqual([(256, 767, "not presented")], gaps)
        seqs = [item["seq"] for item in self.of(items, "entry")]
        self.assertEqual([n for n in range(len(self.world.log.entries)) if not 256 <= n < 768],
                         seqs)
        self.assertEqual(512, items[-1]["not_presented"])
        self.assertIn("not presented: 512", self.run_it("stats", self.export)[0])
        self.assertIn("256  to 767: not presented", self.run_it("show", self.export)[0])
        _, err = self.run_it("show", self.export, "--format", "csv")
        self.assertIn("256  to 767: not presented", err)

    def test_cut_bundle(self):
        name = os.path.join(self.export, "tile/entries/001")
        os.truncate(name, os.path.getsize(name) - 1)
        gaps, items = self.gaps()
        self.assertEqual([(256, 511, "damaged bundle")], gaps)
        self.assertEqual(256, items[-1]["damaged"])

    def test_unreadable_entry(self):
        entry = self.world.log.entries[300]
        name = os.path.join(self.export, "tile/entries/001")
        with open(name, "rb") as stream:
            data = stream.read()
        for bad in (entry.replace(b'"v":1', b'"v":2'), entry.replace(b'{"actor"', b'{ "actor'),
                    b"\xff" + entry[1:], b"\x1b" * len(entry)):
            self.assertEqual(len(entry), len(bad))
            with open(name, "wb") as stream:
                stream.write(data.replace(entry, bad))
            gaps, items = self.gaps()
            self.assertEqual([(300, 300, "unreadable")], gaps)
            self.assertEqual(1, items[-1]["unreadable"])
            out, _ = self.run_it("show", self.export, "--from", "299", "--to", "301")
            self.assertIn("300  unreadable: ", out)
            self.assertNotIn("\x1b", out)

    def test_misplaced(self):
        name = os.path.join(self.export, "tile/entries/001")
        with open(name, "rb") as stream:
            data = stream.read()
        one, two = (b'"seq":300', b'"seq":307')
        with open(name, "wb") as stream:
            stream.write(data.replace(one, two))
        items = self.json("show", self.export, "--from", "299", "--to", "301")
        self.assertEqual([300], [item["seq"] for item in items if item.get("misplaced")])
        self.assertIn("MISPLACED", self.run_it("show", self.export)[0])

    def test_no_checkpoint(self):
        with open(os.path.join(self.export, "checkpoint"), "wb") as stream:
            stream.write(b"x")
        items = self.json("show", self.export)
        self.assertNotIn("origin", items[0])
        self.assertTrue(items[0]["checkpoint_unreadable"])
        entries = self.of(items, "entry")
        self.assertEqual(self.world.tail + 1, len(entries))
        self.assertFalse(any(item["covered"] for item in entries))
        self.assertIn("no checkpoint that can be read", self.run_it("stats", self.export)[0])
        self.run_it("prove", self.export, "3", code=6)

    def test_size_that_is_a_lie(self):
        """A checkpoint of 2^52 entries over a few files ends soon."""
        log = self.world.log
        with open(os.path.join(self.export, "checkpoint"), "wb") as stream:
            stream.write(note(log.origin, 1 << 52, bytes(32), log.signers))
        items = self.json("show", self.export)
        self.assertGreaterEqual(items[-1]["not_presented"], (1 << 52) - self.world.tail)
        self.assertGreaterEqual(items[-1]["read"], self.world.tail // 256 * 256)

    def test_no_checkpoint_and_inner_folders(self):
        """Bundles from number 1,000 on have folders; a gap of 250,000 entries before them."""
        os.unlink(os.path.join(self.export, "checkpoint"))
        os.mkdir(os.path.join(self.export, "tile/entries/x001"))
        os.rename(os.path.join(self.export, "tile/entries/000"),
                  os.path.join(self.export, "tile/entries/x001/002"))
        items = self.json("show", self.export)
        self.assertEqual(1003 * 256, items[0]["size"])
        gaps = [(item["from"], item["to"]) for item in self.of(items, "gap")]
        whole = self.world.tail // 256 * 256  # the partial bundle isn't one that this size has
        self.assertEqual([(0, 255), (whole, 1002 * 256 - 1)], gaps)
        self.assertEqual(1002 * 256, self.of(items, "entry")[-2]["seq"] - 255)

    def test_torn_tail(self):
        with open(os.path.join(self.export, "tail"), "ab") as stream:
            stream.write(b"\x01\x00{")
        self.assertEqual(1, self.json("show", self.export)[-1]["uncovered"])

    def test_not_an_export(self):
        os.mkdir(self.path("empty"))
        for path in ("empty", "missing"):
            for command in ("show", "stats"):
                self.assertIn("pfx-audit:", self.run_it(command, self.path(path), code=2)[1])


# Sanitizers keep freed memory: nothing to measure then.
SANITIZED = os.environ.get("PFX_SANITIZED") == "1"
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL,
               stderr=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss, usage.ru_utime)
"""


class Memory(Audit):
    """The same below 64 MiB however long the log: the entries here are more than that."""

    def test_long_log(self):
        if SANITIZED:
            return
        log = Log()
        user = User(1, "alice@example.com")
        log.users = [user]
        for n in range(150):
            log.pair("key.make", intent={"key": {"id": "%040x" % n},
                                         "target": {"enrolment": n, "user": user.hash}})
        entry = json.loads(log.entries[-1])
        entry["future"] = "f" * 4000
        for seq in range(len(log.entries), 18_000):
            entry["seq"] = seq
            log.entries.append(canonical(entry))
        self.assertGreater(sum(map(len, log.entries)), 64 << 20)
        log.export(self.path("long"))
        self.measure(["show", self.path("long"), "--event", "log.*"], ["stats", self.path("long")],
                     ["show", self.path("long"), "--user", user.upn, "--format", "csv"],
                     ["history", self.path("long"), user.upn])

    def test_long_entries(self):
        """Bundles as large as they can be, results far from their intents, a tail, gaps."""
        if SANITIZED:
            return
        log = Log()
        log.add("key.make", "intent", "pending", key={"id": "ab" * 20})
        while len(log.entries) < 600:
            log.add("key.make", "result", "ok", ref=1 if len(log.entries) > 300 else 0,
                    future=["\u0080" * 32000 if len(log.entries) % 16 == 0 else "x" * 64000])
        log.export(self.path("wide"), size=520)
        self.measure(["show", self.path("wide"), "--json"],
                     ["history", self.path("wide"), "ab" * 20],
                     ["show", self.path("wide"), "--from", "515"])
        os.unlink(self.path("wide", "tile/entries/001"))
        self.measure(["show", self.path("wide")])

    def measure(self, *commands):
        for args in commands:
            # From a small process: a child's figure begins with that of whoever forked it.
            done = subprocess.run([sys.executable, "-c", MEASURE, PROGRAM, *args], check=True,
                                  stdout=subprocess.PIPE, timeout=120)
            kib, seconds = done.stdout.split()
            self.assertLess(int(kib), 64 << 10, args)
            print("# %s: %.1f MiB, %.2f s" % (args[0], int(kib) / 1024, float(seconds)))


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
