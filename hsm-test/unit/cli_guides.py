"""Each command line that the README, the guides and the programs' own sentences show is one: the tables of
verbs take its words. Nothing is reached, so nothing is done."""

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


LITERALS = r'"(?:[^"\\\n]|\\.)*"(?:\s*(?:[A-Z][A-Za-z0-9_]*\s*)?"(?:[^"\\\n]|\\.)*")*'
# What a sentence says of the program; labels and names; verbs that no list shows.
PROSE = {"and", "asks", "doesn't", "isn't", "knows", "needs", "user", "cmp", "completion", "man"}


def sentences(text):
    """The string literals of a C file, each as the compiler joins it."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    for found in re.findall(LITERALS, text):
        parts = re.findall(r'"((?:[^"\\\n]|\\.)*)"', found)
        yield "".join(parts).replace("\\n", "\n").replace('\\"', '"')


def told(text):
    """The commands in a sentence: verb and options, as far as they stand there."""
    for rest in re.findall(r"pfx-agent ([^;:,()\n]+)", text):
        words = [w.rstrip(".`'\"") for w in rest.split()]
        if not words or words[0] in PROSE or re.search(r"^[a-z ]+ v\d", rest):
            continue  # a file's first line, such as "pfx-agent pins v2"
        verb = [w for w in words[:2] if "%" not in w]
        options = []
        for word in words[len(verb):]:
            if re.fullmatch(r"--[a-z-]+", word):
                options.append(word)
            elif not re.fullmatch(r"[A-Z0-9-]+|%.*", word):
                break
        yield verb, options


class Guides(unittest.TestCase):
    def test_sentences(self):
        """Those of the sources: what a message says to do next."""
        verbs = self.verbs()
        n = 0
        for path in glob.glob(os.path.join(ROOT, "*", "**", "*.[ch]"), recursive=True):
            if path.startswith(os.path.join(ROOT, "hsm-test")) or "/build" in path:
                continue
            with open(path, encoding="utf-8") as stream:
                found = [one for text in sentences(stream.read()) for one in told(text)]
            for words, options in found:
                with self.subTest(os.path.basename(path), command=" ".join(words + options)):
                    self.known(verbs, words, options)
                    n += 1
        self.assertGreater(n, 200)

    def verbs(self):
        """{verb: its options}, as the completion has them; a noun has its verbs."""
        page = subprocess.run([PROGRAMS["pfx-agent"], "completion"], stdout=subprocess.PIPE, check=True,
                              timeout=60).stdout.decode()
        return {name: set(words.split()) for name, words in re.findall(r"^    '(.*?)'\*?\) all='(.*)' ;;$",
                                                                       page, re.M)}

    def known(self, verbs, words, options):
        """A verb, or a noun with a verb; a format's %s may stand for either."""
        if not words:
            return
        if words[0] not in verbs:
            self.fail("no verb of pfx-agent")
        if not any(o.startswith("--") for o in verbs[words[0]]):  # a noun
            if len(words) == 1:
                return
            self.assertIn(words[1], verbs[words[0]])
            words = [" ".join(words[:2])]
        self.assertLessEqual(set(options), verbs[words[0]])

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
        verbs = self.verbs()
        for text in ("do it (pfx-agent kee status).", "pfx-agent key states says", "pfx-agent config example "
                     "--as hsm-policy", "pfx-agent enrolment list --dry-run shows", "pfx-agent run --once --yes"):
            with self.subTest(text), self.assertRaises(AssertionError):
                for words, options in told(text):
                    self.known(verbs, words, options)


if __name__ == "__main__":
    if not all(PROGRAMS.values()):
        print("skipped: PFX_AGENT or PFX_AUDIT isn't set")
        sys.exit(77)
    unittest.main()
