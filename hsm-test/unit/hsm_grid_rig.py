"""One pfx-hsm through many faults: the requests of an enrolment, what has to be true of each answer,
and how a fault is judged. The tests are in hsm_grid.py."""

import collections
import hashlib
import os
import queue
import shutil
import subprocess
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

import hsm_rig as rig
from hsm_flow import verify_jwt
from hsm_opener import Opener
from hsm_rig import Rig, unb64

rig.LEAKS = False
LONG = os.environ.get("PFX_LONG") == "1"
AUDIT = os.environ.get("PFX_AUDIT", "")
AGENT = os.environ.get("PFX_AGENT", "")
DER = serialization.Encoding.DER
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
SECRET = "digicert-api-key-of-the-grid"

# The device is in trouble, and says so or doesn't: nobody has to do anything.
DEVICE = ["rv=0x30", "rv=0x5", "rv=0x6", "rv=0xb3", "rv=0x101", "rv=0x32", "rv=0x190", "rv=0xe0",
          "rv=0x31", "rv=0x2", "rv=0xb0", "rv=0x91", "rv=0x3", "rv=0x80000001", "rv-after=0x30",
          "drop-session", "drop-all", "logout", "forget-handle", "die", "die-after", "vanish",
          "delay=300"]
# It answers what can't be, or another thing than was asked: a person may have to look.
LIES = ["short", "zero", "oversize", "huge", "garble", "swap-handle", "rv=0x54", "rv=0x70",
        "rv=0x7", "rv=0x150", "rv=0x82", "rv=0x60", "rv=0x90", "rv=0xff"]
HANGS = ["hang", "hang-after"]
# Answers by which a request is simply repeated.
PASSING = ("transient", "device")


# What has an output whose length can be wrong, and what has one at all.
SIZED = {"C_GetAttributeValue", "C_Sign", "C_Decrypt", "C_Encrypt", "C_WrapKey", "C_FindObjects",
         "C_GetSlotList", "C_GetMechanismList"}
PLAIN = {"C_GetTokenInfo", "C_GetSlotInfo", "C_GetSessionInfo", "C_GetMechanismInfo", "C_GetInfo",
         "C_GenerateRandom"}
NO_SESSION = {"C_Initialize", "C_Finalize", "C_GetInfo", "C_GetSlotList", "C_GetSlotInfo",
              "C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo"}
GIVES = {"C_OpenSession"}


def applies(function, fault):
    """Can this fault be seen at this function at all?"""
    word = fault.split("=")[0]
    if word in ("short", "zero"):
        return function in SIZED or function == "C_GenerateRandom"
    if word in ("oversize", "huge"):
        return function in SIZED
    if word == "garble":
        return function in SIZED or function in PLAIN
    if word in ("drop-session", "logout"):
        return function not in NO_SESSION and function not in GIVES
    if word in ("drop-all", "swap-handle", "forget-handle"):
        return function not in NO_SESSION
    return True


class Wrong(AssertionError):
    """Something that must never be."""


Reply = collections.namedtuple("Reply", "cls text check")


class Grid:
    """One pfx-hsm through many faults."""

    def __init__(self, test, **options):
        self.test = test
        options.setdefault("sessions", 1)
        options.setdefault("ceilings", dict.fromkeys(
            ("keys_per_hour", "builds_per_hour", "assertions_per_hour", "secrets_per_hour"),
            1000000))
        self.r = Rig(**options)
        self.control = self.r.kind.control
        self.enrolment = 0
        self.spkis = {}  # of each key, whose it is
        self.built = []  # (what key_csr answered, leaf, what build_seal answered)
        self.tally = collections.Counter()
        self.trouble = []
        self.opener = self.key = None
        self.pem = self.vkey = None
        self.short = False  # the watchdog's deadline
        self.began = time.time()

    # --- pfx-hsm ----------------------------------------------------------------------------------

    def begin(self):
        """Started, with keys, a certificate and a secret."""
        self.r.start()
        self.after_init(self.r.init())
        self.ready()

    def after_init(self, items):
        self.pem = next(i["pem"] for i in items if i["kind"] == "certificate")
        lines = [i["text"].split(": ", 1)[1] for i in items if "key line" in i.get("text", "")]
        self.vkey = os.path.join(self.r.dir, "log.vkey")
        with open(self.vkey, "w", encoding="ascii") as f:
            f.write(lines[0] + "\n")
        _, end = self.r.admin("secret.set", name="digicert", value=SECRET)
        assert end["exit"] == 0, end

    def start(self):
        self.r.start()
        return self.ready()

    def ready(self, seconds=60):
        until = time.time() + seconds
        reply = None
        while time.time() < until:
            reply = self.job("hsm.report")
            if reply.get("class") == "gone":
                if not self.short:
                    break
                self.revive()  # a busy machine makes a key in more than the short deadline
            elif reply.get("body", {}).get("ready"):
                return reply["body"]
            time.sleep(0.05)
        raise Wrong("not ready: %s\n%s" % (reply, self.r.logged()[-3000:]))

    def job(self, kind, **body):
        """Like Agent.do, but a process that ends is an answer: {"class": "gone"}."""
        r = self.r
        until = time.time() + rig.WAIT
        while not r.agent.ready.wait(0.02) or r.agent.credit == 0:
            if r.process.poll() is not None:
                return {"class": "gone"}
            if time.time() > until:
                raise Wrong("pfx-hsm takes no job\n" + r.logged()[-3000:])
            time.sleep(0.005)
        answer = r.agent.start(kind, **body)
        while True:
            try:
                return answer.get(timeout=0.1)
            except queue.Empty:
                if r.process.poll() is not None:
                    return {"class": "gone"}
                if time.time() > until:
                    raise Wrong("%s has no answer\n%s" % (kind, r.logged()[-3000:])) from None

    def revive(self):
        """After it has ended: only its watchdog may have done that. Then it is started again."""
        r = self.r
        code = r.process.wait(timeout=30)
        r.process = None
        r.agent.ready.clear()
        for asker in r.askers:
            asker.close()
        r.askers = []
        if code != 70 or "hasn't come back" not in r.logged():
            raise Wrong("pfx-hsm ended with %s:\n%s" % (code, r.logged()[-6000:]))
        r.start()

    # --- requests ---------------------------------------------------------------------------------

    def reply(self, answer, check):
        error = answer.get("error", {})
        return Reply(answer["class"], error.get("text", ""), lambda: check(answer.get("body")))

    def key_csr(self, enrolment=None, key_type="ec-p256"):
        if enrolment is None:
            self.enrolment += 1
        number = enrolment or self.enrolment
        body = dict(self.r.ask_body(number), attempt=1, key_type=key_type)
        return lambda: self.reply(self.job("hsm.key_csr", **body),
                                  lambda answer: self.check_key(number, answer))

    def check_key(self, enrolment, body):
        csr = x509.load_der_x509_csr(unb64(body["csr"]))
        spki = unb64(body["spki"])
        if not csr.is_signature_valid or csr.public_key().public_bytes(DER, SPKI) != spki:
            raise Wrong("the request isn't signed by the key of its answer")
        if self.spkis.setdefault(spki, enrolment) != enrolment:
            raise Wrong("the key of enrolment %d was given to %d" % (self.spkis[spki], enrolment))

    def keyed(self, key_type="ec-p256"):
        """(enrolment, what key_csr answered, certificate)"""
        self.enrolment += 1
        answer = self.r.key_csr(self.enrolment, key_type=key_type)
        assert answer["class"] == "ok", answer
        return self.enrolment, answer["body"], self.r.ca.issue(unb64(answer["body"]["csr"]))

    def build_seal(self, enrolment, keyed, leaf):
        body = self.r.build_body(keyed, leaf, self.r.ca.chain(), enrolment)
        return lambda: self.reply(self.job("hsm.build_seal", **body), lambda answer:
                                  self.built.append((keyed, leaf, answer)))

    def ask(self, socket, verb, check, **args):
        def request():
            try:
                items, end = self.r.ask(socket, verb, **args)
            except (OSError, ConnectionError):
                if self.r.process.poll() is None:
                    time.sleep(0.2)
                if self.r.process.poll() is None:
                    raise
                return Reply("gone", "", None)
            error = end.get("error", {})
            return Reply(error.get("class", "ok"), error.get("text", ""), lambda: check(items))
        return request

    def cold(self, request):
        """The same after the token was opened anew, so that everything is looked up again."""
        def first():
            self.control.ask("die")
            until = time.time() + 60
            while self.assertion()().cls != "ok" and time.time() < until:
                time.sleep(0.05)
            self.calm()
            return request()
        tries = [first]
        return lambda: (tries.pop() if tries else request)()

    def assertion(self):
        return self.ask("uploader", "assertion", lambda items: verify_jwt(
            self.test, items[0]["assertion"], self.pem, True), app="main")

    def secret(self):
        def check(items):
            if items[0]["value"] != SECRET:
                raise Wrong("another secret was given out")
        return self.ask("uploader", "secret", check, name="digicert")

    # --- what is right ------------------------------------------------------------------------------

    def open_all(self):
        """Every PFX that was built since: it opens, and belongs to its certificate."""
        pfx = password = None
        built, self.built = self.built, []
        for keyed, leaf, body in built:
            try:
                password = self.open_sealed(unb64(body["sealed"]))
            except (ValueError, AssertionError) as error:
                raise Wrong("a sealed password doesn't open: %s" % error) from error
            pfx = unb64(body["pfx"])
            if hashlib.sha256(pfx).digest() != unb64(body["pfx_sha256"]):
                raise Wrong("a PFX isn't what its digest says")
            try:
                key, certificate, _ = pkcs12.load_key_and_certificates(pfx, password)
            except ValueError as error:
                raise Wrong("a PFX doesn't open: %s" % error) from error
            if certificate.public_bytes(DER) != leaf:
                raise Wrong("a PFX has another certificate")
            if key.public_key().public_bytes(DER, SPKI) != unb64(keyed["spki"]):
                raise Wrong("a PFX has another private key")
        if pfx:  # the last one by openssl, too
            path = os.path.join(self.r.dir, "last.pfx")
            with open(path, "wb") as f:
                f.write(pfx)
            self.r.tool("openssl", "pkcs12", "-in", path, "-passin", "stdin", "-nodes",
                        text_in=password)

    def open_sealed(self, sealed):
        if self.r.kind.oaep_in_token:  # NSS lets its own keys out, so they are among the needles
            if self.key is None:
                self.key = self.encryption_key()
            mgf = padding.MGF1(hashes.SHA512())
            return self.key.decrypt(sealed, padding.OAEP(mgf, hashes.SHA512(), None))
        if self.opener is None:
            self.opener = Opener(self.r.kind.home, self.r.kind.environment,
                                 self.r.labels["encryption"], self.r.pin("encryption"))
        return self.opener.open(sealed)

    def encryption_key(self):
        items, _ = self.r.admin("key.export_public")
        public = serialization.load_pem_public_key(items[0]["pem"].encode()).public_numbers()
        parts = {}
        for cls, _, name, value in self.control.needles()[0]:
            if cls != "rsa":
                continue
            parts[name] = int.from_bytes(value, "big")
            if name == "qInv" and parts["p"] * parts["q"] == public.n:
                return rsa.RSAPrivateNumbers(parts["p"], parts["q"], parts["d"], parts["dP"],
                                             parts["dQ"], parts["qInv"], public).private_key()
        raise Wrong("the encryption key isn't among the needles")

    def audit(self):
        """The log, exported and verified by pfx-audit."""
        r = self.r
        out = os.path.join(r.dir, "export")
        shutil.rmtree(out, ignore_errors=True)
        env = dict(r.env, PFX_HSM_SOCKET=os.path.join(r.run, "admin"),
                   PFX_LOG_DIR=os.path.join(r.state, "log"),
                   PFX_AGENT_SOCKET=os.path.join(r.dir, "none"))
        r.tool(AGENT, "log", "export", out, env=env)
        done = subprocess.run([AUDIT, "verify", out, "--key", self.vkey], capture_output=True,
                              text=True, timeout=120, check=False, env=r.env)
        if done.returncode != 0:
            raise Wrong("pfx-audit: exit %d\n%s%s" % (done.returncode, done.stdout[-3000:],
                                                      done.stderr[-1000:]))

    # --- one fault ----------------------------------------------------------------------------------

    def calm(self):
        """Until nothing goes on by itself any more: what was opened anew is probed again."""
        until = time.time() + 60
        while time.time() < until:
            self.ready()  # which makes calls of its own
            before = self.control.counts()
            time.sleep(0.05)
            if self.control.counts() == before:
                return
        raise Wrong("it doesn't come to rest")

    def record(self, request, calm=True):
        """{function: calls} of a request in which nothing goes wrong."""
        if calm:
            self.calm()
        self.control.reset()
        reply = request()
        assert reply.cls == "ok", reply
        reply.check()
        time.sleep(0.1)  # what its log entries need
        return self.control.counts()

    def trial(self, phase, function, number, fault, request):
        """A line of the table; Wrong where it is one."""
        began = time.time()
        self.control.fault(function, number, fault)
        outcome, text, wrong = "", "", None
        try:
            outcome, text = self.one(fault, request)
        except (Wrong, AssertionError, OSError, ValueError) as error:
            wrong = error
        finally:
            self.control.ask("back")
            self.control.clear()
        word = fault.split("=")[0]
        if not wrong and outcome == "person":
            if fault in DEVICE and phase != "init":  # a ceremony has a person
                wrong = "a person is asked, and nobody is needed: " + text
            elif len(text) < 30:
                wrong = "no clear message: " + text
        if not wrong and outcome == "restart" and word not in HANGS:
            wrong = "the watchdog ended it"
        if wrong is None and self.built:
            try:
                self.open_all()
            except Wrong as error:
                wrong = error
        if wrong:
            outcome = "WRONG"
            self.trouble.append("%s %s %d %s: %s" % (phase, function, number, fault, wrong))
        self.tally[outcome] += 1
        print("%-10s %-20s %3d  %-18s %-8s %5.2f s  %s" % (
            phase, function, number, fault, outcome, time.time() - began,
            str(wrong or text).splitlines()[0][:150] if wrong or text else ""), flush=True)
        if outcome not in ("ok", "unfired"):
            self.calm()

    def one(self, fault, request):
        reply = request()
        fired = self.control.fired()
        if fault.startswith("vanish"):
            time.sleep(0.2)
        self.control.ask("back")
        self.control.clear()
        if reply.cls == "ok":
            reply.check()
            return ("ok" if fired else "unfired"), ""
        outcome, text = "again" if reply.cls in PASSING else "person", reply.text
        until = time.time() + 45
        while reply.cls != "ok":
            if time.time() > until:
                raise Wrong("it doesn't recover: %s %s" % (reply.cls, reply.text))
            if reply.cls == "gone":
                outcome, text = "restart", ""
                self.revive()
            elif reply.cls not in PASSING:
                outcome, text = "person", reply.text
            time.sleep(0.02)
            reply = request()
        reply.check()
        return outcome, text

    def report(self):
        seconds = time.time() - self.began
        print("%s: %d faults in %.0f s: %s" % (
            "all of them" if LONG else "a part of them (PFX_LONG=1 for all)",
            sum(self.tally.values()), seconds, ", ".join(
            "%d %s" % (n, what) for what, n in sorted(self.tally.items()))), flush=True)
        self.test.assertEqual(self.trouble, [])

    def close(self):
        self.control.clear()
        if self.opener:
            self.opener.close()
            self.opener = None
        return self.r.close()


    def shorten(self):
        self.short = True
        self.r.write_policy(call_deadline="2s" if rig.SLOW < 5 else "4s")

    def hangs(self, trials):
        """Under a watchdog with a short deadline."""
        self.r.stop()
        self.shorten()
        self.start()
        before = collections.Counter(self.tally)
        for phase, make, function, number, fault in trials:
            self.trial(phase, function, number, fault, make())
        self.open_all()
        # Of a call that was made once less this time there is nothing to say.
        ended, unfired = (self.tally[what] - before[what] for what in ("restart", "unfired"))
        if ended < max(0.8 * (len(trials) - unfired), 0.4 * len(trials)):
            self.trouble.append("%d hangs, %d of them unfired, and the watchdog ended it %d times" % (
                len(trials), unfired, ended))

    # --- the start and the ceremony as requests -----------------------------------------------------

    def starting(self):
        """Starts it; ready or not after a few seconds, then looks on, at last starts it again."""
        tries = []

        def request():
            if self.r.process is None:
                self.r.start()
            tries.append(time.time())
            seconds = 3 * rig.SLOW
            until = time.time() + seconds
            body = {}
            while time.time() < until:
                answer = self.job("hsm.report")
                if answer["class"] == "gone":
                    return Reply("gone", "", None)
                body = answer.get("body", {})
                if body.get("ready"):
                    return Reply("ok", "", lambda: None)
                time.sleep(0.05)
            if time.time() - tries[0] < 25:
                return Reply("transient", body.get("why_not", ""), None)
            self.r.stop()
            tries.clear()
            return Reply("refused", body.get("why_not", ""), None)
        return request

    def snapshot(self):
        """Of tokens without a key, before the first start."""
        self.empty = os.path.join(self.r.dir, "empty-tokens")
        shutil.copytree(self.r.tokens, self.empty)

    def fresh(self):
        self.r.stop()
        if self.opener:
            self.opener.close()
        self.opener = self.key = None
        for path in (self.r.tokens, self.r.state):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.empty, self.r.tokens)
        self.control.ask("forget-needles")
        self.r.start()
        self.r.asker("admin").close()

    def ceremony(self):
        return self.ask("admin", "init", self.after_init,
                        encryption_pin=self.r.pin("encryption"))


def spread(points, faults, each, offset=0):
    """each: how many faults for a point, all of them in turn; None: all."""
    turn = offset
    for function, number in points:
        fitting = [f for f in faults if applies(function, f)]
        chosen = fitting if each is None else [
            fitting[(turn + i) % len(fitting)] for i in range(min(each, len(fitting)))]
        turn += len(chosen)
        for fault in chosen:
            yield function, number, fault


def points_of(counts):
    return [(function, number) for function in sorted(counts)
            for number in range(1, counts[function] + 1)]
