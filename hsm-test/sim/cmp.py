"""A CA of one's own that is spoken to by CMP (RFC 4210 over HTTP, RFC 6712), for tests.

A program of its own: it writes cmp.json with its URLs, cmp-root.pem and cmp-issuing.pem into --dir,
and serves /pkix (CMP), and /knobs (POST JSON: see Knobs) and /state (GET) for tests.
"""

import argparse
import datetime
import hashlib
import hmac
import json
import os
import secrets
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

import pki  # noqa: E402

P10CR, CP, PKICONF, GENM, GENP, ERROR, CERTCONF, POLLREQ, POLLREP = 4, 3, 19, 21, 22, 23, 24, 25, 26
NAMES = {P10CR: "p10cr", GENM: "genm", CERTCONF: "certConf", POLLREQ: "pollReq", ERROR: "error"}
PBM = bytes.fromhex("06092a864886f67d07420d")
SHA256 = bytes.fromhex("0609608648016503040201")
HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
IMPLICIT_CONFIRM = bytes.fromhex("06082b0601050507040d")
CERT_PROFILE = bytes.fromhex("06082b06010505070415")
ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
BAD_REQUEST, BAD_MESSAGE_CHECK, IN_USE, SYSTEM_FAILURE = 2, 1, 21, 25


# --- DER: as much as CMP needs ---------------------------------------------------------------

def tlv(tag, *contents):
    content = b"".join(contents)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(raw)]) + raw + content


def seq(*contents):
    return tlv(0x30, *contents)


def integer(value):
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


class Node:
    """One element: tag, its whole encoding, its content."""

    def __init__(self, data, at=0):
        self.tag = data[at]
        size, head = data[at + 1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[at + 2:at + head], "big")
        self.end = at + head + size
        if self.end > len(data):
            raise ValueError("torn DER")
        self.content = data[at + head:self.end]
        self.whole = data[at:self.end]

    def children(self):
        at, out = 0, []
        while at < len(self.content):
            node = Node(self.content, at)
            out.append(node)
            at = node.end
        return out

    def number(self):
        return int.from_bytes(self.content, "big", signed=True)


class Message:
    """A PKIMessage, taken apart."""

    def __init__(self, data):
        whole = Node(data)
        if whole.end != len(data):
            raise ValueError("more than a PKIMessage")
        parts = whole.children()
        self.header, self.body = parts[0], parts[1]
        self.kind = self.body.tag & 0x1F
        self.protection = next((p.content for p in parts[2:] if p.tag == 0xA0), None)
        fields = self.header.children()
        self.sender, self.recipient = fields[1].whole, fields[2].whole
        self.fields = {f.tag & 0x1F: f for f in fields[3:]}

    def octets(self, number):
        field = self.fields.get(number)
        return Node(field.content).content if field else b""

    def info(self, oid):
        """Value of generalInfo with this type; b"" where it has none, None where it's absent."""
        if 8 not in self.fields:
            return None
        for item in Node(self.fields[8].content).children():
            parts = item.children()
            if parts[0].whole == oid:
                return parts[1].whole if len(parts) > 1 else b""
        return None

    def mac_holds(self, secret):
        if self.protection is None or 1 not in self.fields:
            return False
        algorithm = Node(self.fields[1].content).children()
        if algorithm[0].whole != PBM:
            return False
        salt, owf, count, mac = algorithm[1].children()
        if owf.children()[0].whole != SHA256 or mac.children()[0].whole != HMAC_SHA256:
            return False
        want = password_mac(secret, salt.content, count.number(),
                            self.header.whole + self.body.whole)
        return hmac.compare_digest(Node(self.protection).content[1:], want)


def password_mac(secret, salt, count, content):
    key = secret + salt
    for _ in range(count):
        key = hashlib.sha256(key).digest()
    return hmac.new(key, seq(content), hashlib.sha256).digest()


def status(value, text=None, bit=None):
    parts = [integer(value)]
    if text:
        parts.append(seq(tlv(0x0C, text.encode("utf-8"))))
    if bit is not None:
        raw = bytearray(bit // 8 + 1)
        raw[-1] |= 0x80 >> bit % 8
        parts.append(tlv(0x03, bytes([7 - bit % 8]), bytes(raw)))
    return seq(*parts)


# --- the CA ----------------------------------------------------------------------------------

class Knobs:
    """What a test may turn; /knobs sets any of them, and those that aren't named to these."""

    DEFAULTS = {
        "secret": "a shared secret of the tests", "reference": "pfx-agent",
        "implicit": True,        # grants implicit confirmation
        "reject": None,          # [text, bit] instead of a certificate
        "waits": 0,              # polls before the certificate
        "check_after": 0,
        "key": "right",          # wrong: the certificate is for another key
        "issuer": "right",       # wrong: it is another CA's
        "protection": "right",   # none, wrong (another secret), broken (a bit), signed
        "count": 1000,           # iterations of PasswordBasedMac
        "header": "right",       # another transaction or nonce than the request's
        # lost, http, forbidden, html, empty, garbage, trailing, long, waiting, ber (the same in
        # BER), nothing (no response in it), failure
        "answer": "right",
        "answer_to": "p10cr",    # which message these four are about,
        "times": 1000000,        # and how many of its kind
        "profile": None,         # the certProfile that has to be asked for
        "in_use": False,         # refuses a transaction id that it has seen
        "genm": [None, None],    # refused with these; None: answered
        "days": 365,
        "padding": 0,            # bytes in an extension that nobody knows
        "extra": 2,              # certificates that come along; others from the third on
        "close": False,          # ends the connection after each answer
    }


class CA:
    def __init__(self, folder, key=None):
        def new():
            return ec.generate_private_key(ec.SECP256R1())
        self.root = pki.make_authority("pfx-sim internal root", new())
        self.issuing = pki.make_authority("pfx-sim internal CA", key or new(), issuer=self.root,
                                          path_length=0)
        self.other = pki.make_authority("somebody else", new())
        self.signer_key = new()
        self.signer = self.certificate(self.issuing, "the server", self.signer_key.public_key()) \
            .add_extension(pki.key_usage("digital_signature"), critical=True) \
            .sign(self.issuing.key, hashes.SHA256())
        pki.write_file(os.path.join(folder, "cmp-root.pem"), pki.pem(self.root.certificate))
        pki.write_file(os.path.join(folder, "cmp-issuing.pem"), pki.pem(self.issuing.certificate))
        self.lock = threading.Lock()
        self.turn({})

    def turn(self, values):
        unknown = set(values) - set(Knobs.DEFAULTS)
        if unknown:
            raise ValueError("no such knob: %s" % sorted(unknown))
        with self.lock:
            self.knobs = dict(Knobs.DEFAULTS, **values)
            self.seen, self.issued, self.pending = [], {}, {}
            self.confirmed, self.refused = [], []

    def state(self):
        with self.lock:
            return {"seen": self.seen, "confirmed": self.confirmed, "refused": self.refused,
                    "issued": {k: v.serial_number for k, v in self.issued.items()},
                    "thumbprints": [v.fingerprint(hashes.SHA1()).hex()
                                    for v in self.issued.values()]}

    def issue(self, request):
        key = request.public_key()
        if self.knobs["key"] == "wrong":
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
        authority = self.issuing if self.knobs["issuer"] == "right" else self.other
        builder = self.certificate(authority, request.subject, key, self.knobs["days"]) \
            .add_extension(x509.BasicConstraints(False, None), critical=True)
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        if self.knobs["padding"]:
            builder = builder.add_extension(x509.UnrecognizedExtension(
                x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(self.knobs["padding"])), False)
        return builder.sign(authority.key, hashes.SHA256())

    @staticmethod
    def certificate(authority, subject, key, days=365):
        """What each certificate has; to be gone on with and signed."""
        if isinstance(subject, str):
            subject = pki.name((x509.NameOID.COMMON_NAME, subject))
        start = pki.utc_now() - datetime.timedelta(minutes=5)
        return (x509.CertificateBuilder().subject_name(subject)
                .issuer_name(authority.certificate.subject).public_key(key)
                .serial_number(x509.random_serial_number()).not_valid_before(start)
                .not_valid_after(start + datetime.timedelta(days=days))
                .add_extension(authority.aki(), critical=False))

    # --- answers -----------------------------------------------------------------------------

    def certificate_answer(self, certificate):
        return CP, seq(seq(seq(integer(-1), status(0),
                               seq(tlv(0xA0, pki.der(certificate))))))

    def waiting_answer(self):
        return CP, seq(seq(seq(integer(-1), status(3))))

    def refusal(self, text, bit, as_error=True):
        if as_error:
            return ERROR, seq(status(2, text, bit))
        return CP, seq(seq(seq(integer(-1), status(2, text, bit))))

    def on_request(self, message, transaction):
        knobs = self.knobs
        if self.knobs["in_use"] and transaction in self.issued:
            return self.refusal("transaction is known", IN_USE)
        if knobs["profile"] is not None:
            asked = message.info(CERT_PROFILE)
            if asked is None or asked != seq(tlv(0x0C, knobs["profile"].encode())):
                return self.refusal("no such profile", BAD_REQUEST)
        if knobs["reject"]:
            return self.refusal(*knobs["reject"], as_error=False)
        request = x509.load_der_x509_csr(Node(message.body.content).whole)
        if not request.is_signature_valid:
            return self.refusal("proof of possession", 9)
        if transaction not in self.issued:
            self.issued[transaction] = self.issue(request)
        if knobs["waits"]:
            self.pending[transaction] = knobs["waits"]
            return self.waiting_answer()
        return self.certificate_answer(self.issued[transaction])

    def on_poll(self, transaction):
        if transaction not in self.pending:
            return self.refusal("nothing is pending", BAD_REQUEST)
        self.pending[transaction] -= 1
        if self.pending[transaction] > 0:
            return POLLREP, seq(seq(integer(-1), integer(self.knobs["check_after"])))
        del self.pending[transaction]
        return self.certificate_answer(self.issued[transaction])

    def on_confirm(self, message, transaction):
        state = Node(message.body.content).children()[0].children()
        wanted = hashlib.sha256(pki.der(self.issued[transaction])).digest()
        if state[0].content != wanted or state[1].number() != -1:  # RFC 9483 section 4.1.4
            return self.refusal("certHash", BAD_REQUEST)
        good = len(state) < 3 or state[2].children()[0].number() == 0
        (self.confirmed if good else self.refused).append(transaction)
        return PKICONF, bytes.fromhex("0500")

    def body_for(self, message, transaction):
        if message.octets(2) != self.knobs["reference"].encode() or \
                not message.mac_holds(self.knobs["secret"].encode()):
            return self.refusal("wrong MAC", BAD_MESSAGE_CHECK)
        if message.kind == P10CR:
            return self.on_request(message, transaction)
        if message.kind == POLLREQ:
            return self.on_poll(transaction)
        if message.kind == CERTCONF:
            return self.on_confirm(message, transaction)
        if message.kind == GENM:
            text, bit = self.knobs["genm"]
            return self.refusal(text, bit) if text else (GENP, seq())
        if message.kind == ERROR:
            self.refused.append(transaction)
            return PKICONF, bytes.fromhex("0500")
        return self.refusal("not done here", BAD_REQUEST)

    def answer(self, data):
        """(HTTP status, media type, body); no status: the connection is closed without one."""
        message = Message(data)
        transaction = message.octets(4).hex()
        name = NAMES.get(message.kind, str(message.kind))
        with self.lock:
            self.seen.append([name, transaction])
            kind, body = self.body_for(message, transaction)
            about = name == self.knobs["answer_to"] and self.knobs["times"] > 0
            self.knobs["times"] -= about
            how = self.knobs["answer"] if about else "right"
            if how in ("waiting", "ber"):
                kind, body = ERROR, seq(status(3))
            elif how == "nothing":
                body = seq(seq())
            elif how == "failure":
                kind, body = self.refusal("out of order", SYSTEM_FAILURE)
            reply = self.wrap(message, kind, body, about)
        if how == "lost":
            return None, None, b""
        if how in ("http", "forbidden"):
            return 500 if how == "http" else 403, "text/plain", b"no"
        if how == "html":
            return 200, "text/html", b"<html>block page</html>"
        reply = {"empty": b"", "garbage": b"\x30\x03\x02\x01", "trailing": reply + b"\x00",
                 "long": reply + bytes(300 * 1024),
                 "ber": b"\x30\x80" + Node(reply).content + b"\0\0"}.get(how, reply)
        return 200, "application/pkixcmp", reply

    def header(self, message, kind, sender, algorithm, key_id, about):
        """PKIHeader; no algorithm: the message isn't protected."""
        how = self.knobs["header"] if about else "right"
        transaction = secrets.token_bytes(16) if how == "transaction" else message.octets(4)
        nonce = secrets.token_bytes(16) if how == "nonce" else message.octets(5)
        now = pki.utc_now().strftime("%Y%m%d%H%M%SZ").encode()
        fields = [integer(2), sender, message.sender, tlv(0xA0, tlv(0x18, now))]
        if algorithm:
            fields.append(tlv(0xA1, algorithm))
        fields += [tlv(0xA2, tlv(0x04, key_id)), tlv(0xA4, tlv(0x04, transaction)),
                   tlv(0xA5, tlv(0x04, secrets.token_bytes(16))), tlv(0xA6, tlv(0x04, nonce))]
        if kind == CP and self.knobs["implicit"] and message.info(IMPLICIT_CONFIRM) is not None:
            fields.append(tlv(0xA8, seq(seq(IMPLICIT_CONFIRM, bytes.fromhex("0500")))))
        return seq(*fields)

    def wrap(self, message, kind, body, about):
        """PKIMessage; about: the knobs that spoil an answer are about this one."""
        how = self.knobs["protection"] if about else "right"
        count = self.knobs["count"] if about else 1000
        wrapped = tlv(0xA0 | kind, body)
        extra = [self.issuing.certificate, self.root.certificate]
        extra += [self.other.certificate] * (self.knobs["extra"] - 2)
        extra = extra[:self.knobs["extra"]] if kind == CP else []
        sender, key_id, salt = message.recipient, message.octets(2), secrets.token_bytes(16)
        algorithm = seq(PBM, seq(tlv(0x04, salt), seq(SHA256), integer(count), seq(HMAC_SHA256)))
        if how == "none":
            algorithm = None
        elif how == "signed":
            sender = tlv(0xA4, self.signer.subject.public_bytes())
            algorithm, key_id = seq(ECDSA_SHA256), b""
            extra = [self.signer] + extra
        header = self.header(message, kind, sender, algorithm, key_id, about)
        parts = [header, wrapped]
        if how == "signed":
            parts.append(self.protection(self.signer_key.sign(seq(header, wrapped),
                                                              ec.ECDSA(hashes.SHA256()))))
        elif how != "none":
            secret = self.knobs["secret"].encode() + (b"!" if how == "wrong" else b"")
            mac = bytearray(password_mac(secret, salt, min(count, 100000), header + wrapped))
            if how == "broken":
                mac[5] ^= 1
            parts.append(self.protection(bytes(mac)))
        if extra:
            parts.append(tlv(0xA1, seq(*[pki.der(c) for c in extra])))
        return seq(*parts)

    @staticmethod
    def protection(bits):
        return tlv(0xA0, tlv(0x03, b"\0", bits))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: the client's delayed ACK would cost 40 ms
    ca = None

    def log_message(self, *_):
        pass

    def reply(self, code, media, body):
        self.send_response(code)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(200, "application/json", json.dumps(self.ca.state()).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/knobs":
            self.ca.turn(json.loads(body))
            self.reply(200, "application/json", b"{}")
            return
        if self.path != "/pkix" or self.headers.get("Content-Type") != "application/pkixcmp":
            self.reply(404, "text/plain", b"CMP is at /pkix")
            return
        code, media, answer = self.ca.answer(body)
        if code is None:
            self.close_connection = True
            return
        self.close_connection = self.ca.knobs["close"]
        self.reply(code, media, answer)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, ca, tls):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(tls)
        super().__init__(("127.0.0.1", 0), type("Bound", (Handler,), {"ca": ca}))

    def finish_request(self, request, client_address):
        """The handshake is here, in the connection's own thread."""
        request.settimeout(30)
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except (OSError, ValueError):
            pass

    def handle_error(self, request, client_address):
        pass


def start(folder, tls, key=None):
    """Serves in threads of this process: (CA, server, URL)."""
    ca = CA(folder, key)
    server = Server(ca, tls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return ca, server, "https://127.0.0.1:%d/pkix" % server.server_address[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", required=True, help="folder for its files")
    parser.add_argument("--tls", help="PEM with the listener's key and certificate; else made anew")
    parser.add_argument("--max-seconds", type=float, default=600)
    options = parser.parse_args()
    os.makedirs(options.dir, exist_ok=True)
    tls = options.tls or pki.make_tls(options.dir)
    _, server, url = start(options.dir, tls, rsa.generate_private_key(65537, 2048))
    pki.write_file(os.path.join(options.dir, "cmp.json"), json.dumps({"url": url}).encode())
    threading.Timer(options.max_seconds, os._exit, [0]).start()
    threading.Event().wait()
    server.shutdown()


if __name__ == "__main__":
    main()
