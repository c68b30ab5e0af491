/// A transform without its keys: what is tested, measured and picked.
public struct TransformKind: Hashable, Sendable, CustomStringConvertible {
  public var encryption: EncryptionAlgorithm
  /// Bytes, salt included, as `EncryptionAlgorithm.keyLengths` has them.
  public var encryptionKeyLength: Int
  public var authentication: AuthenticationAlgorithm?
  public var authenticationKeyLength: Int

  public init(_ transform: CryptoTransform) {
    encryption = transform.encryption
    encryptionKeyLength = transform.encryptionKey.count
    authentication = transform.authentication
    authenticationKeyLength = transform.authenticationKey.count
  }

  /// With made-up keys.
  var sample: CryptoTransform {
    CryptoTransform(
      encryption: encryption,
      encryptionKey: SecretBytes((0..<encryptionKeyLength).map { UInt8(truncatingIfNeeded: $0 &* 5 &+ 1) }),
      authentication: authentication,
      authenticationKey: SecretBytes((0..<authenticationKeyLength).map { UInt8(truncatingIfNeeded: $0 &* 3 &+ 2) }))
  }

  /// Every kind that makes sense in ESP or AH.
  public static let all: [TransformKind] = EncryptionAlgorithm.allCases.flatMap { encryption in
    encryption.keyLengths.flatMap { keyLength in
      let cipher = CryptoTransform(
        encryption: encryption, encryptionKey: SecretBytes([UInt8](repeating: 0, count: keyLength)))
      let alone = [TransformKind(cipher)]
      return alone
        + AuthenticationAlgorithm.allCases.flatMap { authentication in
          authentication.keyLengths.compactMap { macLength in
            var both = cipher
            both.authentication = authentication
            both.authenticationKey = SecretBytes([UInt8](repeating: 0, count: macLength))
            return both.isMeaningful ? TransformKind(both) : nil
          }
        }
    }
  }

  /// `aes-cbc-128 hmac-sha2-256`, `aes-gcm-16-256`: bytes of ICV, bits of key without salt where several are possible.
  public var description: String {
    let prefix = encryption == .aesGMAC ? "null-" : ""
    let cipher =
      prefix + encryption.row.name + suffix(encryptionKeyLength - encryption.saltLength, encryption.keyLengths)
    guard let authentication else { return cipher }
    let row = authentication.row
    return cipher + " " + row.name + suffix(authenticationKeyLength - row.saltLength, row.keyLengths)
  }

  private func suffix(_ bytes: Int, _ lengths: [Int]) -> String { lengths.count > 1 ? "-\(bytes * 8)" : "" }
}
