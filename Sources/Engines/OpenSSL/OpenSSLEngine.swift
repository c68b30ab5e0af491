import CCrypto
import COpenSSL

/// libcrypto: every algorithm, and the oracle of the others. Its default provider's functions are called directly where
/// they are all there and agree with EVP, else EVP is.
public struct OpenSSLEngine: CryptoEngine {
  public var name: String { "openssl" }
  public var version: String { OpenSSL_version(OPENSSL_VERSION).map { String(cString: $0) } ?? "" }
  private let source: OpenSSLCiphers.Source

  public init() { self.init(source: .checked) }
  init(source: OpenSSLCiphers.Source) { self.source = source }

  public func supports(_ transform: CryptoTransform) -> Bool { transform.isMeaningful }

  public func makeSession(
    _ transform: CryptoTransform, direction: CryptoDirection, workers: Int
  ) throws(CryptoEngineError) -> CryptoSession {
    try transform.check()
    let maker = SessionMaker(transform: transform, direction: direction, workers: workers, source: source)
    // Each function pointer is a literal closure of its own, so that its loop is compiled for its MAC.
    switch transform.authentication {
    case nil where transform.encryption.isAEAD:
      return try maker.aead()
    case nil:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, NoAuthentication.self) },
        open: { OpenSSLComposition.open($0, $1, NoAuthentication.self) }
      ) { _ in NoAuthentication() }
    case .hmacMD5:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, HMAC<MD5Digest>.self) },
        open: { OpenSSLComposition.open($0, $1, HMAC<MD5Digest>.self) }
      ) { HMAC<MD5Digest>(key: $0) }
    case .hmacSHA1:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, HMAC<SHA1Digest>.self) },
        open: { OpenSSLComposition.open($0, $1, HMAC<SHA1Digest>.self) }
      ) { HMAC<SHA1Digest>(key: $0) }
    case .hmacSHA256:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, HMAC<SHA256Digest>.self) },
        open: { OpenSSLComposition.open($0, $1, HMAC<SHA256Digest>.self) }
      ) { HMAC<SHA256Digest>(key: $0) }
    case .hmacSHA384:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, HMAC<SHA384Digest>.self) },
        open: { OpenSSLComposition.open($0, $1, HMAC<SHA384Digest>.self) }
      ) { HMAC<SHA384Digest>(key: $0) }
    case .hmacSHA512:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, HMAC<SHA512Digest>.self) },
        open: { OpenSSLComposition.open($0, $1, HMAC<SHA512Digest>.self) }
      ) { HMAC<SHA512Digest>(key: $0) }
    case .aesXCBC, .aesCMAC:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, CipherMAC.self) },
        open: { OpenSSLComposition.open($0, $1, CipherMAC.self) }
      ) { CipherMAC(key: $0, isCMAC: transform.authentication == .aesCMAC) }
    case .aesGMAC:
      return try maker.composed(
        seal: { OpenSSLComposition.seal($0, $1, GMAC.self) },
        open: { OpenSSLComposition.open($0, $1, GMAC.self) }
      ) { _ in GMAC() }
    }
  }
}

/// Makes the records of one session.
private struct SessionMaker {
  let transform: CryptoTransform
  let direction: CryptoDirection
  let workers: Int
  let source: OpenSSLCiphers.Source

  func aead() throws(CryptoEngineError) -> CryptoSession {
    let isSeal = direction == .seal
    let burst: CryptoBurst =
      switch transform.encryption {
      case .aesGMAC: isSeal ? OpenSSLAEAD.sealGMAC : OpenSSLAEAD.openGMAC
      case .aesCCM16, .aesCCM12, .aesCCM8: isSeal ? OpenSSLAEAD.sealCCM : OpenSSLAEAD.openCCM
      default: isSeal ? OpenSSLAEAD.seal : OpenSSLAEAD.open
      }
    return try session(SessionMemory(record: MemoryLayout<OpenSSLRecord>.size, count: workers), burst)
  }

  /// `mac` makes the MAC's keyed part from its key.
  func composed<MAC: MessageAuthentication>(
    seal: @escaping CryptoBurst, open: @escaping CryptoBurst, mac: (UnsafeRawBufferPointer) -> MAC
  ) throws(CryptoEngineError) -> CryptoSession {
    let memory = SessionMemory(record: MemoryLayout<ComposedRecord<MAC>>.size, count: workers)
    let session = try session(memory, direction == .seal ? seal : open)
    for worker in 0..<workers {
      let record = memory.record(worker).assumingMemoryBound(to: ComposedRecord<MAC>.self)
      record.pointee.mac = mac(transform.macKey)
    }
    return session
  }

  /// Keys the head of each record.
  private func session(
    _ memory: SessionMemory, _ burst: @escaping CryptoBurst
  ) throws(CryptoEngineError) -> CryptoSession {
    do {
      for worker in 0..<workers {
        let head = memory.record(worker).assumingMemoryBound(to: OpenSSLRecord.self)
        head.pointee.ivLength = UInt32(transform.encryption.nonceLength)
        head.pointee.icvLength = UInt32(transform.icvLength)
        head.pointee.blockMask = UInt32(transform.encryption.blockLength - 1)
        try keyCipher(head)
        try keyMAC(head)
      }
    } catch {
      OpenSSLRecord.destroy(memory.base)
      throw error
    }
    return CryptoSession(
      burst: burst, base: memory.base, stride: memory.stride, footprint: memory.footprint,
      destroyer: OpenSSLRecord.destroy)
  }

  private func keyCipher(_ head: UnsafeMutablePointer<OpenSSLRecord>) throws(CryptoEngineError) {
    let key = transform.cipherKey
    guard let name = OpenSSLCiphers.name(transform.encryption, keyLength: key.count) else { return }
    let table = try OpenSSLCiphers.find(name, source, sample: transform.sample(keyed: key.count))
    head.pointee.cipher = table
    let takesTag = direction == .open && table.pointee.takes_tag != 0
    head.pointee.context = try OpenSSLCiphers.makeContext(
      table, key: key, ivLength: transform.encryption.nonceLength, isSeal: direction == .seal,
      tagLength: transform.encryption.isCCM || takesTag ? transform.icvLength : nil)
  }

  private func keyMAC(_ head: UnsafeMutablePointer<OpenSSLRecord>) throws(CryptoEngineError) {
    let key = transform.macKey
    let cipher: EncryptionAlgorithm
    switch transform.authentication {
    case .aesXCBC, .aesCMAC: cipher = .aesCBC
    case .aesGMAC: cipher = .aesGCM16
    default: return
    }
    guard let name = OpenSSLCiphers.name(cipher, keyLength: key.count) else { return }
    let sample = CryptoTransform(encryption: cipher).sample(keyed: key.count)
    let table = try OpenSSLCiphers.find(name, source, sample: sample)
    head.pointee.macCipher = table
    // The MAC is computed forward in both directions.
    func make(_ key: UnsafeRawBufferPointer) throws(CryptoEngineError) -> UnsafeMutableRawPointer {
      try OpenSSLCiphers.makeContext(table, key: key, ivLength: cipher.nonceLength, isSeal: true, tagLength: nil)
    }
    guard transform.authentication == .aesXCBC else {
      head.pointee.macContext = try make(key)
      return
    }
    var chaining = CipherMAC.xcbcChainingKey(key)
    let made = withUnsafeMutableBytes(of: &chaining) { chaining in
      defer { OPENSSL_cleanse(chaining.baseAddress, chaining.count) }
      return Result { () throws(CryptoEngineError) in try make(UnsafeRawBufferPointer(chaining)) }
    }
    head.pointee.macContext = try made.get()
  }
}

extension CryptoTransform {
  /// The same cipher alone, with a made-up key of `length` bytes besides the salt.
  func sample(keyed length: Int) -> CryptoTransform {
    CryptoTransform(
      encryption: encryption,
      encryptionKey: SecretBytes((0..<length + encryption.saltLength).map { UInt8($0 &* 5 &+ 1) }))
  }
}
