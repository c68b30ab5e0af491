import Engines
import IPsec
import Wire

/// The protocols that rules speak of; `tcpmd5` is no IPsec protocol and stays a rule.
public enum RuleProtocol: String, Sendable, CaseIterable {
  case esp, ah, ipcomp, tcpmd5, ipip

  /// Nil for `tcpmd5`.
  public var saProtocol: SAProtocol? {
    switch self {
    case .esp: .esp
    case .ah: .ah
    case .ipcomp: .ipcomp
    case .ipip: .ipip
    case .tcpmd5: nil
    }
  }

  public init(_ saProtocol: SAProtocol) {
    switch saProtocol {
    case .esp: self = .esp
    case .ah: self = .ah
    case .ipcomp: self = .ipcomp
    case .ipip: self = .ipip
    }
  }
}

/// `srcid` and `dstid`, as written.
public struct RuleIdentities: Sendable, Hashable {
  public var source: String?
  public var destination: String?

  public init(source: String? = nil, destination: String? = nil) {
    self.source = source
    self.destination = destination
  }
}

/// One `flow` after expansion: one direction, one pair of prefixes.
public struct FlowRule: Sendable, Hashable {
  public var saProtocol: RuleProtocol
  /// `in` or `out`.
  public var direction: PolicyDirection
  /// 0: any.
  public var ipProtocol: UInt8
  public var source: Host
  /// 0: any.
  public var sourcePort: UInt16
  public var destination: Host
  public var destinationPort: UInt16
  public var local: Host?
  public var peer: Host?
  /// Nil for deny and bypass.
  public var identities: RuleIdentities?
  public var type: PolicyType

  /// The same flow the other way.
  var reversed: FlowRule {
    var flow = self
    flow.direction = direction == .out ? .in : .out
    (flow.source, flow.destination) = (destination, source)
    (flow.sourcePort, flow.destinationPort) = (destinationPort, sourcePort)
    return flow
  }
}

/// One manual SA.
public struct SARule: Sendable {
  public var saProtocol: RuleProtocol
  public var mode: SAMode
  public var source: Host
  public var destination: Host
  public var spi: UInt32
  /// The peer's UDP port; 0: 4500. Nil: no encapsulation.
  public var udpEncapsulation: UInt16?
  /// Nil for `tcpmd5`.
  public var transforms: Transforms?
  public var authenticationKey: SecretBytes?
  public var encryptionKey: SecretBytes?
}

/// Two SAs that are applied one after the other.
public struct BundleRule: Sendable, Hashable {
  public struct Member: Sendable, Hashable {
    public var saProtocol: RuleProtocol
    public var destination: Host
    public var spi: UInt32
  }
  public var first: Member
  public var then: Member
}

/// One `ike` rule after expansion.
public struct IKERule: Sendable {
  public enum Mode: Sendable, Hashable { case active, passive, dynamic }
  public enum Exchange: Sendable, Hashable { case main, aggressive, quick }
  public enum Authentication: Sendable {
    case rsa
    case psk(SecretBytes)
  }
  /// `main`, `aggressive` or `quick` with what follows; transforms are nil where the word is not there at all.
  public struct Phase: Sendable, Hashable {
    public var exchange: Exchange
    public var transforms: Transforms?
    /// Seconds; nil: isakmpd's default.
    public var lifetime: Int?
  }

  public var mode: Mode
  public var saProtocol: RuleProtocol
  public var encapsulation: SAMode
  /// 0: any.
  public var ipProtocol: UInt8
  public var source: Host
  /// `from H (NAT)`: what the traffic really comes from.
  public var sourceNAT: Host?
  public var sourcePort: UInt16
  public var destination: Host
  public var destinationPort: UInt16
  public var local: Host?
  /// Nil: the default peer, any.
  public var peer: Host?
  public var phase1: Phase
  public var phase2: Phase
  public var identities: RuleIdentities
  public var authentication: Authentication
  public var tag: String?
  /// `interface secN`: N.
  public var interface: UInt32?
}

/// A rule of `ipsec.conf` after expansion, with its place.
public struct Rule: Sendable {
  public enum Body: Sendable {
    case flow(FlowRule)
    case sa(SARule)
    case bundle(BundleRule)
    case ike(IKERule)
  }
  /// From 0, in the order of expansion: what `-vv` prints after the `@`.
  public var number: Int
  public var file: String
  public var line: Int
  public var body: Body
}
