"""The outer header and the inner one, field by field, on the data path: ECN (RFC 6040, the whole table), DSCP, DF, flow label
and TTL (RFC 4301 5.1.2); what ICMP from the untrusted side may say about an SA's path (RFC 4301 8.2). See test_differential
for the drawing."""

import itertools
import random

from lab.namespace import wait_for
from support import EndToEndTest
from test_differential import ENDS, FAMILIES, HOSTS, SHA256, Cell, Direction, ScapyLab, Transform

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

NULL = Transform("null sha2-256", "NULL", 0, "ecb(cipher_null)", SHA256)
NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
# RFC 6040 figure 4: (inner, outer) → what goes on; None: dropped.
DECAPSULATED = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: None},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}


def header(family, source, destination, tos=0, hops=64, flags=0, label=0):
    if family == 4:
        return IP(src=source, dst=destination, tos=tos, ttl=hops, flags=flags)
    return IPv6(src=source, dst=destination, tc=tos, hlim=hops, fl=label)


def traffic_class(packet):
    return packet.tos if packet.version == 4 else packet.tc


def hops(packet):
    return packet.ttl if packet.version == 4 else packet.hlim


class HeaderTest(EndToEndTest):
    number = 0
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab(**cls.settings)
        cls.addClassCleanup(cls.lab.close)
        cls.noise = random.Random(1)

    def tunnel(self, inner, outer, *words):
        """A pair of SAs and their policies; `words` go to `ip xfrm state add`."""
        HeaderTest.number += 1
        request, (ours, theirs) = HeaderTest.number, ENDS[outer]
        cell = Cell(NULL, inner, outer)
        self.away = Direction(cell, 0x20000 + request * 2, ours, theirs, self.noise)
        self.home = Direction(cell, 0x20001 + request * 2, theirs, ours, self.noise)
        self.sequence = itertools.count(1)
        self.lab.install(self.away, self.home, request, words)
        self.inner_family, self.outer_family = inner, outer

    def sent(self, size=100, **fields):
        """(outer, inner) of a packet that a host of the LAN sent out."""
        near, far = HOSTS[self.inner_family]
        self.lab.send("lan", header(self.inner_family, near, far, **fields) / UDP(sport=9, dport=9) / Raw(bytes(size)))
        outer = self.lab.receive("wan")
        inner = self.away.open(outer.copy())
        return outer, (IP if inner[0] >> 4 == 4 else IPv6)(inner)

    def came(self, outer_tos=0, outer_hops=64, **fields):
        """What the LAN's host gets of a packet that the peer sealed; None if it was dropped under ecn_congestion."""
        near, far = HOSTS[self.inner_family]
        before = self.lab.gw.drops().get("ecn_congestion", 0)
        plain = header(self.inner_family, far, near, **fields) / UDP(sport=9, dport=9) / Raw(bytes(100))
        sealed = self.home.seal(plain.__class__(bytes(plain)), next(self.sequence))
        if sealed.version == 4:
            sealed.tos, sealed.ttl, sealed.chksum = outer_tos, outer_hops, None
        else:
            sealed.tc, sealed.hlim = outer_tos, outer_hops
        self.lab.send("wan", sealed)
        if fields.get("tos", 0) & 3 == NOT_ECT and outer_tos & 3 == CE:
            wait_for(lambda: self.lab.gw.drops().get("ecn_congestion", 0) == before + 1, 5, "ecn_congestion")
            return None
        return self.lab.receive("lan")

    def in_all_families(self, check, *words):
        for inner, outer in FAMILIES:
            with self.subTest(inner=inner, outer=outer):
                self.tunnel(inner, outer, *words)
                check()


class TunnelHeaders(HeaderTest):
    def test_traffic_class(self):
        def check():
            for dscp in (0, 10, 46):
                for ecn in (NOT_ECT, ECT1, ECT0, CE):
                    tos = dscp << 2 | ecn
                    packets = self.sent(tos=tos)
                    self.assertEqual([traffic_class(packet) for packet in packets], [tos, tos])
        self.in_all_families(check)

    def test_ecn_comes_out_by_the_table(self):
        def check():
            for inside, outside in itertools.product((NOT_ECT, ECT1, ECT0, CE), repeat=2):
                expected = DECAPSULATED[inside][outside]
                got = self.came(tos=0x28 | inside, outer_tos=0xb8 | outside)
                with self.subTest(inside=inside, outside=outside):
                    # The inner DSCP stays, whatever the outer one became on the way.
                    self.assertEqual(got and traffic_class(got), None if expected is None else 0x28 | expected)
        self.in_all_families(check)

    def test_noecn(self):
        """Neither copied out nor taken in."""
        def check():
            self.assertEqual(traffic_class(self.sent(tos=0x28 | ECT0)[0]), 0x28)
            self.assertEqual(traffic_class(self.came(tos=0x28 | ECT0, outer_tos=CE)), 0x28 | ECT0)
        self.in_all_families(check, "flag", "noecn")

    def test_hops_are_the_tunnels_own(self):
        def check():
            outside, inside = self.sent(hops=17)
            self.assertEqual((hops(outside), hops(inside)), (64, 16))
            self.assertEqual(hops(self.came(hops=33, outer_hops=3)), 32)
        self.in_all_families(check)

    def test_df(self):
        self.tunnel(4, 4)
        self.assertEqual([bool(self.sent(flags=flags)[0].flags.DF) for flags in (0, 2)], [False, True])
        self.tunnel(4, 4, "flag", "nopmtudisc")
        self.assertEqual([bool(self.sent(flags=flags)[0].flags.DF) for flags in (0, 2)], [False, False])

    def test_flow_label(self):
        self.tunnel(6, 6)
        outside, inside = self.sent(label=0xabcde)
        self.assertEqual((outside.fl, inside.fl), (0xabcde, 0xabcde))
        self.tunnel(4, 6)
        self.assertEqual(self.sent()[0].fl, 0)


class PathMTUTest(HeaderTest):
    """Path MTUs that the untrusted side reports, and what the hosts inside are told then."""

    def tell(self, mtu, spi, source=None, damaged=False):
        ours, theirs = ENDS[self.outer_family]
        esp = spi.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(24)
        if self.outer_family == 4:
            quoted = IP(src=source or ours, dst=theirs, proto=50) / Raw(esp)
            checksum = {"chksum": 0x1234} if damaged else {}
            packet = IP(src=theirs, dst=ours) / ICMP(type=3, code=4, nexthopmtu=mtu, **checksum) / Raw(bytes(quoted))
        else:
            quoted = IPv6(src=source or ours, dst=theirs, nh=50) / Raw(esp)
            checksum = {"cksum": 0x1234} if damaged else {}
            packet = IPv6(src=theirs, dst=ours) / ICMPv6PacketTooBig(mtu=mtu, **checksum) / Raw(bytes(quoted))
        self.lab.send("wan", packet)

    def told(self, size):
        """The MTU that a host inside is told for a packet of `size` bytes; None when the packet crosses."""
        near, far = HOSTS[4]
        self.lab.send("lan", IP(src=near, dst=far, flags="DF") / UDP(sport=9, dport=9) / Raw(bytes(size - 28)))
        self.lab.ends["lan"].settimeout(0.3)
        try:
            while True:
                answer = self.lab.receive("lan")
                if ICMP in answer and (answer[ICMP].type, answer[ICMP].code) == (3, 4):
                    return answer[ICMP].nexthopmtu
        except (TimeoutError, BlockingIOError):
            return None
        finally:
            self.lab.ends["lan"].settimeout(5)

    def inner_mtu(self, path):
        """NULL with HMAC-SHA2-256-128: outer header, 8 ESP, 16 ICV, whole words of which 2 bytes are the trailer's."""
        return (path - (20 if self.outer_family == 4 else 40) - 24) // 4 * 4 - 2


class UntrustedICMP(PathMTUTest):
    """Packet-too-big from the untrusted side counts when it quotes an SPI in use, and never takes a path below the least."""

    def assert_untold(self):
        """Also when the control thread has had its time."""
        for _ in range(3):
            self.assertIsNone(self.told(1490))

    def test_only_an_spi_in_use(self):
        for outer in (4, 6):
            with self.subTest(outer=outer):
                self.tunnel(4, outer)
                self.assertIsNone(self.told(1490))
                self.tell(1400, self.away.spi + 0x1000)
                self.tell(1400, self.home.spi)
                self.tell(1400, self.away.spi, source="203.0.113.5" if outer == 4 else "2001:db8:77::5")
                self.tell(1400, self.away.spi, damaged=True)
                self.assert_untold()
                self.tell(1400, self.away.spi)
                self.assertEqual(wait_for(lambda: self.told(1490), 5, "the senders inside are told"), self.inner_mtu(1400))
                # Larger again is not what a router may say.
                self.tell(1450, self.away.spi)
                self.assertEqual(self.told(1490), self.inner_mtu(1400))

    def test_never_below_the_least(self):
        for outer, least in ((4, 576), (6, 1280)):
            with self.subTest(outer=outer):
                self.tunnel(4, outer)
                self.tell(296, self.away.spi)
                self.assertEqual(wait_for(lambda: self.told(1490), 5, "the senders inside are told"), self.inner_mtu(least))

    def test_other_errors_change_nothing(self):
        self.tunnel(4, 6)
        ours, theirs = ENDS[6]
        esp = self.away.spi.to_bytes(4, "big") + bytes(28)
        self.lab.send("wan", IPv6(src=theirs, dst=ours) / ICMPv6DestUnreach(code=0)
                      / Raw(bytes(IPv6(src=ours, dst=theirs, nh=50) / Raw(esp))))
        self.assert_untold()


class PathMTUExpiry(PathMTUTest):
    """What was learned is forgotten, and larger packets are tried again (RFC 4301 8.2.2)."""

    settings = {"path-mtu-expiry": "4"}

    def test_probing_up(self):
        self.tunnel(4, 4)
        self.tell(1000, self.away.spi)
        self.assertEqual(wait_for(lambda: self.told(1490), 5, "the senders inside are told"), self.inner_mtu(1000))
        wait_for(lambda: self.told(1490) is None, 20, "large packets cross again")
