import CCrypto
import COpenSSL

typealias OpenSSLTable = UnsafePointer<openssl_cipher>

/// What every record of the OpenSSL engine begins with. The libcrypto contexts are keyed for one direction and belong to
/// the record's worker; per packet only the IV is set.
struct OpenSSLRecord {
  var cipher: OpenSSLTable?
  var context: UnsafeMutableRawPointer?
  /// The MAC's own context, where it is made of a cipher (XCBC, CMAC, GMAC).
  var macCipher: OpenSSLTable?
  var macContext: UnsafeMutableRawPointer?
  var ivLength: UInt32
  var icvLength: UInt32
  /// The cipher's block less one.
  var blockMask: UInt32

  static let destroy: crypto_destroy = { base in
    let memory = SessionMemory.of(base)
    for index in 0..<memory.records {
      let record = memory.record(index).assumingMemoryBound(to: OpenSSLRecord.self).pointee
      // Free wipes: the provider's contexts are cleared on release, as are EVP's.
      if let context = record.context { record.cipher?.pointee.freectx(context) }
      if let context = record.macContext { record.macCipher?.pointee.freectx(context) }
    }
    memory.release()
  }
}

extension OpenSSLTable {
  /// The tag of the message just sealed, to where `tag` says.
  @inline(__always)
  func takeTag(_ context: UnsafeMutableRawPointer, _ tag: UnsafeMutablePointer<OSSL_PARAM>) -> Bool {
    let offset = pointee.tag_offset
    guard offset >= 0, let out = tag.pointee.data else { return pointee.get_ctx_params(context, tag) == 1 }
    out.copyMemory(from: context + offset, byteCount: tag.pointee.data_size)
    return true
  }

  /// Begins to open a message with this nonce and the tag that stands where `tag` says.
  @inline(__always)
  func giveTag(
    _ context: UnsafeMutableRawPointer, _ nonce: UnsafePointer<UInt8>, _ length: Int,
    _ tag: UnsafeMutablePointer<OSSL_PARAM>
  ) -> Bool {
    guard pointee.takes_tag != 0, let given = tag.pointee.data else {
      return pointee.decrypt_init(context, nil, 0, nonce, length, tag) == 1
    }
    guard pointee.decrypt_init(context, nil, 0, nonce, length, nil) == 1 else { return false }
    (context + pointee.tag_offset).copyMemory(from: given, byteCount: tag.pointee.data_size)
    return true
  }
}

/// How far ahead of the job being run the loops touch the session and its context.
enum Lookahead {
  static let session = 4
  static let context = 2
  /// Of GCM's contexts, which are the largest: mode, table of the hash key, round keys.
  static let contextLines = 15

  @inline(__always)
  static func prefetch(_ memory: UnsafeRawPointer, lines: Int) {
    var line = 0
    while line < lines {
      crypto_prefetch(memory + line &* SessionMemory.line)
      line &+= 1
    }
  }
}

extension UnsafeMutablePointer<CryptoJob> {
  /// Brings near what later jobs of the burst will need. `self` is the first job.
  @inline(__always) func prefetchOpenSSL(after index: Int, count: Int) {
    if index &+ Lookahead.session < count {
      let ahead = self + (index &+ Lookahead.session)
      if ahead.pointee.session != (ahead - 1).pointee.session { crypto_prefetch(ahead.pointee.session) }
    }
    if index &+ Lookahead.context < count {
      let ahead = self + (index &+ Lookahead.context)
      guard ahead.pointee.session != (ahead - 1).pointee.session else { return }
      let context = ahead.pointee.session.assumingMemoryBound(to: OpenSSLRecord.self).pointee.context
      guard let context else { return }
      Lookahead.prefetch(context, lines: Lookahead.contextLines)
    }
  }
}
