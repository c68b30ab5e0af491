import Wire

/// How to cut an IPv4 packet for a link (RFC 791 3.2). A plain value that says which bytes of the payload go where and
/// writes the fragments' headers; copying payload is the caller's. The first fragment keeps all options, the others
/// those with the copied flag. A packet that is a fragment itself is cut further. DF is for the caller to look at.
public struct IPv4Fragmenter: Sendable {
  /// Payload of the whole packet, in bytes.
  public let payloadLength: Int
  public let count: Int
  /// Payload of the first, and of each other fragment but the last: multiples of 8.
  public let firstPayload: Int
  public let otherPayload: Int
  /// Header of the first and of each other fragment, options included.
  public let firstHeaderLength: Int
  public let otherHeaderLength: Int

  /// `packet`: a checked header whose `headerLength` bytes lie together. Nil: the MTU leaves no room for 8 bytes of
  /// payload, or the packet would end beyond the 65535 bytes that the offset field can say.
  public init?(_ packet: IPv4Header, mtu: Int) {
    payloadLength = packet.payloadLength
    firstHeaderLength = packet.headerLength
    otherHeaderLength = packet.hasOptions ? Self.copyOptions(of: packet, to: nil) : IPv4Header.minimumLength
    firstPayload = (mtu - firstHeaderLength) & ~7
    otherPayload = (mtu - otherHeaderLength) & ~7
    guard mtu >= firstHeaderLength + 8, packet.fragmentOffset + payloadLength <= 0xffff else { return nil }
    if firstHeaderLength + payloadLength <= mtu {
      count = 1
    } else {
      count = 1 + (payloadLength - firstPayload + otherPayload - 1) / otherPayload
    }
  }

  /// `index` in 0..<count.
  public func piece(_ index: Int) -> FragmentPiece {
    let offset = index == 0 ? 0 : firstPayload &+ (index &- 1) &* otherPayload
    let isLast = index == count &- 1
    let length = isLast ? payloadLength &- offset : index == 0 ? firstPayload : otherPayload
    return FragmentPiece(offset: offset, length: length, isFirst: index == 0, isLast: isLast)
  }

  public func headerLength(_ piece: FragmentPiece) -> Int { piece.isFirst ? firstHeaderLength : otherHeaderLength }

  /// Writes a fragment's header with its checksum: `headerLength(piece)` bytes, 60 at most. `header` may be the
  /// packet's own memory for the first piece, written last.
  public func writeHeader(_ piece: FragmentPiece, of packet: IPv4Header, to header: UnsafeMutableRawPointer) {
    let length = headerLength(piece)
    let more = !piece.isLast || packet.moreFragments
    let field = UInt16(truncatingIfNeeded: (packet.fragmentOffset &+ piece.offset) >> 3) | (more ? 0x2000 : 0)
    header.copyMemory(from: packet.base, byteCount: piece.isFirst ? length : IPv4Header.minimumLength)
    if !piece.isFirst, length > IPv4Header.minimumLength { _ = Self.copyOptions(of: packet, to: header) }
    header.setByte(0x40 | UInt8(truncatingIfNeeded: length >> 2), at: 0)
    header.setBig16(UInt16(truncatingIfNeeded: length &+ piece.length), at: 2)
    header.setBig16(field, at: 6)
    IPv4Header.setChecksum(header, headerLength: length)
  }

  /// Copies the options that go into every fragment behind the 20 fixed bytes of `header`, filled up with "end of list"
  /// to whole words, and returns the header length that they make. A malformed option ends the list.
  private static func copyOptions(of packet: IPv4Header, to header: UnsafeMutableRawPointer?) -> Int {
    let end = packet.headerLength
    var from = IPv4Header.minimumLength
    var to = IPv4Header.minimumLength
    while from < end {
      let kind = packet.base.byte(at: from)
      if kind == 0 { break }
      if kind == 1 {
        from &+= 1
        continue
      }
      guard from &+ 1 < end else { break }
      let length = Int(packet.base.byte(at: from &+ 1))
      guard length >= 2, from &+ length <= end else { break }
      if kind & 0x80 != 0 {
        if let header { (header + to).copyMemory(from: packet.base + from, byteCount: length) }
        to &+= length
      }
      from &+= length
    }
    let whole = (to &+ 3) & ~3
    if let header {
      while to < whole {
        header.setByte(0, at: to)
        to &+= 1
      }
    }
    return whole
  }
}
