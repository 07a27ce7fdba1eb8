"""What holds when the dust has settled, whatever happened before: asked at the simulators, at the
token by OpenSC, in the store by SQLite and of the log by the auditor's program."""

import collections
import os
import re
import sqlite3

import harness


def store(world):
    """(user's UPN, state, id in hex of the key that is kept) of each enrolment, from a copy that nothing holds."""
    copy = world.path("store-copy.db")
    if os.path.exists(copy):
        os.unlink(copy)
    source = sqlite3.connect("file:%s?mode=ro" % world.path("state", "store.db"), uri=True)
    source.execute("VACUUM INTO ?", (copy,))
    source.close()
    with sqlite3.connect(copy) as database:
        rows = database.execute("SELECT u.upn, e.state, CASE WHEN e.key_gone_at IS NULL"
                                " THEN e.key_id END FROM enrolment e"
                                " JOIN user u ON u.id = e.user").fetchall()
    database.close()
    return [(upn, state, key.hex() if key else None) for upn, state, key in rows]


def token_keys(world):
    """CKA_ID of each user's key in the token, by its public half, for which no PIN is needed."""
    said = world.run("pkcs11-tool", "--module", world.tool_module("users"), "--token-label",
                     "pfx-users", "--list-objects", "--type", "pubkey")
    if said.code != 0:
        raise AssertionError("pkcs11-tool: %r" % said)
    found = []
    for part in said.out.split("Public Key Object")[1:]:
        label = re.search(r"label:\s*(\S.*)", part)
        number = re.search(r"ID:\s*([0-9a-fA-F]+)", part)
        if label and number and re.search(r"\d+/\d+$", label.group(1).strip()):
            found.append(number.group(1).lower())
    return found


def orders_by_mail(world):
    found = collections.Counter()
    for order in world.orders():
        for mail in order["body"]["certificate"]["emails"]:
            found[mail.lower()] += 1
    return found


def log_verifies(test, world, name="invariants"):
    """Exported, and found good by pfx-audit under the log's key as the token has it."""
    pem = world.path(name + ".pem")
    test.assertExit(world.cli("key", "export-public", "log-1", "--out", pem), 0)
    test.assertExit(world.cli("log", "export", world.path(name)), 0)
    verdict = world.run(harness.program("pfx-audit"), "verify", world.path(name), "--key", pem,
                        seconds=120)
    test.assertExit(verdict, 0)
    test.assertTrue(verdict.out.startswith("VERIFIED"), verdict.out)


def hold(test, world, upns, most_orders=None):
    """Nobody lost, no key orphaned, nothing bought or imported twice, the log good. most_orders:
    {mail: how many there may be}, where a person ordered again; one for everybody else."""
    rows = store(world)
    test.assertEqual(set(upns) - {upn for upn, _, _ in rows}, set(), "lost users")
    keys = token_keys(world)
    test.assertEqual(len(keys), len(set(keys)), "a CKA_ID twice")
    known = {key for _, _, key in rows if key}
    test.assertEqual(set(keys) - known, set(), "orphaned keys")
    test.assertEqual(known - set(keys), set(), "keys that are gone")
    test.assertLessEqual(world.control("/state")["digicert"]["max_orders_per_key"], 1)
    for mail, count in orders_by_mail(world).items():
        test.assertLessEqual(count, (most_orders or {}).get(mail, 1), "orders for " + mail)
    records = world.records()
    test.assertEqual(len(records), len({r["id"] for r in records}), "a record twice")
    thumbprints = [r["thumbprint"] for r in records]
    test.assertEqual(len(thumbprints), len(set(thumbprints)), "a certificate in two records")
    issued = {o["thumbprint"] for o in world.orders() if o["thumbprint"]}
    test.assertEqual(set(thumbprints) - issued, set(), "records of certificates nobody issued")
    log_verifies(test, world)
