import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Synchronization
import Wire

@usableFromInline typealias WorkerPointer = UnsafeMutablePointer<Worker>
@usableFromInline typealias PacketPointer = UnsafeMutablePointer<Packet>

/// What all workers read and the control thread writes. Cache lines of its own.
public struct SharedState: ~Copyable {
  /// Workers leave their loops.
  public let stop = Atomic<Bool>(false)
  /// Seconds since the gateway started, plus 1: 0 stays "never".
  public let clock = Atomic<UInt32>(1)
  /// Bumped after each change of routes, addresses or ports' MTUs.
  public let routingGeneration = Atomic<UInt32>(0)
  /// Cycles by stage are taken.
  public let profiling = Atomic<Bool>(false)
  /// How long rounds with a full burst take is taken.
  public let timing = Atomic<Bool>(false)
  /// Workers whose queues are empty, and who take bursts of others.
  public let idleWorkers = Atomic<Int32>(0)
  /// Fragments of tunnelled packets are made before (false) or after (true) encryption.
  public let fragmentAfter = Atomic<Bool>(false)
  /// What becomes of packets that do not show their ports: a `PortlessFragments`.
  public let portlessFragments = Atomic<UInt8>(PortlessFragments.auto.rawValue)
  /// ESP padding may be other than 1, 2, 3 … (RFC 4303 2.4 asks receivers to look at it, senders to fill it so).
  public let acceptsAnyPadding = Atomic<Bool>(false)
  public let sourceChecks = SourceChecks()
  /// SPIs whose SAs are on their way.
  public let expected = ExpectedSPIs()
  /// The gateway's own UDP ports, besides 500 and 4500, that IKE comes to, and those that ESP in UDP comes to.
  public let ikePorts = PortSet()
  public let encapsulationPorts = PortSet()

  public init() {}
}

/// What becomes of transit packets that do not show the ports that policies ask for: fragments, as policies are held
/// against each by itself, and what is too short (RFC 4301 7).
public enum PortlessFragments: UInt8, Sendable {
  /// Dropped where a policy with ports may be theirs; else they match policies without.
  case auto = 0
  /// They match policies without ports.
  case match = 1
  /// They go no further.
  case drop = 2
}

/// One port as one worker sees it.
@usableFromInline
struct WorkerPort {
  /// DPDK's number.
  var id: UInt16
  var rxQueue: UInt16
  var hasRx: Bool
  var txQueue: UInt16
  var hasTx: Bool
  var hasHost: Bool
  /// The six octets of its address as the low bits of a word loaded from a frame.
  var mac: UInt64
  /// Frames that wait for `flush`, fewer than `Worker.txCapacity` of them; behind them there is room for all
  /// of the worker's packets.
  var tx: UnsafeMutablePointer<Mbuf?>
  var txCount = 0
  /// Of those frames.
  var txBytes = 0
  /// Without a TX queue of its own, the worker hands frames to the one that has; that one drains this ring.
  var handoff: OpaquePointer?
  /// To the host thread.
  var hostRing: OpaquePointer?
  var counters: UnsafeMutablePointer<Counter>

  /// Packets asked for at once.
  var burst: UInt16
  /// Full bursts in a row.
  var fullBursts: UInt16 = 0

  /// The queue has been full for some rounds.
  var isSaturated: Bool { fullBursts >= 8 }

  func count(_ index: PortCounters.Index, _ n: Int) { (counters + index.rawValue).add(n) }

  static var smallestBurst: UInt16 { 32 }

  /// A queue that fills its bursts is asked for more at a time, one that does not for as little as keeps the cache warm.
  @inline(__always)
  mutating func adapt(received: Int, atMost most: Int) {
    if received == Int(burst) {
      fullBursts = min(fullBursts &+ 1, 1024)
      burst = UInt16(truncatingIfNeeded: min(most, Int(burst) &* 2))
    } else {
      fullBursts = 0
      if received &* 4 < Int(burst), burst > Self.smallestBurst { burst = burst / 2 }
    }
  }
}

/// Everything that one polling core works with. Reached through one pointer; plain memory, no references.
/// Owned by its worker while it runs; the control thread reads the counters.
public struct Worker {
  @usableFromInline static let txCapacity = 64
  /// Fragments of one packet that are made at once, and as many as there can be where each goes through an SA of its own.
  static let maximumPieces = 64

  let id: Int
  /// The most packets taken at once.
  let burst: Int
  let shared: UnsafeMutablePointer<SharedState>
  let ports: UnsafeMutablePointer<WorkerPort>
  let portCount: Int

  // Scratch of a burst; how long its arrays are: see `PacketRecords`.
  let received: UnsafeMutablePointer<Mbuf?>
  var records: PacketRecords
  var jobs: UnsafeMutablePointer<CryptoJob>
  let freed: UnsafeMutablePointer<Mbuf?>
  let pieceBuffers: UnsafeMutablePointer<Mbuf?>
  var freedCount = 0
  /// Inbound IPsec that waits for its SA, and then for its engine.
  var inbound: PacketList
  /// Clear packets that wait for their policy.
  var policy: PacketList
  /// Packets to protect.
  var outbound: PacketList
  /// Fragments made of packets too large for their SA.
  var pieces: PacketList
  /// Packets that go out by an adjacency.
  var transmit: PacketList
  /// Packets that wait for their job's outcome, by job.
  var jobPackets: PacketList

  // Tables.
  let inboundSAs: InboundSAD
  let outboundSAs: SADReader
  let spd: SPDReader
  let fib: FIB
  let adjacencies: AdjacencyTable
  var flows: FlowCache
  /// The decision about a packet that says nothing of others of its key.
  let passing: UnsafeMutablePointer<gw_flow_entry>

  // What it counts and tells.
  let drops: UnsafeMutablePointer<Counter>
  let counters: Counters
  let statistics: UnsafeMutablePointer<Counter>
  let events: EventRing
  /// Frames from the host thread: what the kernel sent, and packets whose next hop was found.
  let fromHost: OpaquePointer?
  /// Packets that wait for a neighbour or an SA: to the host thread.
  let waiting: OpaquePointer?
  let pool: OpaquePointer
  /// Buffers for the largest packets, for those that must be copied.
  let jumboPool: OpaquePointer
  /// Buffers for datagrams larger than those hold.
  let largePool: OpaquePointer
  /// Where ICMP errors come from.
  let interfaces: InterfaceTable

  /// Datagrams that are put together.
  let fragments: FragmentTable

  /// The numbers of the SA that sealed last, which another worker may be sealing for too. Only ever prefetched.
  var lastNumbers: UnsafeRawPointer?

  /// The policy that the last burst's packets to protect had, and how many packets of `outbound`, all there were, have
  /// it too; 0: not all.
  var burstPolicy: UnsafeMutablePointer<gw_policy>?
  var burstPolicyCount = 0

  /// For protocols other than a single ESP tunnel.
  let scratch: ProtocolScratch

  var handoff: HandoffMemory
  /// It counts among `SharedState.idleWorkers`.
  var isOffering = false
  /// What it had received when it began to.
  var packetsBefore: UInt64 = 0

  var random: RandomPool
  var icmpBucket: TokenBucket
  /// Seconds, as `SharedState.clock`, read once a burst.
  var now: UInt32 = 1
  /// Of policies and routes together, and of routes alone (not 0).
  var generation: UInt32 = 0
  var routing: UInt32 = 1
  var profiling = false
  /// `SharedState.encapsulationPorts` is not empty.
  var hasEncapsulationPorts = false
  let roundTimes: RoundTimes
  var lastMark: UInt64 = 0
  var identification: UInt16

  enum Statistic: Int, CaseIterable {
    case loops, idleLoops, bursts, packets, cycles, busyCycles
    /// Put on the ring; of those run by others; run for others; not put on the ring, for want of room.
    case offeredBursts, sharedBursts, helpedBursts, handoffRingFull
    case stages  // and one for each stage
    static var count: Int { Statistic.stages.rawValue + Stage.allCases.count }
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  @inline(__always)
  func tally(_ statistic: Worker.Statistic, _ n: Int) { (pointee.statistics + statistic.rawValue).add(n) }

  /// Counts the reason and gives the buffer back at the end of the burst.
  @inline(__always)
  func drop(_ packet: PacketPointer, _ reason: DropReason) {
    (pointee.drops + Int(reason.rawValue)).increment()
    free(packet.pointee.mbuf)
  }

  @inline(__always)
  func free(_ mbuf: Mbuf) {
    pointee.freed[pointee.freedCount] = mbuf
    pointee.freedCount &+= 1
    if pointee.freedCount == Worker.txCapacity { releaseFreed() }
  }

  @inline(never)
  func setOffering(_ isOffering: Bool) {
    guard isOffering != pointee.isOffering else { return }
    pointee.isOffering = isOffering
    pointee.packetsBefore = (pointee.statistics + Worker.Statistic.packets.rawValue).value
    pointee.shared.pointee.idleWorkers.wrappingAdd(isOffering ? 1 : -1, ordering: .relaxed)
  }

  @inline(never)
  func releaseFreed() {
    cdpdk_free_bulk(pointee.freed, UInt32(pointee.freedCount))
    pointee.freedCount = 0
  }

  /// Charges the cycles since the last mark to a stage.
  @inline(__always)
  func mark(_ stage: Stage) {
    if pointee.profiling { charge(stage) }
  }

  @inline(never)
  private func charge(_ stage: Stage) {
    let now = cdpdk_cycles()
    (pointee.statistics + Worker.Statistic.stages.rawValue + stage.rawValue).add(Int(now &- pointee.lastMark))
    pointee.lastMark = now
  }
}
