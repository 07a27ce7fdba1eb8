"""Rebuilds after a rotation, through the processes, beside the same calls alone.

Everybody is ACTIVE under generation 1; generation 2 is made and activated; then `key rebuild`. As in
enrolment.py, what is timed is what pfx-hsm does, with pfx-agentd's part of it: from the moment that
pfx-hsm goes on until the last PFX, sealed to generation 2, is in the store. Then pfx-uploader
updates the records, so that the figures are of rebuilds that work. The next round goes back to
generation 1. The bare loop is the second half of an enrolment, since that is what a rebuild asks of
pfx-hsm; the token's counts must agree.
"""

import statistics
import time

import enrolment
import harness
import many
from enrolment import WARM, Half

USERS = 50  # with the warm ones less than is on its way at once: pfx-uploader is stopped meanwhile


class Rebuilds(enrolment.Ours):
    """One world, whose records go to generation 2 and back."""

    def __init__(self, setup, stock):
        super().__init__(setup, stock)
        self.count = setup.users + WARM
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    def tell(self, *words, secret=None):
        options = {"secret": secret} if secret else {}
        told = self.world.cli(*words, seconds=120, **options)
        if told.code != 0:
            raise SystemExit("%s: %r\n%s" % (" ".join(words), told, self.world.why_not()))

    def begin(self):
        first = self.world.run_once()
        if first.code not in (0, 1):
            raise SystemExit("run: %r\n%s" % (first, self.world.why_not()))
        self.open_store()
        self.tell("enrolment", "release", "--all")
        harness.wait_for("all active", lambda: self.of_state("enrolment", "ACTIVE"), 300)
        self.tell("key", "rotate", "--out", self.world.path("out"),
                  secret=self.world.pin("encryption"))

    def of_state(self, table, state):
        found, = self.store.execute("SELECT count(*) FROM %s WHERE state = ?" % table,
                                    (state,)).fetchone()
        return found >= self.count

    def to(self, generation):
        """Half: all records, sealed to this generation."""
        self.tell("key", "activate", str(generation))
        enrolment.quiet(self.world, "hsm")
        signed = enrolment.checkpoints(self.world)
        self.tell("pause", "--rebuild")
        self.tell("key", "rebuild")  # which asks pfx-hsm for the generations
        enrolment.quiet(self.world, "hsm")
        self.stop("hsm")
        self.stop("uploader")
        self.tell("resume", "--rebuild")
        harness.wait_for("all to be sealed", lambda: self.of_state("rebuild", "CHECKED"), 60)
        enrolment.quiet(self.world, "agentd")
        enrolment.prepare(self.control, self.setup)
        was = [many.processor(self.world, name) for name in many.DAEMONS]
        since = time.time()
        self.go("hsm")
        harness.wait_for("all sealed", lambda: self.of_state("rebuild", "SEALED"), 300, 0.1)
        last, = self.store.execute("SELECT max(changed_at) FROM rebuild").fetchone()
        enrolment.quiet(self.world, "hsm")
        cpu = {name: many.processor(self.world, name) - used
               for name, used in zip(many.DAEMONS, was)}
        calls = enrolment.counted(self.control.calls() if self.control else [])
        signed = enrolment.checkpoints(self.world) - signed
        self.go("uploader")
        harness.wait_for("all rebuilt", lambda: not self.store.execute(
            "SELECT 1 FROM rebuild").fetchone(), 300)
        return Half(last / 1000 - since, signed, calls, cpu)

    def close(self):
        for name in ("hsm", "uploader"):
            self.go(name)
        self.world.close()


def pairs(setup, stock, authority, rounds):
    """(ours, bare), each a half, round by round."""
    world = Rebuilds(setup, stock)
    found = []
    alone = setup._replace(users=world.count)
    try:
        for number in range(rounds):
            ours = world.to(2 - number % 2)
            bare = enrolment.bare(alone, stock, (0, ours.checkpoints), authority)
            found.append((ours, bare[1]))
    finally:
        world.close()
    return found


def compare(setup, stock, authority, rounds):
    """Medians: rebuilds a second of both, their ratio, processor time in milliseconds each."""
    found, count = pairs(setup, stock, authority, rounds), setup.users + WARM
    return {"setup": setup._asdict(),
            "ours": statistics.median(count / ours.seconds for ours, _ in found),
            "bare": statistics.median(count / bare.seconds for _, bare in found),
            "ratio": statistics.median(bare.seconds / ours.seconds for ours, bare in found),
            "cpu": {name: statistics.median(1000 * pair[who].cpu[name] / count for pair in found)
                    for who, names in enumerate((("agentd", "hsm"), ("bare",))) for name in names}}


def agree(setup, stock, authority):
    """The bare loop makes the calls that pfx-hsm makes: the token has counted both."""
    ours, bare = pairs(setup, stock, authority, 1)[0]
    enrolment.must_agree(setup, [ours], [bare])
