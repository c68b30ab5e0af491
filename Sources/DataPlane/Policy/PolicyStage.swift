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
  /// Put together first.
  case join = 5
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
    var burstPolicy = BurstPolicy(w)
    var way = DirectTransmit()
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
      if entry == nil {
        if i > near { near = PolicyPrefetch.run(w, list, from: i &- 1) }
        way.settle(w)
        packet.trimOpened()
      }
      let flow = entry ?? Classifier.classify(w, packet)
      if flow.pointee.action == FlowAction.protect.rawValue {
        protect(w, packet, flow, &burstPolicy, &way)
      } else if flow.pointee.action != FlowAction.forward.rawValue {
        applyGeneral(w, packet, flow, isAlive: true, &way)
      } else {
        let isAlive = decrementTTL(packet)
        if !isAlive || !way.sends(w, packet, flow) { applyGeneral(w, packet, flow, isAlive: isAlive, &way) }
      }
    }
    burstPolicy.end(w)
    way.settle(w)
    w.mark(.policy)
  }

  @inline(__always)
  private static func protect(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: UnsafeMutablePointer<gw_flow_entry>,
    _ burstPolicy: inout BurstPolicy,
    _ way: inout DirectTransmit
  ) {
    packet.trimOpened()
    guard decrementTTL(packet) else {
      way.settle(w)
      return expired(w, packet)
    }
    packet.pointee.policy = flow.pointee.policy
    burstPolicy.add(flow.pointee.policy.unsafelyUnwrapped)
    crypto_prefetch(flow.pointee.policy)
    w.pointee.outbound.append(packet)
  }

  /// What is not protected, and does not leave by a way that is ready. `isAlive`: its hops are not used up.
  @inline(never)
  private static func applyGeneral(
    _ w: WorkerPointer, _ packet: PacketPointer, _ flow: UnsafeMutablePointer<gw_flow_entry>, isAlive: Bool,
    _ way: inout DirectTransmit
  ) {
    way.settle(w)
    packet.trimOpened()
    packet.pointee.adjacency = flow.pointee.adjacency
    if let inbound = flow.pointee.policy {
      w.pointee.counters.add(
        slot: inbound.pointee.slot, packets: 1, bytes: UInt64(truncatingIfNeeded: packet.pointee.length),
        now: w.pointee.now)
    }
    guard isAlive else { return expired(w, packet) }
    switch FlowAction(rawValue: flow.pointee.action) {
    case .forward: w.pointee.transmit.append(packet)
    case .host: HostStage.deliver(w, packet)
    case .exception: ExceptionStage.run(w, packet)
    case .join: Reassembly.run(w, packet)
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
  private static func decrementTTL(_ packet: PacketPointer) -> Bool {
    if packet.pointee.origin.isOwn { return true }
    let ip = packet.pointee.ip
    return packet.pointee.version == 4 ? IPv4Header.decrementTTL(ip) : IPv6Header.decrementHopLimit(ip)
  }

  @inline(never)
  private static func expired(_ w: WorkerPointer, _ packet: PacketPointer) {
    ExceptionStage.answer(w, packet, .timeExceeded)
    w.drop(packet, .ttlExpired)
  }
}

/// Whether all of a burst's packets to protect have one policy, the one of the burst before: told here, where it costs
/// next to nothing, so that nobody has to look through them for it.
struct BurstPolicy {
  private let policy: UInt
  private let isFirst: Bool
  private var difference: UInt = 0
  private var last: UInt

  @inline(__always)
  init(_ w: WorkerPointer) {
    policy = UInt(bitPattern: w.pointee.burstPolicy)
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
    w.pointee.burstPolicy = UnsafeMutablePointer(bitPattern: last)
    w.pointee.burstPolicyCount = isFirst && difference == 0 ? w.pointee.outbound.count : 0
  }
}
