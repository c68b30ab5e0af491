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
      w.drop(packet, sa, .fragmentNeeded)
      return false
    }
    if packet.pointee.version == 6 {
      // Nobody need send less than 1280 bytes (RFC 8200 5): such packets are cut outside, and so is what was put together
      // here, as its sender cannot do more than cut it, which it had done.
      guard length > 1280, packet.pointee.dontFragment else {
        packet.pointee.dontFragment = false
        return true
      }
      return refuse(w, packet, sa, mtu: max(mtu, 1280))
    }
    if packet.pointee.dontFragment { return refuse(w, packet, sa, mtu: max(mtu, 68)) }
    if !mayCut || !isCutBefore(w, packet, sa, mtu: mtu) { return true }
    fragmentBefore(w, packet, sa, mtu: mtu)
    return false
  }

  /// An IPv4 packet, in fragments through the tunnel and not in fragments of the tunnel's own.
  private static func isCutBefore(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: Int
  ) -> Bool {
    guard mtu >= 68, Int(packet.pointee.length) <= (mtu &- 60) &* Worker.maximumPieces else { return false }
    if sa.pointee.flags & GW_SA_DF_SET.rawValue != 0 { return true }
    // The peer's policy with ports is not for fragments, which show none (RFC 4301 7).
    if let policy = packet.pointee.policy, SPDReader.namesPorts(policy) { return false }
    return !w.pointee.shared.pointee.fragmentAfter.load(ordering: .relaxed)
  }

  private static func refuse(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: Int
  ) -> Bool {
    ExceptionStage.answer(w, packet, .tooBig, mtu: mtu)
    w.drop(packet, sa, .fragmentNeeded)
    return false
  }

  private static func fragmentBefore(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: Int
  ) {
    let made = cut(w, packet, mtu: mtu, areRecorded: true) { mbuf, length in
      guard let piece = w.nextPacket(mbuf, port: Int(packet.pointee.port), origin: packet.pointee.origin) else {
        return w.refuse(mbuf)
      }
      piece.pointee.ip = mbuf.data
      piece.pointee.length = Int32(truncatingIfNeeded: length)
      piece.pointee.version = packet.pointee.version
      piece.pointee.trafficClass = packet.pointee.trafficClass
      piece.pointee.dontFragment = false
      piece.pointee.isFragment = true
      piece.pointee.key = packet.pointee.key
      piece.pointee.sa = sa
      piece.pointee.policy = packet.pointee.policy
      piece.pointee.adjacency = packet.pointee.adjacency
      w.pointee.pieces.append(piece)
    }
    if made { w.free(packet.pointee.mbuf) }
  }

  /// Protected, and larger than what is known of the path of its last SA. Routers cut outer IPv4 packets that may be cut;
  /// outer IPv6 packets are only ever cut here.
  @inline(never)
  static func forPath(_ w: WorkerPointer, _ packet: PacketPointer) {
    let adjacency = w.pointee.adjacencies.adjacency(at: packet.pointee.adjacency)
    guard adjacency.pointee.kind == .forward, adjacency.pointee.state == .reachable, mayCut(packet) else {
      w.pointee.transmit.append(packet)
      return
    }
    // What waits to be sent stays before it.
    if w.pointee.transmit.count > 0 { TransmitStage.run(w) }
    atTransmit(w, packet, adjacency)
  }

  /// On its way out, larger than the link, or than the path.
  @inline(never)
  static func atTransmit(_ w: WorkerPointer, _ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>) {
    var mtu = Int(adjacency.pointee.mtu)
    guard mayCut(packet) else {
      ExceptionStage.answer(w, packet, .tooBig, mtu: mtu)
      w.drop(packet, .fragmentNeeded)
      return
    }
    if isSealed(packet), let sa = packet.pointee.sa { mtu = sa.pathMTU(linkMTU: adjacency.pointee.mtu) }
    let made = cut(w, packet, mtu: mtu, areRecorded: false) { mbuf, length in
      let frame = mbuf.data - 14
      adjacency.pointee.writeEthernetHeader(to: frame)
      send(w, mbuf, frame, length: length, port: Int(adjacency.pointee.port))
    }
    if made { w.free(packet.pointee.mbuf) }
  }

  /// The kernel's own datagram, put together here and looked up, and now in fragments again behind its frame's header.
  @inline(never)
  static func asFramed(_ w: WorkerPointer, _ packet: PacketPointer, mtu: Int) {
    let port = Int(packet.pointee.port)
    let header = UnsafeRawPointer(packet.pointee.ip - 14)
    let made = cut(w, packet, mtu: mtu, areRecorded: false) { mbuf, length in
      let frame = mbuf.data - 14
      frame.copyMemory(from: header, byteCount: 14)
      send(w, mbuf, frame, length: length, port: port)
    }
    if made { w.free(packet.pointee.mbuf) }
  }

  private static func send(
    _ w: WorkerPointer, _ mbuf: Mbuf, _ frame: UnsafeMutableRawPointer, length: Int, port: Int
  ) {
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: frame - mbuf.pointee.buf_addr.unsafelyUnwrapped)
    mbuf.setLength(length &+ 14)
    TransmitStage.enqueue(w, mbuf, port: port)
  }

  private static func isSealed(_ packet: PacketPointer) -> Bool {
    packet.pointee.policy != nil && packet.pointee.sa != nil
  }

  /// Of IPv6 what the gateway makes itself, and what it has put together.
  private static func mayCut(_ packet: PacketPointer) -> Bool {
    !packet.pointee.dontFragment || packet.pointee.version == 6 && isSealed(packet)
  }

  // MARK: Fragments

  /// Makes the fragments, each in a buffer of its own, and hands them on. False: the packet was dropped.
  /// - Parameter areRecorded: each becomes a packet of the burst's.
  private static func cut(
    _ w: WorkerPointer, _ packet: PacketPointer, mtu: Int, areRecorded: Bool, _ use: (Mbuf, Int) -> Void
  ) -> Bool {
    packet.pointee.version == 4
      ? cut4(w, packet, mtu: mtu, areRecorded: areRecorded, use)
      : cut6(w, packet, mtu: mtu, areRecorded: areRecorded, use)
  }

  private static func cut4(
    _ w: WorkerPointer, _ packet: PacketPointer, mtu: Int, areRecorded: Bool, _ use: (Mbuf, Int) -> Void
  ) -> Bool {
    let header = IPv4Header(checked: UnsafeRawPointer(packet.pointee.ip))
    guard let fragmenter = IPv4Fragmenter(header, mtu: mtu) else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    return pieces(w, packet, count: fragmenter.count, areRecorded: areRecorded, use) { index, buffer in
      let piece = fragmenter.piece(index)
      let length = fragmenter.headerLength(piece)
      fragmenter.writeHeader(piece, of: header, to: buffer)
      (buffer + length).copyMemory(from: header.payload + piece.offset, byteCount: piece.length)
      return length + piece.length
    }
  }

  private static func cut6(
    _ w: WorkerPointer, _ packet: PacketPointer, mtu: Int, areRecorded: Bool, _ use: (Mbuf, Int) -> Void
  ) -> Bool {
    let header = IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip))
    guard let fragmenter = IPv6Fragmenter(header, IPv6ExtensionHeaders(header), mtu: mtu) else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    let identification = UInt32(truncatingIfNeeded: w.pointee.random.next().0)
    let payload = header.base + fragmenter.unfragmentableLength
    return pieces(w, packet, count: fragmenter.count, areRecorded: areRecorded, use) { index, buffer in
      let piece = fragmenter.piece(index)
      fragmenter.writeHeaders(piece, of: header, identification: identification, to: buffer)
      (buffer + fragmenter.headerLength).copyMemory(from: payload + piece.offset, byteCount: piece.length)
      return fragmenter.headerLength + piece.length
    }
  }

  private static func pieces(
    _ w: WorkerPointer, _ packet: PacketPointer, count: Int, areRecorded: Bool, _ use: (Mbuf, Int) -> Void,
    _ fill: (Int, UnsafeMutableRawPointer) -> Int
  ) -> Bool {
    let most = Worker.maximumPieces
    guard !areRecorded || count <= most && w.pointee.records.hasRoom(count) else {
      w.drop(packet, .fragmentLimit)
      return false
    }
    var made = 0
    while made < count {
      let end = min(made &+ most, count)
      guard cdpdk_alloc_bulk(w.pointee.pool, w.pointee.pieceBuffers, UInt32(end &- made)) == 0 else {
        w.drop(packet, .noBuffer)
        return false
      }
      let first = made
      while made < end {
        let mbuf = w.pointee.pieceBuffers[made &- first].unsafelyUnwrapped
        let length = fill(made, mbuf.data)
        mbuf.setLength(length)
        use(mbuf, length)
        made &+= 1
      }
    }
    return true
  }
}
