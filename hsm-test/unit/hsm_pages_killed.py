"""pfx-hsm killed on the way from a change to its page: the next start writes that page, from what the log
has and what the ceremony kept, says so, and pfx-audit finds it good. With --long at every point that
a ceremony reaches. What the mark of a ceremony says counts under the MAC key only."""

import glob
import os
import re
import sys
import tempfile
import time
import unittest
import unittest.mock

import hsm_pages
import hsm_rig as rig
from hsm_ceremony import AGENT, AUDIT, parse
from hsm_generation import Case, needs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "e2e"))
from kill_file import KillFile  # noqa: E402

rig.LEAKS = False
PROGRAM = os.environ.get("PFX_KILL_HSM", "")
LONG = hsm_pages.LONG
ENDED = re.compile("staged already|is destroyed|no such key|destroyed already")
DESTROY = ("key.destroy", "standing.destroy")
CHANGES = ("ceremony.key", "key.rotate", "standing.rotate") + DESTROY
VISITS = 20  # of one world: so many generations has a key
# In CI: before the change, in it, behind it, and on the way to the page.
POINTS = {
    "standing.rotate": ("no operation file ceremony mark", "standing.rotate worked ok",
                        "standing.rotate result ok"),
    "standing.destroy": ("standing.destroy result ok",),
    "key.rotate": ("key.rotate file ceremony mark", "no operation file ceremony record"),
    "key.destroy": ("key.destroy worked ok",),
    "log.rotate_key": ("ceremony.key result ok", "no operation file .html"),
}


@unittest.skipUnless(PROGRAM, "kill-hsm isn't built")
class Killed(Case):
    same = hsm_pages.Pages.same

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pfx-kill-")
        self.addCleanup(folder.cleanup)
        self.file = KillFile(os.path.join(folder.name, "file"))
        for patch in (unittest.mock.patch.object(rig, "PROGRAM", PROGRAM),
                      unittest.mock.patch.dict(os.environ, PFX_KILL_FILE=self.file.path)):
            patch.start()
            self.addCleanup(patch.stop)
        self.r, self.visits, self.good = None, 0, set()

    def world(self):
        if self.r and self.visits < VISITS:
            self.visits += 1
            return
        if self.r:
            self.r.close()
        self.r, self.visits, self.good = self.rig(keys="wrapped"), 1, set()
        self.folder = os.path.join(self.r.state, "ceremonies")
        self.r.init()

    def args(self, verb):
        """Of a command that can be done now; what it needs is made first."""
        staged = {kind: [n for n, state in states.items() if state == "staged"] for kind, states in (
            ("standing", {i["name"]: i["state"] for i in self.do(self.r, "standing.list")
                          if i["kind"] == "key"}), ("key", self.state_of(self.r)))}
        pin = self.r.pin("encryption")
        if verb == "log.rotate_key":
            return {}
        kind, what = verb.split(".")
        if what == "destroy" and not staged[kind]:
            self.do(self.r, kind + ".rotate", **self.args(kind + ".rotate"))
            return self.args(verb)
        if what == "rotate" and staged[kind]:
            self.again(kind + ".destroy", self.args(kind + ".destroy"))
        if kind == "standing":
            return {"name": staged[kind][0] if what == "destroy" else "client-main",
                    "witnesses": ["Ada"]}
        return dict({"generation": staged[kind][0], "needs": needs(staged[kind][0], records=0)}
                    if what == "destroy" else {}, encryption_pin=pin, witnesses=["Ada"])

    def approve(self, end):
        question = end["error"]["object"]
        shown = self.r.admin("approval.show", id=question)[0][0]
        for person in self.people[1:]:
            self.r.admin("approval.give", id=question, signature=person.sign(shown["statement"]))

    def again(self, verb, args):
        """As an operator would: until it is done, or is refused since it was."""
        for _ in range(4):
            items, end = self.r.admin(verb, **args)
            if end["exit"] == 0 or ENDED.search(end["error"]["text"]):
                return
            self.assertEqual(end["error"].get("code"), "approval", (verb, end, items))
            self.approve(end)
        self.fail((verb, end))

    def killed(self, verb, args, point):
        if verb == "key.destroy":  # asked and approved first
            _, end = self.r.admin(verb, **args)
            self.approve(end)
        self.file.forget()
        self.file.arm(point)
        try:
            end = self.r.admin(verb, **args)[1]
        except OSError:
            end = None
        died = self.file.died()
        self.file.disarm()
        if LONG and not died:  # a key that was looked up isn't looked up again
            self.assertEqual(end["exit"], 0, (verb, point, end))
        else:
            self.assertTrue(died, (verb, point, end, self.file.reached()))
        self.r.stop()

    def written(self):
        """Nothing is left to be written."""
        until = time.time() + 60
        while True:
            items, end = self.r.admin("hsm.status")
            left = [n for n in os.listdir(self.folder) if n.startswith(".")]
            if end["exit"] in (0, 1) and not left:
                return items
            self.assertLess(time.time(), until, (left, items, self.r.logged()[-3000:]))
            time.sleep(0.05)

    def check(self):
        """Each change that the log has, or can't say of how it ended, is on a page that holds."""
        self.written()
        pages = {path: parse(path) for path in glob.glob(self.folder + "/*.txt")}
        keys = [fields for page in pages.values() for kind, _, fields in page.sections
                if kind == "key"]
        how = {fields["operation"]: fields["how"] for fields in keys}
        ids = {fields["id"] for fields in keys}
        log, operations = self.log(self.r), {}
        for entry in log.entries:
            if entry["event"] in CHANGES:
                operations.setdefault(entry["op"], {}).update(entry)
        for op, entry in operations.items():
            if "id" not in entry.get("key", {}) or entry["outcome"] not in ("ok", "unknown"):
                continue
            if entry["event"] == "ceremony.key":  # an init after it names the key
                self.assertIn(entry["key"]["id"], ids, entry)
            else:
                self.assertIn(op, how, entry)
                self.assertEqual(how[op] == "cut-off", entry["outcome"] == "unknown", entry)
        self.proven(pages)
        return pages

    def proven(self, pages):
        export = tempfile.mkdtemp(dir=self.r.dir) + "/export"
        self.r.tool(AGENT, "log", "export", export, "--log-dir", self.r.state + "/log", "--no-names")
        keys = [o for path in glob.glob(self.r.state + "/log/keys/*.vkey") for o in ("--key", path)]
        said = self.r.tool(AUDIT, "verify", export, *keys[:64]).decode()  # 32 at most
        self.assertNotIn("no ceremony.record", said)
        for path in set(pages) - self.good:
            out = self.r.tool(AUDIT, "ceremony", path, path[:-3] + "html", "--log", export,
                              *keys).decode()
            late = self.late(pages[path])
            self.assertEqual("written " + late if late else None, (
                re.search(r"late +(written \S+),", out) or [None, None])[1], out)
            self.same(path, pages[path])
        self.good = set(pages)

    @staticmethod
    def late(page):
        return page.sections[0][2].get("written-late")

    def visit(self, verb, point):
        self.world()
        args = self.args(verb)
        before = set(self.check())
        self.killed(verb, args, point)
        self.r.start()
        after = self.check()
        new = [after[path] for path in set(after) - before]
        for page in new:
            self.assertTrue(page.name.endswith(f"-{verb}.txt"), page.name)
            # One whose entry was there already is as it was meant to be.
            if self.late(page) and verb != "log.rotate_key":
                self.assertIn(("witness", "Ada", {}), page.sections)
        self.again(verb, args)
        self.check()
        return new

    def test_points(self):
        for verb, points in POINTS.items():
            if LONG:
                self.world()
                self.file.forget()
                self.again(verb, self.args(verb))
                points = [p for p in self.file.reached() if not p.startswith(("probe ", "item ",
                                                                              "end ", "req "))]
            for point in points:
                with self.subTest(verb=verb, point=point):
                    new = self.visit(verb, point)
                    if not LONG and not point.endswith("mark"):
                        self.assertEqual(len(new), 1)
                        self.told(verb, point, new[0])

    def told(self, verb, point, page):
        """What the page says of a change that is, or may be, done."""
        (name, key), *_ = [(n, f) for kind, n, f in page.sections if kind == "key"]
        notes = "\n".join(n for kind, n, _ in page.sections if kind == "note")
        # With its entry in the log it is as it was meant to be.
        self.assertEqual(self.late(page) is None, point.endswith(".html"))
        if "worked" in point:
            self.assertEqual(key["how"], "cut-off")
            self.assertIn(f"{name}: {verb} (operation {key['operation']}) was cut off", notes)
        elif verb in DESTROY:
            self.assertEqual(key["how"], "destroyed")
            self.assertIn("SENSITIVE", key["is"].split())  # read before it was
        else:
            self.assertEqual(key["how"], "made")
            self.assertIn("SENSITIVE", key["is"].split())
        if verb.startswith("key."):
            self.assertEqual({n for kind, n, _ in page.sections if kind == "approval"},
                             {"bob", "cid"} if verb == "key.destroy" else set())

    def test_first_ceremony(self):
        """Killed on its last step: the start that follows writes the page of all keys."""
        points = ["no operation file ceremony record"]
        if LONG:
            self.r = self.rig(keys="wrapped")
            self.file.forget()
            self.r.init()
            points = [p for p in self.file.reached() if p.startswith(("ceremony.", "no operation f"))]
            self.r.close()
        for point in points:
            with self.subTest(point=point):
                self.first(point)

    def first(self, point):
        r = self.r = self.rig(keys="wrapped")
        self.folder, self.good = os.path.join(r.state, "ceremonies"), set()
        self.killed("init", {"encryption_pin": r.pin("encryption"), "witnesses": ["Ada"]}, point)
        if not LONG:
            with self.assertRaisesRegex(AssertionError, r"\(ceremony.key\).* no ceremony.record of this log"):
                self.proven({})
        r.start()
        if not LONG:
            (page,) = self.check().values()
            self.assertEqual({"kind": "init"}.items() - page.sections[0][2].items(), set())
            self.assertIn(("witness", "Ada", {}), page.sections)
            self.assertEqual({f["how"] for kind, _, f in page.sections if kind == "key"}, {"made"})
            enc, = [f for kind, n, f in page.sections if kind == "key" and n == "encryption-1"]
            self.assertIn("NEVER_EXTRACTABLE", enc["is"].split())
        r.init()
        self.check()
        r.close()

    def test_mark(self):
        """Words that aren't under the MAC key don't come onto a page; without any it is made from the
        log and the tokens. Another one's mark of nothing goes, and what a killed write left."""
        for change in (lambda lines: lines[:3],
                       lambda lines: [l.replace("witness Ada", "witness Mallory") for l in lines]):
            self.world()
            args = self.args("standing.rotate")
            before = set(self.check())
            self.killed("standing.rotate", args, "standing.rotate result ok")
            mark, = glob.glob(self.folder + "/.*.begun")
            with open(mark, encoding="utf-8") as f:
                lines = f.readlines()
            self.assertIn("witness Ada\n", lines)
            with open(mark, "w", encoding="utf-8") as f:
                f.writelines(change(lines))
            forged = os.path.join(self.folder, ".20200101T000000000Z-key.rotate.begun")
            with open(forged, "w", encoding="utf-8") as f:
                f.write("pfx-agent ceremony begun v1\n" + lines[1] + "from 100000000\n")
            with open(mark + ".new", "w", encoding="utf-8") as f:
                f.write(lines[0])
            self.r.start()
            after = self.check()
            new = [after[path] for path in set(after) - before]
            made = [page for page in new if any(
                kind == "key" and f["operation"] and f["how"] == "made"
                and "SENSITIVE" in f["is"].split() for kind, _, f in page.sections)]
            self.assertTrue(made)
            for page in new:
                self.assertEqual([n for kind, n, _ in page.sections if kind == "witness"], [])
                self.assertIn("Nothing that the ceremony kept", page.text)


class Failed(Case):
    def test_token_fails_on_the_way(self):
        """Nobody is killed: the next generation is called making, and the token makes no key. The command
        fails, with a page that says so; given again it has one of its own."""
        r = self.rig(kinds={"encryption": rig.tokens.RemoteSofthsm})
        r.init()
        folder, control = os.path.join(r.state, "ceremonies"), r.kinds["encryption"].control
        control.fault("C_GenerateKeyPair", 2, "rv=0x30")  # the first one is the probe's
        how = {"encryption_pin": r.pin("encryption"), "witnesses": ["Ada"]}
        items, end = r.admin("key.rotate", **how)
        self.assertEqual((end["exit"], control.fired()), (5, 1), (end, items))
        self.assertEqual(len([i for i in items if i["kind"] == "record"]), 2)
        path, = glob.glob(folder + "/*-key.rotate.txt")
        page = parse(path)
        self.assertTrue(Killed.late(page))
        self.assertIn(("witness", "Ada", {}), page.sections)
        self.assertEqual([(n, f["how"]) for kind, n, f in page.sections if kind == "key"],
                         [("encryption-2", "cut-off")])
        self.assertIn(" failed, as the log says.", page.text)
        self.do(r, "key.rotate", **how)
        path, = set(glob.glob(folder + "/*-key.rotate.txt")) - {path}
        self.assertEqual([(f["how"], Killed.late(parse(path))) for kind, _, f in parse(path).sections
                          if kind == "key"], [("made", None)])
        self.assertEqual([n for n in os.listdir(folder) if n.startswith(".")], [])


if __name__ == "__main__":
    if not AUDIT or not AGENT:
        print("skipped: PFX_AUDIT, PFX_AGENT")
        raise SystemExit(77)
    rig.main()
