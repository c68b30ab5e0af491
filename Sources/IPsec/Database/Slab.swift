import Glibc

/// Memory for the records that workers share, cut from large chunks so that a million of them cost no allocator
/// overhead and few TLB entries. Control thread only. Records are 64-byte aligned and zeroed, when handed out and when
/// returned.
final class Slab<Record> {
  private static var chunkBytes: Int { 2 << 20 }

  private let stride: Int
  private var chunks: [UnsafeMutableRawPointer] = []
  private var free: [UnsafeMutablePointer<Record>] = []
  /// Bytes of the last chunk not yet handed out.
  private var rest = 0
  private(set) var inUse = 0

  init() { stride = (MemoryLayout<Record>.stride + 63) & ~63 }

  /// Every record must be out of use.
  deinit { for chunk in chunks { Glibc.free(chunk) } }

  /// Bytes taken from the system.
  var footprint: Int { chunks.count * Self.chunkBytes }

  func allocate() -> UnsafeMutablePointer<Record> {
    inUse += 1
    if let record = free.popLast() { return record }
    if rest < stride { addChunk() }
    let record = chunks[chunks.count - 1] + (Self.chunkBytes - rest)
    rest -= stride
    return record.bindMemory(to: Record.self, capacity: 1)
  }

  func deallocate(_ record: UnsafeMutablePointer<Record>) {
    explicit_bzero(record, stride)
    inUse -= 1
    free.append(record)
  }

  private func addChunk() {
    var memory: UnsafeMutableRawPointer?
    guard posix_memalign(&memory, Self.chunkBytes, Self.chunkBytes) == 0, let memory else {
      fatalError("out of memory")
    }
    madvise(memory, Self.chunkBytes, MADV_HUGEPAGE)
    memset(memory, 0, Self.chunkBytes)
    chunks.append(memory)
    rest = Self.chunkBytes
  }
}
