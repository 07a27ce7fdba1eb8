"""pfx-uploader by HTTP/2: through nginx, against a server that misbehaves, and with pinned keys."""

import base64
import subprocess
import sys
import time
import unittest

import uploader_rig
import simclient
from simclient import GROUP
from uploader_net import NetRig, NginxRig, Peer, fronts
from uploader_tcp import Server


def record(number):
    return {"record_id": simclient.OBJECT + "-%040x" % number, "thumbprint": "%040x" % number}


class Through(NginxRig):
    """nginx offers HTTP/2 for all three."""

    def test_protocols(self):
        self.good("up.members", group=GROUP)
        self.good("up.records")
        self.good("up.order_changes", minutes=1)
        job = self.import_job()
        self.good("up.import", **job)
        self.assertTrue(self.good("up.readback", record_id=job["record_id"])["present"])
        self.assertEqual({"HTTP/2.0"}, self.nginx.protocols("graph"))
        self.assertEqual({"HTTP/2.0"}, self.nginx.protocols("login"))
        # Its API key would stay in the table of header fields of an HTTP/2 connection.
        self.assertEqual({"HTTP/1.1"}, self.nginx.protocols("digicert"))

    def test_one_at_a_time(self):
        """A connection that is lost takes one import with it."""
        self.good("up.records")
        before = len(self.nginx.logged("graph"))
        self.knob(service="graph", action="delay", seconds=0.5, times=-1)
        answers = [self.agent.start("up.records") for _ in range(8)]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])
        last = self.nginx.logged("graph", before + 8)[-8:]
        self.assertEqual(8, len({r[5] for r in last}), last)

    def test_pages(self):
        self.setting(members_page_size=3)
        found, body = [], {}
        while not found or "page" in body:
            body = self.good("up.members", group=GROUP,
                             **({"page": body["page"]} if body else {}))
            found += [u["id"] for u in body["users"]]
        self.assertEqual(8, len(set(found)))


class Off(NginxRig):
    http2 = False

    def test_off(self):
        self.good("up.members", group=GROUP)
        for name in ("graph", "login"):
            self.assertEqual({"HTTP/1.1"}, self.nginx.protocols(name))


class Ending(NginxRig):
    """nginx ends each connection after three requests, and is reloaded in between."""

    nginx_options = {"extra": "keepalive_requests 3; keepalive_timeout 1s;"}
    options = {"limits.job_timeout": "20s", "limits.request_timeout": "10s",
               "graph.rate_writes": "1000/1s"}

    def test_nothing_twice(self):
        self.setting(graph_write_limits=None, graph_any_limits=None)
        jobs = {n: dict(self.import_job(), **record(n)) for n in range(120)}
        waiting = {}
        for number, job in jobs.items():
            waiting[number] = self.agent.start("up.import", **job)
            if number % 30 == 29:
                self.nginx.reload()
        again = []
        for number, answer in waiting.items():
            told = answer.get(timeout=30)
            self.assertIn(told["class"], ("ok", "transient", "lost"), told)
            if told["class"] != "ok":
                again.append((number, told["class"]))
        state = self.state()["graph"]
        self.assertLessEqual(state["posts"], 120)  # and none of them had a second try
        for number, cls in again:
            kind = "up.import_settle" if cls == "lost" else "up.import"
            self.good(kind, **jobs[number])
        state = self.state()["graph"]
        self.assertEqual(state["posts_accepted"], 120)
        self.assertEqual(self.nginx.protocols("graph"), {"HTTP/2.0"})


class Hostile(NetRig):
    """A request with a body is begun once, whatever the server does with it."""

    window = 65535
    options = {"limits.request_timeout": "5s"}
    SCRIPT = ("close at headers", "refuse at headers", "close", "refuse", "reset", "want 1.1",
              "go away below", "go away below and close", "misdirected")

    @classmethod
    def setUpClass(cls):
        cls.port = fronts.free_port()
        cls.fronts = ["127.0.0.1:%d" % cls.port]
        super().setUpClass()

    @classmethod
    def configuration(cls):
        cls.peer = Peer(cls.pem(), cls.window, port=cls.port)
        cls.addClassCleanup(cls.peer.close)
        cls.options = dict(cls.options, **{"graph.url": "https://127.0.0.1:%d" % cls.port})
        return super().configuration()

    def meet(self, what, number=1):
        """The class of an import that meets this; how often it was begun, and came whole."""
        job = dict(self.import_job(), **record(number))
        # A connection that is used again is what libcurl doesn't trust.
        self.good("up.readback", record_id=job["record_id"])
        begun, complete = self.peer.begun, self.peer.complete
        self.peer.script = [what]
        told = self.agent.do("up.import", **job)
        self.assertEqual([], self.peer.script)
        time.sleep(0.2)
        return told["class"], self.peer.begun - begun, self.peer.complete - complete

    def test_script(self):
        for what in self.SCRIPT:
            with self.subTest(what):
                cls, begun, complete = self.meet(what)
                self.assertLessEqual(complete, 1)
                if "at headers" not in what or cls == "lost":
                    self.assertEqual(("lost", 1), (cls, begun))
                self.good("up.import_settle", **dict(self.import_job(), **record(1)))

    def test_fresh_connection(self):
        """The same for the first request of a connection: libcurl has other rules for it."""
        for what in self.SCRIPT:
            with self.subTest(what):
                job = dict(self.import_job(), **record(2))
                self.peer.script = ["go away later"]
                self.good("up.import", **job)  # its connection ends with it
                begun = self.peer.begun
                self.peer.script = [what]
                complete = self.peer.complete
                cls = self.agent.do("up.import", **job)["class"]
                time.sleep(0.2)
                if "at headers" in what and cls != "lost":
                    # Nothing of the body had left, so that another start is no second one.
                    self.assertIn(cls, ("transient", "ok"))
                    self.assertLessEqual(self.peer.complete - complete, 1)
                else:
                    self.assertEqual(("lost", 1), (cls, self.peer.begun - begun))

    def test_goes_away(self):
        for number in range(4):
            self.peer.script = ["go away later"]
            self.good("up.import", **dict(self.import_job(), **record(number)))

    def test_never_indexed(self):
        """RFC 7541 section 6.2.3, name 23: no table on the way keeps the token."""
        self.good("up.readback", record_id="x")
        self.good("up.readback", record_id="y")
        heads = self.peer.heads[-2:]
        for head in heads:
            self.assertEqual(1, head.count(bytes([0x1f, 23 - 15])), head)


class Stalled(Hostile):
    """The body doesn't fit into the server's window."""

    window = 100
    SCRIPT = ("reset in the body",)
    test_goes_away = test_never_indexed = test_fresh_connection = None

    def test_script(self):
        cls, begun, complete = self.meet("reset in the body")
        self.assertEqual(("lost", 1, 0), (cls, begun, complete))


def pin_of(pem):
    """By the openssl program."""
    spki = subprocess.run(["openssl", "x509", "-in", pem, "-noout", "-pubkey"], check=True,
                          stdout=subprocess.PIPE).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=spki, check=True,
                         stdout=subprocess.PIPE).stdout
    digest = subprocess.run(["openssl", "dgst", "-sha256", "-binary"], input=der, check=True,
                            stdout=subprocess.PIPE).stdout
    return "sha256//" + base64.b64encode(digest).decode()


OTHER = "sha256//" + base64.b64encode(bytes(range(32))).decode()


def with_pin(text, host, keys):
    return text.replace("tls:\n", "tls:\n  pins:\n    - host: \"%s\"\n      keys: \"%s\"\n"
                        % (host, keys))


class Pinned(NetRig):
    """One of two keys is the right one."""

    @classmethod
    def configuration(cls):
        return with_pin(super().configuration(), "127.0.0.1", OTHER + ";" + pin_of(cls.pem()))

    def test_right(self):
        self.good("up.members", group=GROUP)
        self.good("up.order_changes", minutes=1)


class PinnedWrong(NetRig):
    """The chain is fine and the key isn't: nothing of the request gets to the server. Only the host
    that is named, localhost, is asked for its key; 127.0.0.1 is another."""

    @classmethod
    def configuration(cls):
        cls.seen = []
        cls.context = fronts.server_context(cls.pem(), ("h2", "http/1.1"))
        server = Server(serve=cls.serve)
        cls.addClassCleanup(server.close)
        cls.fronts = ["localhost:%d" % server.port]
        url = "https://" + cls.fronts[0]
        cls.options = {"graph.url": url, "digicert.url": url + "/services/v2"}
        return with_pin(super().configuration(), "localhost", OTHER)

    @classmethod
    def serve(cls, connection):
        connection.settimeout(3)
        try:
            with cls.context.wrap_socket(connection, server_side=True) as tls:
                cls.seen.append(tls.recv(4096))
        except OSError:
            cls.seen.append(b"")

    def test_wrong(self):
        for kind, body in (("up.members", {"group": GROUP}), ("up.order_changes", {"minutes": 1}),
                           ("up.order_cancel", {"order_id": 1, "note": "n"})):
            with self.subTest(kind):
                error = self.bad("transient", kind, "localhost", "tls.pins", pin_of(self.pem()),
                                 "nothing was sent", **body)
                self.assertEqual("curl 90", error["code"])
        self.assertEqual(self.state()["entra"]["tokens_issued"], 1)
        self.assertEqual({b""}, set(self.seen))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
