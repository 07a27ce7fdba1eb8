"""A log with something of everything in it, and pfx-audit run on its export."""

import json
import os
import shutil
import subprocess
import tempfile
import unicodedata
import unittest

from audit_log import Log, User

PROGRAM = os.environ["PFX_AUDIT"]
UNVERIFIED = "not verified by this command"

# Each of these must come out escaped, wherever it stands.
HOSTILE = "\x1b[2J\u202egnp.exe\u2066\u200b\x7f\x9b31m"
FORMULA = "=HYPERLINK(\"http://x\",\"y\")"


class Audit(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pfx-audit-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def put(self, name, data):
        with open(self.path(name), "wb") as stream:
            stream.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def run_it(self, *args, code=0):
        done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60)
        out = done.stdout.decode("utf-8")  # whatever the log holds, the output is UTF-8
        err = done.stderr.decode("utf-8")
        self.assertEqual(code, done.returncode, (args, out[-500:], err[-500:]))
        return out, err

    def json(self, *args, code=0):
        out, _ = self.run_it(*args, "--json", code=code)
        items = [json.loads(line) for line in out.splitlines()]
        for item in items:
            self.assertRegex(item["schema"], r"^pfx-audit/[a-z]+/1$")
        return items

    def of(self, items, name):
        return [item for item in items if item["schema"] == "pfx-audit/%s/1" % name]


class World:
    """Two enrolments of alice, one of bob, operators, refusals, a crash."""

    def __init__(self):
        log = self.log = Log()
        self.alice = User(1, "alice@example.com")
        self.bob = User(2, "b\u00f6b@example.com")
        self.eve = User(3, FORMULA + HOSTILE)
        log.users = [self.alice, self.bob, self.eve]
        self.keys = {n: "%02x" % n * 20 for n in range(1, 9)}
        operator = {"pid": 41, "role": "operator", "uid": 1000}
        root = {"pid": 42, "role": "operator", "uid": 0}
        # A person with the uid that pfx-agentd has, too: another one, by the role.
        same_uid = {"pid": 43, "role": "operator", "uid": 990}

        log.note("start", software={"exe": "ab" * 32, "version": "0.1.0"})
        log.note("token.login", target={"name": "users"}, rv="CKR_OK")
        log.note("token.login", "refused", target={"name": "service"}, rv="CKR_PIN_INCORRECT")
        log.pair("probe", actor=root, intent={"target": {"name": "users"}})
        log.pair("ceremony.pin", actor=root,
                 intent={"pin": {"generation": 2, "spki": "ee" * 32, "state": "active"}})
        log.note("command", src="agentd", actor=operator, target={"name": "run"}, n=1)

        # Enrolment 12: the first attempt fails in the token, the second goes through.
        self.failed = log.pair("key.make", "device", intent=self.key(1, self.alice, 12, 1),
                               result={"fail": {"code": "CKR_DEVICE_ERROR",
                                                "op": "C_GenerateKeyPair"}})
        self.made = log.pair("key.make", intent=self.key(2, self.alice, 12, 2),
                             result=self.made_key(2), took=250)
        self.order = log.note("order.placed", src="agentd", n=2, key={"id": self.keys[2]},
                              target=self.target(self.alice, 12, 2, order=542772))
        self.received = log.note("certificate.received", src="agentd", n=3,
                                 cert={"sha256": "c1" * 32},
                                 target=self.target(self.alice, 12, 2, order=542772))
        self.built = log.pair("pfx.build", intent=self.build(2, self.alice, 12, 2),
                              result=self.sealed("direct", 2, "d1" * 32))
        self.upload = log.note("upload.confirmed", src="agentd", n=4, out={"sha256": "d1" * 32},
                               seal={"generation": 2},
                               target=self.target(self.alice, 12, 2, name="record-1",
                                                  thumbprint="7a" * 20))
        # Bob's: transit, its first release withheld.
        log.pair("key.make", intent=self.key(3, self.bob, 13, 1), result=self.made_key(3))
        log.note("order.placed", src="agentd", n=5, key={"id": self.keys[3]},
                 target=self.target(self.bob, 13, 1, order=542773))
        withheld = log.pair("pfx.build", intent=self.build(3, self.bob, 13, 1),
                            result=self.sealed("transit", 2, "d2" * 32))
        self.withheld = log.note("release.withheld", ref=withheld[1])
        # A day later: alice's renewal by CMP; pfx-hsm dies while it builds.
        log.add("command", "note", "refused", src="agentd", actor=same_uid, after=86_400_000,
                target={"name": "enrolment.revoke"}, n=6, fail={"code": "EPERM", "op": "command"})
        log.pair("key.make", intent=self.key(4, self.alice, 14, 1), result=self.made_key(4))
        log.note("order.placed", src="agentd", n=7, key={"id": self.keys[4]},
                 target=self.target(self.alice, 14, 1, transaction="5EC0FFEE-0001"))
        op = log.op()
        self.dangling = log.add("pfx.build", "intent", "pending", op=op,
                                **self.build(4, self.alice, 14, 1))
        log.note("start", software={"exe": "ab" * 32, "version": "0.1.0"})
        self.unknown = log.add("pfx.build", "result", "unknown", op=op, ref=self.dangling)
        # Beside enrolments, hostile text, and an event of a newer version.
        log.pair("secret.open", actor={"role": "uploader", "uid": 991},
                 intent={"target": {"name": HOSTILE}})
        log.note("request.refused", "refused", target={"name": FORMULA},
                 fail={"code": "rate", "op": "key.csr"})
        made = log.pair("key.make", intent=self.key(5, self.eve, 15, 1), result=self.made_key(5))
        log.note("release.withheld", ref=made[1])
        log.note("request.refused", "refused", target={"name": 'say "hi"'})
        log.note("policy.changed", policy={"sha256": "aa" * 32}, weak=True)
        log.note("future.event", future={"member": [1, {"a": "b"}]}, target={"name": "-1"})
        # What has an intent at hand no more is found by reading it again.
        self.late = log.add("key.make", "intent", "pending", op=log.op(),
                            **self.key(6, self.bob, 16, 1))
        for _ in range(1100):
            log.pair("assertion.sign", intent={"key": {"id": self.keys[7]},
                                               "target": {"name": "main"}})
        self.late_result = log.add("key.make", "result", "ok", op=log.op(), ref=self.late,
                                   **self.made_key(6))
        self.tail = len(log.entries)
        log.note("stop")

    def target(self, user, enrolment, attempt, **more):
        return dict({"attempt": attempt, "enrolment": enrolment, "user": user.hash}, **more)

    def key(self, number, user, enrolment, attempt):
        return {"key": {"alg": "rsa-2048", "id": self.keys[number]},
                "target": self.target(user, enrolment, attempt)}

    def made_key(self, number):
        return {"key": {"spki": "%02x" % (0x50 + number) * 32}, "out": {"sha256": "a1" * 32},
                "ticket": "b1" * 32}

    def build(self, number, user, enrolment, attempt):
        return {"cert": {"sha256": "c1" * 32},
                "key": {"id": self.keys[number], "spki": "%02x" % (0x50 + number) * 32},
                "target": self.target(user, enrolment, attempt), "ticket": "b1" * 32}

    def sealed(self, tier, generation, out):
        return {"out": {"sha256": out}, "tier": tier,
                "seal": {"by": "openssl", "generation": generation, "hash": "sha256",
                         "sha256": "f1" * 32, "spki": "ee" * 32}}

    def entries(self):
        """As dictionaries, results with what their intents say about whom and what."""
        read = [json.loads(entry) for entry in self.log.entries]
        for entry in read:
            at = entry
            while "ref" in at:
                at = read[at["ref"]]
                for group in ("key", "target"):
                    for name, value in at.get(group, {}).items():
                        entry.setdefault(group, {}).setdefault(name, value)
        return read


class Reading(Audit):
    """One export for all tests that only read it."""

    @classmethod
    def setUpClass(cls):
        cls.world = World()

    def setUp(self):
        super().setUp()
        self.export = self.path("export")
        self.world.log.export(self.export, size=self.world.tail)


def shown(text):
    """As tables and CSV show a string: an independent statement of what is harmful."""
    out = ""
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp"):
            out += "".join("\\u%04x" % unit for unit in utf16(char))
        else:
            out += char
    return out


def utf16(char):
    data = char.encode("utf-16-be")
    return [data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)]

