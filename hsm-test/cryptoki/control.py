"""The control socket of pfx-test-token; README.md beside this file says what can be asked."""

import collections
import socket

Call = collections.namedtuple("Call", "number app function rv mechanism")


class Control:
    """One connection; every method is one request."""

    def __init__(self, path):
        self.path = path
        self.stream = None

    def ask(self, line):
        """The answer's lines; AssertionError with what the token's process says."""
        if self.stream is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(60)
            connection.connect(self.path)
            self.stream = connection.makefile("rwb")
            connection.close()
        self.stream.write(line.encode("ascii") + b"\n")
        self.stream.flush()
        lines = []
        while True:
            answer = self.stream.readline()
            if not answer:
                raise ConnectionError("pfx-test-token has gone away")
            answer = answer.decode("ascii").rstrip("\n")
            if answer == "ok":
                return lines
            if answer.startswith("error "):
                raise AssertionError("%s: %s" % (line, answer))
            lines.append(answer)

    def close(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def fault(self, function, when, action):
        """The rule's number: fault("C_Sign", 2, "rv=0x30")."""
        return int(self.ask("fault %s %s %s" % (function, when, action))[0].split()[1])

    def clear(self):
        self.ask("clear")

    def fired(self):
        """How often any rule has fired."""
        return sum(int(line.split()[-1]) for line in self.ask("rules"))

    def reset(self):
        self.ask("reset")

    def calls(self):
        """Since the last reset, oldest first. rv None: it still runs."""
        found = []
        for line in self.ask("calls"):
            word = line.split()
            found.append(Call(int(word[0]), int(word[1]), word[2],
                              None if word[3] == "-" else int(word[3], 16),
                              int(word[4], 16) if len(word) > 4 else None))
        return found

    def counts(self):
        """{function: calls since the last reset}"""
        return {word[0]: int(word[1]) for word in (line.split() for line in self.ask("counts"))}

    def needles(self):
        """[(class, function, name, bytes)], and the lines of keys that the token doesn't give out."""
        found, closed = [], []
        for line in self.ask("needles"):
            word = line.split()
            if word[0] == "closed":
                closed.append(line)
            else:
                found.append((word[0], word[1], word[2], bytes.fromhex(word[3])))
        return found, closed
