"""Two people who approve a dangerous command, with SSH keys of their own."""

import os
import re
import subprocess

from case import WorldCase


def roster(world):
    """Three people with SSH keys, of whom the first one asks; for a world that isn't ready yet. Their
    private keys' files."""
    keys = [world.path("home", name) for name in ("ann", "bob", "cid")]
    lines = []
    for path in keys:
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
    return keys


class ApprovedCase(WorldCase):
    def approvers(self, world):
        """Two people with SSH keys, beside the one who asks."""
        self.keys = roster(world)

    def approve(self, world, refused):
        """Both say yes to what this refusal asks for."""
        question = re.search(r"pfx-agent approve (\w+)", refused.err).group(1)
        for path in self.keys[1:]:
            self.assertExit(world.cli("approve", question, "--key", path, "--yes"), 0)
