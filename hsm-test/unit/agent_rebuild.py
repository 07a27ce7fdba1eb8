"""Records rebuilt for another generation of the encryption key: all of them, each once, while users go
on enrolling, arms die and pfx-agentd is killed; what is refused keeps its old record."""

import sys
import threading
import time

sys.dont_write_bytecode = True
from agent_case import FlowCase, alone, main  # noqa: E402
from agent_rig import GROUP, Fail, now_ms  # noqa: E402

KEYS = {1: "pfx-test", 2: "pfx-test-2", 3: "pfx-test-3"}


class RebuildCase(FlowCase):
    def delivered(self, n=3, **kwargs):
        """Users with records of generation 1; generation 2 is active now."""
        rig = self.rig(**kwargs)
        self.fill(rig, n)
        return rig

    def fill(self, rig, n):
        rig.world.page = 500
        rig.world.turn_to(1)
        self.group(rig, *["u%03d" % i for i in range(n)])
        self.assertEqual(self.summary(rig.run_once()[0])["finished"], n)
        rig.world.sealed.clear()
        rig.world.turn_to(2)

    def rebuild(self, rig, wait=30, code=0):
        items, exit, error = rig.ask("key.rebuild", wait=wait)
        self.assertEqual(exit, code, (items[-1:], error))
        return items[-1]

    def records(self, rig):
        items, exit, _ = rig.ask("key.records")
        self.assertEqual(exit, 0)
        found = {"generation": {}, "foreign": [], "blocker": [], "summary": None}
        for item in items:
            if item["kind"] == "generation":
                found["generation"][item["generation"]] = item
            elif item["kind"] == "summary":
                found["summary"] = item
            else:
                found[item["kind"]].append(item)
        return found

    def check_all(self, rig, generation, n, once=True):
        """Each record names that generation and has a parcel that was built for it; nothing is left."""
        self.assertEqual([r["key_name"] for r in rig.world.records.values()], [KEYS[generation]] * n)
        self.assertEqual(rig.sql("SELECT state, generation, count(*) FROM enrolment GROUP BY 1, 2"),
                         [("ACTIVE", generation, n)])
        self.assertEqual(rig.sql("SELECT count(*) FROM parcel"), [(0,)])
        self.assertEqual(rig.sql("SELECT count(*) FROM rebuild"), [(0,)])
        self.assertEqual(rig.sql("SELECT count(*) FROM job WHERE scope LIKE 'rebuild/%'"), [(0,)])
        if once:
            self.assertEqual(sorted(rig.world.sealed),
                             sorted((e["enrolment"], generation) for e in rig.enrolments()))


class Rebuild(RebuildCase):
    def test_all(self):
        rig = self.delivered(5)
        parcels = dict(rig.world.parcels)
        plan, exit, _ = rig.ask("key.rebuild", dry_run=True)
        self.assertEqual((exit, plan[0]["kind"], plan[0]["left"], plan[0]["target"]), (0, "plan", 5, 2))
        self.assertGreater(plan[0]["left_ms"], 0)
        self.assertEqual(rig.world.sealed, [])
        last = self.rebuild(rig)
        self.assertEqual((last["kind"], last["done"], last["left"], last["held"]),
                         ("summary", 5, 0, 0))
        self.check_all(rig, 2, 5)
        self.assertTrue(all(rig.world.parcels[r] != parcels[r] for r in parcels))
        # Updated, not bought: one order and one key each, and the same certificate.
        self.assertEqual(len(rig.world.bought), 5)
        self.assertEqual(rig.world.counts["hsm.key_csr"], 5)
        self.assertEqual(rig.sql("SELECT generation, count(*) FROM exposure GROUP BY 1"),
                         [(1, 5), (2, 5)])
        self.assertIn("generation 2", " ".join(rig.show(1)["history"]))
        self.assertEqual(rig.show(1)["generation"], 2)
        self.assertEqual(self.rebuild(rig)["done"], 0)  # nothing is left to do
        self.check_all(rig, 2, 5)
        # The log of pfx-hsm is told of each.
        rig.wait_for(lambda: [n["generation"] for n in rig.world.oplog
                              if n["event"] == "upload.confirmed"] == [1] * 5 + [2] * 5)

    def test_way_back(self):
        rig = self.delivered(3)
        self.rebuild(rig)
        rig.world.sealed.clear()
        rig.world.turn_to(1)
        self.assertEqual(self.rebuild(rig)["target"], 1)
        self.check_all(rig, 1, 3)

    def test_turned_under_way(self):
        """The generation changes while records are on their way: all end with the last one."""
        rig = self.delivered(6)
        rig.world.fault("hsm.build_seal", *[None] * 3, lambda b: rig.world.turn_to(3))
        self.assertEqual(self.rebuild(rig)["target"], 3)
        self.check_all(rig, 3, 6, once=False)

    def stuck(self, rig, *numbers):
        """Imports of these enrolments fail for the moment, until the event is set."""
        go = threading.Event()
        ids = {rig.sql("SELECT record_id FROM enrolment WHERE id = ?", n)[0][0] for n in numbers}
        plain = rig.world.up_import

        def one(body):
            if body["record_id"] in ids and not go.is_set():
                raise Fail("transient")
            return plain(body)
        rig.world.up_import = one
        return go

    def through(self, rig):
        rig.wait_for(lambda: rig.sql("SELECT value FROM meta WHERE key = 'rebuild_started'") == [(0,)])

    def generations(self, rig):
        return [g for g, in rig.sql("SELECT generation FROM enrolment ORDER BY id")]

    def test_late_ones_of_a_way_back(self):
        """On its way to generation 2 while the others are turned back already: it is turned back, too."""
        rig = self.delivered(3)
        go = self.stuck(rig, 1)
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        rig.wait_for(lambda: self.generations(rig) == [1, 2, 2])
        rig.world.turn_to(1)
        self.records(rig)  # pfx-agentd hears of it
        rig.wait_for(lambda: self.generations(rig) == [1, 1, 1])
        self.assertEqual(rig.sql("SELECT state, generation FROM rebuild"), [("SEALED", 2)])
        go.set()
        self.through(rig)
        self.check_all(rig, 1, 3, once=False)
        self.assertEqual(rig.sql("SELECT value FROM meta WHERE key = 'rebuild_passed'"), [(0,)])

    def test_new_user_with_the_old_generation(self):
        """Packed before generation 2 was active, in Intune when the round was past it."""
        rig = self.rig()
        rig.world.turn_to(1)
        self.group(rig, "anna", "bert")
        self.assertEqual(rig.run_once()[1], 0)
        rig.world.groups[GROUP].append(rig.world.user("carl"))
        rig.ask("pause", uploads=True)
        rig.run_once()
        rig.wait_for(lambda: rig.states() == ["ACTIVE", "ACTIVE", "SEALED"])
        first, last = self.stuck(rig, 1), self.stuck(rig, 3)
        rig.ask("resume", uploads=True)
        rig.world.turn_to(2)
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        rig.wait_for(lambda: rig.sql("SELECT value FROM meta WHERE key = 'rebuild_generation'")
                     == [(2,)])
        self.assertEqual(self.generations(rig), [1, 2, 1])
        last.set()
        rig.wait_for(lambda: rig.states() == ["ACTIVE"] * 3)
        time.sleep(0.3)
        first.set()
        self.through(rig)
        self.check_all(rig, 2, 3, once=False)

    def test_pfx_hsm_turned_back_alone(self):
        """Nobody told pfx-agentd: it finds out by what comes, and asks."""
        rig = self.delivered(2)
        rig.world.fault("hsm.build_seal", lambda b: rig.world.turn_to(1))
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        rig.wait_for(lambda: rig.sql("SELECT generation FROM generation WHERE state = 'active'")
                     == [(1,)])
        self.through(rig)
        self.check_all(rig, 1, 2, once=False)

    def test_held_ones_may_need_the_key(self):
        """Held with a PFX for a generation, or after Intune may have taken one: counted."""
        rig = self.rig()
        rig.world.turn_to(1)
        self.group(rig, "anna", "bert")
        rig.world.fault("up.import", None, Fail("refused", "no such thing"))
        rig.run_once()
        self.assertEqual(sorted(rig.states()), ["ACTIVE", "HELD"])
        number = next(e["enrolment"] for e in rig.enrolments() if e["state"] == "ACTIVE")
        rig.world.turn_to(2)
        go = self.stuck(rig, number)
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        rig.wait_for(lambda: rig.sql("SELECT generation FROM rebuild WHERE state = 'SEALED'") == [(2,)])
        rig.world.turn_to(1)
        self.records(rig)  # pfx-agentd hears of it
        time.sleep(0.01)
        rig.run_once(dry_run=True)
        rig.world.turn_to(2)
        self.assertEqual(self.records(rig)["generation"][1]["flight"], 1)
        rig.world.turn_to(1)
        # It goes through, and nobody can say so.
        rig.world.fault("up.readback", *[Fail("refused", "not now")] * 3)
        go.set()
        rig.wait_for(lambda: rig.sql("SELECT state FROM rebuild") == [("HELD",)])
        two = self.records(rig)["generation"][2]
        self.assertEqual((two["state"], two["records"], two["flight"]), ("suspended", 0, 1))
        # Intune's list says so; and what it names is turned back.
        time.sleep(0.01)
        rig.run_once(dry_run=True)
        two = self.records(rig)["generation"][2]
        self.assertEqual((two["known"], two["records"], two["flight"]), (True, 1, 0))
        self.assertEqual(self.rebuild(rig)["done"], 1)
        two = self.records(rig)["generation"][2]
        self.assertEqual((two["records"], two["flight"]), (0, 0))
        self.assertEqual(rig.show(number)["generation"], 1)

    def test_store_older_than_intune(self):
        """Restored: the records were rebuilt since, and the store says that nothing is left to do."""
        rig = self.delivered(2)
        self.rebuild(rig)
        rig.edit("UPDATE enrolment SET generation = 1, key_name = 'pfx-test', rebuilt_at = NULL")
        rig.edit("DELETE FROM exposure WHERE generation = 2")
        rig.world.turn_to(1)
        time.sleep(0.01)
        rig.run_once(dry_run=True)
        self.assertEqual(self.records(rig)["generation"][2]["records"], 2)
        self.assertEqual(self.records(rig)["generation"][2]["exposed"], 2)
        self.assertEqual(self.rebuild(rig)["done"], 2)
        self.check_all(rig, 1, 2, once=False)
        self.assertEqual(self.records(rig)["generation"][2]["records"], 0)

    def test_page_older_than_a_rebuild(self):
        """Intune's list was read before a record was updated, and arrives after it was read back."""
        rig = self.delivered(2)
        old = rig.world.up_records({})
        go = threading.Event()

        def page(body):
            if not go.is_set():
                raise Fail("transient")
            return old
        rig.world.up_records = page
        run = threading.Thread(target=lambda: rig.run_once(dry_run=True))
        run.start()
        rig.wait_for(lambda: rig.world.counts.get("up.records", 0) > 1)
        time.sleep(0.01)
        self.rebuild(rig)
        go.set()
        run.join()
        one, two = (self.records(rig)["generation"][n] for n in (1, 2))
        self.assertEqual((one["records"], two["records"]), (0, 2))
        self.check_all(rig, 2, 2)

    def test_ids_in_another_case(self):
        """As Intune writes them: the same records, each once."""
        rig = self.delivered(2)
        plain = rig.world.up_records

        def listed(body):
            answer = plain(body)
            return dict(answer, records=[dict(r, id=r["id"][:32] + r["id"][32:].upper())
                                         for r in answer["records"]])
        rig.world.up_records = listed
        time.sleep(0.01)
        rig.run_once(dry_run=True)
        self.assertEqual(self.rebuild(rig)["done"], 2)
        self.check_all(rig, 2, 2)
        self.assertEqual(self.records(rig)["generation"][1]["records"], 0)

    def test_refused_keeps_the_old_record(self):
        rig = self.delivered(3)
        rig.world.lost_keys.add(2)
        last = self.rebuild(rig, code=1)
        self.assertEqual((last["done"], last["left"], last["held"]), (2, 1, 1))
        self.assertEqual(rig.states(), ["ACTIVE"] * 3)
        self.assertEqual(rig.show(2)["generation"], 1)
        record = rig.world.records[rig.show(2)["record_id"]]
        self.assertEqual(record["key_name"], KEYS[1])
        self.assertEqual(rig.sql("SELECT count(*) FROM parcel"), [(0,)])
        found = self.records(rig)
        blocker = found["blocker"][0]
        self.assertEqual((blocker["enrolment"], blocker["upn"]), (2, "u001@example.com"))
        self.assertIn("CKA_ID", blocker["why"])
        self.assertEqual(blocker["until"], rig.show(2)["expires"])
        self.assertEqual(found["generation"][1]["records"], 1)
        # Nothing is bought because of it, and the user counts as served.
        self.assertEqual(self.plans(rig.run_once(dry_run=True)[0])["u001"]["decision"], "skip")
        # Put right, the next command takes it up again.
        rig.world.lost_keys.clear()
        self.assertEqual(self.rebuild(rig)["held"], 0)
        self.check_all(rig, 2, 3)

    def test_refused_anywhere(self):
        def one(kind, times):
            with self.world() as rig:
                self.fill(rig, 1)
                rig.world.fault(kind, *[Fail("refused", "no such thing")] * times)
                last = self.rebuild(rig, code=1)
                self.assertEqual((last["held"], last["done"]), (1, 0), kind)
                self.assertEqual(rig.states(), ["ACTIVE"])
                self.assertEqual(rig.sql("SELECT count(*) FROM parcel"), [(0,)])
                self.assertEqual(self.rebuild(rig)["held"], 0)
                self.check_all(rig, 2, 1, once=False)
        self.each([("hsm.build_seal", 1), ("up.import", 1), ("up.readback", 3)], one)

    def test_passing_failures(self):
        rig = self.delivered(3)
        rig.world.fault("hsm.build_seal", Fail("device", "a moment"), Fail("transient"))
        rig.world.fault("up.import", Fail("transient"), Fail("lost"), Fail("lost"))
        rig.world.fault("up.readback", Fail("transient"), lambda b: {"present": False})
        self.rebuild(rig)
        self.check_all(rig, 2, 3, once=False)
        self.assertGreaterEqual(rig.world.counts["up.import_settle"], 2)

    def test_unchanged_record_is_found_out(self):
        """Intune says yes and keeps the old record: it isn't taken for rebuilt."""
        rig = self.delivered(1)

        def lies(body):
            return {"record_id": body["record_id"], "updated": True}
        rig.world.fault("up.import", *[lies] * 3)
        rig.world.fault("up.import_settle", *[lies] * 3)
        self.assertEqual(self.rebuild(rig, code=1)["held"], 1)
        self.assertEqual(rig.show(1)["generation"], 1)
        self.assertIn("keyName", self.records(rig)["blocker"][0]["why"])

    def test_pause(self):
        rig = self.delivered(8)
        built = threading.Event()
        rig.world.fault("hsm.build_seal", None, lambda b: built.set())
        self.assertEqual(rig.ask("pause", rebuild=True)[1], 0)
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        time.sleep(0.5)
        self.assertEqual(rig.world.sealed, [])
        rig.restart()  # and stays paused
        facts = {i["name"]: i for i in rig.ask("status")[0] if i["kind"] == "fact"}
        self.assertIn("resume --rebuild", facts["rebuild"]["value"])
        time.sleep(0.5)
        self.assertEqual(rig.world.sealed, [])
        self.assertEqual(rig.ask("resume", rebuild=True)[1], 0)
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM enrolment WHERE generation = 2") == [(8,)])
        rig.wait_for(lambda: not rig.sql("SELECT 1 FROM meta WHERE key = 'rebuild_started'"
                                         " AND value <> 0"))
        self.check_all(rig, 2, 8)

    def test_enrolments_go_first(self):
        rig = self.delivered(70, max_orders_per_pass=500, max_orders_per_day=500)
        more = [rig.world.user("new%02d" % i) for i in range(5)]
        rig.world.groups[GROUP] += more
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        self.assertEqual(self.summary(rig.run_once()[0])["finished"], 5)
        rebuilt = rig.sql("SELECT count(*) FROM enrolment WHERE generation = 2 AND id <= 70")[0][0]
        self.assertLess(rebuilt, 70)
        self.rebuild(rig)
        self.check_all(rig, 2, 75)

    def test_not_active(self):
        rig = self.delivered(1)
        rig.world.turn_to(None)
        _, exit, error = rig.ask("key.rebuild", wait=5)
        self.assertEqual(exit, 4)
        self.assertIn("no generation", error["text"])

    def test_disabled_and_left_are_rebuilt(self):
        rig = self.delivered(2)
        rig.world.groups[GROUP][0]["enabled"] = False
        del rig.world.groups[GROUP][1]
        rig.run_once()
        self.rebuild(rig)
        self.check_all(rig, 2, 2)

    def test_gone_meanwhile(self):
        """Removed while it is rebuilt: nothing brings the record back."""
        rig = self.delivered(1)
        here = threading.Event()
        go = threading.Event()

        def wait(body):
            here.set()
            rig.world.lock.release()
            go.wait(10)
            rig.world.lock.acquire()
        rig.world.fault("hsm.build_seal", wait)
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        self.assertTrue(here.wait(10))
        self.assertEqual(rig.ask("record.remove", id=rig.show(1)["record_id"])[1], 0)
        go.set()
        rig.wait_for(lambda: not rig.world.records)
        rig.wait_for(lambda: rig.sql("SELECT count(*) FROM rebuild") == [(0,)])
        time.sleep(0.3)
        self.assertEqual(rig.world.records, {})
        self.assertEqual(rig.states(), ["ENDED"])
        self.assertEqual(rig.sql("SELECT count(*) FROM parcel"), [(0,)])

    def test_deleted_in_intune(self):
        """A record that somebody deleted there isn't brought back by a rebuild."""
        rig = self.delivered(2)
        rig.world.groups[GROUP][0]["enabled"] = False
        del rig.world.records[rig.show(1)["record_id"]]
        rig.run_once()
        last = self.rebuild(rig, code=1)
        self.assertEqual((last["done"], last["passed"]), (1, 1))
        self.assertEqual(len(rig.world.records), 1)
        self.assertEqual(self.records(rig)["generation"][1]["records"], 0)

    def test_renewal_in_flight(self):
        """The same user waits for another certificate: both go on."""
        rig = self.delivered(1)
        soon = now_ms() + 86400000
        rig.world.records[rig.show(1)["record_id"]]["expires"] = soon
        rig.edit("UPDATE enrolment SET expires = ?", soon)
        rig.world.auto_issue = False
        rig.run_once()
        self.assertEqual(sorted(rig.states()), ["ACTIVE", "ORDERED"])
        self.assertEqual(self.rebuild(rig)["done"], 1)
        self.assertEqual(sorted(rig.states()), ["ACTIVE", "ORDERED"])
        self.assertEqual(rig.show(1)["generation"], 2)

    def test_records(self):
        rig = self.rig()
        self.assertIn("never", self.records(rig)["summary"]["why"])
        self.fill(rig, 3)
        rig.world.records["f" * 32 + "-" + "0" * 40] = {
            "id": "f" * 32 + "-" + "0" * 40, "thumbprint": "0" * 40, "purpose": "smimeEncryption",
            "upn": "old@example.com", "starts": 1, "expires": 5000, "provider_name": "Old provider",
            "key_name": "old-key", "padding": "oaepSha512"}
        self.rebuild(rig)
        found = self.records(rig)
        self.assertEqual(found["foreign"], [])
        one = found["generation"][1]
        self.assertEqual((one["known"], one["records"], one["exposed"]), (False, 0, 3))
        time.sleep(0.01)
        rig.run_once(dry_run=True)
        found = self.records(rig)
        foreign = found["foreign"][0]
        self.assertEqual((foreign["key_name"], foreign["provider_name"], foreign["records"],
                          foreign["last"]), ("old-key", "Old provider", 1, 5000))
        one, two = found["generation"][1], found["generation"][2]
        self.assertEqual((one["known"], one["records"], one["state"]), (True, 0, "suspended"))
        self.assertEqual((two["known"], two["records"], two["state"], two["exposed"]),
                         (True, 3, "active", 3))
        self.assertEqual((two["key_name"], two["flight"]), ("pfx-test-2", 0))
        # What else becomes of it later makes the count no less certain.
        time.sleep(0.01)
        rig.world.turn_to(2, g1="retired")
        one = self.records(rig)["generation"][1]
        self.assertEqual((one["known"], one["records"], one["state"]), (True, 0, "retired"))
        self.assertGreater(two["last"], now_ms())
        # One of our names that nobody here delivered: it counts, too.
        stray = dict(rig.world.records[rig.show(1)["record_id"]], id="e" * 32 + "-" + "1" * 40,
                     key_name="pfx-test")
        rig.world.records[stray["id"]] = stray
        rig.run_once(dry_run=True)
        self.assertEqual(self.records(rig)["generation"][1]["records"], 1)

    def test_records_without_pfx_hsm(self):
        """Another generation may be active by now: no count is certain then."""
        rig = self.delivered(1)
        time.sleep(0.01)
        rig.run_once(dry_run=True)
        self.assertTrue(self.records(rig)["generation"][1]["known"])
        rig.arms["hsm"].stop()
        found = self.records(rig)
        self.assertEqual({g["known"] for g in found["generation"].values()}, {False})
        self.assertIn("pfx-hsm", found["summary"]["next"])

    def test_expired_signing_needs_nobody(self):
        rig = self.delivered(2)
        past = now_ms() - 1000
        rig.edit("UPDATE enrolment SET expires = ? WHERE id = 1", past)
        rig.edit("UPDATE record SET expires = ? WHERE id = (SELECT record_id FROM enrolment"
                 " WHERE id = 1)", past)
        self.assertEqual(self.rebuild(rig, code=1)["passed"], 1)
        one = self.records(rig)["generation"][1]
        self.assertEqual((one["records"], one["over"]), (0, 1))


class Killed(RebuildCase):
    @alone
    def test_agentd_killed_on_and_on(self):
        """Killed at random moments until all are through: none missed, no record built of two."""
        rig = self.delivered(40)
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        for i in range(12):
            time.sleep(0.03 + 0.02 * i)
            rig.restart()
        self.rebuild(rig)
        self.check_all(rig, 2, 40, once=False)
        self.assertEqual(len(rig.world.bought), 40)

    def test_at_each_point(self):
        """pfx-agentd dies as a job is handed out, is answered, or is acknowledged; or the arm does."""
        def one(kind, point, who):
            with self.world() as rig:
                self.fill(rig, 2)
                arm = rig.arms["hsm" if kind.startswith("hsm") else "uploader"]
                hit = threading.Event()

                def hook(at, of, job):
                    if (at, of) != (point, kind) or hit.is_set():
                        return
                    hit.set()
                    if who == "arm":
                        arm.reborn()
                    else:
                        rig.kill()
                arm.hook = hook
                self.assertEqual(rig.ask("key.rebuild")[1], 0)
                self.assertTrue(hit.wait(10), (kind, point, who))
                if who != "arm":
                    rig.process.wait()
                    rig.start()
                self.rebuild(rig)
                self.check_all(rig, 2, 2, once=False)
        self.each([(k, p, w) for k in ("hsm.build_seal", "up.import", "up.readback")
                   for p in ("job", "done", "ack") for w in ("agentd", "arm")], one)

    def test_lost_parcel(self):
        """Restored from a backup, which has no parcels: built again."""
        rig = self.delivered(1)
        rig.world.fault("up.import", Fail("transient"))
        self.assertEqual(rig.ask("key.rebuild")[1], 0)
        rig.wait_for(lambda: rig.world.counts.get("up.import", 0) > 1 or
                     rig.sql("SELECT 1 FROM rebuild WHERE state = 'SEALED'"))
        rig.edit("DELETE FROM parcel")
        self.rebuild(rig)
        self.check_all(rig, 2, 1, once=False)


if __name__ == "__main__":
    main()
