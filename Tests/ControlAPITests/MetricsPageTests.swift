import ControlAPITesting
import Testing

@testable import ControlAPI

@Suite struct MetricsPageTests {
  private func page(_ tunnels: [TunnelStatus], all: Int) -> [Substring] {
    var status = GatewayStatus(version: "1")
    status.tunnels.up = all
    return MetricsPage(status: status, ports: [], workers: [], drops: [], tunnels: tunnels).text.split(separator: "\n")
  }

  @Test func tunnels() {
    var tunnel = Samples.tunnel
    tunnel.name = "say \"hi\"\n\\"
    let lines = page([tunnel], all: 5)
    let labels = #"tunnel="say \"hi\"\n\\",peer="198.51.100.2""#
    for line in [
      "gw_tunnel_up{\(labels)} 1", "gw_tunnel_rekeys_total{\(labels)} 3",
      "gw_tunnel_sent_bytes_total{\(labels)} 3000000",
      "gw_tunnel_dropped_packets_total{\(labels),reason=\"replay\"} 4",
      "gw_tunnel_dropped_packets_total{\(labels),reason=\"integrity\"} 0", "gw_tunnels_without_metrics 4",
      "gw_tunnels{state=\"up\"} 5",
    ] {
      #expect(lines.contains(Substring(line)), "\(line)")
    }
  }

  /// A tunnel that is down keeps its metrics.
  @Test func aTunnelThatIsDownIsStillThere() {
    var tunnel = Samples.tunnel
    tunnel.state = .down
    tunnel.associations = []
    let lines = page([tunnel], all: 1)
    #expect(lines.contains { $0.hasPrefix("gw_tunnel_up{") && $0.hasSuffix("} 0") })
    #expect(lines.contains { $0.hasPrefix("gw_tunnel_sent_bytes_total{") })
  }

  @Test func roundsAreAHistogram() {
    let rounds = RoundHistogram([(1500, 2), (3000, 1), (9_000_000_000, 1)], cyclesPerSecond: 1e9)
    #expect(rounds.count == 4 && rounds.counts[0] == 0 && rounds.counts[1] == 2 && rounds.counts[2] == 3)
    #expect(rounds.counts.last == 3)
    var worker = WorkerStatus(id: 0, lcore: 1, core: 1, socket: 0)
    worker.rounds = rounds
    let text = MetricsPage(status: GatewayStatus(version: "1"), ports: [], workers: [worker], drops: []).text
    #expect(text.contains("gw_worker_round_seconds_bucket{worker=\"0\",core=\"1\",le=\"+Inf\"} 4\n"))
    #expect(text.contains("gw_worker_round_seconds_count{worker=\"0\",core=\"1\"} 4\n"))
  }
}

@Suite struct TunnelQueryTests {
  private func read(_ query: TunnelQuery) throws -> TunnelQuery {
    let parts = query.path.split(separator: "?", maxSplits: 1)
    let pairs = (parts.count > 1 ? parts[1].split(separator: "&") : []).map {
      $0.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    }
    return try TunnelQuery { name in pairs.filter { $0[0] == name }.map { $0[1] } }
  }

  @Test func everythingReadsBack() throws {
    #expect(try read(TunnelQuery()) == TunnelQuery())
    var query = TunnelQuery()
    query.name = "gw/ñet & 100 %=?\n"
    query.filter = "a+b"
    query.states = [.down, .connecting]
    query.order = .drops
    query.offset = 3
    query.limit = 7
    query.withAssociations = false
    query.withHistory = true
    #expect(try read(query) == query)
  }

  @Test func refuses() {
    for (name, value) in [
      ("state", "sideways"), ("sort", "size"), ("limit", "0"), ("limit", "x"), ("sas", "2"), ("name", "%zz"),
      ("offset", "-1"), ("filter", "%ff"),
    ] {
      #expect(throws: ControlError.self, "\(name)=\(value)") { try TunnelQuery { $0 == name ? [value] : [] } }
    }
  }
}
