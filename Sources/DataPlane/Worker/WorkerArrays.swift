import DPDK

/// The arrays of one worker: zeroed memory on its node, with an inaccessible page behind each in builds that have those, so
/// that a write beyond its end does not go unnoticed. Control thread; freed with it.
final class WorkerArrays {
  private let node: Int
  private(set) var blocks: [UnsafeMutableRawBufferPointer] = []

  init(node: Int) { self.node = node }

  deinit { for block in blocks { NodeMemory.freeGuarded(block.baseAddress!, byteCount: block.count) } }

  func make<T>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
    let bytes = MemoryLayout<T>.stride * count
    let memory = NodeMemory.allocateGuarded(byteCount: bytes, node: node)
    blocks.append(UnsafeMutableRawBufferPointer(start: memory, count: bytes))
    return memory.bindMemory(to: T.self, capacity: count)
  }
}
