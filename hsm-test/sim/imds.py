"""The two managed-identity addresses: Azure's instance metadata service, and the Azure Arc agent.
Both are fixed, so that they only work in a network namespace of the test's own."""

import os
import secrets
import stat
import threading
import time
import uuid

import pki
from web import Response, json_response

VM = ("169.254.169.254", 80)
ARC = ("127.0.0.1", 40342)
PATH = "/metadata/identity/oauth2/token"
KEYS = "/var/opt/azcmagent/tokens"


class Refused(Exception):
    """A request that isn't answered with a token."""

    def __init__(self, status, error, text):
        super().__init__(text)
        self.status = status
        self.error = error


class Imds:
    """The metadata service of a virtual machine."""

    name = "imds"
    version = "2018-02-01"

    def __init__(self, sim):
        self.sim = sim

    def emails_of(self, request):
        return []

    def decorate(self, request, response):
        pass

    def error_body(self, status, request):
        return {"error": "server_error", "error_description": "Please retry."}

    def handle(self, request):
        try:
            return self._token(request, self._identity(request))
        except Refused as refusal:
            return json_response(refusal.status, {"error": refusal.error,
                                                  "error_description": str(refusal)})

    def _identity(self, request):
        """The identity that is asked for, once the form of the request is right."""
        if request.method != "GET":
            raise Refused(405, "invalid_request", "Method not allowed")
        if request.headers.get("Metadata") != "true":
            raise Refused(400, "bad_request_102", "Required metadata header not specified")
        if request.headers.get("X-Forwarded-For") or request.headers.get("Via"):
            raise Refused(403, "forbidden", "Request came through a proxy")
        if request.path != PATH:
            raise Refused(404, "not_found", "Path not found")
        known = {"api-version", "resource", "client_id"}
        if {name for name, _ in request.query} - known:
            raise Refused(400, "bad_request", "Unknown query parameter")
        if request.one("api-version") != self.version:
            raise Refused(400, "bad_request", "Unknown api-version")
        return self._find(request.one("client_id"))

    def _find(self, client_id):
        for identity in self.sim.tenant.identities:
            if identity.client_id == (client_id or "").lower() or (
                    client_id is None and identity.default):
                return identity
        raise Refused(400, "invalid_request", "Identity not found")

    def _token(self, request, identity):
        resource = (request.one("resource") or "").rstrip("/")
        if self.sim.entra.service_of(resource) is None:
            raise Refused(400, "invalid_resource", "AADSTS500011: The resource principal named %s "
                          "was not found in the tenant." % resource[:100])
        lifetime = self.sim.knobs.get("identity_lifetime")
        token = self.sim.entra.issue(identity, resource, lifetime)
        now = int(time.time())
        # Every number is a text here.
        return json_response(200, {
            "access_token": token, "client_id": identity.client_id,
            "expires_in": str(lifetime), "expires_on": str(now + lifetime),
            "ext_expires_in": str(lifetime), "not_before": str(now - 5), "resource": resource,
            "token_type": "Bearer"})


class Arc(Imds):
    """azcmagent: who can read a file that it makes is of its group, and gets a token."""

    name = "arc"
    version = "2020-06-01"

    def __init__(self, sim):
        super().__init__(sim)
        self.lock = threading.Lock()
        self.open = {}

    def _find(self, client_id):
        if client_id is not None:
            raise Refused(400, "invalid_request", "client_id isn't known here")
        return super()._find(None)

    def handle(self, request):
        try:
            identity = self._identity(request)
            header = request.headers.get("Authorization")
            if header is None:
                return self._challenge()
            self._check(header)
            return self._token(request, identity)
        except Refused as refusal:
            return json_response(refusal.status, {"error": refusal.error,
                                                  "error_description": str(refusal)})

    def _challenge(self):
        path = os.path.join(KEYS, "%s.key" % uuid.uuid4())
        secret = secrets.token_hex(64)
        pki.write_file(path, secret.encode("ascii"), 0o640)
        with self.lock:
            self.open[secret] = path
        realm = self.sim.knobs.get("arc_realm") or path
        return Response(401, b"", None, [("WWW-Authenticate", "Basic realm=" + realm)])

    def _check(self, header):
        kind, _, secret = header.partition(" ")
        with self.lock:
            path = self.open.pop(secret, None)
        if kind != "Basic" or path is None:
            raise Refused(401, "unauthorized", "The challenge's answer is wrong")
        if stat.S_ISREG(os.lstat(path).st_mode):
            os.unlink(path)
