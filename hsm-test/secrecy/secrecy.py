"""Secrecy: the memory of pfx-agentd, pfx-hsm and pfx-uploader is read at every Cryptoki call of
enrolments, while the keys are in the process of a token (NSS, tier `direct`); so are the files that
they write. Found: no part of a private key; a PFX password and the key made from it in pfx-hsm's
secret pages, while it builds that PFX, and nowhere afterwards.

It would be found: the tier `transit` has the key in pfx-hsm's memory for a moment (SoftHSM), and is
stopped there. And nobody gets it there where secrets lie in memfd_secret.

PFX_LONG=1: 100 enrolments; otherwise as many as there is time for. Needs gdb, and the right to read
another process (CAP_SYS_PTRACE)."""

import base64
import collections
import hashlib
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
import unittest

os.environ["PFX_TOKEN"] = "nss-remote"
SCAN = os.environ["PFX_SCAN"]
LONG = os.environ.get("PFX_LONG") == "1"
SECONDS = float(os.environ.get("PFX_SECONDS", "20"))
ENROLMENTS = 100

import watch  # noqa: E402  (it looks at PFX_TOKEN)
import harness  # noqa: E402
import memory  # noqa: E402
import oracle  # noqa: E402
import people  # noqa: E402

NUMBERS = ["d", "p", "q", "dP", "dQ", "qInv"]
# One of each kind to a batch: (group, rule's members)
RULES = [("9d0a6c1e-0003-4a00-9000-00000000000%d" % n, more) for n, more in enumerate((
    {"key": "rsa-2048"}, {"key": "ec-p256"}, {"key": "rsa-2048", "profile": "compat"}))]


def keys_of(pfx, password):
    """Made of the password by PBKDF2, whose parameters follow on its object identifier."""
    for match in re.finditer(rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c\x30.\x04(.)", pfx,
                             re.S):
        end = match.end() + match[1][0]
        rounds = int.from_bytes(pfx[end + 2:end + 2 + pfx[end + 1]], "big")
        yield hashlib.pbkdf2_hmac("sha256", password, pfx[match.end():end], rounds, 32)


def memfd_secret():
    """Has the kernel it?"""
    import ctypes
    descriptor = ctypes.CDLL(None).syscall(447, 0)
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


class Case(unittest.TestCase):
    maxDiff = None

    def scanner(self):
        scanner = memory.Scanner(SCAN)
        self.addCleanup(scanner.close)
        return scanner

    def world(self, token, **more):
        self.began = time.time()
        kind = os.environ["PFX_TOKEN"]
        os.environ["PFX_TOKEN"] = token
        try:
            world = watch.Watched(self.scanner(), **more)
        finally:
            os.environ["PFX_TOKEN"] = kind
        self.addCleanup(world.close)
        os.mkdir(world.path("cores"), 0o700)
        return world.ready()

    def nothing(self, world):
        self.assertEqual([], world.trouble, world.why_not())


class Scan(Case):
    """Does it see what there is to be seen?"""

    def child(self, data):
        """A process that has read it into its heap."""
        child = subprocess.Popen(
            [sys.executable, "-c", "import os, signal, sys\nkept = sys.stdin.buffer.read()\n"
             "os.write(1, b'.')\nsignal.pause()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        child.stdin.write(data)
        child.stdin.close()
        child.stdout.read(1)
        return child.pid

    def test_planted(self):
        number, text = secrets.token_bytes(256), secrets.token_urlsafe(24).encode()
        scanner = self.scanner()
        scanner.add("number", number, number=True)
        scanner.add("text", text)
        encoded = base64.b64encode(text)
        for name, data in {
                "number/raw": number, "number/reversed": number[::-1],
                "number/hex": number.hex().encode(), "number/HEX": number.hex().upper().encode(),
                "number/base64-0": base64.b64encode(number),
                "number/base64-1": base64.b64encode(b"a" + number),
                "number/base64-2": base64.b64encode(b"ab" + number + b"c"),
                "text/raw": b"x=" + text, "text/base64-0": encoded,
                "text/utf-16-be": text.decode().encode("utf-16-be"),
                "text/utf-16-le": text.decode().encode("utf-16-le")}.items():
            for piece in (data, data[9:27 if b"base64" not in name.encode() else 40]):
                with self.subTest(name, size=len(piece)):
                    pid = self.child(b"\\" + piece + b"\\")
                    for how in ("process", "written"):
                        hits = scanner.memory(pid, how).hits
                        self.assertIn(name, {hit.name for hit in hits})
        # 15 bytes, and beside them surely others than the number's.
        piece = bytes([number[8] ^ 255]) + number[9:24] + bytes([number[24] ^ 255])
        self.assertEqual([], scanner.memory(self.child(piece)).hits)
        self.assertEqual([], scanner.memory(self.child(b"x")).hits)


class Direct(Case):
    """The keys never leave the token's process."""

    def user(self, batch, place):
        return people.user(len(RULES) * batch + place + 1)

    def batch(self, world, number, inside):
        """A user for each rule, held at every call."""
        for place, (group, _) in enumerate(RULES if number > 0 else ()):
            world.control("/graph/member", {"group": group, "add": self.user(number, place)})
        self.assertEqual(0, world.walk(inside), world.why_not())
        world.rest()

    def inside(self, world):
        """Core files of all three, made by gdb with all that can be dumped, show the same."""
        def compare(_):
            found = world.read_all("process")
            self.assertTrue(found["hsm"].names())
            for name in watch.PROCESSES:
                path = world.path("cores", name)
                memory.core_file(world.processes[name].pid, path)
                core = world.scanner.file(path)
                os.unlink(path)
                self.assertEqual(collections.Counter(hit.name for hit in found[name].hits),
                                 collections.Counter(hit.name for hit in core.hits), name)
                self.assertGreater(core.bytes, 1000000)
            world.looks["core files"] += len(watch.PROCESSES)
            world.stop_all()
        return compare

    def opened(self, world):
        """Other people's tools open what was made: was the right thing looked for?"""
        judge = oracle.Oracle(world)
        keys = world.token.needles()[0]
        values = {data.lstrip(b"\0") for cls, _, _, data in keys if cls in ("rsa", "ec")}
        sealed, derived = world.sealed(), 0
        for record in sealed.values():
            password, _, key, _ = judge.unpack(record)
            self.assertIn(password, world.passwords.values())
            numbers = key.private_numbers()
            for number in ([numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1,
                            numbers.iqmp] if hasattr(numbers, "p") else [numbers.private_value]):
                self.assertIn(number.to_bytes((number.bit_length() + 7) // 8, "big"), values)
            pfx = base64.b64decode(record["encryptedPfxBlob"])
            derived += any(key in world.keks for key in keys_of(pfx, password))
        self.assertGreater(derived, 0)
        return len(sealed)

    def test_enrolments(self):
        world = self.world("nss-remote", tenant=people.tenant(
            [], groups={group: [self.user(0, place)]
                        for place, (group, _) in enumerate(RULES)}, issue_delay=0),
            rules=[people.rule("rule-%d" % n, group, **more)
                   for n, (group, more) in enumerate(RULES)],
            policy={"users": {"lowest_tier": "direct", "profiles": ["modern", "compat"]}})
        world.rest()
        self.nothing(world)
        began, batches, files, compare = time.monotonic(), 0, 0, None
        while compare is None and len(RULES) * batches < ENROLMENTS:
            if batches == 1:  # blobs under the wrapping key from here on
                world.stop("hsm")
                world.changes["policy"]["users"]["keys"] = "wrapped"
                world.write_conf()
                world.start_hsm()
                world.wait_ready()
            # At the end, since gdb reads pages into being that nobody has used.
            if len(RULES) * (batches + 1) >= ENROLMENTS or (
                    not LONG and time.monotonic() - began > SECONDS * 0.7):
                compare = self.inside(world)
            self.batch(world, batches, compare)
            batches += 1
            files += world.grep(self.began)
        self.nothing(world)
        self.tell(world, len(RULES) * batches, files, time.monotonic() - began)
        self.assertEqual(self.opened(world), len(RULES) * batches)
        for number in world.passwords:  # else the test is blind
            for kind in ("password", "kek"):
                self.assertTrue(world.seen_inside[kind, number], (kind, number))
        # What is left, in secret pages: three PINs, and the API key.
        found = {name: sorted(seen.names()) for name, seen in world.rest().items()}
        self.assertEqual({"agentd": [], "hsm": ["pin:log", "pin:service", "pin:users"],
                          "uploader": ["api-key:"]}, found)
        self.nothing(world)

    def tell(self, world, count, files, seconds):
        print("%d of %d enrolments, held at %d Cryptoki calls, looked at %d times in between and "
              "%d times at rest; 3 processes, %.1f GB; %d core files; %d times a file; %.0f s" % (
                  count, ENROLMENTS, world.looks["before a call"], world.looks["between calls"],
                  world.looks["at rest"], world.bytes / 1e9, world.looks["core files"], files,
                  seconds))
        where = collections.Counter()
        for (kind, _), places in world.seen_inside.items():
            for place, times in places.items():
                where[(kind, *place)] += times
        print("inside the operation:", *("%s as %s in %s pages: %d;" % (k, f, p, n) for (
            k, p, f), n in sorted(where.items())))


class Transit(Case):
    """The control: SoftHSM gives no key out but by way of pfx-hsm's memory."""

    WINDOW = "pfx_p8_encrypt"  # the key was unwrapped, and isn't encrypted again yet

    def in_window(self, world, number):
        """The debugger on pfx-hsm, which stands in there with this user's key."""
        debugger = memory.Debugger(world.processes["hsm"].pid)
        self.addCleanup(debugger.close)
        debugger.ask("break " + self.WINDOW)
        world.control("/graph/member", {"group": people.GROUP, "add": people.user(number)})
        command = world.begin()
        self.assertIn(self.WINDOW, debugger.ask("continue"))
        world.learn()
        return debugger, command

    def numbers(self, seen):
        """What is there of the newest user key: {number: [hit]}."""
        found = collections.defaultdict(dict)
        for name, hits in seen.names().items():
            kind, _, rest = name.partition(":")
            if kind == "rsa":
                which, _, number = rest.partition(":")
                found[int(which)][number] = hits
        return found[max(found)] if found else {}

    def finish(self, world, debugger, command):
        debugger.ask("delete")
        debugger.close()
        command.wait(60)
        del world.processes["command"]
        self.assertEqual(0, command.returncode, world.why_not())

    def unlimited(self, process):
        """Takes the limit on its core files away; False: who may do that may not be asked here."""
        try:
            resource.prlimit(process.pid, resource.RLIMIT_CORE,
                             (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except PermissionError:  # CAP_SYS_RESOURCE
            return False
        return True

    def die(self, world, name, number):
        """Did the kernel write a core file?"""
        world.alive(name)
        process = world.processes.pop(name)
        self.unlimited(process)
        os.kill(process.pid, number)  # send_signal would take the status
        os.kill(process.pid, signal.SIGCONT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -number
        self.assertEqual(os.WTERMSIG(status), number)
        return os.WCOREDUMP(status)

    def test_it_would_be_found(self):
        world = self.world("softhsm-remote", tenant=people.tenant([people.user(1)], issue_delay=0),
                           rules=[people.rule()])
        self.assertEqual(0, world.run_once("60s").code, world.why_not())
        world.rest()
        debugger, command = self.in_window(world, 2)
        seen = world.scanner.memory(world.processes["hsm"].pid)
        found = self.numbers(seen)
        self.assertEqual(sorted(NUMBERS), sorted(found), seen.hits)
        for number, hits in found.items():
            self.assertTrue(all(hit.secret and hit.name.endswith("/raw") for hit in hits),
                            (number, hits))
        self.finish(world, debugger, command)
        world.rest()
        self.nothing(world)
        self.passwords(world)
        if memfd_secret():
            self.hidden(world)
        else:
            print("skipped: this kernel has no memfd_secret")
        self.core_files(world)
        world.grep(self.began)
        self.nothing(world)

    def passwords(self, world):
        """OpenSSL in pfx-hsm has sealed them, so they are known now."""
        judge = oracle.Oracle(world)
        for number, record in enumerate(world.sealed().values()):
            world.scanner.add("password:%d" % (1000 + number), judge.open_password(record))
        shutil.rmtree(judge.folder)
        world.rest()
        self.nothing(world)

    def hidden(self, world):
        """The same moment, with secrets in memfd_secret: nobody gets them."""
        world.stop("hsm")
        world.changes["policy"]["sandbox"]["secret_memory"] = "memfd_secret"
        world.write_conf()
        world.start_hsm()
        world.wait_ready()
        self.assertIn("locked, memfd_secret", world.log("hsm"))
        debugger, command = self.in_window(world, 3)
        seen = world.scanner.memory(world.processes["hsm"].pid)
        self.assertEqual([], seen.hits)
        self.assertGreater(len(seen.unreadable), 3)  # PINs, password, keys
        for where in seen.unreadable:
            self.assertIn("/secretmem", where)
        path = world.path("cores", "hidden")
        debugger.core(path)
        self.assertEqual([], world.scanner.file(path).hits)
        os.unlink(path)
        self.finish(world, debugger, command)

    def core_files(self, world):
        """In the middle of it, and at rest: none is written. That one would be, another shows."""
        world.stop("hsm")
        world.changes["policy"]["sandbox"]["secret_memory"] = "locked"
        world.write_conf()
        world.start_hsm()
        world.wait_ready()
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        debugger, command = self.in_window(world, 4)
        hsm = world.processes["hsm"]
        raised = self.unlimited(hsm)
        hsm.send_signal(signal.SIGSTOP)
        debugger.close()
        memory.stop(hsm.pid)
        self.assertTrue(world.scanner.memory(hsm.pid).hits)
        self.assertFalse(self.die(world, "hsm", signal.SIGSEGV))
        command.terminate()
        command.wait(20)
        del world.processes["command"]
        world.start_hsm()
        world.wait_ready()
        for number in (signal.SIGSEGV, signal.SIGABRT):
            for name in watch.PROCESSES:
                harness.wait_for("the sandbox of " + name,
                                 lambda n=name: "sandbox: seccomp" in world.log(n), 30)
                self.assertFalse(self.die(world, name, number), name)
                os.unlink(world.path("log", name))
            world.start_all()
        world.spawn("other", sys.executable, "-c", "import signal; signal.pause()")
        written = self.die(world, "other", signal.SIGSEGV)
        print("core files: none of the three, their limit %s; of another process: %d" % (
            "taken away" if raised else "as they set it", written))
        new = [name for folder in ("", "state", "hsm-state") for name in os.listdir(
            world.path(folder)) if name.startswith("core") and name != "cores"]
        self.assertLessEqual(len(new), int(written), new)


if __name__ == "__main__":
    if not shutil.which("gdb") or not memory.may_look():
        print("skipped: gdb is missing, or the right to read another process (CAP_SYS_PTRACE)")
        sys.exit(77)
    unittest.main(verbosity=2)
