"""The plot of a run: SVG from its figures, and the table for the README.

    /usr/bin/python3 hsm-test/bench/plot.py FIGURES.json SVG
    /usr/bin/python3 hsm-test/bench/plot.py FIGURES.json --table
"""

import json
import sys
from xml.sax.saxutils import escape

WIDE, LEFT, RIGHT = 860, 250, 130
BAR, GAP, GROUP = 15, 3, 16
OURS, BARE, LIMIT, INK, FAINT = "#2f6f9f", "#c9c4b8", "#b3402e", "#222222", "#777777"
NAMES = {"rsa-2048": "RSA-2048", "ec-p256": "P-256"}
KEYS = {"token": "keys in the token", "wrapped": "keys wrapped"}
FLOOR = {"rsa-2048": 0.9, "ec-p256": 0.5}
REBUILD = {"rsa-2048": 0.85, "ec-p256": 0.85}


def number(value):
    if isinstance(value, int) or value >= 100:
        return "{:,.0f}".format(value)
    return "%.2f" % value if value < 10 else "%.1f" % value


class Drawing:
    def __init__(self):
        self.parts, self.y = [], 0

    def text(self, x, y, what, size=13, anchor="start", fill=INK, weight="normal"):
        self.parts.append('<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s" '
                          'font-weight="%s">%s</text>'
                          % (x, y, size, anchor, fill, weight, escape(what)))

    def bar(self, x, y, wide, fill, high=BAR):
        self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>'
                          % (x, y, max(wide, 1), high, fill))

    def line(self, x, y, high):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" '
                          'stroke-width="2"/>' % (x, y, x, y + high, LIMIT))

    def heading(self, what, below):
        self.y += 30
        self.text(16, self.y, what, 15, weight="bold")
        self.y += 18
        self.text(16, self.y, below, 12, fill=FAINT)
        self.y += 16

    def whole(self):
        head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
                'viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif">'
                % (WIDE, self.y + 16, WIDE, self.y + 16))
        ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
        return "\n".join([head, ground, *self.parts, "</svg>", ""])


def title(setup):
    what = "%s, %s" % (NAMES[setup["key"]], KEYS[setup["keys"]])
    if setup["key"].startswith("rsa") and setup["kind"] == "softhsm-remote":
        what += ", drawn ahead, each handed out " + ("after %d ms" % setup["pace"] if setup["pace"]
                                                     else "at once")
    return what


def beside_bare(drawing, what, found, floor):
    drawing.heading(what, "Blue: through pfx-agentd and pfx-hsm, with the operation log. Grey: the "
                    "same Cryptoki and OpenSSL calls in a bare loop. Red: the limit.")
    left = 100
    room = WIDE - left - RIGHT
    for start in range(0, len(found), 2):
        pair = found[start:start + 2]
        # A scale for each kind of key: what is to be compared stands together.
        scale = room / max(max(one["ours"], one["bare"]) for one in pair)
        drawing.text(16, drawing.y + 12, title(pair[0]["setup"]), 12, weight="bold")
        drawing.y += 20
        for one in pair:
            setup, y = one["setup"], drawing.y
            ours, bare = one["ours"] * scale, one["bare"] * scale
            limit = floor[setup["key"]] * bare
            drawing.text(left - 10, y + BAR + 4, "%d session%s" % (
                setup["sessions"], "s" if setup["sessions"] > 1 else ""), 12, "end")
            drawing.bar(left, y, ours, OURS)
            drawing.bar(left, y + BAR + GAP, bare, BARE)
            drawing.line(left + limit, y - 2, BAR + 4)
            drawing.text(left + max(ours, limit) + 6, y + 12, "%s (%.2f)"
                         % (number(one["ours"]), one["ratio"]), 12, weight="bold")
            drawing.text(left + bare + 6, y + BAR + GAP + 12, number(one["bare"]), 12, fill=FAINT)
            drawing.y += 2 * BAR + GAP + 9
        drawing.y += 10


def shares(drawing, rows):
    drawing.heading("What may be used, and is",
                    "Blue: the figure as a share of its limit, which is the red line.")
    room = WIDE - LEFT - RIGHT - 100
    for row in rows:
        y = drawing.y
        drawing.text(LEFT - 10, y + 12, short(row["name"]), 12, "end")
        drawing.bar(LEFT, y, room * min(row["value"] / row["limit"], 1.2), OURS)
        drawing.line(LEFT + room, y - 2, BAR + 4)
        drawing.text(LEFT + room + 10, y + 12, ("%s of %s %s" % (
            number(row["value"]), number(row["limit"]), row["unit"])).strip(), 12, weight="bold")
        drawing.y += BAR + GROUP


def short(name):
    return {"requests of": "requests, idle pass of 10,000 users",
            "time of tha": "time of that pass",
            "pfx-agentd ": "pfx-agentd's memory, 100,000 users",
            "pfx-agent s": "pfx-agent status, 100,000 users",
            "an enrolmen": "an enrolment beside 100,000 users"}.get(name[:11], name)


def svg(found):
    drawing = Drawing()
    if found.get("enrolments"):
        beside_bare(drawing, "Enrolments a second: key, request, PFX and seal",
                    found["enrolments"], FLOOR)
    if found.get("rebuilds"):
        beside_bare(drawing, "Rebuilds a second after a rotation: PFX and seal", found["rebuilds"],
                    REBUILD)
    rows = [row for row in found["rows"] if row["sense"] in ("at most", "below")]
    if rows:
        shares(drawing, rows)
    drawing.y += 8
    drawing.text(16, drawing.y, "%d cores, SoftHSM, %s, medians of %d rounds"
                 % (found["cores"], found["when"], found["rounds"]), 11, fill=FAINT)
    return drawing.whole()


def table(found):
    lines = ["| | value | limit | |", "|---|---|---|---|"]
    for row in found["rows"]:
        value = ("%s %s" % (number(row["value"]), row["unit"])).strip()
        limit = "%s %s" % (row["sense"], number(row["limit"])) if row["sense"] else ""
        verdict = {True: "ok", False: "**over**", None: ""}[row["ok"]]
        lines.append("| %s | %s | %s | %s |" % (row["name"], value, limit, verdict))
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as source:
        figures = json.load(source)
    if sys.argv[2] == "--table":
        print(table(figures))
    else:
        with open(sys.argv[2], "w", encoding="utf-8") as target:
            target.write(svg(figures))
