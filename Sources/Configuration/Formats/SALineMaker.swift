import Engines
import IPsec

/// The names of algorithms as ipsecctl prints them: in the line about an SA, which tells key lengths, and in the lines of
/// `-v`, which are PF_KEY's. What OpenBSD does not have is named in the same manner.
enum SALineMaker {
  static func line(_ sa: SAParameters) -> RuleText.SALine {
    let transform = sa.transform
    var line = RuleText.SALine(
      saProtocol: RuleProtocol(sa.saProtocol), mode: sa.mode, source: "\(sa.source)", destination: "\(sa.destination)",
      spi: sa.spi)
    switch sa.saProtocol {
    case .ipcomp: line.compression = sa.compression.map { "\($0)" }
    case .ipip: break
    case .ah: addAuthentication(transform, &line)
    case .esp:
      addAuthentication(transform, &line)
      line.encryption = encryption(transform)
      line.encryptionKey = transform.encryptionKey
      // OpenBSD keys an AEAD's authentication with the same key and shows it.
      if transform.encryption.isAEAD { line.authenticationKey = transform.encryptionKey }
    }
    return line
  }

  private static func addAuthentication(_ transform: CryptoTransform, _ line: inout RuleText.SALine) {
    guard let algorithm = transform.authentication else { return }
    line.authentication = authentication(algorithm)
    line.authenticationKey = transform.authenticationKey
  }

  static func authentication(_ algorithm: AuthenticationAlgorithm) -> String {
    switch algorithm {
    case .hmacMD5: "hmac-md5"
    case .hmacSHA1: "hmac-sha1"
    case .hmacSHA256: "hmac-sha2-256"
    case .hmacSHA384: "hmac-sha2-384"
    case .hmacSHA512: "hmac-sha2-512"
    case .aesXCBC: "aes-xcbc"
    case .aesCMAC: "aes-cmac"
    case .aesGMAC: "aes-gmac"
    }
  }

  /// With the key's length, except that OpenBSD says just `aes` and `aesctr` for 128 bits.
  private static func encryption(_ transform: CryptoTransform) -> String {
    let bits = (transform.encryptionKey.count - transform.encryption.saltLength) * 8
    let suffix = bits == 128 ? "" : "-\(bits)"
    switch transform.encryption {
    case .null: return "null"
    case .tripleDESCBC: return "3des-cbc"
    case .chacha20Poly1305: return "chacha20-poly1305"
    case .aesCBC: return "aes\(suffix)"
    case .aesCTR: return bits == 128 ? "aesctr" : "aes\(suffix)-ctr"
    case .aesGCM16: return "aes-\(bits)-gcm"
    case .aesGCM12: return "aes-\(bits)-gcm-12"
    case .aesGCM8: return "aes-\(bits)-gcm-8"
    case .aesCCM16: return "aes-\(bits)-ccm"
    case .aesCCM12: return "aes-\(bits)-ccm-12"
    case .aesCCM8: return "aes-\(bits)-ccm-8"
    case .aesGMAC: return "aes-\(bits)-gmac"
    case .camelliaCBC: return "camellia\(suffix)"
    }
  }

  /// `auth` of the `sa:` line.
  static func extensionAuthentication(_ sa: SAParameters) -> String {
    guard sa.saProtocol == .esp || sa.saProtocol == .ah else { return "none" }
    let bits = (sa.transform.encryptionKey.count - sa.transform.encryption.saltLength) * 8
    if sa.saProtocol == .esp {
      switch sa.transform.encryption {
      case .aesGCM16, .aesGCM12, .aesGCM8, .aesGMAC: return "gmac-aes-\(bits)"
      case .aesCCM16, .aesCCM12, .aesCCM8: return "cbc-mac-aes-\(bits)"
      case .chacha20Poly1305: return "chacha20-poly1305"
      default: break
      }
    }
    return sa.transform.authentication.map(authentication) ?? "none"
  }

  /// `enc` of the `sa:` line, without the key's length.
  static func extensionEncryption(_ sa: SAParameters) -> String {
    guard sa.saProtocol == .esp else { return "none" }
    switch sa.transform.encryption {
    case .null: return "null"
    case .tripleDESCBC: return "3des-cbc"
    case .chacha20Poly1305: return "chacha20-poly1305"
    case .aesCBC: return "aes"
    case .aesCTR: return "aesctr"
    case .aesGCM16: return "aes-gcm"
    case .aesGCM12: return "aes-gcm-12"
    case .aesGCM8: return "aes-gcm-8"
    case .aesCCM16: return "aes-ccm"
    case .aesCCM12: return "aes-ccm-12"
    case .aesCCM8: return "aes-ccm-8"
    case .aesGMAC: return "aes-gmac"
    case .camelliaCBC: return "camellia"
    }
  }
}
