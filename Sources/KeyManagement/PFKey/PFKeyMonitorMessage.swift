import IPsec
import Wire

/// The PF_KEY message by which OpenBSD's kernel tells of a change, for `ipsecctl -m -v`: what registered clients of that
/// dialect hear, and of keys as much as they do, nothing.
public enum PFKeyMonitorMessage {
  public static func bytes(_ event: DatabaseEvent, sequence: UInt32, process: UInt32) -> [UInt8] {
    func message(
      _ type: PFKeyMessageType, _ saProtocol: SAProtocol?, _ body: (inout ByteBuilder) -> Void
    ) -> [UInt8] {
      let dialect = PFKeyDialect.openBSD
      var builder = ByteBuilder(capacity: 512)
      let header = PFKeyHeader(
        type: type.number(dialect), saType: saProtocol.map(dialect.saType) ?? 0, sequence: sequence, process: process)
      builder.pfkey(header, body)
      return builder.bytes
    }
    func writing(_ record: SARecord) -> PFKeySAWriting {
      var policy = KeyPolicy()
      policy.allowsWeakAlgorithms = true
      return PFKeySAWriting(record: record, dialect: .openBSD, policy: policy)
    }
    switch event {
    case .saAdded(let sa): return message(.add, sa.parameters.saProtocol, writing(sa).appendDescription)
    case .saUpdated(let sa): return message(.update, sa.parameters.saProtocol, writing(sa).appendDescription)
    case .mapping(var sa, let source, let port):
      sa.parameters.source = source
      sa.parameters.encapsulation?.destinationPort = port
      return message(.update, sa.parameters.saProtocol, writing(sa).appendDescription)
    case .saDeleted(let sa):
      return message(.delete, sa.parameters.saProtocol) {
        writing(sa).appendSA(to: &$0)
        writing(sa).appendAddresses(to: &$0)
      }
    case .saExpired(let sa, let isHard):
      return message(.expire, sa.parameters.saProtocol) {
        writing(sa).appendSA(to: &$0)
        writing(sa).appendLifetime(.lifetimeCurrent, to: &$0)
        writing(sa).appendLifetime(isHard ? .lifetimeHard : .lifetimeSoft, to: &$0)
        writing(sa).appendAddresses(to: &$0)
      }
    case .sasFlushed(let saProtocol): return message(.flush, saProtocol) { _ in }
    case .policiesFlushed: return message(.flush, nil) { _ in }
    case .policyAdded(let policy), .policyUpdated(let policy):
      return message(.addFlow, policy.parameters.saProtocol) { $0.appendFlow(policy) }
    case .policyDeleted(let policy):
      return message(.deleteFlow, policy.parameters.saProtocol) { $0.appendFlow(policy) }
    case .acquire(let request), .acquireExpired(let request):
      return message(.acquire, request.template.saProtocol) { builder in
        let (source, destination) = (request.template.source, request.template.destination)
        let policy = request.policy.parameters
        let near = source.isUnspecified ? policy.local : source
        if let near { builder.pfkeyExtension(.source) { PFKeyAddress(near).encode(into: &$0, dialect: .openBSD) } }
        let far = destination.isUnspecified ? request.packet.destination.address : destination
        builder.pfkeyExtension(.destination) { PFKeyAddress(far).encode(into: &$0, dialect: .openBSD) }
        builder.appendIdentity(.identitySource, policy.sourceIdentity)
        builder.appendIdentity(.identityDestination, policy.destinationIdentity)
        PFKeyProposal(dialect: .openBSD, saProtocol: request.template.saProtocol).append(to: &builder)
      }
    }
  }
}
