"""The gateway against an independent implementation: scapy's SecurityAssociation, over pcap ports.

                      +------------------------+
     lan-in.pcap ---> | lan      gwd       wan | ---> wan-out.pcap    plain in, ESP out: scapy opens it
    lan-out.pcap <--- | 192.168.60.1  202.245. | <--- wan-in.pcap     ESP in, made by scapy; plain out
                      +------------------------+
"""

import hashlib
import random
import time

from lab.gateway import Port, StaticSA
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST1, HOST2, LAN1, LAN2, ROUTER1, Lab
from support import EndToEndTest

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import rdpcap, wrpcap

# The pcap driver's own addresses: 02 'p' 'c' 'a' 'p' and the number of the port.
WAN_MAC, LAN_MAC = "02:70:63:61:70:00", "02:70:63:61:70:01"
ROUTER_MAC, HOST_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


class PcapGateway(Lab):
    """One gwd between four capture files; no kernel, no other process."""

    def __init__(self, sa, lan_in=(), wan_in=()):
        super().__init__()
        try:
            self.files = {name: self.folder / f"{name}.pcap" for name in ("lan-in", "lan-out", "wan-in", "wan-out")}
            wrpcap(str(self.files["lan-in"]), [Ether(src=HOST_MAC, dst=LAN_MAC) / packet for packet in lan_in] or [])
            wrpcap(str(self.files["wan-in"]), [Ether(src=ROUTER_MAC, dst=WAN_MAC) / packet for packet in wan_in] or [])
            self.expected = {"lan": len(lan_in), "wan": len(wan_in)}
            ports = [Port("wan", self._device(0, "wan"), [f"{GW1}/24"], host=False),
                     Port("lan", self._device(1, "lan"), ["192.168.60.1/24"], host=False)]
            self.gw = self.gateway("gw", self.space("gw"), ports, routes=[(LAN2, ROUTER1), ("200.69.110.0/24", ROUTER1)],
                                   neighbors=[("wan", ROUTER1, ROUTER_MAC), ("lan", HOST1, HOST_MAC)])
            self.gw.write_ipsec([f"flow esp from {LAN1} to {LAN2} peer {GW2}\n"], [sa])
        except BaseException:
            self.close()
            raise

    def _device(self, number, name):
        return f"net_pcap{number},rx_pcap={self.files[name + '-in']},tx_pcap={self.files[name + '-out']}"

    def process(self):
        """Runs the gateway until it has read everything; returns (packets out of lan, packets out of wan)."""
        self.gw.start()
        wait_for(lambda: all(port["rx_packets"] >= self.expected[port["name"]] for port in self.ports()), 20,
                 "the gateway reading its capture files")
        time.sleep(0.3)
        self.drops = self.gw.drops()
        status = self.gw.stop()
        if status != 0:
            raise AssertionError(f"gwd ended with {status}\n{self.gw.log_tail()}")
        return tuple([frame[IP] for frame in rdpcap(str(self.files[name])) if IP in frame]
                     for name in ("lan-out", "wan-out"))

    def ports(self):
        return self.gw.show("ports")


def inner_packets(source, destination, seed, sizes):
    """IP packets of several kinds whose payload has the given sizes, reproducible from the seed."""
    noise = random.Random(seed)
    packets = []
    for number, size in enumerate(sizes):
        payload = hashlib.shake_128(f"{seed}/{size}".encode()).digest(size)
        transport = (UDP(sport=1024 + number, dport=53), TCP(sport=1024 + number, dport=80, flags="PA", seq=number),
                     ICMP(type=8, id=number, seq=1))[number % 3]
        tos = noise.choice([0, 0, 0x28, 0xB8])
        packet = IP(src=source, dst=destination, id=number + 1, ttl=64, tos=tos) / transport / Raw(payload)
        packets.append(IP(bytes(packet)))
    return packets


def after_one_hop(packet, hops=1):
    """What is left of a packet when a router has passed it on."""
    aged = packet.copy()
    aged.ttl -= hops
    del aged.chksum
    return bytes(IP(bytes(aged)))


class PcapScapy(EndToEndTest):
    sizes = list(range(0, 70)) + [100, 127, 128, 255, 256, 511, 512, 1000, 1300, 1380, 1390]

    def scapy_sa(self, sa, outgoing):
        spi, encryption, authentication = ((sa.spi_out, sa.enckey_out, sa.authkey_out) if outgoing
                                           else (sa.spi_in, sa.enckey_in, sa.authkey_in))
        ends = (GW1, GW2) if outgoing else (GW2, GW1)
        return SecurityAssociation(ESP, spi=spi, crypt_algo="AES-CBC", crypt_key=encryption, auth_algo="SHA2-256-128",
                                   auth_key=authentication, tunnel_header=IP(src=ends[0], dst=ends[1]))

    def check_transform(self, key_bytes):
        seed = random.SystemRandom().randrange(1 << 32)
        with self.subTest(seed=seed):
            sa = StaticSA(GW1, GW2, 0xAF79DEF1, 0x2D2148AB, key_bytes=key_bytes)
            out = inner_packets(HOST1, HOST2, seed, self.sizes)
            back = inner_packets(HOST2, HOST1, seed + 1, self.sizes)
            theirs = self.scapy_sa(sa, outgoing=False)
            sealed = [IP(bytes(theirs.encrypt(packet, seq_num=number))) for number, packet in enumerate(back, 1)]
            with PcapGateway(sa, lan_in=out, wan_in=sealed) as lab:
                to_lan, to_wan = lab.process()
                self.assertEqual(lab.drops, {})
            self.assertEqual([bytes(packet) for packet in to_lan], [after_one_hop(packet) for packet in back])
            self.check_sealed(to_wan, out, self.scapy_sa(sa, outgoing=True))

    def check_sealed(self, packets, originals, association):
        self.assertEqual(len(packets), len(originals))
        self.assertEqual([packet[ESP].seq for packet in packets], list(range(1, len(packets) + 1)))
        ivs = {packet[ESP].data[:16] for packet in packets}
        self.assertEqual(len(ivs), len(packets), "an IV was used twice")
        for packet, original in zip(packets, originals):
            self.assertEqual((packet.src, packet.dst, packet.proto), (GW1, GW2, 50))
            self.assertEqual(packet.tos, original.tos)
            self.assertEqual(bytes(association.decrypt(packet)), after_one_hop(original))

    def test_aes_cbc_128_sha2_256(self):
        self.check_transform(16)

    def test_aes_cbc_192_sha2_256(self):
        self.check_transform(24)

    def test_aes_cbc_256_sha2_256(self):
        self.check_transform(32)
