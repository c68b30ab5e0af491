import Engines
import Glibc
import IPsec
import Wire

/// The extensions of a request by type, each of the length and shape that its type asks for, none twice. Valid while the
/// datagram is.
struct PFKeyExtensions {
  private var payloads: [PFKeyExtensionType: UnsafeRawBufferPointer] = [:]
  let dialect: PFKeyDialect

  /// `bytes` follow the header; their count is a multiple of 8.
  init(_ bytes: UnsafeRawBufferPointer, type: PFKeyMessageType, dialect: PFKeyDialect) throws(KeyRefusal) {
    self.dialect = dialect
    let grammar = PFKeyGrammar(type, dialect)
    var rest = bytes
    while rest.count > 0 {
      var cursor = ByteCursor(rest)
      let (words, number) = (Int(cursor.uint16()), cursor.uint16())
      guard words > 0, words * 8 <= rest.count else { throw .invalid("extension \(number) does not fit the message") }
      guard number != 0 else { throw .invalid("extension of type 0") }
      try add(number, UnsafeRawBufferPointer(rebasing: rest[4..<words * 8]), grammar)
      rest = UnsafeRawBufferPointer(rebasing: rest[(words * 8)...])
    }
    for required in grammar.required where payloads[required] == nil {
      throw .invalid("extension \(required) is missing")
    }
  }

  private mutating func add(
    _ number: UInt16, _ payload: UnsafeRawBufferPointer, _ grammar: PFKeyGrammar
  ) throws(KeyRefusal) {
    guard let type = PFKeyExtensionType(number, dialect) else {
      // The kernel of each dialect does so.
      if dialect == .linux { return }
      throw .invalid("unknown extension \(number)")
    }
    guard grammar.allowed.contains(type) else { throw .invalid("extension \(type) is not for this message") }
    guard payloads[type] == nil else { throw .invalid("extension \(type) is there twice") }
    try PFKeyShape.check(type, payload, dialect)
    payloads[type] = payload
  }

  func has(_ type: PFKeyExtensionType) -> Bool { payloads[type] != nil }

  subscript(_ type: PFKeyExtensionType) -> ByteCursor? { payloads[type].map { ByteCursor($0) } }

  /// `struct sadb_sa`.
  func sa(_ type: PFKeyExtensionType = .sa) -> PFKeySA? { self[type].map { PFKeySA(from: $0) } }

  func lifetime(_ type: PFKeyExtensionType) -> Lifetime? {
    guard var cursor = self[type] else { return nil }
    let packets = UInt64(cursor.uint32())
    return Lifetime(
      packets: packets, bytes: cursor.uint64(), addTime: cursor.uint64(), useTime: cursor.uint64())
  }

  func address(_ type: PFKeyExtensionType) -> PFKeyAddress? {
    self[type].flatMap { PFKeyAddress(from: $0, dialect: dialect) }
  }

  /// Empty where there is none.
  func key(_ type: PFKeyExtensionType) -> SecretBytes {
    guard var cursor = self[type] else { return SecretBytes([]) }
    let bits = Int(cursor.uint16())
    cursor.skip(2)
    return SecretBytes(cursor.take((bits + 7) / 8))
  }

  func identity(_ type: PFKeyExtensionType) -> Identity? {
    guard var cursor = self[type], let kind = Identity.Kind(rawValue: cursor.uint16()) else { return nil }
    cursor.skip(10)
    return Identity(kind: kind, text: cursor.string(cursor.remaining))
  }

  /// `struct sadb_protocol`: flow type, transport protocol, second SA type.
  func flow(_ type: PFKeyExtensionType) -> (number: UInt8, direction: UInt8, flags: UInt8)? {
    guard var cursor = self[type] else { return nil }
    return (cursor.uint8(), cursor.uint8(), cursor.uint8())
  }

  /// A port in network order, the first field.
  func port(_ type: PFKeyExtensionType) -> UInt16? {
    guard var cursor = self[type] else { return nil }
    return cursor.bigUInt16()
  }
}

/// `struct sadb_sa`, the same in both dialects.
struct PFKeySA: Equatable {
  var spi: UInt32 = 0
  var replay: UInt8 = 0
  var state: UInt8 = 1
  var authentication: UInt8 = 0
  var encryption: UInt8 = 0
  var flags: UInt32 = 0

  init() {}

  init(from cursor: ByteCursor) {
    var cursor = cursor
    spi = cursor.bigUInt32()
    replay = cursor.uint8()
    state = cursor.uint8()
    authentication = cursor.uint8()
    encryption = cursor.uint8()
    flags = cursor.uint32()
  }

  func encode(into builder: inout ByteBuilder) {
    builder.appendBig(spi)
    builder.append(replay)
    builder.append(state)
    builder.append(authentication)
    builder.append(encryption)
    builder.append(flags)
  }
}

/// `struct sadb_address` and its socket address.
struct PFKeyAddress: Equatable {
  /// Linux: the selector's protocol (255: any) and prefix.
  var ipProtocol: UInt8 = 0
  var prefixLength: UInt8 = 0
  var address: IPAddress
  var port: UInt16 = 0

  init(_ address: IPAddress, prefixLength: UInt8 = 0, ipProtocol: UInt8 = 0, port: UInt16 = 0) {
    self.address = address
    self.prefixLength = prefixLength
    self.ipProtocol = ipProtocol
    self.port = port
  }

  /// Nil for a family that is neither IPv4 nor IPv6.
  init?(from cursor: ByteCursor, dialect: PFKeyDialect) {
    var cursor = cursor
    ipProtocol = cursor.uint8()
    prefixLength = cursor.uint8()
    cursor.skip(2)
    guard let (address, port) = Self.socketAddress(&cursor, dialect) else { return nil }
    self.address = address
    self.port = port
  }

  func encode(into builder: inout ByteBuilder, dialect: PFKeyDialect) {
    builder.append(dialect == .linux ? ipProtocol : 0)
    builder.append(dialect == .linux ? prefixLength : 0)
    builder.zeros(2)
    Self.encode(address, port: port, into: &builder, dialect: dialect)
  }

  /// `struct sockaddr_in` or `sockaddr_in6`, not padded.
  static func socketAddress(_ cursor: inout ByteCursor, _ dialect: PFKeyDialect) -> (IPAddress, UInt16)? {
    let family: UInt8
    if dialect == .linux {
      let wide = cursor.uint16()
      guard wide <= 255 else { return nil }
      family = UInt8(wide)
    } else {
      cursor.skip(1)
      family = cursor.uint8()
    }
    let port = cursor.bigUInt16()
    switch family {
    case 2:
      let bytes = cursor.take(4)
      cursor.skip(8)
      return IPAddress(bytes: bytes).map { ($0, port) }
    case 10, 24:
      cursor.skip(4)
      let bytes = cursor.take(16)
      cursor.skip(4)
      return IPAddress(bytes: bytes).map { ($0, port) }
    default: return nil
    }
  }

  static func encode(_ address: IPAddress, port: UInt16, into builder: inout ByteBuilder, dialect: PFKeyDialect) {
    let isV4 = address.family == .v4
    let family: UInt8 = isV4 ? 2 : dialect.v6Family
    if dialect == .linux {
      builder.append(UInt16(family))
    } else {
      builder.append(UInt8(isV4 ? 16 : 28))
      builder.append(family)
    }
    builder.appendBig(port)
    if !isV4 { builder.zeros(4) }
    builder.append(bytes: address.bytes)
    builder.zeros(isV4 ? 8 : 4)
  }
}
