import DPDK

/// Packets whose policy has asked a key daemon for an SA and that wait for it, within limits for each policy and for
/// all. One thread's.
struct SAQueue {
  /// For one policy: packets and bytes, and seconds from the first packet on.
  static let packetsPerPolicy = 16
  static let bytesPerPolicy = 32 << 10
  static let patience = 5.0
  static let packetsInAll = 1024

  private struct Waiting {
    var packets: [Mbuf] = []
    var bytes = 0
    var since: Double
  }
  private var waiting: [UInt32: Waiting] = [:]
  private(set) var count = 0

  /// False: there is no room, and the packet is the caller's still. The first packets stay, those that come later go.
  mutating func add(_ mbuf: Mbuf, for policy: UInt32, now: Double) -> Bool {
    let bytes = Int(mbuf.pointee.pkt_len)
    var entry = waiting[policy] ?? Waiting(since: now)
    guard count < Self.packetsInAll, entry.packets.count < Self.packetsPerPolicy,
      entry.bytes + bytes <= Self.bytesPerPolicy
    else { return false }
    entry.packets.append(mbuf)
    entry.bytes += bytes
    waiting[policy] = entry
    count += 1
    return true
  }

  /// All that wait for an SA of the policy, oldest first.
  mutating func take(_ policy: UInt32) -> [Mbuf] {
    guard let entry = waiting.removeValue(forKey: policy) else { return [] }
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
