/// The part of an ESP packet that is sent in clear (RFC 4303 2): SPI(4) sequence(4), then IV, ciphertext, ICV.
public struct ESPHeader {
  public static let length = 8

  public let base: UnsafeRawPointer

  @inlinable @inline(__always)
  public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.length else { return nil }
    self.base = base
  }

  @inlinable public var spi: UInt32 { base.big32(at: 0) }
  /// The low 32 bits of the sequence number.
  @inlinable public var sequence: UInt32 { base.big32(at: 4) }
  @inlinable public var payload: UnsafeRawPointer { base + Self.length }

  @inlinable @inline(__always)
  public static func write(_ base: UnsafeMutableRawPointer, spi: UInt32, sequence: UInt32) {
    base.setBig32(spi, at: 0)
    base.setBig32(sequence, at: 4)
  }
}
