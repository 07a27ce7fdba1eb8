"""--long: each point of what comes after the delivery (see test_kill.py)."""

import unittest

import kill_scenarios as s
import people
from case import LONG
from kill_world import NOBODY, KillWorld
from test_kill import KillCase, setUpModule  # noqa: F401  (unittest looks for it here)

BOXES = [{"PrimarySmtpAddress": "info@" + people.DOMAIN,
          "EmailAddresses": ["SMTP:info@" + people.DOMAIN],
          "permissions": [{"User": people.upn(1), "AccessRights": ["FullAccess"]}]}]


def load_tests(_loader, tests, _pattern):
    return tests if LONG else unittest.TestSuite()


def mailbox_world():
    tenant = people.tenant([NOBODY], issue_delay=0)
    tenant["mailboxes"] = BOXES
    tenant["apps"][0]["roles"].append("Exchange.ManageAsApp")
    tenant["apps"][0]["directory_roles"] = ["Global Reader"]
    return KillWorld(tenant=tenant, rules=[people.rule(
        key="ec-p256", product="secure_email_sponsor", shared_mailboxes=True)], agent={
            "schedule": {"mailboxes_every": "1s"}})


class KillLong(KillCase):
    def test_after_the_delivery(self):
        self.grid([s.Revoke(), s.Remove(), s.Cancel(), s.Away(), s.Setup()], make=lambda: KillWorld(
            rules=[people.rule(key="ec-p256", on_revoked="remove")],
            agent={"schedule": {"validation_every": "200ms"}}))

    def test_keys_that_are_not_kept(self):
        self.grid([s.Discard()], new=True, make=lambda: KillWorld(
            rules=[people.rule(key="ec-p256", purpose="signing")],
            policy={"users": {"after_delivery": {"signing": "destroy"}},
                    "ceilings": {"destroys_per_hour": 100000}}))

    def test_mailboxes(self):
        self.grid([s.Mailboxes()], make=mailbox_world)

    def test_wrapped_keys(self):
        self.grid([s.Wrapped()], make=lambda: KillWorld(policy={"users": {"keys": "wrapped"}}))


if __name__ == "__main__":
    unittest.main()
