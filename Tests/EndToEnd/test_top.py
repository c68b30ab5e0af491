"""gwctl top on a terminal of its own, on a dumb one, and into a file."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from lab.gateway import program
from lab.namespace import run
from lab.topology import HOST2, ping
from support import TwoGatewaysTest
from test_ike import NAME1

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A pseudo-terminal with gwctl top on it."""

    def __init__(self, gateway, *arguments, term="xterm", columns=120, rows=24):
        self.master, slave = pty.openpty()
        self.resize(columns, rows, notify=False)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        environment = {**os.environ, "TERM": term, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [program("gwctl"), "top", "--run-dir", gateway.run_dir, *arguments], stdin=slave, stdout=slave, stderr=slave,
            env=environment, start_new_session=True)
        self.said = ""

    def resize(self, columns, rows, notify=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if notify:
            self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds=0.1):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.said += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    return

    def wait(self, pattern, timeout=15):
        """Until what is said from now on has it; what was said in that time."""
        self.said = ""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.said):
            if time.monotonic() > end:
                raise AssertionError(f"{pattern} is not on the screen:\n{self.said}")
            self.read()
        return self.said

    def type(self, text):
        os.write(self.master, text.encode())

    def frames(self):
        """Pages that were drawn whole, as lines without control codes."""
        pages = self.said.split("\x1b[H")[1:]
        return [[CONTROL.sub("", line) for line in page.split("\r\n")] for page in pages if page.endswith("\x1b[J")]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class TopTest(TwoGatewaysTest):
    """Four tunnels with static keys."""

    def top(self, *arguments, **options):
        screen = Screen(self.lab.gw1, *arguments, **options)
        self.addCleanup(screen.close)
        return screen

    def test_full_screen(self):
        screen = self.top()
        first = screen.wait(re.escape(NAME1))
        self.assertIn("\x1b[?1049h", first, "the other screen of the terminal")
        ping(self.lab.lan1, HOST2, count=20, interval=0.1)
        said = screen.wait(r"drops [0-9]+/s", 5)
        self.assertNotIn("\x1b[2J", said, "what stands there is overwritten, not wiped")
        screen.read(2.5)
        frames = screen.frames()
        self.assertGreaterEqual(len(frames), 2, "redrawn again and again")
        last = frames[-1]
        self.assertRegex(last[0], r"^gwd .*, up .*; 4 tunnels: 4 static")
        self.assertRegex(last[1], r"^in .*bit/s .*packets/s, out .*bit/s .*packets/s, drops ")
        self.assertRegex(last[2], r"^workers busy 0: ")
        self.assertEqual(last[3].split(",")[0], "sorted by rate")
        self.assertTrue(last[5].startswith(NAME1), "the busiest first")
        self.assertRegex(last[5], "[▁▂▃▄▅▆▇█]")
        self.assertTrue(all(len(line) <= 120 for line in last))

        screen.type("n")
        screen.wait("sorted by name")
        screen.type("/200.69")
        screen.wait("filter: 200.69_")
        screen.type("\r")
        screen.wait("filter 200.69")
        screen.type("\x1b")
        screen.wait(r"sorted by name\x1b")
        screen.resize(60, 8)
        screen.read(2)
        narrow = screen.frames()[-1]
        self.assertTrue(all(len(line) <= 60 for line in narrow), narrow)
        self.assertLessEqual(len(narrow), 8)
        screen.type("q")
        self.assertEqual(screen.process.wait(10), 0)
        screen.read(0.2)
        self.assertTrue(screen.said.endswith("\x1b[?25h\x1b[?1049l"), "the terminal is as it was")
        self.assertEqual(termios.tcgetattr(screen.slave), screen.before)

    def test_signals_leave_the_terminal_as_it_was(self):
        for name in (signal.SIGTERM, signal.SIGHUP):
            screen = self.top()
            screen.wait(re.escape(NAME1))
            screen.process.send_signal(name)
            screen.process.wait(10)
            screen.read(0.2)
            self.assertTrue(screen.said.endswith("\x1b[?25h\x1b[?1049l"), name)
            self.assertEqual(termios.tcgetattr(screen.slave), screen.before)

    def test_control_c_ends(self):
        screen = self.top()
        screen.wait(re.escape(NAME1))
        screen.type("\x03")
        self.assertEqual(screen.process.wait(10), 0)

    def test_dumb_terminal(self):
        screen = self.top("-n", "2", "--interval", "0.5", term="dumb")
        self.assertEqual(screen.process.wait(15), 0)
        screen.read(0.3)
        self.assertNotIn("\x1b", screen.said)
        self.assertEqual(screen.said.count("TUNNEL"), 2)

    def test_into_a_file(self):
        words = [program("gwctl"), "top", "--run-dir", self.lab.gw1.run_dir]
        once = run(*words, "--once").stdout
        self.assertNotIn("\x1b", once)
        self.assertIn(NAME1, once)
        looks = [json.loads(line) for line in run(*words, "--json", "-n", 2, "--interval", 0.3).stdout.splitlines()]
        self.assertEqual(len(looks), 2)
        self.assertEqual(looks[0]["tunnel_counts"]["static"], 4)
        self.assertEqual(len(looks[0]["tunnels"]), 4)
        self.assertEqual(run(*words, "--interval", "0", check=False).returncode, 64)

    def test_named_states_and_filter(self):
        words = [program("gwctl"), "top", "--run-dir", self.lab.gw1.run_dir, "--once"]
        self.assertNotIn(NAME1, run(*words, "--state", "down").stdout)
        self.assertIn(NAME1, run(*words, "--filter", "192.168.60.0/24-to-172").stdout)



if __name__ == "__main__":
    unittest.main()
