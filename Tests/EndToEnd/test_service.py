"""gwd as systemd runs it: a user of its own with two capabilities, and a manager that is told how it stands."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from lab.gateway import ROOT, program
from lab.namespace import Namespace, run, stop_process
from support import EndToEndTest

CONFIGURATION = """\
hugepages: false
memory: 64
workers: [0]
idle: sleep
crypto: openssl
state-dir: {folder}/state
limits: {{sas: 1000, policies: 1000, flows: 4096, routes: 1000, neighbors: 1000}}
ports: [{{name: wan, device: "net_null0", host: true, addresses: [192.0.2.1/24]}}]
"""


class Service(EndToEndTest):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gw-service-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.space = Namespace("service")
        self.addCleanup(self.space.delete)
        self.config = self.folder / "gateway.yaml"
        self.config.write_text(CONFIGURATION.format(folder=self.folder))
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(str(self.folder / "notify"))
        self.manager.settimeout(30)
        for name in ("run", "state"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, 65534, 65534)
        os.chown(self.folder / "notify", 65534, 65534)
        self.folder.chmod(0o755)

    def start(self, **environment):
        rights = "+net_admin,+net_raw"
        environment = dict(os.environ, NOTIFY_SOCKET=str(self.folder / "notify"),
                           RUNTIME_DIRECTORY=str(self.folder / "run"), **environment)
        process = self.space.popen(
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps=-all,{rights}",
            f"--ambient-caps={rights}", f"--bounding-set=-all,{rights}", program("gwd"), "--config", self.config,
            "--run-dir", self.folder / "run", env=environment, stderr=subprocess.PIPE)
        self.addCleanup(stop_process, process)
        self.addCleanup(process.stderr.close)
        return process

    def heard(self, wanted):
        """Everything that the manager is told up to `wanted`."""
        said = []
        while not said or not said[-1].startswith(wanted):
            said.append(self.manager.recv(1000).decode())
        return said

    def test_ready_status_watchdog_reload_stop(self):
        process = self.start(WATCHDOG_USEC="60000000")
        self.assertEqual(self.heard("READY=1"), ["READY=1"])
        # Ready means that key daemons and the kernel find what they need.
        for name in ("xfrm.sock", "pfkey.sock", "gwctl.sock"):
            self.assertTrue((self.folder / "run" / name).is_socket())
        self.assertIn("192.0.2.1", self.space.run("ip", "address", "show", "dev", "wan").stdout)
        self.heard("STATUS=0 SAs, 0 policies; load ")
        self.heard("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        self.heard("RELOADING=1")
        self.heard("READY=1")
        process.send_signal(signal.SIGTERM)
        self.heard("STOPPING=1")
        self.assertEqual(process.wait(30), 0, process.stderr.read())

    def test_a_worker_that_hangs_feeds_no_watchdog(self):
        process = self.start(WATCHDOG_USEC="60000000")
        self.heard("WATCHDOG=1")
        tasks = pathlib.Path(f"/proc/{process.pid}/task")
        worker = next(task for task in tasks.iterdir() if (task / "comm").read_text().startswith("rte-worker"))
        # Held by a tracer, as a loop that does not end would hold it: the other threads go on.
        tracer = subprocess.Popen(["python3", "-c", TRACER, worker.name], stdout=subprocess.PIPE)
        self.addCleanup(stop_process, tracer)
        self.addCleanup(tracer.stdout.close)
        self.assertEqual(tracer.stdout.readline(), b"held\n")
        time.sleep(1.5)
        self.manager.setblocking(False)
        try:
            while True:
                self.manager.recv(1000)
        except BlockingIOError:
            pass
        time.sleep(3.5)
        said = []
        try:
            while True:
                said.append(self.manager.recv(1000).decode())
        except BlockingIOError:
            pass
        self.assertNotIn("WATCHDOG=1", said)
        tracer.kill()
        self.manager.settimeout(30)
        self.heard("WATCHDOG=1")

    def test_roots_key_daemon_trusts_the_user_to_whom_root_gave_the_folder(self):
        self.start()
        self.heard("READY=1")

        def ip():
            return self.space.run("env", f"LD_PRELOAD={program('libikeshim.so')}", f"GW_RUN_DIR={self.folder}/run", "ip", "xfrm",
                                  "state", "count", check=False)
        done = ip()
        self.assertEqual(done.returncode, 0, done.stderr)
        # Where others can make folders, nobody knows whose one is.
        self.folder.chmod(0o777)
        done = ip()
        self.assertIn("Operation not permitted", done.stderr)

    def test_the_unit_is_confined(self):
        done = run("systemd-analyze", "security", "--offline=true", "--no-pager", ROOT / "Deploy/systemd/gwd.service", check=False)
        level = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
        self.assertTrue(level, done.stdout + done.stderr)
        self.assertLessEqual(float(level[0].split(":")[1].split()[0]), 3.0)


# PTRACE_SEIZE and PTRACE_INTERRUPT of one thread.
TRACER = """
import ctypes, os, sys, time
libc, thread = ctypes.CDLL(None), int(sys.argv[1])
assert libc.ptrace(0x4206, thread, None, None) == 0 and libc.ptrace(0x4207, thread, None, None) == 0
os.waitpid(thread, 0x40000000)
print("held", flush=True)
time.sleep(600)
"""
