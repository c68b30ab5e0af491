import ConfigurationFiles
import ControlAPI
import IPsec

/// A line of `gwctl monitor`.
enum EventText {
  static func line(_ event: GatewayEvent) -> String {
    StatusText.time(event.atSeconds) + " " + text(event.body) + "\n"
  }

  private static func text(_ body: GatewayEvent.Body) -> String {
    switch body {
    case .lost(let count): "\(count) events lost: this reader is too slow"
    case .reloaded(let report):
      "reload " + (report.succeeded ? "done" : "refused: " + report.messages.joined(separator: "; "))
    case .tunnel(let change): text(change)
    case .database(let change): text(change)
    }
  }

  private static func text(_ change: TunnelChange) -> String {
    "tunnel \(change.name)\(change.peer.map { " to \($0)" } ?? ""): \(change.state.rawValue)"
      + (change.reason.map { ": \($0)" } ?? "")
  }

  private static func text(_ change: DatabaseChange) -> String {
    switch change {
    case .saAdded(let sa): "SA added: " + text(sa)
    case .saUpdated(let sa): "SA updated: " + text(sa)
    case .saDeleted(let sa): "SA deleted: " + text(sa)
    case .sasFlushed(let saProtocol): "SAs flushed" + (saProtocol.map { ": \($0)" } ?? "")
    case .saExpired(let sa, let hard): "SA expired (\(hard ? "hard" : "soft")): " + text(sa)
    case .mapping(let sa, let source, let port): "peer moved to \(source) port \(port): " + text(sa)
    case .acquire(let notice): "SA needed: " + text(notice)
    case .acquireExpired(let notice): "SA needed, none came: " + text(notice)
    case .policyAdded(let policy): "flow added: " + text(policy)
    case .policyUpdated(let policy): "flow updated: " + text(policy)
    case .policyDeleted(let policy): "flow deleted: " + text(policy)
    case .policiesFlushed: "flows flushed"
    }
  }

  private static func text(_ sa: SARecord) -> String { firstLine(IPsecctlPrinter().sas([sa])) }
  private static func text(_ policy: PolicyRecord) -> String { firstLine(IPsecctlPrinter().flows([policy])) }

  private static func text(_ notice: AcquireNotice) -> String {
    "\(notice.template.saProtocol) to \(notice.template.destination) for packets from \(notice.packet.source)"
      + " to \(notice.packet.destination)"
  }

  private static func firstLine(_ text: String) -> String { String(text.prefix { $0 != "\n" }) }
}
