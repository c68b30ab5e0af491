/// An ICMP message (RFC 792): type(1) code(1) checksum(2) rest(4) data.
public struct ICMP {
  public static let headerLength = 8

  public enum MessageType {
    public static let echoReply: UInt8 = 0
    public static let destinationUnreachable: UInt8 = 3
    public static let redirect: UInt8 = 5
    public static let echoRequest: UInt8 = 8
    public static let timeExceeded: UInt8 = 11
    public static let parameterProblem: UInt8 = 12
  }

  /// Codes of `destinationUnreachable` (RFC 792, RFC 1812 5.2.7.1).
  public enum Unreachable {
    public static let network: UInt8 = 0
    public static let host: UInt8 = 1
    public static let ipProtocol: UInt8 = 2
    public static let port: UInt8 = 3
    /// The rest holds the next hop's MTU in its low 16 bits (RFC 1191).
    public static let fragmentationNeeded: UInt8 = 4
    public static let prohibited: UInt8 = 13
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
  /// Echo: identifier and sequence number. Fragmentation needed: the MTU.
  @inlinable public var rest: UInt32 { base.big32(at: 4) }
  @inlinable public var data: UnsafeRawPointer { base + Self.headerLength }
  @inlinable public var dataLength: Int { length &- Self.headerLength }
  @inlinable public var isChecksumValid: Bool { InternetChecksum.of(base, count: length) == 0 }

  /// An error message, which must never be answered with another (RFC 1122 3.2.2).
  @inlinable public var isError: Bool {
    switch type {
    case MessageType.destinationUnreachable, MessageType.redirect, MessageType.timeExceeded,
      MessageType.parameterProblem, 4:
      true
    default: false
    }
  }

  /// Writes the header before data that is in place, and the checksum over both.
  @inlinable public static func write(
    _ base: UnsafeMutableRawPointer, type: UInt8, code: UInt8, rest: UInt32, length: Int
  ) {
    base.setByte(type, at: 0)
    base.setByte(code, at: 1)
    base.setBig16(0, at: 2)
    base.setBig32(rest, at: 4)
    base.setBig16(InternetChecksum.of(base, count: length), at: 2)
  }
}
