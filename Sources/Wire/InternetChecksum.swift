/// The Internet checksum (RFC 1071): a running one's complement sum of 16-bit words.
/// Values given and returned are numbers in host byte order, as `big16` and `setBig16` read and write them.
public struct InternetChecksum: Sendable {
  /// Words summed as they lie in memory (RFC 1071 2(B)); 32-bit words, so that 2^32 of them cannot overflow.
  @usableFromInline var sum: UInt64 = 0
  /// An odd number of bytes has been summed: what follows is one byte off.
  @usableFromInline var isOdd = false

  @inlinable public init() {}

  /// Adds `count` bytes that follow those added before; chunks may be of odd length.
  @inlinable public mutating func add(_ base: UnsafeRawPointer, count: Int) {
    let chunk = Self.sum(base, count: count)
    if isOdd {
      sum &+= UInt64(Self.folded(chunk).byteSwapped)
    } else {
      sum &+= chunk
    }
    isOdd = isOdd != (count & 1 == 1)
  }

  /// Adds one 16-bit word.
  @inlinable @inline(__always) public mutating func add(_ word: UInt16) { sum &+= UInt64(word.bigEndian) }

  @inlinable @inline(__always) public mutating func add(_ word: UInt32) {
    sum &+= UInt64(word.bigEndian)
  }

  /// Pseudo-header of IPv4 (RFC 768, RFC 9293).
  @inlinable public mutating func addPseudoHeader(
    source: IPv4Address, destination: IPv4Address, ipProtocol: UInt8, length: UInt16
  ) {
    add(source.rawValue)
    add(destination.rawValue)
    add(UInt16(ipProtocol))
    add(length)
  }

  /// Pseudo-header of IPv6 (RFC 8200 8.1).
  @inlinable public mutating func addPseudoHeader(
    source: IPv6Address, destination: IPv6Address, ipProtocol: UInt8, length: UInt32
  ) {
    add(source)
    add(destination)
    add(UInt32(ipProtocol))
    add(length)
  }

  @inlinable mutating func add(_ address: IPv6Address) {
    add(UInt32(truncatingIfNeeded: address.high >> 32))
    add(UInt32(truncatingIfNeeded: address.high))
    add(UInt32(truncatingIfNeeded: address.low >> 32))
    add(UInt32(truncatingIfNeeded: address.low))
  }

  /// The checksum to store; 0 over data that holds its own right checksum.
  @inlinable public var value: UInt16 { ~UInt16(bigEndian: Self.folded(sum)) }

  /// As `value`, with 0 sent as 0xffff: UDP's rule (RFC 768).
  @inlinable public var udpValue: UInt16 {
    let value = value
    return value == 0 ? 0xffff : value
  }

  /// The checksum of `count` bytes.
  @inlinable public static func of(_ base: UnsafeRawPointer, count: Int) -> UInt16 {
    ~UInt16(bigEndian: folded(sum(base, count: count)))
  }

  /// RFC 1624, equation 3: the checksum after a word it covers has changed.
  @inlinable @inline(__always)
  public static func updated(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
    let sum = UInt32(~checksum) &+ UInt32(~old) &+ UInt32(new)
    return ~folded32(sum)
  }

  @inlinable @inline(__always)
  public static func updated(_ checksum: UInt16, from old: UInt32, to new: UInt32) -> UInt16 {
    let sum =
      UInt32(~checksum) &+ (~old >> 16) &+ (~old & 0xffff) &+ (new >> 16) &+ (new & 0xffff)
    return ~folded32(sum)
  }

  @inlinable @inline(__always) static func folded32(_ sum: UInt32) -> UInt16 {
    let once = (sum & 0xffff) &+ (sum >> 16)
    return UInt16(truncatingIfNeeded: (once & 0xffff) &+ (once >> 16))
  }

  /// 64 bits of carries down to 16.
  @inlinable @inline(__always) static func folded(_ sum: UInt64) -> UInt16 {
    let half = (sum & 0xffff_ffff) &+ (sum >> 32)
    let quarter = (half & 0xffff) &+ (half >> 16 & 0xffff) &+ (half >> 32)
    return folded32(UInt32(truncatingIfNeeded: quarter))
  }

  /// Sum of the 32-bit words at `base`, the last one filled up with zeros.
  @inlinable static func sum(_ base: UnsafeRawPointer, count: Int) -> UInt64 {
    var sum: UInt64 = 0
    var offset = 0
    while offset &+ 8 <= count {
      let word = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      sum &+= (word & 0xffff_ffff) &+ (word >> 32)
      offset &+= 8
    }
    if offset &+ 4 <= count {
      sum &+= UInt64(base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      offset &+= 4
    }
    if offset &+ 2 <= count {
      sum &+= UInt64(base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
      offset &+= 2
    }
    if offset < count { sum &+= UInt64((UInt16(base.byte(at: offset)) << 8).bigEndian) }
    return sum
  }
}
