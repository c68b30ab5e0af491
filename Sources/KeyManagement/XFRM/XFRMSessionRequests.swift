import Glibc
import IPsec
import Wire

/// What each request does. All answers of the kernel's xfrm_user.c.
extension XFRMSession {
  private var store: any SecurityStore { service.store }

  /// Carries the request out. The answer, or nil where an acknowledgement is all there is.
  func answer(_ type: XFRMMessageType, _ request: NetlinkRequest) throws(KeyRefusal) -> [UInt8]? {
    let payload = request.payload
    guard payload.count >= type.headerLength else { throw .invalid("Message is shorter than its type asks for") }
    var fixed = ByteCursor(payload)
    let body = payload[min(payload.count, (type.headerLength + 3) & ~3)...]
    let bytes = UnsafeRawBufferPointer(rebasing: body)
    switch type {
    case .newSPDInfo: try setHashThresholds(bytes)
    case .flushSAs: try flushSAs(fixed.uint8())
    case .setDefault: try setDefault(&fixed)
    case .getSPDInfo: return spdInfo(request.header)
    case .getSADInfo: return sadInfo(request.header)
    case .getDefault: return answer(.getDefault, to: request.header) { $0.append(bytes: [2, 2, 2, 0]) }
    default: return try answer(type, &fixed, XFRMAttributes(bytes), request.header)
    }
    return nil
  }

  private func answer(
    _ type: XFRMMessageType, _ fixed: inout ByteCursor, _ attributes: XFRMAttributes, _ header: NetlinkHeader
  ) throws(KeyRefusal) -> [UInt8]? {
    switch type {
    case .newSA: try addSA(XFRMSAInfo(from: &fixed), attributes)
    case .updateSA: try updateSA(XFRMSAInfo(from: &fixed), attributes)
    case .deleteSA: try deleteSA(XFRMSAID(from: &fixed), attributes)
    case .getSA: return try getSA(XFRMSAID(from: &fixed), attributes, header)
    case .allocateSPI: return try allocateSPI(&fixed, attributes, header)
    case .newPolicy, .updatePolicy:
      try addPolicy(XFRMPolicyInfo(from: &fixed), attributes, replacing: type == .updatePolicy)
    case .deletePolicy: try deletePolicy(XFRMPolicyID(from: &fixed), attributes)
    case .getPolicy: return try getPolicy(XFRMPolicyID(from: &fixed), attributes, header)
    case .flushPolicies: flushPolicies(try attributes.checkPolicyType())
    case .newAE: try setReplay(XFRMAEventID(from: &fixed), attributes, header)
    case .getAE: return try getReplay(XFRMAEventID(from: &fixed), header)
    case .expire: try expire(XFRMSAInfo(from: &fixed), hard: fixed.uint8() != 0)
    case .migrate: try migrate(XFRMPolicyID(from: &fixed), attributes)
    case .acquire, .policyExpire: throw .unsupported("Only the gateway sends this message")
    default: throw .invalid("Only the gateway sends this message")
    }
    return nil
  }

  // MARK: SAs

  private func addSA(_ info: XFRMSAInfo, _ attributes: XFRMAttributes) throws(KeyRefusal) {
    let reading = XFRMSAReading(info: info, attributes: attributes, policy: service.policy, owner: owner)
    let (sa, remnant) = try reading.sa()
    try service.keeping(remnant, for: sa.identifier) { () throws(DatabaseError) in try store.add(sa, origin: origin) }
  }

  private func updateSA(_ info: XFRMSAInfo, _ attributes: XFRMAttributes) throws(KeyRefusal) {
    let reading = XFRMSAReading(info: info, attributes: attributes, policy: service.policy, owner: owner)
    var (sa, remnant) = try reading.sa()
    if let standing = store.record(sa.identifier), standing.state != .larval {
      // Neither changes with an SA that is in use.
      let old = service.remnant(standing)
      (remnant.hasReplayESN, remnant.direction) = (old.hasReplayESN, old.direction)
    }
    try service.keeping(remnant, for: sa.identifier) { () throws(DatabaseError) in
      try store.update(sa, origin: origin)
    }
  }

  private func identifier(_ id: XFRMSAID) throws(KeyRefusal) -> SAIdentifier {
    let family = try AddressFamily(xfrm: id.family)
    guard let saProtocol = SAProtocol(rawValue: id.ipProtocol) else { throw .invalid("Unsupported protocol") }
    return SAIdentifier(spi: id.spi, destination: id.destination.address(family), saProtocol: saProtocol)
  }

  /// The mark and interface of the request are not compared: a larval SA has none yet, and the SPI names it.
  private func deleteSA(_ id: XFRMSAID, _ attributes: XFRMAttributes) throws(KeyRefusal) {
    let id = try identifier(id)
    // A larval SA that a daemon is asked for; `ip xfrm state deleteall` deletes all that it was shown.
    if id.spi == 0, id.saProtocol != .ipip, store.giveUp(id.saProtocol, to: id.destination) { return }
    try refusing { () throws(DatabaseError) in try store.delete(id, origin: origin) }
  }

  private func getSA(
    _ id: XFRMSAID, _ attributes: XFRMAttributes, _ header: NetlinkHeader
  ) throws(KeyRefusal) -> [UInt8] {
    let id = try identifier(id)
    guard let record = store.record(id) else { throw KeyRefusal(ESRCH, "\(id) does not exist") }
    return answerSA(record, to: header)
  }

  private func answerSA(_ record: SARecord, to header: NetlinkHeader) -> [UInt8] {
    let writing = service.writing(record)
    return answer(.newSA, to: header) { builder in
      writing.info.encode(into: &builder)
      writing.appendAttributes(to: &builder)
    }
  }

  private func allocateSPI(
    _ fixed: inout ByteCursor, _ attributes: XFRMAttributes, _ header: NetlinkHeader
  ) throws(KeyRefusal) -> [UInt8] {
    let info = XFRMSAInfo(from: &fixed)
    let (minimum, maximum) = (fixed.uint32(), fixed.uint32())
    let reading = XFRMSAReading(info: info, attributes: attributes, policy: service.policy, owner: owner)
    let (template, remnant) = try reading.larval()
    let range = try SPIRange.usable(minimum, maximum, template.saProtocol, service.policy)
    let spi: UInt32
    do { spi = try store.allocateSPI(template, in: range, origin: origin) } catch {
      throw KeyRefusal(ENOENT, error.description, isWorded: true)
    }
    var id = template.identifier
    id.spi = spi
    service.keep(remnant, for: id)
    guard let record = store.record(id) else { throw KeyRefusal(ENOENT, "\(id) does not exist") }
    return answerSA(record, to: header)
  }

  /// Not to be undone: an SA that goes takes its sequence numbers with it.
  private func expire(_ info: XFRMSAInfo, hard: Bool) throws(KeyRefusal) {
    var id = XFRMSAID()
    (id.destination, id.spi, id.family, id.ipProtocol) = (info.destination, info.spi, info.family, info.ipProtocol)
    let identifier = try identifier(id)
    guard let record = store.record(identifier) else { throw KeyRefusal(ESRCH, "\(identifier) does not exist") }
    service.announce(.saExpired(record, hard: hard))
    guard hard else { return }
    try refusing { () throws(DatabaseError) in try store.delete(identifier, origin: origin) }
  }

  private func flushSAs(_ number: UInt8) throws(KeyRefusal) {
    guard number == 0 || number == 255 || SAProtocol(rawValue: number) != nil else {
      throw .invalid("Unsupported protocol")
    }
    let wanted = SAProtocol.allCases.filter { XFRMProtocolFilter.matches($0, number) }
    let owners = service.policy.xfrmFlush == .everything ? [nil] : service.owners.map(Optional.some)
    for owner in owners {
      if wanted.count == SAProtocol.allCases.count {
        store.flushSAs(nil, owner: owner, origin: origin)
      } else {
        for saProtocol in wanted { store.flushSAs(saProtocol, owner: owner, origin: origin) }
      }
    }
  }

  // MARK: Replay state

  private func getReplay(_ id: XFRMAEventID, _ header: NetlinkHeader) throws(KeyRefusal) -> [UInt8] {
    let identifier = try identifier(id.sa)
    guard let record = store.record(identifier) else { throw KeyRefusal(ESRCH, "\(identifier) does not exist") }
    return answer(.newAE, to: header) { service.appendReplayEvent(record, id.flags, to: &$0) }
  }

  private func setReplay(
    _ id: XFRMAEventID, _ attributes: XFRMAttributes, _ header: NetlinkHeader
  ) throws(KeyRefusal) {
    let values: [XFRMAttributeType] = [
      .lifetimeValue, .replayValue, .replayESNValue, .replayThreshold, .timerThreshold,
    ]
    guard values.contains(where: attributes.has) else { throw .invalid("Missing required attribute for AE") }
    guard header.flags.contains(.replace) else { throw .invalid("NLM_F_REPLACE flag is required") }
    let identifier = try identifier(id.sa)
    guard let record = store.record(identifier) else { throw KeyRefusal(ESRCH, "\(identifier) does not exist") }
    guard record.state == .mature || record.state == .dying else { throw .invalid("SA must be in VALID state") }
    var sequences: (out: UInt64, in: UInt64)?
    if var cursor = attributes[.replayESNValue] {
      let replay = XFRMReplayESN(from: &cursor)
      sequences = (replay.outbound, replay.inbound)
    } else if var cursor = attributes[.replayValue] {
      sequences = (UInt64(cursor.uint32()), UInt64(cursor.uint32()))
    }
    try attributes.refuseThresholds()
    guard !attributes.has(.lifetimeValue) else { throw .unsupported("Counters of an SA cannot be set") }
    guard let sequences else { return }
    try refusing { () throws(DatabaseError) in
      try store.setSequence(identifier, sequence: sequences.out, replayHighest: sequences.in)
    }
    if let changed = store.record(identifier) {
      service.multicast(.aevents, .newAE) { service.appendReplayEvent(changed, [.replayValue, .updated], to: &$0) }
    }
  }

  // MARK: Policies

  private func addPolicy(
    _ info: XFRMPolicyInfo, _ attributes: XFRMAttributes, replacing: Bool
  ) throws(KeyRefusal) {
    let policy = try info.policy(attributes, owner: owner)
    if info.index != 0 {
      let standing = store.policy(
        direction: policy.direction, selector: policy.selector, mark: policy.mark, interfaceID: policy.interfaceID)
      guard standing?.index == info.index else {
        throw .unsupported("The index of a new policy is the gateway's to give")
      }
    }
    try service.keeping(XFRMPolicyRemnant(info)) { () throws(DatabaseError) in
      try store.add(policy, replacing: replacing, origin: origin)
    }
  }

  /// By index if there is one, else by selector, direction, mark and interface.
  private func policy(_ id: XFRMPolicyID, _ attributes: XFRMAttributes) throws(KeyRefusal) -> PolicyRecord {
    let direction = try PolicyDirection(xfrm: id.direction)
    try attributes.checkPolicyType()
    let found: PolicyRecord?
    if id.index != 0 {
      found = store.policy(index: id.index)
    } else {
      _ = try AddressFamily(xfrm: id.selector.family)
      found = store.policy(
        direction: direction, selector: try id.selector.selector(default: id.selector.family), mark: attributes.mark,
        interfaceID: attributes.uint32(.interfaceID) ?? 0)
    }
    guard let found, found.parameters.direction == direction else {
      throw KeyRefusal(ENOENT, "Policy does not exist")
    }
    return found
  }

  private func deletePolicy(_ id: XFRMPolicyID, _ attributes: XFRMAttributes) throws(KeyRefusal) {
    let record = try policy(id, attributes)
    try refusing(missing: ENOENT) { () throws(DatabaseError) in
      try store.deletePolicy(index: record.index, origin: origin)
    }
  }

  private func getPolicy(
    _ id: XFRMPolicyID, _ attributes: XFRMAttributes, _ header: NetlinkHeader
  ) throws(KeyRefusal) -> [UInt8] {
    let writing = service.writing(try policy(id, attributes))
    return answer(.newPolicy, to: header) { builder in
      writing.info.encode(into: &builder)
      writing.appendAttributes(to: &builder)
    }
  }

  private func flushPolicies(_: Void) {
    guard service.policy.xfrmFlush == .sameKind else {
      store.flushPolicies(owner: nil, origin: origin)
      return
    }
    for owner in service.policyOwners { store.flushPolicies(owner: owner, origin: origin) }
  }
}
