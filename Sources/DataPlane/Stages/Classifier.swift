import CDPDK
import CLayout
import IPsec
import Routing
import Wire

/// The decision behind a flow cache entry, made once per flow and generation. Off the fast path.
enum Classifier {
  /// Fills and returns the entry of the packet's flow.
  @inline(never)
  static func classify(_ w: WorkerPointer, _ packet: PacketPointer) -> UnsafeMutablePointer<gw_flow_entry> {
    let entry = w.pointee.flows.insert(
      &packet.pointee.key, hash: packet.pointee.hash, generation: w.pointee.generation, policy: nil)
    let hasOneSA = packet.pointee.origin == .tunnel && packet.pointee.depth == 1
    entry.pointee.sa_serial = hasOneSA ? packet.pointee.sa.unsafelyUnwrapped.pointee.serial : 0
    entry.pointee.adjacency = w.adjacencyIndex(of: packet)
    let adjacency = w.pointee.adjacencies.adjacency(at: entry.pointee.adjacency)
    if packet.pointee.isFragment, packet.pointee.origin != .host, adjacency.pointee.kind == .local {
      // Looked up whole. Here even those of protocols without ports are put together, as a policy may ask for ports that
      // this piece's protocol, an extension header, stands before.
      if let reason = refusesSource(w, packet, adjacency) { set(entry, .drop, reason) } else { set(entry, .join) }
      return entry
    }
    let outcome =
      refusesSource(w, packet, adjacency) ?? refusesPiece(w, packet, adjacency)
      ?? refusesInbound(w, packet, entry, adjacency) ?? direct(w, packet, entry, adjacency)
    if let outcome { set(entry, .drop, outcome) }
    return entry
  }

  private static func set(
    _ entry: UnsafeMutablePointer<gw_flow_entry>, _ action: FlowAction, _ reason: DropReason = .frameTooShort
  ) {
    entry.pointee.action = action.rawValue
    entry.pointee.reason = reason.rawValue
  }

  /// RFC 1812 5.3.7; the kernel's own packets are its own affair.
  private static func refusesSource(
    _ w: WorkerPointer, _ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    guard packet.pointee.origin != .host else { return nil }
    let key = packet.pointee.key
    let kind = adjacency.pointee.kind
    let isOwn = kind == .local || kind == .multicast || kind == .broadcast
    if packet.pointee.version == 4 {
      let source = UInt32(truncatingIfNeeded: key.source_low)
      // DHCP and the like speak from 0.0.0.0 to the gateway itself.
      if Martian.isSource(v4: source), !(source == 0 && isOwn) { return .martianSource }
      if !isOwn, Martian.isDestination(v4: UInt32(truncatingIfNeeded: key.destination_low)) {
        return .martianDestination
      }
    } else if isOwn {
      if Martian.isHostSource(v6High: key.source_high, low: key.source_low) { return .martianSource }
    } else {
      if Martian.isSource(v6High: key.source_high, low: key.source_low) { return .martianSource }
      if Martian.isDestination(v6High: key.destination_high, low: key.destination_low) { return .martianDestination }
    }
    return nil
  }

  /// What has ports and does not show them, where the configuration refuses all of that (RFC 4301 7): fragments, and
  /// packets too short to hold them. What the gateway's own kernel cut is put together.
  private static func refusesPiece(
    _ w: WorkerPointer, _ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    guard adjacency.pointee.kind != .local, PortlessPacket.isWithoutPorts(packet.pointee.key),
      w.portlessFragments == .drop, !(packet.pointee.isFragment && packet.pointee.origin == .host)
    else { return nil }
    return .fragmentWithoutPorts
  }

  /// The SPD "in": packets in clear that should have been protected, and packets from a tunnel that is not theirs.
  private static func refusesInbound(
    _ w: WorkerPointer, _ packet: PacketPointer, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    guard packet.pointee.origin != .host, !isExempt(packet, adjacency) else { return nil }
    var key = packet.pointee.key
    key.direction = UInt8(GW_IN.rawValue)
    let policy = w.pointee.spd.lookup(&key)
    entry.pointee.policy = policy
    if PortlessPacket.isRefused(w, key, policy) { return .fragmentWithoutPorts }
    if packet.pointee.origin == .tunnel { return refusesTunnel(w, packet, policy, key) }
    return policy.flatMap { refusesClear(w, packet, $0) }
  }

  /// The types that acquire ask for SAs when the peer sends in clear, too: the control thread knows whether there are any.
  private static func refusesClear(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>
  ) -> DropReason? {
    switch UInt32(policy.pointee.type) {
    case GW_REQUIRE.rawValue:
      if PolicyCheck.policyAcceptsClear(policy) { return nil }
      WithoutSA.acquire(w, packet, policy)
      return .policyInClear
    case GW_DONTACQ.rawValue: return PolicyCheck.policyAcceptsClear(policy) ? nil : .policyInClear
    case GW_ACQUIRE.rawValue:
      WithoutSA.acquire(w, packet, policy)
      return nil
    case GW_DENY.rawValue: return .policyDenyIn
    default: return nil
    }
  }

  private static func refusesTunnel(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>?, _ key: gw_flow_key
  ) -> DropReason? {
    let sa = packet.pointee.sa.unsafelyUnwrapped
    if let selector = sa.pointee.selector, !SelectorMatch.covers(selector, key) { return .innerSelector }
    guard let policy else {
      // OpenBSD passes what no policy speaks of; an SA that has a selector of its own vouches for its packets. Without
      // either, the tunnel must not be a way into networks that no flow names.
      return sa.pointee.selector == nil ? .tunnelPolicy : nil
    }
    switch UInt32(policy.pointee.type) {
    case GW_DENY.rawValue: return .policyDenyIn
    case GW_BYPASS.rawValue: return nil
    case GW_REQUIRE.rawValue, GW_DONTACQ.rawValue:
      let layers = w.layers(of: packet)
      return PolicyCheck.policyAccepts(policy, layers, count: Int(packet.pointee.depth)) ? nil : .tunnelPolicy
    default: return nil
    }
  }

  /// Key management and neighbour discovery of the gateway itself go in clear whatever the policies say: a key daemon
  /// cannot protect the messages that make its keys, and ND runs below IP security (RFC 4301 4.4.1, RFC 3971).
  private static func isExempt(_ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>) -> Bool {
    guard packet.pointee.origin != .tunnel else { return false }
    let key = packet.pointee.key
    let isOwn = packet.pointee.origin == .host || adjacency.pointee.kind == .local
    if isOwn && key.ip_protocol == IPProtocol.udp && key.opaque_ports == 0 {
      let port = packet.pointee.origin == .host ? key.source_port : key.destination_port
      if port == 500 || port == 4500 { return true }
    }
    return key.ip_protocol == IPProtocol.icmpv6 && key.opaque_ports == 0 && (133...137).contains(key.source_port)
      && packet.pointee.version == 6
  }

  /// Where the packet goes; a reason if nowhere.
  private static func direct(
    _ w: WorkerPointer, _ packet: PacketPointer, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    switch adjacency.pointee.kind {
    case .local, .multicast:
      return toHost(w, packet, entry, adjacency)
    case .broadcast:
      if packet.pointee.origin == .host {
        set(entry, .exception)
        return nil
      }
      return adjacency.pointee.port == Adjacency.anyPort || adjacency.pointee.port == packet.pointee.port
        ? toHost(w, packet, entry, adjacency) : .broadcast
    default: return toNetwork(w, packet, entry, adjacency)
    }
  }

  private static func toHost(
    _ w: WorkerPointer, _ packet: PacketPointer, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    if packet.pointee.origin == .host {
      // What the kernel sends to a group or to another of its own addresses leaves as it framed it.
      set(entry, .exception)
      return nil
    }
    let isPlainIPsec =
      packet.pointee.ipProtocol == IPProtocol.esp || packet.pointee.ipProtocol == IPProtocol.ah
      || packet.pointee.ipProtocol == IPProtocol.ipcomp
    if isPlainIPsec && !packet.pointee.isFragment { return .noSA }
    set(entry, .host)
    return nil
  }

  /// The SPD "out", with its table of outcomes; then the next hop.
  private static func toNetwork(
    _ w: WorkerPointer, _ packet: PacketPointer, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    var key = packet.pointee.key
    key.direction = UInt8(GW_OUT.rawValue)
    if !isExempt(packet, adjacency) {
      let policy = w.pointee.spd.lookup(&key)
      if PortlessPacket.isJoined(w, key, packet.pointee.origin, policy) {
        set(entry, .join)
        return nil
      }
      if PortlessPacket.isRefused(w, key, policy) { return .fragmentWithoutPorts }
      switch policy.map({ UInt32($0.pointee.type) }) {
      case GW_DENY.rawValue: return .policyDenyOut
      case nil, GW_BYPASS.rawValue: break
      default:
        entry.pointee.policy = policy
        set(entry, .protect)
        return nil
      }
    }
    let isReady = adjacency.pointee.kind == .forward && adjacency.pointee.state == .reachable
    set(entry, isReady ? .forward : .exception)
    return nil
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  @inline(__always)
  func adjacencyIndex(of packet: PacketPointer) -> UInt32 {
    packet.pointee.version == 4
      ? pointee.fib.lookup(v4: UInt32(truncatingIfNeeded: packet.pointee.key.destination_low))
      : pointee.fib.lookup(v6High: packet.pointee.key.destination_high, low: packet.pointee.key.destination_low)
  }

  @inline(__always)
  func adjacency(of packet: PacketPointer) -> UnsafePointer<Adjacency> {
    pointee.adjacencies.adjacency(at: adjacencyIndex(of: packet))
  }
}
