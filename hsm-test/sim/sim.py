#!/usr/bin/python3
"""Simulators of DigiCert, Entra ID and Microsoft Graph on loopback: an oracle for the tests."""

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque

sys.dont_write_bytecode = True

import control  # noqa: E402  (the line above must come first)
import pki  # noqa: E402
import tls_faults  # noqa: E402
import web  # noqa: E402
from digicert import DigiCert  # noqa: E402
from entra import Entra  # noqa: E402
from exchange import Exchange  # noqa: E402
from graph import Graph  # noqa: E402
from imds import ARC, VM, Arc, Imds  # noqa: E402
from knobs import KnobError, Knobs  # noqa: E402
from tenant import Tenant, TenantError  # noqa: E402

SERVICES = ("digicert", "entra", "graph", "control", "exchange")
LEAST_PORTS = 4
LOG_LENGTH = 5000


class Simulators:
    """All services of one tenant, their listeners and their shared state."""

    def __init__(self, folder, tenant, ports, factor, identity=False):
        self.folder = folder
        self.tenant = tenant
        self.factor = factor
        self.stop = threading.Event()
        self.started = time.time()
        self.log = deque(maxlen=LOG_LENGTH)
        self.knobs = Knobs(tenant.settings, tenant.rules, self.stop)
        self.smime = pki.make_smime(folder)
        certificate, root = pki.make_tls_and_root(folder)
        context = web.tls_context(certificate)
        faults = tls_faults.Faults(folder, root)
        self.digicert = DigiCert(self)
        self.entra = Entra(self)
        self.graph = Graph(self)
        self.exchange = Exchange(self)
        self.control = control.Control(self)
        self.listeners = {}
        for name, port in zip(SERVICES, ports):
            app = getattr(self, name)
            inner = name == "control"
            self.listeners[name] = web.Listener(
                app, port, None if inner else context,
                self.safe_direct if inner else self.safe_dispatch,
                None if inner else self.recorder(name))
        if identity:  # their addresses are fixed, and plain HTTP
            for app, (host, port) in ((Imds(self), VM), (Arc(self), ARC)):
                self.listeners[app.name] = web.Listener(app, port, None, self.safe_dispatch,
                                                        self.recorder(app.name), host)
        for name, listener in self.listeners.items():
            if name != "control":
                listener.early = self.knobs.early
                listener.tls_fault = lambda n=name: self.knobs.get("tls").get(n)
                listener.tls_faults, listener.stop = faults, self.stop
        self.knobs.on_tls = self.drop_connections
        self.ports = {n: listener.server_port for n, listener in self.listeners.items()}

    def drop_connections(self):
        for name, listener in self.listeners.items():
            if name != "control":
                listener.drop()

    def safe_direct(self, app, request):
        return self._guard(app, request, lambda: web.Outcome(app.handle(request)))

    def safe_dispatch(self, app, request):
        return self._guard(app, request, lambda: self.knobs.dispatch(app, request))

    @staticmethod
    def _guard(app, request, function):
        """A fault of ours is a 500 that the tests see, and a trace on stderr."""
        try:
            return function()
        except Exception:  # whatever it is, the client gets an answer
            traceback.print_exc(limit=8)
            return web.Outcome(web.json_response(500, {"error": "fault in the simulator"}))

    def recorder(self, name):
        def record(request, status, started):
            self.log.append(control.log_entry(name, request, status, started))
        return record

    def request_log(self):
        return list(self.log)

    def state(self):
        return {"uptime": round(time.time() - self.started, 3),
                "digicert": self.digicert.state(), "entra": self.entra.state(),
                "graph": self.graph.state(),
                "exchange": self.exchange.state(),
                "http": {n: listener.metrics.snapshot() for n, listener in self.listeners.items()
                         if n != "control"}}

    def reset(self, part):
        if part == "knobs":
            self.knobs.reset()
        elif part == "counters":
            for listener in self.listeners.values():
                listener.metrics.clear()
            self.log.clear()
        elif part == "orders":
            self.digicert.reset()
        elif part == "records":
            self.graph.reset()
            self.exchange.reset()
        elif part == "assertions":
            self.entra.reset()
        elif part == "tokens":
            self.entra.drop_tokens()
        elif part == "limits":
            for limit in (self.digicert.limit, self.graph.any_limit, self.graph.write_limit):
                limit.clear()

    def addresses(self):
        base = {n: "127.0.0.1:%d" % p for n, p in self.ports.items()}
        return {"digicert": "https://%s/services/v2" % base["digicert"],
                "login": "https://" + base["entra"], "graph": "https://" + base["graph"],
                "exchange": "https://" + base["exchange"],
                "control": "http://" + base["control"], "pid": os.getpid()}

    def start(self):
        for listener in self.listeners.values():
            listener.start()

    def wait(self, parent, seconds):
        """Until told to stop, the parent is gone, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and os.getppid() == parent:
            if self.stop.wait(0.25):
                return
        self.stop.set()


def parse_ports(text):
    ports = [int(p) for p in text.split(",")]
    if not LEAST_PORTS <= len(ports) <= len(SERVICES) or any(not 0 <= p <= 65535 for p in ports):
        raise argparse.ArgumentTypeError("port numbers: DigiCert, Entra, Graph, control, Exchange")
    return ports + [0] * (len(SERVICES) - len(ports))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", required=True, help="folder for PKI, state and sim.json")
    parser.add_argument("--tenant", required=True, help="tenant.json")
    parser.add_argument("--ports", type=parse_ports, default=[0] * len(SERVICES),
                        help="d,e,g,c or d,e,g,c,x; 0 takes a free one (default)")
    parser.add_argument("--identity", action="store_true",
                        help="also be the two managed-identity addresses; needs a network namespace")
    parser.add_argument("--clock-factor", type=float, default=1.0,
                        help="issue delay and limit windows run this much faster")
    parser.add_argument("--max-seconds", type=float, default=3600, help="end after this time")
    options = parser.parse_args()
    if not 0.001 <= options.clock_factor <= 100000:
        parser.error("--clock-factor is out of range")
    return options


def main():
    parent = os.getppid()
    options = arguments()
    os.makedirs(options.dir, exist_ok=True)
    where = os.path.join(options.dir, "sim.json")
    if os.path.exists(where):
        os.unlink(where)  # addresses of an earlier run
    try:
        simulators = Simulators(os.path.abspath(options.dir), Tenant(options.tenant),
                                options.ports, options.clock_factor, options.identity)
    except (TenantError, KnobError, OSError, KeyError) as error:
        print("sim: %s" % error, file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: simulators.stop.set())
    simulators.start()
    pki.write_file(where, json.dumps(simulators.addresses()).encode("utf-8") + b"\n")
    simulators.wait(parent, options.max_seconds)
    try:
        os.unlink(where)
    except OSError:
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # connection threads may sit in a blocking read


if __name__ == "__main__":
    sys.exit(main())
