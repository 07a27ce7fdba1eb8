"""What the tests of pfx-audit verify's findings share: a log is made, broken, properly signed, and its
one finding is looked for."""
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import audit_ask
import export_make as make  # noqa: F401  (found by what audit_ask sets; the tests take it from here)


def find(log, event, phase=None, nth=0):
    return [entry for entry in log.entries
            if entry["event"] == event and phase in (None, entry["phase"])][nth]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="audit-meaning-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def verify(self, log, name="log", asked=None, **options):
        self.written = log.write(self.folder / name, **options)
        keys = audit_ask.key_files(self.folder, log)
        with audit_ask.Asker(keys) as asker:
            return asker.ask(self.folder / name, **(asked or {}))

    def clean(self, answer, warnings=0):
        self.assertEqual(answer.exit, 0, answer)
        self.assertEqual(len(answer.findings), warnings, answer)

    def found(self, answer, entry, words, cls="meaning", level="finding"):
        code = {"finding": 1, "warning": 0, "tampering": 6}[level]
        self.assertEqual(answer.exit, code, answer)
        entry = entry if isinstance(entry, (int, type(None))) else \
            next(i for i, one in enumerate(self.written.log.entries) if one is entry)
        hits = [one for one in answer.findings if one["class"] == cls and one["level"] == level
                and one.get("entry") == entry and words in one["text"]]
        self.assertTrue(hits, f"no {level} of {cls} at {entry} with {words!r} in {answer}")
        others = [one for one in answer.findings if one["level"] == level and one not in hits]
        self.assertEqual(others, [], answer)


def main():
    for variable in ("PFX_AUDIT", "PFX_AUDIT_TOOL"):
        if not os.environ.get(variable):
            print(f"skipped: {variable} isn't set")
            sys.exit(77)
    unittest.main(verbosity=1)
