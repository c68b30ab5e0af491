"""Corners of the protocol where two rules meet. See test_differential for the drawing."""

import random
import zlib

from lab.gateway import write_private
from lab.namespace import wait_for
from support import EndToEndTest
from test_differential import ENDS, HOSTS, SHA256, Cell, Direction, ScapyLab, Transform

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

OURS, THEIRS = ENDS[4]
HOST, FAR = HOSTS[4]
FAR_COMPRESSED = "172.21.0.10"
CPI = 0x300


class Corners(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab()
        cls.addClassCleanup(cls.lab.close)

    def load(self, *rules):
        write_private(self.lab.gw.ipsec, "\n".join(rules) + "\n")
        self.lab.gw.gwctl("load", self.lab.gw.ipsec)

    @staticmethod
    def inner(source):
        return bytes(IP(src=source, dst=HOST) / UDP(sport=9, dport=9) / Raw(bytes(300)))

    def plain(self, source):
        """IP in IP: what an IPComp tunnel's sender sends, too, when a packet does not shrink (RFC 3173 2.2)."""
        return IP(src=THEIRS, dst=OURS, proto=4) / Raw(self.inner(source))

    def compressed(self, source):
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(self.inner(source)) + deflate.flush()
        return IP(src=THEIRS, dst=OURS, proto=108) / Raw(bytes([4, 0]) + CPI.to_bytes(2, "big") + data)

    def assert_arrives(self, packet, source):
        self.lab.send("wan", packet)
        self.assertEqual(self.lab.receive("lan").src, source)

    def test_ipip_and_ipcomp_with_the_same_ends(self):
        ipip = f"ipip from {THEIRS} to {OURS} spi 0x100"
        ipcomp = f"ipcomp from {THEIRS} to {OURS} spi {CPI:#x}"
        flows = [f"flow ipip in from 172.20.1.0/24 to 192.168.60.0/24 peer {THEIRS} type require",
                 f"flow ipcomp in from 172.21.0.0/24 to 192.168.60.0/24 peer {THEIRS} type require"]
        for rules in ((ipip, ipcomp), (ipcomp, ipip)):
            with self.subTest(rules=rules):
                # Not what was loaded before, but added in this order.
                self.load(*flows)
                self.load(*rules, *flows)
                for _ in range(2):
                    self.assert_arrives(self.plain(FAR), FAR)
                    self.assert_arrives(self.compressed(FAR_COMPRESSED), FAR_COMPRESSED)
                    self.assert_arrives(self.plain(FAR_COMPRESSED), FAR_COMPRESSED)
                before = self.lab.gw.drops().get("tunnel_policy", 0)
                self.lab.send("wan", self.compressed(FAR))
                wait_for(lambda: self.lab.gw.drops().get("tunnel_policy", 0) == before + 1, 5, "IPComp is not IPIP")
                self.assertEqual(self.lab.gw.sa(CPI)["counters"]["input_packets"], 3)
        with self.subTest("IPComp alone takes what did not shrink"):
            self.load(ipcomp, flows[1])
            self.assert_arrives(self.plain(FAR_COMPRESSED), FAR_COMPRESSED)

    def test_ah_behind_an_atomic_fragment_header(self):
        """RFC 6946: a datagram of one fragment is whole; its fragment header is no part of what AH covers."""
        ours, theirs = ENDS[6]
        home = Direction(Cell(Transform("ah", auth=SHA256), 6, 6), 0x50001, theirs, ours, random.Random(4))
        near, far = HOSTS[6]
        self.lab.xfrm(home.xfrm(1), *(["policy", "add", "src", f"{far}/128", "dst", f"{near}/128", "dir", direction, "tmpl",
                                       "src", theirs, "dst", ours, "proto", "ah", "reqid", "1", "mode", "tunnel"]
                                      for direction in ("in", "fwd")))
        self.addCleanup(self.lab.xfrm, ["policy", "flush"], ["state", "flush"])
        for number, atomic in enumerate((False, True, True), 1):
            plain = IPv6(bytes(IPv6(src=far, dst=near) / UDP(sport=9, dport=9) / Raw(bytes(99))))
            sealed = bytes(home.seal(plain, number))
            if atomic:
                sealed = bytes(IPv6(src=theirs, dst=ours, hlim=sealed[7]) / IPv6ExtHdrFragment(nh=51, id=number)
                               / Raw(sealed[40:]))
            self.lab.send("wan", IPv6(sealed))
            self.assertEqual(bytes(self.lab.receive("lan").payload), bytes(plain.payload))
