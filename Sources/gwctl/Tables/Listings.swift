import ControlAPI

/// A `gwctl show` command: the path of the API that has its rows, and how they are printed. A new one is an enum here and
/// a name in `Show`.
protocol Listing: Sendable {
  associatedtype Row: Decodable
  /// The command's name.
  static var name: String { get }
  static var abstract: String { get }
  /// Of the control API.
  static var path: String { get }
  /// What is printed, for a verbosity of 0 to 2.
  static func text(_ rows: [Row], verbosity: Int) -> String
}

enum PortListing: Listing {
  static let name = "ports"
  static let abstract = "Ports, their links and counters."
  static let path = "/v1/ports"

  static func text(_ ports: [PortStatus], verbosity: Int) -> String {
    Table.text(
      ports,
      [
        .left("PORT") { $0.name }, .left("LINK", link), .right("MTU (B)") { "\($0.mtuBytes)" },
        .right("RX PACKETS") { Quantity.grouped($0.rxPackets) }, .right("RX BYTES") { Quantity.bytes($0.rxBytes) },
        .right("RX LOST") { Quantity.grouped($0.rxErrors &+ $0.rxMissed &+ $0.rxNoMbuf) },
        .right("TX PACKETS") { Quantity.grouped($0.txPackets) }, .right("TX BYTES") { Quantity.bytes($0.txBytes) },
        .right("TX LOST") { Quantity.grouped($0.txErrors) },
      ]) + (verbosity > 0 ? ports.map(details).joined() : "")
  }

  private static func link(_ port: PortStatus) -> String {
    guard port.linkUp else { return "down" }
    guard port.linkSpeedMbps > 0 else { return "up" }
    let speed =
      port.linkSpeedMbps % 1000 == 0 ? "\(port.linkSpeedMbps / 1000) Gbit/s" : "\(port.linkSpeedMbps) Mbit/s"
    return "up \(speed)\(port.fullDuplex ? "" : " half duplex")"
  }

  private static func details(_ port: PortStatus) -> String {
    var lines = [
      "device \(port.device), driver \(port.driver), MAC \(port.mac)",
      "\(port.rxQueues) rx queues, \(port.txQueues) tx queues, NUMA socket "
        + (port.socket < 0 ? "unknown" : "\(port.socket)") + ", host TAP \(port.host ? "yes" : "no")",
      "addresses " + (port.addresses.isEmpty ? "none" : port.addresses.joined(separator: ", ")),
      "rx lost: \(port.rxErrors) errors, \(port.rxMissed) missed by workers, \(port.rxNoMbuf) without a buffer",
    ]
    if !port.espRules.isEmpty {
      lines.append("spread over the rx queues by SPI: " + port.espRules.joined(separator: ", "))
    }
    return "\n\(port.name)\n" + lines.map { "  \($0)\n" }.joined()
  }
}

enum DropListing: Listing {
  static let name = "drops"
  static let abstract = "Dropped packets by reason; with -v the reasons at 0 too."
  static let path = "/v1/drops"

  /// The most frequent reason first.
  static func text(_ drops: [DropCount], verbosity: Int) -> String {
    let shown = drops.filter { $0.packets > 0 || verbosity > 0 }
      .sorted { ($1.packets, $0.stage, $0.reason) < ($0.packets, $1.stage, $1.reason) }
    guard !shown.isEmpty else { return "No packets dropped\n" }
    return Table.text(
      shown,
      [
        .right("PACKETS") { Quantity.grouped($0.packets) }, .left("STAGE") { $0.stage }, .left("REASON") { $0.reason },
        .left("MEANING") { $0.explanation ?? "" },
      ])
  }
}

enum RouteListing: Listing {
  static let name = "routes"
  static let abstract = "Routes of the data path."
  static let path = "/v1/routes"

  static func text(_ routes: [RouteStatus], verbosity: Int) -> String {
    guard !routes.isEmpty else { return "No routes\n" }
    return Table.text(
      routes,
      [
        .left("DESTINATION") { $0.destination.length == 0 ? "default" : "\($0.destination)" },
        .left("GATEWAY") { $0.gateway.map { "\($0)" } ?? "on link" }, .left("PORT") { $0.port },
        .left("ORIGIN") { $0.origin }, .right("METRIC") { "\($0.metric)" },
        .right("MTU (B)") { $0.mtuBytes.map { "\($0)" } ?? "-" },
        .left("NEXT HOP") { $0.resolved.map { $0 ? "resolved" : "unresolved" } ?? "-" },
      ])
  }
}

enum NeighborListing: Listing {
  static let name = "neighbors"
  static let abstract = "Next hops and their MAC addresses."
  static let path = "/v1/neighbors"

  static func text(_ neighbors: [NeighborStatus], verbosity: Int) -> String {
    guard !neighbors.isEmpty else { return "No neighbors\n" }
    return Table.text(
      neighbors,
      [
        .left("ADDRESS") { "\($0.address)" }, .left("MAC") { $0.mac.map { "\($0)" } ?? "-" }, .left("PORT") { $0.port },
        .left("STATE") { $0.state }, .left("ORIGIN") { $0.origin },
        .right("QUEUED PACKETS") { "\($0.queuedPackets)" },
      ])
  }
}

enum EngineListing: Listing {
  static let name = "engines"
  static let abstract = "Crypto engines, what each was picked for and what it costs."
  static let path = "/v1/engines"

  static func text(_ engines: [EngineStatus], verbosity: Int) -> String {
    let choices = engines.flatMap { engine in
      engine.choices.filter { $0.picked || verbosity > 0 }.map { (engine: engine.name, choice: $0) }
    }
    let summary = Table.text(
      engines,
      [
        .left("ENGINE") { $0.name }, .left("VERSION") { $0.version }, .left("SELF-TEST", selfTest),
        .right("SAS") { "\($0.sessions)" },
      ])
    guard !choices.isEmpty else { return summary }
    return summary + "\n"
      + Table.text(
        choices,
        [
          .left("TRANSFORM") { $0.choice.transform },
          .right("UP TO (B)") { $0.choice.upToBytes.map { "\($0)" } ?? "any" }, .left("ENGINE") { $0.engine },
          .right("NS/PACKET") { $0.choice.nanosecondsPerPacket.map { Quantity.decimal($0, digits: 0) } ?? "-" },
          .left("PICKED") { $0.choice.picked ? "yes" : "no" },
        ])
  }

  private static func selfTest(_ engine: EngineStatus) -> String {
    engine.selfTestFailures.map { $0.isEmpty ? "passed" : "FAILED: " + $0.joined(separator: ", ") } ?? "not run"
  }
}

enum WorkerListing: Listing {
  static let name = "workers"
  static let abstract = "Workers: packets, bursts, cycles a packet, idle share."
  static let path = "/v1/workers"

  static func text(_ workers: [WorkerStatus], verbosity: Int) -> String {
    var text = Table.text(
      workers,
      [
        .right("WORKER") { "\($0.id)" }, .right("CORE") { "\($0.core)" },
        .right("SOCKET") { $0.socket < 0 ? "-" : "\($0.socket)" },
        .right("RX PACKETS") { Quantity.grouped($0.rxPackets) },
        .right("TX PACKETS") { Quantity.grouped($0.txPackets) },
        .right("DROPPED") { Quantity.grouped($0.dropPackets) }, .right("BURSTS") { Quantity.grouped($0.bursts) },
        .right("PACKETS/BURST", perBurst), .right("CYCLES/PACKET", cycles),
        .right("IDLE") { Quantity.percent($0.idleShare) }, .left("QUEUES") { $0.queues.joined(separator: " ") },
      ])
    if verbosity > 0 {
      if workers.contains(where: { $0.offeredBursts | $0.helpedBursts | $0.handoffRingFull != 0 }) {
        text += "\n" + sharedBursts(workers)
      }
      text += workers.map(stages).joined()
    }
    for worker in workers {
      for warning in worker.warnings { text += "warning: worker \(worker.id): \(warning)\n" }
    }
    return text
  }

  private static func perBurst(_ worker: WorkerStatus) -> String {
    Quantity.decimal(worker.bursts == 0 ? 0 : Double(worker.rxPackets) / Double(worker.bursts), digits: 1)
  }

  private static func cycles(_ worker: WorkerStatus) -> String {
    worker.cyclesPerPacket == 0 ? "-" : Quantity.decimal(worker.cyclesPerPacket, digits: 0)
  }

  private static func sharedBursts(_ workers: [WorkerStatus]) -> String {
    Table.text(
      workers,
      [
        .right("WORKER") { "\($0.id)" }, .right("OFFERED") { Quantity.grouped($0.offeredBursts) },
        .right("RUN BY OTHERS") { Quantity.grouped($0.sharedBursts) },
        .right("RING FULL") { Quantity.grouped($0.handoffRingFull) },
        .right("RUN FOR OTHERS") { Quantity.grouped($0.helpedBursts) },
      ])
  }

  private static func stages(_ worker: WorkerStatus) -> String {
    guard let stages = worker.stageCyclesPerPacket, !stages.isEmpty else { return "" }
    return "\nworker \(worker.id)\n"
      + Table.text(
        stages.sorted { ($1.value, $0.key) < ($0.value, $1.key) },
        [.left("STAGE") { $0.key }, .right("CYCLES/PACKET") { Quantity.decimal($0.value, digits: 1) }])
  }
}
