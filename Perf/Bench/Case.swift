import CLayout
import DPDK
import DataPlane
import Engines
import Foundation
import IPsec
import Routing
import Wire

/// One point of the table.
struct Case: Sendable {
  var algorithm: Algorithm
  var isInbound: Bool
  var size: PacketSize
  var sas: Int
  var engine: String
  var core: Int
  /// Cores of further workers. Those without a receive queue help.
  var helpers: [Int]
  /// Receive queues, each with the whole load.
  var queues = 1
  /// Every packet that leaves is read.
  var isChecked = false
  var burst: Int
  var samples: Int
  /// Of a sample.
  var milliseconds = 40
}

/// What was measured.
struct Outcome: Codable, Sendable {
  var algorithm: String
  var direction: String
  var size: String
  var sas: Int
  var engine: String
  var burst: Int
  var minimum: Double
  var median: Double
  /// TSC cycles a packet, at the minimum.
  var cycles: Double
  /// TSC cycles a packet by stage, of the best sample while profiling (which costs some itself).
  var stages: [String: Double]
  var samples: [Double]
  /// The engine alone on bursts of the same size; 0: not measured.
  var engineAlone: Double = 0
  /// Further workers, and the bursts of the run that they took over.
  var helpers = 0
  var sharedBursts: UInt64 = 0
  var queues = 1
  var check: Checker.Verdict?
}

enum BenchError: Error, CustomStringConvertible {
  case failed(String)
  var description: String { if case .failed(let text) = self { text } else { "" } }
}

/// The gateway's data path between a port that replays a capture and one that swallows, on one core. One to a process.
final class Rig {
  let testCase: Case
  private let quiescence: QuiescentState
  private let routing: RoutingTable
  private let database: SecurityDatabase
  private let limits: DatabaseLimits
  private let path: String

  init(_ testCase: Case) throws {
    self.testCase = testCase
    quiescence = QuiescentState(readers: 1 + testCase.helpers.count)
    limits = DatabaseLimits(sas: testCase.sas + 16, policies: testCase.sas + 16)
    routing = RoutingTable(reclaimer: quiescence)
    database = SecurityDatabase(
      engine: try Self.engine(testCase), workers: 1 + testCase.helpers.count, limits: limits, reclaimer: quiescence,
      now: 1)
    path = NSTemporaryDirectory() + "/gwbench-\(getpid()).pcap"
    try writeLoad(to: path)
    try installRules()
  }

  static func engine(_ testCase: Case) throws -> any CryptoEngine {
    try engine(testCase.engine, for: testCase.algorithm)
  }

  static func engine(_ name: String, for algorithm: Algorithm) throws -> any CryptoEngine {
    let engines = CryptoEngines()
    if name == "auto" { engines.calibrate([TransformKind(algorithm.transform(0))]) }
    guard let engine = engines.engine(named: name) else { throw BenchError.failed("no engine \(name)") }
    return engine
  }

  // MARK: Tables

  private func parameters(_ i: Int, _ direction: PolicyDirection) -> SAParameters {
    var sa = SAParameters(
      spi: Plan.spi(i), source: IPAddress(Plan.local)!, destination: IPAddress(Plan.peer(i))!,
      transform: testCase.algorithm.transform(i), replayWindow: 0)
    sa.direction = direction
    return sa
  }

  private func policy(_ i: Int, _ direction: PolicyDirection) -> PolicyParameters {
    let selector = Selector(source: IPPrefix("192.168.0.0/24")!, destination: IPPrefix(Plan.innerNet(i))!)
    let template = SATemplate(source: IPAddress(Plan.local)!, destination: IPAddress(Plan.peer(i))!)
    return PolicyParameters(direction: direction, selector: selector, templates: [template])
  }

  private func installRules() throws {
    guard testCase.algorithm != .forward else { return }
    let direction: PolicyDirection = testCase.isInbound ? .in : .out
    let all = 0..<testCase.sas
    try database.apply(
      ConfigurationChange(
        adding: all.map { parameters($0, direction) }, policies: all.map { policy($0, direction) }), origin: 0)
  }

  private func writeLoad(to path: String) throws {
    let load = Load(size: testCase.size, sas: testCase.sas)
    guard testCase.isInbound, testCase.algorithm != .forward else {
      return try Load.write(load.clearPackets(), to: path)
    }
    // The far gateway, which seals.
    let far = SecurityDatabase(
      engine: OpenSSLEngine(), workers: 1, limits: limits, reclaimer: quiescence, now: 1)
    for i in 0..<testCase.sas { try far.add(parameters(i, .out), origin: 0) }
    let packets = load.sealedPackets { i in
      far.sad.lookup(spi: Plan.spi(i), destination: IPAddress(Plan.peer(i))!, saProtocol: ESP.ipProtocol)!
    }
    try Load.write(packets, to: path)
  }

  /// Only the load: for other programs.
  static func writeLoad(_ testCase: Case, to path: String) throws {
    let rig = try Rig(testCase)
    defer { try? FileManager.default.removeItem(atPath: rig.path) }
    try rig.writeLoad(to: path)
  }

  // MARK: The run

  func run() throws -> Outcome {
    defer { try? FileManager.default.removeItem(atPath: path) }
    let eal = try EAL(.bench(workers: [testCase.core] + testCase.helpers))
    defer { eal.stop() }
    let ports = [
      DataPlaneConfiguration.Port(
        name: "in",
        device: "net_pcap0," + String(repeating: "rx_pcap=\(path),", count: testCase.queues) + "infinite_rx=1",
        hasHost: false, queues: testCase.queues),
      DataPlaneConfiguration.Port(name: "out", device: "net_null0,no-rx=1", hasHost: false),
    ]
    var settings = DataPlaneConfiguration(ports: ports, counterSlots: limits.counterSlots)
    settings.burst = testCase.burst
    let dataPlane = try DataPlane(
      settings, eal: eal, quiescence: quiescence,
      tables: DataPlaneTables(database, routing))
    try routing.setUp(dataPlane, prefixes: ["10.0.0.0/8", "172.16.16.0/20"])
    let checker = try makeChecker(dataPlane.ports[1])
    try dataPlane.start()
    let measured = Result { try measure(dataPlane) }
    dataPlane.stop()
    var outcome = try measured.get()
    outcome.check = checker?.verdict()
    return outcome
  }

  private func makeChecker(_ port: EthernetPort) throws -> Checker? {
    guard testCase.isChecked else { return nil }
    guard testCase.sas == 1, testCase.algorithm != .forward else {
      throw BenchError.failed("packets are checked of one SA")
    }
    let period = Load(size: testCase.size, sas: 1).clearPackets().count
    return try Checker(port: port.id, queues: port.transmitQueues, isInbound: testCase.isInbound, period: period)
  }

  private func measure(_ dataPlane: DataPlane) throws -> Outcome {
    usleep(150_000)
    let first = Sample(dataPlane)
    var second = first
    // Others may have the core for a while.
    for _ in 0..<50 where second.sent == first.sent {
      usleep(20_000)
      second = Sample(dataPlane)
    }
    guard second.sent > first.sent else { throw BenchError.failed("nothing was sent: \(dataPlane.dropsText)") }
    guard Double(second.sent - first.sent) >= 0.99 * Double(second.received - first.received) else {
      throw BenchError.failed("packets are lost: \(dataPlane.dropsText)")
    }
    var costs: [Double] = []
    var cycles: [Double] = []
    var before = Sample(dataPlane)
    for _ in 0..<testCase.samples {
      usleep(UInt32(testCase.milliseconds) * 1000)
      let now = Sample(dataPlane)
      // Others had the core all the time: nothing was measured.
      guard now.sentByFirst > before.sentByFirst else { continue }
      costs.append(Double(now.time - before.time) / Double(now.sent - before.sent))
      cycles.append(Double(now.cycles - before.cycles) / Double(now.sentByFirst - before.sentByFirst))
      before = now
    }
    guard !costs.isEmpty else { throw BenchError.failed("nothing was sent: \(dataPlane.dropsText)") }
    let sorted = costs.sorted()
    var outcome = Outcome(
      algorithm: testCase.algorithm.rawValue, direction: testCase.isInbound ? "in" : "out", size: testCase.size.name,
      sas: testCase.sas, engine: testCase.engine, burst: testCase.burst, minimum: sorted[0],
      median: sorted[sorted.count / 2], cycles: cycles.min() ?? 0, stages: profile(dataPlane), samples: costs)
    outcome.helpers = testCase.helpers.count
    outcome.sharedBursts = dataPlane.workerStatistics(0).sharedBursts
    outcome.queues = testCase.queues
    return outcome
  }

  /// Cycles by stage of the cheapest of some samples, with profiling on.
  private func profile(_ dataPlane: DataPlane) -> [String: Double] {
    dataPlane.shared.pointee.profiling.store(true, ordering: .relaxed)
    usleep(20_000)
    var best: [String: Double] = [:]
    var least = Double.infinity
    var before = Sample(dataPlane)
    for _ in 0..<max(4, testCase.samples / 3) {
      usleep(UInt32(testCase.milliseconds) * 1000)
      let now = Sample(dataPlane)
      guard now.sentByFirst > before.sentByFirst else { continue }
      let packets = Double(now.sentByFirst - before.sentByFirst)
      let all = Double(now.cycles - before.cycles) / packets
      if all < least {
        least = all
        best = now.stages.reduce(into: [:]) { result, entry in
          result[entry.key.name] = Double(entry.value - (before.stages[entry.key] ?? 0)) / packets
        }
        best["total"] = all
      }
      before = now
    }
    dataPlane.shared.pointee.profiling.store(false, ordering: .relaxed)
    return best
  }

  /// The counters at one moment: of all workers, and what the first one did.
  private struct Sample {
    let time = DispatchTime.now().uptimeNanoseconds
    let sent: UInt64
    let received: UInt64
    let sentByFirst: UInt64
    let cycles: UInt64
    let stages: [Stage: UInt64]

    init(_ dataPlane: DataPlane) {
      let all = (0..<dataPlane.workerCount).map(dataPlane.workerStatistics)
      let statistics = all[0]
      sent = all.reduce(0) { $0 + $1.sentPackets }
      received = all.reduce(0) { $0 + $1.packets }
      sentByFirst = statistics.sentPackets
      cycles = statistics.cycles
      stages = statistics.stageCycles
    }
  }
}
