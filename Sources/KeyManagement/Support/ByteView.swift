import Wire

/// Bytes of a received message, read in order. A read past the end gives zero and sets `overran`, so no input can trap;
/// callers check the length of what they parse once, before they read. Valid while the datagram is.
struct ByteCursor {
  let bytes: UnsafeRawBufferPointer
  private(set) var offset = 0
  private(set) var overran = false

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var remaining: Int { bytes.count &- offset }

  private mutating func load<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type) -> Value {
    let size = MemoryLayout<Value>.size
    guard remaining >= size else {
      overran = true
      offset = bytes.count
      return 0
    }
    defer { offset &+= size }
    return bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
  }

  mutating func uint8() -> UInt8 { load(UInt8.self) }
  mutating func uint16() -> UInt16 { load(UInt16.self) }
  mutating func uint32() -> UInt32 { load(UInt32.self) }
  mutating func uint64() -> UInt64 { load(UInt64.self) }
  mutating func int32() -> Int32 { Int32(bitPattern: uint32()) }
  mutating func bigUInt16() -> UInt16 { UInt16(bigEndian: uint16()) }
  mutating func bigUInt32() -> UInt32 { UInt32(bigEndian: uint32()) }
  mutating func bigUInt64() -> UInt64 { UInt64(bigEndian: uint64()) }

  mutating func skip(_ count: Int) {
    if count > remaining { overran = true }
    offset = min(bytes.count, offset &+ max(0, count))
  }

  /// The next `count` bytes, or as many as there are.
  mutating func take(_ count: Int) -> UnsafeRawBufferPointer {
    let start = offset
    skip(count)
    return UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
  }

  /// A fixed field of `count` bytes that holds a C string.
  mutating func string(_ count: Int) -> String {
    String(decoding: take(count).prefix { $0 != 0 }, as: UTF8.self)
  }
}

/// Builds a message, in host byte order unless the name says otherwise.
struct ByteBuilder {
  private(set) var bytes: [UInt8] = []

  /// Enough room at once, so that keys are not left behind in memory that was outgrown.
  init(capacity: Int = 1024) { bytes.reserveCapacity(capacity) }

  var count: Int { bytes.count }

  mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
  }
  mutating func appendBig(_ value: some FixedWidthInteger) { append(value.bigEndian) }
  mutating func append(bytes more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }
  mutating func zeros(_ count: Int) { bytes.append(contentsOf: repeatElement(0, count: max(0, count))) }
  mutating func pad(to multiple: Int) { zeros((multiple - bytes.count % multiple) % multiple) }

  /// `text` in a field of `size` bytes, cut so that a NUL ends it.
  mutating func append(_ text: String, size: Int) {
    let utf8 = text.utf8.prefix(size - 1)
    bytes.append(contentsOf: utf8)
    zeros(size - utf8.count)
  }

  /// Replaces what stands at `offset`.
  mutating func patch(_ value: some FixedWidthInteger, at offset: Int) {
    withUnsafeBytes(of: value) { source in
      for (index, byte) in source.enumerated() where offset + index < bytes.count { bytes[offset + index] = byte }
    }
  }

  mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }
}
