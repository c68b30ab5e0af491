/// An Authentication Header (RFC 4302 2) whose length was checked:
///
///     next(1) length(1) reserved(2) SPI(4) sequence(4) ICV
public struct AHHeader {
  /// Without the ICV.
  public static let fixedLength = 12

  public let base: UnsafeRawPointer

  /// Nil also where the header's own length leaves no room for its fixed part, or exceeds the packet.
  @inlinable @inline(__always)
  public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.fixedLength else { return nil }
    let claimed = Int(base.byte(at: 1)) &* 4 &+ 8
    guard claimed >= Self.fixedLength, claimed <= length else { return nil }
    self.base = base
  }

  @inlinable public var nextHeader: UInt8 { base.byte(at: 0) }
  /// In bytes, with the ICV and its padding.
  @inlinable public var headerLength: Int { Int(base.byte(at: 1)) &* 4 &+ 8 }
  @inlinable public var spi: UInt32 { base.big32(at: 4) }
  /// The low 32 bits of the sequence number.
  @inlinable public var sequence: UInt32 { base.big32(at: 8) }
  @inlinable public var icv: UnsafeRawPointer { base + Self.fixedLength }
  /// With the padding that makes the header a multiple of 4 (IPv4) or 8 bytes (IPv6).
  @inlinable public var icvLength: Int { headerLength &- Self.fixedLength }
  @inlinable public var payload: UnsafeRawPointer { base + headerLength }

  /// Writes the fixed part; `headerLength` is a multiple of 4, with the ICV.
  @inlinable public static func write(
    _ base: UnsafeMutableRawPointer, nextHeader: UInt8, headerLength: Int, spi: UInt32, sequence: UInt32
  ) {
    base.setByte(nextHeader, at: 0)
    base.setByte(UInt8(truncatingIfNeeded: (headerLength &- 8) / 4), at: 1)
    base.setBig16(0, at: 2)
    base.setBig32(spi, at: 4)
    base.setBig32(sequence, at: 8)
  }
}
