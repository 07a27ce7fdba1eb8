"""A store with many users: what a pass with nothing to do costs, and memory and status beside it.

The users come into the store by a pass of the product itself over a simulated group, where the
limit of orders admits one; that one is enrolled to its end, and what an enrolment has then is copied to
the others in the store, by its own schema, while pfx-agentd doesn't run. Then pfx-agentd is started
again and looks at them: every certificate is valid and every record is there, so nothing is to be
done.
"""

import os
import sqlite3
import statistics
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "e2e"))

import harness  # noqa: E402  (the line above makes it found)
import many  # noqa: E402

PAGE = 999  # members of a page, Graph's most
# What an enrolment gets on its way, but for what is each one's own.
COMMON = ("key_ref", "key_id", "ticket", "csr", "spki", "sent_first", "sent_last", "ordered_at",
          "ca_status", "info_at", "validation_at", "cert", "chain", "starts", "expires", "pfx_sha",
          "generation", "key_name", "provider_name", "padding", "tier", "sealed_by", "active_at",
          "admitted_at", "listed", "covered")


def new_world(users):
    arguments = many.settings(users, 40)
    arguments["agent"]["max_orders_per_pass"] = 1
    return harness.World(**arguments).ready()


def store_of(world):
    return sqlite3.connect(world.path("state", "store.db"), isolation_level=None)


def fill(world, leave=0):
    """Every user of the group is enrolled, as far as the store knows, but for so many who wait."""
    first = world.run_once("1h", seconds=3600)
    if first.code not in (0, 1):
        raise SystemExit("run: exit %d\n%s" % (first.code, first.err[-2000:]))
    for name in ("uploader", "hsm", "agentd"):
        world.stop(name)
    store = store_of(world)
    done = store.execute("SELECT id FROM enrolment WHERE state = 'ACTIVE'").fetchone()[0]
    store.execute("BEGIN")
    store.execute(
        "UPDATE enrolment SET state = 'ACTIVE', order_id = 10000000 + enrolment.id,"
        " certificate_id = 10000000 + enrolment.id, held_from = NULL, held_job = NULL,"
        " held_why = NULL, fail_class = NULL, fail_op = NULL, fail_object = NULL,"
        " fail_code = NULL, fail_text = NULL, fail_n = 0,"
        " thumbprint = lower(hex(randomblob(20))),"
        " record_id = (SELECT hex FROM user WHERE id = enrolment.user)"
        "  || lower(hex(randomblob(16))), %s"
        " FROM (SELECT %s FROM enrolment WHERE id = %d) AS d WHERE enrolment.state = 'HELD'"
        " AND enrolment.id NOT IN"
        "  (SELECT id FROM enrolment WHERE state = 'HELD' ORDER BY id DESC LIMIT %d)"
        % (", ".join("%s = d.%s" % (c, c) for c in COMMON), ", ".join(COMMON), done, leave))
    store.execute(
        "INSERT INTO record(id, user_hex, thumbprint, purpose, upn, starts, expires,"
        " provider_name, key_name, padding, pass) SELECT e.record_id, u.hex, e.thumbprint,"
        " e.intune, u.upn, e.starts, e.expires, e.provider_name, e.key_name, e.padding,"
        " (SELECT value FROM meta WHERE key = 'records_pass')"
        " FROM enrolment e JOIN user u ON u.id = e.user"
        " WHERE e.state = 'ACTIVE' AND e.record_id IS NOT NULL ON CONFLICT(id) DO NOTHING")
    store.execute("COMMIT")
    active, = store.execute("SELECT count(*) FROM enrolment WHERE state = 'ACTIVE'").fetchone()
    wanted, = store.execute("SELECT count(*) FROM user").fetchone()
    store.close()
    if active != wanted - leave:
        raise SystemExit("%d of %d users are enrolled in the store" % (active, wanted))
    world.changes["agent"]["schedule"] = {"pass_every": "12h"}
    if leave:
        world.changes["agent"]["schedule"].update(poll_every="1s", retry_min="1s")
    world.write_conf()
    world.start_all()


def facts_of(pid):
    """{what: KiB} of a process's memory."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as stream:
        found = {line.split(":")[0]: int(line.split()[1]) for line in stream if ": " in line}
    return {name: found[name] for name in ("Rss", "Pss", "Locked")}


def most(world, name):
    """VmHWM of a process in KiB: the most that was resident since it started."""
    with open("/proc/%d/status" % world.processes[name].pid, encoding="ascii") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("VmHWM:"))


def pass_of(store):
    values = dict(store.execute("SELECT key, value FROM meta WHERE key LIKE 'pass_%'"))
    return values["pass_no"], values["pass_started"], values["pass_finished"]


def idle_pass(world):
    """A pass by the clock, which doesn't read Intune's list, since that was read already: its
    requests, and its seconds."""
    store = store_of(world)
    number = pass_of(store)[0]
    states = store.execute("SELECT state, count(*) FROM enrolment GROUP BY state").fetchall()
    before = {name: many.processor(world, name) for name in ("agentd", "uploader", "sim")}
    seen = world.control("/log")["requests"]
    store.execute("UPDATE meta SET value = 0 WHERE key = 'pass_scheduled'")
    world.cli("status")  # wakes it

    def over():
        return pass_of(store)[0] > number and pass_of(store)[2] >= pass_of(store)[1]
    harness.wait_for("a pass", over, 300, 0.1)
    used = {name: many.processor(world, name) - was for name, was in before.items()}
    _, began, ended = pass_of(store)
    time.sleep(0.5)
    left, = store.execute("SELECT count(*) FROM job WHERE enrolment IS NOT NULL").fetchone()
    if left or states != store.execute(
            "SELECT state, count(*) FROM enrolment GROUP BY state").fetchall():
        raise SystemExit("there was something to do in the pass: the figure is of another thing")
    store.close()
    requests = [r for r in world.control("/log")["requests"] if r not in seen]
    wall = (ended - began) / 1000
    return {"requests": len(requests), "wall": wall, "beside": wall - used["sim"], "cpu": used}


def status_seconds(world, rounds=7):
    """Median of `pfx-agent status`, program start and end included."""
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        result = world.cli("status")
        took.append(time.monotonic() - began)
        if result.code not in (0, 1):
            raise SystemExit("status: %r" % result)
    return statistics.median(took)


if __name__ == "__main__":
    count = int(sys.argv[1])
    at = time.time()
    with new_world(count) as here:
        print("ready %.1f" % (time.time() - at))
        fill(here)
        print("filled %.1f" % (time.time() - at))
        for _ in range(3):
            print(idle_pass(here), os.getloadavg()[0])
            print("status", status_seconds(here), "most", most(here, "agentd"),
                  facts_of(here.processes["agentd"].pid))
