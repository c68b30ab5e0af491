import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// The usual packet to protect: one SA, ESP in tunnel mode over IPv4 with a counter-mode AEAD and an ICV of 16 bytes, no
/// UDP, and a next hop that is known. Neighbours with one policy are framed in one run, down to the Ethernet header, so
/// that after the engine only buffers are handed to their port. Of many SAs the runs are of one packet: that is a way of
/// its own, for what a run costs beside its packets is half as much again as a packet.
/// Everything else stays in `outbound` for the stage's general way.
enum FastTunnel {
  @inline(never)
  static func run(_ w: WorkerPointer) {
    let list = w.pointee.outbound
    if w.pointee.burstPolicyCount == list.count { runAll(w, list) } else { runEach(w, list) }
    w.pointee.burstPolicyCount = 0
  }

  /// All have one policy.
  @inline(__always)
  private static func runAll(_ w: WorkerPointer, _ list: PacketList) {
    let policy = list[0].pointee.policy.unsafelyUnwrapped
    guard let sa = policy.loadSA(), let adjacency = way(w, sa) else { return }
    let number = takeNumbers(w, sa, list.count)
    w.pointee.outbound.count = 0
    let framed = frameRun(w, list.base, list.count, policy, sa, adjacency, number: number, job: 0)
    w.mark(.outbound)
    guard framed.count > 0 else { return }
    sa.pointee.burst.unsafelyUnwrapped(w.pointee.jobs, framed.count)
    w.mark(.crypto)
    if !sendAll(w, framed, port: adjacency.pointee.port) {
      keep(w, list.base, framed.count, sa, job: 0)
      finish(w, framed.count)
    }
    w.mark(.outbound)
  }

  /// False: something is unusual about them, and nothing was done.
  @inline(__always)
  private static func sendAll(_ w: WorkerPointer, _ framed: Framed, port: UInt16) -> Bool {
    guard framed.areSimple, w.pointee.ports[Int(port)].txCount == framed.waiting else { return false }
    let jobs = w.pointee.jobs
    var (succeeded, bytes): (UInt8, Int) = (1, framed.count &* FastFrame.added)
    var i = 0
    while i < framed.count {
      succeeded &= jobs[i].succeeded
      bytes &+= Int(jobs[i].text_length)
      i &+= 1
    }
    guard succeeded != 0 else { return false }
    TransmitStage.add(w, framed.count, bytes: bytes, port: Int(port))
    return true
  }

  /// Packets of one SA and their jobs, from `job` on, as what comes behind the engine wants them.
  @inline(__always)
  private static func keep(
    _ w: WorkerPointer, _ packets: UnsafeMutablePointer<PacketPointer>, _ count: Int,
    _ sa: UnsafeMutablePointer<gw_sa>, job: Int
  ) {
    let sealed = w.pointee.jobPackets.base + job
    var i = 0
    while i < count {
      let packet = packets[i]
      packet.pointee.sa = sa
      (sealed + i).initialize(to: packet)
      i &+= 1
    }
  }

  @inline(__always)
  private static func runEach(_ w: WorkerPointer, _ list: PacketList) {
    let jobs = frameEach(w, list)
    w.mark(.outbound)
    guard jobs > 0 else { return }
    CryptoRuns.run(w, jobs)
    w.mark(.crypto)
    finish(w, jobs)
    w.mark(.outbound)
  }

  /// Run by run. Returns how many jobs there are.
  @inline(__always)
  private static func frameEach(_ w: WorkerPointer, _ list: PacketList) -> Int {
    if list[0].pointee.policy != list[list.count &- 1].pointee.policy { prefetch(list) }
    var jobs = 0
    var others = 0
    var i = 0
    while i < list.count {
      let first = list.base + i
      let policy = first[0].pointee.policy.unsafelyUnwrapped
      i &+= 1
      while i < list.count, list[i].pointee.policy == policy { i &+= 1 }
      let count = list.base + i - first
      if let sa = policy.loadSA(), let adjacency = way(w, sa) {
        let number = takeNumbers(w, sa, count)
        if count == 1, frameOne(w, first[0], policy, sa, adjacency, number: number, job: jobs) {
          jobs &+= 1
        } else {
          let framed = frameRun(w, first, count, policy, sa, adjacency, number: number, job: jobs)
          keep(w, first, framed.count, sa, job: jobs)
          jobs &+= framed.count
        }
      } else {
        (list.base + others).update(from: first, count: count)
        others &+= count
      }
    }
    w.pointee.outbound.count = others
    return jobs
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

  // MARK: Numbers

  /// Returns the first of `count` numbers.
  @inline(__always)
  private static func takeNumbers(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ count: Int) -> UInt64 {
    w.pointee.lastNumbers = UnsafeRawPointer(sa.sequenceAtomic)
    return sa.sequenceAtomic.pointee.wrappingAdd(UInt64(truncatingIfNeeded: count), ordering: .relaxed).oldValue &+ 1
  }

  /// The next hop, if the SA is a plain one that can carry packets now.
  @inline(__always)
  private static func way(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>) -> UnsafePointer<Adjacency>? {
    let wanted = GW_SA_FAST_PATH.rawValue | GW_SA_TUNNEL.rawValue
    let refused = GW_SA_TFC.rawValue | GW_SA_OUTER_V6.rawValue
    guard sa.pointee.flags & (refused | wanted) == wanted, sa.nextAtomic.pointee.load(ordering: .relaxed) == nil,
      sa.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_UNUSABLE.rawValue == 0,
      // Where numbers run short the general way takes over, which knows how to stop.
      sa.sequenceAtomic.pointee.load(ordering: .relaxed) < sa.carefulFromAtomic.pointee.load(ordering: .relaxed)
    else { return nil }
    let adjacency = w.pointee.adjacencies.adjacency(at: w.outerAdjacency(sa))
    guard adjacency.pointee.kind == .forward, adjacency.pointee.state == .reachable else { return nil }
    return adjacency
  }

  /// Of `count` numbers those that no packet got, unless another worker has taken numbers since: then they stay unused.
  @inline(never)
  private static func giveBack(_ sa: UnsafeMutablePointer<gw_sa>, first: UInt64, count: Int, used: Int) {
    let before = first &- 1
    _ = sa.sequenceAtomic.pointee.compareExchange(
      expected: before &+ UInt64(truncatingIfNeeded: count), desired: before &+ UInt64(truncatingIfNeeded: used),
      ordering: .relaxed)
  }

  // MARK: Frames

  /// Fills job `job` for the only packet of a run, if it fits where it lies; false: it does not, and nothing was done.
  @inline(__always)
  private static func frameOne(
    _ w: WorkerPointer, _ packet: PacketPointer, _ policy: UnsafeMutablePointer<gw_policy>,
    _ sa: UnsafeMutablePointer<gw_sa>, _ adjacency: UnsafePointer<Adjacency>, number: UInt64, job: Int
  ) -> Bool {
    var frame = FastFrame(w, sa, adjacency)
    guard frame.isSimple(packet) else { return false }
    packet.pointee.sa = sa
    w.pointee.jobPackets.base[job] = packet
    let bytes = Int(packet.pointee.length)
    frame.write(packet, w.pointee.jobs + job, number: number)
    w.pointee.identification = frame.identification
    charge(w, policy, sa, packets: 1, bytes: bytes)
    return true
  }

  /// What became of a run.
  private struct Framed {
    /// Jobs, and the packets that they are for: the first of the run, now.
    let count: Int
    /// Their frames are as they will leave, in the port's buffer from `waiting` on.
    let areSimple: Bool
    let waiting: Int
  }

  /// Fills jobs from number `job` on for the packets of a run that fit, with numbers from `number` on. Their buffers are
  /// put behind the port's that wait, where they stay if all goes well.
  @inline(never)
  private static func frameRun(
    _ w: WorkerPointer, _ packets: UnsafeMutablePointer<PacketPointer>, _ count: Int,
    _ policy: UnsafeMutablePointer<gw_policy>, _ sa: UnsafeMutablePointer<gw_sa>,
    _ adjacency: UnsafePointer<Adjacency>, number first: UInt64, job: Int
  ) -> Framed {
    let jobs = w.pointee.jobs + job
    let port = w.pointee.ports + Int(adjacency.pointee.port)
    let waiting = port.pointee.txCount
    let tx = port.pointee.tx + waiting
    var frame = FastFrame(w, sa, adjacency)
    var (kept, others, bytes) = (0, 0, 0)
    var i = 0
    while i < count {
      let packet = packets[i]
      let length = Int(packet.pointee.length)
      let number = first &+ UInt64(truncatingIfNeeded: kept)
      if frame.isSimple(packet) {
        tx[kept] = packet.pointee.mbuf
        frame.write(packet, jobs + kept, number: number)
      } else {
        others &+= 1
        w.pointee.identification = frame.identification
        let fits = frameOther(w, packet, sa, adjacency, jobs + kept, number: number)
        frame.identification = w.pointee.identification
        guard fits else {
          i &+= 1
          continue
        }
      }
      if kept != i { packets[kept] = packet }
      bytes &+= length
      kept &+= 1
      i &+= 1
    }
    w.pointee.identification = frame.identification
    if kept < count { giveBack(sa, first: first, count: count, used: kept) }
    if kept > 0 { charge(w, policy, sa, packets: kept, bytes: bytes) }
    return Framed(count: kept, areSimple: others == 0, waiting: waiting)
  }

  /// One that does not fit where it lies, or not at all: then its number is the next one's.
  @inline(never)
  private static func frameOther(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ adjacency: UnsafePointer<Adjacency>, _ job: UnsafeMutablePointer<CryptoJob>, number: UInt64
  ) -> Bool {
    var frame = FastFrame(w, sa, adjacency)
    if Int(packet.pointee.length) &+ Int(sa.pointee.overhead) > frame.limit,
      !fits(w, packet, sa, adjacency, limit: frame.limit)
    {
      return false
    }
    packet.pointee.sa = sa
    guard OutboundStage.hasRoom(w, packet, sa) else { return false }
    // An answer to the sender may have taken one.
    frame.identification = w.pointee.identification
    frame.writeAny(packet, job, number: number)
    w.pointee.identification = frame.identification
    return true
  }

  @inline(__always)
  private static func charge(
    _ w: WorkerPointer, _ policy: UnsafeMutablePointer<gw_policy>, _ sa: UnsafeMutablePointer<gw_sa>, packets: Int,
    bytes: Int
  ) {
    let (number, total) = (UInt64(truncatingIfNeeded: packets), UInt64(truncatingIfNeeded: bytes))
    let (counters, now) = (w.pointee.counters, w.pointee.now)
    counters.add(slot: policy.pointee.slot, packets: number, bytes: total, now: now)
    counters.add(slot: sa.pointee.slot, packets: number, bytes: total, now: now)
    if sa.pointee.flags & GW_SA_LIMITED.rawValue != 0 { ByteLifetimes.charge(w, sa, packets: packets, bytes: bytes) }
  }

  private static func fits(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ adjacency: UnsafePointer<Adjacency>, limit: Int
  ) -> Bool {
    packet.pointee.adjacency = w.outerAdjacency(sa)
    return TooBig.fits(w, packet, sa, limit: limit)
  }

  // MARK: Out

  /// Sealed frames to their ports' buffers: as a rule all to one.
  @inline(__always)
  private static func finish(_ w: WorkerPointer, _ count: Int) {
    let packets = w.pointee.jobPackets.base
    let jobs = w.pointee.jobs
    let port = jobs[0].index
    guard port != FastFrame.isTooLarge, jobs[0].succeeded != 0 else { return finishEach(w, count) }
    let tx = w.pointee.ports[Int(port)].tx + w.pointee.ports[Int(port)].txCount
    let outcome = jobs[0].outcome
    var (difference, bytes): (UInt32, Int) = (0, 0)
    var i = 0
    while i < count {
      let mbuf = packets[i].pointee.mbuf
      tx[i] = mbuf
      bytes &+= Int(mbuf.pointee.pkt_len)
      difference |= jobs[i].outcome ^ outcome
      i &+= 1
    }
    if difference != 0 { return finishEach(w, count) }
    TransmitStage.add(w, count, bytes: bytes, port: Int(port))
  }

  @inline(never)
  private static func finishEach(_ w: WorkerPointer, _ count: Int) {
    let packets = w.pointee.jobPackets.base
    let jobs = w.pointee.jobs
    var i = 0
    while i < count {
      let port = jobs[i].index
      if port != FastFrame.isTooLarge, jobs[i].succeeded != 0 {
        TransmitStage.enqueue(w, packets[i].pointee.mbuf, port: Int(port))
      } else {
        unusual(w, packets[i], failed: jobs[i].succeeded == 0)
      }
      i &+= 1
    }
  }

  @inline(never)
  private static func unusual(_ w: WorkerPointer, _ packet: PacketPointer, failed: Bool) {
    let sa = packet.pointee.sa.unsafelyUnwrapped
    if failed {
      w.drop(packet, sa, .sealFailed)
    } else {
      packet.pointee.adjacency = w.outerAdjacency(sa)
      packet.trim()
      w.pointee.transmit.append(packet)
      // Now, so that it leaves before those that came after it.
      TransmitStage.run(w)
    }
  }
}

extension CryptoJob {
  /// `succeeded` and `index` as one word.
  fileprivate var outcome: UInt32 {
    @inline(__always) get { UInt32(succeeded) | UInt32(index) << 16 }
  }
}
