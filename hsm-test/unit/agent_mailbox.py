"""Shared mailboxes: pfx-agentd reads them in a pass, and who may open one has its addresses."""

import sys
import time
import unittest

sys.dont_write_bytecode = True
import agent_rig  # noqa: E402
from agent_flow import FlowCase  # noqa: E402
from agent_rig import GROUP, RULE, Fail  # noqa: E402

for kind in ("up.mailboxes", "up.mailbox_rights"):
    if kind not in agent_rig.KINDS["uploader"]:
        agent_rig.KINDS["uploader"].append(kind)

SHARED = dict(RULE, shared_mailboxes="true")


class Exchange(agent_rig.World):
    """The world with shared mailboxes: {id: (addresses, UPNs)}, two of them on a page."""

    def __init__(self):
        super().__init__()
        self.mailboxes, self.asked, self.together, self.most_together = {}, [], 0, 0

    def up_mailboxes(self, body):
        ids = sorted(self.mailboxes)
        at = int(body.get("page", "0"))
        answer = {"mailboxes": [{"id": i, "addresses": self.mailboxes[i][0]}
                                for i in ids[at:at + 2]]}
        if at + 2 < len(ids):
            answer["page"] = str(at + 2)
        return answer

    def up_mailbox_rights(self, body):
        self.asked.append(body["id"])
        return {"users": self.mailboxes[body["id"]][1]}


class Mailboxes(FlowCase):
    def exchange(self, mailboxes, rules=None, **more):
        """A rig whose group is alice and bob, and whose Exchange has these."""
        world = agent_rig.World
        agent_rig.World = Exchange
        try:
            rig = self.rig(rules=rules or [SHARED], **more)
        finally:
            agent_rig.World = world
        rig.world.mailboxes = dict(mailboxes)
        self.group(rig, "alice", "bob")
        return rig

    def addresses(self, rig):
        return {e["upn"].split("@")[0]: e["addresses"] for e in rig.enrolments()}

    def troubles(self, rig):
        return {i["name"]: i for i in rig.ask("status")[0] if i["kind"] == "trouble"}

    def sees(self, rig, wanted):
        self.assertEqual(self.addresses(rig), wanted)

    def test_addresses_of_mailboxes(self):
        """Pages of mailboxes; UPNs without regard to case; mail addresses only."""
        rig = self.exchange({
            "sales@example.com": (["SMTP:sales@example.com", "smtp:verkauf@example.com",
                                   "X500:/o=x", "SIP:sales@example.com",
                                   "smtp:sales@contoso.onmicrosoft.com"],
                                  ["ALICE@Example.COM", "carol@example.com", "bob@example.com"]),
            "info@example.com": (["smtp:Info@example.com", "SMTP:info@b\u00fccher.example"],
                                 ["alice@example.com"]),
            "nobody@example.com": (["smtp:nobody@example.com"], []),
            "own@example.com": (["smtp:ALICE@example.com"], ["alice@example.com"])})
        rig.run_once()
        self.sees(rig, {
            "alice": ["alice@example.com", "Info@example.com", "info@xn--bcher-kva.example",
                      "sales@example.com", "verkauf@example.com"],
            "bob": ["bob@example.com", "sales@example.com", "verkauf@example.com"]})
        self.assertEqual(set(rig.states()), {"ACTIVE"})
        self.assertEqual(rig.sql("SELECT count(*) FROM mailbox"), [(4,)])
        self.assertEqual(sorted(set(rig.world.asked)), sorted(rig.world.mailboxes))

    def test_rules_without_are_left_alone(self):
        """Only a rule that says so has them; where none does, Exchange isn't asked, and what was
        kept is forgotten."""
        rig = self.exchange({"m@example.com": (["smtp:m@example.com"], ["alice@example.com"])})
        rig.run_once(dry_run=True)
        self.assertEqual(rig.sql("SELECT count(*) FROM mailbox_right"), [(1,)])
        rig.rules = [RULE]
        rig.write_config()
        rig.restart()
        asked = rig.world.counts["up.mailboxes"]
        rig.run_once()
        self.sees(rig, {"alice": ["alice@example.com"], "bob": ["bob@example.com"]})
        self.assertEqual(rig.world.counts["up.mailboxes"], asked)
        self.assertEqual(rig.sql("SELECT count(*) FROM mailbox_right"), [(0,)])

    def test_read_as_often_as_the_schedule_says(self):
        rig = self.exchange({"m@example.com": (["smtp:m@example.com"], ["alice@example.com"])},
                            schedule={"mailboxes_every": "2s"})
        began = time.time()
        rig.run_once()
        rig.run_once()
        if time.time() < began + 2:
            self.assertEqual(rig.world.counts["up.mailboxes"], 1)
        time.sleep(2.1)
        rig.run_once()
        self.assertEqual(rig.world.counts["up.mailboxes"], 2)

    def test_never_read_waits(self):
        """No reading yet: who needs it waits, and is told why; others don't."""
        other = dict(RULE, name="plain", group=agent_rig.GROUP2, intune="encryption",
                     purpose="dual")
        rig = self.exchange({"m@example.com": (["smtp:m@example.com"], ["alice@example.com"])},
                            rules=[SHARED, other])
        rig.world.groups[agent_rig.GROUP2] = rig.world.groups[GROUP][:1]
        rig.world.fault("up.mailboxes", Fail("refused", "no role for Exchange", "403"))
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        plans = {(i["rule"], i["user"]): i for i in items if i["kind"] == "plan"}
        self.assertEqual(plans[("staff", "alice@example.com")]["decision"], "wait")
        self.assertIn("shared mailboxes", plans[("staff", "alice@example.com")]["why"])
        self.assertEqual([e["rule"] for e in rig.enrolments()], ["plain"])
        what = self.troubles(rig)["mailboxes"]["what"]
        self.assertIn("no role for Exchange", what)
        self.assertIn("never read", what)
        # The next pass reads again, and all follows.
        rig.run_once()
        self.assertNotIn("mailboxes", self.troubles(rig))
        self.assertEqual(sorted(rig.states()), ["ACTIVE"] * 3)

    def test_last_reading_stays_in_force(self):
        """A reading that fails anywhere changes nothing: nobody gets fewer addresses by it."""
        rig = self.exchange({"a@example.com": (["smtp:a@example.com"], ["alice@example.com"]),
                             "b@example.com": (["smtp:b@example.com"], ["alice@example.com"])},
                            schedule={"mailboxes_every": "1s"}, max_orders_per_pass=1)
        rig.run_once(dry_run=True)
        for kind in ("up.mailboxes", "up.mailbox_rights"):
            time.sleep(1.1)
            rig.world.mailboxes = {"c@example.com": (["smtp:c@example.com"], ["bob@example.com"])}
            rig.world.fault(kind, Fail("refused", "gone wrong", "500"))
            items, _, _ = rig.run_once(dry_run=True)
            plan = {i["user"]: i["addresses"] for i in items if i["kind"] == "plan"}
            self.assertEqual(plan["alice@example.com"],
                             ["alice@example.com", "a@example.com", "b@example.com"])
            self.assertEqual(plan["bob@example.com"], ["bob@example.com"])
            what = self.troubles(rig)["mailboxes"]["what"]
            self.assertIn("gone wrong", what)
            self.assertIn("stay as they were read at", what)
            self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind LIKE 'up.mailbox%'"),
                             [(0,)])
        # Exchange gets well: the reading of then counts, whole.
        time.sleep(1.1)
        items, _, _ = rig.run_once(dry_run=True)
        plan = {i["user"]: i["addresses"] for i in items if i["kind"] == "plan"}
        self.assertEqual(plan["alice@example.com"], ["alice@example.com"])
        self.assertEqual(plan["bob@example.com"], ["bob@example.com", "c@example.com"])
        self.assertNotIn("mailboxes", self.troubles(rig))

    def test_later_is_not_for_ever(self):
        """429 is asked again; an Exchange that is away for long lets the pass go on."""
        rig = self.exchange({"m@example.com": (["smtp:m@example.com"], ["alice@example.com"])},
                            schedule={"mailboxes_every": "1s", "retry_max": "30ms"})
        rig.world.fault("up.mailboxes", *[Fail("transient", "slow down", "429")] * 3)
        rig.world.fault("up.mailbox_rights", Fail("lost", "time-out"))
        rig.run_once()
        self.assertEqual(self.addresses(rig)["alice"], ["alice@example.com", "m@example.com"])
        time.sleep(1.1)
        rig.world.fault("up.mailboxes", *[Fail("transient", "away", "503")] * 20)
        _, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertIn("away", self.troubles(rig)["mailboxes"]["what"])
        self.assertLess(rig.world.counts["up.mailboxes"], 20)

    def test_a_few_at_once_and_killed_between(self):
        """Rights of many mailboxes: eight questions out at once, each asked once; a restart in the
        middle goes on where it was."""
        rig = self.exchange({"m%02d@example.com" % n:
                             (["smtp:m%02d@example.com" % n], ["alice@example.com"])
                             for n in range(40)})
        most = []

        def count(point, kind, job):
            if kind == "up.mailbox_rights" and point == "job":
                most.append(rig.sql("SELECT count(*) FROM job WHERE kind = 'up.mailbox_rights'")
                            [0][0])
                if len(most) == 20:
                    rig.kill()
        rig.arms["uploader"].hook = count
        try:
            rig.ask("run", timeout=30)
        except (agent_rig.Closed, OSError):
            pass
        rig.process.wait(10)
        rig.start()
        rig.wait_for(lambda: "40 shared mailboxes were read" in rig.log(), 20)
        rig.run_once()
        self.assertEqual(len(self.addresses(rig)["alice"]), 41)
        self.assertLessEqual(max(most), 8)
        self.assertLessEqual(len(rig.world.asked), 40 + 8)
        self.assertEqual(rig.world.counts["up.mailboxes"], 20)

    def test_an_endless_list_ends(self):
        rig = self.exchange({})
        rig.world.up_mailboxes = lambda body: {"mailboxes": [], "page": "again"}
        items, code, _ = rig.run_once(timeout=90)
        self.assertEqual(code, 1)
        self.assertIn("doesn't end", self.troubles(rig)["mailboxes"]["what"])

    def test_bad_and_too_many_addresses(self):
        """One that no certificate carries is refused with the mailbox's name; the 65th too."""
        rig = self.exchange({
            "umlaut@example.com": (["smtp:j\u00f6rg@example.com"], ["alice@example.com"]),
            "many@example.com": (["smtp:m%d@example.com" % n for n in range(64)],
                                 ["bob@example.com"])})
        rig.run_once()
        self.assertEqual(rig.enrolments(), [])
        troubles = self.troubles(rig)
        self.assertIn("j\u00f6rg@example.com", troubles["alice@example.com"]["what"])
        self.assertIn("the shared mailbox umlaut@example.com",
                      troubles["alice@example.com"]["next"])
        self.assertIn("more than 64", troubles["bob@example.com"]["what"])

    def test_who_may_open_everything(self):
        """An account with rights everywhere is refused without reading all of it; national
        clouds' technical domains are no addresses."""
        rig = self.exchange(dict({
            "m%02d@example.com" % n: (["smtp:m%02d.%02d@example.com" % (n, i) for i in range(60)],
                                      ["alice@example.com"]) for n in range(20)},
            **{"us@example.com": (["smtp:us@example.com"] +
                                  ["smtp:us%d@contoso.onmicrosoft.us" % i for i in range(399)],
                                 ["bob@example.com"])}))
        rig.run_once()
        self.assertIn("far more than the 64", self.troubles(rig)["alice@example.com"]["what"])
        self.assertIn("shared_mailboxes", self.troubles(rig)["alice@example.com"]["next"])
        self.sees(rig, {"bob": ["bob@example.com", "us@example.com"]})

    def test_changes_buy_nothing(self):
        """Whoever has a certificate keeps it: new addresses come with the renewal."""
        rig = self.exchange({"m@example.com": (["smtp:m@example.com"], ["alice@example.com"])},
                            schedule={"mailboxes_every": "1s"})
        rig.run_once()
        bought = len(rig.world.bought)
        rig.world.mailboxes["n@example.com"] = (["smtp:n@example.com"], ["alice@example.com"])
        time.sleep(1.1)
        rig.run_once()
        self.assertEqual(rig.world.counts["up.mailboxes"], 2)
        self.assertEqual(len(rig.world.bought), bought)
        self.assertEqual(self.addresses(rig)["alice"], ["alice@example.com", "m@example.com"])

    def test_held_by_limit_takes_the_addresses_of_then(self):
        rig = self.exchange({"m@example.com": (["smtp:m@example.com"], ["bob@example.com"])},
                            schedule={"mailboxes_every": "1s"}, max_orders_per_pass=1)
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE", "HELD"])
        rig.world.mailboxes["m@example.com"][0].append("smtp:n@example.com")
        time.sleep(1.1)
        rig.run_once()
        self.assertEqual(self.addresses(rig)["bob"],
                         ["bob@example.com", "m@example.com", "n@example.com"])


if __name__ == "__main__":
    unittest.main()
