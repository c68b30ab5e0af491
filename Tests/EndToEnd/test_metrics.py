"""/metrics read by a real Prometheus: what it scrapes, the alerts, and every query of the dashboard."""

import json
import pathlib
import re
import time
import unittest

from lab.namespace import run, stop_process, wait_for
from lab.topology import HOST2, ping
from support import EndToEndTest, TwoGatewaysTest
from test_ike import NAME1

MONITORING = pathlib.Path(__file__).resolve().parents[2] / "Deploy" / "monitoring"
PORT, PROMETHEUS = 9101, "127.0.0.1:9190"


def dashboard_queries():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], re.sub(r"\$(instance|tunnel)\b", ".*", target["expr"])


class RulesTest(EndToEndTest):
    """What promtool says without a gateway."""

    def test_rules_are_right(self):
        run("promtool", "check", "rules", MONITORING / "gw-rules.yml")
        run("promtool", "test", "rules", MONITORING / "gw-rules-test.yml")

    def test_each_alert_is_tested(self):
        rules = (MONITORING / "gw-rules.yml").read_text(encoding="utf-8")
        tests = (MONITORING / "gw-rules-test.yml").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"alert: (\w+)", rules)), set(re.findall(r"alertname: (\w+)\n", tests)))


class PrometheusTest(TwoGatewaysTest):
    """Prometheus in the namespace of the first gateway. Of its four tunnels three may have metrics."""

    options = {"settings": {"metrics": f'{{listen: "127.0.0.1:{PORT}", tunnels: 3}}'}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.lab.folder / "prometheus"
        folder.mkdir()
        # The same rules, which do not wait for a minute.
        rules = re.sub(r"for: \d+m", "for: 1s", (MONITORING / "gw-rules.yml").read_text(encoding="utf-8"))
        (folder / "rules.yml").write_text(rules, encoding="utf-8")
        (folder / "prometheus.yml").write_text(f"""\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: gw
    static_configs: [{{targets: ["127.0.0.1:{PORT}"]}}]
""", encoding="utf-8")
        with open(folder / "log", "ab") as log:
            process = cls.lab.gw1.space.popen(
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={PROMETHEUS}", stdout=log, stderr=log)
        cls.addClassCleanup(stop_process, process)
        wait_for(lambda: cls.ask("up") and cls.ask("up")[0]["value"][1] == "1", 30, "Prometheus scrapes the gateway")

    @classmethod
    def get(cls, path, *arguments):
        said = cls.lab.gw1.space.run("curl", "-sG", "--max-time", 5, f"http://{PROMETHEUS}/api/v1/{path}", *arguments,
                                     check=False)
        # It has other words while it starts.
        return json.loads(said.stdout)["data"] if said.stdout.startswith("{") else None

    @classmethod
    def ask(cls, query):
        data = cls.get("query", "--data-urlencode", f"query={query}")
        return data["result"] if data else []

    def value(self, query):
        result = self.ask(query)
        self.assertEqual(len(result), 1, query)
        return float(result[0]["value"][1])

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def page(self):
        return run("curl", "-s", "--unix-socket", self.lab.gw1.run_dir / "gwctl.sock", "http://gw/metrics").stdout

    def test_promtool_has_no_complaint(self):
        checked = run("promtool", "check", "metrics", stdin=self.page())
        self.assertEqual((checked.stdout + checked.stderr).strip(), "")

    def test_every_query_of_the_dashboard_has_data(self):
        self.assertEqual(ping(self.lab.lan1, HOST2, count=20, interval=0.1)[1] > 0, True)
        for title, query in dashboard_queries():
            wait_for(lambda q=query: self.ask(q), 15, f"{title}: {query} returns data")

    def test_numbers_agree_and_are_bounded(self):
        ping(self.lab.lan1, HOST2, count=10, interval=0.1)
        tunnel = next(t for t in self.lab.gw1.show("tunnels") if t["name"] == NAME1)
        self.assertEqual(self.value("count(gw_tunnel_up)"), 3)
        self.assertEqual(self.value("gw_tunnels_without_metrics"), 1)
        self.assertEqual(self.value('gw_tunnels{state="static"}'), 4)
        query = f'gw_tunnel_sent_packets_total{{tunnel="{NAME1}"}}'
        if not self.ask(query):
            self.skipTest("the tunnel is the one without metrics")
        wait_for(lambda: self.value(query) >= tunnel["sent"]["packets"], 5, "Prometheus has the packets")

    def test_tunnel_down_is_told_and_only_then(self):
        gw1 = self.lab.gw1
        time.sleep(3)
        self.assertNotIn("TunnelDown", self.firing())
        self.assertNotIn("GatewayGone", self.firing())
        gw1.gwctl("flush", "sa")
        try:
            wait_for(lambda: "TunnelDown" in self.firing(), 20, "the alert fires")
            self.assertNotIn("GatewayGone", self.firing())
        finally:
            gw1.gwctl("load", gw1.ipsec)
        wait_for(lambda: "TunnelDown" not in self.firing(), 20, "the alert ends")

    def test_refused_reload_is_told(self):
        gw1 = self.lab.gw1
        good = gw1.config.read_text(encoding="ascii")
        gw1.config.write_text(good + "nonsense: true\n", encoding="ascii")
        try:
            gw1.gwctl("reload", check=False)
            wait_for(lambda: "ReloadFailed" in self.firing(), 20, "the alert fires")
        finally:
            gw1.config.write_text(good, encoding="ascii")
            gw1.gwctl("reload")
        wait_for(lambda: "ReloadFailed" not in self.firing(), 20, "the alert ends")


if __name__ == "__main__":
    unittest.main()
