/// What a walk over a packet's extension headers found (RFC 8200 4). ESP, AH and IPComp end the walk as upper layers do.
/// Offsets count bytes from the IPv6 header's start.
public struct IPv6ExtensionHeaders: Sendable {
  /// A chain beyond these is refused.
  public static let maximumCount = 8
  public static let maximumLength = 512

  public enum Fault: UInt8, Sendable, CaseIterable {
    /// A header reaches beyond the packet.
    case truncated
    /// More headers, or more bytes of them, than the limits.
    case tooLong
    /// Hop-by-hop options elsewhere than first, or a second fragment header.
    case order
  }

  public var fault: Fault?
  /// The protocol after the last extension header; of a later fragment, that of the first one's fragment header.
  public var upperProtocol: UInt8
  /// Where it begins: 40...552.
  public var upperOffset: UInt16
  /// Where the number of `upperProtocol` is written: 6 with no extension header.
  public var nextHeaderOffset: UInt16 = 6
  /// End of the per-fragment headers: where a fragment header, or ESP and AH in transport mode, goes (RFC 4303 3.1.1).
  public var unfragmentableEnd: UInt16 = 40
  /// Where the number of what follows `unfragmentableEnd` is written.
  public var unfragmentableNextHeaderOffset: UInt16 = 6
  /// Offset of the fragment header; 0: none.
  public var fragmentHeaderOffset: UInt16 = 0
  /// The fragment header's third and fourth byte: offset in bytes (multiple of 8) and, in bit 0, "more".
  public var fragmentField: UInt16 = 0
  public var hasHopByHop = false
  public var hasRouting = false
  /// A routing header has segments left: the destination is not the final one.
  public var hasSegmentsLeft = false
  /// A routing header of type 0, which RFC 5095 did away with.
  public var hasSourceRoute = false

  /// False for an atomic fragment too (RFC 6946).
  @inlinable public var isFragment: Bool { fragmentField & 0xfff9 != 0 }
  /// In bytes.
  @inlinable public var fragmentOffset: Int { Int(fragmentField & 0xfff8) }
  @inlinable public var moreFragments: Bool { fragmentField & 1 != 0 }

  /// Walks the headers of a checked packet. Never reads beyond its payload length.
  @inlinable public init(_ header: IPv6Header) {
    self.init(header, available: header.totalLength)
  }

  /// The same where only the first bytes are there, at least those of the IPv6 header.
  @inlinable public init(_ header: IPv6Header, available: Int) {
    upperProtocol = header.nextHeader
    upperOffset = UInt16(IPv6Header.length)
    fault = walk(header, end: min(header.totalLength, available))
  }

  @inlinable mutating func walk(_ header: IPv6Header, end: Int) -> Fault? {
    let base = header.base
    var count = 0
    while Self.isExtension(upperProtocol) {
      let offset = Int(upperOffset)
      guard offset &+ 8 <= end else { return .truncated }
      let size = upperProtocol == IPProtocol.fragment ? 8 : Int(base.byte(at: offset &+ 1)) &* 8 &+ 8
      guard offset &+ size <= end else { return .truncated }
      count &+= 1
      guard count <= Self.maximumCount, offset &+ size <= IPv6Header.length &+ Self.maximumLength else {
        return .tooLong
      }
      if isMisplaced(at: offset) { return .order }
      let isLaterFragment = note(base, at: offset, size: size)
      nextHeaderOffset = UInt16(truncatingIfNeeded: offset)
      upperProtocol = base.byte(at: offset)
      upperOffset = UInt16(truncatingIfNeeded: offset &+ size)
      if isLaterFragment { return nil }
    }
    return nil
  }

  @inlinable func isMisplaced(at offset: Int) -> Bool {
    switch upperProtocol {
    case IPProtocol.hopByHop: offset != IPv6Header.length
    case IPProtocol.fragment: fragmentHeaderOffset != 0
    default: false
    }
  }

  /// Takes note of the header of type `upperProtocol` at `offset`. True: what follows is the middle of a datagram.
  @inlinable mutating func note(_ base: UnsafeRawPointer, at offset: Int, size: Int) -> Bool {
    switch upperProtocol {
    case IPProtocol.hopByHop:
      hasHopByHop = true
      extendUnfragmentable(to: offset, size: size)
    case IPProtocol.routing:
      hasRouting = true
      if base.byte(at: offset &+ 2) == 0 { hasSourceRoute = true }
      if base.byte(at: offset &+ 3) != 0 { hasSegmentsLeft = true }
      extendUnfragmentable(to: offset, size: size)
    case IPProtocol.fragment:
      fragmentHeaderOffset = UInt16(truncatingIfNeeded: offset)
      fragmentField = base.big16(at: offset &+ 2)
      return fragmentField & 0xfff8 != 0
    default: break
    }
    return false
  }

  /// Hop-by-hop and routing headers, and what stands before a routing header, go into every fragment.
  @inlinable mutating func extendUnfragmentable(to offset: Int, size: Int) {
    guard fragmentHeaderOffset == 0 else { return }
    unfragmentableEnd = UInt16(truncatingIfNeeded: offset &+ size)
    unfragmentableNextHeaderOffset = UInt16(truncatingIfNeeded: offset)
  }

  @inlinable public static func isExtension(_ number: UInt8) -> Bool {
    switch number {
    case IPProtocol.hopByHop, IPProtocol.routing, IPProtocol.fragment, IPProtocol.destinationOptions: true
    default: false
    }
  }
}
