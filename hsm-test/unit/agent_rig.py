"""Plays both arms, the CA and Intune against the real pfx-agentd, with a framing of its own.

Nothing here shares code with the product: what both sides agree on is the protocol alone.
"""

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

from agent_world import Fail, Silent, World, b64, now_ms, unb64  # noqa: F401

AGENTD = os.environ.get("PFX_AGENTD", "pfx-agentd")
KINDS = {
    "hsm": ["hsm.key_csr", "hsm.build_seal", "hsm.key_destroy", "hsm.rewrap", "hsm.report",
            "hsm.log"],
    "uploader": ["up.members", "up.records", "up.import", "up.import_settle", "up.readback",
                 "up.order", "up.order_settle", "up.order_changes", "up.order_info",
                 "up.order_validation", "up.order_cancel", "up.download", "up.orders",
                 "up.order_resend", "up.order_revoke", "up.remove", "up.setup_ca",
                 "up.setup_entra"],
}


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


class Arm(threading.Thread):
    """One arm. hook(point, kind, job) is called at "job" (received), "done" (answered), "ack"."""

    def __init__(self, rig, role, backend, capacity=4, kinds=None):
        super().__init__(daemon=True)
        self.rig = rig
        self.role = role
        self.path = os.path.join(rig.run, role)
        self.backend = backend
        self.capacity = capacity
        self.kinds = kinds or KINDS[role]
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
                  pid=os.getpid(), kinds=self.kinds, capacity=self.capacity,
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
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()  # one that hangs must not go on beside the tests that follow
            raise

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

    def edit(self, text, *args):
        """Changes the store while nobody has it open."""
        self.kill()
        db = sqlite3.connect(self.state + "/store.db")
        try:
            db.execute("PRAGMA foreign_keys = OFF")
            db.execute(text, args)
            db.commit()
        finally:
            db.close()
        self.start()

    def sql(self, text, *args):
        db = sqlite3.connect("file:%s/store.db?mode=ro" % self.state, uri=True)
        try:
            return db.execute(text, args).fetchall()
        finally:
            db.close()

    @staticmethod
    def wait_for(condition, seconds=20, what="condition"):
        until = time.time() + seconds
        while time.time() < until:
            result = condition()
            if result:
                return result
            time.sleep(0.01)
        raise AssertionError("not within %g s: %s" % (seconds, what))
