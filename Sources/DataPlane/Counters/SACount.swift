import CLayout
import IPsec

/// Adds up what neighbours of one SA did, so that its counters are touched once.
struct SACount {
  let sa: UnsafeMutablePointer<gw_sa>
  private var packets = 0
  private var bytes = 0

  @inline(__always)
  init(_ sa: UnsafeMutablePointer<gw_sa>) { self.sa = sa }

  @inline(__always)
  mutating func add(bytes length: Int) {
    packets &+= 1
    bytes &+= length
  }

  /// One packet of an SA whose packets need no engine.
  @inline(never)
  static func one(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, bytes: Int) {
    var count = SACount(sa)
    count.add(bytes: bytes)
    count.end(w)
  }

  @inline(__always)
  func end(_ w: WorkerPointer) {
    guard packets > 0 else { return }
    w.pointee.counters.add(slot: sa.pointee.slot, packets: UInt64(packets), bytes: UInt64(bytes), now: w.pointee.now)
    if sa.pointee.flags & GW_SA_LIMITED.rawValue != 0 { ByteLifetimes.charge(w, sa, packets: packets, bytes: bytes) }
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  /// Drops a packet of an SA's, and counts it against the SA too.
  @inline(never)
  func drop(_ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ reason: DropReason) {
    let slot = sa.pointee.slot
    switch reason {
    case .integrity: pointee.counters.addIntegrityFailures(slot: slot, 1)
    case .replayTooOld, .replayDuplicate: pointee.counters.addReplayed(slot: slot, 1)
    default: break
    }
    pointee.counters.addDrops(slot: slot, 1)
    drop(packet, reason)
  }
}
