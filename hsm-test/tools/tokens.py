"""The tokens that the tests run on: SoftHSM, NSS softokn and opencryptoki's soft token.

Each kind lives in a folder of the test's own, and makes a token for each label that it is given.
opencryptoki has one place for its state, the host's; opencryptoki.py puts a test's own in its place,
so here only `ready` and the numbers of its slots are left.
"""

import os
import secrets
import shutil
import subprocess
import unittest


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
            [token_init, "--module", self.module, "--label", label, "--pin-fd", "0",
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
            stream.write("directories.tokendir = %s\nobjectstore.backend = file\n"
                         "log.level = ERROR\nslots.removable = false\n" % folder)
        self.environment = {"SOFTHSM2_CONF": self.configuration}


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
        self.environment = {"PFX_TEST_MODULE_REAL": self.module,
                            "PFX_TEST_MODULE_PARAMETERS": self.parameters}
        self.tool_module = forwarder

    def options(self, label):
        return ["--parameters", self.parameters, "--slot",
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


def only_on(*names, why):
    """Marks a test that is about one kind of token: on the others there is nothing to test, so it
    isn't a skipped one. `why` says what the other kinds have in its place."""
    return unittest.skipIf(wanted().name not in names, "%s%s" % (NOT_HERE, why))


NOT_HERE = "not for this token: "
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
KINDS = {kind.name: kind for kind in (Softhsm, Nss, Opencryptoki)}


def wanted():
    """The kind that PFX_TOKEN names."""
    name = os.environ.get("PFX_TOKEN", "") or "softhsm"
    if name not in KINDS:
        raise SystemExit("PFX_TOKEN is %s; there are %s" % (name, ", ".join(KINDS)))
    return KINDS[name]
