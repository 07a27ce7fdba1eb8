"""Generations of the encryption key against the real pfx-hsm: made, staged, shown to connectors, activated,
the way back, retired, destroyed, compromised; killed in between; and what the pins' file may not be."""
import base64
import json
import os
import re
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hsm_rig as rig  # noqa: E402
from hsm_approval import Person  # noqa: E402
from hsm_rig import Rig, unb64  # noqa: E402
from hsm_log_rig import Log, audited, export  # noqa: E402


class Case(unittest.TestCase):
    def rig(self, **options):
        r = Rig(**options)
        self.addCleanup(r.close)
        self.people = [Person(r.dir, name) for name in ("ann", "bob", "cid")]
        roster = os.path.join(r.dir, "approvers")
        with open(roster, "w", encoding="ascii") as f:
            f.writelines(f"{p.name} {p.public}\n" for p in self.people)
        os.chmod(roster, 0o644)
        r.write_policy(approvals=["mode: ssh", f"roster: {roster}", "uids:",
                                  f"  - uid: {os.geteuid()}", "    principal: ann"])
        return r.start()

    def approved(self, r, verb, **args):
        """A command that two people approve: asked, signed by ssh-keygen, given again."""
        items, end = r.admin(verb, **args)
        self.assertEqual((end["exit"], end.get("error", {}).get("code")), (4, "approval"), (end, items))
        question = end["error"]["object"]
        shown = r.admin("approval.show", id=question)[0][0]
        for person in self.people[1:]:
            _, end = r.admin("approval.give", id=question, signature=person.sign(shown["statement"]))
            self.assertEqual(end["exit"], 0, end)
        self.approved_args = json.loads(shown["args"])
        return self.do(r, verb, **args)

    def do(self, r, verb, **args):
        items, end = r.admin(verb, **args)
        self.assertEqual(end["exit"], 0, (verb, end, items))
        return items

    def refused(self, r, words, verb, exit_code=4, **args):
        items, end = r.admin(verb, **args)
        self.assertEqual(end["exit"], exit_code, (verb, end, items))
        self.assertIn(words, end["error"]["text"])
        return items

    def rotate(self, r, **args):
        return self.do(r, "key.rotate", encryption_pin=r.pin("encryption"), **args)

    def states(self, r, **args):
        return {i["generation"]: i for i in self.do(r, "key.states", **args)}

    def state_of(self, r):
        return {n: i["state"] for n, i in self.states(r).items()}

    def no_session(self, r):
        """The running agent is logged in to no encryption token."""
        rows, _ = r.admin("hsm.status")
        row = next(x for x in rows if x["name"] == "token encryption")
        self.assertIn("no session, no login", row["value"])

    def built(self, r, keyed, leaf, **changes):
        return r.agent.do("hsm.build_seal", **r.build_body(keyed, leaf, r.ca.chain(), **changes))

    def log(self, r):
        return Log(self, os.path.join(r.state, "log"))


def needs(generation, **known):
    return {"generation": generation, **known}


class Life(Case):
    def test_whole_life(self):
        r = self.rig(connectors=("conn1", "conn2"))
        r.init()
        keyed = r.key_csr(1)["body"]
        leaf = r.ca.issue(unb64(keyed["csr"]))
        items = self.rotate(r)
        key = next(i for i in items if i["kind"] == "key")
        self.assertEqual(key["file"], "encryption-key-2.pem")
        self.assertEqual(r.count("encryption", "privkey"), 2)
        self.no_session(r)
        states = self.states(r)
        self.assertEqual((states[2]["state"], states[2]["key_name"], states[2]["sha256"]),
                         ("staged", "test-encryption-2", key["sha256"]))
        self.assertEqual(states[2]["missing"], ["conn1", "conn2"])
        self.assertEqual([("conn1" in x, "conn2" in x) for x in states[2]["reasons"]],
                         [(True, False), (False, True)])
        # Nothing uses it: what is built goes to generation 1.
        self.assertEqual(self.built(r, keyed, leaf)["body"]["generation"], 1)
        for pin in ({}, {"encryption_pin": r.pin("encryption")}):
            self.refused(r, "staged already", "key.rotate", **pin)
        reasons = self.refused(r, "conn1 hasn't confirmed", "key.activate", generation=2)
        self.assertEqual([i["kind"] for i in reasons], ["reason", "reason"])
        answers = {name: self.probe(r, name) for name in ("conn1", "conn2")}
        for verb, name in (("rotate", "mac"), ("activate", "mac-2")):  # no answer gets old by that
            self.do(r, "standing." + verb, name=name)
        self.refused(r, "isn't the answer", "connector.confirm", host="conn1", answer=answers["conn2"])
        self.refused(r, "isn't the answer", "connector.confirm", host="conn1", answer="0" * 40)
        self.refused(r, "no such connector", "connector.confirm", host="other", answer="0" * 40)
        self.do(r, "connector.confirm", host="conn1", answer=answers["conn1"])
        self.refused(r, "conn2 hasn't confirmed", "key.activate", generation=2)
        self.do(r, "connector.confirm", host="conn2", answer=answers["conn2"])
        self.assertEqual(self.states(r)[2]["confirmed"], ["conn1", "conn2"])
        self.do(r, "key.activate", generation=2)
        body = self.built(r, keyed, leaf)["body"]
        self.assertEqual((body["generation"], body["key_name"]), (2, "test-encryption-2"))
        row = next(x for x in r.admin("hsm.status")[0] if x["name"] == "encryption key")
        self.assertEqual((row["level"], row["value"][:40]),
                         ("ok", "generation 2, keyName test-encryption-2,"))
        password = r.open_sealed(unb64(body["sealed"]), label="pfx-agent encryption-2")
        self.assertEqual(len(password), 32)
        # The way back, and there again, without the connectors.
        self.do(r, "key.activate", generation=1)
        self.assertEqual(self.built(r, keyed, leaf)["body"]["generation"], 1)
        self.do(r, "key.activate", generation=2)
        self.assertEqual(self.state_of(r), {1: "suspended", 2: "active"})
        # Nothing is retired or destroyed while something names it, or nobody knows.
        self.refused(r, "isn't known how many", "key.retire", generation=1)
        self.refused(r, "3 records name", "key.retire", generation=1, needs=needs(1, records=3))
        self.refused(r, "another generation", "key.retire", exit_code=2, generation=1,
                     needs=needs(2, records=0))
        self.do(r, "key.retire", generation=1, needs=needs(1, records=0))
        self.refused(r, "doesn't come back", "key.activate", generation=1)
        again = self.states(r, needs=[needs(1, records=2, last_expiry=1795000000000)])
        self.assertIn("expires by itself at 2026-11-18", again[1]["reasons"][0])
        report = r.agent.do("hsm.report")["body"]
        self.assertEqual([(g["generation"], g["state"]) for g in report["generations"]],
                         [(1, "retired"), (2, "active")])
        self.loose(r)
        self.adopted(r)
        self.proven(r)

    def probe(self, r, name, generation=2, label="pfx-agent encryption-2"):
        """What the guide would print on a connector host: here OpenSC opens the probe (no Windows, and
        no connector's provider: that is simulated)."""
        item = next(i for i in self.do(r, "connector.probe", host=name) if i["kind"] == "file")
        guide = item["content"]
        self.assertEqual(item["file"], f"probe-{name}-{generation}.ps1")
        self.assertIn(f"$keyName = 'test-encryption-{generation}'\n", guide)
        self.assertIn("$hashAlgorithm = 'SHA512'\n", guide)
        self.assertIn("CreateServiceTestFile.ps1", guide)
        value = dict(re.findall(r"^\$(\w+) = '([^']*)'$", guide, re.M))
        known = r.open_sealed(base64.b64decode(value["knownSealed"]), label=label)
        self.assertEqual(known.decode(), value["knownPlain"])
        answer = r.open_sealed(base64.b64decode(value["probe"]), label=label).decode()
        self.assertNotIn(answer, guide)
        return answer

    def proven(self, r):
        """The log names every write of the pins, in order."""
        r.stop()
        log = self.log(r)
        pins = [e["pin"] for e in log.entries if e["phase"] == "result" and "pin" in e
                and e["outcome"] == "ok"]
        self.assertEqual([p["serial"] for p in pins], list(range(1, len(pins) + 1)))
        moves = [(e["event"], e["pin"]["generation"], e["pin"]["state"]) for e in log.entries
                 if e["phase"] == "result" and e["outcome"] == "ok" and e["event"].startswith("key.")
                 and "pin" in e]
        self.assertEqual(moves[:6], [("key.rotate", 2, "making"), ("key.rotate", 2, "staged"),
                                     ("key.activate", 2, "active"), ("key.activate", 1, "active"),
                                     ("key.activate", 2, "active"), ("key.retire", 1, "retired")])
        retired = next(e for e in log.entries if e["event"] == "key.retire")
        self.assertEqual(retired["count"], 0)
        failed = [e for e in log.entries if e["event"] == "connector.confirm"
                  and e["phase"] == "result" and e["outcome"] == "refused"]
        self.assertEqual([e["target"]["name"] for e in failed], ["conn1", "conn1"])
        self.audited(r)

    def audited(self, r):
        """The auditor's program finds nothing in it, and leaves nothing open about connectors."""
        folder = export(r)
        self.assertNotIn("had confirmed generation", audited(self, "verify", folder, keys=folder))

    def test_compromise_and_destroy(self):
        r = self.rig()
        r.init()
        keyed = r.key_csr(1)["body"]
        leaf = r.ca.issue(unb64(keyed["csr"]))
        self.refused(r, "one word", "key.compromise", exit_code=2, generation=1, reason="Anna did it")
        items = self.approved(r, "key.compromise", generation=1, reason="lost-backup")
        self.assertEqual((self.approved_args["generation"], self.approved_args["reason"]),
                         (1, "lost-backup"))
        self.assertTrue(any("No generation is active" in i["text"] for i in items), items)
        answer = self.built(r, keyed, leaf)
        self.assertEqual(answer["class"], "transient", answer)
        self.assertIn("enrolments wait until an operator activates one", answer["error"]["text"])
        # Everything else goes on, over a restart too; keys are made, and init makes no second one.
        r.stop()
        r.start()
        r.init()
        self.assertEqual(r.key_csr(2)["class"], "ok")
        report = r.agent.do("hsm.report")["body"]
        self.assertFalse(report["ready"])
        self.assertEqual(report["generations"][0]["state"], "compromised")
        self.assertGreater(report["generations"][0]["compromised"], 0)
        self.refused(r, "is compromised", "key.activate", generation=1)
        self.rotate(r)
        self.do(r, "key.activate", generation=2)
        self.assertEqual(self.built(r, keyed, leaf)["body"]["generation"], 2)
        # Destroyed: looked for, and not found in this token.
        pin = r.pin("encryption")
        self.refused(r, "1 record names", "key.destroy", generation=1, encryption_pin=pin,
                     needs=needs(1, records=1))
        self.assertEqual(r.count("encryption", "privkey"), 2)
        self.destroy(r, 1)
        self.assertEqual((r.count("encryption", "privkey"), r.count("encryption", "pubkey")), (1, 1))
        one = self.states(r)[1]
        self.assertEqual(one["state"], "destroyed")
        self.assertGreater(one["compromised"], 0)
        self.refused(r, "is active", "key.destroy", generation=2, encryption_pin=pin,
                     needs=needs(2, records=0))
        self.no_session(r)
        self.gone_already(r)
        self.wrong_pin(r)

    def gone_already(self, r):
        """Whoever removed the key with another tool: destroyed is what isn't found."""
        self.rotate(r)
        listing = r.p11("encryption", "--list-objects", "--type", "privkey").decode()
        key_id = listing.split("encryption-3", 1)[1].split("ID:", 1)[1].split()[0]
        for kind in ("privkey", "pubkey"):
            r.p11("encryption", "--delete-object", "--type", kind, "--id", key_id)
        items = self.approved(r, "key.destroy", generation=3, encryption_pin=r.pin("encryption"))
        self.assertTrue(any("looked for and not found" in i["text"] for i in items), items)
        found = [e["found"] for e in self.log(r).entries if e["event"] == "key.destroy" and "found" in e]
        self.assertEqual(found, ["key", "nothing"])
        self.assertEqual(self.state_of(r), {1: "destroyed", 2: "active", 3: "destroyed"})

    def wrong_pin(self, r):
        self.assertEqual([i["kind"] for i in self.do(r, "key.rotate")], ["ready"])
        _, end = r.admin("key.rotate", encryption_pin="0000")
        self.assertNotEqual(end["exit"], 0)
        self.assertEqual(len(self.states(r)), 3)
        r.stop()
        self.audited(r)

    def destroy(self, r, generation):
        """Without the PIN all is asked, and nothing done: the approvals wait on."""
        args = {"generation": generation, "needs": needs(generation, records=0)}
        before = r.count("encryption", "privkey")
        self.assertEqual([i["kind"] for i in self.approved(r, "key.destroy", **args)], ["ready"])
        self.assertEqual(r.count("encryption", "privkey"), before)
        items = self.do(r, "key.destroy", encryption_pin=r.pin("encryption"), **args)
        self.assertTrue(any("not found any more in the token" in i["text"] for i in items), items)

    def adopted(self, r):
        key_id = "00112233445566778899aabbccddeeff0011"  # 18 bytes: another software's
        r.p11("encryption", "--keypairgen", "--key-type", "rsa:2048", "--id", key_id, "--label", "ksp",
              "--usage-decrypt")
        self.refused(r, "no private key with this CKA_ID", "key.rotate",
                     encryption_pin=r.pin("encryption"), adopt="ff00")
        self.refused(r, "hex digits", "key.rotate", exit_code=2, encryption_pin=r.pin("encryption"),
                     adopt="xyz0")
        listing = r.p11("encryption", "--list-objects", "--type", "privkey").decode()
        ours = listing.split("encryption-2", 1)[1].split("ID:", 1)[1].split()[0]
        self.refused(r, "is generation 2 already", "key.rotate", encryption_pin=r.pin("encryption"),
                     adopt=ours)  # said before anybody is asked
        items = self.approved(r, "key.rotate", encryption_pin=r.pin("encryption"), adopt=key_id.upper())
        self.assertEqual(self.approved_args["adopt"], key_id)
        self.assertIn("CKA_ALLOWED_MECHANISMS any", self.approved_args["deviations"])
        notes = [i["text"] for i in items if i["kind"] == "note"]
        self.assertIn("otherwise than a key of ours: CKA_ALLOWED_MECHANISMS any", notes)
        self.assertEqual(self.states(r)[3]["adopted"], key_id)
        for name in ("conn1", "conn2"):
            self.do(r, "connector.confirm", host=name, answer=self.probe(r, name, 3, "ksp"))
        self.do(r, "key.activate", generation=3)
        before = r.count("encryption", "privkey")
        r.init()  # finds it, and makes nothing
        self.assertEqual(r.count("encryption", "privkey"), before)
        keyed = r.key_csr(2)["body"]
        body = self.built(r, keyed, r.ca.issue(unb64(keyed["csr"])), enrolment=2)["body"]
        self.assertEqual(len(r.open_sealed(unb64(body["sealed"]), label="ksp")), 32)
        self.do(r, "key.activate", generation=2)
        self.do(r, "key.retire", generation=3, needs=needs(3, records=0))
        self.destroy(r, 3)
        self.assertEqual(r.count("encryption", "privkey"), before - 1)
        entry = [e for e in self.log(r).entries if e["event"] == "key.rotate"
                 and e["outcome"] == "ok"][-1]
        self.assertEqual((entry["key"]["id"], entry["reason"]), (key_id, "adopted"))

    def loose(self, r):
        """A key that may leave the token isn't adopted."""
        r.p11("encryption", "--keypairgen", "--key-type", "rsa:2048", "--id", "aa01", "--label", "loose",
              "--usage-decrypt", "--extractable")
        self.refused(r, "CKA_EXTRACTABLE", "key.rotate", exit_code=6,
                     encryption_pin=r.pin("encryption"), adopt="aa01")
        self.assertEqual(len(self.states(r)), 2)


class Pins(Case):
    def killed(self, r):
        """Between the key and its pin."""
        asker = r.asker("admin")
        hang = os.path.join(r.dir, "hang-after-encryption")
        open(hang, "w", encoding="ascii").close()
        asker.send("key.rotate", encryption_pin=r.pin("encryption"))
        until = time.time() + 300
        # SoftHSM makes an object first and writes its attributes then: with its label it is whole.
        while b"encryption-2" not in r.p11("encryption", "--list-objects", "--type", "privkey"):
            self.assertLess(time.time(), until, "no key was made")
            time.sleep(0.2)
        os.unlink(hang)
        r.stop(signal.SIGKILL)

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_killed_and_adopted(self):
        """A generation whose key the token never made: one that its provider made takes its place."""
        r = self.rig(module=rig.SLOW_MODULE)
        r.init()
        self.killed(r)
        listing = r.p11("encryption", "--list-objects", "--type", "privkey").decode()
        key_id = listing.split("encryption-2", 1)[1].split("ID:", 1)[1].split()[0]
        for kind in ("privkey", "pubkey"):
            r.p11("encryption", "--delete-object", "--type", kind, "--id", key_id)
        r.p11("encryption", "--keypairgen", "--key-type", "rsa:2048", "--id", "aa02", "--label", "ksp",
              "--usage-decrypt")
        r.start()
        self.approved(r, "key.rotate", encryption_pin=r.pin("encryption"), adopt="aa02")
        two = self.states(r)[2]
        self.assertEqual((two["state"], two["adopted"], two["key_name"]),
                         ("staged", "aa02", "test-encryption-2"))
        # One user alone doesn't fill the list of what waits.
        for i in range(6):
            _, end = r.admin("key.compromise", generation=2, reason=f"why-{i}")
            self.assertEqual(end["error"]["code"], "approval", end)
        _, end = r.admin("key.compromise", generation=2, reason="why-6")
        self.assertEqual(end["error"]["code"], "many", end)

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_killed_while_the_key_is_made(self):
        """The same command goes on with the key."""
        r = self.rig(module=rig.SLOW_MODULE)
        r.init()
        self.killed(r)
        r.start()
        states = self.states(r)
        self.assertEqual((states[2]["state"], states[2]["next"]), ("making", "rotate"))
        self.refused(r, "isn't made yet", "key.activate", generation=2)
        self.refused(r, "in the making", "key.rotate", encryption_pin=r.pin("encryption"), adopt="aa")
        items = self.rotate(r)
        self.assertTrue(any("where an earlier command ended" in i.get("text", "") for i in items), items)
        self.assertEqual(r.count("encryption", "privkey"), 2)
        self.assertEqual(self.state_of(r), {1: "active", 2: "staged"})
        unknown = [e for e in self.log(r).entries if e["event"] == "key.rotate"
                   and e["outcome"] == "unknown"]
        self.assertEqual(len(unknown), 1)
        self.older_file(r)

    def older_file(self, r):
        path, old = os.path.join(r.state, "pins"), os.path.join(r.dir, "old-pins")
        shutil.copy(path, old)
        self.do(r, "key.activate", generation=2)
        keyed = r.key_csr(1)["body"]
        leaf = r.ca.issue(unb64(keyed["csr"]))
        shutil.copy(path, path + ".now")
        shutil.copy(old, path)
        answer = self.built(r, keyed, leaf)
        self.assertEqual(answer["class"], "integrity", answer)
        self.assertIn("It is an older one: its serial is 4, and the operation log knows serial 5",
                      answer["error"]["text"])
        r.stop()
        r.start()
        answer = self.built(r, keyed, leaf)
        self.assertEqual(answer["class"], "integrity", answer)
        os.unlink(path)
        r.stop()
        r.start()
        self.refused(r, "The file is gone, and the operation log knows of it", "key.states", exit_code=6)
        r.stop()
        shutil.copy(path + ".now", path)
        r.start()
        self.assertEqual(self.built(r, keyed, leaf)["body"]["generation"], 2)
        r.stop()
        folder = export(r)
        audited(self, "verify", folder, keys=folder)


if __name__ == "__main__":
    rig.main()
