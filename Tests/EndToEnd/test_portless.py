"""Fragments of protocols with ports, which show none (RFC 4301 7): the choice of gateway.yaml's portless-fragments. See
test_differential for the drawing."""

import random

from lab.namespace import wait_for
from support import EndToEndTest
from test_differential import ENDS, HOSTS, NETS, SHA256, Cell, Direction, ScapyLab, Transform, aged

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

NULL = Transform("null sha2-256", "NULL", 0, "ecb(cipher_null)", SHA256)
ESP = 50


class PortlessTest(EndToEndTest):
    choice = None

    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab(**({"portless-fragments": cls.choice} if cls.choice else {}))
        cls.addClassCleanup(cls.lab.close)

    def load(self, family, wide, first=1):
        """UDP to port 2000 is protected; with `wide`, everything between the networks, by another SA, too: `first` is the one
        of the two that comes first."""
        (ours, theirs), (near, far) = ENDS[family], NETS[family]
        noise = random.Random(3)
        commands = [["policy", "flush"], ["state", "flush"]]
        self.sas, self.ends = {}, {}
        for number, words in ((1, ["proto", "udp", "dport", "2000"]), (2, []))[:2 if wide else 1]:
            sa = Direction(Cell(NULL, family, family), 0x40000 + family * 16 + number, ours, theirs, noise)
            self.sas[number], self.ends[number] = sa.spi, sa
            priority = number if first == 1 else 3 - number
            commands += [sa.xfrm(number),
                         ["policy", "add", "src", near, "dst", far, *words, "dir", "out", "priority", str(priority), "tmpl",
                          "src", ours, "dst", theirs, "proto", "esp", "reqid", str(number), "mode", "tunnel"]]
        self.lab.xfrm(*commands)

    def pieces(self, family, places=((0, 304), (304, None))):
        """A datagram to port 2000 in fragments: the first has the ports, and is not told apart for it."""
        near, far = HOSTS[family]
        datagram = bytes(UDP(sport=9, dport=2000, len=8 + 600, chksum=1) / Raw(random.Random(5).randbytes(600)))
        for start, end in places:
            if family == 4:
                yield IP(src=near, dst=far, proto=17, id=77, frag=start // 8, flags=int(end is not None)) / Raw(
                    datagram[start:end])
            else:
                yield IPv6(src=near, dst=far) / IPv6ExtHdrFragment(nh=17, id=77, offset=start // 8, m=int(
                    end is not None)) / Raw(datagram[start:end])

    def send_whole(self, family):
        near, far = HOSTS[family]
        self.lab.send("lan", (IP if family == 4 else IPv6)(src=near, dst=far) / UDP(sport=9, dport=2000) / Raw(bytes(99)))

    def left(self):
        """What left: an SPI, or None for a packet in clear."""
        packet = self.lab.receive("wan")
        if (packet.proto if packet.version == 4 else packet.nh) == ESP:
            return int.from_bytes(bytes(packet.payload)[:4], "big")
        return None


    def assert_dropped(self, packets):
        packets = list(packets)
        before = self.lab.gw.drops().get("fragment_without_ports", 0)
        for packet in packets:
            self.lab.send("lan", packet)
        wait_for(lambda: self.lab.gw.drops().get("fragment_without_ports", 0) == before + len(packets), 8,
                 "all counted under fragment_without_ports")


class PortlessAuto(PortlessTest):
    """The default."""

    def test_what_a_policy_with_ports_covers(self):
        for family in (4, 6):
            for wide in (False, True):
                with self.subTest(family=family, wide=wide):
                    self.load(family, wide)
                    self.send_whole(family)
                    self.assertEqual(self.left(), self.sas[1])
                    self.assert_dropped(self.pieces(family))
                    # What the policy with ports cannot be for goes by the other one, or in clear.
                    near, far = HOSTS[family]
                    header = IP(src=near, dst=far, proto=47, id=5, flags=1) if family == 4 else (
                        IPv6(src=near, dst=far) / IPv6ExtHdrFragment(nh=47, id=5, m=1))
                    self.lab.send("lan", header / Raw(bytes(64)))
                    self.assertEqual(self.left(), self.sas.get(2))

    def test_policies_without_ports_that_come_first(self):
        for family in (4, 6):
            with self.subTest(family=family):
                self.load(family, wide=True, first=2)
                for piece in self.pieces(family):
                    self.lab.send("lan", piece)
                    self.assertEqual(self.left(), self.sas[2])


class PortlessMatch(PortlessTest):
    choice = "match"

    def test_policies_with_ports_do_not_match(self):
        for family in (4, 6):
            for wide in (False, True):
                with self.subTest(family=family, wide=wide):
                    self.load(family, wide)
                    self.send_whole(family)
                    self.assertEqual(self.left(), self.sas[1])
                    for piece in self.pieces(family):
                        self.lab.send("lan", piece)
                        self.assertEqual(self.left(), self.sas.get(2))

    def test_overlapping_pieces_go_as_they_are(self):
        """In transit they are packets like any other, sealed one by one: what overlaps is for the end to refuse (RFC 5722)."""
        for family in (4, 6):
            self.load(family, wide=True)
            places = [(0, 304), (296, 400), (296, 400), (8, 16), (392, None)]
            for place, piece in zip(places, self.pieces(family, places)):
                with self.subTest(family=family, place=place):
                    self.lab.send("lan", piece)
                    self.assertEqual(self.ends[2].open(self.lab.receive("wan")), aged(piece))


class PortlessDrop(PortlessTest):
    choice = "drop"

    def test_they_go_no_further(self):
        for family in (4, 6):
            with self.subTest(family=family):
                self.load(family, wide=True)
                self.assert_dropped(self.pieces(family))
                # Whole ones, and fragments of what has no ports, go on.
                self.send_whole(family)
                self.assertEqual(self.left(), self.sas[1])
                if family == 4:
                    near, far = HOSTS[4]
                    self.lab.send("lan", IP(src=near, dst=far, proto=47, id=5, flags=1) / Raw(bytes(64)))
                    self.assertEqual(self.left(), self.sas[2])
