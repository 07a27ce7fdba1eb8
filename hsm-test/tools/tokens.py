"""The tokens that the tests run on: SoftHSM, NSS softokn and opencryptoki's soft token.

Each kind lives in a folder of the test's own, and makes a token for each label that it is given.
opencryptoki has one place for its state, the host's; opencryptoki.py puts a test's own in its place,
so here only `ready` and the numbers of its slots are left.
"""

import atexit
import os
import secrets
import shutil
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "cryptoki"))

from control import Control  # noqa: E402  (the line above makes it found)


def first_of(*paths):
    return next((p for p in paths if os.path.exists(p)), paths[0])


LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
SOFTHSM = first_of("/usr/lib/softhsm/libsofthsm2.so",
                   *(p + "/softhsm/libsofthsm2.so" for p in LIBRARIES),
                   *(p + "/libsofthsm2.so" for p in LIBRARIES))
SOFTOKN = first_of(*(p + "/libsoftokn3.so" for p in LIBRARIES),
                   *(p + "/nss/libsoftokn3.so" for p in LIBRARIES))
OPENCRYPTOKI = first_of(*(p + "/pkcs11/libopencryptoki.so" for p in LIBRARIES),
                        *(p + "/opencryptoki/libopencryptoki.so" for p in LIBRARIES))


class Kind:
    """What the kinds share. `forwarder` is the test module that gives NSS its parameters where a
    program can't (pkcs11-tool, OpenSSL's engine)."""

    name = title = module = ""
    home = ""  # the module that makes the token, where it isn't the one that is used
    parameters = None
    # What a test may ask before it expects something of the token.
    tier = "transit"        # the highest export tier
    keeps_doubles = True    # a second key with the same CKA_ID is a second key
    has_ed25519 = True
    oaep_in_token = False   # OAEP with SHA-256 to SHA-512
    reads_when_away = False  # goes on reading when its folder is taken away
    keeps_logins_apart = True  # a login to one token isn't one to the others

    def __init__(self, folder, labels, forwarder=""):
        self.folder, self.labels, self.forwarder = folder, list(labels), forwarder
        self.environment = {}
        self.tool_module = self.module
        os.makedirs(folder, mode=0o700, exist_ok=True)

    @classmethod
    def missing(cls):
        """None, or what has to be installed."""
        return None if os.path.exists(cls.module) else "%s isn't installed (%s)" % (cls.title,
                                                                                  cls.module)

    def so_pin(self):
        return "%08d" % secrets.randbelow(10 ** 8)

    def options(self, label):
        """Options of token-init that this label needs."""
        return []

    def make(self, token_init, label, pin, environment):
        """Makes the token; its serial. AssertionError with what token-init says."""
        done = subprocess.run(
            [token_init, "--module", self.home or self.module, "--label", label, "--pin-fd", "0",
             *self.options(label)], input=("%s\n%s\n" % (self.so_pin(), pin)).encode(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
        if done.returncode != 0:
            raise AssertionError("token-init for %s: %s" % (label, done.stderr.decode()))
        return done.stdout.split()[-1].decode()


class Softhsm(Kind):
    name, title, module = "softhsm", "SoftHSM", SOFTHSM

    def __init__(self, folder, labels, forwarder=""):
        super().__init__(folder, labels, forwarder)
        self.configuration = folder.rstrip("/") + "-softhsm2.conf"
        with open(self.configuration, "w", encoding="ascii") as stream:
            stream.write("# directories.tokendir = /nowhere\n"
                         "directories.tokendir = %s # its files\nobjectstore.backend = file\n"
                         "log.level = ERROR\nslots.removable = false\n" % folder)
        self.environment = {"SOFTHSM2_CONF": self.configuration}
        quick = os.environ.get("PFX_QUICK_RSA", "")  # its RSA keys are drawn in less time: quick_rsa.c
        if os.path.exists(quick):
            self.environment["LD_PRELOAD"] = quick


class Nss(Kind):
    """A database for each label, all of them slots of one module: so the roles have PINs of their
    own, and the encryption key is apart from what the running agent is logged in to."""

    name, title, module = "nss", "NSS softokn", SOFTOKN
    tier = "direct"
    keeps_doubles = False
    has_ed25519 = False
    oaep_in_token = True
    reads_when_away = True  # SQLite's open files
    FIRST_SLOT = 4  # NSS: user slots are 4 to 100

    def __init__(self, folder, labels, forwarder=""):
        super().__init__(folder, labels, forwarder)
        tokens = []
        for number, label in enumerate(self.labels, self.FIRST_SLOT):
            os.makedirs(os.path.join(folder, label), mode=0o700, exist_ok=True)
            tokens.append("0x%x=[configdir='sql:%s' tokenDescription='%s' minPWLen=4]"
                          % (number, os.path.join(folder, label), label))
        self.parameters = ("configdir='' certPrefix='' keyPrefix='' secmod='' "
                           "flags=noModDB,noCertDB tokens=<%s>" % " ".join(tokens))
        self.own_parameters = self.parameters
        self.environment = {"PFX_TEST_MODULE_REAL": self.module,
                            "PFX_TEST_MODULE_PARAMETERS": self.parameters}
        self.tool_module = forwarder

    def options(self, label):
        return ["--parameters", self.own_parameters, "--slot",
                str(self.FIRST_SLOT + self.labels.index(label))]


class Opencryptoki(Kind):
    """Inside opencryptoki.py only."""

    name, title, module = "opencryptoki", "opencryptoki's soft token", OPENCRYPTOKI
    tier = "direct"
    has_ed25519 = False
    oaep_in_token = True
    keeps_logins_apart = False
    SLOTS = ("encryption", "users", "service", "log")  # by what a label ends with

    @classmethod
    def missing(cls):
        if not os.path.exists(cls.module) or not shutil.which("pkcsslotd", path=PATH):
            return "opencryptoki isn't installed (%s, pkcsslotd)" % cls.module
        if os.environ.get("PFX_OPENCRYPTOKI") != "private":
            return "opencryptoki's state is the host's here: run it under hsm-test/tools/opencryptoki.py"
        return None

    def so_pin(self):
        return "87654321"  # what a fresh token of this kind has

    def options(self, label):
        # Always the same one, so that a token of an earlier test is made anew and none is doubled.
        return ["--slot", str(next(n for n, s in enumerate(self.SLOTS) if label.endswith(s)))]


def beside(name):
    """A test program of the build."""
    for folder in (os.path.dirname(os.environ.get("PFX_TOKEN_INIT", "")),
                   os.path.join(os.environ.get("PFX_BUILD", ""), "hsm-test")):
        if folder and os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise SystemExit("%s isn't built: set PFX_BUILD" % name)


class Remote:
    """In front of a kind: its token is in another process (hsm-test/cryptoki), which ends with this
    one or when its folder goes. `control` says what goes wrong there and what was called."""

    servers = []
    needles = True  # with --needles, so that `control` tells the secrets
    ahead = None    # a file of RSA keys that are given out before any is drawn (bench)

    def __init__(self, folder, labels, forwarder=""):
        super().__init__(folder, labels, forwarder)
        self.home = type(self).module
        self.module = beside("libpfx_test_token.so")
        self.socket = folder.rstrip("/") + "-token"
        self.own_parameters, self.parameters = self.parameters, "pfx-test-token=" + self.socket
        self.environment = dict(self.environment, PFX_TEST_TOKEN=self.socket)
        self.control = Control(self.socket + ".control")
        self.server = None
        self.serve()

    def serve(self):
        argv = [beside("pfx-test-token"), "--socket", self.socket, "--module", self.home,
                "--with-parent"]
        if self.own_parameters:
            argv += ["--parameters", self.own_parameters]
        if self.needles:
            argv.append("--needles")
        if self.ahead:
            argv += ["--keys-ahead", self.ahead]
        if not self.servers:
            atexit.register(self.end_all)
        environment = {k: v for k, v in os.environ.items()
                       if k not in ("ASAN_OPTIONS", "LD_PRELOAD")}
        self.server = subprocess.Popen(argv, env=dict(environment, **self.environment),
                                       stdin=subprocess.DEVNULL)
        self.servers.append(self.server)
        until = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if self.server.poll() is not None or time.monotonic() > until:
                raise AssertionError("pfx-test-token doesn't start")
            time.sleep(0.005)

    def kill(self):
        """As a network HSM that loses its power; serve() brings it back."""
        self.control.close()
        self.server.kill()
        self.server.wait()

    @classmethod
    def end_all(cls):
        for server in cls.servers:
            server.terminate()
            server.wait()


class RemoteSofthsm(Remote, Softhsm):
    pass


class RemoteNss(Remote, Nss):
    pass


def only_on(*names, why):
    """Marks a test that is about one kind of token: on the others there is nothing to test, so it
    isn't a skipped one. `why` says what the other kinds have in its place."""
    return unittest.skipIf(wanted().name not in names, "%s%s" % (NOT_HERE, why))


NOT_HERE = "not for this token: "
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
KINDS = {kind.name: kind for kind in (Softhsm, Nss, Opencryptoki)}
REMOTE = {"softhsm-remote": RemoteSofthsm, "nss-remote": RemoteNss}


def wanted():
    """The kind that PFX_TOKEN names."""
    name = os.environ.get("PFX_TOKEN", "") or "softhsm"
    if name not in KINDS and name not in REMOTE:
        raise SystemExit("PFX_TOKEN is %s; there are %s" % (name, ", ".join([*KINDS, *REMOTE])))
    return KINDS.get(name) or REMOTE[name]
