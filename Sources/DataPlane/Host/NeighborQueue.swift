import DPDK
import Wire

/// Packets that wait for a neighbour to be resolved, within limits for each and for all. One thread's.
struct NeighborQueue {
  struct Key: Hashable {
    var port: UInt16
    var address: IPAddress
  }
  private struct Waiting {
    var packets: [Mbuf] = []
    var since: Double
    var askedAt: Double
  }

  /// Seconds that a packet waits at most, and between two questions.
  static let patience = 3.0
  static let askAgain = 0.5

  private let perNeighbor: Int
  private let inAll: Int
  private var waiting: [Key: Waiting] = [:]
  private(set) var count = 0

  init(perNeighbor: Int, inAll: Int) {
    self.perNeighbor = max(perNeighbor, 1)
    self.inAll = inAll
  }

  /// `dropped`: the oldest of the neighbour's packets, or this one when there is no room at all.
  mutating func add(_ mbuf: Mbuf, for key: Key, now: Double) -> (dropped: Mbuf?, shouldAsk: Bool) {
    guard count < inAll else { return (mbuf, false) }
    var entry = waiting[key] ?? Waiting(since: now, askedAt: -.infinity)
    var dropped: Mbuf?
    if entry.packets.count >= perNeighbor {
      dropped = entry.packets.removeFirst()
      count -= 1
    }
    entry.packets.append(mbuf)
    count += 1
    let shouldAsk = now - entry.askedAt >= Self.askAgain
    if shouldAsk { entry.askedAt = now }
    waiting[key] = entry
    return (dropped, shouldAsk)
  }

  /// All that wait for a neighbour, oldest first.
  mutating func take(_ key: Key) -> [Mbuf] {
    guard let entry = waiting.removeValue(forKey: key) else { return [] }
    count -= entry.packets.count
    return entry.packets
  }

  /// Those that have waited too long.
  mutating func expired(now: Double) -> [Mbuf] {
    guard !waiting.isEmpty else { return [] }
    return waiting.filter { now - $0.value.since > Self.patience }.keys.flatMap { take($0) }
  }

  mutating func dropAll(_ free: (Mbuf) -> Void) {
    for key in waiting.keys { take(key).forEach(free) }
  }
}
