#!/usr/bin/env python3
"""What pfx-audit verify says about the meaning of logs: for each rule one in which that rule is
broken. All are signed properly, so nothing but the meaning is wrong. (audit_lawful: those without a
finding.)"""
from audit_meaning_rig import Case, find, main, make


class Broken(Case):
    """Each test breaks one rule."""

    def setUp(self):
        super().setUp()
        self.log = make.lawful()

    def without(self, entry):
        self.log.entries.remove(entry)
        # Sizes of milestones name entries that moved; only the newest stays.
        self.log.milestones = []
        return self.log

    def test_result_without_its_intent(self):
        result = find(self.log, "ceremony.key", "result")
        intent = find(self.log, "ceremony.key", "intent")
        result["ref"] = 1
        self.log.entries.remove(intent)
        self.log.milestones = []
        self.found(self.verify(self.log), result, "is no intent")

    def test_result_names_a_later_entry(self):
        result = find(self.log, "key.make", "result")
        result["ref"] = 10_000
        answer = self.verify(self.log)
        self.assertEqual(answer.exit, 1)
        self.assertIn("names no intent before it", str(answer))

    def test_two_results(self):
        result = find(self.log, "ceremony.key", "result")
        again = dict(result)
        self.log.entries.insert(self.log.entries.index(result) + 1, again)
        self.log.milestones = []
        self.found(self.verify(self.log), again, "has had its result already")

    def test_more_open_than_any_host_has(self):
        log = make.lawful(enrolments=1)
        log.start()
        intents = [log.intent("key.export", target__name="x") for _ in range(4100)]
        for intent in intents:
            log.result(intent)
        answer = self.verify(log)
        self.found(answer, intents[4096], "more than 4096 intents wait")

    def test_result_of_another_event(self):
        find(self.log, "ceremony.key", "result")["event"] = "ceremony.certificate"
        self.found(self.verify(self.log), find(self.log, "ceremony.certificate"), "another event")

    def test_result_with_another_op(self):
        result = find(self.log, "ceremony.key", "result")
        result["op"] = self.log.ulid()
        self.found(self.verify(self.log), result, "another op")

    def test_late_result(self):
        self.log.start()
        intent = self.log.intent("key.export", target__name="x")
        self.log.open.remove(intent)
        self.log.start()
        self.log.open.append(intent)
        result = self.log.result(intent)
        self.found(self.verify(self.log), result, "can only be unknown")

    def test_intent_with_an_outcome(self):
        intent = find(self.log, "key.make", "intent")
        intent["outcome"] = "ok"
        self.found(self.verify(self.log), intent, "intent has the outcome ok")

    def test_pending_result(self):
        self.log.start()
        intent = self.log.intent("key.export", target__name="x")
        result = self.log.result(intent, outcome="pending")
        self.found(self.verify(self.log), result, "result has the outcome pending")

    def test_operation_as_a_note(self):
        self.log.start()
        entry = self.log.add("key.export", target__name="x")
        self.found(self.verify(self.log), entry, "stands here as a note")

    def test_note_as_an_operation(self):
        self.log.start()
        intent = self.log.intent("token.login")
        result = self.log.result(intent)
        answer = self.verify(self.log)
        self.assertEqual(answer.exit, 1)
        self.assertEqual(len(answer.texts("finding")), 2, answer)
        self.assertIn("stands here as an operation", answer.texts("finding")[0], result)

    def test_build_of_a_key_made_elsewhere(self):
        intent = find(self.log, "pfx.build", "intent")
        intent["key"] = dict(intent["key"], spki=self.log.hex())
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result"),
                   "no key.make of this log made before")

    def test_build_before_its_key(self):
        keys = [entry for entry in self.log.entries if entry["event"] == "key.make"][:2]
        for entry in keys:
            self.log.entries.remove(entry)
        end = self.log.entries.index(find(self.log, "pfx.build", "result")) + 1
        self.log.entries[end:end] = keys
        self.log.milestones = []
        for entry in self.log.entries:  # clocks go on
            entry["time"], entry["up"] = self.log.entries[0]["time"], self.log.entries[0]["up"]
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result"),
                   "no key.make of this log made before")

    def test_build_with_another_ticket(self):
        find(self.log, "pfx.build", "intent")["ticket"] = self.log.hex()
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result"), "took a ticket")

    def test_build_with_another_key_id(self):
        intent = find(self.log, "pfx.build", "intent")
        intent["key"] = dict(intent["key"], id=self.log.hex(20))
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result"), "took a ticket")

    def test_build_whose_key_make_failed(self):
        made = find(self.log, "key.make", "result")
        made["outcome"] = "device"
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result"),
                   "no key.make of this log made before")

    def destroyed(self, name, index=None, **changes):
        """The first key that was packed, destroyed at the end of the log, or before entry `index`."""
        built = find(self.log, "pfx.build", "intent")
        aside = [] if index is None else self.log.entries[index:]
        if aside:
            del self.log.entries[index:]
        words = dict({"key": built["key"], "ticket": built["ticket"]}, **changes)
        intent = self.log.intent("user_key.destroy", key=words["key"], target={"name": name})
        result = self.log.result(intent, ticket=words["ticket"], found="key",
                                 target={"name": name}, key=words["key"])
        for entry in (intent, result) if aside else ():
            entry["boot"] = aside[0]["boot"]
        self.log.entries += aside
        self.log.milestones = []
        return result

    def test_delivered_key_destroyed(self):
        self.destroyed("signing.delivered")
        answer = self.verify(self.log)
        self.assertEqual(answer.exit, 0, answer)

    def test_key_destroyed_that_every_policy_keeps(self):
        for name in ("encryption.delivered", "dual.delivered", "signing", "rotated"):
            with self.subTest(name):
                self.log = make.lawful()
                result = self.destroyed(name)
                self.found(self.verify(self.log), result, "every policy keeps: " + name)

    def test_packed_key_destroyed_as_unused(self):
        result = self.destroyed("encryption.unused")
        self.found(self.verify(self.log), result, "as one that was never used")

    def test_packed_after_it_was_destroyed(self):
        at = self.log.entries.index(find(self.log, "pfx.build", "intent"))
        self.destroyed("signing.unused", at)
        for entry in self.log.entries:  # references and clocks go on
            entry["time"], entry["up"] = self.log.entries[0]["time"], self.log.entries[0]["up"]
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result"),
                   "after user_key.destroy had destroyed it")

    def test_destroyed_key_of_nobody(self):
        for changes, words in (
                ({"key": {"id": self.log.hex(16), "spki": self.log.hex()}}, "no key.make of this log"),
                ({"ticket": self.log.hex()}, "took a ticket")):
            with self.subTest(words):
                self.log = make.lawful()
                result = self.destroyed("signing.delivered", **changes)
                self.found(self.verify(self.log), result, words)

    def test_result_contradicts_its_intent(self):
        result = find(self.log, "pfx.build", "result")
        result["ticket"] = self.log.hex()
        answer = self.verify(self.log)
        self.assertIn("another key or ticket than its intent", str(answer))
        self.assertEqual(answer.exit, 1)

    def test_members_that_an_ok_result_must_have(self):
        for event, phase, member in (
                ("pfx.build", "result", "tier"), ("pfx.build", "result", "seal.by"),
                ("pfx.build", "result", "seal.generation"), ("pfx.build", "result", "seal.hash"),
                ("pfx.build", "result", "seal.sha256"), ("pfx.build", "result", "seal.spki"),
                ("pfx.build", "intent", "cert.sha256"), ("pfx.build", "intent", "ticket"),
                ("pfx.build", "intent", "key.spki"), ("pfx.build", "intent", "key.id"),
                ("key.make", "result", "key.spki"), ("key.make", "result", "ticket"),
                ("key.make", "result", "out.sha256"), ("upload.confirmed", None, "out.sha256"),
                ("start", None, "policy.sha256")):
            with self.subTest(f"{event} {member}"):
                log = make.lawful(enrolments=1)
                entry = find(log, event, phase)
                group, _, name = member.partition(".")
                if name:
                    entry[group] = {k: v for k, v in entry[group].items() if k != name}
                    if not entry[group]:
                        del entry[group]
                else:
                    del entry[group]
                answer = self.verify(log, name=member + event)
                self.assertEqual(answer.exit, 1, answer)
                self.assertTrue(any(member in text or member.split(".")[0] in text
                                    for text in answer.texts("finding")), answer)

    def test_release_without_a_hash(self):
        result = find(self.log, "pfx.build", "result")
        del result["out"]
        answer = self.verify(self.log)
        self.assertIn("pfx.build is ok without its out.sha256", str(answer))
        self.assertIn("names a PFX that no pfx.build released", str(answer))

    def test_upload_of_a_foreign_pfx(self):
        upload = find(self.log, "upload.confirmed")
        upload["out"] = {"sha256": self.log.hex()}
        self.found(self.verify(self.log), upload, "no pfx.build released before")

    def test_upload_before_its_release(self):
        upload = find(self.log, "upload.confirmed")
        upload["out"] = find(self.log, "pfx.build", "result", 1)["out"]
        self.found(self.verify(self.log), upload, "no pfx.build released before")

    def test_seal_to_a_generation_that_is_not_active(self):
        self.log.start()
        self.log.pin(2)
        key = self.log.make()
        pfx = self.log.build(key, generation=1)
        self.log.upload(key, pfx)
        self.found(self.verify(self.log), find(self.log, "pfx.build", "result", -1),
                   "generation 1, which isn't active: 2 is")

    def test_seal_to_another_key(self):
        result = find(self.log, "pfx.build", "result")
        result["seal"] = dict(result["seal"], spki=self.log.hex())
        self.found(self.verify(self.log), result, "another key than the one that is pinned")

    def test_seal_before_any_pin(self):
        log = make.Log()
        log.begin()
        log.pins.append({"generation": 1, "spki": log.hex(), "state": "active"})
        log.enrol()
        self.found(self.verify(log), find(log, "pfx.build", "result"), "isn't active")

    def test_pins_change_without_a_ceremony(self):
        ready = find(self.log, "token.ready", nth=-1)
        ready["pins"] = [dict(ready["pins"][0], spki=self.log.hex())]
        answer = self.verify(self.log)
        self.assertIn("has another public key here", answer.texts("finding")[0])
        self.assertIn("the active pin isn't the one", answer.texts("finding")[1])
        self.assertEqual(answer.exit, 1)

    def test_two_active_pins(self):
        ready = find(self.log, "token.ready", nth=-1)
        ready["pins"] = [ready["pins"][0], dict(ready["pins"][0], generation=2)]
        answer = self.verify(self.log)
        self.assertIn("no entry of the log made it", answer.texts("finding")[0])
        self.assertIn("more than one generation", answer.texts("finding")[1])
        self.assertEqual(answer.exit, 1)

    def test_agentd_skips_a_number(self):
        note = find(self.log, "certificate.received")
        for entry in self.log.entries[self.log.entries.index(note):]:
            if entry["src"] == "agentd":
                entry["n"] += 1
        self.found(self.verify(self.log), note, "has number")

    def test_agentd_note_without_a_number(self):
        note = find(self.log, "agentd.stop", nth=-1)
        del note["n"]
        self.found(self.verify(self.log), note, "without its number")

    def test_agentd_writes_what_only_pfx_hsm_may(self):
        self.log.start()
        note = self.log.agentd("token.login")
        self.found(self.verify(self.log), note, "isn't an event that pfx-agentd may write")

    def test_hsm_writes_what_only_agentd_sees(self):
        self.log.start()
        note = self.log.add("order.placed")
        self.found(self.verify(self.log), note, "isn't an event that pfx-hsm may write")

    def test_boot_changes_without_a_start(self):
        self.log.start()
        self.log.boot_n += 1
        note = self.log.add("token.login", target__name="users", rv="CKR_OK")
        self.found(self.verify(self.log), note, "boot id changed without a start")

    def test_clock_set_without_a_note(self):
        self.log.start()
        self.log.add("token.login", target__name="users", rv="CKR_OK")
        self.log.clock += 3_600_000
        note = self.log.add("token.login", target__name="users", rv="CKR_OK")
        self.found(self.verify(self.log), note, "without a clock.step", level="warning")
        log = make.lawful()
        log.start()
        log.add("token.login", target__name="users", rv="CKR_OK")
        log.clock += 3_600_000
        log.add("clock.step", clock__step=3_600_000)
        log.add("token.login", target__name="users", rv="CKR_OK")
        self.clean(self.verify(log, name="step"))

    def test_time_since_boot_goes_back(self):
        self.log.start()
        self.log.add("token.login", target__name="users", rv="CKR_OK")
        self.log.up -= 500
        self.log.clock -= 500
        note = self.log.add("token.login", target__name="users", rv="CKR_OK")
        self.found(self.verify(self.log), note, "time since boot goes back", level="warning")

    def test_segment_of_another_boot(self):
        """log.segment may come before the start that made it necessary, and before nothing else."""
        for event in ("start", "token.login", None):
            with self.subTest(event):
                log = make.lawful()
                log.boot_n += 1
                log.up = 5000
                segment = log.raw("log.segment", log__origin=log.origin, log__n=log.agentd_n,
                                  log__keys=[k.line for k in log.keys], _open=[], _size=True,
                                  pins=log.pin_list(), policy__sha256=log.policy)
                if event:
                    log.raw(event, policy__sha256=log.policy)
                answer = self.verify(log, name=str(event))
                if event == "start":
                    self.clean(answer)
                else:
                    self.found(answer, segment, "the host was started anew")

    def test_segment_names_another_policy(self):
        log = make.lawful(enrolments=10, segment=16)
        note = find(log, "log.segment", nth=2)
        text = log.POLICY + b"# another\n"
        log.policies[make.sha(text).hex()] = text
        note["policy"] = {"sha256": make.sha(text).hex()}
        answer = self.verify(log)
        self.assertEqual(answer.exit, 1, answer)
        self.assertIn("another policy than the last start", str(answer))

    def test_pin_made_active_without_its_key(self):
        self.log.start()
        self.log.pin(2)
        result = find(self.log, "ceremony.pin", "result", -1)
        del result["pin"]["spki"]
        self.found(self.verify(self.log), result, "without naming it and its key")

    def test_wrong_number(self):
        entry = find(self.log, "order.placed")
        entry["seq"] = 4711
        self.found(self.verify(self.log), entry, "calls itself number 4711", "sequence",
                   "tampering")

    def test_policy_changes_in_silence(self):
        text = self.log.POLICY + b"# changed\n"
        self.log.policy = make.sha(text).hex()
        self.log.policies[self.log.policy] = text
        self.log.start()
        self.log.enrol()
        self.found(self.verify(self.log), find(self.log, "start", nth=-1),
                   "no policy.changed follows")

    def test_before_in_the_middle(self):
        self.log.start()
        note = self.log.add("probe", before=True, target__name="users")
        self.found(self.verify(self.log), note, "doesn't stand at the log's beginning")

    def test_before_in_the_middle_of_what_was_examined(self):
        self.log.start()
        note = self.log.add("probe", before=True, target__name="users")
        self.verify(self.log)
        (self.folder / "kept").write_bytes(self.written.note(2))
        self.found(self.verify(self.log, asked={"since": self.folder / "kept"}), note,
                   "doesn't stand at the log's beginning")

    def test_recovered_without_saying_what(self):
        for i, words in enumerate(({"count": 4}, {"count": 0, "log__size": 1}, {"log__size": 1},
                                   {"count": 4, "log__size": len(self.log.entries)})):
            with self.subTest(words):
                note = self.log.add("log.recovered", fail__code="uncovered", **words)
                self.found(self.verify(self.log, name=f"log{i}"), note,
                           "doesn't say which entries")
                self.log.entries.remove(note)

    def test_log_does_not_begin(self):
        log = make.Log()
        log.start()
        log.entries[0]["log"] = {"keys": [k.line for k in log.keys]}
        answer = self.verify(log)
        self.assertIn("begins with neither", str(answer))

    def test_second_beginning(self):
        self.log.begin()
        self.found(self.verify(self.log), len(self.log.entries) - 1, "stands inside of a log")

    def test_segment_note_that_lies(self):
        for member, value, words in (("n", 99, "last number was 99"), ("size", 5, "begins at 5"),
                                     ("open", [3], "intents without a result")):
            with self.subTest(member):
                log = make.lawful(enrolments=10, segment=16)
                note = find(log, "log.segment", nth=2)
                note["log"] = dict(note["log"])
                note.pop("_" + member, None)
                note["log"][member] = value
                answer = self.verify(log, name=member)
                self.assertEqual(answer.exit, 1, answer)
                self.assertIn(words, str(answer))


if __name__ == "__main__":
    main()
