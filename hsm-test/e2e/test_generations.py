"""A rotation of the encryption key as an operator types it, with real processes: staged, shown to a
connector, activated, rebuilt, and the old one retired and destroyed."""

import json
import os
import re
import shlex
import subprocess
import unittest

import harness
import oracle
import people
from approvers import ApprovedCase
from harness import wait_for
from world_conf import KEY_NAME

NEXT = KEY_NAME + "-2"
GUIDE = os.path.join(harness.ROOT, "deploy", "guide", "rotation.md")


def block(first):
    """The commands of the guide's block that begins with this one."""
    with open(GUIDE, encoding="utf-8") as stream:
        blocks = re.findall(r"^```sh\n(.*?)^```$", stream.read(), re.S | re.M)
    lines = next(text for text in blocks if text.startswith(first)).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines]


class Generations(ApprovedCase):
    def status(self, world):
        shown = world.cli("key", "status", "--json")
        self.assertExit(shown, 0)
        return {r["generation"]: r for r in shown.lines()
                if r["schema"] == "pfx-agent/key-status/1"}

    def guided(self, world, *words, **how):
        """The next command of the guide, with what a test has to add to it."""
        command = next(self.guide)
        self.assertEqual([w if c != "ANSWER" else c for w, c in zip(words, command)], command)
        return world.cli(*words, **how)

    def approve_as_told(self, world, refused):
        """One signs here; the other by the lines that `approve` prints, as they stand there."""
        question = re.search(r"pfx-agent approve (\w+)", refused.err).group(1)
        self.assertExit(world.cli("approve"), 0, question, "key.destroy")
        self.assertExit(world.cli("approve", question, "--key", self.keys[1], "--yes"), 0, "1 of 2")
        shown = world.cli("approve", question)
        self.assertExit(shown, 0, "public_key_sha256", NEXT[:-2])
        _, sign, give = [line.strip() for line in shown.err.splitlines() if line.startswith("  ")]
        subprocess.run(["bash", "-c", sign.replace("~/.ssh/id_ed25519", self.keys[2])], check=True,
                       cwd=world.path("home"), stderr=subprocess.DEVNULL, timeout=60)
        signature = world.path("home", "approval.sig")
        self.assertExit(world.cli(*shlex.split(give)[1:-1], signature), 0, "2 of 2")

    def confirm(self, world, judge):
        """The guide on a connector host, simulated: OpenSSL opens the probe by the token's key."""
        self.assertExit(self.guided(world, "connector", "probe", "connector1", "--out",
                                    world.path("out")), 0, "wrote")
        with open(world.path("out", "probe-connector1-2.ps1"), encoding="ascii") as stream:
            guide = stream.read()
        sealed = re.search(r"^\$probe = '([^']+)'$", guide, re.M).group(1)
        answer = judge.open_password({"encryptedPfxPassword": sealed, "keyName": NEXT,
                                      "paddingScheme": "oaepSha512"})
        self.assertExit(world.cli("connector", "confirm", "connector1", "0" * 40), 4, "isn't the answer")
        self.assertExit(self.guided(world, "connector", "confirm", "connector1", answer.decode()), 0)

    def test_rotation(self):
        world = self.make([people.user(1), people.user(2)],
                          policy={"encryption_key": {"type": "rsa-2048", "rotate_every": "365d"},
                                  "connectors": [{"name": "connector1"}]})
        with self.telling(world):
            self.approvers(world)
            world.ready()
            self.assertExit(world.run_once("60s"), 0)
            judge = oracle.Oracle(world)
            pin = world.pin("encryption")
            self.guide = iter(block("pfx-agent key rotate"))
            made = self.guided(world, "key", "rotate", "--out", world.path("out"), secret=pin,
                               seconds=120)
            self.assertExit(made, 0, "is staged", "encryption-key-2.pem")
            shown = world.cli("key", "status")
            self.assertExit(shown, 0, "staged", "connector1 hasn't confirmed", NEXT)
            refused = world.cli("key", "activate", "2")
            self.assertExit(refused, 4, "hasn't confirmed")
            self.assertEqual(refused.err.count("hasn't confirmed"), 1)  # said once
            for verb, says in ((("rotate",), "staged already"), (("destroy", "1"), "is active")):
                self.assertExit(world.cli("key", *verb), 4, says)  # before a PIN is asked for
            odd = world.cli("key", "rotate", "--adopt", "0g", "--out", world.path("out"), secret=pin)
            self.assertExit(odd, 2, "hex digits")
            self.assertNotIn("logged in", odd.out)
            self.confirm(world, judge)
            self.assertExit(self.guided(world, "key", "activate", "2"), 0, "the way back")
            self.assertExit(world.cli("key", "retire", "1"), 4)  # before anybody is asked
            self.assertExit(world.cli("key", "destroy", "one", "--yes"), 2, "generation's number")
            self.assertExit(self.guided(world, "key", "rebuild", "--wait", "60s", seconds=120), 0)
            self.assertExit(world.cli("key", "retire", "1", "--yes"), 4, "--once --dry-run")
            self.assertExit(self.guided(world, "run", "--once", "--dry-run"), 0)
            for record_id, record in world.sealed().items():
                self.assertEqual(record["keyName"], NEXT)
                judge.prove(record_id, record, ("openssl",))
            self.assertExit(self.guided(world, "key", "status"), 0, "pfx-agent key retire 1")
            states = self.status(world)
            self.assertEqual((states[1]["state"], states[1]["records"]), ("suspended", 0))
            self.assertEqual((states[2]["state"], states[2]["records"]), ("active", 2))
            self.assertIn(states[2]["due_days"], (364, 365))
            self.assertExit(self.guided(world, "key", "retire", "1", "--yes"), 0)
            refused = self.guided(world, "key", "destroy", "1", "--yes", secret=pin)
            self.assertExit(refused, 4, "pfx-agent approve")
            self.assertIsNone(next(self.guide, None))
            self.approve_as_told(world, refused)
            self.assertExit(world.cli("key", "destroy", "1", "--yes", secret=pin), 0,
                            "not found any more in the token")
            self.assertEqual(self.status(world)[1]["state"], "destroyed")

    def log_of(self, world):
        return [json.loads(line) for line in
                world.cli("log", "tail", "--json", "-n", "1000").out.splitlines()]

    def test_schedule(self):
        """Twenty days are fewer than the thirty in which it is warned and staged: due at once. The PIN
        isn't looked for before that is known, and nothing is activated."""
        world = self.make([people.user(1)], policy={"encryption_key": {"type": "rsa-2048"}})
        with self.telling(world):
            world.ready()
            rotate = ("key", "rotate", "--if-due", "--out", world.path("out"))
            nowhere = ("--pin-file", world.path("no-such-file"))
            self.assertExit(world.cli(*rotate, *nowhere), 0, "There is no schedule")
            self.assertExit(world.cli("key", "status"), 0)
            self.policy(world, "20d")
            self.assertExit(world.cli("key", "status"), 1, "no other one is staged")
            self.assertIn("rotation", world.cli("status").out)
            self.journal(world, "no other one is staged: pfx-agent key rotate stages it")
            self.assertExit(world.cli(*rotate, *nowhere), 2, "no-such-file")
            path = world.path("encryption.pin")
            with open(path, "w", encoding="ascii") as stream:
                stream.write(world.pin("encryption") + "\n")
            os.chmod(path, 0o644)
            self.assertExit(world.cli(*rotate, "--pin-file", path), 2, "everybody may read")
            self.assertExit(world.cli(*rotate, "--adopt", "aa"), 2, "adopted by people")
            os.chmod(path, 0o400)
            self.assertExit(world.cli(*rotate, "--pin-file", path, seconds=120), 0, "is staged",
                            "encryption-key-2.pem")
            entry = [e for e in self.log_of(world) if e["event"] == "key.rotate"][-1]
            self.assertEqual((entry["reason"], entry["pin"]["state"], entry["outcome"]),
                             ("schedule", "staged", "ok"))
            shown = world.cli("key", "status")
            self.assertExit(shown, 1, "by uid %d, as the schedule asked for" % os.geteuid(),
                            "key activate 2")
            states = {r["generation"]: r for r in world.cli("key", "status", "--json").lines()
                      if r["schema"] == "pfx-agent/key-status/1"}
            self.assertEqual((states[1]["state"], states[2]["state"], states[2]["staged_by"]),
                             ("active", "staged", os.geteuid()))
            self.assertExit(world.cli(*rotate, *nowhere), 0, "generation 2 is staged")
            self.journal(world, "generation 2 is staged: an operator activates it")
            self.assertExit(world.cli("key", "activate", "2"), 0)
            self.policy(world, "12mo")
            self.assertExit(world.cli(*rotate, *nowhere), 0, "the next one to be staged from")
            self.assertExit(world.cli("key", "status"), 0, "Generation 2 is to be replaced by")

    def policy(self, world, every):
        """Another schedule, which pfx-hsm reads at its start."""
        world.changes["policy"]["encryption_key"]["rotate_every"] = every
        world.write_conf()
        world.stop("hsm")
        world.start_hsm()
        wait_for("pfx-hsm with its tokens", lambda: world.cli("key", "status").code in (0, 1), 30)

    @staticmethod
    def journal(world, words):
        wait_for(words, lambda: words in world.log("hsm"), 10)


if __name__ == "__main__":
    unittest.main()
