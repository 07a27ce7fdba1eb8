"""pfx-uploader when answers are lost, spoiled or late, or the services want to be left alone."""

import datetime
import email.utils
import sys
import time
import unittest

import uploader_rig
from simclient import GROUP, RSA_KEY
from uploader_rig import Rig


class Lost(Rig):
    """Orders whose answer doesn't come, and how they are found again."""

    def found(self, job, **more):
        return self.good("up.order_settle", **dict(self.settle_job(job), **more))

    def test_lost(self):
        for change in ({"action": "lose"}, {"action": "lose", "reset": True},
                       {"action": "status", "code": 500, "after": True},
                       {"action": "status", "code": 406, "after": True},
                       {"action": "status", "code": 201, "body": {"id": "x"}, "after": True},
                       {"action": "garbage", "after": True}, {"action": "bigbody", "after": True},
                       {"action": "html", "code": 201, "after": True},
                       {"action": "html", "code": 502, "after": True},
                       {"action": "html", "code": 403, "after": True},
                       {"action": "status", "code": 303, "after": True},
                       {"action": "truncate"}, {"action": "late", "seconds": 4}):
            with self.subTest(change):
                self.control("POST", "/reset", {})
                self.good("up.order_changes", minutes=1)  # a connection to be used again
                job = self.order_job()
                self.knob(service="digicert", method="POST", **change)
                self.bad("lost", "up.order", "looked up", **job)
                # libcurl sends again by itself what is lost on a reused connection: not here.
                self.assertEqual(1, self.state()["digicert"]["posts"])
                body = self.found(job)
                self.assertTrue(body["found"])
                self.assertEqual(self.control("GET", "/digicert/orders")["orders"][0]["id"],
                                 body["order_id"])

    def test_dropped(self):
        """Nothing was done, but that can't be known: lost, then not found."""
        for reset in (False, True):
            job = self.order_job()
            self.knob(service="digicert", method="POST", action="drop", reset=reset)
            self.bad("lost", "up.order", **job)
            self.assertEqual({"found": False}, self.found(job))
        self.assertEqual(0, self.state()["digicert"]["posts"])

    def test_cancel_lost(self):
        self.setting(issue_delay=60)
        number = self.good("up.order", **self.order_job())["order_id"]
        self.knob(service="digicert", method="PUT", action="lose")
        self.bad("lost", "up.order_cancel", order_id=number, note="n")

    def test_settle_among_others(self):
        others = [self.order_job(RSA_KEY) for _ in range(4)]
        for other in others:
            self.good("up.order", **other)
        job = self.order_job(emails=("alice@example.com", "b@example.com"))
        wanted = self.good("up.order", **job)["order_id"]
        for ignore in (False, True):
            self.setting(ignore_filters=ignore)
            self.assertEqual(wanted, self.found(job)["order_id"])
        job["addresses"] = ["nobody@example.com"]
        self.assertFalse(self.found(job)["found"])

    def test_settle_tells_of_others(self):
        """Orders of other keys for these addresses, where an agent's mark is in their comments."""
        number = self.good("up.order", **self.order_job(RSA_KEY))["order_id"]
        lost = self.found(self.order_job())
        self.assertEqual([number], [o["order_id"] for o in lost["others"]])
        self.assertIn(lost["others"][0]["status"], ("pending", "issued"))
        # A list that shows no addresses, and ignored which ones were asked for: the order has them.
        self.knob(service="digicert", path_regex="/order/certificate\\?", action="status", code=200,
                  body={"orders": [{"id": number}], "page": {"total": 1}})
        self.assertEqual({"found": False},
                         self.found(dict(self.order_job(), addresses=["nobody@example.com"])))
        self.knob(service="digicert", path_regex="/order/certificate/[0-9]+$", times=-1,
                  action="wrong_type", member="/requests/0/comments", value="by hand")
        self.assertEqual({"found": False}, self.found(self.order_job()))

    def test_settle_too_old(self):
        job = self.order_job()
        self.good("up.order", **job)
        body = dict(self.settle_job(job), since=int((time.time() + 7200) * 1000))
        self.assertFalse(self.good("up.order_settle", **body)["found"])

    def test_settle_oldest_first(self):
        """The order of the list was ignored: the last page has what is looked for."""
        job = self.order_job()
        wanted = self.good("up.order", **job)["order_id"]
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        listed = [(n, "2020-01-0%dT00:00:00+00:00" % n) for n in (1, 2, 3)] + [(wanted, now)]
        for offset, (number, created) in enumerate(listed):
            self.knob(service="digicert", path_regex="offset=%d&" % offset, action="status",
                      code=200, body={"orders": [{"id": number, "date_created": created}],
                                      "page": {"total": 4, "limit": 1, "offset": offset}})
        self.assertEqual(wanted, self.found(job)["order_id"])

    def test_settle_by_comment(self):
        job = self.order_job()
        wanted = self.good("up.order", **job)["order_id"]
        self.knob(service="digicert", path_regex="/order/certificate/[0-9]+$", times=-1,
                  action="wrong_type", member="/certificate/csr", value="unreadable")
        self.assertEqual(wanted, self.found(job)["order_id"])
        other = dict(job, token="00000000-0000-4000-8000-000000000000")
        self.assertFalse(self.found(other)["found"])


class Answers(Rig):
    """Answers that can't be used: reads are repeated by pfx-agentd, so they are transient."""

    CASES = (("transient", {"action": "lose"}, "No answer"),
             ("transient", {"action": "drop", "reset": True}, "No answer"),
             ("transient", {"action": "late", "seconds": 4}, "request_timeout"),
             ("transient", {"action": "truncate"}, "No answer"),
             ("transient", {"action": "garbage"}, "UTF-8"),
             ("transient", {"action": "html", "code": 200}, "HTML"),
             ("transient", {"action": "html", "code": 403}, "HTML"),
             ("transient", {"action": "html", "code": 502}, "HTML"),
             ("transient", {"action": "status", "code": 503}, "503"),
             ("refused", {"action": "bigbody"}, "limits.max_body"),
             ("refused", {"action": "status", "code": 302,
                          "headers": {"Location": "https://evil.invalid/login?secret=1"}},
              "redirect to https://evil.invalid/login"),
             ("refused", {"action": "status", "code": 418}, "418"),
             ("transient", {"action": "status", "code": 200, "body": "plain"}, "text/plain"),
             ("integrity", {"action": "wrong_type"}, "can't be used"))

    def spoil(self, *what, **rule):
        """Always, since libcurl repeats a GET by itself where a reused connection is lost."""
        self.control("POST", "/reset", {"what": ["knobs"] + list(what)})
        self.knob(times=-1, **rule)

    def mend(self):
        """A success lets the next token be asked for at once."""
        self.control("POST", "/reset", {"what": ["knobs"]})
        self.good("up.members", group=GROUP)

    def test_graph(self):
        for cls, change, word in self.CASES:
            with self.subTest(change):
                self.spoil(service="graph", **change)
                self.bad(cls, "up.members", word, group=GROUP)

    def test_digicert(self):
        number = self.good("up.order", **self.order_job())["order_id"]
        for cls, change, word in self.CASES:
            with self.subTest(change):
                self.spoil(service="digicert", **change)
                self.bad(cls, "up.order_info", word, order_id=number)

    def test_entra(self):
        for cls, change, word in self.CASES:
            if change.get("code") == 418:
                word = "AADSTS90033"
                cls = "transient"
            if change["action"] == "bigbody":  # limits.max_body has no say there
                word = "larger than one with a token can be"
            with self.subTest(change):
                self.spoil("tokens", service="entra", **change)
                self.bad(cls, "up.members", word, group=GROUP)
            self.mend()

    def test_aadsts(self):
        for code, word in ((700027, "client-NAME.crt"), (700016, "entra.tenant"),
                           (700024, "clock"), (53003, "Conditional Access"), (12345, "told so")):
            with self.subTest(code):
                self.control("POST", "/reset", {"what": ["knobs", "tokens"]})
                self.knob(service="entra", action="status", code=401, body={
                    "error": "invalid_client", "error_codes": [code],
                    "error_description": "AADSTS%d: told so.\r\nTrace ID: x" % code,
                    "trace_id": "t-1", "correlation_id": "c-1"})
                error = self.bad("refused", "up.members", word, "trace id t-1",
                                 "correlation id c-1", "client-request-id", group=GROUP)
                self.assertEqual("AADSTS%d" % code, error["code"])
            self.mend()

    def test_unfit_tokens(self):
        for change in ({"access_token": "a b"}, {"access_token": "x\r\nEvil: 1"},
                       {"access_token": 7}, {"token_type": "mac"}, {"expires_in": "soon"},
                       {"expires_in": -1}):
            with self.subTest(change):
                self.control("POST", "/reset", {"what": ["knobs", "tokens"]})
                body = dict({"token_type": "Bearer", "expires_in": 3599, "access_token": "x"},
                            **change)
                self.knob(service="entra", action="status", code=200, body=body)
                self.bad("integrity", "up.members", group=GROUP)
            self.mend()

    def test_forbidden(self):
        self.knob(service="graph", action="status", code=403)
        self.bad("refused", "up.members", "GroupMember.Read.All", group=GROUP)
        self.knob(service="graph", action="status", code=403)
        self.bad("refused", "up.records", "DeviceManagementConfiguration.ReadWrite.All")


class Throttled(Rig):
    """429 in every form: the request waits, whichever it is, and is sent once more."""

    def test_forms(self):
        for rule, least, most in (({"retry_after": 1}, 1, 2), ({"retry_after": 0.4}, 0.4, 1.2),
                                  ({"retry_after_ms": 300}, 0.3, 1),
                                  ({"retry_after": 2.5}, 0.9, 3)):
            with self.subTest(rule):
                if rule.get("retry_after") == 2.5:
                    rule["retry_after"] = email.utils.format_datetime(datetime.datetime.now(
                        datetime.timezone.utc) + datetime.timedelta(seconds=2), usegmt=True)
                self.knob(service="graph", method="POST", action="throttle", **rule)
                self.control("POST", "/reset", {"what": ["records"]})
                started = time.monotonic()
                self.good("up.import", **self.import_job())
                self.assertLess(least, time.monotonic() - started)
                self.assertGreater(most, time.monotonic() - started)
                self.assertEqual(1, self.state()["graph"]["posts"])

    def test_order(self):
        self.knob(service="digicert", method="POST", action="throttle", retry_after=0.5)
        self.good("up.order", **self.order_job())
        self.assertEqual(1, self.state()["digicert"]["posts"])

    def test_token(self):
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.knob(service="entra", action="throttle", retry_after=0.5)
        self.good("up.members", group=GROUP)

    def test_too_long(self):
        self.knob(service="graph", action="throttle", retry_after=7)
        started = time.monotonic()
        self.bad("transient", "up.records", "retry after 7 s")
        self.bad("transient", "up.records", "retry after")  # and no request at all
        self.assertLess(time.monotonic() - started, 2)
        self.assertEqual(1, self.state()["http"]["graph"]["requests"])
        self.good("up.order_changes", minutes=1)  # the other service isn't concerned
        time.sleep(7.2)
        self.good("up.records")

    def test_unsaid(self):
        self.knob(service="digicert", action="throttle")
        started = time.monotonic()
        answer = self.agent.do("up.order_changes", minutes=1)  # 5 s with jitter, of 6
        self.assertIn(answer["class"], ("ok", "transient"), answer)
        if answer["class"] == "ok":
            self.assertGreater(time.monotonic() - started, 4.9)
        time.sleep(max(0, 7 - (time.monotonic() - started)))
        self.good("up.order_changes", minutes=1)


class AtOnce(Rig):
    """Of its own, since the program leaves Entra ID alone for a while after it."""

    def test_at_once(self):
        """Not taken at its word: each request for a token costs a signature of the HSM."""
        self.good("up.records")
        self.knob(service="graph", action="status", code=401)
        self.knob(service="entra", action="throttle", retry_after=0, times=-1)
        asked = len(self.broker.asked)
        self.bad("transient", "up.records", "HTTP 429")
        self.assertLessEqual(len(self.broker.asked) - asked, 2)
        self.assertLessEqual(self.state()["http"]["entra"]["requests"], 3)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
