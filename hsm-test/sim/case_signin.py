"""Tests of what is around a token: apps of several kinds, Exchange, and the two managed-identity
addresses (whose handlers are called directly: their addresses need a namespace)."""

import base64
import json
import tempfile
import unittest
import urllib.parse
import uuid

import imds
from simclient import CLIENT, READER, TENANT, SimCase
from web import Request

PUBLIC = "c11e47a0-0003-4002-8003-000400050006"
OFF = "c11e47a0-0004-4002-8003-000400050006"
ONLY_RS256 = "c11e47a0-0005-4002-8003-000400050006"
CERTIFICATE = ["client-certificate.pem"]
BOXES = [{"PrimarySmtpAddress": "info@example.com",
          "permissions": [{"User": "a@example.com", "AccessRights": ["FullAccess"]}]},
         {"PrimarySmtpAddress": "sales@example.com"},
         {"PrimarySmtpAddress": "a@example.com", "RecipientTypeDetails": "UserMailbox"}]


class SignInCase(SimCase):

    extra_tenant = {"mailboxes": BOXES, "apps": [
        {"client_id": CLIENT, "certificates": CERTIFICATE, "directory_roles": ["Global Reader"],
         "object_id": "0B1EC700-0001-4000-8000-000000000001",
         "roles": ["User.Read.All", "Exchange.ManageAsApp"]},
        {"client_id": READER, "certificates": CERTIFICATE, "roles": ["Exchange.ManageAsApp"]},
        {"client_id": PUBLIC, "certificates": CERTIFICATE, "public": True},
        {"client_id": OFF, "certificates": CERTIFICATE, "disabled": True},
        {"client_id": ONLY_RS256, "certificates": CERTIFICATE, "algorithms": ["RS256"]}]}

    def answer(self, client=CLIENT, alg="PS256", service="graph"):
        return self.token_request(self.assertion(client=client, alg=alg), client_id=client,
                                  scope=self.urls[service] + "/.default")

    def bearer(self, client=CLIENT, service="exchange"):
        answer = self.answer(client, service=service)
        self.assertEqual(200, answer.status, answer.body)
        return answer.json["access_token"]

    # --- apps and tokens ---------------------------------------------------------------------

    def test_apps(self):
        for client, alg, code in ((PUBLIC, "PS256", 700025), (OFF, "PS256", 7000112),
                                  (ONLY_RS256, "PS256", 5002738), (ONLY_RS256, "RS256", None),
                                  (CLIENT, "PS256", None)):
            answer = self.answer(client, alg)
            self.assertEqual(code, (answer.json.get("error_codes") or [None])[0], answer.body)

    def test_claims(self):
        for service, roles in (("graph", ["User.Read.All"]), ("exchange", ["Exchange.ManageAsApp"])):
            part = self.bearer(service=service).split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            self.assertEqual((roles, "0b1ec700-0001-4000-8000-000000000001", TENANT,
                              self.urls[service]),
                             (claims["roles"], claims["oid"], claims["tid"], claims["aud"]))
        self.assertEqual({CLIENT + " graph": 1, CLIENT + " exchange": 1},
                         self.state()["entra"]["tokens"])
        self.setting(opaque_tokens=True)
        part = self.bearer().split(".")[1]
        with self.assertRaises(ValueError):
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))

    def test_tokens_are_for_one_service(self):
        path = "/v1.0/users/" + "a1000000-0000-4000-8000-000000000001"
        headers = {"Authorization": "Bearer " + self.bearer(service="exchange")}
        self.assertEqual(401, self.ask("graph", "GET", path, headers=headers).status)
        self.assertEqual(401, self.cmdlet(token=self.bearer(service="graph")).status)

    # --- Exchange ----------------------------------------------------------------------------

    PATH = "/adminapi/beta/%s/InvokeCommand" % TENANT

    def cmdlet(self, name="Get-Mailbox", token=None, path=PATH, headers=None, method="POST",
               **parameters):
        if name == "Get-Mailbox" and not parameters:
            parameters = {"RecipientTypeDetails": "SharedMailbox", "ResultSize": "Unlimited"}
        every = {"Authorization": "Bearer " + (token or self.bearer()), "X-CmdletName": name,
                 "Content-Type": "application/json", "connection-id": str(uuid.uuid4()),
                 "client-request-id": str(uuid.uuid4()), "Prefer": "odata.maxpagesize=1000",
                 "X-AnchorMailbox": "UPN:SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}@"
                                    + TENANT}
        every.update(headers or {})
        every = {k: v for k, v in every.items() if v is not None}
        body = json.dumps({"CmdletInput": {"CmdletName": name, "Parameters": parameters}})
        return self.ask("exchange", method, path, body, every)

    def test_cmdlets(self):
        boxes = self.cmdlet().json["value"]
        self.assertEqual(["info@example.com", "sales@example.com"],
                         [b["PrimarySmtpAddress"] for b in boxes])
        self.assertEqual(["SMTP:info@example.com"], boxes[0]["EmailAddresses"])
        self.assertNotIn("permissions", boxes[0])
        rows = self.cmdlet("Get-MailboxPermission", Identity="INFO@example.com").json["value"]
        self.assertEqual(["NT AUTHORITY\\SELF", "a@example.com"], [r["User"] for r in rows])
        self.assertEqual((False, False), (rows[1]["Deny"], rows[1]["IsInherited"]))
        self.assertEqual({"Get-Mailbox": 1, "Get-MailboxPermission": 1},
                         self.state()["exchange"]["commands"])

    def test_pages(self):
        self.setting(exchange_page_size=1)
        first = self.cmdlet().json
        link = urllib.parse.urlsplit(first["@odata.nextLink"])
        self.assertEqual(self.urls["exchange"], "https://" + link.netloc)
        second = self.cmdlet(path=link.path + "?" + link.query).json
        self.assertEqual("sales@example.com", second["value"][0]["PrimarySmtpAddress"])
        self.assertNotIn("@odata.nextLink", second)

    def test_roles(self):
        self.assertEqual(403, self.cmdlet(token=self.bearer(READER)).status)
        self.assertEqual(401, self.cmdlet(headers={"Authorization": "Bearer x"}).status)

    def test_wrong_requests(self):
        for headers in ({"X-CmdletName": "Get-Recipient"}, {"connection-id": None},
                        {"client-request-id": "1"}, {"Prefer": None}, {"X-AnchorMailbox": "UPN:x"}):
            self.assertEqual(400, self.cmdlet(headers=headers).status, headers)
        self.assertEqual(400, self.cmdlet("Remove-Mailbox", Identity="info@example.com").status)
        self.assertEqual(400, self.cmdlet("Get-Mailbox", Identity="x").status)
        self.assertEqual(404, self.cmdlet("Get-MailboxPermission", Identity="x").status)
        self.assertEqual(404, self.cmdlet(path=self.PATH.replace(TENANT, "x")).status)
        self.assertEqual(405, self.cmdlet(method="PUT").status)

    # --- Graph's groups ----------------------------------------------------------------------

    def test_group(self):
        self.assertEqual(403, self.graph("GET", "/v1.0/groups/x?$select=id").status)


class _Sim:
    """As much of the simulators as the identity handlers use."""

    def __init__(self):
        self.tenant = self
        self.knobs = self
        self.entra = self
        self.settings = {"identity_lifetime": 100, "arc_realm": ""}
        self.identities = [self._identity("aa", True), self._identity("bb", False)]

    @staticmethod
    def _identity(client_id, default):
        return type("Identity", (), {"client_id": client_id, "default": default})()

    def get(self, name):
        return self.settings[name]

    @staticmethod
    def service_of(resource):
        return "graph" if resource == "https://graph" else None

    @staticmethod
    def issue(identity, resource, lifetime):
        return "token of " + identity.client_id


class IdentityCase(unittest.TestCase):

    def setUp(self):
        self.sim = _Sim()

    @staticmethod
    def get(app, query, headers=None, method="GET", path=imds.PATH):
        headers = dict({"Metadata": "true"}, **(headers or {}))
        return app.handle(Request(method, path + "?" + query, headers, b""))

    def test_vm(self):
        app = imds.Imds(self.sim)
        right = "api-version=2018-02-01&resource=https%3A%2F%2Fgraph"
        answer = json.loads(self.get(app, right).body)
        self.assertEqual(("token of aa", "100"), (answer["access_token"], answer["expires_in"]))
        self.assertEqual("token of bb", json.loads(
            self.get(app, right + "&client_id=BB").body)["access_token"])
        for query in ("resource=https://graph", "api-version=2020-06-01&resource=https://graph",
                      "api-version=2018-02-01", "api-version=2018-02-01&resource=https://x",
                      right + "&client_id=cc", right + "&x=1"):
            self.assertEqual(400, self.get(app, query).status, query)
        self.assertEqual(400, self.get(app, right, {"Metadata": "True"}).status)
        self.assertEqual(403, self.get(app, right, {"Via": "1.1 proxy"}).status)
        self.assertEqual(405, self.get(app, right, method="POST").status)
        self.assertEqual(404, self.get(app, right, path="/metadata/instance").status)

    def test_arc(self):
        app = imds.Arc(self.sim)
        right = "api-version=2020-06-01&resource=https%3A%2F%2Fgraph"
        with tempfile.TemporaryDirectory(prefix="pfx-sim-arc-") as folder:
            self.addCleanup(setattr, imds, "KEYS", imds.KEYS)
            imds.KEYS = folder
            answer = self.get(app, right)
            self.assertEqual(401, answer.status)
            realm = dict(answer.headers)["WWW-Authenticate"]
            path = realm[len("Basic realm="):]
            with open(path, encoding="ascii") as stream:
                secret = stream.read()
            for wrong in ("Basic x", "Bearer " + secret, "Basic"):
                self.assertEqual(401, self.get(app, right, {"Authorization": wrong}).status)
            # A wrong kind of header used the secret up.
            self.assertEqual(401, self.get(app, right, {"Authorization": "Basic " + secret}).status)
            answer = self.get(app, right)
            with open(dict(answer.headers)["WWW-Authenticate"][12:], encoding="ascii") as stream:
                header = {"Authorization": "Basic " + stream.read()}
            self.assertEqual(200, self.get(app, right, header).status)
            self.assertEqual(401, self.get(app, right, header).status)  # once only
            self.assertEqual(400, self.get(app, right + "&client_id=aa").status)


if __name__ == "__main__":
    unittest.main()
