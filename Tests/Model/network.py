"""A world's network: whose an address is, where a packet goes next, and whom it may come from (RFC 1812, RFC 8200)."""

import wire

LIMITED_BROADCAST = b"\xff\xff\xff\xff"
NAT_T_PORT = 4500


class Hop:
    """The next hop on a port; `mac` is None where its Ethernet address is not known."""

    __slots__ = ("port", "mac")

    def __init__(self, port, mac):
        self.port, self.mac = port, mac


class Network:
    """Addresses, routes and neighbours of a world, as numbers."""

    def __init__(self, world):
        self.ports = {port.name: port for port in world.ports}
        self.own, self.broadcasts, self.addresses = {}, {}, {}
        self.table = {4: [], 6: []}
        self.neighbors = {(port, wire.packed(address)): wire.mac(mac) for port, address, mac in world.neighbors}
        self.hops = {}
        for port in world.ports:
            for written in port.addresses:
                self._own(port, wire.interface(written))
        for to, via in world.routes:
            self._route(wire.network(to), wire.packed(via))

    def _own(self, port, interface):
        network = interface.network
        self.own[interface.ip.packed] = port.name
        self.addresses.setdefault((port.name, network.version), []).append(interface.ip.packed)
        if network.version == 4 and network.prefixlen < 31:
            self.broadcasts[network.broadcast_address.packed] = port.name
            self.broadcasts[network.network_address.packed] = port.name
        self._insert(network, port.name, None)

    def _route(self, network, via):
        port = self.lookup(via)
        if port:
            self._insert(network, port[0], via)

    def _insert(self, network, port, via):
        self.table[network.version].append((int(network.network_address), int(network.netmask), port, via))

    def lookup(self, address):
        """(port, next hop or None where it is on the link) by the longest prefix, None without a route."""
        number = int.from_bytes(address, "big")
        best = None
        for network, mask, port, via in self.table[4 if len(address) == 4 else 6]:
            if number & mask == network and (best is None or mask > best[0]):
                best = (mask, port, via)
        return best and best[1:]

    def hop(self, address):
        """The Hop towards an address, None without a route."""
        found = self.hops.get(address)
        if found is None and address not in self.hops:
            route = self.lookup(address)
            found = route and Hop(route[0], self.neighbors.get((route[0], route[1] or address)))
            self.hops[address] = found
        return found

    def address_of(self, port, version):
        """A port's first address of a family, None where it has none."""
        known = self.addresses.get((port, version))
        return known and known[0]

    def is_for_gateway(self, packet, port):
        """Whether a packet's destination is the gateway itself: own, or a group's on that port."""
        destination = packet.destination
        return (destination in self.own or packet.is_multicast or destination == LIMITED_BROADCAST
                or self.broadcasts.get(destination) == port)

    def is_group(self, packet, port):
        return (packet.is_multicast or packet.destination == LIMITED_BROADCAST
                or self.broadcasts.get(packet.destination) == port)

    def is_own_source(self, packet):
        """Whether a packet claims to be from the gateway itself, or from all hosts of a network of its own."""
        return packet.source in self.own or packet.source in self.broadcasts

    @staticmethod
    def is_martian_source(packet):
        """RFC 1812 5.3.7, RFC 4291 2.5 and 2.7."""
        source = packet.source
        if packet.version == 4:
            return source[0] in (0, 127) or source[0] >= 224
        return source[0] == 0xFF or source == bytes(15) + b"\x01" or source == bytes(16)

    @staticmethod
    def is_martian_destination(packet):
        """Destinations that nothing is forwarded to."""
        destination = packet.destination
        if packet.version == 4:
            return destination[0] in (0, 127) or (destination[0] >= 240 and destination != LIMITED_BROADCAST)
        return destination in (bytes(16), bytes(15) + b"\x01")


def is_link_local(address):
    if len(address) == 16:
        return address[0] == 0xFE and address[1] & 0xC0 == 0x80
    return address[:2] == b"\xa9\xfe"
