import CLayout
import DPDK
import IPsec
import Wire

/// IP in IP (RFC 2003, RFC 2473, RFC 4213) without protection, all four pairs of families.
enum IPIPStage {
  @inline(never)
  static func seal(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    put(w, packet, sa)
    OutboundStage.advance(w, packet, sa)
  }

  /// The tunnel header of the SA, with the inner packet's family as its protocol.
  static func put(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    let number = packet.pointee.version == 4 ? IPProtocol.ipip : IPProtocol.ipv6
    let start = packet.pointee.ip - Int(sa.pointee.outer_length)
    OutboundStage.putOuterHeader(
      w, packet, sa, at: start, length: Int(packet.pointee.length) &+ Int(sa.pointee.outer_length))
    if packet.pointee.version == 4 {
      IPv4Header.setProtocol(start, number)
    } else {
      IPv6Header.setNextHeader(start, number)
    }
  }

  @inline(never)
  static func open(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    // The SAD goes by 32 bits of the source.
    guard packet.pointee.key.source_low == sa.pointee.source_low,
      packet.pointee.key.source_high == sa.pointee.source_high
    else {
      w.drop(packet, sa, .noSA)
      return
    }
    let offset = Int(packet.pointee.payloadOffset)
    let length = Int(packet.pointee.length) &- offset
    SACount.one(w, sa, bytes: length)
    InboundStage.unwrap(
      w, packet, sa, payload: packet.pointee.ip + offset, length: length, nextHeader: packet.pointee.ipProtocol)
  }
}
