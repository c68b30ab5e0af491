import CDPDK
import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Synchronization
import Wire

/// The tables that workers read; the control plane owns and writes them, and keeps them for as long as workers run.
public struct DataPlaneTables: Sendable {
  public var security: SecurityTables
  public var fib: FIB
  public var adjacencies: AdjacencyTable
  public var interfaces: InterfaceTable

  public init(_ database: SecurityDatabase, _ routing: RoutingTable) {
    security = database.tables
    fib = routing.fib
    adjacencies = routing.adjacencies
    interfaces = routing.interfaces
  }
}

/// Ports, buffers, workers and the host path: made, started, read and stopped by the control thread.
public final class DataPlane: @unchecked Sendable {
  public let configuration: DataPlaneConfiguration
  public let ports: [EthernetPort]
  public let shared: UnsafeMutablePointer<SharedState>
  public let host: HostPath

  private let lcores: [Lcore]
  private let quiescence: QuiescentState
  private let pools: BufferPools
  private let memory: [WorkerMemory]
  private let jobs: UnsafeMutablePointer<WorkerJob>
  private var isRunning = false
  private var isKept = false

  /// Opens every port and lays out the workers; nothing runs before `start`. On an error what was opened is closed.
  /// `lcores`: where the workers run; nil: on all that EAL has.
  public init(
    _ configuration: DataPlaneConfiguration, eal: EAL, quiescence: QuiescentState, tables: DataPlaneTables,
    lcores: [Lcore]? = nil
  ) throws {
    guard configuration.ports.count <= Flow.mostPorts else {
      throw DataPlaneError.tooManyPorts(configuration.ports.count, most: Flow.mostPorts)
    }
    self.configuration = configuration
    self.quiescence = quiescence
    let lcores = lcores ?? eal.workers
    self.lcores = lcores
    let workers = lcores.count
    let pools = BufferPools(configuration, workers: workers)
    self.pools = pools
    ports = try Self.openPorts(configuration, workers: workers, pools: pools)
    do {
      let plan = QueuePlan(ports: ports, workers: workers)
      host = try HostPath(configuration, ports: ports, plan: plan, workers: workers, pools: pools)
      shared = .allocate(capacity: 1)
      shared.initialize(to: SharedState())
      let handoffs = try Self.makeHandoffs(configuration, ports, plan: plan, workers: workers)
      let context = WorkerMemory.Context(
        configuration: configuration, tables: tables, shared: shared, ports: ports, plan: plan, handoffs: handoffs,
        bursts: workers > 1 ? try MbufRing(name: "\(configuration.name)-bursts", capacity: 127, mode: []) : nil,
        host: host, pools: pools)
      var memory: [WorkerMemory] = []
      for lcore in lcores { memory.append(try WorkerMemory(id: memory.count, lcore: lcore, context)) }
      self.memory = memory
    } catch {
      for port in ports { port.close() }
      throw error
    }
    jobs = .allocate(capacity: memory.count)
    for (index, worker) in memory.enumerated() {
      (jobs + index).initialize(
        to: WorkerJob(
          worker: worker.worker, queue: QuiescentReader(base: quiescence.base, reader: UInt32(index)),
          sleepsWhenIdle: configuration.sleepsWhenIdle))
    }
  }

  /// A key daemon has taken this SPI (the number, in host order) for an inbound SA that is not there yet: ESP by it waits.
  /// Control thread.
  public func expectSA(spi: UInt32) {
    if let bit = host.expect(spi: spi.bigEndian) { shared.pointee.expected.set(bit, true) }
  }

  /// The SA is there, or will not come. Control thread.
  public func settleSA(spi: UInt32) {
    if let bit = host.settle(spi: spi.bigEndian) { shared.pointee.expected.set(bit, false) }
  }

  private static func openPorts(
    _ configuration: DataPlaneConfiguration, workers: Int, pools: BufferPools
  ) throws -> [EthernetPort] {
    var opened: [EthernetPort] = []
    do {
      for port in configuration.ports {
        var settings = PortConfiguration(queues: min(port.queues ?? workers, workers))
        settings.mtu = port.mtu
        settings.takesAllMulticast = port.hasHost
        let device = try PortDevice(port.device)
        let open = try EthernetPort(device, settings) { try pools.pool(socket: $0) }
        opened.append(open)
        if let mac = port.mac, !open.setMACAddress(mac) {
          throw DataPlaneError.macRefused(port: port.name, mac: mac)
        }
      }
    } catch {
      for port in opened { port.close() }
      throw error
    }
    return opened
  }

  /// For each port with fewer TX queues than workers: the ring to the worker that has one.
  private static func makeHandoffs(
    _ configuration: DataPlaneConfiguration, _ ports: [EthernetPort], plan: QueuePlan, workers: Int
  ) throws -> [MbufRing?] {
    try ports.enumerated().map { index, port in
      guard plan.needsHandoff(port: index) else { return nil }
      return try MbufRing(
        name: "\(configuration.name)-handoff-\(index)", capacity: 1024, mode: [.singleConsumer], socket: port.socket)
    }
  }

  // MARK: Life

  /// Ports up, host path and workers running.
  public func start() throws { try start(workerMain) }

  /// `main`: what a worker's lcore runs.
  func start(_ main: @escaping Lcore.Function) throws {
    for port in ports { try port.start() }
    try host.start()
    isRunning = true
    for (index, lcore) in lcores.enumerated() { try lcore.launch(main, jobs + index) }
  }

  /// Starts gateways of one worker each, made for the same lcore, which gives each of them a round in turn until one is
  /// told to stop. What a measurement through two gateways needs where cores are few.
  public static func startInTurn(_ gateways: [DataPlane]) throws {
    precondition(!gateways.isEmpty && gateways.allSatisfy { $0.lcores == gateways[0].lcores && $0.lcores.count == 1 })
    let turns = UnsafeMutablePointer<WorkerTurns>.allocate(capacity: 1)
    let jobs = UnsafeMutablePointer<WorkerJob>.allocate(capacity: gateways.count)
    for (index, gateway) in gateways.enumerated() {
      (jobs + index).initialize(to: gateway.jobs[0])
      for port in gateway.ports { try port.start() }
      try gateway.host.start()
      gateway.isRunning = true
    }
    turns.initialize(to: WorkerTurns(jobs: jobs, count: gateways.count))
    try gateways[0].lcores[0].launch(workerTurnsMain, turns)
  }

  /// In order: workers finish their round and send what they hold, the host path closes its TAPs, ports close.
  ///
  /// False: a worker has not left within `patience` seconds in all. Nothing is closed or freed then, and nothing may be
  /// that a worker uses (ports, tables, EAL itself), until a later call says true or the process ends.
  @discardableResult
  public func stop(patience: Double = 10) -> Bool {
    if isRunning {
      shared.pointee.stop.store(true, ordering: .relaxed)
      guard haveLeft(within: patience) else {
        // All that it reaches lives on, whoever lets go of this object.
        if !isKept { _ = Unmanaged.passRetained(self) }
        isKept = true
        return false
      }
    }
    host.stop()
    for port in ports { port.close() }
    isRunning = false
    return true
  }

  private func haveLeft(within seconds: Double) -> Bool {
    let end = ContinuousClock.now + .seconds(seconds)
    for lcore in lcores {
      let left = (end - .now) / .seconds(1)
      // One that has left already is asked in any case.
      guard lcore.wait(seconds: max(left, 0)) != nil else { return false }
    }
    return true
  }

  // MARK: Reading

  public var workerCount: Int { memory.count }

  /// The packet buffers of all NUMA nodes.
  public var bufferPools: [Mempool] { pools.all }

  public func drops(_ reason: DropReason) -> UInt64 {
    memory.reduce(host.drops(reason)) { $0 &+ ($1.worker.pointee.drops + Int(reason.rawValue)).value }
  }

  public func portCounters(_ port: Int) -> PortCounters {
    memory.reduce(into: PortCounters()) { sum, worker in
      let base = worker.worker.pointee.ports[port].counters
      func value(_ index: PortCounters.Index) -> UInt64 { (base + index.rawValue).value }
      sum.rxPackets &+= value(.rxPackets)
      sum.rxBytes &+= value(.rxBytes)
      sum.txPackets &+= value(.txPackets)
      sum.txBytes &+= value(.txBytes)
      sum.hostPackets &+= value(.hostPackets)
    }
  }

  /// The receive queues that a worker polls.
  public func queues(ofWorker index: Int) -> [(port: Int, queue: Int)] {
    ports.indices.compactMap { port in
      let entry = memory[index].worker.pointee.ports[port]
      return entry.hasRx ? (port, Int(entry.rxQueue)) : nil
    }
  }

  public func workerStatistics(_ index: Int) -> WorkerStatistics { memory[index].statistics }

  /// How long the rounds of a worker with a full burst took while `SharedState.timing` was set, since the start: cycles,
  /// and how many.
  public func roundTimes(_ index: Int) -> [(cycles: UInt64, count: UInt64)] {
    memory[index].worker.pointee.roundTimes.values
  }

  /// Events that found the rings full, since the start. Control thread.
  public var eventsDropped: UInt64 { memory.reduce(0) { $0 + $1.events.dropped } }

  /// The workers' events since the last call.
  public func drainEvents(_ handle: (Event) -> Void) {
    for worker in memory {
      while let event = worker.events.pop() { handle(event) }
    }
  }
}

extension DataPlane: CounterSource {
  public func counters(slot: UInt32) -> gw_counters {
    memory.reduce(into: gw_counters()) { total, worker in
      let one = worker.counters.read(slot: Int(slot))
      total.packets &+= one.packets
      total.bytes &+= one.bytes
      total.last_used = max(total.last_used, one.last_used)
      total.integrity_failures &+= one.integrity_failures
      total.replayed &+= one.replayed
      total.drops &+= one.drops
    }
  }

  public func reset(slot: UInt32) {
    for worker in memory { worker.counters.reset(slot: Int(slot)) }
  }
}

/// What the data path cannot be built with.
public enum DataPlaneError: Error, CustomStringConvertible {
  case macRefused(port: String, mac: MACAddress)
  case tooManyPorts(Int, most: Int)
  case noRandom
  case noMemory(String)

  public var description: String {
    switch self {
    case .macRefused(let port, let mac): "port \(port): the device does not take the address \(mac)"
    case .tooManyPorts(let count, let most): "\(count) ports, and at most \(most) can be told apart"
    case .noRandom: "OpenSSL has no random bytes"
    case .noMemory(let what): "no memory for \(what)"
    }
  }
}
