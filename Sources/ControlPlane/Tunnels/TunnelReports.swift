import ControlAPI
import IKEControl
import IPsec
import Wire

/// What tunnels are chosen and put into order by, apart from the control thread.
struct TunnelDigest: Sendable {
  var slot: Int
  /// Counts up with every tunnel.
  var number: UInt64
  var name: String
  var peer: IPAddress?
  var state: TunnelStatus.State
  var since: Double
  var bits: Double
  var drops: UInt64
}

/// Tunnels as others see them. Control thread; each call looks at no more than it is asked for.
extension TunnelTable {
  /// SAs of one tunnel that are shown: a rekey leaves two a direction, and what is beyond that is a daemon's affair.
  private static let mostAssociations = 8

  /// Of the next `limit` places from `start` on; nil: there are no more.
  func digests(from start: Int, atMost limit: Int, withDrops: Bool) -> [TunnelDigest]? {
    guard start < tunnels.count else { return nil }
    return tunnels[start..<min(start + limit, tunnels.count)].compactMap { tunnel in
      guard let tunnel else { return nil }
      return TunnelDigest(
        slot: tunnel.slot, number: tunnel.number, name: tunnel.name, peer: tunnel.peer, state: tunnel.shown,
        since: tunnel.life.since,
        bits: tunnel.history.bitsPerSecond, drops: withDrops ? drops(of: tunnel, associations(of: tunnel)).all : 0)
    }
  }

  /// Those of `places` that are still there.
  func statuses(_ places: ArraySlice<TunnelDigest>, _ query: TunnelQuery) -> [TunnelStatus] {
    places.compactMap { place in
      guard let tunnel = tunnels[place.slot], tunnel.number == place.number else { return nil }
      return status(of: tunnel, withAssociations: query.withAssociations, withHistory: query.withHistory)
    }
  }

  func status(of tunnel: Tunnel, withAssociations: Bool, withHistory: Bool) -> TunnelStatus {
    let life = tunnel.life
    var status = TunnelStatus(name: tunnel.name, origin: tunnel.origin, state: life.state, since: life.since)
    status.reason = life.isUp ? nil : life.reason
    status.isConfigured = tunnel.departed == nil
    status.peer = tunnel.peer ?? tunnel.flows.first?.bindings.last?.peer
    status.selectors = tunnel.flows.isEmpty ? tunnel.wanted.map { [$0] } ?? [] : tunnel.flows.map(\.selector)
    status.comings = life.comings
    status.rekeys = life.rekeys
    status.lastRekey = life.lastRekey
    let (received, sent) = traffic(of: tunnel)
    status.received = .init(packets: received.packets, bytes: received.bytes)
    status.sent = .init(packets: sent.packets, bytes: sent.bytes)
    status.rates = tunnel.history.rates
    let records = associations(of: tunnel)
    status.drops = drops(of: tunnel, records).byReason.filter { $0.value > 0 }
    if withAssociations { status.associations = records.map(TunnelStatus.Association.init) }
    if withHistory { status.history = tunnel.history.bits }
    return status
  }

  var daemonNames: [DaemonName] {
    children.values.compactMap { child in
      guard let binding = child.binding else { return nil }
      var name = DaemonName(
        saProtocol: binding.saProtocol, peer: binding.peer, requestID: binding.requestID, connection: child.connection,
        child: child.name)
      name.localIdentity = child.localIdentity.flatMap(Identity.init(daemon:))
      name.remoteIdentity = child.remoteIdentity.flatMap(Identity.init(daemon:))
      name.remoteAuthentication = child.remoteAuthentication
      name.selector = selector(of: binding)
      return name
    }
  }

  private func associations(of tunnel: Tunnel) -> [SARecord] {
    tunnel.bindings.prefix(Self.mostAssociations).flatMap { associations(of: $0, atMost: Self.mostAssociations) }
  }

  private func drops(of tunnel: Tunnel, _ records: [SARecord]) -> Tunnel.Drops {
    var drops = tunnel.retired.drops
    for record in records { drops.add(record) }
    for flow in tunnel.flows { drops.withoutSA += droppedWithoutSA(flow) }
    return drops
  }
}

extension TunnelQuery {
  /// What is asked for, in order.
  func chosen(_ digests: [TunnelDigest]) -> [TunnelDigest] {
    let wanted = filter?.lowercased()
    var chosen = digests.filter { digest in
      if let name, digest.name != name { return false }
      if let states, !states.contains(digest.state) { return false }
      guard let wanted, !wanted.isEmpty else { return true }
      return digest.name.lowercased().contains(wanted) || (digest.peer.map { "\($0)".contains(wanted) } ?? false)
    }
    chosen.sort { a, b in
      switch order {
      case .name: break
      case .made: return a.number < b.number
      case .rate: if a.bits != b.bits { return a.bits > b.bits }
      case .drops: if a.drops != b.drops { return a.drops > b.drops }
      case .age: if a.since != b.since { return a.since > b.since }
      case .state: if a.state != b.state { return Self.rank(a.state) < Self.rank(b.state) }
      }
      return a.name != b.name ? a.name < b.name : a.slot < b.slot
    }
    return Array(chosen.dropFirst(offset).prefix(limit ?? .max))
  }

  private static func rank(_ state: TunnelStatus.State) -> Int {
    switch state {
    case .down: 0
    case .connecting: 1
    case .up: 2
    case .static: 3
    }
  }
}
