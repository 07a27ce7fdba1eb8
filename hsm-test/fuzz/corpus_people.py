"""Inputs for the target sshsig: signatures of every kind of key, each with one thing wrong, and
rosters."""

import base64
import hashlib
import json
import os
import struct
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from make_corpus import ROOT

sys.path.insert(0, os.path.join(ROOT, "hsm-test", "unit"))
from ssh_oracle import SecurityKey, armor, mpint, string  # noqa: E402

MESSAGE = b"message"


def public_ec(key):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def signed(namespace="pfx-agent", hash_name="sha512", reserved=""):
    digest = hashlib.new(hash_name, MESSAGE).digest()
    return b"SSHSIG" + string(namespace) + string(reserved) + string(hash_name) + string(digest)


def blob(key, signature, namespace="pfx-agent", hash_name="sha512", version=1, reserved=""):
    return b"SSHSIG" + struct.pack(">I", version) + string(key) + string(namespace) + \
        string(reserved) + string(hash_name) + string(signature)


def signatures():
    """name -> blob of a good one"""
    rows, keys = {}, {}
    ed = ed25519.Ed25519PrivateKey.generate()
    raw = ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    keys["ed"] = string("ssh-ed25519") + string(raw)
    rows["ed"] = blob(keys["ed"], string("ssh-ed25519") + string(ed.sign(signed())))
    rows["ed-sha256"] = blob(keys["ed"], string("ssh-ed25519") + string(ed.sign(signed(
        hash_name="sha256"))), hash_name="sha256")
    rows["ed-git"] = blob(keys["ed"], string("ssh-ed25519") + string(ed.sign(signed("git"))), "git")
    for bits, curve, digest in ((256, ec.SECP256R1(), hashes.SHA256()),
                                (384, ec.SECP384R1(), hashes.SHA384()),
                                (521, ec.SECP521R1(), hashes.SHA512())):
        key, name = ec.generate_private_key(curve), "ecdsa-sha2-nistp%d" % bits
        keys["ec%d" % bits] = string(name) + string("nistp%d" % bits) + string(public_ec(key))
        r, s = decode_dss_signature(key.sign(signed(), ec.ECDSA(digest)))
        rows["ec%d" % bits] = blob(keys["ec%d" % bits], string(name) + string(mpint(r) + mpint(s)))
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    keys["rsa"] = string("ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)
    for name, digest in (("rsa-sha2-256", hashes.SHA256()), ("rsa-sha2-512", hashes.SHA512())):
        rows[name] = blob(keys["rsa"], string(name) + string(key.sign(signed(), padding.PKCS1v15(),
                                                                     digest)))
    for kind in ("sk-ed25519", "sk-ecdsa"):
        key = SecurityKey(kind)
        keys[kind] = key.blob
        for what, flags in (("", 1), ("-untouched", 0)):
            text = "".join(key.sign(MESSAGE, flags).split("\n")[1:-2])
            rows[kind + what] = base64.b64decode(text)
    return rows, keys


def sshsig():
    good, keys = signatures()
    rows = {"text-" + name: b"text\n" + armor(one).encode() for name, one in good.items()}
    bad = dict(good)
    bad.update({
        "version": blob(keys["ed"], b"", version=2), "reserved": blob(keys["ed"], b"", reserved="x"),
        "hash": blob(keys["ed"], b"", hash_name="md5"), "torn": good["ed"][:60],
        "behind": good["ed"] + b"x", "no-signature": blob(keys["ed"], string("ssh-ed25519")),
        "empty": b"", "magic": b"SSHSIG", "strings": b"SSHSIG\0\0\0\1\xff\xff\xff\xff",
        "other-algorithm": blob(keys["ed"], string("ssh-rsa") + string(b"x")),
        "rsa-sha1": blob(keys["rsa"], string("ssh-rsa") + string(b"x" * 256)),
        "sk-no-flags": blob(keys["sk-ed25519"], string("sk-ssh-ed25519@openssh.com") + string(b"x")),
        "long": b"SSHSIG" + bytes(5000), "ed-wrong": good["ed"][:-1] + bytes([good["ed"][-1] ^ 1]),
    })
    inner = string("ecdsa-sha2-nistp256")
    for what, rs in (("zero", mpint(0) + mpint(0)), ("negative", string(b"\x80") + mpint(1)),
                     ("padded", string(b"\0\1") + mpint(1)), ("one", mpint(5)), ("long", mpint(
                         1 << 600) + mpint(1)), ("more", mpint(1) + mpint(1) + b"x"),
                     ("empty", string(b"") + mpint(1)), ("small", mpint(1) + mpint(1))):
        bad["rs-" + what] = blob(keys["ec256"], inner + string(rs))
    for what, key in (
            ("type", string("ssh-dss")), ("none", b""), ("ed-short", string("ssh-ed25519") + string(b"x")),
            ("curve", string("ecdsa-sha2-nistp256") + string("nistp384") + string(bytes(65))),
            ("point", string("ecdsa-sha2-nistp256") + string("nistp256") + string(b"\4" + bytes(63) + b"\1")),
            ("compressed", string("ecdsa-sha2-nistp256") + string("nistp256") + string(b"\2" + bytes(32))),
            ("rsa-1024", string("ssh-rsa") + mpint(65537) + mpint((1 << 1023) + 1)),
            ("rsa-e", string("ssh-rsa") + mpint(1 << 80) + mpint((1 << 2047) + 1)),
            ("rsa-torn", string("ssh-rsa") + mpint(65537)),
            ("rsa-even", string("ssh-rsa") + mpint(2) + mpint(1 << 2047)),
            ("behind", keys["ed"] + b"x"), ("application", keys["sk-ed25519"][:-8] + string("")),
            ("no-application", keys["sk-ed25519"][:-8]), ("cert", string("ssh-ed25519-cert-v01@openssh.com"))):
        bad["key-" + what] = blob(key, string("ssh-ed25519") + string(bytes(64)))
    rows.update({"blob-" + name: b"blob\n" + base64.b64encode(one) for name, one in bad.items()})
    text = armor(good["ed"]).encode()
    for what, one in (("empty", b""), ("begin", text[:30]), ("cut", text[:-3]), ("behind", text + b"x"),
                      ("base64", text.replace(b"U", b"!", 1)), ("long", text.replace(b"\n", b"\n" * 200)),
                      ("much", text[:30] + b"A" * 9000 + b"\n" + text[-28:])):
        rows["text-no-" + what] = b"text\n" + one
    rows.update(rosters(keys))
    rows.update(records())
    rows["any"] = b"?\nann ssh-ed25519 AAAA"
    return rows


def rosters(keys):
    line = {name: "%s %s" % (key[4:4 + struct.unpack(">I", key[:4])[0]].decode(),
                             base64.b64encode(key).decode()) for name, key in keys.items()}
    ed, other = line["ed"], line["ec256"]
    texts = {
        "all": "# all\n\n" + "".join("p%d %s comment\n" % (i, key) for i, key in enumerate(line.values())),
        "one": "ann " + ed, "crlf": "ann %s\r\n" % ed, "tabs": "ann\t%s\t\n" % ed, "empty": "",
        "two-keys": "ann %s\nann %s\n" % (ed, other), "key-twice": "ann %s\nbob %s\n" % (ed, ed),
        "case": "ann %s\nAnn %s\n" % (ed, other), "list": "ann,bob " + ed, "pattern": "* " + ed,
        "ca": "ann cert-authority " + ed, "namespaces": 'ann namespaces="git,pfx-*" ' + ed,
        "not": 'ann namespaces="!pfx-agent,*" ' + ed, "stars": 'ann namespaces="p*x*a*t,**" ' + ed,
        "none": 'ann namespaces="" ' + ed, "twice": 'ann namespaces="a",namespaces="b" ' + ed,
        "other-namespace": 'ann namespaces="git" ' + ed, "prefix": 'ann namespaces="pfx" ' + ed,
        "after": 'ann valid-after="20990101Z" ' + ed, "before": 'ann valid-before="202001010000Z" ' + ed,
        "both": 'ann valid-after="20200101Z",valid-before="20990101235959Z" ' + ed,
        "bare": "ann valid-after=20200101Z " + ed, "no-z": 'ann valid-after="20200101" ' + ed,
        "digits": 'ann valid-after="2020010xZ" ' + ed, "year": 'ann valid-after="x0200101Z" ' + ed,
        "length": 'ann valid-after="202001011Z" ' + ed, "date": 'ann valid-after="20209901Z" ' + ed,
        "short": 'ann valid-after="Z" ' + ed, "unknown": "ann no-pty " + ed, "quote": 'ann "x ' + ed,
        "alone": "ann", "no-key": "ann ssh-ed25519", "base64": "ann ssh-ed25519 !!", "type": "ann ssh-rsa "
        + ed.split()[1], "long-name": "a" * 200 + " " + ed, "many": "".join(
            "p%d %s\n" % (i, "ssh-ed25519 " + base64.b64encode(string("ssh-ed25519") + string(
                hashlib.sha256(b"%d" % i).digest())).decode()) for i in range(130)), "nul": "ann\0",
    }
    rows = {"roster-" + name: b"roster\n" + text.encode() for name, text in texts.items()}
    rows["roster-long"] = b"roster\n" + b"#" * 40000
    return rows


def canonical(members):
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


def records():
    """Statements and records of approvals, good ones and odd ones."""
    bob, cid = SecurityKey("sk-ed25519"), SecurityKey("sk-ecdsa")
    args, at = '{"generation":1}', "2026-11-22T08:00:00.000Z"
    statement = {"args_hash": hashlib.sha256(args.encode()).hexdigest(), "command": "key.destroy",
                 "expiry": "2026-11-22T09:00:00.000Z", "nonce": "ab" * 32, "origin": "h/pfx-agent"}
    text = canonical(statement)

    def given(name, key, **how):
        line = how.pop("line", "%s %s" % (name, key.line()))
        return dict({"at": at, "line": line, "principal": name,
                     "signature": key.sign(text.encode())}, **how)

    def by_uid(uid, **how):
        return dict({"at": at, "principal": "uid:%d" % uid, "uid": uid}, **how)
    good = {"args": args, "asker": "ann", "given": [given("bob", bob), given("cid", cid)],
            "mode": "ssh", "needed": 2, "statement": text, "uid": 7}
    rows = {"statement-good": text, "statement-args": args, "statement-no": "{}",
            "statement-spaces": json.dumps(statement), "statement-group": '{"a":{"b":1}}',
            "statement-long": canonical(dict(statement, origin="x" * 1100)), "record-good": canonical(good)}
    for name, value in (("args_hash", "x"), ("nonce", "AB" * 32), ("expiry", "2026-11-22"), ("command", ""),
                        ("origin", ""), ("origin", 7), ("expiry", 7), ("command", "x" * 60), ("more", "x"),
                        ("command", "\u00e4"), ("expiry", "2026-11-22T09:00:00Z")):
        rows["statement-%s-%d" % (name, len(rows))] = canonical(dict(statement, **{name: value}))
    uid = dict(good, mode="uid", given=[by_uid(1), by_uid(2)], asker="uid:7")
    for what, change in (
            ("by-uid", uid), ("by-uid-twice", dict(uid, given=[by_uid(1), by_uid(1)])),
            ("by-uid-asker", dict(uid, given=[by_uid(7), by_uid(1)])), ("by-uid-name", dict(
                uid, given=[by_uid(1, principal="uid:2"), by_uid(3)])),
            ("by-uid-signed", dict(good, mode="uid")), ("unsigned", dict(good, given=[by_uid(1), by_uid(2)])),
            ("none", dict(good, given=[])), ("one", dict(good, given=good["given"][:1])),
            ("same", dict(good, given=[good["given"][0]] * 2)), ("self", dict(good, asker="bob")),
            ("late", dict(good, given=[given("bob", bob, at="2026-11-23T08:00:00.000Z"), good["given"][1]])),
            ("other-args", dict(good, args="{}")), ("bad-args", dict(good, args="x")),
            ("five", dict(good, given=good["given"] * 3)), ("needed", dict(good, needed=1)),
            ("needed-9", dict(good, needed=9)), ("needed-x", dict(good, needed="x")),
            ("mode", dict(good, mode="x")), ("uid-x", dict(good, uid=-1)), ("statement", dict(good, statement="x")),
            ("more", dict(good, more=1)), ("group", dict(good, given={"a": 1})), ("given-1", dict(good, given=[1])),
            ("at", dict(good, given=[given("bob", bob, at="x")])), ("principal", dict(
                good, given=[given("bob", bob, principal="")])),
            ("line", dict(good, given=[given("bob", bob, line="")])),
            ("other-line", dict(good, given=[given("bob", bob, line="bob " + cid.line()), good["given"][1]])),
            ("bad-line", dict(good, given=[given("bob", bob, line="bob x"), good["given"][1]])),
            ("more-given", dict(good, given=[given("bob", bob, more="x")])), ("given-uid", dict(
                good, given=[given("bob", bob, uid=-4)])),
            ("given-group", dict(good, given=[given("bob", bob, a={"b": 1})])),
            ("no-signature", dict(good, given=[{"at": at, "line": "bob " + bob.line(), "principal": "bob"}] * 2))):
        rows["record-" + what] = canonical(change)
    expired = canonical(dict(statement, expiry="2026-11-21T09:00:00.000Z"))
    rows["record-expired"] = canonical(dict(good, statement=expired))
    rows["record-long"] = "x" * 30000
    return {name: name.split("-")[0].encode() + b"\n" + one.encode() for name, one in rows.items()}
