"""Inputs about policies: as two readers see them (target conf), the one in force, and questions for
approvals as they are stored (target state)."""

import base64
import json


def plain(people):
    """What pfx-audit's reader takes, or has to leave alone: it must never read another thing than YAML
    does."""
    ask = "approvals:\n  mode: ssh\n  roster: /r\n" + people
    two = "connectors:\n  - name: a\n  - name: b\n"
    return {
        "both": "# all\n\n" + two + ask, "quotes": "connectors:\n- name: \"a\" # x\n-   name: 'b#c'\n",
        "crlf": two.replace("\n", "\r\n"), "no-lf": two[:-1], "needed": ask + "  needed: 4 # x\n",
        "uid": "approvals:\n    mode: \"uid\"\n    valid: 1h\n", "flow": "connectors: [{name: a}]\n",
        "inner": "connectors:\n  - {name: a}\n", "comment": two + "#connectors:\n#  - name: c\n",
        "hidden": "host_id: \"a\n  connectors: b\"\n", "block": "host_id: |\n  connectors:\n" + two,
        "odd-key": "\"connectors\":\n  - name: a\n", "space": "connectors :\n  - name: a\n",
        "question": "? connectors\n: - name: a\n", "anchor": "connectors: &a\n  - name: a\n",
        "separator": "host_id: a\u2028connectors:\n  - name: a\n",
        "next-line": "# a\u0085connectors:\n- name: a\n",
        "cr": "host_id: a\rconnectors:\n  - name: a\n", "again": two + two, "mode-again": ask + ask[11:],
        "tab": "connectors:\n\t- name: a\n", "deeper": "approvals:\n  mode: uid\n    x: 1\n",
        "shallow": "approvals:\n    mode: uid\n  valid: 1h\n", "list": "approvals:\n- mode: uid\n",
        "empty": "connectors:\n", "nothing": "approvals:\n", "words": "connectors:\n  - a\n",
        "literal": "connectors:\n  - name: |\n      a\n", "more": "connectors:\n  - name: a\n    x: 1\n",
        "mode": "approvals:\n  mode: other\n", "needed-odd": ask + "  needed: 02\n",
        "folded": "host_id: a\n  b\n" + two, "brackets": "users:\n  key_types: [rsa-2048,\n" + two,
        "apostrophe": "host_id: don't\n" + two, "quote-open": "host_id: 'a\n" + two + "  '\n",
        "many": "connectors:\n" + "".join("  - name: c%d\n" % i for i in range(33)),
        "long": "connectors:\n  - name: %s\n" % ("c" * 64), "end": two + "...\n",
        "margin": two + "- name: c\n", "escaped": "connectors:\n  - name: \"\\x61\"\n",
    }


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def questions():
    """Lines of the file of questions."""
    statement = canonical({"args_hash": "0" * 64, "command": "key.destroy", "nonce": "ab" * 32,
                           "expiry": "2026-11-23T08:00:00.000Z", "origin": "h/pfx-agent"})
    record = canonical({"args": "{}", "asker": "ann", "given": [], "mode": "ssh", "needed": 2,
                        "statement": statement, "uid": 5})
    return tuple(number + " " + record for number in ("5", "-", "05", "x", "", "99999999999999999999")) + (
        "5 " + record[:-1], "5", "", "5  " + record, record, "5 {}")


def begun():
    """The mark of a ceremony."""
    head = "pfx-agent ceremony begun v1\nlog h/pfx-agent\nfrom 7\n"
    good = head + "pfx-agent ceremony record v1\n\nmac %s\n" % ("0a" * 32)
    return (good, head, good.replace("h/pfx-agent", "-"), good.replace("0a", "0A"), good[:-1], good + "x",
            good.replace("v1\nlog", "v2\nlog"), good.replace("h/pfx-agent", ""), head[:-3], head[:30],
            good.replace("h/pfx-agent", "h" * 300), good.replace("from 7", "from 07"), "",
            good.replace("\nmac", "x mac"), good.replace("0a" * 32, "xy" * 32), head + "mac %s\n" % ("0a" * 32),
            good.replace("from 7", "from"), good.replace("log ", "lag "), good.replace("h/", "h\0"))


def forces():
    """The file of the policy in force."""
    policy, roster = (base64.b64encode(text).decode() for text in (b"host_id: x\n", b"ann ssh-ed25519 A\n"))
    good = "pfx-agent policy in force v1\npolicy %s\nroster %s\nmac %s\n" % (policy, roster, "0a" * 32)
    return (good, good.replace(roster, ""), good.replace("0a", "0A"), good[:-1], good + "x", good[:60],
            good.replace("v1", "v2"), good.replace("policy " + policy, "policy !"), good[:-70] + "\n",
            good.replace("roster ", "rooster "), good.replace("mac ", "mac"), good.replace("0a" * 32, "0a"),
            good.replace("0a" * 32, "xy" * 32), "", good.replace(roster, "A" * 90000))
