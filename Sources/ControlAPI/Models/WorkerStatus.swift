/// One polling worker since start. A copy; any thread.
public struct WorkerStatus: Codable, Sendable, Hashable {
  public var id: Int
  /// DPDK's lcore id.
  public var lcore: UInt32
  /// The CPU it is pinned to.
  public var core: UInt32
  /// The NUMA socket; -1: not known.
  public var socket: Int32
  public var rxPackets: UInt64 = 0
  public var txPackets: UInt64 = 0
  public var dropPackets: UInt64 = 0
  /// Bursts that held at least one packet.
  public var bursts: UInt64 = 0
  /// Inbound bursts of a full queue: offered to idle workers, and how many of them those ran; offered in vain, as the
  /// ring was full; run for others.
  public var offeredBursts: UInt64 = 0
  public var sharedBursts: UInt64 = 0
  public var handoffRingFull: UInt64 = 0
  public var helpedBursts: UInt64 = 0
  /// What the control thread was to be told and found no room.
  public var eventsDropped: UInt64 = 0
  /// Turns of the poll loop.
  public var loops: UInt64 = 0
  /// TSC cycles spent on bursts that held packets, and in all.
  public var busyCycles: UInt64 = 0
  public var totalCycles: UInt64 = 0
  /// Busy cycles per received packet over the last sampling interval, 0 where nothing came.
  public var cyclesPerPacket: Double = 0
  /// 0 … 1, over the last sampling interval.
  public var idleShare: Double = 0
  /// Where stages are timed: cycles per packet, by the stage's name.
  public var stageCyclesPerPacket: [String: Double]?
  /// How long rounds with a full burst took.
  public var rounds: RoundHistogram?
  /// `wan/0`: the queues it polls.
  public var queues: [String] = []
  /// What the operator should know: a port on a far NUMA socket …
  public var warnings: [String] = []

  public init(id: Int, lcore: UInt32, core: UInt32, socket: Int32) {
    self.id = id
    self.lcore = lcore
    self.core = core
    self.socket = socket
  }

  /// What `warnings` says of a queue of a port on another NUMA node, -1: not known; nil: nothing.
  public static func farPort(_ queue: String, portNode: Int32, workerNode: Int32) -> String? {
    guard portNode >= 0, workerNode >= 0, portNode != workerNode else { return nil }
    return "\(queue) is on NUMA node \(portNode), the worker on \(workerNode)"
  }

  enum CodingKeys: String, CodingKey {
    case id, lcore, core, socket, bursts, loops, queues, warnings, rounds
    case offeredBursts = "offered_bursts"
    case sharedBursts = "shared_bursts"
    case handoffRingFull = "handoff_ring_full"
    case helpedBursts = "helped_bursts"
    case eventsDropped = "events_dropped"
    case rxPackets = "rx_packets"
    case txPackets = "tx_packets"
    case dropPackets = "drop_packets"
    case busyCycles = "busy_cycles"
    case totalCycles = "total_cycles"
    case cyclesPerPacket = "cycles_per_packet"
    case idleShare = "idle_share"
    case stageCyclesPerPacket = "stage_cycles_per_packet"
  }
}

/// Times in buckets, as Prometheus has them.
public struct RoundHistogram: Codable, Sendable, Hashable {
  /// Seconds that each bucket goes up to.
  public static let bounds: [Double] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 0.1, 1,
  ]
  /// Of all times up to each bound.
  public var counts: [UInt64]
  public var count: UInt64
  /// To 3 %.
  public var sumSeconds: Double

  public init(_ times: [(cycles: UInt64, count: UInt64)], cyclesPerSecond: Double) {
    counts = Array(repeating: 0, count: Self.bounds.count)
    count = 0
    sumSeconds = 0
    for time in times {
      let seconds = Double(time.cycles) / max(1, cyclesPerSecond)
      count += time.count
      sumSeconds += seconds * Double(time.count)
      for index in Self.bounds.indices where seconds <= Self.bounds[index] { counts[index] += time.count }
    }
  }

  enum CodingKeys: String, CodingKey {
    case counts, count
    case sumSeconds = "sum_seconds"
  }
}
