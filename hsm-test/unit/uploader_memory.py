"""The memory of pfx-uploader after real jobs, by HTTP/2 and HTTP/1.1 and through a proxy with a
password: what was secret is nowhere but in the locked copies that are still of use.

The control is the same program without crypto/wipe.c: what isn't found there is looked for wrongly.
Needs the right to read another process's memory (CAP_SYS_PTRACE), and squid."""

import base64
import os
import re
import secrets
import signal
import sys
import time
import unittest

import uploader_rig
import simclient
from simclient import GROUP
from uploader_net import NginxRig, Peer, fronts
from uploader_http2 import record
import uploader_cmp

UNWIPED = ""
USER = "pfx-agent"
READABLE = {"sandbox.secret_memory": "locked"}  # the secrets' own pages, too
WINDOW = 20  # bytes of a secret that must not be found; glibc's links take the first 16 of a block

# RFC 7541 appendix B, for what a credential is made of; test_huffman holds it against nghttp2.
CODES = {}
for bits, first, letters in ((5, 0b00000, "012aceiost"),
                             (6, 0b010100, " %-./3456789=A_bdfghlmnpru"),
                             (7, 0b1011100, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
                             (8, 0b11111000, "&*,;XZ")):
    for place, letter in enumerate(letters):
        CODES[letter] = format(first + place, "0%db" % bits)


def huffman(text):
    """As a header's value goes over HTTP/2, without its padding."""
    bits = "".join(CODES[letter] for letter in text)
    return int(bits[:len(bits) // 8 * 8], 2).to_bytes(len(bits) // 8, "big")


def pieces(data):
    """Windows all over it: a copy that was partly written over has one of them."""
    if isinstance(data, str):
        data = data.encode()
    return [data[at:at + WINDOW] for at in range(0, len(data) - WINDOW + 1, WINDOW // 2)]


class Memory:
    """A stopped process: its mappings that can hold what was written."""

    def __init__(self, pid):
        self.pid = pid
        self.parts = []  # (name, secret pages?, bytes)
        os.kill(pid, signal.SIGSTOP)
        try:
            self._read()
        finally:
            os.kill(pid, signal.SIGCONT)

    def _read(self):
        with open("/proc/%d/smaps" % self.pid, encoding="ascii") as stream:
            text = stream.read()
        blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
        with open("/proc/%d/mem" % self.pid, "rb", buffering=0) as memory:
            for block in blocks:
                match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (rw..) \S+ \S+ \S+ *(.*)", block)
                if not match:
                    continue
                start, end = int(match[1], 16), int(match[2], 16)
                flags = re.search(r"(?m)^VmFlags:(.*)$", block)[1].split()
                memory.seek(start)
                # crypto/secret.h: locked, left out of core dumps, not inherited.
                own = {"lo", "dd", "dc"} <= set(flags)
                self.parts.append((match[4] or "anonymous", own, memory.read(end - start)))

    def where(self, secret):
        """(copies in pages of pfx_secret, {name of a mapping: pieces found elsewhere})."""
        locked, elsewhere = 0, {}
        for name, own, data in self.parts:
            if own:
                locked += data.count(secret.encode() if isinstance(secret, str) else secret)
                continue
            found = sum(data.count(piece) for piece in pieces(secret))
            if found:
                elsewhere[name] = elsewhere.get(name, 0) + found
        return locked, elsewhere


class Wiped(NginxRig):
    """DigiCert's key by HTTP/1.1; tokens by HTTP/2; the proxy's password for both."""

    nginx_options = {"tokens": True}
    http2 = True
    program = None

    @classmethod
    def setUpClass(cls):
        cls.password = secrets.token_hex(20)
        cls.secrets = {"proxy": cls.password}
        super().setUpClass()

    @classmethod
    def configuration(cls):
        cls.squid = fronts.Squid("basic", USER, cls.password)
        cls.addClassCleanup(cls.squid.close)
        cls.options = {"proxy.url": cls.squid.url, "proxy.user": USER,
                       "graph.rate_writes": "1000/1s", **READABLE}
        return super().configuration()

    def tokens(self):
        """Each that Graph was shown, in order."""
        shown = [r[7] for r in self.nginx.requests() if len(r) == 8 and r[6] == "Bearer"]
        return list(dict.fromkeys(shown))

    def work(self):
        """Jobs of each kind; every second token is dead at the end."""
        for number in range(2):
            self.control("POST", "/reset", {"what": ["tokens"]})
            self.good("up.members", group=GROUP)
            jobs = [self.agent.start("up.import", **dict(self.import_job(), **record(n)))
                    for n in range(10 * number, 10 * number + 6)]
            jobs += [self.agent.start("up.order_changes", minutes=1) for _ in range(4)]
            for job in jobs:
                self.assertEqual("ok", job.get(timeout=20)["class"])
        # An error's text is made of what is at hand.
        self.knob(service="digicert", method="PUT", action="status", code=500, after=True)
        self.bad("lost", "up.order_cancel", order_id=1, note="n")

    def dead(self):
        """{what: secret} that nobody needs any more."""
        tokens = self.tokens()
        self.assertGreaterEqual(len(tokens), 2)
        found = {"assertion %d" % n: a for n, a in enumerate(self.broker.assertions)}
        found.update({"token %d" % n: t for n, t in enumerate(tokens[:-1])})
        for number, token in enumerate(tokens[:-1]):
            found["token %d by HTTP/2" % number] = huffman("Bearer " + token)
        return found

    def in_use(self):
        """{what: secret} with one living copy."""
        return {"API key": simclient.API_KEY, "token": self.tokens()[-1],
                "proxy's password": self.password}

    def other_forms(self):
        login = base64.b64encode(("%s:%s" % (USER, self.password)).encode())
        return {"proxy's login": login, "token by HTTP/2": huffman("Bearer " + self.tokens()[-1])}

    def gone(self, when, those, memory):
        for what, secret in those.items():
            with self.subTest("%s: %s" % (when, what)):
                self.assertEqual((0, {}), memory.where(secret))

    def test_after_work(self):
        self.work()
        time.sleep(0.3)
        dead, memory = self.dead(), Memory(self.program.pid)
        # A connection that may be used again holds the last header of HTTP/2, perhaps with a token
        # that has been replaced, and the name and password by which it was made. Nothing else is
        # left of what was sent.
        self.gone("soon after", {k: v for k, v in dead.items() if "HTTP/2" not in k}, memory)
        self.assertEqual((1, {}), memory.where(self.in_use()["API key"]))
        time.sleep(6)  # no connection is left
        memory = Memory(self.program.pid)
        self.gone("at rest", {**dead, **self.other_forms()}, memory)
        for what, secret in self.in_use().items():
            with self.subTest("at rest: " + what):
                self.assertEqual((1, {}), memory.where(secret))


class Control(Wiped):
    """Without wiping all of it is found."""

    test_after_work = None

    @classmethod
    def run_program(cls):
        wiped, uploader_rig.PROGRAM = uploader_rig.PROGRAM, UNWIPED
        try:
            super().run_program()
        finally:
            uploader_rig.PROGRAM = wiped

    def test_it_would_be_found(self):
        self.work()
        memory = Memory(self.program.pid)
        kinds = {"assertion": 0, "token": 0, "API key": 0, "proxy's password": 0,
                 "proxy's login": 0, "by HTTP/2": 0}
        for what, secret in {**self.dead(), **self.in_use(), **self.other_forms()}.items():
            kind = "by HTTP/2" if "HTTP/2" in what else what.rstrip("0123456789 ")
            kinds[kind] += sum(memory.where(secret)[1].values())
        print("pieces found without wiping:", kinds)
        self.assertNotIn(0, kinds.values(), kinds)


class Cmp(uploader_cmp.OwnCa):
    """The secret that protects messages: OpenSSL copies it, in threads of its own."""

    options = dict(uploader_cmp.OwnCa.options, **READABLE)

    def test_after_transactions(self):
        self.broker.key = secrets.token_hex(24)
        self.turn(secret=self.broker.key, waits=2, check_after=1, implicit=False)
        jobs = [self.agent.start("up.order", **self.job()) for _ in range(6)]
        while self.seen().count("pollReq") < 6:
            time.sleep(0.05)
        locked, elsewhere = Memory(self.program.pid).where(self.broker.key)
        self.assertEqual(1, locked)
        self.assertNotEqual({}, elsewhere)  # the control: OpenSSL's copies are found
        for job in jobs:
            self.assertEqual("ok", job.get(timeout=20)["class"])
        time.sleep(0.3)
        self.assertEqual((1, {}), Memory(self.program.pid).where(self.broker.key))
        self.turn(secret="another one", waits=1)
        self.bad("integrity", "up.order", **self.job())
        time.sleep(0.3)  # refused: kept to be compared with the next one
        self.assertEqual((1, {}), Memory(self.program.pid).where(self.broker.key))


class Huffman(NginxRig):
    """Is what is looked for what nghttp2 sends?"""

    options = READABLE

    @classmethod
    def setUpClass(cls):
        cls.port = fronts.free_port()
        super().setUpClass()

    @classmethod
    def configuration(cls):
        cls.peer = Peer(cls.pem(), port=cls.port)
        cls.addClassCleanup(cls.peer.close)
        text = super().configuration()
        cls.fronts = cls.fronts + ["127.0.0.1:%d" % cls.port]
        return text.replace("  url: \"%s\"" % cls.urls["graph"],
                            "  url: \"https://127.0.0.1:%d\"" % cls.port)

    def test_huffman(self):
        self.good("up.readback", record_id="x")
        memory = Memory(self.program.pid)
        tokens = {m.decode() for _, own, data in memory.parts if own
                  for m in re.findall(rb"[A-Za-z0-9_.-]{60,}", data)}
        self.assertTrue(tokens)
        self.assertTrue(any(huffman("Bearer " + t) in self.peer.heads[-1] for t in tokens))


def may_look():
    """Can another process that isn't dumpable be read? Bit 19 of the capabilities."""
    with open("/proc/self/status", encoding="ascii") as stream:
        return bool(int(re.search(r"CapEff:\s*(\w+)", stream.read())[1], 16) >> 19 & 1)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2].startswith("/"):
        UNWIPED = sys.argv.pop(2)
        uploader_rig.PROGRAM = sys.argv.pop(1)
    if not fronts.SQUID or not may_look():
        print("skipped: squid is missing, or the right to read another process (CAP_SYS_PTRACE)")
        sys.exit(77)
    unittest.main()
