#!/usr/bin/env python3
"""What pfx-audit verify says about approvals: a lawful one holds, and each way in which two people
didn't approve exactly that is a finding. The signatures are python3-cryptography's."""
import hashlib
import json
import os
import subprocess

import audit_ask
import ssh_oracle
from audit_meaning_rig import Case, main, make

ANN, BOB, CID = (ssh_oracle.SecurityKey("sk-ed25519") for _ in range(3))
DAN = ssh_oracle.SecurityKey("sk-ecdsa")
COMMAND = "key.export"
AT = "2026-11-22T08:00:00.000Z"
SSH = b"approvals:\n  mode: ssh\n  roster: /x\n  uids:\n    - uid: 1001\n      principal: ann\n"


def canonical(members):
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


def given(statement, name, key, at=AT, options="", **how):
    return {"at": at, "line": f"{name} {options}{key.line()}", "principal": name,
            "signature": key.sign(statement.encode(), **how)}


def record(nonce="1", asker="ann", signers=(("bob", BOB), ("cid", CID)), args='{"key":"users"}',
           sign=None, change=None, **members):
    """sign, change: what is signed, and what stands in the record, where those differ."""
    statement = {"args_hash": hashlib.sha256(args.encode()).hexdigest(), "command": COMMAND,
                 "expiry": "2026-11-23T08:00:00.000Z", "nonce": nonce * 64,
                 "origin": "host-a/pfx-agent"}
    statement.update(members.pop("statement", {}))
    text = canonical(dict(statement, **(sign or {})))
    made = {"args": args, "asker": asker, "given": [given(text, *one) if isinstance(one, tuple)
                                                    else one for one in signers],
            "mode": "ssh", "needed": 2, "statement": canonical(statement), "uid": 1001}
    made.update(members)
    made.update(change or {})
    return made


def of_uids(*uids, **members):
    return record(asker="uid:1001", mode="uid", signers=[
        {"at": AT, "principal": f"uid:{uid}", "uid": uid} for uid in uids], **members)


def words_of(approval):
    """What every entry about it says."""
    command = json.loads(approval["statement"])["command"]
    return dict({"target__name": command}, **({"weak": True} if approval["mode"] == "uid" else {}))


class ApprovalCase(Case):
    def setUp(self):
        super().setUp()
        self.began()

    def began(self, policy=make.Log.POLICY, force=False):
        self.log = make.Log(policy=policy)
        self.log.init()
        if force:
            self.log.add("policy.force", policy__sha256=self.log.policy, policy__force=self.log.hex())

    def asked(self, approval, answered=True):
        """The question and each answer, as pfx-hsm notes them."""
        self.log.add("approval.ask", approvals=[dict(approval, given=[])],
                     actor={"role": "operator", "uid": approval["uid"]}, **words_of(approval))
        for one in approval["given"] if answered else ():
            self.log.add("approval.give", approvals=[dict(approval, given=[one])],
                         actor={"role": "operator", "uid": one.get("uid", 1002)}, **words_of(approval))

    def done(self, approval, event=COMMAND, asked=True, **members):
        members.setdefault("actor", {"role": "operator", "uid": 1001})
        if asked and approval is not None and "uid" in approval:
            self.asked(approval)
        if approval is not None:
            members["approvals"] = [approval]
        intent = self.log.intent(event, target__name="x", **members)
        self.log.result(intent)
        return intent

    def found(self, answer, entry, words, cls="meaning", level="finding"):
        """Of the questions and answers before it things may be found, too."""
        self.assertEqual(answer.exit, {"finding": 1, "warning": 0}[level], answer)
        place = next(i for i, one in enumerate(self.log.entries) if one is entry)
        hits = [one for one in answer.findings if one.get("entry") == place and words in one["text"]
                and (one["class"], one["level"]) == (cls, level)]
        self.assertTrue(hits, f"no {level} at {place} with {words!r} in {answer}")

    def found_of(self, approval, words, **members):
        intent = self.done(approval, **members)
        self.found(self.verify(self.log), intent, words)

    def bad(self, words, **how):
        self.found_of(record(**how), words)


class Approvals(ApprovalCase):
    """The record of one command."""

    def test_lawful(self):
        self.done(record())
        self.done(record("2", signers=(("bob", DAN), ("cid", CID))))
        answer = self.verify(self.log)
        self.clean(answer)
        self.assertIn("keys which approved 2 commands", str(answer))

    def test_replayed(self):
        self.done(record())
        again = self.done(record())
        self.found(self.verify(self.log), again, "spent before")

    def test_same_person(self):
        self.bad("same person", signers=(("bob", BOB), ("bob", DAN)))

    def test_same_person_in_another_case(self):
        self.bad("same person", signers=(("bob", BOB), ("Bob", DAN)))

    def test_asker(self):
        self.bad("Who asked", signers=(("ann", ANN), ("bob", BOB)))

    def test_names_turn_nothing_round(self):
        """A finding's words are shown on a terminal: a name in them has no say there."""
        odd = "an\u202en\u200b\u2066\ufeff"
        intent = self.done(record(asker=odd, signers=((odd, ANN), ("bob", BOB))))
        answer = self.verify(self.log)
        self.found(answer, intent, "an???n?????????: Who asked")

    def test_one(self):
        self.bad("too few", signers=(("bob", BOB),))

    def test_one_is_enough_for_nobody(self):
        self.bad("too few", signers=(("bob", BOB),), needed=1)

    def test_expired(self):
        self.bad("until their expiry", statement={"expiry": "2026-11-22T07:00:00.000Z"},
                 signers=(("bob", BOB, "2026-11-22T06:59:00.000Z"),
                          ("cid", CID, "2026-11-22T06:59:00.000Z")))

    def test_given_late(self):
        self.bad("after the time", signers=(("bob", BOB), ("cid", CID, "2026-11-24T08:00:00.000Z")))

    def test_other_arguments(self):
        self.bad("arguments", change={"args": '{"key":"log"}'})

    def test_other_statement(self):
        self.bad("isn't this key's signature", sign={"nonce": "9" * 64})

    def test_other_command(self):
        self.bad("another command", statement={"command": "key.destroy"})

    def test_other_log(self):
        self.bad("another log", statement={"origin": "host-b/pfx-agent"})

    def test_other_user(self):
        self.bad("another user", uid=1002)

    def test_other_namespace(self):
        good = record()
        good["given"][1] = given(good["statement"], "cid", CID, namespace="file")
        self.found_of(good, "another namespace")

    def test_untouched_and_no_longer_good(self):
        for words, how in (("nobody touched it", {"flags": 0}),
                           ("was good until", {"options": 'valid-before="20260101Z" '})):
            self.setUp()
            good = record()
            good["given"][1] = given(good["statement"], "cid", CID, **how)
            self.found_of(good, words)

    def test_line_of_another_key(self):
        good = record()
        good["given"][1]["line"] = f"cid {DAN.line()}"
        self.found_of(good, "another person or another key")

    def test_not_a_record(self):
        for odd in (dict(record(), more=1), {k: v for k, v in record().items() if k != "uid"}):
            self.setUp()
            self.found_of(odd, "aren't a record")

    def test_by_uid(self):
        """A laboratory's: weak, and said so."""
        intent = self.done(of_uids(1002, 1003), weak=True)
        answer = self.verify(self.log)
        self.found(answer, intent, "without signatures (mode uid)", level="warning")
        self.assertEqual((answer.answer["weak"], answer.answer["verdict"]), (1, "verified"))
        self.assertNotIn("keys which approved", str(answer))
        done = self.text()
        self.assertIn("WEAK: 1 command without anybody's signature", done.splitlines()[0])

    def text(self):
        keys = [word for path in audit_ask.key_files(self.folder, self.log) for word in ("--key", path)]
        return subprocess.run([os.environ["PFX_AUDIT"], "verify", self.folder / "log", *keys],
                              capture_output=True, text=True, check=True, timeout=60).stdout

    def test_signed_is_not_weak(self):
        self.done(record())
        self.assertEqual(self.verify(self.log).answer["weak"], 0)
        self.assertNotIn("WEAK", self.text())

    def test_by_uid_silently(self):
        self.found_of(of_uids(1002, 1003), "call itself weak")

    def test_by_uid_of_one_person(self):
        for uids, words in (((1002, 1002), "same person"), ((1001, 1002), "Who asked"),
                            ((1002,), "too few")):
            with self.subTest(uids):
                self.began()
                self.found_of(of_uids(*uids), words, weak=True)


class Missing(ApprovalCase):
    """What must be approved, and isn't."""

    def test_dangerous_ones(self):
        for event, more in (("key.destroy", {"found": "key", "key__id": "00"}), ("key.compromise", {}),
                            ("key.rotate", {"reason": "adopted"})):
            for weak in ({}, {"weak": True}):
                with self.subTest((event, weak)):
                    self.began()
                    state = {"key.destroy": "destroyed", "key.compromise": "compromised"}.get(
                        event, "staged")
                    if state != "staged":
                        self.log.move("key.rotate", 2, "making")
                        self.log.move("key.rotate", 2, "staged")
                    intent, _ = self.log.move(event, 2, state, only=weak, **more)
                    self.found(self.verify(self.log), intent, "nobody did")

    def changed(self, policy, **members):
        self.log.policy = make.sha(policy).hex()
        self.log.policies[self.log.policy] = policy
        self.log.start()
        return self.log.add("policy.changed", policy__sha256=self.log.policy, **members)

    def test_policy_changed_by_nobody(self):
        changed = self.changed(b"other: 1\n")
        self.found(self.verify(self.log), changed, "nobody did")

    def test_policy_in_force(self):
        """Whoever may write the policy alone can change it until it is in force, and not after that."""
        for force, named, level in ((False, SSH, "warning"), (True, SSH, "finding"),
                                    (True, b"other: 2\n", "warning")):
            with self.subTest((force, named)):
                self.began(named, force)
                changed = self.changed(b"other: 1\n", weak=True,
                                       policy__force=self.log.hex())
                words = "weak: one person" if level == "warning" else "nobody did"
                self.found(self.verify(self.log), changed, words, level=level)

    def test_roster_in_force_is_the_approved_one(self):
        text, roster, other = b"other: 1\n", make.sha(b"roster"), make.sha(b"other roster")
        for approved in (roster, other, None):
            self.began(SSH, force=True)
            args = {"new_policy": make.sha(text).hex(), "old_policy": self.log.policy}
            if approved:
                args["new_roster"] = approved.hex()
            approval = record(args=canonical(args), statement={"command": "policy.change"})
            self.asked(approval)
            changed = self.changed(text, approvals=[approval], actor={"role": "operator", "uid": 1001},
                                   policy__force=make.sha(make.sha(text) + roster).hex())
            answer = self.verify(self.log, str(approved))
            if approved == roster:
                self.assertNotIn("put in force", str(answer))
            else:
                self.found(answer, changed, "another policy or roster than what is put in force")

    def test_change_that_does_not_say_what_is_in_force(self):
        self.began(b"other: 2\n", force=True)
        changed = self.changed(b"other: 1\n", weak=True)
        self.found(self.verify(self.log), changed, "(policy.force)")

    def test_force_of_another_policy(self):
        entry = self.log.add("policy.force", policy__sha256=self.log.hex(), policy__force=self.log.hex())
        self.found(self.verify(self.log), entry, "another policy in force")

    def test_text_not_there(self):
        self.began(SSH, force=True)
        self.log.policies = {}
        self.changed(b"other: 1\n", weak=True, policy__force=self.log.hex())
        answer = self.verify(self.log)
        self.assertEqual(answer.exit, 0, answer)
        self.assertTrue(any("named nobody who approves policy.change" in one for one in answer.open),
                        answer)

    def test_reopened_by_nobody(self):
        for named, level in ((SSH, "finding"), (make.Log.POLICY, "warning")):
            log = self.log = make.Log(policy=named)
            log.begin("log.reopen", weak=True, actor={"role": "operator", "uid": 0})
            answer = self.verify(log, name=level)
            texts = [one["text"] for one in answer.findings if one["level"] == level]
            self.assertTrue(any(("nobody did" if level == "finding" else "weak") in one
                                for one in texts), answer)
            self.assertEqual(any("nobody did" in one["text"] for one in answer.findings),
                             level == "finding")

    def test_reopened_against_the_old_policy(self):
        """Whoever takes the state folder away takes its policy along, but not the auditor's copy of
        the log."""
        self.began(SSH, force=True)
        old, size = self.log, len(self.log.entries)
        before = old.write(self.folder / "old").newest.decode()
        new = make.Log(old.host, seed=2, origin=old.origin + "/2")
        new.clock, new.up, new.boot_n = old.clock + 60_000, 30_000, 1
        new.begin("log.reopen", log__before=before, log__anchor=size, log__restored=size, weak=True,
                  actor={"role": "operator", "uid": 0})
        new.write(self.folder / "new")
        keys = []
        for i, key in enumerate(old.keys + new.keys):
            keys.append(self.folder / f"{i}.vkey")
            keys[-1].write_text(key.line)
        for folders, exit_code in ((("old", "new"), 1), (("new", "old"), 1), (("new",), 0)):
            with audit_ask.Asker(keys) as asker:
                answer = asker.ask(*(self.folder / name for name in folders))
            self.assertEqual(answer.exit, exit_code, answer)
            self.assertEqual([one["entry"] for one in answer.findings if "nobody did" in one["text"]],
                             [0] * exit_code, answer)

    def test_fewer_than_the_policy_says(self):
        self.began(SSH + b"  needed: 3\n")
        self.bad("fewer people")

    def test_no_signatures_where_the_policy_wants_them(self):
        self.began(SSH)
        self.found_of(of_uids(1002, 1003), "the policy in force asks for them", weak=True)


class Other(ApprovalCase):
    """People approved something else than what was done."""

    def destroyed(self, **changes):
        self.log.move("key.rotate", 2, "making")
        self.log.move("key.rotate", 2, "staged")
        pin = self.log.pins[-1]
        args = {"generation": 2, "key_name": "k-2", "provider_name": "p",
                "public_key_sha256": pin["spki"]}
        args.update(changes)
        approval = record(args=canonical(args), statement={"command": "key.destroy"})
        self.asked(approval)
        return self.log.move("key.destroy", 2, "destroyed", only={"approvals": [approval]},
                             actor={"role": "operator", "uid": 1001}, key__id="00", found="key")

    def test_lawful(self):
        self.destroyed()
        self.clean(self.verify(self.log))

    def test_another_generation(self):
        intent, _ = self.destroyed(generation=1)
        self.found(self.verify(self.log), intent, "approved another generation")

    def test_another_key(self):
        intent, _ = self.destroyed(public_key_sha256="0" * 64)
        self.found(self.verify(self.log), intent, "approved another public_key_sha256")


class Questions(ApprovalCase):
    """Question, answers and command belong together."""

    def test_question_and_answer(self):
        good = record()
        self.asked(good)
        who = {"actor": {"role": "operator", "uid": 1001}, "target__name": COMMAND}
        self.log.add("approval.refuse", outcome="refused", fail__code="self", **who)
        self.clean(self.verify(self.log))
        bad = self.log.add("approval.give", approvals=[dict(good, given=[])], **who)
        self.found(self.verify(self.log, "other"), bad, "isn't a question")

    def test_never_asked(self):
        intent = self.done(record(), asked=False)
        self.found(self.verify(self.log), intent, "wasn't asked in this log")

    def test_never_answered(self):
        good = record()
        self.asked(good, answered=False)
        intent = self.done(good, asked=False)
        self.found(self.verify(self.log), intent, "bob is said to have approved it, and no approval.give")

    def test_other_arguments_than_asked(self):
        """Without signatures nothing but the question says what the answers were about."""
        self.asked(of_uids(1002, 1003))
        other = of_uids(1002, 1003, args='{"key":"log"}')
        intent = self.done(other, asked=False, weak=True)
        self.found(self.verify(self.log), intent, "isn't what was asked")

    def test_answered_after_it_was_done(self):
        good = record(signers=(("bob", BOB), ("cid", CID), ("dan", DAN)))
        self.asked(good, answered=False)
        for one in good["given"][:2]:
            self.log.add("approval.give", approvals=[dict(good, given=[one])], target__name=COMMAND,
                         actor={"role": "operator", "uid": 1002})
        self.done(dict(good, given=good["given"][:2]), asked=False)
        late = self.log.add("approval.give", approvals=[dict(good, given=good["given"][2:])],
                            target__name=COMMAND, actor={"role": "operator", "uid": 1002})
        self.found(self.verify(self.log), late, "done before")

    def test_asked_twice(self):
        self.asked(record(), answered=False)
        self.asked(record(), answered=False)
        self.found(self.verify(self.log), self.log.entries[-1], "asked before")

    def test_question_without_its_record(self):
        entry = self.log.add("approval.ask", target__name=COMMAND,
                             actor={"role": "operator", "uid": 1001})
        self.found(self.verify(self.log), entry, "without its approvals")

    def test_asked_before_what_was_examined(self):
        good = record()
        self.asked(good)
        for _ in range(60):
            self.log.enrol()
        self.done(good, asked=False)
        self.verify(self.log)
        (self.folder / "kept").write_bytes(self.written.note(300))
        answer = self.verify(self.log, asked={"since": self.folder / "kept"})
        self.assertEqual([one for one in answer.findings if one["level"] == "finding"], [], answer)


if __name__ == "__main__":
    main()
