"""ike rules of ipsec.conf: the gateway gives them to charon or iked, and gwctl ike is the operator's view of either."""

import json
import os
import signal
import unittest

from keying import KeyingTest
from lab.capture import tshark
from lab.charon import Charon
from lab.gateway import ROOT
from lab.iked import Iked
from lab.namespace import run, wait_for
from lab.topology import GW1, GW2, LAN1, LAN2, ping

NAME1 = f"from-{LAN1}-to-{LAN2}"


def eight_lines(local, remote, local_net, remote_net, options="", mode="", quick="quick enc aes-128-gcm group modp2048"):
    """The mission's example, keyed by IKE: ipsec.conf of one side."""
    return f"""\
local_gw = "{local}"
local_net = "{local_net}"
remote_gw = "{remote}"
remote_net = "{remote_net}"
ike {mode} esp from $local_net to $remote_net peer $remote_gw \\
\tmain auth hmac-sha2-256 enc aes-256 group modp2048 \\
\t{quick} {options.format(local=local, remote=remote)} \\
\tpsk "a secret of the lab"
"""


class IKETest(KeyingTest):
    """Two gateways; each test writes their ipsec.conf and brings the daemons when it wants them."""

    lab_options = {"settings": {"on-ike-exit": "flush"}}

    def tearDown(self):
        for gateway in (self.lab.gw1, self.lab.gw2):
            gateway.write_ipsec([])
            gateway.gwctl("load", gateway.ipsec)
            gateway.gwctl("flush")

    def write(self, **options):
        self.lab.gw1.write_ipsec([eight_lines(GW1, GW2, LAN1, LAN2, **options)])
        self.lab.gw2.write_ipsec([eight_lines(GW2, GW1, LAN2, LAN1, **options)])

    def load(self):
        return [gateway.gwctl("load", gateway.ipsec) for gateway in (self.lab.gw1, self.lab.gw2)]

    def ike(self, gateway, *words, **options):
        return gateway.gwctl("ike", *words, **options)

    def states(self, gateway):
        return [rule["state"] for rule in json.loads(self.ike(gateway, "status", "--json").stdout)["connections"]]

    def report(self, gateway):
        return json.loads(self.ike(gateway, "report", "--json").stdout)

    def established(self, timeout=40):
        wait_for(lambda: all(len([sa for sa in gateway.associations() if sa["state"] == "mature"]) >= 2
                             for gateway in (self.lab.gw1, self.lab.gw2)), timeout, "SAs on both gateways")


class CharonRulesTest(IKETest):
    """The gateways' key daemon is charon."""

    def start_charons(self):
        for gateway in (self.lab.gw1, self.lab.gw2):
            self.add(Charon(gateway)).start()

    def test_tunnel_out_of_eight_lines(self):
        self.start_charons()
        self.write()
        self.load()
        self.established()
        self.assert_traffic()

    def test_charon_comes_later(self):
        self.write()
        for done in self.load():
            self.assertIn("kept until the key daemon comes", done.stderr)
        self.start_charons()
        self.established()
        self.assert_traffic()

    def test_hang_up_and_delete(self):
        self.start_charons()
        self.write()
        for gateway in (self.lab.gw1, self.lab.gw2):
            gateway.hang_up()
        self.established()
        self.assert_traffic()
        self.lab.gw1.gwctl("delete", self.lab.gw1.ipsec)
        for gateway in (self.lab.gw1, self.lab.gw2):
            wait_for(lambda g=gateway: not g.associations(), 15, "the SAs are gone")
        wait_for(lambda: not self.lab.gw1.show("flow"), 15, "the flows are gone")
        self.assertNotIn("peer-", self.daemons[0].swanctl("--list-conns").stdout)
        again = self.lab.gw1.gwctl("delete", self.lab.gw1.ipsec, check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("no such ike rule is loaded", again.stderr)

    def test_operator(self):
        """connect, report, rekey, delete, teardown, connect again, debug, reload, teardown --all, quit."""
        gw1, gw2 = self.lab.gw1, self.lab.gw2
        self.start_charons()
        self.write(mode="passive")
        self.load()
        self.assertEqual(self.states(gw1), ["down"])
        self.assertRegex(self.ike(gw1, "status").stdout, "passive  down   waits for the peer, or gwctl ike connect\n")
        self.assertFalse(gw1.associations())
        self.assertIn(f"{NAME1} is up\n", self.ike(gw1, "connect", NAME1, timeout=60).stdout)
        self.assert_traffic()
        for gateway in (gw1, gw2):
            self.assertRegex(self.ike(gateway, "status").stdout, "passive  up     for [0-9]+ s\n")

        report = self.report(gw1)
        self.assertEqual([connection["name"] for connection in report["connections"]], [f"peer-{GW2}"])
        sa, = report["sas"]
        self.assertEqual((sa["state"], sa["local_host"], sa["remote_host"]), ("ESTABLISHED", GW1, GW2))
        self.assertEqual(sa["transform"], "AES_CBC-256 HMAC_SHA2_256_128 PRF_HMAC_SHA2_256 MODP_2048")
        self.assertTrue(sa["is_initiator"])
        child, = sa["children"]
        self.assertEqual((child["name"], child["state"], child["is_esn"]), (NAME1, "INSTALLED", True))
        self.assertEqual(child["transform"], "AES_GCM_16-128")
        self.assertGreater(child["rekey_seconds"], 900)
        self.assertEqual({int(child["spi_in"], 16), int(child["spi_out"], 16)}, self.spis(gw1))
        text = self.ike(gw1, "report").stdout
        for part in (f"peer-{GW2} #", "ESTABLISHED IKEv2, initiator", f"{LAN1} to {LAN2}", "AES_GCM_16-128 ESN"):
            self.assertIn(part, text)

        before = self.spis(gw1)
        self.ike(gw1, "rekey", NAME1)
        wait_for(lambda: self.spis(gw1) and not before & self.spis(gw1), 20, "the child SA is replaced")
        ike_spi = sa["initiator_spi"]
        self.ike(gw1, "rekey", f"peer-{GW2}")
        wait_for(lambda: [now["initiator_spi"] for now in self.report(gw1)["sas"] if now["state"] == "ESTABLISHED"]
                 not in ([ike_spi], []), 20, "the IKE SA is replaced")
        self.assert_traffic()

        self.ike(gw1, "delete", "0x" + self.report(gw1)["sas"][0]["children"][0]["spi_in"])
        wait_for(lambda: not gw1.associations() and not gw2.associations(), 20, "the child SA is deleted")
        self.ike(gw1, "connect", f"peer-{GW2}", timeout=60)
        self.established()
        self.ike(gw1, "teardown", NAME1)
        wait_for(lambda: not gw1.associations() and not gw2.associations(), 20, "the rule is torn down")
        self.assertIn("torn down", self.ike(gw1, "status").stdout)
        self.ike(gw1, "initiate", NAME1, timeout=60)
        self.assertNotIn("torn down", self.ike(gw1, "status").stdout)

        self.debug(gw1)
        self.ike(gw1, "reload")
        self.established()
        self.ike(gw1, "teardown", "--all")
        wait_for(lambda: not gw1.associations() and not gw2.associations(), 20, "everything is torn down")
        self.ike(gw1, "quit")
        self.assertEqual(self.daemons[0].process.wait(15), 0)
        gone = self.ike(gw1, "report", check=False)
        self.assertEqual(gone.returncode, 69)
        self.assertIn("charon is not running? nobody answers at", gone.stderr)

    def test_why_a_tunnel_is_down(self):
        gw1, gw2 = self.lab.gw1, self.lab.gw2
        self.start_charons()
        self.write()
        gw2.write_ipsec([eight_lines(GW2, GW1, LAN2, LAN1, mode="passive").replace("a secret", "another secret")])
        self.load()
        wait_for(lambda: "AUTHENTICATION_FAILED" in self.ike(gw1, "status").stdout, 20, "the peer's refusal is shown")
        self.assertRegex(self.ike(gw1, "status").stdout,
                         "active  down   received AUTHENTICATION_FAILED notify error; asked for in [0-9]+ s\n")
        self.assertEqual(self.states(gw1), ["down"])

    def test_transforms_of_all_rules_are_proposed(self):
        """Two rules for one peer, of which the second asks for what the peer does not take."""
        gw1, gw2 = self.lab.gw1, self.lab.gw2
        self.start_charons()
        self.write()
        rule = f"ike esp from 10.61.0.0/24 to 10.62.0.0/24 peer {GW2} main auth hmac-sha2-384 enc aes-192 group ecp384 "
        gw1.write_ipsec([eight_lines(GW1, GW2, LAN1, LAN2), rule + 'psk "a secret of the lab"\n'])
        self.load()
        wait_for(lambda: gw1.associations() and gw2.associations(), 40, "SAs on both gateways")
        self.assert_traffic()

    def debug(self, gateway):
        charon = self.daemons[0]
        settings = str(charon.folder / "debug.conf")
        self.ike(gateway, "debug", "mgr", "2", "--settings", settings, "--logger", "filelog.main")
        charon.swanctl("--list-sas")
        wait_for(lambda: "[MGR]" in charon.log.read_text(errors="replace"), 10, "charon logs its manager")
        self.ike(gateway, "debug", "off", "--settings", settings)
        self.assertEqual(self.ike(gateway, "debug", "nonsense", "2", check=False).returncode, 64)

    def test_refusals_are_named(self):
        self.start_charons()
        gw1 = self.lab.gw1
        gw1.write_ipsec([f"ike passive esp from {LAN1} to {LAN2} peer {GW2} psk secret tag blue\n"])
        refused = gw1.gwctl("load", gw1.ipsec, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("ipsec.conf: 1: " + NAME1 + ": tag blue: tags are for pf", refused.stderr)
        unknown = self.ike(gw1, "connect", "nobody", check=False)
        self.assertEqual(unknown.returncode, 1)
        self.assertIn("charon has no connection nobody", unknown.stderr)

    def test_report_file_and_capture(self):
        gw1 = self.lab.gw1
        pcap = str(self.lab.folder / "ike.pcap")
        self.ike(gw1, "capture", "start", pcap)
        self.assertIn("under way", self.ike(gw1, "capture", "start", check=False).stderr)
        self.start_charons()
        self.write()
        self.load()
        self.established()
        self.assertEqual(self.ike(gw1, "capture", "stop").stdout, pcap + "\n")
        exchanges = tshark(pcap, "-T", "fields", "-e", "isakmp.exchangetype").split()
        self.assertEqual(exchanges[:4], ["34", "34", "35", "35"], "IKE_SA_INIT and IKE_AUTH, there and back")
        # What it is for: the file cannot be another's.
        self.assertEqual(os.stat(pcap).st_mode & 0o777, 0o600)

        report = gw1.run_dir / "gwd.report"
        report.unlink(missing_ok=True)
        os.kill(gw1.pid, signal.SIGUSR1)
        wait_for(report.exists, 15, "the report is written")
        text = report.read_text(encoding="utf-8")
        spi, = [sa["spi"] for sa in gw1.associations() if sa["source"] == GW1]
        for part in ("== Gateway ==", "== Ports ==", "== Flows: ", f"spi 0x{spi:08x}", "== Timers ==",
                     "== Rules of ike: 1 ==", f"{NAME1} (peer-{GW2}), active, up: for ", "== Key daemon: charon ==",
                     f"peer-{GW2} #", "ESTABLISHED"):
            self.assertIn(part, text)
        self.assertNotIn("a secret of the lab", text)
        self.assertEqual(os.stat(report).st_mode & 0o777, 0o600)

    def test_dead_peer_comes_back(self):
        """charon of the other side is killed and started anew: the active side has the tunnel again."""
        self.start_charons()
        self.write(mode="dynamic", options="srcid {local} dstid {remote}")
        self.load()
        self.established()
        self.assert_traffic()
        old = self.spis(self.lab.gw1)
        self.daemons[1].kill()
        self.daemons[1].start()
        wait_for(lambda: self.spis(self.lab.gw1) and not old & self.spis(self.lab.gw1), 60, "new SAs on gw1")
        self.established()
        self.assert_traffic()

    def test_version_one(self):
        """gateway.yaml says so, and a reload is enough."""
        self.start_charons()
        for gateway in (self.lab.gw1, self.lab.gw2):
            self.addCleanup(self.set_version, gateway, 2)
            self.set_version(gateway, 1)
        self.write(quick="quick auth hmac-sha2-256 enc aes-256 group modp2048")
        self.load()
        self.established()
        self.assert_traffic()
        self.assertEqual(self.report(self.lab.gw1)["sas"][0]["version"], "IKEv1")

    def set_version(self, gateway, version):
        gateway.settings["ike"] = (f'{{daemon: charon, vici: "FOLDER/charon/vici.sock", credentials: "FOLDER/ike", '
                                   f'version: {version}}}')
        gateway.write_config()
        gateway.gwctl("reload")

    def test_sample_of_ike_rules(self):
        self.start_charons()
        for gateway, text in zip((self.lab.gw1, self.lab.gw2), samples("ipsec.conf")):
            gateway.write_ipsec([text])
        self.load()
        self.established()
        self.assert_traffic()
        self.assertEqual(ping(self.lab.lan1, GW2, count=3, interval=0.1), (3, 3))

    def test_sample_of_swanctl(self):
        self.start_charons()
        for charon, text in zip(self.daemons, samples("swanctl.conf")):
            charon.load(text)
        self.ike(self.lab.gw1, "connect", "net", timeout=60)
        self.established()
        self.assert_traffic()

    def test_printed_swanctl_conf(self):
        """What print-config says is what gwd would have given to charon."""
        self.start_charons()
        self.write()
        for charon, gateway in zip(self.daemons, (self.lab.gw1, self.lab.gw2)):
            charon.load(self.ike_print(gateway, "swanctl"))
        self.daemons[0].initiate(NAME1.replace(".", "-"))
        self.established()
        self.assert_traffic()

    def ike_print(self, gateway, form):
        return self.ike(gateway, "print-config", form, "-k", gateway.ipsec).stdout

    def test_certificates(self):
        self.start_charons()
        make_certificates(self.lab)
        for gateway, ends in ((self.lab.gw1, (GW1, GW2, LAN1, LAN2, "gw1.example", "gw2.example")),
                              (self.lab.gw2, (GW2, GW1, LAN2, LAN1, "gw2.example", "gw1.example"))):
            gateway.write_ipsec([
                f"ike esp from {ends[2]} to {ends[3]} local {ends[0]} peer {ends[1]} "
                f"main auth hmac-sha2-256 enc aes-256-gcm group ecp256 quick enc aes-256-gcm group ecp256 "
                f"srcid {ends[4]} dstid {ends[5]}\n"])
        self.load()
        self.established()
        self.assert_traffic()
        self.assertEqual(self.report(self.lab.gw1)["sas"][0]["remote_id"], "gw2.example")


@unittest.skipUnless(os.path.exists("/usr/sbin/iked"), "OpenIKED is not installed (Deploy/install-dependencies test)")
class IkedRulesTest(IKETest):
    """The gateways' key daemon is iked: gwd writes its iked.conf and has it loaded."""

    lab_options = {"settings": {**IKETest.lab_options["settings"],
                                "ike": '{daemon: iked, control: "FOLDER/iked/iked.sock"}'}}

    def start_ikeds(self):
        # As Deploy/systemd has it: iked begins with the file that gwd wrote.
        for gateway in (self.lab.gw2, self.lab.gw1):
            self.add(Iked(gateway)).start((gateway.run_dir / "iked.conf").read_text(encoding="utf-8"))

    def test_operator(self):
        """Rules before the daemon, report, teardown, connect, delete, quit."""
        gw1, gw2 = self.lab.gw1, self.lab.gw2
        self.write(quick="quick auth hmac-sha2-512 enc aes-256 group modp2048")
        for done in self.load():
            self.assertIn("kept until the key daemon comes", done.stderr)
        self.start_ikeds()
        self.established()
        self.assert_traffic()
        wait_for(lambda: self.states(gw1) == ["up"], 15, "gwd has found iked")

        sa, = [sa for sa in self.report(gw1)["sas"] if sa["state"] == "ESTABLISHED"]
        self.assertEqual((sa["name"], sa["local_host"], sa["remote_host"]), (f"peer-{GW2}", GW1, GW2))
        self.assertIn(NAME1, [child["name"] for child in sa["children"]])
        self.assertLessEqual({int(child["spi_in"], 16) for child in sa["children"]}, self.spis(gw1))
        text = self.ike(gw1, "report").stdout
        for part in ("iked, ", f"peer-{GW2} #", "ESTABLISHED IKEv2", f"{LAN1} to {LAN2}", "hmac-sha2-512"):
            self.assertIn(part, text)

        self.ike(gw1, "teardown", NAME1)
        wait_for(lambda: not gw1.associations(), 20, "the rule is torn down")
        self.ike(gw1, "connect", NAME1)
        self.established()
        self.assert_traffic()
        self.ike(gw1, "debug", "all", "1")
        self.assertEqual(self.ike(gw1, "rekey", NAME1, check=False).returncode, 1)
        for gateway in (gw1, gw2):
            gateway.gwctl("delete", gateway.ipsec)
        for gateway in (gw1, gw2):
            wait_for(lambda g=gateway: not g.associations(), 20, "the SAs are gone")
        self.load()
        self.established()
        self.ike(gw1, "quit")
        self.daemons[1].process.wait(15)
        gone = self.ike(gw1, "report", check=False)
        self.assertEqual(gone.returncode, 69)
        self.assertIn("iked is not running? nobody answers at", gone.stderr)

    def test_sample_of_iked(self):
        second, first = reversed(samples("iked.conf"))
        for gateway, text in ((self.lab.gw2, second), (self.lab.gw1, first)):
            self.add(Iked(gateway)).start(text)
        self.established()
        self.assert_traffic()

    def test_what_iked_cannot_do_is_named(self):
        gw1 = self.lab.gw1
        self.write()
        refused = gw1.gwctl("load", gw1.ipsec, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("quick enc aes-128-gcm: iked on Linux does not have it for child SAs", refused.stderr)


def samples(name):
    """A file of Deploy/examples/ike, and the same seen from the other gateway."""
    text = (ROOT / "Deploy" / "examples" / "ike" / name).read_text(encoding="ascii")
    pairs = ((GW1, GW2), (LAN1, LAN2), ("gw1", "gw2"))
    other = text
    for one, two in pairs:
        other = other.replace(one, "\0").replace(two, one).replace("\0", two)
    return text, other


def make_certificates(lab):
    """An authority and a certificate for each gateway, in folders laid out as isakmpd's."""
    authority = lab.folder / "authority"
    authority.mkdir(exist_ok=True)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
        "-subj", "/CN=authority of the lab", "-keyout", authority / "ca.key", "-out", authority / "ca.crt")
    for gateway in (lab.gw1, lab.gw2):
        folder, name = gateway.folder / "ike", f"{gateway.name}.example"
        for kind in ("ca", "certs", "private"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / "ca" / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
        key = folder / "private" / "local.key"
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", key, "-out", authority / f"{name}.csr")
        os.chmod(key, 0o600)
        (authority / "ext").write_text(f"subjectAltName=DNS:{name}\n", encoding="ascii")
        run("openssl", "x509", "-req", "-days", 2, "-in", authority / f"{name}.csr", "-CA", authority / "ca.crt",
            "-CAkey", authority / "ca.key", "-CAcreateserial", "-extfile", authority / "ext",
            "-out", folder / "certs" / f"{name}.crt")
