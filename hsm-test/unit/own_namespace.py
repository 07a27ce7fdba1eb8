"""Runs a test program again in a network and mount namespace of its own: as root only."""

import os
import shutil
import subprocess
import sys

INSIDE = "PFX_TEST_NAMESPACE"


def enter(path):
    """Returns inside; else exits with the program's code, or with 77 (skipped) where it can't be
    done. path: what must be there."""
    if INSIDE in os.environ:
        return
    unshare = ["unshare", "--net", "--mount"]
    able = os.geteuid() == 0 and shutil.which("unshare") and shutil.which("ip") and \
        os.path.exists(path) and subprocess.run(unshare + ["true"], check=False).returncode == 0
    if not able:
        name = os.path.basename(sys.argv[0]).removesuffix(".py")
        print("SKIPPED %s: needs root, unshare, ip and %s" % (name, path))
        sys.exit(77)
    sys.exit(subprocess.run(unshare + [sys.executable, "-B"] + sys.argv,
                            env=dict(os.environ, **{INSIDE: "1"}), check=False).returncode)
