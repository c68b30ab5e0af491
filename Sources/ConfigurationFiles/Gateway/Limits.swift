/// `limits:` what the gateway allocates for at the start and refuses beyond.
public struct Limits: Sendable, Equatable {
  public var sas = 65_536
  public var policies = 65_536
  /// Key schedules; SAs beyond get theirs when a packet comes for them.
  public var schedules = 65_536
  /// Entries of each worker's flow cache.
  public var flows = 32_768
  public var routes = 65_536
  public var neighbors = 4_096
  /// Packets kept for a next hop whose MAC is not known yet.
  public var queuedPacketsPerNeighbor = 16
  /// ACQUIREs under way, over all policies.
  public var acquires = 4_096
  /// Packets kept for an SA that is being negotiated, for each ACQUIRE.
  public var queuedPacketsPerAcquire = 4
  /// Packets being reassembled, per worker.
  public var reassemblies = 4_096
  /// ICMP errors made a second, per worker.
  public var icmpErrorsPerSecond = 100
  public init() {}
}
