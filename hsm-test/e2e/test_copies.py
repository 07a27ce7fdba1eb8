"""After delivery: signing keys are destroyed where the policy says so, keys for encryption are kept; what
is left in the token, pkcs11-tool says, and what was done, pfx-audit."""

import harness
import invariants
import people
import terminal
from case import WorldCase


class Copies(WorldCase):
    def test_after_delivery(self):
        members = [people.user(n) for n in (1, 2)]
        world = self.ready(members, rules=[
            people.rule("signing", purpose="signing", key="ec-p256"),
            people.rule("encryption", purpose="encryption", key="ec-p256")],
            policy={"users": {"after_delivery": {"signing": "destroy"}}})
        with self.telling(world):
            self.assertExit(world.run_once("60s"), 0)

            def settled():
                rows = world.enrolments()
                return rows if {(r["purpose"], r["key"]) for r in rows} == {
                    ("signing", "destroyed"), ("encryption", "kept")} else None
            rows = harness.wait_for("keys that are destroyed", settled, 30)
            self.assertEqual(len(rows), 4)
            ids = {}
            for row in rows:
                shown = world.cli("key", "show", "--enrolment", str(row["enrolment"]), "--json")
                self.assertExit(shown, 0)
                items = shown.lines()
                ids[row["enrolment"]] = items[0]["id"]
                token = [i for i in items if "algorithm" in i][0]
                kept = row["purpose"] == "encryption"
                self.assertEqual(token["state"], "there" if kept else "not found")
                self.assertEqual(items[0]["state"], "there" if kept else "gone")
            # Other people's tool on the token: both halves of the kept ones, nothing of the others.
            listed = terminal.pkcs11_tool(world, "users", "--list-objects")
            for row in rows:
                self.assertEqual(listed.count(ids[row["enrolment"]]),
                                 2 if row["purpose"] == "encryption" else 0, listed)
            text = world.cli("key", "show", ids[1]).out
            self.assertIn("devices", text)
            self.assertRegex(text, r"intune +there")
            invariants.log_verifies(self, world)
