import IPsec
import Wire

/// What happened in the database, as registered clients hear it.
extension PFKeyService {
  func handle(_ event: DatabaseEvent, origin: UInt64) {
    switch event {
    case .saAdded(let record): describe(.add, record, origin)
    case .saUpdated(let record): describe(.update, record, origin)
    case .saDeleted(let record): announceDeletion(record, origin)
    case .sasFlushed(let saProtocol): announceFlush(saProtocol, origin)
    case .saExpired(let record, let hard): announceExpiry(record, hard: hard)
    case .mapping(let record, let source, let port): announceMapping(record, source, port)
    case .acquire(let request): announceAcquire(request)
    case .acquireExpired: break
    case .policyAdded(let record): announcePolicy(.policyAdd, .addFlow, record, origin)
    case .policyUpdated(let record): announcePolicy(.policyUpdate, .addFlow, record, origin)
    case .policyDeleted(let record): announcePolicy(.policyDelete, .deleteFlow, record, origin)
    case .policiesFlushed: announcePolicyFlush(origin)
    }
  }

  /// `only`: those registered for it; nil: all that are registered for anything. `origin` has its answer already.
  private func broadcast(
    _ type: PFKeyMessageType, _ saProtocol: SAProtocol?, only: SAProtocol? = nil, origin: UInt64 = 0,
    sequence: UInt32 = 0, to dialect: PFKeyDialect? = nil,
    _ body: (inout ByteBuilder, PFKeyDialect) -> Void
  ) {
    for listener in sessions.values where listener.origin != origin && listener.isRegistered(for: only) {
      let own = listener.dialect
      let number = type.number(own)
      guard number != 0, dialect == nil || dialect == own else { continue }
      var builder = ByteBuilder(capacity: 512)
      let header = PFKeyHeader(type: number, saType: saProtocol.map(own.saType) ?? 0, sequence: sequence)
      builder.pfkey(header) { body(&$0, own) }
      listener.notify(builder.bytes)
    }
  }

  private func writing(_ record: SARecord, _ dialect: PFKeyDialect) -> PFKeySAWriting {
    PFKeySAWriting(record: record, dialect: dialect, policy: policy)
  }

  private func describe(_ type: PFKeyMessageType, _ record: SARecord, _ origin: UInt64) {
    guard record.state != .larval else { return }
    broadcast(type, record.parameters.saProtocol, origin: origin) {
      writing(record, $1).appendDescription(to: &$0)
    }
  }

  private func announceDeletion(_ record: SARecord, _ origin: UInt64) {
    broadcast(.delete, record.parameters.saProtocol, origin: origin) { builder, dialect in
      let writing = writing(record, dialect)
      writing.appendSA(to: &builder)
      writing.appendAddresses(to: &builder)
    }
  }

  private func announceFlush(_ saProtocol: SAProtocol?, _ origin: UInt64) {
    broadcast(.flush, saProtocol, origin: origin) { _, _ in }
  }

  /// An SA that came by the other socket is its daemon's concern.
  private func isForXFRM(_ owner: Owner) -> Bool { owner.isXFRM }

  private func announceExpiry(_ record: SARecord, hard: Bool) {
    guard !isForXFRM(record.parameters.owner) else { return }
    broadcast(.expire, record.parameters.saProtocol) { builder, dialect in
      let writing = writing(record, dialect)
      writing.appendSA(to: &builder)
      writing.appendLifetime(.lifetimeCurrent, to: &builder)
      writing.appendLifetime(hard ? .lifetimeHard : .lifetimeSoft, to: &builder)
      writing.appendAddresses(to: &builder)
      if dialect == .linux { writing.appendSA2(to: &builder) }
    }
  }

  /// Linux's SADB_X_NAT_T_NEW_MAPPING: source and destination are the old and the new address of the peer.
  private func announceMapping(_ record: SARecord, _ source: IPAddress, _ port: UInt16) {
    guard !isForXFRM(record.parameters.owner) else { return }
    let (old, oldPort) = (record.parameters.source, record.parameters.encapsulation?.sourcePort ?? 0)
    broadcast(.natMapping, record.parameters.saProtocol, sequence: nextSequence()) { builder, dialect in
      writing(record, dialect).appendSA(to: &builder)
      builder.pfkeyExtension(.source) { PFKeyAddress(old).encode(into: &$0, dialect: dialect) }
      builder.pfkeyExtension(.natSourcePort) { $0.appendBig(oldPort) }
      builder.pfkeyExtension(.destination) { PFKeyAddress(source).encode(into: &$0, dialect: dialect) }
      builder.pfkeyExtension(.natDestinationPort) { $0.appendBig(port) }
    }
  }

  private func announceAcquire(_ request: AcquireRequest) {
    guard !isForXFRM(request.policy.parameters.owner) else { return }
    remember(request)
    let template = request.template
    broadcast(.acquire, template.saProtocol, only: template.saProtocol, sequence: request.sequence) {
      builder, dialect in
      for (type, address) in [(PFKeyExtensionType.source, template.source), (.destination, template.destination)]
      where dialect == .linux || type == .destination || !address.isUnspecified {
        builder.pfkeyExtension(type) {
          PFKeyAddress(address, prefixLength: address.family.bits).encode(into: &$0, dialect: dialect)
        }
      }
      if dialect == .openBSD {
        builder.appendIdentity(.identitySource, request.policy.parameters.sourceIdentity)
        builder.appendIdentity(.identityDestination, request.policy.parameters.destinationIdentity)
      }
      PFKeyProposal(dialect: dialect, saProtocol: template.saProtocol).append(to: &builder)
      if dialect == .linux {
        var named = PFKeyPolicy(request.policy)
        named.templates = []
        builder.pfkeyExtension(.policy) { named.encode(into: &$0) }
      }
    }
  }

  private func announcePolicy(
    _ linux: PFKeyMessageType, _ openBSD: PFKeyMessageType, _ record: PolicyRecord, _ origin: UInt64
  ) {
    broadcast(linux, nil, origin: origin, to: .linux) { builder, _ in builder.appendPolicy(record) }
    broadcast(openBSD, record.parameters.saProtocol, origin: origin, to: .openBSD) { builder, _ in
      builder.appendFlow(record)
    }
  }

  private func announcePolicyFlush(_ origin: UInt64) {
    broadcast(.policyFlush, nil, origin: origin, to: .linux) { _, _ in }
  }
}

/// SADB_EXT_PROPOSAL of an ACQUIRE: one `struct sadb_comb` with what the gateway likes best.
struct PFKeyProposal {
  let dialect: PFKeyDialect
  let saProtocol: SAProtocol

  private static let sha256: (number: UInt8, bits: UInt16) = (5, 256)
  private static let aes: (number: UInt8, minimum: UInt16, maximum: UInt16) = (12, 128, 256)
  /// OpenBSD's defaults, in seconds.
  private static let (softAdd, hardAdd, softUse, hardUse): (UInt64, UInt64, UInt64, UInt64) = (
    80_000, 86_400, 3600, 7200
  )
  private static let replayWindow: UInt8 = 64

  func append(to builder: inout ByteBuilder) {
    builder.pfkeyExtension(.proposal) { builder in
      // OpenBSD puts the number of combinations first.
      builder.append(bytes: dialect == .linux ? [Self.replayWindow, 0, 0, 0] : [1, Self.replayWindow, 0, 0])
      let isESP = saProtocol == .esp
      builder.append(isESP || saProtocol == .ah ? Self.sha256.number : 0)
      builder.append(isESP ? Self.aes.number : saProtocol == .ipcomp ? PFKeyAlgorithms.deflate : 0)
      builder.zeros(2)
      let authentication = isESP || saProtocol == .ah ? Self.sha256.bits : 0
      for bits in [authentication, authentication] { builder.append(bits) }
      for bits in isESP ? [Self.aes.minimum, Self.aes.maximum] : [0, 0] { builder.append(bits) }
      builder.zeros(4 + 8 + 16)
      for seconds in [Self.softAdd, Self.hardAdd, Self.softUse, Self.hardUse] { builder.append(seconds) }
    }
  }
}
