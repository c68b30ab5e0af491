import CDPDK
import CLayout
import DPDK
import IPsec

/// A policy that asks for protection and has no SA: OpenBSD's table of outcomes (ip_spd.c).
enum WithoutSA {
  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>) {
    switch UInt32(policy.pointee.type) {
    case GW_USE.rawValue:
      passInClear(w, packet)
    case GW_ACQUIRE.rawValue:
      acquire(w, packet, policy)
      passInClear(w, packet)
    case GW_REQUIRE.rawValue:
      acquire(w, packet, policy)
      w.drop(packet, .policyNoSA)
    default:
      w.drop(packet, .policyNoSA)
    }
  }

  private static func passInClear(_ w: WorkerPointer, _ packet: PacketPointer) {
    packet.pointee.policy = nil
    packet.pointee.adjacency = w.adjacencyIndex(of: packet)
    w.pointee.transmit.append(packet)
  }

  /// One question a policy at a time; the control thread clears the mark when it may be asked again.
  static func acquire(_ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>) {
    let asked = policy.acquirePendingAtomic.pointee.exchange(1, ordering: .relaxed)
    guard asked == 0 else { return }
    w.pointee.events.push(Event(.acquire, number: policy.pointee.index, key: packet.pointee.key))
  }
}
