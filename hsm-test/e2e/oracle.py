"""Other people's tools: what they say about a sealed password, a PFX and a certificate.

None of the product's code takes part. The sealed password is opened by the key in the token through
OpenSSL's pkcs11 engine; five programs read the PFX: openssl, keytool, pk12util, certtool and
Python's cryptography.
"""

import base64
import os
import re
import shutil
import subprocess
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

import harness
from world_conf import KEY_NAME

HASHES = {"oaepSha256": "sha256", "oaepSha384": "sha384", "oaepSha512": "sha512"}
READERS = ("openssl", "keytool", "pk12util", "certtool", "cryptography")


class Unproven(AssertionError):
    """A tool says something else than it should."""


def call(argv, stdin=None, environment=None, seconds=60):
    done = subprocess.run(argv, input=stdin if stdin is not None else b"", stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment, timeout=seconds, check=False,
                          start_new_session=True)
    if done.returncode != 0:
        raise Unproven("%s says: %s" % (os.path.basename(argv[0]),
                                        (done.stderr or done.stdout).decode("utf-8", "replace")))
    return done.stdout


class Oracle:
    """Opens and reads what one world gave to Graph."""

    def __init__(self, world, folder=None):
        self.world = world
        self.folder = folder or tempfile.mkdtemp(prefix="oracle-", dir=world.folder)
        os.chmod(self.folder, 0o700)

    def path(self, name):
        return os.path.join(self.folder, name)

    def encryption_key_id(self, key_name):
        """CKA_ID of the encryption key that a record names, in hex."""
        rows = self.world.cli("key", "list", "--json").lines()
        named = re.fullmatch(re.escape(KEY_NAME) + r"(?:-(\d+))?", key_name)
        ids = [r["id"] for r in rows if r["role"] == "encryption" and "id" in r
               and named and r["generation"] == int(named.group(1) or 1)]
        if len(ids) != 1:
            raise Unproven("key list shows %d encryption keys named %s" % (len(ids), key_name))
        return ids[0]

    def open_password(self, record):
        """The PFX password, decrypted inside the encryption token."""
        digest = HASHES[record["paddingScheme"]]
        harness.private_file(self.path("sealed"), base64.b64decode(record["encryptedPfxPassword"]))
        # The engine takes the PIN from its configuration: a file of mode 0600.
        harness.private_file(self.path("engine.cnf"), (
            "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n"
            "[pkcs11]\nengine_id = pkcs11\nMODULE_PATH = %s\nPIN = %s\ninit = 0\n"
            % (self.world.tool_module("encryption"), self.world.pin("encryption"))))
        key_id = self.encryption_key_id(record["keyName"])
        uri = "pkcs11:token=pfx-encryption;id=%s;type=private" % "".join(
            "%%%s" % key_id[i:i + 2] for i in range(0, len(key_id), 2))
        environment = dict(self.world.environment, OPENSSL_CONF=self.path("engine.cnf"))
        environment.pop("ASAN_OPTIONS", None)
        password = call(["openssl", "pkeyutl", "-decrypt", "-engine", "pkcs11", "-keyform",
                         "engine", "-inkey", uri, "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt",
                         "rsa_oaep_md:" + digest, "-pkeyopt", "rsa_mgf1_md:" + digest, "-in",
                         self.path("sealed")], environment=environment)
        if not password or any(not 0x20 <= byte <= 0x7E for byte in password):
            raise Unproven("the opened password isn't printable ASCII")
        return password

    def unpack(self, record):
        """Writes the PFX and its password; returns (password, certificate, key, chain)."""
        password = self.open_password(record)
        pfx = base64.b64decode(record["encryptedPfxBlob"])
        harness.private_file(self.path("pfx"), pfx)
        harness.private_file(self.path("password"), password + b"\n")
        key, certificate, chain = pkcs12.load_key_and_certificates(pfx, password)
        if key is None or certificate is None:
            raise Unproven("the PFX lacks its key or its certificate")
        return password, certificate, key, chain

    def read_openssl(self, password):
        text = call(["openssl", "pkcs12", "-in", self.path("pfx"), "-passin",
                     "file:" + self.path("password"), "-nodes"])
        harness.private_file(self.path("unpacked.pem"), text)
        public = call(["openssl", "x509", "-in", self.path("unpacked.pem"), "-noout", "-pubkey"])
        private = call(["openssl", "pkey", "-in", self.path("unpacked.pem"), "-pubout"])
        if public != private:
            raise Unproven("certificate and private key have different public keys")
        os.unlink(self.path("unpacked.pem"))

    def read_keytool(self, password):
        text = call(["keytool", "-list", "-v", "-storetype", "PKCS12", "-keystore",
                     self.path("pfx"), "-storepass:file", self.path("password")],
                    environment=dict(os.environ, LC_ALL="C", JAVA_TOOL_OPTIONS=""))
        if b"PrivateKeyEntry" not in text:
            raise Unproven("keytool finds no private key")

    def read_pk12util(self, password):
        folder = self.path("nssdb")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder, 0o700)
        harness.private_file(self.path("nss-pin"), "test-database-pin\n")
        call(["certutil", "-N", "-d", "sql:" + folder, "-f", self.path("nss-pin")])
        call(["pk12util", "-i", self.path("pfx"), "-d", "sql:" + folder, "-k",
              self.path("nss-pin"), "-w", self.path("password")])
        keys = call(["certutil", "-K", "-d", "sql:" + folder, "-f", self.path("nss-pin")])
        if not any(kind in keys for kind in (b"rsa", b"ec")):
            raise Unproven("pk12util imported no private key")

    def read_certtool(self, password):
        # Without a terminal it reads the password from standard input.
        text = call(["certtool", "--p12-info", "--inder", "--infile", self.path("pfx")],
                    stdin=password + b"\n")
        if b"BEGIN CERTIFICATE" not in text or b"PRIVATE KEY" not in text:
            raise Unproven("certtool finds no key or no certificate")

    def read_cryptography(self, password):
        with open(self.path("pfx"), "rb") as stream:
            key, certificate, _ = pkcs12.load_key_and_certificates(stream.read(), password)
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
            raise Unproven("certificate and private key have different public keys")

    def read_by(self, reader, password):
        getattr(self, "read_" + reader)(password)

    def prove(self, record_id, record, readers=READERS):
        """Everything about one record; returns the certificate. Unproven says what differs."""
        password, certificate, _, chain = self.unpack(record)
        for reader in readers:
            self.read_by(reader, password)
        if not chain:
            raise Unproven("the PFX carries no chain")
        self._compare(record_id, record, certificate)
        return password, certificate

    def _compare(self, record_id, record, certificate):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        thumbprint = certificate.fingerprint(hashes.SHA1()).hex()
        issued = {o["thumbprint"] for o in self.world.orders() if o["thumbprint"]}
        if thumbprint not in issued:
            raise Unproven("the CA hasn't issued the certificate in the PFX")
        if record["thumbprint"].lower() != thumbprint:
            raise Unproven("the record names another thumbprint")
        if not record_id.endswith("-" + thumbprint):
            raise Unproven("the record's id doesn't end in the thumbprint")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        if not names.value.get_values_for_type(x509.RFC822Name):
            raise Unproven("the certificate has no mail address")
