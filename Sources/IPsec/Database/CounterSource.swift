import CLayout

/// The workers' counters, which the data path owns, as the database reads them. Control thread.
public protocol CounterSource: AnyObject {
  /// The sum over all workers; `last_used` is the latest.
  func counters(slot: UInt32) -> gw_counters
  /// The slot changes hands. Called when no worker can use it.
  func reset(slot: UInt32)
}

/// Nothing was ever counted: for tests and tools without workers.
public final class NoCounters: CounterSource {
  public init() {}
  public func counters(slot: UInt32) -> gw_counters { gw_counters() }
  public func reset(slot: UInt32) {}
}
