import Engines

extension EncryptionAlgorithm: Codable {
  static let apiNames = allCases.map { ($0.row.name, $0) }
  /// As the API and the tables of gwctl name it; ipsec.conf's names, which carry key lengths, are Configuration's.
  public var apiName: String { row.name }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension AuthenticationAlgorithm: Codable {
  static let apiNames = allCases.map { ($0.row.name, $0) }
  public var apiName: String { row.name }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension CompressionAlgorithm: Codable {
  static let apiNames: KeyValuePairs<String, CompressionAlgorithm> = ["deflate": .deflate]
  public var apiName: String { ControlAPI.apiName(self, Self.apiNames) }
  public init(from decoder: any Decoder) throws { self = try decoder.named(Self.apiNames) }
  public func encode(to encoder: any Encoder) throws { try encoder.name(self, Self.apiNames) }
}

extension CryptoTransform: Codable {
  enum CodingKeys: String, CodingKey {
    case encryption, authentication
    case encryptionKey = "encryption_key"
    case encryptionKeyBits = "encryption_key_bits"
    case authenticationKey = "authentication_key"
    case authenticationKeyBits = "authentication_key_bits"
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      encryption: try fields.value(.encryption, default: .null),
      encryptionKey: try fields.key(.encryptionKey, bits: .encryptionKeyBits, decoder),
      authentication: try fields.decodeIfPresent(AuthenticationAlgorithm.self, forKey: .authentication),
      authenticationKey: try fields.key(.authenticationKey, bits: .authenticationKeyBits, decoder))
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(encryption, forKey: .encryption)
    try fields.encode(encryptionKey.count * 8, forKey: .encryptionKeyBits)
    try fields.encodeIfPresent(authentication, forKey: .authentication)
    try fields.encode(authenticationKey.count * 8, forKey: .authenticationKeyBits)
    guard encoder.userInfo[.revealKeys] as? Bool == true else { return }
    try fields.encode(encryptionKey.revealedHex(), forKey: .encryptionKey)
    try fields.encode(authenticationKey.revealedHex(), forKey: .authenticationKey)
  }
}

extension KeyedDecodingContainer<CryptoTransform.CodingKeys> {
  /// A key in hex. Where keys were withheld and the reader says that it may be so: zeros of the stated length.
  fileprivate func key(_ key: Key, bits: Key, _ decoder: any Decoder) throws -> SecretBytes {
    let stated = try decodeIfPresent(Int.self, forKey: bits)
    guard let hex = try decodeIfPresent(String.self, forKey: key) else {
      let length = stated ?? 0
      guard (0...4096).contains(length), length % 8 == 0 else {
        throw refusal(bits, "\(length) is not the length of a key")
      }
      guard length == 0 || decoder.userInfo[.acceptHiddenKeys] as? Bool == true else {
        throw refusal(key, "the key is missing")
      }
      return SecretBytes([UInt8](repeating: 0, count: length / 8))
    }
    // The text is never quoted: it may be most of a key.
    guard hex.utf8.count <= 1024, let secret = SecretBytes(hex: hex) else {
      throw refusal(key, "keys are hexadecimal digits, two a byte")
    }
    guard stated == nil || stated == secret.count * 8 else {
      throw refusal(bits, "the key has \(secret.count * 8) bits")
    }
    return secret
  }

  private func refusal(_ key: Key, _ why: String) -> DecodingError {
    .dataCorrupted(DecodingError.Context(codingPath: codingPath + [key], debugDescription: why))
  }
}

extension SecretBytes {
  /// From hexadecimal digits, two a byte; nil if they are not.
  convenience init?(hex: String) {
    let digits = hex.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    guard digits.count == hex.utf8.count, digits.count % 2 == 0 else { return nil }
    var bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    self.init(bytes)
    for i in bytes.indices { bytes[i] = 0 }
  }
}

extension CodingUserInfoKey {
  /// Encoding: true writes key material. Only for root's eyes, and for `load` on its way to the gateway.
  public static let revealKeys = CodingUserInfoKey(rawValue: "gw.revealKeys")!
  /// Decoding: true reads an SA whose keys were withheld.
  public static let acceptHiddenKeys = CodingUserInfoKey(rawValue: "gw.acceptHiddenKeys")!
}
