/// A 48-bit Ethernet address: the low 48 bits of `rawValue`, first octet on the wire highest.
public struct MACAddress: Hashable, Sendable, LosslessStringConvertible {
  public let rawValue: UInt64

  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue & 0xffff_ffff_ffff }

  /// Six hexadecimal octets parted by colons.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 6 else { return nil }
    var raw: UInt64 = 0
    for part in parts {
      guard (1...2).contains(part.count), part.allSatisfy(\.isHexDigit), let octet = UInt64(part, radix: 16) else {
        return nil
      }
      raw = raw << 8 | octet
    }
    rawValue = raw
  }

  public static let broadcast = MACAddress(rawValue: 0xffff_ffff_ffff)

  /// The six octets in wire order.
  public var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: rawValue >> UInt64(40 - $0 * 8)) } }

  @inlinable public var isMulticast: Bool { rawValue >> 40 & 1 == 1 }

  public var description: String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
  }
}
