import IPsec
import Wire

/// Events of the database as `ipsecctl -m` prints the PF_KEY messages that tell of them. Keys are not among what it
/// prints.
public struct MonitorPrinter: Sendable {
  /// The sequence number of the next message that has none of its own.
  public private(set) var sequence: UInt32 = 1
  /// Of the message that was printed last.
  public private(set) var lastSequence: UInt32 = 0

  public init() {}

  private enum Message: String {
    case add, update, delete, acquire, expire, flush, addflow, delflow
  }

  /// `pid`: of the process that asked; 0 for the gateway itself.
  public mutating func text(_ event: DatabaseEvent, pid: UInt32 = 0) -> String {
    switch event {
    case .saAdded(let sa): return saMessage(.add, sa, pid)
    case .saUpdated(let sa): return saMessage(.update, sa, pid)
    case .saDeleted(let sa):
      var list = ExtensionList()
      list.addSA(sa)
      list.addAddresses(sa.parameters.source, sa.parameters.destination)
      return message(.delete, Self.name(sa), list, sa.parameters.keySequence, pid)
    case .saExpired(let sa, let hard):
      var list = ExtensionList()
      list.addSA(sa)
      list.addLifetime(.lifetimeCurrent, Lifetime(sa.usage))
      list.addLifetime(hard ? .lifetimeHard : .lifetimeSoft, hard ? sa.parameters.hard : sa.parameters.soft)
      list.addAddresses(sa.parameters.source, sa.parameters.destination)
      return message(.expire, Self.name(sa), list, 0, pid)
    case .mapping(let sa, let source, let port):
      var moved = sa
      moved.parameters.source = source
      moved.parameters.encapsulation?.destinationPort = port
      return saMessage(.update, moved, pid)
    case .sasFlushed(let saProtocol):
      return message(.flush, saProtocol.map { "\($0)" } ?? "unspec", ExtensionList(), 0, pid)
    case .policiesFlushed: return message(.flush, "unspec", ExtensionList(), 0, pid)
    case .acquire(let request): return acquire(request, error: nil)
    case .acquireExpired(let request): return acquire(request, error: (60, "Operation timed out"))
    case .policyAdded(let policy), .policyUpdated(let policy): return flowMessage(.addflow, policy.parameters, pid)
    case .policyDeleted(let policy): return flowMessage(.delflow, policy.parameters, pid)
    }
  }

  /// What `-v -v` adds after a message: its bytes, eight to a line.
  public static func raw(_ bytes: some Collection<UInt8>) -> String {
    var text = "RAW PFKEYV2 MESSAGE:\n"
    for (index, byte) in bytes.enumerated() {
      if index > 0 && index.isMultiple(of: 8) { text += "\n" }
      text += "\(byte < 16 ? "0" : "")\(String(byte, radix: 16)) "
    }
    return text + "\n"
  }

  // MARK: Messages

  private static func name(_ sa: SARecord) -> String { "\(sa.parameters.saProtocol)" }

  private mutating func message(
    _ message: Message, _ saType: String, _ list: ExtensionList, _ sequence: UInt32, _ pid: UInt32,
    error: (Int, String)? = nil
  ) -> String {
    var number = sequence
    if number == 0 {
      number = self.sequence
      self.sequence &+= 1
    }
    lastSequence = number
    var text = "sadb_\(message.rawValue): satype \(saType) vers 2 len \(2 + list.words) seq \(number) pid \(pid)\n"
    if let error { text += "\terrno \(error.0): \(error.1)\n" }
    return text + list.text
  }

  private mutating func saMessage(_ kind: Message, _ sa: SARecord, _ pid: UInt32) -> String {
    let parameters = sa.parameters
    var list = ExtensionList()
    list.addSA(sa)
    list.addLimits(parameters)
    list.addAddresses(parameters.source, parameters.destination)
    list.addIdentities(parameters.sourceIdentity, parameters.destinationIdentity)
    if let selector = parameters.selector {
      list.addFlow(selector, type: .use, direction: sa.isOutgoing ? .out : .in)
    }
    if let udp = parameters.encapsulation { list.addUDPEncapsulation(udp) }
    return message(kind, Self.name(sa), list, parameters.keySequence, pid)
  }

  private mutating func flowMessage(_ kind: Message, _ policy: PolicyParameters, _ pid: UInt32) -> String {
    var list = ExtensionList()
    if kind == .addflow {
      list.addAddresses(policy.local, policy.peer)
      list.addIdentities(policy.sourceIdentity, policy.destinationIdentity)
    }
    list.addFlow(policy.selector, type: policy.type, direction: policy.direction)
    return message(kind, "\(policy.saProtocol)", list, 0, pid)
  }

  private mutating func acquire(_ request: AcquireRequest, error: (Int, String)?) -> String {
    var list = ExtensionList()
    if error == nil {
      let policy = request.policy.parameters
      let (source, destination) = (request.template.source, request.template.destination)
      list.addAddresses(
        source.isUnspecified ? policy.local : source,
        destination.isUnspecified ? request.packet.destination.address : destination)
      list.addIdentities(policy.sourceIdentity, policy.destinationIdentity)
      list.addProposal()
    }
    return message(.acquire, "\(request.template.saProtocol)", list, request.sequence, 0, error: error)
  }
}
