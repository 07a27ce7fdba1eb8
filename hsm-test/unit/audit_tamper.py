#!/usr/bin/env python3
"""Tampering with a small exported log: every byte of each file flipped, each file cut at every length
or taken away, entries dropped, doubled, swapped, rewritten, re-signed with another key, logs and
anchors of other times. Each has to be found, with the right class; the counts are printed.

Bytes are flipped and cut in a log of five entries; PFX_LONG=1: in one with a whole enrolment.

Bytes that nothing signs are listed in HARMLESS, each with the reason why it may be so.
"""
import collections
import concurrent.futures
import copy
import os
import pathlib
import shutil
import sys
import tempfile
import threading

import audit_ask
import export_make as make

LONG = os.environ.get("PFX_LONG") == "1"
STRIDE = int(os.environ.get("PFX_AUDIT_STRIDE", "1"))

# File, JSON member, why a change there can't be found. Everything else must be.
HARMLESS = [
    ("export.json", "made", "when the export was made is the host's word"),
    ("export.json", "software", "which program exported is the host's word"),
    ("anchor.json", "time", "a label has no time: the host's word"),
    ("names.jsonl", "addresses", "entries are bound to the object id only; said in the verdict"),
    ("names.jsonl", "upn", "entries are bound to the object id only; said in the verdict"),
]
# The files that may be taken away: an auditor brings their own, or the verdict names it as not proven.
MAY_GO = {
    "keys": "an auditor brings the keys",
    "checkpoints": "older checkpoints: the newest covers the entries",
    "names.jsonl": "who the users are is then not proven",
    "anchor.json": "that this is the newest copy is then not proven",
    "tail": "no checkpoint covers it",
    "export.json": "a warning; nothing in it is needed",
    "policy": "a warning: the text of the policy isn't there",
    "tile/0": "a warning: entries make the hashes again",
}
# What a change to a file must be called.
CLASSES = {
    "checkpoint": {"signature", "form"},
    "checkpoints": {"signature", "form"},
    "tile/entries": {"tree", "form"},
    "tile/0": {"tree", "form"},
    "tail": {"sequence", "form"},
    "keys": {"form"},
    "policy": {"form"},
    "names.jsonl": {"form"},
    "export.json": {"form"},
    "anchor.json": {"anchor", "form"},
}

failures = []
counts = collections.Counter()
totals = collections.Counter()
lock = threading.Lock()


def fail(text):
    with lock:
        failures.append(text)
        print("FAIL", text)


def kind_of(name):
    for kind in CLASSES:
        if name == kind or name.startswith(kind + "/"):
            return kind
    raise AssertionError(name)


def small_log(keys=None):
    """One enrolment, two kept checkpoints, a tail of two entries."""
    log = make.Log("host-a", seed=7, keys=keys)
    log.begin()
    log.pin(1)
    log.checkpoint()
    log.enrol()
    log.checkpoint()
    log.add("token.login", target__name="users", rv="CKR_OK")
    log.add("stop")
    return log


def smallest_log(keys):
    """Every kind of file, in as few bytes as they take."""
    log = make.Log("host-a", seed=7, keys=keys)
    log.begin()
    log.agentd("enrolment.failed", outcome="device", target__user=log.user())
    log.checkpoint()
    log.add("stop")
    log.add("start", policy__sha256=log.policy)
    log.add("stop")
    return log


def loose_bytes(name, data):
    """Offsets whose change needs not be found."""
    loose = set()
    for file, member, _ in HARMLESS:
        if file != name:
            continue
        at = 0
        while (at := data.find(b'"%s":' % member.encode(), at)) >= 0:
            start = at = at + len(member) + 3
            end = data.index(b"]" if data[start:start + 1] == b"[" else b'"', start + 1)
            loose.update(range(start + 1, end))
    if name == "tail":
        # Nothing covers the last entry, neither a signature nor a prev.
        last = 2 + int.from_bytes(data[:2], "big") + 2
        loose.update(range(last, len(data)))
    return loose


def cut_is_harmless(name, data, length):
    if name in ("export.json", "anchor.json"):
        return length == len(data) - 1  # only the end of the line
    if name == "names.jsonl":
        return length == 0 or data[length - 1:length] == b"\n"  # fewer names
    if name == "tail":
        return length in (0, 2 + int.from_bytes(data[:2], "big"))  # whole records
    return False


def judge(what, kind, name, answer, loose, expected=None):
    expected = expected or CLASSES[kind]
    found = answer.classes() if answer.exit == 6 else set()
    if answer.exit == 6 and found & expected:
        label = "+".join(sorted(found))
    elif loose and answer.exit == 0:
        label = "harmless"
    else:
        label = "MISSED"
        fail(f"{what} of {name}: exit {answer.exit}, classes {sorted(found)}, "
             f"expected one of {sorted(expected)}")
    with lock:
        counts[what, kind, label] += 1
        totals[what] += 1


def every_byte(folder, keys, part, parts):
    """Flips and cuts, each `parts`-th of them from number `part` on."""
    with audit_ask.Asker(keys) as asker:
        n = 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, data = str(path.relative_to(folder)), path.read_bytes()
            kind, loose = kind_of(name), loose_bytes(name, data)
            for at in range(0, len(data), STRIDE):
                n += 1
                if n % parts != part:
                    continue
                flipped = bytearray(data)
                flipped[at] ^= 1 << at % 8
                path.write_bytes(flipped)
                judge("flip", kind, f"{name} byte {at}", asker.ask(folder), at in loose)
                path.write_bytes(data[:at])
                # A checkpoint or bundle that is empty is as good as missing.
                expected = CLASSES[kind] | ({"missing"} if at == 0 else set())
                judge("cut", kind, f"{name} to {at}", asker.ask(folder),
                      cut_is_harmless(name, data, at), expected)
            path.write_bytes(data)


def taken_away(folder, keys):
    with audit_ask.Asker(keys) as asker:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, data = str(path.relative_to(folder)), path.read_bytes()
            kind = kind_of(name)
            path.unlink()
            judge("gone", kind, name, asker.ask(folder), kind in MAY_GO, {"missing"})
            path.write_bytes(data)


# --- whole logs ------------------------------------------------------------------------------------


class Rewriter:
    """Tiles that fit, the old signatures: what somebody without the log key could make."""

    def __init__(self, log, base):
        self.log, self.base = log, base
        self.raw = log.encode()

    def write(self, folder, raw, size=None):
        written = self.log.write(folder)
        changed = copy.copy(self.log)
        changed.entries = [{"_bytes": entry} for entry in raw]
        changed.milestones = []
        for path in (folder / "tile", folder / "checkpoints"):
            shutil.rmtree(path, ignore_errors=True)
        again = changed.write(folder)
        # The old checkpoints over the new entries; one more or fewer of them changes the size.
        if again.size == written.size:
            (folder / "checkpoint").write_bytes(written.newest)
        else:
            (folder / "checkpoint").write_bytes(
                written.newest.replace(f"\n{written.size}\n".encode(), f"\n{again.size}\n".encode(), 1)
                if size else written.newest)


def chained(raw):
    """seq and prev made right again."""
    import json
    prev, done = "0" * 64, []
    for seq, entry in enumerate(raw):
        plain = json.loads(entry)
        plain["seq"], plain["prev"] = seq, prev
        done.append(make.canonical(plain))
        prev = make.leaf(done[-1]).hex()
    return done


def entries_changed(base, keys):
    import json
    log = small_log(own_log.keys)
    rewriter = Rewriter(log, base)
    raw, n = rewriter.raw, len(rewriter.raw)
    ways = []
    for i in range(n):
        ways.append(("dropped", i, raw[:i] + raw[i + 1:]))
        ways.append(("doubled", i, raw[:i + 1] + raw[i:]))
        if i + 1 < n:
            ways.append(("swapped", i, raw[:i] + [raw[i + 1], raw[i]] + raw[i + 2:]))
        plain = json.loads(raw[i])
        plain["up"] += 1
        ways.append(("rewritten", i, raw[:i] + [make.canonical(plain)] + raw[i + 1:]))
    with audit_ask.Asker(keys) as asker:
        for what, i, changed in ways:
            for repaired in (False, True):
                folder = base / "entries"
                shutil.rmtree(folder, ignore_errors=True)
                rewriter.write(folder, chained(changed) if repaired else changed)
                # Another number of entries: the signed size doesn't fit the bundle any more.
                same = len(changed) == n
                expected = {"tree"} if same else {"tree", "form", "missing"}
                answer = asker.ask(folder)
                last = (what == "dropped" and i == n - 1) or (what == "rewritten" and i == n - 1)
                if not repaired and same and not last and "sequence" not in answer.classes():
                    fail(f"{what} entry {i} without repair: no finding of class sequence")
                judge(what, "repaired" if repaired else "as it is", f"entry {i}", answer, False,
                      expected)
                if not same:
                    # The size line changed to fit: then the signature is bad.
                    shutil.rmtree(folder)
                    rewriter.write(folder, chained(changed) if repaired else changed, size=True)
                    judge(what, "size too", f"entry {i}", asker.ask(folder), False, {"signature"})


def check(what, answer, level, expected, entry=None):
    found = answer.classes(level)
    good = expected in found and answer.exit == {"tampering": 6, "finding": 1, "warning": 0}[level]
    if entry is not None:
        good = good and any(one["class"] == expected and one.get("entry") == entry
                            for one in answer.findings)
    if not good:
        fail(f"{what}: exit {answer.exit}, {level} of {sorted(found)}, expected {expected}\n{answer}")
    with lock:
        counts[what, "whole log", expected if good else "MISSED"] += 1
        totals[what] += 1


def other_key(base, keys):
    """Everything rewritten and signed again, by somebody who has another key."""
    with audit_ask.Asker(keys) as asker:
        theirs = small_log()
        theirs.write(base / "foreign")
        check("re-signed, the log names the other key", asker.ask(base / "foreign"), "tampering",
              "key")
        # The log names the right keys, others signed under their names.
        mine = small_log(own_log.keys)
        written = mine.write(base / "named")
        (base / "named/checkpoint").write_bytes(written.note(written.size, theirs.keys))
        check("re-signed under the right name", asker.ask(base / "named"), "tampering", "key")
        # And with the ids of the right keys.
        for fake, real in zip(theirs.keys, mine.keys):
            fake.id = real.id
        (base / "named/checkpoint").write_bytes(written.note(written.size, theirs.keys))
        check("re-signed under the right name and id", asker.ask(base / "named"), "tampering",
              "signature")
        # One of two signatures only.
        for i in range(2):
            (base / "named/checkpoint").write_bytes(written.note(written.size, [mine.keys[i]]))
            check("one of two signatures left out", asker.ask(base / "named"), "tampering",
                  "signature")


def other_times(base, keys):
    """Logs, anchors and kept checkpoints of different moments."""
    old = small_log(own_log.keys)
    new = grown(old)
    fork = grown(old, up=1)
    written_old = old.write(base / "old")
    written_new = new.write(base / "new", anchor=len(new.entries))
    written_fork = fork.write(base / "fork")
    (base / "old.note").write_bytes(written_old.newest)
    (base / "new.note").write_bytes(written_new.newest)
    (base / "fork.note").write_bytes(written_fork.newest)
    with audit_ask.Asker(keys) as asker:
        good = asker.ask(base / "new", since=base / "old.note", anchor=written_new.label())
        if good.exit != 0:
            fail(f"new log since the old checkpoint with its own anchor: {good}")
        check("old log, new anchor", asker.ask(base / "old", anchor=written_new.label()),
              "tampering", "anchor")
        (base / "old/anchor.json").write_bytes((base / "new/anchor.json").read_bytes())
        check("old log, new anchor.json", asker.ask(base / "old"), "tampering", "anchor")
        check("new log, old anchor", asker.ask(base / "new", anchor=written_old.label()), "finding",
              "anchor")
        check("forked log, the other's anchor", asker.ask(base / "fork", anchor=written_new.label()),
              "tampering", "anchor")
        check("another host's anchor",
              asker.ask(base / "new", anchor=written_new.label().replace(
                  written_new.label()[8:16], "00000000")), "tampering", "anchor")
        check("old log, since a newer checkpoint", asker.ask(base / "old", since=base / "new.note"),
              "tampering", "consistency")
        check("forked log, since the other's checkpoint",
              asker.ask(base / "fork", since=base / "new.note"), "tampering", "consistency")
        check("forked log, until the other's checkpoint",
              asker.ask(base / "fork", until=base / "new.note"), "tampering", "consistency")
        # Both are signed by the log's key: a split view.
        (base / "fork/checkpoints").mkdir(exist_ok=True)
        (base / f"fork/checkpoints/{written_new.size:020d}").write_bytes(written_new.newest)
        check("a checkpoint of another view kept", asker.ask(base / "fork"), "tampering",
              "consistency")


def grown(log, up=0):
    """The same log, a stop and a start later."""
    result = copy.copy(log)
    result.entries = list(log.entries)
    result.milestones = list(log.milestones)
    result.signers = dict(log.signers)
    result.up, result.clock = log.up + 1000 + up, log.clock + 1000 + up
    result.start()
    result.enrol()
    return result


own_log = None


def main():
    global own_log
    for variable in ("PFX_AUDIT", "PFX_AUDIT_TOOL"):
        if not os.environ.get(variable):
            print(f"skipped: {variable} isn't set")
            return 77
    scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="audit-tamper-", dir=scratch) as base:
        base = pathlib.Path(base)
        log = own_log = small_log()
        log.write(base / "lawful", tail=2)
        keys = audit_ask.key_files(base, log)
        with audit_ask.Asker(keys) as asker:
            answer = asker.ask(base / "lawful")
            if answer.exit != 0 or answer.classes("finding"):
                fail(f"the lawful log: {answer}")
        if not LONG:
            shutil.rmtree(base / "lawful")
            smallest_log(log.keys).write(base / "lawful", tail=2)
            with audit_ask.Asker(keys) as asker:
                answer = asker.ask(base / "lawful")
                if answer.exit != 0 or answer.classes("finding"):
                    fail(f"the smallest lawful log: {answer}")
        kinds = {kind_of(str(path.relative_to(base / "lawful")))
                 for path in (base / "lawful").rglob("*") if path.is_file()}
        if kinds != set(CLASSES):
            fail(f"files of no kind were tampered with: {sorted(set(CLASSES) - kinds)}")
        parts = os.cpu_count() or 1
        with concurrent.futures.ThreadPoolExecutor(parts) as pool:
            jobs = []
            for part in range(parts):
                shutil.copytree(base / "lawful", base / f"part{part}")
                jobs.append(pool.submit(every_byte, base / f"part{part}", keys, part, parts))
            for job in jobs:
                job.result()
        taken_away(base / "part0", keys)
        entries_changed(base, keys)
        other_key(base, keys)
        other_times(base, keys)

        # The program itself says it, too.
        path = base / "lawful/checkpoint"
        path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n \n", 1))
        code, out, _ = audit_ask.run("verify", base / "lawful", "--key", keys[0], "--key", keys[1])
        if code != 6 or not out.startswith("NOT VERIFIED: tampering"):
            fail(f"pfx-audit verify: exit {code}\n{out}")

    print(f"{'what':12} {'where':14} {'found as':48} variants")
    for (what, kind, label), n in sorted(counts.items()):
        if kind != "whole log":
            print(f"{what:12} {kind:14} {label:48} {n:6}")
    print()
    for (what, kind, label), n in sorted(counts.items()):
        if kind == "whole log":
            print(f"{what:60} {label:14} {n:6}")
    print()
    for file, member, why in HARMLESS:
        print(f"not covered: {member} in {file}: {why}")
    print("not covered: the last entry of tail: no signature and no later entry covers it")
    print(f"{sum(totals.values())} variants, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
