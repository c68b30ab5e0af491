"""Random frames for a world: what hosts and peers send."""

import wire
import worlds
from attacks import GAP, PATH_MTU, Attacks
from case import Step
from maker import Maker

BURSTS = (1, 1, 2, 4, 8, 20)
LARGEST_BURST = 32
CHANGES = 0.05
PATH_MTU_PAUSE = 0.05


class Traffic:
    """Makes steps for the world that was made last. Each kind of frames is a function that returns [(port, frame,
    note)] in the order of sending; a port written `host:NAME` is the host's TAP. `without`: kinds that are left out."""

    def __init__(self, noise, worlds_, without=()):
        self.noise, self.worlds, self.maker = noise, worlds_, Maker(noise, worlds_.world)
        self.attacks = Attacks(noise, self.maker)
        self.without = without

    def kinds(self):
        """(weight, function) of what makes sense in the world as it is."""
        kinds = [(20, self.from_inside), (8, self.from_outside), (6, self.to_gateway), (2, self.nowhere),
                 (2, self.in_pieces), (2, self.too_large), (2, self.extended)]
        if self.maker.inward:
            kinds += [(20, self.by_tunnel), (2, self.large_by_tunnel), (3, self.tunnel_to_gateway)]
        if any(port.host for port in self.maker.ports.values()):
            kinds.append((8, self.from_host))
        return [(weight, kind) for weight, kind in kinds + self.attacks.kinds() if kind.__name__ not in self.without]

    def steps(self, count):
        """About `count` frames, in steps of one to a burst; in some worlds rules change in between."""
        made, changes = 0, self.noise.random() < 0.5
        while made < count:
            size = self.noise.choice(BURSTS)
            weights, kinds = zip(*self.kinds())
            burst = []
            while len(burst) < size:
                burst += self.noise.choices(kinds, weights)[0]() or []
            made += len(burst)
            yield from grouped(burst)
            if changes and self.noise.random() < CHANGES:
                self.maker.load(self.worlds.change())
                yield Step(world=self.worlds.world)

    # Kinds of frames

    def from_inside(self):
        source, destination = self.maker.of_policy("out")
        return self._one(self.maker.port_of(source), self.maker.packet(source, destination), "from inside")

    def from_outside(self):
        source, destination = self.maker.of_policy("in")
        return self._one("wan", self.maker.packet(source, destination), "in clear from outside")

    def to_gateway(self):
        version = self.maker.version()
        port = self.noise.choice(list(self.maker.ports))
        source = worlds.address(port, version, self.noise.choice(worlds.HOSTS))
        return self._one(port, self.maker.packet(source, self.maker.own(version)), "to the gateway")

    def nowhere(self):
        version = self.maker.version()
        port, source = self.maker.inside(version)
        return self._one(port, self.maker.packet(source, worlds.NOWHERE[version]), "to nowhere")

    def in_pieces(self):
        """A datagram in two fragments, from inside."""
        source, destination = self.maker.of_policy("out")
        port = self.maker.port_of(source)
        pieces = wire.cut(self.maker.packet(source, destination, size=300), [(0, 160), (160, None)],
                          self.maker.next_identification())
        return [(port, self.maker.frame(port, piece), "a piece from inside") for piece in pieces]

    def too_large(self):
        """As large as the LAN takes, which is more than what an SA or another port does."""
        source, destination = self.maker.of_policy("out")
        packet = self.maker.packet(source, destination, size=self.noise.choice((1388, 1400, 1420, 1440)))
        return self._one(self.maker.port_of(source), packet, "large") if len(packet) <= 1500 else []

    def extended(self):
        """IPv4 options and IPv6 extension headers that mean nothing on the way."""
        source, destination = (wire.packed(end) for end in self.maker.of_policy("out"))
        protocol, payload = self.maker.body(source, destination)
        if len(source) == 4:
            packet = wire.ipv4(source, destination, protocol, payload, identification=self.maker.next_identification(),
                               options=bytes((1, 1, 1, 0)))
        else:
            kind = self.noise.choice((wire.HOP_BY_HOP, wire.OPTIONS))
            packet = wire.ipv6(source, destination, kind, bytes((protocol, 0, 1, 4, 0, 0, 0, 0)) + payload)
        return self._one(self.maker.port_of(wire.text(source)), packet, "with options")

    def by_tunnel(self):
        sa, gap = self.noise.choice(self.maker.inward), ""
        if self.noise.random() < 0.1:
            self.maker.sequences[sa.name] += self.noise.choice((1, 5, 40, 200))
            gap = GAP
        return self._sealed(sa, self.maker.inner(sa), f"by {sa.name}{gap}")

    def large_by_tunnel(self):
        sa = self.noise.choice(self.maker.inward)
        inner = self.maker.inner(sa, size=self.noise.choice((1360, 1380)), ttl=64)
        return self._sealed(sa, inner, f"large by {sa.name}")

    def tunnel_to_gateway(self):
        """From a remote host to an address of the gateway, through the tunnel."""
        sa = self.noise.choice(self.maker.inward)
        if sa.mode == "transport":
            return []
        source = self.maker.of_policy("in")[0]
        inner = self.maker.packet(source, self.maker.own(4 if "." in source else 6))
        return self._sealed(sa, inner, f"to the gateway by {sa.name}")

    def _sealed(self, sa, inner, note):
        frame = self.maker.frame("wan", self.maker.seal(sa, inner))
        if len(frame) > 1514:
            return []
        if sa in self.maker.keyed:
            self.maker.sealed = self.maker.sealed[-40:] + [frame]
        return [("wan", frame, note)]

    def from_host(self):
        """The host's own packets, by one of its TAPs."""
        port = self.noise.choice([name for name, port in self.maker.ports.items() if port.host])
        version = self.maker.version()
        ends = [sa.destination for sa in self.maker.outbound if sa.version == version]
        destination = self.noise.choice((self.maker.remote(version), self.maker.stranger(version),
                                         self.maker.inside(version)[1], *ends[:3]))
        packet = self.maker.packet(self.maker.own(version, port), destination)
        if len(packet) > self.maker.ports[port].mtu:
            return []
        return [(f"host:{port}", self.maker.host_frame(port, packet), "from the host")]

    def _one(self, port, packet, note):
        return [(port, self.maker.frame(port, packet), note)]


def grouped(burst):
    """Steps of frames for one port each, in order."""
    step = None
    for port, frame, note in burst:
        host, name = port.startswith("host:"), port.split(":")[-1]
        # Pieces that came before a gap are put together after it, and may then be too old.
        is_apart = step is None or (step.port, step.host) != (name, host) or GAP in note
        if is_apart or len(step.frames) >= LARGEST_BURST:
            if step:
                yield step
            step = Step(name, host=host)
        step.frames.append(frame)
        step.notes.append(note)
        if note.startswith(PATH_MTU):
            step.pause = PATH_MTU_PAUSE
            yield step
            step = None
    if step:
        yield step
