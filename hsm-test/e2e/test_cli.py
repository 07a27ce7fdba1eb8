"""The command line: exit codes, --json, the terminal's prompt, and secrets that leave no trace."""

import base64
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
import unittest

from cryptography.hazmat.primitives import serialization

import harness
import people
from case import WorldCase, about_keys
from terminal import Terminal


class Offline(WorldCase):
    """Without any daemon."""

    def setUp(self):
        self.world = self.make([people.user(1)])

    def test_exit_codes_without_daemons(self):
        world = self.world
        self.assertExit(world.cli("--version"), 0, "pfx-agent ")
        self.assertExit(world.cli("help"), 0, "enrolment list")
        self.assertExit(world.cli("help", "run"), 0, "--dry-run")
        self.assertExit(world.cli("frobnicate"), 2, "no verb")
        self.assertExit(world.cli("enrollment", "list"), 2, "did you mean")
        self.assertExit(world.cli("run"), 2, "--once")
        for verb in (("status",), ("enrolment", "list"), ("key", "list"), ("hsm", "test"), ("init",),
                     ("secret", "status"), ("run", "--once"), ("pause", "--orders")):
            self.assertExit(world.cli(*verb), 3, world.folder, "there is no socket", "Start it")

    def test_the_overview_has_each_verb_once(self):
        shown = [re.match("[a-z-]+( [a-z-]+)?", line[2:30])[0]
                 for line in self.world.cli("help").out.split("Options of")[0].splitlines()
                 if line.startswith("  ")]
        manual = re.findall(r"(?m)^\.SS ([a-z-]+(?: [a-z-]+)?)", self.world.cli("man").out.replace("\\", ""))
        self.assertGreater(len(manual), 50)
        self.assertEqual(sorted(shown), sorted(manual))

    def test_data_on_stdout_only(self):
        world = self.world
        self.assertEqual(world.cli("frobnicate").out, "")
        self.assertEqual(world.cli("enrolment", "list").out, "")
        status = world.cli("status", "--json")
        self.assertEqual(json.loads(status.out)["schema"], "pfx-agent/status/1")
        self.assertIs(json.loads(status.out)["agent"]["reachable"], False)

    def test_config_check_names_file_and_line(self):
        world = self.world
        path = world.conf_path("agent.yaml")
        world.start_sim()
        world.write_conf()
        self.assertExit(world.cli("config", "check", path), 0)
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
        line = next(i for i, text in enumerate(lines) if "poll_every" in text)
        lines[line] = lines[line].replace("poll_every", "pol_every")
        harness.private_file(path, "\n".join(lines) + "\n")
        result = world.cli("config", "check", path)
        self.assertExit(result, 1, "%s:%d" % (path, line + 1), "pol_every")
        found = world.cli("config", "check", path, "--json").lines()
        self.assertEqual(found[0]["schema"], "pfx-agent/config-check/1")
        self.assertFalse(found[0]["ok"])
        self.assertExit(world.cli("config", "check", world.path("nowhere.txt")), 2, "--as")
        self.assertExit(world.cli("run", "--once", "--config", path), 2, "pol_every")

    def test_examples_are_accepted(self):
        for kind in ("agent", "uploader", "hsm-policy"):
            text = self.world.cli("config", "example", kind)
            self.assertExit(text, 0)
            path = self.world.conf_path(kind + ".yaml")
            harness.private_file(path, text.out)
            self.assertExit(self.world.cli("config", "check", path), 0)

    def test_nothing_is_typed_for_nothing(self):
        for verb in (("secret", "set", "digicert"), ("init",)):
            with self.subTest(verb):
                terminal = Terminal(self.world, harness.program("pfx-agent"), *verb)
                self.assertEqual(terminal.end(), 3)
                self.assertIn(b"there is no socket", terminal.output)
                self.assertNotIn(b"shown", terminal.output)
                self.assertNotIn(b"PIN", terminal.output)

    def test_unknown_secret_isnt_asked_for(self):
        for name in ("foo", "", "digicert2", "x" * 400):
            with self.subTest(name):
                self.assertExit(self.world.cli("secret", "set", name), 2, "digicert", "proxy", "cmp")

    def test_unfit_secret_isnt_sent(self):
        for name, value in (("digicert", "two words"), ("digicert", "short"), ("cmp", "12345"),
                            ("proxy", "\u00e4"), ("proxy", "x" * 513)):
            with self.subTest((name, value)):
                result = self.world.cli("secret", "set", name, secret=value, option="--fd")
                self.assertExit(result, 2, "printable ASCII")
                self.assertNotIn(value, result.out + result.err)


class Prompts(WorldCase):
    """A terminal, and pfx-hsm before its tokens have keys."""

    def setUp(self):
        self.world = self.make([people.user(1)])
        self.world.prepare()
        self.world.start_agentd()
        self.world.start_hsm()

    def test_prompt_without_echo(self):
        terminal = Terminal(self.world, harness.program("pfx-agent"), "secret", "set", "digicert")
        terminal.read_until(b"isn't shown")
        self.assertFalse(terminal.echoes())
        terminal.type("sesame-open\n")
        self.assertEqual(terminal.end(), 5, terminal.output)
        self.assertNotIn(b"sesame", terminal.output)

    def test_echo_comes_back_after_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                # A second process keeps the terminal open, as a shell would.
                master, slave = pty.openpty()
                self.addCleanup(os.close, master)
                self.addCleanup(os.close, slave)
                pid = os.fork()
                if pid == 0:
                    os.setsid()
                    import fcntl
                    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                    for fd in range(3):
                        os.dup2(slave, fd)
                    os.execve(harness.program("pfx-agent"), ["pfx-agent", "secret", "set", "cmp"],
                              dict(self.world.environment, TERM="xterm"))
                harness.wait_for("no echo", lambda: not termios.tcgetattr(slave)[3] & termios.ECHO,
                                 10)
                os.kill(pid, number)
                _, status = os.waitpid(pid, 0)
                self.assertEqual(os.waitstatus_to_exitcode(status), -number)
                self.assertTrue(termios.tcgetattr(slave)[3] & termios.ECHO)


@about_keys
class Online(WorldCase):
    """With all three daemons."""

    def test_init_by_terminal_and_files(self):
        world = self.make([people.user(1)])
        with self.telling(world):
            world.prepare()
            world.start_agentd()
            world.start_hsm()
            terminal = Terminal(world, harness.program("pfx-agent"), "init")
            terminal.read_until(b"PIN of the encryption token")
            self.assertFalse(terminal.echoes())
            terminal.type(world.pin("encryption") + "\n")
            self.assertEqual(terminal.end(180), 0, terminal.output)
            self.assertIn(b"Next steps", terminal.output)
            self.assertIn(b"mac-1: made, attributes read back", terminal.output)
            harness.wait_for("pfx-agentd to know of it", lambda: "hsm ready" in world.cli("status").out, 20)
            self.assertNotIn(world.pin("encryption").encode(), terminal.output)
            names = sorted(os.listdir(world.path("out")))
            ed25519 = ["log-ed25519-1.vkey"] if "ed25519" in world.cli("key", "list").out else []
            self.assertEqual(names, ["client-main.crt", "encryption-key-1.pem", "log-1.vkey",
                                     *ed25519])
            # What the auditor gets names the key in the token.
            with open(world.path("out", "log-1.vkey"), encoding="ascii") as stream:
                line = base64.b64decode(stream.read().split("+", 2)[2])
            key = serialization.load_pem_public_key(
                world.cli("key", "export-public", "log-1").out.encode())
            self.assertEqual(b"\2" + key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo), line)
            # Again: nothing is made twice, and another file isn't overwritten.
            before = {n: open(world.path("out", n), "rb").read() for n in names}
            os.mkdir(world.path("record"))
            again = world.cli("init", "--out", world.path("out"), "--record", world.path("record"),
                              "--witness", "Zo\u00eb", "--witness=Ada", secret=world.pin("encryption"),
                              seconds=180)
            self.assertExit(again, 0)
            self.record(world, again)
            for name in names:
                with open(world.path("out", name), "rb") as stream:
                    self.assertEqual(stream.read(), before[name])
            with open(world.path("out", "encryption-key-1.pem"), "w", encoding="ascii") as stream:
                stream.write("another\n")
            result = world.cli("init", "--out", world.path("out"), secret=world.pin("encryption"),
                               seconds=180)
            self.assertExit(result, 4, "isn't overwritten")
            exported = world.cli("key", "list", "--json").lines()
            names = [k["name"] for k in exported if k["role"] == "encryption"]
            pem = world.cli("key", "export-public", names[0])
            self.assertExit(pem, 0)
            self.assertEqual(pem.out.encode(), before["encryption-key-1.pem"])
            self.export_as_cng(world, names[0], before["encryption-key-1.pem"])

    def record(self, world, init):
        """What pfx-hsm keeps, witnesses on it, and an auditor's verdict on it."""
        self.assertIn("ceremony record " + world.path("hsm-state", "ceremonies"), init.out)
        names = sorted(os.listdir(world.path("record")))
        self.assertEqual([os.path.splitext(n)[1] for n in names], [".html", ".txt"])
        for name in names:
            with open(world.path("record", name), "rb") as mine, \
                    open(world.path("hsm-state", "ceremonies", name), "rb") as kept:
                text = mine.read()
                self.assertEqual(text, kept.read())
            self.assertIn("Zo\u00eb".encode(), text)
        self.assertExit(world.cli("log", "export", world.path("record", "export")), 0)
        told = world.run(harness.program("pfx-audit"), "ceremony", world.path("record", names[1]),
                         "--key", world.path("out", "log-1.vkey"), "--log",
                         world.path("record", "export"))
        self.assertExit(told, 0)
        self.assertIn("keys, certificates, generations and approvals are in the log as on the page", told.out)
        self.assertExit(world.cli("init", "--record", world.path("nowhere")), 2, "--record")
        self.assertExit(world.cli("init", *["--witness=x"] * 13), 2, "12 witnesses")

    def export_as_cng(self, world, name, pem):
        """BCRYPT_RSAPUBLIC_BLOB, compared with one that Python builds from the PEM."""
        numbers = serialization.load_pem_public_key(pem).public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        blob = (struct.pack("<6I", 0x31415352, numbers.n.bit_length(), 3, size, 0, 0) +
                b"\1\0\1" + numbers.n.to_bytes(size, "big"))
        self.assertEqual(numbers.e, 65537)
        path = world.path("out", "key.blob")
        export = ("key", "export-public", name, "--format", "cng")
        for word in ("wrote", "unchanged"):
            self.assertExit(world.cli(*export, "--out", path), 0, word)
            with open(path, "rb") as stream:
                self.assertEqual(stream.read(), blob)
        piped = subprocess.run([harness.program("pfx-agent"), *export], env=world.environment,
                               capture_output=True, timeout=60, check=False)
        self.assertEqual((piped.returncode, piped.stdout), (0, blob), piped.stderr)
        with open(path, "wb") as stream:
            stream.write(blob[:-1] + bytes([blob[-1] ^ 2]))
        self.assertExit(world.cli(*export, "--out", path), 4, "isn't overwritten")
        self.assertExit(world.cli("key", "export-public", name, "--format", "der"), 2, "pem or cng")
        self.assertExit(world.cli(*export, "--json"), 2, "--out")
        terminal = Terminal(world, harness.program("pfx-agent"), *export)
        self.assertEqual(terminal.end(), 2)
        self.assertIn(b"isn't written to a terminal", terminal.output)
        self.assertNotIn(b"RSA1", terminal.output)
        client = world.cli("key", "export-public", "log-1", "--format", "cng", "--out",
                           world.path("out", "log.blob"))
        self.assertExit(client, 2, "isn't an RSA key")
        self.assertFalse(os.path.exists(world.path("out", "log.blob")))

    def test_json_and_no_trace_of_secrets(self):
        world = self.ready([people.user(n) for n in (1, 2)])
        with self.telling(world):
            secrets = [world.api_key] + [world.pin(r) for r in harness.ROLES]
            found, stop = [], threading.Event()

            def watch():
                while not stop.is_set():
                    for entry in os.listdir("/proc"):
                        if entry.isdigit() and int(entry) != os.getpid():
                            found.extend(harness.no_trace_of(secrets, [int(entry)]))
                    time.sleep(0.02)
            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            try:
                self.assertExit(world.set_api_key(), 0)
                self.assertExit(world.cli("hsm", "test", secret=world.pin("encryption"),
                                          seconds=120), 0)
                self.assertExit(world.run_once("30s", "--json"), 0)
            finally:
                stop.set()
                watcher.join(10)
            self.assertEqual(found, [])
            for verb, schema in ((("enrolment", "list", "--all"), "enrolment-list"),
                                 (("key", "list"), "key-list"),
                                 (("secret", "status"), "secret-status"),
                                 (("hsm", "test"), "hsm-test"),
                                 (("run", "--once", "--dry-run"), "run")):
                rows = world.cli(*verb, "--json", seconds=120).lines()
                self.assertTrue(rows, verb)
                for row in rows:
                    self.assertEqual(row["schema"], "pfx-agent/%s/1" % schema)
            number = world.enrolments()[0]["enrolment"]
            shown = world.cli("enrolment", "show", str(number), "--json").lines()
            self.assertEqual(shown[0]["schema"], "pfx-agent/enrolment-show/1")
            self.assertTrue(shown[0]["history"])
            self.assertExit(world.cli("enrolment", "show", "999999"), 2, "there is no enrolment")
            status = world.cli("status")
            self.assertExit(status, 0)
            self.assertLessEqual(len(status.out.splitlines()), 26)
            for name in ("agentd", "hsm", "uploader"):
                text = world.log(name)
                for secret in secrets:
                    self.assertNotIn(secret, text)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to give the right to trace away")
    def test_nobody_looks_into_a_process(self):
        """The same user opens what a debugger would; nobody here has the right to trace anything."""
        plain = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]

        def closed(pid):
            done = subprocess.run([*plain, "head", "-c1", "/proc/%d/mem" % pid],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C"),
                                  check=False, timeout=30)
            return b"Permission denied" in done.stderr

        def is_agent(pid):
            with open("/proc/%d/comm" % pid, encoding="ascii") as stream:
                return stream.read() == "pfx-agent\n"
        world = self.make([people.user(1)])
        world.prefix = plain
        # The leak checker traces, too.
        world.environment["ASAN_OPTIONS"] = ":".join(
            o for o in (world.environment.get("ASAN_OPTIONS"), "detect_leaks=0") if o)
        with self.telling(world):
            world.ready()
            reader, writer = os.pipe()
            typing = subprocess.Popen(
                [*plain, harness.program("pfx-agent"), "secret", "set", "digicert", "--fd",
                 str(reader)], pass_fds=(reader,), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=world.environment)
            os.close(reader)
            try:
                # Before its own first steps it is setpriv, and no more closed than that.
                harness.wait_for("pfx-agent is closed", lambda: is_agent(typing.pid) and
                                 closed(typing.pid), 10)
                pids = {n: world.processes[n].pid for n in ("agentd", "hsm", "uploader")}
                pids["cli"] = typing.pid
                for name, pid in pids.items():
                    with self.subTest(process=name):
                        self.assertTrue(closed(pid))
                        with open("/proc/%d/limits" % pid, encoding="ascii") as stream:
                            self.assertRegex(stream.read(), r"Max core file size +0 +0 ")
                        with open("/proc/%d/status" % pid, encoding="ascii") as stream:
                            self.assertIn("NoNewPrivs:\t1", stream.read())
                # The test can fail: the simulator is an ordinary process.
                self.assertFalse(closed(world.processes["sim"].pid))
            finally:
                os.close(writer)
                typing.wait(30)

    def test_status_with_an_arm_away(self):
        world = self.ready([people.user(1)])
        with self.telling(world):
            world.stop("hsm")
            result = world.cli("status")
            self.assertExit(result, 3, "pfx-hsm isn't running")
            self.assertIn("pfx-agentd", result.out)
            world.stop("uploader")
            result = world.cli("status", "--json")
            self.assertTrue(json.loads(result.out)["agent"]["reachable"])
            self.assertFalse(json.loads(result.out)["hsm"]["reachable"])


if __name__ == "__main__":
    unittest.main()
