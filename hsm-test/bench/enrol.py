"""How fast users are enrolled, as ratios against what limits it.

    PFX_BUILD=build/gcc /usr/bin/python3 hsm-test/bench/enrol.py \
        [--users N] [--key TYPE] [--factor F]

Runs N users through all three daemons, SoftHSM and the simulators, and prints what each part could
do at best beside what the whole does: bare key generation in the token, the services' published
limits, and the processor time of each process. A program, not a test: it passes whatever comes out,
and its figures are of this machine and its load. A ratio above 1 against a limit of a service shows
that the service would be what is waited for.
"""

import argparse
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "e2e"))

import harness  # noqa: E402  (the lines above make it found)
import many  # noqa: E402

KEYS = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096")


def cpu(world):
    """Seconds of processor time that each daemon and the simulators have used."""
    return {name: many.processor(world, name) for name in (*many.DAEMONS, "sim")}


def bare_keys(world, kind, count):
    """Keys a second that the users token makes for a program that does nothing else."""
    result = world.run(harness.program("bench-keys"), "--module", world.kinds["users"].module,
                       "--label", "pfx-users", "--pin-fd", "0", "--key", kind, "--count",
                       str(count), stdin=world.pin("users").encode(), seconds=300)
    if result.code != 0:
        raise SystemExit("bench-keys: %r" % result)
    return float(result.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--key", choices=KEYS, default="ec-p256")
    parser.add_argument("--factor", type=float, default=40,
                        help="how much shorter the windows of the services' limits are (40)")
    options = parser.parse_args()
    arguments = many.settings(options.users, options.factor)
    arguments["rules"][0]["key"] = options.key
    with harness.World(**arguments) as world:
        world.ready()
        keys = bare_keys(world, options.key, 500 if options.key.startswith("ec") else 20)
        watch = many.Watch(world)
        before = cpu(world)
        run = many.Run(world, 3600)
        after = cpu(world)
        watch.stop()
        if run.code != 0:
            raise SystemExit("run: exit %d\n%s\n%s" % (run.code, run.errors, world.why_not()))
        pace = options.users / run.seconds
        used = {name: (after[name] - before[name]) / options.users for name in after}
        second = many.Run(world, 60)
        requests = {s: len(watch.of(s)) / options.users for s in many.LIMITS}
        writes = len(watch.of("graph", writes=True)) / options.users
        rows = [("users", "%d, %s, wrapped" % (options.users, options.key)),
                ("users a second", "%.1f" % pace),
                ("bare keys a second, one session", "%.1f" % keys),
                ("  ratio", "%.2f" % (pace / keys))]
        for service, limits in many.LIMITS.items():
            most = min(count / seconds for count, seconds in limits) / requests[service]
            rows += [("users a second that %s allows" % service, "%.1f (%.2f requests a user)"
                      % (most, requests[service])), ("  ratio", "%.2f" % (pace / most))]
        most = many.WRITE_LIMITS[0][0] / many.WRITE_LIMITS[0][1] / writes
        rows += [("users a second that graph's writes allow", "%.1f" % most),
                 ("  ratio", "%.2f" % (pace / most))]
        rows += [("processor time of %s a user" % name, "%.1f ms" % (1000 * seconds))
                 for name, seconds in used.items()]
        ours = sum(seconds for name, seconds in used.items() if name != "sim")
        rows += [("users a second that our processor time allows", "%.1f on one core" % (1 / ours)),
                 ("  share of the simulators in all of it", "%.0f %%"
                  % (100 * used["sim"] / (ours + used["sim"]))),
                 ("second pass, nothing to do", "%.2f s, %.2f ms a user"
                  % (second.seconds, 1000 * second.seconds / options.users))]
        print(many.table(rows))


if __name__ == "__main__":
    main()
