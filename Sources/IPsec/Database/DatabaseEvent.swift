import Wire

/// A packet needed an SA that is not there: the question put to the key daemon.
public struct AcquireRequest: Sendable {
  /// The daemon echoes it in the SAs that answer.
  public var sequence: UInt32
  public var policy: PolicyRecord
  /// The template that has no SA.
  public var template: SATemplate
  /// The packet that asked, as a host-to-host selector.
  public var packet: Selector

  public init(sequence: UInt32, policy: PolicyRecord, template: SATemplate, packet: Selector) {
    self.sequence = sequence
    self.policy = policy
    self.template = template
    self.packet = packet
  }
}

/// What happened in the database, in order. Delivered on the control thread after the change stands.
public enum DatabaseEvent: Sendable {
  case saAdded(SARecord)
  case saUpdated(SARecord)
  case saDeleted(SARecord)
  case sasFlushed(SAProtocol?)
  /// A soft or hard limit was reached. After `hard` the SA carries nothing and is deleted.
  case saExpired(SARecord, hard: Bool)
  /// NAT: the peer's packets come from elsewhere now (RFC 3948).
  case mapping(SARecord, newSource: IPAddress, newPort: UInt16)
  case acquire(AcquireRequest)
  /// The answer to an acquire did not come in time.
  case acquireExpired(AcquireRequest)
  case policyAdded(PolicyRecord)
  case policyUpdated(PolicyRecord)
  case policyDeleted(PolicyRecord)
  case policiesFlushed
}

/// Why the database refused. Nothing has changed when it is thrown.
public enum DatabaseError: Error, Equatable, Sendable, CustomStringConvertible {
  case exists(String)
  /// A counter-mode key that an outbound SA has already: both would use the same nonces.
  case keyInUse(by: String)
  case notFound(String)
  case invalid(String)
  case unsupported(String)
  /// A configured limit was reached.
  case full(String)

  public var description: String {
    switch self {
    case .exists(let what): "\(what) already exists"
    case .keyInUse(let holder): "SA \(holder) has this counter-mode key already, and both would use the same nonces"
    case .notFound(let what): "\(what) does not exist"
    case .invalid(let what), .unsupported(let what), .full(let what): what
    }
  }
}
