import Wire

/// Prefixes as `inet_net_pton` reads them.
enum PrefixText {
  /// `a.b.c.d`, or with a length one to four numbers: `10.1/16` is 10.1.0.0/16.
  static func v4(_ text: String) -> Host? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    if parts.count == 1 {
      return IPv4Address(text).map { Host(address: .v4($0), length: 32, isNetwork: false, name: text) }
    }
    guard parts.count == 2, let length = decimal(parts[1], limit: 32) else { return nil }
    let octets = parts[0].split(separator: ".", omittingEmptySubsequences: false).map { decimal($0, limit: 255) }
    guard (1...4).contains(octets.count) else { return nil }
    var raw: UInt32 = 0
    for index in 0..<4 {
      guard index < octets.count else {
        raw <<= 8
        continue
      }
      guard let octet = octets[index] else { return nil }
      raw = raw << 8 | UInt32(octet)
    }
    return Host(address: .v4(IPv4Address(rawValue: raw)), length: UInt8(length), isNetwork: true, name: text)
  }

  private static func decimal(_ text: Substring, limit: Int) -> Int? {
    guard (1...3).contains(text.utf8.count), text.utf8.allSatisfy(\.isASCIIDigit), let value = Int(text),
      value <= limit
    else { return nil }
    return value
  }

  /// Worth asking the resolver for: a name's characters, and not all of them a number's.
  static func mayBeName(_ text: String) -> Bool {
    (1...253).contains(text.utf8.count)
      && text.utf8.allSatisfy { $0.isASCIIAlphanumeric || Array("-._".utf8).contains($0) }
      && text.utf8.contains(where: \.isASCIILetter)
  }
}

/// C's `strtol` and `strtoul` with base 0, all of the text.
enum CNumber {
  static func signed(_ text: Substring) -> Int? {
    let sign = text.hasPrefix("-") ? -1 : 1
    let digits = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text
    return magnitude(digits).flatMap { Int(exactly: $0) }.map { $0 * sign }
  }

  /// A leading minus wraps, as in C.
  static func unsigned(_ text: Substring) -> UInt64? {
    let negative = text.hasPrefix("-")
    let digits = negative || text.hasPrefix("+") ? text.dropFirst() : text
    return magnitude(digits).map { negative ? 0 &- $0 : $0 }
  }

  private static func magnitude(_ text: Substring) -> UInt64? {
    let digits: Substring
    let radix: Int
    if text.hasPrefix("0x") || text.hasPrefix("0X") {
      (digits, radix) = (text.dropFirst(2), 16)
    } else if text.hasPrefix("0") && text.utf8.count > 1 {
      (digits, radix) = (text.dropFirst(), 8)
    } else {
      (digits, radix) = (text, 10)
    }
    guard digits.utf8.first.map({ $0.isASCIIAlphanumeric }) == true else { return nil }
    return UInt64(digits, radix: radix)
  }
}
