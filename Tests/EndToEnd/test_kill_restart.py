"""kill -9 of a gateway and a new start: traffic resumes by itself, nothing is to be cleaned up by hand."""

import time

from lab.namespace import wait_for
from lab.topology import HOST1, HOST2, ping
from support import TwoGatewaysTest


class KillRestart(TwoGatewaysTest):
    time_limit = 180

    def resumes(self):
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=1)[1] == 1, 20, "traffic resuming")
        self.assertEqual(ping(self.lab.lan1, HOST2, count=20, interval=0.05), (20, 20))
        self.assertEqual(ping(self.lab.lan2, HOST1, count=20, interval=0.05), (20, 20))

    def restart(self, gateway):
        """Kills under load, starts anew."""
        load = self.lab.lan1.popen("ping", "-n", "-q", "-i", "0.002", HOST2)
        time.sleep(2)
        gateway.kill()
        time.sleep(0.5)
        gateway.start()
        load.terminate()

    def test_kill_the_sender(self):
        self.restart(self.lab.gw1)
        self.resumes()

    def test_kill_the_receiver(self):
        self.restart(self.lab.gw2)
        self.resumes()

    def test_kill_both_three_times(self):
        for _ in range(3):
            self.lab.gw1.kill()
            self.lab.gw2.kill()
            self.lab.gw1.start()
            self.lab.gw2.start()
            self.resumes()

    def test_nothing_in_clear_while_down(self):
        inner = self.lab.metered()["inner"]
        self.restart(self.lab.gw1)
        self.resumes()
        self.assertEqual(self.lab.metered()["inner"], inner)

    def test_orderly_stop_leaves_nothing(self):
        gateway = self.lab.gw2
        self.assertEqual(gateway.stop(), 0)
        links = gateway.space.run("ip", "-br", "link").stdout
        self.assertNotIn("wan ", links.replace("p-wan", ""))
        self.assertEqual([path.name for path in gateway.run_dir.glob("*.sock")], [])
        gateway.start()
        self.resumes()

    def test_second_daemon_on_one_run_directory_is_refused(self):
        from lab.gateway import program
        done = self.lab.gw1.space.run(program("gwd"), "--config", self.lab.gw1.config, "--run-dir",
                                      self.lab.gw1.run_dir, check=False, timeout=20)
        self.assertGreater(done.returncode, 0)
        self.assertTrue(self.lab.gw1.is_running)
        self.resumes()
