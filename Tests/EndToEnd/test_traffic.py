"""Traffic between two LANs through the tunnel, and what the wire and the counters say of it."""

import hashlib
import time

from lab.capture import Capture, count_packets, esp_key_options, tshark
from lab.topology import GW1, GW2, GW2_LAN, HOST1, HOST2, iperf3, ping
from support import TwoGatewaysTest

DO_NOT_DISCOVER = (0, 10, 0)  # IP_MTU_DISCOVER = IP_PMTUDISC_DONT: no DF, so the gateway has to fragment


class Traffic(TwoGatewaysTest):
    def test_ping_and_counters_agree(self):
        ping(self.lab.lan1, HOST2, count=2)  # neighbours are resolved
        before = self.counters()
        sent, answered = ping(self.lab.lan1, HOST2, count=20, interval=0.05)
        self.assertEqual((sent, answered), (20, 20))
        self.assertEqual(self.difference(before), (20,) * 6)

    def test_ping_back(self):
        self.assertEqual(ping(self.lab.lan2, HOST1, count=10, interval=0.05), (10, 10))

    def test_first_packet_is_answered(self):
        """The queue for unresolved next hops: nothing is lost while ARP runs."""
        for space in self.lab.spaces.values():
            space.run("ip", "neigh", "flush", "all")
        self.assertEqual(ping(self.lab.lan1, HOST2, count=1, timeout=3), (1, 1))

    def test_gateway_itself_answers_through_the_tunnel(self):
        """Host path: a packet out of the tunnel for the gateway's own LAN address, and the kernel's answer into it."""
        before = self.counters()
        self.assertEqual(ping(self.lab.lan1, GW2_LAN, count=5), (5, 5))
        self.assertGreaterEqual(min(self.difference(before)), 5)
        self.assertEqual(self.lab.metered()["inner"], 0)

    def test_every_size_arrives_unchanged(self):
        receiver = self.lab.lan2.udp_socket(HOST2, 7000)
        sender = self.lab.lan1.udp_socket(HOST1)
        self.addCleanup(receiver.close)
        self.addCleanup(sender.close)
        sender.setsockopt(*DO_NOT_DISCOVER)
        for size in list(range(32, 1473, 13)) + [1400, 1450, 1471, 1472]:
            payload = hashlib.shake_128(str(size).encode()).digest(size)
            sender.sendto(payload, (HOST2, 7000))
            self.assertEqual(receiver.recv(65536), payload, f"UDP payload of {size} bytes")

    def test_datagrams_larger_than_the_path(self):
        receiver = self.lab.lan2.udp_socket(HOST2, 7001)
        sender = self.lab.lan1.udp_socket(HOST1)
        self.addCleanup(receiver.close)
        self.addCleanup(sender.close)
        sender.setsockopt(*DO_NOT_DISCOVER)
        for size in (1473, 2000, 4000, 8000):
            payload = hashlib.shake_128(str(size).encode()).digest(size)
            sender.sendto(payload, (HOST2, 7001))
            self.assertEqual(receiver.recv(65536), payload, f"UDP payload of {size} bytes")

    def test_numbered_packets_arrive_once(self):
        receiver = self.lab.lan2.udp_socket(HOST2, 7002, timeout=1)
        sender = self.lab.lan1.udp_socket(HOST1)
        self.addCleanup(receiver.close)
        self.addCleanup(sender.close)
        seen = []
        for number in range(2000):
            sender.sendto(number.to_bytes(4, "big") + bytes(60), (HOST2, 7002))
            if number % 32 == 31:
                time.sleep(0.005)
        while len(seen) < 2000:
            try:
                seen.append(int.from_bytes(receiver.recv(100)[:4], "big"))
            except TimeoutError:
                break
        self.assertEqual(sorted(seen), list(range(2000)))

    def test_wire_shows_only_esp(self):
        marker = b"clear text! "
        folder = self.lab.folder
        with Capture(self.lab.inet, "to-gw1", folder / "only.pcap") as first, \
                Capture(self.lab.inet, "to-gw2", folder / "only2.pcap") as second:
            ping(self.lab.lan1, HOST2, count=10, size=1000, pattern=marker)
            ping(self.lab.lan2, HOST1, count=10, size=100, pattern=marker)
        for capture in (first, second):
            self.assertEqual(count_packets(capture.path, "not esp and not arp"), 0)
            self.assertGreaterEqual(count_packets(capture.path, "esp"), 40)
            self.assertNotIn(marker, capture.bytes())
        self.assertEqual(self.lab.metered()["inner"], 0)

    def test_tshark_opens_the_wire_with_good_icvs(self):
        with Capture(self.lab.inet, "to-gw1", self.lab.folder / "keys.pcap") as capture:
            ping(self.lab.lan1, HOST2, count=10)
        sa = self.lab.sa
        keys = esp_key_options(GW1, GW2, sa.spi_out, "AES-CBC [RFC3602]", sa.enckey_out,
                               "HMAC-SHA-256-128 [RFC4868]", sa.authkey_out)
        keys += esp_key_options(GW2, GW1, sa.spi_in, "AES-CBC [RFC3602]", sa.enckey_in,
                                "HMAC-SHA-256-128 [RFC4868]", sa.authkey_in)

        def count(condition):
            return len(tshark(capture.path, *keys, "-Y", condition).splitlines())
        total = count("esp")
        self.assertEqual(total, 20)
        self.assertEqual(count("esp.icv_good == 1"), total)
        self.assertEqual(count("esp.icv_bad == 1"), 0)
        self.assertEqual(count(f"icmp.type == 8 and ip.src == {HOST1} and ip.dst == {HOST2}"), 10)
        self.assertEqual(count(f"icmp.type == 0 and ip.src == {HOST2} and ip.dst == {HOST1}"), 10)
        # The IV must not repeat and is not to be guessed from the last.
        ivs = tshark(capture.path, *keys, "-T", "fields", "-e", "esp.iv").split()
        self.assertEqual(len(set(ivs)), total)

    def test_iperf3_both_ways(self):
        inner = self.lab.metered()["inner"]
        for options in ((), ("-R",)):
            report = iperf3(self.lab.lan1, self.lab.lan2, HOST2, *options, seconds=10)
            self.assertGreater(report["end"]["sum_received"]["bytes"], 10_000_000, options)
        self.assertEqual(self.lab.metered()["inner"], inner)
        out1, in2, out2, in1, wire12, wire21 = self.counters()
        self.assertLessEqual(in2, wire12)
        self.assertLessEqual(wire12, out1)
        self.assertLessEqual(in1, wire21)
        self.assertLessEqual(wire21, out2)

    def test_iperf3_both_at_once(self):
        report = iperf3(self.lab.lan1, self.lab.lan2, HOST2, "--bidir", seconds=5)
        self.assertGreater(report["end"]["sum_received"]["bytes"], 1_000_000)
        self.assertGreater(report["end"]["sum_received_bidir_reverse"]["bytes"], 1_000_000)
