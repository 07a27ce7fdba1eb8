"""What DigiCert tells about the account: user, products, organizations, money, custom fields."""

import datetime

import digicert_rules
from digicert_rules import Refusal
from web import json_response

# "Limits the key to these actions: Orders, Requests, and Certificates" says DigiCert's glossary of
# the restriction "Orders"; everything here but the key's own user is outside of them.
RESTRICTIONS = ("", "orders")
ROLES = {"Administrator": 1, "Finance Manager": 3, "Manager": 4, "Standard User": 5}


class Account:
    """Answers of the account, from the tenant file and the settings."""

    def __init__(self, sim):
        self.sim = sim
        self.routes = [
            ("GET", r"/user/me", self.user_me),
            ("GET", r"/product", self.products),
            ("GET", r"/organization/([0-9]+)", self.organization),
            ("GET", r"/organization/([0-9]+)/validation", self.validation),
            ("GET", r"/finance/balance", self.balance),
            ("GET", r"/account/metadata", self.metadata),
        ]

    def _unrestricted(self):
        if self.sim.knobs.get("key_restriction") == "orders":
            raise Refusal("access_denied|restricted_key", "The API key may not do this", 403)

    def user_me(self, request):
        role = self.sim.knobs.get("user_role")
        return json_response(200, {
            "id": 1234, "username": "pfx-sim", "account_id": 654321, "first_name": "Pfx",
            "last_name": "Sim", "email": "pfx-sim@contoso.example.com", "status": "active",
            "last_login_date": "2026-06-21 13:37:00",
            "access_roles": [{"id": ROLES.get(role, 1), "name": role}],
            "is_cert_central": True, "type": "standard"})

    def products(self, request):
        self._unrestricted()
        names = self.sim.tenant.products
        if names is None:
            names = digicert_rules.PRODUCTS
        rows = [{"group_name": "ssl_certificate", "name_id": "ssl_basic", "name": "Basic OV",
                 "type": "ssl_certificate", "allowed_container_ids": [5], "csr_required": True}]
        for name in names:
            product = digicert_rules.PRODUCTS[name]
            kind = "client_certificate" if product.legacy else "secure_email"
            rows.append({"group_name": kind, "name_id": name, "name": product.title, "type": kind,
                         "allowed_container_ids": [5], "allowed_validity_years": [1, 2],
                         "allowed_order_validity_years": [1, 2], "csr_required": False})
        return json_response(200, {"products": rows})

    def _organization(self, number):
        self._unrestricted()
        found = self.sim.tenant.organizations.get(int(number))
        if found is None:
            raise Refusal("not_found|organization", "The organization was not found", 404)
        return found

    def organization(self, request, number):
        found = self._organization(number)
        active = found.get("is_active", True)
        return json_response(200, {
            "id": found["id"], "status": "active" if active else "inactive", "name": found["name"],
            "display_name": found["name"], "is_active": active,
            "country": found["country"].lower(),
            "container": {"id": 5, "parent_id": 0, "name": "pfx-sim", "is_active": True}})

    def validation(self, request, number):
        found = self._organization(number)
        rows = []
        for entry in found.get("validations", [{"type": "smime"}, {"type": "ov"}]):
            row = {"type": entry["type"], "name": entry["type"].upper(),
                   "description": "validation of type %s" % entry["type"],
                   "status": entry.get("status", "active")}
            if row["status"] == "active":
                until = (datetime.datetime.now(datetime.timezone.utc)
                         + datetime.timedelta(days=entry.get("days", 300)))
                row["validated_until"] = until.isoformat(timespec="seconds")
            rows.append(row)
        return json_response(200, {"validations": rows} if rows else [])

    def balance(self, request):
        self._unrestricted()
        funds = self.sim.knobs.get("balance")
        answer = {"balance": funds, "currency": "USD", "unpaid_invoice_balance": "0.00",
                  "used_credit_from_other_containers": "0.00"}
        if funds == "unlimited":
            answer.update(balance="-1000.70", unlimited_negative_balance=True)
        else:
            answer.update(negative_balance_limit="0.00", total_available_funds=funds)
        return json_response(200, answer)

    def metadata(self, request):
        self._unrestricted()
        fields = self.sim.knobs.get("custom_fields")
        if not fields:
            return json_response(200, [] if self.sim.knobs.get("php_empty") else {})
        return json_response(200, {"metadata": fields})
