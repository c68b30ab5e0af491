"""What gwd and gwctl hold in memory stays there: no core, no debugger of the same user, no swap, whoever starts them."""

import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import time

from lab.gateway import program
from lab.namespace import run, stop_process, wait_for
from support import EndToEndTest
from test_config_errors import GOOD, IPSEC

# Without the right to debug others, which root has, a process debugs its own user's, if they let it.
NO_PTRACE = ("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace")


class PrivateMemory(EndToEndTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="gw-memory-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "gateway.yaml").write_text(GOOD.replace("ports:", f"state-dir: {self.folder}/state\nports:", 1))
        (self.folder / "ipsec.conf").write_text(IPSEC)
        (self.folder / "ipsec.conf").chmod(0o600)

    @staticmethod
    def allow_cores():
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def start(self, *prefix):
        log = open(self.folder / "gwd.log", "wb")
        self.addCleanup(log.close)
        gwd = subprocess.Popen([*prefix, program("gwd"), "--config", self.folder / "gateway.yaml", "--run-dir",
                                self.folder / "run"], stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
                               preexec_fn=self.allow_cores)
        self.addCleanup(stop_process, gwd)
        wait_for(lambda: (self.folder / "run/gwctl.sock").exists() or gwd.poll() is not None, 20, "gwd runs")
        self.assertIsNone(gwd.poll(), self.said())
        return gwd

    def said(self):
        return (self.folder / "gwd.log").read_text()

    def assert_sealed(self, pid):
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        self.assertEqual(core.split()[4:6], ["0", "0"])
        self.assertEqual(int(pathlib.Path(f"/proc/{pid}/coredump_filter").read_text(), 16), 0)
        self.assertFalse(self.is_open(pid))

    @staticmethod
    def is_open(pid):
        """Whether a process of the same user, without more rights, may open its memory."""
        return "ermission denied" not in run(*NO_PTRACE, "head", "-c1", f"/proc/{pid}/mem", check=False).stderr

    def test_gwd(self):
        gwd = self.start(*NO_PTRACE)
        self.assert_sealed(gwd.pid)
        status = pathlib.Path(f"/proc/{gwd.pid}/status").read_text()
        locked = next(line for line in status.splitlines() if line.startswith("VmLck:"))
        self.assertGreater(int(locked.split()[1]), 0)
        self.assertNotIn("memory cannot be locked", self.said())
        # Another program, to show what the test would see otherwise.
        other = subprocess.Popen([*NO_PTRACE, "sleep", "60"])
        self.addCleanup(stop_process, other)
        wait_for(lambda: "sleep" in pathlib.Path(f"/proc/{other.pid}/comm").read_text(), 5, "sleep runs")
        self.assertTrue(self.is_open(other.pid))

    def test_memory_that_cannot_be_locked(self):
        """It says so, once, and runs."""
        without = "-ipc_lock,-sys_resource"
        self.start("setpriv", "--bounding-set", without, "--inh-caps", without, "prlimit", "--memlock=65536:65536")
        self.assertEqual(self.said().count("memory cannot be locked"), 1)

    def test_gwctl(self):
        self.start()
        gwctl = subprocess.Popen([*NO_PTRACE, program("gwctl"), "--run-dir", self.folder / "run", "monitor"],
                                 stdout=subprocess.DEVNULL)
        self.addCleanup(stop_process, gwctl)
        wait_for(lambda: "gwctl" in pathlib.Path(f"/proc/{gwctl.pid}/comm").read_text(), 5, "gwctl runs")
        time.sleep(0.5)
        self.assert_sealed(gwctl.pid)

    def test_no_core_after_a_crash(self):
        pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
        if pattern.startswith(("|", "/")):
            self.skipTest("cores do not go to the working folder here")
        gwd = self.start()
        # One that ends with a core and that nobody handles.
        os.kill(gwd.pid, signal.SIGXCPU)
        self.assertEqual(gwd.wait(20), -signal.SIGXCPU)
        self.assertEqual([path.name for path in self.folder.rglob("core*")], [])
