/// A UDP header (RFC 768) whose length was checked: source(2) destination(2) length(2) checksum(2).
public struct UDPHeader {
  public static let length = 8

  public let base: UnsafeRawPointer

  /// `length`: bytes that the IP header leaves to UDP. Nil: fewer than 8, or than the UDP length, or that below 8.
  @inlinable public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.length else { return nil }
    let claimed = Int(base.big16(at: 4))
    guard claimed >= Self.length, claimed <= length else { return nil }
    self.base = base
  }

  @inlinable public var sourcePort: UInt16 { base.big16(at: 0) }
  @inlinable public var destinationPort: UInt16 { base.big16(at: 2) }
  /// Header and payload, in bytes.
  @inlinable public var datagramLength: Int { Int(base.big16(at: 4)) }
  /// 0: none was made (IPv4 only).
  @inlinable public var checksum: UInt16 { base.big16(at: 6) }
  @inlinable public var payload: UnsafeRawPointer { base + Self.length }
  @inlinable public var payloadLength: Int { datagramLength &- Self.length }

  /// Writes a header with checksum 0, as UDP-encapsulated ESP has it (RFC 3948 2.1).
  @inlinable @inline(__always)
  public static func write(
    _ base: UnsafeMutableRawPointer, sourcePort: UInt16, destinationPort: UInt16, datagramLength: Int
  ) {
    base.setBig16(sourcePort, at: 0)
    base.setBig16(destinationPort, at: 2)
    base.setBig16(UInt16(truncatingIfNeeded: datagramLength), at: 4)
    base.setBig16(0, at: 6)
  }

  /// Sums the datagram at `base` with IPv4's pseudo-header and writes its checksum.
  @inlinable public static func setChecksum(
    _ base: UnsafeMutableRawPointer, datagramLength: Int, source: IPv4Address, destination: IPv4Address
  ) {
    base.setBig16(0, at: 6)
    var sum = InternetChecksum()
    sum.addPseudoHeader(
      source: source, destination: destination, ipProtocol: IPProtocol.udp,
      length: UInt16(truncatingIfNeeded: datagramLength))
    sum.add(base, count: datagramLength)
    base.setBig16(sum.udpValue, at: 6)
  }

  /// The same for IPv6, where UDP must have a checksum (RFC 8200 8.1).
  @inlinable public static func setChecksum(
    _ base: UnsafeMutableRawPointer, datagramLength: Int, source: IPv6Address, destination: IPv6Address
  ) {
    base.setBig16(0, at: 6)
    var sum = InternetChecksum()
    sum.addPseudoHeader(
      source: source, destination: destination, ipProtocol: IPProtocol.udp,
      length: UInt32(truncatingIfNeeded: datagramLength))
    sum.add(base, count: datagramLength)
    base.setBig16(sum.udpValue, at: 6)
  }
}
