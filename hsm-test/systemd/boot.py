"""Boots a Debian 12 with the installed units in systemd-nspawn, and runs units.py in it.

    boot.py BUILD [--results FILE] [--pattern TEXT] [--keep]

BUILD is the build folder that is installed. The root is made once by mmdebstrap, from the package
sources of this host, and kept in build/systemd; each run lays a file system in memory over it. The
container has a network of its own, with loopback only. Needs root; ends what it starts.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(ROOT, "build", "systemd")
MACHINE = "pfx-units"
PACKAGES = (
    "systemd", "systemd-sysv", "libssl3", "libp11-kit0", "libp11-3", "libcurl4", "libcjson1",
    "libsqlite3-0", "libyaml-0-2", "libicu72", "libseccomp2", "libarchive13",
    "ca-certificates", "softhsm2",
    "openssl", "libengine-pkcs11-openssl", "python3-minimal", "python3-cryptography",
    "passwd", "usr-is-merged",  # without the latter: usrmerge, and all of Perl
)
HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
BOOT_SECONDS = 60
TEST_SECONDS = 600


class Missing(Exception):
    """This host can't: the reason."""


def say(text):
    print(text, flush=True)


def call(*argv, seconds=300, **more):
    done = subprocess.run(argv, stdin=more.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, check=False, **more)
    if done.returncode != 0:
        raise AssertionError("%s ended with %d:\n%s" % (
            argv[0], done.returncode, done.stdout.decode("utf-8", "replace")[-4000:]))
    return done.stdout.decode("utf-8", "replace")


def look():
    if os.geteuid() != 0:
        raise Missing("needs root")
    for tool in ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare"):
        if not shutil.which(tool):
            raise Missing("%s isn't installed" % tool)


# --- the root ---------------------------------------------------------------------------------------

def sources():
    """(suite, lines) of the host's own sources of Debian's packages, as apt knows them."""
    found = known_sources()
    if not found[0]:
        call("apt-get", "update")
        found = known_sources()
    if not found[0]:
        raise Missing("apt knows no sources of Debian's packages")
    return found


def known_sources():
    asked = call("apt-get", "indextargets", "--format",
                 "$(CREATED_BY)|$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)")
    lines, suite = [], None
    for line in asked.splitlines():
        kind, origin, uri, release, component, codename = (line.split("|") + [""] * 6)[:6]
        if kind != "Packages" or origin != "Debian":
            continue
        lines.append("deb %s %s %s" % (uri, release, component))
        if release == codename and "-" not in release:
            suite = suite or release
    return suite, "\n".join(dict.fromkeys(lines)) + "\n"


def make_root():
    """The folder of the root; made if it isn't there."""
    suite, lines = sources()
    key = hashlib.sha256("\n".join((suite, *PACKAGES)).encode()).hexdigest()[:16]
    folder = os.path.join(CACHE, "root-" + key)
    if os.path.exists(folder + ".done"):
        return folder
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(CACHE, exist_ok=True)
    paths = ["--dpkgopt=path-exclude=/usr/share/%s/*" % path
             for path in ("doc", "man", "locale", "info")]
    listed = os.memfd_create("sources")
    os.write(listed, lines.encode())
    os.lseek(listed, 0, os.SEEK_SET)
    try:
        call("mmdebstrap", "--mode=root", "--variant=essential", "--hook-dir=" + HOOKS,
             "--include=" + ",".join(PACKAGES),
             "--dpkgopt=force-unsafe-io", *paths, "--skip=check/empty", "--quiet",
             '--aptopt=Acquire::Check-Valid-Until "false"', suite, folder, "-",
             stdin=listed, seconds=600)
    finally:
        os.close(listed)
    with open(folder + ".done", "w", encoding="ascii"):
        pass
    say("root made by mmdebstrap in %.0f s" % (time.monotonic() - began))
    return folder


def install(build, work):
    """What `cmake --install` installs, as a layer over the root."""
    stage = os.path.join(work, "stage")
    call("cmake", "--install", build, "--strip", env=dict(os.environ, DESTDIR=stage))
    os.chmod(stage, 0o755)
    return stage


# --- the container ----------------------------------------------------------------------------------

class Container:
    """A booted root; use it as a context."""

    def __init__(self, work, layers, binds):
        self.work, self.binds = work, binds
        self.log = os.path.join(work, "console.log")
        for name in ("upper", "overlay", "merged"):
            os.mkdir(os.path.join(work, name))
        self.root = os.path.join(work, "merged")
        call("mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s,workdir=%s" % (
            ":".join(layers), os.path.join(work, "upper"), os.path.join(work, "overlay")), self.root)
        self.process = None
        self.leader = None

    def __enter__(self):
        began = time.monotonic()
        argv = ["systemd-nspawn", "--quiet", "--directory=" + self.root, "--machine=" + MACHINE,
                "--boot", "--register=no", "--private-network", "--console=pipe",
                "--resolv-conf=off", "--timezone=off", "--link-journal=no",
                # As on a host: the units' walls are looked at, not the container's.
                "--capability=CAP_IPC_LOCK", "--system-call-filter=@known", *self.binds]
        if not os.path.isdir("/run/systemd/system"):
            argv.append("--keep-unit")  # nobody here makes a unit for it
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.leader = self.until("its first process", self.find_leader)
            state = self.until("the end of its start", self.started)
        except BaseException:
            self.end()
            raise
        say("booted in %.1f s: %s" % (time.monotonic() - began, state))
        return self

    def __exit__(self, *_):
        self.end()

    def console(self):
        with open(self.log, "rb") as stream:
            return stream.read().decode("utf-8", "replace")

    def until(self, what, check):
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Missing("systemd-nspawn ended with %d: %s" % (
                    self.process.returncode, " ".join(self.console().split())[-800:]))
            found = check()
            if found:
                return found
            time.sleep(0.1)
        raise Missing("no sign of %s after %d s: %s" % (
            what, BOOT_SECONDS, " ".join(self.console().split())[-800:]))

    def find_leader(self):
        pid = self.process.pid
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as stream:
            children = [int(word) for word in stream.read().split()]
        for child in children:
            try:
                with open("/proc/%d/status" % child, encoding="utf-8") as stream:
                    inner = re.search(r"^NSpid:\s+\d+\s+1$", stream.read(), re.M)
                if inner and "systemd" in os.readlink("/proc/%d/exe" % child):
                    return child
            except OSError:
                pass
        return None

    def inside(self, *argv):
        return ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net",
                "--pid", "--", "/usr/bin/env", "--ignore-environment", "--chdir=/",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8", "HOME=/root", *argv]

    def started(self):
        done = subprocess.run(self.inside("systemctl", "is-system-running"),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=30, check=False)
        state = done.stdout.decode().strip()
        return state if state in ("running", "degraded") else None

    def end(self):
        """All of it goes with its first process."""
        if self.leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, 9)
        if self.process:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        subprocess.run(["umount", "--lazy", self.root], check=False)
        # systemd-nspawn leaves its groups where no systemd looks after them; full ones stay.
        for name in ("payload", "supervisor"):
            for folder, _, _ in os.walk("/sys/fs/cgroup/" + name, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


def one_hierarchy():
    """In this mount namespace only: systemd-nspawn gives a container the one hierarchy of cgroups that
    it finds, and an older layout on the host would give it the older one."""
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        call("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")


def run(options):
    build = os.path.abspath(options.build)
    base = make_root()
    work = tempfile.mkdtemp(prefix="pfx-units-", dir="/tmp")
    call("mount", "-t", "tmpfs", "-o", "mode=0755,size=2g", "tmpfs", work)
    try:
        return boot(options, build, base, work)
    finally:
        subprocess.run(["umount", "--lazy", work], check=False)
        os.rmdir(work)


def boot(options, build, base, work):
    layers = [install(build, work), base]
    os.mkdir(os.path.join(work, "out"))
    one_hierarchy()
    binds = ["--bind-ro=%s:/srv/pfx" % ROOT, "--bind-ro=%s:/srv/build" % build,
             "--bind=%s:/srv/out" % os.path.join(work, "out")]
    with Container(work, layers, binds) as container:
        argv = ["PFX_BUILD=/srv/build", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3",
                "/srv/pfx/hsm-test/systemd/units.py", "--results", "/srv/out/results"]
        if options.pattern:
            argv += ["--pattern", options.pattern]
        if options.shell:
            return subprocess.call(container.inside("/bin/bash"))
        try:
            code = subprocess.run(container.inside(*argv), stdin=subprocess.DEVNULL,
                                  timeout=TEST_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            raise AssertionError("the tests aren't done after %d s" % TEST_SECONDS) from None
        results = os.path.join(work, "out", "results")
        if os.path.exists(results):
            with open(results, encoding="utf-8") as source, \
                    open(options.results, "a", encoding="utf-8") as target:
                target.write(source.read())
        elif code == 0:
            raise AssertionError("no test ran")
        if code and options.keep:
            call("cp", "-a", os.path.join(work, "upper"), os.path.join(CACHE, "kept-%d" % os.getpid()))
        return code


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("--results", default=os.devnull)
    parser.add_argument("--pattern")
    parser.add_argument("--keep", action="store_true", help="keep what a failed run wrote")
    parser.add_argument("--shell", action="store_true", help="a shell in it instead of the tests")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()

    def record(outcome, why):
        say("%s  units in systemd-nspawn: %s" % (outcome, why))
        with open(options.results, "a", encoding="utf-8") as stream:
            stream.write("%s\tunits in systemd-nspawn\t%s\n" % (outcome, " ".join(why.split())[:300]))
    try:
        look()
        if not options.apart:
            # All mounts are this program's own, and go with it.
            os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable,
                                  os.path.abspath(__file__), *sys.argv[1:], "--apart"])
        return run(options)
    except Missing as why:
        record("skipped", str(why))
        return 0
    except (AssertionError, OSError) as error:
        record("failed", str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
