"""pfx-uploader and a network that does what it likes: each request that it knows, with each fault.

For each fault all requests are made at once, each with a rule of its own at the simulators. What
may come of it is the table below; a message names host and next step, nothing outlasts its
time-outs, and after the fault the same requests succeed. PFX_LONG=1 runs every fault, else a part
of them, and fewer for the sign-in."""

import email.utils
import os
import sys
import time
import unittest
import uuid

import uploader_rig
import simclient  # of the simulators; the line above says where they are
import tls_faults
from simclient import GROUP
from uploader_rig import Rig

LONG = os.environ.get("PFX_LONG") == "1"
BOX = "sales@contoso.example.com"
REQUEST_S, CONNECT_S, JOB_S = 2.0, 1.5, 5.0
SLACK_S = 5  # of a machine that does other things
SLOW = ("timed out", "Not sent within", "it hung",
        "belongs to another request")  # the late second answer of the fault before

# endpoint: (service, method, path, body, whether it changes something)
ENDPOINTS = {
    "order": ("digicert", "POST", "/order/certificate/", "", True),
    "settle": ("digicert", "GET", r"/order/certificate\?", "", False),
    "changes": ("digicert", "GET", "/status-changes", "", False),
    "info": ("digicert", "GET", r"/order/certificate/[0-9]+$", "", False),
    "validation": ("digicert", "GET", "/email-validation", "", False),
    "download": ("digicert", "GET", "/download/", "", False),
    "revoke": ("digicert", "PUT", "/revoke", "", True),
    "members": ("graph", "GET", "/groups/", "", False),
    "records": ("graph", "GET", r"/userPfxCertificates(\?|$)", "", False),
    "import": ("graph", "POST", "/userPfxCertificates$", "", True),
    "readback": ("graph", "GET", "/userPfxCertificates/[0-9a-f]{32}-" + "ab" * 20, "", False),
    "remove": ("graph", "DELETE", "/userPfxCertificates/", "", True),
    "mailboxes": ("exchange", "POST", "", 'Get-Mailbox"', False),
    "rights": ("exchange", "POST", "", "Get-MailboxPermission", False),
}
EMPTY = {"revoke", "remove"}  # a good answer has no body
AGAIN = {"remove"}            # whatever came of it, it is done again
LARGE = {"members", "download", "order", "records"}  # too many bytes for one piece each

OK, LOST, CUT, BIG = ("ok", "ok"), ("transient", "lost"), ("transient", "lost"), ("refused", "lost")
NEVER = ("transient", "transient")  # no request got there
REFUSED = ("refused", "refused")


def date(offset):
    return email.utils.formatdate(time.time() + offset, usegmt=True)


def shape(action, **members):
    return dict(members, action=action)


def http(code, after=False, **members):
    return dict(members, action="status", code=code, after=after)


HTML = {"headers": {"Content-Type": "text/html"}}
# name: (rule, (class of a read, of a change), what a download or an answer without body may be too)
FAULTS = {
    "byte by byte": (shape("pieces"), OK),
    "chunks of one byte": (shape("pieces", chunked=True), OK),
    "chunks of seven bytes": (shape("pieces", chunked=True, size=7), OK),
    "silence": (shape("stall"), LOST),
    "silence in the head": (shape("stall", where="head"), LOST),
    "silence in the body": (shape("stall", where="body"), LOST, EMPTY),
    "too late": (shape("late", seconds=REQUEST_S + 0.6), LOST),
    "closed before the work": (shape("drop"), LOST),
    "reset before the work": (shape("drop", reset=True), LOST),
    "closed after the work": (shape("lose"), LOST),
    "reset after the work": (shape("lose", reset=True), LOST),
    "reset after the headers": (shape("break_off", reset=True), ("transient", "transient lost")),
    "closed after the headers": (shape("break_off"), ("transient", "transient lost")),
    "reset inside the request": (shape("break_off", bytes=2, reset=True),
                                 ("transient", "transient lost")),
    "cut in the head": (shape("cut", where="head"), CUT),
    "reset in the head": (shape("cut", where="head", how="reset"), CUT),
    "cut after the head": (shape("cut", where="border"), CUT, EMPTY),
    "cut in the body": (shape("cut"), CUT, EMPTY),
    "TLS ends in the body": (shape("cut", how="goodbye"), CUT, EMPTY),
    "reset in the body": (shape("cut", how="reset"), CUT, EMPTY),
    "TLS alert in the body": (shape("cut", how="alert"), CUT, EMPTY),
    "neither length nor chunks": (shape("unframed"), OK),
    "the same, and no end of TLS": (shape("unframed", how="fin"), ("ok transient", "ok lost")),
    "and 20 bytes missing": (shape("unframed", missing=20), CUT, EMPTY, "refused"),
    "length too large": (shape("length", by=100), LOST, EMPTY),
    "length too small": (shape("length", by=-10), CUT, EMPTY, "refused"),
    "length below zero": (shape("length", by="-7"), CUT, EMPTY),
    "length no number": (shape("length", by="all of it"), ("transient ok", "lost ok")),
    "length enormous": (shape("length", by="9" * 30), ("refused transient", "lost"), EMPTY),
    "chunks without the last": (shape("chunked", seconds=5), LOST, EMPTY),
    "closed before the last chunk": (shape("chunked", what="closed"), CUT, EMPTY),
    "endless chunks": (shape("chunked", what="endless"), BIG, EMPTY),
    "trailers that contradict": (shape("chunked", what="trailers"), OK),
    "chunk size no number": (shape("chunked", what="size"), CUT, EMPTY),
    "chunk size enormous": (shape("chunked", what="huge"), CUT, EMPTY),
    "chunk size below zero": (shape("chunked", what="negative"), CUT, EMPTY),
    "chunk longer than said": (shape("chunked", what="short"), CUT, EMPTY),
    "header of 70 KiB": (shape("headers", kib=70), BIG),
    "header of 200 KiB": (shape("headers", kib=200), BIG),
    "100 headers of 1 KiB": (shape("headers", lines=100), BIG),
    "endless headers": (shape("headers", lines=-1), BIG),
    "gzip that nobody asked for": (shape("compressed"), CUT, EMPTY),
    "gzip bomb": (shape("compressed", bomb=4), CUT, EMPTY),
    "the answer twice": (shape("double"), OK),
    "the answer again later": (shape("double", pause=0.05), OK),
    "100 and 103 before it": (shape("interim", count=3, headers={"Content-Type": "text/html",
                                                                 "Retry-After": "3600"}), OK),
    "101": (shape("interim", status=101), LOST),
    "endless 103": (shape("interim", count=-1), BIG),
    "HTTP/0.9": (shape("start_line"), CUT),
    "HTTP/9.9": (shape("start_line", line="HTTP/9.9 200 OK"), CUT),
    "HTTP/1.0": (shape("start_line", line="HTTP/1.0 200 OK"), OK),
    "status 99999": (shape("start_line", line="HTTP/1.1 99999 OK"), CUT),
    "status -1": (shape("start_line", line="HTTP/1.1 -1 OK"), CUT),
    "status line of bytes": (shape("start_line", line="\x00\xff\x01"), CUT),
    "clock at 1970": (shape("header", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}), OK),
    "clock at 2099": (shape("header", headers={"Date": "Thu, 01 Jan 2099 00:00:00 GMT"}), OK),
    "no type": (shape("header", headers={"Content-Type": None}), CUT, EMPTY, "ok"),
    "type text/plain": (shape("header", headers={"Content-Type": "text/plain"}), CUT, EMPTY, "ok"),
    "type image/png": (shape("header", headers={"Content-Type": "image/png"}), CUT, EMPTY, "ok"),
    "type text/html": (shape("header", **HTML), CUT),
    "UTF-16": (shape("recoded"), CUT, EMPTY),
    "rubbish": (shape("garbage", after=True), CUT, EMPTY),
    "2 MiB": (shape("bigbody", mib=2, after=True), BIG),
    "HTML and 200": (shape("html", code=200, after=True), CUT),
    "HTML and 403": (shape("html", code=403, after=True), CUT),
    "500 after the work": (http(500, True), LOST),
    "503 after the work": (http(503, True), LOST),
    "504 after the work": (http(504, True), LOST),
    "408": (http(408, True), LOST),
    "301": (http(301, headers={"Location": "https://evil.invalid/?secret=1"}), REFUSED),
    "303 after the work": (http(303, True, headers={"Location": "https://evil.invalid/"}), BIG),
    "308": (http(308, headers={"Location": "http://127.0.0.1:1/"}), REFUSED),
    "429, and then well": (shape("throttle", retry_after=0.2, times=2), OK),
    "429 in milliseconds": (shape("throttle", retry_after_ms=150, times=1), OK),
    "429 by a clock two hours ahead": (
        lambda: http(429, headers={"Retry-After": date(7201), "Date": date(7200)}, times=1), OK),
    "429 for ever": (shape("throttle", retry_after=0.3), NEVER),
}
for _kind in tls_faults.KINDS:
    FAULTS["TLS: " + _kind.replace("_", " ")] = (
        {"tls": _kind}, ("transient", "transient lost" if _kind == "client_certificate"
                         else "transient"))
ONE_RULE = {"reset after the headers", "closed after the headers", "reset inside the request"}
DOUBLED = {"the answer twice", "the answer again later"}
# Always; with PFX_LONG=1 every fault.
HANGING = {"silence", "silence in the head", "too late", "length too large", "101",
           "chunks without the last", "429 for ever", "TLS: silent"}
SHORT = set(list(FAULTS)[::3]) - HANGING | DOUBLED | {
    "silence in the body", "TLS: silent",
    "cut in the head", "trailers that contradict", "header of 200 KiB", "HTTP/0.9", "status 99999",
    "gzip that nobody asked for", "429 by a clock two hours ahead", "500 after the work",
    "100 and 103 before it", "TLS: expired", "TLS: foreign ca", "TLS: wrong name"}
STEPS = ("check", "Check", "looked up", "If it stays", "if it stays", "raise", "retry after",
         "say how long", "Tell its support", "Is it the service", "Pay in", "it stays")


class Network(Rig):
    """One program and one set of simulators for all faults."""

    extra_tenant = {
        "apps": [{"client_id": simclient.CLIENT, "certificates": ["client-certificate.pem"],
                  "roles": ["DeviceManagementConfiguration.ReadWrite.All", "User.Read.All",
                            "GroupMember.Read.All", "Exchange.ManageAsApp"],
                  "directory_roles": ["Global Reader"]}],
        "mailboxes": [{"PrimarySmtpAddress": BOX}],
    }
    options = {"limits.request_timeout": "%dms" % (REQUEST_S * 1000),
               "limits.connect_timeout": "%dms" % (CONNECT_S * 1000),
               "limits.job_timeout": "%ds" % JOB_S, "digicert.rate_short": "5000/1s",
               "digicert.rate_long": "9000/1s", "graph.rate_writes": "5000/1s",
               "graph.rate_any": "5000/1s", "exchange.rate": "5000/1s", "limits.in_flight": 64}
    SETTINGS = {"digicert_limits": None, "graph_write_limits": None, "graph_any_limits": None,
                "issue_delay": 0}
    table = []

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        print("\n".join(cls.table), flush=True)

    def setUp(self):
        super().setUp()
        self.setting(**self.SETTINGS)
        self.standing()

    # --- what is there, and what is asked -----------------------------------------------------

    def new_order(self, key):
        """For an address of its own: what is lost is looked for among an address's orders."""
        return self.order_job(key, emails=("%s@example.com" % uuid.uuid4().hex,))

    def standing(self):
        """An issued order and a record to be read."""
        key = simclient.ec.generate_private_key(simclient.ec.SECP256R1())
        self.order_id, self.order_key = self.good("up.order", **self.new_order(key))["order_id"], \
            self.spki(key)
        self.record_id = self.import_job()["record_id"]
        self.good("up.import", **self.import_job())

    def jobs(self, endpoints=tuple(ENDPOINTS)):
        """{endpoint: (kind, body)}: what changes something has an object of its own."""
        key = simclient.ec.generate_private_key(simclient.ec.SECP256R1())
        self.last_key, self.last_order = key, self.new_order(key)
        mark = uuid.uuid4().hex + "01234567"
        made = {
            "order": ("up.order", self.last_order),
            "settle": ("up.order_settle", dict(self.settle_job(self.last_order, key),
                                               addresses=["nobody@example.com"])),
            "changes": ("up.order_changes", {"minutes": 1}),
            "info": ("up.order_info", {"order_id": self.order_id}),
            "validation": ("up.order_validation", {"order_id": self.order_id}),
            "download": ("up.download", {"order_id": self.order_id, "spki": self.order_key}),
            "members": ("up.members", {"group": GROUP}),
            "records": ("up.records", {}),
            "import": ("up.import", self.import_job(
                record_id=simclient.OBJECT + "-" + mark, thumbprint=mark)),
            "readback": ("up.readback", {"record_id": self.record_id}),
            "mailboxes": ("up.mailboxes", {}),
            "rights": ("up.mailbox_rights", {"id": BOX}),
        }
        if "revoke" in endpoints:
            other = simclient.ec.generate_private_key(simclient.ec.SECP256R1())
            made["revoke"] = ("up.order_revoke", {
                "order_id": self.good("up.order", **self.new_order(other))["order_id"],
                "comment": "test"})
        if "remove" in endpoints:
            mark = uuid.uuid4().hex + "76543210"
            gone = self.import_job(record_id=simclient.OBJECT + "-" + mark, thumbprint=mark)
            self.good("up.import", **gone)
            made["remove"] = ("up.remove", {"record_id": gone["record_id"]})
        return {name: made[name] for name in ENDPOINTS if name in endpoints}

    def spoil(self, rule, endpoints):
        """Sets the fault for each endpoint; {endpoint: id of its rule}."""
        rule = dict(rule() if callable(rule) else rule)
        if "tls" in rule:
            self.setting(tls={s: rule["tls"] for s in ("digicert", "graph", "exchange")})
            return {}
        rules = []
        for name in endpoints:
            service, method, path, body, _ = ENDPOINTS[name]
            entry = dict({"times": -1}, service=service, method=method, path_regex=path, **rule)
            if rule["action"] == "pieces" and name in LARGE:
                entry["size"] = 16
            if rule["action"] != "break_off":
                entry["body_regex"] = body
            rules.append(entry)
        return dict(zip(endpoints, self.control("POST", "/knobs", {"rules": rules})["ids"]))

    def unspoil(self):
        hits = {r["id"]: r["hits"] for r in self.control("GET", "/knobs")["rules"]}
        self.control("POST", "/knobs", {"clear": True, "settings": self.SETTINGS})
        return hits

    def gather(self, jobs):
        """Starts all of them; {endpoint: answer}."""
        began = time.monotonic()
        asked = {name: self.agent.start(kind, **body) for name, (kind, body) in jobs.items()}
        answers = {name: q.get(timeout=JOB_S + 20) for name, q in asked.items()}
        self.assertLess(time.monotonic() - began, JOB_S + REQUEST_S + SLACK_S, "it hung")
        return answers

    # --- what has to come of it -----------------------------------------------------------------

    def allowed(self, fault, name):
        entry = FAULTS[fault]
        read, change = entry[1]
        classes = set((change if ENDPOINTS[name][4] else read).split())
        if name in AGAIN and "lost" in classes:
            classes.add("transient")
        if fault in DOUBLED and ENDPOINTS[name][0] == "graph":
            classes.add("transient")  # reads share connections, and a change reads first or after
        if len(entry) > 2 and name in entry[2]:
            classes.add("ok")
        if len(entry) > 3 and name == "download":
            classes.add(entry[3])
        return classes

    def check(self, fault, name, answer):
        self.assertIn(answer["class"], self.allowed(fault, name), "%s, %s: %s" % (
            fault, name, answer))
        if answer["class"] == "ok":
            return
        error = answer["error"]
        text = " ".join(str(v) for v in error.values())
        if name != "download" or answer["class"] != "refused" or "can't be used" not in text:
            self.assertIn("127.0.0.1", text, "%s, %s names no host" % (fault, name))
            self.assertTrue(any(s in text for s in STEPS), "%s, %s says no next step: %s" % (
                fault, name, text))
        for secret in (simclient.API_KEY, "secret=1", "eyJ0"):
            self.assertNotIn(secret, text)

    def settle(self, answers):
        """A lost order is found by its key, or wasn't placed; never is there a second one."""
        if answers["order"]["class"] == "lost":
            found = self.good("up.order_settle", **self.settle_job(self.last_order, self.last_key))
            if not found["found"]:
                self.good("up.order", **self.last_order)
        if answers["import"]["class"] == "lost":
            kind, body = self.last_jobs["import"]
            self.good("up.import_settle", **body)
        state = self.state()
        self.assertEqual(1, state["digicert"]["max_orders_per_key"])

    def drain(self, jobs):
        """Each shared connection with a second answer on it costs one read, and is closed."""
        reads = {n: j for n, j in jobs.items() if n in ("members", "records", "readback")}
        for _ in range(12):
            if {a["class"] for a in self.gather(reads).values()} == {"ok"}:
                return

    def one(self, fault):
        jobs = self.last_jobs = self.jobs()
        rules = self.spoil(FAULTS[fault][0], list(jobs))
        answers = self.gather(jobs)
        hits = self.unspoil()
        for name, number in rules.items():
            if name == "rights" and fault in ONE_RULE:
                continue  # decided before the body is read, which says which one it is
            if name == "import" and fault in DOUBLED:
                continue  # its look may have failed already
            self.assertGreater(hits[number], 0, "%s: %s didn't meet it" % (fault, name))
        for name, answer in answers.items():
            self.check(fault, name, answer)
        if fault == "429 for ever":
            time.sleep(0.4)
        self.settle(answers)
        if fault in DOUBLED:
            self.drain(jobs)
        again = {n: j for n, j in jobs.items() if n not in ("order", "import", "revoke", "remove")}
        for name, answer in self.gather(again).items():
            self.assertEqual("ok", answer["class"], "after %s, %s: %s" % (fault, name, answer))
        type(self).table.append("%-32s %s" % (fault, " ".join(
            "%s=%s" % (n, answers[n]["class"]) for n in answers)))

    def twice(self, fault):
        """A machine that is busy for two seconds looks like a fault: once more then."""
        try:
            self.one(fault)
        except AssertionError as error:
            if not any(word in str(error) for word in SLOW):
                raise
            self.unspoil()
            time.sleep(1)
            self.one(fault)

    def test_each_fault(self):
        """Fourteen requests of three services."""
        chosen = [f for f in FAULTS if LONG or f in SHORT]
        for fault in chosen:
            with self.subTest(fault):
                self.twice(fault)
        print("%d of %d faults, each with %d requests" % (len(chosen), len(FAULTS),
                                                          len(ENDPOINTS)))
        records = [r["id"] for r in self.control("GET", "/graph/records")["records"]]
        self.assertEqual(len(records), len(set(records)))


class SignIn(Network):
    """The same with Entra ID's token; a program of its own for each, since after a failure the next
    sign-in waits."""

    test_each_fault = None
    table = []

    def standing(self):
        pass

    def expected(self, fault):
        classes = set(FAULTS[fault][1][0].split())
        return classes | {"refused"} if "refused" in classes else classes

    def test_sign_in(self):
        chosen = list(FAULTS) if LONG else list(FAULTS)[1::9]
        for fault in chosen:
            with self.subTest(fault):
                self.restart()
                rule = FAULTS[fault][0]
                rule = dict(rule() if callable(rule) else rule)
                if "tls" in rule:
                    self.setting(tls={"entra": rule["tls"]})
                else:
                    self.knob(**dict({"times": -1}, service="entra", **rule))
                answer = self.gather({"token": ("up.records", {})})["token"]
                self.assertIn(answer["class"], self.expected(fault), answer)
                if answer["class"] != "ok":
                    text = " ".join(str(v) for v in answer["error"].values())
                    self.assertIn("127.0.0.1", text)
                    self.assertTrue(any(s in text for s in STEPS), text)
                self.unspoil()
                self.assertEqual("ok", self.agent.do("up.records")["class"])
                type(self).table.append("%-32s token=%s" % (fault, answer["class"]))
        print("%d of %d faults of the sign-in" % (len(chosen), len(FAULTS)))


class Mixed(Network):
    """Answers of other requests: what belongs to another is never taken."""

    test_each_fault = None
    table = []

    def orders(self, count):
        """{order id: spki} as this program sees it, and as the CA does."""
        seen = {}
        for _ in range(count):
            key = simclient.ec.generate_private_key(simclient.ec.SECP256R1())
            job = self.new_order(key)
            answer = self.agent.do("up.order", **job)
            if answer["class"] == "lost":
                answer = self.agent.do("up.order_settle", **self.settle_job(job, key))
            self.assertEqual("ok", answer["class"], answer)
            seen[answer["body"]["order_id"]] = simclient.spki_hash(key)
        orders = self.control("GET", "/digicert/orders")["orders"]
        return seen, {o["id"]: o["spki"] for o in orders if o["id"] != self.order_id}

    def test_orders_answered_twice(self):
        """The second answer comes while the next order is on its way: on its connection it would be
        taken for the next one's."""
        self.knob(service="digicert", method="POST", action="double", pause=0.05, times=-1)
        seen, real = self.orders(6)
        self.assertEqual(real, seen)

    def test_downloads_answered_twice(self):
        numbers = []
        for _ in range(3):
            key = simclient.ec.generate_private_key(simclient.ec.SECP256R1())
            numbers.append((self.good("up.order", **self.new_order(key))["order_id"],
                            self.spki(key)))
        self.knob(service="digicert", method="GET", action="double", pause=0.05, times=-1)
        for number, key in numbers * 2:
            self.good("up.download", order_id=number, spki=key)

    def test_reads_of_graph_answered_twice(self):
        """These share connections, and each answer says whose it is."""
        self.knob(service="graph", method="GET", action="double", pause=0.05, times=-1)
        mixed = 0
        for _ in range(6):
            for kind, body, member in (("up.members", {"group": GROUP}, "users"),
                                       ("up.records", {}, "records")):
                answer = self.agent.do(kind, **body)
                if answer["class"] == "ok":
                    self.assertTrue(answer["body"][member])
                else:
                    self.assertEqual("transient", answer["class"], answer)
                    self.assertIn("another request", answer["error"]["text"])
                    mixed += 1
        self.assertGreater(mixed, 0)
        self.unspoil()
        self.good("up.members", group=GROUP)

    def test_stale_answers_of_graph(self):
        """A cache that hands out what somebody else was answered."""
        self.good("up.records")
        self.knob(service="graph", method="GET", action="stale", times=-1)
        self.bad("transient", "up.members", "another request", group=GROUP)
        self.bad("transient", "up.readback", "another request", record_id=self.record_id)
        self.unspoil()
        self.knob(service="graph", method="POST", action="stale", after=True)
        mark = uuid.uuid4().hex + "89abcdef"
        job = self.import_job(record_id=simclient.OBJECT + "-" + mark, thumbprint=mark)
        self.bad("lost", "up.import", "another request", "looked up", **job)
        self.good("up.import_settle", **job)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
