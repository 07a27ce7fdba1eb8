"""pfx-hsm in front of a pfx-agentd that lies: every lie is refused, and nothing is packed."""

import json
import os
import socket
import struct
import unittest

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

import hsm_rig as rig
from hsm_rig import Authority, Rig, b64, unb64

rig.LEAKS = False

OTHER = "99999999-2222-4333-8444-555555555555"


class Lies(unittest.TestCase):
    def refused(self, answer, cls, words):
        self.assertEqual(answer["class"], cls, answer)
        self.assertIn(words, answer["error"]["text"] + " " + answer["error"]["code"] + " " +
                      answer["error"]["op"], answer)
        self.assertNotIn("body", answer)

    def lies(self, r):
        keyed = r.key_csr(1)["body"]
        other = r.key_csr(2, user=OTHER, addresses=["eva@example.test"])["body"]
        csr = unb64(keyed["csr"])
        leaf = r.ca.issue(csr)
        chain = r.ca.chain()

        def build(expect, words, **changes):
            answer = r.agent.do("hsm.build_seal", **dict(r.build_body(keyed, leaf, chain), **changes))
            self.refused(answer, expect, words)

        flipped = bytearray(unb64(keyed["ticket"]))
        flipped[5] ^= 1
        build("integrity", "ticket", ticket=b64(bytes(flipped)))
        build("integrity", "ticket", ticket=other["ticket"])
        build("integrity", "check", user=OTHER)
        build("integrity", "ticket", salt=b64(b"t" * 16))
        build("integrity", "ticket", addresses=["anna@example.test"])
        build("integrity", "ticket", addresses=["anna@example.test", "a.b@example.test",
                                                "chef@example.test"])
        build("integrity", "ticket", purpose="encryption")
        build("integrity", "", key_ref=other["key_ref"])
        build("integrity", "", key_ref=other["key_ref"], ticket=other["ticket"])
        # Another user's key with that user's own ticket: the certificate isn't that key's.
        build("integrity", "key", key_ref=other["key_ref"], ticket=other["ticket"], user=OTHER,
              addresses=["eva@example.test"])
        for text in ("", "x", "t1", "t1.00.AA", "t2" + keyed["key_ref"][2:],
                     keyed["key_ref"] + ".", keyed["key_ref"] + "A", keyed["key_ref"][:-2],
                     "t1." + "0" * 32 + "." + keyed["key_ref"].split(".")[2]):
            if text:
                build("integrity", "", key_ref=text)
        if keyed["key_ref"].startswith("w1."):
            parts = keyed["key_ref"].split(".")
            mine, theirs = list(parts), other["key_ref"].split(".")
            mine[3] = theirs[3]
            build("integrity", "", key_ref=".".join(mine))
            for at in (1, 2, 3, 4):
                bent = list(parts)
                middle = len(bent[at]) // 2
                bent[at] = (bent[at][:middle] + ("0" if bent[at][middle] != "0" else "1") +
                            bent[at][middle + 1:])
                build("integrity", "", key_ref=".".join(bent))
            build("integrity", "", key_ref="t1." + ".".join(parts[1:3]))

        # The same job again for another user or purpose: another key, never a ticket for this one.
        for changes in ({"user": OTHER, "addresses": ["eva@example.test"]},
                        {"purpose": "encryption"}):
            stolen = r.key_csr(1, **changes)["body"]
            self.assertNotEqual(stolen["spki"], keyed["spki"])
            self.assertNotEqual(stolen["key_id"], keyed["key_id"])

        # Certificates.
        foreign = rsa.generate_private_key(65537, 2048).public_key()
        build("integrity", "key", leaf=b64(r.ca.issue(csr, key=foreign)))
        build("integrity", "addresses", leaf=b64(r.ca.issue(csr, emails=["anna@example.test"])))
        build("integrity", "addresses", leaf=b64(r.ca.issue(
            csr, emails=["anna@example.test", "a.b@example.test", "x@example.test"])))
        build("integrity", "addresses", leaf=b64(r.ca.issue(
            csr, emails=["anna@example.test", "other@example.test"])))
        build("integrity", "key usage", leaf=b64(r.ca.issue(csr, purpose="encryption")))
        build("integrity", "validity", leaf=b64(r.ca.issue(csr, days=900)))
        liar = Authority("Test")  # the same names, other keys
        build("integrity", "chain", leaf=b64(liar.issue(csr)),
              chain=[b64(c) for c in liar.chain()])
        build("integrity", "chain", leaf=b64(liar.issue(csr)))
        build("integrity", "chain", chain=[])
        build("integrity", "", leaf=b64(b"\x30\x82" + b"x" * 100))
        build("integrity", "", chain=[b64(b"y" * 100)])
        build("refused", "users.profiles", profile="compat")
        for unknown in ("Modern", "modern ", "rc2-40", "legacy"):
            build("refused", "correct the rule's profile", profile=unknown)
        build("refused", "object id", user="x" * 36)
        build("refused", "address", addresses=["anna@example.test", "ä@example.test"])
        build("refused", "twice", addresses=["anna@example.test", "ANNA@example.test"])

        # The truth still works, in whatever order and case the addresses come.
        answer = r.agent.do("hsm.build_seal", **r.build_body(
            keyed, leaf, chain, addresses=["A.B@example.test", "anna@EXAMPLE.test"]))
        self.assertEqual(answer["class"], "ok", answer)

    def test_token(self):
        r = Rig().start()
        try:
            r.init()
            self.lies(r)
        finally:
            self.assertEqual(r.close(), 0)

    def test_wrapped(self):
        r = Rig(keys="wrapped").start()
        try:
            r.init()
            self.lies(r)
        finally:
            self.assertEqual(r.close(), 0)

    def test_requests(self):
        r = Rig(key_types=("rsa-2048", "ec-p256")).start()
        try:
            r.init()
            self.refused(r.key_csr(1, key_type="rsa-4096"), "refused", "users.key_types")
            self.refused(r.key_csr(1, key_type="dsa"), "refused", "key type")
            for address in ("nobody", "a@b@c", "@x.test", "a b@x.test", "é@x.test", "a" * 245 +
                            "@example.t", "\"a\"@x.test"):
                self.refused(r.key_csr(1, addresses=[address]), "refused", "address")
            self.refused(r.key_csr(1, addresses=[]), "refused", "")
            self.refused(r.key_csr(1, user="not a guid"), "refused", "")
            self.refused(r.key_csr(1, purpose="all"), "refused", "")
            answer = r.agent.do("hsm.key_csr", enrolment=1)
            self.assertEqual(answer["class"], "refused")
            answer = r.agent.do("hsm.format_disk", now=True)
            self.assertEqual(answer["class"], "refused")
            self.assertEqual(r.count("users", "privkey"), 1)
            # An address longer than a common name holds.
            long_address = "a" * 60 + "@long-domain.example.test"
            answer = r.key_csr(2, addresses=[long_address])
            csr = x509.load_der_x509_csr(unb64(answer["body"]["csr"]))
            self.assertEqual(csr.subject.rfc4514_string(), "CN=" + long_address[:64])
        finally:
            r.close()

    @rig.only_on("nss", why="SoftHSM doesn't reach direct: test_policy_decides")
    def test_policy_is_met(self):
        r = Rig(lowest_tier="direct").start()
        try:
            r.init()
            for number, key_type in enumerate(("rsa-2048", "ec-p256"), 1):
                keyed = r.key_csr(number, key_type=key_type)["body"]
                leaf = r.ca.issue(unb64(keyed["csr"]))
                answer = r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain(),
                                                                     number))
                self.assertEqual(answer["body"]["tier"], "direct", answer)
        finally:
            r.close()

    def test_domains(self):
        """No key, and no PFX, for an address outside the policy's domains."""
        r = Rig(domains=("Example.TEST", "mail.example.test")).start()
        try:
            r.init()
            keyed = r.key_csr(1)
            self.assertEqual(keyed["class"], "ok", keyed)
            keys = r.count("users", "privkey")
            for address in ("a@fabrikam.test", "a@x.example.test", "a@example.test.fabrikam.test",
                            "a@xexample.test", "a@example.tes", "a@example.test."):
                answer = r.key_csr(2, addresses=["b@example.test", address])
                self.refused(answer, "refused", "users.domains of hsm-policy.yaml")
                self.assertIn("The domain %s isn't" % address[2:], str(answer["error"]))
            self.assertEqual(r.count("users", "privkey"), keys)
            leaf = r.ca.issue(unb64(keyed["body"]["csr"]))
            body = r.build_body(keyed["body"], leaf, r.ca.chain())
            self.assertEqual(r.agent.do("hsm.build_seal", **body)["class"], "ok")
            r.stop()
            r.write_policy(domains=("fabrikam.test",))
            r.start()
            self.refused(r.agent.do("hsm.build_seal", **body), "refused", "users.domains")
        finally:
            r.close()

    @rig.only_on("softhsm", why="NSS reaches direct: test_policy_is_met")
    def test_policy_decides(self):
        r = Rig(lowest_tier="direct").start()
        try:  # SoftHSM doesn't reach it: refused before anything is made
            _, end = r.admin("init", encryption_pin=r.pin("encryption"))
            self.assertEqual(end["error"]["class"], "refused", end)
            self.assertIn("users.lowest_tier, direct", end["error"]["text"])
            self.assertEqual([r.count(role, "privkey") for role in rig.ROLES], [0] * 4)
            r.stop()
            r.write_policy(lowest_tier="transit")
            r.start()
            r.init()
            keyed = r.key_csr(1)["body"]
            leaf = r.ca.issue(unb64(keyed["csr"]))
            r.stop()
            r.write_policy(lowest_tier="direct")
            r.start()
            # A person has to mend that; until then nothing is ordered, and nobody given up.
            body = r.build_body(keyed, leaf, r.ca.chain())
            self.refused(r.agent.do("hsm.build_seal", **body), "transient", "users.lowest_tier")
            self.refused(r.key_csr(2), "transient", "users.lowest_tier")
            # Of the profiles only those that the policy names, and each by the same floor.
            r.stop()
            r.write_policy(lowest_tier="transit", profiles=("compat",))
            r.start()
            keys = r.count("users", "privkey")
            for answer in (r.agent.do("hsm.build_seal", **body), r.key_csr(2)):
                self.refused(answer, "refused", "users.profiles")
            self.refused(r.key_csr(2, profile="compat "), "refused", "isn't a profile")
            self.assertEqual(r.count("users", "privkey"), keys)
            self.assertEqual(r.key_csr(2, profile="compat")["class"], "ok")
            answer = r.agent.do("hsm.build_seal", **dict(body, profile="compat"))
            self.assertEqual(answer["class"], "ok", answer)
            r.stop()
            r.write_policy(lowest_tier="direct")
            r.start()
            answer = r.agent.do("hsm.build_seal", **dict(body, profile="compat"))
            self.refused(answer, "transient", "In the profile compat")
        finally:
            r.close()

    def test_ceilings(self):
        r = Rig(ceilings={"keys_per_hour": 2, "builds_per_hour": 1, "assertions_per_hour": 3,
                          "secrets_per_hour": 1}).start()
        try:
            r.init()
            keyed = r.key_csr(1, key_type="ec-p256")["body"]
            r.key_csr(2, key_type="ec-p256")
            self.refused(r.key_csr(3, key_type="ec-p256"), "transient", "ceiling")
            self.assertEqual(r.count("users", "privkey"), 3)
            leaf = r.ca.issue(unb64(keyed["csr"]))
            body = r.build_body(keyed, leaf, r.ca.chain())
            self.assertEqual(r.agent.do("hsm.build_seal", **body)["class"], "ok")
            self.refused(r.agent.do("hsm.build_seal", **body), "transient", "ceiling")
            for _ in range(3):
                self.assertEqual(r.broker("assertion", app="main")[1]["exit"], 0)
            _, end = r.broker("assertion", app="main")
            self.assertEqual(end["error"]["code"], "ceiling")
            r.admin("secret.set", name="digicert", value="some-long-key")
            self.assertEqual(r.broker("secret", name="digicert")[1]["exit"], 0)
            self.assertEqual(r.broker("secret", name="digicert")[1]["error"]["code"], "ceiling")
        finally:
            r.close()

    def test_pins(self):
        r = Rig().start()
        try:
            r.init()
            keyed = r.key_csr(1)["body"]
            leaf = r.ca.issue(unb64(keyed["csr"]))
            path = os.path.join(r.state, "pins")
            with open(path, "rb") as f:
                pins = f.read()
            mine = b64(rsa.generate_private_key(65537, 2048).public_key().public_bytes(
                rig.serialization.Encoding.DER,
                rig.serialization.PublicFormat.SubjectPublicKeyInfo))
            lines = pins.decode().splitlines()
            swapped = "\n".join("spki " + mine if l.startswith("spki ") else l for l in lines) + "\n"
            for bad in (swapped.encode(), pins[:-1], pins[:40], b"", pins + pins,
                        pins.replace(b"test-encryption", b"evil-encryption"),
                        pins.replace(b"generation 1", b"generation 2")):
                with open(path, "wb") as f:
                    f.write(bad)
                answer = r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain()))
                self.refused(answer, "integrity", "Nothing is sealed")
                _, end = r.admin("key.export_public")
                self.assertEqual(end["exit"], 6)
            with open(path, "wb") as f:
                f.write(swapped.encode())
            r.stop()
            r.start()
            _, end = r.admin("init", encryption_pin=r.pin("encryption"))
            self.assertEqual(end["exit"], 6, end)
            report = r.agent.do("hsm.report")["body"]
            self.assertFalse(report["ready"])
            self.assertIn("MAC is wrong", report["why_not"])
            # Lost pins: the key on the token isn't adopted.
            os.unlink(path)
            _, end = r.admin("init", encryption_pin=r.pin("encryption"))
            self.assertEqual(end["exit"], 6, end)
            self.assertIn("isn't adopted", end["error"]["text"])
            with open(path, "wb") as f:
                f.write(pins)
            r.init()
            answer = r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain()))
            self.assertEqual(answer["class"], "ok", answer)
        finally:
            r.close()

    def test_garbage(self):
        r = Rig().start()
        try:
            r.init()
            frames = (b"\xff\xff\xff\xff", struct.pack(">I", 0), struct.pack(">I", 5) + b"hello",
                      struct.pack(">I", 2) + b"[]",
                      b"".join(struct.pack(">I", len(t)) + t for t in (
                          json.dumps({"v": 2, "t": "req", "id": 1, "verb": "hsm.status"}).encode(),)),
                      b"GET / HTTP/1.1\r\n\r\n")
            for name in ("admin", "uploader"):
                for frame in frames:
                    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    connection.connect(os.path.join(r.run, name))
                    connection.settimeout(20)
                    connection.sendall(frame)
                    connection.shutdown(socket.SHUT_WR)
                    try:
                        self.assertEqual(connection.recv(1), b"")
                    except ConnectionResetError:
                        pass
                    connection.close()
            asker = r.asker("admin")
            for args in ({"name": "digicert"}, {"name": "digicert", "value": "x" * 20, "more": 1}):
                _, end = asker.ask("secret.set", **args)
                self.assertEqual(end["error"]["class"], "refused", end)
            # Half a frame, for ever, on many lines: the others are served.
            lines = []
            for _ in range(40):
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.connect(os.path.join(r.run, "uploader"))
                connection.sendall(b"\0\0")
                lines.append(connection)
            self.assertEqual(asker.ask("hsm.status")[1]["exit"], 0)
            for connection in lines:
                connection.close()
            self.assertEqual(r.broker("assertion", app="main")[1]["exit"], 0)
        finally:
            self.assertEqual(r.close(), 0)


if __name__ == "__main__":
    rig.main()
