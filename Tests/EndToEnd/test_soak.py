"""Sustained TCP through both gateways: no leak of buffers or memory, no drop without a reason.

20 s by default; GW_LONG=1 in the environment makes it ten minutes.
"""

import os
import time

from lab.topology import HOST2, iperf3, ping
from support import TwoGatewaysTest

SECONDS = 600 if os.environ.get("GW_LONG") else 20
# What a loaded but healthy gateway may drop: a full device queue, a sender that is told of the MTU.
EXPLAINED = {"transmit_full", "fragment_needed", "not_for_us", "unknown_ether_type"}


class Soak(TwoGatewaysTest):
    time_limit = SECONDS + 90

    def free_buffers(self, gateway):
        return {pool["name"]: pool["available_buffers"] for pool in gateway.show_status()["mempools"]}

    def test_iperf3_leaks_nothing(self):
        gateways = (self.lab.gw1, self.lab.gw2)
        ping(self.lab.lan1, HOST2, count=5)
        iperf3(self.lab.lan1, self.lab.lan2, HOST2, "--bidir", seconds=2)
        time.sleep(1)
        buffers = [self.free_buffers(gateway) for gateway in gateways]
        memory = [gateway.resident_bytes() for gateway in gateways]
        drops = [gateway.drops() for gateway in gateways]
        report = iperf3(self.lab.lan1, self.lab.lan2, HOST2, "--bidir", seconds=SECONDS)
        self.assertGreater(report["end"]["sum_received"]["bytes"], 1_000_000)
        time.sleep(2)
        for index, gateway in enumerate(gateways):
            with self.subTest(gateway.name):
                for pool, free in self.free_buffers(gateway).items():
                    self.assertGreaterEqual(free, buffers[index][pool] - 64, f"buffers of {pool} did not come back")
                self.assertLess(gateway.resident_bytes(), memory[index] + (16 << 20))
                new = {reason: count - drops[index].get(reason, 0) for reason, count in gateway.drops().items()}
                unexplained = {reason: count for reason, count in new.items() if count and reason not in EXPLAINED}
                self.assertEqual(unexplained, {})
