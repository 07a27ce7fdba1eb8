"""What the tests of pfx-uploader share: the real program between a played pfx-agentd, a played
pfx-hsm and the simulators."""

import base64
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "sim"))

import simclient  # noqa: E402  (the line above must come first)
from framing import Line, b64  # noqa: E402,F401
from uploader_tcp import Server  # noqa: E402

PROGRAM = os.environ.get("PFX_UPLOADER", "")
WAIT = 30


class Listener(Server):
    """Accepts on a path socket; talk(line) runs in a thread of its own for each connection."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(8)
        super().__init__(listener)

    def serve(self, connection):
        line = Line(connection)
        self.lines.append(line)
        self.talk(line)

    def close(self):
        super().close()
        for line in self.lines:
            line.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


class Agent(Listener):
    """pfx-agentd: hands out jobs, takes answers, acknowledges them."""

    def __init__(self, path):
        self.hello = None
        self.line = None
        self.ready = threading.Event()
        self.credit = threading.Semaphore(0)
        self.beats = []
        self.last = 0
        self.waiting = {}
        self.lock = threading.Lock()
        super().__init__(path)

    def talk(self, line):
        self.hello = line.receive()
        assert self.hello["t"] == "hello" and self.hello["role"] == "uploader", self.hello
        line.send("welcome", version="0.1.0", incarnation=str(uuid.uuid4()))
        self.line = line
        self.ready.set()
        while True:
            message = line.receive()
            if message["t"] == "pull":
                for _ in range(message["max"]):
                    self.credit.release()
            elif message["t"] == "beat":
                self.beats.append(message["job"])
            else:
                assert message["t"] == "done", message
                line.send("ack", job=message["job"], lease=message["lease"])
                self.waiting.pop(message["job"]).put(message)

    def start(self, kind, **body):
        """Hands out a job; the queue gets its answer."""
        assert self.ready.wait(WAIT), "pfx-uploader doesn't connect"
        assert self.credit.acquire(timeout=WAIT), "no credit"
        answer = queue.Queue()
        with self.lock:
            self.last += 1
            number = self.last
            self.waiting[number] = answer
        self.line.send("job", job=number, lease=number + 1000, kind=kind, body=body,
                       deadline=int(time.time() * 1000) + 60000)
        return answer

    def do(self, kind, **body):
        return self.start(kind, **body).get(timeout=WAIT)


class Broker(Listener):
    """pfx-hsm's uploader socket: assertions, and the API key."""

    def __init__(self, path, assertion, clients):
        self.assertion = assertion
        self.clients = clients
        self.key = simclient.API_KEY
        self.asked = []
        self.error = None
        self.delay = 0
        super().__init__(path)

    def talk(self, line):
        while True:
            message = line.receive()
            assert message["t"] == "req", message
            self.asked.append((message["verb"], message["args"]))
            time.sleep(self.delay)
            if self.error:
                line.send("end", id=message["id"], exit=4, error=self.error)
                continue
            if message["verb"] == "assertion":
                app = message["args"]["app"]
                body = {"client_id": self.clients[app], "assertion": self.assertion(app),
                        "expires": int(time.time() * 1000) + 600000}
            else:
                assert message["args"] == {"name": "digicert"}, message
                body = {"value": self.key}
            line.send("item", id=message["id"], body=body)
            line.send("end", id=message["id"], exit=0)


class Rig(simclient.SimCase):
    """The program with everything around it; options change its configuration."""

    options = {}
    clients = {"main": simclient.CLIENT}  # app registrations, by their names
    assertion_alg = "PS256"
    with_broker = True
    prefix = []  # what starts the program

    @classmethod
    def setUpClass(cls):
        if not PROGRAM:
            raise RuntimeError("PFX_UPLOADER names no program")
        super().setUpClass()
        if not hasattr(cls, "urls"):
            cls.start()
        cls.attach()

    @classmethod
    def attach(cls):
        """The program and who plays its neighbours; the simulator is there."""
        cls.program = None
        cls.broker = None
        cls.socket_dir = cls.scratch.name
        cls.agent = Agent(os.path.join(cls.socket_dir, "agent"))
        cls.addClassCleanup(cls.agent.close)
        if cls.with_broker:
            cls.start_broker()
        cls.run_program()
        cls.addClassCleanup(cls.stop_program)

    @classmethod
    def start_broker(cls):
        cls.broker = Broker(os.path.join(cls.socket_dir, "hsm"), lambda app: cls.assertion(
            cls, client=cls.clients[app], alg=cls.assertion_alg), cls.clients)
        cls.addClassCleanup(cls.broker.close)

    @classmethod
    def configuration(cls):
        values = {
            "digicert": {"url": cls.urls["digicert"]},
            "entra": {"url": cls.urls["login"], "tenant": simclient.TENANT},
            "graph": {"url": cls.urls["graph"]},
            "exchange": {"url": cls.urls["exchange"]},
            "tls": {"ca_bundle": os.path.join(cls.dir, "tls-ca.pem")},
            "limits": {"in_flight": 16, "connect_timeout": "2s", "request_timeout": "3s",
                       "job_timeout": "6s", "max_body": "1MiB"},
        }
        for path, value in cls.options.items():
            section, name = path.split(".")
            values.setdefault(section, {})[name] = value
        lines = ["agent_socket: %s/agent" % cls.socket_dir, "hsm_socket: %s/hsm" % cls.socket_dir]
        for section, members in values.items():
            lines.append(section + ":")
            lines += ["  %s: %s" % (k, json.dumps(v) if isinstance(v, str) else v)
                      for k, v in members.items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def run_program(cls):
        config = os.path.join(cls.scratch.name, "uploader.yaml")
        with open(config, "w", encoding="utf-8") as stream:
            stream.write(cls.configuration())
        os.chmod(config, 0o600)
        # A proxy of the environment must not matter.
        nowhere = "http://127.0.0.1:1"
        environment = dict(os.environ, https_proxy=nowhere, ALL_PROXY=nowhere)
        # libcurl would write the keys of its connections there.
        environment["SSLKEYLOGFILE"] = os.path.join(cls.scratch.name, "tls-keys")
        # The program can't be traced, so that the leak checker can't look into it.
        environment["ASAN_OPTIONS"] = "detect_leaks=0:" + environment.get("ASAN_OPTIONS", "")
        cls.log = open(os.path.join(cls.scratch.name, "log"), "w+", encoding="utf-8")
        cls.program = subprocess.Popen([*cls.prefix, PROGRAM, "--child", "--config", config],
                                       stderr=cls.log, env=environment)

    @classmethod
    def stop_program(cls):
        if cls.program is None:
            return
        if cls.program.poll() is None:
            cls.program.send_signal(signal.SIGTERM)
        try:
            code = cls.program.wait(10)
        except subprocess.TimeoutExpired:
            cls.program.kill()
            cls.program.wait(10)
            code = "hung"
        text = cls.log_text()
        cls.log.close()
        assert code == 0, "pfx-uploader ended with %s:\n%s" % (code, text)
        for secret in (simclient.API_KEY, "eyJ0eXAi"):
            assert secret not in text, "a secret in the log"
        assert not os.path.exists(os.path.join(cls.scratch.name, "tls-keys")), "TLS keys in a file"

    @classmethod
    def log_text(cls):
        with open(os.path.join(cls.scratch.name, "log"), encoding="utf-8") as stream:
            return stream.read()

    def setUp(self):
        super().setUp()
        if self.broker:
            self.broker.error = None
            self.broker.delay = 0
            self.broker.key = simclient.API_KEY

    @classmethod
    def restart(cls):
        """A program that remembers nothing."""
        assert cls.agent.ready.wait(WAIT), "pfx-uploader doesn't connect"
        cls.stop_program()
        cls.agent.ready.clear()
        cls.agent.credit = threading.Semaphore(0)
        cls.run_program()

    # --- jobs --------------------------------------------------------------------------------

    def good(self, kind, **body):
        answer = self.agent.do(kind, **body)
        self.assertEqual("ok", answer["class"], answer.get("error"))
        return answer["body"]

    def bad(self, cls, kind, *words, **body):
        """The error of a job that fails with this class and says these words."""
        answer = self.agent.do(kind, **body)
        self.assertEqual(cls, answer["class"], answer)
        text = " ".join(str(v) for v in answer["error"].values())
        for word in words:
            self.assertIn(word, text)
        self.assertNotIn(simclient.API_KEY, text)
        return answer["error"]

    @staticmethod
    def order_job(key=simclient.EC_KEY, emails=("alice@example.com",), **changes):
        pem = simclient.csr(key, emails)
        raw = base64.b64decode(pem.split("-----")[2])
        job = {"enrolment": 7, "product": "secure_email_mailbox", "addresses": list(emails),
               "csr": b64(raw), "token": str(uuid.uuid4()), "years": 1, "profile_type": "strict",
               "purpose": "signing", "additional_usages": [], "custom_fields": []}
        job.update(changes)
        return {k: v for k, v in job.items() if v is not None}

    @staticmethod
    def spki(key=simclient.EC_KEY):
        return b64(key.public_key().public_bytes(
            simclient.serialization.Encoding.DER,
            simclient.serialization.PublicFormat.SubjectPublicKeyInfo))

    def settle_job(self, job, key=simclient.EC_KEY, age=0):
        return {"product": job["product"], "addresses": job["addresses"], "spki": self.spki(key),
                "token": job["token"], "since": int((time.time() - age) * 1000)}

    @staticmethod
    def import_job(**changes):
        blob = bytes.fromhex("3043020103303e0500") + bytes(60)
        job = {"user": "a1000000-0000-4000-8000-000000000001",
               "record_id": simclient.OBJECT + "-" + "ab" * 20, "thumbprint": "ab" * 20,
               "purpose": "smimeSigning", "upn": simclient.UPN, "starts": 1767323045000,
               "expires": 1798859045000, "provider_name": "pfx-sim provider",
               "key_name": "PFXEncryptionKey", "padding": "oaepSha512", "pfx": b64(blob),
               "sealed": b64(b"\x5a" * 384)}
        job.update(changes)
        return job


class SharedRig(Rig):
    """One simulator for all classes of a file: their base calls open_world in setUpModule. Each
    class has a program of its own."""

    @classmethod
    def open_world(cls):
        super(Rig, cls).setUpClass()
        unittest.addModuleCleanup(cls.doClassCleanups)

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="pfx-uploader-test-")
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.attach()

    def asked(self, service, least=1):
        """The requests that a service got. Each is in the log a moment after its answer."""
        end = time.monotonic() + 5
        while True:
            found = [r for r in self.control("GET", "/log")["requests"] if r["service"] == service]
            if len(found) >= least or time.monotonic() > end:
                return found
            time.sleep(0.01)
