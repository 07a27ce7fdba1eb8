#!/usr/bin/env python3
"""What pfx-audit verify says about approvals: a lawful one holds, and each way in which two people
didn't approve exactly that is a finding. The signatures are python3-cryptography's."""
import hashlib
import json

import ssh_oracle
from audit_meaning_rig import Case, main, make

ANN, BOB, CID = (ssh_oracle.SecurityKey("sk-ed25519") for _ in range(3))
DAN = ssh_oracle.SecurityKey("sk-ecdsa")
COMMAND = "key.export"
AT = "2026-11-22T08:00:00.000Z"


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


class Approvals(Case):
    def setUp(self):
        super().setUp()
        self.log = make.Log()
        self.log.init()

    def done(self, approval, event=COMMAND, **members):
        members.setdefault("actor", {"role": "operator", "uid": 1001})
        if approval is not None:
            members["approvals"] = [approval]
        intent = self.log.intent(event, target__name="x", **members)
        self.log.result(intent)
        return intent

    def bad(self, words, **how):
        intent = self.done(record(**how))
        self.found(self.verify(self.log), intent, words)

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

    def found_of(self, approval, words):
        intent = self.done(approval)
        self.found(self.verify(self.log), intent, words)

    def test_not_a_record(self):
        for odd in (dict(record(), more=1), {k: v for k, v in record().items() if k != "uid"}):
            self.setUp()
            self.found_of(odd, "aren't a record")

    def test_by_uid(self):
        """A laboratory's: weak, and said so."""
        people = [{"at": AT, "principal": f"uid:{uid}", "uid": uid} for uid in (1002, 1003)]
        weak = record(asker="uid:1001", signers=people, mode="uid")
        intent = self.done(weak, weak=True)
        self.found(self.verify(self.log), intent, "without signatures (mode uid)", level="warning")

    def test_by_uid_silently(self):
        people = [{"at": AT, "principal": f"uid:{uid}", "uid": uid} for uid in (1002, 1003)]
        self.found_of(record(asker="uid:1001", signers=people, mode="uid"), "call itself weak")

    def test_policy_changed_by_nobody(self):
        self.log.policy = make.sha(b"other").hex()
        self.log.policies[self.log.policy] = b"other"
        self.log.start()
        changed = self.log.add("policy.changed", policy__sha256=self.log.policy)
        self.found(self.verify(self.log), changed, "nobody did")

    def test_question_and_answer(self):
        good = record()
        asked = dict(good, given=[])
        answered = dict(good, given=good["given"][:1])
        who = {"actor": {"role": "operator", "uid": 1001}, "target__name": COMMAND}
        self.log.add("approval.ask", approvals=[asked], **who)
        self.log.add("approval.give", approvals=[answered], **who)
        self.log.add("approval.refuse", outcome="refused", fail__code="self", **who)
        self.clean(self.verify(self.log))
        bad = self.log.add("approval.give", approvals=[dict(good, given=[])], **who)
        self.found(self.verify(self.log, "other"), bad, "isn't a question")


if __name__ == "__main__":
    main()
