"""pfx-audit show: its filters and its formats, against what Python reads from the same entries."""

import csv
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import unicodedata
import unittest

from audit_rig import FORMULA, HOSTILE, PROGRAM, UNVERIFIED, Reading, shown
from audit_log import ORIGIN, Log, canonical


class Filters(Reading):
    def seqs(self, *args, code=0):
        return [item["seq"] for item in self.of(self.json("show", self.export, *args, code=code),
                                                "entry")]

    def expect(self, args, holds):
        """Exactly the entries for which it holds; there are some of both kinds."""
        entries = self.world.entries()
        wanted = [entry["seq"] for entry in entries if holds(entry)]
        self.assertTrue(0 < len(wanted) < len(entries), args)
        self.assertEqual(wanted, self.seqs(*args), args)

    def test_none(self):
        self.assertEqual(list(range(len(self.world.log.entries))), self.seqs())

    def test_event(self):
        self.expect(["--event", "key.make"], lambda e: e["event"] == "key.make")
        self.expect(["--event", "log.*,pfx.build"],
                    lambda e: e["event"].startswith("log.") or e["event"] == "pfx.build")
        self.assertEqual([], self.seqs("--event", "KEY.MAKE"))
        self.assertEqual([], self.seqs("--event", "key"))

    def test_user(self):
        alice = self.world.alice

        def hers(entry):
            return entry.get("target", {}).get("user") == alice.hash
        for text in (alice.upn, alice.id, alice.hash, "second.alice@example.com",
                     "ALICE@example.com"):
            self.expect(["--user", text], hers)
        out, err = self.run_it("show", self.export, "--user", "nobody@example.com", code=2)
        self.assertEqual("", out)
        self.assertIn("no user", err)

    def test_user_without_map(self):
        os.unlink(os.path.join(self.export, "names.jsonl"))
        bob = self.world.bob
        self.expect(["--user", bob.hash],
                    lambda e: e.get("target", {}).get("user") == bob.hash)
        self.assertIn("no name map", self.run_it("show", self.export, "--user", bob.upn,
                                                 code=2)[1])
        other = self.put("map", b"".join(canonical(user.members()) + b"\n" for user in
                                         sorted(self.world.log.users, key=lambda u: u.hash)))
        self.expect(["--user", bob.upn, "--names", other],
                    lambda e: e.get("target", {}).get("user") == bob.hash)

    def test_key(self):
        def holds(entry, text):
            key = entry.get("key", {})
            return any(key.get(name, "").startswith(text) for name in ("id", "spki"))
        for text in (self.world.keys[2], self.world.keys[2][:8], "52" * 32, "52" * 4):
            self.expect(["--key", text], lambda e, t=text: holds(e, t))
        self.assertEqual(self.seqs("--key", "0202020202"), self.seqs("--key", "02020202"))
        self.assertEqual([], self.seqs("--key", "0202020203"))
        for bad in ("0202020", "0202020g", "key"):
            self.assertIn("--key", self.run_it("show", self.export, "--key", bad, code=2)[1])

    def test_order(self):
        self.expect(["--order", "542772"],
                    lambda e: e.get("target", {}).get("order") == 542772)
        self.expect(["--order", "5EC0FFEE-0001"],
                    lambda e: e.get("target", {}).get("transaction") == "5EC0FFEE-0001")
        self.assertEqual([], self.seqs("--order", "54277"))

    def test_operator(self):
        for uid in (0, 1000, 990):
            self.expect(["--operator", str(uid)],
                        lambda e, u=uid: e["actor"]["role"] == "operator" and
                        e["actor"].get("uid") == u)
        self.assertEqual([], self.seqs("--operator", "991"))  # the uploader isn't a person
        self.assertIn("uid", self.run_it("show", self.export, "--operator", "root", code=2)[1])

    def test_words(self):
        self.expect(["--outcome", "refused"], lambda e: e["outcome"] == "refused")
        self.expect(["--outcome", "pending,unknown"],
                    lambda e: e["outcome"] in ("pending", "unknown"))
        self.expect(["--tier", "direct"], lambda e: e.get("tier") == "direct")
        self.expect(["--tier", "transit"], lambda e: e.get("tier") == "transit")
        self.expect(["--src", "agentd"], lambda e: e["src"] == "agentd")
        self.expect(["--src", "hsm"], lambda e: e["src"] == "hsm")
        op = self.world.entries()[self.world.built[0]]["op"]
        self.expect(["--op", op], lambda e: e["op"] == op)

    def test_enrolment(self):
        self.expect(["--enrolment", "12"], lambda e: e.get("target", {}).get("enrolment") == 12)
        self.expect(["--enrolment", "12.2"],
                    lambda e: e.get("target", {}).get("enrolment") == 12 and
                    e["target"]["attempt"] == 2)
        self.assertEqual([], self.seqs("--enrolment", "1"))
        for bad in ("12.", "x", "12.x", "-1", ""):
            self.run_it("show", self.export, "--enrolment", bad, code=2)

    def test_period(self):
        times = [entry["time"] for entry in self.world.entries()]
        at = times[20]
        self.expect(["--from", at], lambda e: e["time"] >= at)
        self.expect(["--to", at], lambda e: e["time"] <= at)
        day = times[0][:10]
        self.expect(["--to", day], lambda e: e["time"][:10] <= day)
        self.expect(["--from", times[-1][:10]], lambda e: e["time"][:10] >= times[-1][:10])
        self.expect(["--from", "5", "--to", "5"], lambda e: e["seq"] == 5)
        self.expect(["--from", "300"], lambda e: e["seq"] >= 300)
        # Whatever lies before: an intent beyond the start is read again.
        self.expect(["--from", str(self.world.late_result), "--user", self.world.bob.upn],
                    lambda e: e["seq"] == self.world.late_result)
        self.assertEqual([], self.seqs("--from", "99999"))
        for bad in ("yesterday", "2026-13-01", "2026-11-22T08:00:00", "1e5"):
            self.assertIn("--from", self.run_it("show", self.export, "--from", bad, code=2)[1])

    def test_all_must_hold(self):
        self.expect(["--user", "alice@example.com", "--event", "key.make", "--outcome", "ok"],
                    lambda e: e.get("target", {}).get("user") == self.world.alice.hash and
                    e["event"] == "key.make" and e["outcome"] == "ok")
        self.assertEqual([], self.seqs("--user", "alice@example.com", "--tier", "transit"))

    def test_stats_too(self):
        counts = self.of(self.json("stats", self.export, "--event", "order.placed", "--user",
                                   "alice@example.com"), "counts")[0]
        self.assertEqual((2, 2), (counts["entries"], counts["src_agentd"]))


class Formats(Reading):
    def test_json_is_the_entry(self):
        items = self.json("show", self.export)
        head, end = items[0], items[-1]
        self.assertIs(False, head["verified"])
        self.assertEqual((ORIGIN, self.world.tail), (head["origin"], head["size"]))
        entries = self.of(items, "entry")
        self.assertEqual([json.loads(entry) for entry in self.world.log.entries],
                         [item["entry"] for item in entries])
        self.assertEqual([False], [item["covered"] for item in entries[self.world.tail:]])
        self.assertTrue(all(item["covered"] for item in entries[:self.world.tail]))
        self.assertEqual((len(entries), 1), (end["shown"], end["uncovered"]))
        by_user = {user.hash: user for user in self.world.log.users}
        named = [item for item in entries if "name" in item]
        self.assertGreater(len(named), 10)
        for item in named:
            at = item["entry"]
            while "user" not in at.get("target", {}):
                at = json.loads(self.world.log.entries[at["ref"]])
            user = by_user[at["target"]["user"]]
            self.assertEqual({"id": user.id, "upn": user.upn}, item["name"])

    def test_csv(self):
        out, err = self.run_it("show", self.export, "--format", "csv")
        self.assertIn(UNVERIFIED, err)
        self.assertEqual(out.count("\n"), out.count("\r\n"))
        self.assertIn(',"say ""hi""",', out)  # Python would read it unquoted, too; RFC 4180 doesn't
        rows = list(csv.DictReader(io.StringIO(out, newline=""), strict=True))
        entries = self.world.entries()
        self.assertEqual(len(entries), len(rows))
        names = {user.hash: user.upn for user in self.world.log.users}

        def cell(value):
            text = shown(str(value))
            return "'" + text if text[:1] in tuple("=+-@") else text
        for entry, row in zip(entries, rows):
            self.assertNotIn(None, row)
            target, key = entry.get("target", {}), entry.get("key", {})
            wanted = {
                "entry": entry["seq"], "time": entry["time"], "src": entry["src"],
                "event": entry["event"], "phase": entry["phase"], "outcome": entry["outcome"],
                "role": entry["actor"]["role"], "uid": entry["actor"].get("uid", ""),
                "op": entry["op"], "ref": entry.get("ref", ""), "user": target.get("user", ""),
                "upn": names.get(target.get("user"), ""), "name": target.get("name", ""),
                "enrolment": target.get("enrolment", ""), "attempt": target.get("attempt", ""),
                "order": target.get("order", ""), "transaction": target.get("transaction", ""),
                "key_id": key.get("id", ""), "key_spki": key.get("spki", ""),
                "tier": entry.get("tier", ""), "rv": entry.get("rv", ""),
                "out_sha256": entry.get("out", {}).get("sha256", ""),
                "fail_op": entry.get("fail", {}).get("op", ""),
                "fail_code": entry.get("fail", {}).get("code", ""),
                "covered": "yes" if entry["seq"] < self.world.tail else "no"}
            self.assertEqual({name: cell(value) for name, value in wanted.items()},
                             {name: row[name] for name in wanted})

    def test_no_formula(self):
        out, _ = self.run_it("show", self.export, "--format", "csv")
        cells = [cell for row in csv.reader(io.StringIO(out, newline=""), strict=True)
                 for cell in row]
        self.assertIn("'" + FORMULA, cells)
        self.assertIn("'-1", cells)
        self.assertEqual([], [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")])

    def test_nothing_steers_the_terminal(self):
        for args in (["show", self.export], ["show", self.export, "--json"],
                     ["show", self.export, "--format", "csv"], ["stats", self.export],
                     ["history", self.export, self.world.eve.hash],
                     ["history", self.export, self.world.eve.hash, "--json"]):
            out, err = self.run_it(*args)
            bad = [char for char in out + err if char not in "\r\n" and
                   unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")]
            self.assertEqual([], bad, args)
            if args[0] != "stats":
                self.assertIn("\\u001b[2J\\u202egnp.exe\\u2066\\u200b\\u007f\\u009b31m", out)
        self.assertIn("\\u001b[2J", shown(HOSTILE))

    def test_every_harmful_character(self):
        """By Unicode's categories, as Python knows them; letters of all kinds stay as they are."""
        def of(*categories):
            return [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) in categories]
        harmful, letters = of("Cc", "Cf", "Zl", "Zp"), of("Lu", "Lo", "Nd")[::97]
        self.assertGreater(len(harmful), 200)
        self.assertGreater(len(letters), 1000)
        log = Log()
        for some in (harmful, letters):
            for at in range(0, len(some), 16):
                log.note("command", target={"name": "<%s>" % "".join(some[at:at + 16])})
        log.note("command", target={"name": "n" * 255 + "!"})  # the longest that there is
        log.export(self.path("every"))
        for args in ([], ["--format", "csv"], ["--json"]):
            out, _ = self.run_it("show", self.path("every"), *args)
            self.assertEqual(set(), set(harmful) & set(out) - set("\r\n"), args)
            self.assertEqual(set(), set(letters) - set(out), args)
            self.assertIn("n" * 255 + "!", out)
            if "--json" not in args:
                for at in range(0, len(harmful), 16):
                    self.assertIn("<%s>" % shown("".join(harmful[at:at + 16])), out)

    def test_hostile_origin_and_operand(self):
        log = Log(origin="x/pfx-agent")
        log.export(self.path("x"))
        checkpoint = self.put("x/checkpoint", b"\x1b]0;x\x07\n" * 3)
        for args in (["show", self.path("x")], ["stats", self.path("x")],
                     ["check", checkpoint, "--key", self.path("nothing\x1b[2J")],
                     ["show", self.path("no\x1b[2J")], ["\x1b[2J"], ["show", "--\x1b[2J"]):
            done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=60)
            self.assertNotIn(b"\x1b", done.stdout + done.stderr, args)

    def test_table(self):
        out, err = self.run_it("show", self.export, "--to", "60")
        self.assertEqual("", err)
        lines = out.splitlines()
        self.assertIn(UNVERIFIED, lines[0])
        self.assertEqual("ENTRY TIME (UTC) EVENT OUTCOME WHO WHAT", " ".join(lines[2].split()))
        self.assertEqual("61 entries shown", lines[-1])
        rows = {int(line.split()[0]): line for line in lines[3:-1]}
        self.assertIn("alice@example.com e12.2 direct gen 2 key 02020202",
                      rows[self.world.built[1]])
        self.assertIn("...", rows[self.world.built[0]])
        self.assertIn("CKR_DEVICE_ERROR in C_GenerateKeyPair", rows[self.world.failed[1]])
        self.assertIn("b\u00f6b@example.com e13.1", rows[self.world.withheld])
        os.unlink(os.path.join(self.export, "names.jsonl"))
        self.assertIn("user %s e12.2" % self.world.alice.hash[:8],
                      self.run_it("show", self.export, "--to", "60")[0])
        self.assertEqual("uncovered: 1 entry, which no checkpoint covers yet",
                         self.run_it("show", self.export)[0].splitlines()[-1])

    def test_fits_a_terminal(self):
        """Nothing is cut: what doesn't fit goes on in the next line."""
        for columns in (80, 100):
            for args in (["show", self.export, "--to", "60"],
                         ["history", self.export, self.world.alice.upn]):
                lines = self.on_terminal(columns, args)
                self.assertGreater(len(lines), 20)
                self.assertLessEqual(max(map(len, lines)), columns, args)
                self.assertTrue(any(line.startswith(" " * 8) for line in lines))
                self.assertEqual("".join(self.run_it(*args)[0].split()),
                                 "".join("".join(lines).split()))

    def on_terminal(self, columns, args):
        lead, follow = pty.openpty()
        fcntl.ioctl(follow, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        child = subprocess.Popen([PROGRAM, *args], stdout=follow)
        os.close(follow)
        data = b""
        while True:
            try:
                part = os.read(lead, 65536)
            except OSError:  # the other end is closed
                break
            data += part
        os.close(lead)
        self.assertEqual(0, child.wait(timeout=60))
        return data.decode().split("\r\n")

    def test_long_names_are_shortened(self):
        log = Log()
        for name in ("%s-%s" % ("ab" * 32, "7A" * 20), "x" + "12" * 20 + "y", "f" * 39):
            log.note("record.removed", src="agentd", target={"name": name})
        log.export(self.path("records"))
        rows = self.run_it("show", self.path("records"))[0].splitlines()[4:7]
        self.assertEqual(["abababab...-7A7A7A7A...", "x12121212...y", "f" * 39],
                         [row.split()[-1] for row in rows])

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "show", self.export], stdout=full,
                                  stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(70, done.returncode)
        self.assertIn(b"can't be written", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
