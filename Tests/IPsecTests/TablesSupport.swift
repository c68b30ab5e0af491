import CLayout
import Foundation
import Synchronization
import Wire

@testable import IPsec

/// Frees what was retired when the test says that every reader has let go.
final class ManualReclaimer: Reclaimer {
  private var waiting: [() -> Void] = []
  var waitingCount: Int { waiting.count }

  func retire(_ free: @escaping () -> Void) { waiting.append(free) }

  func pass() {
    let ready = waiting
    waiting = []
    for free in ready { free() }
  }
}

/// Threads that report quiescent states, and a reclaimer that waits for them: RCU as the workers do it.
final class ReaderGroup: Reclaimer, @unchecked Sendable {
  private let epochs: UnsafeMutablePointer<Atomic<UInt64>>
  private let readers: Int
  private let clock = Atomic<UInt64>(1)
  let stop = Atomic<Bool>(false)
  private var waiting: [(epoch: UInt64, free: () -> Void)] = []
  private var threads: [Thread] = []
  private let finished = DispatchSemaphore(value: 0)

  /// Each reader runs `body` over and over, with its number and round, and is quiescent between the calls.
  init(readers: Int) {
    self.readers = readers
    epochs = .allocate(capacity: readers)
    for reader in 0..<readers { (epochs + reader).initialize(to: Atomic(1)) }
  }

  func start(_ body: @escaping @Sendable (_ reader: Int, _ round: Int) -> Void) {
    for reader in 0..<readers {
      let thread = Thread { [self] in
        var round = 0
        while !stop.load(ordering: .acquiring) {
          body(reader, round)
          round += 1
          epochs[reader].store(clock.load(ordering: .acquiring), ordering: .releasing)
        }
        epochs[reader].store(.max, ordering: .releasing)
        finished.signal()
      }
      thread.stackSize = 1 << 20
      threads.append(thread)
      thread.start()
    }
  }

  func retire(_ free: @escaping () -> Void) {
    let epoch = clock.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue
    waiting.append((epoch, free))
  }

  /// Frees what no reader can hold.
  func reclaim() {
    let oldest = (0..<readers).map { epochs[$0].load(ordering: .acquiring) }.min() ?? .max
    let ready = waiting.prefix { $0.epoch <= oldest }
    waiting.removeFirst(ready.count)
    for item in ready { item.free() }
  }

  func join() {
    stop.store(true, ordering: .releasing)
    for _ in threads { finished.wait() }
    reclaim()
    epochs.deallocate()
  }
}

/// SAs and policies as the tables see them, outside a database.
enum Sample {
  static func sa(
    spi: UInt32, destination: IPAddress, saProtocol: UInt8 = 50, window: UInt32 = 0, flags: gw_sa_flag? = nil
  ) -> UnsafeMutablePointer<gw_sa> {
    let words = ReplayWindow.ringWords(window: window)
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: MemoryLayout<gw_sa>.stride + words * 8, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<gw_sa>.stride + words * 8)
    let sa = memory.assumingMemoryBound(to: gw_sa.self)
    sa.pointee.spi = spi.bigEndian
    (sa.pointee.destination_high, sa.pointee.destination_low) = destination.halves
    sa.pointee.sa_protocol = saProtocol
    sa.pointee.flags = (flags?.rawValue ?? 0) | (destination.family == .v6 ? GW_SA_OUTER_V6.rawValue : 0)
    sa.pointee.replay_window = window
    if words > 0 {
      sa.pointee.replay = (memory + MemoryLayout<gw_sa>.stride).assumingMemoryBound(to: UInt64.self)
      sa.pointee.replay_mask = UInt32(words - 1)
      ReplayWindow.initialise(sa, highest: 0)
    }
    return sa
  }

  static func policy(
    _ selector: Selector, direction: UInt8 = 1, priority: UInt32? = nil, index: UInt32
  ) -> UnsafeMutablePointer<gw_policy> {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<gw_policy>.stride, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<gw_policy>.stride)
    let policy = memory.assumingMemoryBound(to: gw_policy.self)
    policy.pointee.index = index
    policy.pointee.direction = direction
    policy.pointee.fill(selector)
    policy.pointee.rank =
      priority.map { PolicyRank.rank(priority: $0, order: UInt64(index)) }
      ?? PolicyRank.rank(of: selector, order: UInt64(index))
    return policy
  }

  static func key(
    _ source: IPAddress, _ destination: IPAddress, ipProtocol: UInt8 = 6, sourcePort: UInt16 = 1000,
    destinationPort: UInt16 = 80, opaque: Bool = false, direction: UInt8 = 1
  ) -> gw_flow_key {
    var key = gw_flow_key()
    (key.source_high, key.source_low) = source.halves
    (key.destination_high, key.destination_low) = destination.halves
    key.source_port = opaque ? 0 : sourcePort
    key.destination_port = opaque ? 0 : destinationPort
    key.ip_protocol = ipProtocol
    key.family = source.family.rawValue
    key.opaque_ports = opaque ? 1 : 0
    key.direction = direction
    return key
  }

  static func v4(_ raw: UInt32) -> IPAddress { .v4(IPv4Address(rawValue: raw)) }
  static func v6(_ high: UInt64, _ low: UInt64) -> IPAddress { .v6(IPv6Address(high: high, low: low)) }
}
