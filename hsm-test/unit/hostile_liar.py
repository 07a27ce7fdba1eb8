"""An arm by hand, for the real pfx-agentd."""

import os

import hostile_lies as lies
from hostile_rig import Wire, guid

TABLES = lies.Tables() if lies.TABLES else None


def kinds_of(role):
    """Every kind of job that the tables have for a role."""
    return [k for k in (TABLES.requests if TABLES else ())
            if k.startswith("hsm." if role == "hsm" else "up.")]


class Liar:
    """An arm by hand."""

    def __init__(self, rig, role="uploader", tape=None, number=0):
        self.path, self.role, self.tape = os.path.join(rig.run, role), role, tape
        self.number = number
        self.wire = None

    def hello(self, **changes):
        members = dict(role=self.role, version="0.1.0", incarnation=guid(self.number), pid=1,
                       kinds=kinds_of(self.role), capacity=1024, holds=[])
        members.update(changes)
        return members

    def connect(self):
        self.close()
        self.wire = Wire(self.path, self.tape)
        return self

    def greet(self, **changes):
        self.connect()
        self.wire.send("hello", **self.hello(**changes))
        first = self.wire.read()
        assert first["t"] == "welcome", first
        return self

    def close(self):
        if self.wire:
            self.wire.close()
