"""What the arms may answer, class by class and lie by lie, and what pfx-agentd makes of it."""

import sys

from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.dont_write_bytecode = True
from agent_case import FlowCase, main  # noqa: E402
from agent_rig import Fail, b64  # noqa: E402


class Answers(FlowCase):
    """Each class of answer to each job of the flow."""

    JOBS = {"hsm.key_csr": ("NEW", "FAILED"), "up.order": ("KEYED", "HELD"),
            "up.download": ("ISSUED", "HELD"), "hsm.build_seal": ("CHECKED", "HELD"),
            "up.import": ("SEALED", "HELD"), "up.readback": ("IMPORTED", "ACTIVE")}

    def test_every_class_in_every_state(self):
        classes = ("transient", "device", "lost", "refused", "integrity", "internal", "usage")
        self.each([(kind, cls) for kind in self.JOBS for cls in classes], self.one)

    def one(self, kind, cls):
        with self.world() as rig:
            self.answered(rig, kind, cls, self.JOBS[kind][1])

    def answered(self, rig, kind, cls, refused):
        self.group(rig, "alice")
        rig.world.fault(kind, Fail(cls))
        rig.run_once(wait=8)
        if cls == "refused":
            expected = refused
        elif cls in ("integrity", "internal", "usage"):
            expected = "HELD"
        elif cls == "lost" and kind == "up.order":
            expected = "HELD"  # nothing was bought, so nothing is found
        else:
            expected = "ACTIVE"
        self.assertEqual(rig.states(), [expected])
        self.assertLessEqual(len(rig.world.bought), 1)
        if expected == "HELD":
            self.assertIn("retry", rig.enrolments()[0]["next"])
            self.assertEqual(rig.ask("enrolment.retry", enrolment=1)[1], 0)
            if kind == "up.order" and cls in ("lost", "integrity", "internal"):
                rig.wait_for(lambda: rig.states() == ["HELD"])
                self.assertEqual(rig.world.counts["up.order"], 1, "only a release orders again")
                rig.ask("enrolment.release", enrolment=1)
            rig.run_once(wait=8)
            self.assertEqual(rig.states(), ["ACTIVE"])
        self.assertLessEqual(len(rig.world.bought), 1)

    def test_foreign_certificate(self):
        rig = self.rig()
        world = rig.world
        self.group(rig, "alice", "mallory")

        def foreign(body):
            return world.up_download({"order_id": body["order_id"] ^ 1})
        world.fault("up.download", foreign, foreign)
        _, code, _ = rig.run_once()
        self.assertEqual((code, rig.states()), (1, ["HELD", "HELD"]))
        self.assertIn("key", rig.enrolments()[0]["why"])

    def test_wrong_certificates(self):
        def made(world, **changes):
            def download(body):
                order = world.orders[body["order_id"]]
                emails = changes.get("emails", order["emails"])
                leaf = world.certify(serialization.load_der_public_key(order["spki"]),
                                     x509.Name([]), emails, days=changes.get("days", 365),
                                     usage=changes.get("usage", "signing"))
                return {"leaf": b64(leaf), "chain": []}
            return download

        def one(word, changes):
            with self.world() as rig:
                self.group(rig, "alice")
                rig.world.fault("up.download", made(rig.world, **changes))
                rig.run_once()
                self.assertEqual(rig.states(), ["HELD"])
                self.assertIn("(%s)" % word, rig.enrolments()[0]["why"])
        self.each([("addresses", {"emails": ["alice@example.com", "boss@example.com"]}),
                   ("validity", {"days": 90}), ("validity", {"days": 3000}),
                   ("key usage", {"usage": "encryption"})], one)

    def test_lies_of_the_arms(self):
        lies = {
            "hsm.key_csr": lambda w, b: dict(w.hsm_key_csr(b), spki=w.hsm_key_csr(
                dict(b, attempt=99))["spki"]),
            "hsm.build_seal": lambda w, b: dict(w.hsm_build_seal(b), pfx_sha256="A" * 43 + "="),
            "up.import": lambda w, b: dict(w.up_import(b), record_id="someone-else"),
            "up.order": lambda w, b: {"unknown": 1},
        }

        def one(kind):
            with self.world() as rig:
                self.group(rig, "alice")
                rig.world.fault(kind, lambda body: lies[kind](rig.world, body))
                _, code, _ = rig.run_once()
                self.assertEqual((code, rig.states()), (1, ["HELD"]))
        self.each([(kind,) for kind in lies], one)

    def test_readback_differs(self):
        def one(member, value):
            with self.world() as rig:
                self.group(rig, "alice")

                def wrong(body):
                    answer = rig.world.up_readback(body)
                    answer["record"] = dict(answer["record"], **{member: value})
                    return answer
                rig.world.fault("up.readback", wrong)
                rig.run_once(wait=5)
                self.assertEqual(rig.states(), ["ACTIVE"])
                self.assertEqual(rig.world.counts["up.import"], 2)
        self.each([("thumbprint", "00" * 20), ("purpose", "smimeEncryption"),
                   ("key_name", "other"), ("provider_name", "other"),
                   ("padding", "oaepSha256"), ("expires", 1000)], one)

    def test_readback_never_there(self):
        rig = self.rig()
        self.group(rig, "alice")
        absent = [lambda body: {"present": False}] * 3
        rig.world.fault("up.readback", *absent)
        _, code, _ = rig.run_once(wait=5)
        self.assertEqual((code, rig.states()), (1, ["HELD"]))
        rig.ask("enrolment.retry", enrolment=1)
        rig.run_once(wait=5)
        self.assertEqual(rig.states(), ["ACTIVE"])

    def test_hsm_not_ready(self):
        rig = self.rig()
        rig.world.ready = False
        self.group(rig, "alice")
        rig.world.fault("hsm.key_csr", *[Fail("device", "no login")] * 3)
        rig.run_once(wait=5)
        shown = [i for i in rig.ask("status")[0] if i["kind"] == "trouble" and i["name"] == "hsm"]
        self.assertIn("pfx-agent init", shown[0]["what"])

    def test_directory_away(self):
        rig = self.rig()
        self.group(rig, "alice", "bob", "carol")
        rig.world.fault("up.members", Fail("transient"), None, Fail("lost"))
        rig.world.fault("up.records", Fail("transient"))
        _, code, _ = rig.run_once()
        self.assertEqual((code, rig.states()), (0, ["ACTIVE"] * 3))

    def test_poll_refused(self):
        rig = self.rig(schedule={"poll_every": "1h"})
        self.group(rig, "alice")
        rig.world.fault("up.order_changes", Fail("refused", "bad key", "401"))
        items, code, _ = rig.run_once()
        self.assertEqual((code, rig.states()), (1, ["ORDERED"]))
        self.assertTrue([i for i in items if i["kind"] == "trouble" and i["name"] == "poll"])


if __name__ == "__main__":
    main()
