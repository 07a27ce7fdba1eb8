"""pfx-agentd where things go wrong in pairs: each test stands for a defect that was found."""

import os
import sqlite3
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
from agent_flow import DAY, FlowCase  # noqa: E402
from agent_rig import GROUP, Fail  # noqa: E402


class Edges(FlowCase):
    def test_dry_run_takes_no_turn(self):
        """Dry runs more often than pass_every must not put the real pass off for ever."""
        rig = self.rig(schedule={"pass_every": "2s"})
        rig.wait_for(lambda: "pass 1 is complete" in rig.log())
        self.group(rig, "alice")
        until = time.time() + 8
        while time.time() < until and not rig.states():
            rig.run_once(dry_run=True)
            time.sleep(0.2)
        self.assertTrue(rig.states())
        rig.wait_for(lambda: rig.states() == ["ACTIVE"])

    def test_run_behind_a_stuck_pass_ends(self):
        """The schedule's pass can't be read: a run that waits for it says so."""
        rig = self.rig(schedule={"pass_every": "1h"}, arms=False)
        rig.world.groups[GROUP] = Fail("transient", "Graph is away", "503")
        rig.start_arms()
        rig.wait_for(lambda: rig.world.counts.get("up.members", 0) > 1)
        _, code, error = rig.ask("run", timeout=90)
        self.assertEqual(code, 5)
        self.assertIn("Graph is away", error["text"])

    def test_one_later_after_a_long_reading(self):
        """A single 429 on a page of a group that took long to read doesn't end the run."""
        rig = self.rig(schedule={"retry_min": "1s", "retry_max": "2s"})
        self.group(rig, "a", "b", "c")

        def slow(body):
            time.sleep(62)
            return rig.world.up_members(body)
        rig.world.fault("up.members", slow, Fail("transient", "slow down", "429"))
        _, code, error = rig.ask("run", timeout=90)
        self.assertEqual((code, error, rig.states()), (0, None, ["ACTIVE"] * 3))

    def test_held_by_limit_follows_the_directory(self):
        rig = self.rig(max_orders_per_pass=1)
        _, bob = self.group(rig, "alice", "bob")
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE", "HELD"])
        bob.update(mail="robert@example.com")
        rig.run_once()
        rig.ask("enrolment.release", enrolment=2)
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE"] * 2)
        self.assertEqual(rig.show(2)["addresses"], ["robert@example.com"])

    def test_bulk_release_leaves_lost_orders(self):
        """--state HELD releases what the limit holds; a lost order only goes by its number."""
        rig = self.rig(max_orders_per_pass=1)
        self.group(rig, "alice", "bob")
        rig.world.fault("up.order", Fail("lost", "time-out"))
        rig.run_once(wait=5)
        self.assertEqual(rig.states(), ["HELD", "HELD"])
        items, code, _ = rig.ask("enrolment.release", state="HELD")
        self.assertEqual((code, [i["enrolment"] for i in items]), (0, [2]))
        rig.run_once(wait=5)
        self.assertEqual(rig.states(), ["HELD", "ACTIVE"])
        for select in ({"all": True}, {"user": "alice@example.com"}):
            _, code, error = rig.ask("enrolment.release", **select)
            self.assertEqual(code, 4)
            self.assertIn("number", error["text"])
        self.assertEqual(len(rig.world.bought), 1)
        first = rig.sql("SELECT sent_first FROM enrolment WHERE id = 1")
        rig.world.fault("up.order", Fail("refused", "no"))
        self.assertEqual(rig.ask("enrolment.release", enrolment=1)[1], 0)
        rig.wait_for(lambda: rig.world.counts["up.order"] == 3)
        rig.wait_for(lambda: rig.states() == ["HELD", "ACTIVE"])
        self.assertEqual(rig.sql("SELECT sent_first, sent_last FROM enrolment WHERE id = 1"),
                         [first[0] + (None,)], "the lost one may exist all the same")
        rig.ask("enrolment.retry", enrolment=1)
        rig.run_once(wait=5)
        self.assertEqual((rig.states(), len(rig.world.bought)), (["ACTIVE"] * 2, 2))

    def test_refused_key_spends_no_budget(self):
        rig = self.rig(max_orders_per_day=1)
        self.group(rig, "alice")
        rig.world.fault("up.order", Fail("usage", "the API key is refused"))
        rig.run_once()
        self.assertEqual(rig.states(), ["HELD"])
        facts = {i["name"]: i for i in rig.ask("status")[0] if i["kind"] == "fact"}
        self.assertEqual(facts["orders today"]["value"], "0 of 1")

    def test_clock_set_back(self):
        """An order that seems to come from tomorrow is polled as often as any other."""
        rig = self.rig(schedule={"poll_every": "1h"})
        rig.world.auto_issue = False
        self.group(rig, "alice")
        rig.run_once()
        rig.kill()
        db = sqlite3.connect(rig.state + "/store.db")
        db.execute("UPDATE enrolment SET ordered_at = ordered_at + ?", (DAY,))
        db.commit()
        db.close()
        rig.start()
        before = rig.world.counts["up.order_changes"]
        _, code, _ = rig.run_once()
        self.assertEqual((code, rig.states()), (0, ["ORDERED"]))
        time.sleep(1)
        self.assertLessEqual(rig.world.counts["up.order_changes"], before + 1)

    def test_readback_refused(self):
        """Not imported again and again while the service won't show the record."""
        rig = self.rig()
        self.group(rig, "alice")
        rig.world.fault("up.readback", *[Fail("refused", "no such role", "403")] * 20)
        _, code, _ = rig.run_once(wait=5)
        self.assertEqual((code, rig.states()), (1, ["HELD"]))
        self.assertEqual(rig.world.counts["up.import"], 3)
        rig.world.faults.clear()
        rig.ask("enrolment.retry", enrolment=1)
        rig.run_once(wait=5)
        self.assertEqual(rig.states(), ["ACTIVE"])

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_strangers_take_no_places(self):
        """With access.auditors everybody can open the socket; operators still find a place."""
        rig = self.rig(arms=False, access="{auditors: daemon}")
        os.chmod(rig.dir, 0o755)
        crowd = subprocess.Popen(
            [sys.executable, "-c", "import socket,sys,time\nl=[]\nfor i in range(40):\n"
             " s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); l.append(s)\n"
             " time.sleep(0.01)\nprint('in', flush=True)\ntime.sleep(30)", rig.run + "/cli"],
            user=65534, group=65534, extra_groups=[], stdout=subprocess.PIPE)
        try:
            self.assertEqual(crowd.stdout.readline(), b"in\n")
            self.assertEqual(rig.ask("status", timeout=5)[1], 0)
        finally:
            crowd.kill()
            crowd.communicate()


if __name__ == "__main__":
    unittest.main(verbosity=2)
