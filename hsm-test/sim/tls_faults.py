"""Listeners that go wrong before there is a request: certificates that nobody should take, alerts,
and connections that end early. The setting "tls" says which service does what."""

import datetime
import ipaddress
import os
import socket
import ssl
import struct
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import pki

ALERTS = {"alert": 40, "internal_error": 80, "unrecognized_name": 112, "access_denied": 49}
# A certificate of the wrong kind, a TLS that isn't spoken, an alert, and ends of the connection.
CERTIFICATES = ("expired", "future", "wrong_name", "foreign_ca", "self_signed", "weak_key",
                "client_use")
TALKS = ("old_version", "client_certificate", "plain_http", "rubbish")
ENDS = ("closed", "reset", "reset_after_hello", "silent")
KINDS = CERTIFICATES + TALKS + tuple(ALERTS) + ENDS


class Faults:
    """Contexts for the faults of one test PKI, made when they are first asked for."""

    def __init__(self, folder, root):
        self.folder = folder
        self.root = root
        self._contexts = {}
        self._lock = threading.Lock()

    def _certificate(self, kind):
        now = pki.utc_now()
        days = {"expired": (-60, -1), "future": (2, 60)}.get(kind, (-1, 60))
        start, end = (now + datetime.timedelta(days=d) for d in days)
        key = ec.generate_private_key(ec.SECP256R1())
        if kind == "weak_key":
            key = rsa.generate_private_key(65537, 1024)
        subject = pki.name((NameOID.COMMON_NAME, "localhost"))
        authority = self.root
        if kind == "foreign_ca":
            authority = pki.make_authority("somebody else's root",
                                           ec.generate_private_key(ec.SECP256R1()))
        issuer, signer = authority.certificate.subject, authority.key
        if kind == "self_signed":
            issuer, signer = subject, key
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if kind == "wrong_name":
            hosts = [x509.DNSName("other.example.invalid")]
        use = ExtendedKeyUsageOID.CLIENT_AUTH if kind == "client_use" \
            else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(pki.key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .sign(signer, hashes.SHA256()))
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        path = os.path.join(self.folder, "tls-%s.pem" % kind)
        pki.write_file(path, private + pki.pem(certificate), 0o600)
        return path

    def _context(self, kind):
        good = kind not in CERTIFICATES
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind == "weak_key":
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        if kind == "old_version":
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.load_cert_chain(os.path.join(self.folder, "tls-server.pem") if good
                                else self._certificate(kind))
        context.set_alpn_protocols(["http/1.1"])
        if kind in ALERTS:
            context.sni_callback = lambda *_: ALERTS[kind]
        if kind == "client_certificate":
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(os.path.join(self.folder, "tls-ca.pem"))
        return context

    def context(self, kind):
        with self._lock:
            if kind not in self._contexts:
                self._contexts[kind] = self._context(kind)
            return self._contexts[kind]

    def spoil(self, connection, kind, stop):
        """The context for a connection with this fault; None: it has had its end."""
        if kind not in TALKS[2:] + ENDS:
            return self.context(kind)
        connection.settimeout(20)
        if kind in ("reset", "reset_after_hello"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if kind in ("reset_after_hello", "plain_http", "rubbish"):
            connection.recv(4096)
        if kind == "plain_http":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        if kind == "rubbish":
            connection.sendall(bytes(range(256)) * 4)
        if kind == "silent":
            connection.settimeout(0.5)
            while not stop.is_set():
                try:
                    if not connection.recv(4096):
                        break
                except TimeoutError:
                    pass
        return None
