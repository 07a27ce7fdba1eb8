"""Lost answers and throttling: nothing is bought or imported twice, and nobody is forgotten."""

import unittest

import harness
import people
from case import WorldCase

ORDER = {"service": "digicert", "method": "POST", "path_regex": "/order/certificate/"}
IMPORT = {"service": "graph", "method": "POST", "path_regex": "/userPfxCertificates$"}


class Lost(WorldCase):
    """What happens when a POST's answer doesn't come."""

    def through(self, *knobs, users=2, **arguments):
        members = [people.user(n) for n in range(1, users + 1)]
        world = self.ready(members, **arguments)
        with self.telling(world):
            for knob in knobs:
                world.knob(**knob)
            world.run_once("20s")
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
            self.assertEqual(len(world.orders()), users)
            self.assertEqual(len(world.records()), users)
        return world

    def test_answer_to_order_lost(self):
        self.through(dict(ORDER, action="lose"))

    def test_answer_to_order_reset(self):
        self.through(dict(ORDER, action="lose", reset=True))

    def test_order_done_and_500(self):
        self.through(dict(ORDER, action="status", code=500, after=True))

    def test_order_done_and_answer_too_late(self):
        self.through(dict(ORDER, action="late", seconds=5),
                     uploader={"limits": {"connect_timeout": "1s", "request_timeout": "2s"}})

    def test_order_lost_and_filters_ignored(self):
        self.through(dict(ORDER, action="lose"), settings={"ignore_filters": True})

    def test_answer_to_import_lost(self):
        self.through(dict(IMPORT, action="lose"))

    def test_import_done_and_503(self):
        self.through(dict(IMPORT, action="status", code=503, after=True))

    def test_record_exists_already(self):
        """Graph says 409 or 400 for an id that exists: updated, not doubled."""
        self.through(dict(IMPORT, action="lose"), settings={"existing_record": 400})

    def test_order_never_arrived(self):
        """Nothing at the CA: held for a person after the grace, never ordered again by itself."""
        world = self.ready([people.user(1)])
        with self.telling(world):
            world.knob(**dict(ORDER, action="drop"))
            world.run_once("5s")
            harness.wait_for("HELD", lambda: world.states().get(people.upn(1)) == ["HELD"], 40, 0.5)
            row = world.enrolments()[0]
            self.assertIn("next", row)
            self.assertEqual(world.orders(), [])
            result = world.run_once("2s")
            self.assertExit(result, 1)
            self.assertEqual(world.orders(), [])
            # retry looks once more; only release orders again.
            self.assertExit(world.cli("enrolment", "retry", str(row["enrolment"])), 0)
            harness.wait_for("HELD again", lambda: [
                r for r in world.enrolments() if r["state"] == "HELD"
                and r["changed"] > row["changed"]], 40, 0.5)
            self.assertEqual(world.orders(), [])
            self.assertExit(world.cli("enrolment", "release", str(row["enrolment"])), 0)
            self.until_active(world, [people.upn(1)])
            self.assertEqual(len(world.orders()), 1)


class Throttled(WorldCase):
    """429 is waited out; a POST after it is allowed, since nothing was done."""

    def through(self, *knobs, users=3, **arguments):
        members = [people.user(n) for n in range(1, users + 1)]
        world = self.ready(members, **arguments)
        with self.telling(world):
            for knob in knobs:
                world.knob(**knob)
            world.run_once("30s")
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
            self.assertEqual(len(world.orders()), users)
        return world

    def test_orders_429(self):
        self.through(dict(ORDER, action="throttle", times=2, retry_after=1))

    def test_imports_429_without_header(self):
        self.through(dict(IMPORT, action="throttle", retry_after_ms=700, times=2))

    def test_members_429(self):
        self.through({"service": "graph", "method": "GET", "path_regex": "/groups/",
                      "action": "throttle", "retry_after": "0.5", "times": 2})

    def test_token_endpoint_503(self):
        self.through({"service": "entra", "action": "status", "code": 503, "times": 2})

    def test_tight_limits_of_the_services(self):
        self.through(
            users=4, settings={"digicert_limits": [[6, 2]], "graph_write_limits": [[2, 1]]},
            uploader={"digicert": {"rate_short": "5/2s"}, "graph": {"rate_writes": "2/1s"}})


if __name__ == "__main__":
    unittest.main()
