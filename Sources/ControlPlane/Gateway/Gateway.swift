import CDPDK
import ConfigurationFiles
import ControlAPI
import DPDK
import DataPlane
import Engines
import Foundation
import IKEControl
import IPsec
import KeyManagement
import Logging
import Routing
import Synchronization
import Threads
import Wire

/// The gateway as a whole: tables, data path, host network, key sockets. Everything here is the control thread's.
public final class Gateway: @unchecked Sendable {
  let loop: ControlLoop
  let paths: GatewayPaths
  let logger: Logger
  let events = EventBroadcaster()
  /// Of workers, as last looked at.
  var eventsDropped: UInt64 = 0
  var configuration: GatewayConfiguration
  let startedAt = ContinuousClock.now
  private let wallClockAtStart = UInt64(time(nil))

  private let directory: RunDirectory
  let eal: EAL
  let quiescence: QuiescentState
  let engines: CryptoEngines
  let routing: RoutingTable
  let database: SecurityDatabase
  let dataPlane: DataPlane
  let journal: SequenceJournal
  let policyJournal: PolicyJournal
  var hostNetwork: HostNetwork?
  var keySockets: KeySockets?
  /// Gives the key daemon the `ike` rules, on a thread of its own.
  let ike: IKEAgent
  let tunnels: TunnelTable
  /// Said of tunnels in this second.
  var tunnelLines = 0
  /// What of the rules' states the tunnels have not been told.
  var ruleStates: ArraySlice<IKEConnectionStatus> = []
  var watchesDaemon = false
  var ikeCapture: IKECapture?
  /// Ends what threads beside the control thread wait for, when the gateway stops.
  let interrupt = Interrupt()
  /// Writes a report.
  var reporting: JoinableThread?
  var isReporting = false
  /// SPIs of larval SAs that went in what is being done now.
  var settledSPIs: [UInt32] = []
  /// Next hops that the data path waits for.
  var awaited: Set<NeighborKey> = []
  var localPorts = LocalPorts()
  var linkStates: [Bool]
  var lastReload: ReloadReport?
  var workerSamples: WorkerSamples
  /// What the log last said of what cannot be written.
  var toldOfState = StateTrouble()
  var state = GatewayStatus.State.starting
  /// systemd, where it started this process.
  var serviceManager: ServiceManager?
  var heartbeat = Heartbeat()

  /// Starts EAL, opens the ports, loads the rules; no packet moves before `start`. Control thread.
  public init(
    _ configuration: GatewayConfiguration, paths: GatewayPaths, loop: ControlLoop, logger: Logger
  ) throws {
    self.configuration = configuration
    self.paths = paths
    self.loop = loop
    self.logger = logger
    ike = IKEAgent(Self.ikeSettings(configuration, paths)) { level, text in logger.log(level: level.logLevel, "\(text)")
    }
    directory = try RunDirectory(paths)
    journal = try SequenceJournal(path: paths.numberFile)
    LibraryOutput.follow(logger)
    eal = try EAL(Self.ealConfiguration(configuration, runDirectory: paths.runDirectory))
    logger.info("\(EAL.version): workers on cores \(eal.workers.map { String($0.core) }.joined(separator: ", "))")
    // After EAL made its threads, which would take it over.
    if configuration.numa == .interleave, !NodeMemory.interleave() {
      logger.notice("numa: interleave has no effect: one NUMA node, or the system does not allow it")
    }
    engines = CryptoEngines()
    for failure in engines.failures { logger.error("\(failure)") }
    let crypto = configuration.crypto.rawValue
    guard let engine = engines.chosen(crypto) else {
      throw GatewayError.network("crypto: \(crypto): this machine has no such engine")
    }
    let lacking = engines.lacking(crypto)
    if !lacking.isEmpty {
      logger.notice("crypto: \(crypto) lacks \(lacking.count) transforms, which run on openssl; see gwctl show engines")
    }
    let workers = eal.workers.count
    quiescence = QuiescentState(readers: workers)
    var routingLimits = RoutingLimits()
    routingLimits.routes = configuration.limits.routes
    routingLimits.neighbors = configuration.limits.neighbors
    routing = RoutingTable(limits: routingLimits, reclaimer: quiescence)
    let counters = LateCounters()
    let limits = DatabaseLimits(
      sas: configuration.limits.sas, policies: configuration.limits.policies,
      acquires: configuration.limits.acquires, schedules: configuration.limits.schedules)
    let addresses = LocalAddresses()
    database = SecurityDatabase(
      engine: engine, workers: workers, limits: limits, reclaimer: quiescence, counters: counters, now: 1)
    // Moment 1 was at the start; now, with all engines measured, it is later.
    database.epoch = wallClockAtStart - 1
    database.isOwnAddress = { addresses.contains($0) }
    database.permits = Self.permits(configuration)
    database.keepNumbers(in: journal, secret: journal.secret, records: journal.records)
    policyJournal = PolicyJournal(path: paths.policyFile)
    tunnels = TunnelTable(database)
    do {
      // Not `self`, which is not whole yet.
      let (eal, quiescence, tables) = (self.eal, self.quiescence, DataPlaneTables(database, routing))
      dataPlane = try LibraryOutput.collecting(logger) {
        try DataPlane(
          Self.dataPlaneConfiguration(configuration, limits), eal: eal, quiescence: quiescence,
          tables: tables)
      }
    } catch {
      eal.stop()
      directory.release()
      throw error
    }
    // With the ports in hand: a wrong address costs no calibration at each retry. No SA has a session yet.
    if configuration.crypto == .auto {
      logger.debug("measuring the crypto engines")
      engines.calibrate()
    }
    counters.source = dataPlane
    linkStates = dataPlane.ports.map { _ in true }
    workerSamples = WorkerSamples(count: workers)
    addresses.routing = routing
  }

  static func ealConfiguration(
    _ configuration: GatewayConfiguration, runDirectory: String
  ) -> EALConfiguration {
    var eal = EALConfiguration(workers: configuration.workers ?? EALConfiguration.defaultWorkers())
    eal.extraArguments = configuration.eal
    eal.hugepages = configuration.hugepages
    if let memory = configuration.memory { eal.memory = memory }
    eal.filePrefix = EALConfiguration.filePrefix(runDirectory: runDirectory)
    eal.pciAddresses = configuration.ports.compactMap { port in
      if case .pci(let address)? = try? PortDevice(port.device) { address } else { nil }
    }
    return eal
  }

  static func permits(_ configuration: GatewayConfiguration) -> SecurityDatabase.Permits {
    var permits = SecurityDatabase.Permits()
    permits.weakAlgorithms = configuration.allowWeak
    permits.lowSPIs = configuration.lowSPIs
    return permits
  }

  private static func dataPlaneConfiguration(
    _ configuration: GatewayConfiguration, _ limits: DatabaseLimits
  ) -> DataPlaneConfiguration {
    let ports = configuration.ports.map {
      DataPlaneConfiguration.Port(
        name: $0.name, device: $0.device, hasHost: $0.host, mtu: $0.mtu, mac: $0.mac, queues: $0.queues)
    }
    var result = DataPlaneConfiguration(ports: ports, counterSlots: limits.counterSlots)
    result.burst = configuration.burst
    result.sleepsWhenIdle = configuration.idle == .sleep
    result.waitingPerNeighbor = configuration.limits.queuedPacketsPerNeighbor
    result.flows = configuration.limits.flows
    result.icmpRate = UInt64(configuration.limits.icmpErrorsPerSecond)
    result.reassemblies = UInt32(configuration.limits.reassemblies)
    return result
  }

  // MARK: Life

  /// Interfaces, routes, rules, key sockets; then workers run.
  public func start() throws {
    routing.onChange = { [unowned self] in routesChanged() }
    dataPlane.host.onUnresolved = { [unowned self] port, address in
      later { $0.resolve(NeighborKey(port: port, address: address)) }
    }
    _ = database.subscribe { [unowned self] event, origin in handle(event, origin: origin) }
    database.onAcquireAnswered = { [unowned self] in dataPlane.host.releaseProtected(policy: $0) }
    database.onKeyed = { [unowned self] in dataPlane.host.releaseKeyed(serial: $0) }
    database.onEncapsulationPorts = { [unowned self] _ in publishLocalPorts() }
    database.onWeak = { [unowned self] in logger.warning("\($0): \($1); allow-weak permits it") }
    database.onLarval = { [unowned self] in noteLarval($0, isThere: $1) }
    startTunnels()
    try setUpPorts()
    try loadRules()
    try restorePolicies()
    givePacketChoices()
    givePaddingChoice()
    keySockets = try KeySockets(
      paths: paths, database: database, loop: loop, configuration: configuration, logger: logger
    ) { [unowned self] in nameIKESocket($0, takesESP: $1) }
    keySockets?.onFlush = { [unowned self] in doing("its key daemon left", $0) }
    try LibraryOutput.collecting(logger) { try dataPlane.start() }
    try attachHostPorts()
    // The daemon speaks through the TAPs.
    try ike.start()
    startTimers()
    state = .running
    for port in dataPlane.ports { logger.info("\(port.summary)") }
    logger.info("gwd \(ProductVersion.current) runs; control socket \(paths.controlSocket)")
  }

  /// In order: key daemons told, workers drained, TAPs and ports closed, memory given back. `Daemon` draws the whole.
  public func stop() {
    state = .stopping
    loop.endTimers()
    interrupt.raise()
    events.finish()
    ikeCapture?.stop()
    keySockets?.stop()
    ike.stop()
    reporting?.join()
    if let hostNetwork { loop.unwatch(hostNetwork.descriptor) }
    hostNetwork = nil
    let isDataPlaneStopped = dataPlane.stop()
    // A worker that is still there may use numbers up to what is reserved.
    if isDataPlaneStopped { database.saveNumbers() }
    policyJournal.write()
    tellOfState()
    guard isDataPlaneStopped else {
      logger.critical("a worker has not left its loop: what it may still use is left to the end of the process")
      directory.release()
      return
    }
    quiescence.reclaim()
    eal.stop()
    directory.release()
  }

  /// Behind what the control thread is doing; not once the gateway stops. Any thread.
  func later(_ work: @escaping @Sendable (Gateway) -> Void) {
    loop.post { [weak self] in
      if let self, state == .starting || state == .running { work(self) }
    }
  }

  private func startTimers() {
    loop.every(.milliseconds(5)) { [unowned self] in
      dataPlane.drainEvents { self.handle($0) }
      settleLocalPorts()
      tunnels.work()
      quiescence.reclaim()
    }
    loop.every(.milliseconds(250)) { [unowned self] in everyQuarterSecond() }
    loop.every(.seconds(1)) { [unowned self] in everySecond() }
  }
}

/// Which addresses are the gateway's own: an SA to one of them is inbound.
final class LocalAddresses {
  weak var routing: RoutingTable?
  func contains(_ address: IPAddress) -> Bool {
    routing?.allInterfaces.contains { $0.addresses.contains { $0.address == address } } ?? false
  }
}
