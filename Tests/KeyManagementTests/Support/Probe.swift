import Engines
import IPsec
import Wire

@testable import KeyManagement

/// A session before a MemoryStore, and what came out of it.
final class XFRMProbe {
  let store = MemoryStore()
  let service: XFRMService
  private(set) var session: XFRMSession!
  private(set) var replies: [[UInt8]] = []
  private(set) var notices: [[UInt8]] = []

  init(policy: KeyPolicy = KeyPolicy()) {
    service = XFRMService(store: store, policy: policy)
    session = service.makeSession(owner: .xfrm(1), origin: 1) { [unowned self] datagram, kind in
      if kind == .reply { replies.append(datagram) } else { notices.append(datagram) }
    }
  }

  /// What the session says to `datagram`, dumps to their end.
  func send(_ datagram: [UInt8]) -> [[UInt8]] {
    replies = []
    notices = []
    datagram.withUnsafeBytes { session.receive($0) }
    while session.resume() {}
    return replies
  }

  /// One request with REQUEST and ACK, as charon sends.
  func request(
    _ type: XFRMMessageType, flags: NetlinkHeader.Flags = [.request, .acknowledge], sequence: UInt32 = 7,
    _ body: (inout ByteBuilder) -> Void
  ) -> [[UInt8]] { send(Self.message(type, flags: flags, sequence: sequence, body)) }

  static func message(
    _ type: XFRMMessageType, flags: NetlinkHeader.Flags = [.request, .acknowledge], sequence: UInt32 = 7,
    _ body: (inout ByteBuilder) -> Void
  ) -> [UInt8] {
    var builder = ByteBuilder()
    builder.netlink(NetlinkHeader(type: type.rawValue, flags: flags, sequence: sequence, port: 4711), body)
    return builder.bytes
  }

  func join(_ groups: XFRMGroup..., options: XFRMHello.Options = []) {
    var builder = ByteBuilder()
    builder.netlink(NetlinkHeader(type: NetlinkHeader.noOperation)) {
      XFRMHello(port: 4711, join: groups.reduce(0) { $0 | $1.bit }, options: options, stated: options).encode(into: &$0)
    }
    _ = send(builder.bytes)
  }
}

/// The errno of an NLMSG_ERROR (0: acknowledged), or nil for anything else.
func netlinkError(_ datagram: [UInt8]?) -> Int32? {
  guard let datagram, datagram.count >= 20 else { return nil }
  return datagram.withUnsafeBytes {
    $0.loadUnaligned(fromByteOffset: 4, as: UInt16.self) == NetlinkHeader.error
      ? -$0.loadUnaligned(fromByteOffset: 16, as: Int32.self) : nil
  }
}

func netlinkType(_ datagram: [UInt8]?) -> UInt16? {
  guard let datagram, datagram.count >= 16 else { return nil }
  return datagram.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4, as: UInt16.self) }
}

/// The payload of the first attribute of a type, after a header of `skip` bytes.
func attribute(_ type: XFRMAttributeType, of datagram: [UInt8], after skip: Int) -> [UInt8]? {
  var offset = NetlinkHeader.length + skip
  while offset + 4 <= datagram.count {
    let length = Int(datagram[offset]) | Int(datagram[offset + 1]) << 8
    let number = UInt16(datagram[offset + 2]) | UInt16(datagram[offset + 3]) << 8
    guard length >= 4, offset + length <= datagram.count else { return nil }
    if number == type.rawValue { return Array(datagram[offset + 4..<offset + length]) }
    offset += (length + 3) & ~3
  }
  return nil
}

/// Likewise for PF_KEY.
final class PFKeyProbe {
  let store: MemoryStore
  let service: PFKeyService
  private(set) var session: PFKeySession!
  private(set) var replies: [[UInt8]] = []
  private(set) var notices: [[UInt8]] = []

  init(policy: KeyPolicy = KeyPolicy(), sharing other: PFKeyProbe? = nil) {
    store = other?.store ?? MemoryStore()
    service = other?.service ?? PFKeyService(store: store, policy: policy)
    let number: UInt64 = other == nil ? 1 : 2
    session = service.makeSession(owner: .pfkey(number), origin: number) { [unowned self] datagram, kind in
      if kind == .reply { replies.append(datagram) } else { notices.append(datagram) }
    }
  }

  func send(_ datagram: [UInt8]) -> [[UInt8]] {
    replies = []
    notices = []
    datagram.withUnsafeBytes { session.receive($0) }
    while session.resume() {}
    return replies
  }

  func request(
    _ type: PFKeyMessageType, _ saProtocol: SAProtocol? = .esp, dialect: PFKeyDialect = .linux, sequence: UInt32 = 7,
    _ body: (inout ByteBuilder) -> Void = { _ in }
  ) -> [[UInt8]] {
    send(Self.message(type, saProtocol, dialect: dialect, sequence: sequence, body))
  }

  static func message(
    _ type: PFKeyMessageType, _ saProtocol: SAProtocol? = .esp, dialect: PFKeyDialect = .linux, sequence: UInt32 = 7,
    _ body: (inout ByteBuilder) -> Void = { _ in }
  ) -> [UInt8] {
    var builder = ByteBuilder()
    let header = PFKeyHeader(
      type: type.number(dialect), saType: saProtocol.map(dialect.saType) ?? 0, sequence: sequence, process: 15500)
    builder.pfkey(header, body)
    return builder.bytes
  }

  func greet(_ dialect: PFKeyDialect) {
    _ = send([2, 0, 0, dialect.rawValue, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
  }

  func clear() { notices = [] }
}

/// The types of a message's extensions, in order.
func extensionTypes(_ datagram: [UInt8]?, _ dialect: PFKeyDialect = .linux) -> [PFKeyExtensionType] {
  guard let datagram else { return [] }
  var types: [PFKeyExtensionType] = []
  var offset = PFKeyHeader.length
  while offset + 4 <= datagram.count {
    let words = Int(datagram[offset]) | Int(datagram[offset + 1]) << 8
    guard words > 0, let type = PFKeyExtensionType(UInt16(datagram[offset + 2]), dialect) else { return types }
    types.append(type)
    offset += words * 8
  }
  return types
}

/// What stands in an extension after its length and type.
func extensionPayload(
  _ type: PFKeyExtensionType, of datagram: [UInt8]?, _ dialect: PFKeyDialect = .linux
) -> [UInt8]? {
  guard let datagram else { return nil }
  var offset = PFKeyHeader.length
  while offset + 4 <= datagram.count {
    let words = Int(datagram[offset]) | Int(datagram[offset + 1]) << 8
    guard words > 0 else { return nil }
    if UInt16(datagram[offset + 2]) == type.number { return Array(datagram[offset + 4..<offset + words * 8]) }
    offset += words * 8
  }
  return nil
}

extension IPAddress: ExpressibleByStringLiteral {
  public init(stringLiteral text: String) { self = IPAddress(text)! }
}

extension IPPrefix: ExpressibleByStringLiteral {
  public init(stringLiteral text: String) { self = IPPrefix(text)! }
}
