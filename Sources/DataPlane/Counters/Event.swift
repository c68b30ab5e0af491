import CLayout
import Synchronization
import Wire

/// What a worker tells the control thread.
public struct Event: Sendable {
  public enum Kind: UInt32, Sendable {
    /// A policy wants an SA: `number` is the policy's index, `key` the packet.
    case acquire
    /// An SA reached its soft or hard limit of bytes or packets: `number` is its serial.
    case softLimit, hardLimit
    /// Its sequence numbers are used up.
    case sequenceExhausted
    /// It has come to its limit, which is not the end.
    case numbersNeeded
    /// ESP in UDP came from elsewhere: `number` is the SA's serial, `key` the outer packet.
    case mapping
    /// SA `number` has packets and no key schedule.
    case unkeyed
    /// ICMP says that packets of SA `number` do not fit; `value` is the MTU.
    case pathMTU
  }

  public var kind: Kind
  public var number: UInt32
  public var value: UInt64
  public var key: gw_flow_key

  /// `mapping`: where the peer is now.
  public var peer: IPAddress {
    IPAddress(key.family == AddressFamily.v6.rawValue ? .v6 : .v4, high: key.source_high, low: key.source_low)
  }

  @inlinable
  public init(_ kind: Kind, number: UInt32, value: UInt64 = 0, key: gw_flow_key = gw_flow_key()) {
    self.kind = kind
    self.number = number
    self.value = value
    self.key = key
  }
}

/// A single-producer, single-consumer ring of events: one worker writes, the control thread reads. When it is full the
/// event is dropped and counted; every event is one that a worker raises again, or that the control thread finds.
public struct EventRing: @unchecked Sendable {
  public static let capacity = 1024
  private struct Header: ~Copyable {
    let head = Atomic<UInt64>(0)
    let spacing: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0)
    let tail = Atomic<UInt64>(0)
    let dropped = Atomic<UInt64>(0)
  }
  private let header: UnsafeMutablePointer<Header>
  private let slots: UnsafeMutablePointer<Event>

  public init() {
    header = .allocate(capacity: 1)
    header.initialize(to: Header())
    slots = .allocate(capacity: Self.capacity)
  }

  public func deallocate() {
    header.deinitialize(count: 1)
    header.deallocate()
    slots.deallocate()
  }

  /// The worker. False: the ring is full, and the mark that says "reported" must go, so that the event is raised again.
  public func push(_ event: Event) -> Bool {
    let head = header.pointee.head.load(ordering: .relaxed)
    guard head &- header.pointee.tail.load(ordering: .acquiring) < UInt64(Self.capacity) else {
      header.pointee.dropped.store(header.pointee.dropped.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
      return false
    }
    (slots + Int(head % UInt64(Self.capacity))).initialize(to: event)
    header.pointee.head.store(head &+ 1, ordering: .releasing)
    return true
  }

  /// The control thread.
  public func pop() -> Event? {
    let tail = header.pointee.tail.load(ordering: .relaxed)
    guard tail != header.pointee.head.load(ordering: .acquiring) else { return nil }
    let event = slots[Int(tail % UInt64(Self.capacity))]
    header.pointee.tail.store(tail &+ 1, ordering: .releasing)
    return event
  }

  public var dropped: UInt64 { header.pointee.dropped.load(ordering: .relaxed) }
}
