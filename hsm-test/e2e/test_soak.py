"""A soak: people come and go, certificates are revoked, and meanwhile the network, the disk, the
token and the processes fail at random. With PFX_LONG=1 only; PFX_SOAK_MINUTES (10) says how long,
PFX_SOAK_SEED repeats a run as far as time lets it."""

import collections
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import unittest

import harness
import invariants
import many
import people
from case import LONG, WorldCase
from test_bad_input import can_mount
from test_network import (CHANGES, DONE, DOWNLOAD, FINE, IMPORT, MEMBERS, ORDER, READ, READBACK,
                          RECORDS, TOKEN)

MINUTES = float(os.environ.get("PFX_SOAK_MINUTES", "10"))
MOST_USERS = 120
ROOM_KIB = 24 * 1024  # a process may grow by so much after the first quarter
MOST_FDS = 90
DAEMONS = many.DAEMONS
TLS = ("expired", "foreign_ca", "wrong_name", "client_certificate", "reset", "silent", "alert",
       "rubbish")
REMOVE = {"service": "graph", "method": "DELETE"}
REVOKE = {"service": "digicert", "method": "PUT"}
PLACES = ((ORDER, dict(DONE, **FINE)), (IMPORT, dict(DONE, **FINE)), (DOWNLOAD, dict(READ, **FINE)),
          (READBACK, dict(READ, **FINE)), (CHANGES, dict(READ, **FINE)),
          (MEMBERS, dict(READ, **FINE)), (RECORDS, dict(READ, **FINE)), (TOKEN, dict(READ, **FINE)),
          (REMOVE, READ), (REVOKE, DONE))


def descriptors(pid):
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/%d/fd" % pid))
    return 0


class Samples:
    """Memory and file descriptors of each process, by its incarnation."""

    def __init__(self, world):
        self.world = world
        self.began = time.monotonic()
        self.memory = collections.defaultdict(list)  # (daemon, pid): [(second, KiB)]
        self.fds = collections.Counter()

    def take(self):
        for name in DAEMONS:
            process = self.world.processes.get(name)
            if process is None or process.poll() is not None:
                continue
            size = many.memory(process.pid)
            if size:
                self.memory[name, process.pid].append((time.monotonic() - self.began, size))
            self.fds[name] = max(self.fds[name], descriptors(process.pid))

    def growth(self, name):
        """(most KiB, most growth of one incarnation after a quarter of its life).

        What it has grown by it keeps, all through the second half: pfx-hsm takes 32 MiB more for a
        moment, for scrypt, whenever it opens a token.
        """
        most, grown = 0, 0
        for (daemon, _), rows in self.memory.items():
            if daemon != name or not rows:
                continue
            quarter = rows[0][0] + (rows[-1][0] - rows[0][0]) / 4
            base = max(size for when, size in rows if when <= quarter)
            most = max(most, max(size for _, size in rows))
            grown = max(grown, min(size for _, size in rows[len(rows) // 2:]) - base)
        return most, grown


class Soak(WorldCase):
    """The dice, and what is counted."""

    def setUp(self):
        self.seed = int(os.environ.get("PFX_SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
        print("seed %d, %.1f minutes" % (self.seed, MINUTES), flush=True)
        self.dice = random.Random(self.seed)
        self.counts = collections.Counter()
        self.inside, self.outside = set(), set()
        self.next_user = 1
        self.may_order = collections.Counter()  # {mail: how many orders there may be}

    # --- people -----------------------------------------------------------------------------------

    def add_user(self):
        if self.outside and self.dice.random() < 0.3:
            number = self.dice.choice(sorted(self.outside))
            self.outside.discard(number)
            self.counts["users back in the group"] += 1
        elif self.next_user <= MOST_USERS:
            number, self.next_user = self.next_user, self.next_user + 1
            self.counts["users"] += 1
        else:
            return
        # Each time that somebody comes, a certificate may be wanted.
        self.may_order[people.user(number)["mail"]] += 1
        self.world.control("/graph/member", {"group": people.GROUP, "add": people.user(number)})
        self.inside.add(number)

    def remove_user(self):
        if len(self.inside) < 8:
            return
        number = self.dice.choice(sorted(self.inside))
        self.world.control("/graph/member", {"group": people.GROUP,
                                             "remove": people.user(number)["id"]})
        self.inside.discard(number)
        self.outside.add(number)
        self.counts["users out of the group"] += 1

    def rename_user(self):
        if self.inside:
            number = self.dice.choice(sorted(self.inside))
            self.world.control("/graph/member", {"change": {
                "id": people.user(number)["id"], "displayName": "Erika Neu %d" % number}})
            self.counts["users renamed"] += 1

    def revoke(self):
        orders = [o for o in self.world.orders() if o["status"] == "issued"]
        if orders:
            order = self.dice.choice(orders)
            self.world.control("/digicert/order/%d" % order["id"], {"status": "revoked"})
            for mail in order["body"]["certificate"]["emails"]:
                self.may_order[mail.lower()] += 1
            self.counts["certificates revoked by the CA"] += 1

    def revoke_here(self):
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            rows = [r for r in self.world.enrolments() if r["state"] == "ACTIVE"]
            if rows:
                row = self.dice.choice(rows)
                number = int(row["upn"][4:7])
                if self.world.cli("enrolment", "revoke", str(row["enrolment"]), "--reason", "soak",
                                  "--yes", seconds=40).code == 0:
                    self.may_order[people.user(number)["mail"]] += 1
                    self.counts["certificates revoked by an operator"] += 1

    def run_pass(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.world.run_once("2s", seconds=60)
            self.counts["passes"] += 1

    # --- what fails -------------------------------------------------------------------------------

    def network(self):
        where, faults = self.dice.choice(PLACES)
        name = self.dice.choice(sorted(faults))
        self.world.knob(**dict(faults[name], **dict(where, times=self.dice.choice((1, 1, 2, 4)))))
        self.counts["network faults set"] += 1

    def unreachable(self):
        kind, service = self.dice.choice(TLS), self.dice.choice(("digicert", "graph", "entra"))
        self.world.setting(tls={service: kind})
        time.sleep(self.dice.uniform(0.5, 3))
        self.world.setting(tls={})
        self.counts["services without TLS"] += 1

    def tokens_gone(self):
        self.world.control("/reset", {"what": ["tokens"]})
        self.counts["access tokens withdrawn"] += 1

    def kill(self):
        names = self.dice.choice((["agentd"], ["hsm"], ["uploader"], ["agentd", "uploader"],
                                  list(DAEMONS)))
        for name in names:
            self.world.kill(name)
        time.sleep(self.dice.uniform(0, 1.5))
        self.start(names)
        self.counts["kill -9"] += len(names)

    def start(self, names):
        for name in DAEMONS:
            if name in names:
                {"agentd": self.world.start_agentd, "hsm": self.world.start_hsm,
                 "uploader": self.world.start_uploader}[name]()

    def freeze(self):
        name = self.dice.choice(DAEMONS)
        process = self.world.processes[name]
        process.send_signal(signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.5, 4))
        process.send_signal(signal.SIGCONT)
        self.counts["processes stopped for a while"] += 1

    def token_away(self):
        """The users' token: its files are out of reach, and come back."""
        folder = self.world.path("tokens")
        if not os.path.isdir(folder) or self.world.processes["hsm"].poll() is not None:
            return
        os.rename(folder, folder + "-away")
        time.sleep(self.dice.uniform(0.3, 2))
        # What the module may have made in its place meanwhile isn't a token.
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        os.rename(folder + "-away", folder)
        self.counts["tokens out of reach"] += 1

    def disk_full(self):
        folder = self.dice.choice(self.small)
        ballast = os.path.join(folder, "ballast")
        handle = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):
            while True:
                os.write(handle, b"x" * 65536)
        with contextlib.suppress(OSError):
            while True:
                os.write(handle, b"x" * 512)
        os.close(handle)
        time.sleep(self.dice.uniform(0.5, 3))
        os.unlink(ballast)
        self.counts["disk full"] += 1

    def revive(self):
        """What a supervisor does: who ended by itself, for a full disk say, is started again."""
        for name in DAEMONS:
            process = self.world.processes.get(name)
            if process is not None and process.poll() is not None:
                self.counts["ended by itself: %s" % name] += 1
                self.codes[name, process.returncode] += 1
                self.world.stop(name)
                with contextlib.suppress(AssertionError):
                    self.start([name])

    # --- the run ----------------------------------------------------------------------------------

    def make_world(self):
        world = self.make([], rules=[people.rule(key="ec-p256", on_revoked="enrol_again")], agent={
            "max_orders_per_pass": 10000, "max_orders_per_day": 10000,
            "schedule": {"settle_grace": "6s", "poll_every": "1s", "retry_min": "300ms",
                         "retry_max": "2s", "sweep_every": "2s"}},
            policy={"ceilings": {"keys_per_hour": 20000, "builds_per_hour": 20000,
                                 "assertions_per_hour": 20000, "secrets_per_hour": 20000}},
            uploader={"limits": {"connect_timeout": "1500ms", "request_timeout": "2s",
                                 "job_timeout": "8s", "max_body": "1MiB"}})
        self.small = []
        if can_mount():
            for name in ("state", "hsm-state"):
                folder = world.path(name)
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0700", "none", folder],
                               check=True)
                self.addCleanup(subprocess.run, ["umount", "-l", folder], check=False)
                self.small.append(folder)
        world.ready()
        world.setting(digicert_limits=None, graph_write_limits=None)
        return world

    def actions(self):
        table = [(self.add_user, 12), (self.remove_user, 3), (self.rename_user, 1),
                 (self.revoke, 3), (self.revoke_here, 2), (self.run_pass, 10), (self.network, 14),
                 (self.unreachable, 2), (self.tokens_gone, 2), (self.kill, 3), (self.freeze, 2),
                 (self.token_away, 1)]
        if self.small:
            table.append((self.disk_full, 1))
        return table

    def test_soak(self):
        self.codes = collections.Counter()
        self.world = world = self.make_world()
        samples = Samples(world)
        with self.telling(world):
            end = time.monotonic() + MINUTES * 60
            actions = self.actions()
            for _ in range(10):
                self.add_user()
            while time.monotonic() < end:
                action, = self.dice.choices([a for a, _ in actions], [w for _, w in actions])
                action()
                self.revive()
                samples.take()
                self.counts["actions"] += 1
                if self.counts["actions"] % 50 == 0:
                    self.clear_rules()
            self.settle(world, samples)
            self.judge(world, samples)

    def clear_rules(self):
        """Rules that nothing met."""
        self.counts["network faults met"] += sum(
            r["hits"] for r in self.world.control("/knobs")["rules"])
        self.world.control("/knobs", {"clear": True, "settings": {
            "digicert_limits": None, "graph_write_limits": None}})

    def settle(self, world, samples):
        """The faults go; who is held says why, and a person answers that."""
        self.clear_rules()
        self.revive()
        wanted = {people.upn(n) for n in self.inside}
        self.held = collections.Counter()

        def done():
            self.revive()
            samples.take()
            world.run_once("5s", seconds=90)
            rows = world.enrolments()
            held = [r for r in rows if r["state"] == "HELD"]
            for row in held:
                self.assertTrue(row.get("why"), row)
                self.assertTrue(row.get("next"), row)
                self.held[re.sub(r"\d+|[0-9a-f-]{36}", "N", row["why"])[:70]] += 1
                verb = "release" if "doesn't show" in row["why"] else "retry"
                if verb == "release":  # once looked for in vain; ordered again
                    self.may_order[people.user(int(row["upn"][4:7]))["mail"]] += 1
                world.cli("enrolment", verb, str(row["enrolment"]))
            active = {r["upn"] for r in rows if r["state"] == "ACTIVE"}
            return wanted <= active and not held
        harness.wait_for("ACTIVE for everybody in the group", done, 300, 1)

    def judge(self, world, samples):
        invariants.hold(self, world, [people.upn(n) for n in range(1, self.next_user)],
                        self.may_order)
        rows = sorted(self.counts.items())
        rows += [("orders", len(world.orders())), ("records", len(world.records()))]
        rows += [("held: " + why, count) for why, count in sorted(self.held.items())]
        rows += [("%s ended with %d" % key, count) for key, count in sorted(self.codes.items())]
        for name in DAEMONS:
            most, grown = samples.growth(name)
            rows.append(("memory of %s" % name, "at most %d KiB; grew by %d KiB after the first "
                         "quarter of a life" % (most, grown)))
            rows.append(("descriptors of %s" % name, "at most %d" % samples.fds[name]))
            self.assertLess(samples.fds[name], MOST_FDS, name)
            if "ASAN_OPTIONS" not in os.environ:
                self.assertLess(grown, ROOM_KIB, name)
        print(many.table(rows), flush=True)


if not LONG:
    del Soak  # ten minutes, and nothing that a short run would show


if __name__ == "__main__":
    sys.exit(unittest.main())
