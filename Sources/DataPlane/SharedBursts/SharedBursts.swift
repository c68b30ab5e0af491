import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Synchronization

/// A stretch of a worker's jobs that another worker may run. One cache line in the lead's memory, which outlives every
/// ring entry that points to it: an entry that comes late finds the state of a later round, which is as good.
struct SharedBurst: ~Copyable {
  enum State { static let free: UInt32 = 0, offered: UInt32 = 1, taken: UInt32 = 2, done: UInt32 = 3 }

  /// Lead: free → offered, and offered → taken when it runs the burst itself; a helper: offered → taken → done.
  let state = Atomic<UInt32>(State.free)
  /// Written by the lead while free.
  var first: Int32 = 0
  var count: Int32 = 0
  /// Written by a helper while taken: job `i` succeeded, in bit `i`.
  var succeeded: UInt32 = 0
  let lead: UnsafeMutablePointer<Worker>
  /// The lead has run it before its turn.
  var isLeads = false
  private let spare: (UInt64, UInt64, UInt64, UInt32) = (0, 0, 0, 0)

  init(lead: UnsafeMutablePointer<Worker>) { self.lead = lead }
}

/// One worker's side of handing bursts. Its own memory, but for `ring`, which all workers share.
struct HandoffMemory {
  static var mostBursts: Int { 8 }
  static var burst: Int { 32 }
  /// Packets received in one round while handing.
  static var mostPackets: Int { mostBursts * burst }

  /// Nil: the only worker.
  let ring: OpaquePointer?
  let bursts: UnsafeMutablePointer<SharedBurst>
  let packets: PacketList
  let jobs: UnsafeMutablePointer<CryptoJob>
  /// A burst of another's jobs while this worker runs them.
  let borrowed: UnsafeMutablePointer<CryptoJob>
  var gauge = HandoffGauge()
  /// Of this round.
  var burstCount = 0
  var jobCount = 0
  /// Records that the shared packets are among, the first of all.
  var recordCount = 0

  /// `jobs`, `packets`: room for `mostPackets`; `borrowed`: for `burst`.
  init(
    ring: OpaquePointer?, lead: UnsafeMutablePointer<Worker>, jobs: UnsafeMutablePointer<CryptoJob>,
    borrowed: UnsafeMutablePointer<CryptoJob>, packets: PacketList
  ) {
    self.ring = ring
    self.jobs = jobs
    self.borrowed = borrowed
    self.packets = packets
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: Self.mostBursts * MemoryLayout<SharedBurst>.stride, alignment: 64)
    bursts = memory.bindMemory(to: SharedBurst.self, capacity: Self.mostBursts)
    for index in 0..<Self.mostBursts { (bursts + index).initialize(to: SharedBurst(lead: lead)) }
  }
}

/// Inbound ESP that one worker cannot open alone, of one SA or of many: in a round with much to do the lead receives and
/// checks several bursts, offers each burst's cryptography over a ring to workers that have nothing to do, and finishes
/// them itself in the order in which they came. So order, replay windows and tables stay as they are with one worker;
/// nothing of it outlives a round, and with it no pointer a grace period.
///
/// Nobody waits for a worker that may not come: the lead runs every burst that is not taken by the time it needs it.
enum SharedBursts {
  /// Of cryptography in a burst: below, moving the packets' lines to another core costs more than it saves.
  private static var leastBytes: Int { 32 * 384 }

  /// Whether this round may hand bursts: some worker is idle, and the queue has filled its bursts.
  @inline(__always)
  static func isWanted(_ w: WorkerPointer, _ port: UnsafeMutablePointer<WorkerPort>) -> Bool {
    port.pointee.isSaturated && w.pointee.handoff.ring != nil
      && w.pointee.shared.pointee.idleWorkers.load(ordering: .relaxed) > 0
  }

  /// A round in which bursts may be shared, by whichever way is the cheaper. Returns how many packets came.
  @inline(never)
  static func measured(_ w: WorkerPointer, port: Int) -> Int {
    let start = cdpdk_cycles()
    let count = w.pointee.handoff.gauge.isHanding ? round(w, port: port) : WorkerLoop.receive(w, port: port)
    w.pointee.handoff.gauge.note(cycles: cdpdk_cycles() &- start, packets: count)
    return count
  }

  /// Receives burst after burst while they are full, and offers what is inbound ESP. Returns how many packets came.
  @inline(never)
  static func round(_ w: WorkerPointer, port index: Int) -> Int {
    let port = w.pointee.ports + index
    let burst = HandoffMemory.burst
    var total = 0
    var count = burst
    var bursts = 0
    while count == burst, bursts < HandoffMemory.mostBursts, w.pointee.records.hasRoom(burst) {
      prepareLines(w)
      count = Int(cdpdk_rx_burst(port.pointee.id, port.pointee.rxQueue, w.pointee.received, UInt16(burst)))
      bursts &+= 1
      total &+= count
      guard count > 0 else { break }
      take(w, port: index, count: count)
    }
    if count < burst { port.pointee.fullBursts = 0 }
    complete(w)
    return total
  }

  /// The next jobs' lines, which a helper may have read last.
  @inline(__always)
  private static func prepareLines(_ w: WorkerPointer) {
    let jobs = UnsafeRawPointer(w.pointee.handoff.jobs + w.pointee.handoff.jobCount)
    var line = 0
    while line < HandoffMemory.burst * 2 {
      cdpdk_prefetch_write(jobs + line &* 64)
      line &+= 1
    }
  }

  /// The first `count` buffers of `received`. They stay as they are received until `complete`.
  static func take(_ w: WorkerPointer, port: Int, count: Int) {
    ReceiveStage.run(w, port: port, count: count)
    offer(w)
    WorkerLoop.process(w, count)
  }

  /// The inbound packets, prepared for their engine, as a burst of their own.
  private static func offer(_ w: WorkerPointer) {
    guard w.pointee.inbound.count > 0 else { return }
    guard let found = InboundStage.lookUpESP(w) else {
      // Other protocols share memory by the burst, and must not overtake.
      complete(w)
      return
    }
    let first = w.pointee.handoff.jobCount
    let (jobs, jobPackets) = (w.pointee.jobs, w.pointee.jobPackets)
    w.pointee.jobs = w.pointee.handoff.jobs + first
    w.pointee.jobPackets = w.pointee.handoff.packets.from(first)
    InboundStage.prepare(w, w.pointee.inbound, found)
    let count = w.pointee.jobPackets.count
    let bytes = address(w.pointee.jobs, w.pointee.jobPackets, count)
    w.pointee.inbound.count = 0
    w.pointee.jobs = jobs
    w.pointee.jobPackets = jobPackets
    w.mark(.inbound)
    guard count > 0 else { return }
    let shared = w.pointee.handoff.bursts + w.pointee.handoff.burstCount
    shared.pointee.first = Int32(truncatingIfNeeded: first)
    shared.pointee.count = Int32(truncatingIfNeeded: count)
    w.pointee.handoff.jobCount = first &+ count
    w.pointee.handoff.burstCount &+= 1
    w.pointee.handoff.recordCount = w.pointee.records.count
    shared.pointee.state.store(SharedBurst.State.offered, ordering: .releasing)
    if bytes >= leastBytes { announce(w, shared) }
  }

  /// Puts into the jobs what a helper needs to know of their SAs, so that it reads no line that the lead writes again.
  /// Returns how many bytes there are to open.
  private static func address(_ jobs: UnsafeMutablePointer<CryptoJob>, _ packets: PacketList, _ count: Int) -> Int {
    var bytes = 0
    var i = 0
    while i < count {
      let sa = packets[i].pointee.sa.unsafelyUnwrapped
      jobs[i].run = sa.pointee.burst
      jobs[i].session_stride = UInt32(truncatingIfNeeded: sa.pointee.session_stride)
      bytes &+= Int(jobs[i].text_length)
      i &+= 1
    }
    return bytes
  }

  private static func announce(_ w: WorkerPointer, _ shared: UnsafeMutablePointer<SharedBurst>) {
    guard let ring = w.pointee.handoff.ring else { return }
    var entry: Mbuf? = UnsafeMutableRawPointer(shared).assumingMemoryBound(to: cdpdk_mbuf.self)
    w.tally(cdpdk_ring_enqueue(ring, &entry, 1) == 1 ? .offeredBursts : .handoffRingFull, 1)
  }

  /// Everything offered in this round, in its order, through all stages.
  static func complete(_ w: WorkerPointer) {
    let count = w.pointee.handoff.burstCount
    guard count > 0 else { return }
    let (jobs, jobPackets) = (w.pointee.jobs, w.pointee.jobPackets)
    // What waits in `inbound` came later than what was shared, and goes on after it.
    let waiting = w.pointee.inbound
    w.pointee.inbound = waiting.from(waiting.count)
    let received = w.pointee.records.count
    var i = 0
    while i < count {
      let shared = w.pointee.handoff.bursts + i
      settle(w, i, count)
      let first = Int(shared.pointee.first)
      w.pointee.jobs = w.pointee.handoff.jobs + first
      w.pointee.jobPackets = w.pointee.handoff.packets.from(first)
      InboundStage.finish(w, Int(shared.pointee.count))
      shared.pointee.state.store(SharedBurst.State.free, ordering: .relaxed)
      w.mark(.inbound)
      i &+= 1
      w.pointee.jobs = jobs
      w.pointee.jobPackets = jobPackets
      WorkerLoop.runStages(w)
      w.pointee.records.release(keeping: received)
    }
    w.pointee.inbound = waiting
    w.pointee.handoff.burstCount = 0
    w.pointee.handoff.jobCount = 0
    w.pointee.handoff.recordCount = 0
    if waiting.count == 0 { w.pointee.records.release(keeping: 0) }
  }

  /// Until burst `index` is done: by the lead, if nobody has taken it. Who has is running it at this moment, and waits
  /// for nothing; the lead runs bursts from the end meanwhile.
  private static func settle(_ w: WorkerPointer, _ index: Int, _ count: Int) {
    let shared = w.pointee.handoff.bursts + index
    if claim(shared) {
      run(w, shared)
    } else {
      var last = count &- 1
      while shared.pointee.state.load(ordering: .acquiring) != SharedBurst.State.done {
        if last > index {
          let other = w.pointee.handoff.bursts + last
          last &-= 1
          if claim(other) {
            run(w, other)
            other.pointee.isLeads = true
            other.pointee.state.store(SharedBurst.State.done, ordering: .relaxed)
          }
        } else {
          rte_pause()
        }
      }
      if !shared.pointee.isLeads { fetch(w, shared) }
    }
    shared.pointee.isLeads = false
    w.mark(.crypto)
  }

  @inline(__always)
  private static func claim(_ shared: UnsafeMutablePointer<SharedBurst>) -> Bool {
    shared.pointee.state.compareExchange(
      expected: SharedBurst.State.offered, desired: SharedBurst.State.taken, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// An idle worker's share: one burst of another's, with its own engine memory. Returns 1 if there was one.
  @inline(__always)
  static func help(_ w: WorkerPointer) -> Int {
    guard let ring = w.pointee.handoff.ring else { return 0 }
    var entry: Mbuf?
    guard cdpdk_ring_dequeue(ring, &entry, 1) == 1, let entry else { return 0 }
    return help(w, UnsafeMutableRawPointer(entry).assumingMemoryBound(to: SharedBurst.self))
  }

  @inline(never)
  private static func help(_ w: WorkerPointer, _ shared: UnsafeMutablePointer<SharedBurst>) -> Int {
    guard claim(shared) else { return 1 }
    runBorrowed(w, shared)
    shared.pointee.state.store(SharedBurst.State.done, ordering: .releasing)
    w.tally(.helpedBursts, 1)
    return 1
  }

  /// A burst of the lead's own, which nobody took.
  @inline(__always)
  private static func run(_ w: WorkerPointer, _ shared: UnsafeMutablePointer<SharedBurst>) {
    let first = Int(shared.pointee.first)
    CryptoRuns.run(
      w.pointee.handoff.jobs + first, w.pointee.handoff.packets.from(first), Int(shared.pointee.count))
  }

  /// Another's jobs, on copies: a line that one core reads and the other writes costs both of them more than a small
  /// packet's cryptography. What comes back is one word for all of them.
  private static func runBorrowed(_ w: WorkerPointer, _ shared: UnsafeMutablePointer<SharedBurst>) {
    let lead = shared.pointee.lead
    let jobs = lead.pointee.handoff.jobs + Int(shared.pointee.first)
    let count = Int(shared.pointee.count)
    let borrowed = w.pointee.handoff.borrowed
    let away = w.pointee.id &- lead.pointee.id
    var i = 0
    while i < count {
      cdpdk_prefetch(jobs + i)
      cdpdk_prefetch(UnsafeRawPointer(jobs + i) + 64)
      i &+= 1
    }
    i = 0
    while i < count {
      borrowed[i] = jobs[i]
      borrowed[i].session += Int(borrowed[i].session_stride) &* away
      cdpdk_prefetch(borrowed[i].text)
      cdpdk_prefetch(borrowed[i].text + 64)
      i &+= 1
    }
    CryptoRuns.run(borrowed, count)
    var succeeded: UInt32 = 0
    while i > 0 {
      i &-= 1
      succeeded = succeeded << 1 | UInt32(borrowed[i].succeeded & 1)
    }
    shared.pointee.succeeded = succeeded
  }

  /// What a helper has done comes back to the lead, the lines that it will read all at once.
  private static func fetch(_ w: WorkerPointer, _ shared: UnsafeMutablePointer<SharedBurst>) {
    w.tally(.sharedBursts, 1)
    let jobs = w.pointee.handoff.jobs + Int(shared.pointee.first)
    let count = Int(shared.pointee.count)
    let succeeded = shared.pointee.succeeded
    var i = 0
    while i < count {
      let text = UnsafeRawPointer(jobs[i].text)
      cdpdk_prefetch(text)
      cdpdk_prefetch(text + Int(jobs[i].text_length) - 1)
      jobs[i].succeeded = UInt8(truncatingIfNeeded: succeeded >> UInt32(truncatingIfNeeded: i)) & 1
      i &+= 1
    }
  }
}

extension PacketList {
  /// An empty list of the entries from `index` on.
  @inline(__always)
  func from(_ index: Int) -> PacketList { PacketList(base: base + index) }

  /// The entries from `index` on.
  @inline(__always)
  func dropFirst(_ index: Int) -> PacketList {
    var list = from(index)
    list.count = count &- index
    return list
  }
}
