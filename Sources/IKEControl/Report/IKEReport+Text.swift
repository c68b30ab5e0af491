extension IKEReport {
  /// For people: `daemon`, `connections`, `ike sas` with their child SAs.
  public var text: String {
    var lines = [Self.line(daemon), "", "Connections: \(connections.count)"]
    for connection in connections { lines += Self.lines(connection) }
    lines += ["", "IKE SAs: \(sas.count)"]
    for sa in sas { lines += Self.lines(sa) }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func line(_ daemon: Daemon) -> String {
    var parts = [[daemon.name, daemon.version].compactMap(\.self).joined(separator: " "), daemon.socketPath]
    if let process = daemon.processID { parts.append("process \(process)") }
    if let uptime = daemon.uptime { parts.append("up \(uptime)") }
    if let halfOpen = daemon.halfOpen, halfOpen > 0 { parts.append("\(halfOpen) half open") }
    return parts.joined(separator: ", ")
  }

  private static func lines(_ connection: Connection) -> [String] {
    let ends = [connection.localAddresses, connection.remoteAddresses].map { $0.joined(separator: ",") }
    var head = "  \(connection.name): \(connection.version ?? "") \(ends[0]) to \(ends[1])"
    if let seconds = connection.rekeySeconds { head += ", rekey after \(duration(seconds))" }
    if let seconds = connection.deadPeerSeconds { head += ", dead peer check every \(duration(seconds))" }
    var lines = [head]
    if let local = connection.local { lines.append("    local \(local); remote \(connection.remote ?? "any")") }
    for child in connection.children {
      var line = "    \(child.name): \(child.mode) \(child.localSelectors.joined(separator: " ")) to "
      line += child.remoteSelectors.joined(separator: " ")
      if let seconds = child.rekeySeconds { line += ", rekey after \(duration(seconds))" }
      lines.append(line)
    }
    return lines
  }

  private static func lines(_ sa: IKESA) -> [String] {
    var lines = [
      "  \(sa.name) #\(sa.id) \(sa.state) \(sa.version ?? ""), \(sa.isInitiator ? "initiator" : "responder")",
      "    \(end(sa.localHost, sa.localPort, sa.localID)) to \(end(sa.remoteHost, sa.remotePort, sa.remoteID))"
        + (sa.nat.isEmpty ? "" : ", NAT: \(sa.nat.joined(separator: " and "))"),
    ]
    if let initiator = sa.initiatorSPI { lines.append("    spi \(initiator) \(sa.responderSPI ?? "")") }
    if let transform = sa.transform { lines.append("    \(transform)") }
    let times = [
      sa.establishedSeconds.map { "established \(duration($0)) ago" },
      sa.rekeySeconds.map { "rekey in \(duration($0))" },
      sa.reauthenticationSeconds.map { "reauthentication in \(duration($0))" },
    ].compactMap(\.self)
    if !times.isEmpty { lines.append("    " + times.joined(separator: ", ")) }
    if !sa.tasks.isEmpty { lines.append("    tasks: " + sa.tasks.joined(separator: ", ")) }
    for child in sa.children { lines += Self.lines(child) }
    return lines
  }

  private static func lines(_ sa: ChildSA) -> [String] {
    var head = "    child \(sa.name) #\(sa.id) \(sa.state)"
    for word in [sa.saProtocol, sa.mode] { if let word { head += " \(word)" } }
    if sa.isInUDP { head += " in UDP" }
    if let id = sa.requestID { head += ", reqid \(id)" }
    var lines = [head]
    if let spi = sa.spiIn { lines.append("      spi in 0x\(spi), out 0x\(sa.spiOut ?? "")") }
    if let transform = sa.transform { lines.append("      \(transform)\(sa.isESN ? " ESN" : "")") }
    if let packets = sa.packetsIn {
      lines.append(
        "      in \(packets) packets, \(sa.bytesIn ?? 0) bytes\(idle(sa.idleInSeconds)); "
          + "out \(sa.packetsOut ?? 0) packets, \(sa.bytesOut ?? 0) bytes\(idle(sa.idleOutSeconds))")
    }
    let times = [
      sa.installedSeconds.map { "installed \(duration($0)) ago" }, sa.rekeySeconds.map { "rekey in \(duration($0))" },
      sa.expirySeconds.map { "expires in \(duration($0))" },
    ].compactMap(\.self)
    if !times.isEmpty { lines.append("      " + times.joined(separator: ", ")) }
    lines.append(
      "      \(sa.localSelectors.joined(separator: " ")) to \(sa.remoteSelectors.joined(separator: " "))")
    return lines
  }

  private static func end(_ host: String?, _ port: UInt64?, _ id: String?) -> String {
    let address = (host ?? "?") + (port.map { "[\($0)]" } ?? "")
    return id == nil || id == host ? address : "\(address) \(id ?? "")"
  }

  private static func idle(_ seconds: UInt64?) -> String { seconds.map { ", idle \(duration($0))" } ?? "" }

  /// `75 s`, `5 min 3 s`, `2 h 0 min`.
  static func duration(_ seconds: UInt64) -> String {
    if seconds < 120 { return "\(seconds) s" }
    if seconds < 7200 { return "\(seconds / 60) min" + (seconds % 60 > 0 ? " \(seconds % 60) s" : "") }
    return "\(seconds / 3600) h" + (seconds / 60 % 60 > 0 ? " \(seconds / 60 % 60) min" : "")
  }
}
