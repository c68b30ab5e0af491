import IPsec
import Wire

/// What all clients of the PF_KEY socket share. Control thread only.
public final class PFKeyService {
  /// Acquires that ASKPOLICY can still ask about.
  private static let rememberedAcquires = 256

  let store: any SecurityStore
  public var policy: KeyPolicy
  private(set) var sessions: [UInt64: PFKeySession] = [:]
  private var acquires: [UInt32: AcquireRequest] = [:]
  private var acquireOrder: [UInt32] = []
  private var token: Int?
  private var lastSequence: UInt32 = 0

  public init(store: any SecurityStore, policy: KeyPolicy = KeyPolicy()) {
    self.store = store
    self.policy = policy
    token = store.subscribe { [weak self] event, origin in self?.handle(event, origin: origin) }
  }

  /// Ends the subscription; sessions stay mute.
  public func shutDown() {
    if let token { store.unsubscribe(token) }
    token = nil
    sessions.removeAll()
  }

  /// `origin` is the client's own number, not 0; `owner` is its process.
  public func makeSession(owner: Owner, origin: UInt64, output: @escaping KeyOutput) -> PFKeySession {
    let session = PFKeySession(service: self, owner: owner, origin: origin, output: output)
    sessions[origin] = session
    return session
  }

  func remove(_ session: PFKeySession) { sessions[session.origin] = nil }

  /// A number for a message that answers nobody.
  func nextSequence() -> UInt32 {
    lastSequence &+= 1
    return lastSequence
  }

  func remember(_ request: AcquireRequest) {
    if acquires.updateValue(request, forKey: request.sequence) == nil { acquireOrder.append(request.sequence) }
    if acquireOrder.count > Self.rememberedAcquires { acquires[acquireOrder.removeFirst()] = nil }
  }

  func acquire(_ sequence: UInt32) -> AcquireRequest? { acquires[sequence] }

  /// Shows promiscuous clients what went by, as each kernel does: Linux the bare message, OpenBSD within SADB_X_PROMISC.
  /// A message in the other dialect would be misread and is left out.
  func overhear(_ message: some Collection<UInt8>, dialect: PFKeyDialect, but speaker: PFKeySession) {
    for listener in sessions.values where listener.isPromiscuous && listener !== speaker && listener.dialect == dialect
    {
      var builder = ByteBuilder(capacity: message.count + PFKeyHeader.length)
      if dialect == .openBSD {
        var header = PFKeyHeader(type: PFKeyMessageType.promiscuous.number(dialect), sequence: 0)
        header.words = UInt16(truncatingIfNeeded: (message.count + PFKeyHeader.length) / 8)
        header.encode(into: &builder)
      }
      builder.append(bytes: message)
      listener.notify(builder.bytes)
    }
  }

  /// Whoever installed SAs or policies by a PF_KEY socket.
  var owners: Set<Owner> { Set(store.records().map(\.parameters.owner).filter(\.isPFKey)) }
  var policyOwners: Set<Owner> { Set(store.policies().map(\.parameters.owner).filter(\.isPFKey)) }
}
