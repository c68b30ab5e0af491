"""The networks that the gateways are put into. Addresses are those of the example this project grew from."""

import atexit
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from .echo import ping
from .gateway import Gateway, Port, StaticSA
from .namespace import CommandFailed, Namespace, remove_namespace, run, stop_process, veth, wait_for

LAN1, LAN2 = "192.168.60.0/24", "172.20.1.0/24"
HOST1, HOST2 = "192.168.60.10", "172.20.1.10"
GW1_LAN, GW2_LAN = "192.168.60.1", "172.20.1.1"
GW1, GW2 = "202.245.63.218", "200.69.110.71"
ROUTER1, ROUTER2 = "202.245.63.1", "200.69.110.1"
# With ipv6=True: the same places in IPv6.
LAN1_V6, LAN2_V6 = "2001:db8:60::/64", "2001:db8:20::/64"
HOST1_V6, HOST2_V6 = "2001:db8:60::10", "2001:db8:20::10"
GW1_LAN_V6, GW2_LAN_V6 = "2001:db8:60::1", "2001:db8:20::1"
GW1_V6, GW2_V6 = "2001:db8:1::218", "2001:db8:2::71"
ROUTER1_V6, ROUTER2_V6 = "2001:db8:1::1", "2001:db8:2::1"
SPI_1TO2, SPI_2TO1 = 0xAF79DEF1, 0x2D2148AB


def worker_cores():
    """One core a gateway; the first is left to everything else where there are enough."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[1], cores[2]) if len(cores) > 2 else (cores[0], cores[-1])


def remove_stale():
    """Deletes what runs of these tests that were killed have left: namespaces named after a process that is gone."""
    for name in run("ip", "netns", "list").stdout.split():
        named = re.fullmatch(r"gwt(\d+)-\w+", name)
        if named and not os.path.exists(f"/proc/{named[1]}"):
            remove_namespace(name)


class Lab:
    """Namespaces, gateways and a folder of their own. A context: nothing is left behind when it is left."""

    def __init__(self, prefix=None, folder=None, keep_folder=False):
        self.prefix = prefix or f"gwt{os.getpid()}-"
        self.keep_folder = keep_folder
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="gw-lab-"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.spaces = {}
        self.gateways = {}
        # However the program ends, short of kill -9.
        atexit.register(self.close)

    def space(self, name, **options):
        self.spaces[name] = Namespace(self.prefix + name, **options)
        return self.spaces[name]

    def gateway(self, name, space, ports, **options):
        self.gateways[name] = Gateway(name, space, self.folder / name, ports, **options)
        return self.gateways[name]

    def close(self):
        for gateway in self.gateways.values():
            if gateway.is_running:
                gateway.stop(grace=5)
        for space in self.spaces.values():
            space.delete()
        self.gateways.clear()
        self.spaces.clear()
        atexit.unregister(self.close)
        if not self.keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self, lines=20):
        return "\n".join(gateway.log_tail(lines) for gateway in self.gateways.values())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class TwoGateways(Lab):
    """
          lan1                 gw1                      inet                       gw2                 lan2
     +-------------+   +----------------+   +--------------------------+   +-----------------+   +-------------+
     | eth0        |   | p-lan    p-wan |   | to-gw1            to-gw2 |   | p-wan     p-lan |   |        eth0 |
     | 192.168.60  |===| [lan]    [wan] |===| 202.245.63.1             |===| [wan]     [lan] |===| 172.20.1.10 |
     |         .10 |   |     gwd        |   |             200.69.110.1 |   |       gwd       |   |             |
     +-------------+   +----------------+   +--------------------------+   +-----------------+   +-------------+
                        192.168.60.1/24      forwards between the two,      200.69.110.71/24
                        202.245.63.218/24    knows neither LAN              172.20.1.1/24

    === are veth pairs. p-lan and p-wan are the frames' way into a net_af_packet port, closed to the kernel of the
    gateway's namespace; [lan] and [wan] are the TAPs that gwd makes, on which that kernel has its addresses.
    """

    def __init__(self, settings=None, wan_mtu=1500, host=True, ipv6=False, **options):
        super().__init__(**options)
        try:
            self._cable(wan_mtu, ipv6)
            first, second = worker_cores()
            self.gw1 = self._gateway("gw1", GW1, GW1_LAN, "200.69.110.0/24", ROUTER1, first, settings, wan_mtu, host)
            self.gw2 = self._gateway("gw2", GW2, GW2_LAN, "202.245.63.0/24", ROUTER2, second, settings, wan_mtu, host)
            if ipv6:
                self._ipv6(self.gw1, GW1_V6, GW1_LAN_V6, "2001:db8:2::/64", LAN2_V6, ROUTER1_V6)
                self._ipv6(self.gw2, GW2_V6, GW2_LAN_V6, "2001:db8:1::/64", LAN1_V6, ROUTER2_V6)
            self.sa = StaticSA(GW1, GW2, SPI_1TO2, SPI_2TO1)
        except BaseException:
            self.close()
            raise

    def _cable(self, wan_mtu, ipv6):
        self.lan1, self.lan2 = self.space("lan1", ipv6=ipv6), self.space("lan2", ipv6=ipv6)
        gw1, gw2 = self.space("gw1", ipv6=ipv6), self.space("gw2", ipv6=ipv6)
        self.inet = self.space("inet", forwarding=True, ipv6=ipv6)
        veth(self.lan1, "eth0", gw1, "p-lan")
        veth(self.inet, "to-gw1", gw1, "p-wan", mtu=wan_mtu)
        veth(self.inet, "to-gw2", gw2, "p-wan", mtu=wan_mtu)
        veth(self.lan2, "eth0", gw2, "p-lan")
        for gateway in (gw1, gw2):
            gateway.isolate("p-lan")
            gateway.isolate("p-wan")
        self.lan1.address("eth0", f"{HOST1}/24")
        self.lan1.route("default", GW1_LAN)
        self.lan2.address("eth0", f"{HOST2}/24")
        self.lan2.route("default", GW2_LAN)
        self.inet.address("to-gw1", f"{ROUTER1}/24")
        self.inet.address("to-gw2", f"{ROUTER2}/24")
        if ipv6:
            self.lan1.address("eth0", f"{HOST1_V6}/64")
            self.lan1.route("default", GW1_LAN_V6)
            self.lan2.address("eth0", f"{HOST2_V6}/64")
            self.lan2.route("default", GW2_LAN_V6)
            self.inet.address("to-gw1", f"{ROUTER1_V6}/64")
            self.inet.address("to-gw2", f"{ROUTER2_V6}/64")

    @staticmethod
    def _ipv6(gateway, wan, lan, far, far_lan, router):
        gateway.ports[0].addresses.append(f"{wan}/64")
        gateway.ports[1].addresses.append(f"{lan}/64")
        gateway.routes += [(far, router), (far_lan, router)]

    def _gateway(self, name, wan, lan, far, router, core, settings, wan_mtu, host):
        ports = [Port("wan", "net_af_xdp0,iface=p-wan,busy_budget=0", [f"{wan}/24"], host=host, mtu=wan_mtu),
                 Port("lan", "net_af_xdp1,iface=p-lan,busy_budget=0", [f"{lan}/24"], host=host)]
        return self.gateway(name, self.spaces[name], ports, workers=[core], settings=settings,
                            routes=[(far, router), (LAN2 if name == "gw1" else LAN1, router)])

    def flows(self):
        """The flow rules of both sides: what the example's SPD holds, gateways' own addresses included."""
        one = f"flow esp from {{ {LAN1}, {GW1} }} to {{ {LAN2}, {GW2} }} peer {GW2}\n"
        two = f"flow esp from {{ {LAN2}, {GW2} }} to {{ {LAN1}, {GW1} }} peer {GW1}\n"
        return one, two

    def start_static(self):
        """Both gateways up, with static keys made a moment ago."""
        one, two = self.flows()
        self.gw1.write_ipsec([one], [self.sa])
        self.gw2.write_ipsec([two], [self.sa.reversed()])
        self.gw1.start(wait=False)
        self.gw2.start(wait=False)
        self.gw1.wait_ready()
        self.gw2.wait_ready()

    def meter(self):
        """Counts on the wire, in the kernel of the internet namespace, apart from anything gwd says."""
        self.inet.run("nft", "-f", "-", stdin=f"""
            table ip wire {{
              counter esp_1to2 {{ }}
              counter esp_2to1 {{ }}
              counter inner {{ }}
              counter other {{ }}
              chain prerouting {{
                type filter hook prerouting priority raw;
                ip protocol esp ip saddr {GW1} ip daddr {GW2} counter name esp_1to2 accept
                ip protocol esp ip saddr {GW2} ip daddr {GW1} counter name esp_2to1 accept
                ip saddr {{ {LAN1}, {LAN2} }} counter name inner
                ip saddr != {{ {LAN1}, {LAN2} }} ip daddr {{ {LAN1}, {LAN2} }} counter name inner
                counter name other
              }}
            }}
            table ip6 wire {{
              counter esp_1to2 {{ }}
              counter esp_2to1 {{ }}
              counter inner {{ }}
              chain prerouting {{
                type filter hook prerouting priority raw;
                ip6 nexthdr esp ip6 saddr {GW1_V6} ip6 daddr {GW2_V6} counter name esp_1to2 accept
                ip6 nexthdr esp ip6 saddr {GW2_V6} ip6 daddr {GW1_V6} counter name esp_2to1 accept
                ip6 saddr {{ {LAN1_V6}, {LAN2_V6} }} counter name inner
                ip6 saddr != {{ {LAN1_V6}, {LAN2_V6} }} ip6 daddr {{ {LAN1_V6}, {LAN2_V6} }} counter name inner
              }}
            }}
            """)

    def metered(self, family="ip"):
        """What meter() has counted: packets by name."""
        listing = json.loads(self.inet.run("nft", "-j", "list", "counters", "table", family, "wire").stdout)
        return {item["counter"]["name"]: item["counter"]["packets"] for item in listing["nftables"] if "counter" in item}


def iperf3(client, server, address, *options, seconds=10):
    """One iperf3 TCP run between two namespaces; iperf3's JSON report."""
    listener = server.popen("iperf3", "-s", "-1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: ":5201 " in server.run("ss", "-Hltn").stdout, 5, "iperf3 -s listening")
        done = client.run("iperf3", "-c", address, "-t", seconds, "-J", "--connect-timeout", "5000", *options,
                          check=False, timeout=seconds + 30)
        report = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}
        if done.returncode != 0 or "error" in report:
            raise CommandFailed(f"iperf3 to {address}: {report.get('error', done.stderr)}")
        return report
    finally:
        stop_process(listener)
