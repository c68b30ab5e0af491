import CLayout
import IPsec
import Wire

/// Packets that do not show what policies may ask for (RFC 4301 7): fragments, what is too short to hold ports, and what
/// hides them in ESP, AH or IPComp. Asked once for a flow.
enum PortlessPacket {
  /// They have ports, and do not show them.
  static func isWithoutPorts(_ key: gw_flow_key) -> Bool {
    key.opaque_ports != 0 && (TransportPorts.exist(in: key.ip_protocol) || hidesProtocol(key))
  }

  /// A later piece whose fragment header is followed by another extension header: the protocol is in the first piece.
  private static func hidesProtocol(_ key: gw_flow_key) -> Bool {
    key.family == AddressFamily.v6.rawValue && key.opaque_ports != 0
      && IPv6ExtensionHeaders.isExtension(key.ip_protocol)
  }

  /// Another policy than the one that was found may be the packet's: it comes before that one, and is for ports, or a
  /// protocol, that the packet does not show. `key`: with the direction that was looked up.
  private static func mayBeForAnother(
    _ w: WorkerPointer, _ key: gw_flow_key, _ found: UnsafeMutablePointer<gw_policy>?
  ) -> Bool {
    guard isWithoutPorts(key) || isCovered(key) else { return false }
    var key = key
    return w.pointee.spd.rankOfHidden(&key, hidesProtocol: hidesProtocol(key)) < found?.pointee.rank ?? .max
  }

  /// Other protections hide what a policy for ports of any protocol may ask for.
  private static func isCovered(_ key: gw_flow_key) -> Bool {
    key.ip_protocol == IPProtocol.esp || key.ip_protocol == IPProtocol.ah || key.ip_protocol == IPProtocol.ipcomp
  }

  /// It goes no further, as what it hides decides.
  static func isRefused(
    _ w: WorkerPointer, _ key: gw_flow_key, _ found: UnsafeMutablePointer<gw_policy>?
  ) -> Bool {
    key.opaque_ports != 0 && w.portlessFragments == .auto && mayBeForAnother(w, key, found)
  }

  /// Towards the network: a fragment that is put together before it is looked up again. What transport mode protects
  /// (RFC 4303 3.3.4), and what the gateway's own kernel cut, which is its own datagram still: if ports decide about it,
  /// as they do about IKE, which no policy protects.
  static func isJoined(
    _ w: WorkerPointer, _ key: gw_flow_key, _ origin: PacketOrigin, _ found: UnsafeMutablePointer<gw_policy>?
  ) -> Bool {
    guard UInt32(key.opaque_ports) & GW_FLOW_FRAGMENT.rawValue != 0 else { return false }
    if let found, isForTransport(found) { return true }
    guard origin == .host, isWithoutPorts(key) else { return false }
    let isBypass = found.map { UInt32($0.pointee.type) == GW_BYPASS.rawValue } ?? true
    return !isBypass && key.ip_protocol == IPProtocol.udp || w.portlessFragments == .drop
      || mayBeForAnother(w, key, found)
  }

  /// The first SA that its packets go through is to be one of transport mode.
  private static func isForTransport(_ policy: UnsafeMutablePointer<gw_policy>) -> Bool {
    let type = UInt32(policy.pointee.type)
    guard policy.pointee.template_count > 0, type != GW_DENY.rawValue, type != GW_BYPASS.rawValue else { return false }
    let mode = policy.pointee.templates.map { $0[0].mode } ?? policy.pointee.mode
    return UInt32(mode) == GW_MODE_TRANSPORT.rawValue
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  var portlessFragments: PortlessFragments {
    PortlessFragments(rawValue: pointee.shared.pointee.portlessFragments.load(ordering: .relaxed)) ?? .drop
  }
}
