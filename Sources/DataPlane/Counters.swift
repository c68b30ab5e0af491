import CLayout
import CLinux
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
  public var ipv4Packets: UInt64 = 0
  public var ipv6Packets: UInt64 = 0
  public var otherPackets: UInt64 = 0

  enum Index: Int { case rxPackets, rxBytes, txPackets, txBytes, hostPackets, ipv4, ipv6, other }
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

/// One worker's `gw_counters` by slot, in chunks that the control thread adds before a slot is handed out. So that a
/// million SAs cost memory only where they are.
public struct SlotCounters: @unchecked Sendable {
  @usableFromInline static let chunkShift = 12
  @usableFromInline static let chunkMask = (1 << chunkShift) - 1
  @usableFromInline let chunks: UnsafeMutablePointer<UnsafeMutablePointer<gw_counters>?>
  private let chunkCount: Int

  /// Room for slots 0..<capacity; no chunk yet.
  public init(capacity: Int) {
    chunkCount = (capacity + Self.chunkMask) >> Self.chunkShift
    chunks = .allocate(capacity: chunkCount)
    chunks.initialize(repeating: nil, count: chunkCount)
  }

  /// Control thread, before any worker sees the slot.
  public func prepare(slot: Int) {
    let chunk = slot >> Self.chunkShift
    guard chunk < chunkCount, chunks[chunk] == nil else { return }
    let bytes = MemoryLayout<gw_counters>.stride << Self.chunkShift
    let raw = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    chunks[chunk] = raw.assumingMemoryBound(to: gw_counters.self)
  }

  /// The worker, for a slot of an object it holds.
  @inlinable @inline(__always)
  public func at(_ slot: UInt32) -> UnsafeMutablePointer<gw_counters> {
    chunks[Int(slot) >> Self.chunkShift].unsafelyUnwrapped + Int(slot) & Self.chunkMask
  }

  /// Control thread, for a slot that was never prepared too.
  public func ifPrepared(_ slot: UInt32) -> UnsafeMutablePointer<gw_counters>? {
    let chunk = Int(slot) >> Self.chunkShift
    guard chunk < chunkCount, let base = chunks[chunk] else { return nil }
    return base + Int(slot) & Self.chunkMask
  }

  public func deallocate() {
    for chunk in 0..<chunkCount { chunks[chunk]?.deallocate() }
    chunks.deallocate()
  }
}

extension UnsafeMutablePointer where Pointee == gw_counters {
  /// Packets and bytes of one worker, and when (seconds of the gateway's clock).
  @inlinable @inline(__always)
  func count(packets: Int, bytes: Int, now: UInt32) {
    field64(0).add(packets)
    field64(8).add(bytes)
    field32(16).pointee.store(now, ordering: .relaxed)
  }

  @inlinable @inline(__always) func countIntegrityFailure() { bump32(20) }
  @inlinable @inline(__always) func countReplay() { bump32(24) }
  @inlinable @inline(__always) func countDrop() { bump32(28) }

  @inlinable @inline(__always)
  func field64(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    (UnsafeMutableRawPointer(self) + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  @inlinable @inline(__always)
  func field32(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    (UnsafeMutableRawPointer(self) + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  @inlinable @inline(__always)
  func bump32(_ offset: Int) {
    let field = field32(offset)
    field.pointee.store(field.pointee.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
  }

  /// Control thread, when no worker can use the slot any more.
  func clear() {
    for offset in stride(from: 0, to: MemoryLayout<gw_counters>.size, by: 8) {
      field64(offset).pointee.store(0, ordering: .relaxed)
    }
  }

  /// A copy as another thread may read it.
  var snapshot: gw_counters {
    gw_counters(
      packets: field64(0).value, bytes: field64(8).value, last_used: field32(16).pointee.load(ordering: .relaxed),
      integrity_failures: field32(20).pointee.load(ordering: .relaxed),
      replayed: field32(24).pointee.load(ordering: .relaxed), drops: field32(28).pointee.load(ordering: .relaxed))
  }
}
