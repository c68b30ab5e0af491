import IPsec
import Wire

/// What happened in the database, as the API tells it: made from `DatabaseEvent`, case for case. A copy; any thread.
/// In JSON `event` names it; beside it `sa`, `policy` or `acquire`, and what else the event has.
public enum DatabaseChange: Sendable {
  case saAdded(SARecord)
  case saUpdated(SARecord)
  case saDeleted(SARecord)
  case sasFlushed(SAProtocol?)
  case saExpired(SARecord, hard: Bool)
  case mapping(SARecord, newSource: IPAddress, newPort: UInt16)
  case acquire(AcquireNotice)
  case acquireExpired(AcquireNotice)
  case policyAdded(PolicyRecord)
  case policyUpdated(PolicyRecord)
  case policyDeleted(PolicyRecord)
  case policiesFlushed

  public init(_ event: DatabaseEvent) {
    switch event {
    case .saAdded(let sa): self = .saAdded(sa)
    case .saUpdated(let sa): self = .saUpdated(sa)
    case .saDeleted(let sa): self = .saDeleted(sa)
    case .sasFlushed(let saProtocol): self = .sasFlushed(saProtocol)
    case .saExpired(let sa, let hard): self = .saExpired(sa, hard: hard)
    case .mapping(let sa, let source, let port): self = .mapping(sa, newSource: source, newPort: port)
    case .acquire(let request): self = .acquire(AcquireNotice(request))
    case .acquireExpired(let request): self = .acquireExpired(AcquireNotice(request))
    case .policyAdded(let policy): self = .policyAdded(policy)
    case .policyUpdated(let policy): self = .policyUpdated(policy)
    case .policyDeleted(let policy): self = .policyDeleted(policy)
    case .policiesFlushed: self = .policiesFlushed
    }
  }
}

extension DatabaseChange: Codable {
  enum CodingKeys: String, CodingKey {
    case event, sa, policy, acquire, hard
    case saProtocol = "protocol"
    case newSource = "new_source"
    case newPort = "new_port"
  }
  enum Name: String, Codable {
    case saAdded = "sa_added"
    case saUpdated = "sa_updated"
    case saDeleted = "sa_deleted"
    case sasFlushed = "sas_flushed"
    case saExpired = "sa_expired"
    case mapping
    case acquire
    case acquireExpired = "acquire_expired"
    case policyAdded = "policy_added"
    case policyUpdated = "policy_updated"
    case policyDeleted = "policy_deleted"
    case policiesFlushed = "policies_flushed"
  }

  var name: Name {
    switch self {
    case .saAdded: .saAdded
    case .saUpdated: .saUpdated
    case .saDeleted: .saDeleted
    case .sasFlushed: .sasFlushed
    case .saExpired: .saExpired
    case .mapping: .mapping
    case .acquire: .acquire
    case .acquireExpired: .acquireExpired
    case .policyAdded: .policyAdded
    case .policyUpdated: .policyUpdated
    case .policyDeleted: .policyDeleted
    case .policiesFlushed: .policiesFlushed
    }
  }

  /// As the API names it: `sa_added` …
  public var apiName: String { name.rawValue }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    func sa() throws -> SARecord { try fields.decode(SARecord.self, forKey: .sa) }
    func policy() throws -> PolicyRecord { try fields.decode(PolicyRecord.self, forKey: .policy) }
    func acquire() throws -> AcquireNotice { try fields.decode(AcquireNotice.self, forKey: .acquire) }
    switch try fields.decode(Name.self, forKey: .event) {
    case .saAdded: self = .saAdded(try sa())
    case .saUpdated: self = .saUpdated(try sa())
    case .saDeleted: self = .saDeleted(try sa())
    case .sasFlushed: self = .sasFlushed(try fields.decodeIfPresent(SAProtocol.self, forKey: .saProtocol))
    case .saExpired: self = .saExpired(try sa(), hard: try fields.decode(Bool.self, forKey: .hard))
    case .mapping:
      self = .mapping(
        try sa(), newSource: try fields.decode(IPAddress.self, forKey: .newSource),
        newPort: try fields.decode(UInt16.self, forKey: .newPort))
    case .acquire: self = .acquire(try acquire())
    case .acquireExpired: self = .acquireExpired(try acquire())
    case .policyAdded: self = .policyAdded(try policy())
    case .policyUpdated: self = .policyUpdated(try policy())
    case .policyDeleted: self = .policyDeleted(try policy())
    case .policiesFlushed: self = .policiesFlushed
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(name, forKey: .event)
    switch self {
    case .saAdded(let sa), .saUpdated(let sa), .saDeleted(let sa): try fields.encode(sa, forKey: .sa)
    case .sasFlushed(let saProtocol): try fields.encodeIfPresent(saProtocol, forKey: .saProtocol)
    case .saExpired(let sa, let hard):
      try fields.encode(sa, forKey: .sa)
      try fields.encode(hard, forKey: .hard)
    case .mapping(let sa, let source, let port):
      try fields.encode(sa, forKey: .sa)
      try fields.encode(source, forKey: .newSource)
      try fields.encode(port, forKey: .newPort)
    case .acquire(let notice), .acquireExpired(let notice): try fields.encode(notice, forKey: .acquire)
    case .policyAdded(let policy), .policyUpdated(let policy), .policyDeleted(let policy):
      try fields.encode(policy, forKey: .policy)
    case .policiesFlushed: break
    }
  }
}

extension DatabaseEvent {
  /// The event that a change tells of.
  public init(_ change: DatabaseChange) {
    switch change {
    case .saAdded(let sa): self = .saAdded(sa)
    case .saUpdated(let sa): self = .saUpdated(sa)
    case .saDeleted(let sa): self = .saDeleted(sa)
    case .sasFlushed(let saProtocol): self = .sasFlushed(saProtocol)
    case .saExpired(let sa, let hard): self = .saExpired(sa, hard: hard)
    case .mapping(let sa, let source, let port): self = .mapping(sa, newSource: source, newPort: port)
    case .policyAdded(let policy): self = .policyAdded(policy)
    case .policyUpdated(let policy): self = .policyUpdated(policy)
    case .policyDeleted(let policy): self = .policyDeleted(policy)
    case .policiesFlushed: self = .policiesFlushed
    case .acquire(let notice): self = .acquire(AcquireRequest(notice))
    case .acquireExpired(let notice): self = .acquireExpired(AcquireRequest(notice))
    }
  }
}
