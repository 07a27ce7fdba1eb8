#!/usr/bin/env python3
"""Logs in which pfx-audit verify finds nothing, or gives a warning: what hosts do in their life; and
sets of logs, with what is wrong between them."""
import shutil

import audit_ask
from audit_meaning_rig import Case, find, main, make


class Lawful(Case):
    def test_one_host(self):
        self.clean(self.verify(make.lawful()))

    def test_p256_only(self):
        self.clean(self.verify(make.lawful(ed=False)))

    def test_segments(self):
        self.clean(self.verify(make.lawful(enrolments=10, segment=16)))

    def test_bundles_and_tiles_of_two_levels(self):
        answer = self.verify(make.lawful(enrolments=45))
        self.clean(answer)
        self.assertGreater(answer.answer["logs"][0]["size"], 512)

    def test_crash_leaves_unknown_outcomes(self):
        log = make.lawful()
        log.start()
        log.intent("key.make", key__alg="rsa-2048", key__id="00")
        log.start(boot=True)
        log.enrol()
        answer = self.verify(log)
        self.found(answer, find(log, "key.make", "result", -2), "outcome is unknown",
                   level="warning")

    def test_open_at_the_end(self):
        log = make.lawful()
        log.start()
        intent = log.intent("key.make", key__alg="rsa-2048", key__id="00")
        self.found(self.verify(log), intent, "has no result", level="warning")

    def test_failed_operations(self):
        log = make.lawful()
        log.start()
        intent = log.intent("pfx.build", key__id="00")
        log.result(intent, outcome="device", fail__code="CKR_DEVICE_ERROR", fail__op="C_WrapKey")
        log.agentd("enrolment.held", outcome="device", target__enrolment=1)
        self.clean(self.verify(log))

    def test_new_generation(self):
        log = make.lawful()
        log.start()
        log.ready()
        log.pin(2)
        log.enrol()
        log.start()
        log.ready()
        log.enrol()
        self.clean(self.verify(log))

    def test_seal_under_way_while_the_pin_changes(self):
        log = make.lawful()
        log.start()
        key = log.make()
        pfx = log.build(key)
        result = log.entries.pop()
        log.pin(2)
        log.entries.append(result)
        result["up"], result["time"] = log.entries[-2]["up"], log.entries[-2]["time"]
        log.upload(key, pfx)
        self.clean(self.verify(log))

    def test_key_packed_again(self):
        log = make.lawful()
        log.start()
        key = log.make()
        for _ in range(3):
            log.upload(key, log.build(key))
        self.clean(self.verify(log))

    def test_key_rotation(self):
        log = make.lawful()
        old = list(log.keys)
        log.start()
        log.rotate_key()
        log.enrol()
        log.stop()
        self.clean(self.verify(log))  # with the new keys
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            for i, key in enumerate(old):
                (self.folder / f"old{i}").write_text(key.line)
                self.clean(asker.ask(self.folder / "log", keys=str(self.folder / f"old{i}")))
            (self.folder / "old.pem").write_bytes(old[0].pem)
            self.clean(asker.ask(self.folder / "log", keys=str(self.folder / "old.pem")))

    def test_export_taken_right_after_a_rotation(self):
        log = make.lawful()
        log.start()
        log.rotate_key()
        self.clean(self.verify(log))

    def test_pinned_before_the_log_began(self):
        for noted in (True, False):
            with self.subTest(noted):
                log = make.Log()
                log.begin()
                log.pins.append({"generation": 1, "spki": log.hex(), "state": "active"})
                if noted:
                    log.add("ceremony.pin", before=True, pin__generation=1,
                            pin__spki=log.pins[0]["spki"], pin__state="active")
                log.ready()
                log.enrol()
                answer = self.verify(log, name=str(noted))
                self.clean(answer, warnings=0 if noted else 1)
                if not noted:
                    self.found(answer, find(log, "token.ready"), "pinned before the log began",
                               level="warning")

    def test_recovery_that_does_not_know_the_operation(self):
        log = make.lawful()
        log.start()
        intent = log.intent("key.export", target__name="x")
        log.open.remove(intent)
        log.start()
        result = log.add("unknown", phase="result", outcome="unknown", _ref=intent)
        self.found(self.verify(log), result, "key.export of entry", level="warning")

    def test_policy_changed(self):
        log = make.lawful()
        text = log.POLICY + b"# changed\n"
        log.policy = make.sha(text).hex()
        log.policies[log.policy] = text
        log.start()
        log.add("policy.changed", policy__sha256=log.policy, weak=True)
        log.enrol()
        answer = self.verify(log)
        self.found(answer, find(log, "policy.changed"), "weak", level="warning")

    def test_retention(self):
        log = make.lawful(enrolments=40)
        log.start()
        log.add("log.retention", log__size=256, count=256)
        answer = self.verify(log, first=256)
        self.clean(answer)
        self.assertTrue(any("aren't presented (retention)" in text for text in answer.open), answer)
        self.assertTrue(any("keys that were made before" in text or "sealed before" in text or
                            "whose intents" in text or "who the users" in text or "signatures of"
                            in text for text in answer.open), answer)

    def test_since_and_until(self):
        log = make.lawful(enrolments=40)
        kept = log.milestones[2]
        self.verify(log)
        (self.folder / "kept").write_bytes(self.written.note(kept))
        (self.folder / "last").write_bytes(self.written.note(400))
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log", since=self.folder / "kept")
            self.clean(answer)
            self.assertEqual(answer.answer["logs"][0]["first"], kept)
            answer = asker.ask(self.folder / "log", since=self.folder / "kept",
                               until=self.folder / "last")
            self.assertEqual(answer.exit, 0, answer)
            self.assertEqual(answer.answer["logs"][0]["examined"], 400 - kept)
            self.assertEqual(asker.ask(self.folder / "log", until=300).answer["logs"][0]["examined"],
                             300)
            # The entries before aren't needed.
            shutil.rmtree(self.folder / "log/tile/entries/000", ignore_errors=True)
            (self.folder / "log/tile/entries/000").unlink(missing_ok=True)
            (self.folder / "later").write_bytes(self.written.note(300))
            self.clean(asker.ask(self.folder / "log", since=self.folder / "later"))
            # Without the tiles neither.
            (self.folder / "log/tile/1/000.p/2").unlink()
            answer = asker.ask(self.folder / "log", since=self.folder / "later")
            self.assertEqual(answer.exit, 6, answer)

    def test_usage(self):
        log = make.lawful()
        self.verify(log)
        (self.folder / "bad").write_text("no checkpoint\n")
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            for asked in ({"until": 10_000}, {"until": 0}, {"since": self.folder / "bad"},
                          {"since": self.folder / "none"}, {"anchor": "pfxlog1:12:3"},
                          {"anchor": self.folder / "bad"}, {"keys": str(self.folder / "bad")}):
                self.assertEqual(asker.ask(self.folder / "log", **asked).exit, 2, asked)
            self.assertEqual(asker.ask(self.folder / "log", self.folder / "log").exit, 2)
            self.assertEqual(asker.ask(self.folder / "nothing").exit, 2)
            self.assertEqual(asker.ask(self.folder).exit, 2)

    def test_newer_writer(self):
        log = make.lawful()
        log.start()
        log.add("some.thing", something_new=1)
        answer = self.verify(log)
        self.clean(answer)
        self.assertIn("the meaning of 1 entry of events that this version doesn't know",
                      str(answer.open))
        self.assertIn("members that this version doesn't know, in 1 entry", str(answer.open))
        log.add("some.thing", something_new=2)
        answer = self.verify(log, name="two")
        self.assertIn("the meaning of 2 entries of events", str(answer.open))
        self.assertIn("members that this version doesn't know, in 2 entries", str(answer.open))

    def test_since_a_size_within_the_beginning(self):
        """Entries 1 to 3 tell what happened before the log existed."""
        log = make.lawful()
        for size in range(1, 6):
            self.assertEqual("before" in log.entries[size], size < 4)
        self.verify(log)
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            for size in range(1, 6):
                with self.subTest(size):
                    (self.folder / "kept").write_bytes(self.written.note(size))
                    answer = asker.ask(self.folder / "log", since=self.folder / "kept")
                    self.clean(answer)
                    self.assertEqual(answer.answer["logs"][0]["first"], size)

    def test_log_recovered(self):
        log = make.lawful()
        log.start()
        log.add("log.recovered", count=4, log__anchor=12)  # found beyond the anchor, and signed
        log.add("log.recovered", count=130, log__size=20, fail__code="torn")
        self.clean(self.verify(log))
        one = log.add("log.recovered", count=1, log__size=len(log.entries) - 1,
                      fail__code="uncovered")
        self.found(self.verify(log, name="one"), one,
                   f"1 entry from {one['log']['size']} on was under no checkpoint when pfx-hsm "
                   "started: whoever could write to that disk then may have written it",
                   level="warning")
        log.entries.remove(one)
        many = log.add("log.recovered", count=3, log__size=20, fail__code="uncovered")
        self.found(self.verify(log, name="many"), many,
                   "3 entries from 20 on were under no checkpoint when pfx-hsm started: whoever "
                   "could write to that disk then may have written them", level="warning")

    def test_what_is_never_proven(self):
        self.verify(make.lawful())
        code, out, _ = audit_ask.run("verify", self.folder / "log", "--key",
                                     self.folder / "host-a-0.vkey")
        self.assertEqual(code, 0, out)
        self.assertIn("Not proven:", out)
        for words in ("whoever holds root and the PIN", "uses of the keys by others",
                      "rollback protection by the token: none where its objects lie on the host's "
                      "disk, as with SoftHSM"):
            self.assertIn(words, out.split("Not proven:")[1])

    def test_one_entry(self):
        log = make.Log()
        log.begin()
        self.verify(log)
        _, out, _ = audit_ask.run("verify", self.folder / "log", "--key",
                                  *audit_ask.key_files(self.folder, log)[:1])
        self.assertIn("VERIFIED: 1 log, 1 entry\n", out)
        self.assertIn(": 1 entry, ", out)

    def test_seals_before_anything_says_which_generation_is_active(self):
        log = make.lawful(enrolments=3)
        since = log.entries.index(find(log, "key.make", "intent"))
        self.verify(log)
        (self.folder / "kept").write_bytes(self.written.note(since))
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log", since=self.folder / "kept")
        self.clean(answer)
        self.assertIn("passwords were sealed before an entry", str(answer.open))

    def test_anchor(self):
        log = make.lawful()
        self.verify(log)
        with audit_ask.Asker(audit_ask.key_files(self.folder, log)) as asker:
            answer = asker.ask(self.folder / "log", anchor=self.written.label())
            self.clean(answer)
            self.assertFalse(any("host's word; read" in text for text in answer.open), answer)
            answer = asker.ask(self.folder / "log")
            self.assertTrue(any("host's word; read" in text for text in answer.open), answer)

    def test_tail(self):
        log = make.lawful()
        answer = self.verify(log, tail=3)
        self.found(answer, len(log.entries) - 3, "covered by no checkpoint, as is all behind it: 3",
                   cls="uncovered", level="warning")


class Sets(Case):
    def successor(self, old, lost=0):
        """A new log of the same host, going on from `old`."""
        size = len(old.entries)
        before = old.write(self.folder / "old")
        new = make.Log(old.host, seed=2, origin=old.origin + "/2")
        new.clock, new.up, new.boot_n = old.clock + 60_000, 30_000, old.boot_n + 1
        new.enrolments, new.agentd_n = old.enrolments, old.agentd_n
        new.begin("log.reopen", log__before=before.newest.decode(), log__anchor=size + lost,
                  log__restored=size, weak=True)
        new.pins = old.pin_list()
        new.start()
        new.ready()
        return before, new

    def ask(self, logs, *folders):
        keys = []
        for i, log in enumerate(logs):
            for j, key in enumerate(log.keys):
                path = self.folder / f"{i}-{j}.vkey"
                path.write_text(key.line)
                keys.append(path)
        with audit_ask.Asker(keys) as asker:
            return asker.ask(*(self.folder / folder for folder in folders))

    def test_successor(self):
        old = make.lawful()
        old.start()
        key = old.make()
        _, new = self.successor(old)
        new.upload(key, new.build(key))  # made in the old log
        new.enrol()
        new.write(self.folder / "new")
        for folders in (("old", "new"), ("new", "old")):
            answer = self.ask([old, new], *folders)
            self.clean(answer, warnings=1)
            self.assertIn("weak", answer.texts("warning")[0])
        answer = self.ask([new], "new")
        self.assertEqual(answer.exit, 0, answer)
        self.assertTrue(any("which isn't presented" in text for text in answer.open), answer)
        self.assertTrue(any("were packed from keys" in text for text in answer.open), answer)

    def test_lost_entries(self):
        old = make.lawful()
        _, new = self.successor(old, lost=17)
        new.write(self.folder / "new")
        answer = self.ask([old, new], "old", "new")
        self.assertEqual(answer.exit, 0, answer)
        self.assertTrue(any("17 entries of the log before it were lost" in text
                            for text in answer.texts("warning")), answer)

    def test_nothing_left_of_the_predecessor(self):
        old = make.lawful()
        _, new = self.successor(old, lost=5)
        del new.entries[0]["log"]["before"]
        new.write(self.folder / "new")
        answer = self.ask([new], "new")
        self.assertEqual(answer.exit, 0, answer)
        self.assertIn("nothing was left", str(answer.texts("warning")))

    def test_predecessor_was_rewritten(self):
        old = make.lawful()
        _, new = self.successor(old)
        new.write(self.folder / "new")
        old.entries[-1]["up"] += 1
        shutil.rmtree(self.folder / "old")
        old.write(self.folder / "old")
        answer = self.ask([old, new], "old", "new")
        self.assertEqual(answer.exit, 6, answer)
        self.assertIn("consistency", answer.classes())

    def test_two_hosts(self):
        one, two = make.lawful("host-a"), make.lawful("host-b", seed=3)
        one.write(self.folder / "one")
        two.write(self.folder / "two")
        self.clean(self.ask([one, two], "one", "two"))

    def test_key_of_no_log_of_the_set(self):
        one, two = make.lawful("host-a"), make.lawful("host-b", seed=3)
        intent = find(two, "pfx.build", "intent")
        intent["key"] = dict(intent["key"], spki=two.hex())
        one.write(self.folder / "one")
        two.write(self.folder / "two")
        answer = self.ask([one, two], "one", "two")
        self.assertEqual(answer.exit, 1, answer)
        self.assertEqual([one["log"] for one in answer.findings], [1])


if __name__ == "__main__":
    main()
