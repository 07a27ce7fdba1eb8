"""Inputs for the targets that read services' answers: what the simulators say, and what is odd."""

import base64
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "sim"))

from cryptography.hazmat.primitives import serialization  # noqa: E402
from simclient import EC_KEY, GROUP, OBJECT, TENANT, UPN, SimCase, csr  # noqa: E402

OID = "a1000000-0000-4000-8000-000000000001"
TOKEN = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
RECORD = OBJECT + "-" + "ab" * 20
DIGICERT = "https://www.digicert.com/services/v2"
GRAPH = "https://graph.microsoft.com"
EXCHANGE = "https://outlook.office365.com"
HEADERS = ("Content-Type", "Retry-After", "x-ms-retry-after-ms", "WWW-Authenticate", "request-id",
           "x-ms-request-id", "Location", "Date")
PREFIX = b"\x1e"


def answer(status, body=b"", content_type="application/json", **headers):
    """One answer in the form of rig.h."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body, ensure_ascii=False)
    if isinstance(body, str):
        body = body.encode()
    lines = [str(status)]
    if content_type:
        lines.append("Content-Type: " + content_type)
    lines += ["%s: %s" % (k.replace("_", "-"), v) for k, v in headers.items()]
    return "\n".join(lines).encode() + b"\n\n" + body


def job(kind, body, *answers, head=b""):
    return head + kind.encode() + b" " + json.dumps(body).encode() + b"\n" + PREFIX.join(answers)


class Recorder(SimCase):
    """The simulators, and what they answered."""

    def runTest(self):
        pass

    def recorded(self, got):
        """An answer as the product would see it: the services' own hosts."""
        body = got.body
        for name, url in (("digicert", DIGICERT), ("graph", GRAPH), ("exchange", EXCHANGE)):
            body = body.replace(self.urls[name].encode(), url.encode())
            body = body.replace(json.dumps(self.urls[name])[1:-1].encode(), url.encode())
        lines = [str(got.status)]
        lines += ["%s: %s" % (h, got.headers[h]) for h in HEADERS if got.headers.get(h)]
        return "\n".join(lines).encode() + b"\n\n" + body


def members_answer(sim):
    path = ("/v1.0/groups/%s/transitiveMembers/microsoft.graph.user?$select=id,accountEnabled,"
            "displayName,givenName,surname,mail,userPrincipalName,proxyAddresses,department,"
            "employeeHireDate&$top=" % GROUP)
    return [sim.recorded(sim.graph("GET", path + top)) for top in ("999", "3")]


def graph(sim):
    say = sim.recorded
    whole, paged = members_answer(sim)
    group = {"group": GROUP}
    sim.graph("POST", sim.RECORDS, sim.record())
    listed = say(sim.graph("GET", sim.RECORDS))
    one = say(sim.graph("GET", sim.RECORDS + "/" + RECORD))
    none = say(sim.graph("GET", sim.RECORDS + "/" + OBJECT + "-" + "cd" * 20))
    patched = say(sim.graph("PATCH", sim.RECORDS + "/" + RECORD, sim.record()))
    record = {"user": OID, "record_id": RECORD, "thumbprint": "ab" * 20,
              "purpose": "smimeSigning", "upn": UPN, "starts": 1767323045000,
              "expires": 1798859045000, "provider_name": "p", "key_name": "k",
              "padding": "oaepSha512", "pfx": base64.b64encode(b"x" * 80).decode(),
              "sealed": base64.b64encode(b"s" * 384).decode()}
    by_id = {"record_id": RECORD}
    boxes = answer(200, {"value": [
        {"PrimarySmtpAddress": "info@example.com", "RecipientTypeDetails": "SharedMailbox",
         "EmailAddresses": ["SMTP:info@example.com", "smtp:i@example.com", "SIP:i@example.com"]}]})
    rights = answer(200, {"value": [
        {"User": "a@example.com", "AccessRights": ["FullAccess"], "Deny": False,
         "IsInherited": False},
        {"User": "b@example.com", "AccessRights": ["SendAs", "fullaccess"], "Deny": "True",
         "IsInherited": "false"},
        {"User": "S-1-5-21-1", "AccessRights": ["FullAccess"], "Deny": False,
         "IsInherited": False}]})
    at = GRAPH + "/v1.0/groups/" + GROUP + "/transitiveMembers/microsoft.graph.user?$skiptoken=x"
    shell = EXCHANGE + "/adminapi/beta/11111111-2222-4333-8444-555555555555/InvokeCommand"
    denied = answer(403, {"error": {"code": "Forbidden", "message": json.dumps({
        "_version": 3, "Message": "no - Operation ID (for customer support): " + TOKEN})}})
    told = answer(400, {"error": {"code": "BadRequest", "message": "x - Activity ID: " + TOKEN
                                  + " - Operation ID (for customer support): " + TOKEN,
                                  "innerError": {"request-id": TOKEN, "date": "2026-11-22"}}})
    setup = {"groups": [GROUP], "mailboxes": True, "mail": True}
    found = say(sim.graph("GET", "/v1.0/groups/%s?$select=id,displayName" % GROUP))
    rows = [{"User": "NT AUTHORITY\\SELF", "AccessRights": ["FullAccess"], "Deny": False,
             "IsInherited": False},
            {"User": "c@example.com", "AccessRights": ["FullAccess"], "Deny": "False",
             "IsInherited": "True"},
            {"User": "d@example.com", "AccessRights": ["ReadPermission"], "Deny": "maybe",
             "IsInherited": False}]
    return {
        "members": job("up.members", group, whole),
        "members-paged": job("up.members", group, paged),
        "members-next": job("up.members", dict(group, page=at), whole),
        "members-evil-page": job("up.members", dict(group, page="https://evil.example/v1.0/groups")),
        "members-evil-link": job("up.members", group, answer(200, {
            "value": [], "@odata.nextLink": at.replace("graph.", "graph.evil.")})),
        "members-loop": job("up.members", dict(group, page=at), answer(200, {
            "value": [], "@odata.nextLink": at})),
        "members-long-link": job("up.members", group, answer(200, {
            "value": [], "@odata.nextLink": at + "x" * 8200})),
        "members-odd": job("up.members", group, answer(200, {"value": [
            {"@odata.type": "#microsoft.graph.device", "id": 5},
            {"id": OID.upper(), "userPrincipalName": "a@b", "accountEnabled": True,
             "displayName": None, "proxyAddresses": ["SMTP:a@b.cd", 3]}]})),
        "members-bad-id": job("up.members", group, answer(200, {"value": [
            {"id": "x", "userPrincipalName": "a@b"}]})),
        "members-bad-date": job("up.members", group, answer(200, {"value": [
            {"id": OID, "userPrincipalName": "a@b", "accountEnabled": True,
             "proxyAddresses": [], "employeeHireDate": "tomorrow"}]})),
        "members-not-objects": job("up.members", group, answer(200, {"value": [1]})),
        "members-no-guid": job("up.members", {"group": "x" * 36}),
        "members-401": job("up.members", group, answer(401, {"error": {"code": "Invalid"}}), whole),
        "records": job("up.records", {}, listed),
        "records-odd": job("up.records", {}, answer(200, {"value": [
            {"id": "x", "thumbprint": "AB CD", "intendedPurpose": "unassigned",
             "userPrincipalName": None, "startDateTime": "0001-01-01T00:00:00Z",
             "expirationDateTime": "2027-01-02T03:04:05.1234567Z", "paddingScheme": "none"},
            {"id": None}]})),
        "import-new": job("up.import", record, none, answer(201, {"id": RECORD})),
        "import-over": job("up.import", record, one, patched),
        "import-204": job("up.import_settle", record, one, answer(204, b"", None)),
        "import-deleted": job("up.import", record, one, answer(404, {})),
        "import-conflict": job("up.import", record, none, told, one, patched),
        "import-refused": job("up.import", record, none, told, none),
        "import-other-id": job("up.import", record, none, answer(201, {"id": "other"})),
        "import-no-id": job("up.import", record, none, answer(201, {})),
        "import-lost": job("up.import", record, none, b"curl 56\n"),
        "import-503": job("up.import", record, none, answer(503, {})),
        "readback": job("up.readback", by_id, one),
        "readback-gone": job("up.readback", by_id, none),
        "readback-other": job("up.readback", by_id, answer(200, {"id": "x"})),
        "remove": job("up.remove", by_id, answer(204, b"", None), none),
        "remove-stays": job("up.remove", by_id, answer(200, {}), one),
        "remove-gone": job("up.remove", by_id, none),
        "remove-denied": job("up.remove", by_id, denied),
        "remove-other": job("up.remove", by_id, answer(204, b"", None), answer(200, {"id": 5})),
        "mailboxes": job("up.mailboxes", {}, boxes),
        "mailboxes-page": job("up.mailboxes", {"page": shell + "?$skiptoken=1"}, boxes),
        "mailboxes-odd": job("up.mailboxes", {}, answer(200, {"value": [
            {"PrimarySmtpAddress": "no", "EmailAddresses": []},
            {"PrimarySmtpAddress": "a@b.cd", "RecipientTypeDetails": "UserMailbox"},
            {"PrimarySmtpAddress": "a@b.cd", "EmailAddresses": ["smtp:x", "SMTP:c@d.ef", 5]}]})),
        "rights": job("up.mailbox_rights", {"id": "info@example.com"}, rights),
        "rights-paged": job("up.mailbox_rights", {"id": "info@example.com"}, answer(200, {
            "value": rows[:2], "@odata.nextLink": shell + "?$skiptoken=2"}), rights),
        "rights-odd": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(200, {"value": rows})),
        "rights-bad-list": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(200, {"value": [
            dict(rows[1], AccessRights=[7])]})),
        "rights-403": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(403, {"error": {
            "code": "Forbidden", "message": "", "details": [{"message": "role"}]}})),
        "rights-401": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(401, b"", None),
                          answer(401, b"", None)),
        "rights-404": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(404, {"error": {}})),
        "setup": job("up.setup_entra", setup, found, listed, boxes),
        "setup-none": job("up.setup_entra", dict(setup, groups=["x" * 36, GROUP], mail=False),
                          answer(404, {}), denied, answer(403, {"error": {"code": "x"}})),
        "setup-odd": job("up.setup_entra", dict(setup, mailboxes=False),
                         answer(200, {"displayName": 7}), answer(200, {"value": 5})),
        "setup-500": job("up.setup_entra", setup, answer(500), answer(500), answer(500)),
        "foreign": job("up.records", {}, answer(200, {}, client_request_id=TOKEN)),
        "foreign-import": job("up.import", record, none, answer(201, {}, client_request_id=TOKEN)),
        "rights-many": job("up.mailbox_rights", {"id": "i@b.cd"}, *[answer(200, {
            "value": [], "@odata.nextLink": shell + "?$skiptoken=%d" % i}) for i in range(101)]),
        "mailboxes-many": job("up.mailboxes", {}, answer(200, {"value": [
            {"PrimarySmtpAddress": "a@b.cd", "EmailAddresses": ["smtp:a@b.cd"] * 401}]})),
        "mailboxes-torn": job("up.mailboxes", {}, answer(200, "{")),
        "rights-torn": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(200, "{")),
        "rights-deny-text": job("up.mailbox_rights", {"id": "i@b.cd"}, answer(200, {"value": [
            {"User": 5, "AccessRights": [], "Deny": {}, "IsInherited": 1}]})),
        "rate": job("up.records", {}, answer(429, {"error": {"code": "TooManyRequests"}},
                                             retry_after="0.5"), listed),
        "html": job("up.records", {}, answer(200, "<!DOCTYPE html>", "text/html")),
        "html-403": job("up.import", record, none, answer(403, "<html>blocked", "text/html")),
        "wrong-type": job("up.records", {}, answer(200, "x", "text/plain; charset=utf-8")),
        "bom": job("up.records", {}, answer(200, b"\xef\xbb\xbf{\"value\":[]}")),
        "torn": job("up.records", {}, b"curl 18\ntransfer closed"),
    }


def jwt(claims):
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return "eyJh." + part + ".c2ln"


def token(sim):
    got = sim.token_request()
    group = {"group": GROUP}
    whole, _ = members_answer(sim)
    claims = {"oid": OID, "tid": "11111111-2222-4333-8444-555555555555",
              "roles": ["User.Read.All", "Mail.ReadWrite"], "exp": 5}

    def given(value, **more):
        return answer(200, dict({"token_type": "Bearer", "expires_in": 3599,
                                 "access_token": value}, **more))

    def case(way, *answers, kind="up.members", body=group):
        return job(kind, body, *answers, head=way.encode() + b"\n")

    def refusal(code, text, error="invalid_client", status=401):
        return answer(status, {"error": error, "error_description": "AADSTS%d: %s Trace ID: %s"
                               "\r\nCorrelation ID: x" % (code, text, TOKEN),
                               "error_codes": [code], "trace_id": TOKEN, "correlation_id": OID})
    setup = {"groups": [GROUP], "mailboxes": False, "mail": True}
    denied = answer(403, {"error": {"code": "Forbidden"}})
    file = answer(401, b"", None, WWW_Authenticate="Basic realm=/var/opt/azcmagent/tokens/a-1.key")
    return {
        "entra": case("assertion", sim.recorded(got), whole),
        "entra-setup": case("assertion", given(jwt(claims)), answer(200, {"displayName": "G"}),
                            answer(200, {"value": []}), kind="up.setup_entra", body=setup),
        "entra-setup-all": case("assertion", given(jwt(dict(claims, roles=[
            "User.Read.All", "GroupMember.Read.All", "Directory.ReadWrite.All", "Mail.Send",
            "DeviceManagementConfiguration.ReadWrite.All", 7]))), kind="up.setup_entra",
            body=setup),
        "entra-setup-opaque": case("assertion", given("abc"), kind="up.setup_entra", body=setup),
        "entra-setup-odd": case("assertion", given(jwt({"oid": 5, "roles": "x", "tid": "y"})),
                                kind="up.setup_entra", body=setup),
        "entra-setup-refused": case("assertion", refusal(700027, "no key"), refusal(700016, "app"),
                                    kind="up.setup_entra", body=setup),
        "entra-700027": case("assertion", refusal(700027, "not registered")),
        "entra-90033": case("assertion", refusal(90033, "busy", status=400), given("abc"), whole),
        "entra-unavailable": case("assertion", answer(400, {"error": "temporarily_unavailable"}),
                                  given("abc"), whole),
        "entra-unknown": case("assertion", refusal(1, "what", "invalid_request", 400)),
        "entra-no-codes": case("assertion", answer(400, {
            "error": "unauthorized_client", "error_description": "AADSTS700016: no"})),
        "entra-429": case("assertion", answer(429, {}, retry_after="2"), given("abc"), whole),
        "entra-mac": case("assertion", given("abc", token_type="mac")),
        "entra-line": case("assertion", given("a\nb")),
        "entra-short": case("assertion", given("abc", expires_in=0)),
        "entra-text": case("assertion", given("abc", expires_in="3599"), whole),
        "entra-text-bad": case("assertion", given("abc", expires_in="3599x")),
        "entra-html": case("assertion", answer(200, "<html>", "text/html")),
        "entra-large": case("assertion", answer("200 66000", " ")),
        "entra-not-json": case("assertion", answer(200, "{")),
        "vm": case("azure-vm", given(jwt(claims), expires_in="86399"), whole),
        "vm-tenant": case("azure-vm", given(jwt(dict(claims, tid=OID)))),
        "vm-id": case("azure-vm-id", given("abc"), whole),
        "vm-none": case("azure-vm", answer(400, {"error": "invalid_request",
                                                 "error_description": "Identity not found"})),
        "vm-gone": case("azure-vm", answer(410, {}), given("abc"), whole),
        "vm-refused": case("azure-vm", answer(403, {"error": "x"})),
        "vm-401": case("azure-vm", answer(401, {"error": "x"})),
        "vm-silent": case("azure-vm", b"curl 7\nrefused"),
        "vm-other-400": case("azure-vm", answer(400, {"error": "x"})),
        "vm-other-418": case("azure-vm", answer(418, {"error": "x"})),
        "vm-404": case("azure-vm", answer(404, {}), answer(404, {}), given("abc"), whole),
        "entra-setup-unknown-app": case("assertion", refusal(700016, "x", "unauthorized_client", 400),
                                        kind="up.setup_entra", body=setup),
        **{"entra-setup-%d" % code: case("assertion", refusal(code, "x"), kind="up.setup_entra",
                                         body=setup)
           for code in (7000229, 7000112, 700025, 700051, 500011, 50012, 53003, 90002, 7000222)},
        "entra-setup-no-roles": case("assertion", given(jwt({"oid": OID})), answer(404, {}),
                                     denied, kind="up.setup_entra", body=setup),
        "entra-setup-not-base64": case("assertion", given("a.b~.c"), kind="up.setup_entra",
                                       body=setup),
        "entra-setup-not-json": case("assertion", given("a.Ynl0ZXM.c"), kind="up.setup_entra",
                                     body=setup),
        "entra-setup-no-oid": case("assertion", given(jwt({"roles": []})), kind="up.setup_entra",
                                   body=setup),
        "usgov-setup": case("usgov", given(jwt({"oid": OID, "roles": []})), answer(404, {}),
                            denied, kind="up.setup_entra", body=dict(setup, mailboxes=True)),
        "china-setup": case("china", refusal(700027, "x"), kind="up.setup_entra", body=setup),
        "vm-setup": case("azure-vm", given(jwt(claims)), kind="up.setup_entra", body=setup),
        "arc": case("azure-arc", file, given(jwt(claims)), whole),
        "arc-quoted": case("azure-arc", answer(
            401, b"", None, WWW_Authenticate='basic realm="/var/opt/azcmagent/tokens/b.key"'),
            given("abc"), whole),
        "arc-elsewhere": case("azure-arc", answer(
            401, b"", None, WWW_Authenticate="Basic realm=/etc/shadow.key")),
        "arc-up": case("azure-arc", answer(
            401, b"", None, WWW_Authenticate="Basic realm=/var/opt/azcmagent/tokens/../x.key")),
        "arc-unreadable": case("azure-arc", answer(
            401, b"", None, WWW_Authenticate="Basic realm=/var/opt/azcmagent/tokens/x.key")),
        "arc-digest": case("azure-arc", answer(401, b"", None, WWW_Authenticate="Digest x")),
        "arc-twice": case("azure-arc", file, file),
        "arc-silent": case("azure-arc", b"curl 7\nrefused"),
    }


def cmp_server():
    order = {"enrolment": 1, "product": "internal", "addresses": ["z@example.com"], "csr": "CSR",
             "token": TOKEN, "purpose": "signing", "additional_usages": [], "custom_fields": []}
    settle = {"product": "internal", "addresses": ["z@example.com"], "spki": "A" * 64,
              "csr": "CSR", "token": TOKEN, "since": 1}
    products = {"products": [{"rule": "a", "product": "internal", "custom_fields": []},
                             {"rule": "b", "product": "class1_smime", "custom_fields": []}]}

    def say(code):
        return answer(200, code, "application/pkixcmp")
    cases = {
        "order": job("up.order", order, say("o")),
        "order-confirmed": job("up.order", order, say("oc"), say("o")),
        "order-confirm-error": job("up.order", order, say("oc"), say("e")),
        "order-mods": job("up.order", order, say("go")),
        "order-wait": job("up.order", order, say("w"), say("w"), say("w"), say("o")),
        "order-other-key": job("up.order", order, say("f"), say("o")),
        "order-outside": job("up.order", order, say("x"), say("o")),
        "order-rejected": job("up.order", order, say("r")),
        "order-bad-request": job("up.order", order, say("b")),
        "order-failure": job("up.order", order, say("s")),
        "order-unprotected": job("up.order", order, say("op"), say("op")),
        "order-many": job("up.order", order, say("m")),
        "order-raw": job("up.order", order, say("=0")),
        "order-waiting-error": job("up.order", order, answer(200, b"=" + bytes.fromhex(
            "3016300b020102a4023000a4023000b7073005300302" "0103"), "application/pkixcmp")),
        "order-empty": job("up.order", order, say("=")),
        "order-long": job("up.order", order, answer("200 270000", "=0", "application/pkixcmp")),
        "order-edited": job("up.order", order, answer(
            200, b"o \x00\x40\x00\x01\x00\xff", "application/pkixcmp")),
        "order-wrong-type": job("up.order", order, answer(200, "o", "text/html")),
        "order-product": job("up.order", dict(order, product="class1_smime")),
        "order-lost": job("up.order", order, b"curl 52\n"),
        "order-500": job("up.order", order, answer(500)),
        "settle": job("up.order_settle", settle, say("o")),
        "settle-none": job("up.order_settle", {k: v for k, v in settle.items() if k != "csr"}),
        "settle-elsewhere": job("up.order_settle", dict(settle, product="class1_smime")),
        "download-elsewhere": job("up.download", {"order_id": 5, "spki": "A" * 64, "csr": "CSR",
                                                  "token": TOKEN}),
        "download-none": job("up.download", {"order_id": 5, "spki": "A" * 64}),
        "download": job("up.download", {"order_id": int.from_bytes(hashlib.sha256(
            b"pfx-agent cmp " + TOKEN.encode()).digest()[16:24], "big") & (1 << 52) - 1,
            "spki": "A" * 64, "csr": "CSR", "token": TOKEN}, say("o")),
        "trust-leaf": job("up.setup_ca", products, say("o"), head=b"#leaf\n"),
        "trust-bad": job("up.setup_ca", products, say("o"), head=b"#bad\n"),
        "trust-name": job("up.setup_ca", products, say("o"), head=b"#name\n"),
        "order-wait-long": job("up.order", order, *[say("w")] * 40),
        "order-wait-lost": job("up.order", order, say("w"), say("w"), b"curl 28\n", b"curl 28\n"),
        "order-other-key-lost": job("up.order", order, say("f"), b"curl 28\n"),
        "setup": job("up.setup_ca", products, say("o")),
        "setup-rejected": job("up.setup_ca", products, say("r")),
        "setup-unprotected": job("up.setup_ca", products, say("p")),
        "setup-silent": job("up.setup_ca", products, b"curl 7\n"),
        "changes": job("up.order_changes", {"minutes": 5}),
        "info": job("up.order_info", {"order_id": 5}),
        "cancel": job("up.order_cancel", {"order_id": 5, "note": "x"}),
        "resend": job("up.order_resend", {"order_id": 5}),
        "revoke": job("up.order_revoke", {"order_id": 5, "comment": "x"}),
    }
    return cases


def all_services():
    """target -> name -> input"""
    from corpus_digicert import digicert
    Recorder.setUpClass()
    try:
        sim = Recorder()
        sim.setUp()
        return {"digicert": digicert(sim), "graph": graph(sim), "token": token(sim),
                "cmp": cmp_server()}
    finally:
        Recorder.doClassCleanups()


