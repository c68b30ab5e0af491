import CDPDK
import IPsec

/// When no worker can still hold what was unpublished (rte_rcu_qsbr). Readers are numbered 0..<readers.
///
/// A reader calls `online` before its first look at a table, `quiescent` once a loop while it holds nothing, and
/// `offline` before it sleeps or returns; each is a store to a cache line of its own.
public final class QuiescentState: Reclaimer, @unchecked Sendable {
  public let base: OpaquePointer
  public let readers: Int
  private let memory: UnsafeMutableRawPointer
  private var retired: [(token: UInt64, free: () -> Void)] = []
  private var firstRetired = 0

  public init(readers: Int) {
    let limit = UInt32(max(1, readers))
    let size = rte_rcu_qsbr_get_memsize(limit)
    memory = .allocate(byteCount: size, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    base = OpaquePointer(memory)
    self.readers = Int(limit)
    _ = rte_rcu_qsbr_init(base, limit)
    for reader in 0..<limit { _ = rte_rcu_qsbr_thread_register(base, reader) }
  }

  deinit {
    for entry in retired[firstRetired...] { entry.free() }
    memory.deallocate()
  }

  // MARK: Readers

  @inlinable @inline(__always) public static func online(_ base: OpaquePointer, reader: UInt32) {
    rte_rcu_qsbr_thread_online(base, reader)
  }

  @inlinable @inline(__always) public static func quiescent(_ base: OpaquePointer, reader: UInt32) {
    rte_rcu_qsbr_quiescent(base, reader)
  }

  @inlinable @inline(__always) public static func offline(_ base: OpaquePointer, reader: UInt32) {
    rte_rcu_qsbr_thread_offline(base, reader)
  }

  // MARK: The control thread

  /// A grace period that begins now: after what was unpublished.
  public func start() -> UInt64 { rte_rcu_qsbr_start(base) }

  /// Every reader that is online has been quiescent since `start` gave `token`. Does not wait.
  public func isComplete(_ token: UInt64) -> Bool { rte_rcu_qsbr_check(base, token, false) == 1 }

  /// `free` runs in a later `reclaim`.
  public func retire(_ free: @escaping () -> Void) { retired.append((start(), free)) }

  /// Frees what is due. To be called regularly while `pending` is not 0. Returns how many it freed.
  @discardableResult public func reclaim() -> Int {
    let before = firstRetired
    while firstRetired < retired.count, isComplete(retired[firstRetired].token) {
      let free = retired[firstRetired].free
      retired[firstRetired].free = {}
      firstRetired += 1
      free()
    }
    let freed = firstRetired - before
    if firstRetired > 1024 || firstRetired == retired.count {
      retired.removeFirst(firstRetired)
      firstRetired = 0
    }
    return freed
  }

  /// Retired and not yet freed.
  public var pending: Int { retired.count - firstRetired }
}
