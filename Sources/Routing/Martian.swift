import Wire

/// Addresses that have no business in a packet to be forwarded (RFC 1812 5.3.7, RFC 6890, RFC 4291).
/// Private and documentation addresses are no martians: gateways carry them.
public enum Martian {
  /// A source that a router must not forward from: "this network", loopback, multicast, class E and broadcast.
  @inlinable @inline(__always) public static func isSource(v4 address: UInt32) -> Bool {
    let first = address >> 24
    return first == 0 || first == 127 || first >= 224
  }

  /// A destination that a router must not forward to: "this network", loopback, link-local (RFC 3927 7), class E,
  /// broadcast and multicast. Multicast to the gateway's own groups is a matter of the host path, decided before.
  @inlinable @inline(__always) public static func isDestination(v4 address: UInt32) -> Bool {
    let first = address >> 24
    return first == 0 || first == 127 || first >= 224 || address >> 16 == 0xa9fe
  }

  /// A source that must not be forwarded from: unspecified, loopback, multicast, IPv4-mapped and -compatible, and
  /// link-local (RFC 4291 2.5.6).
  @inlinable @inline(__always) public static func isSource(v6High high: UInt64, low: UInt64) -> Bool {
    isReserved(high, low) || isMulticast(v6High: high) || isLinkLocal(v6High: high)
  }

  /// A destination that must not be forwarded to: as for sources.
  @inlinable @inline(__always) public static func isDestination(v6High high: UInt64, low: UInt64) -> Bool {
    isSource(v6High: high, low: low)
  }

  /// As `isSource(v6High:low:)`, but a link-local source is let pass: for packets that go to the gateway itself.
  @inlinable @inline(__always) public static func isHostSource(v6High high: UInt64, low: UInt64) -> Bool {
    // The unspecified source belongs to duplicate address detection (RFC 4862).
    (isReserved(high, low) && (high | low) != 0) || high >> 56 == 0xff
  }

  @inlinable @inline(__always) public static func isSource(_ address: IPAddress) -> Bool {
    switch address {
    case .v4(let address): isSource(v4: address.rawValue)
    case .v6(let address): isSource(v6High: address.high, low: address.low)
    }
  }

  @inlinable @inline(__always) public static func isDestination(_ address: IPAddress) -> Bool {
    switch address {
    case .v4(let address): isDestination(v4: address.rawValue)
    case .v6(let address): isDestination(v6High: address.high, low: address.low)
    }
  }

  public static func isMulticast(_ address: IPAddress) -> Bool {
    switch address {
    case .v4(let address): isMulticast(v4: address.rawValue)
    case .v6(let address): isMulticast(v6High: address.high)
    }
  }

  @inlinable @inline(__always) public static func isMulticast(v4 address: UInt32) -> Bool { address >> 28 == 0xe }
  @inlinable @inline(__always) public static func isMulticast(v6High high: UInt64) -> Bool { high >> 56 == 0xff }
  /// fe80::/10.
  @inlinable @inline(__always) public static func isLinkLocal(v6High high: UInt64) -> Bool { high >> 54 == 0x3fa }
  @inlinable @inline(__always) public static func isLinkLocal(_ address: IPv6Address) -> Bool {
    isLinkLocal(v6High: address.high)
  }

  /// ::/96, which holds ::, ::1 and the IPv4-compatible addresses, and ::ffff:0:0/96, the IPv4-mapped ones.
  @inlinable @inline(__always) static func isReserved(_ high: UInt64, _ low: UInt64) -> Bool {
    high == 0 && (low >> 32 == 0 || low >> 32 == 0xffff)
  }
}
