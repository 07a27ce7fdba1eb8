"""pfx-agentd after an order: issued at once, long gaps, records removed, verbs."""

import sqlite3
import sys
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.dont_write_bytecode = True
from agent_case import DAY, FlowCase, main  # noqa: E402
from agent_rig import GROUP, GROUP2, RULE, Fail, Line, Silent, b64, now_ms  # noqa: E402

# The sweep is slow enough to stay out of the way; tests that want it set it to a few milliseconds.
QUICK = {"sweep_every": "200ms"}


def rule(**more):
    return dict(RULE, **more)


class AfterCase(FlowCase):
    def delivered(self, names=("alice",), schedule=None, **more):
        """A rig whose users are ACTIVE under a rule with these settings."""
        rig = self.rig(rules=[rule(**more)], schedule=schedule or QUICK)
        self.group(rig, *names)
        self.assertEqual(rig.run_once()[1], 0)
        self.assertEqual(rig.states(), ["ACTIVE"] * len(names))
        return rig

    def decision(self, rig, name="alice"):
        return self.plans(rig.run_once(dry_run=True)[0])[name]

    def waits(self, rig, word):
        return [i for i in rig.ask("status")[0] if i["kind"] == "wait" and word in i["what"]]

    def heard(self, rig, number=1):
        rig.wait_for(lambda: rig.sql("SELECT revoked_at FROM enrolment WHERE id = ? AND revoked_at"
                                     " IS NOT NULL", number), what="revocation applied")


class Orders(AfterCase):
    def test_members_of_the_order(self):
        """What the rule says goes to the CA, and only what the product takes."""
        rows = [
            (rule(), {"profile_type": "strict"}, ("common_name", "first_name", "comment",
                                                  "organization", "renewal_of")),
            (rule(product="client_premium", organization=7, non_repudiation="true",
                  client_auth="true", comment="cost centre 5",
                  custom_fields="[{id: 11, value: blue}, {id: 12, value: \"4\"}]"),
             {"common_name": "Alice Example", "first_name": "Alice", "last_name": "Example",
              "common_name_indicator": "given_name_surname", "profile_type": "multipurpose",
              "comment": "cost centre 5", "additional_usages": ["non_repudiation", "client_auth"],
              "custom_fields": [{"id": 11, "value": "blue"}, {"id": 12, "value": "4"}]}, ()),
            (rule(product="client_authentication_plus", organization=7),
             {"common_name": "Alice Example"}, ("first_name", "common_name_indicator")),
            (rule(product="class1_smime"), {}, ("common_name", "first_name")),
            (rule(product="internal"), {}, ("common_name", "first_name", "profile_type")),
            (rule(product="secure_email_sponsor", organization=7, common_name="pseudonym"),
             {"pseudonym": "Alice", "first_name": "Alice"}, ("common_name",)),
            (rule(product="client_premium", organization=7, common_name="pseudonym"),
             {"pseudonym": "Alice", "first_name": "Alice"}, ("common_name",)),
        ]

        def one(conf, sent, absent):
            with self.world(rules=[conf]) as rig:
                self.group(rig, "alice")
                self.assertEqual(rig.run_once()[1], 0)
                body = rig.world.orders[5000]["body"]
                self.assertEqual({k: body.get(k) for k in sent}, sent)
                self.assertFalse([k for k in absent if k in body])
        self.each(rows, one)

    def test_long_common_name(self):
        rig = self.rig(rules=[rule(product="client_authentication_plus", organization=7)])
        rig.world.groups[GROUP] = [rig.world.user("al", given="A" * 40, surname="B" * 30)]
        items, code, _ = rig.run_once()
        self.assertEqual((code, rig.world.bought), (1, []))
        why = [i["why"] for i in items if i["kind"] == "trouble"][0]
        self.assertIn("64", why)

    def test_renewal(self):
        """The newest order that was delivered and not revoked; without the option: none."""
        for renewal in ("true", "false"):
            with self.subTest(renewal=renewal):
                rig = self.delivered(renewal=renewal)
                rig.edit("UPDATE enrolment SET expires = ?", now_ms() + 3 * DAY)
                rig.world.records.clear()
                rig.run_once()
                body = rig.world.orders[5001]["body"]
                self.assertEqual(body.get("renewal_of"), 5000 if renewal == "true" else None)

    def test_revoked_order_isnt_renewed(self):
        rig = self.delivered(renewal="true", on_revoked="enrol_again")
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        rig.run_once()
        self.assertNotIn("renewal_of", rig.world.orders[5001]["body"])

    def test_order_revoked_before_its_renewal_leaves(self):
        rig = self.delivered(renewal="true")
        rig.edit("UPDATE enrolment SET expires = ?", now_ms() + 3 * DAY)
        rig.world.records.clear()
        rig.ask("pause", orders=True)
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE", "KEYED"])
        self.assertEqual(rig.sql("SELECT renewal_of FROM enrolment WHERE id = 2"), [(5000,)])
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        rig.ask("resume", orders=True)
        rig.run_once()
        self.assertNotIn("renewal_of", rig.world.orders[5001]["body"])

    def test_answered_at_once(self):
        rig = self.rig()
        rig.world.at_once = True
        self.group(rig, "alice")
        self.assertEqual(rig.run_once()[1], 0)
        self.assertEqual(rig.states(), ["ACTIVE"])
        self.assertNotIn("up.download", rig.world.counts)
        self.assertTrue([h for h in rig.show(1)["history"] if "KEYED -> CHECKED" in h])

    def test_settled_with_its_certificate(self):
        rig = self.rig()
        world = rig.world
        self.group(rig, "alice")

        def lose(body):
            world.place(body)
            raise Fail("lost")

        def found(body):
            return dict(world.up_order_settle(body), **world.up_download({"order_id": 5000}))
        world.fault("up.order", lose)
        world.fault("up.order_settle", found)
        self.assertEqual(rig.run_once(wait=10)[1], 0)
        self.assertEqual((rig.states(), len(world.bought)), (["ACTIVE"], 1))
        self.assertNotIn("up.download", world.counts)

    def test_wrong_certificate_at_once(self):
        """Not taken, and never ordered again: downloaded like any other, or held with the settle
        job where the CA has no download."""
        for product, expected in (("secure_email_mailbox", "ACTIVE"), ("internal", "HELD")):
            with self.subTest(product=product):
                rig = self.rig(rules=[rule(product=product)])
                world = rig.world
                self.group(rig, "alice")

                def foreign(body):
                    number = world.place(body)
                    leaf = world.certify(serialization.load_der_public_key(
                        world.orders[number]["spki"]), x509.Name([]), ["boss@example.com"])
                    return {"order_id": number, "leaf": b64(leaf), "chain": []}
                world.fault("up.order", foreign)
                rig.run_once(wait=5)
                self.assertEqual((rig.states(), len(world.bought)), ([expected], 1))
                if expected == "HELD":
                    self.assertIn("addresses", rig.enrolments()[0]["why"])
                    rig.ask("enrolment.retry", enrolment=1)
                    rig.run_once(wait=5)
                    self.assertEqual(world.counts["up.order"], 1)
                    self.assertGreaterEqual(world.counts["up.order_settle"], 1)


class Gap(AfterCase):
    def away(self, rig, days):
        """As if the last poll had been so long ago, and every order older."""
        rig.kill()
        rig.edit("UPDATE meta SET value = value - ? WHERE key IN ('poll_ok', 'poll_answered')",
                 days * DAY)

    def long_ago(self, rig, days):
        rig.edit("UPDATE enrolment SET ordered_at = ordered_at - ?1, sent_first = sent_first - ?1,"
                 " sent_last = sent_last - ?1", days * DAY)

    def test_ten_days_with_300_orders(self):
        rig = self.rig(schedule={"poll_every": "1h", "sweep_every": "1h", "validation_every": "6d"})
        world = rig.world
        world.list_page = 100
        world.auto_issue = False
        self.group(rig, "alice")
        rig.run_once()
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job") == [(0,)])
        self.multiply(rig, 300)
        world.orders[5000]["status"] = "issued"  # and no news says so any more
        for number in range(5100, 5150):
            world.orders[number]["status"] = "rejected"
        world.foreign = 450
        self.long_ago(rig, 11)
        world.counts.clear()
        self.away(rig, 10)
        rig.wait_for(lambda: rig.states().count("ENDED") == 50 and
                     rig.states().count("ACTIVE") == 1, 30)
        self.assertEqual(rig.states().count("ORDERED"), 249)
        self.assertEqual(world.counts["up.orders"], 3, "what is older than ours isn't read")
        self.assertEqual(world.counts["up.order_changes"], 1)
        self.assertNotIn("up.order_info", world.counts)

    def multiply(self, rig, total):
        """As many orders as that, of users made up from the first one's rows."""
        columns = [c[1] for c in rig.sql("PRAGMA table_info(enrolment)")]
        own = {"id": "?1", "user": "?2", "order_id": "?3"}
        rig.kill()
        db = sqlite3.connect(rig.state + "/store.db")
        for number in range(2, total + 1):
            user, order = "00000000-0000-4000-8000-%012d" % number, 4999 + number
            db.execute("INSERT INTO user(id, hex, upn, enabled, proxies, snapshot_hash, seen_pass,"
                       " salt) SELECT ?1, ?2, ?1, 1, '[]', x'00', 1, salt FROM user LIMIT 1",
                       (user, user.replace("-", "")))
            db.execute("INSERT INTO enrolment(%s) SELECT %s FROM enrolment WHERE id = 1" % (
                ", ".join(columns), ", ".join(own.get(c, c) for c in columns)),
                (number, user, order))
            rig.world.orders[order] = dict(rig.world.orders[5000])
        db.commit()
        db.close()
        rig.start()

    def test_delivered_ones_too(self):
        rig = self.delivered(["a", "b", "c"], schedule={"sweep_every": "1h"}, on_revoked="remove")
        rig.world.orders[5001]["status"] = "revoked"
        self.away(rig, 8)
        rig.wait_for(lambda: rig.states() == ["ACTIVE", "ENDED", "ACTIVE"])
        rig.wait_for(lambda: rig.world.counts["up.orders"] == 2)

    def test_not_in_the_list(self):
        """Asked for singly, one in five seconds."""
        rig = self.delivered(["a", "b"], schedule={"sweep_every": "1h"}, on_revoked="remove")
        rig.world.unlisted = {5000, 5001}
        rig.world.orders[5000]["status"] = "revoked"
        self.away(rig, 8)
        rig.wait_for(lambda: rig.world.counts.get("up.orders") == 1)
        time.sleep(1)
        self.assertNotIn("up.order_info", rig.world.counts)
        rig.wait_for(lambda: rig.states() == ["ENDED", "ACTIVE"])
        self.assertEqual(rig.world.counts["up.order_info"], 1)

    def test_goes_on_after_a_restart(self):
        rig = self.delivered(["a", "b", "c", "d", "e"], schedule={"sweep_every": "1h"})
        world = rig.world
        world.orders[5000]["status"] = "revoked"  # on the last page
        pages = []

        def second(body):
            pages.append(body.get("page"))
            raise Silent()
        world.fault("up.orders", None, second)
        self.away(rig, 8)
        rig.wait_for(lambda: pages)
        rig.arms["uploader"].reborn()
        rig.restart()
        self.heard(rig)
        self.assertEqual(pages, ["2"])
        self.assertEqual(world.counts["up.orders"], 4, "the first page isn't read again")

    def test_failing_poll_reads_the_list_once(self):
        rig = self.delivered(["a", "b", "c"], schedule={"sweep_every": "1h", "retry_min": "300ms",
                                                        "retry_max": "300ms"})
        rig.world.counts.clear()
        rig.world.fault("up.order_changes", *[Fail("transient")] * 4)
        self.away(rig, 8)
        rig.wait_for(lambda: rig.world.counts.get("up.order_changes") == 5)
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job") == [(0,)])
        self.assertEqual(rig.world.counts["up.orders"], 2)

    def test_question_about_a_held_one(self):
        """What it is held for stays to be read."""
        rig = self.rig(schedule={"sweep_every": "1h"})
        self.group(rig, "alice")
        rig.world.fault("up.download", Fail("refused", "the chain is broken"))
        rig.run_once()
        rig.world.unlisted = {5000}
        rig.world.fault("up.order_info", Fail("refused", "no such order"))
        self.away(rig, 8)
        rig.edit("UPDATE enrolment SET info_at = 1")
        rig.wait_for(lambda: "no such order" in "".join(rig.show(1)["history"]))
        self.assertIn("the chain is broken", rig.enrolments()[0]["why"])

    def test_refused_list(self):
        rig = self.delivered(schedule={"sweep_every": "1h"})
        rig.world.orders[5000]["status"] = "revoked"
        rig.world.fault("up.orders", Fail("refused", "no right to list orders", "403"))
        self.away(rig, 8)
        rig.wait_for(lambda: "no right to list" in str(rig.ask("status")[0]))
        self.heard(rig)
        self.assertFalse([i for i in rig.ask("status")[0] if i["kind"] == "trouble"])


class Removals(AfterCase):
    def record(self, rig):
        return rig.ask("record.list")[0][0]

    def test_list(self):
        rig = self.delivered(["alice", "bob"])
        foreign = "f" * 32 + "-" + "ab" * 20
        rig.world.records[foreign] = {"id": foreign, "thumbprint": "ab" * 20, "purpose": "vpn",
                                      "upn": "zoe@example.com", "expires": now_ms() + DAY}
        rig.run_once()
        items, code, _ = rig.ask("record.list")
        self.assertEqual((code, len(items)), (0, 3))
        ours = {i["upn"].split("@")[0]: i for i in items}
        self.assertEqual((ours["alice"]["enrolment"], ours["bob"]["enrolment"]), (1, 2))
        self.assertEqual((ours["zoe"].get("enrolment"), ours["zoe"]["state"]), (None, "there"))
        self.assertEqual(ours["alice"]["key_name"], "pfx-test")
        self.assertEqual([i["upn"] for i in rig.ask("record.list", user="BOB@example.com")[0]],
                         ["bob@example.com"])
        self.assertEqual(len(rig.ask("record.list", id=foreign)[0]), 1)

    def test_operator_removes_ours(self):
        rig = self.delivered()
        rig.run_once()
        ident = self.record(rig)["id"]
        items, code, _ = rig.ask("record.remove", id=ident)
        self.assertEqual((code, items[0]["state"]), (0, "removing"))
        rig.wait_for(lambda: not rig.world.records)
        rig.wait_for(lambda: self.record(rig)["state"] == "gone")
        self.assertEqual(rig.states(), ["ENDED"])
        self.assertIn("removed by operator", rig.enrolments()[0]["why"])
        self.assertIn("(uid ", rig.enrolments()[0]["why"])
        # No pass builds or orders it again, before somebody says so.
        plan = self.decision(rig)
        self.assertEqual(plan["decision"], "skip")
        self.assertIn("removed by operator", plan["why"])
        rig.run_once()
        rig.run_once()
        self.assertEqual((rig.world.records, len(rig.world.bought)), ({}, 1))
        self.assertEqual(rig.ask("enrolment.retry", enrolment=1)[1], 0)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.records)), (["ENDED", "ACTIVE"], 1))

    def test_foreign_and_unknown(self):
        rig = self.delivered()
        foreign = "f" * 32 + "-" + "ab" * 20
        rig.world.records[foreign] = {"id": foreign, "thumbprint": "ab" * 20, "purpose": "vpn",
                                      "upn": "zoe@example.com"}
        for args in ({"id": "no-such-record"}, {"user": "alice@example.com"}, {}):
            self.assertEqual(rig.ask("record.remove", **args)[1], 2)
        self.assertEqual(rig.ask("record.remove", id=foreign)[1], 2, "not read yet")
        rig.run_once()
        self.assertEqual(rig.ask("record.remove", id=foreign)[1], 0)
        rig.wait_for(lambda: foreign not in rig.world.records)
        self.assertEqual(rig.states(), ["ACTIVE"])

    def test_in_work_is_refused(self):
        rig = self.delivered()
        rig.world.records.clear()
        rig.world.fault("up.import", *[Fail("transient")] * 100)
        time.sleep(0.05)
        rig.run_once()
        self.assertEqual(rig.states(), ["SEALED"])
        ident = rig.enrolments()[0]["record_id"]
        _, code, error = rig.ask("record.remove", id=ident)
        self.assertEqual(code, 4)
        self.assertIn("works on this record", error["text"])

    def test_lingers(self):
        rig = self.delivered()
        rig.run_once()
        rig.world.lingers = 3
        rig.ask("record.remove", id=self.record(rig)["id"])
        rig.wait_for(lambda: rig.world.counts.get("up.remove", 0) >= 2)
        self.assertTrue(self.waits(rig, "remove records from Intune"))
        rig.wait_for(lambda: not rig.world.records)
        self.assertEqual(rig.world.counts["up.remove"], 4)
        rig.wait_for(lambda: not self.waits(rig, "remove"))

    def test_lingers_for_days(self):
        rig = self.delivered()
        rig.run_once()
        rig.world.lingers = 10 ** 6
        rig.ask("record.remove", id=self.record(rig)["id"])
        self.assertNotIn("for days", str(self.waits(rig, "records")))
        rig.edit("UPDATE removal SET asked_at = asked_at - ?", 3 * DAY)
        shown = self.waits(rig, "for days")
        self.assertEqual((shown[0]["who"], shown[0]["count"]), ("Microsoft", 1))
        self.assertIn("record list", shown[0]["next"])
        # And Intune's list with the record in it doesn't count it as one.
        self.assertIn("removed by", self.decision(rig)["why"])

    def test_job_that_is_lost(self):
        rig = self.delivered()
        rig.run_once()
        rig.world.lingers = 10 ** 6
        rig.ask("record.remove", id=self.record(rig)["id"])
        rig.wait_for(lambda: rig.world.counts.get("up.remove"))
        rig.world.lingers = 0
        rig.edit("DELETE FROM job")
        rig.wait_for(lambda: not rig.world.records)
        rig.wait_for(lambda: self.record(rig)["state"] == "gone")

    def test_paused(self):
        """Whoever stops the uploads stops the removals."""
        rig = self.delivered(["alice", "bob"], on_revoked="remove")
        rig.ask("pause", uploads=True)
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        time.sleep(0.3)
        self.assertEqual((len(rig.world.records), rig.world.counts.get("up.remove")), (2, None))
        rig.ask("resume", uploads=True)
        rig.wait_for(lambda: len(rig.world.records) == 1)

    def test_refused(self):
        rig = self.delivered()
        rig.run_once()
        rig.world.fault("up.remove", Fail("refused", "Insufficient privileges", "403"))
        rig.ask("record.remove", id=self.record(rig)["id"])
        rig.wait_for(lambda: self.waits(rig, "Insufficient privileges"))
        rig.wait_for(lambda: not rig.world.records)

    def test_shown_again_after_it_went(self):
        rig = self.delivered()
        rig.run_once()
        kept = dict(rig.world.records)
        rig.ask("record.remove", id=self.record(rig)["id"])
        rig.wait_for(lambda: self.record(rig)["state"] == "gone")
        rig.world.records.update(kept)
        rig.run_once(dry_run=True)
        self.assertEqual(self.record(rig)["state"], "there")
        self.assertIn("in Intune's list again", rig.log())


class Verbs(AfterCase):
    def test_revoke(self):
        rig = self.delivered(on_revoked="remove", schedule={"sweep_every": "1h"})
        items, code, _ = rig.ask("enrolment.revoke", enrolment=1, reason="laptop stolen")
        self.assertEqual((code, items[0]["enrolment"]), (0, 1))
        self.assertIn("asked to revoke", items[0]["why"])
        rig.wait_for(lambda: rig.states() == ["ENDED"])
        self.assertEqual(rig.world.revoked, [{"order_id": 5000, "comment": "laptop stolen"}])
        rig.wait_for(lambda: not rig.world.records)
        history = "".join(rig.show(1)["history"])
        self.assertIn("laptop stolen", history)
        self.assertIn("operator", history)
        self.assertEqual(rig.ask("enrolment.revoke", enrolment=1, reason="x")[1], 4)
        self.assertEqual(rig.ask("enrolment.revoke", enrolment=9, reason="x")[1], 2)

    def test_revoke_needs_an_approval(self):
        rig = self.delivered()
        rig.world.approval = True
        rig.ask("enrolment.revoke", enrolment=1, reason="left")
        rig.wait_for(lambda: "approval" in rig.enrolments()[0]["why"])
        self.assertEqual(rig.states(), ["ACTIVE"])
        rig.world.set_status(5000, "revoked")
        self.heard(rig)

    def test_revoke_answers(self):
        rig = self.delivered()
        rig.world.fault("up.order_revoke", Fail("transient"), Fail("refused", "Only an issued order"))
        rig.ask("enrolment.revoke", enrolment=1, reason="left")
        rig.wait_for(lambda: "Only an issued order" in rig.enrolments()[0]["why"])
        self.assertEqual(rig.world.counts["up.order_revoke"], 2)

        def lost(body):
            rig.world.up_order_revoke(body)
            raise Fail("lost")
        rig.world.fault("up.order_revoke", lost)
        rig.ask("enrolment.revoke", enrolment=1, reason="left")
        self.heard(rig)
        self.assertEqual(rig.world.counts["up.order_revoke"], 3, "not again after a lost answer")

    def test_resend(self):
        rig = self.rig()
        rig.world.auto_issue = False
        self.group(rig, "alice")
        rig.run_once()
        self.assertEqual(rig.ask("enrolment.resend", enrolment=1)[1], 0)
        rig.wait_for(lambda: "sends its mail again" in "".join(rig.show(1)["history"]))
        rig.world.fault("up.order_resend", Fail("refused", "not for this product", "404"))
        rig.ask("enrolment.resend", enrolment=1)
        rig.wait_for(lambda: "not for this product" in "".join(rig.show(1)["history"]))
        self.assertEqual(rig.states(), ["ORDERED"])
        rig.world.set_status(5000, "issued")
        rig.wait_for(lambda: rig.states() == ["ACTIVE"])
        self.assertEqual(rig.ask("enrolment.resend", enrolment=1)[1], 4)

    def test_setup(self):
        rig = self.rig(rules=[
            rule(product="secure_email_sponsor", organization=7, payment="balance",
                 custom_fields="[{id: 11, value: x}]"),
            rule(name="other", group=GROUP2), rule(name="third", purpose="encryption")])
        rig.ask("pause", orders=True)
        rig.world.findings = [{"what": "key", "level": "ok", "text": "good"},
                              {"what": "product", "level": "warn", "text": "hm", "next": "click",
                               "command": "az\n  login"}]
        items, code, _ = rig.ask("setup.digicert")
        self.assertEqual((code, items), (0, rig.world.findings))
        self.assertEqual(rig.world.setup[0]["products"], [
            {"rule": "staff", "product": "secure_email_sponsor", "organization": 7,
             "payment_method": "balance", "custom_fields": ["11"]},
            {"rule": "other", "product": "secure_email_mailbox", "custom_fields": []},
            {"rule": "third", "product": "secure_email_mailbox", "custom_fields": []}])
        rig.world.findings = [{"what": "%d" % i, "level": "ok", "text": "t" * 600}
                              for i in range(1500)] + [{"what": "x", "level": "bad", "text": "no"}]
        items, code, _ = rig.ask("setup.entra")
        self.assertEqual((code, len(items)), (1, 1501))
        self.assertEqual(rig.world.setup[1], {"groups": [GROUP, GROUP2], "mailboxes": False,
                                              "mail": False})
        rig.world.fault("up.setup_ca", Fail("refused", "the API key isn't accepted", "401"))
        _, code, error = rig.ask("setup.digicert")
        self.assertEqual(code, 4)
        self.assertIn("API key", error["text"])
        self.assertEqual(rig.sql("SELECT count(*) FROM job"), [(0,)])

    def test_two_setups_at_once_and_one_that_leaves(self):
        rig = self.rig()
        results = []

        def slow(body):
            time.sleep(0.3)
            return {"findings": [{"what": "a", "level": "ok", "text": "b"}]}
        rig.world.fault("up.setup_ca", slow, slow, slow)
        line = Line(rig.run + "/cli")
        line.send("req", id=1, verb="setup.digicert", args={})
        time.sleep(0.1)
        line.close()
        threads = [threading.Thread(target=lambda: results.append(rig.ask("setup.digicert")))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([(len(i), c) for i, c, _ in results], [(1, 0), (1, 0)])
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job") == [(0,)])
        self.assertEqual(rig.ask("status")[1], 0)

    def test_setup_left_alone(self):
        """Whoever asked is gone before an uploader came: it isn't asked."""
        rig = self.rig(arms=False)
        line = Line(rig.run + "/cli")
        line.send("req", id=1, verb="setup.digicert", args={})
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job WHERE scope LIKE 'setup%'") == [(1,)])
        line.close()
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job WHERE scope LIKE 'setup%'") == [(0,)])

    def test_setup_without_uploader(self):
        rig = self.rig(arms=False, options=["--patience", "9"])
        start = time.time()
        _, code, error = rig.ask("setup.entra")
        self.assertEqual(code, 5)
        self.assertIn("isn't connected", error["text"])
        self.assertGreater(time.time() - start, 1)
        self.assertEqual(rig.sql("SELECT count(*) FROM job"), [(0,)])
        rig.edit("INSERT INTO job(scope, arm, kind, payload, not_before, created_at) VALUES"
                 "('setup/x', 'uploader', 'up.setup_ca', '{\"products\":[]}', 1, 1)")
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE scope LIKE 'setup%'"), [(0,)])


if __name__ == "__main__":
    main()
