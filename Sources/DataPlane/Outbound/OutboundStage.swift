import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// Packets that a policy protects: its SA, sequence numbers by the burst, ESP around them, encrypted by the burst, and
/// out by the route of the tunnel's far end. Runs again for the outer SAs of bundles.
enum OutboundStage {
  static let maximumBundle: UInt8 = 4

  @inline(never)
  static func run(_ w: WorkerPointer) {
    FastTunnel.run(w)
    if w.pointee.outbound.count | w.pointee.pieces.count > 0 { runGeneral(w) }
  }

  @inline(never)
  private static func runGeneral(_ w: WorkerPointer) {
    selectSAs(w)
    seal(w)
  }

  /// A packet whose SA is known, between bursts: `outbound` is empty.
  @inline(never)
  static func sealAlone(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    guard accepts(w, packet, sa) else { return }
    w.pointee.outbound.append(packet)
    seal(w)
  }

  /// What is in `outbound`, through its SAs and those of their bundles.
  @inline(__always)
  private static func seal(_ w: WorkerPointer) {
    while w.pointee.outbound.count > 0 {
      takeSequenceNumbers(w)
      let jobs = frame(w)
      w.mark(.outbound)
      CryptoRuns.run(w, jobs)
      w.mark(.crypto)
      finish(w, jobs)
      w.mark(.outbound)
    }
  }

  // MARK: SA

  /// Leaves in `outbound` the packets that have an SA that can carry them.
  @inline(__always)
  private static func selectSAs(_ w: WorkerPointer) {
    let list = w.pointee.outbound
    var kept = 0
    var run = PolicyCountRun()
    var i = 0
    while i < list.count {
      let packet = list[i]
      i &+= 1
      let policy = packet.pointee.policy.unsafelyUnwrapped
      guard let sa = policy.loadSA() else {
        MissingSA.run(w, packet, policy)
        continue
      }
      // Until then its SA is the one that it came out of.
      guard accepts(w, packet, sa) else { continue }
      packet.pointee.sa = sa
      run.add(w, policy, bytes: Int(packet.pointee.length))
      packet.pointee.depth = 0
      (list.base + kept).initialize(to: packet)
      kept &+= 1
    }
    run.flush(w)
    w.pointee.outbound.count = kept
    if w.pointee.pieces.count > 0 { addPieces(w) }
  }

  /// Fragments of packets that were too large, in their own order behind the rest.
  @inline(never)
  private static func addPieces(_ w: WorkerPointer) {
    var i = 0
    while i < w.pointee.pieces.count {
      let piece = w.pointee.pieces[i]
      if GeneralOutbound.hasRoom(w, piece, piece.pointee.sa.unsafelyUnwrapped) { w.pointee.outbound.append(piece) }
      i &+= 1
    }
    w.pointee.pieces.count = 0
  }

  /// False: the packet went elsewhere.
  @inline(__always)
  private static func accepts(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    if sa.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_UNUSABLE.rawValue != 0 {
      UnusableSA.outbound(w, packet, sa)
      return false
    }
    if sa.pointee.sa_protocol != ESP.ipProtocol || sa.nextAtomic.pointee.load(ordering: .relaxed) != nil
      || sa.pointee.flags & (GW_SA_TUNNEL.rawValue | GW_SA_TFC.rawValue) != GW_SA_TUNNEL.rawValue
    {
      return GeneralOutbound.accepts(w, packet, sa)
    }
    let adjacency = w.outerAdjacency(sa)
    packet.pointee.adjacency = adjacency
    let limit = w.outerMTU(sa, adjacency)
    let needed = Int(packet.pointee.length) &+ Int(sa.pointee.overhead)
    if needed > limit, !TooBig.fits(w, packet, sa, limit: limit) { return false }
    return hasRoom(w, packet, sa)
  }

  /// Room before the packet for the headers and after it for trailer and ICV.
  @inline(__always)
  static func hasRoom(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    let mbuf = packet.pointee.mbuf
    let buffer = mbuf.pointee.buf_addr.unsafelyUnwrapped
    let before = packet.pointee.ip - UnsafeMutableRawPointer(buffer)
    let after = Int(mbuf.pointee.buf_len) &- before &- Int(packet.pointee.length)
    // 14 bytes of Ethernet header go before everything.
    if before >= Int(sa.pointee.outer_length) &+ 24 &+ 14, after >= Int(sa.pointee.overhead) { return true }
    return Segments.makeRoom(w, packet, sa)
  }

  // MARK: Sequence numbers

  /// One atomic add for each run of packets of one SA. Numbers are never given twice and never wrap: at the end of the
  /// number space the SA stops (RFC 4303 3.3.3), and where those that are reserved on disk end it waits for more.
  @inline(__always)
  private static func takeSequenceNumbers(_ w: WorkerPointer) {
    let list = w.pointee.outbound
    var kept = 0
    var start = 0
    while start < list.count {
      let sa = list[start].pointee.sa.unsafelyUnwrapped
      var end = start &+ 1
      while end < list.count, list[end].pointee.sa == sa { end &+= 1 }
      let count = UInt64(truncatingIfNeeded: end &- start)
      let first = sa.sequenceAtomic.pointee.wrappingAdd(count, ordering: .relaxed).oldValue &+ 1
      if first &+ count > sa.sequenceLimitAtomic.pointee.load(ordering: .relaxed) {
        kept = takeLast(w, list, from: start, to: end, first: first, kept: kept)
      } else {
        var i = start
        while i < end {
          list[i].pointee.sequence = first &+ UInt64(truncatingIfNeeded: i &- start)
          (list.base + kept).initialize(to: list[i])
          kept &+= 1
          i &+= 1
        }
      }
      start = end
    }
    w.pointee.outbound.count = kept
  }

  /// The run that reaches the limit: what still fits goes, the rest is dropped, and the SA carries nothing more until the
  /// limit moves; at the end of the number space it never does. `sequence` has run past it by what workers had in hand.
  @inline(never)
  private static func takeLast(
    _ w: WorkerPointer, _ list: PacketList, from start: Int, to end: Int, first: UInt64, kept: Int
  ) -> Int {
    let sa = list[start].pointee.sa.unsafelyUnwrapped
    let limit = sa.sequenceLimitAtomic.pointee.load(ordering: .relaxed)
    let isEnd = limit >= sa.sequenceEnd
    var kept = kept
    var dropped = false
    var i = start
    while i < end {
      let sequence = first &+ UInt64(truncatingIfNeeded: i &- start)
      if sequence < limit {
        list[i].pointee.sequence = sequence
        (list.base + kept).initialize(to: list[i])
        kept &+= 1
      } else {
        w.drop(list[i], sa, isEnd ? .sequenceExhausted : .sequenceUnreserved)
        dropped = true
      }
      i &+= 1
    }
    // Not if it has moved in the meantime.
    guard dropped else { return kept }
    if isEnd {
      ByteLifetimes.report(w, sa, GW_SA_STOPPED.rawValue | GW_SA_HARD_REPORTED.rawValue, .sequenceExhausted)
    } else {
      ByteLifetimes.report(w, sa, GW_SA_HELD.rawValue, .numbersNeeded)
    }
    return kept
  }

  // MARK: Framing

  @inline(__always)
  private static func frame(_ w: WorkerPointer) -> Int {
    let list = w.pointee.outbound
    w.pointee.outbound.count = 0
    w.pointee.jobPackets.count = 0
    var counts = SACount(list[0].pointee.sa.unsafelyUnwrapped)
    var jobs = 0
    var i = 0
    while i < list.count {
      let packet = list[i]
      i &+= 1
      let sa = packet.pointee.sa.unsafelyUnwrapped
      if sa != counts.sa {
        counts.end(w)
        counts = SACount(sa)
      }
      counts.add(bytes: Int(packet.pointee.length))
      let kind = sa.pointee.flags & (GW_SA_TUNNEL.rawValue | GW_SA_TFC.rawValue)
      if sa.pointee.sa_protocol == ESP.ipProtocol && kind == GW_SA_TUNNEL.rawValue {
        tunnel(w, packet, sa, w.pointee.jobs + jobs, length: Int(packet.pointee.length))
        w.pointee.jobPackets.append(packet)
        jobs &+= 1
      } else if GeneralOutbound.frame(w, packet, sa, w.pointee.jobs + jobs, index: jobs) {
        w.pointee.jobPackets.append(packet)
        jobs &+= 1
      }
    }
    counts.end(w)
    return jobs
  }

  /// `length`: of the payload, the packet and TFC padding behind it.
  @inline(__always)
  static func tunnel(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ job: UnsafeMutablePointer<CryptoJob>, length: Int
  ) {
    let random: (UInt64, UInt64) =
      sa.pointee.crypto == UInt8(GW_CRYPTO_CBC.rawValue) ? w.pointee.random.next() : (0, 0)
    let framed = ESP.frame(
      sa, payload: packet.pointee.ip, length: length,
      nextHeader: nextHeader(packet),
      sequence: packet.pointee.sequence, random: random, session: sa.sealingSession(of: w), job: job)
    let outer = Int(sa.pointee.outer_length)
    putOuterHeader(w, packet, sa, at: framed.start - outer, length: framed.length &+ outer)
  }

  @inline(__always)
  private static func nextHeader(_ packet: PacketPointer) -> UInt8 {
    switch packet.pointee.version {
    case 4: IPProtocol.ipip
    case DummyStage.version: IPProtocol.noNextHeader
    default: IPProtocol.ipv6
    }
  }

  /// The tunnel header of a packet of `length` bytes with it. `packet` is the inner one before and the outer one after.
  @inline(__always)
  static func putOuterHeader(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    at start: UnsafeMutableRawPointer, length: Int
  ) {
    let flags = sa.pointee.flags
    let dontFragment =
      flags & GW_SA_DF_SET.rawValue != 0 || (flags & GW_SA_DF_COPY.rawValue != 0 && packet.pointee.dontFragment)
    var identification: UInt16 = 0
    if !dontFragment && flags & GW_SA_OUTER_V6.rawValue == 0 { identification = w.nextIdentification() }
    let label = packet.pointee.version != 6 ? 0 : UnsafeRawPointer(packet.pointee.ip).big32(at: 0) & 0xf_ffff
    OuterHeader.write(
      sa, at: start, length: length, trafficClass: packet.pointee.trafficClass, flowLabel: label,
      dontFragment: dontFragment, identification: identification)
    packet.pointee.ip = start
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    packet.pointee.version = flags & GW_SA_OUTER_V6.rawValue == 0 ? 4 : 6
    packet.pointee.dontFragment = dontFragment
  }

  // MARK: After the engine

  @inline(__always)
  private static func finish(_ w: WorkerPointer, _ count: Int) {
    let packets = w.pointee.jobPackets
    var i = 0
    while i < count {
      let packet = packets[i]
      let succeeded = (w.pointee.jobs + i).pointee.succeeded
      i &+= 1
      let sa = packet.pointee.sa.unsafelyUnwrapped
      guard succeeded != 0 else {
        w.drop(packet, sa, .sealFailed)
        continue
      }
      let encapsulation = sa.pointee.flags & GeneralOutbound.udpInIPv6
      if sa.pointee.sa_protocol != ESP.ipProtocol || encapsulation == GeneralOutbound.udpInIPv6 {
        GeneralOutbound.finish(w, packet, sa, index: i &- 1)
      }
      advance(w, packet, sa)
    }
  }

  /// To the next SA of the bundle, or out.
  @inline(__always)
  static func advance(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    if let next = sa.nextAtomic.pointee.load(ordering: .acquiring) {
      GeneralOutbound.continueBundle(w, packet, next)
      return
    }
    packet.trim()
    let path = sa.pathMTUAtomic.pointee.load(ordering: .relaxed)
    if path != 0, packet.pointee.length > Int32(truncatingIfNeeded: path) {
      TooBig.forPath(w, packet)
    } else {
      w.pointee.transmit.append(packet)
    }
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  /// The route to the SA's far end, looked up again only when routes have changed.
  @inline(__always)
  func outerAdjacency(_ sa: UnsafeMutablePointer<gw_sa>) -> UInt32 {
    let cached = sa.adjacencyAtomic.pointee.load(ordering: .relaxed)
    let generation = pointee.routing
    if UInt32(truncatingIfNeeded: cached >> 32) == generation { return UInt32(truncatingIfNeeded: cached) }
    return lookUpOuter(sa, generation)
  }

  @inline(never)
  private func lookUpOuter(_ sa: UnsafeMutablePointer<gw_sa>, _ generation: UInt32) -> UInt32 {
    let index =
      sa.pointee.flags & GW_SA_OUTER_V6.rawValue == 0
      ? pointee.fib.lookup(v4: UInt32(truncatingIfNeeded: sa.pointee.destination_low))
      : pointee.fib.lookup(v6High: sa.pointee.destination_high, low: sa.pointee.destination_low)
    sa.adjacencyAtomic.pointee.store(UInt64(generation) << 32 | UInt64(index), ordering: .relaxed)
    return index
  }

  /// The largest packet that may leave towards the SA's far end.
  @inline(__always)
  func outerMTU(_ sa: UnsafeMutablePointer<gw_sa>, _ adjacency: UInt32) -> Int {
    sa.pathMTU(linkMTU: pointee.adjacencies.adjacency(at: adjacency).pointee.mtu)
  }

  /// For outer IPv4 headers that may be fragmented (RFC 6864).
  @inline(__always)
  func nextIdentification() -> UInt16 {
    pointee.identification &+= 1
    return pointee.identification.bigEndian
  }
}
