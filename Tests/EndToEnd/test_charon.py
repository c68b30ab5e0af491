"""Keys from strongSwan's charon, unmodified: SAs and policies over the XFRM socket, IKE over the host path."""

import time

from keying import CharonPairTest
from lab.namespace import wait_for
from lab.topology import HOST2, ping


class CharonTest(CharonPairTest):
    def check_proposal(self, esp, **settings):
        one, _ = self.load(esp=esp, **settings)
        one.initiate()
        self.assert_traffic()

    def test_aes_gcm_with_esn(self):
        self.check_proposal("aes128gcm16-esn")

    def test_aes_256_gcm(self):
        self.check_proposal("aes256gcm16")

    def test_aes_cbc_sha2_256(self):
        self.check_proposal("aes256-sha256")

    def test_chacha20_poly1305(self):
        self.check_proposal("chacha20poly1305")

    def test_rekey_loses_nothing(self):
        one, _ = self.load(child_options="rekey_time = 3s\n life_time = 8s\n rand_time = 0s")
        one.initiate()
        self.assert_traffic()
        before = {sa["spi"] for sa in self.lab.gw1.associations()}
        sent, answered = ping(self.lab.lan1, HOST2, count=600, interval=0.02)
        self.assertEqual((sent, answered), (600, 600))
        self.assertFalse(before & {sa["spi"] for sa in self.lab.gw1.associations()}, "no SA was replaced")

    def test_trap_policy_acquires(self):
        self.load(child_options="start_action = trap")
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=1, timeout=1)[1] == 1, 15, "an answer through the tunnel")
        self.assert_traffic()

    def test_first_packets_wait_for_their_sa(self):
        """They are kept while the key daemon answers the ACQUIRE: the very first echo comes back."""
        # The lab's neighbours become known, so that nothing else is waited for.
        one, _ = self.load()
        one.initiate()
        self.assert_traffic()
        one.swanctl("--terminate", "--ike", "gw")
        wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw2.associations(), 15, "the SAs are gone")
        self.load(child_options="start_action = trap")
        self.assertFalse(self.lab.gw1.associations())
        before = self.lab.metered()
        self.assertEqual(ping(self.lab.lan1, HOST2, count=5, interval=0.05, timeout=10), (5, 5))
        self.assertEqual(self.lab.metered()["inner"], before["inner"], "inner packets in clear on the wire")

    def test_packets_that_wait_in_vain_are_counted(self):
        """The peer's daemon is dead: some packets are kept for a while, the others are too many; none is sent."""
        _, two = self.load(one={"child_options": "start_action = trap"})
        two.kill()
        before, drops = self.lab.metered(), self.lab.gw1.drops()
        self.assertEqual(ping(self.lab.lan1, HOST2, count=30, interval=0.02), (30, 0))

        def new(reason):
            return self.lab.gw1.drops().get(reason, 0) - drops.get(reason, 0)
        wait_for(lambda: new("sa_wait_timeout") + new("sa_queue_full") >= 30, 20, "all are dropped")
        self.assertEqual(new("sa_wait_timeout"), 16)
        after = self.lab.metered()
        for name in ("inner", "esp_1to2"):
            self.assertEqual(after[name], before[name], name)

    def test_terminate_closes_the_tunnel(self):
        one, _ = self.load()
        one.initiate()
        self.assert_traffic()
        one.swanctl("--terminate", "--ike", "gw")
        wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw2.associations(), 10, "the SAs are gone")

    def test_dead_peer_is_noticed(self):
        one, two = self.load()
        one.initiate()
        self.assert_traffic()
        two.kill()
        wait_for(lambda: "ESTABLISHED" not in one.swanctl("--list-sas").stdout, 40, "the peer's death is noticed",
                 interval=0.5)

    def test_usage_is_what_charon_sees(self):
        one, _ = self.load()
        one.initiate()
        self.assert_traffic(count=20)
        time.sleep(1.2)
        listing = one.swanctl("--list-sas").stdout
        self.assertIn("INSTALLED, TUNNEL, ESP", listing)
        self.assertRegex(listing, r"in +[0-9a-f]+.* +[0-9,]*[1-9][0-9,]* bytes, +[45][0-9] packets")
