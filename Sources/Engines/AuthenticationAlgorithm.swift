/// The integrity algorithms of ESP and AH.
public enum AuthenticationAlgorithm: UInt8, Sendable, Hashable, CaseIterable {
  /// RFC 2403; refused unless weak algorithms are asked for.
  case hmacMD5
  /// RFC 2404.
  case hmacSHA1
  /// RFC 4868: 256-128, 384-192, 512-256.
  case hmacSHA256, hmacSHA384, hmacSHA512
  /// RFC 3566.
  case aesXCBC
  /// RFC 4494.
  case aesCMAC
  /// RFC 4543, AUTH_AES_*_GMAC for AH: an 8 byte IV leads the ICV; the 4 byte salt follows the key.
  case aesGMAC

  /// Bytes of key material accepted, salt included.
  public var keyLengths: [Int] {
    switch self {
    case .hmacMD5, .aesXCBC, .aesCMAC: [16]
    case .hmacSHA1: [20]
    case .hmacSHA256: [32]
    case .hmacSHA384: [48]
    case .hmacSHA512: [64]
    case .aesGMAC: [20, 28, 36]
    }
  }

  /// Bytes of ICV on the wire (without GMAC's IV).
  @inlinable public var icvLength: Int {
    switch self {
    case .hmacMD5, .hmacSHA1, .aesXCBC, .aesCMAC: 12
    case .hmacSHA256, .aesGMAC: 16
    case .hmacSHA384: 24
    case .hmacSHA512: 32
    }
  }

  @inlinable public var isWeak: Bool { self == .hmacMD5 }
}

/// The compression algorithms of IPComp.
public enum CompressionAlgorithm: UInt16, Sendable, Hashable, CaseIterable {
  /// RFC 2394; also its well-known CPI.
  case deflate = 2
}
