"""What is kept of sequence numbers, nonces and policies when gwd is killed, and what happens where it cannot be kept."""

import errno
import struct

from keywire import NEWPOLICY, NEWSA, attribute
from lab.capture import Capture
from lab.gateway import rows
from lab.namespace import run, wait_for
from lab.topology import GW1, GW2, HOST1, HOST2, LAN1, TwoGateways, ping
from rawkeys import SA, XFRMClient, _address, policy, sa_attributes, sa_id, sa_info
from support import EndToEndTest

PEER = "200.69.110.80"
FAR = "10.77.0.1"
NEWAE, NLM_ACK, NLM_REPLACE = 0x1E, 0x4, 0x100
ATTR_REPLAY = 10
STEP = 1 << 23


def numbers_of(capture, spis):
    """(SPI, sequence number, IV) of each ESP packet of these SAs, IVs as AES-GCM has them."""
    from scapy.layers.ipsec import ESP
    from scapy.utils import rdpcap
    found = [packet[ESP] for packet in rdpcap(capture.path) if ESP in packet]
    return [(esp.spi, esp.seq, bytes(esp.data[:8])) for esp in found if esp.spi in spis]


def set_sequence(client, sa, number):
    """NEWAE: an outbound SA goes on behind this number."""
    replay = attribute(ATTR_REPLAY, struct.pack("=III", number, 0, 0))
    body = sa_id(sa) + _address(sa.source) + struct.pack("=II", 2, 0) + replay
    client.expect(NEWAE, body, NLM_ACK | NLM_REPLACE)


class KilledGateway(EndToEndTest):
    time_limit = 120

    def setUp(self):
        self.lab = TwoGateways()
        self.addCleanup(self.lab.close)
        self.gateway = self.lab.gw1
        self.lab.start_static()

    def restart(self):
        self.gateway.kill()
        self.gateway.start()

    def flows(self):
        return len(rows(self.gateway.show("flow")))

    def test_a_policy_stands_once_it_is_acknowledged(self):
        flows = self.flows()
        for number in range(1, 4):
            with XFRMClient(self.gateway) as client:
                for half in (0, 128):
                    client.expect(NEWPOLICY, policy(LAN1, f"10.{number}.{half}.0/24", 1, GW1, GW2, number))
                # Without a moment's pause.
                self.gateway.kill()
            self.gateway.start()
            self.assertEqual(self.flows(), flows + 2 * number)
        with XFRMClient(self.gateway) as client:
            client.expect(0x1D, b"")
            self.gateway.kill()
        self.gateway.start()
        self.assertEqual(self.flows(), flows)

    def test_no_nonce_of_a_key_comes_twice(self):
        sa = SA(GW1, GW2, 0x5001, reqid=77)
        spis = []
        with Capture(self.lab.inet, "to-gw1", self.lab.folder / "nonces.pcap", "esp") as capture:
            for number in range(4):
                with XFRMClient(self.gateway) as client:
                    if number == 0:
                        client.expect(NEWPOLICY, policy(LAN1, "10.77.0.0/16", 1, GW1, GW2, 77))
                    sa.spi = 0x5001 + number
                    spis.append(sa.spi)
                    client.add(sa)
                    # Another SA with the key beside it: two streams of the same nonces.
                    sa.spi = 0x6001
                    code, _ = client.request(NEWSA, sa_info(sa) + sa_attributes(sa))
                    self.assertEqual(code, errno.EEXIST)
                    sa.spi = spis[-1]
                    ping(self.lab.lan1, FAR, count=5, interval=0.05)
                    wait_for(lambda: self.gateway.output_packets(sa.spi) >= 5, 10, "packets are sealed")
                    if number == 1:
                        client.delete(sa)
                        continue
                if number == 2:
                    self.assertEqual(self.gateway.stop(), 0)
                    self.gateway.start()
                else:
                    self.restart()
        sent = numbers_of(capture, spis)
        self.assertEqual({spi for spi, _, _ in sent}, set(spis))
        self.assertEqual(len({iv for _, _, iv in sent}), len(sent))
        self.assertEqual([number for _, number, _ in sent], sorted(number for _, number, _ in sent))


class FullDisk(EndToEndTest):
    """state-dir is a file system of its own, that only gwd sees."""

    time_limit = 120
    options = "size=64k"

    def setUp(self):
        self.lab = TwoGateways()
        self.addCleanup(self.lab.close)
        self.gateway = self.lab.gw1
        self.state = self.gateway.folder / "state"
        self.gateway.prelude = (f"mkdir -p -m 0700 {self.state}\n"
                                f"mount -t tmpfs -o {self.options},mode=0700 none {self.state}")

    def inside(self, *command):
        return run("nsenter", "-t", self.gateway.pid, "-m", *command)

    def fill(self):
        self.inside("sh", "-c", f"head -c 1000000 /dev/zero > {self.state}/filler 2>/dev/null || true")

    def make_room(self):
        self.inside("rm", f"{self.state}/filler")

    def warnings(self):
        return " ".join(self.gateway.show_status()["warnings"])

    def test_an_sa_stops_at_its_reservation_and_goes_on(self):
        lab = self.lab
        lab.start_static()
        self.assertEqual(ping(lab.lan1, HOST2, count=3, interval=0.05), (3, 3))
        self.fill()
        with XFRMClient(self.gateway) as client:
            # A page of the file is there; when it is full there is no other, and no SA with static keys is taken.
            with self.assertRaises(OSError) as refused:
                for spi in range(0x5001, 0x5200):
                    client.add(SA(GW1, PEER, spi))
            self.assertEqual(refused.exception.errno, errno.ENOBUFS)
            self.assertEqual(ping(lab.lan1, HOST2, count=3, interval=0.05), (3, 3))
            set_sequence(client, SA(GW1, GW2, lab.sa.spi_out, "cbc"), STEP - 3)
        self.assertLess(ping(lab.lan1, HOST2, count=5, interval=0.05)[1], 3)
        self.assertGreater(self.gateway.drops()["sequence_unreserved"], 0)
        wait_for(lambda: self.gateway.show_status()["held_sa_count"] == 1, 5, "the SA is held")
        self.assertIn("No space left on device", self.warnings())
        # What does not need numbers goes on, and the other way too.
        before = self.gateway.input_packets(lab.sa.spi_in)
        ping(lab.lan2, HOST1, count=3, interval=0.05)
        wait_for(lambda: self.gateway.input_packets(lab.sa.spi_in) >= before + 3, 5, "packets from the other side")
        self.make_room()
        wait_for(lambda: self.gateway.show_status()["state_written"], 5, "numbers are reserved again")
        wait_for(lambda: ping(lab.lan1, HOST2, count=1)[1] == 1, 10, "traffic goes on")
        self.assertEqual(ping(lab.lan1, HOST2, count=5, interval=0.05), (5, 5))
        self.assertEqual(self.gateway.show_status()["held_sa_count"], 0)
        self.assertIn("all SAs go on", self.gateway.log_text())

    def test_a_policy_holds_though_it_cannot_be_written(self):
        self.lab.start_static()
        self.fill()
        with XFRMClient(self.gateway) as client:
            number = 0
            while "policies of key daemons cannot be written" not in self.warnings():
                number += 1
                client.expect(NEWPOLICY, policy(LAN1, f"10.80.{number}.0/24", 1, GW1, GW2, 77))
                self.assertLess(number, 100)
        self.make_room()
        wait_for(lambda: not self.warnings(), 5, "policies are written again")
        kept = self.inside("cat", f"{self.state}/policies").stdout.splitlines()
        self.assertEqual(len([line for line in kept if line.startswith("+")]), number)


class ReadOnly(FullDisk):
    options = "size=1m"

    test_an_sa_stops_at_its_reservation_and_goes_on = None
    test_a_policy_holds_though_it_cannot_be_written = None

    def test_static_keys_need_a_place_for_their_numbers(self):
        lab, gateway = self.lab, self.gateway
        gateway.prelude += f"\nmount -o remount,ro {self.state}"
        gateway.write_ipsec([lab.flows()[0]], [lab.sa])
        gateway.start(wait=False)
        wait_for(lambda: gateway.process.poll() is not None, 30, "gwd refuses to start")
        self.assertNotEqual(gateway.process.returncode, 0)
        self.assertIn("Read-only file system", gateway.log_text())
        # Without them it starts, says so, and takes none.
        gateway.write_ipsec([lab.flows()[0]])
        gateway.start()
        self.assertIn("Read-only file system", self.warnings())
        with XFRMClient(gateway) as client:
            with self.assertRaises(OSError):
                client.add(SA(GW1, GW2, 0x5001))
            self.inside("mount", "-o", "remount,rw", self.state)
            wait_for(lambda: gateway.show_status()["state_written"], 5, "state-dir is written")
            client.add(SA(GW1, GW2, 0x5001))
