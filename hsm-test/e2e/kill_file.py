"""The file by which a test tells a program where to die (hsm-test/unit/kill_points.h)."""

import mmap
import os
import struct

FILE_SIZE = 512 * 1024
DIED, ANEW, USED, ARMED, NAMES, MEMORY = 0, 1, 4, 8, 512, 128 * 1024


class KillFile:
    """What one process and this test share: the point to die at, the points that were reached."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as stream:
            stream.truncate(FILE_SIZE)
        os.chmod(path, 0o600)
        with open(path, "r+b") as stream:
            self.map = mmap.mmap(stream.fileno(), FILE_SIZE)

    def arm(self, point):
        """The first byte last: the process may look at any time."""
        name = point.encode() + b"\0"
        self.map[ARMED + 1:ARMED + len(name)] = name[1:]
        self.map[ARMED:ARMED + 1] = name[:1]

    def disarm(self):
        self.map[ARMED:ARMED + 1] = b"\0"
        self.map[DIED:DIED + 1] = b"\0"

    def anew(self, anew):
        """Shall the next start probe its tokens, and not take what the last one found?"""
        self.map[ANEW:ANEW + 1] = b"\1" if anew else b"\0"

    def died(self):
        return self.map[DIED] != 0

    def forget(self):
        self.map[USED:USED + 4] = bytes(4)

    def reached(self):
        used, = struct.unpack("=I", self.map[USED:USED + 4])
        return [n.decode() for n in bytes(self.map[NAMES:NAMES + used]).split(b"\0") if n]

    def memory(self):
        """What the program keeps for its next start: of the tokens' kind, not of one token."""
        return bytes(self.map[MEMORY:])

    def remember(self, memory):
        self.map[MEMORY:] = memory

    def close(self):
        self.map.close()
