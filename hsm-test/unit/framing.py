"""The framing of the sockets, written anew from its description: what the played sides of pfx-hsm's
and pfx-uploader's tests speak."""

import base64
import json
import socket
import struct
import threading


def b64(data):
    return base64.b64encode(data).decode("ascii")


class Line:
    """One framed connection: u32 big-endian length, one JSON object."""

    def __init__(self, connection):
        self.connection = connection
        self.lock = threading.Lock()

    def send(self, message_type, **members):
        text = json.dumps(dict({"v": 1, "t": message_type}, **members)).encode("utf-8")
        with self.lock:
            self.connection.sendall(struct.pack(">I", len(text)) + text)

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self.connection.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data

    def receive(self):
        size = struct.unpack(">I", self._read(4))[0]
        assert size < 16 << 20, "frame too long"
        message = json.loads(self._read(size))
        assert message["v"] == 1
        return message

    def close(self):
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.connection.close()
