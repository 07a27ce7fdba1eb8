#!/usr/bin/python3
"""What other people's software says: makes test certificates and reads what crypto/ wrote.

Uses Debian's python3-cryptography and the standard library only. Runs in the test's own folder.
"""
import base64
import datetime
import hashlib
import json
import re
import struct
import subprocess
import sys
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID as EKU
from cryptography.x509.oid import NameOID, ObjectIdentifier

warnings.simplefilter("ignore")  # SHA-1 is on purpose
NOW = datetime.datetime(2026, 6, 1)
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)
EMAILS = ["alice@example.com", "a.example@example.com"]


def write(name, data):
    with open(name, "wb") as f:
        f.write(data)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def spki(key):
    return key.public_key().public_bytes(Encoding.DER,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)


def pkcs8(key):
    return key.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(**on):
    words = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{word: on.get(word, False) for word in words})


class CA:
    def __init__(self, text, issuer=None, begin=NOW - 100 * DAY, end=NOW + 3000 * DAY, path=None,
                 constraints=None, eku=None, ca=True, key=None, algorithm=None):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = name(text)
        issuer = issuer or self
        builder = (x509.CertificateBuilder().subject_name(self.name).issuer_name(issuer.name)
                   .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(begin).not_valid_after(end)
                   .add_extension(x509.BasicConstraints(ca, path), True)
                   .add_extension(usage(key_cert_sign=ca, crl_sign=True,
                                        digital_signature=not ca), True))
        if constraints:
            builder = builder.add_extension(constraints, True)
        if eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage(eku), False)
        self.cert = builder.sign(issuer.key, algorithm or hashes.SHA256())

    def der(self):
        return self.cert.public_bytes(Encoding.DER)


def leaf(ca, key, emails=EMAILS, begin=NOW - DAY, end=NOW + 365 * DAY, ku=None,
         eku=(EKU.EMAIL_PROTECTION,), is_ca=None, subject=None, extra_names=(), critical=False,
         algorithm=None):
    builder = (x509.CertificateBuilder()
               .subject_name(subject or name("Alice Example")).issuer_name(ca.name)
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(begin).not_valid_after(end))
    names = [x509.RFC822Name(e) for e in emails] + list(extra_names)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if ku is not False:
        builder = builder.add_extension(ku or usage(digital_signature=True), True)
    if eku:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(eku)), False)
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), True)
    if critical:
        oid = ObjectIdentifier("1.3.6.1.4.1.55555.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), True)
    return builder.sign(ca.key, algorithm or hashes.SHA256())


def replace_once(der, old, new):
    """The signature no longer holds after it: for checks that come before the chain's."""
    assert len(old) == len(new) and old in der
    return der.replace(old, new)


def make_pki():
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    foreign = ec.generate_private_key(ec.SECP256R1())
    write("rsa.spki", spki(rsa_key))
    write("ec.spki", spki(ec_key))
    root = CA("Test Root")
    inter = CA("Test Issuing CA", root)
    middle = CA("Test Middle CA", root)
    low = CA("Test Low CA", middle)
    other = CA("Other Root")
    for ca_name, ca in [("root", root), ("inter", inter), ("middle", middle), ("low", low),
                        ("other", other)]:
        write(ca_name + ".der", ca.der())

    def put(case, cert):
        write(case + ".der", cert if isinstance(cert, bytes) else cert.public_bytes(Encoding.DER))

    def put_under(case, ca_name, ca, **kw):
        put(case, leaf(ca, rsa_key, **kw))
        write(ca_name + ".der", ca.der())

    wide = dict(digital_signature=True, key_encipherment=True)
    put("good-sign", leaf(inter, rsa_key))
    put("good-sign-nr", leaf(inter, rsa_key, ku=usage(digital_signature=True,
                                                      content_commitment=True)))
    put("good-enc", leaf(inter, rsa_key, ku=usage(key_encipherment=True)))
    put("good-dual", leaf(inter, rsa_key, ku=usage(**wide)))
    put("good-ec-sign", leaf(inter, ec_key))
    put("good-ec-enc", leaf(inter, ec_key, ku=usage(key_agreement=True)))
    put("good-ec-dual", leaf(inter, ec_key, ku=usage(digital_signature=True, key_agreement=True)))
    put("good-deep", leaf(low, rsa_key))
    put("good-case", leaf(inter, rsa_key, emails=["A.Example@EXAMPLE.com", "ALICE@example.com"]))
    put("good-eku", leaf(inter, rsa_key, eku=[EKU.CLIENT_AUTH, EKU.EMAIL_PROTECTION]))
    put("good-soon", leaf(inter, rsa_key, begin=NOW + HOUR))
    put("good-subject", leaf(inter, rsa_key, subject=x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "J\u00fcrgen \u0428, \"x\""),
        x509.NameAttribute(NameOID.EMAIL_ADDRESS, EMAILS[0])])))
    put("good-upn", leaf(inter, rsa_key, extra_names=[
        x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x03a@b")]))
    put("foreign", leaf(inter, foreign))
    put("missing", leaf(inter, rsa_key, emails=EMAILS[:1]))
    put("additional", leaf(inter, rsa_key, emails=EMAILS + ["eve@example.com"]))
    put("no-emails", leaf(inter, rsa_key, emails=[]))
    put("utf8-mailbox", leaf(inter, rsa_key, extra_names=[
        x509.OtherName(ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x04\xc3\xbc@a")]))
    der = leaf(inter, rsa_key).public_bytes(Encoding.DER)
    put("nul-email", replace_once(der, b"alice@example.com", b"alice@example\0com"))
    put("latin-email", replace_once(der, b"alice@example.com", b"alic\xe9@example.com"))
    put("subject-email", leaf(inter, rsa_key, subject=x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "Alice"),
        x509.NameAttribute(NameOID.EMAIL_ADDRESS, "eve@example.com")])))
    put("expired", leaf(inter, rsa_key, begin=NOW - 30 * DAY, end=NOW - HOUR))
    put("expires-soon", leaf(inter, rsa_key, end=NOW + 23 * HOUR))
    put("not-yet", leaf(inter, rsa_key, begin=NOW + 2 * HOUR))
    put("too-long", leaf(inter, rsa_key, begin=NOW - DAY, end=NOW + 824 * DAY))
    put("just-long", leaf(inter, rsa_key, begin=NOW - DAY, end=NOW + 823 * DAY))
    put("no-ku", leaf(inter, rsa_key, ku=False))
    put("nr-only", leaf(inter, rsa_key, ku=usage(content_commitment=True)))
    put("rsa-agreement", leaf(inter, rsa_key, ku=usage(key_agreement=True)))
    put("ec-encipherment", leaf(inter, ec_key, ku=usage(key_encipherment=True)))
    put("ec-dual-encipherment", leaf(inter, ec_key, ku=usage(**wide)))
    put("enc-nr", leaf(inter, rsa_key, ku=usage(key_encipherment=True, content_commitment=True)))
    put("no-eku", leaf(inter, rsa_key, eku=None))
    put("tls-eku", leaf(inter, rsa_key, eku=[EKU.CLIENT_AUTH]))
    put("any-eku", leaf(inter, rsa_key, eku=[EKU.ANY_EXTENDED_KEY_USAGE]))
    put("is-ca", leaf(inter, rsa_key, is_ca=True))
    put("cert-sign", leaf(inter, rsa_key, ku=usage(digital_signature=True, key_cert_sign=True),
                          is_ca=False))
    put("critical", leaf(inter, rsa_key, critical=True))
    put("sha1", leaf(inter, rsa_key, algorithm=hashes.SHA1()))
    good = leaf(inter, rsa_key)
    tampered = bytearray(good.public_bytes(Encoding.DER))
    tampered[-1] ^= 1
    put("bad-signature", bytes(tampered))
    self_signed = CA("Alice Example", key=rsa_key)
    put("self-signed", leaf(self_signed, rsa_key))
    put_under("unknown-root", "other-inter", CA("Other Issuing CA", other))
    put_under("name-constraints", "nc-inter", CA(
        "Constrained CA", root, constraints=x509.NameConstraints(
            [x509.RFC822Name("example.net")], None)))
    put_under("good-name-constraints", "nc-good-inter", CA(
        "Constrained CA 2", root, constraints=x509.NameConstraints(
            [x509.RFC822Name("example.com")], None)))
    put_under("ca-expired", "old-inter", CA("Old CA", root, end=NOW - DAY))
    put_under("ca-not-yet", "new-inter", CA("New CA", root, begin=NOW + DAY))
    put_under("not-a-ca", "no-inter", CA("Person", root, ca=False))
    put_under("ca-tls-only", "tls-inter", CA("TLS CA", root, eku=[EKU.SERVER_AUTH]))
    put_under("good-ca-eku", "mail-inter", CA("Mail CA", root,
                                              eku=[EKU.EMAIL_PROTECTION, EKU.CLIENT_AUTH]))
    put_under("ca-weak", "weak-inter", CA("Weak CA", root, key=rsa.generate_private_key(
        public_exponent=65537, key_size=1024)))
    zero = CA("Path Zero CA", root, path=0)
    write("zero-inter.der", zero.der())
    put_under("path-length", "below-zero", CA("Below Zero CA", zero))
    # A cross-certificate of the root's key, and a circle of two CAs.
    write("cross.der", CA("Test Root", other, key=root.key).der())
    a_key = ec.generate_private_key(ec.SECP256R1())
    circle_b = CA("Circle B")
    circle_a = CA("Circle A", circle_b, key=a_key)
    write("circle-a.der", circle_a.der())
    write("circle-b.der", CA("Circle B", circle_a, key=circle_b.key).der())
    put("circle", leaf(circle_a, rsa_key))

    good = x509.load_der_x509_certificate(read("good-sign.der"))
    make_bundles([good, inter.cert, root.cert])


def make_bundles(certs):
    pem = [c.public_bytes(Encoding.PEM) for c in certs]
    write("bundle-pem", b"".join(pem))
    write("bundle-pem-reversed", b"".join(reversed(pem)))
    write("bundle-pem-junk", b"\xef\xbb\xbfBag Attributes\r\n  friendlyName: x\r\nsubject=x\n" +
          b"\nissuer: --- nothing ---\n".join(p.replace(b"\n", b"\r\n") for p in pem) + b"end\n")
    write("bundle-pem-other", b"-----BEGIN X-----\nAAAA\n-----END X-----\n" + b"".join(pem))
    lines = [b"-----BEGIN CERTIFICATE-----" + b"".join(p.split(b"\n")[1:-2]) +
             b"-----END CERTIFICATE-----" for p in pem]
    write("bundle-pem-one-line", b"".join(lines))
    write("bundle-pem-doubled", b"".join(pem + pem))
    write("bundle-p7b-der", pkcs7.serialize_certificates(certs, Encoding.DER))
    p7 = pkcs7.serialize_certificates(list(reversed(certs)), Encoding.PEM)
    write("bundle-p7b-pem", p7)
    write("bundle-cms-pem", p7.replace(b"PKCS7", b"CMS"))
    write("bundle-p7b-as-cert", p7.replace(b"PKCS7", b"CERTIFICATE"))
    write("bundle-der", certs[0].public_bytes(Encoding.DER))
    write("bundle-torn", b"".join(pem)[:-40])
    many = [CA("CA %d" % i).cert.public_bytes(Encoding.PEM) for i in range(33)]
    write("bundle-33", b"".join(many))
    write("bundle-32", b"".join(many[:32]))


def make_user(kind):
    """A key, its certificate, the CA's, for a PFX."""
    key = {"rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
           "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
           "p384": lambda: ec.generate_private_key(ec.SECP384R1())}[kind]()
    root = CA("Test Root")
    inter = CA("Test Issuing CA", root)
    # keytool and certtool look at the real clock
    now = datetime.datetime.utcnow()
    cert = leaf(inter, key, begin=now - DAY, end=now + 365 * DAY)
    write("key.p8", pkcs8(key))
    write("leaf.der", cert.public_bytes(Encoding.DER))
    write("inter.der", inter.der())
    write("root.der", root.der())


def read_pfx(file, password_file, friendly):
    loaded = pkcs12.load_pkcs12(read(file), read(password_file))
    assert pkcs8(loaded.key) == read("key.p8"), "another key"
    assert loaded.cert.certificate.public_bytes(Encoding.DER) == read("leaf.der"), "another leaf"
    assert loaded.cert.friendly_name.decode() == friendly, loaded.cert.friendly_name
    chain = [c.certificate.public_bytes(Encoding.DER) for c in loaded.additional_certs]
    assert chain == [read("inter.der")], "another chain"


def elements(der):
    """(tag, content) of each element of a DER string: definite lengths only."""
    found = []
    while der:
        tag, length, at = der[0], der[1], 2
        if length >= 0x80:
            at += length & 0x7F
            length = int.from_bytes(der[2:at], "big")
        assert len(der) >= at + length, "torn DER"
        found.append((tag, der[at:at + length]))
        der = der[at + length:]
    return found


def inside(der, *path):
    """The content of the element at these places, from the outermost one on."""
    for place in path:
        der = elements(der)[place][1]
    return der


def oid(content):
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(n) for n in [first, numbers[0] - 40 * first, *numbers[1:]])


def algorithm(der):
    """An AlgorithmIdentifier as (object identifier, DER of its parameters)."""
    parts = elements(der)
    return oid(parts[0][1]), parts[1][1]


def scheme_of(der):
    """What an AlgorithmIdentifier of password-based encryption says, in words."""
    name_of, parameters = algorithm(der)
    if name_of != "1.2.840.113549.1.5.13":
        salt, iterations = elements(parameters)
        return name_of, len(salt[1]), int.from_bytes(iterations[1], "big")
    kdf, cipher = elements(parameters)
    kdf_oid, kdf_parameters = algorithm(kdf[1])
    salt, iterations, *rest = elements(kdf_parameters)
    cipher_oid, iv = algorithm(cipher[1])
    return (name_of, kdf_oid, len(salt[1]), int.from_bytes(iterations[1], "big"),
            algorithm(rest[-1][1])[0], cipher_oid, len(iv))


SCHEMES = {
    # pbeWithSHAAnd3-KeyTripleDES-CBC, 8 bytes of salt; MAC by SHA-1
    "compat": (("1.2.840.113549.1.12.1.3", 8, 2048), "1.3.14.3.2.26", 20),
    # PBES2: PBKDF2, 16 bytes of salt, hmacWithSHA256, aes256-CBC; MAC by SHA-256
    "modern": (("1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", 16, 2048,
                "1.2.840.113549.2.9", "2.16.840.1.101.3.4.1.42", 16),
               "2.16.840.1.101.3.4.2.1", 32),
}


def read_scheme(file, profile):
    """Every algorithm in a PFX is the profile's, in the key bag and around the certificates."""
    scheme, mac_oid, mac_len = SCHEMES[profile]
    version, safe, mac = elements(inside(read(file), 0))
    assert version == (2, b"\3")
    assert oid(elements(safe[1])[0][1]) == "1.2.840.113549.1.7.1"
    safes = elements(inside(safe[1], 1, 0, 0))
    assert len(safes) == 2, "a safe of certificates and one of the key"
    kinds = {}
    for _, content in safes:
        kind, body = elements(content)
        kinds[oid(kind[1])] = body[1]
    encrypted = inside(kinds["1.2.840.113549.1.7.6"], 0)
    assert scheme_of(inside(encrypted, 1, 1)) == scheme, scheme_of(inside(encrypted, 1, 1))
    bags = elements(inside(kinds["1.2.840.113549.1.7.1"], 0, 0))
    assert len(bags) == 1 and oid(inside(bags[0][1], 0)) == "1.2.840.113549.1.12.10.1.2"
    shrouded = inside(bags[0][1], 1, 0)
    assert scheme_of(inside(shrouded, 0)) == scheme, scheme_of(inside(shrouded, 0))
    info, salt, iterations = elements(mac[1])
    assert oid(inside(info[1], 0, 0)) == mac_oid
    assert len(inside(info[1], 1)) == mac_len
    assert len(salt[1]) == 8, "macOS and iOS take no longer one"
    assert int.from_bytes(iterations[1], "big") == 2048


def pkcs12_kdf(password, salt, purpose, iterations, length):
    """RFC 7292 appendix B.2 with SHA-1."""
    size, block = 20, 64
    bmp = password.encode("utf-16-be") + b"\0\0"

    def stretched(data):
        return (data * block)[:-(-len(data) // block) * block]

    mixed = bytearray(stretched(salt) + stretched(bmp))
    out = b""
    while len(out) < length:
        a = bytes([purpose]) * block + bytes(mixed)
        for _ in range(iterations):
            a = hashlib.sha1(a).digest()
        out += a
        b = int.from_bytes((a * block)[:block], "big") + 1
        for at in range(0, len(mixed), block):
            value = (int.from_bytes(mixed[at:at + block], "big") + b) % (1 << 8 * block)
            mixed[at:at + block] = value.to_bytes(block, "big")
    assert size * -(-length // size) == len(out)
    return out[:length]


def print_kdf(password, salt, iterations):
    """Triple DES key, with the odd parity of each byte, and IV."""
    key = pkcs12_kdf(password, salt.encode(), 1, int(iterations), 24)
    key = bytes(b & 0xFE | (bin(b >> 1).count("1") + 1) % 2 for b in key)
    print(key.hex(), pkcs12_kdf(password, salt.encode(), 2, int(iterations), 8).hex())


def make_cng(file):
    """BCRYPT_RSAPUBLIC_BLOB as Microsoft publishes it, from what openssl says of the key."""
    said = subprocess.run(["openssl", "rsa", "-pubin", "-inform", "DER", "-in", file, "-noout",
                           "-modulus", "-text"], check=True, capture_output=True).stdout.decode()
    modulus = int(re.search("^Modulus=([0-9A-F]+)$", said, re.M).group(1), 16)
    exponent = int(re.search(r"^Exponent: (\d+) ", said, re.M).group(1))
    sizes = [(n.bit_length() + 7) // 8 for n in (exponent, modulus)]
    write("cng", struct.pack("<4s5I", b"RSA1", modulus.bit_length(), *sizes, 0, 0) +
          exponent.to_bytes(sizes[0], "big") + modulus.to_bytes(sizes[1], "big"))


def read_csr(file, spki_file, common_name, *emails):
    csr = x509.load_der_x509_csr(read(file))
    assert csr.is_signature_valid
    assert csr.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert not san.critical and len(csr.extensions) == 3
    assert csr.extensions.get_extension_for_class(x509.KeyUsage).critical
    usage = csr.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]
    assert san.value.get_values_for_type(x509.RFC822Name) == list(emails)
    assert len(list(san.value)) == len(emails)
    assert csr.public_key().public_bytes(
        Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) == read(spki_file)
    print(csr.signature_hash_algorithm.name)


def unbase64url(text):
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_jwt(file, pem_file, alg, thumbprint, audience, client, jti, now):
    header, claims, signature = read(file).decode("ascii").split(".")
    assert json.loads(unbase64url(header)) == {
        "alg": alg, "typ": "JWT",
        "x5t#S256": base64.urlsafe_b64encode(bytes.fromhex(thumbprint)).rstrip(b"=").decode()}
    assert json.loads(unbase64url(claims)) == {
        "aud": audience, "iss": client, "sub": client, "jti": jti, "nbf": int(now),
        "iat": int(now), "exp": int(now) + 300}
    key = serialization.load_pem_public_key(read(pem_file))
    scheme = padding.PKCS1v15() if alg == "RS256" else padding.PSS(
        padding.MGF1(hashes.SHA256()), 32)
    digest = hashlib.sha256((header + "." + claims).encode()).digest()
    key.verify(unbase64url(signature), digest, scheme, utils.Prehashed(hashes.SHA256()))


def mgf1(hash_name, seed, length):
    out = b""
    for i in range(length):
        if len(out) >= length:
            break
        out += hashlib.new(hash_name, seed + i.to_bytes(4, "big")).digest()
    return out[:length]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def make_oaep(hash_name, size):
    """Encoded messages, right and wrong, as RFC 8017 section 7.1.1 builds them."""
    k = int(size)
    h = hashlib.new(hash_name).digest_size
    lhash = hashlib.new(hash_name, b"").digest()
    room = k - 2 * h - 2
    seed = hashlib.shake_256(b"seed").digest(h)

    def encode(data_block, first=0):
        assert len(data_block) == k - h - 1
        masked = xor(data_block, mgf1(hash_name, seed, len(data_block)))
        return bytes([first]) + xor(seed, mgf1(hash_name, masked, h)) + masked

    def block(message, lhash=lhash, fill=b"\0", mark=b"\1"):
        return lhash + fill * (room - len(message)) + mark + message

    write("good", encode(block(b"hello\0\1world")))
    write("good-empty", encode(block(b"")))
    write("good-full", encode(block(b"\1" * room)))
    write("bad-first", encode(block(b"hello"), 1))
    write("bad-lhash", encode(block(b"hello", lhash=bytes(h))))
    write("bad-label", encode(block(b"hello", lhash=hashlib.new(hash_name, b"x").digest())))
    write("bad-fill", encode(block(b"hello", fill=b"\2")))
    write("bad-fill-late", encode(lhash + b"\0" * (room - 6) + b"\2\1hello"))
    write("bad-mark", encode(block(b"hello", mark=b"\2")))
    write("bad-no-mark", encode(lhash + bytes(room + 1)))
    write("bad-other-hash", bytes(k))


def make_rsa(bits):
    """A key of exactly this many bits: OpenSSL makes odd lengths one bit shorter."""
    bits = int(bits)
    while True:
        p = rsa.generate_private_key(public_exponent=65537, key_size=bits // 2 * 2)
        q = rsa.generate_private_key(public_exponent=65537, key_size=(bits + 1) // 2 * 2)
        p, q = p.private_numbers().p, q.private_numbers().p
        if (p * q).bit_length() == bits and p != q:
            break
    d = pow(65537, -1, (p - 1) * (q - 1))
    key = rsa.RSAPrivateNumbers(p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q),
                                rsa.rsa_crt_iqmp(p, q),
                                rsa.RSAPublicNumbers(65537, p * q)).private_key()
    write("key.pem", key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                       serialization.NoEncryption()))


COMMANDS = {"pki": make_pki, "user": make_user, "pfx": read_pfx, "csr": read_csr, "jwt": read_jwt,
            "oaep": make_oaep, "rsa": make_rsa, "scheme": read_scheme, "kdf": print_kdf,
            "cng": make_cng}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
