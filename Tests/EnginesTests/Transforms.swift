@testable import Engines

/// Every transform there is, with every key length.
enum Transforms {
  static let all: [CryptoTransform] = EncryptionAlgorithm.allCases.flatMap { encryption in
    encryption.keyLengths.flatMap { keyLength in
      ([nil] + AuthenticationAlgorithm.allCases.map { Optional($0) }).flatMap { authentication in
        (authentication?.keyLengths ?? [0]).compactMap { authenticationLength in
          let transform = make(encryption, keyLength, authentication, authenticationLength)
          return transform.isMeaningful ? transform : nil
        }
      }
    }
  }

  static func make(
    _ encryption: EncryptionAlgorithm, _ keyLength: Int, _ authentication: AuthenticationAlgorithm? = nil,
    _ authenticationLength: Int = 0, seed: Int = 3
  ) -> CryptoTransform {
    CryptoTransform(
      encryption: encryption, encryptionKey: pattern(keyLength, seed), authentication: authentication,
      authenticationKey: pattern(authenticationLength, seed + 40))
  }

  static func pattern(_ length: Int, _ seed: Int) -> SecretBytes {
    SecretBytes((0..<length).map { UInt8(truncatingIfNeeded: $0 &* 11 &+ seed) })
  }

  static func name(_ transform: CryptoTransform) -> String {
    "\(transform.encryption)-\(transform.encryptionKey.count * 8)"
      + (transform.authentication.map { "+\($0)-\(transform.authenticationKey.count * 8)" } ?? "")
  }
}
