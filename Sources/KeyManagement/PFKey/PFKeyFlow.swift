import IPsec
import Wire

/// OpenBSD's flow: two addresses with their masks, a protocol, a type and a direction.
struct PFKeyFlow: Equatable {
  private static let inbound: UInt8 = 1
  private static let outbound: UInt8 = 2
  /// SADB_X_POLICYFLAGS_POLICY: a static policy, which only another static one replaces.
  private static let staticPolicy: UInt8 = 1

  var selector: Selector
  var type: PolicyType
  var direction: PolicyDirection
  var isStatic = false

  init(selector: Selector, type: PolicyType, direction: PolicyDirection) {
    self.selector = selector
    self.type = type
    self.direction = direction
  }

  init(_ extensions: PFKeyExtensions) throws(KeyRefusal) {
    guard let source = extensions.address(.sourceFlow), let sourceMask = extensions.address(.sourceMask),
      let destination = extensions.address(.destinationFlow),
      let destinationMask = extensions.address(.destinationMask), let flow = extensions.flow(.flowType)
    else { throw .invalid("a flow has source, destination, their masks and a type, or none of them") }
    guard let type = PolicyType(rawValue: flow.number) else { throw .invalid("unknown flow type \(flow.number)") }
    guard flow.direction == Self.inbound || flow.direction == Self.outbound else {
      throw .invalid("unknown flow direction \(flow.direction)")
    }
    let number = extensions.flow(.flowProtocol)?.number ?? 0
    let (from, to) = (try Self.prefix(source, sourceMask), try Self.prefix(destination, destinationMask))
    guard from.family == to.family else { throw .invalid("the addresses of a flow differ in family") }
    selector = Selector(
      source: from, destination: to, ipProtocol: number == 0 ? nil : number,
      sourcePorts: try Self.ports(source.port, sourceMask.port),
      destinationPorts: try Self.ports(destination.port, destinationMask.port))
    self.type = type
    direction = flow.direction == Self.inbound ? .in : .out
    isStatic = flow.flags & Self.staticPolicy != 0
  }

  private static func prefix(_ address: PFKeyAddress, _ mask: PFKeyAddress) throws(KeyRefusal) -> IPPrefix {
    let family = address.address.family
    guard mask.address.family == family else { throw .invalid("an address and its mask differ in family") }
    let length = UInt8(mask.address.bytes.prefix { $0 == 255 }.count * 8)
    let next = Int(length / 8) < mask.address.bytes.count ? mask.address.bytes[Int(length / 8)] : 0
    let whole = length + UInt8((~next).leadingZeroBitCount)
    guard let ones = IPPrefix(allOnes(family), length: whole), ones.address == mask.address,
      let prefix = IPPrefix(address.address, length: whole)
    else { throw .invalid("a mask with holes") }
    return prefix
  }

  private static func allOnes(_ family: AddressFamily) -> IPAddress {
    family == .v4 ? .v4(IPv4Address(rawValue: .max)) : .v6(IPv6Address(high: .max, low: .max))
  }

  private static func ports(_ port: UInt16, _ mask: UInt16) throws(KeyRefusal) -> ClosedRange<UInt16> {
    guard (~mask &+ 1) & ~mask == 0 else { throw .invalid("a port mask with holes") }
    return port & mask...(port & mask | ~mask)
  }

  func append(to builder: inout ByteBuilder, withProtocol: Bool = true) {
    appendAddress(.sourceMask, Self.mask(selector.source), Self.portMask(selector.sourcePorts), to: &builder)
    appendAddress(
      .destinationMask, Self.mask(selector.destination), Self.portMask(selector.destinationPorts), to: &builder)
    if withProtocol {
      builder.pfkeyExtension(.flowProtocol) { $0.append(bytes: [selector.ipProtocol ?? 0, 0, 0, 0]) }
    }
    let way = direction == .out ? Self.outbound : Self.inbound
    builder.pfkeyExtension(.flowType) { $0.append(bytes: [type.rawValue, way, 0, 0]) }
    appendAddress(.sourceFlow, selector.source.address, Self.port(selector.sourcePorts), to: &builder)
    appendAddress(.destinationFlow, selector.destination.address, Self.port(selector.destinationPorts), to: &builder)
  }

  private func appendAddress(
    _ type: PFKeyExtensionType, _ address: IPAddress, _ port: UInt16, to builder: inout ByteBuilder
  ) {
    builder.pfkeyExtension(type) { PFKeyAddress(address, port: port).encode(into: &$0, dialect: .openBSD) }
  }

  private static func mask(_ prefix: IPPrefix) -> IPAddress { allOnes(prefix.family).masked(to: prefix.length) }
  private static func portMask(_ ports: ClosedRange<UInt16>) -> UInt16 { ports.count == 1 ? .max : 0 }
  private static func port(_ ports: ClosedRange<UInt16>) -> UInt16 { ports.count == 1 ? ports.lowerBound : 0 }

  /// The flow as a policy; `extensions` bring the gateways and identities.
  func policy(_ extensions: PFKeyExtensions, saProtocol: SAProtocol, owner: Owner) -> PolicyParameters {
    var policy = PolicyParameters(
      direction: direction, selector: selector, type: type, saProtocol: saProtocol, owner: owner)
    policy.local = extensions.address(.source)?.address
    policy.peer = extensions.address(.destination)?.address
    policy.sourceIdentity = extensions.identity(.identitySource)
    policy.destinationIdentity = extensions.identity(.identityDestination)
    guard type != .bypass, type != .deny else { return policy }
    let family = (policy.peer ?? policy.local)?.family ?? selector.family
    let (near, far) = (policy.local ?? .unspecified(family), policy.peer ?? .unspecified(family))
    policy.templates = [
      SATemplate(
        saProtocol: saProtocol, source: direction == .out ? near : far, destination: direction == .out ? far : near)
    ]
    return policy
  }
}

extension ByteBuilder {
  /// A policy as OpenBSD's messages show it: gateways, identities, flow.
  mutating func appendFlow(_ record: PolicyRecord) {
    let parameters = record.parameters
    let gateways = [(PFKeyExtensionType.source, parameters.local), (.destination, parameters.peer)]
    for case (let type, let address?) in gateways {
      pfkeyExtension(type) { PFKeyAddress(address).encode(into: &$0, dialect: .openBSD) }
    }
    appendIdentity(.identitySource, parameters.sourceIdentity)
    appendIdentity(.identityDestination, parameters.destinationIdentity)
    PFKeyFlow(selector: parameters.selector, type: parameters.type, direction: parameters.direction).append(to: &self)
  }
}
