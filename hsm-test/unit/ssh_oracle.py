"""
Signatures of security keys, which no ssh-keygen makes without one: written after OpenSSH's
PROTOCOL.sshsig and PROTOCOL.u2f with python3-cryptography.

  ssh_oracle.py sk-ed25519|sk-ecdsa NAME MESSAGE [FLAGS [NAMESPACE]]

writes NAME.pub (a line as ssh-keygen writes it) and MESSAGE.sig.
"""

import base64
import hashlib
import struct
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def string(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def mpint(number):
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return string(data)


def armor(blob):
    text = base64.b64encode(blob).decode()
    lines = [text[i:i + 70] for i in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


class SecurityKey:
    """kind: sk-ed25519 or sk-ecdsa"""

    def __init__(self, kind, application="ssh:"):
        self.application, self.counter = application, 7
        if kind == "sk-ed25519":
            self.type = "sk-ssh-ed25519@openssh.com"
            self.key = ed25519.Ed25519PrivateKey.generate()
            public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.blob = string(self.type) + string(public) + string(application)
        else:
            self.type = "sk-ecdsa-sha2-nistp256@openssh.com"
            self.key = ec.generate_private_key(ec.SECP256R1())
            public = self.key.public_key().public_bytes(Encoding.X962,
                                                        PublicFormat.UncompressedPoint)
            self.blob = string(self.type) + string("nistp256") + string(public) + \
                string(application)

    def line(self):
        return "%s %s" % (self.type, base64.b64encode(self.blob).decode())

    def sign(self, message, flags=1, namespace="pfx-agent"):
        self.counter += 1
        signed = b"SSHSIG" + string(namespace) + string("") + string("sha512") + \
            string(hashlib.sha512(message).digest())
        behind = struct.pack(">BI", flags, self.counter)
        data = hashlib.sha256(self.application.encode()).digest() + behind + \
            hashlib.sha256(signed).digest()
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            inner = self.key.sign(data)
        else:
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            inner = mpint(r) + mpint(s)
        signature = string(self.type) + string(inner) + behind
        return armor(b"SSHSIG" + struct.pack(">I", 1) + string(self.blob) + string(namespace) +
                     string("") + string("sha512") + string(signature))


def main(kind, name, message, flags="1", namespace="pfx-agent"):
    key = SecurityKey(kind)
    with open(message, "rb") as stream:
        text = key.sign(stream.read(), int(flags), namespace)
    with open(name + ".pub", "w", encoding="ascii") as stream:
        stream.write(key.line() + "\n")
    with open(message + ".sig", "w", encoding="ascii") as stream:
        stream.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
