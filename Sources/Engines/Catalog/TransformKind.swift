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

  /// `aes-cbc-128 hmac-sha2-256`, `aes-gcm-16-256` (bytes of ICV, bits of key without salt).
  public var description: String {
    let bits = (encryptionKeyLength - encryption.saltLength) * 8
    let cipher =
      switch encryption {
      case .null: "null"
      case .aesCBC: "aes-cbc-\(bits)"
      case .aesCTR: "aes-ctr-\(bits)"
      case .aesGCM16, .aesGCM12, .aesGCM8: "aes-gcm-\(encryption.icvLength)-\(bits)"
      case .aesCCM16, .aesCCM12, .aesCCM8: "aes-ccm-\(encryption.icvLength)-\(bits)"
      case .aesGMAC: "null-aes-gmac-\(bits)"
      case .chacha20Poly1305: "chacha20-poly1305"
      case .tripleDESCBC: "3des-cbc"
      case .camelliaCBC: "camellia-cbc-\(bits)"
      }
    guard let authentication else { return cipher }
    let mac =
      switch authentication {
      case .hmacMD5: "hmac-md5"
      case .hmacSHA1: "hmac-sha1"
      case .hmacSHA256: "hmac-sha2-256"
      case .hmacSHA384: "hmac-sha2-384"
      case .hmacSHA512: "hmac-sha2-512"
      case .aesXCBC: "aes-xcbc"
      case .aesCMAC: "aes-cmac"
      case .aesGMAC: "aes-gmac-\((authenticationKeyLength - 4) * 8)"
      }
    return "\(cipher) \(mac)"
  }
}
