"""What Intune was given, opened with one generation of the encryption key in SoftHSM's token, many at once:
the password by the library itself, the PFX by Python's cryptography."""

import base64
import json
import os
import subprocess
import sys
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "unit"))
from hsm_opener import Opener  # noqa: E402  (the line above makes it found)


def passwords(world, generation):
    """{record id: password, None where that key doesn't open it}, in a process of its own, since the
    library keeps its state in the process."""
    return run(world, generation, world.path("sim", "graph"))


def password(world, generation, sealed):
    """One alone, in base64."""
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        with open(os.path.join(folder, "one.json"), "w", encoding="ascii") as stream:
            json.dump({"encryptedPfxPassword": sealed}, stream)
        return run(world, generation, folder)["one"]


def run(world, generation, folder):
    done = subprocess.run(
        ["/usr/bin/python3", "-B", os.path.abspath(__file__), world.kinds["encryption"].module,
         "pfx-agent encryption-%d" % generation, folder],
        input=world.pin("encryption").encode(), stdout=subprocess.PIPE, check=True,
        env=world.environment, timeout=120)
    return json.loads(done.stdout)


def pfx(body, password):
    """AssertionError where the PFX doesn't open with it, or its key isn't its certificate's."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key, certificate, chain = pkcs12.load_key_and_certificates(
        base64.b64decode(body["encryptedPfxBlob"]), password.encode())
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise AssertionError("key and certificate differ")
    if not chain:
        raise AssertionError("the PFX carries no chain")


def open_all(module, label, folder):
    opener = Opener(module, {}, "pfx-encryption", sys.stdin.readline().strip())
    opener.key = opener.find(label)
    found = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".json"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            sealed = base64.b64decode(json.load(stream)["encryptedPfxPassword"])
        try:
            found[name[:-5]] = opener.open(sealed).decode("ascii")
        except (AssertionError, UnicodeDecodeError):
            found[name[:-5]] = None
    print(json.dumps(found))


if __name__ == "__main__":
    open_all(*sys.argv[1:])
