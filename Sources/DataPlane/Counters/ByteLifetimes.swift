import CLayout
import IPsec

/// Lifetimes by bytes and packets, on the SA's shared counts: soft reported, hard stops the SA before the next packet.
enum ByteLifetimes {
  @inline(never)
  static func charge(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, packets: Int, bytes: Int) {
    let usedPackets = sa.usedPacketsAtomic.pointee.wrappingAdd(UInt64(packets), ordering: .relaxed).newValue
    let usedBytes = sa.usedBytesAtomic.pointee.wrappingAdd(UInt64(bytes), ordering: .relaxed).newValue
    if reached(usedBytes, sa.pointee.hard_bytes) || reached(usedPackets, sa.pointee.hard_packets) {
      report(w, sa, GW_SA_HARD_REPORTED.rawValue | GW_SA_STOPPED.rawValue, .hardLimit)
    } else if reached(usedBytes, sa.pointee.soft_bytes) || reached(usedPackets, sa.pointee.soft_packets) {
      report(w, sa, GW_SA_SOFT_REPORTED.rawValue, .softLimit)
    }
  }

  /// Once for each SA: the worker that sets the bits tells.
  @inline(never)
  static func report(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ bits: UInt32, _ kind: Event.Kind) {
    let before = sa.statusAtomic.pointee.bitwiseOr(bits, ordering: .relaxed).oldValue
    guard before & bits != bits, !w.pointee.events.push(Event(kind, number: sa.pointee.serial)) else { return }
    // What has stopped stays so: the control thread looks for it where events were lost.
    sa.statusAtomic.pointee.bitwiseAnd(~(bits & ~GW_SA_STOPPED.rawValue), ordering: .relaxed)
  }

  @inline(__always)
  private static func reached(_ used: UInt64, _ limit: UInt64) -> Bool { limit != 0 && used >= limit }
}
