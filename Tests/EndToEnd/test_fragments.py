"""Fragments of what is for the gateway itself: put together in any order; overlapping, tiny, impossible and endless ones
are refused, each kind under its own counter, and no packet buffer stays behind (RFC 791, 1858, 3128, 5722, 7112)."""

import itertools
import random

from lab.namespace import wait_for
from support import EndToEndTest
from test_differential import ENDS, HOSTS, MTU, NETS, SHA256, Cell, Direction, ScapyLab, Transform, aged

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

LIMIT = 64
LARGEST = 65517  # bytes of a datagram that is put together
COUNTERS = ("fragment_overlap", "fragment_tiny", "fragment_malformed", "fragment_limit", "reassembly_timeout")
NULL = Transform("null sha2-256", "NULL", 0, "ecb(cipher_null)", SHA256)


class Fragments(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab(limits=f"{{reassemblies: {LIMIT}}}")
        cls.addClassCleanup(cls.lab.close)
        cls.noise = random.Random(7)
        cls.sides = {}
        commands = []
        for number, family in enumerate((4, 6), 1):
            ours, theirs = ENDS[family]
            near, far = NETS[family]
            home = Direction(Cell(NULL, family, family), 0x7000 + number, theirs, ours, cls.noise)
            cls.sides[family] = home
            commands.append(home.xfrm(number))
            for direction in ("in", "fwd"):
                commands.append(["policy", "add", "src", far, "dst", near, "dir", direction, "tmpl", "src", theirs, "dst",
                                 ours, "proto", "esp", "reqid", str(number), "mode", "tunnel"])
        cls.lab.xfrm(*commands)
        cls.sequence = itertools.count(1)
        cls.identification = itertools.count(1)

    def setUp(self):
        self.start = self.buffers()
        self.drops = self.lab.gw.drops()

    def tearDown(self):
        """Whatever came: both families still arrive whole, and the buffers are where they were."""
        for family in (4, 6):
            self.assert_delivered(family, [(0, 400), (400, None)], [0, 1])
        wait_for(lambda: self.buffers() >= self.start, 10, f"{self.start} free buffers again")

    def buffers(self):
        return sum(pool["available_buffers"] for pool in self.lab.gw.show_status()["mempools"])

    def moved(self):
        now = self.lab.gw.drops()
        return {name: now.get(name, 0) - self.drops.get(name, 0) for name in COUNTERS
                if now.get(name, 0) != self.drops.get(name, 0)}

    def sealed(self, family, size=600):
        """(ESP payload, the plain packet): as the peer would send it."""
        near, far = HOSTS[family]
        header = IP(src=far, dst=near, ttl=64) if family == 4 else IPv6(src=far, dst=near, hlim=64)
        plain = header / UDP(sport=1000, dport=2000) / Raw(self.noise.randbytes(size))
        return bytes(self.sides[family].seal(plain.__class__(bytes(plain)), next(self.sequence)).payload), plain

    def piece(self, family, identification, data, offset, more):
        ours, theirs = ENDS[family]
        if family == 4:
            return IP(src=theirs, dst=ours, proto=50, id=identification, frag=offset // 8, flags=int(more)) / Raw(data)
        fragment = IPv6ExtHdrFragment(nh=50, id=identification, offset=offset // 8, m=int(more))
        return IPv6(src=theirs, dst=ours) / fragment / Raw(data)

    def cut(self, family, esp, places):
        """Pieces of one datagram: (from, to) in bytes of it, `to` None for its end."""
        identification = next(self.identification)
        return [self.piece(family, identification, esp[start:end], start, end is not None) for start, end in places]

    def send(self, packets):
        for packet in packets:
            self.lab.send("wan", packet)

    def assert_delivered(self, family, places, order):
        esp, plain = self.sealed(family)
        pieces = self.cut(family, esp, places)
        self.send(pieces[index] for index in order)
        got = self.lab.receive("lan")
        self.assertEqual(bytes(got[UDP].payload), bytes(plain[UDP].payload))

    def assert_refused(self, counter, packets, count=None):
        """All fall, and under this name."""
        packets = list(packets)
        self.drops = self.lab.gw.drops()
        self.send(packets)
        expected = {counter: len(packets) if count is None else count}
        try:
            wait_for(lambda: self.moved() == expected, 8, counter)
        except Exception as error:
            raise self.failureException(f"expected {expected}, counted {self.moved()}") from error

    def test_any_order(self):
        places = [(0, 200), (200, 408), (408, None)]
        for family in (4, 6):
            for order in itertools.permutations(range(3)):
                self.assert_delivered(family, places, order)
        self.assertEqual(self.moved(), {})

    def test_sixty_four_kilobytes(self):
        """ESP in as many pieces as it takes; what comes out goes on in pieces of the LAN's."""
        for family in (4, 6):
            for size, piece in ((600, 80), (9900, 1440), (65000, 1440)):
                esp, plain = self.sealed(family, size)
                places = [(start, start + piece) for start in range(0, len(esp), piece)]
                places[-1] = (places[-1][0], None)
                self.noise.shuffle(places)
                # No more on the wire at once than a port of a busy machine holds.
                pieces = self.cut(family, esp, places)
                for start in range(0, len(pieces), 8):
                    self.send(pieces[start:start + 8])
                with self.subTest(family=family, size=size):
                    if family == 6 and size > MTU:
                        # A router does not cut IPv6: its sender is told.
                        before = self.drops.get("fragment_needed", 0)
                        wait_for(lambda: self.lab.gw.drops().get("fragment_needed", 0) == before + 1, 8, "too big")
                        self.drops = self.lab.gw.drops()
                        continue
                    self.assertEqual(self.received(), bytes(plain.payload))
        self.assertEqual(self.moved(), {})

    def received(self):
        """The payload of the IPv4 datagram, whole or in order in pieces, or of the IPv6 packet that the LAN gets."""
        payload = b""
        while True:
            got = self.lab.receive("lan")
            payload += bytes(got.payload)
            if got.version == 6 or not got.flags.MF:
                return payload

    def test_overlapping(self):
        for family in (4, 6):
            esp, _ = self.sealed(family)
            for places in ([(0, 208), (200, None)],  # the second begins inside the first
                           [(0, 208), (0, 208)],  # the same twice
                           [(400, None), (400, None)],
                           # As long together as the datagram is, with a hole that an overlap makes up for.
                           [(0, 200), (192, 392), (400, None)],
                           [(0, 200), (400, None), (200, 392), (208, 400)]):
                with self.subTest(places=places):
                    self.assert_refused("fragment_overlap", self.cut(family, esp, places))

    def test_what_overlaps_inside_the_tunnel(self):
        """Is in transit: each piece is opened and goes on as it is, for its end to refuse."""
        for family in (4, 6):
            near, far = HOSTS[family]
            for place in [(0, 304), (296, 400), (296, 400), (8, 16), (392, None)]:
                with self.subTest(family=family, place=place):
                    piece, = self.cut(family, self.noise.randbytes(600), [place])
                    piece.src, piece.dst = far, near
                    inner = piece.__class__(bytes(piece))
                    self.send([self.sides[family].seal(inner.copy(), next(self.sequence))])
                    self.assertEqual(bytes(self.lab.receive("lan")), aged(inner))
        self.assertEqual(self.moved(), {})

    def test_tiny(self):
        for family in (4, 6):
            esp, _ = self.sealed(family)
            self.assert_refused("fragment_tiny", self.cut(family, esp, [(0, 8), (8, 16), (200, 208)]))

    def test_impossible(self):
        for family in (4, 6):
            esp, _ = self.sealed(family)
            one = next(self.identification)
            self.assert_refused("fragment_malformed", [
                self.piece(family, one, esp[:61], 0, True),  # not the last, and no multiple of 8
                self.piece(family, one, esp[:600], 65528, False),  # beyond what a datagram can be
                self.piece(family, one, esp[:600], 65000, True),
                self.piece(family, one, b"", 8, False)])

    def test_larger_than_is_put_together(self):
        for family, headers in ((4, 20), (6, 40)):
            start = LARGEST - headers - 96 & ~7
            esp = self.noise.randbytes(LARGEST - headers - start + 1)
            self.assert_refused("fragment_limit",
                                [self.piece(family, next(self.identification), esp, start, False)])

    def test_endless(self):
        """Many datagrams that never end: no more than the limit are held, and those no longer than the timeout."""
        for family in (4, 6):
            esp, _ = self.sealed(family)
            self.drops = self.lab.gw.drops()
            count = 10 * LIMIT
            self.send(itertools.chain.from_iterable(self.cut(family, esp, [(0, 400)]) for _ in range(count)))
            names = {"fragment_limit", "reassembly_timeout"}
            # On a busy machine the wire itself may lose some of so many at once.
            wait_for(lambda: set(self.moved()) == names and self.buffers() >= self.start, 30, "refused or timed out")
            moved = self.moved()
            self.assertEqual(set(moved), names)
            self.assertLessEqual(sum(moved.values()), count)
            self.assertLessEqual(moved["reassembly_timeout"], 4 * LIMIT)  # the sender may take longer than the timeout
