"""Three things that hold for every packet whatever else is asked, found without the model: nothing leaves in clear that
an outbound policy covers; nothing is delivered that an inbound policy refuses; no nonce is used twice with a key."""

import wire
from reassembly import Reassembly
from spd import SPD, Selectors
from transforms import Refused, high_half, open_ah, open_esp

NEIGHBOR_DISCOVERY = range(133, 138)
ICMP_ERRORS = {4: frozenset((3, 4, 5, 11, 12)), 6: frozenset(range(128))}


def identity(packet):
    """What stays the same of a packet from host to host: hops and traffic class do not."""
    return packet.protocol, packet.source, packet.destination, packet.fragment, bytes(packet.payload)


class Invariants:
    """Sees all that goes in and all that comes out."""

    def __init__(self, world):
        self.came, self.nonces, self.reassembly = {}, set(), Reassembly()
        self.load(world)

    def load(self, world):
        self.world = world
        self.incoming, self.outgoing = SPD(world.policies, "in"), SPD(world.policies, "out")
        self.inward = [sa for sa in world.sas if sa.direction == "in"]
        self.own = {wire.packed(written.split("/")[0]) for port in world.ports for written in port.addresses}

    # What goes in

    def sent(self, frame):
        """Notes a frame, and what opens from it by the keys of inbound SAs."""
        try:
            kind, data = wire.untagged(frame)
            packet = wire.checked(data, kind)
        except wire.Malformed:
            return
        self._came(packet, ())

    def _came(self, packet, by):
        while packet:
            self.came.setdefault(identity(packet), set()).add(by)
            if packet.fragment and packet.destination in self.own:
                whole, _ = self.reassembly.take(packet, by)
                if whole:
                    self._came(wire.Packet(whole), by)
            packet, by = self._opened(packet, by)

    def _opened(self, packet, by):
        """(the packet inside, the SAs that it was opened by), or (None, …)."""
        data = packet.payload
        if packet.protocol in (wire.IPIP, wire.IP6IP):
            return self._unkeyed(packet, by)
        if packet.protocol == wire.UDP:
            data = data[8:]
        elif packet.protocol not in (wire.ESP, wire.AH):
            return None, by
        at = 4 if packet.protocol == wire.AH else 0
        for sa in () if packet.fragment else self.inward:
            if sa.protocol == wire.IPIP or packet.destination != sa.ends[1] or data[at:at + 4] != sa.spi.to_bytes(4, "big"):
                continue
            for high in (0, 1):
                try:
                    return wire.checked(self._inner(sa, packet, data, high_half(sa.esn, high << 32))), (sa, *by)
                except (Refused, wire.Malformed):
                    pass
        return None, by

    def _unkeyed(self, packet, by):
        """IP in IP: the ends are all that an SA is known by."""
        for sa in self.inward:
            if sa.protocol == wire.IPIP and sa.ends == (packet.source, packet.destination) and not packet.fragment:
                try:
                    return wire.checked(packet.payload), (sa, *by)
                except wire.Malformed:
                    pass
        return None, by

    @staticmethod
    def _inner(sa, packet, data, high):
        if sa.protocol == wire.AH:
            inner, following = open_ah(sa.cipher.integrity, packet.data, high)
        else:
            inner, following, _ = open_esp(sa.cipher, data, high)
        return inner if sa.mode == "tunnel" else wire.ip(packet.source, packet.destination, following, inner)

    # What comes out

    def faults(self, seen):
        """What a frame that came out breaks, in words."""
        if seen.packet is None:
            return
        if seen.sa:
            if seen.iv and seen.iv and (seen.sa.encryption, seen.iv) in self.nonces:
                yield f"a nonce twice with the key of {seen.sa.name}"
            self.nonces.add((seen.sa.encryption, seen.iv))
        elif not seen.host:
            yield from self._in_clear(seen.packet)
        delivered = seen.inner or seen.packet
        if seen.host or delivered.source not in self.own:
            yield from self._delivered(delivered)

    def _in_clear(self, packet):
        if self._is_exempt(packet):
            return
        selectors = Selectors.of(packet)
        policy = self.outgoing.lookup(selectors)
        if policy and self._wants_protection(policy):
            yield f"in clear, though a policy covers it: {packet}"
        is_default = self.world.settings.get("portless-fragments", "auto") == "auto"
        # Whole packets are looked up before they are cut.
        if selectors.portless and is_default and identity(packet) in self.came and self.outgoing.may_ask_for_ports(selectors):
            yield f"in clear, a fragment of what a policy with ports covers: {packet}"
        quoted = self._quoted(packet)
        if quoted and packet.source in self.own:
            policy = self.incoming.lookup(Selectors.of(quoted))
            if policy and policy.type in ("require", "dontacq"):
                yield f"in clear, a quotation of what a tunnel protects: {quoted}"

    def _is_exempt(self, packet):
        """The gateway's own neighbour discovery and IPsec; there is no key daemon whose IKE would be."""
        if packet.source not in self.own and not packet.source.startswith(b"\xfe\x80"):
            return False
        if packet.protocol in (wire.ESP, wire.AH):
            return True
        return packet.protocol == wire.ICMP6 and packet.kind in NEIGHBOR_DISCOVERY and packet.ttl == 255

    def _wants_protection(self, policy):
        if policy.type in ("require", "dontacq", "deny"):
            return True
        return policy.type in ("use", "acquire") and any(
            sa.direction == "out" and sa.destination == policy.peer and sa.protocol == policy.ipsec_protocol
            for sa in self.world.sas)

    def _quoted(self, packet):
        """The packet that an ICMP error is about."""
        if packet.protocol not in (wire.ICMP, wire.ICMP6) or packet.kind not in ICMP_ERRORS[packet.version]:
            return None
        try:
            return wire.Packet(packet.payload[8:])
        except (wire.Malformed, IndexError):
            return None

    def _delivered(self, packet):
        ways = self.came.get(identity(packet))
        if ways is None:
            quoted = self._quoted(packet)
            if not packet.fragment and not (quoted and quoted.source in self.own):
                yield f"delivered, though nobody sent it or only a forger did: {packet}"
            return
        policy = self.incoming.lookup(Selectors.of(packet))
        if policy is None or policy.type in ("bypass", "use", "acquire") or self._is_link_business(packet):
            return
        if policy.type == "deny" or not any(by and self._is_named(policy, by[0]) for by in ways):
            yield f"delivered, though an inbound policy refuses it: {packet}"

    @staticmethod
    def _is_link_business(packet):
        return (packet.protocol == wire.UDP and packet.destination_port in (500, 4500)
                or packet.protocol == wire.ICMP6 and packet.kind in NEIGHBOR_DISCOVERY and packet.ttl == 255)

    @staticmethod
    def _is_named(policy, sa):
        return policy.peer in ("", sa.source) and policy.local in ("", sa.destination)
