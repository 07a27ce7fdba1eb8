"""log export: whole, incremental, with the names of users. Everything that comes out is read by
cli_log_rig.Export, which shares no code with it."""

import base64
import json
import os
import resource
import shutil
import stat
import subprocess
import unittest

from cli_log_rig import Export, LogCase, log_make, sanitized, sha

USER = "33333333-2222-4333-8444-%012d"


def name_item(number, **members):
    salt = b"%016d" % number
    item = {"user": sha(salt + (USER % number).encode()).hex(), "salt": salt.hex(),
            "id": USER % number, "upn": "anna%d@example.org" % number,
            "addresses": ["anna%d@example.org" % number]}
    item.update(members)
    return item


class Whole(LogCase):
    def test_sizes_grown_step_by_step(self):
        """One folder, exported again at each size: what is new is added, what is there stays."""
        log = self.log()
        sizes = list(range(1, 12)) + [100, 254, 255, 256, 257, 300, 510, 511, 512, 513, 700, 1023,
                                      1024, 1025, 1300]
        for i, size in enumerate(sizes):
            log.fill(size)
            log.cover(milestone=i % 5 == 0)
            with self.subTest(size=size):
                export, _ = self.export(log)
                self.assertEqual(export.size, size)
                self.assertEqual(export.entries, log.entries)
                export.only_expected()
        self.assertEqual(export.checkpoints[:len(sizes) - 1], ["%020d" % size for size in sizes[:-1]])

    def test_each_size_anew(self):
        log = self.log()
        for size in (1, 2, 255, 256, 257, 600):
            log.fill(size)
            log.cover()
            with self.subTest(size=size):
                export, result = self.export(log, "new%d" % size)
                self.assertEqual(export.entries, log.entries)
                export.only_expected()
                self.assertIn("%d entries" % size, result.out)
                self.assertIn(export.root.hex()[:16], result.out)
                self.assertIn("pki1.example/pfx-agent", result.out)
                self.assertIn("pfx-audit verify %s --key %s/keys/" % (
                    export.folder, export.folder), result.out)

    def test_modes_keys_and_openssl(self):
        log = self.log(300, ed25519_too=True)
        log.anchor()
        log.fill(310)
        log.cover()
        log.fill(313)
        self.daemon("cli", log_names={"items": [name_item(1)]})
        export, result = self.export(log)
        self.assertEqual(export.size, 310)
        self.assertEqual(export.tail, log.entries[310:313])
        self.assertEqual(export.anchor["size"], 300)
        self.assertEqual(export.anchor["hash"],
                         sha(log.checkpoints[300].split(b"\n\n")[0] + b"\n")[:12].hex())
        self.assertEqual(sorted(os.listdir(export.path("keys"))), sorted(
            "%s.%s" % (key.id.hex(), end) for key in log.keys for end in ("pem", "vkey")))
        for name in export.names():
            mode = stat.S_IMODE(os.stat(export.path(name)).st_mode)
            self.assertEqual(mode, 0o600 if name == "names.jsonl" else 0o644, name)
        for folder, _, _ in os.walk(export.folder):
            self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o755, folder)
        self.assertIn("3 entries that no checkpoint covers yet", result.out)
        # openssl alone, with the PEM file of the export.
        note = export.read("checkpoint")
        text, _, signatures = note.partition(b"\n\n")
        first = signatures.decode().split("\n")[0].split(" ")[2]
        for name, data in (("text", text + b"\n"), ("signature", base64.b64decode(first)[4:])):
            with open(self.path(name), "wb") as stream:
                stream.write(data)
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-verify",
             export.path("keys/%s.pem" % log.keys[0].id.hex()), "-signature",
             self.path("signature"), self.path("text")], capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done)

    def test_json(self):
        log = self.log(20)
        export, result = self.export(log, "export", 0, "--json")
        told = json.loads(result.out)
        self.assertEqual(told["schema"], "pfx-agent/log-export/1")
        self.assertEqual((told["size"], told["new"], told["root"], told["origin"]),
                         (20, 20, export.root.hex(), export.origin))

    def test_long_log_in_little_memory(self):
        log = self.log(segment=16384)
        log.keep = False
        log.bulk(66000)  # 22 MB of entries
        log.cover()

        def little():
            if not sanitized():
                resource.setrlimit(resource.RLIMIT_DATA, (8 << 20, 8 << 20))
        self.cli("export", self.path("large"), preexec_fn=little)
        export = Export(self.path("large"), self.lines(log))
        self.assertEqual(export.size, 66000)
        self.assertTrue(os.path.exists(export.path("tile/2/000.p/1")))
        self.assertTrue(all(export.entries))


class Incremental(LogCase):
    def test_what_is_there_is_not_written_again(self):
        log = self.log(1000)
        self.export(log)
        before = {name: os.stat(self.path("export", name))
                  for name in Export(self.path("export"), self.lines(log)).names()}
        log.fill(1100)
        log.cover()
        export, result = self.export(log)
        self.assertIn("1100 entries, 100 of them new here", result.out)
        same = {name for name, was in before.items() if os.path.exists(export.path(name)) and
                os.stat(export.path(name)).st_ino == was.st_ino}
        self.assertLessEqual({"tile/0/000", "tile/0/001", "tile/0/002", "tile/entries/000",
                              "tile/entries/001", "tile/entries/002"}, same)
        self.assertNotIn("checkpoint", same)
        self.assertEqual(export.checkpoints, ["%020d" % 1000], "the checkpoint from before is kept")
        export.only_expected()

    def test_nothing_new(self):
        log = self.log(600)
        self.export(log)
        export, result = self.export(log)
        self.assertIn("600 entries, 0 of them new here", result.out)
        export.only_expected()

    def test_a_bundle_that_went_away_comes_back(self):
        log = self.log(1000)
        self.export(log)
        os.unlink(self.path("export", "tile/entries/001"))
        os.unlink(self.path("export", "tile/0/002"))
        export, _ = self.export(log)
        self.assertEqual(export.entries, log.entries)

    def test_another_log_is_refused(self):
        log = self.log(300)
        self.export(log)
        shutil.rmtree(self.log_dir)
        self.log(400, origin="pki2.example/pfx-agent")
        result = self.cli("export", self.path("export"), code=4)
        for word in ("another log", "pki1.example/pfx-agent", "pki2.example/pfx-agent"):
            self.assertIn(word, result.err)
        self.assertEqual(Export(self.path("export"), self.lines(log)).size, 300)

    def test_a_folder_with_something_else_is_refused(self):
        self.log(10)
        os.mkdir(self.path("docs"))
        with open(self.path("docs", "letter.txt"), "w", encoding="utf-8") as stream:
            stream.write("dear")
        result = self.cli("export", self.path("docs"), code=4)
        self.assertIn("isn't empty", result.err)
        self.assertEqual(os.listdir(self.path("docs")), ["letter.txt"])
        self.assertIn("no folder", self.cli("export", self.path("docs", "letter.txt"), code=2).err)
        self.assertIn("above it", self.cli("export", self.path("a", "b"), code=None).err)
        with open(self.path("docs", "checkpoint"), "w", encoding="utf-8") as stream:
            stream.write("no note")
        self.assertIn("can't be read", self.cli("export", self.path("docs"), code=4).err)

    def test_a_shorter_log_is_a_finding(self):
        log = self.log(600)
        self.export(log)
        lines = self.lines(log)
        shutil.rmtree(self.log_dir)
        self.log(500)
        result = self.cli("export", self.path("export"), code=6)
        self.assertIn("cut or put back", result.err)
        self.assertEqual(Export(self.path("export"), lines).size, 600, "it stays as it was")

    def test_a_rewritten_log_is_a_finding(self):
        log = self.log(600)
        self.export(log)
        lines = self.lines(log)
        shutil.rmtree(self.log_dir)
        other = self.log()
        other.begin()
        other.append("stop")
        other.fill(700)
        other.cover()
        result = self.cli("export", self.path("export"), code=6)
        self.assertIn("rewritten", result.err)
        self.assertEqual(Export(self.path("export"), lines).size, 600)


class Names(LogCase):
    def test_sorted_canonical_private(self):
        log = self.log(10)
        items = [name_item(i) for i in range(700)]
        items[3].pop("upn")
        items[4]["upn"] = "bj\u00f6rn\"\\@example.org"
        items[5]["addresses"] = []
        self.daemon("cli", log_names={"items": items})
        export, result = self.export(log)
        self.assertIn("700 users in names.jsonl", result.out)
        lines = export.read("names.jsonl").split(b"\n")
        self.assertEqual(lines.pop(), b"")
        items[3]["upn"] = ""  # all members are always there
        self.assertEqual(lines, [log_make.canonical(item)
                                 for item in sorted(items, key=lambda item: item["user"])])
        self.assertEqual(os.stat(export.path("names.jsonl")).st_mode & 0o777, 0o600)

    def test_none_when_pfx_agentd_is_dead(self):
        log = self.log(10)
        export, result = self.export(log)
        self.assertFalse(export.names_jsonl)
        self.assertIn("no name map", result.err)
        self.assertIn("pfx-agentd isn't running", result.err)

    def test_none_when_it_refuses(self):
        log = self.log(10)
        self.daemon("cli")
        export, result = self.export(log)
        self.assertFalse(export.names_jsonl)
        self.assertIn("may not ask this", result.err)

    def test_left_out_on_purpose(self):
        log = self.log(10)
        daemon = self.daemon("cli", log_names={"items": [name_item(1)]})
        export, result = self.export(log, "export", 0, "--no-names")
        self.assertEqual(daemon.asked, [])
        self.assertFalse(export.names_jsonl)
        self.assertNotIn("name map", result.err)

    def test_an_earlier_one(self):
        """Stays when pfx-agentd is dead, and goes away where --no-names says so."""
        log = self.log(10)
        daemon = self.daemon("cli", log_names={"items": [name_item(1)]})
        self.export(log)
        daemon.close()
        os.unlink(self.path("cli"))
        export, result = self.export(log)
        self.assertTrue(export.names_jsonl)
        self.assertIn("that of the earlier export", result.err)
        export, result = self.export(log, "export", 0, "--no-names")
        self.assertFalse(export.names_jsonl)
        self.assertIn("was removed", result.err)


if __name__ == "__main__":
    unittest.main()
