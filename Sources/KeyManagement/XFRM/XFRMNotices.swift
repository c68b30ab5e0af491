import IPsec
import Wire

/// What happened in the database, as NETLINK_XFRM's multicasts tell it.
extension XFRMService {
  func announce(_ event: DatabaseEvent) {
    switch event {
    case .saAdded(let record): announceSA(.newSA, record)
    case .saUpdated(let record): announceSA(.updateSA, record)
    case .saDeleted(let record): announceDeletion(record)
    case .sasFlushed(let saProtocol):
      multicast(.sa, .flushSAs) { builder in
        builder.append(saProtocol?.rawValue ?? 0)
        // The kernel counts the padding into the message.
        builder.zeros(3)
      }
    case .saExpired(let record, let hard): announceExpiry(record, hard: hard)
    case .mapping(let record, let source, let port): announceMapping(record, source, port)
    case .acquire(let request): announceAcquire(request)
    case .acquireExpired: break
    case .policyAdded(let record): announcePolicy(.newPolicy, record)
    case .policyUpdated(let record): announcePolicy(.updatePolicy, record)
    case .policyDeleted(let record): announceDeletion(record)
    case .policiesFlushed:
      multicast(.policy, .flushPolicies) { builder in builder.attribute(.policyType) { $0.zeros(6) } }
    }
  }

  /// The kernel is silent about larval SAs.
  private func announceSA(_ type: XFRMMessageType, _ record: SARecord) {
    guard record.state != .larval else { return }
    let writing = writing(record)
    multicast(.sa, type) { builder in
      writing.info.encode(into: &builder)
      writing.appendAttributes(to: &builder)
    }
  }

  private func announceDeletion(_ record: SARecord) {
    let writing = writing(record)
    multicast(.sa, .deleteSA) { builder in
      writing.id.encode(into: &builder)
      builder.attribute(.sa) { writing.info.encode(into: &$0) }
      writing.appendAttributes(to: &builder)
    }
  }

  private func announceExpiry(_ record: SARecord, hard: Bool) {
    let writing = writing(record)
    multicast(.expire, .expire) { builder in
      writing.info.encode(into: &builder)
      builder.append(UInt8(hard ? 1 : 0))
      builder.zeros(7)
      builder.appendMark(record.parameters.mark)
      builder.appendInterfaceID(record.parameters.interfaceID)
      if let direction = writing.remnant.direction { builder.attribute(.direction) { $0.append(direction) } }
    }
  }

  /// `struct xfrm_user_mapping`, 64 bytes.
  private func announceMapping(_ record: SARecord, _ source: IPAddress, _ port: UInt16) {
    guard mayAnnounceMapping(of: record) else { return }
    let writing = writing(record)
    multicast(.mapping, .mapping) { builder in
      writing.id.encode(into: &builder)
      builder.append(record.parameters.requestID)
      XFRMAddress(record.parameters.source).encode(into: &builder)
      XFRMAddress(source).encode(into: &builder)
      builder.appendBig(record.parameters.encapsulation?.sourcePort ?? 0)
      builder.appendBig(port)
    }
  }

  /// `struct xfrm_user_acquire`, 280 bytes, and the policy's templates.
  private func announceAcquire(_ request: AcquireRequest) {
    let writing = writing(request.policy)
    let template = request.template
    multicast(.acquire, .acquire) { builder in
      XFRMAddress(template.destination).encode(into: &builder)
      builder.appendBig(template.spi)
      builder.append(template.saProtocol.rawValue)
      builder.zeros(3)
      XFRMAddress(template.source).encode(into: &builder)
      XFRMSelector(request.packet).encode(into: &builder)
      writing.info.encode(into: &builder)
      for _ in 0..<3 { builder.append(UInt32.max) }
      builder.append(request.sequence)
      writing.appendAttributes(to: &builder)
    }
  }

  private func announcePolicy(_ type: XFRMMessageType, _ record: PolicyRecord) {
    let writing = writing(record)
    multicast(.policy, type) { builder in
      writing.info.encode(into: &builder)
      writing.appendAttributes(to: &builder)
    }
  }

  private func announceDeletion(_ record: PolicyRecord) {
    let writing = writing(record)
    multicast(.policy, .deletePolicy) { builder in
      writing.id.encode(into: &builder)
      builder.attribute(.policy) { writing.info.encode(into: &$0) }
      writing.appendAttributes(to: &builder)
    }
  }
}
