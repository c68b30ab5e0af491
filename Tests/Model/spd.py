"""The security policy database as RFC 4301 4.4.1 and ipsec.conf(5) have it: which policy speaks of a packet."""

import wire


# Protocols with something behind the IP header that policies may ask for: ports, or type and code.
WITH_MORE = wire.WITH_PORTS | {wire.ICMP, wire.ICMP6, wire.MOBILITY}


class Selectors:
    """What of a packet policies look at (RFC 4301 4.4.1.1). `portless`: of a protocol with ports or types, but it shows
    none: a fragment, whichever piece it is (section 7), or too short."""

    __slots__ = ("version", "source", "destination", "protocol", "source_port", "destination_port", "portless")

    def __init__(self, version, source, destination, protocol, source_port=None, destination_port=None, portless=False):
        self.version, self.source, self.destination, self.protocol = version, source, destination, protocol
        self.source_port, self.destination_port, self.portless = source_port, destination_port, portless

    @classmethod
    def of(cls, packet):
        if packet.fragment or packet.protocol in WITH_MORE and packet.source_port is None and packet.kind is None:
            return cls(packet.version, packet.source_number, packet.destination_number, packet.protocol,
                       portless=packet.protocol in WITH_MORE)
        return cls(packet.version, packet.source_number, packet.destination_number, packet.protocol, packet.source_port,
                   packet.destination_port)

    def reversed(self):
        return Selectors(self.version, self.destination, self.source, self.protocol, self.destination_port,
                         self.source_port, self.portless)


def covers(policy, selectors, ports=True):
    """Whether a policy's selector holds for a packet; without `ports` only its addresses and protocol are asked for."""
    if policy.version != selectors.version or policy.protocol and policy.protocol != selectors.protocol:
        return False
    (source, source_mask), (destination, destination_mask) = policy.prefixes
    if selectors.source & source_mask != source or selectors.destination & destination_mask != destination:
        return False
    return not ports or ((not policy.source_port or policy.source_port == selectors.source_port)
                         and (not policy.destination_port or policy.destination_port == selectors.destination_port))


def selects(prefixes, version, source, destination):
    """Whether a pair of prefixes, written as text, holds for a pair of addresses."""
    return all(network.version == version and number & int(network.netmask) == int(network.network_address)
               for network, number in zip(map(wire.network, prefixes), (source, destination)))


def is_narrower(one, other):
    """Whether everything that `one` selects `other` selects too, and not the other way round; both of one family."""
    def at_least(a, b):
        return (all(mask_a & mask_b == mask_b and net_a & mask_b == net_b
                    for (net_a, mask_a), (net_b, mask_b) in zip(a.prefixes, b.prefixes))
                and (not b.protocol or a.protocol == b.protocol)
                and (not b.source_port or a.source_port == b.source_port)
                and (not b.destination_port or a.destination_port == b.destination_port))
    return at_least(one, other) and not at_least(other, one)


def overlap(one, other):
    """Whether some packet is selected by both."""
    def meet(a, b):
        return not a or not b or a == b
    return (one.direction == other.direction and one.version == other.version
            and all(net_a & mask_a & mask_b == net_b & mask_a & mask_b
                    for (net_a, mask_a), (net_b, mask_b) in zip(one.prefixes, other.prefixes))
            and meet(one.protocol, other.protocol) and meet(one.source_port, other.source_port)
            and meet(one.destination_port, other.destination_port))


def is_same(one, other):
    """Whether two policies have one selector, and so name one policy (of one direction, mark and interface)."""
    return all(getattr(one, field) == getattr(other, field) for field in (
        "direction", "source", "destination", "protocol", "source_port", "destination_port", "interface", "mark"))


def is_ordered(one, other):
    """Whether it is said which of two policies comes first for a packet that both select."""
    if one.way != other.way:
        return False
    if one.way == "xfrm":
        return one.priority != other.priority
    return is_narrower(one, other) or is_narrower(other, one)


class SPD:
    """The policies of one direction. Those that name an XFRM interface or a mark match no packet: none has either
    here."""

    def __init__(self, policies, direction):
        chosen = [policy for policy in policies
                  if policy.direction == direction and not policy.interface and not policy.mark]
        self.by_version = {version: [policy for policy in chosen if policy.version == version] for version in (4, 6)}

    def lookup(self, selectors):
        """The policy that comes first among those that select the packet, None where none does."""
        best = None
        for policy in self.by_version[selectors.version]:
            if covers(policy, selectors) and (best is None or self.precedes(policy, best)):
                best = policy
        return best

    @staticmethod
    def precedes(one, other):
        if one.way == "xfrm":
            return one.priority < other.priority
        return is_narrower(one, other)

    def may_ask_for_ports(self, selectors):
        """Whether a policy with ports covers addresses and protocol of a packet that hides its ports, and comes before
        the policy that would be found without them (RFC 4301 7: what a fragment may belong to)."""
        found = self.lookup(selectors)
        possible = [policy for policy in self.by_version[selectors.version]
                    if policy.has_ports and covers(policy, selectors, ports=False)]
        return any(found is None or self.precedes(policy, found) for policy in possible)
