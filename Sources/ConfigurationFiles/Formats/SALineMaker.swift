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

  static func authentication(_ algorithm: AuthenticationAlgorithm) -> String { algorithm.row.name }

  /// With the key's length, except where OpenBSD has a shorter word for 128 bits.
  private static func encryption(_ transform: CryptoTransform) -> String {
    let (row, bits) = (transform.encryption.row, cipherBits(transform))
    if bits == 128, let word = row.ipsecctl128 { return word }
    return row.ipsecctl.replacing("*", with: "\(bits)")
  }

  private static func cipherBits(_ transform: CryptoTransform) -> Int {
    (transform.encryptionKey.count - transform.encryption.saltLength) * 8
  }

  /// `auth` of the `sa:` line.
  static func extensionAuthentication(_ sa: SAParameters) -> String {
    guard sa.saProtocol == .esp || sa.saProtocol == .ah else { return "none" }
    if sa.saProtocol == .esp, let word = sa.transform.encryption.row.extensionIntegrity {
      return word.replacing("*", with: "\(cipherBits(sa.transform))")
    }
    return sa.transform.authentication.map(authentication) ?? "none"
  }

  /// `enc` of the `sa:` line, without the key's length.
  static func extensionEncryption(_ sa: SAParameters) -> String {
    sa.saProtocol == .esp ? sa.transform.encryption.row.extensionWord : "none"
  }
}
