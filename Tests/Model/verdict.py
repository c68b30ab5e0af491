"""What becomes of a frame: what leaves or is delivered, and under which counters the rest falls."""

import dataclasses

import wire


class Output:
    """Something that has to be seen. `optional`: or not at all. `to_host`: by a TAP. `taken`: it was seen; `ranges`:
    what of a packet that may be cut was, as (from, to) of its payload."""

    optional = to_host = taken = False
    ranges = ()


@dataclasses.dataclass
class Clear(Output):
    """An IP packet in clear at a port. `cut`: 0, or the largest piece that it may be cut into."""

    port: str
    destination_mac: bytes
    packet: bytes
    cut: int = 0

    def __str__(self):
        return f"in clear at {self.port}: {wire.Packet(self.packet)}" + f", cut to {self.cut}" * bool(self.cut)


@dataclasses.dataclass
class Sealed(Output):
    """A packet by an SA. In tunnel mode `packet` is what opens from it; in transport mode, the packet as it was before.
    `cut`: 0, or the largest inner piece ("before"); `cut_outside`: the pieces are of the outer packet ("after")."""

    sa: object
    port: str
    destination_mac: bytes
    packet: bytes
    cut: int = 0
    cut_outside: bool = False

    def __str__(self):
        cut = f", cut {'outside ' * self.cut_outside}to {self.cut}" if self.cut else ""
        return f"sealed by {self.sa.name} at {self.port}: {wire.Packet(self.packet)}{cut}"


@dataclasses.dataclass
class Delivered(Output):
    """An IP packet to the host, by the TAP of one of these ports."""

    ports: tuple
    packet: bytes
    to_host = True

    def __str__(self):
        return f"to the host by {'/'.join(self.ports)}: {wire.Packet(self.packet)}"


@dataclasses.dataclass
class RawFrame(Output):
    """A frame that is no IP: to the host (`to_host`) or out of a port, as it is."""

    port: str
    frame: bytes
    to_host: bool = False

    def __str__(self):
        return f"{'to the host by' if self.to_host else 'out of'} {self.port}: {self.frame[:40].hex()}"


@dataclasses.dataclass
class Answer(Output):
    """An ICMP error of the gateway's own. `sources`: the addresses that it may be from, each with the SA that it goes by
    then, None for in clear. `codes`: any of these; `word`: the header's second word, None for any; `quoted`: the packet
    that it is about; `untold`: what counts it where it is optional and does not come."""

    port: str
    destination_mac: bytes
    sources: dict
    destination: bytes
    kind: int
    codes: frozenset
    quoted: bytes
    word: int = None
    untold: frozenset = frozenset()

    def __str__(self):
        codes, names = "|".join(map(str, sorted(self.codes))), {sa.name for sa in self.sources.values() if sa}
        by = f" by {' or '.join(sorted(names))}" if names else ""
        word = "" if self.word is None else f", word {self.word:#x}"
        return (f"ICMP {self.kind}/{codes} to {wire.text(self.destination)}{by} at {self.port}{word}, about "
                f"{wire.Packet(self.quoted)}{' (or none)' * self.optional}")


@dataclasses.dataclass
class HostAnswer(Output):
    """An ICMP error to the host about a packet of its own, or none."""

    quoted: bytes
    to_host = optional = True
    untold = frozenset()

    def __str__(self):
        return f"ICMP to the host about {wire.Packet(self.quoted)} (or none)"


@dataclasses.dataclass
class Course:
    """One way in which a frame may be dealt with. Each of `drops` is a set of counters, one of which counts it;
    `possible_drops` may be counted or not, now or later."""

    outputs: list = dataclasses.field(default_factory=list)
    drops: list = dataclasses.field(default_factory=list)
    possible_drops: list = dataclasses.field(default_factory=list)
    why: str = ""

    @classmethod
    def dropped(cls, *reasons, why="", answer=None):
        """Dropped, and answered: by an Answer, or by one that is itself dropped under one of a set of counters."""
        made = cls(drops=[frozenset(reasons)], why=why)
        if isinstance(answer, (Answer, HostAnswer)):
            made.outputs.append(answer)
            made.possible_drops += [answer.untold] if answer.untold else []
        elif answer:
            made.possible_drops.append(answer)
        return made

    def __str__(self):
        said = [str(output) for output in self.outputs]
        said += [f"dropped: {'|'.join(sorted(reasons))}" for reasons in self.drops]
        said += [f"perhaps dropped: {'|'.join(sorted(reasons))}" for reasons in self.possible_drops]
        return "; ".join(said or ["nothing"]) + (f" ({self.why})" if self.why else "")
