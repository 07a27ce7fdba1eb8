"""The installed system inside the container: the guide's commands, the units, tokens, simulators."""

import contextlib
import json
import os
import pty
import pwd
import re
import select
import shutil
import subprocess
import sys
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
E2E = os.path.join(os.path.dirname(HERE), "e2e")
sys.path.insert(0, E2E)

import harness  # noqa: E402  (the line above makes it found)
import people  # noqa: E402
from world_conf import ROLES, merge, private_file, yaml  # noqa: E402

GUIDE = os.path.join(harness.ROOT, "deploy", "guide", "operators-guide.md")
UNITS = ("pfx-agentd", "pfx-hsm", "pfx-uploader")
USERS = {"pfx-agentd": "pfx-agent", "pfx-hsm": "pfx-hsm", "pfx-uploader": "pfx-uploader"}
DROPINS = "/usr/local/share/doc/pfx-agent/systemd"

built = harness.program


def program(name):
    """The installed program where there is one."""
    return shutil.which(name, path="/usr/local/bin") or built(name)


harness.program = program


def run(*argv, seconds=60, check=True, **more):
    done = subprocess.run(argv, stdin=more.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=seconds, check=False, **more)
    result = harness.Result(done.returncode, done.stdout.decode("utf-8", "replace"),
                            done.stderr.decode("utf-8", "replace"))
    if check and result.code != 0:
        raise AssertionError("%s: %r" % (" ".join(argv), result))
    return result


def systemctl(*argv, check=True, seconds=90):
    return run("systemctl", "--no-pager", *argv, check=check, seconds=seconds).out


def show(unit, name):
    return systemctl("show", "--value", "--property=" + name, unit).strip()


def main_pid(unit):
    return int(show(unit, "MainPID"))


def is_up(unit):
    """systemd has its READY=1."""
    return show(unit, "ActiveState") == "active" and show(unit, "SubState") == "running"


def journal(unit=None, since=None):
    """Of one unit, or of all since a cursor: with both journalctl leaves one line out."""
    return run("journalctl", "--no-pager", "--output=cat",
               *(["--unit=" + unit] if unit else []),
               *(["--after-cursor=" + since] if since else [])).out


def cursor():
    """Where the journal ends now."""
    said = run("journalctl", "--no-pager", "--lines=0", "--show-cursor").out
    return re.search(r"cursor: (\S+)", said).group(1)


def sh_as(user, *argv, groups=None):
    """A command as another user, with that user's groups of the group file, or these."""
    become = ("setpriv", "--reuid=" + user, "--regid=%d" % pwd.getpwnam(user).pw_gid,
              "--groups=" + ",".join(groups) if groups else "--init-groups", "--no-new-privs")
    run(*become, "true")  # else what is refused below were this
    return run(*become, *argv, check=False)


def dropin(unit, name, text):
    folder = "/run/systemd/system/%s.service.d" % unit
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".conf"), "w", encoding="ascii") as stream:
        stream.write("[Service]\n" + text + "\n")


def guide_blocks():
    """The commands of the guide's section on units, as typed; without the build."""
    with open(GUIDE, encoding="utf-8") as stream:
        section = stream.read().split("## As systemd units\n")[1].split("\n## ")[0]
    return [b for b in re.findall(r"^```sh\n(.*?)^```", section, re.S | re.M) if "cmake" not in b]


class Typist:
    """Types the guide's commands into a shell on a terminal, and answers what it asks."""

    def __init__(self, answers):
        self.answers, self.said = answers, ""

    def type(self, commands, seconds=60):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "dumb"
            os.execv("/bin/bash", ["bash", "-e", "-o", "pipefail", "-c", commands])
        said, asked = "", 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([terminal], [], [], 0.2)
            if ready:
                try:
                    data = os.read(terminal, 4096)
                except OSError:
                    data = b""
                if not data:
                    break
                said += data.decode("utf-8", "replace")
            found = re.search(r"PIN of the token for the role (\w+):", said[asked:])
            if found:
                asked += found.end()
                # The question comes before the echo goes: nobody types as fast as this program.
                harness.wait_for("a terminal without echo", lambda: not (
                    termios.tcgetattr(terminal)[3] & termios.ECHO), 10)
                os.write(terminal, (self.answers[found.group(1)] + "\n").encode())
        else:
            os.kill(pid, 9)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(terminal)
        self.said += said
        if status != 0:
            raise AssertionError("as the guide says:\n%s\nended with %d:\n%s"
                                 % (commands, status, said))


class Installed(harness.World):
    """A world whose daemons are the units, in their own places."""

    def __init__(self, users):
        super().__init__(tenant=people.tenant([people.user(n) for n in range(1, users + 1)]),
                         folder=self._folder(), rules=[people.rule()])
        for name in ("SOFTHSM2_CONF", "PFX_AGENT_SOCKET", "PFX_HSM_SOCKET", "PFX_LOG_DIR"):
            self.environment.pop(name, None)
        self.extra = {"agent": {}, "policy": {}, "uploader": {}}
        self.module = None  # another one for all roles

    @staticmethod
    def _folder():
        os.makedirs("/srv/world", mode=0o700)
        return "/srv/world"

    # --- configuration: what a unit's own place is isn't said --------------------------------

    def agent_conf(self):
        conf = super().agent_conf()
        del conf["state_dir"], conf["run_dir"]
        conf["access"] = {"operators": "pfx-operators", "auditors": "pfx-auditors",
                          "hsm_user": "pfx-hsm", "uploader_user": "pfx-uploader"}
        return conf

    def uploader_conf(self):
        conf = super().uploader_conf()
        del conf["agent_socket"], conf["hsm_socket"]
        conf["tls"] = {"ca_bundle": "/etc/pfx-agent/tls-ca.pem"}
        conf["access"] = {"agent_user": "pfx-agent", "hsm_user": "pfx-hsm"}
        return conf

    def policy_conf(self):
        conf = super().policy_conf()
        del conf["state_dir"], conf["run_dir"], conf["agent_socket"]
        conf["users"] = {"ca_roots": "/etc/pfx-agent/ca-roots.pem"}
        conf["access"] = {"agent_user": "pfx-agent", "uploader_user": "pfx-uploader",
                          "admins": "pfx-admins", "auditors": "pfx-auditors"}
        return conf

    def token_conf(self, role):
        entry = super().token_conf(role)
        if role != "encryption":
            entry["pin_file"] = role + "-pin"
        if self.module:
            entry["module"] = self.module
        return entry

    def write_conf(self):
        for name, conf, more in (("agent.yaml", self.agent_conf(), self.extra["agent"]),
                                 ("uploader.yaml", self.uploader_conf(), self.extra["uploader"]),
                                 ("hsm-policy.yaml", self.policy_conf(), self.extra["policy"])):
            path = os.path.join("/etc/pfx-agent", name)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(yaml(merge(conf, more)) + "\n")
            os.chmod(path, 0o644)
        for source, target in (("tls-ca.pem", "tls-ca.pem"), ("smime-root.pem", "ca-roots.pem")):
            shutil.copyfile(self.path("sim", source), "/etc/pfx-agent/" + target)
            os.chmod("/etc/pfx-agent/" + target, 0o644)

    # --- tokens: files of pfx-hsm, where Debian keeps them --------------------------------------

    def make_token(self, role):
        wrapper = self.path("token-init")
        with open(wrapper, "w", encoding="ascii") as stream:
            stream.write("#!/bin/sh\ncd /\nexec setpriv --reuid=pfx-hsm --regid=pfx-hsm "
                         "--groups=softhsm %s \"$@\"\n" % program("token-init"))
        os.chmod(wrapper, 0o700)
        pin = "%08d" % harness.secrets.randbelow(10 ** 8)
        private_file(self.path("pins", role), pin + "\n")
        self.token_serials[role] = self.kinds[role].make(wrapper, "pfx-" + role, pin,
                                                         self.environment)

    def credential(self, role, pin):
        """As the guide does it, without its terminal."""
        run("systemd-creds", "encrypt", "--name=%s-pin" % role, "-",
            "/etc/credstore.encrypted/pfx-hsm.%s-pin" % role, stdin=self._pipe(pin))

    @staticmethod
    def _pipe(text):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        return reader

    # --- units ----------------------------------------------------------------------------------

    def log(self, name):
        return super().log(name) if name == "sim" else journal("pfx-" + name)[-6000:]

    def set_up(self):
        """By the guide, in its order."""
        blocks = guide_blocks()
        say = [b for b in blocks if "systemd-sysusers" in b]
        if len(blocks) != 6 or blocks[0] not in say:
            raise AssertionError("the guide's section has %d blocks of commands" % len(blocks))
        accounts, files, pins, hsm, start, timer = blocks
        Typist({}).type(accounts)
        run("useradd", "--create-home", "alice")
        self.make_tokens()
        self.start_sim()
        Typist({}).type(files)
        self.examples = {}
        for name in ("agent", "uploader", "hsm-policy"):
            with open("/etc/pfx-agent/%s.yaml" % name, encoding="utf-8") as stream:
                self.examples[name] = stream.read()
        self.write_conf()
        typist = Typist({role: self.pin(role) for role in ROLES})
        typist.type(pins)
        self.typed = typist.said
        Typist({}).type(hsm.replace("network-hsm", "softhsm"))
        Typist({}).type(start)
        self.timer = timer

    def restart(self, *units):
        systemctl("daemon-reload")
        systemctl("restart", *(units or UNITS))

    def facts(self):
        """{name: (level, value)} of `status`, of both processes; {} when one isn't there."""
        said = self.cli("status", "--json")
        found = {}
        with contextlib.suppress(ValueError):
            whole = json.loads(said.out)
            for part in ("agent", "hsm"):
                if not whole[part]["reachable"]:
                    return {}
                for item in whole[part]["items"]:
                    if "level" in item:
                        found[item["name"]] = (item["level"], item.get("value", ""))
        return found

    def until_well(self, seconds=40):
        """All three are up, both arms are at work, and pfx-hsm is logged in to its tokens."""
        wanted = ("hsm", "uploader", "token users", "token service", "token log")

        def well():
            if not all(is_up(unit) for unit in UNITS):
                return False
            facts = self.facts()
            return all(facts.get(name, ("",))[0] == "ok" for name in wanted)
        try:
            harness.wait_for("three units that are well", well, seconds, 0.2)
        except AssertionError as error:
            raise AssertionError("%s\n%r\n%s" % (error, self.facts(), "\n".join(
                systemctl("status", *UNITS, check=False).splitlines()))) from None
