import IPsec
import Synchronization
import Wire

/// What a worker needs to know of a port to speak for it: one cache line, immutable once published.
public struct InterfaceRecord: Sendable {
  /// Host byte order; 0: the port has no address of that family.
  public let v4: UInt32
  /// The largest IP packet, in bytes.
  public let mtu: UInt32
  /// A global address if there is one, else the link-local one.
  public let v6: IPv6Address
  public let v6LinkLocal: IPv6Address
  public let mac: MACAddress
  public let isUp: Bool

  init(_ interface: Interface?) {
    mtu = interface?.mtu ?? 0
    mac = interface?.mac ?? MACAddress(rawValue: 0)
    isUp = interface?.isUp ?? false
    var first4: UInt32 = 0
    var global: IPv6Address?
    var linkLocal: IPv6Address?
    for entry in interface?.addresses ?? [] {
      switch entry.address {
      case .v4(let address): if first4 == 0 { first4 = address.rawValue }
      case .v6(let address) where Martian.isLinkLocal(address): linkLocal = linkLocal ?? address
      case .v6(let address): global = global ?? address
      }
    }
    let none = IPv6Address(high: 0, low: 0)
    v4 = first4
    v6 = global ?? linkLocal ?? none
    v6LinkLocal = linkLocal ?? none
  }
}

/// The ports' records as a worker reaches them. A plain copyable value; the memory belongs to `InterfacePool`.
/// Reading: any thread under RCU.
public struct InterfaceTable: @unchecked Sendable {
  @usableFromInline typealias Slot = Atomic<UnsafePointer<InterfaceRecord>>
  @usableFromInline let slots: UnsafeMutablePointer<Slot>

  fileprivate init(slots: UnsafeMutablePointer<Slot>) { self.slots = slots }

  /// `port` is below the number of ports of the routing table. A port that is not there has no addresses and is down.
  @inlinable @inline(__always) public func interface(at port: UInt16) -> UnsafePointer<InterfaceRecord> {
    slots[Int(port)].load(ordering: .acquiring)
  }
}

/// The writer's side of an `InterfaceTable`. Control thread.
final class InterfacePool {
  let table: InterfaceTable
  let capacity: Int
  private let reclaimer: Reclaimer

  init(capacity: Int, reclaimer: Reclaimer) {
    self.capacity = capacity
    self.reclaimer = reclaimer
    let slots = UnsafeMutablePointer<InterfaceTable.Slot>.allocate(capacity: capacity)
    for port in 0..<capacity { (slots + port).initialize(to: Atomic(Self.make(nil))) }
    table = InterfaceTable(slots: slots)
  }

  /// No reader may be left.
  deinit {
    for port in 0..<capacity { table.slots[port].load(ordering: .relaxed).deallocate() }
    table.slots.deallocate()
  }

  func publish(_ interface: Interface?, port: UInt16) {
    let old = table.slots[Int(port)].exchange(Self.make(interface), ordering: .acquiringAndReleasing)
    reclaimer.retire { old.deallocate() }
  }

  private static func make(_ interface: Interface?) -> UnsafePointer<InterfaceRecord> {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    let record = memory.bindMemory(to: InterfaceRecord.self, capacity: 1)
    record.initialize(to: InterfaceRecord(interface))
    return UnsafePointer(record)
  }
}
