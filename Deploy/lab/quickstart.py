"""Deploy/quickstart after the build: lay the cables, start, show, clean up."""

import argparse
import atexit
import fcntl
import json
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import threading

from .capture import Capture, count_packets, tshark
from .charon import Charon
from .gateway import program
from .namespace import CommandFailed, remove_namespace, run, wait_for
from .topology import GW1, GW2, HOST1, HOST2, LAN1, LAN2, TwoGateways, iperf3, ping

PREFIX = "gwq-"
SPACES = ("lan1", "gw1", "inet", "gw2", "lan2")
FOLDER = pathlib.Path("/run/gw-quickstart")
KEPT = FOLDER / "kept"
PATTERN = b"inside!!"


class Failed(Exception):
    """Something that the newcomer was promised did not come true."""


def heading(text):
    print(f"\n== {text} ==", flush=True)


def say(text):
    print(f"   {text}", flush=True)


def remains():
    listed = run("ip", "netns", "list").stdout.split()
    return [name for name in SPACES if PREFIX + name in listed]


def clear():
    for name in SPACES:
        remove_namespace(PREFIX + name)
    shutil.rmtree(FOLDER, ignore_errors=True)


def stop():
    if not remains() and not FOLDER.exists():
        print("Nothing of a quickstart is running.")
        return
    clear()
    print("Stopped; nothing is left.")


class Quickstart:
    """Static keys; IKEQuickstart says what differs where charon makes them."""

    allowed, strange_filter = "ESP nor ARP", "not ip proto 50 and not arp"

    def __init__(self, options):
        self.seconds = options.seconds
        self.lab = None

    def run(self):
        heading("Cables and namespaces")
        self.lab = TwoGateways(prefix=PREFIX, folder=FOLDER / "lab")
        self.lab.meter()
        say(f"lan1 {HOST1} -- gw1 {GW1} == internet == {GW2} gw2 -- {HOST2} lan2")

        with self.strangers("to-gw1"), self.strangers("to-gw2"):
            self.start()
            self.pings()
            self.transfers()
        self.wire()
        self.databases()
        self.summary()

    def start(self):
        heading("Two gateways, static keys made just now (AES-CBC-128 with HMAC-SHA2-256)")
        self.lab.start_static()
        self.introduce()

    def introduce(self):
        for gateway in (self.lab.gw1, self.lab.gw2):
            say(f"{gateway.name}: gwd, process {gateway.pid}, worker on core {gateway.workers[0]}")

    def strangers(self, interface):
        """Keeps, from here to the end, whatever on the wire should not be there."""
        return Capture(self.lab.inet, interface, self.lab.folder / f"strangers-{interface}.pcap", self.strange_filter)

    def pings(self):
        heading("Pings between the LANs, and what the wire shows meanwhile")
        path = self.lab.folder / "wire.pcap"
        with Capture(self.lab.inet, "to-gw1", path):
            self.answered = 0
            for space, address in ((self.lab.lan1, HOST2), (self.lab.lan2, HOST1)):
                sent, answered = ping(space, address, count=20, interval=0.1, pattern=PATTERN)
                say(f"{space.name.removeprefix(PREFIX)} -> {address}: {sent} sent, {answered} answered")
                if sent != answered:
                    raise Failed(f"{sent - answered} of {sent} pings to {address} were not answered")
                self.answered += answered
        for line in tshark(path, "-c", "8").splitlines():
            say(line.strip())
        if PATTERN in path.read_bytes():
            raise Failed("the wire capture holds the pings' payload in clear")

    def transfers(self):
        heading(f"iperf3 TCP, {self.seconds} s each way")
        for options, arrow in (((), "lan1 -> lan2"), (("-R",), "lan2 -> lan1")):
            self.transfer(options, arrow)

    def transfer(self, options, arrow):
        report = iperf3(self.lab.lan1, self.lab.lan2, HOST2, *options, seconds=self.seconds)
        received = report["end"]["sum_received"]
        say(f"{arrow}: {received['bytes'] / 1e6:,.0f} MB, {received['bits_per_second'] / 1e6:,.0f} Mbit/s")
        if received["bytes"] == 0:
            raise Failed(f"iperf3 moved no data {arrow}")
        return report

    def wire(self):
        heading("The wire, over the whole run")
        self.counted = self.lab.metered()
        say(f"ESP gw1 -> gw2: {self.counted['esp_1to2']:,} packets; gw2 -> gw1: {self.counted['esp_2to1']:,}")
        strange = []
        for interface in ("to-gw1", "to-gw2"):
            strange += tshark(self.lab.folder / f"strangers-{interface}.pcap").splitlines()
        say(f"neither {self.allowed}: {len(strange)} packets; with an address of"
            f" {LAN1} or {LAN2}: {self.counted['inner']}")
        if strange or self.counted["inner"]:
            raise Failed("\n".join([f"packets that are neither {self.allowed} crossed the wire:"] + strange[:10]))

    def databases(self):
        for gateway in (self.lab.gw1, self.lab.gw2):
            heading(f"{gateway.name}: gwctl show flow; gwctl show sa -v")
            print(gateway.gwctl("show", "flow").stdout, end="")
            print(gateway.gwctl("show", "sa", "-v").stdout, end="")

    def summary(self):
        heading("Do the counters agree?")
        for spi, sender, receiver, wire in ((self.lab.sa.spi_out, self.lab.gw1, self.lab.gw2, "esp_1to2"),
                                            (self.lab.sa.spi_in, self.lab.gw2, self.lab.gw1, "esp_2to1")):
            sent = sender.output_packets(spi)
            received = receiver.input_packets(spi)
            crossed = self.lab.metered()[wire]
            say(f"SPI 0x{spi:08x}: {sender.name} protected {sent:,}, the wire saw {crossed:,}, "
                f"{receiver.name} accepted {received:,}")
            # The wire may lose packets under load (a full packet socket); it never has more than were sent.
            if not received <= crossed <= sent or received < self.answered:
                raise Failed("the SA counters do not agree with what was sent")
        self.drops()

    def drops(self):
        for gateway in (self.lab.gw1, self.lab.gw2):
            drops = ", ".join(f"{reason} {count}" for reason, count in gateway.drops().items())
            say(f"{gateway.name} dropped: {drops or 'nothing'}")

    def explain(self):
        lan1, run1 = PREFIX + "lan1", self.lab.gw1.run_dir
        control = program("gwctl")
        print(f"""
It is still running. To play with it:
   ip netns exec {lan1} ping {HOST2}
   ip netns exec {lan1} traceroute -n {HOST2}
   ip netns exec {PREFIX}inet tcpdump -n -i to-gw1
   {control} --run-dir {run1} show sa -vv        (also: flow ports workers drops routes neighbors status)
   {control} --run-dir {self.lab.gw2.run_dir} show drops
   configuration and logs: {self.lab.gw1.folder}, {self.lab.gw2.folder}{self.more_to_play()}
To end it: Deploy/quickstart --stop""")

    def more_to_play(self):
        return ""


def eight_lines(local_gw, local_net, remote_gw, remote_net, key):
    """ipsec.conf of one side."""
    return f"""\
local_gw = "{local_gw}"
local_net = "{local_net}"
remote_gw = "{remote_gw}"
remote_net = "{remote_net}"
ike esp from {{ $local_net, $local_gw }} to {{ $remote_net, $remote_gw }} peer $remote_gw \\
\tmain auth hmac-sha2-256 enc aes-256 group ecp256 \\
\tquick enc aes-128-gcm group ecp256 \\
\tpsk "{key}"
"""


class IKEQuickstart(Quickstart):
    """Eight lines of ipsec.conf on each gateway; a charon beside it makes the keys, and new ones while iperf3 runs."""

    allowed = "ESP, ARP nor IKE (UDP 500, 4500)"
    strange_filter = "not ip proto 50 and not arp and not (udp and (port 500 or port 4500))"
    rule = f"from-{LAN1}-to-{LAN2}"

    def start(self):
        heading("Two gateways, each with eight lines of ipsec.conf and an IKE daemon (strongSwan's charon) beside it")
        one, two = self.lab.gw1, self.lab.gw2
        key = secrets.token_hex(16)
        one.write_ipsec([eight_lines(GW1, LAN1, GW2, LAN2, key)])
        two.write_ipsec([eight_lines(GW2, LAN2, GW1, LAN1, key)])
        for line in one.ipsec.read_text(encoding="ascii").replace(key, "...").splitlines():
            say(line.expandtabs(4))
        one.start(wait=False)
        two.start(wait=False)
        one.wait_ready()
        two.wait_ready()
        self.introduce()
        self.ike = Capture(self.lab.inet, "to-gw1", self.lab.folder / "ike.pcap", "udp and (port 500 or port 4500)")
        self.charons = [Charon(one).start(), Charon(two).start()]
        for charon in self.charons:
            say(f"{charon.gateway.name}: charon, process {charon.process.pid}, over {charon.gateway.run_dir}/xfrm.sock;"
                " gwd gives it the ike rules")
        wait_for(lambda: all(self.pair(gateway) for gateway in (one, two)), 60, "the tunnel")
        say("the tunnel is up: AES-GCM-128 with extended sequence numbers (ESN)")
        say(f"gw1: {self.spis()}")
        heading("gw1: gwctl ike report")
        print(one.gwctl("ike", "report").stdout, end="")

    def pair(self, gateway=None):
        """The SPIs of the rule between the LANs, as charon has them: out, in; None while there are none."""
        gateway = gateway or self.lab.gw1
        rule = self.rule if gateway is self.lab.gw1 else f"from-{LAN2}-to-{LAN1}"
        done = gateway.gwctl("ike", "report", "--json", check=False)
        found = [child for sa in (json.loads(done.stdout)["sas"] if done.returncode == 0 else [])
                 for child in sa["children"] if child["name"] == rule and child["state"] == "INSTALLED"]
        if not found:
            return None
        # The newest: its number is the highest.
        newest = max(found, key=lambda child: int(child["id"]))
        return int(newest["spi_out"], 16), int(newest["spi_in"], 16)

    def spis(self):
        out, back = self.pair()
        return f"SPI out 0x{out:08x}, in 0x{back:08x}"

    def transfer(self, options, arrow):
        """Half way through, the operator has the SAs replaced."""
        before, failures = self.pair(), []
        say(f"{arrow} begins: {self.spis()}")

        def rekey():
            try:
                self.lab.gw1.gwctl("ike", "rekey", self.rule)
                wait_for(lambda: not set(before) & set(self.pair() or before), 15, "the SAs are replaced")
            except (CommandFailed, OSError) as error:
                failures.append(error)
        timer = threading.Timer(self.seconds / 2, rekey)
        timer.start()
        try:
            report = super().transfer(options, arrow)
        finally:
            timer.join()
        if failures:
            raise failures[0]
        slowest = min(item["sum"]["bits_per_second"] for item in report["intervals"])
        say(f"gwctl ike rekey meanwhile: {self.spis()}; the slowest second had {slowest / 1e6:,.0f} Mbit/s")
        return report

    def wire(self):
        super().wire()
        self.ike.stop()
        say(f"IKE messages: {count_packets(self.ike.path)}; the first of them:")
        for line in tshark(self.ike.path, "-c", "4").splitlines():
            say(line.strip())

    def summary(self):
        """SAs that rekeying replaced are gone with their counters: the last pair is compared."""
        heading("Do the counters agree?")
        out, back = self.pair()
        for spi, sender, receiver in ((out, self.lab.gw1, self.lab.gw2), (back, self.lab.gw2, self.lab.gw1)):
            sent, received = sender.output_packets(spi), receiver.input_packets(spi)
            say(f"SPI 0x{spi:08x}: {sender.name} protected {sent:,}, {receiver.name} accepted {received:,}")
            if not 0 < received <= sent:
                raise Failed("the SA counters do not agree")
        self.drops()

    def databases(self):
        heading("gw1: gwctl show flow; gwctl show sa; gwctl ike status")
        for words in (("show", "flow"), ("show", "sa"), ("ike", "status")):
            print(self.lab.gw1.gwctl(*words).stdout, end="")

    def more_to_play(self):
        charon, run1 = self.charons[0], self.lab.gw1.run_dir
        return (f"\n   {program('gwctl')} --run-dir {run1} ike report        (also: ike rekey, teardown, connect {self.rule})"
                f"\n   STRONGSWAN_CONF={charon.settings} swanctl --list-sas --uri unix://{charon.vici}")


def main():
    parser = argparse.ArgumentParser(prog="quickstart")
    parser.add_argument("--keys", choices=["static", "ike"], default="ike")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    if options.stop:
        stop()
        return 0
    with open("/run/lock/gw-quickstart.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("quickstart: another one is running on this machine", file=sys.stderr)
            return 1
        return start(options)


def start(options):
    if KEPT.exists() and remains():
        print("quickstart: one is still running (--keep); end it with Deploy/quickstart --stop", file=sys.stderr)
        return 1
    clear()
    FOLDER.mkdir(mode=0o700)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    quickstart = (IKEQuickstart if options.keys == "ike" else Quickstart)(options)
    done = False
    try:
        quickstart.run()
        done = True
    except (Failed, CommandFailed, OSError, subprocess.SubprocessError) as error:
        print(f"\nquickstart: FAILED: {error}", file=sys.stderr)
        if quickstart.lab and "gw1|" not in str(error):
            print(quickstart.lab.logs(), file=sys.stderr)
    except KeyboardInterrupt:
        print("\nquickstart: interrupted", file=sys.stderr)
    finally:
        if done and options.keep:
            atexit.unregister(quickstart.lab.close)
            KEPT.touch()
            quickstart.explain()
        else:
            clear()
    if done and not options.keep:
        print("\nEverything worked, and everything is cleaned up.")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
