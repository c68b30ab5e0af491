import ControlAPI
import Foundation
import IKEControl
import IPsec

/// The gateway as the API's server speaks to it: every call goes to the control thread and comes back.
public struct GatewayService: GatewayControl {
  private let gateway: Gateway
  private let loop: ControlLoop

  public init(_ gateway: Gateway) {
    self.gateway = gateway
    loop = gateway.loop
  }

  func ask<Result: Sendable>(
    _ body: @escaping @Sendable (Gateway) -> Result
  ) async throws(ControlError) -> Result {
    let gateway = gateway
    do {
      return try await loop.call { () throws(ControlError) in
        guard gateway.state == .running else { throw ControlError(.unavailable, "gwd is \(gateway.state.rawValue)") }
        return body(gateway)
      }
    } catch let error as ControlError {
      throw error
    } catch {
      throw ControlError(.internal, "\(error)")
    }
  }

  public func status() async throws(ControlError) -> GatewayStatus { try await ask { $0.status } }
  public func securityAssociations() async throws(ControlError) -> [SARecord] {
    try await ask { $0.database.records() }
  }
  public func policies() async throws(ControlError) -> [PolicyRecord] { try await ask { $0.database.policies() } }
  public func ports() async throws(ControlError) -> [PortStatus] { try await ask { $0.portStatuses } }
  public func workers() async throws(ControlError) -> [WorkerStatus] { try await ask { $0.workerStatuses } }
  public func drops() async throws(ControlError) -> [DropCount] { try await ask { $0.dropCounts } }
  public func routes() async throws(ControlError) -> [RouteStatus] { try await ask { $0.routeStatuses } }
  public func neighbors() async throws(ControlError) -> [NeighborStatus] { try await ask { $0.neighborStatuses } }
  public func engines() async throws(ControlError) -> [EngineStatus] { try await ask { $0.engineStatuses } }

  public func load(_ transaction: RuleTransaction) async throws(ControlError) -> LoadReport {
    var report = try await ask { $0.load(transaction) }
    guard !transaction.ike.isEmpty, report.failures.isEmpty || !transaction.isAtomic else { return report }
    let status = await gateway.ike.settled()
    if transaction.mode != .delete {
      report.ike = transaction.ike.compactMap { rule in
        status.connections.first { $0.name == rule.name && $0.peer == rule.peerName }
      }
    }
    return report
  }

  public func check(_ transaction: RuleTransaction) async throws(ControlError) -> LoadReport {
    try await ask { $0.check(transaction) }
  }

  public func flush(_ target: FlushRequest.Target) async throws(ControlError) -> FlushReport {
    try await ask { $0.flush(target) }
  }

  public func reload() async throws(ControlError) -> ReloadReport {
    var report = try await ask { $0.reload() }
    guard report.succeeded else { return report }
    let status = await gateway.ike.settled()
    if let waitingFor = status.waitingFor { report.messages.append("ike: waiting: \(waitingFor)") }
    report.messages += status.problems.map { "ike: \($0)" }
    report.messages += status.connections.filter { $0.state == .failed }.map {
      "\($0.file): \($0.line): \($0.name): \($0.reason ?? "refused")"
    }
    return report
  }

  public func log(since: Double) async throws(ControlError) -> [LogLine] { LogMemory.shared.lines(since: since) }

  public func daemonNames() async throws(ControlError) -> [DaemonName] { try await ask { $0.tunnels.daemonNames } }

  public func keyDaemon() async throws(ControlError) -> KeyDaemonStatus { try await ask { $0.keyDaemonStatus } }

  public func keyDaemon(_ request: KeyDaemonRequest) async throws(ControlError) -> KeyDaemonStatus {
    let refusal = try await ask { (gateway) -> ControlError? in
      do throws(ControlError) {
        try gateway.keyDaemon(request)
        return nil
      } catch {
        return error
      }
    }
    if let refusal { throw refusal }
    if request.action == .reread { _ = await gateway.ike.settled() }
    return try await ask { $0.keyDaemonStatus }
  }

  public func events() async throws(ControlError) -> AsyncStream<GatewayEvent> {
    try await ask { $0.events.subscribe() }
  }
}
