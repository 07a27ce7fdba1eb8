"""Lies about the messages of the socket protocol, made from its own tables (tools/wire-tables.c):
each message x each member x each kind of lie. A message that is added to the tables is lied about
without anyone thinking of it."""

import base64
import collections
import json
import os
import re
import struct
import subprocess

TABLES = os.environ.get("PFX_WIRE_TABLES", "")
CANARY = "Zq7vCanaryOfASecret9xK"  # stands in secret members: no answer may have it

Lie = collections.namedtuple("Lie", "message member kind text")


class Raw(bytes):
    """JSON as it stands: what a JSON library wouldn't write."""


class Members(list):
    """An object as a list of (name, value): members may be there twice."""


def dump(value):
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, Members):
        return b"{" + b",".join(json.dumps(n).encode() + b":" + dump(v) for n, v in value) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(dump, value)) + b"]"
    return json.dumps(value).encode()


def frame(text):
    return struct.pack(">I", len(text)) + text


class Tables:
    def __init__(self):
        data = json.loads(subprocess.run([TABLES], check=True, capture_output=True).stdout)
        self.version = data["version"]
        self.envelopes = {s["name"]: s for s in data["envelopes"]}
        self.requests, self.results = {}, {}  # of jobs, by kind
        self.verbs = {}  # socket: verb: (arguments, item or None)
        for pair in data["jobs"]:
            self.requests[pair["name"]] = pair["request"]
            self.results[pair["name"]] = pair["result"]
        for socket in ("agent", "admin", "broker"):
            self.verbs[socket] = {p["name"]: (p["request"], p["result"]) for p in data[socket]}


def of_length(field, length):
    """The text of a string or blob of so many bytes."""
    if field["type"].startswith("blob"):
        return base64.b64encode(b"\x5a" * length).decode()
    return (CANARY * (length // len(CANARY) + 1))[:length] if field["secret"] else "x" * length


def good(field, most=False, whole=False):
    """A value inside the bounds: the smallest, or (most) a large one."""
    kind = field["type"]
    length = min(field["max"], 2000) if most else field["min"]
    if kind in ("str", "blob"):
        return of_length(field, length)
    if kind == "int":
        return field["max"] if most else field["min"]
    if kind == "bool":
        return most
    if kind in ("strs", "blobs"):
        return [of_length(field, length)] * (2 if most else 1)
    if kind == "obj":
        return fill(field["of"], most, whole)
    if kind == "objs":
        return [fill(field["of"], most, whole) for _ in range(2 if most else 1)]
    return Members()


def fill(schema, most=False, whole=False):
    """Every member inside its bounds; optional ones with most, or whole."""
    return Members((f["name"], good(f, most, whole)) for f in schema["fields"]
                   if most or whole or not f["optional"])


def full(schema):
    """The smallest value of every member, optional ones too: what the lies are made from."""
    return fill(schema, whole=True)


# --- values that no member of a type may have ------------------------------------------------------

NOT = {  # JSON types that a member of this type isn't
    "str": ("null", "true", "7", "[]", "{}"),
    "blob": ("null", "true", "7", "[]", "{}"),
    "int": ("null", "true", "\"5\"", "[]", "{}"),
    "bool": ("null", "0", "\"true\"", "[]", "{}"),
    "strs": ("null", "true", "7", "\"x\"", "{}", "[7]", "[null]", "[[\"x\"]]"),
    "blobs": ("null", "true", "7", "\"x\"", "{}", "[7]", "[null]", "[[\"x\"]]"),
    "obj": ("null", "true", "7", "\"x\"", "[]"),
    "objs": ("null", "true", "7", "\"x\"", "{}", "[7]", "[null]", "[[]]"),
    "body": ("null", "true", "7", "\"x\"", "[]"),
}
NUMBERS = ("1.5", "1e3", "-0", "01", "1.0", "+1", "0x10", "NaN", "Infinity", "9007199254740992",
           "18446744073709551617", "-9007199254740993", "1" + "0" * 400)
STRINGS = {  # what may stand in no string
    "not UTF-8": b'"\xff\xfe"', "overlong UTF-8": b'"\xc0\xaf"', "half UTF-8": b'"\xe2\x82"',
    "UTF-16 halves in UTF-8": b'"\xed\xa0\x80"', "a half surrogate": b'"\\ud800"',
    "NUL": b'"a\\u0000b"', "raw control": b'"a\x01b"', "escaped control": b'"a\\u0001b"',
    "bad escape": b'"\\x41"', "open string": b'"abc',
}
BASE64 = {"not base64": b'"****"', "base64url": b'"-_-_"', "no padding": b'"QUI"',
          "space in base64": b'"QU JD"', "bits left over": b'"QR=="', "too much padding": b'"QUI=="'}


def wrongs(field):
    """(kind of lie, value) for one member."""
    kind = field["type"]
    for value in NOT[kind]:
        yield "type: " + value, Raw(value.encode())
    yield "deep", Raw(b"[" * 64 + b"]" * 64)
    yield "very deep", Raw(b'{"a":' * 5000 + b"1" + b"}" * 5000)
    if kind == "int":
        for number in NUMBERS:
            yield "number: " + number[:24], Raw(number.encode())
        yield "below", field["min"] - 1
        yield "above", field["max"] + 1
    if kind in ("str", "strs"):
        for name, text in STRINGS.items():
            yield name, Raw(text if kind == "str" else b"[" + text + b"]")
    if kind in ("blob", "blobs"):
        for name, text in BASE64.items():
            yield name, Raw(text if kind == "blob" else b"[" + text + b"]")
    if kind in ("str", "blob", "strs", "blobs"):
        short = of_length(field, max(field["min"] - 1, 0))
        long = of_length(field, field["max"] + 1)
        if field["min"] > 0:
            yield "short", [short] if kind in ("strs", "blobs") else short
        yield "long", [long] if kind in ("strs", "blobs") else long
    if kind in ("strs", "blobs", "objs"):
        yield "crowded", [good(field)[0]] * (field["items"] + 1)


def places(schema, path=()):
    """(path, field) of every member, those of nested objects too."""
    for field in schema["fields"]:
        yield path + (field["name"],), field
        if "of" in field:
            yield from places(field["of"], path + (field["name"],))


def change(value, path, what):
    """A copy of an object in which what(members, index) has changed the member at path."""
    copy = Members(value)
    index = next(i for i, (name, _) in enumerate(copy) if name == path[0])
    if len(path) == 1:
        what(copy, index)
        return copy
    inner = copy[index][1]
    if isinstance(inner, Members):
        copy[index] = (path[0], change(inner, path[1:], what))
    else:  # the first of an array
        copy[index] = (path[0], [change(inner[0], path[1:], what)] + list(inner[1:]))
    return copy


def put(value):
    def what(members, index):
        members[index] = (members[index][0], value)
    return what


def rename(make):
    def what(members, index):
        members[index] = (make(members[index][0]), members[index][1])
    return what


def twice(value=None):
    def what(members, index):
        name, old = members[index]
        members.append((name, old if value is None else value))
    return what


def without(members, index):
    del members[index]


def member_lies(name, schema, base=None):
    """Every lie about the members of one message; base: its true members."""
    base = full(schema) if base is None else base
    there = {n for n, _ in base}
    for path, field in places(schema):
        if path[0] not in there:
            continue
        where = ".".join(path)
        if not field["optional"]:
            yield Lie(name, where, "missing", dump(change(base, path, without)))
        yield Lie(name, where, "doubled", dump(change(base, path, twice())))
        yield Lie(name, where, "doubled, null", dump(change(base, path, twice(Raw(b"null")))))
        for kind, make in (("another case", str.upper), ("a space behind", lambda n: n + " "),
                           ("longer", lambda n: n + "x"), ("NUL behind", lambda n: n + "\0")):
            yield Lie(name, where, "name: " + kind, dump(change(base, path, rename(make))))
        for kind, value in wrongs(field):
            yield Lie(name, where, kind, dump(change(base, path, put(value))))


def whole_lies(name, schema, base=None, body=False):
    """Lies about a message as a whole. body: one inside an envelope, whose spaces count there."""
    base = full(schema) if base is None else base
    text = dump(base)
    room = schema["ceiling"] + 1
    extra = Members(list(base) + [("unknown", 1)])
    yield Lie(name, "", "unknown member", dump(extra))
    yield Lie(name, "", "unknown, empty name", dump(Members(list(base) + [("", 1)])))
    yield Lie(name, "", "unknown, __proto__", dump(Members(list(base) + [("__proto__", Members())])))
    yield Lie(name, "", "over its ceiling",
              dump(Members(list(base) + [("padding", "x" * room)])))
    if not body:
        yield Lie(name, "", "over its ceiling in spaces", text[:-1] + b" " * room + b"}")
    yield Lie(name, "", "a crowd of members",
              dump(Members(list(base) + [("n%d" % n, 1) for n in range(2000)])))
    for kind, lie in (("an array", b"[" + text + b"]"), ("a string", json.dumps("x").encode()),
                      ("null", b"null"), ("a number", b"1"), ("two objects", text + text),
                      ("rubbish behind", text + b"x"), ("half", text[:-1]),
                      ("a mark in front", b"\xef\xbb\xbf" + text), ("UTF-16", text.decode("latin-1").encode("utf-16")),
                      ("comma behind", text[:-1] + b",}")):
        yield Lie(name, "", kind, lie)


def body_lies(name, schema, base=None):
    """Every lie about a job's body or result, or about a verb's arguments or item."""
    yield from member_lies(name, schema, base)
    yield from whole_lies(name, schema, base, True)


def envelope_of(tables, name, base):
    return Members([("v", tables.version), ("t", name)] + list(base))


def envelope_lies(tables, name, base=None):
    """Lies about an envelope: its members, its version and its type. base: its true members, with
    a body that is true as well."""
    schema = tables.envelopes[name]
    base = full(schema) if base is None else base
    plain = envelope_of(tables, name, base)
    for lie in list(member_lies(name, schema, plain)) + list(whole_lies(name, schema, plain)):
        yield lie
    rest = Members(plain[2:])
    for kind, head in (
            ("no version", [("t", name)]), ("no type", [("v", tables.version)]),
            ("another version", [("v", tables.version + 1), ("t", name)]),
            ("version 0", [("v", 0), ("t", name)]), ("version as text", [("v", "1"), ("t", name)]),
            ("version twice", [("v", 1), ("v", 1), ("t", name)]),
            ("type twice", [("v", 1), ("t", name), ("t", name)]),
            ("another type", [("v", 1), ("t", "nothing")]),
            ("type of another case", [("v", 1), ("t", name.upper())]),
            ("type as number", [("v", 1), ("t", 1)]), ("empty type", [("v", 1), ("t", "")]),
            ("long type", [("v", 1), ("t", name + "x" * 1000)])):
        yield Lie(name, "", kind, dump(Members(head + list(rest))))


SPOILS = {"deep", "very deep", "not UTF-8", "overlong UTF-8", "half UTF-8", "UTF-16 halves in UTF-8",
          "a half surrogate", "NUL", "raw control", "bad escape", "open string", "name: NUL behind",
          "two objects", "rubbish behind", "half", "a mark in front", "UTF-16", "comma behind",
          "an array", "a string", "null", "a number"}


def spoils(lie):
    """Does this body spoil the whole frame that it comes in? Then no answer says so: the line ends."""
    number = lie.kind.startswith("number: ") and "900719925474099" not in lie.kind
    return lie.kind in SPOILS or number


def fair_part(lies, one_in):
    """For a quick run: each message x member once with every kind of lie that hasn't been told yet,
    and one in so many of the others; so each kind and each member stays covered."""
    lies = list(lies)
    if one_in <= 1:
        return lies
    kinds, members, kept = set(), set(), []
    for n, lie in enumerate(lies):
        kind = re.sub(r"[0-9]{3,}", "", lie.kind)
        if kind not in kinds or (lie.message, lie.member) not in members or n % one_in == 0:
            kinds.add(kind)
            members.add((lie.message, lie.member))
            kept.append(lie)
    return kept


class Count:
    """What was told, for the last line of a test."""

    def __init__(self, who):
        self.who = who
        self.told, self.of = 0, 0
        self.messages, self.members, self.kinds = set(), set(), set()

    def add(self, lie):
        self.told += 1
        self.messages.add(lie.message)
        self.members.add((lie.message, lie.member))
        self.kinds.add(lie.kind)

    def line(self):
        return ("%s: %d of %d lies told, each refused: %d messages, %d members, %d kinds of lie"
                % (self.who, self.told, self.of, len(self.messages),
                   len([m for m in self.members if m[1]]), len(self.kinds)))
