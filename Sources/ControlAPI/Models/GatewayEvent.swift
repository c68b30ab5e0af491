import IPsec

/// One line of `GET /v1/events`.
public struct GatewayEvent: Codable, Sendable {
  public enum Body: Sendable {
    case database(DatabaseChange)
    /// This reader was too slow: so many events before this one were thrown away.
    case lost(UInt64)
    case reloaded(ReloadReport)
    case tunnel(TunnelChange)
  }

  /// Counts up by one over the gateway's life.
  public var sequence: UInt64
  /// Seconds since the epoch.
  public var atSeconds: Double
  /// The session that caused it (0: the gateway itself or the control API), and its process where that is still there.
  public var origin: UInt64
  public var process: Int32?
  public var body: Body

  public init(sequence: UInt64, atSeconds: Double, origin: UInt64, process: Int32? = nil, body: Body) {
    self.sequence = sequence
    self.atSeconds = atSeconds
    self.origin = origin
    self.process = process
    self.body = body
  }

  enum CodingKeys: String, CodingKey {
    case sequence, origin, process, event, reload, tunnel
    case atSeconds = "at_seconds"
    case lostEvents = "lost_events"
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    sequence = try fields.decode(UInt64.self, forKey: .sequence)
    atSeconds = try fields.decode(Double.self, forKey: .atSeconds)
    origin = try fields.value(.origin, default: 0)
    process = try fields.decodeIfPresent(Int32.self, forKey: .process)
    switch try fields.decode(String.self, forKey: .event) {
    case "lost": body = .lost(try fields.decode(UInt64.self, forKey: .lostEvents))
    case "reloaded": body = .reloaded(try fields.decode(ReloadReport.self, forKey: .reload))
    case "tunnel": body = .tunnel(try fields.decode(TunnelChange.self, forKey: .tunnel))
    default: body = .database(try DatabaseChange(from: decoder))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(sequence, forKey: .sequence)
    try fields.encode(atSeconds, forKey: .atSeconds)
    try fields.encode(origin, forKey: .origin)
    try fields.encodeIfPresent(process, forKey: .process)
    switch body {
    case .database(let event): try event.encode(to: encoder)
    case .lost(let count):
      try fields.encode("lost", forKey: .event)
      try fields.encode(count, forKey: .lostEvents)
    case .reloaded(let report):
      try fields.encode("reloaded", forKey: .event)
      try fields.encode(report, forKey: .reload)
    case .tunnel(let change):
      try fields.encode("tunnel", forKey: .event)
      try fields.encode(change, forKey: .tunnel)
    }
  }
}
