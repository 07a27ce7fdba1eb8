"""What pfx-agentd tells the operation log: each event with its members, in order; and the map of
users' names."""

import collections
import grp
import hashlib
import json
import os
import pwd
import sqlite3
import sys
import time
import unittest

from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.dont_write_bytecode = True
from agent_case import FlowCase, main  # noqa: E402
from agent_rig import Fail, RULE, b64, unb64  # noqa: E402

BESIDE = ("n", "at", "outcome", "actor")


class NotesCase(FlowCase):
    def settled(self, rig):
        """All notes, once none waits any more."""
        rig.wait_for(lambda: not rig.sql("SELECT 1 FROM note"), what="an empty queue")
        notes = rig.world.oplog
        self.assertEqual([note["n"] for note in notes], list(range(1, len(notes) + 1)))
        return list(notes)

    def events(self, rig):
        return [note["event"] for note in self.settled(rig)]

    def last(self, rig, event, count=1):
        """The newest note of this event, once there are as many as that."""
        rig.wait_for(lambda: sum(n["event"] == event for n in rig.world.oplog) >= count, what=event)
        return [n for n in self.settled(rig) if n["event"] == event][-1]

    def user(self, rig, ident):
        salt, = rig.sql("SELECT salt FROM user WHERE id = ?", ident)[0]
        return hashlib.sha256(salt + ident.encode()).digest()

    def bare(self, note):
        return {k: v for k, v in note.items() if k not in BESIDE}

    def nobody_is_named(self, rig):
        text = json.dumps(self.settled(rig)).lower()
        for users in rig.world.groups.values():
            for user in users:
                for word in (user["id"], user["id"].replace("-", ""), user["upn"], user["mail"],
                             user["given"].lower(), "example.com"):
                    self.assertNotIn(word, text)
        return text


class Events(NotesCase):
    def test_whole_enrolment(self):
        rig = self.rig()
        alice, = self.group(rig, "alice")
        rig.run_once()
        told = [note["event"] for note in rig.world.oplog]
        self.assertEqual(told, ["agentd.start", "command", "order.placed", "certificate.received",
                                "upload.confirmed"], "all of it is there when the run ends")
        start, command, placed, received, confirmed = self.settled(rig)
        order = rig.world.orders[5000]
        record, = rig.world.records.values()
        user = self.user(rig, alice["id"])
        target = {"enrolment": 1, "attempt": 1, "user": b64(user)}
        key_id = b64(hashlib.sha256(b"1").digest()[:16])
        thumbprint = hashlib.sha1(order["leaf"]).digest()
        self.assertEqual(self.bare(start), {"event": "agentd.start", "name": "0.1.0"})
        self.assertEqual(command["actor"], "operator")
        self.assertEqual(self.bare(command),
                         {"event": "command", "name": "run", "uid": os.getuid()})
        self.assertEqual(self.bare(placed), {"event": "order.placed", "order_id": 5000,
                                             "key_id": key_id, **target})
        self.assertEqual(self.bare(received), {
            "event": "certificate.received", "order_id": 5000, "key_id": key_id,
            "certificate": b64(hashlib.sha256(order["leaf"]).digest()),
            "thumbprint": b64(thumbprint), **target})
        pfx, _ = rig.world.parcels[record["id"]]
        self.assertEqual(self.bare(confirmed), {
            "event": "upload.confirmed", "pfx": b64(hashlib.sha256(unb64(pfx)).digest()),
            "thumbprint": b64(thumbprint), "generation": 1,
            "name": "%s-%s" % (user.hex(), thumbprint.hex()), **target})
        for note in (start, placed, received, confirmed):
            self.assertEqual((note["actor"], note["outcome"]), ("self", "ok"))
        times = [note["at"] for note in self.settled(rig)]
        self.assertEqual(times, sorted(times))
        self.assertLess(abs(times[-1] - time.time() * 1000), 60000)
        self.nobody_is_named(rig)
        rig.terminate()
        rig.start()
        self.assertEqual(self.events(rig)[5:], ["agentd.stop", "agentd.start"])

    def test_many(self):
        """More than one job takes; each as often as it happened."""
        rig = self.rig(max_orders_per_pass=100)
        rig.world.page = 100
        self.group(rig, *["u%d" % i for i in range(60)])
        rig.run_once()
        count = collections.Counter(self.events(rig))
        self.assertEqual(count, {"agentd.start": 1, "command": 1, "order.placed": 60,
                                 "certificate.received": 60, "upload.confirmed": 60})
        self.assertLess(rig.world.counts["hsm.log"], 120, "they go together")

    def test_commands(self):
        rig = self.rig()
        rig.world.auto_issue = False
        self.group(rig, "alice", "bob")
        rig.run_once()
        self.settled(rig)
        at = len(rig.world.oplog)
        asked = [("pause", {"orders": True}, "ok", None), ("resume", {"orders": True}, "ok", None),
                 ("enrolment.resend", {"enrolment": 1}, "ok", 1),
                 ("enrolment.release", {"enrolment": 1}, "refused", 1),
                 ("enrolment.retry", {"enrolment": 77}, "usage", 77),
                 ("enrolment.cancel", {}, "usage", None), ("pause", {}, "usage", None),
                 ("setup.digicert", {}, "ok", None), ("record.remove", {"id": "none"}, "usage", None),
                 ("enrolment.revoke", {"enrolment": 2, "reason": "secret reason"}, "ok", 2)]
        for verb, args, _, _ in asked:
            rig.ask(verb, **args)
        rig.ask("status")
        rig.ask("enrolment.list")
        rig.ask("enrolment.show", enrolment=1)
        rig.run_once(dry_run=True)
        rig.wait_for(lambda: rig.world.revoked)
        told = [n for n in self.settled(rig)[at:] if n["event"] == "command"]
        self.assertEqual([(n["name"], n["outcome"], n.get("enrolment")) for n in told],
                         [(verb, outcome, enrolment) for verb, _, outcome, enrolment in asked])
        self.assertEqual({(n["actor"], n["uid"]) for n in told}, {("operator", os.getuid())})
        self.assertEqual([n["fail_op"] for n in told[3:7]],
                         ["release", "enrolment", "enrolment", "pause"])
        self.assertEqual(told[3]["fail_code"], "ORDERED")
        self.assertNotIn("secret", self.nobody_is_named(rig))

    def test_each_of_several(self):
        rig = self.rig(max_orders_per_pass=1)
        self.group(rig, "alice", "bob", "carol")
        rig.run_once()
        held = [n for n in self.settled(rig) if n["event"] == "enrolment.held"]
        self.assertEqual([(n["enrolment"], n["outcome"], n["fail_op"]) for n in held],
                         [(2, "refused", "order-limit"), (3, "refused", "order-limit")])
        rig.ask("enrolment.cancel", state="HELD")
        told = self.settled(rig)[-4:]
        self.assertEqual([(n["event"], n["enrolment"], n["outcome"]) for n in told],
                         [("enrolment.ended", 2, "ok"), ("command", 2, "ok"),
                          ("enrolment.ended", 3, "ok"), ("command", 3, "ok")])

    def test_the_ca_ends_orders(self):
        rig = self.rig()
        rig.world.auto_issue = False
        self.group(rig, "a", "b", "c")
        rig.run_once()
        for number, word in enumerate(("rejected", "canceled", "revoked")):
            rig.world.set_status(5000 + number, word)
        rig.wait_for(lambda: rig.states() == ["ENDED"] * 3)
        told = {n["enrolment"]: [m for m in self.settled(rig) if m.get("enrolment") ==
                                 n["enrolment"]][1:] for n in self.settled(rig) if "enrolment" in n}
        for number, event, word in ((1, "order.cancelled", "rejected"),
                                    (2, "order.cancelled", "canceled"),
                                    (3, "order.revoked", "revoked")):
            over, ended = told[number]
            self.assertEqual((over["event"], over["name"], over["outcome"], over["order_id"]),
                             (event, word, "ok", 4999 + number))
            self.assertEqual((ended["event"], ended["outcome"], ended["fail_op"],
                              ended["fail_code"]), ("enrolment.ended", "refused", "order", word))

    def test_cancel_revoke_remove(self):
        rig = self.rig(rules=[dict(RULE, on_revoked="remove")], schedule={"sweep_every": "100ms"})
        rig.world.auto_issue = False
        alice, _ = self.group(rig, "alice", "bob")
        rig.run_once()
        rig.world.fault("up.order_cancel", Fail("refused", "no", "409"))
        rig.ask("enrolment.cancel", enrolment=2)
        said = self.last(rig, "order.cancelled")
        self.assertEqual((said["outcome"], said["fail_code"], said["enrolment"]),
                         ("refused", "409", 2))
        rig.ask("enrolment.cancel", enrolment=2)
        rig.wait_for(lambda: rig.states()[1] == "ENDED")
        self.assertEqual(self.last(rig, "order.cancelled", 2)["outcome"], "ok")
        rig.world.set_status(5000, "issued")
        rig.wait_for(lambda: rig.states()[0] == "ACTIVE")
        record, = rig.world.records
        rig.world.fault("up.order_revoke", Fail("refused", "no", "403"))
        rig.ask("enrolment.revoke", enrolment=1, reason="lost")
        said = self.last(rig, "order.revoked")
        self.assertEqual((said["outcome"], said["fail_code"]), ("refused", "403"))
        rig.ask("enrolment.revoke", enrolment=1, reason="lost")
        gone = self.last(rig, "record.removed")
        self.assertEqual([n["event"] for n in self.settled(rig)][-4:],
                         ["command", "order.revoked", "enrolment.ended", "record.removed"])
        user = self.user(rig, alice["id"])
        self.assertEqual(self.bare(gone), {
            "event": "record.removed", "enrolment": 1, "attempt": 1, "user": b64(user),
            "thumbprint": b64(bytes.fromhex(record[33:])), "name": user.hex() + record[32:]})
        self.nobody_is_named(rig)

    def test_record_of_a_stranger(self):
        rig = self.rig()
        self.group(rig)
        foreign = "f" * 32 + "-" + "AB" * 20
        rig.world.records[foreign] = {"id": foreign, "thumbprint": "ab" * 20, "purpose": "vpn",
                                      "upn": "zoe@example.com"}
        rig.run_once()
        rig.ask("record.remove", id=foreign)
        gone = self.last(rig, "record.removed")
        self.assertEqual(self.bare(gone), {"event": "record.removed",
                                           "thumbprint": b64(b"\xab" * 20)})

    def test_failures_are_words(self):
        """Whatever an arm says has failed: an operation and a code, and nobody's name."""
        codes = {"AADSTS7000215": "AADSTS7000215", "CKR_DEVICE_ERROR": "CKR_DEVICE_ERROR",
                 "key usage": "key-usage", "alice@example.com": "other", "a\u00e4": "other",
                 "00000000-0000-4000-8000-000000000001": "other",
                 "00000000000040008000000000000001": "other", "": None}

        def one(code, expected):
            with self.world() as rig:
                self.group(rig, "alice")
                rig.world.fault("up.download", Fail("refused", "alice@example.com is bad", code))
                rig.run_once()
                held = self.last(rig, "enrolment.held")
                self.assertEqual((held["outcome"], held["fail_op"], held.get("fail_code")),
                                 ("refused", "up.download", expected))
                self.nobody_is_named(rig)
        self.each(codes.items(), one)

    def test_failed_and_lost(self):
        rig = self.rig()
        self.group(rig, "alice", "bob")
        rig.world.page = 10
        refused = []

        def key(body):
            if body["enrolment"] == 2:
                refused.append(1)
                raise Fail("refused", "no", "ceiling")
            return rig.world.hsm_key_csr(body)
        rig.world.fault("hsm.key_csr", key, key)

        def buy_and_lose(body):
            rig.world.place(body)
            raise Fail("lost", "time-out", "ETIMEDOUT")
        rig.world.fault("up.order", buy_and_lose)
        rig.run_once(wait=10)
        self.assertEqual(rig.states(), ["ACTIVE", "FAILED"])
        failed = self.last(rig, "enrolment.failed")
        self.assertEqual((failed["enrolment"], failed["outcome"], failed["fail_code"]),
                         (2, "refused", "ceiling"))
        first = [n for n in self.settled(rig) if n.get("enrolment") == 1]
        self.assertEqual([n["event"] for n in first],
                         ["order.lost", "order.placed", "certificate.received", "upload.confirmed"])
        self.assertEqual((first[0]["outcome"], first[0]["fail_code"], "order_id" in first[0]),
                         ("lost", "ETIMEDOUT", False))

    def test_once_for_each_order_and_certificate(self):
        """What is looked for or fetched again isn't another one."""
        rig = self.rig()
        self.group(rig, "alice")
        rig.world.fault("hsm.build_seal", Fail("integrity", "no chain"))
        rig.run_once()
        self.assertEqual(rig.states(), ["HELD"])
        rig.ask("enrolment.retry", enrolment=1)
        rig.wait_for(lambda: rig.states() == ["ACTIVE"])
        self.assertEqual(rig.world.counts["up.download"], 2)
        told = self.events(rig)
        self.assertEqual(told.count("certificate.received"), 1, told)

        rig = self.rig(rules=[dict(RULE, product="internal")])
        world = rig.world
        self.group(rig, "bob")
        held = []

        def foreign(body):
            number = world.up_order_settle(body)["order_id"] if held else world.place(body)
            held.append(body)
            leaf = world.certify(serialization.load_der_public_key(
                world.orders[number]["spki"]), x509.Name([]), ["boss@example.com"])
            return {"order_id": number, "leaf": b64(leaf), "chain": []}
        world.fault("up.order", foreign)
        world.fault("up.order_settle",
                    *[lambda body: dict(foreign(body), found=True, status="issued")] * 2)
        rig.run_once()
        for tries in (2, 3):
            self.assertEqual(rig.states(), ["HELD"])
            rig.ask("enrolment.retry", enrolment=1)
            rig.wait_for(lambda: len(held) == tries and rig.states() == ["HELD"])
        told = self.events(rig)
        self.assertEqual((told.count("order.placed"), told.count("enrolment.held")), (1, 3), told)
        self.assertNotIn("certificate.received", told)

    def test_no_transaction_before_an_order(self):
        rig = self.rig(rules=[dict(RULE, product="internal")])
        self.group(rig, "alice", "bob")
        rig.world.fault("hsm.key_csr", *[Fail("refused", "no", "ceiling")] * 2)
        rig.run_once()
        failed = self.last(rig, "enrolment.failed", 2)
        self.assertNotIn("transaction", failed)

    def test_setup_that_fails(self):
        """What came of it, not that it was asked for."""
        rig = self.rig()
        rig.world.fault("up.setup_ca", Fail("refused", "no", "401"))
        self.assertEqual(rig.ask("setup.digicert")[1], 4)
        rig.ask("setup.digicert")
        told = [n for n in self.settled(rig) if n["event"] == "command"]
        self.assertEqual([(n["name"], n["outcome"], n.get("fail_code")) for n in told],
                         [("setup.digicert", "refused", "401"), ("setup.digicert", "ok", None)])

    def test_received_before_it_is_built(self):
        """Where no other note waits, pfx-hsm gets to know of a certificate no later than of the PFX it
        goes into."""
        rig = self.rig()
        rig.world.at_once = True
        self.group(rig, "alice")

        def told_before(point, kind, _job):
            if (point, kind) == ("job", "up.order"):
                self.settled(rig)
        rig.arms["uploader"].hook = told_before
        arm = rig.arms["hsm"]
        rig.run_once()
        first = next(i for i, kind in enumerate(arm.log) if kind == "hsm.build_seal")
        self.assertEqual(arm.log[first - 1], "hsm.log", arm.log)

    def test_lost_with_its_arm(self):
        rig = self.rig()
        self.group(rig, "alice")
        arm = rig.arms["uploader"]

        def buy_and_die(body):
            rig.world.place(body)
            arm.reborn()
            return {}
        rig.world.fault("up.order", buy_and_die)
        rig.run_once(wait=20)
        lost = self.last(rig, "order.lost")
        self.assertEqual((lost["outcome"], lost["fail_code"]), ("lost", "uploader-gone"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_refused(self):
        rig = self.rig(access="{operators: %s}" % grp.getgrgid(0).gr_name)
        os.chmod(rig.dir, 0o755)
        nobody = pwd.getpwnam("nobody").pw_uid

        def ask(*verbs):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.setgroups([])
                    os.setgid(pwd.getpwnam("nobody").pw_gid)
                    os.setuid(nobody)
                    code = 0 if all(rig.ask(verb)[1] == 4 for verb in verbs) else 2
                finally:
                    os._exit(code)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.chmod(os.path.join(rig.run, "cli"), 0o666)
        self.assertEqual(ask("run", "status", "log.names", "no.such.verb"), 2, "the last is usage")
        rig.wait_for(lambda: len(rig.world.oplog) >= 4)
        told = self.settled(rig)[1:]
        self.assertEqual([(n["event"], n["name"], n["uid"], n["outcome"], n["actor"]) for n in told],
                         [("request.refused", verb, nobody, "refused", "operator")
                          for verb in ("run", "status", "log.names")])


class Names(NotesCase):
    def test_names(self):
        rig = self.rig(rules=[RULE, dict(RULE, name="crypt", purpose="encryption")])
        alice, bob = self.group(rig, "alice", "bob")
        rig.run_once()
        bob["mail"] = "robert@example.com"
        rig.edit("UPDATE enrolment SET addresses = '[\"b.old@example.com\",\"bob@example.com\"]'"
                 " WHERE user = ? AND purpose = 'signing'", bob["id"])
        items, code, _ = rig.ask("log.names")
        self.assertEqual(code, 0)
        self.assertEqual([i["user"] for i in items], sorted(i["user"] for i in items))
        shown = {i["id"]: i for i in items}
        self.assertEqual(set(shown), {alice["id"], bob["id"]})
        for user in (alice, bob):
            item = shown[user["id"]]
            self.assertEqual(hashlib.sha256(bytes.fromhex(item["salt"]) +
                                            user["id"].encode()).hexdigest(), item["user"])
            self.assertEqual(item["upn"], user["upn"])
        self.assertEqual(shown[alice["id"]]["addresses"], ["alice@example.com"])
        self.assertEqual(shown[bob["id"]]["addresses"], ["b.old@example.com", "bob@example.com"])
        self.assertEqual({unb64(n["user"]).hex() for n in self.settled(rig) if "user" in n},
                         set(i["user"] for i in items))
        self.assertEqual(self.settled(rig)[-1]["name"], "log.names")

    def test_many_and_of_an_earlier_store(self):
        """Rows without a hash get theirs at the start; a damaged one is left out."""
        rig = self.rig()
        rig.kill()
        db = sqlite3.connect(rig.state + "/store.db")
        row = "INSERT INTO user(id, hex, upn, enabled, proxies, snapshot_hash, seen_pass, salt)" \
              " VALUES(?, ?, 'x', 1, '[]', x'00', 1, ?)"
        ids = ["%08x-0000-4000-8000-000000000000" % i for i in range(3000)]
        for ident in ids:
            db.execute(row, (ident, ident.replace("-", ""), os.urandom(16)))
        db.execute(row, ("f" * 36, "f" * 32, b"short"))
        db.commit()
        db.close()
        rig.start()
        items, code, _ = rig.ask("log.names")
        self.assertEqual(code, 0)
        self.assertEqual(sorted(i["id"] for i in items), ids)
        hashes = [i["user"] for i in items]
        self.assertEqual(hashes, sorted(hashes))
        for item in items:
            self.assertEqual(hashlib.sha256(bytes.fromhex(item["salt"]) +
                                            item["id"].encode()).hexdigest(), item["user"])


if __name__ == "__main__":
    main()
