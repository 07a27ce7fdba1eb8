"""What an enrolment costs beside many others: users whose keys are wrapped, and keys in the token.

The crowd comes into the store as in passes.py, by the product's own reading of a group and copies of
one enrolment; into the token by bench-keys, as key pairs that stay. Then so many more users are
enrolled, in turn beside the small crowd and beside the large one, and both halves of pfx-hsm's work
are timed as in enrolment.py.
"""

import json
import statistics
import sys

import enrolment
import harness
import many
import passes

BATCH = 40  # users that are timed at once


class Crowd(enrolment.Ours):
    """A world with a crowd, and batches of users who wait to be enrolled."""

    def __init__(self, users, objects, batches):
        self.setup = enrolment.Setup("ec-p256", "token" if objects is not None else "wrapped", 1,
                                     "softhsm", BATCH)
        self.stock = self.control = None
        self.left = batches * BATCH + enrolment.WARM
        enrolment.os.environ["PFX_TOKEN"] = "softhsm"
        arguments = many.settings(users + self.left, 40)
        arguments["policy"]["users"] = {"keys": self.setup.keys}
        arguments["policy"]["sessions"] = 1
        arguments["agent"]["max_orders_per_pass"] = 1
        self.world = enrolment.Tokens(**arguments).ready()
        if objects:
            self.fill_token(objects)
        passes.fill(self.world, self.left)
        self.store = passes.store_of(self.world)
        self.release(enrolment.WARM)  # pfx-uploader signs in, and gets the CA's key
        harness.wait_for("all active", lambda: self.in_state("ACTIVE"), 120)
        enrolment.quiet(self.world, "hsm")
        self.signed = enrolment.checkpoints(self.world)

    def fill_token(self, count):
        """While no process has the token open."""
        world = self.world
        for name in ("uploader", "hsm", "agentd"):
            world.stop(name)
        result = world.run(
            harness.program("bench-keys"), "--module", world.kinds["users"].module, "--label",
            "pfx-users", "--pin-fd", "0", "--key", self.setup.key, "--count", str(count), "--keep",
            "yes", stdin=world.pin("users").encode(), seconds=3600)
        if result.code != 0:
            raise SystemExit("bench-keys: %r" % result)
        world.start_all()

    def release(self, count):
        self.batch = [row[0] for row in self.store.execute(
            "SELECT id FROM enrolment WHERE state = 'HELD' ORDER BY id LIMIT ?", (count,))]
        for number in self.batch:
            told = self.world.cli("enrolment", "release", str(number))
            if told.code != 0:
                raise SystemExit("release: %r" % told)

    def in_state(self, state):
        found, = self.store.execute(
            "SELECT count(*) FROM enrolment WHERE state = ? AND id IN (%s)"
            % ",".join(map(str, self.batch)), (state,)).fetchone()
        return found >= len(self.batch)

    def enrol(self):
        """Milliseconds a user, for the next batch: (by the clock, pfx-agentd's and pfx-hsm's
        processor time)."""
        self.stop("hsm")
        self.release(BATCH)
        halves = [self.half("NEW", "KEYED"), self.half("CHECKED", "SEALED")]
        self.go("hsm")
        harness.wait_for("all active", lambda: self.in_state("ACTIVE"), 120)
        return [1000 * sum(used) / BATCH for used in (
            (half.seconds for half in halves),
            (half.cpu[name] for half in halves for name in ("agentd", "hsm")))]

    def close(self):
        for name in ("hsm", "uploader"):
            self.go(name)
        self.world.close()


def compare(sizes, in_token, rounds):
    """[(milliseconds by the clock, of processor time)] for each size, medians of rounds in turn."""
    worlds = []
    try:
        for size in sizes:
            worlds.append(Crowd(1 if in_token else size, size if in_token else None, rounds))
        took = [[world.enrol() for world in worlds] for _ in range(rounds)]
    finally:
        for world in worlds:
            world.close()
    return [tuple(statistics.median(turn[i][what] for turn in took) for what in (0, 1))
            for i in range(len(sizes))]


if __name__ == "__main__":
    print(json.dumps(compare([int(size) for size in sys.argv[2:]], sys.argv[1] == "token", 2)))
