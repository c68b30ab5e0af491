import ConfigurationFiles
import IPsec
import Wire

/// strongSwan's words for transforms, identities and traffic selectors.
enum CharonWords {
  /// `aes128gcm16-modp3072-esn-noesn`.
  static func child(_ proposal: IKEConnection.Proposal, offersESN: Bool) throws(Unknown) -> String {
    var words = try encryption(proposal.encryption)
    if let authentication = proposal.authentication, authentication != .none { words.append(try hash(authentication)) }
    if let group = proposal.group, group != .none { words.append(try self.group(group)) }
    if offersESN { words += ["esn", "noesn"] }
    return words.joined(separator: "-")
  }

  /// `aes128-sha1-modp3072`; with an AEAD the hash is that of the pseudo-random function.
  static func ike(_ proposal: IKEConnection.Proposal) throws(Unknown) -> String {
    var words = try encryption(proposal.encryption)
    let hash = try hash(proposal.authentication ?? .hmacSHA256)
    words.append(proposal.encryption?.isAEAD == true ? "prf" + hash : hash)
    words.append(try group(proposal.group ?? .modp3072))
    return words.joined(separator: "-")
  }

  struct Unknown: Error { var word: String }

  private static func encryption(_ name: EncryptionName?) throws(Unknown) -> [String] {
    guard let name else { return [] }
    let words = name.row.charon
    guard !words.isEmpty else { throw Unknown(word: "enc \(name.rawValue)") }
    return words
  }

  private static func hash(_ name: AuthenticationName) throws(Unknown) -> String {
    let word = name.row.charon
    guard !word.isEmpty else { throw Unknown(word: "auth \(name.rawValue)") }
    return word
  }

  private static func group(_ group: DiffieHellmanGroup) throws(Unknown) -> String {
    switch group {
    case .bp224: "ecp224bp"
    case .bp256: "ecp256bp"
    case .bp384: "ecp384bp"
    case .bp512: "ecp512bp"
    case .unknown, .none: throw Unknown(word: "group \(group)")
    default: "\(group)"
    }
  }

  /// With its type before it, so that nothing is guessed; a distinguished name as it is.
  static func identity(_ identity: Identity) -> String {
    switch identity.kind {
    case .prefix: String(identity.text.prefix { $0 != "/" })
    case .ufqdn: "rfc822:" + identity.text
    case .fqdn where identity.text.contains("="): identity.text
    case .fqdn: "fqdn:" + identity.text
    case .reserved, .asn1DN: identity.text
    }
  }

  /// `10.1.1.0/24[6/80]`.
  static func selector(_ prefix: IPPrefix, ipProtocol: UInt8?, ports: ClosedRange<UInt16>) -> String {
    guard let ipProtocol else { return "\(prefix)" }
    if ports == Selector.anyPort { return "\(prefix)[\(ipProtocol)]" }
    let range = ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)"
    return "\(prefix)[\(ipProtocol)/\(range)]"
  }
}
