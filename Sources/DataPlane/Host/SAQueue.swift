import DPDK

/// Packets whose policy has asked a key daemon for an SA, or whose SA has no key schedule, and that wait for it, within
/// limits for each policy and for all. One thread's.
struct SAQueue {
  /// For one policy or SA: packets and bytes, and seconds from the first packet on.
  static let packetsPerPolicy = 16
  static let bytesPerPolicy = 32 << 10
  static let patience = 5.0
  static let packetsInAll = 1024

  /// What a packet waits for: an SA of a policy, the key schedule of an SA, or the SA of an SPI.
  enum Want: Hashable, Sendable {
    case policy(UInt32)
    case sa(UInt32)
    case spi(UInt32)
  }

  private struct Waiting {
    var packets: [Mbuf] = []
    var bytes = 0
    var since: Double
  }
  private var waiting: [Want: Waiting] = [:]
  private(set) var count = 0

  /// False: there is no room, and the packet is the caller's still. The first packets stay, those that come later go.
  mutating func add(_ mbuf: Mbuf, for want: Want, now: Double) -> Bool {
    let bytes = Int(mbuf.pointee.pkt_len)
    var entry = waiting[want] ?? Waiting(since: now)
    guard count < Self.packetsInAll, entry.packets.count < Self.packetsPerPolicy,
      entry.bytes + bytes <= Self.bytesPerPolicy
    else { return false }
    entry.packets.append(mbuf)
    entry.bytes += bytes
    waiting[want] = entry
    count += 1
    return true
  }

  /// All that wait for it, oldest first.
  mutating func take(_ want: Want) -> [Mbuf] {
    guard let entry = waiting.removeValue(forKey: want) else { return [] }
    count -= entry.packets.count
    return entry.packets
  }

  mutating func takeAll() -> [Mbuf] { waiting.keys.flatMap { take($0) } }

  /// Those that have waited too long.
  mutating func expired(now: Double) -> [Mbuf] {
    guard !waiting.isEmpty else { return [] }
    return waiting.filter { now - $0.value.since > Self.patience }.keys.flatMap { take($0) }
  }
}
