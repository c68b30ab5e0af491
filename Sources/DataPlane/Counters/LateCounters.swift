import CLayout
import IPsec

/// A data path's counters, for a database that is there before it. Control thread.
public final class LateCounters: CounterSource {
  public weak var source: DataPlane?
  public init() {}
  public func counters(slot: UInt32) -> gw_counters { source?.counters(slot: slot) ?? gw_counters() }
  public func reset(slot: UInt32) { source?.reset(slot: slot) }
}
