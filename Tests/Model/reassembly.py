"""Datagrams for the gateway itself, put together from their pieces (RFC 791 3.2, 8200 4.5, 5722, 1858)."""

import wire
from verdict import Course

TIMED_OUT = frozenset(("reassembly_timeout", "fragment_limit"))
SMALLEST = 16  # bytes of a piece that is not the last: one that holds less than a transport header hides it


class Pending:
    """One datagram: pieces by their offset."""

    def __init__(self):
        self.pieces, self.end, self.first = {}, None, None

    def overlaps(self, offset, length):
        return any(offset < start + len(data) and start < offset + length for start, data in self.pieces.items())


class Reassembly:
    """Pieces join only those of one origin: the same port in clear, or the same SA."""

    def __init__(self):
        self.pending = {}

    def take(self, packet, origin):
        """(the whole packet, None), or (None, the course of this piece). A piece that waits may be counted later, when
        the rest does not come."""
        identification, offset, more = packet.fragment
        data = packet.payload
        key = (origin, packet.source, packet.destination, packet.version == 4 and packet.protocol, identification)
        if (more and len(data) % 8) or not data or offset + len(data) > 65535 - (20 if packet.version == 4 else 0):
            return None, Course.dropped("fragment_malformed")
        if more and len(data) < SMALLEST:
            return None, Course.dropped("fragment_tiny")
        waiting = self.pending.setdefault(key, Pending())
        if waiting.overlaps(offset, len(data)):
            del self.pending[key]
            refused = Course.dropped("fragment_overlap", why="the datagram falls whole")
            refused.drops += [frozenset(("fragment_overlap",))] * len(waiting.pieces)
            return None, refused
        waiting.pieces[offset] = data
        if not more:
            waiting.end = offset + len(data)
        if not offset:
            waiting.first = packet
        whole = self._whole(waiting)
        if whole is None:
            return None, Course(possible_drops=[TIMED_OUT], why="waits for the rest")
        del self.pending[key]
        return whole, None

    @staticmethod
    def _whole(waiting):
        if waiting.end is None or waiting.first is None:
            return None
        data, at = b"", 0
        while at in waiting.pieces:
            piece = waiting.pieces[at]
            data, at = data + piece, at + len(piece)
        if at != waiting.end or sum(map(len, waiting.pieces.values())) != at:
            return None
        first = waiting.first
        if first.version == 4:
            return wire.ipv4(first.source, first.destination, first.protocol, data, first.ttl, first.tos,
                             first.fragment[0], options=first.data[20:first.transport])
        return without_fragment_header(first, data)


def without_fragment_header(first, data):
    """The IPv6 packet whose first fragment this is, with all of its data (RFC 8200 4.5)."""
    head = bytearray(first.data[:first.fragment_at])
    # The header before the fragment header names what follows it.
    place, kind, at = 6, head[6], 40
    while kind != wire.FRAGMENT:
        place, kind, at = at, head[at], at + 8 + 8 * head[at + 1]
    head[place] = first.data[first.fragment_at]
    body = first.data[first.fragment_at + 8:first.transport] + data
    head[4:6] = (len(head) - 40 + len(body)).to_bytes(2, "big")
    return bytes(head) + body
