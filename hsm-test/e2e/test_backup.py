"""A backup, the loss of the host, and a new one with the same tokens: goes on, and buys nothing twice."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import unittest

import harness
import people
from case import LONG, WorldCase
from world_conf import private_file

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "unit"))

from cli_log_rig import check_receipt  # noqa: E402  (found by the line above)

GUIDE = os.path.join(HERE, os.pardir, os.pardir, "deploy", "guide", "backup.md")
LOST = ("state", "hsm-state", "conf", "run", "hsm-run")


class Backup(WorldCase):
    """Blobs of wrapped keys are in the backup; PINs, PFX files and passwords aren't."""

    keys = "wrapped"

    def world(self):
        world = self.make([people.user(1), people.user(2)], policy={"users": {"keys": self.keys}})
        roots = world.conf_path("roots.pem")  # one file for two uses: it is in the backup once
        world.changes["policy"]["users"]["ca_roots"] = roots
        world.changes["uploader"]["cmp"] = {"ca_cert": roots}
        # A PIN in the state folder, which no backup may have.
        world.changes["policy"]["tokens"] = {"users": {"pin_file": world.path("hsm-state", "users-pin")}}
        world.make_tokens()
        self.put_pin(world)
        world.start_sim()
        shutil.copyfile(world.path("sim", "smime-root.pem"), roots)
        world.write_conf()
        world.start_all()
        world.init()
        self.assertExit(world.set_api_key(), 0)
        return world

    @staticmethod
    def put_pin(world):
        private_file(world.path("hsm-state", "users-pin"), world.pin("users") + "\n")

    def test_loss_of_the_host(self):
        world = self.world()
        with self.telling(world):
            file = self.backed_up(world)
            keys = self.looked_at(world, file)
            # What the backup doesn't know: two orders for requests in it, and one of another user,
            # whose key was lost before anything came to Intune.
            self.assertExit(world.cli("resume", "--orders"), 0)
            self.until_active(world, [people.upn(1), people.upn(2)])
            self.assertExit(world.cli("pause", "--uploads"), 0)
            world.control("/graph/member", {"group": people.GROUP, "add": people.user(3)})
            world.run_once("5s")
            harness.wait_for("a PFX", lambda: world.states().get(people.upn(3)) == ["SEALED"])
            self.assertEqual(len(world.orders()), 3)
            self.lost(world)
            self.restored(world, file, keys)
            self.goes_on(world)

    def backed_up(self, world):
        self.assertExit(world.cli("pause", "--orders"), 0)
        world.run_once("2s")
        harness.wait_for("requests", lambda: all(
            s == ["KEYED"] for s in world.states().values()) and len(world.states()) == 2)
        file = world.path("backup.tar")
        made = world.cli("backup", "create", file, "--config", world.conf_path("agent.yaml"))
        self.assertExit(made, 0, "files, ", "entries of the log", "doesn't lie in",
                        "hsm/users-pin isn't in the backup")
        self.assertEqual(os.stat(file).st_mode & 0o777, 0o600)
        self.assertFalse(os.path.exists(world.path("state", "copy.db")))
        self.assertExit(world.cli("backup", "create", file, "--config",
                                  world.conf_path("agent.yaml")), 4, "EEXIST")
        return file

    def looked_at(self, world, file):
        """By ours, by the guide's commands, and by Python; and what isn't in it."""
        self.assertExit(world.cli("backup", "verify", file), 0, "known here", "test-host/pfx-agent")
        keys = world.path("vkey")
        folder = world.path("hsm-state", "log", "keys")
        lines = []
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding="ascii") as stream:
                lines.append(stream.read().strip())
        with open(keys, "w", encoding="ascii") as stream:
            stream.write("\n".join(lines) + "\n")
        opened = world.path("opened")
        with tarfile.open(file) as archive:
            archive.extractall(opened)
        with open(opened + "/receipt.tlog-proof", "rb") as receipt, \
                open(opened + "/entry.json", "rb") as entry:
            index, _ = check_receipt(receipt.read(), lines, entry.read())
        with open(opened + "/entry.json", encoding="utf-8") as stream:
            entry = json.load(stream)
        self.assertEqual((entry["event"], entry["seq"]), ("backup.create", index))
        self.by_the_guide(opened, keys)
        text = b""
        for top, _, names in os.walk(opened):
            self.assertNotIn("pin-guard", top)
            for name in names:
                with open(os.path.join(top, name), "rb") as stream:
                    text += stream.read()
        self.assertNotIn(world.api_key.encode(), text)
        for role in ("encryption", "users", "service", "log"):
            self.assertNotIn(world.pin(role).encode() + b"\n", text)
        self.assertIn(b"user001@", text)
        damaged = world.path("damaged.tar")
        with open(file, "rb") as stream:
            data = bytearray(stream.read())
        data[len(data) // 2] ^= 1
        with open(damaged, "wb") as stream:
            stream.write(data)
        self.assertExit(world.cli("backup", "verify", damaged), 6)
        return keys

    def by_the_guide(self, opened, keys):
        with open(GUIDE, encoding="utf-8") as stream:
            script = re.search(r"```sh\n(# check.*?)```", stream.read(), re.S).group(1)
        done = subprocess.run(["bash", "-eu", "-c", script, "check", keys], cwd=opened, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(b"Verified OK", done.stdout)
        self.assertIn(b"the proof holds", done.stdout)
        with open(opened + "/manifest", "ab") as stream:
            stream.write(b"# more\n")
        done = subprocess.run(["bash", "-eu", "-c", script, "check", keys], cwd=opened, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        self.assertNotEqual(done.returncode, 0, done.stdout)

    def lost(self, world):
        for name in ("uploader", "hsm", "agentd"):
            world.stop(name)
        for name in LOST:
            shutil.rmtree(world.path(name))
        for name in ("run", "hsm-run"):
            os.mkdir(world.path(name), 0o700)

    def restored(self, world, file, keys):
        self.assertExit(world.cli("restore", file, "--yes"), 4, "--vkey")
        self.assertFalse(os.path.exists(world.path("state")))
        self.assertExit(world.cli("restore", file, "--yes", "--vkey", keys), 0, "log reopen")
        for name in ("agent.yaml", "uploader.yaml", "hsm-policy.yaml", "roots.pem"):
            self.assertTrue(os.path.exists(world.conf_path(name)), name)
        self.assertFalse(os.path.exists(world.path("hsm-state", "users-pin")))
        self.put_pin(world)
        world.start_hsm()
        self.assertExit(world.cli("restore", file, "--yes", "--vkey", keys), 4, "stop them first")
        harness.wait_for("a refused log", lambda: "refused" in world.cli("log", "status").out)
        self.assertNotEqual(world.cli("key", "export-public", "client-main").code, 0)
        self.assertExit(world.cli("log", "reopen", "--yes"), 0, "test-host/pfx-agent/2")
        first = json.loads(world.cli("log", "tail", "-n", "100", "--json").out.splitlines()[0])
        self.assertEqual(first["event"], "log.reopen")
        self.assertLess(first["log"]["restored"], first["log"]["anchor"])

    def goes_on(self, world):
        world.start_agentd()
        world.start_uploader()
        self.assertExit(world.cli("resume", "--orders"), 0)
        self.until_active(world, [people.upn(1), people.upn(2)])
        self.assertEqual(len(world.orders()), 3)
        if self.keys == "token":  # the key is found in the token again, and with it the order
            self.until_active(world, [people.upn(3)])
        else:
            self.key_is_lost(world)
        self.nothing_twice(world)

    def key_is_lost(self, world):
        held = world.enrolments()[-1]
        self.assertEqual((held["upn"], held["state"]), (people.upn(3), "HELD"), held)
        theirs = max(o["id"] for o in world.orders())
        self.assertIn("order %d was placed for these addresses" % theirs, held["why"])
        self.assertExit(world.cli("enrolment", "release", str(held["enrolment"])), 0)
        self.until_active(world, [people.upn(3)])
        self.assertEqual(len(world.orders()), 4)

    def nothing_twice(self, world):
        self.assertEqual(len(world.orders()), 3 + (self.keys == "wrapped"))
        self.assertNothingTwice(world)
        self.assertExit(world.cli("status", "--all"), 0, "restored")
        harness.wait_for("the note", lambda: "backup.restored" in world.cli(
            "log", "tail", "-n", "200").out)
        self.assertExit(world.cli("log", "export", world.path("export")), 0)
        audit = world.run(harness.program("pfx-audit"), "verify", world.path("export"), *[
            w for k in os.listdir(world.path("export", "keys")) if k.endswith(".vkey")
            for w in ("--key", world.path("export", "keys", k))])
        self.assertIn(audit.code, (0, 1), repr(audit))
        self.assertNotIn("unknown event", audit.out)


if LONG:
    class BackupOfTokenKeys(Backup):
        """The same for keys that are token objects."""

        keys = "token"


if __name__ == "__main__":
    unittest.main()
