import Engines

/// The names after `auth`. A name may be cut short: the first in this order that begins so is meant.
public enum AuthenticationName: String, Sendable, CaseIterable {
  case unknown, none
  case hmacMD5 = "hmac-md5"
  case hmacRIPEMD160 = "hmac-ripemd160"
  case hmacSHA1 = "hmac-sha1"
  case hmacSHA256 = "hmac-sha2-256"
  case hmacSHA384 = "hmac-sha2-384"
  case hmacSHA512 = "hmac-sha2-512"

  /// What a name means, and what the key daemons call it. Empty: they do not have it.
  public struct Row: Sendable {
    /// Nil: the engines do not have it.
    public var algorithm: AuthenticationAlgorithm?
    /// Bytes of key.
    public var keyLength = 0
    public var isWeak = false
    /// strongSwan's keyword.
    public var charon = ""
    public var isakmpd = ""
    /// isakmpd has it for phase 1 too.
    public var isPhase1 = true
    /// iked's words for IKE SAs and for child SAs.
    public var ikedIKE = ""
    public var ikedChild = ""
  }

  public var row: Row {
    switch self {
    case .unknown: Row()
    case .none: Row(isWeak: true)
    case .hmacMD5:
      Row(
        algorithm: .hmacMD5, keyLength: 16, isWeak: true, charon: "md5", isakmpd: "MD5", ikedIKE: "hmac-md5",
        ikedChild: "hmac-md5")
    case .hmacRIPEMD160: Row(keyLength: 20, isWeak: true, isakmpd: "RIPEMD", isPhase1: false)
    case .hmacSHA1:
      Row(
        algorithm: .hmacSHA1, keyLength: 20, charon: "sha1", isakmpd: "SHA", ikedIKE: "hmac-sha1",
        ikedChild: "hmac-sha1")
    case .hmacSHA256:
      // iked on Linux asks the kernel for an ICV of 96 bits, which is not RFC 4868's.
      Row(algorithm: .hmacSHA256, keyLength: 32, charon: "sha256", isakmpd: "SHA2_256", ikedIKE: "hmac-sha2-256")
    case .hmacSHA384:
      Row(
        algorithm: .hmacSHA384, keyLength: 48, charon: "sha384", isakmpd: "SHA2_384", ikedIKE: "hmac-sha2-384",
        ikedChild: "hmac-sha2-384")
    case .hmacSHA512:
      Row(
        algorithm: .hmacSHA512, keyLength: 64, charon: "sha512", isakmpd: "SHA2_512", ikedIKE: "hmac-sha2-512",
        ikedChild: "hmac-sha2-512")
    }
  }

  /// Bytes of key.
  public var keyLength: Int { row.keyLength }
  /// What the engines call it; nil: they do not have it.
  public var algorithm: AuthenticationAlgorithm? { row.algorithm }
  public var isWeak: Bool { row.isWeak }
}

/// The names after `enc`. A name may be cut short: the first in this order that begins so is meant.
public enum EncryptionName: String, Sendable, CaseIterable {
  case unknown, none
  case tripleDESCBC = "3des-cbc"
  case aes
  case aes128 = "aes-128"
  case aes192 = "aes-192"
  case aes256 = "aes-256"
  case aesctr
  case aes128CTR = "aes-128-ctr"
  case aes192CTR = "aes-192-ctr"
  case aes256CTR = "aes-256-ctr"
  case aes128GCM = "aes-128-gcm"
  case aes192GCM = "aes-192-gcm"
  case aes256GCM = "aes-256-gcm"
  case aes128GMAC = "aes-128-gmac"
  case aes192GMAC = "aes-192-gmac"
  case aes256GMAC = "aes-256-gmac"
  case blowfish
  case cast128
  case chacha20Poly1305 = "chacha20-poly1305"
  case null

  /// What a name means, and what the key daemons call it. Empty: they do not have it.
  public struct Row: Sendable {
    /// Nil: the engines do not have it.
    public var algorithm: EncryptionAlgorithm?
    /// Bytes of key, the nonce of the counter modes included.
    public var keyLengths: ClosedRange<Int> = 0...0
    public var isWeak = false
    /// strongSwan's keywords, the preferred one first.
    public var charon: [String] = []
    /// isakmpd's name, and `default,min:max` of the key in bits where the name has several lengths.
    public var isakmpd = ""
    public var isakmpdBits: String?
    /// isakmpd has it for phase 1 too.
    public var isPhase1 = false
    /// iked's words for IKE SAs and for child SAs.
    public var ikedIKE: [String] = []
    public var ikedChild: [String] = []
  }

  public var row: Row {
    switch self {
    case .unknown: Row()
    case .none: Row(isWeak: true)
    case .tripleDESCBC:
      Row(
        algorithm: .tripleDESCBC, keyLengths: 24...24, isWeak: true, charon: ["3des"], isakmpd: "3DES", isPhase1: true,
        ikedIKE: ["3des-cbc"], ikedChild: ["3des-cbc"])
    case .aes:
      Row(
        algorithm: .aesCBC, keyLengths: 16...32, charon: ["aes128", "aes192", "aes256"], isakmpd: "AES",
        isakmpdBits: "128,128:256", isPhase1: true, ikedIKE: Self.ikedAES, ikedChild: Self.ikedAES)
    case .aes128: aes(128)
    case .aes192: aes(192)
    case .aes256: aes(256)
    case .aesctr:
      Row(
        algorithm: .aesCTR, keyLengths: 20...36, charon: ["aes128ctr"], isakmpd: "AES_CTR", isakmpdBits: "128,128:128")
    case .aes128CTR: counter(.aesCTR, 128, charon: "ctr", isakmpd: "AES_CTR")
    case .aes192CTR: counter(.aesCTR, 192, charon: "ctr", isakmpd: "AES_CTR")
    case .aes256CTR: counter(.aesCTR, 256, charon: "ctr", isakmpd: "AES_CTR")
    case .aes128GCM: counter(.aesGCM16, 128, charon: "gcm16", isakmpd: "AES_GCM_16", ikedIKE: ["aes-128-gcm"])
    case .aes192GCM: counter(.aesGCM16, 192, charon: "gcm16", isakmpd: "AES_GCM_16")
    case .aes256GCM: counter(.aesGCM16, 256, charon: "gcm16", isakmpd: "AES_GCM_16", ikedIKE: ["aes-256-gcm"])
    case .aes128GMAC: counter(.aesGMAC, 128, charon: "gmac", isakmpd: "AES_GMAC")
    case .aes192GMAC: counter(.aesGMAC, 192, charon: "gmac", isakmpd: "AES_GMAC")
    case .aes256GMAC: counter(.aesGMAC, 256, charon: "gmac", isakmpd: "AES_GMAC")
    case .blowfish:
      Row(
        keyLengths: 5...56, isWeak: true, charon: ["blowfish128"], isakmpd: "BLOWFISH", isakmpdBits: "128,96:192",
        isPhase1: true, ikedChild: ["blowfish"])
    case .cast128:
      Row(
        keyLengths: 5...16, isWeak: true, charon: ["cast128"], isakmpd: "CAST", isPhase1: true, ikedChild: ["cast128"])
    case .chacha20Poly1305:
      Row(
        algorithm: .chacha20Poly1305, keyLengths: 36...36, charon: ["chacha20poly1305"],
        ikedChild: ["chacha20-poly1305"])
    case .null: Row(algorithm: .null, charon: ["null"], isakmpd: "NULL")
    }
  }

  private static let ikedAES = ["aes-128", "aes-192", "aes-256"]

  private func aes(_ bits: Int) -> Row {
    Row(
      algorithm: .aesCBC, keyLengths: bits / 8...bits / 8, charon: ["aes\(bits)"], isakmpd: "AES",
      isakmpdBits: "\(bits),\(bits):\(bits)", isPhase1: true, ikedIKE: [rawValue], ikedChild: [rawValue])
  }

  /// AES in a mode whose key material ends with a salt of 4 bytes.
  private func counter(
    _ algorithm: EncryptionAlgorithm, _ bits: Int, charon: String, isakmpd: String, ikedIKE: [String] = []
  ) -> Row {
    Row(
      algorithm: algorithm, keyLengths: bits / 8 + 4...bits / 8 + 4, charon: ["aes\(bits)\(charon)"], isakmpd: isakmpd,
      isakmpdBits: "\(bits),\(bits):\(bits)", ikedIKE: ikedIKE)
  }

  /// Bytes of key, the nonce of the counter modes included.
  public var keyLengths: ClosedRange<Int> { row.keyLengths }
  /// Authenticates by itself, so `auth` has no place beside it.
  public var isAEAD: Bool { algorithm?.isAEAD ?? false }
  /// A nonce that is used twice breaks it, so it never runs with static keys.
  public var isDisallowedWithStaticKeys: Bool { algorithm?.isCounterMode ?? false }
  public var isWeak: Bool { row.isWeak }
  /// What the engines call it; nil: they do not have it.
  public var algorithm: EncryptionAlgorithm? { row.algorithm }
}

/// The names after `comp`.
public enum CompressionName: String, Sendable, CaseIterable {
  case unknown, deflate
}

/// The groups after `group`, by IANA's numbers.
public enum DiffieHellmanGroup: Int, Sendable, CaseIterable {
  case unknown = -1
  case none = 0
  case modp768 = 1
  case modp1024 = 2
  case modp1536 = 5
  case modp2048 = 14
  case modp3072 = 15
  case modp4096 = 16
  case modp6144 = 17
  case modp8192 = 18
  case ecp256 = 19
  case ecp384 = 20
  case ecp521 = 21
  case ecp224 = 26
  case bp224 = 27
  case bp256 = 28
  case bp384 = 29
  case bp512 = 30

  /// Each group goes by its own name and by `grp` and its number.
  static let names: [(String, Self)] = allCases.flatMap { group -> [(String, Self)] in
    let name = "\(group)"
    return group.rawValue > 0 ? [(name, group), ("grp\(group.rawValue)", group)] : [(name, group)]
  }
}

enum TransformName {
  /// The first name that begins with `text`, as OpenBSD matches them.
  static func match<Name: RawRepresentable & CaseIterable>(_ text: String, _: Name.Type) -> Name?
  where Name.RawValue == String {
    Name.allCases.first { $0.rawValue.hasPrefix(text) }
  }

  static func group(_ text: String) -> DiffieHellmanGroup? {
    DiffieHellmanGroup.names.first { $0.0.hasPrefix(text) }?.1
  }
}

/// `auth`, `enc`, `comp` and `group`, as far as they are given.
public struct Transforms: Sendable, Hashable {
  public var authentication: AuthenticationName?
  public var encryption: EncryptionName?
  public var compression: CompressionName?
  public var group: DiffieHellmanGroup?
  public init() {}
}
