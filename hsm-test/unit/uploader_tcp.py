"""Servers of the tests' own: who accepts, and who carries bytes on."""

import socket
import threading


class Server:
    """Accepts on a listening socket, by default one of 127.0.0.1; serve(connection) runs in a thread
    of its own for each. What the other end breaks off ends quietly."""

    def __init__(self, listener=None, serve=None):
        self.socket = listener or socket.create_server(("127.0.0.1", 0))
        if serve:
            self.serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self):
        return self.socket.getsockname()[1]

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._guard, args=(connection,), daemon=True).start()

    def _guard(self, connection):
        try:
            self.serve(connection)
        except (OSError, EOFError):
            pass

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self.socket.close()


def relay(source, sink, look=lambda data: None):
    """Carries everything on until either ends, and then ends both; look sees it first."""
    try:
        while data := source.recv(65536):
            look(data)
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def couple(one, other, look=lambda data: None):
    """The same in both directions; look sees what comes from one."""
    back = threading.Thread(target=relay, args=(other, one), daemon=True)
    back.start()
    relay(one, other, look)
    back.join(20)
