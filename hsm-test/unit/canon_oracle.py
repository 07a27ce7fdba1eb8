#!/usr/bin/python3
"""Canonical JSON as Python's json module has it, for crypto_canon.c and crypto_entry.c.

    canon_oracle.py make SEED COUNT   writes `canonical`, `other` and `values`
    canon_oracle.py same FILE         is each line what Python would write for it?

`canonical` has one random object a line. `other` has the same objects in forms that aren't
canonical. `values` tells for each line of `canonical` what a scanner has to find in it:
group, key, kind and value of each member of the object and of the objects in it, in hex.
"""
import json
import random
import sys

DEPTH = 8
LARGEST = 2**53 - 1
# Where UTF-8 and UTF-16 sort differently, and where encodings change their length.
CHARACTERS = ("abcXYZ019 /_-.<>&\x7f\x80\u00e9\u07ff\u0800\u20ac\ud7ff\ue000\ufb33\ufffd\uffff"
              "\u2028\U00010000\U0001f600\U0010ffff")
ESCAPED = "\"\\\b\t\n\f\r\0\x01\x0b\x1f"
NUMBERS = (0, 1, -1, 9, 10, -10, LARGEST, -LARGEST, LARGEST - 1, 1234567890)


def utf16(key):
    return key.encode("utf-16-be")


def ordered(value, order=utf16):
    """Members sorted, at every depth."""
    if isinstance(value, dict):
        return {key: ordered(value[key], order) for key in sorted(value, key=order)}
    if isinstance(value, list):
        return [ordered(item, order) for item in value]
    return value


def text(value, **how):
    return json.dumps(value, **{"ensure_ascii": False, "separators": (",", ":"), **how})


def canonical(value):
    return text(ordered(value))


def random_text(r, characters):
    return "".join(r.choice(characters) for _ in range(r.choice((0, 1, 2, 3, 7, 8, 9, 20, 40))))


def random_key(r):
    """Often like the one before in its first eight bytes."""
    return r.choice(("", "", "a", "samename", "samename-", "\ue000", "\U00010000", "1234567"))\
        + random_text(r, CHARACTERS)


def random_value(r, depth):
    kind = r.randrange(8)
    if kind < 3 or depth >= DEPTH:
        return random_text(r, CHARACTERS + ESCAPED)
    if kind == 3:
        return r.choice(NUMBERS + (r.randrange(-LARGEST, LARGEST + 1),))
    if kind == 4:
        return r.choice((True, False))
    if kind == 5:
        return [random_value(r, depth + 1) for _ in range(r.randrange(4))]
    return random_object(r, depth + 1)


def random_object(r, depth):
    return {random_key(r): random_value(r, depth) for _ in range(r.randrange(6))}


def others(r, value, line):
    """The same object in other words."""
    yield text(ordered(value), separators=(", ", ": "))
    yield json.dumps(ordered(value), separators=(",", ":"))  # ASCII only
    yield text(ordered(value, order=lambda key: key))  # by code point
    yield text({key: value[key] for key in reversed(sorted(value, key=utf16))})
    yield line.replace("/", "\\/")
    yield line.replace("\x7f", "\\u007f")
    yield line.replace("\\u001f", "\\u001F")
    yield line.replace("\\n", "\\u000a")
    yield line + " "
    yield " " + line
    yield line[:-1]
    yield line + "}"
    at = r.randrange(len(line))
    yield line[:at] + r.choice("{}[],:\"0 \\") + line[at:]


def members(value):
    for key in sorted(value, key=utf16):
        yield None, key, value[key]
        if isinstance(value[key], dict):
            for inner in sorted(value[key], key=utf16):
                yield key, inner, value[key][inner]


def told(value):
    if isinstance(value, bool):
        return "bool", str(int(value))
    if isinstance(value, int):
        return "int", str(value)
    if isinstance(value, str):
        return "str", value
    return ("obj" if isinstance(value, dict) else "arr"), canonical(value)


def make(seed, count):
    r = random.Random(int(seed))
    with open("canonical", "w", encoding="utf-8", newline="") as lines,\
            open("other", "w", encoding="utf-8", newline="") as wrong,\
            open("values", "w", encoding="ascii") as values:
        for i in range(int(count)):
            value = random_object(r, 1)
            line = canonical(value)
            assert json.loads(line) == value and "\n" not in line
            lines.write(line + "\n")
            for variant in others(r, value, line):
                # An insertion can give canonical JSON again: a character more in some string.
                try:
                    if "\n" in variant or variant == canonical(json.loads(variant)):
                        continue
                except ValueError:
                    pass
                wrong.write(variant + "\n")
            for group, key, member in members(value):
                kind, is_ = told(member)
                at = "top" if group is None else group.encode().hex()
                values.write(f"{i} {at}|{key.encode().hex()}|{kind}|{is_.encode().hex()}\n")


def same(name):
    with open(name, encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")[:-1]
    for i, line in enumerate(lines):
        if canonical(json.loads(line)) != line:
            sys.exit(f"line {i}: {line}\n   python: {canonical(json.loads(line))}")
    print(len(lines))


if __name__ == "__main__":
    {"make": make, "same": same}[sys.argv[1]](*sys.argv[2:])
