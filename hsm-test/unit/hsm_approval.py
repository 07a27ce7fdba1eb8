"""Approvals: pfx-hsm does a dangerous command only with the signatures of two people over exactly
that. The signatures are made by the real ssh-keygen, and are verified by it, too."""

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import hsm_rig as rig
from hsm_log_rig import LogCase
from hsm_rig import Rig
from ssh_oracle import SecurityKey

AUDIT = os.environ.get("PFX_AUDIT", "")
GUIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "guide",
                     "auditors-guide.md")
AGENT = os.environ.get("PFX_AGENT", "")
PEOPLE = ("ann", "bob", "cid", "dan")


class Person:
    """A key of somebody. kind: of ssh-keygen, or of a security key."""

    def __init__(self, folder, name, kind="ed25519", number=1):
        self.name, self.path = name, os.path.join(folder, f"{name}-{number}")
        self.token = SecurityKey(kind) if kind.startswith("sk-") else None
        if self.token:
            self.public = self.token.line()
            return
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", self.path],
                       check=True, timeout=60)
        with open(self.path + ".pub", encoding="ascii") as f:
            self.public = f.read().strip()

    def sign(self, text, namespace="pfx-agent", flags=1):
        if self.token:
            return self.token.sign(text.encode(), flags, namespace)
        done = subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", self.path, "-n", namespace],
                              input=text.encode(), capture_output=True, check=True, timeout=60)
        return done.stdout.decode()


def canonical(members):
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


class Approvals(LogCase):
    @classmethod
    def setUpClass(cls):
        cls.rig = r = Rig()
        cls.keys = {name: Person(r.dir, name) for name in PEOPLE}
        cls.second = Person(r.dir, "bob", "ecdsa", 2)
        cls.touch = Person(r.dir, "cid", "sk-ed25519", 3)
        cls.late = Person(r.dir, "dan", "ed25519", 4)
        cls.stranger = Person(r.dir, "eve")
        cls.roster = os.path.join(r.dir, "approvers")
        cls.write_roster()
        r.write_policy(approvals=cls.section())
        r.start()
        r.init()

    @classmethod
    def tearDownClass(cls):
        cls.rig.close()

    @classmethod
    def section(cls, valid="1h"):
        return ["mode: ssh", f"roster: {cls.roster}", f"valid: {valid}", "uids:",
                f"  - uid: {os.geteuid()}", "    principal: ann"]

    @classmethod
    def write_roster(cls, *without):
        lines = [f"{name} {key.public}" for name, key in cls.keys.items() if name not in without]
        lines += [f"bob {cls.second.public}", f"cid {cls.touch.public}",
                  f"dan valid-before=\"20260101Z\" {cls.late.public}"]
        with open(cls.roster, "w", encoding="ascii") as f:
            f.write("# who may approve\n" + "\n".join(lines) + "\n")
        os.chmod(cls.roster, 0o644)

    def copied(self):
        """A log that may not be gone on with: log.reopen is what it takes."""
        self.rig.stop()
        with open(os.path.join(self.rig.state, "log", "copy"), "w", encoding="ascii") as f:
            f.write("\n")
        self.rig.start()

    def ask(self, *words):
        _, end = self.rig.admin("log.reopen")
        self.assertEqual((end["exit"], end["error"]["code"]), (4, "approval"), end)
        for word in words:
            self.assertIn(word, end["error"]["text"])
        return end["error"]["object"]

    def shown(self, question):
        items, end = self.rig.admin("approval.show", id=question)
        self.assertEqual(end["exit"], 0, end)
        return items[0]

    def give(self, question, text):
        return self.rig.admin("approval.give", id=question, signature=text)[1]

    def given(self, question, person, statement=None):
        end = self.give(question, person.sign(statement or self.shown(question)["statement"]))
        self.assertEqual(end["exit"], 0, end)

    def refused(self, end, code):
        self.assertEqual((end["exit"], end["error"]["code"]), (4, code), end)

    def cli(self, *words, code=0):
        done = subprocess.run([AGENT, *words, "--admin-socket", os.path.join(self.rig.run, "admin")],
                              capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def asked(self):
        """What the question says, compared with what is asked for."""
        question = self.ask("0 of 2", "bob, cid, dan")
        self.assertEqual(self.ask("0 of 2"), question)  # the same one
        item = self.shown(question)
        statement = json.loads(item["statement"])
        self.assertEqual(canonical(statement), item["statement"])
        self.assertEqual(statement["args_hash"], hashlib.sha256(item["args"].encode()).hexdigest())
        self.assertEqual((statement["command"], statement["origin"], item["asker"]),
                         ("log.reopen", "test-host/pfx-agent", "ann"))
        self.assertEqual(json.loads(item["args"])["new_log"], "test-host/pfx-agent/2")
        self.assertTrue(question == statement["nonce"][:8] and len(statement["nonce"]) == 64)
        return question, item["statement"]

    def bad_ones(self, question, text):
        """Each with one thing wrong: none of them counts."""
        keys, statement = self.keys, json.loads(text)
        forged = keys["bob"].sign(text).splitlines()
        forged[3] = ("A" if forged[3][5] != "A" else "B").join((forged[3][:5], forged[3][6:]))
        swapped = canonical(dict(statement, command="key.destroy"))
        other_args = canonical(dict(statement, args_hash="0" * 64))
        other_host = canonical(dict(statement, origin="other-host/pfx-agent"))
        other_nonce = canonical(dict(statement, nonce=statement["nonce"][:8] + "0" * 56))
        later = canonical(dict(statement, expiry="2099-01-01T00:00:00.000Z"))
        for signature, code in (
                ("\n".join(forged) + "\n", ("signature", "not in roster", "form")),
                (self.stranger.sign(text), ("not in roster",)),
                (keys["bob"].sign(text, "file"), ("namespace",)),
                (keys["bob"].sign(text + "\n"), ("signature",)),
                (keys["bob"].sign(swapped), ("signature",)),
                (keys["bob"].sign(other_args), ("signature",)),
                (keys["bob"].sign(later), ("signature",)),
                (keys["bob"].sign(other_host), ("signature",)),
                (keys["bob"].sign(other_nonce), ("signature",)),
                (keys["ann"].sign(text), ("self",)),  # who asked
                (self.late.sign(text), ("no longer",)),
                (self.touch.sign(text, flags=0), ("user presence",)),
                ("-----BEGIN SSH SIGNATURE-----\n", ("form",))):
            end = self.give(question, signature)
            self.assertEqual(end["exit"], 4, end)
            self.assertIn(end["error"]["code"], code, end)
        self.refused(self.give("00000000", keys["bob"].sign(text)), "unknown")
        self.assertEqual(self.rig.admin("approval.give", id=question)[1]["error"]["code"], "form")
        self.assertEqual(self.shown(question).get("given", []), [])
        # A hostile pfx-agentd or pfx-uploader: their lines have no such thing.
        for verb, more in (("approval.give", {"signature": keys["bob"].sign(text)}),
                           ("approval.show", {}), ("policy.approve", {})):
            self.assertEqual(self.rig.agent.do(verb, id=question, **more)["class"], "refused")
            self.assertEqual(self.rig.broker(verb, id=question, **more)[1]["exit"], 2)

    def same_person(self, question, text):
        self.given(question, self.keys["bob"])
        self.refused(self.give(question, self.keys["bob"].sign(text)), "same person")
        self.refused(self.give(question, self.second.sign(text)), "same person")
        self.assertEqual(self.ask("1 of 2", "Ask 1 of cid, dan "), question)

    def test_reopen(self):
        """log.reopen, by all that can be wrong with an approval; while the log takes no entry."""
        r = self.rig
        for verb, name in (("rotate", "client-main"), ("activate", "client-main-2")):
            self.assertEqual(r.admin("standing." + verb, name=name)[1]["exit"], 0)
        self.copied()
        question, text = self.asked()
        self.bad_ones(question, text)
        self.same_person(question, text)
        self.assertIn(question, self.cli("approve"))
        said = self.cli("approve", question)
        for word in ("log.reopen", "new_log", "test-host/pfx-agent/2", text, "ssh-keygen -Y sign"):
            self.assertIn(word, said)
        self.cli("approve", question, "--key", self.keys["ann"].path, "--yes", code=4)
        r.stop(9)  # the question and its approval are still there
        r.start()
        self.assertEqual(self.shown(question)["given"], ["bob"])
        saved = os.path.join(r.dir, "saved")
        shutil.copy(os.path.join(r.state, "approvals"), saved)
        with open(os.path.join(r.dir, "touched.sig"), "w", encoding="ascii") as f:
            f.write(self.touch.sign(text))
        self.assertIn("approved: 2 of 2", self.cli("approve", question, "--signature", f.name))
        _, end = r.admin("log.reopen")
        self.assertEqual(end["exit"], 0, (end, r.logged()[-2000:]))
        first = self.log(r).entries[0]
        self.assertEqual((first["event"], first.get("weak")), ("log.reopen", None))
        self.verified(first, {"bob", "cid"})
        # What the dead process would have told is lost with it; the record has it all.
        self.assertTrue(self.log(r).events(event="approval.give", before=True))
        self.refused(self.give(question, self.keys["dan"].sign(text)), "unknown")  # it is spent
        self.works(91)
        r.stop()
        shutil.copy(saved, os.path.join(r.state, "approvals"))
        standing = os.path.join(r.state, "standing")
        os.rename(standing, standing + ".away")
        r.start()
        self.assertEqual(r.admin("approval.list")[0], [])
        # The successor knows of it as well.
        self.wait_for("users", lambda: "the operation log knows of it" in str(r.admin("hsm.status")[0]))
        r.stop()
        os.rename(standing + ".away", standing)
        r.start()
        self.works(92)

    def wait_for(self, what, ready):
        until = time.time() + 40
        while not ready():
            self.assertLess(time.time(), until, what)
            time.sleep(0.1)

    def works(self, enrolment):
        self.wait_for("a key", lambda: self.rig.key_csr(enrolment, key_type="ec-p256")[
            "class"] == "ok")

    def held(self, word, cls="transient"):
        """Nothing is done with a key, and why is said."""
        def why():
            answer = self.rig.key_csr(77, key_type="ec-p256")
            self.assertNotEqual(answer["class"], "ok")
            return (answer["class"], answer["error"]["code"]) == (cls, word)
        self.wait_for(word, why)
        rows, _ = self.rig.admin("hsm.status")
        row = next(x for x in rows if x["name"] == "policy change")
        self.assertIn("nothing is done", row["value"])
        report = self.rig.agent.do("hsm.report")["body"]
        self.assertFalse(report["ready"])

    def change(self):
        """policy.approve until it is asked: the roles have to be open."""
        def asks():
            self.answer = self.rig.admin("policy.approve")[1]
            return self.answer["error"]["code"] == "approval"
        self.wait_for("the question", asks)
        return self.answer["error"]["object"]

    def unusable(self):
        """What pfx-hsm couldn't start under isn't put in force: nobody could change it any more."""
        r = self.rig
        keys = {name: f"{name} {self.keys[name].public}\n" for name in PEOPLE}
        for text, says in ((keys["bob"] + keys["cid"] + "dan cert-authority " + keys["dan"][4:],
                            "line 3: cert-authority"),
                           (keys["bob"], "names 1 people"),
                           (keys["ann"] + keys["bob"], "nothing could ever be approved. Add")):
            with open(self.roster, "w", encoding="ascii") as f:
                f.write(text)
            r.start()
            end = r.admin("policy.approve")[1]
            self.assertEqual((end["exit"], end["error"]["code"]), (2, "unusable"), end)
            self.assertIn(says, end["error"]["text"])
            r.stop()
        shutil.copy(self.roster + ".old", self.roster)

    def hidden(self):
        """Whatever changed is shown: a last line without its end, one that isn't UTF-8, and lines
        that only change places."""
        r = self.rig
        added = [f"{name} {Person(r.dir, name).public}" for name in ("fay", "gus")]
        with open(self.roster, "ab") as f:
            f.write(added[0].encode() + b" caf\xe9\n" + added[1].encode())
        with open(r.policy_path, encoding="utf-8") as f:
            text = f.read()
        one, other = (f"    pin_file: {r.dir}/{role}.pin\n" for role in ("users", "service"))
        with open(r.policy_path, "w", encoding="utf-8") as f:
            f.write(text.replace(one, "?").replace(other, one).replace("?", other))
        r.start()
        args = json.loads(self.shown(self.change())["args"])
        self.assertEqual(args["roster_lines_new"], [added[0] + " caf?", added[1]])
        for name in ("new", "gone"):
            self.assertIn("pin_file", str(args["policy_lines_" + name]))
        r.stop()
        with open(r.policy_path, "w", encoding="utf-8") as f:
            f.write(text)
        shutil.copy(self.roster + ".old", self.roster)

    def test_policy(self):
        """A changed roster is held until people of the old one have approved it."""
        r, force = self.rig, os.path.join(self.rig.state, "in-force")
        self.works(1)
        self.assertEqual(len(self.log(r).events(event="policy.force")), 1)
        r.stop()
        shutil.copy(force, force + ".old")
        shutil.copy(self.roster, self.roster + ".old")
        self.unusable()
        self.hidden()
        self.write_roster("dan")
        with open(self.roster, "a", encoding="utf-8") as stream:
            stream.write("# eve")  # a last line without its end is one, too
        r.start()
        self.held("held")
        question = self.change()
        args = json.loads(self.shown(question)["args"])
        self.assertEqual([line.split()[0] for line in args["roster_lines_gone"]], ["dan"])
        self.assertEqual((args["roster_lines_new"], args["policy_lines_new"]), (["# eve"], []))
        self.given(question, self.keys["cid"])
        r.stop(9)
        r.start()
        self.assertEqual(self.shown(question)["given"], ["cid"])
        self.given(question, self.keys["dan"])  # of the old roster: that is in force
        shutil.copy(os.path.join(r.state, "approvals"), force + ".asked")
        self.wait_for("the change", lambda: r.admin("policy.approve")[1]["exit"] == 0)
        r.stop(9)
        shutil.copy(force + ".asked", os.path.join(r.state, "approvals"))  # spent: put back
        r.start()
        self.assertNotIn(question, [x["id"] for x in r.admin("approval.list")[0]])
        self.works(2)
        changed, = self.log(r).events(event="policy.changed")
        self.assertNotIn("weak", changed)
        self.verified(changed, {"cid", "dan"})
        for event in ("approval.ask", "approval.give"):
            self.assertTrue(self.log(r).events(event=event), event)
        self.exported()
        self.put_back(force)

    def exported(self):
        """The auditors' guide, word for word, on an export; and pfx-audit."""
        folder = os.path.join(self.rig.dir, "export")
        self.cli("log", "export", folder, "--log-dir", os.path.join(self.rig.state, "log"))
        with open(GUIDE, encoding="utf-8") as f:
            program = next(x for x in f.read().split("```python\n") if "approvals" in x.split("```")[0])
        done = subprocess.run([sys.executable, "-c", program.split("```")[0], folder],
                              cwd=self.rig.dir, capture_output=True, text=True, check=True, timeout=60)
        self.assertIn("policy.changed policy.change", done.stdout)
        self.assertNotIn("OTHER", done.stdout)
        names = re.findall(r"^  (\S+) (\S+)$", done.stdout, re.M)
        self.assertGreaterEqual(len(names), 4)  # two as they were given, both where they were spent
        for name, person in names:
            path = os.path.join(self.rig.dir, name)
            with open(path, "rb") as f:
                subprocess.run(["ssh-keygen", "-Y", "verify", "-n", "pfx-agent", "-I", person, "-f",
                                path + ".line", "-s", path + ".sig"], stdin=f, capture_output=True,
                               check=True, timeout=60)
        keys = [x for path in glob.glob(folder + "/keys/*") for x in ("--key", path)]
        done = subprocess.run([AUDIT, "verify", folder, *keys], capture_output=True, text=True,
                              check=False, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("keys which approved 1 command", " ".join(done.stdout.split()))

    def put_back(self, force):
        """Neither the policy that was in force before, nor none: the log knows better."""
        r = self.rig
        r.stop()
        good = (force + ".good", self.roster + ".good")
        shutil.copy(force, good[0])
        shutil.copy(self.roster, good[1])
        shutil.copy(force + ".old", force)
        shutil.copy(self.roster + ".old", self.roster)
        r.start()
        self.held("in-force", "integrity")
        self.assertEqual(r.admin("policy.approve")[1]["exit"], 2)
        r.stop()
        os.unlink(force)
        r.start()
        self.held("in-force", "integrity")
        r.stop()
        with open(good[0], "rb") as f:
            data = bytearray(f.read())
        data[-10] = ord("1") if data[-10] == ord("0") else ord("0")  # of its MAC
        with open(force, "wb") as f:
            f.write(data)
        shutil.copy(good[1], self.roster)
        r.start()
        self.wait_for("users", lambda: "MAC" in str(r.admin("hsm.status")[0]))
        r.stop()
        shutil.copy(good[0], force)
        r.start()
        self.works(3)
        if os.environ.get("PFX_LONG"):
            self.given_up()

    def given_up(self):
        """A policy without approvals is approved, too; from then on a change is nobody's, and weak."""
        r = self.rig
        section = r.options.pop("approvals")
        r.stop()
        r.write_policy()
        r.start()
        self.held("held")
        question = self.change()
        for name in ("bob", "cid"):
            self.given(question, self.keys[name])
        self.assertEqual(r.admin("policy.approve")[1]["exit"], 0)
        for approvals, enrolment in ((None, 4), (section, 5)):
            r.stop()
            if approvals:
                r.write_policy(approvals=approvals)
                r.start()
                self.held("held")
                self.wait_for("the change", lambda: r.admin("policy.approve")[1]["exit"] == 0)
                self.assertTrue(self.log(r).events(event="policy.changed")[-1]["weak"])
                r.stop()
            r.start()
            self.works(enrolment)

    def test_tokens_moved(self):
        """The policy in force names what isn't there any more: its change needs no token of it."""
        r = self.rig
        self.works(93)
        r.stop()
        old, new = (os.path.join(r.dir, name) for name in ("users.pin", "moved.pin"))
        os.rename(old, new)
        with open(r.policy_path, encoding="utf-8") as f:
            text = f.read()
        with open(r.policy_path, "w", encoding="utf-8") as f:
            f.write(text.replace(old, new))
        r.start()
        question = self.change()
        self.given(question, self.keys["bob"])
        r.stop(9)
        r.start()  # one of two: it is still held under the old one
        self.assertEqual(self.change(), question)
        self.given(question, self.keys["cid"])
        items, end = r.admin("policy.approve")
        self.assertEqual(end["exit"], 0, end)
        self.assertIn("Restart pfx-hsm before", items[0]["text"])
        for name in ("approvals", "in-force"):
            shutil.copy(os.path.join(r.state, name), os.path.join(r.dir, name + ".asked"))
        r.stop(9)
        r.start()
        self.held("approved")
        self.assertEqual(r.admin("policy.approve")[1]["exit"], 2)
        r.stop()
        r.start()
        self.works(94)
        changed = self.log(r).events(event="policy.changed")[-1]
        self.assertNotIn("weak", changed)
        self.verified(changed, {"bob", "cid"})
        folder = os.path.join(r.dir, "moved")
        self.cli("log", "export", folder, "--log-dir", os.path.join(r.state, "log"))
        keys = [x for path in glob.glob(folder + "/keys/*") for x in ("--key", path)]
        done = subprocess.run([AUDIT, "verify", folder, *keys], capture_output=True, text=True,
                              check=False, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        # Killed before the file had it: the log says that it was done, and is believed.
        r.stop()
        for name in ("approvals", "in-force"):
            shutil.copy(os.path.join(r.dir, name + ".asked"), os.path.join(r.state, name))
        r.start()
        self.held("approved")
        r.stop()
        r.start()
        self.works(95)

    def verified(self, entry, people):
        """As an auditor does it: by ssh-keygen alone, from the entry alone."""
        record, = entry["approvals"]
        self.assertEqual({one["principal"] for one in record["given"]}, people)
        for one in record["given"]:
            paths = {name: os.path.join(self.rig.dir, "check." + name) for name in ("line", "sig")}
            for name, text in (("line", one["line"] + "\n"), ("sig", one["signature"])):
                with open(paths[name], "w", encoding="ascii") as f:
                    f.write(text)
            for text, code in ((record["statement"], 0), (record["statement"] + " ", 255)):
                done = subprocess.run(
                    ["ssh-keygen", "-Y", "verify", "-f", paths["line"], "-I", one["principal"], "-n",
                     "pfx-agent", "-s", paths["sig"]], input=text.encode(), capture_output=True,
                    check=False, timeout=60)
                self.assertEqual(done.returncode, code, done)
        self.assertEqual(json.loads(record["statement"])["args_hash"],
                         hashlib.sha256(record["args"].encode()).hexdigest())


class Few(LogCase):
    """Whether people can approve anything, before it comes to that."""

    def test_nobody_left(self):
        r = Rig()
        try:
            people = {name: Person(r.dir, name).public for name in ("ann", "bob", "cid")}
            roster = os.path.join(r.dir, "approvers")

            def start(asker, *lines):
                with open(roster, "w", encoding="ascii") as f:
                    f.write("".join(x + "\n" for x in lines))
                os.chmod(roster, 0o644)
                r.write_policy(approvals=["mode: ssh", f"roster: {roster}", "uids:",
                                          f"  - uid: {os.geteuid()}", f"    principal: {asker}"])
                r.start()
            lines = [f"{name} {key}" for name, key in people.items()]
            start("bob", *lines[:2])
            self.assertEqual(r.process.wait(timeout=rig.WAIT), 2)
            self.assertIn("Who asks can't approve", r.logged())
            self.assertFalse(os.path.exists(os.path.join(r.state, "in-force")))
            r.stop()
            soon = time.strftime("%Y%m%dZ", time.gmtime(time.time() + 5 * 86400))
            lines[2] = f"cid valid-before=\"{soon}\" {people['cid']}"
            for asker, word in (("ann", "1 people of the roster are left"), ("zoe", "zoe")):
                start(asker, *lines)
                row = next(x for x in r.admin("hsm.status")[0] if x["name"] == "approvals")
                self.assertEqual(row["level"], "warn")
                self.assertIn(word, row["why"])
                r.stop()
        finally:
            r.close()


if __name__ == "__main__":
    if not shutil.which("ssh-keygen"):
        print("skipped: ssh-keygen isn't installed")
        sys.exit(77)
    rig.main()
