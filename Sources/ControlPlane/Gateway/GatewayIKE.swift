import ConfigurationFiles
import ControlAPI
import IKEControl
import Logging

/// The key daemon that is given the `ike` rules. Control thread; what the daemon takes long for is the agent's.
extension Gateway {
  static func ikeSettings(_ configuration: GatewayConfiguration, _ paths: GatewayPaths) -> IKEAgent.Settings {
    IKEAgent.Settings(daemon: configuration.ike, runDirectory: paths.runDirectory)
  }

  func ikeSettings(_ configuration: GatewayConfiguration) -> IKEAgent.Settings {
    Self.ikeSettings(configuration, paths)
  }

  func orderIKE(_ transaction: RuleTransaction, _ report: inout LoadReport) {
    switch transaction.mode {
    case .replace:
      ike.replace(transaction.ike)
      tunnels.replace(transaction.ike)
    case .add:
      ike.add(transaction.ike)
      tunnels.add(transaction.ike)
    case .delete:
      tunnels.remove(transaction.ike)
      let missing = Set(ike.remove(transaction.ike))
      report.ike = transaction.ike.filter { missing.contains($0.name) }.map {
        IKEConnectionStatus($0, .failed, reason: "no such ike rule is loaded")
      }
    }
  }

  var keyDaemonStatus: KeyDaemonStatus {
    var status = ike.status
    status.capture = ikeCapture?.path
    hearOfTunnels()
    addTunnels(to: &status)
    return status
  }

  func keyDaemon(_ request: KeyDaemonRequest) throws(ControlError) {
    switch request.action {
    case .hold, .release:
      guard ike.hold(request.names, request.action == .hold) else {
        throw ControlError(.notFound, "no ike rule is named \(request.names?.joined(separator: ", ") ?? "")")
      }
    case .reread: ike.replace(nil)
    case .capture: try startCapture(request.path ?? paths.runDirectory + "/ike.pcap")
    case .endCapture:
      guard let capture = ikeCapture else { throw ControlError(.notFound, "no capture is under way") }
      capture.stop()
      ikeCapture = nil
      logger.notice("ike: capture ends: \(capture.path)")
    }
  }

  private func startCapture(_ path: String) throws(ControlError) {
    if let ikeCapture { throw ControlError(.exists, "a capture to \(ikeCapture.path) is under way") }
    let ports = configuration.ports.filter(\.host).map(\.name)
    do {
      ikeCapture = try IKECapture(path: path, interfaces: ports)
    } catch {
      throw ControlError(.invalid, error.description)
    }
    logger.notice("ike: messages on \(ports.joined(separator: ", ")) are captured to \(path)")
  }
}

extension IKEAgent.Level {
  var logLevel: Logger.Level {
    switch self {
    case .info: .info
    case .notice: .notice
    case .warning: .warning
    case .error: .error
    }
  }
}
