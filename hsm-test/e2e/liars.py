"""What test_hostile.py is made of: requests, records and certificates of a liar's own, the search of
what it was given, and a pfx-uploader in the middle."""

import base64
import datetime
import os
import sys
import threading
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "unit"))

import oracle  # noqa: E402
import people  # noqa: E402
from case import WorldCase  # noqa: E402
from hostile_rig import Closed, Needles, SofthsmKeys, Wire, guid  # noqa: E402
from world_conf import KEY_NAME, PROVIDER  # noqa: E402

BOSS = "boss@" + people.DOMAIN
SALT = base64.b64encode(b"s" * 16).decode()


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text)


def spki(key):
    return key.public_key().public_bytes(serialization.Encoding.DER,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)


def request(key, address):
    """A request of the liar's own."""
    return (x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)]))
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), False)
            .sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


def order_of(csr, addresses):
    return {"enrolment": 1, "product": "secure_email_mailbox", "addresses": addresses,
            "csr": b64(csr), "token": str(uuid.uuid4()), "years": 1, "profile_type": "strict",
            "purpose": "signing", "additional_usages": [], "custom_fields": []}


def record_of(user, leaf, pfx, sealed, **more):
    certificate = x509.load_der_x509_certificate(leaf)
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex()
    utc = datetime.timezone.utc
    body = {"user": user["id"], "record_id": user["id"].replace("-", "") + "-" + thumbprint,
            "thumbprint": thumbprint, "purpose": "smimeSigning", "upn": user["userPrincipalName"],
            "starts": int(certificate.not_valid_before.replace(tzinfo=utc).timestamp() * 1000),
            "expires": int(certificate.not_valid_after.replace(tzinfo=utc).timestamp() * 1000),
            "provider_name": PROVIDER, "key_name": KEY_NAME, "padding": "oaepSha512",
            "pfx": b64(pfx), "sealed": b64(sealed)}
    body.update(more)
    return body


class LiarsCa:
    """A certificate like the real one, key and names and all, by an authority of the liar's own."""

    def __init__(self, leaf):
        real, key = x509.load_der_x509_certificate(unb64(leaf)), ec.generate_private_key(
            ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Liar's CA")])
        ca = self.certificate(name, name, key.public_key(), real).add_extension(
            x509.BasicConstraints(True, None), True)
        copy = self.certificate(real.subject, name, real.public_key(), real)
        for extension in real.extensions:
            copy = copy.add_extension(extension.value, extension.critical)
        der = serialization.Encoding.DER
        self.body = {"leaf": b64(copy.sign(key, hashes.SHA256()).public_bytes(der)),
                     "chain": [b64(ca.sign(key, hashes.SHA256()).public_bytes(der))]}

    @staticmethod
    def certificate(subject, issuer, public, like):
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
                .public_key(public).serial_number(x509.random_serial_number())
                .not_valid_before(like.not_valid_before).not_valid_after(like.not_valid_after))


class HostileCase(WorldCase):
    def key_needles(self, world):
        """Every key value of the four tokens, and that the search finds it in any spelling."""
        needles = Needles()
        pins = [world.pin(role) for role in ("encryption", "users", "service", "log")]
        for name, value in SofthsmKeys(world.path("tokens"), pins).values.items():
            needles.add(name, value)
        self.assertGreater(len(needles.values), 25)
        return needles

    def assertNothingOn(self, world, needles, tape):
        self.assertGreater(tape.size(), 1000)
        self.assertEqual(needles.blind(), [])
        self.assertEqual(needles.on(tape), [])

    def add_passwords(self, world, needles, records):
        """The passwords of these records, opened by the encryption token; the PFX are those keys."""
        judge = oracle.Oracle(world)
        known = [int.from_bytes(value, "big") for value in needles.values.values()]
        for record_id, record in records.items():
            password, _, key, _ = judge.unpack(record)
            self.assertIn(key.private_numbers().d, known, "the control isn't one")
            needles.add_password("password of " + record_id, password)


class Middle(threading.Thread):
    """The hostile pfx-uploader: takes jobs from the real pfx-agentd, has the real pfx-uploader do
    them, and changes what it wants on the way. lie[kind](body, forward) -> (class, body)."""

    def __init__(self, world, desk, tape):
        super().__init__(daemon=True)
        self.world, self.desk, self.tape = world, desk, tape
        self.lie, self.kept, self.stop = {}, [], False
        self.wire = None

    def forward(self, kind, body):
        answer = self.desk.do(kind, **body)
        return answer["class"], answer.get("body"), answer.get("error")

    def run(self):
        try:
            self.wire = Wire(self.world.path("run", "uploader"), self.tape, 3600)
            self.wire.send("hello", role="uploader", version="0.1.0", incarnation=guid(), pid=1,
                           kinds=self.desk.hello["kinds"], capacity=8, holds=[])
            assert self.wire.read()["t"] == "welcome"
            self.wire.send("pull", max=8)
            while True:
                message = self.wire.read()
                if message["t"] == "job":
                    self.answer(message)
                elif message["t"] == "ack":
                    self.wire.send("pull", max=1)
        except (Closed, OSError):
            pass

    def answer(self, job):
        kind, body = job["kind"], job["body"]
        lie = self.lie.get(kind)
        found = lie(body) if lie else self.forward(kind, body)
        done = {"job": job["job"], "lease": job["lease"], "class": found[0]}
        if found[0] == "ok":
            done["body"] = found[1]
        else:
            done["error"] = found[2] or {"class": found[0], "op": "x", "object": "", "code": "",
                                         "text": "a lie"}
        self.wire.send("done", **done)
