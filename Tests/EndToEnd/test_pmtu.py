"""Path MTU: a small wan MTU, a small link beyond the gateway, and datagrams larger than either."""

import hashlib
import re

from lab.capture import Capture, count_packets
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST2, LAN1, LAN2, ROUTER1, ROUTER2, TwoGateways, iperf3, ping
from support import EndToEndTest

WAN_MTU = 1280
# AES-CBC with HMAC-SHA2-256-128 in a tunnel (RFC 4303, 4868): 20 IP, 8 ESP, 16 IV, 16 ICV; then whole blocks, of which
# 2 bytes are pad length and next header.
INNER_MTU = (WAN_MTU - 60) // 16 * 16 - 2
DO_NOT_DISCOVER = (0, 10, 0)  # IP_MTU_DISCOVER = IP_PMTUDISC_DONT: no DF, so the gateway has to fragment
FRAGMENTS = "ip.flags.mf == 1 or ip.frag_offset > 0"


class PMTUTest(EndToEndTest):
    settings = None
    wan_mtu = WAN_MTU

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways(settings=cls.settings, wan_mtu=cls.wan_mtu)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        cls.prepare()
        cls.lab.start_static()
        ping(cls.lab.lan1, HOST2, count=2, timeout=3)

    @classmethod
    def prepare(cls):
        """For what a class has to change in the lab before the gateways start."""

    def setUp(self):
        for space in (self.lab.lan1, self.lab.lan2):
            space.run("ip", "route", "flush", "cache")

    def reported_mtu(self):
        """The MTU in the ICMP error that a ping with DF gets, None where it got none."""
        done = self.lab.lan1.run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1472", HOST2, check=False)
        found = re.search(r"mtu ?= ?(\d+)", done.stdout + done.stderr)
        return int(found[1]) if found else None

    def check_ping(self):
        self.assertEqual(wait_for(self.reported_mtu, 10, "an ICMP error with the MTU"), INNER_MTU)
        self.setUp()
        self.assertEqual(ping(self.lab.lan1, HOST2, count=3, size=INNER_MTU - 28, dont_fragment=True), (3, 3))
        self.assertEqual(ping(self.lab.lan1, HOST2, count=2, size=INNER_MTU - 27, dont_fragment=True)[1], 0)

    def check_tcp(self):
        for options in ((), ("-R",)):
            report = iperf3(self.lab.lan1, self.lab.lan2, HOST2, *options, seconds=4)
            self.assertGreater(report["end"]["sum_received"]["bytes"], 4_000_000, options)
            intervals = [item["sum"]["bytes"] for item in report["intervals"]]
            self.assertGreater(min(intervals[1:]), 100_000, f"a stall: {intervals}")
        self.assertEqual(self.lab.metered()["inner"], 0)

    def check_datagrams(self):
        """Sends datagrams without DF; returns how many IP fragments and whole ESP packets the wire showed."""
        receiver, sender = self.lab.lan2.udp_socket(HOST2, 7001), self.lab.lan1.udp_socket()
        self.addCleanup(receiver.close)
        self.addCleanup(sender.close)
        sender.setsockopt(*DO_NOT_DISCOVER)
        with Capture(self.lab.inet, "to-gw2", self.lab.folder / "datagrams.pcap") as capture:
            for size in (1300, 2000, 8000):
                payload = hashlib.shake_128(str(size).encode()).digest(size)
                sender.sendto(payload, (HOST2, 7001))
                self.assertEqual(receiver.recv(65536), payload, f"UDP payload of {size} bytes")
        self.assertEqual(count_packets(capture.path, "frame.len > 1294"), 0, "a frame larger than the MTU")
        return count_packets(capture.path, FRAGMENTS), count_packets(capture.path, f"esp and not ({FRAGMENTS})")


class SmallWAN(PMTUTest):
    """The gateways' own wan ports have an MTU of 1280."""

    settings = {"fragments": "before"}

    def test_ping_is_told_the_right_mtu(self):
        self.check_ping()

    def test_tcp_settles(self):
        self.check_tcp()

    def test_fragments_before(self):
        """Whole ESP packets of fragments: the far host puts them together."""
        fragments, whole = self.check_datagrams()
        self.assertEqual(fragments, 0)
        self.assertGreaterEqual(whole, 11)


class FragmentsAfter(PMTUTest):
    settings = {"fragments": "after"}

    def test_ping_is_told_the_right_mtu(self):
        self.check_ping()

    def test_tcp_settles(self):
        self.check_tcp()

    def test_fragments_after(self):
        """Fragments of ESP packets: the far gateway puts them together."""
        fragments, _ = self.check_datagrams()
        self.assertGreaterEqual(fragments, 11)


class SmallLinkBeyond(PMTUTest):
    """The ports have 1500, a link of the internet 1280: its router cuts what may be cut."""

    wan_mtu = 1500

    @classmethod
    def prepare(cls):
        super().prepare()
        # By route: a veth of 1280 would drop what is larger and say nothing.
        for interface, network, router in (("to-gw1", "202.245.63.0/24", ROUTER1),
                                           ("to-gw2", "200.69.110.0/24", ROUTER2)):
            cls.lab.inet.run("ip", "route", "replace", network, "dev", interface, "src", router, "proto", "kernel",
                             "scope", "link", "mtu", "lock", WAN_MTU)

    def test_datagrams_cross(self):
        """Fragments of ESP packets, made on the way: the far gateway puts them together."""
        fragments, _ = self.check_datagrams()
        self.assertGreaterEqual(fragments, 8)

    def test_tcp_settles(self):
        """The router's ICMP lowers the SA's path MTU, and the senders inside are told of theirs. Last: it leaves that MTU."""
        self.check_tcp()

    def test_zz_ping_is_told_the_inner_mtu(self):
        self.check_ping()
