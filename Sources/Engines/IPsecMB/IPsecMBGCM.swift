import CCrypto
import CIPsecMB

/// GCM and GMAC through the library's direct functions: synchronous, stateless, so one record serves all workers.
struct IPsecMBGCMRecord {
  /// GCM: seals or opens with this key's length. As in `IPsecMBGCMCode`.
  var run: aes_gcm_enc_dec_t?
  var runLong: aes_gcm_enc_dec_t?
  var longFrom = InlineArray<8, UInt16>(repeating: .max)
  /// GMAC.
  var start: aes_gmac_init_t?
  var update: aes_gmac_update_t?
  var finish: aes_gmac_finalize_t?
  var icvLength: UInt32

  /// For a text of `length` bytes.
  @inline(__always)
  func run(_ length: UInt32) -> aes_gcm_enc_dec_t? {
    length >> 7 >= UInt32(longFrom[unchecked: Int(length >> 4 & 7)]) ? runLong : run
  }

  /// `gcm_key_data` stands in the cache lines behind the record.
  static let keyOffset = SessionMemory.line
}

enum IPsecMBGCM {
  /// The round keys and the powers of the hash key, as much as small packets touch.
  private static let hotLines = 7
  /// Behind them the AVX code's own powers, which long texts may take.
  private static let longLines = 2
  private static let leastLong: UInt32 = 768

  @inline(__always)
  private static func eachJob(
    _ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int,
    _ body: (
      _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<IPsecMBGCMRecord>, _ key: OpaquePointer,
      _ context: UnsafeMutablePointer<gcm_context_data>, _ tag: UnsafeMutablePointer<UInt8>
    ) -> Bool
  ) {
    withUnsafeTemporaryAllocation(of: gcm_context_data.self, capacity: 2) { space in
      guard let context = space.baseAddress else { return }
      let tag = UnsafeMutableRawPointer(context + 1).assumingMemoryBound(to: UInt8.self)
      var index = 0
      while index < count {
        if index &+ Lookahead.context < count {
          let ahead = jobs + (index &+ Lookahead.context)
          crypto_prefetch(ahead.pointee.text)
          if ahead.pointee.session != (ahead - 1).pointee.session {
            Lookahead.prefetch(ahead.pointee.session, lines: hotLines)
            if ahead.pointee.text_length >= leastLong {
              Lookahead.prefetch(ahead.pointee.session + hotLines * SessionMemory.line, lines: longLines)
            }
          }
        }
        let job = jobs + index
        let session = job.pointee.session
        let record = session.assumingMemoryBound(to: IPsecMBGCMRecord.self)
        let done = body(job, record, OpaquePointer(session + IPsecMBGCMRecord.keyOffset), context, tag)
        job.pointee.succeeded = done ? 1 : 0
        index &+= 1
      }
    }
  }

  static let seal: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, record, key, context, _ in
      guard let run = record.pointee.run(job.pointee.text_length) else { return false }
      let text = job.pointee.text
      run(
        key, context, text, text, UInt64(job.pointee.text_length), crypto_job_nonce(job), crypto_job_aad(job),
        UInt64(job.pointee.aad_length), job.pointee.icv, UInt64(record.pointee.icvLength))
      return true
    }
  }

  static let open: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, record, key, context, tag in
      guard let run = record.pointee.run(job.pointee.text_length) else { return false }
      let text = job.pointee.text
      run(
        key, context, text, text, UInt64(job.pointee.text_length), crypto_job_nonce(job), crypto_job_aad(job),
        UInt64(job.pointee.aad_length), tag, 16)
      return crypto_icv_equal(tag, job.pointee.icv, record.pointee.icvLength) != 0
    }
  }

  /// RFC 4543, ESP: AAD, the IV before the text, the text.
  static let sealESP: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, record, key, context, _ in
      authenticateESP(job, record, key, context, job.pointee.icv)
    }
  }

  static let openESP: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, record, key, context, tag in
      authenticateESP(job, record, key, context, tag) && crypto_icv_equal(tag, job.pointee.icv, 16) != 0
    }
  }

  /// RFC 4543, AH: the image and what is above 32 bits of the sequence number.
  static let sealAH: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, record, key, context, _ in
      authenticateAH(job, record, key, context, job.pointee.icv)
    }
  }

  static let openAH: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, record, key, context, tag in
      authenticateAH(job, record, key, context, tag) && crypto_icv_equal(tag, job.pointee.icv, 16) != 0
    }
  }

  @inline(__always)
  private static func authenticateESP(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<IPsecMBGCMRecord>, _ key: OpaquePointer,
    _ context: UnsafeMutablePointer<gcm_context_data>, _ tag: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    guard let start = record.pointee.start, let update = record.pointee.update, let finish = record.pointee.finish
    else { return false }
    start(key, context, crypto_job_nonce(job), 12)
    update(key, context, crypto_job_aad(job), UInt64(job.pointee.aad_length))
    update(key, context, job.pointee.text - 8, UInt64(job.pointee.text_length) &+ 8)
    finish(key, context, tag, 16)
    return true
  }

  @inline(__always)
  private static func authenticateAH(
    _ job: UnsafeMutablePointer<CryptoJob>, _ record: UnsafeMutablePointer<IPsecMBGCMRecord>, _ key: OpaquePointer,
    _ context: UnsafeMutablePointer<gcm_context_data>, _ tag: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    guard let start = record.pointee.start, let update = record.pointee.update, let finish = record.pointee.finish
    else { return false }
    start(key, context, crypto_job_nonce(job), 12)
    update(key, context, job.pointee.authenticated, UInt64(job.pointee.authenticated_length))
    if job.pointee.has_sequence_high != 0 { update(key, context, crypto_job_sequence_high(job), 4) }
    finish(key, context, tag, 16)
    return true
  }
}
