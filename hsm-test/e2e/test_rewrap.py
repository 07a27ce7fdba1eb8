"""The wrapping key and the MAC key change while orders wait at the CA: what was kept is made anew, the
old keys are gone from the token, and every certificate still becomes a PFX that opens."""

import os
import re
import unittest

import invariants
import oracle
import people
from case import WorldCase


class Rewrap(WorldCase):
    def labels(self, world):
        done = world.run("pkcs11-tool", "--module", world.tool_module("users"), "--token-label",
                         "pfx-users", "--login", "--pin", world.pin("users"), "--list-objects", "--type",
                         "secrkey")
        self.assertEqual(done.code, 0, done)
        return {line.split(":", 1)[1].strip() for line in done.out.splitlines()
                if line.strip().startswith("label:")}

    def roster(self, world, first, *others):
        """Who may approve; the first one is who runs the tests."""
        lines = []
        for name in (first, *others):
            done = world.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f",
                             world.path(name))
            self.assertEqual(done.code, 0, done)
            with open(world.path(name + ".pub"), encoding="ascii") as stream:
                lines.append("%s %s" % (name, stream.read()))
        with open(world.path("approvers"), "w", encoding="ascii") as stream:
            stream.writelines(lines)
        os.chmod(world.path("approvers"), 0o644)
        world.changes["policy"] = {
            "users": {"keys": "wrapped"},
            "approvals": {"mode": "ssh", "roster": world.path("approvers"),
                          "uids": [{"uid": os.geteuid(), "principal": first}]}}

    def approved(self, world, one, other, *command):
        asked = world.cli(*command)
        self.assertExit(asked, 4, "pfx-agent approve ")
        question = re.search("pfx-agent approve ([0-9a-f]+)", asked.err).group(1)
        for name in (one, other):
            self.assertExit(world.cli("approve", question, "--key", world.path(name), "--yes"), 0)
        self.assertExit(world.cli(*command), 0, "not found")

    def test_old_keys_go(self):
        members = [people.user(n) for n in range(1, 5)]
        names = [m["userPrincipalName"] for m in members]
        world = self.make(members, rules=[people.rule(key="ec-p256")])
        self.roster(world, "ann", "bob", "cid")
        with self.telling(world):
            world.ready()
            world.setting(issue_delay=3600)
            world.run_once("2s")
            self.assertEqual({s for n in names for s in world.states()[n]}, {"ORDERED"})
            for key in ("wrapping", "mac"):
                self.assertExit(world.cli("standing", "rotate", key), 0, key + "-2 is staged")
                self.assertExit(world.cli("standing", "activate", key + "-2"), 0)
                self.assertExit(world.cli("standing", "destroy", key + "-1", "--yes"), 4,
                                "4 user keys still need %s-1" % key)
            self.assertExit(world.cli("standing", "rewrap", "--wait", "60s"), 0, "4 made anew")
            for key in ("wrapping", "mac"):
                self.approved(world, "bob", "cid", "standing", "destroy", key + "-1", "--yes")
            there = self.labels(world)
            self.assertTrue({"pfx-agent wrapping-2", "pfx-agent mac-2"} <= there, there)
            self.assertFalse({"pfx-agent wrapping-1", "pfx-agent mac-1"} & there, there)
            for order in world.orders():
                world.control("/digicert/order/%d" % order["id"], {"status": "issued"})
            self.until_active(world, names)
            judge = oracle.Oracle(world)
            sealed = world.sealed()
            self.assertEqual(len(sealed), 4)
            for record_id, record in sealed.items():
                judge.prove(record_id, record, ("openssl",))
            invariants.log_verifies(self, world)


if __name__ == "__main__":
    unittest.main()
