extension CryptoTransform {
  /// What makes it protect less than it seems to; nil: nothing is known against it. Such a transform needs `allow-weak`.
  public var weakness: String? {
    if encryption != .null, !encryption.isAEAD, authentication == nil {
      // AH around it does not make up for it: RFC 8221 4 advises against that, too.
      return "enc without auth does not keep what it encrypts secret (RFC 8221 4, RFC 3686 8)"
    }
    if authentication == .hmacMD5 { return "auth hmac-md5 is weak" }
    if encryption == .tripleDESCBC, hasEqualDESKeys {
      return "a 3des key with two equal neighbours is a DES key (RFC 2451 2.6)"
    }
    return nil
  }

  /// But for the parity, the lowest bit of each byte.
  private var hasEqualDESKeys: Bool {
    let key = encryptionKey.bytes
    guard key.count == 24 else { return false }
    func differ(_ a: Int, _ b: Int) -> Bool { (0..<8).reduce(0) { $0 | (key[a + $1] ^ key[b + $1]) & 0xfe } != 0 }
    let (first, second) = (differ(0, 8), differ(8, 16))
    return !first || !second
  }
}
