"""User keys that aren't kept: pfx-hsm destroys what its policy or its own log lets go, and nothing
else, whatever a lying pfx-agentd says. What is left on the token, pkcs11-tool says."""

import unittest

import hsm_rig as rig
from hsm_log_rig import Log
from hsm_rig import Rig, USER, b64, unb64

OTHER = "99999999-2222-4333-8444-555555555555"
EVA = {"user": OTHER, "addresses": ["eva@example.test"]}


class UserDestroy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.r = Rig(after_delivery={"signing": "destroy"}, keys="token",
                    ceilings={"destroys_per_hour": 1000}).start()
        cls.r.init()

    @classmethod
    def tearDownClass(cls):
        cls.r.close()

    def policy(self, **changes):
        """Starts pfx-hsm anew under another policy (each start tries the tokens again, so not in
        vain)."""
        wanted = dict({"after_delivery": {"signing": "keep"}, "keys": "token",
                       "ceilings": {"destroys_per_hour": 1000}}, **changes)
        if any(self.r.options.get(name) != value for name, value in wanted.items()):
            self.r.stop()
            self.r.write_policy(**wanted)
            self.r.start()

    def key(self, enrolment, **changes):
        answer = self.r.key_csr(enrolment, key_type="ec-p256", **changes)
        self.assertEqual(answer["class"], "ok", answer)
        body = dict(self.r.ask_body(enrolment), **changes)
        del body["profile"]
        return dict(body, attempt=body.get("attempt", 1), key_ref=answer["body"]["key_ref"],
                    ticket=answer["body"]["ticket"], why="delivered"), answer["body"]

    def destroy(self, body, **changes):
        return self.r.agent.do("hsm.key_destroy", **dict(body, **changes))

    def there(self, keyed):
        """Halves that the token has with this CKA_ID."""
        key_id = unb64(keyed["key_id"]).hex()
        return [kind for kind in ("privkey", "pubkey")
                if key_id in self.r.p11("users", "--list-objects", "--type", kind).decode()]

    def build(self, body, keyed, purpose):
        leaf = self.r.ca.issue(unb64(keyed["csr"]), purpose=purpose)
        ask = {name: body[name] for name in ("user", "addresses", "purpose")}
        return self.r.agent.do("hsm.build_seal", **self.r.build_body(
            keyed, leaf, self.r.ca.chain(), body["enrolment"], **ask))

    def refused(self, answer, cls, words):
        self.assertEqual(answer["class"], cls, answer)
        self.assertIn(words, answer["error"]["text"] + " " + answer["error"]["code"], answer)

    def gone(self, answer, keyed, found):
        self.assertEqual(answer["class"], "ok", answer)
        self.assertEqual(answer["body"], {"found": found, "wrapped": False})
        self.assertEqual(self.there(keyed), [])

    def test_destroy_lies(self):
        self.policy(after_delivery={"signing": "destroy"})
        mine, keyed = self.key(10)
        theirs, other = self.key(11, **EVA)
        secret, kept = self.key(12, purpose="encryption")
        spki = keyed["key_ref"].split(".")[2]
        standing = [item["id"] for item in self.r.admin("key.list")[0] if "id" in item]
        before = self.r.count("users", "privkey"), self.r.count("users", "secrkey")
        self.assertGreater(len(standing), 5)
        for key_id in standing:
            self.refused(self.destroy(mine, key_ref=f"t1.{key_id}.{spki}"), "integrity", "CKA_ID")
        for change in ({"key_ref": theirs["key_ref"]}, {"user": OTHER}, {"enrolment": 11},
                       {"attempt": 2}, {"purpose": "encryption"}, {"purpose": "dual"},
                       {"key_ref": theirs["key_ref"], "ticket": theirs["ticket"]}):
            self.refused(self.destroy(mine, **change), "integrity", "CKA_ID")
        # The key it says, and somebody else's word for it.
        for change in ({"ticket": theirs["ticket"]}, {"ticket": b64(bytes(32))},
                       {"salt": b64(b"t" * 16)}, {"addresses": ["anna@example.test"]}):
            self.refused(self.destroy(mine, **change), "integrity", "wasn't made for this user")
        self.refused(self.destroy(mine, key_ref="t1" + theirs["key_ref"][2:35] + "." + spki),
                     "integrity", "CKA_ID")
        self.refused(self.destroy(mine, why="rotated"), "refused", "delivered or unused")
        # A key for encryption, as what it is, and passed off as one for signing.
        self.refused(self.destroy(secret), "refused", "policy")
        self.refused(self.destroy(secret, purpose="signing"), "integrity", "CKA_ID")
        self.assertEqual(before, (self.r.count("users", "privkey"), self.r.count("users", "secrkey")))
        # And then the truth.
        key_id = unb64(keyed["key_id"]).hex()
        show = self.r.admin("key.show", name=key_id)[0][0]
        self.assertEqual((show["state"], show["algorithm"]), ("there", "ec-p256"))
        self.gone(self.destroy(mine), keyed, True)
        self.assertEqual(self.r.admin("key.show", name=key_id)[0][0]["state"], "not found")
        self.gone(self.destroy(mine), keyed, False)
        self.refused(self.build(mine, keyed, "signing"), "integrity", "no key with this CKA_ID")
        self.assertEqual(self.there(other), ["privkey", "pubkey"])
        self.assertEqual(self.there(kept), ["privkey", "pubkey"])

    def test_destroy_half(self):
        """A process that was killed between the halves left the public one."""
        self.policy(after_delivery={"signing": "destroy"})
        body, keyed = self.key(20)
        self.r.p11("users", "--delete-object", "--type", "privkey", "--id",
                   unb64(keyed["key_id"]).hex())
        self.assertEqual(self.there(keyed), ["pubkey"])
        self.gone(self.destroy(body), keyed, False)

    def test_kept(self):
        """The default: what was packed stays, whatever it is called; what never was may go."""
        self.policy()
        for enrolment, purpose in ((30, "signing"), (31, "encryption"), (32, "dual")):
            body, keyed = self.key(enrolment, purpose=purpose)
            self.refused(self.destroy(body), "refused", "policy")
            self.assertEqual(self.build(body, keyed, purpose)["class"], "ok")
            self.refused(self.destroy(body), "refused", "policy")
            self.refused(self.destroy(body, why="unused"), "refused", "packed")
            # Asked for again, the key is the same, and the build isn't forgotten.
            again, _ = self.key(enrolment, purpose=purpose)
            self.assertEqual(again["ticket"], body["ticket"])
            self.refused(self.destroy(again, why="unused"), "refused", "packed")
            self.assertEqual(self.there(keyed), ["privkey", "pubkey"])
        for enrolment, purpose in ((33, "signing"), (34, "encryption")):
            body, keyed = self.key(enrolment, purpose=purpose)
            self.gone(self.destroy(body, why="unused"), keyed, True)
        # Made anew under the same CKA_ID, it is another key, and unused as well.
        body, keyed = self.key(34, purpose="encryption")
        self.gone(self.destroy(body, why="unused"), keyed, True)

    def test_wrapped(self):
        """Nothing of it is in the token: the answer says whose it is to erase. And the ceiling."""
        self.policy(after_delivery={"signing": "destroy"}, keys="wrapped",
                    ceilings={"destroys_per_hour": 4})
        body, _ = self.key(50)
        secret, _ = self.key(51, purpose="encryption")
        parts = body["key_ref"].split(".")
        self.assertEqual(parts[0], "w1")
        parts[3] = secret["key_ref"].split(".")[3]
        self.refused(self.destroy(body, key_ref=".".join(parts)), "integrity", "wrapped key was changed")
        self.refused(self.destroy(secret), "refused", "policy")
        for _ in range(2):
            answer = self.destroy(body)
            self.assertEqual(answer.get("body"), {"found": False, "wrapped": True}, answer)
        self.refused(self.destroy(body), "transient", "ceiling")

    def test_destroy_logged(self):
        self.policy(after_delivery={"signing": "destroy"})
        body, keyed = self.key(60)
        self.destroy(body)
        self.destroy(body, ticket=b64(bytes(32)))
        pairs = [(i, o) for i, o in Log(self, self.r.state + "/log").pairs()
                 if i["event"] == "user_key.destroy" and i["target"]["enrolment"] == 60]
        self.assertEqual([o["outcome"] for _, o in pairs], ["ok", "integrity"])
        intent, done = pairs[0]
        self.assertEqual(intent["target"]["name"], "signing.delivered")
        self.assertEqual(intent["key"]["id"], unb64(keyed["key_id"]).hex())
        self.assertEqual((done["found"], done["actor"]["role"]), ("key", "agentd"))
        self.assertNotIn(USER, str(pairs))
        self.assertNotIn("found", pairs[1][1])


if __name__ == "__main__":
    rig.main()
