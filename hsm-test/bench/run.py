"""Every benchmark with a limit, in one run: a table, the figures as JSON, and a plot.

    PFX_BUILD=build/gcc /usr/bin/python3 hsm-test/bench/run.py \\
        [--quick] [--rounds N] [--users N] [--only PARTS] [--json FILE] [--svg FILE]

Parts: enrolment, rebuild, pass, store, crowd; all of them without --only. Ratios are of what was measured in turn in the same run: the processes, the bare loop, the processes
again. Exit code 1 where a limit isn't kept. --quick shows that all of it works, in about a minute;
its figures mean nothing.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import crowd  # noqa: E402  (the line above makes them found)
import enrolment  # noqa: E402
import passes  # noqa: E402
import plot  # noqa: E402
import rebuild  # noqa: E402
from enrolment import Setup, many  # noqa: E402

PARTS = ("enrolment", "rebuild", "pass", "store", "crowd")
NAMES = {"rsa-2048": "RSA-2048", "ec-p256": "P-256"}
RATIO = {"rsa-2048": 0.9, "ec-p256": 0.5}
GAIN = 0.95
REBUILD = 0.85
KEYS = {"token": "in the token", "wrapped": "wrapped"}
# RSA keys are drawn ahead, since looking for primes takes 20 to 600 ms: handed out as soon as they
# are asked for, and each after the time that drawing one took on average, as a token has to.
CASES = (("rsa-2048", "token", True), ("rsa-2048", "token", False), ("rsa-2048", "wrapped", False),
         ("ec-p256", "token", False), ("ec-p256", "wrapped", False))
KIB = 1024


class Rows:
    """What is printed, and checked."""

    def __init__(self):
        self.rows = []

    def add(self, part, name, value, unit="", least=None, most=None, below=None, note=""):
        limit = least if least is not None else most if most is not None else below
        sense = ("at least" if least is not None else "at most" if most is not None
                 else "below" if below is not None else "")
        ok = None
        if limit is not None:
            ok = (value >= limit if least is not None else
                  value <= limit if most is not None else value < limit)
        self.rows.append({"part": part, "name": name, "value": value, "unit": unit,
                          "limit": limit, "sense": sense, "ok": ok, "note": note})
        print(self.line(self.rows[-1]), flush=True)

    @staticmethod
    def line(row):
        value = "%s %s" % (plot.number(row["value"]), row["unit"])
        limit = "%s %s" % (row["sense"], plot.number(row["limit"])) if row["sense"] else ""
        verdict = {True: "ok", False: "OVER", None: ""}[row["ok"]]
        return "%-84s %12s  %-14s %-4s  %s" % (row["name"], value.strip(), limit, verdict,
                                               row["note"])


# --- enrolments against the bare loop -----------------------------------------------------------

def compared(setup, stock, authority, rounds):
    """Medians: enrolments a second of both, and their ratio, in turn round by round."""
    pairs = [enrolment.pair(setup, stock, authority) for _ in range(rounds)]
    rate = [statistics.median(setup.users / enrolment.seconds(p[who]) for p in pairs)
            for who in (0, 1)]
    ratio = statistics.median(enrolment.seconds(bare) / enrolment.seconds(ours)
                              for ours, bare in pairs)
    cpu = {name: statistics.median(1000 * sum(half.cpu[name] for half in p[who]) / setup.users
                                   for p in pairs)
           for who, names in enumerate((("agentd", "hsm"), ("bare",))) for name in names}
    return {"setup": setup._asdict(), "ours": rate[0], "bare": rate[1], "ratio": ratio, "cpu": cpu,
            "seconds": [[enrolment.seconds(p[who]) for p in pairs] for who in (0, 1)]}


def agree(setup, stock, authority):
    """The bare loop makes the calls that pfx-hsm makes: the token has counted both."""
    ours, bare = enrolment.pair(setup, stock, authority)
    enrolment.must_agree(setup, ours, bare)
    return sum((half.calls for half in bare), enrolment.collections.Counter())


def enrolments(options, rows, found, folder):
    authority = enrolment.Authority(os.path.join(folder, "ca"))
    # The token's own keys (of the probes) come out of it, too.
    stock = enrolment.Stock(os.path.join(folder, "ahead.pem"),
                            options.users + enrolment.WARM + 12)
    found["enrolments"] = []
    for key, keys, pace in CASES:
        if options.quick and (key, keys, pace) not in CASES[:1] + CASES[-1:]:
            continue
        rsa = key == "rsa-2048"
        what = "%s, keys %s" % (NAMES[key], KEYS[keys])
        if rsa:
            what += ", drawn ahead, " + ("each after %d ms" % stock.pace if pace else "at once")
        calls = agree(Setup(key, keys, 1, "softhsm-remote", 5 if options.quick else 20),
                      stock if rsa else None, authority)
        by = [compared(Setup(key, keys, sessions, "softhsm-remote" if rsa else "softhsm",
                             options.users, stock.pace if pace else 0),
                       stock if rsa else None, authority, options.rounds) for sessions in (1, 2)]
        for sessions, one in enumerate(by, 1):
            cpu = one["cpu"]
            rows.add("enrolment", "to the bare loop, %s, %d session%s"
                     % (what, sessions, "s" if sessions > 1 else ""), one["ratio"],
                     least=RATIO[key], note="%.1f of %.1f a second; processor time pfx-agentd %.1f,"
                     " pfx-hsm %.1f, bare %.1f ms; load %.1f" % (
                         one["ours"], one["bare"], cpu["agentd"], cpu["hsm"], cpu["bare"],
                         os.getloadavg()[0]))
        gains = [by[1][who] / by[0][who] for who in ("ours", "bare")]
        rows.add("enrolment", "a second session's gain to the bare loop's, %s" % what,
                 gains[0] / gains[1], least=GAIN, note="%.2f of %.2f; %d calls of %d kinds agree"
                 % (*gains, sum(calls.values()), len(calls)))
        found["enrolments"] += by


def rebuilds(options, rows, found, folder):
    authority = enrolment.Authority(os.path.join(folder, "ca"))
    users = 4 if options.quick else rebuild.USERS
    found["rebuilds"] = []
    for key in ("ec-p256",) if options.quick else NAMES:
        for keys in KEYS:
            rebuild.agree(Setup(key, keys, 1, "softhsm-remote", 5), None, authority)
            for sessions in (1, 2):
                one = rebuild.compare(Setup(key, keys, sessions, "softhsm", users), None, authority,
                                      options.rounds)
                found["rebuilds"].append(one)
                cpu = one["cpu"]
                rows.add("rebuild", "rebuilds to the bare loop, %s, keys %s, %d session%s"
                         % (NAMES[key], KEYS[keys], sessions, "s" if sessions > 1 else ""),
                         one["ratio"], least=REBUILD,
                         note="%.1f of %.1f a second; processor time pfx-agentd %.1f, pfx-hsm %.1f,"
                         " bare %.1f ms; load %.1f" % (one["ours"], one["bare"], cpu["agentd"],
                                                       cpu["hsm"], cpu["bare"], os.getloadavg()[0]))


# --- a pass with nothing to do, and memory ------------------------------------------------------

class Memory(threading.Thread):
    """The most of each kind of memory of each process, looked at five times a second."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.ends = world, threading.Event()
        self.most = {name: {} for name in many.DAEMONS}
        self.look()
        self.start()

    def look(self):
        for name in many.DAEMONS:
            for what, value in passes.facts_of(self.world.processes[name].pid).items():
                self.most[name][what] = max(value, self.most[name].get(what, 0))

    def run(self):
        while not self.ends.wait(0.2):
            self.look()

    def stop(self):
        self.ends.set()
        self.join()
        return self.most


def memory(options, rows, found, _folder):
    """Idle, and while all of them work."""
    os.environ["PFX_TOKEN"] = "softhsm"
    arguments = many.settings(10 if options.quick else 300, 40)
    with passes.harness.World(**arguments) as world:
        world.ready()
        enrolment.quiet(world, "hsm")
        idle = Memory(world).stop()
        load = Memory(world)
        run = many.Run(world, 600)
        found["memory"] = {"idle": idle, "load": load.stop()}
        if run.code != 0:
            raise SystemExit("run: exit %d\n%s" % (run.code, run.errors[-2000:]))
    for name in many.DAEMONS:
        for when in ("idle", "load"):
            value = found["memory"][when][name]
            rows.add("memory", "memory of pfx-%s, %s" % (
                name, "idle" if when == "idle" else "enrolling"), value["Rss"] / KIB, "MiB",
                note="own share %.1f MiB, locked %.1f MiB" % (value["Pss"] / KIB,
                                                             value["Locked"] / KIB))


def idle_pass(options, rows, found, _folder):
    os.environ["PFX_TOKEN"] = "softhsm"
    count = 500 if options.quick else 10000
    pages = -(-count // passes.PAGE)
    with passes.new_world(count) as world:
        passes.fill(world)
        first = passes.idle_pass(world)  # signs in, too
        later = [passes.idle_pass(world) for _ in range(options.rounds)]
    found["pass"] = [first, *later]
    rows.add("pass", "requests of a pass over {:,} users, nothing to do".format(count),
             max(one["requests"] for one in found["pass"]), most=pages + 3,
             note="%d pages of members" % pages)
    middle = statistics.median(one["beside"] for one in later)
    rows.add("pass", "time of that pass beside the simulators'", middle, "s", below=2,
             note="processor time: agentd %.2f, uploader %.2f s; load %.1f" % (
                 *(statistics.median(one["cpu"][name] for one in later)
                   for name in ("agentd", "uploader")), os.getloadavg()[0]))


def store(options, rows, found, _folder):
    os.environ["PFX_TOKEN"] = "softhsm"
    count = 1000 if options.quick else 100000
    with passes.new_world(count) as world:
        passes.fill(world)
        done = passes.idle_pass(world)
        rows.add("store", "pfx-agentd with {:,} users, the most in a pass".format(count),
                 passes.most(world, "agentd") / KIB, "MiB", below=128,
                 note="the pass took %.1f s, %.1f s of pfx-agentd's processor time; store %.0f MiB"
                 % (done["wall"], done["cpu"]["agentd"],
                    os.path.getsize(world.path("state", "store.db")) / KIB / KIB))
        rows.add("store", "pfx-agent status with {:,} users".format(count),
                 1000 * passes.status_seconds(world), "ms", below=300)
        found["store"] = done


def crowds(options, rows, found, _folder):
    """What an enrolment costs beside many others."""
    sizes = (100, 1000) if options.quick else (1000, 100000)
    objects = (0, 100) if options.quick else (0, 1000, 10000)
    wrapped = crowd.compare(sizes, False, options.rounds)
    token = crowd.compare(objects, True, options.rounds)
    found["crowd"] = {"wrapped": dict(zip(sizes, wrapped)), "token": dict(zip(objects, token))}
    rows.add("crowd", "an enrolment beside {:,} users with wrapped keys, to one beside {:,}".format(
        sizes[1], sizes[0]), wrapped[1][0] / wrapped[0][0], most=1.2,
        note="%.1f, %.1f ms; processor time %.1f, %.1f ms; load %.1f" % (
            wrapped[1][0], wrapped[0][0], wrapped[1][1], wrapped[0][1], os.getloadavg()[0]))
    for size, took in zip(objects, token):
        rows.add("crowd", "an enrolment beside {:,} key pairs in a SoftHSM token".format(size),
                 took[0], "ms", note="processor time %.1f ms" % took[1])


def save(options, rows, found, seconds):
    """After each part: a long run that is ended loses only the rest."""
    found.update({"rows": rows.rows, "quick": options.quick, "rounds": options.rounds,
                  "users": options.users, "cores": os.cpu_count(), "seconds": round(seconds),
                  "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")})
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(found, stream, indent=1)
            stream.write("\n")
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as stream:
            stream.write(plot.svg(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--users", type=int)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--svg", metavar="FILE")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.users = options.users or (10 if options.quick else 100)
    parts = options.only.split(",")
    if set(parts) - set(PARTS):
        parser.error("--only takes %s" % ", ".join(PARTS))
    rows, found, began = Rows(), {}, time.time()
    with tempfile.TemporaryDirectory(prefix="pfx-bench-") as folder:
        for part, functions in (("pass", (idle_pass, memory)), ("store", (store,)),
                                ("crowd", (crowds,)), ("rebuild", (rebuilds,)),
                                ("enrolment", (enrolments,))):
            for measure in functions if part in parts else ():
                measure(options, rows, found, folder)
                save(options, rows, found, time.time() - began)
    over = [row["name"] for row in rows.rows if row["ok"] is False]
    print("%d of %d limits kept%s" % (sum(row["ok"] is True for row in rows.rows),
                                      sum(row["ok"] is not None for row in rows.rows),
                                      "; over: " + "; ".join(over) if over else ""))
    return 1 if over and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
