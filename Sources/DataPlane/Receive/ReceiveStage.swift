import CDPDK
import CLayout
import DPDK
import IPsec
import Wire

/// Frames in, sorted: IPsec for this gateway to `inbound`, other IP to `policy`, ARP to the host, the rest nowhere.
enum ReceiveStage {
  // Computed: a stored one would be set up lazily, behind a check for each packet.
  private static var ipv4Type: UInt16 { UInt16(0x0800).bigEndian }
  private static var ipv6Type: UInt16 { UInt16(0x86dd).bigEndian }
  private static var arpType: UInt16 { UInt16(0x0806).bigEndian }
  private static var vlanType: UInt16 { UInt16(0x8100).bigEndian }

  /// The first `count` buffers of `received`, all of one port.
  @inline(never)
  static func run(_ w: WorkerPointer, port: Int, count: Int) {
    let received = w.pointee.received
    guard var packet = w.pointee.records.take(count) else {
      var i = 0
      while i < count {
        w.refuse(received[i].unsafelyUnwrapped)
        i &+= 1
      }
      return
    }
    // Mbufs, then what they hold, some packets ahead.
    var ahead = 0
    while ahead < min(count, 8) {
      cdpdk_prefetch_data(received[ahead].unsafelyUnwrapped)
      ahead &+= 1
    }
    let mac = w.pointee.ports[port].mac << 16
    var i = 0
    var bytes = 0
    while i < count {
      if i &+ 8 < count { cdpdk_prefetch_data(received[i &+ 8].unsafelyUnwrapped) }
      bytes &+= frame(w, packet, received[i].unsafelyUnwrapped, port: port, mac: mac)
      i &+= 1
      packet += 1
    }
    w.pointee.ports[port].count(.rxPackets, count)
    w.pointee.ports[port].count(.rxBytes, bytes)
    w.mark(.receive)
  }

  /// `mac`: the port's address in the upper 48 bits. Returns the frame's length.
  @inline(__always)
  private static func frame(
    _ w: WorkerPointer, _ packet: PacketPointer, _ received: Mbuf, port: Int, mac: UInt64
  ) -> Int {
    var mbuf = received
    packet.begin(mbuf)
    if mbuf.pointee.nb_segs != 1 {
      let length = Int(mbuf.pointee.pkt_len)
      guard let single = Segments.linearize(w, mbuf) else {
        w.drop(packet, .multiSegment)
        return length
      }
      mbuf = single
      packet.pointee.mbuf = mbuf
    }
    let length = Int(mbuf.pointee.data_len)
    let frame = mbuf.data
    guard length >= 14 else {
      w.drop(packet, .frameTooShort)
      return length
    }
    let type = frame.loadUnaligned(fromByteOffset: 12, as: UInt16.self)
    let ip = frame + 14
    packet.pointee.ip = ip
    let isForPort = frame.loadUnaligned(as: UInt64.self) << 16 == mac
    if isForPort, type == ipv4Type, let plain = SimpleIPv4(ip, length: length &- 14),
      w.sortPlain(packet, plain, ip, SimpleIPv4.header(port: port, origin: .clear, depth: 0), takesESP: true)
    {
      if plain.length != length &- 14 { mbuf.setLength(plain.length &+ 14) }
      return length
    }
    packet.pointee.length = Int32(truncatingIfNeeded: length &- 14)
    packet.header = PacketHeader(port: port, origin: .clear)
    packet.marks = 0
    other(w, packet, isForPort: isForPort, type: type)
    return length
  }

  /// All but the usual packet.
  @inline(never)
  private static func other(_ w: WorkerPointer, _ packet: PacketPointer, isForPort: Bool, type: UInt16) {
    let type = type == vlanType ? untag(packet) : type
    guard isForPort || packet.pointee.mbuf.data.load(as: UInt8.self) & 1 == 1 else {
      w.drop(packet, .notForUs)
      return
    }
    if type == ipv4Type || type == ipv6Type {
      ip(w, packet, isIPv6: type == ipv6Type, isForPort: isForPort)
      return
    }
    if type == arpType {
      HostStage.deliverARP(w, packet)
    } else {
      w.drop(packet, .unknownEtherType)
    }
  }

  /// A tag of VLAN 0 says a priority and no VLAN (IEEE 802.1Q 6.9): it is taken out. Returns the type then, and that of the
  /// tag if it names a VLAN.
  private static func untag(_ packet: PacketPointer) -> UInt16 {
    let frame = packet.pointee.mbuf.data
    guard packet.pointee.length >= 4, UnsafeRawPointer(frame).big16(at: 14) & 0x0fff == 0 else { return vlanType }
    (frame + 4).copyMemory(from: frame, byteCount: 12)
    packet.pointee.mbuf.trimFront(4)
    packet.pointee.ip += 4
    packet.pointee.length &-= 4
    return frame.loadUnaligned(fromByteOffset: 16, as: UInt16.self)
  }

  @inline(__always)
  private static func ip(_ w: WorkerPointer, _ packet: PacketPointer, isIPv6: Bool, isForPort: Bool) {
    if let reason = isIPv6 ? IPParser.ipv6(packet) : IPParser.ipv4(packet) {
      w.drop(packet, reason)
      return
    }
    guard isForPort || isForGroup(w, packet) else {
      w.drop(packet, .groupFrame)
      return
    }
    // Cut off the link's padding: what follows works on the IP packet alone.
    packet.pointee.mbuf.setLength(Int(packet.pointee.length) &+ 14)
    w.sort(packet)
  }

  /// What came by a frame to a group or to all must be for a group or for all itself, or it would reach by one frame hosts
  /// that nobody sent it to (RFC 1122 3.3.6). It has its policy like any other packet.
  @inline(never)
  private static func isForGroup(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    let kind = w.adjacency(of: packet).pointee.kind
    return kind == .multicast || kind == .broadcast
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  /// A parsed packet to the list of its next stage. Returns whether that is `inbound`.
  @discardableResult @inline(__always)
  func sort(_ packet: PacketPointer) -> Bool {
    let number = packet.pointee.ipProtocol
    let isInbound =
      number < 64
      ? inboundProtocols >> UInt64(number) & 1 != 0
        && (number != IPProtocol.udp || takesEncapsulation(at: packet.pointee.key.destination_port))
      : number == IPProtocol.ipcomp
    if isInbound {
      packet.pointee.hash = 0
      pointee.inbound.append(packet)
    } else {
      enqueueForPolicy(packet)
    }
    return isInbound
  }

  /// ESP may come in UDP to this port of the gateway's.
  @inline(__always)
  func takesEncapsulation(at port: UInt16) -> Bool {
    port == IPParser.encapsulationPort || pointee.hasEncapsulationPorts && takesOther(at: port)
  }

  @inline(never)
  private func takesOther(at port: UInt16) -> Bool { pointee.shared.pointee.encapsulationPorts.contains(port) }

  /// Those of the numbers below 64 that may be IPsec for this gateway, a bit each.
  private var inboundProtocols: UInt64 {
    1 << UInt64(IPProtocol.esp) | 1 << UInt64(IPProtocol.ah) | 1 << UInt64(IPProtocol.ipip)
      | 1 << UInt64(IPProtocol.ipv6) | 1 << UInt64(IPProtocol.udp)
  }

  @inline(__always)
  func enqueueForPolicy(_ packet: PacketPointer) {
    enqueueForPolicy(packet, FlowCache.hash(&packet.pointee.key, isIPv6: packet.pointee.version == 6))
  }

  @inline(__always)
  func enqueueForPolicy(_ packet: PacketPointer, _ hash: UInt64) {
    packet.pointee.hash = hash
    pointee.flows.prefetch(hash)
    pointee.policy.append(packet)
  }
}
