"""pfx-uploader and DigiCert: products, lists, and certificates at once."""

import base64
import datetime
import json
import sys
import unittest
import urllib.parse

import uploader_rig
from uploader_rig import Rig, simclient
from simclient import EC_KEY

from cryptography import x509

PERSON = {"first_name": "Alice", "last_name": "Example"}
NAMED = dict(PERSON, organization=112233, common_name_indicator="given_name_surname",
             profile_type="multipurpose")


class Orders(Rig):

    def bodies(self):
        return [o["body"] for o in self.control("GET", "/digicert/orders")["orders"]]

    def test_products(self):
        """The simulator refuses what DigiCert refuses of each of them."""
        rows = (("client_premium", NAMED), ("client_digital_signature_plus", NAMED),
                ("client_email_security_plus", dict(NAMED, common_name="Alice Example")),
                ("client_premium", dict(NAMED, common_name_indicator="pseudonym",
                                        pseudonym="agent 7")),
                ("client_authentication_plus", {"organization": 112233, "common_name": "Alice",
                                                "profile_type": "multipurpose"}),
                ("class1_smime", {"profile_type": "multipurpose", "common_name": "Alice"}),
                ("secure_email_sponsor", dict(NAMED, common_name_indicator="email_address")))
        self.setting(approve_at_once=True)
        for product, members in rows:
            with self.subTest(product):
                answer = self.good("up.order", **self.order_job(product=product, **members))
                subject = self.leaf(answer).subject.rfc4514_string()
                common = {"client_authentication_plus": "Alice",
                          "class1_smime": "alice@example.com",
                          "secure_email_sponsor": "alice@example.com"}.get(product,
                                                                           "Alice Example")
                if "pseudonym" in members:
                    common = "agent 7"
                self.assertIn("CN=" + common, subject)

    def test_what_a_rule_adds(self):
        self.setting(custom_fields=simclient.FIELDS)
        fields = [{"id": 11, "value": "4711 \"x\""}, {"id": 13, "value": "ü"}]
        job = self.order_job(custom_fields=fields, comment="S/MIME für alle")
        first = self.good("up.order", **job)["order_id"]
        job = self.order_job(custom_fields=fields, renewal_of=first)
        self.good("up.order", **job)
        bodies = self.bodies()
        self.assertEqual([{"metadata_id": f["id"], "value": f["value"]} for f in fields],
                         bodies[0]["custom_fields"])
        self.assertRegex(bodies[0]["comments"], r"^pfx-agent [0-9a-f-]{36} S/MIME für alle$")
        self.assertEqual(first, bodies[1]["renewal_of_order_id"])
        error = self.bad("refused", "up.order", "required custom field", **self.order_job())
        self.assertEqual("missing_custom_fields", error["code"])

    def leaf(self, answer):
        leaf = x509.load_der_x509_certificate(base64.b64decode(answer["leaf"]))
        chain = [x509.load_der_x509_certificate(base64.b64decode(c)) for c in answer["chain"]]
        self.assertEqual(EC_KEY.public_key().public_numbers(), leaf.public_key().public_numbers())
        self.assertEqual([leaf.issuer], [c.subject for c in chain])
        return leaf

    def test_at_once(self):
        self.setting(approve_at_once=True)
        answer = self.good("up.order", **self.order_job())
        self.assertIn("certificate_id", answer)
        self.assertEqual("approved", answer["status"])
        got = self.good("up.download", order_id=answer["order_id"], spki=self.spki())
        self.assertEqual(got, {k: answer[k] for k in ("leaf", "chain")})

    def test_unfit_at_once(self):
        """The order stands; its certificate is downloaded like any other."""
        self.setting(approve_at_once=True)
        for what in ("foreign", "foreign_chain", "garbage", "none"):
            with self.subTest(what):
                self.setting(chain_at_once=what)
                answer = self.good("up.order", **self.order_job())
                self.assertEqual({"order_id", "certificate_id", "status", "chain"}, set(answer))
                self.assertEqual([], answer["chain"])
                if what != "none":
                    self.assertIn("order %d: the certificate in the answer" % answer["order_id"],
                                  self.log_text())
                self.good("up.download", order_id=answer["order_id"], spki=self.spki())
        self.knob(service="digicert", method="POST", action="wrong_type",
                  member="/certificate_chain", value=7)
        self.assertNotIn("leaf", self.good("up.order", **self.order_job()))

    def test_taken_unreadable(self):
        """Whatever a 2xx holds, it was bought: lost, never refused."""
        ids = ("x", 0, -1, 1.5, 1 << 53, None, True, [7], {"id": 7})
        changes = [{"code": 201, "body": {"id": i}} for i in ids]
        changes += [{"code": c, "body": b} for c in (200, 202) for b in ([], [7], {}, "x", 7)]
        changes += [{"code": 204}, {"code": 201, "body": {"errors": [{"code": "access_denied"}]}}]
        for change in changes:
            with self.subTest(change):
                self.knob(service="digicert", method="POST", action="status", after=True, **change)
                job = self.order_job()
                self.bad("lost", "up.order", "may have been carried out", **job)

    def test_malformed_entries(self):
        """One entry of somebody else's that can't be read hides nothing of ours."""
        self.setting(approve_at_once=True)
        job = self.order_job()
        number = self.good("up.order", **job)["order_id"]
        self.setting(malformed_entries="some")
        changes = self.good("up.order_changes", minutes=10)["orders"]
        self.assertEqual([number], [c["order_id"] for c in changes])
        listed = self.good("up.orders")["orders"]
        self.assertEqual([(number, "issued")], [(o["order_id"], o["status"]) for o in listed])
        found = self.good("up.order_settle", **self.settle_job(job))
        self.assertEqual((True, number), (found["found"], found["order_id"]))
        self.assertRegex(self.log_text(), "8 of 9 entries of its status changes can't be read")
        self.setting(malformed_entries="all")
        for kind, body in (("up.order_changes", {"minutes": 10}), ("up.orders", {})):
            self.bad("integrity", kind, "can't be used", **body)
        self.setting(malformed_entries="")
        self.assertEqual(1, len(self.good("up.orders")["orders"]))

    def test_settle_all_malformed(self):
        job = self.order_job()
        self.good("up.order", **job)
        body = {"orders": [{"id": "x"}, {"id": None}, 7], "page": {"total": 3}}
        self.knob(service="digicert", path_regex="/order/certificate\\?", action="status",
                  code=200, body=body)
        self.bad("integrity", "up.order_settle", "can't be used", **self.settle_job(job))
        # Each order that it could be is unreadable: that isn't "not found".
        self.knob(service="digicert", path_regex="/order/certificate/[0-9]+$", action="status",
                  code=200, body={"id": "x", "certificate": [7], "requests": {"a": 1}})
        self.bad("integrity", "up.order_settle", "1 of the orders", job["token"],
                 **self.settle_job(job))

    def test_settle_doubt(self):
        """While one that can't be read could be the lost one, none isn't the answer."""
        others = self.good("up.order", **self.order_job(simclient.RSA_KEY))["order_id"]
        job = self.order_job()
        row = {"id": others, "status": "pending"}
        good = {"id": others, "status": "pending", "certificate": {"emails": job["addresses"]}}
        old = "2020-01-01T00:00:00Z"
        for odd, doubt in (({"id": "x"}, True), (7, True), ({"id": 0}, True),
                           ({"id": "x", "date_created": old}, False),
                           ({"id": "x", "product": {"name_id": "class1_smime"}}, False),
                           ({"id": "x", "certificate": {"emails": ["b@example.com"]}}, False)):
            with self.subTest(odd):
                self.knob(service="digicert", path_regex="/order/certificate\\?", action="status",
                          code=200, body={"orders": [odd, row], "page": {"total": 2}})
                if doubt:
                    self.bad("integrity", "up.order_settle", "1 of the orders", job["token"],
                             **self.settle_job(job))
                else:
                    found = self.good("up.order_settle", **self.settle_job(job))
                    self.assertFalse(found["found"])
        for change, doubt in (({"csr": "x"}, True), ({"csr": None}, True), ({"csr": [1]}, True)):
            for requests in (None, [], [{"comments": "by hand"}]):
                with self.subTest((change, requests)):
                    body = dict(good, certificate=change, requests=requests)
                    self.knob(service="digicert", path_regex="/order/certificate/[0-9]+$",
                              action="status", code=200, body=body)
                    if not requests:
                        self.bad("integrity", "up.order_settle", "1 of the orders",
                                 **self.settle_job(job))
                    else:
                        found = self.good("up.order_settle", **self.settle_job(job))
                        self.assertFalse(found["found"])
        # Made by hand, and without a request: never ours.
        self.knob(service="digicert", path_regex="/order/certificate/[0-9]+$", action="status",
                  code=200, body=dict(row, status="needs_csr"))
        self.assertFalse(self.good("up.order_settle", **self.settle_job(job))["found"])

    def test_settle_zone(self):
        """A time without a zone may be that of Utah."""
        job = self.order_job()
        number = self.good("up.order", **job)["order_id"]
        utah = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=7)
        for text, found in ((utah.strftime("%Y-%m-%d %H:%M:%S"), True),
                            (utah.strftime("%Y-%m-%dT%H:%M:%SZ"), False)):
            self.knob(service="digicert", path_regex="/order/certificate\\?",
                      action="wrong_type", member="/orders/0/date_created", value=text)
            self.assertEqual(found, self.good("up.order_settle", **self.settle_job(job))["found"])
        self.assertGreater(number, 0)

    def test_settle_behind_a_full_page(self):
        """The total is of the page alone, and the filters and the order of the list are ignored."""
        job = self.order_job()
        number = self.good("up.order", **job)["order_id"]
        rows = [{"id": 10000 + n, "product": {"name_id": "class1_smime"}} for n in range(1000)]
        self.knob(service="digicert", path_regex="offset=0&", action="status", code=200,
                  body={"orders": rows, "page": {"total": 1000}})
        view = self.digicert("GET", "/order/certificate/%d" % number).json
        self.knob(service="digicert", path_regex="offset=1000&", action="status", code=200,
                  body={"orders": [view] * 300, "page": {"total": 300}})
        found = self.good("up.order_settle", **self.settle_job(job))
        self.assertEqual((True, number), (found["found"], found.get("order_id")))

    def test_settle_repeated_entries(self):
        """One order on many places of the list is one candidate."""
        other = self.good("up.order", **self.order_job(simclient.RSA_KEY))["order_id"]
        self.knob(service="digicert", path_regex="/order/certificate\\?", action="status",
                  code=200, body={"orders": [{"id": other}] * 300, "page": {"total": 300}})
        job = self.settle_job(self.order_job())
        self.assertFalse(self.good("up.order_settle", **job)["found"])

    def test_settle_foreign_candidate(self):
        wanted = self.order_job()
        first = self.good("up.order", **wanted)["order_id"]
        other = self.good("up.order", **self.order_job(simclient.RSA_KEY))["order_id"]
        self.knob(service="digicert", path_regex="/order/certificate/%d$" % other, times=-1,
                  action="status", code=200, body={"id": "x", "status": 7})
        self.assertEqual(first, self.good("up.order_settle",
                                          **self.settle_job(wanted))["order_id"])

    def test_settle_dates(self):
        """A date without a time is the whole day: what could be ours isn't left out."""
        job = self.order_job()
        number = self.good("up.order", **job)["order_id"]
        today = self.digicert("GET", "/order/certificate/%d" % number).json["date_created"][:10]
        for created in (today, today + " 23:59:59", "nonsense", None):
            with self.subTest(created):
                self.knob(service="digicert", path_regex="/order/certificate\\?",
                          action="wrong_type", member="/orders/0/date_created", value=created)
                self.assertTrue(self.good("up.order_settle", **self.settle_job(job))["found"])

    def listed(self):
        found, page = [], {}
        for _ in range(10):
            body = self.good("up.orders", **page)
            found += [o["order_id"] for o in body["orders"]]
            if "page" not in body:
                return found
            page = {"page": body["page"]}
        self.fail("no end")
        return None

    def test_list(self):
        self.assertEqual([], self.listed())
        self.setting(digicert_limits=None)
        line = self.open("digicert")
        self.addCleanup(line.close)
        body = self.order_body()
        placed = [self.digicert("POST", "/order/certificate/secure_email_mailbox", body,
                                connection=line).json["id"] for _ in range(1203)]
        found = self.listed()
        self.assertEqual(sorted(placed), sorted(found))
        self.assertEqual(placed[::-1], found)
        targets = [r["target"] for r in self.control("GET", "/log")["requests"]
                   if r["method"] == "GET" and "?sort" in r["target"]]
        self.assertEqual(["sort=-date_created&offset=%d&limit=1000" % n for n in (0, 1000)],
                         [t.split("?")[1] for t in targets[-2:]])

    def test_endless_list(self):
        self.good("up.order", **self.order_job())
        self.setting(endless_list=True)
        body = self.good("up.orders")
        self.bad("refused", "up.orders", "the same page", page=body["page"])
        self.bad("refused", "up.orders", "doesn't end", page="499:400000:1")
        for page in ("x", "1:2", "1:2:3:4", "-1:2:3", "1:2:3 ", "0:0:0", "9" * 61,
                     "1:%s:3" % ("9" * 30)):
            self.bad("usage", "up.orders", "isn't one", page=page)

    def test_full_page_without_total(self):
        rows = [{"id": n, "status": "issued"} for n in range(1, 1001)]
        self.knob(service="digicert", path_regex="offset=0&", action="status", code=200,
                  body={"orders": rows})
        body = self.good("up.orders")
        self.assertEqual(1000, len(body["orders"]))
        self.assertIn("page", body)
        # Full, whatever the total says; and full by its own limit.
        for page, more in (({"total": 1000}, True), ({"total": 0, "limit": 1000}, True)):
            self.knob(service="digicert", path_regex="offset=0&", action="status", code=200,
                      body={"orders": rows, "page": page})
            self.assertEqual(more, "page" in self.good("up.orders"))
        for page, more in (({"limit": 100}, True), ({"limit": 101}, False), ({"total": 100}, False),
                           ({"total": 100, "limit": 100}, False), ({"total": 101}, True)):
            self.knob(service="digicert", path_regex="offset=0&", action="status", code=200,
                      body={"orders": rows[:100], "page": page})
            self.assertEqual(more, "page" in self.good("up.orders"), page)

    def test_odd_last_page(self):
        """A last page with nothing but an odd entry doesn't undo the pages before it."""
        self.knob(service="digicert", path_regex="offset=1000&", action="status", code=200,
                  body={"orders": [7], "page": {"total": 1001}})
        self.assertEqual({"orders": []}, self.good("up.orders", page="1:1000:5"))
        self.knob(service="digicert", path_regex="offset=1000&", action="status", code=200,
                  body={"orders": [7], "page": {"total": 1002}})
        self.assertEqual({"orders": [], "page": "2:1001:5"},
                         self.good("up.orders", page="1:1000:5"))

    def test_resend(self):
        self.setting(issue_delay=60)
        number = self.good("up.order", **self.order_job())["order_id"]
        error = self.bad("refused", "up.order_resend", "HTTP 404", "TLS orders only",
                         "CertCentral", order_id=number)
        self.assertTrue(error["object"].endswith("/order/certificate/%d/resend-emails" % number))
        self.setting(resend_emails_status=204)
        self.assertEqual({"order_id": number}, self.good("up.order_resend", order_id=number))

    def test_revoke(self):
        self.setting(approve_at_once=True)
        first = self.good("up.order", **self.order_job())
        second = self.good("up.order", **self.order_job())
        self.setting(revoke_needs_approval=True)
        body = dict(order_id=first["order_id"], comment="left \"the\" company")
        self.assertEqual({"order_id": first["order_id"], "pending": True},
                         self.good("up.order_revoke", **body))
        self.setting(revoke_needs_approval=False)
        self.assertFalse(self.good("up.order_revoke", **body)["pending"])
        self.assertFalse(self.good("up.order_revoke", order_id=second["order_id"], comment="c",
                                   certificate_id=second["certificate_id"])["pending"])
        # The log may still get the last request of the test before.
        log = [r["target"] for r in self.control("GET", "/log")["requests"]
               if r["target"].endswith("/revoke")]
        self.assertEqual("/services/v2/order/certificate/%d/revoke" % first["order_id"], log[0])
        self.assertEqual("/services/v2/certificate/%d/revoke" % second["certificate_id"], log[-1])
        for answer in (first, second):
            info = self.good("up.order_info", order_id=answer["order_id"])
            self.assertEqual("revoked", info["status"])
        self.bad("refused", "up.order_revoke", "Only an issued order", **body)
        self.knob(service="digicert", method="PUT", action="lose")
        self.bad("lost", "up.order_revoke", order_id=second["order_id"], comment="c")


class OtherHost(Rig):
    """The EU host differs by its name only."""

    @classmethod
    def configuration(cls):
        where = urllib.parse.urlsplit(cls.urls["digicert"])
        text = super().configuration()
        base = "https://localhost:%d/services/v2" % where.port
        return text.replace(json.dumps(cls.urls["digicert"]), json.dumps(base))

    def test_other_host(self):
        self.setting(approve_at_once=True)
        number = self.good("up.order", **self.order_job())["order_id"]
        self.assertEqual("issued", self.good("up.order_info", order_id=number)["status"])
        error = self.bad("refused", "up.order_info", order_id=5)
        self.assertIn("localhost", error["object"])


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
