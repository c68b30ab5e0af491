import CCrypto
import COpenSSL

/// A cipher (or none) and a MAC (or none), encrypt-then-MAC.
struct ComposedRecord<MAC: MessageAuthentication> {
  var head: OpenSSLRecord
  var mac: MAC
}

/// The loops of everything that is not an AEAD.
enum OpenSSLComposition {
  @inline(__always)
  static func seal<MAC: MessageAuthentication>(_ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int, _: MAC.Type) {
    withUnsafeTemporaryAllocation(byteCount: 64, alignment: 16) { digest in
      guard let tag = digest.bytes else { return }
      var index = 0
      while index < count {
        jobs.prefetchOpenSSL(after: index, count: count)
        let job = jobs + index
        let record = job.pointee.session.assumingMemoryBound(to: ComposedRecord<MAC>.self)
        let succeeded = encrypt(job, record) && MAC.authenticate(job, record, into: tag)
        if succeeded { job.pointee.icv.update(from: tag, count: Int(record.pointee.head.icvLength)) }
        job.pointee.succeeded = succeeded ? 1 : 0
        index &+= 1
      }
    }
  }

  @inline(__always)
  static func open<MAC: MessageAuthentication>(_ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int, _: MAC.Type) {
    withUnsafeTemporaryAllocation(byteCount: 64, alignment: 16) { digest in
      guard let tag = digest.bytes else { return }
      var index = 0
      while index < count {
        jobs.prefetchOpenSSL(after: index, count: count)
        let job = jobs + index
        let record = job.pointee.session.assumingMemoryBound(to: ComposedRecord<MAC>.self)
        let succeeded =
          MAC.authenticate(job, record, into: tag)
          && crypto_icv_equal(tag, job.pointee.icv, record.pointee.head.icvLength) != 0 && decrypt(job, record)
        job.pointee.succeeded = succeeded ? 1 : 0
        index &+= 1
      }
    }
  }

  @inline(__always)
  private static func encrypt<MAC: MessageAuthentication>(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<MAC>>
  ) -> Bool {
    guard let cipher = record.pointee.head.cipher else { return true }
    guard let context = record.pointee.head.context, job.pointee.text_length & record.pointee.head.blockMask == 0,
      cipher.pointee.encrypt_init(context, nil, 0, crypto_job_nonce(job), Int(record.pointee.head.ivLength), nil) == 1
    else { return false }
    return run(job, cipher, context)
  }

  @inline(__always)
  private static func decrypt<MAC: MessageAuthentication>(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<ComposedRecord<MAC>>
  ) -> Bool {
    guard let cipher = record.pointee.head.cipher else { return true }
    guard let context = record.pointee.head.context, job.pointee.text_length & record.pointee.head.blockMask == 0,
      cipher.pointee.decrypt_init(context, nil, 0, crypto_job_nonce(job), Int(record.pointee.head.ivLength), nil) == 1
    else { return false }
    return run(job, cipher, context)
  }

  @inline(__always)
  private static func run(
    _ job: UnsafeMutablePointer<CryptoJob>, _ cipher: OpenSSLTable, _ context: UnsafeMutableRawPointer
  ) -> Bool {
    let length = Int(job.pointee.text_length)
    var done = 0
    return length == 0 || cipher.pointee.cipher(context, job.pointee.text, &done, length, job.pointee.text, length) == 1
  }
}
