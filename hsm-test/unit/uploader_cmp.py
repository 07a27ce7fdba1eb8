"""pfx-uploader with a CA of one's own: by CMP against the simulator."""

import os
import subprocess
import sys
import threading
import time
import unittest

import uploader_rig
from simclient import EC_KEY, RSA_KEY
from uploader_rig import b64
from uploader_cmp_rig import ADVICE, REFERENCE, SECRET, CmpRig, request

import cmp
import pki
from cryptography import x509


class OwnCa(CmpRig):
    """A CA that issues for whatever key it is asked."""

    @classmethod
    def start_ca(cls):
        cls.ca, cls.server, url = cmp.start(cls.dir, cls.tls)
        cls.addClassCleanup(cls.stop_ca)
        cls.options.update({"cmp.url": url, "cmp.profile": "smime",
                            "cmp.ca_cert": os.path.join(cls.dir, "cmp-issuing.pem")})

    @classmethod
    def stop_ca(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def setUp(self):
        super().setUp()
        self.turn()

    def turn(self, **knobs):
        self.ca.turn(dict({"secret": SECRET, "profile": "smime"}, **knobs))

    def seen(self):
        return [name for name, _ in self.ca.state()["seen"]]


class Secret(OwnCa):
    """Each test has a program of its own: one that doubts its secret often rests for a while."""

    def end_program(self):
        if self.program is not None and self.program.poll() is None:
            self.assertTrue(self.agent.ready.wait(uploader_rig.WAIT))
            self.stop_program()

    def setUp(self):
        super().setUp()
        self.end_program()
        self.agent.ready.clear()
        self.agent.credit = threading.Semaphore(0)
        self.broker.asked.clear()
        self.run_program()

    def test_wrong_secret(self):
        """What such a CA says can't be trusted, so the message is ours, and names the way out."""
        self.broker.key = "another-secret"
        error = self.bad("integrity", "up.order", ADVICE, "cmp.reference", **self.job())
        self.assertEqual("protection", error["code"])
        self.assertEqual(2, len(self.broker.asked))  # once more, should it have been changed
        self.assertEqual(1, len(self.seen()))        # it wasn't
        self.assertEqual({}, self.ca.state()["issued"])
        self.broker.key = SECRET
        self.good("up.order", **self.job())

    def test_changed_secret(self):
        """`secret set` while the old one is still held: found by itself."""
        self.good("up.order", **self.job())
        self.good("up.order", **self.job())
        self.assertEqual(1, len(self.broker.asked))
        self.turn(secret="the-new-one with a space")
        self.broker.key = "the-new-one with a space"
        answers = [self.agent.start("up.order", **self.job()) for _ in range(8)]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])
        self.assertEqual(2, len(self.broker.asked))  # once for all of them

    def test_refused_for_another_reason(self):
        """Who can protect a refusal has the same secret: it isn't fetched again."""
        self.turn(reject=["who are you", 23])
        error = self.bad("refused", "up.order", "who are you", ADVICE, **self.job())
        self.assertEqual("notAuthorized", error["code"])
        self.assertEqual(1, len(self.broker.asked))
        self.assertEqual(["p10cr"], self.seen())

    def test_setup(self):
        self.broker.key = "another-secret"
        rows = self.good("up.setup_ca", products=[])["findings"]
        self.assertEqual("bad", rows[0]["level"])
        self.assertIn(ADVICE, rows[0]["text"])

    def test_start(self):
        """What is wrong with the CA's file or name is said at the start."""
        self.end_program()
        right = dict(self.options)
        self.addCleanup(self.options.update, right)
        pki.write_file(os.path.join(self.dir, "garbage.pem"), b"-----BEGIN CERTIFICATE-----")
        pki.write_file(os.path.join(self.dir, "leaf.pem"), pki.pem(self.ca.issue(
            x509.load_der_x509_csr(request()))))
        for option, value, words in (
                ("cmp.ca_cert", os.path.join(self.dir, "missing.pem"), "ENOENT"),
                ("cmp.ca_cert", os.path.join(self.dir, "garbage.pem"), "torn"),
                ("cmp.ca_cert", os.path.join(self.dir, "leaf.pem"), "isn't one of a CA"),
                ("cmp.recipient", "CN=without a slash", "/O=Example/CN=Internal CA"),
                ("cmp.recipient", "/CN", "/O=Example/CN=Internal CA"),
                ("cmp.recipient", "/Nonsense=x", "/O=Example/CN=Internal CA")):
            with self.subTest(words):
                self.options.update(right, **{option: value})
                self.run_program()
                self.assertEqual(2, self.program.wait(20))
                self.assertIn(option, self.log_text())
                self.assertIn(words, self.log_text())
                self.log.close()
        type(self).program = None
        self.options.pop("cmp.recipient")

    def test_end_while_waiting(self):
        """The program ends at once although transactions are in the middle."""
        self.turn(waits=100, check_after=1)
        for _ in range(3):
            self.agent.start("up.order", **self.job())
        while len(self.seen()) < 3:
            time.sleep(0.05)
        start = time.monotonic()
        self.stop_program()
        self.assertLess(time.monotonic() - start, 3)


class Gone(OwnCa):
    """The CA goes away."""

    def test_gone(self):
        """In the middle of a transaction: what isn't sent then doesn't make the order unsent."""
        self.turn(waits=2, check_after=1, close=True)
        answer = self.agent.start("up.order", **self.job())
        while len(self.seen()) < 2:
            time.sleep(0.05)
        self.stop_ca()
        ended = answer.get(timeout=30)
        self.assertEqual("lost", ended["class"], ended)
        self.assertIn("No answer from CMP server", ended["error"]["text"])
        self.bad("transient", "up.order", "No answer from CMP server", **self.job())


class Simulated(OwnCa):
    """Everything that one program can be asked."""

    # --- the simulator itself ----------------------------------------------------------------

    def test_simulator_by_openssl(self):
        """Other people's client takes what the simulator sends, and sees what is spoiled."""
        def ask(*more):
            files = {name: os.path.join(self.scratch.name, name)
                     for name in ("csr", "secret", "out")}
            pki.write_file(files["csr"], pki.armor("CERTIFICATE REQUEST", request()))
            pki.write_file(files["secret"], SECRET.encode())
            command = ["openssl", "cmp", "-config", "", "-cmd", "p10cr", "-csr", files["csr"],
                       "-server", self.options["cmp.url"][:-len("/pkix")], "-path", "pkix",
                       "-tls_used", "-tls_trusted", os.path.join(self.dir, "tls-ca.pem"),
                       "-ref", REFERENCE, "-secret", "file:" + files["secret"],
                       "-mac", "hmacWithSHA256", "-recipient", "/CN=x", "-certout", files["out"]]
            done = subprocess.run(command + list(more), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=30, check=False)
            return done.returncode
        for knobs, good in (({}, True), ({"implicit": False}, True), ({"waits": 1}, True),
                            ({"protection": "none"}, False), ({"protection": "wrong"}, False),
                            ({"protection": "broken"}, False), ({"key": "wrong"}, False)):
            with self.subTest(knobs):
                self.turn(profile=None, **knobs)
                self.assertEqual(good, ask("-implicit_confirm") == 0)

    # --- orders ------------------------------------------------------------------------------

    def test_order(self):
        for implicit in (True, False):
            for key in (EC_KEY, RSA_KEY):
                with self.subTest(implicit=implicit, key=key):
                    self.turn(implicit=implicit)
                    job = self.job(key)
                    body = self.good("up.order", **job)
                    self.assertEqual("issued", body["status"])
                    self.assertTrue(0 < body["order_id"] < 1 << 52)
                    self.assertEqual(key.public_key().public_numbers(),
                                     self.leaf(body).public_key().public_numbers())
                    self.assertEqual(1, len(body["chain"]))  # without the root
                    self.verify(body, os.path.join(self.dir, "cmp-root.pem"))
                    self.assertEqual(["p10cr"] if implicit else ["p10cr", "certConf"], self.seen())
                    self.assertEqual(0 if implicit else 1, len(self.ca.state()["confirmed"]))

    def test_number_follows_from_token(self):
        job = self.job()
        first = self.good("up.order", **job)
        again = self.good("up.order", **dict(job, token=job["token"].upper()))
        other = self.good("up.order", **self.job())
        self.assertEqual(first["order_id"], again["order_id"])
        self.assertNotEqual(first["order_id"], other["order_id"])
        seen = [transaction for _, transaction in self.ca.state()["seen"]]
        self.assertEqual(2, len(set(seen)))
        self.assertEqual(seen[0], seen[1])

    def test_many_at_once(self):
        self.turn(waits=2, implicit=False)
        answers = [self.agent.start("up.order", **self.job()) for _ in range(20)]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])

    def test_chain_without_extra_certificates(self):
        self.turn(extra=0)
        self.verify(self.good("up.order", **self.job()), os.path.join(self.dir, "cmp-root.pem"))

    def test_profile(self):
        self.turn(profile="another")
        self.bad("refused", "up.order", "no such profile", **self.job())

    def test_protection(self):
        for how in ("none", "wrong", "broken", "signed"):
            for about in ("p10cr", "certConf", "pollReq"):
                with self.subTest(how, about=about):
                    self.turn(protection=how, answer_to=about, implicit=False, waits=1)
                    error = self.bad("integrity", "up.order", ADVICE, **self.job())
                    self.assertEqual("protection", error["code"])
                    self.assertEqual(1, self.seen().count("p10cr"))  # not issued once more

    def test_answer_to_something_else(self):
        for how, words in (("transaction", "transactionid unmatched"),
                           ("nonce", "recipnonce unmatched")):
            for about in ("p10cr", "certConf", "pollReq"):
                with self.subTest(how, about=about):
                    self.turn(header=how, answer_to=about, implicit=False, waits=1)
                    self.bad("integrity", "up.order", words, **self.job())

    def test_expensive_protection(self):
        """Deriving its key would take minutes, in which nothing else would go on."""
        self.turn(count=2 ** 31 - 1)
        start = time.monotonic()
        self.bad("integrity", "up.order", ADVICE, **self.job())
        self.assertLess(time.monotonic() - start, 3)

    # --- certificates that weren't asked for -------------------------------------------------

    def test_wrong_certificate(self):
        for knob, code, words in (("key", "key", "another public key"),
                                  ("issuer", "chain", "cmp.ca_cert")):
            for implicit in (True, False):
                with self.subTest(knob, implicit=implicit):
                    self.turn(implicit=implicit, **{knob: "wrong"})
                    error = self.bad("integrity", "up.order", words, **self.job())
                    self.assertEqual(code, error["code"])
                    refused = self.ca.state()["refused"]
                    self.assertEqual([] if implicit else 1, refused if implicit else len(refused))

    def test_wrong_certificate_and_no_answer_to_that(self):
        """That the CA doesn't hear the last word changes nothing of what was wrong."""
        for how in ("lost", "http", "garbage"):
            with self.subTest(how):
                self.turn(implicit=False, key="wrong", answer=how, answer_to="certConf")
                self.bad("integrity", "up.order", "another public key", **self.job())

    def test_too_much(self):
        for knobs, words in (({"extra": 40}, "more than 32"), ({"padding": 33000}, "32 KiB"),
                             ({"padding": 300000}, "256 KiB")):
            with self.subTest(words):
                self.turn(**knobs)
                self.bad("integrity", "up.order", words, **self.job())

    # --- refusals ----------------------------------------------------------------------------

    def test_rejected(self):
        for bit, cls, code, words in (
                (19, "refused", "badCertTemplate", "profile"), (0, "refused", "badAlg", "SHA-256"),
                (24, "transient", "systemUnavail", "again"), (3, "refused", "badTime", "clock"),
                (6, "refused", "wrongAuthority", "cmp.recipient"),
                (5, "refused", "badDataFormat", ""), (26, "integrity", "duplicateCertReq", "find"),
                (None, "refused", "rejection", "log")):
            with self.subTest(code):
                self.turn(reject=["Nicht \u00fcber 3 Jahre\n\u202e!", bit])
                error = self.bad(cls, "up.order", "Nicht \u00fcber 3 Jahre ?!", words, **self.job())
                self.assertEqual(code, error["code"])

    # --- waiting -----------------------------------------------------------------------------

    def test_waiting(self):
        for waits, check_after, least in ((3, 0, 0.9), (2, 1, 0.9)):
            self.turn(waits=waits, check_after=check_after, implicit=False)
            start = time.monotonic()
            self.good("up.order", **self.job())
            self.assertEqual(["p10cr"] + waits * ["pollReq"] + ["certConf"], self.seen())
            self.assertGreater(time.monotonic() - start, least)

    def test_waiting_too_long(self):
        self.turn(waits=2, check_after=3600)
        job = self.job()
        error = self.bad("lost", "up.order", "limits.job_timeout", "approve", **job)
        self.assertEqual("waiting", error["code"])
        self.turn()  # approved meanwhile
        self.assertTrue(self.good("up.order_settle", **self.settle(job))["found"])

    # --- lost and spoiled answers ------------------------------------------------------------

    def test_lost(self):
        for how in ("lost", "http", "html"):
            for about in ("p10cr", "certConf", "pollReq"):
                with self.subTest(how, about=about):
                    self.turn(answer=how, answer_to=about, implicit=False, waits=1)
                    job = self.job()
                    self.bad("lost", "up.order", "the same one is sent again", **job)
                    self.ca.knobs["answer"] = "right"
                    self.ca.knobs["waits"] = 0
                    body = self.good("up.order_settle", **self.settle(job))
                    self.assertTrue(body["found"])
                    state = self.ca.state()
                    self.assertEqual(1, len(state["issued"]))  # one transaction
                    self.assertEqual(self.leaf(body).serial_number, *state["issued"].values())
                    self.assertEqual(self.good("up.order", **job)["order_id"], body["order_id"])
        self.verify(body, os.path.join(self.dir, "cmp-root.pem"))

    def test_no_more_after_the_request(self):
        """Once the CA has taken it, no later failure says that nothing was issued."""
        for how, cls in (("forbidden", "integrity"), ("failure", "lost")):
            with self.subTest(how):
                self.turn(answer=how, answer_to="certConf", implicit=False)
                self.bad(cls, "up.order", **self.job())
        self.turn(answer="forbidden", answer_to="pollReq", waits=1)
        self.bad("integrity", "up.order", **self.job())
        self.turn(answer="forbidden")
        self.bad("refused", "up.order", **self.job())
        self.turn(answer="failure")
        self.bad("transient", "up.order", "out of order", **self.job())

    def test_settle_of_a_known_transaction(self):
        job = self.job()
        self.good("up.order", **job)
        self.ca.knobs["in_use"] = True
        error = self.bad("integrity", "up.order_settle", "retry", **self.settle(job))
        self.assertEqual("transactionIdInUse", error["code"])

    def test_settle_without_request(self):
        job = self.job()
        del job["csr"]
        self.assertEqual({"found": False}, self.good("up.order_settle", **self.settle(job)))

    def test_spoiled(self):
        for how, words in (("empty", "empty"), ("garbage", "PKIMessage"),
                           ("trailing", "PKIMessage"), ("long", "256 KiB"),
                           ("waiting", "waiting"), ("ber", "waiting"), ("nothing", "used")):
            with self.subTest(how):
                self.turn(answer=how)
                self.bad("integrity", "up.order", words, **self.job())

    def test_order_of_another_ca(self):
        job = self.job(product="secure_email_mailbox")
        self.bad("refused", "up.order", "product: internal", **job)
        self.bad("refused", "up.order_settle", "DigiCert", **self.settle(job))
        self.bad("refused", "up.download", "DigiCert", order_id=123456789, spki=self.spki(),
                 csr=job["csr"], token=job["token"])
        self.assertEqual([], self.seen())

    def test_broken_request(self):
        raw = bytearray(request())
        raw[60] ^= 1
        self.bad("refused", "up.order", "request", **self.job(csr=b64(bytes(raw))))
        self.assertEqual([], self.seen())

    # --- the other jobs ----------------------------------------------------------------------

    def test_download(self):
        job = self.job()
        number = self.good("up.order", **job)["order_id"]
        body = {"order_id": number, "spki": self.spki()}
        self.bad("refused", "up.download", "order again", **body)
        again = self.good("up.download", csr=job["csr"], token=job["token"], **body)
        self.verify(again, os.path.join(self.dir, "cmp-root.pem"))

    def test_what_cmp_has_nothing_for(self):
        self.assertEqual({"orders": []}, self.good("up.order_changes", minutes=5))
        self.assertEqual({"orders": []}, self.good("up.orders"))
        self.assertEqual({"order_id": 5, "status": "issued"},
                         self.good("up.order_info", order_id=5))
        self.assertEqual({"validated": [], "unvalidated": []},
                         self.good("up.order_validation", order_id=5))
        self.bad("refused", "up.order_cancel", "Revoke", order_id=5, note="n")
        self.bad("refused", "up.order_resend", "no mail", order_id=5)
        self.bad("refused", "up.order_revoke", "own tools", order_id=5, comment="c")
        self.assertEqual([], self.seen())

    def test_setup(self):
        products = [{"rule": "a", "product": "internal", "custom_fields": []},
                    {"rule": "b", "product": "class1_smime", "custom_fields": []}]

        def levels(**knobs):
            self.turn(**knobs)
            rows = self.good("up.setup_ca", products=products)["findings"]
            self.assertEqual(["rule a", "rule b"], [r["what"] for r in rows[-2:]])
            self.assertEqual(["ok", "bad"], [r["level"] for r in rows[-2:]])
            return rows[0]["level"], rows[0]["text"]
        self.assertEqual("ok", levels()[0])
        self.assertEqual("ok", levels(genm=["not done here", 2])[0])
        level, text = levels(genm=["too late", 3])
        self.assertEqual("warn", level)
        self.assertIn("clock", text)
        level, text = levels(answer="garbage", answer_to="genm")
        self.assertEqual("bad", level)
        self.assertNotIn("issued", text)
        level, text = levels(answer="lost", answer_to="genm")
        self.assertEqual("bad", level)
        self.assertIn("No answer from CMP server", text)
        self.assertNotIn("sent again", text)


if __name__ == "__main__":
    uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
