"""pfx-audit ceremony on pages and logs that this file makes itself, from the description of the
format: what agrees, what differs, what isn't there, and every line of a page changed."""

import base64
import hashlib
import json
import unittest

import audit_approvals
from audit_log import Log, note, path_of, root_of
from audit_rig import Audit, HOSTILE
from export_make import Key

ROLES = (("users", "tok users", "0f0f"), ("log", "tok log", "1e1e"))


def hex_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Ceremony(Audit):
    def setUp(self):
        super().setUp()
        self.log = Log()
        self.signer = self.log.signers[0]
        self.ops = {}
        self.policy, self.exe = hex_of("policy"), hex_of("exe")
        self.log.note("start", software={"exe": self.exe, "version": "0.1.0"},
                      policy={"sha256": self.policy})
        self.token = {role: {"label": label, "serial": serial} for role, label, serial in ROLES}
        self.key("log-1", "log", "ec-p256", self.signer_spki(), before=True)
        self.key("log-ed25519-1", "log", "ed25519",
                 hashlib.sha256(self.log.signers[1].spki).hexdigest(), before=True)
        self.key("mac-1", "users", "hmac-sha256", None)
        self.key("secrets-1", "users", "rsa-3072", hex_of("secrets"))
        first, last = self.log.pair("ceremony.certificate", intent={"target": {"name": "client-1"}},
                                    result={"cert": {"sha256": hex_of("cert")}})
        self.ops["client-1"] = self.op_of(last)
        self.pin = self.log.pair("ceremony.pin", intent={
            "pin": {"generation": 1, "spki": hex_of("enc"), "state": "active"}}, result={
                "pin": {"generation": 1, "spki": hex_of("enc"), "state": "active"}})
        self.text = self.record()
        self.sealed(self.text)

    def signer_spki(self):
        return hashlib.sha256(self.signer.spki).hexdigest()

    def op_of(self, seq):
        return json.loads(self.log.entries[seq])["op"]

    def key(self, name, role, algorithm, spki, before=False):
        key = {"alg": algorithm, "id": hex_of(name)[:32]}
        if spki:
            key["spki"] = spki
        more = {"key": key, "target": {"name": name}}
        if before:
            seq = self.log.note("ceremony.key", before=True, token=self.token[role], **more)
        else:
            _, seq = self.log.pair("ceremony.key", intent=more,
                                   result=dict(more, token=self.token[role]))
        self.ops[name] = self.op_of(seq)

    def record(self, **changes):
        of = {"policy": self.policy, "exe": self.exe, "version": "0.1.0", "uid": 0, "secrets": hex_of("secrets"),
              "id": hex_of("mac-1")[:32], "name": "mac-1", "serial": "0f0f", "cert": hex_of("cert"),
              "enc": hex_of("enc"), "algorithm": "rsa-3072", "op": self.ops["secrets-1"],
              "log": self.log.origin, "logkey": self.signer_spki(),
              "logkey2": hashlib.sha256(self.log.signers[1].spki).hexdigest(), **changes}
        return f"""pfx-agent ceremony record v1
  kind init; time 2026-11-23T13:00:00.000Z; uid {of['uid']}
  host host1.example; log {of['log']}
  policy {of['policy']}
  version {of['version']}; executable {of['exe']}
witness Ada; {chr(0x100)}b
role users
  token tok users; serial {of['serial']}; device x
role log
  token tok log; serial 1e1e
  module /m.so, version 1
  sha256 {hex_of('module')}
key log-1
  role log; algorithm ec-p256; how made
  id {hex_of('log-1')[:32]}; operation {self.ops['log-1']}
  spki {of['logkey']}
  is SIGN SENSITIVE
  not EXTRACTABLE
  unknown COPYABLE
  mechanisms CKM_ECDSA
key log-ed25519-1
  role log; algorithm ed25519; how made
  id {hex_of('log-ed25519-1')[:32]}; operation {self.ops['log-ed25519-1']}
  spki {of['logkey2']}
key {of['name']}
  role users; algorithm hmac-sha256; how found
  id {of['id']}; operation {self.ops['mac-1']}
key secrets-1
  role users; algorithm {of['algorithm']}; how made
  id {hex_of('secrets-1')[:32]}; operation {of['op']}
  spki {of['secrets']}
certificate client-1
  sha256 {of['cert']}
  operation {self.ops['client-1']}; until 2029-11-22T13:13:31.000Z
pin encryption-1
  generation 1; state active
  key-name enc
  provider P
  spki {of['enc']}
attestation secrets-1
  source object attest secrets-1
  sha256 {hex_of('attestation')}; size 11
note export tier: transit; said so
end of record
"""

    def sealed(self, text, **more):
        """The page: the record's hash logged, a checkpoint, the receipt."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        entry = {"out": {"sha256": digest}, "actor": {"role": "operator", "uid": 0},
                 "target": {"name": "page"}, **more}
        seq = self.log.note(entry.pop("event", "ceremony.record"), entry.pop("outcome", "ok"),
                            **entry)
        leaves = self.log.leaves()
        lines = [base64.b64encode(h).decode() for h in path_of(seq, leaves)]
        checkpoint = note(self.log.origin, len(leaves), root_of(leaves), self.log.signers).decode()
        self.page = text + f"sha256 {digest}\nentry {self.log.entries[seq].decode()}\n" + "\n".join(
            ["c2sp.org/tlog-proof@v1", f"index {seq}", *lines, "", checkpoint])
        return self.page

    def check(self, page=None, code=0, log=None, keys=None, more=()):
        path = self.put("page.txt", self.page if page is None else page)
        self.put("keys", "".join(k.line + "\n" for k in keys or self.log.signers))
        if log is None:
            self.log.export(self.path("export-%d" % len(self.log.entries)))
            log = self.path("export-%d" % len(self.log.entries))
        return self.run_it("ceremony", path, "--key", self.path("keys"),
                           *(("--log", log) if log else ()), *more, code=code)

    def test_agrees(self):
        out, _ = self.check()
        self.assertIn("PROVEN: 6 of 6 keys, certificates, generations and approvals", out)
        self.assertIn("attestation", out)
        # The log goes on: the page's checkpoint is an older one of it.
        for _ in range(300):
            self.log.note("clock.step", clock={"step": 1})
        self.check()
        out, _ = self.check(log="")
        self.assertIn("give an export", out)
        item = self.json("ceremony", self.path("page.txt"), "--key", self.path("keys"), "--log",
                         self.path("export-%d" % len(self.log.entries)))[0]
        self.assertTrue(item["proven"] and item["compared"])
        self.assertEqual({"agrees"}, {s["match"] for s in item["sections"]})

    def test_every_line(self):
        """A character changed, a line taken out, a line doubled: none is believed."""
        lines = self.page.splitlines(keepends=True)
        for i, line in enumerate(lines):
            at = len(line) // 2
            other = "x" if line[at:at + 1] != "x" else "y"
            for changed in (line[:at] + other + line[at + 1:], "", line + line):
                page = "".join(lines[:i] + [changed] + lines[i + 1:])
                with self.subTest(line=line, changed=changed):
                    self.assertNotEqual(page, self.page)
                    self.check(page, code=6, log="")
        for page in ("", "x\n", self.page[:200], self.page + "x", self.page * 2, HOSTILE,
                     "pfx-agent ceremony record v1\n" * 3):
            self.check(page, code=6, log="")

    def test_hash_mended(self):
        """Whoever changes a line and the hash below it still lacks the log's entry."""
        text = self.text.replace("hmac-sha256", "hmac-sha512")
        digest = [hashlib.sha256(t.encode()).hexdigest() for t in (self.text, text)]
        page = self.page.replace(self.text, text)
        _, err = self.check(page.replace("sha256 " + digest[0], "sha256 " + digest[1]), code=6, log="")
        self.assertIn("holds the hash of another record", err)
        _, err = self.check(page.replace(digest[0], digest[1]), code=6, log="")
        self.assertIn("doesn't lead to the checkpoint's root", err)

    def test_signers(self):
        stranger = Key.p256(self.log.origin)
        _, err = self.check(code=6, log="", keys=[stranger])
        self.assertIn("signed", err)
        out, _ = self.check(log="", keys=self.log.signers[:1])
        self.assertIn("1 signature line by keys that you didn't give", out)
        self.check(log="", keys=self.log.signers[1:])
        self.sealed(self.record(logkey=hex_of("other"), logkey2=hex_of("others")))
        _, err = self.check(code=6, log="")
        self.assertIn("none of the log keys that the record lists", err)
        self.run_it("ceremony", self.path("page.txt"), code=2)

    def late(self, **changes):
        """Written by the next process, of a destroyed key's operation that was cut off."""
        key = {"key": {"alg": "hmac-sha256", "id": hex_of("mac-1")[:32]}, "target": {"name": "mac-1"}}
        intent = self.log.add("standing.destroy", "intent", "pending",
                              actor={"role": "operator", "uid": 0},
                              standing={"state": "destroyed"}, **key)
        op = self.op_of(intent)
        self.log.note("start", software={"exe": hex_of("new"), "version": "0.1.0"},
                      policy={"sha256": hex_of("other")})
        self.log.add("standing.destroy", "result", changes.get("outcome", "unknown"), op=op,
                     ref=intent, key=key["key"])
        return f"""pfx-agent ceremony record v1
  kind standing.destroy; time 2026-11-23T13:00:00.000Z; uid {changes.get('uid', 0)}
  host host1.example; log {self.log.origin}
  policy {changes.get('policy', self.policy)}
  version 0.1.0; executable {changes.get('exe', self.exe)}
  written-late 2026-11-24T13:00:00.000Z
key mac-1
  role users; algorithm hmac-sha256; how {changes.get('how', 'cut-off')}
  id {changes.get('id', hex_of('mac-1')[:32])}; operation {op}; intent {intent}
standing mac-1
  state {changes.get('state', 'destroyed')}
end of record
"""

    def test_written_late(self):
        for changes, differs in (
                ({}, None), ({"policy": hex_of("other"), "exe": hex_of("new")}, None),
                ({"state": "active"}, None),  # as it was before the operation that was cut off
                ({"policy": hex_of("any")}, "the policy isn't"), ({"exe": hex_of("any")}, "the executable"),
                ({"uid": 1001}, "another user gave the command"),
                ({"state": "previous"}, "its state"), ({"id": hex_of("x")[:32]}, "its CKA_ID"),
                ({"outcome": "ok"}, "it was done"), ({"how": "destroyed"}, "NO ENTRY"),
                ({"outcome": "device"}, "its state")):
            with self.subTest(changes=changes):
                self.setUp()
                self.sealed(self.late(**changes))
                out, _ = self.check(code=6 if differs else 0)
                self.assertIn("late        written 2026-11-24T13:00:00.000Z", out)
                self.assertIn(differs or "PROVEN: 2 of 2 keys", out)
                self.assertEqual("whether what was cut off was done" in out,
                                 changes.get("how") != "destroyed")

    def test_entry(self):
        for more, why in (({"event": "ceremony.other"}, "another event"),
                          ({"outcome": "device"}, "doesn't say ok"),
                          ({"src": "agentd"}, "wasn't written by pfx-hsm"),
                          ({"actor": {"role": "operator", "uid": 1001}}, "another user gave"),
                          ({"out": {"sha256": hex_of("other")}}, "hash of another record")):
            self.sealed(self.text, **more)
            _, err = self.check(code=6, log="")
            self.assertIn(why, err)
        for change, why in (({"log": "other/pfx-agent"}, "another log"),
                            ({"uid": 1001}, "another user gave")):
            self.sealed(self.record(**change))
            _, err = self.check(code=6, log="")
            self.assertIn(why, err)

    def test_differs(self):
        for change, what in (({"secrets": hex_of("x")}, "in its public key"),
                             ({"id": "00" * 16}, "in its CKA_ID"), ({"name": "mac-2"}, "in its name"),
                             ({"serial": "ffff"}, "in its token"),
                             ({"algorithm": "rsa-2048"}, "in its algorithm"),
                             ({"cert": hex_of("x")}, "in the certificate"),
                             ({"enc": hex_of("x")}, "in its public key"),
                             ({"op": self.ops["client-1"]}, "in its operation"),
                             ({"op": "0" * 26}, "NO ENTRY"),
                             ({"policy": hex_of("x")}, "the policy isn't"),
                             ({"exe": hex_of("x")}, "the executable isn't"),
                             ({"version": "0.1.1"}, "the version isn't")):
            with self.subTest(change):
                self.sealed(self.record(**change))
                out, _ = self.check(code=6)
                self.assertIn(what, out)
                self.assertIn("NOT PROVEN", out)

    def life(self, **changes):
        """A page about a client key's second generation, and about a wrapping key's end that two people
        approved; the log says the same but for these changes of the page."""
        token = {"token": self.token["users"]}
        self.log.pair("ceremony.key", result={"target": {"name": "client-a-1"}, **token})
        key = {"alg": "rsa-3072", "id": hex_of("c2")[:32], "spki": hex_of("c2")}
        more = {"key": key, "target": {"name": "client-a-2"}, "standing": {"state": "staged"}}
        made, last = self.log.pair("standing.rotate", intent=more, result={**more, **token})
        self.log.pair("standing.activate", result={
            "target": {"name": "client-a-2"}, "standing": {"state": "active"}})
        gone = {"key": {"alg": "aes-256", "id": hex_of("w1")[:32]}, "target": {"name": "wrapping-1"},
                "standing": {"state": "destroyed"}}
        approval = audit_approvals.record(statement={
            "command": "standing.destroy", "origin": self.log.origin})
        ended, end = self.log.pair("standing.destroy", intent={**gone, "approvals": [approval]},
                                   result={**gone, "found": "key", **token})
        print_of = base64.b64encode(hashlib.sha256(base64.b64decode(
            audit_approvals.BOB.line().split()[1])).digest()).decode().rstrip("=")
        of = {"op": self.op_of(last), "intent": made, "how": "made", "end": "destroyed", "one": "previous",
              "two": "active", "who": "bob", "asker": "ann", "at": audit_approvals.AT, "uid": 1001,
              "command": "standing.destroy", "nonce": "1" * 64, "print": print_of, **changes}
        return self.record().replace("attestation secrets-1\n", f"""key client-a-2
  role users; algorithm rsa-3072; how {of['how']}
  id {hex_of('c2')[:32]}; operation {of['op']}; intent {of['intent']}
  label l
  spki {hex_of('c2')}
key wrapping-1
  role users; algorithm aes-256; how {of['end']}
  id {hex_of('w1')[:32]}; operation {self.op_of(end)}; intent {ended}
standing client-a-1
  state {of['one']}
standing client-a-2
  state {of['two']}; since 2026-11-23T13:00:00.000Z
approval {of['who']}
  command {of['command']}; mode ssh; time {of['at']}
  asked-by {of['asker']}; uid {of['uid']}
  operation {self.op_of(end)}
  nonce {of['nonce']}
  key sk-ssh-ed25519@openssh.com SHA256:{of['print']}
attestation secrets-1
""")

    def test_life(self):
        self.sealed(self.life())
        out, _ = self.check()
        self.assertIn("PROVEN: 11 of 11 keys, certificates, generations and approvals", out)
        self.assertIn("compare the", out)

    def test_life_differs(self):
        for change, what in (({"how": "destroyed"}, "in its operation"), ({"end": "made"}, "its operation"),
                             ({"end": "gone"}, "in its operation"),
                             ({"intent": 1}, "in the entry of its intent"),
                             ({"one": "active"}, "in its state"), ({"two": "staged"}, "in its state"),
                             ({"who": "eve"}, "in who approved it"), ({"asker": "eve"}, "in who asked"),
                             ({"uid": 0}, "in who asked"), ({"command": "x"}, "in the command"),
                             ({"at": "2026-11-22T08:00:00.001Z"}, "in its time"),
                             ({"nonce": "2" * 64}, "in the nonce"),
                             ({"print": "A" * 43}, "in the key that signed")):
            with self.subTest(change):
                self.setUp()
                self.sealed(self.life(**change))
                out, _ = self.check(code=6)
                self.assertIn(what, out)

    def test_exports(self):
        self.log.export(self.path("short"), size=3)
        _, err = self.check(code=2, log=self.path("short"))
        self.assertIn("ends before", err)
        other = Log(origin="other/pfx-agent")
        other.export(self.path("other"))
        self.check(code=2, log=self.path("other"))
        # The same origin, another history of the same length or more.
        other = Log()
        other.signers = self.log.signers
        for _ in range(40):
            other.note("clock.step", clock={"step": 2})
        other.export(self.path("forged"))
        _, err = self.check(code=6, log=self.path("forged"))
        self.assertIn("don't make the root", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
