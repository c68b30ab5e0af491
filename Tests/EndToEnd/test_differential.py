"""What scapy's SecurityAssociation makes the gateway reads, and what the gateway makes scapy reads: every transform that
both have, in every mode, family and encapsulation, with extended sequence numbers and without, at sizes up to 9000
bytes. The ports are libpcap's; keys come over the XFRM socket, through Debian's `ip xfrm` under libikeshim.so.

      lan (raw socket)                 gw                        wan (raw socket: scapy plays the peer)
     +------------------+     +-------------------+     +------------------+
     | eth0             |=====| lan    gwd    wan |=====| eth0             |
     | 192.168.60.10    |     |        TAP    wan |     | 202.245.63.1     |
     +------------------+     +-------------------+     +------------------+

In transport mode the gateway's own kernel is the sender: a raw socket on its TAP.

$GW_SEED repeats a run.
"""

import collections
import copy
import dataclasses
import hashlib
import os
import random
import socket
import struct

from lab.gateway import Port, program
from lab.topology import Lab, worker_cores
from lab.namespace import run, veth
from support import EndToEndTest

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH, ESP, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.packet import Raw

HOST_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
# The pcap driver's own addresses: 02 'p' 'c' 'a' 'p' and the number of the port.
PORT_MACS = {"wan": "02:70:63:61:70:00", "lan": "02:70:63:61:70:01", "host": PEER_MAC}
ENDS = {4: ("202.245.63.218", "202.245.63.1"), 6: ("2001:db8:1::218", "2001:db8:1::1")}
NETS = {4: ("192.168.60.0/24", "172.20.1.0/24"), 6: ("2001:db8:60::/64", "2001:db8:20::/64")}
HOSTS = {4: ("192.168.60.10", "172.20.1.10"), 6: ("2001:db8:60::10", "2001:db8:20::10")}
MTU = 9216  # 9000 bytes of payload and every header around them
FAMILIES = [(4, 4), (6, 4), (4, 6), (6, 6)]  # inner, outer

Authentication = collections.namedtuple("Authentication", "scapy key_bytes xfrm icv_bits")
NONE = Authentication("NULL", 0, "", 0)
SHA1 = Authentication("HMAC-SHA1-96", 20, "hmac(sha1)", 96)
SHA256 = Authentication("SHA2-256-128", 32, "hmac(sha256)", 128)
SHA384 = Authentication("SHA2-384-192", 48, "hmac(sha384)", 192)
SHA512 = Authentication("SHA2-512-256", 64, "hmac(sha512)", 256)
MD5 = Authentication("HMAC-MD5-96", 16, "hmac(md5)", 96)
CMAC = Authentication("AES-CMAC-96", 16, "cmac(aes)", 96)
AUTHENTICATIONS = [SHA1, SHA256, SHA384, SHA512, MD5, CMAC]


@dataclasses.dataclass(frozen=True)
class Transform:
    """One choice of algorithms in scapy's names and in those of `ip xfrm`; `crypt` is None for AH."""

    name: str
    crypt: str = None
    key_bytes: int = 0  # salt or nonce included
    xfrm: str = ""
    auth: Authentication = NONE
    aead_bits: int = 0


def _transforms():
    made = []
    for bits in (128, 192, 256):
        size = bits // 8
        made.append(Transform(f"aes-cbc-{bits} sha2-256", "AES-CBC", size, "cbc(aes)", SHA256))
        made.append(Transform(f"aes-ctr-{bits} sha2-256", "AES-CTR", size + 4, "rfc3686(ctr(aes))", SHA256))
        made.append(Transform(f"aes-gcm-{bits}", "AES-GCM", size + 4, "rfc4106(gcm(aes))", aead_bits=128))
        made.append(Transform(f"aes-ccm-{bits}", "AES-CCM", size + 3, "rfc4309(ccm(aes))", aead_bits=128))
    for icv in (64, 96):
        made.append(Transform(f"aes-gcm-128-{icv}", "AES-GCM", 20, "rfc4106(gcm(aes))", aead_bits=icv))
        made.append(Transform(f"aes-ccm-128-{icv}", "AES-CCM", 19, "rfc4309(ccm(aes))", aead_bits=icv))
    made.append(Transform("chacha20-poly1305", "CHACHA20-POLY1305", 36, "rfc7539esp(chacha20,poly1305)", aead_bits=128))
    made.append(Transform("3des sha1", "3DES", 24, "cbc(des3_ede)", SHA1))
    for auth in AUTHENTICATIONS:
        made.append(Transform(f"null {auth.scapy}", "NULL", 0, "ecb(cipher_null)", auth))
        if auth is not SHA256:
            made.append(Transform(f"aes-cbc-256 {auth.scapy}", "AES-CBC", 32, "cbc(aes)", auth))
    return made


TRANSFORMS = _transforms()
AH_TRANSFORMS = [Transform(f"ah {auth.scapy}", auth=auth) for auth in AUTHENTICATIONS]


class ExtendedAuthentication:
    """What scapy leaves out: the high half of the sequence number under ESP's ICV (RFC 4303 2.2.1)."""

    def __init__(self, algorithm, high):
        self.algorithm, self.high = algorithm, struct.pack("!L", high)

    def __getattr__(self, name):
        return getattr(self.algorithm, name)

    def _icv(self, esp, key):
        mac = self.algorithm.new_mac(key)
        mac.update(esp + self.high)
        return mac.finalize()[:self.algorithm.icv_size]

    def sign(self, packet, key, *_args, **_words):
        packet[ESP].data += self._icv(bytes(packet[ESP]), key)
        return packet

    def verify(self, packet, key, *_args, **_words):
        sealed, icv = packet.data[:-self.algorithm.icv_size], packet.data[-self.algorithm.icv_size:]
        clone = packet.copy()
        clone.data = sealed
        if self._icv(bytes(clone), key) != icv:
            raise AssertionError("the ICV does not cover the high half of the sequence number")


class TruncatedGCM:
    """AES-GCM with an ICV of 8 or 12 bytes (RFC 4106 6), which scapy does not have."""

    def __init__(self, key, icv_bytes):
        self.key, self.icv_bytes = key, icv_bytes

    def encrypt(self, iv, data, aad):
        return AESGCM(self.key).encrypt(iv, data, aad)[:len(data) + self.icv_bytes]

    def decrypt(self, iv, data, aad):
        mode = modes.GCM(iv, data[-self.icv_bytes:], min_tag_length=self.icv_bytes)
        decryptor = Cipher(algorithms.AES(self.key), mode).decryptor()
        decryptor.authenticate_additional_data(aad)
        return decryptor.update(data[:-self.icv_bytes]) + decryptor.finalize()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of the matrix."""

    transform: Transform
    inner: int = 4
    outer: int = 4
    mode: str = "tunnel"
    nat_t: bool = False
    esn: bool = False

    def __str__(self):
        words = [self.transform.name, self.mode, f"{self.inner} in {self.outer}"]
        return ", ".join(words + ["NAT-T"] * self.nat_t + ["ESN"] * self.esn)

    @property
    def ip_protocol(self):
        return "esp" if self.transform.crypt else "ah"


class Direction:
    """One SA: its keys, its scapy side and its `ip xfrm state add` words."""

    def __init__(self, cell, spi, source, destination, noise):
        self.cell, self.spi, self.source, self.destination = cell, spi, source, destination
        self.key = os.urandom(cell.transform.key_bytes)
        self.auth_key = os.urandom(cell.transform.auth.key_bytes)
        self.high = noise.randrange(1, 1 << 31) if cell.esn else 0
        self.association = self._scapy()

    def _scapy(self):
        cell, transform = self.cell, self.cell.transform
        header = (IPv6 if ":" in self.source else IP)(src=self.source, dst=self.destination)
        words = {"spi": self.spi, "auth_algo": transform.auth.scapy, "auth_key": self.auth_key or None,
                 "tunnel_header": header if cell.mode == "tunnel" else None, "esn_en": cell.esn, "esn": self.high}
        if not transform.crypt:
            return SecurityAssociation(AH, **words)
        if transform.aead_bits:
            words["crypt_icv_size"] = transform.aead_bits // 8
        if cell.nat_t:
            words["nat_t_header"] = UDP(sport=4500, dport=4500)
        association = SecurityAssociation(ESP, crypt_algo=transform.crypt, crypt_key=self.key or None, **words)
        if transform.crypt == "AES-GCM" and transform.aead_bits != 128:
            association.crypt_algo = copy.copy(association.crypt_algo)
            association.crypt_algo.cipher = lambda key: TruncatedGCM(key, transform.aead_bits // 8)
        if cell.esn and transform.auth is not NONE:
            association.auth_algo = ExtendedAuthentication(association.auth_algo, self.high)
        return association

    def xfrm(self, request):
        cell, transform = self.cell, self.cell.transform
        words = ["state", "add", "src", self.source, "dst", self.destination, "proto", cell.ip_protocol, "spi",
                 f"0x{self.spi:x}", "reqid", str(request), "mode", cell.mode]
        flags = ["esn"] * cell.esn
        # scapy's AH over IPv4 is a multiple of 4 bytes, Linux's own of 8.
        flags += ["align4"] * (cell.ip_protocol == "ah" and cell.outer == 4)
        for flag in flags:
            words += ["flag", flag]
        words += ["replay-window", "128" if cell.esn else "32"]
        if cell.esn:
            words += ["replay-seq-hi", str(self.high), "replay-oseq-hi", str(self.high)]
        if cell.nat_t:
            words += ["encap", "espinudp", "4500", "4500", "0.0.0.0"]
        if transform.aead_bits:
            return words + ["aead", transform.xfrm, f"0x{self.key.hex()}", str(transform.aead_bits)]
        words += ["auth-trunc", transform.auth.xfrm, f"0x{self.auth_key.hex()}", str(transform.auth.icv_bits)]
        if transform.crypt:
            words += ["enc", transform.xfrm, f"0x{self.key.hex()}" if self.key else '""']
        return words

    def seal(self, packet, number):
        return self.association.encrypt(packet, seq_num=number)

    def open(self, packet):
        """The inner packet; UDP encapsulation is taken off before, as scapy does it for tunnels over IPv4 only."""
        if self.cell.nat_t:
            esp = bytes(packet[ESP])
            del packet.payload
            header = packet.copy()
            header.remove_payload()
            if header.version == 4:
                header.proto, header.len, header.chksum = 50, None, None
            else:
                header.nh, header.plen = 50, None
            packet = header.__class__(bytes(header / Raw(esp)))
        return bytes(self.association.decrypt(packet))


class ScapyLab(Lab):
    """One gateway on pcap ports, raw sockets at both ends and at its kernel's."""

    def __init__(self, **settings):
        super().__init__()
        try:
            lan, wan = self.space("lan", ipv6=True), self.space("wan", ipv6=True)
            gw = self.space("gw", ipv6=True)
            veth(lan, "eth0", gw, "p-lan", mtu=MTU)
            veth(wan, "eth0", gw, "p-wan", mtu=MTU)
            for space, interface in ((gw, "p-lan"), (gw, "p-wan"), (lan, "eth0"), (wan, "eth0")):
                # The raw sockets are the hosts: their kernels stay silent.
                space.isolate(interface)
            ports = [Port("wan", self._device(0, "p-wan"), [f"{ENDS[4][0]}/24", f"{ENDS[6][0]}/64"], mtu=MTU),
                     Port("lan", self._device(1, "p-lan"), ["192.168.60.1/24", "2001:db8:60::1/64"], host=False,
                          mtu=MTU)]
            self.gw = self.gateway(
                "gw", gw, ports, workers=[worker_cores()[0]],
                settings={"allow-weak": "true", **settings},
                routes=[(NETS[4][1], ENDS[4][1]), (NETS[6][1], ENDS[6][1])],
                neighbors=[("wan", ENDS[4][1], PEER_MAC), ("wan", ENDS[6][1], PEER_MAC),
                           ("lan", HOSTS[4][0], HOST_MAC), ("lan", HOSTS[6][0], HOST_MAC)])
            self.gw.start()
            gw.isolate("wan")
            self.ends = {"lan": lan.packet_socket("eth0", timeout=5), "wan": wan.packet_socket("eth0", timeout=5),
                         "host": gw.packet_socket("wan", timeout=5)}
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _device(number, interface):
        return f"net_pcap{number},rx_iface_in={interface},tx_iface={interface}"

    def close(self):
        for end in getattr(self, "ends", {}).values():
            end.close()
        super().close()

    def xfrm(self, *commands):
        """Runs `ip xfrm` commands, one a line."""
        shim = os.path.join(os.path.dirname(program("gwd")), "libikeshim.so")
        environment = dict(os.environ, LD_PRELOAD=shim, GW_RUN_DIR=str(self.gw.run_dir))
        lines = "".join(f"xfrm {' '.join(words)}\n" for words in commands)
        run("ip", "-batch", "-", env=environment, stdin=lines)

    def install(self, away, home, request, words=()):
        """Puts two SAs and the policies that ask for them in place of all others; `words` go to `ip xfrm state add`."""
        cell, ours, theirs = away.cell, away.source, away.destination
        near, far = NETS[cell.inner] if cell.mode == "tunnel" else (ours, theirs)
        template = ["proto", cell.ip_protocol, "reqid", str(request), "mode", cell.mode]
        policies = [["policy", "add", "src", near, "dst", far, "dir", "out", "tmpl", "src", ours, "dst", theirs,
                     *template]]
        for direction in ("in", "fwd"):
            policies.append(["policy", "add", "src", far, "dst", near, "dir", direction, "tmpl", "src", theirs, "dst",
                             ours, *template])
        self.xfrm(["policy", "flush"], ["state", "flush"], [*away.xfrm(request), *words],
                  [*home.xfrm(request), *words], *policies)

    def send(self, end, packet):
        source = PEER_MAC if end == "wan" else HOST_MAC
        self.ends[end].send(bytes(Ether(src=source, dst=PORT_MACS[end]) / packet))

    def receive(self, end):
        """The next IP packet that the gateway sent."""
        while True:
            frame, address = self.ends[end].recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
                return Ether(frame).payload


def aged(packet):
    """As a router leaves it."""
    later = packet.__class__(bytes(packet))
    if later.version == 4:
        later.ttl -= 1
        del later.chksum
    else:
        later.hlim -= 1
    return bytes(later)


class Differential(EndToEndTest):
    time_limit = 600

    @classmethod
    def setUpClass(cls):
        cls.lab = ScapyLab()
        cls.addClassCleanup(cls.lab.close)
        cls.seed = int(os.environ.get("GW_SEED") or random.SystemRandom().randrange(1 << 32))
        print(f"        GW_SEED={cls.seed}", flush=True)
        cls.noise = random.Random(cls.seed)
        cls.request = 0

    def sizes(self):
        """The smallest, one around a block's size, one small, one of any size."""
        return [0, self.noise.choice((13, 14, 15, 16, 17, 29, 30, 31)), self.noise.randrange(32, 1400),
                self.noise.randrange(1400, 9001)]

    def inner(self, family, source, destination, size):
        payload = hashlib.shake_128(f"{self.seed}/{size}".encode()).digest(size)
        if family == 4:
            header = IP(src=source, dst=destination, ttl=64, id=self.noise.randrange(65536))
        else:
            header = IPv6(src=source, dst=destination, hlim=64)
        transports = [UDP(sport=1000, dport=2000), TCP(sport=1000, dport=2000, flags="PA")]
        if family == 4:
            transports.append(ICMP(type=8, id=self.noise.randrange(65536)))
        packet = header / self.noise.choice(transports) / Raw(payload)
        return packet.__class__(bytes(packet))

    def check(self, cell):
        with self.subTest(str(cell), seed=self.seed):
            Differential.request += 1
            request = self.request
            ours, theirs = ENDS[cell.outer]
            away = Direction(cell, 0x10000 + request * 2, ours, theirs, self.noise)
            home = Direction(cell, 0x10001 + request * 2, theirs, ours, self.noise)
            self.lab.install(away, home, request)
            try:
                self.exchange(cell, away, home)
            except TimeoutError:
                self.fail(f"nothing came; {self.lab.gw.drops()}")

    def exchange(self, cell, away, home):
        tunnel = cell.mode == "tunnel"
        near, far = HOSTS[cell.inner] if tunnel else ENDS[cell.outer]
        end = "lan" if tunnel else "host"
        after = aged if tunnel else bytes
        for number, size in enumerate(self.sizes(), 1):
            packet = self.inner(cell.inner, near, far, size)
            self.lab.send(end, packet)
            sealed = self.lab.receive("wan")
            self.assertEqual(sealed[ESP if cell.transform.crypt else AH].seq, number)
            self.assertEqual(away.open(sealed), after(packet), f"out, {size} bytes")
            packet = self.inner(cell.inner, far, near, size)
            self.lab.send("wan", home.seal(packet, number))
            self.assertEqual(bytes(self.lab.receive(end)), after(packet), f"in, {size} bytes")

    def tunnels(self, transforms, **words):
        for transform in transforms:
            for inner, outer in FAMILIES:
                for esn in (False, True):
                    self.check(Cell(transform, inner, outer, esn=esn, **words))

    def transports(self, transforms, **words):
        for transform in transforms:
            for family in (4, 6):
                for esn in (False, True):
                    self.check(Cell(transform, family, family, mode="transport", esn=esn, **words))

    def test_esp_tunnel(self):
        self.tunnels(TRANSFORMS)

    def test_esp_tunnel_nat_traversal(self):
        self.tunnels(TRANSFORMS, nat_t=True)

    def test_esp_transport(self):
        self.transports(TRANSFORMS)

    def test_esp_transport_nat_traversal(self):
        self.transports(TRANSFORMS, nat_t=True)

    def test_ah_tunnel(self):
        self.tunnels(AH_TRANSFORMS)

    def test_ah_transport(self):
        self.transports(AH_TRANSFORMS)
