/// `struct sadb_msg`, 16 bytes.
public struct PFKeyHeader: Equatable, Sendable {
  public static let length = 16
  public static let version: UInt8 = 2

  public var version = PFKeyHeader.version
  public var type: UInt8 = 0
  /// 0, or why the request was refused.
  public var code: UInt8 = 0
  public var saType: UInt8 = 0
  /// Of the whole message, in 8-byte words.
  public var words: UInt16 = 2
  public var reserved: UInt16 = 0
  public var sequence: UInt32 = 0
  public var process: UInt32 = 0

  public init(type: UInt8 = 0, saType: UInt8 = 0, sequence: UInt32 = 0, process: UInt32 = 0) {
    self.type = type
    self.saType = saType
    self.sequence = sequence
    self.process = process
  }

  init(from cursor: inout ByteCursor) {
    version = cursor.uint8()
    type = cursor.uint8()
    code = cursor.uint8()
    saType = cursor.uint8()
    words = cursor.uint16()
    reserved = cursor.uint16()
    sequence = cursor.uint32()
    process = cursor.uint32()
  }

  func encode(into builder: inout ByteBuilder) {
    builder.append(version)
    builder.append(type)
    builder.append(code)
    builder.append(saType)
    builder.append(words)
    builder.append(reserved)
    builder.append(sequence)
    builder.append(process)
  }
}

extension ByteBuilder {
  /// A whole PF_KEY message; its length is filled in.
  mutating func pfkey(_ header: PFKeyHeader, _ body: (inout ByteBuilder) -> Void) {
    header.encode(into: &self)
    body(&self)
    patch(UInt16(truncatingIfNeeded: count / 8), at: 4)
  }

  /// An extension: length in 8-byte words, type, payload, padding to 8.
  mutating func pfkeyExtension(_ type: PFKeyExtensionType, _ body: (inout ByteBuilder) -> Void) {
    let start = count
    append(UInt16(0))
    append(type.number)
    body(&self)
    pad(to: 8)
    patch(UInt16(truncatingIfNeeded: (count - start) / 8), at: start)
  }
}
