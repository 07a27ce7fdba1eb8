"""What the operation log costs an enrolment, as a ratio.

    PFX_BUILD=build/gcc /usr/bin/python3 hsm-test/bench/log_cost.py \\
        [--users N] [--key TYPE] [--rounds N]

Runs the same users through all three daemons, SoftHSM and the simulators, in turn with pfx-hsm and
with a pfx-hsm that appends nothing (bench/unlogged.c), and prints the medians. The limit is 1.10:
the log may make an enrolment at most a tenth slower. A program, not a test; it wants a quiet machine.
"""

import argparse
import os
import statistics
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "e2e"))

import harness  # noqa: E402  (the lines above make it found)
import many  # noqa: E402

LIMIT = 1.10
PROGRAMS = {"with the log": "pfx-hsm", "without": "pfx-hsm-unlogged"}


def settled(world):
    """Waits until pfx-hsm has tried what its tokens can do, and rests."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 1:
        used = many.processor(world, "hsm")
        if used != last:
            last, since = used, time.monotonic()
        time.sleep(0.1)


def seconds(program, options):
    """Wall clock of one run, and processor time of each daemon in it."""
    arguments = many.settings(options.users, 40)
    arguments["rules"][0]["key"] = options.key
    with harness.World(**arguments) as world:
        world.ready()
        # Started anew in both cases: without the log it can't begin one, so it takes over.
        world.stop("hsm")
        world.spawn("hsm", harness.program(program), "--policy", world.conf_path("hsm-policy.yaml"))
        world.wait_socket("hsm", world.path("hsm-run", "admin"))
        settled(world)
        before = [many.processor(world, name) for name in many.DAEMONS]
        run = many.Run(world, 3600)
        used = [many.processor(world, name) - was for name, was in zip(many.DAEMONS, before)]
        if run.code != 0:
            raise SystemExit("run: exit %d\n%s\n%s" % (run.code, run.errors, world.why_not()))
        return run.seconds, used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--key", default="rsa-2048")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    wall, used = {name: [] for name in PROGRAMS}, {name: [] for name in PROGRAMS}
    for _ in range(options.rounds):
        for name, program in PROGRAMS.items():
            took, cpu = seconds(program, options)
            wall[name].append(took)
            used[name].append(cpu)
    rows = [("users, %d rounds" % options.rounds, "%d, %s" % (options.users, options.key))]
    for name in PROGRAMS:
        rows += [("users a second %s" % name,
                  "%.2f" % (options.users / statistics.median(wall[name]))),
                 ("processor time a user %s" % name, ", ".join(
                     "%s %.1f ms" % (daemon, 1000 * statistics.median(times) / options.users)
                     for daemon, times in zip(many.DAEMONS, zip(*used[name]))))]
    ratio = statistics.median(wall["with the log"]) / statistics.median(wall["without"])
    rows += [("time of an enrolment, with the log to without", "%.3f (limit %.2f)" % (ratio, LIMIT))]
    print(many.table(rows))


if __name__ == "__main__":
    main()
