import CLayout
import IPsec

/// Whether a packet is within the selector of an SA, kept as a policy of its own.
enum SelectorMatch {
  static func covers(_ selector: UnsafeMutablePointer<gw_policy>, _ key: gw_flow_key) -> Bool {
    guard selector.pointee.family == key.family else { return false }
    let bits: UInt8 = key.family == 2 ? 32 : 128
    let matchesSource = prefix(
      (selector.pointee.source_high, selector.pointee.source_low), length: selector.pointee.source_length, bits: bits,
      covers: (key.source_high, key.source_low))
    let matchesDestination = prefix(
      (selector.pointee.destination_high, selector.pointee.destination_low),
      length: selector.pointee.destination_length, bits: bits, covers: (key.destination_high, key.destination_low))
    guard matchesSource, matchesDestination else { return false }
    guard selector.pointee.any_protocol != 0 || selector.pointee.ip_protocol == key.ip_protocol else { return false }
    var key = key
    return SPDReader.portsMatch(selector, &key)
  }

  /// `bits`: of the family; an IPv4 address fills the low 32 of 128.
  private static func prefix(
    _ prefix: (UInt64, UInt64), length: UInt8, bits: UInt8, covers address: (UInt64, UInt64)
  ) -> Bool {
    let host = Int(bits) - Int(length)
    guard host > 0 else { return prefix == address }
    let high = (prefix.0 ^ address.0) &>> UInt64(max(host - 64, 0))
    let low = host >= 64 ? 0 : (prefix.1 ^ address.1) >> UInt64(host)
    return low == 0 && (host >= 128 || high == 0)
  }
}
