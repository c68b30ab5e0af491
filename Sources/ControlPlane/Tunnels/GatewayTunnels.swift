import ControlAPI
import IKEControl
import IPsec
import Logging

/// Tunnels: what is told of them to the log, to readers of events and to the key daemon's status. Control thread.
extension Gateway {
  func startTunnels() {
    tunnels.onChange = { [unowned self] change in
      events.publish(.tunnel(change))
      log(change)
    }
  }

  /// Thousands may change at once: the log has some of them, and how many there were.
  private func log(_ change: TunnelChange) {
    tunnelLines += 1
    guard tunnelLines <= Self.mostTunnelLines else { return }
    let peer = change.peer.map { " to \($0)" } ?? ""
    let reason = change.reason.map { ": \($0)" } ?? ""
    var logger = logger
    logger[metadataKey: "tunnel"] = "\(change.name)"
    if let peer = change.peer { logger[metadataKey: "peer"] = "\(peer)" }
    logger.log(
      level: change.state == .down ? .notice : .info, "tunnel \(change.name)\(peer): \(change.state.rawValue)\(reason)")
  }

  /// In a second.
  private static let mostTunnelLines = 50
  /// Of the rules' states, in one turn.
  private static let mostStates = 1000

  func endTunnelSecond() {
    if tunnelLines > Self.mostTunnelLines {
      logger.notice("\(tunnelLines - Self.mostTunnelLines) more tunnels changed their state")
    }
    tunnelLines = 0
  }

  /// What the agent has learnt.
  func hearOfTunnels() {
    watchDaemon()
    guard let news = ike.takeNews() else { return }
    tunnels.take(news)
    if news.hasStates {
      ruleStates = ike.connections[...]
      takeRuleStates()
    }
  }

  private func takeRuleStates() {
    tunnels.take(ruleStates.prefix(Self.mostStates))
    ruleStates = ruleStates.dropFirst(Self.mostStates)
    if !ruleStates.isEmpty { later { $0.takeRuleStates() } }
  }

  /// A charon that keys this gateway is listened to, whoever gave it its connections.
  private func watchDaemon() {
    let watches = configuration.ike.kind == .charon && keySockets?.daemons.isEmpty == false
    guard watches != watchesDaemon else { return }
    watchesDaemon = watches
    ike.watch(watches)
  }

  /// What is being done to SAs and policies from here, for the reasons of tunnels that lose theirs.
  func doing<Result>(_ what: String, _ body: () throws -> Result) rethrows -> Result {
    tunnels.doing = what
    defer { tunnels.doing = nil }
    return try body()
  }

  /// Of rules that the daemon has, with what their tunnels are.
  func addTunnels(to status: inout KeyDaemonStatus) {
    tunnels.settle(atMost: 1000)
    for index in status.connections.indices where status.connections[index].state == .loaded {
      let connection = status.connections[index]
      guard let tunnel = tunnels.tunnel(rule: connection.name, peerName: connection.peer) else { continue }
      status.connections[index].take(tunnel.life)
    }
  }
}

extension IKEConnectionStatus {
  mutating func take(_ life: TunnelLife) {
    upSince = life.isUp ? life.since : nil
    switch life.state {
    case .up, .static:
      state = .up
      reason = nil
      nextTrySeconds = nil
    case .connecting:
      state = .connecting
      reason = life.reason
    case .down:
      state = .down
      reason = held ? nil : life.reason ?? reason
    }
  }
}

extension GatewayService {
  /// In one turn of the control thread: places looked through, and tunnels told of whole.
  private static let digestsATurn = 500
  private static let tunnelsATurn = 50

  public func tunnels(_ query: TunnelQuery) async throws(ControlError) -> [TunnelStatus] {
    let withDrops = query.order == .drops
    var digests: [TunnelDigest] = []
    var start = 0
    while true {
      let from = start
      let part = try await ask { gateway in
        gateway.tunnels.settle(atMost: Self.digestsATurn)
        return gateway.tunnels.digests(from: from, atMost: Self.digestsATurn, withDrops: withDrops)
      }
      guard let part else { break }
      digests += part
      start += Self.digestsATurn
    }
    let chosen = query.chosen(digests)
    var statuses: [TunnelStatus] = []
    statuses.reserveCapacity(chosen.count)
    for start in stride(from: 0, to: chosen.count, by: Self.tunnelsATurn) {
      let places = chosen[start..<min(start + Self.tunnelsATurn, chosen.count)]
      statuses += try await ask { $0.tunnels.statuses(places, query) }
    }
    return statuses
  }
}
