import Foundation
import Threads

extension KeyDaemonStatus {
  /// How long the daemon may take to say which SAs it has.
  private static var patience: Double { 2 }

  /// Asks the daemon which of the rules' tunnels are up; rules stay `loaded` where it does not answer. Blocks, but not
  /// beyond the interrupt.
  public mutating func askForTunnels(interrupt: Interrupt? = nil) {
    guard connections.contains(where: { $0.state == .loaded }) else { return }
    switch daemon {
    case .charon:
      guard let charon = try? VICIConnection(path: socketPath, timeoutSeconds: Self.patience, interrupt: interrupt),
        let sas = try? IKEReport.sas(charon: charon)
      else { return }
      setTunnels(sas)
    case .iked:
      var iked = Ikectl(socketPath: socketPath, interrupt: interrupt)
      iked.timeoutSeconds = Self.patience
      if let report = try? IKEReport(iked: iked) { setTunnels(report.sas) }
    case .none: break
    }
  }

  mutating func setTunnels(_ sas: [IKEReport.IKESA], now: Date = Date()) {
    for index in connections.indices where connections[index].state == .loaded {
      // iked names its SAs after the peer's address, whatever the rule is called.
      let own = sas.filter { $0.name == connections[index].peer || daemon == .iked }
      connections[index].setTunnel(own, now: now)
    }
  }
}

extension IKEConnectionStatus {
  fileprivate mutating func setTunnel(_ sas: [IKEReport.IKESA], now: Date) {
    if let child = sas.lazy.flatMap(\.children).first(where: { $0.isUp && $0.carries(rule: name) }) {
      state = .up
      reason = nil
      nextTrySeconds = nil
      upSince = upSince ?? child.installedSeconds.map { now.timeIntervalSince1970 - Double($0) }
    } else {
      state = .down
      upSince = nil
      let isConnecting = sas.contains { $0.state == "CONNECTING" }
      reason = reason ?? (isConnecting ? "the peer has not answered yet" : nil)
    }
  }
}

extension IKEReport.ChildSA {
  /// Carries packets, if perhaps not for much longer.
  fileprivate var isUp: Bool { ["INSTALLED", "REKEYING", "REKEYED", "UPDATING"].contains(state) }

  /// iked has one child for all rules that are alike.
  fileprivate func carries(rule: String) -> Bool {
    name == rule || zip(localSelectors, remoteSelectors).contains { "from-\($0)-to-\($1)" == rule }
  }
}
