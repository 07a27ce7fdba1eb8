"""A rotation of the encryption key as an operator types it, with real processes: staged, shown to a
connector, activated, rebuilt, and the old one retired and destroyed."""

import re
import unittest

import oracle
import people
from approvers import ApprovedCase
from world_conf import KEY_NAME

NEXT = KEY_NAME + "-2"


class Generations(ApprovedCase):
    def status(self, world):
        shown = world.cli("key", "status", "--json")
        self.assertExit(shown, 0)
        return {r["generation"]: r for r in shown.lines()
                if r["schema"] == "pfx-agent/key-status/1"}

    def confirm(self, world, judge):
        """The guide on a connector host, simulated: OpenSSL opens the probe by the token's key."""
        self.assertExit(world.cli("connector", "probe", "conn1", "--out", world.path("out")), 0, "wrote")
        with open(world.path("out", "probe-conn1-2.ps1"), encoding="ascii") as stream:
            guide = stream.read()
        sealed = re.search(r"^\$probe = '([^']+)'$", guide, re.M).group(1)
        answer = judge.open_password({"encryptedPfxPassword": sealed, "keyName": NEXT,
                                      "paddingScheme": "oaepSha512"})
        self.assertExit(world.cli("connector", "confirm", "conn1", "0" * 40), 4, "isn't the answer")
        self.assertExit(world.cli("connector", "confirm", "conn1", answer.decode()), 0)

    def test_rotation(self):
        world = self.make([people.user(1), people.user(2)],
                          policy={"encryption_key": {"type": "rsa-2048", "rotate_every": "365d"},
                                  "connectors": [{"name": "conn1"}]})
        with self.telling(world):
            self.approvers(world)
            world.ready()
            self.assertExit(world.run_once("60s"), 0)
            judge = oracle.Oracle(world)
            pin = world.pin("encryption")
            made = world.cli("key", "rotate", "--out", world.path("out"), secret=pin, seconds=120)
            self.assertExit(made, 0, "is staged", "encryption-key-2.pem")
            shown = world.cli("key", "status")
            self.assertExit(shown, 0, "staged", "conn1 hasn't confirmed", NEXT)
            self.assertExit(world.cli("key", "activate", "2"), 4, "hasn't confirmed")
            self.confirm(world, judge)
            self.assertExit(world.cli("key", "activate", "2"), 0, "the way back")
            self.assertExit(world.cli("key", "retire", "1", "--yes"), 4)
            self.assertExit(world.run_once("10s"), 0)
            self.assertExit(world.cli("key", "rebuild", "--wait", "60s", seconds=120), 0)
            self.assertExit(world.run_once("10s"), 0)
            for record_id, record in world.sealed().items():
                self.assertEqual(record["keyName"], NEXT)
                judge.prove(record_id, record, ("openssl",))
            states = self.status(world)
            self.assertEqual((states[1]["state"], states[1]["records"]), ("suspended", 0))
            self.assertEqual((states[2]["state"], states[2]["records"]), ("active", 2))
            self.assertIn(states[2]["due_days"], (364, 365))
            self.assertExit(world.cli("key", "retire", "1", "--yes"), 0)
            refused = world.cli("key", "destroy", "1", "--yes", secret=pin)
            self.assertExit(refused, 4, "pfx-agent approve")
            self.approve(world, refused)
            self.assertExit(world.cli("key", "destroy", "1", "--yes", secret=pin), 0,
                            "not found any more in the token")
            self.assertEqual(self.status(world)[1]["state"], "destroyed")


if __name__ == "__main__":
    unittest.main()
