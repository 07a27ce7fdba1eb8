"""kill -9 of each process between any two steps of the flow's table: enumerated, not sampled.

For each state of the table the world is made to stand still there with one user: by an answer that
the simulator keeps back, by an order that isn't issued yet, or by a stopped pfx-hsm. Then one
process, or all three, is killed and started again. The user must end ACTIVE by itself, with one
order and one record.
"""

import signal
import unittest

import harness
import people
from case import OneWorldCase, about_keys

RECORD = "/userPfxCertificates/[0-9a-f]{32}-"
HOLD = 2.5  # seconds that an answer is kept back

# state to stand in, and what holds the world there. "before": the service hasn't done the work when
# the process is killed; "after": it has, and only the answer is missing.
PLACES = {
    "new": ("NEW", "stop-hsm", None),
    "keyed_before_order": ("KEYED", "delay", {
        "service": "digicert", "method": "POST", "path_regex": "/order/certificate/"}),
    "keyed_after_order": ("KEYED", "late", {
        "service": "digicert", "method": "POST", "path_regex": "/order/certificate/"}),
    "ordered": ("ORDERED", "pending", None),
    "issued": ("ISSUED", "late", {
        "service": "digicert", "method": "GET", "path_regex": "/certificate/download/"}),
    "checked": ("CHECKED", "pending-stop-hsm", None),
    "sealed_before_import": ("SEALED", "delay", {
        "service": "graph", "method": "POST", "path_regex": "/userPfxCertificates"}),
    "sealed_after_import": ("SEALED", "late", {
        "service": "graph", "method": "POST", "path_regex": "/userPfxCertificates"}),
    "imported": ("IMPORTED", "late", {
        "service": "graph", "method": "GET", "path_regex": RECORD, "times": -1}),
}
VICTIMS = {"agentd": ("agentd",), "hsm": ("hsm",), "uploader": ("uploader",),
           "all": ("agentd", "hsm", "uploader")}


@about_keys
class Restart(OneWorldCase):
    """Each test takes a user of its own through it."""

    number = 0

    def setUp(self):
        cls = type(self)
        if cls.world is None:
            cls.world = harness.World(
                tenant=people.tenant([people.user(999, mail=None, proxyAddresses=[])]),
                rules=[people.rule()],
                agent={"schedule": {"settle_grace": "15s", "poll_every": "500ms",
                                    "retry_min": "500ms", "retry_max": "2s"}})
            try:
                cls.world.ready()
                cls.world.run_once("60s")  # so that pfx-uploader has signed in before pfx-hsm stops
            except BaseException:
                cls.world.close()
                cls.world = None
                raise
        cls.number += 1

    def at(self, place, victims):
        world, number = self.world, type(self).number
        name = people.upn(number)
        try:
            with self.telling(world):
                self._hold(world, place)
                world.control("/graph/member", {"group": people.GROUP,
                                                "add": people.user(number)})
                world.spawn("run-%d" % number, harness.program("pfx-agent"), "run", "--once")
                state = PLACES[place][0]
                harness.wait_for("%s in %s" % (name, state),
                                 lambda: self._state(world, name, state, place), 40, 0.02)
                if PLACES[place][2]:  # else what was to be sent may not have left
                    harness.wait_for("the held request", lambda: any(
                        r["hits"] for r in world.control("/knobs")["rules"]), 40, 0.02)
                for victim in victims:
                    world.kill(victim)
                self._start(world, victims)
                self._release(world, victims, place)
                harness.wait_for("%s ACTIVE after the restart" % name,
                                 lambda: self._state(world, name, "ACTIVE"), 60, 0.1)
                self._one_of_each(world, number)
                world.stop("run-%d" % number)
        except BaseException:
            world.close()
            type(self).world = None
            raise

    def _hold(self, world, place):
        world.control("/knobs", {"clear": True})
        _, how, rule = PLACES[place]
        if rule:
            world.knob(action=how, seconds=HOLD, **rule)
        if "pending" in how:
            world.setting(issue_delay=3600)
        if how == "stop-hsm":
            world.processes["hsm"].send_signal(signal.SIGSTOP)

    def _state(self, world, name, state, place=""):
        rows = [r for r in world.enrolments() if r["upn"] == name]
        if not rows:
            return False
        row = rows[-1]
        if row["state"] in ("HELD", "FAILED", "ENDED"):
            raise AssertionError("%s is %s: %s" % (name, row["state"], row.get("why")))
        if place == "checked" and row["state"] == "ORDERED" and row["order_id"]:
            # the order is in, so pfx-hsm has done its first part: stop it, then let the CA issue
            world.processes["hsm"].send_signal(signal.SIGSTOP)
            world.control("/digicert/order/%d" % row["order_id"], {"status": "issued"})
            return False
        return row["state"] == state

    def _start(self, world, victims):
        if "agentd" in victims:
            world.start_agentd()
        if "hsm" in victims:
            world.start_hsm()
        if "uploader" in victims:
            world.start_uploader()

    def _release(self, world, victims, place):
        if "hsm" not in victims:
            world.processes["hsm"].send_signal(signal.SIGCONT)
        if PLACES[place][1] == "pending":
            for order in world.orders():
                if order["status"] == "pending":
                    world.control("/digicert/order/%d" % order["id"], {"status": "issued"})
        world.control("/knobs", {"clear": True})

    def _one_of_each(self, world, number):
        self.assertNothingTwice(world)
        mail = people.user(number)["mail"]
        orders = [o for o in world.orders() if mail in o["body"]["certificate"]["emails"]]
        self.assertEqual(len(orders), 1, orders)
        records = [r for r in world.records() if r["userPrincipalName"] == people.upn(number)]
        self.assertEqual(len(records), 1, records)


def _make(place, victim):
    def test(self):
        self.at(place, VICTIMS[victim])
    test.__doc__ = "kill -9 of %s at %s" % (victim, place.replace("_", " "))
    return test


for _place in PLACES:
    for _victim in VICTIMS:
        setattr(Restart, "test_%s_killed_at_%s" % (_victim, _place), _make(_place, _victim))


if __name__ == "__main__":
    unittest.main()
