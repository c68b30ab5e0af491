import ConfigurationFiles
import IKEControl
import IPsec

/// Rules as `gwctl` parsed them: the body of `POST /v1/load` and `/v1/check`. Keys travel with it, over the local socket.
public struct RuleTransaction: Codable, Sendable {
  public enum Mode: String, Codable, Sendable {
    case add, delete
    /// What `configuration` owns and is not among the rules goes; SAs that stand unchanged keep their sequence numbers
    /// and replay windows.
    case replace
  }

  public enum Rule: Codable, Sendable {
    case sa(SAParameters)
    case policy(PolicyParameters)
    /// Packets get `first`, then `then`. Deleting the SAs undoes it; in mode `delete` it does nothing.
    case bundle(SAIdentifier, with: SAIdentifier)

    enum CodingKeys: String, CodingKey { case sa, policy, bundle, with }

    public init(from decoder: any Decoder) throws {
      let fields = try decoder.container(keyedBy: CodingKeys.self)
      if let sa = try fields.decodeIfPresent(SAParameters.self, forKey: .sa) {
        self = .sa(sa)
      } else if let policy = try fields.decodeIfPresent(PolicyParameters.self, forKey: .policy) {
        self = .policy(policy)
      } else if let first = try fields.decodeIfPresent(SAIdentifier.self, forKey: .bundle) {
        self = .bundle(first, with: try fields.decode(SAIdentifier.self, forKey: .with))
      } else {
        throw decoder.refusal("a rule has one of sa, policy, bundle")
      }
    }

    public func encode(to encoder: any Encoder) throws {
      var fields = encoder.container(keyedBy: CodingKeys.self)
      switch self {
      case .sa(let sa): try fields.encode(sa, forKey: .sa)
      case .policy(let policy): try fields.encode(policy, forKey: .policy)
      case .bundle(let first, let then):
        try fields.encode(first, forKey: .bundle)
        try fields.encode(then, forKey: .with)
      }
    }
  }

  public var mode: Mode
  /// True (gwctl): a rule that fails undoes them all. False (ipsecctl): each stands for itself, in order.
  public var isAtomic: Bool
  public var rules: [Rule]
  /// For the key daemon, which may refuse each by itself, after the rest stands.
  public var ike: [IKEConnection]

  public init(mode: Mode, isAtomic: Bool = true, rules: [Rule], ike: [IKEConnection] = []) {
    self.mode = mode
    self.isAtomic = isAtomic
    self.rules = rules
    self.ike = ike
  }

  enum CodingKeys: String, CodingKey {
    case mode, rules, ike
    case isAtomic = "atomic"
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    mode = try fields.decode(Mode.self, forKey: .mode)
    isAtomic = try fields.value(.isAtomic, default: true)
    rules = try fields.decode([Rule].self, forKey: .rules)
    ike = try fields.value(.ike, default: [])
  }
}

/// What became of a transaction. Where it was atomic and something failed, nothing was changed.
public struct LoadReport: Codable, Sendable, Hashable {
  public struct Failure: Codable, Sendable, Hashable {
    /// Index into the transaction's `rules`; nil: no rule alone is at fault.
    public var rule: Int?
    /// `exists`, `not_found` …: ipsecctl minds some more than others.
    public var kind: ControlError.Kind
    public var reason: String

    public init(rule: Int?, _ error: ControlError) {
      self.rule = rule
      kind = error.kind
      reason = error.detail
    }

    public init(rule: Int?, _ error: DatabaseError) { self.init(rule: rule, ControlError(error)) }
  }
  public var sasAdded = 0
  public var sasDeleted = 0
  public var policiesAdded = 0
  public var policiesDeleted = 0
  /// Mode `replace`: what stood already.
  public var unchanged = 0
  public var failures: [Failure] = []
  /// What the key daemon made of the transaction's `ike` rules, in their order; mode `delete`: those that were not there.
  public var ike: [IKEConnectionStatus] = []
  public init() {}

  enum CodingKeys: String, CodingKey {
    case unchanged, failures, ike
    case sasAdded = "sas_added"
    case sasDeleted = "sas_deleted"
    case policiesAdded = "policies_added"
    case policiesDeleted = "policies_deleted"
  }
}

/// `POST /v1/flush`.
public struct FlushRequest: Codable, Sendable, Hashable {
  public enum Target: String, Codable, Sendable, CaseIterable { case sa, flow, all }
  public var what: Target
  public init(what: Target) { self.what = what }
}

public struct FlushReport: Codable, Sendable, Hashable {
  public var sas: Int
  public var flows: Int
  public init(sas: Int, flows: Int) {
    self.sas = sas
    self.flows = flows
  }
}
