import ConfigurationFiles
import ControlAPI
import IPsec

/// An `ipsec.conf` as read here, so that errors have the operator's file names and lines.
struct RulesFile {
  let path: String
  let conf: IPsecConf

  init(path: String, macros: [Macro]) throws(IPsecConfError) {
    self.path = path
    conf = try IPsecConf.parse(file: path, macros: macros)
  }

  /// A transaction, and for each of its rules the one in the file that it comes from.
  struct Prepared {
    var transaction: RuleTransaction
    var sources: [Rule]
  }

  /// - Parameter ike: whether gwd is to see to the `ike` rules; else they are left out.
  func prepare(_ mode: RuleTransaction.Mode, isAtomic: Bool, ike: Bool = true) throws(IPsecConfError) -> Prepared {
    // What is weak is the gateway's to refuse: its gateway.yaml may permit it.
    let wanted = try conf.transaction(allowWeak: true)
    var sas: [Rule] = []
    var bundles: [Rule] = []
    // A selector that stands twice counts as the last rule has it.
    var flows: [FlowKey: Rule] = [:]
    for rule in conf.rules {
      switch rule.body {
      case .sa: sas.append(rule)
      case .bundle: bundles.append(rule)
      case .flow(let flow): flows[FlowKey(flow)] = rule
      case .ike: break
      }
    }
    let policies = wanted.policies.compactMap { flows[FlowKey($0)] }
    precondition(
      sas.count == wanted.sas.count && policies.count == wanted.policies.count && bundles.count == wanted.bundles.count)
    return Prepared(
      transaction: RuleTransaction(
        mode: mode, isAtomic: isAtomic,
        rules: wanted.sas.map { .sa($0) } + wanted.policies.map { .policy($0) }
          + wanted.bundles.map { .bundle($0.first, with: $0.then) }, ike: ike ? try conf.connections() : []),
      sources: sas + policies + bundles)
  }

  var ikeRules: [(rule: Rule, ike: IKERule)] {
    conf.rules.compactMap { rule in
      if case .ike(let ike) = rule.body { (rule, ike) } else { nil }
    }
  }

  private struct FlowKey: Hashable {
    var isOut: Bool
    var selector: Selector

    init(_ policy: PolicyParameters) {
      isOut = policy.direction == .out
      selector = policy.selector
    }

    init(_ flow: FlowRule) {
      func range(_ port: UInt16) -> ClosedRange<UInt16> { port == 0 ? Selector.anyPort : port...port }
      isOut = flow.direction == .out
      selector = Selector(
        source: flow.source.prefix, destination: flow.destination.prefix,
        ipProtocol: flow.ipProtocol == 0 ? nil : flow.ipProtocol, sourcePorts: range(flow.sourcePort),
        destinationPorts: range(flow.destinationPort))
    }
  }
}
