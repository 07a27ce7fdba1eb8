"""pfx-agentd where things go wrong in pairs: each test stands for a defect that was found."""

import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
from agent_case import DAY, FlowCase, alone, main  # noqa: E402
from agent_rig import GROUP, GROUP2, RULE, Fail, Silent  # noqa: E402


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
        rig = self.rig(schedule={"pass_every": "1h"}, arms=False, options=["--patience", "3"])
        rig.world.groups[GROUP] = Fail("transient", "Graph is away", "503")
        rig.start_arms()
        rig.wait_for(lambda: rig.world.counts.get("up.members", 0) > 1)
        start = time.time()
        _, code, error = rig.ask("run")
        self.assertGreater(time.time() - start, 2.5)
        self.assertEqual(code, 5)
        self.assertIn("Graph is away", error["text"])

    def test_one_later_after_a_long_reading(self):
        """A single 429 on a page of a group that took long to read doesn't end the run."""
        rig = self.rig(schedule={"retry_min": "1s", "retry_max": "2s"},
                       options=["--patience", "3"])
        self.group(rig, "a", "b", "c")

        def slow(body):
            time.sleep(4)
            return rig.world.up_members(body)
        rig.world.fault("up.members", slow, Fail("transient", "slow down", "429"))
        _, code, error = rig.ask("run")
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

    def test_waiting_run_lets_the_schedule_go_on(self):
        """run --once --wait 1d watches for a day: passes begin meanwhile."""
        rig = self.rig(schedule={"pass_every": "2s", "validation_every": "1h"})
        rig.world.auto_issue = False
        self.group(rig, "alice")
        watcher = threading.Thread(target=lambda: rig.run_once(wait=15), daemon=True)
        watcher.start()
        rig.wait_for(lambda: rig.states() == ["ORDERED"])
        rig.world.groups[GROUP].append(rig.world.user("bob"))
        rig.wait_for(lambda: len(rig.states()) == 2, 8, "a pass of the schedule")
        self.assertTrue(watcher.is_alive())
        rig.wait_for(lambda: len(rig.world.orders) == 2)
        rig.world.set_status(5000, "issued")
        rig.world.set_status(5001, "issued")
        watcher.join(20)
        self.assertEqual(rig.states(), ["ACTIVE"] * 2)

    def test_group_changed_in_mid_pass(self):
        """What was read of the old group isn't taken for the new one's members."""
        for read in (False, True):
            with self.subTest(read=read):
                rig = self.rig()
                rig.world.groups = {GROUP: [rig.world.user("old")], GROUP2: [rig.world.user("new")]}
                rig.world.fault("up.records", *[Silent()] * 2)
                if not read:
                    rig.world.fault("up.members", Silent())
                threading.Thread(target=lambda: self.quietly(rig), daemon=True).start()
                rig.wait_for(lambda: rig.world.counts.get("up.records") and
                             rig.world.counts.get("up.members"))
                if read:
                    rig.wait_for(lambda: rig.sql("SELECT 1 FROM member"))
                rig.kill()
                rig.world.faults.clear()
                rig.arms["uploader"].reborn()
                rig.rules = [dict(RULE, group=GROUP2)]
                rig.write_config()
                rig.start()
                rig.wait_for(lambda: rig.states() == ["ACTIVE"], 15)
                self.assertEqual([e["upn"] for e in rig.enrolments()], ["new@example.com"])

    @staticmethod
    def quietly(rig):
        try:
            rig.run_once()
        except Exception:  # the line breaks with the daemon
            pass

    def test_renamed_rule_that_cant_be_read(self):
        """Nobody knows who its members are, so nobody has left."""
        rig = self.rig()
        self.group(rig, "alice")
        rig.ask("pause", orders=True)
        rig.run_once()
        self.assertEqual(rig.states(), ["KEYED"])
        rig.terminate()
        rig.rules = [dict(RULE, name="people")]
        rig.write_config()
        rig.start()
        alice = rig.world.groups[GROUP]
        rig.world.groups[GROUP] = Fail("refused", "no such group", "404")
        rig.run_once()
        rig.run_once()
        self.assertEqual(rig.states(), ["KEYED"])
        rig.world.groups[GROUP] = []
        rig.run_once()
        self.assertEqual(rig.states(), ["ENDED"], "read, and empty")
        rig.world.groups[GROUP] = alice

    def test_damaged_rows_block_nobody(self):
        rig = self.rig()
        _, bob = self.group(rig, "alice", "bob")
        rig.ask("pause", orders=True)
        rig.run_once()
        self.assertEqual(rig.states(), ["KEYED"] * 2)
        rig.edit("UPDATE user SET salt = x'00' WHERE upn = 'alice@example.com'")
        rig.edit("INSERT INTO job(scope, arm, kind, payload, not_before, created_at)"
                 " VALUES('x', 'uploader', 'up.nonsense', '{}', 0, 0)")
        rig.world.groups[GROUP].append(rig.world.user("carol"))
        rig.ask("resume", orders=True)
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertEqual(rig.states(), ["HELD", "ACTIVE", "ACTIVE"])
        troubles = {i["user"]: i["why"] for i in items if i["kind"] == "trouble" and "user" in i}
        self.assertIn("salt", troubles["alice@example.com"])
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'"), [(0,)])
        self.assertEqual(len(rig.ask("enrolment.list")[0]), 3)

    def test_disk_full_at_the_end_of_a_pass(self):
        """Not evaluated again and again while nothing can be written."""
        rig = self.rig(arms=False)

        def notes():
            return rig.sql("SELECT count(*) FROM note")[0][0]
        rig.wait_for(lambda: notes() == 1, what="the note of the first start")
        rig.edit("INSERT INTO meta VALUES('pass_no', 1), ('pass_active', 1), ('pass_started', 1)")
        rig.wait_for(lambda: notes() == 2, what="the note of the second start")
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

        def spent():
            with open("/proc/%d/io" % rig.process.pid, encoding="ascii") as file:
                return int([x for x in file if x.startswith("syscw")][0].split()[1])
        before = spent()
        time.sleep(6)
        self.assertLess(spent() - before, 18, "after 1, 2 and 4 seconds, not ten times a second")
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE,
                         (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        rig.wait_for(lambda: "pass 1 is complete" in rig.log(), 30)

    def test_endless_pages(self):
        rig = self.rig()
        alice = self.group(rig, "alice")
        rig.world.fault("up.members", *[lambda body: {
            "users": alice, "page": str(int(body.get("page", "0")) + 1)}] * 3000)
        items, code, _ = rig.run_once()
        self.assertEqual(code, 1)
        self.assertEqual(rig.world.counts["up.members"], 2000)
        self.assertIn("doesn't end", [i for i in items if i["kind"] == "trouble"][0]["why"])
        self.assertEqual(rig.states(), [], "what was read isn't taken for the group")

    def test_evaluation_in_slices(self):
        """2,000 users: somebody who asks meanwhile is answered, and the limits hold over slices,
        over a death in the middle too."""
        rig = self.rig(max_orders_per_pass=700, max_orders_per_day=10000)
        rig.world.page = 999
        rig.ask("pause", orders=True)
        rig.arms["hsm"].stop()
        self.group(rig, *["u%04d" % i for i in range(2000)])
        threading.Thread(target=lambda: self.quietly(rig), daemon=True).start()
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM enrolment")[0][0] > 0, 20)
        rig.kill()
        first = rig.sql("SELECT count(*) FROM enrolment")[0][0]
        self.assertGreater(first, 0)
        rig.start()
        rig.wait_for(lambda: "pass 1 is complete" in rig.log(), 30)
        self.assertEqual(rig.sql("SELECT state, count(*) FROM enrolment GROUP BY state"),
                         [("HELD", 1300), ("NEW", 700)])

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

    @alone
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
    main()
