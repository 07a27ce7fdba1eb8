"""What a certificate download holds, in each format, with the faults that knobs ask for."""

import datetime

from cryptography.hazmat.primitives.asymmetric import ec, rsa

import pki

P7 = "application/x-pkcs7-certificates"
FORMATS = ("p7b", "cer", "pem_all", "pem_noroot", "pem_nointermediate")
SWAPPED = {"signing": "key_management", "key_management": "signing", "dual_use": "signing"}


def leaf_of(order, authority, faults, now):
    """DER of the order's leaf, made anew where a fault asks for another one."""
    spec = dict(order.spec)
    key = spec["key"]
    start, end = order.period
    changed = False
    if "expired_cert" in faults:
        start, end = now - datetime.timedelta(days=400), now - datetime.timedelta(days=35)
        changed = True
    if "future_cert" in faults:
        start, end = now + datetime.timedelta(days=30), now + datetime.timedelta(days=395)
        changed = True
    if "wrong_addresses" in faults:
        spec["emails"] = ["somebody.else@elsewhere.invalid"]
        changed = True
    if "missing_address" in faults:
        spec["emails"] = spec["emails"][:-1]
        changed = True
    if "extra_address" in faults:
        spec["emails"] = spec["emails"] + ["one.too.many@elsewhere.invalid"]
        changed = True
    if "wrong_key_usage" in faults:
        spec["primary_usage"], spec["additional_usages"] = SWAPPED[spec["primary_usage"]], []
        changed = True
    if "foreign_leaf" in faults:
        key = foreign_key(key)
        changed = True
    if changed or "other_root" in faults:
        raw = pki.der(pki.issue_leaf(authority, key, spec, start, end))
    else:
        raw = pki.der(order.leaf(authority))
    if "bad_signature" in faults:
        raw = raw[:-8] + bytes([raw[-8] ^ 0x55]) + raw[-7:]
    if "malformed_cert" in faults:
        raw = raw[:len(raw) * 2 // 3]
    return raw


def foreign_key(key):
    """The public half of another key of the same kind and size."""
    if isinstance(key, rsa.RSAPublicKey):
        return rsa.generate_private_key(65537, key.key_size).public_key()
    return ec.generate_private_key(key.curve).public_key()


def certificates(order, authority, fmt, faults, now):
    """The DER certificates of a download, in its order."""
    leaf = leaf_of(order, authority, faults, now)
    chain = [pki.der(authority.certificate)] + [pki.der(c) for c in authority.above]
    intermediates, root = chain[:-1], chain[-1:]
    if fmt == "pem_noroot" or "no_root" in faults:
        root = []
    if fmt == "pem_nointermediate" or "no_intermediate" in faults:
        intermediates = []
    leaves = [] if "no_leaf" in faults else [leaf]
    if "foreign_leaf_added" in faults:
        leaves = [leaf_of(order, authority, ["foreign_leaf"], now)] + leaves
    if "empty" in faults:
        return []
    if "shuffled" in faults:
        return intermediates + leaves[::-1] + root
    leaf_first = fmt.startswith("pem_") and "leaf_last" not in faults or "leaf_first" in faults
    if leaf_first:
        return leaves + intermediates + root
    return root + intermediates[::-1] + leaves


def bundle(order, authority, fmt, faults, label, now):
    """(content type, bytes) of a download; label is the p7b_label setting."""
    found = certificates(order, authority, fmt, faults, now)
    for fault, other in (("label_pkcs7", "PKCS7"), ("label_cms", "CMS"), ("pem", "PEM"),
                         ("der", "DER")):
        if fault in faults:
            label = other
    if fmt.startswith("pem_") or label == "PEM":
        text = b"".join(pki.armor("CERTIFICATE", raw) for raw in found)
        # DigiCert's PEM files have Windows line ends.
        kind = "application/x-pem-file" if fmt.startswith("pem_") else P7
        return kind, text.replace(b"\n", b"\r\n")
    raw = pki.pkcs7_bundle(found)
    return P7, raw if label == "DER" else pki.armor(label, raw)
