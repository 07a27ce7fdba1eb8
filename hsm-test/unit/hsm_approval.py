"""Approvals: pfx-hsm does a dangerous command only with the signatures of two people over exactly
that. The signatures are made by the real ssh-keygen, and are verified by it, too."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import unittest

import hsm_rig as rig
from hsm_log_rig import LogCase
from hsm_rig import Rig
from ssh_oracle import SecurityKey

PEOPLE = ("ann", "bob", "cid", "dan")


class Person:
    """A key of somebody. kind: of ssh-keygen, or of a security key."""

    def __init__(self, folder, name, kind="ed25519", number=1):
        self.name, self.path = name, os.path.join(folder, f"{name}-{number}")
        self.token = SecurityKey(kind) if kind.startswith("sk-") else None
        if self.token:
            self.public = self.token.line()
            return
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", self.path],
                       check=True, timeout=60)
        with open(self.path + ".pub", encoding="ascii") as f:
            self.public = f.read().strip()

    def sign(self, text, namespace="pfx-agent", flags=1):
        if self.token:
            return self.token.sign(text.encode(), flags, namespace)
        done = subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", self.path, "-n", namespace],
                              input=text.encode(), capture_output=True, check=True, timeout=60)
        return done.stdout.decode()


def canonical(members):
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


class Approvals(LogCase):
    @classmethod
    def setUpClass(cls):
        cls.rig = r = Rig()
        cls.keys = {name: Person(r.dir, name) for name in PEOPLE}
        cls.second = Person(r.dir, "bob", "ecdsa", 2)
        cls.touch = Person(r.dir, "cid", "sk-ed25519", 3)
        cls.late = Person(r.dir, "dan", "ed25519", 4)
        cls.stranger = Person(r.dir, "eve")
        cls.roster = os.path.join(r.dir, "approvers")
        cls.write_roster()
        r.write_policy(approvals=cls.section())
        r.start()
        r.init()

    @classmethod
    def tearDownClass(cls):
        cls.rig.close()

    @classmethod
    def section(cls, valid="1h", mode="ssh"):
        if mode == "uid":
            return ["mode: uid", f"valid: {valid}"]
        return ["mode: ssh", f"roster: {cls.roster}", f"valid: {valid}", "uids:",
                f"  - uid: {os.geteuid()}", "    principal: ann"]

    @classmethod
    def write_roster(cls, *without):
        lines = [f"{name} {key.public}" for name, key in cls.keys.items() if name not in without]
        lines += [f"bob {cls.second.public}", f"cid {cls.touch.public}",
                  f"dan valid-before=\"20260101Z\" {cls.late.public}"]
        with open(cls.roster, "w", encoding="ascii") as f:
            f.write("# who may approve\n" + "\n".join(lines) + "\n")
        os.chmod(cls.roster, 0o644)

    def copied(self):
        """A log that may not be gone on with: log.reopen is what it takes."""
        self.rig.stop()
        with open(os.path.join(self.rig.state, "log", "copy"), "w", encoding="ascii") as f:
            f.write("\n")
        self.rig.start()

    def ask(self, *words):
        _, end = self.rig.admin("log.reopen")
        self.assertEqual((end["exit"], end["error"]["code"]), (4, "approval"), end)
        for word in words:
            self.assertIn(word, end["error"]["text"])
        return end["error"]["object"]

    def shown(self, question):
        items, end = self.rig.admin("approval.show", id=question)
        self.assertEqual(end["exit"], 0, end)
        return items[0]

    def give(self, question, text):
        return self.rig.admin("approval.give", id=question, signature=text)[1]

    def given(self, question, person, statement=None):
        end = self.give(question, person.sign(statement or self.shown(question)["statement"]))
        self.assertEqual(end["exit"], 0, end)

    def refused(self, end, code):
        self.assertEqual((end["exit"], end["error"]["code"]), (4, code), end)

    def test_reopen(self):
        self.copied()
        question = self.ask("0 of 2", "bob, cid, dan")
        self.assertEqual(self.ask("0 of 2"), question)  # the same one
        item = self.shown(question)
        statement = json.loads(item["statement"])
        self.assertEqual(canonical(statement), item["statement"])
        self.assertEqual(statement["args_hash"], hashlib.sha256(item["args"].encode()).hexdigest())
        self.assertEqual((statement["command"], statement["origin"]),
                         ("log.reopen", "test-host/pfx-agent"))
        self.assertEqual(json.loads(item["args"])["new_log"], "test-host/pfx-agent/2")
        self.assertTrue(question == statement["nonce"][:8] and len(statement["nonce"]) == 64)
        self.assertEqual(item["asker"], "ann")


if __name__ == "__main__":
    if not shutil.which("ssh-keygen"):
        print("skipped: ssh-keygen isn't installed")
        sys.exit(77)
    rig.main()
