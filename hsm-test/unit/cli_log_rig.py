"""What the tests of `pfx-agent log` share: the program, a played pfx-hsm and pfx-agentd, and an own
reading of exported logs and receipts (RFC 9162, C2SP's formats), with nothing of the product in it."""

import base64
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tools"))

import log_make  # noqa: E402  (the lines above must come first)
from framing import Line  # noqa: E402

PROGRAM = os.environ.get("PFX_AGENT", "")
LONG = os.environ.get("PFX_LONG") == "1"
SECONDS = 60 * float(os.environ.get("PFX_TEST_SLOW", "1"))


def sanitized():
    """Whether the program is a build whose memory and time say nothing."""
    with open(PROGRAM, "rb") as stream:
        return b"__asan_init" in stream.read()


def sha(data):
    return hashlib.sha256(data).digest()


def node(left, right):
    return sha(b"\1" + left + right)


def root_of(leaves):
    """RFC 9162, 2.1.1, as it is defined."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root_of(leaves[:k]), root_of(leaves[k:]))


def included(index, size, leaf, path, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def verify_note(note, lines):
    """A signed note against key lines: origin, size, root. Each of the keys must have signed."""
    text, _, signatures = note.decode("utf-8").partition("\n\n")
    origin, size, root = text.split("\n")
    text = text.encode() + b"\n"
    signed = set()
    for line in signatures.rstrip("\n").split("\n"):
        dash, name, blob = line.split(" ")
        assert dash == "\u2014", line
        blob = base64.b64decode(blob, validate=True)
        for key in lines:
            key_name, key_id, body = key.split("+", 2)
            if (key_name, key_id) != (name, blob[:4].hex()):
                continue
            body = base64.b64decode(body, validate=True)
            if body[0] == 2:
                public = serialization.load_der_public_key(body[1:])
                public.verify(blob[4:], text, ec.ECDSA(hashes.SHA256()))
            else:
                ed25519.Ed25519PublicKey.from_public_bytes(body[1:]).verify(blob[4:], text)
            signed.add(key)
    assert signed == set(lines), "signed by %s" % signed
    return origin, int(size), base64.b64decode(root, validate=True)


def check_receipt(text, lines, entry):
    """A .tlog-proof against the keys and the entry; returns index and size."""
    head, _, rest = text.partition(b"\n\n")
    rows = head.decode("ascii").split("\n")
    assert rows[0] == "c2sp.org/tlog-proof@v1", rows[0]
    index = int(re.fullmatch(r"index (0|[1-9]\d*)", rows[1]).group(1))
    path = [base64.b64decode(row, validate=True) for row in rows[2:]]
    assert all(len(p) == 32 for p in path)
    _, size, root = verify_note(rest, lines)
    assert included(index, size, sha(b"\0" + entry), path, root), "the proof doesn't hold"
    return index, size


def records(data):
    found, at = [], 0
    while at < len(data):
        size, = struct.unpack_from(">H", data, at)
        assert at + 2 + size <= len(data), "a record is cut"
        found.append(data[at + 2:at + 2 + size])
        at += 2 + size
    return found


class Export:
    """Reads and checks all of an exported folder. Fails where anything isn't as the formats say."""

    def __init__(self, folder, lines):
        self.folder = folder
        note = self.read("checkpoint")
        self.origin, self.size, self.root = verify_note(note, lines)
        self.info = json.loads(self.read("export.json"))
        assert self.info["v"] == 1 and self.info["origin"] == self.origin, self.info
        assert self.info["size"] == self.size, self.info
        self._tiles()
        self._entries()
        self._rest(lines)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), "rb") as stream:
            return stream.read()

    def sorted(self, folder):
        return sorted(os.listdir(self.path(folder))) if os.path.isdir(self.path(folder)) else []

    def names(self):
        """Every file, relative."""
        found = set()
        for folder, _, files in os.walk(self.folder):
            found.update(os.path.relpath(os.path.join(folder, f), self.folder) for f in files)
        return found

    def _split(self, count):
        full, part = divmod(count, 256)
        return [(n, 256) for n in range(full)] + ([(full, part)] if part else [])

    def _file(self, level, number, width):
        return "tile/%s/%s%s" % (level, log_make.tile_name(number),
                                 "" if width == 256 else ".p/%d" % width)

    def _tiles(self):
        self.expected, self.leaves = set(), []
        below, level = None, 0
        while self.size >> 8 * level:
            hashes_here = []
            for number, width in self._split(self.size >> 8 * level):
                name = self._file(level, number, width)
                data = self.read(name)
                assert len(data) == 32 * width, name
                hashes_here += [data[i:i + 32] for i in range(0, len(data), 32)]
                self.expected.add(name)
            if below is None:
                self.leaves = hashes_here
            else:
                assert hashes_here == [root_of(below[256 * i:256 * i + 256])
                                       for i in range(len(below) // 256)], "level %d" % level
            below, level = hashes_here, level + 1
        assert root_of(self.leaves) == self.root, "the root is another one"

    def _entries(self):
        self.entries = [None] * self.size
        for number, width in self._split(self.size):
            name = self._file("entries", number, width)
            if not os.path.exists(self.path(name)):
                continue
            found = records(self.read(name))
            assert len(found) == width, name
            for i, entry in enumerate(found):
                seq = 256 * number + i
                assert sha(b"\0" + entry) == self.leaves[seq], "entry %d" % seq
                assert json.loads(entry)["seq"] == seq
                self.entries[seq] = entry
            self.expected.add(name)
        self.first = next((i for i, e in enumerate(self.entries) if e), self.size)
        assert self.info["first"] == self.first, self.info
        self.tail = []
        if os.path.exists(self.path("tail")):
            self.tail = records(self.read("tail"))
            assert self.tail, "an empty tail"
            assert [json.loads(e)["seq"] for e in self.tail] == list(
                range(self.size, self.size + len(self.tail)))

    def _rest(self, lines):
        self.names_jsonl = os.path.exists(self.path("names.jsonl"))
        self.checkpoints = self.sorted("checkpoints")
        for name in self.checkpoints:
            origin, size, root = verify_note(self.read("checkpoints/" + name), lines)
            assert origin == self.origin and "%020d" % size == name and size <= self.size, name
            assert root == root_of(self.leaves[:size]), name
        for line in lines:
            key_id = line.split("+", 2)[1]
            assert self.read("keys/%s.vkey" % key_id).decode() == line + "\n"
            body = base64.b64decode(line.split("+", 2)[2])
            pem = serialization.load_pem_public_key(self.read("keys/%s.pem" % key_id))
            raw = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) \
                if body[0] == 2 else (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            assert pem.public_bytes(*raw) == body[1:]
        for name in self.sorted("policy"):
            assert name == sha(self.read("policy/" + name)).hex() + ".yaml", name
        self.anchor = None
        if os.path.exists(self.path("anchor.json")):
            self.anchor = json.loads(self.read("anchor.json"))
            assert set(self.anchor) == {"hash", "origin", "size", "time"}
            assert self.anchor["size"] <= self.size, "the anchor is ahead of the export"
            assert re.fullmatch("[0-9a-f]{24}", self.anchor["hash"])

    def only_expected(self):
        """No file but those that belong to an export of this size."""
        rest = {n for n in self.names() - self.expected
                if not re.fullmatch(r"(checkpoints/\d{20}|keys/[0-9a-f]{8}\.(vkey|pem)"
                                    r"|policy/[0-9a-f]{64}\.yaml|checkpoint|anchor\.json|tail"
                                    r"|export\.json|names\.jsonl)", n)}
        assert not rest, "files that don't belong there: %s" % sorted(rest)


class Result:
    def __init__(self, code, out, err):
        self.code, self.raw, self.err = code, out, err.decode("utf-8", "replace")
        self.out = out.decode("utf-8", "replace")

    def __repr__(self):
        return "exit %d\n%s%s" % (self.code, self.out, self.err)


class Daemon:
    """Plays one end of a socket: answers each verb with items and an end. Keeps what was asked."""

    def __init__(self, path, answers):
        self.answers, self.asked = answers, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            line = Line(connection)
            try:
                self._answer(line)
            except OSError:
                pass  # it went away
            line.close()

    def _answer(self, line):
        request = line.receive()
        self.asked.append(request["verb"])
        answer = self.answers.get(request["verb"])
        if answer is None:
            line.send("end", id=request["id"], exit=4, error={
                "class": "refused", "op": "", "object": "", "code": "",
                "text": "the auditors' group may not ask this"})
            return
        for item in answer.get("items", []):
            line.send("item", id=request["id"], body=item)
        line.send("end", id=request["id"], exit=answer.get("exit", 0))

    def close(self):
        self.listener.close()


class LogCase(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pfx-log-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.log_dir = self.path("log")
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC",
                            "PFX_LOG_DIR": self.log_dir,
                            "PFX_AGENT_SOCKET": self.path("cli"),
                            "PFX_HSM_SOCKET": self.path("admin")}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def log(self, size=0, covered=True, **arguments):
        log = log_make.Log(self.log_dir, **arguments)
        self.addCleanup(log.close)
        if size:
            log.fill(size)
            if covered:
                log.cover()
        return log

    def lines(self, log):
        return [key.line for key in log.keys]

    def daemon(self, name, **answers):
        daemon = Daemon(self.path(name), {verb.replace("_", ".", 1): answer
                                          for verb, answer in answers.items()})
        self.addCleanup(daemon.close)
        return daemon

    def cli(self, *words, code=0, stdin=subprocess.DEVNULL, **arguments):
        done = subprocess.run([PROGRAM, "log", *map(str, words)], stdin=stdin, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.environment, timeout=SECONDS, **arguments)
        result = Result(done.returncode, done.stdout, done.stderr)
        if code is not None:
            self.assertEqual(result.code, code, repr(result))
        return result

    def export(self, log, target="export", code=0, *words):
        """Exports, and reads what came of it."""
        result = self.cli("export", self.path(target), *words, code=code)
        return Export(self.path(target), self.lines(log)), result


class Screen:
    """The program on a terminal of so many columns."""

    def __init__(self, case, columns, *words):
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        self.program = subprocess.Popen([PROGRAM, "log", *map(str, words)], stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True,
                                        env=dict(case.environment, TERM="xterm"))
        os.close(slave)
        self.output = b""

    def until(self, words, seconds=SECONDS):
        """Reads until this is shown; None: to the end."""
        end = time.monotonic() + seconds
        while words is None or words not in self.output:
            if time.monotonic() > end:
                raise AssertionError("the terminal shows %r, not %r" % (self.output, words))
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.output += data
        if words is not None and words not in self.output:
            raise AssertionError("the terminal shows %r, not %r" % (self.output, words))
        return self.output.decode("utf-8")

    def type(self, text):
        os.write(self.fd, text.encode())

    def kill(self, number):
        self.program.send_signal(number)

    def end(self):
        self.until(None)
        os.close(self.fd)
        return self.program.wait(SECONDS)

    def rows(self):
        """Lines without colours."""
        text = re.sub(r"\x1b\[[0-9;]*[mK]", "", self.output.decode("utf-8"))
        return text.replace("\r", "").rstrip("\n").split("\n")


__all__ = ["Daemon", "Export", "InvalidSignature", "LONG", "LogCase", "PROGRAM", "SECONDS", "Screen",
           "check_receipt", "included", "log_make", "records", "root_of",
           "sanitized", "sha", "verify_note"]
