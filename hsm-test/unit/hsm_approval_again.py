"""Approvals between users of one host (mode uid, for laboratories): who counts, and that status and
pfx-audit call it weak. And approvals that were good once: spent, expired, for other arguments, put
back, of a state folder that comes from a backup."""

import grp
import json
import os
import shutil
import subprocess
import sys
import time
import unittest

import hsm_rig as rig
from hsm_approval import Person
from hsm_log_rig import LogCase, audited, export
from hsm_rig import Rig

AUDIT = os.environ.get("PFX_AUDIT", "")
AGENT = os.environ.get("PFX_AGENT", "")
ANN, BOB, CID, EVE = 61101, 61102, 61103, 61104  # no account: the group is what counts
ADMINS = "games"  # any group of any Debian


class AgainCase(LogCase):
    def ask(self, r, verb, **args):
        """Refused for want of approvals; the question."""
        return self.question(r.admin(verb, **args))

    def question(self, answer):
        _, end = answer
        self.assertEqual((end["exit"], end.get("error", {}).get("code")), (4, "approval"), answer)
        return end["error"]["object"]

    def code(self, answer):
        return answer[1]["exit"], answer[1].get("error", {}).get("code")

    def state(self, r, generation):
        items, end = r.admin("key.states")
        self.assertEqual(end["exit"], 0, end)
        return next(i["state"] for i in items if i["generation"] == generation)


@unittest.skipUnless(os.geteuid() == 0, "only root can be other users")
class Laboratory(AgainCase):
    """Each request comes from a process of its own, with that user's uid."""

    def lab(self, valid):
        r = Rig(approvals=["mode: uid", f"valid: {valid}"], access=[f"admins: {ADMINS}"])
        self.addCleanup(r.close)
        os.chmod(r.dir, 0o711)
        r.start()
        r.init()
        items, end = r.admin("key.rotate", encryption_pin=r.pin("encryption"))
        self.assertEqual(end["exit"], 0, (end, items))
        return r

    def as_user(self, r, uid, verb, group=ADMINS, **args):
        """(items, end) as that user gets it; None: the line was closed on him."""
        gid = grp.getgrnam(group).gr_gid
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            answer = None
            try:
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                answer = r.admin(verb, **args)
            except (OSError, ConnectionError):
                pass
            finally:
                os.write(into, json.dumps(answer).encode())
                os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as stream:
            answer = json.loads(stream.read())
        os.waitpid(child, 0)
        return answer

    def approve(self, r, uid, question, group=ADMINS):
        """The command line, as that user: exit code and what it says."""
        done = subprocess.run(
            [AGENT, "approve", question, "--yes", "--admin-socket", os.path.join(r.run, "admin")],
            user=uid, group=group, extra_groups=[], capture_output=True, text=True, check=False,
            env=dict(r.env, ASAN_OPTIONS="detect_leaks=0", HOME="/"), cwd="/", timeout=60)
        return done.returncode, done.stdout + done.stderr

    def destroy(self, r, uid):
        return self.as_user(r, uid, "key.destroy", generation=2, encryption_pin=r.pin("encryption"))

    def test_two_people(self):
        r = self.lab("10m")
        question = self.question(self.destroy(r, ANN))
        code, said = self.approve(r, ANN, question)
        self.assertEqual(code, 4, said)
        self.assertIn("Who asked for the command can't approve it", said)
        self.assertIsNone(self.as_user(r, EVE, "approval.give", group="nogroup", id=question))
        self.assertNotEqual(self.approve(r, EVE, question, "nogroup")[0], 0)
        code, said = self.approve(r, BOB, question)
        self.assertEqual(code, 0, said)
        self.assertIn("1 of 2 people", said)
        for again in (self.as_user(r, BOB, "approval.give", id=question),
                      self.as_user(r, BOB, "approval.give", group="nogroup", id=question)):
            if again is not None:  # another group, the same person: who isn't let in can't try
                self.assertEqual(self.code(again), (4, "same person"))
        signed = self.as_user(r, CID, "approval.give", id=question, signature="x" * 100)
        self.assertEqual(self.code(signed), (4, "form"))
        self.assertEqual(self.question(self.destroy(r, ANN)), question)
        self.assertEqual(self.state(r, 2), "staged")
        self.assertEqual(self.approve(r, CID, question)[0], 0)
        # Enough, for her who asked: not for others.
        self.assertNotEqual(self.question(self.destroy(r, BOB)), question)
        self.assertEqual(self.state(r, 2), "staged")
        items, end = self.destroy(r, ANN)
        self.assertEqual(end["exit"], 0, (end, items))
        self.assertEqual(self.state(r, 2), "destroyed")
        self.assertEqual(self.code(self.as_user(r, CID, "approval.give", id=question)), (4, "unknown"))
        self.told(r)
        self.no_way(r)

    def no_way(self, r):
        """A changed policy while the tokens of the one in force can't be opened: nobody's signature
        could speak for itself, and the message says what is to be done instead."""
        os.rename(os.path.join(r.dir, "users.pin"), os.path.join(r.dir, "users.pin.away"))
        r.write_policy(approvals=["mode: uid", "valid: 11m"])
        r.start()
        until = time.time() + 40
        while True:
            _, end = r.admin("policy.approve")
            if "In mode uid" in end.get("error", {}).get("text", ""):
                break
            self.assertLess(time.time(), until, end)
            time.sleep(0.2)
        self.assertIn("Lost tokens", end["error"]["text"])
        asked = {i["command"] for i in r.admin("approval.list")[0]}
        self.assertEqual(asked, {"key.destroy"})  # of before: nobody is asked for nothing
        r.stop()

    def told(self, r):
        """Weak, wherever it is spoken of."""
        rows = {row["name"]: row for row in r.admin("hsm.status")[0]}
        self.assertEqual(rows["approvals"]["level"], "warn")
        self.assertIn("weak", rows["approvals"]["value"])
        r.stop()
        log = self.log(r)
        done, = log.events(event="key.destroy", phase="intent")
        record, = done["approvals"]
        self.assertEqual((done["weak"], record["mode"], record["uid"]), (True, "uid", ANN))
        self.assertEqual([one["uid"] for one in record["given"]], [BOB, CID])
        stranger = log.events(event="request.refused", actor_uid=EVE)
        self.assertTrue(stranger, log.entries[-5:])
        folder = export(r)
        head = audited(self, "verify", folder, keys=folder).splitlines()[0]
        self.assertRegex(head, "^VERIFIED: .*; WEAK: 1 command without anybody's signature$")
        receipt = os.path.join(r.dir, "receipt")
        subprocess.run([AUDIT, "prove", folder, str(done["seq"]), "-o", receipt], check=True,
                       capture_output=True, timeout=60)
        self.assertIn("WEAK", audited(self, "check", receipt, "--log", folder, keys=folder))

    def test_expired(self):
        """What enough people approved is good until its expiry only."""
        r = self.lab("10s")
        until = time.time() + 60
        while True:  # on a slow machine the question may be over before both have said yes
            question = self.question(self.destroy(r, ANN))
            codes = [self.code(self.as_user(r, uid, "approval.give", id=question))
                     for uid in (BOB, CID)]
            if codes == [(0, None)] * 2:
                break
            self.assertLess(time.time(), until, codes)
        expiry = self.as_user(r, ANN, "approval.show", id=question)[0][0]["expiry"] / 1000
        time.sleep(max(0, expiry - time.time()) + 0.1)
        self.assertEqual(self.code(self.as_user(r, 0, "approval.give", "root", id=question)),
                         (4, "expired"))
        other = self.question(self.destroy(r, ANN))
        self.assertNotEqual(other, question)
        self.assertEqual(self.state(r, 2), "staged")


class Again(AgainCase):
    """With signatures: none of them is good twice, or for another thing."""

    def setUp(self):
        r = self.r = Rig()
        self.addCleanup(r.close)
        self.people = {name: Person(r.dir, name) for name in ("ann", "bob", "cid")}
        roster = os.path.join(r.dir, "approvers")
        with open(roster, "w", encoding="ascii") as f:
            f.writelines(f"{p.name} {p.public}\n" for p in self.people.values())
        os.chmod(roster, 0o644)
        r.write_policy(approvals=["mode: ssh", f"roster: {roster}", "uids:",
                                  f"  - uid: {os.geteuid()}", "    principal: ann"])
        r.start()
        r.init()

    def approve(self, question):
        statement = self.r.admin("approval.show", id=question)[0][0]["statement"]
        for name in ("bob", "cid"):
            answer = self.r.admin("approval.give", id=question,
                                  signature=self.people[name].sign(statement))
            self.assertEqual(self.code(answer), (0, None), answer)
        return json.loads(statement)

    def copy(self, source, target):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)

    def works(self, verb, **args):
        items, end = self.r.admin(verb, **args)
        self.assertEqual(end["exit"], 0, (verb, end, items))

    def test_again(self):
        r, pin, saved = self.r, self.r.pin("encryption"), os.path.join(self.r.dir, "saved")
        self.works("key.rotate", encryption_pin=pin)
        # Two approve one reason; another one isn't theirs, nor is another generation.
        compromise = self.ask(r, "key.compromise", generation=2, reason="lost-backup")
        self.approve(compromise)
        for args in ({"generation": 2, "reason": "other"}, {"generation": 1, "reason": "lost-backup"}):
            self.assertNotEqual(self.ask(r, "key.compromise", **args), compromise)
        destroy = self.ask(r, "key.destroy", generation=2, encryption_pin=pin)
        first = self.approve(destroy)
        self.assertEqual(self.state(r, 2), "staged")
        r.stop()
        self.copy(r.state, saved)  # as a backup holds it: approved, and not done
        r.start()
        self.works("key.destroy", generation=2, encryption_pin=pin)
        r.stop()
        shutil.copy(os.path.join(saved, "approvals"), r.state)  # the one file put back
        r.start()
        self.assertEqual(self.code(r.admin("approval.show", id=destroy)), (4, "unknown"))
        self.assertEqual(self.code(r.admin("approval.show", id=compromise)), (0, None))
        r.stop()
        self.restored(saved, first)

    def restored(self, saved, first):
        """The whole folder from the backup: the token knows of a longer log, and what begins after
        it knows none of the questions before."""
        r, pin = self.r, self.r.pin("encryption")
        shutil.move(r.state, r.state + ".lost")
        self.copy(saved, r.state)
        r.start()
        _, end = r.admin("key.destroy", generation=2, encryption_pin=pin)
        self.assertNotEqual(end["exit"], 0)
        self.assertNotEqual(end["error"]["code"], "approval", end)
        reopen = self.ask(r, "log.reopen")
        self.approve(reopen)
        self.works("log.reopen")
        names = [i["command"] for i in r.admin("approval.list")[0]]
        r.stop()
        shutil.copy(os.path.join(saved, "approvals"), r.state)  # of another log: another host's, too
        r.start()
        self.assertEqual(r.admin("approval.list")[0], [], names)
        question = self.ask(r, "key.destroy", generation=2, encryption_pin=pin)
        second = json.loads(r.admin("approval.show", id=question)[0][0]["statement"])
        self.assertNotEqual(second["nonce"], first["nonce"])
        self.assertEqual((first["origin"], second["origin"]),
                         ("test-host/pfx-agent", "test-host/pfx-agent/2"))
        # What was signed for the first log is nothing in the second.
        text = json.dumps(first, sort_keys=True, separators=(",", ":"))
        answer = r.admin("approval.give", id=question, signature=self.people["bob"].sign(text))
        self.assertEqual(self.code(answer), (4, "signature"))
        r.stop()
        folder = export(r)
        self.assertNotIn("WEAK", audited(self, "verify", folder, keys=folder))


if __name__ == "__main__":
    if not shutil.which("ssh-keygen"):
        print("skipped: ssh-keygen isn't installed")
        sys.exit(77)
    rig.main()
