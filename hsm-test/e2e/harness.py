"""One private world for a test: tokens, simulators, configuration and daemons in a temp folder.

PFX_TOKEN=softhsm|nss says which kind of token plays all four roles (SoftHSM without it).

Everything is started by this process, and ended by its process id. Every wait has an end. A PIN or
a key lies in a file of mode 0600 or goes through a pipe; it never stands in argv or the
environment.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SIM = os.path.join(ROOT, "hsm-test", "sim", "sim.py")
QUICKSTART_TENANT = os.path.join(ROOT, "hsm-test", "sim", "tenant-quickstart.json")
sys.path.insert(0, os.path.join(ROOT, "hsm-test", "tools"))

import tokens as kinds  # noqa: E402  (the line above makes it found)
from world_conf import ROLES, Configured, private_file  # noqa: E402

# A sanitizer build is several times slower; every wait is stretched alike.
PATIENCE = float(os.environ.get("PFX_PATIENCE", "1"))


def wait_for(what, check, seconds=30, pause=0.05):
    """What check returns once it is true; AssertionError with `what` when the time is over."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() >= end:
            raise AssertionError("no sign of: %s (%d s)" % (what, seconds * PATIENCE))
        time.sleep(pause)


def build_folder():
    return os.environ.get("PFX_BUILD", os.path.join(ROOT, "build"))


def program(name):
    """A program of the build folder; SystemExit with the step that makes it."""
    for folder in ("", "agent", "agent/audit", "agent/cli", "pkcs11/hsm", "api/uploader", "hsm-test",
                   "bin"):
        path = os.path.join(build_folder(), folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise SystemExit("%s isn't in %s: build it (hsm-test/run.sh does), or set PFX_BUILD"
                     % (name, build_folder()))


class Result:
    """What a command ended with."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def lines(self):
        """The JSON lines of --json."""
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    def __repr__(self):
        return "exit %d\n--- stdout\n%s--- stderr\n%s" % (self.code, self.out, self.err)


class World(Configured):
    """Tokens, simulators and daemons; use it as a context, or call close()."""

    def __init__(self, tenant=QUICKSTART_TENANT, users=None, agent=None, policy=None,
                 uploader=None, settings=None, folder=None, clock_factor=1, rules=None):
        self.folder = folder or tempfile.mkdtemp(prefix="pfx-", dir="/tmp")
        os.chmod(self.folder, 0o700)
        self.processes = {}
        self.logs = {}
        self.clock_factor = clock_factor
        self.token_serials = {}
        self.api_key = secrets.token_hex(24)
        for name in ("pins", "conf", "state", "run", "hsm-state", "hsm-run", "out", "log", "home"):
            os.mkdir(self.path(name), 0o700)
        self._environment()
        self._kinds(kinds.wanted(), users)
        self._tenant(tenant, settings or {}, rules)
        self.changes = {"agent": agent or {}, "policy": policy or {}, "uploader": uploader or {}}
        self.addresses = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    # --- what everything runs in ----------------------------------------------------------

    def _environment(self):
        keep = ("PATH", "LANG", "LC_ALL", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TERM")
        self.environment = {k: os.environ[k] for k in keep if k in os.environ}
        self.environment.update({
            "HOME": self.path("home"),
            "PFX_AGENT_SOCKET": self.path("run", "cli"),
            "PFX_HSM_SOCKET": self.path("hsm-run", "admin"),
            "PFX_LOG_DIR": self.path("hsm-state", "log"),
        })
        self.environment.setdefault("LANG", "C.UTF-8")

    def _tenant(self, tenant, settings, rules):
        if isinstance(tenant, str):
            with open(tenant, encoding="utf-8") as stream:
                tenant = json.load(stream)
        tenant = json.loads(json.dumps(tenant))
        tenant.setdefault("settings", {}).update(settings)
        self.tenant = tenant
        self.tenant_id = tenant["tenant_id"]
        self.client_id = tenant["apps"][0]["client_id"]
        self.prefix = []  # what starts each daemon and simulator
        self.rules = rules or [{"name": "staff", "group": sorted(tenant["groups"])[0],
                                "product": "secure_email_mailbox", "purpose": "signing"}]
        with open(self.path("tenant.json"), "w", encoding="utf-8") as stream:
            json.dump(tenant, stream, ensure_ascii=False)
        private_file(self.path("digicert-api-key"), self.api_key)

    def run(self, *argv, stdin=None, seconds=60, environment=None, pass_fds=()):
        """Runs a program to its end."""
        done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment or self.environment, timeout=seconds * PATIENCE,
                              pass_fds=pass_fds, check=False, start_new_session=True,
                              **({} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        return Result(done.returncode, done.stdout.decode("utf-8", "replace"),
                      done.stderr.decode("utf-8", "replace"))

    def cli(self, *argv, seconds=60, secret=None, option="--pin-fd"):
        """pfx-agent; a secret goes through a pipe whose number stands behind `option`."""
        if secret is None:
            return self.run(program("pfx-agent"), *argv, seconds=seconds)
        reader, writer = os.pipe()
        try:
            os.write(writer, secret.encode("utf-8") + b"\n")
            os.close(writer)
            return self.run(program("pfx-agent"), *argv, option, str(reader), seconds=seconds,
                            pass_fds=(reader,))
        finally:
            os.close(reader)

    # --- tokens ---------------------------------------------------------------------------

    def _kinds(self, everywhere, users):
        """self.kinds: {role: kind}. `users` names another kind for the users role alone."""
        of_role = dict.fromkeys(ROLES, everywhere)
        if users:
            of_role["users"] = kinds.KINDS[users]
        made = {}
        for kind in set(of_role.values()):
            forwarder = program("hsm_slow_module.so") if issubclass(kind, kinds.Nss) else ""
            labels = ["pfx-" + role for role in ROLES if of_role[role] is kind]
            made[kind] = kind(self.path("tokens" if kind is kinds.Softhsm else kind.name), labels,
                              forwarder)
            self.environment.update(made[kind].environment)
        self.kinds = {role: made[kind] for role, kind in of_role.items()}

    def tool_module(self, role):
        """The module by which other people's programs reach a role's token."""
        return self.kinds[role].tool_module

    def make_tokens(self):
        for role in ROLES:
            self.make_token(role)

    def make_token(self, role):
        pin = "%08d" % secrets.randbelow(10 ** 8)
        private_file(self.path("pins", role), pin + "\n")
        self.token_serials[role] = self.kinds[role].make(program("token-init"), "pfx-" + role, pin,
                                                         self.environment)

    def pin(self, role):
        with open(self.path("pins", role), encoding="utf-8") as stream:
            return stream.read().strip()

    # --- simulators -----------------------------------------------------------------------

    def start_sim(self):
        self.spawn("sim", "/usr/bin/python3", SIM, "--dir", self.path("sim"), "--tenant",
                   self.path("tenant.json"), "--clock-factor", str(self.clock_factor))
        where = self.path("sim", "sim.json")

        def ready():
            self.alive("sim")
            with contextlib.suppress(OSError, ValueError):
                with open(where, encoding="utf-8") as stream:
                    return json.load(stream)
            return None
        self.addresses = wait_for("the simulators", ready, 30)

    def control(self, path, body=None, seconds=30):
        """Asks the simulators' control listener."""
        data = None if body is None else json.dumps(body).encode("utf-8")
        request = urllib.request.Request(self.addresses["control"] + path, data=data,
                                         method="GET" if body is None else "POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=seconds) as answer:
            return json.load(answer)

    def knob(self, **rule):
        return self.control("/knobs", rule)["ids"]

    def setting(self, **settings):
        return self.control("/knobs", {"settings": settings})

    def orders(self):
        return self.control("/digicert/orders")["orders"]

    def records(self):
        return self.control("/graph/records")["records"]

    def sealed(self):
        """{record id: body} of what Graph was given, blob and sealed password included."""
        found = {}
        folder = self.path("sim", "graph")
        for name in sorted(os.listdir(folder)):
            if name.endswith(".json"):
                with open(os.path.join(folder, name), encoding="utf-8") as stream:
                    found[name[:-5]] = json.load(stream)
        return found

    # --- processes ------------------------------------------------------------------------

    def spawn(self, name, *argv, environment=None):
        log = open(self.path("log", name), "ab")
        self.processes[name] = subprocess.Popen(
            [*self.prefix, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            env=environment or self.environment, start_new_session=True)
        log.close()
        return self.processes[name]

    def alive(self, name):
        process = self.processes[name]
        if process.poll() is not None:
            raise AssertionError("%s has ended with %d:\n%s"
                                 % (name, process.returncode, self.log(name)))

    def log(self, name):
        with contextlib.suppress(OSError):
            with open(self.path("log", name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        return ""

    def beside(self):
        """pfx-agentd in a folder with its arms, as it is installed: it looks for them there."""
        folder = self.path("bin")
        os.makedirs(folder, exist_ok=True)
        for name in ("pfx-agentd", "pfx-hsm", "pfx-uploader"):
            target = os.path.join(folder, name)
            if not os.path.exists(target):
                try:
                    os.link(program(name), target)
                except OSError:  # another file system
                    shutil.copy2(program(name), target)
        return os.path.join(folder, "pfx-agentd")

    def start_agentd(self, wait=True, arms=False):
        argv = [self.beside() if arms else program("pfx-agentd"), "--config",
                self.conf_path("agent.yaml")]
        if arms:
            argv += ["--with-arms", "--hsm-policy", self.conf_path("hsm-policy.yaml"),
                     "--uploader-config", self.conf_path("uploader.yaml")]
        self.spawn("agentd", *argv, environment=self.without_leaks() if arms else None)
        if wait:
            self.wait_socket("agentd", self.path("run", "cli"))

    def without_leaks(self):
        """For a sanitizer build of pfx-hsm: to tell a leak of the token's module from one of ours
        takes whole stacks, which makes key generation slow; hsm_flow and hsm_lies look for them."""
        options = [o for o in (self.environment.get("ASAN_OPTIONS"), "detect_leaks=0") if o]
        return dict(self.environment, ASAN_OPTIONS=":".join(options))

    def start_hsm(self, wait=True):
        self.spawn("hsm", program("pfx-hsm"), "--policy", self.conf_path("hsm-policy.yaml"),
                   environment=self.without_leaks())
        if wait:
            self.wait_socket("hsm", self.path("hsm-run", "admin"))

    def start_uploader(self):
        self.spawn("uploader", program("pfx-uploader"), "--config",
                   self.conf_path("uploader.yaml"))

    def wait_socket(self, name, path, seconds=30):
        def answers():
            self.alive(name)
            with contextlib.suppress(OSError):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                    client.connect(path)
                    return True
            return False
        wait_for("%s on its socket; its log:\n%s" % (name, self.log(name)), answers, seconds)

    def stop(self, name, number=signal.SIGTERM, seconds=15):
        """Ends one process that this world started."""
        process = self.processes.pop(name, None)
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(seconds * PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        return process.returncode

    def kill(self, name):
        return self.stop(name, signal.SIGKILL)

    def close(self, keep=False):
        for name in ("uploader", "hsm", "agentd"):
            self.stop(name)
        for name in list(self.processes):
            self.stop(name)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- whole steps ----------------------------------------------------------------------

    def prepare(self):
        """Tokens, simulators, configuration."""
        self.make_tokens()
        self.start_sim()
        self.write_conf()

    def start_all(self):
        self.start_agentd()
        self.start_hsm()
        self.start_uploader()

    def init(self):
        result = self.cli("init", "--out", self.path("out"), secret=self.pin("encryption"),
                          seconds=180)
        if result.code != 0:
            raise AssertionError("init: %r\n%s" % (result, self.log("hsm")))
        # What an administrator does in the portal: the certificate into the app registration.
        target = os.path.join(self.folder, self.tenant["apps"][0]["certificates"][0])
        shutil.copyfile(self.path("out", "client-main.crt"), target)
        return result

    def set_api_key(self, key=None):
        return self.cli("secret", "set", "digicert", secret=key or self.api_key, option="--fd")

    def ready(self):
        """Up to the point where a run can start."""
        self.prepare()
        self.start_all()
        self.init()
        result = self.set_api_key()
        if result.code != 0:
            raise AssertionError("secret set: %r" % result)
        return self

    def run_once(self, wait="60s", *more, seconds=180):
        return self.cli("run", "--once", "--wait", wait, *more, seconds=seconds)

    def enrolments(self):
        result = self.cli("enrolment", "list", "--all", "--json")
        if result.code not in (0, 1):
            raise AssertionError("enrolment list: %r" % result)
        return result.lines()

    def states(self):
        """{upn: [states]}, oldest attempt first."""
        found = {}
        for row in sorted(self.enrolments(), key=lambda r: r["enrolment"]):
            found.setdefault(row["upn"], []).append(row["state"])
        return found

    def why_not(self):
        """Everything that a failed test should show."""
        parts = []
        for name in ("agentd", "hsm", "uploader", "sim"):
            text = self.log(name)
            if text:
                parts.append("=== %s\n%s" % (name, text[-4000:]))
        with contextlib.suppress(Exception):
            parts.append("=== enrolments\n" + self.cli("enrolment", "list", "--all").out)
        with contextlib.suppress(Exception):
            parts.append("=== status\n" + self.cli("status").out)
        return "\n".join(parts)


def no_trace_of(secret_texts, pids):
    """Names of /proc files of these processes that hold one of the texts."""
    found = []
    for pid in pids:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                with open("/proc/%d/%s" % (pid, name), "rb") as stream:
                    data = stream.read()
                found += ["%d/%s" % (pid, name) for text in secret_texts
                          if text.encode("utf-8") in data]
    return found


def children(pid):
    """Process ids of the children, and of theirs."""
    found = []
    with contextlib.suppress(OSError):
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as stream:
            found = [int(word) for word in stream.read().split()]
    return found + [grandchild for child in found for grandchild in children(child)]


if __name__ == "__main__":
    print(__doc__, file=sys.stderr)
