"""pfx-agentd after an order: its members, issued at once, long gaps."""

import sqlite3
import sys
import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.dont_write_bytecode = True
from agent_case import DAY, FlowCase, main  # noqa: E402
from agent_rig import GROUP, RULE, Fail, Silent, b64, now_ms  # noqa: E402

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
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'") == [(0,)])
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
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'") == [(0,)])
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


if __name__ == "__main__":
    main()
