"""Many users through everything: 500, and with PFX_LONG=1 5,000.

It runs on the build of PFX_BUILD_RELEASE where that is set: what memory and time come to with
sanitizers says nothing. Scaled is what would only be waited for: the clock factor shortens the
windows of the simulators' limits, and the product's buckets, which are settings, by the same.
"""

import os
import unittest

import many
import people
from case import LONG, WorldCase

USERS = 5000 if LONG else 500
FACTOR = 10 if LONG else 6
LIMIT_SECONDS = 2400 if LONG else 240
# Memory that a daemon may come to hold after the first quarter of the users.
ROOM_KIB = 6 * 1024


def setUpModule():
    release = os.environ.get("PFX_BUILD_RELEASE")
    if release:
        os.environ["PFX_BUILD"] = release


class Many(WorldCase):
    def prove_progress(self, run):
        """Each line adds up, and nothing ever goes back."""
        lines = run.of("progress") + run.of("summary")
        self.assertGreater(len(lines), 5)
        before = {"finished": 0, "ordered": 0, "total": 0}
        for line in lines:
            parts = [line[k] for k in ("finished", "working", "waiting", "held", "failed")]
            self.assertEqual(sum(parts), line["total"], line)
            for name in before:
                self.assertGreaterEqual(line[name], before[name], line)
                before[name] = line[name]
        last = lines[-1]
        self.assertEqual((last["total"], last["finished"], last["ordered"]), (USERS,) * 3)

    def prove_limits(self, watch):
        """The simulators turned nobody away, and no window held more than it may."""
        rows = []
        for service, limits in many.LIMITS.items():
            for count, seconds in limits:
                most = many.window(watch.of(service), seconds / FACTOR)
                self.assertLessEqual(most, count, "%s in %g s" % (service, seconds))
                rows.append(("%s: most in %g s" % (service, seconds), "%d of %d" % (most, count)))
        for count, seconds in many.WRITE_LIMITS:
            most = many.window(watch.of("graph", writes=True), seconds / FACTOR)
            self.assertLessEqual(most, count)
            rows.append(("graph: most writes in %g s" % seconds, "%d of %d" % (most, count)))
        late = [r for r in watch.requests() if r["status"] == 429]
        rows.append(("answers 429", len(late)))
        self.assertEqual(late, [])
        return rows

    def prove_memory(self, watch, run):
        """Flat after the first quarter."""
        quarter = next(when for when, item in run.items
                       if item["kind"] == "progress" and item["finished"] >= USERS / 4)
        rows = []
        for name, (base, most) in many.growth(watch.samples, quarter).items():
            rows.append(("memory of %s" % name,
                         "%d KiB at a quarter, then at most %d" % (base, most)))
            self.assertLess(most - base, ROOM_KIB,
                            "%s grows from %d to %d KiB" % (name, base, most))
        return rows

    def test_many_users(self):
        world = self.make(**many.settings(USERS, FACTOR))
        with self.telling(world):
            world.ready()
            watch = many.Watch(world)
            run = many.Run(world, LIMIT_SECONDS)
            watch.stop()
            self.assertEqual(run.code, 0, run.errors)
            self.prove_progress(run)
            states = world.states()
            self.assertEqual({tuple(s) for s in states.values()}, {("ACTIVE",)})
            self.assertEqual(len(states), USERS)
            self.assertEqual(len(world.orders()), USERS)
            self.assertEqual(len(world.records()), USERS)
            self.assertNothingTwice(world)
            rows = [("users", USERS), ("seconds", "%.1f" % run.seconds),
                    ("users a second", "%.1f" % (USERS / run.seconds))]
            counts = {s: len(watch.of(s)) for s in ("digicert", "entra", "graph")}
            for service, count in counts.items():
                self.assertEqual(count, world.control("/state")["http"][service]["requests"],
                                 "the log of requests has gaps")
                rows.append(("requests to %s" % service, "%d (%.2f a user)"
                             % (count, count / USERS)))
            rows += self.prove_limits(watch) + self.prove_memory(watch, run)
            # An order and a download; a look, a POST and a read-back; pages, and a poll a second.
            self.assertLess(counts["digicert"], 2 * USERS + 50 + run.seconds)
            self.assertLess(counts["graph"], 4 * USERS + 100)
            self.assertLess(counts["entra"], 10)
            rows += self.prove_second_pass(world, counts)
            rows.append(("store", "%d KiB" % (many.size(world.path("state", "store.db")) // 1024)))
            print(many.table(rows), flush=True)

    def test_throttled(self):
        """The product's buckets are wider than what the services allow: 429 on 429, nobody lost,
        nothing bought twice."""
        users = 24
        world = self.make(**dict(many.settings(users, 1), settings={
            "digicert_limits": [[10, 2]], "graph_write_limits": [[2, 1]]}))
        with self.telling(world):
            world.ready()
            watch = many.Watch(world)
            run = many.Run(world, 120)
            watch.stop()
            self.assertEqual(run.code, 0, run.errors)
            self.assertEqual({tuple(s) for s in world.states().values()}, {("ACTIVE",)})
            self.assertEqual((len(world.orders()), len(world.records())), (users, users))
            self.assertNothingTwice(world)
            late = {s: sum(r["status"] == 429 for r in watch.of(s)) for s in ("digicert", "graph")}
            for service, count in late.items():
                self.assertGreater(count, 0, service)
                # Whoever is told "later" waits: not many more questions than answers.
                self.assertLess(count, 2 * users, service)
            print(many.table([("429 from " + s, n) for s, n in late.items()] +
                             [("seconds", "%.1f" % run.seconds)]), flush=True)

    def prove_second_pass(self, world, counts):
        """Whoever has a certificate costs a page's share and nothing else."""
        watch = many.Watch(world)
        watch.look()
        before = len(watch.requests())
        run = many.Run(world, 60)
        watch.stop()
        more = len(watch.requests()) - before
        self.assertEqual(run.code, 0, run.errors)
        self.assertEqual(len(world.orders()), USERS)
        self.assertEqual(run.of("summary")[-1]["ordered"], 0)
        pages = USERS // 100 + USERS // 999 + 2
        self.assertLessEqual(more, pages + 6)
        return [("second pass", "%.1f s, %d requests, %d pages" % (run.seconds, more, pages))]


if __name__ == "__main__":
    unittest.main()
