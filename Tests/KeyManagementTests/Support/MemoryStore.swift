import IPsec
import Wire

/// A SecurityStore of two dictionaries: what the protocol promises and nothing behind it.
final class MemoryStore: SecurityStore {
  var sas: [SAIdentifier: SARecord] = [:]
  var entries: [PolicyRecord] = []
  private var nextIndex: UInt32 = 8
  private var nextSPI: UInt32 = 0xc000_0001
  private var handlers: [Int: (DatabaseEvent, UInt64) -> Void] = [:]
  private var nextToken = 1
  var now: UInt64 = 1_700_000_000

  func emit(_ event: DatabaseEvent, origin: UInt64 = 0) {
    for (_, handler) in handlers.sorted(by: { $0.key < $1.key }) { handler(event, origin) }
  }

  /// Everything that a refused request must leave alone.
  var fingerprint: String {
    let sas = records().map { "\($0.parameters.identifier) \($0.state) \($0.parameters.source) \($0.parameters.soft)" }
    return "\(sas) \(entries.map { "\($0.index) \($0.parameters)" })"
  }

  func add(_ sa: SAParameters, origin: UInt64) throws(DatabaseError) {
    if let old = sas[sa.identifier], old.state != .larval { throw .exists(sa.identifier.description) }
    var record = SARecord(parameters: sa, state: .mature)
    record.usage.added = now
    sas[sa.identifier] = record
    emit(.saAdded(record), origin: origin)
  }

  func update(_ sa: SAParameters, origin: UInt64) throws(DatabaseError) {
    guard var record = sas[sa.identifier] else { throw .notFound(sa.identifier.description) }
    record.parameters = sa
    record.state = .mature
    record.usage.added = now
    sas[sa.identifier] = record
    emit(.saUpdated(record), origin: origin)
  }

  func allocateSPI(
    _ template: SAParameters, in range: ClosedRange<UInt32>, origin: UInt64
  ) throws(DatabaseError) -> UInt32 {
    var sa = template
    sa.spi = range.contains(nextSPI) ? nextSPI : range.lowerBound
    while sas[sa.identifier] != nil {
      guard sa.spi < range.upperBound else { throw .full("no free SPI") }
      sa.spi += 1
    }
    nextSPI = sa.spi &+ 1
    sas[sa.identifier] = SARecord(parameters: sa, state: .larval)
    return sa.spi
  }

  func delete(_ id: SAIdentifier, origin: UInt64) throws(DatabaseError) {
    guard let record = sas.removeValue(forKey: id) else { throw .notFound(id.description) }
    emit(.saDeleted(record), origin: origin)
  }

  func flushSAs(_ saProtocol: SAProtocol?, owner: Owner?, origin: UInt64) {
    let left = sas.filter {
      (saProtocol != nil && $0.key.saProtocol != saProtocol) || (owner != nil && $0.value.parameters.owner != owner)
    }
    guard left.count < sas.count else { return }
    sas = left
    emit(.sasFlushed(saProtocol), origin: origin)
  }

  func wantedSAs() -> [SARecord] { [] }
  func giveUp(_ saProtocol: SAProtocol, to peer: IPAddress) -> Bool { false }

  func record(_ id: SAIdentifier) -> SARecord? { sas[id] }

  func records() -> [SARecord] {
    sas.values.sorted {
      ($0.parameters.spi, $0.parameters.destination) < ($1.parameters.spi, $1.parameters.destination)
    }
  }

  func saCount() -> Int { sas.count }

  func bundle(_ first: SAIdentifier, with then: SAIdentifier, origin: UInt64) throws(DatabaseError) {
    guard sas[first] != nil else { throw .notFound(first.description) }
    guard sas[then] != nil else { throw .notFound(then.description) }
    sas[first]?.parameters.bundledWith = then
  }

  func setSequence(_ id: SAIdentifier, sequence: UInt64, replayHighest: UInt64) throws(DatabaseError) {
    guard sas[id] != nil else { throw .notFound(id.description) }
    sas[id]?.sequence = max(sequence, replayHighest)
  }

  private func position(
    _ direction: PolicyDirection, _ selector: Selector, _ mark: Mark?, _ interfaceID: UInt32
  ) -> Int? {
    entries.firstIndex {
      let p = $0.parameters
      return p.direction == direction && p.selector == selector && p.mark == mark && p.interfaceID == interfaceID
    }
  }

  func add(_ policy: PolicyParameters, replacing: Bool, origin: UInt64) throws(DatabaseError) -> UInt32 {
    if let at = position(policy.direction, policy.selector, policy.mark, policy.interfaceID) {
      guard replacing else { throw .exists("policy") }
      entries[at].parameters = policy
      emit(.policyUpdated(entries[at]), origin: origin)
      return entries[at].index
    }
    nextIndex += 8
    let record = PolicyRecord(index: nextIndex, parameters: policy)
    entries.append(record)
    emit(replacing ? .policyUpdated(record) : .policyAdded(record), origin: origin)
    return nextIndex
  }

  func deletePolicy(index: UInt32, origin: UInt64) throws(DatabaseError) {
    guard let at = entries.firstIndex(where: { $0.index == index }) else { throw .notFound("policy \(index)") }
    emit(.policyDeleted(entries.remove(at: at)), origin: origin)
  }

  func deletePolicy(
    direction: PolicyDirection, selector: Selector, mark: Mark?, interfaceID: UInt32, origin: UInt64
  ) throws(DatabaseError) {
    guard let at = position(direction, selector, mark, interfaceID) else { throw .notFound("policy") }
    emit(.policyDeleted(entries.remove(at: at)), origin: origin)
  }

  func flushPolicies(owner: Owner?, origin: UInt64) {
    let count = entries.count
    entries.removeAll { owner == nil || $0.parameters.owner == owner }
    guard entries.count < count else { return }
    emit(.policiesFlushed, origin: origin)
  }

  func policy(index: UInt32) -> PolicyRecord? { entries.first { $0.index == index } }

  func policy(
    direction: PolicyDirection, selector: Selector, mark: Mark?, interfaceID: UInt32
  ) -> PolicyRecord? { position(direction, selector, mark, interfaceID).map { entries[$0] } }

  func policies() -> [PolicyRecord] { entries }
  func policyCount() -> Int { entries.count }

  func subscribe(_ handler: @escaping (DatabaseEvent, UInt64) -> Void) -> Int {
    nextToken += 1
    handlers[nextToken] = handler
    return nextToken
  }

  func unsubscribe(_ token: Int) { handlers[token] = nil }
}
