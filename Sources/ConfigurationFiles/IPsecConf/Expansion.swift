import Engines
import IPsec
import Wire

/// What expansion keeps from one rule to the next.
struct Expansion {
  var ruleCount = 0
  /// The SAs that begin a bundle, with the last of it.
  var bundles: [BundleKey: BundleRule.Member] = [:]
  /// The first `ike` rule with the default peer: later ones must agree with it.
  var defaultPeer: IKERule?

  struct BundleKey: Hashable {
    var source: String
    var destination: String
    var name: String
  }
}

/// A manual SA before its hosts are known.
struct SATemplateRule {
  var saProtocol: RuleProtocol
  var mode: SAMode
  var udpEncapsulation: UInt16?
  var transforms: Transforms?
  var authentication: KeyPair
  var encryption: KeyPair
}

extension Parser {
  typealias ExpandedHost = (host: Host, nat: Host?)

  /// Calls `body` for each pair of one family; `any` stands for both families. False from `body` ends the expansion, not
  /// the line: what is wrong has been reported.
  mutating func expand(
    _ hosts: HostPair,
    _ body: (inout Parser, ExpandedHost, ExpandedHost) throws(ParseFailure) -> Bool
  ) throws(ParseFailure) {
    guard Self.familiesAgree(hosts.source, hosts.destination) else {
      lexer.report("source/destination address families do not match")
      return
    }
    let sources = Self.expand(hosts.source)
    let destinations = Self.expand(hosts.destination)
    var found = false
    for source in sources {
      for destination in destinations where source.host.family == destination.host.family {
        guard try body(&self, source, destination) else { return }
        found = true
      }
    }
    if !found { lexer.report("rule expands to no valid combination") }
  }

  private static func expand(_ items: [HostItem]) -> [ExpandedHost] {
    items.flatMap { item -> [ExpandedHost] in
      switch item {
      case .any: [(.any(.v4), nil), (.any(.v6), nil)]
      case .host(let host, let nat): [(host, nat)]
      }
    }
  }

  /// False if neither family stands on both sides; `any` fits everything.
  private static func familiesAgree(_ source: [HostItem], _ destination: [HostItem]) -> Bool {
    let sides = [source, destination].map { items in
      (
        hasAny: items.contains { $0.family == nil }, v4: items.contains { $0.family == .v4 },
        v6: items.contains { $0.family == .v6 }
      )
    }
    return sides.contains(where: \.hasAny) || sides[0].v4 == sides[1].v4 || sides[0].v6 == sides[1].v6
  }

  // MARK: SAs

  mutating func expand(
    _ template: SATemplateRule, _ hosts: HostPair, _ spis: (UInt32, UInt32), bundle: String?
  ) throws(ParseFailure) {
    var template = template
    guard validate(&template, spi: spis.0, template.authentication.outgoing, template.encryption.outgoing) else {
      throw .reported
    }
    cautionWeak(template.transforms)
    let hasMirror = spis.1 != 0 || template.authentication.incoming != nil || template.encryption.incoming != nil
    try expand(hosts) { (parser, source, destination) throws(ParseFailure) in
      let sa = Self.rule(template, source.host, destination.host, spis.0, mirrored: false)
      try parser.add(sa, bundle: bundle)
      guard hasMirror else { return true }
      guard
        parser.validate(&template, spi: spis.1, template.authentication.incoming, template.encryption.incoming)
      else { throw parser.die("\(template.saProtocol == .tcpmd5 ? "tcpmd5rule" : "sarule"): expand_rule") }
      let mirror = Self.rule(template, destination.host, source.host, spis.1, mirrored: true)
      try parser.add(mirror, bundle: bundle)
      return true
    }
  }

  private static func rule(
    _ template: SATemplateRule, _ source: Host, _ destination: Host, _ spi: UInt32, mirrored: Bool
  ) -> SARule {
    let authentication = mirrored ? template.authentication.incoming : template.authentication.outgoing
    let encryption = mirrored ? template.encryption.incoming : template.encryption.outgoing
    return SARule(
      saProtocol: template.saProtocol, mode: template.mode, source: source, destination: destination, spi: spi,
      udpEncapsulation: template.udpEncapsulation, transforms: template.transforms,
      authenticationKey: authentication.map { SecretBytes($0) }, encryptionKey: encryption.map { SecretBytes($0) })
  }

  private mutating func add(_ sa: SARule, bundle: String?) throws(ParseFailure) {
    try add(.sa(sa))
    guard let bundle else { return }
    let key = Expansion.BundleKey(source: sa.source.name, destination: sa.destination.name, name: bundle)
    let member = BundleRule.Member(saProtocol: sa.saProtocol, destination: sa.destination, spi: sa.spi)
    if let last = expansion.bundles.updateValue(member, forKey: key) {
      try add(.bundle(BundleRule(first: last, then: member)))
    }
  }

  mutating func cautionWeak(_ transforms: Transforms?) {
    if let name = transforms?.authentication, name.isWeak { caution("auth \(name.rawValue) is weak") }
    if let name = transforms?.encryption, name.isWeak { caution("enc \(name.rawValue) is weak") }
    if let group = transforms?.group, [.modp768, .modp1024, .modp1536].contains(group) {
      caution("group \(group) is weak")
    }
  }

  // MARK: Validation

  /// Fills in the defaults; false after a report.
  private mutating func validate(
    _ template: inout SATemplateRule, spi: UInt32, _ authenticationKey: [UInt8]?, _ encryptionKey: [UInt8]?
  ) -> Bool {
    guard spi != 0 else { return refuse("no SPI specified") }
    guard var transforms = template.transforms else { return true }
    let isValid =
      switch template.saProtocol {
      case .ah: validateAH(&transforms)
      case .esp: validateESP(&transforms)
      case .ipcomp: validateIPComp(&transforms)
      case .ipip: validateIPIP(transforms)
      case .tcpmd5: true
      }
    guard isValid else { return false }
    template.transforms = transforms
    return validate(transforms.authentication, authenticationKey) && validate(transforms.encryption, encryptionKey)
  }

  private mutating func refuse(_ message: String) -> Bool {
    lexer.report(message)
    return false
  }

  private mutating func validateAH(_ transforms: inout Transforms) -> Bool {
    transforms.authentication = transforms.authentication ?? .hmacSHA256
    if transforms.encryption != nil { return refuse("ah does not provide encryption") }
    if transforms.compression != nil { return refuse("ah does not provide compression") }
    return true
  }

  private mutating func validateESP(_ transforms: inout Transforms) -> Bool {
    if transforms.compression != nil { return refuse("esp does not provide compression") }
    let encryption = transforms.encryption ?? .aes
    transforms.encryption = encryption
    if encryption.isDisallowedWithStaticKeys {
      return refuse("\(encryption.rawValue) is disallowed with static keys")
    }
    if encryption.isAEAD && transforms.authentication != nil {
      return refuse("authentication is implicit for \(encryption.rawValue)")
    }
    if !encryption.isAEAD { transforms.authentication = transforms.authentication ?? .hmacSHA256 }
    return true
  }

  private mutating func validateIPComp(_ transforms: inout Transforms) -> Bool {
    if transforms.authentication != nil || transforms.encryption != nil {
      return refuse("no encryption or authentication with ipcomp")
    }
    transforms.compression = transforms.compression ?? .deflate
    return true
  }

  private mutating func validateIPIP(_ transforms: Transforms) -> Bool {
    if transforms.authentication != nil || transforms.encryption != nil || transforms.compression != nil {
      return refuse("no encryption, authentication or compression with ipip")
    }
    return true
  }

  private mutating func validate(_ name: AuthenticationName?, _ key: [UInt8]?) -> Bool {
    guard let name else { return true }
    guard let key else { return name == .none || refuse("no authentication key specified") }
    guard key.count == name.keyLength else {
      return refuse("wrong authentication key length, needs to be \(name.keyLength * 8) bits")
    }
    return true
  }

  private mutating func validate(_ name: EncryptionName?, _ key: [UInt8]?) -> Bool {
    guard let name else { return true }
    guard let key else { return name == .null || refuse("no encryption key specified") }
    let lengths = name.keyLengths
    if key.count < lengths.lowerBound {
      return refuse("encryption key too short (\(key.count * 8) bits), minimum \(lengths.lowerBound * 8) bits")
    }
    if key.count > lengths.upperBound {
      return refuse("encryption key too long (\(key.count * 8) bits), maximum \(lengths.upperBound * 8) bits")
    }
    return true
  }
}
