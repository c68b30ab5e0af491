import CLayout

/// Which SA is applied after which: what `gw_sa.next` says, and what is asked for but whose second SA is not there.
/// By serial. Control thread only.
struct BundleLinks {
  /// First → second.
  private(set) var next: [UInt32: UInt32] = [:]
  /// Second → all that come before it.
  private var previous: [UInt32: Set<UInt32>] = [:]
  /// SAs that name another as the one after them, by that name.
  private var waiting: [SAIdentifier: Set<UInt32>] = [:]

  mutating func link(_ first: UInt32, to second: UInt32) {
    unlink(first)
    next[first] = second
    previous[second, default: []].insert(first)
  }

  mutating func unlink(_ first: UInt32) {
    guard let second = next.removeValue(forKey: first) else { return }
    previous[second]?.remove(first)
    if previous[second]?.isEmpty == true { previous[second] = nil }
  }

  /// Those that come before an SA.
  func firsts(of second: UInt32) -> Set<UInt32> { previous[second] ?? [] }

  mutating func wait(_ first: UInt32, for second: SAIdentifier) { waiting[second, default: []].insert(first) }

  mutating func stopWaiting(_ first: UInt32, for second: SAIdentifier) {
    waiting[second]?.remove(first)
    if waiting[second]?.isEmpty == true { waiting[second] = nil }
  }

  /// Those that name an SA as the one after them.
  func waiters(for second: SAIdentifier) -> Set<UInt32> { waiting[second] ?? [] }
}
