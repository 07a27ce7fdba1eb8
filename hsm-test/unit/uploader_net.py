"""What the tests of pfx-uploader's transport share: the program behind nginx, and an HTTP/2 server
that does what no good server does, written from RFC 9113."""

import json
import os
import socket
import struct
import sys
import tempfile
import time
import unittest

from uploader_rig import Broker, Rig
import simclient  # of the simulators; the line above says where they are
from uploader_tcp import Server

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import fronts  # noqa: E402  (the line above must come first)

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, HTTP_1_1_REQUIRED = 0, 2, 7, 8, 13
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Secrets(Broker):
    """Knows the proxy's password too, and remembers each assertion."""

    def __init__(self, path, assertion, clients):
        self.values = {}
        self.assertions = []
        super().__init__(path, assertion, clients)

    def talk(self, line):
        while True:
            message = line.receive()
            self.asked.append((message["verb"], message["args"]))
            if self.error:
                line.send("end", id=message["id"], exit=4, error=self.error)
                continue
            if message["verb"] == "assertion":
                app = message["args"]["app"]
                self.assertions.append(self.assertion(app))
                body = {"client_id": self.clients[app],
                        "assertion": self.assertions[-1],
                        "expires": int(time.time() * 1000) + 600000}
            else:
                name = message["args"]["name"]
                body = {"value": self.values.get(name, self.key if name == "digicert" else None)}
                if body["value"] is None:
                    line.send("end", id=message["id"], exit=5, error={
                        "class": "transient", "op": "open secret", "object": name, "code": "",
                        "text": "It was never set: run pfx-agent secret set %s." % name})
                    continue
            line.send("item", id=message["id"], body=body)
            line.send("end", id=message["id"], exit=0)


class Simulators(simclient.SimCase):
    """One set for all classes of a module, since making its PKI takes longer than a test."""


class OneSimulator(simclient.SimCase):
    """What a class of Simulators has, without a start."""

    @classmethod
    def setUpClass(cls):
        if not hasattr(Simulators, "urls"):
            Simulators.setUpClass()
            unittest.addModuleCleanup(Simulators.doClassCleanups)
        for name, value in vars(Simulators).items():
            if not name.startswith("_") and name not in ("scratch", "urls"):
                setattr(cls, name, value)
        cls.urls = dict(Simulators.urls)
        cls.scratch = tempfile.TemporaryDirectory(prefix="pfx-net-test-")
        cls.addClassCleanup(cls.scratch.cleanup)


class NetRig(Rig, OneSimulator):
    """http2 is on, as by default; secrets: what pfx-hsm has."""

    http2 = True
    secrets = {}
    fronts = []  # "host:port" of what stands before Entra ID and Graph

    def setUp(self):
        super().setUp()
        self.setting(fronts=self.fronts)

    @classmethod
    def start_broker(cls):
        cls.broker = Secrets(os.path.join(cls.socket_dir, "hsm"), lambda app: cls.assertion(
            cls, client=cls.clients[app], alg=cls.assertion_alg), cls.clients)
        cls.broker.values = dict(cls.secrets)
        cls.addClassCleanup(cls.broker.close)

    @classmethod
    def configuration(cls):
        return "http2: %s\n" % str(cls.http2).lower() + super().configuration()

    @classmethod
    def pem(cls):
        return os.path.join(cls.dir, "tls-server.pem")

    def asked(self, name):
        return sum(1 for verb, args in self.broker.asked
                   if verb == "secret" and args["name"] == name)


class NginxRig(NetRig):
    """nginx in front of all three services; it offers HTTP/2 for each."""

    nginx_options = {}

    @classmethod
    def setUpClass(cls):
        cls.ports = {name: fronts.free_port() for name in ("digicert", "login", "graph")}
        cls.fronts = ["127.0.0.1:%d" % cls.ports[name] for name in ("login", "graph")]
        super().setUpClass()

    @classmethod
    def configuration(cls):
        if not hasattr(cls, "nginx"):
            cls.nginx = fronts.Nginx(os.path.join(cls.scratch.name, "nginx"), cls.ports,
                                     **cls.nginx_options)
            cls.nginx.start(cls.pem(), {name: "/".join(cls.urls[name].split("/")[:3])
                                        for name in cls.ports})
            cls.addClassCleanup(cls.nginx.close)
            for name, port in cls.ports.items():
                path = cls.urls[name].split("/", 3)[3:]
                cls.urls[name] = "/".join(["https://127.0.0.1:%d" % port] + path)
        return super().configuration()


class Peer(Server):
    """An HTTP/2 server for one client. GET finds nothing; a request with a body meets the next one
    of `script`, and is accepted once that is empty."""

    def __init__(self, pem, window=65535, protocols=("h2", "http/1.1"), port=0):
        self.context = fronts.server_context(pem, protocols)
        self.window = window
        self.script = []
        self.begun = 0      # requests with a body, whatever came of them
        self.complete = 0   # whose body came whole
        self.heads = []     # header blocks
        self.connections = 0
        super().__init__(socket.create_server(("127.0.0.1", port)))

    def serve(self, connection):
        self.connections += 1
        connection.settimeout(20)
        with self.context.wrap_socket(connection, server_side=True) as tls:
            if tls.selected_alpn_protocol() == "h2":
                _Talk(self, tls).run()
            else:
                self._old(tls)

    def _old(self, tls):
        """HTTP/1.1: nothing is answered, only counted."""
        data = tls.recv(65536)
        if data.startswith(b"POST"):
            self.begun += 1
            head, _, body = data.partition(b"\r\n\r\n")
            if body or b"Content-Length: 0" in head:
                self.complete += 1


class _Talk:
    """One connection."""

    def __init__(self, peer, tls):
        self.peer, self.tls = peer, tls
        self.bodies = {}

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.tls.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def frame(self, kind, flags, stream, payload=b""):
        self.tls.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
                         + struct.pack(">I", stream) + payload)

    def answer(self, stream, status, body):
        # RFC 7541: :status is name 8 of the static table, content-type 31; literals, not indexed.
        head = bytes([0x08, 3]) + status.encode() + bytes([0x0f, 31 - 15])
        head += bytes([len(b"application/json")]) + b"application/json"
        self.frame(HEADERS, END_HEADERS, stream, head)
        self.frame(DATA, END_STREAM, stream, body)

    def reset(self, stream, code):
        self.frame(RST_STREAM, 0, stream, struct.pack(">I", code))

    def go_away(self, last, code=NO_ERROR):
        self.frame(GOAWAY, 0, 0, struct.pack(">II", last, code))

    def run(self):
        if self.read(len(PREFACE)) != PREFACE:
            raise EOFError
        self.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, self.peer.window))
        while True:
            head = self.read(9)
            length = int.from_bytes(head[:3], "big")
            kind, flags = head[3], head[4]
            stream = int.from_bytes(head[5:], "big") & 0x7fffffff
            payload = self.read(length)
            if kind == SETTINGS and not flags & ACK:
                self.frame(SETTINGS, ACK, 0)
            elif kind == PING and not flags & ACK:
                self.frame(PING, ACK, 0, payload)
            elif kind == HEADERS:
                self.peer.heads.append(payload)
                self.headers(stream, flags)
            elif kind == DATA and stream in self.bodies:
                self.bodies[stream] += payload
                self.data(stream, flags)

    def next(self):
        return self.peer.script[0] if self.peer.script else "accept"

    def headers(self, stream, flags):
        if flags & END_STREAM:
            self.answer(stream, "404", b'{"error":{"code":"ResourceNotFound","message":"No."}}')
            return
        self.peer.begun += 1
        self.bodies[stream] = b""
        what = self.next()
        if what == "close at headers":
            self.done()
            self.tls.close()
            raise EOFError
        if what == "refuse at headers":
            self.done(stream)
            self.reset(stream, REFUSED_STREAM)

    def done(self, stream=None):
        if self.peer.script:
            self.peer.script.pop(0)
        self.bodies.pop(stream, None)

    def data(self, stream, flags):
        what = self.next()
        if what == "reset in the body":
            self.done(stream)
            self.reset(stream, CANCEL)
            return
        if not flags & END_STREAM:
            return
        body = self.bodies[stream]
        self.peer.complete += 1
        self.done(stream)
        if what == "close":
            self.tls.close()
            raise EOFError
        if what == "refuse":
            self.reset(stream, REFUSED_STREAM)
        elif what == "reset":
            self.reset(stream, INTERNAL_ERROR)
        elif what == "want 1.1":
            self.reset(stream, HTTP_1_1_REQUIRED)
        elif what == "go away below":
            self.go_away(stream - 2)
        elif what == "go away below and close":
            self.go_away(stream - 2)
            self.tls.close()
            raise EOFError
        elif what == "misdirected":
            self.answer(stream, "421", b"{}")
        else:
            record = json.loads(body)
            record["id"] = simclient.OBJECT + "-" + record["thumbprint"]
            self.answer(stream, "201", json.dumps(record).encode())
            if what == "go away later":
                self.go_away(stream)
