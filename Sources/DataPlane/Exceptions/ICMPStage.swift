import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Wire

/// ICMP errors about packets that the gateway could not forward.
///
/// An error quotes its packet, so it may go only where that packet's content may be seen:
/// - About a packet out of a tunnel: back through the same tunnel, from an own address that the tunnel's policy lets speak
///   to the packet's sender, or not at all. Its origin is `.answer`, and nothing of that origin leaves in clear.
/// - About a packet in clear that a policy protects or denies: in clear by the port that it came in by, or not at all.
/// - About any other packet in clear: by the route to its sender, and by the policies.
/// - About a packet of the gateway's own kernel: to that kernel.
/// - About what an SA has sealed already: to nobody; the sender of what is in it was not asked.
enum ICMPStage {
  /// `ends`: of the tunnel that the packet came out of, where the packet's SA does not say.
  @inline(never)
  static func answer(
    _ w: WorkerPointer, _ packet: PacketPointer, _ error: ICMPAnswer, mtu: Int, ends: TunnelEnds? = nil
  ) {
    guard mayBeAnswered(packet, error), w.pointee.icmpBucket.take(now: cdpdk_cycles()) else { return }
    let reason = reason(error, mtu: mtu)
    switch packet.pointee.origin {
    case .host: tellKernel(w, packet, reason)
    case .tunnel: answerThroughTunnel(w, packet, reason, ends ?? TunnelEnds(inbound: packet.pointee.sa))
    default: answerInClear(w, packet, reason)
    }
  }

  private static func mayBeAnswered(_ packet: PacketPointer, _ error: ICMPAnswer) -> Bool {
    if let sa = packet.pointee.sa, sa.pointee.flags & GW_SA_INBOUND.rawValue == 0 { return false }
    return packet.pointee.origin != .answer && (packet.pointee.origin != .host || error == .tooBig)
  }

  private static func reason(_ error: ICMPAnswer, mtu: Int) -> ICMPReason {
    switch error {
    case .timeExceeded: .timeExceeded
    case .networkUnreachable: .networkUnreachable
    case .hostUnreachable: .hostUnreachable
    case .prohibited: .prohibited
    case .tooBig: .tooBig(mtu: UInt32(truncatingIfNeeded: mtu))
    }
  }

  // MARK: By origin

  /// The kernel believes nobody who claims its own address: to it the packet's destination speaks.
  private static func tellKernel(_ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason) {
    let (high, low) = IPAddresses.destination(packet)
    let source = IPAddress(packet.pointee.version == 4 ? .v4 : .v6, high: high, low: low)
    if let answer = make(w, packet, reason, from: source, origin: .host) { HostStage.deliver(w, answer) }
  }

  private static func answerThroughTunnel(
    _ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason, _ ends: TunnelEnds?
  ) {
    guard ICMPError.isAllowed(reason, about: packet) else { return }
    guard let ends, let source = source(w, packet, reason, through: ends) else {
      (w.pointee.drops + Int(DropReason.answerUnprotected.rawValue)).increment()
      return
    }
    if let answer = make(w, packet, reason, from: source, origin: .answer) { w.enqueueForPolicy(answer) }
  }

  private static func answerInClear(_ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason) {
    let isSecret = isSecret(w, packet)
    guard let source = own(w, port: packet.pointee.port, version: packet.pointee.version),
      let answer = make(w, packet, reason, from: source, origin: .host)
    else { return }
    // As a packet of the gateway's own: policy, route and neighbour are looked up for it in this very burst or the next.
    guard isSecret else { return w.enqueueForPolicy(answer) }
    answer.pointee.adjacency = w.adjacencyIndex(of: answer)
    guard leavesInClear(w, answer, by: packet.pointee.port) else { return w.drop(answer, .answerUnprotected) }
    w.pointee.transmit.append(answer)
  }

  // MARK: What may be seen where

  /// A policy protects the packet, or denies it.
  private static func isSecret(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    guard let policy = policy(w, packet) else { return false }
    switch policy.type {
    case .bypass: return false
    case .use, .acquire: return policy.loadSA() != nil
    case .require, .dontacq, .deny: return true
    }
  }

  private static func leavesInClear(_ w: WorkerPointer, _ answer: PacketPointer, by port: UInt16) -> Bool {
    let adjacency = w.pointee.adjacencies.adjacency(at: answer.pointee.adjacency)
    guard adjacency.pointee.kind == .forward || adjacency.pointee.kind == .glean, adjacency.pointee.port == port else {
      return false
    }
    return policy(w, answer).map { $0.type == .bypass } ?? true
  }

  private static func policy(_ w: WorkerPointer, _ packet: PacketPointer) -> UnsafeMutablePointer<gw_policy>? {
    var key = packet.pointee.key
    key.direction = UInt8(GW_OUT.rawValue)
    return w.pointee.spd.lookup(&key)
  }

  /// The own address that speaks through a tunnel: of the port towards the packet's destination, if the policy of the way
  /// back is that of the tunnel, else of any other of which that is so.
  private static func source(
    _ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason, through ends: TunnelEnds
  ) -> IPAddress? {
    var key = gw_flow_key()
    let (type, code) = reason.typeAndCode(version: packet.pointee.version)
    let isV4 = packet.pointee.version == 4
    key.family = isV4 ? AddressFamily.v4.rawValue : AddressFamily.v6.rawValue
    key.ip_protocol = isV4 ? IPProtocol.icmp : IPProtocol.icmpv6
    (key.source_port, key.destination_port) = (UInt16(type), UInt16(code))
    (key.destination_high, key.destination_low) = IPAddresses.source(packet)
    key.direction = UInt8(GW_OUT.rawValue)
    let nearest = w.adjacency(of: packet).pointee.port
    var port = nearest == Adjacency.anyPort ? 0 : nearest
    var tried = 0
    while tried < w.pointee.portCount {
      if let address = own(w, port: port, version: packet.pointee.version) {
        (key.source_high, key.source_low) = address.halves
        if let sa = w.pointee.spd.lookup(&key)?.protectingSA, ends.isReversed(by: sa) { return address }
      }
      port = Int(port) &+ 1 < w.pointee.portCount ? port &+ 1 : 0
      tried &+= 1
    }
    return nil
  }

  private static func own(_ w: WorkerPointer, port: UInt16, version: UInt8) -> IPAddress? {
    let interface = w.pointee.interfaces.interface(at: port)
    let address: IPAddress =
      version == 4 ? .v4(IPv4Address(rawValue: interface.pointee.v4)) : .v6(interface.pointee.v6)
    return address.isUnspecified ? nil : address
  }

  // MARK: The message

  /// Nil: the RFCs allow none, or there is no room.
  private static func make(
    _ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason, from source: IPAddress, origin: PacketOrigin
  ) -> PacketPointer? {
    guard w.pointee.records.hasRoom(1), let mbuf = cdpdk_alloc(w.pointee.pool) else { return nil }
    let message = mbuf.data + 14
    let length = write(w, packet, reason, from: source, into: message, room: mbuf.tailroom - 14)
    guard length > 0 else {
      cdpdk_free(mbuf)
      return nil
    }
    guard let answer = prepare(w, mbuf, message, length: length, to: packet, origin: origin) else {
      w.refuse(mbuf)
      return nil
    }
    let refused = answer.pointee.version == 4 ? IPParser.ipv4(answer) : IPParser.ipv6(answer)
    guard refused == nil else {
      w.drop(answer, .hostMalformed)
      return nil
    }
    return answer
  }

  private static func write(
    _ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason, from source: IPAddress,
    into message: UnsafeMutableRawPointer, room: Int
  ) -> Int {
    let ip = UnsafeRawPointer(packet.pointee.ip)
    let length = Int(packet.pointee.length)
    switch source {
    case .v4(let source):
      return ICMPError.make(
        reason, aboutV4: ip, length: length, source: source, identification: w.nextIdentification(), into: message,
        capacity: room)
    case .v6(let source):
      return ICMPError.make(reason, aboutV6: ip, length: length, source: source, into: message, capacity: room)
    }
  }

  private static func prepare(
    _ w: WorkerPointer, _ mbuf: Mbuf, _ message: UnsafeMutableRawPointer, length: Int, to cause: PacketPointer,
    origin: PacketOrigin
  ) -> PacketPointer? {
    mbuf.pointee.data_off &+= 14
    mbuf.setLength(length)
    guard let packet = w.nextPacket(mbuf, port: Int(cause.pointee.port), origin: origin) else { return nil }
    packet.pointee.ip = message
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    // It has no frame of the kernel's to go out by.
    packet.pointee.depth = 1
    packet.pointee.version = cause.pointee.version
    return packet
  }
}

/// The ends of the SA that a packet came out of, in host byte order.
struct TunnelEnds {
  var sourceHigh: UInt64 = 0
  var sourceLow: UInt64 = 0
  var destinationHigh: UInt64 = 0
  var destinationLow: UInt64 = 0

  init() {}

  /// Nil: it is none of those.
  init?(inbound sa: UnsafeMutablePointer<gw_sa>?) {
    guard let sa, sa.pointee.flags & GW_SA_INBOUND.rawValue != 0 else { return nil }
    (sourceHigh, sourceLow) = (sa.pointee.source_high, sa.pointee.source_low)
    (destinationHigh, destinationLow) = (sa.pointee.destination_high, sa.pointee.destination_low)
  }

  /// The SA leads to where the packet came from.
  func isReversed(by sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    sa.pointee.destination_high == sourceHigh && sa.pointee.destination_low == sourceLow
      && sa.pointee.source_high == destinationHigh && sa.pointee.source_low == destinationLow
  }
}

extension UnsafeMutablePointer where Pointee == gw_policy {
  /// The SA by which packets of this policy are protected now.
  fileprivate var protectingSA: UnsafeMutablePointer<gw_sa>? {
    switch type {
    case .bypass, .deny: nil
    case .use, .acquire, .require, .dontacq: loadSA()
    }
  }
}

extension ICMPError {
  fileprivate static func isAllowed(_ reason: ICMPReason, about packet: PacketPointer) -> Bool {
    let ip = UnsafeRawPointer(packet.pointee.ip)
    let length = Int(packet.pointee.length)
    return packet.pointee.version == 4
      ? isAllowed(aboutV4: ip, length: length) : isAllowed(reason, aboutV6: ip, length: length)
  }
}
