"""What the test and the benchmark of many users share: the world, samples of it, and figures."""

import contextlib
import json
import os
import subprocess
import threading
import time

import harness
import people

DAEMONS = ("agentd", "hsm", "uploader")
# The services' limits as they publish them: requests in seconds, rolling.
LIMITS = {"digicert": ((100, 5), (1000, 180)), "graph": ((1000, 20),)}
WRITE_LIMITS = ((100, 20),)  # Graph's, of everything but GET


def window(requests, seconds):
    """Most requests in any window of so many seconds."""
    times = sorted(r["time"] for r in requests)
    most, first = 0, 0
    for last, when in enumerate(times):
        while times[first] <= when - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def rate(count, seconds, factor):
    """A setting of uploader.yaml; the product's buckets are settings, so they are scaled too."""
    return "%d/%dms" % (count, max(1, round(seconds * 1000 / factor)))


def settings(count, factor):
    """Arguments of harness.World for so many users; factor shortens the windows of the limits."""
    short, long = LIMITS["digicert"]
    return {
        "tenant": people.tenant([people.user(n) for n in range(1, count + 1)]),
        "rules": [people.rule(key="ec-p256")],
        "clock_factor": factor,
        "agent": {"max_orders_per_pass": 10000, "max_orders_per_day": 10000},
        "policy": {"users": {"keys": "wrapped"},
                   "ceilings": {"keys_per_hour": 20000, "builds_per_hour": 40000}},
        "uploader": {"digicert": {"rate_short": rate(*short, factor),
                                  "rate_long": rate(*long, factor)},
                     "graph": {"rate_writes": rate(*WRITE_LIMITS[0], factor),
                               "rate_any": rate(*LIMITS["graph"][0], factor)}},
    }


def memory(pid):
    """Resident memory in KiB; None when the process is gone."""
    with contextlib.suppress(OSError):
        with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as stream:
            for line in stream:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
    return None


def processor(world, name):
    """Seconds of processor time that this process has used."""
    with open("/proc/%d/stat" % world.processes[name].pid, encoding="ascii") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Samples memory and the simulators' log of requests, which keeps the last 5,000 only."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world = world
        self.ends = threading.Event()
        self.samples = []   # (time, {daemon: KiB})
        self.kept = {}      # requests that look alike: as many as one look at the log has shown
        self.start()

    def look(self):
        self.samples.append((time.time(), {
            name: memory(self.world.processes[name].pid) for name in DAEMONS}))
        with contextlib.suppress(OSError, ValueError):
            alike = {}
            for entry in self.world.control("/log")["requests"]:
                alike.setdefault(json.dumps(entry, sort_keys=True), []).append(entry)
            for key, entries in alike.items():
                if len(entries) > len(self.kept.get(key, ())):
                    self.kept[key] = entries

    def run(self):
        while not self.ends.wait(1):
            self.look()

    def stop(self):
        self.ends.set()
        self.join(30)
        self.look()

    def requests(self):
        return [entry for entries in self.kept.values() for entry in entries]

    def of(self, service, writes=False):
        return [r for r in self.requests() if r["service"] == service
                and (not writes or r["method"] != "GET")]


class Run:
    """One `run --once --json`, with the time of each of its lines."""

    def __init__(self, world, seconds):
        self.items, self.began = [], time.time()
        self.process = subprocess.Popen(
            [harness.program("pfx-agent"), "run", "--once", "--wait", "%ds" % seconds, "--json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=world.environment, start_new_session=True)
        timer = threading.Timer(seconds + 60, self.process.kill)
        timer.start()
        for line in self.process.stdout:
            if line.strip():
                self.items.append((time.time(), json.loads(line)))
        self.errors = self.process.stderr.read().decode("utf-8", "replace")
        self.code = self.process.wait()
        timer.cancel()
        self.seconds = time.time() - self.began

    def of(self, kind):
        return [item for _, item in self.items if item["kind"] == kind]


def growth(samples, begin):
    """{daemon: (KiB at begin, most KiB after it)}."""
    found = {}
    for name in DAEMONS:
        values = [(when, sample[name]) for when, sample in samples if sample[name]]
        base = [v for when, v in values if when <= begin] or [values[0][1]]
        found[name] = (base[-1], max(v for when, v in values))
    return found


def table(rows):
    """Lines of a table of two columns."""
    wide = max(len(name) for name, _ in rows)
    return "\n".join("  %-*s  %s" % (wide, name, value) for name, value in rows)


def size(path):
    with contextlib.suppress(OSError):
        return os.path.getsize(path)
    return 0
