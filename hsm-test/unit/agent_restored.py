"""A store that comes out of a backup: what was ordered since then is found at the CA before anything
is ordered again, by the key of its request or by its addresses."""

import hashlib
import os
import shutil
import sqlite3
import sys

sys.dont_write_bytecode = True
from agent_case import FlowCase, main  # noqa: E402
from agent_rig import Fail, GROUP, unb64  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402


class Restored(FlowCase):
    def setUp(self):
        self.rig1 = rig = self.rig()
        world = rig.world
        world.looked = []

        def key(body):  # pfx-hsm's CKA_ID hangs on the user, too
            name = (body["user"], body["enrolment"], body["attempt"])
            return world.keys.setdefault(name, ec.generate_private_key(ec.SECP256R1()))

        def settle(body):
            world.looked.append(body)
            plain = type(world).up_order_settle(world, body)
            if not plain["found"]:
                plain["others"] = [
                    {"order_id": n, "status": o["status"]} for n, o in world.orders.items()
                    if set(o["emails"]) & set(body["addresses"])]
            return plain
        world.key, world.up_order_settle = key, settle

    def backup(self):
        items, code, error = self.rig1.ask("backup.store")
        self.assertEqual((code, error, len(items)), (0, None, 1))
        path = os.path.join(self.rig1.state, items[0]["file"])
        self.assertEqual(os.stat(path).st_size, items[0]["size"])
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        kept = os.path.join(self.rig1.dir, "kept.db")
        shutil.move(path, kept)
        return kept

    def restore(self, kept):
        """The host is lost, and another one begins with the backup's store."""
        rig = self.rig1
        rig.kill()
        shutil.rmtree(rig.state)
        os.mkdir(rig.state, 0o700)
        shutil.copy(kept, rig.state + "/store.db")
        rig.start()
        for arm in rig.arms.values():
            arm.reborn()

    def run_to(self, *states):
        rig = self.rig1
        rig.run_once(wait=10)
        rig.wait_for(lambda: sorted(rig.states()) == sorted(states), 20, (states, rig.states()))

    def test_first_orders(self):
        rig, world = self.rig1, self.rig1.world
        alice, bob, carol, dora = (world.user(n) for n in ("alice", "bob", "carol", "dora"))
        world.groups[GROUP] = [alice]
        self.run_to("ACTIVE")
        kept = self.backup()
        world.groups[GROUP] = [alice, bob, carol]
        self.run_to(*["ACTIVE"] * 3)
        self.assertEqual(world.looked, [])
        # Carol's certificate never came to Intune. Her enrolment will have another number now, so the
        # key that pfx-hsm makes is another one.
        hers = next(n for n, o in world.orders.items() if "carol@example.com" in o["emails"])
        world.records = {k: r for k, r in world.records.items()
                         if r["upn"] != "carol@example.com"}
        self.restore(kept)
        self.assertEqual(rig.states(), ["ACTIVE"])
        world.groups[GROUP] = [alice, bob, carol, dora]
        self.run_to("ACTIVE", "HELD", "ACTIVE")
        # Dora had no order, and got one; nothing was bought twice; each was looked for first.
        self.assertEqual(len(world.bought), 4)
        self.assertEqual({b["addresses"][0] for b in world.looked},
                         {"carol@example.com", "dora@example.com"})
        made = sqlite3.connect(kept).execute(
            "SELECT value FROM meta WHERE key = 'copy_made'").fetchone()[0]
        self.assertEqual({b["since"] for b in world.looked}, {made})
        held = next(e for e in rig.enrolments() if e["state"] == "HELD")
        self.assertEqual(held["upn"], "carol@example.com")
        self.assertIn("order %d was placed" % hers, held["why"])
        self.assertTrue(any(f["name"] == "restored" for f in rig.ask("status")[0]
                            if f["kind"] == "fact"))
        notes = rig.wait_for(lambda: [n for n in world.oplog if n["event"] == "backup.restored"])
        self.assertEqual([n["count"] for n in notes], [0])
        # A retry looks again; what a person has done at the CA is seen.
        rig.ask("enrolment.retry", enrolment=held["enrolment"])
        self.run_to("ACTIVE", "HELD", "ACTIVE")
        self.assertEqual(len(world.bought), 4)
        _, code, _ = rig.ask("enrolment.release", enrolment=held["enrolment"])
        self.assertEqual(code, 0)
        self.run_to(*["ACTIVE"] * 3)
        self.assertEqual(len(world.bought), 5)
        rig.restart()
        self.assertEqual(rig.sql("SELECT count(*) FROM meta WHERE key = 'copy_made'"), [(0,)])

    def test_cut_off(self):
        """A copy that pfx-agentd died over has parcels in it: it goes with the next start."""
        rig = self.rig1
        half = os.path.join(rig.state, "copy.db.new")
        rig.kill()
        with open(half, "wb") as file:
            file.write(b"half of it")
        rig.start()
        self.assertFalse(os.path.exists(half))
        shutil.move(self.backup(), half)
        self.assertEqual(sqlite3.connect(self.backup()).execute("PRAGMA integrity_check").fetchone(),
                         ("ok",))
        self.assertFalse(os.path.exists(half))

    def test_ended_order(self):
        """One that the CA has ended is no reason to wait for a person."""
        rig, world = self.rig1, self.rig1.world
        kept = self.backup()
        self.group(rig, "spare", "alice")
        self.run_to("ACTIVE", "ACTIVE")
        for number in world.orders:
            world.set_status(number, "revoked")
        world.groups[GROUP] = world.groups[GROUP][1:]
        world.records.clear()
        self.restore(kept)
        self.run_to("ACTIVE")
        self.assertEqual(len(world.bought), 3)

    def test_keyed(self):
        """The order of a request in the backup went out after it: adopted by its key."""
        rig, world = self.rig1, self.rig1.world
        self.group(rig, "alice", "bob")
        world.fault("up.order", *[Fail("transient")] * 40)
        rig.ask("run")
        rig.wait_for(lambda: rig.states() == ["KEYED"] * 2)
        kept = self.backup()
        world.faults.clear()
        self.run_to("ACTIVE", "ACTIVE")
        world.records.clear()
        self.restore(kept)
        self.run_to("ACTIVE", "ACTIVE")
        self.assertEqual(len(world.bought), 2)
        self.assertEqual(len(world.looked), 2)
        self.assertEqual(world.counts["hsm.key_csr"], 2)

    def test_same_key_again(self):
        """An enrolment that was NEW, or that gets its number again, gets its key again from the token;
        and with it its order."""
        rig, world = self.rig1, self.rig1.world
        kept = self.backup()
        self.group(rig, "alice")
        self.run_to("ACTIVE")
        world.records.clear()
        self.restore(kept)
        self.run_to("ACTIVE")
        self.assertEqual((len(world.bought), len(world.looked)), (1, 1))

    def test_the_list_lags(self):
        """An empty look soon after the restore isn't the last one."""
        rig, world = self.rig1, self.rig1.world
        kept = self.backup()
        self.group(rig, "alice")
        self.run_to("ACTIVE")
        world.records.clear()
        rig.schedule["settle_grace"] = "3s"  # longer than any first look takes
        rig.write_config()
        self.restore(kept)
        world.fault("up.order_settle", lambda body: {"found": False})
        self.run_to("ACTIVE")
        self.assertEqual(len(world.bought), 1)
        self.assertEqual(world.counts["up.order_settle"], 2)

    def test_without_parcels(self):
        rig, world = self.rig1, self.rig1.world
        self.group(rig, "alice")
        world.fault("up.import", *[Fail("transient")] * 40)
        rig.ask("run")
        rig.wait_for(lambda: rig.states() == ["SEALED"])
        pfx, sealed = rig.sql("SELECT pfx, sealed FROM parcel")[0]
        kept = self.backup()
        with open(kept, "rb") as file:
            data = file.read()
        self.assertNotIn(pfx, data)
        self.assertNotIn(sealed, data)
        self.assertIn(b"alice@example.com", data)
        self.assertEqual(sqlite3.connect(kept).execute("PRAGMA integrity_check").fetchone(),
                         ("ok",))
        world.faults.clear()
        self.restore(kept)
        self.run_to("ACTIVE")
        self.assertEqual(len(world.bought), 1)
        self.assertNotEqual(hashlib.sha256(unb64(next(iter(world.parcels.values()))[0])).digest(),
                            hashlib.sha256(pfx).digest())


if __name__ == "__main__":
    main()
