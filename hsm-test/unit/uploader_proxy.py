"""pfx-uploader behind a proxy that wants a password: squid, with Basic and Digest."""

import base64
import socket
import sys
import threading
import time
import unittest

import uploader_rig
from simclient import GROUP
from uploader_net import NetRig, fronts
from uploader_tcp import Server, couple
from uploader_http2 import OTHER, pin_of, with_pin

PASSWORD = "correct horse ,\"'battery"
USER = "pfx agent"


class Proxied(NetRig):
    """squid lets CONNECT through for one name and password."""

    auth = "basic"
    tls = False
    secrets = {"proxy": PASSWORD}
    more = {}

    @classmethod
    def configuration(cls):
        cls.squid = fronts.Squid(cls.auth, USER, PASSWORD, cls.pem() if cls.tls else None)
        cls.addClassCleanup(cls.squid.close)
        url = cls.squid.url.replace("http:", "https:") if cls.tls else cls.squid.url
        cls.options = dict({"proxy.url": url, "proxy.user": USER, "proxy.auth": cls.auth},
                           **cls.more)
        return super().configuration()

    @classmethod
    def stop_program(cls):
        text = cls.log_text()
        assert PASSWORD not in text and base64.b64encode(
            ("%s:%s" % (USER, PASSWORD)).encode()).decode() not in text
        super().stop_program()

    def refused(self):
        """How often the proxy said no."""
        return sum(1 for r in self.squid.requests() if r[2] == "407")

    def assert_refused(self, times, before=0):
        """squid writes its log a little later."""
        until = time.time() + 10
        while self.refused() - before < times and time.time() < until:
            time.sleep(0.1)
        time.sleep(0.3)
        self.assertEqual(times, self.refused() - before)


class Basic(Proxied):
    def test_through(self):
        asked, before = self.asked("proxy"), self.refused()
        self.good("up.members", group=GROUP)
        self.good("up.order_changes", minutes=1)
        self.good("up.import", **self.import_job())
        self.assertLessEqual(self.asked("proxy") - asked, 1)
        requests = self.squid.requests()
        self.assertEqual({"CONNECT"}, {r[0] for r in requests})
        self.assertEqual(before, self.refused())

    def test_changed(self):
        """A wrong password is shown once, whatever waits, and a new one is taken at once."""
        self.good("up.records")
        self.squid.write_users("another password")
        time.sleep(6.2)  # squid's memory of the old one, and our connections, end
        before = self.refused()
        jobs = [self.agent.start("up.records") for _ in range(12)]
        jobs += [self.agent.start("up.order_cancel", order_id=1, note="n") for _ in range(4)]
        jobs += [self.agent.start("up.order", **self.order_job())]  # not a fault of the order
        for job in jobs:
            told = job.get(timeout=20)
            self.assertEqual("transient", told["class"], told)
            self.assertIn("pfx-agent secret set proxy", told["error"]["text"])
            self.assertIn("nothing was sent", told["error"]["text"])
            self.assertNotIn(PASSWORD, str(told))
        self.assert_refused(1, before)
        self.assertEqual(0, self.state()["http"]["digicert"]["requests"])
        asked, before = self.asked("proxy"), self.refused()
        for _ in range(5):
            self.bad("transient", "up.records", "secret set proxy")
        self.assertEqual((asked, before), (self.asked("proxy"), self.refused()))
        # Says nothing of DigiCert's API key.
        self.bad("transient", "up.setup_ca", "secret set proxy", products=[])
        time.sleep(5)
        self.bad("transient", "up.records", "secret set proxy")  # asks pfx-hsm, not the proxy
        self.assertEqual((asked + 1, before), (self.asked("proxy"), self.refused()))
        self.broker.values["proxy"] = "another password"
        time.sleep(5)
        try:
            self.good("up.records")
            self.good("up.order_changes", minutes=1)
            self.assertEqual(before, self.refused())
        finally:
            self.broker.values["proxy"] = PASSWORD
            self.squid.write_users(PASSWORD)


class NeverGood(Proxied):
    """A new password goes alone: the proxy may lock the account after a few wrong ones."""

    secrets = {"proxy": "wrong"}

    def test_once(self):
        jobs = [self.agent.start("up.records") for _ in range(20)]
        jobs += [self.agent.start("up.order_changes", minutes=1) for _ in range(20)]
        for job in jobs:
            self.assertEqual("transient", job.get(timeout=20)["class"])
        self.assert_refused(1)
        self.assertEqual(1, self.asked("proxy"))


class Unset(Proxied):
    """No password is stored: pfx-hsm says what to do, and nothing goes to the proxy."""

    secrets = {}

    def test_unset(self):
        self.bad("transient", "up.order_changes", "pfx-agent secret set proxy", minutes=1)
        self.bad("transient", "up.order_cancel", "pfx-agent secret set proxy", order_id=1,
                 note="n")
        self.assertEqual([], self.squid.requests())
        self.broker.values["proxy"] = PASSWORD
        self.good("up.order_changes", minutes=1)


class NoName(Proxied):
    """The proxy wants a name and there is none."""

    @classmethod
    def configuration(cls):
        return super().configuration().replace(
            "  user: \"%s\"\n" % USER, "").replace("  auth: \"basic\"\n", "")

    def test_no_name(self):
        self.bad("transient", "up.records", "proxy.user", "secret set proxy")
        self.assertEqual(0, self.asked("proxy"))


class OtherWay(Proxied):
    """The proxy asks by Digest and is to be told by Basic: it gets no password at all."""

    auth = "digest"
    more = {"proxy.auth": "basic"}

    def test_other_way(self):
        self.bad("transient", "up.records", "proxy.auth")


class Excepted(Proxied):
    """Hosts that are reached directly need no password for the proxy."""

    secrets = {}
    more = {"proxy.except": "127.0.0.1"}

    def test_direct(self):
        self.good("up.members", group=GROUP)
        self.assertEqual((0, []), (self.asked("proxy"), self.squid.requests()))


class Digest(Proxied):
    auth = "digest"

    def test_through(self):
        self.good("up.members", group=GROUP)
        self.good("up.order_changes", minutes=1)
        jobs = [self.agent.start("up.records") for _ in range(10)]
        for job in jobs:
            self.assertEqual("ok", job.get(timeout=20)["class"])
        self.assertEqual(1, self.asked("proxy"))


class DigestWrong(NeverGood):
    auth = "digest"

    def test_once(self):
        jobs = [self.agent.start("up.records") for _ in range(20)]
        for job in jobs:
            self.assertEqual("transient", job.get(timeout=20)["class"])
        # One challenge, and one wrong answer.
        self.assert_refused(2)


class Tls(Proxied):
    """https to the proxy, and its key pinned."""

    tls = True

    def test_through(self):
        self.good("up.members", group=GROUP)
        self.good("up.order_changes", minutes=1)
        self.assertEqual({"CONNECT"}, {r[0] for r in self.squid.requests()})


class TlsPinned(Tls):
    @classmethod
    def configuration(cls):
        return with_pin(super().configuration(), "127.0.0.1", pin_of(cls.pem()))


class TlsWrongPin(Proxied):
    """A false proxy isn't shown the password."""

    tls = True

    @classmethod
    def configuration(cls):
        text = super().configuration().replace(cls.options["proxy.url"],
                                               "https://localhost:%d" % cls.squid.port)
        return with_pin(text, "localhost", OTHER)

    def test_wrong_pin(self):
        self.bad("transient", "up.order_changes", pin_of(self.pem()), "tls.pins",
                 "The public key of localhost:%d" % self.squid.port, minutes=1)
        self.assertEqual([], [r for r in self.squid.requests() if r[0] == "CONNECT"])


class Toll(Server):
    """A proxy with Basic whose moods a test sets."""

    def __init__(self):
        self.good = PASSWORD    # what it takes
        self.shown = []         # each password that it was shown
        self.digest = False     # it asks by Digest, and dies of the answer
        self.challenged = self.answered = 0
        self.hold_next = False  # what comes next through a tunnel waits for `release`
        self.release = threading.Event()
        super().__init__()

    def serve(self, client):
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(4096)
                if not part:
                    return
                head += part
            lines = head.decode().split("\r\n")
            login = next((l.split(" ", 2)[2] for l in lines
                          if l.lower().startswith("proxy-authorization:")), None)
            if self.digest:
                self.lose(client, login)
                return
            password = base64.b64decode(login).decode().split(":", 1)[1]
            self.shown.append(password)
            if password != self.good:
                client.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"t\"\r\n"
                               b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                return
            host, port = lines[0].split(" ")[1].rsplit(":", 1)
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
                couple(client, server, look=self.hold)

    def lose(self, client, login):
        if login is None:
            self.challenged += 1
            client.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"t\", "
                           b"nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\n"
                           b"Connection: close\r\n\r\n")
        else:
            self.answered += 1

    def hold(self, _):
        if self.hold_next:
            self.hold_next = False
            self.release.wait(20)


class Tolled(NetRig):
    auth = "basic"
    secrets = {"proxy": PASSWORD}

    @classmethod
    def configuration(cls):
        cls.toll = Toll()
        cls.toll.digest = cls.auth == "digest"
        cls.addClassCleanup(cls.toll.close)
        cls.options = {"proxy.url": "http://127.0.0.1:%d" % cls.toll.port, "proxy.user": USER,
                       "proxy.auth": cls.auth, "limits.request_timeout": "20s",
                       "limits.job_timeout": "30s"}
        return super().configuration()


class OldTunnel(Tolled):
    """A tunnel from before proves nothing: the password may have been changed since."""

    def test_old_tunnel(self):
        self.good("up.records")
        self.toll.hold_next = True
        held = self.agent.start("up.records")  # so that connections aren't closed
        while self.toll.hold_next:
            time.sleep(0.05)
        self.good("up.records")  # leaves a tunnel for whoever comes next
        self.toll.good = "another password"
        time.sleep(5.2)
        shown = len(self.toll.shown)
        jobs = [self.agent.start("up.records")]
        time.sleep(0.5)
        jobs += [self.agent.start("up.order_changes", minutes=1) for _ in range(4)]
        for job in jobs:
            self.assertEqual("transient", job.get(timeout=20)["class"])
        self.assertEqual([PASSWORD], self.toll.shown[shown:])
        self.toll.release.set()
        self.assertEqual("ok", held.get(timeout=20)["class"])


class DigestLost(Tolled):
    """What follows a challenge and fails isn't a refusal: the password may be shown again."""

    auth = "digest"

    def test_lost(self):
        for _ in range(2):
            self.bad("transient", "up.order_changes", minutes=1)
        self.assertEqual((2, 2), (self.toll.challenged, self.toll.answered))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        uploader_rig.PROGRAM = sys.argv.pop(1)
    if not fronts.SQUID:
        print("skipped: squid isn't installed")
        sys.exit(77)
    unittest.main()
