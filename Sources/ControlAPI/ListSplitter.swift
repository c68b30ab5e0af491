import Foundation

/// Cuts a list of JSON objects that comes in pieces, an element a line, into lists of some elements each: a listing of a
/// million SAs is read while it is written, and is never in memory as text. One without lines is a single part.
struct ListSplitter {
  /// Between two elements. Within one there is no line's end: JSON escapes it.
  static let separator = Data(",\n".utf8)
  private static let boundary = Data("},\n{".utf8)
  /// Bytes of text that make a part worth while.
  static let part = 1 << 18

  private var pending = Data()
  private var hasBegun = false

  mutating func append(_ bytes: UnsafeRawBufferPointer) { pending.append(contentsOf: bytes) }

  /// The elements that are there as a list of their own, once they are many; nil: not yet.
  mutating func next() -> Data? {
    guard pending.count >= Self.part, let found = pending.range(of: Self.boundary, options: .backwards) else {
      return nil
    }
    let list = list(pending[..<(found.lowerBound + 1)]) + Data("]".utf8)
    pending = Data(pending[(found.upperBound - 1)...])
    hasBegun = true
    return list
  }

  /// What is left at the end.
  mutating func rest() -> Data {
    defer { pending = Data() }
    return list(pending)
  }

  /// Only the first part has its bracket.
  private func list(_ elements: Data) -> Data { hasBegun ? Data("[".utf8) + elements : Data(elements) }
}
