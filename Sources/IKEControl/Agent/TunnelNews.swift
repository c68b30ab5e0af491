import IPsec
import Wire

/// What charon calls the SAs of a request ID, and who is at their ends.
public struct DaemonChild: Sendable, Hashable {
  public var requestID: UInt32
  public var saProtocol: SAProtocol
  /// The connection's name, and the child's in it.
  public var connection: String
  public var name: String
  public var peer: IPAddress?
  public var localIdentity: String?
  public var remoteIdentity: String?
  /// As OpenBSD names it: `rsa` for any signature, `passphrase` for a pre-shared key.
  public var remoteAuthentication: String?

  public init(
    requestID: UInt32, saProtocol: SAProtocol = .esp, connection: String, name: String, peer: IPAddress?,
    localIdentity: String? = nil, remoteIdentity: String? = nil
  ) {
    self.requestID = requestID
    self.saProtocol = saProtocol
    self.connection = connection
    self.name = name
    self.peer = peer
    self.localIdentity = localIdentity
    self.remoteIdentity = remoteIdentity
  }

  /// Of `list-sa` and `child-updown`. Nil: it has no SAs yet.
  init?(_ key: String, _ child: VICISection, connection: String, _ sa: VICISection) {
    guard let number = child.number("reqid"), let requestID = UInt32(exactly: number), requestID != 0 else {
      return nil
    }
    self.init(
      requestID: requestID, saProtocol: child.text("protocol")?.lowercased() == "ah" ? .ah : .esp,
      connection: connection, name: child.text("name") ?? key,
      peer: sa.text("remote-host").flatMap { IPAddress($0) }, localIdentity: sa.text("local-id"),
      remoteIdentity: sa.text("remote-id"))
  }

  /// Children of one connection's SA.
  static func all(_ connection: String, _ sa: VICISection) -> [DaemonChild] {
    (sa.section("child-sas")?.sections ?? []).compactMap {
      DaemonChild($0.name, $0.section, connection: connection, sa)
    }
  }
}

/// What the agent has learnt of tunnels since it was asked last.
public struct TunnelNews: Sendable {
  /// By request ID.
  public var children: [UInt32: DaemonChild] = [:]
  /// By connection: what charon said last of what went wrong.
  public var complaints: [String: String] = [:]
  /// Rules whose SAs charon was asked for.
  public var asked: Set<TunnelNotes.Name> = []
  /// The rules' states are others now.
  public var hasStates = false

  public init() {}

  public var isEmpty: Bool { children.isEmpty && complaints.isEmpty && asked.isEmpty && !hasStates }

  mutating func add(_ other: TunnelNews) {
    children.merge(other.children) { $1 }
    complaints.merge(other.complaints) { $1 }
    asked.formUnion(other.asked)
    hasStates = hasStates || other.hasStates
  }
}
