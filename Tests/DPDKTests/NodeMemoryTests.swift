import Foundation
import Testing

@testable import DPDK

@Suite struct NodeMemoryTests {
  @Test func memoryIsInterleavedOverSeveralNodesOnly() {
    var spreads = 0
    func spread() -> Bool {
      spreads += 1
      return true
    }
    #expect(!NodeMemory.interleave(nodes: 1, spread: spread))
    #expect(spreads == 0)
    #expect(NodeMemory.interleave(nodes: 2, spread: spread))
    #expect(spreads == 1)
    #expect(!NodeMemory.interleave(nodes: 4) { false })
  }

  /// Of a node that there is not, it comes from any.
  @Test(arguments: [-1, 0, 63]) func memoryIsZeroed(node: Int) {
    let memory = NodeMemory.allocate(byteCount: 10_000, node: node)
    #expect((0..<10_000).allSatisfy { memory.load(fromByteOffset: $0, as: UInt8.self) == 0 })
    memory.storeBytes(of: 7, toByteOffset: 9_999, as: UInt8.self)
    NodeMemory.free(memory, byteCount: 10_000)
  }

  /// Zeroed up to the last byte, behind which is a page that may not be touched: the kernel, asked to read there, says so.
  @Test(arguments: [8, 4096, 4104, 1 << 21, (1 << 21) + 64]) func guarded(bytes: Int) {
    #expect(NodeMemory.hasGuards)
    let memory = NodeMemory.allocateGuarded(byteCount: bytes, node: 0)
    #expect((0..<bytes).allSatisfy { memory.load(fromByteOffset: $0, as: UInt8.self) == 0 })
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    memory.storeBytes(of: 7, toByteOffset: bytes - 1, as: UInt8.self)
    #expect(write(ends[1], memory + bytes - 1, 1) == 1)
    #expect(write(ends[1], memory + bytes, 1) == -1 && errno == EFAULT)
    for end in ends { close(end) }
    NodeMemory.freeGuarded(memory, byteCount: bytes)
  }
}
