"""PFX files of both tiers and both profiles, RSA and EC, read by five programs that aren't ours."""

import base64
import unittest

import oracle
import people
from case import WorldCase, about_keys, kinds, only_on


def group_of(number):
    return "9d0a6c1e-0004-4a00-9000-%012d" % number


@about_keys
class Readers(WorldCase):
    """OpenSSL, keytool, pk12util, certtool and Python's cryptography."""

    # One user each: the user's key, the profile of the PFX, and what stands in its key bag.
    CASES = [(1, "rsa-2048", "modern"), (2, "ec-p256", "modern"), (3, "rsa-2048", "compat"),
             (4, "ec-p256", "compat")]
    KEY_BAGS = {"modern": bytes.fromhex("06092a864886f70d01050d"),     # PBES2
                "compat": bytes.fromhex("060a2a864886f70d010c0103")}   # SHA-1 and triple DES

    def read_by_all(self, tier, users, lowest="transit"):
        groups = {group_of(n): [people.user(n, "Zoë", "Łęcka")] for n, _, _ in self.CASES}
        world = self.make(
            tenant=people.tenant([], groups=groups), users=users,
            rules=[people.rule("%s-%s" % (profile, key), group_of(n), key=key, profile=profile)
                   for n, key, profile in self.CASES],
            policy={"users": {"lowest_tier": lowest, "profiles": ["modern", "compat"]}})
        with self.telling(world):
            world.ready()
            self.assertExit(world.run_once("60s"), 0)
            tiers = {r["tier"] for r in world.enrolments()}
            self.assertEqual(tiers, {tier})
            judge = oracle.Oracle(world)
            sealed = world.sealed()
            self.assertEqual(len(sealed), len(self.CASES))
            for number, key, profile in self.CASES:
                user = people.user(number)["id"].replace("-", "")
                record_id = next(name for name in sealed if name.startswith(user))
                password, certificate = judge.prove(record_id, sealed[record_id], readers=())
                self.assertEqual(type(certificate.public_key()).__name__[1:4].lower(),
                                 {"rsa-2048": "rsa", "ec-p256": "ell"}[key])
                pfx = base64.b64decode(sealed[record_id]["encryptedPfxBlob"])
                self.assertEqual([p for p, bag in self.KEY_BAGS.items() if bag in pfx], [profile])
                for reader in oracle.READERS:
                    with self.subTest(reader=reader, key=key, profile=profile):
                        judge.read_by(reader, password)
            rows = world.cli("status", "--all").out
            self.assertIn("RSA %s, EC %s" % (tier, tier), rows)
            self.assertIn("compat", rows)
        return world

    def test_profile_that_the_policy_does_not_allow(self):
        world = self.ready([people.user(1)], rules=[people.rule(profile="compat")])
        with self.telling(world):
            world.run_once("20s")
            row = world.enrolments()[0]
            # Before a key is made and anything is bought.
            self.assertEqual(row["state"], "FAILED")
            self.assertEqual(world.orders(), [])
            shown = world.cli("enrolment", "show", str(row["enrolment"])).out
            self.assertIn("users.profiles", shown)
            self.assertIn("compat", shown)
            self.assertEqual(world.sealed(), {})

    @only_on("softhsm", why="NSS reaches direct: test_direct_on_nss")
    def test_transit_on_softhsm(self):
        self.read_by_all("transit", "softhsm")

    @unittest.skipIf(kinds.Nss.missing(), kinds.Nss.missing())
    def test_direct_on_nss(self):
        self.read_by_all("direct", "nss", lowest="direct")

    @only_on("softhsm", why="NSS reaches direct: test_direct_on_nss")
    def test_softhsm_is_refused_where_direct_is_the_floor(self):
        world = self.make([people.user(1)], policy={"users": {"lowest_tier": "direct"}})
        with self.telling(world):
            world.prepare()
            world.start_agentd()
            world.start_hsm()
            result = world.cli("init", "--out", world.path("out"), secret=world.pin("encryption"),
                               seconds=180)
            self.assertNotEqual(result.code, 0)
            self.assertIn("direct", result.out + result.err)


if __name__ == "__main__":
    unittest.main()
