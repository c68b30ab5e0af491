import ControlAPI
import Foundation

enum StatusText {
  static func text(_ status: GatewayStatus, verbosity: Int) -> String {
    func count(_ number: Int) -> String { Quantity.grouped(UInt64(max(0, number))) }
    var lines: [(String, String)] = [
      ("gwd", "\(status.version), \(status.state.rawValue), process \(status.processID)"),
      ("uptime", Quantity.duration(status.uptimeSeconds)),
      ("SAs", count(status.saCount)), ("flows", count(status.flowCount)),
      ("key schedules", "\(count(status.keyScheduleCount)) of at most \(count(status.keyScheduleLimit))"),
      ("tunnels", tunnels(status.tunnels)), ("ports", "\(status.portCount)"),
      ("workers", "\(status.workerCount)"), ("hugepages", status.hugepages ? "yes" : "no"),
    ]
    for pool in status.mempools {
      let used = pool.sizeBuffers &- min(pool.availableBuffers, pool.sizeBuffers)
      lines.append(
        ("mempool", "\(pool.name): \(used) of \(pool.sizeBuffers) buffers in use, \(pool.bufferBytes) B each"))
    }
    for socket in status.keySockets {
      var text = "\(socket.name): \(Quantity.count(socket.clients, "client"))"
      let troubles = [
        (socket.turnedAway, "turned away"), (socket.refusedRequests, "requests refused"),
        (socket.droppedNotices, "notices dropped"), (socket.overfull, "closed as answers were not read"),
      ]
      for (count, what) in troubles where count > 0 { text += ", \(count) \(what)" }
      lines.append(("key socket", text))
    }
    if let path = status.configPath { lines.append(("configuration", path)) }
    if let path = status.ipsecPath { lines.append(("rules", path)) }
    if let reload = status.lastReload {
      lines.append(("last reload", "\(time(reload.atSeconds)), \(reload.succeeded ? "done" : "refused")"))
      if verbosity > 0 || !reload.succeeded { lines += reload.messages.map { ("", $0) } }
    }
    lines += status.warnings.map { ("warning", $0) }
    let width = lines.map(\.0.count).max() ?? 0
    return lines.map { $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 + "\n" }.joined()
  }

  private static func tunnels(_ counts: TunnelCounts) -> String {
    let parts = TunnelStatus.State.allCases.filter { counts[$0] > 0 }.map { "\(counts[$0]) \($0.rawValue)" }
    return parts.isEmpty ? "none" : parts.joined(separator: ", ")
  }

  /// ISO 8601, UTC.
  static func time(_ seconds: Double) -> String {
    Date(timeIntervalSince1970: seconds).formatted(.iso8601)
  }
}
