"""libreswan's pluto, as Debian packages it, keying a gateway of the lab through libikeshim.so.

Its package and strongSwan's exclude each other, so it lies unpacked in ROOT (Deploy/install-dependencies puts it there) and
its programs are mounted over /usr/libexec for pluto alone."""

import os
import pathlib
import subprocess

from .gateway import program, write_private
from .namespace import CommandFailed, run, stop_process, wait_for

ROOT = pathlib.Path("/var/cache/gw-lab/libreswan")
PROGRAMS = ROOT / "usr/libexec/ipsec"
# ip netns exec has given it a mount namespace of its own.
START = 'mount --bind "$1" /usr/libexec && shift && exec "$@"'


class Libreswan:
    """One pluto in a gateway's namespace: its configuration, keys, log and control socket lie in the gateway's folder."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.folder = pathlib.Path(gateway.folder) / "libreswan"
        self.certificates = self.folder / "nss"
        self.certificates.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "pluto.log"
        self.control = self.folder / "pluto.ctl"
        self.process = None
        if not (self.certificates / "cert9.db").exists():
            run("certutil", "-N", "-d", f"sql:{self.certificates}", "--empty-password")

    def import_certificate(self, folder, name):
        """The authority's certificate, `name`'s and its key, as make_certificates has laid them out for charon."""
        database = f"sql:{self.certificates}"
        run("certutil", "-A", "-d", database, "-n", "authority", "-t", "CT,,", "-i", folder / "x509ca/ca.crt")
        bundle = self.folder / f"{name}.p12"
        run("openssl", "pkcs12", "-export", "-name", name, "-passout", "pass:", "-in", folder / f"x509/{name}.crt",
            "-inkey", folder / f"private/{name}.key", "-out", bundle)
        run("pk12util", "-i", bundle, "-d", database, "-W", "")

    def start(self, text, secrets=""):
        """`text`, `secrets`: what /etc/ipsec.conf and /etc/ipsec.secrets have. Connections that it does not start are
        ready when this returns."""
        write_private(self.folder / "ipsec.conf", text)
        write_private(self.folder / "ipsec.secrets", secrets)
        self.control.unlink(missing_ok=True)
        with open(self.log, "ab") as output:
            self.process = self.gateway.space.popen(
                "sh", "-c", START, "pluto", PROGRAMS.parent,
                "env", f"LD_PRELOAD={program('libikeshim.so')}", f"GW_RUN_DIR={self.gateway.run_dir}",
                f"PATH={ROOT}/usr/sbin:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
                "/usr/libexec/ipsec/pluto", "--nofork", "--stderrlog", "--config", self.folder / "ipsec.conf",
                "--rundir", self.folder, "--secretsfile", self.folder / "ipsec.secrets",
                "--ipsecdir", self.folder, "--nssdir", self.certificates, "--dumpdir", self.folder,
                stdout=output, stderr=subprocess.STDOUT)
        wait_for(self._answers, 30, f"{self.gateway.name}: pluto has its connections")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise CommandFailed(f"{self.gateway.name}: pluto ended with exit {self.process.returncode}\n"
                                f"{self.log_tail()}")
        status = self.whack("--status", check=False).stdout if self.control.exists() else ""
        return "Total IPsec connections: " in status and "Total IPsec connections: loaded 0," not in status

    def whack(self, *words, check=True, timeout=30):
        return run(PROGRAMS / "whack", "--ctlsocket", self.control, *words, check=check, timeout=timeout)

    def initiate(self, name="gw"):
        """Waits until it is up; pluto's own words are its result."""
        return self.whack("--name", name, "--initiate").stdout

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.whack("--shutdown", check=False)
            stop_process(self.process, grace=5)

    def log_text(self):
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=25):
        return "\n".join(f"  {self.gateway.name} pluto| {line}" for line in self.log_text().splitlines()[-lines:])


def connection(local, remote, local_ts, remote_ts, phase2="aes_gcm128-null", options=(), local_id=None, remote_id=None,
               certificate=None):
    """ipsec.conf and ipsec.secrets of one side of a connection `gw`: a pre-shared key, or the `certificate` of this name.
    `options` are more lines of it. Identities are the addresses by default."""
    local_id, remote_id = local_id or local, remote_id or remote
    auth = [f"leftcert={certificate}", "authby=ecdsa", "leftsendcert=always"] if certificate else ["authby=secret"]
    lines = [*auth, "ikev2=insist", f"left={local}", f"leftid={local_id}", f"leftsubnet={local_ts}",
             f"right={remote}", f"rightid={remote_id}", f"rightsubnet={remote_ts}",
             "ike=aes_gcm256-sha2_256-ecp_256", f"phase2alg={phase2}", "auto=add", *options]
    text = "conn gw\n" + "".join(f"    {line}\n" for line in lines)
    return text, "" if certificate else f'{local_id} {remote_id} : PSK "a secret of the lab"\n'
