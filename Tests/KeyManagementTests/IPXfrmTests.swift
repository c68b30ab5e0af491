import CLayout
import Engines
import Foundation
@testable import IPsec
import KeyManagement
import Testing

/// Debian's iproute2 under the shim: the outside test of the XFRM codec.
@Suite(.serialized, .enabled(if: Shim.ip != nil && Shim.library != nil))
struct IPXfrmTests {
  private func ip(_ gateway: TestGateway, _ arguments: String...) -> Shim.Output {
    let words = arguments.flatMap { $0.split(separator: " ").map(String.init) }
    return Shim.run(Shim.ip!, ["xfrm"] + words, directory: gateway.directory)
  }

  private func withGateway(
    _ database: TestGateway.Database = .real, _ body: (TestGateway) throws -> Void
  ) throws {
    let gateway = try TestGateway(database)
    defer { gateway.stop() }
    try body(gateway)
  }

  static let gcm = gcm(0x13)

  /// With a key that ends so.
  static func gcm(_ last: UInt8) -> String {
    let digits = String(last, radix: 16)
    return "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f101112\(last < 16 ? "0" : "")\(digits) 128"
  }

  @Test func stateLifecycle() throws {
    try withGateway { gateway in
      let id = "src 10.9.0.1 dst 10.9.0.2 proto esp spi 0x00001001"
      var result = ip(gateway, "state add \(id) reqid 7 mode tunnel \(Self.gcm) flag esn replay-window 128")
      #expect(result.status == 0 && result.err.isEmpty, "\(result)")
      #expect(gateway.run { $0.store.saCount() } == 1)
      result = ip(gateway, "state list")
      #expect(
        result.out == """
          src 10.9.0.1 dst 10.9.0.2
          \tproto esp spi 0x00001001 reqid 7 mode tunnel
          \treplay-window 0 flag esn
          \taead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128
          \tanti-replay esn context:
          \t seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
          \t replay_window 128, bitmap-length 4
          \t 00000000 00000000 00000000 00000000 
          \tsel src 0.0.0.0/0 dst 0.0.0.0/0 

          """, "\(result)")
      result = ip(gateway, "state add \(id) mode tunnel \(Self.gcm)")
      #expect(result.status == 2 && result.err.contains("File exists"), "\(result)")
      result = ip(gateway, "state get \(id)")
      #expect(result.status == 0 && result.out.contains("spi 0x00001001"), "\(result)")
      result = ip(gateway, "state update \(id) reqid 9 mode tunnel \(Self.gcm)")
      #expect(result.status == 0, "\(result)")
      result = ip(gateway, "state count")
      #expect(result.out.contains("SAD count 1"), "\(result)")
      result = ip(gateway, "state delete \(id)")
      #expect(result.status == 0, "\(result)")
      result = ip(gateway, "state delete \(id)")
      #expect(result.err.contains("No such process"), "\(result)")
      #expect(gateway.run { $0.store.saCount() } == 0)
    }
  }

  @Test func policyLifecycle() throws {
    try withGateway { gateway in
      let selector = "src 10.1.0.0/16 dst 10.2.0.0/16 proto tcp dport 443 dir out"
      let template = "tmpl src 10.9.0.1 dst 10.9.0.2 proto esp reqid 7 mode tunnel"
      var result = ip(gateway, "policy add \(selector) priority 1000 \(template)")
      #expect(result.status == 0 && result.err.isEmpty, "\(result)")
      result = ip(gateway, "policy add \(selector) priority 1000 \(template)")
      #expect(result.err.contains("File exists"), "\(result)")
      result = ip(gateway, "policy update \(selector) priority 2000 \(template)")
      #expect(result.status == 0, "\(result)")
      result = ip(gateway, "policy list")
      #expect(
        result.out == """
          src 10.1.0.0/16 dst 10.2.0.0/16 proto tcp dport 443 
          \tdir out priority 2000 ptype main 
          \ttmpl src 10.9.0.1 dst 10.9.0.2
          \t\tproto esp reqid 7 mode tunnel

          """, "\(result)")
      result = ip(gateway, "policy get \(selector)")
      #expect(result.out.contains("priority 2000"), "\(result)")
      result = ip(gateway, "-s policy count")
      result = ip(gateway, "policy count")
      #expect(result.out.contains("OUT 1"), "\(result)")
      result = ip(gateway, "policy add src 10.3.0.0/16 dst 10.4.0.0/16 dir in action block")
      #expect(result.status == 0, "\(result)")
      #expect(gateway.run { $0.store.policies().last?.parameters.type } == .deny)
      result = ip(gateway, "policy delete \(selector)")
      #expect(result.status == 0, "\(result)")
      result = ip(gateway, "policy delete \(selector)")
      #expect(result.err.contains("No such file or directory"), "\(result)")
      result = ip(gateway, "policy flush")
      #expect(gateway.run { $0.store.policyCount() } == 0, "\(result)")
      result = ip(gateway, "policy getdefault")
      #expect(result.out.contains("in:  accept"), "\(result)")
      result = ip(gateway, "policy set hthresh4 24 16")
      #expect(result.status == 0, "\(result)")
    }
  }

  @Test func extendedAcknowledgement() throws {
    try withGateway { gateway in
      let result = ip(
        gateway, "state add src 10.9.0.1 dst 10.9.0.2 proto esp spi 0x1002",
        "enc cbc(serpent) 0x00112233445566778899aabbccddeeff")
      #expect(result.status == 2, "\(result)")
      #expect(result.err.contains("Error: Encryption algorithm cbc(serpent) is not supported."), "\(result)")
    }
  }

  /// As Linux shows them: those whose SPI a daemon took, and those that it is asked for.
  @Test func larvalSAs() throws {
    try withGateway { gateway in
      let ends = "src 10.9.0.1 dst 10.9.0.2"
      let allocated = ip(gateway, "state allocspi \(ends) proto esp reqid 7 mode tunnel min 0x200 max 0x200")
      let listing = """
        src 10.9.0.1 dst 10.9.0.2
        \tproto esp spi 0x00000200 reqid 7 mode tunnel
        \treplay-window 0 
        \tanti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
        \tsel src 10.9.0.1/32 dst 10.9.0.2/32 

        """
      #expect(allocated.status == 0 && allocated.out == listing, "\(allocated)")
      #expect(ip(gateway, "state list").out == listing)
      #expect(gateway.run { $0.store.records().first?.parameters.hard.addTime } == 30)
      let taken = ip(gateway, "state allocspi \(ends) proto esp reqid 7 mode tunnel min 0x200 max 0x200")
      #expect(taken.status == 2 && taken.err.contains("Error: SPI 512 is in use."), "\(taken)")
      let template = "tmpl \(ends) proto esp reqid 7 mode tunnel"
      #expect(ip(gateway, "policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir out \(template)").status == 0)
      // Somebody listens.
      let monitor = Shim.process(Shim.ip!, ["xfrm", "monitor"], directory: gateway.directory).0
      try monitor.run()
      gateway.wait { $0.xfrmServer.clients.contains(where: \.isDaemon) }
      gateway.run { state in
        guard let database = state.store as? SecurityDatabase, let policy = database.policies().first else { return }
        var key = gw_flow_key()
        (key.family, key.direction, key.ip_protocol) = (2, 1, 6)
        (key.source_low, key.destination_low) = (0x0a01_0007, 0x0a02_0007)
        (key.source_port, key.destination_port) = (1000, 443)
        database.acquire(policyIndex: policy.index, key: key)
      }
      let asked = """
        src 10.9.0.1 dst 10.9.0.2
        \tproto esp spi 0x00000000 reqid 7 mode tunnel
        \treplay-window 0 
        \tanti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
        \tsel src 10.1.0.7/32 dst 10.2.0.7/32 proto tcp sport 1000 dport 443 

        """
      #expect(ip(gateway, "state list").out == asked + listing)
      #expect(ip(gateway, "state count").out.contains("SAD count 2"))
      #expect(ip(gateway, "state deleteall").status == 0)
      #expect(ip(gateway, "state list").out == "")
      kill(monitor.processIdentifier, SIGKILL)
      monitor.waitUntilExit()
    }
  }

  @Test func dumpOfThousands() throws {
    try withGateway { gateway in
      gateway.run { state in
        for index in 0..<5000 as Range<UInt32> {
          let key = [UInt8(index & 255), UInt8(index >> 8)] + [UInt8](repeating: 1, count: 34)
          let transform = CryptoTransform(encryption: .aesGCM16, encryptionKey: SecretBytes(key))
          let sa = SAParameters(
            spi: 0x1_0000 + index, source: "10.9.0.1", destination: "10.9.0.2", transform: transform)
          try! state.store.add(sa, origin: 0)
        }
      }
      let result = ip(gateway, "state list")
      #expect(result.out.components(separatedBy: "proto esp spi").count == 5001)
      #expect(ip(gateway, "state flush").status == 0)
      #expect(gateway.run { $0.store.saCount() } == 0)
    }
  }

  /// iproute2 sends its deletions in batches, several requests to a datagram.
  @Test func deleteAll() throws {
    try withGateway { gateway in
      for index in 1...20 {
        let id = "src 10.9.0.1 dst 10.9.0.2 proto esp spi \(index + 4096)"
        #expect(ip(gateway, "state add \(id) \(Self.gcm(UInt8(index)))").status == 0)
        #expect(ip(gateway, "policy add src 10.1.\(index).0/24 dst 10.2.0.0/16 dir out").status == 0)
      }
      let result = ip(gateway, "state deleteall")
      #expect(result.status == 0, "\(result)")
      #expect(ip(gateway, "policy deleteall").status == 0)
      #expect(gateway.run { $0.store.saCount() + $0.store.policyCount() } == 0)
    }
  }

  @Test func monitor() throws {
    try withGateway(.memory) { gateway in
      let (process, out, _) = Shim.process(Shim.ip!, ["xfrm", "monitor"], directory: gateway.directory)
      try process.run()
      // The monitor is ready when it has joined its groups.
      gateway.wait { $0.xfrmServer.clients.contains(where: \.isDaemon) }
      let id = "src 10.9.0.1 dst 10.9.0.2 proto esp spi 0x00001003"
      #expect(ip(gateway, "state add \(id) mode transport \(Self.gcm)").status == 0)
      gateway.run { state in
        guard let record = state.store.records().first else { return }
        state.memory.emit(.saExpired(record, hard: false))
        state.memory.emit(.mapping(record, newSource: .v4(.init(rawValue: 0x0a09_0003)), newPort: 4501))
        var selector = Selector(source: .any(.v4), destination: .any(.v4))
        selector.ipProtocol = 17
        let template = SATemplate(
          source: record.parameters.source, destination: record.parameters.destination, requestID: 3)
        let policy = PolicyParameters(direction: .out, selector: selector, templates: [template])
        let acquire = AcquireRequest(
          sequence: 77, policy: PolicyRecord(index: 9, parameters: policy), template: template, packet: selector)
        state.memory.emit(.acquire(acquire))
      }
      #expect(ip(gateway, "state delete \(id)").status == 0)
      usleep(100_000)
      // Foundation starts it with SIGTERM blocked.
      kill(process.processIdentifier, SIGKILL)
      let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(text.contains("proto esp spi 0x00001003 reqid 0 mode transport"), "\(text)")
      #expect(text.contains("Expired src 10.9.0.1 dst 10.9.0.2"), "\(text)")
      #expect(text.contains("Deleted src 10.9.0.1 dst 10.9.0.2"), "\(text)")
      #expect(text.contains("Mapping change"), "\(text)")
      #expect(text.contains("acquire proto esp"), "\(text)")
      #expect(text.contains("sel src 0.0.0.0/0 dst 0.0.0.0/0 proto udp"), "\(text)")
      let closed = gateway.run { $0.closed.map(\.wasDaemon) }
      #expect(closed.contains(false))
    }
  }
}
