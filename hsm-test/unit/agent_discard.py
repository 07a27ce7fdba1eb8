"""User keys that aren't kept, in pfx-agentd: destroyed once they are delivered where pfx-hsm's policy
says so, or when no order can exist; never one that may be needed; whoever dies in between."""

import glob
import sys

sys.dont_write_bytecode = True
from agent_case import FlowCase, main  # noqa: E402
from agent_rig import RULE, Fail, Silent  # noqa: E402

ENCRYPTION = dict(RULE, name="second", purpose="encryption")


class Discard(FlowCase):
    def signing(self, n=1, keys=("signing",), **kwargs):
        """Users that are delivered, on a host whose policy lets signing keys go."""
        rig = self.rig(arms=False, **kwargs)
        rig.world.after_delivery = list(keys)
        rig.world.page = 500
        rig.start_arms()
        self.group(rig, *["u%03d" % i for i in range(n)])
        self.assertEqual(self.summary(rig.run_once()[0])["finished"], n)
        return rig

    def gone(self, rig, n):
        return rig.wait_for(lambda: rig.sql(
            "SELECT count(*) FROM enrolment WHERE key_gone_at IS NOT NULL AND key_ref IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM job WHERE kind = 'hsm.key_destroy')") == [(n,)])

    def quiet(self, rig):
        """Ticks passed, and nothing is on its way: what isn't gone by now stays."""
        rig.ask("status")
        rig.run_once(dry_run=True)
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE kind = 'hsm.key_destroy'"), [(0,)])

    def test_delivered(self):
        rig = self.signing(40)  # more than have a job at once
        self.gone(rig, 40)
        self.assertEqual(sorted(rig.world.destroyed),
                         sorted((e["enrolment"], 1, "delivered") for e in rig.enrolments()))
        self.assertEqual(rig.states(), ["ACTIVE"] * 40)
        shown = rig.show(1)
        self.assertEqual(shown["key"], "destroyed")
        self.assertGreaterEqual(shown["key_gone"], rig.sql("SELECT active_at FROM enrolment")[0][0])
        self.assertIn("its user key is destroyed (delivered)", " ".join(shown["history"]))
        # Told in the order: read back first.
        self.assertLess(" ".join(shown["history"]).index("ACTIVE"),
                        " ".join(shown["history"]).index("destroyed"))

    def test_kept(self):
        """By a policy that says nothing, and encryption keys by any."""
        rig = self.signing(2, keys=())
        self.quiet(rig)
        self.assertEqual(rig.show(1)["key"], "kept")
        self.assertEqual(rig.world.destroyed, [])
        rig = self.signing(1, rules=[ENCRYPTION])
        self.quiet(rig)
        self.assertEqual((rig.show(1)["key"], rig.world.destroyed), ("kept", []))

    def test_blob_is_erased(self):
        blob = "w1." + "blobofthisveryuser" * 20
        rig = self.rig(arms=False)
        plain = rig.world.hsm_key_csr
        rig.world.hsm_key_csr = lambda body: dict(plain(body), key_ref=blob)
        rig.world.after_delivery = ["signing"]
        rig.start_arms()
        self.group(rig, "anna")

        def holds():
            return [path for path in glob.glob(rig.state + "/store.db*")
                    if blob.encode() in open(path, "rb").read()]
        seen = []
        rig.arms["hsm"].hook = lambda point, kind, job: seen.append(holds()) \
            if (point, kind) == ("job", "hsm.key_destroy") else None
        rig.run_once()
        self.gone(rig, 1)
        self.assertTrue(seen and seen[0])
        rig.wait_for(lambda: not holds(), what="a blob that is gone from the store's files")
        self.assertIn("blob is erased", " ".join(rig.show(1)["history"]))

    def test_no_order(self):
        """Canceled before an order: gone, whatever its purpose. One whose order may exist: never."""
        rig = self.rig(rules=[dict(RULE, purpose="encryption")])
        self.group(rig, "anna", "bert")
        rig.ask("pause", orders=True)
        rig.run_once()
        rig.wait_for(lambda: rig.states() == ["KEYED"] * 2)
        self.assertEqual(rig.world.destroyed, [])
        rig.ask("enrolment.cancel", enrolment=1)
        self.gone(rig, 1)
        self.assertEqual(rig.world.destroyed, [(1, 1, "unused")])
        # The answer to the other's order is lost, and the CA shows none.
        rig.world.fault("up.order", Fail("lost", "reset"))
        rig.ask("resume", orders=True)
        rig.wait_for(lambda: rig.states() == ["ENDED", "HELD"])
        self.assertEqual(rig.ask("enrolment.cancel", enrolment=2)[1], 0)
        self.assertIn("may exist", " ".join(rig.show(2)["history"]))
        self.quiet(rig)
        self.assertEqual((rig.show(2)["state"], rig.show(2)["key"]), ("ENDED", "kept"))
        self.assertEqual(rig.world.destroyed, [(1, 1, "unused")])

    def test_refused(self):
        """pfx-hsm has another policy by now: the key is kept, and nobody asks again and again."""
        rig = self.rig(arms=False)
        rig.world.after_delivery = ["signing"]
        rig.world.fault("hsm.key_destroy", *[Fail("refused", "the policy keeps it", "policy")] * 90)
        rig.start_arms()
        self.group(rig, "anna", "bert")
        rig.run_once()
        rig.wait_for(lambda: rig.states() == ["ACTIVE"] * 2 and
                     rig.sql("SELECT count(key_due) FROM enrolment") != [(0,)])
        self.quiet(rig)
        # Both at once, or for the other one not before the next report.
        told = [n for n in (1, 2) if "the policy keeps it" in " ".join(rig.show(n)["history"])]
        self.assertTrue(told)
        self.assertEqual(rig.world.counts["hsm.key_destroy"], len(told))
        self.assertEqual([e["key"] for e in rig.enrolments()], ["kept", "kept"])
        # A day later the policy lets it go after all.
        rig.world.faults["hsm.key_destroy"].clear()
        rig.edit("UPDATE enrolment SET key_due = 1 WHERE key_due IS NOT NULL")
        rig.restart()
        self.gone(rig, 2)

    def test_who_dies(self):
        """Each process, between the job and its answer, and behind it: gone once, and known to be."""
        def one(point, who):
            with self.world(arms=False) as rig:
                rig.world.after_delivery = ["signing"]
                deaths = []

                def die(at, kind, job):
                    if kind == "hsm.key_destroy" and at == point and not deaths:
                        deaths.append(job)
                        if who == "hsm":
                            raise Silent()
                        rig.process.kill()
                rig.start_arms()
                rig.arms["hsm"].hook = die if who == "agentd" else None
                if who == "hsm":
                    rig.world.fault("hsm.key_destroy", Silent())
                self.group(rig, "anna")
                try:
                    rig.run_once()
                except Exception:  # its pfx-agentd is gone
                    pass
                if who == "hsm":
                    rig.wait_for(lambda: rig.world.counts.get("hsm.key_destroy"))
                    rig.arms["hsm"].reborn()
                else:
                    rig.wait_for(lambda: deaths)
                    rig.restart()
                self.gone(rig, 1)
                self.assertEqual(rig.show(1)["key"], "destroyed")
                self.assertEqual(rig.states(), ["ACTIVE"])
        self.each([("job", "agentd"), ("done", "agentd"), ("job", "hsm")], one)

    def test_lost_record(self):
        """A record that Intune lost: packed again where the key is kept, else a new one is ordered."""
        for keys, decision, orders in ((("signing",), "order", 2), ((), "skip", 1)):
            with self.subTest(keys=keys):
                rig = self.signing(1, keys=keys)
                if keys:
                    self.gone(rig, 1)
                rig.world.records.clear()
                plan = self.plans(rig.run_once(dry_run=True)[0])["u000"]
                self.assertEqual(plan["decision"], decision, plan)
                rig.run_once()
                self.assertEqual(len(rig.world.bought), orders)
                self.assertEqual(len(rig.world.records), 1)
                self.assertEqual(set(rig.states()), {"ACTIVE"})

    def test_copies(self):
        def places(rig, **which):
            items, exit, error = rig.ask("key.copies", **which)
            self.assertEqual(exit, 0, error)
            return {(i["place"], i["state"]) for i in items}, items
        rig = self.signing(1, keys=())
        key_id = rig.sql("SELECT hex(key_id) FROM enrolment")[0][0].lower()
        found, items = places(rig, enrolment=1)
        everywhere = {("sealed", "there"), ("devices", "unknown"), ("backups", "unknown")}
        self.assertEqual(found - everywhere,
                         {("hsm", "there"), ("parcel", "gone"), ("intune", "there")})
        self.assertEqual(items[0]["id"], key_id)
        self.assertEqual([i["id"] for i in items if i["place"] == "intune"],
                         list(rig.world.records))
        self.assertEqual(places(rig, key_id=key_id), (found, items))
        rig.world.after_delivery = ["signing"]
        rig.arms["hsm"].reborn()  # says hello, and is asked for its report
        self.gone(rig, 1)
        rig.ask("record.remove", id=list(rig.world.records)[0])
        rig.wait_for(lambda: not rig.world.records)
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM record") == [(0,)])
        found, items = places(rig, key_id=key_id)
        self.assertEqual(found - everywhere, {("hsm", "gone"), ("parcel", "gone"), ("intune", "gone")})
        for which in ({"enrolment": 77}, {"key_id": "00" * 16}, {"key_id": "zz"}, {}):
            self.assertEqual(rig.ask("key.copies", **which)[1], 2)
        # A PFX that waits for Intune is a copy, too.
        rig = self.rig()
        self.group(rig, "bert")
        rig.ask("pause", uploads=True)
        rig.run_once()
        rig.wait_for(lambda: rig.states() == ["SEALED"])
        self.assertIn(("parcel", "there"), places(rig, enrolment=1)[0])

    def test_rebuild_passes_it_over(self):
        rig = self.signing(2)
        self.gone(rig, 2)
        rig.world.sealed.clear()
        rig.world.turn_to(2)
        items, _, _ = rig.ask("key.rebuild", wait=20)
        self.assertEqual((items[-1]["done"], items[-1]["passed"]), (0, 2), items[-1])
        self.assertEqual(rig.world.sealed, [])
        self.assertEqual(rig.states(), ["ACTIVE"] * 2)
        blockers = [i for i in rig.ask("key.records")[0] if i["kind"] == "blocker"]
        self.assertEqual([b["until"] for b in blockers], [e["expires"] for e in rig.enrolments()])
        self.assertIn("isn't kept", blockers[0]["why"])


if __name__ == "__main__":
    main()
