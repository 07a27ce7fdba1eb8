"""Key, request, PFX and seal through the processes, beside the same calls alone.

What is timed is what pfx-hsm does for an enrolment, with pfx-agentd's part of it: from the first
job of a half until the last result is in the store. The rest of an enrolment is the network's. So
that neither simulators nor uploader take processor time meanwhile, whoever has nothing to do in a
half is stopped (SIGSTOP):

    release -> [pfx-hsm: key and request] -> orders, downloads -> [pfx-hsm: PFX and seal] -> import

bench-bare makes the same calls on a world of its own: the same kind of token, as many objects on
it, as many sessions. It uses the product's own pkcs11/ and crypto/ functions, so that the calls are the
same ones; the token's counts by function and mechanism are compared.
"""

import collections
import datetime
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("e2e", "sim", "tools"):
    sys.path.insert(0, os.path.join(HERE, os.pardir, folder))

import harness  # noqa: E402  (the lines above make them found)
import many  # noqa: E402
import pki  # noqa: E402
import tokens  # noqa: E402
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402

WARM = 6  # users that are enrolled before the clock runs, by each worker some
FIRST = 1000
Half = collections.namedtuple("Half", "seconds checkpoints calls cpu")
# keys: token or wrapped; kind: softhsm, or softhsm-remote with RSA keys drawn ahead; pace:
# milliseconds after which such a key is handed out
Setup = collections.namedtuple("Setup", "key keys sessions kind users pace", defaults=(0,))


class Stock:
    """RSA keys drawn ahead, in a file for pfx-test-token: so many of 2,048 bits for users, and
    those that `init` makes. pace: milliseconds that one of 2,048 bits took on average."""

    def __init__(self, path, count):
        self.path, self.moduli = path, set()
        with open(path, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as stream:
            began = time.process_time()
            self.draw(stream, 2048, count)
            self.pace = round(1000 * (time.process_time() - began) / count)
            self.draw(stream, 3072, 6)

    def draw(self, stream, bits, count):
        for _ in range(count):
            key = rsa.generate_private_key(65537, bits)
            self.moduli.add(key.public_key().public_numbers().n)
            stream.write(key.private_bytes(serialization.Encoding.PEM,
                                           serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))

    def check(self, public_keys):
        """Else something else was measured."""
        strangers = sum(key.public_numbers().n not in self.moduli for key in public_keys)
        if strangers:
            raise SystemExit("%d keys weren't drawn ahead" % strangers)


class Tokens(harness.World):
    """SoftHSM's files in memory: what this disk does isn't what an HSM does. The store and the
    operation log are on the disk, as ever."""

    def make_tokens(self):
        folder = self.kinds["users"].folder
        self.in_memory = tempfile.mkdtemp(prefix="pfx-bench-", dir="/dev/shm")
        os.rmdir(folder)
        os.symlink(self.in_memory, folder)
        super().make_tokens()

    def close(self, keep=False):
        super().close(keep)
        shutil.rmtree(self.in_memory, ignore_errors=True)


def new_world(setup, stock):
    os.environ["PFX_TOKEN"] = setup.kind
    tokens.RemoteSofthsm.ahead = stock.path if stock else None
    tokens.RemoteSofthsm.needles = False
    arguments = many.settings(setup.users + WARM, 40)
    arguments["rules"][0]["key"] = setup.key
    arguments["policy"]["users"] = {"keys": setup.keys}
    arguments["policy"]["sessions"] = setup.sessions
    arguments["agent"]["max_orders_per_pass"] = WARM
    return Tokens(**arguments).ready()


def quiet(world, name):
    """Waits until a process has used no processor time for half a second."""
    last, since, end = -1, time.monotonic(), time.monotonic() + 60
    while time.monotonic() - since < 0.5:
        used = many.processor(world, name)
        if used != last:
            last, since = used, time.monotonic()
        if time.monotonic() > end:
            raise SystemExit("%s doesn't rest" % name)
        time.sleep(0.05)


def prepare(control, setup):
    """Counts from none on, and the time that the token takes for a key."""
    if control:
        control.clear()
        if setup.pace:
            control.fault("C_GenerateKeyPair", "every", "delay=%d" % setup.pace)
        control.reset()


def checkpoints(world):
    """Signed by this pfx-hsm since it started."""
    told = json.loads(world.cli("log", "status", "--json").out)
    value = next(i["value"] for i in told["items"] if i["name"] == "since the start")
    return int(value.split(", ")[1].split()[0])


class Ours:
    """One world with all three processes."""

    def __init__(self, setup, stock):
        self.setup, self.stock = setup, stock
        self.world = new_world(setup, stock)
        self.control = getattr(self.world.kinds["users"], "control", None)

    def stop(self, name):
        os.kill(self.world.processes[name].pid, signal.SIGSTOP)

    def go(self, name):
        os.kill(self.world.processes[name].pid, signal.SIGCONT)

    def open_store(self):
        path = "file:%s?mode=ro" % self.world.path("state", "store.db")
        self.store = sqlite3.connect(path, uri=True, isolation_level=None)

    def in_state(self, state):
        return self.store.execute("SELECT count(*) FROM enrolment WHERE state = ?",
                                  (state,)).fetchone()[0] >= self.setup.users

    def half(self, before, after):
        """From the first job given to pfx-hsm to the last result in the store."""
        harness.wait_for("all in %s" % before, lambda: self.in_state(before), 120)
        quiet(self.world, "agentd")
        self.stop("uploader")
        prepare(self.control, self.setup)
        was = [many.processor(self.world, name) for name in many.DAEMONS]
        since = time.time()
        self.go("hsm")
        harness.wait_for("all in %s" % after, lambda: self.in_state(after), 600, 0.1)
        last = self.store.execute("SELECT max(changed_at) FROM enrolment WHERE state = ?",
                                  (after,)).fetchone()[0]
        quiet(self.world, "hsm")
        cpu = {name: many.processor(self.world, name) - used
               for name, used in zip(many.DAEMONS, was)}
        calls = self.control.calls() if self.control else []
        signed = checkpoints(self.world)
        self.stop("hsm")
        self.go("uploader")
        half = Half(last / 1000 - since, signed - self.signed, counted(calls), cpu)
        self.signed = signed
        return half

    def run(self):
        world = self.world
        try:
            first = world.run_once()
            if first.code not in (0, 1):
                raise SystemExit("run: %r\n%s" % (first, world.why_not()))
            self.open_store()
            quiet(world, "hsm")
            self.signed = checkpoints(world)
            self.stop("hsm")
            world.cli("enrolment", "release", "--all")
            halves = [self.half("NEW", "KEYED"), self.half("CHECKED", "SEALED")]
            self.go("hsm")
            self.finish()
            return halves
        except AssertionError as why:
            raise SystemExit("%s\n%s" % (why, world.why_not()))
        finally:
            for name in ("hsm", "uploader"):
                self.go(name)
            world.close()

    def finish(self):
        """What was sealed arrives: the figures are of enrolments that work."""
        harness.wait_for("all active", lambda: self.in_state("ACTIVE"), 120)
        if self.stock:
            self.stock.check(serialization.load_der_public_key(row[0]) for row in
                             self.store.execute("SELECT spki FROM enrolment"))


class Authority:
    """Certificates for bench-bare, like the simulators' ones."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.issuer = pki.make_smime(folder)

    def root(self):
        return os.path.join(self.folder, "smime-root.pem")

    def chain(self):
        return pki.pem(self.issuer.certificate)

    def leaf(self, csr):
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        emails = names.get_values_for_type(x509.RFC822Name)
        spec = {"kind": "mailbox", "profile": "multipurpose", "primary_usage": "signing",
                "additional_usages": [], "common_name": emails[0], "emails": emails,
                "signature_hash": "sha256"}
        now = pki.utc_now()
        return pki.der(pki.issue_leaf(self.issuer, csr.public_key(), spec,
                                      now - datetime.timedelta(hours=1),
                                      now + datetime.timedelta(days=365)))


def bare(setup, stock, signed, authority):
    """The halves by bench-bare, in a world whose daemons have ended."""
    world = new_world(setup, stock)
    try:
        for name in ("uploader", "hsm", "agentd", "sim"):
            world.stop(name)
        world.changes["policy"]["users"]["ca_roots"] = authority.root()
        world.write_conf()
        control = getattr(world.kinds["users"], "control", None)
        process = subprocess.Popen(
            [harness.program("bench-bare"), "--policy", world.conf_path("hsm-policy.yaml"), "--key",
             setup.key, "--users", str(setup.users), "--first", str(FIRST), "--checkpoints",
             "%d,%d" % signed], env=world.environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        halves = []

        def line():
            text = process.stdout.readline()
            if not text:
                raise SystemExit("bench-bare ended with %s" % process.wait(10))
            return text.strip()

        def say(text):
            process.stdin.write(text + "\n")
            process.stdin.flush()

        for number in range(2):
            if line() != "ready":
                raise SystemExit("bench-bare doesn't get ready")
            prepare(control, setup)
            say("go")
            wall, used = (float(word) for word in line().split())
            halves.append(Half(wall, signed[number],
                               counted(control.calls() if control else []), {"bare": used}))
            if number == 0:
                requests = [x509.load_der_x509_csr(bytes.fromhex(line()))
                            for _ in range(setup.users)]
                if stock:
                    stock.check(request.public_key() for request in requests)
                say(authority.chain().hex())
                for request in requests:
                    say(authority.leaf(request).hex())
        process.stdin.close()
        if process.wait(60) != 0:
            raise SystemExit("bench-bare ended with %d" % process.returncode)
        return halves
    finally:
        world.close()


def counted(calls):
    return collections.Counter((c.function, c.mechanism) for c in calls)


def differences(ours, alone):
    """Lines for functions that weren't called as often; none where the counts agree."""
    found = []
    for half, (a, b) in enumerate(zip(ours, alone), 1):
        for call in sorted(set(a.calls) | set(b.calls), key=str):
            if a.calls[call] != b.calls[call]:
                name = call[0] if call[1] is None else "%s 0x%x" % call
                found.append("half %d: %s: ours %d, bare %d"
                             % (half, name, a.calls[call], b.calls[call]))
    return found


def must_agree(setup, ours, alone):
    different = differences(ours, alone)
    if different:
        raise SystemExit("the bare loop isn't the same calls (%s, %s):\n%s"
                         % (setup.key, setup.keys, "\n".join(different)))


def seconds(halves):
    return sum(half.seconds for half in halves)


def pair(setup, stock, authority):
    """(ours, bare), each two halves."""
    ours = Ours(setup, stock).run()
    return ours, bare(setup, stock, tuple(half.checkpoints for half in ours), authority)
