import CLayout
import Engines
import Glibc
import Wire

/// The SAD and the SPD: the one place where SAs and policies are made, bound to each other, aged and deleted.
///
/// Control thread only. The workers see `tables`. What they can still hold after a change is freed through the
/// reclaimer; an SA's keys are wiped then. The owner calls `tick` once a second of the gateway's clock (the one that
/// `last_used` of the workers' counters shows), and passes on what the workers report.
public final class SecurityDatabase: SecurityStore {
  public let limits: DatabaseLimits
  public let sad: SAD
  public let spd: SPD
  /// Whether an address is the gateway's own: tells inbound SAs from outbound ones where nobody else does.
  public var isOwnAddress: (IPAddress) -> Bool = { _ in false }
  /// Seconds from the epoch to moment 0 of the gateway's clock. Set once, before there is anything: a moment is the same
  /// whenever it is asked for.
  public var epoch: UInt64
  /// What is taken though the RFCs advise against it.
  public var permits = Permits()
  /// An SA was taken that protects less than it seems to, and why.
  public var onWeak: ((SAIdentifier, _ weakness: String) -> Void)?

  let factory: SAFactory
  let policyFactory = PolicyFactory()
  let reclaimer: any Reclaimer
  let counterSource: any CounterSource
  var slots: SlotAllocator
  var schedules: KeySchedules
  var wheel: TimerWheel

  /// Owns the entries.
  var entries: [UInt32: SAEntry] = [:]
  /// Larval SAs, and those that the SAD does not find by their identifier (IPIP).
  var named: [SAIdentifier: SAEntry] = [:]
  var larvalCount = 0
  /// A larval SA has come, or (false) goes: its SA follows in the same call, if any does.
  public var onLarval: ((_ parameters: SAParameters, _ isThere: Bool) -> Void)?
  var encapsulations = EncapsulationPorts()
  /// `encapsulationPorts` changed.
  public var onEncapsulationPorts: ((Set<UInt16>) -> Void)?
  let bindings = SABindingIndex()
  let inboundBindings = SABindingIndex()
  var bundles = BundleLinks()
  private var lastSerial: UInt32 = 0
  private var lastOrder: UInt64 = 0
  /// Where the search for first uses goes on.
  var sweep = FirstUseSweep()

  var policyEntries: [UInt32: PolicyEntry] = [:]
  var policyIndices: [PolicyKey: UInt32] = [:]
  /// Outbound policies by what their templates ask for.
  var policiesByNeed: [TunnelBinding: [UInt32: PolicyEntry]] = [:]
  private var lastPolicyNumber: UInt32 = 0

  /// What the last `ConfigurationChange` was refused for; nil where no part of it was at fault alone.
  public internal(set) var culprit: ConfigurationChange.Part?

  var acquires = AcquireTable()
  let ledger: NumberLedger
  /// SAs whose numbers are kept across restarts, by serial.
  var numbered: [UInt32: NumberedSA] = [:]
  /// SAs that carry nothing until numbers are reserved for them.
  public internal(set) var heldSAs = 0
  /// Whether the owner is a key daemon, whose keys end with it.
  public var isKeyDaemon: (Owner) -> Bool = { _ in false }

  private var handlers: [(token: Int, handler: (DatabaseEvent, UInt64) -> Void)] = []
  private var lastToken = 0

  /// - Parameters:
  ///   - engine: makes the key schedules.
  ///   - workers: how many have sessions and counters.
  ///   - now: seconds of the gateway's clock, not 0.
  public init(
    engine: any CryptoEngine, workers: Int, limits: DatabaseLimits = DatabaseLimits(), reclaimer: any Reclaimer,
    counters: any CounterSource = NoCounters(), now: UInt64
  ) {
    self.limits = limits
    self.reclaimer = reclaimer
    ledger = NumberLedger(limits: limits)
    factory = SAFactory(engine: engine, workers: workers)
    counterSource = counters
    sad = SAD(reclaimer: reclaimer)
    spd = SPD(reclaimer: reclaimer)
    schedules = KeySchedules(limit: limits.schedules)
    slots = SlotAllocator(capacity: limits.counterSlots - 1)
    wheel = TimerWheel(now: now)
    epoch = UInt64(time(nil)) &- now
    acquires.allowance = limits.acquiresPerSecond
  }

  public struct Permits: Sendable, Equatable {
    /// `allow-weak`: algorithms and combinations that RFC 8221 forbids.
    public var weakAlgorithms = false
    /// `low-spis`: 1 to 255, which are IANA's (RFC 4303 2.1).
    public var lowSPIs = false
    public init() {}
  }

  public var tables: SecurityTables { SecurityTables(inbound: sad.inbound, outbound: sad.outbound, spd: spd.reader) }

  /// Seconds of the gateway's clock at the last tick.
  public var now: UInt64 { wheel.now }

  /// Wall-clock seconds of a moment of the gateway's clock; 0 stays 0.
  func wall(_ moment: UInt64) -> UInt64 {
    moment == 0 ? 0 : epoch &+ moment
  }

  func nextSerial() -> UInt32 {
    // Four thousand million SAs later one that still stands is passed over.
    repeat { lastSerial &+= 1 } while lastSerial == 0 || entries[lastSerial] != nil
    return lastSerial
  }

  func nextOrder() -> UInt64 {
    lastOrder += 1
    return lastOrder
  }

  /// As Linux numbers its policies: the direction in the low three bits.
  func nextPolicyIndex(_ direction: PolicyDirection) -> UInt32 {
    var index: UInt32
    repeat {
      lastPolicyNumber &+= 1
      index = lastPolicyNumber << 3 | UInt32(direction.rawValue)
    } while lastPolicyNumber << 3 == 0 || policyEntries[index] != nil
    return index
  }

  // MARK: Events

  public func subscribe(_ handler: @escaping (DatabaseEvent, _ origin: UInt64) -> Void) -> Int {
    lastToken += 1
    handlers.append((lastToken, handler))
    return lastToken
  }

  public func unsubscribe(_ token: Int) { handlers.removeAll { $0.token == token } }

  var isHeard: Bool { !handlers.isEmpty }

  /// `event` is made only if somebody listens.
  func emit(_ event: @autoclosure () -> DatabaseEvent, origin: UInt64 = 0) {
    guard !handlers.isEmpty else { return }
    let event = event()
    for (_, handler) in handlers { handler(event, origin) }
  }
}
