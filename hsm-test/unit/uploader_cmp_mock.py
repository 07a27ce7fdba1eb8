"""pfx-uploader with a CA of one's own: against OpenSSL's own CMP server."""

import os
import re
import socket
import ssl
import subprocess
import sys
import unittest

import uploader_rig
from simclient import RSA_KEY
from uploader_cmp_rig import ADVICE, REFERENCE, SECRET, CmpRig, request
from uploader_tcp import Server, couple

import cmp
import pki
from cryptography import x509


class Forwarder(Server):
    """TLS in front of a plain listener, for OpenSSL's server."""

    def __init__(self, tls, port):
        self.back = port
        self.seen = b""  # what came, in the clear
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(tls)
        super().__init__()

    def serve(self, plain):
        with self.context.wrap_socket(plain, server_side=True) as front:
            first = self.request(front)  # whole, so that what fails behind here was sent
            self.look(first)
            with socket.create_connection(("127.0.0.1", self.back)) as back:
                back.sendall(first)
                couple(front, back, self.look)

    def look(self, data):
        self.seen += data

    @staticmethod
    def request(front):
        """The first request, with its body."""
        data = b""
        while True:
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *([0-9]+)", head)
            if found and (not length or len(body) >= int(length.group(1))):
                return data
            more = front.recv(65536)
            if not more:
                return data
            data += more


class Mock(CmpRig):
    """Against OpenSSL's own mock server, which has one certificate to give."""

    @classmethod
    def start_ca(cls):
        cls.ca = cmp.CA(cls.dir)
        cls.leaf_file = os.path.join(cls.dir, "leaf.pem")
        csr = x509.load_der_x509_csr(request())
        pki.write_file(cls.leaf_file, pki.pem(cls.ca.issue(csr)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            cls.port = free.getsockname()[1]
        cls.forwarder = Forwarder(cls.tls, cls.port)
        cls.addClassCleanup(cls.forwarder.close)
        url = "https://127.0.0.1:%d" % cls.forwarder.port
        cls.options.update({"cmp.url": url, "cmp.recipient": "/C=CH/O=pfx-sim/CN=the CA",
                            "cmp.ca_cert": os.path.join(cls.dir, "cmp-root.pem")})

    def serve(self, *options, secret=SECRET):
        secret_file = os.path.join(self.scratch.name, "secret")
        pki.write_file(secret_file, secret.encode())
        command = ["openssl", "cmp", "-config", "", "-port", str(self.port), "-srv_ref", REFERENCE,
                   "-srv_secret", "file:" + secret_file, "-rsp_cert", self.leaf_file,
                   "-rsp_extracerts", os.path.join(self.dir, "cmp-issuing.pem"), *options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

        def end():
            server.kill()
            server.wait(10)
            server.stdout.close()
        self.addCleanup(end)
        # A connection to see whether it listens would have it rest for a second.
        while b"ACCEPT" not in (line := server.stdout.readline()):
            if not line:
                raise RuntimeError("openssl cmp doesn't listen")

    def test_explicit(self):
        self.serve()
        self.verify(self.good("up.order", **self.job()), os.path.join(self.dir, "cmp-root.pem"))
        self.assertEqual("ok", self.good("up.setup_ca", products=[])["findings"][0]["level"])
        self.assertIn(REFERENCE.encode(), self.forwarder.seen)
        self.assertNotIn(SECRET.encode(), self.forwarder.seen)

    def test_implicit(self):
        self.serve("-grant_implicitconf")
        self.good("up.order", **self.job())

    def test_polling(self):
        self.serve("-poll_count", "2", "-check_after", "1")
        self.good("up.order", **self.job())

    def test_rejected(self):
        self.serve("-pkistatus", "2", "-failure", "19", "-statusstring", "not like that")
        error = self.bad("refused", "up.order", "not like that", "profile", **self.job())
        self.assertEqual("badCertTemplate", error["code"])

    def test_error_message(self):
        self.serve("-send_error")
        error = self.bad("refused", "up.order", "error processing message", **self.job())
        self.assertEqual("badRequest", error["code"])

    def test_unprotected(self):
        self.serve("-send_unprotected")
        self.bad("integrity", "up.order", ADVICE, **self.job())

    def test_wrong_secret(self):
        self.serve(secret="another-secret")
        self.bad("integrity", "up.order", ADVICE, **self.job())

    def test_wrong_secret_said_without_protection(self):
        self.serve("-send_unprot_err", secret="another-secret")
        self.bad("integrity", "up.order", ADVICE, **self.job())

    def test_another_key(self):
        self.serve()
        self.bad("integrity", "up.order", "another public key", **self.job(RSA_KEY))

    def test_nobody_there(self):
        """Lost: the connection was made."""
        self.bad("lost", "up.order", **self.job())  # TLS's end is there, OpenSSL isn't


if __name__ == "__main__":
    uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
