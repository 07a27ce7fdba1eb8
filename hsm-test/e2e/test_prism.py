"""The traffic to Graph, checked against its OpenAPI file by Stoplight Prism as validating proxy."""

import http.client
import os
import socket
import socketserver
import ssl
import subprocess
import threading
import unittest

import harness
import people
from case import WorldCase

SHARED = os.environ.get("PFX_SHARED") or os.path.join(os.path.dirname(harness.ROOT), "shared")
OPENAPI = os.path.join(SHARED, "contracts", "graph-openapi.yaml")
PRISM = os.path.join(os.environ.get("PFX_PRISM", os.path.join(harness.ROOT, "build", "prism")),
                     "node_modules", ".bin", "prism")
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}


class Relay(socketserver.ThreadingTCPServer):
    """An HTTP hop on loopback: TLS or plain on either side."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream, tls_server=None, tls_client=None):
        super().__init__(("127.0.0.1", 0), RelayHandler)
        self.upstream = upstream  # (host, port)
        self.tls_server, self.tls_client = tls_server, tls_client
        self.port = self.server_address[1]
        self.seen = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        client, address = super().get_request()
        client.settimeout(60)
        return client, address

    def handle_error(self, request, client_address):
        pass  # a client that goes away; what matters is in `seen`


class RelayHandler(socketserver.BaseRequestHandler):
    """Reads requests with a length, passes them on, and sends the answer back with one."""

    def handle(self):
        relay = self.server
        stream = self.request
        if relay.tls_server:
            stream = relay.tls_server.wrap_socket(stream, server_side=True)
        reader = stream.makefile("rb")
        while self.one(relay, stream, reader):
            pass

    def one(self, relay, stream, reader):
        line = reader.readline(65536)
        if not line.strip():
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = http.client.parse_headers(reader)
        body = reader.read(int(headers.get("Content-Length", "0")))
        kind = http.client.HTTPSConnection if relay.tls_client else http.client.HTTPConnection
        extra = {"context": relay.tls_client} if relay.tls_client else {}
        upstream = kind(*relay.upstream, timeout=60, **extra)
        sent = {k: v for k, v in headers.items() if k.lower() not in HOP | {"host", "expect"}}
        if body:
            sent["Content-Length"] = str(len(body))
        upstream.request(method, target, body=body or None, headers=sent)
        answer = upstream.getresponse()
        data = answer.read()
        relay.seen.append((method, target, answer.status, answer.getheaders(), data))
        head = ["HTTP/1.1 %d %s" % (answer.status, answer.reason)]
        head += ["%s: %s" % (k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
        head += ["Content-Length: %d" % len(data), "", ""]
        stream.sendall("\r\n".join(head).encode("latin-1") + data)
        upstream.close()
        return True


@unittest.skipUnless(os.path.exists(OPENAPI),
                     "shared data file contracts/graph-openapi.yaml is absent")
class Prism(WorldCase):
    """TLS front -> Prism (plain HTTP) -> TLS to the simulator."""

    def start_prism(self, world, upstream_port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        world.spawn("prism", PRISM, "proxy", "--errors", "--cors", "false", "-h", "127.0.0.1", "-p",
                    str(port), OPENAPI, "http://127.0.0.1:%d" % upstream_port,
                    environment=dict(world.environment, NO_COLOR="1"))
        harness.wait_for("Prism", lambda: "listening" in world.log("prism").lower()
                         or world.alive("prism"), 60)
        return port

    def test_no_violation_over_the_whole_flow(self):
        members = [people.user(n, "Zoë" if n == 1 else "Max") for n in range(1, 4)]
        world = self.make(members, settings={"members_page_size": 2, "records_page_size": 2})
        with self.telling(world):
            world.make_tokens()
            world.start_sim()
            host, port = world.addresses["graph"].rsplit("/", 1)[1].split(":")
            trust = ssl.create_default_context(cafile=world.path("sim", "tls-ca.pem"))
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(world.path("sim", "tls-server.pem"))
            back = Relay((host, int(port)), tls_client=trust)
            self.addCleanup(back.shutdown)
            front = Relay(("127.0.0.1", self.start_prism(world, back.port)), tls_server=server)
            self.addCleanup(front.shutdown)
            world.addresses["graph"] = "https://127.0.0.1:%d" % front.port
            world.setting(next_link_authority="127.0.0.1:%d" % front.port,
                          fronts=["127.0.0.1:%d" % front.port])
            world.write_conf()
            world.start_all()
            world.init()
            self.assertExit(world.set_api_key(), 0)
            # A lost import adds the look-first path and the update of an existing record.
            world.knob(service="graph", method="POST", path_regex="/userPfxCertificates$",
                       action="status", code=503, after=True)
            world.run_once("30s")
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
            methods = {m for m, _, _, _, _ in front.seen}
            self.assertLessEqual({"GET", "POST"}, methods)
            for method, target, status, headers, data in front.seen:
                names = {k.lower(): v for k, v in headers}
                self.assertNotIn("sl-violations", names, "%s %s: %s" % (
                    method, target, names.get("sl-violations")))
                self.assertNotIn(b"stoplight.io/prism", data, "%s %s" % (method, target))
                self.assertNotEqual(status, 422, "%s %s: %r" % (method, target, data[:500]))
            self.assertNotIn("Violation", world.log("prism"))


class PrismIsThere(unittest.TestCase):
    """A run whose Prism is missing must not look like one that passed."""

    def test_prism_is_installed(self):
        self.assertTrue(os.path.exists(PRISM), "run.sh installs it: %s" % PRISM)
        done = subprocess.run([PRISM, "--version"], stdout=subprocess.PIPE, timeout=120, check=True)
        self.assertEqual(done.stdout.strip(), b"5.14.2")


if __name__ == "__main__":
    unittest.main()
