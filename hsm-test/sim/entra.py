"""Entra ID's token endpoint: client assertions checked claim by claim, bearer tokens given out."""

import base64
import json
import re
import secrets
import threading
import time
import urllib.parse
import uuid
from collections import deque

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import pki
from tenant import GUID
from web import json_response, parse_json

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PATH = re.compile(r"^/([^/]+)/oauth2/v2\.0/token$")
MAX_LIFETIME = 600
BASE64URL = re.compile(r"^[A-Za-z0-9_-]+$")
MAX_REFUSALS = 200


class Refused(Exception):
    """A token request that is refused: OAuth error, AADSTS number, text."""

    def __init__(self, error, code, text, status=401):
        super().__init__(text)
        self.error = error
        self.code = code
        self.status = status


def client_error(code, text):
    return Refused("invalid_client", code, text)


def decode64(part):
    """base64url without padding, in its one right spelling; ValueError otherwise."""
    if not BASE64URL.match(part) or len(part) % 4 == 1:
        raise ValueError("not base64url")
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
        raise ValueError("not canonical base64url")
    return raw


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class Entra:
    """The service: one tenant, its apps, the tokens in force."""

    name = "entra"

    def __init__(self, sim):
        self.sim = sim
        self.lock = threading.Lock()
        self.tokens = {}
        self.reset()

    def reset(self):
        with self.lock:
            self.seen = {}
            self.issued = 0
            self.given = {}
            self.refused = deque(maxlen=MAX_REFUSALS)
            self.refused_total = 0

    def drop_tokens(self):
        with self.lock:
            self.tokens = {}

    def lookup(self, token, service="graph"):
        """The app of a token in force for this service, or None."""
        with self.lock:
            entry = self.tokens.get(token)
        if entry is None or time.time() >= entry[1] or entry[2] != service:
            return None
        return entry[0]

    def issue(self, app, resource, lifetime):
        """A fresh access token of app for resource, whose service is known."""
        service = self.service_of(resource)
        withheld = self.sim.knobs.get("roles_withheld")
        now = time.time()
        claims = {"aud": resource, "iss": "https://sts.windows.net/%s/" % self.sim.tenant.tenant_id,
                  "iat": int(now), "nbf": int(now), "exp": int(now + lifetime),
                  "appid": app.client_id, "idtyp": "app", "oid": app.object_id,
                  "roles": self.roles_at(app, service, withheld), "sub": app.object_id,
                  "tid": self.sim.knobs.get("token_tenant") or self.sim.tenant.tenant_id,
                  "uti": secrets.token_urlsafe(16),
                  "ver": "1.0", "xms_ftd": secrets.token_urlsafe(500)}
        header = {"typ": "JWT", "alg": "RS256"}
        parts = [b64u(json.dumps(part).encode()) for part in (header, claims)]
        if self.sim.knobs.get("opaque_tokens"):
            parts = ["eyJ0eXAi", secrets.token_urlsafe(1100)]
        token = ".".join(parts + [secrets.token_urlsafe(256)])
        with self.lock:
            self.tokens = {t: e for t, e in self.tokens.items() if e[1] > now}
            self.tokens[token] = (app, now + lifetime, service)
            self.issued += 1
            self.given[app.client_id + " " + service] = 1 + self.given.get(
                app.client_id + " " + service, 0)
        return token

    @staticmethod
    def roles_at(app, service, withheld):
        """Each service's tokens name the roles at that service only."""
        return sorted(r for r in app.roles if r.startswith("Exchange.") == (service == "exchange")
                      and r not in withheld)

    def service_of(self, resource):
        """The service that a resource's address is of, with or without its port; None: no one's."""
        found = {}
        for service in ("graph", "exchange"):
            port = self.sim.ports[service]
            for host in ("127.0.0.1", "localhost"):
                found["https://%s:%d" % (host, port)] = service
        for address in ["https://127.0.0.1", "https://localhost"] + \
                ["https://" + front for front in self.sim.knobs.get("fronts")]:
            found.setdefault(address, "graph")
        return found.get(resource)

    def emails_of(self, request):
        return []

    def decorate(self, request, response):
        response.headers.append(("x-ms-request-id", str(uuid.uuid4())))
        response.headers.append(("Cache-Control", "no-store, no-cache"))

    def error_body(self, status, request):
        error = "temporarily_unavailable" if status in (429, 503) else "server_error"
        return self._error(error, 90033, "A transient error has occurred. Please try again.")

    def _error(self, error, code, text):
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        text = "AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s" % (
            code, text, trace, correlation, stamp)
        return {"error": error, "error_description": text, "error_codes": [code],
                "timestamp": stamp, "trace_id": trace, "correlation_id": correlation,
                "error_uri": "https://login.microsoftonline.com/error?code=%d" % code}

    def handle(self, request):
        client = None
        try:
            match = PATH.match(request.path)
            if not match:
                response = json_response(404, self._error("invalid_request", 900561,
                                                          "The endpoint isn't known."))
            elif request.method != "POST":
                response = json_response(405, self._error(
                    "invalid_request", 900561, "The endpoint only accepts POST requests."))
            else:
                form = self._form(request)
                client = form.get("client_id")
                response = json_response(200, self._token(match.group(1), form))
        except Refused as refusal:
            with self.lock:
                self.refused_total += 1
                self.refused.append({"time": round(time.time(), 3), "code": refusal.code,
                                     "error": refusal.error, "reason": str(refusal),
                                     "client_id": client})
            response = json_response(refusal.status,
                                     self._error(refusal.error, refusal.code, str(refusal)))
        self.decorate(request, response)
        return response

    @staticmethod
    def _form(request):
        if request.content_type() != "application/x-www-form-urlencoded":
            raise Refused("invalid_request", 900144, "The request body must be a form.", 400)
        try:
            pairs = urllib.parse.parse_qsl(request.body.decode("ascii"), keep_blank_values=True,
                                           strict_parsing=True, max_num_fields=50)
        except ValueError as error:
            raise Refused("invalid_request", 900144, "The form can't be read.", 400) from error
        form = dict(pairs)
        if len(form) != len(pairs):
            raise Refused("invalid_request", 900144, "A form field is doubled.", 400)
        return form

    def _token(self, tenant, form):
        if tenant.lower() != self.sim.tenant.tenant_id:
            raise Refused("invalid_request", 90002, "Tenant '%s' not found." % tenant[:64], 400)
        for field in ("grant_type", "client_id", "scope"):
            if not form.get(field):
                raise Refused("invalid_request", 900144, "The request body must contain the "
                              "following parameter: '%s'." % field, 400)
        if form["grant_type"] != "client_credentials":
            raise Refused("unsupported_grant_type", 70003,
                          "The app requested an unsupported grant type.", 400)
        app = self.sim.tenant.apps.get(form["client_id"].lower())
        if app is None:
            raise Refused("unauthorized_client", 700016, "Application with identifier '%s' was not "
                          "found in the directory." % form["client_id"][:64], 400)
        if "client_secret" in form:
            raise client_error(7000215, "Invalid client secret provided.")
        if not form.get("client_assertion"):
            raise client_error(7000216, "'client_assertion', 'client_secret' or 'request' is "
                               "required for the 'client_credentials' grant type.")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise client_error(7000219, "'client_assertion_type' must be '%s'." % ASSERTION_TYPE)
        known = {"grant_type", "client_id", "scope", "client_assertion", "client_assertion_type"}
        if set(form) - known:
            raise Refused("invalid_request", 90015, "The form has fields that aren't of this flow: "
                          "%s." % ", ".join(sorted(set(form) - known))[:200], 400)
        if app.disabled:
            raise Refused("unauthorized_client", 7000112, "Application '%s' is disabled."
                          % app.client_id, 400)
        if app.public:
            raise client_error(700025, "Client is public so neither 'client_assertion' nor "
                               "'client_secret' should be presented.")
        resource = self._check_scope(form["scope"])
        self._check_assertion(form["client_assertion"], app)
        lifetime = self.sim.knobs.get("token_lifetime")
        token = self.issue(app, resource, lifetime)
        return {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime,
                "access_token": token}

    def _check_scope(self, scope):
        """The scope must name this Graph, with or without its port, a proxy in front of it, or this
        Exchange; returns the resource."""
        if " " in scope or not scope.endswith("/.default"):
            raise Refused("invalid_scope", 1002012, "The provided value for scope %s is not valid. "
                          "Client credential flows must have a scope value with /.default suffixed "
                          "to the resource identifier." % scope[:100], 400)
        resource = scope[:-len("/.default")].rstrip("/")
        if self.service_of(resource) is None:
            raise Refused("invalid_resource", 500011, "The resource principal named %s was not "
                          "found in the tenant." % resource[:100], 400)
        return resource

    def _check_assertion(self, assertion, app):
        try:
            head_part, claims_part, signature_part = assertion.split(".")
            header = parse_json(decode64(head_part))
            claims = parse_json(decode64(claims_part))
            signature = decode64(signature_part)
        except ValueError as error:
            raise client_error(50027, "JWT token is invalid or malformed.") from error
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise client_error(50027, "JWT token is invalid or malformed.")
        algorithm = header.get("alg")
        if algorithm not in (app.algorithms or self.sim.knobs.get("assertion_algs")):
            raise client_error(5002738, "Invalid JWT token. The algorithm is not supported.")
        if header.get("typ") != "JWT":
            raise client_error(50027, "JWT token is invalid: header parameter typ must be JWT.")
        if "crit" in header:
            raise client_error(50027, "JWT token is invalid: unknown critical header.")
        certificate = self._certificate(header, app)
        signed = (head_part + "." + claims_part).encode("ascii")
        self._verify(certificate.public_key(), algorithm, signature, signed)
        self._check_claims(claims, app)

    @staticmethod
    def _certificate(header, app):
        reason = "Client assertion contains an invalid signature. [Reason - %s]"
        try:
            thumbprint = decode64(header["x5t#S256"])
        except (KeyError, ValueError, TypeError) as error:
            raise client_error(700027, reason % "The header has no usable x5t#S256.") from error
        certificate = app.certificates().get(thumbprint)
        if certificate is None:
            raise client_error(700027, reason % "The key was not found.")
        now = pki.utc_now()
        if not certificate.not_valid_before <= now <= certificate.not_valid_after:
            raise client_error(700027, reason % "The key used is expired.")
        return certificate

    @staticmethod
    def _verify(key, algorithm, signature, signed):
        if algorithm == "PS256":
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        else:
            scheme = padding.PKCS1v15()
        try:
            if not isinstance(key, rsa.RSAPublicKey):
                raise InvalidSignature()
            key.verify(signature, signed, scheme, hashes.SHA256())
        except InvalidSignature as error:
            raise client_error(700027, "Client assertion contains an invalid signature. [Reason - "
                               "The key was found, but use of the key to verify the signature "
                               "failed.]") from error

    def _check_claims(self, claims, app):
        port = self.sim.ports["entra"]
        authorities = ["%s:%d" % (host, port) for host in ("127.0.0.1", "localhost")]
        audiences = ["https://%s/%s/oauth2/v2.0/token" % (authority, self.sim.tenant.tenant_id)
                     for authority in authorities + self.sim.knobs.get("fronts")]
        if claims.get("aud") not in audiences:
            raise client_error(700023, "Client assertion audience claim does not match Realm "
                               "issuer.")
        for member in ("iss", "sub"):
            if not isinstance(claims.get(member), str) or claims[member].lower() != app.client_id:
                raise client_error(700021, "Client assertion application identifier doesn't match "
                                   "'client_id' parameter (%s)." % member)
        times = [claims.get(member) for member in ("nbf", "iat", "exp")]
        if any(type(value) is not int for value in times):
            raise client_error(50027, "JWT token is invalid: nbf, iat and exp must be numbers.")
        not_before, issued_at, expires = times
        now, skew = time.time(), self.sim.knobs.get("clock_skew")
        if expires - not_before > MAX_LIFETIME or expires <= not_before or issued_at > now + skew:
            raise client_error(700024, "Client assertion is not within its valid time range: the "
                               "lifetime is wrong.")
        if now > expires + skew or now < not_before - skew:
            raise client_error(700024, "Client assertion is not within its valid time range.")
        if not isinstance(claims.get("jti"), str) or not GUID.match(claims["jti"]):
            raise client_error(50027, "JWT token is invalid: jti must be a GUID.")
        with self.lock:
            self.seen = {j: t for j, t in self.seen.items() if t > now}
            if claims["jti"].lower() in self.seen:
                raise client_error(50013, "Assertion failed signature validation. [Reason - The "
                                   "assertion was used before.]")
            self.seen[claims["jti"].lower()] = expires + skew

    def state(self):
        with self.lock:
            return {"tokens_issued": self.issued, "tokens": dict(self.given),
                    "refused_total": self.refused_total, "refused": list(self.refused)}
