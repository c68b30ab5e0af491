"""One gwd in a namespace: its gateway.yaml and ipsec.conf, its start, readiness, counters and end."""

import dataclasses
import json
import os
import pathlib
import secrets
import signal
import subprocess
import time

from .namespace import CommandFailed, run, stop_process, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]


def program(name):
    """Path of gwd or gwctl: from $GW_BIN_DIR, else the release build of this checkout."""
    folder = os.environ.get("GW_BIN_DIR")
    path = pathlib.Path(folder).resolve() / name if folder else ROOT / ".build" / "release" / name
    if not os.access(path, os.X_OK):
        raise CommandFailed(f"{path} is not there: build it (swift build -c release --product {name}) or set GW_BIN_DIR")
    return str(path)


@dataclasses.dataclass
class Port:
    name: str
    device: str
    addresses: list
    host: bool = True
    mtu: int = 1500

    def yaml(self):
        return [f"  - name: {self.name}",
                f'    device: "{self.device}"',
                f"    host: {str(self.host).lower()}",
                f"    addresses: [{', '.join(json.dumps(address) for address in self.addresses)}]",
                f"    mtu: {self.mtu}"]


@dataclasses.dataclass
class StaticSA:
    """An `esp` rule with static keys and its mirror: one SA a direction, the first leaving `source`."""

    source: str
    destination: str
    spi_out: int
    spi_in: int
    key_bytes: int = 16
    mode: str = "tunnel"

    def __post_init__(self):
        self.authkey_out, self.authkey_in = secrets.token_bytes(32), secrets.token_bytes(32)
        self.enckey_out, self.enckey_in = secrets.token_bytes(self.key_bytes), secrets.token_bytes(self.key_bytes)

    def reversed(self):
        """The same two SAs seen from the other gateway."""
        other = dataclasses.replace(self, source=self.destination, destination=self.source, spi_out=self.spi_in,
                                    spi_in=self.spi_out)
        other.authkey_out, other.authkey_in = self.authkey_in, self.authkey_out
        other.enckey_out, other.enckey_in = self.enckey_in, self.enckey_out
        return other

    def rule(self, folder):
        """The rule, its keys in files of mode 0600 beside it."""
        names = {}
        for key in ("authkey_out", "authkey_in", "enckey_out", "enckey_in"):
            names[key] = folder / f"{self.spi_out:08x}.{key.replace('_', '.')}"
            write_private(names[key], getattr(self, key).hex())
        return (f"esp {self.mode} from {self.source} to {self.destination} "
                f"spi 0x{self.spi_out:08x}:0x{self.spi_in:08x} \\\n"
                f"\tauth hmac-sha2-256 enc aes-{self.key_bytes * 8} \\\n"
                f"\tauthkey file \"{names['authkey_out']}:{names['authkey_in']}\" \\\n"
                f"\tenckey file \"{names['enckey_out']}:{names['enckey_in']}\"\n")


def write_private(path, text):
    path = pathlib.Path(path)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)


class Gateway:
    """A gwd process with a folder of its own: gateway.yaml, ipsec.conf, keys/, run/, gwd.log."""

    def __init__(self, name, space, folder, ports, routes=(), neighbors=(), workers=(0,), settings=None):
        self.name = name
        self.space = space
        self.ports = list(ports)
        self.routes = list(routes)
        self.neighbors = list(neighbors)
        self.workers = list(workers)
        self.settings = settings or {}
        self.folder = pathlib.Path(folder)
        self.run_dir = self.folder / "run"
        self.keys = self.folder / "keys"
        self.config = self.folder / "gateway.yaml"
        self.ipsec = self.folder / "ipsec.conf"
        self.log = self.folder / "gwd.log"
        self.process = None
        # Shell commands in the mount namespace that gwd has to itself, before it starts.
        self.prelude = ""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keys.mkdir(mode=0o700, exist_ok=True)
        write_private(self.ipsec, "")

    # Configuration

    def write_config(self):
        lines = ['eal: ["--no-pci"]', "hugepages: false", f"workers: {self.workers}",
                 f"state-dir: {self.folder}/state"]
        settings = {"idle": "sleep",
                    "ike": f'{{daemon: charon, vici: "{self.folder}/charon/vici.sock", '
                           f'credentials: "{self.folder}/ike"}}', **self.settings}
        # FOLDER in a setting is the gateway's own.
        lines += [f"{key}: {value}".replace("FOLDER", str(self.folder)) for key, value in settings.items()]
        lines += ["ports:"]
        for port in self.ports:
            lines += port.yaml()
        if self.routes:
            lines += ["routes:"] + [f'  - {{to: "{to}", via: "{via}"}}' for to, via in self.routes]
        if self.neighbors:
            lines += ["neighbors:"]
            lines += [f'  - {{port: {port}, address: "{address}", mac: "{mac}"}}' for port, address, mac in self.neighbors]
        lines += [f"ipsec: {self.ipsec}"]
        self.config.write_text("\n".join(lines) + "\n", encoding="ascii")

    def write_ipsec(self, flows, associations=()):
        """ipsec.conf out of flow rules (text) and StaticSAs."""
        rules = [sa.rule(self.keys) for sa in associations]
        write_private(self.ipsec, "\n".join(list(flows) + rules))

    # The process

    def start(self, wait=True):
        self.write_config()
        prelude = ["sh", "-ec", f'{self.prelude}\nexec "$@"', "sh"] if self.prelude else []
        with open(self.log, "ab") as log:
            self.process = self.space.popen(*prelude, program("gwd"), "--config", self.config, "--run-dir",
                                            self.run_dir, stdout=log, stderr=subprocess.STDOUT)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=30):
        deadline = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise CommandFailed(f"{self.name}: gwd ended with exit {self.process.returncode}\n{self.log_tail()}")
            if (self.run_dir / "gwctl.sock").exists() and self.gwctl("status", check=False).returncode == 0:
                return
            if time.monotonic() > deadline:
                raise CommandFailed(f"{self.name}: gwd is not ready after {timeout} s\n{self.log_tail()}")
            time.sleep(0.1)

    @property
    def pid(self):
        return self.process.pid

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, grace=15):
        """TERM and wait; returns the exit status."""
        return stop_process(self.process, grace)

    def kill(self):
        """kill -9: the gateway has no chance to clean up."""
        self.process.kill()
        self.process.wait()

    def hang_up(self):
        os.kill(self.pid, signal.SIGHUP)

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise CommandFailed(f"{self.name}: no VmRSS in /proc/{self.pid}/status")

    def log_text(self):
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=20):
        """The end of the log; of a crash, where it was."""
        said = self.log_text().splitlines()
        crash = next((i for i, line in enumerate(said) if "rogram crashed" in line or "Fatal error" in line), None)
        shown = said[-lines:] if crash is None else said[max(crash - 3, 0):crash + 80]
        return "\n".join(f"  {self.name}| {line}" for line in shown)

    # gwctl

    def gwctl(self, *arguments, check=True, timeout=20):
        return run(program("gwctl"), "--run-dir", self.run_dir, *arguments, check=check, timeout=timeout)

    def show(self, what, *arguments):
        """`gwctl show WHAT --json` as a Python value."""
        return json.loads(self.gwctl("show", what, "--json", *arguments).stdout)

    def show_status(self):
        return json.loads(self.gwctl("status", "--json").stdout)

    def sa(self, spi):
        """The SA of this SPI as JSON has it, None where there is none."""
        return next((sa for sa in self.associations() if sa["spi"] == spi), None)

    def associations(self):
        return rows(self.show("sa"))

    def input_packets(self, spi):
        return self.sa(spi)["counters"]["input_packets"]

    def output_packets(self, spi):
        return self.sa(spi)["counters"]["output_packets"]

    def drops(self):
        """Dropped packets by reason, zeros left out."""
        counts = {}
        for row in rows(self.show("drops")):
            if row["packets"]:
                counts[row["reason"]] = counts.get(row["reason"], 0) + row["packets"]
        return counts

    def wait_counter(self, function, expected, timeout=5):
        """Waits until a counter reaches a value: workers publish theirs with a small delay."""
        wait_for(lambda: function() >= expected, timeout, f"{self.name}: a counter reaching {expected}")
        return function()


def rows(value):
    """The list in an answer of gwctl: itself, or the one list that its object holds."""
    if isinstance(value, list):
        return value
    lists = [item for item in value.values() if isinstance(item, list)]
    return lists[0] if lists else []
