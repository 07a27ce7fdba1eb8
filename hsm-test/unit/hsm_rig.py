"""What the tests of pfx-hsm share: the real program on tokens of its own (PFX_TOKEN says of which
kind), between a played pfx-agentd, a played CLI and a played uploader; a test CA; and other people's
tools for the keys."""

import base64
import datetime
import hashlib
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tools"))

import tokens  # noqa: E402  (the lines above must come first)
from framing import Line, b64  # noqa: E402,F401

PROGRAM = os.environ.get("PFX_HSM", "")
SLOW_MODULE = os.environ.get("PFX_HSM_SLOW_MODULE", "")
TOKEN_INIT = os.environ.get("PFX_TOKEN_INIT", "")
KIND = tokens.wanted()
only_on = tokens.only_on
ROLES = ("encryption", "users", "service", "log")
TENANT = "00000000-0000-4000-8000-000000000002"
CLIENT = "00000000-0000-4000-8000-000000000003"
# After a wrong PIN: the guard's sentence, or SoftHSM's own warning.
NO_SECOND_TRY = "isn't tried again|pfx-hsm doesn't try"
USER = "11111111-2222-4333-8444-555555555555"
WAIT = 90
LEAKS = True  # a suite that makes many keys says False
SLOW = float(os.environ.get("PFX_TEST_SLOW", "1"))


def unb64(text):
    return base64.b64decode(text, validate=True)


class Agent:
    """Plays pfx-agentd: hands out jobs, takes answers, acknowledges them."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.line = None
        self.newest = 0  # number of its connection
        self.hello = None
        self.ready = threading.Event()
        self.credit = 0
        self.last = 0
        self.waiting = {}
        self.beats = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(path)
        self.socket.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        for number in itertools.count(1):
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Line(connection), number),
                             daemon=True).start()

    def _serve(self, line, number):
        """One connection; where there are two for a moment, the later one counts, whichever of the
        threads is quicker."""
        try:
            hello = line.receive()
            assert hello["t"] == "hello" and hello["role"] == "hsm", hello
            self.hello = hello
            line.send("welcome", version="0.1.0", incarnation=str(uuid.uuid4()))
            with self.lock:
                if number > self.newest:
                    self.credit, self.line, self.newest = 0, line, number
                    self.ready.set()
            while True:
                message = line.receive()
                if message["t"] == "pull":
                    with self.lock:
                        self.credit += message["max"] if self.line is line else 0
                elif message["t"] == "beat":
                    self.beats.append(message["job"])
                elif message["t"] == "done":
                    line.send("ack", job=message["job"], lease=message["lease"])
                    waiting = self.waiting.pop(message["job"], None)
                    if waiting:
                        waiting.put(message)
        except (OSError, ConnectionError):
            with self.lock:  # the next process's line may be there already
                if self.line is line:
                    self.ready.clear()
            line.close()

    def start(self, kind, **body):
        """Hands out a job; the queue gets its answer."""
        until = time.time() + WAIT
        while time.time() < until:
            if self.ready.wait(0.1):
                with self.lock:
                    if self.credit > 0:
                        self.credit -= 1
                        self.last += 1
                        answer = self.waiting[self.last] = queue.Queue()
                        self.line.send("job", job=self.last, lease=self.last + 1000,
                                       deadline=int((time.time() + 60) * 1000), kind=kind, body=body)
                        return answer
            time.sleep(0.01)
        raise AssertionError("pfx-hsm takes no job")

    def do(self, kind, **body):
        return self.start(kind, **body).get(timeout=WAIT)

    def close(self):
        """A second time, where a test closed it before its rig does, nothing is left to do."""
        if self.socket.fileno() < 0:
            return
        # Wakes the thread that accepts: asleep it would go on with whoever gets the descriptor's number.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        if self.line:
            self.line.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


class Asker:
    """Plays the CLI or the uploader: one request after the other."""

    def __init__(self, path):
        until = time.time() + 20
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(path)
                break
            except OSError:
                connection.close()
                if time.time() > until:
                    raise
                time.sleep(0.02)
        connection.settimeout(WAIT)
        self.line = Line(connection)
        self.last = 0

    def send(self, verb, **args):
        self.last += 1
        members = {"id": self.last, "verb": verb}
        if args:
            members["args"] = args
        self.line.send("req", **members)
        return self.last

    def wait(self, request):
        items = []
        while True:
            message = self.line.receive()
            assert message["id"] == request, message
            if message["t"] == "end":
                return items, message
            items.append(message["body"])

    def ask(self, verb, **args):
        return self.wait(self.send(verb, **args))

    def close(self):
        self.line.close()


class Rig:
    """Tokens, policy, program. kinds: {role: kind} for roles that aren't on the kind that PFX_TOKEN names."""

    def __init__(self, module=None, kinds=None, **options):
        self.dir = tempfile.mkdtemp(prefix="pfx-hsm-")
        self.options = options
        self.labels = {role: options.get("labels", {}).get(role, role) for role in ROLES}
        self.tokens = os.path.join(self.dir, "tokens")
        self.state = os.path.join(self.dir, "state")
        self.run = os.path.join(self.dir, "run")
        self.log = os.path.join(self.dir, "log")
        self.policy_path = os.path.join(self.dir, "hsm-policy.yaml")
        self.process = None
        self.askers = []
        self.serials = {}
        self.env = dict(os.environ, PFX_TEST_MODULE_DIR=self.dir)
        self.kinds = self._kinds(kinds or {})
        self.kind = self.kinds["users"]
        self.env.setdefault("PFX_TEST_MODULE_REAL", self.kind.module)
        self.module = module  # None: each role's own
        # A sanitizer build: only the slow unwinder sees through OpenSSL to the module whose leak it
        # is (leaks.c); where that takes too long, leaks aren't looked for.
        self.env["ASAN_OPTIONS"] = ":".join(
            o for o in (os.environ.get("ASAN_OPTIONS"),
                        "fast_unwind_on_malloc=0" if LEAKS else "detect_leaks=0") if o)
        for role in ROLES:
            self.write_pin(role, self.pin(role))
            if self.labels[role] not in self.serials:
                self.serials[self.labels[role]] = self.kinds[role].make(
                    TOKEN_INIT, self.labels[role], self.pin(role),
                    dict(self.env, **self.kinds[role].environment))
        self.ca = Authority()
        self.write_roots(self.ca)
        self.write_policy()
        self.agent = Agent(os.path.join(self.dir, "agent"))

    def _kinds(self, others):
        of_role = {role: others.get(role, KIND) for role in ROLES}
        made = {}
        # The usual kind last: where both are SoftHSM, the program's own library has its settings.
        for kind in sorted(dict.fromkeys(of_role.values()), key=lambda k: k is KIND):
            labels = sorted({self.labels[role] for role in ROLES if of_role[role] is kind})
            folder = self.tokens if kind is KIND else os.path.join(self.dir, kind.name)
            made[kind] = kind(folder, labels, SLOW_MODULE)
            self.env.update(made[kind].environment)
        return {role: made[kind] for role, kind in of_role.items()}

    def pin(self, role):
        return "pin-" + self.labels[role][:4]  # opencryptoki takes 8 characters at most

    def named(self, role):
        """The token in a URI: by its label, or where that isn't ASCII by its serial."""
        label = self.labels[role]
        return f"token={label}" if label.isascii() else f"serial={self.serials[label]}"

    def write_pin(self, role, pin):
        path = os.path.join(self.dir, role + ".pin")
        if os.path.exists(path):
            os.unlink(path)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o400), "w") as f:
            f.write(pin + "\n")

    def write_roots(self, authority):
        with open(os.path.join(self.dir, "roots.pem"), "wb") as f:
            f.write(authority.root.public_bytes(serialization.Encoding.PEM))
        os.chmod(os.path.join(self.dir, "roots.pem"), 0o644)

    def write_policy(self, **changes):
        self.options.update(changes)
        o = self.options
        text = ["host_id: test-host", f"state_dir: {self.state}", f"run_dir: {self.run}",
                f"agent_socket: {self.dir}/agent", "tokens:"]
        for role in ROLES:
            kind = self.kinds[role]
            text += [f"  {role}:", f"    module: {self.module or kind.module}",
                     f"    token: \"pkcs11:{self.named(role)}\""]
            if kind.parameters:
                text.append(f"    parameters: {json.dumps(kind.parameters)}")
            if role != "encryption":
                text.append(f"    pin_file: {self.dir}/{role}.pin")
        text += ["entra:", "  url: https://login.microsoftonline.com", f"  tenant: {TENANT}",
                 f"  algorithm: {o.get('algorithm', 'PS256')}", "  apps:"]
        for name in o.get("apps", ("main",)):
            text += [f"    - name: {name}", f"      client_id: {CLIENT}"]
        text += ["users:", f"  keys: {o.get('keys', 'token')}",
                 f"  lowest_tier: {o.get('lowest_tier', 'transit')}",
                 f"  ca_roots: {self.dir}/roots.pem"]
        if "key_types" in o:
            text.append(f"  key_types: [{', '.join(o['key_types'])}]")
        if "after_delivery" in o:
            text += ["  after_delivery:"] + [f"    {p}: {v}" for p, v in o["after_delivery"].items()]
        if o.get("domains"):
            text += ["  domains:"] + [f"    - domain: {name}" for name in o["domains"]]
        if "profiles" in o:
            text.append(f"  profiles: [{', '.join(o['profiles'])}]")
        if "max_validity" in o:
            text.append(f"  max_validity: {o['max_validity']}")
        text += ["encryption_key:", "  type: rsa-2048", f"  name: {o.get('name', 'test-encryption')}",
                 f"  provider: {o.get('provider', 'Test Key Storage Provider')}",
                 f"  oaep: {o.get('oaep', 'sha512')}"]
        if "rotate_every" in o:
            text.append(f"  rotate_every: {o['rotate_every']}")
        if o.get("connectors"):
            text += ["connectors:"] + [f"  - name: {name}" for name in o["connectors"]]
        if "ceilings" in o:
            text.append("ceilings:")
            text += [f"  {name}: {value}" for name, value in o["ceilings"].items()]
        if "log" in o:
            text.append("log:")
            text += [f"  {name}: {value}" for name, value in o["log"].items()]
        if "admins" in o:
            text += ["access:", f"  admins: {o['admins']}"]
        if "approvals" in o:
            text += ["approvals:"] + [f"  {line}" for line in o["approvals"]]
        if "access" in o:
            text += ["access:"] + [f"  {line}" for line in o["access"]]
        # A module of the tests looks for its orders in this folder.
        sandbox = o.get("sandbox") or (["folders:", f"  - path: {self.dir}"] if self.module else [])
        if sandbox:
            text += ["sandbox:"] + [f"  {line}" for line in sandbox]
        text += [f"sessions: {o.get('sessions', 2)}",
                 f"call_deadline: {o.get('call_deadline', '2m')}"]
        with open(self.policy_path, "w", encoding="utf-8") as f:
            f.write("\n".join(text) + "\n")
        os.chmod(self.policy_path, 0o644)

    def tool(self, *command, text_in=None, env=None):
        done = subprocess.run(command, env=env or self.env, input=text_in, capture_output=True,
                              check=False, timeout=WAIT)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def p11(self, role, *arguments):
        """OpenSC's pkcs11-tool on the role's token."""
        env = {k: v for k, v in dict(self.env, **self.kinds[role].environment).items()
               if k != "ASAN_OPTIONS"}
        return self.tool("pkcs11-tool", "--module", self.kinds[role].tool_module,
                         "--token-label", self.labels[role],
                         "--login", "--pin", self.pin(role), *arguments, env=env)

    def count(self, role, object_type):
        """How many objects of this type the token has."""
        text = self.p11(role, "--list-objects", "--type", object_type).decode("utf-8", "replace")
        return text.count("Object;")

    def start(self, **how):
        """how: more for subprocess.Popen (another user)."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([PROGRAM, "--policy", self.policy_path, "--debug"],
                                            env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, **how)
        return self

    def logged(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self, how=signal.SIGTERM):
        for asker in self.askers:
            asker.close()
        self.askers = []
        if self.process:
            if self.process.poll() is None:
                self.process.send_signal(how)
            code = self.process.wait(timeout=WAIT)
            self.process = None
            self.agent.ready.clear()
            return code
        return None

    def asker(self, name):
        asker = Asker(os.path.join(self.run, name))
        self.askers.append(asker)
        return asker

    def ask(self, socket_name, verb, **args):
        """Asks again while pfx-hsm is only busy opening its tokens."""
        until = time.time() + WAIT
        while True:
            asker = self.asker(socket_name)
            items, end = asker.ask(verb, **args)
            asker.close()
            self.askers.remove(asker)
            busy = end.get("error", {})
            if busy.get("class") != "transient" or time.time() > until or not (
                    "still starting" in busy["text"] or busy["op"] == "wait for tokens"):
                return items, end
            time.sleep(0.1)

    def admin(self, verb, **args):
        return self.ask("admin", verb, **args)

    def broker(self, verb, **args):
        return self.ask("uploader", verb, **args)

    def init(self):
        items, end = self.admin("init", encryption_pin=self.pin("encryption"))
        assert end["exit"] == 0, (end, items, self.logged())
        return items

    def key_csr(self, enrolment=1, **changes):
        return self.agent.do("hsm.key_csr", **dict(self.ask_body(enrolment), attempt=changes.pop(
            "attempt", 1), key_type=changes.pop("key_type", "rsa-2048"), **changes))

    @staticmethod
    def ask_body(enrolment=1):
        return {"enrolment": enrolment, "user": USER, "salt": b64(b"s" * 16),
                "addresses": ["anna@example.test", "a.b@example.test"], "purpose": "signing",
                "profile": "modern"}

    def build_body(self, keyed, leaf, chain, enrolment=1, **changes):
        """keyed: what key_csr answered."""
        body = dict(self.ask_body(enrolment), key_ref=keyed["key_ref"], ticket=keyed["ticket"],
                    leaf=b64(leaf), chain=[b64(c) for c in chain], friendly_name="Anna – S/MIME")
        body.update(changes)
        return body

    def open_sealed(self, sealed, hash_name="sha512", label="pfx-agent encryption-1"):
        """The password, by OpenSC's pkcs11-tool and an OAEP decoding of our own."""
        path = os.path.join(self.dir, "sealed.bin")
        with open(path, "wb") as f:
            f.write(sealed)
        listing = self.p11("encryption", "--list-objects", "--type", "privkey").decode()
        # By its label: where roles share a token, the first one listed may be any key.
        lines = listing.split(label, 1)[1].splitlines()
        key_id = next(l.split()[-1] for l in lines if l.strip().startswith("ID:"))
        out = os.path.join(self.dir, "raw.bin")
        self.p11("encryption", "--decrypt", "--mechanism", "RSA-X-509", "--id", key_id,
                 "--input-file", path, "--output-file", out)
        with open(out, "rb") as f:
            return oaep_decode(f.read(), len(sealed), hash_name)

    def close(self):
        code = self.stop()
        self.agent.close()
        log = self.logged() if os.path.exists(self.log) else ""
        shutil.rmtree(self.dir, ignore_errors=True)
        for word in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:"):
            assert word not in log, log[-6000:]
        return code


def mgf1(seed, length, hash_name):
    out = b""
    counter = 0
    while len(out) < length:
        out += hashlib.new(hash_name, seed + struct.pack(">I", counter)).digest()
        counter += 1
    return out[:length]


def oaep_decode(encoded, size, hash_name):
    """EME-OAEP decoding, RFC 8017 section 7.1.2, empty label."""
    encoded = encoded.rjust(size, b"\0")
    n = hashlib.new(hash_name).digest_size
    assert encoded[0] == 0
    seed = bytes(a ^ b for a, b in zip(encoded[1:1 + n], mgf1(encoded[1 + n:], n, hash_name)))
    block = bytes(a ^ b for a, b in zip(encoded[1 + n:], mgf1(seed, size - n - 1, hash_name)))
    assert block[:n] == hashlib.new(hash_name).digest()
    rest = block[n:].lstrip(b"\0")
    assert rest[0] == 1
    return rest[1:]


class Authority:
    """Root and intermediate that issue S/MIME certificates from a request."""

    def __init__(self, name="Test"):
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._ca(f"{name} Root", self.root_key, f"{name} Root", self.root_key, 1)
        self.intermediate = self._ca(f"{name} Issuing", self.key, f"{name} Root", self.root_key, 0)

    @staticmethod
    def _name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def _ca(self, name, key, issuer, issuer_key, depth):
        now = datetime.datetime.utcnow()
        return (x509.CertificateBuilder().subject_name(self._name(name))
                .issuer_name(self._name(issuer)).public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=10))
                .not_valid_after(now + datetime.timedelta(days=3650))
                .add_extension(x509.BasicConstraints(True, depth), True)
                .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False,
                                             False), True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    issuer_key.public_key()), False)
                .sign(issuer_key, hashes.SHA256()))

    def issue(self, csr_der, emails=None, purpose="signing", days=365, key=None, age=0):
        """DER of the leaf, issued `age` days ago. key: certify this public key instead of the
        request's."""
        csr = x509.load_der_x509_csr(csr_der)
        assert csr.is_signature_valid
        if emails is None:
            emails = csr.extensions.get_extension_for_class(
                x509.SubjectAlternativeName).value.get_values_for_type(x509.RFC822Name)
        public = key or csr.public_key()
        is_rsa = isinstance(public, rsa.RSAPublicKey)
        signing, encryption = purpose != "encryption", purpose != "signing"
        now = datetime.datetime.utcnow()
        return (x509.CertificateBuilder().subject_name(csr.subject)
                .issuer_name(self.intermediate.subject).public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=age, minutes=5))
                .not_valid_after(now + datetime.timedelta(days=days - age))
                .add_extension(x509.BasicConstraints(False, None), True)
                .add_extension(x509.KeyUsage(signing, False, encryption and is_rsa, False,
                                             encryption and not is_rsa, False, False, False, False),
                               True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
                .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(e) for e in emails]),
                               False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.key.public_key()), False)
                .sign(self.key, hashes.SHA256())).public_bytes(serialization.Encoding.DER)

    def chain(self):
        return [self.intermediate.public_bytes(serialization.Encoding.DER)]


def main():
    missing = KIND.missing() or next(
        ("%s isn't there" % what for what, there in (
            ("PFX_HSM", PROGRAM), ("PFX_TOKEN_INIT", TOKEN_INIT),
            ("PFX_HSM_SLOW_MODULE", SLOW_MODULE), ("pkcs11-tool", shutil.which("pkcs11-tool")))
         if not there), None)
    if missing:
        print("skipped:", missing)
        sys.exit(77)
    unittest.main(verbosity=2)
