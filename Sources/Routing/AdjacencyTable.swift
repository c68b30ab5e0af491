import IPsec
import Synchronization

/// Adjacencies as a worker reaches them: by the index that `FIB.lookup` gave. A plain copyable value; the memory belongs
/// to `AdjacencyPool`. Reading: any thread under RCU; a record is valid until the reader's next quiescent state.
public struct AdjacencyTable: @unchecked Sendable {
  @usableFromInline typealias Slot = Atomic<UnsafePointer<Adjacency>>
  @usableFromInline let slots: UnsafeMutablePointer<Slot>

  fileprivate init(slots: UnsafeMutablePointer<Slot>) { self.slots = slots }

  /// `index` came from the `FIB` of the same routing table. Index 0 is the adjacency of kind `noRoute`.
  @inlinable @inline(__always) public func adjacency(at index: UInt32) -> UnsafePointer<Adjacency> {
    slots[Int(index)].load(ordering: .acquiring)
  }
}

/// Allocates, replaces and frees the records behind an `AdjacencyTable`. An index that was freed is given out again only
/// after a grace period, so that no reader finds a stranger's record under the index it holds. Control thread.
public final class AdjacencyPool {
  public let table: AdjacencyTable
  public let capacity: Int
  public private(set) var count = 0

  private let reclaimer: Reclaimer
  private var freeIndices: [UInt32] = []
  private var firstUnused: UInt32 = 1
  private let noRoute: UnsafePointer<Adjacency>

  /// `capacity` records besides index 0; a slot takes 8 bytes, a record in use 64.
  public init(capacity: Int, reclaimer: Reclaimer) {
    self.capacity = capacity
    self.reclaimer = reclaimer
    noRoute = Self.make(Adjacency(kind: .noRoute))
    let slots = UnsafeMutablePointer<AdjacencyTable.Slot>.allocate(capacity: capacity + 1)
    for index in 0...capacity { (slots + index).initialize(to: Atomic(noRoute)) }
    table = AdjacencyTable(slots: slots)
  }

  /// No reader may be left.
  deinit {
    for index in 0...capacity {
      let record = table.slots[index].load(ordering: .relaxed)
      if record != noRoute { record.deallocate() }
    }
    noRoute.deallocate()
    table.slots.deallocate()
  }

  /// Publishes a record under an index of its own, before anything leads to it.
  public func allocate(_ adjacency: Adjacency) throws(RoutingError) -> UInt32 {
    let index: UInt32
    if let free = freeIndices.popLast() {
      index = free
    } else if Int(firstUnused) <= capacity {
      index = firstUnused
      firstUnused += 1
    } else {
      throw .full("all \(capacity) adjacencies are in use")
    }
    table.slots[Int(index)].store(Self.make(adjacency), ordering: .releasing)
    count += 1
    return index
  }

  /// Swaps the record under an index in use; everything that leads there follows at once.
  public func replace(_ index: UInt32, with adjacency: Adjacency) {
    precondition(index != 0)
    let old = table.slots[Int(index)].exchange(Self.make(adjacency), ordering: .acquiringAndReleasing)
    reclaimer.retire { old.deallocate() }
  }

  /// Nothing leads to the index any more.
  public func free(_ index: UInt32) {
    precondition(index != 0)
    count -= 1
    reclaimer.retire { [self] in
      let old = table.slots[Int(index)].exchange(noRoute, ordering: .acquiringAndReleasing)
      old.deallocate()
      freeIndices.append(index)
    }
  }

  private static func make(_ adjacency: Adjacency) -> UnsafePointer<Adjacency> {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    let record = memory.bindMemory(to: Adjacency.self, capacity: 1)
    record.initialize(to: adjacency)
    return UnsafePointer(record)
  }
}
