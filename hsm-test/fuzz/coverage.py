"""Adds up what llvm-cov counted, for the files of parsers.txt: see coverage.sh."""

import os
import re
import sys

LEAST = 90.0


def parsers(path):
    """file -> {function that is left out: why}; "+": the functions that count, and no others; "!":
    lines that don't count, by a text in the first and perhaps one in the last"""
    files, last = {}, None
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            line = line.rstrip("\n")
            if line.startswith("- "):
                function, why = line[2:].split(":", 1)
                if not why.strip():
                    sys.exit("%s: no reason for leaving out %s" % (path, function))
                files[last][function] = why.strip()
            elif line.startswith("! "):
                text, why = line[2:].rsplit(": ", 1)
                files[last].setdefault("!", []).append(text.split(" ... "))
            elif line.startswith("+ "):
                files[last].setdefault("+", set()).update(line[2:].split())
            elif line and line[0] not in "#?":
                last = line
                files[last] = {}
    return files


def counts(path):
    """file -> (line -> times, function -> first line)"""
    found, at = {}, None
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            key, _, rest = line.rstrip("\n").partition(":")
            if key == "SF":
                at = found.setdefault(rest, ({}, {}))
            elif key == "DA":
                number, times = rest.split(",")[:2]
                at[0][int(number)] = max(at[0].get(int(number), 0), int(times))
            elif key == "FN":
                number, function = rest.split(",", 1)
                at[1][function.split(":")[-1]] = int(number)
    return found


def end_of(source, first):
    """A function ends at the first line behind its head that is a closing brace alone."""
    for number in range(first, len(source) + 1):
        if source[number - 1].rstrip("\n") == "}":
            return number
    return len(source)


def find_line(source, text, start, file):
    for number in range(start, len(source) + 1):
        if text in source[number - 1]:
            return number
    return sys.exit("parsers.txt: %s has no line with %s" % (file, text))


def look(root, file, without, lines, functions):
    with open(os.path.join(root, file), encoding="utf-8") as stream:
        source = stream.readlines()
    only = without.get("+")
    for function in set(without) - {"+", "!"} | (only or set()):
        if function not in functions:
            sys.exit("parsers.txt: %s has no function %s" % (file, function))
    kept = {}
    for function, first in functions.items():
        if function not in without and (not only or function in only):
            for number in range(first, end_of(source, first) + 1):
                if number in lines:
                    kept[number] = lines[number]
    lines = kept
    for texts in without.get("!", []):
        first = find_line(source, texts[0], 1, file)
        last = find_line(source, texts[1], first, file) if len(texts) > 1 else first
        for number in range(first, last + 1):
            lines.pop(number, None)
    missed = sorted(number for number, times in lines.items() if times == 0)
    return len(lines), missed, source


def main(lcov, list_path, root, *options):
    found = counts(lcov)
    show = options[1] if len(options) == 2 and options[0] == "--lines" else None
    files = parsers(list_path)
    low, all_lines, all_missed = [], 0, 0
    print("%-42s %6s %8s %9s" % ("file", "lines", "reached", "covered"))
    for file, without in files.items():
        if os.path.join(root, file) not in found:
            low.append(file)
            print("%-42s isn't in any target" % file)
            continue
        lines, missed, source = look(root, file, without, *found[os.path.join(root, file)])
        share = 100.0 * (lines - len(missed)) / max(lines, 1)
        all_lines += lines
        all_missed += len(missed)
        mark = ""
        if share <= LEAST:
            low.append(file)
            mark = "  too few"
        left_out = ("  (its parsers)" if "+" in without else
                    "  (%d places left out)" % (len(without) - ("!" in without)
                                                + len(without.get("!", [])))
                    if without else "")
        print("%-42s %6d %8d %7.1f %%%s%s" % (file, lines, lines - len(missed), share, left_out,
                                             mark))
        if show and re.search(show, file):
            for number in missed:
                print("    %5d %s" % (number, source[number - 1].rstrip()))
    print("%-42s %6d %8d %7.1f %%" % ("all parsers", all_lines, all_lines - all_missed,
                                      100.0 * (all_lines - all_missed) / all_lines))
    if low:
        print("not over %g %%: %s" % (LEAST, ", ".join(low)))
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
