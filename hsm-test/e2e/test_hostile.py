"""What a hostile pfx-agentd and a hostile pfx-uploader can do, and where it ends: real processes
beside the one that lies, tokens and services as everywhere. SECURITY.md names each of these tests
behind the sentence that it shows. Every byte that the liar was given is searched for key values and
passwords."""

import base64
import hashlib
import json
import os
import ssl
import time
import unittest
import urllib.parse
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

import harness
import oracle
import people
from case import only_on
from liars import (BOSS, SALT, HostileCase, LiarsCa, Middle, b64, order_of, record_of, request, spki,
                   unb64)
from hostile_desk import Desk
from hostile_rig import Tape, Wire


@only_on("softhsm", why="the control reads SoftHSM's files")
class Agentd(HostileCase):
    """pfx-agentd is the liar: pfx-hsm, pfx-uploader and the services are real."""

    @classmethod
    def setUpClass(cls):
        cls.members = [people.user(n) for n in (1, 2, 3)]
        cls.world = world = harness.World(tenant=people.tenant(cls.members), rules=[people.rule()],
                                          policy={"encryption_key": {"type": "rsa-2048"}})
        cls.addClassCleanup(world.close)
        cls.tape = Tape()
        world.prepare()
        cls.hsm = Desk(world.path("run", "hsm"), cls.tape, 60)
        cls.addClassCleanup(cls.hsm.close)
        cls.up = Desk(world.path("run", "uploader"), cls.tape, 60)
        cls.addClassCleanup(cls.up.close)
        world.start_hsm()
        world.init()
        assert world.set_api_key().code == 0
        world.start_uploader()
        cls.hsm.welcome()
        cls.up.welcome()

    def good(self, desk, kind, **body):
        answer = desk.do(kind, **body)
        self.assertEqual(answer["class"], "ok", (answer, self.world.why_not()))
        return answer["body"]

    def issued(self, csr, addresses, public):
        """Ordered and downloaded by the real pfx-uploader."""
        order = self.good(self.up, "up.order", **order_of(csr, addresses))["order_id"]
        harness.wait_for("the certificate", lambda: self.good(
            self.up, "up.order_info", order_id=order)["status"] == "issued")
        return order, self.good(self.up, "up.download", order_id=order, spki=b64(public))

    def ask_key(self, user, addresses, enrolment):
        return self.good(self.hsm, "hsm.key_csr", enrolment=enrolment, attempt=1, user=user,
                         salt=SALT, addresses=addresses, purpose="signing", key_type="rsa-2048",
                         profile="modern")

    def build(self, keyed, user, addresses, enrolment, got):
        return self.hsm.do("hsm.build_seal", enrolment=enrolment, key_ref=keyed["key_ref"],
                           ticket=keyed["ticket"], user=user, salt=SALT, addresses=addresses,
                           purpose="signing", leaf=got["leaf"], chain=got["chain"],
                           friendly_name="x", profile="modern")

    def test_1_any_address_for_any_user(self):
        """It names user and addresses; pfx-hsm holds it to what it named, and logs that it did."""
        user, other = self.members[0], self.members[1]
        keyed = self.ask_key(user["id"], [BOSS], 901)
        _, got = self.issued(unb64(keyed["csr"]), [BOSS], unb64(keyed["spki"]))
        built = self.build(keyed, user["id"], [BOSS], 901, got)
        self.assertEqual(built["class"], "ok", built)
        body = record_of(user, unb64(got["leaf"]), unb64(built["body"]["pfx"]),
                         unb64(built["body"]["sealed"]), key_name=built["body"]["key_name"],
                         provider_name=built["body"]["provider_name"],
                         padding=built["body"]["padding"])
        self.good(self.up, "up.import", **body)
        self.assertIn(body["record_id"], [r["id"] for r in self.world.records()])
        # Afterwards it can change neither the one nor the other.
        self.assertEqual(self.build(keyed, other["id"], [BOSS], 901, got)["class"], "integrity")
        self.assertEqual(self.build(keyed, user["id"], [user["mail"]], 901, got)["class"],
                         "integrity")
        entries = self.world.cli("log", "tail", "--json", "-n", "200")
        names = hashlib.sha256(b"s" * 16 + user["id"].encode()).hexdigest()
        self.assertIn(names, entries.out)
        needles = self.key_needles(self.world)
        record = self.world.sealed()[body["record_id"]]
        self.add_passwords(self.world, needles, {body["record_id"]: record})
        self.assertNothingOn(self.world, needles, self.tape)

    def test_6_one_users_pfx_for_another(self):
        """A sealed password says nothing of whose it is: what was built for one user can be handed
        to another, whose devices then get both."""
        user, other = self.members[1], self.members[2]
        keyed = self.ask_key(user["id"], [user["mail"]], 906)
        _, got = self.issued(unb64(keyed["csr"]), [user["mail"]], unb64(keyed["spki"]))
        built = self.build(keyed, user["id"], [user["mail"]], 906, got)["body"]
        body = record_of(other, unb64(got["leaf"]), unb64(built["pfx"]), unb64(built["sealed"]),
                         key_name=built["key_name"], provider_name=built["provider_name"],
                         padding=built["padding"])
        self.good(self.up, "up.import", **body)
        _, certificate, _, _ = oracle.Oracle(self.world).unpack(
            self.world.sealed()[body["record_id"]])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        self.assertEqual(names.value.get_values_for_type(x509.RFC822Name), [user["mail"]])
        # A kept key is packed as often as the ceiling lets it, each time under another password.
        again = self.build(keyed, user["id"], [user["mail"]], 906, got)["body"]
        self.assertNotEqual(again["sealed"], built["sealed"])
        # The liar itself gets no further: it was given ciphertext.
        needles = self.key_needles(self.world)
        self.add_passwords(self.world, needles, {
            body["record_id"]: self.world.sealed()[body["record_id"]]})
        self.assertNothingOn(self.world, needles, self.tape)

    def test_2_certificates_for_keys_of_its_own(self):
        """pfx-uploader orders any request; such a certificate is never packed by pfx-hsm, but a PFX
        of the liar's own making gets into Intune."""
        mine, user = rsa.generate_private_key(65537, 2048), self.members[1]
        order, got = self.issued(request(mine, BOSS), [BOSS], spki(mine))
        leaf = x509.load_der_x509_certificate(unb64(got["leaf"]))
        self.assertEqual(spki(mine), leaf.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
        keyed = self.ask_key(user["id"], [BOSS], 902)
        built = self.build(keyed, user["id"], [BOSS], 902, got)
        self.assertEqual((built["class"], "body" in built), ("integrity", False))
        password = b"a password of the liar's own"
        pfx = pkcs12.serialize_key_and_certificates(
            b"x", mine, leaf, None, serialization.BestAvailableEncryption(password))
        with open(self.world.path("out", "encryption-key-1.pem"), "rb") as stream:
            public = serialization.load_pem_public_key(stream.read())
        sealed = public.encrypt(password, padding.OAEP(padding.MGF1(hashes.SHA512()),
                                                       hashes.SHA512(), None))
        body = record_of(user, unb64(got["leaf"]), pfx, sealed)
        self.good(self.up, "up.import", **body)
        found = self.world.sealed()[body["record_id"]]
        self.assertEqual(oracle.Oracle(self.world).open_password(found), password)
        # And what it can buy it can cancel or revoke, as anybody's order.
        self.good(self.up, "up.order_revoke", order_id=order, comment="because it can")

    def test_3_reads_and_removes(self):
        """What the app registration may do with members and records, it can have done."""
        users = self.good(self.up, "up.members", group=people.GROUP)["users"]
        self.assertEqual(len(users), 3)
        rows = self.good(self.up, "up.records")["records"]
        for row in rows:
            self.assertTrue(self.good(self.up, "up.remove", record_id=row["id"])["gone"])
        self.assertEqual(self.world.records(), [])
        # Not more: no other place, no other collection, no other host.
        before = len(self.world.control("/log")["requests"])
        for page in ("https://evil.example.com/v1.0/groups/x", self.world.addresses["graph"] +
                     "/v1.0/users", self.world.addresses["graph"] + "/v1.0/groups/../users"):
            self.assertEqual(self.up.do("up.members", group=people.GROUP, page=page)["class"],
                             "refused")
        for record_id in ("..", "../../v1.0/users/" + self.members[2]["id"], "x?y", "x/y"):
            self.assertEqual(self.up.do("up.remove", record_id=record_id)["class"], "refused")
        self.assertEqual(len(self.world.control("/log")["requests"]), before)

    def test_4_no_credential(self):
        """Neither API key nor assertion nor token: after all the work above."""
        self.good(self.up, "up.members", group=people.GROUP)
        text = b"".join(self.tape.parts)
        self.assertNotIn(self.world.api_key.encode(), text)
        self.assertNotIn(b"eyJ", text)  # how every JSON web token begins
        self.assertNotIn(b"client_assertion", text)
        tokens = [r for r in self.world.control("/log")["requests"] if r["service"] == "entra"]
        self.assertTrue(tokens, "nobody signed in: this test would be blind")
        # The doors behind which they lie are others'.
        for socket in ("uploader", "admin"):
            self.assertTrue(os.path.exists(self.world.path("hsm-run", socket)))

    def test_5_notes_of_its_own(self):
        """It can note what never was; the entry says whose word it is, and nothing of pfx-hsm's."""
        note = {"n": 1, "at": int(time.time() * 1000), "event": "order.placed", "outcome": "ok",
                "actor": "self", "order_id": 424242}
        self.good(self.hsm, "hsm.log", notes=[note])
        for event in ("key.make", "pfx.build", "start", "log.begin"):
            answer = self.hsm.do("hsm.log", notes=[dict(note, n=2, event=event)])
            self.assertEqual(answer["class"], "refused", event)
        found = [json.loads(line) for line in self.world.cli(
            "log", "tail", "--json", "-n", "50").out.splitlines() if "424242" in line]
        self.assertEqual([("agentd" in json.dumps(e)) for e in found], [True])


@only_on("softhsm", why="the control reads SoftHSM's files")
class Uploader(HostileCase):
    """pfx-uploader is the liar: pfx-agentd, pfx-hsm and the services are real."""

    @classmethod
    def setUpClass(cls):
        cls.members = [people.user(n) for n in range(1, 5)]
        cls.members[1].update(mail=BOSS, proxyAddresses=["SMTP:" + BOSS])
        cls.world = world = harness.World(tenant=people.tenant(cls.members), rules=[people.rule()],
                                          policy={"encryption_key": {"type": "rsa-2048"}},
                                          agent={"max_orders_per_pass": 3,
                                                 "schedule": {"sweep_every": "1s"}})
        cls.addClassCleanup(world.close)
        world.changes["uploader"] = {"agent_socket": world.path("middle")}
        world.prepare()
        cls.tape = Tape()
        cls.desk = Desk(world.path("middle"), Tape(), 60)
        cls.addClassCleanup(cls.desk.close)
        world.start_all()
        world.init()
        assert world.set_api_key().code == 0
        cls.desk.welcome()
        cls.middle = Middle(world, cls.desk, cls.tape)
        cls.middle.start()

    def setUp(self):
        self.middle.lie.clear()

    def whose(self, upn):
        """The newest enrolment of a user."""
        rows = [r for r in self.world.enrolments() if r["upn"] == upn]
        return max(rows, key=lambda r: r["enrolment"]) if rows else {"state": "none"}

    def request_for(self, public):
        """It has every request that it was to order."""
        for part in b"".join(self.tape.parts).split(b'"csr":"')[1:]:
            csr = unb64(part.split(b'"', 1)[0])
            if x509.load_der_x509_csr(csr).public_key().public_bytes(
                    serialization.Encoding.DER,
                    serialization.PublicFormat.SubjectPublicKeyInfo) == public:
                return csr
        raise AssertionError("no such request was on its line")

    def bought(self, csr, addresses, public):
        """A certificate for a request that it has, for whatever addresses it likes."""
        number = self.desk.do("up.order", **order_of(csr, addresses))["body"]["order_id"]
        harness.wait_for("its certificate", lambda: self.desk.do(
            "up.order_info", order_id=number)["body"]["status"] == "issued")
        return "ok", self.desk.do("up.download", order_id=number, spki=b64(public))["body"], None

    def only(self, *numbers):
        """Lies about the group: just these members are in it."""
        ids = [self.members[n]["id"] for n in numbers]

        def members(body):
            cls, answer, error = self.middle.forward("up.members", body)
            answer["users"] = [u for u in answer["users"] if u["id"] in ids]
            return cls, answer, error
        self.middle.lie["up.members"] = members

    def until(self, upn, state, seconds=90):
        def there():
            self.world.run_once("3s", seconds=60)
            return self.whose(upn)["state"] == state
        harness.wait_for("%s %s, and not %r" % (upn, state, self.whose(upn)), there, seconds, 0.2)

    def test_3_what_it_can_do(self):
        world, middle = self.world, self.middle
        first, boss = self.members[:2]
        with self.telling(world):
            # 1. It says who has which address: pfx-agentd orders what it says, pfx-hsm packs it.
            def members(body):
                cls, answer, error = middle.forward("up.members", body)
                answer["users"] = [dict(u, mail=BOSS, proxies=["SMTP:" + BOSS])
                                   for u in answer["users"] if u["id"] == first["id"]]
                return cls, answer, error
            middle.lie["up.members"] = members
            # 2. It hands in another certificate of the same user, key, addresses and purpose.
            twice = []

            def download(body):
                cls, answer, error = middle.forward("up.download", body)
                if cls != "ok":
                    return cls, answer, error
                public = unb64(body["spki"])
                second = self.bought(self.request_for(public), [BOSS], public)
                twice.extend((answer["leaf"], second[1]["leaf"]))
                return second
            middle.lie["up.download"] = download
            self.until(first["userPrincipalName"], "ACTIVE")
            self.assertEqual(self.whose(first["userPrincipalName"])["addresses"], [BOSS])
            self.assertNotEqual(*twice)
            used = x509.load_der_x509_certificate(unb64(twice[1])).fingerprint(hashes.SHA1()).hex()
            self.assertEqual(self.whose(first["userPrincipalName"])["thumbprint"], used)

            # What it was given on the way: names, requests, the PFX file and its sealed password.
            kept = b"".join(self.tape.parts)
            record = next(r for i, r in world.sealed().items() if used in i)
            for part in (BOSS, record["encryptedPfxBlob"], record["encryptedPfxPassword"]):
                self.assertIn(part.encode(), kept)
            needles = self.key_needles(world)
            self.add_passwords(world, needles, world.sealed())
            self.assertNothingOn(world, needles, self.tape)

            # 3. It imports one user's PFX for another user, and says that all is as it was to be.
            del middle.lie["up.download"]
            self.only(1)
            sent, thief = {}, self.members[2]
            before = {r["id"] for r in world.records()}

            def imported(body):
                sent.update(body)
                stolen = thief["id"].replace("-", "") + body["record_id"][32:]
                cls, _, error = middle.forward("up.import", dict(
                    body, user=thief["id"], upn=thief["userPrincipalName"], record_id=stolen))
                return cls, {"record_id": body["record_id"], "updated": False}, error

            def readback(body):
                record = {name: sent[name] for name in (
                    "thumbprint", "purpose", "upn", "starts", "expires", "provider_name",
                    "key_name", "padding")}
                return "ok", {"present": True, "record": dict(record, id=body["record_id"])}, None
            middle.lie.update({"up.import": imported, "up.import_settle": imported,
                               "up.readback": readback})
            self.until(boss["userPrincipalName"], "ACTIVE")
            new = {r["id"] for r in world.records()} - before
            self.assertEqual([n[:32] for n in new], [thief["id"].replace("-", "")])
            needles = self.key_needles(world)
            self.add_passwords(world, needles, world.sealed())
            self.assertNothingOn(world, needles, self.tape)

            # 4. It says that a certificate was revoked which wasn't, and pfx-agentd tells so.
            order = self.whose(boss["userPrincipalName"])["order_id"]
            middle.lie["up.order_changes"] = lambda body: (
                "ok", {"orders": [{"order_id": order, "status": "revoked"}]}, None)
            number = str(self.whose(boss["userPrincipalName"])["enrolment"])
            harness.wait_for("its word taken for the CA's", lambda: "revoked" in world.cli(
                "enrolment", "show", number).out)

            # 5. It invents members: no more is ordered than max_orders_per_pass.
            orders = len(world.orders())
            middle.lie["up.members"] = lambda body: ("ok", {"users": [
                {"id": "a3000000-0000-4000-8000-%012d" % n, "upn": "ghost%d@x.example.com" % n,
                 "enabled": True, "display": "Ghost", "given": "G", "surname": "Host",
                 "mail": "ghost%d@%s" % (n, people.DOMAIN), "proxies": []}
                for n in range(40)]}, None)
            world.run_once("3s", seconds=60)
            self.assertEqual(len(world.orders()), orders + 3)
            self.assertEqual(sum(r["state"] == "HELD" for r in world.enrolments()), 37)

    def test_2_where_it_ends(self):
        """Another user's certificate, one for other addresses, another authority's: the enrolment is
        held, and nothing is packed."""
        world, middle = self.world, self.middle
        other, user = self.members[2:]
        name = user["userPrincipalName"]
        with self.telling(world):
            self.only(2)
            self.until(other["userPrincipalName"], "ACTIVE")
            number = self.whose(other["userPrincipalName"])["order_id"]
            public = next(x509.load_der_x509_csr(unb64(part.split(b'"', 1)[0])).public_key()
                          for part in b"".join(self.tape.parts).split(b'"csr":"')[1:])
            public = public.public_bytes(serialization.Encoding.DER,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)

            def of_another(body):
                return middle.forward("up.download", dict(body, order_id=number, spki=b64(public)))

            def elsewhere(body):
                mine = unb64(body["spki"])
                return self.bought(self.request_for(mine), [BOSS], mine)

            def of_my_own(body):
                return "ok", LiarsCa(middle.forward("up.download", body)[1]["leaf"]).body, None
            packed = len(world.sealed())
            self.only(3)
            for lie, words in ((of_another, "key"), (elsewhere, "address"), (of_my_own, "chain")):
                middle.lie["up.download"] = lie
                self.until(name, "HELD")
                self.assertIn(words, self.whose(name)["why"])
                self.assertEqual(len(world.sealed()), packed)
                # The next one is asked for with the next lie.
                middle.lie["up.download"] = lambda body: ("transient", None, None)
                self.assertExit(world.cli("enrolment", "retry", str(self.whose(name)["enrolment"])), 0)
            del middle.lie["up.download"]
            self.until(name, "ACTIVE")

    def test_1_its_credentials(self):
        """API key and assertions are its to use: for everything that they are good for."""
        world = self.world
        wire = Wire(world.path("hsm-run", "uploader"), self.tape, 20)
        self.addCleanup(wire.close)

        def ask(verb, **args):
            wire.send("req", id=1, verb=verb, args=args)
            item, end = wire.read(), wire.read()
            self.assertEqual(end["exit"], 0)
            return item["body"]
        key = ask("secret", name="digicert")["value"]
        self.assertEqual(key, world.api_key)
        self.assertExit(world.cli("secret", "set", "cmp", secret="A-secret-of-a-CA-of-one's-own",
                                  option="--fd"), 0)
        self.assertEqual(ask("secret", name="cmp")["value"], "A-secret-of-a-CA-of-one's-own")
        given = ask("assertion", app="main")
        life = json.loads(base64.urlsafe_b64decode(given["assertion"].split(".")[1] + "=="))
        self.assertLessEqual(life["exp"] - life["nbf"], 300)
        self.assertEqual(life["aud"], "%s/%s/oauth2/v2.0/token" % (world.addresses["login"],
                                                                  world.tenant_id))
        context = ssl.create_default_context(cafile=world.path("sim", "tls-ca.pem"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        form = urllib.parse.urlencode({
            "client_id": given["client_id"], "grant_type": "client_credentials",
            "scope": world.addresses["graph"] + "/.default", "client_assertion": given["assertion"],
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"})
        token = json.load(opener.open("%s/%s/oauth2/v2.0/token" % (
            world.addresses["login"], world.tenant_id), form.encode(), 10))["access_token"]
        rows = json.load(opener.open(urllib.request.Request(
            world.addresses["graph"] + "/beta/deviceManagement/userPfxCertificates",
            headers={"Authorization": "Bearer " + token}), timeout=10))
        self.assertEqual(rows["value"], [])
        # Not the credentials of anything else.
        for verb, args in (("secret", {"name": "encryption"}), ("assertion", {"app": "other"})):
            wire.send("req", id=2, verb=verb, args=args)
            self.assertEqual(wire.read()["error"]["class"], "refused")
        self.assertNothingOn(world, self.key_needles(world), self.tape)


if __name__ == "__main__":
    unittest.main()
