"""A pfx-agentd by hand, for an arm that is the real program: takes its connections, gives it jobs of
any shape, and keeps every byte that comes back."""

import itertools
import json
import os
import socket
import struct
import time

import hostile_lies as lies
from hostile_rig import Closed, Wire, guid


class Desk:
    def __init__(self, path, tape=None, timeout=20):
        self.path, self.tape, self.timeout = path, tape, timeout
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(path)
        self.socket.listen(16)
        self.socket.settimeout(timeout)
        self.wire, self.hello = None, None
        self.credit = 0
        self.jobs = itertools.count(1)
        self.done = {}  # answers by job, as they came

    def accept(self):
        """The next connection, with its hello."""
        if self.wire:
            self.wire.close()
        self.credit = 0
        self.wire = Wire(tape=self.tape, timeout=self.timeout, connection=self.socket.accept()[0])
        self.hello = self.wire.read()
        assert self.hello["t"] == "hello", self.hello
        return self

    def welcome(self):
        while True:
            self.accept()
            try:
                self.wire.send("welcome", version="0.1.0", incarnation=guid())
                return self
            except Closed:  # it has waited too long for this one, and connects again
                pass

    def read(self):
        """The next answer to a job; it is acknowledged."""
        while True:
            message = self.wire.read()
            if message["t"] == "pull":
                self.credit += message["max"]
            elif message["t"] == "done":
                self.wire.send("ack", job=message["job"], lease=message["lease"])
                self.done[message["job"]] = message
                return message

    def has_credit(self):
        while self.credit == 0:
            message = self.wire.read()
            if message["t"] == "pull":
                self.credit += message["max"]
            elif message["t"] == "done":
                self.wire.send("ack", job=message["job"], lease=message["lease"])
                self.done[message["job"]] = message

    def give(self, kind, text, job=None, lease=None):
        """A job with this body, as it stands. Its number."""
        self.has_credit()
        self.credit -= 1
        job = next(self.jobs) if job is None else job
        head = {"v": 1, "t": "job", "job": job, "lease": lease or job + 1000,
                "deadline": int(time.time() * 1000) + 60000, "kind": kind}
        text = json.dumps(head).encode()[:-1] + b',"body":' + text + b"}"
        self.wire.raw(struct.pack(">I", len(text)) + text)
        return job

    def do(self, kind, **body):
        job = self.give(kind, json.dumps(body).encode())
        while job not in self.done:
            self.read()
        return self.done.pop(job)

    def tell(self, told, count, case):
        """Every lie about a job's body: refused by the table, or the line ended where the frame is
        spoilt. As many at once as the arm takes."""
        asked = {}
        for lie in told:
            count.add(lie)
            if lies.spoils(lie):
                while asked:
                    self.judge(asked, case)
                self.give(lie.message, lie.text)
                try:
                    case.fail("taken: %s, answered with %s" % (lie[:3], self.read()))
                except Closed:
                    self.welcome()
                continue
            asked[self.give(lie.message, lie.text)] = lie
            if self.credit == 0:
                self.judge(asked, case)
        while asked:
            self.judge(asked, case)

    def judge(self, asked, case):
        for job in [j for j in self.done if j in asked] or [self.read()["job"]]:
            answer, lie = self.done.pop(job), asked.pop(job)
            case.assertEqual((answer["class"], answer.get("error", {}).get("op")),
                             ("refused", "decode"), (lie[:3], answer))
            case.assertNotIn("body", answer)
            case.assertNotIn(lies.CANARY, json.dumps(answer))

    def close(self):
        self.socket.close()
        if self.wire:
            self.wire.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


def ends(wire, case, what, may=("beat",)):
    """The other side closes the line and says nothing more on it."""
    try:
        while True:
            case.assertIn(wire.read()["t"], may, what)
    except Closed:
        pass
