import ConfigurationFiles
import Engines
import IPsec
import Wire

/// `ike` rules as an iked.conf(5): one policy for rules of one peer that are alike. OpenIKED's portable version on Linux
/// leaves out ESN, and AES-GCM and HMAC-SHA2-256 for child SAs; such rules are refused.
public struct IkedConfiguration: Sendable {
  public private(set) var refusals: [IKERefusal] = []
  /// The policies' names, each with the rules in it.
  public private(set) var policies: [(name: String, rules: [IKEConnection])] = []
  private let hostname: String

  public init(_ rules: [IKEConnection], hostname: String = "") {
    self.hostname = hostname
    for peer in IKEPeer.grouped(rules) {
      for rule in peer.connections {
        do throws(IKERefusal) {
          try rule.common()
          _ = try Self.transforms(rule)
          if let index = policies.firstIndex(where: { Self.areAlike($0.rules[0], rule) }) {
            policies[index].rules.append(rule)
          } else {
            policies.append((rule.name, [rule]))
          }
        } catch {
          refusals.append(error)
        }
      }
    }
  }

  private static func areAlike(_ a: IKEConnection, _ b: IKEConnection) -> Bool {
    a.peerName == b.peerName && a.mode == b.mode && a.phase1 == b.phase1 && a.phase2 == b.phase2
      && a.phase1Lifetime == b.phase1Lifetime && a.phase2Lifetime == b.phase2Lifetime && a.saProtocol == b.saProtocol
      && a.encapsulation == b.encapsulation && a.selector.family == b.selector.family
      && a.selector.ipProtocol == b.selector.ipProtocol
  }

  /// - Parameter showsKeys: pre-shared keys as they are; else a word in their place.
  public func text(showsKeys: Bool) -> String {
    guard !policies.isEmpty else { return "# no ike rules\n" }
    return policies.map { policy(named: $0.name, $0.rules, showsKeys) }.joined(separator: "\n")
  }

  private func policy(named name: String, _ rules: [IKEConnection], _ showsKeys: Bool) -> String {
    let rule = rules[rules.count - 1]
    var lines = [
      "ikev2 \(Self.quoted(name)) \(rule.mode == .passive ? "passive" : "active") "
        + "\(rule.encapsulation == .tunnel ? "tunnel" : "transport") \(rule.saProtocol)"
        + (rule.selector.family == .v6 ? " inet6" : " inet")
        + (rule.selector.ipProtocol.map { " proto \($0)" } ?? "")
    ]
    for rule in rules {
      lines.append(
        "from \(Self.end(rule.selector.source, rule.selector.sourcePorts)) to "
          + Self.end(rule.selector.destination, rule.selector.destinationPorts))
    }
    lines.append((rule.local.map { "local \($0) " } ?? "") + "peer \(rule.peer.map { "\($0)" } ?? "any")")
    if let transforms = try? Self.transforms(rule) {
      lines.append("ikesa \(transforms.ike)")
      lines.append("childsa \(transforms.child) noesn")
    }
    let ownName = rule.mode == .dynamic && !hostname.isEmpty ? hostname : nil
    // Without srcid iked would use the host's name, and isakmpd the address that it speaks from.
    let ownAddress = rule.local ?? rule.peer.flatMap(Route.source(to:))
    let source = rule.localIdentity.map(Self.identity) ?? ownName.map(Self.quoted) ?? ownAddress.map { "\($0)" }
    let destination = rule.remoteIdentity.map(Self.identity) ?? rule.peer.map { "\($0)" }
    let ids = [source.map { "srcid \($0)" }, destination.map { "dstid \($0)" }].compactMap(\.self)
    if !ids.isEmpty { lines.append(ids.joined(separator: " ")) }
    lines.append("ikelifetime \(rule.phase1Lifetime) lifetime \(rule.phase2Lifetime)")
    switch rule.authentication {
    case .rsa: lines.append("rsa")
    case .psk(let key): lines.append("psk " + (showsKeys ? Self.key(key) : "\"(not shown)\""))
    }
    if let tag = rule.tag { lines.append("tag \(Self.quoted(tag))") }
    return lines.joined(separator: " \\\n\t") + "\n"
  }

  private static func end(_ prefix: IPPrefix, _ ports: ClosedRange<UInt16>) -> String {
    ports == Selector.anyPort ? "\(prefix)" : "\(prefix) port \(ports.lowerBound)"
  }

  private static func identity(_ identity: Identity) -> String {
    identity.kind == .prefix ? String(identity.text.prefix { $0 != "/" }) : quoted(identity.text)
  }

  /// Names that need quoting for more than their blanks cannot be said in iked.conf; they lose what cannot be said.
  private static func quoted(_ text: String) -> String {
    "\"" + text.filter { $0 != "\"" && $0 != "\\" && !$0.isNewline } + "\""
  }

  private static func key(_ key: SecretBytes) -> String {
    let plain = key.bytes.allSatisfy { $0 > 32 && $0 < 127 && $0 != 0x22 && $0 != 0x5c && $0 != 0x24 }
    guard plain, !key.bytes.starts(with: "0x".utf8) else { return "0x" + key.revealedHex() }
    return "\"" + String(decoding: key.bytes, as: UTF8.self) + "\""
  }

  // MARK: Transforms

  private static func transforms(_ rule: IKEConnection) throws(IKERefusal) -> (ike: String, child: String) {
    func refuse(_ what: String) -> IKERefusal {
      IKERefusal(connection: rule.name, reason: "\(what): iked does not have it")
    }
    guard rule.exchange != .aggressive else { throw refuse("aggressive") }
    let encryption = rule.phase1.encryption?.row.ikedIKE ?? []
    guard !encryption.isEmpty else { throw refuse("main enc \(rule.phase1.encryption?.rawValue ?? "")") }
    var ike = encryption.map { "enc \($0)" }
    let hash = rule.phase1.authentication ?? .hmacSHA256
    guard !hash.row.ikedIKE.isEmpty else { throw refuse("main auth \(hash.rawValue)") }
    ike.append("prf \(hash.rawValue)")
    if rule.phase1.encryption?.isAEAD != true { ike.append("auth \(hash.rawValue)") }
    ike.append("group \(try group(rule, rule.phase1.group ?? .modp3072))")
    return (ike.joined(separator: " "), try child(rule))
  }

  private static func child(_ rule: IKEConnection) throws(IKERefusal) -> String {
    func refuse(_ what: String) -> IKERefusal {
      IKERefusal(connection: rule.name, reason: "\(what): iked on Linux does not have it for child SAs")
    }
    var child: [String] = []
    if let encryption = rule.phase2.encryption {
      guard !encryption.row.ikedChild.isEmpty else { throw refuse("quick enc \(encryption.rawValue)") }
      child += encryption.row.ikedChild.map { "enc \($0)" }
    }
    if let hash = rule.phase2.authentication {
      guard !hash.row.ikedChild.isEmpty else { throw refuse("quick auth \(hash.rawValue)") }
      child.append("auth \(hash.rawValue)")
    }
    if let wanted = rule.phase2.group { child.append("group \(try group(rule, wanted))") }
    return child.joined(separator: " ")
  }

  private static func group(_ rule: IKEConnection, _ group: DiffieHellmanGroup) throws(IKERefusal) -> String {
    switch group {
    case .bp224: return "brainpool224"
    case .bp256: return "brainpool256"
    case .bp384: return "brainpool384"
    case .bp512: return "brainpool512"
    case .unknown: throw IKERefusal(connection: rule.name, reason: "group \(group): iked does not have it")
    default: return "\(group)"
    }
  }
}
