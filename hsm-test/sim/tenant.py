"""The tenant file: apps, groups, DigiCert account and preset records, with files read again."""

import copy
import datetime
import hashlib
import hmac
import json
import os
import re
import threading
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes

GUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", re.I)
RELATIVE = re.compile(r"^([+-])(\d{1,5})d$")


class TenantError(Exception):
    """The tenant file can't be used; the text says why."""


def absolute_time(value):
    """'+30d' or '-90d' as an RFC 3339 time at that distance from now; other values unchanged."""
    match = RELATIVE.match(value) if isinstance(value, str) else None
    if not match:
        return value
    days = int(match.group(2)) * (1 if match.group(1) == "+" else -1)
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_user(member):
    """Whether a group member survives the cast to microsoft.graph.user."""
    return member.get("@odata.type", "#microsoft.graph.user") == "#microsoft.graph.user"


class WatchedFile:
    """The bytes of a file, read again when it changes; None while it is absent."""

    def __init__(self, path):
        self._path = path
        self._stamp = None
        self._data = None
        self._lock = threading.Lock()

    def read(self):
        with self._lock:
            try:
                status = os.stat(self._path)
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp != self._stamp:
                    with open(self._path, "rb") as stream:
                        self._data = stream.read(1 << 20)
                    self._stamp = stamp
            except OSError:
                self._stamp = None
                self._data = None
            return self._data


class App:
    """An app registration or a managed identity: client id, roles, and the certificates registered
    with it."""

    def __init__(self, entry, folder):
        self.client_id = entry["client_id"].lower()
        object_id = uuid.uuid5(uuid.NAMESPACE_OID, self.client_id)
        self.object_id = entry.get("object_id", str(object_id)).lower()
        self.roles = set(entry.get("roles", []))
        self.directory_roles = set(entry.get("directory_roles", []))
        self.algorithms = entry.get("algorithms")  # None: those of the setting
        self.public = bool(entry.get("public", False))
        self.disabled = bool(entry.get("disabled", False))
        self.default = bool(entry.get("default", False))
        self._files = [WatchedFile(os.path.join(folder, p)) for p in entry.get("certificates", [])]

    def certificates(self):
        """{SHA-256 of the DER: certificate} of what is registered just now."""
        found = {}
        for watched in self._files:
            data = watched.read()
            if not data:
                continue
            try:
                certificate = x509.load_pem_x509_certificate(data)
            except ValueError:
                continue  # half-written by init: the next request reads it again
            raw = certificate.fingerprint(hashes.SHA256())
            found[raw] = certificate
        return found


class Tenant:
    """The tenant as the file says; live copies of groups and records are made by the services."""

    def __init__(self, path):
        folder = os.path.dirname(os.path.abspath(path))
        try:
            with open(path, encoding="utf-8") as stream:
                raw = json.load(stream)
        except (OSError, ValueError) as error:
            raise TenantError("%s: %s" % (path, error)) from error
        try:
            self.tenant_id = raw["tenant_id"].lower()
            if not GUID.match(self.tenant_id):
                raise TenantError("%s: tenant_id isn't a GUID" % path)
            self.apps = {a["client_id"].lower(): App(a, folder) for a in raw["apps"]}
            self.identities = [App(i, folder) for i in raw.get("identities", [])]
            self.mailboxes = raw.get("mailboxes", [])
            self._groups = raw.get("groups", {})
            self._users = raw.get("users", [])
            self._records = raw.get("records", [])
            self.cancel = {a.lower() for a in raw.get("cancel", [])}
            digicert = raw.get("digicert", {})
            self.cancel |= {a.lower() for a in digicert.get("cancel", [])}
            self.organizations = _organizations(digicert.get("organizations", []))
            self.products = digicert.get("products")
            self.unvalidated = {a.lower() for a in digicert.get("unvalidated", [])}
            self.settings = dict(raw.get("settings", {}))
            if "issue_delay" in digicert:
                self.settings.setdefault("issue_delay", digicert["issue_delay"])
            self.rules = raw.get("knobs", [])
            self._key_hash = digicert.get("api_key_sha256", "").lower()
            key_file = digicert.get("api_key_file")
            self._key_file = WatchedFile(os.path.join(folder, key_file)) if key_file else None
        except (KeyError, TypeError, AttributeError) as error:
            raise TenantError("%s: missing or wrong member: %r" % (path, error)) from error

    def api_key_is(self, given):
        """Whether given is the account's API key; only hashes are compared."""
        expected = self._key_hash
        if self._key_file:
            data = self._key_file.read()
            expected = hashlib.sha256(data.strip()).hexdigest() if data and data.strip() else ""
        actual = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        return bool(expected) and hmac.compare_digest(expected, actual)

    def groups(self):
        """A fresh copy: {group id: [member objects]}, relative dates made absolute."""
        fresh = {}
        for group_id, group in self._groups.items():
            fresh[group_id.lower()] = [prepare_member(m) for m in group["members"]]
        return fresh

    def group_names(self):
        return {i.lower(): g.get("displayName", "Group " + i[-4:]) for i, g in self._groups.items()}

    def users(self):
        return [prepare_member(u) for u in self._users]

    def records(self):
        return [{k: absolute_time(v) for k, v in r.items()} for r in copy.deepcopy(self._records)]


def prepare_member(member):
    """A member object of its own, its hire date absolute."""
    fresh = copy.deepcopy(member)
    if not GUID.match(str(fresh.get("id", ""))):
        raise TenantError("a group member has no GUID as id: %r" % fresh.get("id"))
    if "employeeHireDate" in fresh:
        fresh["employeeHireDate"] = absolute_time(fresh["employeeHireDate"])
    return fresh


def _organizations(entries):
    """{id: organization object} of numbers or objects."""
    found = {}
    for entry in entries:
        if isinstance(entry, int):
            entry = {"id": entry}
        full = {"name": "Contoso Example AG", "country": "CH",
                "identifier": "NTRCH-CHE-000.000.000"}
        full.update(entry)
        found[full["id"]] = full
    return found
