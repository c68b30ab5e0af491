"""IPv4 forwarding as a router does it: TTL, ICMP errors, checksums, unreachable places."""

import socket

from lab.topology import GW1_LAN, HOST1, HOST2, ping
from support import TwoGatewaysTest

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw


class Forwarding(TwoGatewaysTest):
    def setUp(self):
        ping(self.lab.lan1, HOST2, count=1, timeout=3)
        self.wire = self.lab.lan1.packet_socket("eth0", timeout=3)
        self.addCleanup(self.wire.close)
        neighbors = self.lab.lan1.run("ip", "neigh", "show", GW1_LAN).stdout.split()
        self.gateway_mac = neighbors[neighbors.index("lladdr") + 1]
        self.own_mac = self.lab.lan1.mac("eth0")

    def send(self, packet):
        self.wire.send(bytes(Ether(src=self.own_mac, dst=self.gateway_mac, type=0x0800) / packet))

    def answer(self, accept):
        """The first frame from the gateway that accept() takes, as an IP packet; None after 3 s without a frame."""
        for _ in range(200):
            try:
                frame, address = self.wire.recvfrom(65536)
            except TimeoutError:
                return None
            if address[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00":
                continue
            packet = IP(frame[14:])
            if accept(packet):
                return packet
        return None

    def icmp_error(self, original, kind, code):
        """Sends a packet and returns the ICMP error of this type and code that quotes it."""
        self.send(original)
        quoted = bytes(original)
        found = self.answer(lambda p: ICMP in p and (p[ICMP].type, p[ICMP].code) == (kind, code))
        self.assertIsNotNone(found, f"no ICMP type {kind} code {code}")
        body = bytes(found[ICMP])[8:]
        self.assertEqual(body[12:20], quoted[12:20], "the quoted addresses")
        self.assertEqual(body[20:28], quoted[20:28], "the quoted first 8 bytes of payload")
        self.check_checksums(found)
        return found

    def check_checksums(self, packet):
        fresh = packet.copy()
        del fresh[IP].chksum
        for layer in (ICMP, UDP):
            if layer in fresh:
                del fresh[layer].chksum
        self.assertEqual(bytes(IP(bytes(fresh))), bytes(packet)[:len(bytes(fresh))], "checksums")

    def probe(self, destination=HOST2, ttl=64, size=40, **fields):
        return IP(src=HOST1, dst=destination, ttl=ttl, id=4660, **fields) / UDP(sport=33000, dport=33434) / Raw(
            bytes(size))

    def test_ttl_1_ends_at_the_first_gateway(self):
        error = self.icmp_error(self.probe(ttl=1), 11, 0)
        self.assertEqual(error.src, GW1_LAN)

    def test_ttl_2_ends_at_the_far_gateway(self):
        """The tunnel is one hop; the far gateway's error comes back through it."""
        before = self.lab.metered()["inner"]
        self.icmp_error(self.probe(ttl=2), 11, 0)
        self.assertEqual(self.lab.metered()["inner"], before)

    def test_ttl_goes_down_by_one_a_gateway(self):
        far = self.lab.lan2.packet_socket("eth0", timeout=3)
        self.addCleanup(far.close)
        self.send(self.probe(ttl=17))
        for _ in range(50):
            packet = Ether(far.recv(65536))
            if UDP in packet and packet[UDP].dport == 33434:
                break
        self.assertEqual(packet[IP].ttl, 15)
        self.check_checksums(packet[IP])

    def test_too_big_with_df(self):
        error = self.icmp_error(self.probe(size=1472, flags="DF"), 3, 4)
        mtu = error[ICMP].nexthopmtu
        self.assertGreaterEqual(mtu, 1400)
        self.assertLess(mtu, 1500)
        # What it says is true: that size crosses, one byte more does not.
        self.assertEqual(ping(self.lab.lan1, HOST2, count=2, size=mtu - 28, dont_fragment=True), (2, 2))
        self.icmp_error(self.probe(size=mtu - 28 + 1, flags="DF"), 3, 4)

    def test_no_route(self):
        error = self.icmp_error(self.probe(destination="198.51.100.9"), 3, 0)
        self.assertEqual(error.src, GW1_LAN)

    def test_host_that_does_not_answer_arp(self):
        self.wire.settimeout(10)  # the kernel asks three times, a second apart, before it gives up
        self.send(self.probe(destination="172.20.1.77"))
        error = self.answer(lambda p: ICMP in p and (p[ICMP].type, p[ICMP].code) == (3, 1))
        self.assertIsNotNone(error, "no ICMP host unreachable")

    def test_errors_are_rate_limited(self):
        for _ in range(3000):
            self.send(self.probe(ttl=1))
        self.wire.settimeout(1)
        answers = 0
        while self.answer(lambda p: ICMP in p and p[ICMP].type == 11):
            answers += 1
        self.assertGreater(answers, 0)
        self.assertLess(answers, 1500)

    def test_malformed_headers_are_dropped_and_counted(self):
        good = bytes(self.probe())
        cases = {
            "bad checksum": good[:10] + bytes([good[10] ^ 1]) + good[11:],
            "version 5": bytes([0x55]) + good[1:],
            "IHL 4": bytes([0x44]) + good[1:],
            "IHL beyond the packet": bytes([0x4F]) + good[1:20],
            "total length beyond the frame": good[:2] + b"\xff\xff" + good[4:],
            "total length below the header": good[:2] + b"\x00\x08" + good[4:],
            "source 127.0.0.1": bytes(IP(src="127.0.0.1", dst=HOST2) / UDP()),
            "source 0.0.0.0": bytes(IP(src="0.0.0.0", dst=HOST2) / UDP()),
            "source broadcast": bytes(IP(src="255.255.255.255", dst=HOST2) / UDP()),
            "source multicast": bytes(IP(src="224.0.0.5", dst=HOST2) / UDP()),
            "destination 127.0.0.1": bytes(IP(src=HOST1, dst="127.0.0.1") / UDP()),
            "destination class E": bytes(IP(src=HOST1, dst="240.1.1.1") / UDP()),
        }
        for name, packet in cases.items():
            with self.subTest(name):
                before = sum(self.lab.gw1.drops().values())
                for _ in range(3):
                    self.send(Raw(packet))
                self.lab.gw1.wait_counter(lambda: sum(self.lab.gw1.drops().values()), before + 3)
        self.assertEqual(ping(self.lab.lan1, HOST2, count=3), (3, 3))

    def test_traceroute_sees_both_gateways(self):
        hops = []
        for ttl in (1, 2, 3):
            done = self.lab.lan1.run("ping", "-n", "-c", "1", "-W", "2", "-t", str(ttl), HOST2, check=False)
            hops.append(done.stdout)
        self.assertIn(GW1_LAN, hops[0])
        self.assertIn("Time to live exceeded", hops[1])
        self.assertIn(f"bytes from {HOST2}", hops[2])
