"""What is kept of user keys made anew after another wrapping key or MAC key was put in force: all of it,
while users go on enrolling and pfx-agentd is killed; what is refused stays as it was."""

import sys
import threading
import time

sys.dont_write_bytecode = True
from agent_case import FlowCase, alone, main  # noqa: E402,F401
from agent_rig import GROUP, Fail, now_ms  # noqa: E402


class Rewrap(FlowCase):
    def delivered(self, n):
        rig = self.rig(max_orders_per_pass=500, max_orders_per_day=500)
        rig.world.page = 500
        self.group(rig, *["u%03d" % i for i in range(n)])
        self.assertEqual(self.summary(rig.run_once()[0])["finished"], n)
        return rig

    def rewrap(self, rig, code=0, **args):
        items, exit, error = rig.ask("key.rewrap", **(args or {"wait": 30}))
        self.assertEqual(exit, code, (items[-1:], error))
        return items[-1]

    def check(self, rig, epoch, n):
        rows = rig.sql("SELECT key_ref, ticket, key_epoch FROM enrolment ORDER BY id")
        self.assertEqual([(r[0].split("@")[1], r[2]) for r in rows], [(str(epoch), epoch)] * n)
        given = {ref for ref, ticket in rig.world.refs}
        self.assertTrue({r[0] for r in rows} <= given)
        self.assertEqual(len({r[1] for r in rows}), n)
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind = 'hsm.rewrap'"), [(0,)])

    def test_all(self):
        rig = self.delivered(40)  # more than are on their way at once
        self.assertEqual(self.rewrap(rig, count=True)["left"], 0)
        self.assertEqual(self.rewrap(rig)["done"], 0)
        rig.world.epoch = 5
        count = self.rewrap(rig, count=True)
        self.assertEqual((count["epoch"], count["left"], count["done"]), (5, 40, 0))
        self.assertNotIn("hsm.rewrap", rig.world.counts)
        last = self.rewrap(rig)
        self.assertEqual((last["phase"], last["done"], last["left"], last["held"]),
                         ("done", 40, 0, 0))
        self.check(rig, 5, 40)
        self.assertEqual(rig.world.counts["hsm.rewrap"], 40)
        # What is made meanwhile needs nothing.
        rig.world.groups[GROUP] += [rig.world.user("new")]
        rig.run_once()
        self.assertEqual(self.rewrap(rig)["done"], 0)
        self.check(rig, 5, 41)
        self.assertEqual(rig.states(), ["ACTIVE"] * 41)

    def test_killed_under_way(self):
        rig = self.delivered(40)
        rig.world.epoch = 5
        here = threading.Event()
        rig.world.fault("hsm.rewrap", *[None] * 10, lambda body: here.set())
        self.assertEqual(rig.ask("key.rewrap")[1], 0)
        self.assertTrue(here.wait(20))
        rig.restart()
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM enrolment WHERE key_epoch = 5")
                     == [(40,)])
        rig.wait_for(lambda: rig.sql("SELECT value FROM meta WHERE key = 'rewrap_started'")[0][0]
                     in (0, "0"))
        self.check(rig, 5, 40)

    def test_changed_again_under_way(self):
        rig = self.delivered(20)
        rig.world.epoch = 5

        def turn(body):
            rig.world.epoch = 6
        rig.world.fault("hsm.rewrap", *[None] * 5, turn)
        self.rewrap(rig)
        left = self.rewrap(rig)
        self.assertEqual((left["epoch"], left["left"]), (6, 0))
        self.check(rig, 6, 20)

    def test_refused(self):
        rig = self.delivered(3)
        rig.world.epoch = 5
        rig.world.fault("hsm.rewrap", Fail("integrity", "made up"), Fail("device", "a moment"))
        last = self.rewrap(rig, code=1)
        self.assertEqual((last["done"], last["left"], last["held"]), (2, 1, 1))
        self.assertEqual(rig.states(), ["ACTIVE"] * 3)
        self.assertEqual(rig.sql("SELECT count(*) FROM enrolment WHERE key_ref LIKE '%@0'"), [(1,)])
        self.assertEqual(self.rewrap(rig)["left"], 0)  # put right, it is taken up again
        self.check(rig, 5, 3)

    def test_run_does_not_wait(self):
        """A run ends with its own work: thousands of keys may still be rewrapped."""
        rig = self.delivered(40)
        plain = rig.world.hsm_rewrap

        def slow(body):
            time.sleep(0.1)
            return plain(body)
        rig.world.hsm_rewrap = slow
        rig.world.epoch = 5
        self.assertEqual(rig.ask("key.rewrap")[1], 0)
        self.assertEqual(rig.run_once()[1], 0)
        self.assertGreater(rig.sql("SELECT count(*) FROM job WHERE kind = 'hsm.rewrap'")[0][0], 0)
        rig.wait_for(lambda: rig.sql("SELECT value FROM meta WHERE key = 'rewrap_started'") == [(0,)])
        self.check(rig, 5, 40)

    def test_report_on_its_way(self):
        """One that pfx-hsm was asked for before another key was put in force says nothing of that."""
        rig = self.delivered(2)
        old = rig.world.hsm_report({})
        here, go = threading.Event(), threading.Event()

        def late(body):
            here.set()
            rig.world.lock.release()
            go.wait(20)
            rig.world.lock.acquire()
            return old
        rig.world.fault("hsm.report", late)
        first = threading.Thread(target=lambda: rig.ask("key.rewrap", count=True))
        first.start()
        self.assertTrue(here.wait(20))
        rig.world.epoch = 5
        last = []
        second = threading.Thread(target=lambda: last.append(self.rewrap(rig)))
        second.start()
        time.sleep(0.3)
        go.set()
        first.join()
        second.join()
        self.assertEqual(last[0]["done"], 2)
        self.check(rig, 5, 2)

    def test_row_without_a_ticket(self):
        rig = self.delivered(3)
        rig.edit("UPDATE enrolment SET ticket = NULL WHERE id = 2")
        rig.world.epoch = 5
        last = self.rewrap(rig, code=1)
        self.assertEqual((last["done"], last["left"], last["held"]), (2, 1, 1))
        self.assertIn("damaged", " ".join(rig.show(2)["history"]))

    def test_key_on_its_way(self):
        """A key whose making began before the change is counted until its answer is here."""
        rig = self.delivered(1)
        here, go = threading.Event(), threading.Event()
        rig.world.epoch = now_ms() + 60000  # a change in a minute: all that is sent comes before it
        self.assertEqual(self.rewrap(rig, count=True)["left"], 1)

        def left():
            return next(i["value"] for i in rig.ask("status")[0] if i.get("name") == "rewrapping")

        def wait(body):
            here.set()
            rig.world.lock.release()
            go.wait(20)
            rig.world.lock.acquire()
        rig.world.fault("hsm.key_csr", wait)
        rig.world.groups[GROUP] += [rig.world.user("late")]
        run = threading.Thread(target=rig.run_once)
        run.start()
        self.assertTrue(here.wait(20))
        self.assertIn(", 2 left", left())
        go.set()
        run.join()
        self.assertIn(", 1 left", left())

    def test_swapped_in_the_store(self):
        """One user's key under another's name: pfx-hsm refuses, and nothing is mixed up."""
        rig = self.delivered(2)
        rig.edit("UPDATE enrolment SET key_ref = (SELECT key_ref FROM enrolment WHERE id = 1),"
                 " ticket = (SELECT ticket FROM enrolment WHERE id = 1) WHERE id = 2")
        rig.world.epoch = 5
        self.assertEqual(self.rewrap(rig, code=1)["held"], 1)
        self.assertEqual(rig.sql("SELECT key_epoch FROM enrolment ORDER BY id"), [(5,), (0,)])


if __name__ == "__main__":
    main()
