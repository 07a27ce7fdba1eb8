"""The operation log of a whole flow, exported and checked by other people's verifiers."""

import base64
import hashlib
import json
import os
import shutil
import struct
import subprocess
import unittest

import harness
import oracle
import people
from case import WorldCase, about_keys

INTEROP = os.path.join(harness.ROOT, "hsm-test", "interop")
MODULES = os.environ.get("PFX_INTEROP", os.path.join(harness.ROOT, "build", "interop"))
GOPATH = "/usr/share/gocode"
ORIGIN = "test-host/pfx-agent"


def needs(what, there):
    """Skips where a verifier isn't installed; fails where all of them have to be."""
    if not there:
        if os.environ.get("PFX_TEST_REQUIRE_ALL"):
            raise AssertionError(what + " isn't installed")
        raise unittest.SkipTest(what + " isn't installed")


def leaf(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def root(leaves):
    """RFC 9162, section 2.1.1, as it stands there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()


class Export:
    """An exported log, read by its documentation alone."""

    def __init__(self, folder):
        self.folder = folder
        with open(self.path("checkpoint"), "rb") as stream:
            self.note = stream.read()
        self.text = self.note[:self.note.index(b"\n\n") + 1]
        self.origin, size, self.root = self.text.decode().split("\n")[:3]
        self.size = int(size)
        self.raw = []
        for first in range(0, self.size, 256):
            width = min(256, self.size - first)
            name = "%03d" % (first // 256 % 1000)
            if first // 256 >= 1000:
                raise AssertionError("longer than this reader knows")
            with open(self.path("tile", "entries", name + (".p/%d" % width if width < 256 else "")),
                      "rb") as stream:
                bundle = stream.read()
            while bundle:
                length, = struct.unpack(">H", bundle[:2])
                self.raw.append(bundle[2:2 + length])
                bundle = bundle[2 + length:]
        self.entries = [json.loads(e) for e in self.raw]

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def of(self, event, phase="result", outcome="ok"):
        return [e for e in self.entries
                if (e["event"], e["phase"], e["outcome"]) == (event, phase, outcome)]

    def signature(self, key_id):
        for line in self.note[len(self.text) + 1:].decode().splitlines():
            mark, name, blob = line.split(" ")
            blob = base64.b64decode(blob)
            if (mark, name, blob[:4]) == ("—", self.origin, key_id):
                return blob[4:]
        raise AssertionError("no signature of %s" % key_id.hex())


class Logged(WorldCase):
    def flow(self, users=3):
        members = [people.user(n) for n in range(1, users + 1)]
        world = self.ready(members)
        self.assertExit(world.run_once("60s"), 0)
        self.assertActive(world, [m["userPrincipalName"] for m in members])
        return world, members

    def export(self, world, *options, name="export"):
        self.assertExit(world.cli("log", "export", world.path(name), *options), 0)
        return Export(world.path(name))

    def key(self, world, name="log-1"):
        """A key of the log, as the token has it: not as the export says."""
        file = world.path(name + ".pem")
        self.assertExit(world.cli("key", "export-public", name, "--out", file), 0)
        der = oracle.call(["openssl", "pkey", "-pubin", "-in", file, "-outform", "DER"])
        return file, der

    def audit(self, world, *argv):
        return world.run(harness.program("pfx-audit"), *argv)

    def receipts(self, world, export):
        """A receipt for each PFX that was released, asked for by the file's hash."""
        files = []
        for entry in export.of("pfx.build"):
            file = world.path("%d.tlog-proof" % entry["seq"])
            self.assertExit(world.cli("log", "receipt", entry["out"]["sha256"], "--out", file), 0)
            raw = world.path("%d.entry" % entry["seq"])
            with open(raw, "wb") as stream:
                stream.write(export.raw[entry["seq"]])
            files.append((file, raw, entry))
        return files


@about_keys
class Interop(Logged):
    def test_verifiers_that_are_not_ours(self):
        needs("Go with golang.org/x/mod", shutil.which("go") and
              os.path.isdir(os.path.join(GOPATH, "src/golang.org/x/mod/sumdb")))
        needs("@sigstore/verify", os.path.isdir(os.path.join(MODULES, "node_modules")))
        world, _ = self.flow()
        with self.telling(world):
            pem, der = self.key(world)
            export = self.export(world)
            receipts = self.receipts(world, export)
            self.assertEqual(3, len(receipts))
            self.by_openssl(world, export, pem, der)
            self.by_sigstore(export, pem, receipts)
            if "ed25519" in world.cli("key", "list").out:
                self.by_go(world, export, receipts)

    def by_openssl(self, world, export, pem, der):
        """The P-256 line alone, and our own arithmetic for the root that it signs."""
        signature, text = world.path("signature"), world.path("text")
        with open(signature, "wb") as stream:
            stream.write(export.signature(hashlib.sha256(der).digest()[:4]))
        with open(text, "wb") as stream:
            stream.write(export.text)
        said = oracle.call(["openssl", "dgst", "-sha256", "-verify", pem, "-signature", signature,
                            text])
        self.assertEqual(b"Verified OK", said.strip())
        self.assertEqual(base64.b64decode(export.root), root([leaf(e) for e in export.raw]))

    def by_sigstore(self, export, pem, receipts):
        said = subprocess.run(
            ["node", os.path.join(INTEROP, "sigstore.js"), MODULES, pem, export.origin] +
            [name for file, raw, _ in receipts for name in (file, raw)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertEqual((0, b"receipts %d\n" % len(receipts)), (said.returncode, said.stdout),
                         said.stderr)
        # A receipt for one entry doesn't hold for another.
        said = subprocess.run(
            ["node", os.path.join(INTEROP, "sigstore.js"), MODULES, pem, export.origin,
             receipts[0][0], receipts[1][1]], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=60, check=False)
        self.assertNotEqual(0, said.returncode)

    def by_go(self, world, export, receipts):
        line, = [line for line in self.key_lines(export) if self.kind(line) == 1]
        environment = dict(os.environ, GO111MODULE="off", GOPATH=GOPATH,
                           GOCACHE=world.path("go-cache"))
        program = world.path("tlog")
        subprocess.run(["go", "build", "-o", program, os.path.join(INTEROP, "tlog.go")],
                       env=environment, timeout=300, check=True)
        argv = [program, export.folder, line] + [file for file, _, _ in receipts]
        said = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              check=False)
        self.assertEqual(0, said.returncode, said.stderr)
        self.assertIn(b"entries %d\n" % export.size, said.stdout)
        self.assertIn(b"receipts 3\n", said.stdout)
        self.assertGreaterEqual(int(said.stdout.split(b"checkpoints ")[1].split()[0]), 1)
        # It does look: one changed byte in a bundle of entries is found.
        spoiled = world.path("spoiled")
        shutil.copytree(export.folder, spoiled)
        bundle = [os.path.join(f, n) for f, _, names
                  in os.walk(os.path.join(spoiled, "tile", "entries")) for n in names][0]
        with open(bundle, "r+b") as stream:
            stream.seek(40)
            byte = stream.read(1)
            stream.seek(40)
            stream.write(bytes([byte[0] ^ 1]))
        said = subprocess.run([program, spoiled, line], stderr=subprocess.PIPE, timeout=120,
                              stdout=subprocess.DEVNULL, check=False)
        self.assertNotEqual(0, said.returncode)

    @staticmethod
    def key_lines(export):
        for name in sorted(os.listdir(export.path("keys"))):
            if name.endswith(".vkey"):
                with open(export.path("keys", name), encoding="ascii") as stream:
                    yield stream.read().strip()

    @staticmethod
    def kind(line):
        return base64.b64decode(line.split("+", 2)[2])[0]


class Auditor(Logged):
    def test_flow(self):
        """The verdict over a whole flow; what stands in the entries, and what doesn't."""
        world, members = self.flow()
        with self.telling(world):
            pem, _ = self.key(world)
            export = self.export(world)
            verdict = self.audit(world, "verify", export.folder, "--key", pem)
            self.assertExit(verdict, 0)
            self.assertTrue(verdict.out.startswith("VERIFIED"), verdict.out)
            # One intent and one result for each whole operation; the release names what went out.
            self.assertEqual(3, len(export.of("key.make")))
            sealed = {hashlib.sha256(base64.b64decode(r["encryptedPfxPassword"])).hexdigest()
                      for r in world.sealed().values()}
            self.assertEqual(sealed, {e["seal"]["sha256"] for e in export.of("pfx.build")})
            packed = {hashlib.sha256(base64.b64decode(r["encryptedPfxBlob"])).hexdigest()
                      for r in world.sealed().values()}
            self.assertEqual(packed, {e["out"]["sha256"] for e in export.of("pfx.build")})
            self.assertEqual(packed, {e["out"]["sha256"]
                                      for e in export.of("upload.confirmed", "note")})
            self.assertEqual(3, len(export.of("order.placed", "note")))
            # Nobody's name; the map says who is who.
            whole = b"\n".join(export.raw).lower()
            with open(export.path("names.jsonl"), encoding="utf-8") as stream:
                names = [json.loads(line) for line in stream]
            self.assertEqual({m["id"] for m in members}, {n["id"] for n in names})
            for member in members:
                for text in (member["id"], member["userPrincipalName"], member["displayName"]):
                    self.assertNotIn(text.lower().encode(), whole)
            for name in names:
                self.assertEqual(name["user"], hashlib.sha256(
                    bytes.fromhex(name["salt"]) + name["id"].encode()).hexdigest())
            for secret in [world.api_key] + [world.pin(r) for r in harness.ROLES]:
                self.assertNotIn(secret.encode().lower(), whole)
            history = self.audit(world, "history", export.folder, members[0]["userPrincipalName"])
            self.assertExit(history, 0, "key.make", "pfx.build", "upload.confirmed")

    def test_everything_dead(self):
        """Reading and exporting work without the daemons; without pfx-agentd no names."""
        world, _ = self.flow(1)
        with self.telling(world):
            pem, _ = self.key(world)
            for name in ("uploader", "hsm", "agentd"):
                world.kill(name)
            result = world.cli("log", "export", world.path("export"))
            self.assertExit(result, 0)
            export = Export(world.path("export"))
            self.assertFalse(os.path.exists(export.path("names.jsonl")))
            self.assertEqual(1, len(export.of("pfx.build")))
            self.assertExit(self.audit(world, "verify", export.folder, "--key", pem), 0)
            self.assertExit(world.cli("log", "tail", "-n", "5"), 0)
            # And goes on afterwards: the same log, longer, from the same export.
            world.start_agentd()
            world.start_hsm()
            world.start_uploader()
            harness.wait_for("hsm", lambda: world.cli("status").code in (0, 1), 30)
            self.assertExit(world.run_once("30s"), 0)
            later = self.export(world)
            self.assertGreater(later.size, export.size)
            self.assertEqual(export.raw, later.raw[:export.size])
            self.assertExit(self.audit(world, "verify", later.folder, "--key", pem), 0)


if __name__ == "__main__":
    unittest.main()
