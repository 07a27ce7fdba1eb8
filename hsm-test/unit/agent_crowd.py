"""pfx-agentd with a store of tens of thousands: what goes through all of them does it step by step, and
leaves others their turn."""

import os
import sqlite3
import sys
import threading

sys.dont_write_bytecode = True
from agent_case import FlowCase, alone, main  # noqa: E402

USERS = 60000
MOST_MS = 12  # of processor time for a key that is rewrapped; going through all takes far more
MOST_EXPOSED_MS = 0.009  # of processor time for one who is only counted; 0.003 on a quiet machine
# What each has of its own; the rest is that of the first one, but for what is large.
USER = {"id": "printf('00000000-0000-4000-9000-%012d', n)", "log_hash": "randomblob(32)",
        "hex": "printf('00000000000040009000%012d', n)", "upn": "'u' || n || '@example.com'"}
ENROLMENT = {"id": "n", "user": USER["id"], "order_id": "10000000 + n", "key_id": "randomblob(16)",
             "record_id": USER["hex"] + " || '-' || d.thumbprint", "ticket": "randomblob(32)",
             "key_ref": "'made:' || n || '@0'", "cert": "NULL", "chain": "NULL", "csr": "NULL"}
NUMBERS = "WITH RECURSIVE s(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM s WHERE n < ?) "


def fill(rig, count):
    """Copies what the store has of the first user, while pfx-agentd is dead."""
    db = sqlite3.connect(os.path.join(rig.state, "store.db"), isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    for table, own in (("user", USER), ("enrolment", ENROLMENT)):
        columns = [row[1] for row in db.execute("PRAGMA table_info(%s)" % table)]
        db.execute(NUMBERS + "INSERT INTO %s(%s) SELECT %s FROM s, (SELECT * FROM %s LIMIT 1) d" % (
            table, ", ".join(columns), ", ".join(own.get(c, "d." + c) for c in columns), table),
            (count,))
    db.execute("INSERT INTO exposure SELECT 1, id, changed_at FROM enrolment WHERE id > 1")
    db.execute("INSERT INTO record SELECT e.record_id, u.hex, thumbprint, intune, upn, starts, expires,"
               " provider_name, key_name, padding, 1 FROM enrolment e JOIN user u ON u.id = e.user"
               " WHERE e.id > 1")
    db.execute("COMMIT")
    db.close()


def cpu_ms(rig):
    """What pfx-agentd's processor time is by now."""
    with open("/proc/%d/stat" % rig.process.pid, encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slowed():
    """Built with sanitizers, or to count lines."""
    with open(os.environ["PFX_AGENTD"], "rb") as program:
        text = program.read()
    return any(name in text for name in (b"__asan_init", b"__tsan_init", b"__llvm_profile"))


class Asking(threading.Thread):
    """Asks one short question after the other."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig, self.answers, self.over = rig, 0, False
        self.start()

    def run(self):
        while not self.over:
            self.rig.ask("enrolment.show", enrolment=2)
            self.answers += 1

    def stop(self):
        self.over = True
        self.join()


class Crowd(FlowCase):
    def meanwhile(self, rig, work):
        asking = Asking(rig)
        try:
            return work(), asking.answers
        finally:
            asking.stop()

    @alone
    def test_crowd(self):
        rig = self.rig(schedule={"sweep_every": "12h", "poll_every": "12h"})
        rig.world.turn_to(1)
        self.group(rig, "anna")
        self.assertEqual(rig.run_once()[1], 0)
        rig.kill()
        fill(rig, USERS)
        rig.start()
        # Each step is short: many others are answered in between.
        items, others = self.meanwhile(rig, lambda: rig.ask("backup.store")[0])
        self.assertGreater(others, 20)
        copy = sqlite3.connect(os.path.join(rig.state, items[0]["file"]))
        self.assertEqual(copy.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertEqual(copy.execute("SELECT count(*) FROM enrolment").fetchone(), (USERS,))
        copy.close()
        rig.world.turn_to(2)
        used = cpu_ms(rig)
        items, others = self.meanwhile(rig, lambda: rig.ask("key.exposed", generation=1)[0])
        self.assertEqual(items[-1]["exposed"], USERS)
        self.assertGreater(others, 10)
        if not slowed():  # the whole row of each, by statements of its own, takes twice as much
            self.assertLess((cpu_ms(rig) - used) / USERS, MOST_EXPOSED_MS)
        one = [i for i in rig.ask("key.records")[0] if i["kind"] == "generation"][0]
        self.assertEqual((one["generation"], one["records"]), (1, USERS))
        # Finding the next one doesn't go through all that are left.
        rig.world.hsm_rewrap = lambda body: rig.world.refer(body, body["key_ref"].split("@")[0])
        rig.world.epoch = 5
        used = cpu_ms(rig)
        self.assertEqual(rig.ask("key.rewrap")[1], 0)
        done = rig.wait_for(lambda: rig.sql("SELECT value FROM meta WHERE key = 'rewrap_done'"
                                            " AND value >= 40"), 60)[0][0]
        self.assertLess((cpu_ms(rig) - used) / done, MOST_MS)


if __name__ == "__main__":
    main()
