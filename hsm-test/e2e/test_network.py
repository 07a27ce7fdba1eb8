"""The whole flow over a network that does what it likes. Each user meets one fault at one request;
all of them are under way at once. After it everybody is ACTIVE by themselves, but for those where
a person is right, and these say what to do."""

import time
import unittest

import harness
import invariants
import people
from case import LONG, OneWorldCase

ORDER = {"service": "digicert", "method": "POST", "path_regex": "/order/certificate/"}
DOWNLOAD = {"service": "digicert", "method": "GET", "path_regex": "/certificate/download/"}
IMPORT = {"service": "graph", "method": "POST", "path_regex": "/userPfxCertificates$"}
READBACK = {"service": "graph", "method": "GET", "path_regex": "/userPfxCertificates/",
            "skip": 1}  # the import looks first
CHANGES = {"service": "digicert", "method": "GET", "path_regex": "/status-changes"}
MEMBERS = {"service": "graph", "method": "GET", "path_regex": "/groups/"}
RECORDS = {"service": "graph", "method": "GET", "path_regex": r"/userPfxCertificates(\?|$)"}
TOKEN = {"service": "entra"}


def rule(action, **members):
    return dict(members, action=action)


# The work is done, and the answer is none: looked up, and found.
DONE = {
    "lost": rule("lose"),
    "lost by reset": rule("lose", reset=True),
    "500": rule("status", code=500, after=True),
    "503": rule("status", code=503, after=True),
    "504": rule("status", code=504, after=True),
    "408": rule("status", code=408, after=True),
    "303": rule("status", code=303, after=True),
    "HTML and 200": rule("html", code=200, after=True),
    "HTML and 403": rule("html", code=403, after=True),
    "rubbish": rule("garbage", after=True),
    "cut in the head": rule("cut", where="head"),
    "cut in the body": rule("cut"),
    "TLS alert": rule("cut", how="alert"),
    "reset in the body": rule("cut", how="reset"),
    "silence": rule("stall", where="body"),
    "too late": rule("late", seconds=4),
    "unfinished chunks": rule("chunked", what="closed"),
    "wrong chunk size": rule("chunked", what="size"),
    "length too small": rule("length", by=-5),
    "length too large": rule("truncate"),
    "header of 200 KiB": rule("headers", kib=200),
    "endless headers": rule("headers", lines=-1),
    "endless 103": rule("interim", count=-1),
    "10 MiB": rule("bigbody", mib=10, after=True),
    "gzip": rule("compressed"),
    "UTF-16": rule("recoded"),
    "HTTP/0.9": rule("start_line"),
    "status 99999": rule("start_line", line="HTTP/1.1 99999 OK"),
    "type text/plain": rule("header", headers={"Content-Type": "text/plain"}),
    "no type": rule("header", headers={"Content-Type": None}),
}
# Odd, and right.
FINE = {
    "byte by byte": rule("pieces"),
    "chunks of one byte": rule("pieces", chunked=True),
    "twice": rule("double"),
    "again later": rule("double", pause=0.3),
    "103 before": rule("interim", count=2, headers={"Content-Type": "text/html"}),
    "429": rule("throttle", retry_after=0.3),
    "429 by another clock": rule("status", code=429, headers={
        "Date": "Fri, 01 Jan 2038 00:00:00 GMT", "Retry-After": "Fri, 01 Jan 2038 00:00:01 GMT"}),
    "clock of 1970": rule("header", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}),
}
# For a read: asked again, whatever came.
READ = {name: DONE[name] for name in (
    "lost", "503", "HTML and 200", "rubbish", "cut in the head", "cut in the body", "TLS alert",
    "silence", "unfinished chunks", "wrong chunk size", "length too large", "gzip", "UTF-16",
    "HTTP/0.9", "status 99999")}
# What a person has to look at: (endpoint, fault, word of the reason, what the person says, and how
# many orders there are then).
HELD = (
    ("order", ORDER, "never arrived", rule("drop"), "doesn't show", "release", 1),
    ("order", ORDER, "reset on its way", rule("drop", reset=True), "doesn't show", "release", 1),
    ("order", ORDER, "308", rule("status", code=308, headers={"Location": "https://e.invalid/"}),
     "redirect", "retry", 1),
    ("import", IMPORT, "301", rule("status", code=301), "redirect", "retry", 1),
    ("download", DOWNLOAD, "302", rule("status", code=302), "redirect", "retry", 1),
    ("download", DOWNLOAD, "header of 200 KiB", rule("headers", kib=200), "max_body", "retry", 1),
    ("download", DOWNLOAD, "20 bytes missing", rule("unframed", missing=20), "certificate",
     "retry", 1),
    ("read back", READBACK, "wrong types", rule("wrong_type"), "can't be used", "retry", 1),
)
PASSES = ("503", "HTML and 200", "rubbish", "cut in the body", "TLS alert", "gzip", "HTTP/0.9",
          "status 99999", "byte by byte", "103 before", "again later")


def every(faults, step):
    """All of them with PFX_LONG=1, else each so manieth."""
    names = list(faults)
    return names if LONG else names[::step]


class Network(OneWorldCase):
    """Each test takes users of its own."""

    last = 0

    def world_of(self, count):
        """The world, and so many new people for its group."""
        cls = type(self)
        if cls.world is None:
            cls.world = harness.World(
                tenant=people.tenant([people.user(999, mail=None, proxyAddresses=[])]),
                rules=[people.rule(key="ec-p256")], agent={
                    "max_orders_per_pass": 1000, "max_orders_per_day": 1000,
                    "schedule": {"settle_grace": "3s", "poll_every": "500ms", "retry_min": "300ms",
                                 "retry_max": "1s"}},
                uploader={"limits": {"connect_timeout": "1500ms", "request_timeout": "2s",
                                     "job_timeout": "10s", "max_body": "1MiB"}})
            with self.telling(cls.world):
                cls.world.ready()
        cls.world.control("/knobs", {"clear": True, "settings": {"digicert_limits": None}})
        members = [people.user(cls.last + n) for n in range(1, count + 1)]
        cls.last += count
        return cls.world, members, [m["userPrincipalName"] for m in members]

    @staticmethod
    def join_group(world, members):
        for member in members:
            world.control("/graph/member", {"group": people.GROUP, "add": member})

    @staticmethod
    def rows_of(world, upns):
        return {r["upn"]: r for r in world.enrolments() if r["upn"] in upns}

    def show(self, rows):
        wide = [max(len(str(r[i])) for r in rows) for i in range(2)]
        print("\n".join("  %-*s  %-*s  %s" % (wide[0], a, wide[1], b, c) for a, b, c in rows),
              flush=True)

    def test_one_fault_for_each_user(self):
        plan = [("order", ORDER, n, DONE[n]) for n in every(DONE, 3)]
        plan += [("import", IMPORT, n, DONE[n]) for n in list(DONE)[1:] if n in every(
            list(DONE)[1:], 3)]
        plan += [("download", DOWNLOAD, n, READ[n]) for n in every(READ, 3)]
        plan += [("read back", READBACK, n, READ[n]) for n in every(list(READ)[1:], 3)]
        for place, where in (("order", ORDER), ("import", IMPORT), ("download", DOWNLOAD),
                             ("read back", READBACK)):
            plan += [(place, where, n, FINE[n]) for n in every(FINE, 4)]
        whole = 2 * len(DONE) + 2 * len(READ) + 4 * len(FINE) + len(HELD)
        world, members, upns = self.world_of(len(plan) + len(HELD))
        with self.telling(world):
            rules = [dict(fault, **where, email=m["mail"])
                     for m, (_, where, _, fault) in zip(members, plan)]
            rules += [dict(fault, **where, email=m["mail"]) for m, (_, where, _, fault, *_) in
                      zip(members[len(plan):], HELD)]
            world.control("/knobs", {"rules": rules})
            self.join_group(world, members)
            world.run_once("40s")
            held = self.check_held(world, upns[len(plan):])
            self.until_active(world, upns[:len(plan)], 60)
            met = {r["email"]: r["hits"] for r in world.control("/knobs")["rules"]}
            self.assertEqual([], [m["mail"] for m in members if met[m["mail"]] < 1], "not met")
            invariants.hold(self, world, upns)
            self.mend_held(world, upns[len(plan):], held)
            invariants.hold(self, world, upns)
            orders = invariants.orders_by_mail(world)
            self.assertEqual({orders[m["mail"]] for m in members}, {1})
            records = [r["userPrincipalName"] for r in world.records()]
            self.assertEqual({records.count(u) for u in upns}, {1})
            self.show([(place, name, "ACTIVE by itself") for place, _, name, _ in plan] +
                      [(place, name, "HELD (%s), ACTIVE after enrolment %s" % (word, verb))
                       for place, _, name, _, word, verb, _ in HELD])
            print("%d of %d" % (len(rules), whole), flush=True)

    def check_held(self, world, upns):
        """Each says why and what to do."""
        def all_held():
            states = world.states()
            return all(states.get(u) == ["HELD"] for u in upns)
        harness.wait_for("HELD for %s" % upns, all_held, 40, 0.5)
        rows = self.rows_of(world, upns)
        for upn, (place, _, name, _, word, _, _) in zip(upns, HELD):
            self.assertIn(word, rows[upn]["why"], "%s, %s" % (place, name))
            self.assertTrue(rows[upn].get("next"), rows[upn])
        return {upn: rows[upn]["enrolment"] for upn in upns}

    def mend_held(self, world, upns, numbers):
        for upn, (_, _, _, _, _, verb, _) in zip(upns, HELD):
            self.assertExit(world.cli("enrolment", verb, str(numbers[upn])), 0)
        self.until_active(world, upns, 60)

    def test_what_concerns_everybody(self):
        """Members, records, status changes and the token: pass after pass with another fault."""
        world, members, upns = self.world_of(2)
        faults = dict(FINE, **DONE)
        names = every(PASSES, 3)
        rows = []
        with self.telling(world):
            self.join_group(world, members)
            for place, where in (("members", MEMBERS), ("records", RECORDS), ("token", TOKEN)):
                for name in names:
                    world.control("/knobs", {"clear": True})
                    if place == "token":
                        world.control("/reset", {"what": ["tokens"]})
                    world.knob(**dict(faults[name], **where, times=2))
                    world.run_once("1s", seconds=60)
                    rows.append((place, name, "goes on"))
            world.control("/knobs", {"clear": True})
            for name in names:
                world.knob(**dict(faults[name], **CHANGES, times=1))
                rows.append(("status changes", name, "goes on"))
            self.until_active(world, upns, 60)
            invariants.hold(self, world, upns)
            self.show(rows)

    def test_answers_of_others(self):
        """A CA that gives two orders each other's answer, or one the answer of an earlier one: a
        person's, with both orders named, and nothing is packed for the wrong user."""
        world, members, upns = self.world_of(4)
        with self.telling(world):
            world.knob(**dict(rule("swap"), **ORDER, times=2, body_regex="|".join(
                m["mail"] for m in members[:2])))
            self.join_group(world, members)
            self.assertExit(world.run_once("15s"), 1)
            rows = self.rows_of(world, upns)
            self.assertEqual([rows[u]["state"] for u in upns[2:]], ["ACTIVE"] * 2)
            for upn in upns[:2]:
                row = rows[upn]
                self.assertEqual(row["state"], "HELD", row)
                self.assertIn("key", row["why"])
                self.assertTrue(row.get("next"), row)
            records = {r["userPrincipalName"] for r in world.records()}
            self.assertEqual(records & set(upns), set(upns[2:]))
            invariants.hold(self, world, upns)

    def test_certificates_of_the_services(self):
        """TLS goes wrong while orders are under way, and comes back."""
        kinds = ("expired", "foreign_ca", "wrong_name", "client_certificate", "old_version",
                 "reset_after_hello", "silent", "alert")
        world, members, upns = self.world_of(3)
        with self.telling(world):
            self.join_group(world, members)
            world.spawn("run", harness.program("pfx-agent"), "run", "--once", "--wait", "30s")
            plan = [(k, s) for k in kinds for s in (("digicert",), ("graph",), ("entra", "graph"))]
            for kind, services in plan if LONG else plan[::3] + plan[1::7]:
                world.control("/reset", {"what": ["tokens"]})
                world.setting(tls={s: kind for s in services})
                time.sleep(0.6)
            said = world.log("uploader")
            for word in ("curl 60", "curl 35", "https://127.0.0.1:", "tls.ca_bundle"):
                self.assertIn(word, said)
            world.setting(tls={})
            # An order that was on its way when the connection ended is a person's.
            harness.wait_for("an end of the looking", lambda: not [
                r for r in self.rows_of(world, upns).values() if r["state"] == "KEYED"], 60, 0.5)
            world.stop("run")
            for row in self.rows_of(world, upns).values():
                if row["state"] == "HELD":
                    self.assertIn("doesn't show", row["why"])
                    self.assertExit(world.cli("enrolment", "release", str(row["enrolment"])), 0)
            self.until_active(world, upns, 60)
            invariants.hold(self, world, upns)


if __name__ == "__main__":
    unittest.main()
