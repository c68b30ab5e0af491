"""What the kernel sees of a port through its TAP: the cable, and groups' frames."""

import json
import pathlib
import shutil
import subprocess
import tempfile

from lab.gateway import Gateway, Port, program
from lab.namespace import Namespace, run, wait_for
from support import EndToEndTest


class Carrier(EndToEndTest):
    """Two gateways on a memif, whose link is up as long as both ends are there."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gw-carrier-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.spaces = [Namespace(f"carrier{number}") for number in range(2)]
        for space in self.spaces:
            self.addCleanup(space.delete)

    def gateway(self, number, role):
        device = f"net_memif0,role={role},socket={self.folder}/memif.sock,socket-abstract=no"
        gateway = Gateway(f"gw{number}", self.spaces[number], self.folder / str(number),
                          [Port("wan", device, [f"192.0.2.{number + 1}/24"])], settings={"memory": 128})
        self.addCleanup(gateway.stop)
        return gateway.start()

    def state(self):
        done = self.spaces[0].run("ip", "-j", "link", "show", "dev", "wan")
        return json.loads(done.stdout)[0]

    def test_the_tap_follows_the_cable(self):
        self.gateway(0, "server")
        wait_for(lambda: "NO-CARRIER" in self.state()["flags"], 15, "the TAP has no carrier before there is a peer")
        other = self.gateway(1, "client")
        wait_for(lambda: "LOWER_UP" in self.state()["flags"], 15, "the TAP has a carrier")
        self.assertEqual(self.spaces[0].run("ping", "-n", "-c", "1", "-W", "5", "192.0.2.2").returncode, 0)
        other.stop()
        wait_for(lambda: "NO-CARRIER" in self.state()["flags"], 15, "the carrier is gone with the peer")


class DevicesFirst(EndToEndTest):
    """A device that is not there is told of at once, by gwd and by its --check."""

    CONFIGURATION = """\
hugepages: false
workers: [0]
ports: [{name: wan, device: "DEVICE", addresses: [192.0.2.1/24]}]
"""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gw-devices-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.config = self.folder / "gateway.yaml"

    def gwd(self, *arguments, text=CONFIGURATION, device="0000:ff:1f.7"):
        self.config.write_text(text.replace("DEVICE", device))
        return run(program("gwd"), "--config", str(self.config), "--run-dir", str(self.folder / "run"), *arguments,
                   check=False, timeout=60)

    def test_no_calibration_for_a_wrong_address(self):
        done = self.gwd("--log-level", "debug")
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("0000:ff:1f.7: no such PCI device", done.stderr)
        self.assertNotIn("measuring", done.stderr)

    def test_check_looks_at_the_machine(self):
        done = self.gwd("--check")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (69, 1), done.stderr)
        self.assertIn("port wan: device 0000:ff:1f.7: no such PCI device", done.stderr)
        self.assertEqual(self.gwd("--check", device="net_null0").returncode, 0)
        done = self.gwd("--check", text=self.CONFIGURATION.replace("[0]", "[1000]"), device="net_null0")
        self.assertEqual(done.returncode, 69)
        self.assertIn("core 1000", done.stderr)

    def test_syntax_looks_at_files_alone(self):
        done = self.gwd("--check", "--syntax")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.gwd("--check", "--syntax", text="ports: 7\n").returncode, 78)

    def test_check_tells_of_rights(self):
        host = self.CONFIGURATION.replace("addresses", "host: true, addresses").replace("DEVICE", "net_null0")
        self.config.write_text(host)
        self.folder.chmod(0o755)
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
                               program("gwd"), "--check", "--config", str(self.config)],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("CAP_NET_ADMIN is missing, for TAPs", done.stderr)
