"""The whole flow by HTTP/2, with nginx in front of all services."""

import os
import sys
import unittest

import harness
import people
from case import WorldCase

sys.path.insert(0, os.path.join(harness.ROOT, "hsm-test", "tools"))
import fronts  # noqa: E402  (the line above must come first)


class Http2(WorldCase):
    """nginx offers HTTP/2 for each; DigiCert is spoken to by HTTP/1.1 all the same."""

    def test_flow(self):
        members = [people.user(n) for n in range(1, 7)]
        world = self.make(members, settings={"members_page_size": 4, "records_page_size": 2})
        with self.telling(world):
            world.make_tokens()
            world.start_sim()
            ports = {name: fronts.free_port() for name in ("digicert", "login", "graph")}
            nginx = fronts.Nginx(world.path("nginx"), ports)
            self.addCleanup(nginx.close)
            nginx.start(world.path("sim", "tls-server.pem"),
                        {name: "/".join(world.addresses[name].split("/")[:3]) for name in ports})
            for name, port in ports.items():
                path = world.addresses[name].split("/", 3)[3:]
                world.addresses[name] = "/".join(["https://127.0.0.1:%d" % port] + path)
            world.setting(fronts=["127.0.0.1:%d" % ports[n] for n in ("login", "graph")])
            world.write_conf()
            world.start_all()
            world.init()
            self.assertExit(world.set_api_key(), 0)
            # nginx has no answer for a lost one: the import is looked up, then there.
            world.knob(service="graph", method="POST", path_regex="/userPfxCertificates$",
                       action="lose")
            world.run_once("30s")
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
            self.assertEqual({"HTTP/2.0"}, nginx.protocols("graph"))
            self.assertEqual({"HTTP/2.0"}, nginx.protocols("login"))
            self.assertEqual({"HTTP/1.1"}, nginx.protocols("digicert"))


if __name__ == "__main__":
    unittest.main()
