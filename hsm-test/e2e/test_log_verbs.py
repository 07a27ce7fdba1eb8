"""pfx-agent log against a running pfx-hsm: what it shows, a new log key, a successor."""

import json
import os
import shutil
import sys
import time

import harness
import people
from case import WorldCase

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "unit"))
from cli_log_rig import Export, check_receipt  # noqa: E402  (found by the line above)


class Verbs(WorldCase):
    def lines(self, world, folder):
        """The key lines of an export, as files."""
        found = {}
        for name in os.listdir(world.path(folder, "keys")):
            if name.endswith(".vkey"):
                with open(world.path(folder, "keys", name), encoding="ascii") as stream:
                    found[name[:8]] = stream.read().strip()
        return found

    def facts(self, world):
        told = json.loads(world.cli("log", "status", "--json").out)
        self.assertEqual(told["from"], "pfx-hsm", told)
        return {i["name"]: i for i in told["items"]}

    def test_key_and_successor(self):
        member = people.user(1)
        world = self.ready([member])
        with self.telling(world):
            self.assertExit(world.run_once("60s"), 0)
            self.assertActive(world, [member["userPrincipalName"]])
            facts = self.facts(world)
            self.assertEqual(facts["state"]["value"], "open")
            self.assertExit(world.cli("log", "status"), 0, "anchor", "reserve", "uncovered")
            self.assertExit(world.cli("log", "tail", "-n", "1000"), 0, "log.begin", "pfx.build",
                            "upload.confirmed")
            entries = [json.loads(line) for line
                       in world.cli("log", "tail", "--json", "-n", "1000").out.splitlines()]
            self.assertEqual([e["seq"] for e in entries], list(range(len(entries))))
            shutil.copytree(world.path("hsm-state", "log"), world.path("copy"))
            self.key_changes(world, facts["origin"]["value"])
            self.successor(world, facts["origin"]["value"])

    def key_changes(self, world, origin):
        self.assertExit(world.cli("log", "export", world.path("one")), 0)
        before = self.lines(world, "one")
        Export(world.path("one"), list(before.values()))
        self.assertExit(world.cli("log", "rotate-key"), 2, "--yes")
        changed = world.cli("log", "rotate-key", "--yes")
        self.assertExit(changed, 0, origin + "+")
        self.assertExit(world.cli("log", "export", world.path("one")), 0)
        after = self.lines(world, "one")
        fresh = {k: v for k, v in after.items() if k not in before}
        self.assertTrue(fresh)
        for line in fresh.values():
            self.assertIn(line, changed.out)
        with open(world.path("one", "checkpoint"), "rb") as stream:
            self.assertIn(origin, stream.read().decode("utf-8"))
        self.assertExit(world.cli("log", "tail"), 0, "log.rotate-key")
        entry = next(e for e in world.cli("log", "tail", "--json").out.splitlines()
                     if json.loads(e)["event"] == "log.rotate-key")
        receipt = world.cli("log", "receipt", str(json.loads(entry)["seq"]))
        self.assertExit(receipt, 0)
        signed = [line for line in after.values() if line in changed.out]
        check_receipt(receipt.out.encode("utf-8"), signed, entry.encode("utf-8"))
        verify = world.run(harness.program("pfx-audit"), "verify", world.path("one"), *[
            w for k in before for w in ("--key", world.path("one", "keys", k + ".vkey"))])
        self.assertIn(verify.code, (0, 1), repr(verify))  # the old key leads to the new one

    def roll_back(self, world):
        """An older copy of the log's folder in place of the log."""
        world.stop("hsm")
        shutil.rmtree(world.path("hsm-state", "log"))
        shutil.copytree(world.path("copy"), world.path("hsm-state", "log"))
        world.start_hsm()

    def successor(self, world, origin):
        self.assertExit(world.cli("log", "reopen", "--yes"), 2, "no reason")
        self.roll_back(world)
        end = time.monotonic() + 60
        status = world.cli("log", "status")
        while "still starting" in status.out and time.monotonic() < end:
            time.sleep(0.2)
            status = world.cli("log", "status")
        self.assertExit(status, 1, "refused", "anchor")
        result = world.cli("log", "export", world.path("one"))
        self.assertExit(result, 6, "cut or put back")
        self.assertExit(world.cli("log", "reopen"), 2, "--yes", "weak approval")
        self.assertExit(world.cli("log", "reopen", "--yes"), 0, origin + "/")
        facts = self.facts(world)
        self.assertEqual((facts["state"]["value"], facts["origin"]["value"]), ("open", origin + "/2"))
        self.assertExit(world.cli("log", "tail"), 0, "log.reopen", "weak")
        self.assertExit(world.cli("log", "export", world.path("one")), 4, "another log", origin)
        self.assertExit(world.cli("log", "export", world.path("two")), 0)
        both = world.run(harness.program("pfx-audit"), "verify", world.path("one"),
                         world.path("two"), *[
            w for folder in ("one", "two") for k in self.lines(world, folder)
            for w in ("--key", world.path(folder, "keys", k + ".vkey"))])
        self.assertIn(both.code, (0, 1), repr(both))
        self.assertIn("weak", both.out)
