"""DNS that fails or hangs, in a network and mount namespace where 127.0.0.1 is the name server: as
root only. A resolver that hangs costs its own request its time-out and nobody else anything."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import own_namespace

if __name__ == "__main__":
    own_namespace.enter("/etc/resolv.conf")

import uploader_rig  # noqa: E402  (only inside)
from simclient import GROUP  # noqa: E402
from uploader_rig import Rig  # noqa: E402

HOST = "graph.pfx-test.example"
NO_NAME, BROKEN, SILENT = 3, 2, "silent"


class NameServer:
    """Answers every question with the same code, or with nothing."""

    def __init__(self):
        self.how = SILENT
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            question, sender = self.socket.recvfrom(4096)
            self.asked += 1
            if self.how != SILENT:
                # RFC 1035, section 4.1.1: the question back, as a response with this code.
                self.socket.sendto(question[:2] + bytes([0x81, 0x80 | self.how]) + question[4:],
                                   sender)


def setUpModule():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as stream:
        stream.write("nameserver 127.0.0.1\noptions timeout:4 attempts:2\n")
    os.chmod(stream.name, 0o644)
    subprocess.run(["mount", "--bind", stream.name, "/etc/resolv.conf"], check=True)
    os.unlink(stream.name)
    Names.server = NameServer()


class Names(Rig):
    """Graph has a name; the other services are at an address."""

    options = {"graph.url": "https://%s:44" % HOST, "limits.request_timeout": "1500ms",
               "limits.connect_timeout": "1s", "limits.job_timeout": "4s"}
    server = None

    def setUp(self):
        super().setUp()
        self.setting(fronts=["%s:44" % HOST])

    def test_unknown_and_broken(self):
        for code in (NO_NAME, BROKEN):
            self.server.how = code
            error = self.bad("transient", "up.members", HOST, "Check the host's DNS", group=GROUP)
            self.assertEqual("curl 6", error["code"])

    def test_hangs(self):
        """The name server is silent; each request ends in its own second, not in eight, and what
        needs no name isn't held up meanwhile, nor at the end of the program."""
        self.server.how = SILENT
        self.good("up.order_changes", minutes=1)
        asked = self.server.asked
        began = time.monotonic()
        waiting = [self.agent.start("up.members", group=GROUP) for _ in range(3)]
        slowest = 0
        while any(q.empty() for q in waiting) and time.monotonic() - began < 30:
            started = time.monotonic()
            self.good("up.order_changes", minutes=1)
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.05)
        for queue in waiting:
            answer = queue.get(timeout=1)
            self.assertEqual("transient", answer["class"], answer)
            self.assertIn(HOST, answer["error"]["object"])
            self.assertIn("connect_timeout", answer["error"]["text"])
        self.assertLess(time.monotonic() - began, 4)
        self.assertLess(slowest, 0.8)
        self.assertGreater(self.server.asked, asked)
        began = time.monotonic()
        self.restart()
        self.assertLess(time.monotonic() - began, 3)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
