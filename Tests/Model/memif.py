"""The far end of a net_memif port: memif 2.0's server, in shared memory, without a system call a packet.

The control messages come over a Unix socket (SOCK_SEQPACKET); gwd, the client, brings the memory: one region with both
rings and all buffers. Each ring has a cookie, flags and its head in one cache line, its tail in the next, descriptors
from byte 128 on.
"""

import mmap
import os
import socket
import struct

VERSION = 2 << 8
ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT = range(1, 9)
NAME = b"model".ljust(32, b"\0")
CLIENT_TO_SERVER = 1  # ADD_RING's flag
CHAINED = 1  # a descriptor's: the frame goes on in the next one
HEAD, TAIL, DESCRIPTORS = 6, 64, 128

SHORT = struct.Struct("=H")
HELLO_BODY = struct.Struct("=32sHHHHHB")
REGION = struct.Struct("=HQ")
RING = struct.Struct("=HHHIBH")
# flags, region, length, offset, metadata
DESCRIPTOR = struct.Struct("=HHIII")


class Ring:
    """One ring: `done` is how far this side has come, as the ring counts (modulo 65536)."""

    def __init__(self, memory, offset, size):
        self.memory, self.offset, self.size, self.mask, self.done = memory, offset, size, size - 1, 0
        # A view of numbers reads and writes each of them at once. struct.pack_into writes zeros first, and gwd, which polls,
        # would take a tail of 0 for a ring full of frames.
        self.numbers = memory.cast("H")

    def head(self):
        return self.numbers[(self.offset + HEAD) // 2]

    def publish(self):
        self.numbers[(self.offset + TAIL) // 2] = self.done

    def release(self):
        self.numbers.release()

    def descriptor(self, number):
        return self.offset + DESCRIPTORS + DESCRIPTOR.size * (number & self.mask)


class Memif:
    """Listens at a path; connect() serves the one client that comes."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.control, self.maps, self.regions = None, [], {}
        self.received = self.sent = None

    def connect(self, timeout):
        self.listener.settimeout(timeout)
        self.control, _ = self.listener.accept()
        self.control.settimeout(timeout)
        self._send(HELLO, HELLO_BODY.pack(NAME, VERSION, VERSION, 255, 255, 255, 14))
        while not self._answer(*socket.recv_fds(self.control, 256, 2)[:2]):
            pass

    def _answer(self, message, descriptors):
        """Does what one message asks for; True when the connection stands."""
        kind, body = SHORT.unpack_from(message)[0], message[SHORT.size:]
        if kind == ADD_REGION:
            index, size = REGION.unpack_from(body)
            self.maps.append(mmap.mmap(descriptors[0], size))
            self.regions[index] = memoryview(self.maps[-1])
        elif kind == ADD_RING:
            flags, _, region, offset, log2_size, _ = RING.unpack_from(body)
            ring = Ring(self.regions[region], offset, 1 << log2_size)
            if flags & CLIENT_TO_SERVER:
                self.received = ring
            else:
                self.sent = ring
        elif kind == DISCONNECT:
            raise ConnectionError(f"memif: {body[4:].rstrip(bytes(1)).decode(errors='replace')}")
        for descriptor in descriptors:
            os.close(descriptor)
        if kind == CONNECT:
            self._send(CONNECTED, NAME)
        else:
            self._send(ACK)
        return kind == CONNECT

    def _send(self, kind, body=b""):
        self.control.send((SHORT.pack(kind) + body).ljust(128, b"\0"))

    def receive(self):
        """All frames that gwd has sent since the last call."""
        ring, frames, parts = self.received, [], []
        head = ring.head()
        while ring.done != head:
            flags, region, length, offset, _ = DESCRIPTOR.unpack_from(ring.memory, ring.descriptor(ring.done))
            parts.append(bytes(self.regions[region][offset:offset + length]))
            if not flags & CHAINED:
                frames.append(parts[0] if len(parts) == 1 else b"".join(parts))
                parts = []
            ring.done = ring.done + 1 & 0xFFFF
        ring.publish()
        return frames

    def send(self, frames):
        """Puts frames, each of at most one buffer, where gwd takes them as one burst or two."""
        ring = self.sent
        for frame in frames:
            if ring.done == ring.head():
                raise BufferError("memif: gwd's receive ring is full")
            place = ring.descriptor(ring.done)
            _, region, _, offset, _ = DESCRIPTOR.unpack_from(ring.memory, place)
            self.regions[region][offset:offset + len(frame)] = frame
            DESCRIPTOR.pack_into(ring.memory, place, 0, region, len(frame), offset, 0)
            ring.done = ring.done + 1 & 0xFFFF
        ring.publish()

    def is_taken(self):
        """Whether gwd has taken all that was sent: it fills its ring with buffers again."""
        return self.sent.head() == self.sent.done + self.sent.size & 0xFFFF

    def close(self):
        for connection in (self.listener, self.control):
            if connection:
                connection.close()
        for opened in filter(None, (self.received, self.sent, *self.regions.values())):
            opened.release()
        self.received = self.sent = None
        for memory in self.maps:
            memory.close()
