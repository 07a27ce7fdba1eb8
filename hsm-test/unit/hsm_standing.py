"""pfx-hsm: standing keys that rotate while the earlier one is still there; on real tokens."""

import json
import os
import time
import unittest

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

import hsm_rig as rig
from hsm_approval import Person
from hsm_flow import verify_jwt
from hsm_log_rig import audited, export
from hsm_rig import Rig, only_on, tokens, unb64


def states(items):
    return {i["name"]: i["state"] for i in items if i["kind"] == "key"}


class Standing(unittest.TestCase):
    def admin(self, r, verb, **args):
        items, end = r.admin(verb, **args)
        self.assertEqual(end["exit"], 0, (end, items, r.logged()[-4000:]))
        return items

    def refused(self, r, verb, says, exit_code=4, **args):
        items, end = r.admin(verb, **args)
        self.assertEqual(end["exit"], exit_code, (end, items))
        self.assertRegex(end["error"]["text"], says)

    def assertion(self, r, pem):
        items, end = r.broker("assertion", app="main")
        self.assertEqual(end["exit"], 0, (end, r.logged()[-4000:]))
        verify_jwt(self, items[0]["assertion"], pem, pss=True)

    def labels(self, r, role, kind):
        return sorted(line.split(":", 1)[1].strip() for line in r.p11(
            role, "--list-objects", "--type", kind).decode("utf-8", "replace").splitlines()
            if line.strip().startswith("label:"))

    def test_client_key(self):
        r = Rig().start()
        try:
            first = next(i for i in r.init() if i["kind"] == "certificate")["pem"]
            self.assertEqual(states(self.admin(r, "standing.list"))["client-main-1"], "active")
            self.refused(r, "standing.destroy", "is active: all that is new", name="client-main-1")
            self.refused(r, "standing.activate", "no such key", 2, name="client-main-2")
            self.refused(r, "standing.rotate", "no such key", 2, name="client-main-1")
            self.refused(r, "standing.rotate", "no such key", 2, name="log")
            self.refused(r, "standing.rotate", "no such key", 2)

            made = self.admin(r, "standing.rotate", name="client-main")[0]
            self.assertEqual((made["name"], made["state"], made["file"]),
                             ("client-main-2", "staged", "client-main-2.crt"))
            second = made["pem"]
            with open(os.path.join(r.state, made["file"]), encoding="ascii") as f:
                self.assertEqual(f.read(), second)
            keys = [x509.load_pem_x509_certificate(p.encode()).public_key().public_numbers()
                    for p in (first, second)]
            self.assertNotEqual(*keys)
            self.assertIn("pfx-agent client-main-2", self.labels(r, "service", "privkey"))
            self.assertion(r, first)  # nothing uses it yet
            self.refused(r, "standing.rotate", "client-main-2 is staged already", name="client-main")

            self.admin(r, "standing.activate", name="client-main-2")
            self.assertion(r, second)
            self.assertEqual(states(self.admin(r, "standing.list")),
                             dict(states(self.admin(r, "standing.list")),
                                  **{"client-main-1": "previous", "client-main-2": "active"}))
            # The way back, and on again; over a start of the program, too.
            self.admin(r, "standing.activate", name="client-main-1")
            self.assertion(r, first)
            self.admin(r, "standing.activate", name="client-main-2")
            self.assertEqual(r.stop(), 0)
            r.start()
            self.assertion(r, second)

            # A ceremony finds what is in force and makes nothing.
            again = r.init()
            self.assertIn("client-main-2", {i["name"] for i in again if i["kind"] == "key"})
            self.assertFalse([i for i in again if i["kind"] in ("key", "certificate")
                              and i["text"].startswith("made")])

            with open(os.path.join(r.state, "standing"), "rb") as f:
                older = f.read()
            self.admin(r, "standing.destroy", name="client-main-1")
            for kind in ("privkey", "pubkey"):
                self.assertNotIn("pfx-agent client-main-1", self.labels(r, "service", kind))
                self.assertIn("pfx-agent client-main-2", self.labels(r, "service", kind))
            self.refused(r, "standing.activate", "client-main-1 is destroyed", name="client-main-1")
            self.assertion(r, second)
            self.file_of(r, older)
        finally:
            self.assertEqual(r.close(), 0)

    def build(self, r, keyed, enrolment, **changes):
        leaf = r.ca.issue(unb64(keyed["csr"]), purpose="signing")
        return r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain(), enrolment,
                                                           **changes))

    def builds(self, r, keyed, enrolment, **changes):
        answer = self.build(r, keyed, enrolment, **changes)
        self.assertEqual(answer["class"], "ok", (answer, r.logged()[-3000:]))
        built = answer["body"]
        password = r.open_sealed(unb64(built["sealed"]))
        key = pkcs12.load_key_and_certificates(unb64(built["pfx"]), password)[0]
        self.assertEqual(key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            unb64(keyed["spki"]))

    def approve(self, r, people, name, **count):
        """Only two people together can have a key destroyed whose loss would lose user keys."""
        for person in people[1:]:
            _, end = r.admin("standing.destroy", name=name, **count)
            self.assertEqual((end["exit"], end["error"]["code"]), (4, "approval"), end)
            question = end["error"]["object"]
            shown = r.admin("approval.show", id=question)[0][0]
            self.assertEqual(json.loads(shown["args"])["key"], name)
            self.assertEqual(r.admin("approval.give", id=question, signature=person.sign(
                shown["statement"]))[1]["exit"], 0)
        self.admin(r, "standing.destroy", name=name, **count)

    def rewrap(self, r, keyed, enrolment, **changes):
        body = dict(r.ask_body(enrolment), key_ref=keyed["key_ref"], ticket=keyed["ticket"])
        del body["profile"]
        return r.agent.do("hsm.rewrap", **dict(body, **changes))

    def test_wrapping_and_mac(self):
        r = Rig(keys="wrapped")
        people = [Person(r.dir, name) for name in ("ann", "bob", "cid")]
        roster = os.path.join(r.dir, "approvers")
        with open(roster, "w", encoding="ascii") as f:
            f.writelines(f"{p.name} {p.public}\n" for p in people)
        os.chmod(roster, 0o644)
        r.write_policy(approvals=["mode: ssh", f"roster: {roster}", "uids:",
                                  f"  - uid: {os.geteuid()}", "    principal: ann"])
        r.start()
        try:
            r.init()
            first, other = r.key_csr(1)["body"], r.key_csr(2)["body"]
            self.assertEqual((first["key_ref"][:3], first["epoch"]), ("w1.", 0))
            for stem in ("wrapping", "mac"):
                self.admin(r, "standing.rotate", name=stem)
                self.admin(r, "standing.activate", name=stem + "-2")
                self.builds(r, first, 1)  # what the earlier one made is read
            second = r.key_csr(3)["body"]
            epoch = second["epoch"]
            self.assertEqual((second["key_ref"][:3], second["key_ref"][-2:]), ("w2.", ".2"))
            self.builds(r, second, 3)
            for name in ("wrapping-1", "mac-1"):
                self.refused(r, "standing.destroy", "It isn't known how many user keys still need "
                             + name, name=name)
                self.refused(r, "standing.destroy", "It isn't known", name=name, rows=0,
                             epoch=epoch - 1)
                self.refused(r, "standing.destroy", "2 user keys still need " + name, name=name,
                             rows=2, epoch=epoch)

            # Only what pfx-hsm itself gave out, and only together.
            for changes in ({"ticket": other["ticket"]}, {"key_ref": other["key_ref"]},
                            {"addresses": ["eve@example.test"]}, {"purpose": "encryption"}):
                self.assertEqual(self.rewrap(r, first, 1, **changes)["class"], "integrity", changes)
            answer = self.rewrap(r, first, 1)
            self.assertEqual(answer["class"], "ok", answer)
            anew = answer["body"]
            self.assertEqual((anew["epoch"], anew["key_ref"][:3]), (epoch, "w2."))
            self.assertNotEqual(anew["ticket"], first["ticket"])
            self.assertEqual(self.rewrap(r, dict(first, **anew), 1)["class"], "ok")  # once more

            for name in ("wrapping-1", "mac-1"):
                there = self.labels(r, "users", "secrkey")
                self.approve(r, people, name, rows=0, epoch=epoch)
                self.assertIn("pfx-agent " + name, there)  # nothing went before they had
            there = self.labels(r, "users", "secrkey")
            self.assertTrue({"pfx-agent wrapping-2", "pfx-agent mac-2"} <= set(there), there)
            self.assertFalse({"pfx-agent wrapping-1", "pfx-agent mac-1"} & set(there), there)
            self.assertEqual(r.stop(), 0)
            r.start()
            r.admin("hsm.status")
            self.builds(r, first, 1, **{k: anew[k] for k in ("key_ref", "ticket")})
            self.builds(r, second, 3)
            self.assertEqual(self.build(r, other, 2)["class"], "integrity")
            again = r.init()
            self.assertFalse([i for i in again if i["kind"] == "key" and
                              i["text"].startswith("made")])
            folder = export(r)
            audited(self, "verify", folder, keys=folder)
        finally:
            self.assertEqual(r.close(), 0)

    @only_on("softhsm", why="the calls are counted behind its own module")
    def test_many_generations(self):
        """What an early MAC key vouches for costs the same, however many came after it; and a token
        that doesn't answer is no proof that a ticket was forged."""
        r = Rig(kinds={"users": tokens.RemoteSofthsm})
        control = r.kinds["users"].control
        r.start()
        try:
            r.init()
            first = r.key_csr(1)["body"]
            number = 1

            def cost(generations):
                nonlocal number
                while number < generations:
                    number += 1
                    self.admin(r, "standing.rotate", name="mac")
                    self.admin(r, "standing.activate", name="mac-%d" % number)
                costs = []
                for _ in range(12):  # each worker's first ones look for the keys
                    control.reset()
                    self.assertEqual(self.rewrap(r, first, 1)["class"], "ok")
                    costs.append(sum(control.counts().values()))
                return min(costs)
            few = cost(3)
            self.assertEqual(cost(9), few)

            control.fault("C_SignInit", "2+", "rv=0x30")  # the first one is that of the active key
            self.assertIn(self.rewrap(r, first, 1)["class"], ("device", "transient"))
            self.assertGreater(control.fired(), 0)
            control.clear()
            until = time.time() + rig.WAIT
            while self.rewrap(r, first, 1)["class"] != "ok":
                self.assertLess(time.time(), until)
        finally:
            self.assertEqual(r.close(), 0)

    def file_of(self, r, older):
        """An older file that is put back, a changed one, and none at all."""
        path = os.path.join(r.state, "standing")
        with open(path, "rb") as f:
            now = f.read()
        self.assertIn(b"key client-main 2 active", now)
        for text, says in ((older, "It is an older one: its serial is 5"),
                           (now.replace(b"1 destroyed", b"1 previous"), "Its MAC is wrong"),
                           (None, "The file is gone, and the operation log knows of it"),
                           (now, None)):
            self.assertEqual(r.stop(), 0)
            if os.path.exists(path):
                os.unlink(path)
            if text:
                with open(path, "wb") as f:
                    f.write(text)
                os.chmod(path, 0o600)
            r.start()
            if not says:
                break
            self.refused(r, "standing.list", says, 6)
            _, end = r.broker("assertion", app="main")
            self.assertNotEqual(end["exit"], 0, end)
        self.assertEqual(states(self.admin(r, "standing.list"))["client-main-2"], "active")


if __name__ == "__main__":
    rig.main()
