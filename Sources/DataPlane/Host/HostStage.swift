import CDPDK
import CLayout
import DPDK
import IPsec
import Routing
import Wire

/// To and from the gateway's own kernel: frames for it go to the host thread's rings; what it sent comes back by another.
enum HostStage {
  /// Hands a packet to the kernel behind the port it came in by. If that has none, what is for an address of the gateway goes
  /// to the kernel behind the first port that has: there is one gateway. What is of the port's link alone does not, for it
  /// would be taken as another link's.
  @inline(never)
  static func deliver(_ w: WorkerPointer, _ packet: PacketPointer) {
    OuterPathMTU.note(w, packet)
    var port = Int(packet.pointee.port)
    if !w.pointee.ports[port].hasHost {
      port = isOfLink(w, packet) ? w.pointee.portCount : 0
      while port < w.pointee.portCount, !w.pointee.ports[port].hasHost { port &+= 1 }
      guard port < w.pointee.portCount else {
        w.drop(packet, .hostMalformed)
        return
      }
    }
    enqueue(w, packet, port: port)
  }

  /// ARP is of one link too.
  @inline(never)
  static func deliverARP(_ w: WorkerPointer, _ packet: PacketPointer) {
    let port = Int(packet.pointee.port)
    if w.pointee.ports[port].hasHost { enqueue(w, packet, port: port) } else { w.drop(packet, .hostMalformed) }
  }

  /// To a group, to all, to a link-local address (RFC 4007 9), or neighbour discovery.
  private static func isOfLink(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    let flow = Flow(packet)
    let isLinkLocal = flow.isIPv6 && Martian.isLinkLocal(v6High: flow.key.destination_high)
    return isLinkLocal || w.adjacency(of: packet).pointee.kind != .local || PolicyExemptions.isDiscovery(flow)
  }

  private static func enqueue(_ w: WorkerPointer, _ packet: PacketPointer, port: Int) {
    guard let ring = w.pointee.ports[port].hostRing else {
      w.drop(packet, .hostQueueFull)
      return
    }
    if packet.pointee.origin != .clear { putEthernetHeader(w, packet, port: port) }
    var mbuf: Mbuf? = packet.pointee.mbuf
    guard cdpdk_ring_enqueue(ring, &mbuf, 1) == 1 else {
      w.drop(packet, .hostQueueFull)
      return
    }
    w.pointee.ports[port].count(.hostPackets, 1)
  }

  /// What left a tunnel or was made here has no link header: one that says "from a neighbour, to the port".
  private static func putEthernetHeader(_ w: WorkerPointer, _ packet: PacketPointer, port: Int) {
    let frame = packet.pointee.ip - 14
    let mac = w.pointee.ports[port].mac
    frame.storeBytes(of: mac, as: UInt64.self)
    // The source is the port's address with the local bit turned: nobody on the link has it.
    frame.storeBytes(of: mac ^ 0x02, toByteOffset: 6, as: UInt64.self)
    let type: UInt16 = packet.pointee.version == 4 ? 0x0800 : 0x86dd
    frame.storeBytes(of: type.bigEndian, toByteOffset: 12, as: UInt16.self)
    let mbuf = packet.pointee.mbuf
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: frame - mbuf.pointee.buf_addr.unsafelyUnwrapped)
    mbuf.setLength(Int(packet.pointee.length) &+ 14)
  }

  /// Frames that the kernel sent, and packets whose next hop has been found meanwhile. `port` of the mbuf: the gateway's
  /// index of the port the kernel chose.
  @inline(never)
  static func receive(_ w: WorkerPointer) -> Int {
    guard let ring = w.pointee.fromHost else { return 0 }
    let received = w.pointee.received
    let count = Int(cdpdk_ring_dequeue(ring, received, UInt32(w.pointee.burst)))
    var i = 0
    while i < count {
      let mbuf = received[i].unsafelyUnwrapped
      i &+= 1
      let note = mbuf.note
      if note.pointee.kind == .resolved {
        if let packet = waited(w, mbuf, note) { w.pointee.transmit.append(packet) }
      } else if note.pointee.kind == .failed {
        if let packet = waited(w, mbuf, note) {
          failed(w, packet, isSealed: note.pointee.isSealed, note.pointee.ends)
        }
      } else if note.pointee.kind == .dummy {
        DummyStage.send(w, mbuf, note)
      } else {
        // Frames of the kernel, and those that waited for an SA, whoever they are from.
        fromKernel(w, mbuf, note)
      }
    }
    return count
  }

  private static func fromKernel(_ w: WorkerPointer, _ mbuf: Mbuf, _ note: UnsafeMutablePointer<PacketNote>) {
    let port = Int(note.pointee.port)
    guard let packet = w.nextPacket(mbuf, port: port, origin: note.pointee.origin) else { return w.refuse(mbuf) }
    let frame = mbuf.data
    let type = UnsafeRawPointer(frame).big16(at: 12)
    packet.pointee.ip = frame + 14
    packet.pointee.length = Int32(truncatingIfNeeded: Int(mbuf.pointee.data_len) &- 14)
    packet.pointee.adjacency = 0
    guard type == 0x0800 || type == 0x86dd else {
      // ARP is below IP and leaves as it is; in other frames (VLAN, PPPoE) may be IP that no policy sees.
      if type == 0x0806 { TransmitStage.enqueue(w, mbuf, port: port) } else { w.drop(packet, .hostEtherType) }
      return
    }
    let reason = type == 0x0800 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)
    guard reason == nil else {
      w.drop(packet, .hostMalformed)
      return
    }
    // What was put together may be cut again, though the header of IPv6 does not say so.
    if note.pointee.kind == .mayHaveSA { packet.pointee.dontFragment = note.pointee.dontFragment }
    switch note.pointee.kind {
    case .mayBeOpened: w.sort(packet)
    case .fromKeyDaemon: PolicyExemptions.sendKeyManagement(w, packet)
    default: w.enqueueForPolicy(packet)
    }
  }

  /// A packet that waited for its neighbour, finished but for the link header. Nil: no record is free for it.
  private static func waited(
    _ w: WorkerPointer, _ mbuf: Mbuf, _ note: UnsafeMutablePointer<PacketNote>
  ) -> PacketPointer? {
    guard let packet = w.nextPacket(mbuf, port: Int(note.pointee.port), origin: note.pointee.origin) else {
      w.refuse(mbuf)
      return nil
    }
    packet.pointee.ip = mbuf.data
    packet.pointee.length = Int32(truncatingIfNeeded: Int(mbuf.pointee.data_len))
    packet.pointee.version = note.pointee.version
    packet.pointee.depth = 1
    packet.pointee.dontFragment = note.pointee.dontFragment
    packet.pointee.adjacency =
      note.pointee.version == 4
      ? w.pointee.fib.lookup(v4: UInt32(truncatingIfNeeded: note.pointee.destinationLow))
      : w.pointee.fib.lookup(v6High: note.pointee.destinationHigh, low: note.pointee.destinationLow)
    return packet
  }

  /// RFC 1812 3.3.2: a host that does not answer ARP is unreachable.
  private static func failed(_ w: WorkerPointer, _ packet: PacketPointer, isSealed: Bool, _ ends: TunnelEnds) {
    // For its key.
    let isRight = (packet.pointee.version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)) == nil
    if !isSealed, isRight { ICMPStage.answer(w, packet, .hostUnreachable, mtu: 0, ends: ends) }
    w.drop(packet, .neighborUnresolved)
  }
}
