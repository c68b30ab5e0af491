"""Compares what came out of gwd with the courses that the model allows, and opens what was sealed on the way."""

import wire
from inward import unwrapped
from transforms import Refused, high_half, open_ah, open_esp
from verdict import Answer, Clear, Delivered, HostAnswer, RawFrame

TUNNEL_HOPS = 64
QUOTE_LEAST = {4: 28, 6: 48}
ANSWER_MOST = {4: 576, 6: 1280}
NEXT_HEADERS = {4: wire.IPIP, 6: wire.IP6IP}


class Seen:
    """One frame that came out. `packet`: its IP packet, None where it is none; `sa`, `inner`: what opened from it."""

    __slots__ = ("port", "frame", "packet", "sa", "inner", "iv", "fault", "host")

    def __init__(self, port, frame, host=False):
        self.port, self.frame, self.host = port, frame, host
        self.packet = self.sa = self.inner = self.iv = self.fault = None
        if int.from_bytes(frame[12:14], "big") in (wire.IPV4, wire.IPV6):
            try:
                self.packet = wire.checked(frame[14:], int.from_bytes(frame[12:14], "big"))
            except wire.Malformed as fault:
                self.fault = f"malformed: {fault}"

    def __str__(self):
        where = f"to the host by {self.port}" if self.host else f"at {self.port}"
        if self.fault:
            return f"{where}: {self.fault}: {self.frame.hex()}"
        if self.sa:
            return f"{where}: by {self.sa.name}: {self.inner or self.packet}"
        return f"{where}: {self.packet or self.frame.hex()}"


class Opener:
    """Knows the SAs that the gateway seals with, and how far they have counted: every number once, none left out. What
    is cut may leave later than what is not, so within a burst they come in any order."""

    def __init__(self, world):
        self.sequences, self.sealed, self.early = {}, {}, {}
        self.load(world)

    def load(self, world):
        outward = [sa for sa in world.sas if sa.direction == "out"]
        self.by_name = {(sa.spi, sa.ends[1], sa.protocol): sa for sa in outward}
        self.plain = {sa.ends: sa for sa in outward if sa.protocol == wire.IPIP}

    def open(self, seen):
        """Says what a frame that is an SA's holds; leaves others as they are."""
        packet = seen.packet
        if packet is None or packet.fragment:
            return
        sa, data = self._sa_of(packet)
        if sa is None:
            return
        seen.sa = sa
        self.sealed[sa.name] = self.sealed.get(sa.name, 0) + 1
        try:
            seen.fault = self._open(seen, packet, data)
        except (Refused, wire.Malformed) as fault:
            seen.fault = f"what {sa.name} sealed does not open: {fault}"

    def faults(self):
        """Called when a burst has come out: numbers that were left out."""
        for name, early in self.early.items():
            if early:
                yield f"numbers of {name}: {sorted(early)} after {self.sequences.get(name, 0)}"
                early.clear()

    def _sa_of(self, packet):
        """(the SA that a packet is of, its IPsec part), (None, None) for others."""
        data, protocol, ports = packet.payload, packet.protocol, None
        if protocol in NEXT_HEADERS.values():
            return self.plain.get((packet.source, packet.destination)), data
        if protocol == wire.UDP:
            data, protocol, ports = data[8:], wire.ESP, (packet.source_port, packet.destination_port)
        at = 4 if protocol == wire.AH else 0
        sa = self.by_name.get((int.from_bytes(data[at:at + 4], "big"), packet.destination, protocol))
        if sa is None or sa.ends[0] != packet.source or sa.encapsulation != ports:
            return None, None
        return sa, data

    def _open(self, seen, packet, data):
        """What is wrong with it, None where nothing is; fills in what is inside."""
        sa = seen.sa
        if sa.protocol == wire.IPIP:
            inner, next_header = data, packet.protocol
        else:
            at = 8 if sa.protocol == wire.AH else 4
            sequence = int.from_bytes(data[at:at + 4], "big")
            early, last = self.early.setdefault(sa.name, set()), self.sequences.get(sa.name, 0)
            if sequence <= last or sequence in early:
                return f"number {sequence} of {sa.name} comes again"
            early.add(sequence)
            while last + 1 in early:
                last += 1
                early.remove(last)
            self.sequences[sa.name] = last
            inner, next_header = self._opened(seen, packet, data, high_half(sa.esn, sequence))
        if sa.mode == "transport":
            seen.inner = unwrapped(packet, inner, next_header)
        elif NEXT_HEADERS.get(inner[0] >> 4 if inner else 0) != next_header:
            return f"{sa.name}: next header {next_header} of {inner[:20].hex()}"
        else:
            seen.inner = wire.checked(inner)
        return None

    @staticmethod
    def _opened(seen, packet, data, high):
        if seen.sa.protocol == wire.AH:
            return open_ah(seen.sa.cipher.integrity, packet.data, high)
        inner, next_header, seen.iv = open_esp(seen.sa.cipher, data, high)
        return inner, next_header


class Joined:
    """Pieces of one outer packet, until they are all there."""

    def __init__(self):
        self.waiting = {}

    def take(self, seen):
        """The Seen of the whole packet when its last piece comes, else None."""
        whole = self._whole(seen.port, seen.packet)
        return whole and Seen(seen.port, seen.frame[:14] + whole)

    def take_inner(self, seen):
        """The same for what is inside: the whole packet."""
        whole = self._whole(seen.sa.name, seen.inner)
        return whole and wire.Packet(whole)

    def _whole(self, way, packet):
        key = way, packet.source, packet.destination, packet.fragment[0]
        pieces = self.waiting.setdefault(key, [])
        pieces.append(packet)
        pieces.sort(key=lambda piece: piece.fragment[1])
        data = b""
        for piece in pieces:
            if piece.fragment[1] != len(data):
                return None
            data += piece.payload
        if pieces[-1].fragment[2]:
            return None
        del self.waiting[key]
        first = pieces[0]
        fields = first.source, first.destination, first.protocol, data, first.ttl, first.tos
        return wire.ipv4(*fields, first.fragment[0]) if first.version == 4 else wire.ipv6(*fields, first.label)


def matches(expected, seen):
    """Whether a frame that came out is (a piece of) an expected output."""
    if seen.host != expected.to_host:
        return False
    if isinstance(expected, RawFrame):
        return expected.port == seen.port and same_frame(expected.frame, seen.frame)
    if seen.packet is None:
        return False
    if isinstance(expected, HostAnswer):
        return is_error_about(seen.packet, expected.quoted)
    if isinstance(expected, Delivered):
        return seen.port in expected.ports and seen.packet.data == expected.packet
    if seen.port != expected.port or seen.frame[:6] != expected.destination_mac:
        return False
    if isinstance(expected, Answer):
        return is_answer(expected, seen)
    if isinstance(expected, Clear):
        if seen.sa:
            return False
        return seen.packet.data == expected.packet or bool(expected.cut) and takes_piece(expected, seen.packet)
    return is_sealed(expected, seen)


def same_frame(expected, seen):
    """Equal but for what pads a short frame."""
    return expected == seen or len(expected) < 60 and seen[:len(expected)] == expected and not any(seen[len(expected):])


def is_sealed(expected, seen):
    if seen.sa is not expected.sa or seen.inner is None or tunnel_fault(expected, seen):
        return False
    if seen.inner.data == expected.packet:
        return True
    return bool(expected.cut) and not expected.cut_outside and takes_piece(expected, seen.inner)


def tunnel_fault(expected, seen):
    """What is wrong with the outer header of a tunnel (RFC 4301 5.1.2, RFC 6040 4.1), None where nothing is."""
    sa, outer = expected.sa, seen.packet
    if sa.mode != "tunnel":
        return None
    inner = wire.Packet(expected.packet)
    if (outer.source, outer.destination) != sa.ends or outer.ttl != TUNNEL_HOPS:
        return "ends or hops"
    if outer.tos != inner.tos:
        return f"traffic class {outer.tos:#x} for {inner.tos:#x}"
    if outer.version == inner.version == 4 and outer.df != inner.df:
        return "don't fragment"
    if outer.version == 6 and outer.label != (inner.label if inner.version == 6 else 0):
        return "flow label"
    return None


def takes_piece(expected, piece):
    """Whether a fragment is a piece of the expected packet, not seen before; its bytes are noted."""
    whole = wire.Packet(expected.packet)
    if whole.version != 4 or piece.version != 4 or not piece.fragment or len(piece.data) > expected.cut:
        return False
    if any(piece.data[at] != whole.data[at] for at in (4, 5, 8, 9, *range(12, 20))):
        return False
    base = whole.fragment[1] if whole.fragment else 0
    start, data = piece.fragment[1] - base, piece.payload
    end = start + len(data)
    is_last = end == len(whole.payload)
    more = bool(whole.fragment and whole.fragment[2]) if is_last else True
    if start < 0 or whole.payload[start:end] != data or piece.fragment[2] != more:
        return False
    if any(start < other_end and other < end for other, other_end in expected.ranges):
        return False
    expected.ranges = [*expected.ranges, (start, end)]
    return True


def is_answer(expected, seen):
    """RFC 1812 4.3.2, RFC 4443 2.4, 3."""
    packet = seen.inner if seen.sa else seen.packet
    if packet is None or packet.source not in expected.sources or packet.destination != expected.destination:
        return False
    if seen.sa is not expected.sources[packet.source]:
        return False
    body = packet.payload
    if packet.ttl < 2 or len(body) < 8 or body[0] != expected.kind or body[1] not in expected.codes:
        return False
    if expected.word is not None and int.from_bytes(body[4:8], "big") != expected.word:
        return False
    return is_error_about(packet, expected.quoted)


def is_error_about(packet, quoted):
    """Whether a packet is a right ICMP error that quotes another."""
    protocol, body = wire.ICMP if packet.version == 4 else wire.ICMP6, packet.payload
    if packet.protocol != protocol or packet.fragment or len(body) < 8:
        return False
    quote = body[8:]
    if wire.checksum(wire.icmp_pseudo_header(packet) + body) or len(packet.data) > ANSWER_MOST[packet.version]:
        return False
    if len(quote) < min(len(quoted), QUOTE_LEAST[packet.version]):
        return False
    hops = quoted[8 if quoted[0] >> 4 == 4 else 7]
    return quote == quoted[:len(quote)] or hops > 0 and quote == wire.aged(quoted)[:len(quote)]


def is_complete(expected):
    """Whether an output that may come in pieces has come wholly."""
    if not expected.ranges:
        return expected.taken
    return sum(end - start for start, end in expected.ranges) == len(wire.Packet(expected.packet).payload)
