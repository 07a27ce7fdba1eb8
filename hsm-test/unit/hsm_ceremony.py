"""The record of a ceremony by the real pfx-hsm: its page against the tokens, the log and pfx-audit;
killed in the middle; the HSM's attestation; and no session on the encryption token once it is over.
The encryption token is in a process of its own that counts what is called there."""

import base64
import collections
import glob
import grp
import hashlib
import html.parser
import json
import os
import subprocess
import time
import unittest

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import hsm_log_rig
import hsm_rig as rig
import tokens

AUDIT = os.environ.get("PFX_AUDIT", "")
AGENT = os.environ.get("PFX_AGENT", "")
GUIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, "deploy",
                     "guide", "auditors-guide.md")
WITNESSES = ["Ada Lovelace", "<script>alert('x')</script>; Ζωή & Co"]
GROUP = "games" if os.geteuid() == 0 else None  # any group of any Debian
Page = collections.namedtuple("Page", "name text sections sha256 entry receipt")


def parse(path):
    """The page by the description of its format: sections with their fields."""
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    record, rest = text.split("end of record\n")
    record += "end of record\n"
    sections = []
    for line in record.splitlines()[1:-1]:
        if not line.startswith("  "):
            kind, name = line.split(" ", 1)
            sections.append((kind, name, {}))
            continue
        if not sections:
            sections.append(("head", "", {}))
        for field in line[2:].split("; "):
            key, value = field.split(" ", 1)
            sections[-1][2][key] = value
    sha, entry, receipt = rest.split("\n", 2)
    name = os.path.basename(path)
    return Page(name, record, sections, sha.split(" ")[1], json.loads(entry[len("entry "):]),
                entry[len("entry "):].encode() + b"\0" + receipt.encode())


class Texts(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


def certificate(name):
    """With what an HSM says in it: longer than 4,096 bytes, as vendors' are."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = rig.datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now).not_valid_after(now + rig.datetime.timedelta(days=9))
            .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"),
                                                      bytes(range(256)) * 17), critical=False)
            .sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


class Ceremony(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        r = cls.r = rig.Rig(kinds={"encryption": tokens.RemoteSofthsm})
        cls.addClassCleanup(r.close)
        os.chmod(r.dir, 0o711)
        cls.control = r.kinds["encryption"].control
        cls.vendor = os.path.join(r.dir, "vendor")
        os.mkdir(cls.vendor, 0o755)
        cls.policy(r)
        # The first ceremony ends in the middle; the second one goes on.
        r.start()
        asker = r.asker("admin")
        cls.first = cls.until_key(asker, "mac-1")
        r.stop(rig.signal.SIGKILL)
        r.start()
        cls.items, end = r.admin("init", encryption_pin=r.pin("encryption"), witnesses=WITNESSES)
        assert end["exit"] == 0, (end, r.logged())
        cls.folder = os.path.join(r.state, "ceremonies")
        cls.keys = os.path.join(r.dir, "keys")
        with open(cls.keys, "w", encoding="ascii") as f:
            f.write("".join(i["pem"] for i in cls.items if i.get("file", "").endswith(".vkey")))
        cls.page = parse(glob.glob(cls.folder + "/*-init.txt")[0])

    @staticmethod
    def until_key(asker, name):
        while True:  # asked again while pfx-hsm still opens its tokens
            asker.send("init", encryption_pin=Ceremony.r.pin("encryption"))
            while True:
                message = asker.line.receive()
                if message["t"] == "end":
                    assert message["error"]["class"] == "transient", message
                    time.sleep(0.1)
                    break
                if message["body"].get("name") == name:
                    return message["body"]

    @classmethod
    def policy(cls, r):
        with open(r.policy_path, encoding="utf-8") as f:
            text = f.read()
        for role, how in (("users", f"file:{cls.vendor}/{{name}}.att"), ("service", "objects:Attest*"),
                          ("log", "attribute:0x80000001")):
            text = text.replace(f"  {role}:\n", f"  {role}:\n    attestation: \"{how}\"\n", 1)
        if GROUP:
            text += f"access:\n  auditors: {GROUP}\n"
        with open(r.policy_path, "w", encoding="utf-8") as f:
            f.write(text)
        with open(cls.vendor + "/wrapping-1.att", "wb") as f:
            f.write(b"what a vendor's tool says of wrapping-1\0")
        cls.certificate = certificate("an HSM's attestation")
        der = os.path.join(r.dir, "attest.der")
        with open(der, "wb") as f:
            f.write(cls.certificate)
        for label in ("Attest of the token", "something else"):
            r.p11("service", "--write-object", der, "--type", "cert", "--label", label)

    def sections(self, kind, page=None):
        return {n: fields for k, n, fields in (page or self.page).sections if k == kind}

    def audit(self, *arguments, code=0):
        done = subprocess.run([AUDIT, "ceremony", *arguments], capture_output=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, code, (arguments, done.stdout, done.stderr))
        return done.stdout.decode()

    def export(self):
        folder = os.path.join(self.r.dir, "export-%f" % time.monotonic())
        self.r.tool(AGENT, "log", "export", folder, "--log-dir", self.r.state + "/log",
                    "--no-names")
        return folder

    def path(self, page=None):
        return os.path.join(self.folder, (page or self.page).name)

    def init(self, verb="init", **args):
        before = set(glob.glob(self.folder + "/*.txt"))
        items, end = self.r.admin(verb, **args)
        self.assertEqual(end["exit"], 0, (end, self.r.logged()[-3000:]))
        new = set(glob.glob(self.folder + "/*.txt")) - before
        return items, [parse(path) for path in sorted(new)]

    def test_keys_are_the_tokens(self):
        """Fingerprints and attributes by OpenSC's tool, of every key that has a public half."""
        keys = self.sections("key")
        self.assertEqual(set(keys), {"wrapping-1", "kek-transport-1", "mac-1", "secrets-1", "log-1",
                                     "log-ed25519-1", "anchor-a-1", "anchor-b-1", "client-main-1",
                                     "encryption-1"})
        roles = self.sections("role")
        self.assertEqual(set(roles), set(rig.ROLES))
        for role in rig.ROLES:
            self.assertEqual(roles[role]["token"], role)
            self.assertEqual(roles[role]["serial"], self.r.serials[role])
        for name in ("kek-transport-1", "secrets-1", "client-main-1", "encryption-1"):
            key = keys[name]
            der = self.r.p11(key["role"], "--read-object", "--type", "pubkey", "--id", key["id"])
            self.assertEqual(hashlib.sha256(der).hexdigest(), key["spki"], name)
        listed = self.r.p11("encryption", "--list-objects", "--type", "privkey").decode()
        self.assertIn("decrypt\n", listed)
        self.assertIn("sensitive, always sensitive, never extractable, local", listed)
        key = keys["encryption-1"]
        self.assertEqual(set(key["is"].split()), {"TOKEN", "PRIVATE", "DECRYPT", "SENSITIVE", "LOCAL",
                                                  "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE"})
        self.assertLessEqual({"SIGN", "UNWRAP", "EXTRACTABLE"}, set(key["not"].split()))
        pin = self.sections("pin")["encryption-1"]
        self.assertEqual((pin["spki"], pin["state"], pin["key-name"]),
                         (key["spki"], "active", "test-encryption"))
        cert = self.sections("certificate")["client-main-1"]
        with open(self.r.state + "/client-main.crt", "rb") as f:
            made = x509.load_pem_x509_certificate(f.read())
        self.assertEqual(cert["sha256"], made.fingerprint(hashes.SHA256()).hex())

    def test_log_and_openssl(self):
        """The seal with other people's tools: hash, tree, signature."""
        self.assertEqual(hashlib.sha256(self.page.text.encode()).hexdigest(), self.page.sha256)
        self.assertEqual(self.page.entry["event"], "ceremony.record")
        self.assertEqual(self.page.entry["out"]["sha256"], self.page.sha256)
        log = hsm_log_rig.Log(self, self.r.state + "/log")
        json_text, receipt = self.page.receipt.split(b"\0")
        seq = self.page.entry["seq"]
        self.assertEqual(log.raw[seq], json_text)
        note = receipt[receipt.index(b"\n\n") + 2:].decode()
        text, signatures = note.split("\n\n")
        origin, size, root = text.split("\n")
        self.assertEqual(base64.b64decode(root), hsm_log_rig.root_of(log.leaves[:int(size)]))
        self.assertEqual((origin, int(size)), (self.sections("head")[""]["log"], seq + 1))
        with open(self.keys, encoding="ascii") as f:
            line = f.readline().rstrip("\n")
        spki = base64.b64decode(line.split("+", 2)[2])[1:]
        self.assertEqual(hashlib.sha256(spki).hexdigest(), self.sections("key")["log-1"]["spki"])
        signature = next(s for s in (base64.b64decode(s.split(" ")[2]) for s in
                                     signatures.strip().splitlines())
                         if s[:4] == hashlib.sha256(spki).digest()[:4])
        serialization.load_der_public_key(spki).verify(signature[4:], (text + "\n").encode(),
                                                       ec.ECDSA(hashes.SHA256()))

    def test_guide(self):
        """What the auditor's guide says can be done with Python alone."""
        with open(GUIDE, encoding="utf-8") as f:
            programs = [part.split("```")[0] for part in f.read().split("```python\n")[1:]]
        program = next(p for p in programs if "in the tree" in p)
        with open(self.path(), encoding="utf-8") as f:
            page = f.read()
        changed = os.path.join(self.r.dir, "changed.txt")
        with open(changed, "w", encoding="utf-8") as f:
            f.write(page.replace('"seq":', '"seq":1', 1))
        for path, said in ((self.path(), b"in the tree\n"), (changed, b"NOT in the tree\n")):
            self.assertEqual(self.r.tool("/usr/bin/python3", "-c", program, path), said)
        program = next(p for p in programs if "OTHER ENTRIES" in p)
        export = self.export()
        entries = glob.glob(os.path.join(export, "tile", "entries", "**"), recursive=True)
        with open(next(p for p in sorted(entries) if os.path.isfile(p)), "r+b") as f:
            self.assertEqual(self.r.tool("/usr/bin/python3", "-c", program, export),
                             b"the entries of this checkpoint\n")
            f.seek(f.read().index(b'"outcome":"ok"') + 11)
            f.write(b"O")
            f.flush()
            self.assertIn(b"OTHER ENTRIES", self.r.tool("/usr/bin/python3", "-c", program, export))

    def test_audit(self):
        export = self.export()
        out = self.audit(self.path(), "--key", self.keys, "--log", export)
        self.assertIn("PROVEN: 12 of 12 keys, certificates, generations and approvals", out)
        with open(self.path(), encoding="utf-8") as f:
            lines = f.read().splitlines(keepends=True)
        bad = os.path.join(self.r.dir, "bad.txt")
        for i, line in enumerate(lines):
            at = len(line) // 2
            changed = line[:at] + ("7" if line[at] != "7" else "3") + line[at + 1:]
            with open(bad, "w", encoding="utf-8") as f:
                f.write("".join(lines[:i] + [changed] + lines[i + 1:]))
            self.audit(bad, "--key", self.keys, "--log", export, code=6)

    def test_html(self):
        with open(self.path()[:-3] + "html", encoding="utf-8") as f:
            text = f.read()
        again = os.path.join(self.r.dir, "again.html")
        self.audit(self.path(), "--key", self.keys, "--out", again)
        with open(again, encoding="utf-8") as f:
            self.assertEqual(f.read(), text)
        self.audit(self.path(), "--key", self.keys, "--out", again)  # the same: fine
        self.audit(self.path(), "--key", self.keys, "--out", self.keys, code=2)
        page = Texts(text)
        words = "".join(page.words)
        self.assertFalse({"script", "img", "link", "iframe", "a"} & page.tags, page.tags)
        self.assertFalse([v for k, v in page.attributes if k.startswith("on") or k in ("src", "href")])
        for witness in WITNESSES:
            self.assertIn(witness, words)
        bare = words.replace(" ", "")
        for kind in ("key", "certificate", "pin", "attestation", "role"):
            for fields in self.sections(kind).values():
                for name in ("spki", "sha256", "id", "operation", "serial"):
                    self.assertIn(fields.get(name, "").replace(" ", ""), bare)
        self.assertIn(self.page.sha256, bare)

    def test_files(self):
        """What the operator got is what is kept; the auditors can read it, nobody else."""
        sent = {i["file"]: i["page"] for i in self.items if i["kind"] == "record"}
        self.assertEqual(len(sent), 2)
        gid = grp.getgrnam(GROUP).gr_gid if GROUP else os.getegid()
        for name, page in sent.items():
            path = os.path.join(self.folder, name)
            with open(path, encoding="utf-8", newline="") as f:
                self.assertEqual(f.read(), page)
        for path in glob.glob(self.folder + "/*"):
            facts = os.stat(path)
            self.assertEqual((facts.st_mode & 0o7777, facts.st_gid), (0o640, gid), path)
        facts = os.stat(self.folder)
        self.assertEqual((facts.st_mode & 0o7777, facts.st_gid), (0o750, gid))
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith(".")], [])

    def test_killed_in_the_middle(self):
        """The first ceremony ended behind mac-1: the second found what was there and made the rest;
        no record speaks of the first one, since it never came to its end."""
        how = {name: key["how"] for name, key in self.sections("key").items()}
        self.assertEqual(self.first["text"], "made, attributes read back")
        for name in ("log-1", "anchor-a-1", "wrapping-1", "kek-transport-1", "mac-1"):
            self.assertEqual(how[name], "found", name)
        self.assertEqual(how["client-main-1"], "made")
        self.assertEqual(how["encryption-1"], "made")
        out = self.audit(self.path(), "--key", self.keys, "--log", self.export())
        self.assertRegex(out, r"key +mac-1: as in entry \d+; first named by entry \d+")

    def test_left_behind(self):
        """A process that ends between the log's entry and the page: the next ceremony writes that
        page. A text that the log doesn't know is dropped, never sealed."""
        with open(self.path(), encoding="utf-8", newline="") as f:
            whole = f.read()
        left = os.path.join(self.folder, ".%s.0" % self.page.name[:-4])
        forged = os.path.join(self.folder, ".20200101T000000000Z-forged.0")
        with open(left, "w", encoding="utf-8") as f:
            f.write(self.page.text)
        with open(forged, "w", encoding="utf-8") as f:
            f.write(self.page.text.replace("how made", "how found"))
        for path in (self.path(), self.path()[:-3] + "html"):
            os.unlink(path)
        _, new = self.init(encryption_pin=self.r.pin("encryption"))
        self.assertEqual(len(new), 2, [p.name for p in new])
        self.assertFalse(os.path.exists(left) or os.path.exists(forged))
        self.assertEqual(glob.glob(self.folder + "/*forged*"), [])
        again = parse(self.path())
        self.assertEqual((again.text, again.entry), (self.page.text, self.page.entry))
        self.audit(self.path(), "--key", self.keys, "--log", self.export())
        with open(self.path(), "w", encoding="utf-8", newline="") as f:
            f.write(whole)  # under its first checkpoint, for the other tests

    def test_without_the_pin(self):
        """The encryption key is named as it is pinned; nothing is asked of its token."""
        self.control.reset()
        _, (page,) = self.init()
        key = self.sections("key", page)["encryption-1"]
        self.assertEqual(key["how"], "pinned")
        self.assertEqual(key["spki"], self.sections("key")["encryption-1"]["spki"])
        self.assertNotIn("encryption", self.sections("role", page))
        self.assertEqual(self.control.counts(), {})
        self.audit(self.path(page), "--key", self.keys, "--log", self.export())

    def test_no_session_afterwards(self):
        """Sessions on the encryption token are there in a ceremony only: afterwards none is open,
        nobody is logged in, and work goes on without any call to it."""
        self.control.reset()
        self.init(encryption_pin=self.r.pin("encryption"))
        counts = self.control.counts()
        self.assertGreater(counts.get("C_OpenSession", 0), 0)
        self.assertGreater(counts.get("C_Login", 0), 0)
        sessions, logged_in = 0, False
        for call in self.control.calls():
            if call.rv != 0:
                continue
            if call.function == "C_OpenSession":
                sessions += 1
            elif call.function == "C_CloseSession":
                sessions -= 1
            elif call.function in ("C_CloseAllSessions", "C_Finalize"):
                sessions, logged_in = 0, False
            elif call.function == "C_Login":
                logged_in = True
            elif call.function == "C_Logout":
                logged_in = False
            self.assertGreaterEqual(sessions, 0)
        self.assertEqual((sessions, logged_in), (0, False))
        self.control.reset()
        keyed = self.r.key_csr(7)["body"]
        ca = self.r.ca
        leaf = ca.issue(rig.unb64(keyed["csr"]))
        built = self.r.agent.do("hsm.build_seal",
                                **self.r.build_body(keyed, leaf, ca.chain(), 7))
        self.assertEqual(built["class"], "ok", built)
        _, end = self.r.admin("hsm.status")
        self.assertEqual(end["exit"], 0)
        self.assertEqual(self.control.counts(), {})

    def test_rotation(self):
        """The next generation of the encryption key has a page of its own."""
        items, (page,) = self.init("key.rotate", encryption_pin=self.r.pin("encryption"),
                                   witnesses=["Grace"])
        self.assertTrue(page.name.endswith("-key.rotate.txt"), page.name)
        self.assertEqual(set(self.sections("key", page)), {"encryption-2"})
        self.assertEqual(set(self.sections("role", page)), {"encryption"})
        self.assertEqual(set(self.sections("witness", page)), {"Grace"})
        key, pins = self.sections("key", page)["encryption-2"], self.sections("pin", page)
        der = self.r.p11("encryption", "--read-object", "--type", "pubkey", "--id", key["id"])
        self.assertEqual(hashlib.sha256(der).hexdigest(), key["spki"])
        self.assertEqual((pins["encryption-2"]["spki"], pins["encryption-2"]["state"]),
                         (key["spki"], "staged"))
        self.assertEqual(pins["encryption-1"]["state"], "active")
        self.assertEqual(len([i for i in items if i["kind"] == "record"]), 2)
        out = self.audit(self.path(page), "--key", self.keys, "--log", self.export())
        self.assertIn("PROVEN: 3 of 3 keys, certificates, generations and approvals", out)

    def test_attestation(self):
        """Kept as it was given, under its hash; what isn't found is said."""
        self.assertGreater(len(self.certificate), 4096)
        found = self.sections("attestation")
        self.assertEqual(set(found), {"wrapping-1", "service"})
        for name, content, source in (
                ("service", self.certificate, "object Attest of the token"),
                ("wrapping-1", b"what a vendor's tool says of wrapping-1\0",
                 "file %s/wrapping-1.att" % self.vendor)):
            digest = hashlib.sha256(content).hexdigest()
            self.assertEqual((found[name]["sha256"], found[name]["source"]), (digest, source))
            self.assertEqual(found[name]["size"], str(len(content)))
            with open(os.path.join(self.folder, digest + ".attestation"), "rb") as f:
                self.assertEqual(f.read(), content)
        notes = "\n".join(self.sections("note"))
        self.assertIn("mac-1: no attestation found (file %s/mac-1.att)" % self.vendor, notes)
        self.assertIn("log-1: no attestation found (attribute 0x80000001)", notes)


if __name__ == "__main__":
    if not AUDIT or not AGENT:
        print("skipped: PFX_AUDIT, PFX_AGENT")
        raise SystemExit(77)
    rig.main()
