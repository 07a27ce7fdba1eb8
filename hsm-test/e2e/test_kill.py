"""Each point of each process: it is killed there, started again, and all must come right.

The programs are the product's own objects, which end themselves by SIGKILL at a point that this test
names (hsm-test/unit/kill_points.h): after each transaction of the store, each hand-out of a job, before
each answer, after each request to a service, each Cryptoki call, each step of the operation log's
writer. A run without a kill finds the points; kill_points.txt lists them, so that one that is new
or gone is seen (PFX_KILL_WRITE=1 writes it). Then each is visited (PFX_KILL_ONLY: those whose line
has this text).

After each visit: the user that it hit is ACTIVE (or what the scenario ends with), and everybody
before is still there; one order, which the simulator counts by the key of the request; one record
in Intune; the keys in the token, by pkcs11-tool, are those of the store, none more and none twice;
pfx-audit verifies an export of the operation log; OpenSSL opens the password with the key in the
token, and the PFX opens with it.

Many visits share a world, one after another, each with a user of its own: every visit begins with
an empty outbox and nothing in flight, and what must hold is looked at over everybody in it after
each one; so what a visit leaves behind is found at its end, on more history than a fresh world has.
Worlds run side by side.
"""

import os
import re
import unittest

import harness
import kill_grid
import kill_scenarios as s


def setUpModule():
    release = os.environ.get("PFX_BUILD_RELEASE")
    if release:
        os.environ["PFX_BUILD"] = release


def table_of(path, begin):
    """The first member of each row of a C table."""
    with open(os.path.join(harness.ROOT, *path.split("/")), encoding="utf-8") as stream:
        text = stream.read()
    table = text[text.index(begin):]
    return re.findall(r'\n    \{"([a-z_.]+)"', table[:table.index("\n};")])


class KillCase(unittest.TestCase):
    def grid(self, scenarios, **how):
        wrong = kill_grid.Grid(**how).all(scenarios)
        if wrong:
            self.fail("%d points: %s" % (len(wrong), "\n".join(wrong)))


class Kill(KillCase):
    maxDiff = None

    def test_main_flow(self):
        self.grid([s.Flow(), s.Lost(), s.Start()])

    def test_every_kind_is_listed(self):
        """A new kind of job or verb must be in a scenario, and so in the list."""
        points = set()
        for names in kill_grid.Points().sure.values():
            points |= names
        missing = []
        for kind in table_of("api/wire/jobs.c", "pfx_wire_jobs[] = {"):
            if kind in EXCUSED:
                continue
            arm = [kind] if kind not in ("up.import_settle", "up.order_settle") else []
            missing += [p for p in ["commit hand-out " + kind, "job %s sent" % kind] + [
                "job %s came" % k for k in arm] if p not in points]
        for begin in ("pfx_wire_admin[] = {", "pfx_wire_broker[] = {"):
            missing += ["req %s came" % verb for verb in table_of("api/wire/verbs_admin.c", begin)
                        if "req %s came" % verb not in points and verb not in EXCUSED]
        self.assertEqual([], missing)


# No scenario brings this about; what kills at it stands beside it.
EXCUSED = {
    "log.reopen": "hsm_oplog_steps, step by step: it needs a log that is damaged first",
}


if __name__ == "__main__":
    unittest.main()
