"""Inputs for the target that reads DigiCert's answers."""

import base64
import json

from corpus_services import EC_KEY, TOKEN, answer, csr, job, serialization


def digicert(sim):
    """name -> input"""
    der = base64.b64encode(base64.b64decode(csr(EC_KEY)[35:-33])).decode()
    spki = base64.b64encode(EC_KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).decode()
    order = {"enrolment": 1, "product": "secure_email_mailbox", "addresses": ["alice@example.com"],
             "csr": der, "token": TOKEN, "years": 1, "profile_type": "strict",
             "purpose": "signing", "additional_usages": [], "custom_fields": []}
    settle = {"product": "secure_email_mailbox", "addresses": ["alice@example.com"],
              "spki": spki, "token": TOKEN, "since": 1794990000000}
    body = dict(sim.order_body(), comments="pfx-agent " + TOKEN)
    placed = sim.digicert("POST", "/order/certificate/secure_email_mailbox", body)
    number = placed.json["id"]
    info = {"order_id": number}
    sim.wait_for(number, "issued")
    at = "/order/certificate/%d" % number
    say = sim.recorded
    listed = say(sim.digicert("GET", "/order/certificate?offset=0&limit=1000"))
    shown = say(sim.digicert("GET", at))
    pem = say(sim.fetch(number))
    download = dict(info, spki=spki)
    chain = [{"pem": p + "-----END CERTIFICATE-----\n"} for p in
             sim.fetch(number).body.decode().split("-----END CERTIFICATE-----\n")[:-1]]
    broken = answer(400, {"errors": [{"code": "bad_request_format", "message": "No card."}]})
    changes = say(sim.digicert("GET", "/order/certificate/status-changes?minutes=60"))
    products = {"products": [
        {"rule": "staff", "product": "secure_email_mailbox", "custom_fields": []},
        {"rule": "people", "product": "secure_email_sponsor", "organization": 112233,
         "payment_method": "balance", "custom_fields": ["11"]},
        {"rule": "own", "product": "internal", "custom_fields": []}]}
    setup = [say(sim.digicert("GET", path)) for path in (
        "/user/me", "/product", "/organization/112233", "/organization/112233/validation",
        "/finance/balance", "/account/metadata")]
    html = answer(200, "<html><body>Sign in</body></html>", "text/html")
    sponsor = dict(order, product="secure_email_sponsor", organization=112233, days=700,
                   purpose="dual", common_name_indicator="given_name_surname",
                   first_name="Alice", last_name="Example", payment_method="balance",
                   additional_usages=["non_repudiation"], comment="more",
                   custom_fields=[{"id": 11, "value": "x\"y"}], renewal_of=5)
    del sponsor["years"]
    old = json.loads(listed.split(b"\n\n", 1)[1])
    many = dict(old, orders=old["orders"] * 3, page={"total": 2000, "limit": 1000, "offset": 0})
    return {
        "order": job("up.order", order, say(placed)),
        "order-issued": job("up.order", order, answer(201, {
            "id": number, "certificate_id": 7, "requests": [{"id": 1, "status": "approved"}],
            "certificate_chain": chain})),
        "order-foreign-chain": job("up.order", order, answer(201, {
            "id": number, "certificate_chain": [{"pem": "x"}, {"subject_common_name": "y"}]})),
        "order-leaf-alone": job("up.order", order, answer(201, {
            "id": number, "certificate_chain": chain[:1]})),
        "order-no-id": job("up.order", order, answer(201, {"requests": []})),
        "order-id-0": job("up.order", order, answer(201, {"id": 0})),
        "order-refused": job("up.order", order, broken),
        "order-conflict": job("up.order", order, answer(409, {"errors": {"code": "product_x"}})),
        "order-sponsor": job("up.order", sponsor, say(placed)),
        "order-unfit": job("up.order", dict(order, product="secure_email_sponsor")),
        "order-no-such": job("up.order", dict(order, product="nothing")),
        "order-pseudonym": job("up.order", dict(
            sponsor, common_name_indicator="pseudonym", pseudonym="P"), say(placed)),
        "order-legacy": job("up.order", dict(
            order, product="client_premium", organization=5, common_name="Alice"), say(placed)),
        "order-class1": job("up.order", dict(order, product="class1_smime"), say(placed)),
        "order-encryption": job("up.order", dict(order, purpose="encryption"), say(placed)),
        "order-lost": job("up.order", order, b"curl 52\nEmpty reply"),
        "order-html": job("up.order", order, html),
        "order-torn": job("up.order", order, answer(201, '{"id":')),
        "settle-found": job("up.order_settle", settle, listed, shown),
        "settle-none": job("up.order_settle", settle, answer(200, {"orders": [], "page": {}})),
        "settle-pages": job("up.order_settle", settle, answer(200, many), listed, shown, shown),
        "settle-odd": job("up.order_settle", settle, answer(200, {"orders": [
            {"id": 5, "product": {"name_id": "other"}}, {"id": 0}, 7, {"id": "x"},
            {"id": 6, "certificate": {"emails": ["bob@example.com"]}},
            {"id": 7, "date_created": "2026-11-15T10:00:00+00:00"},
            {"id": 8, "date_created": "2020-01-01"}, {"id": 9}, {"id": 9},
            {"id": 10, "certificate": {"emails": [3]}}]}), answer(404, {}), answer(200, []),
            shown.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE REQUES"), answer(200, {
                "id": 10, "certificate": {"csr": "x"}, "requests": [{"comments": TOKEN}]})),
        "settle-500": job("up.order_settle", settle, listed, answer(500), listed, answer(403, {})),
        "changes": job("up.order_changes", {"minutes": 60}, changes),
        "changes-empty": job("up.order_changes", {"minutes": 60}, answer(200, {})),
        "changes-odd": job("up.order_changes", {"minutes": 60}, answer(200, {"orders": [
            {"order_id": 1, "status": "issued", "certificate_id": 2}, 3, {"order_id": 0},
            {"order_id": 5, "status": ""}, {"order_id": -1, "status": "x"}]})),
        "changes-unreadable": job("up.order_changes", {"minutes": 60},
                                  answer(200, {"orders": [1, 2]})),
        "changes-bad": job("up.order_changes", {"minutes": 60}, answer(200, {"orders": 7})),
        "orders": job("up.orders", {}, listed),
        "orders-more": job("up.orders", {}, answer(200, many)),
        "orders-next": job("up.orders", {"page": "1:1000:77"}, listed),
        "orders-same": job("up.orders", {"page": "1:1000:%d" % old["orders"][0]["id"]}, listed),
        "orders-odd-end": job("up.orders", {"page": "2:5:7"}, answer(200, {"orders": [1]})),
        "orders-bad-page": job("up.orders", {"page": "x"}),
        "orders-last-page": job("up.orders", {"page": "499:499000:7"}, answer(200, many)),
        "info": job("up.order_info", info, shown),
        "info-other": job("up.order_info", {"order_id": 999}, shown),
        "info-gone": job("up.order_info", info, answer(404, {"errors": [{"code": "gone"}]})),
        "validation": job("up.order_validation", info,
                          say(sim.digicert("GET", at + "/email-validation"))),
        "validation-odd": job("up.order_validation", info, answer(200, {"emails": [
            {"email": "a@b.cd", "status": "validated"}, {"email": "x", "status": "unvalidated"},
            {"email": 7}, {"status": ""}]})),
        "download": job("up.download", download, pem),
        "download-p7b": job("up.download", download, answer(406, {}), say(sim.fetch(number, "p7b"))),
        "download-not-yet": job("up.download", download, answer(404, {}), answer(404, {})),
        "download-other-key": job("up.download", dict(download, spki="A" * 124), pem),
        "download-zip": job("up.download", download, answer(200, b"PK\x03\x04", "application/zip")),
        "download-html": job("up.download", download, html),
        "cancel": job("up.order_cancel", dict(info, note="no more"), answer(204, b"", None)),
        "resend": job("up.order_resend", info, answer(204, b"", None)),
        "resend-no": job("up.order_resend", info, answer(404, {})),
        "revoke": job("up.order_revoke", dict(info, comment="gone"), answer(204, b"", None)),
        "revoke-pending": job("up.order_revoke", dict(info, comment="gone", certificate_id=7),
                              answer(201, {"status": "pending"})),
        "revoke-approved": job("up.order_revoke", dict(info, comment="gone"),
                               answer(201, {"status": "approved"})),
        "setup": job("up.setup_ca", products, *setup),
        "setup-403": job("up.setup_ca", products, setup[0], answer(403, {"errors": [
            {"code": "access_denied|product"}]}), *setup[2:]),
        "setup-refused": job("up.setup_ca", products, answer(401, {}), answer(401, {})),
        "setup-odd": job("up.setup_ca", products, answer(200, {"id": 1, "container": {}}),
                         answer(200, {"products": [{"name_id": 5}, 7]}),
                         answer(200, {"status": "inactive"}), answer(200, {"balance": "1.5x"}),
                         answer(200, {"metadata": [{"id": 11, "is_active": False}, 3]})),
        "setup-lists": job("up.setup_ca", products, setup[0], answer(200, {"products": [
            {"name_id": "secure_email_mailbox", "name": "M", "allowed_validity_years": [1]}]}),
            answer(200, {"status": "active", "is_active": True, "name": "Example"}),
            answer(200, {"validations": [{"type": "smime", "status": "active",
                                          "validated_until": "2026-12-01T00:00:00+00:00"},
                                         {"type": 5}]}),
            answer(200, {"balance": "-3.00", "currency": "EUR"}),
            answer(200, {"metadata": [{"id": 11, "label": "cost", "is_required": True,
                                       "is_active": True, "data_type": "int"}]})),
        **digicert_more(order, settle, info, products, setup, old, listed, shown),
        "rate": job("up.order_info", info, answer(429, {}, retry_after="1"),
                    answer(429, {}, x_ms_retry_after_ms="20"), shown),
        "rate-date": job("up.order_info", info, answer(
            429, {}, retry_after="Wed, 21 Oct 2099 07:28:00 GMT",
            date="Wed, 21 Oct 2099 07:27:00 GMT")),
        "key-refused": job("up.order_info", info, answer(401, {"errors": [{"code": "x"}]}), shown),
        "redirect": job("up.order_info", info, answer(302, b"", None,
                                                      location="https://evil.example/?a=b")),
        "large-head": job("up.order_info", info, b"200 0 70000\nX: 0123456789\n\n{}"),
        "large-body": job("up.order_info", info, answer("200 310000", " " * 99)),
        "connect": job("up.order", order, b"unsent 7\n", b"x"),
        "dns": job("up.order_info", info, b"unsent 6\n"),
        "tls": job("up.order_info", info, b"unsent 60\nself signed"),
        "pin": job("up.order_info", info, b"unsent 90\n"),
        "proxy-407": job("up.order_info", info, b"proxy 407\n"),
        "proxy-502": job("up.order_info", info, b"proxy 502\n"),
        "timeout": job("up.order_info", info, b"curl 28\n"),
        "paused": job("up.order_info", info, answer(503, {}, retry_after="30")) + b"\x1f" + shown,
        "deep": job("up.order_info", info, answer(200, "[" * 40 + "]" * 40)),
        "doubled": job("up.order_info", info, answer(200, '{"id":1,"id":1,"status":"x"}')),
        "surrogates": job("up.order_info", info, answer(
            200, '{"id":%d,"status":"\\ud83d\\ude00\\u00e9\\n"}' % number)),
        "not-utf8": job("up.order_info", info, answer(200, b'{"id":1,"status":"\xff\xc3"}')),
        "numbers": job("up.order_info", info, answer(200, '{"id":1.5e3,"status":-0.1}')),
        "nul": job("up.order_info", info, answer(200, '{"id":1,"status":"a\\u0000b"}')),
    }


def digicert_more(order, settle, info, products, setup, old, listed, shown):
    """What is rarer."""
    endless = answer(200, dict(old, page={"total": 600000, "limit": 1000, "offset": 0}))
    denied = answer(403, {"errors": [{"code": "access_denied|x"}]})
    first = old["orders"][0]["id"]
    rows = {
        "orders-repeat": job("up.orders", {"page": "1:1000:%d" % first}, endless),
        "orders-endless": job("up.orders", {"page": "500:500000:7"}, endless),
        "orders-unreadable": job("up.orders", {}, answer(200, {"orders": [1]})),
        "orders-torn": job("up.orders", {}, answer(200, '{"orders":[')),
        "changes-zero": job("up.order_changes", {"minutes": 60}, answer(200, {"orders": [
            {"order_id": 0, "status": "x"}, {"order_id": 2, "status": "x"}]})),
        "changes-range": job("up.order_changes", {"minutes": 60}, answer(200, {"orders": [
            {"order_id": 1 << 52, "status": "x", "certificate_id": 5}]})),
        "settle-commented": job("up.order_settle", settle, listed, answer(200, {
            "id": first, "status": "issued", "certificate": {"csr": "x"},
            "requests": [{"comments": "other"}, {"comments": "pfx-agent " + TOKEN}]})),
        "settle-other-comment": job("up.order_settle", settle, listed, answer(200, {
            "id": first, "certificate": {}, "requests": [{"comments": "other"}]})),
        "settle-of-an-agent": job("up.order_settle", settle, listed, *[answer(200, {
            "id": first, "status": "issued", "certificate": {"csr": other}, "requests": [
                {"comments": "x"}, {"comments": "pfx-agent 11111111-2222-4333-8444-555555555555"}]})
            for other in ("x", "")]),
        "settle-other-id": job("up.order_settle", settle, listed, answer(200, {"id": 999999999})),
        "settle-bad-list": job("up.order_settle", settle, answer(200, {"orders": 5})),
        "settle-unreadable": job("up.order_settle", settle, answer(200, {"orders": [1, 2]})),
        "settle-torn": job("up.order_settle", settle, answer(200, "{")),
        "settle-torn-order": job("up.order_settle", settle, listed, answer(200, "{")),
        "settle-endless": job("up.order_settle", settle, *[endless] * 24),
        "settle-many": job("up.order_settle", settle, answer(200, {
            "orders": [{"id": i} for i in range(1, 260)]})),
        "settle-nobody": job("up.order_settle", dict(settle, addresses=[])),
        "setup-denied": job("up.setup_ca", products, setup[0], denied, denied, denied, denied),
        "setup-nothing": job("up.setup_ca", products, *[denied] * 6),
        "setup-500": job("up.setup_ca", products, setup[0], answer(500), answer(500)),
        "setup-torn": job("up.setup_ca", products, setup[0], answer(200, "{")),
        "setup-bad-lists": job("up.setup_ca", products, setup[0], answer(200, {"products": 5})),
        "setup-user": job("up.setup_ca", products, answer(200, {
            "status": "inactive", "username": "x", "access_roles": [{"name": "Standard User"}]})),
        "setup-standard": job("up.setup_ca", products, answer(200, {
            "status": "active", "username": "x", "access_roles": [{"name": "Standard User"}]}),
            *setup[1:]),
        "setup-bad-user": job("up.setup_ca", products, answer(200, {"status": 5})),
        "setup-no-organization": job("up.setup_ca", products, *setup[:2], answer(404, {}),
                                     *setup[4:]),
        "setup-inactive": job("up.setup_ca", products, *setup[:2], answer(200, {
            "status": "inactive", "name": "E"}), *setup[4:]),
        "setup-bad-organization": job("up.setup_ca", products, *setup[:2],
                                      answer(200, {"status": 5})),
        "setup-torn-organization": job("up.setup_ca", products, *setup[:2], answer(200, "[")),
        "setup-many": job("up.setup_ca", {"products": [
            {"rule": "r", "product": "secure_email_sponsor", "organization": i,
             "custom_fields": []} for i in range(1, 40)]}, *setup[:2]),
        "setup-balance": job("up.setup_ca", products, *setup[:4], answer(200, {
            "balance": "-5.00", "negative_balance_limit": None, "currency": "USD"}), setup[5]),
        "setup-no-limit": job("up.setup_ca", products, *setup[:4], answer(200, {
            "balance": "1", "negative_balance_limit": "-1", "total_available_funds": "x"}),
            answer(200, {"metadata": [{"id": 11, "is_active": True, "is_required": False},
                                      {"id": 12, "is_required": True, "is_active": True}]})),
        "setup-bad-balance": job("up.setup_ca", products, *setup[:4], answer(200, {"balance": {}})),
        "setup-bad-fields": job("up.setup_ca", products, *setup[:5], answer(200, {"metadata": 5})),
        "paused-long": job("up.order_info", info, answer(401, {})) + b"\x1f" * 9 + shown,
        "early-end": job("up.order_info", info, b"200\nContent-Type: application/json"),
        "status-line": job("up.order_info", info, b"200\nHTTP/1.1 100 Continue\nDate: x\n"
                           b"HTTP/1.1 200 OK\nContent-Type: application/json\n\n{}"),
    }
    states = ({"type": "smime", "status": "pending"}, {"type": "ov", "status": "active"},
              {"type": "smime", "status": "active"}, {"type": "smime", "status": "active",
                                                      "validated_until": "2020-01-01"},
              {"type": "smime", "status": "active", "validated_until": "2030-01-01 00:00:00"})
    for i, state in enumerate(states):
        rows["setup-valid-%d" % i] = job("up.setup_ca", products, *setup[:3], answer(
            200, {"validations": [state]}), *setup[4:])
    for code in (3, 27, 2, 43, 48, 4, 1, 5, 35, 28, 56, 63, 92, 55, 0):
        rows["unsent-%d" % code] = job("up.order", order, b"unsent %d\n" % code)
        rows["cut-%d" % code] = job("up.order", order, b"curl %d\nwhy" % code)
    for status in (408, 421, 406, 303, 500, 501, 502, 504, 511, 418, 100, 451, 405):
        rows["status-%d" % status] = job("up.order_info", info, answer(status, {}))
        rows["status-order-%d" % status] = job("up.order", order, answer(status, {}))
    rows["rate-large"] = job("up.order_info", info, answer("429 310000", " "))
    return rows
