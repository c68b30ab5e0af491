/// An ICMPv6 message (RFC 4443): type(1) code(1) checksum(2) rest(4) data. Its checksum covers the pseudo-header.
public struct ICMPv6 {
  public static let headerLength = 8

  public enum MessageType {
    public static let destinationUnreachable: UInt8 = 1
    /// The rest is the next hop's MTU.
    public static let packetTooBig: UInt8 = 2
    public static let timeExceeded: UInt8 = 3
    public static let parameterProblem: UInt8 = 4
    public static let echoRequest: UInt8 = 128
    public static let echoReply: UInt8 = 129
    public static let routerSolicitation: UInt8 = 133
    public static let routerAdvertisement: UInt8 = 134
    public static let neighborSolicitation: UInt8 = 135
    public static let neighborAdvertisement: UInt8 = 136
    public static let redirect: UInt8 = 137
  }

  /// Codes of `destinationUnreachable`.
  public enum Unreachable {
    public static let noRoute: UInt8 = 0
    public static let prohibited: UInt8 = 1
    public static let address: UInt8 = 3
    public static let port: UInt8 = 4
  }

  public let base: UnsafeRawPointer
  /// Header and data.
  public let length: Int

  @inlinable public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.headerLength else { return nil }
    self.base = base
    self.length = length
  }

  @inlinable public var type: UInt8 { base.byte(at: 0) }
  @inlinable public var code: UInt8 { base.byte(at: 1) }
  @inlinable public var checksum: UInt16 { base.big16(at: 2) }
  @inlinable public var rest: UInt32 { base.big32(at: 4) }
  @inlinable public var data: UnsafeRawPointer { base + Self.headerLength }
  @inlinable public var dataLength: Int { length &- Self.headerLength }
  /// Types below 128 (RFC 4443 2.1); never answered with another.
  @inlinable public var isError: Bool { type < 128 || type == MessageType.redirect }
  /// Neighbour discovery (RFC 4861), which is valid with hop limit 255 only.
  @inlinable public var isNeighborDiscovery: Bool {
    type >= MessageType.routerSolicitation && type <= MessageType.redirect
  }

  @inlinable public func isChecksumValid(source: IPv6Address, destination: IPv6Address) -> Bool {
    Self.sum(base, length: length, source: source, destination: destination) == 0
  }

  @inlinable static func sum(
    _ base: UnsafeRawPointer, length: Int, source: IPv6Address, destination: IPv6Address
  ) -> UInt16 {
    var sum = InternetChecksum()
    sum.addPseudoHeader(
      source: source, destination: destination, ipProtocol: IPProtocol.icmpv6,
      length: UInt32(truncatingIfNeeded: length))
    sum.add(base, count: length)
    return sum.value
  }

  /// Writes the header before data that is in place, and the checksum over pseudo-header and both.
  @inlinable public static func write(
    _ base: UnsafeMutableRawPointer, type: UInt8, code: UInt8, rest: UInt32, length: Int, source: IPv6Address,
    destination: IPv6Address
  ) {
    base.setByte(type, at: 0)
    base.setByte(code, at: 1)
    base.setBig16(0, at: 2)
    base.setBig32(rest, at: 4)
    base.setBig16(sum(base, length: length, source: source, destination: destination), at: 2)
  }
}
