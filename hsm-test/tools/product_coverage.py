"""Prints how many lines of the product ran in a build with -DPFX_COVERAGE=ON, and each file below the
share that is wanted; fails where the whole is below it.

    product_coverage.py BUILD [--lines FILE]      FILE: print its lines that didn't run
"""

import os
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "hsm-test", "fuzz"))

from coverage import counts  # noqa: E402  (the line above makes it found)

WANTED = 85.0
PRODUCT = ("agent/", "api/", "crypto/", "pkcs11/")
PROGRAMS = ("agent/pfx-agentd", "agent/cli/pfx-agent", "agent/audit/pfx-audit",
            "api/uploader/pfx-uploader", "pkcs11/hsm/pfx-hsm")


def lines_of(build):
    """{file of the product: {line: how often it ran}}, of all its programs and tests."""
    folder = os.path.join(build, "profile")
    counted = [os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".profraw")]
    merged, lcov = os.path.join(build, "all.profdata"), os.path.join(build, "all.lcov")
    # A process that is killed before main leaves an empty file.
    subprocess.run(["llvm-profdata", "merge", "-sparse", "-failure-mode=all", "-o", merged,
                    *counted], check=True)
    programs = [word for p in PROGRAMS for word in ("-object", os.path.join(build, p))]
    with open(lcov, "wb") as out:
        subprocess.run(["llvm-cov", "export", "-format=lcov", "-instr-profile=" + merged,
                        *programs[1:]], stdout=out, check=True)
    found = {os.path.relpath(path, ROOT): lines for path, (lines, _) in counts(lcov).items()}
    return {path: lines for path, lines in found.items() if path.startswith(PRODUCT) and lines}


def sources():
    return {os.path.relpath(os.path.join(folder, name), ROOT)
            for top in PRODUCT for folder, _, names in os.walk(os.path.join(ROOT, top))
            for name in names if name.endswith(".c")}


def main():
    if len(sys.argv) not in (2, 4) or sys.argv[2:3] not in ([], ["--lines"]):
        sys.exit(__doc__)
    files = lines_of(os.path.realpath(sys.argv[1]))
    if len(sys.argv) == 4:
        with open(sys.argv[3], encoding="utf-8") as stream:
            for number, text in enumerate(stream, 1):
                if files[sys.argv[3]].get(number) == 0:
                    print("%5d %s" % (number, text.rstrip()))
        return 0
    share = {path: 100.0 * sum(n > 0 for n in lines.values()) / len(lines)
             for path, lines in files.items()}
    print("%-42s %6s %7s %8s" % ("files below %g %%" % WANTED, "lines", "missed", "reached"))
    for path in sorted(files, key=lambda p: share[p]):
        if share[path] < WANTED:
            missed = sum(n == 0 for n in files[path].values())
            print("%-42s %6d %7d %6.1f %%" % (path, len(files[path]), missed, share[path]))
    # wipe.c isn't in a sanitizer build; the others have tables only.
    print("without lines that could be counted: %s" % ", ".join(sorted(sources() - set(files))))
    every = [n for lines in files.values() for n in lines.values()]
    whole = 100.0 * sum(n > 0 for n in every) / len(every)
    print("%.1f %% of %d lines of the product in %d files ran; %g %% are wanted" %
          (whole, len(every), len(files), WANTED))
    return 0 if whole >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
