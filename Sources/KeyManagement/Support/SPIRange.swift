import IPsec

/// The SPIs that a key daemon lets the gateway choose from.
enum SPIRange {
  /// 1 to 255 are IANA's (RFC 4303 2.1), and taken where `low-spis` says so.
  private static let first: UInt32 = 256
  /// A CPI has 16 bits (RFC 3173).
  private static let largestCPI: UInt32 = 0xffff

  static func usable(
    _ minimum: UInt32, _ maximum: UInt32, _ saProtocol: SAProtocol, _ policy: KeyPolicy
  ) throws(KeyRefusal) -> ClosedRange<UInt32> {
    guard minimum <= maximum else { throw .invalid("Minimum SPI is greater than maximum SPI") }
    guard saProtocol != .ipcomp || maximum <= largestCPI else { throw .invalid("SPI is too large for COMP") }
    let first = policy.allowsLowSPIs && saProtocol != .ipcomp ? 1 : first
    guard maximum >= first else { throw .invalid("SPIs below \(first) are reserved") }
    return max(first, minimum)...maximum
  }
}
