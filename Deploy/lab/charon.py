"""strongSwan's charon, as Debian packages it, keying a gateway of the lab through libikeshim.so."""

import os
import pathlib
import subprocess

from .gateway import program, write_private
from .namespace import CommandFailed, run, stop_process, wait_for

PLUGINS = ("nonce aes sha1 sha2 hmac kdf gcm xcbc gmp openssl random x509 pubkey pem "
           "pkcs1 pkcs8 kernel-netlink socket-default vici updown counters")


class Charon:
    """One charon in a gateway's namespace: its settings, log and VICI socket lie in the gateway's folder."""

    def __init__(self, gateway, settings="", plugins=PLUGINS, has_shim=True):
        """`settings`: more of strongswan.conf's, within charon-systemd. Without the shim it keys who its plugins say."""
        self.gateway = gateway
        self.more_settings = settings
        self.plugins = plugins
        self.has_shim = has_shim
        self.folder = pathlib.Path(gateway.folder) / "charon"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "charon.log"
        self.vici = self.folder / "vici.sock"
        self.settings = self.folder / "strongswan.conf"
        self.process = None

    def environment(self):
        return {**os.environ, "STRONGSWAN_CONF": str(self.settings)}

    def start(self):
        self.settings.write_text(f"""
charon-systemd {{
  load = {self.plugins}
  install_routes = no
  retransmit_tries = 3
  retransmit_timeout = 1.0
  {self.more_settings}
  plugins {{ vici {{ socket = unix://{self.vici} }} }}
  filelog {{ main {{ path = {self.log}
      default = 1
      knl = 1
      flush_line = yes }} }}
  journal {{ default = -1 }}
}}
include {self.folder}/debug*.conf
""", encoding="ascii")
        self.vici.unlink(missing_ok=True)
        shim = [f"LD_PRELOAD={program('libikeshim.so')}", f"GW_RUN_DIR={self.gateway.run_dir}"] if self.has_shim else []
        with open(self.folder / "output", "ab") as output:
            self.process = self.gateway.space.popen(
                "env", *shim, "/usr/sbin/charon-systemd", env=self.environment(), stdout=output,
                stderr=subprocess.STDOUT)
        wait_for(self._answers, 20, f"{self.gateway.name}: charon answers")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise CommandFailed(f"{self.gateway.name}: charon ended with exit {self.process.returncode}\n"
                                f"{self.log_tail()}")
        return self.vici.exists() and self.swanctl("--stats", check=False).returncode == 0

    def load(self, text):
        """Connections and secrets, as swanctl.conf has them."""
        file = self.folder / "swanctl.conf"
        write_private(file, text)
        self.swanctl("--load-all", "--noprompt", "--file", file)

    def swanctl(self, command, *arguments, check=True, timeout=30):
        return run("/usr/sbin/swanctl", command, "--uri", f"unix://{self.vici}", *arguments, check=check,
                   timeout=timeout, env=self.environment())

    def initiate(self, child="net", timeout=20):
        return self.swanctl("--initiate", "--child", child, "--timeout", timeout, timeout=timeout + 10)

    def stop(self):
        if self.process is not None:
            stop_process(self.process, grace=5)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def log_text(self):
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=25):
        text = ""
        for file in (self.folder / "output", self.log):
            if file.exists():
                said = file.read_text(encoding="utf-8", errors="replace").splitlines()
                text += "\n".join([line for line in said if "[LIB]" not in line][-lines:]) + "\n"
        return text


def connection(local, remote, local_ts, remote_ts, esp="aes128gcm16-esn", mode="tunnel", child_options="", options="",
               local_id=None, remote_id=None, certificate=None):
    """swanctl.conf of one side of a connection `gw` with one child `net`: a pre-shared key, or a `certificate` (a file
    of the folder x509 beside it), the peer then known by its name alone. Identities are the addresses by default."""
    local_id, remote_id = local_id or local, remote_id or remote
    auth = "pubkey" if certificate else "psk"
    certificates = f"certs = {certificate}" if certificate else ""
    secrets = "" if certificate else f"""
secrets {{ ike-gw {{
  id-1 = {local_id}
  id-2 = {remote_id}
  secret = "a secret of the lab" }} }}
"""
    return f"""
connections {{
  gw {{
    version = 2
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = aes256gcm16-prfsha256-ecp256
    dpd_delay = 2s
    {options}
    local {{ auth = {auth}
      {certificates}
      id = {local_id} }}
    remote {{ auth = {auth}
      id = {remote_id} }}
    children {{
      net {{
        local_ts = {local_ts}
        remote_ts = {remote_ts}
        esp_proposals = {esp}
        mode = {mode}
        {child_options}
      }}
    }}
  }}
}}
{secrets}"""
