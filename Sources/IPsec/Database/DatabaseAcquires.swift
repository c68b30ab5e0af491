import CLayout
import Wire

/// The questions to key daemons that wait for an answer. Control thread only.
struct AcquireTable {
  struct Key: Hashable {
    var policyIndex: UInt32
    var peer: IPAddress
  }

  struct Item {
    var request: AcquireRequest
    var expiry: UInt64
  }

  /// RFC 2367 and OpenBSD's net.key: how long an answer may take.
  static let lifetime: UInt64 = 30

  var items: [Key: Item] = [:]
  var keys: [UInt32: Key] = [:]
  /// In order of expiry.
  var queue: [UInt32] = []
  var lastSequence: UInt32 = 0
  /// What may still be asked in this second.
  var allowance = 0
  /// Policies that may ask again in the next second.
  var deferred: Set<UInt32> = []
  /// A policy about which a worker asked has an SA.
  var onAnswer: ((UInt32) -> Void)?
  /// Not sent: too many outstanding, or too fast.
  var suppressed: UInt64 = 0

  mutating func remove(_ key: Key) -> AcquireRequest? {
    guard let item = items.removeValue(forKey: key) else { return nil }
    keys[item.request.sequence] = nil
    return item.request
  }
}

extension SecurityDatabase {
  /// ACQUIREs without an answer.
  public var acquiresOutstanding: Int { acquires.items.count }
  /// ACQUIREs that limits kept back.
  public var acquiresSuppressed: UInt64 { acquires.suppressed }

  /// Called with the index of a policy for which workers hold packets back, when it can carry them.
  public var onAcquireAnswered: ((UInt32) -> Void)? {
    get { acquires.onAnswer }
    set { acquires.onAnswer = newValue }
  }

  /// A worker met a packet whose policy has no SA. One question for each policy and peer is outstanding.
  public func acquire(policyIndex: UInt32, key: gw_flow_key) {
    guard let asking = policyEntries[policyIndex] else { return }
    guard let (entry, packet) = negotiable(asking, Selector(packet: key)) else { return }
    if asking !== entry, entry.hasSA(for: packet) {
      // In clear, though there are SAs: nothing to ask for, and no reason to be told of every packet.
      acquires.deferred.insert(asking.index)
      return
    }
    if entry.parameters.direction == .out, entry.hasSA(for: packet) {
      clearPending(asking)
      acquires.onAnswer?(asking.index)
      return
    }
    guard let template = missingTemplate(of: entry) else { return }
    let peer = Self.peer(of: template, entry.parameters, packet)
    if entry.parameters.direction != .out, hasSAs(template, peer) {
      acquires.deferred.insert(asking.index)
      return
    }
    let name = AcquireTable.Key(policyIndex: entry.index, peer: peer)
    // Another peer of the same policy may ask soon; the policy itself not before this one is answered.
    if entry.needs == nil || asking !== entry { acquires.deferred.insert(asking.index) }
    guard acquires.items[name] == nil else { return }
    guard acquires.items.count < limits.acquires, acquires.allowance > 0, isHeard else {
      acquires.suppressed += 1
      acquires.deferred.insert(asking.index)
      return
    }
    acquires.allowance -= 1
    acquires.lastSequence = acquires.lastSequence == .max ? 1 : acquires.lastSequence + 1
    let request = AcquireRequest(
      sequence: acquires.lastSequence, policy: record(of: entry), template: template, packet: packet)
    acquires.items[name] = AcquireTable.Item(request: request, expiry: now + AcquireTable.lifetime)
    acquires.keys[request.sequence] = name
    acquires.queue.append(request.sequence)
    emit(.acquire(request))
  }

  /// Packets that came in clear ask for the SAs of the traffic the other way.
  private func negotiable(_ asking: PolicyEntry, _ packet: Selector) -> (PolicyEntry, Selector)? {
    guard asking.parameters.direction != .out else { return (asking, packet) }
    let key = PolicyKey(
      direction: .out, selector: asking.parameters.selector.mirrored, mark: asking.parameters.mark,
      interfaceID: asking.parameters.interfaceID)
    guard let index = policyIndices[key], let entry = policyEntries[index] else { return (asking, packet) }
    return (entry, packet.mirrored)
  }

  /// For an inbound policy without a counterpart: SAs come in pairs, and those that go out are found by their peer.
  private func hasSAs(_ template: SATemplate, _ peer: IPAddress) -> Bool {
    let found = bindings.usable(
      saProtocol: template.saProtocol, peer: peer, requestID: template.requestID, where: { _ in true },
      until: { _ in true })
    return !found.isEmpty
  }

  private func missingTemplate(of entry: PolicyEntry) -> SATemplate? {
    entry.parameters.templates.first { !$0.isOptional } ?? entry.parameters.templates.first
  }

  private static func peer(of template: SATemplate, _ policy: PolicyParameters, _ packet: Selector) -> IPAddress {
    let isOut = policy.direction == .out
    let far = isOut ? template.destination : template.source
    if !far.isUnspecified { return far }
    return policy.peer ?? (isOut ? packet.destination : packet.source).address
  }

  /// True: workers had asked since it was cleared last.
  @discardableResult
  func clearPending(_ policy: PolicyEntry) -> Bool {
    let pending = policy.policy.acquirePendingAtomic
    guard pending.pointee.load(ordering: .relaxed) != 0 else { return false }
    return pending.pointee.exchange(0, ordering: .acquiringAndReleasing) != 0
  }

  /// A policy can carry packets again: its question is answered.
  func policyHasSA(_ policy: PolicyEntry) {
    if clearPending(policy) { acquires.onAnswer?(policy.index) }
    guard !acquires.items.isEmpty else { return }
    for need in policy.needs ?? [] {
      _ = acquires.remove(AcquireTable.Key(policyIndex: policy.index, peer: need.key.peer))
    }
  }

  /// An SA came: it may answer a question by its number, or as an SA for the peer of a policy that has many.
  func answerAcquires(with entry: SAEntry) {
    guard !acquires.items.isEmpty else { return }
    if !entry.isInbound, let key = acquires.keys[entry.keySequence] { finishAcquire(key) }
  }

  func forgetAcquires(of policy: PolicyEntry) {
    acquires.deferred.remove(policy.index)
    guard !acquires.items.isEmpty else { return }
    for key in acquires.items.keys where key.policyIndex == policy.index { _ = acquires.remove(key) }
  }

  /// The key daemon says that it cannot: the policy may ask again.
  public func acquireFailed(sequence: UInt32) {
    guard let key = acquires.keys[sequence] else { return }
    finishAcquire(key)
  }

  public func wantedSAs() -> [SARecord] {
    acquires.queue.compactMap { sequence in
      guard let key = acquires.keys[sequence], let item = acquires.items[key] else { return nil }
      var record = SARecord(parameters: Self.wanted(item.request, peer: key.peer), state: .larval)
      record.usage.added = wall(item.expiry - AcquireTable.lifetime)
      return record
    }
  }

  private static func wanted(_ request: AcquireRequest, peer: IPAddress) -> SAParameters {
    let (policy, template) = (request.policy.parameters, request.template)
    let isOut = policy.direction == .out
    let near = [
      isOut ? template.source : template.destination, policy.local,
      (isOut ? request.packet.source : request.packet.destination).address,
    ]
    let source = near.compactMap(\.self).first { $0.family == peer.family && !$0.isUnspecified }
    var sa = SAParameters(
      spi: 0, source: source ?? .unspecified(peer.family), destination: peer, saProtocol: template.saProtocol,
      mode: template.mode, replayWindow: 0, owner: policy.owner)
    sa.hard.addTime = AcquireTable.lifetime
    sa.requestID = template.requestID
    sa.keySequence = request.sequence
    sa.selector = isOut ? request.packet : request.packet.mirrored
    sa.mark = policy.mark
    sa.interfaceID = policy.interfaceID
    return sa
  }

  public func giveUp(_ saProtocol: SAProtocol, to peer: IPAddress) -> Bool {
    let doomed = acquires.items.filter { $0.key.peer == peer && $0.value.request.template.saProtocol == saProtocol }
    for key in doomed.keys { finishAcquire(key) }
    return !doomed.isEmpty
  }

  private func finishAcquire(_ key: AcquireTable.Key) {
    _ = acquires.remove(key)
    if let policy = policyEntries[key.policyIndex] { clearPending(policy) }
  }

  func tickAcquires() {
    acquires.allowance = limits.acquiresPerSecond
    for index in acquires.deferred { if let policy = policyEntries[index] { clearPending(policy) } }
    acquires.deferred = []
    var passed = 0
    while passed < acquires.queue.count {
      let sequence = acquires.queue[passed]
      if let key = acquires.keys[sequence], let item = acquires.items[key] {
        guard item.expiry <= now else { break }
        finishAcquire(key)
        emit(.acquireExpired(item.request))
      }
      passed += 1
    }
    acquires.queue.removeFirst(passed)
  }

  /// NAT: a worker saw the peer of an inbound SA behind another address or port (RFC 3948).
  public func mappingChanged(serial: UInt32, address: IPAddress, port: UInt16) {
    guard let entry = entries[serial], entry.isUsable, let encapsulation = entry.parameters.encapsulation,
      address.family == entry.parameters.source.family,
      address != entry.parameters.source || port != encapsulation.sourcePort
    else { return }
    emit(.mapping(record(of: entry), newSource: address, newPort: port))
  }

  /// ICMP said what fits the outer path of an outbound SA; 0 forgets it.
  public func pathMTUChanged(serial: UInt32, mtu: UInt32) {
    entries[serial]?.sa?.pathMTUAtomic.pointee.store(mtu, ordering: .relaxed)
  }
}

extension Selector {
  /// The packet as a host-to-host selector.
  init(packet key: gw_flow_key) {
    let family: AddressFamily = key.family == AddressFamily.v6.rawValue ? .v6 : .v4
    let hidden = key.opaque_ports != 0
    self.init(
      source: IPPrefix(IPAddress(family, high: key.source_high, low: key.source_low)),
      destination: IPPrefix(IPAddress(family, high: key.destination_high, low: key.destination_low)),
      ipProtocol: key.ip_protocol,
      sourcePorts: hidden ? Self.anyPort : key.source_port...key.source_port,
      destinationPorts: hidden ? Self.anyPort : key.destination_port...key.destination_port)
  }
}
