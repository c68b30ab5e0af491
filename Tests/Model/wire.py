"""Packets as bytes: Ethernet, IPv4, IPv6, UDP, TCP, ICMP made and read, from RFC 791, 8200, 768, 792 and 4443 alone.

What is made here may be wrong on purpose: every field of a header can be given.
"""

import functools
import ipaddress
import struct

IPV4, IPV6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
ICMP, IGMP, IPIP, TCP, UDP, IP6IP, ROUTING, FRAGMENT, GRE, ESP, AH, ICMP6, NONE, OPTIONS, IPCOMP, HOP_BY_HOP = (
    1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 108, 0)
MOBILITY, SCTP = 135, 132
WITH_PORTS = frozenset((TCP, UDP, SCTP, 33, 136))
EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, OPTIONS))
BROADCAST = b"\xff" * 6


@functools.lru_cache(4096)
def packed(address):
    """The bytes of an address written as text."""
    return ipaddress.ip_address(address).packed


@functools.lru_cache(4096)
def text(address):
    """An address of 4 or 16 bytes as it is written."""
    return str(ipaddress.ip_address(address))


@functools.lru_cache(1024)
def network(prefix):
    """A prefix that is written as text, as ipaddress has it."""
    return ipaddress.ip_network(prefix)


@functools.lru_cache(256)
def interface(address):
    """An address with the length of its prefix, the same."""
    return ipaddress.ip_interface(address)


@functools.lru_cache(256)
def mac(text_):
    return bytes.fromhex(text_.replace(":", ""))


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination, source, kind, payload):
    return destination + source + kind.to_bytes(2, "big") + payload


def untagged(frame):
    """(type, payload) of a frame; VLAN 0 is a priority, not a VLAN (802.1Q 6.9)."""
    kind, at = int.from_bytes(frame[12:14], "big"), 14
    if kind == VLAN and len(frame) >= 18 and not int.from_bytes(frame[14:16], "big") & 0x0FFF:
        kind, at = int.from_bytes(frame[16:18], "big"), 18
    return kind, frame[at:]


def ipv4(source, destination, protocol, payload, ttl=64, tos=0, identification=0, df=False, more=False, offset=0,
         options=b"", total=None, ihl=None, version=4, bad_checksum=False):
    """RFC 791 3.1. `offset` in bytes; `total`, `ihl`, `version` and the checksum may lie."""
    options += bytes(-len(options) % 4)
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    total = 20 + len(options) + len(payload) if total is None else total
    place = df << 14 | more << 13 | offset // 8
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | ihl, tos, total, identification, place, ttl, protocol, 0,
                         source, destination) + options
    right = checksum(header)
    if bad_checksum:
        right ^= 0x0100
    return header[:10] + right.to_bytes(2, "big") + header[12:] + payload


def ipv6(source, destination, protocol, payload, hops=64, traffic_class=0, label=0, length=None, version=6):
    """RFC 8200 3."""
    return struct.pack("!IHBB16s16s", version << 28 | traffic_class << 20 | label,
                       len(payload) if length is None else length, protocol, hops, source, destination) + payload


def ip(source, destination, protocol, payload, ttl=64, tos=0):
    """Either family, by the addresses."""
    if len(source) == 4:
        return ipv4(source, destination, protocol, payload, ttl, tos)
    return ipv6(source, destination, protocol, payload, ttl, tos)


def fragment_header(protocol, offset, more, identification):
    """RFC 8200 4.5."""
    return struct.pack("!BBHI", protocol, 0, offset | more, identification)


def pseudo_header(source, destination, protocol, length):
    """RFC 768 for IPv4, RFC 8200 8.1 for IPv6."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!IHBB", length, 0, 0, protocol)


def icmp_pseudo_header(packet):
    """What ICMPv6's checksum covers besides (RFC 4443 2.3); nothing in IPv4."""
    return b"" if packet.version == 4 else pseudo_header(packet.source, packet.destination, ICMP6, len(packet.payload))


def udp(source, destination, source_port, destination_port, payload, length=None):
    head = struct.pack("!HHH", source_port, destination_port, 8 + len(payload) if length is None else length)
    value = checksum(pseudo_header(source, destination, UDP, 8 + len(payload)) + head + b"\0\0" + payload) or 0xFFFF
    return head + value.to_bytes(2, "big") + payload


def tcp(source, destination, source_port, destination_port, payload, flags=0x18):
    head = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 1, 0x50, flags, 512, 0, 0)
    value = checksum(pseudo_header(source, destination, TCP, len(head) + len(payload)) + head + payload)
    return head[:16] + value.to_bytes(2, "big") + head[18:] + payload


def icmp(source, destination, kind, code, rest, payload):
    """ICMP or ICMPv6, by the addresses; `rest` is the header's second word."""
    body = struct.pack("!BBHI", kind, code, 0, rest) + payload
    before = b"" if len(source) == 4 else pseudo_header(source, destination, ICMP6, len(body))
    return body[:2] + checksum(before + body).to_bytes(2, "big") + body[4:]


class Malformed(Exception):
    """The packet has to be dropped; `reasons` are the counters that may say why."""

    def __init__(self, *reasons):
        super().__init__(", ".join(reasons))
        self.reasons = frozenset(reasons)


class Packet:
    """A whole IP packet, its fields read once.

    `transport` is where the upper layer's header begins, or a fragment's data, or, where the fields say so, what
    follows the last extension header that is not ESP or AH. `fragment` is None or (identification, offset, more).
    """

    __slots__ = ("data", "version", "source", "destination", "ttl", "tos", "df", "protocol", "transport", "fragment",
                 "source_port", "destination_port", "kind", "code", "options", "routing", "label", "fragment_at",
                 "unfragmentable", "source_number", "destination_number")

    def __init__(self, data):
        self.data = data
        self.options = self.routing = False
        self.label = 0
        self.fragment = None
        if len(data) and data[0] >> 4 == 6:
            self._ipv6()
        else:
            self._ipv4()
        self.source_number = int.from_bytes(self.source, "big")
        self.destination_number = int.from_bytes(self.destination, "big")
        self._ports()

    def _ipv4(self):
        data = self.data
        self.version = 4
        self.tos, identification, place, self.ttl, self.protocol = (
            data[1], *struct.unpack_from("!HHBB", data, 4))
        self.source, self.destination = data[12:16], data[16:20]
        self.df = bool(place & 0x4000)
        if place & 0x3FFF:
            self.fragment = (identification, (place & 0x1FFF) * 8, bool(place & 0x2000))
        self.transport = (data[0] & 15) * 4
        self.options = self.transport > 20
        self.fragment_at = self.unfragmentable = None

    def _ipv6(self):
        """The chain of extension headers, RFC 8200 4."""
        data = self.data
        word, _, following, self.ttl = struct.unpack_from("!IHBB", data)
        self.version, self.tos, self.label, self.df = 6, word >> 20 & 0xFF, word & 0xFFFFF, True
        self.source, self.destination = data[8:24], data[24:40]
        at, headers = 40, 0
        self.fragment_at, self.unfragmentable = None, 40
        while following in EXTENSIONS or following == FRAGMENT:
            if following == HOP_BY_HOP and at != 40:
                raise Malformed("ipv6_extension_headers")
            headers += 1
            size = 8 if following == FRAGMENT else 8 + 8 * data[at + 1] if at + 8 <= len(data) else 8
            if at + size > len(data) or headers > 8 or at + size - 40 > 512:
                raise Malformed("ipv6_extension_headers")
            if following == FRAGMENT:
                place, identification = struct.unpack_from("!HI", data, at + 2)
                self.fragment_at = at
                if place & 0xFFF9:
                    self.fragment = (identification, place & 0xFFF8, bool(place & 1))
            elif following == ROUTING:
                self.routing = self.routing or (data[at + 2], data[at + 3])
                self.unfragmentable = at + size
            elif following == HOP_BY_HOP:
                self.options = True
                self.unfragmentable = at + size
            following, at = data[at], at + size
            if self.fragment and self.fragment[1]:
                break
        self.protocol, self.transport = following, at

    def _ports(self):
        """Ports, or ICMP's type and code; None where the packet does not show them."""
        self.source_port = self.destination_port = self.kind = self.code = None
        data, at = self.data, self.transport
        if self.fragment and self.fragment[1]:
            return
        if self.protocol in WITH_PORTS and len(data) >= at + 4:
            self.source_port, self.destination_port = struct.unpack_from("!HH", data, at)
        elif self.protocol in (ICMP, ICMP6) and len(data) >= at + 2:
            self.kind, self.code = data[at], data[at + 1]

    @property
    def payload(self):
        return self.data[self.transport:]

    @property
    def is_multicast(self):
        return self.destination[0] == 0xFF if self.version == 6 else 224 <= self.destination[0] < 240

    def __repr__(self):
        words = [text(self.source), ">", text(self.destination), f"proto {self.protocol}", f"{len(self.data)} bytes"]
        if self.source_port is not None:
            words.append(f"ports {self.source_port}>{self.destination_port}")
        if self.kind is not None:
            words.append(f"type {self.kind}/{self.code} word 0x{self.payload[4:8].hex()}")
        if self.fragment:
            words.append("fragment id %d at %d%s" % (*self.fragment[:2], " more" * self.fragment[2]))
        words.append(f"ttl {self.ttl}")
        return f"<{' '.join(words)}>"


def checked(data, kind=None):
    """The packet of what an Ethernet frame of this type (None: any) carries, after the checks of RFC 1812 5.2.2 and
    RFC 8200 3; what follows its end is cut off. Malformed where it must be dropped."""
    if not data:
        raise Malformed("ip_truncated")
    version = data[0] >> 4
    if (kind is not None and version != (4 if kind == IPV4 else 6)) or version not in (4, 6):
        raise Malformed("ip_version", *(("ip_truncated",) if len(data) < (20 if kind == IPV4 else 40) else ()))
    return _checked_ipv4(data) if version == 4 else _checked_ipv6(data)


def _checked_ipv4(data):
    if len(data) < 20:
        raise Malformed("ip_truncated")
    header, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    faults = set()
    if header < 20 or header > len(data):
        faults |= {"ip_header_length", "ip_truncated"}
    if total < header or total > len(data):
        faults.add("ip_total_length")
    if not faults and checksum(data[:header]):
        faults.add("ip_checksum")
    if faults:
        raise Malformed(*faults)
    if header > 20 and has_source_route(data[20:header]):
        raise Malformed("ip_source_route")
    return Packet(data[:total])


def has_source_route(options):
    """Loose or strict source route among the options (RFC 791; dropped, RFC 7126 4.3 and 4.4)."""
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        if options[at] in (131, 137):
            return True
        if at + 1 >= len(options) or options[at + 1] < 2:
            return False
        at += options[at + 1]
    return False


def _checked_ipv6(data):
    if len(data) < 40:
        raise Malformed("ip_truncated")
    total = 40 + int.from_bytes(data[4:6], "big")
    if total > len(data):
        raise Malformed("ip_total_length")
    return Packet(data[:total])


def aged(data):
    """As a router leaves a packet: one hop less (RFC 1812 5.3.1, RFC 8200 3)."""
    if data[0] >> 4 == 6:
        return data[:7] + bytes([data[7] - 1]) + data[8:]
    header = bytearray(data[:(data[0] & 15) * 4])
    header[8] -= 1
    header[10:12] = b"\0\0"
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + data[len(header):]


def with_tos(data, tos):
    """The same packet with another traffic class."""
    if data[0] >> 4 == 6:
        word = int.from_bytes(data[:4], "big") & 0xF00FFFFF | tos << 20
        return word.to_bytes(4, "big") + data[4:]
    header = bytearray(data[:(data[0] & 15) * 4])
    header[1] = tos
    header[10:12] = b"\0\0"
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + data[len(header):]


def cut(data, places, identification=1):
    """Fragments of a whole packet: (from, to) of its payload in bytes, `to` None for its end. IPv6 packets have no
    extension headers here."""
    made = []
    if data[0] >> 4 == 4:
        payload = data[20:]
        for start, end in places:
            made.append(ipv4(data[12:16], data[16:20], data[9], payload[start:end], data[8], data[1], identification,
                             more=end is not None, offset=start))
        return made
    payload = data[40:]
    for start, end in places:
        header = fragment_header(data[6], start, end is not None, identification)
        made.append(ipv6(data[8:24], data[24:40], FRAGMENT, header + payload[start:end], data[7]))
    return made
