import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Wire

/// ICMP errors about packets that the gateway could not forward, sent back the way the packet's source is routed: through
/// the tunnel it came from, if policy says so.
enum ICMPStage {
  @inline(never)
  static func answer(_ w: WorkerPointer, _ packet: PacketPointer, _ error: ICMPAnswer, mtu: Int) {
    guard packet.pointee.origin != .host || error == .tooBig, w.pointee.icmpBucket.take(now: cdpdk_cycles()) else {
      return
    }
    guard w.pointee.records.hasRoom(1), let mbuf = cdpdk_alloc(w.pointee.pool) else { return }
    let message = mbuf.data + 14
    let room = mbuf.tailroom - 14
    let length = make(w, packet, reason(error, mtu: mtu), into: message, room: room)
    guard length > 0 else {
      cdpdk_free(mbuf)
      return
    }
    guard let answer = prepare(w, mbuf, message, length: length, to: packet) else { return w.refuse(mbuf) }
    let refused = answer.pointee.version == 4 ? IPParser.ipv4(answer) : IPParser.ipv6(answer)
    if refused != nil {
      w.drop(answer, .hostMalformed)
    } else if packet.pointee.origin == .host {
      HostStage.deliver(w, answer)
    } else {
      // As a packet of the gateway's own: policy, route and neighbour are looked up for it in this very burst or the next.
      w.enqueueForPolicy(answer)
    }
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

  private static func make(
    _ w: WorkerPointer, _ packet: PacketPointer, _ reason: ICMPReason, into message: UnsafeMutableRawPointer, room: Int
  ) -> Int {
    let interface = w.pointee.interfaces.interface(at: packet.pointee.port)
    // The kernel believes nobody who claims its own address: to it the packet's destination speaks.
    let isOwn = packet.pointee.origin == .host
    let destination = IPAddresses.destination(packet)
    let ip = UnsafeRawPointer(packet.pointee.ip)
    let length = Int(packet.pointee.length)
    if packet.pointee.version == 4 {
      let source = isOwn ? UInt32(truncatingIfNeeded: destination.low) : interface.pointee.v4
      guard source != 0 else { return 0 }
      return ICMPError.make(
        reason, aboutV4: ip, length: length, source: IPv4Address(rawValue: source),
        identification: w.nextIdentification(), into: message, capacity: room)
    }
    let source = isOwn ? IPv6Address(high: destination.high, low: destination.low) : interface.pointee.v6
    return ICMPError.make(reason, aboutV6: ip, length: length, source: source, into: message, capacity: room)
  }

  private static func prepare(
    _ w: WorkerPointer, _ mbuf: Mbuf, _ message: UnsafeMutableRawPointer, length: Int, to cause: PacketPointer
  ) -> PacketPointer? {
    mbuf.pointee.data_off &+= 14
    mbuf.setLength(length)
    guard let packet = w.nextPacket(mbuf, port: Int(cause.pointee.port), origin: .host) else { return nil }
    packet.pointee.ip = message
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    // It has no frame of the kernel's to go out by.
    packet.pointee.depth = 1
    packet.pointee.version = cause.pointee.version
    return packet
  }
}
