/// An address and the number of its leading bits that count; the bits after them are kept zero.
public struct IPPrefix: Hashable, Comparable, Sendable, LosslessStringConvertible {
  public let address: IPAddress
  public let length: UInt8

  /// Bits after `length` are cleared; nil if `length` is too long for the family.
  @inlinable public init?(_ address: IPAddress, length: UInt8) {
    guard length <= address.family.bits else { return nil }
    self.address = address.masked(to: length)
    self.length = length
  }

  /// The host prefix: /32 or /128.
  @inlinable public init(_ address: IPAddress) {
    self.address = address
    length = address.family.bits
  }

  /// `ADDR` or `ADDR/N`.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let address = IPAddress(String(parts[0])) else { return nil }
    guard parts.count == 2 else {
      self.init(address)
      return
    }
    guard parts[1].allSatisfy(\.isNumber), let length = UInt8(parts[1]) else { return nil }
    self.init(address, length: length)
  }

  /// Everything of a family: 0.0.0.0/0 or ::/0.
  @inlinable public static func any(_ family: AddressFamily) -> IPPrefix {
    IPPrefix(.unspecified(family), length: 0)!
  }

  @inlinable public var family: AddressFamily { address.family }
  @inlinable public var isHost: Bool { length == family.bits }

  /// `ADDR/N`, and plain `ADDR` for a host prefix, as ipsecctl prints it.
  public var description: String { isHost ? address.description : "\(address)/\(length)" }

  @inlinable public func contains(_ other: IPAddress) -> Bool {
    other.family == family && other.masked(to: length) == address
  }

  @inlinable public func contains(_ other: IPPrefix) -> Bool { other.length >= length && contains(other.address) }

  /// What is of both: one of the two, or (nil) nothing.
  @inlinable public func intersection(_ other: IPPrefix) -> IPPrefix? {
    contains(other) ? other : other.contains(self) ? self : nil
  }

  /// By address, then the shorter prefix first.
  @inlinable public static func < (a: Self, b: Self) -> Bool { (a.address, a.length) < (b.address, b.length) }
}

extension IPAddress {
  /// The address with all but its first `length` bits cleared.
  @inlinable public func masked(to length: UInt8) -> IPAddress {
    switch self {
    case .v4(let address):
      return .v4(IPv4Address(rawValue: address.rawValue & UInt32(truncatingIfNeeded: Self.mask64(length) >> 32)))
    case .v6(let address):
      return .v6(
        IPv6Address(
          high: address.high & Self.mask64(min(length, 64)),
          low: address.low & Self.mask64(length > 64 ? length - 64 : 0)))
    }
  }

  /// A 64-bit word with the first `length` (0...64) bits set.
  @inlinable static func mask64(_ length: UInt8) -> UInt64 { length == 0 ? 0 : ~0 << UInt64(64 &- length) }
}
