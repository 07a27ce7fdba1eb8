#!/usr/bin/python3
"""The log's formats once more, from their specifications, with hashlib and python3-cryptography.

Trees, proofs and their checks as RFC 9162 section 2.1 defines them (recursively, unlike crypto/), notes and
receipts as C2SP's signed-note, tlog-tiles and tlog-proof. Runs in the test's own folder.
"""
import base64
import functools
import hashlib
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("PFX_SHARED") or os.path.join(os.path.dirname(ROOT), "shared")


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(entry):
    return sha256(b"\0" + entry)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def split(n):
    """The largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


class Tree:
    def __init__(self, leaves):
        self.leaves = leaves
        self.mth = functools.lru_cache(maxsize=None)(self.mth_of)

    def mth_of(self, begin, end):
        n = end - begin
        if n == 0:
            return sha256(b"")
        if n == 1:
            return leaf_hash(self.leaves[begin])
        k = split(n)
        return node_hash(self.mth(begin, begin + k), self.mth(begin + k, end))

    def path(self, m, begin, end):
        n = end - begin
        if n == 1:
            return []
        k = split(n)
        if m < k:
            return self.path(m, begin, begin + k) + [self.mth(begin + k, end)]
        return self.path(m - k, begin + k, end) + [self.mth(begin, begin + k)]

    def subproof(self, m, begin, end, whole):
        n = end - begin
        if m == n:
            return [] if whole else [self.mth(begin, end)]
        k = split(n)
        if m <= k:
            return self.subproof(m, begin, begin + k, whole) + [self.mth(begin + k, end)]
        return self.subproof(m - k, begin + k, end, False) + [self.mth(begin, begin + k)]


def print_tree(size):
    """Roots and proofs over the leaves "leaf 0" ...; of a proof the length and a hash of it all."""
    size = int(size)
    tree = Tree([b"leaf %d" % i for i in range(size)])
    for n in range(size + 1):
        print("root 0", n, 0, tree.mth(0, n).hex())
    for n in range(1, size + 1):
        for i in range(n):
            path = tree.path(i, 0, n)
            print("inclusion", i, n, len(path), sha256(b"".join(path)).hex())
        for m in range(1, n + 1):
            path = tree.subproof(m, 0, n, True)
            print("consistency", m, n, len(path), sha256(b"".join(path)).hex())


def inclusion_holds(index, size, leaf, path, root):
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            if not fn & 1:
                while fn and not fn & 1:
                    fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def print_vectors():
    """The vectors as lines: kind, two numbers, two hashes, 1 for taken, the path; Base64 as it stands,
    and - where it is empty."""
    path = os.path.join(SHARED, "vectors", "merkle-vectors.json")
    if not os.path.exists(path):
        print("merkle-vectors.json isn't in PFX_SHARED or ../shared")
        sys.exit(77)
    with open(path, encoding="utf-8") as f:
        vectors = json.load(f)
    for v in vectors:
        if "leafIdx" in v:
            head = ["inclusion", v["leafIdx"], v["treeSize"], v["leafHash"], v["root"]]
        else:
            head = ["consistency", v["size1"], v["size2"], v["root1"], v["root2"]]
        words = head + [int(not v["wantErr"])] + (v["proof"] or [])
        print(*["-" if word == "" else word for word in words])


def read_note(name):
    """Splits a note as signed-note says; writes its text and signatures, prints names and key ids."""
    with open(name, "rb") as f:
        note = f.read()
    at = note.rindex(b"\n\n") + 1
    with open("text", "wb") as f:
        f.write(note[:at])
    for i, line in enumerate(note[at + 1:].decode().splitlines()):
        dash, signer, blob = line.split(" ")
        assert dash == "\u2014"
        raw = base64.b64decode(blob, validate=True)
        with open("signature-%d" % i, "wb") as f:
            f.write(raw[4:])
        print(signer, raw[:4].hex())


def print_vkey(name, file):
    """The key line of a DER SubjectPublicKeyInfo."""
    with open(file, "rb") as f:
        spki = f.read()
    if len(spki) == 44:
        raw = b"\1" + spki[-32:]
        key_id = sha256(name.encode() + b"\n" + raw)[:4]
    else:
        raw = b"\2" + spki
        key_id = sha256(spki)[:4]
    print("%s+%s+%s" % (name, key_id.hex(), base64.b64encode(raw).decode()))


def read_receipt(file, entry):
    """Reads a receipt and checks that it proves the entry; prints index and size."""
    with open(file, encoding="utf-8") as f:
        head, checkpoint = f.read().split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    word, index = lines[1].split(" ")
    assert word == "index"
    size, root = checkpoint.split("\n")[1:3]
    path = [base64.b64decode(line, validate=True) for line in lines[2:]]
    assert inclusion_holds(int(index), int(size), leaf_hash(entry.encode()), path,
                           base64.b64decode(root, validate=True))
    print(index, size)


def print_tiles(*numbers):
    """Paths of tiles, as tlog-tiles spells them."""
    for number in numbers:
        digits = number.zfill((len(number) + 2) // 3 * 3)
        groups = [digits[i:i + 3] for i in range(0, len(digits), 3)]
        print("/".join(["x" + g for g in groups[:-1]] + groups[-1:]))


COMMANDS = {"vectors": print_vectors, "tree": print_tree, "note": read_note, "vkey": print_vkey,
            "receipt": read_receipt, "tiles": print_tiles}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
