"""A world whose three processes are stopped and read, with all that is secret in it known: the
token is in another process, which tells its keys, and what it draws."""

import collections
import contextlib
import hashlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, os.pardir, "e2e"), HERE]

import harness  # noqa: E402  (the line above makes it found)
import memory  # noqa: E402
from world_conf import merge, private_file  # noqa: E402

PROCESSES = ("agentd", "hsm", "uploader")
KEPT_PINS = ("users", "service", "log")  # of the running agent; the fourth is for ceremonies
OF_OPERATION = ("random", "password", "padded", "kek")
DRAWN = 32  # bytes of random for a password
PASSWORDS = re.compile(rb"[A-Za-z0-9_-]{32}")
ECDSA = 0x1041
MOST = 64 * 1024 * 1024  # bytes of somebody else's file
ONE_STEP = 0.03  # seconds without a call: a look in between


def mask(seed, size):
    """MGF1 with SHA-512."""
    return b"".join(hashlib.sha512(seed + bytes((0, 0, 0, n))).digest()
                    for n in range(size // 64 + 1))[:size]


def unpadded(block):
    """RFC 8017, 7.1.2: pfx-hsm pads what the token then encrypts. Whoever has one has the other."""
    seed, data = block[1:65], block[65:]
    seed = bytes(a ^ b for a, b in zip(seed, mask(data, 64)))
    data = bytes(a ^ b for a, b in zip(data, mask(seed, len(data))))
    return data[64:].lstrip(b"\0")[1:]


class Watched(harness.World):
    """needles: names are KIND:NUMBER..., as `allowed` knows them."""

    def __init__(self, scanner, **more):
        changes = {"sandbox": {"secret_memory": "locked"}}
        super().__init__(
            agent={"max_orders_per_pass": 10000, "max_orders_per_day": 10000,
                   "schedule": {"poll_every": "100ms", "retry_min": "100ms"}},
            policy=merge({"sessions": 1, "encryption_key": {"type": "rsa-2048"}, **changes},
                         more.pop("policy", {})),
            uploader=changes, **more)
        self.scanner = scanner
        self.token = self.kinds["users"].control
        self.known, self.keys, self.drawn, self.mark = 0, 0, 0, 0
        self.passwords = {}     # {which: text}
        self.keks = set()
        self.building = self.told = self.opening = False
        self.looks = collections.Counter()
        self.seen_inside = collections.defaultdict(collections.Counter)  # {password: {where: n}}
        self.bytes = 0
        self.trouble = []

    def make_token(self, role):
        """A PIN that doesn't stand anywhere by chance."""
        pin = secrets.token_hex(16)
        private_file(self.path("pins", role), pin + "\n")
        self.token_serials[role] = self.kinds[role].make(harness.program("token-init"),
                                                         "pfx-" + role, pin, self.environment)
        self.scanner.add("pin:" + role, pin.encode())

    def spawn(self, name, *argv, environment=None):
        """Where the process may write, so that its core file could be written."""
        own = {"agentd": self.path("state"), "hsm": self.path("hsm-state")}.get(name, self.folder)
        with open(self.path("log", name), "ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=own,
                env=environment or self.environment, start_new_session=True)
        return self.processes[name]

    def start_hsm(self, wait=True):
        """With all that it would ever log."""
        self.spawn("hsm", harness.program("pfx-hsm"), "--policy",
                   self.conf_path("hsm-policy.yaml"), "--debug")
        if wait:
            self.wait_socket("hsm", self.path("hsm-run", "admin"))

    def ready(self):
        self.scanner.add("api-key:", self.api_key.encode())
        super().ready()
        self.learn()
        return self

    # --- what is looked for ---------------------------------------------------------------

    def learn(self):
        """What the token has told since the last time. Nothing of it may be found anywhere from
        then on, throwaway keys of the probe included, but for what `allowed` says."""
        found, _ = self.token.needles()
        for cls, function, name, data in found[self.known:]:
            if cls == "random" and len(data) == DRAWN:
                # pfx-hsm mixes bytes of its own in, so the password itself is known later.
                self.scanner.add("random:%d" % self.drawn, data)
                self.drawn += 1
                self.mark = max(c.number for c in self.token.calls()
                                if c.function == "C_GenerateRandom" and c.rv is not None)
            elif cls == "plain" and PASSWORDS.fullmatch(unpadded(data)):
                self.passwords[self.drawn - 1] = unpadded(data)
                self.scanner.add("password:%d" % (self.drawn - 1), unpadded(data))
                self.scanner.add("padded:%d" % (self.drawn - 1), data)
            elif cls == "secret" and function == "C_UnwrapKey":
                self.keks.add(data)
                self.scanner.add("kek:%d:%d" % (self.drawn - 1, len(self.keks)), data)
            elif cls in ("rsa", "ec", "secret"):
                self.keys += name in ("d", "value")
                self.scanner.add("%s:%d:%s" % (cls, self.keys, name), data, number=cls != "secret")
        self.known = len(found)

    def follow(self):
        """Which operation is running, by the calls that have come back."""
        calls = [c for c in self.token.calls() if c.rv is not None]
        after = [c.function for c in calls if c.number > self.mark]
        sealed = after.index("C_Encrypt") if "C_Encrypt" in after else len(after)
        self.told = self.drawn - 1 in self.passwords
        self.building = self.mark > 0 and "C_DestroyObject" not in after[sealed:]
        opened = max((c.number for c in calls if c.function == "C_Decrypt"), default=None)
        self.opening = opened is not None and sum(
            c.number > opened and c.mechanism == ECDSA for c in calls) < 3

    def allowed(self, process, hit, current=None, idle=False):
        """Which secrets may be where. current: the PFX that is being built."""
        kind, _, rest = hit.name.partition("/")[0].partition(":")
        if process == "hsm" and kind == "pin":
            return rest in KEPT_PINS and hit.secret
        if process == "hsm" and kind in OF_OPERATION:
            return int(rest.split(":")[0]) == current
        if process == "hsm" and kind == "api-key":
            return self.opening and not idle
        return process == "uploader" and kind == "api-key" and (hit.secret or not idle)

    def wait_ready(self):
        """After another start: all three roles, whose tokens are probed first."""
        begin = self.log("hsm").rfind("pfx-hsm ")
        harness.wait_for("the roles of pfx-hsm", lambda: all(
            "role %s is ready" % role in self.log("hsm")[begin:] for role in KEPT_PINS), 60)

    # --- looking --------------------------------------------------------------------------

    def stop_all(self):
        for name in PROCESSES:
            memory.stop(self.processes[name].pid)

    def go_on(self):
        for name in PROCESSES:
            self.processes[name].send_signal(signal.SIGCONT)

    def read_all(self, how):
        found = {name: self.scanner.memory(self.processes[name].pid, how) for name in PROCESSES}
        self.bytes += sum(seen.bytes for seen in found.values())
        return found

    def wrong(self, found, idle):
        """{(process, needle): the hit}, and what couldn't be read."""
        bad, current = {}, self.drawn - 1 if self.building and not idle else None
        for process, seen in found.items():
            for where in seen.unreadable:
                bad[process, where] = "unreadable: " + where
            for hit in seen.hits:
                if not self.allowed(process, hit, current, idle):
                    bad[process, hit.name] = hit
        return bad

    def look(self, when, idle=False):
        """Stops all three and reads them. What shouldn't be there has a moment to go: a call that
        has come back isn't yet the end of what is done with it."""
        self._stop_and_learn()
        how = "process" if idle else "keep" if self.building and not self.told else "written"
        found = self.read_all(how)
        bad = self.wrong(found, idle)
        for _ in range(3):
            if not bad:
                break
            self.go_on()
            time.sleep(0.2)
            self._stop_and_learn()
            still = self.wrong(self.read_all(how if idle else "written"), idle)
            bad = {key: what for key, what in bad.items() if key in still}
        self.trouble += ["%s, %s: %s" % (when, process, what) for (process, _), what in bad.items()]
        self.looks[when] += 1
        self._inside(found["hsm"].hits)
        return found

    def _stop_and_learn(self):
        self.stop_all()
        before = len(self.passwords)
        self.learn()
        self.follow()
        if len(self.passwords) > before:
            self._look_back()

    def _look_back(self):
        """The token learns a password when it seals it: what was read since it was drawn."""
        names = {str(self.processes[name].pid): name for name in PROCESSES}
        inside = []
        for hit in self.scanner.kept().hits:
            pid, _, where = hit.where.partition(" ")
            if names[pid] == "hsm":
                inside.append(hit._replace(where=where))
            if not self.allowed(names[pid], hit, max(self.passwords)):
                self.trouble.append("before it was sealed, %s: %s" % (names[pid], hit))
        self._inside(inside)

    def _inside(self, hits):
        """Where the secrets of the operation are while it runs."""
        for hit in hits:
            name, _, form = hit.name.rpartition("/")
            kind, _, number = name.partition(":")
            if kind in OF_OPERATION:
                self.seen_inside[kind, int(number.split(":")[0])][
                    "secret" if hit.secret else hit.where, form] += 1

    def begin(self):
        self.spawn("command", harness.program("pfx-agent"), "run", "--once", "--wait", "60s")
        return self.processes["command"]

    def walk(self, inside=None):
        """One run, held at every Cryptoki call of pfx-hsm, and read there; and in between, when no
        call comes for a while. `inside` is called once at a stop with a password in use."""
        command = self.begin()
        rule = self.token.fault("*", 1, "hang")
        try:
            while command.poll() is None:
                if not self._hangs(rule, command):
                    self.look("between calls")
                    self.go_on()
                    continue
                found = self.look("before a call")
                if inside and self.building and found["hsm"].names():
                    inside(found)
                    inside = None
                self.go_on()
                following = self.token.fault("*", 1, "hang")
                self.token.ask("clear %d" % rule)
                rule = following
        finally:
            self.go_on()
            self.token.clear()
        return self.processes.pop("command").returncode

    def _hangs(self, rule, command):
        end = time.monotonic() + ONE_STEP
        while time.monotonic() < end and command.poll() is None:
            for line in self.token.ask("rules"):
                word = line.split()
                if word[0] == str(rule) and word[-1] != "0":
                    return True
            time.sleep(0.001)
        return False

    def rest(self):
        """Nothing is done: read as a whole, each of its bytes."""
        found = self.look("at rest", idle=True)
        self.token.reset()
        self.mark = 0
        self.go_on()
        return found

    # --- files ----------------------------------------------------------------------------

    def files(self, since):
        """Everything that the processes could have written, and what the simulators got: the
        world's folder without the token and the test's own, and what is new for everybody."""
        own = {self.path(name) for name in ("pins", "cores", "digicert-api-key")}
        own |= {kind.folder for kind in self.kinds.values()}
        found = []
        for folder, _, names in os.walk(self.folder):
            if not any(folder == path or folder.startswith(path + "/") for path in own):
                found += [os.path.join(folder, name) for name in names]
        for everybody in ("/tmp", "/var/tmp", "/dev/shm"):
            for name in os.listdir(everybody):
                path = os.path.join(everybody, name)
                with contextlib.suppress(OSError):  # another test's, and gone
                    state = os.lstat(path)
                    if state.st_mtime >= since and state.st_size < MOST:
                        found.append(path)
        return [path for path in found if path not in own]

    def grep(self, since):
        """How many files; what is in them is trouble."""
        count, sim = 0, self.path("sim") + "/"
        for path in self.files(since):
            seen = self.scanner.file(path)
            if seen is not None:
                count += 1
                self.trouble += ["%s: %s" % (path, hit) for hit in seen.hits if not (
                    path.startswith(sim) and hit.name.startswith("api-key:"))]
        return count
