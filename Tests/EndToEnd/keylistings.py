"""The ways to list a gateway's SAs, each with a count of what came: gwctl's, ipsecctl's, and iproute2's under the shim."""

import json
import os
import subprocess
import time

from lab.gateway import program


def lines(beginning):
    """Counts the lines of a file that begin so."""
    return lambda output: sum(line.startswith(beginning) for line in output)


def elements(output):
    return len(json.load(output))


class Listing:
    """One command. `run` gives how many it listed and the seconds it took."""

    def __init__(self, name, command, count, **environment):
        self.name, self.command, self.count, self.environment = name, command, count, environment

    def run(self, folder, timeout=60):
        path = folder / f"{self.name.replace(' ', '-')}.out"
        began = time.monotonic()
        with open(path, "wb") as output:
            subprocess.run(list(map(str, self.command)), stdin=subprocess.DEVNULL, stdout=output, check=True,
                           timeout=timeout, env={**os.environ, **self.environment})
        seconds = time.monotonic() - began
        with open(path, encoding="utf-8") as output:
            counted = self.count(output)
        path.unlink()
        return counted, seconds


def listings(gateway):
    """Of the SAs; of the policies, those that name policies."""
    gwctl = [program("gwctl"), "--run-dir", gateway.run_dir]
    ipsecctl = gateway.folder / "ipsecctl"
    if not ipsecctl.is_symlink():
        ipsecctl.symlink_to(program("gwctl"))
    run_dir = {"GW_RUN_DIR": str(gateway.run_dir)}
    shim = {"LD_PRELOAD": program("libikeshim.so"), **run_dir}
    return [Listing("gwctl show sa", [*gwctl, "show", "sa"], lines("esp ")),
            Listing("gwctl show sa --json", [*gwctl, "show", "sa", "--json"], elements),
            Listing("ipsecctl -s sa", [ipsecctl, "-s", "sa"], lines("esp "), **run_dir),
            Listing("ip xfrm state", ["ip", "xfrm", "state"], lines("src "), **shim)]
