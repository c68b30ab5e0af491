"""Raw clients of gwd's key sockets, for what no daemon sends: NETLINK_XFRM (linux/xfrm.h) and PF_KEYv2 (RFC 2367)."""

import dataclasses
import ipaddress
import os
import socket
import struct

from keywire import (
    AES_CBC, AES_GCM_16, ALLOCSPI, ANY_ALGORITHM, ATTR_AEAD, ATTR_AUTH_TRUNC, ATTR_CRYPT, ATTR_TEMPLATES, DELSA,
    DESTINATION, ESP, EXT_SA, FOREVER, GETSA, HARD, HEADER, KEY_AUTH, KEY_ENCRYPT, LIMITS, NETLINK, NEWSA, NLM_ACK,
    NLM_DUMP, NLM_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, POLICY_INFO, SA2, SA_ID, SA_INFO, SADB_ADD,
    SADB_DELETE, SADB_GET, SADB_GETSPI, SADB_REGISTER, SADB_UPDATE, SATYPE_ESP, SELECTOR, SHA2_256, SOFT, SOURCE, SPI,
    SPIRANGE, TEMPLATE, TUNNEL, UPDSA, attribute, messages, wide)
from memory import hmac_states, make_hmac_key, make_key

GROUP_ALL = 0xFF
COMBINED = {"gcm": "rfc4106(gcm(aes))", "chacha": "rfc7539esp(chacha20,poly1305)"}


def connect(path, timeout=10):
    """A blocking connection to a key socket."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Blocking: a crowded socket would answer EAGAIN at once.
    client.connect(str(path))
    client.settimeout(timeout)
    return client


@dataclasses.dataclass
class SA:
    """An ESP tunnel SA and the keys that it is given: AES-GCM or ChaCha20-Poly1305 (`gcm`, `chacha`: key with its salt), or
    AES-CBC with HMAC-SHA2-256 (`cbc`)."""

    source: str
    destination: str
    spi: int
    algorithm: str = "gcm"
    reqid: int = 0

    def __post_init__(self):
        self.encryption = make_key(32 if self.algorithm == "cbc" else 36)
        self.integrity = make_hmac_key() if self.algorithm == "cbc" else b""

    @property
    def keys(self):
        """What must be nowhere once the SA is gone: its keys, without the salt, and HMAC's states."""
        states = hmac_states(self.integrity) if len(self.integrity) == 32 else []
        return [key for key in (self.encryption[:32], self.integrity, *states) if key]


def _address(text):
    return wide(ipaddress.ip_address(text).packed)


def _family(text):
    return socket.AF_INET if ipaddress.ip_address(text).version == 4 else socket.AF_INET6


def algorithm(name, key, icv_bits=None):
    """struct xfrm_algo, or with `icv_bits` xfrm_algo_aead and xfrm_algo_auth."""
    bits = struct.pack("=I", len(key) * 8) if icv_bits is None else struct.pack("=II", len(key) * 8, icv_bits)
    return name.encode().ljust(64, b"\0") + bits + key


def xfrm_selector(source="0.0.0.0/0", destination="0.0.0.0/0", family=socket.AF_INET):
    source, destination = ipaddress.ip_network(source), ipaddress.ip_network(destination)
    return SELECTOR.pack(wide(destination.network_address.packed), wide(source.network_address.packed), 0, 0, 0, 0, family,
                         destination.prefixlen, source.prefixlen)


def lifetimes(soft_seconds=0, hard_seconds=0):
    return LIMITS.pack(FOREVER, FOREVER, FOREVER, FOREVER, soft_seconds, hard_seconds, 0, 0)


def sa_info(sa, spi=None, soft_seconds=0, hard_seconds=0):
    """struct xfrm_usersa_info."""
    return SA_INFO.pack(xfrm_selector(family=0), _address(sa.destination), SPI.pack(sa.spi if spi is None else spi), ESP,
                        _address(sa.source), lifetimes(soft_seconds, hard_seconds), 0, sa.reqid, _family(sa.destination),
                        1, 32, 0x20)


def sa_attributes(sa):
    if sa.algorithm in COMBINED:
        return attribute(ATTR_AEAD, algorithm(COMBINED[sa.algorithm], sa.encryption, 128))
    return (attribute(ATTR_CRYPT, algorithm("cbc(aes)", sa.encryption))
            + attribute(ATTR_AUTH_TRUNC, algorithm("hmac(sha256)", sa.integrity, 128)))


def sa_id(sa):
    """struct xfrm_usersa_id."""
    return SA_ID.pack(_address(sa.destination), SPI.pack(sa.spi), _family(sa.destination), ESP)


def sa_name(body):
    """struct xfrm_usersa_id of the SA that an answer to GETSA describes."""
    _, destination, spi, protocol, _, _, _, _, family, *_ = SA_INFO.unpack_from(body)
    return SA_ID.pack(destination, spi, family, protocol)


def policy(source, destination, direction, tunnel_source, tunnel_destination, reqid, priority=1000):
    """struct xfrm_userpolicy_info with its template."""
    info = POLICY_INFO.pack(xfrm_selector(source, destination), lifetimes(), priority, 0, direction, 0, 0, 0)
    template = TEMPLATE.pack(_address(tunnel_destination), SPI.pack(0), ESP, _family(tunnel_source),
                             _address(tunnel_source), reqid, 1, 0, 0, ANY_ALGORITHM, ANY_ALGORITHM, ANY_ALGORITHM)
    return info + attribute(ATTR_TEMPLATES, template)


class XFRMClient:
    """One connection to xfrm.sock."""

    def __init__(self, gateway, groups=0, timeout=10):
        self.socket = connect(gateway.run_dir / "xfrm.sock", timeout)
        self.sequence = 0
        if groups:
            self.join(groups)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def join(self, groups):
        self.socket.send(NETLINK.pack(36, NLMSG_NOOP, 0, 0, 0) + struct.pack("=5I", 0, groups, 0, 0, 0))

    def message(self, kind, payload, flags=NLM_ACK):
        self.sequence += 1
        return NETLINK.pack(NETLINK.size + len(payload), kind, NLM_REQUEST | flags, self.sequence, 0) + payload

    def send(self, kind, payload, flags=NLM_ACK):
        self.socket.send(self.message(kind, payload, flags))

    def request(self, kind, payload, flags=NLM_ACK):
        """Sends and waits for what this request is answered with: (errno, 0 for done; the other answers)."""
        self.send(kind, payload, flags)
        answers = []
        while True:
            datagram = self.socket.recv(1 << 17)
            if not datagram:
                raise ConnectionResetError("gwd closed the connection")
            for kind_, sequence, body in messages(datagram):
                if sequence != self.sequence:
                    continue
                if kind_ == NLMSG_ERROR:
                    return -struct.unpack_from("=i", body)[0], answers
                if kind_ == NLMSG_DONE:
                    return 0, answers
                answers.append((kind_, body))
                if not flags & (NLM_ACK | NLM_DUMP):
                    return 0, answers

    def expect(self, kind, payload, flags=NLM_ACK):
        code, answers = self.request(kind, payload, flags)
        if code:
            raise OSError(code, os.strerror(code))
        return answers

    def add(self, sa, kind=NEWSA, **lifetime):
        self.expect(kind, sa_info(sa, **lifetime) + sa_attributes(sa))

    def update(self, sa, **lifetime):
        self.add(sa, UPDSA, **lifetime)

    def delete(self, sa):
        self.expect(DELSA, sa_id(sa))

    def allocate(self, sa, low=0xC0000000, high=0xCFFFFFFF):
        """A larval SA; its SPI becomes `sa`'s."""
        body = self.expect(ALLOCSPI, sa_info(sa, spi=0) + struct.pack("=II", low, high), 0)[0][1]
        sa.spi = struct.unpack_from(">I", body, 56 + 16)[0]

    def get(self, sa):
        return self.expect(GETSA, sa_id(sa))

    def dump(self):
        """Bodies of all SAs."""
        return [body for _, body in self.expect(GETSA, b"", NLM_DUMP)]


# PF_KEYv2, Linux's dialect

def pf_extension(kind, payload):
    length = (4 + len(payload) + 7) // 8
    return (struct.pack("=HH", length, kind) + payload).ljust(length * 8, b"\0")


def pf_address(kind, text):
    packed = ipaddress.ip_address(text).packed
    sockaddr = (struct.pack("=HH", socket.AF_INET, 0) + packed + bytes(8) if len(packed) == 4
                else struct.pack("=HHI", socket.AF_INET6, 0, 0) + packed + bytes(4))
    return pf_extension(kind, struct.pack("=BBH", 0, len(packed) * 8, 0) + sockaddr)


def pf_sa(sa):
    """SADB_EXT_SA and X_SA2 (tunnel): AES-GCM 16, or AES-CBC with HMAC-SHA2-256."""
    integrity, encryption = (0, AES_GCM_16) if sa.algorithm == "gcm" else (SHA2_256, AES_CBC)
    return (pf_extension(EXT_SA, SPI.pack(sa.spi) + struct.pack("=BBBBI", 32, 1, integrity, encryption, 0))
            + pf_extension(SA2, struct.pack("=B3xII", TUNNEL, 0, sa.reqid)))


def pf_keys(sa):
    keys = b""
    if sa.integrity:
        keys += pf_extension(KEY_AUTH, struct.pack("=HH", len(sa.integrity) * 8, 0) + sa.integrity)
    return keys + pf_extension(KEY_ENCRYPT, struct.pack("=HH", len(sa.encryption) * 8, 0) + sa.encryption)


def pf_ends(sa):
    return pf_address(SOURCE, sa.source) + pf_address(DESTINATION, sa.destination)


def pf_lifetimes(soft, hard):
    return (pf_extension(SOFT, struct.pack("=IQQQ", 0, 0, soft, 0)) + pf_extension(HARD, struct.pack("=IQQQ", 0, 0, hard, 0)))


class PFKeyClient:
    """One connection to pfkey.sock."""

    def __init__(self, gateway, timeout=10):
        self.socket = connect(gateway.run_dir / "pfkey.sock", timeout)
        self.sequence = 0

    __enter__, __exit__, close = XFRMClient.__enter__, XFRMClient.__exit__, XFRMClient.close

    def message(self, kind, body=b"", satype=SATYPE_ESP):
        self.sequence += 1
        return HEADER.pack(2, kind, 0, satype, 2 + len(body) // 8, 0, self.sequence, os.getpid()) + body

    def send(self, kind, body=b"", satype=SATYPE_ESP):
        self.socket.send(self.message(kind, body, satype))

    def request(self, kind, body=b"", satype=SATYPE_ESP):
        """Sends and waits for the answer: (errno, body)."""
        self.send(kind, body, satype)
        while True:
            datagram = self.socket.recv(1 << 17)
            if not datagram:
                raise ConnectionResetError("gwd closed the connection")
            if len(datagram) < 16:
                continue
            _, kind_, code, _, _, _, sequence, process = HEADER.unpack_from(datagram)
            if (kind_, sequence, process) == (kind, self.sequence, os.getpid()):
                return code, datagram[16:]

    def expect(self, kind, body=b"", satype=SATYPE_ESP):
        code, answer = self.request(kind, body, satype)
        if code:
            raise OSError(code, os.strerror(code))
        return answer

    def register(self):
        self.expect(SADB_REGISTER)

    def add(self, sa, kind=SADB_ADD, lifetime=b""):
        self.expect(kind, pf_sa(sa) + lifetime + pf_ends(sa) + pf_keys(sa))

    def update(self, sa):
        self.add(sa, SADB_UPDATE)

    def allocate(self, sa, low=0x1000, high=0xFFFFFFF):
        spi = pf_extension(SPIRANGE, struct.pack("=III", low, high, 0))
        answer = self.expect(SADB_GETSPI, pf_extension(SA2, struct.pack("=B3xII", TUNNEL, 0, sa.reqid)) + pf_ends(sa) + spi)
        sa.spi = struct.unpack_from(">I", answer, 4)[0]

    def delete(self, sa):
        self.expect(SADB_DELETE, pf_sa(sa)[:16] + pf_ends(sa))

    def get(self, sa):
        return self.expect(SADB_GET, pf_sa(sa)[:16] + pf_ends(sa))
