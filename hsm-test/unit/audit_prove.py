"""pfx-audit prove and check, and its command line. Oracles: the path and its verification by
RFC 9162 from hashlib, openssl for the signature."""

import base64
import json
import os
import re
import subprocess
import sys
import unittest

from audit_rig import Audit, PROGRAM
from audit_log import Log, included, leaf, path_of, root_of


def read_receipt(text):
    """By the format's description; the checkpoint stays as it is."""
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1", lines[0]
    index = int(re.fullmatch(r"index (\d+)", lines[1]).group(1))
    return index, [base64.b64decode(line, validate=True) for line in lines[2:]], note


class Logs(Audit):
    def log(self, n, name="export", size=None, **more):
        log = Log(**more)
        for _ in range(n - 1):
            log.note("start")
        log.export(self.path(name), size=size)
        self.put(name + ".vkey", "".join(s.line + "\n" for s in log.signers))
        self.put(name + ".pem", log.signers[0].pem)
        return log


class Prove(Logs):
    def prove(self, log, n, size):
        out, entry = self.path("p%d" % n), self.path("e%d" % n)
        self.run_it("prove", self.path("export"), str(n), "-o", out, "--entry", entry)
        with open(out, encoding="utf-8") as stream:
            text = stream.read()
        with open(entry, "rb") as stream:
            self.assertEqual(log.entries[n], stream.read())
        index, path, note = read_receipt(text)
        leaves = log.leaves()[:size]
        self.assertEqual(n, index)
        self.assertEqual(path_of(n, leaves), path)
        self.assertTrue(included(n, size, leaves[n], path, root_of(leaves)))
        with open(self.path("export", "checkpoint"), encoding="utf-8") as stream:
            self.assertEqual(stream.read(), note)
        self.run_it("check", out, "--key", self.path("export.vkey"), "--entry", entry)
        os.unlink(out)
        os.unlink(entry)
        return note

    def test_every_entry_of_small_logs(self):
        for n in (1, 2, 3, 7, 8, 9):
            log = self.log(n, origin="h%d/pfx-agent" % n)
            for i in range(n):
                self.prove(log, i, n)
            for name in os.listdir(self.path("export")):
                subprocess.run(["rm", "-r", self.path("export", name)], check=True)

    def test_tiles(self):
        for size in (256, 257, 700):
            log = self.log(700, size=size)
            for i in (0, 1, 254, 255, 256, 511, 512, 600, 699):
                if i < size:
                    self.prove(log, i, size)
            self.run_it("prove", self.path("export"), str(size), code=2)
            subprocess.run(["rm", "-r", self.path("export")], check=True)

    def test_openssl(self):
        log = self.log(5)
        note = self.prove(log, 3, 5)
        text, _, lines = note.partition("\n\n")
        signature = None
        for line in lines.splitlines():
            name, data = re.fullmatch("\u2014 (\\S+) (\\S+)", line).groups()
            raw = base64.b64decode(data)
            if raw[:4] == log.signers[0].id:
                signature = raw[4:]
        done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", self.path("export.pem"),
                               "-signature", self.put("sig", signature),
                               self.put("text", text + "\n")], stdout=subprocess.PIPE, check=False)
        self.assertEqual((0, b"Verified OK\n"), (done.returncode, done.stdout))

    def test_standard_output_and_json(self):
        log = self.log(5)
        out, err = self.run_it("prove", self.path("export"), "2")
        self.assertEqual(2, read_receipt(out)[0])
        self.assertIn("signature wasn't verified", err)
        item = self.json("prove", self.path("export"), "2", "--key", self.path("export.vkey"))[0]
        self.assertEqual((2, 5, log.origin, True, True),
                         tuple(item[name] for name in ("seq", "size", "origin", "presented",
                                                       "signature_verified")))
        self.assertEqual(out, item["proof"])
        self.log(5, name="other")
        self.run_it("prove", self.path("export"), "2", "--key", self.path("other.vkey"), code=6)

    def test_not_presented(self):
        """Retention drops entries and keeps hashes: the proof can still be made, and says so."""
        log = self.log(300)
        os.unlink(self.path("export", "tile/entries/000"))
        out, err = self.run_it("prove", self.path("export"), "7")
        self.assertIn("isn't presented", err)
        index, path, _ = read_receipt(out)
        self.assertTrue(included(index, 300, leaf(log.entries[7]), path,
                                 root_of(log.leaves())))
        self.run_it("prove", self.path("export"), "7", "--entry", self.path("e"), code=2)
        self.assertFalse(os.path.exists(self.path("e")))

    def test_changed_export(self):
        log = self.log(300)
        for name, at, n in (("tile/entries/000", 100, "0"), ("tile/0/000", 40, "0"),
                            ("tile/entries/001.p/44", 100, "256"),
                            ("tile/0/001.p/44", 40, "299"),
                            ("tile/1/000.p/1", 3, "270")):
            with open(self.path("export", name), "r+b") as stream:
                data = stream.read()
                stream.seek(at)
                stream.write(bytes([data[at] ^ 1]))
            _, err = self.run_it("prove", self.path("export"), n, "-o", self.path("p"), code=6)
            self.assertIn("don't lead to the checkpoint's root", err, name)
            self.assertFalse(os.path.exists(self.path("p")))
            with open(self.path("export", name), "wb") as stream:
                stream.write(data)
        self.prove(log, 270, 300)

    def test_never_overwrites(self):
        self.log(5)
        kept = self.put("kept", "something else")
        _, err = self.run_it("prove", self.path("export"), "2", "-o", kept, code=2)
        self.assertIn("isn't overwritten", err)
        with open(kept, encoding="utf-8") as stream:
            self.assertEqual("something else", stream.read())
        for _ in range(2):  # the same again is fine
            self.run_it("prove", self.path("export"), "2", "-o", self.path("p"))
        self.run_it("prove", self.path("export"), "2", "-o", self.path("no/where"), code=2)

    def test_number(self):
        self.log(5)
        for bad in ("5", "-1", "x", "1x", "9" * 20, ""):
            self.run_it("prove", self.path("export"), "--", bad, code=2)


class Check(Logs):
    def setUp(self):
        super().setUp()
        self.one = self.log(9)
        self.run_it("prove", self.path("export"), "6", "-o", self.path("p"), "--entry",
                    self.path("e"))
        with open(self.path("p"), encoding="utf-8") as stream:
            self.text = stream.read()
        self.vkey = self.path("export.vkey")

    def check(self, text, code, *args, key=None, entry="e"):
        return self.run_it("check", self.put("receipt", text), "--key", key or self.vkey,
                           *(["--entry", self.path(entry)] if entry else []), *args, code=code)

    def refused(self, text, why="", **more):
        out, err = self.check(text, 6, **more)
        self.assertTrue(out.startswith("NOT PROVEN"), out)
        self.assertIn(why, err)

    def test_good(self):
        out, _ = self.check(self.text, 0)
        lines = out.splitlines()
        self.assertEqual("PROVEN: entry 6 is in the log " + self.one.origin, lines[0])
        entry = json.loads(self.one.entries[6])
        self.assertIn(entry["time"], out)
        self.assertIn("start, note, ok, written for hsm", out)
        root = base64.b64encode(root_of(self.one.leaves())).decode()
        self.assertIn("checkpoint  9 entries, root " + root, lines)
        for signer, kind in zip(self.one.signers, ("ECDSA P-256", "Ed25519")):
            self.assertIn("signed by   %s+%s (%s)" % (signer.name, signer.id.hex(), kind), lines)
        self.assertIn("Not proven:", lines)
        item = self.json("check", self.path("receipt"), "--key", self.vkey, "--entry",
                         self.path("e"))[0]
        self.assertEqual((True, 6, 9, root, entry, [s.line for s in self.one.signers]),
                         tuple(item[name] for name in ("proven", "seq", "size", "root", "entry",
                                                       "signed_by")))
        self.assertEqual(3, len(item["not_proven"]))

    def test_ways_to_give_key_and_entry(self):
        self.check(self.text, 0, key=self.path("export.pem"))
        self.check(self.text, 0, "--log", self.path("export"), entry=None)
        with open(self.path("e"), "ab") as stream:  # as an editor leaves it
            stream.write(b"\n")
        self.check(self.text, 0)
        with open(self.path("e"), "ab") as stream:
            stream.write(b"\n")
        self.refused(self.text)

    def test_no_entry(self):
        out, _ = self.check(self.text, 1, entry=None)
        lines = out.splitlines()
        self.assertEqual("NOT PROVEN: which entry 6 of the log %s is" % self.one.origin, lines[0])
        self.assertTrue(lines[1].startswith("next: give the entry"), out)
        self.assertEqual(2, out.count("signed by "))
        item = self.json("check", self.path("receipt"), "--key", self.vkey, code=1)[0]
        self.assertEqual((False, 2), (item["proven"], len(item["not_proven"])))
        self.assertNotIn("entry", item)
        self.assertIn("--entry FILE", item["next"])

    def test_wrong_entry(self):
        for n in (0, 5, 7, 8):
            self.put("other", self.one.entries[n])
            self.refused(self.text, "doesn't lead to the checkpoint's root", entry="other")
        self.put("other", self.one.entries[6].replace(b'"ok"', b'"OK"'))
        self.refused(self.text, entry="other")
        item = self.json("check", self.path("receipt"), "--key", self.vkey, "--entry",
                         self.path("other"), code=6)[0]
        self.assertEqual((False, True), (item["proven"], "error" in item))

    def test_wrong_index(self):
        for n in (0, 1, 5, 7, 8):
            self.refused(self.text.replace("index 6", "index %d" % n))
        self.refused(self.text.replace("index 6", "index 9"), "covers 9")
        self.refused(self.text.replace("index 6", "index 06"))

    def test_entry_of_another_place(self):
        """A tree over entries whose own numbers are others: included, and still not entry 6."""
        log = self.log(9, name="moved")
        log.entries[6] = log.entries[6].replace(b'"seq":6', b'"seq":5')
        subprocess.run(["rm", "-r", self.path("moved")], check=True)
        log.export(self.path("moved"))
        out, _ = self.run_it("prove", self.path("moved"), "6")
        self.put("e5", log.entries[6])
        self.refused(out, "says that it is number 5", key=self.path("moved.vkey"), entry="e5")

    def test_wrong_key(self):
        self.log(9, name="other")
        self.refused(self.text, key=self.path("other.vkey"))
        # Its name and id right, its key another one: the id doesn't fit and the line refuses.
        with open(self.vkey, encoding="utf-8") as stream, \
                open(self.path("other.vkey"), encoding="utf-8") as other:
            mine, theirs = stream.readline().split("+", 2), other.readline().split("+", 2)
        forged = self.put("forged", "+".join([mine[0], mine[1], theirs[2]]))
        self.assertNotEqual(0, subprocess.run(
            [PROGRAM, "check", self.path("p"), "--key", forged, "--entry", self.path("e")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode)
        self.run_it("check", self.path("p"), "--entry", self.path("e"), code=2)
        self.run_it("check", self.path("p"), "--key", self.path("none"), code=2)

    def test_another_log(self):
        """Same origin, same size, same number: another log, and one forked with the same key."""
        self.log(9, name="other")
        out, _ = self.run_it("prove", self.path("other"), "6")
        self.refused(out)
        fork = Log()
        fork.signers = self.one.signers
        for _ in range(8):
            fork.note("stop")
        fork.export(self.path("fork"))
        out, _ = self.run_it("prove", self.path("fork"), "6")
        self.refused(out, "doesn't lead to the checkpoint's root")
        # Its hashes under the checkpoint of this one.
        head = out.partition("\n\n")[0]
        self.refused(head + "\n\n" + self.text.partition("\n\n")[2])

    def test_cut(self):
        lines = self.text.split("\n")[:-1]
        good = len("\n".join(lines[:-1])) + 1  # with the first signature only
        for n in range(len(lines)):
            text = "".join(line + "\n" for line in lines[:n])
            if len(text) == good:
                self.check(text, 0)
            else:
                self.refused(text)
            self.refused(text[:-1])
        self.refused("".join(line + "\n" for line in lines[1:]))

    def test_lines_changed(self):
        lines = self.text.split("\n")[:-1]
        head = lines.index("")
        for n in range(head + 4):
            self.refused("".join(line + "\n" for line in lines[:n] + lines[n + 1:]))
            self.refused("".join(line + "\n" for line in lines[:n + 1] + lines[n:]))
        for n in range(2, head - 1):
            swapped = lines[:n] + [lines[n + 1], lines[n]] + lines[n + 2:]
            self.refused("".join(line + "\n" for line in swapped))

    def test_every_byte(self):
        """Of hashes and of what is signed; a bad signature that nobody knows is passed over."""
        end = self.text.index("\n\u2014 ")
        data = bytearray(self.text.encode())
        n = 0
        for at in range(len(self.text[:end].encode())):
            data[at] ^= 1
            done = subprocess.run([PROGRAM, "check", self.put("receipt", bytes(data)), "--key",
                                   self.vkey, "--entry", self.path("e")],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
            self.assertEqual(6, done.returncode, (at, bytes(data)))
            self.assertTrue(done.stdout.startswith(b"NOT PROVEN"))
            data[at] ^= 1
            n += 1
        print("# check: %d bytes flipped, each refused" % n)

    def test_entry_not_here(self):
        os.unlink(self.path("export", "tile/entries/000.p/9"))
        self.assertIn("isn't presented", self.check(self.text, 2, "--log", self.path("export"),
                                                    entry=None)[1])
        self.check(self.text, 2, "--log", self.path("export"))  # and --entry


class CommandLine(Logs):
    def test_help(self):
        out, _ = self.run_it("help")
        self.assertEqual(out, self.run_it()[0])
        for command in ("verify", "show", "history", "prove", "check", "stats"):
            self.assertIn("\n  %s " % command, out)
            own, _ = self.run_it("help", command)
            self.assertEqual(own, self.run_it(command, "--help")[0])
            self.assertIn("pfx-audit " + command, own)
            self.assertIn("--json", own)
        self.assertNotIn("completion", out)
        rows = self.run_it("help", "entries")[0].splitlines()
        for name, meaning in (("pfx.build", "operation of hsm     a PFX was built"),
                              ("request.refused", "note of hsm, agentd  a request was refused"),
                              ("command", "note of agentd "), ("actor.uid", "uid that asked"),
                              ("seal.generation", "generation of"), ("v", "version of")):
            row = [row for row in rows if row.split()[:1] == [name]]
            self.assertEqual(1, len(row), name)
            self.assertIn(meaning, row[0])
        self.assertEqual([], [row for row in rows if "(null)" in row or row.endswith(" ")])
        self.assertRegex(self.run_it("--version")[0], r"^pfx-audit \d+\.\d+\.\d+\n$")

    def test_mistakes(self):
        self.log(2)
        export = self.path("export")
        for args, says in ((["shwo"], 'did you mean "show"?'), (["zzzzzz"], "no command"),
                           (["show"], "show needs: DIR"), (["show", export, "x"], "takes only"),
                           (["show", export, "--evnet", "x"], "did you mean --event?"),
                           (["show", export, "--event"], "--event needs a value"),
                           (["show", export, "--event="], "--event needs a value"),
                           (["show", export, "--json=1"], "takes no value"),
                           (["show", export, "--src", "hsm", "--src", "agentd"], "twice"),
                           (["show", export, "--format", "xml"], "table, json or csv"),
                           (["stats", export, "--format", "csv"], "stats has no option --format"),
                           (["history", export, "x", "--event", "y"], "has no option --event"),
                           (["show", export, "-x"], "two dashes"),
                           (["prove", export, "1", "--until", "2"], "has no option")):
            out, err = self.run_it(*args, code=2)
            self.assertEqual("", out, args)
            self.assertIn(says, err, args)
            self.assertEqual(1, err.count("\n"), args)
        self.run_it("show", "--event=log.*", "--", export)
        self.run_it("--json", "show", export)

    def test_man_page_and_completion(self):
        out, _ = self.run_it("man")
        self.assertTrue(out.startswith(".TH PFX\\-AUDIT 1 "))
        for command in ("verify", "show", "history", "prove", "check", "stats"):
            self.assertIn("\n.SS %s " % command, out)
        self.assertIn("\n\\fBpfx.build\\fR (operation of hsm)\n", out)
        self.assertNotIn("(null)", out)
        out, _ = self.run_it("completion")
        script = self.put("complete", out)
        done = subprocess.run(
            ["bash", "-c", 'set -u; . "$1"; COMP_WORDS=(pfx-audit show x --ev); COMP_CWORD=3; '
             '_pfx_audit; echo "${COMPREPLY[*]}"', "bash", script],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(b"--event\n", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
