import COpenSSL
import Synchronization

/// The ciphers of libcrypto that were asked for so far, each looked up, checked and kept for the life of the process.
struct OpenSSLCiphers: Sendable {
  enum Source: Sendable {
    /// The provider's functions if they are complete and agree with EVP, else EVP.
    case checked
    case direct, evp
  }

  private struct Entry: @unchecked Sendable {
    let table: OpenSSLTable
    let isDirect: Bool
  }

  private static let known = Mutex<[String: Entry]>([:])

  /// What libcrypto calls `encryption` under a key of `keyLength` bytes, salt excluded.
  static func name(_ encryption: EncryptionAlgorithm, keyLength: Int) -> String? {
    let bits = keyLength * 8
    switch encryption {
    case .null: return nil
    case .aesCBC: return "AES-\(bits)-CBC"
    case .aesCTR: return "AES-\(bits)-CTR"
    case .aesGCM16, .aesGCM12, .aesGCM8, .aesGMAC: return "AES-\(bits)-GCM"
    case .aesCCM16, .aesCCM12, .aesCCM8: return "AES-\(bits)-CCM"
    case .chacha20Poly1305: return "ChaCha20-Poly1305"
    case .tripleDESCBC: return "DES-EDE3-CBC"
    case .camelliaCBC: return "CAMELLIA-\(bits)-CBC"
    }
  }

  /// `sample`: a transform that uses the cipher, for the check.
  static func find(
    _ name: String, _ source: Source, sample: @autoclosure () -> CryptoTransform
  ) throws(CryptoEngineError) -> OpenSSLTable {
    let key = source == .checked ? name : "\(name) \(source)"
    if let entry = known.withLock({ $0[key] }) { return entry.table }
    var entry: Entry?
    if source != .evp { entry = load(name, isDirect: true) }
    if source == .checked, let direct = entry, !agreesWithEVP(sample()) {
      direct.table.deallocate()
      entry = nil
    }
    if entry == nil, source != .direct { entry = load(name, isDirect: false) }
    guard let entry else { throw .library("libcrypto has no \(name)") }
    return known.withLock { known in
      if let other = known[key] {
        entry.table.deallocate()
        return other.table
      }
      known[key] = entry
      return entry.table
    }
  }

  /// Whether sessions that use `name` call the provider directly; false also if none was made yet.
  static func isDirect(_ name: String) -> Bool { known.withLock { $0[name]?.isDirect ?? false } }

  /// A context keyed for one direction. Each packet then sets its IV alone, and its tag. `tagLength`: CCM's, or that of
  /// what is opened by a cipher that takes tags where the context keeps them.
  static func makeContext(
    _ table: OpenSSLTable, key: UnsafeRawBufferPointer, ivLength: Int, isSeal: Bool, tagLength: Int?
  ) throws(CryptoEngineError) -> UnsafeMutableRawPointer {
    let cipher = table.pointee
    guard let context = cipher.newctx(cipher.owner) else { throw .library("libcrypto made no cipher context") }
    var length = ivLength
    var iv: (UInt64, UInt64) = (0, 0)
    var tag: (UInt64, UInt64) = (0, 0)
    // CCM's key schedule depends on the lengths of IV and tag, so they go first. The others' IV is fixed.
    let initialise = isSeal ? cipher.encrypt_init : cipher.decrypt_init
    let done = withUnsafeMutablePointer(to: &length) { length in
      withUnsafeBytes(of: &iv) { iv in
        var parameters = [openssl_end_parameter()]
        if let tagLength, cipher.takes_tag == 0 {
          parameters.insert(openssl_tag_parameter(nil, tagLength), at: 0)
          parameters.insert(openssl_iv_length_parameter(length), at: 0)
        }
        guard initialise(context, nil, 0, nil, 0, parameters) == 1,
          initialise(context, key.bytes, key.count, iv.bytes, ivLength, nil) == 1
        else { return false }
        guard let tagLength, cipher.takes_tag != 0 else { return true }
        return withUnsafeMutableBytes(of: &tag) { tag in
          cipher.set_ctx_params(context, [openssl_tag_parameter(tag.baseAddress, tagLength), openssl_end_parameter()])
            == 1
        }
      }
    }
    guard done else {
      cipher.freectx(context)
      throw .library("libcrypto refused the key")
    }
    return context
  }

  /// Bytes of key of the AEADs whose tag can be read where the context keeps it.
  private static func tagKeyLength(_ name: String) -> Int? {
    switch name {
    case "AES-128-GCM": 16
    case "AES-192-GCM": 24
    case "AES-256-GCM", "ChaCha20-Poly1305": 32
    default: nil
    }
  }

  private static func load(_ name: String, isDirect: Bool) -> Entry? {
    let table = UnsafeMutablePointer<openssl_cipher>.allocate(capacity: 1)
    guard (isDirect ? openssl_cipher_direct(name, table) : openssl_cipher_evp(name, table)) == 1 else {
      table.deallocate()
      return nil
    }
    if isDirect, let keyLength = tagKeyLength(name) {
      openssl_cipher_find_tag(table, keyLength, name == "ChaCha20-Poly1305" ? [16, 0] : [16, 12, 8, 0])
    }
    return Entry(table: OpenSSLTable(table), isDirect: isDirect)
  }

  /// Seals by both, opens by both; at lengths with and without a partial block.
  private static func agreesWithEVP(_ sample: CryptoTransform) -> Bool {
    for length in [0, 16, 48, 100, 1424] {
      guard let direct = exercise(sample, .direct, length), let evp = exercise(sample, .evp, length), direct == evp
      else { return false }
    }
    return true
  }

  /// What two packets in a row look like sealed; nil if they do not open again, or open when tampered with.
  private static func exercise(_ sample: CryptoTransform, _ source: Source, _ length: Int) -> [[UInt8]]? {
    let engine = OpenSSLEngine(source: source)
    guard let seal = try? engine.makeSession(sample, direction: .seal, workers: 1),
      let open = try? engine.makeSession(sample, direction: .open, workers: 1)
    else { return nil }
    defer {
      seal.destroy()
      open.destroy()
    }
    let burst = SampleBurst(sample, textLength: length, count: 2)
    let plain = (0..<2).map(burst.text)
    guard burst.run(seal) else { return nil }
    let sealed = (0..<2).map { burst.text($0) + burst.icv($0) }
    guard burst.run(open), (0..<2).map(burst.text) == plain else { return nil }
    if sample.icvLength > 0 {
      burst.refill()
      guard burst.run(seal) else { return nil }
      burst.jobs[1].icv[0] ^= 1
      guard !burst.run(open) else { return nil }
    }
    return sealed
  }
}
