import COpenSSL

/// The memory of one session: a record for each worker on cache lines of its own, `shared` bytes for all of them behind,
/// and this header in the line before the first record. Made and released on the control thread.
struct SessionMemory {
  static let line = 64

  let base: UnsafeMutableRawPointer
  let stride: Int
  let records: Int
  let shared: Int

  /// Zeroed. `alignment` of the first record is a cache line.
  init(record: Int, count: Int, shared: Int = 0) {
    stride = (record + Self.line - 1) & ~(Self.line - 1)
    records = count
    self.shared = (shared + Self.line - 1) & ~(Self.line - 1)
    let bytes = Self.line + stride * count + self.shared
    let whole = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: Self.line)
    whole.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    base = whole + Self.line
    whole.storeBytes(of: self, as: SessionMemory.self)
  }

  /// What `init` left before `base`.
  static func of(_ base: UnsafeMutableRawPointer) -> SessionMemory {
    (base - line).load(as: SessionMemory.self)
  }

  var footprint: Int { Self.line + stride * records + shared }
  var sharedBase: UnsafeMutableRawPointer { base + stride * records }
  func record(_ index: Int) -> UnsafeMutableRawPointer { base + stride * index }

  /// Wipes and frees.
  func release() {
    wipe()
    (base - Self.line).deallocate()
  }

  func wipe() { OPENSSL_cleanse(base - Self.line, footprint) }
}
