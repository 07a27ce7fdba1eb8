"""After the delivery, with real processes: revoked at the CA, removed from Intune, long away."""

import sqlite3
import time
import unittest

import harness
import people
from case import WorldCase

DAY = 86400 * 1000
QUICK = {"schedule": {"sweep_every": "1s"}}


class After(WorldCase):
    """The certificate is in Intune, and then something happens to it."""

    def delivered(self, rules, users=1, agent=None, **arguments):
        members = [people.user(n) for n in range(1, users + 1)]
        world = self.ready(members, rules=rules, agent=agent or QUICK, **arguments)
        with self.telling(world):
            self.assertExit(world.run_once("30s"), 0)
            self.assertActive(world, [m["userPrincipalName"] for m in members])
        return world

    def revoke(self, world, number=None):
        number = number or world.orders()[0]["id"]
        world.control("/digicert/order/%d" % number, {"status": "revoked"})

    def row(self, world, number=1):
        return [r for r in world.enrolments() if r["enrolment"] == number][0]

    def test_revoked_for_each_rule(self):
        """tell, remove and enrol_again in one group each."""
        groups = {"9d0a6c1e-0003-4a00-9000-%012d" % n: [people.user(n)] for n in (1, 2, 3)}
        names = ("tell", "remove", "enrol-again")
        rules = [people.rule(name, group, on_revoked=name.replace("-", "_"))
                 for name, group in zip(names, groups)]
        world = self.make(tenant=people.tenant([], groups=groups), rules=rules, agent=QUICK)
        with self.telling(world):
            world.ready()
            self.assertExit(world.run_once("30s"), 0)
            before = {r["userPrincipalName"]: r["id"] for r in world.records()}
            self.assertEqual(len(before), 3)
            for order in world.orders():
                self.revoke(world, order["id"])
            harness.wait_for("the removal", lambda: len(world.records()) == 2, 30, 0.3)
            states = world.states()
            self.assertEqual([states[people.upn(n)] for n in (1, 2, 3)],
                             [["ACTIVE"], ["ENDED"], ["ACTIVE"]])
            status = world.cli("status").out
            self.assertIn("revoked at the CA after delivery", status)
            # Nothing is ordered before a pass, and then for one of them.
            self.assertEqual(len(world.orders()), 3)
            self.assertExit(world.run_once("30s"), 0)
            self.assertEqual(len(world.orders()), 4)
            harness.wait_for("the old record's end", lambda: len(world.records()) == 2, 30, 0.3)
            after = {r["userPrincipalName"]: r["id"] for r in world.records()}
            self.assertEqual(after[people.upn(1)], before[people.upn(1)])
            self.assertNotIn(people.upn(2), after)
            self.assertNotEqual(after[people.upn(3)], before[people.upn(3)])
            self.assertExit(world.run_once("10s"), 0)
            self.assertEqual(len(world.orders()), 4)
            self.assertNothingTwice(world)
            # The one that was removed is taken up again by a person only.
            number = [r for r in world.enrolments() if r["upn"] == people.upn(2)][0]["enrolment"]
            self.assertExit(world.cli("enrolment", "retry", str(number)), 0)
            self.assertExit(world.run_once("30s"), 0)
            self.assertIn("ACTIVE", world.states()[people.upn(2)])

    def test_answered_at_once_and_revoked_by_an_operator(self):
        world = self.make([people.user(1), people.user(2)], settings={"approve_at_once": True},
                          rules=[people.rule(on_revoked="remove")],
                          agent={"schedule": {"sweep_every": "1h"}})
        with self.telling(world):
            world.ready()
            self.assertExit(world.run_once("30s"), 0)
            self.assertActive(world, [people.upn(1), people.upn(2)])
            log = world.control("/log")["requests"]
            self.assertFalse([r for r in log if "/download/" in r["target"]])
            self.assertNothingTwice(world)
            self.assertExit(world.cli("enrolment", "revoke", "1", "--reason", "laptop stolen",
                                      "--yes"), 0)
            harness.wait_for("ENDED", lambda: self.row(world)["state"] == "ENDED", 30, 0.3)
            statuses = sorted(o["status"] for o in world.orders())
            self.assertEqual(statuses, ["issued", "revoked"])
            harness.wait_for("the removal", lambda: len(world.records()) == 1, 30, 0.3)

    def test_removal_that_lingers(self):
        world = self.delivered([people.rule()])
        with self.telling(world):
            self.assertExit(world.run_once("5s"), 0)
            world.setting(delete_lingers=True)
            record = world.records()[0]["id"]
            self.assertExit(world.cli("record", "remove", record, "--yes"), 0)
            deletes = lambda: world.control("/state")["graph"]["deletes_accepted"]
            harness.wait_for("a second try", lambda: deletes() >= 2, 30, 0.3)
            self.assertEqual(len(world.records()), 1)
            self.assertIn("removing", world.cli("record", "list").out)
            self.assertIn("remove records from Intune", world.cli("status").out)
            world.setting(delete_lingers=False)
            harness.wait_for("the record's end", lambda: not world.records(), 60, 0.5)
            orders = len(world.orders())
            dry = world.cli("run", "--once", "--dry-run", "--json")
            plan = [i for i in dry.lines() if i["kind"] == "plan"][0]
            self.assertEqual(plan["decision"], "skip")
            self.assertIn("removed by", plan["why"])
            self.assertExit(world.run_once("5s"), 0)
            self.assertEqual((world.records(), len(world.orders())), ([], orders))
            self.assertExit(world.cli("enrolment", "retry", "1"), 0)
            self.assertExit(world.run_once("30s"), 0)
            self.assertEqual(len(world.records()), 1)

    def test_away_for_ten_days(self):
        """The CA's news don't reach back so far: its list does, in few requests."""
        world = self.delivered([people.rule(on_revoked="remove")], users=6,
                               agent={"schedule": {"sweep_every": "1h", "poll_every": "1h"}})
        with self.telling(world):
            world.stop("agentd")
            self.revoke(world, world.orders()[2]["id"])
            with sqlite3.connect(world.path("state", "store.db")) as store:
                store.execute("UPDATE meta SET value = value - ? WHERE key IN"
                              " ('poll_ok', 'poll_answered')", (10 * DAY,))
            store.close()
            seen = len(world.control("/log")["requests"])
            world.start_agentd()
            harness.wait_for("the removal", lambda: len(world.records()) == 5, 30, 0.3)
            time.sleep(1)
            log = [r for r in world.control("/log")["requests"][seen:] if r["service"] == "digicert"]
            self.assertEqual(len([r for r in log if "status-changes" in r["target"]]), 1)
            self.assertLessEqual(len(log), 4, [r["target"] for r in log])
            self.assertEqual(sorted(s[0] for s in world.states().values()),
                             ["ACTIVE"] * 5 + ["ENDED"])


if __name__ == "__main__":
    unittest.main()
