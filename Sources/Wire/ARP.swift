/// An ARP packet for IPv4 over Ethernet (RFC 826):
///
///     hardware(2)=1 protocol(2)=0x0800 lengths(1,1)=6,4 operation(2) sender(6,4) target(6,4)
public struct ARP {
  public static let length = 28

  public enum Operation: UInt16, Sendable {
    case request = 1
    case reply = 2
  }

  public let base: UnsafeRawPointer

  /// Nil for other hardware or protocols too.
  @inlinable public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.length, base.big64(at: 0) >> 16 == 0x0001_0800_0604 else { return nil }
    self.base = base
  }

  /// Nil: neither request nor reply.
  @inlinable public var operation: Operation? { Operation(rawValue: base.big16(at: 6)) }
  @inlinable public var senderHardware: MACAddress { base.macAddress(at: 8) }
  @inlinable public var senderAddress: IPv4Address { base.ipv4Address(at: 14) }
  @inlinable public var targetHardware: MACAddress { base.macAddress(at: 18) }
  @inlinable public var targetAddress: IPv4Address { base.ipv4Address(at: 24) }

  /// Writes the 28 bytes of a packet.
  @inlinable public static func write(
    _ base: UnsafeMutableRawPointer, operation: Operation, senderHardware: MACAddress, senderAddress: IPv4Address,
    targetHardware: MACAddress, targetAddress: IPv4Address
  ) {
    base.setBig64(0x0001_0800_0604_0000 | UInt64(operation.rawValue), at: 0)
    base.setAddress(senderHardware, at: 8)
    base.setAddress(senderAddress, at: 14)
    base.setAddress(targetHardware, at: 18)
    base.setAddress(targetAddress, at: 24)
  }
}
