import ConfigurationFiles
import ControlAPI
import Foundation
import IPsec

enum TunnelText {
  static func table(_ tunnels: [TunnelStatus], now: Double = Date().timeIntervalSince1970) -> String {
    guard !tunnels.isEmpty else { return "No tunnels\n" }
    return Table.text(
      tunnels,
      [
        .left("TUNNEL") { $0.name }, .left("STATE") { $0.state.rawValue },
        .right("FOR") { Quantity.duration(now - $0.since) }, .left("PEER") { $0.peer.map { "\($0)" } ?? "any" },
        .right("IN") { Quantity.bytes($0.received.bytes) }, .right("OUT") { Quantity.bytes($0.sent.bytes) },
        .right("IN/S") { Quantity.bits($0.rates.tenSeconds.inBitsPerSecond) },
        .right("OUT/S") { Quantity.bits($0.rates.tenSeconds.outBitsPerSecond) },
        .right("DROPS") { Quantity.grouped($0.drops.values.reduce(0, &+)) }, .right("REKEYS") { "\($0.rekeys)" },
        .left("") { $0.reason ?? "" },
      ])
  }

  static func whole(_ tunnels: [TunnelStatus], now: Double = Date().timeIntervalSince1970) -> String {
    guard !tunnels.isEmpty else { return "No tunnels\n" }
    return tunnels.map { whole($0, now) }.joined(separator: "\n")
  }

  private static func whole(_ tunnel: TunnelStatus, _ now: Double) -> String {
    var lines: [(String, String)] = [
      ("state", state(tunnel, now)), ("made by", origin(tunnel)),
      ("peer", tunnel.peer.map { "\($0)" } ?? "any"),
    ]
    lines += tunnel.selectors.enumerated().map { ($0.offset == 0 ? "carries" : "", text($0.element)) }
    lines.append(("came up", "\(Quantity.count(Int(tunnel.comings), "time"))"))
    let last = tunnel.lastRekey.map { ", last \(Quantity.duration(now - $0)) ago" } ?? ""
    lines.append(("rekeys", "\(tunnel.rekeys)\(last)"))
    lines.append(("in", traffic(tunnel.received)))
    lines.append(("out", traffic(tunnel.sent)))
    let rates = [("1 s", tunnel.rates.second), ("10 s", tunnel.rates.tenSeconds), ("60 s", tunnel.rates.minute)]
    for (index, rate) in rates.enumerated() {
      lines.append((index == 0 ? "rates" : "", text(rate.0, rate.1)))
    }
    for (index, drop) in tunnel.drops.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }).enumerated() {
      lines.append((index == 0 ? "drops" : "", "\(Quantity.grouped(drop.value)) \(drop.key)"))
    }
    for (index, sa) in (tunnel.associations ?? []).enumerated() {
      lines.append((index == 0 ? "SAs" : "", text(sa, now)))
    }
    let width = lines.map(\.0.count).max() ?? 0
    return "\(Table.plain(tunnel.name))\n"
      + lines.map { "  " + $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + Table.plain($0.1) + "\n" }
      .joined()
  }

  private static func state(_ tunnel: TunnelStatus, _ now: Double) -> String {
    "\(tunnel.state.rawValue) for \(Quantity.duration(now - tunnel.since)), since \(StatusText.time(tunnel.since))"
      + (tunnel.reason.map { ": \($0)" } ?? "")
  }

  private static func origin(_ tunnel: TunnelStatus) -> String {
    let who =
      switch tunnel.origin {
      case .rule: "an ike rule"
      case .daemon: "the key daemon"
      case .configuration: "flows of ipsec.conf"
      }
    return who + (tunnel.isConfigured ? "" : ", which has taken it away")
  }

  private static func text(_ selector: Selector) -> String {
    func end(_ prefix: String, _ ports: ClosedRange<UInt16>) -> String {
      if ports == Selector.anyPort { return prefix }
      return prefix + " port \(ports.lowerBound)" + (ports.count == 1 ? "" : " to \(ports.upperBound)")
    }
    return
      "\(end("\(selector.source)", selector.sourcePorts)) to \(end("\(selector.destination)", selector.destinationPorts))"
      + (selector.ipProtocol.map { " proto \($0)" } ?? "")
  }

  private static func traffic(_ traffic: TunnelStatus.Traffic) -> String {
    "\(Quantity.grouped(traffic.packets)) packets, \(Quantity.bytes(traffic.bytes))"
  }

  private static func text(_ span: String, _ rate: TunnelStatus.Rate) -> String {
    "\(span): in \(Quantity.bits(rate.inBitsPerSecond))bit/s, \(Quantity.decimal(rate.inPacketsPerSecond, digits: 0)) "
      + "packets/s; out \(Quantity.bits(rate.outBitsPerSecond))bit/s, "
      + "\(Quantity.decimal(rate.outPacketsPerSecond, digits: 0)) packets/s"
  }

  private static func text(_ sa: TunnelStatus.Association, _ now: Double) -> String {
    let hex = String(sa.spi, radix: 16)
    var text =
      "\(sa.isInbound ? "in " : "out") \(sa.saProtocol) 0x\(String(repeating: "0", count: 8 - hex.count))\(hex)"
    text += " from \(sa.source) to \(sa.destination) \(sa.state)"
    text += ", age \(Quantity.duration(now - sa.created))"
    if let next = sa.nextRekey { text += next > now ? ", rekey in \(Quantity.duration(next - now))" : ", rekey due" }
    if let end = sa.expires { text += end > now ? ", ends in \(Quantity.duration(end - now))" : ", ends" }
    text += ", \(Quantity.grouped(sa.packets)) packets"
    if sa.sequenceUse >= 0.001 { text += ", sequence \(Quantity.percent(sa.sequenceUse))" }
    return text
  }
}
