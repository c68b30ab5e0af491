"""Deploy/packaging/install into a folder: everything where the units and the documentation say it is; and away again."""

import os
import pathlib
import shutil
import tempfile

from lab.gateway import ROOT, program
from lab.namespace import run
from support import EndToEndTest


class Install(EndToEndTest):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="gw-install-"))
        self.addCleanup(shutil.rmtree, self.root)

    def install(self, *arguments):
        environment = dict(os.environ, GW_BIN_DIR=os.path.dirname(program("gwd")))
        run(str(ROOT / "Deploy/packaging/install"), "--destdir", str(self.root), *arguments, env=environment)

    def files(self):
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}

    def test_files_are_in_place(self):
        before = set(os.listdir(ROOT))
        self.install()
        unit = self.root / "usr/lib/systemd/system/gwd.service"
        self.assertEqual(unit.read_bytes(), (ROOT / "Deploy/systemd/gwd.service").read_bytes())
        for path in ("usr/sbin/gwd", "usr/bin/gwctl", "usr/lib/gw/libikeshim.so", "etc/gw/gateway.yaml",
                     "etc/gw/ipsec.conf", "usr/share/doc/gw/README.md"):
            self.assertIn(path, self.files())
        self.assertEqual(os.readlink(self.root / "usr/sbin/ipsecctl"), "../bin/gwctl")
        self.assertEqual(set(os.listdir(ROOT)), before, "nothing is put beside the sources")

    def test_key_daemons(self):
        units = {"charon": ("strongswan", "strongswan-starter"), "iked": ("openiked",), "libreswan": ("ipsec",)}
        for daemon, names in units.items():
            with self.subTest(daemon):
                self.install("--key-daemon", daemon)
                for name in names:
                    self.assertIn(f"usr/lib/systemd/system/{name}.service.d/gw.conf", self.files())
        self.install("--uninstall")
        left = [path for path in self.files() if not path.startswith("etc/")]
        self.assertEqual(left, [])
