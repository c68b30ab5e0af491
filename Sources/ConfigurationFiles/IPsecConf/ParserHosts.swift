import Glibc
import IPsec
import Wire

/// `from` and `to` with their ports.
struct HostPair {
  var source: [HostItem]
  var sourcePort: UInt16
  var destination: [HostItem]
  var destinationPort: UInt16
}

/// `local` and `peer`.
struct Peers {
  var local: HostItem?
  var peer: HostItem?
}

extension Parser {
  static let listDepthLimit = 64

  // MARK: Words that several rules have

  mutating func parseProtocol() -> RuleProtocol {
    if accept(.ah) { return .ah }
    if accept(.ipcomp) { return .ipcomp }
    if accept(.ipip) { return .ipip }
    _ = accept(.esp)
    return .esp
  }

  mutating func parseMode() -> SAMode {
    if accept(.transport) { return .transport }
    _ = accept(.tunnel)
    return .tunnel
  }

  /// `proto P`; 0 without.
  mutating func parseIPProtocol() throws(ParseFailure) -> UInt8 {
    guard accept(.proto) else { return 0 }
    if accept(.esp) { return SAProtocol.esp.rawValue }
    if accept(.ah) { return SAProtocol.ah.rawValue }
    switch peek() {
    case .string(let name):
      advance()
      guard let number = NetworkNames.protocolNumber(name) else { throw fail("unknown protocol: \(name)") }
      return number
    case .number(let number):
      advance()
      guard let value = UInt8(exactly: number) else { throw fail("protocol outside range") }
      return value
    default: throw .syntax
    }
  }

  private mutating func parsePort() throws(ParseFailure) -> UInt16 {
    guard accept(.port) else { return 0 }
    switch peek() {
    case .string(let name):
      advance()
      guard let port = NetworkNames.port(name) else { throw fail("unknown port: \(name)") }
      return port
    case .number(let number):
      advance()
      guard let value = UInt16(exactly: number) else { throw fail("port outside range") }
      return value
    default: throw .syntax
    }
  }

  mutating func parseIdentities() throws(ParseFailure) -> RuleIdentities {
    var identities = RuleIdentities()
    if accept(.srcid) { identities.source = try expectString() }
    if accept(.dstid) { identities.destination = try expectString() }
    return identities
  }

  // MARK: from, to

  mutating func parseHosts() throws(ParseFailure) -> HostPair {
    let fromFirst = peek() == .keyword(.from)
    try expect(fromFirst ? .from : .to)
    let first = try parseHost(depth: 0)
    let firstPort = try parsePort()
    try expect(fromFirst ? .to : .from)
    let second = try parseHost(depth: 0)
    let secondPort = try parsePort()
    for case .host(let host, .some(_)) in fromFirst ? second : first {
      throw fail("no flow NAT support for destination network: \(host.name)")
    }
    return fromFirst
      ? HostPair(source: first, sourcePort: firstPort, destination: second, destinationPort: secondPort)
      : HostPair(source: second, sourcePort: secondPort, destination: first, destinationPort: firstPort)
  }

  private mutating func parseHost(depth: Int) throws(ParseFailure) -> [HostItem] {
    if accept(.any) { return [.any] }
    if accept("{") { return try parseHostList(depth: depth + 1) }
    var items = try parseHostSpecification().map { HostItem.host($0, sourceNAT: nil) }
    guard accept("(") else { return items }
    let nat = try parseHostSpecification()
    guard accept(")") else { throw .syntax }
    guard case .host(let host, _)? = items.first, let first = nat.first, first.family == host.family else {
      throw fail("Flow NAT address family mismatch")
    }
    items[0] = .host(host, sourceNAT: first)
    return items
  }

  private mutating func parseHostList(depth: Int) throws(ParseFailure) -> [HostItem] {
    guard depth <= Self.listDepthLimit else { throw fail("lists nested more than \(Self.listDepthLimit) deep") }
    var items = try parseHost(depth: depth)
    while !accept("}") {
      _ = accept(",")
      items += try parseHost(depth: depth)
      guard items.count <= IPsecConf.ruleLimit else {
        _ = fail("rules expand to more than \(IPsecConf.ruleLimit)")
        throw .fatal
      }
    }
    return items
  }

  private mutating func parseHostSpecification() throws(ParseFailure) -> [Host] {
    let text = try expectString()
    if accept("/") {
      guard case .number(let length) = peek() else { throw .syntax }
      advance()
      return try resolve("\(text)/\(length)")
    }
    guard mayFollowHost(peek()) else { throw .syntax }
    return try resolve(text)
  }

  private func mayFollowHost(_ token: Token) -> Bool {
    switch token {
    case .newline, .string: true
    case .keyword(let word):
      [
        .port, .to, .from, .spi, .peer, .local, .srcid, .dstid, .type, .main, .aggressive, .quick, .rsa, .psk, .tag,
        .any,
      ].contains(word)
    case .character(let byte): Array(",{}()".utf8).contains(byte)
    case .number, .invalid, .end: false
    }
  }

  // MARK: local, peer

  mutating func parsePeers() throws(ParseFailure) -> Peers {
    var peers = Peers()
    if accept(.peer) {
      peers.peer = try parsePeer(any: true)
      if accept(.local) { peers.local = try parsePeer(any: false) }
    } else if accept(.local) {
      peers.local = try parsePeer(any: false)
      if accept(.peer) { peers.peer = try parsePeer(any: true) }
    }
    return peers
  }

  private mutating func parsePeer(any: Bool) throws(ParseFailure) -> HostItem? {
    if any && accept(.any) { return .any }
    guard case .string(let text) = peek() else { return nil }
    advance()
    return try resolve(text).first.map { .host($0, sourceNAT: nil) }
  }

  // MARK: Addresses

  /// An interface, an address, a prefix or a name, tried in that order.
  private mutating func resolve(_ text: String) throws(ParseFailure) -> [Host] {
    var base = text
    var length: Int?
    if let slash = text.lastIndex(of: "/") {
      base = String(text[..<slash])
      guard let value = CNumber.signed(text[text.index(after: slash)...]), (0...128).contains(value) else {
        throw die("host: invalid netmask '\(text[slash...])'")
      }
      length = value
    }
    if let hosts = interface(base) { return hosts }
    if let host = PrefixText.v4(text) { return [host] }
    if let address = IPv6Address(base) {
      let bits = UInt8(length ?? 128)
      let name = bits == 128 ? "\(address)" : "\(address)/\(bits)"
      return [Host(address: .v6(address), length: bits, isNetwork: bits != 128, name: name)]
    }
    let found = length == nil && PrefixText.mayBeName(base) ? resolver.lookup(base).map(Host.init) : []
    guard !found.isEmpty else {
      lexer.report(Diagnostic(.plain, "no IP address found for \(text)"))
      throw fail("could not parse host specification")
    }
    return found
  }

  /// Nil where there is no such interface, or where it has no address.
  private mutating func interface(_ name: String) -> [Host]? {
    if interfaces == nil {
      interfaces = [:]
      for (name, addresses) in resolver.interfaces() {
        interfaces?[name] = addresses.map {
          Host(address: $0, length: $0.family.bits, isNetwork: false, name: name)
        }
      }
    }
    guard let hosts = interfaces?[name], !hosts.isEmpty else { return nil }
    return hosts
  }
}
