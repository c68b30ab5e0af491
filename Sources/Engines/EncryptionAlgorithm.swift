/// The ESP encryption algorithms, each with the properties that its RFC fixes.
public enum EncryptionAlgorithm: UInt8, Sendable, Hashable, CaseIterable {
  /// RFC 2410.
  case null
  /// RFC 3602; 16, 24 or 32 byte keys.
  case aesCBC
  /// RFC 3686; the 4 byte nonce follows the key.
  case aesCTR
  /// RFC 4106 with a 16, 12 or 8 byte ICV; the 4 byte salt follows the key.
  case aesGCM16, aesGCM12, aesGCM8
  /// RFC 4309 with a 16, 12 or 8 byte ICV; the 3 byte salt follows the key.
  case aesCCM16, aesCCM12, aesCCM8
  /// RFC 4543, ENCR_NULL_AUTH_AES_GMAC: nothing is encrypted, everything authenticated.
  case aesGMAC
  /// RFC 7634; the 4 byte salt follows the 32 byte key.
  case chacha20Poly1305
  /// RFC 2451; legacy peers.
  case tripleDESCBC
  /// RFC 4312.
  case camelliaCBC

  /// Encrypts and authenticates in one; no separate integrity algorithm is given.
  @inlinable public var isAEAD: Bool {
    switch self {
    case .aesGCM16, .aesGCM12, .aesGCM8, .aesCCM16, .aesCCM12, .aesCCM8, .aesGMAC, .chacha20Poly1305: true
    default: false
    }
  }

  /// A repeated (key, nonce) breaks it, so it never runs with a static key.
  @inlinable public var isCounterMode: Bool { isAEAD || self == .aesCTR }

  /// Bytes of key material accepted, the salt or nonce included.
  public var keyLengths: [Int] {
    switch self {
    case .null: [0]
    case .aesCBC, .camelliaCBC: [16, 24, 32]
    case .aesCTR, .aesGCM16, .aesGCM12, .aesGCM8, .aesGMAC: [20, 28, 36]
    case .aesCCM16, .aesCCM12, .aesCCM8: [19, 27, 35]
    case .chacha20Poly1305: [36]
    case .tripleDESCBC: [24]
    }
  }

  /// Trailing bytes of the key material that are salt or nonce.
  @inlinable public var saltLength: Int {
    switch self {
    case .null, .aesCBC, .camelliaCBC, .tripleDESCBC: 0
    case .aesCCM16, .aesCCM12, .aesCCM8: 3
    default: 4
    }
  }

  /// Bytes of IV carried in each packet.
  @inlinable public var ivLength: Int {
    switch self {
    case .null: 0
    case .aesCBC, .camelliaCBC: 16
    default: 8
    }
  }

  /// What payload, padding, pad length and next header together are a multiple of (4 at the least, RFC 4303 2.4).
  @inlinable public var alignment: Int {
    switch self {
    case .aesCBC, .camelliaCBC: 16
    case .tripleDESCBC: 8
    default: 4
    }
  }

  /// Bytes of ICV that an AEAD adds; 0 for the others.
  @inlinable public var icvLength: Int {
    switch self {
    case .aesGCM16, .aesCCM16, .aesGMAC, .chacha20Poly1305: 16
    case .aesGCM12, .aesCCM12: 12
    case .aesGCM8, .aesCCM8: 8
    default: 0
    }
  }
}
