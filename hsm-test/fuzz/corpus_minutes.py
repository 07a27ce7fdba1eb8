"""Inputs of fuzz_minutes: pages of ceremonies, and the texts that tokens and people bring."""

import hashlib

HASH, ULID = "0123456789abcdef" * 4, "01J0000000000000000000000A"
HEAD = f"""pfx-agent ceremony record v1
  kind init; time 2026-11-23T13:00:00.120Z; uid 0
  host host-1; log host-1/pfx-agent
  policy {HASH}
  version 0.1.0; executable {HASH}
"""
REST = f"""witness Ada <b>; Z\u00f6e
role users
  token users; serial 0f; device SoftHSM
  module /usr/lib/m.so, version 2
  sha256 {HASH}
key mac-1
  role users; algorithm hmac-sha256; how found
  id 0a0b; operation {ULID}
  is TOKEN
  not COPYABLE
  unknown LOCAL
  mechanisms CKM_SHA256_HMAC
key log-1
  role log; algorithm ec-p256; how made
  id 0a0c; operation {ULID}
  spki {HASH}
key encryption-2
  role encryption; algorithm rsa-3072; how destroyed
  id 0a0d; operation {ULID}; intent 41
  label pfx-agent encryption-2
  spki {HASH}
certificate client-main-1
  sha256 {HASH}
  operation {ULID}; until 2029-11-22T13:13:31.000Z
pin encryption-1
  generation 1; state active
  key-name enc
  provider P
  spki {HASH}
standing client-main-1
  state previous; since 2026-11-23T13:00:00.120Z
standing client-main-2
  state active
approval bob
  command key.destroy; mode ssh; time 2026-11-23T13:00:00.120Z
  asked-by ann; uid 1001
  operation {ULID}
  nonce {HASH}
  key ssh-ed25519 SHA256:abc
attestation mac-1
  source object "x" & 'y'
  sha256 {HASH}; size 12
note said; so
"""
END = "end of record\n"


def sealed(text, entry='{"a":"<i>"}', receipt="c2sp.org/tlog-proof@v1\nindex 0\n\nh\n1\nAA=\n\n"):
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (text + f"sha256 {digest}\nentry {entry}\n" + receipt).encode()


def minutes():
    whole = HEAD + REST + END
    page = sealed(whole)

    def but(old, new):
        assert old in whole, old
        return sealed(whole.replace(old, new, 1))
    return {
        "page": page, "record": whole.encode(), "small": sealed(HEAD + END), "empty": b"",
        "title": but("record v1", "record v2"), "no-end": (HEAD + REST).encode(),
        "behind": whole.encode() + b"x\n", "hash": page.replace(b"sha256 ", b"sha256 0", 99),
        "other-hash": whole.encode() + b"sha256 " + HASH.encode() + b"\nentry {}\n",
        "no-hash": whole.encode() + b"sha\n", "no-entry": page.replace(b"\nentry ", b"\nntry "),
        "entry-empty": page.replace(b'entry {"a":"<i>"}', b"entry "),
        "section": but("note said", "nota said"), "name": but("key mac-1", "key  mac-1"),
        "field": but("  is TOKEN", "  was TOKEN"), "order": but("  is TOKEN\n  not COPYABLE",
                                                              "  not COPYABLE\n  is TOKEN"),
        "value": but("uid 0", "uid x"), "semicolon": but("; uid 0", ";uid 0"),
        "joined": but("is TOKEN\n  not", "is TOKEN; not"), "missing": but("; uid 0", ""),
        "hex": but("id 0a0b", "id 0a0"), "ulid": but(ULID, ULID.replace("01J", "81J", 1)),
        "time": but(".120Z", "Z"), "control": but("said; so", "said\u009b"),
        "bidi": but("said; so", "a\u202eb"), "private": but("said; so", "a\ue000"),
        "plane": but("said; so", "a\U0001f511"), "tag": but("said; so", "a\U000e0041"),
        "nul": page.replace(b"note said", b"note \0aid"), "cr": page.replace(b"\n", b"\r\n"),
        "long-line": sealed(HEAD + "note " + "x" * 3000 + "\n" + END),
        "long-name": sealed(HEAD + "note " + "x" * 600 + "\n" + END),
        "many": sealed(HEAD + "note x\n" * 170 + END), "word": but("hmac-sha256", "hmac sha256"),
        "set": "set\nusers\na;b\n\x1b[2J\u202e\u200b\n\n   \nz\u00f6\n".encode() + b"\xff\xc0\x80\n",
        "set-spaces": b"set\na  \n  b ;  \n", "set-long": b"set\n" + b"y" * 700 + b"\n" + "\u00f6".encode() * 300,
        "set-many": b"set\n" + b"x\n" * 100,
    }
