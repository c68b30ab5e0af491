import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Synchronization
import Wire

/// Packets larger than their way allows: refused with ICMP where the sender must adapt, cut where it may be done
/// (RFC 4301 8.2, RFC 4459).
enum TooBig {
  /// The largest inner packet that `limit` bytes of outer packet hold, for this SA in tunnel mode.
  static func innerMTU(_ sa: UnsafeMutablePointer<gw_sa>, limit: Int) -> Int {
    let fixed =
      Int(sa.pointee.outer_length) + ESP.headerLength + Int(sa.pointee.iv_length) + Int(sa.pointee.icv_length)
    return ((limit - fixed) & ~(Int(sa.pointee.alignment) - 1)) - 2
  }

  /// True: the packet may go through the SA as it is (it fits, or its outer packet will be cut). False: it went elsewhere.
  @inline(never)
  static func fits(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, limit: Int
  ) -> Bool {
    // No way is known yet: whoever finds it decides.
    guard limit > 0 else { return true }
    return fits(w, packet, sa, mtu: innerMTU(sa, limit: limit), mayCut: true)
  }

  /// `mtu`: of the inner packet. `mayCut`: fragments may go through the SA, one by one.
  static func fits(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: Int, mayCut: Bool
  ) -> Bool {
    let length = Int(packet.pointee.length)
    if length <= mtu { return true }
    guard packet.pointee.version != DummyStage.version else {
      OutboundStage.dropCounted(w, packet, sa, .fragmentNeeded)
      return false
    }
    if packet.pointee.version == 6 {
      // Nobody need send less than 1280 bytes (RFC 8200 5): such packets are cut outside.
      guard length > 1280 else {
        packet.pointee.dontFragment = false
        return true
      }
      return refuse(w, packet, sa, mtu: max(mtu, 1280))
    }
    if packet.pointee.dontFragment { return refuse(w, packet, sa, mtu: max(mtu, 68)) }
    if !mayCut || mtu < 68 || w.pointee.shared.pointee.fragmentAfter.load(ordering: .relaxed) { return true }
    fragmentBefore(w, packet, sa, mtu: mtu)
    return false
  }

  private static func refuse(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: Int
  ) -> Bool {
    ExceptionStage.answer(w, packet, .tooBig, mtu: mtu)
    OutboundStage.dropCounted(w, packet, sa, .fragmentNeeded)
    return false
  }

  private static func fragmentBefore(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: Int
  ) {
    let made = cut(w, packet, mtu: mtu) { piece in
      piece.pointee.sa = sa
      piece.pointee.policy = packet.pointee.policy
      piece.pointee.adjacency = packet.pointee.adjacency
      w.pointee.pieces.append(piece)
    }
    if made { w.free(packet.pointee.mbuf) }
  }

  /// On its way out, larger than the link.
  @inline(never)
  static func atTransmit(_ w: WorkerPointer, _ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>) {
    let mtu = Int(adjacency.pointee.mtu)
    let isSealed = packet.pointee.policy != nil && packet.pointee.sa != nil
    let mayCut = packet.pointee.version == 4 ? !packet.pointee.dontFragment : isSealed
    guard mayCut else {
      ExceptionStage.answer(w, packet, .tooBig, mtu: mtu)
      w.drop(packet, .fragmentNeeded)
      return
    }
    let others = w.pointee.records.count
    let made = cut(w, packet, mtu: mtu) { piece in TransmitStage.send(w, piece, adjacency) }
    // The pieces have left.
    w.pointee.records.release(keeping: others)
    if made { w.free(packet.pointee.mbuf) }
  }

  /// Makes the fragments, each in a buffer of its own, and hands them on. False: dropped, and nothing was handed on.
  private static func cut(
    _ w: WorkerPointer, _ packet: PacketPointer, mtu: Int, _ use: (PacketPointer) -> Void
  ) -> Bool {
    packet.pointee.version == 4 ? cut4(w, packet, mtu: mtu, use) : cut6(w, packet, mtu: mtu, use)
  }

  private static func cut4(
    _ w: WorkerPointer, _ packet: PacketPointer, mtu: Int, _ use: (PacketPointer) -> Void
  ) -> Bool {
    let header = IPv4Header(checked: UnsafeRawPointer(packet.pointee.ip))
    guard let fragmenter = IPv4Fragmenter(header, mtu: mtu) else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    return pieces(w, packet, count: fragmenter.count, use) { index, buffer in
      let piece = fragmenter.piece(index)
      let length = fragmenter.headerLength(piece)
      fragmenter.writeHeader(piece, of: header, to: buffer)
      (buffer + length).copyMemory(from: header.payload + piece.offset, byteCount: piece.length)
      return length + piece.length
    }
  }

  private static func cut6(
    _ w: WorkerPointer, _ packet: PacketPointer, mtu: Int, _ use: (PacketPointer) -> Void
  ) -> Bool {
    let header = IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip))
    guard let fragmenter = IPv6Fragmenter(header, IPv6ExtensionHeaders(header), mtu: mtu) else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    let identification = UInt32(truncatingIfNeeded: w.pointee.random.next().0)
    let payload = header.base + fragmenter.unfragmentableLength
    return pieces(w, packet, count: fragmenter.count, use) { index, buffer in
      let piece = fragmenter.piece(index)
      fragmenter.writeHeaders(piece, of: header, identification: identification, to: buffer)
      (buffer + fragmenter.headerLength).copyMemory(from: payload + piece.offset, byteCount: piece.length)
      return fragmenter.headerLength + piece.length
    }
  }

  private static func pieces(
    _ w: WorkerPointer, _ packet: PacketPointer, count: Int, _ use: (PacketPointer) -> Void,
    _ fill: (Int, UnsafeMutableRawPointer) -> Int
  ) -> Bool {
    guard count <= Worker.maximumPieces, w.pointee.records.hasRoom(count) else {
      w.drop(packet, .fragmentLimit)
      return false
    }
    guard cdpdk_alloc_bulk(w.pointee.pool, w.pointee.pieceBuffers, UInt32(count)) == 0 else {
      w.drop(packet, .noBuffer)
      return false
    }
    for index in 0..<count {
      let mbuf = w.pointee.pieceBuffers[index].unsafelyUnwrapped
      let length = fill(index, mbuf.data)
      mbuf.setLength(length)
      guard let piece = w.nextPacket(mbuf, port: Int(packet.pointee.port), origin: packet.pointee.origin) else {
        w.refuse(mbuf)
        continue
      }
      piece.pointee.ip = mbuf.data
      piece.pointee.length = Int32(truncatingIfNeeded: length)
      piece.pointee.version = packet.pointee.version
      piece.pointee.trafficClass = packet.pointee.trafficClass
      piece.pointee.dontFragment = false
      piece.pointee.isFragment = true
      piece.pointee.key = packet.pointee.key
      use(piece)
    }
    return true
  }
}
