import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Fragments addressed to the gateway itself. What may be IPsec is put together here, within the limits of rte_ip_frag's
/// table; the rest goes to the kernel in pieces.
enum Reassembly {
  /// Protocols that are IPsec or may carry it. Their policy is looked up when the datagram is whole.
  static func takes(_ ipProtocol: UInt8) -> Bool {
    switch ipProtocol {
    case IPProtocol.esp, IPProtocol.ah, IPProtocol.ipcomp, IPProtocol.udp, IPProtocol.ipip, IPProtocol.ipv6: true
    default: false
    }
  }

  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard takes(packet.pointee.ipProtocol) else {
      HostStage.deliver(w, packet)
      return
    }
    if put(w, packet) { w.sort(packet) }
  }

  /// Fragments that a transport-mode SA would protect: looked up again when they are whole.
  @inline(never)
  static func beforeTransport(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard put(w, packet) else { return }
    packet.pointee.policy = nil
    packet.pointee.sa = nil
    w.enqueueForPolicy(packet)
  }

  /// True: `packet` is the whole datagram now.
  private static func put(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    guard let table = w.pointee.reassembly else {
      w.drop(packet, .fragmentLimit)
      return false
    }
    let piece = Piece(packet)
    if let reason = piece.fault {
      w.drop(packet, reason)
      return false
    }
    let mbuf = packet.pointee.mbuf
    let offset = UInt16(truncatingIfNeeded: packet.pointee.ip - mbuf.data)
    let now = cdpdk_cycles()
    collect(w)
    let whole =
      packet.pointee.version == 4
      ? cdpdk_reassemble_ipv4(table, mbuf, now, offset)
      : cdpdk_reassemble_ipv6(table, mbuf, now, offset, offset &+ UInt16(IPv6Header.length))
    guard let whole else {
      count(w, refused: cdpdk_reassembly_refused(table))
      return false
    }
    return complete(w, whole, packet, offset: Int(offset))
  }

  /// One alone found no room; as many as are kept, the first or the last one missing at most, are too many; fewer do not
  /// fit together.
  private static func count(_ w: WorkerPointer, refused: UInt32) {
    guard refused > 0 else { return }
    let isLimit = refused == 1 || refused >= cdpdk_reassembly_max_fragments() &- 1
    let reason: DropReason = isLimit ? .fragmentLimit : .fragmentOverlap
    (w.pointee.drops + Int(reason.rawValue)).add(Int(refused))
  }

  /// What one fragment says of itself.
  private struct Piece {
    /// Where the bytes behind the header, or behind the fragment header, go; in bytes.
    var offset: Int
    var length: Int
    var hasMore: Bool
    /// The IPv6 fragment header follows the IPv6 header directly.
    var isPlain = true

    init(_ packet: PacketPointer) {
      let ip = UnsafeRawPointer(packet.pointee.ip)
      if packet.pointee.version == 4 {
        let field = ip.big16(at: 6)
        offset = Int(field & 0x1fff) &* 8
        hasMore = field & 0x2000 != 0
        length = Int(packet.pointee.length) &- Int(packet.pointee.payloadOffset)
      } else {
        let headers = IPv6ExtensionHeaders(IPv6Header(checked: ip))
        offset = headers.fragmentOffset
        hasMore = headers.moreFragments
        isPlain = Int(headers.fragmentHeaderOffset) == IPv6Header.length
        length = Int(packet.pointee.length) &- IPv6Header.length &- 8
      }
    }

    /// The least link of IPv4, 68 bytes, carries 48 behind a header without options (RFC 791 3.2). Eight bytes are what
    /// an attacker cuts who wants the ports, or what follows ESP's sequence number, out of the first piece.
    static var tinyLength: Int { 8 }

    var fault: DropReason? {
      guard isPlain, length > 0, offset &+ length <= 0xffff &- 60 else { return .fragmentMalformed }
      guard hasMore else { return nil }
      if length & 7 != 0 { return .fragmentMalformed }
      return length <= Self.tinyLength ? .fragmentTiny : nil
    }
  }

  private static func complete(_ w: WorkerPointer, _ chain: Mbuf, _ packet: PacketPointer, offset: Int) -> Bool {
    packet.pointee.mbuf = chain
    guard let mbuf = chain.pointee.nb_segs == 1 ? chain : Segments.linearize(w, chain) else {
      w.drop(packet, .multiSegment)
      return false
    }
    packet.pointee.mbuf = mbuf
    packet.pointee.ip = mbuf.data + offset
    packet.pointee.length = Int32(truncatingIfNeeded: Int(mbuf.pointee.data_len) - offset)
    // The library leaves the checksum of the new header to others.
    if packet.pointee.version == 4 {
      let header = IPv4Header(checked: UnsafeRawPointer(packet.pointee.ip))
      IPv4Header.setChecksum(packet.pointee.ip, headerLength: header.headerLength)
    }
    let refused = packet.pointee.version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)
    guard refused == nil, !packet.pointee.isFragment else {
      w.drop(packet, .fragmentMalformed)
      return false
    }
    return true
  }

  /// Frees what has waited too long. Once a round.
  @inline(__always)
  static func collect(_ w: WorkerPointer) {
    guard let table = w.pointee.reassembly else { return }
    let freed = cdpdk_reassembly_collect(table, cdpdk_cycles())
    if freed > 0 { (w.pointee.drops + Int(DropReason.reassemblyTimeout.rawValue)).add(Int(freed)) }
  }
}
