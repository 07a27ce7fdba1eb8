"""Inputs for the targets of small texts, names, stored state, log folders; and who writes all."""

import base64
import glob
import hashlib
import json
import os
import re

import corpus_policy
from make_corpus import GUID, HERE, PEM, ROOT, SPKI, Maker, read, wire_names



def text():
    rows = {}
    lists = {
        "time": ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00.120Z", "2026-11-22T08:00:00+05:30",
                 "2026-11-22t08:00:00.123456789012z", "2026-02-29T00:00:00Z", "1969-12-31T23:59:59Z",
                 "9999-12-31T23:59:59Z", "2026-11-22", "2026-13-01", "2026-11-22 08:00:00",
                 "2026-11-22T24:00:00Z", "2026-11-22T08:00:60Z", "1970-01-01T00:00:00+23:59",
                 "2026-11-22T08:00:00.Z", "2026-11-22T08:00:00.1234567890123Z", "2024-02-29",
                 "2026-11-22T08:00:00-24:00", "2026-11-22T08:00:00", "", "x"),
        "url": ("/groups\nhttps://graph.example/tenant/groups/1?x=y", "/g\nhttps://graph.example/tenant/g",
                "/g\nhttps://GRAPH.example:443/Tenant/G(1)", "/g\nhttps://graph.example/tenant/g/../x",
                "/g\nhttps://graph.example/tenant/g/%2e%2E/x", "/g\nhttp://graph.example/tenant/g",
                "/g\nhttps://u:p@graph.example/tenant/g", "/g\nhttps://graph.example.evil/tenant/g",
                "/g\nhttps://graph.example@evil/tenant/g", "/g\nhttps://graph.example/tenant/gx",
                "/g\nhttps://graph.example", "/g\nhttps://graph.example/other", "/g\nnot a url",
                "/g\nhttps://graph%2Eexample/tenant/g", "/g\nhttps://graph.example:8443/tenant/g",
                "/g\nhttps://graph.example/tenant/g#x", "/g\nhttps://graph.example./tenant/g",
                "/g\nhttps://[::1]/tenant/g", "/g\nx", "/g\nhttps://graph.example/tenant\\g",
                "/g\nhttps://graph.example/tenant/g" + "x" * 8300, "/g\n//a@b@c/d",
                "/g\nhttps://graph.example?/tenant/g", "/g\nhttps://graph.example/%2e/tenant/g"),
        "wait": ("5", "0.5", "1.5.5", "-1", "99999999999", "\n250", "\n1e3", "Wed, 21 Oct 2099 07:28:00 GMT",
                 "Wed, 21 Oct 2015 07:28:00 GMT", "inf", "0x10", "soon", "5 \n", "tomorrow at noon today!!"),
        "code": ("AAAA", "AAA=", "AA==", "AB==", "A", "____", "-_8", "00ff", "00FF", "0g", "000",
                 "a" * 41, "0" * 40 + " and " + "f" * 64 + "!", "0" * 39, "=", "+/+/"),
        "words": ("plain", "tab\tand\nlines", "\x1b[31mred", "bidi \u202e x", "\u00e4\u00f6\u4e2d\u6587",
                  "\U0001f600" * 5, "a" * 700, "ID: %s." % GUID, "Activity ID: %s" % GUID.upper(),
                  "ID: %sx" % GUID, "ID: short", "x Next: do it", "\u200b\ufeff", "\u0085\u2028",
                  "\\ \" \x7f", "  spaces   ", "\ud7ff\ue000", "a" * 638 + "\u00e9" * 9),
        "address": ("a@b.cd", "a@b.cd\nSMTP:A@B.CD\nsmtp:c@d.ef\nSIP:x@y.z", "\nsmtp:\u00fc@b.cd",
                    "a@b\u00fccher.de", "a@xn--bcher-kva.de", "a@xn--a", "x", "@b.cd", "a@",
                    "\"a b\"@c.de", "a@[1.2.3.4]", "a@1.2.3.4", "a..b@c.de", "a" * 65 + "@b.cd",
                    "a@" + "b" * 64 + ".de", "a@" + ".".join(["b" * 60] * 5), "a@tenant.onmicrosoft.com",
                    "a@-b.de", "a@b.c-", "a@b..c", "\n".join("smtp:a%d@b.cd" % i for i in range(70)),
                    "a@stra\u00dfe.de", "a@\u05d0\u0628.com", ".a@b.cd", "a b@c.de", "a@b@c.de"),
        "json": ("[]", '["a","b"]', '["\\u00e9\\n"]', "{}", "[1]", "[", "", "[[]]", "null"),
        "command": ("status", "", "enrolment\nlist\n--user\na@b.cd\n--json", "enrolment\nshow\n1",
                    "enrolmnt\nlist", "enrolment\nlst", "enrolment", "enrolment\n--help", "key\nshow",
                    "run\n--wait\n90s\n--dry-run", "run\n--wait=5m", "run\n--wait=2h", "run\n--wait\n1d",
                    "run\n--wait", "run\n--nothing", "run\n--dry_run", "--version", "--help",
                    "secret\nset\ndigicert\nvalue", "secret\nset\ndigicert\n--fd\n3",
                    "hsm\ntest\n--pin-fd\n0", "hsm\ntest\n--pin-fd\n1x", "hsm\ntest\n--pin-fd\n99999",
                    "status\nx", "status\n--json\n--json", "status\n--json=1", "log\ntail\n-f\n-n\n20",
                    "log\ntail\n-n20", "log\ntail\n-x", "log\ntail\n-fx", "--\nstatus", "x" * 300,
                    "pause\n--orders", "status\n--orders", "log\nexport", "log\nexport\na\nb\nc", "-",
                    "13h", "86401", "25h", "999999999999999", "d", "1.5h"),
    }
    for kind, values in lists.items():
        for i, value in enumerate(values):
            rows["%s-%02d" % (kind, i)] = (kind + "\n" + value).encode("utf-8", "surrogatepass")
    for i, value in enumerate((b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"a\xe2\x80", b"\xff")):
        rows["words-bytes-%d" % i] = b"words\n" + value * 3
    return rows


def names():
    """One of each script of names.tsv, and what isn't a name."""
    rows, seen = {}, set()
    for line in read("hsm-test", "unit", "names.tsv").decode().split("\n"):
        parts = line.split("\t")
        if line.startswith("#") or len(parts) != 6:
            continue
        chain = {"default": "default", "han": "han"}.get(parts[0], "latin")
        kind = (chain, parts[1], parts[4].startswith("!"))
        if kind in seen:
            continue
        seen.add(kind)
        plain = [p.encode().decode("unicode_escape") if p.isascii() and "\\u" not in p else p
                 for p in parts[2:4]]
        rows["%s-%03d" % (chain, len(rows))] = "\n".join([chain] + plain).encode()
    odd = ("Anna\n", "\nSchmidt", "A" * 65 + "\nB", "A" * 40 + "\n" + "B" * 40, "O\u2019Neil\nSmith-J\u00f6rg",
           "\u0130rem\n\u0131", "x\u200dy\nz\u00ad", "\u202eabc\nd", "\U0001f600\nx", "a\u0301\nb\u0323\u0301",
           "\u5c0f\n\u660e", "\u0410\u043b\u044c\n\u0431", "McDonald\nvan der Berg", "x<y\nz", "12\n34",
           "\ud83d\nx", "l\u00b7l\nx", "\ufb01\n\u1e9e", "  a  b \n\tc", "a\u0307" * 300 + "\nx", "@\n#",
           "\u0625\u0628\u0631\u0627\u0647\u064a\u0645\nx", "\u30bf\u30ca\u30ab\nx", "\uac00\nx", "\ue000\nx")
    for i, value in enumerate(odd):
        rows["odd-%02d" % i] = ("default\n" + value).encode("utf-8", "surrogatepass")
        rows["odd-latin-%02d" % i] = ("latin\n" + value).encode("utf-8", "surrogatepass")
    rows["bytes"] = b"default\n\xff\xfe\n\xc3"
    rows["long"] = b"default\n" + b"a" * 5000 + b"\nb"
    return rows


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pins_whole(head, pin):
    """Every line that there may be, and each of them wrong."""
    mac, since = "5f" * 32, "since 1795000000000\n"
    rest = since + "activated 1795000000001\ncompromised 1795000000002\nadopted 00ff\n"
    rest += "staged 1795000000000 1001\nscheduled by rotate_every\n"
    whole = (head + (pin % "compromised").replace(since, rest)
             + "connector CONN1 1795000000003 %s 0\nconnector CONN2 5 %s 1795000000004\n" % (mac, mac))
    wrong = [("staged 1795000000000", "staged 0"), ("0 1001", "0 x"), ("by rotate", "by hand"),
             ("adopted 00ff", "adopted 00FF"), ("adopted 00ff", "adopted "),
             ("adopted 00ff", "adopted 0"), ("adopted 00ff", "adopted " + "00" * 65),
             ("activated 1", "activated 01"), ("activated 1795000000001", "activated 0"),
             ("compromised 1", "compromised -1"), ("since 1", "since x1"), ("CONN2", "CONN1"),
             (mac + " 0", mac[:-2] + " 0"), (mac + " 0", mac.upper() + " 0"), (mac + " 0", mac),
             ("CONN1", "C" * 64), ("CONN1 ", " "), ("CONN2 5", "CONN2 x"),
             ("5 %s 1795000000004" % mac, "5 %s 9999999999999999" % mac),
             ("connector CONN2", "".join("connector X%d 0 %s 0\n" % (i, mac) for i in range(33))
              + "connector CONN2")]
    states = ("staged", "active", "suspended", "retired", "destroyed")
    return (whole, *[whole.replace(*pair) for pair in wrong], *[head + pin % one for one in states])


def standing():
    head, row = "pfx-agent standing keys v1\nserial 3\n", "key client-main %d %s 1795000000000\n"
    two = head + row % (1, "previous") + row % (2, "active")
    wrong = [("serial 3", "serial 03"), ("serial 3", "serial x"), ("keys v1", "keys v2"),
             ("key client", "kex client"), ("main 2", "main 0"), ("main 2", "main 3"),
             ("main 2", "main 02"), ("main 2", "main 1"), ("active", "lost"), ("active", "previous"),
             ("previous", "active"), ("client-main", "c" * 48), ("client-main 1", " 1"),
             ("active 1795000000000", "active -1"), ("active 1795000000000", "active"),
             ("main 2", "main 1000000"), ("1795000000000\n", "1795000000000")]
    return (head, two, two + "key mac 1 active 0\nkey wrapping 1 previous 0\nkey wrapping 2 active 5\n"
            "key wrapping 3 staged 6\n", two + row % (3, "making"), two[:-1],
            "pfx-agent standing keys v1\n", "pfx-agent standing keys v1\nserial 3", "",
            head + "".join(row % (i, "destroyed" if i > 1 else "active") for i in range(1, 34)),
            head + "".join("key k%d 1 active 0\n" % i for i in range(258)),
            *[two.replace(*pair) for pair in wrong])


def state():
    spki, key_id = b64u(b"k" * 91), "ab" * 16
    pin = "generation %d\nstate %s\nsince 1795000000000\nkey_name K %d\nprovider_name P\nspki %s\n"
    public = base64.b64encode(b"s" * 50).decode()
    head = "pfx-agent pins v2\nserial 7\n"
    sealed = ("pfx-agent secret v1\nname digicert\nchanged %s\nsealed_to " + "ab" * 32
              + "\noaep sha256\n")
    block = "sealed " + base64.b64encode(b"x" * 384).decode() + "\n"
    note = {"n": 1, "at": 1795000000000, "event": "order.placed", "outcome": "ok", "actor": "self",
            "enrolment": 5, "attempt": 1, "user": base64.b64encode(b"u" * 32).decode(),
            "order_id": 7, "thumbprint": base64.b64encode(b"t" * 20).decode(),
            "key_id": base64.b64encode(b"i" * 16).decode(), "count": 0, "fail_op": "o",
            "fail_code": "c", "name": "w"}
    lists = {
        "keyref": ("t1.%s.%s" % (key_id, spki), "w1.%s.%s.%s.%s" % (key_id, spki, b64u(b"b" * 99),
                                                                   b64u(b"m" * 32)),
                   *["w2.%s.%s.%s.%s.%s" % (key_id, spki, b64u(b"b" * 99), b64u(b"m" * 32), generation)
                     for generation in ("2", "999999", "1", "02", "1000000", "x", "")],
                   "t1.%s.%s" % (key_id.upper(), spki), "t1.ab.%s" % spki, "t1.%s." % key_id, "t2.a.b",
                   "t1.%s.%s.x" % (key_id, spki), "w1.%s.%s" % (key_id, spki), "x", "", "t1", "....",
                   ".....", "w1.%s.%s..%s" % (key_id, spki, b64u(b"m" * 32)), "t1.%s.%s=" % (key_id, spki),
                   "w1.%s.%s.%s.%s" % (key_id, spki, b64u(b"b" * 99), b64u(b"m" * 31))),
        "pins": (head, head + pin % (1, "active", 1, public), head + pin % (1, "making", 1, ""),
                 head + pin % (1, "active", 1, public) + pin % (2, "making", 2, ""),
                 head + pin % (1, "active", 1, public) + pin % (1, "making", 2, ""),
                 head + pin % (1, "active", 1, public) + pin % (2, "active", 2, public),
                 head + pin % (1, "active", 1, ""), head + pin % (1, "lost", 1, public),
                 head + (pin % (1, "active", 1, public)).replace("generation 1", "generation 01"),
                 head + (pin % (1, "active", 1, public)).replace("generation 1", "generation 1x"),
                 head + "generation 1\nstate", "pfx-agent pins v1\n", "pfx-agent pins v2\n", "",
                 "pfx-agent pins v2\nserial 0\n", "pfx-agent pins v2\nserial 4503599627370497\n",
                 head + "".join(pin % (i, "making", i, "") for i in range(1, 67)))
                + pins_whole(head, pin % (1, "%s", 1, public)),
        "sealed": (sealed % "5" + block, sealed % "5" + block * 2, sealed % "5" + block * 3,
                   sealed % "5", sealed % "+5" + block, sealed % "x" + block, sealed % "-5" + block,
                   sealed % "5" + "sealed !\n", (sealed % "5" + block).replace("oaep", "oeap"),
                   (sealed % "5" + block).replace("ab" * 32, "ab"), sealed % "5" + block[:-1], "x",
                   (sealed % "5" + block).replace("digicert", "d" * 40)),
        "standing": standing(), "question": corpus_policy.questions(), "force": corpus_policy.forces(),
        "begun": corpus_policy.begun(),
        "uri": ("pkcs11:token=x", "pkcs11:token=x;serial=1;manufacturer=m;model=o", "pkcs11:serial=5",
                "pkcs11:", "pkcs11:token=x?pin-value=1234", "pkcs11:token=x?pin-source=/pin",
                "pkcs11:token=x?module-path=/lib/x.so", "pkcs11:token=x?module-name=x",
                "pkcs11:token=x;slot-id=1", "pkcs11:token=x;object=y", "pkcs11:token=x;id=%01",
                "pkcs11:token=x;unknown=1", "pkcs11:token=%C3%A9", "pkcs11:token=%", "http://x", "",
                "pkcs11:manufacturer=m", "pkcs11:token=x;token=y", "PKCS11:token=x"),
        "ticket": (GUID + "\na@b.cd", GUID + "\nb@b.cd\nA@B.cd\na@b.cd", GUID, "", "u\n\n\n",
                   GUID + "\n" + "\n".join("a%d@b.cd" % i for i in range(18))),
        "notes": tuple(json.dumps({"notes": [dict(note, **change)]}) for change in (
            {}, {"event": "hsm.start"}, {"outcome": "pending"}, {"actor": "root"},
            {"actor": "operator", "uid": 1000}, {"at": 1 << 50}, {"n": 0}, {"generation": 3},
            {"pfx": base64.b64encode(b"p" * 32).decode(), "certificate":
             base64.b64encode(b"c" * 32).decode(), "transaction": "ab\u00e9"},
            {"event": "log.dropped", "outcome": "lost", "name": "\u4e2d" * 40})) + (
                '{"notes":[]}', "{}", "x", json.dumps({"notes": [note, dict(note, event="no")]})),
    }
    return {"%s-%02d" % (kind, i): (kind + "\n" + value).encode()
            for kind, values in lists.items() for i, value in enumerate(values)}


# --- folders of a log --------------------------------------------------------------------------


def entry(seq, pad=0):
    value = {"actor": {"role": "self"}, "boot": "b" * (1 + pad), "event": "start",
             "op": "01ARYZ6S41TSV4RRFFQ69G5FAV", "outcome": "ok", "phase": "note",
             "prev": "0" * 64, "seq": seq, "src": "hsm", "time": "2026-11-22T08:00:00.120Z",
             "up": 1, "v": 1}
    return json.dumps(value, separators=(",", ":")).encode()


def records(first, n):
    return b"".join(len(e).to_bytes(2, "big") + e for e in (entry(first + i) for i in range(n)))


def note(size, origin="log.example/1"):
    """A checkpoint in form; who signed it doesn't matter to a reader of the folder."""
    root = base64.b64encode(hashlib.sha256(b"%d" % size).digest()).decode()
    signature = base64.b64encode(b"\x01\x02\x03\x04" + b"s" * 64).decode()
    return ("%s\n%d\n%s\n\n\u2014 %s %s\n" % (origin, size, root, origin, signature)).encode()


def slot(text):
    rest = text + bytes(max(0, 4096 - 17 - len(text)))
    return hashlib.sha256(rest).hexdigest()[:16].encode() + b"\n" + rest


def folder(files):
    """In the form of memfs.h; whole slots as what is in them."""
    out = b""
    for file, content in files.items():
        text = content[17:].rstrip(b"\0")
        if content == slot(text) and b"\n@" not in text and text[-1:] == b"\n":
            out += b"@%s!\n" % file.encode() + text
        else:
            out += b"@%s:%d\n" % (file.encode(), len(content)) + content + b"\n"
    return out


def segment(first):
    return "entries/%020d" % first


def logdir():
    anchor = "log.example/1\n3\n" + "ab" * 12 + "\n2026-11-22T08:00:00Z\n"
    tile = b"".join(hashlib.sha256(b"\0" + entry(i)).digest() for i in range(256))
    base = {"checkpoint.0": slot(note(2)), "checkpoint.1": slot(note(3)),
            segment(0): records(0, 5) + bytes(100), "anchor": anchor.encode(),
            "checkpoints/%020d" % 2: note(2)}

    def but(**changes):
        files = dict(base)
        for key, value in changes.items():
            file = {"c0": "checkpoint.0", "c1": "checkpoint.1", "s0": segment(0),
                    "tile": "tile/0/000", "a": "anchor"}[key]
            if value is None:
                files.pop(file, None)
            else:
                files[file] = value
        return folder(files)
    torn = bytearray(slot(note(3)))
    torn[40] ^= 1
    later = {"checkpoint.0": slot(note(600)), segment(256): records(256, 256),
             segment(512): records(512, 3), segment(768): bytes(64), "tile/1/000": tile[:8192],
             "tile/0/001": tile, "tile/0/002": tile[:32]}
    return {
        "log": folder(base), "torn-1": but(c1=bytes(torn)), "torn-both": but(c0=bytes(torn),
                                                                             c1=bytes(torn)),
        "blank": but(c0=bytes(4096), c1=bytes(4096)), "short-slot": but(c0=b"x"),
        "not-a-note": but(c1=slot(b"hello")), "behind-zeros": but(c0=slot(note(2) + b"\0x")),
        "empty-slot": but(c0=slot(b""), c1=None), "no-slots": but(c0=None, c1=None),
        "nothing-kept": folder({segment(0): records(0, 2)}), "empty-folder": folder({"x": b""}),
        "no-entries": but(s0=None), "damaged": but(s0=records(0, 1) + b"\0\5abcde"),
        "short": but(s0=records(0, 2)[:-3]), "wrong-seq": but(s0=records(5, 5)),
        "torn-length": but(s0=records(0, 3) + b"\xff"), "with-tile": but(tile=tile),
        "bad-tile": but(tile=tile[:77]), "dropped": folder(later),
        "anchor-odd": but(a=b"x\ny\nz\n"), "anchor-hash": but(a=anchor.replace("ab" * 12, "zz" * 12)
                                                              .encode()),
        "anchor-time": but(a=anchor.replace("2026", "x026").encode()),
        "anchor-behind": but(a=(anchor + "x").encode()), "anchor-nul": but(a=b"a\0\n"),
        "anchor-none": but(a=None), "anchor-long": but(a=b"x" * 600),
        "anchor-size": but(a=anchor.replace("\n3\n", "\nx\n").encode()),
        "names": folder(dict(base, **{"entries/x": b"", "entries/" + "9" * 20: b"",
                                      "entries/.new": b"", "entries/00001": b""})),
        "folder-for-file": folder({"checkpoint.0/x": b"", "anchor/y": b"", "tile/0/000/z": b""}),
        "entries-file": folder({"entries": b"x", "checkpoint.0": slot(note(2))}),
        "unreadable": b"@checkpoint.0?\n@checkpoint.1?\n@" + segment(0).encode() + b"?\n@anchor?\n",
        "unreadable-entries": b"@checkpoint.0!\n" + note(2) + b"@" + segment(0).encode() + b"?\n",
        "closed": b"@checkpoint.0!\n" + note(2) + b"@" + segment(0).encode() + b"-\n@anchor-\n",
        "closed-slots": b"@checkpoint.0-\n@checkpoint.1-\n@" + segment(0).encode() + b"-\n",
        "closed-folder": b"@entries-\n@checkpoint.0!\n" + note(2), "seg-two": folder(
            {"checkpoint.0": slot(note(260)), segment(0): records(0, 256),
             segment(256): records(256, 4), segment(300): records(300, 2)}),
        "long-slot": but(c0=b"x" * 5000), "slot-edge": but(c0=slot(b"x" * 4079)),
        "text": b"@anchor\n" + anchor.encode() + b"@@x\n@checkpoint.0\nx\n",
    }


def audit():
    vkey = read("hsm-test", "fuzz", "corpus", "checkpoint", "key-ed25519")
    p256 = read("hsm-test", "fuzz", "corpus", "checkpoint", "key-p256")
    m = Maker()
    pems = {what: key.public_key().public_bytes(PEM, SPKI) for what, key in m.keys.items()}
    salt = bytes(range(16))

    def named(upn="zoe@example.com", addresses=("zoe@example.com", "z@example.com"), **change):
        user = hashlib.sha256(salt + GUID.encode()).hexdigest()
        row = {"addresses": addresses and list(addresses), "id": GUID, "salt": salt.hex(), "upn": upn,
               "user": user}
        row.update(change)
        return json.dumps({k: v for k, v in sorted(row.items()) if v is not None},
                          separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    leaves = b"".join(hashlib.sha256(b"\0" + entry(i)).digest() for i in range(300))
    whole = {"checkpoint": note(260), "tile/0/000": leaves[:8192], "tile/0/001.p/4": leaves[8192:8320],
             "tile/1/000.p/1": leaves[:32], "tile/entries/000": records(0, 256),
             "tile/entries/001.p/4": records(256, 4)}
    export = {"checkpoint": note(5), "tile/0/000.p/5": leaves[:160],
              "tile/entries/000.p/5": records(0, 5), "checkpoints/%020d" % 2: note(2),
              "export.json": b"{}"}
    def but(**changes):
        files = dict(export)
        for key, value in changes.items():
            file = {"b": "tile/entries/000.p/5", "t": "tile/0/000.p/5", "c": "checkpoint",
                    "e": "export.json"}[key]
            if value is None:
                files.pop(file, None)
            else:
                files[file] = value
        return folder(files)
    keys = {
        "vkey": vkey, "two": vkey.strip() + b"\n" + p256.strip() + b"\r\n# x\n\n", "twice": vkey * 2,
        "line": vkey.strip() + b"\n", "pem": pems["leaf"], "pem-ed": pems["ed"], "pem-rsa": pems["rsa"],
        "pem-two": pems["leaf"] + pems["root"] + pems["leaf"], "pem-384": pems["p384"],
        "pem-other": m.root.public_bytes(PEM), "pem-torn": pems["leaf"][:60], "none": b"# nothing\n",
        "long": b"x" * 3000, "nul": b"a\0b\n", "not": b"hello\n",
    }
    rows = {"keys-" + what: folder({"keys": text}) for what, text in keys.items()}
    maps = {
        "one": named(), "two": named() + named(upn="Zo\u00eb"), "address": named(upn="x"),
        "escaped": named(upn="a\"b\\"), "no-upn": named(upn=None), "wrong-hash": named(user="0" * 64),
        "wrong-salt": named(salt="00"), "salt-case": named(salt=salt.hex().upper()),
        "extra": named(zz="x"), "text": named(addresses=None), "number": named(id=5),
        "group": b'{"a":{"b":1}}\n', "no-end": named()[:-1], "empty": b"", "blank": b"\n",
        "long": b"x" * 9000 + b"\n", "nul": named(upn="a\u0000b"), "id": named(upn="y", id="z" * 36),
    }
    rows.update({"names-" + what: folder({"names.jsonl": text}) for what, text in maps.items()})
    rows.update({
        "export": folder(export), "whole": folder(whole),
        "cut-full": folder(dict(whole, **{"tile/entries/000": records(0, 255)})),
        "no-upper": folder({k: v for k, v in whole.items() if not k.startswith("tile/1")}),
        "no-bundle": but(b=None), "cut-bundle": but(b=records(0, 4)), "no-tile": but(t=None),
        "torn-bundle": but(b=records(0, 5)[:-1]), "long-bundle": but(b=records(0, 5) + b"x"),
        "short-tile": but(t=leaves[:100]), "no-checkpoint": but(c=None), "bad-checkpoint": but(c=b"x"),
        "smaller": but(c=note(4)), "none-yet": but(c=note(0)), "large": but(c=note(1 << 40)),
        "long-checkpoint": but(c=b"x" * 9000), "long-json": but(e=b" " * 5000),
        "no-json": but(e=None), "unreadable": b"@checkpoint\n" + note(5) + b"@export.json?\n"
        b"@keys?\n@names.jsonl?\n@tile/entries/000.p/5?\n@tile/0/000.p/5-\n",
        "closed": b"@checkpoint-\n@export.json-\n@keys-\n@names.jsonl-\n@tile/x\n\n",
        "checkpoints": folder(dict(export, **{"checkpoints/%020d" % 4: b"", "checkpoints/x": b"",
                                              "checkpoints/%020d" % (1 << 60): b""})),
        "checkpoints-file": folder({"checkpoints": b"x", "checkpoint": note(2)}), "nothing": folder({"x": b""}),
        "folder-for-file": folder({"checkpoint/x": b"", "tile/0/000/x": b"", "export.json/y": b"",
                                   "keys/z": b"", "names.jsonl/a": b""}),
    })
    return rows


def words_of(pattern, *files):
    found = set()
    for file in files:
        for path in sorted(glob.glob(os.path.join(ROOT, file))):
            with open(path, encoding="utf-8") as stream:
                found |= set(re.findall(pattern, stream.read()))
    return sorted(found)


def dictionaries():
    """target -> words, out of the sources: what a member, an option, a message is called."""
    member = r'pfx_doc_\w+\([^;]*?"([@\w.]+)"'
    answers = words_of(member, "api/uploader/*.c")
    headers = ["Content-Type: application/json\\x0a", "Retry-After: ", "x-ms-retry-after-ms: ",
               "WWW-Authenticate: Basic realm=", "client-request-id: ", "HTTP/1.1 200\\x0a", "\\x1e",
               "\\x1f", "curl ", "unsent ", "proxy 407", "200\\x0a", "404\\x0a", "429\\x0a"]
    kinds = words_of(r'\{"(up\.[a-z_]+)", ', "api/wire/jobs.c")
    members = words_of(r'(?:STR|INT|BOOL|BLOB|STRS|BLOBS|OBJ|OBJS|BODY|TIME)\("(\w+)"', "api/wire/*.c")
    options = words_of(r'\{"([\w.\[\]]+)", PFX_O_', "api/conf/*_conf.c", "api/conf/hsm_policy.c")
    parts = sorted({part.strip("[]") for option in options for part in option.split(".")})
    values = words_of(r'"(\w[\w-]*(?:\|\w[\w-]*)+)"', "api/conf/*.c")
    json_words = ["true", "false", "null", "[]", "{}", "\\x22:", ",\\x22"]
    service = answers + headers + kinds + json_words
    wire = members + wire_names() + json_words
    return {"digicert": service, "graph": service, "token": service, "cmp": headers + kinds,
            "message": wire, "frame": wire,
            "conf": parts + sorted({v for value in values for v in value.split("|")})
            + ["rules:\\x0a  - name: ", ": ", "\\x0a  ", "pkcs11:token=", "https://", "30d", "1/1s"],
            "cert": ["-----BEGIN CERTIFICATE-----\\x0a", "-----END CERTIFICATE-----\\x0a", "PKCS7",
                     "CMS", "PUBLIC KEY", "CERTIFICATE REQUEST"]}


def write_dictionaries():
    for target, words in dictionaries().items():
        with open(os.path.join(HERE, target + ".dict"), "w", encoding="utf-8") as stream:
            stream.write("# Made by make_corpus.py.\n")
            for word in words:
                stream.write('"%s"\n' % word)


def write(target, rows, ours=""):
    """ours: how the names begin of what was made; others are hand-written."""
    to = os.path.join(HERE, "corpus", target)
    os.makedirs(to, exist_ok=True)
    for old in glob.glob(os.path.join(to, ours + "*")):
        if not os.path.basename(old).startswith("found-"):
            os.unlink(old)
    for file, content in rows.items():
        with open(os.path.join(to, file), "wb") as stream:
            stream.write(content)
    print("%s: %d inputs, %d bytes" % (target, len(rows), sum(map(len, rows.values()))))


def checkpoint():
    """The hand-written ones, each with one thing wrong."""
    rekor = read("hsm-test", "fuzz", "corpus", "checkpoint", "note-rekor")
    receipt = read("hsm-test", "fuzz", "corpus", "checkpoint", "receipt")
    first = read("hsm-test", "fuzz", "corpus", "checkpoint", "receipt-first")
    p256 = read("hsm-test", "fuzz", "corpus", "checkpoint", "key-p256").strip()
    ed = read("hsm-test", "fuzz", "corpus", "checkpoint", "key-ed25519").strip()
    lines = rekor.split(b"\n")
    signature = lines[4]
    dash = "\u2014 ".encode()

    def but(number, line):
        return b"\n".join(lines[:number] + [line] + lines[number + 1:])

    def vkey(name, number, key):
        """A key line with a right id."""
        body = bytes([number]) + key
        ident = hashlib.sha256(name + b"\n" + body).hexdigest()[:8].encode()
        return name + b"+" + ident + b"+" + base64.b64encode(body)
    key = base64.b64decode(p256.split(b"+", 2)[2])[1:]
    edkey = base64.b64decode(ed.split(b"+", 2)[2])[1:]
    rows = {
        "no-dash": but(4, b"x"), "no-space": but(4, dash + b"name"), "no-name": but(4, dash + b" AAAA"),
        "name-plus": but(4, dash + b"a+b AAAAAAAA"), "not-base64": but(4, dash + b"a !!"),
        "short-signature": but(4, dash + b"a AAAA"), "many": b"\n".join(
            lines[:4] + [dash + b"n%d AAAAAAAA" % i for i in range(17)] + [b""]),
        "long": but(4, signature + b"x" * 9000), "root": but(2, b"AAAA"), "extension": but(3, b"x"),
        "no-end": rekor[:-1], "no-signature": b"\n".join(lines[:4] + [b""]), "size": but(1, b"01"),
        "size-large": but(1, b"9" * 30), "origin": but(0, b"a b"), "origin-long": but(0, b"x" * 128),
        "origin-empty": but(0, b""), "origin-bytes": but(0, b"\xff"), "origin-space": but(
            0, "a\u3000b".encode()), "origin-control": but(0, b"a\x01"), "twice": b"\n".join(
                lines[:4] + [signature, signature, b""]), "bad-signature": but(
                    4, signature[:-8] + b"AAAAAA=="[:8]), "other-root": but(2, base64.b64encode(bytes(32))),
        "receipt-extra": receipt.replace(b"@v1\n", b"@v1\nextra !\n", 1),
        "receipt-index": receipt.replace(b"index ", b"index 0", 1),
        "receipt-word": receipt.replace(b"index ", b"indx ", 1), "receipt-cut": receipt[:60],
        "receipt-hash": receipt.replace(b"index ", b"index ", 1).replace(b"=\n", b"\n", 1),
        "receipt-hashes": first.split(b"\n\n")[0] + b"\n" + (
            base64.b64encode(bytes(32)) + b"\n") * 70 + b"\n" + rekor,
        "receipt-title": receipt.replace(b"@v1", b"@v2", 1), "receipt-alone": first.split(
            b"\n\n")[0] + b"\n\n",
        "key-type": vkey(b"x", 7, edkey), "key-ed-short": vkey(b"x", 1, edkey[:-1]),
        "key-ec-odd": vkey(b"x", 2, key[:-3] + b"\0\0\0"), "key-mixed": vkey(b"x", 2, edkey),
        "key-mixed-2": vkey(b"x", 1, key), "key-name": vkey(b"x y", 1, edkey),
        "key-id": ed.replace(ed.split(b"+", 2)[1], b"00000000"), "key-id-short": b"a+00+AAAA",
        "key-id-case": ed.replace(ed.split(b"+", 2)[1], ed.split(b"+", 2)[1].upper()),
        "key-parts": b"a+b", "key-base64": b"a+00000000+!", "key-empty": b"a+00000000+",
        "key-long": vkey(b"x" * 127, 1, edkey), "key-too-long": vkey(b"x" * 128, 1, edkey),
    }
    for i, path in enumerate((
            b"tile/0/000", b"tile/0/001.p/5", b"tile/entries/000", b"tile/entries/x001/234.p/255",
            b"tile/0/x001/x002/003", b"tile/8/000", b"tile/63/000", b"tile/7/000", b"tile/00/000",
            b"tile/0/0", b"tile/0/x000/001", b"tile/0/001.p/0", b"tile/0/001.p/256", b"tile/0/001.p/05",
            b"tile/0/001x", b"tile/0/", b"tile/", b"tile/a/000", b"tile/0/x001", b"tile/0/001.p/",
            b"tile/0/x999/x999/x999/x999/x999/x999/999", b"tile/1/x001/000.p/1", b"tile/0/001.p/1x",
            b"tile/0/y001/000", b"tile/6/001", b"tile/0/0a1", b"tile/0/x00/001", b"tile/-1/000")):
        rows["path-%02d" % i] = path
    return {"odd-" + what: text for what, text in rows.items()}


def main(wanted, others):
    if not wanted or "checkpoint" in wanted:
        write("checkpoint", checkpoint(), "odd-")
    import corpus_backup
    import corpus_minutes
    import corpus_people
    write_dictionaries()
    makers = dict(others, sshsig=corpus_people.sshsig, minutes=corpus_minutes.minutes,
                  text=text, name=names, state=state, logdir=logdir, audit=audit,
                  backup=corpus_backup.backup)
    services = {"digicert", "graph", "token", "cmp"}
    for target, maker in makers.items():
        if not wanted or target in wanted:
            write(target, maker())
    if not wanted or services & set(wanted):
        import corpus_services
        for target, rows in corpus_services.all_services().items():
            if not wanted or target in wanted:
                write(target, rows)
