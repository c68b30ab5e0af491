import Foundation

/// Cuts a stream of bytes into lines.
struct LineSplitter {
  /// The longest line that is held, in bytes.
  static let limit = 1 << 20
  private var pending = Data()

  /// False if the line that is under way is too long.
  mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
    pending.append(contentsOf: bytes)
    return pending.count <= Self.limit || pending.contains(0x0a)
  }

  /// The next whole line without its end; nil: none yet.
  mutating func next() -> Data? {
    guard let end = pending.firstIndex(of: 0x0a) else { return nil }
    defer { pending = Data(pending[pending.index(after: end)...]) }
    return Data(pending[..<end])
  }
}
