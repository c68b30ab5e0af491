import Engines
import Glibc

/// XFRMA_ALG_…: a name, a key, and for some the length of the ICV.
struct XFRMAlgorithm {
  enum Shape {
    /// `struct xfrm_algo`: ALG_AUTH, ALG_CRYPT, ALG_COMP.
    case plain
    /// `struct xfrm_algo_aead` and `xfrm_algo_auth`: ICV length in bits before the key.
    case withICV
  }

  var name: String
  var key: SecretBytes
  /// 0 where the shape has none.
  var icvBits: UInt32

  init(_ name: String, key: SecretBytes = SecretBytes([]), icvBits: UInt32 = 0) {
    self.name = name
    self.key = key
    self.icvBits = icvBits
  }

  init(from cursor: ByteCursor, shape: Shape) throws(KeyRefusal) {
    var cursor = cursor
    name = cursor.string(64)
    let bits = cursor.uint32()
    icvBits = shape == .withICV ? cursor.uint32() : 0
    let length = Int(bits / 8) + (bits % 8 == 0 ? 0 : 1)
    guard cursor.remaining >= length else { throw .invalid("Invalid length of the key of \(name)") }
    key = SecretBytes(cursor.take(length))
  }

  func encode(into builder: inout ByteBuilder, shape: Shape) {
    builder.append(name, size: 64)
    builder.append(UInt32(key.count * 8))
    if shape == .withICV { builder.append(icvBits) }
    builder.append(bytes: key.bytes)
  }
}

/// The kernel's names of the algorithms.
enum XFRMAlgorithmName {
  /// Combined modes, each with its ICV in bits.
  static let aead: [(name: String, icvBits: UInt32, algorithm: EncryptionAlgorithm)] = [
    ("rfc4106(gcm(aes))", 128, .aesGCM16), ("rfc4106(gcm(aes))", 96, .aesGCM12), ("rfc4106(gcm(aes))", 64, .aesGCM8),
    ("rfc4309(ccm(aes))", 128, .aesCCM16), ("rfc4309(ccm(aes))", 96, .aesCCM12), ("rfc4309(ccm(aes))", 64, .aesCCM8),
    ("rfc4543(gcm(aes))", 128, .aesGMAC), ("rfc7539esp(chacha20,poly1305)", 128, .chacha20Poly1305),
  ]
  /// The first name of an algorithm is the one given out.
  static let encryption: [(name: String, algorithm: EncryptionAlgorithm)] = [
    ("ecb(cipher_null)", .null), ("cipher_null", .null), ("cbc(aes)", .aesCBC), ("aes", .aesCBC),
    ("rfc3686(ctr(aes))", .aesCTR), ("cbc(des3_ede)", .tripleDESCBC), ("des3_ede", .tripleDESCBC),
    ("cbc(camellia)", .camelliaCBC), ("camellia", .camelliaCBC),
  ]
  /// With the ICV that the kernel takes where ALG_AUTH gives none.
  static let authentication: [(name: String, algorithm: AuthenticationAlgorithm, defaultICVBits: UInt32)] = [
    ("hmac(md5)", .hmacMD5, 96), ("md5", .hmacMD5, 96), ("hmac(sha1)", .hmacSHA1, 96), ("sha1", .hmacSHA1, 96),
    ("hmac(sha256)", .hmacSHA256, 96), ("sha256", .hmacSHA256, 96), ("hmac(sha384)", .hmacSHA384, 192),
    ("hmac(sha512)", .hmacSHA512, 256), ("xcbc(aes)", .aesXCBC, 96), ("cmac(aes)", .aesCMAC, 96),
  ]

  static func aead(_ algorithm: XFRMAlgorithm) throws(KeyRefusal) -> EncryptionAlgorithm {
    guard let known = aead.first(where: { $0.name == algorithm.name && $0.icvBits == algorithm.icvBits }) else {
      throw .noAlgorithm("AEAD algorithm \(algorithm.name) with an ICV of \(algorithm.icvBits) bits is not supported")
    }
    return known.algorithm
  }

  static func encryption(_ algorithm: XFRMAlgorithm) throws(KeyRefusal) -> EncryptionAlgorithm {
    guard let known = encryption.first(where: { $0.name == algorithm.name }) else {
      throw .noAlgorithm("Encryption algorithm \(algorithm.name) is not supported")
    }
    return known.algorithm
  }

  /// `truncated`: the ICV length was given.
  static func authentication(
    _ algorithm: XFRMAlgorithm, truncated: Bool, policy: KeyPolicy
  ) throws(KeyRefusal) -> AuthenticationAlgorithm {
    guard let known = authentication.first(where: { $0.name == algorithm.name }) else {
      throw .noAlgorithm("Authentication algorithm \(algorithm.name) is not supported")
    }
    guard policy.allowsWeakAlgorithms || !known.algorithm.isWeak else {
      throw .noAlgorithm("Authentication algorithm \(algorithm.name) is weak and not allowed by the configuration")
    }
    let bits = truncated ? algorithm.icvBits : known.defaultICVBits
    guard bits == known.algorithm.icvLength * 8 else {
      throw .noAlgorithm(
        "\(algorithm.name) with an ICV of \(bits) bits is not supported, only \(known.algorithm.icvLength * 8) bits")
    }
    return known.algorithm
  }

  static func checkKey(_ key: SecretBytes, lengths: [Int], of name: String) throws(KeyRefusal) {
    guard lengths.contains(key.count) else {
      let allowed = lengths.map { String($0 * 8) }.joined(separator: " or ")
      throw .invalid("Invalid key of \(key.count * 8) bits for \(name), which takes \(allowed)")
    }
  }

  static func name(_ algorithm: EncryptionAlgorithm) -> String {
    if let combined = aead.first(where: { $0.algorithm == algorithm }) { return combined.name }
    return encryption.first { $0.algorithm == algorithm }?.name ?? "unknown"
  }

  static func name(_ algorithm: AuthenticationAlgorithm) -> String {
    authentication.first { $0.algorithm == algorithm }?.name ?? "gmac(aes)"
  }
}
