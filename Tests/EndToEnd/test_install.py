"""Deploy/packaging/install into a folder: everything where the units and the documentation say it is; and away again."""

import os
import pathlib
import re
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

    def test_keys_are_roots_alone(self):
        self.install()
        etc = self.root / "etc/gw"
        for path in (etc / "ipsec.conf", etc / "keys", etc / "ike", etc / "ike/private", self.root / "var/lib/gw"):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    def test_the_group_of_the_api_reads_no_keys(self):
        """The whole machine as an overlay, in which install does what it does without --destdir."""
        upper = self.root / "upper"
        upper.mkdir()
        script = f"""
            set -e
            mount -t tmpfs none {upper}
            for folder in etc usr var; do
              mkdir -p {upper}/$folder {upper}/$folder.work
              mount -t overlay none -o lowerdir=/$folder,upperdir={upper}/$folder,workdir={upper}/$folder.work /$folder
            done
            mkdir -p /run/systemd && mount -t tmpfs none /run/systemd
            getent group gw >/dev/null || groupadd --system gw
            # As an earlier release left it.
            mkdir -p /etc/gw/keys && echo key >/etc/gw/ipsec.conf && echo key >/etc/gw/keys/old
            chmod 0640 /etc/gw/ipsec.conf /etc/gw/keys/old && chgrp -R gw /etc/gw && chmod 0750 /etc/gw/keys
            Deploy/packaging/install >&2
            echo key >/etc/gw/ike/private/local.key
            as_member() {{ setpriv --reuid nobody --regid gw --clear-groups "$@"; }}
            as_member cat /etc/gw/gateway.yaml >/dev/null
            for file in ipsec.conf keys/old ike/private/local.key; do
              if as_member cat /etc/gw/$file; then echo "$file is read"; fi
            done
            """
        environment = dict(os.environ, GW_BIN_DIR=os.path.dirname(program("gwd")))
        overlay = run("unshare", "-m", "sh", "-c", f"mkdir {upper}/m && mount -t tmpfs none {upper}/m && cd {upper}/m "
                      "&& mkdir u w && mount -t overlay none -o lowerdir=/etc,upperdir=u,workdir=w /mnt", check=False)
        if overlay.returncode != 0:
            self.skipTest(f"no overlay file system here: {overlay.stderr.strip()}")
        done = run("unshare", "-m", "bash", "-c", f"cd {ROOT} && {script}", env=environment)
        self.assertEqual(done.stdout, "")

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


class Library(EndToEndTest):
    """libikeshim.so goes into programs that AppArmor confines: it may need nothing but the C library."""

    def test_it_is_plain_c(self):
        library = program("libikeshim.so")
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", library).stdout)
        self.assertEqual(set(needed) - {"libc.so.6"}, set())
        self.assertNotIn("RUNPATH", run("readelf", "-d", library).stdout)
        self.assertNotIn("swift", run("readelf", "-SW", library).stdout)

    def test_a_daemons_unit_gives_it_to_nothing_else(self):
        for path in sorted((ROOT / "Deploy/systemd").glob("*.service.d/gw.conf")):
            with self.subTest(path.parent.name):
                lines = [line for line in path.read_text().splitlines() if "LD_PRELOAD" in line]
                self.assertEqual([line.split()[0] for line in lines], ["ExecStart=/usr/bin/env"])
