"""The queue of pfx-agentd's notes for the operation log: none lost and none twice, whoever dies, is
away, lies or counts differently."""

import collections
import json
import os
import shutil
import sqlite3
import sys
import threading
import time

sys.dont_write_bytecode = True
from agent_case import main  # noqa: E402
from agent_notes import NotesCase  # noqa: E402
from agent_rig import Arm, Closed, Fail, KINDS, Line  # noqa: E402

FULL = 100000


class Queue(NotesCase):
    def without_hsm(self, **kwargs):
        rig = self.rig(arms=False, **kwargs)
        rig.arms["uploader"] = Arm(rig, "uploader", rig.world.work)
        return rig

    def hsm(self, rig, kinds=None):
        rig.arms["hsm"] = Arm(rig, "hsm", rig.world.work, kinds=kinds)
        return rig.arms["hsm"]

    def shown(self, rig):
        return [i for i in rig.ask("status")[0] if i.get("name") == "operation log"]

    def test_away_then_back(self):
        rig = self.without_hsm(options=["--patience", "1"])
        for i in range(7):
            rig.ask("pause" if i % 2 else "resume", orders=True)
        rig.restart()
        rig.terminate()
        rig.start()
        rig.wait_for(lambda: rig.sql("SELECT count(*), min(n), max(n) FROM note") == [(11, 1, 11)])
        rig.wait_for(lambda: self.shown(rig))
        self.assertEqual(self.shown(rig)[0]["level"], "warn")
        self.assertIn("11 notes wait for pfx-hsm", self.shown(rig)[0]["value"])
        self.hsm(rig)
        self.assertEqual(self.events(rig), ["agentd.start"] + ["command"] * 7 +
                         ["agentd.start", "agentd.stop", "agentd.start"])
        self.assertEqual(self.shown(rig), [])

    def test_an_hsm_that_takes_no_notes(self):
        """Of an earlier release, or its log isn't open: the flow goes on, and the notes wait."""
        rig = self.without_hsm()
        self.group(rig, "alice")
        old = self.hsm(rig, [kind for kind in KINDS["hsm"] if kind != "hsm.log"])
        _, code, _ = rig.run_once()
        self.assertEqual((code, rig.states(), rig.world.oplog), (0, ["ACTIVE"], []))
        old.stop()
        self.hsm(rig)
        self.assertEqual(self.events(rig)[-1], "upload.confirmed")

    def test_waits_behind_nobody(self):
        """An hsm with one place and many keys to make still takes the notes as they come."""
        rig = self.without_hsm()
        rig.world.page = 100
        self.group(rig, *["u%d" % i for i in range(40)])

        def slow(body):
            time.sleep(0.01)
            return rig.world.hsm_key_csr(body)
        rig.world.fault("hsm.key_csr", *[slow] * 40)
        arm = rig.arms["hsm"] = Arm(rig, "hsm", rig.world.work, capacity=1)
        rig.run_once()
        self.settled(rig)
        kinds = arm.log
        between = kinds[kinds.index("hsm.key_csr"):
                        len(kinds) - kinds[::-1].index("hsm.key_csr")].count("hsm.log")
        self.assertGreater(between, 1, kinds)

    def test_killed(self):
        """At each point of the job, with its arm or alone, while an enrolment goes on."""
        def one(point, rebirth, probe):
            with self.world() as rig:
                self.group(rig, "alice")
                hit = threading.Event()
                arm = rig.arms["hsm"]
                seen = []

                def hook(at, kind, _job):
                    if at == point and kind == "hsm.log":
                        seen.append(1)
                        if len(seen) == (1 if probe else 2):
                            rig.kill()
                            if rebirth:
                                arm.reborn()
                            hit.set()
                arm.hook = hook
                thread = threading.Thread(target=self.run_broken, args=(rig,))
                thread.start()
                self.assertTrue(hit.wait(10))
                thread.join()
                rig.start()
                if not rig.enrolments():
                    rig.run_once()
                rig.wait_for(lambda: rig.states() == ["ACTIVE"])
                told = collections.Counter(self.events(rig))
                for event in ("order.placed", "certificate.received", "upload.confirmed"):
                    self.assertEqual(told[event], 1, told)
                self.assertEqual(told["agentd.start"], 2)
                self.assertNotIn("log.dropped", told)
        self.each([(point, rebirth, probe) for point in ("job", "done", "ack")
                   for rebirth in (False, True) for probe in (False, True)], one)

    @staticmethod
    def run_broken(rig):
        try:
            rig.run_once(wait=10)
        except (Closed, OSError):
            pass

    def test_classes_of_failure(self):
        def one(cls):
            with self.world() as rig:
                rig.world.fault("hsm.log", None, *[Fail(cls, "no log", "X")] * 3)
                for i in range(4):
                    rig.ask("pause", orders=True)
                self.settled(rig)
                self.assertEqual(self.events(rig).count("command"), 4)
                self.assertNotIn("log.dropped", self.events(rig))
        self.each([(cls,) for cls in ("transient", "device", "lost", "refused", "integrity",
                                      "internal", "usage")], one)

    def test_log_that_is_refused_is_told(self):
        rig = self.rig()
        rig.world.fault("hsm.log", *[Fail("integrity", "the log is shorter than its anchor")] * 500)
        rig.ask("pause", orders=True)
        trouble = rig.wait_for(lambda: [i for i in rig.ask("status")[0]
                                        if i["kind"] == "trouble" and i["name"] == "log"])
        self.assertIn("shorter than its anchor", trouble[0]["what"])
        rig.world.faults.clear()
        self.assertEqual(self.events(rig), ["agentd.start", "command"])
        self.assertFalse([i for i in rig.ask("status")[0] if i["kind"] == "trouble"])

    def test_a_note_that_is_refused(self):
        """One that pfx-hsm can't take keeps its place, and the others go."""
        rig = self.rig()
        self.group(rig, "alice")
        good = rig.world.hsm_log

        def picky(body):
            if [n for n in body["notes"] if n["event"] == "order.placed"]:
                raise Fail("refused", "this event isn't pfx-agentd's", "event")
            return good(body)
        rig.world.hsm_log = picky
        rig.run_once()
        self.assertEqual(self.events(rig), ["agentd.start", "command", "log.dropped",
                                            "certificate.received", "upload.confirmed"])
        dropped = self.settled(rig)[2]
        self.assertEqual((dropped["outcome"], dropped["count"]), ("refused", 1))

    def test_refuses_everything(self):
        """However long it refuses, nothing but the first note is given up for it."""
        rig = self.rig()
        good = rig.world.hsm_log

        def never(body):
            if body["notes"]:
                raise Fail("refused", "never", "no")
            return good(body)
        rig.wait_for(lambda: self.events(rig) == ["agentd.start"], what="the note of the start")
        rig.world.hsm_log = never
        for _ in range(5):
            rig.ask("pause", orders=True)
        asked = rig.world.counts["hsm.log"]
        rig.wait_for(lambda: rig.world.counts["hsm.log"] > asked + 20)
        rig.world.hsm_log = good
        self.assertEqual(self.events(rig), ["agentd.start", "log.dropped"] + ["command"] * 4)

    def test_a_number_of_dropped_ones_is_refused(self):
        """What others were given up for isn't given up itself."""
        rig = self.without_hsm()
        rig.ask("pause", orders=True)
        rig.edit("UPDATE note SET body = ? WHERE n = 1", json.dumps({
            "n": 1, "at": 1, "event": "log.dropped", "outcome": "ok", "actor": "self",
            "count": 7}).replace(" ", ""))
        good = rig.world.hsm_log
        tries = []

        def at_first(body):
            if body["notes"] and len(tries) < 12:
                tries.append(len(body["notes"]))
                raise Fail("refused", "not yet", "no")
            return good(body)
        rig.world.hsm_log = at_first
        self.hsm(rig)
        self.assertEqual(self.events(rig), ["log.dropped", "command", "agentd.start"])
        self.assertEqual(tries[-3:], [1, 1, 1])
        self.assertEqual(rig.world.oplog[0]["count"], 7)

    def test_takes_in_part_or_not_at_all(self):
        rig = self.rig()
        world = rig.world
        good = world.hsm_log

        def nothing(body):
            return {"n": len(world.oplog)}

        def first(body):
            return good({"notes": body["notes"][:1]})
        world.fault("hsm.log", None, nothing, nothing, first, first)
        for _ in range(5):
            rig.ask("pause", orders=True)
        self.assertEqual(self.events(rig), ["agentd.start"] + ["command"] * 5)

    def test_absurd_number(self):
        rig = self.rig()
        rig.world.fault("hsm.log", *[lambda body: {"n": 2 ** 52}] * 3)
        rig.ask("pause", orders=True)
        self.assertEqual(self.events(rig), ["agentd.start", "command"])

    def test_ever_higher(self):
        """One that says another number each time loses no note, and gets one remark for it."""
        rig = self.rig()
        world = rig.world
        good = world.hsm_log
        high = [1000]

        def liar(body):
            high[0] += 1000
            return {"n": high[0]}
        world.hsm_log = liar
        for _ in range(3):
            rig.ask("pause", orders=True)
        rig.wait_for(lambda: world.counts.get("hsm.log", 0) > 6)
        world.hsm_log = good
        self.assertEqual(self.events(rig), ["log.dropped", "agentd.start"] + ["command"] * 3)

    def test_older_store_put_back(self):
        """Its numbers are used up: what happens from then on comes after them, and is all there."""
        rig = self.rig()
        self.group(rig, "alice")
        rig.ask("pause", uploads=True)
        self.settled(rig)
        rig.terminate()
        shutil.copytree(rig.state, rig.dir + "/old")
        rig.start()
        for _ in range(20):
            rig.ask("pause", orders=True)
        self.settled(rig)
        before = len(rig.world.oplog)
        rig.kill()
        shutil.rmtree(rig.state)
        shutil.copytree(rig.dir + "/old", rig.state)
        arm = rig.arms.pop("hsm")
        arm.stop()
        rig.start()
        for _ in range(40):  # more than pfx-hsm is ahead by
            rig.ask("resume", uploads=True)
        rig.arms["hsm"] = Arm(rig, "hsm", rig.world.work)
        # agentd.stop waited in the store that was copied, and is told again.
        self.assertEqual(self.events(rig)[before:],
                         ["log.dropped", "agentd.stop", "agentd.start"] + ["command"] * 40)
        said = rig.world.oplog[before]
        self.assertEqual((said["outcome"], said["name"], said["count"]),
                         ("integrity", "store-behind", 0))
        self.assertIn("numbered anew", rig.log())

    def test_another_log(self):
        """A successor, or an older one put back: numbers go on from its last."""
        def one(kept, waiting):
            with self.world() as rig:
                for _ in range(5):
                    rig.ask("pause", orders=True)
                self.settled(rig)
                arm = rig.arms.pop("hsm")
                arm.stop()
                del rig.world.oplog[kept:]
                for _ in range(waiting):
                    rig.ask("pause", orders=True)
                rig.arms["hsm"] = Arm(rig, "hsm", rig.world.work)
                if not waiting:
                    rig.ask("pause", orders=True)
                self.assertEqual(self.events(rig)[kept:],
                                 ["log.dropped"] + ["command"] * max(waiting, 1))
                self.assertEqual(rig.world.oplog[kept]["name"], "log-behind")
                rig.ask("pause", orders=True)
                self.assertEqual(self.events(rig)[-1], "command")
        self.each([(0, 3), (2, 3), (0, 0), (5, 1)], one)

    def test_another_log_under_way(self):
        """Its number is asked for before a note that it refuses is given up."""
        rig = self.rig()
        self.last(rig, "agentd.start")
        del rig.world.oplog[:]
        rig.ask("pause", orders=True)
        self.assertEqual(self.events(rig), ["log.dropped", "command"])
        self.assertEqual(rig.world.oplog[0]["name"], "log-behind")

    def test_full(self):
        rig = self.without_hsm(options=["--patience", "1"])
        rig.kill()
        db = sqlite3.connect(rig.state + "/store.db")
        body = json.dumps({"n": 1, "at": 1, "event": "command", "outcome": "ok",
                           "actor": "self"}).replace(" ", "")
        db.execute("DELETE FROM note")
        db.executemany("INSERT INTO note VALUES(?, 1, ?)",
                       ((n, body) for n in range(1, FULL - 4)))
        db.execute("INSERT OR REPLACE INTO meta VALUES('note_last', ?), ('note_sent', ?)",
                   (FULL - 5, FULL - 5))
        db.commit()
        db.close()
        rig.start()
        for _ in range(10):
            rig.ask("pause", orders=True)
        self.assertEqual(rig.sql("SELECT count(*), max(n) FROM note"), [(FULL, FULL)])
        self.assertEqual(rig.sql("SELECT value FROM meta WHERE key = 'note_dropped'"), [(6,)])
        shown = self.shown(rig)[0]
        self.assertEqual(shown["level"], "bad")
        self.assertIn("6 were dropped", shown["value"])
        rig.world.oplog = [{"n": n, "event": "x"} for n in range(1, FULL - 4)]
        self.hsm(rig)
        self.assertEqual(self.events(rig)[FULL - 5:],
                         ["agentd.start"] + ["command"] * 4 + ["log.dropped"])
        self.assertEqual((rig.world.oplog[-1]["count"], rig.world.oplog[-1]["outcome"]), (6, "ok"))
        rig.ask("pause", orders=True)
        self.assertEqual(self.events(rig)[-1], "command")

    def test_damaged_note(self):
        rig = self.without_hsm()
        rig.ask("pause", orders=True)
        rig.edit("UPDATE note SET body = '{' WHERE n = 2")
        self.hsm(rig)
        self.assertEqual(self.events(rig), ["agentd.start", "log.dropped", "agentd.start"])
        self.assertEqual(rig.world.oplog[1]["outcome"], "integrity")

    def test_lost_job(self):
        rig = self.without_hsm()
        rig.wait_for(lambda: rig.sql("SELECT 1 FROM note"))
        rig.edit("DELETE FROM job")
        self.hsm(rig)
        self.assertEqual(self.events(rig), ["agentd.start", "agentd.start"])

    def test_flood_of_failures(self):
        """A thousand an hour are told one by one, the rest as a number."""
        rig = self.rig()
        line = Line(os.path.join(rig.run, "cli"))
        self.addCleanup(line.close)
        for i in range(1, 1051):
            line.send("req", id=i, verb="enrolment.cancel", args={})
            self.assertEqual(line.read()["exit"], 2)
        self.settled(rig)
        rig.terminate()
        rig.start()
        told = self.events(rig)
        self.assertEqual(told, ["agentd.start"] + ["command"] * 1000 +
                         ["log.dropped", "agentd.stop", "agentd.start"])
        self.assertEqual(rig.world.oplog[1001]["count"], 50)


if __name__ == "__main__":
    main()
