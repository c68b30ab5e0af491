import IPsec
import Wire

/// The `Encap:` part of OpenBSD's `route -n show`, as it was printed while that command showed flows.
public enum EncapTablePrinter {
  /// Empty without policies.
  public static func text(_ policies: [PolicyRecord]) -> String {
    guard !policies.isEmpty else { return "" }
    let header = row("Source", "Port", "Destination", "Port", "Proto", "SA(Address/Proto/Type/Direction)")
    return "\nEncap:\n\(header)\(FlowOrder.sorted(policies).map { row($0.parameters) }.joined())"
  }

  private static func row(_ policy: PolicyParameters) -> String {
    let selector = policy.selector
    let width = selector.family == .v4 ? 18 : 43
    return row(
      network(selector.source), port(selector.sourcePorts), network(selector.destination),
      port(selector.destinationPorts), "\(selector.ipProtocol ?? 0)",
      "\(policy.peer.map { "\($0)" } ?? "none")/\(policy.saProtocol)/\(policy.type)/"
        + (policy.direction == .out ? "out" : "in"), width: width)
  }

  private static func row(
    _ source: String, _ sourcePort: String, _ destination: String, _ destinationPort: String, _ ipProtocol: String,
    _ sa: String, width: Int = 18
  ) -> String {
    let columns = [
      (source, width), (sourcePort, 5), (destination, width), (destinationPort, 5), (ipProtocol, 5),
    ]
    return columns.map { pad($0.0, to: $0.1) + " " }.joined() + sa + "\n"
  }

  private static func pad(_ text: String, to width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.utf8.count))
  }

  private static func port(_ ports: ClosedRange<UInt16>) -> String {
    if ports == Selector.anyPort { return "0" }
    return ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)"
  }

  /// IPv4 networks without the octets that their length leaves out: `172.20.1/24`.
  private static func network(_ prefix: IPPrefix) -> String {
    if prefix.length == 0 && prefix.address.isUnspecified { return "default" }
    guard prefix.family == .v4 else { return "\(prefix.address)/\(prefix.length)" }
    let shown = min(4, max(1, (Int(prefix.length) + 7) / 8))
    return "\(prefix.address.bytes.prefix(shown).map(String.init).joined(separator: "."))/\(prefix.length)"
  }
}
