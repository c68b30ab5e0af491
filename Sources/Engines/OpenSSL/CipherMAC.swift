import CCrypto
import COpenSSL

/// AES-XCBC-MAC-96 (RFC 3566) and AES-CMAC-96 (RFC 4494): CBC-MAC whose last block is masked. They differ in how the
/// chaining key and the masks come from the key. The record's `macContext` is AES-128-CBC under the chaining key.
struct CipherMAC: MessageAuthentication {
  typealias Block = (UInt64, UInt64)
  /// XORed into a last block that is full, and into one that was padded.
  var fullMask: Block
  var paddedMask: Block

  @inline(__always)
  static func authenticate(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<CipherMAC>>,
    into out: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    guard let cipher = record.pointee.head.macCipher, let context = record.pointee.head.macContext else { return false }
    var zero: Block = (0, 0)
    guard withUnsafeBytes(of: &zero, { cipher.pointee.encrypt_init(context, nil, 0, $0.bytes, 16, nil) }) == 1 else {
      return false
    }
    let input = job.pointee.authenticated
    let length = Int(job.pointee.authenticated_length)
    let tail = job.pointee.has_sequence_high != 0 ? 4 : 0
    // Whole blocks of the image that are not the last of the stream; what is left is one block or two.
    let head = max(0, min(length & ~15, (length &+ tail &- 1) & ~15))
    return withUnsafeTemporaryAllocation(byteCount: 512, alignment: 16) { scratch in
      guard let space = scratch.bytes else { return false }
      var done = 0
      var offset = 0
      while offset < head {
        let piece = min(512, head &- offset)
        guard cipher.pointee.cipher(context, space, &done, piece, input + offset, piece) == 1 else { return false }
        offset &+= piece
      }
      let rest = length &- head
      space.initialize(repeating: 0, count: 32)
      space.update(from: input + head, count: rest)
      if tail != 0 { (space + rest).update(from: crypto_job_sequence_high(job), count: 4) }
      let blocks = rest &+ tail > 16 ? 2 : 1
      let isPadded = rest &+ tail != blocks &* 16
      if isPadded { space[rest &+ tail] = 0x80 }
      let last = UnsafeMutableRawPointer(space + (blocks &* 16 &- 16)).assumingMemoryBound(to: Block.self)
      let mask = isPadded ? record.pointee.mac.paddedMask : record.pointee.mac.fullMask
      last.pointee.0 ^= mask.0
      last.pointee.1 ^= mask.1
      guard cipher.pointee.cipher(context, space, &done, 32, space, blocks &* 16) == 1 else { return false }
      out.update(from: space + (blocks &* 16 &- 16), count: 16)
      return true
    }
  }
}

extension CipherMAC {
  init(key: UnsafeRawBufferPointer, isCMAC: Bool) {
    if isCMAC {
      // RFC 4493 section 2.3: E(K, 0) doubled once and twice in GF(2^128).
      fullMask = Self.doubled(Self.encryptBlock(key, repeating: 0))
      paddedMask = Self.doubled(fullMask)
    } else {
      fullMask = Self.encryptBlock(key, repeating: 2)
      paddedMask = Self.encryptBlock(key, repeating: 3)
    }
  }

  /// RFC 3566 section 4: K1.
  static func xcbcChainingKey(_ key: UnsafeRawBufferPointer) -> Block { encryptBlock(key, repeating: 1) }

  /// AES-128 of a block of equal bytes. An AES-128 encryption of 16 bytes that libcrypto has at all does not fail.
  private static func encryptBlock(_ key: UnsafeRawBufferPointer, repeating byte: UInt8) -> Block {
    let context = EVP_CIPHER_CTX_new()
    defer { EVP_CIPHER_CTX_free(context) }
    var block: Block = (UInt64(byte) &* 0x0101_0101_0101_0101, UInt64(byte) &* 0x0101_0101_0101_0101)
    withUnsafeMutableBytes(of: &block) { block in
      var length: Int32 = 0
      let done =
        EVP_EncryptInit_ex(context, EVP_aes_128_ecb(), nil, key.bytes, nil) == 1
        && EVP_EncryptUpdate(context, block.bytes, &length, block.bytes, 16) == 1
      precondition(done, "libcrypto without AES")
    }
    return block
  }

  private static func doubled(_ block: Block) -> Block {
    let high = UInt64(bigEndian: block.0)
    let low = UInt64(bigEndian: block.1)
    let carry: UInt64 = high >> 63 == 1 ? 0x87 : 0
    return ((high << 1 | low >> 63).bigEndian, (low << 1 ^ carry).bigEndian)
  }
}

/// AUTH_AES_*_GMAC for AH (RFC 4543 section 4): the image is the additional data.
struct GMAC: MessageAuthentication {
  @inline(__always)
  static func authenticate(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<GMAC>>,
    into out: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    guard let cipher = record.pointee.head.macCipher, let context = record.pointee.head.macContext else { return false }
    let length = Int(job.pointee.authenticated_length)
    var done = 0
    guard cipher.pointee.encrypt_init(context, nil, 0, crypto_job_nonce(job), 12, nil) == 1,
      cipher.pointee.update(context, nil, &done, length, job.pointee.authenticated, length) == 1,
      job.pointee.has_sequence_high == 0
        || cipher.pointee.update(context, nil, &done, 4, crypto_job_sequence_high(job), 4) == 1,
      cipher.pointee.final(context, out, &done, 16) == 1
    else { return false }
    var tag = (openssl_tag_parameter(out, 16), openssl_end_parameter())
    return withUnsafeMutableBytes(of: &tag) { parameters in
      guard let first = parameters.baseAddress else { return false }
      return cipher.takeTag(context, first.assumingMemoryBound(to: OSSL_PARAM.self))
    }
  }
}

/// ESP without integrity (RFC 4303 allows it; policy may not).
struct NoAuthentication: MessageAuthentication {
  @inline(__always)
  static func authenticate(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<NoAuthentication>>,
    into out: UnsafeMutablePointer<UInt8>
  ) -> Bool { true }
}

extension UnsafeRawBufferPointer {
  var bytes: UnsafePointer<UInt8>? { baseAddress?.assumingMemoryBound(to: UInt8.self) }
}

extension UnsafeMutableRawBufferPointer {
  var bytes: UnsafeMutablePointer<UInt8>? { baseAddress?.assumingMemoryBound(to: UInt8.self) }
}
