"""What the hostile_* tests share: lines that keep every byte they are given, the values that must
never be among those bytes, and a look at how a program bears it all."""

import base64
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import time

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LONG = os.environ.get("PFX_LONG") == "1"
SLOW = float(os.environ.get("PFX_TEST_SLOW", "1"))
GUID = "11111111-2222-4333-8444-%012d"


class Closed(Exception):
    """The other side closed the line."""


class Tape:
    """Every byte that hostile processes were given, whatever line it came by."""

    def __init__(self):
        self.parts = []

    def add(self, data):
        self.parts.append(bytes(data))

    def size(self):
        return sum(map(len, self.parts))


class Wire:
    """One line to a path socket, spoken by hand; what comes is kept on the tape."""

    def __init__(self, path=None, tape=None, timeout=20, connection=None):
        self.tape = tape
        self.held = b""
        if connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            for _ in range(400):
                try:
                    connection.connect(path)
                    break
                except BlockingIOError:  # its queue of new lines is full
                    time.sleep(0.005)
        self.socket = connection
        self.socket.settimeout(timeout)

    def raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionError) as error:
            raise Closed(str(error)) from error

    def text(self, text):
        self.raw(struct.pack(">I", len(text)) + text)

    def send(self, kind, **members):
        self.text(json.dumps(dict({"v": 1, "t": kind}, **members)).encode())

    def _need(self, size):
        while len(self.held) < size:
            try:
                part = self.socket.recv(1 << 20)
            except socket.timeout:
                raise
            except OSError as error:
                raise Closed(str(error)) from error
            if not part:
                raise Closed("end of file")
            if self.tape is not None:
                self.tape.add(part)
            self.held += part

    def read(self):
        self._need(4)
        size = struct.unpack(">I", self.held[:4])[0]
        self._need(4 + size)
        text, self.held = self.held[4:4 + size], self.held[4 + size:]
        return json.loads(text)

    def last_words(self):
        """All messages until the line is closed."""
        found = []
        try:
            while True:
                found.append(self.read())
        except Closed:
            return found

    def close(self):
        self.socket.close()


def guid(number=0):
    return GUID % number


# --- what must never be found ----------------------------------------------------------------------

def forms(value):
    """The spellings in which a value could stand in a frame: both byte orders, hex, base64 at each
    of its three phases."""
    found = {value, value[::-1]}
    for order in (value, value[::-1]):
        found.add(order.hex().encode())
        found.add(order.hex().upper().encode())
        for phase in range(3):  # so many bytes of something else in front
            text = base64.b64encode(bytes(phase) + order)
            # Without the characters that hang on the neighbours, too.
            inner = text[-(-8 * phase // 6):8 * (phase + len(order)) // 6]
            found.update((inner, inner.replace(b"+", b"-").replace(b"/", b"_")))
    return found


def numbers_of(key):
    """The secret numbers of a private key."""
    if isinstance(key, rsa.RSAPrivateKey):
        n = key.private_numbers()
        return {"d": n.d, "p": n.p, "q": n.q, "dP": n.dmp1, "dQ": n.dmq1, "qInv": n.iqmp}
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return {"d": key.private_numbers().private_value}


class Needles:
    """Values with their names, to be looked for on a tape."""

    def __init__(self):
        self.values, self.spelt = {}, {}

    def add(self, name, value):
        assert len(value) >= 8, name
        self.values[name] = value

    def add_key(self, name, key):
        for part, number in numbers_of(key).items():
            self.add("%s.%s" % (name, part), number.to_bytes((number.bit_length() + 7) // 8, "big"))

    def add_password(self, name, password):
        self.add(name, password)
        self.add(name + " as BMPString", b"".join(b"\0" + bytes([c]) for c in password))

    def spellings(self, name):
        if name not in self.spelt:
            self.spelt[name] = forms(self.values[name])
        return self.spelt[name]

    def found(self, data):
        """Names of those that are there."""
        return sorted(n for n in self.values if any(form in data for form in self.spellings(n)))

    def on(self, tape):
        return self.found(b"".join(tape.parts))

    def blind(self):
        """Names of those that this search would overlook, in whatever spelling they came."""
        return sorted({
            name for name, value in self.values.items()
            for form in (value, value[::-1], value.hex().encode(), base64.b64encode(value),
                         base64.b64encode(b"x" + value + b"yz"), base64.b64encode(b"xy" + value),
                         base64.urlsafe_b64encode(b"xyz" + value[::-1] + b"z"))
            if not any(f in b"before" + form + b"behind" for f in self.spellings(name))})


# --- SoftHSM's own files: the control extraction ---------------------------------------------------

class SofthsmKeys:
    """Every secret value that SoftHSM's files hold, decrypted with the user's PIN: a control that
    shares nothing with the product. Its format (SecureDataManager, RFC4880, ObjectFile)."""

    CLASS, LABEL, KEY_TYPE = 0x000, 0x003, 0x100
    PIN_BLOB = 0x80000000 + 0x5348 + 5  # CKA_OS_USERPIN
    SECRETS = {0x011: "value", 0x123: "d", 0x124: "p", 0x125: "q", 0x126: "dP", 0x127: "dQ",
               0x128: "qInv"}

    def __init__(self, folder, pins):
        """pins: of all tokens in the folder; which is whose shows by the magic in the blob."""
        self.values = {}
        for token in sorted(os.listdir(folder)):
            path = os.path.join(folder, token)
            if os.path.isdir(path) and os.path.exists(os.path.join(path, "token.object")):
                self._token(path, pins)

    def _token(self, path, pins):
        blob = self.read(os.path.join(path, "token.object"))[self.PIN_BLOB]
        key = next(k for k in (self.open_pin(blob, pin) for pin in pins) if k)
        for name in sorted(os.listdir(path)):
            if not name.endswith(".object") or name == "token.object":
                continue
            attributes = self.read(os.path.join(path, name))
            label = self.decrypt(key, attributes.get(self.LABEL, b"")) or b"?"
            for attribute, part in self.SECRETS.items():
                value = attributes.get(attribute)
                if isinstance(value, bytes) and len(value) >= 32 and \
                        attributes.get(self.CLASS) in (3, 4):
                    plain = self.decrypt(key, value)
                    if plain:
                        self.values["%s %s.%s" % (label.decode("latin-1"), name[:8], part)] = \
                            plain.lstrip(b"\0")

    @staticmethod
    def decrypt(key, blob):
        """IV and AES-256-CBC with PKCS#7 padding; None where it isn't that."""
        if len(blob) < 32 or len(blob) % 16:
            return None
        context = Cipher(algorithms.AES(key), modes.CBC(blob[:16])).decryptor()
        plain = context.update(blob[16:]) + context.finalize()
        pad = plain[-1]
        return plain[:-pad] if 1 <= pad <= 16 and plain.endswith(bytes([pad]) * pad) else None

    @classmethod
    def open_pin(cls, blob, pin):
        salt, rest = blob[:8], blob[8:]
        key = hashlib.sha256(salt + pin.encode()).digest()
        for _ in range(1500 + salt[-1] - 1):
            key = hashlib.sha256(key).digest()
        plain = cls.decrypt(key, rest)
        return plain[3:] if plain and plain[:3] == b"RJR" else None

    @staticmethod
    def read(path):
        """Attributes of an object file: type, kind, then the value; integers of eight bytes."""
        with open(path, "rb") as stream:
            data = stream.read()
        found, at = {}, 8  # the generation
        while at + 16 <= len(data):
            kind, form = struct.unpack(">QQ", data[at:at + 16])
            at += 16
            if form == 1:  # a boolean
                found[kind] = data[at] == 0xff
                at += 1
            elif form == 2:
                found[kind] = struct.unpack(">Q", data[at:at + 8])[0]
                at += 8
            else:  # bytes, mechanisms, arrays: a length in front
                size = struct.unpack(">Q", data[at:at + 8])[0]
                at += 8
                if form == 3:
                    found[kind] = data[at:at + size]
                    at += size
                elif form == 5:  # mechanisms: so many integers
                    at += 8 * size
                else:  # an array of attributes: its size in bytes
                    at += size
        return found


# --- other users -----------------------------------------------------------------------------------

KNOCK = """
import socket, sys
data = b""
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    try:
        s.connect(sys.argv[1])
        s.sendall(sys.stdin.buffer.read())
        while not any(t in data for t in (b'"t":"end"', b'"t":"welcome"', b'"t":"bye"')):
            part = s.recv(65536)
            if not part:
                break
            data += part
    except OSError as error:
        sys.stderr.write(type(error).__name__)
sys.stdout.buffer.write(data)
"""


def knock(path, message, user, group):
    """What a process of this user gets for one message on a socket, up to its end; needs root."""
    text = json.dumps(message).encode()
    return subprocess.run([sys.executable, "-c", KNOCK, path], user=user, group=group,
                          extra_groups=[], input=struct.pack(">I", len(text)) + text,
                          capture_output=True, check=True, timeout=60).stdout


def may_open(paths, user, group):
    """Those of these paths that a process of this user can open or list; needs root."""
    script = "import os, sys\nfor p in sys.argv[1:]:\n try:\n  os.listdir(p) if os.path.isdir(p) " \
             "else open(p, 'rb').close()\n  print(p)\n except OSError:\n  pass\n"
    return subprocess.run([sys.executable, "-c", script, *paths], user=user, group=group,
                          extra_groups=[], capture_output=True, check=True, timeout=60,
                          text=True).stdout.split()


# --- how a program bears it ------------------------------------------------------------------------

class Watch:
    """Memory, descriptors and processor time of a process, from /proc."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.rss, self.fds = self.memory(), self.descriptors()

    def _status(self, name):
        with open("/proc/%d/status" % self.pid, encoding="ascii") as stream:
            return next(int(l.split()[1]) for l in stream if l.startswith(name + ":"))

    def memory(self):
        return self._status("VmRSS")  # KiB

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def ticks(self):
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as stream:
            fields = stream.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def idle(self, seconds=0.5, share=0.3):
        """Doesn't spin: within a few tries a span in which it takes little of a processor."""
        for _ in range(8):
            before = self.ticks()
            time.sleep(seconds)
            used = (self.ticks() - before) / os.sysconf("SC_CLK_TCK")
            if used < seconds * share:
                return True
        return False
