import CIPsecMB
import COpenSSL

/// A session of the multi-buffer path, for one worker: what its jobs have in common. The key schedules that it points
/// to are shared by all workers and stand behind the records.
struct IPsecMBRecord {
  var worker: UnsafeMutablePointer<IPsecMBWorker>
  var encryptionKeys: UnsafeRawPointer?
  var decryptionKeys: UnsafeRawPointer?
  /// HMAC: inner and outer state. XCBC: K1's schedule, K2, K3. CMAC: the schedule and both subkeys.
  var mac: (UnsafeRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?)
  var keyLength: UInt32
  var ivLength: UInt32
  var icvLength: UInt32
  var blockMask: UInt32
  var cipher: IMB_CIPHER_MODE
  var hash: IMB_HASH_ALG
  var direction: IMB_CIPHER_DIRECTION
  var order: IMB_CHAIN_ORDER

  /// Without keys.
  init(worker: UnsafeMutablePointer<IPsecMBWorker>, transform: CryptoTransform, isSeal: Bool) {
    self.worker = worker
    mac = (nil, nil, nil)
    keyLength = UInt32(transform.cipherKey.count)
    ivLength = UInt32(transform.encryption.nonceLength)
    icvLength = UInt32(transform.icvLength)
    blockMask = UInt32(transform.encryption.blockLength - 1)
    direction = isSeal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT
    order = isSeal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER
    switch transform.encryption {
    case .aesCBC: cipher = IMB_CIPHER_CBC
    case .aesCTR: cipher = IMB_CIPHER_CNTR
    case .chacha20Poly1305: cipher = IMB_CIPHER_CHACHA20_POLY1305
    case .aesCCM16, .aesCCM12, .aesCCM8:
      cipher = IMB_CIPHER_CCM
      // CCM's MAC is over the plaintext.
      order = isSeal ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH
    default: cipher = IMB_CIPHER_NULL
    }
    switch transform.authentication {
    case .hmacMD5: hash = IMB_AUTH_MD5
    case .hmacSHA1: hash = IMB_AUTH_HMAC_SHA_1
    case .hmacSHA256: hash = IMB_AUTH_HMAC_SHA_256
    case .hmacSHA384: hash = IMB_AUTH_HMAC_SHA_384
    case .hmacSHA512: hash = IMB_AUTH_HMAC_SHA_512
    case .aesXCBC: hash = IMB_AUTH_AES_XCBC
    case .aesCMAC: hash = IMB_AUTH_AES_CMAC
    default:
      hash =
        transform.encryption.isCCM
        ? IMB_AUTH_AES_CCM
        : transform.encryption == .chacha20Poly1305 ? IMB_AUTH_CHACHA20_POLY1305 : IMB_AUTH_NULL
    }
  }
}

/// The key schedules of one session, in parts that are aligned to 16 bytes as the library wants them.
struct IPsecMBKeys {
  private static let encryption = 0
  private static let decryption = 256
  private static let mac = (512, 768, 832)
  /// AES: 15 round keys each way. HMAC: two states of 64 bytes.
  static let size = 896

  let base: UnsafeMutableRawPointer
  let manager: UnsafeMutablePointer<IMB_MGR>

  /// Expands the keys of `transform` at `base` and points `record` to them.
  func expand(_ transform: CryptoTransform, into record: inout IPsecMBRecord) {
    expandCipher(transform, into: &record)
    let parts = (base + Self.mac.0, base + Self.mac.1, base + Self.mac.2)
    let key = transform.macKey
    switch transform.authentication {
    case .hmacMD5: hmac(key, manager.pointee.md5_one_block, blockLength: 64)
    case .hmacSHA1: hmac(key, manager.pointee.sha1_one_block, blockLength: 64)
    case .hmacSHA256: hmac(key, manager.pointee.sha256_one_block, blockLength: 64)
    case .hmacSHA384: hmac(key, manager.pointee.sha384_one_block, blockLength: 128)
    case .hmacSHA512: hmac(key, manager.pointee.sha512_one_block, blockLength: 128)
    case .aesXCBC:
      manager.pointee.xcbc_keyexp(key.baseAddress, parts.0, parts.1, parts.2)
    case .aesCMAC:
      withUnsafeTemporaryAllocation(byteCount: 256, alignment: 16) { unused in
        manager.pointee.keyexp_128(key.baseAddress, parts.0, unused.baseAddress)
        OPENSSL_cleanse(unused.baseAddress, unused.count)
      }
      manager.pointee.cmac_subkey_gen_128(parts.0, parts.1, parts.2)
    case .aesGMAC, nil: return
    }
    record.mac = (UnsafeRawPointer(parts.0), UnsafeRawPointer(parts.1), UnsafeRawPointer(parts.2))
  }

  private func expandCipher(_ transform: CryptoTransform, into record: inout IPsecMBRecord) {
    let key = transform.cipherKey
    let encryption = base + Self.encryption
    let decryption = base + Self.decryption
    record.encryptionKeys = UnsafeRawPointer(encryption)
    record.decryptionKeys = UnsafeRawPointer(encryption)
    switch transform.encryption {
    case .aesCBC, .aesCTR, .aesCCM16, .aesCCM12, .aesCCM8:
      let expand =
        switch key.count {
        case 16: manager.pointee.keyexp_128
        case 24: manager.pointee.keyexp_192
        default: manager.pointee.keyexp_256
        }
      expand?(key.baseAddress, encryption, decryption)
      if transform.encryption == .aesCBC { record.decryptionKeys = UnsafeRawPointer(decryption) }
    case .chacha20Poly1305:
      encryption.copyMemory(from: key.baseAddress.unsafelyUnwrapped, byteCount: key.count)
    default: return
    }
  }

  /// The states after the inner and the outer pad.
  private func hmac(_ key: UnsafeRawBufferPointer, _ hash: hash_one_block_t?, blockLength: Int) {
    withUnsafeTemporaryAllocation(byteCount: blockLength, alignment: 16) { pad in
      for (byte, part) in [(0x36 as UInt8, Self.mac.0), (0x5c, Self.mac.1)] {
        for index in 0..<blockLength { pad[index] = byte ^ (index < key.count ? key[index] : 0) }
        hash?(pad.baseAddress, base + part)
      }
      OPENSSL_cleanse(pad.baseAddress, pad.count)
    }
  }
}
