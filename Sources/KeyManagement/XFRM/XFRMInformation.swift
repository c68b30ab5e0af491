import IPsec
import Wire

/// Counts, thresholds and the default policy.
extension XFRMSession {
  private static let accept: UInt8 = 2

  /// NEWSPDINFO: counts by direction (sockets have no policies of their own here), and the thresholds.
  func spdInfo(_ header: NetlinkHeader) -> [UInt8] {
    var counts: [PolicyDirection: UInt32] = [:]
    for record in service.store.policies() { counts[record.parameters.direction, default: 0] += 1 }
    let thresholds = service.hashThresholds
    return answer(.newSPDInfo, to: header) { builder in
      builder.append(UInt32(0))
      builder.attribute(1) { builder in
        for direction in [PolicyDirection.in, .out, .forward] { builder.append(counts[direction] ?? 0) }
        builder.zeros(12)
      }
      builder.attribute(2) { $0.zeros(8) }
      builder.attribute(3) { $0.append(bytes: [thresholds.v4.local, thresholds.v4.remote]) }
      builder.attribute(4) { $0.append(bytes: [thresholds.v6.local, thresholds.v6.remote]) }
    }
  }

  func sadInfo(_ header: NetlinkHeader) -> [UInt8] {
    answer(.newSADInfo, to: header) { builder in
      builder.append(UInt32(0))
      let count = service.store.saCount() + service.store.wantedSAs().count
      builder.attribute(1) { $0.append(UInt32(clamping: count)) }
      builder.attribute(2) { $0.zeros(8) }
    }
  }

  /// XFRMA_SPD_IPV4_HTHRESH and XFRMA_SPD_IPV6_HTHRESH. The gateway's lookup does not depend on them.
  func setHashThresholds(_ attributes: UnsafeRawBufferPointer) throws(KeyRefusal) {
    var thresholds = service.hashThresholds
    var cursor = ByteCursor(attributes)
    while cursor.remaining >= 4 {
      let (length, type) = (Int(cursor.uint16()), cursor.uint16())
      guard length >= 4, length - 4 <= cursor.remaining else { throw .invalid("Attribute does not fit the message") }
      var payload = ByteCursor(cursor.take(length - 4))
      cursor.skip(min(cursor.remaining, (4 - length % 4) % 4))
      guard type == 3 || type == 4 else { continue }
      let (local, remote) = (payload.uint8(), payload.uint8())
      let limit: UInt8 = type == 3 ? 32 : 128
      guard !payload.overran, local <= limit, remote <= limit else {
        throw .invalid("Invalid hash threshold (must be <= \(limit))")
      }
      if type == 3 { thresholds.v4 = (local, remote) } else { thresholds.v6 = (local, remote) }
    }
    service.hashThresholds = thresholds
  }

  /// `struct xfrm_userpolicy_default`: in, forward, out. What no policy matches passes; `gateway.yaml` may say otherwise.
  func setDefault(_ fixed: inout ByteCursor) throws(KeyRefusal) {
    for _ in 0..<3 {
      let action = fixed.uint8()
      guard action == 0 || action == Self.accept else {
        throw .unsupported("A default policy of block is set by a policy for any to any, not by this message")
      }
    }
  }
}

extension XFRMService {
  /// Whoever installed SAs by an XFRM socket.
  var owners: Set<Owner> { Set(store.records().map(\.parameters.owner).filter(\.isXFRM)) }
  var policyOwners: Set<Owner> { Set(store.policies().map(\.parameters.owner).filter(\.isXFRM)) }

  /// XFRM_MSG_NEWAE: `struct xfrm_aevent_id` and what `wanted` asks for.
  func appendReplayEvent(_ record: SARecord, _ wanted: XFRMAEventID.Flags, to builder: inout ByteBuilder) {
    let writing = writing(record)
    var id = XFRMAEventID()
    id.sa = writing.id
    id.source = XFRMAddress(record.parameters.source)
    id.requestID = record.parameters.requestID
    id.flags = wanted.union([.replayValue, .lifetimeValue])
    id.encode(into: &builder)
    writing.appendReplay(to: &builder)
    builder.attribute(.lifetimeValue) { XFRMUsage(sa: record.usage).encode(into: &$0) }
    if wanted.contains(.replayThreshold) { builder.attribute(.replayThreshold) { $0.append(UInt32(0)) } }
    if wanted.contains(.timerThreshold) { builder.attribute(.timerThreshold) { $0.append(UInt32(0)) } }
    builder.appendMark(record.parameters.mark)
    builder.appendInterfaceID(record.parameters.interfaceID)
  }
}

extension Owner {
  var isXFRM: Bool { if case .xfrm = self { true } else { false } }
  var isPFKey: Bool { if case .pfkey = self { true } else { false } }
}
