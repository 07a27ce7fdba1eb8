"""DigiCert's simulator: what it refuses, what it issues, and the life of an order."""

import datetime
import os
import subprocess
import urllib.parse

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from simclient import API_KEY, EC_KEY, RSA_KEY, SimCase, csr, spki_hash

ORGANIZATION = {"id": 112233}
PERSON = {"first_name": "Alice", "last_name": "Example"}
FIELDS = [{"id": 11, "label": "cost centre", "is_required": True, "is_active": True,
           "data_type": "text"},
          {"id": 12, "label": "old", "is_required": True, "is_active": False, "data_type": "text"}]
SPONSOR = {"common_name_indicator": "given_name_surname", "individual": PERSON}


def pem_certificates(data):
    marker = b"-----END CERTIFICATE-----"
    return [x509.load_pem_x509_certificate(part + marker) for part in data.split(marker)[:-1]]


def leaf_for(certificates, key):
    wanted = key.public_key().public_numbers()
    return [c for c in certificates if c.public_key().public_numbers() == wanted]


def bits(certificate):
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = ("digital_signature", "content_commitment", "key_encipherment", "key_agreement")
    return {n for n in names if getattr(usage, n)}


def addresses(certificate):
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.RFC822Name)


class DigiCertCase(SimCase):

    def setUp(self):
        super().setUp()
        self.setting(digicert_limits=None)

    def refuse(self, body, code=None, product="secure_email_mailbox", status=400):
        answer = self.digicert("POST", "/order/certificate/" + product, body)
        self.assertEqual(status, answer.status, answer.body)
        if code:
            self.assertEqual(code, answer.code())

    def test_key_and_user_agent(self):
        self.assertEqual(200, self.digicert("GET", "/user/me").status)
        for headers in ({"X-DC-DEVKEY": None}, {"X-DC-DEVKEY": API_KEY[:-1]}):
            answer = self.digicert("GET", "/user/me", headers=headers)
            self.assertEqual(401, answer.status)
            self.assertTrue(answer.code().startswith("access_denied|"))
        self.setting(bad_key_status=403)
        answer = self.digicert("GET", "/user/me", headers={"X-DC-DEVKEY": "x"})
        self.assertEqual(403, answer.status)
        answer = self.digicert("GET", "/user/me", headers={"User-Agent": None})
        self.assertEqual(403, answer.status)
        self.assertEqual(404, self.digicert("GET", "/nowhere").status)
        self.setting(errors_as_object=True)
        self.assertIsInstance(self.digicert("GET", "/nowhere").json["errors"], dict)

    def test_mailbox_order_is_issued(self):
        emails = ["alice@example.com", "A.Example@example.com"]
        body = self.order_body(RSA_KEY, emails)
        answer = self.digicert("POST", "/order/certificate/secure_email_mailbox", body)
        self.assertEqual(201, answer.status)
        self.assertEqual({"id", "requests"}, set(answer.json))
        self.assertEqual("pending", answer.json["requests"][0]["status"])
        info = self.wait_for(answer.json["id"], "issued")
        self.assertEqual(body["certificate"]["csr"], info["certificate"]["csr"])
        self.assertEqual("token", info["requests"][0]["comments"])
        found = pem_certificates(self.fetch(answer.json["id"]).body)
        leaf = leaf_for(found, RSA_KEY)[0]
        self.assertEqual(emails, addresses(leaf))
        self.assertEqual({"digital_signature"}, bits(leaf))
        self.assertEqual(info["certificate"]["thumbprint"].lower(),
                         leaf.fingerprint(hashes.SHA1()).hex())
        self.assertEqual(3, len(found))
        self._openssl_verifies(found, leaf)

    def _openssl_verifies(self, found, leaf):
        """The chain in other people's eyes."""
        paths = {}
        for name, chosen in (("leaf", leaf), ("inter", found[1])):
            paths[name] = os.path.join(self.scratch.name, name + ".pem")
            with open(paths[name], "wb") as stream:
                stream.write(chosen.public_bytes(serialization.Encoding.PEM))
        subprocess.run(["openssl", "verify", "-x509_strict", "-purpose", "smimesign", "-CAfile",
                        os.path.join(self.dir, "smime-root.pem"), "-untrusted", paths["inter"],
                        paths["leaf"]], check=True, stdout=subprocess.DEVNULL)

    def test_purposes_and_keys(self):
        p384 = ec.generate_private_key(ec.SECP384R1())
        rows = (
            (RSA_KEY, "key_management", [], {"key_encipherment"}),
            (EC_KEY, "key_management", [], {"key_agreement"}),
            (p384, "dual_use", [], {"digital_signature", "key_agreement"}),
            (RSA_KEY, "dual_use", ["non_repudiation"],
             {"digital_signature", "content_commitment", "key_encipherment"}))
        for key, primary, additional, expected in rows:
            usage = {"primary_usage": primary, "additional_usages": additional}
            number = self.issued(self.order_body(key, usage_designation=usage))
            leaf = leaf_for(pem_certificates(self.fetch(number).body), key)[0]
            self.assertEqual(expected, bits(leaf))

    def test_sponsor_and_organization(self):
        body = self.order_body(profile_type="multipurpose", **SPONSOR)
        body["organization"] = ORGANIZATION
        body["certificate"]["usage_designation"]["additional_usages"] = ["client_auth"]
        number = self.issued(body, "secure_email_sponsor")
        leaf = leaf_for(pem_certificates(self.fetch(number).body), EC_KEY)[0]
        self.assertIn("Alice Example", leaf.subject.rfc4514_string())
        eku = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertIn(x509.ExtendedKeyUsageOID.CLIENT_AUTH, eku)
        body = self.order_body(common_name_indicator="organization_name")
        body["organization"] = ORGANIZATION
        number = self.issued(body, "secure_email_organization")
        leaf = leaf_for(pem_certificates(self.fetch(number).body), EC_KEY)[0]
        self.assertIn("CN=Contoso Beispiel AG", leaf.subject.rfc4514_string())

    def test_presence_of_members(self):
        self.refuse(dict(self.order_body(), organization=ORGANIZATION), "invalid_organization")
        self.refuse(self.order_body(individual=PERSON), "invalid_individual")
        body = self.order_body(**SPONSOR)
        self.refuse(body, "missing_organization", "secure_email_sponsor")
        self.refuse(dict(body, organization={"id": 9}), "invalid_organization",
                    "secure_email_sponsor")
        self.refuse(dict(body, organization=ORGANIZATION), "invalid_individual",
                    "secure_email_organization")
        self.refuse(dict(self.order_body(common_name_indicator="email_address"),
                         organization=ORGANIZATION), "missing_individual", "secure_email_sponsor")
        self.refuse(dict(self.order_body(individual=PERSON), organization=ORGANIZATION),
                    "missing_common_name_indicator", "secure_email_sponsor")
        self.refuse(dict(self.order_body(individual=PERSON,
                                         common_name_indicator="organization_name"),
                         organization=ORGANIZATION),
                    "invalid_common_name_indicator", "secure_email_sponsor")
        self.refuse(dict(self.order_body(), autorenew=1), "invalid_order")
        self.refuse(self.order_body(common_name="x"), "invalid_common_name")

    def test_legacy_products(self):
        """Each takes today's body, and refuses what it must not be sent or lacks."""
        body = self.order_body(profile_type="multipurpose")
        body["certificate"]["common_name"] = "x"
        self.refuse(body, "invalid_common_name", "class1_smime")
        del body["certificate"]["common_name"]
        self.refuse(dict(body, organization=ORGANIZATION), "invalid_organization", "class1_smime")
        self.refuse(self.order_body(), "invalid_profile_type", "class1_smime")
        self.assertIn("CN=alice@example.com", self.subject(body, "class1_smime"))

        stale = self.order_body(profile_type="multipurpose", common_name="Alice")
        self.refuse(stale, "missing_organization", "client_authentication_plus")
        stale["organization"] = ORGANIZATION
        leaf = self.leaf(stale, "client_authentication_plus")
        self.assertIn("CN=Alice,", leaf.subject.rfc4514_string())
        eku = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertIn(x509.ExtendedKeyUsageOID.CLIENT_AUTH, eku)
        for product in ("client_premium", "client_digital_signature_plus",
                        "client_email_security_plus"):
            with self.subTest(product):
                body = dict(stale, certificate=dict(stale["certificate"]))
                self.refuse(body, "missing_individual", product)
                body["certificate"]["individual"] = PERSON
                self.refuse(body, "missing_common_name_indicator", product)
                body["certificate"]["common_name_indicator"] = "email_address"
                self.refuse(body, "invalid_common_name_indicator", product)
                body["certificate"].update(SPONSOR)
                # The common name that was sent isn't the one in the certificate.
                self.assertIn("CN=Alice Example", self.subject(body, product))
                body["certificate"]["profile_type"] = "strict"
                self.refuse(body, "invalid_profile_type", product)
        self.refuse(dict(self.order_body(profile_type="multipurpose"), organization=ORGANIZATION),
                    "missing_common_name", "client_authentication_plus")

    def leaf(self, body, product):
        number = self.issued(body, product)
        return leaf_for(pem_certificates(self.fetch(number).body), EC_KEY)[0]

    def subject(self, body, product):
        return self.leaf(body, product).subject.rfc4514_string()

    def test_persons(self):
        """Names or a pseudonym: which, says the indicator."""
        rows = (("given_name_surname", {"pseudonym": "p"}, False),
                ("given_name_surname", {"first_name": "A"}, False),
                ("pseudonym", PERSON, False), ("pseudonym", dict(PERSON, pseudonym="p"), False),
                ("pseudonym", {"pseudonym": "agent 7"}, True),
                ("email_address", {}, False), ("email_address", {"pseudonym": "agent 7"}, True),
                ("email_address", PERSON, True))
        for indicator, person, good in rows:
            with self.subTest((indicator, sorted(person))):
                body = dict(self.order_body(common_name_indicator=indicator, individual=person),
                            organization=ORGANIZATION)
                if not good:
                    self.refuse(body, "invalid_individual", "secure_email_sponsor")
                    continue
                subject = self.subject(body, "secure_email_sponsor")
                common = "alice@example.com" if indicator == "email_address" else "agent 7"
                self.assertIn("CN=" + common, subject)

    def test_certificate_members(self):
        usage = "invalid_usage_designation"
        rows = (
            ("missing_email", {"emails": []}), ("invalid_email", {"emails": ["a b@example.com"]}),
            ("invalid_email", {"emails": ["jürgen@example.com"]}),
            ("invalid_email", {"emails": ["a@example.com", "A@example.com"]}),
            ("invalid_email", {"emails": ["alice@localhost"]}),
            ("missing_csr", {"csr": None}), ("invalid_csr", {"csr": "MIIB"}),
            ("invalid_csr", {"csr": csr(EC_KEY).replace("REQUEST-----", "REQUEST-----\n", 1)}),
            ("invalid_csr", {"csr": csr(EC_KEY, break_signature=True)}),
            ("invalid_csr", {"csr": csr(ec.generate_private_key(ec.SECP521R1()))}),
            ("invalid_csr", {"csr": csr(rsa.generate_private_key(65537, 1024))}),
            ("invalid_signature_hash", {"signature_hash": "sha1"}),
            ("invalid_profile_type", {"profile_type": "legacy"}),
            (usage, {"usage_designation": {"primary_usage": "encryption"}}),
            (usage, {"usage_designation": {"primary_usage": "key_management",
                                           "additional_usages": ["non_repudiation"]}}),
            (usage, {"usage_designation": {"primary_usage": "signing",
                                           "additional_usages": ["client_auth"]}}))
        for code, change in rows:
            with self.subTest(change=sorted(change)):
                self.refuse(self.order_body(**change), code)

    def test_order_members(self):
        for validity in ({"years": 3}, {"days": 825}, {"years": 1, "days": 2}, {"years": "1"}, {}):
            self.refuse(dict(self.order_body(), order_validity=validity), "invalid_order_validity")
        self.refuse(dict(self.order_body(), payment_method="cash"), "invalid_payment_method")
        self.refuse(dict(self.order_body(), renewal_of_order_id=1), "invalid_renewal_of_order_id")
        self.refuse("{\"certificate\":{},\"certificate\":{}}", "bad_request_format")
        self.refuse("[]", "bad_request_format")
        self.refuse(self.order_body(), "not_found|product", "no_such_product", 404)
        answer = self.digicert("POST", "/order/certificate/secure_email_mailbox",
                               self.order_body(), {"Content-Type": "text/plain"})
        self.assertEqual(400, answer.status)
        self.assertEqual(0, self.state()["digicert"]["orders_total"])

    def test_custom_fields(self):
        self.setting(custom_fields=FIELDS)
        field = {"metadata_id": 11, "value": "4711"}
        for fields in ("x", [field, field], [dict(field, metadata_id="11")], [{"value": "x"}],
                       [dict(field, label="x")], [dict(field, metadata_id=13)],
                       [dict(field, metadata_id=12)]):
            self.refuse(dict(self.order_body(), custom_fields=fields), "invalid_custom_fields")
        self.refuse(self.order_body(), "missing_custom_fields")
        number = self.place(dict(self.order_body(), custom_fields=[field]))
        info = self.digicert("GET", "/order/certificate/%d" % number).json
        self.assertEqual([field], info["custom_fields"])

    def test_account(self):
        self.assertEqual("active", self.digicert("GET", "/user/me").json["status"])
        names = [p["name_id"] for p in self.digicert("GET", "/product").json["products"]]
        self.assertIn("class1_smime", names)
        path = "/organization/112233"
        self.assertTrue(self.digicert("GET", path).json["is_active"])
        rows = self.digicert("GET", path + "/validation").json["validations"]
        self.assertEqual({"smime", "ov"}, {r["type"] for r in rows})
        self.assertEqual(404, self.digicert("GET", "/organization/5").status)
        self.assertEqual("454.00", self.digicert("GET", "/finance/balance").json["balance"])
        self.setting(balance="unlimited")
        self.assertTrue(self.digicert("GET", "/finance/balance").json["unlimited_negative_balance"])
        self.assertEqual({}, self.digicert("GET", "/account/metadata").json)
        self.setting(custom_fields=FIELDS)
        fields = self.digicert("GET", "/account/metadata").json["metadata"]
        self.assertEqual([11, 12], [f["id"] for f in fields])
        self.setting(key_restriction="orders")
        for path in ("/product", path, path + "/validation", "/finance/balance",
                     "/account/metadata"):
            self.assertEqual(403, self.digicert("GET", path).status)
        self.assertEqual(200, self.digicert("GET", "/user/me").status)
        self.place(dict(self.order_body(), custom_fields=[{"metadata_id": 11, "value": "x"}]))

    def test_approve_at_once_and_needs_approval(self):
        number = self.place(dict(self.order_body(), skip_approval=False))
        info = self.digicert("GET", "/order/certificate/%d" % number).json
        self.assertEqual("needs_approval", info["status"])
        self.setting(approve_at_once=True)
        answer = self.digicert("POST", "/order/certificate/secure_email_mailbox",
                               self.order_body())
        self.assertIn("certificate_id", answer.json)
        self.assertEqual(3, len(answer.json["certificate_chain"]))
        self.wait_for(answer.json["id"], "issued")
        for what, count in (("foreign", 3), ("garbage", 2), ("none", 0)):
            self.setting(chain_at_once=what)
            answer = self.digicert("POST", "/order/certificate/secure_email_mailbox",
                                   self.order_body())
            self.assertEqual(count, len(answer.json["certificate_chain"]))

    def test_validation_cancel_and_status_changes(self):
        path = "/order/certificate/status-changes?minutes="
        self.assertEqual({}, self.digicert("GET", path + "10").json)
        self.setting(php_empty=True)
        self.assertEqual([], self.digicert("GET", path + "10").json)
        self.assertEqual("time_frame_too_long", self.digicert("GET", path + "10081").code())
        self.assertEqual(400, self.digicert("GET", path[:-9]).status)
        waiting = self.place(self.order_body(emails=["Flurina.Tobler@contoso.example.com"]))
        done = self.issued()
        canceled = self.place(self.order_body(emails=["beat.anders@contoso.example.com"]))
        self.wait_for(canceled, "canceled")
        changes = {c["order_id"]: c for c in self.digicert("GET", path + "10").json["orders"]}
        self.assertEqual({done, canceled}, set(changes))
        self.assertIn("certificate_id", changes[done])
        rows = self.digicert("GET", "/order/certificate/%d/email-validation" % waiting).json
        self.assertEqual("unvalidated", rows["emails"][0]["status"])
        self.control("POST", "/digicert/validate", {"email": "flurina.tobler@contoso.example.com"})
        self.wait_for(waiting, "issued")

    def test_cancel_rules(self):
        number = self.place(self.order_body(emails=["flurina.tobler@contoso.example.com"]))
        path = "/order/certificate/%d/status" % number
        for body in ({"status": "CANCELED", "note": "n"}, {"status": "canceled"}):
            self.assertEqual(400, self.digicert("PUT", path, body).status)
        good = {"status": "canceled", "note": "test"}
        self.assertEqual(204, self.digicert("PUT", path, good).status)
        self.assertEqual(400, self.digicert("PUT", path, good).status)
        resend = self.digicert("PUT", "/order/certificate/%d/resend-emails" % number)
        self.assertEqual(404, resend.status)

    def test_revoke(self):
        first, second = self.issued(), self.issued()
        pending = self.place(self.order_body(emails=["flurina.tobler@contoso.example.com"]))
        path = "/order/certificate/%d/revoke"
        body = {"comments": "c", "skip_approval": True}
        self.assertEqual(400, self.digicert("PUT", path % pending, body).status)
        self.assertEqual(201, self.digicert("PUT", path % first, {"comments": "c"}).status)
        self.assertEqual(204, self.digicert("PUT", path % first, body).status)
        info = self.digicert("GET", "/order/certificate/%d" % second).json
        path = "/certificate/%d/revoke" % info["certificate"]["id"]
        self.setting(revoke_needs_approval=True)
        self.assertEqual(201, self.digicert("PUT", path, body).status)
        self.setting(revoke_needs_approval=False)
        self.assertEqual(204, self.digicert("PUT", path, body).status)
        self.wait_for(second, "revoked")
        self.assertEqual(400, self.fetch(second).status)
        self.assertEqual(404, self.digicert("PUT", "/certificate/1/revoke", body).status)
        self.setting(resend_emails_status=204)
        answer = self.digicert("PUT", "/order/certificate/%d/resend-emails" % pending, {})
        self.assertEqual(204, answer.status)

    def test_list(self):
        numbers = [self.place(self.order_body(emails=["u%d@example.com" % (i % 2)]))
                   for i in range(5)]
        query = urllib.parse.urlencode({"filters[email]": "U1@example.com", "limit": 1,
                                        "filters[product_name_id]": "secure_email_mailbox",
                                        "sort": "-date_created", "offset": 1})
        answer = self.digicert("GET", "/order/certificate?" + query).json
        self.assertEqual({"total": 2, "limit": 1, "offset": 1}, answer["page"])
        self.assertEqual([numbers[1]], [o["id"] for o in answer["orders"]])
        self.assertNotIn("csr", answer["orders"][0]["certificate"])
        self.setting(ignore_filters=True)
        answer = self.digicert("GET", "/order/certificate?" + query).json
        self.assertEqual(5, answer["page"]["total"])
        self.assertEqual(400, self.digicert("GET", "/order/certificate?limit=1001").status)
        self.assertEqual(404, self.digicert("GET", "/order/certificate/1").status)

    def test_malformed_and_endless_lists(self):
        number = self.issued()
        changes = "/order/certificate/status-changes?minutes=10"
        for how, least in (("some", 1), ("all", 0)):
            self.setting(malformed_entries=how)
            for path, key in ((changes, "order_id"), ("/order/certificate", "id")):
                rows = self.digicert("GET", path).json["orders"]
                good = [r for r in rows if isinstance(r, dict) and r.get(key) == number]
                self.assertEqual(least, len(good))
                self.assertGreater(len(rows), 5)
        self.setting(malformed_entries="", endless_list=True)
        answers = [self.digicert("GET", "/order/certificate?offset=%d" % n).json for n in (0, 1000)]
        self.assertEqual(answers[0]["orders"], answers[1]["orders"])

    def test_orders_are_counted_by_key(self):
        for _ in range(2):
            self.place()
        self.place(self.order_body(RSA_KEY))
        self.refuse(self.order_body(emails=[]))
        state = self.state()["digicert"]
        self.assertEqual((2, 3, 4), (state["max_orders_per_key"], state["orders_total"],
                                     state["posts"]))
        spki = {o["spki"] for o in self.control("GET", "/digicert/orders")["orders"]}
        self.assertEqual({spki_hash(EC_KEY), spki_hash(RSA_KEY)}, spki)

    def test_limits(self):
        self.setting(digicert_limits=[[100, 5], [1000, 180]])
        connection = self.open("digicert")
        self.addCleanup(connection.close)
        answers = [self.digicert("GET", "/user/me", connection=connection) for _ in range(101)]
        self.assertEqual([200] * 100 + [429], [a.status for a in answers])
        self.assertEqual("request_limit_exceeded", answers[-1].code())

    def test_formats(self):
        pending = self.place(self.order_body(emails=["flurina.tobler@contoso.example.com"]))
        self.assertEqual(400, self.fetch(pending).status)
        number = self.issued()
        self.assertEqual(2, len(pem_certificates(self.fetch(number, "pem_noroot").body)))
        self.assertEqual(2, len(pem_certificates(self.fetch(number, "pem_nointermediate").body)))
        for fmt in ("p7b", "cer"):
            answer = self.fetch(number, fmt)
            self.assertTrue(answer.body.startswith(b"-----BEGIN PKCS7-----"))
            self.assertEqual(3, len(pkcs7.load_pem_pkcs7_certificates(answer.body)))
        self.setting(p7b_label="CMS")
        self.assertTrue(self.fetch(number, "p7b").body.startswith(b"-----BEGIN CMS-----"))
        self.setting(p7b_label="DER")
        found = pkcs7.load_der_pkcs7_certificates(self.fetch(number, "p7b").body)
        self.assertEqual(1, len(leaf_for(found, EC_KEY)))
        self.assertEqual(400, self.fetch(number, "apache").status)

    def faulty(self, number, what, fmt="pem_all"):
        self.knob(service="digicert", path_regex="/download/", action="certificate", what=what)
        return self.fetch(number, fmt).body

    def test_certificate_faults(self):
        number = self.issued(self.order_body(emails=["a@example.com", "b@example.com"]))
        now = datetime.datetime.utcnow()
        self.assertEqual([], leaf_for(pem_certificates(self.faulty(number, "foreign_leaf")),
                                      EC_KEY))
        found = pem_certificates(self.faulty(number, "foreign_leaf_added"))
        self.assertEqual(4, len(found))
        self.assertEqual(found[1], leaf_for(found, EC_KEY)[0])

        def leaf(what):
            return leaf_for(pem_certificates(self.faulty(number, what)), EC_KEY)[0]
        self.assertLess(leaf("expired_cert").not_valid_after, now)
        self.assertGreater(leaf("future_cert").not_valid_before, now)
        self.assertNotIn("a@example.com", addresses(leaf("wrong_addresses")))
        self.assertEqual(["a@example.com"], addresses(leaf("missing_address")))
        self.assertEqual(3, len(addresses(leaf("extra_address"))))
        self.assertEqual({"key_agreement"}, bits(leaf("wrong_key_usage")))
        self.assertIn("untrusted", leaf("other_root").issuer.rfc4514_string())
        with self.assertRaises(ValueError):
            pem_certificates(self.faulty(number, "malformed_cert"))
        self.assertEqual(2, len(pem_certificates(self.faulty(number, "no_intermediate"))))
        last = pem_certificates(self.faulty(number, ["leaf_last", "no_root"]))
        self.assertEqual(last[-1], leaf_for(last, EC_KEY)[0])
        self.assertTrue(self.faulty(number, "label_cms", "p7b").startswith(b"-----BEGIN CMS"))
        self.assertEqual(0x30, self.faulty(number, "der", "p7b")[0])
        self.assertEqual(b"", self.faulty(number, "empty"))
        pems = pem_certificates(self.faulty(number, ["pem", "leaf_first"], "p7b"))
        self.assertEqual(pems[0], leaf_for(pems, EC_KEY)[0])
        mixed = pem_certificates(self.faulty(number, "shuffled"))
        self.assertEqual(mixed[1], leaf_for(mixed, EC_KEY)[0])
        self.assertEqual([], leaf_for(pem_certificates(self.faulty(number, "no_leaf")), EC_KEY))
        found = pem_certificates(self.faulty(number, "bad_signature"))
        bad = leaf_for(found, EC_KEY)[0]
        with self.assertRaises(InvalidSignature):
            found[1].public_key().verify(bad.signature, bad.tbs_certificate_bytes,
                                         padding.PKCS1v15(), hashes.SHA256())

    def test_clock_and_forced_status(self):
        self.control("POST", "/clock", {"offset": -3 * 365 * 86400})
        number = self.issued()
        leaf = leaf_for(pem_certificates(self.fetch(number).body), EC_KEY)[0]
        self.assertLess(leaf.not_valid_after, datetime.datetime.utcnow())
        number = self.place(self.order_body(emails=["flurina.tobler@contoso.example.com"]))
        for status in ("rejected", "denied", "canceled", "revoked", "expired", "odd_status",
                       "issued"):
            self.control("POST", "/digicert/order/%d" % number, {"status": status})
            self.wait_for(number, status)
        self.assertEqual(200, self.fetch(number).status)
        self.control("POST", "/digicert/order", {"email": "flurina.tobler@contoso.example.com",
                                                 "status": "expired"})
        self.wait_for(number, "expired")
