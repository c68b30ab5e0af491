"""Keys from OpenIKED, unmodified, over the PF_KEY socket; between two of it, and with strongSwan's charon."""

import os
import unittest

from keying import KeyingTest
from lab.capture import Capture, count_packets
from lab.charon import Charon, connection
from lab.iked import Iked, rule
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST2, LAN1, LAN2, ping


@unittest.skipUnless(os.path.exists("/usr/sbin/iked"), "OpenIKED is not installed (Deploy/install-dependencies test)")
class IkedTest(KeyingTest):
    """Every test brings its daemons."""

    lab_options = {"settings": {"on-ike-exit": "flush"}}

    def iked(self, gateway, text, *arguments):
        return self.add(Iked(gateway)).start(text, *arguments)

    def two(self, *arguments, **options):
        """The passive side first, so that nothing is sent in vain."""
        second = self.iked(self.lab.gw2, rule(GW2, GW1, LAN2, LAN1, active=False, **options), *arguments)
        return self.iked(self.lab.gw1, rule(GW1, GW2, LAN1, LAN2, **options), *arguments), second

    def established(self, timeout=20):
        wait_for(lambda: all(len(gateway.associations()) >= 2 and len(gateway.show("flow")) >= 2
                             for gateway in (self.lab.gw1, self.lab.gw2)), timeout, "SAs on both gateways")

    def test_iked_with_iked(self):
        self.two()
        self.established()
        self.assert_traffic()

    def test_iked_with_iked_sha2_384(self):
        self.two(childsa="enc aes-128 auth hmac-sha2-384")
        self.established()
        self.assert_traffic()

    def test_rekey_loses_nothing(self):
        """iked rekeys when the gateway says that a soft lifetime is over, and at no other time. Who answers uses the new SA
        at once, which may be before the other has read the answer: what comes in between waits for it."""
        self.two(lifetime="lifetime 8")
        self.established()
        self.assert_traffic()
        before, early = self.spis(), self.without_sa()
        self.assertEqual(ping(self.lab.lan1, HOST2, count=600, interval=0.02), (600, 600))
        self.assertEqual(self.without_sa(), early)
        self.assertFalse(before & self.spis(), "no SA was replaced")

    def without_sa(self):
        return sum(gateway.drops().get("no_sa", 0) for gateway in (self.lab.gw1, self.lab.gw2))

    def test_exit_takes_its_sas_along(self):
        first, second = self.two()
        self.established()
        self.assert_traffic()
        first.stop()
        second.stop()
        for gateway in (self.lab.gw1, self.lab.gw2):
            wait_for(lambda: not gateway.associations(), 10, "the SAs are gone")

    def test_forced_udp_encapsulation(self):
        """iked -t: ESP in UDP (RFC 3948), on port 4500 beside IKE."""
        self.two("-t")
        self.established()
        ping(self.lab.lan1, HOST2, count=1, timeout=2)
        before = self.lab.metered()
        with Capture(self.lab.inet, "to-gw1", self.lab.folder / "udp.pcap") as capture:
            self.assertEqual(ping(self.lab.lan1, HOST2, count=10, interval=0.05), (10, 10))
        self.assertGreaterEqual(count_packets(capture.path, "udp.port == 4500 and esp"), 20)
        after = self.lab.metered()
        for name in ("esp_1to2", "esp_2to1", "inner"):
            self.assertEqual(after[name], before[name], name)

    def test_crash_and_return(self):
        """iked flushes when it starts, so what a crash left behind is replaced."""
        first, _ = self.two()
        self.established()
        self.assert_traffic()
        old = self.spis()
        first.kill()
        self.iked(self.lab.gw1, rule(GW1, GW2, LAN1, LAN2))
        wait_for(lambda: self.lab.gw1.associations()
                 and not old & self.spis(), 20, "new SAs on gw1")
        self.established()
        self.assert_traffic()

    def with_charon(self):
        charon = self.add(Charon(self.lab.gw2)).start()
        charon.load(connection(GW2, GW1, LAN2, LAN1, esp="aes256-sha512",
                               options="proposals = aes256-sha256-prfsha256-ecp256"))
        return charon

    def test_iked_initiates_to_charon(self):
        self.with_charon()
        self.iked(self.lab.gw1, rule(GW1, GW2, LAN1, LAN2))
        self.established()
        self.assert_traffic()

    def test_charon_initiates_to_iked(self):
        self.iked(self.lab.gw1, rule(GW1, GW2, LAN1, LAN2, active=False))
        self.with_charon().initiate()
        self.established()
        self.assert_traffic()
