/// The daemon as a whole.
public struct GatewayStatus: Codable, Sendable, Hashable {
  public enum State: String, Codable, Sendable { case starting, running, stopping }

  /// One mempool of packet buffers.
  public struct Mempool: Codable, Sendable, Hashable {
    public var name: String
    /// NUMA socket; -1: any.
    public var socket: Int32
    public var sizeBuffers: UInt32
    public var availableBuffers: UInt32
    public var bufferBytes: UInt32

    public init(name: String, socket: Int32, sizeBuffers: UInt32, availableBuffers: UInt32, bufferBytes: UInt32) {
      self.name = name
      self.socket = socket
      self.sizeBuffers = sizeBuffers
      self.availableBuffers = availableBuffers
      self.bufferBytes = bufferBytes
    }

    enum CodingKeys: String, CodingKey {
      case name, socket
      case sizeBuffers = "size_buffers"
      case availableBuffers = "available_buffers"
      case bufferBytes = "buffer_bytes"
    }
  }

  /// What there may be at most, and the questions to key daemons that wait for an answer.
  public struct Limits: Codable, Sendable, Hashable {
    public var sas = 0
    public var flows = 0
    public var acquires = 0
    public var acquiresWaiting = 0
    /// Tunnels that have metrics of their own.
    public var tunnelsInMetrics = 1000
    public init() {}

    enum CodingKeys: String, CodingKey {
      case sas, flows, acquires
      case acquiresWaiting = "acquires_waiting"
      case tunnelsInMetrics = "tunnels_in_metrics"
    }
  }

  public var version: String
  public var processID: Int32 = 0
  public var uptimeSeconds: Double = 0
  public var state: State = .starting
  public var saCount: Int = 0
  public var flowCount: Int = 0
  public var tunnels = TunnelCounts()
  public var limits = Limits()
  /// SAs that carry nothing until numbers are reserved for them in `state-dir`.
  public var heldSACount: Int = 0
  /// What has to be in `state-dir` is there.
  public var stateWritten = true
  /// Key schedules that SAs have, and the most that there may be.
  public var keyScheduleCount: Int = 0
  public var keyScheduleLimit: Int = 0
  public var workerCount: Int = 0
  public var portCount: Int = 0
  public var hugepages = false
  public var mempools: [Mempool] = []
  public var keySockets: [KeySocketStatus] = []
  /// gateway.yaml, and the ipsec.conf that it names.
  public var configPath: String?
  public var ipsecPath: String?
  public var lastReload: ReloadReport?
  /// What the operator should look into, one sentence each.
  public var warnings: [String] = []

  public init(version: String) { self.version = version }

  enum CodingKeys: String, CodingKey {
    case version, state, hugepages, mempools, warnings, tunnels, limits
    case processID = "process_id"
    case keySockets = "key_sockets"
    case uptimeSeconds = "uptime_seconds"
    case saCount = "sa_count"
    case flowCount = "flow_count"
    case heldSACount = "held_sa_count"
    case stateWritten = "state_written"
    case keyScheduleCount = "key_schedule_count"
    case keyScheduleLimit = "key_schedule_limit"
    case workerCount = "worker_count"
    case portCount = "port_count"
    case configPath = "config_path"
    case ipsecPath = "ipsec_path"
    case lastReload = "last_reload"
  }
}

/// What a reload of gateway.yaml and ipsec.conf did: all or nothing.
public struct ReloadReport: Codable, Sendable, Hashable {
  /// Seconds since the epoch.
  public var atSeconds: Double
  public var succeeded: Bool
  /// What changed, or why nothing did; one line each.
  public var messages: [String]

  public init(atSeconds: Double, succeeded: Bool, messages: [String]) {
    self.atSeconds = atSeconds
    self.succeeded = succeeded
    self.messages = messages
  }

  enum CodingKeys: String, CodingKey {
    case succeeded, messages
    case atSeconds = "at_seconds"
  }
}
