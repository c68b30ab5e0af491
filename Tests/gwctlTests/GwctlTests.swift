import ControlAPI
import ControlAPITesting
import Foundation
import IPsec
import Testing

@testable import gwctl

@Suite struct GwctlTests {
  @Test func everyShowHasATableAndJSON() async throws {
    try await ToolFixture.with { fixture async throws in
      for what in ["sa", "flow", "ports", "workers", "drops", "routes", "neighbors", "engines", "status"] {
        let table = try await fixture.gwctl("show", what)
        #expect(table.status == 0 && !table.out.isEmpty && table.err.isEmpty, "\(what): \(table)")
        let json = try await fixture.gwctl("show", what, "--json")
        #expect(json.status == 0)
        _ = try JSONSerialization.jsonObject(with: Data(json.out.utf8))
      }
      #expect(try await fixture.gwctl("status").out == fixture.gwctl("show", "status").out)
    }
  }

  /// One version for the programs and the API.
  @Test func theVersionIsTheGateways() async throws {
    try await ToolFixture.with { fixture async throws in
      #expect(try await fixture.gwctl("--version").out == ProductVersion.current + "\n")
      #expect(
        try await fixture.run(ToolFixture.products + "/gwd", ["--version"], nil).out == ProductVersion.current + "\n")
    }
  }

  @Test func keysAreShownOnRequestOnly() async throws {
    try await ToolFixture.with { fixture async throws in
      for arguments in [["show", "sa", "-vv"], ["show", "sa", "--json"]] {
        let result = try await fixture.gwctl(arguments[0], arguments[1], arguments[2])
        #expect(!result.out.contains("a0a1a2a3"))
      }
      #expect(try await fixture.gwctl("show", "sa", "-k").out.contains("authkey 0xa0a1a2a3"))
    }
  }

  @Test func loadIsOneTransaction() async throws {
    try await ToolFixture.with { fixture async throws in
      let file = try fixture.file("ipsec.conf", Example.conf)
      #expect(try await fixture.gwctl("load", "-n", file).status == 0)
      #expect(fixture.gateway.state.withLock { $0.loads.isEmpty })
      fixture.gateway.state.withLock {
        $0.loadReport.sasAdded = 2
        $0.loadReport.policiesAdded = 2
      }
      let result = try await fixture.gwctl("load", "-v", file)
      #expect(result.status == 0)
      #expect(result.err == "gwctl: 2 SAs added, 2 flows added\n")
      let load = try #require(fixture.gateway.state.withLock { $0.loads.first })
      #expect(load.mode == .replace && load.isAtomic && load.rules.count == 4)
      guard case .sa(let sa) = load.rules[0] else {
        Issue.record("no SA")
        return
      }
      #expect(sa.spi == 0x1000 && sa.transform.encryptionKey.revealedHex() == Example.encryptionKey)
    }
  }

  @Test func refusedRulesAreNamedByTheirLines() async throws {
    try await ToolFixture.with { fixture async throws in
      let file = try fixture.file("ipsec.conf", Example.conf)
      let failures = [LoadReport.Failure(rule: 2, ControlError(.exists, "the flow already exists"))]
      fixture.gateway.state.withLock { $0.loadReport.failures = failures }
      let reported = try await fixture.gwctl("load", file)
      #expect(reported.status == 1)
      #expect(reported.err == "\(file): 2: the flow already exists\ngwctl: nothing was changed\n")
      fixture.gateway.state.withLock { $0.failure = ControlError(.exists, "no", failures: failures) }
      #expect(try await fixture.gwctl("load", file).err == reported.err)
    }
  }

  @Test func macrosAndErrorsInFiles() async throws {
    try await ToolFixture.with { fixture async throws in
      let file = try fixture.file("m.conf", "flow esp from $a to 10.2.0.0/16 peer 192.0.2.1\n")
      let missing = try await fixture.gwctl("check", file)
      #expect(missing.status == 78)
      #expect(missing.err.hasPrefix("\(file): 1: macro 'a' not defined\n"))
      let good = try await fixture.gwctl("check", "-D", "a=10.1.0.0/16", file)
      #expect(good.status == 0)
      #expect(good.out == "\(file): 0 SAs, 2 flows, 0 bundles, 0 ike rules\n")
    }
  }

  @Test func checkReadsGatewayYAMLToo() async throws {
    try await ToolFixture.with { fixture async throws in
      let rules = try fixture.file("ipsec.conf", Example.conf)
      let yaml = try fixture.file(
        "gateway.yaml", "ports:\n  - name: wan\n    device: net_null0\n    host: false\nipsec: \(rules)\n")
      let good = try await fixture.gwctl("check", yaml)
      #expect(good.status == 0, "\(good)")
      #expect(good.out == "\(yaml): 1 port, 0 routes, 0 neighbors\n\(rules): 2 SAs, 2 flows, 0 bundles, 0 ike rules\n")
      let bad = try await fixture.gwctl("check", try fixture.file("bad.yml", "prots: []\n"))
      #expect(bad.status == 78 && bad.err.contains("bad.yml:1"))
    }
  }

  @Test func flushReloadAndTheirRefusals() async throws {
    try await ToolFixture.with { fixture async throws in
      #expect(try await fixture.gwctl("flush", "-v", "sa").out == "flushed: 1 SA, 2 flows\n")
      #expect(try await fixture.gwctl("flush").status == 0)
      #expect(fixture.gateway.state.withLock { $0.flushes } == [.sa, .all])
      #expect(try await fixture.gwctl("reload").out == "1 flow added\n")
      fixture.gateway.state.withLock {
        $0.reloadReport = ReloadReport(atSeconds: 0, succeeded: false, messages: ["gateway.yaml:3: no"])
      }
      let refused = try await fixture.gwctl("reload")
      #expect(refused.status == 78 && refused.err.hasPrefix("gwctl: gateway.yaml:3: no\n"))
      fixture.gateway.state.withLock { $0.failure = ControlError(.unavailable, "the gateway is starting") }
      let starting = try await fixture.gwctl("status")
      #expect(starting.status == 69 && starting.err == "gwctl: the gateway is starting\n")
    }
  }

  @Test func deleteReportsWhatWasNotThere() async throws {
    try await ToolFixture.with { fixture async throws in
      fixture.gateway.state.withLock {
        $0.loadReport.sasDeleted = 1
        $0.loadReport.failures = [.init(rule: 1, ControlError(.notFound, "no such SA"))]
      }
      let file = try fixture.file("ipsec.conf", Example.conf)
      let result = try await fixture.gwctl("delete", file)
      #expect(result.status == 1)
      #expect(result.err == "\(file): 5: no such SA\ngwctl: not all could be deleted\n")
      #expect(fixture.gateway.state.withLock { $0.loads.first?.mode } == .delete)
    }
  }

  @Test func monitorFollows() async throws {
    try await ToolFixture.with { fixture async throws in
      let monitor = Task { try await fixture.gwctl("monitor") }
      for _ in 0..<500 where fixture.gateway.broadcaster.readerCount == 0 {
        try await Task.sleep(for: .milliseconds(10))
      }
      fixture.gateway.broadcaster.publish(.saExpired(Samples.record, hard: true))
      fixture.gateway.broadcaster.publish(.reloaded(ReloadReport(atSeconds: 0, succeeded: true, messages: [])))
      fixture.gateway.broadcaster.finish()
      let result = try await monitor.value
      #expect(result.out.contains("Z SA expired (hard): ah transport from 198.51.100.1 to 2001:db8::2 spi 0xdeadbeef"))
      #expect(result.out.contains("Z reload done\n"))
      #expect(result.status == 69 && result.err == "gwctl: gwd closed the connection\n")
    }
  }

  @Test func withoutAGatewayAndWithWrongUsage() async throws {
    try await ToolFixture.with { fixture async throws in
      let away = try await fixture.gwctl("--run-dir", "/nonexistent", "status")
      #expect(away.status == 69)
      #expect(away.err == "gwctl: gwd is not running? no socket at /nonexistent/gwctl.sock\n")
      #expect(try await fixture.gwctl("frobnicate").status == 64)
      #expect(try await fixture.gwctl("flush", "everything").status == 64)
      #expect(try await fixture.gwctl("--help").status == 0)
      #expect(try await fixture.gwctl("--generate-completion-script", "bash").out.contains("gwctl"))
    }
  }
}
