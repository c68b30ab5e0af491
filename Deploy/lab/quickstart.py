"""Deploy/quickstart after the build: lay the cables, start, show, clean up."""

import argparse
import atexit
import fcntl
import pathlib
import shutil
import signal
import subprocess
import sys

from .capture import Capture, tshark
from .gateway import program
from .namespace import CommandFailed, remove_namespace, run
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
    def __init__(self, options):
        self.seconds = options.seconds
        self.lab = None

    def run(self):
        heading("Cables and namespaces")
        self.lab = TwoGateways(prefix=PREFIX, folder=FOLDER / "lab")
        self.lab.meter()
        say(f"lan1 {HOST1} -- gw1 {GW1} == internet == {GW2} gw2 -- {HOST2} lan2")

        heading("Two gateways, static keys made just now (AES-CBC-128 with HMAC-SHA2-256)")
        self.lab.start_static()
        for gateway in (self.lab.gw1, self.lab.gw2):
            say(f"{gateway.name}: gwd, process {gateway.pid}, worker on core {gateway.workers[0]}")

        with self.strangers("to-gw1"), self.strangers("to-gw2"):
            self.pings()
            self.transfers()
        self.wire()
        self.databases()
        self.summary()

    def strangers(self, interface):
        """Keeps, from here to the end, whatever on the wire is neither ESP nor ARP."""
        return Capture(self.lab.inet, interface, self.lab.folder / f"strangers-{interface}.pcap",
                       "not ip proto 50 and not arp")

    def pings(self):
        heading("Pings between the LANs, and what the wire shows meanwhile")
        path = self.lab.folder / "wire.pcap"
        with Capture(self.lab.inet, "to-gw1", path):
            self.answered = 0
            for space, address in ((self.lab.lan1, HOST2), (self.lab.lan2, HOST1)):
                sent, answered = ping(space, address, "-p", PATTERN.hex(), count=20, interval=0.1)
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
            report = iperf3(self.lab.lan1, self.lab.lan2, HOST2, *options, seconds=self.seconds)
            received = report["end"]["sum_received"]
            say(f"{arrow}: {received['bytes'] / 1e6:,.0f} MB, {received['bits_per_second'] / 1e6:,.0f} Mbit/s")
            if received["bytes"] == 0:
                raise Failed(f"iperf3 moved no data {arrow}")

    def wire(self):
        heading("The wire, over the whole run")
        self.counted = self.lab.metered()
        say(f"ESP gw1 -> gw2: {self.counted['esp_1to2']:,} packets; gw2 -> gw1: {self.counted['esp_2to1']:,}")
        strange = []
        for interface in ("to-gw1", "to-gw2"):
            strange += tshark(self.lab.folder / f"strangers-{interface}.pcap").splitlines()
        say(f"neither ESP nor ARP: {len(strange)} packets; with an address of {LAN1} or {LAN2}: {self.counted['inner']}")
        if strange or self.counted["inner"]:
            raise Failed("\n".join(["packets that are neither ESP nor ARP crossed the wire:"] + strange[:10]))

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
   configuration and logs: {self.lab.gw1.folder}, {self.lab.gw2.folder}
To end it: Deploy/quickstart --stop""")


def main():
    parser = argparse.ArgumentParser(prog="quickstart")
    parser.add_argument("--keys", choices=["static"], default="static")
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
    quickstart = Quickstart(options)
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
