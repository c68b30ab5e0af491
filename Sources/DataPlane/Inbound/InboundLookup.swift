import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// Finds the SA of each packet on the list `inbound`.
extension InboundStage {
  /// Those that have an SA move to the front of the list; returns how many. The others go where clear packets go.
  @inline(__always)
  static func lookUp(_ w: WorkerPointer, _ candidates: PacketList) -> Int {
    let isScattered =
      candidates[0].pointee.hash != candidates[candidates.count &- 1].pointee.hash && w.pointee.inboundSAs.isLarge
    if isScattered { prefetchEntries(w, candidates) }
    let found = lookUpEach(w, candidates)
    if isScattered { prefetchSAs(w, candidates, found) }
    return found
  }

  /// Many SAs of very many in the burst: what each look-up reads is asked for before any is made.
  @inline(never)
  static func prefetchEntries(_ w: WorkerPointer, _ candidates: PacketList) {
    var i = 0
    while i < candidates.count {
      let packet = candidates[i]
      i &+= 1
      guard let esp = SimpleESP(packet) else { continue }
      w.pointee.inboundSAs.prefetch(spi: esp.spi, destination4: esp.destination)
    }
  }

  /// Then the SAs, of which `lookUpEach` has asked for the first lines.
  @inline(never)
  static func prefetchSAs(_ w: WorkerPointer, _ list: PacketList, _ count: Int) {
    var i = 0
    while i < count {
      let sa = list[i].pointee.sa.unsafelyUnwrapped
      i &+= 1
      cdpdk_prefetch(sa.pointee.session)
      cdpdk_prefetch_write(w.pointee.counters.base + Int(sa.pointee.slot))
    }
  }

  @inline(__always)
  static func lookUpEach(_ w: WorkerPointer, _ candidates: PacketList) -> Int {
    var found = 0
    // Neighbours are often of one SA: the last one found, by what it was found by.
    var last: InboundSA?
    var lastWord: UInt64 = 0
    var i = 0
    while i < candidates.count {
      let packet = candidates[i]
      i &+= 1
      if let esp = SimpleESP(packet) {
        if esp.word == lastWord, let sa = last {
          packet.pointee.sa = sa.record
        } else {
          let header = packet.pointee.ip + IPv4Header.minimumLength
          guard let sa = take(w, packet, findFast(w, esp), header) else { continue }
          last = sa
          lastWord = esp.word
        }
      } else {
        guard lookUp(w, packet) != nil else { continue }
      }
      (candidates.base + found).initialize(to: packet)
      found &+= 1
    }
    return found
  }

  @inline(__always)
  static func findFast(_ w: WorkerPointer, _ esp: SimpleESP) -> InboundSA? {
    w.pointee.inboundSAs.lookup(spi: esp.spi, destination4: esp.destination, saProtocol: ESP.ipProtocol)
  }

  /// Nil: the packet, which has no SA, went elsewhere.
  @inline(__always)
  static func lookUp(_ w: WorkerPointer, _ packet: PacketPointer) -> InboundSA? {
    guard let header = ipsecHeader(w, packet) else { return nil }
    return take(w, packet, find(w, packet, header), header)
  }

  /// Gives the packet the SA that was found for it.
  @inline(__always)
  static func take(
    _ w: WorkerPointer, _ packet: PacketPointer, _ found: InboundSA?, _ header: UnsafeMutableRawPointer
  ) -> InboundSA? {
    guard let sa = found else {
      withoutSA(w, packet, header)
      return nil
    }
    cdpdk_prefetch(UnsafeRawPointer(sa.record))
    cdpdk_prefetch(UnsafeRawPointer(sa.record) + 192)
    if packet.pointee.depth > 0 { w.rememberLayer(packet) }
    packet.pointee.sa = sa.record
    return sa
  }

  /// IPsec for the gateway ends here (RFC 4301 5.2): the flow cache is told nothing, for what is known goes by the SPI,
  /// which is not in the key. IP in IP without an SA may be the kernel's, and what is in transit is like any other packet.
  @inline(never)
  static func withoutSA(_ w: WorkerPointer, _ packet: PacketPointer, _ header: UnsafeMutableRawPointer) {
    // Which was right, and so is again: for the key.
    if SimpleESP(packet) != nil { _ = IPParser.ipv4(packet) }
    if isOwn(w, packet, spi: spi(packet, header), saProtocol: packet.pointee.ipProtocol) {
      return w.drop(packet, .noSA)
    }
    if EarlyESP.waits(w, packet, header) { return }
    if isIPInIP(packet) || w.adjacency(of: packet).pointee.kind != .local {
      w.enqueueForPolicy(packet)
    } else {
      w.drop(packet, .noSA)
    }
  }

  static func isIPInIP(_ packet: PacketPointer) -> Bool {
    packet.pointee.ipProtocol == IPProtocol.ipip || packet.pointee.ipProtocol == IPProtocol.ipv6
  }

  /// The ESP, AH or IPComp header; nil when the packet went elsewhere.
  @inline(__always)
  static func ipsecHeader(_ w: WorkerPointer, _ packet: PacketPointer) -> UnsafeMutableRawPointer? {
    let offset = Int(packet.pointee.payloadOffset)
    let available = Int(packet.pointee.length) &- offset
    if packet.pointee.isFragment {
      w.enqueueForPolicy(packet)
      return nil
    }
    if packet.pointee.ipProtocol == IPProtocol.udp { return encapsulated(w, packet, available: available) }
    guard available >= 8 else {
      tooShort(w, packet)
      return nil
    }
    return packet.pointee.ip + offset
  }

  /// For the headers of IPsec. Of packets in transit that is nobody's business here.
  @inline(never)
  static func tooShort(_ w: WorkerPointer, _ packet: PacketPointer) {
    if isIPInIP(packet) || w.adjacency(of: packet).pointee.kind != .local {
      w.enqueueForPolicy(packet)
    } else {
      w.drop(packet, .espTooShort)
    }
  }

  /// UDP to port 4500, or another that SAs have (RFC 3948 2): a keepalive, IKE behind the non-ESP marker, or ESP.
  @inline(never)
  static func encapsulated(
    _ w: WorkerPointer, _ packet: PacketPointer, available: Int
  ) -> UnsafeMutableRawPointer? {
    let udp = packet.pointee.ip + Int(packet.pointee.payloadOffset)
    let isLocal = w.adjacency(of: packet).pointee.kind == .local
    if isLocal && available == 9 && UnsafeRawPointer(udp).byte(at: 8) == 0xff {
      w.drop(packet, .natKeepalive)
      return nil
    }
    guard isLocal, available >= 12, UnsafeRawPointer(udp).big32(at: 8) != 0 else {
      if !isLocal, available >= 16,
        isOwn(w, packet, spi: udp.loadUnaligned(fromByteOffset: 8, as: UInt32.self), saProtocol: ESP.ipProtocol)
      {
        w.drop(packet, .noSA)
      } else {
        w.enqueueForPolicy(packet)
      }
      return nil
    }
    // It begins with an SPI and not with IKE's marker (RFC 3948 2.2).
    guard available >= 16 else {
      w.drop(packet, .espTooShort)
      return nil
    }
    let port = UInt64(packet.pointee.key.source_port)
    packet.pointee.peer = packet.pointee.key.source_low << 32 | port
    packet.pointee.isEncapsulated = true
    packet.pointee.payloadOffset &+= 8
    packet.pointee.ipProtocol = IPProtocol.esp
    return udp + 8
  }

  @inline(__always)
  static func find(
    _ w: WorkerPointer, _ packet: PacketPointer, _ header: UnsafeMutableRawPointer
  ) -> InboundSA? {
    let number = packet.pointee.ipProtocol
    let saProtocol = number == IPProtocol.ipv6 ? IPProtocol.ipip : number
    return w.pointee.inboundSAs.lookup(
      spi: spi(packet, header), version: packet.pointee.version, destinationHigh: packet.pointee.key.destination_high,
      destinationLow: packet.pointee.key.destination_low, saProtocol: saProtocol)
  }

  /// ESP's SPI comes first, AH's after four bytes; IPComp's CPI is 16 bits; IP in IP has none.
  @inline(__always)
  static func spi(_ packet: PacketPointer, _ header: UnsafeMutableRawPointer) -> UInt32 {
    switch packet.pointee.ipProtocol {
    case IPProtocol.esp: header.loadUnaligned(as: UInt32.self)
    case IPProtocol.ah: header.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    case IPProtocol.ipcomp: UInt32(UnsafeRawPointer(header).big16(at: 2)).bigEndian
    default: SADReader.ipipSPI(sourceHigh: packet.pointee.key.source_high, sourceLow: packet.pointee.key.source_low)
    }
  }

  /// Whether the packet comes by the name of an SA that seals here: it is one of the gateway's own that came back, or is
  /// made up, for only the peer gives that name away. IPComp's well-known CPIs are everybody's, with other sources.
  @inline(never)
  static func isOwn(_ w: WorkerPointer, _ packet: PacketPointer, spi: UInt32, saProtocol: UInt8) -> Bool {
    let key = packet.pointee.key
    let sa = w.pointee.outboundSAs.lookup(
      spi: spi, version: packet.pointee.version, destinationHigh: key.destination_high,
      destinationLow: key.destination_low, saProtocol: saProtocol)
    guard let sa else { return false }
    return saProtocol != IPProtocol.ipcomp
      || sa.pointee.source_high == key.source_high && sa.pointee.source_low == key.source_low
  }

  /// As `lookUp` on all that waits, if it is all ESP over IP; nil: something else is there, and nothing was done.
  static func lookUpESP(_ w: WorkerPointer) -> Int? {
    let candidates = w.pointee.inbound
    var i = 0
    while i < candidates.count {
      guard candidates[i].pointee.ipProtocol == ESP.ipProtocol else { return nil }
      i &+= 1
    }
    return lookUp(w, candidates)
  }
}
