"""IPv6 whole: neighbour discovery over the host path, hop limit, ICMPv6 errors, extension headers, path MTU; 6-in-6,
6-in-4 and 4-in-6 tunnels with ping, UDP larger than the path, and TCP; both fragmentation modes."""

import hashlib
import re
import socket

from lab.gateway import StaticSA
from lab.namespace import wait_for
from lab.topology import (GW1, GW1_LAN_V6, GW1_V6, GW2, GW2_V6, HOST1, HOST1_V6, HOST2, HOST2_V6, LAN1, LAN1_V6, LAN2,
                          LAN2_V6, SPI_1TO2, SPI_2TO1, TwoGateways, iperf3, ping)
from support import EndToEndTest

from scapy.layers.inet import UDP
from scapy.layers.inet6 import (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt,
                                IPv6ExtHdrHopByHop, PadN)
from scapy.layers.l2 import Ether
from scapy.packet import Raw


class IPv6Test(EndToEndTest):
    settings = None
    # inner and outer family of the tunnel
    tunnel = (6, 6)

    @classmethod
    def setUpClass(cls):
        cls.lab = lab = TwoGateways(settings=cls.settings, ipv6=True)
        cls.addClassCleanup(lab.close)
        cls.prepare()
        lab.meter()
        inner, outer = cls.tunnel
        # The gateways' own addresses too: their ICMP errors come from these.
        near, far = (f"{{ {lan}, {gateway} }}" for lan, gateway in (
            ((LAN1, GW1), (LAN2, GW2)) if inner == 4 else ((LAN1_V6, GW1_V6), (LAN2_V6, GW2_V6))))
        ours, theirs = (GW1, GW2) if outer == 4 else (GW1_V6, GW2_V6)
        cls.target = HOST2 if inner == 4 else HOST2_V6
        cls.sa = StaticSA(ours, theirs, SPI_1TO2, SPI_2TO1)
        lab.gw1.write_ipsec([f"flow esp from {near} to {far} peer {theirs}\n"], [cls.sa])
        lab.gw2.write_ipsec([f"flow esp from {far} to {near} peer {ours}\n"], [cls.sa.reversed()])
        lab.gw1.start(wait=False)
        lab.gw2.start(wait=False)
        lab.gw1.wait_ready()
        lab.gw2.wait_ready()
        wait_for(lambda: ping(lab.lan1, cls.target, count=1)[1], 30, "a first answer through the tunnel")

    @classmethod
    def prepare(cls):
        """For what a class has to change in the lab before the gateways start."""

    def wire(self):
        return self.lab.metered("ip" if self.tunnel[1] == 4 else "ip6")

    def reported_mtu(self):
        """The MTU that a ping of 1500 bytes is told of, None where it is told nothing."""
        size = 1472 if self.tunnel[0] == 4 else 1452
        done = self.lab.lan1.run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", size, self.target, check=False)
        found = re.search(r"mtu ?= ?(\d+)", done.stdout + done.stderr)
        return int(found[1]) if found else None

    def send_datagrams(self, sizes=(0, 1300, 8000)):
        inner = self.tunnel[0]
        local, remote = (HOST1, HOST2) if inner == 4 else (HOST1_V6, HOST2_V6)
        receiver, sender = self.lab.lan2.udp_socket(remote, 7001), self.lab.lan1.udp_socket(local)
        self.addCleanup(receiver.close)
        self.addCleanup(sender.close)
        if inner == 4:
            sender.setsockopt(0, 10, 0)  # IP_MTU_DISCOVER = IP_PMTUDISC_DONT
        for size in sizes:
            payload = hashlib.shake_128(str(size).encode()).digest(size)

            def crosses():
                sender.sendto(payload, (remote, 7001))
                try:
                    return receiver.recv(65536) == payload or None
                except TimeoutError:
                    return None
            # The first large one may be lost: it is how the sender learns of the path's MTU.
            wait_for(lambda: crosses() is not None, 20, f"UDP payload of {size} bytes")


class TunnelMixin:
    def test_ping(self):
        key = "esp_1to2"
        before = self.wire()[key]
        self.assertEqual(ping(self.lab.lan1, self.target, count=5, timeout=3), (5, 5))
        self.assertGreaterEqual(self.wire()[key] - before, 5)

    def test_nothing_in_clear(self):
        for family in ("ip", "ip6"):
            self.assertEqual(self.lab.metered(family)["inner"], 0)

    def test_path_mtu(self):
        for space in (self.lab.lan1, self.lab.lan2):
            space.run("ip", "-6", "route", "flush", "cache")
            space.run("ip", "-4", "route", "flush", "cache")
        mtu = wait_for(self.reported_mtu, 10, "an ICMP error with the MTU")
        headers = 28 if self.tunnel[0] == 4 else 48
        # 1500 less the outer header, ESP, the IV, the ICV; whole blocks, two bytes of which are the trailer.
        outer = 20 if self.tunnel[1] == 4 else 40
        self.assertEqual(mtu, (1500 - outer - 8 - 16 - 16) // 16 * 16 - 2)
        self.assertEqual(ping(self.lab.lan1, self.target, count=2, timeout=3, size=mtu - headers, dont_fragment=True), (2, 2))
        self.assertEqual(ping(self.lab.lan1, self.target, count=1, size=mtu - headers + 1, dont_fragment=True)[1], 0)

    def test_datagrams(self):
        self.send_datagrams()

    def test_tcp(self):
        for options in ((), ("-R",)):
            report = iperf3(self.lab.lan1, self.lab.lan2, self.target, *options, seconds=2)
            self.assertGreater(report["end"]["sum_received"]["bytes"], 1_000_000, options)


class SixInSix(TunnelMixin, IPv6Test):
    tunnel = (6, 6)

    def setUp(self):
        ping(self.lab.lan1, HOST2_V6, count=1, timeout=3)
        self.wire_socket = self.lab.lan1.packet_socket("eth0", timeout=3)
        self.addCleanup(self.wire_socket.close)
        words = self.lab.lan1.run("ip", "-6", "neigh", "show", GW1_LAN_V6).stdout.split()
        self.gateway_mac = words[words.index("lladdr") + 1]

    def send(self, packet):
        frame = Ether(src=self.lab.lan1.mac("eth0"), dst=self.gateway_mac, type=0x86DD) / packet
        self.wire_socket.send(bytes(frame))

    def answer(self, accept):
        for _ in range(200):
            try:
                frame, address = self.wire_socket.recvfrom(65536)
            except TimeoutError:
                return None
            if address[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\x86\xdd":
                continue
            packet = IPv6(frame[14:])
            if accept(packet):
                return packet
        return None

    def probe(self, destination=HOST2_V6, hops=64, size=40):
        return IPv6(src=HOST1_V6, dst=destination, hlim=hops) / UDP(sport=33000, dport=33434) / Raw(bytes(size))

    def error(self, original, layer, code=0):
        """Sends it; the ICMPv6 error of this kind that quotes it, its checksum looked at."""
        self.send(original)
        found = self.answer(lambda p: layer in p and p[layer].code == code)
        self.assertIsNotNone(found, f"no {layer.__name__}")
        quoted = bytes(found[layer])[8:]
        self.assertEqual(quoted[8:48], bytes(original)[8:48], "the quoted addresses and ports")
        self.assertLessEqual(len(bytes(found)), 1280)  # RFC 4443 2.4 (c)
        fresh = found.copy()
        del fresh[layer].cksum
        self.assertEqual(bytes(IPv6(bytes(fresh))), bytes(found), "checksum")
        return found

    def test_neighbours_are_found_over_the_host_path(self):
        self.lab.lan1.run("ip", "-6", "neigh", "flush", "dev", "eth0")
        self.assertEqual(ping(self.lab.lan1, GW1_LAN_V6, count=2, timeout=3), (2, 2))
        self.assertIn("lladdr", self.lab.lan1.run("ip", "-6", "neigh", "show", GW1_LAN_V6).stdout)
        self.assertIn(HOST1_V6, self.lab.gw1.gwctl("show", "neighbors").stdout)

    def test_hop_limit_1_ends_at_the_first_gateway(self):
        self.assertEqual(self.error(self.probe(hops=1), ICMPv6TimeExceeded).src, GW1_LAN_V6)

    def test_hop_limit_2_ends_at_the_far_gateway(self):
        before = self.lab.metered("ip6")["inner"]
        self.error(self.probe(hops=2), ICMPv6TimeExceeded)
        self.assertEqual(self.lab.metered("ip6")["inner"], before)

    def test_hop_limit_goes_down_by_one_a_gateway(self):
        far = self.lab.lan2.packet_socket("eth0", timeout=3)
        self.addCleanup(far.close)
        self.send(self.probe(hops=17))
        for _ in range(50):
            packet = Ether(far.recv(65536))
            if UDP in packet and packet[UDP].dport == 33434:
                break
        self.assertEqual(packet[IPv6].hlim, 15)

    def test_too_big(self):
        found = self.error(self.probe(size=1440), ICMPv6PacketTooBig)
        self.assertEqual(found.src, GW1_LAN_V6)
        self.assertTrue(1280 <= found[ICMPv6PacketTooBig].mtu < 1500)

    def test_no_route(self):
        self.error(self.probe(destination="2001:db8:99::9"), ICMPv6DestUnreach, 0)

    def test_extension_headers_have_a_limit(self):
        """Eight cross (RFC 8504 5.3 lets a node set one), nine are dropped and counted; so are misplaced and cut ones."""
        far = self.lab.lan2.packet_socket("eth0", timeout=3)
        self.addCleanup(far.close)

        def chain(count):
            packet = IPv6(src=HOST1_V6, dst=HOST2_V6, hlim=64)
            for _ in range(count):
                packet = packet / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])
            return packet / UDP(sport=33000, dport=33435) / Raw(b"after the headers")
        self.send(chain(8))
        for _ in range(50):
            packet = far.recv(65536)
            if b"after the headers" in packet:
                break
        else:
            self.fail("eight extension headers did not cross")
        misplaced = IPv6(src=HOST1_V6, dst=HOST2_V6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / UDP() / Raw(b"x")
        cut = IPv6(src=HOST1_V6, dst=HOST2_V6, nh=60, plen=8) / Raw(b"\x11\x09" + bytes(6))
        for name, packet in (("nine", chain(9)), ("hop-by-hop second", misplaced), ("longer than the packet", cut)):
            with self.subTest(name):
                before = self.lab.gw1.drops().get("ipv6_extension_headers", 0)
                self.send(packet)
                self.lab.gw1.wait_counter(lambda: self.lab.gw1.drops().get("ipv6_extension_headers", 0), before + 1)


class SixInFour(TunnelMixin, IPv6Test):
    tunnel = (6, 4)
    settings = {"fragments": "after"}


class FourInSix(TunnelMixin, IPv6Test):
    tunnel = (4, 6)


class FourInSixFragmentsAfter(IPv6Test):
    tunnel = (4, 6)
    settings = {"fragments": "after"}

    def test_datagrams(self):
        """Fragments of ESP over IPv6, which the far gateway puts together."""
        self.send_datagrams()


class SixInSixFragmentsAfter(IPv6Test):
    tunnel = (6, 6)
    settings = {"fragments": "after"}

    def test_datagrams(self):
        self.send_datagrams()


class SmallLinkBeyond(IPv6Test):
    """The ports have 1500, a link of the internet less than an outer packet around 1280 bytes: nobody inside need send less,
    and no router cuts the outer one."""

    link_mtu = 1300

    @classmethod
    def prepare(cls):
        for interface, network in (("to-gw1", GW1_V6), ("to-gw2", GW2_V6)):
            network = network.rpartition(":")[0] + ":/64"
            cls.lab.inet.run("ip", "-6", "route", "replace", network, "dev", interface, "proto", "kernel", "metric", "256",
                             "mtu", cls.link_mtu)

    def test_least_datagrams(self):
        headers = 28 if self.tunnel[0] == 4 else 48
        self.send_datagrams((0, 1280 - headers, 8000))
        self.assertRegex(self.lab.gw1.gwctl("show", "sa", "-v").stdout, r"mtu: mtu 12\d\d", "what the path takes")


class SixInSixSmallLinkBeyond(SmallLinkBeyond):
    tunnel = (6, 6)


class FourInSixSmallLinkBeyond(SmallLinkBeyond):
    tunnel = (4, 6)
    settings = {"fragments": "after"}


del SmallLinkBeyond
