"""pfx-hsm: ceremony, keys and requests, PFX and sealing, assertions, secrets; on real tokens."""

import base64
import hashlib
import json
import os
import subprocess
import time
import unittest

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import pkcs12

import hsm_rig as rig
from hsm_rig import Rig, b64, tokens, unb64


# The object identifiers of PBES2 and of pbeWithSHAAnd3-KeyTripleDES-CBC, as in the key bag.
SCHEMES = {"modern": "06092a864886f70d01050d", "compat": "060a2a864886f70d010c0103"}


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify_jwt(test, jwt, pem, pss):
    head, claims, signature = jwt.split(".")
    certificate = x509.load_pem_x509_certificate(pem.encode())
    how = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else padding.PKCS1v15()
    certificate.public_key().verify(unb64url(signature), f"{head}.{claims}".encode(), how,
                                    hashes.SHA256())
    header, body = json.loads(unb64url(head)), json.loads(unb64url(claims))
    test.assertEqual(header, {
        "alg": "PS256" if pss else "RS256", "typ": "JWT",
        "x5t#S256": base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode()
        .rstrip("=")})
    test.assertEqual(body["aud"],
                     f"https://login.microsoftonline.com/{rig.TENANT}/oauth2/v2.0/token")
    test.assertEqual((body["iss"], body["sub"]), (rig.CLIENT, rig.CLIENT))
    test.assertLessEqual(body["exp"] - body["nbf"], 600)
    test.assertLess(abs(body["iat"] - time.time()), 60)
    return body


class Flow(unittest.TestCase):
    def enrol(self, r, enrolment, key_type, purpose="signing", profile="modern"):
        """A whole enrolment; the PFX is opened by other people's tools."""
        answer = r.key_csr(enrolment, key_type=key_type, purpose=purpose)
        self.assertEqual(answer["class"], "ok", answer)
        keyed = answer["body"]
        csr = x509.load_der_x509_csr(unb64(keyed["csr"]))
        self.assertTrue(csr.is_signature_valid)
        self.assertEqual(csr.subject.rfc4514_string(), "CN=anna@example.test")
        emails = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(emails.get_values_for_type(x509.RFC822Name),
                         ["anna@example.test", "a.b@example.test"])
        leaf = r.ca.issue(unb64(keyed["csr"]), purpose=purpose)
        answer = r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain(), enrolment,
                                                             purpose=purpose, profile=profile))
        self.assertEqual(answer["class"], "ok", (answer, r.logged()))
        built = answer["body"]
        pfx = unb64(built["pfx"])
        self.assertEqual(unb64(built["pfx_sha256"]), hashlib.sha256(pfx).digest())
        self.assertEqual((built["key_name"], built["provider_name"], built["generation"]),
                         ("test-encryption", "Test Key Storage Provider", 1))
        self.assertEqual(built["tier"], r.kind.tier)
        hash_name = r.options.get("oaep", "sha512")
        self.assertEqual(built["padding"], "oaepSha" + hash_name[3:])
        password = r.open_sealed(unb64(built["sealed"]), hash_name)
        self.assertRegex(password, rb"^[A-Za-z0-9_-]{32}$")
        key, certificate, others = pkcs12.load_key_and_certificates(pfx, password)
        self.assertEqual(certificate.public_bytes(serialization.Encoding.DER), leaf)
        self.assertEqual([c.public_bytes(serialization.Encoding.DER) for c in others],
                         r.ca.chain())
        public = key.public_key().public_bytes(serialization.Encoding.DER,
                                               serialization.PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(public, unb64(keyed["spki"]))
        path = os.path.join(r.dir, "out.pfx")
        with open(path, "wb") as f:
            f.write(pfx)
        text = r.tool("openssl", "pkcs12", "-in", path, "-passin", "stdin", "-nodes", "-info",
                      text_in=password)
        self.assertIn("Anna".encode(), text)
        found = {name for name, oid in SCHEMES.items() if bytes.fromhex(oid) in pfx}
        self.assertEqual(found, {profile})
        return keyed, built, password

    def test_token_keys(self):
        r = Rig().start()
        try:
            items = r.init()
            names = {i["name"]: i for i in items if i["kind"] == "key"}
            self.assertEqual(set(names), {"wrapping-1", "kek-transport-1", "mac-1", "secrets-1",
                                          "log-1", "anchor-a-1", "anchor-b-1", "client-main-1",
                                          "encryption-1"}
                             | ({"log-ed25519-1"} if r.kind.has_ed25519 else set()))
            self.assertEqual(names["encryption-1"]["file"], "encryption-key-1.pem")
            public = serialization.load_pem_public_key(names["encryption-1"]["pem"].encode())
            der = public.public_bytes(serialization.Encoding.DER,
                                      serialization.PublicFormat.SubjectPublicKeyInfo)
            self.assertEqual(hashlib.sha256(der).hexdigest(), names["encryption-1"]["sha256"])
            notes = [i["text"] for i in items if i["kind"] == "note"]
            self.assertEqual(any("SoftHSM: for tests only" in n for n in notes),
                             isinstance(r.kind, tokens.Softhsm), notes)
            self.assertFalse(any("not separated" in n for n in notes), notes)
            certificate = next(i for i in items if i["kind"] == "certificate")
            self.assertEqual(certificate["file"], "client-main.crt")
            self.assertIn("CN=pfx-agent test-host main", x509.load_pem_x509_certificate(
                certificate["pem"].encode()).subject.rfc4514_string())

            # A second ceremony finds everything, with and without the encryption PIN.
            again = r.init()
            self.assertEqual({i["name"]: i.get("sha256") for i in again if i["kind"] == "key"},
                             {n: i.get("sha256") for n, i in names.items()})
            self.assertTrue(all("made" not in i["text"] for i in again
                                if i["kind"] in ("key", "certificate")))
            _, end = r.admin("init")
            self.assertEqual(end["exit"], 0, end)

            seen = set()
            for number, key_type in enumerate(("rsa-2048", "rsa-3072", "ec-p256", "ec-p384"), 1):
                keyed, built, password = self.enrol(r, number, key_type)
                seen.add(password)
                # Delivered once more: the same key.
                again = r.key_csr(number, key_type=key_type)["body"]
                self.assertEqual((again["spki"], again["ticket"], again["key_ref"]),
                                 (keyed["spki"], keyed["ticket"], keyed["key_ref"]))
            self.assertEqual(len(seen), 4)
            self.enrol(r, 9, "rsa-2048", "encryption")
            self.enrol(r, 10, "rsa-2048", "dual")
            self.assertEqual(r.count("users", "privkey"), 6 + 1)
            rows, end = r.admin("key.list")
            self.assertEqual(end["exit"], 0)
            self.assertEqual(next(x for x in rows if x["name"] == "user-keys")["count"], 6)
            self.assertEqual(next(x for x in rows if x["name"] == "encryption-1")["state"], "active")
            rows, end = r.admin("key.export_public")
            self.assertEqual(rows[0]["pem"], names["encryption-1"]["pem"])
            rows, end = r.admin("key.show", name="mac-1")
            self.assertTrue(any("CKA_EXTRACTABLE" in a for a in rows[0]["attributes"]), rows)
            _, end = r.admin("key.show", name="nothing")
            self.assertEqual(end["exit"], 2)
            report = r.agent.do("hsm.report")["body"]
            self.assertTrue(report["ready"], report)
            self.assertEqual(report["encryption_key"], names["encryption-1"]["sha256"])
            self.assertEqual([(g["generation"], g["state"], g["key_name"])
                              for g in report["generations"]],
                             [(1, "active", "test-encryption")])
            self.assertEqual(report["tier_rsa"], r.kind.tier)
            self.assertNotIn("compat_tier_rsa", report)  # the policy doesn't allow it
            rows, end = r.admin("hsm.status")
            self.assertEqual((end["exit"], [x for x in rows if x["level"] == "bad"]), (0, []))
            self.assertEqual(r.stop(), 0)
            for word in seen:
                self.assertNotIn(word.decode(), r.logged())
        finally:
            r.close()

    @rig.only_on("softhsm", why="the texts are pfx-hsm's own: one kind shows it")
    def test_names_of_many_bytes(self):
        """Names of 2-, 3- and 4-byte characters that no cut by bytes leaves whole, and a label that
        isn't UTF-8: each answer arrives, and pfx-hsm goes on."""
        two, four = "a" + "é" * 63, "b" + "🔑" * 63
        three = ("鍵" * 40, "鍵" * 85)
        r = Rig(labels={"users": "user\udcfc"}, name=two, provider=four).start()
        try:
            r.init()
            rows, end = r.admin("key.show", name="encryption-1")
            self.assertEqual(end["exit"], 0, (end, r.logged()))
            self.assertEqual(rows[0]["attributes"][:2], [f"keyName {two}", f"providerName {four}"])
            for verb, role in (("key.list", "users"), ("hsm.test", "users")):
                rows, end = r.admin(verb)
                self.assertIn(end["exit"], (0, 1), (verb, end, r.logged()))
                said = {row["token"] for row in rows if row.get("role") == role}
                self.assertEqual(said, {f"user? (serial {r.serials['user' + chr(0xdcfc)]})"})
            self.assertEqual(r.stop(), 0)
            r.write_policy(name=three[0], provider=three[1])
            r.start()
            _, end = r.admin("key.rotate", encryption_pin=r.pin("encryption"))
            self.assertEqual(end["exit"], 0, (end, r.logged()))
            rows, end = r.admin("key.show", name="encryption-2")
            self.assertEqual(rows[0]["attributes"][:2],
                             [f"keyName {three[0]}-2", f"providerName {three[1]}"])
            for verb in ("key.states", "hsm.status"):
                _, end = r.admin(verb)
                self.assertEqual(end["exit"], 0, (verb, end, r.logged()))
            self.assertEqual([(g["key_name"], g["provider_name"])
                              for g in r.agent.do("hsm.report")["body"]["generations"]],
                             [(two, four), (three[0] + "-2", three[1])])
            self.assertEqual(r.stop(), 0)
        finally:
            r.close()

    def test_compat(self):
        r = Rig(profiles=("compat", "modern")).start()
        try:
            r.init()
            self.enrol(r, 1, "rsa-2048", profile="compat")
            self.enrol(r, 2, "ec-p256", profile="compat")
            self.enrol(r, 3, "ec-p256", profile="modern")
            report = r.agent.do("hsm.report")["body"]
            self.assertEqual({report[n] for n in ("tier_rsa", "tier_ec", "compat_tier_rsa",
                                                  "compat_tier_ec")}, {r.kind.tier})
            self.assertTrue(any("in the profile compat" in n for n in report["notes"]), report)
        finally:
            self.assertEqual(r.close(), 0)

    def test_wrapped_keys(self):
        r = Rig(keys="wrapped", oaep="sha256").start()
        try:
            r.init()
            for number, key_type in enumerate(("rsa-2048", "ec-p256"), 1):
                keyed, _, _ = self.enrol(r, number, key_type)
                self.assertTrue(keyed["key_ref"].startswith("w1."))
            self.assertEqual(r.count("users", "privkey"), 1)  # the transport key alone
            # Kept over a restart.
            r.stop()
            r.start()
            self.enrol(r, 3, "rsa-2048")
        finally:
            self.assertEqual(r.close(), 0)

    def test_adopted_only_if_as_asked(self):
        r = Rig().start()
        try:
            r.init()
            self.assertEqual(r.key_csr(5)["class"], "ok")
            answer = r.key_csr(5, key_type="ec-p256")
            self.assertEqual(answer["class"], "integrity", answer)
            self.assertEqual(r.key_csr(5, attempt=2, key_type="ec-p256")["class"], "ok")
        finally:
            r.close()

    def test_assertions(self):
        r = Rig(apps=("main", "second")).start()
        try:
            items = r.init()
            pem = {i["name"]: i["pem"] for i in items if i["kind"] == "certificate"}
            jtis = set()
            for app in ("main", "second", "main"):
                rows, end = r.broker("assertion", app=app)
                self.assertEqual(end["exit"], 0, end)
                body = verify_jwt(self, rows[0]["assertion"], pem[f"client-{app}-1"], True)
                self.assertEqual(rows[0]["expires"], body["exp"] * 1000)
                jtis.add(body["jti"])
            self.assertEqual(len(jtis), 3)
            _, end = r.broker("assertion", app="third")
            self.assertEqual(end["error"]["class"], "refused")
            _, end = r.broker("init", encryption_pin="x")  # not on this socket
            self.assertEqual(end["error"]["class"], "usage")
            _, end = r.admin("assertion", app="main")
            self.assertEqual(end["error"]["class"], "usage")
            r.stop()
            r.write_policy(algorithm="RS256")
            r.start()
            rows, _ = r.broker("assertion", app="main")
            verify_jwt(self, rows[0]["assertion"], pem["client-main-1"], False)
            # A certificate that isn't the key's: no assertion, and the reason is told.
            r.stop()
            os.replace(os.path.join(r.state, "client-second.crt"),
                       os.path.join(r.state, "client-main.crt"))
            r.start()
            _, end = r.broker("assertion", app="main")
            self.assertEqual(end["error"]["class"], "integrity", end)
            self.assertIn("isn't the certificate of the client key", end["error"]["text"])
        finally:
            r.close()

    def test_secrets(self):
        r = Rig().start()
        try:
            r.init()
            _, end = r.broker("secret", name="digicert")
            self.assertEqual(end["error"]["class"], "transient")
            self.assertIn("pfx-agent secret set digicert", end["error"]["text"])
            for value in ("K" * 7, "with a space", "umlaut-ä-aaaa", "x" * 513):
                _, end = r.admin("secret.set", name="digicert", value=value)
                self.assertEqual(end["exit"], 2, value)
            _, end = r.admin("secret.set", name="other", value="long-enough")
            self.assertEqual(end["exit"], 2)
            for value in ("8CHARS!!", "A_key-0123456789" * 8, "0123456789abcdef" * 32):
                rows, end = r.admin("secret.set", name="digicert", value=value)
                self.assertEqual((end["exit"], rows[0]["set"]), (0, True), end)
                rows, end = r.broker("secret", name="digicert")
                self.assertEqual((end["exit"], rows[0]["value"]), (0, value), end)
                with open(os.path.join(r.state, "digicert.sealed"), "rb") as f:
                    stored = f.read()
                self.assertNotIn(value.encode(), stored)
                self.assertNotIn(b64(value.encode()).encode()[:-4], stored)
                self.assertNotIn(value, r.logged())
            rows, _ = r.admin("secret.status")
            self.assertEqual(len(rows[0]["sealed_to"]), 64)
            self.assertEqual([("digicert", True), ("proxy", False), ("cmp", False)],
                             [(x["name"], x["set"]) for x in rows])
            for name, value in (("proxy", "a b"), ("proxy", "x"), ("cmp", "shared secret")):
                rows, end = r.admin("secret.set", name=name, value=value)
                self.assertEqual((end["exit"], rows[0]["name"]), (0, name), end)
                rows, end = r.broker("secret", name=name)
                self.assertEqual((end["exit"], rows[0]["value"]), (0, value), end)
            with open(os.path.join(r.state, "digicert.sealed"), "rb") as f:
                stored = f.read()
            damaged = stored.replace(b"sealed ", b"sealed A", 1)
            with open(os.path.join(r.state, "digicert.sealed"), "wb") as f:
                f.write(damaged)
            _, end = r.broker("secret", name="digicert")
            self.assertEqual(end["error"]["class"], "integrity")
        finally:
            r.close()

    def test_hsm_test(self):
        r = Rig().start()
        try:
            rows, end = r.admin("hsm.test")
            self.assertEqual(end["exit"], 0, (end, rows))
            self.assertTrue(any("wasn't given" in x.get("text", "") for x in rows))
            rows, end = r.admin("hsm.test", encryption_pin=r.pin("encryption"))
            roles = {x["role"] for x in rows if x["kind"] == "mechanism"}
            self.assertEqual(roles, set(rig.ROLES))
            tiers = [x for x in rows if x["kind"] == "tier"]
            self.assertEqual({x["tier"] for x in tiers}, {r.kind.tier})
            for words in ("RSA leave the token by this tier in the profile modern",
                          "EC leave the token by this tier in the profile modern",
                          "RSA leave the token by this tier in the profile compat",
                          "EC leave the token by this tier in the profile compat"):
                self.assertEqual(sum(words in x["text"] for x in tiers), 1, tiers)
            for role in rig.ROLES:  # nothing is left behind
                for object_type in ("privkey", "pubkey", "secrkey"):
                    self.assertEqual(r.count(role, object_type), 0)
        finally:
            r.close()

    def test_not_separated(self):
        r = Rig(labels={"encryption": "one", "users": "one", "service": "two", "log": "two"}).start()
        try:
            items = r.init()
            self.assertTrue(any("encryption not separated" in i["text"] for i in items
                                if i["kind"] == "note"), items)
            self.enrol(r, 1, "rsa-2048")
            report = r.agent.do("hsm.report")["body"]
            self.assertTrue(any("encryption not separated" in n for n in report["notes"]))
        finally:
            r.close()

    def test_expired(self):
        """Sealed anew for old mail: a certificate for encryption may be over, one for signing not."""
        r = Rig().start()
        try:
            r.init()
            for number, (purpose, days, says) in enumerate((
                    ("encryption", 5, "ok"), ("dual", 5, "ok"), ("signing", 5, "expired")), 1):
                keyed = r.key_csr(number, key_type="ec-p256", purpose=purpose)["body"]
                leaf = r.ca.issue(unb64(keyed["csr"]), purpose=purpose, days=days, age=8)
                answer = r.agent.do("hsm.build_seal", **r.build_body(
                    keyed, leaf, r.ca.chain(), number, purpose=purpose))
                if says == "ok":
                    self.assertEqual(answer["class"], "ok", (purpose, answer))
                else:
                    self.assertEqual(answer["class"], "integrity", (purpose, answer))
                    self.assertIn(says, answer["error"]["text"])
        finally:
            r.close()

    def test_two_at_once(self):
        r = Rig().start()
        try:
            r.init()
            queues = [r.agent.start("hsm.key_csr", **dict(r.ask_body(n), attempt=1,
                                                          key_type="rsa-3072"))
                      for n in range(1, 5)]
            begun = time.time()
            rows, end = r.broker("assertion", app="main")
            took = time.time() - begun
            self.assertEqual(end["exit"], 0, end)
            self.assertLess(took, 2 * rig.SLOW)  # not behind the key generations
            answers = [q.get(timeout=rig.WAIT) for q in queues]
            self.assertEqual([a["class"] for a in answers], ["ok"] * 4, answers)
            self.assertEqual(len({a["body"]["spki"] for a in answers}), 4)
        finally:
            self.assertEqual(r.close(), 0)

    def test_version(self):
        done = subprocess.run([rig.PROGRAM, "--version"], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout[:8]), (0, b"pfx-hsm "))
        done = subprocess.run([rig.PROGRAM, "--policy", "/nowhere/at/all"], capture_output=True,
                              check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"/nowhere/at/all", done.stderr)


if __name__ == "__main__":
    rig.main()
