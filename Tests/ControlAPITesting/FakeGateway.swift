import ControlAPI
import IKEControl
import IPsec
import Synchronization
import Wire

/// A gateway without packets: answers with what it was given and remembers what it was told.
public final class FakeGateway: GatewayControl {
  public struct State: Sendable {
    public var sas = [Samples.record]
    public var policies = [Samples.policy]
    public var drops = [
      DropCount(reason: "bad_icv", stage: "inbound", packets: 3, explanation: "The ICV did not verify."),
      DropCount(reason: "no_route", stage: "forward", packets: 0),
    ]
    public var tunnels = [Samples.tunnel]
    public var tunnelQueries: [TunnelQuery] = []
    public var log = [
      LogLine(atSeconds: 1_700_000_000, level: "notice", text: "tunnel a: down", fields: ["tunnel": "a"])
    ]
    public var daemonNames: [DaemonName] = []
    public var loads: [RuleTransaction] = []
    public var checks: [RuleTransaction] = []
    public var flushes: [FlushRequest.Target] = []
    public var reloads = 0
    public var keyDaemon = KeyDaemonStatus(daemon: .charon, socketPath: "/nonexistent/charon.vici")
    public var keyDaemonRequests: [KeyDaemonRequest] = []
    public var loadReport = LoadReport()
    /// True: what is added is there from then on.
    public var keepsLoads = false
    public var reloadReport = ReloadReport(atSeconds: 1_700_000_000, succeeded: true, messages: ["1 flow added"])
    /// Thrown by every call while set.
    public var failure: ControlError?
    /// How long a status takes.
    public var statusDelay = Duration.zero
    public var statusesAsked = 0
  }
  public let state = Mutex(State())
  public let broadcaster = EventBroadcaster()

  public init() {}

  private func answer<Value>(_ body: (inout sending State) -> sending Value) throws(ControlError) -> Value {
    if let failure = state.withLock({ $0.failure }) { throw failure }
    return state.withLock(body)
  }

  public func status() async throws(ControlError) -> GatewayStatus {
    let delay = try answer {
      $0.statusesAsked += 1
      return $0.statusDelay
    }
    try? await Task.sleep(for: delay)
    var status = GatewayStatus(version: "1.0.0")
    status.processID = 4242
    status.uptimeSeconds = 93784.5
    status.state = .running
    status.saCount = state.withLock { $0.sas.count }
    status.keyScheduleCount = status.saCount
    status.keyScheduleLimit = 65_536
    status.flowCount = state.withLock { $0.policies.count }
    status.workerCount = 2
    status.portCount = 1
    status.hugepages = true
    status.mempools = [
      .init(name: "mbuf0", socket: 0, sizeBuffers: 32767, availableBuffers: 30000, bufferBytes: 2176)
    ]
    status.configPath = "/etc/gw/gateway.yaml"
    status.ipsecPath = "/etc/gw/ipsec.conf"
    status.lastReload = state.withLock { $0.reloadReport }
    return status
  }

  public func securityAssociations() async throws(ControlError) -> [SARecord] { try answer { $0.sas } }
  public func policies() async throws(ControlError) -> [PolicyRecord] { try answer { $0.policies } }
  public func tunnels(_ query: TunnelQuery) async throws(ControlError) -> [TunnelStatus] {
    try answer {
      $0.tunnelQueries.append(query)
      return $0.tunnels.filter { query.name == nil || $0.name == query.name }
    }
  }
  public func drops() async throws(ControlError) -> [DropCount] { try answer { $0.drops } }

  public func ports() async throws(ControlError) -> [PortStatus] {
    var port = PortStatus(name: "wan", index: 0)
    port.device = "0000:03:00.0"
    port.driver = "net_ixgbe"
    port.mac = "02:00:00:00:00:01"
    port.mtuBytes = 1500
    port.linkUp = true
    port.linkSpeedMbps = 10000
    port.host = true
    port.addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]
    port.rxQueues = 2
    port.txQueues = 2
    port.socket = 0
    port.rxPackets = 1_234_567
    port.rxBytes = UInt64.max
    port.rxMissed = 12
    port.txPackets = 1_000_000
    port.txBytes = 64_000_000
    return try answer { _ in [port] }
  }

  public func workers() async throws(ControlError) -> [WorkerStatus] {
    var worker = WorkerStatus(id: 0, lcore: 2, core: 2, socket: 0)
    worker.rxPackets = 1_234_567
    worker.bursts = 100_000
    worker.offeredBursts = 4000
    worker.sharedBursts = 2500
    worker.cyclesPerPacket = 312.46
    worker.idleShare = 0.875
    worker.stageCyclesPerPacket = ["rx": 20, "crypto": 200.5]
    worker.queues = ["wan/0"]
    return try answer { _ in [worker] }
  }

  public func routes() async throws(ControlError) -> [RouteStatus] {
    let route = RouteStatus(
      destination: IPPrefix("172.20.1.0/24")!, gateway: IPAddress("198.51.100.2"), port: "wan", origin: "static")
    return try answer { _ in [route] }
  }

  public func neighbors() async throws(ControlError) -> [NeighborStatus] {
    let neighbor = NeighborStatus(
      address: IPAddress("198.51.100.2")!, port: "wan", mac: MACAddress("02:00:00:00:00:02"), state: "reachable",
      origin: "kernel", queuedPackets: 4)
    return try answer { _ in [neighbor] }
  }

  public func log(since: Double) async throws(ControlError) -> [LogLine] {
    try answer { state in state.log.filter { $0.atSeconds >= since } }
  }
  public func daemonNames() async throws(ControlError) -> [DaemonName] { try answer { $0.daemonNames } }

  public func engines() async throws(ControlError) -> [EngineStatus] {
    let engine = EngineStatus(
      name: "openssl", version: "3.0.22", selfTestFailures: [], sessions: 2,
      choices: [.init(transform: "aes-gcm-16-128", upToBytes: 256, nanosecondsPerPacket: 164.25, picked: true)])
    return try answer { _ in [engine] }
  }

  public func load(_ transaction: RuleTransaction) async throws(ControlError) -> LoadReport {
    try answer {
      $0.loads.append(transaction)
      if $0.keepsLoads { $0.add(transaction) }
      return $0.loadReport
    }
  }

  public func check(_ transaction: RuleTransaction) async throws(ControlError) -> LoadReport {
    try answer {
      $0.checks.append(transaction)
      return $0.loadReport
    }
  }

  public func flush(_ target: FlushRequest.Target) async throws(ControlError) -> FlushReport {
    try answer {
      $0.flushes.append(target)
      return FlushReport(sas: 1, flows: 2)
    }
  }

  public func reload() async throws(ControlError) -> ReloadReport {
    try answer {
      $0.reloads += 1
      return $0.reloadReport
    }
  }

  public func keyDaemon() async throws(ControlError) -> KeyDaemonStatus { try answer { $0.keyDaemon } }

  public func keyDaemon(_ request: KeyDaemonRequest) async throws(ControlError) -> KeyDaemonStatus {
    try answer {
      $0.keyDaemonRequests.append(request)
      return $0.keyDaemon
    }
  }

  public func events() async throws(ControlError) -> AsyncStream<GatewayEvent> {
    if let failure = state.withLock({ $0.failure }) { throw failure }
    return broadcaster.subscribe()
  }
}

extension FakeGateway.State {
  mutating func add(_ transaction: RuleTransaction) {
    for rule in transaction.rules {
      switch rule {
      case .sa(let sa): sas.append(SARecord(parameters: sa, state: .mature))
      case .policy(let policy):
        policies.append(PolicyRecord(index: UInt32(policies.count + 1), parameters: policy))
      case .bundle(let first, let then):
        for index in sas.indices where sas[index].parameters.identifier == first {
          sas[index].parameters.bundledWith = then
        }
      }
    }
  }
}
