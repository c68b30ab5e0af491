import IPsec
import Wire

/// What a key daemon tells of the SAs of a request ID, which the key protocol does not carry: the identities that the ends
/// proved, how the peer did, and what the SAs are for.
public struct DaemonName: Codable, Sendable, Hashable {
  public var saProtocol: SAProtocol
  public var peer: IPAddress
  public var requestID: UInt32
  public var connection: String
  public var child: String
  public var localIdentity: Identity?
  public var remoteIdentity: Identity?
  /// As OpenBSD names it: `rsa` for any signature, `passphrase` for a pre-shared key.
  public var remoteAuthentication: String?
  /// As packets leave.
  public var selector: Selector?

  public init(saProtocol: SAProtocol, peer: IPAddress, requestID: UInt32, connection: String, child: String) {
    self.saProtocol = saProtocol
    self.peer = peer
    self.requestID = requestID
    self.connection = connection
    self.child = child
  }

  /// What its SAs are found by.
  public var binding: TunnelBinding { TunnelBinding(saProtocol: saProtocol, peer: peer, requestID: requestID) }

  enum CodingKeys: String, CodingKey {
    case peer, connection, child, selector
    case saProtocol = "protocol"
    case requestID = "request_id"
    case localIdentity = "local_identity"
    case remoteIdentity = "remote_identity"
    case remoteAuthentication = "remote_auth"
  }
}

extension Identity {
  /// As charon writes them: an address, `user@host`, a distinguished name, else a host's name.
  public init?(daemon text: String) {
    if text.isEmpty || text.hasPrefix("%") { return nil }
    if let address = IPAddress(text) {
      self.init(kind: .prefix, text: "\(address)/\(address.family.bits)")
    } else {
      self.init(kind: text.contains("=") ? .asn1DN : text.contains("@") ? .ufqdn : .fqdn, text: text)
    }
  }
}

extension [DaemonName] {
  /// The records with what the daemon says of them where they have nothing of their own, and how each SA's peer proved
  /// itself.
  public func complete(_ records: [SARecord]) -> (records: [SARecord], authentications: [SAIdentifier: String]) {
    let known = Dictionary(map { ($0.binding, $0) }, uniquingKeysWith: { $1 })
    var authentications: [SAIdentifier: String] = [:]
    let completed = records.map { record in
      var (record, sa) = (record, record.parameters)
      func name(peer: IPAddress) -> DaemonName? {
        known[TunnelBinding(saProtocol: sa.saProtocol, peer: peer, requestID: sa.requestID)]
      }
      let outbound = name(peer: sa.destination)
      let isOut = outbound != nil
      guard sa.requestID != 0, let name = outbound ?? name(peer: sa.source) else { return record }
      if sa.sourceIdentity == nil, sa.destinationIdentity == nil {
        sa.sourceIdentity = isOut ? name.localIdentity : name.remoteIdentity
        sa.destinationIdentity = isOut ? name.remoteIdentity : name.localIdentity
      }
      if sa.selector == nil { sa.selector = isOut ? name.selector : name.selector?.mirrored }
      if sa.direction == nil { sa.direction = isOut ? .out : .in }
      authentications[sa.identifier] = name.remoteAuthentication
      record.parameters = sa
      return record
    }
    return (completed, authentications)
  }
}
