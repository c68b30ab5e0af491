"""The way out: time to live, SPD "out", SAs, path MTU, fragments, and the gateway's own ICMP errors (RFC 4301 5.1, 7,
8; RFC 1812 4.3, 5.2.7, 5.3; RFC 4443)."""

import wire
from inward import is_spent
from network import is_link_local
from spd import Selectors, selects
from transforms import ah_bytes
from verdict import Answer, Clear, Course, HostAnswer, RawFrame, Sealed

UNREACHABLE, TIME_EXCEEDED = {4: 3, 6: 1}, {4: 11, 6: 3}
NO_ROUTE = {4: frozenset((0,)), 6: frozenset((0,))}
HOST_UNREACHABLE = {4: frozenset((1,)), 6: frozenset((3,))}
PROHIBITED = {4: frozenset((1, 9, 10, 13)), 6: frozenset((1,))}
TOO_BIG = {4: (3, frozenset((4,))), 6: (2, frozenset((0,)))}
ICMP_ERRORS = {4: frozenset((3, 4, 5, 11, 12)), 6: frozenset(range(128))}
UNTOLD = frozenset(("answer_unprotected",))
IPV6_LEAST_MTU = 1280
SPENT_OUT = ("sa_stopped", "sequence_exhausted", "policy_no_sa", "sa_queue_full", "sa_wait_timeout")
MOST_PIECES = 3
POLICY_NO_SA = ("policy_no_sa", "sa_queue_full", "sa_wait_timeout")


class Outward:
    """Part of a Model: what leaves."""

    def __init__(self, model):
        self.model, self.network, self.world = model, model.network, model.world
        self.policies = model.admission.outgoing
        outward = [policy for policy in self.world.policies if policy.direction == "out"]
        self.sas = {policy: self._sa_of(policy) for policy in outward}

    def _sa_of(self, policy):
        """The SA that a policy's packets go by, None where there is none. Worlds have at most one for each."""
        for sa in self.world.sas:
            if sa.direction != "out" or sa.protocol != policy.ipsec_protocol:
                continue
            if policy.way == "xfrm":
                if policy.reqid != sa.reqid or policy.mode != sa.mode:
                    continue
            if policy.peer in ("", sa.destination) and policy.local in ("", sa.source):
                return sa
        return None

    def decision(self, selectors):
        """("clear", None), ("sa", SA) or ("drop", counters): the table of policy outcomes."""
        if selectors.portless:
            refused = self.model.admission.portless_fault(self.policies, selectors)
            if refused:
                return "drop", tuple(refused.drops[0])
        policy = self.policies.lookup(selectors)
        if policy is None or policy.type == "bypass":
            return "clear", None
        if policy.type == "deny":
            return "drop", ("policy_deny_out",)
        sa = self.sas[policy]
        if sa and (not sa.selector or self._is_selected(sa, selectors)):
            return "sa", sa
        return ("clear", None) if policy.type in ("use", "acquire") else ("drop", POLICY_NO_SA)

    def _decision_of_error(self, source, quoted):
        """An ICMP error that no policy speaks of goes as what returns to the quoted packet's sender does (RFC 4301 6.2)."""
        selectors = self._selectors_of_error(source, quoted)
        if self.policies.lookup(selectors) is None:
            selectors = Selectors.of(quoted).reversed()
        return self.decision(selectors)

    @staticmethod
    def _selectors_of_error(source, quoted):
        protocol = wire.ICMP if quoted.version == 4 else wire.ICMP6
        return Selectors(quoted.version, int.from_bytes(source, "big"), quoted.source_number, protocol)

    @staticmethod
    def _is_selected(sa, selectors):
        """Whether an SA's own selector, narrower than the policy's, holds for a packet, as Linux asks."""
        return selects(sa.selector, selectors.version, selectors.source, selectors.destination)

    def forward(self, packet, origin):
        """A packet in transit that SPD "in" has let pass."""
        kind, what = self.decision(Selectors.of(packet))
        refused = self._refused(packet, origin, what) if kind == "drop" else None
        if packet.ttl <= 1:
            course = Course.dropped("ttl_expired", answer=self.answer(packet, origin, TIME_EXCEEDED, {0}, 0))
            if kind == "clear" and self.network.hop(packet.destination) is None:
                refused = self._clear(packet, packet, origin)
            return [course] + ([refused] if refused else [])
        if refused:
            return [refused]
        later = wire.Packet(wire.aged(packet.data))
        return [self._clear(later, packet, origin)] if kind == "clear" else self._sealed(what, later, packet, origin)

    def _refused(self, packet, origin, reasons):
        answer = None
        if reasons == ("policy_deny_out",):
            answer = self.answer(packet, origin, UNREACHABLE, PROHIBITED[packet.version])
        return Course.dropped(*reasons, answer=answer)

    def _clear(self, packet, original, origin):
        hop = self.network.hop(packet.destination)
        if hop is None:
            answer = self.answer(original, origin, UNREACHABLE, NO_ROUTE[packet.version])
            return Course.dropped("no_route", answer=answer)
        if hop.mac is None:
            answer = self.answer(original, origin, UNREACHABLE, HOST_UNREACHABLE[packet.version])
            return Course.dropped("neighbor_unresolved", "neighbor_queue_full", answer=optional(answer))
        mtu = self.network.ports[hop.port].mtu
        if len(packet.data) > mtu:
            if packet.df:
                return Course.dropped("fragment_needed", answer=self.too_big(original, origin, mtu))
            return Course([Clear(hop.port, hop.mac, packet.data, cut=mtu)])
        return Course([Clear(hop.port, hop.mac, packet.data)])

    # Through an SA

    def _sealed(self, sa, packet, original, origin):
        """By an SA, as long as its lifetime lasts. What a burst takes of it is known when it has come out."""
        course = self._by_sa(sa, packet, original, origin)
        if not sa.packet_limit:
            return [course]
        before = self.model.sealed.get(sa.name, 0)
        spent = Course.dropped(*SPENT_OUT)
        if is_spent(sa, before):
            return [spent]
        self.model.in_burst[sa.name] += MOST_PIECES
        return [course, spent] if is_spent(sa, before + self.model.in_burst[sa.name] - 1) else [course]

    def _by_sa(self, sa, packet, original, origin):
        hop = self.network.hop(sa.ends[1])
        if hop is None:
            return Course.dropped("no_route")
        if hop.mac is None:
            return Course.dropped("neighbor_unresolved", "neighbor_queue_full")
        mtu = min(self.network.ports[hop.port].mtu, self.model.path_mtus.get(sa.name, 65535))
        if sa.mode == "transport":
            return self._transport(sa, packet, hop, mtu, origin)
        inner_mtu = largest_inner(sa, mtu)
        if len(packet.data) <= inner_mtu:
            return Course([Sealed(sa, hop.port, hop.mac, packet.data)])
        # Every IPv6 packet of 1280 bytes has to cross, in pieces of the outer packet where it must (RFC 2473 7.1).
        told = inner_mtu if packet.version == 4 else max(inner_mtu, IPV6_LEAST_MTU)
        if packet.df and len(packet.data) > told:
            return Course.dropped("fragment_needed", answer=self.too_big(original, origin, told))
        # A fragment shows no ports, so what a policy with ports protects is cut outside as well (RFC 4301 7).
        if (packet.version == 6 or self.world.settings.get("fragments") == "after"
                or self.policies.lookup(Selectors.of(packet)).has_ports):
            return Course([Sealed(sa, hop.port, hop.mac, packet.data, cut=mtu, cut_outside=True)])
        return Course([Sealed(sa, hop.port, hop.mac, packet.data, cut=inner_mtu)])

    def _transport(self, sa, packet, hop, mtu, origin):
        """The header stays, and with it what it says of fragments."""
        if len(packet.data) + overhead(sa, len(packet.payload)) - header_bytes(sa) <= mtu:
            return Course([Sealed(sa, hop.port, hop.mac, packet.data)])
        if packet.df and (packet.version == 4 or len(packet.data) > IPV6_LEAST_MTU):
            return Course.dropped("fragment_needed", answer=self.too_big(packet, origin, mtu))
        return Course([Sealed(sa, hop.port, hop.mac, packet.data, cut=mtu, cut_outside=True)])

    # The gateway's own ICMP errors

    def answer(self, packet, origin, kinds, codes, word=None):
        """The ICMP error about a packet; None, or the counters of one that is dropped, where there must be none. About
        what came out of a tunnel it goes back by an SA or not at all: in clear it would quote what the tunnel
        protects."""
        if not self._may_be_answered(packet):
            return None
        if isinstance(origin, HostOrigin):
            return HostAnswer(packet.data)
        if origin.sas:
            return self._answer_by_tunnel(packet, origin, kinds, codes, word)
        source, hop = self.network.address_of(origin.port, packet.version), self.network.hop(packet.source)
        if source is None:
            return None
        if self.decision(Selectors.of(packet))[0] != "clear" and not self._may_quote(source, packet, origin, hop):
            return UNTOLD
        kind, sa = self._decision_of_error(source, packet)
        if kind == "drop":
            return UNTOLD.union(sa)
        if kind == "sa":
            hop = self.network.hop(sa.ends[1])
        if hop is None or hop.mac is None:
            return UNTOLD | {"no_route"}
        by = sa if kind == "sa" else None
        made = Answer(hop.port, hop.mac, {source: by}, packet.source, kinds[packet.version], frozenset(codes), packet.data,
                      word)
        if kind == "sa" and sa.packet_limit:
            self.model.in_burst[sa.name] += 1
            made.optional, made.untold = True, UNTOLD.union(SPENT_OUT)
        if hop.port != origin.port:
            made.optional, made.untold = True, made.untold | UNTOLD
            made.sources |= dict.fromkeys(self.network.addresses.get((hop.port, packet.version), ()), by)
        return made

    def _may_quote(self, source, packet, origin, hop):
        """Whether an error may quote what came in clear and is to be protected, or must not leave: where it came from, in
        clear, as it was seen there."""
        policy = self.policies.lookup(self._selectors_of_error(source, packet))
        return bool(hop) and hop.port == origin.port and (policy is None or policy.type == "bypass")

    def _answer_by_tunnel(self, packet, origin, kinds, codes, word):
        """Back through the tunnel that the packet came out of, from any own address that its policy lets speak; or
        none."""
        sources, spent = {}, set(UNTOLD)
        for port in self.network.ports:
            source = self.network.address_of(port, packet.version)
            kind, sa = self._decision_of_error(source, packet) if source else ("clear", None)
            if kind == "sa" and any(sa.ends == opened.ends[::-1] for opened in origin.sas):
                sources[source] = sa
                self.model.in_burst[sa.name] += 1
                spent |= set(SPENT_OUT if sa.packet_limit else ())
        hop = self.network.hop(next(iter(sources.values())).ends[1]) if sources else None
        if hop is None or hop.mac is None:
            return UNTOLD | {"no_route"}
        made = Answer(hop.port, hop.mac, sources, packet.source, kinds[packet.version], frozenset(codes), packet.data, word)
        made.optional, made.untold = True, frozenset(spent)
        return made

    def too_big(self, packet, origin, mtu):
        kind, codes = TOO_BIG[packet.version]
        return self.answer(packet, origin, {packet.version: kind}, codes, mtu)

    def _may_be_answered(self, packet):
        """RFC 1812 4.3.2.7, RFC 4443 2.4 (e): never about ICMP errors, groups, from nobody; in IPv4 about later
        fragments."""
        if packet.fragment and packet.fragment[1]:
            return packet.version == 6 and packet.protocol != wire.ICMP6
        if packet.protocol in (wire.ICMP, wire.ICMP6):
            return packet.kind is not None and packet.kind not in ICMP_ERRORS[packet.version]
        return not packet.is_multicast

    # From the host

    def from_host(self, packet, port, frame):
        """The host's own packets: SPD "out", then the gateway's routes; what is of the link alone leaves as the host
        framed it."""
        if packet.is_multicast or is_link_local(packet.destination):
            return [Course([RawFrame(port, frame)])]
        # IKE's ports are no exemption: a key daemon's sockets are (RFC 4301 4.4.1), and worlds have no daemon.
        kind, what = self.decision(Selectors.of(packet))
        if kind == "drop":
            return [Course.dropped(*what)]
        if kind == "clear":
            courses = [self._clear(packet, packet, HostOrigin(port))]
            # Where the gateway has no route, its kernel may have had one.
            return courses if self.network.hop(packet.destination) else [Course([RawFrame(port, frame)]), *courses]
        return self._sealed(what, packet, packet, HostOrigin(port))

class HostOrigin:
    """The host behind a TAP, in the place of an Origin."""

    sas = ()

    def __init__(self, port):
        self.port = port


def optional(answer):
    if isinstance(answer, Answer):
        answer.optional = True
    return answer


def header_bytes(sa):
    return 20 if sa.version == 4 else 40


def overhead(sa, length):
    """What a tunnel, or transport mode with a header as long, adds to `length` bytes of data."""
    if sa.protocol != wire.ESP:
        return header_bytes(sa) + (ah_bytes(sa) if sa.protocol == wire.AH else 0)
    cipher = sa.cipher
    padding = -(length + 2) % cipher.alignment
    return header_bytes(sa) + 8 * bool(sa.encapsulation) + 8 + cipher.iv_bytes + padding + 2 + cipher.icv_bytes


def largest_inner(sa, mtu):
    """The largest packet that is sealed into one of `mtu` bytes (RFC 4301 8.1)."""
    if sa.protocol != wire.ESP:
        return mtu - overhead(sa, 0)
    cipher = sa.cipher
    fixed = header_bytes(sa) + 8 * bool(sa.encapsulation) + 8 + cipher.iv_bytes + cipher.icv_bytes
    return (mtu - fixed) // cipher.alignment * cipher.alignment - 2
