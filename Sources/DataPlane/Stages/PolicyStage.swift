import CDPDK
import CLayout
import IPsec
import Routing
import Synchronization
import Wire

/// What the flow cache remembers to do with a flow's packets.
enum FlowAction: UInt8 {
  /// Out by `adjacency` in clear.
  case forward = 0
  /// Through the SA of `policy`.
  case protect = 1
  /// To the gateway's own kernel.
  case host = 2
  /// `reason` says why not.
  case drop = 3
  /// No next hop that is ready, or an answer by ICMP: packet by packet, by the kind of `adjacency`.
  case exception = 4
}

/// The SPD and the FIB asked at once: an exact-match flow cache before both. Checks what came in (in clear, or from
/// which SA), and decides what becomes of it.
enum PolicyStage {
  @inline(never)
  static func run(_ w: WorkerPointer) {
    let list = w.pointee.policy
    w.pointee.policy.count = 0
    if let numbers = w.pointee.lastNumbers { cdpdk_prefetch_write(numbers) }
    let generation = w.pointee.generation
    let flows = w.pointee.flows
    var run = PolicyCountRun()
    var usual = UsualPolicy(w)
    var near = 0
    var i = 0
    while i < list.count {
      let packet = list[i]
      i &+= 1
      var entry = flows.lookup(&packet.pointee.key, hash: packet.pointee.hash, generation: generation)
      // What came through several SAs is checked each time: an entry remembers one.
      if let hit = entry, packet.pointee.origin == .tunnel,
        packet.pointee.depth > 1 || hit.pointee.sa_serial != packet.pointee.sa.unsafelyUnwrapped.pointee.serial
      {
        entry = nil
      }
      if entry == nil, i > near { near = PolicyPrefetch.run(w, list, from: i &- 1) }
      let flow = entry ?? Classifier.classify(w, packet)
      if flow.pointee.action != FlowAction.protect.rawValue, let inbound = flow.pointee.policy {
        run.add(w, inbound, bytes: Int(packet.pointee.length))
      }
      apply(w, packet, flow, &usual)
    }
    run.flush(w)
    usual.end(w)
    w.mark(.policy)
  }

  @inline(__always)
  private static func apply(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: UnsafeMutablePointer<gw_flow_entry>, _ usual: inout UsualPolicy
  ) {
    switch flow.pointee.action {
    case FlowAction.protect.rawValue:
      guard decrementTTL(w, packet) else { return }
      packet.pointee.policy = flow.pointee.policy
      usual.add(flow.pointee.policy.unsafelyUnwrapped)
      crypto_prefetch(flow.pointee.policy)
      w.pointee.outbound.append(packet)
    case FlowAction.forward.rawValue:
      packet.pointee.adjacency = flow.pointee.adjacency
      guard decrementTTL(w, packet) else { return }
      w.pointee.transmit.append(packet)
    default: applyUnusual(w, packet, flow)
    }
  }

  @inline(never)
  private static func applyUnusual(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: UnsafeMutablePointer<gw_flow_entry>
  ) {
    packet.pointee.adjacency = flow.pointee.adjacency
    switch FlowAction(rawValue: flow.pointee.action) {
    case .host: HostStage.deliver(w, packet)
    case .exception: ExceptionStage.run(w, packet)
    default:
      let reason = dropReason(flow.pointee.reason)
      if reason == .policyDenyOut { ExceptionStage.answer(w, packet, .prohibited) }
      w.drop(packet, reason)
    }
  }

  /// What `Classifier` put into an entry. `init(rawValue:)` searches an array of all reasons, which it allocates.
  @inline(__always)
  private static func dropReason(_ number: UInt8) -> DropReason {
    number <= DropReason.noBuffer.rawValue ? unsafeBitCast(number, to: DropReason.self) : .policyInClear
  }

  /// Routers count down (RFC 1812 5.3.1), also before a tunnel (RFC 4301 5.1.2.1); what the gateway sends itself stays.
  @inline(__always)
  static func decrementTTL(_ w: WorkerPointer, _ packet: PacketPointer) -> Bool {
    if packet.pointee.origin == .host { return true }
    let ip = packet.pointee.ip
    if packet.pointee.version == 4 {
      if IPv4Header.decrementTTL(ip) { return true }
    } else if IPv6Header.decrementHopLimit(ip) {
      return true
    }
    expired(w, packet)
    return false
  }

  @inline(never)
  private static func expired(_ w: WorkerPointer, _ packet: PacketPointer) {
    ExceptionStage.answer(w, packet, .timeExceeded)
    w.drop(packet, .ttlExpired)
  }
}

/// Adds up what consecutive packets of one policy did.
struct PolicyCountRun {
  private var policy: UnsafeMutablePointer<gw_policy>?
  private var packets = 0
  private var bytes = 0

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func add(_ w: WorkerPointer, _ next: UnsafeMutablePointer<gw_policy>, bytes length: Int) {
    if next != policy {
      flush(w)
      policy = next
      packets = 0
      bytes = 0
    }
    packets &+= 1
    bytes &+= length
  }

  @inline(__always)
  mutating func flush(_ w: WorkerPointer) {
    guard let policy, packets > 0 else { return }
    w.pointee.counters.add(
      slot: policy.pointee.slot, packets: UInt64(packets), bytes: UInt64(bytes), now: w.pointee.now)
    packets = 0
  }
}

/// Whether all of a burst's packets to protect have one policy, the one of the burst before: told here, where it costs
/// next to nothing, so that nobody has to look through them for it.
struct UsualPolicy {
  private let policy: UInt
  private let isFirst: Bool
  private var difference: UInt = 0
  private var last: UInt

  @inline(__always)
  init(_ w: WorkerPointer) {
    policy = UInt(bitPattern: w.pointee.usualPolicy)
    last = policy
    isFirst = w.pointee.outbound.count == 0
  }

  @inline(__always)
  mutating func add(_ next: UnsafeMutablePointer<gw_policy>) {
    last = UInt(bitPattern: next)
    difference |= last ^ policy
  }

  @inline(__always)
  func end(_ w: WorkerPointer) {
    w.pointee.usualPolicy = UnsafeMutablePointer(bitPattern: last)
    w.pointee.usualCount = isFirst && difference == 0 ? w.pointee.outbound.count : 0
  }
}
