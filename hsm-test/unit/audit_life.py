#!/usr/bin/env python3
"""What pfx-audit verify says of the lives of keys: generations of the encryption key, connectors,
standing keys, blobs wrapped anew. For each rule a log that breaks it, signed properly; and lawful
ones beside."""
import datetime

from audit_meaning_rig import Case, find, main, make

CONNECTORS = b"""---
users:   # what is here means nothing to the reader
  lowest_tier: transit
connectors:
  # the first
  - name: conn1
  - name: "conn2"  # quoted
"""


class LifeCase(Case):
    def setUp(self):
        super().setUp()
        self.log = make.lawful()
        self.log.start()

    def rotated(self, generation=2):
        self.log.move("key.rotate", generation, "making")
        return self.log.move("key.rotate", generation, "staged")

    def moved(self, *moves):
        """moves: (event, generation, state, and members); the last one's result."""
        for event, generation, state, *rest in moves:
            _, result = self.log.move(event, generation, state, **(rest[0] if rest else {}))
        return result

    def only(self, words, entry, name="log"):
        """The one finding, but for those that two people should have approved it."""
        answer = self.verify(self.log, name=name)
        texts = [one for one in answer.findings if one["level"] == "finding"
                 and "have to approve" not in one["text"]]
        self.assertEqual(len(texts), 0 if words is None else 1, answer)
        if words is None:
            return answer
        self.assertIn(words, texts[0]["text"])
        place = next(i for i, one in enumerate(self.written.log.entries) if one is entry)
        self.assertEqual(texts[0]["entry"], place, answer)
        return answer


class Life(LifeCase):
    def test_moves(self):
        known = {"count": 0}
        for what, moves, words in (
                ("lawful", (("key.activate", 2, "active"), ("key.activate", 1, "active"),
                            ("key.activate", 2, "active"), ("key.retire", 1, "retired", known),
                            ("key.destroy", 1, "destroyed", known)), None),
                ("compromised", (("key.compromise", 1, "compromised"),
                                 ("key.activate", 2, "active")), None),
                ("compromised and back", (("key.compromise", 1, "compromised"),
                                          ("key.activate", 1, "active")), "which is compromised"),
                ("destroyed while active", (("key.destroy", 1, "destroyed", known),),
                 "which is active"),
                ("retired while active", (("key.retire", 1, "retired", known),), "which is active"),
                ("out of nothing", (("key.rotate", 2, "staged"),), "which is staged"),
                ("needed", (("key.activate", 2, "active"),
                            ("key.retire", 1, "retired", {"count": 3})), "3 records named it"),
                ("not known", (("key.activate", 2, "active"), ("key.retire", 1, "retired")),
                 "wasn't known how many"),
                ("another state", (("key.activate", 2, "active"),
                                   ("connector.probe", 1, "suspended"),
                                   ("key.retire", 1, "suspended", known)),
                 "key.retire makes a generation suspended"),
                ("put back", (("key.activate", 2, "active"),
                              ("connector.probe", 1, "suspended", {"pin__serial": 4})),
                 "an older file was put back"),
                ("left out", (("key.activate", 2, "active", {"pin__serial": 5}),),
                 "the log doesn't have each write of the pins")):
            with self.subTest(what):
                self.setUp()
                self.rotated()
                self.only(words, self.moved(*moves), what.replace(" ", "-"))

    def test_never_staged(self):
        self.log.move("key.rotate", 2, "making")
        self.only("which is making", self.moved(("key.activate", 2, "active")))

    def test_another_key_under_the_same_number(self):
        self.rotated()
        result = self.moved(("key.activate", 2, "active", {"pin__spki": self.log.hex()}))
        self.only("another public key here", result)

    def test_result_of_another_generation(self):
        self.rotated()
        result = self.moved(("connector.probe", 2, "staged"))
        result["pin"] = dict(result["pin"], generation=1, state="active",
                             spki=self.log.pins[0]["spki"])
        self.only("another generation than its intent", result)

    def test_failed_writes(self):
        """A write that ended in a failure may have been made: its serial is passed over, or not."""
        for skipped in (0, 1):
            with self.subTest(skipped):
                self.setUp()
                self.rotated()
                intent = self.log.intent("key.activate", pin__generation=2,
                                         pin__serial=self.log.serial + 1, pin__state="active")
                self.log.result(intent, outcome="device", pin__generation=2,
                                pin__serial=self.log.serial + 1, pin__state="active")
                self.log.serial += skipped
                self.only(None, self.moved(("key.activate", 2, "active")), "log%d" % skipped)

    def test_unknown_end(self):
        self.rotated()
        self.log.intent("key.activate", pin__generation=2, pin__serial=self.log.serial + 1)
        self.log.start()
        self.log.ready()
        self.only(None, self.moved(("key.activate", 2, "active")))

    def test_members_left_out(self):
        for event, state, member in (
                ("key.rotate", "staged", "pin.spki"), ("key.activate", "active", "pin.state"),
                ("key.activate", "active", "pin.serial"), ("key.activate", "active", "pin.spki"),
                ("key.destroy", "destroyed", "found"), ("key.destroy", "destroyed", "key.id"),
                ("key.compromise", "compromised", "reason"),
                ("connector.probe", "staged", "out.sha256"),
                ("connector.confirm", "staged", "target.name")):
            with self.subTest(event + member):
                self.setUp()
                self.rotated()
                if event == "connector.confirm":
                    self.log.move("connector.probe", 2, "staged")
                result = self.moved((event, 3 if event == "key.rotate" else 2, state))
                group, _, name = member.rpartition(".")
                del (result[group] if group else result)[name]
                if group and not result[group]:
                    del result[group]
                answer = self.verify(self.log, name=event + member)
                self.assertEqual(answer.exit, 1, answer)
                self.assertTrue(any(member in text for text in answer.texts("finding")), answer)

    def test_listed_otherwise(self):
        self.rotated()
        self.log.pins[-1]["state"] = "retired"
        self.log.ready()
        self.only("listed as retired, and the entries before made it staged",
                  find(self.log, "token.ready", nth=-1))

    def test_listed_with_another_serial(self):
        self.rotated()
        self.log.serial += 1
        self.log.ready()
        self.only("doesn't have each write", find(self.log, "token.ready", nth=-1))

    def test_listed_and_never_made(self):
        """With the serial that the log knows: pins written by whoever has the MAC key."""
        for what, spoil in (("after lists", lambda: self.log.ready()),
                            ("after a write", lambda: self.rotated())):
            with self.subTest(what):
                self.setUp()
                spoil()
                self.log.pins.append({"generation": 7, "spki": self.log.hex(), "state": "retired"})
                self.log.ready()
                self.log.ready()  # told once
                self.only("a list of pins of generation 7 of the encryption key, and no entry",
                          find(self.log, "token.ready", nth=-2), what.replace(" ", "-"))

    def test_first_list(self):
        """The pins' first write was the first: a list right behind it may have nothing else."""
        self.log = make.Log()
        self.log.begin()
        self.log.pin(1)
        self.log.pins.append({"generation": 2, "spki": self.log.hex(), "state": "staged"})
        self.log.ready()
        self.only("no entry of the log made it", find(self.log, "token.ready"))

    def test_moved_and_never_made(self):
        for event, state in (("key.activate", "active"), ("key.compromise", "compromised"),
                             ("connector.probe", "staged")):
            with self.subTest(event):
                self.setUp()
                _, result = self.log.move(event, 9, state)
                self.only(f"{event} of generation 9 of the encryption key, and no entry of the log "
                          "made it", result, event)

    def test_adopted_without_approvals(self):
        intent, _ = self.log.move("key.rotate", 2, "staged", reason="adopted")
        self.found(self.verify(self.log), intent, "nobody did")


class Connectors(LifeCase):
    """The policy in force names two: each must have confirmed a generation before it is used."""

    def policy(self, text=CONNECTORS):
        self.log = make.Log(policy=text)
        self.log.init()
        self.log.start()
        self.rotated()

    def host(self, name, *events):
        for event in events or ("probe", "confirm"):
            self.log.move("connector." + event, 2, "staged", target__name=name)

    def activated(self, words, name="log"):
        return self.only(words, self.moved(("key.activate", 2, "active")), name)

    def test_each_confirmed(self):
        self.policy()
        self.host("conn1")
        self.host("conn2")
        self.activated(None)
        # The way back, and there again, asks nobody.
        self.moved(("key.activate", 1, "active"), ("key.activate", 2, "active"))
        answer = self.only(None, None, "back")
        self.assertFalse([text for text in answer.open if "had confirmed" in text], answer)

    def test_one_never_asked(self):
        self.policy()
        self.host("conn1")
        self.activated("the connector conn2 of the policy in force hadn't confirmed it")

    def test_asked_again(self):
        self.policy()
        self.host("conn1")
        self.host("conn2")
        self.host("conn1", "probe")
        self.activated("the connector conn1 of the policy in force hadn't confirmed it")

    def test_answer_of_nobody(self):
        self.policy()
        self.host("conn2")
        self.host("conn1", "confirm")
        answer = self.verify(self.log)
        self.found(answer, find(self.log, "connector.confirm", "result", 1), "no connector.probe asked")

    def test_of_another_policy(self):
        """The one in force then counts, not the one that was there before."""
        self.policy(CONNECTORS.replace(b'  - name: "conn2"  # quoted\n', b""))
        self.host("conn1")
        self.log.policies[make.sha(CONNECTORS).hex()] = CONNECTORS
        self.log.policy = make.sha(CONNECTORS).hex()
        self.log.start()
        self.log.add("policy.changed", policy__sha256=self.log.policy, weak=True)
        self.activated("the connector conn2")

    def test_not_read(self):
        """What isn't of the plain form, or isn't there, is said to be not proven."""
        for i, text in enumerate((b"connectors: [{name: conn1}]\n", b"connectors:\n  - {name: conn1}\n",
                                  b'x: "a\nconnectors: b"\n', b"x: [a,\nconnectors: b]\n",
                                  b'"connectors":\n  - name: conn1\n', b"connectors : a\n",
                                  b"connectors:\n- name: a\nconnectors:\n- name: b\n", b"a: &b c\n",
                                  b"connectors:\n- name: |\n    a\n", b"? connectors\n: a\n",
                                  b"connectors:\n", b"\tconnectors:\n", b"connectors:\n- host: a\n")):
            with self.subTest(text):
                self.policy(text)
                answer = self.activated(None, "log%d" % i)
                self.assertTrue(any("the policy's text isn't there, or" in one for one in answer.open),
                                answer)
        self.policy()
        self.log.policies = {}
        answer = self.activated(None, "gone")
        self.assertTrue(any("the policy's text isn't there, or" in one for one in answer.open), answer)

    def test_staged_before_what_was_examined(self):
        self.policy()
        for _ in range(100):
            self.log.enrol()
        self.log.start()
        self.log.ready()
        result = self.moved(("key.activate", 2, "active"))
        self.verify(self.log)
        (self.folder / "kept").write_bytes(self.written.note(300))
        answer = self.verify(self.log, asked={"since": self.folder / "kept"})
        self.assertEqual(answer.exit, 0, (answer, result))
        self.assertTrue(any("not all of its confirmations" in one for one in answer.open), answer)


class Standing(LifeCase):
    serial = 0

    def step(self, event, name, state, **members):
        self.serial += 1
        words = dict({"standing__serial": self.serial, "key__id": self.log.hex(20)}, **members)
        intent = self.log.intent("standing." + event, target__name=name, standing__state=state)
        return intent, self.log.result(intent, target__name=name, standing__state=state, **words)

    def staged(self, name="mac-2"):
        return self.step("rotate", name, "staged")

    def test_lawful(self):
        self.staged()
        self.step("activate", "mac-2", "active")
        self.step("activate", "mac-1", "active")
        self.staged("client-main-2")
        self.step("activate", "client-main-2", "active")
        self.step("destroy", "client-main-1", "destroyed")  # nothing is kept under it: no approvals
        self.staged("wrapping-2")
        self.step("destroy", "wrapping-2", "destroyed")  # it was never in force
        self.clean(self.verify(self.log))

    def test_destroyed_without_approvals(self):
        for name in ("mac-1", "mac-2", "wrapping-7"):
            with self.subTest(name):
                self.setUp()
                self.staged()
                self.step("activate", "mac-2", "active")
                self.staged("mac-3")
                self.step("activate", "mac-3", "active")
                intent, _ = self.step("destroy", name, "destroyed")
                self.found(self.verify(self.log, name), intent, "nobody did")

    def test_moves(self):
        for what, steps, words in (
                ("active", (("activate", "mac-2", "active"), ("destroy", "mac-2", "destroyed")),
                 "standing.destroy of mac-2, which is active"),
                ("destroyed", (("destroy", "mac-2", "destroyed"), ("activate", "mac-2", "active")),
                 "which is destroyed"),
                ("twice", (("rotate", "mac-2", "staged"),), "which is staged"),
                ("other state", (("activate", "mac-2", "staged"),), "became active")):
            with self.subTest(what):
                self.setUp()
                self.staged()
                for step in steps:
                    _, result = self.step(*step)
                self.only(words, result, what.replace(" ", "-"))

    def test_put_back(self):
        self.staged()
        _, result = self.step("activate", "mac-2", "active", standing__serial=1)
        self.only("an older file was put back", result)

    def test_left_out(self):
        for member in ("serial", "id"):
            with self.subTest(member):
                self.setUp()
                _, result = self.staged()
                group = "standing" if member == "serial" else "key"
                result[group] = {k: v for k, v in result[group].items() if k != member}
                if not result[group]:
                    del result[group]
                self.only(f"{group}.{member}", result, member)

    def test_failed(self):
        """What failed may have been done: nothing is found of it later."""
        self.staged()
        intent = self.log.intent("standing.activate", target__name="mac-2")
        self.log.result(intent, outcome="device", target__name="mac-2")
        self.step("activate", "mac-2", "active")
        self.staged("mac-3")
        self.log.intent("standing.destroy", target__name="mac-3")
        self.log.start()
        self.step("destroy", "mac-3", "destroyed")
        self.staged("mac-4")
        self.clean(self.verify(self.log), warnings=1)


class Rewrapped(Case):
    def setUp(self):
        super().setUp()
        self.log = make.lawful()
        self.log.start()

    def rewrap(self, key, **changes):
        words = dict({"key__id": key["key__id"], "key__spki": key["key__spki"]}, **changes)
        intent = self.log.intent("key.rewrap", key__id=words["key__id"], **key["target"])
        ticket = self.log.hex()
        result = self.log.result(intent, ticket=ticket, **words, **key["target"])
        return dict(key, ticket=ticket, key__spki=words["key__spki"]), result

    def test_packed_with_the_new_ticket(self):
        key = self.log.make()
        for _ in range(2):
            key, _ = self.rewrap(key)
        self.log.upload(key, self.log.build(key))
        self.clean(self.verify(self.log))

    def test_of_a_key_made_elsewhere(self):
        """A rewrap doesn't make a foreign key one of this log's."""
        key, result = self.rewrap(self.log.make(), key__spki=self.log.hex())
        self.log.upload(key, self.log.build(key))
        self.found(self.verify(self.log), result, "no key.make of this log made before")

    def test_of_another_id(self):
        _, result = self.rewrap(self.log.make(), key__id=self.log.hex(20))
        self.found(self.verify(self.log), result, "key.rewrap names a key id that isn't")


class Records(Case):
    """Each change of a key is followed by the record of its ceremony, which began before it."""

    def setUp(self):
        super().setUp()
        self.log = make.Log("host-a", 1)
        self.log.init()

    def record(self, kind, ms=-1000):
        at = datetime.datetime.fromtimestamp((self.log.clock + ms) / 1000, datetime.timezone.utc)
        self.log.add("ceremony.record", out__sha256=self.log.hex(),
                     target__name=at.strftime("%Y%m%dT%H%M%S%f")[:-3] + "Z-" + kind)

    def missed(self):
        answer = self.verify(self.log, f"log{len(self.log.entries)}")
        self.assertEqual(answer.exit, 0, answer)
        return [one for one in answer.open if "no ceremony.record of this log" in one]

    def test_of_the_first_ceremony(self):
        one, = self.missed()
        first = next(i for i, e in enumerate(self.log.entries) if e["event"] == "ceremony.key")
        self.assertIn(f"entry {first} (ceremony.key), and those of later ones,", one)
        self.record("key.rotate")
        self.assertEqual(len(self.missed()), 1)
        self.record("init", ms=0)  # a second one, which names all keys
        self.assertEqual(self.missed(), [])

    def rotate(self):
        self.log.move("key.rotate", 2, "making")
        self.log.move("key.rotate", 2, "staged")

    def stand(self):
        said = {"target__name": "mac-2", "standing__state": "staged"}
        self.log.result(self.log.intent("standing.rotate", **said), key__id=self.log.hex(20),
                        standing__serial=1, **said)

    def test_of_each_change(self):
        self.record("init")
        for change, event in ((self.rotate, "key.rotate"), (self.stand, "standing.rotate")):
            change()
            one, = self.missed()
            first = [i for i, e in enumerate(self.log.entries)
                     if e["event"] == event and e["outcome"] == "ok"][0]
            self.assertIn(f"entry {first} ({event})", one)
            self.record("init")
            self.record(event, ms=0)  # of a ceremony that began behind it
            self.assertEqual(len(self.missed()), 1)
            self.record(event)
            self.assertEqual(self.missed(), [])

    def test_of_no_change(self):
        self.record("init")
        intent = self.log.intent("ceremony.key", target__name="mac")
        self.log.result(intent, key__id=self.log.hex(20), found="key")
        intent = self.log.intent("standing.rotate", target__name="mac-2")
        self.log.result(intent, outcome="device")
        self.assertEqual(self.missed(), [])


class Notes(Case):
    def test_left_out(self):
        log = make.lawful()
        log.start()
        intent = log.intent("backup.create", target__name="backup")
        backup = log.result(intent, target__name="backup")
        self.found(self.verify(log), backup, "backup.create is ok without its out.sha256")
        backup["out"] = {"sha256": log.hex()}
        record = log.add("ceremony.record", target__name="init-1")
        self.found(self.verify(log, "record"), record, "without its out.sha256")


if __name__ == "__main__":
    main()
