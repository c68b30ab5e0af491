import ArgumentParser
import DPDK
import Foundation
import Histogram

/// Latency of single packets through two gateways; what `Perf/latency` runs, once for each size.
struct LatencyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "latency", abstract: "Measures the latency of single packets through two gateways.",
    discussion: """
      A generator on a core of its own sends packets at their intended times through gateway A, which seals, and gateway \
      B, which opens, and times each that comes back from its intended time on. The highest rate without loss is found \
      by binary search (RFC 2544, 26.1). With two cores both gateways share one, a round each in turn. One JSON object; \
      progress to standard error.
      """)

  @Option(help: "aes-128-gcm, aes-256-gcm, aes-128-cbc-sha256, chacha20-poly1305, forward.")
  var algorithm = "aes-128-gcm"
  @Option(help: "openssl, ipsec-mb, native, auto.") var engine = "auto"
  @Option(help: "Bytes of the inner IP packet, 44 at the least, or imix.") var size = "64"
  @Option(help: "Cores of the generator, A and B; default: the first, the second, and the third if there is one.")
  var cores: String?
  @Option(help: "Packets that a wire holds.") var queue = 4095
  @Option(help: "Per cent of the highest loss-free rate.") var loads = "10,50,90"
  @Option(help: "Seconds of a trial of the search.") var trial = 0.5
  @Option(help: "A trial that lost packets while others had the cores is made again, so often at most.") var tries = 10
  @Option(help: "Seconds of a round.") var seconds = 0.3
  @Option(help: "Quiet rounds at each load; no more than six times as many in all.") var rounds = 5

  func run() throws {
    guard let algorithm = Algorithm(rawValue: algorithm) else { throw ValidationError("no algorithm \(algorithm)") }
    guard let size = PacketSize(size) else { throw ValidationError("size \(size): 44 to 1438, or imix") }
    if case .fixed(let length) = size, length < PacedGenerator.shortestPacket {
      throw ValidationError("a packet of \(length) bytes has no room for its time")
    }
    let settings = GatewayChain.Settings(algorithm: algorithm, engine: engine, cores: try chosenCores(), queue: queue)
    let chain = try GatewayChain(settings, size: size)
    defer { chain.stop() }
    var search = RateSearch(chain, seconds: trial, tries: tries)
    let rate = try search.run()
    var result = LatencyResult(
      algorithm: algorithm.rawValue, engine: engine, size: size.name, cores: settings.cores, queue: queue, rate: rate,
      trials: search.trials)
    for percent in loads.split(separator: ",").compactMap({ Double($0) }) {
      result.loads.append(try measure(chain, percent, rate * percent / 100))
    }
    result.drops = chain.drops
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    print(String(decoding: try encoder.encode(result), as: UTF8.self))
  }

  private func chosenCores() throws -> [Int] {
    let allowed = CPUSet.allowed.cores
    if let cores {
      let list = cores.split(separator: ",").compactMap { Int($0) }
      guard list.count == 3, list[0] != list[1], list[0] != list[2] else {
        throw ValidationError("--cores: the generator's, A's and B's; the generator has one of its own")
      }
      return list
    }
    guard allowed.count >= 2 else { throw ValidationError("it takes two cores at the least") }
    return [allowed[0], allowed[1], allowed[min(2, allowed.count - 1)]]
  }

  private func measure(_ chain: GatewayChain, _ percent: Double, _ rate: Double) throws -> LatencyResult.Load {
    let latencies = UnsafeMutableBufferPointer<UInt32>.allocate(capacity: Int(rate * seconds) + 1)
    latencies.initialize(repeating: 0)
    defer { latencies.deallocate() }
    var load = LatencyResult.Load(percent: percent, rate: rate)
    func series(isDirect: Bool) throws -> LatencyResult.Measurement {
      var measurement = LatencyResult.Measurement()
      while measurement.quiet.rounds.count < rounds, measurement.all.rounds.count < 6 * rounds {
        let done = try chain.run(rate: rate, seconds: seconds, isDirect: isDirect, latencies: latencies)
        measurement.add(done, latencies)
        note(
          "\(Int(percent)) % of the rate\(isDirect ? ", without gateways" : ""): \(measurement.all.rounds.count) rounds, "
            + "\(measurement.quiet.rounds.count) quiet")
      }
      measurement.finish()
      return measurement
    }
    load.gateways = try series(isDirect: false)
    load.direct = try series(isDirect: true)
    return load
  }
}

/// Progress, for people.
func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// The highest rate without loss.
struct RateSearch {
  struct Trial: Encodable {
    var rate: Double
    var sent: Int
    var lost: Int
    var disordered: Int
    /// What the last packet was late, as a part of the time.
    var backlog: Double
    /// ns that others had the cores.
    var waited: UInt64
  }

  private let chain: GatewayChain
  private let seconds: Double
  private let tries: Int
  private(set) var trials: [Trial] = []
  /// The search ends when the interval is this part of the rate.
  private static let resolution = 0.01

  init(_ chain: GatewayChain, seconds: Double, tries: Int) {
    self.chain = chain
    self.seconds = seconds
    self.tries = max(1, tries)
  }

  /// Packets a second.
  mutating func run() throws -> Double {
    // What comes through when far more is sent.
    let flood = try chain.run(rate: 40_000_000, seconds: 0.1).generator
    let most = Double(flood.received) / (Double(flood.duration) / Double(flood.hertz))
    guard flood.received > 0 else { throw BenchError.failed("nothing comes through: \(chain.drops)") }
    var (low, high) = (0.0, most * 1.1)
    while high - low > high * Self.resolution {
      let rate = (low + high) / 2
      note(String(format: "search: %.3f million packets a second", rate / 1e6))
      if try isLossFree(rate) { low = rate } else { high = rate }
      guard high > most / 100 else { throw BenchError.failed("every trial loses packets: \(chain.drops)") }
    }
    return low
  }

  /// A trial without loss decides, and two quiet ones with it. A trial is short beside RFC 2544's: what is still in the
  /// queues at its end, beyond the resolution, counts as lost.
  private mutating func isLossFree(_ rate: Double) throws -> Bool {
    var failures = 0
    for _ in 0..<tries where failures < 2 {
      let done = try chain.run(rate: rate, seconds: seconds)
      trials.append(
        Trial(
          rate: rate, sent: done.generator.packets, lost: done.lost, disordered: done.generator.disordered,
          backlog: done.backlog, waited: done.waited))
      if done.lost == 0, done.backlog < Self.resolution / 2 { return true }
      if done.isQuiet { failures += 1 }
    }
    return false
  }
}
