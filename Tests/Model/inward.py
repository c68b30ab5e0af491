"""What is opened: ESP, AH, ESP in UDP, IP in IP for the gateway (RFC 4301 5.2, 4303 3.4, 4302 3.4, 3948, 2003)."""

import wire
from network import NAT_T_PORT
from replay import ReplayWindow
from transforms import Refused, high_half, open_ah, open_esp
from verdict import Course

VERSIONS = {wire.IPIP: 4, wire.IP6IP: 6}
NOT_INSIDE = ("inner_malformed", "esp_next_header", "inner_selector")
BY_WINDOW = ("replay_duplicate", "replay_too_old", "esp_sequence_zero", "integrity")
SPENT = ("sa_stopped", "no_sa")
BY_ITSELF = (*BY_WINDOW, "encapsulation_mismatch", "esp_too_short", "esp_alignment", "ah_malformed")
DEEPEST_NESTING = 4
LEAST_MTU = {4: 576, 6: 1280}

# RFC 6040 figure 4: (inner, outer) → what goes on; a pair that is not there is dropped.
NOT_ECT, ECT1, ECT0, CE = range(4)
DECAPSULATED = {(inner, outer): inner for inner in range(4) for outer in range(4)}
DECAPSULATED.update({(ECT0, ECT1): ECT1, (ECT0, CE): CE, (ECT1, CE): CE})
del DECAPSULATED[NOT_ECT, CE]


class Inward:
    """Part of a Model: the SAD of what is received. `charged`: by SA, the least and the most packets that it may be
    charged for, as one that is authentic and then refused may count or not."""

    def __init__(self, model):
        self.model = model
        self.windows, self.charged, self.at_burst, self.was_spent, self.sad = {}, {}, {}, {}, {}

    def load(self, world):
        inward = [sa for sa in world.sas if sa.direction == "in"]
        self.world = world
        self.sad = {(sa.spi, sa.ends[1], sa.protocol): sa for sa in inward}
        self.unkeyed = {sa.ends: sa for sa in inward if sa.protocol == wire.IPIP}
        self.sealing = {(sa.spi, sa.ends[1], sa.protocol): sa for sa in world.sas if sa.direction == "out"}
        for sa in inward:
            self.windows.setdefault(sa.name, ReplayWindow(sa.window, sa.esn))
            self.charged.setdefault(sa.name, [0, 0])

    def begin_burst(self, frames):
        """A first look at the windows is taken for a whole burst before any of it is opened (RFC 4303 3.4.3)."""
        self.at_burst = {name: window.highest for name, window in self.windows.items()}
        self.to_come = frames
        self.was_spent = {sa.name: is_spent(sa, self.charged[sa.name][0]) for sa in self.sad.values()}

    def take(self, packet, origin):
        """The courses of a packet for the gateway that is opened here, None of others."""
        if packet.protocol in (wire.ESP, wire.AH):
            return self._protected(packet, origin, packet.payload, packet.protocol)
        if packet.protocol in VERSIONS and (packet.source, packet.destination) in self.unkeyed:
            return self._unkeyed(packet, origin)
        if packet.protocol == wire.UDP and packet.destination_port == NAT_T_PORT:
            data = in_udp(packet)
            if data == b"\xff":
                return [Course.dropped("nat_keepalive")]
            if is_esp(data):
                return self._protected(packet, origin, data, wire.ESP)
        return None

    def sealed_here(self, packet):
        """The SA that the gateway itself sends by whose name (SPI, destination, protocol) a packet in transit bears, or
        None: nobody else does, and it is not for opening either (RFC 4301 4.1)."""
        data, protocol = packet.payload, packet.protocol
        if protocol == wire.UDP and packet.destination_port == NAT_T_PORT:
            data, protocol = in_udp(packet), wire.ESP
        if packet.fragment or protocol not in (wire.ESP, wire.AH):
            return None
        at = 4 if protocol == wire.AH else 0
        return self.sealing.get((int.from_bytes(data[at:at + 4], "big"), packet.destination, protocol))

    # An SA's packet

    def _protected(self, outer, origin, data, protocol):
        at = 0 if protocol == wire.ESP else 4
        if len(data) < at + 8:
            return [Course.dropped("esp_too_short", "ah_malformed", "ip_truncated", "no_sa")]
        spi, low = int.from_bytes(data[at:at + 4], "big"), int.from_bytes(data[at + 4:at + 8], "big")
        sa = self.sad.get((spi, outer.destination, protocol))
        if sa is None:
            return [Course.dropped("no_sa")]
        if is_spent(sa, self.charged[sa.name][0]):
            # What of this burst was looked at before the SA was spent may have been refused for itself.
            by_itself = () if self.was_spent[sa.name] else BY_ITSELF
            return [Course.dropped(*SPENT, *by_itself)]
        least, most = self.charged[sa.name]
        may_end = sa.packet_limit and most + self.to_come > sa.packet_limit
        spent = SPENT if may_end else ()
        if bool(sa.encapsulation) != (outer.protocol == wire.UDP):
            return [Course.dropped("encapsulation_mismatch", *spent)]
        if len(origin.sas) >= DEEPEST_NESTING:
            return [Course.dropped("nesting_too_deep")]
        before = {name: counts[0] for name, counts in self.charged.items()}
        try:
            inner, next_header = self._opened(sa, outer, data, low)
        except Refused as refused:
            return [Course.dropped(*refused.reasons, *spent)]
        courses = self._inside(sa, outer, origin, inner, next_header)
        if not may_end or self.to_come == 1 and least == most:
            return courses
        # Which of a burst are the last of an SA is not said, as what is put together comes behind the rest; nor whether
        # SAs inside were charged.
        for name, counts in self.charged.items():
            counts[0] = before[name]
        for course in courses:
            for output in course.outputs:
                output.optional = output.optional or output.to_host
            course.possible_drops += [frozenset(SPENT)] * (not course.drops)
        return [*courses, Course.dropped(*SPENT)]

    def _unkeyed(self, outer, origin):
        """IP in IP: whatever comes from the other end is the SA's (RFC 2003 3)."""
        sa = self.unkeyed[outer.source, outer.destination]
        if len(origin.sas) >= DEEPEST_NESTING:
            return [Course.dropped("nesting_too_deep")]
        self.charged[sa.name] = [count + 1 for count in self.charged[sa.name]]
        return self._inside(sa, outer, origin, outer.payload, outer.protocol)

    def _opened(self, sa, outer, data, low):
        """(data, next header) of an authentic packet, which the SA is charged for and its window has seen; Refused of
        others."""
        window = self.windows[sa.name]
        check_length(sa, data, low)
        sequence = window.inferred(low)
        try:
            fault = window.fault(sequence)
            if fault:
                raise Refused(*fault)
            opened, refused = authentic(sa, outer, data, high_half(sa.esn, sequence))
        except Refused as refusal:
            if self.at_burst.get(sa.name) == window.highest:
                raise
            # Others of this burst have moved the window: what was seen of it before would have said otherwise.
            raise Refused(*refusal.reasons, *BY_WINDOW) from None
        window.mark(sequence)
        self.charged[sa.name][1] += 1
        if refused:
            raise refused
        self.charged[sa.name][0] += 1
        return opened

    def _inside(self, sa, outer, origin, data, next_header):
        """What came out of an SA goes on as if it had arrived."""
        if next_header == wire.NONE and sa.protocol == wire.ESP:
            return [Course.dropped("esp_dummy")]
        try:
            packet = tunnelled(data, next_header, outer) if sa.mode == "tunnel" else unwrapped(outer, data, next_header)
        except wire.Malformed as fault:
            return [Course.dropped(*fault.reasons)]
        # What is itself IPsec for the gateway is opened too: the policies are asked about what is inside of all (RFC 4301
        # 5.2 for each SA; policies that name one tunnel in another would have to name the packets between them as well).
        return self.model.arrive(packet, type(origin)(origin.port, (sa, *origin.sas)))

    # Path MTU

    def learn(self, packet):
        """A path MTU that a router tells of what an SA has sent, in clear, where the policies let it: believed for an SPI in use, from the SA's own ends,
        with a right checksum; only downwards, and not below what every link takes (RFC 4301 8.2.1, RFC 1191 3, RFC 8201
        4)."""
        told = (packet.protocol, packet.kind, packet.code)
        body = packet.payload
        if told != ((wire.ICMP, 3, 4) if packet.version == 4 else (wire.ICMP6, 2, 0)) or len(body) < 36:
            return
        if wire.checksum(wire.icmp_pseudo_header(packet) + body):
            return
        mtu, quoted = int.from_bytes(body[4:8], "big"), wire.Packet(body[8:])
        for sa in self.world.sas:
            if sa.direction == "out" and bears_name(quoted, sa):
                known = self.model.path_mtus.get(sa.name, 65535)
                self.model.path_mtus[sa.name] = min(known, max(mtu, LEAST_MTU[sa.version]))


def in_udp(packet):
    """What a UDP datagram carries."""
    return packet.payload[8:max(8, int.from_bytes(packet.payload[4:6], "big"))]


def is_esp(data):
    """Whether what came to port 4500 is ESP: IKE begins with four zeros there (RFC 3948 2.2)."""
    return len(data) >= 4 and any(data[:4])


def is_spent(sa, packets):
    """A hard lifetime stops an SA before the next packet (RFC 4301 4.4.2.1); then it goes."""
    return bool(sa.packet_limit) and packets >= sa.packet_limit


def check_length(sa, data, low):
    """RFC 4303 2: an IV, whole blocks, an ICV."""
    if sa.protocol != wire.ESP:
        return
    body, others = len(data) - 8 - sa.cipher.iv_bytes - sa.cipher.icv_bytes, () if low else ("esp_sequence_zero",)
    if body < 2:
        raise Refused("esp_too_short", "esp_alignment", *others)
    if body % sa.cipher.alignment:
        raise Refused("esp_alignment", *others)


def authentic(sa, outer, data, high):
    """((data, next header), None), or (None, what is wrong) of a packet that is authentic; Refused where it is not."""
    if sa.protocol == wire.AH:
        return open_ah(sa.cipher.integrity, outer.data, high), None
    try:
        inner, next_header, _ = open_esp(sa.cipher, data, high)
        return (inner, next_header), None
    except Refused as refused:
        if "esp_padding" not in refused.reasons:
            raise
        return None, refused


def tunnelled(data, next_header, outer):
    """The packet in a tunnel, with the congestion that the outer one met (RFC 6040 4.2)."""
    version = VERSIONS.get(next_header)
    if version is None or not data or data[0] >> 4 != version:
        raise wire.Malformed(*NOT_INSIDE)
    try:
        packet = wire.checked(data)
    except wire.Malformed as fault:
        raise wire.Malformed(*NOT_INSIDE, *fault.reasons) from None
    ecn = DECAPSULATED.get((packet.tos & 3, outer.tos & 3))
    if ecn is None:
        raise wire.Malformed("ecn_congestion")
    return packet if ecn == packet.tos & 3 else wire.Packet(wire.with_tos(packet.data, packet.tos & 0xFC | ecn))


def unwrapped(outer, data, next_header):
    """The packet that transport mode was applied to (RFC 4303 3.1.1, 4302 3.1.1)."""
    if outer.version == 4:
        return wire.Packet(wire.ipv4(outer.source, outer.destination, next_header, data, outer.ttl, outer.tos,
                                     int.from_bytes(outer.data[4:6], "big"), outer.df))
    return wire.Packet(wire.ipv6(outer.source, outer.destination, next_header, data, outer.ttl, outer.tos, outer.label))


def bears_name(quoted, sa):
    """Whether a quoted packet is one that an SA has sent, by its ends and its SPI."""
    at = {wire.ESP: 8 * bool(sa.encapsulation), wire.AH: 4}.get(sa.protocol)
    return (at is not None and (quoted.source, quoted.destination) == sa.ends
            and quoted.protocol == (wire.UDP if sa.encapsulation else sa.protocol)
            and quoted.payload[at:at + 4] == sa.spi.to_bytes(4, "big"))
