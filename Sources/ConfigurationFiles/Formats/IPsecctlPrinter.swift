import Engines
import IPsec
import Wire

/// The SPD and SAD as `ipsecctl -s` prints them, with `-v`, `-vv`, `-k` and `-c`.
public struct IPsecctlPrinter: Sendable {
  public var options: PrintOptions

  /// How the peers of SAs proved themselves, where that is known: `remote_auth`.
  public var remoteAuthentications: [SAIdentifier: String] = [:]

  public init(options: PrintOptions = PrintOptions()) { self.options = options }

  /// `-s all`.
  public func all(policies: [PolicyRecord], sas: [SARecord]) -> String {
    let flows = self.flows(policies)
    let entries = self.sas(sas)
    return "FLOWS:\n\(flows.isEmpty ? "No flows\n" : flows)\nSAD:\n\(entries.isEmpty ? "No entries\n" : entries)"
  }

  // MARK: -s flow

  /// In the order of OpenBSD's table: direction, then prefixes. With `-c`, neighbours that differ in one prefix or both
  /// are merged.
  public func flows(_ policies: [PolicyRecord]) -> String {
    var groups: [FlowGroup] = []
    for (number, policy) in FlowOrder.sorted(policies).enumerated() {
      let flow = FlowRule(policy.parameters)
      if options.collapses, let last = groups.indices.last, groups[last].merge(flow, number: number) { continue }
      groups.append(FlowGroup(flow: flow, numbers: [number], selector: policy.parameters.selector))
    }
    return groups.map(text).joined()
  }

  private func text(_ group: FlowGroup) -> String {
    var text = ""
    if options.verbosity > 1 {
      let numbers = options.collapses ? group.numbers : Array(group.numbers.prefix(1))
      text += "@\(numbers.map(String.init).joined(separator: ",")) "
    }
    let selector = group.selector
    return text
      + RuleText.flow(
        group.flow, collapsed: options.collapses ? (group.sources, group.destinations) : nil,
        ports: (Self.range(selector.sourcePorts), Self.range(selector.destinationPorts)))
  }

  /// A range that is not one port, which OpenBSD's flows do not have.
  private static func range(_ ports: ClosedRange<UInt16>) -> String? {
    ports == Selector.anyPort || ports.count == 1 ? nil : "\(ports.lowerBound):\(ports.upperBound)"
  }

  // MARK: -s sa

  /// In the order of SPIs. Bundles take the second SA's particulars from `sas`.
  public func sas(_ sas: [SARecord]) -> String {
    let byIdentifier = Dictionary(sas.map { ($0.parameters.identifier, $0) }) { first, _ in first }
    let sorted = sas.enumerated().sorted {
      ($0.element.parameters.spi, $0.offset) < ($1.element.parameters.spi, $1.offset)
    }
    return sorted.map { text($0.element, byIdentifier) }.joined()
  }

  private func text(_ sa: SARecord, _ others: [SAIdentifier: SARecord]) -> String {
    let parameters = sa.parameters
    // ipsecctl numbers no SAs.
    var text = options.verbosity > 1 ? "@0 " : ""
    text += RuleText.sa(SALineMaker.line(parameters), showsKeys: options.showsKeys)
    let next = parameters.bundledWith
    if let next {
      text += RuleText.bundle(
        BundleRule(first: BundleRule.Member(parameters.identifier), then: BundleRule.Member(next)))
    }
    guard options.verbosity > 0 else { return text }
    var extensions = ExtensionList(sa, showsKeys: options.showsKeys, showsZeroCounters: options.verbosity > 1)
    if let type = remoteAuthentications[parameters.identifier] { extensions.addRemoteAuthentication(type) }
    if let next { extensions.addBundle(next, others[next], isIPComp: parameters.saProtocol == .ipcomp) }
    return text + extensions.text
  }
}

extension BundleRule.Member {
  init(_ identifier: SAIdentifier) {
    self.init(
      saProtocol: RuleProtocol(identifier.saProtocol), destination: Host(identifier.destination), spi: identifier.spi)
  }
}

extension FlowRule {
  /// The flow that a policy is; Linux's `forward` counts as `in`.
  init(_ policy: PolicyParameters) {
    func port(_ ports: ClosedRange<UInt16>) -> UInt16 { ports.count == 1 ? ports.lowerBound : 0 }
    let selector = policy.selector
    var identities: RuleIdentities?
    if policy.sourceIdentity != nil || policy.destinationIdentity != nil {
      identities = RuleIdentities(
        source: policy.sourceIdentity?.text, destination: policy.destinationIdentity?.text)
    }
    self.init(
      saProtocol: RuleProtocol(policy.saProtocol), direction: policy.direction == .out ? .out : .in,
      ipProtocol: selector.ipProtocol ?? 0, source: Host(selector.source), sourcePort: port(selector.sourcePorts),
      destination: Host(selector.destination), destinationPort: port(selector.destinationPorts),
      local: policy.local.map(Host.init), peer: policy.peer.map(Host.init), identities: identities, type: policy.type)
  }
}

/// A line of `-s flow`: one flow, with `-c` perhaps several.
private struct FlowGroup {
  var flow: FlowRule
  var numbers: [Int]
  var selector: Selector
  var sources: [Host] = []
  var destinations: [Host] = []

  /// ipsecctl merges what agrees in all but the prefixes and shares one of them. Types are not compared there.
  mutating func merge(_ other: FlowRule, number: Int) -> Bool {
    guard
      flow.saProtocol == other.saProtocol, flow.direction == other.direction, flow.ipProtocol == other.ipProtocol,
      flow.sourcePort == other.sourcePort, flow.destinationPort == other.destinationPort,
      flow.local == other.local, flow.peer == other.peer, flow.identities == other.identities,
      flow.source.family == other.source.family
    else { return false }
    let knowsSource = ([flow.source] + sources).contains(other.source)
    let knowsDestination = ([flow.destination] + destinations).contains(other.destination)
    guard knowsSource || knowsDestination else { return false }
    numbers.append(number)
    if !knowsSource { sources.append(other.source) }
    if !knowsDestination { destinations.append(other.destination) }
    return true
  }
}

/// The order in which OpenBSD's kernel walks its table: by family, direction, source, destination, protocol and ports,
/// and for the same bits the longer prefix first.
enum FlowOrder {
  static func sorted(_ policies: [PolicyRecord]) -> [PolicyRecord] {
    let inbound = Set(policies.filter { $0.parameters.direction == .in }.map(\.parameters.selector))
    let shown = policies.filter {
      $0.parameters.direction != .forward || !inbound.contains($0.parameters.selector)
    }
    return shown.enumerated().sorted { less($0.element.parameters, $1.element.parameters) ?? ($0.offset < $1.offset) }
      .map(\.element)
  }

  /// Nil where neither comes first.
  private static func less(_ a: PolicyParameters, _ b: PolicyParameters) -> Bool? {
    let (x, y) = (a.selector, b.selector)
    if x.family != y.family { return x.family == .v4 }
    let (aOut, bOut) = (a.direction == .out, b.direction == .out)
    if aOut != bOut { return bOut }
    if x.source.address != y.source.address { return x.source.address < y.source.address }
    if x.destination.address != y.destination.address { return x.destination.address < y.destination.address }
    let keys = [x, y].map { [Int($0.ipProtocol ?? 0), port($0.sourcePorts), port($0.destinationPorts)] }
    if keys[0] != keys[1] { return keys[0].lexicographicallyPrecedes(keys[1]) }
    if x.source.length != y.source.length { return x.source.length > y.source.length }
    if x.destination.length != y.destination.length { return x.destination.length > y.destination.length }
    return nil
  }

  private static func port(_ ports: ClosedRange<UInt16>) -> Int {
    ports == Selector.anyPort ? 0 : Int(ports.lowerBound)
  }
}
