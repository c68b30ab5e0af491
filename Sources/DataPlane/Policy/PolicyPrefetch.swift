import CLayout
import IPsec

/// Flows that are not known come in bunches: what the SPD is asked for them is brought near for all of a bunch at once.
enum PolicyPrefetch {
  /// So few are looked up sooner than prepared.
  private static let fewest = 4

  /// Of the packets from `first` on those that the flow cache does not know, so many as one bunch has. Returns up to
  /// where.
  @inline(never)
  static func run(_ w: WorkerPointer, _ list: PacketList, from first: Int) -> Int {
    guard list.count &- first >= fewest else { return list.count }
    var entries = InlineArray<16, Entry>(repeating: Entry(packet: list[first]))
    var (next, count) = (first, 0)
    while next < list.count, count < entries.count {
      let packet = list[next]
      next &+= 1
      let known = w.pointee.flows.lookup(
        &packet.pointee.key, hash: packet.pointee.hash, generation: w.pointee.generation)
      if known != nil { continue }
      entries[count] = Entry(packet: packet)
      count &+= 1
    }
    if count >= fewest { bringNear(&entries, count, w.pointee.spd) }
    return next
  }

  /// A packet, and its look-ups in both directions.
  private struct Entry {
    let packet: PacketPointer
    var inbound = SPDPrefetch()
    var outbound = SPDPrefetch()
  }

  @inline(__always)
  private static func bringNear(_ entries: inout InlineArray<16, Entry>, _ count: Int, _ spd: SPDReader) {
    var step = 0
    while step < 4 {
      var i = 0
      while i < count {
        let packet = entries[i].packet
        if step == 0 {
          entries[i].inbound.begin(spd, &packet.pointee.key, direction: GW_IN)
          entries[i].outbound.begin(spd, &packet.pointee.key, direction: GW_OUT)
        } else {
          entries[i].inbound.advance(&packet.pointee.key, step: step)
          entries[i].outbound.advance(&packet.pointee.key, step: step)
        }
        i &+= 1
      }
      step &+= 1
    }
  }
}
