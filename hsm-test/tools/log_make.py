"""Makes the folder in which a host keeps its operation log, from the description of its format alone:
entries, segments, tiles, slots, milestones. Shares no code with the product, so that what reads the
folder can be tested without pfx-hsm, and against another reading of the same text.

    log_make.py FOLDER ENTRIES       a log with that many entries
"""

import base64
import datetime
import hashlib
import json
import os
import struct
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

TILE = 256
SLOT = 4096
START = datetime.datetime(2026, 11, 22, 8, 0, 0)
BOOT = "5c9f7f3e-1c0e-4b86-93f1-1b1d4d2f7a55"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def sha(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"),
                      ensure_ascii=False).encode("utf-8")


def ulid(number):
    text = ""
    for _ in range(26):
        text = CROCKFORD[number % 32] + text
        number //= 32
    return text


def tile_name(number):
    groups = ["%03d" % (number % 1000)]
    while number >= 1000:
        number //= 1000
        groups.insert(0, "x%03d" % (number % 1000))
    return "/".join(groups)


class Tree:
    """RFC 6962: complete nodes by level, roots by size."""

    def __init__(self):
        self.levels = [[]]

    def add(self, entry):
        node = sha(b"\0", entry)
        level = 0
        while True:
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(node)
            if len(self.levels[level]) % 2:
                return
            node = sha(b"\1", *self.levels[level][-2:])
            level += 1

    def root(self, size):
        node = None
        for level in range(len(self.levels)):
            if size >> level & 1:
                left = self.levels[level][(size >> level) - 1]
                node = left if node is None else sha(b"\1", left, node)
        return node or sha()


class Key:
    """One that signs checkpoints."""

    def __init__(self, name, kind="p256"):
        self.name, self.kind = name, kind
        if kind == "p256":
            self.private = ec.generate_private_key(ec.SECP256R1())
            self.spki = self.private.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            self.id, body = sha(self.spki)[:4], b"\2" + self.spki
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()
            raw = self.private.public_key().public_bytes(
                serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            self.id = sha(name.encode(), b"\n\1", raw)[:4]
            body = b"\1" + raw
        self.line = "%s+%s+%s" % (name, self.id.hex(), base64.b64encode(body).decode())

    def sign(self, text):
        made = self.private.sign(text, *([ec.ECDSA(hashes.SHA256())] if self.kind == "p256" else []))
        return "\u2014 %s %s\n" % (self.name, base64.b64encode(self.id + made).decode())


class Log:
    """A log that grows: append() writes an entry, cover() a checkpoint over all there are."""

    def __init__(self, folder, origin="pki1.example/pfx-agent", segment=1024, ed25519_too=False):
        self.folder, self.origin, self.segment = folder, origin, segment
        self.keys = [Key(origin)] + ([Key(origin, "ed25519")] if ed25519_too else [])
        self.tree = Tree()
        self.entries = []
        self.keep = True  # the entries, for tests to compare with
        self.size = self.covered = 0
        self.prev = "0" * 64
        self.slot = 0
        self.checkpoints = {}
        self.file = None
        for name in ("", "entries", "checkpoints", "keys", "policy"):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        for key in self.keys:
            self._put("keys/%s.vkey" % key.id.hex(), key.line.encode() + b"\n")
        self.policy = b"host_id: pki1.example\n"
        self._put("policy/%s.yaml" % sha(self.policy).hex(), self.policy)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def _put(self, name, data):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".tmp", "wb") as stream:
            stream.write(data)
        os.rename(path + ".tmp", path)

    def close(self):
        if self.file:
            self.file.close()

    # --- entries ---

    def append(self, event="probe", phase="note", outcome="ok", src="hsm", **members):
        seq = self.size
        moment = START + datetime.timedelta(milliseconds=120 + 1000 * seq)
        entry = {"actor": {"role": "self"}, "boot": BOOT, "event": event, "op": ulid(seq + 1),
                 "outcome": outcome, "phase": phase, "prev": self.prev, "seq": seq, "src": src,
                 "time": moment.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (120), "up": 1000 * seq,
                 "v": 1}
        entry.update(members)
        text = canonical(entry)
        if seq % self.segment == 0:
            self._segment(seq)
        self.file.write(struct.pack(">H", len(text)) + text)
        self.file.flush()
        self.tree.add(text)
        self.prev = self.tree.levels[0][-1].hex()
        self.size += 1
        if self.keep:
            self.entries.append(text)
        return seq

    def _segment(self, seq):
        if self.file:
            self.file.truncate()
            self.file.close()
        path = self.path("entries", "%020d" % seq)
        with open(path, "wb") as stream:
            stream.truncate(self.segment * 700)  # set aside: reads as zeros behind the last one
        self.file = open(path, "r+b")

    def begin(self):
        self.append("log.begin", log={"keys": [key.line for key in self.keys],
                                      "origin": self.origin},
                    policy={"sha256": sha(self.policy).hex()}, software={"version": "0.1.0"})

    def enrol(self, number, pfx=b""):
        """The six entries of one enrolment; returns the seq of the release."""
        key = {"alg": "rsa-2048", "id": sha(b"id %d" % number).hex()[:32],
               "spki": sha(b"spki %d" % number).hex()}
        target = {"attempt": 1, "enrolment": number, "user": sha(b"user %d" % number).hex()}
        self.append("command", src="agentd", actor={"role": "operator", "uid": 1000 + number % 7},
                    target={"name": "run"}, n=number, at="2026-11-22T08:00:00.000Z")
        op = ulid(1000000 + number)
        ref = self.append("key.make", "intent", "pending", key=key, target=target, op=op,
                          actor={"pid": 12, "role": "agentd", "uid": 990})
        self.append("key.make", "result", "ok", key=key, target=target, op=op, ref=ref,
                    out={"sha256": sha(b"csr %d" % number).hex()}, rv="CKR_OK")
        ref = self.append("pfx.build", "intent", "pending", key=key, target=target, op=ulid(2000000 + number))
        return self.append("pfx.build", "result", "ok", key=key, target=target, ref=ref,
                           op=ulid(2000000 + number), out={"sha256": sha(pfx or b"pfx %d" % number).hex()},
                           seal={"by": "token", "generation": 1, "hash": "sha256",
                                 "sha256": "1" * 64, "spki": "2" * 64}, tier="direct", rv="CKR_OK")

    def fill(self, size):
        if self.size == 0:
            self.begin()
        while self.size < size:
            if size - self.size >= 5:
                self.enrol(self.size)
            else:
                self.append("order.placed", src="agentd", target={"enrolment": self.size, "order": 542772})

    def bulk(self, size):
        """Many small entries at once, for long logs."""
        if self.size == 0:
            self.begin()
        while self.size < size:
            seq = self.size
            text = (b'{"actor":{"role":"self"},"boot":"b","event":"probe","op":"%s","outcome":"ok",'
                    b'"phase":"note","prev":"%s","seq":%d,"src":"hsm","time":'
                    b'"2026-11-22T08:00:00.120Z","up":%d,"v":1}'
                    % (b"0" * 26, self.prev.encode(), seq, seq))
            if seq % self.segment == 0:
                self._segment(seq)
            self.file.write(struct.pack(">H", len(text)) + text)
            self.tree.add(text)
            self.prev = self.tree.levels[0][-1].hex()
            self.size += 1
        self.file.flush()

    # --- checkpoints ---

    def note(self, size):
        text = "%s\n%d\n%s\n" % (self.origin, size,
                                 base64.b64encode(self.tree.root(size)).decode())
        return text.encode() + b"\n" + "".join(
            key.sign(text.encode()) for key in self.keys).encode()

    def cover(self, milestone=False):
        size = self.size
        for level in range(0, len(self.tree.levels), 8):
            nodes = self.tree.levels[level]
            for number in range((self.covered >> level) // TILE, (size >> level) // TILE):
                self._put("tile/%d/%s" % (level // 8, tile_name(number)),
                          b"".join(nodes[TILE * number:TILE * (number + 1)]))
        note = self.note(size)
        body = note.ljust(SLOT - 17, b"\0")
        with open(self.path("checkpoint.%d" % self.slot), "wb") as stream:
            stream.write(sha(body).hex()[:16].encode() + b"\n" + body)
        self.slot ^= 1
        self.covered = size
        self.checkpoints[size] = note
        if milestone:
            self._put("checkpoints/%020d" % size, note)
        return note

    def anchor(self):
        """The head as it was written to the token; the newest checkpoint's."""
        text = self.checkpoints[self.covered].split(b"\n\n")[0] + b"\n"
        self._put("anchor", ("%s\n%d\n%s\n2026-11-22T09:00:00.000Z\n" % (
            self.origin, self.covered, sha(text)[:12].hex())).encode())

    def drop(self, before):
        """Retention: segments that end at or before this seq."""
        for name in sorted(os.listdir(self.path("entries"))):
            if int(name) + self.segment <= before:
                os.unlink(self.path("entries", name))


def main():
    log = Log(sys.argv[1])
    log.fill(int(sys.argv[2]))
    log.cover(milestone=True)
    log.anchor()


if __name__ == "__main__":
    main()
