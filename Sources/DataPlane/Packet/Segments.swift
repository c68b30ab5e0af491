import CDPDK
import CLayout
import DPDK
import IPsec

/// Packets in several buffers, or in one without room: copied into one that has it. Rare; off the fast path.
enum Segments {
  /// Of IP: a buffer of `BufferPools.large` with an Ethernet header before it, and with the four bytes behind it that AH's
  /// engine may use.
  static var largestPacket: Int { Mempool.largestRoom - 14 - 4 }
  /// Behind the usual headroom of such a buffer.
  static var largestRoom: Int { Mempool.largestRoom - Mempool.headroom }

  /// A fresh buffer with room for so many bytes, at the usual place if that leaves it. Nil: there is none.
  @inline(never)
  static func buffer(_ w: WorkerPointer, _ bytes: Int) -> Mbuf? {
    if bytes <= BufferPools.jumboRoom { return cdpdk_alloc(w.pointee.jumboPool) }
    guard bytes <= Mempool.largestRoom, let mbuf = cdpdk_alloc(w.pointee.largePool) else { return nil }
    let spare = Int(mbuf.pointee.buf_len) &- bytes
    if spare < Mempool.headroom { mbuf.pointee.data_off = UInt16(truncatingIfNeeded: max(0, spare &- 4)) }
    return mbuf
  }

  /// The packet in one buffer; nil if there is none that is large enough (the old one stays the caller's).
  @inline(never)
  static func linearize(_ w: WorkerPointer, _ mbuf: Mbuf) -> Mbuf? {
    if cdpdk_linearize(mbuf) == 0 { return mbuf }
    let length = Int(mbuf.pointee.pkt_len)
    guard let single = buffer(w, length) else { return nil }
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
    let needed = length + Int(sa.pointee.overhead) + padding
    // One that reaches further down than usual has no room for headers.
    guard needed <= largestRoom else {
      w.drop(packet, sa, .noTailroom)
      return false
    }
    guard let mbuf = buffer(w, needed) else {
      w.drop(packet, sa, .noBuffer)
      return false
    }
    guard mbuf.headroom >= Int(sa.pointee.overhead), mbuf.tailroom >= needed else {
      cdpdk_free(mbuf)
      w.drop(packet, sa, .noTailroom)
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
