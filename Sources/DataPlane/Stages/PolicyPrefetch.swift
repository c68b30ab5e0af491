import CLayout
import IPsec

/// Flows that are not known come in bunches: what the SPD is asked for them is brought near for all of a bunch at once.
enum PolicyPrefetch {
  /// A kibibyte of the stack.
  private static let most = 16
  /// So few are looked up sooner than prepared.
  private static let fewest = 4

  /// Of the packets from `first` on those that the flow cache does not know, so many as one bunch has. Returns up to
  /// where.
  @inline(never)
  static func run(_ w: WorkerPointer, _ list: PacketList, from first: Int) -> Int {
    guard list.count &- first >= fewest else { return list.count }
    return withUnsafeTemporaryAllocation(of: Entry.self, capacity: most) { entries in
      let entries = entries.baseAddress.unsafelyUnwrapped
      var (next, count) = (first, 0)
      while next < list.count, count < most {
        let packet = list[next]
        next &+= 1
        let known = w.pointee.flows.lookup(
          &packet.pointee.key, hash: packet.pointee.hash, generation: w.pointee.generation)
        if known != nil { continue }
        (entries + count).initialize(to: Entry(packet: packet))
        count &+= 1
      }
      if count >= fewest { bringNear(entries, count, w.pointee.spd) }
      return next
    }
  }

  /// A packet, and its look-ups in both directions.
  private struct Entry {
    let packet: PacketPointer
    var inbound = SPDPrefetch()
    var outbound = SPDPrefetch()
  }

  @inline(__always)
  private static func bringNear(_ entries: UnsafeMutablePointer<Entry>, _ count: Int, _ spd: SPDReader) {
    var step = 0
    while step < 4 {
      var i = 0
      while i < count {
        let entry = entries + i
        i &+= 1
        let packet = entry.pointee.packet
        if step == 0 {
          entry.pointee.inbound.begin(spd, &packet.pointee.key, direction: GW_IN)
          entry.pointee.outbound.begin(spd, &packet.pointee.key, direction: GW_OUT)
        } else {
          entry.pointee.inbound.advance(&packet.pointee.key, step: step)
          entry.pointee.outbound.advance(&packet.pointee.key, step: step)
        }
      }
      step &+= 1
    }
  }
}
