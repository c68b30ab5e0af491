/// A line of the daemon's log, as it is kept in memory.
public struct LogLine: Codable, Sendable, Hashable {
  /// Seconds since the epoch.
  public var atSeconds: Double
  /// `debug`, `info`, `notice`, `warning`, `error`, `critical`.
  public var level: String
  public var text: String
  /// `tunnel`, `peer`, `spi`: what it is about.
  public var fields: [String: String]

  public init(atSeconds: Double, level: String, text: String, fields: [String: String] = [:]) {
    self.atSeconds = atSeconds
    self.level = level
    self.text = text
    self.fields = fields
  }

  enum CodingKeys: String, CodingKey {
    case level, text, fields
    case atSeconds = "at_seconds"
  }
}
