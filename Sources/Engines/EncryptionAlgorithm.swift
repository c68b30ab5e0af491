/// The encryption algorithms of ESP. `AlgorithmCatalog.swift` has all that is known about each, in one row.
public enum EncryptionAlgorithm: UInt8, Sendable, Hashable, CaseIterable {
  case null
  case aesCBC
  case aesCTR
  case aesGCM16, aesGCM12, aesGCM8
  case aesCCM16, aesCCM12, aesCCM8
  case aesGMAC
  case chacha20Poly1305
  case tripleDESCBC
  case camelliaCBC

  /// Encrypts and authenticates in one; no separate integrity algorithm is given.
  public var isAEAD: Bool { row.mode == .aead }
  /// A (key, nonce) that is used twice breaks it, so it never runs with a static key.
  public var isCounterMode: Bool { row.mode == .aead || row.mode == .counter }
  /// Bytes of key material that are accepted, the salt or nonce included.
  public var keyLengths: [Int] { row.keyLengths }
  /// Trailing bytes of the key material that are salt or nonce.
  public var saltLength: Int { row.saltLength }
  /// Bytes of IV in each packet.
  public var ivLength: Int { row.ivLength }
  /// What payload, padding, pad length and next header together are a multiple of (at least 4, RFC 4303 2.4).
  public var alignment: Int { row.alignment }
  /// Bytes of ICV that an AEAD adds; 0 for the others.
  public var icvLength: Int { row.icvLength }
}
