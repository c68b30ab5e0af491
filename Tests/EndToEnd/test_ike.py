"""ike rules of ipsec.conf: the gateway gives them to charon or iked, and gwctl ike is the operator's view of either."""

import json
import time

from lab.charon import Charon
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST1, HOST2, LAN1, LAN2, TwoGateways, ping
from support import EndToEndTest

NAME1 = f"from-{LAN1}-to-{LAN2}"


def eight_lines(local, remote, local_net, remote_net, options="", mode="", quick="quick enc aes-128-gcm group modp2048"):
    """The mission's example, keyed by IKE: ipsec.conf of one side."""
    return f"""\
local_gw = "{local}"
local_net = "{local_net}"
remote_gw = "{remote}"
remote_net = "{remote_net}"
ike {mode} esp from $local_net to $remote_net peer $remote_gw \\
\tmain auth hmac-sha2-256 enc aes-256 group modp2048 \\
\t{quick} {options} \\
\tpsk "a secret of the lab"
"""


class IKERulesTest(EndToEndTest):
    """Two gateways; each test writes their ipsec.conf and brings the daemons when it wants them."""

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways(settings={"on-ike-exit": "flush"})
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        cls.lab.gw1.start(wait=False)
        cls.lab.gw2.start(wait=False)
        cls.lab.gw1.wait_ready()
        cls.lab.gw2.wait_ready()

    def setUp(self):
        self.daemons = []

    def tearDown(self):
        for gateway in (self.lab.gw1, self.lab.gw2):
            gateway.write_ipsec([])
            gateway.gwctl("load", gateway.ipsec)
            gateway.gwctl("flush")

    def start_charons(self):
        self.daemons = [Charon(self.lab.gw1), Charon(self.lab.gw2)]
        for daemon in self.daemons:
            self.addCleanup(daemon.stop)
            daemon.start()

    def write(self, **options):
        self.lab.gw1.write_ipsec([eight_lines(GW1, GW2, LAN1, LAN2, **options)])
        self.lab.gw2.write_ipsec([eight_lines(GW2, GW1, LAN2, LAN1, **options)])

    def load(self):
        return [gateway.gwctl("load", gateway.ipsec) for gateway in (self.lab.gw1, self.lab.gw2)]

    def ike(self, gateway, *words, **options):
        return gateway.gwctl("ike", *words, **options)

    def report(self, gateway):
        return json.loads(self.ike(gateway, "report", "--json").stdout)

    def established(self, timeout=40):
        wait_for(lambda: all(len([sa for sa in gateway.associations() if sa["state"] == "mature"]) >= 2
                             for gateway in (self.lab.gw1, self.lab.gw2)), timeout, "SAs on both gateways")

    def assert_traffic(self, count=10):
        before = self.lab.metered()
        # The first packets may wait for neighbours that a new lab does not know.
        ping(self.lab.lan1, HOST2, count=1, timeout=2)
        self.assertEqual(ping(self.lab.lan1, HOST2, count=count, interval=0.05), (count, count))
        self.assertEqual(ping(self.lab.lan2, HOST1, count=count, interval=0.05), (count, count))
        after = self.lab.metered()
        self.assertEqual(after["inner"], before["inner"], "inner packets in clear on the wire")
        self.assertGreaterEqual(after["esp_1to2"] - before["esp_1to2"], 2 * count)

    def check(self, body):
        try:
            body()
        except Exception as error:
            for daemon in self.daemons:
                error.add_note(daemon.log_tail())
            raise

    def test_tunnel_out_of_eight_lines(self):
        def body():
            self.start_charons()
            self.write()
            self.load()
            self.established()
            self.assert_traffic()
        self.check(body)

    def test_charon_comes_later(self):
        def body():
            self.write()
            for done in self.load():
                self.assertIn("kept until the key daemon comes", done.stderr)
            self.start_charons()
            self.established()
            self.assert_traffic()
        self.check(body)

    def test_hang_up_and_delete(self):
        def body():
            self.start_charons()
            self.write()
            for gateway in (self.lab.gw1, self.lab.gw2):
                gateway.hang_up()
            self.established()
            self.assert_traffic()
            self.lab.gw1.gwctl("delete", self.lab.gw1.ipsec)
            for gateway in (self.lab.gw1, self.lab.gw2):
                wait_for(lambda g=gateway: not g.associations(), 15, "the SAs are gone")
            wait_for(lambda: not self.lab.gw1.show("flow"), 15, "the flows are gone")
            self.assertNotIn("peer-", self.daemons[0].swanctl("--list-conns").stdout)
            again = self.lab.gw1.gwctl("delete", self.lab.gw1.ipsec, check=False)
            self.assertEqual(again.returncode, 1)
            self.assertIn("no such ike rule is loaded", again.stderr)
        self.check(body)
