import Engines
import IPsec

extension Parser {
  mutating func parseIKE() throws(ParseFailure) {
    advance()
    let mode = parseIKEMode()
    if accept(.interface) { return try parseInterfaceIKE(mode) }
    let saProtocol = parseProtocol()
    let encapsulation = parseMode()
    let ipProtocol = try parseIPProtocol()
    let hosts = try parseHosts()
    let peers = try parsePeers()
    let phase1 = try parsePhase1()
    let phase2 = try parsePhase2()
    let identities = try parseIdentities()
    let authentication = try parseAuthentication() ?? .rsa
    var tag: String?
    if accept(.tag) {
      tag = try expectString()
    } else {
      try expectEndOfLine()
    }
    try checkPorts(hosts, ipProtocol)
    let rule = IKERule(
      mode: mode, saProtocol: saProtocol, encapsulation: encapsulation, ipProtocol: ipProtocol,
      source: .any(.v4), sourcePort: hosts.sourcePort, destination: .any(.v4), destinationPort: hosts.destinationPort,
      phase1: phase1, phase2: phase2, identities: identities, authentication: authentication, tag: tag)
    try expand(rule, hosts, peers)
  }

  /// `ike interface secN`: everything that is routed to it.
  private mutating func parseInterfaceIKE(_ mode: IKERule.Mode) throws(ParseFailure) {
    let unit = try parseInterfaceUnit()
    let peers = try parsePeers()
    let phase1 = try parsePhase1()
    let phase2 = try parsePhase2()
    let identities = try parseIdentities()
    let authentication = try parseAuthentication()
    if authentication == nil { try expectEndOfLine() }
    let everything = HostItem.host(.any(.v4), sourceNAT: nil)
    let hosts = HostPair(source: [everything], sourcePort: 0, destination: [everything], destinationPort: 0)
    let rule = IKERule(
      mode: mode, saProtocol: .esp, encapsulation: .tunnel, ipProtocol: 0, source: .any(.v4), sourcePort: 0,
      destination: .any(.v4), destinationPort: 0, phase1: phase1, phase2: phase2, identities: identities,
      authentication: authentication ?? .rsa, tag: nil, interface: unit)
    try expand(rule, hosts, peers)
  }

  private mutating func parseIKEMode() -> IKERule.Mode {
    if accept(.passive) { return .passive }
    if accept(.dynamic) { return .dynamic }
    _ = accept(.active)
    return .active
  }

  private mutating func parseInterfaceUnit() throws(ParseFailure) -> UInt32 {
    let name = try expectString()
    guard name.hasPrefix("sec"), name.utf8.count > 3 else { throw fail("invalid sec interface name") }
    let digits = name.dropFirst(3)
    let isNegative = digits.hasPrefix("-")
    guard !(isNegative ? digits.dropFirst() : digits).isEmpty,
      (isNegative ? digits.dropFirst() : digits).utf8.allSatisfy(\.isASCIIDigit)
    else { throw fail("invalid sec interface unit: invalid") }
    guard let unit = UInt32(digits) else {
      throw fail("invalid sec interface unit: too \(isNegative ? "small" : "large")")
    }
    return unit
  }

  // MARK: Phases

  private mutating func parsePhase1() throws(ParseFailure) -> IKERule.Phase {
    if accept(.main) { return try parsePhase(.main) }
    if accept(.aggressive) { return try parsePhase(.aggressive) }
    return IKERule.Phase(exchange: .main)
  }

  private mutating func parsePhase2() throws(ParseFailure) -> IKERule.Phase {
    accept(.quick) ? try parsePhase(.quick) : IKERule.Phase(exchange: .quick)
  }

  private mutating func parsePhase(_ exchange: IKERule.Exchange) throws(ParseFailure) -> IKERule.Phase {
    let transforms = try parseTransforms()
    return IKERule.Phase(exchange: exchange, transforms: transforms, lifetime: try parseLifetime())
  }

  /// Seconds, or a number with `m` or `h`.
  private mutating func parseLifetime() throws(ParseFailure) -> Int? {
    guard accept(.lifetime) else { return nil }
    switch peek() {
    case .number(let seconds):
      advance()
      guard let value = Int32(exactly: seconds), value >= -1 else { throw fail("lifetime outside range") }
      return value == -1 ? nil : Int(value)
    case .string(let text):
      advance()
      return try lifetime(text)
    default: throw .syntax
    }
  }

  private mutating func lifetime(_ text: String) throws(ParseFailure) -> Int {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard !digits.isEmpty else { throw die("invalid time specification: \(text): Success") }
    let rest = text.dropFirst(digits.count)
    let units = ["m": 60, "h": 3600]
    let unit = rest.first.map { units[$0.lowercased()] ?? 0 } ?? 1
    guard unit > 0 else { throw die("invalid time unit: Success") }
    guard let value = Int32(digits), case let product = Int(value) * unit, product <= Int(Int32.max) else {
      throw fail("lifetime outside range")
    }
    return product
  }

  private mutating func parseAuthentication() throws(ParseFailure) -> IKERule.Authentication? {
    if accept(.rsa) { return .rsa }
    guard accept(.psk) else { return nil }
    return .psk(SecretBytes(Array(try expectString().utf8)))
  }

  // MARK: Expansion

  private mutating func expand(_ rule: IKERule, _ hosts: HostPair, _ peers: Peers) throws(ParseFailure) {
    if let encryption = rule.phase2.transforms?.encryption, encryption.isAEAD,
      rule.phase2.transforms?.authentication != nil
    {
      throw fail("authentication is implicit for \(encryption.rawValue)")
    }
    cautionWeak(rule.phase1.transforms)
    cautionWeak(rule.phase2.transforms)
    try expand(hosts) { (parser, source, destination) throws(ParseFailure) in
      var rule = rule
      (rule.source, rule.sourceNAT) = (source.host, source.nat)
      rule.destination = destination.host
      parser.setPeers(&rule, peers)
      try parser.add(.ike(rule))
      return true
    }
  }

  private mutating func setPeers(_ rule: inout IKERule, _ peers: Peers) {
    if case .host(let host, _)? = peers.local { rule.local = host }
    switch peers.peer {
    case .host(let host, _)?: rule.peer = host
    case .any?: rule.peer = nil
    case nil: rule.peer = rule.destination.isNetwork ? nil : rule.destination
    }
    guard rule.peer == nil else { return }
    guard let first = expansion.defaultPeer else {
      expansion.defaultPeer = rule
      return
    }
    warnOfMismatch(first, rule)
  }

  /// All rules with the default peer set the same section, so they had better agree.
  private mutating func warnOfMismatch(_ first: IKERule, _ rule: IKERule) {
    if first.local?.name != rule.local?.name { lexer.warn("default peer local mismatch") }
    switch (first.authentication, rule.authentication) {
    case (.psk(let a), .psk(let b)): if a != b { lexer.warn("default peer psk mismatch") }
    case (.rsa, .rsa): break
    default: lexer.warn("default peer phase 1 auth mismatch")
    }
    if first.phase1.exchange != rule.phase1.exchange { lexer.warn("default peer phase 1 mode mismatch") }
    if first.identities.source != rule.identities.source { lexer.warn("default peer srcid mismatch") }
    if first.identities.destination != rule.identities.destination { lexer.warn("default peer dstid mismatch") }
  }
}
