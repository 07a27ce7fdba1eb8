"""What a secret looks like, and where it is found: in the memory of processes, in core files, in
files. scan.c looks; gdb writes the core files."""

import base64
import collections
import os
import re
import signal
import subprocess

Hit = collections.namedtuple("Hit", "name run secret address where")
# Pages of the kernel's own, which it gives to no debugger: its clock, nothing of the process.
KERNELS = ("[vvar]", "[vvar_vclock]", "[vsyscall]")


def base64_forms(data):
    """Its characters behind nought, one and two other bytes, without those that others share."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + data + bytes(2))
        first = (8 * before + 5) // 6
        yield "base64-%d" % before, text[first:(8 * (before + len(data))) // 6]


def forms(data, number=False):
    """[(form, bytes)]: as it is, and as a text that could be sent or logged."""
    found = [("raw", data), ("hex", data.hex().encode()), ("HEX", data.hex().upper().encode()),
             *base64_forms(data)]
    if number:  # as bignums keep it
        found.append(("reversed", data[::-1]))
    elif data.isascii():  # PKCS #12's BMPString, and Windows' way
        found += [("utf-16-be", data.decode().encode("utf-16-be")),
                  ("utf-16-le", data.decode().encode("utf-16-le"))]
    return found


class Seen:
    """What one look has found."""

    def __init__(self):
        self.hits, self.unreadable, self.bytes = [], [], 0

    def names(self):
        """Needles without their forms: {name: [hit]}"""
        found = collections.defaultdict(list)
        for hit in self.hits:
            found[hit.name.rpartition("/")[0]].append(hit)
        return dict(found)


class Scanner:
    """Needles, and looks for them."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.needles = set()

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def add(self, name, data, number=False):
        """name: without spaces; what is found is told as name/form."""
        if name in self.needles:
            return
        self.needles.add(name)
        for form, text in forms(data, number):
            self._say("needle %s/%s %s" % (name, form, text.hex()))

    def _say(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    def _look(self, line):
        self._say(line)
        self.process.stdin.flush()
        seen = Seen()
        for answer in self.process.stdout:
            word = answer.decode("utf-8", "replace").rstrip("\n").split(" ", 5)
            if word[0] == "hit":
                seen.hits.append(Hit(word[1], int(word[2]), word[3] == "secret", word[4], word[5]))
            elif word[0] == "unreadable":
                if word[2] not in KERNELS:
                    seen.unreadable.append(" ".join(word[1:]))
            elif word[0] == "done":
                seen.bytes = int(word[1])
                return seen
            else:
                raise AssertionError(" ".join(word))
        raise AssertionError("scan has ended")

    def memory(self, pid, how="process"):
        """how: "process", "written" (only what the process may have written itself) or "keep" (the
        same, for `kept`)."""
        return self._look("%s %d" % (how, pid))

    def kept(self):
        """What was kept, looked at again."""
        return self._look("kept")

    def file(self, path):
        """None where it has gone meanwhile, or isn't a file."""
        try:
            return self._look("file " + path)
        except AssertionError:
            if os.path.isfile(path) and not os.path.islink(path):
                raise
            return None


def may_look():
    """Can another process that isn't dumpable be read? CAP_SYS_PTRACE is bit 19."""
    with open("/proc/self/status", encoding="ascii") as stream:
        return bool(int(re.search(r"CapEff:\s*(\w+)", stream.read())[1], 16) >> 19 & 1)


def stop(pid):
    """Until each of its threads stands still."""
    os.kill(pid, signal.SIGSTOP)
    for task in os.listdir("/proc/%d/task" % pid):
        while True:
            with open("/proc/%d/task/%s/stat" % (pid, task), encoding="ascii") as stream:
                if stream.read().rpartition(")")[2].split()[0] in "tT":
                    break


class Debugger:
    """gdb on a process, by its command line."""

    PROMPT = b"(gdb) "

    def __init__(self, pid):
        self.process = subprocess.Popen(
            ["gdb", "-q", "-nx", "-iex", "set debuginfod enabled off", "-iex",
             "set auto-load off", "-iex", "set confirm off", "-iex", "set pagination off", "-p",
             str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = self._read()

    def _read(self):
        """Up to the prompt."""
        text = b""
        while not text.endswith(self.PROMPT):
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                raise AssertionError("gdb has ended: " + text.decode("utf-8", "replace"))
            text += part
        return text.decode("utf-8", "replace")

    def ask(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def core(self, path):
        """A core file of everything that can be read, mappings that are kept out of them too."""
        self.ask("set use-coredump-filter off")
        self.ask("set dump-excluded-mappings on")
        said = self.ask("gcore " + path)
        if "Saved corefile" not in said:
            raise AssertionError("gcore: " + said)

    def close(self):
        if self.process.returncode is not None:
            return
        self.process.stdin.write(b"detach\nquit\n")
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def core_file(pid, path):
    debugger = Debugger(pid)
    try:
        debugger.core(path)
    finally:
        debugger.close()
