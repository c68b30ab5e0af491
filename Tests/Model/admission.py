"""Whether a packet may come in: the source check, then SPD "in" (RFC 4301 5.2)."""

import wire
from network import is_link_local
from spd import SPD, Selectors, selects
from verdict import Course

IKE_PORTS = (500, 4500)
NEIGHBOR_DISCOVERY = range(133, 138)


class Admission:
    """The rules of one world."""

    def __init__(self, world, network):
        self.world, self.network = world, network
        self.checks_sources = world.settings.get("source-check") != "off"
        self.incoming, self.outgoing = SPD(world.policies, "in"), SPD(world.policies, "out")

    def faults(self, packet, origin):
        """Why a packet must not come in: courses, of which any is right; none where it may."""
        faults = self.source_fault(packet, origin), self.policy_fault(packet, origin)
        return [fault for fault in faults if fault]

    def source_fault(self, packet, origin):
        """The source check of gateway.yaml (RFC 2827, RFC 3704), for what came in clear; None where the source may come
        in by that port."""
        choice = self.world.settings.get("source-check", "auto")
        if not self.checks_sources or origin.sas or not any(packet.source):
            return None
        if packet.version == 6 and is_link_local(packet.source):
            return None
        back = self.network.lookup(packet.source)
        if back and back[0] == origin.port:
            return None
        is_strict = choice == "strict" or choice == "auto" and self._protects(packet)
        return None if back and not is_strict else Course.dropped("source_check")

    def _protects(self, packet):
        """Whether some outbound policy protects what the packet's source sends, to wherever."""
        for policy in self.outgoing.by_version[packet.version]:
            network, mask = policy.prefixes[0]
            if policy.type not in ("bypass", "deny") and packet.source_number & mask == network:
                return True
        return False

    def policy_fault(self, packet, origin):
        """What SPD "in" says against a packet, None where nothing: the operator's table of policy outcomes."""
        if not origin.sas and is_exempt(packet):
            return None
        selectors = Selectors.of(packet)
        if selectors.portless and packet.destination not in self.network.own:
            hidden = self.portless_fault(self.incoming, selectors)
            if hidden:
                return hidden
        # What an SA itself may carry (RFC 4301 5.2 step 4); as on Linux, all SAs that a packet came by are asked.
        if any(sa.selector and not selects_packet(sa, packet) for sa in origin.sas):
            # A selector for all of one family may count as none: then no policy speaks for the packet.
            others = () if self.incoming.lookup(selectors) else ("tunnel_policy",)
            return Course.dropped("inner_selector", *others)
        policy = self.incoming.lookup(selectors)
        if policy is None:
            # As on Linux: without a policy an SA's own selector decides what it may carry. One for all of a family names no
            # network, so it is none.
            return None if not origin.sas or names_networks(origin.sas[0]) else Course.dropped("tunnel_policy")
        if policy.type == "deny":
            return Course.dropped("policy_deny_in")
        if policy.type in ("bypass", "acquire", "use") or names_all(policy, origin.sas):
            return None
        return Course.dropped("tunnel_policy" if origin.sas else "policy_in_clear")

    def portless_fault(self, spd, selectors):
        """What is wrong with a packet in transit that hides its ports (RFC 4301 7): by default that a policy with ports
        may be its own, one that comes before the policy without that would be used."""
        choice = self.world.settings.get("portless-fragments", "auto")
        if choice == "drop" or choice == "auto" and spd.may_ask_for_ports(selectors):
            return Course.dropped("fragment_without_ports")
        return None


def names_networks(sa):
    return bool(sa.selector) and not all(prefix.endswith("/0") for prefix in sa.selector)


def is_exempt(packet):
    """What comes in clear past SPD "in": IKE (RFC 4301 4.4.1, RFC 3948 3), neighbour discovery that is of the link, as
    its hop limit shows (RFC 4861 7.1)."""
    if packet.protocol == wire.UDP and packet.destination_port in IKE_PORTS:
        return True
    return packet.protocol == wire.ICMP6 and packet.kind in NEIGHBOR_DISCOVERY and packet.ttl == 255


def selects_packet(sa, packet):
    """Whether an SA's own selector holds for a packet."""
    return selects(sa.selector, packet.version, packet.source_number, packet.destination_number)


def names_all(policy, sas):
    """Whether a packet came by the SA that a policy wants, and by no other tunnel."""
    return any(names(policy, sa) and all(other.mode == "transport" for other in sas[:number] + sas[number + 1:])
               for number, sa in enumerate(sas))


def names(policy, sa):
    """Whether an inbound SA is the one that a policy wants (RFC 4301 5.2 step 4): for XFRM by its template, for
    ipsec.conf by the ends."""
    if sa.protocol != policy.ipsec_protocol:
        return False
    if policy.way == "xfrm" and (policy.reqid not in (0, sa.reqid) or policy.mode != sa.mode):
        return False
    return policy.peer in ("", sa.source) and policy.local in ("", sa.destination)
