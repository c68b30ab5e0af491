import Engines
import IPsec
import Wire

/// What the rules ask of the database, in the order to add it: SAs, then policies, then bundles.
public struct Transaction: Sendable {
  public struct Bundle: Sendable, Hashable {
    /// Applied first: the inner one.
    public var first: SAIdentifier
    public var then: SAIdentifier
  }
  public var sas: [SAParameters] = []
  public var policies: [PolicyParameters] = []
  public var bundles: [Bundle] = []
}

extension IPsecConf {
  /// Flows, SAs and bundles as values; `ike` rules are in `connections`. Every rule that the gateway cannot do is named
  /// in the error. A selector that stands twice is there once, as the last rule has it, as in OpenBSD.
  /// What RFC 8221 forbids is refused unless `allowWeak`, which is `allow-weak` of gateway.yaml.
  public func transaction(allowWeak: Bool = false) throws(IPsecConfError) -> Transaction {
    var builder = TransactionBuilder(allowWeak: allowWeak)
    for rule in rules {
      if case .sa(let sa) = rule.body { builder.noteMode(sa) }
    }
    for rule in rules { builder.add(rule) }
    guard builder.diagnostics.isEmpty else { throw IPsecConfError(diagnostics: builder.diagnostics, isFatal: true) }
    return builder.transaction
  }
}

private struct TransactionBuilder {
  /// A rule that cannot be applied, and why.
  struct Refusal: Error { var message: String }

  struct PolicyKey: Hashable {
    var direction: PolicyDirection
    var selector: Selector
  }

  struct ModeKey: Hashable {
    var saProtocol: SAProtocol
    var destination: IPAddress
  }

  let allowWeak: Bool
  var transaction = Transaction()
  var diagnostics: [Diagnostic] = []

  init(allowWeak: Bool) { self.allowWeak = allowWeak }

  private var policyIndex: [PolicyKey: Int] = [:]
  private var identifiers: Set<SAIdentifier> = []
  /// A flow takes the mode of the manual SA it will find; without one, tunnel.
  private var modes: [ModeKey: SAMode] = [:]

  mutating func noteMode(_ sa: SARule) {
    guard let saProtocol = sa.saProtocol.saProtocol else { return }
    modes[ModeKey(saProtocol: saProtocol, destination: sa.destination.address)] = sa.mode
  }

  mutating func add(_ rule: Rule) {
    do {
      switch rule.body {
      case .flow(let flow): try addPolicy(flow)
      case .sa(let sa): try addSA(sa)
      case .bundle(let bundle): try addBundle(bundle)
      case .ike: break
      }
    } catch {
      diagnostics.append(Diagnostic(.located(file: rule.file, line: rule.line), error.message))
    }
  }

  // MARK: SAs

  private mutating func addSA(_ sa: SARule) throws(Refusal) {
    guard let saProtocol = sa.saProtocol.saProtocol else {
      throw Refusal(message: "tcpmd5 is not supported here: the gateway ends no TCP connections")
    }
    for address in [sa.source.address, sa.destination.address] where address.isUnspecified {
      throw Refusal(message: "an SA needs two hosts, \(address) is none")
    }
    guard saProtocol != .ipcomp || sa.spi <= 0xffff else {
      throw Refusal(message: "the spi of ipcomp is a CPI of 16 bits, \(sa.spi) is larger")
    }
    var parameters = SAParameters(
      spi: sa.spi, source: sa.source.address, destination: sa.destination.address, saProtocol: saProtocol,
      mode: saProtocol == .ipip ? .tunnel : sa.mode, transform: try Self.transform(sa))
    if saProtocol == .esp, parameters.transform.encryption == .null, parameters.transform.authentication == nil {
      throw Refusal(message: "esp that neither encrypts nor authenticates is refused (RFC 4303 3.2)")
    }
    if let weakness = parameters.transform.weakness, !allowWeak {
      throw Refusal(message: "\(weakness): it needs allow-weak in gateway.yaml")
    }
    // Sequence numbers start anew with the peer, so a manual SA has no replay window (RFC 4303 3.4.3).
    parameters.replayWindow = 0
    if saProtocol == .ipcomp { parameters.compression = .deflate }
    if let port = sa.udpEncapsulation {
      guard saProtocol == .esp else { throw Refusal(message: "udpencap is for esp only") }
      parameters.encapsulation = UDPEncapsulation(destinationPort: port == 0 ? 4500 : port)
    }
    guard identifiers.insert(parameters.identifier).inserted else {
      throw Refusal(message: "the SA \(parameters.identifier) is there twice")
    }
    transaction.sas.append(parameters)
  }

  private static func transform(_ sa: SARule) throws(Refusal) -> CryptoTransform {
    var transform = CryptoTransform(encryption: .null)
    guard let transforms = sa.transforms else { return transform }
    if let name = transforms.authentication, name != .none {
      guard let algorithm = name.algorithm else { throw unsupported("auth \(name.rawValue)") }
      transform.authentication = algorithm
      transform.authenticationKey = sa.authenticationKey ?? SecretBytes([])
    }
    if let name = transforms.encryption {
      guard let algorithm = name.algorithm else { throw unsupported("enc \(name.rawValue)") }
      let key = sa.encryptionKey ?? SecretBytes([])
      guard algorithm.keyLengths.contains(key.count) else {
        let lengths = algorithm.keyLengths.map { String($0 * 8) }.joined(separator: ", ")
        throw Refusal(message: "a key of \(key.count * 8) bits does not fit enc \(name.rawValue): \(lengths) bits do")
      }
      transform.encryption = algorithm
      transform.encryptionKey = key
    }
    return transform
  }

  private static func unsupported(_ what: String) -> Refusal {
    Refusal(message: "\(what) is not supported by this gateway")
  }

  private mutating func addBundle(_ bundle: BundleRule) throws(Refusal) {
    func identifier(_ member: BundleRule.Member) throws(Refusal) -> SAIdentifier {
      guard let saProtocol = member.saProtocol.saProtocol else {
        throw Refusal(message: "tcpmd5 cannot be part of a bundle")
      }
      return SAIdentifier(spi: member.spi, destination: member.destination.address, saProtocol: saProtocol)
    }
    let pair = Transaction.Bundle(first: try identifier(bundle.first), then: try identifier(bundle.then))
    guard pair.first != pair.then else { throw Refusal(message: "a bundle of an SA with itself") }
    transaction.bundles.append(pair)
  }

  // MARK: Policies

  private mutating func addPolicy(_ flow: FlowRule) throws(Refusal) {
    guard let saProtocol = flow.saProtocol.saProtocol else { throw Refusal(message: "tcpmd5 has no flows") }
    let selector = Selector(
      source: flow.source.prefix, destination: flow.destination.prefix,
      ipProtocol: flow.ipProtocol == 0 ? nil : flow.ipProtocol, sourcePorts: Self.range(flow.sourcePort),
      destinationPorts: Self.range(flow.destinationPort))
    var policy = PolicyParameters(
      direction: flow.direction, selector: selector, type: flow.type, saProtocol: saProtocol)
    policy.local = flow.local?.address
    policy.peer = flow.peer?.address
    policy.sourceIdentity = flow.identities?.source.map(Identity.init(rule:))
    policy.destinationIdentity = flow.identities?.destination.map(Identity.init(rule:))
    if let local = policy.local, let peer = policy.peer, local.family != peer.family {
      throw Refusal(message: "local \(local) and peer \(peer) differ in family")
    }
    if flow.type != .bypass && flow.type != .deny { policy.templates = [template(policy)] }
    let key = PolicyKey(direction: policy.direction, selector: selector)
    if let index = policyIndex[key] {
      transaction.policies[index] = policy
    } else {
      policyIndex[key] = transaction.policies.count
      transaction.policies.append(policy)
    }
  }

  private static func range(_ port: UInt16) -> ClosedRange<UInt16> { port == 0 ? Selector.anyPort : port...port }

  /// The one SA of the flow; end points that are not given are unspecified.
  private func template(_ policy: PolicyParameters) -> SATemplate {
    let family = (policy.peer ?? policy.local)?.family ?? policy.selector.family
    let near = policy.local ?? .unspecified(family)
    let far = policy.peer ?? .unspecified(family)
    let isOut = policy.direction == .out
    let mode = modes[ModeKey(saProtocol: policy.saProtocol, destination: far)] ?? .tunnel
    return SATemplate(
      saProtocol: policy.saProtocol, mode: mode, source: isOut ? near : far, destination: isOut ? far : near)
  }
}

extension Identity {
  /// As `srcid` and `dstid` are understood: an address is a host prefix, a name with an `@` a mailbox.
  init(rule text: String) {
    if let address = IPAddress(text) {
      self.init(kind: .prefix, text: "\(text)/\(address.family.bits)")
    } else {
      self.init(kind: text.contains("@") ? .ufqdn : .fqdn, text: text)
    }
  }
}
