"""A gateway that is told to stop while clients connect, ask and listen, key sockets are spoken to and packets flow: it
ends with status 0, what it has to keep is on disk, and its log ends with its last word. Hundreds of times."""

import concurrent.futures
import os
import pathlib
import random
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from lab.gateway import program
from lab.namespace import Namespace, stop_process, wait_for
from support import EndToEndTest

STOPS = 2000 if os.environ.get("GW_LONG") else 500
SIDE_BY_SIDE = 4
CONFIGURATION = """\
eal: ["--no-pci"]
hugepages: false
memory: 64
workers: [{core}]
idle: sleep
crypto: openssl
state-dir: {folder}/state
metrics: {{listen: "127.0.0.1:{port}"}}
dummy-packets: 20
limits: {{sas: 1000, policies: 1000, flows: 4096, routes: 1000, neighbors: 1000}}
ports:
  - {{name: wan, device: "{device}0", host: false, addresses: [192.0.2.1/24]}}
  - {{name: lan, device: "{device}1", host: false, addresses: [198.51.100.1/24]}}
neighbors: [{{port: wan, address: 192.0.2.2, mac: "02:00:00:00:00:02"}}]
ipsec: {folder}/ipsec.conf
"""
RULES = """\
flow esp from 198.51.100.0/24 to 203.0.113.0/24 peer 192.0.2.2
esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0x1000:0x1001 auth hmac-sha2-256 enc aes-128 \\
\tauthkey 0x{}:0x{} enckey 0x{}:0x{}
"""


class Stopped:
    """One gateway that is started and stopped again and again, with its clients."""

    def __init__(self, space, folder, number):
        self.space, self.number, self.folder = space, number, folder / str(number)
        self.folder.mkdir()
        self.run_dir = self.folder / "run"
        self.config = self.folder / "gateway.yaml"
        # What comes in by net_null keeps a worker busy; what leaves by net_ring comes back.
        device = "net_null" if number % 2 else "net_ring"
        port = 9100 + number
        core = sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]
        self.config.write_text(CONFIGURATION.format(folder=self.folder, core=core, port=port, device=device))
        rules = self.folder / "ipsec.conf"
        rules.write_text(RULES.format(*(secrets.token_hex(size) for size in (32, 32, 16, 16))))
        rules.chmod(0o600)
        self.load = space.popen(sys.executable, "-B", str(pathlib.Path(__file__).with_name("stopload.py")),
                                self.run_dir, port)

    def answers(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            return one.connect_ex(str(self.run_dir / "gwctl.sock")) == 0

    def threads(self, gwd):
        """Where the threads of a gwd are that does not stop in 15 s, as far as there is a debugger."""
        try:
            gwd.wait(15)
            return ""
        except subprocess.TimeoutExpired:
            if not shutil.which("gdb"):
                return "it did not stop in 15 s\n"
            said = subprocess.run(["gdb", "-p", str(gwd.pid), "-batch", "-ex", "thread apply all backtrace 12"],
                                  capture_output=True, text=True, timeout=120)
            return "\n".join(line[:200] for line in said.stdout.splitlines() if line.startswith(("#", "Thread"))) + "\n"

    def once(self, delay):
        """Nil where all was well, else what was not."""
        log = self.folder / "gwd.log"
        with open(log, "wb") as output:
            gwd = self.space.popen(program("gwd"), "--config", self.config, "--run-dir", self.run_dir,
                                   stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: self.answers() or gwd.poll() is not None, 30, "gwd runs", interval=0.005)
            time.sleep(delay)
            began = time.time()
            gwd.terminate()
            threads = self.threads(gwd)
            status = stop_process(gwd, 1)
            spent = time.time() - began
        finally:
            self.space.processes.remove(gwd)
        text = log.read_text(errors="replace")
        lines = text.splitlines()
        if status != 0:
            crash = next((i for i, line in enumerate(lines) if "atal error" in line or "rogram crashed" in line), 0)
            return f"exit {status} after {delay * 1000:.0f} ms of running\n" + threads + "\n".join(lines[crash:][:60])
        if spent > 8:
            return f"it took {spent:.1f} s to stop\n{text}"
        if not lines or not lines[-1].endswith("gwd stopped"):
            return f"its last word is not that it stopped\n{text}"
        if re.search(r"CancellationError|error:|critical:|link down", text):
            return f"it complains\n{text}"
        kept = self.folder / "state" / "numbers"
        if not kept.exists() or kept.stat().st_mtime < began - 1:
            return f"sequence numbers were not saved\n{text}"
        return None


class Stop(EndToEndTest):
    time_limit = 240 if STOPS <= 500 else 1800

    def test_stops_under_load(self):
        space = Namespace(f"gwstop-{os.getpid()}")
        self.addCleanup(space.delete)
        folder = tempfile.TemporaryDirectory(prefix="gw-stop-")
        self.addCleanup(folder.cleanup)
        gateways = [Stopped(space, pathlib.Path(folder.name), number) for number in range(SIDE_BY_SIDE)]
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"        seed {seed}", flush=True)
        failures, done, lock = [], [0], threading.Lock()

        def work(gateway):
            choose = random.Random(seed + gateway.number)
            while True:
                with lock:
                    if done[0] >= STOPS or len(failures) >= 5:
                        return
                    done[0] += 1
                    if done[0] % 50 == 0:
                        print(f"        {done[0]} of {STOPS} stops, {len(failures)} failed", flush=True)
                failure = gateway.once(choose.choice((0, choose.uniform(0, 0.02), choose.uniform(0, 0.2))))
                if failure:
                    failures.append(failure)

        with concurrent.futures.ThreadPoolExecutor(len(gateways)) as pool:
            for future in [pool.submit(work, gateway) for gateway in gateways]:
                future.result()
        self.assertFalse(failures, f"{len(failures)} of {done[0]} stops\n" + "\n\n".join(failures[:3]))
