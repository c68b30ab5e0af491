import CLinux
import Foundation

/// Zeroed memory on a NUMA node, page-aligned, for what one worker alone writes. Falls back to any node.
public enum NodeMemory {
  private static let hasNUMA = numa_available() >= 0

  /// Nodes of the machine; 1 without NUMA.
  public static var nodes: Int { hasNUMA ? Int(numa_max_node()) + 1 : 1 }

  /// The node of a core; -1: not known.
  public static func node(ofCore core: Int) -> Int { hasNUMA ? Int(numa_node_of_cpu(Int32(clamping: core))) : -1 }

  /// From here on spreads the memory that the calling thread is the first to touch over the nodes it may use, a page to
  /// each: for what all workers read, whose distance is then the same to all in the mean. `allocate` is not concerned.
  /// False: there is one node, or the system refuses.
  @discardableResult
  public static func interleave(nodes: Int = nodes, spread: () -> Bool = spreadThread) -> Bool {
    nodes > 1 && spread()
  }

  /// The calling thread's policy, over every node that it may use.
  public static func spreadThread() -> Bool {
    guard hasNUMA, let allowed = numa_get_mems_allowed() else { return false }
    defer { numa_bitmask_free(allowed) }
    numa_set_interleave_mask(allowed)
    guard let now = numa_get_interleave_mask() else { return false }
    defer { numa_bitmask_free(now) }
    return numa_bitmask_equal(allowed, now) != 0
  }

  /// From this size on memory lies in huge pages, if the system has them to give: tables that are read at random take a
  /// TLB entry for each page otherwise.
  private static let hugePage = 1 << 21

  /// Freed with `free`. Never nil: traps when the machine is out of memory.
  public static func allocate(byteCount: Int, node: Int) -> UnsafeMutableRawPointer {
    precondition(byteCount > 0)
    let memory = byteCount < hugePage ? map(byteCount) : mapHuge(byteCount)
    if hasNUMA, node >= 0, node < nodes { numa_tonode_memory(memory, byteCount, Int32(node)) }
    return memory
  }

  /// Whether the build has guard pages: those for tests and for fuzzing.
  public static var hasGuards: Bool {
    #if DEBUG || GW_GUARD_PAGES
      true
    #else
      false
    #endif
  }

  /// As `allocate`, where the build has guard pages with one right behind the last byte: no access beyond the end goes
  /// unnoticed. The memory is aligned as its size is. Freed with `freeGuarded`.
  public static func allocateGuarded(byteCount: Int, node: Int) -> UnsafeMutableRawPointer {
    guard hasGuards else { return allocate(byteCount: byteCount, node: node) }
    precondition(byteCount > 0 && byteCount % 8 == 0)
    let pages = wholePages(byteCount)
    let start = map(pages + pageSize)
    precondition(mprotect(start + pages, pageSize, PROT_NONE) == 0)
    if hasNUMA, node >= 0, node < nodes { numa_tonode_memory(start, pages, Int32(node)) }
    return start + (pages - byteCount)
  }

  /// What `allocateGuarded` gave.
  public static func freeGuarded(_ memory: UnsafeMutableRawPointer, byteCount: Int) {
    guard hasGuards else { return free(memory, byteCount: byteCount) }
    let pages = wholePages(byteCount)
    munmap(memory - (pages - byteCount), pages + pageSize)
  }

  private static let pageSize = Int(getpagesize())

  private static func wholePages(_ byteCount: Int) -> Int { (byteCount + pageSize - 1) / pageSize * pageSize }

  private static func map(_ byteCount: Int) -> UnsafeMutableRawPointer {
    let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let memory, memory != MAP_FAILED else { preconditionFailure("out of memory: \(byteCount) bytes") }
    return memory
  }

  /// More than is needed, and what lies before the first huge page and behind the last byte given back.
  private static func mapHuge(_ byteCount: Int) -> UnsafeMutableRawPointer {
    let pages = (byteCount + 4095) & ~4095
    let start = map(pages + hugePage)
    let memory = start.alignedUp(toMultipleOf: hugePage)
    if memory > start { munmap(start, memory - start) }
    if memory - start < hugePage { munmap(memory + pages, hugePage - (memory - start)) }
    madvise(memory, byteCount, MADV_HUGEPAGE)
    return memory
  }

  /// What `allocate` gave.
  public static func free(_ memory: UnsafeMutableRawPointer, byteCount: Int) { munmap(memory, byteCount) }
}
