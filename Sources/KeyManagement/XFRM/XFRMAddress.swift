import Wire

/// XFRM's address union: 16 bytes whose family stands elsewhere; IPv4 in the first 4.
struct XFRMAddress: Equatable, Sendable {
  var high: UInt64 = 0
  var low: UInt64 = 0

  init() {}
  init(_ address: IPAddress) {
    switch address {
    case .v4(let v4): high = UInt64(v4.rawValue) << 32
    case .v6(let v6): (high, low) = (v6.high, v6.low)
    }
  }
  init(from cursor: inout ByteCursor) {
    high = cursor.bigUInt64()
    low = cursor.bigUInt64()
  }
  func encode(into builder: inout ByteBuilder) {
    builder.appendBig(high)
    builder.appendBig(low)
  }

  func address(_ family: AddressFamily) -> IPAddress {
    family == .v4
      ? .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 32))) : .v6(IPv6Address(high: high, low: low))
  }

  /// All zero in both families.
  var isZero: Bool { (high, low) == (0, 0) }
}

extension AddressFamily {
  init(xfrm family: UInt16) throws(KeyRefusal) {
    guard family <= 255, let known = AddressFamily(rawValue: UInt8(family)) else {
      throw .invalid("Invalid address family \(family)")
    }
    self = known
  }
}
