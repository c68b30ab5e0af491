import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Fragments that are put together here, as policies, or the SA, want whole datagrams: what is for the gateway itself,
/// what its own kernel cut, and what transport mode protects.
enum Reassembly {
  /// A fragment whose flow is to be put together: it waits, or goes on as a whole datagram.
  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard put(w, packet) else { return }
    if packet.pointee.origin == .host { w.enqueueForPolicy(packet) } else { w.sort(packet) }
  }

  /// Fragments whose SA turned out to be one of transport mode: looked up again when they are whole.
  @inline(never)
  static func beforeTransport(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    // The SA that it came out of has made room for this one in the record: it could not be checked again.
    guard packet.pointee.origin != .tunnel else { return w.drop(packet, sa, .fragmentLimit) }
    packet.pointee.policy = nil
    packet.pointee.sa = nil
    if packet.pointee.origin != .host { MissingSA.restoreTTL(packet) }
    guard put(w, packet) else { return }
    w.enqueueForPolicy(packet)
  }

  /// True: `packet` is the whole datagram now.
  private static func put(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    let fragment = Fragment(packet)
    if let reason = fragment.fault {
      w.drop(packet, reason)
      return false
    }
    let now = cdpdk_cycles()
    let fragments = w.pointee.fragments
    fragments.collect(w, now: now)
    let key = key(w, packet, identification: fragment.identification)
    let whole = fragments.put(w, packet.pointee.mbuf, fragment.piece, key, now: now)
    guard whole != 0 else { return false }
    return join(w, packet, fragments.take(whole))
  }

  private static func key(_ w: WorkerPointer, _ packet: PacketPointer, identification: UInt32) -> FragmentKey {
    let flow = packet.pointee.key
    let isTunnel = packet.pointee.origin == .tunnel
    var key = FragmentKey(
      source: (flow.source_high, flow.source_low), destination: (flow.destination_high, flow.destination_low),
      identification: identification, ipProtocol: packet.pointee.version == 4 ? packet.pointee.ipProtocol : 0,
      version: packet.pointee.version, origin: packet.pointee.origin, port: isTunnel ? 0 : packet.pointee.port)
    guard isTunnel else { return key }
    let layers = w.layers(of: packet)
    func serial(_ layer: Int) -> UInt64 {
      layer < Int(packet.pointee.depth) ? UInt64(layers[layer].pointee.serial) : 0
    }
    key.layers = (serial(0) << 32 | serial(1), serial(2) << 32 | serial(3))
    return key
  }

  /// What one fragment says of itself.
  private struct Fragment {
    var piece: DatagramPiece
    var identification: UInt32
    private var isIPv4: Bool

    init(_ packet: PacketPointer) {
      let ip = packet.pointee.ip
      let bytes = UnsafeRawPointer(ip)
      let (offset, hasMore): (Int, Bool)
      let (headers, fragmentHeader): (Int, Int)
      isIPv4 = packet.pointee.version == 4
      if isIPv4 {
        let field = bytes.big16(at: 6)
        (offset, hasMore) = (Int(field & 0x1fff) &* 8, field & 0x2000 != 0)
        (headers, fragmentHeader) = (Int(packet.pointee.payloadOffset), 0)
        identification = UInt32(bytes.big16(at: 4))
      } else {
        let walk = IPv6ExtensionHeaders(IPv6Header(checked: bytes))
        (offset, hasMore) = (walk.fragmentOffset, walk.moreFragments)
        (headers, fragmentHeader) = (Int(walk.fragmentHeaderOffset), 8)
        identification = bytes.big32(at: headers &+ 4)
      }
      let before = headers &+ fragmentHeader
      piece = DatagramPiece(
        offset: offset, length: Int(packet.pointee.length) &- before, hasMore: hasMore, payload: ip + before,
        headers: headers, ecn: packet.pointee.trafficClass & 3)
    }

    /// The least link of IPv4, 68 bytes, carries 48 behind a header without options (RFC 791 3.2). Eight bytes are what
    /// an attacker cuts who wants the ports, or what follows ESP's sequence number, out of the first piece.
    static var tinyLength: Int { 8 }

    var fault: DropReason? {
      // IPv6 counts its length from behind the first 40 bytes.
      let total = piece.end &+ piece.headers
      guard piece.length > 0, total &- (isIPv4 ? 0 : IPv6Header.length) <= 0xffff else { return .fragmentMalformed }
      if piece.hasMore, piece.length & 7 != 0 { return .fragmentMalformed }
      if piece.hasMore, piece.length <= Self.tinyLength { return .fragmentTiny }
      return total > Segments.largestPacket ? .fragmentLimit : nil
    }
  }

  // MARK: Whole

  /// Makes one packet of all pieces, in the record of the one that came last. False: dropped.
  private static func join(_ w: WorkerPointer, _ packet: PacketPointer, _ whole: FragmentTable.Whole) -> Bool {
    let isIPv4 = packet.pointee.version == 4
    let note = whole.first.fragment.pointee
    let number = UnsafeRawPointer(note.payload - 8).byte(at: 0)
    packet.pointee.mbuf = whole.first
    // The first piece may have options that the others do not.
    let isTooLarge = Int(note.headers) &+ whole.length > Segments.largestPacket
    let ip = isTooLarge ? nil : gather(w, packet, whole, note, fragmentHeader: isIPv4 ? 0 : 8)
    freeOthers(w, whole, than: packet)
    guard let ip else {
      w.drop(packet, isTooLarge ? .fragmentLimit : .noBuffer)
      return false
    }
    packet.pointee.ip = ip
    packet.pointee.length = note.headers &+ Int32(truncatingIfNeeded: whole.length)
    if isIPv4 { writeIPv4(packet) } else { writeIPv6(packet, number: number, headers: Int(note.headers)) }
    return parse(w, packet, ecn: whole.ecn)
  }

  /// Headers and payload together, in the first piece's buffer or in a larger one, which becomes the packet's. Returns
  /// where the IP header is; nil: there is no buffer.
  private static func gather(
    _ w: WorkerPointer, _ packet: PacketPointer, _ whole: FragmentTable.Whole, _ note: FragmentNote, fragmentHeader: Int
  ) -> UnsafeMutableRawPointer? {
    let first = whole.first
    let ip = note.payload - (Int(note.headers) &+ fragmentHeader)
    let link = ip - first.data
    let before = link &+ Int(note.headers)
    var payload = note.payload
    if note.payload - first.pointee.buf_addr.unsafelyUnwrapped &+ whole.length <= Int(first.pointee.buf_len) {
      // What stands before the fragment header moves over it.
      if fragmentHeader > 0 { (first.data + fragmentHeader).copyMemory(from: first.data, byteCount: before) }
      first.pointee.data_off &+= UInt16(truncatingIfNeeded: fragmentHeader)
    } else {
      guard let mbuf = Segments.buffer(w, before &+ whole.length) else { return nil }
      mbuf.data.copyMemory(from: first.data, byteCount: before)
      mbuf.pointee.port = first.pointee.port
      payload = mbuf.data + before
      packet.pointee.mbuf = mbuf
    }
    let mbuf = packet.pointee.mbuf
    mbuf.setLength(before &+ whole.length)
    var next: Mbuf? = whole.pieces
    while let piece = next {
      let note = piece.fragment.pointee
      next = note.next
      guard piece != mbuf else { continue }
      (payload + Int(note.offset)).copyMemory(from: note.payload, byteCount: Int(note.length))
    }
    return mbuf.data + link
  }

  private static func freeOthers(_ w: WorkerPointer, _ whole: FragmentTable.Whole, than packet: PacketPointer) {
    var next: Mbuf? = whole.pieces
    while let piece = next {
      next = piece.fragment.pointee.next
      if piece != packet.pointee.mbuf { w.free(piece) }
    }
  }

  private static func writeIPv4(_ packet: PacketPointer) {
    let ip = packet.pointee.ip
    ip.setBig16(UInt16(truncatingIfNeeded: packet.pointee.length), at: 2)
    ip.setBig16(UnsafeRawPointer(ip).big16(at: 6) & 0x4000, at: 6)
    IPv4Header.setChecksum(ip, headerLength: Int(UnsafeRawPointer(ip).byte(at: 0) & 15) &* 4)
  }

  /// `number`: of what followed the fragment header of the first piece.
  private static func writeIPv6(_ packet: PacketPointer, number: UInt8, headers: Int) {
    let ip = packet.pointee.ip
    ip.setByte(number, at: AtomicFragment.numberOffset(UnsafeRawPointer(ip), before: headers))
    IPv6Header.setPayloadLength(
      ip, UInt16(truncatingIfNeeded: Int(packet.pointee.length) &- IPv6Header.length))
  }

  private static func parse(_ w: WorkerPointer, _ packet: PacketPointer, ecn: UInt8) -> Bool {
    let isIPv4 = packet.pointee.version == 4
    guard (isIPv4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)) == nil, !packet.pointee.isFragment else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    // Its sender cut it once, and it may be cut again.
    if !isIPv4 { packet.pointee.dontFragment = false }
    // RFC 3168 5.3: congestion that one piece met is not forgotten, and nobody is told who would not understand it.
    guard ecn & 1 << 3 != 0 else { return true }
    guard ecn & 1 << 0 == 0 else {
      w.drop(packet, .ecnCongestion)
      return false
    }
    if packet.pointee.trafficClass & 3 != 3 { packet.setECN(3) }
    return true
  }
}
