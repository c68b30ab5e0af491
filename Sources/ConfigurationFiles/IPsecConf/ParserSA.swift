import Engines
import Glibc
import IPsec

/// The outgoing SA's and, if given, the mirrored one's.
struct KeyPair {
  var outgoing: [UInt8]?
  var incoming: [UInt8]?
}

extension Parser {
  static let keyFileLimit = 1024

  mutating func parseTCPMD5() throws(ParseFailure) {
    advance()
    let hosts = try parseHosts()
    let spis = try parseSPIs()
    let keys = try parseKeys(.authkey)
    if keys.outgoing == nil { try expectEndOfLine() }
    let template = SATemplateRule(
      saProtocol: .tcpmd5, mode: .transport, udpEncapsulation: nil, transforms: nil, authentication: keys,
      encryption: KeyPair())
    try expand(template, hosts, spis, bundle: nil)
  }

  mutating func parseSA() throws(ParseFailure) {
    let saProtocol = parseProtocol()
    let mode = parseMode()
    let hosts = try parseHosts()
    let spis = try parseSPIs()
    let udp = try parseUDPEncapsulation()
    let transforms = try parseTransforms()
    let authentication = try parseKeys(.authkey)
    let encryption = try parseKeys(.enckey)
    var bundle: String?
    if accept(.bundle) {
      bundle = try expectString()
    } else {
      try expectEndOfLine()
    }
    let template = SATemplateRule(
      saProtocol: saProtocol, mode: mode, udpEncapsulation: udp, transforms: transforms,
      authentication: authentication, encryption: encryption)
    try expand(template, hosts, spis, bundle: bundle)
  }

  // MARK: SPIs

  /// The second is 0 where none is given.
  private mutating func parseSPIs() throws(ParseFailure) -> (UInt32, UInt32) {
    try expect(.spi)
    switch peek() {
    case .number(let number):
      advance()
      guard let spi = UInt32(exactly: number) else { throw fail("\(number) not a valid spi") }
      guard !(1...255).contains(spi) else { throw fail("\(number) within reserved spi range") }
      return (spi, 0)
    case .string(let text):
      advance()
      let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let incoming = parts.count == 2 ? try spi(parts[1]) : 0
      return (try spi(parts[0]), incoming)
    default: throw .syntax
    }
  }

  private mutating func spi(_ text: Substring) throws(ParseFailure) -> UInt32 {
    guard let value = CNumber.unsigned(text) else { throw fail("\(text) not a valid spi") }
    guard let spi = UInt32(exactly: value) else { throw fail("\(value) not a valid spi") }
    guard !(1...255).contains(spi) else { throw fail("\(value) within reserved spi range") }
    return spi
  }

  private mutating func parseUDPEncapsulation() throws(ParseFailure) -> UInt16? {
    guard accept(.udpencap) else { return nil }
    guard accept(.port) else { return 0 }
    guard case .number(let number) = peek() else { throw .syntax }
    advance()
    guard let port = UInt16(exactly: number) else { throw fail("port outside range") }
    return port
  }

  // MARK: Transforms

  /// Any number of them, in any order. A bad one is reported and the line read on.
  mutating func parseTransforms() throws(ParseFailure) -> Transforms {
    var transforms = Transforms()
    while true {
      if accept(.auth) {
        try parse("auth", &transforms.authentication) { TransformName.match($0, AuthenticationName.self) }
      } else if accept(.enc) {
        try parse("enc", &transforms.encryption) { TransformName.match($0, EncryptionName.self) }
      } else if accept(.comp) {
        try parse("comp", &transforms.compression) { TransformName.match($0, CompressionName.self) }
      } else if accept(.group) {
        try parse("group", &transforms.group, TransformName.group)
      } else {
        return transforms
      }
    }
  }

  private mutating func parse<Name>(
    _ word: String, _ field: inout Name?, _ match: (String) -> Name?
  ) throws(ParseFailure) {
    let text = try expectString()
    guard field == nil else {
      lexer.report("\(word) already set")
      return
    }
    field = match(text)
    if field == nil { lexer.report("\(text) not a valid transform") }
  }

  // MARK: Keys

  private mutating func parseKeys(_ keyword: Keyword) throws(ParseFailure) -> KeyPair {
    guard accept(keyword) else { return KeyPair() }
    let isFile = accept(.file)
    let parts = try expectString().split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    var keys = KeyPair()
    if parts.count == 2 { keys.incoming = isFile ? try keyFile(String(parts[1])) : hexKey(parts[1]) }
    keys.outgoing = isFile ? try keyFile(String(parts[0])) : hexKey(parts[0])
    return keys
  }

  private mutating func hexKey(_ text: Substring) -> [UInt8] {
    key(Array((text.hasPrefix("0x") ? text.dropFirst(2) : text).utf8))
  }

  /// Pairs of digits; an odd one at the end is left out, which is how a file's last newline goes.
  private mutating func key(_ digits: [UInt8]) -> [UInt8] {
    (0..<digits.count / 2).map { index in
      guard let high = Self.hexDigit(digits[2 * index]), let low = Self.hexDigit(digits[2 * index + 1]) else {
        lexer.report("keys need to be specified in hex digits")
        return 0xff
      }
      return high << 4 | low
    }
  }

  private static func hexDigit(_ byte: UInt8) -> UInt8? {
    if byte.isASCIIDigit { return byte - UInt8(ascii: "0") }
    let lower = byte | 0x20
    return (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(lower) ? lower - UInt8(ascii: "a") + 10 : nil
  }

  private mutating func keyFile(_ path: String) throws(ParseFailure) -> [UInt8] {
    let contents: TextFile.Contents
    do {
      contents = try TextFile.read(path, limit: Self.keyFileLimit)
    } catch {
      throw die(error.code == EFBIG ? "\(path): key too large" : "open \(path): \(error.message)")
    }
    guard !contents.bytes.isEmpty else { throw die("\(path): key too small") }
    if contents.mode & S_IRWXO != 0 { caution("\(path): the key file is open to everyone") }
    return key(contents.bytes)
  }
}
