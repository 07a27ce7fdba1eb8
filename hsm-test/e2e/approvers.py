"""Two people who approve a dangerous command, with SSH keys of their own."""

import os
import re
import subprocess

from case import WorldCase


class ApprovedCase(WorldCase):
    def approvers(self, world):
        """Two people with SSH keys, beside the one who asks."""
        self.keys = [world.path("home", name) for name in ("ann", "bob", "cid")]
        lines = []
        for path in self.keys:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path],
                           check=True, timeout=60)
            with open(path + ".pub", encoding="ascii") as stream:
                lines.append("%s %s" % (os.path.basename(path), stream.read()))
        with open(world.path("conf", "approvers"), "w", encoding="ascii") as stream:
            stream.writelines(lines)
        os.chmod(world.path("conf", "approvers"), 0o644)
        world.changes["policy"]["approvals"] = {
            "mode": "ssh", "roster": world.path("conf", "approvers"),
            "uids": [{"uid": os.geteuid(), "principal": "ann"}]}

    def approve(self, world, refused):
        """Both say yes to what this refusal asks for."""
        question = re.search(r"pfx-agent approve (\w+)", refused.err).group(1)
        for path in self.keys[1:]:
            self.assertExit(world.cli("approve", question, "--key", path, "--yes"), 0)
