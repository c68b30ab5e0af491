import ControlAPI

/// Numbers as a person reads them.
enum Quantity {
  /// `1,234,567`.
  static func grouped(_ value: UInt64) -> String {
    let digits = Array(String(value))
    return digits.indices.map { index in
      let isBreak = index > 0 && (digits.count - index) % 3 == 0
      return (isBreak ? "," : "") + String(digits[index])
    }.joined()
  }

  /// `640 B`, `1.5 KiB`, `16.0 EiB`.
  static func bytes(_ value: UInt64) -> String {
    guard value >= 1024 else { return "\(value) B" }
    var amount = Double(value)
    var unit = -1
    while amount >= 1024, unit < 5 {
      amount /= 1024
      unit += 1
    }
    return "\(decimal(amount, digits: 1)) \(["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit])"
  }

  /// Of bits: `0`, `640`, `1.5 k`, `9.4 G`.
  static func bits(_ value: Double) -> String {
    guard value >= 1000 else { return decimal(max(0, value), digits: 0) + " " }
    var amount = value
    var unit = -1
    while amount >= 999.95, unit < 4 {
      amount /= 1000
      unit += 1
    }
    return "\(decimal(amount, digits: 1)) \(["k", "M", "G", "T", "P"][unit])"
  }

  /// `3d 02:03:04`, `02:03:04`.
  static func duration(_ seconds: Double) -> String {
    let total = Int(max(0, min(seconds, 1e15)))
    let clock = [total / 3600 % 24, total / 60 % 60, total % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
    let days = total / 86400
    return (days > 0 ? "\(days)d " : "") + clock.joined(separator: ":")
  }

  static func decimal(_ value: Double, digits: Int) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "-" }
    var scale = 1
    for _ in 0..<digits { scale *= 10 }
    let scaled = Int((abs(value) * Double(scale)).rounded())
    let fraction = String(scaled % scale)
    let sign = value < 0 && scaled > 0 ? "-" : ""
    return digits == 0
      ? "\(sign)\(scaled)"
      : "\(sign)\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  static func percent(_ share: Double) -> String { decimal(share * 100, digits: 1) + " %" }

  /// `1 SA`, `2 SAs`.
  static func count(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }

  /// What a load did.
  static func changes(_ report: LoadReport) -> String {
    let parts = [
      (report.sasAdded, "SA", "added"), (report.policiesAdded, "flow", "added"), (report.sasDeleted, "SA", "deleted"),
      (report.policiesDeleted, "flow", "deleted"),
    ]
    var texts = parts.filter { $0.0 > 0 }.map { "\(count($0.0, $0.1)) \($0.2)" }
    if report.unchanged > 0 { texts.append("\(report.unchanged) unchanged") }
    return texts.isEmpty ? "nothing to change" : texts.joined(separator: ", ")
  }
}
