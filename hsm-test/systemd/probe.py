"""Tries system calls under the settings of a unit; what comes of each, as JSON on standard output."""

import ctypes
import errno
import json
import mmap
import os
import platform
import socket
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {"ptrace": 101, "mount": 165, "keyctl": 250, "bpf": 321, "unshare": 272, "seccomp": 317,
               "landlock_create_ruleset": 444, "memfd_secret": 447, "setuid": 105, "chroot": 161,
               "clock_settime": 227, "personality": 135},
    "aarch64": {"ptrace": 117, "mount": 40, "keyctl": 219, "bpf": 280, "unshare": 97, "seccomp": 277,
                "landlock_create_ruleset": 444, "memfd_secret": 447, "setuid": 146, "chroot": 51,
                "clock_settime": 112, "personality": 92},
}[platform.machine()]


def system(name, *arguments):
    """None where it works, else errno."""
    ctypes.set_errno(0)
    number = LIBC.syscall(ctypes.c_long(NUMBERS[name]),
                          *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return ctypes.get_errno() if number < 0 else None


def executable_memory():
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError as error:
        return error.errno
    return None


def a_socket(family, kind):
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        return error.errno
    return None


def word(error):
    if error is None:
        return "works"
    return "refused" if error in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT) else os.strerror(error)


FOUND = {
    # SECCOMP_GET_ACTION_AVAIL of SECCOMP_RET_KILL_PROCESS; LANDLOCK_CREATE_RULESET_VERSION.
    "seccomp": system("seccomp", 2, 0, ctypes.c_char_p(struct.pack("=I", 0x80000000))),
    "landlock_create_ruleset": system("landlock_create_ruleset", 0, 0, 1),
    "memfd_secret": system("memfd_secret", 0),
    "mlock": None if LIBC.mlock(ctypes.create_string_buffer(4096), ctypes.c_size_t(4096)) == 0
             else errno.EPERM,
    "ptrace": system("ptrace", 0, 0, 0, 0),
    "mount": system("mount", ctypes.c_char_p(b"none"), ctypes.c_char_p(b"/tmp"),
                    ctypes.c_char_p(b"tmpfs"), 0, 0),
    "keyctl": system("keyctl", 0, -3, 0),
    "bpf": system("bpf", 0, 0, 0),
    "unshare_user": system("unshare", 0x10000000),
    "setuid": system("setuid", os.getuid()),
    "chroot": system("chroot", ctypes.c_char_p(b"/")),
    "clock_settime": system("clock_settime", 0, 0),
    "personality": system("personality", 0x0040000),
    "exec_memory": executable_memory(),
    "packet_socket": a_socket(17, socket.SOCK_RAW),
    "inet_socket": a_socket(socket.AF_INET, socket.SOCK_STREAM),
}
print(json.dumps({name: word(error) for name, error in FOUND.items()}))
