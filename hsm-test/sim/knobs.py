"""Knobs: settings of the services, and rules that spoil chosen answers."""

import copy
import json
import re
import threading

import tls_faults
import wire
from web import Outcome, Response, parse_json

MAX_SLEEP = 600
MAX_BODY_MIB = 256

DEFAULTS = {
    "issue_delay": 1.0,             # seconds from order (or last validation) to issue
    "approve_at_once": False,       # 201 with certificate_id and chain
    "ignore_filters": False,        # the order list forgets its filters
    "php_empty": False,             # an empty object arrives as []
    "errors_as_object": False,      # "errors" is a bare object
    "chain_at_once": "",            # what approve_at_once sends: foreign, foreign_chain, ...
    "malformed_entries": "",        # some: in DigiCert's lists; all: nothing else is in them
    "endless_list": False,          # the order list begins anew on each page and never ends
    "revoke_needs_approval": False,  # 201 whatever skip_approval says
    "key_restriction": "",          # orders: 403 for what isn't orders
    "user_role": "Administrator",   # of the API key's user
    "custom_fields": [],            # of the account: [{id, label, is_required, is_active}]
    "balance": "454.00",            # of the account; unlimited
    "bad_key_status": 401,          # 401 or 403 for a wrong API key
    "p7b_label": "PKCS7",           # PKCS7, CMS, PEM (single certificates) or DER
    "resend_emails_status": 404,    # 204 or a 4xx
    "digicert_limits": [[100, 5], [1000, 180]],
    "token_lifetime": 3599,
    "clock_skew": 300,
    "assertion_algs": ["PS256", "RS256"],
    "opaque_tokens": False,         # access tokens whose claims can't be read
    "token_tenant": "",             # their tenant, instead of the right one
    "roles_withheld": [],           # roles that aren't in them (yet)
    "identity_lifetime": 86400,     # seconds, of a managed identity's tokens
    "arc_realm": "",                # what the Arc agent's challenge says instead of its file
    "exchange_page_size": 1000,
    "members_page_size": 999,       # most members on one page, whatever $top says
    "records_page_size": 100,
    "existing_record": 409,         # 409 or 400 for a POST on an id that exists
    "patch_status": 200,            # 200 with the object, or 204
    "partial_patch": False,         # whether a PATCH may leave members out
    "delete_lingers": False,        # DELETE answers 204 and the record remains
    "retry_after": "seconds",       # Graph's 429: seconds, fraction, ms, absent
    "graph_write_limits": [[100, 20]],
    "graph_any_limits": [[1000, 20]],
    "fronts": [],                   # "host:port" of proxies in front, right in aud and scope too
    "next_link_authority": "",      # host:port of nextLinks, instead of the request's Host
    "tls": {},                      # {service: kind of tls_faults.KINDS}
}

ACTIONS = {
    "delay": {"seconds"},
    "late": {"seconds"},
    "break_off": {"bytes", "reset"},
    "stale": {"after"},
    "swap": set(),
    "drop": {"reset"},
    "lose": {"reset"},
    "status": {"code", "body", "headers", "after"},
    "throttle": {"retry_after", "retry_after_ms"},
    "html": {"code", "after"},
    "garbage": {"after"},
    "bigbody": {"mib", "after"},
    "truncate": {"missing"},
    "wrong_type": {"member", "value"},
    "certificate": {"what"},
}
ACTIONS.update({name: members for name, (_, members) in wire.SHAPES.items()})
COMMON = {"service", "method", "path_regex", "body_regex", "email", "times", "skip", "action"}
SERVICES = {"digicert", "entra", "graph", "exchange", "imds", "arc"}

CERTIFICATE_FAULTS = {
    "foreign_leaf", "foreign_leaf_added", "expired_cert", "future_cert", "wrong_addresses",
    "missing_address", "extra_address", "wrong_key_usage", "other_root", "malformed_cert",
    "bad_signature", "no_intermediate", "no_root", "no_leaf", "empty", "leaf_first", "leaf_last",
    "shuffled", "label_pkcs7", "label_cms", "pem", "der",
}


class KnobError(Exception):
    """A knob that can't be set; the text says why."""


def _need(condition, text):
    if not condition:
        raise KnobError(text)


class Meeting:
    """Two requests that get each other's answers."""

    SECONDS = 2

    def __init__(self):
        self._condition = threading.Condition()
        self._waiting = None

    def swap(self, response):
        """The other one's response; one's own where no other comes in time."""
        with self._condition:
            if self._waiting is not None:
                other, self._waiting[1] = self._waiting[0], response
                self._waiting = None
                self._condition.notify_all()
                return other
            mine = self._waiting = [response, None]
            self._condition.wait_for(lambda: mine[1] is not None, self.SECONDS)
            if self._waiting is mine:
                self._waiting = None
            return mine[1] or response


class Rule:
    """One rule and how often it has met and spoiled a request."""

    def __init__(self, number, entry):
        _need(isinstance(entry, dict), "a rule is an object")
        action = entry.get("action")
        _need(action in ACTIONS, "unknown action %r" % (action,))
        unknown = set(entry) - COMMON - ACTIONS[action]
        _need(not unknown, "unknown members for %s: %s" % (action, ", ".join(sorted(unknown))))
        _need(entry.get("service") in SERVICES, "service is one of " + ", ".join(sorted(SERVICES)))
        self.number = number
        self.entry = copy.deepcopy(entry)
        self.service = entry["service"]
        self.method = entry.get("method")
        self.action = action
        self.times = entry.get("times", 1)
        self.skip = entry.get("skip", 0)
        _need(type(self.times) is int and self.times >= -1, "times is a number, or -1")
        _need(type(self.skip) is int and self.skip >= 0, "skip is a number")
        try:
            self.path = re.compile(entry.get("path_regex", ""))
            self.body = re.compile(entry.get("body_regex", ""))
        except (re.error, TypeError) as error:
            raise KnobError("bad regular expression: %s" % error) from error
        _need(isinstance(entry.get("email", ""), str), "email is a text")
        self.email = entry.get("email", "").lower()
        self.matched = 0
        self.hits = 0
        if action in ("delay", "late"):
            seconds = entry.get("seconds")
            _need(isinstance(seconds, (int, float)) and 0 <= seconds <= MAX_SLEEP,
                  "seconds is 0 to %d" % MAX_SLEEP)
        if action in wire.SHAPES:
            why = wire.wrong(action, entry)
            _need(why is None, why)
        self.meeting = Meeting()
        if action == "status":
            code = entry.get("code")
            _need(type(code) is int and 200 <= code <= 599, "code is 200 to 599")
            _need(isinstance(entry.get("headers", {}), dict), "headers is an object")
        if action == "bigbody":
            _need(0 < entry.get("mib", 10) <= MAX_BODY_MIB, "mib is 1 to %d" % MAX_BODY_MIB)
        if action == "certificate":
            what = entry.get("what")
            self.what = [what] if isinstance(what, str) else what
            _need(isinstance(self.what, list) and self.what, "what is a name or a list of names")
            wrong = set(self.what) - CERTIFICATE_FAULTS
            _need(not wrong, "unknown certificate faults: %s" % ", ".join(sorted(wrong)))

    def wants(self, service, request, emails):
        if service != self.service or (self.method and self.method != request.method):
            return False
        if not self.path.search(request.target) and not self.path.search(request.path):
            return False
        if self.body.pattern and not self.body.search(request.body.decode("utf-8", "replace")):
            return False
        return not self.email or self.email in emails()

    def view(self):
        return dict(self.entry, id=self.number, matched=self.matched, hits=self.hits)


class Knobs:
    """The settings and rules in force."""

    def __init__(self, settings, rules, stop):
        self._lock = threading.Lock()
        self._initial = (settings, rules)
        self._stop = stop
        self._next = 1
        self._last = {}  # (service, method): the last answer that was a good one
        self.on_tls = lambda: None
        self.reset()

    def reset(self):
        settings, rules = self._initial
        with self._lock:
            self._settings = copy.deepcopy(DEFAULTS)
            self._rules = []
        self.change({"settings": settings, "rules": rules})

    def change(self, wanted):
        """Apply {"clear": bool, "settings": {...}, "rules": [...]} or one rule; new rules' ids."""
        _need(isinstance(wanted, dict), "knobs are an object")
        if "action" in wanted:
            wanted = {"rules": [wanted]}
        unknown = set(wanted) - {"clear", "settings", "rules"}
        _need(not unknown, "unknown members: %s" % ", ".join(sorted(unknown)))
        settings = wanted.get("settings", {})
        for key, value in settings.items():
            _need(key in DEFAULTS, "unknown setting %s" % key)
            _need(self._fits(key, value), "setting %s has the wrong type" % key)
        tls = settings.get("tls", {})
        _need(set(tls) <= SERVICES and set(tls.values()) <= set(tls_faults.KINDS),
              "tls names services and kinds of tls_faults.py")
        before = dict(getattr(self, "_settings", {}).get("tls", {}))
        with self._lock:
            rules = []
            for entry in wanted.get("rules", []):
                rules.append(Rule(self._next, entry))
                self._next += 1
            if wanted.get("clear"):
                self._rules = []
                self._settings = copy.deepcopy(DEFAULTS)
                self._settings.update(self._initial[0])
            self._settings.update(settings)
            self._rules += rules
        if before != self._settings["tls"]:
            self.on_tls()
        return [rule.number for rule in rules]

    @staticmethod
    def _fits(key, value):
        default = DEFAULTS[key]
        if isinstance(default, bool) or isinstance(value, bool):
            return type(default) is type(value)
        if isinstance(default, (int, float)):
            return isinstance(value, (int, float))
        if isinstance(default, list):
            return isinstance(value, list) or (value is None and key.endswith("_limits"))
        return isinstance(value, type(default))

    def get(self, key):
        return self._settings[key]

    def view(self):
        with self._lock:
            return {"settings": dict(self._settings), "rules": [r.view() for r in self._rules]}

    def early(self, app, request):
        """What a rule says of a request whose body isn't to be read."""
        rule = self.take(app.name, request, list, True)
        if rule is None:
            return None
        return {"bytes": rule.entry.get("bytes", 0), "reset": bool(rule.entry.get("reset"))}

    def take(self, service, request, emails, early=False):
        """The first rule that fires for this request, or None; counts matches and hits."""
        with self._lock:
            for rule in self._rules:
                if rule.times != -1 and rule.hits >= rule.times:
                    continue
                if (rule.action == "break_off") != early:
                    continue
                if not rule.wants(service, request, emails):
                    continue
                rule.matched += 1
                if rule.matched <= rule.skip:
                    continue
                rule.hits += 1
                return rule
        return None

    def dispatch(self, app, request):
        """Let app answer request, spoiled by the rule that fires."""
        rule = self.take(app.name, request, lambda: app.emails_of(request))
        if rule is None:
            response = app.handle(request)
            if 200 <= response.status <= 299:
                self._last[app.name, request.method] = response
            return Outcome(response)
        if rule.action in wire.SHAPES:
            return Outcome(app.handle(request), shape=(rule.action, rule.entry))
        return getattr(self, "_do_" + rule.action)(rule.entry, app, request, rule)

    def _do_delay(self, entry, app, request, rule):
        self._stop.wait(entry["seconds"])
        return Outcome(app.handle(request))

    def _do_late(self, entry, app, request, rule):
        response = app.handle(request)
        self._stop.wait(entry["seconds"])
        return Outcome(response)

    def _do_stale(self, entry, app, request, rule):
        response = self._last.get((app.name, request.method))
        if entry.get("after") or response is None:
            own = app.handle(request)
            response = response or own
        return Outcome(response)

    def _do_swap(self, entry, app, request, rule):
        return Outcome(rule.meeting.swap(app.handle(request)))

    def _do_drop(self, entry, app, request, rule):
        return Outcome(None, reset=bool(entry.get("reset")))

    def _do_lose(self, entry, app, request, rule):
        app.handle(request)
        return Outcome(None, reset=bool(entry.get("reset")))

    @staticmethod
    def _instead(entry, app, request, status, body, content_type, headers=()):
        """An answer in place of the app's, which does its work before it if "after" says so."""
        if entry.get("after"):
            app.handle(request)
        response = Response(status, body, content_type, headers)
        app.decorate(request, response)
        return Outcome(response)

    def _do_status(self, entry, app, request, rule):
        body = entry.get("body")
        headers = [(k, str(v)) for k, v in entry.get("headers", {}).items()]
        given = {k.lower() for k, _ in headers}
        if body is None:
            body = app.error_body(entry["code"], request)
        if isinstance(body, str):
            data, kind = body.encode("utf-8"), "text/plain; charset=utf-8"
        else:
            data, kind = json.dumps(body).encode("utf-8"), "application/json"
        if "content-type" in given:
            kind = None
        return self._instead(entry, app, request, entry["code"], data, kind, headers)

    def _do_throttle(self, entry, app, request, rule):
        headers = []
        if entry.get("retry_after") is not None:
            headers.append(("Retry-After", str(entry["retry_after"])))
        if entry.get("retry_after_ms") is not None:
            headers.append(("x-ms-retry-after-ms", str(entry["retry_after_ms"])))
        body = json.dumps(app.error_body(429, request)).encode("utf-8")
        return self._instead(entry, app, request, 429, body, "application/json", headers)

    def _do_html(self, entry, app, request, rule):
        page = b"<!DOCTYPE html><html><head><title>Sorry</title></head>" \
               b"<body><h1>Service Unavailable</h1></body></html>\n"
        return self._instead(entry, app, request, entry.get("code", 502), page,
                             "text/html; charset=utf-8")

    def _do_garbage(self, entry, app, request, rule):
        return self._instead(entry, app, request, 200, b"\x00\xff{\"orders\": [nul\x80, }}\x01\x02",
                             "application/json")

    def _do_bigbody(self, entry, app, request, rule):
        filler = b"x" * int(entry.get("mib", 10) * (1 << 20))
        body = b'{"value":[],"orders":[],"padding":"' + filler + b'"}'
        return self._instead(entry, app, request, 200, body, "application/json")

    def _do_truncate(self, entry, app, request, rule):
        return Outcome(app.handle(request), missing=int(entry.get("missing", 1000)))

    def _do_wrong_type(self, entry, app, request, rule):
        response = app.handle(request)
        try:
            value = parse_json(response.body)
        except ValueError:
            return Outcome(response)
        if "member" in entry:
            _replace(value, entry["member"], entry.get("value", []))
        elif isinstance(value, dict):
            value = {k: _flip(v) for k, v in value.items()}
        else:
            value = _flip(value)
        response.body = json.dumps(value).encode("utf-8")
        return Outcome(response)

    def _do_certificate(self, entry, app, request, rule):
        request.certificate_faults = list(rule.what)
        return Outcome(app.handle(request))


def _flip(value):
    if isinstance(value, (bool, int, float)) or value is None:
        return "a text in its place"
    return 7 if isinstance(value, str) else "neither list nor object"


def _replace(document, pointer, value):
    """Set the member that a JSON pointer (RFC 6901) names; a missing parent changes nothing."""
    parts = [p.replace("~1", "/").replace("~0", "~") for p in pointer.lstrip("/").split("/")]
    for part in parts[:-1]:
        document = _step(document, part)
        if document is None:
            return
    if isinstance(document, dict):
        document[parts[-1]] = value
    elif isinstance(document, list) and parts[-1].isdigit() and int(parts[-1]) < len(document):
        document[int(parts[-1])] = value


def _step(document, part):
    if isinstance(document, dict):
        return document.get(part)
    if isinstance(document, list) and part.isdigit() and int(part) < len(document):
        return document[int(part)]
    return None
