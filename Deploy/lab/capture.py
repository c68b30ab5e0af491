"""tcpdump in a namespace, tshark on what it wrote."""

import os
import subprocess
import time

from .namespace import CommandFailed, run, stop_process


class Capture:
    """tcpdump on one interface into a file. A context: the file is complete when it is left."""

    def __init__(self, space, interface, path, expression="", count=None, snaplen=0):
        self.path = str(path)
        self.log = f"{self.path}.log"
        limit = ["-c", str(count)] if count else []
        with open(self.log, "wb") as log:
            self.process = space.popen("tcpdump", "-i", interface, "-p", "-n", "-U", "--immediate-mode", "-Z", "root",
                                       "-s", snaplen, *limit, "-w", self.path, *filter(None, [expression]),
                                       stdout=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + 10
        while "listening on" not in self._said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CommandFailed(f"tcpdump on {interface}: {self._said()}")
            time.sleep(0.05)

    def _said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        time.sleep(0.2)
        stop_process(self.process)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def bytes(self):
        with open(self.path, "rb") as file:
            return file.read()

    def tshark(self, *arguments, timeout=120):
        return tshark(self.path, *arguments, timeout=timeout)

    def lines(self, limit=None):
        """One line a packet, as tcpdump prints it."""
        limited = ["-c", str(limit)] if limit else []
        return run("tcpdump", "-n", "-t", "-e", "-r", self.path, *limited).stdout.splitlines()


def tshark(path, *arguments, timeout=120):
    """tshark's standard output over a capture file, without the user's own settings."""
    environment = dict(os.environ, HOME="/nonexistent", XDG_CONFIG_HOME="/nonexistent", LC_ALL="C.UTF-8")
    return run("tshark", "-n", "-r", path, *arguments, timeout=timeout, env=environment).stdout


def count_packets(path, display_filter=""):
    selected = ["-Y", display_filter] if display_filter else []
    return len(tshark(path, "-T", "fields", "-e", "frame.number", *selected).split())


def esp_key_options(source, destination, spi, encryption, encryption_key, authentication, authentication_key):
    """tshark options that let it open one ESP SA and check its ICVs. Names are tshark's own."""
    record = [
        "IPv6" if ":" in source else "IPv4", source, destination, f"0x{spi:08x}", encryption,
        f"0x{encryption_key.hex()}", authentication, f"0x{authentication_key.hex()}" if authentication_key else "",
    ]
    text = ",".join(f'"{field}"' for field in record)
    return ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE",
            "-o", f"uat:esp_sa:{text}"]
