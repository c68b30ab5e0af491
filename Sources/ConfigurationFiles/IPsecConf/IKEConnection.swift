import Engines
import IPsec
import Wire

/// What an `ike` rule asks of any key daemon: one child SA and the IKE SA it hangs on, defaults filled in.
/// Rules that share `peerName` share the IKE SA.
public struct IKEConnection: Sendable {
  public struct Proposal: Sendable, Hashable {
    /// Nil for AH. `aes`: 128 to 256 bits, 128 first.
    public var encryption: EncryptionName?
    /// Nil where the encryption authenticates; in phase 1 the pseudo-random function then.
    public var authentication: AuthenticationName?
    /// Nil in phase 2: no perfect forward secrecy.
    public var group: DiffieHellmanGroup?

    public init(
      encryption: EncryptionName? = nil, authentication: AuthenticationName? = nil, group: DiffieHellmanGroup? = nil
    ) {
      self.encryption = encryption
      self.authentication = authentication
      self.group = group
    }
  }

  /// Unique: `from-10.1.1.0/24-to-10.1.2.0/24`, as isakmpd calls it.
  public var name: String
  /// `peer-192.0.2.1`, as isakmpd calls it.
  public var peerName: String
  public var file: String
  public var line: Int
  /// Who begins: `active` and `dynamic` at once; `dynamic` also checks that the peer lives.
  public var mode: IKERule.Mode
  /// Main or aggressive.
  public var exchange: IKERule.Exchange
  public var local: IPAddress?
  /// Nil: any.
  public var peer: IPAddress?
  public var localIdentity: Identity?
  public var remoteIdentity: Identity?
  public var authentication: IKERule.Authentication
  public var phase1: Proposal
  /// Seconds.
  public var phase1Lifetime: Int
  public var phase2: Proposal
  /// Seconds.
  public var phase2Lifetime: Int
  public var saProtocol: SAProtocol
  public var encapsulation: SAMode
  /// The outgoing traffic, as the peers agree on it.
  public var selector: Selector
  /// Where the outgoing traffic comes from before NAT, if that is elsewhere.
  public var sourceNAT: IPPrefix?
  public var tag: String?
  public var interface: UInt32?

  public init(
    name: String, peerName: String, file: String, line: Int, mode: IKERule.Mode, exchange: IKERule.Exchange,
    authentication: IKERule.Authentication, phase1: Proposal, phase1Lifetime: Int, phase2: Proposal,
    phase2Lifetime: Int, saProtocol: SAProtocol, encapsulation: SAMode, selector: Selector
  ) {
    self.name = name
    self.peerName = peerName
    self.file = file
    self.line = line
    self.mode = mode
    self.exchange = exchange
    self.authentication = authentication
    self.phase1 = phase1
    self.phase1Lifetime = phase1Lifetime
    self.phase2 = phase2
    self.phase2Lifetime = phase2Lifetime
    self.saProtocol = saProtocol
    self.encapsulation = encapsulation
    self.selector = selector
  }
}

extension IPsecConf {
  /// The `ike` rules. Those that isakmpd has no words for are named in the error, except AES-GCM in phase 1 and
  /// ChaCha20-Poly1305, which other daemons have.
  public func connections() throws(IPsecConfError) -> [IKEConnection] {
    var connections: [IKEConnection] = []
    var diagnostics: [Diagnostic] = []
    for rule in rules {
      guard case .ike(let ike) = rule.body else { continue }
      if let failure = IKECommands(ike.inISAKMPWords).failure {
        diagnostics.append(Diagnostic(.located(file: rule.file, line: rule.line), failure))
      } else if let connection = IKEConnection(ike, file: rule.file, line: rule.line) {
        connections.append(connection)
      }
    }
    guard diagnostics.isEmpty else { throw IPsecConfError(diagnostics: diagnostics, isFatal: true) }
    return connections
  }
}

extension IKERule {
  /// The rule with what other daemons have besides replaced by what isakmpd has.
  fileprivate var inISAKMPWords: IKERule {
    var rule = self
    if rule.phase1.transforms?.encryption?.isPhase1AEAD == true { rule.phase1.transforms?.encryption = .aes256 }
    if rule.phase2.transforms?.encryption == .chacha20Poly1305 { rule.phase2.transforms?.encryption = .aes256GCM }
    return rule
  }
}

extension EncryptionName {
  /// Those that protect IKE itself (RFC 5282, RFC 7634).
  fileprivate var isPhase1AEAD: Bool { [.aes128GCM, .aes192GCM, .aes256GCM, .chacha20Poly1305].contains(self) }
}

extension IKEConnection {
  fileprivate init?(_ rule: IKERule, file: String, line: Int) {
    guard let saProtocol = rule.saProtocol.saProtocol else { return nil }
    func range(_ port: UInt16) -> ClosedRange<UInt16> { port == 0 ? Selector.anyPort : port...port }
    let names = IKENames(rule)
    self.init(
      name: names.phase2, peerName: names.phase1, file: file, line: line, mode: rule.mode,
      exchange: rule.phase1.exchange, authentication: rule.authentication,
      phase1: Self.phase1(rule.phase1.transforms), phase1Lifetime: rule.phase1.lifetime ?? 3600,
      phase2: Self.phase2(rule.phase2.transforms, saProtocol), phase2Lifetime: rule.phase2.lifetime ?? 1200,
      saProtocol: saProtocol, encapsulation: rule.encapsulation,
      selector: Selector(
        source: rule.source.prefix, destination: rule.destination.prefix,
        ipProtocol: rule.ipProtocol == 0 ? nil : rule.ipProtocol, sourcePorts: range(rule.sourcePort),
        destinationPorts: range(rule.destinationPort)))
    local = rule.local?.address
    peer = rule.peer?.address
    localIdentity = rule.identities.source.map(Identity.init(rule:))
    remoteIdentity = rule.identities.destination.map(Identity.init(rule:))
    sourceNAT = rule.sourceNAT?.prefix
    tag = rule.tag
    interface = rule.interface
  }

  private static func phase1(_ transforms: Transforms?) -> Proposal {
    let encryption = transforms?.encryption ?? .aes
    return Proposal(
      encryption: encryption,
      authentication: transforms?.authentication ?? (encryption.isPhase1AEAD ? .hmacSHA256 : .hmacSHA1),
      group: transforms?.group ?? .modp3072)
  }

  private static func phase2(_ transforms: Transforms?, _ saProtocol: SAProtocol) -> Proposal {
    let encryption = saProtocol == .esp ? transforms?.encryption ?? .aes : nil
    let needsAuthentication = !(encryption?.isAEAD ?? false) && encryption != .null
    let group = transforms?.group ?? .modp3072
    return Proposal(
      encryption: encryption,
      authentication: transforms?.authentication ?? (needsAuthentication ? .hmacSHA256 : nil),
      group: group == .none ? nil : group)
  }
}
