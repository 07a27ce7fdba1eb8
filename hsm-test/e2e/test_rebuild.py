"""A rotation of the encryption key with everything real but the services: every record rebuilt for the
new generation while new users enrol and each process is killed now and then; then nothing but the new
key opens what Intune was given."""

import sqlite3
import threading
import time
import unittest

import harness
import invariants
import many
import opening
import people
from approvers import ApprovedCase
from case import LONG, only_on
from oracle import Oracle
from world_conf import KEY_NAME

USERS = 2000 if LONG else 200
MORE = 8
FACTOR = 10
KILLS = 30 if LONG else 6
LIMIT_SECONDS = 900 if LONG else 120


class Killer(threading.Thread):
    """Kills one process after the other and starts it again, until it is told to end."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.kills, self.ends = world, 0, threading.Event()
        self.failed = None
        self.start()

    def run(self):
        starts = {"hsm": self.world.start_hsm, "uploader": self.world.start_uploader,
                  "agentd": self.world.start_agentd}
        try:
            while self.kills < KILLS and not self.ends.wait(0.4 + 0.17 * (self.kills % 5)):
                name = ("hsm", "uploader", "agentd")[self.kills % 3]
                self.world.kill(name)
                starts[name]()
                self.kills += 1
        except AssertionError as error:
            self.failed = error

    def stop(self):
        self.ends.set()
        self.join(60)
        if self.failed:
            raise self.failed


class RebuildCase(ApprovedCase):
    def world_with(self, count):
        settings = many.settings(count + MORE, FACTOR)
        members = [people.user(n) for n in range(1, count + 1)]
        settings["tenant"] = people.tenant(members)
        settings["policy"]["encryption_key"] = {"type": "rsa-2048"}
        world = self.make(**settings)
        with self.telling(world):
            world.ready()
            self.assertExit(world.run_once("120s", seconds=LIMIT_SECONDS), 0)
            self.assertEqual(len(world.records()), count)
        return world

    def rotate(self, world):
        self.assertExit(world.cli("key", "rotate", "--out", world.path("out"),
                                  secret=world.pin("encryption"), seconds=120), 0)
        self.assertExit(world.cli("key", "activate", "2"), 0)

    def release_lost(self, world, rows):
        """What a person does with an order on whose way to the CA the uploader died."""
        bought = {mail for order in world.orders() for mail in order["body"]["certificate"]["emails"]}
        for row in rows:
            if row["state"] == "HELD":
                self.assertIn("doesn't show an order with this key", row["why"])
                self.assertNotIn(row["upn"], bought)
                world.cli("enrolment", "release", str(row["enrolment"]))

    def enrolled(self, world, upns):
        """Runs until these are active; whoever is asked may be dead at the moment."""
        def done():
            world.run_once("3s", seconds=60)
            try:
                rows = world.enrolments()
            except AssertionError:
                return False
            self.release_lost(world, rows)
            active = {row["upn"] for row in rows if row["state"] == "ACTIVE"}
            return set(upns) <= active
        harness.wait_for("the new users", done, LIMIT_SECONDS, 0.1)

    def rebuilt(self, world):
        """Follows the rebuild to its end, over the deaths of who is asked."""
        def done():
            result = world.cli("key", "rebuild", "--wait", "20s", "--json", seconds=60)
            rows = result.lines() if result.code in (0, 1) else []
            return bool(rows) and rows[-1]["kind"] == "summary" and rows[-1]["left"] == 0
        harness.wait_for("the end of the rebuild", done, LIMIT_SECONDS, 0.2)

    def prove_records(self, world, count):
        records = world.records()
        self.assertEqual(len({r["id"] for r in records}), count)
        self.assertEqual(len(records), count)
        self.assertEqual({r["keyName"] for r in records}, {KEY_NAME + "-2"})
        there = {r["id"] for r in records}  # the folder keeps those that were removed, too
        sealed = {name: body for name, body in world.sealed().items() if name in there}
        with_new, with_old = ({name: password for name, password in opening.passwords(world, n).items()
                               if name in there} for n in (2, 1))
        self.assertEqual(set(with_new), there)
        self.assertEqual([p for p in with_old.values() if p is not None], [])
        self.assertEqual(len(set(with_new.values())), count)  # a password each
        for name, body in sealed.items():
            opening.pfx(body, with_new[name])
        for name in sorted(sealed)[::max(1, count // 3)]:
            Oracle(world).prove(name, sealed[name], readers=("openssl",))


class Rebuild(RebuildCase):
    @only_on("softhsm", why="its library is asked by the test itself")
    def test_while_users_enrol_and_processes_die(self):
        world = self.world_with(USERS)
        before = {name: body["encryptedPfxBlob"] for name, body in world.sealed().items()}
        with self.telling(world):
            self.rotate(world)
            self.assertExit(world.cli("key", "retire", "1", "--yes"), 4)
            for n in range(USERS + 1, USERS + MORE + 1):
                world.control("/graph/member", {"group": people.GROUP, "add": people.user(n)})
            began = time.time()
            self.assertExit(world.cli("key", "rebuild"), 0)
            killer = Killer(world)
            self.enrolled(world, {people.upn(n) for n in range(USERS + 1, USERS + MORE + 1)})
            self.rebuilt(world)
            killer.stop()
            print("%d rebuilt in %.1f s with %d kills" % (USERS, time.time() - began, killer.kills))
            self.assertEqual({tuple(s) for s in world.states().values()}, {("ACTIVE",)})
            self.assertNothingTwice(world)
            self.assertEqual(len(world.orders()), USERS + MORE)
            self.prove_records(world, USERS + MORE)
            self.assertFalse([n for n, b in world.sealed().items() if before.get(n) ==
                              b["encryptedPfxBlob"]])
            store = sqlite3.connect("file:%s?mode=ro" % world.path("state", "store.db"), uri=True)
            self.assertEqual(store.execute("SELECT (SELECT count(*) FROM parcel),"
                                           " (SELECT count(*) FROM rebuild)").fetchone(), (0, 0))
            store.close()
            # Once Intune's list was read again, nothing needs the old key any more.
            self.assertExit(world.cli("run", "--once", "--dry-run"), 0)
            rows = world.cli("key", "records", "--json").lines()
            one = next(r for r in rows if r.get("generation") == 1)
            self.assertEqual((one["known"], one["records"], one["flight"]), (True, 0, 0))
            self.assertExit(world.cli("key", "retire", "1", "--yes"), 0)
            invariants.log_verifies(self, world)


@only_on("softhsm", why="its library is asked by the test itself")
class Compromise(RebuildCase):
    def exposed(self, world):
        rows = world.cli("key", "exposed", "--json").lines()
        return rows[-1] if rows else {}

    def test_new_keys_and_old_mail(self):
        """Two people say that generation 1 is compromised: successors with keys of their own, the old
        certificates revoked at the CA, and old mail's records sealed to generation 2."""
        rules = [people.rule("sign", purpose="signing", key="ec-p256"),
                 people.rule("mail", purpose="encryption", key="rsa-2048")]
        world = self.make([people.user(1), people.user(2)], rules=rules,
                          policy={"encryption_key": {"type": "rsa-2048"}})
        with self.telling(world):
            self.approvers(world)
            world.ready()
            self.assertExit(world.run_once("60s"), 0)
            old = {r["id"]: r for r in world.records()}
            self.assertEqual(len(old), 4)
            self.assertExit(world.cli("key", "exposed", "1"), 0, "4 certificates", "4 still to be")
            refused = world.cli("key", "compromise", "1", "--reason", "stolen", "--yes")
            self.assertExit(refused, 4, "pfx-agent approve")
            self.approve(world, refused)
            self.assertExit(world.cli("key", "compromise", "1", "--reason", "stolen", "--yes"), 0)
            # Nothing can be sealed now, so nothing is bought.
            world.run_once("2s")
            self.assertEqual(len(world.orders()), 4)
            self.rotate(world)
            self.assertExit(world.cli("key", "rebuild", "--dry-run"), 0)
            harness.wait_for("marks", lambda: self.exposed(world).get("waiting") == 4)
            self.assertExit(world.run_once("60s"), 0)
            harness.wait_for("revocations", lambda: self.exposed(world).get("revoked") == 4)
            self.assertEqual(self.exposed(world)["replaced"], 4)
            self.assertExit(world.cli("key", "exposed"), 0)
            thumbprints = {r["thumbprint"] for r in old.values()}
            self.assertEqual({o["status"] for o in world.orders()
                              if o["thumbprint"] in thumbprints}, {"revoked"})
            self.assertEqual(len(world.orders()), 8)
            self.rebuilt(world)
            harness.wait_for("the old signing records to go", lambda: len(world.records()) == 6)
            kept = {r["id"] for r in world.records()} & set(old)
            self.assertEqual({old[name]["intendedPurpose"] for name in kept}, {"smimeEncryption"})
            self.prove_records(world, 6)
            self.assertNothingTwice(world)
            invariants.log_verifies(self, world)


if __name__ == "__main__":
    unittest.main()
