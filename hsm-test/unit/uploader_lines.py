"""pfx-uploader's limits, credentials and lines: to the services, to a proxy, to pfx-hsm and to
pfx-agentd."""

import os
import socket
import sys
import time
import unittest

import uploader_rig
import pki  # of the simulators; the line above says where they are
import simclient
from simclient import EC_KEY, GROUP
from uploader_rig import Rig
from uploader_tcp import Server, couple


class Rates(Rig):
    """The program keeps to the limits by itself, and to its number of requests."""

    options = {"digicert.rate_short": "20/1s", "graph.rate_writes": "10/1s",
               "limits.job_timeout": "30s"}

    def test_no_429(self):
        self.setting(digicert_limits=[[20, 1]])
        answers = [self.agent.start("up.order_changes", minutes=1) for _ in range(70)]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])
        # The simulator counts an answer only after it was sent.
        deadline = time.monotonic() + 5
        while (counted := self.state()["http"]["digicert"]["answers"]) != {"200": 70}:
            self.assertLess(time.monotonic(), deadline, counted)
            time.sleep(0.05)

    def test_writes(self):
        self.setting(graph_write_limits=[[10, 1]])
        jobs = [self.import_job(record_id=simclient.OBJECT + "-%040x" % n, thumbprint="%040x" % n)
                for n in range(25)]
        answers = [self.agent.start("up.import", **job) for job in jobs]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])
        self.assertNotIn("429", self.state()["http"]["graph"]["answers"])

    def test_in_flight(self):
        self.good("up.records")
        self.control("POST", "/reset", {"what": ["counters"]})
        self.knob(service="graph", action="delay", seconds=0.3, times=-1)
        answers = [self.agent.start("up.records") for _ in range(50)]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])
        http = self.state()["http"]["graph"]
        self.assertEqual(16, http["max_in_flight"])
        self.assertEqual(50, http["requests"])
        self.assertLessEqual(http["connections_opened"], 16)

    def test_reuse(self):
        self.good("up.records")
        self.control("POST", "/reset", {"what": ["counters"]})
        for _ in range(20):
            self.good("up.records")
        self.assertLessEqual(self.state()["http"]["graph"]["connections_opened"], 0)

    def test_beats(self):
        self.knob(service="graph", action="throttle", retry_after=6)
        before = len(self.agent.beats)
        self.good("up.records")
        self.assertGreater(len(self.agent.beats), before)


class Credentials(Rig):
    """Tokens and the API key."""

    def asked(self, verb):
        return sum(1 for v, _ in self.broker.asked if v == verb)

    def test_one_refresh(self):
        self.good("up.records")
        self.control("POST", "/reset", {"what": ["tokens"]})
        before, issued = self.asked("assertion"), self.state()["entra"]["tokens_issued"]
        answers = [self.agent.start("up.records") for _ in range(30)]
        for answer in answers:
            self.assertEqual("ok", answer.get(timeout=30)["class"])
        self.assertEqual(before + 1, self.asked("assertion"))
        self.assertEqual(issued + 1, self.state()["entra"]["tokens_issued"])

    def test_refresh_before_end(self):
        self.setting(token_lifetime=4)  # kept for half of it
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.good("up.records")
        before = self.asked("assertion")
        self.good("up.records")
        self.assertEqual(before, self.asked("assertion"))
        time.sleep(2.2)
        self.good("up.records")
        self.assertEqual(before + 1, self.asked("assertion"))
        answers = self.state()["http"]["graph"]["answers"]
        self.assertLessEqual(answers.get("401", 0), 1)
        self.setting(token_lifetime=3599)

    def test_always_401(self):
        self.knob(service="graph", action="status", code=401, times=-1)
        self.bad("refused", "up.records", "same cloud")
        self.assertEqual(2, self.state()["http"]["graph"]["requests"])

    def test_key_changed(self):
        self.good("up.order_changes", minutes=1)
        for status in (401, 403):
            with self.subTest(status):
                self.setting(bad_key_status=status)
                self.broker.key = "wrong-key"
                self.knob(service="digicert", action="status", code=status)
                self.bad("refused", "up.order", "pfx-agent secret set digicert", **self.order_job())
                self.broker.key = simclient.API_KEY  # `secret set` in the meantime
                self.good("up.order", **self.order_job())
        self.assertEqual(1, self.state()["digicert"]["max_orders_per_key"] // 2)

    def test_unfit_key(self):
        self.broker.key = "two words"
        self.knob(service="digicert", action="status", code=401)
        self.bad("refused", "up.order_changes", "secret set digicert", minutes=1)
        self.broker.key = simclient.API_KEY
        self.good("up.order_changes", minutes=1)

    def test_hsm_refuses(self):
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.broker.error = {"class": "device", "op": "C_Sign", "object": "service token",
                             "code": "CKR_DEVICE_REMOVED", "text": "The token is gone."}
        self.bad("device", "up.records", "CKR_DEVICE_REMOVED")
        self.broker.error = None
        self.good("up.records")

    def test_hsm_away(self):
        self.control("POST", "/reset", {"what": ["tokens"]})
        self.broker.close()
        answer = self.agent.start("up.records")
        error = self.bad("transient", "up.records", "hsm", "Is pfx-hsm running")
        self.assertIn("job_timeout", error["text"])
        self.assertEqual("transient", answer.get(timeout=10)["class"])
        # It comes back while a job waits.
        waiting = self.agent.start("up.records")
        time.sleep(0.5)
        self.start_broker()
        self.assertEqual("ok", waiting.get(timeout=10)["class"])


class Forbidden(Rig):
    """A key that may not do it: not an opening by the HSM for each request."""

    def test_forbidden(self):
        self.knob(service="digicert", action="status", code=403, times=-1)
        for _ in range(30):
            self.bad("refused", "up.order_changes", "secret set digicert", minutes=1)
        self.assertLess(len(self.broker.asked), 25)  # not 60


class Agentd(Rig):
    """The line to pfx-agentd."""

    def test_line_lost(self):
        """An answer is kept until it is acknowledged on another connection."""
        self.knob(service="graph", action="delay", seconds=1)
        answer = self.agent.start("up.records")
        first = self.agent.line
        self.agent.ready.clear()
        first.close()
        self.assertEqual("ok", answer.get(timeout=10)["class"])
        self.assertIsNot(first, self.agent.line)
        self.assertEqual(1, len(self.agent.hello["holds"]))

    def test_no_new_privileges(self):
        """What it starts can't gain any either."""
        with open("/proc/%d/status" % self.program.pid, encoding="ascii") as stream:
            text = stream.read()
        self.assertIn("NoNewPrivs:\t1", text)


def as_nobody(listener):
    """From now on the kernel shows another user as the one who listens there."""
    os.seteuid(65534)  # SO_PEERCRED remembers who called listen() last
    try:
        listener.socket.listen(8)
    finally:
        os.seteuid(0)


@unittest.skipUnless(os.geteuid() == 0, "needs root: another user has to listen")
class FalseHsm(Rig):
    """Who holds pfx-hsm's socket without being it isn't asked for anything."""

    @classmethod
    def start_broker(cls):
        super().start_broker()
        as_nobody(cls.broker)

    def test_nothing_is_asked(self):
        self.bad("transient", "up.records", "uid 65534", "access.hsm_user")
        self.assertEqual([], self.broker.asked)


@unittest.skipUnless(os.geteuid() == 0, "needs root: another user has to listen")
class FalseAgentd(Rig):
    """Who holds pfx-agentd's socket without being it gives no work."""

    def test_no_work_is_taken(self):
        self.good("up.records")
        hellos = len(self.agent.lines)
        as_nobody(self.agent)
        for line in list(self.agent.lines):
            line.close()
        deadline = time.monotonic() + 10
        while "user 65534 listens there" not in self.log_text():
            self.assertLess(time.monotonic(), deadline, self.log_text())
            time.sleep(0.05)
        for line in self.agent.lines[hellos:]:
            with self.assertRaises((OSError, ConnectionError)):
                line.receive()


class OwnServer(Rig):
    """A server with a certificate of the test's own; the simulators stay unused."""

    trusted = True
    name = "localhost"

    @classmethod
    def configuration(cls):
        folder = os.path.join(cls.scratch.name, "own")
        os.makedirs(folder, exist_ok=True)
        cls.handshakes = []
        cls.hellos = []
        cls.context = simclient.ssl.SSLContext(simclient.ssl.PROTOCOL_TLS_SERVER)
        cls.context.load_cert_chain(pki.make_tls(folder))
        server = Server(serve=cls.serve)
        cls.addClassCleanup(server.close)
        cls.options = {"graph.url": "https://127.0.0.1:%d" % server.port,
                       "entra.url": "https://localhost:%d" % server.port}
        return super().configuration()

    @classmethod
    def serve(cls, connection):
        connection.settimeout(5)
        try:
            cls.hellos.append(connection.recv(4096, socket.MSG_PEEK))
            with cls.context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)
                cls.handshakes.append("data")
        except OSError:
            cls.handshakes.append("refused")

    def test_wrong_ca(self):
        self.bad("transient", "up.records", "tls.ca_bundle", "curl 60")
        self.assertNotIn("data", self.handshakes)
        self.assertIn(b"\x02h2\x08http/1.1", self.hellos[0])


class WrongName(Rig):
    """The right CA and another host's name: 127.0.0.2 isn't in the certificate."""

    @classmethod
    def configuration(cls):
        return super().configuration().replace("127.0.0.1", "127.0.0.2")

    @classmethod
    def run_program(cls):
        for service in ("digicert", "login"):
            port = int(cls.urls[service].split(":")[2].split("/")[0])
            server = Server(socket.create_server(("127.0.0.2", port)), cls.serve)
            cls.addClassCleanup(server.close)
        super().run_program()

    @staticmethod
    def serve(inside):
        """On to the same port of the right host."""
        with socket.create_connection(("127.0.0.1", inside.getsockname()[1])) as outside:
            couple(inside, outside)

    def test_wrong_name(self):
        self.bad("transient", "up.order", "another host", **self.order_job())
        self.bad("transient", "up.records", "another host")
        self.assertEqual(0, self.state()["digicert"]["posts"])


class Proxy(Rig):
    """A proxy that tunnels; then one that wants a password first."""

    @classmethod
    def configuration(cls):
        cls.heads = []
        cls.refuse = False
        server = Server(serve=cls.serve)
        cls.addClassCleanup(server.close)
        cls.options = {"proxy.url": "http://127.0.0.1:%d" % server.port}
        return super().configuration()

    @classmethod
    def serve(cls, inside):
        head = inside.recv(4096)
        cls.heads.append(head)
        if cls.refuse:
            inside.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            inside.close()
            return
        port = int(head.split()[1].split(b":")[1])
        with socket.create_connection(("127.0.0.1", port)) as outside:
            inside.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
            couple(inside, outside)

    def test_tunnel(self):
        self.good("up.order", **self.order_job())
        self.assertTrue(all(h.startswith(b"CONNECT 127.0.0.1:") for h in self.heads), self.heads)
        for head in self.heads:
            self.assertNotIn(simclient.API_KEY.encode(), head)
            self.assertNotIn(b"client-request-id", head)
        type(self).refuse = True
        self.bad("transient", "up.members", "407", "proxy.user", "secret set proxy", group=GROUP)


class NoProxy(Rig):
    """A proxy that isn't there: nothing was sent, so an order is transient."""

    options = {"proxy.url": "http://127.0.0.1:1"}

    def test_no_proxy(self):
        self.bad("transient", "up.order", "proxy", **self.order_job())


class Except(Rig):
    options = {"proxy.url": "http://127.0.0.1:1", "proxy.except": "127.0.0.1"}

    def test_except(self):
        self.good("up.order", **self.order_job(EC_KEY))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
