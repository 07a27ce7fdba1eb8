"""Plays both arms, the CA and Intune against the real pfx-agentd, with a framing of its own.

Nothing here shares code with the product: what both sides agree on is the protocol alone.
"""

import base64
import datetime
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AGENTD = os.environ.get("PFX_AGENTD", "pfx-agentd")
KINDS = {
    "hsm": ["hsm.key_csr", "hsm.build_seal", "hsm.report"],
    "uploader": ["up.members", "up.records", "up.import", "up.import_settle", "up.readback",
                 "up.order", "up.order_settle", "up.order_changes", "up.order_info",
                 "up.order_validation", "up.order_cancel", "up.download"],
}


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text)


def now_ms():
    return int(time.time() * 1000)


class Closed(Exception):
    """The other side closed the line."""


class Line:
    """One framed connection."""

    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise

    def send(self, kind, **members):
        text = json.dumps({"v": 1, "t": kind, **members}).encode()
        self.raw(struct.pack(">I", len(text)) + text)

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from error

    def _read(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except socket.timeout:
                raise
            except OSError as error:
                raise Closed(str(error)) from error
            if not part:
                raise Closed("end of file")
            data += part
        return data

    def read(self):
        size = struct.unpack(">I", self._read(4))[0]
        return json.loads(self._read(size))

    def close(self):
        self.sock.close()


class Fail(Exception):
    """Raised by a backend: the job's answer is this class of failure."""

    def __init__(self, cls, text="made up by the test", code="TEST"):
        super().__init__(text)
        self.cls = cls
        self.text = text
        self.code = code


class Silent(Exception):
    """Raised by a backend: no answer to this job."""


class Arm(threading.Thread):
    """One arm. hook(point, kind, job) is called at "job" (received), "done" (answered), "ack"."""

    def __init__(self, rig, role, backend, capacity=4):
        super().__init__(daemon=True)
        self.rig = rig
        self.role = role
        self.path = os.path.join(rig.run, role)
        self.backend = backend
        self.capacity = capacity
        self.incarnation = str(uuid.uuid4())
        self.places = {}  # (job, lease) -> (kind, answer or None)
        self.hook = None
        self.line = None
        self.stopping = False
        self.log = []     # kinds as they came in
        self.byes = []
        self.start()

    def stop(self):
        self.stopping = True
        if self.line:
            try:
                self.line.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.join(5)

    def reborn(self):
        """The process dies and comes back: a new incarnation that remembers nothing."""
        self.incarnation = str(uuid.uuid4())
        self.places = {}
        if self.line:
            try:
                self.line.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def call_hook(self, point, kind, job):
        if self.hook:
            self.hook(point, kind, job)

    def run(self):
        while not self.stopping:
            try:
                self.line = Line(self.path, timeout=30)
                self.serve(self.incarnation)
            except (Closed, OSError, socket.timeout):
                pass
            finally:
                if self.line:
                    self.line.close()
                self.line = None
            time.sleep(0.02)

    def serve(self, incarnation):
        line = self.line
        line.send("hello", role=self.role, version="0.1.0", incarnation=incarnation,
                  pid=os.getpid(), kinds=KINDS[self.role], capacity=self.capacity,
                  holds=[{"job": j, "lease": l} for j, l in self.places])
        first = line.read()
        if first["t"] != "welcome":
            self.byes.append(first.get("why"))
            time.sleep(0.05)
            return
        for (job, lease), (kind, answer) in list(self.places.items()):
            if answer:
                line.send("done", job=job, lease=lease, **answer)
        free = self.capacity - len(self.places)
        if free:
            line.send("pull", max=free)
        while not self.stopping and incarnation == self.incarnation:
            message = line.read()
            if message["t"] == "job":
                self.on_job(line, message)
            elif message["t"] == "ack":
                key = (message["job"], message["lease"])
                place = self.places.pop(key, None)
                if place:
                    line.send("pull", max=1)
                    self.call_hook("ack", place[0], message["job"])
            elif message["t"] == "bye":
                self.byes.append(message["why"])
                return

    def on_job(self, line, message):
        job, lease, kind = message["job"], message["lease"], message["kind"]
        if (job, lease) in self.places:
            line.send("pull", max=1)
            return
        self.log.append(kind)
        self.places[(job, lease)] = (kind, None)
        incarnation = self.incarnation
        self.call_hook("job", kind, job)
        if incarnation != self.incarnation:
            return
        try:
            body = self.backend(kind, message["body"])
            answer = {"class": "ok", "body": body}
        except Fail as fail:
            answer = {"class": fail.cls, "error": {
                "class": fail.cls, "op": kind, "object": "test", "code": fail.code,
                "text": fail.text}}
        except Silent:
            return
        if incarnation != self.incarnation:
            return
        self.places[(job, lease)] = (kind, answer)
        line.send("done", job=job, lease=lease, **answer)
        self.call_hook("done", kind, job)


class World:
    """The HSM, the directory, the CA and Intune as the arms see them."""

    def __init__(self):
        self.keys = {}      # (enrolment, attempt) -> key
        self.users = 0
        self.orders = {}    # id -> dict
        self.bought = []    # SPKI hash of every order placed
        self.changes = []   # (time, order id, status)
        self.records = {}   # id -> record
        self.groups = {}    # group -> list of users, or Fail
        self.page = 2       # users a page
        self.auto_issue = True
        self.faults = {}    # kind -> list of what to do: Exception, or callable(body) -> body
        self.parcels = {}
        self.unvalidated = []
        self.counts = {}
        self.lock = threading.RLock()
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test issuing CA")])
        self.ca = self.certify(self.ca_key.public_key(), self.ca_name, [], ca=True)
        self.notes = []
        self.ready = True

    # --- what the tests set up
    def user(self, name, **more):
        self.users += 1
        number = self.users
        user = {"id": "00000000-0000-4000-8000-%012d" % number, "upn": "%s@example.com" % name,
                "enabled": True, "display": name.title(), "given": name.title(),
                "surname": "Example", "mail": "%s@example.com" % name, "proxies": []}
        user.update(more)
        return {k: v for k, v in user.items() if v is not None}

    def fault(self, kind, *what):
        self.faults.setdefault(kind, []).extend(what)

    # --- certificates
    def certify(self, public, subject, emails, ca=False, days=365, usage="signing"):
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(self.ca_name).public_key(public)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(minutes=5))
                   .not_valid_after(now + datetime.timedelta(days=days) -
                                    datetime.timedelta(minutes=5))
                   .add_extension(x509.BasicConstraints(ca, None), True))
        if not ca:
            sign = usage in ("signing", "dual")
            encrypt = usage in ("encryption", "dual")
            builder = (builder
                       .add_extension(x509.SubjectAlternativeName(
                           [x509.RFC822Name(e) for e in emails]), False)
                       .add_extension(x509.KeyUsage(sign, False, False, False, encrypt, False,
                                                    False, False, False), True)
                       .add_extension(x509.ExtendedKeyUsage(
                           [ExtendedKeyUsageOID.EMAIL_PROTECTION]), False))
        certificate = builder.sign(self.ca_key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.DER)

    # --- the arms' work
    def work(self, kind, body):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            answer = None
            if self.faults.get(kind):
                fault = self.faults[kind].pop(0)
                if isinstance(fault, Exception):
                    raise fault
                if fault is not None:
                    answer = fault(body)
            if answer is None:
                answer = getattr(self, kind.replace(".", "_"))(body)
            return answer

    def key(self, body):
        name = (body["enrolment"], body["attempt"])
        if name not in self.keys:
            self.keys[name] = ec.generate_private_key(ec.SECP256R1())
        return self.keys[name]

    @staticmethod
    def spki(public):
        return public.public_bytes(serialization.Encoding.DER,
                                   serialization.PublicFormat.SubjectPublicKeyInfo)

    def hsm_key_csr(self, body):
        key = self.key(body)
        csr = (x509.CertificateSigningRequestBuilder()
               .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
               .add_extension(x509.SubjectAlternativeName(
                   [x509.RFC822Name(a) for a in body["addresses"]]), False)
               .sign(key, hashes.SHA256()))
        return {"key_ref": "token:%d.%d" % (body["enrolment"], body["attempt"]),
                "key_id": b64(hashlib.sha256(str(body["enrolment"]).encode()).digest()[:16]),
                "spki": b64(self.spki(key.public_key())),
                "csr": b64(csr.public_bytes(serialization.Encoding.DER)),
                "ticket": b64(os.urandom(32))}

    def hsm_build_seal(self, body):
        pfx = os.urandom(200)
        return {"pfx": b64(pfx), "pfx_sha256": b64(hashlib.sha256(pfx).digest()),
                "sealed": b64(os.urandom(384)), "generation": 1, "key_name": "pfx-test",
                "provider_name": "Test Provider", "padding": "oaepSha512", "tier": "transit",
                "sealed_by": "openssl"}

    def hsm_report(self, body):
        report = {"ready": self.ready, "user_keys": "token", "tier_rsa": "transit",
                  "tier_ec": "transit", "notes": self.notes, "generation": 1}
        if not self.ready:
            report["why_not"] = "not initialised; run pfx-agent init"
        return report

    def up_members(self, body):
        group = self.groups.get(body["group"], Fail("refused", "the group doesn't exist", "404"))
        if isinstance(group, Exception):
            raise group
        at = int(body.get("page", "0"))
        answer = {"users": group[at:at + self.page]}
        if at + self.page < len(group):
            answer["page"] = str(at + self.page)
        return answer

    def up_records(self, body):
        records = sorted(self.records.values(), key=lambda r: r["id"])
        at = int(body.get("page", "0"))
        answer = {"records": records[at:at + self.page]}
        if at + self.page < len(records):
            answer["page"] = str(at + self.page)
        return answer

    def place(self, body):
        csr = x509.load_der_x509_csr(unb64(body["csr"]))
        spki = self.spki(csr.public_key())
        number = 5000 + len(self.orders)
        self.bought.append(hashlib.sha256(spki).hexdigest())
        self.orders[number] = {"spki": spki, "status": "pending", "token": body["token"],
                               "emails": body["addresses"], "purpose": body["purpose"],
                               "days": body.get("days", 365 * body.get("years", 0)), "body": body}
        if self.auto_issue:
            self.set_status(number, "issued")
        return number

    def set_status(self, number, status):
        with self.lock:
            self.orders[number]["status"] = status
            self.changes.append((time.time(), number, status))

    def up_order(self, body):
        return {"order_id": self.place(body), "status": "pending"}

    def up_order_settle(self, body):
        for number, order in self.orders.items():
            if order["spki"] == unb64(body["spki"]):
                return {"found": True, "order_id": number, "status": order["status"]}
        return {"found": False}

    def up_order_changes(self, body):
        since = time.time() - body["minutes"] * 60
        return {"orders": [{"order_id": n, "status": s} for t, n, s in self.changes if t >= since]}

    def up_order_info(self, body):
        return {"order_id": body["order_id"], "status": self.orders[body["order_id"]]["status"]}

    def up_order_validation(self, body):
        emails = self.orders[body["order_id"]]["emails"]
        waiting = [e for e in emails if e in self.unvalidated]
        return {"validated": [e for e in emails if e not in waiting], "unvalidated": waiting}

    def up_order_cancel(self, body):
        self.set_status(body["order_id"], "canceled")
        return {"order_id": body["order_id"]}

    def up_download(self, body):
        order = self.orders[body["order_id"]]
        if "leaf" not in order:
            public = serialization.load_der_public_key(order["spki"])
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, order["emails"][0])])
            order["leaf"] = self.certify(public, subject, order["emails"], days=order["days"],
                                         usage=order["purpose"])
        return {"leaf": b64(order["leaf"]), "chain": [b64(self.ca)]}

    def up_import(self, body):
        known = body["record_id"] in self.records
        self.records[body["record_id"]] = {
            "id": body["record_id"], "thumbprint": body["thumbprint"], "purpose": body["purpose"],
            "upn": body["upn"], "starts": body["starts"], "expires": body["expires"],
            "provider_name": body["provider_name"], "key_name": body["key_name"],
            "padding": body["padding"]}
        self.parcels[body["record_id"]] = (body["pfx"], body["sealed"])
        return {"record_id": body["record_id"], "updated": known}

    def up_import_settle(self, body):
        return self.up_import(body)

    def up_readback(self, body):
        record = self.records.get(body["record_id"])
        return {"present": True, "record": record} if record else {"present": False}


GROUP = "11111111-1111-4111-8111-111111111111"
GROUP2 = "22222222-2222-4222-8222-222222222222"
RULE = {"name": "staff", "group": GROUP, "product": "secure_email_mailbox", "key": "ec-p256"}


class Rig:
    """A state folder, a pfx-agentd on it, and the two arms."""

    def __init__(self, rules=None, schedule=None, arms=True, options=(), **config):
        self.dir = tempfile.mkdtemp(prefix="pfx-agentd-")
        self.run = os.path.join(self.dir, "run")
        self.state = os.path.join(self.dir, "state")
        self.world = World()
        self.options = list(options)
        self.rules = rules or [RULE]
        self.schedule = {"pass_every": "never", "poll_every": "200ms", "validation_every": "300ms",
                         "settle_grace": "500ms", "retry_min": "20ms", "retry_max": "200ms"}
        self.schedule.update(schedule or {})
        self.config = config
        self.write_config()
        self.process = None
        self.log_path = os.path.join(self.dir, "log")
        self.arms = {}
        self.start()
        if arms:
            self.start_arms()

    def write_config(self):
        lines = ["state_dir: %s" % self.state, "run_dir: %s" % self.run]
        lines += ["%s: %s" % item for item in self.config.items()]
        lines.append("schedule:")
        lines += ["  %s: %s" % item for item in self.schedule.items()]
        lines.append("rules:")
        for rule in self.rules:
            first = "-"
            for item in rule.items():
                lines.append("  %s %s: %s" % ((first,) + item))
                first = " "
        self.config_path = os.path.join(self.dir, "agent.yaml")
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def start_arms(self):
        for role in KINDS:
            self.arms[role] = Arm(self, role, self.world.work)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([AGENTD, "--config", self.config_path] + self.options,
                                            stderr=log, stdin=subprocess.DEVNULL)
        self.wait_for(lambda: self.answers() or self.process.poll() is not None, 10)
        if self.process.poll() is not None:
            raise AssertionError("pfx-agentd didn't start:\n" + self.log())

    def answers(self):
        try:
            Line(os.path.join(self.run, "cli"), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restart(self):
        self.kill()
        self.start()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def close(self):
        for arm in self.arms.values():
            arm.stop()
        code = None
        if self.process.poll() is None:
            code = self.terminate()
        if os.environ.get("PFX_KEEP"):
            print("kept:", self.dir)
        else:
            shutil.rmtree(self.dir)
        return code

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def ask(self, verb, timeout=60, **args):
        line = Line(os.path.join(self.run, "cli"), timeout)
        try:
            line.send("req", id=1, verb=verb, args=args)
            items = []
            while True:
                message = line.read()
                if message["t"] == "end":
                    return items, message["exit"], message.get("error")
                items.append(message["body"])
        finally:
            line.close()

    def run_once(self, **args):
        return self.ask("run", **args)

    def enrolments(self):
        return self.ask("enrolment.list")[0]

    def states(self):
        return [e["state"] for e in self.enrolments()]

    def show(self, number):
        return self.ask("enrolment.show", enrolment=number)[0][0]

    def sql(self, text, *args):
        db = sqlite3.connect("file:%s/store.db?mode=ro" % self.state, uri=True)
        try:
            return db.execute(text, args).fetchall()
        finally:
            db.close()

    @staticmethod
    def wait_for(condition, seconds=10, what="condition"):
        until = time.time() + seconds
        while time.time() < until:
            result = condition()
            if result:
                return result
            time.sleep(0.01)
        raise AssertionError("not within %g s: %s" % (seconds, what))
