"""The control listener: what tests read and change, plain HTTP on loopback."""

import re
import time

from knobs import KnobError
from tenant import TenantError
from web import json_response, parse_json

STATUSES = re.compile(r"^[a-z_]{1,32}$")
RESETTABLE = ("knobs", "counters", "orders", "records", "tokens", "limits", "assertions")


class Control:
    """Answers the control requests."""

    name = "control"

    def __init__(self, sim):
        self.sim = sim
        self.routes = {
            ("GET", "/state"): lambda body: self.sim.state(),
            ("GET", "/log"): lambda body: {"requests": self.sim.request_log()},
            ("GET", "/knobs"): lambda body: self.sim.knobs.view(),
            ("POST", "/knobs"): lambda body: {"ids": self.sim.knobs.change(body)},
            ("POST", "/reset"): self.reset,
            ("POST", "/clock"): self.clock,
            ("GET", "/digicert/orders"): lambda body: {"orders": self.sim.digicert.order_list()},
            ("POST", "/digicert/order"): self.newest_order,
            ("POST", "/digicert/validate"): self.validate,
            ("GET", "/graph/records"): lambda body: {"records": self.sim.graph.record_list()},
            ("POST", "/graph/member"): self.member,
        }

    def handle(self, request):
        try:
            body = parse_json(request.body) if request.body else {}
            if not isinstance(body, dict):
                raise ValueError("the body is an object")
            match = re.match(r"^/digicert/order/(\d+)$", request.path)
            if match and request.method == "POST":
                return json_response(200, self.order(int(match.group(1)), body))
            function = self.routes.get((request.method, request.path))
            if function is None:
                return json_response(404, {"error": "unknown control request"})
            return json_response(200, function(body))
        except (ValueError, KeyError, TypeError, KnobError, TenantError) as error:
            return json_response(400, {"error": "%s: %s" % (type(error).__name__, error)})

    def reset(self, body):
        what = body.get("what") or [w for w in RESETTABLE if w != "tokens"]
        wrong = set(what) - set(RESETTABLE)
        if wrong:
            raise ValueError("unknown parts: %s" % ", ".join(sorted(wrong)))
        for part in what:
            self.sim.reset(part)
        return {"reset": list(what)}

    def clock(self, body):
        offset = body["offset"]
        if isinstance(offset, bool) or not isinstance(offset, (int, float)):
            raise ValueError("offset is a number of seconds")
        if abs(offset) > 50 * 365 * 86400:
            raise ValueError("offset is too large")
        self.sim.digicert.offset = offset
        return {"offset": offset}

    def order(self, number, body):
        status = body["status"]
        if not isinstance(status, str) or not STATUSES.match(status):
            raise ValueError("status is a lower-case word")
        if number not in self.sim.digicert.orders:
            raise ValueError("unknown order")
        self.sim.digicert.set_status(number, status)
        return {"id": number, "status": status}

    def newest_order(self, body):
        """The newest order for an address, for tests that don't know its number."""
        wanted = body["email"].lower()
        numbers = [o.id for o in self.sim.digicert.by_email.get(wanted, [])]
        if not numbers:
            raise ValueError("no order for this address")
        return self.order(max(numbers), body)

    def validate(self, body):
        self.sim.digicert.validate(body["email"])
        return {"validated": body["email"]}

    def member(self, body):
        self.sim.graph.change_member(body)
        return {"changed": True}


def log_entry(service, request, status, started):
    """One line of the request log; neither headers with secrets nor bodies are kept."""
    return {"service": service, "method": request.method, "target": request.target,
            "status": status, "time": round(started, 3),
            "seconds": round(time.time() - started, 4),
            "user_agent": request.headers.get("User-Agent"),
            "client_request_id": request.headers.get("client-request-id")}
