"""log tail, receipt, status, rotate-key and reopen: against folders made from the description of the
log's format, and played daemons."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import unittest

from cli_log_rig import (LONG, LogCase, PROGRAM, SECONDS, Screen, check_receipt, included, log_make,
                         sha)

TOOL = os.environ.get("PFX_CLI_LOG_TOOL", "")


class Tail(LogCase):
    def test_the_newest_entries(self):
        log = self.log(100)
        rows = self.cli("tail").out.splitlines()
        self.assertEqual(rows[0].split(),
                         ["SEQ", "TIME", "SRC", "EVENT", "OUTCOME", "WHO", "WHAT"])
        self.assertEqual([int(row.split()[0]) for row in rows[1:]], list(range(80, 100)))
        for words in (("-n", 3), ("-n3",), ("--lines=3",), ("--lines", 3)):
            self.assertEqual(len(self.cli("tail", *words).out.splitlines()), 4)
        self.assertEqual(len(self.cli("tail", "-n", 5000).out.splitlines()), 101)
        self.assertEqual(len(self.cli("tail", "-n", 0).out.splitlines()), 1)
        for bad in ("x", "-1", "1.5", "99999999999999999999"):
            self.assertIn("whole number", self.cli("tail", "--lines=" + bad, code=2).err)
        self.assertEqual(self.cli("tail").err, "")
        self.assertIn("no operation log", self.cli("tail", "--log-dir", self.folder, code=2).err)
        self.assertEqual(log.size, 100)

    def test_what_a_line_tells(self):
        log = self.log()
        log.begin()
        log.enrol(7)
        log.append("pfx.build", "result", "device", ref=4, rv="CKR_DEVICE_ERROR",
                   fail={"code": "CKR_DEVICE_ERROR", "op": "C_WrapKey"}, key={"id": "00ff" * 8})
        log.append("request.refused", outcome="refused", src="agentd", n=9,
                   actor={"role": "operator", "uid": 1001}, target={"name": "enrolment.revoke"})
        log.append("order.placed", src="agentd", target={"enrolment": 7, "order": 542772})
        log.append("upload.confirmed", src="agentd", weak=True,
                   target={"thumbprint": "ab" * 20, "name": "\u202eevil\u0007"})
        log.cover()
        rows = [" ".join(row.split()) for row in self.cli("tail").out.splitlines()]
        key = sha(b"id 7").hex()[:8]
        for words in ("0 2026-11-22 08:00:00 hsm log.begin ok self 0.1.0 policy ",
                      "1 2026-11-22 08:00:01 agentd command ok uid 1000 run",
                      "2 2026-11-22 08:00:02 hsm key.make pending agentd e7.1 key " + key,
                      "5 2026-11-22 08:00:05 hsm pfx.build ok self e7.1 key %s direct "
                      "generation 1 of 4" % key,
                      "6 2026-11-22 08:00:06 hsm pfx.build device self CKR_DEVICE_ERROR key "
                      "00ff00ff of 4",
                      "request.refused refused uid 1001 enrolment.revoke",
                      "order.placed ok self e7 order 542772",
                      "upload.confirmed ok self ?evil? record abababab weak"):
            self.assertTrue(any(words in row for row in rows), "%s\n%s" % (words, "\n".join(rows)))
        self.assertNotIn("\x1b", self.cli("tail").out)
        self.environment["TZ"] = "Asia/Tokyo"
        self.assertIn("2026-11-22 17:00:01", self.cli("tail").out)

    def test_json_is_the_log_itself(self):
        log = self.log(300)
        log.append("stop", target={"name": "\u00e4\u4f60\"\\"})
        self.assertEqual(self.cli("tail", "--json", "-n", 250).raw,
                         b"".join(e + b"\n" for e in log.entries[51:]))

    def test_uncovered_entries_are_marked(self):
        log = self.log(10)
        log.fill(13)
        result = self.cli("tail")
        marked = [row.split()[0] for row in result.out.splitlines() if "*" in row]
        self.assertEqual(marked, ["*10", "*11", "*12"])
        self.assertIn("the newest covers 10 entries", result.err)
        log.cover()
        self.assertNotIn("*", self.cli("tail").out)

    def test_it_fits_the_terminal(self):
        log = self.log()
        log.begin()
        for i in range(30):
            log.enrol(1000000 + i)
        log.append("ceremony.certificate", "result", "integrity", ref=1,
                   fail={"code": "CKR_KEY_FUNCTION_NOT_PERMITTED", "op": "x"},
                   target={"name": "\u4f60" * 60}, actor={"role": "operator", "uid": 1234567890})
        log.cover()
        for columns in (80, 99, 100, 132):
            with self.subTest(columns=columns):
                screen = Screen(self, columns, "tail", "-n", 200)
                self.assertEqual(screen.end(), 0)
                rows = screen.rows()
                wide = [row for row in rows if len(row) + row.count("\u4f60") > columns]
                self.assertEqual(wide, [])
                self.assertTrue(any(re.search(r" e\d+", row) for row in rows))
                self.assertIn(b"\x1b[", screen.output)
                days = [row for row in rows if row == "-- 2026-11-22"]
                self.assertEqual(len(days), 1 if columns < 100 else 0)

    def test_live(self):
        log = self.log(30)
        screen = Screen(self, 120, "tail", "-f", "-n", 2)
        screen.until(b" e29 ")
        log.append("probe", target={"name": "later-one"})
        screen.until(b"later-one")
        self.assertRegex("\n".join(screen.rows()), r"\*30 .*later-one")
        log.cover()
        screen.until(b"all entries before 31 are covered now")
        log.fill(2000)  # over the end of a segment
        log.cover()
        screen.until(b"e1999 ")
        seen = [int(m) for m in re.findall(r"(?m)^ *\*?(\d+) 2026", "\n".join(screen.rows()))]
        self.assertEqual(seen, list(range(28, 2000)))
        screen.kill(signal.SIGINT)
        self.assertEqual(screen.end(), -signal.SIGINT)

    def test_live_into_a_pipe(self):
        log = self.log(5)
        program = subprocess.Popen([PROGRAM, "log", "tail", "--follow", "--json"],
                                   env=self.environment, stdout=subprocess.PIPE)
        self.addCleanup(program.kill)
        threading.Thread(target=lambda: (time.sleep(0.5), log.append("probe")), daemon=True).start()
        lines = [program.stdout.readline() for _ in range(6)]
        self.assertEqual(lines, [e + b"\n" for e in log.entries])
        program.stdout.close()  # the reader went away: so does the program, at the next entry
        log.append("probe")
        self.assertEqual(program.wait(SECONDS), 0)

    def test_live_beyond_a_reopen(self):
        self.log(30)
        screen = Screen(self, 120, "tail", "-f", "-n", 1)
        screen.until(b" e29 ")
        os.rename(self.log_dir, self.path("aside"))
        time.sleep(0.5)
        other = log_make.Log(self.path("fresh"), origin="pki1.example/pfx-agent/2")
        self.addCleanup(other.close)
        other.begin()
        other.cover()
        os.rename(self.path("fresh"), self.log_dir)
        screen.until(b"another log begins here: pki1.example/pfx-agent/2")
        screen.until(b"log.begin")
        screen.kill(signal.SIGTERM)
        screen.end()

    def test_after_retention(self):
        log = self.log(1300, segment=256)
        log.drop(1024)
        rows = self.cli("tail", "-n", 1000).out.splitlines()
        self.assertEqual(int(rows[1].split()[0]), 1024)

    def test_an_empty_reader_is_no_failure(self):
        self.log(2000)
        done = subprocess.run("%s log tail -n 2000 | head -n 1" % PROGRAM, shell=True, check=False,
                              env=self.environment, stdout=subprocess.PIPE, timeout=SECONDS)
        self.assertIn(b"SEQ", done.stdout)


class Receipts(LogCase):
    def test_by_number(self):
        log = self.log(700)
        for seq in (0, 1, 255, 256, 511, 512, 698, 699):
            result = self.cli("receipt", seq)
            self.assertEqual(check_receipt(result.raw, self.lines(log), log.entries[seq]),
                             (seq, 700))
            self.assertIn("receipt of entry %d" % seq, result.err)

    def test_both_signatures(self):
        log = self.log(50, ed25519_too=True)
        check_receipt(self.cli("receipt", 17).raw, self.lines(log), log.entries[17])

    def test_by_the_pfx(self):
        log = self.log(300)
        wanted = sha(b"a PFX file").hex()
        self.assertIn("no PFX", self.cli("receipt", wanted, code=1).err)
        log.append("upload.confirmed", src="agentd", out={"sha256": wanted})
        log.append("pfx.build", "result", "device", ref=1, out={"sha256": wanted})
        log.cover()
        log.append("key.make", "result", ref=1, out={"sha256": wanted})
        log.append("pfx.build", "intent", "pending", out={"sha256": wanted})
        log.cover()
        self.cli("receipt", wanted, code=1)  # none is a release
        seq = log.enrol(4711, b"a PFX file")
        result = self.cli("receipt", wanted, code=5)
        self.assertIn("no signed checkpoint covers it yet", result.err)
        log.fill(1500)
        log.cover()
        for word in (wanted, wanted.upper()):
            result = self.cli("receipt", word)
            self.assertEqual(check_receipt(result.raw, self.lines(log), log.entries[seq])[0], seq)
            self.assertIn("pfx.build ok", result.err)

    def test_what_is_refused(self):
        log = self.log(10)
        log.fill(12)
        result = self.cli("receipt", 11, code=5)
        for words in ("entry 11", "the newest covers 10 entries", "log status"):
            self.assertIn(words, result.err)
        self.assertEqual(result.out, "")
        self.assertIn("the log has 12", self.cli("receipt", 12, code=2).err)
        self.assertIn("the log has 12", self.cli("receipt", 10**14, code=2).err)
        for word in ("", "x", "-1", "0x10", "1" * 16, "a" * 63, "g" * 64, "1 2"):
            self.assertIn("64 hex digits", self.cli("receipt", "--", word, code=2).err, word)
        self.cli("receipt", code=2)

    def test_into_a_file(self):
        log = self.log(40)
        path = self.path("17.tlog-proof")
        result = self.cli("receipt", 17, "-o", path)
        self.assertEqual(result.out, "")
        with open(path, "rb") as stream:
            check_receipt(stream.read(), self.lines(log), log.entries[17])
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o644)
        self.cli("receipt", 17, "--out", path)
        self.assertIn("isn't overwritten", self.cli("receipt", 16, "--out", path, code=4).err)

    def test_of_a_dropped_entry(self):
        log = self.log(1000, segment=256)
        log.drop(512)
        result = self.cli("receipt", 300)
        check_receipt(result.raw, self.lines(log), log.entries[300])
        self.assertIn("dropped here", result.err)

    def test_a_damaged_log_gives_none(self):
        log = self.log(400)
        path = self.path("log", "entries", "%020d" % 0)
        with open(path, "r+b") as stream:
            at = stream.read().index(log.entries[399])
            stream.seek(at)
            stream.write(log.entries[399].replace(b'"up":399000', b'"up":399001'))
        for seq in (399, 398):  # itself, and another below the same root
            result = self.cli("receipt", seq, code=6)
            self.assertEqual(result.out, "")
            self.assertIn("don't give the root", result.err)

    def test_every_entry_of_many_sizes(self):
        """Each receipt against our own reading; the tool calls what the command calls."""
        sizes = range(1, 601) if LONG else [*range(1, 18), 31, 32, 33, 255, 256, 257]
        log = self.log()
        tool = subprocess.Popen([TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(tool.wait)
        self.addCleanup(tool.stdout.close)
        self.addCleanup(tool.stdin.close)
        lines = self.lines(log)
        counted = 0
        for size in sizes:
            log.fill(size)
            log.cover()
            tool.stdin.write(self.log_dir.encode() + b"\n")
            tool.stdin.flush()
            note = None
            for seq in range(size):
                length = tool.stdout.readline()
                text = tool.stdout.read(int(length))
                if note is None:  # one signature is checked; the others must be of the same note
                    check_receipt(text, lines, log.entries[seq])
                    note = text.partition(b"\n\n")[2]
                self.assertEqual(text.partition(b"\n\n")[2], note)
                self.proof_holds(text, seq, size, log)
                counted += 1
            self.assertEqual(tool.stdout.readline(), b"end\n")
        print("%d receipts of %d sizes hold" % (counted, len(list(sizes))))

    def proof_holds(self, text, seq, size, log):
        head = text.partition(b"\n\n")[0].decode().split("\n")
        self.assertEqual(head[:2], ["c2sp.org/tlog-proof@v1", "index %d" % seq])
        path = [base64.b64decode(row, validate=True) for row in head[2:]]
        leaf = sha(b"\0" + log.entries[seq])
        self.assertTrue(included(seq, size, leaf, path, log.tree.root(size)), (seq, size))
        self.assertFalse(included(seq, size, sha(leaf), path, log.tree.root(size)), (seq, size))


def item(name, value, level="ok", **more):
    return dict({"name": name, "value": value, "level": level}, **more)


class Status(LogCase):
    def facts(self, result):
        return {i["name"]: i for i in json.loads(result.out)["items"]}

    def test_pfx_hsm_answers(self):
        self.daemon("admin", log_status={"items": [
            item("state", "open"), item("size", "12 entries", number=12),
            item("reserve", "1 MiB left", "warn", next="make room on /var")]})
        result = self.cli("status")
        for words in ("state", "12 entries", "1 MiB left; next: make room on /var"):
            self.assertIn(words, result.out)
        self.assertEqual(result.err, "")
        told = json.loads(self.cli("status", "--json").out)
        self.assertEqual((told["schema"], told["from"], told["exit"]),
                         ("pfx-agent/log-status/1", "pfx-hsm", 0))
        self.assertEqual(told["items"][1], item("size", "12 entries", number=12))

    def test_something_is_bad(self):
        self.daemon("admin", log_status={"items": [item("state", "refused", "bad", why="a byte is wrong")]})
        self.assertIn("refused: a byte is wrong\n", self.cli("status", code=1).out)

    def test_its_exit_code_stands(self):
        self.daemon("admin", log_status={"items": [item("state", "rolled back", "bad")], "exit": 6})
        self.cli("status", code=6)

    def test_from_the_folder(self):
        log = self.log(20)
        log.anchor()
        log.fill(50)
        log.cover()
        log.fill(53)
        result = self.cli("status", code=3)
        self.assertIn("pfx-hsm isn't running", result.err)
        self.assertIn("this is what the log's folder says by itself", result.err)
        result = self.cli("status", "--json", code=3)
        facts = self.facts(result)
        self.assertEqual(json.loads(result.out)["from"], "folder")
        self.assertEqual({n: facts[n]["number"] for n in ("size", "covered", "anchor", "lag",
                                                          "uncovered")},
                         {"size": 53, "covered": 50, "anchor": 20, "lag": 30, "uncovered": 3})
        self.assertEqual(facts["origin"]["value"], log.origin)
        self.assertEqual(facts["uncovered"]["level"], "warn")

    def test_of_a_folder_by_name(self):
        self.log(20)
        daemon = self.daemon("admin", log_status={"items": []})
        result = self.cli("status", "--log-dir", self.log_dir)
        self.assertIn("20 entries", result.out)
        self.assertEqual((result.err, daemon.asked), ("", []))

    def test_an_auditor_who_may_not_ask(self):
        self.log(20)
        self.daemon("admin")
        result = self.cli("status", code=0)
        self.assertIn("20 entries", result.out)
        self.assertIn("didn't answer", result.err)

    def test_findings_in_the_folder(self):
        log = self.log(20)
        log.anchor()
        path = self.path("log", "anchor")
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text.replace("\n20\n", "\n21\n"))
        result = self.cli("status", "--json", "--log-dir", self.log_dir, code=1)
        self.assertEqual(self.facts(result)["anchor"]["level"], "bad")

    def test_a_torn_checkpoint(self):
        self.log(20)
        with open(self.path("log", "checkpoint.0"), "r+b") as stream:
            stream.write(b"0123")
        self.cli("status", "--log-dir", self.log_dir, code=6)

    def test_no_log(self):
        result = self.cli("status", code=3)
        self.assertIn("isn't running", result.err)
        self.assertIn(self.log_dir, result.err)


KEYS = {"items": [{"kind": "step", "text": "made the key"},
                  {"kind": "key", "origin": "pki1.example/pfx-agent", "vkey": "pki1.example+00+AA=="},
                  {"kind": "note", "text": "no Ed25519 here"}]}


class Dangerous(LogCase):
    CASES = (("rotate-key", "log.rotate_key"), ("reopen", "log.reopen"))

    def setUp(self):
        super().setUp()
        self.hsm = self.daemon("admin", **{"log_rotate_key": KEYS, "log_reopen": KEYS})

    def test_nothing_without_a_yes(self):
        for verb, _ in self.CASES:
            result = self.cli(verb, code=2)
            self.assertIn("say --yes", result.err)
            screen = Screen(self, 100, verb)
            screen.until(b"Type yes")
            screen.type("no\n")
            self.assertEqual(screen.end(), 1)
            self.assertIn(b"nothing was done", screen.output)
        self.assertEqual(self.hsm.asked, [])

    def test_yes(self):
        for verb, wire in self.CASES:
            result = self.cli(verb, "--yes")
            self.assertEqual(self.hsm.asked.pop(), wire)
            self.assertIn("made the key", result.out)
            self.assertIn("pki1.example+00+AA==", result.out)
            self.assertIn("note: no Ed25519 here", result.err)
            self.assertIn("auditors", result.err)
            screen = Screen(self, 100, verb)
            screen.until(b"Type yes")
            screen.type("yes\n")
            self.assertEqual(screen.end(), 0)
            self.assertEqual(self.hsm.asked.pop(), wire)

    def test_reopen_says_what_it_means(self):
        text = " ".join(self.cli("reopen", code=2).err.split())
        for words in ("shorter than the token's anchor", "root on the admin socket alone",
                      "weak approval", "set aside, not deleted"):
            self.assertIn(words, text)

    def test_json(self):
        for verb, _ in self.CASES:
            lines = [json.loads(line) for line in self.cli(verb, "--yes", "--json").out.splitlines()]
            self.assertEqual([line["schema"] for line in lines], ["pfx-agent/log-%s/1" % verb] * 3)
            self.assertEqual(lines[1]["vkey"], "pki1.example+00+AA==")

    def test_refused(self):
        shutil.rmtree(self.log_dir, True)
        self.hsm.answers.clear()
        for verb, _ in self.CASES:
            self.assertIn("may not ask", self.cli(verb, "--yes", code=4).err)

    def test_dead(self):
        self.hsm.close()
        os.unlink(self.path("admin"))
        for verb, _ in self.CASES:
            self.assertIn("pfx-hsm isn't running", self.cli(verb, "--yes", code=3).err)


if __name__ == "__main__":
    unittest.main()
