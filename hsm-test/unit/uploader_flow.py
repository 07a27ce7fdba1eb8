"""Every job kind of pfx-uploader against the simulators, when all goes well."""

import base64
import sys
import time
import unittest

import uploader_rig
from simclient import GROUP, OBJECT
from simclient import EC_KEY, RSA_KEY
from uploader_rig import Rig

from cryptography import x509


class Directory(Rig):
    """Members and records."""

    def test_hello(self):
        self.assertTrue(self.agent.ready.wait(10))
        kinds = self.agent.hello["kinds"]
        self.assertEqual(len(kinds), len(set(kinds)))
        self.assertLessEqual({"up.members", "up.import", "up.order", "up.orders", "up.order_revoke",
                              "up.order_resend", "up.setup_ca", "up.download"}, set(kinds))
        self.assertEqual(64, self.agent.hello["capacity"])

    def test_members(self):
        body = self.good("up.members", group=GROUP)
        self.assertNotIn("page", body)
        self.assertEqual(8, len(body["users"]))
        user = body["users"][0]
        self.assertEqual("a1000000-0000-4000-8000-000000000001", user["id"])
        self.assertEqual("Jörg Grünwäldli-Füßmann", user["display"])
        self.assertEqual(["SMTP:joerg.gruenwaeldli@contoso.example.com"], user["proxies"])
        self.assertTrue(user["enabled"])
        self.assertLess(user["hire_date"], time.time() * 1000)
        self.assertNotIn("hire_date", body["users"][1])
        self.assertFalse(body["users"][3]["enabled"])
        self.assertEqual(8, len(body["users"][2]["proxies"]))
        log = self.control("GET", "/log")["requests"]
        request = [r for r in log if r["service"] == "graph"][-1]
        self.assertTrue(request["target"].endswith(
            "/transitiveMembers/microsoft.graph.user?$select=id,accountEnabled,displayName,"
            "givenName,surname,mail,userPrincipalName,proxyAddresses,department,"
            "employeeHireDate&$top=999"))
        self.assertEqual(36, len(request["client_request_id"]))
        self.assertEqual("pfx-agent/0.1.0", request["user_agent"])

    def test_pages(self):
        self.setting(members_page_size=3)
        found, body = [], {}
        for _ in range(4):
            page = {"page": body["page"]} if body else {}
            body = self.good("up.members", group=GROUP, **page)
            found += [u["id"] for u in body["users"]]
            if "page" not in body:
                break
        self.assertEqual(8, len(set(found)))

    def test_wrong_pages(self):
        """A lying pfx-agentd names a host, or another collection."""
        graph = self.urls["graph"]
        for page in ("https://127.0.0.1:1/v1.0/groups/x", "http://127.0.0.1/v1.0/groups/x",
                     graph + "@evil.invalid/v1.0/groups/", graph + "/v1.0/users/x/messages",
                     graph + "/v1.0/groups/../users/x", graph + "/v1.0/groups/%2e%2e/users",
                     graph + "/v1.0/groupsx", "file:///etc/passwd"):
            with self.subTest(page):
                self.bad("refused", "up.members", "isn't followed", group=GROUP, page=page)
        self.assertEqual({}, self.state()["http"]["graph"]["answers"])

    def test_wrong_next_link(self):
        self.knob(service="graph", action="wrong_type", member="/@odata.nextLink",
                  value="https://graph.evil.invalid/v1.0/groups/x")
        self.bad("refused", "up.members", "leaves 127.0.0.1", group=GROUP)

    def test_unknown_group(self):
        error = self.bad("refused", "up.members", "object id", "request-id", "client-request-id",
                         group="9d0a6c1e-0001-4a00-9000-00000000ffff")
        self.assertEqual("Request_ResourceNotFound", error["code"])

    def test_member_without_upn(self):
        self.knob(service="graph", action="wrong_type", member="/value/0/userPrincipalName",
                  value=None)
        self.bad("integrity", "up.members", "User.Read.All", group=GROUP)

    def test_member_with_bad_id(self):
        self.knob(service="graph", action="wrong_type", member="/value/1/id", value="x")
        self.bad("integrity", "up.members", "object id", group=GROUP)

    def test_odd_texts(self):
        self.knob(service="graph", action="wrong_type", member="/value/0/displayName",
                  value="a\u0007b\u202ec\n\n d" + "x" * 2000)
        user = self.good("up.members", group=GROUP)["users"][0]
        self.assertTrue(user["display"].startswith("a\ufffdb\u202ec d"))
        self.assertLessEqual(len(user["display"]), 1024)

    def test_records(self):
        body = self.good("up.records")
        self.assertEqual(2, len(body["records"]))
        record = body["records"][0]
        self.assertEqual("nora.valid@contoso.example.com", record["upn"])
        self.assertEqual("smimeSigning", record["purpose"])
        self.assertGreater(record["expires"], time.time() * 1000)

    def test_odd_records(self):
        self.knob(service="graph", action="wrong_type", member="/value/0/expirationDateTime",
                  value="0001-01-01T00:00:00Z")
        self.assertNotIn("expires", self.good("up.records")["records"][0])
        self.knob(service="graph", action="wrong_type", member="/value/0/intendedPurpose",
                  value="someday")
        self.assertEqual("someday", self.good("up.records")["records"][0]["purpose"])

    def test_record_pages(self):
        self.setting(records_page_size=1)
        first = self.good("up.records")
        second = self.good("up.records", page=first["page"])
        self.assertNotEqual(first["records"][0]["id"], second["records"][0]["id"])
        self.assertNotIn("page", second)


class Imports(Rig):
    """Records into Intune."""

    def test_import_and_read_back(self):
        job = self.import_job()
        self.assertFalse(self.good("up.readback", record_id=job["record_id"])["present"])
        body = self.good("up.import", **job)
        self.assertEqual({"record_id": job["record_id"], "updated": False}, body)
        back = self.good("up.readback", record_id=job["record_id"])
        self.assertTrue(back["present"])
        self.assertEqual(job["record_id"], back["record"]["id"])
        self.assertEqual(1767323045000, back["record"]["starts"])
        self.assertEqual("oaepSha512", back["record"]["padding"])

    def test_update(self):
        job = self.import_job()
        self.good("up.import", **job)
        for status in (200, 204):
            self.setting(patch_status=status)
            self.assertTrue(self.good("up.import", **job)["updated"])
        state = self.state()["graph"]
        self.assertEqual((1, 2), (state["posts_accepted"], state["patches_accepted"]))

    def test_exists_after_all(self):
        """GET says 404, POST says that it exists: 409 or 400."""
        job = self.import_job()
        self.good("up.import", **job)
        for status in (409, 400):
            self.setting(existing_record=status)
            self.knob(service="graph", method="GET", action="status", code=404)
            self.assertTrue(self.good("up.import", **job)["updated"])

    def test_opaque_400(self):
        error = self.bad("refused", "up.import", "activity id", "request-id", "client-request-id",
                         "gives no reason", **self.import_job(upn="nobody@contoso.example.com"))
        self.assertEqual("BadRequest", error["code"])

    def test_lost(self):
        job = self.import_job()
        for change in ({"action": "lose"}, {"action": "lose", "reset": True},
                       {"action": "status", "code": 503, "after": True},
                       {"action": "garbage", "after": True}, {"action": "html", "code": 200},
                       {"action": "truncate"}, {"action": "late", "seconds": 5}):
            with self.subTest(change):
                self.control("POST", "/reset", {})
                self.knob(service="graph", method="POST", **change)
                self.bad("lost", "up.import", "looked up", **job)
                self.assertIn(self.state()["graph"]["posts"], (0, 1))
                body = self.good("up.import_settle", **job)
                self.assertEqual(job["record_id"], body["record_id"])
        self.knob(service="graph", method="PATCH", action="lose")
        self.bad("lost", "up.import", **job)

    def test_other_id(self):
        self.knob(service="graph", method="POST", action="wrong_type", member="/id",
                  value=OBJECT + "-" + "00" * 20)
        self.bad("integrity", "up.import", "another id", **self.import_job())

    def test_other_id_read_back(self):
        job = self.import_job()
        self.good("up.import", **job)
        self.knob(service="graph", method="GET", action="wrong_type", member="/id", value="x")
        self.bad("integrity", "up.readback", record_id=job["record_id"])

    def test_deleted_meanwhile(self):
        job = self.import_job()
        self.good("up.import", **job)
        self.knob(service="graph", method="PATCH", action="status", code=404)
        self.bad("transient", "up.import", **job)


class Orders(Rig):
    """The CA."""

    def issued(self, number):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            info = self.good("up.order_info", order_id=number)
            if info["status"] == "issued":
                return info
            time.sleep(0.1)
        self.fail("never issued")
        return None

    def bodies(self):
        return [o["body"] for o in self.control("GET", "/digicert/orders")["orders"]]

    def test_mailbox(self):
        job = self.order_job(organization=112233, common_name_indicator="email_address")
        answer = self.good("up.order", **job)
        self.assertEqual("pending", answer["status"])
        body = self.bodies()[0]
        self.assertEqual({"certificate", "order_validity", "skip_approval", "comments"}, set(body))
        self.assertEqual("pfx-agent " + job["token"], body["comments"])
        self.assertEqual({"years": 1}, body["order_validity"])
        self.assertIs(True, body["skip_approval"])
        self.assertEqual({"emails", "csr", "signature_hash", "profile_type", "usage_designation"},
                         set(body["certificate"]))
        self.assertEqual({"primary_usage": "signing"}, body["certificate"]["usage_designation"])

    def test_sponsor(self):
        job = self.order_job(RSA_KEY, product="secure_email_sponsor", organization=112233,
                             common_name_indicator="given_name_surname", first_name="Jörg \"J\"",
                             last_name="Grün\\wald", years=None, days=700, purpose="dual",
                             profile_type="multipurpose", payment_method="balance",
                             additional_usages=["non_repudiation", "client_auth"])
        first = self.good("up.order", **job)
        body = self.bodies()[0]
        self.assertEqual({"first_name": "Jörg \"J\"", "last_name": "Grün\\wald"},
                         body["certificate"]["individual"])
        self.assertEqual({"id": 112233}, body["organization"])
        self.assertEqual({"days": 700}, body["order_validity"])
        self.assertEqual("balance", body["payment_method"])
        self.assertEqual({"primary_usage": "dual_use",
                          "additional_usages": ["non_repudiation", "client_auth"]},
                         body["certificate"]["usage_designation"])
        self.good("up.order", **dict(job, renewal_of=first["order_id"]))
        self.assertEqual(first["order_id"], self.bodies()[1]["renewal_of_order_id"])

    def test_organization(self):
        job = self.order_job(product="secure_email_organization", organization=112233,
                             common_name_indicator="organization_name", purpose="encryption")
        self.good("up.order", **job)
        self.assertEqual("key_management",
                         self.bodies()[0]["certificate"]["usage_designation"]["primary_usage"])

    def test_unfit_jobs(self):
        for changes, word in (({"product": "secure_email_sponsor"}, "organization"),
                              ({"product": "internal"}, "can't be ordered"),
                              ({"product": "../x"}, "can't be ordered"),
                              ({"years": None}, "validity"), ({"days": 30}, "validity"),
                              ({"purpose": "wifi"}, "purpose")):
            with self.subTest(changes):
                self.bad("usage", "up.order", word, **self.order_job(**changes))
        self.assertEqual(0, self.state()["digicert"]["posts"])

    def test_until_download(self):
        number = self.good("up.order", **self.order_job(emails=("a@example.com", "b@example.com")))
        number = number["order_id"]
        self.assertIn("certificate_id", self.issued(number))
        changes = self.good("up.order_changes", minutes=10)["orders"]
        self.assertEqual([(number, "issued")], [(c["order_id"], c["status"]) for c in changes])
        got = self.good("up.download", order_id=number, spki=self.spki())
        leaf = x509.load_der_x509_certificate(base64.b64decode(got["leaf"]))
        self.assertEqual(EC_KEY.public_key().public_numbers(), leaf.public_key().public_numbers())
        self.assertEqual(1, len(got["chain"]))
        chain = x509.load_der_x509_certificate(base64.b64decode(got["chain"][0]))
        self.assertEqual(leaf.issuer, chain.subject)

    def test_download_fall_back(self):
        number = self.good("up.order", **self.order_job())["order_id"]
        self.issued(number)
        for label in ("PKCS7", "CMS", "PEM", "DER"):
            self.setting(p7b_label=label)
            self.knob(service="digicert", path_regex="pem_all", action="status", code=400)
            self.assertIn("leaf", self.good("up.download", order_id=number, spki=self.spki()))

    def test_spoiled_downloads(self):
        number = self.good("up.order", **self.order_job())["order_id"]
        self.issued(number)
        for what in ("foreign_leaf", "no_leaf", "empty", "malformed_cert"):
            with self.subTest(what):
                self.knob(service="digicert", path_regex="/download/", action="certificate",
                          what=what)
                self.bad("refused", "up.download", "can't be used", order_id=number,
                         spki=self.spki())
        for what in ("foreign_leaf_added", "shuffled", "leaf_last", "no_root"):
            with self.subTest(what):
                self.knob(service="digicert", path_regex="/download/", action="certificate",
                          what=what)
                self.good("up.download", order_id=number, spki=self.spki())

    def test_not_issued(self):
        self.setting(issue_delay=60)
        number = self.good("up.order", **self.order_job())["order_id"]
        self.bad("refused", "up.download", order_id=number, spki=self.spki())

    def test_no_changes(self):
        for empty in (True, False):
            self.setting(php_empty=empty)
            self.assertEqual([], self.good("up.order_changes", minutes=1)["orders"])

    def test_validation(self):
        number = self.good("up.order", **self.order_job(emails=(
            "flurina.tobler@contoso.example.com", "b@example.com")))["order_id"]
        body = self.good("up.order_validation", order_id=number)
        self.assertEqual(["flurina.tobler@contoso.example.com"], body["unvalidated"])
        self.assertEqual(["b@example.com"], body["validated"])

    def test_cancel(self):
        self.setting(issue_delay=60)
        number = self.good("up.order", **self.order_job())["order_id"]
        self.good("up.order_cancel", order_id=number, note="asked by \"ops\"")
        self.assertEqual("canceled", self.good("up.order_info", order_id=number)["status"])
        error = self.bad("refused", "up.order_cancel", order_id=number, note="again")
        self.assertEqual("invalid_status", error["code"])

    def test_unknown_order(self):
        for as_object in (False, True):
            self.setting(errors_as_object=as_object)
            error = self.bad("refused", "up.order_info", "not found", order_id=99)
            self.assertEqual("not_found|order", error["code"])

    def test_unfit_answers(self):
        number = self.good("up.order", **self.order_job())["order_id"]
        for member, value in (("/id", 5), ("/id", 1e99), ("/id", 1.5), ("/status", None)):
            with self.subTest((member, value)):
                self.knob(service="digicert", method="GET", action="wrong_type", member=member,
                          value=value)
                self.bad("integrity", "up.order_info", order_id=number)

    def test_payment_card(self):
        self.knob(service="digicert", method="POST", action="status", code=400,
                  body={"errors": [{"code": "bad_request_format", "message": "Bad\u0007 format."}]})
        error = self.bad("refused", "up.order", "payment card", "Bad? format", **self.order_job())
        self.assertEqual("bad_request_format", error["code"])


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
