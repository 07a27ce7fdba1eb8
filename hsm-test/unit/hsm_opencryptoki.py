"""opencryptoki's soft token: which roles it plays, which it is refused for and in which words.

Runs under hsm-test/tools/opencryptoki.py, which gives it a state of its own.
"""

import time
import unittest

import hsm_flow
import hsm_rig as rig
from hsm_rig import Rig, tokens

rig.LEAKS = False
OCK, SOFTHSM = tokens.Opencryptoki, tokens.Softhsm
WRAPPED = ("users.keys of the policy is wrapped, and the token gives back no key of users.key_types "
           "as it was. Set 'users.keys: token', or take another token")


class Opencryptoki(unittest.TestCase):
    """PFX_TOKEN is softhsm here; single roles are put on opencryptoki."""

    def why_not(self, r, words):
        until = time.time() + 60
        text = ""
        while words not in text and time.time() < until:
            text = r.agent.do("hsm.report").get("body", {}).get("why_not", "")
            time.sleep(0.2)
        self.assertIn(words, text)

    def refused_at_init(self, r, words):
        """Refused with these words, at the start and at init, and no token has got a key."""
        self.why_not(r, words)
        items, end = r.admin("init", encryption_pin=r.pin("encryption"))
        self.assertEqual((end["exit"], end["error"]["class"]), (4, "refused"), end)
        self.assertIn(words, end["error"]["text"])
        self.assertFalse([i for i in items if i["kind"] in ("key", "certificate")], items)
        rows, end = r.admin("hsm.test")
        self.assertEqual(end["exit"], 1, end)
        self.assertTrue([x for x in rows if x["kind"] == "refused"], rows)
        for role in rig.ROLES:
            for kind in ("privkey", "pubkey", "secrkey"):
                self.assertEqual(r.count(role, kind), 0, (role, kind))

    def test_log_role_is_refused(self):
        r = Rig(kinds={"log": OCK}).start()
        try:
            self.refused_at_init(
                r, "For the role log it lacks: ECDSA with P-256 for the log key. Another token or "
                   "other settings of this one are needed; pfx-agent hsm test shows all.")
        finally:
            self.assertEqual(r.close(), 0)

    def test_wrapped_keys_are_refused(self):
        """They would come back extractable and in the clear."""
        r = Rig(kinds={"users": OCK}, keys="wrapped").start()
        try:
            self.refused_at_init(r, WRAPPED)
        finally:
            self.assertEqual(r.close(), 0)

    def test_two_tokens_are_refused(self):
        """A login to one would be a login to both, and the second one's keys would be lost."""
        r = Rig(kinds={"users": OCK, "encryption": OCK}).start()
        try:
            items, end = r.admin("init", encryption_pin=r.pin("encryption"))
            self.assertEqual((end["exit"], end["error"]["class"]), (4, "refused"), end)
            self.assertIn("The login to the token users counts for this one too", end["error"]["text"])
            self.assertIn("Put all roles of this module on one token", end["error"]["text"])
            self.assertFalse([i for i in items if i["kind"] in ("key", "certificate")], items)
        finally:
            self.assertEqual(r.close(), 0)
        r = Rig(kinds={"users": OCK, "service": OCK}).start()
        try:
            self.why_not(r, "The login to the token users counts for this one too")
        finally:
            self.assertEqual(r.close(), 0)

    def test_the_other_three_roles(self):
        """RSA keys, direct; EC keys are refused; the log stays on SoftHSM."""
        three = ("encryption", "users", "service")
        r = Rig(kinds=dict.fromkeys(three, OCK), labels=dict.fromkeys(three, "users"),
                lowest_tier="direct").start()
        try:
            items = r.init()
            self.assertTrue([i for i in items if "encryption not separated" in i["text"]], items)
            pem = next(i["pem"] for i in items if i["kind"] == "certificate")
            for number, key_type in enumerate(("rsa-2048", "rsa-3072"), 1):
                _, built, _ = hsm_flow.Flow.enrol(self, r, number, key_type)
                self.assertEqual(built["tier"], "direct")
            answer = r.key_csr(3, key_type="ec-p256")
            self.assertEqual(answer["class"], "refused", answer)
            self.assertIn("the users token can't make such keys", answer["error"]["text"])
            # transport, secrets, client and encryption key
            self.assertEqual(r.count("users", "privkey"), 2 + 4)
            rows, end = r.broker("assertion", app="main")
            self.assertEqual(end["exit"], 0, end)
            hsm_flow.verify_jwt(self, rows[0]["assertion"], pem, True)
            r.admin("secret.set", name="digicert", value="A_key-0123456789")
            rows, _ = r.broker("secret", name="digicert")
            self.assertEqual(rows[0]["value"], "A_key-0123456789")
            # All keys are found again, and are as they were.
            r.stop()
            r.start()
            self.assertTrue(r.key_csr(4)["class"] == "ok", r.logged())
            r.init()
        finally:
            self.assertEqual(r.close(), 0)

    def test_keys_never_leave_in_the_clear(self):
        """What pkcs11-tool sees of a user key: sensitive, never extractable but by wrapping."""
        r = Rig(kinds={"users": OCK}).start()
        try:
            r.init()
            self.assertEqual(r.key_csr(1)["class"], "ok")
            listing = r.p11("users", "--list-objects", "--type", "privkey").decode()
            for part in listing.split("Private Key Object")[1:]:
                access = next(l for l in part.splitlines() if "Access:" in l)
                self.assertIn("sensitive", access)
                self.assertEqual("extractable" in access.replace("never extractable", ""),
                                 "pfx-agent user" in part, part)
        finally:
            self.assertEqual(r.close(), 0)

    def test_wrong_pin_never_locks(self):
        """The third wrong PIN locks this token: pfx-hsm uses one, however often it is started."""
        r = Rig(kinds={"users": OCK}).start()
        try:
            r.init()
            r.stop()
            r.write_pin("users", "wrong")
            r.start()
            self.why_not(r, "CKR_PIN_INCORRECT")
            for _ in range(3):
                r.stop()
                r.start()
                text = self.settled(r)
                self.assertRegex(text, rig.NO_SECOND_TRY)
            r.stop()
            r.p11("users", "--list-objects")  # the person's own login, which a locked token refuses
            r.write_pin("users", r.pin("users"))
            r.start()
            self.assertEqual(r.key_csr(1)["class"], "ok")
        finally:
            self.assertEqual(r.close(), 0)

    def settled(self, r):
        until = time.time() + 60
        while time.time() < until:
            text = r.agent.do("hsm.report").get("body", {}).get("why_not", "")
            if "users" in text and "starting" not in text:
                return text
            time.sleep(0.2)
        raise AssertionError("no reason: %r" % text)


if __name__ == "__main__":
    rig.main()
