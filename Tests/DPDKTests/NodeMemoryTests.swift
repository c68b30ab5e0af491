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
}
