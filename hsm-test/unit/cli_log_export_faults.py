"""log export of a log that lacks something, on a disk without room, killed, and under a live writer:
never half an export that looks whole."""

import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
import unittest

from cli_log_rig import LONG, Export, LogCase, PROGRAM, Screen, log_make, verify_note


class Lacking(LogCase):
    """Parts that aren't there any more, or aren't what was signed."""

    def test_retention_leaves_hashes(self):
        log = self.log(2000, segment=512)
        log.drop(1024)
        export, result = self.export(log)
        self.assertEqual(export.first, 1024)
        self.assertEqual(export.entries, [None] * 1024 + log.entries[1024:])
        self.assertIn("entries before 1024", result.out)

    def test_retention_after_an_export_keeps_what_was_exported(self):
        log = self.log(1100, segment=512)
        self.export(log)
        log.fill(2000)
        log.cover()
        log.drop(1536)
        export, _ = self.export(log)
        self.assertEqual(export.first, 0)
        self.assertEqual([i for i, e in enumerate(export.entries) if not e],
                         list(range(1024, 1536)), "bundle 4 was partial and is gone on the host")

    def test_a_damaged_entry_is_left_out_with_its_bundle(self):
        log = self.log(1000)
        with open(self.path("log", "entries", "%020d" % 0), "r+b") as stream:
            data = stream.read()
            at = data.index(b'"seq":300,')
            stream.seek(at)
            stream.write(b'"seq":309,')
        export, result = self.export(log, code=6)
        self.assertIn("256 entries, the first from entry 256", result.err)
        self.assertEqual(export.entries[:256], log.entries[:256])
        self.assertEqual(export.entries[256:512], [None] * 256)
        self.assertEqual(export.entries[512:], log.entries[512:])

    def test_a_damaged_first_bundle(self):
        log = self.log(600)
        with open(self.path("log", "entries", "%020d" % 0), "r+b") as stream:
            at = stream.read().index(b'"seq":10,')
            stream.seek(at)
            stream.write(b'"seq":11,')
        export, _ = self.export(log, code=6)
        self.assertEqual(export.first, 256)

    def test_a_rewritten_entry_is_left_out_too(self):
        """Canonical, with the right number, but not what the tree has."""
        log = self.log(1000)
        with open(self.path("log", "entries", "%020d" % 0), "r+b") as stream:
            data = stream.read()
            seq = next(i for i in range(512, 768) if b'"outcome":"ok"' in log.entries[i])
            at = data.index(log.entries[seq])
            stream.seek(at)
            stream.write(log.entries[seq].replace(b'"up":%d000' % seq, b'"up":%d001' % seq))
        export, result = self.export(log, code=6)
        self.assertIn("the first from entry 512", result.err)
        self.assertEqual(export.entries[512:768], [None] * 256)

    def test_a_rewritten_end_gives_no_export(self):
        """Where no tile has the hash, the checkpoint's root has the last word."""
        log = self.log(1000)
        with open(self.path("log", "entries", "%020d" % 0), "r+b") as stream:
            data = stream.read()
            at = data.index(log.entries[999])
            stream.seek(at)
            stream.write(log.entries[999].replace(b'"up":999000', b'"up":999001'))
        result = self.cli("export", self.path("export"), code=6)
        self.assertIn("don't give the root", result.err)
        self.assertFalse(os.path.exists(self.path("export", "checkpoint")))

    def test_a_wrong_tile_gives_no_export(self):
        log = self.log(2000, segment=512)
        log.drop(1024)
        path = self.path("log", "tile/0/001")
        with open(path, "r+b") as stream:
            stream.write(b"\0" * 32)
        self.assertIn("root", self.cli("export", self.path("export"), code=6).err)
        self.assertFalse(os.path.exists(self.path("export", "checkpoint")))

    def test_missing_tiles_are_made_from_entries(self):
        log = self.log(1000)
        shutil.rmtree(self.path("log", "tile"))
        export, _ = self.export(log)
        self.assertEqual(export.entries, log.entries)

    def test_no_checkpoint_no_log_no_folder(self):
        self.assertIn(self.log_dir, self.cli("export", self.path("x"), code=2).err)
        os.mkdir(self.log_dir)
        self.cli("export", self.path("x"), code=2)
        shutil.rmtree(self.log_dir)
        self.log(3, covered=False)
        self.assertIn("no signed checkpoint", self.cli("export", self.path("x"), code=5).err)
        self.assertFalse(os.path.exists(self.path("x")))


class Breaking(LogCase):
    """While pfx-hsm writes, when it is killed, when there is no room."""

    def test_under_a_live_writer(self):
        log = self.log(200, segment=256)
        stop = threading.Event()

        def write():
            rng = random.Random(4)
            while not stop.is_set():
                log.fill(log.size + rng.randrange(1, 40))
                if rng.random() < 0.7:
                    log.cover(milestone=rng.random() < 0.3)
                    if rng.random() < 0.5:
                        log.anchor()
                    if rng.random() < 0.1:
                        log.drop(log.covered - 3000)
                time.sleep(0.005)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            last = 0
            for turn in range(24 if LONG else 6):
                export, _ = self.export(log, "live" if turn % 2 else "live%d" % turn)
                for entry, real in zip(export.entries, log.entries):
                    self.assertIn(entry, (real, None))
                self.assertIsNotNone(export.entries[-1])
                self.assertEqual(export.tail, log.entries[export.size:export.size + len(export.tail)])
                self.assertGreaterEqual(export.size, last)
                last = export.size
        finally:
            stop.set()
            writer.join()
        self.assertGreater(last, 200)

    def no_room(self, limit):
        """A file longer than the limit can't be written: the disk is full in the middle of it."""
        def less():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return self.cli("export", self.path("export"), code=None, preexec_fn=less)

    def test_no_room(self):
        log = self.log(1000)
        for limit in (0, 100, 8000, 8192, 20000, 100000):
            with self.subTest(limit=limit):
                result = self.no_room(limit)
                self.assertNotEqual(result.code, 0, repr(result))
                self.assertIn("EFBIG", result.err)
                self.assertIn("say log export again", result.err)
                self.assertFalse(os.path.exists(self.path("export", "checkpoint")))
                self.assertEqual([n for n in self.files() if n.endswith(".new")], [])
        export, _ = self.export(log)
        self.assertEqual(export.entries, log.entries)
        export.only_expected()

    def test_no_room_for_more(self):
        log = self.log(1000)
        self.export(log)
        log.fill(1500)
        log.cover()
        log.anchor()
        log.fill(1600)
        for limit in (0, 300, 8192, 20000):
            with self.subTest(limit=limit):
                self.assertNotEqual(self.no_room(limit).code, 0)
                export = Export(self.path("export"), self.lines(log))
                self.assertEqual(export.size, 1000, "the earlier export stays whole")
        export, _ = self.export(log)
        self.assertEqual(export.size, 1500)
        self.assertEqual(len(export.tail), 100)
        export.only_expected()

    def test_no_room_for_the_tail(self):
        log = self.log(1024)
        self.export(log)
        log.fill(1200)
        self.assertNotEqual(self.no_room(20000).code, 0)
        self.assertEqual([n for n in self.files() if n.endswith(".new")], [])
        self.assertEqual(Export(self.path("export"), self.lines(log)).tail, [])

    def test_broken_off_between_two_names(self):
        """The new checkpoint is there, what comes after it isn't: no tail of the earlier size."""
        log = self.log(300)
        log.fill(305)
        self.export(log)
        log.cover()
        log.anchor()
        os.makedirs(self.path("export", "anchor.json", "in-the-way"))
        self.assertNotEqual(self.cli("export", self.path("export"), code=None).code, 0)
        self.assertFalse(os.path.exists(self.path("export", "tail")))
        shutil.rmtree(self.path("export", "anchor.json"))
        with open(self.path("export", "checkpoint"), "rb") as stream:
            self.assertEqual(verify_note(stream.read(), self.lines(log))[1], 305)
        export, _ = self.export(log)
        self.assertEqual((export.size, export.tail), (305, []))
        export.only_expected()

    def files(self):
        return [os.path.join(folder, f) for folder, _, files in os.walk(self.path("export"))
                for f in files]

    def test_killed(self):
        """At any moment: the folder has no checkpoint, or what it covers is all there."""
        log = self.log(6000)
        whole = 0
        rng = random.Random(7)
        for turn in range(24):
            program = subprocess.Popen([PROGRAM, "log", "export", self.path("export")],
                                       env=self.environment, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.0, 0.05))
            program.kill()
            program.wait()
            if os.path.exists(self.path("export", "checkpoint")):
                export = Export(self.path("export"), self.lines(log))
                self.assertEqual(export.entries, log.entries[:export.size])
                whole += 1
                if rng.random() < 0.5:
                    shutil.rmtree(self.path("export"))
                else:
                    log.fill(log.size + 700)
                    log.cover()
        export, _ = self.export(log)
        self.assertEqual(export.entries, log.entries)
        export.only_expected()

    def test_what_broke_off_leaves_nothing_behind(self):
        """Partial tiles of a size that never became an export, and halves of files."""
        log = self.log(700)
        self.export(log)
        log.fill(800)
        log.cover()
        self.cli("export", self.path("other"))
        for name in ("tile/0/003.p/32", "tile/entries/003.p/32", "tile/1/000.p/3"):
            os.makedirs(os.path.dirname(self.path("export", name)), exist_ok=True)
            shutil.copy(self.path("other", name), self.path("export", name))
            shutil.copy(self.path("other", name), self.path("export", name + ".new"))
        log.fill(1100)
        log.cover()
        export, _ = self.export(log)
        export.only_expected()

    def test_two_at_once(self):
        log = self.log(10)
        self.export(log)
        fd = os.open(self.path("export"), os.O_RDONLY)
        self.addCleanup(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_SH)
        self.assertIn("another export is being written", self.cli(
            "export", self.path("export"), code=5).err)

    def test_progress_on_a_terminal_only(self):
        self.log(3000)
        screen = Screen(self, 100, "export", self.path("export"))
        self.assertEqual(screen.end(), 0)
        self.assertIn(b"3000/3000", screen.output)
        self.assertNotIn("3000/3000", self.cli("export", self.path("other")).err)


class Oracle(LogCase):
    """That the reading of these tests fails where it must."""

    def test_it_can_fail(self):
        log = self.log(600)
        self.export(log)
        lines = self.lines(log)
        for name, at in (("tile/0/000", 40), ("tile/0/002.p/88", 0), ("tile/1/000.p/2", 33),
                         ("tile/entries/001", 900), ("checkpoint", 30), ("export.json", 9)):
            with self.subTest(name):
                path = self.path("export", name)
                with open(path, "rb") as stream:
                    data = stream.read()
                with open(path, "wb") as stream:
                    stream.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
                with self.assertRaises(Exception):
                    Export(self.path("export"), lines)
                with open(path, "wb") as stream:
                    stream.write(data)
        Export(self.path("export"), lines)
        with self.assertRaises(Exception):
            verify_note(log.checkpoints[600], [log_make.Key(log.origin).line])


if __name__ == "__main__":
    unittest.main()
