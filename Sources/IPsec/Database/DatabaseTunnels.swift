import CLayout
import Wire

/// By what SAs and the templates of policies find each other, and a tunnel its own. Request ID 0: any.
public struct TunnelBinding: Hashable, Sendable {
  public var saProtocol: SAProtocol
  /// The far end: destination of outbound SAs, source of inbound ones.
  public var peer: IPAddress
  public var requestID: UInt32

  public init(saProtocol: SAProtocol = .esp, peer: IPAddress, requestID: UInt32 = 0) {
    self.saProtocol = saProtocol
    self.peer = peer
    self.requestID = requestID
  }
}

/// The SA that a policy's packets leave through.
public struct TunnelCarrier: Hashable, Sendable {
  public var serial: UInt32
  public var owner: Owner

  public init(serial: UInt32, owner: Owner) {
    self.serial = serial
    self.owner = owner
  }
}

/// Packets and their bytes.
public struct TrafficCount: Hashable, Sendable {
  public var packets: UInt64
  public var bytes: UInt64

  public init(packets: UInt64 = 0, bytes: UInt64 = 0) {
    self.packets = packets
    self.bytes = bytes
  }

  public static func + (a: TrafficCount, b: TrafficCount) -> TrafficCount {
    TrafficCount(packets: a.packets &+ b.packets, bytes: a.bytes &+ b.bytes)
  }

  /// What came since; nothing where counting began anew.
  public static func - (a: TrafficCount, b: TrafficCount) -> TrafficCount {
    TrafficCount(
      packets: a.packets >= b.packets ? a.packets - b.packets : 0, bytes: a.bytes >= b.bytes ? a.bytes - b.bytes : 0)
  }
}

/// What tunnels are made of. Control thread; each takes as long as there are SAs in its answer, however many there are
/// in all.
extension SecurityDatabase {
  /// What an outbound policy asks of SAs, the innermost first; empty for policies without protection, and where each
  /// packet decides on its peer.
  public func bindings(ofPolicy index: UInt32) -> [TunnelBinding] {
    (policyEntries[index]?.needs ?? []).map(\.key)
  }

  /// Of some of an outbound policy's packets at least; nil: none leave protected.
  public func carrier(ofPolicy index: UInt32) -> TunnelCarrier? {
    guard let policy = policyEntries[index] else { return nil }
    guard let serial = policy.chain.last ?? policy.parts.values.lazy.compactMap(\.chain.last).max(),
      let entry = entries[serial]
    else { return nil }
    return TunnelCarrier(serial: serial, owner: entry.owner)
  }

  /// Of this policy alone; see `record(of:)` for the two directions that packets come in by.
  public func traffic(ofPolicy index: UInt32) -> TrafficCount? {
    policyEntries[index].map {
      let counted = counterSource.counters(slot: $0.slot)
      return TrafficCount(packets: counted.packets, bytes: counted.bytes)
    }
  }

  /// Packets that found no SA, of a policy.
  public func droppedWithoutSA(ofPolicy index: UInt32) -> UInt64 {
    policyEntries[index].map { UInt64(counterSource.counters(slot: $0.slot).drops) } ?? 0
  }

  public func policyIndex(of parameters: PolicyParameters, mirrored direction: PolicyDirection) -> UInt32? {
    policyIndices[
      PolicyKey(
        direction: direction, selector: parameters.selector.mirrored, mark: parameters.mark,
        interfaceID: parameters.interfaceID)]
  }

  /// The newest SAs of a binding in both directions, those that leave first.
  public func associations(of binding: TunnelBinding, atMost limit: Int) -> [SARecord] {
    (bindings.newest(binding, atMost: limit) + inboundBindings.newest(binding, atMost: limit)).map(record(of:))
  }
}
