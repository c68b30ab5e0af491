"""Tunnels as things of their own: up, rekeyed and down for a reason, with counts that outlive their SAs."""

import json
import time
import unittest

from keying import CharonPairTest
from lab.charon import Charon
from lab.namespace import CommandFailed, wait_for
from lab.topology import GW1, GW2, LAN1, LAN2, ping
from support import TwoGatewaysTest
from test_ike import NAME1, IKETest, eight_lines


def tunnels(gateway, *arguments):
    """By name."""
    return {tunnel["name"]: tunnel for tunnel in gateway.show("tunnels", *arguments)}


class RuleTunnelTest(IKETest):
    """An ike rule, keyed by charon."""

    def start(self, **options):
        for gateway in (self.lab.gw1, self.lab.gw2):
            self.add(Charon(gateway)).start()
        self.write(**options)
        self.load()

    def tunnel(self):
        return tunnels(self.lab.gw1)[NAME1]

    def wait_state(self, state, timeout=40):
        wait_for(lambda: self.tunnel()["state"] == state, timeout, f"the tunnel is {state}")
        return self.tunnel()

    def test_up_rekeyed_and_down(self):
        gw1 = self.lab.gw1
        began = time.time()
        self.start(mode="passive")
        waiting = self.tunnel()
        self.assertEqual((waiting["state"], waiting["origin"], waiting["configured"]), ("down", "ike", True))
        self.assertEqual(waiting["peer"], GW2)
        self.ike(gw1, "connect", NAME1, timeout=60)
        up = self.wait_state("up")
        self.assertTrue(began <= up["since"] <= time.time(), up)
        self.assertEqual((up["comings"], up["rekeys"]), (1, 0))
        self.assertEqual(sorted(sa["inbound"] for sa in up["sas"]), [False, True])
        self.assertEqual({sa["spi"] for sa in up["sas"]}, self.spis(gw1))
        for sa in up["sas"]:
            # The rule's 1200 s of lifetime, rekeyed somewhat earlier.
            self.assertTrue(900 < sa["next_rekey"] - sa["created"] < 1200, sa)

        self.assert_traffic()
        counted = self.tunnel()
        self.assertGreaterEqual(counted["sent"]["packets"], 20)
        self.assertGreaterEqual(counted["received"]["packets"], 20)
        before = self.spis(gw1)
        self.ike(gw1, "rekey", NAME1)
        wait_for(lambda: self.spis(gw1) and not before & self.spis(gw1), 20, "the child SA is replaced")
        self.assert_traffic()
        rekeyed = self.tunnel()
        self.assertEqual((rekeyed["state"], rekeyed["since"], rekeyed["rekeys"]), ("up", up["since"], 1))
        self.assertGreaterEqual(rekeyed["last_rekey"], up["since"])
        for way in ("sent", "received"):
            self.assertGreaterEqual(rekeyed[way]["packets"], counted[way]["packets"] + 20)
            self.assertGreaterEqual(rekeyed[way]["bytes"], rekeyed[way]["packets"] * 28)

        self.ike(gw1, "teardown", NAME1)
        down = self.wait_state("down")
        self.assertIn("torn down", down["reason"])
        self.assertEqual(down["sas"], [])
        self.assertGreaterEqual(down["sent"]["packets"], rekeyed["sent"]["packets"])
        self.ike(gw1, "initiate", NAME1, timeout=60)
        self.assertEqual(self.wait_state("up")["comings"], 2)

        text = gw1.gwctl("show", "tunnels").stdout
        self.assertRegex(text, f"{NAME1} +up +00:00:[0-9]+ +{GW2} ")
        whole = gw1.gwctl("show", "tunnels", NAME1).stdout
        for part in ("up for 00:00:", f"{LAN1} to {LAN2}", "rekey in", "in  esp 0x", "out esp 0x", "10 s: in "):
            self.assertIn(part, whole)
        self.assertIn("tunnels        1 up", gw1.gwctl("status").stdout)
        self.assertRegex(gw1.log_text(), f"tunnel {NAME1} to {GW2}: up")
        missing = gw1.gwctl("show", "tunnels", "nobody", check=False)
        self.assertEqual((missing.returncode, missing.stderr), (1, "gwctl: no tunnel is called nobody\n"))

    def test_down_by_the_death_of_the_peer(self):
        self.start(mode="dynamic", options="srcid {local} dstid {remote}")
        self.wait_state("up")
        self.daemons[1].kill()
        # Asked whether it lives every 5 s, and again after 1, 1.8 and 3.2 s.
        down = self.wait_state("down", 60)
        self.assertRegex(down["reason"], "giving up|retransmit|peer")
        self.assertIn("down", self.ike(self.lab.gw1, "status").stdout)
        self.daemons[1].start()
        self.wait_state("up", 60)

    def test_down_by_what_the_peer_does_not_take(self):
        gw1, gw2 = self.lab.gw1, self.lab.gw2
        for gateway in (gw1, gw2):
            self.add(Charon(gateway)).start()
        gw1.write_ipsec([eight_lines(GW1, GW2, LAN1, LAN2, quick="quick enc aes-256-gcm group modp2048")])
        gw2.write_ipsec([eight_lines(GW2, GW1, LAN2, LAN1, mode="passive")])
        self.load()
        wait_for(lambda: "NO_PROPOSAL_CHOSEN" in (self.tunnel().get("reason") or ""), 20, "the peer's refusal is told")
        self.assertEqual(self.tunnel()["state"], "down")


class LifetimeTunnelTest(RuleTunnelTest):
    """SAs that stay when their key daemon goes end with their lifetime."""

    lab_options = {"settings": {"on-ike-exit": "keep"}}
    test_up_rekeyed_and_down = test_down_by_the_death_of_the_peer = test_down_by_what_the_peer_does_not_take = None

    def test_down_as_nobody_rekeys(self):
        self.start(mode="passive", quick="quick enc aes-128-gcm group modp2048 lifetime 15",
                   options="srcid {local} dstid {remote}")
        self.ike(self.lab.gw1, "connect", NAME1, timeout=60)
        self.wait_state("up")
        for daemon in self.daemons:
            daemon.kill()
        self.assertEqual(self.wait_state("down", 40)["reason"], "the lifetime of its SAs ended")


class DaemonTunnelTest(CharonPairTest):
    """Connections of charon's own are called what charon calls them, and remembered when they are gone."""

    def test_named_and_remembered(self):
        gw1 = self.lab.gw1
        self.load()
        self.charons[0].initiate()
        wait_for(lambda: "gw/net" in tunnels(gw1), 20, "the tunnel has the connection's name")
        self.assert_traffic()
        tunnel = tunnels(gw1)["gw/net"]
        self.assertEqual((tunnel["state"], tunnel["origin"], tunnel["configured"]), ("up", "key_daemon", True))
        self.charons[0].swanctl("--terminate", "--ike", "gw")
        wait_for(lambda: tunnels(gw1)["gw/net"]["state"] == "down", 20, "the tunnel is down")
        gone = tunnels(gw1)["gw/net"]
        self.assertFalse(gone["configured"])
        self.assertGreaterEqual(gone["sent"]["packets"], tunnel["sent"]["packets"])
        self.charons[0].initiate()
        wait_for(lambda: tunnels(gw1)["gw/net"]["state"] == "up", 20, "the tunnel is up again")
        self.assertEqual(tunnels(gw1)["gw/net"]["comings"], tunnel["comings"] + 1)

    def test_what_the_daemon_tells_of_sas(self):
        """Identities, flows and remote_auth, which the key socket does not carry, as the mission's listing has them."""
        gw1 = self.lab.gw1
        self.load()
        self.charons[0].initiate()
        wait_for(lambda: "remote_auth" in gw1.gwctl("show", "sa", "-vv").stdout, 20, "charon was heard")
        text = gw1.gwctl("show", "sa", "-vv").stdout
        for source, destination, way, near, far in ((GW1, GW2, "out", LAN1, LAN2), (GW2, GW1, "in", LAN2, LAN1)):
            part = text[text.index(f"\taddress_src: {source}\n"):]
            self.assertRegex(part, f"""\taddress_src: {source}
\taddress_dst: {destination}
\tidentity_src: type prefix id 0: {source}/32
\tidentity_dst: type prefix id 0: {destination}/32
\tsrc_mask: 255.255.255.0
\tdst_mask: 255.255.255.0
\tprotocol: proto 0 flags 0
\tflow_type: type use direction {way}
\tsrc_flow: {near.split('/')[0]}
\tdst_flow: {far.split('/')[0]}
\tremote_auth: type passphrase
""")

    def test_log(self):
        gw1 = self.lab.gw1
        self.load()
        self.charons[0].initiate()
        wait_for(lambda: "gw/net" in tunnels(gw1), 20, "the tunnel has the connection's name")
        self.charons[0].swanctl("--terminate", "--ike", "gw")
        wait_for(lambda: "gw/net" in gw1.gwctl("log", "--tunnel", "gw/net").stdout, 10, "the log tells of the tunnel")
        self.assertRegex(gw1.gwctl("log", "--since", "1m", "--tunnel", "gw/net").stdout,
                         rf"[0-9T:-]+Z notice: tunnel gw/net to {GW2}: down: ")
        self.assertRegex(gw1.log_text(), r"(?m)^20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:.]{12} info: gwd .* runs")
        self.assertNotRegex(gw1.log_text(), "libbpf|libxdp|EAL:")


class StaticTunnelTest(TwoGatewaysTest):
    """Flows with static keys."""

    def test_static_and_filters(self):
        gw1 = self.lab.gw1
        ping(self.lab.lan1, "172.20.1.10", count=5, interval=0.1)
        every = tunnels(gw1)
        self.assertEqual(len(every), 4, "a tunnel for each flow")
        self.assertEqual({tunnel["state"] for tunnel in every.values()}, {"static"})
        self.assertGreaterEqual(every[NAME1]["sent"]["packets"], 5)
        self.assertGreaterEqual(every[NAME1]["received"]["packets"], 5)
        self.assertEqual(list(tunnels(gw1, "--sort", "rate", "-n", "1")), [NAME1])
        self.assertEqual(tunnels(gw1, "--state", "down"), {})
        self.assertEqual(len(tunnels(gw1, "--filter", "192.168.60.0/24-TO")), 2)
        with self.assertRaises(CommandFailed):
            gw1.gwctl("show", "tunnels", "--state", "sideways")
        gw1.gwctl("flush", "sa")
        flushed = tunnels(gw1)[NAME1]
        self.assertEqual((flushed["state"], flushed["reason"]), ("down", "flushed by gwctl"))
        self.assertGreaterEqual(flushed["sent"]["packets"], 5)
        gw1.gwctl("load", gw1.ipsec)
        self.assertEqual(tunnels(gw1)[NAME1]["state"], "static")

    def test_events(self):
        gw1 = self.lab.gw1
        monitor = gw1.space.popen(*self.gwctl_words("monitor", "--json"), stdout=-1, text=True)
        self.addCleanup(monitor.kill)
        time.sleep(1)
        gw1.gwctl("flush", "sa")
        said = []
        while not any(event["event"] == "tunnel" for event in said):
            said.append(json.loads(monitor.stdout.readline()))
        change = said[-1]["tunnel"]
        self.assertEqual((change["state"], change["reason"]), ("down", "flushed by gwctl"))
        gw1.gwctl("load", gw1.ipsec)

    def gwctl_words(self, *words):
        from lab.gateway import program
        return [program("gwctl"), *words, "--run-dir", self.lab.gw1.run_dir]


if __name__ == "__main__":
    unittest.main()
