import Wire

/// How its source cuts an IPv6 packet for a path (RFC 8200 4.5): for packets that the gateway itself sends, such as
/// tunnel packets; what it forwards it never fragments. A plain value as `IPv4Fragmenter`; pieces count from the start
/// of the fragmentable part.
public struct IPv6Fragmenter: Sendable {
  public static let fragmentHeaderLength = 8

  /// Headers that go into each fragment, the IPv6 header included.
  public let unfragmentableLength: Int
  /// Bytes after them in the whole packet.
  public let payloadLength: Int
  public let count: Int
  /// Payload of each fragment but the last: a multiple of 8.
  public let payload: Int
  private let nextHeaderOffset: Int

  /// `headers`: the walk over `packet`'s extension headers. Nil: the walk found a fault or a fragment header, or the
  /// MTU leaves no room for 8 bytes of payload.
  public init?(_ packet: IPv6Header, _ headers: IPv6ExtensionHeaders, mtu: Int) {
    unfragmentableLength = Int(headers.unfragmentableEnd)
    nextHeaderOffset = Int(headers.unfragmentableNextHeaderOffset)
    payloadLength = packet.totalLength - unfragmentableLength
    payload = (mtu - unfragmentableLength - Self.fragmentHeaderLength) & ~7
    guard headers.fault == nil, headers.fragmentHeaderOffset == 0, payloadLength > 0, payload >= 8 else { return nil }
    count = (payloadLength + payload - 1) / payload
  }

  /// Headers of each fragment.
  public var headerLength: Int { unfragmentableLength &+ Self.fragmentHeaderLength }

  /// `index` in 0..<count.
  public func piece(_ index: Int) -> FragmentPiece {
    let offset = index &* payload
    let isLast = index == count &- 1
    return FragmentPiece(
      offset: offset, length: isLast ? payloadLength &- offset : payload, isFirst: index == 0, isLast: isLast)
  }

  /// Writes a fragment's headers: `headerLength` bytes. `identification` is the same for all of a packet and not used
  /// again soon between the two addresses (RFC 7739).
  public func writeHeaders(
    _ piece: FragmentPiece, of packet: IPv6Header, identification: UInt32, to header: UnsafeMutableRawPointer
  ) {
    header.copyMemory(from: packet.base, byteCount: unfragmentableLength)
    IPv6Header.setPayloadLength(
      header,
      UInt16(truncatingIfNeeded: headerLength &- IPv6Header.length &+ piece.length))
    header.setByte(IPProtocol.fragment, at: nextHeaderOffset)
    let fragment = header + unfragmentableLength
    fragment.setByte(packet.base.byte(at: nextHeaderOffset), at: 0)
    fragment.setByte(0, at: 1)
    fragment.setBig16(UInt16(truncatingIfNeeded: piece.offset) | (piece.isLast ? 0 : 1), at: 2)
    fragment.setBig32(identification, at: 4)
  }
}
