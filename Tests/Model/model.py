"""What the gateway must do with a frame, from the RFCs and the operator's page alone.

receive() and send() give the courses that are right for a frame: mostly one; several where the texts leave a choice,
such as which of two faults of a packet is found first. The state is that of the protocols: replay windows, datagrams in
pieces, path MTUs, what SAs were charged.
"""

import collections

import wire
from admission import NEIGHBOR_DISCOVERY, Admission
from inward import Inward
from network import Network, is_link_local
from outward import Outward
from reassembly import Reassembly
from verdict import Course, Delivered, RawFrame


class Origin:
    """Where a packet is from: a port that it came in by in clear, or the SAs that it was opened by, the last one
    first."""

    __slots__ = ("port", "sas")

    def __init__(self, port, sas=()):
        self.port, self.sas = port, sas

    def key(self):
        return self.port, tuple(sa.name for sa in self.sas)


class Model:
    """The gateway of one world. `sealed`: how many packets were seen of each outbound SA before this burst; `in_burst`:
    how many this one may add at most."""

    def __init__(self, world):
        self.reassembly, self.path_mtus = Reassembly(), {}
        self.inward = Inward(self)
        self.begin_burst({})
        self.load(world)

    def load(self, world):
        """Another world on the same ports: rules change, what stays of the SAs keeps its state."""
        self.world, self.network = world, Network(world)
        self.admission = Admission(world, self.network)
        self.inward.load(world)
        self.outward = Outward(self)

    def begin_burst(self, sealed, frames=1):
        """So many frames that come now come together."""
        self.sealed, self.in_burst = sealed, collections.Counter()
        self.inward.begin_burst(frames)

    # Ethernet

    def receive(self, port, frame):
        """The courses that are right for a frame that came in at a port."""
        try:
            kind, data = self._accepted(port, frame)
            if kind == wire.ARP:
                return [self._arp(port, frame)]
            return self.arrive(wire.checked(data, kind), Origin(port), is_group_frame=frame[0] & 1)
        except wire.Malformed as fault:
            return [Course.dropped(*fault.reasons)]

    def _accepted(self, port, frame):
        """(type, payload) of a frame for this station."""
        if len(frame) < 14:
            raise wire.Malformed("frame_too_short")
        if not frame[0] & 1 and frame[:6] != wire.mac(self.network.ports[port].mac):
            raise wire.Malformed("not_for_us")
        kind, data = wire.untagged(frame)
        if kind not in (wire.IPV4, wire.IPV6, wire.ARP):
            raise wire.Malformed("unknown_ether_type")
        return kind, data

    def _arp(self, port, frame):
        if not self.network.ports[port].host:
            return Course.dropped("host_malformed")
        return Course([RawFrame(port, frame, to_host=True)])

    # IP

    def arrive(self, packet, origin, is_group_frame=False):
        """A checked packet, in clear at a port or out of a tunnel."""
        refused = self._refused_at_once(packet, origin, is_group_frame)
        if refused:
            return [refused]
        if not self.network.is_for_gateway(packet, origin.port):
            return self._transit(packet, origin)
        if packet.fragment and packet.destination in self.network.own:
            return self._piece(packet, origin)
        if packet.destination in self.network.own:
            opened = self.inward.take(packet, origin)
            if opened:
                return opened
        return self._to_host(packet, origin)

    def _refused_at_once(self, packet, origin, is_group_frame):
        """What no policy is asked about."""
        if self.network.is_martian_source(packet):
            # Who has no address yet asks its neighbours whether it may have one (RFC 4862 5.4.2).
            is_asking = not any(packet.source) and packet.protocol == wire.ICMP6 and packet.is_multicast
            if origin.sas or not is_asking:
                return self._martian("martian_source", origin)
        if self.network.is_own_source(packet) and (origin.sas or self.admission.checks_sources):
            # A policy may refuse it first.
            refused = self.admission.policy_fault(packet, origin)
            return self._martian("martian_source", origin, *(refused.drops[0] if refused else ()))
        if self.network.is_martian_destination(packet):
            return self._martian("martian_destination", origin)
        if packet.routing and packet.routing[0] == 0 and packet.routing[1]:
            # RFC 5095 3: type 0 with segments left is a header that nobody acts on.
            return Course.dropped("ip_source_route")
        if is_group_frame and not self.network.is_group(packet, origin.port):
            # RFC 1122 3.3.6: a unicast datagram in a link-layer broadcast is discarded silently.
            return Course.dropped("group_frame")
        if origin.sas and self.network.is_group(packet, origin.port):
            return Course.dropped("martian_destination", "broadcast", "tunnel_policy")
        return None

    @staticmethod
    def _martian(counter, origin, *others):
        return Course.dropped(counter, *others, *(("inner_malformed", "inner_selector") if origin.sas else ()))

    def _piece(self, packet, origin):
        """Fragments of what is for the gateway are put together before anything is asked of them but where they come
        from (RFC 4301 7, RFC 1122 3.3.2)."""
        by_source = self.admission.source_fault(packet, origin)
        if by_source:
            return [by_source]
        whole, course = self.reassembly.take(packet, origin.key())
        return self.arrive(wire.Packet(whole), origin) if whole else [course]

    def _to_host(self, packet, origin):
        """SPD "in" (RFC 4301 5.2), then a TAP: of whichever port for what has an address of the gateway, as the kernel
        behind them is one; of that port alone for what is of its link."""
        is_discovery = packet.protocol == wire.ICMP6 and packet.kind in NEIGHBOR_DISCOVERY
        if is_discovery and packet.ttl != 255:
            # It has come from beyond the link (RFC 4861 7.1).
            return [Course.dropped("neighbor_discovery")]
        faults = self.admission.faults(packet, origin)
        if faults:
            return faults
        if not origin.sas:
            self.inward.learn(packet)
        is_of_link = is_discovery or self.network.is_group(packet, origin.port)
        with_tap = tuple(name for name, port in self.network.ports.items()
                         if port.host and (name == origin.port or not is_of_link))
        return [Course([Delivered(with_tap, packet.data)]) if with_tap else Course.dropped("host_malformed")]

    def _transit(self, packet, origin):
        sealing = self.inward.sealed_here(packet)
        if sealing and not sealing.packet_limit:
            return [Course.dropped("no_sa")]
        # One that is spent is gone, and its name is nobody's.
        return [Course.dropped("no_sa")] * bool(sealing) + self._passing(packet, origin)

    def _passing(self, packet, origin):
        if packet.version == 6 and (is_link_local(packet.destination) or is_link_local(packet.source)):
            return [Course.dropped("martian_source", "martian_destination", "no_route")]
        if packet.destination in self.network.broadcasts:
            return [Course.dropped("broadcast")]
        if packet.protocol == wire.ICMP6 and packet.kind in NEIGHBOR_DISCOVERY:
            # Neighbour discovery is of one link: a router would have taken one from its hop limit of 255 (RFC 4861
            # 3.1).
            return [Course.dropped("neighbor_discovery")]
        return self.admission.faults(packet, origin) or self.outward.forward(packet, origin)

    # From the host

    def send(self, port, frame):
        """The courses that are right for a frame that the host's kernel sends by a TAP."""
        kind = int.from_bytes(frame[12:14], "big") if len(frame) >= 14 else 0
        if kind == wire.ARP:
            return [Course([RawFrame(port, frame)])]
        if kind not in (wire.IPV4, wire.IPV6):
            return [Course.dropped("host_ether_type")]
        try:
            packet = wire.checked(frame[14:], kind)
        except wire.Malformed as fault:
            return [Course.dropped("host_malformed", *fault.reasons)]
        return self.outward.from_host(packet, port, frame)
