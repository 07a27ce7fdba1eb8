"""PFX files of both tiers, RSA and EC, read by five programs that aren't ours."""

import os
import unittest

import harness
import oracle
import people
from case import WorldCase


class Readers(WorldCase):
    """OpenSSL, keytool, pk12util, certtool and Python's cryptography."""

    def read_by_all(self, tier, users, lowest="transit"):
        groups = {people.GROUP: [people.user(1)],
                  people.GROUP2: [people.user(2, "Zoë", "Łęcka")]}
        world = self.make(
            tenant=people.tenant([], groups=groups), users=users,
            rules=[people.rule("rsa", people.GROUP, key="rsa-2048"),
                   people.rule("ec", people.GROUP2, key="ec-p256")],
            policy={"users": {"lowest_tier": lowest}})
        with self.telling(world):
            world.ready()
            self.assertExit(world.run_once("60s"), 0)
            tiers = {r["tier"] for r in world.enrolments()}
            self.assertEqual(tiers, {tier})
            judge = oracle.Oracle(world)
            sealed = world.sealed()
            self.assertEqual(len(sealed), 2)
            kinds = set()
            for record_id, record in sealed.items():
                password, certificate = judge.prove(record_id, record, readers=())
                kinds.add(type(certificate.public_key()).__name__)
                for reader in oracle.READERS:
                    with self.subTest(reader=reader, kind=type(certificate.public_key()).__name__):
                        judge.read_by(reader, password)
            self.assertEqual(len(kinds), 2)
        return world

    def test_transit_on_softhsm(self):
        self.read_by_all("transit", "softhsm")

    @unittest.skipUnless(os.path.exists(harness.SOFTOKN), "libsoftokn3.so isn't installed")
    def test_direct_on_nss(self):
        self.read_by_all("direct", "nss", lowest="direct")

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
