"""Inputs for the target of backups: small archives, sound and not, manifests, names of members."""

import os
import sys
import tarfile
import tempfile

from make_corpus import HERE

sys.path.insert(0, os.path.join(HERE, os.pardir, "unit"))

from cli_backup import Made, member, tar  # noqa: E402  (found by the line above)

OWNER = "pfx-hsm:adm"


def small(folder):
    made = Made(folder, OWNER, 3)
    made.at = "/srv"
    for name in list(made.files):
        if name.startswith("log/entries/"):
            made.files[name] = made.files[name].rstrip(b"\0")
    made.files["agent/store.db"] = b"SQLite format 3\0"
    return made


def archives(made):
    members = made.members()
    link = member("hsm/pins2", kind=tarfile.SYMTYPE, linkname="/etc/passwd")
    pax = member("hsm/long", b"x")
    pax[0].pax_headers = {"path": "hsm/" + "long" * 20, "comment": "x"}
    hole = member("hsm/hole", b"1\n0\n1\n".ljust(512, b"\0"))
    hole[0].pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                           "GNU.sparse.realsize": "4096", "GNU.sparse.name": "hsm/hole2"}
    huge = tarfile.TarInfo("hsm/huge")
    huge.size = 1 << 33
    cases = {"sound": members, "gnu": members, "link": members + [link], "pax": members + [pax],
             "hole": members + [hole], "twice": members + members[:1], "proof-twice": members * 2,
             "entry-twice": members + members[-2:-1], "more": members + [member("hsm/zz", b"x")],
             "other-name": members + [member("../x", b"x")], "no-proof": members[:-1],
             "long-entry": [member("entry.json", b"x" * 70000)]}
    rows = {}
    for name, rows_of in cases.items():
        form = tarfile.GNU_FORMAT if name == "gnu" else tarfile.PAX_FORMAT
        rows["tar-" + name] = tar(rows_of, form).rstrip(b"\0") + bytes(2048)
    whole = rows["tar-sound"]
    rows["tar-huge"] = huge.tobuf(tarfile.GNU_FORMAT) + whole
    rows["tar-cut"] = whole[:len(whole) // 2]
    rows["tar-cut-file"] = whole[:700]
    rows["tar-empty"] = b""
    rows["tar-zeros"] = bytes(1024)
    rows["tar-bad-sum"] = b"x" + whole[1:]
    for i, (info, _) in enumerate(members):
        name = info.name.replace("/", "-")[:30]
        rows["tar-without-%d" % i] = tar(members[:i] + members[i + 1:]).rstrip(b"\0") + bytes(2048)
        changed = [member(m.name, b"x" + d[1:]) if n == i else (m, d)
                   for n, (m, d) in enumerate(members)]
        rows["tar-changed-%s" % name] = tar(changed).rstrip(b"\0") + bytes(2048)
    for name, change in (("event", {"event": "probe"}), ("hash", {"out": {"sha256": "0" * 64}})):
        rows["tar-entry-" + name] = tar(made.members(**change)).rstrip(b"\0") + bytes(2048)
    return rows


def later(made):
    """The log in the archive goes on after the entry, or has no checkpoint."""
    made.log.cover()
    with open(made.log.path("checkpoint.1"), "rb") as stream:
        made.files["log/checkpoint.0"] = stream.read()
    rows = {"tar-later": tar(made.members())}
    made.files["log/checkpoint.0"] = bytes(4096)
    rows["tar-no-checkpoint"] = tar(made.members())
    return {name: data.rstrip(b"\0") + bytes(2048) for name, data in rows.items()}


def manifests(made):
    sound = made.manifest()
    lines = sound.split(b"\n")
    rows = {"sound": sound, "no-end": sound[:-1], "empty": b"", "title": lines[0] + b"\n",
            "nul": sound.replace(b"hsm/pins", b"hsm\0pins")}
    for i in range(7):
        rows["ends-%d" % i] = b"\n".join(lines[:i]) + b"\n"
        rows["odd-%d" % i] = sound.replace(lines[i], lines[i] + b" x", 1)
        rows["cut-%d" % i] = sound.replace(lines[i], lines[i][:-9], 1)
    for i, (old, new) in enumerate((
            (b" 0750 ", b" 9750 "), (b" 0750 ", b" 4750 "), (OWNER.encode(), b"pfx-hsm"),
            (OWNER.encode(), b"a/b:c"), (b"/srv/", b"/srv/../"), (b"/srv/", b"srv/"),
            (b"/srv/", b"/srv//"), (b"/srv/", b"/srv/\x01/"), (b"# dir", b"# door"),
            (b"log/entries\n", b"log/.entries\n"), (b"  hsm/pins\n", b" hsm/pins\n"),
            (b"  hsm/pins\n", b"  ../pins\n"), (b"  hsm/pins\n", b"  agent/store.db\n"),
            (b"# file 0600", b"# file 600"), (b"# log 3", b"# log 03"))):
        assert old in sound, old
        rows["bad-%d" % i] = sound.replace(old, new, 1)
    return {"manifest-" + name: b"manifest\n" + data for name, data in rows.items()}


def backup():
    rows = {}
    for i, name in enumerate((
            "hsm/pins", "log/tile/0/x001/x234/067", "config/agent.yaml", "hsm", "hsm/", "/hsm/x",
            "hsm//x", "hsm/.x", "hsm/../x", "other/x", "hsm/a b", "hsm/" + "x" * 101,
            "hsm/" + "x" * 90 + "/" + "y" * 90 + "/" + "z" * 90, "hsm/a/b/c/d/e/f/g", "",
            "hsm/a/b/c/d/e/f/g/h", "hsm/@a:b+c")):
        rows["name-%d" % i] = b"name\n" + name.encode()
    with tempfile.TemporaryDirectory() as folder:
        made = small(folder)
        rows.update(manifests(made))
        tars = archives(made)
        tars.update(later(made))
        made.log.close()
    rows.update({name: b"tar\n" + data for name, data in tars.items()})
    return rows
