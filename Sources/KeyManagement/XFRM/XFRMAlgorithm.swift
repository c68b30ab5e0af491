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
  static func aead(_ algorithm: XFRMAlgorithm) throws(KeyRefusal) -> EncryptionAlgorithm {
    let known = EncryptionAlgorithm.allCases.first { candidate in
      candidate.isAEAD && candidate.row.xfrm.contains(algorithm.name)
        && candidate.icvLength * 8 == Int(algorithm.icvBits)
    }
    guard let known else {
      throw .noAlgorithm("AEAD algorithm \(algorithm.name) with an ICV of \(algorithm.icvBits) bits is not supported")
    }
    return known
  }

  static func encryption(_ algorithm: XFRMAlgorithm) throws(KeyRefusal) -> EncryptionAlgorithm {
    let known = EncryptionAlgorithm.allCases.first { !$0.isAEAD && $0.row.xfrm.contains(algorithm.name) }
    guard let known else { throw .noAlgorithm("Encryption algorithm \(algorithm.name) is not supported") }
    return known
  }

  /// `truncated`: the ICV length was given.
  static func authentication(
    _ algorithm: XFRMAlgorithm, truncated: Bool, policy: KeyPolicy
  ) throws(KeyRefusal) -> AuthenticationAlgorithm {
    guard let known = AuthenticationAlgorithm.allCases.first(where: { $0.row.xfrm.contains(algorithm.name) }) else {
      throw .noAlgorithm("Authentication algorithm \(algorithm.name) is not supported")
    }
    guard policy.allowsWeakAlgorithms || !known.isWeak else {
      throw .noAlgorithm("Authentication algorithm \(algorithm.name) is weak and not allowed by the configuration")
    }
    let bits = truncated ? Int(algorithm.icvBits) : known.row.xfrmDefaultICVBits
    guard bits == known.icvLength * 8 else {
      throw .noAlgorithm(
        "\(algorithm.name) with an ICV of \(bits) bits is not supported, only \(known.icvLength * 8) bits")
    }
    return known
  }

  static func checkKey(_ key: SecretBytes, lengths: [Int], of name: String) throws(KeyRefusal) {
    guard lengths.contains(key.count) else {
      let allowed = lengths.map { String($0 * 8) }.joined(separator: " or ")
      throw .invalid("Invalid key of \(key.count * 8) bits for \(name), which takes \(allowed)")
    }
  }

  static func name(_ algorithm: EncryptionAlgorithm) -> String { algorithm.row.xfrm.first ?? "unknown" }

  static func name(_ algorithm: AuthenticationAlgorithm) -> String { algorithm.row.xfrm.first ?? "gmac(aes)" }
}
