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
    let flow = Flow(packet)
    let entry = entry(w, packet, flow)
    let hasOneSA = flow.origin == .tunnel && packet.pointee.depth == 1
    entry.pointee.sa_serial = hasOneSA ? packet.pointee.sa.unsafelyUnwrapped.pointee.serial : 0
    entry.pointee.adjacency = w.adjacencyIndex(of: packet)
    let adjacency = w.pointee.adjacencies.adjacency(at: entry.pointee.adjacency)
    if flow.isFragment, !flow.origin.isOwn, adjacency.pointee.kind == .local {
      // Looked up whole. Here even those of protocols without ports are put together, as a policy may ask for ports that
      // this piece's protocol, an extension header, stands before.
      let refused = refusesMartian(flow, adjacency) ?? refusesSource(w, flow, adjacency)
      if let refused { set(entry, .drop, refused) } else { set(entry, .join) }
      return entry
    }
    let outcome =
      refusesMartian(flow, adjacency) ?? PolicyExemptions.refusesDiscovery(packet, flow, adjacency)
      ?? refusesPiece(w, flow, adjacency) ?? refusesInbound(w, packet, flow, entry, adjacency)
      ?? refusesSource(w, flow, adjacency) ?? direct(w, packet, flow, entry, adjacency)
    if let outcome { set(entry, .drop, outcome) }
    if flow.origin == .answer, entry.pointee.action != FlowAction.protect.rawValue {
      set(entry, .drop, .answerUnprotected)
    }
    return entry
  }

  /// Where the decision is put: into the cache, or, if it holds for this packet alone, where the next such one is put.
  private static func entry(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: Flow
  ) -> UnsafeMutablePointer<gw_flow_entry> {
    guard PolicyExemptions.dependOnMore(flow) else {
      return w.pointee.flows.insert(
        &packet.pointee.key, hash: packet.pointee.hash, generation: w.pointee.generation, policy: nil)
    }
    w.pointee.passing.pointee = gw_flow_entry()
    return w.pointee.passing
  }

  private static func set(
    _ entry: UnsafeMutablePointer<gw_flow_entry>, _ action: FlowAction, _ reason: DropReason = .frameTooShort
  ) {
    entry.pointee.action = action.rawValue
    entry.pointee.reason = reason.rawValue
  }

  /// RFC 1812 5.3.7; the kernel's own packets are its own affair.
  private static func refusesMartian(_ flow: Flow, _ adjacency: UnsafePointer<Adjacency>) -> DropReason? {
    guard !flow.origin.isOwn else { return nil }
    let key = flow.key
    let kind = adjacency.pointee.kind
    let isOwn = kind == .local || kind == .multicast || kind == .broadcast
    if !flow.isIPv6 {
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
    _ w: WorkerPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    guard adjacency.pointee.kind != .local, PortlessPacket.isWithoutPorts(flow.key), w.portlessFragments == .drop,
      !(flow.isFragment && flow.origin == .host)
    else { return nil }
    return .fragmentWithoutPorts
  }

  /// The SPD "in": packets in clear that should have been protected, and packets from a tunnel that is not theirs.
  private static func refusesInbound(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: Flow, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    guard !flow.origin.isOwn, !PolicyExemptions.passesIn(w, flow, adjacency) else { return nil }
    var key = flow.key(GW_IN)
    let policy = w.pointee.spd.lookup(&key)
    entry.pointee.policy = policy
    if PortlessPacket.isRefused(w, key, policy) { return .fragmentWithoutPorts }
    if flow.origin == .tunnel { return refusesTunnel(w, packet, policy, key) }
    return policy.flatMap { refusesClear(w, packet, $0) }
  }

  /// The types that acquire ask for SAs when the peer sends in clear, too: the control thread knows whether there are any.
  private static func refusesClear(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>
  ) -> DropReason? {
    switch policy.type {
    case .require:
      if PolicyCheck.policyAcceptsClear(policy) { return nil }
      MissingSA.acquire(w, packet, policy)
      return .policyInClear
    case .dontacq: return PolicyCheck.policyAcceptsClear(policy) ? nil : .policyInClear
    case .acquire:
      MissingSA.acquire(w, packet, policy)
      return nil
    case .deny: return .policyDenyIn
    case .use, .bypass: return nil
    }
  }

  private static func refusesTunnel(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>?, _ key: gw_flow_key
  ) -> DropReason? {
    let sa = packet.pointee.sa.unsafelyUnwrapped
    guard areSelected(w, packet, key) else { return .innerSelector }
    guard let policy else {
      // OpenBSD passes what no policy speaks of; an SA that has a selector of its own vouches for its packets. Without
      // either, the tunnel must not be a way into networks that no flow names.
      return sa.pointee.selector == nil ? .tunnelPolicy : nil
    }
    switch policy.type {
    case .deny: return .policyDenyIn
    case .use, .acquire, .bypass: return nil
    case .require, .dontacq:
      let layers = w.layers(of: packet)
      return PolicyCheck.policyAccepts(policy, layers, count: Int(packet.pointee.depth)) ? nil : .tunnelPolicy
    }
  }

  /// The selectors of the SAs themselves: all that a packet came by are asked, as on Linux.
  private static func areSelected(_ w: WorkerPointer, _ packet: PacketPointer, _ key: gw_flow_key) -> Bool {
    let layers = w.layers(of: packet)
    var layer = 0
    while layer < Int(packet.pointee.depth) {
      if let selector = layers[layer].pointee.selector, !SelectorMatch.covers(selector, key) { return false }
      layer &+= 1
    }
    return true
  }

  /// RFC 1812 5.3.8, behind the SPD "in", which says more of what it refuses. Neighbour discovery makes the routes, and
  /// tells of an address that another has too (RFC 4862 5.4.4).
  private static func refusesSource(
    _ w: WorkerPointer, _ flow: Flow, _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    return flow.origin == .clear && !PolicyExemptions.isDiscovery(flow) ? SourceCheck.refuses(w, flow, adjacency) : nil
  }

  /// Where the packet goes; a reason if nowhere.
  private static func direct(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: Flow, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    // What the kernel sends has its policy too where it goes to a group or to another station on the link.
    if flow.origin.isOwn { return toNetwork(w, packet, flow, entry, adjacency) }
    switch adjacency.pointee.kind {
    case .local, .multicast: return toHost(flow, entry)
    case .broadcast:
      let isHere = adjacency.pointee.port == Adjacency.anyPort || adjacency.pointee.port == flow.port
      return isHere ? toHost(flow, entry) : .broadcast
    default: return toNetwork(w, packet, flow, entry, adjacency)
    }
  }

  private static func toHost(_ flow: Flow, _ entry: UnsafeMutablePointer<gw_flow_entry>) -> DropReason? {
    switch flow.key.ip_protocol {
    // With an SA it would not be here; pieces of it that are for a group are put together by nobody.
    case IPProtocol.esp, IPProtocol.ah, IPProtocol.ipcomp: return .noSA
    default:
      set(entry, .host)
      return nil
    }
  }

  /// The SPD "out", with its table of outcomes; then the next hop. What the kernel sends to a group or to another of its
  /// own addresses leaves as it framed it.
  private static func toNetwork(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: Flow, _ entry: UnsafeMutablePointer<gw_flow_entry>,
    _ adjacency: UnsafePointer<Adjacency>
  ) -> DropReason? {
    if !PolicyExemptions.passesOut(packet, flow, adjacency) {
      var key = flow.key(GW_OUT)
      let policy = outbound(w, packet, flow, &key)
      if PortlessPacket.isJoined(w, key, flow.origin, policy) {
        set(entry, .join)
        return nil
      }
      if PortlessPacket.isRefused(w, key, policy) { return .fragmentWithoutPorts }
      switch policy?.type {
      case .deny: return .policyDenyOut
      case nil, .bypass: break
      case .use, .acquire, .require, .dontacq:
        entry.pointee.policy = policy
        set(entry, .protect)
        return nil
      }
    }
    let isReady = adjacency.pointee.kind == .forward && adjacency.pointee.state == .reachable
    set(entry, isReady ? .forward : .exception)
    return nil
  }

  /// The policy "out" of a packet; of an ICMP error of which none speaks that of the traffic that it is about, whose key it
  /// has then.
  private static func outbound(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: Flow, _ key: inout gw_flow_key
  ) -> UnsafeMutablePointer<gw_policy>? {
    if let policy = w.pointee.spd.lookup(&key) { return policy }
    guard let back = QuotedPacket.returnKey(packet, flow) else { return nil }
    key = back
    return w.pointee.spd.lookup(&key)
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
