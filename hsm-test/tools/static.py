"""Static analysis of the product. Fails on every finding that hsm-test/static.txt doesn't explain, and
on every line of that list which nothing is found for any more.

    static.py BUILD TOOL...      cppcheck, gcc (-fanalyzer), tidy (clang-tidy), analyzer (clang's)

BUILD is a folder that CMake has configured; nothing in it needs to be built.
"""

import collections
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
LIST = "hsm-test/static.txt"
TOLD = "hsm-test/static.h"
PRODUCT = ("agent/", "api/", "crypto/", "pkcs11/")
JOBS = len(os.sched_getaffinity(0))

Finding = collections.namedtuple("Finding", "file line check text")
SAID = re.compile(r"^(?P<file>[^\s:][^:\n]*):(?:(?P<line>\d+):)?(?:\d+:)? (?:fatal )?"
                  r"(?:warning|error|performance|portability): (?P<text>.*?)"
                  r"(?: \[CWE-\d+\])? \[(?P<check>[^\]\s]+)\]$", re.M)


class Reason:
    """A line of the list: tool, check, file, what the line of the source has in it, and why."""

    def __init__(self, number, fields):
        self.number, self.used = number, False
        self.tool, self.check, self.file, self.has, self.why = fields

    def explains(self, tool, finding, source):
        here = finding.file.startswith(self.file) if self.file.endswith("/") else (
            finding.file == self.file)
        return (self.tool == tool and finding.check.startswith(self.check) and here
                and (self.has == "*" or self.has in source))


def reasons():
    found = []
    with open(LIST, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip() and not line.startswith("#"):
                fields = [f.strip() for f in line.split("|")]
                if len(fields) != 5 or not all(fields):
                    sys.exit("%s:%d: not five fields with | between them" % (LIST, number))
                found.append(Reason(number, fields))
    return found


def source_line(finding, cache={}):
    if finding.file not in cache:
        with open(finding.file, encoding="utf-8") as stream:
            cache[finding.file] = [""] + stream.read().splitlines()
    return cache[finding.file][finding.line]


def commands(build):
    """{file: (folder, words)}, each source once."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as stream:
        rows = json.load(stream)
    found = {}
    for row in rows:
        name = os.path.relpath(row["file"], ROOT)
        if name.startswith(PRODUCT):
            found.setdefault(name, (row["directory"], shlex.split(row["command"])))
    if len(found) < 200:
        sys.exit("%s knows only %d sources of the product: is it configured?" % (build, len(found)))
    return found


def run(argv, folder=ROOT):
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stdout + done.stderr


def told(name):
    return [] if name == "crypto/result.c" else ["-include", os.path.join(ROOT, TOLD)]


def gcc(name, folder, words):
    words = [w for w in words if w != "-Werror" and not re.fullmatch(r"-O.", w)]
    words[words.index("-o") + 1] = os.devnull
    return run(words + told(name) + ["-fanalyzer", "-fdiagnostics-plain-output", "-fdiagnostics-path-format=none"],
               folder)


def clang_tidy(build, only):
    def one(name, _folder, _words):
        return run(["clang-tidy", "-p", build, "--quiet", "--extra-arg=-Wno-unknown-warning-option",
                    *("--extra-arg=" + w for w in told(name)), *only, name])
    return one


def cppcheck(_build):
    return [run(["cppcheck", "--quiet", "--std=c11", "--language=c",
                 "--enable=warning,performance,portability", "--error-exitcode=0",
                 "--suppress=missingIncludeSystem", "--template={file}:{line}: {severity}: {message}"
                 " [{id}]", "-I.", "-D_GNU_SOURCE", "-D__linux__", "-DPFX_VERSION=\"\"",
                 *(p.rstrip("/") for p in PRODUCT)])]


def each(one):
    def all_of_them(build):
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            return list(pool.map(lambda item: one(build)(item[0], *item[1]), commands(build).items()))
    return all_of_them


# All of .clang-tidy's but the analyzer, which takes five times as long as they do.
OTHERS = "-bugprone-*,-cert-*,-concurrency-*,-misc-*,-performance-*,-portability-*"

TOOLS = {
    "cppcheck": cppcheck,
    "gcc": each(lambda build: gcc),
    "tidy": each(lambda build: clang_tidy(build, ["--checks=-clang-analyzer-*"])),
    "analyzer": each(lambda build: clang_tidy(build, ["--checks=" + OTHERS])),
}


def findings(tool, build):
    found, broken = set(), []
    for code, text in TOOLS[tool](build):
        some = [Finding(os.path.relpath(os.path.join(ROOT, m["file"]), ROOT), int(m["line"] or 0),
                        m["check"], m["text"]) for m in SAID.finditer(text)]
        found.update(f for f in some if f.file.startswith(PRODUCT))
        if code and not some:
            broken.append(text[-2000:])
    return sorted(found), broken


def look(tool, build, known):
    began = time.monotonic()
    found, broken = findings(tool, build)
    new = []
    for finding in found:
        source = source_line(finding)
        match = [r for r in known if r.explains(tool, finding, source)]
        for reason in match:
            reason.used = True
        if not match:
            new.append("%s:%d: %s [%s]\n    %s" % (*finding[:2], finding.text, finding.check, source))
    stale = ["%s:%d: nothing is found for it any more" % (LIST, r.number)
             for r in known if r.tool == tool and not r.used]
    for line in broken + new + stale:
        print(line)
    print("%s: %d findings, %d explained in %s, %.0f s" %
          (tool, len(found), len(found) - len(new), LIST, time.monotonic() - began))
    return not (broken or new or stale)


def main():
    if len(sys.argv) < 3 or not set(sys.argv[2:]) <= set(TOOLS):
        sys.exit(__doc__)
    build = os.path.realpath(sys.argv[1])
    os.chdir(ROOT)
    known = reasons()
    return 0 if all([look(tool, build, known) for tool in sys.argv[2:]]) else 1


if __name__ == "__main__":
    sys.exit(main())
