import Synchronization

/// A count written by one worker and read by anyone. A relaxed load and store: no locked instruction.
@usableFromInline
typealias Counter = Atomic<UInt64>

extension UnsafeMutablePointer where Pointee == Atomic<UInt64> {
  @inlinable @inline(__always)
  func add(_ count: Int) {
    pointee.store(pointee.load(ordering: .relaxed) &+ UInt64(truncatingIfNeeded: count), ordering: .relaxed)
  }

  @inlinable @inline(__always)
  func increment() { add(1) }

  @inlinable var value: UInt64 { pointee.load(ordering: .relaxed) }
}

/// What a port did for one worker.
public struct PortCounters: Sendable, Equatable {
  public var rxPackets: UInt64 = 0
  public var rxBytes: UInt64 = 0
  public var txPackets: UInt64 = 0
  public var txBytes: UInt64 = 0
  public var hostPackets: UInt64 = 0

  enum Index: Int { case rxPackets, rxBytes, txPackets, txBytes, hostPackets }
}

/// Blocks of counters that one worker writes, apart by cache lines from every other worker's.
struct CounterBlock {
  let base: UnsafeMutablePointer<Counter>
  private let byteCount: Int

  init(count: Int) {
    byteCount = (count * 8 + 63) & ~63
    let raw = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    base = raw.assumingMemoryBound(to: Counter.self)
  }

  func deallocate() { UnsafeMutableRawPointer(base).deallocate() }
}
