/// A crypto engine, and what it was picked for.
public struct EngineStatus: Codable, Sendable, Hashable {
  /// One algorithm and size class as calibrated at start.
  public struct Choice: Codable, Sendable, Hashable {
    /// `aes-gcm-16-128`, `aes-cbc-128 hmac-sha2-256` …
    public var transform: String
    /// Payloads of up to this many bytes; nil: any.
    public var upToBytes: UInt32?
    public var nanosecondsPerPacket: Double?
    /// Whether `auto` picked this engine here.
    public var picked: Bool

    public init(transform: String, upToBytes: UInt32? = nil, nanosecondsPerPacket: Double? = nil, picked: Bool) {
      self.transform = transform
      self.upToBytes = upToBytes
      self.nanosecondsPerPacket = nanosecondsPerPacket
      self.picked = picked
    }

    enum CodingKeys: String, CodingKey {
      case transform, picked
      case upToBytes = "up_to_bytes"
      case nanosecondsPerPacket = "nanoseconds_per_packet"
    }
  }

  /// As `crypto:` in gateway.yaml names it.
  public var name: String
  /// The library's own version string.
  public var version: String
  /// Known-answer tests at start: nil: not run, else what failed (empty: all passed).
  public var selfTestFailures: [String]?
  /// SAs keyed with it now.
  public var sessions: Int
  public var choices: [Choice]

  public init(
    name: String, version: String, selfTestFailures: [String]? = nil, sessions: Int = 0, choices: [Choice] = []
  ) {
    self.name = name
    self.version = version
    self.selfTestFailures = selfTestFailures
    self.sessions = sessions
    self.choices = choices
  }

  enum CodingKeys: String, CodingKey {
    case name, version, sessions, choices
    case selfTestFailures = "self_test_failures"
  }
}
