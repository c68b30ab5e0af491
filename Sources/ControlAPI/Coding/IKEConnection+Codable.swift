import ConfigurationFiles
import Engines
import IPsec
import Wire

extension EncryptionName: Codable {}
extension AuthenticationName: Codable {}
extension DiffieHellmanGroup: Codable {
  public init(from decoder: any Decoder) throws {
    let name = try decoder.singleValueContainer().decode(String.self)
    guard let group = Self.allCases.first(where: { "\($0)" == name }) else {
      throw decoder.refusal("\"\(name.prefix(64))\" is no group")
    }
    self = group
  }
  public func encode(to encoder: any Encoder) throws { try encoder.text("\(self)") }
}

extension IKERule.Mode: Codable {
  static let apiNames: KeyValuePairs<String, IKERule.Mode> = [
    "active": .active, "passive": .passive, "dynamic": .dynamic,
  ]
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension IKERule.Exchange: Codable {
  static let apiNames: KeyValuePairs<String, IKERule.Exchange> = [
    "main": .main, "aggressive": .aggressive, "quick": .quick,
  ]
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension IKEConnection.Proposal: Codable {
  enum CodingKeys: String, CodingKey { case encryption, authentication, group }
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      encryption: try fields.decodeIfPresent(EncryptionName.self, forKey: .encryption),
      authentication: try fields.decodeIfPresent(AuthenticationName.self, forKey: .authentication),
      group: try fields.decodeIfPresent(DiffieHellmanGroup.self, forKey: .group))
  }
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encodeIfPresent(encryption, forKey: .encryption)
    try fields.encodeIfPresent(authentication, forKey: .authentication)
    try fields.encodeIfPresent(group, forKey: .group)
  }
}

/// The pre-shared key (`psk`, hex) is written only under `CodingUserInfoKey.revealKeys`.
extension IKEConnection: Codable {
  enum CodingKeys: String, CodingKey {
    case name, file, line, mode, exchange, local, remote, rsa, psk, phase1, phase2, encapsulation, selector, tag
    case peer = "peer_name"
    case phase1Lifetime = "phase1_lifetime_seconds"
    case phase2Lifetime = "phase2_lifetime_seconds"
    case saProtocol = "protocol"
    case localIdentity = "local_identity"
    case remoteIdentity = "remote_identity"
    case sourceNAT = "source_nat"
    case interface
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    var authentication = IKERule.Authentication.rsa
    if let hex = try fields.decodeIfPresent(String.self, forKey: .psk) {
      guard hex.utf8.count <= 16384, let key = SecretBytes(hex: hex) else {
        throw decoder.refusal("psk is hexadecimal digits, two a byte")
      }
      authentication = .psk(key)
    }
    let lifetimes = (
      try fields.decode(Int.self, forKey: .phase1Lifetime), try fields.decode(Int.self, forKey: .phase2Lifetime)
    )
    guard (0...Int(Int32.max)).contains(lifetimes.0), (0...Int(Int32.max)).contains(lifetimes.1) else {
      throw decoder.refusal("a lifetime is 0 to \(Int32.max) seconds")
    }
    self.init(
      name: try fields.decode(String.self, forKey: .name), peerName: try fields.decode(String.self, forKey: .peer),
      file: try fields.value(.file, default: "-"), line: try fields.value(.line, default: 0),
      mode: try fields.decode(IKERule.Mode.self, forKey: .mode),
      exchange: try fields.value(.exchange, default: .main), authentication: authentication,
      phase1: try fields.decode(Proposal.self, forKey: .phase1), phase1Lifetime: lifetimes.0,
      phase2: try fields.decode(Proposal.self, forKey: .phase2), phase2Lifetime: lifetimes.1,
      saProtocol: try fields.value(.saProtocol, default: .esp),
      encapsulation: try fields.value(.encapsulation, default: .tunnel),
      selector: try fields.decode(Selector.self, forKey: .selector))
    local = try fields.decodeIfPresent(IPAddress.self, forKey: .local)
    peer = try fields.decodeIfPresent(IPAddress.self, forKey: .remote)
    localIdentity = try fields.decodeIfPresent(Identity.self, forKey: .localIdentity)
    remoteIdentity = try fields.decodeIfPresent(Identity.self, forKey: .remoteIdentity)
    sourceNAT = try fields.decodeIfPresent(IPPrefix.self, forKey: .sourceNAT)
    tag = try fields.decodeIfPresent(String.self, forKey: .tag)
    interface = try fields.decodeIfPresent(UInt32.self, forKey: .interface)
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(name, forKey: .name)
    try fields.encode(peerName, forKey: .peer)
    try fields.encode(file, forKey: .file)
    try fields.encode(line, forKey: .line)
    try fields.encode(mode, forKey: .mode)
    try fields.encode(exchange, forKey: .exchange)
    try fields.encodeIfPresent(local, forKey: .local)
    try fields.encodeIfPresent(peer, forKey: .remote)
    try fields.encodeIfPresent(localIdentity, forKey: .localIdentity)
    try fields.encodeIfPresent(remoteIdentity, forKey: .remoteIdentity)
    if case .psk(let key) = authentication, encoder.userInfo[.revealKeys] as? Bool == true {
      try fields.encode(key.revealedHex(), forKey: .psk)
    }
    try fields.encode(phase1, forKey: .phase1)
    try fields.encode(phase1Lifetime, forKey: .phase1Lifetime)
    try fields.encode(phase2, forKey: .phase2)
    try fields.encode(phase2Lifetime, forKey: .phase2Lifetime)
    try fields.encode(saProtocol, forKey: .saProtocol)
    try fields.encode(encapsulation, forKey: .encapsulation)
    try fields.encode(selector, forKey: .selector)
    try fields.encodeIfPresent(sourceNAT, forKey: .sourceNAT)
    try fields.encodeIfPresent(tag, forKey: .tag)
    try fields.encodeIfPresent(interface, forKey: .interface)
  }
}
