"""Runs a program with an opencryptoki of its own: opencryptoki.py PROGRAM [ARGUMENT...]

opencryptoki keeps its state where the host has it (/etc/opencryptoki, /var/lib/opencryptoki, a socket
and locks in /run, shared memory in /dev/shm), and a daemon, pkcsslotd, serves it. Here all of that is
a temporary folder, in namespaces for mounts, processes and shared memory of the program's own: the
host isn't touched, and when the program ends, the daemon and the folder are gone.

Needs root and CAP_SYS_ADMIN. Exits with 77 and a reason where that can't be had, otherwise with the
program's own code.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import tokens  # noqa: E402  (the lines above make it found)

PRIVATE = "PFX_OPENCRYPTOKI"
PLACES = {"etc": "/etc/opencryptoki", "lib": "/var/lib/opencryptoki", "run": "/run"}
PR_SET_PDEATHSIG = 1


def skip(why):
    print("skipped:", why, flush=True)
    sys.exit(77)


def shown(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def fill(folder):
    """A configuration with a slot for each token, and the folders that the package would make."""
    for name in PLACES:
        os.makedirs(os.path.join(folder, name))
    lock = os.path.join(folder, "run", "lock", "opencryptoki")
    text = ["version opencryptoki-3.1"]
    for slot, name in enumerate(tokens.Opencryptoki.SLOTS):
        text.append("slot %d\n{\nstdll = libpkcs11_sw.so\ntokname = %s\n}" % (slot, name))
        os.makedirs(os.path.join(folder, "lib", name, "TOK_OBJ"))
        os.makedirs(os.path.join(lock, name))
    with open(os.path.join(folder, "etc", "opencryptoki.conf"), "w", encoding="ascii") as stream:
        stream.write("\n".join(text) + "\n")
    for top in (os.path.join(folder, "lib"), lock):
        for where, _, _ in os.walk(top):
            shutil.chown(where, group="pkcs11")
            os.chmod(where, 0o770)


def inside(folder, argv):
    """In the namespaces, as process 1: whatever is left ends with it."""
    fill(folder)
    for name, place in PLACES.items():
        shown("mount", "--bind", os.path.join(folder, name), place)
    shown("mount", "-t", "tmpfs", "-o", "mode=1777", "none", "/dev/shm")
    with open(os.path.join(folder, "pkcsslotd.log"), "wb") as log:
        daemon = subprocess.Popen([shutil.which("pkcsslotd", path=tokens.PATH), "-f"],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    end = time.monotonic() + 20
    while not os.path.exists("/run/pkcsslotd.socket"):
        if daemon.poll() is not None or time.monotonic() > end:
            sys.exit("opencryptoki.py: pkcsslotd doesn't start")
        time.sleep(0.05)
    code = subprocess.run(argv, check=False,
                          env=dict(os.environ, **{PRIVATE: "private"})).returncode
    daemon.terminate()
    daemon.wait(10)
    sys.exit(code if code >= 0 else 128 - code)


def main(argv):
    if len(argv) > 2 and argv[0] == "--inside":
        inside(argv[1], argv[2:])
    if not argv or argv[0].startswith("-"):
        sys.exit(__doc__)
    os.environ[PRIVATE] = "private"
    why = tokens.Opencryptoki.missing()
    if why:
        skip(why)
    unshare = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run(
            [*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False).returncode != 0:
        skip("an opencryptoki of its own needs root and CAP_SYS_ADMIN (namespaces, mounts)")
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    folder = tempfile.mkdtemp(prefix="pfx-opencryptoki-")
    process = None

    def end(number, _frame):
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        process = subprocess.Popen([*unshare, sys.executable, os.path.abspath(__file__), "--inside",
                                    folder, *argv],
                                   preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        sys.exit(process.wait())
    finally:
        if process and process.poll() is None:
            process.kill()
            process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
