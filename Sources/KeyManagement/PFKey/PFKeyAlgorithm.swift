import Engines
import IPsec

/// PF_KEY's numbers of the algorithms, which differ a little between the dialects.
struct PFKeyAlgorithms {
  struct Encryption {
    var number: UInt8
    var algorithm: EncryptionAlgorithm
  }

  struct Authentication {
    var number: UInt8
    var algorithm: AuthenticationAlgorithm
  }

  let dialect: PFKeyDialect
  let policy: KeyPolicy

  /// OpenBSD's numbers for the integrity half of its combined modes: by key length for GMAC, one for ChaCha20-Poly1305.
  private static let gmac: [Int: UInt8] = [20: 9, 28: 10, 36: 11]
  private static let polyChaCha: UInt8 = 12
  static let null: UInt8 = 11
  static let deflate: UInt8 = 2

  /// Those that the dialect has a number for, by number.
  var encryptions: [Encryption] {
    EncryptionAlgorithm.allCases.compactMap { algorithm in
      number(algorithm).map { Encryption(number: $0, algorithm: algorithm) }
    }.sorted { $0.number < $1.number }
  }

  var authentications: [Authentication] {
    AuthenticationAlgorithm.allCases.filter { policy.allowsWeakAlgorithms || !$0.isWeak }.compactMap { algorithm in
      number(algorithm).map { Authentication(number: $0, algorithm: algorithm) }
    }
  }

  private func number(_ algorithm: EncryptionAlgorithm) -> UInt8? {
    dialect == .linux ? algorithm.row.pfkeyLinux : algorithm.row.pfkeyOpenBSD
  }

  private func number(_ algorithm: AuthenticationAlgorithm) -> UInt8? {
    dialect == .linux ? algorithm.row.pfkeyLinux : algorithm.row.pfkeyOpenBSD
  }

  // MARK: In

  func encryption(_ number: UInt8) throws(KeyRefusal) -> EncryptionAlgorithm {
    guard let known = encryptions.first(where: { $0.number == number }) else {
      throw unknown("encryption algorithm \(number)")
    }
    return known.algorithm
  }

  /// Nil for none, and for the integrity half of a combined mode.
  func authentication(_ number: UInt8, with encryption: EncryptionAlgorithm) throws(KeyRefusal)
    -> AuthenticationAlgorithm?
  {
    if number == 0 || (dialect == .linux && number == 251) { return nil }
    if encryption.isAEAD {
      guard dialect == .openBSD, (9...12).contains(number) else {
        throw .invalid("a combined mode takes no authentication algorithm")
      }
      return nil
    }
    guard let known = authentications.first(where: { $0.number == number }) else {
      throw unknown("authentication algorithm \(number)")
    }
    return known.algorithm
  }

  /// The answer of each kernel.
  private func unknown(_ what: String) -> KeyRefusal {
    dialect == .linux ? .noAlgorithm("\(what) is not supported") : .invalid("\(what) is not supported")
  }

  // MARK: Out

  /// The numbers of an SA's algorithms.
  func numbers(_ parameters: SAParameters) -> (authentication: UInt8, encryption: UInt8) {
    let transform = parameters.transform
    if parameters.saProtocol == .ipcomp { return (0, Self.deflate) }
    guard parameters.saProtocol == .esp || parameters.saProtocol == .ah else { return (0, 0) }
    let encryption = number(transform.encryption) ?? 0
    var authentication = transform.authentication.flatMap(number) ?? 0
    if dialect == .openBSD, transform.encryption.isAEAD {
      authentication =
        transform.encryption == .chacha20Poly1305
        ? Self.polyChaCha : Self.gmac[transform.encryptionKey.count] ?? 0
    }
    return (authentication, parameters.saProtocol == .esp ? encryption : 0)
  }

  /// SADB_EXT_SUPPORTED_AUTH, _ENCRYPT and, for OpenBSD, _COMP: `struct sadb_alg`, 8 bytes each.
  func appendSupported(to builder: inout ByteBuilder) {
    builder.pfkeyExtension(.supportedAuthentication) { builder in
      builder.zeros(4)
      for entry in authentications {
        append(entry.number, ivBytes: 0, lengths: entry.algorithm.keyLengths, to: &builder)
      }
    }
    builder.pfkeyExtension(.supportedEncryption) { builder in
      builder.zeros(4)
      for entry in encryptions {
        append(entry.number, ivBytes: entry.algorithm.ivLength, lengths: entry.algorithm.keyLengths, to: &builder)
      }
    }
    guard dialect == .openBSD else { return }
    builder.pfkeyExtension(.supportedCompression) { builder in
      builder.zeros(4)
      append(Self.deflate, ivBytes: 0, lengths: [0], to: &builder)
    }
  }

  /// Linux gives the IV's length in bytes, OpenBSD in bits.
  private func append(_ number: UInt8, ivBytes: Int, lengths: [Int], to builder: inout ByteBuilder) {
    builder.append(number)
    builder.append(UInt8(dialect == .linux ? ivBytes : ivBytes * 8))
    builder.append(UInt16((lengths.first ?? 0) * 8))
    builder.append(UInt16((lengths.last ?? 0) * 8))
    builder.zeros(2)
  }
}
