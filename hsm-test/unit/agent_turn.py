"""Whose turn it is: what is paid for goes before what isn't begun."""

import sys
import time
import unittest

sys.dont_write_bytecode = True
from agent_flow import FlowCase  # noqa: E402
import agent_rig  # noqa: E402


class Turns(FlowCase):
    def test_paid_for_goes_first(self):
        """Keys take long and one is made at a time: the first certificates are packed and imported
        before the last key is made."""
        rig = self.rig(arms=False)
        self.group(rig, *["user%02d" % n for n in range(12)])
        for role in agent_rig.KINDS:
            rig.arms[role] = agent_rig.Arm(rig, role, rig.world.work, capacity=1)
        quick = rig.world.hsm_key_csr

        def slow(body):
            time.sleep(0.3)
            return quick(body)
        rig.world.hsm_key_csr = slow
        _, code, _ = rig.run_once()
        self.assertEqual(code, 0)
        self.assertEqual(rig.states(), ["ACTIVE"] * 12)
        log = rig.arms["hsm"].log
        last_key = max(i for i, kind in enumerate(log) if kind == "hsm.key_csr")
        self.assertLess(log.index("hsm.build_seal"), last_key)


if __name__ == "__main__":
    unittest.main()
