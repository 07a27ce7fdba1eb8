"""--long: each point of the ceremonies on the admin socket (see test_kill.py)."""

import unittest

import kill_scenarios as s
from case import LONG
from test_kill import KillCase, setUpModule  # noqa: F401  (unittest looks for it here)


def load_tests(_loader, tests, _pattern):
    return tests if LONG else unittest.TestSuite()


def without_keys(world):
    world.prepare()
    world.start_all()
    world.keyless = True


class KillCeremony(KillCase):
    def test_admin(self):
        self.grid([s.Admin(), s.Rotate()])

    def test_generation(self):
        self.grid([s.Generation()])

    def test_first_ceremony(self):
        self.grid([s.Init()], ready=without_keys, each=True)


if __name__ == "__main__":
    unittest.main()
