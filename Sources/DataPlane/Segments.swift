import CDPDK
import CLayout
import DPDK
import IPsec

/// Packets in several buffers, or in one without room: copied into one that has it. Rare; off the fast path.
enum Segments {
  /// The packet in one buffer; nil if there is none that is large enough (the old one stays the caller's).
  @inline(never)
  static func linearize(_ w: WorkerPointer, _ mbuf: Mbuf) -> Mbuf? {
    if cdpdk_linearize(mbuf) == 0 { return mbuf }
    let length = Int(mbuf.pointee.pkt_len)
    guard let single = cdpdk_alloc(w.pointee.jumboPool) else { return nil }
    guard single.tailroom >= length else {
      cdpdk_free(single)
      return nil
    }
    var offset = 0
    var segment: Mbuf? = mbuf
    while let piece = segment {
      let count = Int(piece.pointee.data_len)
      (single.data + offset).copyMemory(from: piece.data, byteCount: count)
      offset += count
      segment = piece.pointee.next
    }
    single.setLength(offset)
    single.pointee.port = mbuf.pointee.port
    w.free(mbuf)
    return single
  }

  /// Moves the packet so that the SA's headers and trailer fit; false: dropped.
  /// - Parameter padding: bytes of TFC padding besides.
  @inline(never)
  static func makeRoom(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, padding: Int = 0
  ) -> Bool {
    let old = packet.pointee.mbuf
    let length = Int(packet.pointee.length)
    guard let mbuf = cdpdk_alloc(w.pointee.jumboPool) else {
      OutboundStage.dropCounted(w, packet, sa, .noBuffer)
      return false
    }
    let needed = length + Int(sa.pointee.overhead) + padding
    guard mbuf.headroom >= Int(sa.pointee.overhead), mbuf.tailroom >= needed else {
      cdpdk_free(mbuf)
      OutboundStage.dropCounted(w, packet, sa, .noTailroom)
      return false
    }
    mbuf.data.copyMemory(from: packet.pointee.ip, byteCount: length)
    mbuf.setLength(length)
    packet.pointee.ip = mbuf.data
    packet.pointee.mbuf = mbuf
    w.free(old)
    return true
  }
}
