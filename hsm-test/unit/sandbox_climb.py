"""The sandbox from inside: a library in the real pfx-agentd, pfx-hsm and pfx-uploader tries each way
out (sandbox_climb.c), and the kernel answers. The table says what has to happen: the process is killed
by SIGSYS, or the call is refused with this errno. The control is the same process whose sandbox was
not shut: there the climb succeeds, or the table would prove nothing.

    PFX_AGENTD=... PFX_HSM=... PFX_UPLOADER=... PFX_CLIMB=... PFX_TOKEN_INIT=... sandbox_climb.py
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import hsm_rig  # noqa: E402  (the line above must come first)
import tokens  # noqa: E402
from framing import Line  # noqa: E402

AGENTD, UPLOADER = os.environ.get("PFX_AGENTD", ""), os.environ.get("PFX_UPLOADER", "")
CLIMB = os.environ.get("PFX_CLIMB", "")
SHUT = "sandbox: seccomp"  # the log line
WAIT = 30
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
LANDLOCK = LIBC.syscall(444, None, 0, 1)  # its ABI
SECRETS = LIBC.syscall(447, 0)  # memfd_secret

K = "killed"
R = "refused"  # whatever the errno
NAMES = ("pfx-agentd", "pfx-hsm", "pfx-uploader")
# climb: what it takes, and what has to happen in each. None: it isn't a climb there.
TABLE = {
    "socket-inet": ("", K, K, "ok"),
    "socket-inet6": ("", K, K, "ok"),
    "socket-inet-high-bits": ("", K, K, "ok"),
    "socket-raw": ("", K, K, K),
    "socket-packet": ("", K, K, K),
    "socket-netlink": ("", K, K, "EAFNOSUPPORT"),
    "socket-mptcp": ("", K, K, K),
    "tcp-listen": ("", K, K, K),
    "tcp-connect-elsewhere": ("port", K, K, "EACCES"),
    "tcp-fastopen-elsewhere": ("port", K, K, K),
    "abstract-socket": ("abstract", "EPERM", None, "EPERM"),
    "execve": ("", K, K, K),
    "fork": ("", K, K, K),
    "clone-newuser": ("", K, K, K),
    "clone3": ("", "ENOSYS", "ENOSYS", "ENOSYS"),
    "unshare": ("", K, K, K),
    "ptrace": ("target", K, K, K),
    "process_vm_readv": ("target", K, K, K),
    "kill-other": ("target", K, K, K),
    "tgkill-other": ("target", K, K, K),
    "pidfd_open": ("target", K, K, K),
    "read-shadow": ("shadow", "EACCES", "EACCES", "EACCES"),
    "read-environ-of-other": ("environ", "EACCES", "EACCES", "EACCES"),
    "read-state-of-other": ("other", "EACCES", "EACCES", "EACCES"),
    "list-tokens": ("tokens", "EACCES", None, "EACCES"),
    "read-token": ("token", "EACCES", None, "EACCES"),
    "list-root": ("root", "EACCES", "EACCES", "EACCES"),
    "write-outside": ("outside", "EACCES", "EACCES", "EACCES"),
    "unlink-outside": ("victim", "EACCES", "EACCES", K),
    "truncate-outside": ("victim", "EACCES", "EACCES", K),
    "mkdir-outside": ("outside", "EACCES", "EACCES", K),
    "symlink-inside": ("inside", K, K, K),
    "mknod-inside": ("inside", K, K, K),
    "dlopen-pkcs11": ("module", R, None, R),
    "dlopen-library": ("library", R, K, R),
    "mmap-exec": ("", K, K, "EPERM"),
    "mmap-write-exec": ("", K, K, "EPERM"),
    "mprotect-exec": ("", K, K, K),
    "mmap-file-exec": ("library", "EACCES", K, "EACCES"),
    "mount": ("folder", K, K, K),
    "chroot": ("", K, K, K),
    "bpf": ("", K, K, K),
    "keyctl": ("", K, K, K),
    "add_key": ("", K, K, K),
    "userfaultfd": ("", K, K, K),
    "io_uring_setup": ("", K, K, K),
    "perf_event_open": ("", K, K, K),
    "memfd_create": ("", K, K, K),
    "memfd_secret": ("", K, None, None),
    "setresuid": ("", K, K, K),
    "setgroups": ("", K, K, K),
    "personality": ("", K, K, K),
    "set-limit": ("", K, K, K),
    "raise-nofile": ("", K, K, K),
    "raise-core": ("", K, K, K),
    "set-dumpable": ("", K, K, K),
    "set-ptracer": ("target", K, K, K),
    "seccomp": ("", K, K, K),
    "ignore-sigsys": ("", K, K, K),
    "ignore-sigsys-high-bits": ("", K, K, K),
    "block-sigsys": ("", K, K, K),
    "ioctl-tiocsti": ("", K, K, K),
    "int-0x80": ("", K, K, K),
    "init_module": ("", K, K, K),
    "open_by_handle_at": ("", K, K, K),
    "+socket-unix": ("", "ok", "ok", "ok"),
    "+kill-self": ("", "ok", "ok", "ok"),
    "+read-own": ("own", "ok", "ok", None),
    "+write-own": ("inside", "ok", "ok", None),
}
# What the profile network-hsm opens, and nothing else.
NETWORK = {"socket-inet": "ok", "socket-inet6": "ok", "socket-netlink": "EAFNOSUPPORT",
           "tcp-connect-elsewhere": "ok", "socket-raw": K, "socket-mptcp": K, "tcp-listen": K, "execve": K,
           "read-shadow": "EACCES"}
# The control's kernel may have been made, or set, without these.
PERHAPS = {"int-0x80", "socket-mptcp", "bpf", "keyctl", "add_key", "userfaultfd", "io_uring_setup", "set-ptracer",
           "perf_event_open", "clone-newuser", "mount", "init_module",
           "memfd_secret", "raise-nofile", "raise-core"}  # which also take CAP_SYS_RESOURCE


class Process:
    """One of the programs, with the library in it. start(preload, fd, log) starts it."""

    def __init__(self, start, log, is_open=False, kernel=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line = ours
        self.line.settimeout(WAIT)
        self.log = log
        at = os.path.getsize(log) if os.path.exists(log) else 0
        environment = {"LD_PRELOAD": CLIMB, "PFX_CLIMB_FD": str(theirs.fileno())}
        if is_open:
            environment["PFX_CLIMB_OPEN"] = "1"
        environment.update(kernel or {})
        self.process = start(environment, theirs.fileno())
        theirs.close()
        self.at = at
        self.wait_for(SHUT)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as stream:
            stream.seek(self.at)
            return stream.read()

    def wait_for(self, words):
        end = time.monotonic() + WAIT
        while words not in self.said():
            if self.process.poll() is not None or time.monotonic() > end:
                self.line.close()
                raise AssertionError("it doesn't start:\n" + self.said())
            time.sleep(0.005)

    def climb(self, name, what="", thread=None):
        """"ok", an errno, or K; anything else is a failure."""
        self.line.send(("%s %s" % (name, what)).encode())
        pid = self.process.pid
        if LIBC.syscall(SYS_TGKILL, pid, thread or pid, signal.SIGUSR1) != 0:
            return "no thread"
        answer = self.line.recv(4096)
        if answer:
            told, outcome = answer.decode().split()
            return outcome if told == name else "answered for " + told
        code = self.process.wait(WAIT)
        return K if code == -signal.SIGSYS else "exit code %d" % code

    def threads(self):
        return sorted(int(t) for t in os.listdir("/proc/%d/task" % self.process.pid))

    def stop(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(WAIT)
        self.line.close()
        return self.process.returncode


class Listener(threading.Thread):
    """Plays pfx-agentd towards pfx-uploader: keeps its hello."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.hello = None
        self.heard = threading.Event()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(path)
        self.socket.listen(4)
        self.start()

    def run(self):
        while True:
            line = Line(self.socket.accept()[0])
            try:
                self.hello = line.receive()
                self.heard.set()
            except (OSError, ConnectionError):
                pass
            line.close()


def unmapped_library(pid):
    """A library of /usr that this process hasn't mapped."""
    with open("/proc/%d/maps" % pid, encoding="utf-8") as stream:
        mapped = stream.read()
    for folder in tokens.LIBRARIES:
        for name in ("libcmocka.so.0", "libpcre2-posix.so.3", "libseccomp.so.2", "libcurl.so.4",
                     "libyaml-0.so.2", "libsqlite3.so.0", "libnss3.so"):
            if os.path.exists(os.path.join(folder, name)) and name.split(".so")[0] not in mapped:
                return os.path.join(folder, name)
    raise AssertionError("no library to try with")


@unittest.skipUnless(os.geteuid() == 0, "needs root: nothing but the sandbox is in its way")
@unittest.skipUnless(LANDLOCK >= 6, "needs a kernel with Landlock's ABI 6")
class Climbs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="pfx-climb-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        cls.rig = hsm_rig.Rig()
        cls.addClassCleanup(cls.rig.close)
        cls.sleepers = {name: subprocess.Popen(["sleep", "1000"]) for name in NAMES}
        for sleeper in cls.sleepers.values():
            cls.addClassCleanup(sleeper.wait)
            cls.addClassCleanup(sleeper.kill)
        cls.tcp = socket.create_server(("127.0.0.1", 0), backlog=200)
        cls.addClassCleanup(cls.tcp.close)
        cls.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        cls.abstract.bind("\0pfx-climb-%d" % os.getpid())
        cls.abstract.listen(200)
        cls.addClassCleanup(cls.abstract.close)
        for folder in ("agent", "uploader", "other", "mount"):
            os.mkdir(os.path.join(cls.dir, folder), 0o700)
        cls.own = {"pfx-agentd": os.path.join(cls.dir, "agent", "state"),
                   "pfx-hsm": cls.rig.state, "pfx-uploader": os.path.join(cls.dir, "uploader")}
        cls.file("other", "store.db")
        cls.file("other", "victim")
        cls.file("agent", "agent.yaml", "state_dir: {0}/state\nrun_dir: {0}/run\nrules:\n"
                 "  - name: staff\n    group: 11111111-1111-4111-8111-111111111111\n"
                 "    product: secure_email_mailbox\n".format(os.path.join(cls.dir, "agent")))
        nowhere = "https://127.0.0.1:1"
        cls.file("uploader", "uploader.yaml",
                 "agent_socket: {0}/agent\nhsm_socket: {0}/hsm\ndigicert:\n  url: {1}\n"
                 "entra:\n  url: {1}\n  tenant: {2}\ngraph:\n  url: {1}\nexchange:\n  url: {1}\n"
                 .format(os.path.join(cls.dir, "uploader"), nowhere, hsm_rig.TENANT))
        cls.agent = Listener(os.path.join(cls.dir, "uploader", "agent"))

    @classmethod
    def file(cls, folder, name, text="x"):
        path = os.path.join(cls.dir, folder, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(path, 0o600)
        return path

    def start(self, name, is_open=False, kernel=None):
        log = os.path.join(self.dir, name + ".log")

        def popen(command, environment, fd):
            with open(log, "ab") as stream:
                return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=stream, stderr=stream, pass_fds=(fd,))

        def agentd(more, fd):
            return popen([AGENTD, "--config", os.path.join(self.dir, "agent", "agent.yaml")],
                         dict(os.environ, **more), fd)

        def hsm(more, fd):
            return popen([hsm_rig.PROGRAM, "--policy", self.rig.policy_path],
                         dict(self.rig.env, **more), fd)

        def uploader(more, fd):
            return popen([UPLOADER, "--config",
                          os.path.join(self.dir, "uploader", "uploader.yaml")],
                         dict(os.environ, **more), fd)
        how = {"pfx-agentd": agentd, "pfx-hsm": hsm, "pfx-uploader": uploader}[name]
        return Process(how, log, is_open, kernel)

    def what(self, name, kind, pid):
        """What a climb takes, in this process."""
        other = os.path.join(self.dir, "other")
        token = next(os.path.join(where, files[0]) for where, _, files in os.walk(self.rig.tokens)
                     if files)
        return {"": lambda: "",
                "port": lambda: self.tcp.getsockname()[1],
                "abstract": lambda: "pfx-climb-%d" % os.getpid(),
                "target": lambda: self.sleepers[name].pid,
                "shadow": lambda: "/etc/shadow",
                "environ": lambda: "/proc/%d/environ" % self.sleepers[name].pid,
                "other": lambda: os.path.join(other, "store.db"),
                "victim": lambda: self.file("other", "victim"),
                "outside": lambda: os.path.join(other, "new-of-" + name),
                "inside": lambda: os.path.join(self.own[name], "new"),
                "own": lambda: {"pfx-agentd": os.path.join(self.own[name], "store.db"),
                                "pfx-hsm": token,
                                "pfx-uploader": os.path.join(self.own[name],
                                                             "uploader.yaml")}[name],
                "folder": lambda: os.path.join(self.dir, "mount"),
                "root": lambda: "/",
                "tokens": lambda: self.rig.tokens,
                "token": lambda: token,
                "module": lambda: tokens.SOFTHSM,
                "library": lambda: unmapped_library(pid)}[kind]()

    def control(self, name, climbs):
        process = self.start(name, True)
        found = {}
        for climb in climbs:
            found[climb] = process.climb(climb, self.what(name, TABLE[climb][0],
                                                          process.process.pid))
            if process.process.poll() is not None:
                process.stop()
                process = self.start(name, True)
        process.stop()
        return found

    def shut(self, name, climbs):
        found = {}
        process = self.start(name)
        for climb in climbs:
            found[climb] = process.climb(climb, self.what(name, TABLE[climb][0],
                                                          process.process.pid))
            if process.process.poll() is not None:
                process.stop()
                process = self.start(name)
        self.assertIsNone(process.process.poll())
        self.works_on(name, process)
        self.assertEqual(process.stop(signal.SIGTERM), 0, process.said())
        return found

    def works_on(self, name, process):
        """After all that, it still does its work, and says what holds."""
        words = r"seccomp, Landlock \d+, (memory|secrets) locked%s$" % (
            ", memfd_secret" if SECRETS >= 0 and name != "pfx-agentd" else "")
        self.assertRegex(process.said(), "(?m)sandbox: " + words)
        if name == "pfx-agentd":
            line = hsm_rig.Asker(os.path.join(self.dir, "agent", "run", "cli"))
            items, _end = line.ask("status")
            facts = {item.get("name"): item.get("value") for item in items}
            self.assertRegex(facts["sandbox"], words)
            line.close()
        elif name == "pfx-hsm":
            items, end = self.rig.ask("admin", "hsm.status")
            facts = {item["name"]: item["value"] for item in items}
            self.assertRegex(facts["sandbox"], words)
            self.assertEqual(end["exit"], 0)
        else:
            self.assertTrue(self.agent.heard.wait(WAIT))
            self.assertRegex(self.agent.hello["sandbox"], words)

    def test_every_wall(self):
        rows = {name: [c for c, row in TABLE.items() if row[1 + i] is not None]
                for i, name in enumerate(NAMES)}
        found, open_found, trouble = {}, {}, []

        def run(name):
            try:
                open_found[name] = self.control(name, rows[name])
                found[name] = self.shut(name, rows[name])
            except Exception as error:  # told below
                trouble.append("%s: %r" % (name, error))
        threads = [threading.Thread(target=run, args=(name,)) for name in NAMES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(trouble, [])
        print("%-26s %s   (in brackets: without the sandbox)" % ("climb", "".join(
            "%-26s" % name for name in NAMES)))
        wrong, without = [], []
        for climb, row in TABLE.items():
            cells = []
            for name, wanted in zip(NAMES, row[1:]):
                if wanted is None:
                    cells.append("-")
                    continue
                got, control = found[name][climb], open_found[name][climb]
                cells.append("%s (%s)" % (got, control))
                if not (got == wanted or (wanted == R and got not in (K, "ok"))):
                    wrong.append("%s in %s: %s, not %s" % (climb, name, got, wanted))
                if control != "ok" and climb in PERHAPS:
                    without.append(climb)
                elif control != "ok":
                    wrong.append("control of %s in %s: %s" % (climb, name, control))
            print("%-26s %s" % (climb, "".join("%-26s" % cell for cell in cells)))
        print("%d climbs, %d killed, %d refused; no control on this kernel: %s" % (
            sum(len(f) for f in found.values()),
            sum(o == K for f in found.values() for o in f.values()),
            sum(o not in (K, "ok") for f in found.values() for o in f.values()),
            ", ".join(sorted(set(without))) or "none"))
        self.assertEqual(wrong, [])
        with open(os.path.join(self.dir, "pfx-hsm.log"), encoding="utf-8") as stream:
            self.assertRegex(stream.read(), r"pfx-hsm: the sandbox ends this process: system call "
                             r"\d+ \(socket with 0x2, 0x1, 0x0\) isn't one that it needs")

    def test_each_thread_of_pfx_hsm(self):
        """Landlock holds for the thread that shut it and for those that it started."""
        process = self.start("pfx-hsm")
        threads = process.threads()
        self.assertGreaterEqual(len(threads), 4)
        for thread in threads:
            self.assertEqual(process.climb("read-shadow", "/etc/shadow", thread), "EACCES")
        self.assertEqual(process.climb("socket-inet", "", threads[-1]), K)
        process.stop()

    def test_profile_network_hsm(self):
        self.rig.options["sandbox"] = ["profile: network-hsm"]
        self.rig.write_policy()
        try:
            process = self.start("pfx-hsm")
            for climb, wanted in NETWORK.items():
                got = process.climb(climb, self.what("pfx-hsm", TABLE[climb][0],
                                                     process.process.pid))
                self.assertEqual(got, wanted, climb)
                if got == K:
                    process.stop()
                    process = self.start("pfx-hsm")
            process.stop()
        finally:
            del self.rig.options["sandbox"]
            self.rig.write_policy()

    def test_folders_and_late_libraries(self):
        """What the policy opens is open, and no more."""
        other = os.path.join(self.dir, "other")
        self.rig.options["sandbox"] = ["late_libraries: allowed", "folders:",
                                       "  - path: " + os.path.join(other, "store.db"),
                                       "  - path: /no/such/folder",
                                       "  - path: " + os.path.join(self.dir, "mount"),
                                       "    access: write"]
        self.rig.write_policy()
        try:
            process = self.start("pfx-hsm")
            self.assertIn("libraries may still be loaded", process.said())
            self.assertIn("sandbox.folders: /no/such/folder: ENOENT", process.said())
            library = unmapped_library(process.process.pid)
            for climb, what, wanted in (
                    ("dlopen-library", library, "ok"),
                    ("read-state-of-other", os.path.join(other, "store.db"), "ok"),
                    ("write-outside", os.path.join(other, "store.db"), "EACCES"),
                    ("read-state-of-other", os.path.join(other, "victim"), "EACCES"),
                    ("write-outside", os.path.join(self.dir, "mount", "new"), "ok"),
                    ("mmap-write-exec", "", K)):
                self.assertEqual(process.climb(climb, what), wanted, (climb, what))
            process.stop()
        finally:
            del self.rig.options["sandbox"]
            self.rig.write_policy()


    def test_kernels_that_have_less(self):
        """An older Landlock shuts what it knows; none is told, and no reason to stay away; without
        seccomp nothing starts."""
        for name in NAMES:
            with self.subTest(process=name):
                process = self.start(name, kernel={"PFX_CLIMB_ABI": "2"})
                self.assertIn("Landlock 2,", process.said())
                self.assertEqual(process.climb("read-shadow", "/etc/shadow"), "EACCES")
                self.assertEqual(process.climb("execve"), K)
                process.stop()
                process = self.start(name, kernel={"PFX_CLIMB_ABI": "0"})
                self.assertRegex(process.said(), "warning: sandbox: this kernel has no Landlock")
                self.assertRegex(process.said(), "warning: sandbox: seccomp, NO Landlock,")
                self.assertEqual(process.climb("read-shadow", "/etc/shadow"), "ok")
                if name == "pfx-hsm":
                    items, _ = self.rig.ask("admin", "hsm.status")
                    self.assertIn(("sandbox", "warn"), [(i["name"], i["level"]) for i in items])
                    self.assertTrue([i for i in items if i["name"] == "note"
                                     and "the kernel has no Landlock" in i["value"]], items)
                self.assertEqual(process.climb("execve"), K)
                process.stop()
                with self.assertRaisesRegex(AssertionError, "shut the sandbox .*CONFIG_SECCOMP"):
                    self.start(name, kernel={"PFX_CLIMB_NO_SECCOMP": "1"})


class Supervisor(unittest.TestCase):
    """pfx-agentd --with-arms, whose arms are scripts."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pfx-climb-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.daemon = os.path.join(self.dir, "pfx-agentd")
        os.link(AGENTD, self.daemon) if os.stat(AGENTD).st_dev == os.stat(self.dir).st_dev \
            else shutil.copy(AGENTD, self.daemon)
        self.log = os.path.join(self.dir, "log")
        with open(os.path.join(self.dir, "agent.yaml"), "w", encoding="utf-8") as stream:
            stream.write("state_dir: {0}/state\nrun_dir: {0}/run\nrules:\n"
                         "  - name: staff\n    group: 11111111-1111-4111-8111-111111111111\n"
                         "    product: secure_email_mailbox\n".format(self.dir))

    def script(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="ascii") as stream:
            stream.write("#!/bin/sh\necho $$ >>%s.pid\n%s\n" % (path, text))
        os.chmod(path, 0o700)

    def pids(self, name):
        try:
            with open(os.path.join(self.dir, name + ".pid"), encoding="ascii") as stream:
                return [int(line) for line in stream]
        except OSError:
            return []

    def start(self):
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                [self.daemon, "--config", os.path.join(self.dir, "agent.yaml"), "--with-arms"],
                stdin=subprocess.DEVNULL, stderr=log)

    def said(self):
        with open(self.log, encoding="utf-8") as stream:
            return stream.read()

    def wait_for(self, condition):
        end = time.monotonic() + WAIT
        while not condition():
            self.assertLess(time.monotonic(), end, self.said())
            time.sleep(0.01)

    def watcher(self, process):
        with open("/proc/%d/task/%d/children" % (process.pid, process.pid),
                  encoding="ascii") as stream:
            return int(stream.read())

    def gone(self, pid):
        return not os.path.exists("/proc/%d" % pid)

    def test_an_arm_that_its_sandbox_ended_is_told(self):
        self.script("pfx-hsm", "kill -SYS $$")
        self.script("pfx-uploader", "exec sleep 100")
        process = self.start()
        self.wait_for(lambda: "pfx-hsm (pid %d) was ended by its sandbox (SIGSYS)"
                      % (self.pids("pfx-hsm") or [0])[0] in self.said())
        self.assertIn("ausearch -m SECCOMP", self.said())
        self.wait_for(lambda: len(self.pids("pfx-hsm")) == 2)  # started again all the same
        self.assertNotIn("pfx-uploader (pid", self.said().split("started (pid")[-1])
        process.terminate()
        self.assertEqual(process.wait(WAIT), 0)

    def test_nothing_outlives_pfx_agentd(self):
        for name in ("pfx-hsm", "pfx-uploader"):
            self.script(name, "exec sleep 100")
        process = self.start()
        self.wait_for(lambda: self.pids("pfx-hsm") and self.pids("pfx-uploader"))
        all_of_them = [self.watcher(process)] + self.pids("pfx-hsm") + self.pids("pfx-uploader")
        process.kill()
        process.wait(WAIT)
        self.wait_for(lambda: all(self.gone(pid) for pid in all_of_them))

    def test_pfx_agentd_ends_without_its_watcher(self):
        for name in ("pfx-hsm", "pfx-uploader"):
            self.script(name, "exec sleep 100")
        process = self.start()
        self.wait_for(lambda: self.pids("pfx-hsm") and self.pids("pfx-uploader"))
        os.kill(self.watcher(process), signal.SIGKILL)
        self.assertEqual(process.wait(WAIT), 70)
        self.assertIn("the process that watches over pfx-hsm and pfx-uploader is gone",
                      self.said())
        self.wait_for(lambda: all(self.gone(pid) for pid in
                                  self.pids("pfx-hsm") + self.pids("pfx-uploader")))


if __name__ == "__main__":
    unittest.main()
