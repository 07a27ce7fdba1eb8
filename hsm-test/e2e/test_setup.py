"""setup digicert, setup entra, record list and record remove, as an operator types them."""

import unittest

import harness
import people
from case import WorldCase
from terminal import Terminal


class Setup(WorldCase):
    def findings(self, world, which, code):
        result = world.cli("setup", which, "--json", seconds=90)
        self.assertExit(result, code)
        rows = result.lines()
        for row in rows:
            self.assertEqual(row["schema"], "pfx-agent/setup-%s/1" % which)
            self.assertIn(row["level"], ("ok", "warn", "bad"))
        return rows

    def test_what_is_ready_and_what_is_not(self):
        rules = [people.rule(), people.rule("sponsor", product="secure_email_sponsor",
                                            purpose="encryption")]
        world = self.ready([people.user(1)], rules=rules)
        with self.telling(world):
            # A wrong API key: said, with the step that mends it; then that step does mend it.
            self.assertExit(world.cli("secret", "set", "digicert", secret="0" * 48, option="--fd"), 0)
            bad = [r for r in self.findings(world, "digicert", 1) if r["level"] == "bad"]
            self.assertIn("secret set digicert", str(bad))
            self.assertExit(world.set_api_key(), 0)
            rows = self.findings(world, "digicert", 0)
            self.assertEqual([r for r in rows if r["level"] == "bad"], [])
            self.assertIn("secure_email_sponsor", str(rows))
            rows = self.findings(world, "entra", 0)
            self.assertEqual([r for r in rows if r["level"] == "bad"], [])
            shown = world.cli("setup", "entra", seconds=90)
            self.assertExit(shown, 0, "checks: 0 to mend", "nothing was changed")
            self.assertEqual(world.orders(), [])

    def test_what_is_missing_comes_with_its_command(self):
        tenant = people.tenant([people.user(1)], products=["secure_email_sponsor"])
        tenant["apps"][0]["roles"].remove("GroupMember.Read.All")
        world = self.ready(tenant=tenant, rules=[people.rule()])
        with self.telling(world):
            rows = self.findings(world, "entra", 1)
            bad = [r for r in rows if r["level"] == "bad"]
            self.assertIn("GroupMember.Read.All", str(bad))
            self.assertTrue([r for r in bad if "az rest" in r.get("command", "")], bad)
            text = world.cli("setup", "entra", seconds=90)
            self.assertExit(text, 1, "az rest --method POST")
            rows = self.findings(world, "digicert", 1)
            self.assertIn("secure_email_mailbox", str([r for r in rows if r["level"] == "bad"]))


class Records(WorldCase):
    def test_list_and_remove(self):
        world = self.ready([people.user(1), people.user(2)])
        with self.telling(world):
            self.assertExit(world.run_once("30s"), 0)
            self.assertActive(world, [people.upn(1), people.upn(2)])
            listed = world.cli("record", "list", "--json").lines()
            self.assertEqual({r["id"] for r in listed}, {r["id"] for r in world.records()})
            self.assertTrue(all(r["enrolment"] and r["state"] == "there" for r in listed))
            mine = [r["id"] for r in listed if r["upn"] == people.upn(1)]
            # Without a terminal it doesn't guess; on one, another word than yes removes nothing.
            self.assertExit(world.cli("record", "remove", people.upn(1)), 2, "--yes")
            terminal = Terminal(world, harness.program("pfx-agent"), "record", "remove",
                                people.upn(1))
            terminal.read_until(b"Type yes")
            terminal.type("no\n")
            self.assertEqual(terminal.end(), 1)
            self.assertEqual(len(world.records()), 2)
            self.assertExit(world.cli("record", "remove", people.upn(1), "--yes"), 0, mine[0])
            harness.wait_for("one record", lambda: len(world.records()) == 1, 30)
            harness.wait_for("told as gone", lambda: mine[0] not in
                             [r["id"] for r in world.cli("record", "list", "--json").lines()
                              if r["state"] != "gone"], 30, 0.5)
            # The next pass neither orders nor imports it again.
            self.assertExit(world.run_once("10s"), 0)
            self.assertEqual(len(world.records()), 1)
            self.assertEqual(len(world.orders()), 2)
            self.assertExit(world.cli("record", "remove", "nobody@example.com", "--yes"), 1)
            self.assertExit(world.cli("enrolment", "revoke", "1", "--reason", "left"), 2, "--yes")
            self.assertExit(world.cli("enrolment", "revoke", "1", "--yes"), 2, "--reason")


if __name__ == "__main__":
    unittest.main()
