"""What a process can be in the middle of while keys are rotated: each scenario is what operators type
from the first command to the last, with the approvals of two people, while a user enrols."""

import json
import re
import time

import approvers
import harness
import invariants
import opening
import people
from case import WorldCase
from kill_scenarios import Command, Commands, Flow
from kill_world import KillWorld, Wrong
from world_conf import KEY_NAME

LOST = (3, 5, 70)  # nobody was there, or died before the answer
CONNECTOR = "conn1"


def name_of(generation):
    return KEY_NAME if generation == 1 else "%s-%d" % (KEY_NAME, generation)


class RotationWorld(KillWorld):
    """Ann asks, Bob and Cid approve; and there is a connector host."""

    def __init__(self, rules=None, **changes):
        super().__init__(rules=rules, policy=dict({"connectors": [{"name": CONNECTOR}]}, **changes))
        self.people = approvers.roster(self)
        self.script = None

    def generations(self):
        """What a person reads: {generation: its row of key status}."""
        return {r["generation"]: r for r in self.cli("key", "status", "--json").lines()
                if r["schema"] == "pfx-agent/key-status/1"}

    def state_of(self, generation):
        return self.generations().get(generation, {}).get("state")

    def keys_there(self, role, stem):
        """Numbers of the generations that the token has, by pkcs11-tool."""
        found = [re.fullmatch(r"pfx-agent %s-(\d+)" % stem, label)
                 for kind, label, _ in self.listed(role) if kind.startswith(("Private", "Secret"))]
        return sorted(int(m[1]) for m in found if m)


class Script(Commands):
    """A generator that yields one command after another and is sent (exit code, what it said); None
    waits for something else. A command that was cut off is given again, as an operator would."""

    def script(self, world, number):
        raise NotImplementedError

    def before(self, world, number):
        world.finish_command()
        world.tried = 0
        world.script = self.script(world, number)

    def act(self, world, number):
        process = world.processes.get("command")
        if world.script is None or (process is not None and process.poll() is None):
            return
        answer = None
        if process is not None:
            world.processes.pop("command")
            answer = process.returncode, world.said()
        elif time.monotonic() < world.tried:
            return
        try:
            command = world.script.send(answer)
        except StopIteration:
            world.script = None
            return
        world.tried = time.monotonic() + (0.2 if answer and answer[0] in LOST else 0.02)
        if command:
            world.spawn_command(command.argv, command.secret, command.option)

    nudge = act

    def over(self, world, number):
        return world.script is None

    @staticmethod
    def some_users(world):
        """Two who were there before."""
        while len(world.users) < 2:
            flow, number = Flow(), world.next_user()
            flow.act(world, number)

            def over(flow=flow, number=number):
                if flow.over(world, number):
                    return True
                flow.nudge(world, number)
                return False
            harness.wait_for("user %d ACTIVE" % number, over, 40, 0.05)
            world.finish_command()
            world.settle()
            world.users.append(number)

    # --- what a script is made of ---

    @staticmethod
    def until(*argv, secret=None, done=lambda: False):
        """Given until it succeeds, or is refused since it was done and only its answer was lost."""
        while True:
            code, said = yield Command([w() if callable(w) else w for w in argv], secret)
            if code in (0, 1) or code in (2, 4) and done():
                return said
            if code not in LOST:
                raise Wrong("%s ends with %d: %s" % (argv, code, said))

    @staticmethod
    def approved(world, *argv, secret=None, done=lambda: False):
        """Asked for, approved by two people, and given again; what of it was spent or forgotten in a
        death is asked for again, and that is said."""
        before = len(Script.spent(world.entries()))
        while True:
            code, said = yield Command(argv, secret)
            if code == 0 or code == 4 and done():
                return
            asked = re.search(r"pfx-agent approve ([0-9a-f]{8})", said)
            if code in LOST:
                continue
            if code != 4 or not asked:
                raise Wrong("%s ends with %d: %s" % (argv, code, said))
            if ("are spent" in said) != (len(Script.spent(world.entries())) > before):
                raise Wrong("%s: %s" % (argv, said))
            for key in world.people[1:]:
                code = 3
                while code in LOST:
                    code, said = yield Command(("approve", asked[1], "--key", key, "--yes"), None)
                if code == 4 and "Nothing with this ID waits" in said:
                    break
                if code != 0 and "This person has approved it already" not in said:
                    raise Wrong("approve ends with %d: %s" % (code, said))

    # --- what holds for all of them ---

    def back(self, world, number):
        """What a person reads is true, before anybody does anything: which keys are there, and whether an
        approval still counts."""
        rows = harness.wait_for("key status", world.generations, 30, 0.1)
        there = world.keys_there("encryption", "encryption")
        entries = world.entries()
        cut_off = {e["target"]["name"] for e in entries
                   if e["event"] == "key.destroy" and e["phase"] == "intent"}
        for n, row in rows.items():
            if n in there and row["state"] == "destroyed" or n not in there and (
                    row["state"] not in ("destroyed", "making")
                    and "encryption-%d" % n not in cut_off):
                raise Wrong("generation %d is %s; in the token: %s" % (n, row["state"], there))
        waiting = {row["id"] for row in world.cli("approve", "--json").lines()}
        again = {nonce for nonce in self.spent(entries) if nonce[:8] in waiting}
        if again:
            raise Wrong("spent, and wait for approvals: %s" % again)

    def hold(self, world, number):
        """One user more goes through, and nothing was done twice."""
        super().hold(world, number)
        if "users" not in world.changes["policy"]:  # they count keys in the token
            invariants.hold(WorldCase(), world, [people.upn(n) for n in world.users])
        self.approvals_hold(world)

    @staticmethod
    def spent(entries):
        """Nonces of the approvals that stand before a deed."""
        found = []
        for entry in entries:
            for approval in entry.get("approvals", ()):
                if entry["event"].startswith("approval."):
                    continue
                names = [given["principal"] for given in approval["given"]]
                if sorted(names) != ["bob", "cid"]:
                    raise Wrong("%s with the approvals of %s" % (entry["event"], names))
                found.append(json.loads(approval["statement"])["nonce"])
        return found

    @staticmethod
    def approvals_hold(world):
        """As the log has it: each command's approvals stand before one intent at most, by two people
        who aren't the one who asked; and no question is left over."""
        spent = Script.spent(world.entries())
        if len(spent) != len(set(spent)):
            raise Wrong("approvals were spent twice: %s" % spent)
        waiting = world.cli("approve")
        if "nothing waits" not in waiting.err:
            raise Wrong("questions are left over: %r" % waiting)

    @staticmethod
    def done_once(world, event, name):
        entries = world.entries()
        ops = {e["op"] for e in entries if e["event"] == event and e["phase"] == "intent"
               and e["target"]["name"] == name}
        outcomes = [e["outcome"] for e in entries
                    if e["phase"] == "result" and e.get("op") in ops]
        # unknown: it was cut off; what became of it the states say, which are compared with the token.
        if not ops or len(outcomes) != len(ops) or outcomes.count("ok") > 1 or (
                set(outcomes) - {"ok", "unknown"}):
            raise Wrong("results of %s of %s: %s" % (event, name, outcomes))


class Rebuild(Script):
    """The encryption key, all of it: staged, shown to the connector, activated, every record rebuilt
    while a user enrols, the old one retired and destroyed."""

    name = "rebuild"

    def before(self, world, number):
        self.some_users(world)
        super().before(world, number)
        self.numbers(world)
        world.setting(issue_delay=0.3)  # so that the CA is asked by the clock, too

    @staticmethod
    def numbers(world):
        rows = world.generations()
        world.newest = max(rows) + 1
        world.old, = (n for n, row in rows.items() if row["state"] == "active")

    def activated(self, world, new):
        """Made, shown to the connector, put in force."""
        yield from self.until("key", "rotate", "--out", world.path("out"),
                              secret=world.pin("encryption"),
                              done=lambda: world.state_of(new) == "staged")
        yield from self.confirm(world, new)
        yield from self.until("key", "activate", str(new),
                              done=lambda: world.state_of(new) == "active")

    def script(self, world, number):
        new, old, pin = world.newest, world.old, world.pin("encryption")
        yield from self.activated(world, new)
        yield from self.until("key", "rebuild")
        world.add(number)
        yield from self.until("run", "--once", "--wait", "20s")
        while not self.rebuilt(world, new):  # by itself
            yield None
        while True:
            # Reads Intune's list, so that it is known that nothing names the old one.
            yield from self.until("run", "--once", "--wait", "20s")
            code, said = yield Command(("key", "retire", str(old), "--yes"))
            if code == 0 or world.state_of(old) == "retired":
                break
            if code not in (4, *LOST):
                raise Wrong("key retire ends with %d: %s" % (code, said))
        yield from self.approved(world, "key", "destroy", str(old), "--yes", secret=pin,
                                 done=lambda: world.state_of(old) == "destroyed")
        yield from self.until("key", "status")

    @staticmethod
    def confirm(world, new):
        """The guide on the connector's host, played with the key in the token."""
        out = world.path("out")
        while True:
            rows = world.generations()
            if new not in rows:  # nobody to be asked at the moment
                yield None
                continue
            if CONNECTOR in rows[new].get("confirmed", ()):
                return
            yield from Script.until("connector", "probe", CONNECTOR, "--out", out)
            with open(world.path("out", "probe-%s-%d.ps1" % (CONNECTOR, new)),
                      encoding="ascii") as stream:
                sealed = re.search(r"^\$probe = '([^']+)'$", stream.read(), re.M)[1]
            answer = opening.password(world, new, sealed)
            code, said = yield Command(("connector", "confirm", CONNECTOR, answer))
            if code not in (0, 4, *LOST):
                raise Wrong("connector confirm ends with %d: %s" % (code, said))

    @staticmethod
    def rebuilt(world, new):
        rows = world.sql("SELECT (SELECT count(*) FROM enrolment WHERE state = 'ACTIVE' AND"
                         " generation <> ?), (SELECT count(*) FROM rebuild)", new)
        return rows == [(0, 0)]

    def hold(self, world, number):
        """The newest alone is there, each record names it, and each opens with it."""
        super().hold(world, number)
        states = {n: row["state"] for n, row in world.generations().items()}
        wanted = {n: "destroyed" for n in range(1, world.newest)} | {world.newest: "active"}
        if states != wanted:
            raise Wrong("generations are %s" % states)
        if world.keys_there("encryption", "encryption") != [world.newest]:
            raise Wrong("keys in the encryption token: %s" % world.listed("encryption"))
        records = world.records()
        if {r["keyName"] for r in records} != {name_of(world.newest)}:
            raise Wrong("records name %s" % {r["keyName"] for r in records})
        passwords = opening.passwords(world, world.newest)
        sealed = world.sealed()
        for record in records:
            if not passwords.get(record["id"]):
                raise Wrong("the new key doesn't open %s" % record["id"])
            opening.pfx(sealed[record["id"]], passwords[record["id"]])
        if len({passwords[r["id"]] for r in records}) != len(records):
            raise Wrong("a password twice")
        self.done_once(world, "key.destroy", "encryption-%d" % world.old)


class Compromise(Rebuild):
    """The active key is exposed, and people have certificates sealed to it: two approve that it is called
    compromised, another one is put in force; everybody gets new keys, the old certificates are
    revoked, and those of old mail stay, rebuilt. A user enrols meanwhile."""

    name = "compromise"
    purposes = ("signing", "encryption")

    @staticmethod
    def world():
        return RotationWorld(rules=[people.rule("sign", purpose="signing", key="ec-p256"),
                                    people.rule("mail", purpose="encryption", key="ec-p256")])

    def before(self, world, number):
        while len(world.users) < 2:
            other = world.next_user()
            world.add(other)
            harness.wait_for("user %d ACTIVE" % other, lambda n=other: world.cli(
                "run", "--once", "--wait", "20s").code in (0, 1) and world.states_of(n) == [
                    "ACTIVE"] * 2, 40, 0.1)
            world.settle()
            world.users.append(other)
        Script.before(self, world, number)
        self.numbers(world)
        world.setting(issue_delay=0.3)
        world.had = {r["id"]: r for r in world.records()}
        world.bought = {o["id"]: o["status"] for o in world.orders()}

    def script(self, world, number):
        new, old = world.newest, world.old
        yield from self.approved(world, "key", "compromise", str(old), "--reason", "stolen", "--yes",
                                 done=lambda: world.state_of(old) == "compromised")
        yield from self.activated(world, new)
        world.add(number)
        yield from self.until("key", "rebuild", done=lambda: True)  # nothing else may be left to do
        while not self.replaced(world, new, number):
            yield from self.until("run", "--once", "--wait", "5s")
            yield from self.released(world)
        yield from self.until("key", "exposed")

    @staticmethod
    def replaced(world, new, number):
        """Nobody's exposed certificate is alone any more, each is revoked, and nothing is under way."""
        rows = world.sql(
            "SELECT (SELECT count(*) FROM enrolment WHERE state = 'ACTIVE' AND generation <> ?1),"
            " (SELECT count(*) FROM enrolment WHERE state NOT IN ('ACTIVE', 'ENDED')),"
            " (SELECT count(*) FROM enrolment e JOIN exposure x ON x.enrolment = e.id"
            "  JOIN generation g ON g.generation = x.generation WHERE g.compromised IS NOT NULL"
            "  AND e.ca_status IS NOT 'revoked'),"
            " (SELECT count(*) FROM removal WHERE gone_at IS NULL), (SELECT count(*) FROM rebuild),"
            " (SELECT count(DISTINCT user || purpose) FROM enrolment WHERE state = 'ACTIVE'"
            "  AND ca_status IS NOT 'revoked')", new)
        return rows == [(0, 0, 0, 0, 0, 2 * (len(world.users) + 1))] and len(
            world.states_of(number)) == 2

    @staticmethod
    def released(world):
        """Only an order of which the CA knows nothing may wait for a person."""
        for enrolment, job in world.sql("SELECT id, held_job FROM enrolment WHERE state = 'HELD'") or ():
            known, = world.sql("SELECT count(*) FROM enrolment WHERE order_id IS NOT NULL")[0]
            if job not in ("up.order", "up.order_settle") or len(world.orders()) != known:
                raise Wrong("held for a person without need: %d for %s, %d orders, %d known" % (
                    enrolment, job, len(world.orders()), known))
            world.released = True
            yield Command(("enrolment", "release", str(enrolment)))

    def hold(self, world, number):
        world.settle()
        world.users.append(number)
        rows = world.sql("SELECT user, purpose, order_id, ca_status IS 'revoked', state FROM enrolment"
                         " ORDER BY id")
        for n in world.users:  # nobody is lost
            mine = [row for row in rows if row[0] == people.user(n)["id"]]
            for purpose in self.purposes:
                if [row[4] for row in mine if row[1] == purpose and not row[3]] != ["ACTIVE"]:
                    raise Wrong("user %d has %s" % (n, mine))
        self.hold_orders(world, rows)
        self.hold_records(world)
        if world.sql("SELECT count(*) FROM parcel") != [(0,)]:
            raise Wrong("a PFX was left in the store")
        world._token()
        world._log()
        self.approvals_hold(world)
        self.done_once(world, "key.compromise", "encryption-%d" % world.old)
        if world.state_of(world.old) != "compromised" or world.state_of(world.newest) != "active":
            raise Wrong("generations are %s" % world.generations())

    @staticmethod
    def hold_orders(world, rows):
        """Nothing was ordered twice; what was in force before is revoked, once, and nothing else is."""
        if world.control("/state")["digicert"]["max_orders_per_key"] > 1:
            raise Wrong("a key was ordered twice")
        orders = {o["id"]: o["status"] for o in world.orders()}
        wanted = {name: "revoked" for name in world.bought} | {
            name: "issued" for name in set(orders) - set(world.bought)}
        if orders != wanted or sorted(orders) != sorted(row[2] for row in rows):
            raise Wrong("orders are %s, before they were %s; in the store: %s" % (
                orders, world.bought, rows))
        if len(orders) != len(world.bought) + 2 * len(world.users):
            raise Wrong("%d orders for %d users; %d before" % (
                len(orders), len(world.users), len(world.bought)))
        told = [e["target"]["order"] for e in world.entries() if e["event"] == "order.revoked"
                and e["outcome"] == "ok"]
        if sorted(told) != sorted(world.bought):
            raise Wrong("the log has revocations of %s; revoked are %s" % (told, sorted(world.bought)))

    def hold_records(self, world):
        """What was for old mail stays, what was for signing went; each opens with the newest key only."""
        records = {r["id"]: r for r in world.records()}
        kept = {name for name, r in world.had.items() if r["intendedPurpose"] == "smimeEncryption"}
        if set(records) & set(world.had) != kept:
            raise Wrong("kept are %s, not %s" % (set(records) & set(world.had), kept))
        if len(records) != len(kept) + 2 * len(world.users) or len(
                {r["thumbprint"] for r in records.values()}) != len(records):
            raise Wrong("%d records for %d users" % (len(records), len(world.users)))
        if {r["keyName"] for r in records.values()} != {name_of(world.newest)}:
            raise Wrong("records name %s" % {r["keyName"] for r in records.values()})
        passwords, sealed = opening.passwords(world, world.newest), world.sealed()
        for name in records:
            if not passwords.get(name):
                raise Wrong("the new key doesn't open %s" % name)
            opening.pfx(sealed[name], passwords[name])
        if len({passwords[name] for name in records}) != len(records):
            raise Wrong("a password twice")


class Approval(Script):
    """Asked, given and spent, twice: a staged generation is called compromised, then destroyed."""

    name = "approval"

    def before(self, world, number):
        super().before(world, number)
        world.newest = max(world.generations()) + 1

    def script(self, world, number):
        new, pin = world.newest, world.pin("encryption")
        yield from self.until("key", "rotate", "--out", world.path("out"), secret=pin,
                              done=lambda: world.state_of(new) == "staged")
        yield from self.approved(world, "key", "compromise", str(new), "--reason", "lost-backup", "--yes",
                                 done=lambda: world.state_of(new) == "compromised")
        yield from self.until("run", "--once", "--wait", "20s")  # now it is known that nothing names it
        yield from self.approved(world, "key", "destroy", str(new), "--yes", secret=pin,
                                 done=lambda: world.state_of(new) == "destroyed")

    def hold(self, world, number):
        super().hold(world, number)
        if world.state_of(world.newest) != "destroyed":
            raise Wrong("generation %d is %s" % (world.newest, world.state_of(world.newest)))
        if world.newest in world.keys_there("encryption", "encryption"):
            raise Wrong("the destroyed key is in the token")
        for event in ("key.compromise", "key.destroy"):
            self.done_once(world, event, "encryption-%d" % world.newest)


class Standing(Script):
    """MAC key and wrapping key: made, put in force, all that is kept made anew, the earlier ones destroyed;
    what is refused, and a backup."""

    name = "standing"
    stems = ("mac", "wrapping")

    @staticmethod
    def generations(world):
        """{(stem, number): state}, as a person reads them."""
        found = {}
        for row in world.cli("standing", "list", "--json").lines():
            stem, _, number = row.get("name", "").rpartition("-")
            if row["schema"] == "pfx-agent/standing-list/1" and stem:
                found[stem, int(number)] = row["state"]
        return found

    def before(self, world, number):
        self.some_users(world)
        super().before(world, number)
        world.newest = max(n for stem, n in self.generations(world) if stem == "mac") + 1

    def script(self, world, number):
        new, old = world.newest, world.newest - 1
        for stem in self.stems:
            yield from self.until("standing", "rotate", stem, done=lambda s=stem: self.generations(
                world).get((s, new)) == "staged")
            yield from self.until("standing", "activate", "%s-%d" % (stem, new), done=lambda s=stem:
                                  self.generations(world)[s, new] == "active")
        yield from self.until("standing", "rewrap")
        while self.left(world):  # by itself
            yield None
        yield from self.until("standing", "list")
        for stem in self.stems:
            yield from self.approved(world, "standing", "destroy", "%s-%d" % (stem, old), "--yes",
                                     done=lambda s=stem: self.generations(world)[s, old] == "destroyed")
        yield from self.until("approve")
        yield from self.until("approve", "00000000", "--yes", done=lambda: True)
        yield from self.until("policy", "approve", done=lambda: True)
        yield from self.until("backup", "create", lambda: world.path(
            "backup-%d" % time.monotonic_ns()), "--config", world.conf_path("agent.yaml"))

    @staticmethod
    def left(world):
        """Has pfx-agentd anything that was made under an earlier key?"""
        return world.sql("SELECT count(*) FROM enrolment WHERE key_ref IS NOT NULL AND key_gone_at IS"
                         " NULL AND key_epoch < (SELECT value FROM meta WHERE key = 'key_epoch')"
                         ) != [(0,)]

    def hold(self, world, number):
        """The newest alone is there; what it vouches for is read by the next visit, and by a user who goes
        through now."""
        super().hold(world, number)
        states = self.generations(world)
        for stem in self.stems:
            wanted = {n: "destroyed" for n in range(1, world.newest)} | {world.newest: "active"}
            if {n: state for (of, n), state in states.items() if of == stem} != wanted:
                raise Wrong("generations are %s" % states)
            if world.keys_there("users", stem) != [world.newest]:
                raise Wrong("keys in the users token: %s" % world.listed("users"))
            self.done_once(world, "standing.destroy", "%s-%d" % (stem, world.newest - 1))
