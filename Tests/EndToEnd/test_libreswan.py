"""Keys from libreswan's pluto, unmodified, over the XFRM socket; the other gateway's come from strongSwan's charon."""

import pathlib
import unittest

from keying import KeyingTest, make_certificates
from lab import charon, libreswan
from lab.gateway import ROOT
from lab.namespace import wait_for
from lab.topology import GW1, GW1_V6, GW2, GW2_V6, HOST1, HOST1_V6, HOST2, HOST2_V6, LAN1, LAN1_V6, LAN2, LAN2_V6, ping
from streams import Streams

RATE, SECONDS = 500, 10
EXAMPLES = pathlib.Path(ROOT) / "Deploy/examples/ike"


@unittest.skipUnless(libreswan.PROGRAMS.exists(), "libreswan is not unpacked (Deploy/install-dependencies test)")
class LibreswanTest(KeyingTest):
    """pluto keys gw1, charon gw2."""

    time_limit = 180

    def charon(self, **settings):
        second = self.add(charon.Charon(self.lab.gw2)).start()
        second.load(charon.connection(GW2, GW1, LAN2, LAN1, **settings))
        return second

    def pluto(self, *lines, **settings):
        made = self.add(libreswan.Libreswan(self.lab.gw1))
        return made.start(*libreswan.connection(GW1, GW2, LAN1, LAN2, options=lines, **settings))

    def pair(self, *lines, phase2="aes_gcm128-null", esp="aes128gcm16-esn", **settings):
        second = self.charon(esp=esp, **settings)
        return self.pluto(*lines, phase2=phase2), second

    def established(self):
        wait_for(lambda: all(len(gateway.associations()) >= 2 and len(gateway.show("flow")) >= 2
                             for gateway in (self.lab.gw1, self.lab.gw2)), 40, "SAs on both gateways")

    def gone(self):
        wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw2.associations(), 40, "the SAs are gone")

    def transforms(self):
        return {(sa["transform"]["encryption"], sa["transform"]["encryption_key_bits"],
                 sa["transform"]["authentication_key_bits"], sa["extended_sequence_numbers"])
                for gateway in (self.lab.gw1, self.lab.gw2) for sa in gateway.associations()}

    def test_aes_gcm_with_esn(self):
        one, _ = self.pair("esn=yes")
        one.initiate()
        self.established()
        self.assertEqual(self.transforms(), {("aes-gcm-16", 160, 0, True)})
        self.assert_traffic()
        one.whack("--name", "gw", "--terminate")
        self.gone()

    def test_aes_cbc_with_sha2(self):
        one, _ = self.pair("esn=no", phase2="aes256-sha2_256", esp="aes256-sha256")
        one.initiate()
        self.established()
        self.assertEqual(self.transforms(), {("aes-cbc", 256, 256, False)})
        self.assert_traffic()

    def test_certificates(self):
        make_certificates(self.lab)
        self.charon(local_id="gw2.example", remote_id="gw1.example", certificate="gw2.crt")
        one = self.add(libreswan.Libreswan(self.lab.gw1))
        one.import_certificate(self.lab.gw1.folder / "charon", "gw1")
        one.start(*libreswan.connection(GW1, GW2, LAN1, LAN2, certificate="gw1", local_id="@gw1.example",
                                        remote_id="@gw2.example", options=["rightca=%same"]))
        self.assertIn("authenticated peer", one.initiate())
        self.assertIn("ECDSA", one.log_text())
        self.established()
        self.assert_traffic()

    def test_charon_initiates(self):
        """and ends it: pluto would have its own back at once."""
        _, two = self.pair()
        two.initiate()
        self.established()
        self.assert_traffic()
        two.swanctl("--terminate", "--ike", "gw")
        self.gone()

    def test_forced_udp_encapsulation(self):
        """ESP in UDP on port 4500, as through a NAT."""
        one, _ = self.pair("encapsulation=yes", options="encap = yes\n mobike = no")
        one.initiate()
        self.established()
        self.assertTrue(all(sa["udp_encapsulation"] for sa in self.lab.gw1.associations()))
        self.assert_traffic(encapsulated=True)

    def test_example(self):
        """Deploy/examples/ike as it is: its addresses are the lab's."""
        names = {"local_id": "gw2.example", "remote_id": "gw1.example"}
        self.charon(esp="aes128gcm16-ecp256-esn", **names, options="proposals = aes256-sha256-prfsha256-ecp256")
        secrets = (EXAMPLES / "libreswan.secrets").read_text(encoding="ascii")
        one = self.add(libreswan.Libreswan(self.lab.gw1))
        one.start((EXAMPLES / "libreswan.conf").read_text(encoding="ascii"),
                  secrets.replace("change this secret", "a secret of the lab"))
        self.established()
        self.assert_traffic()

    def rekeyed_pair(self):
        one, two = self.pair(phase2="aes_gcm128-null-ecp_256", esp="aes128gcm16-ecp256-esn")
        one.initiate()
        self.established()
        self.assert_traffic()
        return one, two

    def streams(self):
        return Streams(self.lab, (self.lab.lan1, HOST1), (self.lab.lan2, HOST2), rate=RATE, seconds=SECONDS)

    def test_rekey_loses_nothing(self):
        """pluto has the CHILD SA replaced, and both the IKE SA, while numbered packets cross both ways."""
        one, two = self.rekeyed_pair()
        drops, inner = [self.lab.gw1.drops(), self.lab.gw2.drops()], self.lab.metered()["inner"]
        with self.streams() as streams:
            self.replaced(lambda: one.whack("--name", "gw", "--rekey-ipsec", "--asynchronous"))
            one.whack("--name", "gw", "--rekey-ike", "--asynchronous")
            wait_for(lambda: "rekeyed IKE SA #1" in one.log_text(), 30, "another IKE SA")
            two.swanctl("--rekey", "--ike", "gw")
            self.replaced(lambda: one.whack("--name", "gw", "--rekey-ipsec", "--asynchronous"))
            streams.check(self, drops)
        self.assertEqual(self.lab.metered()["inner"], inner, "inner packets in clear on the wire")

    def test_rekey_by_charon(self):
        """pluto uses the new SA as soon as it has answered, which may be before charon has read that answer: what comes
        to gw2 in between waits for it."""
        _, two = self.rekeyed_pair()
        drops, inner = [self.lab.gw1.drops(), self.lab.gw2.drops()], self.lab.metered()["inner"]
        with self.streams() as streams:
            self.replaced(lambda: two.swanctl("--rekey", "--child", "net"))
            streams.check(self, drops)
        self.assertEqual(self.lab.metered()["inner"], inner, "inner packets in clear on the wire")

    def replaced(self, rekey):
        """What `rekey` does ends with a new pair of SAs on both gateways and none of the old."""
        before = self.spis()
        rekey()
        for gateway in (self.lab.gw1, self.lab.gw2):
            wait_for(lambda: len(self.spis(gateway)) == 2 and not self.spis(gateway) & before, 30,
                     f"{gateway.name}: a new pair of SAs")

    def test_exit_takes_its_sas_along(self):
        one, _ = self.pair()
        one.initiate()
        self.established()
        self.assert_traffic()
        one.stop()
        self.gone()


@unittest.skipUnless(libreswan.PROGRAMS.exists(), "libreswan is not unpacked (Deploy/install-dependencies test)")
class LibreswanIPv6Test(KeyingTest):
    """IPv6 outside and inside."""

    lab_options = {"ipv6": True}
    far_host, near_host, family = HOST2_V6, HOST1_V6, "ip6"

    def check(self, inner, options=(), **settings):
        second = self.add(charon.Charon(self.lab.gw2)).start()
        second.load(charon.connection(GW2_V6, GW1_V6, inner[1], inner[0], **settings))
        one = self.add(libreswan.Libreswan(self.lab.gw1))
        one.start(*libreswan.connection(GW1_V6, GW2_V6, *inner, options=options))
        one.initiate()

    def test_ipv6(self):
        self.check((LAN1_V6, LAN2_V6))
        self.assert_traffic()

    def test_compressed_ipv4_in_ipv6(self):
        self.check((LAN1, LAN2), ["compress=yes"], child_options="ipcomp = yes")
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=1, timeout=1)[1] == 1, 20, "a first answer")
        self.assertEqual(ping(self.lab.lan2, HOST1, count=10, interval=0.05, timeout=3, size=1000), (10, 10))
        self.assertEqual({sa["protocol"] for sa in self.lab.gw1.associations()}, {"esp", "ipcomp"})
