/// An IPv4 header (RFC 791) whose version, IHL and total length were checked against the bytes that are there:
///
///     version:4 ihl:4 tos(1) total(2) id(2) flags:3 offset:13 ttl(1) protocol(1) checksum(2) source(4) destination(4)
public struct IPv4Header {
  public static let minimumLength = 20

  public let base: UnsafeRawPointer

  @inlinable @inline(__always)
  public init?(_ base: UnsafeRawPointer, length: Int) {
    guard Self.fault(base, length: length) == nil else { return nil }
    self.base = base
  }

  /// A header that was checked before.
  @inlinable @inline(__always)
  public init(checked base: UnsafeRawPointer) { self.base = base }

  /// What is wrong with `length` bytes at `base`, but for the checksum; nil: nothing. Bytes after the total length are
  /// padding of the link.
  @inlinable @inline(__always)
  public static func fault(_ base: UnsafeRawPointer, length: Int) -> HeaderFault? {
    guard length >= minimumLength else { return .truncated }
    let first = base.byte(at: 0)
    guard first >> 4 == 4 else { return .version }
    let header = Int(first & 15) &* 4
    guard header >= minimumLength else { return .headerLength }
    let total = Int(base.big16(at: 2))
    guard total <= length else { return .totalLength }
    return header <= total ? nil : .headerLength
  }

  /// In bytes, 20...60.
  @inlinable public var headerLength: Int { Int(base.byte(at: 0) & 15) &* 4 }
  @inlinable public var hasOptions: Bool { base.byte(at: 0) != 0x45 }
  /// DSCP and ECN.
  @inlinable public var typeOfService: UInt8 { base.byte(at: 1) }
  @inlinable public var dscp: UInt8 { typeOfService >> 2 }
  @inlinable public var ecn: UInt8 { typeOfService & 3 }
  /// Header and payload, in bytes.
  @inlinable public var totalLength: Int { Int(base.big16(at: 2)) }
  @inlinable public var identification: UInt16 { base.big16(at: 4) }
  @inlinable public var dontFragment: Bool { base.byte(at: 6) & 0x40 != 0 }
  @inlinable public var moreFragments: Bool { base.byte(at: 6) & 0x20 != 0 }
  /// In bytes.
  @inlinable public var fragmentOffset: Int { Int(base.big16(at: 6) & 0x1fff) &* 8 }
  @inlinable public var isFragment: Bool { base.big16(at: 6) & 0x3fff != 0 }
  @inlinable public var timeToLive: UInt8 { base.byte(at: 8) }
  @inlinable public var ipProtocol: UInt8 { base.byte(at: 9) }
  @inlinable public var checksum: UInt16 { base.big16(at: 10) }
  @inlinable public var source: IPv4Address { base.ipv4Address(at: 12) }
  @inlinable public var destination: IPv4Address { base.ipv4Address(at: 16) }
  @inlinable public var payload: UnsafeRawPointer { base + headerLength }
  @inlinable public var payloadLength: Int { totalLength &- headerLength }
  @inlinable public var isChecksumValid: Bool { InternetChecksum.of(base, count: headerLength) == 0 }

  /// The ports of the packet, if it is no later fragment and holds them.
  @inlinable public var ports: TransportPorts? {
    guard fragmentOffset == 0 else { return nil }
    return TransportPorts(ipProtocol: ipProtocol, payload, length: payloadLength)
  }

  // MARK: Writing. The caller has checked the header at `base`.

  /// One hop less, the checksum updated (RFC 1624); false: the TTL was 1 or 0, and nothing was done.
  @inlinable @inline(__always)
  public static func decrementTTL(_ base: UnsafeMutableRawPointer) -> Bool {
    // TTL, protocol, checksum. The sum of one's complement is the same in both orders of octets: TTL is the first octet
    // of its pair, so the first octet of the checksum rises by one, the carry around the end; -0 is written as 0.
    let word = UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
    guard word & 0xff > 1 else { return false }
    let next = word &+ 0xffff &+ (word >= 0xfffe_0000 ? 0x1_0000 : 0)
    base.storeBytes(of: next.littleEndian, toByteOffset: 8, as: UInt32.self)
    return true
  }

  /// The checksum of a header of 20 bytes holds.
  @inlinable @inline(__always)
  public static func isShortChecksumValid(_ base: UnsafeRawPointer) -> Bool {
    let (first, second) = (base.loadUnaligned(as: UInt64.self), base.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    let (sum, carry) = first.addingReportingOverflow(second)
    let rest = UInt64(base.loadUnaligned(fromByteOffset: 16, as: UInt32.self)) &+ (carry ? 1 : 0)
    let (all, again) = sum.addingReportingOverflow(rest)
    let whole = all &+ (again ? 1 : 0)
    // The checksum holds if the sum is a multiple of 2^16 - 1, of which 2^64 - 1 is one too. Times its inverse, its
    // multiples, and no others, are at most (2^64 - 1) / (2^16 - 1). A header is not all zero: it has a version.
    return whole &* 0xfffe_fffe_fffe_ffff <= 0x0001_0001_0001_0001
  }

  @inlinable @inline(__always)
  public static func setTypeOfService(_ base: UnsafeMutableRawPointer, _ value: UInt8) {
    let old = UnsafeRawPointer(base).big16(at: 0)
    setWord(base, old & 0xff00 | UInt16(value), from: old, at: 0)
  }

  @inlinable @inline(__always)
  public static func setTotalLength(_ base: UnsafeMutableRawPointer, _ value: UInt16) {
    setWord(base, value, from: UnsafeRawPointer(base).big16(at: 2), at: 2)
  }

  @inlinable @inline(__always)
  public static func setProtocol(_ base: UnsafeMutableRawPointer, _ value: UInt8) {
    let old = UnsafeRawPointer(base).big16(at: 8)
    setWord(base, old & 0xff00 | UInt16(value), from: old, at: 8)
  }

  /// Flags (bit 15 to 13) and offset in 8-byte units.
  @inlinable @inline(__always)
  public static func setFragmentField(_ base: UnsafeMutableRawPointer, _ value: UInt16) {
    setWord(base, value, from: UnsafeRawPointer(base).big16(at: 6), at: 6)
  }

  @inlinable @inline(__always)
  static func setWord(_ base: UnsafeMutableRawPointer, _ new: UInt16, from old: UInt16, at offset: Int) {
    base.setBig16(new, at: offset)
    base.setBig16(InternetChecksum.updated(UnsafeRawPointer(base).big16(at: 10), from: old, to: new), at: 10)
  }

  /// Sums the whole header anew.
  @inlinable public static func setChecksum(_ base: UnsafeMutableRawPointer, headerLength: Int = minimumLength) {
    base.setBig16(0, at: 10)
    base.setBig16(InternetChecksum.of(base, count: headerLength), at: 10)
  }

  /// Writes a header of 20 bytes with its checksum. `fragmentField`: flags and offset; 0x4000 is DF.
  @inlinable public static func write(
    _ base: UnsafeMutableRawPointer, source: IPv4Address, destination: IPv4Address, ipProtocol: UInt8,
    totalLength: Int, timeToLive: UInt8 = 64, typeOfService: UInt8 = 0, identification: UInt16 = 0,
    fragmentField: UInt16 = 0
  ) {
    base.setBig16(0x4500 | UInt16(typeOfService), at: 0)
    base.setBig16(UInt16(truncatingIfNeeded: totalLength), at: 2)
    base.setBig16(identification, at: 4)
    base.setBig16(fragmentField, at: 6)
    base.setByte(timeToLive, at: 8)
    base.setByte(ipProtocol, at: 9)
    base.setAddress(source, at: 12)
    base.setAddress(destination, at: 16)
    setChecksum(base)
  }
}
