"""Prints sanitizer reports with the names of functions in them: clang's runtime leaves them out
(hsm-test/leaks.c).

    symbolize.py REPORT...
"""

import re
import subprocess
import sys

# "    #0 0x5588d1293594  (/build/pfx-hsm+0x1f5594) (BuildId: 56...)"
FRAME = re.compile(r"^(\s*#\d+ 0x[0-9a-f]+) +\((\S+)\+(0x[0-9a-f]+)\)(?: \(BuildId: \w+\))?$")


def place(module, offset):
    done = subprocess.run(["llvm-symbolizer", "--obj=" + module, "--inlines", offset],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line]
    return ", in ".join("%s %s" % pair for pair in zip(lines[::2], lines[1::2])) or module


def main():
    for path in sys.argv[1:]:
        print("--- " + path)
        with open(path, encoding="utf-8", errors="replace") as stream:
            for line in stream.read().splitlines()[:40]:
                frame = FRAME.match(line)
                print("%s %s" % (frame[1], place(frame[2], frame[3])) if frame else line)


if __name__ == "__main__":
    main()
