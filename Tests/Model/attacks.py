"""Frames that must not get what they want."""

import struct

import wire
import worlds
from maker import STRANGER_MAC

GROUPS = {4: ("224.0.0.5", "239.1.2.3"), 6: ("ff02::1", "ff02::5")}
MARTIAN_SOURCES = {4: ("127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", "240.0.0.1"),
                   6: ("::1", "ff02::1", "::")}
MARTIAN_DESTINATIONS = {4: ("127.0.0.1", "0.0.0.0", "240.1.1.1"), 6: ("::1", "::")}
IKE_MARKER = bytes(4)
PATH_MTU = "packet too big"
GAP = ", after a gap"


def ipsec_head(protocol, spi):
    """The first bytes of an ESP or AH packet, number 1."""
    if protocol == wire.ESP:
        return struct.pack("!II", spi, 1)
    return struct.pack("!BBHII", wire.IPIP, 5, 0, spi, 1)


class Attacks:
    """Each function returns [(port, frame, note)] as those of Traffic."""

    def __init__(self, noise, maker):
        self.noise, self.maker = noise, maker

    def kinds(self):
        kinds = [(2, self.malformed), (2, self.unknown_spi), (2, self.ike), (2, self.group_frame), (1, self.group),
                 (2, self.neighbor_discovery), (1, self.neighbor), (1, self.routing_header), (2, self.martian),
                 (3, self.spoofed_source), (1, self.priority_tag), (1, self.other_frames), (1, self.zero_spi),
                 (2, self.pieces_to_gateway), (1, self.short), (2, self.icmp_error), (1, self.between_outsiders)]
        if self.maker.inward:
            kinds += [(3, self.sealed_in_pieces), (2, self.mixed_pieces), (1, self.nested)]
        if self.maker.keyed:
            kinds += [(3, self.replay), (4, self.forged), (2, self.late), (1, self.other_encapsulation)]
        if any(sa.protocol != wire.IPIP for sa in self.maker.outbound):
            kinds += [(4, self.outbound_spi), (1, self.path_mtu)]
        if any(port.host for port in self.maker.ports.values()):
            kinds += [(3, self.host_ike), (1, self.host_other)]
        return kinds

    def _one(self, port, packet, note, **words):
        return [(port, self.maker.frame(port, packet, **words), note)]

    # Headers

    def malformed(self):
        noise, maker = self.noise, self.maker
        source, destination = (wire.packed(end) for end in maker.of_policy("out"))
        port = maker.port_of(wire.text(source))
        protocol, payload = maker.body(source, destination)
        if len(source) == 4:
            wrong = noise.choice(({"bad_checksum": True}, {"version": 5}, {"ihl": 4}, {"ihl": 15, "total": 40},
                                  {"total": 19}, {"total": 1500 + len(payload)},
                                  {"options": bytes((131, 7, 4, 10, 0, 0, 1, 0))},
                                  {"options": bytes((137, 7, 4, 10, 0, 0, 1, 0))}))
            return self._one(port, wire.ipv4(source, destination, protocol, payload, **wrong), f"malformed {wrong}",
                             kind=wire.IPV4)
        wrong = noise.choice(({"version": 4}, {"length": 1400 + len(payload)}))
        packet = wire.ipv6(source, destination, protocol, payload, **wrong)
        return self._one(port, packet, f"malformed {wrong}", kind=wire.IPV6)

    def short(self):
        port = self.noise.choice(list(self.maker.ports))
        whole = self.maker.packet(*self.maker.of_policy("out"))
        kind = wire.IPV4 if whole[0] >> 4 == 4 else wire.IPV6
        return self._one(port, whole[:self.noise.choice((0, 1, 10, 19))], "short", kind=kind)

    def martian(self):
        noise, maker = self.noise, self.maker
        version = maker.version()
        source, destination = maker.inside(version)[1], maker.remote(version)
        port = maker.port_of(source)
        if noise.random() < 0.3:
            return self._one(port, maker.packet(source, noise.choice(MARTIAN_DESTINATIONS[version])), "to a martian")
        source = noise.choice((*MARTIAN_SOURCES[version], maker.own(version)))
        return self._one(port, maker.packet(source, destination), "from a martian")

    def spoofed_source(self):
        """From outside, with the source of a host inside."""
        noise, maker = self.noise, self.maker
        source, destination = maker.of_policy("out")
        if noise.random() < 0.3:
            destination = maker.own(4 if "." in source else 6)
        return self._one("wan", maker.packet(source, destination), "from outside with a source inside")

    def between_outsiders(self):
        version = self.maker.version()
        packet = self.maker.packet(self.maker.stranger(version), self.maker.remote(version))
        return self._one("wan", packet, "from outside to outside")

    def routing_header(self):
        maker = self.maker
        version = 6
        if version not in maker.versions:
            return []
        port, source = maker.inside(version)
        source, destination = wire.packed(source), wire.packed(self.noise.choice((maker.remote(6), maker.own(6))))
        protocol, payload = maker.body(source, destination)
        header = struct.pack("!BBBBI", protocol, 2, 0, 1, 0) + wire.packed(worlds.ELSEWHERE[6])
        return self._one(port, wire.ipv6(source, destination, wire.ROUTING, header + payload), "routing header type 0")

    # Ethernet

    def group_frame(self):
        """A unicast packet in a link-layer broadcast or multicast."""
        noise, maker = self.noise, self.maker
        port = noise.choice(list(maker.ports))
        version = maker.version()
        source = worlds.address(port, version, noise.choice(worlds.HOSTS))
        destination = noise.choice((maker.own(version), maker.inside(version)[1], maker.remote(version)))
        station = noise.choice((wire.BROADCAST, bytes.fromhex("01005e000005"), bytes.fromhex("333300000001")))
        return self._one(port, maker.packet(source, destination), "unicast in a group frame", destination=station)

    def group(self):
        """A packet to an IP group, as it comes."""
        noise, maker = self.noise, self.maker
        port = noise.choice(list(maker.ports))
        version = maker.version()
        source = worlds.address(port, version, noise.choice(worlds.HOSTS))
        destination = noise.choice(GROUPS[version] + (("255.255.255.255", worlds.place(worlds.NETS[port][0], 255))
                                                      if version == 4 else ()))
        packed = wire.packed(destination)
        if packed[0] == 0xFF and version == 6:
            station = b"\x33\x33" + packed[-4:]
        elif 224 <= packed[0] < 240:
            station = b"\x01\x00\x5e" + bytes((packed[1] & 0x7F,)) + packed[2:]
        else:
            station = wire.BROADCAST
        packet = maker.packet(source, destination, ttl=noise.choice((1, 64)))
        return self._one(port, packet, "to a group", destination=station)

    def priority_tag(self):
        """VLAN 0 is no VLAN; any other is not ours."""
        source, destination = self.maker.of_policy("out")
        port, packet = self.maker.port_of(source), self.maker.packet(source, destination)
        tag = self.noise.choice((0x0000, 0xE000, 0x6000, 0x0005))
        kind = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        return self._one(port, struct.pack("!HH", tag, kind) + packet, f"VLAN tag {tag:#x}", kind=wire.VLAN)

    def other_frames(self):
        noise, maker = self.noise, self.maker
        port = noise.choice(list(maker.ports))
        packet = maker.packet(*maker.of_policy("out"))
        kind = noise.choice(("station", "type", "arp"))
        if kind == "station":
            return self._one(port, packet, "for another station", destination=bytes.fromhex("02000000ee01"))
        if kind == "type":
            kind = noise.choice((0x8863, 0x88CC, 0x0842))
            return self._one(port, maker.tag() + bytes(40), f"of type {kind:#x}", kind=kind)
        arp = struct.pack("!HHBBH6s4s6s4s", 1, wire.IPV4, 6, 4, 2, wire.mac("020000007777"), wire.packed(
            worlds.address(port, 4, 0x40)), wire.mac(maker.ports[port].mac), wire.packed(maker.own(4, port)))
        return self._one(port, arp + bytes(18), "ARP", kind=wire.ARP)

    # Neighbour discovery and IKE are not to be ways around policies

    def neighbor_discovery(self):
        noise, maker = self.noise, self.maker
        if 6 not in maker.versions:
            return []
        source, destination = maker.of_policy(noise.choice(("out", "in")))
        if "." in source:
            source, destination = maker.inside(6)[1], maker.remote(6)
        port = maker.port_of(source)
        source, destination = wire.packed(source), wire.packed(destination)
        body = wire.icmp(source, destination, noise.randrange(133, 138), 0, 0, bytes(16) + maker.tag())
        packet = wire.ipv6(source, destination, wire.ICMP6, body, noise.choice((255, 255, 64)))
        return self._one(port, packet, "neighbour discovery in transit")

    def neighbor(self):
        """Neighbour discovery for the gateway itself: from the link it has come without a hop."""
        noise, maker = self.noise, self.maker
        if 6 not in maker.versions:
            return []
        port = noise.choice(list(maker.ports))
        own, source = wire.packed(maker.own(6, port)), wire.packed(worlds.address(port, 6, noise.choice(worlds.HOSTS)))
        is_multicast = noise.random() < 0.5
        target = b"\xff\x02" + bytes(9) + b"\x01\xff" + own[-3:] if is_multicast else own
        body = wire.icmp(source, target, 135, 0, 0, own + b"\x01\x01" + wire.mac(STRANGER_MAC))
        packet = wire.ipv6(source, target, wire.ICMP6, body, noise.choice((255, 255, 64)))
        station = b"\x33\x33" + target[-4:] if is_multicast else None
        return self._one(port, packet, "a neighbour's question", destination=station)

    def ike(self):
        """To the gateway's IKE ports: IKE itself, keepalives, ESP with an SPI that nobody has."""
        noise, maker = self.noise, self.maker
        version = maker.version()
        peer = worlds.address("wan", version, noise.choice(worlds.PEERS))
        source = wire.packed(noise.choice((maker.stranger(version), peer)))
        own = wire.packed(maker.own(version, "wan"))

        def datagram(to, data, note):
            packet = maker.packet(source, own, ttl=64, body=(wire.UDP, wire.udp(source, own, to, to, data)))
            return "wan", maker.frame("wan", packet), note
        spi = noise.choice((1, 0x777, 0xFFFFFFFE)).to_bytes(4, "big")
        made = [datagram(4500, spi + bytes(4) + maker.tag() + bytes(40), "ESP in UDP, unknown SPI"),
                datagram(4500, IKE_MARKER + maker.tag() + bytes(20), "IKE on 4500"),
                datagram(500, maker.tag() + bytes(20), "IKE on 500"), datagram(4500, b"\xff", "keepalive")]
        noise.shuffle(made)
        return made[:noise.choice((1, 2, 4))]

    def host_ike(self):
        """The host's, from IKE's ports: to a peer it is IKE, to a protected network it is a way around."""
        noise, maker = self.noise, self.maker
        port = "wan" if maker.ports["wan"].host else next(name for name, port in maker.ports.items() if port.host)
        version = maker.version()
        own = wire.packed(maker.own(version, port))
        ends = [sa.destination for sa in maker.outbound if sa.version == version]
        to = wire.packed(noise.choice((*ends, maker.remote(version), maker.remote(version))))
        number = noise.choice((500, 4500))
        body = wire.UDP, wire.udp(own, to, number, number, IKE_MARKER + maker.tag() + bytes(20))
        return [(f"host:{port}", maker.host_frame(port, maker.packet(own, to, body=body)), "from the host, IKE's port")]

    def host_other(self):
        """Frames of the host that are not IP: ARP passes, nothing else."""
        port = self.noise.choice([name for name, port in self.maker.ports.items() if port.host])
        kind = self.noise.choice((wire.ARP, wire.VLAN, 0x8863))
        frame = wire.ethernet(wire.BROADCAST, wire.mac(self.maker.ports[port].mac), kind, self.maker.tag() + bytes(50))
        return [(f"host:{port}", frame, f"from the host, type {kind:#x}")]

    # IPsec

    def unknown_spi(self):
        noise, maker = self.noise, self.maker
        version = maker.version()
        protocol = noise.choice((wire.ESP, wire.ESP, wire.AH))
        spi = noise.choice((1, 0x777, 0xFFFFFFFF))
        body = protocol, ipsec_head(protocol, spi) + maker.tag() + bytes(40)
        packet = maker.packet(maker.stranger(version), maker.own(version), body=body)
        return self._one("wan", packet, "unknown SPI")

    def zero_spi(self):
        """SPI 0 never comes on a wire (RFC 4303 2.1), least of all to nowhere; right behind a packet that passes."""
        noise, maker = self.noise, self.maker
        version = maker.version()
        destination = noise.choice(({4: "0.0.0.0", 6: "::"}[version], maker.own(version)))
        zero = maker.packet(maker.stranger(version), destination, body=(wire.ESP, bytes(8) + maker.tag() + bytes(24)))
        before = maker.packet(maker.stranger(version), maker.inside(version)[1], ttl=64)
        return self._one("wan", before, "in clear from outside") + self._one("wan", zero, "SPI 0")

    def replay(self):
        return [("wan", self.noise.choice(self.maker.sealed), "replayed")] if self.maker.sealed else []

    def late(self):
        """A number that was passed over: inside the window or below it."""
        noise, maker = self.noise, self.maker
        sa = noise.choice(maker.keyed)
        maker.sequences[sa.name] += 70
        number = maker.sequences[sa.name] - noise.randrange(66)
        newest = maker.frame("wan", maker.seal(sa, maker.inner(sa)))
        late = maker.frame("wan", maker.seal(sa, maker.inner(sa), sequence=number))
        return [("wan", newest, f"by {sa.name}{GAP}"), ("wan", late, f"late by {sa.name}")]

    def outbound_spi(self):
        """As the gateway itself would seal it, from an attacker: to the peer's address, and to the gateway's."""
        noise, maker = self.noise, self.maker
        sa = noise.choice([sa for sa in maker.outbound if sa.protocol != wire.IPIP])
        inner = maker.packet(*maker.of_policy("in")) if sa.mode == "tunnel" else maker.packet(*sa.ends[::-1])
        destination = noise.choice(sa.ends)
        source = wire.packed(maker.stranger(sa.version))
        packet = maker.seal(sa, inner, sequence=noise.randrange(1, 1000), destination=destination, source=source)
        return self._one("wan", packet, f"the outbound SPI of {sa.name} to {wire.text(destination)}")

    def other_encapsulation(self):
        """In UDP where the SA is without, or the other way round (RFC 3948 2.1)."""
        noise, maker = self.noise, self.maker
        sa = noise.choice(maker.keyed)
        if sa.protocol == wire.AH:
            return []
        packet = wire.Packet(maker.seal(sa, maker.inner(sa), sequence=maker.sequences[sa.name] + 1))
        if sa.encapsulation:
            body = wire.ESP, packet.payload[8:]
        else:
            body = wire.UDP, wire.udp(packet.source, packet.destination, 4500, 4500, packet.payload)
        packet = maker.packet(packet.source, packet.destination, body=body)
        return self._one("wan", packet, f"the other encapsulation of {sa.name}")

    def nested(self):
        """What one SA carries is itself by another."""
        noise, maker = self.noise, self.maker
        first, second = noise.choice(maker.inward), noise.choice(maker.inward)
        if "transport" in (first.mode, second.mode):
            return []
        inner = maker.packet(*maker.of_policy("in"), size=noise.choice((0, 40, 200)))
        return self._one("wan", maker.seal(second, maker.seal(first, inner)), f"{first.name} in {second.name}")

    def forged(self):
        """By an SA, but one thing is wrong."""
        noise, maker = self.noise, self.maker
        sa = noise.choice(maker.keyed)
        inner = maker.inner(sa)
        kind = noise.choice(("icv", "spi", "sequence", "padding", "cut", "ragged")
                            + (("next header", "dummy", "inner") if sa.mode == "tunnel" else ()))
        far = maker.sequences[sa.name] + 100
        if kind == "icv":
            packet = maker.seal(sa, inner, sequence=far)
            packet = packet[:-1] + bytes((packet[-1] ^ 1,))
        elif kind == "spi":
            packet = maker.seal(sa, inner, spi=noise.choice((1, 0x777, 0xFFFFFFFF)), sequence=1)
        elif kind == "sequence":
            packet = maker.seal(sa, inner, sequence=0)
        elif kind == "next header":
            other = wire.IP6IP if inner[0] >> 4 == 4 else wire.IPIP
            packet = maker.seal(sa, inner, next_header=noise.choice((99, 0, 17, other)))
        elif kind == "dummy":
            packet = maker.seal(sa, bytes(30), next_header=wire.NONE)
        elif kind == "inner":
            packet = maker.seal(sa, noise.choice((b"", b"\x45", inner[:19], inner[:2] + b"\xff\xff" + inner[4:])),
                                next_header=wire.IPIP if inner[0] >> 4 == 4 else wire.IP6IP)
        elif sa.protocol == wire.AH:
            return []
        elif kind == "padding":
            room = -(len(inner) + 2) % sa.cipher.alignment
            wrong = {"padding": bytes(room)} if room >= 2 and sa.mode == "tunnel" else {"pad_length": 255}
            packet = maker.seal(sa, inner, **wrong)
        else:
            whole = wire.Packet(maker.seal(sa, inner, sequence=far))
            keep = noise.randrange(0, 40) if kind == "cut" else len(whole.payload) - 1
            if sa.encapsulation:
                esp = whole.payload[8:][:max(4, keep - 8)]
                body = wire.UDP, wire.udp(whole.source, whole.destination, *sa.encapsulation, esp)
            else:
                body = wire.ESP, whole.payload[:keep]
            packet = maker.packet(whole.source, whole.destination, body=body, ttl=64)
        return self._one("wan", packet, f"forged {kind} of {sa.name}")

    # Fragments

    def pieces_to_gateway(self):
        """A datagram for the gateway, in pieces in any order; overlapping, tiny, or with a hole."""
        noise, maker = self.noise, self.maker
        version = maker.version()
        whole = maker.packet(maker.stranger(version), maker.own(version), size=300, ttl=64)
        return self._cut(whole, "of what is for the gateway")

    def sealed_in_pieces(self):
        """What an SA's sender sent, cut on its way."""
        sa = self.noise.choice(self.maker.inward)
        return self._cut(self.maker.seal(sa, self.maker.inner(sa, size=300)), f"by {sa.name}")

    def _cut(self, whole, note):
        noise, maker = self.noise, self.maker
        kind, places = noise.choice((
            ("piece", [(0, 160), (160, None)]), ("piece", [(0, 96), (96, 200), (200, None)]),
            ("overlapping piece", [(0, 160), (152, None)]), ("piece twice", [(0, 160), (0, 160)]),
            ("tiny piece", [(0, 8)]), ("lone piece", [(160, None)])))
        pieces = wire.cut(whole, places, maker.next_identification())
        noise.shuffle(pieces)
        return [("wan", maker.frame("wan", piece), f"{kind} {note}") for piece in pieces]

    def mixed_pieces(self):
        """One piece of a datagram through a tunnel, the other in clear: never one datagram."""
        noise, maker = self.noise, self.maker
        sa = noise.choice(maker.inward)
        if sa.mode == "transport":
            return []
        source = maker.of_policy("in")[0]
        whole = maker.packet(source, maker.own(4 if "." in source else 6), size=300, ttl=64)
        pieces = wire.cut(whole, [(0, 160), (160, None)], maker.next_identification())
        noise.shuffle(pieces)
        made = self._one("wan", maker.seal(sa, pieces[0]), f"a piece by {sa.name}")
        return made + self._one("wan", pieces[1], "the other piece in clear")

    # ICMP

    def icmp_error(self):
        """From outside, about a packet that the gateway may have sent, or never did."""
        noise, maker = self.noise, self.maker
        version = maker.version()
        source, own = wire.packed(maker.stranger(version)), wire.packed(maker.own(version, "wan"))
        esp = ipsec_head(wire.ESP, noise.choice((0x777, 0x1234))) + bytes(24)
        quoted = wire.ip(own, wire.packed(maker.remote(version)), wire.ESP, esp)
        kind, code = noise.choice(((3, 1), (3, 4), (11, 0)) if version == 4 else ((1, 0), (2, 0), (3, 0)))
        body = wire.icmp(source, own, kind, code, 1400, quoted + maker.tag())
        packet = maker.packet(source, own, ttl=64, body=(wire.ICMP if version == 4 else wire.ICMP6, body))
        return self._one("wan", packet, "an ICMP error")

    def path_mtu(self):
        """A router's word about what an SA sends, right or with one thing wrong (RFC 4301 8.2, RFC 1191, RFC 8201)."""
        noise, maker = self.noise, self.maker
        sa = noise.choice([sa for sa in maker.outbound if sa.protocol != wire.IPIP])
        source, destination = sa.ends
        wrong = noise.choice((None, None, None, "SPI", "source", "checksum"))
        if wrong == "source":
            source = wire.packed(maker.stranger(sa.version))
        spi = sa.spi ^ (wrong == "SPI") << 20
        protocol, data = sa.protocol, ipsec_head(sa.protocol, spi) + bytes(24)
        if sa.encapsulation:
            protocol, data = wire.UDP, wire.udp(source, destination, *sa.encapsulation, data)
        quoted = wire.ip(source, destination, protocol, data + bytes(24))
        router = wire.packed(worlds.address("wan", sa.version, worlds.ROUTER))
        mtu = noise.choice((1450, 1400, 1300, 1280, 900, 296))
        body = wire.icmp(router, sa.ends[0], *((3, 4) if sa.version == 4 else (2, 0)), mtu, quoted)
        if wrong == "checksum":
            body = body[:2] + bytes((body[2] ^ 1,)) + body[3:]
        packet = maker.packet(router, sa.ends[0], ttl=64, body=(wire.ICMP if sa.version == 4 else wire.ICMP6, body))
        return self._one("wan", packet, f"{PATH_MTU} ({mtu}) about {sa.name}" + f", wrong {wrong}" * bool(wrong))
