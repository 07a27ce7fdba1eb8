#!/usr/bin/python3
"""
Writes the inputs of the fuzz targets anew, but for those of entry, draft and checkpoint, which are
written by hand: make_corpus.py [TARGET...]. Inputs whose names begin with "found-" stay: they are
regression tests. Needs what the simulators need.
"""

import base64
import datetime
import hashlib
import os
import re
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, HERE)

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402
from cryptography.hazmat.primitives.serialization import pkcs7  # noqa: E402

import corpus_policy  # noqa: E402

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
GUID = "6f9619ff-8b86-4011-b42d-00c04fc964ff"


def read(*path):
    with open(os.path.join(ROOT, *path), "rb") as stream:
        return stream.read()


# --- sockets -----------------------------------------------------------------------------------


def wire_names():
    """The names of all schemas, out of the tables."""
    names = ["hello", "welcome", "bye", "pull", "job", "beat", "done", "ack", "req", "item", "end"]
    for file in ("jobs.c", "verbs_agent.c", "verbs_admin.c"):
        for name, result in re.findall(r'^    \{"([a-z0-9_.]+)", &\w+, (&\w+|NULL)\}',
                                       read("api", "wire", file).decode(), re.M):
            names.append(name)
            if result != "NULL":
                names.append(name + ".result")
    return names


def message():
    rows = {}
    for name in wire_names():
        rows["built-" + name] = name + "\n!" + "\0" * 60
    several = {"!\x01" + "\x02" * 200: "two", "!" + "\x0e" * 200: "quoted",
               "!\x00\xff" * 3: "too-long", "!\x00\xfe\x00\x07" * 9: "out-of-range",
               "!" + "\x00\x03\xfd" * 90: "any-bytes", "!" + "\x03\xff" * 40: "many",
               "!" + "\0" * 90 + "\x00\x05\"\x00\x09\\\x01\x01\x0f": "spoilt",
               "!" + "\x01\x05\x00\x11\x1a" * 30: "mixed", "!\x0f\x0f": "missing"}
    for bytes_, what in several.items():
        for name in ("hello", "up.order", "up.members.result", "init", "item", "end", "done",
                     "hsm.log", "run.result", "up.setup.result"):
            rows["%s-%s" % (what, name)] = name + "\n" + bytes_
    error = '{"class":"refused","op":"","object":"","code":"","text":"t"}'
    texts = {
        "ack": '{"v":1,"t":"ack","job":1,"lease":2}',
        "ack-spaces": ' {"v" : 1 ,\n"t":"ack","job":1,"lease":2}\n',
        "ack-order": '{"lease":2,"job":1,"t":"ack","v":1}',
        "ack-doubled": '{"v":1,"t":"ack","job":1,"job":1,"lease":2}',
        "ack-doubled-t": '{"v":1,"t":"ack","t":"ack","job":1,"lease":2}',
        "ack-version": '{"v":2,"t":"ack","job":1,"lease":2}',
        "ack-no-t": '{"v":1,"job":1}', "ack-t-number": '{"v":1,"t":1}',
        "ack-other": '{"v":1,"t":"hello"}', "ack-odd": '{"v":1,"t":"\\n"}',
        "ack-missing": '{"v":1,"t":"ack","job":1}',
        "ack-unknown": '{"v":1,"t":"ack","job":1,"lease":2,"x":3}',
        "ack-unprintable": '{"v":1,"t":"ack","job":1,"lease":2,"\u00e9":3}',
        "ack-text": '{"v":1,"t":"ack","job":"1","lease":2}',
        "ack-large": '{"v":1,"t":"ack","job":9007199254740993,"lease":2}',
        "ack-negative": '{"v":1,"t":"ack","job":-1,"lease":2}',
        "ack-zero": '{"v":1,"t":"ack","job":-0,"lease":2}',
        "ack-fraction": '{"v":1,"t":"ack","job":1.0,"lease":2}',
        "ack-leading": '{"v":1,"t":"ack","job":01,"lease":2}',
        "ack-digits": '{"v":1,"t":"ack","job":12345678901234567,"lease":2}',
        "ack-long": '{"v":1,"t":"ack","job":1,"lease":2' + " " * 300 + "}",
        "ack-behind": '{"v":1,"t":"ack","job":1,"lease":2}x', "ack-array": "[1]", "ack-empty": "",
        "ack-comma": '{"v":1,,"t":"ack","job":1,"lease":2}', "ack-torn": '{"v":1,"t',
        "ack-brackets": '{"v":1]', "ack-word": '{"v":nul}', "ack-latin": '{"v":"\xff"}',
        "ack-null": '{"v":1,"t":"ack","job":null,"lease":2}',
        "ack-escape-name": '{"v":1,"\\u0074":"ack"}', "ack-bad-escape": '{"v":"\\x"}',
        "ack-torn-escape": '{"v":"\\', "ack-torn-u": '{"v":"\\u12',
        "ack-bad-u": '{"v":"\\u12g4"}', "ack-nul": '{"v":"\\u0000"}', "ack-ctrl": '{"v":"\t"}',
        "ack-deep": '{"v":' + "[" * 9 + "]" * 9 + "}",
        "bye": '{"v":1,"t":"bye","why":"\\u00e9 \\"\\\\ \\ud83d\\ude00\\/\\b"}',
        "bye-escapes": '{"v":1,"t":"bye","why":"a\\n\\t\\"\\\\"}',
        "bye-surrogate": '{"v":1,"t":"bye","why":"\\ud83d"}',
        "end": '{"v":1,"t":"end","id":1,"exit":4,"error":%s}' % error,
        "end-number": '{"v":1,"t":"end","id":1,"exit":4,"error":5}',
        "hello": '{"v":1,"t":"hello","role":"hsm","version":"1","incarnation":"%s","pid":5,'
                 '"kinds":["a"],"capacity":1,"holds":[{"job":1,"lease":2}]}' % GUID,
        "hello-kinds": '{"v":1,"t":"hello","kinds":"a"}',
        "hello-kind": '{"v":1,"t":"hello","kinds":[1]}',
        "hello-many": '{"v":1,"t":"hello","kinds":[%s]}' % ",".join(['"a"'] * 33),
        "job-body": '{"v":1,"t":"job","job":1,"lease":1,"deadline":0,"kind":"x","body":[]}',
        "up.setup_entra": '{"groups":[],"mailboxes":true,"mail":0}',
        "up.download": '{"order_id":1,"spki":"%s"}' % base64.b64encode(b"k" * 40).decode(),
        "up.download-base64": '{"order_id":1,"spki":"x"}',
        "up.download-long": '{"order_id":1,"spki":"%s"}' % ("A" * 4000),
        "up.download-number": '{"order_id":1,"spki":1}',
        "up.download-short": '{"order_id":1,"spki":"AAAA"}',
        "up.download.result": '{"leaf":"%s","chain":["%s"]}' % ("A" * 120, "A" * 120),
        "resume": "{}", "log.names.result": '{"user":"x"}',
    }
    for name, text in texts.items():
        rows["text-" + name] = name.split("-")[0] + "\n" + text
    return {k: v.encode("latin-1" if "\xff" in v or "!" in v else "utf-8")
            for k, v in rows.items()}


def frame():
    done = ('{"v":1,"t":"done","job":1,"lease":2,"class":"ok","body":{"gone":true}}',
            '{"v":1,"t":"done","job":1,"lease":2,"class":"lost","error":{"class":"lost","op":"o",'
            '"object":"b","code":"c","text":"t"}}',
            '{"v":1,"t":"done","job":1,"lease":2,"class":"ok","body":{"gone":5}}')
    lines = {
        "hello": ("HELLO", '{"v":1,"t":"hello","role":"hsm","version":"1","incarnation":"%s",'
                  '"pid":5,"kinds":["a"],"capacity":1,"holds":[{"job":1,"lease":2}]}' % GUID),
        "arm": ("ARM", '{"v":1,"t":"pull","max":3}', '{"v":1,"t":"beat","job":1,"lease":2}') + done,
        "welcome": ("WELCOME", '{"v":1,"t":"welcome","version":"1","incarnation":"%s"}' % GUID),
        "bye": ("WELCOME", '{"v":1,"t":"bye","why":"old"}'),
        "job": ("JOB", '{"v":1,"t":"ack","job":1,"lease":2}',
                '{"v":1,"t":"job","job":1,"lease":2,"deadline":0,"kind":"up.remove",'
                '"body":{"record_id":"x"}}',
                '{"v":1,"t":"job","job":1,"lease":2,"deadline":0,"kind":"no","body":{}}'),
        "job-quotes": ("JOB", '{"v":1,"t":"job","job":1,"lease":2,"deadline":0,'
                       '"kind":"up.mailbox_rights","body":{"id":"\\"\\\\\\u0001"}}'),
        "req": ("REQ", '{"v":1,"t":"req","id":1,"verb":"pause","args":{"orders":true}}',
                '{"v":1,"t":"req","id":1,"verb":"secret.set","args":{"name":"x","value":"y"}}',
                '{"v":1,"t":"req","id":2,"verb":"status"}'),
        "item": ("ITEM", '{"v":1,"t":"item","id":1,"body":{"client_id":"%s","assertion":"x",'
                 '"expires":5}}' % GUID, '{"v":1,"t":"end","id":1,"exit":0}'),
        "answer": ("ITEM ?", '{"v":1,"t":"end","id":1,"exit":1}'),
        "answer-late": ("ITEM ?",),
        "wrong-type": ("REQ", '{"v":1,"t":"ack","job":1,"lease":2}'),
        "not-json": ("REQ", "x"), "empty-frame": ("REQ", "", ""),
    }
    rows = {}
    for name, parts in lines.items():
        for seed in ("", "1", "22", "abc", "4", "5", "66", "g"):
            head = parts[0] + ("" if " " in parts[0] else " ") + seed
            rows["%s-%s" % (name, seed or "0")] = "\n".join((head,) + parts[1:]).encode()
    small = b'{"v":1,"t":"pull","max":3}'
    whole = len(small).to_bytes(4, "big") + small
    rows.update({
        "raw": b"arm 1\n" + whole * 3, "raw-half": b"arm\n" + whole[:9],
        "raw-head": b"arm\n\0\0", "raw-long": b"arm\n\xff\xff\xff\xff{}",
        "raw-over": b"arm 7\n" + whole + b"\x00\xd0\x00\x00" + b" " * 64, "raw-nothing": b"job\n",
        "raw-many": b"arm q\n" + whole * 40,
    })
    return rows


# --- configuration -----------------------------------------------------------------------------


def rule(text="", group=1, name="staff", product="secure_email_mailbox"):
    lines = ["name: " + name, "group: 00000000-0000-4000-8000-%012d" % group, "product: " + product]
    lines += text.split("\n") if text else []
    return "rules:\n  - " + "\n    ".join(lines) + "\n"


def conf_rules():
    """agent.yaml: what a rule may say for which product, and what it may not."""
    person, organization = "secure_email_sponsor", "secure_email_organization"
    one = rule()
    more = {
        "plain": one, "organization": rule("organization: 5"),
        "no-organization": rule(product=person), "person": rule("organization: 5", product=person),
        "indicator": rule("organization: 5\ncommon_name: pseudonym", product=person),
        "indicator-wrong": rule("organization: 5\ncommon_name: organization_name", product=person),
        "indicator-none": rule("common_name: email_address", product="class1_smime"),
        "organization-name": rule("organization: 5\ncommon_name: organization_name",
                                  product=organization),
        "legacy": rule("organization: 5\nprofile_type: strict", product="client_premium"),
        "multipurpose": rule("profile_type: multipurpose\nclient_auth: true"),
        "strict-auth": rule("profile_type: strict\nclient_auth: true"),
        "strict-only": rule("profile_type: multipurpose", product="class1_smime"),
        "signs": rule("purpose: encryption\nnon_repudiation: true"),
        "dual": rule("purpose: dual\nintune: encryption"), "intune": rule("intune: signing"),
        "internal": rule(product="internal"), "unknown": rule(product="none"),
        "internal-all": rule("organization: 5\npayment: balance\nrenewal: true\nvalidity: 1y\n"
                             "comment: x\nprofile_type: strict\ncommon_name: pseudonym\n"
                             "custom_fields: [{id: 1, value: x}]", product="internal"),
        "fields": rule("custom_fields:\n  - id: 1\n    value: x\n  - id: 1\n    value: y"),
        "fields-good": rule("custom_fields:\n  - {id: 1, value: x}\n  - {id: 2, value: y}"),
        "fields-many": rule("custom_fields: [%s]" % ", ".join(["{id: 1, value: x}"] * 17)),
        "fields-map": rule("custom_fields: {id: 1}"), "fields-word": rule("custom_fields: [1]"),
        "days": rule("validity: 824d"), "years": rule("validity: 2y"), "weeks": rule("validity: 3w"),
        "too-long": rule("validity: 825d"), "no-days": rule("validity: 0d"),
        "same-name": one + rule(group=2)[7:], "same-group": one + rule(name="b")[7:],
        "two": one + rule(name="b", group=2)[7:],
        "group-twice-dual": one + rule("purpose: dual\nintune: encryption", name="b")[7:],
        "no-name": "rules:\n  - group: x\n", "empty-list": "rules: []\n", "words": "rules: [a, b]\n",
        "retry": one + "schedule:\n  retry_min: 2h\n  retry_max: 1h\n",
        "retry-min": one + "schedule:\n  retry_min: 2h\n", "merge": one + "<<: {a: 1}\n",
        "dotted": one + "schedule.pass_every: 1h\n", "typo-inside": one + "schedule:\n  retry_mim: 1s\n",
        "reload": one + "schedule:\n  pass_every: never\n", "twice": one + "run_dir: /a\nrun_dir: /b\n",
        "dots": one + "run_dir: /a/../b\n", "relative": one + "run_dir: a\n",
        "account": one + "access:\n  operators: ops\n  auditors: -x\n  hsm_user: \"a b\"\n",
        "quoted-bool": rule("renewal: \"true\""), "quoted-number": one + "max_orders_per_day: \"5\"\n",
        "short-guid": rule().replace("4000", "400"), "odd-guid": rule().replace("4000", "4x00"),
        "upper-guid": rule().replace("00000000-", "ABCDEF00-"), "chain": one +
        "names:\n  transliteration: Latin-ASCII\n", "hash": one + "state_dir: /x # y\n",
        "deep": "a:\n" + "".join(" " * i + "b:\n" for i in range(1, 30)),
    }
    return {"agent-rule-" + what: "agent\n" + text for what, text in more.items()}


def conf_variants():
    """uploader.yaml and hsm-policy.yaml: a small right one, and changes to it."""
    up = "entra:\n  tenant: 00000000-0000-4000-8000-000000000002\n"
    key = "sha256//" + base64.b64encode(bytes(32)).decode()
    cmp_ = ("ca: cmp\ncmp:\n  url: https://ca.example/pkix\n  reference: r\n  ca_cert: /ca.pem\n")
    pin = "tls:\n  pins:\n    - host: %s\n      keys: \"%s\"\n"
    more = {
        "least": up, "cmp": up + cmp_, "cmp-lacks": up + "ca: cmp\n",
        "pin": up + pin % ("graph.microsoft.com", key + ";" + key),
        "pin-upper": up + pin % ("GRAPH.microsoft.com", key),
        "pin-other": up + pin % ("example.com", key), "pin-word": up + pin % ("graph.microsoft.com", "x"),
        "pin-short": up + pin % ("graph.microsoft.com", "sha256//AAAA"),
        "pin-bad": up + pin % ("graph.microsoft.com", key + ";sha256//!"),
        "pin-twice": up + pin % ("graph.microsoft.com", key)
        + "    - host: Graph.Microsoft.Com\n      keys: \"%s\"\n" % key,
        "proxy": up + "proxy:\n  url: http://p.example:8080\n  user: u\n  except: a.b,*\n",
        "proxy-tls": up + "proxy:\n  url: https://p.example:8080/\n" + pin % ("p.example", key),
        "proxy-user": up + "proxy:\n  url: http://u:p@p.example:8080\n",
        "proxy-port": up + "proxy:\n  url: http://p.example\n", "proxy-lone": up + "proxy:\n  user: u\n",
        "proxy-range": up + "proxy:\n  url: http://p.example:99999\n",
        "http": up + "graph:\n  url: http://graph.example\n",
        "slash": up + "graph:\n  url: https://graph.example:8443/x/\n",
        "six": up + "graph:\n  url: https://[::1]:8443/x\n" + pin % ("::1", key),
        "six-open": up + "graph:\n  url: https://[::1\n", "point": up + "graph:\n  url: https://g.example.\n",
        "query": up + "graph:\n  url: https://g.example/?x\n", "long": up + "graph:\n  url: https://%s/\n"
        % ("x" * 300), "ca-port": up + "digicert:\n  url: https://d.example:0/\n",
        "arc": up + "  sign_in: azure-arc\n  identity: 00000000-0000-4000-8000-000000000003\n",
        "vm": up + "  sign_in: azure-vm\n", "clouds": up + "  cloud: usgov-dod\n",
        "timeouts": up + "limits:\n  request_timeout: 1s\n  connect_timeout: 50s\n",
        "timeouts-one": up + "limits:\n  connect_timeout: 200s\n",
        "rates": up + "graph:\n  rate_any: 5/10s\n  rate_writes: 0/1s\n",
        "rate-odd": up + "graph:\n  rate_any: 5\n  rate_writes: x/1s\n",
        "size": up + "limits:\n  max_body: 8 MiB\n  in_flight: 0\n",
        "size-good": up + "limits:\n  max_body: 8MiB\n", "size-kib": up + "limits:\n  max_body: 64KiB\n",
    }
    rows = {"uploader-with-" + what: "uploader\n" + text for what, text in more.items()}
    role = "  %s:\n    module: /lib/p.so\n    token: \"pkcs11:token=%s\"\n%s"
    tokens = "tokens:\n" + "".join(role % (r, r, "" if r == "encryption" else
                                           "    pin_file: %s-pin\n" % r)
                                   for r in ("encryption", "users", "service", "log"))
    policy = (tokens + up + "  apps:\n    - client_id: 00000000-0000-4000-8000-000000000003\n"
              "users:\n  ca_roots: /roots.pem\nencryption_key:\n  name: k\n  provider: p\n")
    ask = policy + "approvals:\n  mode: ssh\n"
    people = "  uids:\n    - uid: 5\n      principal: ann\n"
    more = {
        "approvals": ask + "  roster: /r\n  needed: 3\n  valid: 2h\n" + people,
        "approvals-no-roster": ask + people, "approvals-no-uids": ask + "  roster: /r\n",
        "approvals-uid": policy + "approvals:\n  mode: uid\n  roster: /r\n",
        "approvals-twice": ask + "  roster: /r\n" + people + "    - uid: 5\n      principal: bob\n",
        "months": policy + "  rotate_every: 12mo\n", "months-many": policy + "  rotate_every: 121mo\n",
        "connectors": policy + "connectors:\n  - name: host-1\n",
        **{"plain-" + what: policy + text for what, text in corpus_policy.plain(people).items()},
        "delivery": policy.replace("users:\n  ca", "users:\n  after_delivery:\n    signing: destroy\n"
                                   "  ca"),
        "least": policy, "host": policy + "host_id: log-1\n", "host-bad": policy + "host_id: a b\n",
        "segment": policy + "log:\n  segment_entries: 300\n", "keep": policy + "log:\n  keep: 5d\n",
        "keep-ever": policy + "log:\n  keep: 0d\n", "keep-long": policy + "log:\n  keep: 731d\n",
        "apps": policy.replace("users:\n  ca_roots", "    - client_id: 00000000-0000-4000-8000-"
                               "000000000004\nusers:\n  ca_roots"),
        "apps-named": policy.replace("users:\n  ca_roots", "    - name: main\n      client_id: 00000000"
                                     "-0000-4000-8000-000000000004\nusers:\n  ca_roots"),
        "apps-two": policy.replace("users:\n  ca_roots", "    - name: b\n      client_id: 00000000"
                                   "-0000-4000-8000-000000000004\nusers:\n  ca_roots"),
        "types": policy.replace("users:\n  ca", "users:\n  key_types: [rsa-2048, ec-p384]\n  ca"),
        "types-none": policy.replace("users:\n  ca", "users:\n  key_types: []\n  ca"),
        "types-twice": policy.replace("users:\n  ca", "users:\n  key_types: [rsa-2048, rsa-2048]\n  ca"),
        "types-word": policy.replace("users:\n  ca", "users:\n  key_types: rsa-2048\n  ca"),
        "types-odd": policy.replace("users:\n  ca", "users:\n  key_types: [x, [y]]\n  ca"),
        "domains": policy.replace("users:\n  ca", "users:\n  domains:\n    - domain: a.example\n"
                                  "    - domain: B.example\n  ca"),
        "domains-odd": policy.replace("users:\n  ca", "users:\n  domains:\n    - domain: '@a.example'\n"
                                      "    - domain: '*.b'\n  ca"),
        "direct": policy.replace("users:\n  ca", "users:\n  lowest_tier: direct\n  keys: wrapped\n  ca"),
        "pin": policy.replace("    token: \"pkcs11:token=encryption\"\n",
                              "    token: \"pkcs11:token=encryption\"\n    pin_file: /x\n"),
        "pin-value": policy.replace("token=users", "token=users?pin-value=1234"),
        "slot": policy.replace("pkcs11:token=users", "pkcs11:slot-id=1;token=users"),
        "no-token": policy.replace("pkcs11:token=users", "pkcs11:manufacturer=x"),
        "no-uri": policy.replace("pkcs11:token=users", "token=users"),
        "serial": policy.replace("pkcs11:token=users", "pkcs11:serial=1"),
        "pin-path": policy.replace("users-pin", "/run/pin"), "pin-dots": policy.replace("users-pin", ".."),
        "role": policy + "  log:\n    x: 1\n", "module": policy.replace("/lib/p.so", "p.so"),
        **{"attestation-" + what: policy.replace(
            "    token: \"pkcs11:token=encryption\"\n",
            "    token: \"pkcs11:token=encryption\"\n    attestation: \"%s\"\n" % how)
           for what, how in (("none", "none"), ("objects", "objects:Att*"), ("no-label", "objects:"),
                             ("attribute", "attribute:0x80000001"), ("low", "attribute:0x00000003"),
                             ("short", "attribute:0x8"), ("file", "file:/v/{name}.att"),
                             ("folder", "file:/{id}/a"), ("word", "what"), ("slash", "file:/v/"))},
        "nothing": "host_id: x\n", "deadline": policy + "call_deadline: 1s\nsessions: 33\n",
    }
    rows.update({"policy-with-" + what: "policy\n" + text for what, text in more.items()})
    return rows


def conf():
    rows = {}
    for name, file in (("agent", "agent"), ("uploader", "uploader"), ("policy", "hsm-policy")):
        text = read("deploy", "examples", file + ".yaml").decode()
        short = "\n".join(l for l in text.split("\n") if l.strip() and not
                          re.match(r"\s*#( |$)", l) and not re.match(r"\s*# ?[A-Za-z(]", l)) + "\n"
        used = re.sub(r"^(\s*)#(?=\S+:)", r"\1", short, flags=re.M)
        rows[name] = name + "\n" + short
        rows[name + "-all"] = name + "\n" + used
        for what, (before, after) in {
                "twice": (":", ":\nx: 1\nx"), "tab": ("  ", "\t"), "null": (": ", ": ~\n#"),
                "list": (": ", ": [a, b]\n#"), "map": (": ", ": {a: 1}\n#"),
                "quoted": (": ", ": \"\\u00e9\\n\"\n#"), "number": (": ", ": 999999999999\n#"),
                "negative": (": ", ": -1\n#"), "word": (": ", ": nonsense\n#"),
                "empty": (": ", ":\n#"), "time": (": ", ": 0s\n#"), "never": (": ", ": never\n#"),
                "rate": (": ", ": 5/0s\n#"), "octal": (": ", ": 010\n#"), "yes": (": ", ": yes\n#"),
                "url": (": ", ": https://user:pw@host/\n#"), "path": (": ", ": a/../b\n#"),
                "uri": (": ", ": pkcs11:token=x?pin-value=1\n#")}.items():
            rows["%s-%s" % (name, what)] = name + "\n" + used.replace(before, after)
    rows.update(conf_rules())
    rows.update(conf_variants())
    odd = {"anchor": "a: &x 1\nb: *x\n", "tag": "a: !!str 1\n", "directive": "%YAML 1.2\n---\na: 1\n",
           "two": "a: 1\n---\nb: 1\n", "not-yaml": "a: [1\n", "list": "- a\n", "scalar": "x\n",
           "empty": "", "comment": "# nothing\n", "key": "? [a]\n: 1\n", "long-key": "k" * 200 + ": 1\n",
           "utf16": "\xff\xfe", "bad-utf8": "a: \xc3\n", "control": "a: \"\\x01\"\n",
           "section": "schedule: 5\nlimits:\n", "unknown": "shedule:\n  pass_evry: 1h\nzzzz: 1\n",
           "nested": "schedule:\n  pass_every:\n    x: 1\n", "block": "a: |\n  x\n  y\n",
           "alias": "a: *x\n", "version": "%TAG ! x\n---\n"}
    for what, text in odd.items():
        for name in ("agent", "uploader", "policy"):
            rows["%s-odd-%s" % (name, what)] = name + "\n" + text
    return {k: v.encode("latin-1") if "\xc3" in v or "\xff" in v else v.encode()
            for k, v in rows.items()}


# --- certificates ------------------------------------------------------------------------------


def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Maker:
    """Certificates, one more odd than the other."""

    def __init__(self):
        self.keys = {"root": ec.generate_private_key(ec.SECP256R1()),
                     "inter": ec.generate_private_key(ec.SECP256R1()),
                     "leaf": ec.generate_private_key(ec.SECP256R1()),
                     "rsa": rsa.generate_private_key(65537, 2048),
                     "p384": ec.generate_private_key(ec.SECP384R1()),
                     "ed": ed25519.Ed25519PrivateKey.generate()}
        self.root = self.make("Root", "root", "Root", "root", ca=True)
        self.inter = self.make("Inter", "inter", "Root", "root", ca=True)

    def make(self, subject, key, issuer="Inter", by="inter", ca=False, days=300, emails=(),
             usage=("digital_signature",), eku=("email",), extra=(), start=-2, names=None,
             critical=(), path=None, sha1=False):
        now = datetime.datetime(2026, 11, 20)
        builder = (x509.CertificateBuilder().subject_name(names or name(subject))
                   .issuer_name(name(issuer)).public_key(self.keys[key].public_key())
                   .serial_number(int(hashlib.sha256(subject.encode()).hexdigest()[:14], 16))
                   .not_valid_before(now + datetime.timedelta(days=start))
                   .not_valid_after(now + datetime.timedelta(days=days)))
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, path), True)
        bits = {n: n in (("key_cert_sign",) if ca else usage or ()) for n in (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")}
        if usage is not None:
            builder = builder.add_extension(x509.KeyUsage(**bits), True)
        if eku and not ca:
            purposes = {"email": x509.ExtendedKeyUsageOID.EMAIL_PROTECTION,
                        "web": x509.ExtendedKeyUsageOID.SERVER_AUTH}
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([purposes[p] for p in eku]), False)
        if emails:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.RFC822Name(e) if isinstance(e, str) else e
                                             for e in emails]), False)
        for extension in extra:
            builder = builder.add_extension(extension, False)
        for extension in critical:
            builder = builder.add_extension(extension, True)
        algorithm = None if by == "ed" else hashes.SHA1() if sha1 else hashes.SHA256()
        return builder.sign(self.keys[by], algorithm)


def chains(m, alice):
    """What can be wrong above a certificate, each with every choice of the target."""
    weak = rsa.generate_private_key(65537, 1024)
    m.keys["weak"] = weak
    leaf = m.make("z", "leaf", emails=alice)
    web = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    limits = x509.NameConstraints([x509.RFC822Name("example.org")], None)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    inters = {
        "good": m.inter, "expired": m.make("Inter", "inter", "Root", "root", ca=True, days=-1),
        "early": m.make("Inter", "inter", "Root", "root", ca=True, start=5),
        "web": m.make("Inter", "inter", "Root", "root", ca=True, extra=(web,)),
        "limits": m.make("Inter", "inter", "Root", "root", ca=True, extra=(limits,)),
        "no-ca": m.make("Inter", "inter", "Root", "root"),
        "critical": m.make("Inter", "inter", "Root", "root", ca=True, critical=(unknown,)),
        "forged": m.make("Inter", "inter", "Root", "leaf", ca=True), "none": None,
        "no-path": m.make("Inter", "inter", "Root", "root", ca=True, path=0),
    }
    small = [m.make("y", "weak", emails=alice), m.inter]
    deep = [m.make("0", "leaf", "1", "inter", emails=alice)] + [
        m.make(str(i), "inter", str(i + 1), "inter", ca=True) for i in range(1, 20)]
    rows = {}
    for what, inter in inters.items():
        for extra in (2, 5, 8, 11):
            sent = [c for c in (leaf, inter, m.root) if c]
            rows["chain-%s-%d" % (what, extra)] = b"".join(
                c.public_bytes(PEM) for c in sent) + b"\n" * extra
    below = m.make("Below", "p384", ca=True)
    others = {
        "small": small + [m.root], "deep": deep,
        "deep-root": deep[:-1] + [m.make("19", "inter", "19", "inter", ca=True)],
        "path": [m.make("w", "leaf", "Below", "p384", emails=alice), below, inters["no-path"], m.root],
        "weak": [m.make("small", "leaf", "Weak", "weak", emails=alice),
                 m.make("Weak", "weak", ca=True), m.inter, m.root],
        "sha1": [m.make("v", "leaf", emails=alice, sha1=True), m.inter, m.root],
        "ahead": [m.make("s", "leaf", emails=alice, start=1), m.inter, m.root],
    }
    for what, sent in others.items():
        for extra in (2, 5, 8, 11):
            rows["chain-%s-%d" % (what, extra)] = b"".join(
                c.public_bytes(PEM) for c in sent) + b"\n" * extra
    return rows


def cert():
    m = Maker()
    alice = ("alice@example.com",)
    odd = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Zo\u00eb, \"x\""),
                     x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "zoe@example.com")])
    utf8 = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x03a@b")
    leaves = {
        "signing": m.make("a", "leaf", emails=alice),
        "two": m.make("b", "leaf", emails=("B@example.com", "b@EXAMPLE.com")),
        "encryption": m.make("c", "rsa", emails=alice, usage=("key_encipherment",)),
        "dual": m.make("d", "rsa", emails=alice, usage=("digital_signature", "key_encipherment")),
        "agreement": m.make("e", "p384", emails=alice, usage=("key_agreement",)),
        "no-address": m.make("f", "leaf"),
        "no-usage": m.make("g", "leaf", emails=alice, usage=None),
        "no-eku": m.make("h", "leaf", emails=alice, eku=()),
        "web": m.make("i", "leaf", emails=alice, eku=("web",)),
        "ca": m.make("j", "leaf", emails=alice, ca=True),
        "expired": m.make("k", "leaf", emails=alice, days=-1),
        "long": m.make("l", "leaf", emails=alice, days=2000),
        "subject": m.make("m", "leaf", emails=alice, names=odd),
        "smtputf8": m.make("n", "leaf", emails=(utf8,)),
        "dns": m.make("o", "leaf", emails=(x509.DNSName("example.com"),)),
        "ed25519": m.make("p", "ed", emails=alice),
        "self": m.make("q", "leaf", "q", "leaf", emails=alice),
        "foreign": m.make("r", "leaf", "Other", "leaf", emails=alice),
        "critical": m.make("s", "leaf", emails=alice, extra=(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"),)),
    }
    rows = {}
    for what, leaf in leaves.items():
        pems = [c.public_bytes(PEM) for c in (leaf, m.inter, m.root)]
        rows["pem-" + what] = b"".join(pems)
        rows["pem+-" + what] = b"".join(pems) + b"\n"
        rows["pem++-" + what] = b"\xef\xbb\xbf \n" + b"".join(pems) + b"xx"
    rows.update(chains(m, alice))
    signing = leaves["signing"]
    rows["der"] = signing.public_bytes(DER)
    rows["der-rsa"] = leaves["dual"].public_bytes(DER)
    rows["p7b"] = pkcs7.serialize_certificates([signing, m.inter, m.root], DER)
    rows["p7b-pem"] = pkcs7.serialize_certificates([signing, m.inter], PEM)
    rows["p7b-as-cert"] = rows["p7b-pem"].replace(b"PKCS7", b"CERTIFICATE")
    rows["p7b-odd-content"] = rows["p7b"].replace(bytes.fromhex("06092a864886f70d010701"),
                                                  bytes.fromhex("06092a864886f70d010705"))
    rows["p7-data"] = bytes.fromhex("300d06092a864886f70d010701a000")
    rows["no-root"] = b"".join(c.public_bytes(PEM) for c in (signing, m.inter))
    rows["alone"] = signing.public_bytes(PEM)
    rows["turned"] = b"".join(c.public_bytes(PEM) for c in (m.root, m.inter, signing))
    rows["doubled"] = signing.public_bytes(PEM) * 2
    same_key = m.make("t", "leaf", emails=alice)
    rows["same-key"] = signing.public_bytes(PEM) + same_key.public_bytes(PEM)
    ring = [m.make("A", "root", "B", "inter", ca=True), m.make("B", "inter", "A", "root", ca=True)]
    rows["ring"] = b"".join(c.public_bytes(PEM) for c in [m.make("u", "leaf", "B", "inter",
                                                                 emails=alice)] + ring)
    rows["many"] = b"".join(m.make("n%d" % i, "leaf", emails=alice).public_bytes(PEM)
                            for i in range(33))
    rows["key-and-cert"] = b"-----BEGIN X-----\nAAAA\n-----END X-----\n" + rows["alone"]
    rows["torn"] = rows["alone"][:200]
    rows["bad-base64"] = rows["alone"].replace(b"MII", b"M!I", 1)
    rows["bad-label"] = rows["alone"].replace(b"END CERT", b"END CORT")
    rows["long-label"] = b"-----BEGIN " + b"X" * 80 + b"-----\n"
    rows["no-dashes"] = b"-----BEGIN X"
    for what, text in (("empty", b""), ("html", b"<html>"), ("json", b"{}"), ("zip", b"PK\3\4"),
                       ("base64", b"MIIabc"), ("text", b"hello"), ("spaces", b" \n\t"),
                       ("sequence", b"0\x82\xff"), ("sequence-0", b"0\0"),
                       ("sequence-long", b"0\x83\x00\x00\x01\x05"),
                       ("sequence-4", b"0\x84\x00\x00\x00\x02\5\0")):
        rows["no-" + what] = text
    for what, key in m.keys.items():
        spki = key.public_key().public_bytes(DER, SPKI)
        rows["spki-" + what] = spki
        rows["spki-pem-" + what] = key.public_key().public_bytes(PEM, SPKI)
        if what != "ed":
            request = (x509.CertificateSigningRequestBuilder().subject_name(name("x"))
                       .sign(key, hashes.SHA256()))
            rows["csr-" + what] = request.public_bytes(DER)
            rows["csr-pem-" + what] = request.public_bytes(PEM)
            line = request.public_bytes(PEM).decode().replace("\n", "")
            rows["csr-line-" + what] = line.encode()
            rows["csr-broken-" + what] = rows["csr-" + what][:-1] + b"\x55"
    rows["spki-1024"] = rsa.generate_private_key(65537, 1024).public_key().public_bytes(DER, SPKI)
    rows["spki-e3"] = rsa.generate_private_key(3, 2048).public_key().public_bytes(DER, SPKI)
    rows["spki-p521"] = ec.generate_private_key(ec.SECP521R1()).public_key().public_bytes(DER, SPKI)
    rows["rs-64"] = bytes(range(1, 65))
    rows["rs-zero"] = bytes(64)
    rows["rs-high"] = b"\xff" * 96
    return rows


if __name__ == "__main__":
    import corpus_rest
    corpus_rest.main(sys.argv[1:], {"message": message, "frame": frame, "conf": conf,
                                    "cert": cert})
