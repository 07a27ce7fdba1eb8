"""Answers that go wrong on the wire, and listeners that go wrong before: what Python's own client
and a look at the bytes say of them."""

import gzip
import http.client
import json
import ssl
import threading

import tls_faults
from simclient import API_KEY, EC_KEY, SimCase

ORDER = "/order/certificate/secure_email_mailbox"
ME = "/services/v2/user/me"


class NetworkCase(SimCase):

    def setUp(self):
        super().setUp()
        self.setting(digicert_limits=None)

    def raw(self, count=1, seconds=5):
        """The bytes that come for so many requests in a row on one connection, until it ends or
        falls silent for a moment."""
        connection = self.open("digicert", seconds)
        connection.connect()
        line = connection.sock
        request = "GET %s HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nX-DC-DEVKEY: %s\r\n\r\n" % (
            ME, API_KEY)
        line.sendall(request.encode() * count)
        line.settimeout(0.25)
        data = b""
        try:
            while more := line.recv(65536):
                data += more
        except (TimeoutError, OSError):
            pass
        connection.close()
        return data

    def spoil(self, action, **members):
        self.control("POST", "/knobs", {"clear": True})
        self.setting(digicert_limits=None)
        self.knob(service="digicert", action=action, **members)

    def body(self):
        return self.digicert("GET", "/user/me").body

    def test_right_answers(self):
        right = self.body()
        for action, members in (("pieces", {}), ("pieces", {"chunked": True}),
                                ("pieces", {"chunked": True, "size": 7}), ("unframed", {}),
                                ("interim", {"status": 100, "count": 3}), ("double", {}),
                                ("headers", {"kib": 2, "lines": 3}), ("chunked", {
                                    "what": "trailers"}), ("header", {"headers": {"Date": None}})):
            with self.subTest(action=action, **members):
                self.spoil(action, **members)
                self.assertEqual(right, self.body())
        self.spoil("compressed")
        self.assertEqual(right, gzip.decompress(self.body()))
        self.spoil("compressed", bomb=3)
        self.assertGreater(len(gzip.decompress(self.body())), 3 << 20)
        self.spoil("recoded")
        self.assertEqual(right.decode(), self.body().decode("utf-16"))

    def test_wrong_answers(self):
        errors = (http.client.HTTPException, OSError, ValueError)
        for action, members in (("cut", {"where": "head"}), ("cut", {}), ("cut", {"how": "alert"}),
                                ("cut", {"how": "reset"}), ("chunked", {"what": "closed"}),
                                ("chunked", {"what": "size"}), ("chunked", {"what": "short"}),
                                ("headers", {"kib": 100}), ("headers", {"lines": -1}),
                                ("start_line", {}), ("start_line", {"line": "HTTP/9.9 200 OK"}),
                                ("length", {"by": -5}), ("stall", {"seconds": 0}),
                                ("stall", {"where": "body", "seconds": 0}), ("break_off", {})):
            with self.subTest(action=action, **members):
                self.spoil(action, **members)
                with self.assertRaises(errors):
                    answer = self.digicert("GET", "/user/me", timeout=5)
                    json.loads(answer.body)
                    self.assertEqual(200, answer.status)

    def test_bytes(self):
        self.assertEqual(1, self.raw().count(b"HTTP/1.1 200 OK\r\n"))
        for action, members, there in (
                ("pieces", {"chunked": True}, b"\r\n1\r\n{\r\n1\r\n"),
                ("chunked", {"what": "huge"}, b"\r\nffffffffffffffffff\r\n"),
                ("length", {"by": "all"}, b"Content-Length: all\r\n"),
                ("interim", {"status": 103, "headers": {"A": "b"}},
                 b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n"),
                ("header", {"headers": {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}},
                 b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n")):
            with self.subTest(action=action, **members):
                self.spoil(action, **members)
                self.assertIn(there, self.raw())
        self.spoil("unframed")
        self.assertNotIn(b"Content-Length", self.raw())
        self.spoil("start_line")
        self.assertTrue(self.raw().startswith(b"{"))
        for pause, requests in ((0, 1), (0.1, 2)):  # 3: the second request has its own answer too
            self.spoil("double", pause=pause)
            self.assertEqual(1 + requests, self.raw(requests).count(b"HTTP/1.1 200 OK\r\n"))

    def test_other_requests_answers(self):
        first = self.place(self.order_body())
        self.knob(service="digicert", method="POST", action="stale", after=True)
        self.assertEqual(first, self.place(self.order_body(emails=["b@example.com"])))
        self.assertEqual(2, self.state()["digicert"]["orders_total"])
        self.knob(service="digicert", method="POST", action="swap", times=2)
        seen = {}

        def order(mail):
            seen[mail] = self.place(self.order_body(emails=[mail]))
        threads = [threading.Thread(target=order, args=("%s@example.com" % n,)) for n in "cd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        real = {o["body"]["certificate"]["emails"][0]: o["id"]
                for o in self.control("GET", "/digicert/orders")["orders"]}
        self.assertEqual((real["d@example.com"], real["c@example.com"]),
                         (seen["c@example.com"], seen["d@example.com"]))

    def test_broken_off(self):
        for members in ({}, {"bytes": 5}, {"reset": True}):
            self.spoil("break_off", method="POST", **members)
            with self.assertRaises((http.client.HTTPException, OSError)):
                self.digicert("POST", ORDER, self.order_body(EC_KEY))
        self.assertEqual(0, self.state()["digicert"]["posts"])

    def test_tls(self):
        said = {"expired": "expired", "future": "not yet valid", "wrong_name": "doesn't match|IP",
                "foreign_ca": "local issuer", "self_signed": "self-signed", "weak_key": "too weak",
                "client_use": "purpose", "old_version": "legacy|PROTOCOL|protocol",
                "plain_http": "WRONG_VERSION", "alert": "HANDSHAKE_FAILURE"}
        idle = self.open("digicert")
        idle.connect()
        for kind in tls_faults.KINDS:
            with self.subTest(kind):
                self.setting(tls={"digicert": kind})
                with self.assertRaises(OSError) as caught:
                    self.digicert("GET", "/user/me", timeout=1)
                if kind in said:
                    self.assertRegex(str(caught.exception), said[kind])
                    self.assertIsInstance(caught.exception, ssl.SSLError)
        self.assertEqual(200, self.graph("GET", self.RECORDS).status)  # nobody else is concerned
        # A connection from before has been closed.
        self.assertEqual(b"", idle.sock.recv(1))
        idle.close()
        self.setting(tls={})
        self.assertTrue(self.body())

    def test_wrong_members_are_refused(self):
        for rule in ({"action": "cut", "where": "tail"}, {"action": "pieces", "size": 0},
                     {"action": "pieces", "pause": -1}, {"action": "chunked", "what": "odd"},
                     {"action": "headers", "kib": "1"}, {"action": "double", "size": 1}):
            body = json.dumps(dict(rule, service="graph"))
            self.assertEqual(400, self.ask("control", "POST", "/knobs", body).status, body)
        for tls in ({"digicert": "odd"}, {"nobody": "expired"}):
            body = json.dumps({"settings": {"tls": tls}})
            self.assertEqual(400, self.ask("control", "POST", "/knobs", body).status, body)
