import ConfigurationFiles
import ControlAPI
import Foundation
import IKEControl
import IPsec
import Wire

/// All tunnels, by what the database and the key daemon tell. Control thread only. What is told of takes constant time
/// for each tunnel it is about; tunnels are looked at in `work`, a bounded number at a time.
final class TunnelTable {
  /// How many are looked at and sampled in one call of `work`.
  private static let mostLooks = 500
  private static let mostSamples = 250
  /// Calls of `work` in a second.
  private static let worksASecond = 200
  /// Tunnels that a key daemon took away are remembered so long, and so many of them.
  private static let memory: Double = 3600
  private static let mostDeparted = 1000
  /// Daemons' names for request IDs.
  private static let mostChildren = 100_000

  private struct Name: Hashable {
    var name: String
    var peer: IPAddress?
  }

  private let database: SecurityDatabase
  private let clock: () -> Double
  /// After a tunnel's state changed.
  var onChange: (TunnelChange) -> Void = { _ in }
  /// What the gateway itself is doing to SAs: why tunnels will have none.
  var doing: String?

  private(set) var tunnels: [Tunnel?] = []
  private(set) var counts = TunnelCounts()
  private var freeSlots: [Int] = []
  private var lastNumber: UInt64 = 0
  private var names: [Name: Int] = [:]
  private var byRule: [Tunnel.Rule: Tunnel] = [:]
  private var rulesBySelector: [Selector: [Int: Tunnel]] = [:]
  private var byPolicy: [UInt32: Tunnel] = [:]
  private var byBinding: [TunnelBinding: [Int: Tunnel]] = [:]
  private var byKey: [Tunnel.Key: Tunnel] = [:]
  private var departed: [Tunnel] = []
  private(set) var children: [UInt32: DaemonChild] = [:]
  private var pending: [Tunnel] = []
  private var pendingHead = 0
  private var sampleCursor = 0
  private var nextRound: Double = 0

  init(_ database: SecurityDatabase, clock: @escaping () -> Double = { Date().timeIntervalSince1970 }) {
    self.database = database
    self.clock = clock
  }

  var count: Int { tunnels.count - freeSlots.count }

  // MARK: The database

  func handle(_ event: DatabaseEvent, origin: UInt64) {
    switch event {
    case .saAdded(let sa), .saUpdated(let sa): noteSA(sa, cause: nil)
    case .saDeleted(let sa):
      retire(sa)
      noteSA(sa, cause: doing ?? (origin == 0 ? "its SAs were deleted" : "the key daemon deleted its SAs"))
    case .saExpired(let sa, let isHard):
      if isHard { retire(sa) }
      noteSA(sa, cause: isHard ? "the lifetime of its SAs ended" : nil)
    case .sasFlushed: noteAll(cause: doing ?? "all SAs were flushed")
    case .policyAdded(let policy), .policyUpdated(let policy): note(policy)
    case .policyDeleted(let policy): forget(policy, origin)
    case .policiesFlushed: forgetAllPolicies()
    case .acquire(let request):
      guard let tunnel = byPolicy[request.policy.index] else { return }
      tunnel.life.isAskedFor(now: clock())
      show(tunnel)
    case .acquireExpired(let request):
      guard let tunnel = byPolicy[request.policy.index] else { return }
      tunnel.life.isUnanswered("the key daemon was asked for SAs and made none", now: clock())
      show(tunnel)
    case .mapping: break
    }
  }

  private func noteSA(_ sa: SARecord, cause: String?) {
    // Packets leave through outbound SAs; larval ones are none yet.
    guard sa.isInbound == false else { return }
    forEach(of: sa) { tunnel in
      if let cause { tunnel.cause = cause }
      mark(tunnel)
    }
  }

  private func forEach(of sa: SARecord, _ body: (Tunnel) -> Void) {
    let parameters = sa.parameters
    var binding = TunnelBinding(saProtocol: parameters.saProtocol, peer: sa.peer)
    for tunnel in byBinding[binding]?.values ?? [:].values { body(tunnel) }
    guard parameters.requestID != 0 else { return }
    binding.requestID = parameters.requestID
    for tunnel in byBinding[binding]?.values ?? [:].values { body(tunnel) }
  }

  /// What an SA that goes has dropped stays its tunnel's.
  private func retire(_ sa: SARecord) {
    let counters = sa.counters
    guard counters.inputDrops | counters.outputDrops | counters.replayed | counters.integrityFailures != 0 else {
      return
    }
    forEach(of: sa) { $0.retired.drops.add(sa) }
  }

  /// Of what may change everywhere at once.
  func noteAll(cause: String?) {
    for case let tunnel? in tunnels {
      if let cause { tunnel.cause = cause }
      mark(tunnel)
    }
  }

  private func note(_ policy: PolicyRecord) {
    let parameters = policy.parameters
    guard parameters.direction == .out else { return noteIncoming(policy) }
    let bindings = parameters.asksForProtection ? database.bindings(ofPolicy: policy.index) : []
    if let tunnel = byPolicy[policy.index] {
      guard let place = tunnel.flows.firstIndex(where: { $0.out == policy.index }) else { return }
      guard !bindings.isEmpty else { return drop(flow: place, of: tunnel, sent: nil) }
      unbind(tunnel)
      tunnel.flows[place].bindings = bindings
      bind(tunnel)
      mark(tunnel)
    } else if !bindings.isEmpty {
      attach(policy, bindings, to: tunnel(for: policy, bindings))
    }
  }

  private func noteIncoming(_ policy: PolicyRecord) {
    guard byPolicy[policy.index] == nil,
      let out = database.policyIndex(of: policy.parameters, mirrored: .out), let tunnel = byPolicy[out],
      let place = tunnel.flows.firstIndex(where: { $0.out == out })
    else { return }
    tunnel.flows[place].incoming.append(policy.index)
    byPolicy[policy.index] = tunnel
  }

  private func tunnel(for policy: PolicyRecord, _ bindings: [TunnelBinding]) -> Tunnel {
    let parameters = policy.parameters
    let peer = bindings.last?.peer
    let isConfigured = parameters.owner == .configuration
    if !isConfigured {
      if let rule = rule(for: parameters.selector, bindings) { return rule }
      // One child SA of charon's may have several policies, all with its request ID.
      for binding in bindings where binding.requestID != 0 {
        if let sharing = byBinding[binding]?.values.first(where: { $0.origin != .configuration }) { return sharing }
      }
    }
    let key = Tunnel.Key(selector: parameters.selector, peer: peer)
    if let known = byKey[key] {
      revive(known)
      return known
    }
    let child = isConfigured ? nil : bindings.lazy.compactMap { self.children[$0.requestID] }.first
    let made = add(
      name: child?.tunnelName ?? parameters.selector.tunnelName, origin: isConfigured ? .configuration : .daemon,
      peer: peer, reason: isConfigured ? "ipsec.conf has no SA for it" : "it has no SA yet")
    made.child = child
    made.key = key
    byKey[key] = made
    return made
  }

  private func rule(for selector: Selector, _ bindings: [TunnelBinding]) -> Tunnel? {
    for binding in bindings {
      guard binding.requestID != 0, let child = children[binding.requestID] else { continue }
      if let rule = byRule[child.rule] { return rule }
    }
    let alike = rulesBySelector[selector]?.values
    return alike?.first { $0.peer == bindings.last?.peer } ?? alike?.first { $0.peer == nil }
  }

  private func attach(_ policy: PolicyRecord, _ bindings: [TunnelBinding], to tunnel: Tunnel) {
    unbind(tunnel)
    var flow = Tunnel.Flow(selector: policy.parameters.selector, out: policy.index, bindings: bindings)
    for direction in [PolicyDirection.in, .forward] {
      guard let index = database.policyIndex(of: policy.parameters, mirrored: direction), byPolicy[index] == nil else {
        continue
      }
      flow.incoming.append(index)
      byPolicy[index] = tunnel
    }
    tunnel.flows.append(flow)
    byPolicy[policy.index] = tunnel
    bind(tunnel)
    mark(tunnel)
  }

  private func forget(_ policy: PolicyRecord, _ origin: UInt64) {
    guard let tunnel = byPolicy[policy.index] else { return }
    let counted = TrafficCount(packets: policy.usage.packets, bytes: policy.usage.bytes)
    tunnel.cause = doing ?? (origin == 0 ? "its flows were deleted" : "the key daemon took its policies away")
    if let place = tunnel.flows.firstIndex(where: { $0.out == policy.index }) {
      return drop(flow: place, of: tunnel, sent: counted)
    }
    guard let place = tunnel.flows.firstIndex(where: { $0.incoming.contains(policy.index) }) else { return }
    byPolicy[policy.index] = nil
    tunnel.flows[place].incoming.removeAll { $0 == policy.index }
    // Its record has what its twin of the other inbound direction counts, too.
    let twin = tunnel.flows[place].incoming.reduce(TrafficCount()) { $0 + (database.traffic(ofPolicy: $1) ?? .init()) }
    tunnel.retired.received = tunnel.retired.received + (counted - twin)
  }

  /// - Parameter sent: nil: the policy is still there.
  private func drop(flow place: Int, of tunnel: Tunnel, sent: TrafficCount?) {
    unbind(tunnel)
    let flow = tunnel.flows.remove(at: place)
    setTunnel(nil, of: flow)
    for index in flow.incoming {
      tunnel.retired.received = tunnel.retired.received + (database.traffic(ofPolicy: index) ?? .init())
    }
    tunnel.retired.sent = tunnel.retired.sent + (sent ?? database.traffic(ofPolicy: flow.out) ?? .init())
    bind(tunnel)
    mark(tunnel)
  }

  private func forgetAllPolicies() {
    byPolicy = [:]
    byBinding = [:]
    for case let tunnel? in tunnels {
      tunnel.flows = []
      tunnel.cause = doing ?? "all flows were flushed"
      mark(tunnel)
    }
  }

  private func setTunnel(_ tunnel: Tunnel?, of flow: Tunnel.Flow) {
    for index in [flow.out] + flow.incoming { byPolicy[index] = tunnel }
  }

  private func bind(_ tunnel: Tunnel) {
    for binding in tunnel.bindings { byBinding[binding, default: [:]][tunnel.slot] = tunnel }
  }

  private func unbind(_ tunnel: Tunnel) {
    for binding in tunnel.bindings {
      byBinding[binding]?[tunnel.slot] = nil
      if byBinding[binding]?.isEmpty == true { byBinding[binding] = nil }
    }
  }

  // MARK: Rules

  /// In place of all rules before.
  func replace(_ rules: [IKEConnection]) {
    let wanted = Set(rules.map { Tunnel.Rule(name: $0.name, peerName: $0.peerName) })
    for (rule, tunnel) in byRule where !wanted.contains(rule) { remove(tunnel) }
    add(rules)
  }

  func add(_ rules: [IKEConnection]) {
    for rule in rules {
      let name = Tunnel.Rule(name: rule.name, peerName: rule.peerName)
      if let known = byRule[name] {
        if known.wanted != rule.selector {
          forgetWish(of: known)
          note(rule.selector, wantedBy: known)
        }
        continue
      }
      let tunnel = add(name: rule.name, origin: .rule, rule: name, peer: rule.peer, reason: nil)
      byRule[name] = tunnel
      note(rule.selector, wantedBy: tunnel)
      if let standing = byKey[Tunnel.Key(selector: rule.selector, peer: rule.peer)], standing.origin == .daemon {
        adopt(standing, by: tunnel)
      }
    }
  }

  func remove(_ rules: [IKEConnection]) {
    for rule in rules {
      if let tunnel = byRule[Tunnel.Rule(name: rule.name, peerName: rule.peerName)] { remove(tunnel) }
    }
  }

  private func note(_ selector: Selector, wantedBy tunnel: Tunnel) {
    tunnel.wanted = selector
    rulesBySelector[selector, default: [:]][tunnel.slot] = tunnel
  }

  private func forgetWish(of tunnel: Tunnel) {
    guard let wanted = tunnel.wanted else { return }
    rulesBySelector[wanted]?[tunnel.slot] = nil
    if rulesBySelector[wanted]?.isEmpty == true { rulesBySelector[wanted] = nil }
  }

  /// What a daemon made before it was known whose it is.
  private func adopt(_ other: Tunnel, by tunnel: Tunnel) {
    unbind(other)
    unbind(tunnel)
    for flow in other.flows { setTunnel(tunnel, of: flow) }
    tunnel.flows += other.flows
    tunnel.retired.received = tunnel.retired.received + other.retired.received
    tunnel.retired.sent = tunnel.retired.sent + other.retired.sent
    other.flows = []
    remove(other)
    bind(tunnel)
    mark(tunnel)
  }

  func tunnel(rule: String, peerName: String) -> Tunnel? { byRule[Tunnel.Rule(name: rule, peerName: peerName)] }

  // MARK: The key daemon

  func take(_ news: TunnelNews) {
    for child in news.children.values { take(child) }
    for name in news.asked {
      guard let tunnel = byRule[Tunnel.Rule(name: name.rule, peerName: name.peer)] else { continue }
      tunnel.life.isAskedFor(now: clock())
      show(tunnel)
    }
    guard !news.complaints.isEmpty else { return }
    let now = clock()
    for case let tunnel? in tunnels {
      guard let connection = tunnel.connection, let text = news.complaints[connection] else { continue }
      // While it is up this may be why it will go: what is said then goes with it, or is forgotten with a new SA.
      tunnel.life.complain(text, isFinal: TunnelLife.isFinal(text), now: now)
      show(tunnel)
    }
  }

  private func take(_ child: DaemonChild) {
    guard let binding = child.binding, child.requestID != 0 else { return }
    if children.count >= Self.mostChildren, children[child.requestID] == nil { children = [:] }
    children[child.requestID] = child
    for tunnel in byBinding[binding].map({ Array($0.values) }) ?? [] where tunnel.origin != .configuration {
      tunnel.child = child
      guard tunnel.origin == .daemon else { continue }
      if let rule = byRule[child.rule] {
        adopt(tunnel, by: rule)
      } else if !tunnel.name.hasPrefix(child.tunnelName) {
        rename(tunnel, child.tunnelName)
      }
    }
  }

  /// What became of the rules when they were given to the daemon.
  func take(_ statuses: ArraySlice<IKEConnectionStatus>) {
    for status in statuses {
      guard let tunnel = tunnel(rule: status.name, peerName: status.peer) else { continue }
      switch status.state {
      case .waiting: tunnel.life.cannot("no key daemon answers")
      case .failed: tunnel.life.cannot(status.reason ?? "the key daemon refuses it")
      case .loaded where status.held: tunnel.life.cannot("torn down; gwctl ike connect brings it back", isWish: true)
      case .loaded, .up, .down, .connecting: tunnel.life.may()
      }
      show(tunnel)
    }
  }

  // MARK: Tunnels

  private func add(
    name: String, origin: TunnelStatus.Origin, rule: Tunnel.Rule? = nil, peer: IPAddress?, reason: String?
  ) -> Tunnel {
    let slot: Int
    if let free = freeSlots.popLast() {
      slot = free
    } else {
      slot = tunnels.count
      tunnels.append(nil)
    }
    lastNumber += 1
    let tunnel = Tunnel(
      slot: slot, number: lastNumber, name: unique(name, peer), origin: origin, rule: rule, peer: peer, now: clock(),
      reason: reason)
    names[Name(name: tunnel.name, peer: peer)] = slot
    tunnels[slot] = tunnel
    counts[.down] += 1
    mark(tunnel)
    return tunnel
  }

  /// Two may be called alike; nobody can tell them apart then.
  private func unique(_ name: String, _ peer: IPAddress?) -> String {
    guard names[Name(name: name, peer: peer)] != nil else { return name }
    var number = 2
    while names[Name(name: "\(name) #\(number)", peer: peer)] != nil { number += 1 }
    return "\(name) #\(number)"
  }

  private func rename(_ tunnel: Tunnel, _ name: String) {
    names[Name(name: tunnel.name, peer: tunnel.peer)] = nil
    tunnel.name = unique(name, tunnel.peer)
    names[Name(name: tunnel.name, peer: tunnel.peer)] = tunnel.slot
  }

  private func remove(_ tunnel: Tunnel) {
    unbind(tunnel)
    for flow in tunnel.flows { setTunnel(nil, of: flow) }
    tunnel.flows = []
    if let rule = tunnel.rule { byRule[rule] = nil }
    forgetWish(of: tunnel)
    names[Name(name: tunnel.name, peer: tunnel.peer)] = nil
    if let key = tunnel.key, byKey[key] === tunnel { byKey[key] = nil }
    if tunnel.departed != nil { departed.removeAll { $0 === tunnel } }
    counts[tunnel.shown] -= 1
    tunnels[tunnel.slot] = nil
    freeSlots.append(tunnel.slot)
    tunnel.isGone = true
  }

  /// Its key daemon took it away: it is remembered where it was up one day.
  private func depart(_ tunnel: Tunnel) {
    guard tunnel.origin == .daemon, tunnel.life.comings > 0 else { return remove(tunnel) }
    tunnel.departed = clock()
    departed.append(tunnel)
    if departed.count > Self.mostDeparted, let oldest = departed.first { remove(oldest) }
  }

  private func revive(_ tunnel: Tunnel) {
    guard tunnel.departed != nil else { return }
    tunnel.departed = nil
    departed.removeAll { $0 === tunnel }
  }

  // MARK: Looking at them

  private func mark(_ tunnel: Tunnel) {
    guard !tunnel.isPending else { return }
    tunnel.isPending = true
    pending.append(tunnel)
  }

  /// Called `worksASecond` times a second: what is marked is looked at, and each tunnel is sampled once a second.
  func work() {
    settle(atMost: Self.mostLooks)
    sample()
  }

  /// - Returns: whether nothing is marked any more.
  @discardableResult
  func settle(atMost limit: Int) -> Bool {
    let end = min(pendingHead + limit, pending.count)
    while pendingHead < end {
      let tunnel = pending[pendingHead]
      pendingHead += 1
      if !tunnel.isGone { look(at: tunnel) }
    }
    guard pendingHead == pending.count else { return false }
    pending.removeAll(keepingCapacity: pending.count < 10_000)
    pendingHead = 0
    return true
  }

  private func look(at tunnel: Tunnel) {
    tunnel.isPending = false
    let cause = tunnel.cause
    tunnel.cause = nil
    let carriers = tunnel.flows.lazy.compactMap { self.database.carrier(ofPolicy: $0.out) }
    if let carrier = carriers.max(by: { $0.serial < $1.serial }) {
      tunnel.life.carries(carrier, now: clock())
    } else {
      tunnel.life.carriesNothing(because: cause, now: clock())
    }
    show(tunnel)
    if tunnel.isAbandoned, tunnel.departed == nil { depart(tunnel) }
  }

  private func show(_ tunnel: Tunnel) {
    guard !tunnel.isGone, tunnel.shown != tunnel.life.state else { return }
    counts[tunnel.shown] -= 1
    tunnel.shown = tunnel.life.state
    counts[tunnel.shown] += 1
    onChange(
      TunnelChange(
        name: tunnel.name, peer: tunnel.peer, state: tunnel.shown,
        reason: tunnel.life.isUp ? nil : tunnel.life.reason))
  }

  private func sample() {
    let now = clock()
    if sampleCursor >= tunnels.count {
      // The clock may have been set back.
      let isSetBack = nextRound - now > 2
      guard now >= nextRound || isSetBack else { return }
      sampleCursor = 0
      nextRound = isSetBack ? now + 1 : max(nextRound + 1, now + 0.5)
      forgetOld(now)
    }
    let count = min(Self.mostSamples, max(16, tunnels.count / (Self.worksASecond - 40) + 1))
    let end = min(sampleCursor + count, tunnels.count)
    while sampleCursor < end {
      if let tunnel = tunnels[sampleCursor] {
        let totals = traffic(of: tunnel)
        tunnel.history.add(totals.received, totals.sent, now: now)
        tunnel.life.waits(now: now)
        show(tunnel)
      }
      sampleCursor += 1
    }
  }

  private func forgetOld(_ now: Double) {
    while let oldest = departed.first, let since = oldest.departed, now - since > Self.memory { remove(oldest) }
  }

  func associations(of binding: TunnelBinding, atMost limit: Int) -> [SARecord] {
    database.associations(of: binding, atMost: limit)
  }

  /// What the first of its flows selects.
  func selector(of binding: TunnelBinding) -> Selector? {
    byBinding[binding]?.values.first?.flows.first { $0.bindings.contains(binding) }?.selector
  }

  func droppedWithoutSA(_ flow: Tunnel.Flow) -> UInt64 { database.droppedWithoutSA(ofPolicy: flow.out) }

  func traffic(of tunnel: Tunnel) -> (received: TrafficCount, sent: TrafficCount) {
    var (received, sent) = (tunnel.retired.received, tunnel.retired.sent)
    for flow in tunnel.flows {
      if let counted = database.traffic(ofPolicy: flow.out) { sent = sent + counted }
      for index in flow.incoming {
        if let counted = database.traffic(ofPolicy: index) { received = received + counted }
      }
    }
    return (received, sent)
  }
}
