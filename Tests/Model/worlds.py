"""Random worlds: one address plan, everything else by chance.

                        +---------------------------+
       hosts .10 …  --- | lan                   wan | --- peers .11 …, router .254 --- far peers, remote networks
    192.168.60.0/24     |            gwd            |     198.51.100.0/24
                        | dmz                       |
       10.7.0.0/24  --- |                           |     and the same in IPv6
                        +---------------------------+
"""

import dataclasses
import functools

import spd
import transforms
import wire
from world import MARKER_MAC, MARKER_PROTOCOL, SA, Policy, Port, World

NETS = {"wan": ("198.51.100.0/24", "2001:db8:1::/64"), "lan": ("192.168.60.0/24", "2001:db8:60::/64"),
        "dmz": ("10.7.0.0/24", "2001:db8:70::/64")}
MACS = {"wan": "02:00:00:00:01:01", "lan": "02:00:00:00:01:02", "dmz": "02:00:00:00:01:03"}
HOSTS = (10, 11, 12)
PEERS = (0x11, 0x12, 0x13)
ROUTER, MARKER, MARKER_SOURCE = 0xFE, 0xFA, 0xFB
FAR_PEERS = {4: ("203.0.113.21", "203.0.113.22"), 6: ("2001:db8:2::21", "2001:db8:2::22")}
REMOTE = {4: [f"172.20.{number}.0/24" for number in range(1, 5)],
          6: [f"2001:db8:20:{number}::/64" for number in range(1, 5)]}
ELSEWHERE = {4: "203.0.113.77", 6: "2001:db8:99::77"}
NOWHERE = {4: "192.0.2.9", 6: "2001:db8:dead::9"}
ANY = {4: "0.0.0.0/0", 6: "::/0"}
TYPE_WEIGHTS = {"require": 10, "use": 2, "acquire": 2, "dontacq": 1, "bypass": 3, "deny": 2}


@functools.lru_cache(4096)
def place(net, number):
    """The address of this number in a network."""
    return str(wire.network(net)[number])


def address(port, version, number):
    return place(NETS[port][version == 6], number)


def neighbor_mac(port, number):
    return f"02:00:00:00:{list(NETS).index(port) + 2:02x}:{number:02x}"


class Worlds:
    """Makes worlds from one source of chance."""

    def __init__(self, noise, settings=True):
        self.noise, self.with_settings = noise, settings

    def make(self):
        noise = self.noise
        names = ["wan", "lan"] + ["dmz"] * (noise.random() < 0.4)
        self.versions = noise.choice([(4,), (4, 6), (4, 6), (4, 6)])
        self.names = names
        host = noise.random() < 0.6
        self.ports = tuple(self._port(name, host and (name == "wan" or noise.random() < 0.7)) for name in names)
        self.spi, self.reqid, self.priority = noise.randrange(0x1000, 0x7FFFFFFF), 0, 100
        self.sas, self.policies, self.made = [], [], 0
        self.way = noise.choice(("conf", "conf", "xfrm"))
        for _ in range(noise.choice((0, 1, 1, 2, 2, 3, 4))):
            self._tunnel()
        for _ in range(noise.choice((0, 0, 1, 2, 3))):
            self._lone_policy()
        self._marker_policies()
        self.world = World(
            self.ports, tuple(self._routes()), tuple(self._neighbors()), tuple(self.policies), tuple(self.sas),
            self._settings(), "lan", address("lan", 4, MARKER_SOURCE), address("wan", 4, MARKER),
            {name: address(name, 4, MARKER) for name in names})
        return self.world

    def change(self):
        """The world that was made last with some of its rules changed: a policy or an SA gone, others come, an SA
        rekeyed."""
        noise = self.noise
        for _ in range(noise.choice((1, 1, 2, 3))):
            action = noise.choice((self._forget_policy, self._forget_sa, self._tunnel, self._lone_policy, self._rekey))
            action()
        self.world = dataclasses.replace(self.world, policies=tuple(self.policies), sas=tuple(self.sas))
        return self.world

    def _forget_policy(self):
        known = [policy for policy in self.policies if policy.protocol != MARKER_PROTOCOL]
        if known:
            self.policies.remove(self.noise.choice(known))

    def _forget_sa(self):
        if self.sas:
            self.sas.remove(self.noise.choice(self.sas))

    def _rekey(self):
        """Another SA in the place of one: new keys, a new SPI."""
        if not self.sas:
            return
        old = self.noise.choice(self.sas)
        self.sas.remove(old)
        self.spi += self.noise.randrange(1, 1000)
        self.made += 1
        encryption, integrity = (self.noise.randbytes(len(key) // 2).hex() for key in (old.encryption, old.integrity))
        self.sas.append(dataclasses.replace(old, name=f"{old.direction}-{self.made}", spi=self.spi,
                                            encryption=encryption, integrity=integrity))

    def _port(self, name, host):
        addresses = [f"{address(name, version, 1)}/{24 if version == 4 else 64}" for version in self.versions]
        return Port(name, MACS[name], tuple(addresses), host, self.noise.choice((1500,) * 5 + (1400, 1280)))

    def _routes(self):
        noise = self.noise
        for version in self.versions:
            router = address("wan", version, ROUTER)
            if noise.random() < 0.6:
                yield ANY[version], router
            else:
                yield "203.0.113.0/24" if version == 4 else "2001:db8:2::/64", router
                for net in REMOTE[version]:
                    if noise.random() < 0.9:
                        yield net, router

    def _neighbors(self):
        for name in self.names:
            for version in self.versions:
                for number in (*HOSTS, *PEERS, ROUTER):
                    yield name, address(name, version, number), neighbor_mac(name, number)
            yield name, address(name, 4, MARKER), MARKER_MAC

    def _settings(self):
        noise, chosen = self.noise, {}
        if not self.with_settings:
            return chosen
        if noise.random() < 0.3:
            chosen["fragments"] = "after"
        if noise.random() < 0.3:
            chosen["source-check"] = noise.choice(("strict", "loose", "off", "auto"))
        if noise.random() < 0.4:
            chosen["portless-fragments"] = noise.choice(("match", "drop"))
        return chosen

    # Policies and SAs

    def _near(self, version):
        noise = self.noise
        net = NETS[noise.choice([name for name in self.names if name != "wan"])][version == 6]
        return noise.choice((net,) * 6 + (place(net, noise.choice(HOSTS)), ANY[version]))

    def _far(self, version):
        noise = self.noise
        net = noise.choice(REMOTE[version])
        return noise.choice((net,) * 6 + (place(net, noise.choice(HOSTS)), ANY[version]))

    def _peer(self, version):
        return self.noise.choice([address("wan", version, number) for number in PEERS] + list(FAR_PEERS[version]))

    def _tunnel(self):
        """Policies of both directions, and mostly the SAs that they want."""
        noise = self.noise
        inner, outer = noise.choice(self.versions), noise.choice(self.versions)
        peer, local = self._peer(outer), address("wan", outer, 1)
        if any(peer in (sa.source, sa.destination) for sa in self.sas) and self.way == "conf":
            return
        self.reqid += 1
        transform = noise.choice(list(transforms.ESP_TRANSFORMS) + ["ah"] * (noise.random() < 0.4)
                                 + ["ipip"] * (self.way == "conf" and noise.random() < 0.4))
        more = {"ipsec": transform if transform in ("ah", "ipip") else "esp"}
        if self.way == "xfrm" and noise.random() < 0.15:
            # From the gateway itself to the peer itself.
            near, far, more["mode"] = local, peer, "transport"
        else:
            near, far = self._near(inner), self._far(inner)
        type_ = noise.choice(("require",) * 8 + ("use", "acquire", "dontacq")) if self.way == "conf" else "require"
        protocol, source_port, destination_port = self._ports()
        if noise.random() < 0.95:
            self._policy("out", type_, near, far, (protocol, source_port, destination_port), peer, local, **more)
        if noise.random() < 0.9:
            self._policy("in", type_, far, near, (protocol, destination_port, source_port), peer, local, **more)
        if noise.random() < 0.9:
            more = {"transform": transform, "mode": more.get("mode", "tunnel"), "esn": noise.random() < 0.3}
            if transform in transforms.ESP_TRANSFORMS and noise.random() < 0.2:
                more["encapsulation"] = 4500, 4500
            if self.way == "xfrm" and more["mode"] == "tunnel" and noise.random() < 0.15:
                narrow = place(far, noise.choice(HOSTS)) if far in REMOTE[inner] else far
                more["selector"] = near, noise.choice((far, narrow))
            if noise.random() < 0.95:
                self._sa("out", local, peer, **more)
            if more.get("selector"):
                more["selector"] = more["selector"][::-1]
            if noise.random() < 0.95:
                self._sa("in", peer, local, **more)

    def _ports(self):
        """(protocol, source port, destination port) of a selector."""
        noise = self.noise
        if noise.random() < 0.75:
            return (0, 0, 0)
        protocol = noise.choice((6, 17, 17, 1))
        return (protocol, 0, 0) if protocol == 1 or noise.random() < 0.3 else (protocol, 0, noise.choice((53, 2000)))

    def _policy(self, direction, type_, source, destination, ports, peer="", local="", **more):
        self.priority += 1
        ends = ("", "", 0) if type_ in ("bypass", "deny") else (local, peer, self.reqid)
        policy = Policy(direction, type_, source, destination, *ports, *ends[:2], self.way,
                        self.priority + self.noise.choice((0, 1000, 2000)), ends[2], **more)
        # Only what the texts rank: of two policies that one packet matches, one is narrower; and no two of one
        # selector.
        if all(not spd.overlap(policy, other) or spd.is_ordered(policy, other) and not spd.is_same(policy, other)
               for other in self.policies):
            self.policies.append(policy)

    def _sa(self, direction, source, destination, transform, esn, **more):
        noise = self.noise
        encryption, integrity, words = transforms.TRANSFORMS[transform]
        # Those of ipsec.conf have no counter mode (README).
        way = noise.choice(("conf", "xfrm"))
        if words is None or self.way == "xfrm":
            way = "xfrm"
        elif transform == "ipip":
            way = "conf"
        self.spi += noise.randrange(1, 1000)
        if self.way == "xfrm" and noise.random() < 0.1:
            more["packet_limit"] = noise.choice((3, 10, 30))
        self.made += 1
        self.sas.append(SA(f"{direction}-{self.made}", direction, source, destination, self.spi, transform,
                           noise.randbytes(encryption).hex(), noise.randbytes(integrity).hex(), way,
                           esn=esn and way == "xfrm", window=64 if way == "conf" or esn else 32,
                           reqid=self.reqid if self.way == "xfrm" else 0, **more))

    def _lone_policy(self):
        """A policy without SAs: it lets pass, forbids, or wants what nobody has made."""
        noise = self.noise
        version = noise.choice(self.versions)
        near, far = self._near(version), self._far(version)
        types = list(TYPE_WEIGHTS) if self.way == "conf" else ["require", "bypass", "deny"]
        type_ = noise.choices(types, [TYPE_WEIGHTS[name] for name in types])[0]
        peer, local = address("wan", version, 0x20 + noise.randrange(8)), address("wan", version, 1)
        self.reqid += 1
        direction = noise.choice(("out", "in"))
        ends = (near, far) if direction == "out" else (far, near)
        more = {}
        if self.way == "xfrm" and noise.random() < 0.3:
            more = noise.choice(({"interface": 7}, {"mark": 9}))
        self._policy(direction, type_, *ends, self._ports(), peer, local, **more)

    def _marker_policies(self):
        """Markers pass in clear: from the LAN, and from the gateway on each port."""
        pairs = {(address("lan", 4, MARKER_SOURCE), address("wan", 4, MARKER))}
        pairs |= {(address(name, 4, 1), address(name, 4, MARKER)) for name in self.names}
        for source, destination in sorted(pairs):
            for direction in ("out", "in"):
                self.policies.append(Policy(direction, "bypass", f"{source}/32", f"{destination}/32", MARKER_PROTOCOL,
                                            way=self.way, priority=len(self.policies) + 1))
