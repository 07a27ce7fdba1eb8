"""Adds up test results for run.sh: lines of outcome, name and reason with tabs between them."""

import os
import re
import sys
import xml.etree.ElementTree

SKIPPED = re.compile(r"^\[  SKIPPED \] ([A-Za-z_]\S*)$", re.M)


def junit(suite, path):
    """Prints a result line for each test of a CTest run, and for each test that cmocka skipped."""
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        name = "%s %s" % (suite, case.get("name"))
        output = "".join(e.text or "" for e in case.iter("system-out"))
        failure = case.find("failure")
        if failure is not None:
            text = " ".join((failure.get("message") or "").split())
            print("failed\t%s\t%s" % (name, text))
            sys.stderr.write("--- %s\n%s\n" % (name, output[-6000:]))
        elif case.find("skipped") is not None or case.get("status") == "disabled":
            print("skipped\t%s\t" % name)
        else:
            print("passed\t%s\t" % name)
        inner = {i.strip().rstrip(".") for i in SKIPPED.findall(output)}
        for test in sorted(inner):
            print("skipped\t%s %s\t" % (name, test))


def closing(path):
    """Names what failed and what was skipped; the closing line; the exit code."""
    rows = []
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            outcome, name, why = (line.rstrip("\n").split("\t") + ["", ""])[:3]
            rows.append((outcome, name, why))
    # What a sanitizer can't run (it has its own allocator and memory map) ran in the release build.
    elsewhere = {n for o, n, _ in rows if o == "skipped" and n.startswith("units-gcc ")}
    ran = {n for o, n, _ in rows if o == "passed"}
    rows = [r for r in rows if not (
        r[0] == "skipped" and r[1].startswith("units-asan ")
        and r[1].replace("asan", "gcc", 1) not in elsewhere
        and " ".join(r[1].replace("asan", "gcc", 1).split()[:2]) in ran)]
    in_ci = os.environ.get("CI") == "true"
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome, name, why in rows:
        if outcome == "skipped" and in_ci:
            outcome, why = "failed", "skipped, which CI forbids: " + why
        count[outcome] += 1
        if outcome != "passed":
            print("%s: %s%s" % (outcome, name, " (%s)" % why if why else ""))
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 0 if count["failed"] == 0 and count["passed"] > 0 else 1


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--junit":
        return junit(sys.argv[2], sys.argv[3])
    if len(sys.argv) == 3 and sys.argv[1] == "--sum":
        return closing(sys.argv[2])
    sys.exit("usage: tally.py --junit SUITE FILE | --sum FILE")


if __name__ == "__main__":
    sys.exit(main())
