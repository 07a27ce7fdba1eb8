"""What the simulators' tests share: a running simulator and a well-behaved client of it."""

import base64
import datetime
import hashlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

HERE = os.path.dirname(os.path.abspath(__file__))
TENANT = "0f0e0d0c-1111-4222-8333-444455556666"
CLIENT = "c11e47a0-0001-4002-8003-000400050006"
READER = "c11e47a0-0002-4002-8003-000400050006"
GROUP = "9d0a6c1e-0001-4a00-9000-00000000a001"
API_KEY = "test-key-of-the-simulator"
UPN = "joerg.gruenwaeldli@contoso.example.com"
OBJECT = "a1000000000040008000000000000001"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Custom fields of an account at DigiCert.
FIELDS = [{"id": 11, "label": "cost centre", "is_required": True, "is_active": True},
          {"id": 12, "label": "old", "is_required": True, "is_active": False},
          {"id": 13, "label": "ticket", "is_required": False, "is_active": True}]

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def self_signed(key, days=365):
    """A certificate as `init` makes for the app registration."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pfx-agent client")])
    start = datetime.datetime.utcnow() - datetime.timedelta(days=2)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=days))
            .sign(key, hashes.SHA256()))


def csr(key, emails=("alice@example.com",), break_signature=False):
    """A PKCS#10 request on one line, as DigiCert wants it."""
    san = x509.SubjectAlternativeName([x509.RFC822Name(e) for e in emails if e.isascii()])
    request = (x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
               .add_extension(san, critical=False).sign(key, hashes.SHA256()))
    raw = request.public_bytes(serialization.Encoding.DER)
    if break_signature:
        raw = raw[:-4] + bytes([raw[-4] ^ 1]) + raw[-3:]
    return "-----BEGIN CERTIFICATE REQUEST-----%s-----END CERTIFICATE REQUEST-----" % (
        base64.b64encode(raw).decode("ascii"))


def spki_hash(key):
    return hashlib.sha256(key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class Answer:
    """An HTTP answer with its body parsed where it is JSON."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        try:
            self.json = json.loads(self.body)
        except ValueError:
            self.json = None

    def code(self):
        """The error code of a DigiCert or Graph answer."""
        if "errors" in self.json:
            return self.json["errors"][0]["code"]
        return self.json["error"]["code"]


class SimCase(unittest.TestCase):
    """One simulator for each test class; knobs, orders and records are reset for each test."""

    extra_tenant = {}
    arguments = []

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="pfx-sim-test-")
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.dir = os.path.join(cls.scratch.name, "run")
        with open(os.path.join(HERE, "tenant-quickstart.json"), encoding="utf-8") as stream:
            tenant = json.load(stream)
        tenant["apps"].append({"client_id": READER, "certificates": ["reader.pem"],
                               "roles": ["GroupMember.Read.All",
                                         "DeviceManagementConfiguration.Read.All"]})
        tenant["digicert"]["issue_delay"] = 0.05
        tenant["digicert"]["products"] = None
        tenant.update(cls.extra_tenant)
        cls.client_key = RSA_KEY
        cls.certificate = self_signed(RSA_KEY)
        cls.reader_key = rsa.generate_private_key(65537, 2048)
        cls.write("client-certificate.pem", cls.certificate)
        cls.reader_certificate = self_signed(cls.reader_key)
        cls.write("reader.pem", cls.reader_certificate)
        cls.write("digicert-api-key", API_KEY + "\n")
        cls.write("tenant.json", json.dumps(tenant))
        cls.start()

    @classmethod
    def write(cls, name, content):
        if hasattr(content, "public_bytes"):
            content = content.public_bytes(serialization.Encoding.PEM).decode("ascii")
        with open(os.path.join(cls.scratch.name, name), "w", encoding="utf-8") as stream:
            stream.write(content)

    @classmethod
    def start(cls):
        command = [sys.executable, os.path.join(HERE, "sim.py"), "--dir", cls.dir, "--tenant",
                   os.path.join(cls.scratch.name, "tenant.json"), "--max-seconds", "300"]
        cls.process = subprocess.Popen(command + cls.arguments)
        cls.addClassCleanup(cls.end)
        for _ in range(200):
            if os.path.exists(os.path.join(cls.dir, "sim.json")):
                break
            if cls.process.poll() is not None:
                raise RuntimeError("the simulator ended with %d" % cls.process.returncode)
            time.sleep(0.1)
        with open(os.path.join(cls.dir, "sim.json"), encoding="utf-8") as stream:
            cls.urls = json.load(stream)
        cls.trust = ssl.create_default_context(cafile=os.path.join(cls.dir, "tls-ca.pem"))

    @classmethod
    def end(cls):
        if cls.process.poll() is None:
            cls.process.terminate()
        cls.process.wait(10)

    def setUp(self):
        self.control("POST", "/reset", {})
        self.token_cache = {}

    # --- the wire ----------------------------------------------------------------------------

    def open(self, service, timeout=30):
        where = urllib.parse.urlsplit(self.urls[service])
        if where.scheme == "http":
            return http.client.HTTPConnection(where.hostname, where.port, timeout=timeout)
        return http.client.HTTPSConnection(where.hostname, where.port, timeout=timeout,
                                           context=self.trust)

    def ask(self, service, method, path, body=None, headers=None, connection=None, timeout=30):
        own = connection is None
        connection = connection or self.open(service, timeout)
        base = urllib.parse.urlsplit(self.urls[service]).path
        try:
            connection.request(method, base + path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            if own:
                connection.close()

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body)
        answer = self.ask("control", method, path, data)
        self.assertEqual(200, answer.status, answer.body)
        return answer.json

    def state(self):
        return self.control("GET", "/state")

    def knob(self, **rule):
        return self.control("POST", "/knobs", rule)["ids"][0]

    def setting(self, **settings):
        self.control("POST", "/knobs", {"settings": settings})

    # --- DigiCert ----------------------------------------------------------------------------

    def digicert(self, method, path, body=None, headers=None, **more):
        all_headers = {"X-DC-DEVKEY": API_KEY, "User-Agent": "sim-test/1"}
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        all_headers.update(headers or {})
        all_headers = {k: v for k, v in all_headers.items() if v is not None}
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        return self.ask("digicert", method, path, data, all_headers, **more)

    def order_body(self, key=EC_KEY, emails=("alice@example.com",), **certificate):
        body = {"certificate": {
            "emails": list(emails), "csr": csr(key, emails), "signature_hash": "sha256",
            "profile_type": "strict", "usage_designation": {"primary_usage": "signing"}},
            "order_validity": {"years": 1}, "skip_approval": True, "payment_method": "profile",
            "comments": "token"}
        body["certificate"].update(certificate)
        return body

    def place(self, body=None, product="secure_email_mailbox"):
        answer = self.digicert("POST", "/order/certificate/" + product, body or self.order_body())
        self.assertEqual(201, answer.status, answer.body)
        return answer.json["id"]

    def wait_for(self, order, status, seconds=5):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            info = self.digicert("GET", "/order/certificate/%d" % order).json
            if info["status"] == status:
                return info
            time.sleep(0.05)
        self.fail("order is %s, not %s" % (info["status"], status))

    def issued(self, *args, **kwargs):
        number = self.place(*args, **kwargs)
        self.wait_for(number, "issued")
        return number

    def fetch(self, order, fmt="pem_all"):
        path = "/certificate/download/order/%d/format/%s" % (order, fmt)
        return self.digicert("GET", path)

    # --- Entra -------------------------------------------------------------------------------

    def assertion(self, key=None, certificate=None, header=None, claims=None, alg="PS256",
                  salt=32, client=CLIENT):
        now = int(time.time())
        certificate = certificate or self.certificate
        head = {"alg": alg, "typ": "JWT", "x5t#S256": b64u(certificate.fingerprint(
            hashes.SHA256()))}
        head.update(header or {})
        body = {"aud": "%s/%s/oauth2/v2.0/token" % (self.urls["login"], TENANT), "iss": client,
                "sub": client, "jti": str(uuid.uuid4()), "nbf": now, "iat": now, "exp": now + 600}
        body.update(claims or {})
        head = {k: v for k, v in head.items() if v is not None}
        body = {k: v for k, v in body.items() if v is not None}
        signed = b64u(json.dumps(head).encode()) + "." + b64u(json.dumps(body).encode())
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
        if alg == "RS256":
            scheme = padding.PKCS1v15()
        signature = (key or self.client_key).sign(signed.encode(), scheme, hashes.SHA256())
        return signed + "." + b64u(signature)

    def token_request(self, assertion=None, tenant=TENANT, **fields):
        form = {"client_id": CLIENT, "scope": self.urls["graph"] + "/.default",
                "grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": assertion or self.assertion()}
        form.update(fields)
        form = {k: v for k, v in form.items() if v is not None}
        return self.ask("login", "POST", "/%s/oauth2/v2.0/token" % tenant,
                        urllib.parse.urlencode(form),
                        {"Content-Type": "application/x-www-form-urlencoded"})

    def token(self, reader=False):
        if reader not in self.token_cache:
            if reader:
                assertion = self.assertion(self.reader_key, self.reader_certificate, client=READER)
                answer = self.token_request(assertion, client_id=READER)
            else:
                answer = self.token_request()
            self.assertEqual(200, answer.status, answer.body)
            self.token_cache[reader] = answer.json["access_token"]
        return self.token_cache[reader]

    # --- Graph -------------------------------------------------------------------------------

    def graph(self, method, path, body=None, headers=None, reader=False, **more):
        all_headers = {"Authorization": "Bearer " + self.token(reader),
                       "client-request-id": str(uuid.uuid4())}
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        all_headers.update(headers or {})
        all_headers = {k: v for k, v in all_headers.items() if v is not None}
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        return self.ask("graph", method, path, data, all_headers, **more)

    RECORDS = "/beta/deviceManagement/userPfxCertificates"

    @staticmethod
    def record(**changes):
        """A POST's body with the shell of a PFX: SEQUENCE { INTEGER 3, SEQUENCE { … } }."""
        blob = bytes.fromhex("3007020103") + bytes.fromhex("30020500")
        body = {"thumbprint": "AB" * 20, "intendedPurpose": "smimeSigning",
                "userPrincipalName": UPN, "startDateTime": "2026-01-02T03:04:05Z",
                "expirationDateTime": "2027-01-02T03:04:05Z",
                "providerName": "pfx-sim provider", "keyName": "PFXEncryptionKey",
                "paddingScheme": "oaepSha512", "encryptedPfxBlob": base64.b64encode(blob).decode(),
                "encryptedPfxPassword": base64.b64encode(b"\x5a" * 384).decode()}
        body.update(changes)
        return {k: v for k, v in body.items() if v is not ...}
