"""Makes packets for a world: between places that its policies speak of, and through its SAs as their far ends do."""

import functools
import ipaddress
import struct

import wire
import worlds
from transforms import seal_ah, seal_esp
from world import MARKER_PROTOCOL

STRANGER_MAC = "02:00:00:00:77:77"
SIZES = (0, 1, 7, 40, 200, 900, 1300)


@functools.lru_cache(4096)
def is_within(host, port):
    """Whether a host is in one of a port's networks."""
    number = ipaddress.ip_address(host)
    return any(number in wire.network(net) for net in worlds.NETS[port])


class Maker:
    """Numbers of inbound SAs go on from packet to packet, so that replays and gaps are real."""

    def __init__(self, noise, world):
        self.noise = noise
        self.identification = noise.randrange(1, 1000)
        self.sequences, self.sealed = {}, []
        self.load(world)

    def load(self, world):
        self.world = world
        self.ports = {port.name: port for port in world.ports}
        self.versions = sorted({wire.interface(written).version for written in world.ports[0].addresses})
        self.inward = [sa for sa in world.sas if sa.direction == "in"]
        self.outbound = [sa for sa in world.sas if sa.direction == "out"]
        self.keyed = [sa for sa in self.inward if sa.protocol != wire.IPIP]
        self.policies = [policy for policy in world.policies if policy.protocol != MARKER_PROTOCOL]
        for sa in world.sas:
            self.sequences.setdefault(sa.name, 0)

    # Pieces of packets

    def tag(self):
        """No packet's data is like another's."""
        return self.noise.randbytes(8)

    def next_identification(self):
        self.identification = self.identification % 65535 + 1
        return self.identification

    def body(self, source, destination, size=None, destination_port=None):
        """(protocol, payload) of a transport of some kind."""
        noise = self.noise
        data = self.tag() + bytes(noise.choice(SIZES) if size is None else size)
        protocol = noise.choice((wire.UDP,) * 5 + (wire.TCP, wire.TCP, wire.ICMP, wire.GRE))
        if destination_port is not None or protocol == wire.UDP:
            to = noise.choice((53, 2000, 7000)) if destination_port is None else destination_port
            return wire.UDP, wire.udp(source, destination, noise.choice((53, 1024, 500, 4500)), to, data)
        if protocol == wire.TCP:
            return protocol, wire.tcp(source, destination, 1024, noise.choice((53, 80, 2000)), data)
        if protocol == wire.ICMP:
            kind, protocol = (8, wire.ICMP) if len(source) == 4 else (128, wire.ICMP6)
            return protocol, wire.icmp(source, destination, kind, 0, 1, data)
        return protocol, struct.pack("!HH", 0, 0x0800) + data

    def packet(self, source, destination, ttl=None, size=None, body=None, df=None):
        """A whole packet between two addresses, written as text or packed."""
        noise = self.noise
        source, destination = (wire.packed(end) if isinstance(end, str) else end for end in (source, destination))
        ttl = noise.choice((64, 64, 64, 255, 2, 1)) if ttl is None else ttl
        tos = noise.choice((0, 0, 0, 0xB8, 1, 2, 3, 0x28 | 2))
        protocol, payload = body or self.body(source, destination, size)
        if len(source) == 4:
            df = noise.random() < 0.4 if df is None else df
            return wire.ipv4(source, destination, protocol, payload, ttl, tos, self.next_identification(), df=df)
        return wire.ipv6(source, destination, protocol, payload, ttl, tos, noise.choice((0, 0, 0x12345)))

    def frame(self, port, packet, destination=None, kind=None):
        """An Ethernet frame to a port of the gateway, or to another address."""
        kind = kind or (wire.IPV6 if packet[:1] and packet[0] >> 4 == 6 else wire.IPV4)
        return wire.ethernet(destination or wire.mac(self.ports[port].mac), wire.mac(STRANGER_MAC), kind, packet)

    def host_frame(self, port, packet):
        """A frame as the host's kernel sends it by a TAP."""
        kind = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        number = self.noise.choice(worlds.HOSTS)
        return wire.ethernet(wire.mac(worlds.neighbor_mac(port, number)), wire.mac(self.ports[port].mac), kind, packet)

    # Places

    def version(self):
        return self.noise.choice(self.versions)

    def inside(self, version):
        """(port, host) of a host near by."""
        port = self.noise.choice([name for name in self.ports if name != "wan"])
        return port, worlds.address(port, version, self.noise.choice(worlds.HOSTS))

    def stranger(self, version):
        """Somebody on the WAN's link who is no peer's end."""
        return worlds.address("wan", version, self.noise.choice(worlds.HOSTS))

    def remote(self, version):
        """A host of a remote network, or somebody in the internet."""
        noise = self.noise
        if noise.random() < 0.15:
            return worlds.ELSEWHERE[version]
        return worlds.place(noise.choice(worlds.REMOTE[version]), noise.choice(worlds.HOSTS))

    def own(self, version, port=None):
        """An address of the gateway."""
        return worlds.address(port or self.noise.choice(list(self.ports)), version, 1)

    def of_policy(self, direction):
        """(source, destination) that some policy of the direction selects, or any; of hosts, not of the gateway
        itself."""
        chosen = [policy for policy in self.policies if policy.direction == direction and policy.mode == "tunnel"]
        if not chosen or self.noise.random() < 0.2:
            version = self.version()
            pair = self.inside(version)[1], self.remote(version)
            return pair if direction == "out" else pair[::-1]
        return self.selected(self.noise.choice(chosen))

    def selected(self, policy):
        """(source, destination) that a policy selects."""
        version, turn = policy.version, 1 if policy.direction == "out" else -1
        near, far = (policy.source, policy.destination)[::turn]
        near, far = self.within(near, lambda: self.inside(version)[1]), self.within(far, lambda: self.remote(version))
        return (near, far)[::turn]

    def within(self, prefix, otherwise):
        """A host in a prefix; `otherwise()` where it is of any length."""
        net = wire.network(prefix)
        if net.prefixlen == 0:
            return otherwise()
        if net.num_addresses == 1:
            return str(net.network_address)
        return str(net[self.noise.choice(worlds.HOSTS)])

    def port_of(self, host):
        """The port that a near host is behind, "wan" for all others."""
        return next((name for name in self.ports if is_within(host, name)), "wan")

    # Through SAs

    def inner(self, sa, **words):
        """A packet that the policies let an inbound SA carry, as far as there is one; sometimes any."""
        if sa.mode == "transport":
            return self.packet(*sa.ends, **words)
        named = [policy for policy in self.policies
                 if policy.direction == "in" and sa.source == policy.peer and policy.mode == "tunnel"]
        if named and self.noise.random() < 0.9:
            return self.packet(*self.selected(self.noise.choice(named)), **words)
        return self.packet(*self.of_policy("in"), **words)

    def seal(self, sa, inner, next_header=None, sequence=None, source=None, destination=None, spi=None, **wrong):
        """An IP packet as the SA's sender makes it, or (`wrong`: what seal_esp is to do otherwise) as it must not."""
        noise = self.noise
        if sequence is None:
            self.sequences[sa.name] += 1
            sequence = self.sequences[sa.name]
        if next_header is None and sa.mode == "tunnel":
            next_header = wire.IPIP if inner[0] >> 4 == 4 else wire.IP6IP
        source, destination, spi = source or sa.ends[0], destination or sa.ends[1], sa.spi if spi is None else spi
        tos = noise.choice((0, 0, 0, 1, 2, 3, 0x28))

        if sa.mode == "transport":
            packet = wire.Packet(inner)
            next_header, inner = packet.protocol if next_header is None else next_header, packet.payload

        def outer(protocol, payload):
            if len(source) == 4:
                return wire.ipv4(source, destination, protocol, payload, 60, tos, noise.randrange(65536))
            return wire.ipv6(source, destination, protocol, payload, 60, tos)
        if sa.protocol == wire.IPIP:
            return outer(next_header, inner)
        if sa.protocol == wire.AH:
            padding = 4 * (len(source) == 16)
            return seal_ah(sa.cipher.integrity, outer, spi, sequence, next_header, inner, sa.esn, padding)
        iv = noise.randbytes(sa.cipher.iv_bytes)
        esp = seal_esp(sa.cipher, spi, sequence, inner, next_header, iv, sa.esn, **wrong)
        if not sa.encapsulation:
            return outer(wire.ESP, esp)
        return outer(wire.UDP, wire.udp(source, destination, *sa.encapsulation, esp))
