"""The flow of a group whose certificates come from a CA of one's own, by CMP."""

import json
import os
import ssl
import unittest
import urllib.request

import harness
import oracle
import people
from case import WorldCase
from world_conf import merge

SIM_CMP = os.path.join(os.path.dirname(harness.SIM), "cmp.py")
SECRET = "a shared secret of the tests"  # what the simulator begins with


class CmpWorld(harness.World):
    """A world with `ca: cmp`; the CA is a simulator of its own."""

    earlier = []  # orders that the simulator has forgotten

    def start_sim(self):
        super().start_sim()
        folder = self.path("cmp")
        self.spawn("cmp", "/usr/bin/python3", SIM_CMP, "--dir", folder, "--tls",
                   self.path("sim", "tls-server.pem"))
        where = os.path.join(folder, "cmp.json")
        harness.wait_for("the CMP simulator", lambda: os.path.exists(where))
        with open(where, encoding="utf-8") as stream:
            self.cmp = json.load(stream)["url"]
        self.api_key = SECRET

    def uploader_conf(self):
        conf = super().uploader_conf()
        del conf["digicert"]
        return dict(conf, ca="cmp", cmp={"url": self.cmp, "reference": "pfx-agent",
                                         "ca_cert": self.path("cmp", "cmp-issuing.pem")})

    def policy_conf(self):
        conf = super().policy_conf()
        return merge(conf, {"users": {"ca_roots": self.path("cmp", "cmp-root.pem")}})

    def set_api_key(self, key=None):
        return self.cli("secret", "set", "cmp", secret=key or SECRET, option="--fd")

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.cmp.replace("/pkix", path), data=data)
        context = ssl.create_default_context(cafile=self.path("sim", "tls-ca.pem"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)

    def orders(self):
        return self.earlier + [{"thumbprint": thumbprint}
                               for thumbprint in self.ask("/state")["thumbprints"]]

    def knobs(self, **knobs):
        self.earlier = self.orders()
        self.ask("/knobs", knobs)


class Cmp(WorldCase):
    def world(self, count):
        members = [people.user(n) for n in range(1, count + 1)]
        rule = {"name": "staff", "group": people.GROUP, "product": "internal", "purpose": "dual",
                "intune": "encryption"}
        world = CmpWorld(tenant=people.tenant(members), rules=[rule],
                         agent={"max_orders_per_pass": 1})
        self.addCleanup(world.close)
        with self.telling(world):
            world.ready()
        return world, [m["userPrincipalName"] for m in members]

    def with_wrong_secret(self, world):
        """One sentence says what to do, and doing it is enough: the number of the held one."""
        self.assertExit(world.set_api_key("something else"), 0)
        world.run_once("20s")
        rows = world.enrolments()
        self.assertEqual(["HELD"] * 3, [row["state"] for row in rows])
        shown = [world.cli("enrolment", "show", str(row["enrolment"])).out for row in rows]
        self.assertNotIn("something else", "".join(shown) + world.log("uploader"))
        held = [str(row["enrolment"]) for row, text in zip(rows, shown)
                if "pfx-agent secret set cmp" in text]
        self.assertEqual(1, len(held))  # the others are more than a pass may order
        self.assertEqual([], world.orders())
        self.assertExit(world.set_api_key(), 0)
        return held[0]

    def with_a_lost_answer(self, world, others, upns):
        """The order is asked for again, under the same transaction, and none of the others is."""
        world.knobs(answer="lost", times=1)
        self.assertExit(world.cli("enrolment", "release", "--all"), 0)
        self.until_active(world, upns, 60)
        texts = [world.cli("enrolment", "show", number).out for number in others]
        self.assertEqual(1, sum("the answer is lost, looking for it" in text for text in texts))
        state = world.ask("/state")
        self.assertEqual(["p10cr"] * 3, [name for name, _ in state["seen"]])
        self.assertEqual(2, len({transaction for _, transaction in state["seen"]}))
        self.assertEqual(2, len(state["issued"]))

    def test_from_group_to_intune(self):
        world, upns = self.world(3)
        with self.telling(world):
            held = self.with_wrong_secret(world)
            self.assertExit(world.cli("enrolment", "retry", held), 0)
            harness.wait_for("ACTIVE for one", lambda: "ACTIVE" in str(world.states()), 30)
            self.assertEqual(1, len(world.orders()))
            others = [str(row["enrolment"]) for row in world.enrolments()
                      if row["state"] == "HELD"]
            self.assertEqual(2, len(others))
            self.with_a_lost_answer(world, others, upns)
            self.assertEqual([], world.control("/digicert/orders")["orders"])
            judge = oracle.Oracle(world)
            sealed = world.sealed()
            self.assertEqual(3, len(sealed))
            for record_id, record in sealed.items():
                certificate = judge.prove(record_id, record, ("openssl", "cryptography"))[1]
                self.assertIn("pfx-sim internal CA", certificate.issuer.rfc4514_string())


if __name__ == "__main__":
    unittest.main()
