"""One gwd under test: its ports are memif's, its TAPs lie in this process's network namespace, one worker polls.

Frames are exchanged in lockstep: a burst goes in at one port, then a marker, a packet that a policy of the most
specific kind lets pass in clear, and when that is out, another. The first may share its round with the burst and leave
before what becomes of it; when the second has come out, all of the burst has, as one worker runs each round to its end.
What the host sends is followed by a marker of the host's. What is for the host comes by a thread of its own, later.
"""

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import wire
from keysocket import KeySocket
from memif import Memif
from world import MARKER_PROTOCOL

CLONE_NEWNET = 0x40000000
PACKET_OUTGOING = 4
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


# What a client is told where gwd does not answer, or is gone.
SILENCE = (OSError, BufferError, http.client.HTTPException)


class GatewayFailure(Exception):
    """gwd ended, did not start, lost a marker, or takes too long."""


@contextlib.contextmanager
def time_limit(seconds):
    """Whatever is waited for inside, it ends: by a GatewayFailure."""
    def expire(*_):
        raise GatewayFailure(f"more than {seconds} s")
    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def end_with_parent():
    """No gwd outlives the process that started it, however that ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter_own_namespace():
    """A network namespace for this process, whose kernel says nothing by itself: raw sockets on the TAPs are the
    host."""
    if LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    rules = "".join(f"""
        table {family} model {{
          chain input {{ type filter hook input priority 0; policy drop; }}
          chain output {{ type filter hook output priority 0; policy drop; }}
        }}""" for family in ("inet", "arp"))
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=30)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)
    for key in ("default/accept_dad", "default/router_solicitations"):
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/sys/net/ipv6/conf/{key}").write_text("0", encoding="ascii")


def is_marker(frame):
    """Whether a frame is a marker: one of the start may wait for its next hop's address, and come later."""
    return frame[12:14] == b"\x08\x00" and frame[23:24] == bytes((MARKER_PROTOCOL,))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("gw", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Bench:
    """A context: gwd runs a world inside it."""

    def __init__(self, world, program, core):
        self.world, self.program, self.core = world, program, core
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gw-model-"))
        self.run_dir = self.folder / "run"
        self.log = self.folder / "gwd.log"
        self.links, self.taps, self.process, self.keys, self.api = {}, {}, None, None, None
        self.markers = 0

    def __enter__(self):
        try:
            self._start()
        except (GatewayFailure, *SILENCE) as failure:
            said = self.log_tail()
            self.close()
            raise GatewayFailure(f"{type(failure).__name__}: {failure}\n{said}") from failure
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self):
        (self.folder / "gateway.yaml").write_text(self.world.gateway_yaml(self.folder, [self.core]), encoding="ascii")
        self._write_rules(self.world)
        self.links = {port.name: Memif(self.folder / f"{port.name}.sock") for port in self.world.ports}
        with open(self.log, "ab") as log:
            command = [self.program, "--config", self.folder / "gateway.yaml", "--run-dir", self.run_dir]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            preexec_fn=end_with_parent)
        self._wait(lambda: self._select_listener(next(iter(self.links.values()))), 20, "gwd's ports")
        for link in self.links.values():
            link.connect(10)
        self._wait((self.run_dir / "gwctl.sock").exists, 20, "gwd's control socket")
        self.api = UnixConnection(self.run_dir / "gwctl.sock")
        self.keys = KeySocket(self)
        self.keys.load(self.world)
        self.taps = {port.name: self._packet_socket(port.name) for port in self.world.ports if port.host}
        self._wait(self._is_forwarding, 10, "a marker coming through")
        self.settle()

    def _write_rules(self, world):
        path = self.folder / "ipsec.conf"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(world.ipsec_conf())

    @staticmethod
    def _select_listener(link):
        return select.select([link.listener], [], [], 0.05)[0]

    @staticmethod
    def _packet_socket(interface):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        raw.bind((interface, 0))
        raw.setblocking(False)
        return raw

    def _wait(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if self.process.poll() is not None:
                raise GatewayFailure(f"gwd ended with {self.process.returncode}")
            if time.monotonic() > deadline:
                raise GatewayFailure(f"{what}: not there after {timeout} s")
            time.sleep(0.0005)
        return value

    def log_tail(self, lines=25):
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        crash = next((i for i, line in enumerate(said) if "rogram crashed" in line or "Fatal error" in line), None)
        return "\n".join(said[-lines:] if crash is None else said[max(crash - 3, 0):crash + 40])

    def stop(self):
        """TERM; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self._kill()
            return "killed: it did not stop in 20 s"

    def _kill(self):
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)

    def close(self):
        if self.process and self.process.poll() is None:
            self._kill()
        for opened in (*self.taps.values(), *self.links.values(), *filter(None, (self.keys, self.api))):
            opened.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The exchange

    def exchange(self, port, frames):
        """Sends a burst into a port; returns {port: frames} of all that came out until it was done."""
        link = self.links[port]
        link.send(frames)
        self._spin(link.is_taken, "gwd taking a burst")
        return self.settle()

    def exchange_host(self, port, frames):
        """The same from the host, by a TAP."""
        for frame in frames:
            self.taps[port].send(frame)
        marker = self._marker(port)
        self.taps[port].send(marker)
        out = {name: [] for name in self.links}
        self._collect(marker[14:], out)
        for name, frames in self.settle().items():
            out[name] += frames
        return out

    def _marker(self, host=None):
        """A frame that passes in clear whatever the policies are: a world's bypass, the most specific of all."""
        self.markers += 1
        return self.world.marker(self.markers, host)

    def _collect(self, packet, out):
        """Adds to `out` what comes, until this packet does."""
        def is_done():
            done = False
            for name, link in self.links.items():
                for frame in link.receive():
                    if frame[14:] == packet:
                        done = True
                    elif not is_marker(frame):
                        out[name].append(frame)
            return done
        self._spin(is_done, "a marker coming through")

    def _spin(self, condition, what, timeout=3):
        """Waits by looking, as what is waited for takes a tenth of a millisecond."""
        for _ in range(2000):
            if condition():
                return
        self._wait(condition, timeout, what)

    def _is_forwarding(self):
        """The first markers may find no buffer, or be lost, while the ports come up."""
        with contextlib.suppress(BufferError):
            self.links[self.world.marker_port].send([self._marker()])
        time.sleep(0.01)
        return any(link.receive() for link in self.links.values())

    def settle(self):
        """Takes what still comes out: {port: frames}."""
        out = {name: [] for name in self.links}
        for _ in range(2):
            marker = self._marker()
            self.links[self.world.marker_port].send([marker])
            self._collect(wire.aged(marker[14:]), out)
        return out

    def delivered(self, expected=0, timeout=1):
        """{port: frames} that the host got; waits until there are as many as expected."""
        got = {name: [] for name in self.taps}
        deadline = time.monotonic() + timeout
        while True:
            for name, tap in self.taps.items():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        frame, address = tap.recvfrom(65536)
                        if address[2] != PACKET_OUTGOING:
                            got[name].append(frame)
            if sum(map(len, got.values())) >= expected or time.monotonic() > deadline:
                return got
            select.select(list(self.taps.values()), [], [], 0.01)

    # What gwd says

    def get(self, path):
        self.api.request("GET", path)
        return json.loads(self.api.getresponse().read())

    def drops(self):
        """Dropped packets by reason, zeros left out."""
        counts = {}
        for row in self.get("/v1/drops"):
            if row["packets"]:
                counts[row["reason"]] = counts.get(row["reason"], 0) + row["packets"]
        return counts

    def associations(self):
        """Counters by SPI."""
        listed = self.get("/v1/sa")
        rows = listed if isinstance(listed, list) else next(item for item in listed.values() if isinstance(item, list))
        return {row["spi"]: row for row in rows}

    def load(self, world):
        """Another world's rules on the same ports: ipsec.conf as one change, what the key socket brought by its
        differences."""
        self._write_rules(world)
        self.api.request("POST", "/v1/reload", body=b"")
        answer = self.api.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise GatewayFailure(f"reload: {answer.status} {said[:300]!r}")
        self.keys.change(self.world, world)
        self.world = world
