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

  /// Bytes of key.
  public var keyLength: Int {
    switch self {
    case .unknown, .none: 0
    case .hmacMD5: 16
    case .hmacRIPEMD160, .hmacSHA1: 20
    case .hmacSHA256: 32
    case .hmacSHA384: 48
    case .hmacSHA512: 64
    }
  }

  /// What the engines call it; nil: they do not have it.
  public var algorithm: AuthenticationAlgorithm? {
    switch self {
    case .unknown, .none, .hmacRIPEMD160: nil
    case .hmacMD5: .hmacMD5
    case .hmacSHA1: .hmacSHA1
    case .hmacSHA256: .hmacSHA256
    case .hmacSHA384: .hmacSHA384
    case .hmacSHA512: .hmacSHA512
    }
  }

  public var isWeak: Bool { self == .hmacMD5 || self == .hmacRIPEMD160 || self == .none }
}

/// The names after `enc`.
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

  /// Bytes of key, the nonce of the counter modes included.
  public var keyLengths: ClosedRange<Int> {
    switch self {
    case .unknown, .none, .null: 0...0
    case .tripleDESCBC, .aes192: 24...24
    case .aes: 16...32
    case .aes128: 16...16
    case .aes256: 32...32
    case .aesctr: 20...36
    case .aes128CTR, .aes128GCM, .aes128GMAC: 20...20
    case .aes192CTR, .aes192GCM, .aes192GMAC: 28...28
    case .aes256CTR, .aes256GCM, .aes256GMAC, .chacha20Poly1305: 36...36
    case .blowfish: 5...56
    case .cast128: 5...16
    }
  }

  /// Authenticates by itself, so `auth` has no place beside it.
  public var isAEAD: Bool { algorithm?.isAEAD ?? false }
  /// A nonce used twice breaks it, so never with static keys.
  public var isDisallowedWithStaticKeys: Bool { algorithm?.isCounterMode ?? false }
  public var isWeak: Bool { [.none, .tripleDESCBC, .blowfish, .cast128].contains(self) }

  /// What the engines call it; nil: they do not have it.
  public var algorithm: EncryptionAlgorithm? {
    switch self {
    case .unknown, .none, .blowfish, .cast128: nil
    case .tripleDESCBC: .tripleDESCBC
    case .aes, .aes128, .aes192, .aes256: .aesCBC
    case .aesctr, .aes128CTR, .aes192CTR, .aes256CTR: .aesCTR
    case .aes128GCM, .aes192GCM, .aes256GCM: .aesGCM16
    case .aes128GMAC, .aes192GMAC, .aes256GMAC: .aesGMAC
    case .chacha20Poly1305: .chacha20Poly1305
    case .null: .null
    }
  }
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
