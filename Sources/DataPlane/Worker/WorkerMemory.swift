import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// What one worker did. A copy.
public struct WorkerStatistics: Sendable {
  public var id = 0
  public var lcore = 0
  public var core = 0
  public var socket = 0
  public var packets: UInt64 = 0
  public var bursts: UInt64 = 0
  public var loops: UInt64 = 0
  public var cycles: UInt64 = 0
  public var busyCycles: UInt64 = 0
  public var sentPackets: UInt64 = 0
  public var droppedPackets: UInt64 = 0
  public var eventsDropped: UInt64 = 0
  /// Bursts put on the ring for other workers, and those of them that others ran; bursts it ran for others; bursts that
  /// found the ring full.
  public var offeredBursts: UInt64 = 0
  public var sharedBursts: UInt64 = 0
  public var helpedBursts: UInt64 = 0
  public var handoffRingFull: UInt64 = 0
  /// Only while profiling.
  public var stageCycles: [Stage: UInt64] = [:]
  public init() {}
}

/// Allocates and lays out a worker. Control thread.
final class WorkerMemory: @unchecked Sendable {
  struct Context {
    var configuration: DataPlaneConfiguration
    var tables: DataPlaneTables
    var shared: UnsafeMutablePointer<SharedState>
    var ports: [EthernetPort]
    var plan: QueuePlan
    var handoffs: [MbufRing?]
    /// Of bursts for idle workers; nil: none are shared.
    var bursts: MbufRing?
    var host: HostPath
    var pools: BufferPools
  }

  let worker: UnsafeMutablePointer<Worker>
  let events = EventRing()
  let counters: Counters
  private let lcore: Lcore
  private let arrays: WorkerArrays

  /// Records for each packet that may be received before the stages have run: itself, an answer, and its pieces.
  private static let recordsPerPacket = 8

  init(id: Int, lcore: Lcore, _ context: Context) throws {
    self.lcore = lcore
    let configuration = context.configuration
    let socket = lcore.socket
    let arrays = WorkerArrays(node: socket)
    self.arrays = arrays
    // Pages that no slot uses are never touched, and so cost nothing.
    counters = Counters(base: arrays.make(gw_counters.self, configuration.counterSlots))
    guard let random = RandomPool() else { throw DataPlaneError.noRandom }
    guard let deflate = Deflate() else { throw DataPlaneError.noMemory("compression") }
    let burst = configuration.burst
    let capacity = max(burst, HandoffMemory.mostPackets) * Self.recordsPerPacket + Worker.maximumPieces
    func memory<T>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> { arrays.make(type, count) }
    func list(_ count: Int) -> PacketList { PacketList(base: arrays.make(PacketPointer.self, count)) }
    worker = memory(Worker.self, 1)
    let hertz = rte_get_tsc_hz()
    let pool = try context.pools.pool(socket: context.ports.first?.socket ?? -1)
    worker.initialize(
      to: Worker(
        id: id, burst: burst, shared: context.shared, ports: Self.makePorts(id, context, arrays, packets: capacity),
        portCount: context.ports.count,
        received: memory(Mbuf?.self, max(burst, HandoffMemory.burst)),
        records: PacketRecords(base: memory(Packet.self, capacity), capacity: capacity),
        jobs: memory(CryptoJob.self, capacity), freed: memory(Mbuf?.self, Worker.txCapacity),
        pieceBuffers: memory(Mbuf?.self, Worker.maximumPieces), inbound: list(capacity), policy: list(capacity),
        outbound: list(capacity), pieces: list(capacity), transmit: list(capacity), jobPackets: list(capacity),
        inboundSAs: context.tables.security.inbound,
        outboundSAs: context.tables.security.outbound, spd: context.tables.security.spd,
        fib: context.tables.fib, adjacencies: context.tables.adjacencies,
        flows: FlowCache(
          memory: UnsafeMutableRawPointer(memory(UInt8.self, FlowCache.bytes(flows: configuration.flows))),
          flows: configuration.flows),
        passing: memory(gw_flow_entry.self, 1),
        drops: CounterBlock(count: DropReason.allCases.count).base, counters: counters,
        statistics: CounterBlock(count: Worker.Statistic.count).base, events: events,
        fromHost: context.host.ring(toWorker: id)?.base, waiting: context.host.waiting?.base, pool: pool.base,
        jumboPool: try context.pools.jumbo().base, largePool: try context.pools.large().base,
        interfaces: context.tables.interfaces,
        fragments: FragmentTable(
          capacity: Int(configuration.reassemblies), ticks: hertz * FragmentTable.seconds, arrays: arrays),
        scratch: ProtocolScratch(
          layers: memory(UnsafeMutablePointer<gw_sa>?.self, capacity * ProtocolScratch.layersPerPacket),
          images: UnsafeMutableRawPointer(memory(UInt8.self, capacity * KeptImage.stride)), deflate: deflate,
          history: CompressionHistory()),
        handoff: HandoffMemory(
          ring: context.bursts?.base, lead: worker, jobs: memory(CryptoJob.self, HandoffMemory.mostPackets),
          borrowed: memory(CryptoJob.self, HandoffMemory.burst), packets: list(HandoffMemory.mostPackets)),
        random: random,
        icmpBucket: TokenBucket(
          perSecond: configuration.icmpRate, burst: configuration.icmpRate / 10 + 1, ticksPerSecond: hertz),
        roundTimes: RoundTimes(),
        identification: UInt16.random(in: 0...UInt16.max)))
  }

  private static func makePorts(
    _ id: Int, _ context: Context, _ arrays: WorkerArrays, packets: Int
  ) -> UnsafeMutablePointer<WorkerPort> {
    let ports = UnsafeMutablePointer<WorkerPort>.allocate(capacity: context.ports.count)
    for (index, port) in context.ports.enumerated() {
      let tx = arrays.make(Mbuf?.self, Worker.txCapacity + packets)
      let octets = port.macAddress.rawValue << 16
      (ports + index).initialize(
        to: WorkerPort(
          id: port.id, rxQueue: context.plan.rx[index][id] ?? 0, hasRx: context.plan.rx[index][id] != nil,
          txQueue: context.plan.tx[index][id] ?? 0, hasTx: context.plan.tx[index][id] != nil,
          hasHost: context.configuration.ports[index].hasHost, mac: octets.byteSwapped, tx: tx,
          handoff: context.handoffs[index]?.base, hostRing: context.host.ring(fromPort: index)?.base,
          counters: CounterBlock(count: 8).base,
          burst: UInt16(min(context.configuration.burst, Int(WorkerPort.smallestBurst)))))
    }
    return ports
  }

  var statistics: WorkerStatistics {
    var result = WorkerStatistics()
    func value(_ statistic: Worker.Statistic, _ offset: Int = 0) -> UInt64 {
      (worker.pointee.statistics + statistic.rawValue + offset).value
    }
    result.id = worker.pointee.id
    result.lcore = Int(lcore.id)
    result.core = lcore.core
    result.socket = lcore.socket
    result.packets = value(.packets)
    result.bursts = value(.bursts)
    result.loops = value(.loops)
    result.cycles = value(.cycles)
    result.busyCycles = value(.busyCycles)
    result.eventsDropped = events.dropped
    result.offeredBursts = value(.offeredBursts)
    result.sharedBursts = value(.sharedBursts)
    result.helpedBursts = value(.helpedBursts)
    result.handoffRingFull = value(.handoffRingFull)
    for port in 0..<worker.pointee.portCount {
      let counters = worker.pointee.ports[port].counters
      result.sentPackets &+= (counters + PortCounters.Index.txPackets.rawValue).value
    }
    for reason in DropReason.allCases { result.droppedPackets &+= (worker.pointee.drops + Int(reason.rawValue)).value }
    for stage in Stage.allCases { result.stageCycles[stage] = value(.stages, stage.rawValue) }
    return result
  }
}
