"""The operation log of pfx-hsm: what stands in it after operations, refusals, kills, losses."""

import base64
import glob
import grp
import os
import re
import shutil
import signal
import time
import unittest

from cryptography.hazmat.primitives import serialization

import hsm_rig as rig
from hsm_log_rig import LogCase, note, root_of, sha256
from hsm_rig import Rig, b64, unb64

ORIGIN = "test-host/pfx-agent"
NOBODY = 65534


class Entries(LogCase):
    def test_entries(self):
        r = Rig(ceilings={"builds_per_hour": 30, "assertions_per_hour": 1}).start()
        try:
            items = r.init()
            lines = [i["text"].split(": ", 1)[1] for i in items if "key line" in i.get("text", "")]
            keyed, leaf, built = self.enrol(r, 1)
            self.first_entries(r, lines)
            self.enrolment_entries(self.log(r), keyed, leaf, built)
            self.other_operations(r)
            self.init_again(r)
            self.refusals(r, keyed, leaf)
            self.agentd_notes(r)
            self.rotation(r)
            r.stop()
            log = self.log(r)
            self.assertEqual(log.entries[-1]["event"], "stop")
            self.assertEqual(log.covered, len(log.entries))
            for intent, result in log.pairs():
                self.assertIsNotNone(result, intent)
            self.anchored(r, log)
            self.second_start(r, len(log.entries))
        finally:
            r.close()

    def first_entries(self, r, lines):
        log = self.log(r)
        first = log.entries[0]
        self.assertEqual((first["event"], first["log"]["origin"]), ("log.begin", ORIGIN))
        self.assertEqual(first["log"]["keys"], lines)
        self.assertEqual(len(lines), 2 if r.kind.has_ed25519 else 1)
        with open(r.policy_path, "rb") as f:
            policy = f.read()
        with open(rig.PROGRAM, "rb") as f:
            program = f.read()
        self.assertEqual(first["policy"]["sha256"], sha256(policy).hex())
        self.assertEqual(first["software"]["exe"], sha256(program).hex())
        with open(os.path.join(r.state, "log", "policy", sha256(policy).hex() + ".yaml"), "rb") as f:
            self.assertEqual(f.read(), policy)
        modules = {m["role"]: m["sha256"] for m in first["software"]["modules"]}
        with open(r.kind.module, "rb") as f:
            self.assertEqual(modules, dict.fromkeys(rig.ROLES, sha256(f.read()).hex()))
        # What was before it follows it at once, and nothing later says so of itself.
        before = [e["seq"] for e in log.entries if e.get("before")]
        self.assertEqual(before, list(range(1, len(before) + 1)))
        self.assertEqual({e["target"]["name"] for e in log.events(event="probe")}, set(rig.ROLES))
        keys = {e["target"]["name"] for e in log.events(event="ceremony.key", before=True)}
        self.assertEqual(keys, {"log-1", "anchor-a-1", "anchor-b-1"}
                         | ({"log-ed25519-1"} if r.kind.has_ed25519 else set()))
        made = {e["target"]["name"] for e in log.events(event="ceremony.key", phase="result")}
        self.assertEqual(made, {"wrapping-1", "kek-transport-1", "mac-1", "secrets-1",
                                "client-main-1", "encryption-1"})
        pins = [e["pin"] for e in log.events(event="ceremony.pin", phase="result")]
        self.assertEqual([(p["state"], p.pop("serial")) for p in pins], [("making", 1), ("active", 2)])
        ready = {e["target"]["name"]: e for e in log.events(event="token.ready")}
        self.assertEqual(set(ready), {"users", "service", "log"})
        self.assertEqual(ready["users"]["pins"], [pins[1]])
        self.assertEqual(ready["users"]["pin"], {"serial": 2})
        self.assertEqual(ready["users"]["token"]["serial"], r.serials["users"])
        logins = log.events(event="token.login")
        self.assertEqual({e["target"]["name"] for e in logins}, set(rig.ROLES))
        self.assertEqual({e["rv"] for e in logins}, {"CKR_OK"})
        public = r.admin("key.export_public")[0][0]["sha256"]
        self.assertEqual(pins[1], {"generation": 1, "spki": public, "state": "active"})
        self.pinned = public

    def enrolment_entries(self, log, keyed, leaf, built):
        user = sha256(b"s" * 16 + rig.USER.encode()).hex()
        make, made = [p for p in log.pairs() if p[0]["event"] == "key.make"][0]
        build, done = [p for p in log.pairs() if p[0]["event"] == "pfx.build"][0]
        for entry in (make, made):
            self.assertEqual(entry["target"], {"enrolment": 1, "attempt": 1, "user": user})
            self.assertEqual(entry["key"]["id"], unb64(keyed["key_id"]).hex())
        ticket = sha256(unb64(keyed["ticket"])).hex()
        spki = sha256(unb64(keyed["spki"])).hex()
        self.assertNotIn("ticket", make)
        self.assertNotIn("spki", make["key"])
        self.assertEqual((made["ticket"], made["key"]["spki"], made["outcome"], made["rv"]),
                         (ticket, spki, "ok", "CKR_OK"))
        self.assertEqual(made["out"]["sha256"], sha256(unb64(keyed["csr"])).hex())
        self.assertEqual((build["ticket"], build["key"]["spki"], build["cert"]["sha256"]),
                         (ticket, spki, sha256(leaf).hex()))
        self.assertEqual(done["out"]["sha256"], sha256(unb64(built["pfx"])).hex())
        self.assertEqual(done["tier"], built["tier"])
        self.assertEqual(done["seal"], {
            "by": built["sealed_by"], "generation": 1, "hash": "sha512",
            "sha256": sha256(unb64(built["sealed"])).hex(), "spki": self.pinned})
        self.assertEqual({e["actor"]["role"] for e in (make, made, build, done)}, {"agentd"})
        self.assertLess(done["seq"], log.covered)

    def other_operations(self, r):
        jwt = r.broker("assertion", app="main")[0][0]["assertion"]
        r.admin("secret.set", name="digicert", value="a-guessable-secret")
        self.assertEqual(r.broker("secret", name="digicert")[0][0]["value"], "a-guessable-secret")
        log = self.log(r)
        signed = log.events(event="assertion.sign", phase="result")[0]
        self.assertEqual(signed["out"]["sha256"],
                         sha256(jwt.rsplit(".", 1)[0].encode()).hex())
        self.assertEqual((signed["target"]["name"], signed["actor"]["role"]), ("main", "uploader"))
        for event in ("secret.set", "secret.seal", "secret.open"):
            for entry in log.events(event=event):
                self.assertNotIn("out", entry)
                self.assertEqual(entry["target"]["name"], "digicert")
        self.assertEqual(len(log.events(event="secret.seal")), 2)
        self.assertEqual(len(log.events(event="secret.open")), 2)
        self.assertEqual(len(log.events(event="key.export")), 2)
        text = b"".join(log.raw)
        for hidden in (b"guessable", rig.USER.encode(), b"anna@", jwt.rsplit(".")[2].encode()):
            self.assertNotIn(hidden, text)

    def init_again(self, r):
        """Without the encryption token's PIN it makes nothing, and hands out the public half."""
        size = len(self.log(r).entries)
        items, end = r.admin("init")
        self.assertEqual(end["exit"], 0, end)
        given = [i for i in items if i.get("file") == "encryption-key-1.pem"]
        self.assertEqual(len(given), 1, items)
        public = serialization.load_pem_public_key(given[0]["pem"].encode())
        spki = public.public_bytes(serialization.Encoding.DER,
                                   serialization.PublicFormat.SubjectPublicKeyInfo)
        log = self.log(r)
        told = [e for e in log.events(event="key.export") if e["seq"] >= size]
        self.assertEqual([(e["phase"], e["outcome"], e["target"]["name"]) for e in told],
                         [("intent", "pending", "encryption-1"), ("result", "ok", "encryption-1")])
        self.assertEqual(told[1]["out"]["sha256"], sha256(spki).hex())
        self.assertEqual(told[1]["out"]["sha256"], self.pinned)
        self.assertLess(told[1]["seq"], log.covered)

    def refusals(self, r, keyed, leaf):
        # An operation that fails has its result; what never became one is a note.
        other = r.ca.issue(unb64(keyed["csr"]), emails=["eve@example.test"])
        answer = r.agent.do("hsm.build_seal", **r.build_body(keyed, other, r.ca.chain(), 1))
        self.assertEqual(answer["class"], "integrity")
        result = self.log(r).events(event="pfx.build", phase="result")[-1]
        self.assertEqual(result["outcome"], "integrity")
        self.assertIn("op", result["fail"])
        for absent in ("out", "seal", "tier"):
            self.assertNotIn(absent, result)
        for kind, body in (("hsm.key_csr", dict(r.ask_body(2), attempt=1, key_type="dsa")),
                           ("hsm.key_csr", dict(r.ask_body(2), attempt=1, key_type="ec-p256",
                                                extra=1)),
                           ("hsm.nothing", {})):
            self.assertEqual(r.agent.do(kind, **body)["class"], "refused")
        self.assertEqual(r.broker("assertion", app="main")[1]["error"]["code"], "ceiling")
        self.assertEqual(r.broker("assertion", app="other")[1]["exit"], 4)
        self.assertEqual(r.admin("key.show", name="nothing")[1]["exit"], 2)
        self.assertEqual(r.admin("no.such.verb")[1]["exit"], 2)
        refused = self.covered(r, event="request.refused", target_name="unknown",
                               actor_role="operator")
        self.assertEqual(refused[-1]["outcome"], "usage")
        log = self.log(r)
        told = [(e["target"]["name"], e["outcome"], e["actor"]["role"])
                for e in log.events(event="request.refused")]
        for one in (("hsm.key_csr", "refused", "agentd"), ("unknown", "refused", "agentd"),
                    ("assertion", "transient", "uploader"), ("assertion", "refused", "uploader"),
                    ("key.show", "usage", "operator")):
            self.assertIn(one, told)
        self.assertEqual(told.count(("hsm.key_csr", "refused", "agentd")), 2)
        self.assertIn("ceiling", [e["fail"].get("code") for e in log.events(
            event="request.refused", target_name="assertion")])

    def agentd_notes(self, r):
        def give(*notes):
            return r.agent.do("hsm.log", notes=list(notes))

        self.assertEqual(give(note(1, "agentd.start", name="0.1.0"),
                              note(2, "order.placed", enrolment=1, attempt=1, user=b64(b"u" * 32),
                                   order_id=77, key_id=b64(b"k" * 16)))["body"], {"n": 2})
        size = len(self.log(r).events(src="agentd"))
        # Delivered again, and half of it new.
        self.assertEqual(give(note(1, "agentd.start"), note(2))["body"], {"n": 2})
        self.assertEqual(give(note(2), note(3, "upload.confirmed", actor="operator", uid=1234,
                                            outcome="lost", pfx=b64(b"p" * 32), generation=1,
                                            thumbprint=b64(b"t" * 20), name="record",
                                            fail_code="AADSTS 700 <x>"))["body"], {"n": 3})
        for bad in ([note(5)], [note(4), note(6)], [note(4), note(4)],
                    [note(4), note(5, "pfx.build")], [note(4, "stop")], [note(4, "token.ready")],
                    [note(4, outcome="pending")], [note(4, outcome="unknown")],
                    [note(4, actor="agentd")], [note(1, "log.begin")],
                    [note(4, at=2 ** 53 - 1)]):
            self.assertEqual(give(*bad)["class"], "refused", bad)
        log = self.log(r)
        theirs = log.events(src="agentd")
        self.assertEqual((size, [e["n"] for e in theirs]), (2, [1, 2, 3]))
        self.assertEqual({e["phase"] for e in theirs}, {"note"})
        placed, confirmed = theirs[1:]
        self.assertEqual((placed["target"], placed["key"]), (
            {"enrolment": 1, "attempt": 1, "user": (b"u" * 32).hex(), "order": 77},
            {"id": (b"k" * 16).hex()}))
        self.assertEqual((confirmed["actor"], confirmed["out"], confirmed["seal"],
                          confirmed["target"], confirmed["outcome"]), (
            {"role": "operator", "uid": 1234}, {"sha256": (b"p" * 32).hex()}, {"generation": 1},
            {"name": "record", "thumbprint": (b"t" * 20).hex()}, "lost"))
        self.assertNotIn("<", confirmed["fail"]["code"])
        self.assertIn("at", confirmed)
        # 8 notes for each build of an hour, and 1,000.
        n = 3
        while n < 1240 and give(*[note(i) for i in range(n + 1, n + 201)]).get("body") == {
                "n": n + 200}:
            n += 200
        self.assertEqual(n, 1203)
        answer = give(*[note(i) for i in range(n + 1, n + 201)])
        self.assertEqual((answer["class"], answer["error"]["code"]), ("transient", "quota"))
        self.assertEqual(give(note(n + 1))["body"], {"n": n + 1})
        self.assertEqual(self.status(r)["pfx-agentd"]["number"], n + 1)

    def rotation(self, r):
        before = {row["value"] for row in r.admin("log.status")[0] if row["name"] == "key"}
        items, end = r.admin("log.rotate_key")
        self.assertEqual(end["exit"], 0, end)
        after = {i["vkey"] for i in items if i["kind"] == "key"}
        self.assertFalse(before & after)
        log = self.log(r)
        entry = log.events(event="log.rotate-key")[0]
        self.assertEqual(set(entry["log"]["keys"]), after)
        new = next(line for line in after if line.split("+", 2)[2].startswith("Aj"))
        self.assertEqual(entry["key"]["spki"],
                         sha256(base64.b64decode(new.split("+", 2)[2])[1:]).hex())
        made = [e["target"]["name"] for e in log.events(event="ceremony.key", phase="result")]
        self.assertIn("log-2", made)
        ids = [{line.split("+")[1] for line in lines} for lines in (before, after)]
        both = [n for n in log.notes if n["signers"] == ids[0] | ids[1]]
        self.assertTrue(both, log.notes)
        self.assertEqual({n["size"] for n in both}, {entry["seq"] + 1})
        self.assertTrue(os.path.exists(os.path.join(r.state, "log", "checkpoints",
                                                    "%020d" % (entry["seq"] + 1))))
        self.enrol(r, 3)
        log = self.log(r)
        self.assertEqual(max(log.notes, key=lambda n: n["size"])["signers"], ids[1])

    def anchored(self, r, log):
        """The head of the log is in the label of one of the anchors, by OpenSC's pkcs11-tool."""
        listing = r.p11("log", "--list-objects", "--type", "secrkey").decode()
        labels = re.findall(r"pfxlog1:\w+:\d+:\w+", listing)
        self.assertEqual(len(labels), 2, listing)
        head = max(labels, key=lambda label: int(label.split(":")[2]))
        text = (f"{ORIGIN}\n{len(log.raw)}\n"
                + base64.b64encode(root_of(log.leaves)).decode() + "\n").encode()
        self.assertEqual(head, "pfxlog1:%s:%d:%s" % (
            sha256(ORIGIN.encode()).hex()[:8], len(log.raw), sha256(text).hex()[:24]))

    def second_start(self, r, size):
        """Another policy; the keys of the second generation are found."""
        r.write_policy(max_validity="400d")
        r.start()
        self.enrol(r, 4)
        log = self.log(r)
        new = log.entries[size:]
        self.assertEqual([e["event"] for e in new[:2]], ["start", "policy.changed"])
        with open(r.policy_path, "rb") as f:
            digest = sha256(f.read()).hex()
        self.assertEqual((new[0]["policy"]["sha256"], new[1]["policy"]["sha256"], new[1]["weak"]),
                         (digest, digest, True))
        self.assertTrue(os.path.exists(os.path.join(r.state, "log", "policy", digest + ".yaml")))
        # Nothing was ahead of the anchor, since it was stopped in order.
        self.assertEqual(log.events(event="log.recovered"), [])
        self.assertEqual(len([e for e in new if e["event"] == "token.ready"]), 3)


class Losses(LogCase):
    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_killed(self):
        """kill -9 before and after the token made a key: unknown results, and what was found."""
        r = Rig(module=rig.SLOW_MODULE).start()
        try:
            r.init()
            hang = os.path.join(r.dir, "hang-after-generate")
            open(hang, "w").close()
            before = r.count("users", "privkey")
            r.agent.start("hsm.key_csr", **dict(r.ask_body(7), attempt=1, key_type="rsa-2048"))
            until = time.time() + 30
            while r.count("users", "privkey") == before and time.time() < until:
                time.sleep(0.1)
            self.assertEqual(r.count("users", "privkey"), before + 1)
            time.sleep(1)  # SoftHSM shows a key before all of its attributes are written
            os.unlink(hang)
            r.stop(signal.SIGKILL)
            size = len(self.log(r).entries)
            intent = self.log(r).events(event="key.make", phase="intent")[-1]
            r.start()
            found = self.covered(r, event="key.recovered")[0]
            self.assertEqual((found["found"], found["ref"], found["key"]["id"]),
                             ("key", intent["seq"], intent["key"]["id"]))
            new = self.log(r).entries[size:]
            self.assertEqual([e["event"] for e in new[:2]], ["start", "key.make"])
            self.assertEqual((new[1]["phase"], new[1]["outcome"], new[1]["ref"], new[1]["op"]),
                             ("result", "unknown", intent["seq"], intent["op"]))
            recovered = self.covered(r, event="log.recovered")[0]
            self.assertEqual(recovered["log"]["anchor"] + recovered["count"], size)
            self.assertEqual(r.key_csr(7, attempt=1)["class"], "ok")
            if isinstance(r.kind, rig.tokens.Softhsm):
                self.log_token_away(r)
            for intent, result in self.log(r).pairs():
                self.assertIsNotNone(result, intent)
        finally:
            r.close()

    def log_token_away(self, r):
        """No release while nobody signs; the result is on disk, and is covered later."""
        for path in glob.glob(r.tokens + "/*"):
            with open(os.path.join(path, "token.object"), "rb") as f:
                if b"log".ljust(32) in f.read():
                    break
        away = os.path.join(r.dir, "away")
        shutil.move(path, away)
        answers = [r.key_csr(8, key_type="ec-p256", attempt=i) for i in (1, 2, 3)]
        self.assertLessEqual({a["class"] for a in answers}, {"transient", "device"}, answers)
        self.assertFalse(any("csr" in a.get("body", {}) for a in answers))
        rows, _ = r.admin("log.status")
        self.assertIn("bad", {x["level"] for x in rows if x["name"] == "signer"}, rows)
        shutil.move(away, path)
        until = time.time() + 60
        answer = r.key_csr(8, key_type="ec-p256", attempt=1)
        while answer["class"] != "ok" and time.time() < until:
            time.sleep(0.3)
            answer = r.key_csr(8, key_type="ec-p256", attempt=1)
        self.assertEqual(answer["class"], "ok", (answer, r.logged()[-3000:]))
        self.assertEqual(self.status(r)["signer"]["level"], "ok")

    def test_folder(self):
        """A folder that can't be written, one from a backup, one that is gone."""
        r = Rig(admins="nogroup").start()
        try:
            r.init()
            self.enrol(r, 1)
            self.backed_up(r)
            r.stop()
            folder = os.path.join(r.state, "log")
            self.read_only(r, folder)
            old = folder + ".old"
            shutil.copytree(folder, old)
            r.start()
            self.enrol(r, 2)
            r.stop()
            size = len(self.log(r).entries)
            shutil.rmtree(folder)
            shutil.copytree(old, folder)
            r.start()
            self.refused(r, "rolled back")
            self.reopened(r, 2, size, len(self.log(r, old).entries))
            r.stop()
            shutil.rmtree(folder)
            r.start()
            text = self.refused(r, "log was lost")
            self.assertIn("log reopen", text)
            self.assertEqual(r.admin("init", encryption_pin=r.pin("encryption"))[1]["exit"], 6)
            self.reopened(r, 3, None, 0)
            self.a_copy(r, folder)
        finally:
            r.close()

    def backed_up(self, r):
        """The manifest's hash in an operation of its own, and the anchor is behind it."""
        digest = sha256(b"manifest")
        items, end = r.admin("backup.create", manifest=base64.b64encode(digest).decode())
        self.assertEqual((end["exit"], [i["kind"] for i in items]), (0, ["step"]), (end, items))
        log = self.log(r)
        intent, result = log.pairs()[-1]
        self.assertEqual((intent["event"], result["outcome"], result["out"]["sha256"]),
                         ("backup.create", "ok", digest.hex()))
        self.assertLess(result["seq"], log.covered)
        self.assertGreater(self.status(r)["anchor"]["number"], result["seq"])
        for wrong in ({}, {"manifest": base64.b64encode(digest[1:]).decode()}):
            self.assertNotEqual(r.admin("backup.create", **wrong)[1]["exit"], 0)
        if os.geteuid() == 0:
            self.by_an_admin(r, base64.b64encode(digest).decode())

    def by_an_admin(self, r, manifest):
        """Whoever may ask but isn't root could have any files restored by root."""
        os.chmod(r.dir, 0o711)
        group = grp.getgrnam("nogroup").gr_gid
        os.setegid(group)
        os.seteuid(65534)
        try:
            status = r.admin("hsm.status")[1]
            end = r.admin("backup.create", manifest=manifest)[1]
        finally:
            os.seteuid(0)
            os.setegid(0)
        self.assertEqual((status["exit"], end["exit"]), (0, 4), end)
        self.assertIn("Only root", end["error"]["text"])
        self.assertEqual(self.log(r).events(event="backup.create")[-1]["outcome"], "ok")

    def a_copy(self, r, folder):
        """What a backup brings back is never written to, though no anchor says that it is older."""
        r.stop()
        size = len(self.log(r).entries)
        with open(os.path.join(folder, "copy"), "w", encoding="ascii") as f:
            f.write("\n")
        r.start()
        self.refused(r, "log reopen")
        self.assertEqual(len(self.log(r).entries), size)
        self.reopened(r, 4, size, size)

    def read_only(self, r, folder):
        if os.geteuid() == 0:
            for path in [r.dir] + glob.glob(r.dir + "/**", recursive=True):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        how = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        paths = [folder] + glob.glob(folder + "/**", recursive=True)
        modes = {path: os.stat(path).st_mode & 0o7777 for path in paths}
        for path in paths:
            os.chmod(path, modes[path] & 0o555)
        r.start(**how)
        answer = r.key_csr(9, key_type="ec-p256")
        self.assertNotEqual(answer["class"], "ok", answer)
        self.assertIn(folder, str(answer["error"]))
        self.assertEqual(self.status(r)["state"]["level"], "bad")
        rows, end = r.admin("hsm.status")
        self.assertEqual(end["exit"], 0)
        self.assertIn("closed", next(x["value"] for x in rows if x["name"] == "operation log"))
        self.assertNotEqual(r.admin("init", encryption_pin=r.pin("encryption"))[1]["exit"], 0)
        r.stop()
        for path in paths:
            os.chmod(path, modes[path])
        if os.geteuid() == 0:
            for path in [r.dir] + glob.glob(r.dir + "/**", recursive=True):
                os.chown(path, 0, 0, follow_symlinks=False)

    def refused(self, r, words):
        until = time.time() + 30
        while True:
            text = r.agent.do("hsm.report")["body"].get("why_not", "")
            if words in text or time.time() > until:
                break
            time.sleep(0.1)
        self.assertIn(words, text)
        self.assertEqual(r.key_csr(5, key_type="ec-p256")["class"], "integrity")
        for verb in ("key.export_public", "log.rotate_key"):
            _, end = r.admin(verb)
            self.assertEqual(end["exit"], 6, end)
        _, end = r.admin("hsm.status")
        self.assertEqual(end["exit"], 0)
        return text

    def reopened(self, r, number, anchored, restored):
        folder = os.path.join(r.state, "log")
        last = None
        if os.path.exists(folder + "/checkpoint.0"):
            slots = []
            for path in glob.glob(folder + "/checkpoint.?"):
                with open(path, "rb") as f:
                    slots.append(f.read()[17:].rstrip(b"\0").decode())
            last = max(slots, key=lambda t: int(t.split("\n")[1]) if t else 0)
        items, end = r.admin("log.reopen")
        self.assertEqual(end["exit"], 0, (end, r.logged()[-3000:]))
        self.assertEqual({i["origin"] for i in items if i["kind"] == "key"},
                         {f"{ORIGIN}/{number}"})
        log = self.log(r)
        first = log.entries[0]
        self.assertEqual((first["event"], first["log"]["origin"], first["weak"],
                          first["log"].get("before"), first["log"]["restored"]),
                         ("log.reopen", f"{ORIGIN}/{number}", True, last, restored))
        self.assertEqual(first["actor"]["uid"], os.geteuid())
        if anchored:
            self.assertEqual(first["log"]["anchor"], anchored)
        self.assertTrue(log.events(event="ceremony.key", before=True))
        until = time.time() + 30  # the other roles follow by themselves
        while r.key_csr(10 + number, key_type="ec-p256")["class"] != "ok" and time.time() < until:
            time.sleep(0.2)
        self.enrol(r, 20 + number)
        self.assertEqual(r.admin("log.reopen")[1]["exit"], 2)  # there is no reason for it now
        r.stop()
        r.start()
        self.enrol(r, 30 + number)
        self.log(r)


if __name__ == "__main__":
    rig.main()
