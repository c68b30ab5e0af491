"""Hostile input on the untrusted side: each kind has its own counter, nothing crashes, traffic goes on."""

import os
import random

from espcraft import Sealer, ipv4, udp
from lab.gateway import StaticSA
from lab.topology import GW1, HOST1, HOST2, LAN1, ROUTER1, ping
from support import TwoGatewaysTest

REMOTE, REMOTE_NET = "10.9.9.9", "10.9.9.0/24"


class Hostile(TwoGatewaysTest):
    """The internet's router plays a second peer of gw1 with an SA pair of its own, so that it can sign what it sends."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        cls.sa = StaticSA(GW1, ROUTER1, 0x10001, 0x10002)
        flow = f"flow esp from {LAN1} to {REMOTE_NET} peer {ROUTER1}\n"
        lab.gw1.write_ipsec([lab.flows()[0], flow], [lab.sa, cls.sa])
        lab.gw1.gwctl("load", lab.gw1.ipsec)

    def setUp(self):
        self.sealer = Sealer(ROUTER1, GW1, self.sa.spi_in, self.sa.enckey_in, self.sa.authkey_in)
        self.sealer.sequence = self.lab.gw1.sa(self.sa.spi_in)["sequence"]
        self.wire = self.lab.inet.packet_socket("to-gw1")
        self.addCleanup(self.wire.close)
        ping(self.lab.inet, GW1, count=1)
        self.gateway_mac = bytes.fromhex(self.lab.gw1.space.mac("p-wan").replace(":", ""))
        self.own_mac = bytes.fromhex(self.lab.inet.mac("to-gw1").replace(":", ""))

    def tearDown(self):
        """Whatever the test did: the gateway lives and both tunnels carry traffic."""
        self.assertTrue(self.lab.gw1.is_running, self.lab.gw1.log_tail())
        self.assertEqual(ping(self.lab.lan1, HOST2, count=3, interval=0.05), (3, 3))
        self.expect_delivery(self.sealer.seal(self.inner()))

    def inner(self, source=REMOTE, destination=HOST1, size=64):
        return ipv4(source, destination, 17, udp(9, 7777, os.urandom(size)))

    def send(self, packet, kind=b"\x08\x00"):
        self.wire.send(self.gateway_mac + self.own_mac + kind + packet)

    def expect_delivery(self, packet):
        receiver = self.lab.lan1.udp_socket(HOST1, 7777)
        try:
            self.send(packet)
            self.assertTrue(receiver.recv(65536))
        finally:
            receiver.close()

    def expect_drop(self, packets, *reasons):
        """All packets are dropped, all under these reasons."""
        def count():
            drops = self.lab.gw1.drops()
            return sum(drops.get(reason, 0) for reason in reasons)
        before, everything = count(), self.lab.gw1.drops()
        for packet in packets:
            self.send(packet)
        try:
            self.lab.gw1.wait_counter(count, before + len(packets))
        except Exception as error:
            now = self.lab.gw1.drops()
            changed = {reason: now[reason] - everything.get(reason, 0) for reason in now
                       if now[reason] != everything.get(reason, 0)}
            raise self.failureException(f"expected {len(packets)} under {reasons}, counted {changed}") from error
        self.assertEqual(count(), before + len(packets))

    def test_good_packet(self):
        self.expect_delivery(self.sealer.seal(self.inner()))

    def test_truncated(self):
        whole = self.sealer.seal(self.inner())
        for length in (0, 1, 4, 8, 12, 24, 30):
            with self.subTest(esp_bytes=length):
                self.expect_drop([ipv4(ROUTER1, GW1, 50, whole[20:20 + length])], "esp_too_short", "esp_alignment")

    def test_cut_in_the_middle(self):
        whole = self.sealer.seal(self.inner(size=200))
        self.expect_drop([ipv4(ROUTER1, GW1, 50, whole[20:-16]), ipv4(ROUTER1, GW1, 50, whole[20:-32])], "integrity")

    def test_unknown_spi(self):
        self.expect_drop([self.sealer.seal(self.inner(), spi=spi) for spi in (1, 0x777, 0xFFFFFFFF, 0x10001)], "no_sa")

    def test_wrong_icv(self):
        self.expect_drop([self.sealer.seal(self.inner(), spoil_icv=True) for _ in range(5)], "integrity")
        # The window did not move for what did not authenticate.
        self.sealer.sequence -= 5
        self.expect_delivery(self.sealer.seal(self.inner()))

    def test_forged_far_sequence_does_not_move_the_window(self):
        sequence = self.sealer.sequence
        self.expect_drop([self.sealer.seal(self.inner(), sequence=sequence + 100_000, spoil_icv=True)], "integrity")
        self.sealer.sequence = sequence
        self.expect_delivery(self.sealer.seal(self.inner()))

    def test_replayed(self):
        packet = self.sealer.seal(self.inner())
        self.expect_delivery(packet)
        self.expect_drop([packet] * 5, "replay_duplicate")

    def test_too_old(self):
        old = [self.sealer.seal(self.inner()) for _ in range(3)]
        self.sealer.sequence += 5000
        self.expect_delivery(self.sealer.seal(self.inner()))
        self.expect_drop(old, "replay_too_old")

    def test_late_but_inside_the_window(self):
        late = self.sealer.seal(self.inner())
        for _ in range(20):
            newest = self.sealer.seal(self.inner())
        self.expect_delivery(newest)
        self.expect_delivery(late)

    def test_sequence_zero(self):
        self.expect_drop([self.sealer.seal(self.inner(), sequence=0)], "esp_sequence_zero")

    def test_wrong_padding(self):
        inner = self.inner(size=60)
        room = -(len(inner) + 2) % 16
        self.assertGreater(room, 2)
        wrong = bytes(range(1, room)) + b"\xff"
        self.expect_drop([self.sealer.seal(inner, padding=wrong), self.sealer.seal(inner, padding=bytes(room)),
                          self.sealer.seal(inner, pad_length=255)], "esp_padding")

    def test_wrong_padding_where_any_is_taken(self):
        gateway, inner = self.lab.gw1, self.inner(size=60)
        room = -(len(inner) + 2) % 16

        def undo():
            del gateway.settings["esp-padding"]
            gateway.write_config()
            gateway.gwctl("reload")

        gateway.settings["esp-padding"] = "any"
        self.addCleanup(undo)
        gateway.write_config()
        gateway.gwctl("reload")
        self.expect_delivery(self.sealer.seal(inner, padding=bytes(room)))
        self.expect_delivery(self.sealer.seal(inner, padding=b"\xff" * (room + 16)))
        self.expect_drop([self.sealer.seal(inner, pad_length=255)], "esp_padding")

    def test_ragged_ciphertext(self):
        self.expect_drop([self.sealer.seal(self.inner(), ragged=b"\x00" * 5)], "esp_alignment")

    def test_unknown_next_header(self):
        self.expect_drop([self.sealer.seal(self.inner(), next_header=number) for number in (99, 0, 17)],
                         "esp_next_header", "inner_malformed", "inner_selector", "encapsulation_mismatch")

    def test_dummy_packets(self):
        self.expect_drop([self.sealer.seal(b"\x00" * 30, next_header=59)], "esp_dummy")

    def test_inner_outside_the_selectors(self):
        self.expect_drop([self.sealer.seal(self.inner(source="10.8.8.8")),
                          self.sealer.seal(self.inner(source="172.20.1.10")),
                          self.sealer.seal(self.inner(destination="192.168.61.10"))],
                         "inner_selector", "tunnel_policy")

    def test_inner_of_absurd_lengths(self):
        good = self.inner()
        self.expect_drop([
            self.sealer.seal(b""), self.sealer.seal(b"\x45"), self.sealer.seal(good[:19]),
            self.sealer.seal(b"\x44" + good[1:]), self.sealer.seal(b"\x4f" + good[1:40]),
            self.sealer.seal(good[:2] + b"\xff\xff" + good[4:]), self.sealer.seal(good[:2] + b"\x00\x05" + good[4:]),
            self.sealer.seal(b"\x05" + good[1:]), self.sealer.seal(b"\x65" + good[1:]),
        ], "inner_malformed", "esp_next_header", "ip_checksum", "encapsulation_mismatch")

    def test_clear_packet_that_should_have_been_protected(self):
        self.expect_drop([self.inner()] * 4, "policy_in_clear")

    def test_clear_packet_with_the_peers_lan_as_source(self):
        self.expect_drop([self.inner(source=HOST2)] * 4, "policy_in_clear")

    def test_outer_header_that_lies(self):
        whole = self.sealer.seal(self.inner())
        for name, packet, reasons in (
                ("longer than the frame", ipv4(ROUTER1, GW1, 50, whole[20:], total=9000), ("ip_total_length",)),
                ("shorter than its header", ipv4(ROUTER1, GW1, 50, whole[20:], total=11), ("ip_total_length",)),
                ("IHL 3", ipv4(ROUTER1, GW1, 50, whole[20:], ihl=3), ("ip_header_length",)),
                ("IHL 15 of 24 bytes", ipv4(ROUTER1, GW1, 50, whole[20:24], ihl=15, total=24),
                 ("ip_header_length", "ip_truncated", "ip_total_length"))):
            with self.subTest(name):
                self.expect_drop([packet], *reasons)

    def test_random_esp(self):
        seed = random.SystemRandom().randrange(1 << 32)
        noise = random.Random(seed)
        packets = []
        for _ in range(500):
            body = noise.randbytes(noise.randrange(0, 1400))
            if noise.random() < 0.5 and len(body) > 8:
                body = self.sa.spi_in.to_bytes(4, "big") + body[4:]
            packets.append(ipv4(ROUTER1, GW1, 50, body))
        with self.subTest(seed=seed):
            self.expect_drop(packets, "no_sa", "esp_too_short", "esp_alignment", "integrity", "esp_sequence_zero",
                             "replay_too_old")

    def test_random_frames(self):
        seed = random.SystemRandom().randrange(1 << 32)
        noise = random.Random(seed)
        with self.subTest(seed=seed):
            for number in range(3000):
                kind = noise.choice([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00", b"\x88\xa8", noise.randbytes(2)])
                body = bytearray(noise.randbytes(noise.randrange(0, 1486)))
                if body and noise.random() < 0.7:
                    body[0] = noise.choice([0x45, 0x46, 0x4F, 0x60, 0x40])
                if len(body) >= 20 and noise.random() < 0.5:
                    body[9] = noise.choice([50, 51, 17, 4, 41, 1, 108])
                    body[16:20] = bytes([202, 245, 63, 218])
                if noise.random() < 0.2:
                    self.wire.send(self.gateway_mac[:noise.randrange(7)] + noise.randbytes(60))
                else:
                    self.send(bytes(body), kind)
            self.assertTrue(self.lab.gw1.is_running)

    def test_mutated_good_packets(self):
        """One bit of a good packet flipped, anywhere: at most the mutable fields of the outer header may pass."""
        seed = random.SystemRandom().randrange(1 << 32)
        noise = random.Random(seed)
        receiver = self.lab.lan1.udp_socket(HOST1, 7777, timeout=0.5)
        self.addCleanup(receiver.close)
        with self.subTest(seed=seed):
            for _ in range(300):
                packet = bytearray(self.sealer.seal(self.inner()))
                place = noise.randrange(20, len(packet))
                packet[place] ^= 1 << noise.randrange(8)
                self.send(bytes(packet))
            with self.assertRaises(TimeoutError):
                receiver.recv(65536)
        receiver.close()
