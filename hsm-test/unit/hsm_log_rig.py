"""What the tests of the operation log share: a reader of its folder that is none of ours. Entries,
tree and signatures are read by Python's json, hashlib and cryptography."""

import base64
import glob
import hashlib
import json
import os
import re
import struct
import subprocess
import time
import unittest

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import hsm_rig as rig
from hsm_rig import unb64

rig.LEAKS = False
ALWAYS = {"v", "seq", "src", "time", "up", "boot", "event", "phase", "outcome", "actor", "op",
          "prev"}


def sha256(data):
    return hashlib.sha256(data).digest()


def root_of(leaves):
    """RFC 6962 section 2.1, as it stands there."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + root_of(leaves[:k]) + root_of(leaves[k:]))


class Log:
    """A log's folder, read anew; every check is made at once."""

    def __init__(self, test, folder):
        self.test, self.folder = test, folder
        checkpoints = self._checkpoints()  # first: a live log may go on behind them
        self.raw = []
        for path in sorted(glob.glob(folder + "/entries/*")):
            records = self._records(path)
            if records:  # an empty one is made ahead
                test.assertEqual(int(os.path.basename(path)), len(self.raw))
            self.raw += records
        self.entries = [self._entry(i, text) for i, text in enumerate(self.raw)]
        self.leaves = [sha256(b"\x00" + text) for text in self.raw]
        prev = bytes(32)
        for i, entry in enumerate(self.entries):
            test.assertEqual(entry["prev"], prev.hex(), i)
            prev = self.leaves[i]
        self.keys = {}
        for path in glob.glob(folder + "/keys/*.vkey"):
            with open(path, encoding="ascii") as f:
                self._key(f.read().strip())
        self.notes = [self._note(text) for text in checkpoints]
        self.covered = max(note["size"] for note in self.notes)

    @staticmethod
    def _records(path):
        with open(path, "rb") as f:
            data = f.read()
        found, at = [], 0
        while at + 2 <= len(data):
            size = struct.unpack_from(">H", data, at)[0]
            if size == 0:
                break
            found.append(data[at + 2:at + 2 + size])
            at += 2 + size
        return found

    def _entry(self, seq, text):
        entry = json.loads(text)
        self.test.assertEqual(json.dumps(entry, sort_keys=True, separators=(",", ":"),
                                         ensure_ascii=False).encode(), text)
        self.test.assertLessEqual(ALWAYS, set(entry), entry)
        self.test.assertEqual(entry["seq"], seq)
        self.test.assertIn("role", entry["actor"])
        return entry

    def _checkpoints(self):
        texts = []
        for name in ("checkpoint.0", "checkpoint.1"):
            with open(os.path.join(self.folder, name), "rb") as f:
                slot = f.read()
            if slot.strip(b"\0"):
                self.test.assertEqual(slot[:16].decode(), sha256(slot[17:]).hex()[:16])
                texts.append(slot[17:].rstrip(b"\0").decode())
        for path in glob.glob(self.folder + "/checkpoints/*"):
            with open(path, encoding="utf-8") as f:
                texts.append(f.read())
        return texts

    def _key(self, line):
        name, key_id, rest = line.split("+", 2)
        data = base64.b64decode(rest, validate=True)
        if data[0] == 2:
            key = serialization.load_der_public_key(data[1:])
            self.test.assertEqual(sha256(data[1:])[:4].hex(), key_id)
        else:
            self.test.assertEqual(data[0], 1)
            key = ed25519.Ed25519PublicKey.from_public_bytes(data[1:])
            self.test.assertEqual(sha256(name.encode() + b"\n" + data)[:4].hex(), key_id)
        self.keys[name, key_id] = key

    def _note(self, text):
        head, _, tail = text.partition("\n\n")
        origin, size, root = head.split("\n")
        signed = (head + "\n").encode()
        size = int(size)
        self.test.assertLessEqual(size, len(self.raw))
        self.test.assertEqual(base64.b64decode(root), root_of(self.leaves[:size]), size)
        signers = set()
        for line in tail.splitlines():
            name, blob = re.fullmatch("\u2014 (\\S+) (\\S+)", line).groups()
            data = base64.b64decode(blob, validate=True)
            key = self.keys[name, data[:4].hex()]
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(data[4:], signed)
            else:
                key.verify(data[4:], signed, ec.ECDSA(hashes.SHA256()))
            self.test.assertEqual(name, origin)
            signers.add(data[:4].hex())
        return {"origin": origin, "size": size, "signers": signers}

    def events(self, **like):
        """All entries that have these members ("target.name" as target_name)."""
        def has(entry, path, value):
            for part in path.split("_"):
                entry = entry.get(part, {})
            return entry == value
        return [e for e in self.entries if all(has(e, k, v) for k, v in like.items())]

    def pairs(self):
        """Every intent with its result, or None."""
        results = {e["ref"]: e for e in self.entries if e["phase"] == "result"}
        found = []
        for entry in self.entries:
            if entry["phase"] == "intent":
                self.test.assertEqual(entry["outcome"], "pending")
                result = results.pop(entry["seq"], None)
                if result:
                    self.test.assertEqual((result["event"], result["op"]),
                                          (entry["event"], entry["op"]))
                found.append((entry, result))
        self.test.assertEqual(results, {})
        return found


class LogCase(unittest.TestCase):
    def log(self, r, folder=None):
        return Log(self, folder or os.path.join(r.state, "log"))

    def covered(self, r, **like):
        """Waits for an entry like this, under a checkpoint."""
        until = time.time() + 30
        while True:
            log = self.log(r)
            found = log.events(**like)
            if (found and found[-1]["seq"] < log.covered) or time.time() > until:
                self.assertTrue(found, (like, log.entries[-3:]))
                return found
            time.sleep(0.1)

    def status(self, r):
        rows, end = r.admin("log.status")
        self.assertEqual(end["exit"], 0, end)
        return {row["name"]: row for row in rows}

    def enrol(self, r, enrolment, **changes):
        answer = r.key_csr(enrolment, key_type="ec-p256", **changes)
        self.assertEqual(answer["class"], "ok", answer)
        keyed = answer["body"]
        leaf = r.ca.issue(unb64(keyed["csr"]))
        answer = r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain(), enrolment))
        self.assertEqual(answer["class"], "ok", answer)
        return keyed, leaf, answer["body"]


def export(r):
    """The log as auditors get it: a folder."""
    folder = os.path.join(r.dir, "export")
    subprocess.run([os.environ["PFX_AGENT"], "log", "export", folder, "--log-dir",
                    os.path.join(r.state, "log")], check=True, timeout=60, capture_output=True)
    return folder


def audited(test, *words, keys):
    """pfx-audit finds nothing, under the keys of this export: what it prints."""
    names = [n for n in sorted(os.listdir(keys + "/keys")) if n.endswith(".vkey")]
    given = [x for name in names for x in ("--key", os.path.join(keys, "keys", name))]
    done = subprocess.run([os.environ["PFX_AUDIT"], *words, *given], capture_output=True, text=True,
                          check=False, timeout=60)
    test.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    test.assertNotIn("no ceremony.record", done.stdout)
    return done.stdout


def note(n, event="command", **more):
    return dict({"n": n, "at": int(time.time() * 1000), "event": event, "outcome": "ok",
                 "actor": "self"}, **more)
