/// `struct nlmsghdr`, 16 bytes, and the numbers of linux/netlink.h that XFRM uses.
struct NetlinkHeader: Equatable, Sendable {
  static let length = 16

  static let noOperation: UInt16 = 1
  static let error: UInt16 = 2
  static let done: UInt16 = 3
  static let overrun: UInt16 = 4

  struct Flags: OptionSet, Sendable {
    let rawValue: UInt16
    static let request = Flags(rawValue: 0x1)
    static let multipart = Flags(rawValue: 0x2)
    static let acknowledge = Flags(rawValue: 0x4)
    static let replace = Flags(rawValue: 0x100)
    /// Either bit makes a GET a dump.
    static let dump = Flags(rawValue: 0x300)
    /// On NLMSG_ERROR: the request was cut to its header; attributes follow.
    static let capped = Flags(rawValue: 0x100)
    static let acknowledgementAttributes = Flags(rawValue: 0x200)
  }

  var length: UInt32 = 0
  var type: UInt16 = 0
  var flags: Flags = []
  var sequence: UInt32 = 0
  var port: UInt32 = 0

  init(type: UInt16 = 0, flags: Flags = [], sequence: UInt32 = 0, port: UInt32 = 0) {
    self.type = type
    self.flags = flags
    self.sequence = sequence
    self.port = port
  }

  init(from cursor: inout ByteCursor) {
    length = cursor.uint32()
    type = cursor.uint16()
    flags = Flags(rawValue: cursor.uint16())
    sequence = cursor.uint32()
    port = cursor.uint32()
  }

  func encode(into builder: inout ByteBuilder) {
    builder.append(length)
    builder.append(type)
    builder.append(flags.rawValue)
    builder.append(sequence)
    builder.append(port)
  }
}

/// One request of a datagram: its header, all its bytes (with the header) and what follows the header.
struct NetlinkRequest {
  let header: NetlinkHeader
  let bytes: UnsafeRawBufferPointer
  var payload: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[NetlinkHeader.length...]) }
}

/// The requests of a datagram, in order. Ends at the first whose length does not fit; `isMalformed` then says so and
/// `bytes` of the last request is what there is of it.
struct NetlinkRequests {
  private(set) var isMalformed = false
  private var rest: UnsafeRawBufferPointer

  init(_ datagram: UnsafeRawBufferPointer) { rest = datagram }

  mutating func next() -> NetlinkRequest? {
    guard !isMalformed, rest.count > 0 else { return nil }
    var cursor = ByteCursor(rest)
    let header = NetlinkHeader(from: &cursor)
    guard !cursor.overran, header.length >= NetlinkHeader.length, Int(header.length) <= rest.count else {
      isMalformed = true
      return rest.count >= NetlinkHeader.length ? NetlinkRequest(header: header, bytes: rest) : nil
    }
    let length = Int(header.length)
    let request = NetlinkRequest(header: header, bytes: UnsafeRawBufferPointer(rebasing: rest[..<length]))
    rest = UnsafeRawBufferPointer(rebasing: rest[min(rest.count, (length + 3) & ~3)...])
    return request
  }
}

extension ByteBuilder {
  /// A whole netlink message; its length is filled in and the next one may follow.
  mutating func netlink(_ header: NetlinkHeader, _ body: (inout ByteBuilder) -> Void) {
    let start = count
    header.encode(into: &self)
    body(&self)
    patch(UInt32(count - start), at: start)
    pad(to: 4)
  }

  /// An attribute: length, type, payload, padding to 4.
  mutating func attribute(_ type: UInt16, _ body: (inout ByteBuilder) -> Void) {
    pad(to: 4)
    let start = count
    append(UInt16(0))
    append(type)
    body(&self)
    patch(UInt16(truncatingIfNeeded: count - start), at: start)
    pad(to: 4)
  }

  mutating func attribute(_ type: XFRMAttributeType, _ body: (inout ByteBuilder) -> Void) {
    attribute(type.rawValue, body)
  }
}
