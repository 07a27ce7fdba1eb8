"""Exported operation logs whose every entry the test writes itself, and the inclusion path over
them by RFC 9162, from hashlib alone. Folder, tiles and signatures are those of export_make.py."""

import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "tools"))

import export_make  # noqa: E402  (the line above makes it found)
from export_make import Key, canonical, leaf, node, note, sha  # noqa: E402, F401

ORIGIN = "host1.example/pfx-agent"
BOOT = "7d1c9f0e-2a9b-4c7e-9d57-2a1f9a0c5b11"


def root_of(leaves):
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node(root_of(leaves[:half]), root_of(leaves[half:]))


def path_of(index, leaves):
    """The inclusion path by its definition (RFC 9162, 2.1.3.1), not by the way that verifies it."""
    if len(leaves) == 1:
        return []
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    if index < half:
        return path_of(index, leaves[:half]) + [root_of(leaves[half:])]
    return path_of(index - half, leaves[half:]) + [root_of(leaves[:half])]


def included(index, size, entry_hash, path, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, entry_hash
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node(p, r)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            r = node(r, p)
        fn >>= 1
        sn >>= 1
    return sn == 0 and r == root


class User:
    def __init__(self, number, upn):
        self.id = "00000000-0000-4000-8000-%012d" % number
        self.upn = upn
        self.salt = sha(b"salt%d" % number)[:16]
        self.hash = sha(self.salt + self.id.encode()).hex()

    def members(self):
        return {"addresses": [self.upn, "second." + self.upn], "id": self.id,
                "salt": self.salt.hex(), "upn": self.upn, "user": self.hash}


class Log:
    """Entries, and the export of them. Times are ms since 1970."""

    def __init__(self, origin=ORIGIN, start=1_790_000_000_000):
        self.origin = origin
        self.signers = [Key.p256(origin), Key.ed25519(origin)]
        self.entries = []
        self.time = start
        self.up = 5_000_000
        self.users = []
        self.ops = 0
        self.note("log.begin", log={"keys": [s.line for s in self.signers], "origin": origin})

    def op(self):
        self.ops += 1
        return "01J%023d" % self.ops

    def add(self, event, phase, outcome, src="hsm", op=None, after=1000, actor=None, **more):
        self.time += after
        self.up += after
        seconds, ms = divmod(self.time, 1000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        prev = leaf(self.entries[-1]).hex() if self.entries else "0" * 64
        entry = {"actor": actor or {"role": "agentd" if src == "agentd" else "self", "uid": 990},
                 "boot": BOOT, "event": event, "op": op or self.op(), "outcome": outcome,
                 "phase": phase, "prev": prev, "seq": len(self.entries), "src": src,
                 "time": stamp + ".%03dZ" % ms, "up": self.up, "v": 1}
        entry.update(more)
        self.entries.append(canonical(entry))
        return len(self.entries) - 1

    def note(self, event, outcome="ok", **more):
        return self.add(event, "note", outcome, **more)

    def pair(self, event, outcome="ok", intent=None, result=None, actor=None, took=40):
        """An operation: its intent and its result, whose numbers come back."""
        op = self.op()
        first = self.add(event, "intent", "pending", op=op, actor=actor, **(intent or {}))
        last = self.add(event, "result", outcome, op=op, actor=actor, after=took, ref=first,
                        **(result or {}))
        return first, last

    def leaves(self):
        return [leaf(entry) for entry in self.entries]

    def export(self, folder, size=None):
        """The folder as agent/audit/source.h says; entries beyond size are its tail."""
        size = len(self.entries) if size is None else size
        maker = export_make.Log(origin=self.origin, keys=self.signers)
        maker.encode = lambda: self.entries
        maker.users = [user.members() for user in self.users]
        maker.write(folder, tail=len(self.entries) - size, names=bool(self.users))
