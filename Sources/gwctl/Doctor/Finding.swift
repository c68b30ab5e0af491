/// One thing that was looked at, and the one command that mends it.
struct Finding: Codable, Equatable {
  enum Level: String, Codable, Comparable {
    case good, warning, bad

    private var rank: Int { self == .good ? 0 : self == .warning ? 1 : 2 }
    static func < (left: Level, right: Level) -> Bool { left.rank < right.rank }
  }

  var level: Level
  /// `hugepages`, `nic 0000:03:00.0` …
  var subject: String
  var text: String
  var remedy: String?

  static func good(_ subject: String, _ text: String) -> Finding {
    Finding(level: .good, subject: subject, text: text)
  }

  static func warning(_ subject: String, _ text: String, _ remedy: String) -> Finding {
    Finding(level: .warning, subject: subject, text: text, remedy: remedy)
  }

  static func bad(_ subject: String, _ text: String, _ remedy: String) -> Finding {
    Finding(level: .bad, subject: subject, text: text, remedy: remedy)
  }
}
