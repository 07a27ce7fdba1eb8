#!/usr/bin/python3
"""Checks the folder in which a host keeps its operation log: entries, tree, checkpoints, tiles, anchor.

Written from the description of the format; hashlib, json and python3-cryptography only, nothing of
the product. The logs that were set aside (FOLDER.*) are checked with it.

    log_check.py FOLDER [--label LABEL]... [--torn]    findings, exit 1 if there are any
    log_check.py --serve     one JSON object a line {dir, labels?, released?, torn?} -> {findings, ...}

--torn: a process was killed: a torn tail, and files being written, are no finding. released: lines
[origin, seq, target.name] of results that were let out: each must stand under a good checkpoint.
"""
import base64
import functools
import glob
import hashlib
import json
import os
import re
import stat
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

SLOT = 4096
HEAD = 17
ALWAYS = ("v", "seq", "src", "time", "up", "boot", "event", "phase", "outcome", "actor", "op", "prev")


def sha(data):
    return hashlib.sha256(data).digest()


class Finding(Exception):
    pass


def require(condition, text, *args):
    if not condition:
        raise Finding(text % args)


# Keys and notes.

class Key:
    def __init__(self, line):
        name, ident, rest = line.split("+", 2)
        raw = base64.b64decode(rest, validate=True)
        self.name, self.id, self.type, public = name, bytes.fromhex(ident), raw[0], raw[1:]
        if self.type == 2:
            self.key = serialization.load_der_public_key(public)
            want = sha(public)[:4]
            require(isinstance(self.key.curve, ec.SECP256R1), "%s: not P-256", line)
        else:
            require(self.type == 1, "%s: unknown type", line)
            self.key = ed25519.Ed25519PublicKey.from_public_bytes(public)
            want = sha(name.encode() + b"\n\1" + public)[:4]
        require(self.id == want, "%s: wrong key id", line)

    def holds(self, signature, text):
        try:
            if self.type == 2:
                self.key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
            else:
                self.key.verify(signature, text)
        except InvalidSignature:
            return False
        return True


class Note:
    def __init__(self, data):
        text, _, lines = data.partition(b"\n\n")
        self.text = text + b"\n"
        parts = self.text.decode().split("\n")
        require(len(parts) == 4 and parts[3] == "" and re.fullmatch(r"0|[1-9]\d*", parts[1]),
                "a checkpoint that isn't three lines")
        self.origin, self.size, self.root = parts[0], int(parts[1]), base64.b64decode(parts[2])
        self.signatures = []
        require(lines.endswith(b"\n"), "a checkpoint without signatures")
        for line in lines.decode().split("\n")[:-1]:
            match = re.fullmatch("\u2014 (\\S+) (\\S+)", line)
            require(match, "a signature line of another form: %s", line)
            raw = base64.b64decode(match[2], validate=True)
            self.signatures.append((match[1], raw[:4], raw[4:]))

    def check(self, keys):
        """All of these keys signed, and rightly."""
        for key in keys:
            found = [s for name, ident, s in self.signatures if (name, ident) == (key.name, key.id)]
            require(found, "checkpoint %d: key %s didn't sign", self.size, key.id.hex())
            require(key.holds(found[0], self.text), "checkpoint %d: bad signature", self.size)


def read_slot(path):
    """The note in a slot; None: blank, torn or missing."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    if len(data) != SLOT or data[:HEAD] != sha(data[HEAD:]).hex()[:16].encode() + b"\n":
        return None
    return Note(data[HEAD:].rstrip(b"\0"))


# The tree, from its definition: MTH(D) by the largest power of two below its size.

class Tree:
    def __init__(self, leaves):
        self.leaves, self.known = leaves, {}

    def mth(self, begin, end):
        if end - begin == 0:
            return sha(b"")
        if end - begin == 1:
            return self.leaves[begin]
        if (begin, end) not in self.known:
            k = 1 << (end - begin - 1).bit_length() - 1
            self.known[begin, end] = sha(b"\1" + self.mth(begin, begin + k)
                                         + self.mth(begin + k, end))
        return self.known[begin, end]


@functools.lru_cache(maxsize=8192)
def parse(raw):
    entry = json.loads(raw)
    again = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return entry if again.encode() == raw else None


class Log:
    def __init__(self, folder, torn):
        self.folder, self.torn = folder, torn
        self.entries, self.leaves, self.keys_at = [], [], []
        self.tail = 0  # bytes behind the last whole entry that aren't zeros
        slots = [read_slot(os.path.join(folder, "checkpoint.%d" % i)) for i in (0, 1)]
        slots = [slot for slot in slots if slot]
        self.note = max(slots, key=lambda note: note.size) if slots else None
        self.first = 0
        self.read_entries()
        if self.first == 0:
            self.tree = Tree(self.leaves)
        self.opens = self.meaning()

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def names(self, folder):
        try:
            return sorted(n for n in os.listdir(self.path(folder)) if not n.startswith("."))
        except FileNotFoundError:
            return []

    def read_entries(self):
        names = [n for n in self.names("entries") if re.fullmatch(r"\d{20}", n)]
        self.first = int(names[0]) if names else 0
        self.leaves = [None] * self.first  # dropped: their hashes are in the tiles
        if self.first:
            self.load_tiles()
        for number, name in enumerate(names):
            with open(self.path("entries", name), "rb") as file:
                data = file.read()
            if data.count(0) == len(data):
                require(self.torn or number == len(names) - 1, "%s is empty, and not the last",
                        name)
                continue
            if int(name) != len(self.leaves):
                require(self.torn, "%s begins elsewhere than at %d", name, len(self.leaves))
                self.tail += len(data.rstrip(b"\0"))
                break
            if not self.read_segment(data):
                break

    def read_segment(self, data):
        at = 0
        while at + 2 <= len(data):
            length = int.from_bytes(data[at:at + 2], "big")
            if length == 0:
                break
            raw = data[at + 2:at + 2 + length]
            try:
                require(len(raw) == length, "entry %d: cut", len(self.leaves))
                self.check_entry(raw)
            except (Finding, ValueError) as error:
                covered = self.note.size if self.note else 0
                require(self.torn and len(self.leaves) >= covered, "%s", error)
                self.tail += len(data[at:].rstrip(b"\0"))
                return False
            at += 2 + length
        rest = b"" if data.count(0, at) == len(data) - at else data[at:].rstrip(b"\0")
        require(self.torn or not rest, "bytes behind entry %d", len(self.leaves) - 1)
        self.tail += len(rest)
        return not rest

    def check_entry(self, raw):
        seq = len(self.leaves)
        entry = parse(raw)
        require(entry is not None, "entry %d: not canonical", seq)
        for name in ALWAYS:
            require(name in entry, "entry %d: no %s", seq, name)
        require(entry["v"] == 1 and entry["seq"] == seq, "entry %d: seq %s", seq, entry["seq"])
        before = self.leaves[-1].hex() if seq else "0" * 64
        require(entry["prev"] == before, "entry %d: prev", seq)
        keys = entry.get("log", {}).get("keys")
        if keys is not None and entry["event"] != "log.segment" or seq == self.first:
            self.keys_at.append((seq, [Key(line) for line in keys]))
        self.leaves.append(sha(b"\0" + raw))
        self.entries.append(entry)

    def meaning(self):
        """Intents without result; results without intent are findings."""
        opens = {}
        for entry in self.entries:
            if entry["seq"] == self.first and "open" in entry.get("log", {}):
                opens = {seq: None for seq in entry["log"]["open"]}
            if entry["phase"] == "intent":
                opens[entry["seq"]] = entry
            if entry["phase"] == "result":
                require(entry["ref"] in opens, "entry %d: result of no intent", entry["seq"])
                del opens[entry["ref"]]
        return sorted(opens)

    def load_tiles(self):
        for number in range(self.first // 256):
            with open(self.tile_path(0, number), "rb") as file:
                data = file.read()
            self.leaves[number * 256:number * 256 + 256] = [
                data[i:i + 32] for i in range(0, 8192, 32)]
        self.tree = Tree(self.leaves)

    def tile_path(self, level, number):
        parts = ["%03d" % (number % 1000)]
        while number >= 1000:
            number //= 1000
            parts.insert(0, "x%03d" % (number % 1000))
        return self.path("tile", str(level), *parts)

    def keys_for(self, size):
        """The keys in force for a checkpoint of this size, and those before it where the checkpoint
        is the first one over a rotation."""
        known = [(seq, keys) for seq, keys in self.keys_at if seq < size]
        if not known:
            return []
        seq, keys = known[-1]
        return keys + (known[-2][1] if len(known) > 1 and seq == size - 1 else [])

    def check_note(self, note):
        require(note.size <= len(self.leaves), "checkpoint %d, but %d entries", note.size,
                len(self.leaves))
        require(self.tree.mth(0, note.size) == note.root, "checkpoint %d: other root", note.size)
        keys = self.keys_for(note.size)
        require(keys or note.size <= self.first, "checkpoint %d: no keys", note.size)
        note.check(keys)
        for key in keys:
            require(key.name == note.origin, "checkpoint %d: origin %s", note.size, note.origin)

    def check(self, labels):
        if not self.note:
            require(len(self.leaves) <= 1 and self.torn, "no checkpoint")
            return
        require(self.torn or not self.tail, "a torn tail")
        self.check_note(self.note)
        for name in self.names("checkpoints"):
            with open(self.path("checkpoints", name), "rb") as file:
                note = Note(file.read())
            require(int(name) == note.size, "checkpoints/%s says %d", name, note.size)
            require(note.size <= self.note.size, "checkpoints/%s is ahead", name)
            self.check_note(note)
        self.check_tiles()
        for label in labels:
            self.check_label(label)
        for name in self.names("keys"):
            with open(self.path("keys", name), encoding="ascii") as file:
                require(Key(file.read().rstrip("\n")).id.hex() + ".vkey" == name, "keys/%s", name)
        if not self.torn:
            self.check_modes()

    def check_tiles(self):
        levels = [self.leaves[:self.note.size]]
        while len(levels[-1]) >= 256:
            below = levels[-1]
            levels.append([])
            for number in range(len(below) // 256):
                nodes = below[number * 256:number * 256 + 256]
                path = self.tile_path(len(levels) - 2, number)
                if os.path.exists(path):
                    with open(path, "rb") as file:
                        require(file.read() == b"".join(nodes), "%s: other hashes", path)
                else:
                    require(self.torn, "%s: missing", path)
                while len(nodes) > 1:
                    nodes = [sha(b"\1" + a + b) for a, b in zip(nodes[::2], nodes[1::2])]
                levels[-1].append(nodes[0])
        for folder, _, files in os.walk(self.path("tile")):
            for name in files:
                if name.startswith("."):
                    continue
                parts = os.path.relpath(os.path.join(folder, name), self.path("tile")).split("/")
                number = int("".join(part.lstrip("x") for part in parts[1:]))
                level = int(parts[0])
                require((number + 1) << 8 * (level + 1) <= self.note.size,
                        "tile %s isn't covered", "/".join(parts))

    def check_label(self, label):
        _, origin, size, digits = label.split(":")
        name = self.note.origin
        if origin != sha(name.encode()).hex()[:8]:
            return
        size = int(size)
        require(size <= len(self.leaves), "anchor %d, but %d entries", size, len(self.leaves))
        root = base64.b64encode(self.tree.mth(0, size)).decode()
        text = "%s\n%d\n%s\n" % (name, size, root)
        require(sha(text.encode()).hex()[:24] == digits, "anchor %d: other root", size)

    def check_modes(self):
        for folder, folders, files in os.walk(self.folder):
            for name in folders + files:
                mode = stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
                if not name.startswith("."):
                    want = 0o750 if name in folders else 0o640
                    require(mode == want, "%s has mode %o", name, mode)


def check_all(folder, labels=(), released=(), torn=False):
    findings, facts = [], {}
    logs = {}
    for path in [folder] + sorted(glob.glob(glob.escape(folder) + ".*")):
        if not os.path.isdir(path):
            continue
        try:
            # What was set aside stays as it was found: torn, or worse.
            log = Log(path, torn or path != folder)
            log.check([label for label in labels if label])
            if log.note:
                logs[log.note.origin] = log
            if path == folder:
                facts = {"size": len(log.leaves), "covered": log.note.size if log.note else 0,
                         "first": log.first, "open": log.opens, "tail": log.tail,
                         "origin": log.note.origin if log.note else "",
                         "events": [entry["event"] for entry in log.entries[-20:]]}
        except (Finding, OSError, ValueError, KeyError, TypeError) as error:
            findings.append("%s: %s: %s" % (path, type(error).__name__, error))
    for origin, seq, name in released:
        log = logs.get(origin)
        if log is None or seq >= log.note.size:
            findings.append("%s: entry %d was released, but isn't covered" % (origin, seq))
        elif seq >= log.first and log.entries[seq - log.first].get(
                "target", {}).get("name") != name:
            findings.append("%s: entry %d was released, but is another one" % (origin, seq))
    return dict(facts, findings=findings)


def main():
    args = sys.argv[1:]
    if args == ["--serve"]:
        for line in sys.stdin:
            ask = json.loads(line)
            answer = check_all(ask["dir"], ask.get("labels", ()), ask.get("released", ()),
                               ask.get("torn", False))
            print(json.dumps(answer), flush=True)
        return 0
    labels = [args[i + 1] for i in range(len(args) - 1) if args[i] == "--label"]
    if not args or args[0].startswith("--"):
        print(__doc__, file=sys.stderr)
        return 2
    answer = check_all(args[0], labels, torn="--torn" in args)
    print(json.dumps(answer, indent=1))
    return 1 if answer["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
