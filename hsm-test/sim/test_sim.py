#!/usr/bin/python3
"""All tests of the simulators: knobs, control, life of the process, and the three services."""

import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import warnings
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from case_digicert import DigiCertCase  # noqa: E402,F401  (found by the test loader)
from case_entra import EntraCase  # noqa: E402,F401
from case_graph import MEMBERS, ContractCase, GraphCase  # noqa: E402,F401
from case_network import NetworkCase  # noqa: E402,F401
from case_signin import IdentityCase, SignInCase  # noqa: E402,F401
from simclient import HERE, UPN, SimCase  # noqa: E402

LOST = (RemoteDisconnected, ConnectionError, BadStatusLine, ssl.SSLError)
ORDER = "/order/certificate/secure_email_mailbox"


class KnobCase(SimCase):

    def me(self, **more):
        return self.digicert("GET", "/user/me", **more)

    def posts(self):
        return self.state()["digicert"]["orders_total"]

    def test_delay_and_late(self):
        self.knob(service="digicert", method="GET", path_regex="/user/me$", action="delay",
                  seconds=0.5)
        started = time.monotonic()
        self.assertEqual(200, self.me().status)
        self.assertGreater(time.monotonic() - started, 0.45)
        started = time.monotonic()
        self.me()
        self.assertLess(time.monotonic() - started, 0.4)
        self.knob(service="digicert", method="POST", action="late", seconds=1)
        with self.assertRaises(TimeoutError):
            self.digicert("POST", ORDER, self.order_body(), timeout=0.4)
        self.assertEqual(1, self.posts())

    def test_drop_and_lose(self):
        for action, reset, orders in (("drop", False, 0), ("drop", True, 0), ("lose", False, 1),
                                      ("lose", True, 2)):
            self.knob(service="digicert", method="POST", action=action, reset=reset)
            with self.assertRaises(LOST):
                self.digicert("POST", ORDER, self.order_body())
            self.assertEqual(orders, self.posts())
        self.assertEqual(2, self.state()["digicert"]["max_orders_per_key"])

    def test_status(self):
        self.knob(service="digicert", method="POST", action="status", code=503,
                  headers={"Retry-After": "3"}, body={"errors": []})
        answer = self.digicert("POST", ORDER, self.order_body())
        self.assertEqual((503, "3", {"errors": []}),
                         (answer.status, answer.headers["Retry-After"], answer.json))
        self.assertEqual(0, self.posts())
        self.knob(service="digicert", method="POST", action="status", code=500, after=True)
        self.assertEqual(500, self.digicert("POST", ORDER, self.order_body()).status)
        self.assertEqual(1, self.posts())
        self.knob(service="entra", action="status", code=500)
        self.assertEqual(500, self.token_request().status)

    def test_throttle(self):
        self.knob(service="graph", action="throttle", retry_after=0.5, times=2, skip=1)
        answers = [self.graph("GET", MEMBERS) for _ in range(4)]
        self.assertEqual([200, 429, 429, 200], [a.status for a in answers])
        self.assertEqual("0.5", answers[1].headers["Retry-After"])
        self.assertTrue(answers[1].headers["request-id"])
        self.assertEqual("TooManyRequests", answers[1].code())
        self.knob(service="digicert", action="throttle", retry_after_ms=250)
        answer = self.me()
        self.assertEqual(("250", "request_limit_exceeded"),
                         (answer.headers["x-ms-retry-after-ms"], answer.code()))

    def test_html_garbage_bigbody(self):
        for code in (200, 502):
            self.knob(service="digicert", action="html", code=code)
            answer = self.me()
            self.assertEqual((code, "text/html; charset=utf-8"),
                             (answer.status, answer.headers["Content-Type"]))
        self.knob(service="digicert", action="garbage")
        self.assertIsNone(self.me().json)
        self.knob(service="graph", action="bigbody", mib=10)
        answer = self.graph("GET", self.RECORDS)
        self.assertGreater(len(answer.body), 10 << 20)
        self.assertEqual([], answer.json["value"])

    def test_truncate(self):
        self.knob(service="graph", action="truncate", missing=10)
        with self.assertRaises(IncompleteRead):
            self.graph("GET", MEMBERS)

    def test_wrong_type(self):
        self.knob(service="digicert", action="wrong_type")
        self.assertIsInstance(self.me().json["id"], str)
        self.knob(service="graph", action="wrong_type", member="/value/0/proxyAddresses", value=5)
        users = self.graph("GET", MEMBERS + "?$select=id,proxyAddresses").json["value"]
        self.assertEqual(5, users[0]["proxyAddresses"])
        self.knob(service="graph", action="wrong_type", member="/@odata.nextLink",
                  value="https://elsewhere.invalid/x")
        self.assertIn("elsewhere", self.graph("GET", MEMBERS).json["@odata.nextLink"])

    def test_narrow_rules(self):
        self.knob(service="digicert", action="status", code=500, times=-1,
                  email="alice@example.com")
        self.assertEqual(500, self.digicert("POST", ORDER, self.order_body()).status)
        other = self.place(self.order_body(emails=["bob@example.com"]))
        self.wait_for(other, "issued")
        self.knob(service="graph", method="POST", action="drop", body_regex="smimeEncryption")
        self.assertEqual(201, self.graph("POST", self.RECORDS, self.record()).status)
        with self.assertRaises(LOST):
            self.graph("POST", self.RECORDS, self.record(intendedPurpose="smimeEncryption"))
        self.knob(service="graph", email=UPN, action="status", code=503)
        self.assertEqual(503, self.graph("GET", "%s/a1000000000040008000000000000001-%s"
                                         % (self.RECORDS, "ab" * 20)).status)
        self.assertEqual([1, 1, 1], [r["hits"] for r in
                                     self.control("GET", "/knobs")["rules"]])
        self.control("POST", "/knobs", {"clear": True})
        self.assertEqual([], self.control("GET", "/knobs")["rules"])

    def test_wrong_knobs_are_refused(self):
        for body in ('{"service":"graph"}', '{"service":"x","action":"drop"}', "[]", "{",
                     '{"service":"graph","action":"drop","seconds":1}',
                     '{"service":"graph","action":"delay","seconds":1e9}',
                     '{"settings":{"nope":1}}', '{"settings":{"fronts":null}}',
                     '{"service":"graph","action":"drop","email":5}',
                     '{"settings":{"patch_status":"200"}}',
                     '{"service":"digicert","action":"certificate","what":"nice"}',
                     '{"service":"graph","action":"drop","path_regex":"("}'):
            self.assertEqual(400, self.ask("control", "POST", "/knobs", body).status, body)
        self.assertEqual(404, self.ask("control", "GET", "/nowhere").status)
        self.assertEqual(400, self.ask("control", "POST", "/digicert/order/1", "{}").status)


class WireCase(SimCase):

    def test_keep_alive_and_load(self):
        """Sixteen connections, hundreds of requests a second, each connection used again."""
        self.setting(graph_any_limits=None)
        token = {"Authorization": "Bearer " + self.token()}
        wrong = []

        def work():
            connection = self.open("graph")
            for _ in range(50):
                answer = self.ask("graph", "GET", MEMBERS, None, token, connection)
                if answer.status != 200:
                    wrong.append(answer.status)
            connection.close()
        self.control("POST", "/reset", {"what": ["counters"]})
        self.knob(service="graph", action="delay", seconds=0.3, times=16)
        started = time.monotonic()
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        seconds = time.monotonic() - started
        self.assertEqual([], wrong)
        http = self.state()["http"]["graph"]
        self.assertEqual((800, 16), (http["requests"], http["connections_opened"]))
        self.assertGreater(http["max_in_flight"], 8)
        self.assertLess(seconds, 20)
        entry = self.control("GET", "/log")["requests"][-1]
        self.assertEqual(("graph", 200), (entry["service"], entry["status"]))

    def test_tls(self):
        where = urllib.parse.urlsplit(self.urls["graph"])
        old = ssl.create_default_context(cafile=os.path.join(self.dir, "tls-ca.pem"))
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        for context in (old, ssl.create_default_context()):
            with socket.create_connection((where.hostname, where.port), 5) as raw:
                with self.assertRaises((ssl.SSLError, ConnectionError)):
                    context.wrap_socket(raw, server_hostname="localhost").close()
        with socket.create_connection((where.hostname, where.port), 5) as raw:
            with self.trust.wrap_socket(raw, server_hostname="localhost") as tls:
                tls.sendall(b"NONSENSE\r\n\r\n")
                self.assertIn(b"400", tls.recv(1000))
        self.assertEqual(200, self.graph("GET", MEMBERS).status)

    def test_secrets_stay_out(self):
        self.place()
        text = str(self.state()) + str(self.control("GET", "/log")) \
            + str(self.control("GET", "/digicert/orders"))
        self.assertNotIn("test-key-of-the-simulator", text)
        self.assertNotIn(self.token(), text)


class LifeCase(unittest.TestCase):

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="pfx-sim-life-")
        self.addCleanup(scratch.cleanup)
        self.where = os.path.join(scratch.name, "sim.json")
        self.command = [sys.executable, os.path.join(HERE, "sim.py"), "--dir", scratch.name,
                        "--tenant", os.path.join(HERE, "tenant-quickstart.json")]

    def wait_file(self, there, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.path.exists(self.where) == there:
                return
            time.sleep(0.05)
        self.fail("sim.json is %s" % ("absent" if there else "still there"))

    def test_sigterm(self):
        with subprocess.Popen(self.command) as process:
            self.wait_file(True)
            process.terminate()
            self.assertEqual(0, process.wait(5))
        self.wait_file(False, 1)

    def test_bound(self):
        self.assertEqual(0, subprocess.run(self.command + ["--max-seconds", "1"],
                                           timeout=20, check=False).returncode)

    def test_parent_dies(self):
        code = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code] + self.command) as parent:
            self.wait_file(True)
            parent.kill()
            parent.wait(5)
        self.wait_file(False, 5)

    def test_bad_tenant(self):
        done = subprocess.run(self.command[:-1] + [__file__], timeout=20, check=False,
                              stderr=subprocess.PIPE)
        self.assertEqual(2, done.returncode)
        self.assertIn(b"test_sim.py", done.stderr)


if __name__ == "__main__":
    unittest.main()
