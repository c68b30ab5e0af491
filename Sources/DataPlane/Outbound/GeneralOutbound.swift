import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// Outbound SAs that are not a single ESP tunnel: transport mode, AH, IPComp, IP in IP, bundles, TFC padding.
enum GeneralOutbound {
  /// False: the packet went elsewhere.
  @inline(never)
  static func accepts(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    let isTunnel = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0
    if packet.pointee.isFragment && !isTunnel {
      // Transport mode protects whole packets (RFC 4303 3.3.4).
      Reassembly.beforeTransport(w, packet, sa)
      return false
    }
    let (adjacency, limit) = way(w, packet, sa)
    packet.pointee.adjacency = adjacency
    if limit > 0 {
      guard TooBig.fits(w, packet, sa, mtu: limit - overhead(sa), mayCut: isTunnel) else { return false }
    }
    return hasRoom(w, packet, sa)
  }

  /// Where the packet will leave, and how large it may be then: by the last tunnel of the bundle, or by its own
  /// destination.
  private static func way(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>
  ) -> (adjacency: UInt32, limit: Int) {
    var last = sa
    var adjacency: UInt32?
    var next: UnsafeMutablePointer<gw_sa>? = sa
    while let current = next {
      last = current
      if current.pointee.flags & GW_SA_TUNNEL.rawValue != 0 { adjacency = w.outerAdjacency(current) }
      next = current.nextAtomic.pointee.load(ordering: .acquiring)
    }
    let found = adjacency ?? w.adjacencyIndex(of: packet)
    return (found, w.outerMTU(last, found))
  }

  private static func overhead(_ sa: UnsafeMutablePointer<gw_sa>) -> Int {
    var sum = 0
    var next: UnsafeMutablePointer<gw_sa>? = sa
    while let current = next {
      sum += Int(current.pointee.overhead)
      next = current.nextAtomic.pointee.load(ordering: .acquiring)
    }
    return sum
  }

  /// Room for one SA's headers before the packet, and for its trailer, ICV and TFC padding behind. False: dropped.
  @inline(never)
  static func hasRoom(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    let mbuf = packet.pointee.mbuf
    let before = packet.pointee.ip - mbuf.pointee.buf_addr.unsafelyUnwrapped
    let length = Int(packet.pointee.length)
    let after = Int(mbuf.pointee.buf_len) &- before &- length
    let header = sa.pointee.sa_protocol == AH.ipProtocol ? AH.headerLength(sa) : 24
    // 14 bytes of Ethernet header go before everything.
    let needed = Int(sa.pointee.outer_length) &+ header &+ 14
    let padding = sa.pointee.flags & GW_SA_TFC.rawValue != 0 ? max(0, Int(sa.pointee.tfc_length) &- length) : 0
    if before >= needed, after >= Int(sa.pointee.overhead) &+ padding { return true }
    return Segments.makeRoom(w, packet, sa, padding: padding)
  }

  /// True: `job`, number `index` of the burst, is filled. False: the packet went on without, or nowhere.
  @inline(never)
  static func frame(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ job: UnsafeMutablePointer<CryptoJob>, index: Int
  ) -> Bool {
    switch sa.pointee.sa_protocol {
    case ESP.ipProtocol:
      if sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0 {
        OutboundStage.tunnel(w, packet, sa, job, length: pad(w, packet, sa))
      } else {
        Transport.frame(w, packet, sa, job)
      }
      return true
    case AH.ipProtocol: return AHStage.seal(w, packet, sa, job, index: index)
    case IPComp.ipProtocol: IPCompStage.seal(w, packet, sa)
    case IPProtocol.ipip: IPIPStage.seal(w, packet, sa)
    default: w.drop(packet, sa, .sealFailed)
    }
    return false
  }

  /// The flags of ESP in UDP over IPv6.
  @inline(__always)
  static var udpInIPv6: UInt32 { GW_SA_UDP_ENCAP.rawValue | GW_SA_OUTER_V6.rawValue }

  /// The engine is done with job `index`.
  @inline(never)
  static func finish(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, index: Int) {
    if sa.pointee.sa_protocol == AH.ipProtocol {
      AHStage.sealed(w, packet, sa, index: index)
    } else {
      sumUDP(packet)
    }
  }

  /// Over IPv6 Linux drops ESP in UDP without a checksum, though RFC 6936 would let tunnels go without.
  private static func sumUDP(_ packet: PacketPointer) {
    let ip = packet.pointee.ip
    let header = IPv6Header(checked: ip)
    let headers = IPv6ExtensionHeaders(header)
    let udp = ip + Int(headers.upperOffset)
    let length = Int(packet.pointee.length) &- Int(headers.upperOffset)
    guard headers.fault == nil, headers.upperProtocol == IPProtocol.udp, length >= 8 else { return }
    var sum = InternetChecksum()
    sum.addPseudoHeader(
      source: header.source, destination: header.destination, ipProtocol: IPProtocol.udp,
      length: UInt32(truncatingIfNeeded: length))
    sum.add(udp, count: length)
    udp.setBig16(sum.udpValue, at: 6)
  }

  /// TFC padding (RFC 4303 2.7): zeros behind the inner packet, whose own length cuts them off again. Never so much that
  /// the outer packet would not fit its way. Returns the length with it.
  private static func pad(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> Int {
    let length = Int(packet.pointee.length)
    var wanted = Int(sa.pointee.tfc_length)
    let limit = w.outerMTU(sa, packet.pointee.adjacency)
    if limit > 0 {
      let rest = sa.nextAtomic.pointee.load(ordering: .acquiring).map(overhead) ?? 0
      wanted = min(wanted, TooBig.innerMTU(sa, limit: limit - rest))
    }
    guard wanted > length else { return length }
    (packet.pointee.ip + length).initializeMemory(as: UInt8.self, repeating: 0, count: wanted - length)
    return wanted
  }

  /// The packet, done by one SA of a bundle, goes on to the next.
  @inline(never)
  static func continueBundle(_ w: WorkerPointer, _ packet: PacketPointer, _ next: UnsafeMutablePointer<gw_sa>) {
    packet.pointee.depth += 1
    guard packet.pointee.depth < OutboundStage.maximumBundle else {
      w.drop(packet, next, .bundleTooDeep)
      return
    }
    guard next.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_UNUSABLE.rawValue == 0 else {
      UnusableSA.outbound(w, packet, next)
      return
    }
    packet.trim()
    packet.pointee.sa = next
    let refused = packet.pointee.version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)
    guard refused == nil else {
      w.drop(packet, next, .sealFailed)
      return
    }
    guard hasRoom(w, packet, next) else { return }
    w.pointee.outbound.append(packet)
  }
}
