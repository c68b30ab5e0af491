import CCrypto

/// The loops of GCM and GMAC on VAES (`gcm_vaes.h`). A session is one `gcm_vaes_key` for all workers.
enum NativeGCM {
  @inline(__always)
  private static func eachJob(
    _ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int,
    _ body: (
      _ job: UnsafeMutablePointer<CryptoJob>, _ key: UnsafeMutablePointer<gcm_vaes_key>,
      _ tag: UnsafeMutablePointer<UInt8>
    ) -> Bool
  ) {
    withUnsafeTemporaryAllocation(byteCount: 16, alignment: 16) { space in
      guard let tag = space.bytes else { return }
      var index = 0
      while index < count {
        prefetch(jobs, index, count)
        let job = jobs + index
        let done = body(job, job.pointee.session.assumingMemoryBound(to: gcm_vaes_key.self), tag)
        job.pointee.succeeded = done ? 1 : 0
        index &+= 1
      }
    }
  }

  @inline(__always)
  private static func prefetch(_ jobs: UnsafeMutablePointer<CryptoJob>, _ index: Int, _ count: Int) {
    guard index &+ Lookahead.session < count else { return }
    let ahead = jobs + (index &+ Lookahead.session)
    crypto_prefetch(ahead.pointee.text)
    guard ahead.pointee.session != (ahead - 1).pointee.session else { return }
    let lines = (MemoryLayout<gcm_vaes_key>.size &+ SessionMemory.line &- 1) / SessionMemory.line
    Lookahead.prefetch(ahead.pointee.session, lines: lines)
  }

  static let seal: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, key, _ in
      gcm_vaes_seal(
        key, crypto_job_nonce(job), crypto_job_aad(job), job.pointee.aad_length, job.pointee.text,
        Int(job.pointee.text_length), job.pointee.icv)
      return true
    }
  }

  static let open: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, key, tag in
      gcm_vaes_open(
        key, crypto_job_nonce(job), crypto_job_aad(job), job.pointee.aad_length, job.pointee.text,
        Int(job.pointee.text_length), tag)
      return crypto_icv_equal(tag, job.pointee.icv, key.pointee.icv_length) != 0
    }
  }

  static let sealESP: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, key, _ in
      authenticateESP(job, key, job.pointee.icv)
      return true
    }
  }

  static let openESP: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, key, tag in
      authenticateESP(job, key, tag)
      return crypto_icv_equal(tag, job.pointee.icv, 16) != 0
    }
  }

  static let sealAH: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, key, _ in
      authenticateAH(job, key, job.pointee.icv)
      return true
    }
  }

  static let openAH: CryptoBurst = { jobs, count in
    eachJob(jobs, count) { job, key, tag in
      authenticateAH(job, key, tag)
      return crypto_icv_equal(tag, job.pointee.icv, 16) != 0
    }
  }

  /// RFC 4543: AAD (8 or 12 bytes) and the start of the IV make one block; the rest stands in the packet in one run.
  @inline(__always)
  private static func authenticateESP(
    _ job: UnsafeMutablePointer<CryptoJob>, _ key: UnsafeMutablePointer<gcm_vaes_key>,
    _ tag: UnsafeMutablePointer<UInt8>
  ) {
    let iv = UnsafeRawPointer(job.pointee.text - 8)
    let aad = UnsafeMutableRawPointer(crypto_job_aad(job))
    let isExtended = job.pointee.aad_length == 12
    if isExtended {
      aad.storeBytes(of: iv.loadUnaligned(as: UInt32.self), toByteOffset: 12, as: UInt32.self)
    } else {
      aad.storeBytes(of: iv.loadUnaligned(as: UInt64.self), toByteOffset: 8, as: UInt64.self)
    }
    let rest = Int(job.pointee.text_length) &+ (isExtended ? 4 : 0)
    gcm_vaes_authenticate(
      key, crypto_job_nonce(job), crypto_job_aad(job), job.pointee.text - (isExtended ? 4 : 0), rest, nil, tag)
  }

  @inline(__always)
  private static func authenticateAH(
    _ job: UnsafeMutablePointer<CryptoJob>, _ key: UnsafeMutablePointer<gcm_vaes_key>,
    _ tag: UnsafeMutablePointer<UInt8>
  ) {
    let last = job.pointee.has_sequence_high != 0 ? crypto_job_sequence_high(job) : nil
    gcm_vaes_authenticate(
      key, crypto_job_nonce(job), nil, job.pointee.authenticated, Int(job.pointee.authenticated_length), last, tag)
  }
}
