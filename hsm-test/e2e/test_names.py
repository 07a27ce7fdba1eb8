"""Names and addresses that aren't plain, from the directory to the PFX that openssl reads."""

import unittest

import oracle
import people
from case import WorldCase

IDN = "b\u00fccher.example"
IDN_ASCII = "xn--bcher-kva.example"


class Names(WorldCase):
    def read(self, world):
        """{UPN: (addresses, subject)} of every PFX, as openssl shows them."""
        judge = oracle.Oracle(world)
        found = {}
        for record_id, record in world.sealed().items():
            password, _, _, _ = judge.unpack(record)
            judge.read_by("openssl", password)
            pem = oracle.call(["openssl", "pkcs12", "-in", judge.path("pfx"), "-passin",
                               "file:" + judge.path("password"), "-clcerts", "-nokeys"])
            text = oracle.call(["openssl", "x509", "-noout", "-ext", "subjectAltName"],
                               stdin=pem).decode()
            subject = oracle.call(["openssl", "x509", "-noout", "-subject", "-nameopt",
                                   "multiline,utf8"], stdin=pem).decode()
            names = [part.strip() for part in text.split("\n")[1].split(", ")]
            self.assertTrue(all(n.startswith("email:") for n in names), names)
            lines = dict(line.strip().split(" = ", 1) for line in subject.splitlines()[1:])
            found[record["userPrincipalName"]] = (
                sorted(n[len("email:"):] for n in names),
                {k.strip(): v for k, v in lines.items()})
        return found

    def plan(self, world):
        result = world.cli("run", "--once", "--dry-run", "--json")
        self.assertExit(result, 0)
        return {i["user"]: i for i in result.lines() if i["kind"] == "plan"}

    def test_names_and_addresses(self):
        """Written, or refused by name before it costs anything; the rest goes on."""
        aliases = ["smtp:alias%02d@%s" % (n, people.DOMAIN) for n in range(63)]
        strange = "anna+a&b=c%d'e@"
        mailboxes = [
            people.user(1, mail="anna+smime@" + people.DOMAIN),
            people.user(2, mail="Tim.O'Neil@" + people.DOMAIN),
            people.user(3, mail="erika@" + IDN, proxyAddresses=[
                "SMTP:erika@" + IDN, "smtp:Erika@" + IDN_ASCII.upper(),
                "smtp:e.muster@stra\u00dfe.example", "SIP:erika@" + IDN]),
            people.user(4, proxyAddresses=aliases),
            people.user(5, proxyAddresses=aliases + ["smtp:one.more@" + people.DOMAIN]),
            people.user(6, mail="j\u00f6rg@" + people.DOMAIN),
            people.user(7, mail='"a b"@' + people.DOMAIN),
            people.user(8, mail="a_{b}!#$%&*/=?^`|~-c@" + people.DOMAIN),
            people.user(9, mail="erika\u200b@" + people.DOMAIN),
            people.user(10, mail=strange + IDN),
        ]
        addresses = {
            1: ["anna+smime@" + people.DOMAIN], 2: ["Tim.O'Neil@" + people.DOMAIN],
            3: ["e.muster@xn--strae-oqa.example", "erika@" + IDN_ASCII],
            4: [people.upn(4)] + [a[len("smtp:"):] for a in aliases],
            8: ["a_{b}!#$%&*/=?^`|~-c@" + people.DOMAIN], 10: [strange + IDN_ASCII]}
        written = {
            21: ("J\u00fcrgen", "Gro\u00df", "Juergen", "Gross"),
            22: ("\u0422\u0430\u0442\u044c\u044f\u043d\u0430",
                 "\u0414\u043e\u0441\u0442\u043e\u0435\u0432\u0441\u043a\u0430\u044f", "Tatana",
                 "Dostoevskaa"),
            23: ("\u10d2\u10d8\u10dd\u10e0\u10d2\u10d8",
                 "\u10d1\u10d4\u10e0\u10d8\u10eb\u10d4", "Giorgi", "Beridze"),
            24: ("Nguye\u0302\u0303n", "O\u2019Brien-\u0141uk", "Nguyen", "O'Brien-Luk"),
            25: ("\u3055\u304f\u3089", "\u200e\u3044\u3068\u3046", "Sakura", "Itou"),
        }
        refused = {
            31: ("\u592a\u90ce", "\u5c71\u7530", "Chinese characters"),
            32: ("Suharto", None, "no surname"),
            33: ("Anna", "Muster \U0001f642", "U+1F642"),
            34: ("Anna", "\u202eretsuM", "turns the text around"),
            35: ("\u0dc1\u0dca\u0dbb\u0dd3", "Perera", "no ASCII form"),
            36: ("A" * 40, "B" * 40, "common name"),
            37: ("Anna\u0007", "Muster", "U+FFFD"),
        }
        names = [people.user(n, given=v[0], surname=v[1])
                 for n, v in {**written, **refused}.items()]
        world = self.ready(
            tenant=people.tenant([], groups={people.GROUP: mailboxes, people.GROUP2: names}),
            rules=[people.rule(key="ec-p256"),
                   people.rule("sponsored", people.GROUP2, "secure_email_sponsor", key="ec-p256")])
        with self.telling(world):
            plan = self.plan(world)
            whys = {5: "more than 64", 6: "outside ASCII", 7: "quoted", 9: "\\u{200B}",
                    **{n: v[2] for n, v in refused.items()}}
            for number, why in whys.items():
                item = plan[people.upn(number)]
                self.assertEqual(item["decision"], "refuse", item)
                self.assertIn(why, item["why"])
                self.assertIn("Next: ", item["why"])
            # What will stand in it is seen before it is paid for.
            self.assertIn("written as Juergen Gross", plan[people.upn(21)]["why"])
            self.assertEqual(world.orders(), [])
            # An order whose answer is lost is found again by an address that a URL has to escape.
            world.knob(service="digicert", action="lose", method="POST", path_regex="/order/",
                       email=strange + IDN_ASCII)
            self.assertExit(world.run_once("60s"), 1, *[w for w in whys.values() if "u{" not in w])
            self.assertActive(world, [people.upn(n) for n in (*addresses, *written)])
            self.assertEqual(len(world.orders()), len(addresses) + len(written))
            self.assertNothingTwice(world)
            found = self.read(world)
            for number, wanted in addresses.items():
                self.assertEqual(found[people.upn(number)][0], sorted(wanted))
            for number, (_, _, given, surname) in written.items():
                own, subject = found[people.upn(number)]
                self.assertEqual(own, [people.upn(number)])
                self.assertEqual((subject["givenName"], subject["surname"]), (given, surname))


class SharedMailboxes(WorldCase):
    """From Exchange's answers to the SANs in the PFX."""
    read = Names.read
    BOXES = [{"PrimarySmtpAddress": "sales@" + people.DOMAIN,
              "EmailAddresses": ["SMTP:sales@" + people.DOMAIN, "smtp:verkauf@" + IDN],
              "permissions": [{"User": people.upn(1).upper(), "AccessRights": ["FullAccess"]},
                              {"User": people.upn(3), "AccessRights": ["ReadPermission"]},
                              {"User": "NT AUTHORITY\\SELF", "AccessRights": ["FullAccess"]}]},
             {"PrimarySmtpAddress": "info@" + people.DOMAIN,
              "EmailAddresses": ["SMTP:info@" + people.DOMAIN],
              "permissions": [{"User": people.upn(1), "AccessRights": ["FullAccess"]},
                              {"User": people.upn(2), "AccessRights": ["FullAccess"],
                               "Deny": True}]}]

    def boxes(self, members, **agent):
        """A world up to the point where a run can start."""
        tenant = people.tenant(members)
        tenant["mailboxes"] = self.BOXES
        tenant["apps"][0]["roles"].append("Exchange.ManageAsApp")
        tenant["apps"][0]["directory_roles"] = ["Global Reader"]
        world = self.make(tenant=tenant, settings={"exchange_page_size": 1}, agent=agent)
        with self.telling(world):
            world.make_tokens()
            world.start_sim()
            world.changes["uploader"]["exchange"] = {"url": world.addresses["exchange"]}
            world.write_conf()
            world.start_all()
            world.init()
            self.assertExit(world.set_api_key(), 0)
        return world

    def test_shared_mailboxes(self):
        """Who may open one has its addresses; nobody is enrolled with fewer because Exchange can't
        be read. The names are of other languages, and the setting says so."""
        chinese = people.user(2, given="\u5c0f\u660e", surname="\u738b")
        russian = people.user(3, given="\u041c\u0438\u0448\u0430",
                              surname="\u0429\u0435\u0440\u0431\u0430\u043a\u043e\u0432")
        world = self.boxes([people.user(1), chinese, russian], rules=[
            people.rule(key="ec-p256", product="secure_email_sponsor", shared_mailboxes=True)],
            names={"transliteration": "Russian-Latin/BGN; Han-Latin/Names; Any-Latin; de-ASCII; "
                                      "Latin-ASCII"})
        with self.telling(world):
            world.knob(service="exchange", action="status", code=403, times=-1)
            self.assertExit(world.run_once("5s"), 1, "mailboxes")
            self.assertEqual(world.orders(), [])
            self.assertIn("never read", world.cli("status").out)
            world.control("/knobs", {"clear": True, "settings": {"exchange_page_size": 1}})
            self.assertExit(world.run_once("60s"), 0)
            self.assertNotIn("never read", world.cli("status").out)
            found = self.read(world)
            self.assertEqual({u: a for u, (a, _) in found.items()}, {
                people.upn(1): sorted([people.upn(1), "sales@" + people.DOMAIN,
                                       "verkauf@" + IDN_ASCII, "info@" + people.DOMAIN]),
                people.upn(2): [people.upn(2)], people.upn(3): [people.upn(3)]})
            self.assertEqual([(s["givenName"], s["surname"]) for _, s in
                              (found[people.upn(n)] for n in (2, 3))],
                             [("Xiao Ming", "Wang"), ("Misha", "Shcherbakov")])


if __name__ == "__main__":
    unittest.main()
