import Glibc
import IPsec
import Wire

/// What each request does, with the answers of RFC 2367 and of the dialect's kernel.
extension PFKeySession {
  private var store: any SecurityStore { service.store }

  func answer(
    _ type: PFKeyMessageType, _ header: PFKeyHeader, _ extensions: PFKeyExtensions
  ) throws(KeyRefusal) {
    let reading = PFKeySAReading(extensions: extensions, header: header, policy: service.policy, owner: owner)
    switch type {
    case .getSPI: try getSPI(header, reading)
    case .add, .update: try addSA(header, reading, isUpdate: type == .update)
    case .delete: try deleteSA(header, reading)
    case .get: try getSA(header, reading)
    case .register: try register(header)
    case .flush: try flush(header)
    case .dump: try dumpSAs(header, extensions)
    // A daemon that gave up on an acquire. Neither kernel answers.
    case .acquire: break
    case .expire: answer(header) { _ in }
    case .addFlow, .deleteFlow, .groupSPIs, .askPolicy: try answerOpenBSD(type, header, extensions, reading)
    default: try answerPolicy(type, header, extensions)
    }
  }

  // MARK: SAs

  private func getSPI(_ header: PFKeyHeader, _ reading: PFKeySAReading) throws(KeyRefusal) {
    let (template, range) = try reading.larval()
    let spi: UInt32
    do { spi = try store.allocateSPI(template, in: range, origin: origin) } catch {
      throw KeyRefusal(dialect == .linux ? ENOENT : EEXIST, error.description)
    }
    var id = template.identifier
    id.spi = spi
    guard let record = store.record(id) else { throw KeyRefusal(ENOENT, "\(id) does not exist") }
    answer(header) { builder in
      writing(record).appendSA(to: &builder)
      writing(record).appendAddresses(to: &builder)
    }
  }

  private func addSA(_ header: PFKeyHeader, _ reading: PFKeySAReading, isUpdate: Bool) throws(KeyRefusal) {
    let id = try reading.identifier()
    let standing = store.record(id)
    if isUpdate, standing == nil { throw KeyRefusal(ESRCH, "\(id) does not exist") }
    let isLarval = standing?.state == .larval
    let sa = try reading.sa(
      isInbound: isLarval, standing: isUpdate && !isLarval ? standing?.parameters : nil)
    try refusing { () throws(DatabaseError) in
      if isUpdate { try store.update(sa, origin: origin) } else { try store.add(sa, origin: origin) }
    }
    guard let record = store.record(id) else { throw KeyRefusal(ESRCH, "\(id) does not exist") }
    answer(header) { writing(record).appendDescription(to: &$0) }
  }

  private func deleteSA(_ header: PFKeyHeader, _ reading: PFKeySAReading) throws(KeyRefusal) {
    let id = try reading.identifier()
    guard let record = store.record(id) else { throw KeyRefusal(ESRCH, "\(id) does not exist") }
    try refusing { () throws(DatabaseError) in try store.delete(id, origin: origin) }
    answer(header) { builder in
      writing(record).appendSA(to: &builder)
      writing(record).appendAddresses(to: &builder)
    }
  }

  private func getSA(_ header: PFKeyHeader, _ reading: PFKeySAReading) throws(KeyRefusal) {
    let id = try reading.identifier()
    guard let record = store.record(id) else { throw KeyRefusal(ESRCH, "\(id) does not exist") }
    answer(header) { writing(record).appendEverything(to: &$0) }
  }

  /// OpenBSD's takes the flows too when it is for no SA type.
  private func flush(_ header: PFKeyHeader) throws(KeyRefusal) {
    let saProtocol = dialect.saProtocol(header.saType)
    guard saProtocol != nil || header.saType == 0 else { throw .invalid("unknown SA type \(header.saType)") }
    let isEverything = service.policy.pfkeyFlush == .everything
    if dialect == .openBSD, header.saType == 0 { flushPolicies() }
    for owner in isEverything ? [nil] : service.owners.map(Optional.some) {
      store.flushSAs(saProtocol, owner: owner, origin: origin)
    }
    answer(header) { _ in }
  }

  private func dumpSAs(_ header: PFKeyHeader, _ extensions: PFKeyExtensions) throws(KeyRefusal) {
    let saProtocol = dialect.saProtocol(header.saType)
    guard saProtocol != nil || header.saType == 0 else { throw .invalid("unknown SA type \(header.saType)") }
    let filter = try PFKeyFilter(extensions)
    let records = store.records().filter { record in
      (saProtocol == nil || record.parameters.saProtocol == saProtocol) && filter.matches(record.parameters)
    }
    try begin(PFKeyDump(header: header, entries: .sas(records[...])))
  }

  private func flushPolicies() {
    let isEverything = service.policy.pfkeyFlush == .everything
    for owner in isEverything ? [nil] : service.policyOwners.map(Optional.some) {
      store.flushPolicies(owner: owner, origin: origin)
    }
  }

  // MARK: Linux's policies

  private func answerPolicy(
    _ type: PFKeyMessageType, _ header: PFKeyHeader, _ extensions: PFKeyExtensions
  ) throws(KeyRefusal) {
    switch type {
    case .policyAdd, .policyUpdate, .policySetIndex:
      try addPolicy(header, extensions, replacing: type == .policyUpdate)
    case .policyDelete: try deletePolicy(header, extensions)
    case .policyGet, .policyDeleteByID: try getPolicy(header, extensions, deleting: type == .policyDeleteByID)
    case .policyDump: try begin(PFKeyDump(header: header, entries: .policies(store.policies()[...])))
    case .policyFlush:
      flushPolicies()
      answer(header) { _ in }
    default: throw .unsupported("this message is not supported")
    }
  }

  private func addPolicy(
    _ header: PFKeyHeader, _ extensions: PFKeyExtensions, replacing: Bool
  ) throws(KeyRefusal) {
    let policy = try PFKeyPolicyReading(extensions: extensions, owner: owner).policy()
    let index = try refusing(missing: ENOENT) { () throws(DatabaseError) in
      try store.add(policy, replacing: replacing, origin: origin)
    }
    guard let record = store.policy(index: index) else { throw KeyRefusal(ENOENT, "policy does not exist") }
    answer(header) { $0.appendPolicy(record) }
  }

  private func deletePolicy(_ header: PFKeyHeader, _ extensions: PFKeyExtensions) throws(KeyRefusal) {
    let selector = try PFKeyPolicyReading(extensions: extensions, owner: owner).selector()
    guard let cursor = extensions[.policy] else { throw .invalid("extension policy is missing") }
    let direction = try PFKeyPolicy.direction(cursor)
    guard let record = store.policy(direction: direction, selector: selector, mark: nil, interfaceID: 0) else {
      throw KeyRefusal(ENOENT, "policy does not exist")
    }
    try refusing(missing: ENOENT) { () throws(DatabaseError) in
      try store.deletePolicy(index: record.index, origin: origin)
    }
    answer(header) { $0.appendPolicy(record) }
  }

  private func getPolicy(
    _ header: PFKeyHeader, _ extensions: PFKeyExtensions, deleting: Bool
  ) throws(KeyRefusal) {
    guard let cursor = extensions[.policy] else { throw .invalid("extension policy is missing") }
    let index = PFKeyPolicy.index(cursor)
    guard index != 0 else { throw .invalid("policy 0") }
    guard let record = store.policy(index: index) else { throw KeyRefusal(ENOENT, "policy does not exist") }
    if deleting {
      try refusing(missing: ENOENT) { () throws(DatabaseError) in
        try store.deletePolicy(index: index, origin: origin)
      }
    }
    answer(header) { $0.appendPolicy(record) }
  }

  // MARK: OpenBSD's flows and bundles

  private func answerOpenBSD(
    _ type: PFKeyMessageType, _ header: PFKeyHeader, _ extensions: PFKeyExtensions, _ reading: PFKeySAReading
  ) throws(KeyRefusal) {
    if var cursor = extensions[.routingDomain], cursor.uint16() != 0 || cursor.uint16() != 0 {
      throw .invalid("there is only routing domain 0")
    }
    switch type {
    case .addFlow: try addFlow(header, extensions)
    case .deleteFlow: try deleteFlow(header, extensions)
    case .groupSPIs: try groupSPIs(header, extensions, reading)
    default: try askPolicy(header, extensions)
    }
  }

  private func standing(_ flow: PFKeyFlow) -> PolicyRecord? {
    store.policy(direction: flow.direction, selector: flow.selector, mark: nil, interfaceID: 0)
  }

  /// A flow of `ipsec.conf` is only touched by a message that calls itself static too; for others it stands as it is,
  /// and they are told that all is well.
  private func isProtected(_ record: PolicyRecord?, from flow: PFKeyFlow) -> Bool {
    record?.parameters.owner == .configuration && !flow.isStatic
  }

  private func addFlow(_ header: PFKeyHeader, _ extensions: PFKeyExtensions) throws(KeyRefusal) {
    let flow = try PFKeyFlow(extensions)
    let saProtocol = header.saType == 0 ? SAProtocol.esp : dialect.saProtocol(header.saType)
    guard let saProtocol else { throw .unsupported("SA type \(header.saType) is not supported") }
    let before = standing(flow)
    if !isProtected(before, from: flow) {
      let policy = flow.policy(extensions, saProtocol: saProtocol, owner: owner)
      _ = try refusing { () throws(DatabaseError) in try store.add(policy, replacing: true, origin: origin) }
    }
    guard let record = standing(flow) else { throw KeyRefusal(ESRCH, "the flow does not exist") }
    answer(header) { $0.appendFlow(record) }
  }

  private func deleteFlow(_ header: PFKeyHeader, _ extensions: PFKeyExtensions) throws(KeyRefusal) {
    let flow = try PFKeyFlow(extensions)
    guard let record = standing(flow) else { throw KeyRefusal(ESRCH, "the flow does not exist") }
    if !isProtected(record, from: flow) {
      try refusing { () throws(DatabaseError) in try store.deletePolicy(index: record.index, origin: origin) }
    }
    answer(header) { flow.append(to: &$0) }
  }

  /// Packets get the first SA's protocol, then the second's.
  private func groupSPIs(
    _ header: PFKeyHeader, _ extensions: PFKeyExtensions, _ reading: PFKeySAReading
  ) throws(KeyRefusal) {
    let first = try reading.identifier()
    guard let second = extensions.sa(.secondSA), let destination = extensions.address(.secondDestination),
      let type = extensions.flow(.secondSAType), let saProtocol = dialect.saProtocol(type.number)
    else { throw .invalid("the second SA is not named") }
    let then = SAIdentifier(spi: second.spi, destination: destination.address, saProtocol: saProtocol)
    do { try store.bundle(first, with: then, origin: origin) } catch {
      // A circle is an SA that is not there, to OpenBSD.
      throw KeyRefusal(ESRCH, error.description)
    }
    guard let record = store.record(first) else { throw KeyRefusal(ESRCH, "\(first) does not exist") }
    answer(header) { builder in
      writing(record).appendSA(to: &builder)
      builder.pfkeyExtension(.destination) { PFKeyAddress(first.destination).encode(into: &$0, dialect: .openBSD) }
      builder.pfkeyExtension(.secondSA) { second.encode(into: &$0) }
      builder.pfkeyExtension(.secondDestination) { destination.encode(into: &$0, dialect: .openBSD) }
      builder.pfkeyExtension(.secondSAType) { $0.append(bytes: [type.number, 0, 0, 0]) }
    }
  }

  /// Which policy an ACQUIRE was for: its flow, by the ACQUIRE's sequence number.
  private func askPolicy(_ header: PFKeyHeader, _ extensions: PFKeyExtensions) throws(KeyRefusal) {
    guard var cursor = extensions[.askedPolicy] else { throw .invalid("extension policy is missing") }
    let sequence = cursor.uint32()
    guard let request = service.acquire(sequence), let record = store.policy(index: request.policy.index) else {
      throw KeyRefusal(ESRCH, "acquire \(sequence) is not known")
    }
    let parameters = record.parameters
    let flow = PFKeyFlow(selector: parameters.selector, type: parameters.type, direction: parameters.direction)
    answer(header) { builder in
      flow.append(to: &builder, withProtocol: false)
      builder.pfkeyExtension(.askedPolicy) { $0.append(sequence) }
    }
  }
}

/// Linux's SADB_X_EXT_FILTER of a dump.
struct PFKeyFilter {
  private var source: IPPrefix?
  private var destination: IPPrefix?

  init(_ extensions: PFKeyExtensions) throws(KeyRefusal) {
    guard var cursor = extensions[.filter] else { return }
    let (from, to) = (XFRMAddress(from: &cursor), XFRMAddress(from: &cursor))
    let number = cursor.uint16()
    guard number != 0 else { return }
    let family = try AddressFamily(xfrm: number)
    source = IPPrefix(from.address(family), length: cursor.uint8())
    destination = IPPrefix(to.address(family), length: cursor.uint8())
    guard source != nil, destination != nil else { throw .invalid("the prefix in extension filter is too long") }
  }

  func matches(_ parameters: SAParameters) -> Bool {
    (source?.contains(parameters.source) ?? true) && (destination?.contains(parameters.destination) ?? true)
  }
}
