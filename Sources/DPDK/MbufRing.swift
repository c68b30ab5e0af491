import CDPDK
import Foundation

/// A bounded lock-free queue of mbuf pointers between threads (rte_ring). The control thread makes and frees it; hot
/// paths take `base` into a local and call `cdpdk_ring_enqueue` and `cdpdk_ring_dequeue`.
public final class MbufRing: @unchecked Sendable {
  public struct Mode: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// One thread alone puts in.
    public static let singleProducer = Mode(rawValue: cdpdk_ring_sp())
    /// One thread alone takes out.
    public static let singleConsumer = Mode(rawValue: cdpdk_ring_sc())
  }

  public let base: OpaquePointer
  public let capacity: Int

  /// `name`: unique, at most 28 bytes. Holds at least `capacity`.
  public init(name: String, capacity: Int, mode: Mode, socket: Int = -1) throws(MempoolError) {
    guard (1...1 << 24).contains(capacity) else { throw .invalid("a ring of \(capacity)") }
    var size = 2
    while size <= capacity { size *= 2 }
    guard let made = rte_ring_create(name, UInt32(size), Int32(socket), mode.rawValue) else {
      if cdpdk_errno() == EEXIST { throw .invalid("a ring named \(name) exists") }
      throw .noMemory(name: name, megabytes: size * 8 / 1_048_576 + 1, socket: socket)
    }
    base = made
    self.capacity = size - 1
  }

  public var count: Int { Int(rte_ring_count(base)) }

  /// How many of the first `count` were taken; the rest stay the caller's.
  @inlinable public func enqueue(_ mbufs: UnsafeMutablePointer<Mbuf?>, _ count: Int) -> Int {
    Int(cdpdk_ring_enqueue(base, mbufs, UInt32(truncatingIfNeeded: count)))
  }

  /// How many were put into `mbufs`, at most `limit`.
  @inlinable public func dequeue(_ mbufs: UnsafeMutablePointer<Mbuf?>, _ limit: Int) -> Int {
    Int(cdpdk_ring_dequeue(base, mbufs, UInt32(truncatingIfNeeded: limit)))
  }

  /// Frees the mbufs that are in it. No other thread uses it any more.
  public func drain() {
    withUnsafeTemporaryAllocation(of: Mbuf?.self, capacity: 32) { burst in
      while case let count = dequeue(burst.baseAddress!, 32), count > 0 {
        cdpdk_free_bulk(burst.baseAddress!, UInt32(count))
      }
    }
  }

  /// Drains and frees it.
  public func free() {
    drain()
    rte_ring_free(base)
  }
}
