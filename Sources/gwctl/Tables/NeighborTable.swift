import ControlAPI

enum NeighborTable {
  static func text(_ neighbors: [NeighborStatus], verbosity: Int) -> String {
    guard !neighbors.isEmpty else { return "No neighbors\n" }
    var table = Table([
      "ADDRESS": .left, "MAC": .left, "PORT": .left, "STATE": .left, "ORIGIN": .left, "QUEUED PACKETS": .right,
    ])
    for neighbor in neighbors {
      table.add(
        "\(neighbor.address)", neighbor.mac.map { "\($0)" } ?? "-", neighbor.port, neighbor.state, neighbor.origin,
        "\(neighbor.queuedPackets)")
    }
    return table.text
  }
}
