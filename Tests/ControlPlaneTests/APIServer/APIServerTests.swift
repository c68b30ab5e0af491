import ControlAPI
import ControlAPITesting
import Engines
import Foundation
import IPsec
import Logging
import Synchronization
import Testing

@testable import ControlPlane

/// Both block, and must not hold a thread of Swift's pool meanwhile.
extension APIServer {
  func started() async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      Thread.detachNewThread { continuation.resume(with: Result { try self.start() }) }
    }
  }

  func stopped(grace: Duration = .seconds(2)) async {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        self.stop(grace: grace)
        continuation.resume()
      }
    }
  }
}

/// A server of its own for each test, in a directory of its own.
struct ServerFixture {
  let gateway = FakeGateway()
  let directory: String
  let server: APIServer
  var path: String { directory + "/gwctl.sock" }
  var client: ControlClient { ControlClient(socketPath: path, timeoutSeconds: 60) }

  init(
    group: String = "no-such-group", bodyLimit: Int = 16 << 20,
    _ change: (inout APIServer.Configuration) -> Void = { _ in }
  ) throws {
    directory = FileManager.default.temporaryDirectory.path + "/gwapi-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    var configuration = APIServer.Configuration(socketPath: directory + "/gwctl.sock")
    configuration.group = group
    configuration.bodyLimitBytes = bodyLimit
    change(&configuration)
    server = APIServer(
      gateway: gateway, configuration: configuration,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  static func with(
    group: String = "no-such-group", bodyLimit: Int = 16 << 20,
    changing change: (inout APIServer.Configuration) -> Void = { _ in },
    _ body: (ServerFixture) async throws -> Void
  ) async throws {
    let fixture = try ServerFixture(group: group, bodyLimit: bodyLimit, change)
    try await fixture.server.started()
    do {
      try await body(fixture)
    } catch {
      await fixture.close()
      throw error
    }
    await fixture.close()
  }

  func close() async {
    await server.stopped()
    try? FileManager.default.removeItem(atPath: directory)
  }

  /// The client blocks, so it runs off Swift's pool.
  func call<Value: Sendable>(_ body: @escaping @Sendable (ControlClient) throws -> Value) async throws -> Value {
    let client = client
    return try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try body(client) }) }
    }
  }

  struct Answer: Sendable {
    var status: Int
    var body: String
  }

  /// The curl program, which knows nothing of ours.
  func curl(_ arguments: [String], as user: String? = nil) async throws -> Answer {
    let all = ["curl", "-sS", "--max-time", "20", "--unix-socket", path, "-w", "\n%{http_code}"] + arguments
    let prefix = user.map { ["setpriv", "--reuid", $0, "--regid", "nogroup", "--clear-groups"] } ?? []
    let output = try await Self.run(prefix + all)
    let end = output.lastIndex(of: "\n") ?? output.startIndex
    return Answer(
      status: Int(output[end...].trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0, body: String(output[..<end]))
  }

  static func run(_ command: [String]) async throws -> String {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        do {
          try process.run()
          let data = pipe.fileHandleForReading.readDataToEndOfFile()
          process.waitUntilExit()
          continuation.resume(returning: String(decoding: data, as: UTF8.self))
        } catch { continuation.resume(throwing: error) }
      }
    }
  }
}

@Suite struct APIServerTests {
  /// More than one part of an answer, and of what the client reads at a time.
  @Test(arguments: [0, 1, 256, 257, 2000]) func longListsComeWhole(count: Int) async throws {
    try await ServerFixture.with { fixture async throws in
      fixture.gateway.state.withLock { state in
        state.sas = (0..<count).map {
          var record = Samples.record
          record.parameters.spi = UInt32($0) + 256
          return record
        }
      }
      let spis = try await fixture.call { try $0.securityAssociations() }.map(\.parameters.spi)
      #expect(spis == (0..<UInt32(count)).map { $0 + 256 })
      let answer = try await fixture.curl(["http://gw/v1/sa"])
      let list = try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [[String: Any]]
      #expect(list?.count == count)
      #expect(answer.status == 200)
    }
  }

  @Test func everyReportReachesTheClient() async throws {
    try await ServerFixture.with { fixture async throws in
      let gateway = fixture.gateway
      #expect(try await fixture.call { try $0.status() } == gateway.status())
      #expect(try await fixture.call { try $0.ports() } == gateway.ports())
      #expect(try await fixture.call { try $0.workers() } == gateway.workers())
      #expect(try await fixture.call { try $0.drops() } == gateway.drops())
      #expect(try await fixture.call { try $0.routes() } == gateway.routes())
      #expect(try await fixture.call { try $0.neighbors() } == gateway.neighbors())
      #expect(try await fixture.call { try $0.engines() } == gateway.engines())
      #expect(try await fixture.call { try $0.policies() }.first?.parameters == Samples.policy.parameters)
      let sa = try #require(try await fixture.call { try $0.securityAssociations() }.first)
      #expect(sa.parameters.identifier == Samples.sa.identifier)
      #expect(sa.counters == Samples.record.counters)
    }
  }

  @Test func aTransactionArrivesWithItsKeys() async throws {
    try await ServerFixture.with { fixture async throws in
      fixture.gateway.state.withLock { $0.loadReport.sasAdded = 1 }
      let transaction = RuleTransaction(
        mode: .replace, isAtomic: false,
        rules: [
          .sa(Samples.sa), .policy(Samples.policy.parameters),
          .bundle(Samples.sa.identifier, with: Samples.sa.bundledWith!),
        ])
      let report = try await fixture.call { try $0.load(transaction) }
      #expect(report.sasAdded == 1)
      _ = try await fixture.call { try $0.check(transaction) }
      let (loads, checks) = fixture.gateway.state.withLock { ($0.loads, $0.checks) }
      #expect(checks.count == 1)
      let load = try #require(loads.first)
      #expect(load.mode == .replace && !load.isAtomic && load.rules.count == 3)
      guard case .sa(let sa) = load.rules[0], case .policy(let policy) = load.rules[1] else {
        Issue.record("rules out of order")
        return
      }
      #expect(sa.transform.encryptionKey == Samples.key)
      // Whoever the client said they were from.
      #expect(sa.owner == .configuration && policy.owner == .configuration)
      var expected = Samples.policy.parameters
      expected.owner = .configuration
      #expect(policy == expected)
    }
  }

  @Test func counterModesNeedAKeyDaemon() async throws {
    try await ServerFixture.with { fixture async throws in
      var sa = Samples.sa
      sa.transform = CryptoTransform(
        encryption: .aesGCM16, encryptionKey: SecretBytes([UInt8](repeating: 1, count: 20)))
      let transaction = RuleTransaction(mode: .add, rules: [.policy(Samples.policy.parameters), .sa(sa)])
      do {
        _ = try await fixture.call { try $0.load(transaction) }
        Issue.record("accepted")
      } catch ControlClientError.refused(let refusal) {
        #expect(refusal.detail == "aes-gcm-16 is disallowed with static keys")
        #expect(refusal.failures?.map(\.rule) == [1])
      }
      #expect(fixture.gateway.state.withLock { $0.loads.isEmpty })
      // What is there may be taken away.
      let removal = RuleTransaction(mode: .delete, rules: [.sa(sa)])
      _ = try await fixture.call { try $0.load(removal) }
    }
  }

  @Test func flushAndReload() async throws {
    try await ServerFixture.with { fixture async throws in
      for target in FlushRequest.Target.allCases {
        #expect(try await fixture.call { try $0.flush(target) } == FlushReport(sas: 1, flows: 2))
      }
      #expect(try await fixture.call { try $0.reload() }.messages == ["1 flow added"])
      #expect(fixture.gateway.state.withLock { $0.flushes } == FlushRequest.Target.allCases)
      #expect(fixture.gateway.state.withLock { $0.reloads } == 1)
    }
  }

  @Test(arguments: ControlError.Kind.allCases) func refusalsKeepTheirKind(_ kind: ControlError.Kind) async throws {
    try await ServerFixture.with { fixture async throws in
      let refusal = ControlError(kind, "because", failures: [.init(rule: 2, ControlError(.exists, "exists"))])
      fixture.gateway.state.withLock { $0.failure = refusal }
      await #expect(throws: ControlClientError.refused(refusal)) { try await fixture.call { try $0.status() } }
      let answer = try await fixture.curl(["http://gw/v1/status"])
      #expect(answer.status == refusal.statusCode)
      #expect(answer.body.contains(#""error":"\#(kind.rawValue)""#))
    }
  }

  @Test func tenThousandSAsAreListed() async throws {
    try await ServerFixture.with { fixture async throws in
      fixture.gateway.state.withLock { state in
        state.sas = (0..<10_000).map { index in
          var record = Samples.record
          record.parameters.spi = UInt32(0x1000 + index)
          return record
        }
      }
      let start = ContinuousClock.now
      let sas = try await fixture.call { try $0.securityAssociations() }
      print("10,000 SAs listed in \(ContinuousClock.now - start)")
      #expect(sas.count == 10_000 && sas[9_999].parameters.spi == 0x1000 + 9_999)
    }
  }

  @Test func metricsAreWellFormed() async throws {
    try await ServerFixture.with { fixture async throws in
      let text = try await fixture.curl(["http://gw/metrics"]).body
      #expect(
        text.contains("# TYPE gw_port_rx_packets_total counter\ngw_port_rx_packets_total{port=\"wan\"} 1234567\n"))
      #expect(text.contains("gw_port_rx_bytes_total{port=\"wan\"} 18446744073709551615\n"))
      #expect(text.contains("gw_dropped_packets_total{reason=\"bad_icv\",stage=\"inbound\"} 3\n"))
      #expect(text.contains("gw_worker_idle_ratio{worker=\"0\",core=\"2\"} 0.875\n"))
      #expect(text.contains("gw_sas 1\n"))
    }
  }

  @Test func eventsStreamUntilTheGatewayStops() async throws {
    try await ServerFixture.with { fixture async throws in
      let seen = Mutex<[UInt64]>([])
      let events = Task {
        try await fixture.call { client in
          try client.events { event in
            seen.withLock { $0.append(event.sequence) }
            return true
          }
        }
      }
      for _ in 0..<500 where fixture.gateway.broadcaster.readerCount == 0 {
        try await Task.sleep(for: .milliseconds(10))
      }
      for _ in 0..<3 { fixture.gateway.broadcaster.publish(.saAdded(Samples.record)) }
      for _ in 0..<500 where seen.withLock({ $0.count }) < 3 { try await Task.sleep(for: .milliseconds(10)) }
      #expect(seen.withLock { $0 } == [1, 2, 3])
      await fixture.server.stopped()
      // Ended in order or cut: either way the reader is let go.
      _ = try? await events.value
    }
  }

  @Test func aReaderThatGoesIsForgotten() async throws {
    try await ServerFixture.with { fixture async throws in
      _ = try await ServerFixture.run([
        "curl", "-sN", "--max-time", "1", "--unix-socket", fixture.path, "http://gw/v1/events",
      ])
      for _ in 0..<300 where fixture.gateway.broadcaster.readerCount > 0 {
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(fixture.gateway.broadcaster.readerCount == 0)
    }
  }

  @Test(.timeLimit(.minutes(1))) func stopLetsARequestFinish() async throws {
    try await ServerFixture.with { fixture async throws in
      fixture.gateway.state.withLock { $0.statusDelay = .milliseconds(400) }
      let request = Task { try await fixture.call { try $0.status() } }
      while fixture.gateway.state.withLock({ $0.statusesAsked }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
      await fixture.server.stopped(grace: .seconds(20))
      #expect(try await request.value.version == "1.0.0")
      #expect(!FileManager.default.fileExists(atPath: fixture.path))
      await #expect(throws: ControlClientError.notRunning(socketPath: fixture.path)) {
        try await fixture.call { try $0.status() }
      }
    }
  }
}
