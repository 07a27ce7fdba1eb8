"""pfx-audit history and stats, against what Python counts in the same entries."""

import json
import os
import re
import sys
import time
import unittest

from audit_rig import UNVERIFIED, Reading
from audit_log import Log, User


class History(Reading):
    def timeline(self, what, code=0):
        items = self.json("history", self.export, what, code=code)
        return self.of(items, "enrolment"), self.of(items, "step"), items[-1]

    def test_user(self):
        enrolments, steps, end = self.timeline("alice@example.com")
        self.assertEqual([12, 14], [item["enrolment"] for item in enrolments])
        first, second = enrolments
        self.assertEqual((self.world.alice.id, "alice@example.com"),
                         (first["user_id"], first["upn"]))
        for name in ("key_made", "ordered", "certificate_received", "pfx_released",
                     "upload_confirmed", "same_pfx"):
            self.assertTrue(first[name], name)
        self.assertEqual((True, True, False, False, False),
                         tuple(second[name] for name in
                               ("key_made", "ordered", "certificate_received", "pfx_released",
                                "upload_confirmed")))
        self.assertEqual("user", end["found_as"])
        of_12 = [step for step in steps if step["enrolment"] == 12]
        self.assertEqual(
            ["key.make", "key.make", "order.placed", "certificate.received", "pfx.build",
             "upload.confirmed"], [step["event"] for step in of_12])
        self.assertEqual([self.world.failed, self.world.made, self.world.built],
                         [(step["entry"], step["result"]) for step in of_12 if "result" in step])
        made, built = of_12[1], of_12[4]
        self.assertEqual((250, 2, "02" * 20, "ok"),
                         tuple(made[name] for name in ("took_ms", "attempt", "key_id", "outcome")))
        self.assertEqual(("direct", 2, "d1" * 32),
                         tuple(built[name] for name in ("tier", "generation", "out_sha256")))
        self.assertEqual(("device", "CKR_DEVICE_ERROR"),
                         (of_12[0]["outcome"], of_12[0]["fail_code"]))
        unknown = [step for step in steps if step["outcome"] == "unknown"]
        self.assertEqual([(self.world.dangling, self.world.unknown)],
                         [(step["entry"], step["result"]) for step in unknown])

    def test_key_order_certificate(self):
        wanted = self.timeline("alice@example.com")[1]
        wanted = [step for step in wanted if step["enrolment"] == 12]
        for text, found in ((self.world.keys[2], "key"), ("02020202", "key"), ("52" * 32, "key"),
                            ("542772", "order"), ("7a" * 20, "certificate")):
            enrolments, steps, end = self.timeline(text)
            self.assertEqual([12], [item["enrolment"] for item in enrolments], text)
            self.assertEqual(wanted, steps, text)
            self.assertEqual(found, end["found_as"])
        self.assertEqual([14], [item["enrolment"] for item in self.timeline("5EC0FFEE-0001")[0]])

    def test_withheld(self):
        enrolments, steps, _ = self.timeline(self.world.bob.upn)
        self.assertEqual([13, 16], [item["enrolment"] for item in enrolments])
        self.assertFalse(enrolments[0]["pfx_released"])
        self.assertIn("release.withheld", [step["event"] for step in steps])
        out, _ = self.run_it("history", self.export, self.world.bob.upn)
        self.assertIn("then withheld, so it never left pfx-hsm", out)

    def test_beside_enrolments(self):
        enrolments, steps, end = self.timeline(self.world.keys[7])
        self.assertEqual(([], 1100), (enrolments, len(steps)))
        self.assertEqual(0, end["enrolments"])

    def test_table(self):
        out, _ = self.run_it("history", self.export, "alice@example.com")
        lines = out.splitlines()
        self.assertIn(UNVERIFIED, lines[0])
        self.assertIn("found as user; 2 enrolments", lines)
        self.assertIn("enrolment 12 of alice@example.com", lines)
        self.assertIn("enrolment 14 of alice@example.com", lines)
        self.assertTrue(any(re.search(r"key\.make +ok +250 ms +self +%d-%d " % self.world.made,
                                      line) for line in lines))
        self.assertIn("  PFX built          yes, entry %d: tier direct, sealed to generation 2"
                      % self.world.built[1], lines)
        self.assertIn("  upload confirmed   yes, entry %d: record record-1" % self.world.upload,
                      lines)
        self.assertIn("  upload confirmed   no entry says so", lines)

    def test_nobody(self):
        enrolments, steps, end = self.timeline("carol@example.com", code=1)
        self.assertEqual(([], []), (enrolments, steps))
        self.assertIn("no entry names it",
                      self.run_it("history", self.export, "99", code=1)[0])

    def test_gap_is_said(self):
        os.unlink(os.path.join(self.export, "tile/entries/003"))
        out, _ = self.run_it("history", self.export, self.world.bob.upn)
        self.assertIn("not presented: 256 entries", out)
        self.assertIn("steps may be missing", out)
        os.unlink(os.path.join(self.export, "tile/entries/000"))
        # The late result is there, but what says that it is bob's isn't.
        out, _ = self.run_it("history", self.export, self.world.bob.upn, code=1)
        self.assertIn("steps may be missing", out)

    def test_same_number_in_another_store(self):
        """A store that was lost: its successor counts enrolments from 1, too."""
        log = Log()
        log.users = [User(1, "alice@example.com"), User(2, "bob@example.com")]
        for n, user in enumerate(log.users):
            log.pair("key.make", intent={"key": {"id": "%02x" % n * 20},
                                         "target": {"enrolment": 1, "user": user.hash}})
        log.note("command", src="agentd", target={"enrolment": 1, "name": "enrolment.cancel"}, n=1)
        log.export(self.path("twice"))
        for user in log.users:
            items = self.json("history", self.path("twice"), user.upn)
            self.assertEqual([1], [item["enrolment"] for item in self.of(items, "enrolment")])
            steps = [step for step in self.of(items, "step") if step["event"] == "key.make"]
            self.assertEqual([user.hash], [step["user"] for step in steps])
        items = self.json("history", self.path("twice"), "0" * 8)  # alice's key
        self.assertEqual([log.users[0].hash],
                         [item["user"] for item in self.of(items, "enrolment")])

    def test_queued_notes(self):
        """pfx-agentd's notes come by a queue: what happened first stands first, whatever entry
        says so; and the order of either side stays, however the clock was set."""
        log = Log()
        user = User(1, "alice@example.com")
        log.users = [user]
        target = {"target": {"enrolment": 1, "user": user.hash}, "key": {"id": "ab" * 20}}

        def stamp(ms):
            return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + ".%03dZ" % (
                ms % 1000)

        def queued(event, n, ms):
            return log.note(event, src="agentd", n=n, at=stamp(ms), **target)
        made = log.pair("key.make", intent=target)
        before = log.time + 500
        built = log.pair("pfx.build", intent=target, result={"tier": "direct"})
        placed = queued("order.placed", 1, before)
        received = queued("certificate.received", 2, before + 1)
        uploaded = queued("upload.confirmed", 3, log.time + 5)
        again = log.pair("pfx.build", intent=target, result={"tier": "direct"}, took=30)
        log.time -= 3_600_000  # somebody sets the clock back
        late = log.pair("pfx.build", intent=target, result={"tier": "direct"})
        ended = queued("enrolment.ended", 4, log.time + 10)
        log.export(self.path("queue"))
        steps = self.of(self.json("history", self.path("queue"), user.upn), "step")
        self.assertEqual([made[0], placed, received, built[0], uploaded, again[0], late[0], ended],
                         [step["entry"] for step in steps])
        entries = [json.loads(entry) for entry in log.entries]
        for step in steps:
            entry = entries[step["entry"]]
            self.assertEqual((entry["time"], entry.get("at")), (step["time"], step.get("at")))
        out, _ = self.run_it("history", self.path("queue"), user.upn)
        rows = [line.split()[:3] for line in out.splitlines() if line.startswith("  20")]
        self.assertEqual(["key.make", "order.placed", "certificate.received", "pfx.build"],
                         [row[2] for row in rows[:4]])
        self.assertEqual(stamp(before)[11:19], rows[1][1])

    def test_open_and_uncovered(self):
        log = Log()
        user = User(1, "alice@example.com")
        log.users = [user]
        target = {"target": {"enrolment": 1, "user": user.hash}, "key": {"id": "ab" * 20}}
        log.add("key.make", "intent", "pending", **target)
        first, last = log.pair("pfx.build", intent=target, result={"tier": "direct"})
        # A result far behind, after the host was booted anew: its time since boot says nothing.
        ref = log.add("pfx.build", "intent", "pending", **target)
        log.add("pfx.build", "result", "unknown", ref=ref, boot="another")
        log.export(self.path("open"), size=last)
        steps = self.of(self.json("history", self.path("open"), user.upn), "step")
        self.assertEqual([True, False, False], [step["open"] for step in steps])
        self.assertEqual([True, False, False], [step["covered"] for step in steps])
        self.assertNotIn("took_ms", steps[2])
        self.assertIn("no result", self.run_it("history", self.path("open"), user.upn)[0])


class Stats(Reading):
    def test_counts(self):
        items = self.json("stats", self.export)
        counts = self.of(items, "counts")[0]
        entries = [json.loads(entry) for entry in self.world.log.entries]

        def n(holds):
            return sum(1 for entry in entries if holds(entry))

        def ended(event):
            return n(lambda e: e["event"] == event and (e["phase"], e["outcome"]) ==
                     ("result", "ok"))
        wanted = {
            "entries": len(entries), "src_hsm": n(lambda e: e["src"] == "hsm"),
            "src_agentd": n(lambda e: e["src"] == "agentd"), "keys_made": ended("key.make"),
            "pfx_built": ended("pfx.build"), "withheld": 1, "pfx_released": 1, "pfx_direct": 1,
            "pfx_transit": 1, "refusals": n(lambda e: e["outcome"] == "refused"),
            "failures": n(lambda e: e["outcome"] == "device"), "unknown": 1, "weak": 1,
            "clock_back": 0, "first_seq": 0, "last_seq": len(entries) - 1,
            "first_time": entries[0]["time"], "last_time": entries[-1]["time"]}
        self.assertEqual(wanted, {name: counts[name] for name in wanted})
        self.assertEqual((2, 1), (wanted["pfx_built"], wanted["failures"]))
        by_event = {}
        for entry in entries:
            by_event.setdefault(entry["event"], {}).setdefault(entry["outcome"], 0)
            by_event[entry["event"]][entry["outcome"]] += 1
        self.assertEqual([dict(by_event[name], event=name) for name in sorted(by_event)],
                         counts["events"])
        days = {}
        for entry in entries:
            days[entry["time"][:10]] = days.get(entry["time"][:10], 0) + 1
        self.assertEqual(days, {day["day"]: day["entries"] for day in self.of(items, "day")})
        self.assertGreater(len(days), 1)
        minutes = {}
        for entry in entries:
            minutes[entry["time"][:16]] = minutes.get(entry["time"][:16], 0) + 1
        most = counts["most"]["entries_minute"]
        self.assertEqual((max(minutes.values()), minutes[most["from"][:16]]),
                         (most["count"], most["count"]))
        self.assertEqual({0: 4, 1000: 1, 990: 1},
                         {item["uid"]: item["entries"] for item in counts["operators"]})
        self.assertEqual(len(entries), items[-1]["read"])

    def test_table(self):
        out, _ = self.run_it("stats", self.export)
        self.assertIn(UNVERIFIED, out.splitlines()[0])
        self.assertRegex(out, r"(?m)^PFX released +1  direct 1, transit 1; withheld 1$")
        self.assertRegex(out, r"(?m)^uid 1000 +1 +0$")
        self.assertRegex(out, r"(?m)^assertion.sign +2200  intents 1100, ok 1100$")

    def test_ceilings(self):
        """What there is no room for is counted together, and said."""
        log = Log()
        for n in range(210):
            log.note("event.%03d" % n, actor={"role": "operator", "uid": 2000 + n},
                     key={"id": "ab" * 20})
        log.export(self.path("many"))
        counts = self.of(self.json("stats", self.path("many")), "counts")[0]
        self.assertEqual((201, {"event": "(other)", "ok": 11}),
                         (len(counts["events"]), counts["events"][-1]))
        self.assertEqual((200, True), (len(counts["operators"]), counts["operators_left_out"]))
        self.assertIn("more operators than 200", self.run_it("stats", self.path("many"))[0])
        for _ in range(4800):
            log.note("key.export", key={"id": "ab" * 20})
        log.export(self.path("more"))
        end = self.json("history", self.path("more"), "ab" * 20)[-1]
        self.assertEqual((5000, 10), (end["steps"], end["steps_left_out"]))
        self.assertIn("left out: 10 steps", self.run_it("history", self.path("more"),
                                                        "ab" * 20)[0])

    def test_clock_went_back(self):
        log = Log()
        log.note("start", after=1000)
        log.note("clock.step", after=-5000)
        log.export(self.path("back"))
        self.assertEqual(1, self.of(self.json("stats", self.path("back")),
                                    "counts")[0]["clock_back"])


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
