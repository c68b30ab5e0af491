"""Every transform that scapy has, both ways, between the gateway and scapy's SecurityAssociation; keys come over the
XFRM socket, through Debian's `ip xfrm` under libikeshim.so.

      lan (raw socket)                 gw                        wan (raw socket: scapy plays the peer)
     +------------------+     +-------------------+     +------------------+
     | eth0             |=====| lan    gwd    wan |=====| eth0             |
     | 192.168.60.10    |     | host: false       |     | 202.245.63.1     |
     +------------------+     +-------------------+     +------------------+
"""

import dataclasses
import hashlib
import os
import random
import socket

from lab.gateway import Port, program
from lab.topology import Lab, worker_cores
from lab.namespace import run, veth
from support import EndToEndTest

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.packet import Raw

HOST_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
ENDS = {4: ("202.245.63.218", "202.245.63.1"), 6: ("2001:db8:1::218", "2001:db8:1::1")}
NETS = {4: ("192.168.60.0/24", "172.20.1.0/24"), 6: ("2001:db8:60::/64", "2001:db8:20::/64")}
HOSTS = {4: ("192.168.60.10", "172.20.1.10"), 6: ("2001:db8:60::10", "2001:db8:20::10")}


@dataclasses.dataclass(frozen=True)
class Transform:
    """One choice of algorithms in scapy's names and in those of `ip xfrm`."""

    name: str
    crypt: str
    key_bytes: int  # salt or nonce included
    xfrm: str
    auth: str = "NULL"
    auth_bytes: int = 0
    xfrm_auth: str = ""
    icv_bits: int = 0
    esn: bool = False


def _transforms():
    sha2 = ("SHA2-256-128", 32, "hmac(sha256)", 128)
    made = []
    for bits in (128, 192, 256):
        made.append(Transform(f"aes-cbc-{bits} sha2-256", "AES-CBC", bits // 8, "cbc(aes)", *sha2))
        made.append(Transform(f"aes-ctr-{bits} sha2-256", "AES-CTR", bits // 8 + 4, "rfc3686(ctr(aes))", *sha2))
        made.append(Transform(f"aes-gcm-{bits}", "AES-GCM", bits // 8 + 4, "rfc4106(gcm(aes))", icv_bits=128))
        made.append(Transform(f"aes-gcm-{bits} esn", "AES-GCM", bits // 8 + 4, "rfc4106(gcm(aes))", icv_bits=128,
                              esn=True))
        made.append(Transform(f"aes-ccm-{bits}", "AES-CCM", bits // 8 + 3, "rfc4309(ccm(aes))", icv_bits=128))
    made.append(Transform("chacha20-poly1305", "CHACHA20-POLY1305", 36, "rfc7539esp(chacha20,poly1305)", icv_bits=128))
    made.append(Transform("3des sha1", "3DES", 24, "cbc(des3_ede)", "HMAC-SHA1-96", 20, "hmac(sha1)", 96))
    for name, auth in (("sha1", ("HMAC-SHA1-96", 20, "hmac(sha1)", 96)), ("sha2-256", sha2),
                       ("sha2-384", ("SHA2-384-192", 48, "hmac(sha384)", 192)),
                       ("sha2-512", ("SHA2-512-256", 64, "hmac(sha512)", 256)),
                       ("cmac", ("AES-CMAC-96", 16, "cmac(aes)", 96))):
        made.append(Transform(f"null {name}", "NULL", 0, "ecb(cipher_null)", *auth))
    for name, auth in (("sha2-384", ("SHA2-384-192", 48, "hmac(sha384)", 192)),
                       ("sha2-512", ("SHA2-512-256", 64, "hmac(sha512)", 256))):
        made.append(Transform(f"aes-cbc-256 {name}", "AES-CBC", 32, "cbc(aes)", *auth))
    return made


TRANSFORMS = _transforms()


class Direction:
    """One SA: its keys, its scapy side and its `ip xfrm state add` words."""

    def __init__(self, transform, spi, source, destination, nat_t):
        self.transform, self.spi, self.source, self.destination, self.nat_t = (transform, spi, source, destination,
                                                                               nat_t)
        self.key = os.urandom(transform.key_bytes)
        self.auth_key = os.urandom(transform.auth_bytes)

    def scapy(self):
        header = (IPv6 if ":" in self.source else IP)(src=self.source, dst=self.destination)
        return SecurityAssociation(
            ESP, spi=self.spi, crypt_algo=self.transform.crypt, crypt_key=self.key or None,
            auth_algo=self.transform.auth, auth_key=self.auth_key or None, tunnel_header=header,
            nat_t_header=UDP(sport=4500, dport=4500) if self.nat_t else None, esn_en=self.transform.esn, esn=0)

    def xfrm(self, request):
        words = ["state", "add", "src", self.source, "dst", self.destination, "proto", "esp", "spi", f"0x{self.spi:x}",
                 "reqid", str(request), "mode", "tunnel"]
        if self.transform.esn:
            words += ["flag", "esn", "replay-window", "128"]
        else:
            words += ["replay-window", "32"]
        if self.nat_t:
            words += ["encap", "espinudp", "4500", "4500", "0.0.0.0"]
        if self.transform.icv_bits and not self.transform.xfrm_auth:
            return words + ["aead", self.transform.xfrm, f"0x{self.key.hex()}", str(self.transform.icv_bits)]
        return words + ["auth-trunc", self.transform.xfrm_auth, f"0x{self.auth_key.hex()}",
                        str(self.transform.icv_bits), "enc", self.transform.xfrm,
                        f"0x{self.key.hex()}" if self.key else ""]


class ScapyLab(Lab):
    """One gateway without a kernel side, raw sockets at both ends."""

    def __init__(self):
        super().__init__()
        try:
            lan, wan = self.space("lan", ipv6=True), self.space("wan", ipv6=True)
            gw = self.space("gw", ipv6=True)
            veth(lan, "eth0", gw, "p-lan", mtu=9000)
            veth(wan, "eth0", gw, "p-wan", mtu=9000)
            gw.isolate("p-lan")
            gw.isolate("p-wan")
            # The raw sockets are the hosts: their kernels stay silent.
            lan.isolate("eth0")
            wan.isolate("eth0")
            ports = [Port("wan", "net_af_packet0,iface=p-wan", [f"{ENDS[4][0]}/24", f"{ENDS[6][0]}/64"], host=False),
                     Port("lan", "net_af_packet1,iface=p-lan", ["192.168.60.1/24", "2001:db8:60::1/64"], host=False)]
            self.gw = self.gateway(
                "gw", gw, ports, workers=[worker_cores()[0]],
                routes=[(NETS[4][1], ENDS[4][1]), (NETS[6][1], ENDS[6][1])],
                neighbors=[("wan", ENDS[4][1], PEER_MAC), ("wan", ENDS[6][1], PEER_MAC),
                           ("lan", HOSTS[4][0], HOST_MAC), ("lan", HOSTS[6][0], HOST_MAC)])
            self.gw.start()
            self.macs = {"lan": gw.mac("p-lan"), "wan": gw.mac("p-wan")}
            self.lan, self.wan = lan.packet_socket("eth0", timeout=3), wan.packet_socket("eth0", timeout=3)
        except BaseException:
            self.close()
            raise

    def close(self):
        for end in ("lan", "wan"):
            if hasattr(self, end):
                getattr(self, end).close()
        super().close()

    def xfrm(self, *words):
        shim = os.path.join(os.path.dirname(program("gwd")), "libikeshim.so")
        environment = dict(os.environ, LD_PRELOAD=shim, GW_RUN_DIR=str(self.gw.run_dir))
        return run("ip", "xfrm", *words, env=environment)

    def send(self, end, packet):
        source = HOST_MAC if end == "lan" else PEER_MAC
        getattr(self, end).send(bytes(Ether(src=source, dst=self.macs[end]) / packet))

    def receive(self, end):
        """The next IP packet that the gateway sent."""
        while True:
            frame, address = getattr(self, end).recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
                return Ether(frame).payload


class Differential(EndToEndTest):
    time_limit = 300
    sizes = [0, 1, 2, 3, 13, 14, 15, 16, 17, 29, 30, 31, 64, 127, 200, 511, 1000, 1300]

    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab()
        cls.addClassCleanup(cls.lab.close)
        cls.seed = random.SystemRandom().randrange(1 << 32)
        cls.noise = random.Random(cls.seed)
        cls.request = 0

    def inner(self, family, source, destination, size):
        payload = hashlib.shake_128(f"{self.seed}/{size}".encode()).digest(size)
        header = IP(src=source, dst=destination, ttl=64, id=self.noise.randrange(65536)) if family == 4 else IPv6(
            src=source, dst=destination, hlim=64)
        transports = [UDP(sport=1000, dport=2000), TCP(sport=1000, dport=2000, flags="PA")]
        if family == 4:
            transports.append(ICMP(type=8, id=self.noise.randrange(65536)))
        packet = header / self.noise.choice(transports) / Raw(payload)
        return packet.__class__(bytes(packet))

    @staticmethod
    def aged(packet):
        copy = packet.copy()
        if IP in copy and copy.version == 4:
            copy.ttl -= 1
            del copy.chksum
        else:
            copy.hlim -= 1
        return bytes(copy.__class__(bytes(copy)))

    def check(self, transform, inner=4, outer=4, nat_t=False, sizes=None):
        with self.subTest(f"{transform.name}, {inner} in {outer}{', NAT-T' if nat_t else ''}", seed=self.seed):
            Differential.request += 1
            request = self.request
            ours, theirs = ENDS[outer]
            away = Direction(transform, 0x10000 + request * 2, ours, theirs, nat_t)
            home = Direction(transform, 0x10001 + request * 2, theirs, ours, nat_t)
            self.lab.xfrm(*away.xfrm(request))
            self.lab.xfrm(*home.xfrm(request))
            near, far = NETS[inner]
            template = ["proto", "esp", "reqid", str(request), "mode", "tunnel"]
            self.lab.xfrm("policy", "add", "src", near, "dst", far, "dir", "out", "tmpl", "src", ours, "dst", theirs,
                          *template)
            for direction in ("in", "fwd"):
                self.lab.xfrm("policy", "add", "src", far, "dst", near, "dir", direction, "tmpl", "src", theirs, "dst",
                              ours, *template)
            try:
                self.exchange(away.scapy(), home.scapy(), inner, sizes or self.sizes)
            finally:
                self.lab.xfrm("policy", "flush")
                self.lab.xfrm("state", "flush")

    def exchange(self, away, home, family, sizes):
        near, far = HOSTS[family]
        for number, size in enumerate(sizes, 1):
            packet = self.inner(family, near, far, size)
            self.lab.send("lan", packet)
            sealed = self.lab.receive("wan")
            self.assertEqual(sealed[ESP].seq, number)
            self.assertEqual(bytes(away.decrypt(sealed)), self.aged(packet), f"out, {size} bytes")
            packet = self.inner(family, far, near, size)
            self.lab.send("wan", home.encrypt(packet, seq_num=number))
            self.assertEqual(bytes(self.lab.receive("lan")), self.aged(packet), f"in, {size} bytes")

    def test_transforms(self):
        for transform in TRANSFORMS:
            self.check(transform)

    def test_families(self):
        for name in ("aes-cbc-128 sha2-256", "aes-gcm-128", "chacha20-poly1305"):
            transform = next(item for item in TRANSFORMS if item.name == name)
            for inner in (4, 6):
                for outer in (4, 6):
                    if (inner, outer) != (4, 4):
                        self.check(transform, inner, outer)

    def test_nat_traversal(self):
        for name in ("aes-cbc-256 sha2-256", "aes-gcm-256"):
            self.check(next(item for item in TRANSFORMS if item.name == name), nat_t=True)
