import Glibc

/// An IPv4 address as a plain value, in host byte order.
public struct IPv4Address: Hashable, Comparable, Sendable, LosslessStringConvertible {
  public var rawValue: UInt32

  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Dotted quad only, as `inet_pton` reads it.
  public init?(_ text: String) {
    var raw: UInt32 = 0
    guard inet_pton(AF_INET, text, &raw) == 1 else { return nil }
    rawValue = UInt32(bigEndian: raw)
  }

  public var description: String {
    "\(rawValue >> 24).\(rawValue >> 16 & 255).\(rawValue >> 8 & 255).\(rawValue & 255)"
  }

  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// An IPv6 address as a plain value: two halves in host byte order.
public struct IPv6Address: Hashable, Comparable, Sendable, LosslessStringConvertible {
  public var high: UInt64
  public var low: UInt64

  @inlinable public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Any text form that `inet_pton` reads; no zone.
  public init?(_ text: String) {
    var raw: (UInt64, UInt64) = (0, 0)
    guard inet_pton(AF_INET6, text, &raw) == 1 else { return nil }
    self.init(high: UInt64(bigEndian: raw.0), low: UInt64(bigEndian: raw.1))
  }

  public var description: String {
    var raw = (high.bigEndian, low.bigEndian)
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
      inet_ntop(AF_INET6, &raw, text.baseAddress!, socklen_t(INET6_ADDRSTRLEN))
      return String(cString: text.baseAddress!)
    }
  }

  @inlinable public static func < (a: Self, b: Self) -> Bool { (a.high, a.low) < (b.high, b.low) }
}

/// The family of an address, with the numbers that PF_KEY and netlink use on Linux.
public enum AddressFamily: UInt8, Sendable, Hashable, Codable {
  case v4 = 2
  case v6 = 10

  /// Bits in an address: the longest prefix.
  @inlinable public var bits: UInt8 { self == .v4 ? 32 : 128 }
}

/// An address of either family.
public enum IPAddress: Hashable, Comparable, Sendable, LosslessStringConvertible {
  case v4(IPv4Address)
  case v6(IPv6Address)

  public init?(_ text: String) {
    if let address = IPv4Address(text) {
      self = .v4(address)
    } else if let address = IPv6Address(text) {
      self = .v6(address)
    } else {
      return nil
    }
  }

  /// From wire bytes: 4 or 16 of them, else nil.
  public init?(bytes: some Collection<UInt8>) {
    switch bytes.count {
    case 4: self = .v4(IPv4Address(rawValue: bytes.reduce(0) { $0 << 8 | UInt32($1) }))
    case 16:
      let halves = (bytes.prefix(8), bytes.dropFirst(8))
      self = .v6(
        IPv6Address(high: halves.0.reduce(0) { $0 << 8 | UInt64($1) }, low: halves.1.reduce(0) { $0 << 8 | UInt64($1) })
      )
    default: return nil
    }
  }

  public var description: String {
    switch self {
    case .v4(let address): address.description
    case .v6(let address): address.description
    }
  }

  /// The address in network byte order: 4 or 16 bytes.
  public var bytes: [UInt8] {
    let halves = halves
    let all = (0..<16).map { UInt8(truncatingIfNeeded: ($0 < 8 ? halves.0 : halves.1) >> UInt64(56 - $0 % 8 * 8)) }
    return family == .v4 ? Array(all[12...]) : all
  }

  @inlinable public var family: AddressFamily {
    switch self {
    case .v4: .v4
    case .v6: .v6
    }
  }

  /// The address as 128 bits in host byte order; IPv4 in the low 32, the rest zero.
  @inlinable public var halves: (UInt64, UInt64) {
    switch self {
    case .v4(let address): (0, UInt64(address.rawValue))
    case .v6(let address): (address.high, address.low)
    }
  }

  /// From `halves` of an address of this family.
  @inlinable public init(_ family: AddressFamily, high: UInt64, low: UInt64) {
    self =
      family == .v4
      ? .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: low))) : .v6(IPv6Address(high: high, low: low))
  }

  /// 0.0.0.0 or ::.
  @inlinable public var isUnspecified: Bool { halves == (0, 0) }

  /// 0.0.0.0 or :: of a family.
  @inlinable public static func unspecified(_ family: AddressFamily) -> IPAddress {
    IPAddress(family, high: 0, low: 0)
  }

  /// IPv4 sorts before IPv6, then by number.
  @inlinable public static func < (a: Self, b: Self) -> Bool {
    (a.family.rawValue, a.halves.0, a.halves.1) < (b.family.rawValue, b.halves.0, b.halves.1)
  }
}
