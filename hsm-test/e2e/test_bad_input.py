"""Bad input: each case has its clear sentence, the other users go on, nothing is lost."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import unittest

import harness
import people
from case import WorldCase, about_keys
from terminal import pkcs11_tool


@about_keys
class Tokens(WorldCase):
    """PINs, modules, tokens and keys that aren't what they should be."""

    def said(self, world):
        """What an operator can see: status, and the daemons' logs."""
        status = world.cli("status")
        return status.out + status.err + world.log("hsm") + world.log("agentd")

    def test_wrong_pin_is_tried_once(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            right = world.pin("users")
            world.stop("hsm")
            harness.private_file(world.path("pins", "users"), "00000000\n")
            world.start_hsm(wait=False)
            harness.wait_for("the sentence", lambda: "CKR_PIN_INCORRECT" in self.said(world), 30)
            self.assertIn("pfx-users", self.said(world))
            # Again with the same PIN: the token isn't asked.
            world.stop("hsm")
            os.truncate(world.path("log", "hsm"), 0)
            world.start_hsm(wait=False)
            harness.wait_for("no second try", lambda: any(
                words in self.said(world) for words in ("isn't tried again", "doesn't try")), 30)
            # The right one: SoftHSM shows COUNT_LOW after a wrong PIN, so a person logs in once.
            world.stop("hsm")
            harness.private_file(world.path("pins", "users"), right + "\n")
            pkcs11_tool(world, "users", "--list-objects")
            world.start_hsm()
            self.until_active(world, [people.upn(1)])

    def test_wrong_encryption_pin_at_init(self):
        world = self.make([people.user(1)])
        with self.telling(world):
            world.prepare()
            world.start_agentd()
            world.start_hsm()
            out = ("--out", world.path("out"))
            first = world.cli("init", *out, secret="00000000")
            self.assertIn(first.code, (2, 4), repr(first))
            self.assertIn("CKR_PIN_INCORRECT", first.err)
            second = world.cli("init", *out, secret="00000000")
            self.assertIn(second.code, (2, 4), repr(second))
            self.assertRegex(second.err, "isn't tried again|doesn't try")
            self.assertEqual(os.listdir(world.path("out")), [])
            pkcs11_tool(world, "encryption", "--list-objects")
            world.init()

    def test_missing_module(self):
        world = self.make([people.user(1)], policy={
            "tokens": {"users": {"module": "/nonexistent/libhsm.so"}}})
        with self.telling(world):
            world.prepare()
            world.start_agentd()
            world.start_hsm(wait=False)
            harness.wait_for("the module's name",
                             lambda: "/nonexistent/libhsm.so" in self.said(world), 30)

    def test_token_removed_and_back(self):
        world = self.ready([people.user(1), people.user(2)])
        with self.telling(world):
            world.setting(issue_delay=3600)
            world.run_once("2s")
            folder = world.kinds["users"].folder
            shutil.move(folder, folder + ".away")
            os.mkdir(folder, 0o700)
            for order in world.orders():
                world.control("/digicert/order/%d" % order["id"], {"status": "issued"})
            world.run_once("3s")
            states = world.states()
            for name in (people.upn(1), people.upn(2)):
                self.assertNotIn(states[name][-1], ("FAILED", "ENDED"))
                if not world.kinds["users"].reads_when_away:
                    self.assertNotEqual(states[name][-1], "ACTIVE")
            shutil.rmtree(folder)  # NSS may have made databases anew
            shutil.move(folder + ".away", folder)
            self.retry_held(world)
            self.until_active(world, [people.upn(1), people.upn(2)])
            self.assertEqual(len(world.orders()), 2)

    def retry_held(self, world):
        if any(r["state"] == "HELD" for r in world.enrolments()):
            world.cli("enrolment", "retry", "--state", "HELD")

    def key_id(self, world, role, algorithm):
        rows = [k for k in world.cli("key", "list", "--json").lines()
                if k["role"] == role and k["algorithm"].startswith(algorithm) and "id" in k]
        self.assertTrue(rows, "no %s key in %s" % (algorithm, role))
        return rows[0]

    def test_service_key_missing(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            key = self.key_id(world, "service", "rsa")
            world.stop("hsm")
            pkcs11_tool(world, "service", "--delete-object", "--type", "privkey", "--id", key["id"])
            world.start_hsm(wait=False)
            harness.wait_for("the key's name", lambda: key["name"] in self.said(world), 30)
            self.assertEqual(world.orders(), [])

    def test_users_key_doubled(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            key = self.key_id(world, "users", "aes")
            world.stop("hsm")
            pkcs11_tool(world, "users", "--keygen", "--key-type", "AES:32", "--id", key["id"],
                        "--label", "another")
            os.truncate(world.path("log", "hsm"), 0)
            world.start_hsm(wait=False)
            # On NSS it takes the first one's place, and is the wrong key then.
            words = ("CKA_ID " + key["id"] if world.kinds["users"].keeps_doubles
                     else "The wrapping key's CKA_PRIVATE is false and must be true")
            harness.wait_for("the doubled key", lambda: words in self.said(world), 30)
            self.assertEqual(world.orders(), [])


class Users(WorldCase):
    """Users who can't have what the rule says."""

    def test_without_mail_and_without_ascii_name(self):
        members = [people.user(1),
                   people.user(2, mail=None, proxyAddresses=[]),
                   people.user(3, mail="only@contoso.onmicrosoft.com"),
                   people.user(4, given="🦄", surname="🐉"),
                   people.user(5, given=None),
                   people.user(6, mail="two words@" + people.DOMAIN),
                   people.user(7)]
        world = self.ready(members, rules=[people.rule(product="secure_email_sponsor")])
        with self.telling(world):
            dry = world.cli("run", "--once", "--dry-run", "--json")
            plan = {i["user"]: i for i in dry.lines() if i["kind"] == "plan"}
            for number, words in ((2, "mail"), (3, "mail"), (4, "ASCII"), (5, "given name"),
                                  (6, "")):
                item = plan[people.upn(number)]
                self.assertEqual(item["decision"], "refuse", item)
                self.assertIn(words, item["why"])
                self.assertIn("Next", item["why"])
            self.assertExit(world.run_once("20s"), 1)
            self.assertActive(world, [people.upn(1), people.upn(7)])
            self.assertEqual(len(world.orders()), 2)
            shown = world.cli("status")
            dry = world.cli("run", "--once", "--dry-run")
            self.assertIn("5 refused, 2 need nothing; nothing was changed", dry.out)
            self.assertIn("ASCII", shown.out + dry.out)


class Configuration(WorldCase):
    """A typo in a file ends the program that reads it, with file, line and what is expected."""

    def test_each_daemon_names_file_and_line(self):
        for name, program, option, changes in (
                ("agent.yaml", "pfx-agentd", "--config", {"agent": {"max_order_per_day": 3}}),
                ("uploader.yaml", "pfx-uploader", "--config", {"uploader": {"graf": {"url": "x"}}}),
                ("hsm-policy.yaml", "pfx-hsm", "--policy", {"policy": {"sesions": 3}})):
            with self.subTest(file=name):
                world = self.make([people.user(1)], **changes)
                world.start_sim()
                world.write_conf()
                result = world.run(harness.program(program), option, world.conf_path(name))
                self.assertEqual(result.code, 2, repr(result))
                self.assertIn("%s:" % name, result.err)
                self.assertRegex(result.err, r"%s:\d+" % name)
                self.assertIn(list(list(changes.values())[0])[0], result.err)

    def test_policy_that_others_may_write(self):
        world = self.make([people.user(1)])
        world.start_sim()
        world.write_conf()
        os.chmod(world.conf_path("hsm-policy.yaml"), 0o666)
        result = world.run(harness.program("pfx-hsm"), "--policy",
                           world.conf_path("hsm-policy.yaml"))
        self.assertNotEqual(result.code, 0)
        self.assertIn("hsm-policy.yaml", result.err)


def can_mount():
    """Whether a small tmpfs can be mounted here."""
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


@unittest.skipUnless(can_mount(), "mounting a small tmpfs needs root and CAP_SYS_ADMIN")
class DiskFull(WorldCase):
    """The state folder on a small tmpfs that is filled up, then emptied."""

    def small(self, world, name, size):
        folder = world.path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s,mode=0700" % size, "none", folder],
                       check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=False)
        return folder

    def fill(self, folder):
        ballast = os.open(os.path.join(folder, "ballast"), os.O_WRONLY | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):
            while True:
                os.write(ballast, b"x" * 4096)
        os.close(ballast)

    def test_store(self):
        members = [people.user(n) for n in range(1, 4)]
        world = self.make(members)
        folder = self.small(world, "state", "8m")
        with self.telling(world):
            world.ready()
            # What pfx-agentd could make room from by itself: its write-ahead log.
            with contextlib.closing(sqlite3.connect(os.path.join(folder, "store.db"))) as store:
                store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.fill(folder)
            result = world.run_once("3s", seconds=90)
            said = result.err + world.cli("status").out + world.log("agentd")
            self.assertRegex(said, "disk is full")
            self.assertIn("Next: free space", said)
            os.unlink(os.path.join(folder, "ballast"))
            if any(r["state"] == "HELD" for r in world.enrolments()):
                world.cli("enrolment", "retry", "--state", "HELD")
            self.until_active(world, [m["userPrincipalName"] for m in members])
            self.assertNothingTwice(world)
            self.assertEqual(len(world.orders()), 3)

    def test_pfx_hsm_state(self):
        world = self.make([people.user(1)])
        folder = self.small(world, "hsm-state", "16m")
        with self.telling(world):
            world.ready()
            self.fill(folder)
            result = world.set_api_key("another-key-of-the-account")
            self.assertNotEqual(result.code, 0)
            self.assertRegex(result.err, "(?i)no space left")
            os.unlink(os.path.join(folder, "ballast"))
            # The one before is still there, whole.
            self.until_active(world, [people.upn(1)])
            self.assertExit(world.set_api_key(), 0)


if __name__ == "__main__":
    unittest.main()
