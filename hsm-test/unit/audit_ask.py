"""Asking pfx-audit verify, many times in one process (audit_tool) or as the program itself."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

TOOL = os.environ.get("PFX_AUDIT_TOOL", "")
PROGRAM = os.environ.get("PFX_AUDIT", "")


class Answer:
    def __init__(self, answer):
        self.answer = answer
        self.exit = answer["exit"]
        self.findings = answer.get("findings", [])
        self.open = [one["text"] for one in answer.get("not_proven", [])]

    def classes(self, level="tampering"):
        return {one["class"] for one in self.findings if one["level"] == level}

    def texts(self, level=None, entry=None):
        return [one["text"] for one in self.findings
                if level in (None, one["level"]) and entry in (None, one.get("entry"))]

    def __str__(self):
        return json.dumps(self.answer, indent=1)


class Asker:
    """One audit_tool, kept running."""

    def __init__(self, keys):
        self.keys = ",".join(str(key) for key in keys)
        self.process = subprocess.Popen([TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *folders, since="-", until="-", anchor="-", keys=None):
        words = [keys or self.keys, str(since), str(until), str(anchor), *map(str, folders)]
        self.process.stdin.write("\t".join(words).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"pfx-audit's code ended ({self.process.wait()}) on {words}")
        return Answer(json.loads(line))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait() != 0:
            raise AssertionError(f"audit_tool ended with {self.process.returncode}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def key_files(folder, log):
    """The auditor's own copies of the first keys."""
    files = []
    for i, key in enumerate(log.keys):
        files.append(pathlib.Path(folder) / f"{log.host}-{i}.vkey")
        files[-1].write_text(key.line + "\n", encoding="utf-8")
    return files


def run(*arguments):
    """The program itself: exit code, what it prints."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()
