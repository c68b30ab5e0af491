import CDPDK
import CLayout
import DPDK
import IPsec

/// Packets of an SA that is stopped, whose numbers wait to be reserved, or that has no key schedule at the moment: these
/// wait at the host thread until the control thread has made one.
enum UnusableSA {
  @inline(never)
  static func inbound(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    if sa.statusAtomic.pointee.load(ordering: .relaxed) & GW_SA_STOPPED.rawValue != 0 {
      return w.drop(packet, sa, .saStopped)
    }
    // What came out of another SA, or was put together, cannot be taken up again from its frame.
    guard packet.pointee.origin == .clear, packet.pointee.depth == 0, !packet.pointee.isFragment else {
      w.drop(packet, sa, .saUnkeyed)
      return ask(w, sa)
    }
    wait(w, packet, sa, .waitsToBeOpened)
  }

  @inline(never)
  static func outbound(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    let status = sa.statusAtomic.pointee.load(ordering: .relaxed)
    if status & GW_SA_STOPPED.rawValue != 0 { return w.drop(packet, sa, .saStopped) }
    if status & GW_SA_HELD.rawValue != 0 { return w.drop(packet, sa, .sequenceUnreserved) }
    let isWhole = packet.pointee.version == 4 || packet.pointee.version == 6
    let mayWait = packet.pointee.origin == .clear || packet.pointee.origin == .host
    guard mayWait, packet.pointee.depth == 0, isWhole else {
      w.drop(packet, sa, .saUnkeyed)
      return ask(w, sa)
    }
    if packet.pointee.origin == .clear { MissingSA.restoreTTL(packet) }
    wait(w, packet, sa, .waitsForKeys)
  }

  private static func wait(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ kind: PacketNote.Kind
  ) {
    MissingSA.wait(w, packet, kind, sa.pointee.serial, orDrop: .saUnkeyed)
    // After the packet is in the ring: when the schedule is made, the host thread looks there.
    ask(w, sa)
  }

  /// Once for all packets until there is an answer.
  private static func ask(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    let mark = GW_SA_KEYS_ASKED.rawValue
    guard sa.statusAtomic.pointee.bitwiseOr(mark, ordering: .acquiringAndReleasing).oldValue & mark == 0 else { return }
    guard !w.pointee.events.push(Event(.unkeyed, number: sa.pointee.serial)) else { return }
    // Nobody heard it: the next packet asks.
    sa.statusAtomic.pointee.bitwiseAnd(~mark, ordering: .relaxed)
  }
}
