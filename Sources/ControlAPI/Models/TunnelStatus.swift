import IPsec
import Wire

/// One tunnel: an `ike` rule, or a pair of policies with their SAs. A copy; any thread.
public struct TunnelStatus: Codable, Sendable, Hashable {
  public enum State: String, Codable, Sendable, CaseIterable {
    /// Packets have an SA that a key daemon made.
    case up
    /// Packets have an SA of `ipsec.conf`.
    case `static`
    /// The key daemon is asking the peer.
    case connecting
    case down
  }

  /// Who says that there is to be a tunnel.
  public enum Origin: String, Codable, Sendable {
    /// An `ike` rule.
    case rule = "ike"
    /// A key daemon's own configuration.
    case daemon = "key_daemon"
    /// Flows of ipsec.conf, or of `gwctl load`.
    case configuration
  }

  /// What passed, in one direction.
  public struct Traffic: Codable, Sendable, Hashable {
    public var packets: UInt64
    public var bytes: UInt64
    public init(packets: UInt64 = 0, bytes: UInt64 = 0) {
      self.packets = packets
      self.bytes = bytes
    }
  }

  /// The mean over some time.
  public struct Rate: Codable, Sendable, Hashable {
    public var inPacketsPerSecond: Double
    public var inBitsPerSecond: Double
    public var outPacketsPerSecond: Double
    public var outBitsPerSecond: Double

    public init(
      inPacketsPerSecond: Double = 0, inBitsPerSecond: Double = 0, outPacketsPerSecond: Double = 0,
      outBitsPerSecond: Double = 0
    ) {
      self.inPacketsPerSecond = inPacketsPerSecond
      self.inBitsPerSecond = inBitsPerSecond
      self.outPacketsPerSecond = outPacketsPerSecond
      self.outBitsPerSecond = outBitsPerSecond
    }

    enum CodingKeys: String, CodingKey {
      case inPacketsPerSecond = "in_packets_per_second"
      case inBitsPerSecond = "in_bits_per_second"
      case outPacketsPerSecond = "out_packets_per_second"
      case outBitsPerSecond = "out_bits_per_second"
    }
  }

  public struct Rates: Codable, Sendable, Hashable {
    public var second = Rate()
    public var tenSeconds = Rate()
    public var minute = Rate()
    public init() {}

    enum CodingKeys: String, CodingKey {
      case second, minute
      case tenSeconds = "ten_seconds"
    }
  }

  /// An SA of the tunnel.
  public struct Association: Codable, Sendable, Hashable {
    public var isInbound: Bool
    public var spi: UInt32
    public var saProtocol: SAProtocol
    public var source: IPAddress
    public var destination: IPAddress
    public var state: SAState
    /// Seconds since the epoch.
    public var created: Double
    /// By the clock; nil: not rekeyed by it.
    public var nextRekey: Double?
    public var expires: Double?
    public var packets: UInt64
    public var bytes: UInt64
    /// Of the sequence numbers that it has: 0 to 1.
    public var sequenceUse: Double

    enum CodingKeys: String, CodingKey {
      case spi, source, destination, state, created, expires, packets, bytes
      case isInbound = "inbound"
      case saProtocol = "protocol"
      case nextRekey = "next_rekey"
      case sequenceUse = "sequence_use"
    }
  }

  /// Of the rule, else of the key daemon's connection and child, else of what it carries.
  public var name: String
  public var origin: Origin
  public var state: State
  /// Since when packets pass, or do not, in seconds since the epoch.
  public var since: Double
  /// Why it is down, or does not come up, as far as that is known.
  public var reason: String?
  /// False: the key daemon has taken it away; it is remembered for a while.
  public var isConfigured = true
  public var peer: IPAddress?
  /// What it is to carry, as packets leave.
  public var selectors: [Selector] = []
  /// How often it came up, and how often the SA that packets leave through was replaced.
  public var comings: UInt64 = 0
  public var rekeys: UInt64 = 0
  public var lastRekey: Double?
  /// Of packets without the tunnel's protection. They go on over rekeys.
  public var received = Traffic()
  public var sent = Traffic()
  public var rates = Rates()
  /// Reasons that `drops` has.
  public static let dropReasons = ["replay", "integrity", "policy_no_sa", "other"]
  /// Dropped packets by reason; only those that are known to be this tunnel's.
  public var drops: [String: UInt64] = [:]
  /// Nil: not asked for.
  public var associations: [Association]?
  /// Bits a second in both directions, the last second last; at most a minute. Nil: not asked for.
  public var history: [Double]?

  public init(name: String, origin: Origin, state: State, since: Double) {
    self.name = name
    self.origin = origin
    self.state = state
    self.since = since
  }

  enum CodingKeys: String, CodingKey {
    case name, origin, state, since, reason, peer, selectors, comings, rekeys, received, sent, rates, drops, history
    case isConfigured = "configured"
    case lastRekey = "last_rekey"
    case associations = "sas"
  }
}

extension TunnelStatus.Association {
  public init(_ record: SARecord) {
    let parameters = record.parameters
    func moment(_ limit: UInt64) -> Double? {
      // Larger ones are nobody's.
      limit == 0 || limit > 1 << 40 ? nil : Double(record.usage.added &+ limit)
    }
    let isInbound = record.isInbound == true
    let all = parameters.extendedSequenceNumbers ? Double(UInt64.max) : Double(UInt32.max)
    self.init(
      isInbound: isInbound, spi: parameters.spi, saProtocol: parameters.saProtocol, source: parameters.source,
      destination: parameters.destination, state: record.state, created: Double(record.usage.added),
      nextRekey: moment(parameters.soft.addTime), expires: moment(parameters.hard.addTime),
      packets: record.usage.packets, bytes: record.usage.bytes, sequenceUse: Double(record.sequence) / all)
  }
}

/// How many tunnels there are in each state.
public struct TunnelCounts: Codable, Sendable, Hashable {
  public var up = 0
  public var `static` = 0
  public var connecting = 0
  public var down = 0
  public init() {}

  public var all: Int { up + `static` + connecting + down }

  public subscript(state: TunnelStatus.State) -> Int {
    get {
      switch state {
      case .up: up
      case .static: `static`
      case .connecting: connecting
      case .down: down
      }
    }
    set {
      switch state {
      case .up: up = newValue
      case .static: `static` = newValue
      case .connecting: connecting = newValue
      case .down: down = newValue
      }
    }
  }
}

/// A tunnel went from one state to another.
public struct TunnelChange: Codable, Sendable, Hashable {
  public var name: String
  public var peer: IPAddress?
  public var state: TunnelStatus.State
  public var reason: String?

  public init(name: String, peer: IPAddress?, state: TunnelStatus.State, reason: String? = nil) {
    self.name = name
    self.peer = peer
    self.state = state
    self.reason = reason
  }
}
