"""Each command line that the README and the guides show is one: the programs' tables take its words.
Nothing is reached, so nothing is done."""

import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir)
PROGRAMS = {"pfx-agent": os.environ.get("PFX_AGENT", ""), "pfx-audit": os.environ.get("PFX_AUDIT", "")}
MISTAKES = ('no verb "', "no option ", "no command ", "needs a verb", "needs: ", "takes only",
            "takes no ", "has no option", "needs a value", "stands there twice", "two dashes")


def commands(text):
    """Of the blocks, line by line, and of what stands between backticks."""
    text = re.sub(r"^```(?!sh\n).*?^```$", "", text, flags=re.S | re.M)
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    lines = [(True, line) for one in blocks for line in one.replace("\\\n", " ").splitlines()]
    lines += [(False, " ".join(one.split())) for one in re.findall(
        r"`(pfx-(?:agent|audit) [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))]
    for whole, line in lines:
        line = re.sub(r"^\w+\$ ", "", line.strip())
        for part in re.split(r"&&|\|", line):
            if re.match(r"\s*pfx-(agent|audit) ", part):
                yield whole, shlex.split(part, comments=True)


class Guides(unittest.TestCase):
    def test_commands(self):
        n = 0
        for path in [os.path.join(ROOT, "README.md")] + sorted(
                glob.glob(os.path.join(ROOT, "deploy", "guide", "*.md"))):
            with open(path, encoding="utf-8") as stream:
                found = list(commands(stream.read()))
            for whole, words in found:
                with self.subTest(os.path.basename(path), command=" ".join(words)):
                    self.taken(words, whole)
                    n += 1
        self.assertGreater(n, 60)

    def taken(self, words, whole=True):
        """whole: with its operands; a sentence names a command without them."""
        with tempfile.TemporaryDirectory(prefix="pfx-guides-") as folder:
            nowhere = os.path.join(folder, "none")
            environment = dict(os.environ, PFX_AGENT_SOCKET=nowhere, PFX_HSM_SOCKET=nowhere,
                               PFX_LOG_DIR=nowhere, HOME=folder)
            done = subprocess.run([PROGRAMS[words[0]], *words[1:]], cwd=folder, env=environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=60, check=False,
                                  start_new_session=True)
        text = done.stderr.decode("utf-8", "replace")
        for mistake in MISTAKES:
            if whole or mistake != "needs: ":
                self.assertNotIn(mistake, text)

    def test_mistakes_are_seen(self):
        for line in ("pfx-agent key rotat", "pfx-agent key rotate 2", "pfx-agent key activate",
                     "pfx-agent key rotate --adop x", "pfx-agent key retire 1 --out x",
                     "pfx-audit ceremon x", "pfx-audit ceremony x --kay y", "pfx-audit ceremony"):
            with self.subTest(line), self.assertRaises(AssertionError):
                self.taken(line.split())


if __name__ == "__main__":
    if not all(PROGRAMS.values()):
        print("skipped: PFX_AGENT or PFX_AUDIT isn't set")
        sys.exit(77)
    unittest.main()
