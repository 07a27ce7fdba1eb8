"""HTTP/1.1 listeners: requests and responses, keep-alive, TLS, counting, and the knobs' hand."""

import json
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import wire

MAX_REQUEST_BODY = 8 << 20
IDLE_SECONDS = 120


class Duplicate(ValueError):
    """A JSON object with a doubled member."""


def _no_duplicates(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Duplicate("doubled member")
    return members


def _no_constant(text):
    raise ValueError("%s isn't JSON" % text)


def parse_json(data):
    """Strict JSON: UTF-8, no doubled members, no NaN; ValueError otherwise."""
    if isinstance(data, bytes):
        data = data.decode("utf-8")
    try:
        return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


class Request:
    """What a client asked: target is the raw request target, path and query are decoded."""

    def __init__(self, method, target, headers, body):
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        split = urllib.parse.urlsplit(target)
        self.raw_path = split.path
        self.path = urllib.parse.unquote(split.path)
        self.query = urllib.parse.parse_qsl(split.query, keep_blank_values=True)

    def one(self, name, default=None):
        """The value of a query parameter; a repeated one is a ValueError."""
        values = [v for k, v in self.query if k == name]
        if len(values) > 1:
            raise ValueError("%s is given %d times" % (name, len(values)))
        return values[0] if values else default

    def content_type(self):
        return (self.headers.get("Content-Type") or "").split(";")[0].strip().lower()


class Response:
    """An answer: status, list of (name, value) headers, body bytes."""

    def __init__(self, status, body=b"", content_type=None, headers=()):
        self.status = status
        self.body = body
        self.headers = list(headers)
        if content_type:
            self.headers.append(("Content-Type", content_type))


def json_response(status, value, headers=()):
    body = json.dumps(value, ensure_ascii=False).encode("utf-8")
    return Response(status, body, "application/json", headers)


class Metrics:
    """Counters of one service."""

    def __init__(self):
        self._lock = threading.Lock()
        self.in_flight = 0
        self.open_connections = 0
        self.clear()

    def clear(self):
        with self._lock:
            self.requests = 0
            self.max_in_flight = self.in_flight
            self.connections = 0
            self.max_connections = self.open_connections
            self.statuses = {}

    def connection(self, step):
        with self._lock:
            self.open_connections += step
            if step > 0:
                self.connections += 1
                self.max_connections = max(self.max_connections, self.open_connections)

    def begin(self):
        with self._lock:
            self.requests += 1
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self, status):
        with self._lock:
            self.in_flight -= 1
            key = str(status)
            self.statuses[key] = self.statuses.get(key, 0) + 1

    def snapshot(self):
        with self._lock:
            return {"requests": self.requests, "max_in_flight": self.max_in_flight,
                    "connections_opened": self.connections,
                    "max_open_connections": self.max_connections,
                    "open_connections": self.open_connections, "answers": dict(self.statuses)}


class Handler(BaseHTTPRequestHandler):
    """Reads requests, lets the knobs and the app answer, sends each answer in one write."""

    protocol_version = "HTTP/1.1"
    server_version = "pfx-sim"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass  # the control listener's log is the only one

    def handle_one_request(self):
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline:
                self.close_connection = True
                return
            if len(self.raw_requestline) > 65536:
                self.requestline = self.request_version = self.command = ""
                self.send_error(414)
                return
            if self.parse_request():
                self._serve()
        except (OSError, ValueError):
            self.close_connection = True

    def _read_body(self):
        """The request's body, or None after an error was sent."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            self.close_connection = True
            self.send_error(411)
            return None
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_REQUEST_BODY:
            self.close_connection = True
            self.send_error(413)
            return None
        body = self.rfile.read(int(length))
        if len(body) != int(length):
            raise ConnectionError("client went away")
        return body

    def _serve(self):
        head = Request(self.command, self.path, self.headers, b"")
        early = self.server.early(self.server.app, head)
        if early is not None:
            self._break_off(early)
            return
        body = self._read_body()
        if body is None:
            return
        app = self.server.app
        metrics = self.server.metrics
        request = Request(self.command, self.path, self.headers, body)
        metrics.begin()
        status = "none"
        started = time.time()
        try:
            outcome = self.server.dispatch(app, request)
            status = outcome.response.status if outcome.response else "closed"
        finally:  # recorded before the answer, so that whoever has the answer finds the record
            self.server.record(request, status, started)
        try:
            self._send(outcome)
        finally:
            metrics.end(status)

    def _send(self, outcome):
        response = outcome.response
        if response is None:
            self.hang_up(outcome.reset)
            return
        if outcome.shape:
            if not wire.write(self, response, outcome.shape, self.server.stop):
                self.close_connection = True
            return
        headers = [("Server", "pfx-sim"), ("Date", self.date_time_string())] + response.headers
        if response.status not in (204, 304):
            headers.append(("Content-Length", "%d" % (len(response.body) + outcome.missing)))
        if outcome.missing or self.close_connection:
            headers.append(("Connection", "close"))
        head = self.head_of(response.status, headers)
        body = b"" if response.status in (204, 304) or self.command == "HEAD" else response.body
        self.connection.sendall(head + body)
        if outcome.missing:
            self.hang_up(False)

    def head_of(self, status, headers):
        reason = self.responses.get(status, ("Unknown", ""))[0]
        lines = ["HTTP/1.1 %d %s" % (status, reason)] + ["%s: %s" % pair for pair in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _break_off(self, early):
        """Close after the headers, or so many bytes into the request's body."""
        started = time.time()
        request = Request(self.command, self.path, self.headers, b"")
        self.rfile.read(min(early["bytes"], int(self.headers.get("Content-Length", "0"))))
        self.server.record(request, "closed", started)
        self.hang_up(early["reset"])

    def hang_up(self, reset):
        """Close without an answer, by FIN or by RST, and without TLS's goodbye."""
        self.close_connection = True
        try:
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                           struct.pack("ii", 1, 0))
                socket.socket.close(self.connection)
            else:
                socket.socket.shutdown(self.connection, socket.SHUT_RDWR)
        except OSError:
            pass


class Outcome:
    """What goes on the wire: a response (None: close without one), and how it is spoiled; shape is
    a name of wire.SHAPES and its members."""

    def __init__(self, response, missing=0, reset=False, shape=None):
        self.response = response
        self.missing = missing
        self.reset = reset
        self.shape = shape


class Listener(ThreadingHTTPServer):
    """One loopback listener; with a TLS context, the handshake runs in the connection's thread."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, app, port, context=None, dispatch=None, record=None, host="127.0.0.1"):
        super().__init__((host, port), Handler)
        self.app = app
        self.context = context
        self.metrics = Metrics()
        self.dispatch = dispatch or (lambda a, request: Outcome(a.handle(request)))
        self.record = record or (lambda *args: None)
        self.early = lambda app, request: None  # {"bytes", "reset"} of a request not to be read
        self.tls_fault = lambda: None           # a kind of tls_faults.KINDS
        self.tls_faults = None
        self.stop = threading.Event()
        self._open = set()
        self._lock = threading.Lock()

    def drop(self):
        """Closes the connections that there are, so that what holds for new ones holds for all."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass

    def server_bind(self):
        # HTTPServer's own asks the resolver for our name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def finish_request(self, request, client_address):
        request.settimeout(IDLE_SECONDS)
        connection = request
        if self.context:
            try:
                context = self.context
                if self.tls_fault():
                    context = self.tls_faults.spoil(request, self.tls_fault(), self.stop)
                if context is None:
                    return
                connection = context.wrap_socket(request, server_side=True)
            except (OSError, ValueError):
                return  # a client that doesn't trust us, or speaks no TLS
        self.metrics.connection(1)
        with self._lock:
            self._open.add(connection)
        try:
            self.RequestHandlerClass(connection, client_address, self)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            self.metrics.connection(-1)
            self._close(connection)

    @staticmethod
    def _close(connection):
        try:
            connection.close()
        except OSError:
            pass

    def handle_error(self, request, client_address):
        pass  # a broken connection is a client's affair; faults of ours become 500 in dispatch

    def start(self):
        thread = threading.Thread(target=self.serve_forever, args=(0.2,), daemon=True)
        thread.start()


def tls_context(certificate_file):
    """TLS 1.2 at least, HTTP/1.1 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
