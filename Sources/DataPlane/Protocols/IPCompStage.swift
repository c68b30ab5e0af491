import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// IPComp (RFC 3173). What does not shrink goes without its header, as if there were no such SA.
enum IPCompStage {
  /// Of a decompressed packet: what the largest buffers hold.
  static var maximumLength: Int { Segments.largestRoom }

  // MARK: Outbound

  /// Compresses if that helps, and hands the packet on. The room was checked.
  @inline(never)
  static func seal(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    if sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0 {
      tunnel(w, packet, sa)
    } else {
      transport(w, packet, sa)
    }
    OutboundStage.advance(w, packet, sa)
  }

  private static func tunnel(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    let inner = packet.pointee.ip
    let length = Int(packet.pointee.length)
    let outer = Int(sa.pointee.outer_length)
    let nextHeader = packet.pointee.version == 4 ? IPProtocol.ipip : IPProtocol.ipv6
    let made = compress(w, sa, inner, length: length)
    guard made > 0 else {
      IPIPStage.put(w, packet, sa)
      return
    }
    OutboundStage.putOuterHeader(w, packet, sa, at: inner - outer, length: outer &+ IPCompHeader.length &+ made)
    write(w, sa, at: inner, nextHeader: nextHeader, length: made)
  }

  private static func transport(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    let position = Transport.position(packet)
    let payload = packet.pointee.ip + position.offset
    let nextHeader = UnsafeRawPointer(packet.pointee.ip).byte(at: position.nextHeaderOffset)
    let made = compress(w, sa, payload, length: Int(packet.pointee.length) &- position.offset)
    guard made > 0 else { return }
    write(w, sa, at: payload, nextHeader: nextHeader, length: made)
    Transport.moveHeader(
      packet, position, to: payload, ipProtocol: IPComp.ipProtocol,
      length: position.offset &+ IPCompHeader.length &+ made)
  }

  /// 0: it stays as it is.
  private static func compress(
    _ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ payload: UnsafeMutableRawPointer, length: Int
  ) -> Int {
    let serial = sa.pointee.serial
    guard length >= IPComp.minimumLength, w.pointee.scratch.history.shouldTry(serial: serial) else { return 0 }
    let made = w.pointee.scratch.deflate.compress(payload, length: length, limit: length &- IPCompHeader.length)
    w.pointee.scratch.history.note(serial: serial, didShrink: made > 0)
    return made
  }

  private static func write(
    _ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, at header: UnsafeMutableRawPointer, nextHeader: UInt8,
    length: Int
  ) {
    IPCompHeader.write(header, nextHeader: nextHeader, cpi: IPComp.cpi(sa))
    (header + IPCompHeader.length).copyMemory(from: w.pointee.scratch.deflate.output, byteCount: length)
  }

  // MARK: Inbound

  /// Decompresses within what a packet may be, and hands the packet on.
  @inline(never)
  static func open(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    // In tunnel mode a packet that did not shrink comes as IP in IP: the SAD knows the SA by that too.
    guard packet.pointee.ipProtocol == IPComp.ipProtocol else {
      IPIPStage.open(w, packet, sa)
      return
    }
    let offset = Int(packet.pointee.payloadOffset)
    let header = packet.pointee.ip + offset
    let nextHeader = UnsafeRawPointer(header).byte(at: 0)
    let length = Int(packet.pointee.length) &- offset &- IPCompHeader.length
    guard length > 0,
      let made = w.pointee.scratch.deflate.decompress(
        header + IPCompHeader.length, length: length, limit: maximumLength &- offset),
      made > 0, place(w, packet, offset: offset, length: made)
    else {
      w.drop(packet, sa, .decompression)
      return
    }
    SACount.one(w, sa, bytes: made)
    InboundStage.unwrap(
      w, packet, sa, payload: packet.pointee.ip + offset, length: made, nextHeader: nextHeader)
  }

  /// Puts what was decompressed behind the packet's headers, in a larger buffer if need be. False: there is none.
  private static func place(_ w: WorkerPointer, _ packet: PacketPointer, offset: Int, length: Int) -> Bool {
    let old = packet.pointee.mbuf
    let before = packet.pointee.ip - old.pointee.buf_addr.unsafelyUnwrapped
    if before &+ offset &+ length > Int(old.pointee.buf_len) {
      guard let mbuf = Segments.buffer(w, offset &+ length) else { return false }
      mbuf.data.copyMemory(from: packet.pointee.ip, byteCount: offset)
      packet.pointee.ip = mbuf.data
      packet.pointee.mbuf = mbuf
      w.free(old)
    }
    (packet.pointee.ip + offset).copyMemory(from: w.pointee.scratch.deflate.output, byteCount: length)
    return true
  }
}
