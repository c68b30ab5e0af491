/// Who may connect where places are few. Whoever says nothing gives way to whoever comes, and of those first who has most
/// connections: idle ones, many or for long, shut nobody out. Root finds a place always.
struct ConnectionPlaces: Sendable {
  /// In all, and of one user (but root) or address.
  var all = 64
  var ofPeer = 16

  struct Holder {
    var number: UInt64
    var peer: HTTPPeer
    /// Neither asks nor is answered.
    var isIdle: Bool
    var since: ContinuousClock.Instant
  }

  enum Verdict: Equatable {
    case take
    /// In place of this one, which is closed.
    case replace(UInt64)
    case refuse
  }

  func verdict(on peer: HTTPPeer, among holders: [Holder]) -> Verdict {
    let own = holders.filter { $0.peer == peer }
    if own.count >= ofPeer, !peer.isRoot {
      return Self.longest(own.filter(\.isIdle)).map { .replace($0.number) } ?? .refuse
    }
    guard holders.count >= all else { return .take }
    let counts = Dictionary(grouping: holders, by: \.peer).mapValues(\.count)
    let idle = holders.filter(\.isIdle)
    let most = idle.map { counts[$0.peer] ?? 0 }.max()
    if let victim = Self.longest(idle.filter { counts[$0.peer] == most }) { return .replace(victim.number) }
    guard peer.isRoot, let victim = Self.longest(holders.filter { !$0.peer.isRoot }) else { return .refuse }
    return .replace(victim.number)
  }

  private static func longest(_ holders: [Holder]) -> Holder? { holders.min { $0.since < $1.since } }
}
