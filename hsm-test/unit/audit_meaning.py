#!/usr/bin/env python3
"""What pfx-audit verify says about the meaning of logs: lawful ones without a finding, and for each
rule one in which that rule is broken. All are signed properly, so nothing but the meaning is wrong."""
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import audit_ask
import export_make as make

BASE = None


def find(log, event, phase=None, nth=0):
    return [entry for entry in log.entries
            if entry["event"] == event and phase in (None, entry["phase"])][nth]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=BASE))
        self.addCleanup(shutil.rmtree, self.folder)

    def verify(self, log, name="log", asked=None, **options):
        self.written = log.write(self.folder / name, **options)
        keys = audit_ask.key_files(self.folder, log)
        with audit_ask.Asker(keys) as asker:
            return asker.ask(self.folder / name, **(asked or {}))

    def clean(self, answer, warnings=0):
        self.assertEqual(answer.exit, 0, answer)
        self.assertEqual(len(answer.findings), warnings, answer)

    def found(self, answer, entry, words, cls="meaning", level="finding"):
        code = {"finding": 1, "warning": 0, "tampering": 6}[level]
        self.assertEqual(answer.exit, code, answer)
        entry = entry if isinstance(entry, (int, type(None))) else \
            next(i for i, one in enumerate(self.written.log.entries) if one is entry)
        hits = [one for one in answer.findings if one["class"] == cls and one["level"] == level
                and one.get("entry") == entry and words in one["text"]]
        self.assertTrue(hits, f"no {level} of {cls} at {entry} with {words!r} in {answer}")
        others = [one for one in answer.findings if one["level"] == level and one not in hits]
        self.assertEqual(others, [], answer)


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
        self.assertIn("the active pin isn't the one", answer.texts("finding")[0])
        self.assertEqual(answer.exit, 1)

    def test_two_active_pins(self):
        ready = find(self.log, "token.ready", nth=-1)
        ready["pins"] = [ready["pins"][0], dict(ready["pins"][0], generation=2)]
        self.found(self.verify(self.log), ready, "more than one generation")

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
        import json
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
    for variable in ("PFX_AUDIT", "PFX_AUDIT_TOOL"):
        if not os.environ.get(variable):
            print(f"skipped: {variable} isn't set")
            sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="audit-meaning-") as base:
        BASE = base
        unittest.main(verbosity=1)
