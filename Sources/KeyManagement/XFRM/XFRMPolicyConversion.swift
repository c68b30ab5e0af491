import Glibc
import IPsec
import Wire

extension PolicyDirection {
  init(xfrm direction: UInt8) throws(KeyRefusal) {
    guard let known = PolicyDirection(rawValue: direction) else { throw .invalid("Invalid policy direction") }
    self = known
  }
}

extension XFRMAttributes {
  private static let subPolicy: UInt8 = 1

  /// What policy messages may not bring.
  func checkPolicyType() throws(KeyRefusal) {
    if let type = uint8(.policyType), type == Self.subPolicy { throw .unsupported("Sub-policies are not supported") }
    guard !has(.securityContext) else { throw .unsupported("Security contexts are not supported") }
  }

  /// The templates of a policy, innermost first.
  func templates(family: UInt16) throws(KeyRefusal) -> [SATemplate] {
    guard var cursor = self[.templates] else { return [] }
    guard cursor.remaining / XFRMTemplate.length <= XFRMTemplate.maximumDepth else {
      throw .invalid("Template count must be <= \(XFRMTemplate.maximumDepth) (XFRM_MAX_DEPTH)")
    }
    var templates: [SATemplate] = []
    // In transport mode a packet stays what the template before made of it.
    var inner = try AddressFamily(xfrm: family)
    while cursor.remaining >= XFRMTemplate.length {
      let template = try XFRMTemplate(from: &cursor).template(default: family, of: inner)
      templates.append(template)
      inner = template.destination.family
    }
    return templates
  }
}

extension XFRMTemplate {
  static let maximumDepth = 6

  /// - Parameter inner: the family of the packets that it is for.
  func template(default policyFamily: UInt16, of inner: AddressFamily) throws(KeyRefusal) -> SATemplate {
    let family = try AddressFamily(xfrm: family == 0 ? policyFamily : family)
    guard let saProtocol = SAProtocol(rawValue: ipProtocol), saProtocol != .ipip else {
      throw .invalid("Invalid XFRM protocol in template")
    }
    let mode = try XFRMMode.mode(mode)
    guard mode == .tunnel || family == inner else {
      throw .invalid("Family change isn't allowed for this template mode")
    }
    return SATemplate(
      saProtocol: saProtocol, mode: mode, source: source.address(family), destination: destination.address(family),
      requestID: requestID, spi: spi, isOptional: optional != 0)
  }

  /// `isOptional`: the whole policy lets packets pass without its SAs.
  init(_ template: SATemplate, isOptional: Bool) {
    destination = XFRMAddress(template.destination)
    spi = template.spi
    ipProtocol = template.saProtocol.rawValue
    family = UInt16(template.destination.family.rawValue)
    source = XFRMAddress(template.source)
    requestID = template.requestID
    mode = template.mode.rawValue
    optional = template.isOptional || isOptional ? 1 : 0
  }
}

extension XFRMPolicyInfo {
  /// NEWPOLICY and UPDPOLICY as the database has it.
  func policy(_ attributes: XFRMAttributes, owner: Owner) throws(KeyRefusal) -> PolicyParameters {
    let direction = try PolicyDirection(xfrm: direction)
    guard action <= Self.block else { throw .invalid("Invalid policy action") }
    guard share <= 3 else { throw .invalid("Invalid policy share") }
    try attributes.checkPolicyType()
    // A policy has a family of its own, even where it matches everything.
    _ = try AddressFamily(xfrm: selector.family)
    let selector = try selector.selector(default: selector.family)
    let templates = try attributes.templates(family: self.selector.family)
    guard limits.soft == .unlimited, limits.hard == .unlimited else {
      throw .unsupported("Policies with lifetimes are not supported")
    }
    guard flags & Self.matchICMP == 0 else {
      throw .unsupported("Matching ICMP errors by their payload (ICMP) is not supported")
    }
    guard flags & Self.acquireByCPU == 0 else { throw .unsupported("ACQUIREs by CPU (CPU_ACQUIRE) are not supported") }
    guard !attributes.has(.offloadDevice) else { throw .invalid("Policy offload is not supported") }
    var policy = PolicyParameters(
      direction: direction, selector: selector, type: Self.type(action: action, templates: templates),
      saProtocol: templates.last?.saProtocol ?? .esp, templates: action == Self.block ? [] : templates, owner: owner)
    policy.priority = priority
    policy.mark = attributes.mark
    policy.interfaceID = attributes.uint32(.interfaceID) ?? 0
    if let outer = policy.templates.last, outer.mode == .tunnel {
      policy.local = direction == .out ? outer.source : outer.destination
      policy.peer = direction == .out ? outer.destination : outer.source
    }
    return policy
  }

  /// Templates that are all optional let packets pass in clear as long as there is no SA.
  private static func type(action: UInt8, templates: [SATemplate]) -> PolicyType {
    if action == block { return .deny }
    if templates.isEmpty { return .bypass }
    return templates.allSatisfy(\.isOptional) ? .use : .require
  }

  init(_ record: PolicyRecord, remnant: XFRMPolicyRemnant) {
    let parameters = record.parameters
    selector = remnant.selector ?? XFRMSelector(parameters.selector)
    usage = XFRMUsage(policy: record.usage)
    priority = parameters.priority ?? 0
    index = record.index
    direction = parameters.direction.rawValue
    action = parameters.type == .deny ? Self.block : Self.allow
    flags = remnant.flags
    share = remnant.share
  }
}

/// What an XFRM client set on a policy beyond what the database keeps.
struct XFRMPolicyRemnant: Sendable {
  var flags: UInt8 = 0
  var share: UInt8 = 0
  /// With the bits of addresses behind the prefixes, which select nothing.
  var selector: XFRMSelector?

  init() {}

  init(_ info: XFRMPolicyInfo) {
    flags = info.flags
    share = info.share
    selector = info.selector
  }
}

/// A policy as XFRM's messages show it.
struct XFRMPolicyWriting {
  let record: PolicyRecord
  let remnant: XFRMPolicyRemnant

  var info: XFRMPolicyInfo { XFRMPolicyInfo(record, remnant: remnant) }

  var id: XFRMPolicyID {
    var id = XFRMPolicyID()
    id.selector = info.selector
    id.index = record.index
    id.direction = record.parameters.direction.rawValue
    return id
  }

  func appendAttributes(to builder: inout ByteBuilder) {
    let parameters = record.parameters
    let isOptional = parameters.type == .use || parameters.type == .acquire
    if !parameters.templates.isEmpty {
      builder.attribute(.templates) { builder in
        for template in parameters.templates { XFRMTemplate(template, isOptional: isOptional).encode(into: &builder) }
      }
    }
    builder.attribute(.policyType) { $0.zeros(6) }
    builder.appendMark(parameters.mark)
    builder.appendInterfaceID(parameters.interfaceID)
  }
}
