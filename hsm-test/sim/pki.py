"""Test PKI of the simulators: the TLS root, the S/MIME root and intermediate, and the leaves."""

import base64
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

ORGANIZATION_IDENTIFIER = ObjectIdentifier("2.5.4.97")
CRL_URL = "http://crl.pfx-sim.invalid/smime-intermediate.crl"
AIA_URL = "http://aia.pfx-sim.invalid/smime-intermediate.cer"

# CA/Browser Forum S/MIME policies: 2.23.140.1.5.<validation>.<profile>
POLICY_VALIDATION = {"mailbox": 1, "organization": 2, "sponsor": 3}
POLICY_PROFILE = {"legacy": 1, "multipurpose": 2, "strict": 3}

HASHES = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}


def name(*pairs):
    """An X.509 name of (oid, text) pairs; pairs without text are left out."""
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs if text])


def write_file(path, data, mode=0o644):
    """Replace path by data in one step, so that no reader ever sees half of it."""
    temporary = path + ".new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)


def pem(*certificates):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def utc_now():
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)


def key_usage(*wanted):
    bits = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{bit: bit in wanted for bit in bits})


class Authority:
    """A CA: its key, its certificate and the certificates above it (nearest first)."""

    def __init__(self, key, certificate, above=()):
        self.key = key
        self.certificate = certificate
        self.above = list(above)

    def aki(self):
        ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski.value)


def make_authority(common_name, key, issuer=None, days=3650, path_length=None):
    """A root (no issuer) or an intermediate below issuer."""
    subject = name((NameOID.COUNTRY_NAME, "CH"), (NameOID.ORGANIZATION_NAME, "pfx-sim"),
                   (NameOID.COMMON_NAME, common_name))
    start = utc_now() - datetime.timedelta(days=365)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(True, path_length), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer:
        builder = builder.add_extension(issuer.aki(), critical=False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    above = [issuer.certificate] + issuer.above if issuer else []
    return Authority(key, certificate, above)


def make_tls(folder):
    """Write tls-ca.pem and the servers' key with certificate; return the path of the latter."""
    return make_tls_and_root(folder)[0]


def make_tls_and_root(folder):
    root = make_authority("pfx-sim TLS root", ec.generate_private_key(ec.SECP256R1()))
    key = ec.generate_private_key(ec.SECP256R1())
    start = utc_now() - datetime.timedelta(days=1)
    san = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name((NameOID.COMMON_NAME, "localhost")))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName(san), critical=False)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(root.aki(), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    write_file(os.path.join(folder, "tls-ca.pem"), pem(root.certificate))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    path = os.path.join(folder, "tls-server.pem")
    write_file(path, private + pem(certificate), 0o600)
    return path, root


def make_smime(folder):
    """Make the S/MIME root and intermediate, write their certificates, return the intermediate."""
    root = make_authority("pfx-sim S/MIME root", rsa.generate_private_key(65537, 3072))
    key = rsa.generate_private_key(65537, 2048)
    intermediate = make_authority("pfx-sim S/MIME issuing CA", key, issuer=root, days=3000,
                                  path_length=0)
    write_file(os.path.join(folder, "smime-root.pem"), pem(root.certificate))
    write_file(os.path.join(folder, "smime-intermediate.pem"), pem(intermediate.certificate))
    return intermediate


def make_other_smime():
    """An intermediate under a root that nobody trusts; EC, because it is made on demand."""
    root = make_authority("pfx-sim untrusted root", ec.generate_private_key(ec.SECP256R1()))
    return make_authority("pfx-sim untrusted issuing CA", ec.generate_private_key(ec.SECP256R1()),
                          issuer=root, days=3000, path_length=0)


def usage_for(public_key, primary, additional):
    """Key usage bits of a leaf: what the purpose asks and the key's kind can do."""
    bits = []
    if primary in ("signing", "dual_use"):
        bits.append("digital_signature")
        if "non_repudiation" in additional:
            bits.append("content_commitment")
    if primary in ("key_management", "dual_use"):
        is_rsa = isinstance(public_key, rsa.RSAPublicKey)
        bits.append("key_encipherment" if is_rsa else "key_agreement")
    return bits


def subject_for(spec):
    """Subject of a leaf by product kind and common name; a CN over 64 characters is left out."""
    pairs = []
    if spec["kind"] in ("sponsor", "organization"):
        organization = spec["organization"]
        pairs += [(NameOID.COUNTRY_NAME, organization["country"]),
                  (NameOID.ORGANIZATION_NAME, organization["name"]),
                  (ORGANIZATION_IDENTIFIER, organization["identifier"])]
    if spec["kind"] == "sponsor" and (spec.get("individual") or {}).get("pseudonym"):
        pairs.append((NameOID.PSEUDONYM, spec["individual"]["pseudonym"]))
    elif spec["kind"] == "sponsor" and spec.get("individual"):
        pairs += [(NameOID.GIVEN_NAME, spec["individual"].get("first_name")),
                  (NameOID.SURNAME, spec["individual"].get("last_name"))]
    common = spec["common_name"]
    pairs.append((NameOID.COMMON_NAME, common if len(common) <= 64 else None))
    return name(*pairs)


def random_serial():
    return x509.random_serial_number()


def issue_leaf(authority, public_key, spec, not_before, not_after, serial=None):
    """Sign the S/MIME certificate that spec (see digicert_rules) describes."""
    subject = subject_for(spec)
    eku = [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    if "client_auth" in spec["additional_usages"] or spec.get("client_auth"):
        eku.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    policy = ObjectIdentifier("2.23.140.1.5.%d.%d" % (
        POLICY_VALIDATION[spec["kind"]], POLICY_PROFILE[spec["profile"]]))
    ca_issuers = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.CA_ISSUERS,
                                        x509.UniformResourceIdentifier(AIA_URL))
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_URL)], None, None, None)
    usage = usage_for(public_key, spec["primary_usage"], spec["additional_usages"])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(serial or random_serial())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(authority.aki(), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.BasicConstraints(False, None), critical=False)
        .add_extension(key_usage(*usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(eku), critical=False)
        .add_extension(x509.CertificatePolicies([x509.PolicyInformation(policy, None)]),
                       critical=False)
        .add_extension(x509.CRLDistributionPoints([crl]), critical=False)
        .add_extension(x509.AuthorityInformationAccess([ca_issuers]), critical=False)
    )
    if spec["emails"]:
        san = x509.SubjectAlternativeName([x509.RFC822Name(e) for e in spec["emails"]])
        # RFC 5280, 4.2.1.6: an empty subject makes the SAN critical.
        builder = builder.add_extension(san, critical=not list(subject))
    return builder.sign(authority.key, HASHES[spec["signature_hash"]]())


# A degenerate PKCS#7 is written by hand because the library sorts the certificates, and the order
# is one of the things that clients get wrong.

def _tlv(tag, content):
    length = len(content)
    if length < 128:
        head = bytes([tag, length])
    else:
        raw = length.to_bytes((length.bit_length() + 7) // 8, "big")
        head = bytes([tag, 0x80 | len(raw)]) + raw
    return head + content


def pkcs7_bundle(certificates):
    """DER of a certs-only SignedData (RFC 2315) with the DER certificates in the given order."""
    signed_data_oid = bytes.fromhex("06092a864886f70d010702")
    data_oid = bytes.fromhex("06092a864886f70d010701")
    inner = (_tlv(0x02, b"\x01") + _tlv(0x31, b"") + _tlv(0x30, data_oid)
             + _tlv(0xA0, b"".join(certificates)) + _tlv(0x31, b""))
    return _tlv(0x30, signed_data_oid + _tlv(0xA0, _tlv(0x30, inner)))


def armor(label, data):
    """PEM with 64 characters a line."""
    text = base64.b64encode(data).decode("ascii")
    lines = [text[i:i + 64] for i in range(0, len(text), 64)]
    whole = "-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, "\n".join(lines), label)
    return whole.encode("ascii")
