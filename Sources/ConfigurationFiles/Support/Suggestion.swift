/// "Did you mean": the nearest of some names to a misspelt one.
enum Suggestion {
  /// The name at the least edit distance, if it is near enough to be what was meant.
  static func closest(to text: String, among names: [String]) -> String? {
    guard text.count <= 40 else { return nil }
    let lower = text.lowercased().replacing("_", with: "-")
    let ranked = names.map { (name: $0, distance: distance(Array(lower.utf8), Array($0.utf8))) }
    let near = max(1, min(3, lower.count / 2))
    guard let best = ranked.min(by: { $0.distance < $1.distance }), best.distance <= near else {
      return names.first { !lower.isEmpty && $0.hasPrefix(lower) }
    }
    return best.name
  }

  /// Levenshtein's.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var row = Array(0...b.count)
    for i in a.indices {
      var diagonal = row[0]
      row[0] = i + 1
      for j in b.indices {
        let above = row[j + 1]
        row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
        diagonal = above
      }
    }
    return row[b.count]
  }
}

extension UInt8 {
  var isASCIIDigit: Bool { self >= UInt8(ascii: "0") && self <= UInt8(ascii: "9") }
  var isASCIILetter: Bool { (self | 0x20) >= UInt8(ascii: "a") && (self | 0x20) <= UInt8(ascii: "z") }
  var isASCIIAlphanumeric: Bool { isASCIIDigit || isASCIILetter }
  /// C's `ispunct` in the C locale.
  var isASCIIPunctuation: Bool { self > 32 && self < 127 && !isASCIIAlphanumeric }
  /// C's `isspace` in the C locale.
  var isASCIISpace: Bool { self == 32 || (9...13).contains(self) }
}
