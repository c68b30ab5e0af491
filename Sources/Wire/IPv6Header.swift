/// An IPv6 header (RFC 8200) whose version and payload length were checked against the bytes that are there:
///
///     version:4 class:8 label:20 payload(2) next(1) hops(1) source(16) destination(16)
///
/// Jumbograms are refused.
public struct IPv6Header {
  public static let length = 40

  public let base: UnsafeRawPointer

  @inlinable @inline(__always)
  public init?(_ base: UnsafeRawPointer, length: Int) {
    guard Self.fault(base, length: length) == nil else { return nil }
    self.base = base
  }

  /// A header that was checked before.
  @inlinable @inline(__always)
  public init(checked base: UnsafeRawPointer) { self.base = base }

  @inlinable @inline(__always)
  public static func fault(_ base: UnsafeRawPointer, length: Int) -> HeaderFault? {
    guard length >= Self.length else { return .truncated }
    guard base.byte(at: 0) >> 4 == 6 else { return .version }
    return Self.length &+ Int(base.big16(at: 4)) <= length ? nil : .totalLength
  }

  /// DSCP and ECN.
  @inlinable public var trafficClass: UInt8 { UInt8(truncatingIfNeeded: base.big16(at: 0) >> 4) }
  @inlinable public var dscp: UInt8 { trafficClass >> 2 }
  @inlinable public var ecn: UInt8 { trafficClass & 3 }
  @inlinable public var flowLabel: UInt32 { base.big32(at: 0) & 0xf_ffff }
  /// Extension headers and upper layer, in bytes.
  @inlinable public var payloadLength: Int { Int(base.big16(at: 4)) }
  @inlinable public var totalLength: Int { Self.length &+ payloadLength }
  @inlinable public var nextHeader: UInt8 { base.byte(at: 6) }
  @inlinable public var hopLimit: UInt8 { base.byte(at: 7) }
  @inlinable public var source: IPv6Address { base.ipv6Address(at: 8) }
  @inlinable public var destination: IPv6Address { base.ipv6Address(at: 24) }
  @inlinable public var payload: UnsafeRawPointer { base + Self.length }

  // MARK: Writing. The caller has checked the header at `base`.

  /// One hop less; false: the limit was 1 or 0, and nothing was done.
  @inlinable @inline(__always)
  public static func decrementHopLimit(_ base: UnsafeMutableRawPointer) -> Bool {
    let limit = UnsafeRawPointer(base).byte(at: 7)
    guard limit > 1 else { return false }
    base.setByte(limit &- 1, at: 7)
    return true
  }

  @inlinable @inline(__always)
  public static func setTrafficClass(_ base: UnsafeMutableRawPointer, _ value: UInt8) {
    base.setBig16(UnsafeRawPointer(base).big16(at: 0) & 0xf00f | UInt16(value) << 4, at: 0)
  }

  @inlinable @inline(__always)
  public static func setPayloadLength(_ base: UnsafeMutableRawPointer, _ value: UInt16) { base.setBig16(value, at: 4) }

  @inlinable @inline(__always)
  public static func setNextHeader(_ base: UnsafeMutableRawPointer, _ value: UInt8) { base.setByte(value, at: 6) }

  /// Writes the 40 bytes of a header.
  @inlinable public static func write(
    _ base: UnsafeMutableRawPointer, source: IPv6Address, destination: IPv6Address, nextHeader: UInt8,
    payloadLength: Int, hopLimit: UInt8 = 64, trafficClass: UInt8 = 0, flowLabel: UInt32 = 0
  ) {
    base.setBig32(0x6000_0000 | UInt32(trafficClass) << 20 | flowLabel & 0xf_ffff, at: 0)
    base.setBig16(UInt16(truncatingIfNeeded: payloadLength), at: 4)
    base.setByte(nextHeader, at: 6)
    base.setByte(hopLimit, at: 7)
    base.setAddress(source, at: 8)
    base.setAddress(destination, at: 24)
  }
}
