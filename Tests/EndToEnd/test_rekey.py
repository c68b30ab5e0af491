"""CHILD and IKE SAs are replaced every few seconds while numbered packets cross both ways: none is lost, none comes
twice, none is in clear. Half a minute for each kind of limit; GW_LONG=1 makes it five minutes."""

import os

from keying import CharonPairTest
from streams import Streams
from lab.topology import HOST1, HOST2

SECONDS = 300 if os.environ.get("GW_LONG") else 30
# Packets a second and way.
RATE = 500


class RekeyUnderLoadTest(CharonPairTest):
    time_limit = SECONDS + 120

    def rekey(self, child, ike="", one_side=False):
        """`child`: the options of the child that have it replaced. Both daemons may begin, or gw1's alone."""
        options = {"child_options": child, "options": f"{ike}\n rand_time = 0s"}
        lasting = {"child_options": "rekey_time = 0s\n life_time = 0s", "options": "rekey_time = 0s"}
        one, _ = self.load(one=options, two=lasting if one_side else options)
        one.initiate()
        self.assert_traffic()
        lab = self.lab
        before = {"inner": lab.metered()["inner"], "drops": [lab.gw1.drops(), lab.gw2.drops()]}
        with Streams(lab, (lab.lan1, HOST1), (lab.lan2, HOST2), rate=RATE, seconds=SECONDS) as streams:
            pairs, ike_sas = set(), set()
            while streams.running():
                pairs |= {child for child in self.children(one)}
                ike_sas |= {line.split(",")[3] for line in one.swanctl("--list-sas").stdout.splitlines()
                            if line.startswith("gw: #")}
            streams.check(self, before["drops"])
        self.assertEqual(lab.metered()["inner"], before["inner"], "inner packets in clear on the wire")
        print(f"        {len(pairs)} pairs of CHILD SAs, {len(ike_sas)} IKE SAs; {streams.summary()}", flush=True)
        return pairs, ike_sas

    @staticmethod
    def children(charon):
        return [line.split()[1] for line in charon.swanctl("--list-sas").stdout.splitlines()
                if line.strip().startswith("in ")]

    def test_by_time(self):
        pairs, ike = self.rekey("rekey_time = 3s\n life_time = 20s\n rand_time = 0s", "rekey_time = 5s\n over_time = 20s")
        self.assertGreaterEqual(len(pairs), SECONDS // 6)
        self.assertGreaterEqual(len(ike), SECONDS // 12)

    def test_by_time_one_side(self):
        pairs, ike = self.rekey("rekey_time = 2s\n life_time = 20s\n rand_time = 0s", "rekey_time = 5s\n over_time = 20s",
                                one_side=True)
        self.assertGreaterEqual(len(pairs), SECONDS // 5)
        self.assertGreaterEqual(len(ike), SECONDS // 12)

    def test_by_packets(self):
        pairs, _ = self.rekey(f"rekey_packets = {3 * RATE}\n life_packets = {100 * RATE}\n rand_packets = 0\n"
                              "rekey_time = 0s\n life_time = 0s", one_side=True)
        self.assertGreaterEqual(len(pairs), SECONDS // 6)

    def test_by_bytes(self):
        pairs, _ = self.rekey(f"rekey_bytes = {3 * RATE * 600}\n life_bytes = {100 * RATE * 600}\n rand_bytes = 0\n"
                              "rekey_time = 0s\n life_time = 0s", one_side=True)
        self.assertGreaterEqual(len(pairs), SECONDS // 6)
