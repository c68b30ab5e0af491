import ControlAPI
import Foundation

/// What the gateway says at one moment, for as many tunnels as are shown.
struct TopLook {
  var time: Double
  var status: GatewayStatus
  var workers: [WorkerStatus]
  var ports: [PortStatus]
  var drops: [DropCount]
  var tunnels: [TunnelStatus]

  init(_ global: GlobalOptions, _ view: TopView, rows: Int) throws(Failure) {
    let query = view.query(rows: rows)
    self = try global.ask { client throws(ControlClientError) in
      TopLook(
        time: Date().timeIntervalSince1970, status: try client.status(), workers: try client.workers(),
        ports: try client.ports(), drops: try client.drops(), tunnels: try client.tunnels(query))
    }
  }

  init(
    time: Double, status: GatewayStatus, workers: [WorkerStatus], ports: [PortStatus], drops: [DropCount],
    tunnels: [TunnelStatus]
  ) {
    self.time = time
    self.status = status
    self.workers = workers
    self.ports = ports
    self.drops = drops
    self.tunnels = tunnels
  }
}

/// Two looks, and what happened between them.
struct TopPage: Codable, Sendable {
  struct Rate: Codable, Sendable {
    var packetsPerSecond = 0.0
    var bitsPerSecond = 0.0

    enum CodingKeys: String, CodingKey {
      case packetsPerSecond = "packets_per_second"
      case bitsPerSecond = "bits_per_second"
    }
  }

  var atSeconds: Double
  var version: String
  var uptimeSeconds: Double
  var counts: TunnelCounts
  /// By the worker's number, 0 to 1.
  var busyShares: [Double]
  /// Of all ports.
  var received = Rate()
  var sent = Rate()
  var dropsPerSecond = 0.0
  /// The reason that most of them have.
  var firstDropReason: String?
  var tunnels: [TunnelStatus]

  enum CodingKeys: String, CodingKey {
    case version, received, sent, tunnels
    case atSeconds = "at_seconds"
    case uptimeSeconds = "uptime_seconds"
    case counts = "tunnel_counts"
    case busyShares = "worker_busy_shares"
    case dropsPerSecond = "drops_per_second"
    case firstDropReason = "first_drop_reason"
  }

  init(_ look: TopLook, after last: TopLook?) {
    atSeconds = look.time
    version = look.status.version
    uptimeSeconds = look.status.uptimeSeconds
    counts = look.status.tunnels
    busyShares = look.workers.map { 1 - $0.idleShare }
    tunnels = look.tunnels
    guard let last, look.time > last.time else { return }
    let seconds = look.time - last.time
    func rate(_ packets: KeyPath<PortStatus, UInt64>, _ bytes: KeyPath<PortStatus, UInt64>) -> Rate {
      func total(_ ports: [PortStatus], _ path: KeyPath<PortStatus, UInt64>) -> Double {
        ports.reduce(0) { $0 + Double($1[keyPath: path]) }
      }
      return Rate(
        packetsPerSecond: max(0, total(look.ports, packets) - total(last.ports, packets)) / seconds,
        bitsPerSecond: max(0, total(look.ports, bytes) - total(last.ports, bytes)) * 8 / seconds)
    }
    received = rate(\.rxPackets, \.rxBytes)
    sent = rate(\.txPackets, \.txBytes)
    let before = Dictionary(last.drops.map { ($0.reason, $0.packets) }, uniquingKeysWith: { $1 })
    let new = look.drops.map { ($0.reason, $0.packets &- min($0.packets, before[$0.reason] ?? 0)) }
    dropsPerSecond = Double(new.reduce(0) { $0 &+ $1.1 }) / seconds
    firstDropReason = new.max { $0.1 < $1.1 }.flatMap { $0.1 > 0 ? $0.0 : nil }
  }

  /// Tunnels that the list may be moved over.
  var matching: Int { counts.all }

  func with(_ tunnels: [TunnelStatus]) -> TopPage {
    var page = self
    page.tunnels = tunnels
    return page
  }
}
