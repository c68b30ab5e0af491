import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing

/// Outbound SAs that are not a single ESP tunnel: transport mode, bundles, TFC padding.
enum OtherOutbound {
  /// False: the packet went elsewhere.
  @inline(never)
  static func accepts(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    packet.pointee.adjacency = adjacency(w, packet, sa)
    let limit = w.outerMTU(sa, packet.pointee.adjacency)
    let needed = Int(packet.pointee.length) + overhead(sa)
    if needed > limit, limit > 0 {
      if packet.pointee.version == 6 || packet.pointee.dontFragment {
        ExceptionStage.answer(w, packet, .tooBig, mtu: limit - overhead(sa))
        OutboundStage.dropCounted(w, packet, sa, .fragmentNeeded)
        return false
      }
    }
    return OutboundStage.hasRoom(w, packet, sa)
  }

  /// Of the last tunnel in the bundle, or the packet's own.
  private static func adjacency(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>
  ) -> UInt32 {
    var result: UInt32?
    var next: UnsafeMutablePointer<gw_sa>? = sa
    while let current = next {
      if current.pointee.flags & GW_SA_TUNNEL.rawValue != 0 { result = w.outerAdjacency(current) }
      next = current.nextAtomic.pointee.load(ordering: .acquiring)
    }
    return result ?? w.adjacencyIndex(of: packet)
  }

  private static func overhead(_ sa: UnsafeMutablePointer<gw_sa>) -> Int {
    var sum = 0
    var next: UnsafeMutablePointer<gw_sa>? = sa
    while let current = next {
      sum += Int(current.pointee.overhead)
      next = current.nextAtomic.pointee.load(ordering: .acquiring)
    }
    return sum
  }

  /// True: `job` is filled.
  @inline(never)
  static func frame(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ job: UnsafeMutablePointer<CryptoJob>
  ) -> Bool {
    guard sa.pointee.sa_protocol == ESP.ipProtocol else {
      OutboundStage.dropCounted(w, packet, sa, .sealFailed)
      return false
    }
    Transport.frame(w, packet, sa, job)
    return true
  }

  /// The packet, sealed by one SA of a bundle, goes on to the next.
  @inline(never)
  static func continueBundle(_ w: WorkerPointer, _ packet: PacketPointer, _ next: UnsafeMutablePointer<gw_sa>) {
    packet.pointee.depth += 1
    guard packet.pointee.depth < OutboundStage.maximumBundle else {
      OutboundStage.dropCounted(w, packet, next, .bundleTooDeep)
      return
    }
    OutboundStage.trim(packet)
    packet.pointee.sa = next
    let refused = packet.pointee.version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)
    guard refused == nil else {
      OutboundStage.dropCounted(w, packet, next, .sealFailed)
      return
    }
    guard OutboundStage.hasRoom(w, packet, next) else { return }
    w.pointee.outbound.append(packet)
  }
}
