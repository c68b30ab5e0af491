"""A configuration of the gateway as a plain value: ports, routes, policies, SAs and settings. JSON both ways, so that a
case can be kept in a file, and rendered as gateway.yaml and ipsec.conf."""

import dataclasses
import functools
import json

import transforms
import wire

TYPES = ("require", "acquire", "use", "dontacq", "bypass", "deny")
MARKER_PROTOCOL = 253  # for experiments (RFC 3692)
MARKER_MAC = "02:00:00:00:99:99"
# By what ipsec.conf calls it, and by the transform where it is not ESP's.
PROTOCOLS = {"esp": wire.ESP, "ah": wire.AH, "ipip": wire.IPIP}


@dataclasses.dataclass(frozen=True)
class Port:
    """`addresses` are written with the lengths of their prefixes; `host`: with a TAP."""

    name: str
    mac: str
    addresses: tuple
    host: bool = False
    mtu: int = 1500


@dataclasses.dataclass(frozen=True)
class SA:
    """One SA. `direction` is the gateway's view: what is "out" it seals with. `way`: how it is loaded, `conf`
    (ipsec.conf) or `xfrm`. `encapsulation`: (source port, destination port) of ESP in UDP. `selector`: (source,
    destination) prefixes that the SA itself may carry."""

    name: str
    direction: str
    source: str
    destination: str
    spi: int
    transform: str
    encryption: str
    integrity: str
    way: str = "xfrm"
    mode: str = "tunnel"
    encapsulation: tuple = None
    esn: bool = False
    window: int = 64
    reqid: int = 0
    selector: tuple = None
    packet_limit: int = 0

    @property
    def protocol(self):
        return PROTOCOLS.get(self.transform, wire.ESP)

    @functools.cached_property
    def ends(self):
        return wire.packed(self.source), wire.packed(self.destination)

    @functools.cached_property
    def cipher(self):
        return transforms.cipher_of(self.transform, bytes.fromhex(self.encryption), bytes.fromhex(self.integrity))

    @property
    def version(self):
        return 4 if len(self.ends[0]) == 4 else 6


@dataclasses.dataclass(frozen=True)
class Policy:
    """One flow of one direction. Ports 0: any. `peer`: the far gateway, "" where the policy names none. A `conf` policy
    ranks by how specific its selector is, an `xfrm` policy by its priority. `interface` and `mark` name an XFRM
    interface ID and a mark."""

    direction: str
    type: str
    source: str
    destination: str
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    local: str = ""
    peer: str = ""
    way: str = "conf"
    priority: int = 0
    reqid: int = 0
    mode: str = "tunnel"
    ipsec: str = "esp"
    interface: int = 0
    mark: int = 0

    @functools.cached_property
    def prefixes(self):
        """((network, mask) of the source, (network, mask) of the destination), as numbers."""
        return tuple((int(net.network_address), int(net.netmask))
                     for net in map(wire.network, (self.source, self.destination)))

    @property
    def version(self):
        return wire.network(self.source).version

    @property
    def ipsec_protocol(self):
        return PROTOCOLS[self.ipsec]

    @property
    def has_ports(self):
        return bool(self.source_port or self.destination_port)


@dataclasses.dataclass(frozen=True)
class World:
    """`routes`: (prefix, next hop); `neighbors`: (port, address, MAC); `settings`: what gateway.yaml has besides.
    Markers (see bench) come in by one port, from one source to one destination; those of the host leave by each port,
    to the address that `host_markers` has for it."""

    ports: tuple
    routes: tuple = ()
    neighbors: tuple = ()
    policies: tuple = ()
    sas: tuple = ()
    settings: dict = dataclasses.field(default_factory=dict)
    marker_port: str = ""
    marker_source: str = ""
    marker_destination: str = ""
    host_markers: dict = dataclasses.field(default_factory=dict)

    def port(self, name):
        return next(port for port in self.ports if port.name == name)

    def sa(self, name):
        return next(sa for sa in self.sas if sa.name == name)

    def without(self, field, rule):
        """The world without a policy or an SA; None where a marker would not pass then."""
        if getattr(rule, "protocol", None) == MARKER_PROTOCOL:
            return None
        return dataclasses.replace(self, **{field: tuple(other for other in getattr(self, field) if other is not rule)})

    # JSON

    def to_json(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value):
        def made(kind, fields):
            return kind(**{name: tuple(field) if isinstance(field, list) else field for name, field in fields.items()})
        return cls(ports=tuple(made(Port, port) for port in value["ports"]),
                   routes=tuple(map(tuple, value["routes"])), neighbors=tuple(map(tuple, value["neighbors"])),
                   policies=tuple(made(Policy, policy) for policy in value["policies"]),
                   sas=tuple(made(SA, sa) for sa in value["sas"]), settings=value["settings"],
                   marker_port=value["marker_port"], marker_source=value["marker_source"],
                   marker_destination=value["marker_destination"], host_markers=value["host_markers"])

    # Markers

    def marker(self, number, host=None):
        """The frame of a marker; from the host, by the TAP of the port `host`."""
        port = self.port(host or self.marker_port)
        source = port.addresses[0].split("/")[0] if host else self.marker_source
        destination = self.host_markers[host] if host else self.marker_destination
        packet = wire.ipv4(wire.packed(source), wire.packed(destination), MARKER_PROTOCOL, number.to_bytes(8, "big"))
        if host:
            return wire.ethernet(wire.mac(MARKER_MAC), wire.mac(port.mac), wire.IPV4, packet)
        return wire.ethernet(wire.mac(port.mac), wire.mac(MARKER_MAC), wire.IPV4, packet)

    # The gateway's files

    def gateway_yaml(self, folder, workers):
        lines = ['eal: ["--no-pci"]', "hugepages: false", "memory: 192", f"workers: {list(workers)}", "idle: sleep",
                 "crypto: openssl", f"state-dir: {folder}/state", "ike: {daemon: none}", f"ipsec: {folder}/ipsec.conf",
                 "limits: {icmp-errors-per-second: 1000000, flows: 1024, sas: 256, policies: 256, schedules: 256}"]
        lines += [f"{key}: {value}" for key, value in self.settings.items()]
        lines.append("ports:")
        for number, port in enumerate(self.ports):
            device = (f"net_memif{number},role=client,socket={folder}/{port.name}.sock,socket-abstract=no,rsize=8,"
                      f"bsize=2048,mac={port.mac}")
            lines += [f"  - name: {port.name}", f'    device: "{device}"', f"    host: {str(port.host).lower()}",
                      f"    addresses: {json.dumps(port.addresses)}", f"    mtu: {port.mtu}"]
        lines += ["routes:"] * bool(self.routes)
        lines += [f'  - {{to: "{to}", via: "{via}"}}' for to, via in self.routes]
        lines += ["neighbors:"] * bool(self.neighbors)
        lines += [f'  - {{port: {port}, address: "{address}", mac: "{mac}"}}' for port, address, mac in self.neighbors]
        return "\n".join(lines) + "\n"

    def ipsec_conf(self):
        rules = [flow_rule(policy) for policy in self.policies if policy.way == "conf"]
        return "\n".join(rules + [sa_rule(sa) for sa in self.sas if sa.way == "conf"]) + "\n"


def flow_rule(policy):
    words = ["flow", policy.ipsec, policy.direction]
    if policy.protocol:
        words += ["proto", str(policy.protocol)]
    words += ["from", policy.source, *(["port", str(policy.source_port)] if policy.source_port else [])]
    words += ["to", policy.destination, *(["port", str(policy.destination_port)] if policy.destination_port else [])]
    words += ["local", policy.local] if policy.local else []
    words += ["peer", policy.peer] if policy.peer else []
    return " ".join(words + ["type", policy.type])


def sa_rule(sa):
    """One direction: `spi N` alone."""
    kind = next(name for name, protocol in PROTOCOLS.items() if protocol == sa.protocol)
    words = [kind] + [sa.mode] * (kind != "ipip")
    words += ["from", sa.source, "to", sa.destination, "spi", f"0x{sa.spi:08x}"]
    if sa.encapsulation:
        words += ["udpencap", "port", str(sa.encapsulation[1])]
    words += transforms.TRANSFORMS[sa.transform][2].split()
    if sa.integrity:
        words += ["authkey", f"0x{sa.integrity}"]
    if sa.encryption:
        words += ["enckey", f"0x{sa.encryption}"]
    return " ".join(words)
