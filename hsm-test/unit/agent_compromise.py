"""A compromised generation of the encryption key: every user key that was ever sealed to it gets a
successor, the old certificates are revoked once that is there, old mail stays readable; what goes
wrong with any of it is told with its next step."""

import sys
import time

sys.dont_write_bytecode = True
from agent_case import DAY, main  # noqa: E402
from agent_rebuild import KEYS, RebuildCase  # noqa: E402
from agent_rig import GROUP, RULE, Fail, now_ms  # noqa: E402

ENCRYPTION = dict(RULE, purpose="encryption")
DUAL = dict(RULE, purpose="dual")
QUICK = {"sweep_every": "200ms"}


class Compromise(RebuildCase):
    def broken(self, n=2, rule=None, active=2, **kwargs):
        """n users whose keys were sealed to generation 1, which is compromised; 2 is active."""
        rig = self.rig(rules=[rule or RULE], schedule=QUICK, **kwargs)
        self.fill(rig, n)
        rig.world.turn_to(active, g1="compromised")
        return rig

    def learn(self, rig):
        """pfx-agentd hears of it, and marks them."""
        rig.ask("key.rebuild", dry_run=True)
        if rig.world.active:
            rig.wait_for(lambda: rig.sql("SELECT value FROM meta WHERE key = 'exposed_all'") == [(1,)])

    def exposed(self, rig, **args):
        items, code, error = rig.ask("key.exposed", all=True, **args)
        self.assertIsNone(error)
        rows = {i["enrolment"]: i for i in items if i["kind"] == "exposed"}
        return rows, items[-1], code

    def revoked(self, rig):
        return sorted(b["order_id"] for b in rig.world.revoked)

    def test_signing(self):
        rig = self.broken()
        self.learn(rig)
        rows, total, code = self.exposed(rig)
        self.assertEqual((total["exposed"], total["waiting"], total["replaced"], code), (2, 2, 0, 0))
        self.assertEqual(self.revoked(rig), [])  # nothing before the successors are there
        self.assertEqual(len(rig.world.records), 2)
        old = set(rig.world.records)
        run = rig.run_once()[0]
        plan = self.plans(rig.run_once(dry_run=True)[0])
        self.assertEqual(plan["u000"]["decision"], "skip")
        self.assertEqual(self.summary(run)["ordered"], 2)
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 2)
        self.assertEqual(self.revoked(rig), [5000, 5001])
        rig.wait_for(lambda: not old & set(rig.world.records))
        self.assertEqual(len(rig.world.records), 2)
        self.assertEqual({r["key_name"] for r in rig.world.records.values()}, {KEYS[2]})
        self.assertEqual(sorted(rig.states()), ["ACTIVE"] * 2 + ["ENDED"] * 2)
        # New keys, not the old ones in a new wrapper.
        self.assertEqual(len(set(rig.world.bought)), 4)
        rows, total, code = self.exposed(rig)
        self.assertEqual((rows[1]["state"], rows[1]["revocation"], code), ("replaced", "done", 0))
        self.assertIn(rows[1]["successor"], (3, 4))
        # That is all: no third one, in however many passes.
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 4)
        self.assertIn("exposed", rig.show(1)["why"])

    def test_encryption_keeps_old_mail(self):
        rig = self.broken(rule=ENCRYPTION)
        old = set(rig.world.records)
        self.learn(rig)
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 2)
        time.sleep(0.3)
        self.assertEqual(rig.states(), ["ACTIVE"] * 4)
        self.assertLess(old, set(rig.world.records))
        self.assertEqual({rig.world.records[r]["key_name"] for r in old}, {KEYS[1]})
        self.assertEqual(self.rebuild(rig)["done"], 2)
        self.assertEqual({r["key_name"] for r in rig.world.records.values()}, {KEYS[2]})
        self.assertEqual(self.records(rig)["generation"][1]["records"], 0)
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 4)

    def test_dual_keeps_old_mail(self):
        """Intune calls it a signing certificate; old mail was encrypted to it all the same."""
        rig = self.broken(1, rule=DUAL)
        old = set(rig.world.records)
        self.assertEqual({r["purpose"] for r in rig.world.records.values()}, {"smimeSigning"})
        self.learn(rig)
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 1)
        time.sleep(0.3)
        self.assertEqual(rig.states(), ["ACTIVE"] * 2)
        self.assertLess(old, set(rig.world.records))
        self.assertEqual(self.rebuild(rig)["done"], 1)
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 2)

    def test_sealed_behind_the_walk(self):
        """pfx-hsm's answer comes when everybody who was exposed had been found."""
        rig = self.rig(schedule=QUICK)
        self.fill(rig, 1)
        rig.world.turn_to(3, g2="compromised")
        self.learn(rig)

        def late(body):
            rig.world.active = 2
            answer = rig.world.hsm_build_seal(body)
            rig.world.active = 3
            return answer
        rig.world.fault("hsm.build_seal", late)
        rig.ask("key.rebuild", wait=10)
        rig.wait_for(lambda: rig.sql("SELECT exposed_at IS NOT NULL FROM enrolment") == [(1,)])
        rig.run_once()
        rig.wait_for(lambda: self.revoked(rig) == [5000])
        self.assertEqual(len(rig.world.bought), 2)

    def test_one_tick_fails(self):
        """A row that can't be read keeps nobody from the rest of the work."""
        rig = self.broken(2)
        rig.edit("UPDATE enrolment SET state = 'BROKEN' WHERE id = 1")
        rig.world.after_delivery = ["signing"]
        rig.ask("key.rebuild", dry_run=True)
        rig.wait_for(lambda: "a state that doesn't exist" in rig.log())
        rig.wait_for(lambda: rig.sql("SELECT id FROM enrolment WHERE key_gone_at IS NOT NULL")
                     == [(2,)])

    def test_revocation_takes_time(self):
        """Accepted or waiting for an approval isn't refused."""
        for approval in (False, True):
            rig = self.broken(1)
            rig.world.approval = approval
            if not approval:  # accepted, and the CA's list doesn't have it yet
                rig.world.fault("up.order_revoke", lambda b: {"order_id": b["order_id"],
                                                              "pending": False})
            self.learn(rig)
            rig.run_once()
            rig.wait_for(lambda: rig.sql("SELECT revoke_said FROM enrolment WHERE id = 1")[0][0])
            rows, total, code = self.exposed(rig)
            self.assertEqual((rows[1]["revocation"], total["refused"], code), ("asked", 0, 0))
            self.assertEqual("approve" in rows[1].get("next", ""), approval)
            rig.world.set_status(5000, "revoked")
            rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 1)
            self.assertNotIn("next", self.exposed(rig)[0][1])

    def test_signing_is_not_rebuilt(self):
        rig = self.broken(1)
        self.learn(rig)
        last = self.rebuild(rig, code=1)
        self.assertEqual((last["done"], last["passed"]), (0, 1))
        blocker = self.records(rig)["blocker"][0]
        self.assertIn("exposed", blocker["why"])
        self.assertIn("key exposed", blocker["next"])

    def test_rebuilt_before_is_exposed_all_the_same(self):
        """Sealed to a sound generation by now, but its user key was sealed to the other one."""
        rig = self.rig(schedule=QUICK)
        self.fill(rig, 2)
        self.rebuild(rig)
        rig.world.turn_to(2, g1="compromised")
        self.learn(rig)
        self.assertEqual(self.exposed(rig)[1]["exposed"], 2)
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 2)
        self.assertEqual(self.revoked(rig), [5000, 5001])

    def test_both_generations(self):
        """Exposed by two: told of and replaced once."""
        rig = self.rig(schedule=QUICK)
        self.fill(rig, 1)
        self.rebuild(rig)
        rig.world.turn_to(3, g1="compromised", g2="compromised")
        self.learn(rig)
        self.assertEqual(self.exposed(rig)[1]["exposed"], 1)
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 1)
        self.assertEqual(len(rig.world.bought), 2)

    def test_nothing_active(self):
        """Nothing is bought that couldn't be sealed; once a sound one is active it begins."""
        rig = self.broken(1, active=None)
        rig.ask("key.rebuild", dry_run=True)
        rig.run_once()
        self.assertEqual((len(rig.world.bought), rig.states()), (1, ["ACTIVE"]))
        self.assertEqual(self.exposed(rig)[1]["waiting"], 1)
        rig.world.turn_to(2, g1="compromised")
        self.learn(rig)
        rig.run_once()
        rig.wait_for(lambda: self.revoked(rig) == [5000])

    def test_before_it_is_said(self):
        """What it would mean, of a generation that is sound."""
        rig = self.rig()
        self.fill(rig, 3)
        rows, total, _ = self.exposed(rig, generation=1)
        self.assertEqual((total["exposed"], total["waiting"], total["generation"]), (3, 3, 1))
        self.assertGreater(total["orders_a_day"], 0)
        self.assertFalse([r for r in rows.values() if "next" in r])
        self.assertEqual(self.exposed(rig, generation=2)[1]["exposed"], 0)
        self.assertEqual(self.exposed(rig)[1]["exposed"], 0)
        self.assertEqual(rig.sql("SELECT count(*) FROM enrolment WHERE exposed_at IS NOT NULL"),
                         [(0,)])

    def test_refused_revocation_stays_listed(self):
        rig = self.broken(1)
        rig.world.fault("up.order_revoke", Fail("refused", "not with this API key", "403"))
        self.learn(rig)
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["refused"] == 1)
        items, code, _ = rig.ask("key.exposed")  # without "all": those for a person
        self.assertEqual((items[0]["enrolment"], items[0]["revocation"], code), (1, "refused", 1))
        self.assertIn("not with this API key", items[0]["said"])
        self.assertIn("enrolment revoke", items[0]["next"])
        self.assertEqual(rig.ask("enrolment.revoke", enrolment=1, reason="again")[1], 0)
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 1)
        self.assertEqual(rig.ask("key.exposed")[1], 0)

    def test_nobody_replaces(self):
        """A user who left: nobody orders, nobody revokes, a person is told."""
        rig = self.broken(2)
        rig.world.groups[GROUP][0]["enabled"] = False
        del rig.world.groups[GROUP][1]
        self.learn(rig)
        rig.run_once()
        rows, total, code = self.exposed(rig)
        self.assertEqual((total["nobody"], code, len(rig.world.bought)), (2, 1, 2))
        self.assertEqual({r["state"] for r in rows.values()}, {"nobody"})
        self.assertIn("enrolment revoke", rows[1]["next"])
        self.assertEqual(len(rig.world.records), 2)
        self.assertEqual(rig.ask("enrolment.revoke", enrolment=1, reason="left")[1], 0)
        rig.wait_for(lambda: self.exposed(rig)[0][1]["revocation"] == "done")
        self.assertNotIn("next", self.exposed(rig)[0][1])

    def test_limit_of_orders(self):
        rig = self.broken(4, max_orders_per_pass=4, max_orders_per_day=5)
        self.learn(rig)
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 5)  # four before, of today
        self.assertEqual(self.exposed(rig)[1]["ordering"], 3)  # held by the limit
        self.assertEqual(self.exposed(rig)[1]["replaced"], 1)

    def test_renewed_already(self):
        """Its successor is there, sealed to a sound generation: revoked at once, nothing bought."""
        rig = self.rig(schedule=QUICK)
        self.fill(rig, 1)
        soon = now_ms() + DAY
        rig.world.records[rig.show(1)["record_id"]]["expires"] = soon
        rig.edit("UPDATE enrolment SET expires = ?", soon)
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE"] * 2)
        rig.world.turn_to(2, g1="compromised")
        self.learn(rig)
        rig.wait_for(lambda: self.revoked(rig) == [5000])
        rig.wait_for(lambda: sorted(rig.states()) == ["ACTIVE", "ENDED"])
        rig.run_once()
        self.assertEqual(len(rig.world.bought), 2)

    def test_in_flight(self):
        """On its way to Intune when its generation was compromised: it arrives, and is replaced."""
        rig = self.rig(schedule=QUICK)
        rig.world.turn_to(1)
        self.group(rig, "a")
        rig.world.fault("up.import", *[Fail("transient")] * 3,
                        lambda b: rig.world.turn_to(2, g1="compromised"))
        rig.run_once()
        rig.wait_for(lambda: rig.states() == ["ACTIVE"])
        self.learn(rig)
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 1)
        self.assertEqual(len(rig.world.bought), 2)

    def test_over(self):
        rig = self.rig(schedule=QUICK)
        self.fill(rig, 1)
        past = now_ms() - 1000
        rig.edit("UPDATE enrolment SET expires = ?", past)
        rig.world.records[rig.show(1)["record_id"]]["expires"] = past
        rig.world.turn_to(2, g1="compromised")
        self.learn(rig)
        rows, total, code = self.exposed(rig)
        self.assertEqual((rows[1]["revocation"], total["nobody"], code), ("over", 0, 0))
        rig.run_once()
        self.assertEqual(self.revoked(rig), [])

    def test_killed_while_marking(self):
        rig = self.broken(3)
        for _ in range(4):
            rig.ask("key.rebuild", dry_run=True)
            rig.restart()
        self.learn(rig)
        rig.run_once()
        for _ in range(3):
            time.sleep(0.1)
            rig.restart()
        rig.run_once()
        rig.wait_for(lambda: self.exposed(rig)[1]["revoked"] == 3)
        self.assertEqual((len(rig.world.bought), self.revoked(rig)), (6, [5000, 5001, 5002]))

    def test_status_says_so(self):
        rig = self.broken(1)
        self.learn(rig)
        facts = {i["name"]: i for i in rig.ask("status")[0] if i["kind"] == "fact"}
        self.assertEqual(facts["compromise"]["level"], "bad")
        self.assertIn("key exposed", facts["compromise"]["value"])


if __name__ == "__main__":
    main()
