import CLayout
import IPsec
import Routing
import Wire

/// What passes without the SPD being asked. Whoever adds something states it here; nothing else does.
///
/// The SPD speaks of everything that crosses the boundary, management traffic too (RFC 4301 5): these are its fixed
/// entries "bypass", which stand before all others.
///
/// - IKE out: what the key daemon's own sockets send, fragments and all (RFC 7296 2, RFC 3948 2.2). The host thread tells
///   (`KeyDaemonSockets`), and not by ports alone, which any user of the host may have.
/// - IKE in: UDP in clear for the gateway itself, to port 500 or 4500, or to another that the daemon or an inbound SA in
///   UDP has (the same RFCs). Fragments are put together first.
/// - Neighbour discovery on a link: ICMPv6 types 133 to 137 with hop limit 255 (RFC 4861 7.1). In: in clear, for the
///   gateway's own addresses or a group of the link. Out: the kernel's, to link-local addresses, neighbours and such groups.
/// - ARP (RFC 826), and in general what is no IP.
/// - The outer packets of SAs: what is in them met the SPD (RFC 4301 5.1).
///
/// All other neighbour discovery is dropped: in transit, out of a tunnel or with another hop limit it did not come from a
/// neighbour.
enum PolicyExemptions {
  // MARK: Key management

  /// What a socket of the key daemon's sent: by its route, in clear.
  @inline(never)
  static func sendKeyManagement(_ w: WorkerPointer, _ packet: PacketPointer) {
    packet.pointee.adjacency = w.adjacencyIndex(of: packet)
    w.pointee.transmit.append(packet)
  }

  /// The policies "in" are not asked.
  static func passesIn(_ w: WorkerPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>) -> Bool {
    guard flow.origin == .clear else { return false }
    return isKeyManagement(w, flow, adjacency) || isDiscovery(flow)
  }

  private static func isKeyManagement(
    _ w: WorkerPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>
  ) -> Bool {
    guard adjacency.pointee.kind == .local, flow.key.ip_protocol == IPProtocol.udp, !flow.hidesPorts else {
      return false
    }
    let port = flow.key.destination_port
    return port == 500 || port == IPParser.encapsulationPort || w.pointee.shared.pointee.ikePorts.contains(port)
      || w.pointee.shared.pointee.encapsulationPorts.contains(port)
  }

  // MARK: Neighbour discovery

  /// Router and neighbour solicitation and advertisement, and redirect.
  static func isDiscovery(_ flow: Flow) -> Bool {
    flow.key.ip_protocol == IPProtocol.icmpv6 && flow.isIPv6 && !flow.hidesPorts
      && (133...137).contains(flow.key.source_port)
  }

  /// Neighbour discovery that no neighbour sent to the gateway itself. What the kernel sends is its own affair.
  static func refusesDiscovery(
    _ packet: PacketPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    guard isDiscovery(flow), !flow.origin.isOwn else { return nil }
    let isOwn =
      adjacency.pointee.kind == .local || (adjacency.pointee.kind == .multicast && isLinkGroup(flow.key))
    return flow.origin == .clear && isOwn && isFromNeighbor(packet) ? nil : .neighborDiscovery
  }

  private static func isFromNeighbor(_ packet: PacketPointer) -> Bool {
    IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip)).hopLimit == 255
  }

  /// The policies "out" are not asked: of the kernel's own, to neighbours.
  static func passesOut(
    _ packet: PacketPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>
  ) -> Bool {
    let key = flow.key
    guard flow.origin == .host, isDiscovery(flow), isFromNeighbor(packet) else { return false }
    // fe80::/10, whose route leads to the host.
    if Martian.isLinkLocal(v6High: key.destination_high) { return true }
    switch adjacency.pointee.kind {
    case .multicast: return isLinkGroup(key)
    case .glean: return true
    case .forward: return isNextHop(key, adjacency)
    default: return false
    }
  }

  private static func isNextHop(_ key: gw_flow_key, _ adjacency: UnsafePointer<Adjacency>) -> Bool {
    adjacency.pointee.nextHopHigh == key.destination_high && adjacency.pointee.nextHopLow == key.destination_low
  }

  /// ff02::/16, whatever its flags.
  private static func isLinkGroup(_ key: gw_flow_key) -> Bool { key.destination_high >> 48 & 0xff0f == 0xff02 }

  /// Whether what becomes of a packet depends on more than its key: of neighbour discovery on the hop limit, of an ICMP
  /// error on what it quotes. Nothing is kept of such a flow.
  static func dependOnMore(_ flow: Flow) -> Bool { isDiscovery(flow) || QuotedPacket.isQuoted(by: flow) }
}
