"""pfx-hsm when things break: wrong PINs, tokens that go and come, kills, hangs, doubled keys."""

import os
import re
import shutil
import signal
import time
import unittest

import hsm_rig as rig
from hsm_rig import Rig, unb64

rig.LEAKS = False


class Faults(unittest.TestCase):
    def not_ready(self, r, *words):
        """Waits until the report tells the cause."""
        until = time.time() + 30
        while True:
            report = r.agent.do("hsm.report")
            text = report.get("body", {}).get("why_not", "")
            if all(w in text for w in words) or time.time() > until:
                break
            time.sleep(0.2)
        for word in words:
            self.assertIn(word, text)
        return text

    def test_wrong_pin(self):
        r = Rig().start()
        try:
            r.init()
            r.stop()
            r.write_pin("users", "wrong-pin")
            r.start()
            self.not_ready(r, "CKR_PIN_INCORRECT", "in the role's pin_file", "counts wrong PINs")
            answer = r.key_csr(1)
            self.assertEqual(answer["class"], "transient", answer)  # no user is given up for it
            rows, end = r.admin("hsm.status")
            users = next(x for x in rows if x["name"] == "token users")
            self.assertIn("CKR_PIN_INCORRECT", users["value"])
            self.assertIn("in the role's pin_file", users["why"])
            self.assertNotIn("next", users)  # no reason in the place of a step
            self.assertNotIn("wrong-pin", r.logged() + str(rows) + str(answer))
            # The service role isn't concerned.
            self.assertEqual(r.broker("assertion", app="main")[1]["exit"], 0)
            for _ in range(2):  # no second login, over restarts: the guard says so
                r.stop()
                r.start()
                text = self.not_ready(r, "users")
                self.assertRegex(text, rig.NO_SECOND_TRY)
            r.stop()
            # SoftHSM's COUNT_LOW stays until somebody has logged in with the right PIN.
            r.p11("users", "--list-objects")
            r.write_pin("users", r.pin("users"))
            r.start()
            self.assertEqual(r.key_csr(1)["class"], "ok")
            # In a ceremony.
            _, end = r.admin("init", encryption_pin="wrong-too")
            self.assertEqual(end["exit"], 2, end)
            for words in ("given with this command", "counts wrong PINs", "Give the command again"):
                self.assertIn(words, end["error"]["text"])
            self.assertNotRegex(end["error"]["text"], "credential|pin_file")  # it was typed
            _, end = r.admin("init", encryption_pin="wrong-too")
            self.assertRegex(str(end), rig.NO_SECOND_TRY)
            r.p11("encryption", "--list-objects")
            _, end = r.admin("init", encryption_pin="wrong-too")  # the token would take one again
            self.assertIn("refused this PIN before, so it isn't tried again. Give the command again",
                          end["error"]["text"])
            self.assertNotRegex(end["error"]["text"], "credential|pin_file")
            r.init()
        finally:
            r.close()

    def test_pin_file(self):
        r = Rig().start()
        try:
            r.stop()
            os.chmod(os.path.join(r.dir, "log.pin"), 0o644)
            r.start()
            self.not_ready(r, "log.pin", "mode 0400")
            os.unlink(os.path.join(r.dir, "log.pin"))
            r.write_pin("log", r.pin("log"))
            r.init()  # looked at again
            self.assertEqual(r.key_csr(1)["class"], "ok")
        finally:
            r.close()

    def test_not_initialised(self):
        r = Rig().start()
        try:
            self.not_ready(r, "run pfx-agent init")
            answer = r.key_csr(1)
            self.assertEqual(answer["class"], "transient")
            self.assertIn("run pfx-agent init", answer["error"]["text"])
            _, end = r.broker("assertion", app="main")
            self.assertIn("run pfx-agent init", end["error"]["text"])
            _, end = r.admin("init")
            self.assertEqual(end["exit"], 2)
            self.assertIn("PIN of the encryption token", end["error"]["text"])
            r.init()
            self.assertEqual(r.key_csr(1)["class"], "ok")
        finally:
            r.close()

    def test_missing_module_and_token(self):
        r = Rig(module="/nowhere/libpkcs11.so").start()
        try:
            self.not_ready(r, "/nowhere/libpkcs11.so")
            _, end = r.admin("init", encryption_pin="x")
            self.assertNotEqual(end["exit"], 0)
            self.assertIn("/nowhere/libpkcs11.so", str(end))
            self.assertEqual(r.stop(), 0)
            r.module = None
            r.labels["log"] = "no-such-token"
            r.write_policy()
            r.start()
            self.not_ready(r, "log")
        finally:
            self.assertEqual(r.close(), 0)

    def test_token_away_and_back(self):
        r = Rig().start()
        try:
            r.init()
            self.assertEqual(r.key_csr(1)["class"], "ok")
            shutil.move(r.tokens, r.tokens + ".away")
            os.mkdir(r.tokens)
            classes = {r.key_csr(2)["class"] for _ in range(3)}
            self.assertLessEqual(classes, {"device", "transient"})
            os.rmdir(r.tokens)
            shutil.move(r.tokens + ".away", r.tokens)
            until = time.time() + 60
            answer = r.key_csr(3)
            while answer["class"] != "ok" and time.time() < until:
                self.assertIn(answer["class"], ("device", "transient"), answer)
                time.sleep(0.5)
                answer = r.key_csr(3)
            self.assertEqual(answer["class"], "ok", answer)
            rows, end = r.broker("assertion", app="main")
            self.assertEqual(end["exit"], 0, end)
        finally:
            self.assertEqual(r.close(), 0)

    def test_doubled_and_foreign_keys(self):
        r = Rig().start()
        try:
            r.init()
            rows, _ = r.admin("key.list")
            ids = {x["name"]: x["id"] for x in rows if "id" in x}
            r.stop()
            # A second private key with the CKA_ID of the client key. On NSS it takes the place of
            # the first one: then it is the wrong key.
            r.p11("service", "--keypairgen", "--key-type", "rsa:2048", "--id",
                  ids["client-main-1"], "--label", "twin")
            r.start()
            words = "2 private keys" if r.kind.keeps_doubles else "CKA_DECRYPT is true"
            text = self.not_ready(r, words)
            _, end = r.broker("assertion", app="main")
            self.assertEqual(end["error"]["class"], "integrity", end)
            _, end = r.admin("init")
            self.assertEqual(end["exit"], 6)
            self.assertIn(words, end["error"]["text"] + text)
        finally:
            r.close()

    def test_weak_key_is_not_taken(self):
        r = Rig().start()
        try:
            r.init()
            rows, _ = r.admin("key.list")
            transport = next(x["id"] for x in rows if x["name"] == "kek-transport-1")
            r.stop()
            r.p11("users", "--delete-object", "--type", "privkey", "--id", transport)
            r.p11("users", "--delete-object", "--type", "pubkey", "--id", transport)
            r.p11("users", "--keypairgen", "--key-type", "rsa:3072", "--id", transport, "--label",
                  "weak", "--usage-sign", "--usage-decrypt", "--extractable")
            r.start()
            self.not_ready(r, "CKA_")
            answer = r.key_csr(1)
            self.assertEqual(answer["class"], "integrity", answer)
        finally:
            r.close()

    def test_lost_keys_are_not_replaced(self):
        r = Rig().start()
        try:
            r.init()
            rows, _ = r.admin("key.list")
            ids = {x["name"]: x["id"] for x in rows if "id" in x}
            r.stop()
            r.p11("users", "--delete-object", "--type", "secrkey", "--id", ids["mac-1"])
            r.start()
            _, end = r.admin("init", encryption_pin=r.pin("encryption"))
            self.assertEqual(end["exit"], 6, end)
            self.assertIn("no MAC key", end["error"]["text"])
        finally:
            r.close()

    @staticmethod
    def local(r):
        listing = r.p11("users", "--list-objects", "--type", "privkey").decode()
        return len(re.findall(r"^ *Access:.*\blocal\b", listing, re.M))

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_killed_while_making(self):
        """kill -9 after the token made the key, before an answer: adopted, no orphan."""
        r = Rig(module=rig.SLOW_MODULE).start()
        try:
            r.init()
            self.until_ready(r)  # else a key of the probe hangs
            for keys in ("private", "public"):
                open(os.path.join(r.dir, "hang-after-generate"), "w").close()
                before = r.count("users", "privkey")
                r.agent.start("hsm.key_csr", **dict(r.ask_body(7), attempt=len(keys),
                                                    key_type="rsa-2048"))
                until = time.time() + 30
                while r.count("users", "privkey") == before and time.time() < until:
                    time.sleep(0.1)
                self.assertEqual(r.count("users", "privkey"), before + 1)
                # SoftHSM fills in what it made in a second step; CKA_LOCAL comes with that. NSS has none.
                until = time.time() + 2
                while self.local(r) <= before and time.time() < until:
                    time.sleep(0.1)
                os.unlink(os.path.join(r.dir, "hang-after-generate"))
                r.stop(signal.SIGKILL)
                if keys == "public":  # only this half was written
                    listing = r.p11("users", "--list-objects", "--type", "privkey").decode()
                    key_id = [l.split()[-1] for l, label in zip(
                        listing.splitlines()[1:], listing.splitlines()) if
                        l.strip().startswith("ID:") and f"7/{len(keys)}" in label]
                    self.assertEqual(len(key_id), 1, listing)
                    r.p11("users", "--delete-object", "--type", "privkey", "--id", key_id[0])
                r.start()
                answer = r.key_csr(7, attempt=len(keys))
                self.assertEqual(answer["class"], "ok", answer)
                self.assertEqual(r.count("users", "privkey"), before + 1)
                self.assertEqual(r.count("users", "pubkey"), before + 1)
                leaf = r.ca.issue(unb64(answer["body"]["csr"]))
                self.assertEqual(r.agent.do("hsm.build_seal", **r.build_body(
                    answer["body"], leaf, r.ca.chain(), 7))["class"], "ok")
        finally:
            r.close()

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_killed_ceremony(self):
        """kill -9 between the encryption key and its pin: the next ceremony knows it as its own."""
        r = Rig(module=rig.SLOW_MODULE).start()
        try:
            asker = r.asker("admin")
            open(os.path.join(r.dir, "hang-after-encryption"), "w").close()
            until = time.time() + 60
            request = asker.send("init", encryption_pin=r.pin("encryption"))
            while r.count("encryption", "privkey") == 0 and time.time() < until:
                time.sleep(0.2)
            self.assertEqual(r.count("encryption", "privkey"), 1)
            self.assertGreater(request, 0)
            os.unlink(os.path.join(r.dir, "hang-after-encryption"))
            r.stop(signal.SIGKILL)
            with open(os.path.join(r.state, "pins"), encoding="ascii") as f:
                self.assertIn("state making", f.read())
            r.start()
            r.init()
            self.assertEqual(r.count("encryption", "privkey"), 1)
        finally:
            r.close()

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_hung_module(self):
        r = Rig(module=rig.SLOW_MODULE).start()
        try:
            r.init()
            r.stop()
            r.write_policy(call_deadline="6s")
            r.start()
            open(os.path.join(r.dir, "hang-after-generate"), "w").close()
            r.agent.start("hsm.key_csr", **dict(r.ask_body(1), attempt=1, key_type="rsa-2048"))
            begun = time.time()
            self.assertEqual(r.process.wait(timeout=60), 70)
            self.assertLess(time.time() - begun, 20 * rig.SLOW)
            self.assertIn("C_GenerateKeyPair hasn't come back", r.logged())
            r.process = None
            os.unlink(os.path.join(r.dir, "hang-after-generate"))
            r.agent.ready.clear()
            r.start()
            self.assertEqual(r.key_csr(1)["class"], "ok")
        finally:
            r.close()

    def fail_wrap(self, r, text, name="fail-wrap"):
        """What the test module's C_WrapKey answers: "RV [mechanism]" in hex; None: as it should."""
        path = os.path.join(r.dir, name)
        if text:
            with open(path + ".new", "w", encoding="ascii") as f:
                f.write(text)
            os.rename(path + ".new", path)
        else:
            os.unlink(path)

    def until_ready(self, r, seconds=120):
        """By itself: nothing but the report is asked for."""
        until = time.time() + seconds
        report = {}
        while not report.get("ready") and time.time() < until:
            time.sleep(0.2)
            report = r.agent.do("hsm.report").get("body", {})
        self.assertTrue(report.get("ready"), (report, r.logged()[-2000:]))
        return report

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    def test_disturbed_probe_is_repeated(self):
        r = Rig(module=rig.SLOW_MODULE).start()
        try:
            r.init()
            r.stop()
            self.fail_wrap(r, "6")  # CKR_FUNCTION_FAILED, as with a full disk
            r.start()
            self.not_ready(r, "lacks at this time", "an export tier", "repeated by itself")
            answer = r.key_csr(1)
            self.assertEqual(answer["class"], "transient", answer)
            rows, _ = r.admin("hsm.status")
            users = next(x for x in rows if x["name"] == "token users")
            self.assertIn("tried again by itself", users["value"])
            self.fail_wrap(r, None)
            report = self.until_ready(r)
            self.assertEqual(report["tier_rsa"], r.kind.tier)
            keyed = r.key_csr(1)["body"]
            leaf = r.ca.issue(unb64(keyed["csr"]))
            body = r.build_body(keyed, leaf, r.ca.chain())
            self.assertEqual(r.agent.do("hsm.build_seal", **body)["class"], "ok")
            # A probe that an operator runs in such a moment shows it, and takes nothing away.
            self.fail_wrap(r, "5")  # CKR_GENERAL_ERROR
            self.fail_wrap(r, "5", "fail-generate")
            rows, end = r.admin("hsm.test")
            self.assertEqual(end["exit"], 1, end)
            self.assertEqual({x["tier"] for x in rows if x["kind"] == "tier"}, {"none"})
            self.assertTrue(any("may pass" in x.get("text", "") for x in rows))
            self.fail_wrap(r, None)
            self.fail_wrap(r, None, "fail-generate")
            answer = r.key_csr(2)
            self.assertEqual(answer["class"], "ok", answer)
            self.assertEqual(r.agent.do("hsm.build_seal", **body)["class"], "ok")
            self.until_ready(r)  # was all the time; the report only waits for the probe's end

            # What the token can't do isn't tried for ever; hsm test looks again.
            r.stop()
            self.fail_wrap(r, "69")  # CKR_KEY_NOT_WRAPPABLE
            r.start()
            self.not_ready(r, "it lacks: an export tier")
            probes = r.logged().count("op probe")
            self.fail_wrap(r, None)
            time.sleep(5)
            self.not_ready(r, "it lacks: an export tier")
            self.assertEqual(r.logged().count("op probe"), probes)
            _, end = r.admin("hsm.test")
            self.assertEqual(end["exit"], 0, end)
            self.until_ready(r)
        finally:
            r.close()

    @unittest.skipUnless(rig.SLOW_MODULE, "the test module isn't built")
    @unittest.skipIf(rig.tokens.Nss.missing(), rig.tokens.Nss.missing())
    @rig.only_on("softhsm", why="it is on NSS whatever PFX_TOKEN says, so once is enough")
    def test_disturbed_tier_is_probed_again(self):
        r = Rig(module=rig.SLOW_MODULE, kinds=dict.fromkeys(rig.ROLES, rig.tokens.Nss),
                profiles=("modern", "compat")).start()
        try:
            r.init()
            keyed = r.key_csr(1)["body"]
            leaf = r.ca.issue(unb64(keyed["csr"]))
            body = r.build_body(keyed, leaf, r.ca.chain())
            r.stop()
            self.fail_wrap(r, "5 1085")  # CKR_GENERAL_ERROR for CKM_AES_CBC_PAD
            r.start()
            report = self.until_ready(r)
            self.assertEqual([report[n] for n in ("tier_rsa", "tier_ec", "compat_tier_rsa",
                                                  "compat_tier_ec")],
                             ["transit", "transit", "direct", "direct"])
            self.assertTrue(any("was disturbed" in n for n in report["notes"]), report)
            built = r.agent.do("hsm.build_seal", **body)["body"]
            self.assertEqual(built["tier"], "transit")
            # Where the floor is above it, nobody is given up for that, and no key is made.
            r.stop()
            r.write_policy(lowest_tier="direct")
            r.start()
            self.not_ready(r, "users.lowest_tier", "repeated by itself")
            for answer in (r.agent.do("hsm.build_seal", **body), r.key_csr(2)):
                self.assertEqual(answer["class"], "transient", answer)
                self.assertIn("repeated by itself", answer["error"]["text"])
            self.fail_wrap(r, None)
            until = time.time() + 120
            while report["tier_rsa"] != "direct" and time.time() < until:
                time.sleep(0.2)
                report = r.agent.do("hsm.report").get("body", report)
            self.assertEqual((report["tier_rsa"], report["tier_ec"]), ("direct", "direct"))
            self.assertFalse(any("was disturbed" in n for n in report["notes"]), report)
            for profile in ("modern", "compat"):
                built = r.agent.do("hsm.build_seal", **dict(body, profile=profile))["body"]
                self.assertEqual(built["tier"], "direct")
        finally:
            r.close()

    def test_stop_finishes_what_runs(self):
        r = Rig(sessions=1).start()
        try:
            r.init()
            waiting = r.agent.start("hsm.key_csr", **dict(r.ask_body(1), attempt=1,
                                                          key_type="rsa-3072"))
            time.sleep(0.3)
            self.assertEqual(r.stop(), 0)
            answer = waiting.get(timeout=5)
            self.assertEqual(answer["class"], "ok", answer)
            self.assertFalse(os.path.exists(os.path.join(r.run, "admin")))
        finally:
            r.close()

    def test_child_follows_parent(self):
        r = Rig()
        try:
            import subprocess
            script = ("import subprocess,sys,time\n"
                      "p = subprocess.Popen(sys.argv[1:])\nprint(p.pid, flush=True)\n"
                      "time.sleep(60)\n")
            parent = subprocess.Popen(["/usr/bin/python3", "-c", script, rig.PROGRAM, "--child",
                                       "--policy", r.policy_path], env=r.env,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            pid = int(parent.stdout.readline())
            r.asker("admin")
            parent.kill()
            parent.wait()
            parent.stdout.close()
            until = time.time() + 20
            while time.time() < until:
                try:
                    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                        if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                            break
                except FileNotFoundError:
                    break
                time.sleep(0.1)
            else:
                self.fail("pfx-hsm outlives the process that started it")
        finally:
            r.close()


if __name__ == "__main__":
    rig.main()
