import ControlAPI

enum PortTable {
  static func text(_ ports: [PortStatus], verbosity: Int) -> String {
    var table = Table([
      "PORT": .left, "LINK": .left, "MTU (B)": .right, "RX PACKETS": .right, "RX BYTES": .right, "RX LOST": .right,
      "TX PACKETS": .right, "TX BYTES": .right, "TX LOST": .right,
    ])
    for port in ports {
      table.add(
        port.name, link(port), "\(port.mtuBytes)", Quantity.grouped(port.rxPackets), Quantity.bytes(port.rxBytes),
        Quantity.grouped(port.rxErrors &+ port.rxMissed &+ port.rxNoMbuf), Quantity.grouped(port.txPackets),
        Quantity.bytes(port.txBytes), Quantity.grouped(port.txErrors))
    }
    return table.text + (verbosity > 0 ? ports.map(particulars).joined() : "")
  }

  private static func link(_ port: PortStatus) -> String {
    guard port.linkUp else { return "down" }
    guard port.linkSpeedMbps > 0 else { return "up" }
    let speed =
      port.linkSpeedMbps % 1000 == 0 ? "\(port.linkSpeedMbps / 1000) Gbit/s" : "\(port.linkSpeedMbps) Mbit/s"
    return "up \(speed)\(port.fullDuplex ? "" : " half duplex")"
  }

  private static func particulars(_ port: PortStatus) -> String {
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
