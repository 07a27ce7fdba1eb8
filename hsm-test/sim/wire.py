"""How an answer goes over the wire when it doesn't go well: in pieces, cut off, without an end,
twice, between others. The knobs choose one of SHAPES and its members; web.py lets it write."""

import gzip
import select
import socket
import time

MAX_SECONDS = 120
ENDLESS = 64 << 20  # nobody who takes as much has a ceiling
ENDS = ("keep", "fin", "reset", "goodbye", "alert")


class Gone(Exception):
    """The client has closed, or has had enough."""


class Wire:
    """A connection whose client waits for an answer."""

    def __init__(self, handler, response, stop):
        self.handler = handler
        self.response = response
        self.body = b"" if response.status in (204, 304) else response.body
        self.stop = stop

    def send(self, data):
        self.handler.connection.sendall(data)

    def head(self, framing, **changes):
        """Status line and headers; framing is a length, "chunked" or None. A header that is in
        changes is replaced, or with None left out."""
        headers = [("Server", "pfx-sim"), ("Date", self.handler.date_time_string())]
        headers += self.response.headers
        if framing == "chunked":
            headers.append(("Transfer-Encoding", "chunked"))
        elif framing is not None:
            headers.append(("Content-Length", str(framing)))
        else:
            headers.append(("Connection", "close"))
        changes = {name.replace("_", "-").lower(): value for name, value in changes.items()}
        headers = [(n, v) for n, v in headers if n.lower() not in changes]
        headers += [(n, v) for n, v in changes.items() if v is not None]
        return self.handler.head_of(self.response.status, headers)

    def answer(self):
        return self.head(len(self.body)) + self.body

    def wait(self, seconds):
        """Gone where the client sends or closes meanwhile: it has nothing to send."""
        end = time.monotonic() + min(seconds, MAX_SECONDS)
        while not self.stop.is_set():
            left = end - time.monotonic()
            if left <= 0:
                return
            if select.select([self.handler.connection], [], [], min(left, 0.2))[0]:
                raise Gone
        raise Gone

    def end(self, how):
        """True: the connection goes on."""
        if how == "goodbye":
            self.handler.connection.settimeout(1)
            self.handler.connection.unwrap()
        elif how == "alert":
            # A record in the clear: the client's TLS finds a fatal alert that it can't have sent.
            socket.socket.sendall(self.handler.connection, b"\x15\x03\x03\x00\x02\x02\x50")
        if how != "keep":
            self.handler.hang_up(how == "reset")
        return how == "keep"


def chunk(data, size=None):
    return b"%x\r\n%s\r\n" % (len(data) if size is None else size, data)


def split(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


def pieces(wire, entry):
    """The right answer in pieces of a few bytes, each a record of TLS; or in HTTP chunks, whose
    borders are anywhere, inside a number or a character too."""
    size, pause = entry.get("size", 1), entry.get("pause", 0)
    if entry.get("chunked"):
        parts = [wire.head("chunked")] + [chunk(p) for p in split(wire.body, size)]
        parts.append(b"0\r\n\r\n")
    else:
        parts = split(wire.answer(), size)
    for part in parts:
        wire.send(part)
        if pause:
            wire.wait(pause)
    return True


def stall(wire, entry):
    """Goes silent before the answer, inside its head or inside its body."""
    head, where = wire.head(len(wire.body)), entry.get("where", "answer")
    sent = {"answer": b"", "head": head[:len(head) // 2],
            "body": head + wire.body[:len(wire.body) // 2]}[where]
    wire.send(sent)
    wire.wait(entry.get("seconds", MAX_SECONDS))
    return wire.end("fin")


def cut(wire, entry):
    """Ends inside the head, at its end, or inside the body."""
    head, where = wire.head(len(wire.body)), entry.get("where", "body")
    sent = {"head": head[:len(head) // 2], "border": head,
            "body": head + wire.body[:len(wire.body) // 2]}[where]
    wire.send(sent)
    return wire.end(entry.get("how", "fin"))


def unframed(wire, entry):
    """Neither a length nor chunks: the end of the connection is the end of the body. With
    "missing" that end comes too early."""
    keep = max(0, len(wire.body) - entry.get("missing", 0))
    wire.send(wire.head(None) + wire.body[:keep])
    return wire.end(entry.get("how", "goodbye"))


def length(wire, entry):
    """A Content-Length that is wrong by so many bytes, or a text; the connection stays open."""
    by = entry.get("by", 100)
    value = by if isinstance(by, str) else max(0, len(wire.body) + by)
    wire.send(wire.head(value) + wire.body)
    return True


def chunked(wire, entry):
    """Chunks that are no good."""
    body, what = wire.body, entry.get("what", "unended")
    head = wire.head("chunked")
    if what == "unended":           # and nothing follows
        wire.send(head + chunk(body))
        wire.wait(entry.get("seconds", MAX_SECONDS))
        return wire.end("fin")
    if what == "closed":
        wire.send(head + chunk(body))
        return wire.end(entry.get("how", "goodbye"))
    if what == "endless":
        wire.send(head)
        for _ in range(ENDLESS >> 16):
            wire.send(chunk(b" " * 65536))
        return wire.end("fin")
    if what == "trailers":
        wire.send(head + chunk(body) + b"0\r\nContent-Type: text/html\r\nRetry-After: 3600\r\n\r\n")
        return True
    wrong = {"size": b"zz\r\n" + body + b"\r\n0\r\n\r\n",
             "huge": b"ffffffffffffffffff\r\n" + body,
             "negative": b"-5\r\n" + body + b"\r\n0\r\n\r\n",
             "short": chunk(body, max(0, len(body) - 3)) + b"0\r\n\r\n"}
    wire.send(head + wrong[what])
    return wire.end("fin")


def headers(wire, entry):
    """Many or long headers before the right body."""
    lines, kib = entry.get("lines", 1), entry.get("kib", 1)
    if lines == -1:
        wire.send(wire.head(len(wire.body))[:-2])
        for number in range(ENDLESS >> 10):
            wire.send(b"X-Endless-%d: %s\r\n" % (number, b"y" * 1000))
        return wire.end("fin")
    filler = b"".join(b"X-Filler-%d: %s\r\n" % (n, b"y" * (kib * 1024)) for n in range(lines))
    wire.send(wire.head(len(wire.body))[:-2] + filler + b"\r\n" + wire.body)
    return True


def compressed(wire, entry):
    """Content-Encoding that nobody asked for, with a body that grows a thousandfold if asked."""
    body = b" " * (entry["bomb"] << 20) + wire.body if "bomb" in entry else wire.body
    body = gzip.compress(body, 9)
    wire.send(wire.head(len(body), Content_Encoding="gzip") + body)
    return True


def double(wire, entry):
    """The answer twice: at once, or with a pause, in which the next request may have come already:
    then it gets the answer of the one before."""
    if entry.get("pause"):
        wire.send(wire.answer())
        wire.stop.wait(entry["pause"])
        wire.send(wire.answer())
    else:
        wire.send(wire.answer() * 2)
    return True


def interim(wire, entry):
    """1xx answers before the right one, with headers that aren't the answer's."""
    status, count = entry.get("status", 103), entry.get("count", 1)
    one = wire.handler.head_of(status, entry.get("headers", {}).items())
    if count == -1:
        for _ in range(ENDLESS // (64 * len(one))):
            wire.send(one * 64)
        return wire.end("fin")
    wire.send(one * count + wire.answer())
    return True


def start_line(wire, entry):
    """Another line in the place of the status line; none at all is HTTP/0.9."""
    line, answer = entry.get("line"), wire.answer()
    if line is None:
        wire.send(wire.body)
    else:
        wire.send(line.encode("latin-1") + answer[answer.index(b"\r\n"):])
    return wire.end("fin")


def header(wire, entry):
    """The right answer with these headers replaced, or with null left out."""
    wire.send(wire.head(len(wire.body), **entry.get("headers", {})) + wire.body)
    return True


def recoded(wire, entry):
    """The same text in another character set."""
    body = wire.body.decode("utf-8").encode(entry.get("charset", "utf-16"))
    wire.send(wire.head(len(body)) + body)
    return True


# name: (function, its members)
SHAPES = {
    "pieces": (pieces, {"size", "pause", "chunked"}),
    "stall": (stall, {"where", "seconds"}),
    "cut": (cut, {"where", "how"}),
    "unframed": (unframed, {"missing", "how"}),
    "length": (length, {"by"}),
    "chunked": (chunked, {"what", "seconds", "how"}),
    "headers": (headers, {"lines", "kib"}),
    "compressed": (compressed, {"bomb"}),
    "double": (double, {"pause"}),
    "interim": (interim, {"status", "count", "headers"}),
    "start_line": (start_line, {"line"}),
    "header": (header, {"headers"}),
    "recoded": (recoded, {"charset"}),
}
CHOICES = {
    ("stall", "where"): ("answer", "head", "body"),
    ("cut", "where"): ("head", "border", "body"),
    ("cut", "how"): ENDS[1:],
    ("unframed", "how"): ENDS[1:],
    ("chunked", "how"): ENDS[1:],
    ("chunked", "what"): ("unended", "closed", "endless", "trailers", "size", "huge", "negative",
                          "short"),
}


def wrong(action, entry):
    """What is wrong with a rule for one of SHAPES; None: nothing."""
    for (name, member), allowed in CHOICES.items():
        if name == action and entry.get(member, allowed[0]) not in allowed:
            return "%s is one of %s" % (member, ", ".join(allowed))
    for member in ("size", "lines", "kib", "bomb", "count"):
        value = entry.get(member, 1)
        if type(value) is not int or not (-1 <= value <= 65536) or value == 0:
            return member + " is a number"
    for member in ("pause", "seconds"):
        value = entry.get(member, 0)
        if not isinstance(value, (int, float)) or not 0 <= value <= MAX_SECONDS:
            return "%s is 0 to %d" % (member, MAX_SECONDS)
    return None


def write(handler, response, shape, stop):
    """Lets a shape write the answer. False: the connection has ended."""
    name, entry = shape
    try:
        return SHAPES[name][0](Wire(handler, response, stop), entry)
    except Gone:
        handler.hang_up(False)
        return False
