"""Exchange Online's admin interface: cmdlets as JSON, for shared mailboxes and who may open them."""

import base64
import binascii
import copy
import re
import threading
import uuid

from tenant import GUID
from web import json_response, parse_json

PATH = re.compile(r"^/adminapi/beta/([^/]+)/InvokeCommand$")
ANCHOR = "UPN:SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}@%s"
PERMISSION = {"IsInherited": False, "Deny": False, "InheritanceType": "All"}


class Refused(Exception):
    """A request that Exchange refuses."""

    def __init__(self, status, code, text):
        super().__init__(text)
        self.status = status
        self.code = code


class Exchange:
    """The service: the tenant's mailboxes."""

    name = "exchange"

    def __init__(self, sim):
        self.sim = sim
        self.lock = threading.Lock()
        self.commands = {"Get-Mailbox": self.mailboxes, "Get-MailboxPermission": self.permissions}
        self.reset()

    def reset(self):
        with self.lock:
            self.boxes = {}
            for entry in copy.deepcopy(self.sim.tenant.mailboxes):
                self.boxes[entry["PrimarySmtpAddress"].lower()] = entry
            self.counts = {name: 0 for name in self.commands}

    def emails_of(self, request):
        return []

    def decorate(self, request, response):
        response.headers.append(("request-id", str(uuid.uuid4())))

    def error_body(self, status, request):
        return self._error("InternalServerError", "The server is busy.")

    @staticmethod
    def _error(code, text):
        return {"error": {"code": code, "message": "", "details": [
            {"code": "Context", "target": "", "message": text}]}}

    def handle(self, request):
        try:
            response = json_response(200, self._handle(request))
        except Refused as refusal:
            response = json_response(refusal.status, self._error(refusal.code, str(refusal)))
        except ValueError as error:
            response = json_response(400, self._error("BadRequest", str(error)))
        self.decorate(request, response)
        return response

    def _handle(self, request):
        self._authorize(request)
        match = PATH.match(request.path)
        if not match or match.group(1).lower() != self.sim.tenant.tenant_id:
            raise Refused(404, "NotFound", "The path isn't known.")
        if request.method != "POST" or request.content_type() != "application/json":
            raise Refused(405, "BadRequest", "Only POST of JSON is taken.")
        body = parse_json(request.body)
        if set(body) != {"CmdletInput"} or set(body["CmdletInput"]) != {"CmdletName", "Parameters"}:
            raise ValueError("the body isn't a cmdlet")
        name = body["CmdletInput"]["CmdletName"]
        self._check_headers(request, name)
        if name not in self.commands:
            raise Refused(400, "NotFound", "The term '%s' isn't a cmdlet." % str(name)[:64])
        with self.lock:
            self.counts[name] += 1
            rows = self.commands[name](body["CmdletInput"]["Parameters"])
        return self._page(request, rows)

    def _authorize(self, request):
        kind, _, token = (request.headers.get("Authorization") or "").partition(" ")
        app = self.sim.entra.lookup(token, "exchange") if kind.lower() == "bearer" else None
        if app is None or "Exchange.ManageAsApp" not in app.roles:
            raise Refused(401, "Unauthorized", "The token isn't accepted.")
        if not app.directory_roles & {"Global Reader", "Exchange Administrator"}:
            raise Refused(403, "Forbidden", "The role assigned to application isn't supported in "
                          "this scenario.")

    def _check_headers(self, request, name):
        get = request.headers.get
        if get("X-CmdletName") != name:
            raise ValueError("X-CmdletName isn't the cmdlet's name")
        for header in ("connection-id", "client-request-id"):
            if not GUID.match(get(header) or ""):
                raise ValueError(header + " isn't a GUID")
        if get("Prefer") != "odata.maxpagesize=1000":
            raise ValueError("Prefer isn't a page size")
        if get("X-AnchorMailbox") != ANCHOR % self.sim.tenant.tenant_id:
            raise ValueError("X-AnchorMailbox leads nowhere")

    # --- cmdlets -----------------------------------------------------------------------------

    def mailboxes(self, parameters):
        if set(parameters) != {"RecipientTypeDetails", "ResultSize"}:
            raise ValueError("Get-Mailbox has other parameters here")
        wanted, size = parameters["RecipientTypeDetails"], parameters["ResultSize"]
        rows = []
        for key in sorted(self.boxes):
            box = {m: v for m, v in self.boxes[key].items() if m != "permissions"}
            box.setdefault("RecipientTypeDetails", "SharedMailbox")
            box.setdefault("EmailAddresses", ["SMTP:" + box["PrimarySmtpAddress"]])
            box["EmailAddresses@odata.type"] = "#Collection(String)"
            if box["RecipientTypeDetails"] == wanted:
                rows.append(box)
        return rows if size == "Unlimited" else rows[:int(size)]

    def permissions(self, parameters):
        if set(parameters) != {"Identity"}:
            raise ValueError("Get-MailboxPermission has other parameters here")
        box = self.boxes.get(str(parameters["Identity"]).lower())
        if box is None:
            raise Refused(404, "NotFound", "|Microsoft.Exchange.Configuration.Tasks."
                          "ManagementObjectNotFoundException|The operation couldn't be performed "
                          "because object '%s' couldn't be found." % parameters["Identity"][:100])
        rows = [dict(PERMISSION, User="NT AUTHORITY\\SELF",
                     AccessRights=["FullAccess", "ReadPermission"])]
        rows += [dict(PERMISSION, **row) for row in box.get("permissions", [])]
        for row in rows:
            row["Identity"] = box["PrimarySmtpAddress"]
        return rows

    def _page(self, request, rows):
        offset = 0
        token = request.one("$skiptoken")
        if token is not None:
            try:
                offset = int(base64.urlsafe_b64decode(token.encode("ascii"))[4:])
            except (ValueError, binascii.Error) as error:
                raise ValueError("the skip token is invalid") from error
        size = self.sim.knobs.get("exchange_page_size")
        answer = {"adminapi.warnings@odata.type": "#Collection(String)", "@adminapi.warnings": [],
                  "value": rows[offset:offset + size]}
        if offset + size < len(rows):
            token = base64.urlsafe_b64encode(b"page%d" % (offset + size)).decode("ascii")
            host = self.sim.knobs.get("next_link_authority") or request.headers.get("Host")
            answer["@odata.nextLink"] = "https://%s%s?$skiptoken=%s" % (host, request.raw_path, token)
        return answer

    def state(self):
        with self.lock:
            return {"commands": dict(self.counts)}
