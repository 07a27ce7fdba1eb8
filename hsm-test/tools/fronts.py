"""Other people's servers between pfx-uploader and the simulators: nginx in front of them, which
speaks HTTP/2, and squid as proxy with a password. Each in the foreground, in a folder of its own, ended by
its process id."""

import hashlib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

SQUID = next((p for p in ("/usr/sbin/squid",) if os.path.exists(p)), None)
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
HELPERS = "/usr/lib/squid"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_port(port, process, log, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                with open(log, encoding="utf-8", errors="replace") as stream:
                    raise RuntimeError("no server on port %d: %s" % (port, stream.read())) from None
            time.sleep(0.05)


def finish(process):
    """Ends a process that was started here."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)


class Nginx:
    """TLS with HTTP/2 on a port for each upstream; whom it spoke to, and how, is in its log."""

    SERVER = """
    server {
        listen 127.0.0.1:%(port)d ssl http2;
        %(extra)s
        location / {
            proxy_pass %(upstream)s;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_ssl_session_reuse on;
            proxy_read_timeout 60s;
            client_max_body_size 16m;
        }
    }"""
    MAIN = """
daemon off;
%(user)s
worker_processes 1;
pid %(folder)s/pid;
error_log %(folder)s/error.log warn;
events { worker_connections 512; }
http {
    log_format how '$server_port $server_protocol $status $request_method $request_uri '
                   '$connection%(tokens)s';
    access_log %(folder)s/access.log how;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    ssl_certificate %(pem)s;
    ssl_certificate_key %(pem)s;
    %(extra)s
    %(servers)s
}
"""

    def __init__(self, folder, ports, extra="", server_extra="", tokens=False):
        """ports: {name: port}. tokens: the log has them, for a test that looks for them."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.folder, self.ports = folder, ports
        self.extra, self.server_extra, self.tokens = extra, server_extra, tokens
        self.process = None

    def start(self, pem, upstreams):
        """upstreams: {name: "https://127.0.0.1:port"}."""
        servers = "".join(self.SERVER % {"port": self.ports[name], "upstream": url,
                                         "extra": self.server_extra}
                          for name, url in upstreams.items())
        conf = os.path.join(self.folder, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as stream:
            stream.write(self.MAIN % {
                "folder": self.folder, "pem": pem, "servers": servers, "extra": self.extra,
                "tokens": " $http_authorization" if self.tokens else "",
                "user": "user root;" if os.geteuid() == 0 else ""})
        log = os.path.join(self.folder, "out")
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [NGINX, "-p", self.folder, "-c", conf, "-e", self.folder + "/error.log"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_port(next(iter(self.ports.values())), self.process,
                  os.path.join(self.folder, "error.log"))
        return self

    def reload(self):
        """New workers; the old ones end their connections gracefully."""
        self.process.send_signal(signal.SIGHUP)

    def requests(self):
        """[port, protocol, status, method, target, connection, credential...] of each request."""
        with open(os.path.join(self.folder, "access.log"), encoding="utf-8") as stream:
            return [line.split() for line in stream]

    def logged(self, name, least=1):
        """The lines on a service's requests. nginx writes each a moment after its answer."""
        end = time.monotonic() + 5
        while True:
            lines = [r for r in self.requests() if r[0] == str(self.ports[name])]
            if len(lines) >= least or time.monotonic() > end:
                return lines
            time.sleep(0.01)

    def protocols(self, name):
        return {line[1] for line in self.logged(name)}

    def close(self):
        if self.process:
            finish(self.process)


class Squid:
    """A proxy that lets through whoever has the password."""

    def __init__(self, auth, user, password, tls_pem=None):
        """auth: "basic" or "digest"; tls_pem: the proxy itself is spoken to by TLS."""
        # squid drops root's rights, so its folder is its own user's.
        self.folder = tempfile.mkdtemp(prefix="pfx-squid-", dir="/tmp")
        self.port = free_port()
        self.users = os.path.join(self.folder, "users")
        self.auth, self.user = auth, user
        self.write_users(password)
        lines = ["http_port 127.0.0.1:%d" % self.port]
        if tls_pem:
            pem = os.path.join(self.folder, "tls.pem")
            shutil.copyfile(tls_pem, pem)
            lines = ["https_port 127.0.0.1:%d tls-cert=%s" % (self.port, pem)]
        if auth == "basic":
            lines += ["auth_param basic program %s/basic_ncsa_auth %s" % (HELPERS, self.users),
                      "auth_param basic children 2 startup=1", "auth_param basic realm pfx",
                      # or a changed password is asked for only after a while
                      "auth_param basic credentialsttl 1 second"]
        else:
            lines += ["auth_param digest program %s/digest_file_auth -c %s" % (HELPERS, self.users),
                      "auth_param digest children 2 startup=1", "auth_param digest realm pfx",
                      "auth_param digest nonce_max_count 500"]
        lines += ["acl known proxy_auth REQUIRED", "http_access allow known",
                  "http_access deny all",
                  "cache deny all", "pid_filename none", "shutdown_lifetime 0 seconds",
                  "logformat how %rm %ru %>Hs %un",
                  "access_log stdio:%s/access.log how" % self.folder,
                  "cache_log %s/cache.log" % self.folder, "cache_mem 1 MB",
                  "coredump_dir %s" % self.folder, "visible_hostname localhost",
                  "pinger_enable off", "max_filedescriptors 1024"]
        conf = os.path.join(self.folder, "squid.conf")
        with open(conf, "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            owner = pwd.getpwnam("proxy")
            for path in [self.folder] + [os.path.join(self.folder, n)
                                         for n in os.listdir(self.folder)]:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        log = os.path.join(self.folder, "out")
        with open(log, "wb") as out:
            self.process = subprocess.Popen([SQUID, "-N", "-f", conf], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out)
        wait_port(self.port, self.process, log)

    def write_users(self, password):
        if self.auth == "basic":
            hashed = subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], check=True,
                                    input=password.encode(), stdout=subprocess.PIPE).stdout
            text = "%s:%s" % (self.user, hashed.decode())
        else:
            digest = hashlib.md5(("%s:pfx:%s" % (self.user, password)).encode()).hexdigest()
            text = "%s:pfx:%s\n" % (self.user, digest)
        with open(self.users, "w", encoding="utf-8") as stream:
            stream.write(text)
        # The helpers read it again when its time, in seconds, is another one.
        self.written = getattr(self, "written", time.time()) + 2
        os.utime(self.users, (self.written, self.written))

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def requests(self):
        """[method, target, status, user] of each."""
        try:
            with open(os.path.join(self.folder, "access.log"), encoding="utf-8") as stream:
                return [line.split() for line in stream if not line.startswith("- ")]
        except OSError:
            return []

    def close(self):
        self.process.kill()  # a graceful end takes it seconds; its helpers end with their pipes
        self.process.wait(15)
        shutil.rmtree(self.folder, ignore_errors=True)


def server_context(pem, protocols=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
