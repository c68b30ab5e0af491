import Wire

/// Counters of one SA, as OpenBSD's sadb_x_counter and `ip -s xfrm state` have them. Summed when read.
public struct SACounters: Hashable, Sendable {
  public var inputPackets: UInt64 = 0
  public var outputPackets: UInt64 = 0
  public var inputBytes: UInt64 = 0
  public var outputBytes: UInt64 = 0
  /// IPComp.
  public var decompressedBytes: UInt64 = 0
  public var uncompressedBytes: UInt64 = 0
  public var inputDrops: UInt64 = 0
  public var outputDrops: UInt64 = 0
  /// Of the input drops: replayed or too old, and bad ICVs.
  public var replayed: UInt64 = 0
  public var integrityFailures: UInt64 = 0
  public init() {}
}

/// An SA as it stands at one moment: what is asked of it and what has become of it. A copy; any thread.
public struct SARecord: Sendable {
  public var parameters: SAParameters
  public var state: SAState
  public var usage: Usage
  public var counters: SACounters
  /// Which way it is used, where the gateway says: by `parameters.direction`, or by whether the destination is its own.
  public var isInbound: Bool?
  /// Outbound: the last sequence number used. Inbound: the highest that authenticated.
  public var sequence: UInt64
  /// Inbound: bit i is set if `sequence - i` was received; at most the newest 64.
  public var replayBitmap: UInt64
  /// IP packet size that fits through the SA unfragmented, 0 where not known.
  public var mtu: UInt32

  public init(parameters: SAParameters, state: SAState) {
    self.parameters = parameters
    self.state = state
    usage = Usage()
    counters = SACounters()
    sequence = 0
    replayBitmap = 0
    mtu = 0
  }

  /// The far end; where it is not known which way the SA is used, its destination.
  public var peer: IPAddress { isInbound == true ? parameters.source : parameters.destination }
}

/// A policy as it stands at one moment. A copy; any thread.
public struct PolicyRecord: Sendable {
  /// Never 0, unique while the gateway runs: PF_KEY's policy id, XFRM's policy index.
  public var index: UInt32
  public var parameters: PolicyParameters
  public var usage: Usage

  public init(index: UInt32, parameters: PolicyParameters) {
    self.index = index
    self.parameters = parameters
    usage = Usage()
  }
}
