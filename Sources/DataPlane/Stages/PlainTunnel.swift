import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// The usual packet to protect: one SA, ESP in tunnel mode over IPv4 with a counter-mode AEAD and an ICV of 16 bytes, no
/// UDP, and a next hop that is known. Neighbours with one policy are framed in one run, with all of the SA in registers
/// and down to the Ethernet header, so that after the engine only buffers are handed to their port.
/// Everything else stays in `outbound` for the stage's general way.
enum PlainTunnel {
  /// ESP header and IV.
  private static var headerLength: Int { 16 }
  private static var outerLength: Int { 20 }
  private static var icvLength: Int { 16 }
  /// In `CryptoJob.index`, which is the port otherwise: the outer packet is too large for its link.
  private static var isTooLarge: UInt16 { .max }
  /// Numbers before the end of the space at which the general way takes over, which knows how to stop.
  private static var reserve: UInt64 { 2_000_000 }

  @inline(never)
  static func run(_ w: WorkerPointer) {
    let list = w.pointee.outbound
    if list[0].pointee.policy != list[list.count &- 1].pointee.policy { prefetch(list) }
    var others = 0
    var jobs = 0
    var engine: crypto_burst?
    var isOneEngine = true
    var i = 0
    while i < list.count {
      let policy = list[i].pointee.policy.unsafelyUnwrapped
      var end = i &+ 1
      while end < list.count, list[end].pointee.policy == policy { end &+= 1 }
      if let sa = policy.loadSA(), let adjacency = way(w, sa) {
        isOneEngine = isOneEngine && (engine == nil || isSame(engine, sa.pointee.burst))
        engine = sa.pointee.burst
        jobs &+= frameRun(w, list.base + i, end &- i, policy, sa, adjacency, jobs)
        i = end
      } else {
        while i < end {
          (list.base + others).initialize(to: list[i])
          others &+= 1
          i &+= 1
        }
      }
    }
    w.pointee.outbound.count = others
    w.pointee.sealed.count = jobs
    w.mark(.outbound)
    guard jobs > 0 else { return }
    if isOneEngine, let engine { engine(w.pointee.jobs, jobs) } else { CryptoRuns.run(w, jobs) }
    w.mark(.crypto)
    finish(w, jobs)
    w.mark(.outbound)
  }

  @inline(__always)
  private static func isSame(_ a: crypto_burst?, _ b: crypto_burst?) -> Bool {
    unsafeBitCast(a, to: UInt.self) == unsafeBitCast(b, to: UInt.self)
  }

  /// Many SAs in the burst: their lines are asked for before any is needed.
  @inline(never)
  private static func prefetch(_ list: PacketList) {
    var i = 0
    while i < list.count {
      if let sa = list[i].pointee.policy.unsafelyUnwrapped.loadSA() {
        let lines = UnsafeRawPointer(sa)
        cdpdk_prefetch(lines)
        cdpdk_prefetch(lines + 64)
        cdpdk_prefetch(lines + 192)
      }
      i &+= 1
    }
  }

  /// The next hop, if the SA is a plain one that can carry packets now.
  @inline(__always)
  private static func way(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> UnsafePointer<Adjacency>? {
    let refused = GW_SA_TFC.rawValue | GW_SA_OUTER_V6.rawValue | GW_SA_UDP_ENCAP.rawValue
    guard sa.pointee.flags & (refused | GW_SA_TUNNEL.rawValue) == GW_SA_TUNNEL.rawValue,
      sa.pointee.sa_protocol == ESP.ipProtocol, sa.pointee.crypto == UInt8(GW_CRYPTO_AEAD.rawValue),
      sa.pointee.icv_length == UInt8(icvLength), sa.pointee.alignment <= 8,
      sa.nextAtomic.pointee.load(ordering: .relaxed) == nil,
      sa.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_UNUSABLE.rawValue == 0,
      sa.sequenceAtomic.pointee.load(ordering: .relaxed) < OutboundStage.lastSequence(sa) &- reserve
    else { return nil }
    let adjacency = w.pointee.adjacencies.adjacency(at: w.outerAdjacency(sa))
    guard adjacency.pointee.kind == .forward, adjacency.pointee.state == .reachable else { return nil }
    return adjacency
  }

  /// Fills jobs from number `job` on for the packets of the run that fit, with their numbers; returns how many.
  @inline(__always)
  private static func frameRun(
    _ w: WorkerPointer, _ run: UnsafeMutablePointer<PacketPointer>, _ count: Int,
    _ policy: UnsafeMutablePointer<gw_policy>, _ sa: UnsafeMutablePointer<gw_sa>,
    _ adjacency: UnsafePointer<Adjacency>, _ job: Int
  ) -> Int {
    w.pointee.lastNumbers = UnsafeRawPointer(sa.sequenceAtomic)
    let numbers = UInt64(truncatingIfNeeded: count)
    let first = sa.sequenceAtomic.pointee.wrappingAdd(numbers, ordering: .relaxed).oldValue &+ 1
    let (kept, bytes) = frame(w, sa, adjacency, run, count, sealed: w.pointee.sealed.base + job, job: job, first: first)
    if kept < count { giveBack(sa, first: first, count: numbers, used: UInt64(truncatingIfNeeded: kept)) }
    guard kept > 0 else { return 0 }
    let (packets, total) = (UInt64(truncatingIfNeeded: kept), UInt64(truncatingIfNeeded: bytes))
    w.pointee.counters.add(slot: policy.pointee.slot, packets: packets, bytes: total, now: w.pointee.now)
    w.pointee.counters.add(slot: sa.pointee.slot, packets: packets, bytes: total, now: w.pointee.now)
    if sa.pointee.flags & GW_SA_LIMITED.rawValue != 0 { Limits.charge(w, sa, packets: kept, bytes: bytes) }
    return kept
  }

  /// Of `count` numbers those that no packet got, unless another worker has taken numbers since: then they stay unused.
  @inline(never)
  private static func giveBack(_ sa: UnsafeMutablePointer<gw_sa>, first: UInt64, count: UInt64, used: UInt64) {
    _ = sa.sequenceAtomic.pointee.compareExchange(
      expected: first &- 1 &+ count, desired: first &- 1 &+ used, ordering: .relaxed)
  }

  /// The packet can be framed where it lies.
  @inline(never)
  private static func makeFit(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ adjacency: UnsafePointer<Adjacency>, limit: Int
  ) -> Bool {
    if Int(packet.pointee.length) &+ Int(sa.pointee.overhead) > limit,
      !fits(w, packet, sa, adjacency, limit: limit)
    {
      return false
    }
    return OutboundStage.hasRoom(w, packet, sa)
  }

  private static func fits(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ adjacency: UnsafePointer<Adjacency>, limit: Int
  ) -> Bool {
    packet.pointee.adjacency = w.outerAdjacency(sa)
    return TooBig.fits(w, packet, sa, limit: limit)
  }

  /// Headers before and the trailer behind each of `count` packets that fits, in place, and its job. Returns how many
  /// those are, and the bytes in them.
  @inline(__always)
  private static func frame(
    _ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ adjacency: UnsafePointer<Adjacency>,
    _ packets: UnsafeMutablePointer<PacketPointer>, _ count: Int, sealed: UnsafeMutablePointer<PacketPointer>, job: Int,
    first: UInt64
  ) -> (kept: Int, bytes: Int) {
    let flags = sa.pointee.flags
    let spi = UInt64(sa.pointee.spi)
    let salt = UInt64(sa.pointee.salt)
    let mask = Int(sa.pointee.alignment) &- 1
    let session = sa.session(of: w)
    let isExtended = flags & GW_SA_ESN.rawValue != 0
    let template = UnsafeRawPointer(sa.outerHeader)
    let outer = (template.load(as: UInt64.self), template.load(fromByteOffset: 8, as: UInt64.self))
    let outerEnd = template.load(fromByteOffset: 16, as: UInt32.self)
    let outerSum = sa.pointee.outer_sum
    let keptClass = OuterHeader.copiedClass(flags)
    let setsDF: UInt32 = flags & GW_SA_DF_SET.rawValue != 0 ? 1 : 0
    let copiesDF: UInt32 = flags & GW_SA_DF_COPY.rawValue != 0 ? 1 : 0
    let header = adjacency.pointee
    let mtu = Int(header.mtu)
    let path = Int(sa.pathMTUAtomic.pointee.load(ordering: .relaxed))
    let limit = path != 0 && path < mtu ? path : mtu
    let overhead = Int(sa.pointee.overhead)
    let jobs = w.pointee.jobs + job
    var lastIdentification = w.pointee.identification
    var kept = 0
    var bytes = 0
    var i = 0
    while i < count {
      let packet = packets[i]
      i &+= 1
      packet.pointee.sa = sa
      let mbuf = packet.pointee.mbuf
      let room = packet.pointee.ip - mbuf.pointee.buf_addr.unsafelyUnwrapped
      let isSimple =
        Int(packet.pointee.length) &+ overhead <= limit && room >= outerLength &+ headerLength &+ 14
        && room &+ Int(packet.pointee.length) &+ overhead <= Int(mbuf.pointee.buf_len)
      if !isSimple {
        w.pointee.identification = lastIdentification
        let fits = makeFit(w, packet, sa, adjacency, limit: limit)
        lastIdentification = w.pointee.identification
        guard fits else { continue }
      }
      let length = Int(packet.pointee.length)
      let text = packet.pointee.ip
      let job = jobs + kept
      let iv = (first &+ UInt64(truncatingIfNeeded: kept)).bigEndian
      (sealed + kept).initialize(to: packet)
      kept &+= 1
      bytes &+= length
      let textLength = (length &+ 2 &+ mask) & ~mask
      // RFC 4303 2.4: 1, 2, 3 …, over which pad length and next header are put.
      let padding = textLength &- 2 &- length
      let next = UInt16(packet.pointee.version == 4 ? IPProtocol.ipip : IPProtocol.ipv6)
      (text + length).storeBytes(of: UInt64(0x0807_0605_0403_0201).littleEndian, as: UInt64.self)
      (text + (textLength &- 2)).storeBytes(
        of: (next << 8 | UInt16(truncatingIfNeeded: padding)).littleEndian, as: UInt16.self)
      // The sequence number is the IV (RFC 4106 3.1); its low half is the one on the wire.
      let identity = spi | iv & 0xffff_ffff_0000_0000
      let esp = text - headerLength
      esp.storeBytes(of: identity, as: UInt64.self)
      esp.storeBytes(of: iv, toByteOffset: 8, as: UInt64.self)

      ESP.describe(
        job, session: session, header: esp, text: text, textLength: textLength, identity: identity,
        isExtended: isExtended, high: UInt32(truncatingIfNeeded: iv))
      job.pointee.nonce = (salt | iv << 32, iv >> 32)

      let total = textLength &+ (outerLength &+ headerLength &+ icvLength)
      let marks = packet.marks
      let isWhole = UInt64(PacketMarks.dontFragment(marks) & copiesDF | setsDF)
      let added = UInt64(PacketMarks.trafficClass(marks) & keptClass)
      let wireTotal = UInt64(UInt16(truncatingIfNeeded: total).bigEndian)
      // DF takes no identification (RFC 6864 4.1). No branch: packets with DF and without come mixed.
      lastIdentification &+= UInt16(truncatingIfNeeded: 1 &- isWhole)
      let identification = UInt64(lastIdentification.bigEndian) & (isWhole &- 1)
      let fragment = isWhole << 6
      var sum = UInt64(outerSum) &+ added << 8 &+ wireTotal &+ identification &+ fragment
      sum = (sum & 0xffff) &+ (sum >> 16)
      sum = (sum & 0xffff) &+ (sum >> 16)
      let start = esp - outerLength
      start.storeBytes(
        of: outer.0 | added << 8 | wireTotal << 16 | identification << 32 | fragment << 48, as: UInt64.self)
      start.storeBytes(of: outer.1 | (~sum & 0xffff) << 16, toByteOffset: 8, as: UInt64.self)
      start.storeBytes(of: outerEnd, toByteOffset: 16, as: UInt32.self)

      if total <= mtu {
        let mbuf = packet.pointee.mbuf
        let frame = start - 14
        header.writeEthernetHeader(to: frame)
        mbuf.pointee.data_off = UInt16(truncatingIfNeeded: frame - mbuf.pointee.buf_addr.unsafelyUnwrapped)
        mbuf.setLength(total &+ 14)
        job.pointee.index = header.port
      } else {
        packet.pointee.ip = start
        packet.pointee.length = Int32(truncatingIfNeeded: total)
        packet.pointee.version = 4
        packet.pointee.dontFragment = isWhole != 0
        job.pointee.index = isTooLarge
      }
    }
    w.pointee.identification = lastIdentification
    return (kept, bytes)
  }

  /// Sealed frames to their ports' buffers.
  @inline(__always)
  private static func finish(_ w: WorkerPointer, _ count: Int) {
    let packets = w.pointee.sealed.base
    let jobs = w.pointee.jobs
    var i = 0
    while i < count {
      let port = jobs[i].index
      guard port != isTooLarge, jobs[i].succeeded != 0 else {
        unusual(w, packets[i], failed: jobs[i].succeeded == 0)
        i &+= 1
        continue
      }
      let p = w.pointee.ports + Int(port)
      var waiting = p.pointee.txCount
      let tx = p.pointee.tx + (waiting &- i)
      let end = min(count, i &+ Worker.txCapacity &- waiting)
      let first = i
      while i < end, jobs[i].index == port, jobs[i].succeeded != 0 {
        tx[i] = packets[i].pointee.mbuf
        i &+= 1
      }
      waiting &+= i &- first
      p.pointee.txCount = waiting
      if waiting == Worker.txCapacity { TransmitStage.flush(w, port: Int(port)) }
    }
  }

  @inline(never)
  private static func unusual(_ w: WorkerPointer, _ packet: PacketPointer, failed: Bool) {
    let sa = packet.pointee.sa.unsafelyUnwrapped
    if failed {
      OutboundStage.dropCounted(w, packet, sa, .sealFailed)
    } else {
      packet.pointee.adjacency = w.outerAdjacency(sa)
      packet.trim()
      w.pointee.transmit.append(packet)
    }
  }
}
