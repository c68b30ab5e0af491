import IKEControl
import IPsec

/// What the API's server asks of the gateway. ControlPlane implements it by posting to the control thread; every method
/// may be called from any task at any time, and throws `ControlError` (`unavailable` before start and after stop).
public protocol GatewayControl: Sendable {
  func status() async throws(ControlError) -> GatewayStatus
  /// In order of SPI, then destination. With keys: the server decides what is shown to whom.
  func securityAssociations() async throws(ControlError) -> [SARecord]
  /// In the order in which they were added.
  func policies() async throws(ControlError) -> [PolicyRecord]
  /// Each as it stands when it is looked at: many are looked at in several turns of the control thread.
  func tunnels(_ query: TunnelQuery) async throws(ControlError) -> [TunnelStatus]
  func ports() async throws(ControlError) -> [PortStatus]
  func workers() async throws(ControlError) -> [WorkerStatus]
  /// Every reason there is, those at 0 too.
  func drops() async throws(ControlError) -> [DropCount]
  func routes() async throws(ControlError) -> [RouteStatus]
  func neighbors() async throws(ControlError) -> [NeighborStatus]
  func engines() async throws(ControlError) -> [EngineStatus]
  /// What of the log is kept, from a moment on.
  func log(since: Double) async throws(ControlError) -> [LogLine]
  /// What the key daemon calls the SAs of request IDs.
  func daemonNames() async throws(ControlError) -> [DaemonName]

  /// Atomic: all of it, or `LoadReport.failures` says why nothing changed. Else what succeeded stands.
  func load(_ transaction: RuleTransaction) async throws(ControlError) -> LoadReport
  /// As `load`, but nothing changes.
  func check(_ transaction: RuleTransaction) async throws(ControlError) -> LoadReport
  func flush(_ target: FlushRequest.Target) async throws(ControlError) -> FlushReport
  /// Reads gateway.yaml and ipsec.conf again, as SIGHUP does. A refusal of the files is a report with `succeeded` false.
  func reload() async throws(ControlError) -> ReloadReport
  /// The key daemon, and what it made of the `ike` rules.
  func keyDaemon() async throws(ControlError) -> KeyDaemonStatus
  func keyDaemon(_ request: KeyDaemonRequest) async throws(ControlError) -> KeyDaemonStatus
  /// From now on, until the gateway stops or the reader goes; see `EventBroadcaster`.
  func events() async throws(ControlError) -> AsyncStream<GatewayEvent>
}
