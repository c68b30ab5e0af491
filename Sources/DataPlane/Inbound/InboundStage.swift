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
      w.pointee.jobPackets.count = 0
      let taken = FastOpening.prepareFirst(w, candidates)
      let isOneSA = taken == candidates.count
      if !isOneSA {
        let others = candidates.dropFirst(taken)
        prepare(w, others, lookUp(w, others))
      }
      let jobs = w.pointee.jobPackets.count
      w.mark(.inbound)
      guard jobs > 0 else { continue }
      if isOneSA {
        w.pointee.jobPackets[0].pointee.sa.unsafelyUnwrapped.pointee.burst.unsafelyUnwrapped(w.pointee.jobs, jobs)
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

  // MARK: Before the engine

  /// Jobs for those of the first `count` packets of a list that pass the checks, behind those that `jobPackets` has.
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
      let index = w.pointee.jobPackets.count
      let job = w.pointee.jobs + index
      let header = packet.pointee.ip + Int(packet.pointee.payloadOffset)
      let length = Int(packet.pointee.length) &- Int(packet.pointee.payloadOffset)
      if sa.pointee.sa_protocol != ESP.ipProtocol {
        if GeneralInbound.prepare(w, packet, opener, job, index: index) { w.pointee.jobPackets.append(packet) }
      } else if let reason = refuses(packet, sa, header, length) {
        w.drop(packet, sa, reason)
      } else {
        ESP.parse(
          sa, header: header, length: length, sequence: packet.pointee.sequence, session: opener.session(of: w),
          job: job)
        w.pointee.jobPackets.append(packet)
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
    let sa = w.pointee.jobPackets[0].pointee.sa.unsafelyUnwrapped
    accept(w, sa, 0, count)
    opened(w, sa, 0, count)
  }

  static func finish(_ w: WorkerPointer, _ count: Int) {
    let packets = w.pointee.jobPackets
    let jobs = w.pointee.jobs
    var i = 0
    while i < count {
      let sa = packets[i].pointee.sa.unsafelyUnwrapped
      guard jobs[i].succeeded != 0 else {
        w.drop(packets[i], sa, .integrity)
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
    let packets = w.pointee.jobPackets.base + first
    let jobs = w.pointee.jobs + first
    ReplayWindow.accept(sa, count: end &- first) {
      packets[$0].pointee.sequence
    } refused: {
      jobs[$0].succeeded = $1 == .duplicate ? isDuplicate : isTooOld
    }
  }

  @inline(never)
  private static func dropReplayed(_ w: WorkerPointer, _ index: Int) {
    let packet = w.pointee.jobPackets[index]
    let reason: DropReason = w.pointee.jobs[index].succeeded == isDuplicate ? .replayDuplicate : .replayTooOld
    w.drop(packet, packet.pointee.sa.unsafelyUnwrapped, reason)
  }

  /// ESP of one SA.
  @inline(__always)
  private static func opened(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ first: Int, _ end: Int) {
    let packets = w.pointee.jobPackets
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
        w.drop(packet, sa, .espPadding)
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
        AHStage.opened(w, w.pointee.jobPackets[i], sa, index: i, &count)
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
