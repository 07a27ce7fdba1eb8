"""Runs the end-to-end tests, each module in a process of its own; a line for each test."""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, os.pardir, "tools"))

import tokens as kinds  # noqa: E402  (the lines above make it found)

# Behind each test's name, where it isn't SoftHSM.
ON_TOKEN = "" if kinds.wanted() is kinds.Softhsm else " on " + kinds.wanted().name
MODULE_SECONDS = 1500
TIME_IS_OVER = 124  # exit code of a module that took longer


class Recorder(unittest.TestResult):
    """Prints and stores what comes of each test."""

    def __init__(self, results):
        super().__init__()
        self.results = results
        self.bad = 0
        self.seen = set()
        self.began = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def record(self, outcome, test, why="", text=""):
        name = test.id() + ON_TOKEN
        if (name, outcome) in self.seen:
            return
        self.seen.add((name, outcome))
        why = " ".join(why.split())[:300]
        with open(self.results, "a", encoding="utf-8") as stream:
            stream.write("%s\t%s\t%s\n" % (outcome, name, why))
        mark = {"passed": "ok   ", "failed": "FAIL ", "skipped": "skip "}[outcome]
        print("%s %-70s %5.1f s%s" % (mark, name, time.monotonic() - self.began,
                                      "  " + why if why else ""))
        if text:
            print(text)
        sys.stdout.flush()

    def fail(self, test, error):
        self.bad += 1
        why = str(error[1]).strip()
        self.record("failed", test, why.splitlines()[0] if why else error[0].__name__,
                    self._exc_info_to_string(error, test))

    def addSuccess(self, test):
        if (test.id(), "failed") not in self.seen:
            self.record("passed", test)

    def addError(self, test, err):
        self.fail(test, err)

    def addFailure(self, test, err):
        self.fail(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.fail(subtest, err)
            self.seen.add((test.id(), "failed"))

    def addSkip(self, test, reason):
        if reason.startswith(kinds.NOT_HERE):
            print("n/a   %s%s  %s" % (test.id(), ON_TOKEN, reason))
        else:
            self.record("skipped", test, reason)

    def addExpectedFailure(self, test, err):
        self.fail(test, err)


def only_about_keys(suite):
    """The tests that carry case.about_keys, themselves or by their class."""
    kept = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(only_about_keys(test))
        elif not hasattr(test, "_testMethodName"):
            kept.addTest(test)
        elif getattr(getattr(test, test._testMethodName), "about_keys",
                     getattr(test, "about_keys", False)):
            kept.addTest(test)
    return kept


def run_one(module, results, pattern, about_keys):
    loader = unittest.defaultTestLoader
    if pattern:
        loader.testNamePatterns = ["*%s*" % pattern]
    try:
        suite = loader.loadTestsFromName(module)
    except SystemExit as error:  # a program isn't built
        with open(results, "a", encoding="utf-8") as stream:
            stream.write("failed\t%s\t%s\n" % (module, error))
        return 1
    recorder = Recorder(results)
    if about_keys:
        suite = only_about_keys(suite)
    suite.run(recorder)
    return 1 if recorder.bad else 0


def attempt(module, options):
    """(exit code, output, lines for the results)"""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as results:
        argv = [sys.executable, os.path.abspath(__file__), "--one", module, "--results", results.name]
        if options.pattern:
            argv += ["--pattern", options.pattern]
        if options.about_keys:
            argv.append("--about-keys")
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=MODULE_SECONDS, check=False)
            lines = results.readlines()
            if done.returncode != 0 and not any(line.startswith("failed\t") for line in lines):
                lines.append("failed\t%s\tended with %d\n" % (module, done.returncode))
            return done.returncode, done.stdout.decode("utf-8", "replace"), lines
        except subprocess.TimeoutExpired as error:
            return TIME_IS_OVER, (error.stdout or b"").decode("utf-8", "replace"), (
                results.readlines() +
                ["failed\t%s\tnot done after %d s\n" % (module, MODULE_SECONDS)])


def run_module(module, options):
    """What fails is tried once more, and told: processes are held to deadlines here, on a machine that
    does other things."""
    code, text, lines = attempt(module, options)
    failed = [line.split("\t")[1] for line in lines if line.startswith("failed\t")]
    if failed and code != TIME_IS_OVER:
        text += "".join("failed at the first try: %s\n" % name for name in failed)
        code, more, lines = attempt(module, options)
        text += more
    with open(options.results, "a", encoding="utf-8") as stream:
        stream.writelines(lines)
    return module, code, text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="test_flow, ...; all without")
    parser.add_argument("--results", default=os.devnull)
    parser.add_argument("--log", default=os.devnull)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--pattern", help="only tests with this in their name")
    parser.add_argument("--about-keys", action="store_true",
                        help="only tests whose outcome hangs on the token (case.about_keys)")
    options = parser.parse_args()
    if options.one:
        return run_one(options.one, options.results, options.pattern, options.about_keys)
    modules = options.modules or sorted(
        name[:-3] for name in os.listdir(HERE) if name.startswith("test_") and name.endswith(".py"))
    # The longest first, so that the end isn't one process alone.
    modules.sort(key=lambda m: (m != "test_restart", m))
    worst = 0
    with open(options.log, "w", encoding="utf-8") as log, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in concurrent.futures.as_completed(
                pool.submit(run_module, module, options) for module in modules):
            module, code, text = done.result()
            print("-- %s\n%s" % (module, text), end="", flush=True)
            log.write("-- %s\n%s" % (module, text))
            worst = worst or code
    return worst


if __name__ == "__main__":
    sys.exit(main())
