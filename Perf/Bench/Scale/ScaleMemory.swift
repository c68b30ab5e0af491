import CLayout
import Engines
import Foundation
import Glibc
import IPsec
import Wire

/// What SAs and flows take in memory.
struct ScaleMemory: Encodable {
  var sas: Int
  /// All of an SA but its key schedule, for one worker: how the process grew.
  var bytesPerSA: Double
  /// Of these: the lines that workers read, the SAD, replay window of 64 packets, the counters of one worker.
  var record: Double
  var index: Double
  var window: Double
  var counters: Double
  /// The control thread's: what is left.
  var control: Double
  /// The schedule of `engine`, beside all that.
  var schedule: Double
  /// A flow as OpenBSD says it: a policy, with its counters; and the exact-match entry of a worker's flow cache.
  var bytesPerPolicy: Double
  var bytesPerFlow: Double
  var installsPerSecond: Double

  static func measure(sas: Int, algorithm: Algorithm, engine: String) throws -> ScaleMemory {
    let limits = DatabaseLimits(sas: sas, policies: sas)
    let database = SecurityDatabase(
      engine: BareEngine(), workers: 1, limits: limits, reclaimer: ImmediateReclaimer(), now: 1)
    let plan = ScalePlan(isInbound: true, algorithm: algorithm)
    let real = try Rig.engine(engine, for: algorithm)
    let start = resident
    let began = DispatchTime.now().uptimeNanoseconds
    for i in 0..<sas {
      var sa = plan.sa(i)
      sa.replayWindow = 64
      try database.add(sa, origin: 0)
    }
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - began) / 1e9
    let withSAs = resident
    for i in 0..<sas { _ = try database.add(plan.policy(i), replacing: false, origin: 0) }
    let withPolicies = resident
    let counter = Double(MemoryLayout<gw_counters>.stride)
    func share(_ bytes: Int) -> Double { Double(bytes) / Double(sas) }
    let footprint = database.footprint
    let session = try real.makeSession(algorithm.transform(1), direction: .open, workers: 1)
    defer { session.destroy() }
    let grown = share(withSAs - start) + counter
    let (record, index, window) = (share(footprint.records), share(footprint.index), share(footprint.windows))
    return ScaleMemory(
      sas: sas, bytesPerSA: grown, record: record, index: index, window: window, counters: counter,
      control: grown - record - index - window - counter, schedule: Double(session.footprint),
      bytesPerPolicy: share(withPolicies - withSAs) + counter,
      bytesPerFlow: Double(FlowCache.bytes(flows: sas)) / Double(sas), installsPerSecond: Double(sas) / seconds)
  }

  /// Bytes of the process in memory.
  private static var resident: Int {
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
    let pages = fields.flatMap { $0.count > 1 ? Int($0[1]) : nil } ?? 0
    return pages * Int(getpagesize())
  }
}

/// Keys nothing: so that memory and rates are those of everything else.
struct BareEngine: CryptoEngine {
  var name: String { "bare" }
  func supports(_ transform: CryptoTransform) -> Bool { true }

  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    CryptoSession(burst: { _, _ in }, base: Self.nothing, stride: 0, footprint: 0, destroyer: { _ in })
  }

  nonisolated(unsafe) private static let nothing = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
}
