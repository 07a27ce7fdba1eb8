"""Programs on a terminal of their own, as prompts and other people's tools want one."""

import os
import pty
import select
import signal
import termios
import time

import harness


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, world, *argv):
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(world.path("out"))
            os.execve(argv[0], argv, dict(world.environment, TERM="xterm"))
        self.status = None

    def read_until(self, words, seconds=20):
        end = time.monotonic() + seconds * harness.PATIENCE
        while words not in self.output:
            ready, _, _ = select.select([self.fd], [], [], 0.1)
            if ready:
                try:
                    data = os.read(self.fd, 4096)
                except OSError:
                    data = b""
                if not data:
                    break
                self.output += data
            if time.monotonic() > end:
                break
        if words not in self.output:
            raise AssertionError("the terminal shows %r, not %r" % (self.output, words))

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def type(self, text):
        os.write(self.fd, text.encode("utf-8"))

    def drain(self):
        """What it wrote last may come after its end."""
        while select.select([self.fd], [], [], 0)[0]:
            try:
                text = os.read(self.fd, 65536)
            except OSError:
                return
            if not text:
                return
            self.output += text

    def end(self, seconds=20):
        end = time.monotonic() + seconds * harness.PATIENCE
        while time.monotonic() < end:
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    self.output += os.read(self.fd, 4096)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.drain()
                return self.status
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("it doesn't end; the terminal shows %r" % self.output)


def pkcs11_tool(world, role, *argv):
    """OpenSC's tool, logged in to a role's token by its prompt."""
    terminal = Terminal(world, "/usr/bin/pkcs11-tool", "--module", world.tool_module(role),
                        "--token-label", "pfx-" + role, "--login", *argv)
    terminal.read_until(b"PIN")
    # What is typed before the echo is off would be thrown away.
    harness.wait_for("the prompt", lambda: not terminal.echoes(), 10, 0.02)
    terminal.type(world.pin(role) + "\n")
    code = terminal.end(60)
    os.close(terminal.fd)
    text = terminal.output.decode("utf-8", "replace")
    if code != 0:
        raise AssertionError("pkcs11-tool %s ends with %d: %s" % (" ".join(argv), code, text))
    return text
