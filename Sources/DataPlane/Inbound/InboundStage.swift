import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// IPsec addressed to this gateway: SAD lookup, replay pre-check, decrypt and verify by the burst, replay update, and
/// the inner packets on to `policy`. Runs again for as long as packets come out that are IPsec themselves.
enum InboundStage {
  /// SAs that a packet may pass through, one inside the other.
  static let maximumDepth: UInt8 = 4

  @inline(never)
  static func run(_ w: WorkerPointer) {
    while w.pointee.inbound.count > 0 {
      let candidates = w.pointee.inbound
      w.pointee.inbound.count = 0
      w.pointee.sealed.count = 0
      let taken = FastOpening.prepareFirst(w, candidates)
      let isOneSA = taken == candidates.count
      if !isOneSA {
        let others = candidates.dropFirst(taken)
        prepare(w, others, lookUp(w, others))
      }
      let jobs = w.pointee.sealed.count
      w.mark(.inbound)
      guard jobs > 0 else { continue }
      if isOneSA {
        w.pointee.sealed[0].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped(w.pointee.jobs, jobs)
        w.mark(.crypto)
        finishOne(w, jobs)
      } else {
        CryptoRuns.run(w, jobs)
        w.mark(.crypto)
        finish(w, jobs)
      }
      w.mark(.inbound)
    }
  }

  // MARK: Lookup

  /// Those that have an SA move to the front of the list; returns how many. The others go where clear packets go.
  @inline(__always)
  private static func lookUp(_ w: WorkerPointer, _ candidates: PacketList) -> Int {
    let isScattered =
      candidates[0].pointee.hash != candidates[candidates.count &- 1].pointee.hash && w.pointee.inboundSAs.isLarge
    if isScattered { prefetchEntries(w, candidates) }
    let found = lookUpEach(w, candidates)
    if isScattered { prefetchSAs(w, candidates, found) }
    return found
  }

  /// Many SAs of very many in the burst: what each look-up reads is asked for before any is made.
  @inline(never)
  private static func prefetchEntries(_ w: WorkerPointer, _ candidates: PacketList) {
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
  private static func prefetchSAs(_ w: WorkerPointer, _ list: PacketList, _ count: Int) {
    var i = 0
    while i < count {
      let sa = list[i].pointee.sa.unsafelyUnwrapped
      i &+= 1
      cdpdk_prefetch(sa.pointee.session)
      cdpdk_prefetch_write(w.pointee.counters.base + Int(sa.pointee.slot))
    }
  }

  @inline(__always)
  private static func lookUpEach(_ w: WorkerPointer, _ candidates: PacketList) -> Int {
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
  private static func lookUp(_ w: WorkerPointer, _ packet: PacketPointer) -> InboundSA? {
    guard let header = ipsecHeader(w, packet) else { return nil }
    return take(w, packet, find(w, packet, header), header)
  }

  /// Gives the packet the SA that was found for it.
  @inline(__always)
  private static func take(
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
  private static func withoutSA(_ w: WorkerPointer, _ packet: PacketPointer, _ header: UnsafeMutableRawPointer) {
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

  private static func isIPInIP(_ packet: PacketPointer) -> Bool {
    packet.pointee.ipProtocol == IPProtocol.ipip || packet.pointee.ipProtocol == IPProtocol.ipv6
  }

  /// The ESP, AH or IPComp header; nil when the packet went elsewhere.
  @inline(__always)
  private static func ipsecHeader(_ w: WorkerPointer, _ packet: PacketPointer) -> UnsafeMutableRawPointer? {
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
  private static func tooShort(_ w: WorkerPointer, _ packet: PacketPointer) {
    if isIPInIP(packet) || w.adjacency(of: packet).pointee.kind != .local {
      w.enqueueForPolicy(packet)
    } else {
      w.drop(packet, .espTooShort)
    }
  }

  /// UDP to port 4500, or another that SAs have (RFC 3948 2): a keepalive, IKE behind the non-ESP marker, or ESP.
  @inline(never)
  private static func encapsulated(
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
  private static func find(
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
  private static func spi(_ packet: PacketPointer, _ header: UnsafeMutableRawPointer) -> UInt32 {
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
  private static func isOwn(_ w: WorkerPointer, _ packet: PacketPointer, spi: UInt32, saProtocol: UInt8) -> Bool {
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

  // MARK: Before the engine

  /// Jobs for those of the first `count` packets of a list that pass the checks, behind those that `sealed` has.
  @inline(__always)
  static func prepare(_ w: WorkerPointer, _ found: PacketList, _ count: Int) {
    var i = 0
    while i < count {
      let sa = InboundSA(found: found[i].pointee.sa.unsafelyUnwrapped)
      var end = i &+ 1
      while end < count, found[end].pointee.sa == sa.record { end &+= 1 }
      if sa.record.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_UNUSABLE.rawValue != 0 {
        while i < end {
          UnusableSA.inbound(w, found[i], sa.record)
          i &+= 1
        }
      } else if FastOpening.takes(sa) {
        FastOpening.prepare(w, found.base + i, end &- i, sa)
      } else {
        prepareOthers(w, found.base + i, end &- i, sa)
      }
      i = end
    }
  }

  /// Neighbours of one SA that `FastOpening` does not take.
  @inline(never)
  private static func prepareOthers(
    _ w: WorkerPointer, _ packets: UnsafeMutablePointer<PacketPointer>, _ count: Int, _ opener: InboundSA
  ) {
    let sa = opener.record
    var i = 0
    while i < count {
      let packet = packets[i]
      i &+= 1
      let index = w.pointee.sealed.count
      let job = w.pointee.jobs + index
      let header = packet.pointee.ip + Int(packet.pointee.payloadOffset)
      let length = Int(packet.pointee.length) &- Int(packet.pointee.payloadOffset)
      if sa.pointee.sa_protocol != ESP.ipProtocol {
        if GeneralInbound.prepare(w, packet, opener, job, index: index) { w.pointee.sealed.append(packet) }
      } else if let reason = refuses(packet, sa, header, length) {
        drop(w, packet, sa, reason)
      } else {
        ESP.parse(
          sa, header: header, length: length, sequence: packet.pointee.sequence, session: opener.session(of: w),
          job: job)
        w.pointee.sealed.append(packet)
      }
    }
  }

  /// Why an ESP packet is not opened.
  @inline(__always)
  static func refuses(
    _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ header: UnsafeMutableRawPointer, _ length: Int
  ) -> DropReason? {
    guard packet.pointee.isEncapsulated == (sa.pointee.flags & GW_SA_UDP_ENCAP.rawValue != 0) else {
      return .encapsulationMismatch
    }
    guard length >= ESP.headerLength &+ Int(sa.pointee.iv_length) &+ 2 &+ Int(sa.pointee.icv_length) else {
      return .espTooShort
    }
    guard ESP.isWellFormed(sa, length: length) else { return .espAlignment }
    return refusesSequence(packet, sa, low: UnsafeRawPointer(header).big32(at: 4))
  }

  /// The replay pre-check, before any cryptography (RFC 4303 3.4.3, RFC 4302 3.4.3).
  @inline(__always)
  static func refusesSequence(
    _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, low: UInt32
  ) -> DropReason? {
    let sequence = ReplayWindow.inferHigh(sa, low: low)
    packet.pointee.sequence = sequence
    if sequence == 0, sa.pointee.replay_window != 0 { return .espSequenceZero }
    guard ReplayWindow.check(sa, sequence: sequence) else {
      let highest = sa.replayHighestAtomic.pointee.load(ordering: .relaxed)
      return sequence &+ UInt64(sa.pointee.replay_window) <= highest ? .replayTooOld : .replayDuplicate
    }
    return nil
  }

  /// Counts against the SA too.
  @inline(never)
  static func drop(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ reason: DropReason
  ) {
    let slot = sa.pointee.slot
    switch reason {
    case .integrity: w.pointee.counters.addIntegrityFailures(slot: slot, 1)
    case .replayTooOld, .replayDuplicate: w.pointee.counters.addReplayed(slot: slot, 1)
    default: break
    }
    w.pointee.counters.addDrops(slot: slot, 1)
    w.drop(packet, reason)
  }

  // MARK: After the engine

  /// Of one SA, if all succeeded.
  @inline(__always)
  private static func finishOne(_ w: WorkerPointer, _ count: Int) {
    let jobs = w.pointee.jobs
    var succeeded = jobs[0].succeeded
    var i = 1
    while i < count {
      succeeded &= jobs[i].succeeded
      i &+= 1
    }
    if succeeded == 0 { return finish(w, count) }
    let sa = w.pointee.sealed[0].pointee.sa.unsafelyUnwrapped
    accept(w, sa, 0, count)
    opened(w, sa, 0, count)
  }

  static func finish(_ w: WorkerPointer, _ count: Int) {
    let packets = w.pointee.sealed
    let jobs = w.pointee.jobs
    var i = 0
    while i < count {
      let sa = packets[i].pointee.sa.unsafelyUnwrapped
      guard jobs[i].succeeded != 0 else {
        drop(w, packets[i], sa, .integrity)
        i &+= 1
        continue
      }
      var end = i &+ 1
      while end < count, packets[end].pointee.sa == sa, jobs[end].succeeded != 0 { end &+= 1 }
      accept(w, sa, i, end)
      if sa.pointee.sa_protocol == ESP.ipProtocol { opened(w, sa, i, end) } else { openedAH(w, sa, i, end) }
      i = end
    }
  }

  /// What a job's `succeeded` says of a packet that authenticated and that the replay window then refused.
  private static var isDuplicate: UInt8 { 2 }
  private static var isTooOld: UInt8 { 3 }

  /// Marks the numbers of neighbours of one SA, which authenticated, as received.
  @inline(__always)
  private static func accept(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ first: Int, _ end: Int) {
    let packets = w.pointee.sealed.base + first
    let jobs = w.pointee.jobs + first
    ReplayWindow.accept(sa, count: end &- first) {
      packets[$0].pointee.sequence
    } refused: {
      jobs[$0].succeeded = $1 == .duplicate ? isDuplicate : isTooOld
    }
  }

  @inline(never)
  private static func dropReplayed(_ w: WorkerPointer, _ index: Int) {
    let packet = w.pointee.sealed[index]
    let reason: DropReason = w.pointee.jobs[index].succeeded == isDuplicate ? .replayDuplicate : .replayTooOld
    drop(w, packet, packet.pointee.sa.unsafelyUnwrapped, reason)
  }

  /// ESP of one SA.
  @inline(__always)
  private static func opened(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ first: Int, _ end: Int) {
    let packets = w.pointee.sealed
    let jobs = w.pointee.jobs
    // What the usual packet's trailer says is in it; nothing that a byte may say, if there is no tunnel.
    let inner = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0 ? Int(IPProtocol.ipip) : -1
    var count = SACount(sa)
    var i = first
    while i < end {
      let packet = packets[i]
      let job = jobs + i
      i &+= 1
      guard job.pointee.succeeded == 1 else {
        dropReplayed(w, i &- 1)
        continue
      }
      let start = UnsafeMutableRawPointer(job.pointee.text)
      let payload = ESP.readTrailer(start, length: Int(job.pointee.text_length))
      guard payload.isValid || acceptsPadding(w, job) else {
        drop(w, packet, sa, .espPadding)
        continue
      }
      count.add(bytes: payload.length)
      if Int(payload.nextHeader) == inner, sortInner(w, packet, start, length: payload.length) { continue }
      if packet.pointee.isEncapsulated { notePeer(w, packet, sa) }
      unwrap(w, packet, sa, payload: start, length: payload.length, nextHeader: payload.nextHeader)
    }
    count.end(w)
  }

  /// Of an authenticated packet whose padding is not 1, 2, 3 …: it lies within the packet, and any will do.
  @inline(never)
  private static func acceptsPadding(_ w: WorkerPointer, _ job: UnsafeMutablePointer<CryptoJob>) -> Bool {
    let length = Int(job.pointee.text_length)
    return Int(job.pointee.text[length &- 2]) &+ 2 <= length
      && w.pointee.shared.pointee.acceptsAnyPadding.load(ordering: .relaxed)
  }

  @inline(never)
  private static func openedAH(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ first: Int, _ end: Int) {
    var count = SACount(sa)
    var i = first
    while i < end {
      if w.pointee.jobs[i].succeeded == 1 {
        AHStage.opened(w, w.pointee.sealed[i], sa, index: i, &count)
      } else {
        dropReplayed(w, i)
      }
      i &+= 1
    }
    count.end(w)
  }

  /// The peer is behind a NAT that gave it another port or address (RFC 3948; reported once until acted upon).
  @inline(never)
  private static func notePeer(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    let seen = packet.pointee.peer
    let known = sa.peerAtomic.pointee.load(ordering: .relaxed)
    guard known != seen else { return }
    let event = Event(.mapping, number: sa.pointee.serial, value: seen, key: packet.pointee.key)
    sa.peerAtomic.pointee.store(w.pointee.events.push(event) ? seen : known, ordering: .relaxed)
  }

  /// One packet of an SA whose packets need no engine.
  @inline(never)
  static func count(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, bytes: Int) {
    var count = SACount(sa)
    count.add(bytes: bytes)
    count.end(w)
  }

  /// Takes the protection off: `length` bytes at `payload` are what `nextHeader` says.
  @inline(never)
  static func unwrap(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, payload: UnsafeMutableRawPointer,
    length: Int, nextHeader: UInt8
  ) {
    let isTunnel = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0
    if isTunnel && nextHeader == IPProtocol.ipip {
      tunnel(w, packet, sa, inner: payload, length: length, version: 4)
    } else if isTunnel && nextHeader == IPProtocol.ipv6 {
      tunnel(w, packet, sa, inner: payload, length: length, version: 6)
    } else {
      unwrapOther(w, packet, sa, payload: payload, length: length, nextHeader: nextHeader)
    }
  }

  @inline(never)
  private static func unwrapOther(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, payload: UnsafeMutableRawPointer,
    length: Int, nextHeader: UInt8
  ) {
    // RFC 4303 2.6: ESP's alone.
    if nextHeader == IPProtocol.noNextHeader, sa.pointee.sa_protocol == ESP.ipProtocol {
      w.drop(packet, .espDummy)
      return
    }
    let isTunnel = sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0
    // A tunnel's inner packet may be AH, ESP or IPComp of the same bundle: those keep the outer header.
    let isNested =
      nextHeader == IPProtocol.esp || nextHeader == IPProtocol.ah || nextHeader == IPProtocol.ipcomp
    guard !isTunnel || isNested else {
      drop(w, packet, sa, .espNextHeader)
      return
    }
    packet.pointee.depth &+= 1
    Transport.restore(packet, payload: payload, length: length, nextHeader: nextHeader)
    reparse(w, packet, sa)
  }

  /// The usual packet out of the first tunnel. False: it is another, and nothing was done.
  @inline(__always)
  private static func sortInner(
    _ w: WorkerPointer, _ packet: PacketPointer, _ inner: UnsafeMutableRawPointer, length: Int
  ) -> Bool {
    let outerMarks = packet.marks
    guard packet.pointee.depth == 0, let plain = SimpleIPv4(inner, length: length),
      outerMarks & PacketMarks.opened == 0 || (outerMarks ^ plain.marks) & PacketMarks.opened == 0
    else { return false }
    let header = SimpleIPv4.header(opened: packet.header)
    guard w.sortPlain(packet, plain, inner, header, takesESP: false) else { return false }
    packet.pointee.ip = inner
    return true
  }

  @inline(__always)
  private static func tunnel(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, inner: UnsafeMutableRawPointer,
    length: Int, version: UInt8
  ) {
    let outerClass = packet.pointee.trafficClass
    packet.pointee.ip = inner
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    packet.pointee.depth &+= 1
    guard parsed(w, packet, sa, version: version) else { return }
    if outerClass & 3 != 0, sa.pointee.flags & GW_SA_NO_ECN.rawValue == 0 {
      let ecn = ECN.decapsulate(inner: packet.pointee.trafficClass, outer: outerClass)
      guard ecn != ECN.drop else {
        drop(w, packet, sa, .ecnCongestion)
        return
      }
      if ecn != packet.pointee.trafficClass & 3 { packet.setECN(ecn) }
    }
    resort(w, packet, sa)
  }

  /// Transport mode and bundles: the packet stands whole at `packet.ip` again.
  @inline(never)
  static func reparse(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    if parsed(w, packet, sa, version: packet.pointee.version) { resort(w, packet, sa) }
  }

  /// What came out of an SA; false: it is malformed, and dropped.
  @inline(__always)
  private static func parsed(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, version: UInt8
  ) -> Bool {
    packet.pointee.origin = .tunnel
    guard (version == 4 ? IPParser.ipv4(packet) : IPParser.ipv6(packet)) == nil else {
      drop(w, packet, sa, .innerMalformed)
      return false
    }
    return true
  }

  @inline(__always)
  private static func resort(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>) {
    guard packet.pointee.depth < maximumDepth else {
      drop(w, packet, sa, .nestingTooDeep)
      return
    }
    // What goes to `policy` is trimmed there, unless it leaves as it is.
    if w.sort(packet) { packet.trim() }
  }
}

/// The engine's key schedules of an SA for a worker: jobs get them from here alone. What opens has another type than what
/// seals, which takes a plain record.
extension InboundSA {
  @inline(__always)
  func session(of w: WorkerPointer) -> UnsafeMutableRawPointer { record.anySession(of: w) }
}

extension UnsafeMutablePointer where Pointee == gw_sa {
  @inline(__always)
  func sealingSession(of w: WorkerPointer) -> UnsafeMutableRawPointer {
    assert(pointee.flags & GW_SA_INBOUND.rawValue == 0, "an SA that opens seals nothing")
    return anySession(of: w)
  }

  @inline(__always)
  fileprivate func anySession(of w: WorkerPointer) -> UnsafeMutableRawPointer {
    pointee.session.unsafelyUnwrapped + Int(pointee.session_stride) &* w.pointee.id
  }
}

extension UnsafeMutablePointer where Pointee == Packet {
  @inline(never)
  func setECN(_ ecn: UInt8) {
    let trafficClass = pointee.trafficClass & 0xfc | ecn
    pointee.trafficClass = trafficClass
    if pointee.version == 4 {
      IPv4Header.setTypeOfService(pointee.ip, trafficClass)
    } else {
      IPv6Header.setTrafficClass(pointee.ip, trafficClass)
    }
  }
}

/// Adds up what neighbours of one SA did, so that its counters are touched once.
struct SACount {
  let sa: UnsafeMutablePointer<gw_sa>
  private var packets = 0
  private var bytes = 0

  @inline(__always)
  init(_ sa: UnsafeMutablePointer<gw_sa>) { self.sa = sa }

  @inline(__always)
  mutating func add(bytes length: Int) {
    packets &+= 1
    bytes &+= length
  }

  @inline(__always)
  func end(_ w: WorkerPointer) {
    guard packets > 0 else { return }
    w.pointee.counters.add(slot: sa.pointee.slot, packets: UInt64(packets), bytes: UInt64(bytes), now: w.pointee.now)
    if sa.pointee.flags & GW_SA_LIMITED.rawValue != 0 { ByteLifetimes.charge(w, sa, packets: packets, bytes: bytes) }
  }
}
