import Glibc
import IPsec
import Wire

/// Linux's SADB_X_EXT_POLICY: `struct sadb_x_policy` and its `sadb_x_ipsecrequest`s.
struct PFKeyPolicy: Equatable {
  /// IPSEC_POLICY_…
  enum Kind: UInt16 {
    case discard = 0
    case none = 1
    case ipsec = 2
  }

  /// IPSEC_LEVEL_…
  private static let use: UInt8 = 1
  private static let require: UInt8 = 2
  private static let unique: UInt8 = 3
  private static let requestLength = 16
  private static let maximumDepth = 6
  /// Request ids from here on are the kernel's own to give out.
  private static let manualRequestIDs: UInt32 = 0x3fff

  var kind: Kind = .ipsec
  var direction: PolicyDirection
  var index: UInt32 = 0
  var priority: UInt32 = 0
  var templates: [SATemplate] = []

  /// What only names a policy: SPDGET, SPDDELETE2.
  static func index(_ cursor: ByteCursor) -> UInt32 {
    var cursor = cursor
    cursor.skip(4)
    return cursor.uint32()
  }

  /// What SPDDELETE goes by, besides the selector.
  static func direction(_ cursor: ByteCursor) throws(KeyRefusal) -> PolicyDirection {
    var cursor = cursor
    cursor.skip(2)
    let number = cursor.uint8()
    guard (1...3).contains(number), let known = PolicyDirection(rawValue: number - 1) else {
      throw .invalid("unknown policy direction \(number)")
    }
    return known
  }

  /// `family`: of the selector, for transport mode.
  init(_ cursor: ByteCursor, family: AddressFamily) throws(KeyRefusal) {
    var cursor = cursor
    direction = try Self.direction(cursor)
    let number = cursor.uint16()
    guard let kind = Kind(rawValue: number) else { throw .invalid("unknown policy type \(number)") }
    self.kind = kind
    cursor.skip(2)
    index = cursor.uint32()
    priority = cursor.uint32()
    guard kind == .ipsec else { return }
    while cursor.remaining > 0 {
      guard templates.count < Self.maximumDepth else { throw .invalid("more than \(Self.maximumDepth) requests") }
      templates.append(try Self.request(&cursor, family))
    }
    guard !templates.isEmpty else { throw .invalid("an IPsec policy without requests") }
  }

  private static func request(_ cursor: inout ByteCursor, _ family: AddressFamily) throws(KeyRefusal) -> SATemplate {
    let length = Int(cursor.uint16())
    guard length >= requestLength, length - 2 <= cursor.remaining else {
      throw .invalid("a request has a wrong length")
    }
    var body = ByteCursor(cursor.take(length - 2))
    let number = body.uint16()
    guard number <= 255, let saProtocol = SAProtocol(rawValue: UInt8(number)), saProtocol != .ipip else {
      throw .invalid("a request for protocol \(number)")
    }
    let (modeNumber, level) = (body.uint8(), body.uint8())
    guard modeNumber != 0 else { throw .invalid("a request without a mode") }
    guard level <= unique else { throw .invalid("unknown level \(level)") }
    body.skip(2)
    let requestID = body.uint32()
    body.skip(4)
    let mode = try PFKeyMode.mode(modeNumber)
    var template = SATemplate(
      saProtocol: saProtocol, mode: mode, source: .unspecified(family), destination: .unspecified(family),
      requestID: level == unique && requestID <= manualRequestIDs ? requestID : 0, isOptional: level == use)
    if mode == .tunnel || body.remaining > 0 {
      guard let (source, destination) = endPoints(&body), source.family == destination.family else {
        throw .invalid("a request needs two end points of one family")
      }
      (template.source, template.destination) = (source, destination)
    }
    return template
  }

  private static func endPoints(_ body: inout ByteCursor) -> (IPAddress, IPAddress)? {
    guard let (source, _) = PFKeyAddress.socketAddress(&body, .linux),
      let (destination, _) = PFKeyAddress.socketAddress(&body, .linux), !body.overran
    else { return nil }
    return (source, destination)
  }

  init(_ record: PolicyRecord) {
    let parameters = record.parameters
    direction = parameters.direction
    index = record.index
    priority = parameters.priority ?? 0
    switch parameters.type {
    case .deny: kind = .discard
    case .bypass: kind = .none
    case .use, .acquire: templates = parameters.templates.map(Self.optional)
    case .require, .dontacq: templates = parameters.templates
    }
  }

  private static func optional(_ template: SATemplate) -> SATemplate {
    var template = template
    template.isOptional = true
    return template
  }

  func encode(into builder: inout ByteBuilder) {
    builder.append(kind.rawValue)
    builder.append(direction.rawValue + 1)
    builder.zeros(1)
    builder.append(index)
    builder.append(priority)
    for template in templates {
      let start = builder.count
      builder.append(UInt16(0))
      builder.append(UInt16(template.saProtocol.rawValue))
      builder.append(PFKeyMode.number(template.mode))
      builder.append(template.isOptional ? Self.use : template.requestID != 0 ? Self.unique : Self.require)
      builder.zeros(2)
      builder.append(template.requestID)
      builder.zeros(4)
      if template.mode == .tunnel {
        PFKeyAddress.encode(template.source, port: 0, into: &builder, dialect: .linux)
        PFKeyAddress.encode(template.destination, port: 0, into: &builder, dialect: .linux)
        builder.pad(to: 8)
      }
      builder.patch(UInt16(builder.count - start), at: start)
    }
  }
}

/// Linux's policy messages: the selector in the two addresses, the rest in the policy extension.
struct PFKeyPolicyReading {
  /// IPSEC_PROTO_ANY.
  private static let anyProtocol: UInt8 = 255

  let extensions: PFKeyExtensions
  let owner: Owner

  func selector() throws(KeyRefusal) -> Selector {
    guard let source = extensions.address(.source), let destination = extensions.address(.destination) else {
      throw .invalid("source or destination is missing")
    }
    guard source.address.family == destination.address.family,
      let from = IPPrefix(source.address, length: source.prefixLength),
      let to = IPPrefix(destination.address, length: destination.prefixLength)
    else { throw .invalid("source and destination differ in family") }
    let number = source.ipProtocol
    return Selector(
      source: from, destination: to, ipProtocol: number == 0 || number == Self.anyProtocol ? nil : number,
      sourcePorts: Self.ports(source.port), destinationPorts: Self.ports(destination.port))
  }

  private static func ports(_ port: UInt16) -> ClosedRange<UInt16> { port == 0 ? Selector.anyPort : port...port }

  func policy() throws(KeyRefusal) -> PolicyParameters {
    guard !extensions.has(.securityContext) else { throw .unsupported("security contexts are not supported") }
    let selector = try selector()
    guard let cursor = extensions[.policy] else { throw .invalid("extension policy is missing") }
    let policy = try PFKeyPolicy(cursor, family: selector.family)
    for type: PFKeyExtensionType in [.lifetimeHard, .lifetimeSoft] {
      guard extensions.lifetime(type) ?? .unlimited == .unlimited else {
        throw .unsupported("policies with lifetimes are not supported")
      }
    }
    var parameters = PolicyParameters(
      direction: policy.direction, selector: selector, type: Self.type(policy),
      saProtocol: policy.templates.last?.saProtocol ?? .esp, templates: policy.templates, owner: owner)
    parameters.priority = policy.priority
    if let outer = policy.templates.last, outer.mode == .tunnel {
      parameters.local = policy.direction == .out ? outer.source : outer.destination
      parameters.peer = policy.direction == .out ? outer.destination : outer.source
    }
    return parameters
  }

  private static func type(_ policy: PFKeyPolicy) -> PolicyType {
    switch policy.kind {
    case .discard: .deny
    case .none: .bypass
    case .ipsec: policy.templates.allSatisfy(\.isOptional) ? .use : .require
    }
  }
}

extension ByteBuilder {
  /// A policy as Linux's messages show it.
  mutating func appendPolicy(_ record: PolicyRecord) {
    let selector = record.parameters.selector
    func address(_ prefix: IPPrefix, _ ports: ClosedRange<UInt16>) -> PFKeyAddress {
      PFKeyAddress(
        prefix.address, prefixLength: prefix.length, ipProtocol: selector.ipProtocol ?? 255,
        port: ports.count == 1 ? ports.lowerBound : 0)
    }
    let usage = record.usage
    pfkeyExtension(.lifetimeCurrent) { builder in
      builder.append(UInt32(clamping: usage.packets))
      for value in [usage.bytes, usage.added, usage.lastUsed] { builder.append(value) }
    }
    pfkeyExtension(.source) {
      address(selector.source, selector.sourcePorts).encode(into: &$0, dialect: .linux)
    }
    pfkeyExtension(.destination) {
      address(selector.destination, selector.destinationPorts).encode(into: &$0, dialect: .linux)
    }
    pfkeyExtension(.policy) { PFKeyPolicy(record).encode(into: &$0) }
  }
}
