import Glibc
import IPsec
import Wire

/// XFRM_MSG_MIGRATE (MOBIKE, mobile IP): a policy's tunnel and its SAs move to other end points.
extension XFRMSession {
  /// More packets than workers can have in flight while an SA is replaced: its successor starts beyond them.
  private static let sequenceMargin: UInt64 = 1 << 16

  private struct Move {
    var saProtocol: SAProtocol
    var mode: SAMode
    var requestID: UInt32
    var old: (source: IPAddress, destination: IPAddress)
    var new: (source: IPAddress, destination: IPAddress)

    init(_ wire: XFRMMigration) throws(KeyRefusal) {
      let (oldFamily, newFamily) = (try AddressFamily(xfrm: wire.oldFamily), try AddressFamily(xfrm: wire.newFamily))
      guard let saProtocol = SAProtocol(rawValue: wire.ipProtocol) else { throw .invalid("Invalid XFRM protocol") }
      self.saProtocol = saProtocol
      mode = try XFRMMode.mode(wire.mode)
      requestID = wire.requestID
      old = (wire.oldSource.address(oldFamily), wire.oldDestination.address(oldFamily))
      new = (wire.newSource.address(newFamily), wire.newDestination.address(newFamily))
      guard !new.source.isUnspecified, !new.destination.isUnspecified else {
        throw .invalid("Addresses in the MIGRATE attribute's list cannot be null")
      }
    }

    func matches(_ sa: SAParameters) -> Bool {
      sa.saProtocol == saProtocol && sa.mode == mode && (requestID == 0 || sa.requestID == requestID)
        && (sa.source, sa.destination) == old
    }

    func matches(_ template: SATemplate) -> Bool {
      template.saProtocol == saProtocol && template.mode == mode
        && (requestID == 0 || template.requestID == requestID)
        && (template.source, template.destination) == old
    }
  }

  func migrate(_ id: XFRMPolicyID, _ attributes: XFRMAttributes) throws(KeyRefusal) {
    guard var cursor = attributes[.migrate] else { throw .invalid("Missing required MIGRATE attribute") }
    guard cursor.remaining / XFRMMigration.length <= XFRMTemplate.maximumDepth else {
      throw .invalid("Invalid number of SAs to migrate")
    }
    var wire: [XFRMMigration] = []
    while cursor.remaining >= XFRMMigration.length { wire.append(XFRMMigration(from: &cursor)) }
    var moves: [Move] = []
    for one in wire { moves.append(try Move(one)) }
    let direction = try PolicyDirection(xfrm: id.direction)
    let selector = try id.selector.selector(default: id.selector.family)
    guard
      let record = service.store.policy(
        direction: direction, selector: selector, mark: attributes.mark,
        interfaceID: attributes.uint32(.interfaceID) ?? 0)
    else { throw KeyRefusal(ENOENT, "Target policy not found") }
    let changed = try moved(record.parameters, moves)
    for move in moves { try moveSAs(move, attributes) }
    _ = try refusing(missing: ENOENT) { () throws(DatabaseError) in
      try service.store.add(changed, replacing: true, origin: origin)
    }
    service.multicast(.migrate, .migrate) { builder in
      id.encode(into: &builder)
      builder.attribute(.migrate) { builder in for one in wire { one.encode(into: &builder) } }
      if var local = attributes[.kmAddress] {
        builder.attribute(.kmAddress) { $0.append(bytes: local.take(XFRMAttributeType.kmAddress.minimumLength)) }
      }
    }
  }

  private func moved(_ policy: PolicyParameters, _ moves: [Move]) throws(KeyRefusal) -> PolicyParameters {
    var policy = policy
    var count = 0
    for index in policy.templates.indices {
      guard let move = moves.first(where: { $0.matches(policy.templates[index]) }) else { continue }
      (policy.templates[index].source, policy.templates[index].destination) = move.new
      count += 1
    }
    guard count > 0 else { throw KeyRefusal(ENODATA, "No template of the policy matches") }
    if let outer = policy.templates.last, outer.mode == .tunnel {
      policy.local = policy.direction == .out ? outer.source : outer.destination
      policy.peer = policy.direction == .out ? outer.destination : outer.source
    }
    return policy
  }

  /// The old SA goes first: two with one key would use the same nonces.
  private func moveSAs(_ move: Move, _ attributes: XFRMAttributes) throws(KeyRefusal) {
    let encapsulation: UDPEncapsulation? = attributes[.encapsulation].map { cursor in
      var cursor = cursor
      cursor.skip(2)
      return UDPEncapsulation(sourcePort: cursor.bigUInt16(), destinationPort: cursor.bigUInt16())
    }
    for record in service.store.records() where record.state != .larval && move.matches(record.parameters) {
      var sa = record.parameters
      let remnant = service.remnant(record)
      (sa.source, sa.destination) = move.new
      if let encapsulation { sa.encapsulation = encapsulation }
      let isOutbound = service.writing(record).isOutbound
      sa.sequence = isOutbound ? record.sequence + Self.sequenceMargin : 0
      sa.replayHighest = isOutbound ? 0 : record.sequence
      guard sa.identifier == record.parameters.identifier || service.store.record(sa.identifier) == nil else {
        throw KeyRefusal(EEXIST, "\(sa.identifier) already exists")
      }
      let old = record.parameters.identifier
      try refusing { () throws(DatabaseError) in try service.store.delete(old, origin: origin) }
      try service.keeping(remnant, for: sa.identifier) { () throws(DatabaseError) in
        try service.store.add(sa, origin: origin)
      }
    }
  }
}
