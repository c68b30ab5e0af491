import Testing

@testable import Engines

@Suite struct SessionMemoryTests {
  @Test func recordsAreAlignedAndFound() {
    let memory = SessionMemory(record: 65, count: 3, shared: 1)
    #expect(memory.stride == 128)
    #expect(Int(bitPattern: memory.base) % 64 == 0)
    #expect(memory.sharedBase == memory.base + 384)
    #expect(memory.footprint == 64 + 384 + 64)
    #expect(SessionMemory.of(memory.base).base == memory.base)
    memory.release()
  }

  /// The raw AES key is the first round key of ipsec-mb's schedule.
  @Test func releaseWipesKeys() throws {
    let transform = Transforms.make(.aesGCM16, 20)
    let engine = try #require(IPsecMBEngine())
    let session = try engine.makeSession(transform, direction: .seal, workers: 1)
    let memory = SessionMemory.of(session.base)
    let whole = UnsafeRawBufferPointer(start: session.base - 64, count: memory.footprint)
    let key = Array(transform.cipherKey)
    let found = whole.indices.dropLast(16).contains { Array(whole[$0..<$0 + 16]) == key }
    #expect(found)
    memory.wipe()
    #expect(whole.allSatisfy { $0 == 0 })
    (session.base - 64).deallocate()
  }
}
