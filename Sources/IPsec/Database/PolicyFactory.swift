import CLayout
import Wire

/// Makes what the workers see of a policy. Control thread only.
struct PolicyFactory {
  let slab = Slab<gw_policy>()

  static func validate(_ parameters: PolicyParameters) throws(DatabaseError) {
    let selector = parameters.selector
    guard selector.source.family == selector.destination.family else {
      throw .invalid("source \(selector.source) and destination \(selector.destination) differ in family")
    }
    guard parameters.templates.count <= 6 else { throw .invalid("a policy has 6 templates at the most") }
    switch parameters.type {
    case .bypass, .deny: break
    case .use, .acquire, .require, .dontacq:
      guard !parameters.templates.isEmpty else { throw .invalid("a policy of this type needs a template") }
    }
    for template in parameters.templates {
      guard template.source.family == template.destination.family else {
        throw .invalid("a template's source and destination differ in family")
      }
      // What comes after it is between the tunnel's ends: without it, it would be sealed to the inner packet's.
      guard parameters.direction != .out || template.mode == .transport || !template.isOptional else {
        throw .invalid("a tunnel template of an outbound policy cannot be optional")
      }
    }
  }

  func make(
    _ parameters: PolicyParameters, index: UInt32, order: UInt64, slot: UInt32
  ) -> UnsafeMutablePointer<gw_policy> {
    let policy = slab.allocate()
    policy.pointee.index = index
    policy.pointee.slot = slot
    policy.pointee.type = parameters.type.rawValue
    policy.pointee.direction = UInt8((parameters.direction == .out ? GW_OUT : GW_IN).rawValue)
    policy.pointee.fill(parameters.selector)
    policy.pointee.interface_id = parameters.interfaceID
    if let mark = parameters.mark {
      policy.pointee.mark_value_mask = UInt64(mark.value) << 32 | UInt64(mark.mask)
    }
    policy.pointee.rank =
      parameters.priority.map { PolicyRank.rank(priority: $0, order: order) }
      ?? PolicyRank.rank(of: parameters.selector, order: order)
    policy.pointee.identities = IdentityHash.hash(parameters.sourceIdentity, parameters.destinationIdentity)
    setTemplates(policy, parameters)
    return policy
  }

  /// A part of it, in place before the whole.
  func make(part selector: Selector, of entry: PolicyEntry) -> UnsafeMutablePointer<gw_policy> {
    var parameters = entry.parameters
    parameters.selector = selector
    let part = make(parameters, index: entry.index, order: entry.order, slot: entry.slot)
    part.pointee.rank = PolicyRank.part(of: entry.policy.pointee.rank)
    part.pointee.control = entry.policy.pointee.control
    return part
  }

  func deallocate(_ policy: UnsafeMutablePointer<gw_policy>) {
    policy.pointee.templates?.deallocate()
    slab.deallocate(policy)
  }

  private func setTemplates(_ policy: UnsafeMutablePointer<gw_policy>, _ parameters: PolicyParameters) {
    let templates = parameters.templates.map { Self.layout($0, parameters) }
    policy.pointee.template_count = UInt8(templates.count)
    guard let outermost = templates.last else { return }
    policy.pointee.sa_protocol = outermost.sa_protocol
    policy.pointee.mode = outermost.mode
    policy.pointee.request_id = outermost.request_id
    (policy.pointee.peer_high, policy.pointee.peer_low) = (outermost.peer_high, outermost.peer_low)
    (policy.pointee.local_high, policy.pointee.local_low) = (outermost.local_high, outermost.local_low)
    guard templates.count > 1 || outermost.is_optional != 0 else { return }
    let copy = UnsafeMutablePointer<gw_template>.allocate(capacity: templates.count)
    copy.initialize(from: templates, count: templates.count)
    policy.pointee.templates = copy
  }

  /// Peer and local as the inbound check compares them: the SA's far and near end.
  private static func layout(_ template: SATemplate, _ parameters: PolicyParameters) -> gw_template {
    let isOut = parameters.direction == .out
    let isOnly = parameters.templates.count == 1
    let (near, far) = isOut ? (template.source, template.destination) : (template.destination, template.source)
    let peer = (isOnly ? parameters.peer : nil) ?? far
    let local = (isOnly ? parameters.local : nil) ?? near
    var layout = gw_template()
    (layout.peer_high, layout.peer_low) = peer.halves
    (layout.local_high, layout.local_low) = local.halves
    layout.request_id = template.requestID
    layout.sa_protocol = template.saProtocol.rawValue
    let mode = template.mode == .tunnel ? GW_MODE_TUNNEL : GW_MODE_TRANSPORT
    layout.mode = UInt8((parameters.priority == nil ? GW_MODE_ANY : mode).rawValue)
    layout.is_optional = template.isOptional ? 1 : 0
    return layout
  }
}
