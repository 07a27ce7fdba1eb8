"""What operators ask of pfx-agentd after an order: records removed, revoke, resend, setup."""

import sys
import threading
import time

sys.dont_write_bytecode = True
from agent_after import AfterCase, rule  # noqa: E402
from agent_case import DAY, main  # noqa: E402
from agent_rig import GROUP, GROUP2, Fail, Line, now_ms  # noqa: E402


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
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'"), [(0,)])

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
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'") == [(0,)])
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
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'"), [(0,)])
        rig.edit("INSERT INTO job(scope, arm, kind, payload, not_before, created_at) VALUES"
                 "('setup/x', 'uploader', 'up.setup_ca', '{\"products\":[]}', 1, 1)")
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE scope LIKE 'setup%'"), [(0,)])


if __name__ == "__main__":
    main()
