"""Certificates that the CA revokes: on their way, after their delivery, again and again, all at once."""

import sys
import time

sys.dont_write_bytecode = True
from agent_after import QUICK, AfterCase, rule  # noqa: E402
from agent_case import DAY, main  # noqa: E402
from agent_rig import Fail, now_ms  # noqa: E402


class Revoked(AfterCase):
    def test_tell(self):
        rig = self.delivered()
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        self.assertEqual((rig.states(), len(rig.world.records)), (["ACTIVE"], 1))
        shown = self.waits(rig, "revoked at the CA")
        self.assertEqual((shown[0]["who"], shown[0]["count"]), ("operator", 1))
        self.assertIn("enrolment retry 1", shown[0]["next"])
        self.assertIn("revoked", rig.enrolments()[0]["why"])
        self.assertEqual(self.decision(rig)["decision"], "skip")
        # Nor is it imported again when somebody takes the record away by hand.
        rig.world.records.clear()
        plan = self.decision(rig)
        self.assertEqual(plan["decision"], "skip")
        self.assertIn("revoked", plan["why"])
        self.assertEqual(rig.ask("enrolment.release", enrolment=1)[1], 0)
        self.assertEqual(self.waits(rig, "revoked at the CA"), [])
        self.assertEqual(rig.ask("enrolment.release", enrolment=1)[1], 4)
        # Later the person wants another one after all.
        self.assertEqual(rig.ask("enrolment.retry", enrolment=1)[1], 0)
        rig.run_once()
        self.assertEqual(sorted(rig.states()), ["ACTIVE", "ENDED"])
        self.assertEqual(len(rig.world.bought), 2)

    def test_refused_because_it_was_done(self):
        """pfx-uploader died after the CA had revoked: the second request is refused, and the CA's
        own word on the order is asked for at once, not by the next sweep."""
        rig = self.delivered(schedule={"sweep_every": "1h"}, on_revoked="remove")

        def again(body):
            rig.world.orders[body["order_id"]]["status"] = "revoked"
            raise Fail("refused", "Only an issued order can be revoked.", "invalid_status")
        rig.world.fault("up.order_revoke", again)
        rig.ask("enrolment.revoke", enrolment=1, reason="laptop stolen")
        rig.wait_for(lambda: rig.states() == ["ENDED"] and not rig.world.records)
        self.assertEqual(rig.world.counts["up.order_info"], 1)

    def test_tell_until_its_end(self):
        rig = self.delivered()
        rig.world.set_status(5000, "canceled")
        self.heard(rig)
        self.assertTrue(self.waits(rig, "revoked at the CA"))
        rig.edit("UPDATE enrolment SET expires = ?", now_ms() - 1000)
        self.assertEqual(self.waits(rig, "revoked at the CA"), [])

    def test_remove(self):
        rig = self.delivered(on_revoked="remove")
        rig.world.set_status(5000, "revoked")
        rig.wait_for(lambda: not rig.world.records)
        rig.wait_for(lambda: rig.states() == ["ENDED"])
        self.assertEqual(rig.world.counts["up.remove"], 1)
        plan = self.decision(rig)
        self.assertEqual(plan["decision"], "skip")
        self.assertIn("enrolment retry 1", plan["why"])
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 1)
        # Said until somebody takes note; taken up again only when somebody says so.
        shown = self.waits(rig, "without another one")
        self.assertEqual((shown[0]["who"], shown[0]["count"]), ("operator", 1))
        self.assertIn("retry 1", shown[0]["next"])
        self.assertEqual(rig.ask("enrolment.retry", all=True)[1], 4)
        self.assertEqual(rig.ask("enrolment.release", enrolment=1)[1], 0)
        self.assertEqual(self.waits(rig, "revoked"), [])
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 1)
        self.assertEqual(rig.ask("enrolment.retry", user="alice@example.com")[1], 0)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED", "ACTIVE"], 2))

    def test_enrol_again_signing(self):
        rig = self.delivered(on_revoked="enrol_again")
        old = set(rig.world.records)
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        self.assertEqual(set(rig.world.records), old, "until the new one is there")
        plan = self.decision(rig)
        self.assertEqual(plan["decision"], "order")
        self.assertIn("revoked", plan["why"])
        rig.run_once()
        rig.wait_for(lambda: not old & set(rig.world.records))
        self.assertEqual((rig.states(), len(rig.world.records)), (["ENDED", "ACTIVE"], 1))
        self.assertIn("revoked", "".join(rig.show(2)["history"]))
        self.assertEqual(self.decision(rig)["decision"], "skip")
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 2)

    def test_enrol_again_encryption(self):
        rig = self.delivered(on_revoked="enrol_again", purpose="encryption")
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.records)), (["ACTIVE"] * 2, 2))
        rig.run_once()
        self.assertEqual((len(rig.world.bought), rig.world.counts.get("up.remove")), (2, None))

    def test_enrol_again_within_the_limits(self):
        rig = self.rig(rules=[rule(on_revoked="enrol_again")], schedule=QUICK, max_orders_per_pass=2)
        self.group(rig, "a", "b")
        rig.run_once()
        for number in (5000, 5001):
            rig.world.set_status(number, "revoked")
        self.heard(rig, 1)
        self.heard(rig, 2)
        rig.restart()
        rig.terminate()
        rig.config["max_orders_per_pass"] = 1
        rig.write_config()
        rig.start()
        rig.run_once()
        self.assertEqual(sorted(rig.states()), ["ACTIVE", "ACTIVE", "ENDED", "HELD"])

    def all_at_once(self, rig):
        """The CA's next news say of every order that it is revoked."""
        for number in list(rig.world.orders):
            rig.world.set_status(number, "revoked")

    def test_all_at_once_remove(self):
        """One wrong answer doesn't take the certificates from everybody."""
        rig = self.rig(rules=[rule(on_revoked="remove")], schedule={"sweep_every": "1h"},
                       max_orders_per_pass=100)
        rig.world.page = 100
        self.group(rig, *["u%02d" % n for n in range(60)])
        rig.run_once()
        rig.terminate()
        rig.config.update(max_orders_per_day=10)
        rig.schedule["sweep_every"] = "200ms"
        rig.write_config()
        self.all_at_once(rig)
        rig.start()
        rig.wait_for(lambda: rig.states().count("ENDED") == 50 and len(rig.world.records) == 10)
        shown = self.waits(rig, "revoked at the CA after delivery")
        self.assertEqual((shown[0]["who"], shown[0]["count"]), ("operator", 10))
        self.assertIn("too many", rig.log())
        self.assertEqual(rig.ask("enrolment.retry", all=True)[1], 4, "nothing by the way")
        items, code, _ = rig.ask("enrolment.release", state="ACTIVE")
        self.assertEqual((code, len(items)), (0, 10))
        self.assertEqual(self.waits(rig, "after delivery"), [])
        self.assertEqual(rig.ask("enrolment.retry", state="ACTIVE")[1], 4, "they were noted")
        self.assertEqual(len(rig.world.bought), 60)

    def test_all_at_once_enrol_again(self):
        rig = self.rig(rules=[rule(on_revoked="enrol_again")], schedule=QUICK,
                       max_orders_per_pass=30, max_orders_per_day=35)
        rig.world.page = 100
        self.group(rig, *["u%02d" % n for n in range(30)])
        rig.run_once()
        self.all_at_once(rig)
        self.heard(rig, 30)
        self.assertEqual(self.waits(rig, "another one takes its place")[0]["count"], 30)
        for _ in range(2):
            rig.run_once()
        self.assertEqual(len(rig.world.bought), 35)
        self.assertEqual(rig.states().count("HELD"), 25)
        self.assertEqual(self.waits(rig, "order limit")[0]["count"], 25)

    def test_revoked_again_and_again(self):
        """A CA that revokes each certificate doesn't sell one a pass."""
        rig = self.delivered(on_revoked="enrol_again")
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        rig.run_once()
        rig.world.set_status(5001, "revoked")
        self.heard(rig, 2)
        plan = self.plans(rig.run_once()[0])["alice"]
        self.assertEqual((plan["decision"], len(rig.world.bought)), ("wait", 2))
        self.assertIn("revoked 2 of its certificates", plan["why"])
        self.assertEqual(rig.ask("enrolment.retry", enrolment=2)[1], 0)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED", "ENDED", "ACTIVE"], 3))

    def test_revoked_on_its_way_again_and_again(self):
        rig = self.rig(rules=[rule(on_revoked="enrol_again")], schedule=QUICK)
        self.group(rig, "alice")
        rig.world.fault("hsm.build_seal", *[Fail("integrity")] * 2)
        for number in (1, 2):
            rig.run_once()
            self.assertEqual(rig.states()[-1], "HELD")
            rig.world.set_status(4999 + number, "revoked")
            self.heard(rig, number)
        self.assertEqual(self.plans(rig.run_once()[0])["alice"]["decision"], "wait")
        self.assertEqual(len(rig.world.bought), 2)
        rig.ask("enrolment.retry", enrolment=2)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED", "ENDED", "ACTIVE"], 3))

    def test_flapping(self):
        """issued, revoked, issued, revoked: one thing follows, once."""
        rig = self.delivered(on_revoked="enrol_again")
        for word in ("revoked", "issued", "revoked", "issued", "reissue_pending", "revoked"):
            rig.world.set_status(5000, word)
        self.heard(rig)
        rig.restart()
        for _ in range(2):
            rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED", "ACTIVE"], 2))

    def renewed(self, **more):
        """A rig whose user has a certificate that was renewed, and both records."""
        rig = self.delivered(**more)
        rig.edit("UPDATE enrolment SET expires = ?", now_ms() + 3 * DAY)
        for record in rig.world.records.values():
            record["expires"] = now_ms() + 3 * DAY
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.records)), (["ACTIVE"] * 2, 2))
        return rig

    def test_revoked_after_its_renewal(self):
        """Another one is in its place already: nothing is ordered, and the old record goes."""
        rig = self.renewed(on_revoked="enrol_again")
        rig.world.set_status(5000, "revoked")
        rig.wait_for(lambda: len(rig.world.records) == 1)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED", "ACTIVE"], 2))
        self.assertIn("enrolment 2 is in its place", "".join(rig.show(1)["history"]))
        self.assertFalse(rig.enrolments()[0].get("next"))

    def test_retry_after_its_renewal(self):
        rig = self.renewed()
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        self.assertEqual(rig.ask("enrolment.retry", enrolment=1)[1], 0)
        rig.wait_for(lambda: len(rig.world.records) == 1)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED", "ACTIVE"], 2))

    def test_revoked_while_it_is_imported_again(self):
        """It was delivered once, so tell means: a person decides, not the next pass."""
        rig = self.delivered(schedule=dict(QUICK, reorder_after="100ms"))
        rig.world.records.clear()
        rig.world.fault("up.import", *[Fail("transient")] * 100)
        time.sleep(0.05)
        rig.run_once()
        self.assertEqual(rig.states(), ["SEALED"])
        rig.world.set_status(5000, "revoked")
        rig.wait_for(lambda: rig.states() == ["ENDED"])
        rig.world.faults.clear()
        time.sleep(0.2)
        rig.run_once()
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED"], 1))
        self.assertTrue(self.waits(rig, "without another one"))

    def test_packed_once(self):
        """Wherever it stands when it is revoked: what was packed may have been imported."""
        rig = self.rig(schedule=dict(QUICK, retry_max="500ms"))
        self.group(rig, "alice")
        rig.world.fault("up.import", *[Fail("transient")] * 50)
        rig.run_once()
        self.assertEqual(rig.states(), ["SEALED"])
        rig.world.fault("hsm.build_seal", Fail("integrity"))
        rig.edit("DELETE FROM parcel")
        rig.wait_for(lambda: rig.states() == ["HELD"])
        rig.world.faults.clear()
        rig.world.set_status(5000, "revoked")
        rig.wait_for(lambda: rig.world.counts.get("up.remove") == 1)

    def test_comes_back_to_intune(self):
        """An import that was under way comes after the removal: removed again."""
        rig = self.delivered(on_revoked="remove")
        kept = dict(rig.world.records)
        rig.world.set_status(5000, "revoked")
        rig.wait_for(lambda: rig.sql("SELECT 1 FROM removal WHERE gone_at IS NOT NULL"))
        rig.world.records.update(kept)
        time.sleep(0.05)
        rig.run_once()
        rig.wait_for(lambda: not rig.world.records)
        self.assertIn("in Intune's list again", "".join(rig.show(1)["history"]))
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ENDED"], 1))

    def test_natural_end_and_unknown_words(self):
        rig = self.delivered()
        before = rig.world.counts["up.order_changes"]
        rig.world.set_status(5000, "frobnicated")
        rig.wait_for(lambda: "isn't known" in rig.log())
        self.assertEqual((rig.states(), self.waits(rig, "revoked")), (["ACTIVE"], []))
        rig.edit("UPDATE enrolment SET expires = ?", now_ms() + 3600 * 1000)
        rig.world.set_status(5000, "expired")
        rig.wait_for(lambda: rig.sql("SELECT 1 FROM enrolment WHERE ca_status = 'expired'"))
        self.assertEqual(rig.sql("SELECT revoked_at FROM enrolment"), [(None,)])
        self.assertGreater(rig.world.counts["up.order_changes"], before)

    def test_expired_before_its_end(self):
        rig = self.delivered()
        rig.world.set_status(5000, "expired")
        self.heard(rig)
        self.assertTrue(self.waits(rig, "revoked at the CA"))

    def test_rule_renamed_since(self):
        rig = self.delivered(on_revoked="remove")
        rig.terminate()
        rig.rules = [rule(on_revoked="remove", name="people")]
        rig.write_config()
        rig.start()
        rig.world.set_status(5000, "revoked")
        self.heard(rig)
        self.assertEqual((rig.states(), len(rig.world.records)), (["ACTIVE"], 1))
        self.assertEqual(rig.sql("SELECT revoked_then FROM enrolment"), [("tell",)])

    def test_revoked_on_its_way(self):
        """Stopped before the import, whatever it waits for; nothing stays in the store."""
        self.each([(kind, held) for kind in ("up.download", "hsm.build_seal", "up.import",
                                             "up.readback") for held in (False, True)],
                  self.on_its_way)

    def on_its_way(self, kind, held):
        with self.world(schedule=dict(QUICK, retry_max="500ms"),
                        options=["--job-deadline", "2"]) as rig:
            world = rig.world
            self.group(rig, "alice")
            world.fault(kind, *[Fail("integrity" if held else "transient")] * 50)
            rig.run_once()
            rig.world.set_status(5000, "revoked")
            rig.wait_for(lambda: rig.states() == ["ENDED"])
            world.faults.clear()
            rig.wait_for(lambda: not rig.sql("SELECT 1 FROM job WHERE kind <> 'hsm.log'"))
            self.assertEqual(rig.world.records, {})
            self.assertEqual(rig.sql("SELECT count(*) FROM parcel"), [(0,)])
            self.assertIn("before its delivery", rig.enrolments()[0]["why"])
            self.assertEqual(rig.world.counts.get("up.remove", 0),
                             1 if kind in ("up.import", "up.readback") else 0)

    def test_sweep_is_one_request(self):
        """However many are active; and none where none is."""
        rig = self.rig(schedule=QUICK)
        time.sleep(0.6)
        self.assertNotIn("up.order_changes", rig.world.counts)
        rig = self.delivered(["u%d" % i for i in range(5)], schedule={"sweep_every": "1h"})
        count = rig.world.counts["up.order_changes"]
        time.sleep(0.6)
        self.assertEqual(rig.world.counts["up.order_changes"], count)
        self.assertNotIn("up.order_info", rig.world.counts)


if __name__ == "__main__":
    main()
