"""Several app registrations, their signature algorithm, shared mailboxes, and `setup entra`."""

import json
import sys
import time
import unittest

import uploader_rig
from simclient import CLIENT, GROUP, TENANT
from uploader_rig import SharedRig

IMPORT = "c11e47a0-0003-4002-8003-000400050006"
POST = "c11e47a0-0004-4002-8003-000400050006"
SILENT = "c11e47a0-0005-4002-8003-000400050006"  # not in the tenant
FULL = "c11e47a0-0006-4002-8003-000400050006"
POOR = "c11e47a0-0007-4002-8003-000400050006"
BLIND = "c11e47a0-0008-4002-8003-000400050006"
MANY = "c11e47a0-0009-4002-8003-000400050006"
OID = "0b1ec700-0001-4000-8000-000000000001"
POOR_OID = "0b1ec700-0002-4000-8000-000000000001"
SHARED = ("info@contoso.example.com", "sales@contoso.example.com", "stock@contoso.example.com")


def app(client, roles, **more):
    return dict({"client_id": client, "certificates": ["client-certificate.pem"], "roles": roles},
                **more)


def right(user, *rights, **more):
    return dict({"User": user, "AccessRights": list(rights) or ["FullAccess"]}, **more)


MAILBOXES = [
    {"PrimarySmtpAddress": SHARED[0],
     "EmailAddresses": ["SMTP:" + SHARED[0], "smtp:hello@contoso.example.com",
                        "SIP:" + SHARED[0], "X500:/o=x", "SPO:SPO_1@SPO_2", "smtp:broken"],
     "permissions": [right("a@contoso.example.com"),
                     right("b@contoso.example.com", "ReadPermission"),
                     right("c@contoso.example.com", IsInherited=True),
                     right("d@contoso.example.com", Deny=True), right("d@contoso.example.com"),
                     right("S-1-5-21-1-2-3-500"), right("CONTOSO\\Domain Admins"),
                     right("E@contoso.example.com", "ReadPermission", "FullAccess"),
                     right("f@contoso.example.com", Deny="True", IsInherited="False"),
                     right("g@contoso.example.com", Deny="False", IsInherited="False")]},
    {"PrimarySmtpAddress": SHARED[1]},
    {"PrimarySmtpAddress": SHARED[2]},
    {"PrimarySmtpAddress": "alice@contoso.example.com", "RecipientTypeDetails": "UserMailbox"},
]


DIRECTORY = ["User.Read.All", "GroupMember.Read.All"]
INTUNE = ["DeviceManagementConfiguration.ReadWrite.All"]
APPS = [
    app(CLIENT, DIRECTORY, object_id=OID), app(IMPORT, INTUNE),
    app(POST, ["Mail.Send", "Exchange.ManageAsApp"], directory_roles=["Global Reader"]),
    app(FULL, DIRECTORY + INTUNE + ["Exchange.ManageAsApp"], directory_roles=["Global Reader"]),
    app(POOR, ["GroupMember.Read.All", "Directory.ReadWrite.All",
               "DeviceManagementConfiguration.Read.All"], object_id=POOR_OID),
    app(BLIND, ["Exchange.ManageAsApp"]),
    app(MANY, DIRECTORY + INTUNE + ["Task%02d.ReadWrite.%s" % (i, "x" * 40) for i in range(20)]),
]


class World(SharedRig):
    extra_tenant = {"mailboxes": MAILBOXES, "apps": APPS}


def setUpModule():
    World.open_world()


class Several(World):
    """Each task has an app registration of its own, with no more roles than that task takes."""

    clients = {"main": CLIENT, "import": IMPORT, "post": POST}
    options = {"entra.import_app": "import", "entra.mail_app": "post", "entra.exchange_app": "post"}

    def test_tokens(self):
        """One token for each app and resource, made when it is wanted."""
        self.control("POST", "/reset", {"what": ["tokens"]})
        before = len(self.broker.asked)
        for _ in range(2):
            self.good("up.members", group=GROUP)
            self.good("up.records")
            self.good("up.import", **self.import_job())
            self.good("up.mailboxes")
        self.assertEqual({CLIENT + " graph": 1, IMPORT + " graph": 1, POST + " exchange": 1},
                         self.state()["entra"]["tokens"])
        self.assertEqual(["main", "import", "post"],
                         [args["app"] for _, args in self.broker.asked[before:]])

    def test_one_is_refused(self):
        """A token that only one app lost is got again for that app only."""
        self.good("up.members", group=GROUP)
        self.good("up.records")
        before = len(self.broker.asked)
        self.knob(service="graph", path_regex="/deviceManagement/", action="status", code=401)
        self.good("up.records")
        self.good("up.members", group=GROUP)
        self.assertEqual(["import"], [args["app"] for _, args in self.broker.asked[before:]])

    def test_setup(self):
        findings = self.good("up.setup_entra", groups=[GROUP], mailboxes=True,
                             mail=True)["findings"]
        self.assertEqual({"ok"}, {f["level"] for f in findings}, findings)
        self.assertEqual(
            ["app main (users and groups)"] * 3 + ["app import (Intune)"] * 2 +
            ["app post (mail)"] * 2 + ["app post (Exchange)"] * 2 + ["group " + GROUP] +
            ["Intune's list of certificates", "Exchange's shared mailboxes"],
            [f["what"] for f in findings])
        self.assertIn(CLIENT, findings[0]["text"])
        self.assertNotIn("command", json.dumps(findings))
        http = self.state()
        self.assertEqual((0, 0), (http["graph"]["posts"], http["graph"]["patches"]))


class Mailboxes(World):
    """Exchange, with one app for everything."""

    clients = {"main": FULL}
    options = {"exchange.rate": "500/1s"}

    def test_mailboxes(self):
        body = self.good("up.mailboxes")
        self.assertEqual([{"id": SHARED[0], "addresses": [
            "SMTP:" + SHARED[0], "smtp:hello@contoso.example.com"]}] + [
                {"id": box, "addresses": ["SMTP:" + box]} for box in SHARED[1:]],
                         body["mailboxes"])
        self.assertNotIn("page", body)
        self.assertEqual({"Get-Mailbox": 1, "Get-MailboxPermission": 0},
                         self.state()["exchange"]["commands"])

    def test_pages(self):
        """The same body goes to the next page."""
        self.setting(exchange_page_size=2)
        first = self.good("up.mailboxes")
        second = self.good("up.mailboxes", page=first["page"])
        self.assertEqual(list(SHARED),
                         [m["id"] for m in first["mailboxes"] + second["mailboxes"]])
        self.assertNotIn("page", second)
        log = self.asked("exchange", 2)
        self.assertEqual(["POST", "POST"], [r["method"] for r in log])
        self.assertIn("$skiptoken=", log[1]["target"])

    def test_rights(self):
        users = self.good("up.mailbox_rights", id=SHARED[0])["users"]
        self.assertEqual(["a@contoso.example.com", "E@contoso.example.com",
                          "g@contoso.example.com"], users)
        self.assertEqual([], self.good("up.mailbox_rights", id=SHARED[1])["users"])

    def test_right_pages(self):
        """A denial on one page takes back a permission on another."""
        self.setting(exchange_page_size=1)
        body = self.good("up.mailbox_rights", id=SHARED[0])
        self.assertEqual({"users": ["a@contoso.example.com", "E@contoso.example.com",
                                    "g@contoso.example.com"]}, body)
        self.assertEqual(11, self.state()["exchange"]["commands"]["Get-MailboxPermission"])

    def test_endless_rights(self):
        """Pages that lead to each other are left after a while."""
        links = [self.urls["exchange"] + "/adminapi/beta/%s/InvokeCommand?x=%d" % (TENANT, i)
                 for i in (0, 1)]
        for i in (0, 1):
            self.knob(service="exchange", path_regex="x=%d" % i, action="status", code=200,
                      times=-1, body={"value": [], "@odata.nextLink": links[1 - i]})
        self.knob(service="exchange", action="status", code=200,
                  body={"value": [], "@odata.nextLink": links[0]})
        self.setting(exchange_page_size=1)
        self.bad("integrity", "up.mailbox_rights", "pages don't end", id=SHARED[0])

    def test_wrong_links(self):
        """Neither a lying pfx-agentd nor a spoiled answer leads elsewhere."""
        exchange = self.urls["exchange"]
        for page in ("https://127.0.0.1:1/adminapi/beta/x/InvokeCommand",
                     exchange + "/adminapi/beta/other/InvokeCommand?$skiptoken=x",
                     exchange + "/owa/", exchange.replace("https", "http") + "/adminapi"):
            with self.subTest(page):
                self.bad("refused", "up.mailboxes", "isn't followed", page=page)
        self.assertEqual(0, self.state()["http"]["exchange"]["requests"])
        self.setting(exchange_page_size=2, next_link_authority="evil.invalid")
        self.bad("refused", "up.mailboxes", "leaves 127.0.0.1")
        self.assertEqual(1, self.state()["http"]["exchange"]["requests"])

    def test_unknown_mailbox(self):
        error = self.bad("refused", "up.mailbox_rights", "couldn't be found", "request-id",
                         id="nobody@contoso.example.com")
        self.assertEqual("NotFound", error["code"])

    def test_unfit_answers(self):
        for member, value in (("/value/0/PrimarySmtpAddress", 7), ("/value/0/EmailAddresses/0", 7),
                              ("/value", {"a": 1}), ("/value/0", "x")):
            with self.subTest(member):
                self.knob(service="exchange", action="wrong_type", member=member, value=value)
                self.bad("integrity", "up.mailboxes")
        for member, value in (("/value/1/Deny", "perhaps"), ("/value/1/IsInherited", None),
                              ("/value/1/AccessRights", "FullAccess"), ("/value/1/User", None)):
            with self.subTest(member):
                self.knob(service="exchange", action="wrong_type", member=member, value=value)
                self.bad("integrity", "up.mailbox_rights", id=SHARED[0])

    def test_reads(self):
        """A POST that only reads is safe to repeat: nothing about it is lost."""
        self.knob(service="exchange", action="lose", times=-1)
        self.bad("transient", "up.mailboxes")

    def test_throttled(self):
        self.knob(service="exchange", action="throttle", retry_after=0.2, times=2)
        self.assertEqual(3, len(self.good("up.mailboxes")["mailboxes"]))

    def test_token_is_renewed(self):
        self.good("up.mailboxes")
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.good("up.mailboxes")


class NoRoles(World):
    """Apps that lack what they need, and one that has too much."""

    clients = {"main": POOR, "import": BLIND, "silent": SILENT}
    options = {"entra.import_app": "import", "entra.mail_app": "silent",
               "entra.exchange_app": "import"}

    def finding(self, findings, *words):
        found = [f for f in findings if all(w in json.dumps(f) for w in words)]
        self.assertEqual(1, len(found), (words, findings))
        return found[0]

    def test_mailboxes_forbidden(self):
        error = self.bad("refused", "up.mailboxes", "Global Reader")
        self.assertEqual("Forbidden", error["code"])

    def test_setup(self):
        ask = dict(groups=[GROUP, "9d0a6c1e-0001-4a00-9000-00000000ffff", "x" * 36],
                   mailboxes=True, mail=True)
        findings = self.good("up.setup_entra", **ask)["findings"]
        role = self.finding(findings, "lacks the application role User.Read.All")
        self.assertEqual("bad", role["level"])
        self.assertEqual(
            'SERVICE=$(az ad sp show --id 00000003-0000-0000-c000-000000000000 --query id '
            '--output tsv) && az rest --method POST --uri "%s/v1.0/servicePrincipals/%s/'
            'appRoleAssignments" --headers Content-Type=application/json --body '
            '"{\\"principalId\\":\\"%s\\",\\"resourceId\\":\\"$SERVICE\\",\\"appRoleId\\":'
            '\\"df021288-bdef-4463-88db-98f22de89214\\"}"' % (
                self.urls["graph"], POOR_OID, POOR_OID),
            role["command"])
        self.assertEqual("ok", self.finding(findings, "the role GroupMember.Read.All.")["level"])
        more = self.finding(findings, "can do harm")
        self.assertEqual("warn", more["level"])
        self.assertIn("Directory.ReadWrite.All.", more["text"])
        self.assertNotIn("Configuration.Read.All", more["text"])
        intune = self.finding(findings, "lacks the application role DeviceManagementConfiguration")
        self.assertIn("9241abd9-d0e6-425a-bd4f-47ba86e767a4", intune["command"])
        silent = self.finding(findings, "app silent (mail)")
        self.assertEqual("bad", silent["level"])
        self.assertIn("AADSTS700016", silent["text"])
        self.assertIn("az ad app show --id " + SILENT, silent["command"])
        self.assertEqual("ok", self.finding(findings, "group " + GROUP)["level"])
        self.assertIn("agent.yaml", self.finding(findings, "no group with this object id")["next"])
        self.assertEqual("bad", self.finding(findings, "xxx")["level"])
        self.assertEqual("bad", self.finding(findings, "Intune's list")["level"])
        exchange = self.finding(findings, "Exchange's shared mailboxes")
        self.assertIn("f2ef992c-3afb-46b9-b7cf-a126ee74c451", exchange["command"])
        self.assertEqual("bad", exchange["level"])

    def test_setup_without_hsm(self):
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.broker.error = {"class": "refused", "op": "sign", "object": "app", "code": "",
                             "text": "No such app in hsm-policy.yaml."}
        findings = self.good("up.setup_entra", groups=[GROUP], mailboxes=False,
                             mail=True)["findings"]
        self.assertIn("hsm-policy.yaml", self.finding(findings, "app silent")["text"])

    def test_setup_opaque(self):
        """A token whose claims can't be read is told, not guessed at."""
        self.setting(opaque_tokens=True)
        self.restart()
        findings = self.good("up.setup_entra", groups=[], mailboxes=False, mail=False)["findings"]
        finding = self.finding(findings, "roles can't be read", "app main")
        self.assertEqual("warn", finding["level"])


class Granted(World):
    """Roles come and go while the program runs."""

    clients = {"main": MANY}

    def findings(self):
        return self.good("up.setup_entra", groups=[], mailboxes=False, mail=False)["findings"]

    def test_a_new_role_is_seen(self):
        """After the command that setup printed, setup sees the role at once, although the token of
        before would have lasted for an hour more."""
        self.setting(roles_withheld=["User.Read.All"])
        self.restart()
        self.good("up.members", group=GROUP)
        self.assertIn("lacks the application role User.Read.All", json.dumps(self.findings()))
        self.setting(roles_withheld=[])
        before = len(self.broker.asked)
        self.assertNotIn("lacks", json.dumps(self.findings()))
        self.assertEqual(1, len(self.broker.asked) - before)
        self.findings()
        self.assertEqual(1, len(self.broker.asked) - before)

    def test_many_roles(self):
        """What doesn't fit into the line is counted."""
        text = [f for f in self.findings() if f["level"] == "warn"][0]["text"]
        told = text.count(".ReadWrite.x")
        self.assertIn(" and %d more." % (20 - told), text)

    def test_list_is_away(self):
        """Something else than a refusal says nothing about licences and roles."""
        self.knob(service="graph", path_regex="/deviceManagement/", action="status", code=503,
                  times=-1)
        finding = [f for f in self.findings() if f["level"] == "bad"][0]
        self.assertIn("HTTP 503", finding["text"])
        self.assertNotIn("next", finding)


class Storms(World):
    """Each token costs a signature of the HSM."""

    clients = {"main": CLIENT, "import": IMPORT}
    options = {"entra.import_app": "import", "limits.job_timeout": "2s"}

    def signatures(self, seconds, kind, **body):
        """How many assertions jobs take that come for so long, one after the other."""
        before = len(self.broker.asked)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.agent.do(kind, **body)
        return len(self.broker.asked) - before

    def test_short_lived(self):
        """Tokens that end at once; one would be taken every half second."""
        self.setting(token_lifetime=1)
        self.restart()
        self.assertLessEqual(self.signatures(3.2, "up.members", group=GROUP), 4)

    def test_role_refused(self):
        """Exchange's 401 for an app without the role: a dozen, and then in pauses that double."""
        self.restart()
        self.assertLessEqual(self.signatures(2, "up.mailboxes"), 14)

    def test_throttled(self):
        """A job that waits for the token of another app says for what."""
        self.restart()
        self.knob(service="entra", action="throttle", retry_after=20, times=-1)
        first = self.agent.start("up.members", group=GROUP)
        for _ in range(100):
            if "429" in self.state()["http"]["entra"]["answers"]:
                break
            time.sleep(0.02)
        second = self.agent.start("up.records")
        for answer in (first.get(timeout=20), second.get(timeout=20)):
            self.assertEqual("transient", answer["class"])
            self.assertIn("HTTP 429", answer["error"]["text"])


class Broken(World):
    """What Entra refuses comes with the command that mends it."""

    def start_setup(self):
        return self.good("up.setup_entra", groups=[GROUP], mailboxes=False, mail=False)["findings"]

    def test_certificate(self):
        self.knob(service="entra", action="status", code=401, times=-1,
                  body={"error": "invalid_client", "error_codes": [700027],
                        "error_description": "AADSTS700027: The certificate isn't known."})
        findings = self.start_setup()
        self.assertEqual(["bad", "warn", "warn"], [f["level"] for f in findings])
        self.assertEqual("az ad app credential reset --id %s --cert @client-main.crt --append"
                         % CLIENT, findings[0]["command"])
        self.assertIn("client-NAME.crt", findings[0]["text"])

    def test_wrong_tenant_in_policy(self):
        """The audience is of hsm-policy.yaml, the request's address of uploader.yaml."""
        self.knob(service="entra", action="status", code=401, times=-1,
                  body={"error": "invalid_client", "error_codes": [700023],
                        "error_description": "AADSTS700023: Client assertion audience claim does "
                                             "not match Realm issuer."})
        text = self.start_setup()[0]["text"]
        self.assertIn("must be the same in uploader.yaml and hsm-policy.yaml", text)


class Rs256(World):
    """A tenant, or an app, that takes one algorithm only."""

    assertion_alg = "RS256"

    def test_taken(self):
        self.setting(assertion_algs=["RS256"])
        self.good("up.members", group=GROUP)

    def test_refused(self):
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.setting(assertion_algs=["PS256"])
        self.bad("refused", "up.members", "AADSTS5002738", "entra.algorithm", "hsm-policy.yaml",
                 group=GROUP)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
