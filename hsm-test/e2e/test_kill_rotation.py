"""Each point of a rotation of the encryption key and of the approvals in it, and of an exposed key's way
out (see test_kill.py): a sample, another one each day (PFX_KILL_SEED says which); with --long all
of them, and those of the standing keys' rotation.

After each visit every record opens with the new key only, the old one isn't in the token, each
approval stands before one deed at most, each deed is done once, and nobody was needed but those who
type the commands and the two who approve. After a compromise everybody has new keys, each old
certificate is revoked once, and those that read old mail stay.
"""

import unittest

import kill_rotation as r
from case import LONG, only_on
from test_kill import KillCase, setUpModule  # noqa: F401  (unittest looks for it here)


@only_on("softhsm", why="its library is asked by the test itself")
class KillRotation(KillCase):
    def test_rebuild_and_approvals(self):
        self.grid([r.Rebuild(), r.Approval()], make=r.RotationWorld, most=12, calls=False,
                  new=not LONG, sample=None if LONG else 8)

    def test_compromise(self):
        self.grid([r.Compromise()], most=4, calls=False, new=not LONG, sample=None if LONG else 3,
                  make=r.Compromise.world)

    if LONG:
        def test_standing_keys(self):
            self.grid([r.Standing()], most=12, calls=False, make=lambda: r.RotationWorld(
                users={"keys": "wrapped"}))


if __name__ == "__main__":
    unittest.main()
