"""What a CA or a directory may answer that it shouldn't: named, survived, and the others go on."""

import unittest

import people
from case import WorldCase

DOWNLOAD = {"service": "digicert", "method": "GET", "path_regex": "/certificate/download/"}

# What the download is made to be; whether it is to be taken; words of the sentence.
CERTIFICATES = {
    "foreign_leaf": (False, "key"),
    "expired_cert": (False, "expire"),
    "future_cert": (False, ""),
    "wrong_addresses": (False, "address"),
    "missing_address": (False, "address"),
    "extra_address": (False, "address"),
    "wrong_key_usage": (False, "usage"),
    "other_root": (False, ""),
    "malformed_cert": (False, ""),
    "bad_signature": (False, ""),
    "no_leaf": (False, ""),
    "empty": (False, ""),
    "foreign_leaf_added": (True, ""),
    "leaf_first": (True, ""),
    "leaf_last": (True, ""),
    "shuffled": (True, ""),
    "label_cms": (True, ""),
    "pem": (True, ""),
    "der": (True, ""),
}


CHAIN = ("other_root", "bad_signature")


class Certificates(WorldCase):
    """One user for each fault, and one who has none."""

    def test_each_fault_is_named_and_the_rest_goes_on(self):
        names = list(CERTIFICATES)
        members = [people.user(n) for n in range(1, len(names) + 2)]
        for member in members:  # two addresses, so that one can be missing
            member["proxyAddresses"].append("smtp:alias." + member["mail"])
        world = self.ready(members)
        with self.telling(world):
            for number, name in enumerate(names, 1):
                world.knob(action="certificate", what=name, email=people.user(number)["mail"],
                           times=-1, **DOWNLOAD)
            self.assertExit(world.run_once("20s"), 1)
            rows = {r["upn"]: r for r in world.enrolments()}
            self.assertEqual(rows[people.upn(len(names) + 1)]["state"], "ACTIVE")
            for number, name in enumerate(names, 1):
                taken, words = CERTIFICATES[name]
                row = rows[people.upn(number)]
                with self.subTest(fault=name):
                    if taken:
                        self.assertEqual(row["state"], "ACTIVE", row)
                        continue
                    self.assertEqual(row["state"], "HELD", row)
                    self.assertIn(words, row["why"])
                    self.assertTrue(row.get("next"), row)
            sent = {r["userPrincipalName"] for r in world.records()}
            for number, name in enumerate(names, 1):
                self.assertEqual(people.upn(number) in sent, CERTIFICATES[name][0], name)
            # The CA mends it, and a person says retry: no second order.
            world.control("/knobs", {"clear": True})
            self.assertExit(world.cli("enrolment", "retry", "--state", "HELD"), 0)
            self.until_active(world, [people.upn(n) for n, name in enumerate(names, 1)
                                      if name not in CHAIN])
            self.assertEqual(len(world.orders()), len(members))

    def test_wrong_chain_is_fetched_again_at_retry(self):
        """Only pfx-hsm sees it, with the certificate stored already: retry has to download anew."""
        members = [people.user(n) for n in range(1, len(CHAIN) + 1)]
        world = self.ready(members)
        with self.telling(world):
            for member, name in zip(members, CHAIN):
                world.knob(action="certificate", what=name, email=member["mail"], times=-1,
                           **DOWNLOAD)
            self.assertExit(world.run_once("10s"), 1)
            world.control("/knobs", {"clear": True})
            self.assertExit(world.cli("enrolment", "retry", "--state", "HELD"), 0)
            self.until_active(world, [m["userPrincipalName"] for m in members], 30)
            self.assertEqual(len(world.orders()), len(members))


class Rubbish(WorldCase):
    """Answers that aren't what they should be; the right ones come later."""

    def survives(self, *knobs, users=2, words=()):
        members = [people.user(n) for n in range(1, users + 1)]
        world = self.ready(members)
        with self.telling(world):
            for knob in knobs:
                world.knob(**knob)
            first = world.run_once("4s", seconds=90)
            for word in words:
                self.assertIn(word, first.err + world.cli("status").out + "".join(
                    r.get("why", "") for r in world.enrolments()) + world.log("agentd"))
            world.control("/knobs", {"clear": True})
            if "HELD" in [r["state"] for r in world.enrolments()]:
                # What a person is told: put right what it says, then retry.
                self.assertExit(world.cli("enrolment", "retry", "--state", "HELD"), 0)
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
            self.assertEqual(len(world.orders()), users)

    def test_order_answers_rubbish(self):
        self.survives({"service": "digicert", "method": "POST", "action": "garbage", "after": True})

    def test_order_answers_html(self):
        self.survives({"service": "digicert", "method": "POST", "action": "html", "code": 200,
                       "after": True})

    def test_order_answers_10_mib(self):
        self.survives({"service": "digicert", "method": "POST", "action": "bigbody", "mib": 10,
                       "after": True})

    def test_everything_read_from_the_ca_is_html(self):
        self.survives({"service": "digicert", "method": "GET", "action": "html", "code": 503,
                       "times": 8})

    def test_everything_read_from_the_ca_is_rubbish(self):
        self.survives({"service": "digicert", "method": "GET", "action": "garbage", "times": 6})

    def test_download_of_10_mib(self):
        self.survives(dict(DOWNLOAD, action="bigbody", mib=10, times=2))

    def test_download_cut_off(self):
        self.survives(dict(DOWNLOAD, action="truncate", times=2))

    def test_members_of_wrong_types(self):
        self.survives({"service": "graph", "method": "GET", "path_regex": "/groups/",
                       "action": "wrong_type", "member": "/value", "value": {"no": "list"},
                       "times": 2})

    def test_members_html(self):
        self.survives({"service": "graph", "method": "GET", "path_regex": "/groups/",
                       "action": "html", "code": 200, "times": 2})

    def test_records_rubbish(self):
        self.survives({"service": "graph", "method": "GET",
                       "path_regex": "/userPfxCertificates", "action": "garbage", "times": 2})

    def test_import_html(self):
        self.survives({"service": "graph", "method": "POST", "path_regex": "/userPfxCertificates$",
                       "action": "html", "code": 502, "after": True})

    def test_wrong_api_key(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            self.assertExit(world.set_api_key("not-the-key-of-the-account"), 0)
            world.run_once("3s")
            shown = world.cli("status").out + world.cli("enrolment", "list").out
            self.assertIn("secret set digicert", shown)
            self.assertEqual(world.orders(), [])
            self.assertExit(world.set_api_key(), 0)
            world.cli("enrolment", "retry", "--all")
            self.until_active(world, [people.upn(1)])

    def test_sign_in_refused(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            # The app registration loses its certificate.
            path = world.path(world.tenant["apps"][0]["certificates"][0])
            with open(path, encoding="ascii") as stream:
                certificate = stream.read()
            with open(path, "w", encoding="ascii") as stream:
                stream.write("")
            world.control("/reset", {"what": ["tokens"]})
            result = world.run_once("3s")
            self.assertIn("AADSTS", result.err + world.cli("status").out + world.log("agentd"))
            with open(path, "w", encoding="ascii") as stream:
                stream.write(certificate)
            self.until_active(world, [people.upn(1)])


class Dates(WorldCase):
    """Dates that no calendar has."""

    def test_hire_dates_and_record_dates(self):
        members = [people.user(1, employeeHireDate="not a date"),
                   people.user(2, employeeHireDate="10000-01-01T00:00:00Z"),
                   people.user(3, employeeHireDate="2026-02-30T00:00:00Z"),
                   people.user(4, employeeHireDate="0001-01-01T00:00:00Z"),
                   people.user(5)]
        world = self.ready(members)
        with self.telling(world):
            world.run_once("15s")
            self.assertActive(world, [people.upn(5)])
            # .NET's year 1 means: no date.
            self.assertActive(world, [people.upn(4)])

    def test_record_without_a_readable_end_counts_as_valid(self):
        members = [people.user(1), people.user(2)]
        tenant = people.tenant(members)
        tenant["records"] = [{"userPrincipalName": people.upn(1), "thumbprint": "00" * 20,
                              "intendedPurpose": "smimeSigning", "startDateTime": "-10d",
                              "expirationDateTime": "+300d"}]
        world = self.ready(tenant=tenant, rules=[people.rule()])
        with self.telling(world):
            world.knob(service="graph", method="GET", path_regex="/userPfxCertificates",
                       action="wrong_type", member="/value/0/expirationDateTime",
                       value="99999-99-99T99:99:99Z", times=1)
            world.run_once("10s")
            self.assertActive(world, [people.upn(2)])
            self.assertEqual(len(world.orders()), 1)


if __name__ == "__main__":
    unittest.main()
