import ControlAPI
import ControlAPITesting
import Foundation
import IPsec
import Testing

@testable import gwctl

/// The program under OpenBSD's name, its output and messages as OpenBSD's has them.
@Suite struct IpsecctlTests {
  private func empty(_ fixture: ToolFixture) {
    fixture.gateway.state.withLock { state in
      state.sas = []
      state.policies = []
      state.keepsLoads = true
    }
  }

  @Test func theExampleIsLoadedAndListed() async throws {
    try await ToolFixture.with { fixture async throws in
      empty(fixture)
      let load = try await fixture.ipsecctl("-f", try fixture.file("ipsec.conf", Example.conf))
      #expect(load.status == 0 && load.out.isEmpty && load.err.isEmpty, "\(load)")
      #expect(try await fixture.ipsecctl("-sflow").out == Example.flows)
      #expect(try await fixture.ipsecctl("-s", "sa").out == Example.sas)
      #expect(try await fixture.ipsecctl("-sa").out == "FLOWS:\n\(Example.flows)\nSAD:\n\(Example.sas)")
      let keys = try await fixture.ipsecctl("-ks", "sa").out
      #expect(
        keys.hasPrefix(
          """
          esp tunnel from 198.51.100.1 to 198.51.100.2 spi 0x00001000 auth hmac-sha2-256 enc aes \\
          \tauthkey 0x\(Example.authenticationKey) \\
          \tenckey 0x\(Example.encryptionKey)

          """))
    }
  }

  @Test func verboseShowsExtensionsInOrder() async throws {
    try await ToolFixture.with { fixture async throws in
      empty(fixture)
      _ = try await fixture.ipsecctl("-f", try fixture.file("ipsec.conf", Example.conf))
      let text = try await fixture.ipsecctl("-s", "sa", "-k", "-vv").out
      let first = text.components(separatedBy: "@0 esp").dropFirst().first ?? ""
      #expect(
        first.contains("\tsa: spi 0x00001000 auth hmac-sha2-256 enc aes\n\t\tstate mature replay 0 flags 0x4<tunnel>\n")
      )
      #expect(first.contains("\taddress_src: 198.51.100.1\n\taddress_dst: 198.51.100.2\n"))
      #expect(first.contains("\tkey_auth: bits 256: \(Example.authenticationKey)\n"))
      #expect(first.contains("\tkey_encrypt: bits 128: \(Example.encryptionKey)\n"))
      #expect(first.contains("\t\t0 input packets\n\t\t0 output packets\n"))
    }
  }

  @Test func anEmptyGatewaySaysSo() async throws {
    try await ToolFixture.with { fixture async throws in
      empty(fixture)
      #expect(try await fixture.ipsecctl("-s", "all").out == "FLOWS:\nNo flows\n\nSAD:\nNo entries\n")
      #expect(try await fixture.ipsecctl("-s", "flow").out == "")
    }
  }

  @Test func noActionPrintsAndChangesNothing() async throws {
    try await ToolFixture.with { fixture async throws in
      let result = try await fixture.ipsecctl("-nvFf", "-", input: Example.conf)
      #expect(result.status == 0)
      #expect(result.out.hasPrefix("lan1 = \"192.168.60.0/24\"\nflow esp out from 192.168.60.0/24"))
      #expect(fixture.gateway.state.withLock { $0.loads.isEmpty && $0.flushes.isEmpty })
      let second = try await fixture.ipsecctl("-nvv", "-D", "unused=1", "-f", "-", input: Example.conf)
      #expect(second.err == "warning: macro 'unused' not used\n")
      #expect(second.out.contains("\n@0 flow esp out from 192.168.60.0/24"))
    }
  }

  /// To one file, as a shell's `2>&1`: what is said comes first, and in lines of its own, however much is shown.
  @Test func warningsComeBeforeTheOutput() async throws {
    try await ToolFixture.with { fixture async throws in
      let flows = (0..<100).map { "flow esp from 10.0.\($0).0/24 to 10.1.0.0/16 peer 192.0.2.1\n" }.joined()
      let mismatch = ["one", "two"].map { "ike esp from 10.1.0.0/16 to 10.2.0.0/16 peer any psk \($0)\n" }.joined()
      let file = try fixture.file("ipsec.conf", flows + mismatch)
      let result = try await fixture.run(
        "/bin/sh", ["-c", "\(fixture.directory)/ipsecctl -nvv -D unused=1 -f \(file) 2>&1"])
      let lines = result.out.split(separator: "\n", omittingEmptySubsequences: false)
      #expect(
        lines.prefix(3) == [
          "\(file): 102: default peer psk mismatch", "warning: macro 'unused' not used",
          "@0 flow esp out from 10.0.0.0/24 to 10.1.0.0/16 peer 192.0.2.1 type require",
        ], "\(lines.prefix(5))")
      #expect(lines.dropFirst(3).allSatisfy { !$0.contains("mismatch") && !$0.contains("warning") })
    }
  }

  @Test func flushAndDelete() async throws {
    try await ToolFixture.with { fixture async throws in
      #expect(try await fixture.ipsecctl("-F").status == 0)
      let file = try fixture.file("ipsec.conf", Example.conf)
      #expect(try await fixture.ipsecctl("-d", "-f", file).status == 0)
      let (flushes, loads) = fixture.gateway.state.withLock { ($0.flushes, $0.loads) }
      #expect(flushes == [.all])
      #expect(loads.first?.mode == .delete && loads.first?.isAtomic == false)
    }
  }

  @Test func rulesThatFailAreNumbered() async throws {
    try await ToolFixture.with { fixture async throws in
      // SAs go first: 0 and 1 are the file's rules 2 and 3, the flows 2 and 3 its rules 0 and 1.
      fixture.gateway.state.withLock {
        $0.loadReport.failures = [
          .init(rule: 0, ControlError(.full, "too many")), .init(rule: 1, ControlError(.exists, "there")),
          .init(rule: 3, ControlError(.invalid, "odd")),
        ]
      }
      let result = try await fixture.ipsecctl("-f", try fixture.file("ipsec.conf", Example.conf))
      #expect(result.status == 1)
      #expect(
        result.err == """
          ipsecctl: PF_KEY failed: Invalid argument
          ipsecctl: failed to add rule 1
          ipsecctl: PF_KEY failed: No buffer space available
          ipsecctl: failed to add rule 2

          """)
    }
  }

  @Test func errorsInTheFile() async throws {
    try await ToolFixture.with { fixture async throws in
      let result = try await fixture.ipsecctl("-f", "-", input: "flow esp from 10.0.0.0/8\n")
      #expect(result.status == 1)
      #expect(
        result.err == """
          stdin: 1: syntax error
          ipsecctl: Syntax error in config file: ipsec rules not loaded

          """)
      #expect(fixture.gateway.state.withLock { $0.loads.isEmpty })
    }
  }

  @Test func ikeRulesGoToTheFIFO() async throws {
    try await ToolFixture.with { fixture async throws in
      let rule = "ike esp from 192.168.60.0/24 to 172.20.1.0/24 peer 198.51.100.2 psk secret\n"
      let fifo = fixture.directory + "/isakmpd.fifo"
      #expect(mkfifo(fifo, 0o600) == 0)
      let reader = Task { try await fixture.run("/bin/cat", [fifo]).out }
      let result = try await fixture.ipsecctl("-i", fifo, "-f", "-", input: rule)
      #expect(result.status == 0, "\(result)")
      let sent = try await reader.value
      #expect(try await fixture.ipsecctl("-nv", "-f", "-", input: rule).out == sent)
      #expect(sent.contains("C add [Phase 2]:Connections=from-192.168.60.0/24-to-172.20.1.0/24\n"))
      let missing = try await fixture.ipsecctl("-i", "/nonexistent", "-f", "-", input: rule)
      #expect(missing.status == 1)
      #expect(missing.err == "ipsecctl: ike_ipsec_establish: open(/nonexistent): No such file or directory\n")
    }
  }

  @Test func monitorPrintsMessages() async throws {
    try await ToolFixture.with { fixture async throws in
      let monitor = Task { try await fixture.ipsecctl("-m") }
      for _ in 0..<500 where fixture.gateway.broadcaster.readerCount == 0 {
        try await Task.sleep(for: .milliseconds(10))
      }
      fixture.gateway.broadcaster.publish(.saAdded(Samples.record))
      fixture.gateway.broadcaster.publish(.policiesFlushed)
      let request = AcquireRequest(
        sequence: 77, policy: Samples.policy, template: Samples.template, packet: Samples.selector)
      fixture.gateway.broadcaster.publish(.acquire(request))
      fixture.gateway.broadcaster.finish()
      let result = try await monitor.value
      #expect(result.out.hasPrefix("sadb_add: satype ah vers 2 len "))
      #expect(result.out.contains("\nsadb_acquire: satype \(Samples.template.saProtocol) vers 2 len "))
      #expect(result.out.contains(" seq 77 pid 0\n"))
      #expect(result.out.contains("\nsadb_flush: satype unspec vers 2 len 2 seq "))
    }
  }
}
