import Glibc
import IPsec
import Wire

/// What all clients of the XFRM socket share: the database, what they set beyond what it keeps, and the multicasts.
/// Control thread only.
public final class XFRMService {
  let store: any SecurityStore
  public var policy: KeyPolicy
  private var sessions: [UInt64: XFRMSession] = [:]
  private var remnants: [SAIdentifier: XFRMSARemnant] = [:]
  private var policyRemnants: [UInt32: XFRMPolicyRemnant] = [:]
  /// Of a policy that is being made, which has no index yet, or changed.
  private var nextPolicyRemnant: XFRMPolicyRemnant?
  private var token: Int?
  private let mappings = MappingThrottle()

  /// Whose request is being carried out: multicasts carry its number and port, as the kernel's do.
  var requester = (sequence: UInt32(0), port: UInt32(0))
  /// Prefix lengths above which the kernel would hash a selector: kept and given back.
  var hashThresholds = (v4: (local: UInt8(32), remote: UInt8(32)), v6: (local: UInt8(128), remote: UInt8(128)))

  public init(store: any SecurityStore, policy: KeyPolicy = KeyPolicy()) {
    self.store = store
    self.policy = policy
    token = store.subscribe { [weak self] event, _ in self?.handle(event) }
  }

  /// Ends the subscription; sessions stay mute.
  public func shutDown() {
    if let token { store.unsubscribe(token) }
    token = nil
    sessions.removeAll()
  }

  /// `origin` is the client's own number, not 0; `owner` is its process.
  public func makeSession(owner: Owner, origin: UInt64, output: @escaping KeyOutput) -> XFRMSession {
    let session = XFRMSession(service: self, owner: owner, origin: origin, output: output)
    sessions[origin] = session
    return session
  }

  func remove(_ session: XFRMSession) { sessions[session.origin] = nil }

  /// Sends to every client of the group; `body` is only run if there is one.
  func multicast(_ group: XFRMGroup, _ type: XFRMMessageType, _ body: (inout ByteBuilder) -> Void) {
    let listeners = sessions.values.filter { $0.groups & group.bit != 0 }
    guard !listeners.isEmpty else { return }
    for listener in listeners {
      var builder = ByteBuilder()
      let header = NetlinkHeader(type: type.rawValue, sequence: requester.sequence, port: requester.port)
      builder.netlink(header, body)
      listener.notify(builder.bytes)
    }
  }

  // MARK: What clients set beyond the database

  func remnant(_ record: SARecord) -> XFRMSARemnant {
    remnants[record.parameters.identifier] ?? XFRMSARemnant(record.parameters)
  }

  /// Keeps `remnant` for an SA while `body` makes or changes it; a refusal leaves what was there.
  func keeping(
    _ remnant: XFRMSARemnant, for id: SAIdentifier, _ body: () throws(DatabaseError) -> Void
  ) throws(KeyRefusal) {
    let previous = remnants.updateValue(remnant, forKey: id)
    do { try body() } catch {
      remnants[id] = previous
      throw KeyRefusal(error)
    }
  }

  func keep(_ remnant: XFRMSARemnant, for id: SAIdentifier) { remnants[id] = remnant }

  func writing(_ record: SARecord) -> XFRMSAWriting { XFRMSAWriting(record: record, remnant: remnant(record)) }

  func writing(_ record: PolicyRecord) -> XFRMPolicyWriting {
    XFRMPolicyWriting(
      record: record, remnant: nextPolicyRemnant ?? policyRemnants[record.index] ?? XFRMPolicyRemnant())
  }

  /// Keeps `remnant` for the policy that `body` makes or changes, whose index it returns; multicasts of it show it.
  func keeping(
    _ remnant: XFRMPolicyRemnant, _ body: () throws(DatabaseError) -> UInt32
  ) throws(KeyRefusal) {
    nextPolicyRemnant = remnant
    defer { nextPolicyRemnant = nil }
    let index = try refusing(missing: ENOENT, body)
    policyRemnants[index] = remnant
  }

  // MARK: Events

  /// Multicasts go out first: they still show what the client set.
  private func handle(_ event: DatabaseEvent) {
    announce(event)
    switch event {
    case .saDeleted(let record), .saExpired(let record, hard: true):
      remnants[record.parameters.identifier] = nil
    case .sasFlushed(let saProtocol):
      remnants = remnants.filter { id, _ in
        store.record(id) != nil || (saProtocol != nil && id.saProtocol != saProtocol)
      }
    case .policyDeleted(let record): policyRemnants[record.index] = nil
    case .policiesFlushed: policyRemnants = policyRemnants.filter { store.policy(index: $0.key) != nil }
    default: break
    }
  }

  func mayAnnounceMapping(of record: SARecord) -> Bool {
    mappings.mayAnnounce(record.parameters.identifier, threshold: remnant(record).mappingThreshold ?? 0)
  }
}
