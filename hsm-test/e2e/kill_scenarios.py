"""What a process can be in the middle of: each scenario is done again for each of its points."""

import collections
import contextlib
import sqlite3
import time

import harness
import people
from kill_world import ORDER, Wrong

IMPORT = {"service": "graph", "method": "POST", "path_regex": "/userPfxCertificates$"}


class Scenario:
    """before: brings the world to where it begins. act: sets it going. over: is it at its end?
    nudge: what an operator or the scheduler does again meanwhile."""

    name = ""
    fresh = ()      # processes to restart before, so that they do what they do once only
    wanted = ("ACTIVE",)
    records = 1

    def before(self, world, number):
        pass

    def act(self, world, number):
        raise NotImplementedError

    def nudge(self, world, number):
        pass

    def back(self, world, number):
        """What died is there again, and nobody has done anything yet."""

    def over(self, world, number):
        raise NotImplementedError

    def hold(self, world, number):
        world.hold(number, wanted=self.wanted, records=self.records)

    # --- for all of them ---

    def command(self, world, *argv, secret=None, option="--pin-fd"):
        """A command of pfx-agent beside this test. Its exit code once it has ended; then, and when
        there was none, it is begun (again). None while it runs."""
        process = world.processes.get("command")
        if process is not None:
            if process.poll() is None:
                return None
            world.processes.pop("command")
        world.spawn_command(argv, secret, option)
        return None if process is None else process.returncode


class Flow(Scenario):
    """One new member of the group, from the directory to Intune."""

    name = "flow"
    fresh = ("uploader",)

    def act(self, world, number):
        world.add(number)
        self.command(world, "run", "--once", "--wait", "20s")

    def nudge(self, world, number):
        states = world.rows(number)
        if states and states[-1][1] == "HELD":
            self.release(world, number, states[-1][0])
        self.command(world, "run", "--once", "--wait", "20s")

    def release(self, world, number, enrolment):
        """Only an order of which the CA knows nothing may wait for a person."""
        why = world.sql("SELECT held_job, held_why FROM enrolment WHERE id = ?", enrolment)
        if not why or why[0][0] not in ("up.order", "up.order_settle"):
            raise Wrong("held for a person without need: %s" % why)
        if world.orders_of(number):
            raise Wrong("held though the CA has the order")
        if world.cli("enrolment", "release", str(enrolment)).code == 0:
            world.released = True

    def over(self, world, number):
        return world.states_of(number)[-1:] == ["ACTIVE"]


class Start(Flow):
    """The process is started, and the same follows."""

    name = "start"
    fresh = ()


class Lost(Flow):
    """The answers to the order and to the import get lost: both are looked for."""

    name = "lost"

    def before(self, world, number):
        world.control("/knobs", {"clear": True})
        world.knob(**dict(ORDER, action="lose"))
        world.knob(**dict(IMPORT, action="lose"))

    def over(self, world, number):
        over = super().over(world, number)
        if over:
            world.control("/knobs", {"clear": True})
        return over


# --- with --long: what comes after the delivery, and the ceremonies ---


class Delivered(Flow):
    """Begins with a user who has it all."""

    name = ""

    def before(self, world, number):
        world.add(number)

        def over():
            if Flow.over(self, world, number):
                return True
            Flow.nudge(self, world, number)
            return False
        harness.wait_for("user %d ACTIVE first" % number, over, 40, 0.05)
        world.finish_command()
        world.settle()
        world.tried = 0

    def again(self, world, *argv):
        """The command once more, but not in a circle: what it asked for takes its time."""
        if time.monotonic() > world.tried + 1:
            world.tried = time.monotonic()
            self.command(world, *argv)

    def gone(self, world, number):
        name = people.upn(number)
        return not [r for r in world.records() if r["userPrincipalName"] == name] and not world.sql(
            "SELECT 1 FROM removal WHERE gone_at IS NULL")


class Revoke(Delivered):
    """A person has the certificate revoked, and the rule takes it from Intune."""

    name, wanted, records = "revoke", ("ENDED",), 0

    def act(self, world, number):
        self.again(world, "enrolment", "revoke", str(world.rows(number)[-1][0]), "--reason",
                   "laptop stolen", "--yes")

    nudge = act

    def over(self, world, number):
        return world.states_of(number) == ["ENDED"] and self.gone(world, number)


class Remove(Delivered):
    """A person takes the record from Intune."""

    name, wanted, records = "remove", ("ENDED",), 0

    def act(self, world, number):
        name = people.upn(number)
        for record in world.records():
            if record["userPrincipalName"] == name:
                self.again(world, "record", "remove", record["id"], "--yes")

    nudge = act

    def over(self, world, number):
        return self.gone(world, number) and world.sql(
            "SELECT count(*) FROM removal WHERE user = ?", people.user(number)["id"]) == [(1,)]


class Cancel(Flow):
    """The CA waits for the user; its mail is sent again, then the enrolment is given up."""

    name, wanted, records = "cancel", ("ENDED",), 0

    def before(self, world, number):
        world.setting(issue_delay=3600)
        world.tried = 0
        world.add(number)

        def ordered():
            self.command(world, "run", "--once", "--wait", "1s")
            return world.states_of(number) == ["ORDERED"]
        harness.wait_for("user %d ORDERED" % number, ordered, 40, 0.05)
        world.finish_command()
        world.resent = False

    def act(self, world, number):
        if time.monotonic() < world.tried + 0.3:
            return
        world.tried = time.monotonic()
        what = "cancel" if world.resent and world.sql(
            "SELECT count(*) FROM job WHERE kind = 'up.order_resend'") == [(0,)] else "resend"
        code = self.command(world, "enrolment", what, str(world.rows(number)[-1][0]))
        world.resent = world.resent or code == 0

    nudge = act

    def over(self, world, number):
        over = world.states_of(number) == ["ENDED"] and [
            o["status"] for o in world.orders_of(number)] == ["canceled"]
        if over:
            world.setting(issue_delay=0)
        return over


class Away(Delivered):
    """pfx-agentd was away for ten days: the CA's whole list is read."""

    name = "away"

    def before(self, world, number):
        super().before(world, number)
        world.kill("agentd")
        with contextlib.closing(sqlite3.connect(world.path("state", "store.db"))) as store, store:
            store.execute("UPDATE meta SET value = value - 864000000 WHERE key IN"
                          " ('poll_ok', 'poll_answered', 'list_ok')")
        world.left = time.time() * 1000

    def act(self, world, number):
        world.start("agentd", wait=False)

    def nudge(self, world, number):
        pass

    def over(self, world, number):
        rows = world.sql("SELECT value FROM meta WHERE key = 'list_ok'")
        return bool(rows) and rows[0][0] > world.left - 60000


class Wrapped(Flow):
    """The main flow where user keys are blobs under the wrapping key."""

    name = "wrapped"


class Discard(Flow):
    """The policy doesn't keep a signing key once its record is there."""

    name = "discard"

    def over(self, world, number):
        return super().over(world, number) and not world.sql(
            "SELECT 1 FROM enrolment WHERE user = ? AND key_gone_at IS NULL", people.user(number)["id"])


class Mailboxes(Flow):
    """The rule wants the addresses of shared mailboxes."""

    name = "mailboxes"

    def before(self, world, number):
        time.sleep(1.1)  # schedule.mailboxes_every


Command = collections.namedtuple("Command", "argv secret option", defaults=(None, "--pin-fd"))


class Commands(Flow):
    """Commands one after another, each until it succeeds; then a user goes through."""

    good = (0, 1)

    def commands(self, world):
        raise NotImplementedError

    def before(self, world, number):
        world.step, world.tried = 0, 0

    def act(self, world, number):
        left = self.commands(world)[world.step:]
        if not left or (world.tried and time.monotonic() < world.tried + 0.2):
            return
        world.tried = time.monotonic()
        process = world.processes.get("command")
        if process is not None and process.poll() is not None:
            world.processes.pop("command")
            if process.returncode in self.good:
                world.step += 1
            elif process.returncode not in (3, 5, 70):
                raise Wrong("%s ends with %d: %s" % (left[0].argv, process.returncode,
                                                     world.log("command")[-2000:]))
            process = None
            left = self.commands(world)[world.step:]
        if left and process is None:
            world.spawn_command(left[0].argv, left[0].secret and left[0].secret(), left[0].option)

    nudge = act

    def over(self, world, number):
        return world.step == len(self.commands(world))

    def hold(self, world, number):
        flow = Flow()
        flow.act(world, number)

        def over():
            if flow.over(world, number):
                return True
            flow.nudge(world, number)
            return False
        harness.wait_for("user %d ACTIVE afterwards" % number, over, 40, 0.05)
        world.finish_command()
        world.settle()
        super().hold(world, number)


class Setup(Commands):
    name = "setup"
    fresh = ("uploader", "hsm")

    def commands(self, world):
        return [Command(("setup", "digicert")), Command(("setup", "entra"))]


class Admin(Commands):
    """The ceremonies of the admin socket, on tokens that have their keys."""

    name = "admin"

    def commands(self, world):
        return [
            Command(("secret", "set", "digicert"), lambda: world.api_key, "--fd"),
            Command(("secret", "status")), Command(("status",)), Command(("log", "status")),
            Command(("key", "list")), Command(("key", "show", "client-main-1")),
            Command(("key", "export-public", "encryption-1", "--out", world.path("other.pem"))),
            Command(("hsm", "test"), lambda: world.pin("encryption")),
            Command(("init", "--out", world.path("out")), lambda: world.pin("encryption"))]


class Rotate(Commands):
    """A new log key."""

    name = "rotate"

    def commands(self, world):
        return [Command(("log", "rotate-key", "--yes"))]


class Generation(Commands):
    """The encryption key's next generation: made and activated. Given again after it was done, and
    its answer was lost, a command is refused."""

    name = "generation"
    good = (0, 1, 4)

    @staticmethod
    def generations(world):
        rows = [r for r in world.cli("key", "status", "--json").lines()
                if r["schema"] == "pfx-agent/key-status/1"]
        return {r["generation"]: r["state"] for r in rows}

    def before(self, world, number):
        super().before(world, number)
        world.newest = max(self.generations(world)) + 1

    def commands(self, world):
        return [Command(("key", "rotate", "--out", world.path("out")), lambda: world.pin("encryption")),
                Command(("key", "activate", str(world.newest))), Command(("key", "status")),
                # Refused each: records name it, there is no such connector, nobody approves.
                Command(("key", "retire", str(world.newest - 1), "--yes")),
                Command(("key", "compromise", "1", "--yes")),
                Command(("key", "destroy", "1", "--yes"), lambda: world.pin("encryption")),
                Command(("connector", "probe", "c", "--out", world.path("out"))),
                Command(("connector", "confirm", "c", "a"))]

    def hold(self, world, number):
        """Each generation was made once, and the newest alone is active; a user goes through with it."""
        states = self.generations(world)
        wanted = {n: "suspended" for n in range(1, world.newest)} | {world.newest: "active"}
        if states != wanted:
            raise Wrong("generations are %s" % states)
        keys = sum(kind.startswith("Private") for kind, _, _ in world.listed("encryption"))
        if keys != world.newest:
            raise Wrong("%d keys in the encryption token for %d generations" % (keys, world.newest))
        super().hold(world, number)


class Init(Commands):
    """The first ceremony, on empty tokens; each time in a world of its own."""

    name = "init"
    fresh = ()

    def commands(self, world):
        return [Command(("init", "--out", world.path("out")), lambda: world.pin("encryption")),
                Command(("secret", "set", "digicert"), lambda: world.api_key, "--fd")]

    def over(self, world, number):
        over = super().over(world, number)
        world.keyless = world.keyless and not over
        return over

    def hold(self, world, number):
        world.register()
        self.whole(world)
        super().hold(world, number)

    def whole(self, world):
        """Every token holds what one undisturbed ceremony makes, and nothing besides."""
        there = {role: world.objects(role) for role in harness.ROLES}
        if type(self).made is None:
            type(self).made = there
        if there != type(self).made:
            raise Wrong("objects in the tokens: %s; of a ceremony without a kill: %s" % (
                there, type(self).made))

    made = None
