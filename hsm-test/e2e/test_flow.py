"""The flow of a group with real processes on SoftHSM, proven by other people's tools."""

import unittest

import oracle
import people
from case import WorldCase, about_keys


@about_keys
class Flow(WorldCase):
    """From the group to Intune, for each way of keeping keys, each type and product."""

    def prove_all(self, world, count, readers=("openssl", "cryptography")):
        judge = oracle.Oracle(world)
        sealed = world.sealed()
        self.assertEqual(len(sealed), count)
        proofs = []
        for record_id, record in sealed.items():
            proofs.append((record, *judge.prove(record_id, record, readers)))
        self.assertEqual(len({p[1] for p in proofs}), count, "two records share a password")
        return proofs

    def flow(self, users, policy=None, **rule):
        members = [people.user(n) for n in range(1, users + 1)]
        world = self.ready(members, rules=[people.rule(**rule)], policy=policy)
        with self.telling(world):
            self.assertExit(world.run_once("60s"), 0)
            self.assertActive(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
        return world

    def test_token_keys_rsa_2048_mailbox(self):
        world = self.flow(4)
        with self.telling(world):
            for record, password, certificate in self.prove_all(world, 4):
                self.assertEqual(certificate.public_key().key_size, 2048)
                self.assertEqual(len(password), 32)
                self.assertEqual(record["intendedPurpose"], "smimeSigning")
                self.assertEqual(record["paddingScheme"], "oaepSha512")

    def test_wrapped_keys_ec_p256_sponsor(self):
        world = self.flow(3, policy={"users": {"keys": "wrapped"}}, key="ec-p256",
                          product="secure_email_sponsor")
        with self.telling(world):
            for _, _, certificate in self.prove_all(world, 3):
                self.assertEqual(certificate.public_key().curve.name, "secp256r1")

    def test_wrapped_keys_rsa_2048_organization(self):
        world = self.flow(2, policy={"users": {"keys": "wrapped"},
                                     "encryption_key": {"type": "rsa-2048", "oaep": "sha256"}},
                          product="secure_email_organization")
        with self.telling(world):
            for record, _, _ in self.prove_all(world, 2):
                self.assertEqual(record["paddingScheme"], "oaepSha256")

    def test_token_keys_ec_p256_dual(self):
        world = self.flow(2, key="ec-p256", purpose="dual", intune="encryption")
        with self.telling(world):
            for record, _, _ in self.prove_all(world, 2):
                self.assertEqual(record["intendedPurpose"], "smimeEncryption")

    def test_the_larger_key_types(self):
        kinds = ("rsa-3072", "rsa-4096", "ec-p384")
        groups = {"9d0a6c1e-0003-4a00-9000-%012d" % n: [people.user(n)]
                  for n in range(1, len(kinds) + 1)}
        world = self.make(
            tenant=people.tenant([], groups=groups),
            rules=[people.rule(kind, group, key=kind) for kind, group in zip(kinds, groups)],
            policy={"encryption_key": {"type": "rsa-4096", "oaep": "sha384"}})
        with self.telling(world):
            world.ready()
            self.assertExit(world.run_once("120s", seconds=300), 0)
            sizes = set()
            for record, _, certificate in self.prove_all(world, len(kinds)):
                self.assertEqual(record["paddingScheme"], "oaepSha384")
                sizes.add(certificate.public_key().key_size)
            self.assertEqual(sizes, {3072, 4096, 384})

    def test_two_rules_and_a_second_pass(self):
        members = [people.user(n) for n in (1, 2)]
        world = self.ready(members, rules=[
            people.rule("signing", purpose="signing"),
            people.rule("encryption", purpose="encryption")])
        with self.telling(world):
            self.assertExit(world.run_once("60s"), 0)
            purposes = sorted(r["intendedPurpose"] for r in world.records())
            self.assertEqual(purposes, ["smimeEncryption"] * 2 + ["smimeSigning"] * 2)
            orders = len(world.orders())
            self.assertEqual(orders, 4)
            # Nobody needs anything the second time, a new UPN or not.
            world.control("/graph/member", {"change": {
                "id": members[0]["id"], "userPrincipalName": "married@" + people.DOMAIN}})
            self.assertExit(world.run_once("5s"), 0)
            self.assertEqual(len(world.orders()), orders)
            self.assertEqual(len(world.records()), 4)


class Rules(WorldCase):
    """Who is in work, and who isn't."""

    def test_the_quick_start_group(self):
        world = self.ready()
        with self.telling(world):
            dry = world.cli("run", "--once", "--dry-run", "--json")
            self.assertExit(dry, 0)
            plan = {i["user"]: i for i in dry.lines() if i["kind"] == "plan"}
            self.assertEqual(len(plan), 8)
            self.assertEqual(world.orders(), [])
            decisions = {u.split(".")[0]: i["decision"] for u, i in plan.items()}
            self.assertEqual(decisions, {
                "joerg": "order", "zhanna": "order", "alma": "order", "dorian": "skip",
                "mila": "wait", "flurina": "order", "beat": "order", "nora": "skip"})
            alma = next(i for u, i in plan.items() if u.startswith("alma"))
            self.assertEqual(sorted(a.lower() for a in alma["addresses"]), [
                "a.vielnam@contoso.example.com", "alma.vielnam@contoso.example.com",
                "alma@example.com"])
            world.run_once("8s")
            states = {u.split(".")[0]: s for u, s in world.states().items()}
            for name in ("joerg", "zhanna", "alma"):
                self.assertEqual(states[name], ["ACTIVE"])
            self.assertEqual(states["flurina"], ["ORDERED"])
            self.assertEqual(states["beat"][0], "ENDED")
            for name in ("dorian", "mila", "nora"):
                self.assertNotIn("ACTIVE", states.get(name, []))
            flurina = [r for r in world.enrolments() if r["upn"].startswith("flurina")]
            self.assertEqual(flurina[0].get("unvalidated"), ["flurina.tobler@contoso.example.com"])
            # A refused user isn't ordered again at once.
            orders = len(world.orders())
            world.run_once("3s")
            self.assertEqual(len(world.orders()), orders)
            # The address is validated, and the rest follows by itself.
            world.control("/digicert/validate", {"email": "flurina.tobler@contoso.example.com"})
            self.until_active(world, ["flurina.tobler@contoso.example.com"])
            self.assertNothingTwice(world)

    def test_ceilings_hold_orders_until_released(self):
        members = [people.user(n) for n in range(1, 6)]
        world = self.ready(members, agent={"max_orders_per_pass": 2})
        with self.telling(world):
            world.run_once("20s")
            self.assertEqual(len(world.orders()), 2)
            self.assertExit(world.cli("enrolment", "release", "--all"), 0)
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertEqual(len(world.orders()), 5)

    def test_pause_and_resume(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            self.assertExit(world.cli("pause", "--orders"), 0)
            world.run_once("3s")
            self.assertEqual(world.orders(), [])
            self.assertIn("paused", world.cli("status").out)
            self.assertExit(world.cli("resume", "--orders"), 0)
            self.assertExit(world.cli("pause", "--uploads"), 0)
            world.run_once("8s")
            self.assertEqual(len(world.orders()), 1)
            self.assertEqual(world.records(), [])
            self.assertExit(world.cli("resume", "--uploads"), 0)
            self.until_active(world, [people.upn(1)])

    def test_cancel_and_pages(self):
        members = [people.user(n) for n in range(1, 8)]
        world = self.ready(members, digicert={"unvalidated": [people.user(7)["mail"]]},
                           settings={"members_page_size": 2, "records_page_size": 2})
        with self.telling(world):
            world.run_once("10s")
            self.assertActive(world, [m["userPrincipalName"] for m in members[:6]])
            waiting = [r for r in world.enrolments() if r["upn"] == people.upn(7)][0]
            self.assertExit(world.cli("enrolment", "cancel", str(waiting["enrolment"])), 0)
            world.run_once("5s")
            order = [o for o in world.orders() if o["id"] == waiting["order_id"]][0]
            self.assertEqual(order["status"], "canceled")


if __name__ == "__main__":
    unittest.main()
