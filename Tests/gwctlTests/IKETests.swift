import ConfigurationFiles
import ControlAPI
import ControlAPITesting
import Foundation
import IKEControl
import Testing

@testable import gwctl

@Suite struct IKETests {
  private static let rule = "ike esp from 192.168.60.0/24 to 172.20.1.0/24 peer 198.51.100.2 psk \"a secret\"\n"

  @Test func rulesTravelWithALoad() async throws {
    try await ToolFixture.with { fixture async throws in
      let file = try fixture.file("ipsec.conf", Self.rule)
      #expect(try await fixture.gwctl("load", file).status == 0)
      let ike = try #require(fixture.gateway.state.withLock { $0.loads.first?.ike.first })
      #expect(ike.name == "from-192.168.60.0/24-to-172.20.1.0/24" && ike.line == 1 && ike.file == file)
      guard case .psk(let key) = ike.authentication else { throw ControlError(.invalid, "no key") }
      #expect(Array(key.bytes) == Array("a secret".utf8))
      #expect(try await fixture.gwctl("delete", file).status == 0)
      #expect(fixture.gateway.state.withLock { $0.loads.last?.mode == .delete && $0.loads.last?.ike.count == 1 })
      // Without a FIFO there is no isakmpd: ipsecctl has gwd see to them too.
      #expect(try await fixture.ipsecctl("-f", file).status == 0)
      #expect(fixture.gateway.state.withLock { $0.loads.last?.mode == .add && $0.loads.last?.ike.count == 1 })
    }
  }

  @Test func rulesAsJSON() throws {
    let text = """
      ike dynamic ah transport proto tcp from 192.0.2.1 port 80 to 192.0.2.2 local 192.0.2.1 \\
        main enc aes-256-gcm group bp256 lifetime 90 srcid a@b.example dstid 192.0.2.2 psk "a secret" tag blue
      ike passive from any to any peer any quick enc chacha20-poly1305 group none

      """
    for rule in try IPsecConf.parse(text: text).connections() {
      let hidden = String(decoding: try APICoding.encode(rule), as: UTF8.self)
      #expect(!hidden.contains("psk"))
      let data = try APICoding.encode(rule, revealKeys: true)
      let again = try APICoding.decode(IKEConnection.self, from: data)
      #expect(try APICoding.encode(again, revealKeys: true) == data)
    }
    #expect(throws: ControlError.self) { try APICoding.decode(IKEConnection.self, from: Data("{}".utf8)) }
  }

  @Test func refusalsAndWaiting() async throws {
    try await ToolFixture.with { fixture async throws in
      let file = try fixture.file("ipsec.conf", "\n" + Self.rule)
      let rule = try IPsecConf.parse(file: file).connections()[0]
      fixture.gateway.state.withLock {
        $0.loadReport.ike = [IKEConnectionStatus(rule, .failed, reason: "invalid proposal")]
      }
      let refused = try await fixture.gwctl("load", file)
      #expect(refused.status == 1)
      #expect(
        refused.err == """
          \(file): 2: \(rule.name): invalid proposal
          gwctl: the key daemon has not taken all ike rules

          """)
      let classic = try await fixture.ipsecctl("-f", file)
      #expect(classic.status == 1)
      #expect(
        classic.err == "ipsecctl: \(rule.name): invalid proposal\nipsecctl: failed to add ike rule 0\n")
      fixture.gateway.state.withLock { $0.loadReport.ike = [IKEConnectionStatus(rule, .waiting)] }
      let waiting = try await fixture.gwctl("load", file)
      #expect(waiting.status == 0)
      #expect(waiting.err == "gwctl: 1 ike rule kept until the key daemon comes; see gwctl ike status\n")
    }
  }

  @Test func statusAndHolding() async throws {
    try await ToolFixture.with { fixture async throws in
      let rule = try IPsecConf.parse(text: Self.rule).connections()[0]
      fixture.gateway.state.withLock {
        $0.keyDaemon.waitingFor = "charon is not running?"
        $0.keyDaemon.connections = [IKEConnectionStatus(rule, .waiting, held: true)]
      }
      let status = try await fixture.gwctl("ike", "status")
      #expect(status.status == 0)
      #expect(status.out.contains("charon at /nonexistent/charon.vici\nwaiting: charon is not running?\n"))
      #expect(status.out.contains("active  waiting  torn down; gwctl ike connect brings it back\n"))
      var (up, down) = (IKEConnectionStatus(rule, .up), IKEConnectionStatus(rule, .down))
      up.upSince = Date().timeIntervalSince1970 - 7205
      (down.reason, down.nextTrySeconds) = ("received NO_PROPOSAL_CHOSEN notify error", 12)
      fixture.gateway.state.withLock { [up, down] in $0.keyDaemon.connections = [up, down] }
      let tunnels = try await fixture.gwctl("ike", "status").out
      #expect(
        tunnels.contains("active  up     for 2 h 0 min\n") || tunnels.contains("active  up     for 2 h\n"), "\(tunnels)"
      )
      #expect(tunnels.contains("active  down   received NO_PROPOSAL_CHOSEN notify error; asked for in 12 s\n"))
      let teardown = try await fixture.gwctl("ike", "teardown", rule.name)
      #expect(teardown.status == 69)
      #expect(teardown.err.contains("charon is not running? nobody answers at /nonexistent/charon.vici; start it"))
      #expect(
        fixture.gateway.state.withLock { $0.keyDaemonRequests } == [KeyDaemonRequest(.hold, names: [rule.name])])
      #expect(try await fixture.gwctl("ike", "capture", "start", "/tmp/x.pcap").status == 0)
      #expect(
        fixture.gateway.state.withLock { $0.keyDaemonRequests.last }
          == KeyDaemonRequest(.capture, path: "/tmp/x.pcap"))
    }
  }

  @Test func nobodyThere() async throws {
    try await ToolFixture.with { fixture async throws in
      let iked = try await fixture.gwctl("ike", "report", "--daemon", "iked", "--socket", "/nonexistent/iked.sock")
      #expect(iked.status == 69)
      #expect(iked.err.contains("iked is not running? nobody answers at /nonexistent/iked.sock"))
      #expect(try await fixture.gwctl("ike", "teardown").status == 64)
      #expect(try await fixture.gwctl("ike", "teardown", "x", "--all").status == 64)
      #expect(try await fixture.gwctl("ike", "debug", "ike", "9").status == 64)
      #expect(try await fixture.gwctl("ike", "debug", "nonsense", "1").status == 64)
      #expect(try await fixture.gwctl("ike", "capture").status == 64)
    }
  }

  @Test func printedConfigurations() async throws {
    try await ToolFixture.with { fixture async throws in
      let file = try fixture.file("ipsec.conf", Self.rule)
      let swanctl = try await fixture.gwctl("ike", "print-config", "swanctl", file)
      #expect(swanctl.status == 0 && swanctl.out.contains("esp_proposals = aes128-aes192-aes256-sha256-modp3072-esn"))
      #expect(!swanctl.out.contains("6120736563726574"))
      #expect(try await fixture.gwctl("ike", "print-config", "swanctl", "-k", file).out.contains("0x6120736563726574"))
      let iked = try await fixture.gwctl("ike", "print-config", "iked", file)
      #expect(iked.status == 1)
      #expect(iked.err.contains("quick auth hmac-sha2-256: iked on Linux does not have it"))
    }
  }
}
