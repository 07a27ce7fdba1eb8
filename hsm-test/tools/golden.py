"""What the probe finds on each kind of token, compared with the files in hsm-test/golden.

    golden.py                     compare all kinds that are installed; a difference is shown
    golden.py --kind nss          one of them; 77 where it can't be had
    golden.py --write             write the files and README's table anew, then look at the difference
    golden.py --readme [--write]  README's table alone, from the files; needs no token

The programs are those of the folder PFX_BUILD (default: build). Versions, serials and paths stay out
of the files; everything else of `pfx-agent hsm test --json` is in them.
"""

import argparse
import difflib
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GOLDEN = os.path.join(ROOT, "hsm-test", "golden")
README = os.path.join(ROOT, "README.md")
BEGIN, END = "<!-- tokens -->", "<!-- /tokens -->"
SKIPPED = 77
PROGRAMS = {"PFX_HSM": "pkcs11/hsm/pfx-hsm", "PFX_AGENT": "agent/cli/pfx-agent",
            "PFX_TOKEN_INIT": "hsm-test/token-init",
            "PFX_HSM_SLOW_MODULE": "hsm-test/hsm_slow_module.so"}
ANEW = "PFX_BUILD=build /usr/bin/python3 hsm-test/tools/golden.py --write"

sys.path.insert(0, HERE)

import tokens  # noqa: E402  (the lines above make it found)


# --- from a token to its file -------------------------------------------------------------------

def probe():
    """In a process of its own, PFX_TOKEN saying the kind: the lines of hsm test --json."""
    sys.path.insert(0, os.path.join(ROOT, "hsm-test", "unit"))
    import hsm_rig
    # Where separate tokens are refused, all roles share one.
    labels = {} if hsm_rig.KIND.keeps_logins_apart else dict.fromkeys(hsm_rig.ROLES, "users")
    rig = hsm_rig.Rig(labels=labels).start()
    try:
        rig.asker("admin").close()
        reader, writer = os.pipe()
        os.write(writer, (rig.pin("encryption") + "\n").encode())
        os.close(writer)
        done = subprocess.run(
            [os.environ["PFX_AGENT"], "hsm", "test", "--json", "--pin-fd", str(reader)],
            pass_fds=(reader,), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=240, check=False,
            env=dict(rig.env, PFX_HSM_SOCKET=os.path.join(rig.run, "admin")))
        os.close(reader)
        if done.returncode not in (0, 1):
            sys.exit("hsm test ends with %d: %s\n%s" % (done.returncode, done.stderr.decode(),
                                                       rig.logged()))
        sys.stdout.write("ROWS\n" + done.stdout.decode())
    finally:
        rig.close()
    return 0


def rows_of(kind):
    """(rows, None), or (None, why this kind can't be had)."""
    argv = [sys.executable, os.path.abspath(__file__), "--probe"]
    if kind is tokens.Opencryptoki:
        argv[1:1] = [os.path.join(HERE, "opencryptoki.py"), sys.executable]
    elif kind.missing():
        return None, kind.missing()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=400, check=False,
                          env=dict(os.environ, PFX_TOKEN=kind.name))
    out = done.stdout.decode()
    if done.returncode == SKIPPED:
        return None, out.replace("skipped:", "").strip()
    if done.returncode != 0 or "ROWS\n" not in out:
        raise SystemExit("%s: the probe ends with %d: %s%s" % (kind.name, done.returncode, out,
                                                              done.stderr.decode()))
    lines = out.split("ROWS\n", 1)[1].splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")], None


def tier_of(row):
    match = re.search(r"type (\S+) leave the token by this tier in the profile (\S+)$", row["text"])
    if not match:
        raise SystemExit("golden.py doesn't understand the tier %r" % row["text"])
    return {"profile": match[2], "keys": match[1], "tier": row["tier"]}


def found(kind, rows):
    """What a golden file holds."""
    roles = {}
    notes = []
    for row in rows:
        role = row.get("role")
        if role is None:
            if not row["text"].startswith("export tier"):  # that is the policy's affair
                notes.append(row["text"])
            continue
        role = roles.setdefault(role, {"mechanisms": [], "tiers": [], "conflicts": [],
                                       "refused": []})
        if row["kind"] == "mechanism":
            role["mechanisms"].append({k: row.get(k, "") for k in ("mechanism", "use", "advertised",
                                                                   "tried")})
        elif row["kind"] == "tier":
            role["tiers"].append(tier_of(row))
        elif row["kind"] in ("conflict", "refused"):
            role["refused" if row["kind"] == "refused" else "conflicts"].append(row["text"])
        elif row["kind"] != "token":  # which holds versions
            notes.append("%s: %s" % (row["role"], row["text"]))
    return {"token": kind.title, "roles": roles, "notes": notes}


def text_of(golden):
    """JSON with one line for each row, so that a difference is one line."""
    def rows(name, entries, last=False):
        body = ",\n".join("        " + json.dumps(e, ensure_ascii=False) for e in entries)
        return '      "%s": [%s]%s' % (name, "\n%s\n      " % body if entries else "",
                                       "" if last else ",")
    lines = ["{", '  "token": %s,' % json.dumps(golden["token"]), '  "roles": {']
    for number, (role, entry) in enumerate(golden["roles"].items(), 1):
        lines.append('    "%s": {' % role)
        lines += [rows(name, entry[name], name == "refused")
                  for name in ("mechanisms", "tiers", "conflicts", "refused")]
        lines.append("    }%s" % ("," if number < len(golden["roles"]) else ""))
    lines += ["  },", '  "notes": %s' % json.dumps(golden["notes"], ensure_ascii=False), "}", ""]
    return "\n".join(lines)


def path_of(kind):
    return os.path.join(GOLDEN, kind.name + ".json")


def stored(kind):
    with open(path_of(kind), encoding="utf-8") as stream:
        return stream.read()


def compare(what, before, now):
    """Shows the difference; True where there is none."""
    if before == now:
        return True
    sys.stdout.writelines(difflib.unified_diff(
        before.splitlines(True), now.splitlines(True), what + " (stored)", what + " (now)", n=1))
    print("\n%s isn't what is found now. If that is right, write it anew and look at the change:\n"
          "    %s" % (what, ANEW))
    return False


# --- README's table -----------------------------------------------------------------------------

COLUMNS = ("token", "user keys in the token", "wrapped user keys", "tier, `modern` (RSA / EC)",
           "tier, `compat` (RSA / EC)", "opens OAEP in the token", "passwords sealed by",
           "log keys", "encryption separate", "verdict")
SHORT = {"rsa-2048": "RSA", "ec-p256": "P-256", "ec-p384": "P-384"}
BLOBS = {"rsa-2048": "RSA", "ec-p256": "EC"}  # one of each stands for all


def working(golden, role, start):
    """What stands behind `start` in the uses of mechanisms that work."""
    return [row["use"][len(start):] for row in golden["roles"][role]["mechanisms"]
            if row["tried"] == "works" and row["use"].startswith(start)]


def tiers(golden, profile):
    by_keys = {t["keys"]: t["tier"] for t in golden["roles"]["users"]["tiers"]
               if t["profile"] == profile}
    return "%s / %s" % (by_keys.get("RSA", "none"), by_keys.get("EC", "none"))


def verdict(golden):
    lacks = []
    for role, entry in golden["roles"].items():
        for text in entry["refused"]:
            lacks.append("%s (%s)" % (role, text.split("it lacks ", 1)[-1].rstrip(".")))
    if lacks:
        return "refused for the role " + "; ".join(lacks)
    tests = any("for tests only" in text.lower() for text in golden["notes"] + [
        c for entry in golden["roles"].values() for c in entry["conflicts"]])
    return "plays all four roles" + (", for tests only" if tests else "")


def table_row(golden):
    made = [SHORT.get(t, t) for t in working(golden, "users", "makes the user key, ")]
    wrapped = [BLOBS.get(t.split(",")[0], t) for t in working(golden, "users", "wrapped user keys, ")
               if t.endswith(", template kept")]
    opens = [h.upper().replace("SHA", "SHA-")
             for h in working(golden, "encryption", "the encryption key opens PFX passwords, ")]
    seals = working(golden, "users", "seals passwords in the token")
    log = (["P-256"] if working(golden, "log", "checkpoints (ECDSA P-256)") else []) + (
        ["Ed25519"] if working(golden, "log", "checkpoints, second signature (Ed25519)") else [])
    separate = not any("not separated" in note for note in golden["notes"])
    return (golden["token"], ", ".join(made) or "none", ", ".join(wrapped) or "none",
            tiers(golden, "modern"), tiers(golden, "compat"),
            ", ".join(opens) or "no: raw RSA, unpadded on the host",
            "the token" if seals else "OpenSSL in pfx-hsm", ", ".join(log) or "none",
            "yes" if separate else "no", verdict(golden))


def table():
    """Turned on its side: a column for each token, a line for each capability."""
    every = [table_row(json.loads(stored(kind))) for kind in tokens.KINDS.values()]
    lines = []
    for number, title in enumerate(COLUMNS):
        lines.append("| %s |" % " | ".join([title if number else ""] + [r[number] for r in every]))
        if number == 0:
            lines.append("|---" * (len(every) + 1) + "|")
    return "\n".join(lines) + "\n"


def readme(write):
    with open(README, encoding="utf-8") as stream:
        text = stream.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        print("README.md lacks the lines %s and %s, between which the table of tokens stands"
              % (BEGIN, END))
        return False
    head, rest = text.split(BEGIN, 1)
    before, tail = rest.split(END, 1)
    now = "\n" + table()
    if write:
        with open(README, "w", encoding="utf-8") as stream:
            stream.write(head + BEGIN + now + END + tail)
        return True
    return compare("the table of tokens in README.md", before, now)


# --- what to do ---------------------------------------------------------------------------------

def programs():
    build = os.environ.get("PFX_BUILD", os.path.join(ROOT, "build"))
    for name, path in PROGRAMS.items():
        os.environ.setdefault(name, os.path.join(os.path.abspath(build), path))
        if not os.path.exists(os.environ[name]):
            raise SystemExit("%s isn't there: build it, or set PFX_BUILD" % os.environ[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(tokens.KINDS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        return probe()
    if options.readme:
        return 0 if readme(options.write) else 1
    programs()
    right = True
    for kind in tokens.KINDS.values():
        if options.kind not in (None, kind.name):
            continue
        rows, why = rows_of(kind)
        if rows is None:
            print("skipped: %s: %s" % (kind.name, why))
            if options.kind:
                return SKIPPED
            right = right and not options.write  # half a table isn't written silently
            continue
        now = text_of(found(kind, rows))
        if options.write:
            with open(path_of(kind), "w", encoding="utf-8") as stream:
                stream.write(now)
            print("written: %s" % path_of(kind))
        else:
            right = compare("hsm-test/golden/%s.json" % kind.name, stored(kind), now) and right
    if options.write:
        right = readme(True) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
