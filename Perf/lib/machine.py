"""The machine that the figures are of."""

import contextlib
import os
import pathlib
import platform
import re
import subprocess

HUGE = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


def machine():
    """The description that stands beside every result."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", info, re.M)
    model = re.search(r"^model name\s*: (.*)$", info, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True)
    return {"cpu": model and model.group(1), "cores": os.cpu_count(), "kernel": platform.release(),
            "memoryGiB": memory and round(int(memory.group(1)) / 2 ** 20, 1),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME"),
            "flags": [f for f in ("aes", "vaes", "vpclmulqdq", "avx2", "avx512f")
                      if flags and f in flags.group(1).split()],
            "loadAverage": os.getloadavg()[0],
            "dpdk": dpdk.stdout.strip() or None}


@contextlib.contextmanager
def hugepages(wanted):
    """So many more pages of 2 MB while it runs; False if the machine has none to give."""
    count, free = HUGE / "nr_hugepages", HUGE / "free_hugepages"
    before = int(count.read_text()) if count.exists() else 0
    try:
        missing = wanted - int(free.read_text())
        if missing > 0:
            count.write_text(str(before + missing))
        yield int(free.read_text()) >= wanted
    except OSError:
        yield False
    finally:
        with contextlib.suppress(OSError):
            count.write_text(str(before))
