import COpenSSL

/// Unpredictable IVs for CBC (RFC 3602 section 3): AES-256 in counter mode under a random key of this worker, some
/// hundreds of IVs at a time. One worker's.
struct RandomPool {
  static let size = 4096
  private let bytes: UnsafeMutablePointer<UInt64>
  private let context: OpaquePointer
  private var used = size / 16

  /// Nil if OpenSSL has no random bytes to give.
  init?() {
    var seed = [UInt8](repeating: 0, count: 48)
    defer { seed.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
    guard RAND_priv_bytes(&seed, 48) == 1, let context = EVP_CIPHER_CTX_new() else { return nil }
    guard EVP_EncryptInit_ex(context, EVP_aes_256_ctr(), nil, seed, Array(seed[32...])) == 1 else { return nil }
    self.context = context
    bytes = .allocate(capacity: Self.size / 8)
    bytes.initialize(repeating: 0, count: Self.size / 8)
  }

  /// 16 bytes, never given before.
  @inline(__always)
  mutating func next() -> (UInt64, UInt64) {
    if used == Self.size / 16 { refill() }
    let at = used &* 2
    used &+= 1
    return (bytes[at], bytes[at &+ 1])
  }

  /// Encrypts what is there again: key stream over key stream is as unpredictable as over zeros.
  @inline(never)
  private mutating func refill() {
    var written: Int32 = 0
    let raw = UnsafeMutableRawPointer(bytes).assumingMemoryBound(to: UInt8.self)
    EVP_EncryptUpdate(context, raw, &written, raw, Int32(Self.size))
    used = 0
  }

  func deallocate() {
    OPENSSL_cleanse(bytes, Self.size)
    bytes.deallocate()
    EVP_CIPHER_CTX_free(context)
  }
}
