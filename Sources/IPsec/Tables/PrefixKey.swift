import CLayout

/// An address as the SPD's search compares it: 32 bits of IPv4 or 128 of IPv6.
@usableFromInline
protocol PrefixKey: FixedWidthInteger & UnsignedInteger & Hashable & Sendable {
  init(high: UInt64, low: UInt64)
  /// 64 bits of it for hashing; for IPv4 all.
  var folded: UInt64 { get }
  /// Leading ones.
  static func mask(_ length: UInt8) -> Self
  /// The bit that stands for a prefix length, of 64 or 128. Lengths 0 and 1 of IPv6 share one.
  static func bit(ofLength length: UInt8) -> Int
  /// The shorter of the lengths that share a bit has all their packets.
  static func shortestLength(ofBit bit: Int) -> UInt8
  /// Words of bits.
  static var bitWords: Int { get }
  /// Whether the packet's addresses are within the policy's.
  static func covers(_ policy: UnsafeMutablePointer<gw_policy>, source: Self, destination: Self) -> Bool
}

extension PrefixKey {
  @usableFromInline static var bits: UInt8 { UInt8(truncatingIfNeeded: bitWidth) }

  /// How many leading bits two addresses have in common.
  @inlinable @inline(__always)
  func common(_ other: Self) -> UInt8 { UInt8(truncatingIfNeeded: (self ^ other).leadingZeroBitCount) }

  /// Nine bits that tell most destinations apart.
  @inlinable @inline(__always)
  var tag: UInt64 { (folded &* 0x9e37_79b9_7f4a_7c15) >> 55 }
}

extension UInt32: PrefixKey {
  @inlinable @inline(__always)
  init(high: UInt64, low: UInt64) { self = UInt32(truncatingIfNeeded: low) }

  @inlinable @inline(__always) var folded: UInt64 { UInt64(self) }

  @inlinable @inline(__always)
  static func mask(_ length: UInt8) -> UInt32 {
    UInt32(truncatingIfNeeded: 0xffff_ffff_0000_0000 &>> UInt64(length))
  }

  @inlinable @inline(__always) static func bit(ofLength length: UInt8) -> Int { Int(length) }
  @inlinable @inline(__always) static func shortestLength(ofBit bit: Int) -> UInt8 { UInt8(truncatingIfNeeded: bit) }
  @inlinable @inline(__always) static var bitWords: Int { 1 }

  @inlinable @inline(__always)
  static func covers(_ policy: UnsafeMutablePointer<gw_policy>, source: UInt32, destination: UInt32) -> Bool {
    let wrong =
      (source ^ policy.pointee.source4) & mask(policy.pointee.source_length)
      | (destination ^ policy.pointee.destination4) & mask(policy.pointee.destination_length)
    return wrong == 0
  }
}

extension UInt128: PrefixKey {
  @inlinable @inline(__always)
  init(high: UInt64, low: UInt64) { self = UInt128(high) << 64 | UInt128(low) }

  @inlinable @inline(__always)
  var folded: UInt64 {
    let high = UInt64(truncatingIfNeeded: self >> 64)
    return (high ^ high >> 31) &* 0xa24b_aed4_963e_e407 ^ UInt64(truncatingIfNeeded: self)
  }

  @inlinable @inline(__always)
  static func mask(_ length: UInt8) -> UInt128 {
    let (high, low) = SPDReader.masks(length)
    return UInt128(high: high, low: low)
  }

  @inlinable @inline(__always) static func bit(ofLength length: UInt8) -> Int { length == 0 ? 0 : Int(length) &- 1 }

  @inlinable @inline(__always)
  static func shortestLength(ofBit bit: Int) -> UInt8 { bit == 0 ? 0 : UInt8(truncatingIfNeeded: bit &+ 1) }

  @inlinable @inline(__always) static var bitWords: Int { 2 }

  @inlinable @inline(__always)
  static func covers(_ policy: UnsafeMutablePointer<gw_policy>, source: UInt128, destination: UInt128) -> Bool {
    let (sourceHigh, sourceLow) = SPDReader.masks(policy.pointee.source_length)
    let (destinationHigh, destinationLow) = SPDReader.masks(policy.pointee.destination_length)
    let wrong =
      (UInt64(truncatingIfNeeded: source >> 64) ^ policy.pointee.source_high) & sourceHigh
      | (UInt64(truncatingIfNeeded: source) ^ policy.pointee.source_low) & sourceLow
      | (UInt64(truncatingIfNeeded: destination >> 64) ^ policy.pointee.destination_high) & destinationHigh
      | (UInt64(truncatingIfNeeded: destination) ^ policy.pointee.destination_low) & destinationLow
    return wrong == 0
  }
}

/// A prefix by name.
struct PrefixName<Key: PrefixKey>: Hashable {
  let address: Key
  let length: UInt8

  init(_ address: Key, _ length: UInt8) {
    self.address = address
    self.length = length
  }

  var last: Key { address | ~Key.mask(length) }
}
