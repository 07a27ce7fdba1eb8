"""A pfx-uploader that lies to the real pfx-agentd: about every member of every message and of every
job's result, about who it is, about jobs that it was never given; that floods, stops in the middle
of a frame, says nothing. pfx-agentd takes nothing of it, stays small, and serves its operators and
the honest arm meanwhile. (A pfx-hsm that lies to pfx-agentd meets the same checks.)"""

import json
import os
import re
import sqlite3
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True
import agent_rig  # noqa: E402
import hostile_lies as lies  # noqa: E402
from agent_case import alone, main  # noqa: E402
from agent_rig import GROUP, KINDS, Rig  # noqa: E402
from hostile_liar import TABLES, Liar, kinds_of  # noqa: E402
from hostile_rig import LONG, SLOW, Closed, Watch, Wire, knock, may_open  # noqa: E402

# What is measured is refusals, not the disk.
if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"
REFUSED = re.compile("decode|connection|message")


class Envelopes(unittest.TestCase):
    """Each message that an arm may send, and each that it may not."""

    def setUp(self):
        self.rig = Rig(arms=False)
        self.addCleanup(self.rig.close)

    def refused(self, liar, text, what):
        """The line is closed over this frame, with a reason that is about the frame."""
        try:
            liar.wire.text(text)
        except Closed:
            pass  # closed while it was being sent
        words = liar.wire.last_words()
        self.assertLessEqual([w["t"] for w in words], ["bye"], what)
        for bye in words:
            self.assertRegex(bye["why"], REFUSED, what)
            self.assertNotIn("defect", bye["why"])

    def tell(self, role):
        count = lies.Count("pfx-%s to pfx-agentd, envelopes" % role)
        watch = Watch(self.rig.process)
        for name in TABLES.envelopes:
            liar = Liar(self.rig, role)
            hold = lies.Members([("job", 1), ("lease", 1)])
            true = lies.Members(liar.hello(holds=[hold]).items()) if name == "hello" else None
            told = list(lies.envelope_lies(TABLES, name, true))
            count.of += len(told)
            for lie in lies.fair_part(told, 1 if LONG or SLOW <= 3 else 4):
                if name == "hello":
                    liar.connect()
                else:
                    liar.greet()
                self.refused(liar, lie.text, lie[:3])
                count.add(lie)
            # The whole truth, where it doesn't belong.
            if name not in ("hello", "pull", "beat", "done", "bye"):
                for greeted in (False, True):
                    liar.greet() if greeted else liar.connect()
                    self.refused(liar, lies.dump(lies.envelope_of(
                        TABLES, name, lies.full(TABLES.envelopes[name]))), name)
            liar.close()
        print(count.line())
        self.assertIsNone(self.rig.process.poll(), self.rig.log()[-2000:])
        self.assertLess(watch.memory(), watch.rss + 40000 * SLOW)
        self.assertLessEqual(watch.descriptors(), watch.fds + 2)

    def test_uploader(self):
        self.tell("uploader")

    def test_hsm(self):
        self.tell("hsm")

    def test_truths_that_dont_fit(self):
        """Right by the table, and wrong at this place or in this order."""
        for role, other in (("uploader", "hsm"), ("hsm", "uploader")):
            liar = Liar(self.rig, role)
            for changes in (dict(role=other), dict(role="cli"), dict(role="HSM"),
                            dict(kinds=kinds_of(other)), dict(kinds=kinds_of(role) + ["up.nothing"]),
                            dict(kinds=["hsm.key_csr\n"])):
                liar.connect()
                liar.wire.send("hello", **liar.hello(**changes))
                self.assertEqual([w["t"] for w in liar.wire.last_words()], ["bye"], changes)
            for early in ({"t": "pull", "max": 5}, {"t": "beat", "job": 1, "lease": 1},
                          {"t": "done", "job": 1, "lease": 1, "class": "ok", "body": {}},
                          {"t": "bye", "why": "x"}):
                liar.connect()
                liar.wire.text(json.dumps(dict({"v": 1}, **early)).encode())
                self.assertEqual([w["t"] for w in liar.wire.last_words()], ["bye"], early)
            liar.greet()
            liar.wire.send("hello", **liar.hello())  # a second one
            self.assertEqual([w["t"] for w in liar.wire.last_words()], ["bye"])
            # Jobs that nobody gave it, in its hello and after it.
            liar.greet(holds=[{"job": n, "lease": 1} for n in range(1, 1025)])
            liar.wire.send("beat", job=77, lease=3)
            for _ in range(100):
                liar.wire.send("pull", max=1024)
            for body in ({}, {"users": []}, {"order_id": 1, "chain": []}):
                liar.wire.send("done", job=77, lease=3, body=body, **{"class": "ok"})
            acks = 0
            while acks < 3:
                message = liar.wire.read()
                acks += message["t"] == "ack"
                self.assertIn(message["t"], ("ack", "job"))
            liar.close()
        self.assertEqual(self.rig.enrolments(), [])
        # What its answers said was kept by nobody, and written down a bounded number of times.
        self.assertEqual(len(self.rig.sql("SELECT 1 FROM history WHERE what LIKE 'stale%'")), 6)


# Where a job stands in the flow; every other kind belongs to no enrolment's state.
STATES = {"hsm.key_csr": "NEW", "up.order": "KEYED", "up.order_settle": "KEYED",
          "up.download": "ISSUED", "hsm.build_seal": "CHECKED", "up.import": "SEALED",
          "up.import_settle": "SEALED", "up.readback": "IMPORTED", "hsm.key_destroy": "ACTIVE"}
OF_ORDER = ("up.order_info", "up.order_validation", "up.order_cancel", "up.order_resend")
SCOPES = {"up.members": "pass/rule/staff", "up.records": "pass/records", "hsm.report": "hsm",
          "up.mailboxes": "pass/mailboxes", "up.mailbox_rights": "pass/mailbox/x",
          "up.orders": "orders/list", "up.order_changes": "poll", "up.remove": "remove/x",
          "up.order_revoke": "revoke/1", "hsm.log": "log", "hsm.rewrap": "rewrap/1"}
# That an answer was refused by its table, and where that stands: in its enrolment, or in what is
# known of the list or the record.
EVIDENCE = """SELECT count(*) FROM (
    SELECT fail_op AS t FROM enrolment WHERE id = ?1
    UNION ALL SELECT what FROM history WHERE id > ?2 AND enrolment = ?1
    UNION ALL SELECT what FROM history WHERE id > ?2 AND ?1 IS NULL
        AND what LIKE 'its key isn''t wrapped anew:%'
    UNION ALL SELECT what FROM trouble WHERE ?1 IS NULL
    UNION ALL SELECT fail_text FROM removal WHERE ?1 IS NULL
    UNION ALL SELECT revoke_said FROM enrolment WHERE ?1 IS NULL) WHERE t LIKE '%decode%'"""


class Results(unittest.TestCase):
    """The result of every kind of job, lied about. The jobs are put into the store by hand, so that
    each kind can be answered as often as there are lies; what pfx-agentd makes of the answer, it
    writes there itself."""

    def world(self, users):
        rig = Rig(schedule={"poll_every": "1h", "validation_every": "1h", "retry_min": "10ms",
                            "retry_max": "20ms"})
        self.addCleanup(rig.close)
        rig.world.groups[GROUP] = [rig.world.user("u%d" % n) for n in range(users)]
        rig.world.page = 1000
        rig.run_once()
        self.assertEqual(rig.states(), ["ACTIVE"] * users, rig.log()[-3000:])
        for arm in rig.arms.values():
            arm.stop()
        rig.arms = {}
        rig.db = sqlite3.connect(rig.state + "/store.db", timeout=20, isolation_level=None,
                                 check_same_thread=False)
        self.addCleanup(rig.db.close)
        rig.users = users
        return rig

    @staticmethod
    def prepare(rig, kind, n):
        """n jobs of this kind, due now; forgets what earlier ones left. How many there are."""
        db, state = rig.db, STATES.get(kind)
        payload = lies.dump(lies.fill(TABLES.requests[kind])).decode()
        arm = "hsm" if kind.startswith("hsm.") else "uploader"
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM job WHERE kind <> 'hsm.log' OR ? <> 'hsm.log'", (kind,))
        db.execute("DELETE FROM trouble")
        db.execute("INSERT OR REPLACE INTO removal(record_id, upn, thumbprint, purpose, why,"
                   " asked_at) VALUES('x', 'x', 'x', 'x', 'x', 1)")
        db.execute("INSERT OR REPLACE INTO meta(key, value) VALUES('mailboxes_reading', 1)")
        db.execute("UPDATE enrolment SET state = ?, ver = ver + 1, fail_class = NULL, fail_op = NULL,"
                   " fail_text = NULL, fail_object = NULL, held_from = NULL, held_job = NULL, held_why = NULL,"
                   " revoke_said = NULL, bounces = 0, info_at = NULL,"
                   " validation_at = NULL", (state or "ORDERED",))
        if state or kind in OF_ORDER:
            n = min(n, rig.users)
            rows = db.execute("SELECT id, ver FROM enrolment ORDER BY id LIMIT ?", (n,)).fetchall()
            jobs = [(("e:%d" if state else "o:%d") % id, id, ver) for id, ver in rows]
        else:
            jobs = [(SCOPES.get(kind, "pass/" + kind), None, None)]
        for scope, enrolment, ver in jobs:
            db.execute("INSERT INTO job(scope, enrolment, ver, arm, kind, payload, not_before,"
                       " created_at) VALUES(?, ?, ?, ?, ?, ?, 1, 1) ON CONFLICT DO NOTHING",
                       (scope, enrolment, ver, arm, kind, payload if kind != "hsm.log" else None))
        db.execute("COMMIT")
        return len(jobs)

    def tell(self, rig, kind, told, count):
        """All these lies about the result of one kind. Those that spoil the frame close the line,
        and the job stays out; each of the others is an answer that is refused."""
        liar = Liar(rig, "hsm" if kind.startswith("hsm.") else "uploader").greet()
        whole, jobs, owner = [], [], {}
        last = rig.db.execute("SELECT coalesce(max(id), 0) FROM history").fetchone()[0]

        def answer(job, text):
            return (b'{"v":1,"t":"done","job":%d,"lease":%d,"class":"ok","body":'
                    % (job["job"], job["lease"])) + text + b"}"
        told = list(told)
        while told or jobs:
            if not jobs:
                n = self.prepare(rig, kind, len(told))
                self.assertGreater(n, 0)
                liar.wire.send("pull", max=n)
                while len(jobs) < n:
                    message = liar.wire.read()
                    self.assertEqual(message["t"], "job", message)
                    if message["kind"] == kind:
                        jobs.append(message)
                    else:  # notes for the operation log, say: not this test's matter
                        liar.wire.send("pull", max=1)
                last = rig.db.execute("SELECT coalesce(max(id), 0) FROM history").fetchone()[0]
                owner = dict(rig.db.execute("SELECT id, enrolment FROM job"))
                whole = []
            if not told:
                break
            lie = told.pop(0)
            count.add(lie)
            try:
                liar.wire.text(answer(jobs[0], lie.text))
                message = liar.wire.read()
            except Closed:
                message = {"t": "bye", "why": "decode"}
            if message["t"] == "bye":
                self.assertRegex(message["why"], REFUSED, lie[:3])
                liar.greet(holds=[{"job": j["job"], "lease": j["lease"]} for j in jobs])
                continue
            self.assertEqual(message["t"], "ack", (message, lie[:3]))
            whole.append((owner[jobs.pop(0)["job"]], lie[:3]))
            if not jobs or not told:
                for enrolment, what in whole:
                    self.assertGreater(rig.db.execute(EVIDENCE, (enrolment, last)).fetchone()[0], 0,
                                       "it was taken: %s" % (what,))
        liar.close()

    def results(self, part, of):
        count = lies.Count("results to pfx-agentd, part %d of %d" % (part, of))
        rig = self.world(24)
        watch = Watch(rig.process)
        kinds = [k for k in sorted(TABLES.results) if TABLES.results[k] is not None and
                 not k.startswith("up.setup_")]
        for kind in kinds[part - 1::of]:
            schema = TABLES.results[kind]
            told = list(lies.body_lies(kind, schema))
            count.of += len(told)
            self.tell(rig, kind, lies.fair_part(told, 1 if LONG else 12 if SLOW > 3 else 4), count)
        self.assertIsNone(rig.process.poll(), rig.log()[-2000:])
        self.assertEqual(rig.ask("status")[1], 0)
        self.assertLess(watch.memory(), watch.rss + 200000 * SLOW)
        print(count.line())

    def test_results_1(self):
        self.results(1, 3)

    def test_results_2(self):
        self.results(2, 3)

    def test_results_3(self):
        self.results(3, 3)


class Asked(unittest.TestCase):
    """Results that only a waiting operator gets: setup."""

    def test_setup(self):
        rig = Rig(arms=False)
        self.addCleanup(rig.close)
        count = lies.Count("results to an operator's setup")
        liar = Liar(rig).greet()
        liar.wire.send("pull", max=1)
        for verb, kind in (("setup.digicert", "up.setup_ca"), ("setup.entra", "up.setup_entra")):
            told = [lie for lie in lies.body_lies(kind, TABLES.results[kind])
                    if not lies.spoils(lie)]
            count.of += len(told)
            for lie in lies.fair_part(told, 1 if LONG else 4):
                operator = Wire(rig.run + "/cli")
                operator.send("req", id=1, verb=verb)
                job = liar.wire.read()
                self.assertEqual(job["kind"], kind)
                liar.wire.text(b'{"v":1,"t":"done","job":%d,"lease":%d,"class":"ok","body":%s}'
                               % (job["job"], job["lease"], lie.text))
                end = operator.read()
                self.assertEqual((end["t"], end["error"]["op"]), ("end", "decode"), lie[:3])
                operator.close()
                self.assertEqual(liar.wire.read()["t"], "ack")
                liar.wire.send("pull", max=1)
                count.add(lie)
        # True, and with every escape more than its ceiling: refused too, and the line stays.
        operator = Wire(rig.run + "/cli")
        operator.send("req", id=1, verb="setup.entra")
        job = liar.wire.read()
        finding = {"what": "x", "level": "ok", "text": "t", "command": '"' * 4000}
        liar.wire.send("done", job=job["job"], lease=job["lease"],
                       body={"findings": [finding] * 450}, **{"class": "ok"})
        self.assertEqual(liar.wire.read()["t"], "ack")
        self.assertEqual(operator.read()["error"]["class"], "integrity")
        operator.close()
        print(count.line())


class Storms(unittest.TestCase):
    """Number, size, and no end."""

    def rig(self, *names, **options):
        rig = Rig(**options)
        self.addCleanup(rig.close)
        rig.world.groups[GROUP] = [rig.world.user(n) for n in names]
        return rig

    def lone(self, *names, **options):
        """The real pfx-agentd and an honest pfx-hsm; the uploader is the liar's part."""
        rig = self.rig(*names, arms=False, **options)
        rig.arms["hsm"] = agent_rig.Arm(rig, "hsm", rig.world.work)
        return rig, Liar(rig)

    @alone
    def test_flood(self):
        """Operators and pfx-hsm are served meanwhile; nothing is left of it."""
        rig, liar = self.lone("alice", schedule={"retry_max": "50ms"})
        watch = Watch(rig.process)
        stop = time.monotonic() + (10 if LONG else 2)
        big = lies.frame(b'{"v":1,"t":"done","job":7,"lease":7,"class":"ok","body":{"a":[' +
                         b"0," * 200000 + b"0]}}")

        def flood(number):
            while time.monotonic() < stop:
                one = Liar(rig, "uploader", number=number % 2)
                try:
                    one.connect()
                    if number == 0:
                        one.wire.raw(os.urandom(5000))
                    elif number == 1:
                        one.wire.raw(b"\0\0\xff\0" + b"{" * 60000)
                    elif number == 2:
                        one.greet()
                        for _ in range(20):
                            one.wire.raw(big)
                    elif number == 3:
                        one.greet()
                        for n in range(2000):
                            one.wire.send("done", job=n + 1, lease=1, **{"class": "ok"})
                    elif number == 4:
                        for _ in range(200):
                            one.wire.send("pull", max=1024)
                    else:
                        one.greet()
                        one.wire.send("pull", max=1024)
                    one.wire.socket.settimeout(0.2)
                    one.wire.last_words()
                except (Closed, OSError, AssertionError, ValueError):
                    pass
                finally:
                    one.close()
        threads = [threading.Thread(target=flood, args=(n % 6,)) for n in range(8)]
        for thread in threads:
            thread.start()
        worst = served = 0
        while time.monotonic() < stop:
            start = time.monotonic()
            self.assertEqual(rig.ask("status")[1], 0)
            worst, served = max(worst, time.monotonic() - start), served + 1
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        self.assertLess(worst, 2 * SLOW)
        self.assertGreater(served, 1)
        self.assertIsNone(rig.process.poll(), rig.log()[-2000:])
        self.assertLess(watch.memory(), watch.rss + 150000 * SLOW)
        self.assertTrue(watch.idle(), "it spins")
        # An honest one takes the place, and all goes on.
        rig.arms["uploader"] = agent_rig.Arm(rig, "uploader", rig.world.work)
        rig.wait_for(lambda: rig.run_once()[1] == 0 and rig.states() == ["ACTIVE"], 30)
        self.assertEqual(len(rig.world.bought), 1)

    def test_what_is_written_down_ends(self):
        """Answers that nobody waits for, and a process that comes, takes all jobs and goes: neither
        fills the store nor the journal."""
        rig, liar = self.lone(*["u%d" % n for n in range(8)], schedule={"retry_max": "20ms"})
        stale = 0
        for number in range(3):
            liar.greet()
            try:
                for n in range(1200):
                    liar.wire.send("done", job=100000 + n, lease=1, **{"class": "ok"})
                    stale += 1
            except Closed:
                pass
            liar.wire.last_words()
        self.assertGreater(stale, 2500)
        kept = len(rig.sql("SELECT 1 FROM history WHERE what LIKE 'stale%'"))
        self.assertEqual(kept, 100)
        threading.Thread(target=lambda: rig.ask("run"), daemon=True).start()
        liar.greet()
        liar.wire.send("pull", max=8)
        while True:  # honest until there is something to order
            job = liar.wire.read()
            if job["t"] != "job":
                continue
            if job["kind"] == "up.order":
                break
            liar.wire.send("done", job=job["job"], lease=job["lease"],
                           body=rig.world.work(job["kind"], job["body"]), **{"class": "ok"})
            liar.wire.send("pull", max=1)
        before = len(rig.sql("SELECT 1 FROM history"))
        lines = rig.log().count("\n")
        for number in range(200):
            liar.greet()
            liar.wire.send("pull", max=1024)
            liar.wire.read()
        self.assertLess(len(rig.sql("SELECT 1 FROM history")) - before, 8 * 12)
        self.assertLess(rig.log().count("\n") - lines, 300)
        self.assertIsNone(rig.process.poll())
        liar.close()

    def test_longest_truths(self):
        """Members of the group with everything as long as it may be: no verb of the CLI, no name map
        and no job breaks over it. (An item beyond its own ceiling would end pfx-agentd.)"""
        rig = self.rig(max_orders_per_pass=50)
        addresses = ["smtp:" + ("%02d" % n + "l" * 62)[:64] + "@" + ".".join(
            ["d" * 62, "e" * 62, "f" * 55, "example"]) for n in range(64)]
        self.assertEqual({len(a) - 5 for a in addresses}, {254})
        rig.world.groups[GROUP] = [
            rig.world.user("longest", mail=addresses[0][5:], proxies=addresses,
                           upn='"' * 1011 + "@example.com", display='"' * 1024),
            rig.world.user("plain")]
        rig.world.fault("up.order", *[agent_rig.Fail("transient", '"' * 639, '"' * 63)] * 3)
        rig.world.page = 1

        def page_of_quotes(body):
            answer = rig.world.up_members(dict(body, page="0"))
            return dict(answer, page='"' * 8192) if "page" not in body else \
                {"users": rig.world.groups[GROUP]}
        rig.world.fault("up.members", page_of_quotes, page_of_quotes)
        rig.run_once()
        for verb in ("status", "enrolment.list", "record.list", "log.names"):
            items, code, error = rig.ask(verb)
            self.assertEqual(code, 0, (verb, error))
        names = {i["upn"]: i for i in rig.ask("log.names")[0]}
        found = [i for i in names.values() if len(i.get("addresses", ())) == 64]
        self.assertEqual(len(found), 1, "the control: nobody has 64 long addresses")
        self.assertGreater(len(json.dumps(found[0])), 16 * 1024)
        for number in range(1, 3):
            self.assertEqual(rig.ask("enrolment.show", enrolment=number)[1], 0)
        self.assertIsNone(rig.process.poll(), rig.log()[-1000:])


@alone
@unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
class Strangers(unittest.TestCase):
    def test_sockets_and_files(self):
        """Each socket serves its own users only; the store is open to none of them."""
        rig = Rig(arms=False, access="{operators: operator, auditors: users, hsm_user: daemon, "
                                     "uploader_user: games}")
        self.addCleanup(rig.close)
        os.chmod(rig.dir, 0o755)
        users = {"hsm": ("daemon", "daemon"), "uploader": ("games", "games"),
                 "operator": ("nobody", "operator"), "auditor": ("nobody", "users"),
                 "stranger": ("nobody", "nogroup")}
        files = [rig.state] + [os.path.join(rig.state, name) for name in os.listdir(rig.state)]
        files.append("/proc/%d/mem" % rig.process.pid)
        for who, (user, group) in users.items():
            for role in KINDS:
                said = knock(rig.run + "/" + role, dict(Liar(rig, role).hello(), v=1, t="hello"),
                             user, group)
                self.assertEqual(b'"t":"welcome"' in said, who == role, (who, role, said))
            for verb, who_may in (("status", ("operator", "auditor")), ("pause", ("operator",)),
                                  ("log.names", ("operator",))):
                said = knock(rig.run + "/cli", {"v": 1, "t": "req", "id": 1, "verb": verb,
                                                "args": {"orders": True} if verb == "pause" else {}},
                             user, group)
                self.assertEqual(b'"exit":0' in said, who in who_may, (who, verb, said))
            self.assertEqual(may_open(files, user, group), [], who)
        self.assertIn(rig.state, may_open(files, 0, 0))


if __name__ == "__main__":
    if TABLES is None:
        print("skipped: PFX_WIRE_TABLES isn't there")
        sys.exit(77)
    main()
