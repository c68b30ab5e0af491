import CLinux

/// Integers of a netlink message's fixed part, in host byte order. A read past the end gives zero: the length is checked
/// once, before.
struct NetlinkBytes {
  let bytes: UnsafeRawBufferPointer

  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as _: Value.Type) -> Value {
    guard offset >= 0, offset + MemoryLayout<Value>.size <= bytes.count else { return 0 }
    return bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
  }

  func slice(from offset: Int, count: Int? = nil) -> UnsafeRawBufferPointer {
    let start = min(max(0, offset), bytes.count)
    let end = count.map { min(bytes.count, start + max(0, $0)) } ?? bytes.count
    return UnsafeRawBufferPointer(rebasing: bytes[start..<end])
  }
}

/// One netlink message: `struct nlmsghdr` and what follows it.
struct NetlinkMessage {
  static let headerLength = 16

  let type: UInt16
  let flags: UInt16
  let sequence: UInt32
  let payload: UnsafeRawBufferPointer
}

/// The messages of a datagram, in order; ends at the first whose length does not fit.
struct NetlinkMessages: Sequence, IteratorProtocol {
  private var rest: UnsafeRawBufferPointer

  init(_ datagram: UnsafeRawBufferPointer) { rest = datagram }

  mutating func next() -> NetlinkMessage? {
    let header = NetlinkBytes(bytes: rest)
    let length = Int(header.load(0, as: UInt32.self))
    guard rest.count >= NetlinkMessage.headerLength, length >= NetlinkMessage.headerLength, length <= rest.count else {
      return nil
    }
    let message = NetlinkMessage(
      type: header.load(4, as: UInt16.self), flags: header.load(6, as: UInt16.self),
      sequence: header.load(8, as: UInt32.self),
      payload: header.slice(from: NetlinkMessage.headerLength, count: length - NetlinkMessage.headerLength))
    rest = header.slice(from: (length + 3) & ~3)
    return message
  }
}

/// An attribute: `struct rtattr` and its value. The two flag bits of the type are cut off.
struct NetlinkAttribute {
  let type: Int
  let value: UnsafeRawBufferPointer

  var uint32: UInt32 { NetlinkBytes(bytes: value).load(0, as: UInt32.self) }
  var uint8: UInt8 { NetlinkBytes(bytes: value).load(0, as: UInt8.self) }
  var string: String { String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) }
}

/// The attributes of a message or of a nest, in order; ends at the first whose length does not fit.
struct NetlinkAttributes: Sequence, IteratorProtocol {
  private var rest: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

  mutating func next() -> NetlinkAttribute? {
    let header = NetlinkBytes(bytes: rest)
    let length = Int(header.load(0, as: UInt16.self))
    guard rest.count >= 4, length >= 4, length <= rest.count else { return nil }
    let attribute = NetlinkAttribute(
      type: Int(header.load(2, as: UInt16.self) & 0x3fff), value: header.slice(from: 4, count: length - 4))
    rest = header.slice(from: (length + 3) & ~3)
    return attribute
  }
}
