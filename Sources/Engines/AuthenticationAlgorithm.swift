/// The integrity algorithms of ESP and AH. `AlgorithmCatalog.swift` has all that is known about each, in one row.
public enum AuthenticationAlgorithm: UInt8, Sendable, Hashable, CaseIterable {
  case hmacMD5
  case hmacSHA1
  case hmacSHA256, hmacSHA384, hmacSHA512
  case aesXCBC
  case aesCMAC
  case aesGMAC

  /// Bytes of key material that are accepted, the salt included.
  public var keyLengths: [Int] { row.keyLengths }
  /// Bytes of ICV on the wire (without GMAC's IV).
  public var icvLength: Int { row.icvLength }
  /// RFC 8221 6 says MUST NOT.
  public var isWeak: Bool { row.isWeak }
}

/// The compression algorithms of IPComp.
public enum CompressionAlgorithm: UInt16, Sendable, Hashable, CaseIterable {
  /// RFC 2394; also its well-known CPI.
  case deflate = 2
}
