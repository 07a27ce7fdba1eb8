"""What the tests of CMP share: the program with a CA of one's own."""

import base64
import collections
import os
import subprocess
import uuid

from simclient import EC_KEY
from uploader_rig import Listener, Rig, b64

import pki  # of the simulators; the line above says where they are
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

SECRET = "correct-horse-battery-staple"
REFERENCE = "pfx-agent"
ADVICE = "pfx-agent secret set cmp"


class Secrets(Listener):
    """pfx-hsm's uploader socket, which has the shared secret only."""

    def __init__(self, path):
        self.key = SECRET
        self.asked = []
        super().__init__(path)

    def talk(self, line):
        while True:
            message = line.receive()
            assert message["verb"] == "secret" and message["args"] == {"name": "cmp"}, message
            self.asked.append(message["args"]["name"])
            line.send("item", id=message["id"], body={"value": self.key})
            line.send("end", id=message["id"], exit=0)


def request(key=EC_KEY, emails=("alice@example.com",)):
    """DER of a request as pfx-hsm makes them."""
    san = x509.SubjectAlternativeName([x509.RFC822Name(e) for e in emails])
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, emails[0])])
    builder = (x509.CertificateSigningRequestBuilder().subject_name(name)
               .add_extension(san, False).add_extension(pki.key_usage("digital_signature"), True)
               .add_extension(usage, False))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class CmpRig(Rig):
    """The program with `ca: cmp`. The sub-class says where the CA is."""

    options = {"cmp.reference": REFERENCE, "cmp.rate": "200/1s", "limits.job_timeout": "5s"}

    @classmethod
    def start(cls):
        os.makedirs(cls.dir)
        cls.tls = pki.make_tls(cls.dir)
        cls.urls = collections.defaultdict(lambda: "https://127.0.0.1:1")
        cls.options = dict(cls.options)
        cls.start_ca()

    @classmethod
    def start_broker(cls):
        cls.broker = Secrets(os.path.join(cls.socket_dir, "hsm"))
        cls.addClassCleanup(cls.broker.close)

    @classmethod
    def configuration(cls):
        return "ca: cmp\n" + super().configuration()

    @classmethod
    def stop_program(cls):
        running = cls.program is not None and not cls.log.closed
        text = cls.log_text() if running else ""
        super().stop_program()
        assert SECRET not in text, "the shared secret is in the log"

    def setUp(self):
        self.broker.key = SECRET

    @staticmethod
    def job(key=EC_KEY, **changes):
        job = {"enrolment": 7, "product": "internal", "addresses": ["alice@example.com"],
               "csr": b64(request(key)), "token": str(uuid.uuid4()), "days": 365,
               "purpose": "signing", "additional_usages": [], "custom_fields": []}
        job.update(changes)
        return job

    def settle(self, job, key=EC_KEY):
        body = self.settle_job(job, key)
        if "csr" in job:
            body["csr"] = job["csr"]
        return body

    def bad(self, cls, kind, *words, **body):
        error = super().bad(cls, kind, *words, **body)
        self.assertNotIn(SECRET, str(error))
        return error

    def verify(self, body, root):
        """openssl finds the way from the leaf to the root, by what the answer brought alone."""
        def write(name, *ders):
            path = os.path.join(self.scratch.name, name)
            with open(path, "wb") as stream:
                for raw in ders:
                    stream.write(pki.armor("CERTIFICATE", base64.b64decode(raw)))
            return path
        command = ["openssl", "verify", "-CAfile", root, "-untrusted",
                   write("chain.pem", *body["chain"]), write("leaf.pem", body["leaf"])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def leaf(self, body):
        return x509.load_der_x509_certificate(base64.b64decode(body["leaf"]))
