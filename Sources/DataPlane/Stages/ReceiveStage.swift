import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Frames in, sorted: IPsec for this gateway to `inbound`, other IP to `policy`, the rest to the host or nowhere.
enum ReceiveStage {
  // Computed: a stored one would be set up lazily, behind a check for each packet.
  private static var ipv4Type: UInt16 { UInt16(0x0800).bigEndian }
  private static var ipv6Type: UInt16 { UInt16(0x86dd).bigEndian }
  private static var arpType: UInt16 { UInt16(0x0806).bigEndian }
  private static var macMask: UInt64 { 0xffff_ffff_ffff }

  /// The first `count` buffers of `received`, all of one port.
  @inline(never)
  static func run(_ w: WorkerPointer, port: Int, count: Int) {
    let received = w.pointee.received
    // Mbufs, then what they hold, some packets ahead.
    var ahead = 0
    while ahead < min(count, 8) {
      cdpdk_prefetch_data(received[ahead].unsafelyUnwrapped)
      ahead &+= 1
    }
    let mac = w.pointee.ports[port].mac
    var i = 0
    var bytes = 0
    while i < count {
      if i &+ 8 < count { cdpdk_prefetch_data(received[i &+ 8].unsafelyUnwrapped) }
      let mbuf = received[i].unsafelyUnwrapped
      i &+= 1
      bytes &+= Int(mbuf.pointee.pkt_len)
      frame(w, mbuf, port: port, mac: mac)
    }
    w.pointee.ports[port].count(.rxPackets, count)
    w.pointee.ports[port].count(.rxBytes, bytes)
    w.mark(.receive)
  }

  @inline(__always)
  private static func frame(_ w: WorkerPointer, _ received: Mbuf, port: Int, mac: UInt64) {
    var mbuf = received
    let packet = w.nextPacket(mbuf)
    let header = PacketHeader(port: port, origin: .clear)
    if mbuf.pointee.nb_segs != 1 {
      guard let single = Segments.linearize(w, mbuf) else {
        w.drop(packet, .multiSegment)
        return
      }
      mbuf = single
      packet.pointee.mbuf = mbuf
    }
    let length = Int(mbuf.pointee.data_len)
    let frame = mbuf.data
    guard length >= 14 else {
      w.drop(packet, .frameTooShort)
      return
    }
    let type = frame.loadUnaligned(fromByteOffset: 12, as: UInt16.self)
    let ip = frame + 14
    packet.pointee.ip = ip
    let destination = frame.loadUnaligned(as: UInt64.self) & macMask
    if destination == mac, type == ipv4Type {
      ipv4(w, packet, ip, length: length &- 14, ParsedFlow(unparsed: header))
      return
    }
    packet.pointee.length = Int32(truncatingIfNeeded: length &- 14)
    packet.header = header
    packet.marks = 0
    if destination != mac {
      otherDestination(w, packet, destination: destination, type: type)
    } else if type == ipv6Type {
      ipv6(w, packet)
    } else {
      otherType(w, packet, type: type)
    }
  }

  /// Group and broadcast frames are the host's; frames for other stations are nobody's.
  @inline(never)
  private static func otherDestination(_ w: WorkerPointer, _ packet: PacketPointer, destination: UInt64, type: UInt16) {
    guard destination & 1 == 1 else {
      w.drop(packet, .notForUs)
      return
    }
    guard type == arpType || type == ipv4Type || type == ipv6Type else {
      w.drop(packet, .unknownEtherType)
      return
    }
    HostStage.deliver(w, packet)
  }

  @inline(never)
  private static func otherType(_ w: WorkerPointer, _ packet: PacketPointer, type: UInt16) {
    w.pointee.ports[Int(packet.pointee.port)].count(.other, 1)
    if type == arpType {
      HostStage.deliver(w, packet)
    } else {
      w.drop(packet, .unknownEtherType)
    }
  }

  @inline(__always)
  private static func ipv4(
    _ w: WorkerPointer, _ packet: PacketPointer, _ ip: UnsafeMutableRawPointer, length: Int, _ unparsed: ParsedFlow
  ) {
    var flow = unparsed
    if let reason = IPParser.ipv4(packet, ip, length: length, &flow) {
      w.drop(packet, reason)
      return
    }
    w.sort(packet, flow, isIPv6: false)
    // Cut off the link's padding: what follows works on the IP packet alone.
    if packet.pointee.length != Int32(truncatingIfNeeded: length) {
      packet.pointee.mbuf.setLength(Int(packet.pointee.length) &+ 14)
    }
  }

  @inline(never)
  private static func ipv6(_ w: WorkerPointer, _ packet: PacketPointer) {
    if let reason = IPParser.ipv6(packet) {
      w.drop(packet, reason)
      return
    }
    packet.pointee.mbuf.setLength(Int(packet.pointee.length) &+ 14)
    w.sort(packet)
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  /// A fresh entry of the burst's packets. A burst makes at most `burst` of them.
  @inline(__always)
  func nextPacket(_ mbuf: Mbuf, port: Int, origin: PacketOrigin) -> PacketPointer {
    let packet = nextPacket(mbuf)
    packet.header = PacketHeader(port: port, origin: origin)
    packet.marks = 0
    return packet
  }

  /// The same, whose header, marks and length the caller writes.
  @inline(__always)
  func nextPacket(_ mbuf: Mbuf) -> PacketPointer {
    let packet = pointee.packets + pointee.packetCount
    pointee.packetCount &+= 1
    packet.pointee.mbuf = mbuf
    packet.pointee.sa = nil
    packet.pointee.policy = nil
    return packet
  }

  /// A parsed packet to the list of its next stage.
  @inline(__always)
  func sort(_ packet: PacketPointer) { sort(packet, ParsedFlow(packet), isIPv6: packet.pointee.version == 6) }

  @inline(__always)
  func sort(_ packet: PacketPointer, _ flow: ParsedFlow, isIPv6: Bool) {
    let number = flow.ipProtocol
    let isInbound =
      number < 64
      ? inboundProtocols >> UInt64(number) & 1 != 0 && (number != IPProtocol.udp || isEncapsulation(flow))
      : number == IPProtocol.ipcomp
    if isInbound {
      pointee.inbound.append(packet)
    } else {
      let hash =
        isIPv6
        ? FlowCache.hash(&packet.pointee.key, isIPv6: true)
        : FlowCache.hash(source: flow.source, destination: flow.destination, flow.rest)
      enqueueForPolicy(packet, hash)
    }
  }

  /// Those of the numbers below 64 that may be IPsec for this gateway, a bit each.
  private var inboundProtocols: UInt64 {
    1 << UInt64(IPProtocol.esp) | 1 << UInt64(IPProtocol.ah) | 1 << UInt64(IPProtocol.ipip)
      | 1 << UInt64(IPProtocol.ipv6) | 1 << UInt64(IPProtocol.udp)
  }

  /// By its port (RFC 3948 2.1).
  @inline(__always)
  private func isEncapsulation(_ flow: ParsedFlow) -> Bool { flow.destinationPort == 4500 }

  @inline(__always)
  func enqueueForPolicy(_ packet: PacketPointer) {
    enqueueForPolicy(packet, FlowCache.hash(&packet.pointee.key, isIPv6: packet.pointee.version == 6))
  }

  @inline(__always)
  private func enqueueForPolicy(_ packet: PacketPointer, _ hash: UInt64) {
    packet.pointee.hash = hash
    pointee.flows.prefetch(hash)
    pointee.policy.append(packet)
  }
}
