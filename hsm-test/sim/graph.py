"""Microsoft Graph: transitive members of groups, and Intune's userPfxCertificates (beta)."""

import binascii
import base64
import datetime
import json
import os
import re
import threading
import time
import urllib.parse
import uuid

import pki
import tenant
from graph_records import BadRecord, check_record, parse_filter
from limits import RollingLimit
from web import Response, json_response, parse_json

MEMBER_ROLES = {"GroupMember.Read.All", "Group.Read.All", "Group.ReadWrite.All",
                "Directory.Read.All"}
USER_ROLES = {"User.Read.All", "User.ReadWrite.All", "Directory.Read.All"}
RECORD_READ = {"DeviceManagementConfiguration.Read.All",
               "DeviceManagementConfiguration.ReadWrite.All"}
RECORD_WRITE = {"DeviceManagementConfiguration.ReadWrite.All"}

# What Graph returns of a user without $select; the rest comes only when asked for.
DEFAULT_SELECT = ("id", "businessPhones", "displayName", "givenName", "jobTitle", "mail",
                  "mobilePhone", "officeLocation", "preferredLanguage", "surname",
                  "userPrincipalName")
SELECTABLE = set(DEFAULT_SELECT) | {
    "accountEnabled", "companyName", "createdDateTime", "deletedDateTime", "department",
    "employeeHireDate", "employeeId", "mailNickname", "onPremisesDistinguishedName",
    "onPremisesImmutableId", "onPremisesSamAccountName", "onPremisesSyncEnabled",
    "onPremisesUserPrincipalName", "otherMails", "proxyAddresses", "securityIdentifier",
    "showInAddressList", "usageLocation", "userType"}
RECORD_MEMBERS = {"id", "thumbprint", "intendedPurpose", "userPrincipalName", "startDateTime",
                  "expirationDateTime", "providerName", "keyName", "paddingScheme",
                  "encryptedPfxBlob", "encryptedPfxPassword", "createdDateTime",
                  "lastModifiedDateTime"}
CODES = {400: "BadRequest", 401: "InvalidAuthenticationToken", 403: "Authorization_RequestDenied",
         404: "ResourceNotFound", 405: "BadRequest", 409: "Conflict", 429: "TooManyRequests",
         500: "InternalServerError", 503: "ServiceUnavailable", 504: "GatewayTimeout"}
MAX_TOP = 999


class GraphError(Exception):
    """A request that Graph refuses."""

    def __init__(self, status, message, code=None, headers=(), reason=None):
        super().__init__(message)
        self.status = status
        self.code = code or CODES.get(status, "UnknownError")
        self.headers = headers
        self.reason = reason


def stamp():
    """Now, with the seven fractional digits of .NET."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "7Z"


class Graph:
    """The service: groups and records of the tenant."""

    name = "graph"

    def __init__(self, sim):
        self.sim = sim
        self.lock = threading.RLock()
        self.any_limit = RollingLimit()
        self.write_limit = RollingLimit()
        self.folder = os.path.join(sim.folder, "graph")
        os.makedirs(self.folder, exist_ok=True)
        collection = r"^/beta/deviceManagement/userPfxCertificates"
        group = r"^/(?:v1\.0|beta)/groups/([^/]+)/transitiveMembers"
        self.routes = [
            (r"^/(?:v1\.0|beta)/groups/([^/]+)$", {"GET": self.group}, MEMBER_ROLES),
            (group + r"$", {"GET": self.members}, MEMBER_ROLES),
            (group + r"/microsoft\.graph\.user$", {"GET": self.user_members}, MEMBER_ROLES),
            (r"^/(?:v1\.0|beta)/users/([^/]+)$", {"GET": self.user}, USER_ROLES),
            (collection + r"$", {"GET": self.list, "POST": self.create}, None),
            (collection + r"/([^/]+)$",
             {"GET": self.get, "PATCH": self.update, "DELETE": self.delete}, None),
        ]
        self.routes = [(re.compile(p), m, r) for p, m, r in self.routes]
        self.reset()

    def reset(self):
        with self.lock:
            self.groups = {}
            self.users = {}
            for user in self.sim.tenant.users():
                self.users[user["id"].lower()] = user
            for group_id, members in self.sim.tenant.groups().items():
                self.groups[group_id] = [m["id"].lower() for m in members]
                for member in members:
                    self.users.setdefault(member["id"].lower(), member)
            self._index()
            self.records = {}
            self.counts = {"posts": 0, "posts_accepted": 0, "patches": 0, "patches_accepted": 0,
                           "deletes": 0, "deletes_accepted": 0}
            self.refused = []
            for name in os.listdir(self.folder):
                if name.endswith(".json"):
                    os.unlink(os.path.join(self.folder, name))
            for record in self.sim.tenant.records():
                self._preset(record)

    def _preset(self, record):
        """A record that exists from the beginning; made without a body, so without its file."""
        user = self._by_upn(record["userPrincipalName"])
        if user is None:
            raise tenant.TenantError("preset record of an unknown user")
        full = {"providerName": "PFXEncryption", "keyName": "preset", "paddingScheme": "oaepSha512",
                "intendedPurpose": "smimeSigning"}
        full.update(record)
        full["thumbprint"] = full["thumbprint"].lower()
        self._store(user, full, stamp())

    # --- entry -------------------------------------------------------------------------------

    def emails_of(self, request):
        """Addresses and UPN of the user that a record in body or path belongs to."""
        try:
            upn = parse_json(request.body)["userPrincipalName"]
        except (ValueError, KeyError, TypeError):
            upn = None
        with self.lock:
            user = self._by_upn(upn) if isinstance(upn, str) else None
            match = re.search(r"/userPfxCertificates/([0-9a-f]{32})-", request.path)
            if user is None and match:
                user = next((u for i, u in self.users.items()
                             if i.replace("-", "") == match.group(1)), None)
            if user is None:
                return []
            return [str(user.get(m)).lower() for m in ("mail", "userPrincipalName")]

    def _ids(self, request):
        if not hasattr(request, "ids"):
            request.ids = (str(uuid.uuid4()), request.headers.get("client-request-id"))
        return request.ids

    def decorate(self, request, response):
        request_id, client_id = self._ids(request)
        response.headers.append(("request-id", request_id))
        response.headers.append(("client-request-id", client_id or request_id))
        response.headers.append(("OData-Version", "4.0"))

    def error_body(self, status, request, code=None, message=None):
        request_id, client_id = self._ids(request)
        code = code or CODES.get(status, "UnknownError")
        if message is None:
            message = "Please retry again later." if status == 429 else "The request failed."
        return {"error": {"code": code, "message": message, "innerError": {
            "date": datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%S"),
            "request-id": request_id, "client-request-id": client_id or request_id}}}

    def _opaque(self, request):
        """Intune's 400, which says nothing but two ids."""
        return json.dumps({
            "_version": 3,
            "Message": "An error has occurred - Operation ID (for customer support): "
                       "00000000-0000-0000-0000-000000000000 - Activity ID: %s - Url: "
                       "https://fef.example.manage.microsoft.com/RACerts/"
                       "StatelessImportPFXService/deviceManagement/userPfxCertificates"
                       "?api-version=5021-04-09" % self._ids(request)[0],
            "CustomApiErrorPhrase": "", "RetryAfter": None, "ErrorSourceService": "",
            "HttpHeaders": "{}"}, indent=2).replace("\n", "\r\n")

    def handle(self, request):
        try:
            response = self._handle(request)
        except BadRecord as error:
            with self.lock:
                self.refused = self.refused[-199:] + [
                    {"method": request.method, "path": request.path, "reason": str(error)}]
            response = json_response(400, self.error_body(400, request,
                                                          message=self._opaque(request)))
        except GraphError as error:
            response = json_response(error.status, self.error_body(
                error.status, request, error.code, str(error)), error.headers)
        except ValueError as error:
            response = json_response(400, self.error_body(400, request, message=str(error)))
        self.decorate(request, response)
        return response

    def _handle(self, request):
        app = self._authorize(request)
        self._throttle(request, app)
        for pattern, methods, roles in self.routes:
            match = pattern.match(request.raw_path)
            if not match:
                continue
            if request.method not in methods:
                raise GraphError(405, "The method isn't supported here.")
            if roles is None:
                roles = RECORD_READ if request.method == "GET" else RECORD_WRITE
            if not app.roles & roles:
                raise GraphError(403, "Insufficient privileges to complete the operation.")
            request.app = app
            parts = [urllib.parse.unquote(g) for g in match.groups()]
            return methods[request.method](request, *parts)
        if request.path.startswith("/v1.0/deviceManagement/userPfxCertificates"):
            raise GraphError(400, "Resource not found for the segment 'userPfxCertificates'.")
        raise GraphError(400, "Resource not found for the segment.")

    def _authorize(self, request):
        header = request.headers.get("Authorization") or ""
        if not header:
            raise GraphError(401, "Access token is empty.")
        kind, _, token = header.partition(" ")
        app = self.sim.entra.lookup(token) if kind.lower() == "bearer" else None
        if app is None:
            raise GraphError(401, "Access token has expired or is not yet valid.")
        return app

    def _throttle(self, request, app):
        knobs, now = self.sim.knobs, time.monotonic()
        waits = []
        for limit, name, counts in (
                (self.write_limit, "graph_write_limits", request.method != "GET"),
                (self.any_limit, "graph_any_limits", True)):
            rules = [(n, s / self.sim.factor) for n, s in knobs.get(name) or []]
            if counts and not any(waits):
                waits.append(limit.take(app.client_id, rules, now))
        wait = max((w for w in waits if w), default=None)
        if wait is None:
            return
        form = knobs.get("retry_after")
        headers = {"seconds": [("Retry-After", str(int(wait) + 1))],
                   "fraction": [("Retry-After", "%.3f" % (wait + 0.001))],
                   "ms": [("x-ms-retry-after-ms", str(int(wait * 1000) + 1))]}.get(form, [])
        raise GraphError(429, "Please retry again later.", headers=headers)

    # --- options of OData --------------------------------------------------------------------

    @staticmethod
    def _options(request, allowed):
        for name, _ in request.query:
            if name not in allowed:
                raise GraphError(400, "The query option '%s' isn't supported here." % name)
        return {name: request.one(name) for name in allowed}

    @staticmethod
    def _top(text, page_size):
        if text is None:
            return min(100, page_size)
        if not text.isdigit() or not 1 <= int(text) <= MAX_TOP:
            raise GraphError(400, "Invalid page size specified: '%s'. Must be between 1 and 999 "
                             "inclusive." % text[:20], "Request_UnsupportedQuery")
        return min(int(text), page_size)

    @staticmethod
    def _select(text, selectable):
        if text is None:
            return None
        names = [n.strip() for n in text.split(",")]
        for name in names:
            if name not in selectable:
                raise GraphError(400, "Parsing OData Select and Expand failed: Could not find a "
                                 "property named '%s'." % name[:64])
        return names

    def _page(self, request, items, top, context):
        """One page of items, with a nextLink on the authority that the client used."""
        offset = 0
        token = request.one("$skiptoken")
        if token is not None:
            try:
                offset = int(base64.urlsafe_b64decode(token.encode("ascii"))[8:])
            except (ValueError, binascii.Error) as error:
                raise GraphError(400, "Skip token is invalid.") from error
        elif request.one("$skip") is not None:
            offset = int(request.one("$skip"))
        if offset < 0:
            raise GraphError(400, "Skip token is invalid.")
        answer = {"@odata.context": "https://graph.microsoft.com" + context,
                  "value": items[offset:offset + top]}
        if offset + top < len(items):
            token = base64.urlsafe_b64encode(b"simtoken%d" % (offset + top)).decode("ascii")
            query = [(k, v) for k, v in request.query if k not in ("$skiptoken", "$skip")]
            query.append(("$skiptoken", token))
            host = self.sim.knobs.get("next_link_authority") or request.headers.get("Host") \
                or "127.0.0.1:%d" % self.sim.ports["graph"]
            answer["@odata.nextLink"] = "https://%s%s?%s" % (
                host, request.raw_path, urllib.parse.urlencode(query, safe="$"))
        return json_response(200, answer)

    # --- directory ---------------------------------------------------------------------------

    def _members(self, request, group_id, only_users):
        options = self._options(request, ("$select", "$top", "$skiptoken"))
        names = self._select(options["$select"], SELECTABLE) or DEFAULT_SELECT
        top = self._top(options["$top"], self.sim.knobs.get("members_page_size"))
        with self.lock:
            ids = self.groups.get(group_id.lower())
            if ids is None:
                raise GraphError(404, "Resource '%s' does not exist or one of its queried "
                                 "reference-property objects are not present." % group_id[:64],
                                 "Request_ResourceNotFound")
            found = [self.users[i] for i in ids]
            if only_users:
                found = [m for m in found if tenant.is_user(m)]
            # Without the right to read users, Graph answers with ids and nulls.
            hidden = not request.app.roles & USER_ROLES
            items = [self._view(m, names, hidden, only_users) for m in found]
        return self._page(request, items, top, "/v1.0/$metadata#users")

    @staticmethod
    def _view(member, names, hidden, only_users):
        view = {} if only_users else {
            "@odata.type": member.get("@odata.type", "#microsoft.graph.user")}
        for name in names:
            if name == "id":
                view["id"] = member["id"]
            elif tenant.is_user(member):
                empty = [] if name in ("proxyAddresses", "otherMails", "businessPhones") else None
                view[name] = empty if hidden else member.get(name, empty)
            elif name in member:
                view[name] = member[name]
        return view

    def members(self, request, group_id):
        return self._members(request, group_id, False)

    def user_members(self, request, group_id):
        return self._members(request, group_id, True)

    def group(self, request, group_id):
        names = self._select(self._options(request, ("$select",))["$select"],
                             {"id", "displayName"}) or ("id", "displayName")
        with self.lock:
            if group_id.lower() not in self.groups:
                raise GraphError(404, "Resource '%s' does not exist." % group_id[:64],
                                 "Request_ResourceNotFound")
        view = {"id": group_id.lower(),
                "displayName": self.sim.tenant.group_names()[group_id.lower()]}
        return json_response(200, {n: view[n] for n in names})

    def user(self, request, key):
        names = self._select(self._options(request, ("$select",))["$select"], SELECTABLE)
        with self.lock:
            user = self.users.get(key.lower()) or self._by_upn(key)
            if user is None or not tenant.is_user(user):
                raise GraphError(404, "Resource '%s' does not exist." % key[:64],
                                 "Request_ResourceNotFound")
            return json_response(200, self._view(user, names or DEFAULT_SELECT, False, True))

    def _index(self):
        """Find users by UPN without a walk: a tenant can have many thousands."""
        self.upns = {str(u.get("userPrincipalName")).lower(): u for u in self.users.values()
                     if tenant.is_user(u)}

    def _by_upn(self, upn):
        return self.upns.get(upn.lower())

    def change_member(self, wanted):
        """The control listener's hand: add, change or remove a user of a group."""
        with self.lock:
            ids = self.groups.get(str(wanted.get("group", "")).lower())
            if "change" in wanted:
                user = self.users[wanted["change"]["id"].lower()]
                user.update(tenant.prepare_member(wanted["change"]))
                self._index()
                return
            if ids is None:
                raise KeyError("unknown group")
            if "add" in wanted:
                member = tenant.prepare_member(wanted["add"])
                self.users[member["id"].lower()] = member
                if member["id"].lower() not in ids:
                    ids.append(member["id"].lower())
            elif "remove" in wanted:
                ids.remove(wanted["remove"].lower())
            else:
                raise KeyError("add, change or remove is missing")
            self._index()

    # --- records -----------------------------------------------------------------------------

    def _body(self, request):
        if request.content_type() != "application/json":
            raise GraphError(415, "The content type isn't supported.", "UnsupportedMediaType")
        try:
            return parse_json(request.body)
        except ValueError as error:
            raise BadRecord("the body isn't JSON: %s" % error) from error

    def _store(self, user, body, created):
        record = {m: v for m, v in body.items() if not m.startswith("@")}
        number = "%s-%s" % (user["id"].replace("-", "").lower(), record["thumbprint"].lower())
        record.update(id=number, createdDateTime=created, lastModifiedDateTime=stamp())
        # Key material never leaves Intune again.
        record.update(encryptedPfxBlob="AA==", encryptedPfxPassword="")
        self.records[number] = record
        return record

    def _keep(self, number, body):
        data = json.dumps(body, indent=1, ensure_ascii=False).encode("utf-8")
        pki.write_file(os.path.join(self.folder, number + ".json"), data)

    @staticmethod
    def _entity(status, record):
        context = "https://graph.microsoft.com/beta/$metadata#deviceManagement/" \
                  "userPfxCertificates/$entity"
        return json_response(status, dict({"@odata.context": context}, **record))

    def list(self, request):
        options = self._options(request, ("$filter", "$top", "$skip", "$select", "$skiptoken"))
        matches = parse_filter(options["$filter"]) if options["$filter"] is not None else None
        names = self._select(options["$select"], RECORD_MEMBERS)
        if options["$skip"] is not None and not options["$skip"].isdigit():
            raise GraphError(400, "$skip must be a number.")
        top = self._top(options["$top"], self.sim.knobs.get("records_page_size"))
        with self.lock:
            found = [r for _, r in sorted(self.records.items()) if not matches or matches(r)]
            if names:
                found = [{n: r[n] for n in names if n in r} for r in found]
        return self._page(request, found, top,
                          "/beta/$metadata#deviceManagement/userPfxCertificates")

    def create(self, request):
        with self.lock:
            self.counts["posts"] += 1
            self._options(request, ())
            body = self._body(request)
            check_record(body)
            if body.get("id"):
                raise BadRecord("id must be empty or absent on create")
            user = self._by_upn(body["userPrincipalName"])
            if user is None:
                raise BadRecord("the userPrincipalName isn't known")
            number = "%s-%s" % (user["id"].replace("-", "").lower(), body["thumbprint"].lower())
            if number in self.records:
                if self.sim.knobs.get("existing_record") == 409:
                    raise GraphError(409, "The record exists already.")
                raise BadRecord("the record exists already")
            record = self._store(user, body, stamp())
            self.counts["posts_accepted"] += 1
            self._keep(number, body)
            return self._entity(201, record)

    def _record(self, number):
        record = self.records.get(number)
        if record is None:
            raise GraphError(404, "Resource not found.")
        return record

    def get(self, request, number):
        options = self._options(request, ("$select",))
        names = self._select(options["$select"], RECORD_MEMBERS)
        with self.lock:
            record = self._record(number)
            if names:
                record = {n: record[n] for n in names if n in record}
            return self._entity(200, record)

    def update(self, request, number):
        with self.lock:
            self.counts["patches"] += 1
            self._options(request, ())
            old = self._record(number)
            body = self._body(request)
            check_record(body, partial=self.sim.knobs.get("partial_patch"))
            full = dict(old, **body)
            user = self._by_upn(full["userPrincipalName"])
            if user is None:
                raise BadRecord("the userPrincipalName isn't known")
            same = "%s-%s" % (user["id"].replace("-", "").lower(), full["thumbprint"].lower())
            if same != number or body.get("id") not in (None, "", number):
                raise BadRecord("the body belongs to another record")
            record = self._store(user, full, old["createdDateTime"])
            self.counts["patches_accepted"] += 1
            self._keep(number, body)
            if self.sim.knobs.get("patch_status") == 204:
                return Response(204)
            return self._entity(200, record)

    def delete(self, request, number):
        with self.lock:
            self.counts["deletes"] += 1
            self._record(number)
            self.counts["deletes_accepted"] += 1
            if not self.sim.knobs.get("delete_lingers"):
                del self.records[number]
            return Response(204)

    def state(self):
        with self.lock:
            return dict(self.counts, records=len(self.records), refused=list(self.refused))

    def record_list(self):
        with self.lock:
            return [dict(r) for _, r in sorted(self.records.items())]
