"""pfx-hsm: standing keys that rotate while the earlier one is still there; on real tokens."""

import os
import unittest

from cryptography import x509

import hsm_rig as rig
from hsm_flow import verify_jwt
from hsm_rig import Rig


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
