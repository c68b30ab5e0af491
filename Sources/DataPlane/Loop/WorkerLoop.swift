import CDPDK
import DPDK
import IPsec
import Synchronization

/// What a worker's core runs until it is told to stop. A plain function: no closure, nothing that an actor owns.
func workerMain(_ context: UnsafeMutableRawPointer?) -> Int32 {
  let job = context.unsafelyUnwrapped.assumingMemoryBound(to: WorkerJob.self)
  WorkerLoop.run(job.pointee.worker, job.pointee.queue, sleepsWhenIdle: job.pointee.sleepsWhenIdle)
  return 0
}

/// What is handed to `workerMain`.
struct WorkerJob {
  var worker: UnsafeMutablePointer<Worker>
  /// The worker's side of the grace periods.
  var queue: QuiescentReader
  var sleepsWhenIdle: Bool
}

/// One worker's side of the grace periods (rte_rcu_qsbr).
struct QuiescentReader {
  var base: OpaquePointer
  var reader: UInt32

  @inline(__always) func online() { QuiescentState.online(base, reader: reader) }
  @inline(__always) func report() { QuiescentState.quiescent(base, reader: reader) }
  @inline(__always) func offline() { QuiescentState.offline(base, reader: reader) }
}

enum WorkerLoop {
  static func run(_ w: WorkerPointer, _ quiescence: QuiescentReader, sleepsWhenIdle: Bool) {
    quiescence.online()
    var idle = 0
    // One reading of the clock a round: where one ends, the next begins.
    var start = cdpdk_cycles()
    while !w.pointee.shared.pointee.stop.load(ordering: .relaxed) {
      let work = round(w, start)
      quiescence.report()
      let end = cdpdk_cycles()
      w.tally(.loops, 1)
      w.tally(.cycles, Int(end &- start))
      if work > 0 {
        w.tally(.busyCycles, Int(end &- start))
        if w.pointee.shared.pointee.timing.load(ordering: .relaxed), work >= w.pointee.burst {
          w.pointee.roundTimes.record(end &- start)
        }
        idle = 0
        // Who helps is idle still: its own queues are empty.
        if w.pointee.isOffering, !isHelping(w) { w.setOffering(false) }
      } else {
        idle &+= 1
        if idle == idleRounds { w.setOffering(true) }
        if sleepsWhenIdle {
          rest(w, quiescence, idle)
          // Not the nap.
          start = cdpdk_cycles()
          continue
        }
      }
      start = end
    }
    w.setOffering(false)
    TransmitStage.flushAll(w)
    quiescence.offline()
  }

  /// Rounds without a packet after which a worker takes bursts of others.
  private static var idleRounds: Int { 64 }

  /// The round's work was another's burst alone.
  @inline(__always)
  private static func isHelping(_ w: WorkerPointer) -> Bool {
    (w.pointee.statistics + Worker.Statistic.packets.rawValue).value == w.pointee.packetsBefore
  }

  /// One look at every queue. Returns how many packets there were.
  @inline(__always)
  static func round(_ w: WorkerPointer, _ start: UInt64) -> Int {
    refresh(w, start)
    var work = 0
    var port = 0
    while port < w.pointee.portCount {
      let p = w.pointee.ports + port
      if p.pointee.hasRx {
        work &+= SharedBursts.isWanted(w, p) ? SharedBursts.measured(w, port: port) : receive(w, port: port)
      }
      port &+= 1
    }
    work &+= fromHost(w)
    work &+= TransmitStage.drainHandoffs(w)
    TransmitStage.flushAll(w)
    // Fragments time out after seconds: some rounds late is in time.
    if (w.pointee.statistics + Worker.Statistic.loops.rawValue).value & 63 == 0 {
      w.pointee.fragments.collect(w, now: cdpdk_cycles())
    }
    if work == 0 { work = SharedBursts.help(w) }
    if w.pointee.freedCount > 0 { w.releaseFreed() }
    return work
  }

  /// One burst of a port, through all stages. Returns how many packets there were.
  @inline(__always)
  static func receive(_ w: WorkerPointer, port: Int) -> Int {
    let p = w.pointee.ports + port
    let count = Int(cdpdk_rx_burst(p.pointee.id, p.pointee.rxQueue, w.pointee.received, p.pointee.burst))
    p.pointee.adapt(received: count, atMost: w.pointee.burst)
    if count > 0 {
      ReceiveStage.run(w, port: port, count: count)
      process(w, count)
    }
    return count
  }

  /// The values that a burst goes by, read once.
  @inline(__always)
  private static func refresh(_ w: WorkerPointer, _ start: UInt64) {
    let shared = w.pointee.shared
    w.pointee.now = shared.pointee.clock.load(ordering: .relaxed)
    let routing = shared.pointee.routingGeneration.load(ordering: .acquiring)
    w.pointee.routing = routing
    w.pointee.generation = w.pointee.spd.generation &+ routing
    w.pointee.hasEncapsulationPorts = !shared.pointee.encapsulationPorts.isEmpty
    w.pointee.profiling = shared.pointee.profiling.load(ordering: .relaxed)
    if w.pointee.profiling { w.pointee.lastMark = start }
  }

  @inline(__always)
  private static func fromHost(_ w: WorkerPointer) -> Int {
    let count = HostStage.receive(w)
    if count > 0 { process(w, count) }
    return count
  }

  /// Runs the stages until nothing waits for any.
  @inline(__always)
  static func process(_ w: WorkerPointer, _ count: Int) {
    runStages(w)
    assert(w.pointee.pieces.count == 0, "pieces of packets whose records are given back")
    w.tally(.bursts, 1)
    w.tally(.packets, count)
    // Packets of bursts that were handed are in use until they are complete.
    w.pointee.records.release(keeping: w.pointee.handoff.recordCount)
  }

  @inline(__always)
  static func runStages(_ w: WorkerPointer) {
    repeat {
      if w.pointee.inbound.count > 0 { InboundStage.run(w) }
      if w.pointee.policy.count > 0 { PolicyStage.run(w) }
      if w.pointee.outbound.count > 0 { OutboundStage.run(w) }
      if w.pointee.transmit.count > 0 { TransmitStage.run(w) }
    } while w.pointee.inbound.count | w.pointee.policy.count | w.pointee.outbound.count | w.pointee.transmit.count > 0
  }

  /// A laptop's or CI's manners: nap, longer the longer nothing came. Offline, so that nobody waits for a sleeper.
  @inline(never)
  private static func rest(_ w: WorkerPointer, _ quiescence: QuiescentReader, _ idle: Int) {
    w.tally(.idleLoops, 1)
    guard idle > 64 else { return }
    quiescence.offline()
    rte_delay_us_sleep(idle > 2048 ? 500 : 50)
    quiescence.online()
  }
}
