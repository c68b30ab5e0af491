/// An IPComp header (RFC 3173 3.1): next(1) flags(1) CPI(2).
public struct IPCompHeader {
  public static let length = 4

  public let base: UnsafeRawPointer

  @inlinable public init?(_ base: UnsafeRawPointer, length: Int) {
    guard length >= Self.length else { return nil }
    self.base = base
  }

  @inlinable public var nextHeader: UInt8 { base.byte(at: 0) }
  @inlinable public var cpi: UInt16 { base.big16(at: 2) }
  @inlinable public var payload: UnsafeRawPointer { base + Self.length }

  @inlinable public static func write(_ base: UnsafeMutableRawPointer, nextHeader: UInt8, cpi: UInt16) {
    base.setByte(nextHeader, at: 0)
    base.setByte(0, at: 1)
    base.setBig16(cpi, at: 2)
  }
}
