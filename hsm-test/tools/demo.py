"""The quick start's inside: eight users from the group to Intune, and the proof by other tools.

deploy/quickstart.sh installs and builds, then runs this. It works in a private temporary folder,
with SoftHSM tokens and simulated services, and ends every process that it started.
"""

import argparse
import glob
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata

from cryptography import x509

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "e2e"))

import harness  # noqa: E402  (the line above makes it found)
import oracle  # noqa: E402

TERMINAL = sys.stdout.isatty()
COLOUR = TERMINAL and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
UTF8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
TONES = {"good": "\033[32m", "warn": "\033[33m", "bad": "\033[1;31m", "dim": "\033[2m",
         "bold": "\033[1m"}

# Who stands in tenant-quickstart.json, and what must come of it: state, and words of the reason.
EXPECTED = {
    "joerg.gruenwaeldli@contoso.example.com": ("ACTIVE", ""),
    "zhanna.shchukareva@contoso.example.com": ("ACTIVE", ""),
    "alma.vielnam@contoso.onmicrosoft.com": ("ACTIVE", ""),
    "dorian.gesperrt@contoso.example.com": ("skip", "disabled"),
    "mila.morgenroth@contoso.example.com": ("wait", "starts work"),
    "flurina.tobler@contoso.example.com": ("ORDERED", ""),
    "beat.anders@contoso.example.com": ("ENDED", ""),
    "nora.valid@contoso.example.com": ("skip", "record in Intune"),
}
ALMA = {"alma.vielnam@contoso.example.com", "a.vielnam@contoso.example.com", "alma@example.com"}
SETTLED = ("ACTIVE", "ENDED", "HELD", "FAILED", "CANCELED", "skip", "wait")
SHADES = {"ACTIVE": "good", "ENDED": "warn", "HELD": "warn", "FAILED": "bad", "ORDERED": "warn",
          "skip": "dim", "wait": "dim"}


class Different(Exception):
    """Something isn't as it must be."""


def tone(name, text):
    return "%s%s\033[0m" % (TONES[name], text) if COLOUR and name else text


def step(title, text=""):
    mark = "✓" if UTF8 else "*"
    print("%s %-13s %s" % (tone("good", mark), title, tone("dim", text)), flush=True)


def heading(text):
    print("\n" + tone("bold", text), flush=True)


def width(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF"
               else 1 for c in text)


def fit(text, columns):
    """Text of exactly that many columns."""
    while width(text) > columns:
        text = text[:-2] + ("…" if UTF8 else "~")
    return text + " " * (columns - width(text))


def check(result, what, codes=(0,)):
    if result.code not in codes:
        raise Different("%s: %r" % (what, result))
    return result


class Board:
    """The table of the users, redrawn in place on a terminal, printed at changes otherwise."""

    def __init__(self, plan):
        self.rows = {}
        self.drawn = 0
        self.last = None
        for item in plan:
            decision = item["decision"]
            state = decision if decision in ("skip", "wait", "hold", "refuse") else "NEW"
            self.rows[item["user"]] = {"name": item.get("name", item["user"]), "state": state,
                                       "note": item.get("why", "")}

    def update(self, enrolments):
        latest = {}
        for row in enrolments:
            number, old = row["enrolment"], latest.get(row["upn"])
            # A new attempt that waits for its time doesn't hide how the last one ended.
            if old is None or number > old["enrolment"] and not (
                    row["state"] in ("NEW", "WAITING") and old["state"] == "ENDED"):
                latest[row["upn"]] = row
        for upn, row in latest.items():
            entry = self.rows.setdefault(upn, {"name": row.get("name", upn)})
            entry["state"] = row["state"]
            entry["note"] = row.get("why", "")
            if row.get("unvalidated"):
                entry["note"] = "not yet validated: " + ", ".join(row["unvalidated"])
            elif row["state"] == "ACTIVE":
                entry["note"] = "in Intune; %s" % ", ".join(row["addresses"])

    def draw(self):
        picture = [(r["name"], r["state"], r["note"]) for r in self.rows.values()]
        if picture == self.last:
            return
        columns = os.get_terminal_size().columns - 1 if TERMINAL else 110
        if TERMINAL and self.drawn:
            sys.stdout.write("\033[%dA" % self.drawn)
        for index, (name, state, note) in enumerate(picture):
            if not TERMINAL and self.last and index < len(self.last) and \
                    self.last[index] == picture[index]:
                continue
            line = "  %s %s %s" % (fit(name, 28), tone(SHADES.get(state), fit(state, 9)),
                                   tone("dim", fit(note, max(10, columns - 41)).rstrip()))
            print(line + ("\033[K" if TERMINAL else ""))
        sys.stdout.flush()
        self.drawn = len(picture)
        self.last = picture


def start(world):
    started = time.monotonic()
    world.make_tokens()
    step("tokens", "four SoftHSM tokens: encryption, users, service, log")
    world.start_sim()
    step("simulators", "DigiCert, Entra ID and Graph on loopback, real TLS")
    world.write_conf()
    check(world.cli("config", "check", *(world.conf_path(n) for n in (
        "agent.yaml", "uploader.yaml", "hsm-policy.yaml"))), "config check")
    step("config", "agent.yaml, uploader.yaml, hsm-policy.yaml checked")
    world.start_agentd(arms=True)
    world.wait_socket("agentd", world.path("hsm-run", "admin"))
    step("processes", "pfx-agentd, pfx-hsm, pfx-uploader")
    world.init()
    files = " ".join(sorted(os.listdir(world.path("out"))))
    step("init", "keys made in the tokens (%d s); %s" % (time.monotonic() - started, files))
    check(world.set_api_key(), "secret set digicert")
    step("secret", "DigiCert API key sealed to the HSM")


def show_tiers(world):
    result = check(world.cli("hsm", "test", "--json", secret=world.pin("encryption"), seconds=120),
                   "hsm test", (0, 1))
    tiers = {i.get("tier") for i in result.lines() if i["kind"] == "tier" and i.get("tier")}
    tried = [i for i in result.lines() if i["kind"] == "mechanism"]
    works = sum(1 for i in tried if i.get("tried") == "works")
    step("hsm test", "%d mechanisms tried, %d work; export tier: %s"
         % (len(tried), works, ", ".join(sorted(tiers))))
    if "direct" in tiers:
        raise Different("SoftHSM can't reach the tier direct")
    note = "SoftHSM reaches the tier transit only, and its keys are files: it is for tests."
    print("  " + tone("warn", note))


def plan_of(world):
    result = check(world.cli("run", "--once", "--dry-run", "--json"), "run --once --dry-run")
    plan = [i for i in result.lines() if i["kind"] == "plan"]
    if len(plan) != len(EXPECTED):
        raise Different("the plan has %d users, not %d" % (len(plan), len(EXPECTED)))
    if world.orders():
        raise Different("the dry run has ordered something")
    return plan


def run_all(world, board, wait):
    process = subprocess.Popen([harness.program("pfx-agent"), "run", "--once", "--wait",
                                "%ds" % wait, "--json"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=world.environment)
    world.processes["run"] = process
    end = time.monotonic() + wait + 60
    board.draw()
    while process.poll() is None and time.monotonic() < end:
        board.update(world.enrolments())
        board.draw()
        time.sleep(0.3)
    if process.poll() is None:
        raise Different("run --once hasn't ended")
    board.update(world.enrolments())
    board.draw()
    said = process.stderr.read().decode("utf-8", "replace")
    process.stderr.close()
    del world.processes["run"]
    if process.returncode not in (0, 1):
        raise Different("run --once ended with %d: %s" % (process.returncode, said))


def compare(board):
    wrong = []
    for upn, (state, words) in EXPECTED.items():
        row = board.rows.get(upn, {"state": "missing", "note": ""})
        if row["state"] != state or words not in row["note"]:
            wrong.append("%s is %s (%s), must be %s" % (upn, row["state"], row["note"], state))
    if wrong:
        raise Different("; ".join(wrong))
    step("outcomes", "all eight users as they must be")


def prove(world):
    readers = [r for r in oracle.READERS if any(
        os.access(os.path.join(d, r), os.X_OK) for d in os.environ["PATH"].split(":"))]
    readers.append("cryptography")
    judge = oracle.Oracle(world)
    sealed = world.sealed()
    if len(sealed) != 3:
        raise Different("Graph was given %d records, not 3" % len(sealed))
    for record_id, record in sealed.items():
        password, certificate = judge.prove(record_id, record, readers)
        subject = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        if record["userPrincipalName"].startswith("alma"):
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            if {a.lower() for a in names.value.get_values_for_type(x509.RFC822Name)} != ALMA:
                raise Different("alma's certificate has other addresses than hers")
        step("opened", "password (%d characters) by the key in the token: %s"
             % (len(password), subject))
    step("read", "each PFX by " + ", ".join(readers))
    step("matched", "certificates are those that the CA issued, for the keys in the PFX files")
    if world.control("/state")["digicert"]["max_orders_per_key"] > 1:
        raise Different("a key was ordered twice")
    pids = [world.processes["agentd"].pid] + harness.children(world.processes["agentd"].pid)
    found = harness.no_trace_of([world.api_key] + [world.pin(r) for r in harness.ROLES], pids)
    if found:
        raise Different("a secret stands in " + ", ".join(found))
    step("clean", "no PIN or key in any process's arguments or environment")


def ceremony(world):
    """The page that init left, which people sign."""
    page = sorted(glob.glob(world.path("hsm-state", "ceremonies", "*.txt")))[0]
    result = check(world.run(harness.program("pfx-audit"), "ceremony", page, "--key",
                             world.path("out", "log-1.vkey"), "--log", world.path("export")),
                   "pfx-audit ceremony")
    for line in result.out.splitlines()[:2] + [
            line for line in result.out.splitlines()[2:] if line.startswith("PROVEN")]:
        print("  " + line)


def audit(world):
    """What an auditor does, on another machine: an export, the key of the ceremony, a verdict."""
    export, key = world.path("export"), world.path("out", "log-1.vkey")
    check(world.cli("log", "export", export), "log export")
    with open(os.path.join(export, "checkpoint"), encoding="utf-8") as stream:
        size = int(stream.read().split("\n")[1])
    step("exported", "%d entries, as tlog-tiles; the key is the one that init wrote" % size)
    result = check(world.run(harness.program("pfx-audit"), "verify", export, "--key", key),
                   "pfx-audit verify")
    for line in result.out.splitlines():
        print("  " + line)
    step("page", "of the key ceremony, and what it proves:")
    ceremony(world)


def demo(world, wait):
    heading("Set-up")
    start(world)
    show_tiers(world)
    heading("The group: eight users")
    board = Board(plan_of(world))
    run_all(world, board, wait)
    compare(board)
    heading("Status")
    status = check(world.cli("status"), "status", (0, 1))
    columns = os.get_terminal_size().columns - 3 if TERMINAL else 1000
    for line in status.out.splitlines():
        print("  " + (fit(line, columns).rstrip() if width(line) > columns else line))
    heading("Proof, by other people's tools")
    prove(world)
    heading("The operation log, as an auditor sees it")
    audit(world)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    parser.add_argument("--wait", type=int, default=20, help="seconds to wait for the CA")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    began = time.monotonic()
    tenant = json.load(open(harness.QUICKSTART_TENANT, encoding="utf-8"))
    organization = tenant["digicert"]["organizations"][0]["id"]
    world = harness.World(rules=[{
        "name": "staff", "group": sorted(tenant["groups"])[0], "product": "secure_email_sponsor",
        "organization": organization, "purpose": "signing"}])
    code = 1
    try:
        demo(world, options.wait)
        code = 0
    except (Different, AssertionError) as error:
        print("\n%s %s" % (tone("bad", "Not as it must be:"), error))
        print(world.why_not())
    finally:
        world.close(keep=options.keep)
    if options.keep:
        print("kept: %s" % world.folder)
    if code == 0:
        print("\n%s in %d s. Nothing is left running. SoftHSM is for tests and this quick start:\n"
              "no real connector opens what it seals. README.md goes on with the first day on a "
              "real HSM." % (tone("good", "Done"), time.monotonic() - began))
    return code


if __name__ == "__main__":
    sys.exit(main())
