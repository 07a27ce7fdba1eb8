"""The real pfx-hsm between a pfx-agentd and a pfx-uploader that both lie: every member of every job and
of every request, floods, half frames, silence, replays, jobs beyond the ceilings. No key is made or
used over it, nothing secret comes out, pfx-hsm stays small and serves the honest line meanwhile.
Every byte that came out is searched for all key values (taken from SoftHSM's files as a control) and
for the PFX passwords (opened with the encryption token's key)."""

import json
import os
import socket
import struct
import sys
import threading
import time
import unittest
import zlib

from cryptography.hazmat.primitives.serialization import pkcs12

sys.dont_write_bytecode = True
import hostile_lies as lies  # noqa: E402
import hsm_rig as rig  # noqa: E402
from hostile_agentd import envelopes, tell_envelopes  # noqa: E402
from hostile_desk import Desk, ends  # noqa: E402
from hostile_rig import (LONG, SLOW, Closed, Needles, SofthsmKeys, Tape, Watch, Wire,  # noqa: E402
                         knock, may_open)
from hsm_rig import Rig, unb64  # noqa: E402

TABLES = lies.Tables() if lies.TABLES else None
API_KEY = "AnApiKeyThatOnlyTheUploaderMayHave"
CEILINGS = {"keys_per_hour": 12, "builds_per_hour": 60, "assertions_per_hour": 8,
            "secrets_per_hour": 8}


class World:
    """One pfx-hsm for all tests of the program; the desk in front of it is the tests' own."""

    def __init__(self):
        self.tape = Tape()           # what a hostile pfx-agentd got
        self.uploader_tape = Tape()  # what a hostile pfx-uploader got
        self.r = Rig(ceilings=CEILINGS)
        unittest.addModuleCleanup(self.finish)
        self.r.agent.close()
        self.desk = Desk(os.path.join(self.r.dir, "agent"), self.tape)
        unittest.addModuleCleanup(self.desk.close)
        if os.geteuid() == 0:
            with open(self.r.policy_path, "a", encoding="utf-8") as stream:
                stream.write("access:\n  uploader_user: daemon\n  agent_user: games\n"
                             "  admins: operator\n")
            os.chmod(self.r.dir, 0o755)
        self.r.start().init()
        end = self.r.admin("secret.set", name="digicert", value=API_KEY)[1]
        assert end["exit"] == 0, end
        self.desk.welcome()

    def finish(self):
        assert self.r.close() == 0


def setUpModule():
    HsmCase.world = World()
    HsmCase.r, HsmCase.desk = HsmCase.world.r, HsmCase.world.desk


class HsmCase(unittest.TestCase):
    world = r = desk = None

    def path(self, name):
        return os.path.join(self.r.run, name)

    def alive(self):
        self.assertIsNone(self.r.process.poll(), self.r.logged()[-3000:])

    def line(self, name, timeout=20):
        tape = self.world.uploader_tape if name == "uploader" else Tape()
        wire = Wire(self.path(name), tape, timeout)
        self.addCleanup(wire.close)
        return wire

    def ask(self, wire, verb, number=1, **args):
        wire.send("req", id=number, verb=verb, args=args)
        items = []
        while True:
            message = wire.read()
            self.assertEqual(message["id"], number)
            if message["t"] == "end":
                return items, message
            items.append(message["body"])


    def make(self, enrolment, **changes):
        body = dict(Rig.ask_body(enrolment), attempt=1, key_type="ec-p256")
        body.update(changes)
        return self.desk.do("hsm.key_csr", **body)

    def build(self, keyed, leaf, **changes):
        return self.desk.do("hsm.build_seal", **self.r.build_body(
            keyed, leaf, self.r.ca.chain(), **changes))


class Test1Lies(HsmCase):
    """Members: told first, while the ceilings are whole, and not one of them counts as a use."""

    def test_1_jobs(self):
        count = lies.Count("pfx-agentd to pfx-hsm, jobs")
        objects = self.r.count("users", "privkey")
        for kind in self.desk.hello["kinds"]:
            told = list(lies.body_lies(kind, TABLES.requests[kind]))
            whole = [lie for lie in told if not lies.spoils(lie)]
            spoilt = [lie for lie in told if lies.spoils(lie)]
            count.of += len(told)
            self.desk.tell(lies.fair_part(whole, 1 if SLOW <= 3 or LONG else 4), count, self)
            self.desk.tell(spoilt if LONG else spoilt[zlib.crc32(kind.encode()) % 7::60][:2], count,
                           self)
        for kind in TABLES.requests:
            if kind not in self.desk.hello["kinds"]:
                self.assertEqual(self.desk.do(kind)["class"], "refused")
        print(count.line())
        self.assertEqual(self.r.count("users", "privkey"), objects, "a key was made")

    def test_2_envelopes(self):
        """What pfx-agentd may say: the same code as pfx-uploader's, so a part of it here."""
        told = envelopes()
        count = lies.Count("pfx-agentd to pfx-hsm, envelopes")
        count.of = len(told)
        tell_envelopes(self.desk, told if LONG else lies.fair_part(told, 1500)[3::12], count, self)
        self.desk.welcome()
        print(count.line())
        self.alive()

    def test_3_requests(self):
        """The sockets uploader and admin: every request, its arguments, its envelope."""
        for name, table in (("uploader", "broker"), ("admin", "admin")):
            count = lies.Count("to pfx-hsm's socket " + name)
            for verb, (args, _) in TABLES.verbs[table].items():
                told = list(lies.body_lies(verb, args))
                count.of += len(told)
                wire = self.line(name)
                for lie in lies.fair_part(told, 1 if LONG else 3):
                    count.add(lie)
                    wire.text(b'{"v":1,"t":"req","id":1,"verb":"%s","args":%s}'
                              % (verb.encode(), lie.text))
                    try:
                        end = wire.read()
                        self.assertFalse(lies.spoils(lie), lie[:3])
                        self.assertEqual((end["t"], end["error"]["class"], end["error"]["op"]),
                                         ("end", "refused", "decode"), lie[:3])
                        self.assertNotIn(lies.CANARY, json.dumps(end))
                    except Closed:
                        self.assertTrue(lies.spoils(lie) or lie.kind == "over its ceiling", lie[:3])
                        wire = self.line(name)
            told = [lie for e in TABLES.envelopes for lie in lies.envelope_lies(TABLES, e)]
            count.of += len(told)
            for lie in lies.fair_part(told, 1 if LONG else 5):
                wire = self.line(name)
                try:
                    wire.text(lie.text)
                    message = wire.read()
                    # An id and a verb that the table lets pass: it is another request, no lie.
                    self.fail("taken: %s %s" % (lie[:3], message))
                except Closed:
                    count.add(lie)
                wire.close()
            print(count.line())
        # Each socket has its own verbs.
        for name, table in (("uploader", "admin"), ("admin", "broker"), ("uploader", "agent")):
            wire = self.line(name)
            for verb in TABLES.verbs[table]:
                self.assertEqual(self.ask(wire, verb)[1]["error"]["class"], "usage", verb)
        self.alive()


class Test2Storms(HsmCase):
    """Order, number and size."""

    def served(self, seconds=5):
        """The honest are served meanwhile: an operator, and pfx-agentd's job."""
        start = time.monotonic()
        operator = Wire(self.path("admin"), Tape())
        try:
            self.assertEqual(self.ask(operator, "hsm.status")[1]["exit"], 0)
        finally:
            operator.close()
        self.assertEqual(self.desk.do("hsm.report")["class"], "ok")
        self.assertLess(time.monotonic() - start, seconds * SLOW)

    def bears(self, watch, more=40000):
        self.alive()
        self.assertLess(watch.memory(), watch.rss + more * SLOW)
        until = time.monotonic() + 10
        while watch.descriptors() > watch.fds + 2 and time.monotonic() < until:
            time.sleep(0.05)
        self.assertLessEqual(watch.descriptors(), watch.fds + 2)
        self.assertTrue(watch.idle(), "it spins")

    def test_1_order(self):
        """Jobs too early, too many, twice; acknowledgements of what was never answered."""
        d = self.desk
        body = json.dumps({}).encode()
        d.accept()
        d.credit = 1
        d.give("hsm.report", body)
        ends(d.wire, self, "a job before the welcome")
        d.welcome()
        d.has_credit()
        for n in range(d.credit + 1):
            d.credit = 1
            d.give("hsm.report", body)
        ends(d.wire, self, "a job more than was asked for", ("pull", "beat", "done"))
        d.welcome()
        d.has_credit()
        for n in range(1, 200):
            d.wire.send("ack", job=n, lease=n)
        one = d.give("hsm.report", body, job=4000, lease=7)
        d.credit = 1
        d.give("hsm.report", body, job=4000, lease=7)  # the same once more
        self.assertEqual(d.read()["job"], one)
        self.served()
        self.assertEqual([j for j in d.done if j == one], [one])
        d.wire.send("welcome", version="0.1.0", incarnation="0" * 36)  # a second one
        ends(d.wire, self, "a second welcome", ("pull", "beat", "done"))
        d.welcome()

    def test_2_silence_and_halves(self):
        """Half frames on every place of both sockets, and lines on which nothing is said."""
        watch = Watch(self.r.process)
        lines = []
        for name in ("uploader", "uploader", "admin"):
            for start in (b"", b"\0", b"\0\0\1", b"\0\0\1\0{", b"\0\1\xff\0" + b" " * 70000):
                for _ in range(6 if name == "uploader" else 2):
                    try:
                        wire = self.line(name)
                        wire.raw(start)
                        lines.append(wire)
                    except Closed:
                        pass
        # A job without its end, too.
        self.desk.has_credit()
        self.served()
        self.assertLessEqual(watch.descriptors(), watch.fds + 70)
        for wire in lines:
            wire.close()
        self.bears(watch)
        self.desk.wire.raw(struct.pack(">I", 1 << 20) + b'{"v":1,"t":"job"')
        time.sleep(0.2)
        self.assertEqual(self.ask(self.line("admin"), "hsm.status")[1]["exit"], 0)
        self.desk.welcome()
        self.served()

    def test_3_who_never_reads(self):
        """Answers don't pile up for a line that takes none: it isn't read from any more."""
        watch = Watch(self.r.process)
        frame = lies.frame(b'{"v":1,"t":"req","id":1,"verb":"%s"}' % (b"x" * 48))
        lines = [self.line("uploader", 0.5) for _ in range(4)]
        for wire in lines:
            taken = 0
            with self.assertRaises((socket.timeout, Closed)):
                for _ in range(200):
                    wire.raw(frame * 500)
                    taken += 500
            self.assertLess(taken, 20000)
        self.served()
        self.assertLess(watch.memory(), watch.rss + 20000 * SLOW)
        self.assertTrue(watch.idle(), "it spins on a line that is full")
        # Who reads again gets every answer, in order.
        wire, got = lines[0], 0
        wire.socket.settimeout(5)
        try:
            while got < 500:
                self.assertEqual(wire.read()["t"], "end")
                got += 1
        except Closed:
            pass
        self.assertGreaterEqual(got, 500)
        for wire in lines:
            wire.close()
        self.bears(watch)

    def test_4_floods(self):
        """Requests as fast as they go, on many lines, of the uploader's and of strangers' kind."""
        watch = Watch(self.r.process)
        over = threading.Event()
        errors = []

        def flood(kind):
            try:
                while not over.is_set():
                    try:
                        wire = Wire(self.path("uploader"), self.world.uploader_tape, 5)
                        if kind == 0:
                            wire.raw(os.urandom(3000))
                        elif kind == 1:
                            for n in range(1, 9):
                                wire.send("req", id=n, verb="assertion", args={"app": "main"})
                            for _ in range(8):
                                wire.read()
                        elif kind == 2:
                            for n in range(1, 33):
                                wire.send("req", id=n, verb="secret", args={"name": "nothing"})
                    except (Closed, socket.timeout, ConnectionError):
                        pass
                    finally:
                        wire.close()
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=flood, args=(n % 4,)) for n in range(8)]
        for thread in threads:
            thread.start()
        # What is served has a deadline of its own, however fast the machine is.
        stop = time.monotonic() + (10 if LONG else 1.5)
        try:
            for served in range(1, 100000):
                self.served()
                if served > 3 and time.monotonic() > stop:
                    break
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        self.bears(watch)

    def test_5_ceilings(self):
        """Exactly as many as the policy says, however many ask at once; replays count."""
        d, keyed = self.desk, {}
        while len(keyed) < CEILINGS["keys_per_hour"]:
            n = len(keyed) + 1
            answer = self.make(n if n < 4 else 3)  # from the third on: the same job again
            self.assertEqual(answer["class"], "ok", answer)
            keyed[n] = answer["body"]
        self.assertEqual({k["spki"] for n, k in keyed.items() if n >= 3}, {keyed[3]["spki"]})
        for n in (1, 50):
            answer = self.make(n)
            self.assertEqual((answer["class"], answer["error"]["code"]), ("transient", "ceiling"))
        leaf = self.r.ca.issue(unb64(keyed[1]["csr"]))
        body = json.dumps(self.r.build_body(keyed[1], leaf, self.r.ca.chain())).encode()
        asked = [d.give("hsm.build_seal", body) for _ in range(CEILINGS["builds_per_hour"] + 8)]
        while not all(j in d.done for j in asked):
            d.read()
        answers = [d.done.pop(j) for j in asked]
        built = [a["body"] for a in answers if a["class"] == "ok"]
        self.assertEqual(len(built), CEILINGS["builds_per_hour"])
        self.assertEqual({a["error"]["code"] for a in answers if a["class"] != "ok"}, {"ceiling"})
        self.assertEqual(len({b["sealed"] for b in built}), len(built))
        HsmCase.built = built
        # The uploader's two, of which the flood has taken its part already.
        for verb, args, most in (("assertion", {"app": "main"}, "assertions_per_hour"),
                                 ("secret", {"name": "digicert"}, "secrets_per_hour")):
            got = 0
            wire = self.line("uploader")
            for n in range(CEILINGS[most] + 5):
                got += self.ask(wire, verb, n + 1, **args)[1]["exit"] == 0
            self.assertLessEqual(got, CEILINGS[most])
        # All of them stand in the log: not one key was used without its entry.
        status = {i["name"]: i for i in self.ask(self.line("admin"), "hsm.status")[0]}
        self.assertNotEqual(status, {})


@unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
class Test3Strangers(HsmCase):
    """Who is who: the kernel says it."""

    USERS = {"pfx-uploader": ("daemon", "daemon"), "pfx-agentd": ("games", "games"),
             "an operator": ("nobody", "operator"), "a stranger": ("nobody", "nogroup")}

    def test_sockets_and_files(self):
        r = self.r
        asked = {"uploader": {"v": 1, "t": "req", "id": 1, "verb": "assertion",
                              "args": {"app": "nothing"}},
                 "admin": {"v": 1, "t": "req", "id": 1, "verb": "secret.status"}}
        served = {"pfx-uploader": ["uploader"], "pfx-agentd": [], "an operator": ["admin"],
                  "a stranger": []}
        secret = [r.state, r.tokens] + [os.path.join(r.dir, role + ".pin") for role in rig.ROLES
                                        if role != "encryption"]
        secret += [os.path.join(r.state, name) for name in os.listdir(r.state)]
        secret.append("/proc/%d/mem" % r.process.pid)
        for who, (user, group) in self.USERS.items():
            got = {name: knock(self.path(name), asked[name], user, group) for name in asked}
            self.assertEqual([n for n in sorted(got) if got[n]], sorted(served[who]), who)
            self.assertEqual(may_open(secret, user, group), [], who)
        # The control: who may do all of it.
        self.assertTrue(knock(self.path("admin"), asked["admin"], 0, 0))
        self.assertIn(r.state, may_open(secret, 0, 0))


class Test4Secrecy(HsmCase):
    """Everything that went before, searched."""

    def test_nothing_got_out(self):
        r, needles = self.r, Needles()
        for name, value in SofthsmKeys(r.tokens, [r.pin(role) for role in rig.ROLES]).values.items():
            needles.add(name, value)
        keys = len(needles.values)
        self.assertGreater(keys, 30)
        # The control: these are the keys, for what was packed is among them.
        for number, built in enumerate(HsmCase.built[:3 if not LONG else None]):
            password = r.open_sealed(unb64(built["sealed"]))
            self.assertEqual(len(password), 32)
            key, _, _ = pkcs12.load_key_and_certificates(unb64(built["pfx"]), password)
            d = key.private_numbers().private_value
            self.assertIn(d, [int.from_bytes(v, "big") for v in needles.values.values()])
            needles.add_password("PFX password %d" % number, password)
        for role in rig.ROLES:
            needles.values["PIN of " + role] = r.pin(role).encode()
        self.assertEqual(needles.blind(), [])
        for tape in (self.world.tape, self.world.uploader_tape):
            self.assertGreater(tape.size(), 10000)
            self.assertEqual(needles.on(tape), [])
        # The API key goes to pfx-uploader, whose it is, and never to pfx-agentd.
        api_key = Needles()
        api_key.add("API key", API_KEY.encode())
        self.assertEqual(api_key.on(self.world.uploader_tape), ["API key"])
        self.assertEqual(api_key.on(self.world.tape), [])
        with open(r.log, "rb") as stream:
            self.assertEqual(needles.found(stream.read()), [])
        print("%d key values and %d passwords looked for in %d KiB: none found"
              % (keys, 3, (self.world.tape.size() + self.world.uploader_tape.size()) // 1024))


if __name__ == "__main__":
    if TABLES is None:
        print("skipped: PFX_WIRE_TABLES isn't there")
        sys.exit(77)
    rig.main()
