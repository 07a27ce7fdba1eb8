#!/usr/bin/env python3
"""What pfx-audit verify says of form, keys and missing parts of logs that are signed properly, and
how the program says it."""
import json
import shutil

import audit_ask
from audit_meaning_rig import Case, find, main, make


class Signed(Case):
    """Wrong in form, and signed by the log's own keys all the same."""

    def test_entry_that_is_not_canonical(self):
        for change in (lambda raw: raw.replace(b'":', b'": ', 1),
                       lambda raw: raw.replace(b'"outcome":"ok"', b'"outcome":"fine"'),
                       lambda raw: raw.replace(b',"v":1}', b',"v":1.0}')):
            log = make.lawful()
            entry = find(log, "order.placed")
            entry["_bytes"] = change(log.encode()[log.entries.index(entry)])
            answer = self.verify(log)
            self.assertEqual(answer.exit, 6, answer)
            self.assertEqual([(one["class"], one["entry"]) for one in answer.findings
                              if one["level"] == "tampering"],
                             [("form", log.entries.index(entry))], answer)

    def test_entry_of_another_origin(self):
        log = make.lawful()
        log.entries[0]["log"] = dict(log.entries[0]["log"], origin="host-b/pfx-agent")
        self.found(self.verify(log), 0, "another origin than the checkpoint", "consistency",
                   "tampering")

    def test_checkpoint_of_another_origin(self):
        log = make.lawful()
        self.verify(log)
        size = log.milestones[1]
        (self.folder / f"log/checkpoints/{size:020d}").write_bytes(
            make.note("host-b/pfx-agent", size, make.root_of(self.written.levels, size), log.keys))
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        self.found(answer, None, "is of another log", "consistency", "tampering")

    def test_first_entry_without_keys(self):
        for keys in (None, [], ["no key line"]):
            log = make.lawful()
            log.entries[0]["log"] = dict(log.entries[0]["log"], keys=keys)
            if keys is None:
                del log.entries[0]["log"]["keys"]
            answer = self.verify(log)
            self.found(answer, 0, "names no keys that can be read", "key", "tampering")


class Keys(Case):
    def test_own_checkpoint_under_a_foreign_key(self):
        log = make.lawful()
        old = list(log.keys)
        log.start()
        log.rotate_key()
        log.enrol()
        self.verify(log)
        size = log.milestones[1]  # before the rotation, so by the old keys
        (self.folder / "kept").write_bytes(self.written.note(size, old))
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log", since=self.folder / "kept")
            self.assertEqual(answer.exit, 6, answer)
            self.assertEqual(answer.classes(), {"key"}, answer)
            answer = asker.ask(self.folder / "log", until=self.folder / "kept")
            self.found(answer, None, "isn't signed by a key that you gave", "key", "tampering")

    def test_segment_names_other_keys(self):
        log = make.lawful(enrolments=10, segment=16)
        note = find(log, "log.segment", nth=2)
        note["log"] = dict(note["log"], keys=[make.Key.p256(log.origin).line])
        self.found(self.verify(log), note, "no log.rotate-key changed them", "key", "tampering")

    def test_rotation_without_both_signatures(self):
        for missing in (0, 1):
            with self.subTest(missing):
                log = make.lawful()
                log.start()
                log.rotate_key()
                size = len(log.entries)
                signers = log.signers[size]
                log.signers[size] = signers[2:] if missing == 0 else signers[:2]
                log.enrol()
                answer = self.verify(log, name=str(missing))
                self.assertEqual(answer.exit, 6, answer)
                self.assertIn("signature", answer.classes())

    def test_rotation_only_in_silence(self):
        log = make.lawful()
        old = audit_ask.key_files(self.folder, log)
        log.start()
        log.keys = [make.Key.p256(log.origin), make.Key.ed25519(log.origin)]
        log.enrol()
        log.write(self.folder / "log")
        with audit_ask.Asker(old) as asker:
            answer = asker.ask(self.folder / "log")
        self.assertEqual(answer.exit, 6, answer)
        self.assertIn("key", answer.classes())

    def test_rotation_whose_milestone_is_gone(self):
        log = make.lawful()
        old = audit_ask.key_files(self.folder, log)
        log.start()
        log.rotate_key()
        size = len(log.entries)
        log.enrol()
        log.write(self.folder / "log")
        (self.folder / f"log/checkpoints/{size:020d}").unlink()
        with audit_ask.Asker(old) as asker:
            answer = asker.ask(self.folder / "log")
        self.assertEqual(answer.exit, 6, answer)

    def test_second_rotation_before_a_checkpoint(self):
        log = make.lawful()
        log.start()
        log.rotate_key()
        log.milestones.pop()
        log.rotate_key()
        answer = self.verify(log)
        self.assertEqual(answer.exit, 6, answer)
        self.assertIn("change again before a checkpoint", str(answer))

    def test_rotation_names_another_key(self):
        log = make.lawful()
        log.start()
        log.rotate_key()
        entry = find(log, "log.rotate-key")
        entry["key"] = {"spki": log.hex()}
        self.found(self.verify(log), entry, "none of the keys that it introduces", "key",
                   "tampering")


    def test_foreign_key_file(self):
        log = make.lawful()
        self.verify(log)
        keys = audit_ask.key_files(self.folder, log)
        for name, level in ((log.origin, "warning"), ("another", "tampering")):
            key = make.Key.p256(name)
            for ending, data in (("vkey", key.line.encode() + b"\n"), ("pem", key.pem)):
                path = self.folder / f"log/keys/{key.id.hex()}.{ending}"
                path.write_bytes(data)
                with audit_ask.Asker(keys) as asker:
                    answer = asker.ask(self.folder / "log")
                if (name, ending) != ("another", "pem"):  # a PEM file has no name
                    self.assertTrue(answer.classes(level), answer)
                path.unlink()


class Missing(Case):
    def test_entries_dropped_without_retention(self):
        log = make.lawful(enrolments=40)
        self.found(self.verify(log, first=256), 0, "no log.retention", "missing", "tampering")

    def test_bundle_in_the_middle(self):
        log = make.lawful(enrolments=60)
        self.verify(log)
        (self.folder / "log/tile/entries/001").unlink()
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        self.found(answer, 256, "the entries up to 511 aren't presented", "missing", "tampering")

    def test_damaged_bundle_is_bridged(self):
        log = make.lawful(enrolments=60)
        self.verify(log)
        path = self.folder / "log/tile/entries/001"
        path.write_bytes(path.read_bytes()[:-1])
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        # What comes after it is examined, and its root proven.
        self.found(answer, 256, "the bundle of the entries up to 511", "form", "tampering")
        self.assertEqual(answer.answer["logs"][0]["examined"],
                         answer.answer["logs"][0]["size"] - 256)

    def test_tile_of_a_higher_level(self):
        log = make.lawful(enrolments=40)
        self.verify(log)
        path = self.folder / "log/tile/1/000.p/2"
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(data)
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        self.found(answer, 256, "don't make the hash in tile/1/000", "tree", "tampering")

    def test_neither_entries_nor_tiles(self):
        log = make.lawful(enrolments=40)
        log.start()
        log.add("log.retention", log__size=256, count=256)
        self.verify(log, first=256)
        (self.folder / "log/tile/1/000.p/2").unlink()
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        self.assertEqual(answer.exit, 6, answer)
        self.assertIn("no root beyond can be computed", str(answer))

    def test_policy_text(self):
        log = make.lawful()
        self.verify(log)
        shutil.rmtree(self.folder / "log/policy")
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        self.found(answer, 0, "the text of the policy", "missing", "warning")

    def test_a_size_that_never_ends(self):
        log = make.lawful()
        self.verify(log)
        text = (self.folder / "log/checkpoint").read_bytes()
        size = str(self.written.size).encode()
        (self.folder / "log/checkpoint").write_bytes(
            text.replace(b"\n" + size + b"\n", b"\n9007199254740000\n", 1))
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log")
        self.assertEqual(answer.exit, 6, answer)
        self.assertIn("signature", answer.classes())


class Program(Case):
    """pfx-audit itself: order of what it prints, exit codes."""

    def test_order(self):
        log = make.lawful()
        upload = find(log, "upload.confirmed")
        upload["out"] = {"sha256": log.hex()}
        log.write(self.folder / "log", tail=1)
        keys = audit_ask.key_files(self.folder, log)
        code, out, err = audit_ask.run("verify", self.folder / "log", "--key", keys[0])
        self.assertEqual((code, err), (1, ""), out)
        places = [out.index(word) for word in ("FINDINGS", "\nFindings:", "\nWarnings:",
                                               "\nNot proven:")]
        self.assertEqual(places, sorted(places))
        self.assertEqual(places[0], 0)
        seq = log.entries.index(upload)
        self.assertIn(f"meaning     entry {seq}: ", out)

    def test_json(self):
        log = make.lawful()
        log.write(self.folder / "log")
        keys = audit_ask.key_files(self.folder, log)
        code, out, _ = audit_ask.run("verify", "--json", self.folder / "log", "--key", keys[0])
        answer = json.loads(out)
        self.assertEqual((code, answer["schema"], answer["verdict"], answer["exit"]),
                         (0, "pfx-audit/verify/1", "verified", 0))
        self.assertEqual(make.canonical(answer).decode() + "\n", out)

    def test_words_of_a_log_do_not_reach_the_terminal(self):
        log = make.lawful()
        log.policies = {}
        log.write(self.folder / "log")
        (self.folder / "log/checkpoints/\x1b[31m").write_bytes(b"x")
        text = (self.folder / "log/checkpoint").read_bytes().replace(b"host-a/pfx-agent\n",
                                                                    b"host\x1b[31m\n", 1)
        (self.folder / "log/checkpoint").write_bytes(text)
        keys = audit_ask.key_files(self.folder, log)
        code, out, err = audit_ask.run("verify", self.folder / "log", "--key", keys[0])
        self.assertEqual(code, 6, out)
        self.assertNotIn("\x1b", out + err)

    def test_no_key(self):
        log = make.lawful()
        log.write(self.folder / "log")
        code, out, err = audit_ask.run("verify", self.folder / "log")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("--key", err)

    def test_many_findings(self):
        log = make.lawful(enrolments=30)
        for entry in log.entries:
            if entry["event"] == "upload.confirmed":
                entry["out"] = {"sha256": log.hex()}
        log.write(self.folder / "log")
        keys = audit_ask.key_files(self.folder, log)
        code, out, _ = audit_ask.run("verify", self.folder / "log", "--key", keys[0])
        self.assertEqual(code, 1)
        self.assertEqual(out.count("no pfx.build released before"), 20)
        self.assertIn("meaning     and 40 more", out)


if __name__ == "__main__":
    main()
