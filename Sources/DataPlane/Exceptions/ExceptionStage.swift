import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Wire

/// Packets that need more than forwarding: no next hop yet, none at all, an ICMP answer.
enum ExceptionStage {
  /// By the kind of the packet's adjacency.
  @inline(never)
  static func run(_ w: WorkerPointer, _ packet: PacketPointer) {
    let adjacency = w.pointee.adjacencies.adjacency(at: packet.pointee.adjacency)
    switch adjacency.pointee.kind {
    case .forward where adjacency.pointee.state == .reachable:
      w.pointee.transmit.append(packet)
    case .forward, .glean:
      waitForNeighbor(w, packet, adjacency)
    case .local, .multicast, .broadcast:
      if packet.pointee.origin == .host {
        asFramed(w, packet)
      } else {
        HostStage.deliver(w, packet)
      }
    case .noRoute: refuse(w, packet, .networkUnreachable, .noRoute)
    case .unreachable: refuse(w, packet, .hostUnreachable, .unreachable)
    case .prohibit: refuse(w, packet, .prohibited, .prohibited)
    case .blackhole: w.drop(packet, .blackhole)
    }
  }

  private static func refuse(_ w: WorkerPointer, _ packet: PacketPointer, _ error: ICMPAnswer, _ reason: DropReason) {
    if packet.pointee.origin == .host {
      // The kernel has a route where the gateway has none: it knows better what it put on the wire.
      asFramed(w, packet)
      return
    }
    answer(w, packet, error)
    w.drop(packet, reason)
  }

  /// A frame of the kernel's goes out by the port that it chose, as it is.
  static func asFramed(_ w: WorkerPointer, _ packet: PacketPointer) {
    let port = Int(packet.pointee.port)
    guard packet.pointee.depth == 0, packet.pointee.ip - 14 == packet.pointee.mbuf.data else {
      w.drop(packet, .noRoute)
      return
    }
    let mtu = Int(w.pointee.interfaces.interface(at: packet.pointee.port).pointee.mtu)
    if mtu > 0, Int(packet.pointee.length) > mtu { return TooBig.asFramed(w, packet, mtu: mtu) }
    TransmitStage.enqueue(w, packet.pointee.mbuf, port: port)
  }

  /// To the host thread, which has the neighbour resolved and gives the packet back.
  private static func waitForNeighbor(
    _ w: WorkerPointer, _ packet: PacketPointer, _ adjacency: UnsafePointer<Adjacency>
  ) {
    if packet.pointee.origin == .host && packet.pointee.depth == 0 && packet.pointee.sa == nil {
      asFramed(w, packet)
      return
    }
    guard let ring = w.pointee.waiting else {
      w.drop(packet, .neighborUnresolved)
      return
    }
    let mbuf = packet.pointee.mbuf
    let destination = IPAddresses.destination(packet)
    packet.trim()
    let isGlean = adjacency.pointee.kind == .glean
    mbuf.note.initialize(
      to: PacketNote(
        kind: .waitsForNeighbor, origin: packet.pointee.origin, version: packet.pointee.version,
        dontFragment: packet.pointee.dontFragment,
        isSealed: packet.pointee.policy != nil && packet.pointee.sa != nil, port: adjacency.pointee.port, policy: 0,
        nextHopHigh: isGlean ? destination.high : adjacency.pointee.nextHopHigh,
        nextHopLow: isGlean ? destination.low : adjacency.pointee.nextHopLow,
        destinationHigh: destination.high, destinationLow: destination.low,
        nextHopIsIPv6: isGlean ? packet.pointee.version == 6 : adjacency.pointee.nextHop?.family == .v6,
        ends: TunnelEnds(inbound: packet.pointee.sa) ?? TunnelEnds()))
    var element: Mbuf? = mbuf
    if cdpdk_ring_enqueue(ring, &element, 1) != 1 { w.drop(packet, .neighborQueueFull) }
  }

  /// Makes an ICMP error about the packet and sends it to its source, within the rate limit and where the RFCs and
  /// `ICMPStage`'s rule allow.
  @inline(never)
  static func answer(_ w: WorkerPointer, _ packet: PacketPointer, _ error: ICMPAnswer, mtu: Int = 0) {
    ICMPStage.answer(w, packet, error, mtu: mtu)
  }
}

/// Addresses of a packet's present IP header, in host byte order.
enum IPAddresses {
  @inline(__always)
  static func destination(_ packet: PacketPointer) -> (high: UInt64, low: UInt64) {
    let ip = UnsafeRawPointer(packet.pointee.ip)
    return packet.pointee.version == 4 ? (0, UInt64(ip.big32(at: 16))) : (ip.big64(at: 24), ip.big64(at: 32))
  }

  @inline(__always)
  static func source(_ packet: PacketPointer) -> (high: UInt64, low: UInt64) {
    let ip = UnsafeRawPointer(packet.pointee.ip)
    return packet.pointee.version == 4 ? (0, UInt64(ip.big32(at: 12))) : (ip.big64(at: 8), ip.big64(at: 16))
  }
}

/// The ICMP errors that the gateway sends.
enum ICMPAnswer {
  case timeExceeded, networkUnreachable, hostUnreachable, prohibited, tooBig
}
