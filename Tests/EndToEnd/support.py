"""What the end-to-end tests share: a time limit for each, and the gateways' logs where one fails."""

import logging
import pathlib
import signal
import sys
import unittest
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Deploy"))
warnings.filterwarnings("ignore")
logging.getLogger("scapy").setLevel(logging.ERROR)

from lab.namespace import wait_for  # noqa: E402
from lab.topology import TwoGateways  # noqa: E402


def wait_for_xfrm_monitor(xfrm, text):
    """Until an `ip xfrm monitor` of policies, which has said `text()`, has joined its groups: it tells of a policy then.
    `xfrm` runs words as a command of `ip xfrm`."""
    selector = "src 10.255.0.0/24 dst 10.255.1.0/24 dir out"

    def is_heard():
        xfrm(f"policy update {selector}")
        return "10.255.0.0/24" in text()
    wait_for(is_heard, 20, "ip xfrm monitor tells of a policy", interval=0.2)
    xfrm(f"policy delete {selector}")


class TimeLimit(Exception):
    """The test took longer than it may."""


class EndToEndTest(unittest.TestCase):
    """A test with a time limit. `lab`, where a class or test sets it, has its logs shown on failure."""

    time_limit = 120
    lab = None

    def run(self, result=None):
        def expire(*_):
            raise TimeLimit(f"not done after {self.time_limit} s")
        before = signal.signal(signal.SIGALRM, expire)
        signal.alarm(self.time_limit)
        try:
            return super().run(result)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def _callTestMethod(self, method):
        try:
            super()._callTestMethod(method)
        except unittest.SkipTest:
            raise
        except Exception as error:
            if self.lab:
                error.add_note(self.lab.logs())
            raise


class TwoGatewaysTest(EndToEndTest):
    """Tests that share two running gateways with static keys; see TwoGateways for the drawing."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways(**cls.options)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        cls.lab.start_static()

    def counters(self):
        """(gw1 out, gw2 in, gw2 out, gw1 in, wire 1→2, wire 2→1) in packets."""
        lab, wire = self.lab, self.lab.metered()
        return (lab.gw1.output_packets(lab.sa.spi_out), lab.gw2.input_packets(lab.sa.spi_out),
                lab.gw2.output_packets(lab.sa.spi_in), lab.gw1.input_packets(lab.sa.spi_in),
                wire["esp_1to2"], wire["esp_2to1"])

    def difference(self, before):
        return tuple(now - then for now, then in zip(self.counters(), before))
