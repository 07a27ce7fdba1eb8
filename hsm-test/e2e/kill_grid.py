"""Finds the points of scenarios, visits each, and says what came of it."""

import collections
import concurrent.futures
import os
import random
import re
import signal
import threading
import time

import harness
from case import LONG
from kill_world import VICTIMS, KillWorld, Wrong

MAIN = ("flow", "lost", "start")
LIST = os.path.join(harness.HERE, "kill_points.txt")
WORLDS = int(os.environ.get("PFX_KILL_WORLDS", "5"))
ONLY = os.environ.get("PFX_KILL_ONLY", "")
SEED = int(os.environ.get("PFX_KILL_SEED", time.time() // 86400))
# Of the Cryptoki calls those that change the token, make what leaves it, or sign a checkpoint.
CHANGING = re.compile(r" C_(GenerateKey|GenerateKeyPair|CreateObject|DestroyObject"
                      r"|SetAttributeValue|WrapKey|UnwrapKey)( |$)"
                      r"|^key.make C_Sign |^no operation C_Sign$")
# Next to another point, with nothing between them that anybody outside the process could see.
SAME = re.compile(r"^[a-z.]+ (intent|worked .*|result .*)$|log append entries|log write checkpoint"
                  r"|^item .* sent$|^end (assertion|secret) before$"
                  r"|^item (assertion|secret) came$"
                  r"|log (make|write|sync|sync folder of) (milestone|anchor copy|tile)$")
Visit = collections.namedtuple("Visit", "scenario victim point")


def listed(point):
    """Does it belong into the list? How often a key is looked at isn't worth a line, and a probe
    is as long as the token makes it."""
    return not point.startswith("probe ") and (
        " C_" not in point or (CHANGING.search(point) is not None
                               and not re.search(r"C_Sign [0-9]+$", point)))


def short(point):
    """Is it visited in CI?"""
    return (listed(point) or CHANGING.search(point) is not None) and (
        SAME.search(point) is None and not point.startswith("probe "))


class Points:
    """kill_points.txt: a line for each, "scenario process point"; "? " before one that hangs on
    which of two messages comes first, so that a run may have it or not."""

    def __init__(self):
        self.sure, self.maybe = {}, {}
        with open(LIST, encoding="utf-8") as stream:
            for line in stream:
                line = line.rstrip("\n")
                if line and not line.startswith("#"):
                    where = self.maybe if line.startswith("? ") else self.sure
                    scenario, victim, point = line.removeprefix("? ").split(" ", 2)
                    where.setdefault((scenario, victim), set()).add(point)

    def main(self):
        """{(victim, point)} of the main scenarios."""
        return {(victim, name) for listed_there in (self.sure, self.maybe)
                for (scenario, victim), names in listed_there.items() if scenario in MAIN
                for name in names}

    def may_miss(self, visit):
        """Those of --long beyond the list, too: how often a key is looked up hangs on what was
        looked up before, and with what a note's checkpoint is signed on what else is."""
        if visit.scenario.name not in MAIN and visit.point.startswith("note log "):
            return True
        return not listed(visit.point) or visit.point in self.maybe.get(
            (visit.scenario.name, visit.victim), ())

    def differ(self, found):
        """What is gone and what is new, as lines of the list. Those of --long hang too much on the
        order of messages; whatever a run finds is visited all the same."""
        differences = []
        for key, names in found.items():
            if key[0] not in MAIN:
                continue
            sure, maybe = self.sure.get(key, set()), self.maybe.get(key, set())
            names = {n for n in names if listed(n)}
            if harness.kinds.wanted() is not harness.kinds.Softhsm:  # other calls, the same steps
                names, sure = ({n for n in some if " C_" not in n} for some in (names, sure))
            differences += ["gone: %s %s %s" % (*key, n) for n in sorted(sure - names)]
            differences += ["new: %s %s %s" % (*key, n) for n in sorted(names - sure - maybe)]
        return differences


def write_list(found):
    """The list anew, for these scenarios; what hangs on the order of messages stays marked. Of
    those of --long it has what the main ones lack."""
    with open(LIST, encoding="utf-8") as stream:
        lines = [line.rstrip("\n") for line in stream if line.strip()]
    kept = [line for line in lines
            if line.startswith(("#", "? ")) or tuple(line.split(" ", 2)[:2]) not in found]
    main = {tuple(line.removeprefix("? ").split(" ", 2)[1:]) for line in kept
            if line.removeprefix("? ").split(" ", 1)[0] in MAIN}
    for key, names in found.items():
        kept += [line for line in ("%s %s %s" % (*key, n) for n in names if listed(n) and (
            key[0] in MAIN or (key[1], n) not in main)) if "? " + line not in kept]
    with open(LIST, "w", encoding="utf-8") as stream:
        stream.write("\n".join(kept) + "\n")


class Grid:
    """Worlds, the visits that are left, and what came of those that were made."""

    def __init__(self, make=KillWorld, ready=KillWorld.ready, each=False, most=None, sample=None,
                 calls=True, new=False):
        """ready brings a new world up; each: every visit has a world of its own; most: visits that one
        world sees; sample: so many visits at most, others each day; calls: with --long also the calls
        that change nothing in a token; new: only what the main scenarios don't have."""
        self.make, self.ready, self.each = make, ready, each
        self.most, self.sample, self.calls = 1 if each else most, sample, calls
        self.new = new
        self.points = Points()
        self.lock = threading.Lock()
        self.outcomes = {}
        self.failures = []
        self.memory = None  # what the first world's probes found, for the others

    def world(self):
        world = self.make()
        try:
            if self.memory:
                world.files["hsm"].remember(self.memory)
            self.ready(world)
            world.settle()
        except BaseException:
            world.close()
            raise
        return world

    # --- finding the points ---

    def enumerate(self, world, scenarios):
        """{(scenario, victim): names, in the order in which they were reached}."""
        found = {}
        for scenario in scenarios:
            if scenario.name == "start":
                for victim in VICTIMS:
                    self.begin(world, (victim,), anew=LONG)
                    found["start", victim] = world.files[victim].reached()
                self.through(world, scenario)
                continue
            self.begin(world, VICTIMS)
            self.through(world, scenario, found)
        return found

    def begin(self, world, victims, anew=False):
        for name in victims:
            world.kill(name)
            world.files[name].forget()
            world.files[name].anew(anew)
        for name in victims:
            world.start(name)
        for name in victims:
            wanted = {"hello hsm came", "hello uploader came"} if name == "agentd" else {
                "welcome came"}
            harness.wait_for("%s and %s" % (name, wanted),
                             lambda n=name, w=wanted: w <= set(world.files[n].reached()), 30, 0.02)
        time.sleep(0.3)  # they tell what they have to tell
        world.settle()

    def through(self, world, scenario, found=None):
        number = world.next_user()
        scenario.before(world, number)
        for file in world.files.values():
            file.forget()
        scenario.act(world, number)
        self.finish(world, scenario, number)
        time.sleep(0.1)  # what was sent last is on its way
        for name in VICTIMS if found is not None else ():
            found[scenario.name, name] = world.files[name].reached()
        scenario.hold(world, number)

    def finish(self, world, scenario, number, seconds=40):
        def over():
            if scenario.over(world, number):
                return True
            scenario.nudge(world, number)
            return False
        try:
            harness.wait_for("its end", over, seconds, 0.02)
        except AssertionError as error:
            raise Wrong("%s isn't over; user %d is %s: %s; refused: %s" % (
                scenario.name, number, world.states_of(number), error, [
                    line for line in world.log("command").splitlines()
                    if "pfx-agent:" in line][-3:])) from error
        world.finish_command()
        world.settle()

    # --- visiting them ---

    def visit(self, world, visit):
        """(outcome, seconds until all was done); None when the point wasn't reached."""
        scenario, victim, point = visit
        number, began = world.next_user(), time.monotonic()
        world.released = False
        file = world.files[victim]
        file.anew(False)
        if victim != "agentd":
            world.restart(*scenario.fresh)
        if victim == "hsm" and not listed(point):
            world.restart("hsm")  # which then looks its keys up again
        world.settle()
        scenario.before(world, number)
        if not self.reach(world, visit, number):
            file.disarm()
            return None
        process = world.processes.pop(victim)
        code = process.wait(10)
        at = (world.states_of(number) or ["not known yet"])[-1]
        file.disarm()
        if code != -signal.SIGKILL:
            raise Wrong("it ended with %d, not by SIGKILL" % code)
        world.start(victim, wait=victim != "uploader")
        if scenario.name == "start":
            scenario.act(world, number)
        scenario.back(world, number)
        self.finish(world, scenario, number)
        took = time.monotonic() - began
        scenario.hold(world, number)
        return "killed at %s; %s%s" % (at, "released by a person, " if world.released else "",
                                       (world.states_of(number) or ["-"])[-1]), took

    def reach(self, world, visit, number):
        scenario, victim, point = visit
        file = world.files[victim]
        if scenario.name == "start":
            world.kill(victim)
            file.anew(point.startswith("probe "))
            file.arm(point)
            world.start(victim, wait=False)
            return self.until(file.died, 30)
        file.arm(point)
        scenario.act(world, number)
        self.until(lambda: file.died() or self.past(world, scenario, number), 40)
        return file.died()

    def past(self, world, scenario, number):
        """The scenario is over, and the point wasn't reached."""
        world.check_alive()
        if scenario.over(world, number) and world.idle():
            command = world.processes.get("command")
            return command is None or command.poll() is not None
        scenario.nudge(world, number)
        return False

    def until(self, check, seconds):
        end = time.monotonic() + seconds * harness.PATIENCE
        while not check():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def work(self, world, visits):
        """One world's thread: takes visits until there are none."""
        while True:
            with self.lock:
                if not visits:
                    return world
                visit = visits.pop(0)
            try:
                world = world or self.world()
                # Once more where another process was quicker with the same thing.
                outcome = self.visit(world, visit) or (None if self.each
                                                       else self.visit(world, visit))
                self.record(visit, outcome)
                world.visits += 1
                broken = self.most is not None and world.visits >= self.most
            except Exception as error:  # a broken world is no place for the next visit
                with self.lock:
                    self.outcomes[visit] = ("FAILED", 0)
                    self.failures.append("%s %s %s: %s\n%s" % (
                        visit.scenario.name, visit.victim, visit.point, error,
                        world.why_not() if world else ""))
                print("FAILED %s %s %s: %s" % (*visit._replace(scenario=visit.scenario.name),
                                               str(error)[:1500]), flush=True)
                broken = True
            if broken and world:
                world.close()
                world = None

    def record(self, visit, outcome):
        with self.lock:
            self.outcomes[visit] = outcome or ("not reached", 0)
            if LONG:  # hours may be ahead
                print("%s %s %s: %s" % (visit.scenario.name, visit.victim, visit.point,
                                        self.outcomes[visit][0]), flush=True)
            if not outcome and not self.sample and not self.points.may_miss(visit):
                self.outcomes[visit] = ("NOT REACHED", 0)
                self.failures.append("%s %s %s: never reached" % (
                    visit.scenario.name, visit.victim, visit.point))

    def run(self, first, visits):
        def one(world):
            world = self.work(world, visits)
            if world:
                world.close()
        worlds = max(1, min(WORLDS, len(visits) // (self.most or 1), len(visits) // 6))
        with concurrent.futures.ThreadPoolExecutor(worlds) as pool:
            for done in [pool.submit(one, first if i == 0 else None) for i in range(worlds)]:
                done.result()

    def plan(self, found, scenarios):
        """Each point once, in the first scenario that has it; and how many are left to --long."""
        visits, left, seen = [], 0, self.points.main() if self.new else set()
        for scenario in scenarios:
            for victim in VICTIMS:
                for point in found.get((scenario.name, victim), ()):
                    if (victim, point) in seen:
                        continue
                    seen.add((victim, point))
                    # In a world of its own each: those that can leave something behind.
                    if short(point) or LONG and not self.each and (self.calls or listed(point)):
                        visits.append(Visit(scenario, victim, point))
                    else:
                        left += 1
        visits = [v for v in visits if ONLY in "%s %s %s" % (v.scenario.name, v.victim, v.point)]
        if self.sample and len(visits) > self.sample:
            print("a sample of %d of %d points; PFX_KILL_SEED=%d" % (self.sample, len(visits), SEED))
            left += len(visits) - self.sample
            visits = random.Random(SEED).sample(visits, self.sample)
        return visits, left

    def table(self, visits):
        rows = [(v.scenario.name, v.victim, v.point, *self.outcomes.get(v, ("UNVISITED", 0)))
                for v in visits]
        wide = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
        for row in rows:
            print("  ".join("%-*s" % (wide[i], row[i]) for i in range(4)) + "  %5.1f s" % row[4])

    def all(self, scenarios):
        """All of it; what is wrong, as lines."""
        began = time.monotonic()
        world = self.world()
        try:
            found = self.enumerate(world, scenarios)
            if os.environ.get("PFX_KILL_WRITE"):
                write_list(found)
                self.points = Points()
            wrong = self.points.differ(found)
            if any(line.startswith("gone") for line in wrong) and not self.each:
                again = self.enumerate(world, scenarios)
                found = {key: names + [n for n in again[key] if n not in names]
                         for key, names in found.items()}
                wrong = self.points.differ(found)
        except BaseException:
            world.close()
            raise
        visits, left = self.plan(found, scenarios)
        self.memory = world.files["hsm"].memory()
        if self.each:
            world.close()
            world = None
        self.run(world, list(visits))
        self.table(visits)
        print("%d of %d points visited, %d of them wrong%s; %d users, %.0f s" % (
            len(self.outcomes), len(visits), len(self.failures),
            "; %d more by --long" % left if left else "", len(visits) + len(scenarios),
            time.monotonic() - began))
        wrong += self.failures
        missed = sum(outcome[0] == "not reached" for outcome in self.outcomes.values())
        if self.sample and missed > len(visits) // 3:  # the order of messages explains one or two
            wrong.append("%d of %d points not reached" % (missed, len(visits)))
        wrong += ["unvisited: %s" % (v,) for v in visits if v not in self.outcomes]
        return wrong
