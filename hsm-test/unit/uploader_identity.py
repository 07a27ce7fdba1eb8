"""Sign-in by a managed identity. Its addresses are constants of the product, so the test runs in a
network namespace of its own where they lead to the simulator, and in a mount namespace where the
Azure Arc agent's folder is empty: as root only."""

import json
import os
import shutil
import subprocess
import sys
import time
import unittest

import own_namespace

if __name__ == "__main__":
    own_namespace.enter("/var/opt")

import uploader_rig  # noqa: E402  (only inside)
from simclient import GROUP  # noqa: E402
from uploader_rig import SharedRig  # noqa: E402

MACHINE = "1de00000-0001-4000-8000-000000000001"
ASSIGNED = "1de00000-0002-4000-8000-000000000002"
KEYS = "/var/opt/azcmagent/tokens"
ROLES = ["User.Read.All", "GroupMember.Read.All", "DeviceManagementConfiguration.ReadWrite.All"]
IDENTITIES = [
    {"client_id": MACHINE, "roles": ROLES, "default": True},
    {"client_id": ASSIGNED, "directory_roles": ["Global Reader"],
     "roles": ["User.Read.All", "GroupMember.Read.All", "Exchange.ManageAsApp"]},
]


def make_world():
    for command in (["ip", "link", "set", "lo", "up"],
                    ["ip", "address", "add", "169.254.169.254/32", "dev", "lo"],
                    ["mount", "-t", "tmpfs", "tmpfs", "/var/opt"]):
        subprocess.run(command, check=True)
    os.makedirs(KEYS)


class Identity(SharedRig):
    """The simulator is at the two addresses; nobody plays pfx-hsm."""

    with_broker = False
    arguments = ["--identity"]
    extra_tenant = {"identities": IDENTITIES, "mailboxes": []}

    def tokens(self):
        return self.state()["entra"]["tokens"]

    def fresh(self):
        """After a failure the next sign-in waits, longer each time: a new program doesn't."""
        self.restart()
        self.control("POST", "/reset", {})


def setUpModule():
    Identity.open_world()


class Machine(Identity):
    """An Azure machine's own identity."""

    # A proxy that doesn't exist: Graph is excepted, and the metadata service never gets one.
    options = {"entra.sign_in": "azure-vm", "proxy.url": "http://127.0.0.1:1",
               "proxy.except": "127.0.0.1"}

    def setUp(self):
        super().setUp()
        self.fresh()

    def test_sign_in(self):
        self.assertEqual(8, len(self.good("up.members", group=GROUP)["users"]))
        self.good("up.records")
        self.assertEqual({MACHINE + " graph": 1}, self.tokens())
        target = self.asked("imds")[0]["target"]
        self.assertEqual("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" +
                         self.urls["graph"].replace(":", "%3A").replace("/", "%2F"), target)
        self.assertEqual([], self.asked("entra", 0))

    def test_asked_again(self):
        """404, 410, 429 and 5xx want to be repeated; the job waits meanwhile."""
        for rule in ({"action": "status", "code": 404}, {"action": "status", "code": 410},
                     {"action": "throttle", "retry_after": 0.1},
                     {"action": "status", "code": 500}):
            with self.subTest(rule):
                self.fresh()
                self.knob(service="imds", **rule)
                self.good("up.members", group=GROUP)

    def test_refused(self):
        self.knob(service="imds", action="status", code=400, times=-1,
                  body={"error": "invalid_request", "error_description": "Identity not found"})
        error = self.bad("refused", "up.members", "az vm identity assign", group=GROUP)
        self.assertEqual("invalid_request", error["code"])

    def test_redirect(self):
        """Not even the metadata service leads elsewhere."""
        self.knob(service="imds", action="status", code=302, times=-1,
                  headers={"Location": self.urls["control"] + "/state"})
        self.bad("refused", "up.members", "redirect", group=GROUP)

    def test_other_tenant(self):
        """What answers there isn't proved by TLS: its token has to be of our tenant."""
        self.setting(token_tenant="7e000000-0000-4000-8000-00000000000f")
        self.bad("refused", "up.members", "7e000000-0000-4000-8000-00000000000f", "entra.tenant",
                 group=GROUP)
        self.assertEqual([], self.asked("graph", 0))

    def test_too_large(self):
        self.knob(service="imds", action="bigbody", mib=1, times=-1)
        self.bad("refused", "up.members", "larger than one with a token", "entra.sign_in",
                 group=GROUP)

    def test_lifetime(self):
        """expires_in is a text; a short one counts as it stands."""
        self.setting(identity_lifetime=2)
        self.good("up.members", group=GROUP)
        time.sleep(1.2)
        self.good("up.members", group=GROUP)
        self.assertEqual({MACHINE + " graph": 2}, self.tokens())

    def test_setup(self):
        findings = self.good("up.setup_entra", groups=[GROUP], mailboxes=True,
                             mail=False)["findings"]
        self.assertEqual("managed identity (users and groups)", findings[0]["what"])
        levels = {f["text"]: f["level"] for f in findings}
        self.assertEqual("bad", levels["It lacks the application role Exchange.ManageAsApp."])
        self.assertEqual("ok", levels["It has the role User.Read.All."])
        self.assertNotIn("az ad app", json.dumps(findings))


class Assigned(Identity):
    """A user-assigned identity, by its client id; also for Exchange."""

    options = {"entra.sign_in": "azure-vm", "entra.identity": ASSIGNED}

    def test_sign_in(self):
        self.good("up.members", group=GROUP)
        self.assertEqual([], self.good("up.mailboxes")["mailboxes"])
        self.assertEqual({ASSIGNED + " graph": 1, ASSIGNED + " exchange": 1}, self.tokens())
        self.assertIn("&client_id=" + ASSIGNED, self.asked("imds")[0]["target"])


class Arc(Identity):
    """An Azure Arc server."""

    options = {"entra.sign_in": "azure-arc"}

    def setUp(self):
        super().setUp()
        self.fresh()

    def test_sign_in(self):
        self.good("up.members", group=GROUP)
        self.good("up.records")
        self.assertEqual({MACHINE + " graph": 1}, self.tokens())
        self.assertEqual([401, 200], [r["status"] for r in self.asked("arc", 2)])
        self.assertIn("api-version=2020-06-01&", self.asked("arc")[0]["target"])

    def refused(self, realm, *words):
        self.setting(arc_realm=realm)
        error = self.bad("refused", "up.members", *words, group=GROUP)
        self.assertEqual({}, self.tokens())
        # The content of no file goes over the line: each answer was a challenge.
        self.assertEqual({401}, {r["status"] for r in self.asked("arc")})
        self.assertNotIn("s3cret", json.dumps(error))

    @staticmethod
    def put(name, data, folder=KEYS):
        path = os.path.join(folder, name)
        with open(path, "wb") as stream:
            stream.write(data)
        return path

    def test_elsewhere(self):
        """A file that isn't directly in the agent's folder isn't read."""
        outside = self.put("other.key", b"s3cret", self.scratch.name)
        os.makedirs(KEYS + "/sub", exist_ok=True)
        self.addCleanup(shutil.rmtree, KEYS + "/sub")
        self.put("a.key", b"s3cret", KEYS + "/sub")
        self.put("plain.txt", b"s3cret")
        for realm in (outside, KEYS + "/sub/a.key", KEYS + "/../tokens/sub/a.key",
                      KEYS + "/plain.txt"):
            with self.subTest(realm):
                self.fresh()
                self.refused(realm, "isn't a .key file directly in " + KEYS)

    def test_no_plain_file(self):
        """Links, pipes, folders and files that are too large or empty aren't read either."""
        real = self.put("real.txt", b"s3cret")
        os.symlink(real, KEYS + "/link.key")
        os.mkfifo(KEYS + "/pipe.key")
        os.mkdir(KEYS + "/folder.key")
        self.addCleanup(os.rmdir, KEYS + "/folder.key")
        self.put("large.key", b"s" * 4097)
        self.put("empty.key", b"")
        self.put("odd.key", b"s3cret\x01\x02")
        self.put("spaced.key", b"s3cret s3cret")
        for name, word in (("link", "can't be opened"), ("pipe", "regular file"),
                           ("folder", "regular file"), ("large", "regular file"),
                           ("empty", "regular file"), ("odd", "can't stand in a header"),
                           ("spaced", "can't stand in a header"), ("absent", "can't be opened")):
            with self.subTest(name):
                self.fresh()
                self.refused("%s/%s.key" % (KEYS, name), word)

    def test_folder_is_a_link(self):
        os.rename(KEYS, KEYS + "-real")
        os.symlink(KEYS + "-real", KEYS)
        try:
            self.refused("", "can't be opened", "links aren't followed")
        finally:
            os.unlink(KEYS)
            os.rename(KEYS + "-real", KEYS)

    def test_largest(self):
        """4,096 bytes are read; the agent doesn't know this content, so it refuses the second time,
        and there is no third."""
        path = self.put("right.key", b"s" * 4096)
        self.setting(arc_realm=path)
        self.bad("refused", "up.members", "azcmagent", group=GROUP)
        self.assertEqual(2, len(self.asked("arc", 2)))

    def test_other_challenge(self):
        self.knob(service="arc", action="status", code=401, times=-1,
                  headers={"WWW-Authenticate": "Negotiate"}, body={})
        self.bad("refused", "up.members", "azcmagent", group=GROUP)

    def test_secret_isnt_told(self):
        self.put("told.key", b"s3cret-of-the-agent")
        self.setting(arc_realm=KEYS + "/told.key")
        error = self.bad("refused", "up.members", group=GROUP)
        self.assertNotIn("s3cret", json.dumps(error) + self.log_text())


class Updating(Identity):
    """The metadata service wants to be asked again for as long as the job lasts."""

    options = {"entra.sign_in": "azure-vm", "limits.job_timeout": "2s"}

    def test_never(self):
        self.knob(service="imds", action="status", code=410, times=-1)
        self.bad("transient", "up.members", "HTTP 410", "entra.sign_in", group=GROUP)


class Nobody(Identity):
    """Neither address answers: this machine isn't what uploader.yaml says."""

    prefix = ["unshare", "--net"]
    options = {"entra.sign_in": "azure-arc"}

    def test_no_answer(self):
        self.bad("transient", "up.members", "azcmagent", "entra.sign_in", group=GROUP)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    make_world()
    unittest.main()
