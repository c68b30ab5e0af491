"""Lifetimes end to end: soft and hard, by packets, bytes, time since add and since first use, outbound and inbound. Each limit
is an event, and a hard-expired SA carries nothing. See test_differential for the drawing."""

import itertools
import os
import random
import subprocess

from lab.gateway import program
from lab.namespace import stop_process, wait_for
from support import EndToEndTest, wait_for_xfrm_monitor
from test_differential import ENDS, HOSTS, SHA256, Cell, Direction, ScapyLab, Transform

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

NULL = Transform("null sha2-256", "NULL", 0, "ecb(cipher_null)", SHA256)
# Of the inner packets that are sent here: headers and payload.
PAYLOAD = 172
INNER = 20 + 8 + PAYLOAD


class Lifetimes(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab()
        cls.addClassCleanup(cls.lab.close)
        cls.log = cls.lab.folder / "monitor"
        with open(cls.log, "wb") as output:
            monitor = subprocess.Popen([program("gwctl"), "--run-dir", cls.lab.gw.run_dir, "monitor"], stdout=output,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        cls.addClassCleanup(stop_process, monitor)
        cls.requests = itertools.count(1)
        # The monitor listens when it shows a change.
        cls.noise = random.Random(2)

        def is_heard():
            # A flush of nothing is not announced.
            cls.lab.xfrm(["policy", "add", "src", "192.0.2.1/32", "dst", "192.0.2.2/32", "dir", "out", "action", "block"],
                         ["policy", "flush"], ["state", "flush"])
            return cls.log.stat().st_size > 0
        wait_for(is_heard, 10, "the monitor")

    def load(self, *limits):
        """A fresh pair of SAs with `limit` words of `ip xfrm state add`."""
        request, (ours, theirs) = next(self.requests), ENDS[4]
        cell = Cell(NULL)
        self.away = Direction(cell, 0x30000 + request * 2, ours, theirs, self.noise)
        self.home = Direction(cell, 0x30001 + request * 2, theirs, ours, self.noise)
        self.numbers = itertools.count(1)
        words = [word for name, value in limits for word in ("limit", name, str(value))]
        self.lab.install(self.away, self.home, request, words)

    def events(self, direction):
        """What the monitor has shown of an SA's limits."""
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if f"0x{direction.spi:08x}" in line and "SA expired" in line:
                found.append("hard" if "(hard)" in line else "soft")
        return found

    def wait_events(self, direction, *expected, timeout=30):
        wait_for(lambda: self.events(direction) == list(expected), timeout,
                 f"events {expected}, not {self.events(direction)}")

    def send_out(self):
        near, far = HOSTS[4]
        self.lab.send("lan", IP(src=near, dst=far) / UDP(sport=9, dport=9) / Raw(bytes(PAYLOAD)))

    def send_in(self):
        near, far = HOSTS[4]
        plain = IP(bytes(IP(src=far, dst=near) / UDP(sport=9, dport=9) / Raw(bytes(PAYLOAD))))
        self.lab.send("wan", self.home.seal(plain, next(self.numbers)))

    def assert_crosses(self, end, send, count):
        for _ in range(count):
            send()
            self.lab.receive(end)

    def assert_carries_nothing(self, send, *reasons):
        """Three more packets fall, under these names."""
        def dropped():
            drops = self.lab.gw.drops()
            return sum(drops.get(reason, 0) for reason in reasons)
        before = dropped()
        for _ in range(3):
            send()
        wait_for(lambda: dropped() == before + 3, 8, f"three packets under {reasons}; {self.lab.gw.drops()}")

    def both_ways(self, check):
        for direction, end, send, reasons in (("away", "wan", self.send_out, ("policy_no_sa", "sa_stopped")),
                                              ("home", "lan", self.send_in, ("no_sa", "sa_stopped"))):
            with self.subTest(direction=direction):
                check(direction, end, send, reasons)

    def test_packets(self):
        def check(direction, end, send, reasons):
            self.load(("packet-soft", 4), ("packet-hard", 10))
            sa = getattr(self, direction)
            self.assert_crosses(end, send, 3)
            self.assertEqual(self.events(sa), [])
            self.assert_crosses(end, send, 1)
            self.wait_events(sa, "soft")
            self.assert_crosses(end, send, 6)
            self.wait_events(sa, "soft", "hard")
            self.assertIsNone(self.lab.gw.sa(sa.spi))
            self.assert_carries_nothing(send, *reasons)
        self.both_ways(check)

    def test_bytes(self):
        def check(direction, end, send, reasons):
            self.load(("byte-soft", 4 * INNER), ("byte-hard", 10 * INNER))
            sa = getattr(self, direction)
            self.assert_crosses(end, send, 3)
            self.assertEqual(self.events(sa), [])
            # What an SA counts of a packet is its payload at the least and the outer packet at the most.
            self.assert_crosses(end, send, 1)
            self.wait_events(sa, "soft")
            sent = 4
            while self.lab.gw.sa(sa.spi) and sent < 12:
                send()
                sent += 1
            self.wait_events(sa, "soft", "hard")
            self.assert_carries_nothing(send, *reasons)
        self.both_ways(check)

    def test_time_since_add(self):
        self.load(("time-soft", 2), ("time-hard", 10))
        self.assert_crosses("wan", self.send_out, 1)
        for sa in (self.away, self.home):
            self.wait_events(sa, "soft")
        self.assert_crosses("wan", self.send_out, 1)
        self.assert_crosses("lan", self.send_in, 1)
        for sa in (self.away, self.home):
            self.wait_events(sa, "soft", "hard")
        self.assert_carries_nothing(self.send_out, "policy_no_sa", "sa_stopped")
        self.assert_carries_nothing(self.send_in, "no_sa", "sa_stopped")

    def test_time_since_first_use(self):
        """The clock of the one that is used runs; the other's does not begin."""
        self.load(("time-use-soft", 2), ("time-use-hard", 10))
        self.assert_crosses("wan", self.send_out, 1)
        self.wait_events(self.away, "soft")
        self.assert_crosses("wan", self.send_out, 1)
        self.wait_events(self.away, "soft", "hard")
        self.assert_carries_nothing(self.send_out, "policy_no_sa", "sa_stopped")
        self.assertEqual(self.events(self.home), [])
        self.assert_crosses("lan", self.send_in, 1)

    def test_key_daemons_are_told(self):
        """EXPIRE over NETLINK_XFRM, as a key daemon is told: soft first, then hard."""
        shim = os.path.join(os.path.dirname(program("gwd")), "libikeshim.so")
        path = self.lab.folder / "xfrm-monitor"
        with open(path, "wb") as output:
            monitor = subprocess.Popen(["stdbuf", "-oL", "ip", "xfrm", "monitor", "expire", "policy"], stdout=output,
                                       stderr=subprocess.STDOUT,
                                       env=dict(os.environ, LD_PRELOAD=shim, GW_RUN_DIR=str(self.lab.gw.run_dir)))
        try:
            wait_for_xfrm_monitor(lambda words: self.lab.xfrm([words]), path.read_text)
            self.load(("packet-soft", 2), ("packet-hard", 4))
            self.assert_crosses("wan", self.send_out, 2)
            self.wait_events(self.away, "soft")
            self.assert_crosses("wan", self.send_out, 2)
            self.wait_events(self.away, "soft", "hard")
            wait_for(lambda: path.read_text().count("expire") >= 2 or path.read_text().count("Expired") >= 2, 10,
                     "EXPIRE twice")
        finally:
            stop_process(monitor)
