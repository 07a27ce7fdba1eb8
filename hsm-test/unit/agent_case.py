"""What the tests of pfx-agentd share, and a runner that lets them run side by side: they mostly wait,
each in a world of its own."""

import concurrent.futures
import sys
import time
import unittest

from agent_rig import GROUP, Rig

DAY = 86400 * 1000
TESTS = 6  # at once
CASES = 6  # of one test at once


def alone(test):
    """Marks one that measures, or forks: it runs while no other does."""
    test.alone = True
    return test


class FlowCase(unittest.TestCase):
    def rig(self, *args, **kwargs):
        rig = Rig(*args, **kwargs)
        self.addCleanup(rig.close)
        return rig

    def group(self, rig, *names):
        rig.world.groups[GROUP] = [rig.world.user(n) for n in names]
        return rig.world.groups[GROUP]

    def plans(self, items):
        return {i["user"].split("@")[0]: i for i in items if i["kind"] == "plan"}

    def summary(self, items):
        return [i for i in items if i["kind"] == "summary"][0]

    def each(self, cases, one):
        """one(*case) for each, side by side; every case is a subtest. Rigs of a case are its own to
        close: with self.world(...) as rig."""
        cases = list(cases)
        self.assertTrue(cases)
        with concurrent.futures.ThreadPoolExecutor(CASES) as pool:
            futures = [pool.submit(one, *case) for case in cases]
            for case, future in zip(cases, futures):
                with self.subTest(case=case):
                    future.result()

    @staticmethod
    def world(*args, **kwargs):
        return _Closing(*args, **kwargs)


class _Closing:
    def __init__(self, *args, **kwargs):
        self.rig = Rig(*args, **kwargs)

    def __enter__(self):
        return self.rig

    def __exit__(self, *_):
        self.rig.close()


def _tests(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _tests(test)
        else:
            yield test


def _run(test):
    result = unittest.TestResult()
    start = time.time()
    test.run(result)
    bad = result.errors + result.failures
    word = "FAIL" if bad or result.unexpectedSuccesses else "skip" if result.skipped else "ok"
    print("%-4s %5.1f s  %s" % (word, time.time() - start, test.id()), flush=True)
    for part, text in bad:
        print("--- %s\n%s" % (part, text), flush=True)
    return word == "FAIL"


def main():
    """Runs the tests of the program, or those that its arguments name."""
    loader = unittest.defaultTestLoader
    module = sys.modules["__main__"]
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names, module) if names else \
        loader.loadTestsFromModule(module)
    tests = list(_tests(suite))
    mine = [t for t in tests if getattr(getattr(t, t._testMethodName), "alone", False)]
    bad = sum(map(_run, mine))
    with concurrent.futures.ThreadPoolExecutor(TESTS) as pool:
        bad += sum(pool.map(_run, [t for t in tests if t not in mine]))
    print("%d tests, %d failed" % (len(tests), bad))
    sys.exit(1 if bad or not tests else 0)
