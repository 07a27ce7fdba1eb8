"""Two app registrations with a key each in the token, and RS256 by policy."""

import os
import shutil
import unittest

import people
from case import WorldCase

IMPORT = "c11e47a0-0009-4002-8003-000400050006"


class TwoApps(WorldCase):
    """The directory's app can't import, Intune's app can't read the directory."""

    def test_flow(self):
        tenant = people.tenant([people.user(1)])
        main = tenant["apps"][0]
        main["roles"] = ["User.Read.All", "GroupMember.Read.All"]
        tenant["apps"].append({"client_id": IMPORT, "certificates": ["import-certificate.pem"],
                               "roles": ["DeviceManagementConfiguration.ReadWrite.All"]})
        apps = [{"name": "main", "client_id": main["client_id"]},
                {"name": "import", "client_id": IMPORT}]
        world = self.make(tenant=tenant, rules=[people.rule()],
                          settings={"assertion_algs": ["RS256"]},
                          policy={"entra": {"algorithm": "RS256", "apps": apps}},
                          uploader={"entra": {"import_app": "import"}})
        with self.telling(world):
            world.ready()
            own = [world.path("out", "client-%s.crt" % a["name"]) for a in apps]
            with open(own[0], "rb") as one, open(own[1], "rb") as other:
                self.assertNotEqual(one.read(), other.read())
            shutil.copyfile(own[1], os.path.join(world.folder, "import-certificate.pem"))
            self.assertExit(world.run_once("60s"), 0)
            self.assertActive(world, [people.user(1)["userPrincipalName"]])
            self.assertEqual({main["client_id"] + " graph": 1, IMPORT + " graph": 1},
                             world.control("/state")["entra"]["tokens"])
            # A tenant that takes PS256 only refuses, and what mends it is said.
            world.control("/knobs", {"settings": {"assertion_algs": ["PS256"]}})
            world.control("/reset", {"what": ["tokens"]})
            world.run_once("2s")
            log = world.log("uploader")
            self.assertIn("AADSTS5002738", log)
            self.assertIn("set entra.algorithm in hsm-policy.yaml", log)


if __name__ == "__main__":
    unittest.main()
