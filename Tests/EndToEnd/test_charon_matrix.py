"""charon with charon in every way that the documentation names: certificates, proposals, transport mode, NAT, IPv6,
start and close actions, a peer's death."""

import os
import socket
import struct

from keying import CharonPairTest, make_certificates
from lab.capture import Capture, count_packets
from lab.namespace import wait_for
from lab.topology import (GW1, GW1_V6, GW2, GW2_V6, HOST1_V6, HOST2_V6, LAN1, LAN1_V6, LAN2, LAN2_V6, ROUTER2,
                          ping)


class CharonMatrixTest(CharonPairTest):
    def test_proposals(self):
        """What was proposed is what charon says and what the gateway uses."""
        cases = [
            ("aes128gcm16-esn", "AES_GCM_16-128/ESN", ("aes-gcm-16", 160, 0, True)),
            ("aes256gcm16", "AES_GCM_16-256", ("aes-gcm-16", 288, 0, False)),
            ("aes128-sha256", "AES_CBC-128/HMAC_SHA2_256_128", ("aes-cbc", 128, 256, False)),
            ("aes256-sha256-esn", "AES_CBC-256/HMAC_SHA2_256_128/ESN", ("aes-cbc", 256, 256, True)),
            ("aes256-sha512", "AES_CBC-256/HMAC_SHA2_512_256", ("aes-cbc", 256, 512, False)),
            ("chacha20poly1305", "CHACHA20_POLY1305", ("chacha20-poly1305", 288, 0, False)),
            ("chacha20poly1305-esn", "CHACHA20_POLY1305/ESN", ("chacha20-poly1305", 288, 0, True)),
        ]
        one, two = self.charons
        for esp, shown, installed in cases:
            with self.subTest(esp):
                self.load(esp=esp)
                one.initiate()
                for charon in (one, two):
                    self.assertIn(shown, charon.swanctl("--list-sas").stdout)
                for gateway in (self.lab.gw1, self.lab.gw2):
                    self.assertEqual({transform(sa) for sa in gateway.associations()}, {installed})
                self.assert_traffic()
                one.swanctl("--terminate", "--ike", "gw")
                wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw2.associations(), 15,
                         "the SAs are gone")

    def test_certificates(self):
        make_certificates(self.lab)
        one, two = self.charons
        self.load(one={"local_id": "gw1.example", "remote_id": "gw2.example", "certificate": "gw1.crt"},
                  two={"local_id": "gw2.example", "remote_id": "gw1.example", "certificate": "gw2.crt"})
        one.initiate()
        self.assertIn("'gw2.example' @", one.swanctl("--list-sas").stdout)
        self.assertIn("authentication of 'gw1.example' with ECDSA", two.log_text())
        self.assert_traffic()

    def test_certificate_of_another_authority_is_refused(self):
        make_certificates(self.lab)
        make_certificates(self.lab, only="gw1")
        one, _ = self.load(
            one={"local_id": "gw1.example", "remote_id": "gw2.example", "certificate": "gw1.crt"},
            two={"local_id": "gw2.example", "remote_id": "gw1.example", "certificate": "gw2.crt"})
        self.assertNotEqual(one.swanctl("--initiate", "--child", "net", "--timeout", 10, check=False).returncode, 0)
        self.assertEqual(self.lab.gw2.associations(), [])
        before = self.lab.metered()
        self.assertEqual(ping(self.lab.lan1, self.far_host, count=2)[1], 0)
        self.assertEqual(self.lab.metered()["esp_1to2"], before["esp_1to2"])

    def test_transport_mode(self):
        """Between the gateways themselves: their kernels' packets, by way of the TAPs."""
        one, _ = self.load(mode="transport", one={"local_ts": GW1, "remote_ts": GW2},
                           two={"local_ts": GW2, "remote_ts": GW1})
        one.initiate()
        self.assertIn("TRANSPORT", one.swanctl("--list-sas").stdout)
        self.assertEqual({sa["mode"] for sa in self.lab.gw1.associations()}, {"transport"})
        with Capture(self.lab.inet, "to-gw1", self.lab.folder / "transport.pcap") as capture:
            near, far = self.lab.gw1.space, self.lab.gw2.space
            self.assertEqual(ping(near, GW2, count=10, interval=0.05, timeout=3), (10, 10))
            self.assertEqual(ping(far, GW1, count=10, interval=0.05, timeout=3), (10, 10))
        self.assertGreaterEqual(count_packets(capture.path, "esp"), 40)
        self.assertEqual(count_packets(capture.path, "icmp"), 0, "echoes in clear")

    def test_start_action(self):
        self.load(one={"child_options": "start_action = start"})
        wait_for(lambda: self.lab.gw1.associations() and self.lab.gw2.associations(), 20, "the child is started")
        self.assert_traffic()

    def test_close_action_starts_again(self):
        """gw2 closes the child; gw1 has it back at once."""
        one, two = self.load(one={"child_options": "close_action = start"})
        one.initiate()
        self.assert_traffic()
        before = self.spis()
        two.swanctl("--terminate", "--child", "net")
        wait_for(lambda: self.spis() and not self.spis() & before, 20, "another pair of SAs")
        self.assert_traffic()

    def test_close_action_traps(self):
        one, two = self.load(one={"child_options": "close_action = trap"})
        one.initiate()
        self.assert_traffic()
        before = self.spis()
        two.swanctl("--terminate", "--child", "net")
        wait_for(lambda: not self.spis() & before, 20, "the SAs are gone")
        wait_for(lambda: ping(self.lab.lan1, self.far_host, count=1, timeout=1)[1] == 1, 20, "the trap's answer")
        self.assert_traffic()

    def test_dead_peer_clears(self):
        one, two = self.load(child_options="dpd_action = clear")
        one.initiate()
        self.assert_traffic()
        two.kill()
        wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw1.show("flow"), 60,
                 "SAs and policies are gone", interval=0.5)
        self.assertIn("giving up after", one.log_text())

    def test_dead_peer_restarts(self):
        """gw2's charon dies and another takes its place: gw1 has a new pair with it."""
        one, two = self.load(one={"child_options": "dpd_action = restart"})
        one.initiate()
        self.assert_traffic()
        before = self.spis()
        two.kill()
        two.start()
        self.load(one={"child_options": "dpd_action = restart"})
        wait_for(lambda: len(self.spis()) == 2 and not self.spis() & before, 60, "another pair of SAs", interval=0.5)
        self.assert_traffic()


class CharonIPv6Test(CharonPairTest):
    """IPv6 outside, inside, and each over the other."""

    lab_options = {"ipv6": True}

    def check(self, outer, inner, **settings):
        one = {"local": GW1_V6 if outer == 6 else GW1, "remote": GW2_V6 if outer == 6 else GW2,
               "local_ts": LAN1_V6 if inner == 6 else LAN1, "remote_ts": LAN2_V6 if inner == 6 else LAN2}
        two = {"local": one["remote"], "remote": one["local"], "local_ts": one["remote_ts"],
               "remote_ts": one["local_ts"]}
        first, _ = self.load(one=one, two=two, **settings)
        first.initiate()
        near, far = (HOST1_V6, HOST2_V6) if inner == 6 else (self.near_host, self.far_host)
        lab, wire = self.lab, "ip6" if outer == 6 else "ip"
        ping(lab.lan1, far, count=2, timeout=3)
        before = {family: lab.metered(family) for family in ("ip", "ip6")}
        self.assertEqual(ping(lab.lan1, far, count=10, interval=0.05, timeout=3), (10, 10))
        self.assertEqual(ping(lab.lan2, near, count=10, interval=0.05, timeout=3), (10, 10))
        # Larger than fits one outer packet: fragments, or a path MTU that is learned.
        self.assertEqual(ping(lab.lan1, far, count=5, interval=0.05, timeout=3, size=1300), (5, 5))
        for family in ("ip", "ip6"):
            self.assertEqual(lab.metered(family)["inner"], before[family]["inner"], "inner packets in clear")
        for name in ("esp_1to2", "esp_2to1"):
            self.assertGreaterEqual(lab.metered(wire)[name] - before[wire][name], 25)

    def test_ipv6_in_ipv6(self):
        self.check(6, 6)

    def test_ipv4_in_ipv6(self):
        self.check(6, 4)

    def test_compressed(self):
        """IPComp makes the tunnel then, and ESP in transport mode is of the tunnel's family."""
        for outer, inner in ((4, 4), (6, 4), (4, 6)):
            with self.subTest(f"IPv{inner} in IPv{outer}"):
                self.check(outer, inner, child_options="ipcomp = yes")
                # SPI and CPI.
                self.assertRegex(self.charons[0].swanctl("--list-sas").stdout, "in  [0-9a-f]{8}/[0-9a-f]{4},")
                self.assertEqual({sa["protocol"] for sa in self.lab.gw1.associations()}, {"esp", "ipcomp"})
                self.charons[0].swanctl("--terminate", "--ike", "gw")

    def test_ipv6_in_ipv4(self):
        self.check(4, 6)


class CharonNATTest(CharonPairTest):
    """gw1 behind a NAT: the network between the gateways translates what it sends to gw2."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.translate, "")
        self.translate("masquerade")

    def translate(self, action):
        """nftables' NAT for what gw1 sends, and nothing known from before."""
        inet = self.lab.inet
        inet.run("nft", "add", "table", "ip", "nat")
        inet.run("nft", "delete", "table", "ip", "nat")
        if action:
            inet.run("nft", "-f", "-", stdin=f"""
                table ip nat {{
                  chain postrouting {{
                    type nat hook postrouting priority srcnat;
                    ip saddr {GW1} oifname "to-gw2" meta l4proto udp {action}
                  }}
                }}
                """)
        forget_connections(inet)

    def connect(self):
        """gw2 does not know where gw1 is."""
        one, two = self.load(two={"remote": "%any", "remote_id": GW1}, options="mobike = no")
        one.initiate()
        for charon in (one, two):
            self.assertIn("ESP in UDP", charon.swanctl("--list-sas").stdout.replace("TUNNEL-in-UDP, ESP", "ESP in UDP"))
        return one, two

    def test_nat_traversal(self):
        self.connect()
        with Capture(self.lab.inet, "to-gw2", self.lab.folder / "nat.pcap") as capture:
            self.assert_traffic(encapsulated=True)
        self.assertGreaterEqual(count_packets(capture.path, f"udp.port == 4500 and esp and ip.src == {ROUTER2}"), 20)
        self.assertEqual(count_packets(capture.path, f"ip.src == {GW1}"), 0, "untranslated packets")
        # The gateway behind the NAT knows itself by its own address, its peer by the translated one.
        self.assertEqual({sa["source"] for sa in self.lab.gw2.associations()}, {ROUTER2, GW2})

    def test_mapping_changes(self):
        """The NAT forgets gw1 and gives it another port: its next packet tells gw2, which follows (MAPPING)."""
        _, two = self.connect()
        self.assert_traffic(encapsulated=True)
        for ports in ("31000-31999", "32000-32999"):
            self.translate(f"masquerade to :{ports}")
            low, high = map(int, ports.split("-"))
            ping(self.lab.lan1, self.far_host, count=2, timeout=1)
            wait_for(lambda: any(low <= sa["udp_encapsulation"]["source_port"] <= high
                                 for sa in self.lab.gw2.associations() if sa["source"] == ROUTER2),
                     20, f"gw2 knows that gw1 is behind one of {ports}")
            self.assert_traffic(encapsulated=True)
        self.assertIn("NAT mappings", two.log_text())


def transform(sa):
    """Encryption, its key's bits (with the salt), authentication's, ESN."""
    used = sa["transform"]
    return (used["encryption"], used["encryption_key_bits"], used["authentication_key_bits"],
            sa["extended_sequence_numbers"])


def forget_connections(space):
    """Empties the namespace's connection tracking: IPCTNL_MSG_CT_DELETE without a tuple."""
    with space.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        message = struct.pack("=IHHIIBBH", 20, (1 << 8) | 2, 0x5, 1, 0, socket.AF_INET, 0, 0)
        netlink.send(message)
        code = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))
