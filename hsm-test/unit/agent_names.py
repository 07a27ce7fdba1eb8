"""Names and addresses through the agent's own functions, compared with what others make of them.

names.tsv holds names as a directory may have them, with what has to come out, read by eye. Letters
and digits are compared with ICU's own program uconv (icu-devtools), domains with Python's punycode
and idn2 (libidn2), addresses with what openssl reads in a certificate. Run: agent_names.py TOOL.
"""

import os
import re
import shutil
import subprocess
import sys
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, "names.tsv")
REST = "Any-Latin; de-ASCII; Latin-ASCII"
CHAINS = {"default": REST, "plain": "Any-Latin; Latin-ASCII", "ru": "Russian-Latin/BGN; " + REST,
          "uk": "Ukrainian-Latin/BGN; " + REST, "sr": "Serbian-Latin/BGN; " + REST,
          "bg": "Bulgarian-Latin/BGN; " + REST, "mn": "Mongolian-Latin/BGN; " + REST,
          "el": "Greek-Latin/UNGEGN; " + REST, "he": "Hebrew-Latin; " + REST,
          "fa": "Persian-Latin/BGN; " + REST, "th": "Thai-Latin; " + REST,
          "han": "Han-Latin/Names; " + REST}
# Dots that part words.
READY = str.maketrans({"·": " ", "・": " ", "፡": " "})


def unescape(text):
    return re.sub(r"\\u\{([0-9A-F]+)\}", lambda m: chr(int(m.group(1), 16)), text)


def rows():
    with open(TABLE, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 6:
                raise SystemExit("names.tsv:%d has %d fields, not 6" % (number, len(fields)))
            yield number, fields


def ask(tool, lines, *arguments):
    done = subprocess.run([tool, *arguments], input="".join(line + "\n" for line in lines).encode(),
                          stdout=subprocess.PIPE, timeout=120, check=True)
    answers = done.stdout.decode("utf-8").splitlines()
    if len(answers) != len(lines):
        raise SystemExit("%d answers to %d questions" % (len(answers), len(lines)))
    return [answer.split("\t") for answer in answers]


def letters(text):
    """What counts in the comparison: neither case nor signs."""
    return re.sub(r"[^0-9a-z]", "", text.lower())


def uconv(chain, names):
    """What ICU's own program makes of them: without what can't be seen, composed."""
    ready = [unicodedata.normalize("NFKC", "".join(
        c for c in name.translate(READY) if unicodedata.category(c) != "Cf")) for name in names]
    ready = [re.sub("([lL])·([lL])", r"\1\2", name) for name in ready]
    done = subprocess.run(["uconv", "-f", "utf-8", "-t", "utf-8", "-x", chain],
                          input="\n".join(ready).encode(), stdout=subprocess.PIPE, timeout=60,
                          check=True)
    return done.stdout.decode("utf-8").split("\n")


class Check:
    def __init__(self, tool):
        self.tool, self.bad, self.good = tool, 0, 0

    def wrong(self, text, *values):
        self.bad += 1
        print("WRONG " + text % values)

    def expect(self, holds, text, *values):
        if holds:
            self.good += 1
        else:
            self.wrong(text, *values)

    def names(self):
        """Each name of the table, against the table and against uconv."""
        asked = []
        for number, (key, script, given, surname, first, last) in rows():
            for kind, name, wanted in (("given name", given, first), ("surname", surname, last)):
                if wanted != "absent":
                    asked.append((number, key, script, kind, unescape(name), wanted))
        answers = ask(self.tool, ["%s\t%s\t%s" % (CHAINS[a[1]], a[3], a[4]) for a in asked])
        taken = {}
        scripts = set()
        for (number, key, script, kind, name, wanted), answer in zip(asked, answers):
            where = "names.tsv:%d %s" % (number, script)
            scripts.update(unicodedata.name(c, "").split()[0] for c in name if c.isalpha()
                           and unicodedata.name(c, ""))
            if wanted.startswith("!"):
                self.expect(answer[0] == "refused" and wanted[1:] in answer[1],
                            "%s: %r is %s", where, name, answer)
                self.expect(" Next: " in answer[-1] and kind in answer[-1]
                            and all(c.isprintable() for c in answer[-1]),
                            "%s: no message for an operator: %s", where, answer[-1])
            else:
                self.expect(answer == ["ok", wanted], "%s: %r is %s, not %r", where, name, answer,
                            wanted)
                taken.setdefault(key, []).append((where, name, answer[-1]))
        for key, entries in taken.items():
            for (where, name, ours), theirs in zip(entries, uconv(CHAINS[key],
                                                                  [e[1] for e in entries])):
                self.expect(letters(ours) == letters(theirs), "%s: %r is %r, and by uconv %r",
                            where, name, ours, theirs)
        self.expect(len(scripts) >= 20, "only %d scripts", len(scripts))
        self.expect(len(asked) >= 100, "only %d names", len(asked))
        scripts -= {"MODIFIER", "FULLWIDTH", "HALFWIDTH", "KATAKANA-HIRAGANA"}
        print("%d names in %d scripts: %s" % (len(asked), len(scripts), " ".join(sorted(scripts))))

    def forms(self):
        """A name comes out the same composed, decomposed, and with marks that can't be seen."""
        taken = [(key, unescape(name)) for _, (key, _, given, surname, first, last) in rows()
                 for name, wanted in ((given, first), (surname, last)) if wanted[0] != "!" and wanted != "absent"]
        plain = ask(self.tool, ["%s\tsurname\t%s" % (CHAINS[k], n) for k, n in taken])
        for form in ("NFC", "NFD"):
            other = ask(self.tool, ["%s\tsurname\t\u200e%s\u200f" %
                                    (CHAINS[k], unicodedata.normalize(form, n)) for k, n in taken])
            for (_, name), a, b in zip(taken, plain, other):
                self.expect(a == b, "%r in %s: %s, not %s", name, form, b, a)

    def domains(self):
        """A-labels, against idn2 and Python's punycode."""
        good = ["bücher.example", "BÜCHER.Example", "straße.example", "ελληνικά.example",
                "пример.испытание", "例え.テスト", "נחש.example", "مثال.إختبار", "उदाहरण.परीक्षा",
                "faß.bücher.example", "b\u0075\u0308cher.example", "xn--bcher-kva.example",
                "ｆｕｌｌ．example", "한국.example", "l·l.example", "क्\u200dष.example"]
        answers = ask(self.tool, ["a@" + d for d in good], "addresses")
        for domain, answer in zip(good, answers):
            theirs = subprocess.run(["idn2", domain],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20,
                                    env=dict(os.environ, LC_ALL="C.UTF-8", CHARSET="UTF-8"),
                                    check=False).stdout.decode().strip()
            self.expect(answer[0] == "ok" and answer[1].lower() == "a@" + theirs.lower(),
                        "%s is %s, and by idn2 %s", domain, answer, theirs)
            label = answer[-1].split("@")[-1].split(".")[0]
            if label.startswith("xn--"):
                python = label[4:].encode("ascii").decode("punycode")
                wanted = unicodedata.normalize("NFKC", domain.split(".")[0]).lower()
                self.expect(domain.startswith("xn--") or python == wanted,
                            "%s is %s, by Python's punycode %s", domain, label, python)
        bad = ["-ü.example", "ü-.example", "xn--\u00fc.example", "xn--a.example",
               "a\u200db.example", "אa.example", "ü..example", "ü." + "x" * 64, "\u2665\u2024.example", "ü_b.example",
               "ü", "l·a.example", "\u0301ü.example", "ü .example",
               "ü.example.", "xn--.example", "xn--abc-.example", "xn--a-0hc1b.example",
               "\u202eü.example", "אü.example", "ü.x--\u05d0.example"]
        for domain, answer in zip(bad, ask(self.tool, ["a@" + d for d in bad], "addresses")):
            self.expect(answer[0] == "refused" and " Next: " in answer[1], "%s is %s", domain,
                        answer)

    def requests(self):
        """Openssl takes and shows what the agent lets through; nothing is changed on the way."""
        sent = ["o'neil+tag@example.com", "a.b-c_d=e@example.com",
                "!#$%&'*+/=?^_`{|}~-@example.com",
                "Erika.Muster@Example.COM", "x@bücher.example", "y@BÜCHER.example"]
        answer = ask(self.tool, ["\t".join(sent)], "addresses")[0]
        self.expect(answer[0] == "ok" and len(answer) == len(sent) + 1, "%s", answer)
        # A section of openssl's configuration would read # $ and \ in its own way: escaped.
        names = "".join("email.%d=%s\n" % (i, re.sub(r"([#$\\;\"'`])", r"\\\1", a))
                        for i, a in enumerate(answer[1:]))
        conf = "[req]\ndistinguished_name=d\n[d]\n[v]\nsubjectAltName=@n\n[n]\n" + names
        request = subprocess.run(
            ["openssl", "req", "-new", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x",
             "-config", "/dev/stdin", "-extensions", "v"], input=conf.encode(),
            stdout=subprocess.PIPE, timeout=60, check=True).stdout
        text = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"],
                              input=request, stdout=subprocess.PIPE, timeout=60, check=True).stdout.decode()
        shown = [part.strip()[len("email:"):] for part in text.split("\n")[1].split(", ")]
        self.expect(shown == answer[1:], "openssl shows %s of %s", shown, answer[1:])
        self.expect(shown[-1] == "y@xn--bcher-kva.example", "%s", shown)

    def sets(self):
        """Doubles by case and by form of the domain; the limit; what is refused."""
        same = ["A@bücher.example", "a@xn--bcher-kva.example", "a@XN--BCHER-KVA.example",
                "a@BÜCHER.EXAMPLE", "b@example.com", "B@EXAMPLE.com"]
        self.expect(ask(self.tool, ["\t".join(same)], "addresses")[0]
                    == ["ok", "A@xn--bcher-kva.example", "b@example.com"], "doubles stay")
        many = ["u%d@example.com" % n for n in range(65)]
        full, over = ask(self.tool, ["\t".join(many[:64]), "\t".join(many)], "addresses")
        self.expect(full == ["ok"] + many[:64], "64 addresses: %s", full[:2])
        self.expect(over[0] == "refused" and "more than 64" in over[1] and "u64@" in over[1],
                    "65 addresses: %s", over[:2])
        refused = {
            "jürgen@example.com": "SmtpUTF8Mailbox", '"a b"@example.com': "quoted",
            "a@[192.0.2.1]": "IP address", "a b@example.com": "before the @",
            "a..b@example.com": "before the @", ".a@example.com": "before the @",
            "a.@example.com": "before the @", "x" * 65 + "@example.com": "more than 64",
            "a@example": "no domain", "a@ex_ample.com": "no domain", "a@-x.com": "no domain",
            "@example.com": "name@domain", "a@": "name@domain", "example.com": "name@domain",
            "a@" + "x" * 64 + ".com": "no domain", "a@b@example.com": "before the @",
            "y" * 60 + "@" + ".".join(["z" * 60] * 3) + ".example.com": "more than 254",
            "a\u200b@example.com": "outside ASCII", "a@x.com ": "no domain",
            "a@example.com.": "no domain", "a@ex..com": "no domain", "a@192.0.2.1": "no domain",
            "a@.": "no domain", "a@.example.com": "no domain"}
        for (address, why), answer in zip(refused.items(),
                                          ask(self.tool, list(refused), "addresses")):
            self.expect(answer[0] == "refused" and why in answer[1] and " Next: " in answer[1]
                        and answer[1].isprintable(), "%r is %s", address, answer)
        whole = "y" * 60 + "@" + ".".join(["z" * 60] * 3) + ".exampl.com"
        self.expect(len(whole) == 254 and ask(self.tool, [whole], "addresses")[0]
                    == ["ok", whole], "254 characters are refused")


def main():
    missing = [p for p in ("uconv", "idn2", "openssl") if not shutil.which(p)]
    if missing:
        print("skipped: %s isn't there (packages icu-devtools, idn2, openssl)" % missing[0])
        return 1 if os.environ.get("CI") == "true" else 77
    check = Check(sys.argv[1])
    for part in (check.names, check.forms, check.domains, check.requests, check.sets):
        part()
    print("%d checks held, %d didn't" % (check.good, check.bad))
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main())
