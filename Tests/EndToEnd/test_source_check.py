"""Where a source address may come in: the choice of gateway.yaml's source-check. See test_differential for the drawing."""

import random

from lab.namespace import wait_for
from support import EndToEndTest
from test_differential import ENDS, HOSTS, NETS, SHA256, Cell, Direction, ScapyLab, Transform

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

NULL = Transform("null sha2-256", "NULL", 0, "ecb(cipher_null)", SHA256)
ESP = 50


class SourceCheck(EndToEndTest):
    """The network behind the port lan is protected, and a neighbour on the port wan speaks in its name."""

    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab()
        cls.addClassCleanup(cls.lab.close)
        commands = []
        for family in (4, 6):
            (ours, theirs), (near, far) = ENDS[family], NETS[family]
            sa = Direction(Cell(NULL, family, family), 0x50000 + family, ours, theirs, random.Random(3))
            commands += [sa.xfrm(family),
                         ["policy", "add", "src", near, "dst", far, "dir", "out", "tmpl", "src", ours, "dst", theirs,
                          "proto", "esp", "reqid", str(family), "mode", "tunnel"]]
        cls.lab.xfrm(*commands)

    def choose(self, choice):
        self.lab.gw.settings["source-check"] = choice
        self.lab.gw.write_config()
        self.lab.gw.gwctl("reload")

    def send(self, end, family):
        near, far = HOSTS[family]
        self.lab.send(end, (IP if family == 4 else IPv6)(src=near, dst=far) / UDP(sport=9, dport=9) / Raw(bytes(99)))

    def expect_sealed(self, end, family):
        self.send(end, family)
        packet = self.lab.receive("wan")
        self.assertEqual(packet.proto if packet.version == 4 else packet.nh, ESP)

    def expect_refusal(self, end, family):
        before = self.lab.gw.drops().get("source_check", 0)
        self.send(end, family)
        wait_for(lambda: self.lab.gw.drops().get("source_check", 0) == before + 1, 5, "counted under source_check")

    def test_choices(self):
        for family in (4, 6):
            with self.subTest(family=family):
                # In turn: one decision for a flow must not be taken for the other port's.
                for _ in range(2):
                    self.expect_refusal("wan", family)
                    self.expect_sealed("lan", family)
        for choice, refuses in (("off", False), ("strict", True), ("loose", False), ("auto", True)):
            self.choose(choice)
            for family in (4, 6):
                with self.subTest(choice=choice, family=family):
                    (self.expect_refusal if refuses else self.expect_sealed)("wan", family)
                    self.expect_sealed("lan", family)
