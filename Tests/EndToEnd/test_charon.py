"""Keys from strongSwan's charon, unmodified: SAs and policies over the XFRM socket, IKE over the host path."""

import time

from lab.charon import Charon, connection
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST1, HOST2, LAN1, LAN2, TwoGateways, ping
from support import EndToEndTest


class CharonTest(EndToEndTest):
    """Two gateways without rules of their own, a charon on each; every test brings its connection."""

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways()
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        cls.lab.gw1.start(wait=False)
        cls.lab.gw2.start(wait=False)
        cls.lab.gw1.wait_ready()
        cls.lab.gw2.wait_ready()

    def setUp(self):
        self.charons = []
        for gateway in (self.lab.gw1, self.lab.gw2):
            gateway.gwctl("flush")
            charon = Charon(gateway)
            self.charons.append(charon)
            self.addCleanup(charon.stop)
            charon.start()

    def load(self, **settings):
        one, two = self.charons
        one.load(connection(GW1, GW2, LAN1, LAN2, **settings))
        two.load(connection(GW2, GW1, LAN2, LAN1, **settings))
        return one, two

    def assert_traffic(self, count=10):
        before = self.lab.metered()
        # The first packets may wait for neighbours that a new lab does not know.
        ping(self.lab.lan1, HOST2, count=1, timeout=2)
        self.assertEqual(ping(self.lab.lan1, HOST2, count=count, interval=0.05), (count, count))
        after = self.lab.metered()
        self.assertEqual(after["inner"], before["inner"], "inner packets in clear on the wire")
        self.assertGreaterEqual(after["esp_1to2"] - before["esp_1to2"], count)

    def logs(self):
        return "\n".join(charon.log_tail() for charon in self.charons)

    def check(self, body):
        try:
            body()
        except Exception as error:
            error.add_note(self.logs())
            raise

    def check_proposal(self, esp, **settings):
        def body():
            one, _ = self.load(esp=esp, **settings)
            one.initiate()
            self.assert_traffic()
        self.check(body)

    def test_aes_gcm_with_esn(self):
        self.check_proposal("aes128gcm16-esn")

    def test_aes_256_gcm(self):
        self.check_proposal("aes256gcm16")

    def test_aes_cbc_sha2_256(self):
        self.check_proposal("aes256-sha256")

    def test_chacha20_poly1305(self):
        self.check_proposal("chacha20poly1305")

    def test_rekey_loses_nothing(self):
        def body():
            one, _ = self.load(child_options="rekey_time = 3s\n life_time = 8s\n rand_time = 0s")
            one.initiate()
            self.assert_traffic()
            before = {sa["spi"] for sa in self.lab.gw1.associations()}
            sent, answered = ping(self.lab.lan1, HOST2, count=600, interval=0.02)
            self.assertEqual((sent, answered), (600, 600))
            self.assertFalse(before & {sa["spi"] for sa in self.lab.gw1.associations()}, "no SA was replaced")
        self.check(body)

    def test_trap_policy_acquires(self):
        def body():
            self.load(child_options="start_action = trap")
            wait_for(lambda: ping(self.lab.lan1, HOST2, count=1, timeout=1)[1] == 1, 15, "an answer through the tunnel")
            self.assert_traffic()
        self.check(body)

    def test_terminate_closes_the_tunnel(self):
        def body():
            one, _ = self.load()
            one.initiate()
            self.assert_traffic()
            one.swanctl("--terminate", "--ike", "gw")
            wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw2.associations(), 10, "the SAs are gone")
        self.check(body)

    def test_dead_peer_is_noticed(self):
        def body():
            one, two = self.load()
            one.initiate()
            self.assert_traffic()
            two.kill()
            wait_for(lambda: "ESTABLISHED" not in one.swanctl("--list-sas").stdout, 40, "the peer's death is noticed",
                     interval=0.5)
        self.check(body)

    def test_usage_is_what_charon_sees(self):
        def body():
            one, _ = self.load()
            one.initiate()
            self.assert_traffic(count=20)
            time.sleep(1.2)
            listing = one.swanctl("--list-sas").stdout
            self.assertIn("INSTALLED, TUNNEL, ESP", listing)
            self.assertRegex(listing, r"in +[0-9a-f]+.* +[0-9,]*[1-9][0-9,]* bytes, +2[0-9] packets")
        self.check(body)
