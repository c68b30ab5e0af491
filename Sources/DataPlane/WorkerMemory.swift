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
  public var handedBursts: UInt64 = 0
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
    /// Of bursts for idle workers; nil: none are handed.
    var bursts: MbufRing?
    var host: HostPath
    var pools: BufferPools
  }

  let worker: UnsafeMutablePointer<Worker>
  let events = EventRing()
  let counters: Counters
  private let lcore: Lcore

  init(id: Int, lcore: Lcore, _ context: Context) throws {
    self.lcore = lcore
    let configuration = context.configuration
    // Pages that no slot uses are never touched, and so cost nothing.
    counters = Counters(
      base: NodeMemory.allocate(
        byteCount: configuration.counterSlots * MemoryLayout<gw_counters>.stride, node: lcore.socket
      ).assumingMemoryBound(to: gw_counters.self))
    guard let random = RandomPool() else { throw DataPlaneError.noRandom }
    guard let deflate = Deflate() else { throw DataPlaneError.noMemory("compression") }
    let burst = configuration.burst
    let capacity = max(burst, HandoffMemory.mostPackets) * 4 + Worker.maximumPieces
    let socket = lcore.socket
    func memory<T>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
      NodeMemory.allocate(byteCount: MemoryLayout<T>.stride * count, node: socket)
        .bindMemory(to: T.self, capacity: count)
    }
    worker = memory(Worker.self, 1)
    let hertz = rte_get_tsc_hz()
    let pool = try context.pools.pool(socket: context.ports.first?.socket ?? -1)
    worker.initialize(
      to: Worker(
        id: id, burst: burst, shared: context.shared, ports: Self.makePorts(id, context, packets: capacity),
        portCount: context.ports.count,
        received: memory(Mbuf?.self, max(burst, HandoffMemory.burst)), packets: memory(Packet.self, capacity),
        jobs: memory(CryptoJob.self, capacity), freed: memory(Mbuf?.self, Worker.txCapacity),
        pieceBuffers: memory(Mbuf?.self, Worker.maximumPieces), inbound: PacketList(capacity: capacity),
        policy: PacketList(capacity: capacity), outbound: PacketList(capacity: capacity),
        pieces: PacketList(capacity: capacity), transmit: PacketList(capacity: capacity),
        sealed: PacketList(capacity: capacity), sad: context.tables.security.sad, spd: context.tables.security.spd,
        fib: context.tables.fib, adjacencies: context.tables.adjacencies,
        flows: FlowCache(
          memory: NodeMemory.allocate(byteCount: FlowCache.bytes(flows: configuration.flows), node: socket),
          flows: configuration.flows),
        drops: CounterBlock(count: DropReason.allCases.count).base, counters: counters,
        statistics: CounterBlock(count: Worker.Statistic.count).base, events: events,
        fromHost: context.host.ring(toWorker: id)?.base, waiting: context.host.waiting?.base, pool: pool.base,
        jumboPool: try context.pools.jumbo().base, packetCapacity: capacity, interfaces: context.tables.interfaces,
        reassembly: cdpdk_reassembly_create(configuration.reassemblies, hertz * 2, Int32(socket)),
        scratch: ProtocolScratch(
          layers: memory(UnsafeMutablePointer<gw_sa>?.self, capacity * ProtocolScratch.layersPerPacket),
          images: UnsafeMutableRawPointer(memory(UInt8.self, capacity * KeptImage.stride)), deflate: deflate,
          history: CompressionHistory()),
        handoff: HandoffMemory(
          ring: context.bursts?.base, lead: worker, jobs: memory(CryptoJob.self, HandoffMemory.mostPackets)),
        random: random,
        icmpBucket: TokenBucket(
          perSecond: configuration.icmpRate, burst: configuration.icmpRate / 10 + 1, ticksPerSecond: hertz),
        roundTimes: RoundTimes(),
        identification: UInt16.random(in: 0...UInt16.max)))
  }

  private static func makePorts(_ id: Int, _ context: Context, packets: Int) -> UnsafeMutablePointer<WorkerPort> {
    let ports = UnsafeMutablePointer<WorkerPort>.allocate(capacity: context.ports.count)
    for (index, port) in context.ports.enumerated() {
      let room = Worker.txCapacity + packets
      let tx = UnsafeMutablePointer<Mbuf?>.allocate(capacity: room)
      tx.initialize(repeating: nil, count: room)
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
    result.handedBursts = value(.handedBursts)
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
