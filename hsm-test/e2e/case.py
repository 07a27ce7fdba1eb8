"""The case that all end-to-end tests build on: worlds that are closed, failures that tell."""

import os
import unittest

import harness
import people
from harness import kinds

only_on = kinds.only_on
LONG = os.environ.get("PFX_LONG") == "1"


def about_keys(test):
    """Marks a class or a test whose outcome hangs on the token: run.sh runs these on each kind of
    token, and the others on SoftHSM only (--long: all on each)."""
    test.about_keys = True
    return test


class WorldCase(unittest.TestCase):
    """Worlds are ended after each test; the logs of a failed one are shown."""

    maxDiff = None

    def make(self, members=None, **arguments):
        digicert = arguments.pop("digicert", {})
        if members is not None:
            arguments["tenant"] = people.tenant(members, **digicert)
            arguments.setdefault("rules", [people.rule()])
        world = harness.World(**arguments)
        self.addCleanup(world.close)
        return world

    def ready(self, members=None, **arguments):
        world = self.make(members, **arguments)
        with self.telling(world):
            world.ready()
        return world

    def telling(self, world):
        """Shows the logs of the daemons with a failure inside."""
        return _Telling(world)

    def assertExit(self, result, code, *words):
        self.assertEqual(result.code, code, repr(result))
        for word in words:
            self.assertIn(word, result.out + result.err)

    def assertActive(self, world, upns):
        states = world.states()
        for name in upns:
            self.assertIn("ACTIVE", states.get(name, ["missing"]),
                          "%s is %s\n%s" % (name, states.get(name), world.why_not()))

    def assertNothingTwice(self, world):
        """No key was ordered twice, and no record is there twice."""
        self.assertLessEqual(world.control("/state")["digicert"]["max_orders_per_key"], 1)
        records = [r["id"] for r in world.records()]
        self.assertEqual(len(records), len(set(records)))

    def until_active(self, world, upns, seconds=90):
        """Runs until these users are active."""
        wanted = set(upns)

        def done():
            states = world.states()
            return all("ACTIVE" in states.get(u, []) for u in wanted)

        def step():
            if done():
                return True
            world.run_once("5s", seconds=60)
            return done()
        harness.wait_for("ACTIVE for %s" % sorted(wanted), step, seconds, 0.5)


class OneWorldCase(WorldCase):
    """One world for all tests of the class, made by the first of them."""

    world = None

    @classmethod
    def tearDownClass(cls):
        if cls.world:
            cls.world.close()
            cls.world = None


class _Telling:
    def __init__(self, world):
        self.world = world

    def __enter__(self):
        return self.world

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, AssertionError):
            raise AssertionError("%s\n%s" % (error, self.world.why_not())) from error
        return False
