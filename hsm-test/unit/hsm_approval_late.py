"""Approvals that were good when the command was given: their time ends while a token is opened; no
checkpoint covers what they permitted; the roster that is asked was put there by somebody else. The
encryption and the log token are in a process of their own, whose calls can be late or fail."""

import base64
import os
import shutil
import sys
import time

import hsm_rig as rig
import tokens
from hsm_approval import Person
from hsm_approval_again import AgainCase
from hsm_log_rig import audited, export
from hsm_rig import Rig

REMOTE = tokens.RemoteSofthsm


class Late(AgainCase):
    def setUp(self):
        r = self.r = Rig(kinds={"encryption": REMOTE, "log": REMOTE})
        self.addCleanup(r.close)
        self.control = r.kinds["log"].control
        self.people = {name: Person(r.dir, name) for name in ("ann", "bob", "cid", "eve", "fay")}
        self.roster = os.path.join(r.dir, "approvers")

    def begin(self, valid="1h"):
        self.write_roster("ann", "bob", "cid")
        self.r.write_policy(approvals=["mode: ssh", f"roster: {self.roster}", f"valid: {valid}", "uids:",
                                       f"  - uid: {os.geteuid()}", "    principal: ann"])
        self.r.start()
        self.r.init()

    def write_roster(self, *names):
        with open(self.roster, "w", encoding="ascii") as f:
            f.writelines(f"{name} {self.people[name].public}\n" for name in names)
        os.chmod(self.roster, 0o644)

    def approve(self, question):
        """True: in time."""
        statement = self.r.admin("approval.show", id=question)[0][0]["statement"]
        return all(self.code(self.r.admin("approval.give", id=question,
                                          signature=self.people[name].sign(statement))) == (0, None)
                   for name in ("bob", "cid"))

    def wait_for(self, what, ready):
        until = time.time() + 60
        while not ready():
            self.assertLess(time.time(), until, (what, self.r.logged()[-2000:]))
            time.sleep(0.1)

    def works(self, enrolment):
        self.wait_for("a key", lambda: self.r.key_csr(enrolment, key_type="ec-p256")["class"] == "ok")

    def test_ends_while_the_token_is_opened(self):
        self.begin("8s")
        pin = self.r.pin("encryption")
        self.assertEqual(self.r.admin("key.rotate", encryption_pin=pin)[1]["exit"], 0)
        until = time.time() + 90
        while True:  # on a slow machine the question may be over before both have said yes
            question = self.ask(self.r, "key.destroy", generation=2, encryption_pin=pin)
            if self.approve(question):
                break
            self.assertLess(time.time(), until)
        expiry = self.r.admin("approval.show", id=question)[0][0]["expiry"] / 1000
        self.control.reset()
        self.control.fault("C_Login", "every", "delay=%d" % ((max(expiry - time.time(), 0) + 1) * 1000))
        answer = self.r.admin("key.destroy", generation=2, encryption_pin=pin)
        self.control.clear()
        self.assertEqual(self.code(answer), (4, "expired"), answer)
        counts = self.control.counts()
        self.assertGreater(counts.get("C_Login", 0), 0)
        self.assertEqual(counts.get("C_DestroyObject", 0), 0)
        self.assertEqual(self.state(self.r, 2), "staged")
        other = self.ask(self.r, "key.destroy", generation=2, encryption_pin=pin)
        self.assertNotEqual(other, question)
        self.r.stop()
        log = self.log(self.r)
        self.assertEqual(log.events(event="key.destroy", phase="intent"), [])
        folder = export(self.r)
        audited(self, "verify", folder, keys=folder)

    def changed(self):
        """Another roster than the one in force, asked for and approved."""
        self.r.stop()
        self.write_roster("ann", "bob", "eve", "fay")
        self.r.start()

        def asks():
            self.answer = self.r.admin("policy.approve")
            return self.code(self.answer) == (4, "approval")
        self.wait_for("the question", asks)
        self.assertTrue(self.approve(self.answer[1]["error"]["object"]))

    def test_no_checkpoint_of_the_change(self):
        self.begin()
        force = os.path.join(self.r.state, "in-force")
        with open(force, "rb") as f:
            before = f.read()
        self.changed()
        self.control.fault("C_Sign", "every", "rv=0x30")  # CKR_DEVICE_ERROR
        for _ in range(2):  # given again it isn't passed over
            _, end = self.r.admin("policy.approve")
            self.assertNotEqual(end["exit"], 0, end)
            self.assertNotEqual(end["error"]["code"], "approval", end)
            with open(force, "rb") as f:
                self.assertEqual(f.read(), before)
            rows = {row["name"]: row for row in self.r.admin("hsm.status")[0]}
            self.assertIn("nothing is done", rows["policy change"]["value"])
        self.control.clear()
        self.wait_for("the change", lambda: self.r.admin("policy.approve")[1]["exit"] == 0)
        with open(force, "rb") as f:
            self.assertNotEqual(f.read(), before)
        self.assertEqual(self.code(self.r.admin("policy.approve"))[0], 2)  # there is none any more
        self.r.stop()
        self.r.start()
        self.works(1)
        self.r.stop()
        self.assertEqual(len(self.log(self.r).events(event="policy.changed")), 1)
        folder = export(self.r)
        audited(self, "verify", folder, keys=folder)

    def test_roster_of_somebody_else(self):
        """Root has put its own roster into the file of what is in force, and spoilt the log, so that
        it can't say otherwise: the MAC key does, before anybody of that roster is asked."""
        self.begin()
        self.works(1)
        self.r.stop()
        force, copy = os.path.join(self.r.state, "in-force"), os.path.join(self.r.state, "log", "copy")
        shutil.copy(force, force + ".old")
        shutil.copy(self.roster, self.roster + ".old")
        self.write_roster("ann", "eve", "fay")
        with open(self.roster, "rb") as f:
            mine = base64.b64encode(f.read())
        with open(force, "rb") as f:
            lines = f.read().split(b"\n")
        lines[2] = b"roster " + mine
        with open(force, "wb") as f:
            f.write(b"\n".join(lines))
        with open(copy, "w", encoding="ascii") as f:
            f.write("\n")
        self.r.start()
        _, end = self.r.admin("log.reopen")
        self.assertEqual((end["exit"], end["error"]["class"]), (6, "integrity"), end)
        self.assertIn("MAC is wrong", end["error"]["text"])
        self.assertEqual(self.r.admin("approval.list")[0], [])
        self.r.stop()
        # The one that was in force is asked.
        shutil.copy(force + ".old", force)
        shutil.copy(self.roster + ".old", self.roster)
        self.r.start()
        self.assertTrue(self.approve(self.ask(self.r, "log.reopen")))
        items, end = self.r.admin("log.reopen")
        self.assertEqual(end["exit"], 0, (end, items))
        self.works(2)


if __name__ == "__main__":
    if not shutil.which("ssh-keygen"):
        print("skipped: ssh-keygen isn't installed")
        sys.exit(77)
    rig.main()
