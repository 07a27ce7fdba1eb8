"""pfx-uploader takes a record out of Intune, and believes what it sees, not what it is told."""

import sys
import unittest

import uploader_rig
from uploader_rig import Rig


class Removals(Rig):
    def imported(self):
        job = self.import_job()
        self.good("up.import", **job)
        return job["record_id"]

    def methods(self):
        """What was asked of the records since the import."""
        log = self.control("GET", "/log")["requests"]
        asked = [r["method"] for r in log if "/userPfxCertificates" in r["target"]]
        return asked[asked.index("POST") + 1:] if "POST" in asked else asked

    def test_gone(self):
        record = self.imported()
        self.assertEqual({"gone": True}, self.good("up.remove", record_id=record))
        self.assertEqual(["DELETE", "GET"], self.methods())
        self.assertFalse(self.good("up.readback", record_id=record)["present"])

    def test_was_gone_before(self):
        self.assertEqual({"gone": True}, self.good("up.remove", record_id="0" * 32 + "-" + "a" * 40))
        self.assertEqual(["DELETE"], self.methods())

    def test_lingers(self):
        record = self.imported()
        self.setting(delete_lingers=True)
        self.assertEqual({"gone": False}, self.good("up.remove", record_id=record))
        self.assertTrue(self.good("up.readback", record_id=record)["present"])
        self.setting(delete_lingers=False)
        self.assertEqual({"gone": True}, self.good("up.remove", record_id=record))

    def test_lost_and_refused(self):
        record = self.imported()
        self.knob(service="graph", method="DELETE", action="status", code=503, after=True)
        self.bad("lost", "up.remove", record_id=record)
        self.assertEqual({"gone": True}, self.good("up.remove", record_id=record))
        self.knob(service="graph", method="DELETE", action="status", code=403)
        self.bad("refused", "up.remove", record_id=record)

    def test_other_record(self):
        record = self.imported()
        self.setting(delete_lingers=True)
        self.knob(service="graph", method="GET", action="wrong_type", member="/id", value="x")
        self.bad("integrity", "up.remove", record_id=record)

    def test_odd_id(self):
        """An id that would lead elsewhere, on whatever server, is asked for nowhere."""
        before = len(self.control("GET", "/log")["requests"])
        for odd in ("../users/x?y=1", "..", ".", "...", "a/b", "a%2Fb", "a\\b", "a?b", "a#b", "é", " "):
            for kind in ("up.remove", "up.readback"):
                self.bad("refused", kind, "isn't the id of a record", record_id=odd)
        self.bad("refused", "up.import", **self.import_job(record_id="../" * 14))
        self.assertEqual(before, len(self.control("GET", "/log")["requests"]))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    unittest.main()
