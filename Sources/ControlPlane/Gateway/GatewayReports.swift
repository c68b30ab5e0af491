import CDPDK
import ConfigurationFiles
import ControlAPI
import DPDK
import DataPlane
import Engines
import Foundation
import IPsec
import Routing
import Wire

/// What a worker had counted a moment ago, for rates.
struct WorkerSamples {
  private(set) var rates: [(cyclesPerPacket: Double, idleShare: Double)]
  private var last: [WorkerStatistics]

  init(count: Int) {
    rates = Array(repeating: (0, 1), count: count)
    last = Array(repeating: WorkerStatistics(), count: count)
  }

  mutating func add(_ index: Int, _ now: WorkerStatistics) {
    let packets = now.packets &- last[index].packets
    let busy = Double(now.busyCycles &- last[index].busyCycles)
    let all = Double(now.cycles &- last[index].cycles)
    rates[index] = (packets > 0 ? busy / Double(packets) : 0, all > 0 ? 1 - min(1, busy / all) : 1)
    last[index] = now
  }
}

/// The gateway as the control API shows it. Control thread.
extension Gateway {
  func sampleWorkers() {
    for index in 0..<dataPlane.workerCount { workerSamples.add(index, dataPlane.workerStatistics(index)) }
  }

  var status: GatewayStatus {
    var status = GatewayStatus(version: ProductVersion.current)
    status.processID = getpid()
    let uptime = startedAt.duration(to: .now)
    status.uptimeSeconds = Double(uptime.components.seconds) + Double(uptime.components.attoseconds) / 1e18
    status.state = state
    status.saCount = database.saCount()
    status.flowCount = database.policyCount()
    status.tunnels = tunnels.counts
    status.limits.sas = configuration.limits.sas
    status.limits.flows = configuration.limits.policies
    status.limits.acquires = configuration.limits.acquires
    status.limits.acquiresWaiting = database.acquiresOutstanding
    status.limits.tunnelsInMetrics = configuration.metricsTunnels
    status.keyScheduleCount = database.scheduleCount
    status.keyScheduleLimit = database.scheduleLimit
    status.workerCount = dataPlane.workerCount
    status.portCount = dataPlane.ports.count
    status.hugepages = configuration.hugepages
    status.mempools = dataPlane.bufferPools.map {
      GatewayStatus.Mempool(
        name: $0.name, socket: Int32($0.socket), sizeBuffers: UInt32($0.capacity),
        availableBuffers: UInt32($0.available), bufferBytes: UInt32($0.dataRoom))
    }
    status.keySockets = keySockets?.statuses ?? []
    status.heldSACount = database.heldSAs
    status.stateWritten = database.numberFailure == nil && policyJournal.failure == nil
    status.warnings = stateTrouble.sentences
    status.configPath = paths.configuration
    status.ipsecPath = configuration.ipsec
    status.lastReload = lastReload
    return status
  }

  var portStatuses: [PortStatus] {
    dataPlane.ports.enumerated().map { index, port in
      let configured = configuration.ports[index]
      var status = PortStatus(name: configured.name, index: port.id)
      let counters = dataPlane.portCounters(index)
      let device = port.statistics
      let link = port.link
      status.device = configured.device
      status.driver = port.driver
      status.mac = port.macAddress.description
      status.mtuBytes = UInt32(port.mtu)
      status.linkUp = link.isUp
      status.linkSpeedMbps = link.speed ?? 0
      status.fullDuplex = link.isFullDuplex
      status.host = configured.host
      status.addresses = (routing.interface(port: UInt16(index))?.addresses ?? []).map(\.description)
      status.rxQueues = UInt16(port.receiveQueues)
      status.txQueues = UInt16(port.transmitQueues)
      status.espRules = port.espRules
      status.socket = Int32(port.socket)
      status.rxPackets = counters.rxPackets
      status.rxBytes = counters.rxBytes
      status.txPackets = counters.txPackets
      status.txBytes = counters.txBytes
      status.rxErrors = device.receiveErrors
      status.rxMissed = device.missed
      status.rxNoMbuf = device.noBuffers
      status.txErrors = device.sendErrors
      return status
    }
  }

  var workerStatuses: [WorkerStatus] {
    (0..<dataPlane.workerCount).map { index in
      let statistics = dataPlane.workerStatistics(index)
      var status = WorkerStatus(
        id: statistics.id, lcore: UInt32(statistics.lcore), core: UInt32(statistics.core),
        socket: Int32(statistics.socket))
      status.rxPackets = statistics.packets
      status.txPackets = statistics.sentPackets
      status.dropPackets = statistics.droppedPackets
      status.bursts = statistics.bursts
      status.offeredBursts = statistics.offeredBursts
      status.sharedBursts = statistics.sharedBursts
      status.handoffRingFull = statistics.handoffRingFull
      status.helpedBursts = statistics.helpedBursts
      status.eventsDropped = statistics.eventsDropped
      status.loops = statistics.loops
      status.busyCycles = statistics.busyCycles
      status.totalCycles = statistics.cycles
      status.cyclesPerPacket = workerSamples.rates[index].cyclesPerPacket
      status.idleShare = workerSamples.rates[index].idleShare
      status.rounds = RoundHistogram(dataPlane.roundTimes(index), cyclesPerSecond: Double(rte_get_tsc_hz()))
      status.queues = dataPlane.queues(ofWorker: index).map { "\(configuration.ports[$0.port].name)/\($0.queue)" }
      for (port, queue) in dataPlane.queues(ofWorker: index) {
        let name = "\(configuration.ports[port].name)/\(queue)"
        let warning = WorkerStatus.farPort(
          name, portNode: Int32(dataPlane.ports[port].socket), workerNode: Int32(statistics.socket))
        if let warning { status.warnings.append(warning) }
      }
      return status
    }
  }

  var dropCounts: [DropCount] {
    DropReason.allCases.map {
      DropCount(reason: $0.name, stage: $0.stage, packets: dataPlane.drops($0), explanation: $0.explanation)
    }
  }

  var routeStatuses: [RouteStatus] {
    routing.routeRecords().compactMap { record in
      guard record.isActive, let port = record.portName else { return nil }
      var gateway: IPAddress?
      if case .via(let address, _) = record.route.target { gateway = address }
      return RouteStatus(
        destination: record.route.prefix, gateway: gateway, port: port, origin: Self.origin(record.route),
        metric: record.route.metric, mtuBytes: record.route.mtu == 0 ? nil : record.route.mtu,
        resolved: record.isResolved)
    }
  }

  private static func origin(_ route: Route) -> String {
    switch (route.source, route.target) {
    case (.configuration, _): "static"
    case (.kernel, _): "kernel"
    case (.neighbor, _): "neighbor"
    case (.interface, .local): "local"
    case (.interface, .broadcast): "broadcast"
    case (.interface, _): "connected"
    }
  }

  var neighborStatuses: [NeighborStatus] {
    routing.neighborRecords().map {
      NeighborStatus(
        address: $0.key.address, port: $0.portName ?? "\($0.key.port)", mac: $0.mac, state: "\($0.state)",
        origin: $0.state == .permanent ? "static" : "kernel")
    }
  }

  /// SAs by engine; one that splits its packets by size counts for each engine it has.
  private func engineSessions(_ chosen: String) -> [String: Int] {
    var sessions: [String: Int] = [:]
    for (kind, count) in database.keyedSAs() {
      for (direction, count) in [(CryptoDirection.seal, count.seal), (.open, count.open)] where count > 0 {
        for name in Set(engines.names(kind, direction, chosen: chosen)) { sessions[name, default: 0] += count }
      }
    }
    return sessions
  }

  var engineStatuses: [EngineStatus] {
    let chosen = configuration.crypto.rawValue
    let rows = engines.report()
    let sessions = engineSessions(chosen)
    return engines.engines.map { engine in
      let failures = engines.failures.filter { $0.engine == engine.name }.map { "\($0.kind): \($0.reason)" }
      var status = EngineStatus(
        name: engine.name, version: engine.version, selfTestFailures: failures, sessions: sessions[engine.name] ?? 0)
      if configuration.crypto != .auto {
        for kind in TransformKind.all where engines.names(kind, .seal, chosen: chosen).first == engine.name {
          status.choices.append(EngineStatus.Choice(transform: "\(kind)", picked: true))
        }
      }
      for row in rows {
        guard let measured = row.nanoseconds.first(where: { $0.engine == engine.name }) else { continue }
        for (index, size) in SizeClass.allCases.enumerated() where index < measured.bySize.count {
          status.choices.append(
            EngineStatus.Choice(
              transform: "\(row.kind) \(row.direction)", upToBytes: size.upToBytes,
              nanosecondsPerPacket: measured.bySize[index], picked: row.picked[index] == engine.name))
        }
      }
      return status
    }
  }
}
