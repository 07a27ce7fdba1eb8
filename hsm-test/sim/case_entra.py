"""Entra's simulator: every wrong assertion is refused with its AADSTS number, right ones pass."""

import os
import time
import uuid

from cryptography.hazmat.primitives.asymmetric import rsa

from simclient import CLIENT, READER, TENANT, SimCase, self_signed


class EntraCase(SimCase):

    def refuse(self, code, error="invalid_client", status=401, assertion=None, **fields):
        answer = self.token_request(assertion, **fields)
        self.assertEqual((status, error, [code]), (answer.status, answer.json["error"],
                                                   answer.json["error_codes"]), answer.body)
        for member in ("error_description", "trace_id", "correlation_id"):
            self.assertTrue(answer.json[member])
        self.assertTrue(answer.json["error_description"].startswith("AADSTS%d: " % code))

    def test_right_assertions(self):
        answer = self.token_request()
        self.assertEqual(200, answer.status)
        self.assertEqual(("Bearer", 3599), (answer.json["token_type"], answer.json["expires_in"]))
        self.assertGreater(len(answer.json["access_token"]), 1000)
        self.assertEqual(200, self.token_request(self.assertion(alg="RS256")).status)
        self.assertEqual(2, self.state()["entra"]["tokens_issued"])
        self.setting(assertion_algs=["PS256"])
        self.refuse(5002738, assertion=self.assertion(alg="RS256"))

    def test_form(self):
        request = dict(error="invalid_request", status=400)
        self.refuse(90002, tenant=str(uuid.uuid4()), **request)
        for field in ("grant_type", "scope", "client_id"):
            self.refuse(900144, **request, **{field: None})
        self.refuse(70003, "unsupported_grant_type", 400, grant_type="password")
        self.refuse(700016, "unauthorized_client", 400, client_id=str(uuid.uuid4()))
        self.refuse(7000215, client_secret="x")
        self.refuse(7000216, client_assertion="")
        self.refuse(7000219, client_assertion_type="jwt")
        self.refuse(90015, resource="https://graph.microsoft.com", **request)
        self.refuse(1002012, "invalid_scope", 400, scope="User.Read")
        self.refuse(500011, "invalid_resource", 400, scope="https://outlook.office365.com/.default")

    def test_header(self):
        self.refuse(50027, assertion="a.b")
        self.refuse(50027, assertion=self.assertion() + "=")
        self.refuse(50027, assertion=self.assertion(header={"typ": None}))
        self.refuse(5002738, assertion=self.assertion(header={"alg": "none"}))
        self.refuse(700027, assertion=self.assertion(header={"x5t#S256": None}))
        stranger = rsa.generate_private_key(65537, 2048)
        self.refuse(700027, assertion=self.assertion(key=stranger))
        self.refuse(700027, assertion=self.assertion(stranger, self_signed(stranger)))
        self.refuse(700027, assertion=self.assertion(header={"alg": "RS256"}))
        for salt in (20, 0, 64):
            self.refuse(700027, assertion=self.assertion(salt=salt))

    def test_claims(self):
        now = int(time.time())
        self.refuse(700023, assertion=self.assertion(claims={"aud": self.urls["login"]}))
        self.refuse(700021, assertion=self.assertion(claims={"iss": READER}))
        self.refuse(700021, assertion=self.assertion(claims={"sub": READER}))
        self.refuse(700027, assertion=self.assertion(), client_id=READER)
        rows = ({"exp": now + 601, "nbf": now}, {"nbf": now - 1000, "exp": now - 400},
                {"nbf": now + 400, "exp": now + 900}, {"exp": now - 5, "nbf": now},
                {"iat": now + 400})
        for claims in rows:
            self.refuse(700024, assertion=self.assertion(claims=claims))
        for claims in ({"jti": None}, {"jti": "1"}, {"nbf": None}, {"exp": str(now + 60)}):
            self.refuse(50027, assertion=self.assertion(claims=claims))
        state = self.state()["entra"]
        self.assertEqual(0, state["tokens_issued"])
        self.assertEqual(700024, state["refused"][4]["code"])
        self.assertEqual(CLIENT, state["refused"][0]["client_id"])

    def test_a_front(self):
        claims = {"aud": "https://127.0.0.1:9443/%s/oauth2/v2.0/token" % TENANT}
        scope = "https://127.0.0.1:9443/.default"
        self.refuse(700023, assertion=self.assertion(claims=claims))
        self.setting(fronts=["127.0.0.1:9443"])
        answer = self.token_request(self.assertion(claims=claims), scope=scope)
        self.assertEqual(200, answer.status)

    def test_replay(self):
        assertion = self.assertion()
        self.assertEqual(200, self.token_request(assertion).status)
        self.refuse(50013, assertion=assertion)

    def test_certificate_appears_and_changes(self):
        path = os.path.join(self.scratch.name, "client-certificate.pem")
        self.addCleanup(self.write, "client-certificate.pem", self.certificate)
        os.unlink(path)
        self.refuse(700027)
        key = rsa.generate_private_key(65537, 2048)
        certificate = self_signed(key)
        self.write("client-certificate.pem", certificate)
        answer = self.token_request(self.assertion(key, certificate))
        self.assertEqual(200, answer.status)
        self.refuse(700027)
        expired = self_signed(key, days=1)
        self.write("client-certificate.pem", expired)
        self.refuse(700027, assertion=self.assertion(key, expired))

    def test_token_expires_and_is_dropped(self):
        self.setting(token_lifetime=1)
        path = "/v1.0/users/" + "a1000000-0000-4000-8000-000000000001"
        self.assertEqual(200, self.graph("GET", path).status)
        time.sleep(1.1)
        self.assertEqual(401, self.graph("GET", path).status)
        self.setting(token_lifetime=3599)
        self.token_cache = {}
        self.assertEqual(200, self.graph("GET", path).status)
        self.control("POST", "/reset", {"what": ["tokens"]})
        answer = self.graph("GET", path)
        self.assertEqual((401, "InvalidAuthenticationToken"), (answer.status, answer.code()))

    def test_other_paths(self):
        self.assertEqual(404, self.ask("login", "GET", "/common/oauth2/token").status)
        self.assertEqual(405, self.ask("login", "GET", "/x/oauth2/v2.0/token").status)
