"""A world of the programs that end themselves at a named point (hsm-test/unit/kill_points.h), and
what has to hold in it afterwards, as other people's tools see it."""

import collections
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile

import harness
import oracle
import people
import terminal
import world_conf
from kill_file import KillFile

VICTIMS = ("agentd", "hsm", "uploader")
USER_LABEL = "pfx-agent user "
ORDER = {"service": "digicert", "method": "POST", "path_regex": "/order/certificate/"}


# Tenants need a member; this one has no address and is left out.
NOBODY = people.user(999, mail=None, proxyAddresses=[])


class Wrong(AssertionError):
    """Something that must hold after a kill doesn't."""


def memory_folder():
    """In memory, where there is room for it: a process that is killed leaves the page cache as it
    is, so syncs to a disk would cost minutes and show nothing. None: the usual folder."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > 256 * 1024 * 1024:
            return tempfile.mkdtemp(prefix="pfx-", dir="/dev/shm")
    return None


class KillWorld(harness.World):
    """One user after another goes through it."""

    def __init__(self, rules=None, tenant=None, **changes):
        agent = {
            "max_orders_per_pass": 10000, "max_orders_per_day": 10000,
            "schedule": {"settle_grace": "300ms", "poll_every": "100ms", "retry_min": "20ms",
                         "retry_max": "200ms", "sweep_every": "1h"}}
        policy = {"sessions": 1, "encryption_key": {"type": "rsa-2048"},
                  "ceilings": {name: 100000 for name in (
                      "keys_per_hour", "builds_per_hour", "assertions_per_hour",
                      "secrets_per_hour")}}
        agent = world_conf.merge(agent, changes.get("agent", {}))
        policy = world_conf.merge(policy, changes.get("policy", {}))
        super().__init__(
            folder=memory_folder(), tenant=tenant or people.tenant([NOBODY], issue_delay=0),
            rules=rules or [people.rule(key="ec-p256")], agent=agent, policy=policy,
            uploader={"digicert": {"rate_short": "10000/5s", "rate_long": "100000/180s"}})
        self.files = {name: KillFile(self.path("kill-" + name)) for name in VICTIMS}
        self.users = []          # numbers that have to be ACTIVE, with one of everything
        self.judge, self.store = None, None
        self.number = 0
        self.visits = 0        # that it has seen
        self.command_began = 0
        self.keyless = False   # no ceremony yet: notes wait for the operation log to begin
        self.released = False  # did a person have to release an order?

    def register(self):
        """What an administrator does in the portal after init."""
        shutil.copyfile(self.path("out", "client-main.crt"), os.path.join(
            self.folder, self.tenant["apps"][0]["certificates"][0]))

    # --- processes ------------------------------------------------------------------------

    def _kill_program(self, name, *argv):
        file = self.files[name]
        self.spawn(name, harness.program("kill-" + name), *argv,
                   environment=dict(self.without_leaks(), PFX_KILL_FILE=file.path))

    def start_agentd(self, wait=True, arms=False):
        self._kill_program("agentd", "--config", self.conf_path("agent.yaml"))
        if wait:
            self.wait_socket("agentd", self.path("run", "cli"))

    def start_hsm(self, wait=True):
        self._kill_program("hsm", "--policy", self.conf_path("hsm-policy.yaml"))
        if wait:
            self.wait_socket("hsm", self.path("hsm-run", "admin"))

    def start_uploader(self):
        self._kill_program("uploader", "--config", self.conf_path("uploader.yaml"))

    def start(self, victim, wait=True):
        if victim == "uploader":
            self.start_uploader()
        else:
            getattr(self, "start_" + victim)(wait=wait)

    def restart(self, *victims):
        for victim in victims:
            self.kill(victim)
        for victim in victims:
            self.start(victim)

    def check_alive(self):
        """Nobody but the one that shall die has died."""
        for name in VICTIMS:
            if name in self.processes and not self.files[name].died():
                self.alive(name)

    def spawn_command(self, argv, secret=None, option="--pin-fd"):
        """A command of pfx-agent that goes on beside the test."""
        argv, reader = [harness.program("pfx-agent"), *argv], None
        if secret is not None:
            reader, writer = os.pipe()
            os.write(writer, secret.encode("utf-8") + b"\n")
            os.close(writer)
            argv += [option, str(reader)]
        with open(self.path("log", "command"), "ab") as log:
            self.command_began = log.tell()
            self.processes["command"] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                start_new_session=True, pass_fds=() if reader is None else (reader,))
        if reader is not None:
            os.close(reader)

    def said(self):
        """What the last of these commands wrote."""
        with open(self.path("log", "command"), "rb") as log:
            log.seek(self.command_began)
            return log.read().decode("utf-8", "replace")

    def entries(self):
        """Of the operation log, all."""
        return self.cli("log", "tail", "--json", "-n", "1000000").lines()

    def finish_command(self, seconds=30):
        """Its end, whatever it says: the next one begins a new one."""
        process = self.processes.pop("command", None)
        if process is not None:
            process.wait(seconds)

    def close(self, keep=False):
        if self.store is not None:
            self.store.close()
        super().close(keep)
        for file in self.files.values():
            with contextlib.suppress(BufferError, ValueError):
                file.close()

    # --- the store, read beside pfx-agentd ------------------------------------------------

    def sql(self, text, *args):
        """Rows; None while the store can't be read (pfx-agentd is just dying)."""
        try:
            if self.store is None:
                self.store = sqlite3.connect("file:%s?mode=ro" % self.path("state", "store.db"),
                                             uri=True, timeout=2, check_same_thread=False)
            return self.store.execute(text, args).fetchall()
        except sqlite3.Error:
            if self.store is not None:
                self.store.close()
            self.store = None
            return None

    def rows(self, number):
        """[(enrolment, state)] of one user."""
        return self.sql("SELECT id, state FROM enrolment WHERE user = ? ORDER BY id",
                        people.user(number)["id"]) or []

    def states_of(self, number):
        return [state for _, state in self.rows(number)]

    def idle(self):
        """Nothing is under way: no job, no note for the operation log."""
        if self.keyless:
            return self.sql("SELECT count(*) FROM job WHERE kind <> 'hsm.log'") == [(0,)]
        return self.sql("SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM note)") == [(0, 0)]

    def settle(self, seconds=20):
        harness.wait_for("an empty outbox; it has %s" % self.sql(
            "SELECT kind, tries, sent_at, fail_text FROM job"), self.idle, seconds, 0.01)

    # --- what must hold -------------------------------------------------------------------

    def next_user(self):
        self.number += 1
        return self.number

    def add(self, number):
        self.control("/graph/member", {"group": people.GROUP, "add": people.user(number)})

    def orders_of(self, number):
        mail = people.user(number)["mail"]
        return [o for o in self.orders() if mail in o["body"]["certificate"]["emails"]]

    def hold(self, number, wanted=("ACTIVE",), orders=1, records=1):
        """All that the issue asks for, after the kill that hit this user."""
        self._services(number, orders, records)
        self._store(number, wanted)
        self._token()
        self._log()
        if records:
            self._opens(number)

    def _services(self, number, orders, records):
        """The simulators' own count: orders by the key of their request, records by their id."""
        state = self.control("/state")["digicert"]
        if state["max_orders_per_key"] > 1:
            raise Wrong("a key was ordered twice: %s" % state)
        found = len(self.orders_of(number))
        if found != orders:
            raise Wrong("%d orders for user %d, not %d" % (found, number, orders))
        name = people.upn(number)
        found = [r["id"] for r in self.records() if r["userPrincipalName"] == name]
        if len(found) != records:
            raise Wrong("%d records for user %d, not %d: %s" % (len(found), number, records, found))

    def _store(self, number, wanted):
        if number not in self.users:
            self.users.append(number)
        states = tuple(self.states_of(number))
        if states != tuple(wanted):
            raise Wrong("user %d is %s, not %s" % (number, states, wanted))
        lost = {people.user(n)["id"] for n in self.users} - {
            row[0] for row in self.sql("SELECT user FROM enrolment")}
        if lost:
            raise Wrong("lost users: %s" % sorted(lost))
        if self.sql("SELECT count(*) FROM parcel") != [(0,)]:
            raise Wrong("a PFX was left in the store")

    def listed(self, role):
        """[(kind, label, id)] of a token's objects, by pkcs11-tool."""
        text = terminal.pkcs11_tool(self, role, "--list-objects").replace("\r", "")
        found = []
        for part in re.split(r"(?m)^(?=\S.* [Oo]bject)", text):
            label = re.search(r"label:\s+(.*)", part)
            key_id = re.search(r"ID:\s+([0-9a-f]+)", part)
            if " Object" in part.split("\n")[0]:
                found.append((part.split(" Object")[0], label[1].strip() if label else "",
                              key_id[1] if key_id else ""))
        return found

    def objects(self, role):
        """{(kind, label without numbers): how many}; an anchor's label is the head of the log."""
        return collections.Counter((kind, re.sub(r"^pfxlog.*|[0-9]+", "", label))
                                   for kind, label, _ in self.listed(role))

    def _token(self):
        """The users token against the store: no key is there that nobody knows, none is missing,
        and none twice."""
        known = sorted(row[0].hex() for row in self.sql(
            "SELECT key_id FROM enrolment WHERE key_id IS NOT NULL AND key_gone_at IS NULL"))
        if self.changes["policy"].get("users", {}).get("keys") == "wrapped":
            known = []  # they are blobs in the store, and nothing of them stays in the token
        listed = self.listed("users")
        for half in ("Private Key", "Public Key"):
            there = sorted(key_id for kind, label, key_id in listed
                           if kind == half and label.startswith(USER_LABEL))
            if there != known:
                raise Wrong("%ss of users in the token: %s; in the store: %s" % (
                    half, sorted(set(there) - set(known)) or len(there),
                    sorted(set(known) - set(there)) or len(known)))

    def _log(self):
        result = self.cli("log", "export", self.path("export"))
        if result.code != 0:
            raise Wrong("log export: %r" % result)
        if not os.path.exists(self.path("log.pem")):
            self.cli("key", "export-public", "log-1", "--out", self.path("log.pem"))
        result = self.run(harness.program("pfx-audit"), "verify", self.path("export"), "--key",
                          self.path("log.pem"))
        if result.code != 0:
            raise Wrong("pfx-audit verify: %r" % result)

    def _opens(self, number):
        """The password by OpenSSL with the key in the token, the PFX by Python's cryptography."""
        self.judge = self.judge or Judge(self)
        name = people.upn(number)
        for record_id, record in self.sealed().items():
            if record["userPrincipalName"] == name:
                _, certificate, key, _ = self.judge.unpack(record)
                public = [k.public_numbers() for k in (key.public_key(), certificate.public_key())]
                if public[0] != public[1]:
                    raise Wrong("key and certificate of %s differ" % record_id)
                return
        raise Wrong("no record of user %d holds a PFX" % number)


class Judge(oracle.Oracle):
    """A generation of the encryption key stays the same: asked for once."""

    def encryption_key_id(self, key_name):
        known = self.__dict__.setdefault("keys", {})
        if key_name not in known:
            known[key_name] = super().encryption_key_id(key_name)
        return known[key_name]

