#!/usr/bin/env python3
"""Makes exported operation logs, straight from the description of the format: an oracle for pfx-audit
that shares no code with the product.

    export_make.py DIR [--enrolments N] [--sessions N] [--host ID] [--tail N]

writes DIR (a lawful log) and prints the key lines that an auditor would have.
"""
import argparse
import base64
import hashlib
import json
import pathlib
import random
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

WIDTH = 256
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def sha(data):
    return hashlib.sha256(data).digest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def node(left, right):
    return sha(b"\x01" + left + right)


def leaf(entry):
    return sha(b"\x00" + entry)


def levels_of(leaves):
    """All complete nodes: [level][index]."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        row = levels[-1]
        levels.append([node(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
    return levels


def root_of(levels, size):
    """Of the first `size` leaves, from their complete subtrees, right to left."""
    if size == 0:
        return sha(b"")
    result, at = None, size
    for level, row in enumerate(levels):
        if size >> level & 1:
            at = (size >> level) - 1
            result = row[at] if result is None else node(row[at], result)
    return result


def tile_name(number):
    name = f"{number % 1000:03d}"
    while number >= 1000:
        number //= 1000
        name = f"x{number % 1000:03d}/" + name
    return name


class Key:
    """One that signs checkpoints."""

    def __init__(self, name, private):
        self.name, self.private = name, private
        public = private.public_key()
        self.spki = public.public_bytes(serialization.Encoding.DER,
                                        serialization.PublicFormat.SubjectPublicKeyInfo)
        self.pem = public.public_bytes(serialization.Encoding.PEM,
                                       serialization.PublicFormat.SubjectPublicKeyInfo)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            self.id, typed = sha(self.spki)[:4], b"\x02" + self.spki
        else:
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            self.id, typed = sha(name.encode() + b"\n\x01" + raw)[:4], b"\x01" + raw
        self.line = f"{name}+{self.id.hex()}+{base64.b64encode(typed).decode()}"

    @staticmethod
    def p256(name):
        return Key(name, ec.generate_private_key(ec.SECP256R1()))

    @staticmethod
    def ed25519(name):
        return Key(name, ed25519.Ed25519PrivateKey.generate())

    def sign(self, text):
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(text, ec.ECDSA(hashes.SHA256()))
        return self.private.sign(text)


def note(origin, size, root, keys):
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    lines = "".join(f"\u2014 {key.name} {base64.b64encode(key.id + key.sign(text.encode())).decode()}\n"
                    for key in keys)
    return (text + "\n" + lines).encode()


def anchor_hash(origin, size, root):
    return sha(f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode())[:12].hex()


def nest(members):
    """{"key.id": 1} to {"key": {"id": 1}}."""
    result = {}
    for name, value in members.items():
        at = result
        *groups, last = name.split(".")
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    return result


class Log:
    """Entries as they were logged; what a test changes before `write` is hashed and signed like the
    rest. Members whose name begins with "_" are the maker's own: _ref points to an intent, so that
    entries may be taken out or put in."""

    POLICY = b"# hsm-policy\nusers:\n  lowest_tier: transit\n"

    def __init__(self, host="host-a", seed=1, segment=256, ed=True, origin=None, keys=None,
                 policy=POLICY):
        self.host, self.origin = host, origin or f"{host}/pfx-agent"
        self.random = random.Random(seed)
        self.segment = segment
        self.entries, self.milestones, self.users = [], [], []
        self.keys = keys or [Key.p256(self.origin)] + ([Key.ed25519(self.origin)] if ed else [])
        self.all_keys = list(self.keys)
        self.signers = {}  # size: keys, where they aren't self.keys
        self.policies = {sha(policy).hex(): policy}
        self.policy = sha(policy).hex()
        self.agentd_n, self.boot_n, self.up = 0, 0, 60_000
        self.clock = 1_795_334_400_000  # 2026-11-22T08:00:00Z
        self.pins, self.serial, self.enrolments = [], 0, 0
        self.token = {"token.label": "users", "token.serial": "0f" * 8}
        self.software = {"software.exe": self.hex(), "software.version": "0.1.0"}
        self.before_salt = bytes(16)
        self.open = []

    def hex(self, n=32):
        return self.random.randbytes(n).hex()

    def ulid(self):
        text = f"{self.clock:013x}"
        value = int(text, 16) << 80 | self.random.getrandbits(80)
        return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))

    def boot(self):
        return f"{sha(str((self.host, self.boot_n)).encode()).hex()[:8]}-0000-4000-8000-000000000000"

    def tick(self, ms=40):
        self.clock += ms
        self.up += ms

    def raw(self, event, phase="note", outcome="ok", src="hsm", op=None, **members):
        self.tick()
        moment = self.clock // 1000
        import datetime
        stamp = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc)
        entry = {"v": 1, "src": src, "event": event, "phase": phase, "outcome": outcome,
                 "op": op or self.ulid(), "up": self.up, "boot": self.boot(),
                 "time": stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self.clock % 1000:03d}Z",
                 "actor": {"role": "agentd" if src == "agentd" else "self"}}
        for name, value in nest({k.replace("__", "."): v for k, v in members.items()
                                 if not k.startswith("_")}).items():
            if isinstance(value, dict) and name in entry:
                entry[name].update(value)
            else:
                entry[name] = value
        entry.update({k: v for k, v in members.items() if k.startswith("_")})
        self.entries.append(entry)
        return entry

    def add(self, event, **members):
        if self.entries and len(self.entries) % self.segment == 0:
            self.raw("log.segment", log__origin=self.origin, log__keys=[k.line for k in self.keys],
                     log__n=self.agentd_n, _open=list(self.open), pins=self.pin_list(),
                     policy__sha256=self.policy, _size=True)
        return self.raw(event, **members)

    def pin_list(self):
        return [dict(pin) for pin in self.pins]

    def dotted(self, members):
        return {k.replace(".", "__"): v for k, v in members.items()}

    def intent(self, event, **members):
        entry = self.add(event, phase="intent", outcome="pending", **members)
        self.open.append(entry)
        return entry

    def result(self, intent, outcome="ok", **members):
        entry = self.add(intent["event"], phase="result", outcome=outcome, op=intent["op"],
                         _ref=intent, **members)
        self.open.remove(intent)
        return entry

    def agentd(self, event, outcome="ok", **members):
        # Numbers are given when the note is written, so a segment's note comes first.
        if self.entries and len(self.entries) % self.segment == 0:
            self.add("clock.step", clock__step=0)
        self.agentd_n += 1
        return self.add(event, src="agentd", outcome=outcome, n=self.agentd_n,
                        at="2026-11-22T07:59:59.000Z", **members)

    # What a host does.

    def begin(self, event="log.begin", **members):
        self.add(event, log__origin=self.origin, log__keys=[k.line for k in self.keys],
                 policy__sha256=self.policy, **self.dotted(self.software),
                 token__label="log", token__serial="00" * 8, **members)

    def init(self):
        self.begin()
        for name in ("log", "users"):
            self.add("probe", before=True, target__name=name, token__label=name,
                     token__serial="00" * 8)
        self.add("ceremony.key", before=True, target__name="log")
        intent = self.intent("ceremony.key", target__name="mac")
        self.result(intent, key__id=self.hex(20))
        self.pin(1)
        self.ready()

    def pin(self, generation):
        spki = self.hex()
        self.serial += 1
        intent = self.intent("ceremony.pin", pin__generation=generation)
        self.result(intent, pin__generation=generation, pin__spki=spki, pin__state="active",
                    pin__serial=self.serial)
        for pin in self.pins:
            pin["state"] = "suspended"
        self.pins.append({"generation": generation, "spki": spki, "state": "active"})

    def move(self, event, generation, state, only=None, **members):
        """A generation's event that writes the pins: intent and result. only: more of the intent."""
        self.serial += 1
        pin = next((p for p in self.pins if p["generation"] == generation), None)
        if pin is None:
            self.pins.append({"generation": generation, "spki": self.hex(), "state": state})
            pin = self.pins[-1]
        said = {"pin__generation": generation, "pin__serial": self.serial, "pin__state": state}
        if state != "making":
            said["pin__spki"] = pin["spki"]
        said.update(members)
        intent = self.intent(event, **dict(said, **(only or {})))
        more = {"key.destroy": {"key__id": self.hex(20), "found": "key"},
                "key.compromise": {"reason": "lost"},
                "connector.probe": {"target__name": "conn1", "out__sha256": self.hex()},
                "connector.confirm": {"target__name": "conn1"}}.get(event, {})
        result = self.result(intent, **dict(more, **said))
        if state == "active":
            for other in self.pins:
                other["state"] = "suspended" if other["state"] == "active" else other["state"]
        pin["state"] = state
        return intent, result

    def ready(self):
        self.add("token.login", target__name="users", rv="CKR_OK", **self.dotted(self.token))
        serial = {"pin__serial": self.serial} if self.serial else {}
        self.add("token.ready", target__name="users", pins=self.pin_list(), **serial,
                 **self.dotted(self.token))

    def start(self, boot=False):
        if boot:
            self.boot_n += 1
            self.up = 20_000
        self.tick(5000)
        self.add("start", policy__sha256=self.policy, **self.dotted(self.software))
        for intent in list(self.open):
            self.result(intent, outcome="unknown")

    def stop(self):
        self.add("stop")
        self.checkpoint()

    def user(self):
        salt, name = self.random.randbytes(16), f"user{len(self.users)}"
        oid = f"{self.hex(4)}-0000-4000-8000-{self.hex(6)}"
        hashed = sha(salt + oid.encode()).hex()
        self.users.append({"addresses": [f"{name}@example.com"], "id": oid, "salt": salt.hex(),
                           "upn": f"{name}@example.com", "user": hashed})
        return hashed

    def make(self, user=None):
        """key.make; what pfx.build needs of it."""
        self.enrolments += 1
        target = {"target__enrolment": self.enrolments, "target__attempt": 1,
                  "target__user": user or self.user()}
        key = {"key__id": self.hex(20), "key__spki": self.hex(), "ticket": self.hex(),
               "target": target, "order": 500_000 + self.enrolments}
        intent = self.intent("key.make", key__alg="rsa-2048", key__id=key["key__id"], **target)
        self.result(intent, key__spki=key["key__spki"], ticket=key["ticket"],
                    out__sha256=self.hex(), **self.dotted(self.token))
        self.agentd("order.placed", key__id=key["key__id"], target__order=key["order"], **target)
        return key

    def build(self, key, generation=None):
        """pfx.build; the PFX's hash."""
        pin = next(p for p in self.pins if p["generation"] == generation or
                   (generation is None and p["state"] == "active"))
        cert = self.hex()
        self.agentd("certificate.received", cert__sha256=cert, **key["target"])
        intent = self.intent("pfx.build", key__id=key["key__id"], key__spki=key["key__spki"],
                             ticket=key["ticket"], cert__sha256=cert, **key["target"])
        pfx = self.hex()
        self.result(intent, tier="transit", out__sha256=pfx, seal__by="token",
                    seal__generation=pin["generation"], seal__hash="sha256",
                    seal__sha256=self.hex(), seal__spki=pin["spki"], **self.dotted(self.token))
        return pfx

    def upload(self, key, pfx):
        self.agentd("upload.confirmed", out__sha256=pfx, target__thumbprint=self.hex(20),
                    target__name=self.hex(16), seal__generation=1, **key["target"])

    def enrol(self):
        key = self.make()
        pfx = self.build(key)
        self.upload(key, pfx)

    def rotate_key(self):
        fresh = [Key.p256(self.origin) if isinstance(k.private, ec.EllipticCurvePrivateKey)
                 else Key.ed25519(self.origin) for k in self.keys]
        self.add("log.rotate-key", log__keys=[k.line for k in fresh],
                 key__spki=sha(fresh[0].spki).hex())
        self.signers[len(self.entries)] = self.keys + fresh
        self.checkpoint()
        self.keys = fresh
        self.all_keys += fresh

    def checkpoint(self):
        """Kept as a milestone."""
        size = len(self.entries)
        if size not in self.milestones:
            self.milestones.append(size)
            self.signers.setdefault(size, list(self.keys))

    # Writing.

    def encode(self):
        places = {id(entry): i for i, entry in enumerate(self.entries)}
        prev, raw = "0" * 64, []
        for seq, entry in enumerate(self.entries):
            plain = {k: v for k, v in entry.items() if not k.startswith("_")}
            if "_ref" in entry and "ref" not in plain:
                plain["ref"] = places.get(id(entry["_ref"]), 0)
            if "_open" in entry:
                plain["log"] = dict(plain["log"],
                                    open=[places[id(one)] for one in entry["_open"]
                                          if id(one) in places])
            if "_size" in entry:
                plain["log"] = dict(plain["log"], size=seq)
            plain.setdefault("seq", seq)
            plain.setdefault("prev", prev)
            raw.append(entry.get("_bytes") or canonical(plain))
            prev = leaf(raw[-1]).hex()
        return raw

    def write(self, folder, tail=0, first=0, anchor=None, names=True):
        """All but the last `tail` entries are covered; entries before `first` (a multiple of 256)
        were dropped. anchor: the size that the token's anchor names."""
        folder = pathlib.Path(folder)
        raw = self.encode()
        size = len(raw) - tail
        levels = levels_of([leaf(entry) for entry in raw[:size]])
        put = lambda name, data: ((folder / name).parent.mkdir(parents=True, exist_ok=True),
                                  (folder / name).write_bytes(data))
        for milestone in self.milestones:
            if milestone <= size:
                put(f"checkpoints/{milestone:020d}",
                    note(self.origin, milestone, root_of(levels, milestone),
                         self.signers[milestone]))
        root = root_of(levels, size)
        newest = note(self.origin, size, root, self.signers.get(size, self.keys))
        put("checkpoint", newest)
        for number in range(first // WIDTH, (size + WIDTH - 1) // WIDTH):
            part = raw[number * WIDTH:min(size, (number + 1) * WIDTH)]
            name = f"tile/entries/{tile_name(number)}"
            name += "" if len(part) == WIDTH else f".p/{len(part)}"
            put(name, b"".join(struct.pack(">H", len(entry)) + entry for entry in part))
        for level in range(0, len(levels), 8):
            row = levels[level]
            for number in range((len(row) + WIDTH - 1) // WIDTH):
                part = row[number * WIDTH:(number + 1) * WIDTH]
                name = f"tile/{level // 8}/{tile_name(number)}"
                put(name + ("" if len(part) == WIDTH else f".p/{len(part)}"), b"".join(part))
        if tail:
            put("tail", b"".join(struct.pack(">H", len(entry)) + entry for entry in raw[size:]))
        for key in self.all_keys:
            put(f"keys/{key.id.hex()}.vkey", key.line.encode() + b"\n")
            put(f"keys/{key.id.hex()}.pem", key.pem)
        for name, text in self.policies.items():
            put(f"policy/{name}.yaml", text)
        at = size if anchor is None else anchor
        put("anchor.json", canonical({"hash": anchor_hash(self.origin, at, root_of(levels, at)),
                                      "origin": self.origin, "size": at,
                                      "time": "2026-11-22T08:00:10.000Z"}) + b"\n")
        put("export.json", canonical({"first": first, "made": "2026-11-22T09:00:00.000Z",
                                      "origin": self.origin, "size": size, "software": "0.1.0",
                                      "v": 1}) + b"\n")
        if names:
            put("names.jsonl", b"".join(canonical(user) + b"\n" for user in
                                        sorted(self.users, key=lambda user: user["user"])))
        return Written(self, folder, raw, levels, size, newest)


class Written:
    """What was written, for tests that need more of it."""

    def __init__(self, log, folder, raw, levels, size, newest):
        self.log, self.folder, self.raw, self.levels = log, folder, raw, levels
        self.size, self.newest = size, newest

    def note(self, size, keys=None):
        return note(self.log.origin, size, root_of(self.levels, size), keys or self.log.keys)

    def label(self, size=None):
        size = self.size if size is None else size
        return (f"pfxlog1:{sha(self.log.origin.encode()).hex()[:8]}:{size}:"
                f"{anchor_hash(self.log.origin, size, root_of(self.levels, size))}")


def lawful(host="host-a", enrolments=3, sessions=2, seed=1, **options):
    """A host's life: init, then sessions with enrolments."""
    log = Log(host, seed, **options)
    log.init()
    log.stop()
    for session in range(sessions):
        log.start(boot=session == 1)
        log.checkpoint()
        log.ready()
        log.agentd("agentd.start", target__name="0.1.0")
        for _ in range(enrolments):
            log.enrol()
        log.checkpoint()
        log.agentd("agentd.stop", target__name="0.1.0")
        log.stop()
    return log


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--enrolments", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--host", default="host-a")
    parser.add_argument("--tail", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    log = lawful(args.host, args.enrolments, args.sessions, args.seed)
    log.write(args.folder, tail=args.tail)
    for key in log.all_keys:
        print(key.line)


if __name__ == "__main__":
    main()
