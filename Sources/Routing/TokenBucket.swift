/// A rate limit in one word of state (the virtual-scheduling form of a leaky bucket, ITU-T I.371). A plain value, one a
/// worker; times are ticks of any steady clock that the caller reads, once a burst at most.
public struct TokenBucket: Sendable {
  /// Ticks a token.
  @usableFromInline let interval: UInt64
  /// Ticks of a whole burst.
  @usableFromInline let depth: UInt64
  /// When the bucket will be full again.
  @usableFromInline var full: UInt64 = 0

  /// `burst` tokens at once, `perSecond` in the long run; both at least 1.
  public init(perSecond: UInt64, burst: UInt64, ticksPerSecond: UInt64) {
    interval = max(1, ticksPerSecond / max(1, perSecond))
    depth = interval.multipliedReportingOverflow(by: max(1, burst)).overflow ? .max / 2 : interval * max(1, burst)
  }

  /// True if a token is there; takes it.
  @inlinable @inline(__always) public mutating func take(now: UInt64) -> Bool {
    // A clock that jumped back must not close the bucket for long.
    if full < now || full &- now > depth { full = now }
    guard full &- now &+ interval <= depth else { return false }
    full &+= interval
    return true
  }
}
