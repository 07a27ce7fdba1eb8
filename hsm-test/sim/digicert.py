"""DigiCert CertCentral Services API v2: orders that become real certificates of the test PKI."""

import datetime
import hashlib
import re
import threading
import time

from cryptography.hazmat.primitives import hashes

import digicert_account
import digicert_rules
import download
import pki
from digicert_order import CERTIFICATE_OFFSET, MALFORMED, WAITING, Order, rfc3339
from digicert_rules import Refusal
from limits import RollingLimit
from web import Response, json_response, parse_json

PREFIX = "/services/v2"
MAX_MINUTES = 7 * 24 * 60
MAX_PAGE = 1000
STATUS_CODES = {400: "bad_request_format", 401: "access_denied", 403: "access_denied",
                404: "not_found", 429: "request_limit_exceeded"}
SORTABLE = ("id", "date_created", "status", "common_name")


class DigiCert:
    """The service: one account, its orders, its limits."""

    name = "digicert"

    def __init__(self, sim):
        self.sim = sim
        self.limit = RollingLimit()
        self.lock = threading.RLock()
        self._other = None
        self.offset = 0
        self._next = 542772  # a reset doesn't give a number a second time
        self.account = digicert_account.Account(sim)
        self.routes = self.account.routes + [
            ("POST", r"/order/certificate/([a-z0-9_]+)", self.place),
            ("GET", r"/order/certificate", self.list),
            ("GET", r"/order/certificate/status-changes", self.status_changes),
            ("GET", r"/order/certificate/([0-9]+)", self.info),
            ("GET", r"/order/certificate/([0-9]+)/email-validation", self.email_validation),
            ("PUT", r"/order/certificate/([0-9]+)/resend-emails", self.resend),
            ("PUT", r"/order/certificate/([0-9]+)/status", self.cancel),
            ("PUT", r"/order/certificate/([0-9]+)/revoke", self.revoke_order),
            ("PUT", r"/certificate/([0-9]+)/revoke", self.revoke_certificate),
            ("GET", r"/certificate/download/order/([0-9]+)/format/([a-z0-9_]+)", self.download),
        ]
        self.routes = [(m, re.compile(r"^%s$" % p), f) for m, p, f in self.routes]
        self.reset()

    def reset(self):
        with self.lock:
            self.orders = {}
            self.by_email = {}
            self.waiting = {}  # orders that time alone may change
            self.by_key = {}
            self.posts = 0
            self.posts_accepted = 0
            self.unvalidated = set(self.sim.tenant.unvalidated)
            self.validated_at = {}
            self.offset = 0

    # --- entry -------------------------------------------------------------------------------

    def handle(self, request):
        try:
            response = self._handle(request)
        except Refusal as refusal:
            response = self._error(refusal.status, refusal.code, str(refusal))
        return response

    def _handle(self, request):
        if not (request.headers.get("User-Agent") or "").strip():
            raise Refusal("access_denied|user_agent", "User-Agent header is required", 403)
        key = request.headers.get("X-DC-DEVKEY") or ""
        if not self.sim.tenant.api_key_is(key):
            raise Refusal("access_denied|invalid_apikey", "Invalid API key",
                          self.sim.knobs.get("bad_key_status"))
        rules = [(n, s / self.sim.factor) for n, s in self.sim.knobs.get("digicert_limits") or []]
        if self.limit.take(hashlib.sha256(key.encode()).digest(), rules, time.monotonic()):
            raise Refusal("request_limit_exceeded", "Service unavailable, please limit request "
                          "volume", 429)
        if not request.path.startswith(PREFIX + "/"):
            raise Refusal("not_found|route", "The specified route was not found", 404)
        path = request.path[len(PREFIX):]
        known = False
        for method, pattern, function in self.routes:
            match = pattern.match(path)
            if match and method == request.method:
                return function(request, *match.groups())
            known = known or bool(match)
        raise Refusal("not_found|route", "The specified route was not found", 405 if known else 404)

    def decorate(self, request, response):
        """DigiCert adds no headers that a client needs."""

    def error_body(self, status, request):
        code = STATUS_CODES.get(status, "internal_error")
        return self._errors(code, "The request failed with status %d" % status)

    def _errors(self, code, message):
        entry = {"code": code, "message": message}
        return {"errors": entry if self.sim.knobs.get("errors_as_object") else [entry]}

    def _error(self, status, code, message):
        return json_response(status, self._errors(code, message))

    def emails_of(self, request):
        """The addresses that a request is about: of its order, or of its body."""
        match = re.search(r"/order/(?:certificate/)?([0-9]+)", request.path)
        with self.lock:
            order = self.orders.get(int(match.group(1))) if match else None
            if order:
                return order.emails()
        try:
            return [e.lower() for e in parse_json(request.body)["certificate"]["emails"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []

    def _json(self, request, optional=False):
        if optional and not request.body:
            return {}
        if request.content_type() != "application/json":
            raise Refusal("bad_request_format", "Content-Type must be application/json")
        try:
            return parse_json(request.body)
        except ValueError as error:
            raise Refusal("bad_request_format", "The body isn't valid JSON") from error

    def _order(self, number):
        order = self.orders.get(int(number))
        if order is None:
            raise Refusal("not_found|order", "The specified order was not found", 404)
        self._refresh(order)
        return order

    # --- the life of an order ----------------------------------------------------------------

    def _refresh_all(self):
        """Only those that wait: with thousands of orders this runs in each poll."""
        for order in list(self.waiting.values()):
            self._refresh(order)

    def _refresh(self, order):
        """Issue or cancel a pending order whose time has come."""
        if order.status != "pending" or order.held:
            self.waiting.pop(order.id, None)
            return
        self.waiting[order.id] = order
        emails = order.emails()
        if any(e in self.unvalidated for e in emails):
            return
        start = max([order.created] + [self.validated_at.get(e, 0) for e in emails])
        due = start + self.sim.knobs.get("issue_delay") / self.sim.factor
        if time.time() < due:
            return
        if any(e in self.sim.tenant.cancel for e in emails):
            order.status, order.changed = "canceled", due
        else:
            self._issue(order, due)

    def _issue(self, order, moment):
        start = pki.utc_now() + datetime.timedelta(seconds=self.offset)
        start = start.replace(hour=0, minute=0, second=0)
        end = start + datetime.timedelta(days=order.spec["days"]) - datetime.timedelta(seconds=1)
        order.period, order.serial = (start, end), pki.random_serial()
        order.status, order.changed, order.issued = "issued", moment, moment
        order.requests[0]["status"] = "approved"

    def set_status(self, number, status):
        """The control listener's hand; "auto" gives the order back to its own course."""
        with self.lock:
            order = self._order(number)
            if status == "auto":
                order.status, order.held = "pending", False
                self.waiting[order.id] = order
            elif status == "issued" and order.period is None:
                self._issue(order, time.time())
            else:
                order.status, order.changed = status, time.time()
                order.held = status in WAITING

    def validate(self, email):
        with self.lock:
            self.unvalidated.discard(email.lower())
            self.validated_at[email.lower()] = time.time()

    def place(self, request, product):
        with self.lock:
            self.posts += 1
            body = self._json(request)
            spec = digicert_rules.check_order(product, body, self.sim.tenant.organizations,
                                              self.sim.tenant.products, self.orders.__contains__,
                                              self.sim.knobs.get("custom_fields"))
            number = self._next
            self._next += 1
            order = Order(number, spec, body, time.time())
            self.orders[number] = order
            self.waiting[number] = order
            for email in order.emails():
                self.by_email.setdefault(email, []).append(order)
            self.posts_accepted += 1
            self.by_key[spec["spki"]] = self.by_key.get(spec["spki"], 0) + 1
            if not body.get("skip_approval", False):
                order.status, order.held = "needs_approval", True
            answer = {"id": number, "requests": [{"id": order.requests[0]["id"],
                                                  "status": "pending"}]}
            ready = not any(e in self.unvalidated for e in order.emails())
            if self.sim.knobs.get("approve_at_once") and ready and not order.held:
                self._issue(order, time.time())
                answer["requests"][0]["status"] = "approved"
                answer["certificate_id"] = order.certificate_id
                answer["certificate_chain"] = self._chain(order)
            return json_response(201, answer)

    def _chain(self, order):
        chain = [order.leaf(self.sim.smime), self.sim.smime.certificate] + self.sim.smime.above
        what = self.sim.knobs.get("chain_at_once")
        if what == "foreign":
            chain[0] = pki.issue_leaf(self.sim.smime, download.foreign_key(order.spec["key"]),
                                      order.spec, *order.period)
        if what == "foreign_chain":
            chain[1:] = [pki.make_other_smime().certificate]
        if what == "garbage":
            return [{"subject_common_name": "x", "pem": "-----BEGIN CERTIFICATE-----\r\nAAAA"}, 7]
        if what == "none":
            return []
        entries = []
        for certificate in chain:
            names = certificate.subject.get_attributes_for_oid(pki.NameOID.COMMON_NAME)
            text = pki.pem(certificate).decode("ascii").replace("\n", "\r\n")
            entries.append({"subject_common_name": names[0].value if names else "", "pem": text})
        return entries

    # --- reading -----------------------------------------------------------------------------

    def _certificate_view(self, order, with_csr):
        spec = order.spec
        view = {"common_name": spec["common_name"], "emails": spec["emails"],
                "signature_hash": spec["signature_hash"], "key_size": spec["key"].key_size}
        if with_csr:
            view["csr"] = spec["csr"]
        if order.period is not None:
            view["id"] = order.certificate_id
            view["serial_number"] = "%032X" % order.serial
            view["valid_till"] = order.period[1].strftime("%Y-%m-%d")
            view["days_remaining"] = (order.period[1] - pki.utc_now()).days
        if order.period is not None and with_csr:
            thumbprint = order.leaf(self.sim.smime).fingerprint(hashes.SHA1())
            view["thumbprint"] = thumbprint.hex().upper()
            view["date_created"] = rfc3339(order.issued)
            view["valid_from"] = order.period[0].strftime("%Y-%m-%d")
        return view

    def _view(self, order, with_csr):
        view = {"id": order.id, "certificate": self._certificate_view(order, with_csr),
                "status": order.status, "is_renewal": "renewal_of_order_id" in order.body,
                "date_created": rfc3339(order.created),
                "product": {"name_id": order.spec["product"], "name": order.spec["title"]},
                "payment_method": order.body.get("payment_method", "profile")}
        if order.spec["organization"]:
            view["organization"] = {"id": order.spec["organization"]["id"],
                                    "name": order.spec["organization"]["name"]}
        if order.period is not None:
            view["order_valid_till"] = order.period[1].strftime("%Y-%m-%d")
        if with_csr:
            view["requests"] = order.requests
            view["custom_fields"] = order.body.get("custom_fields", [])
        return view

    def info(self, request, number):
        with self.lock:
            return json_response(200, self._view(self._order(number), True))

    @staticmethod
    def _number(request, name, default, low, high):
        try:
            value = int(request.one(name, default))
        except ValueError as error:
            raise Refusal("invalid_" + name, "%s must be one number" % name) from error
        if not low <= value <= high:
            raise Refusal("invalid_" + name, "%s is out of range" % name)
        return value

    def _candidates(self, filters):
        """Every order, or where an address is asked for, its own."""
        for name, wanted in filters:
            if name == "email":
                return self.by_email.get(wanted.lower(), [])
        return self.orders.values()

    def _spoiled(self, entries):
        """A list with entries of others that are malformed, or with nothing else."""
        how = self.sim.knobs.get("malformed_entries")
        if not how:
            return entries
        return list(MALFORMED) + (entries if how == "some" else [])

    def list(self, request):
        filters = [(m.group(1), v) for k, v in request.query
                   for m in [re.match(r"^filters\[([a-z_]+)\]$", k)] if m]
        offset = self._number(request, "offset", "0", 0, 1 << 40)
        limit = self._number(request, "limit", str(MAX_PAGE), 0, MAX_PAGE) or MAX_PAGE
        try:
            sort = request.one("sort", "-date_created")
        except ValueError as error:
            raise Refusal("invalid_sort", str(error)) from error
        if sort.lstrip("-") not in SORTABLE:
            raise Refusal("invalid_sort", "sort isn't known")
        with self.lock:
            self._refresh_all()
            if self.sim.knobs.get("ignore_filters"):
                filters = []
            found = [o for o in self._candidates(filters) if o.matches(filters)]
            keys = {"id": lambda o: o.id, "date_created": lambda o: (o.created, o.id),
                    "status": lambda o: o.status, "common_name": lambda o: o.spec["common_name"]}
            found.sort(key=keys[sort.lstrip("-")], reverse=sort.startswith("-"))
            page = {"total": len(found), "limit": limit, "offset": offset}
            if self.sim.knobs.get("endless_list"):
                offset, page["total"] = 0, 1 << 40
            views = [self._view(o, False) for o in found[offset:offset + limit]]
            return json_response(200, {"orders": self._spoiled(views), "page": page})

    def status_changes(self, request):
        minutes = self._number(request, "minutes", "", 1, 1 << 40)
        if minutes > MAX_MINUTES:
            raise Refusal("time_frame_too_long", "The time frame is at most seven days")
        since = time.time() - minutes * 60
        with self.lock:
            changed = []
            self._refresh_all()
            for order in self.orders.values():
                if order.changed is not None and order.changed >= since:
                    entry = {"order_id": order.id, "status": order.status}
                    if order.period is not None:
                        entry["certificate_id"] = order.certificate_id
                    changed.append(entry)
            changed = self._spoiled(changed)
        empty = [] if self.sim.knobs.get("php_empty") else {}
        return json_response(200, {"orders": changed} if changed else empty)

    def email_validation(self, request, number):
        with self.lock:
            order = self._order(number)
            rows = []
            for email in order.spec["emails"]:
                status = "unvalidated" if email.lower() in self.unvalidated else "validated"
                rows.append({"email": email, "status": status,
                             "date_emailed": rfc3339(order.created)[:10]})
            return json_response(200, {"emails": rows})

    def resend(self, request, number):
        with self.lock:
            self._order(number)
        status = self.sim.knobs.get("resend_emails_status")
        if status == 204:
            return Response(204)
        return json_response(status, self.error_body(status, request))

    # --- changing ----------------------------------------------------------------------------

    def cancel(self, request, number):
        body = self._json(request)
        with self.lock:
            order = self._order(number)
            if not isinstance(body, dict) or body.get("status") != "canceled":
                raise Refusal("invalid_status", "status must be canceled")
            if not isinstance(body.get("note"), str) or not body["note"].strip():
                raise Refusal("missing_note", "note is required")
            if order.status not in ("pending", "waiting_pickup"):
                raise Refusal("invalid_status", "An order that is %s can't be canceled"
                              % order.status)
            order.status, order.changed, order.note = "canceled", time.time(), body["note"]
            return Response(204)

    def revoke_order(self, request, number):
        with self.lock:
            return self._revoke(request, self._order(number))

    def revoke_certificate(self, request, number):
        with self.lock:
            order = self.orders.get(int(number) - CERTIFICATE_OFFSET)
            if order is not None and order.period is not None:
                return self._revoke(request, self._order(order.id))
        raise Refusal("not_found|certificate", "The specified certificate was not found", 404)

    def _revoke(self, request, order):
        body = self._json(request, optional=True)
        if not isinstance(body, dict) or type(body.get("skip_approval", False)) is not bool:
            raise Refusal("bad_request_format", "The body isn't valid")
        if order.status != "issued":
            raise Refusal("invalid_status", "Only an issued order can be revoked")
        if body.get("skip_approval") and not self.sim.knobs.get("revoke_needs_approval"):
            order.status, order.changed = "revoked", time.time()
            return Response(204)
        entry = {"id": order.requests[-1]["id"] + 1, "date": rfc3339(time.time()),
                 "type": "revoke", "status": "pending", "comments": body.get("comments", "")}
        order.requests.append(entry)
        return json_response(201, entry)

    # --- download ----------------------------------------------------------------------------

    def download(self, request, number, fmt):
        if fmt not in download.FORMATS:
            raise Refusal("invalid_format", "The format isn't known")
        faults = getattr(request, "certificate_faults", [])
        with self.lock:
            order = self._order(number)
            if order.status != "issued":
                raise Refusal("cert_unavailable_processing",
                              "The certificate isn't available while the order is %s"
                              % order.status)
            authority = self.sim.smime
            if "other_root" in faults:
                self._other = self._other or pki.make_other_smime()
                authority = self._other
            kind, data = download.bundle(order, authority, fmt, faults,
                                         self.sim.knobs.get("p7b_label"), pki.utc_now())
        headers = [("Content-Disposition", "attachment; filename=certificate.%s" % fmt)]
        return Response(200, data, kind, headers)

    # --- for the control listener ------------------------------------------------------------

    def state(self):
        with self.lock:
            by_status = {}
            self._refresh_all()
            for order in self.orders.values():
                by_status.setdefault(order.status, []).append(
                    {"id": order.id, "emails": order.spec["emails"]})
            return {"orders_total": len(self.orders), "posts": self.posts,
                    "posts_accepted": self.posts_accepted,
                    "max_orders_per_key": max(self.by_key.values(), default=0),
                    "orders_by_status": by_status, "unvalidated": sorted(self.unvalidated)}

    def order_list(self):
        with self.lock:
            rows = []
            self._refresh_all()
            for order in self.orders.values():
                leaf = order.leaf(self.sim.smime)
                rows.append({"id": order.id, "status": order.status, "spki": order.spec["spki"],
                             "certificate_id": order.certificate_id if leaf else None,
                             "thumbprint": leaf.fingerprint(hashes.SHA1()).hex() if leaf else None,
                             "product": order.spec["product"], "body": order.body})
            return rows
