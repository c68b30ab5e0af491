import CCrypto
import CLayout
import Engines
import Synchronization
import Wire

@testable import IPsec

/// An engine that encrypts nothing and counts its sessions; each holds the count beside what stands for its key.
final class FakeEngine: CryptoEngine {
  final class Count: Sendable { let value = Atomic<Int>(0) }
  let live = Count()
  /// So many sessions more are refused.
  let refusals = Count()

  let name = "fake"
  func supports(_ transform: CryptoTransform) -> Bool { transform.encryption != .tripleDESCBC }

  func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    guard supports(transform) else { throw .unsupported("3DES") }
    if refusals.value.load(ordering: .relaxed) > 0 {
      refusals.value.wrappingSubtract(1, ordering: .relaxed)
      throw .unsupported("for now")
    }
    guard transform.encryption.keyLengths.contains(transform.encryptionKey.count) else {
      throw .keyLength(expected: transform.encryption.keyLengths, got: transform.encryptionKey.count)
    }
    let base = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    base.initializeMemory(as: UInt8.self, repeating: 0x5a, count: 64)
    live.value.wrappingAdd(1, ordering: .relaxed)
    base.storeBytes(of: Unmanaged.passRetained(live), as: Unmanaged<Count>.self)
    return CryptoSession(
      burst: { jobs, count in for i in 0..<count { jobs[i].succeeded = 1 } }, base: base, stride: 0, footprint: 64,
      destroyer: { base in
        let live = base.load(as: Unmanaged<Count>.self)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
        base.deallocate()
        live.takeRetainedValue().value.wrappingSubtract(1, ordering: .relaxed)
      })
  }
}

final class FakeCounters: CounterSource {
  var values: [UInt32: gw_counters] = [:]
  var resets: [UInt32] = []
  func counters(slot: UInt32) -> gw_counters { values[slot] ?? gw_counters() }
  func reset(slot: UInt32) {
    resets.append(slot)
    values[slot] = nil
  }
}

/// A database with everything around it under the test's control. The clock starts at 1000; the wall's is 1,000,000 ahead.
final class TestDatabase {
  let reclaimer = ManualReclaimer()
  let counters = FakeCounters()
  let engine = FakeEngine()
  let database: SecurityDatabase
  private(set) var events: [(event: DatabaseEvent, origin: UInt64)] = []

  static let here = IPAddress("198.51.100.1")!
  static let there = IPAddress("203.0.113.9")!

  init(limits: DatabaseLimits = DatabaseLimits(sas: 1000, policies: 1000, larvalSAs: 10, acquires: 8)) {
    database = SecurityDatabase(
      engine: engine, workers: 2, limits: limits, reclaimer: reclaimer, counters: counters, now: 1000)
    database.isOwnAddress = { $0 == Self.here }
    database.epoch = 1_000_000
    _ = database.subscribe { [unowned self] in events.append(($0, $1)) }
  }

  /// Keyed sessions that are not destroyed.
  var liveSessions: Int { engine.live.value.load(ordering: .relaxed) }

  /// What happened since it was last asked, as words.
  func takeEvents() -> [String] {
    defer { events = [] }
    return events.map { Self.words($0.event) }
  }

  func takeRawEvents() -> [(event: DatabaseEvent, origin: UInt64)] {
    defer { events = [] }
    return events
  }

  private static func words(_ event: DatabaseEvent) -> String {
    switch event {
    case .saAdded(let sa): "added \(sa.parameters.spi)"
    case .saUpdated(let sa): "updated \(sa.parameters.spi)"
    case .saDeleted(let sa): "deleted \(sa.parameters.spi)"
    case .sasFlushed: "flushed"
    case .saExpired(let sa, let hard): "\(hard ? "hard" : "soft") \(sa.parameters.spi) \(sa.state)"
    case .mapping(let sa, let address, let port): "mapping \(sa.parameters.spi) \(address) \(port)"
    case .acquire(let request): "acquire \(request.sequence)"
    case .acquireExpired(let request): "acquire expired \(request.sequence)"
    case .policyAdded: "policy added"
    case .policyUpdated: "policy updated"
    case .policyDeleted: "policy deleted"
    case .policiesFlushed: "policies flushed"
    }
  }

  static func sa(
    _ spi: UInt32, out: Bool = true, peer: IPAddress = there, local: IPAddress = here, requestID: UInt32 = 0,
    saProtocol: SAProtocol = .esp, mode: SAMode = .tunnel, owner: Owner = .configuration, replayWindow: UInt32 = 64
  ) -> SAParameters {
    var transform = CryptoTransform(encryption: .aesGCM16, encryptionKey: key(spi, out ? peer : local))
    if saProtocol == .ah {
      transform = CryptoTransform(
        encryption: .null, authentication: .hmacSHA256,
        authenticationKey: SecretBytes(Array(repeating: 0x22, count: 32)))
    }
    if saProtocol == .ipcomp || saProtocol == .ipip { transform = CryptoTransform(encryption: .null) }
    var sa = SAParameters(
      spi: spi, source: out ? local : peer, destination: out ? peer : local, saProtocol: saProtocol, mode: mode,
      transform: transform, replayWindow: replayWindow, owner: owner)
    sa.requestID = requestID
    return sa
  }

  /// Each SA has a key of its own, and all have one salt.
  private static func key(_ spi: UInt32, _ destination: IPAddress) -> SecretBytes {
    let words = [UInt64(spi), destination.halves.1]
    let salt = [UInt8](repeating: 0x11, count: 4)
    return SecretBytes(words.flatMap { word in (0..<8).map { UInt8(word >> (8 * $0) & 255) } } + salt)
  }

  static let traffic = Selector(source: IPPrefix("192.168.60.0/24")!, destination: IPPrefix("172.20.1.0/24")!)

  /// As ipsec.conf makes it.
  static func flow(
    _ selector: Selector = traffic, direction: PolicyDirection = .out, type: PolicyType = .require,
    peer: IPAddress = there
  ) -> PolicyParameters {
    var policy = PolicyParameters(direction: direction, selector: selector, type: type)
    policy.peer = peer
    if type != .bypass, type != .deny {
      let none = IPAddress.unspecified(peer.family)
      policy.templates = [
        direction == .out ? SATemplate(source: none, destination: peer) : SATemplate(source: peer, destination: none)
      ]
    }
    return policy
  }

  /// As XFRM makes it.
  static func policy(
    _ selector: Selector = traffic, direction: PolicyDirection = .out, templates: [SATemplate], priority: UInt32 = 1000
  ) -> PolicyParameters {
    var policy = PolicyParameters(direction: direction, selector: selector, templates: templates, owner: .xfrm(1))
    policy.priority = priority
    return policy
  }

  static func template(
    requestID: UInt32 = 0, spi: UInt32 = 0, saProtocol: SAProtocol = .esp, mode: SAMode = .tunnel,
    optional: Bool = false
  ) -> SATemplate {
    SATemplate(
      saProtocol: saProtocol, mode: mode, source: mode == .tunnel ? here : .unspecified(.v4),
      destination: mode == .tunnel ? there : .unspecified(.v4), requestID: requestID, spi: spi, isOptional: optional)
  }

  static func key(_ source: String = "192.168.60.5", _ destination: String = "172.20.1.7", direction: UInt8 = 1)
    -> gw_flow_key
  {
    Sample.key(IPAddress(source)!, IPAddress(destination)!, direction: direction)
  }

  /// The SPI of the SA that a packet would leave with; 0: none; nil: no policy.
  func outboundSPI(_ key: gw_flow_key = key()) -> UInt32? {
    var key = key
    guard let policy = database.tables.spd.lookup(&key) else { return nil }
    return policy.loadSA().map { UInt32(bigEndian: $0.pointee.spi) } ?? 0
  }

  func record(_ spi: UInt32, out: Bool = true, saProtocol: SAProtocol = .esp) -> SARecord? {
    database.record(SAIdentifier(spi: spi, destination: out ? Self.there : Self.here, saProtocol: saProtocol))
  }

  func gwSA(_ spi: UInt32, out: Bool = true, saProtocol: SAProtocol = .esp) -> UnsafeMutablePointer<gw_sa>? {
    database.sad.lookup(spi: spi, destination: out ? Self.there : Self.here, saProtocol: saProtocol.rawValue)
  }

  static func id(_ spi: UInt32, out: Bool = true, saProtocol: SAProtocol = .esp) -> SAIdentifier {
    SAIdentifier(spi: spi, destination: out ? there : here, saProtocol: saProtocol)
  }
}
