import Engines

/// The algorithms of the benchmark, with keys that are the same every time.
enum Algorithm: String, CaseIterable, Sendable {
  case aes128gcm = "aes-128-gcm"
  case aes256gcm = "aes-256-gcm"
  case cbcSHA256 = "aes-128-cbc-sha256"
  case chacha20 = "chacha20-poly1305"
  /// No IPsec: what the rest of the path costs.
  case forward

  func transform(_ sa: Int) -> CryptoTransform {
    switch self {
    case .aes128gcm: CryptoTransform(encryption: .aesGCM16, encryptionKey: key(sa, 20))
    case .aes256gcm: CryptoTransform(encryption: .aesGCM16, encryptionKey: key(sa, 36))
    case .cbcSHA256:
      CryptoTransform(
        encryption: .aesCBC, encryptionKey: key(sa, 16), authentication: .hmacSHA256, authenticationKey: key(sa + 7, 32)
      )
    case .chacha20, .forward: CryptoTransform(encryption: .chacha20Poly1305, encryptionKey: key(sa, 36))
    }
  }

  private func key(_ sa: Int, _ count: Int) -> SecretBytes { SecretBytes(Self.keyBytes(sa, count)) }

  /// `Perf/compare` makes the same: no two SAs have one key.
  static func keyBytes(_ sa: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 < 4 ? sa >> (8 &* $0) : sa &* 17 &+ $0 &* 29 &+ 5) }
  }
}
