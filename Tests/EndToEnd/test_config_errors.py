"""Wrong configuration of every kind: exit 78 with file, place and what was expected; a running gateway is untouched."""

import pathlib
import shutil
import tempfile

from lab.gateway import program
from lab.namespace import run, wait_for
from lab.topology import HOST2, ping
from support import EndToEndTest, TwoGatewaysTest

GOOD = """\
eal: ["--no-pci"]
hugepages: false
workers: [0]
ports:
  - name: wan
    device: "net_null0"
    host: false
    addresses: [202.245.63.218/24]
    mtu: 1500
  - name: lan
    device: "net_null1"
    host: false
    addresses: [192.168.60.1/24]
routes: [{to: 172.20.1.0/24, via: 202.245.63.1}]
neighbors: [{port: wan, address: 202.245.63.1, mac: "02:00:00:00:00:02"}]
ipsec: ipsec.conf
"""
IPSEC = """\
flow esp from 192.168.60.0/24 to 172.20.1.0/24 peer 200.69.110.71
esp tunnel from 202.245.63.218 to 200.69.110.71 spi 0x1000:0x1001 auth hmac-sha2-256 enc aes-128 \\
\tauthkey 0x%s:0x%s enckey 0x%s:0x%s
""" % ("11" * 32, "22" * 32, "33" * 16, "44" * 16)

# name, text that is replaced, text instead, what the message has to contain
YAML_ERRORS = [
    ("unknown key", "hugepages: false", "hugepage: false", "hugepage"),
    ("wrong type", "hugepages: false", "hugepages: maybe", "hugepages"),
    ("bad address", "202.245.63.218/24", "202.245.63.300/24", "202.245.63.300"),
    ("bad prefix length", "192.168.60.1/24", "192.168.60.1/33", "192.168.60.1/33"),
    ("port named twice", "name: lan", "name: wan", "wan"),
    ("device used twice", "net_null1", "net_null0", "net_null0"),
    ("no device", '    device: "net_null1"\n', "", "device"),
    ("mtu out of range", "mtu: 1500", "mtu: 12", "mtu"),
    ("mtu is a word", "mtu: 1500", "mtu: large", "mtu"),
    ("worker twice", "workers: [0]", "workers: [0, 0]", "workers"),
    ("worker negative", "workers: [0]", "workers: [-1]", "workers"),
    ("no workers", "workers: [0]", "workers: []", "workers"),
    ("route without a way", ", via: 202.245.63.1}", "}", "routes[0]"),
    ("route of mixed families", "via: 202.245.63.1}", 'via: "2001:db8::1"}', "routes[0]"),
    ("route with host bits", "to: 172.20.1.0/24", "to: 172.20.1.7/24", "172.20.1.7/24"),
    ("neighbor on an unknown port", "port: wan,", "port: wann,", "wann"),
    ("neighbor with a bad MAC", "02:00:00:00:00:02", "02:00:00:00:00", "mac"),
    ("YAML syntax", "ports:\n", "ports: [\n", "gateway.yaml"),
    ("ports is no list", "ports:\n", "ports: 7\nport_list:\n", "ports"),
    ("no ports", GOOD[GOOD.index("ports:"):GOOD.index("routes:")], "", "ports"),
    ("key twice", "hugepages: false\n", "hugepages: false\nhugepages: true\n", "hugepages"),
]
IPSEC_ERRORS = [
    ("syntax", "flow esp", "flwo esp", "syntax error"),
    ("key too short", "33" * 16, "33" * 15, "128 bits"),
    ("key with a wrong digit", "33" * 16, "3g" * 16, "hex"),
    ("reserved SPI", "0x1000:0x1001", "0x10:0x1001", "spi"),
    ("static key for a counter mode", "enc aes-128", "enc aes-128-gcm", "static keys"),
    ("undefined macro", "peer 200.69.110.71", "peer $gw2", "gw2"),
    ("families differ", "to 172.20.1.0/24", "to 2001:db8::/32", "famil"),
    ("file of keys that is not there", "enckey 0x" + "33" * 16 + ":0x" + "44" * 16, 'enckey file "/nonexistent/key"',
     "/nonexistent/key"),
]


class ConfigErrors(EndToEndTest):
    """Through `gwd --check`, which starts nothing."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gw-config-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.config = self.folder / "gateway.yaml"

    def check(self, yaml, ipsec=IPSEC):
        self.config.write_text(yaml, encoding="utf-8")
        (self.folder / "ipsec.conf").write_text(ipsec, encoding="utf-8")
        (self.folder / "ipsec.conf").chmod(0o600)
        return run(program("gwd"), "--check", "--config", self.config, check=False, timeout=20)

    def refused(self, done, *words):
        self.assertEqual(done.returncode, 78, done.stdout + done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertNotIn("EAL:", done.stderr)
        # OpenBSD says a wrong digit again for each byte of the key.
        self.assertLess(len(set(done.stderr.splitlines())), 6, done.stderr)

    def test_good(self):
        done = self.check(GOOD)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_gateway_yaml(self):
        for name, old, new, word in YAML_ERRORS:
            with self.subTest(name):
                self.assertIn(old, GOOD)
                self.refused(self.check(GOOD.replace(old, new, 1)), "gateway.yaml", word)

    def test_ipsec_conf(self):
        for name, old, new, word in IPSEC_ERRORS:
            with self.subTest(name):
                self.assertIn(old, IPSEC)
                self.refused(self.check(GOOD, IPSEC.replace(old, new, 1)), word)

    def test_missing_files(self):
        done = run(program("gwd"), "--check", "--config", self.folder / "nothing.yaml", check=False)
        self.refused(done, "nothing.yaml")
        self.refused(self.check(GOOD.replace("ipsec: ipsec.conf", "ipsec: gone.conf")), "gone.conf")
        self.config.unlink()
        self.config.mkdir()
        self.refused(run(program("gwd"), "--check", "--config", self.config, check=False), "gateway.yaml")

    def test_bytes_that_are_no_text(self):
        self.config.write_bytes(b"ports: \xff\xfe\x00")
        self.refused(run(program("gwd"), "--check", "--config", self.config, check=False), "gateway.yaml")


class StartErrors(EndToEndTest):
    """What only the start finds out: one clear line with the remedy, not an EAL dump."""

    def start(self, yaml):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="gw-start-"))
        self.addCleanup(shutil.rmtree, folder)
        (folder / "gateway.yaml").write_text(yaml.replace("ipsec: ipsec.conf\n", f"state-dir: {folder}/state\n"),
                                             encoding="utf-8")
        done = run(program("gwd"), "--config", folder / "gateway.yaml", "--run-dir", folder / "run", check=False,
                   timeout=30)
        self.assertNotEqual(done.returncode, 0)
        self.assertGreater(done.returncode, 0, f"ended by a signal\n{done.stderr}")
        self.assertLess(len(done.stderr.splitlines()), 12, done.stderr)
        return done

    def test_device_that_does_not_exist(self):
        self.assertIn("nosuch0", self.start(GOOD.replace("net_null1", "net_af_packet0,iface=nosuch0")).stderr)

    def test_driver_that_does_not_exist(self):
        self.assertIn("net_nosuch", self.start(GOOD.replace("net_null1", "net_nosuch1")).stderr)

    def test_core_that_does_not_exist(self):
        self.assertIn("1000", self.start(GOOD.replace("workers: [0]", "workers: [1000]")).stderr)

    def test_no_hugepages(self):
        reserved = pathlib.Path("/proc/sys/vm/nr_hugepages").read_text(encoding="ascii").strip()
        if reserved != "0":
            self.skipTest(f"this machine has {reserved} hugepages")
        self.assertIn("hugepages", self.start(GOOD.replace("hugepages: false", "hugepages: true")).stderr)


class RunningStateUntouched(TwoGatewaysTest):
    """A gateway that runs is told to reload something wrong."""

    def state(self):
        flows = self.lab.gw1.show("flow")
        for flow in flows if isinstance(flows, list) else []:
            flow.pop("usage", None)
        spis = sorted((sa["spi"], sa["source"], sa["destination"]) for sa in self.lab.gw1.associations())
        return flows, spis, self.lab.gw1.gwctl("show", "sa", "-k").stdout

    def unchanged(self, before):
        self.assertEqual(self.state(), before)
        self.assertEqual(ping(self.lab.lan1, HOST2, count=3, interval=0.05), (3, 3))

    def setUp(self):
        ping(self.lab.lan1, HOST2, count=1, timeout=3)
        self.good_yaml = self.lab.gw1.config.read_text(encoding="utf-8")
        self.good_ipsec = self.lab.gw1.ipsec.read_text(encoding="utf-8")

    def tearDown(self):
        self.lab.gw1.config.write_text(self.good_yaml, encoding="utf-8")
        self.lab.gw1.ipsec.write_text(self.good_ipsec, encoding="utf-8")

    def reload(self):
        """HUP and the report of it."""
        before = self.lab.gw1.show_status().get("last_reload")
        self.lab.gw1.hang_up()
        wait_for(lambda: self.lab.gw1.show_status().get("last_reload") != before, 5, "the reload's report")
        return self.lab.gw1.show_status()["last_reload"]

    def test_hang_up_with_wrong_yaml(self):
        before = self.state()
        for name, old, new in (("unknown key", "hugepages: false", "hugepage: false"),
                               ("bad address", "192.168.60.1/24", "192.168.60.256/24"), ("syntax", "ports:", "ports: [")):
            with self.subTest(name):
                self.lab.gw1.config.write_text(self.good_yaml.replace(old, new, 1), encoding="utf-8")
                report = self.reload()
                self.assertFalse(report["succeeded"])
                self.assertIn("gateway.yaml", " ".join(report["messages"]))
                self.unchanged(before)

    def test_hang_up_with_wrong_ipsec_conf(self):
        before = self.state()
        self.lab.gw1.ipsec.write_text(self.good_ipsec + "flow esp from nowhere to\n", encoding="utf-8")
        report = self.reload()
        self.assertFalse(report["succeeded"])
        self.assertIn("ipsec.conf", " ".join(report["messages"]))
        self.unchanged(before)

    def test_hang_up_with_the_same_loses_nothing(self):
        self.lab.lan1.popen("ping", "-n", "-q", "-c", "100", "-i", "0.02", HOST2)
        before = self.lab.gw1.sa(self.lab.sa.spi_out)
        for _ in range(5):
            self.assertTrue(self.reload()["succeeded"])
        self.assertEqual(ping(self.lab.lan1, HOST2, count=50, interval=0.02), (50, 50))
        after = self.lab.gw1.sa(self.lab.sa.spi_out)
        self.assertGreater(after["sequence"], before["sequence"], "the SA kept its sequence numbers")
        self.assertEqual(after["usage"]["added_seconds"], before["usage"]["added_seconds"])

    def test_load_of_wrong_files(self):
        before = self.state()
        wrong = self.lab.folder / "wrong.conf"
        for name, old, new, word in IPSEC_ERRORS:
            with self.subTest(name):
                wrong.write_text(IPSEC.replace(old, new, 1), encoding="utf-8")
                wrong.chmod(0o600)
                for command in ("check", "load"):
                    done = self.lab.gw1.gwctl(command, wrong, check=False)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn(word, done.stderr)
                self.unchanged(before)

    def test_load_of_a_missing_file(self):
        done = self.lab.gw1.gwctl("load", "/nonexistent.conf", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/nonexistent.conf", done.stderr)
