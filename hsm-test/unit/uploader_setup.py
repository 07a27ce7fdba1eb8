"""pfx-uploader: what `setup digicert` looks at."""

import json
import os
import sys
import unittest

import uploader_rig
from uploader_rig import Rig, simclient


def account():
    with open(os.path.join(simclient.HERE, "tenant-quickstart.json"), encoding="utf-8") as stream:
        digicert = json.load(stream)["digicert"]
    smime = {"type": "smime"}
    digicert.update(issue_delay=0.05, products=["secure_email_mailbox", "secure_email_sponsor",
                                                "client_authentication_plus"], organizations=[
        112233, {"id": 2, "is_active": False}, {"id": 3, "validations": []},
        {"id": 4, "validations": [{"type": "ov"}]},
        {"id": 5, "validations": [dict(smime, status="pending"), {"type": "ov"}]},
        {"id": 6, "validations": [dict(smime, days=10)]},
        {"id": 7, "validations": [dict(smime, days=-1)]}])
    return {"digicert": digicert}


class Setup(Rig):
    """`setup digicert`: what is missing, and what mends it; orders nothing."""

    extra_tenant = account()

    def tearDown(self):
        self.assertEqual(0, self.state()["digicert"]["posts"])
        super().tearDown()

    @staticmethod
    def rule(product="secure_email_mailbox", **members):
        return dict({"rule": "staff", "product": product, "custom_fields": []}, **members)

    def findings(self, *rules):
        found = self.good("up.setup_ca", products=list(rules or [self.rule()]))["findings"]
        for finding in found:
            self.assertIn(finding["level"], ("ok", "warn", "bad"))
            self.assertEqual(finding["level"] != "ok", "next" in finding, finding)
        return found

    def levels(self, *rules):
        return [(f["what"], f["level"]) for f in self.findings(*rules)]

    def test_ready(self):
        self.assertEqual([("API key", "ok"), ("restriction of the key", "warn"),
                          ("product secure_email_mailbox", "ok"),
                          ("payment by saved card", "warn")], self.levels())
        self.assertEqual([("API key", "ok"), ("restriction of the key", "warn"),
                          ("product secure_email_sponsor", "ok"), ("organization 112233", "ok"),
                          ("account balance", "ok")],
                         self.levels(self.rule("secure_email_sponsor", organization=112233,
                                               payment_method="balance")))

    def test_key(self):
        self.write("digicert-api-key", "another one\n")
        self.addCleanup(self.write, "digicert-api-key", simclient.API_KEY + "\n")
        for status in (401, 403):
            self.setting(bad_key_status=status)
            found = self.findings()
            self.assertEqual([("API key", "bad")], [(f["what"], f["level"]) for f in found])
            self.assertIn("HTTP %d" % status, found[0]["text"])
            self.assertIn("Automation > API Keys", found[0]["next"])
            self.assertNotIn(simclient.API_KEY, json.dumps(found))

    def test_away(self):
        self.knob(service="digicert", action="status", code=503, times=-1)
        self.bad("transient", "up.setup_ca", "503", products=[self.rule()])

    def test_restricted_key(self):
        self.setting(key_restriction="orders")
        rules = [self.rule("secure_email_sponsor", organization=n, payment_method="balance")
                 for n in (112233, 9)]
        found = self.findings(*rules)
        self.assertEqual([("API key", "ok"), ("restriction of the key", "ok"),
                          ("products of the account", "warn"), ("organization", "warn"),
                          ("account balance", "warn"), ("custom fields", "warn")],
                         [(f["what"], f["level"]) for f in found])
        self.assertIn("couldn't be looked up", found[2]["text"])
        # The key is still good for orders.
        self.assertEqual([], self.good("up.order_changes", minutes=1)["orders"])

    def test_role(self):
        self.setting(user_role="Standard User")
        self.assertIn(("role of the key's user", "warn"), self.levels())

    def test_restriction_unknown(self):
        """Nothing was read, so it isn't said that the key may read it."""
        self.knob(service="digicert", path_regex="/(product|metadata)$", times=-1,
                  action="status", code=404)
        found = {f["what"]: f for f in self.findings()}
        self.assertIn("couldn't be found out", found["restriction of the key"]["text"])

    def test_products(self):
        levels = dict(self.levels(self.rule(), self.rule("class1_smime"), self.rule("internal"),
                                  self.rule()))
        self.assertEqual("ok", levels["product secure_email_mailbox"])
        self.assertEqual("bad", levels["product class1_smime"])
        self.assertEqual("bad", levels["product internal"])
        self.assertEqual(6, len(levels))

    def test_organizations(self):
        rules = [self.rule("secure_email_sponsor", organization=n)
                 for n in (112233, 2, 3, 4, 5, 6, 7, 8, 112233)]
        found = [f for f in self.findings(*rules) if f["what"].startswith("organization")]
        self.assertEqual(["ok", "bad", "bad", "warn", "warn", "warn", "bad", "bad"],
                         [f["level"] for f in found])
        for finding, word in zip(found, ("validated for S/MIME until", "isn't active",
                                         "isn't validated", "not for S/MIME", "is pending",
                                         "ends on", "isn't validated", "no organization")):
            self.assertIn(word, finding["text"])
            if finding["level"] != "ok":
                self.assertIn("Certificates > Organizations", finding["next"])
        levels = dict(self.levels(self.rule("client_authentication_plus", organization=4)))
        self.assertEqual("ok", levels["organization 4"])

    def test_balance(self):
        for funds, level in (("0.00", "bad"), ("-3.10", "bad"), ("unlimited", "ok"), ("x", "warn")):
            with self.subTest(funds):
                self.setting(balance=funds)
                levels = dict(self.levels(self.rule(payment_method="balance")))
                self.assertEqual(level, levels["account balance"])
                self.assertNotIn("payment by saved card", levels)

    def test_custom_fields(self):
        self.setting(custom_fields=simclient.FIELDS)
        found = {f["what"]: f for f in self.findings(
            self.rule(custom_fields=["11", "12", "99"]), self.rule(custom_fields=["11", "13"]))}
        self.assertEqual(["ok", "bad", "ok", "bad"],
                         [found["custom field %d" % n]["level"] for n in (11, 12, 13, 99)])
        self.knob(service="digicert", path_regex="/metadata$", action="status", code=200,
                  body={"metadata": [{"id": 11, "is_required": 1, "label": 7}]})
        found = {f["what"]: f for f in self.findings(self.rule(custom_fields=["11"]))}
        self.assertEqual("ok", found["custom field 11"]["level"])
        found = {f["what"]: f for f in self.findings(self.rule(custom_fields=["11"]), self.rule())}
        self.assertIn("leaves out \"cost centre\"", found["custom field 11"]["text"])
        self.assertIn("Settings > Custom Order Fields", found["custom field 11"]["next"])

    def test_odd_answers(self):
        """What one page of DigiCert's answers oddly is a warning, and the other checks go on."""
        for path, what in (("/product$", "products of the account"),
                           ("/organization/112233$", "organization"),
                           ("/validation$", "validation of the organization"),
                           ("/balance$", "account balance"), ("/metadata$", "custom fields")):
            for change in ({"action": "status", "code": 404}, {"action": "garbage"},
                           {"action": "status", "code": 200, "body": [7]}, {"action": "html"}):
                if path.startswith("/organization") and change.get("code") == 404:
                    continue
                with self.subTest((path, change)):
                    self.control("POST", "/reset", {"what": ["knobs"]})
                    self.knob(service="digicert", path_regex=path, times=-1, **change)
                    levels = self.levels(self.rule("secure_email_sponsor", organization=112233,
                                                   payment_method="balance"))
                    self.assertIn((what, "warn"), levels)
                    self.assertEqual(("API key", "ok"), levels[0])


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
