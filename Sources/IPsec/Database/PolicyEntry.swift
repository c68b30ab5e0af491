import CLayout
import Wire

/// One policy of the database: what was asked for, and the object that the workers see. Control thread only.
final class PolicyEntry {
  var parameters: PolicyParameters
  let index: UInt32
  /// Counts up with every policy.
  let order: UInt64
  let slot: UInt32
  var policy: UnsafeMutablePointer<gw_policy>
  /// Outbound: what each template asks of an SA, the innermost first; nil where no single peer can be told.
  var needs: [TemplateNeed]?
  /// Outbound: serials of the SAs in use, one for each template that has one.
  var chain: [UInt32] = []
  /// Outbound: what SAs with a selector of their own carry of it, other than those in `chain`, by that selector.
  var parts: [Selector: PolicyPart] = [:]
  /// In seconds of the gateway's clock; 0: never.
  let added: UInt64
  var firstUsed: UInt64 = 0

  init(
    parameters: PolicyParameters, index: UInt32, order: UInt64, slot: UInt32,
    policy: UnsafeMutablePointer<gw_policy>, added: UInt64
  ) {
    self.parameters = parameters
    self.index = index
    self.order = order
    self.slot = slot
    self.policy = policy
    self.added = added
    needs = TemplateNeed.needs(of: parameters)
  }

  var key: PolicyKey {
    PolicyKey(
      direction: parameters.direction, selector: parameters.selector, mark: parameters.mark,
      interfaceID: parameters.interfaceID)
  }
}

/// Some packets of an outbound policy and the SAs that carry them. For workers it is a policy of its own, which ranks
/// just before the whole one; where two parts overlap either will do. What no part has is the whole policy's.
struct PolicyPart {
  /// With the index and the counters of the whole policy.
  let policy: UnsafeMutablePointer<gw_policy>
  /// As `PolicyEntry.chain`.
  var chain: [UInt32]
}

extension PolicyEntry {
  /// Serials of SAs, and where workers find the first of them.
  var bindings: [(chain: [UInt32], policy: UnsafeMutablePointer<gw_policy>)] {
    [(chain, policy)] + parts.values.map { ($0.chain, $0.policy) }
  }

  /// For some packets at least.
  var hasSA: Bool { !chain.isEmpty || !parts.isEmpty }

  func hasSA(for packet: Selector) -> Bool { !chain.isEmpty || parts.keys.contains { $0.covers(packet) } }

  func uses(_ entry: SAEntry) -> Bool { chain.contains(entry.serial) || !parts(using: entry).isEmpty }

  /// Those that the SA carries, and the one that is there on its account.
  func parts(using entry: SAEntry) -> [Selector] {
    guard !parts.isEmpty else { return [] }
    let own = entry.carried(of: parameters.selector)
    return parts.filter { $0.key == own || $0.value.chain.contains(entry.serial) }.map(\.key)
  }
}

/// What names a policy, apart from its index. Marks and interface IDs tell policies apart and bind SAs to them.
struct PolicyKey: Hashable {
  var direction: PolicyDirection
  var selector: Selector
  var mark: Mark?
  var interfaceID: UInt32
}

/// What one template of an outbound policy asks of an SA.
struct TemplateNeed {
  var key: TunnelBinding
  /// Nil: either, as OpenBSD's flows do not say.
  var mode: SAMode?
  /// Nil: any.
  var local: IPAddress?
  /// Not 0: this very SA.
  var spi: UInt32
  var isOptional: Bool

  /// Nil for policies that use no SAs, or where the packet decides on the peer: an SA for one host cannot serve them
  /// all.
  static func needs(of policy: PolicyParameters) -> [TemplateNeed]? {
    guard policy.direction == .out, !policy.templates.isEmpty else { return nil }
    var peer = policy.peer
    // Where nobody says which of the gateway's addresses a tunnel begins at, it is the SA's.
    var local = policy.local?.isUnspecified == true ? nil : policy.local
    if peer == nil, policy.selector.destination.isHost { peer = policy.selector.destination.address }
    if local == nil, policy.selector.source.isHost, policy.templates.allSatisfy({ $0.mode == .transport }) {
      local = policy.selector.source.address
    }
    if policy.templates.count > 1 {
      // Each layer is between the ends of the last tunnel before it.
      peer = policy.selector.destination.isHost ? policy.selector.destination.address : nil
      local = policy.selector.source.isHost ? policy.selector.source.address : nil
    }
    var needs: [TemplateNeed] = []
    for template in policy.templates {
      if !template.destination.isUnspecified, policy.templates.count > 1 || policy.peer == nil {
        peer = template.destination
      }
      if template.source.isUnspecified {
        if template.mode == .tunnel, policy.templates.count > 1 { local = nil }
      } else if policy.templates.count > 1 || policy.local == nil {
        local = template.source
      }
      guard let peer, !peer.isUnspecified else { return nil }
      needs.append(
        TemplateNeed(
          key: TunnelBinding(saProtocol: template.saProtocol, peer: peer, requestID: template.requestID),
          mode: policy.priority == nil ? nil : template.mode, local: local, spi: template.spi,
          isOptional: template.isOptional))
    }
    return needs
  }
}

extension PolicyParameters {
  /// The same but for what only binding goes by: such a change needs no new object for the workers.
  func isSameForWorkers(as other: PolicyParameters) -> Bool {
    var (a, b) = (self, other)
    a.owner = .configuration
    b.owner = .configuration
    for i in a.templates.indices { a.templates[i].spi = 0 }
    for i in b.templates.indices { b.templates[i].spi = 0 }
    return a == b
  }
}
