/// `bytes` in memory of exactly their size, so that a sanitizer sees a read beyond it.
func withExact<R>(_ bytes: [UInt8], _ body: (UnsafeMutableRawPointer) throws -> R) rethrows -> R {
  let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 1)
  defer { memory.deallocate() }
  memory.copyMemory(from: bytes, byteCount: bytes.count)
  return try body(memory)
}
