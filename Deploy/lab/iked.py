"""OpenIKED, as Debian packages it, keying a gateway of the lab over its PF_KEY socket through libikeshim.so."""

import contextlib
import os
import pathlib
import signal
import subprocess

from .gateway import program, write_private
from .namespace import CommandFailed, run, stop_process, wait_for


class Iked:
    """One iked in a gateway's namespace: its configuration, log and control socket lie in the gateway's folder."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.folder = pathlib.Path(gateway.folder) / "iked"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "iked.log"
        self.control = self.folder / "iked.sock"
        self.config = self.folder / "iked.conf"
        self.process = None

    def start(self, text, *options):
        """`text`: what iked.conf(5) has; `options`: more of iked's own, as -t."""
        write_private(self.config, text)
        self.control.unlink(missing_ok=True)
        with open(self.log, "ab") as output:
            self.process = self.gateway.space.popen(
                "env", f"LD_PRELOAD={program('libikeshim.so')}", f"GW_RUN_DIR={self.gateway.run_dir}", "/usr/sbin/iked",
                "-d", "-v", "-f", self.config, "-s", self.control, *options, stdout=output,
                stderr=subprocess.STDOUT)
        wait_for(self._answers, 15, f"{self.gateway.name}: iked answers")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise CommandFailed(f"{self.gateway.name}: iked ended with exit {self.process.returncode}\n"
                                f"{self.log_tail()}")
        return self.control.exists()

    def ikectl(self, *words, check=True, timeout=10):
        return run("/usr/sbin/ikectl", "-s", self.control, *words, check=check, timeout=timeout)

    def stop(self):
        if self.process is not None:
            stop_process(self.process, grace=5)

    def kill(self):
        """kill -9 of iked and its children, which say nothing to anyone: stopped first, or those that live longer would see
        the others go and take their leave."""
        everyone = [self.process.pid, *map(int, run("pgrep", "-P", self.process.pid, check=False).stdout.split())]
        for force in (signal.SIGSTOP, signal.SIGKILL):
            for process in everyone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, force)
        self.process.wait()

    def log_tail(self, lines=25):
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(f"  {self.gateway.name} iked| {line}" for line in text.splitlines()[-lines:])


def rule(local, remote, local_ts, remote_ts, active=True, childsa="enc aes-256 auth hmac-sha2-512", lifetime=""):
    """iked.conf of one side of a pre-shared key connection; Linux builds of iked have neither ESN nor AES-GCM here."""
    return (f"ikev2 \"gw\" {'active' if active else 'passive'} esp \\\n"
            f"\tfrom {local_ts} to {remote_ts} local {local} peer {remote} \\\n"
            f"\tikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group ecp256 \\\n"
            f"\tchildsa {childsa} noesn \\\n"
            f"\tsrcid {local} dstid {remote} {lifetime} \\\n"
            f"\tpsk \"a secret of the lab\"\n")
