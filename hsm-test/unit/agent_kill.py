"""pfx-agentd is killed at every point of the flow's table, its arms too; nothing is doubled."""

import os
import sys
import threading

sys.dont_write_bytecode = True
from agent_case import FlowCase, main  # noqa: E402
from agent_rig import Fail, GROUP, RULE, Silent  # noqa: E402

# Every job of the flow's table and of a pass; the settle variants come about by losing answers.
FLOW = ["hsm.key_csr", "up.order", "up.order_changes", "up.download", "hsm.build_seal", "up.import",
        "up.readback"]
PASS = ["up.members", "up.records"]
SETTLE = ["up.order_settle", "up.import_settle"]
# After the delivery, by what brings them about; and kinds that nothing in the store depends on, or
# that others' tests kill at.
AFTER = ["up.order_revoke", "up.remove", "up.orders", "up.order_info"]
HARMLESS = ["hsm.report", "hsm.log", "up.order_validation", "up.order_cancel", "up.order_resend",
            "up.setup_ca", "up.setup_entra", "up.mailboxes", "up.mailbox_rights",
            "hsm.key_destroy", "hsm.rewrap"]  # agent_discard and agent_rewrap kill there
POINTS = ["job", "done", "ack"]


class KillPoints(FlowCase):
    def alone_with_alice(self):
        rig = self.rig()
        self.group(rig, "alice")
        return rig

    def lose_answers(self, rig):
        world = rig.world

        def buy_and_lose(body):
            world.place(body)
            raise Fail("lost", "time-out")

        def import_and_lose(body):
            world.up_import(body)
            raise Fail("lost", "time-out")
        world.fault("up.order", buy_and_lose)
        world.fault("up.import", import_and_lose)

    def one(self, kind, point, rebirth):
        with self.world(schedule={"poll_every": "100ms", "settle_grace": "300ms"}) as rig:
            rig.world.groups[GROUP] = [rig.world.user("alice")]
            if kind in SETTLE:
                self.lose_answers(rig)
            hit = threading.Event()
            role = kind.split(".")[0].replace("up", "uploader")
            arm = rig.arms[role]

            def hook(at, what, _job):
                if at == point and what == kind and not hit.is_set():
                    rig.kill()
                    if rebirth:
                        arm.reborn()
                    hit.set()
            arm.hook = hook

            def run():
                try:
                    rig.run_once(wait=20)
                except Exception:  # the line breaks with the daemon
                    pass
            thread = threading.Thread(target=run)
            thread.start()
            self.assertTrue(hit.wait(10), "the point was never reached")
            rig.start()
            thread.join()
            # A killed pass is taken up again by itself, and so is everything else. Only an order
            # that may have left and that the CA doesn't know waits for a person.
            try:
                rig.wait_for(lambda: rig.states() in (["ACTIVE"], ["HELD"]), 15)
            except AssertionError:
                self.fail("%s, history: %s\n%s" % (
                    rig.states(), rig.enrolments() and rig.show(1)["history"], rig.log()))
            if kind == "up.order" and point == "job" and rebirth:
                self.assertEqual(rig.states(), ["HELD"])
            if rig.states() == ["HELD"]:
                self.assertEqual(rig.world.bought, [])
                self.assertIn("lost order", rig.enrolments()[0]["why"])
                self.assertEqual(rig.ask("enrolment.release", enrolment=1)[1], 0)
                rig.wait_for(lambda: rig.states() == ["ACTIVE"], 15)
            self.assertEqual(len(rig.world.bought), 1, "bought twice or never")
            self.assertEqual(len(set(rig.world.bought)), len(rig.world.bought))
            self.assertEqual(len(rig.world.records), 1)
            self.assertEqual(rig.sql("SELECT count(*) FROM parcel")[0][0], 0)
            self.told_once(rig)

    def told_once(self, rig):
        """What was done is in the operation log, and once only."""
        rig.wait_for(lambda: not rig.sql("SELECT 1 FROM note"))
        told = [note["event"] for note in rig.world.oplog]
        for event in ("order.placed", "certificate.received", "upload.confirmed"):
            self.assertEqual(told.count(event), 1, told)
        self.assertEqual(told.count("agentd.start"), 2)
        self.assertNotIn("log.dropped", told)

    def every(self, kinds, rebirth):
        self.each([(kind, point, rebirth) for kind in kinds for point in POINTS], self.one)

    def test_agentd_killed(self):
        self.every(FLOW + PASS + SETTLE, False)

    def test_agentd_and_arm_killed(self):
        self.every(FLOW + PASS + SETTLE, True)

    def after(self, kind, point, rebirth):
        """A revoked certificate is removed from Intune, whoever dies meanwhile, and once only."""
        with self.world(rules=[dict(RULE, on_revoked="remove")], schedule={
                "sweep_every": "1h", "retry_min": "50ms"}) as rig:
            world = rig.world
            world.groups[GROUP] = [world.user("alice")]
            rig.run_once()
            self.assertEqual(rig.states(), ["ACTIVE"])
            hit = threading.Event()
            arm = rig.arms["uploader"]

            def hook(at, what, _job):
                if at == point and what == kind and not hit.is_set():
                    rig.kill()
                    if rebirth:
                        arm.reborn()
                    hit.set()
            if kind == "up.orders":
                rig.kill()
                arm.hook = hook
                world.orders[5000]["status"] = "revoked"
                rig.edit("UPDATE meta SET value = value - 8 * 86400000"
                         " WHERE key IN ('poll_ok', 'poll_answered')")
            else:
                arm.hook = hook
                try:
                    rig.ask("enrolment.revoke", enrolment=1, reason="test")
                except Exception:  # the line breaks with the daemon
                    pass
            self.assertTrue(hit.wait(10), "the point was never reached")
            rig.start()
            rig.wait_for(lambda: rig.states() == ["ENDED"] and not world.records and
                         rig.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'") == [(0,)], 15)
            self.assertEqual(rig.sql("SELECT count(*) FROM removal WHERE gone_at IS NOT NULL"),
                             [(1,)])
            rig.run_once()
            self.assertEqual((rig.states(), len(world.bought)), (["ENDED"], 1))

    def test_killed_after_the_delivery(self):
        self.each([(kind, point, rebirth) for kind in AFTER for point in POINTS
                   for rebirth in (False, True)], self.after)

    def test_every_kind_is_known(self):
        """A new kind of job must be killed at, or be said to be harmless here."""
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "api",
                               "wire", "jobs.c"), encoding="utf-8") as file:
            source = file.read()
        table = source[source.index("pfx_wire_jobs[] = {"):]
        kinds = {part.split('"')[1] for part in table.split("\n") if '{"' in part}
        self.assertTrue(kinds, "the table wasn't found")
        known = set(FLOW + PASS + SETTLE + AFTER + HARMLESS)
        self.assertEqual(kinds - known, set())

    def test_table_is_complete(self):
        """Every job kind that pfx-agentd gives out in the flow has been killed at."""
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "agent",
                               "flow.c"), encoding="utf-8") as file:
            source = file.read()
        table = source[source.index("pfx_flow[] = {"):source.index("pfx_flow_rows")]
        kinds = {part.split('"')[1] for part in table.split("{PFX_")[1:] if '"' in part}
        self.assertTrue(kinds, "the table wasn't found")
        self.assertLessEqual(kinds, set(FLOW + SETTLE))

    def test_arm_dies_with_the_order(self):
        """Bought, and the uploader died before it could answer: found, not bought again."""
        rig = self.alone_with_alice()
        world = rig.world
        arm = rig.arms["uploader"]
        once = []

        def buy_and_die(body):
            world.place(body)
            once.append(1)
            arm.reborn()
            raise Silent()
        world.fault("up.order", buy_and_die)
        _, code, _ = rig.run_once(wait=20)
        self.assertEqual((code, rig.states(), len(world.bought)), (0, ["ACTIVE"], 1))
        self.assertEqual(world.counts["up.order"], 1)

    def test_never_received(self):
        """The same process says that it doesn't hold a job: given out again as it was."""
        rig = self.alone_with_alice()
        world = rig.world
        arm = rig.arms["uploader"]

        def forget(body):
            arm.places.clear()
            arm.line.sock.shutdown(2)
            raise Silent()
        world.fault("up.download", forget)
        world.fault("up.import", forget)
        _, code, _ = rig.run_once(wait=20)
        self.assertEqual((code, rig.states()), (0, ["ACTIVE"]))
        self.assertEqual(world.counts["up.download"], 2)
        self.assertEqual(world.counts["up.import"], 2)
        self.assertNotIn("up.import_settle", world.counts)

    def test_held_job_stays_out(self):
        """The line breaks while the arm works: the job isn't given out twice."""
        rig = self.alone_with_alice()
        world = rig.world
        arm = rig.arms["uploader"]

        def slow(body):
            arm.line.sock.shutdown(2)
            answer = world.up_order(body)
            return answer
        world.fault("up.order", slow)
        _, code, _ = rig.run_once(wait=20)
        self.assertEqual((code, rig.states(), len(world.bought)), (0, ["ACTIVE"], 1))
        self.assertNotIn("up.order_settle", world.counts)


if __name__ == "__main__":
    main()
