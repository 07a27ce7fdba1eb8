"""The flow of pfx-agentd from a group to active records: passes, rules, polls, verbs."""

import sys
import time

sys.dont_write_bytecode = True
from agent_case import DAY, FlowCase, main  # noqa: E402, F401
from agent_rig import (Fail, GROUP, GROUP2, Line, RULE, now_ms,  # noqa: E402, F401
                       unb64)


class Passes(FlowCase):
    def test_whole_flow(self):
        rig = self.rig()
        self.group(rig, "alice", "bob", "carol", "dora", "emil")
        items, code, error = rig.run_once()
        self.assertEqual((code, error), (0, None))
        self.assertEqual(rig.states(), ["ACTIVE"] * 5)
        self.assertEqual(self.summary(items)["finished"], 5)
        self.assertEqual(self.summary(items)["ordered"], 5)
        self.assertEqual(len(rig.world.bought), 5)
        self.assertEqual(len(rig.world.records), 5)
        self.assertEqual(rig.sql("SELECT count(*) FROM parcel")[0][0], 0)
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'")[0][0], 0)
        # Erased means erased: neither the file nor its log holds the sealed password any more.
        for name in ("store.db", "store.db-wal"):
            with open(rig.state + "/" + name, "rb") as file:
                data = file.read()
            for pfx, sealed in rig.world.parcels.values():
                self.assertNotIn(unb64(pfx), data)
                self.assertNotIn(unb64(sealed), data)
        # A second run has nothing to do, and a UPN change never orders again.
        rig.world.groups[GROUP][0]["upn"] = "alice.married@example.com"
        items, code, _ = rig.run_once()
        self.assertEqual(code, 0)
        self.assertEqual(len(rig.world.bought), 5)
        self.assertEqual(rig.enrolments()[0]["upn"], "alice.married@example.com")

    def test_who_is_enrolled(self):
        rig = self.rig()
        user = rig.world.user
        valid = user("valid")
        ending = user("ending")
        other = user("other")
        later = now_ms() + 5 * DAY
        rig.world.groups[GROUP] = [
            user("plain", mail="Plain@example.com",
                 proxies=["SMTP:plain@EXAMPLE.com", "smtp:alias@example.com", "SIP:x@example.com",
                          "smtp:plain@contoso.onmicrosoft.com", "X500:/o=x"]),
            user("disabled", enabled=False), user("future", hire_date=later),
            user("tomorrow", hire_date=now_ms() + DAY - 60000), valid, ending, other,
            user("nomail", mail=None), user("umlaut", mail="müller@example.com"),
            user("broken", mail="not an address"),
            user("micro", mail="micro@contoso.onmicrosoft.com"),
            user("many", proxies=["smtp:a%d@example.com" % i for i in range(64)])]
        for who, purpose, days in ((valid, "smimeSigning", 60), (ending, "smimeSigning", 20),
                                   (other, "smimeEncryption", 60)):
            key = who["id"].replace("-", "") + "-" + "ab" * 20
            rig.world.records[key] = {"id": key, "thumbprint": "ab" * 20, "purpose": purpose,
                                      "upn": "former@example.com", "expires": now_ms() + days * DAY}
        items, code, _ = rig.run_once(dry_run=True)
        self.assertEqual(code, 0)
        plans = self.plans(items)
        decisions = {name: plan["decision"] for name, plan in plans.items()}
        self.assertEqual(decisions, {
            "plain": "order", "disabled": "skip", "future": "wait", "tomorrow": "order",
            "valid": "skip", "ending": "order", "other": "order", "nomail": "refuse",
            "umlaut": "refuse", "broken": "refuse", "micro": "refuse", "many": "refuse"})
        self.assertEqual(plans["plain"]["addresses"], ["Plain@example.com", "alias@example.com"])
        self.assertEqual(rig.enrolments(), [], "a dry run creates nothing")
        self.assertEqual(rig.world.bought, [])
        # The others go on, and the run says that some are in trouble.
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertEqual(rig.states(), ["ACTIVE"] * 4)
        troubles = {i["user"].split("@")[0]: i for i in items if i["kind"] == "trouble"}
        self.assertEqual(sorted(troubles), ["broken", "many", "micro", "nomail", "umlaut"])
        self.assertIn("müller@example.com", troubles["umlaut"]["why"])
        self.assertIn("Entra ID", troubles["umlaut"]["next"])
        shown = [i for i in rig.ask("status")[0] if i["kind"] == "trouble"]
        self.assertEqual(len(shown), 5)

    def test_two_rules(self):
        second = dict(RULE, name="crypt", group=GROUP2, purpose="encryption")
        third = dict(RULE, name="again", group=GROUP2)
        rig = self.rig(rules=[RULE, second, third])
        alice, bob = rig.world.user("alice"), rig.world.user("bob")
        rig.world.groups = {GROUP: [alice], GROUP2: [alice, bob]}
        _, code, _ = rig.run_once()
        self.assertEqual(code, 0)
        got = sorted((e["upn"].split("@")[0], e["rule"], e["purpose"]) for e in rig.enrolments())
        self.assertEqual(got, [("alice", "crypt", "encryption"), ("alice", "staff", "signing"),
                               ("bob", "again", "signing"), ("bob", "crypt", "encryption")])
        purposes = sorted(r["purpose"] for r in rig.world.records.values())
        self.assertEqual(purposes, ["smimeEncryption"] * 2 + ["smimeSigning"] * 2)

    def test_sponsor_names(self):
        rule = dict(RULE, product="secure_email_sponsor", organization=112233)
        rig = self.rig(rules=[rule])
        user = rig.world.user
        rig.world.groups[GROUP] = [user("joerg", given="Jörg", surname="Müßig"),
                                   user("igor", given="Игорь", surname="Достоевский"),
                                   user("none", surname=None), user("emo", given="🙂")]
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        sent = {o["emails"][0].split("@")[0]: o["body"] for o in rig.world.orders.values()}
        self.assertEqual(sent["joerg"]["first_name"], "Joerg")
        self.assertEqual(sent["joerg"]["last_name"], "Muessig")
        self.assertEqual(sent["igor"]["last_name"], "Dostoevskij")
        self.assertEqual(sent["joerg"]["common_name_indicator"], "given_name_surname")
        self.assertEqual(sorted(sent), ["igor", "joerg"])
        troubles = {i["user"].split("@")[0]: i["why"] for i in items if i["kind"] == "trouble"}
        self.assertIn("surname", troubles["none"])
        self.assertIn("🙂", troubles["emo"])

    def test_group_refused(self):
        second = dict(RULE, name="other", group=GROUP2)
        rig = self.rig(rules=[RULE, second])
        alice, bob = rig.world.user("alice"), rig.world.user("bob")
        rig.world.groups = {GROUP: [alice], GROUP2: [bob]}
        rig.ask("pause", orders=True)
        rig.run_once()
        self.assertEqual(rig.states(), ["KEYED", "KEYED"])
        rig.world.groups[GROUP] = Fail("refused", "no such group", "404")
        rig.world.groups[GROUP2] = []
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertTrue([i for i in items if i["kind"] == "trouble" and i["name"] == "rule:staff"])
        states = {e["upn"].split("@")[0]: e for e in rig.enrolments()}
        self.assertEqual(states["alice"]["state"], "KEYED", "an unreadable group removes nobody")
        self.assertEqual(states["bob"]["state"], "ENDED", "who left before the order is ended")
        # Back again: served at once, by a new enrolment with a number of its own.
        rig.world.groups = {GROUP: [alice], GROUP2: [bob]}
        rig.ask("resume", orders=True)
        _, code, _ = rig.run_once()
        self.assertEqual(sorted(rig.states()), ["ACTIVE", "ACTIVE", "ENDED"])
        self.assertFalse([i for i in rig.ask("status")[0] if i["kind"] == "trouble"])

    def test_records_refused_orders_nothing(self):
        rig = self.rig()
        self.group(rig, "alice")
        rig.world.fault("up.records", Fail("refused", "no permission", "403"))
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertEqual(rig.enrolments(), [])
        self.assertEqual(self.plans(items)["alice"]["decision"], "wait")

    def test_record_gone_is_rebuilt(self):
        rig = self.rig()
        self.group(rig, "alice")
        rig.run_once()
        rig.world.records.clear()
        time.sleep(0.05)
        _, code, _ = rig.run_once()
        self.assertEqual((code, rig.states()), (0, ["ACTIVE"]))
        self.assertEqual((len(rig.world.records), len(rig.world.bought)), (1, 1))
        self.assertEqual(rig.world.counts["hsm.key_csr"], 1)

    def test_scheduled_pass(self):
        rig = self.rig(schedule={"pass_every": "1s"})
        self.group(rig, "alice")
        rig.wait_for(lambda: rig.states() == ["ACTIVE"], 15)

    def test_caps_and_release(self):
        rig = self.rig(max_orders_per_pass=2, max_orders_per_day=3)
        self.group(rig, "a", "b", "c", "d", "e")
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertEqual(sorted(rig.states()), ["ACTIVE"] * 2 + ["HELD"] * 3)
        self.assertEqual(self.summary(items)["held"], 3)
        waits = [i for i in rig.ask("status")[0] if i["kind"] == "wait"]
        self.assertEqual(waits[0]["who"], "operator")
        self.assertIn("release", waits[0]["next"])
        rig.run_once()  # never by itself
        self.assertEqual(len(rig.world.bought), 2)
        held = [e["enrolment"] for e in rig.enrolments() if e["state"] == "HELD"]
        _, code, error = rig.ask("enrolment.retry", enrolment=held[0])
        self.assertEqual(code, 4)
        self.assertIn("release", error["text"])
        items, code, _ = rig.ask("enrolment.release", state="HELD")
        self.assertEqual((code, len(items)), (0, 3))
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE"] * 5)
        rig.world.groups[GROUP].append(rig.world.user("f"))
        rig.run_once()
        self.assertEqual(rig.enrolments()[-1]["state"], "HELD", "over the day's budget")

    def test_second_run_is_refused(self):
        rig = self.rig(arms=False)
        line = Line(rig.run + "/cli")
        line.send("req", id=7, verb="run", args={})
        time.sleep(0.2)
        _, code, error = rig.run_once()
        self.assertEqual(code, 5)
        self.assertIn("another run", error["text"])
        line.close()
        rig.start_arms()
        time.sleep(0.3)
        self.group(rig, "alice")
        self.assertEqual(rig.run_once()[1], 0)

    def test_missing_arm_ends_run(self):
        rig = self.rig(arms=False, options=["--patience", "6"])
        start = time.time()
        _, code, error = rig.run_once()
        self.assertEqual(code, 5)
        self.assertIn("isn't connected", error["text"])
        self.assertGreater(time.time() - start, 1.5)


class Orders(FlowCase):
    def test_pending_and_validation(self):
        rig = self.rig()
        rig.world.auto_issue = False
        alice, bob = self.group(rig, "alice", "bob")
        rig.world.unvalidated = [alice["mail"]]
        items, code, _ = rig.run_once()
        self.assertEqual(code, 0)
        self.assertEqual(self.summary(items)["waiting"], 2)
        rig.wait_for(lambda: [e for e in rig.enrolments() if e.get("unvalidated")])
        first = rig.enrolments()[0]
        self.assertEqual(first["unvalidated"], [alice["mail"]])
        waits = {i["who"] for i in rig.ask("status")[0] if i["kind"] == "wait"}
        self.assertEqual(waits, {"user", "CA"})
        rig.world.unvalidated = []
        rig.world.set_status(5000, "issued")
        rig.world.set_status(5001, "issued")
        _, code, _ = rig.run_once(wait=20)
        self.assertEqual((code, rig.states()), (0, ["ACTIVE", "ACTIVE"]))

    def test_one_poll_for_all(self):
        rig = self.rig(schedule={"poll_every": "1h", "validation_every": "1h"})
        rig.world.auto_issue = False
        self.group(rig, *["u%d" % i for i in range(12)])
        rig.run_once()
        self.assertEqual(rig.world.counts["up.order_changes"], 1)
        self.assertNotIn("up.order_info", rig.world.counts)
        rig.wait_for(lambda: rig.world.counts.get("up.order_validation") == 12)
        self.assertEqual(rig.world.counts["up.order_changes"], 1)

    def test_ended_orders(self):
        rig = self.rig()
        rig.world.auto_issue = False
        self.group(rig, "a", "b", "c", "d", "e", "f")
        rig.run_once()
        words = ["rejected", "denied", "canceled", "revoked", "expired", "who_knows"]
        for number, word in enumerate(words):
            rig.world.set_status(5000 + number, word)
        rig.wait_for(lambda: rig.states() == ["ENDED"] * 5 + ["ORDERED"])
        self.assertIn("isn't known", rig.log())
        items, code, _ = rig.run_once()
        self.assertEqual(self.plans(items)["a"]["decision"], "wait")
        rig.edit("UPDATE enrolment SET changed_at = changed_at - ?", 8 * DAY)
        rig.world.auto_issue = True
        rig.run_once()
        again = [e for e in rig.enrolments() if e["attempt"] == 2]
        self.assertEqual([e["state"] for e in again], ["ACTIVE"] * 5)
        self.assertEqual(len({e["enrolment"] for e in rig.enrolments()}), 11)

    def test_reorder_waits_longer_and_retry_lifts_it(self):
        rig = self.rig()
        rig.world.auto_issue = False
        self.group(rig, "alice")
        rig.run_once()
        rig.world.set_status(5000, "rejected")
        rig.wait_for(lambda: rig.states() == ["ENDED"])
        rig.run_once()
        self.assertEqual(rig.states(), ["ENDED"])
        self.assertEqual(rig.ask("enrolment.retry", enrolment=1)[1], 0)
        rig.world.auto_issue = True
        rig.run_once()
        self.assertEqual(rig.states(), ["ENDED", "ACTIVE"])

    def test_cancel(self):
        rig = self.rig()
        rig.world.auto_issue = False
        self.group(rig, "alice", "bob")
        rig.run_once()
        items, code, _ = rig.ask("enrolment.cancel", enrolment=1)
        self.assertEqual((code, items[0]["state"]), (0, "ORDERED"))
        rig.wait_for(lambda: rig.states() == ["ENDED", "ORDERED"])
        self.assertIn("canceled", rig.show(1)["history"][-1])
        rig.world.set_status(5001, "issued")
        rig.wait_for(lambda: rig.states() == ["ENDED", "ACTIVE"])
        _, code, error = rig.ask("enrolment.cancel", enrolment=2)
        self.assertEqual(code, 4)
        _, code, error = rig.ask("enrolment.cancel", enrolment=99)
        self.assertEqual(code, 2)

    def test_cancel_early(self):
        rig = self.rig()
        rig.ask("pause", orders=True)
        self.group(rig, "alice")
        rig.run_once()
        self.assertEqual(rig.ask("enrolment.cancel", user="alice@example.com")[1], 0)
        self.assertEqual(rig.states(), ["ENDED"])
        self.assertEqual(rig.world.bought, [])

    def test_pause(self):
        rig = self.rig()
        self.group(rig, "alice")
        rig.ask("pause", orders=True, uploads=True)
        items, code, _ = rig.run_once()
        self.assertEqual((code, rig.states()), (0, ["KEYED"]))
        rig.restart()
        time.sleep(0.3)
        self.assertEqual(rig.states(), ["KEYED"], "a pause outlives a restart")
        rig.ask("resume", orders=True)
        rig.run_once()
        self.assertEqual(rig.states(), ["SEALED"])
        self.assertEqual(rig.world.records, {})
        facts = {i["name"]: i["value"] for i in rig.ask("status")[0] if i["kind"] == "fact"}
        self.assertEqual(facts["orders"], "on")
        self.assertIn("paused", facts["uploads"])
        rig.ask("resume", uploads=True)
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE"])

    def test_lost_order(self):
        """Bought and the answer lost: found. Not bought: held, and a person decides."""
        rig = self.rig()
        world = rig.world
        self.group(rig, "alice")

        def buy_and_lose(body):
            world.place(body)
            raise Fail("lost", "time-out")
        world.fault("up.order", buy_and_lose)
        _, code, _ = rig.run_once(wait=10)
        self.assertEqual((code, rig.states(), len(world.bought)), (0, ["ACTIVE"], 1))
        world.groups[GROUP].append(world.user("bob"))
        world.fault("up.order", Fail("lost", "time-out"))
        _, code, _ = rig.run_once(wait=10)
        self.assertEqual((code, rig.states(), len(world.bought)), (1, ["ACTIVE", "HELD"], 1))
        self.assertGreaterEqual(world.counts["up.order_settle"], 4)
        before = world.counts["up.order"]
        rig.run_once()
        self.assertEqual(world.counts["up.order"], before, "never by itself")
        looked = world.counts["up.order_settle"]
        rig.ask("enrolment.retry", enrolment=2)
        rig.wait_for(lambda: rig.states() == ["ACTIVE", "HELD"] and
                     world.counts["up.order_settle"] > looked)
        self.assertEqual(world.counts["up.order"], before)
        self.assertEqual(rig.ask("enrolment.release", enrolment=2)[1], 0)
        rig.run_once()
        self.assertEqual((rig.states(), len(world.bought)), (["ACTIVE"] * 2, 2))


if __name__ == "__main__":
    main()
