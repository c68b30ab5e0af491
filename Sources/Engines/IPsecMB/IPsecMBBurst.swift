import CCrypto
import CIPsecMB

/// The loops of everything that goes through the multi-buffer manager: jobs in, all out again before they return.
enum IPsecMBBurst {
  static let sealComposed: CryptoBurst = { run($0, $1, isSeal: true, isAEAD: false) }
  static let openComposed: CryptoBurst = { run($0, $1, isSeal: false, isAEAD: false) }
  /// The same by another manager: bursts of both kinds are not mixed.
  static let sealWithSHAExtensions: CryptoBurst = { run($0, $1, isSeal: true, isAEAD: false) }
  static let openWithSHAExtensions: CryptoBurst = { run($0, $1, isSeal: false, isAEAD: false) }
  /// CCM and ChaCha20-Poly1305.
  static let sealAEAD: CryptoBurst = { run($0, $1, isSeal: true, isAEAD: true) }
  static let openAEAD: CryptoBurst = { run($0, $1, isSeal: false, isAEAD: true) }

  private typealias Slots = UnsafeMutablePointer<UnsafeMutablePointer<IMB_JOB>?>

  @inline(__always)
  private static func run(_ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int, isSeal: Bool, isAEAD: Bool) {
    withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<IMB_JOB>?.self, capacity: IPsecMBWorker.burst) { space in
      guard count > 0, let slots = space.baseAddress else { return }
      // Every session of this worker and function holds the same manager; any could run the jobs of all.
      let worker = jobs.pointee.session.assumingMemoryBound(to: IPsecMBRecord.self).pointee.worker
      var first = 0
      while first < count {
        let piece = min(IPsecMBWorker.burst, count &- first)
        runPiece(jobs + first, piece, worker, slots, isSeal: isSeal, isAEAD: isAEAD)
        first &+= piece
      }
    }
  }

  @inline(__always)
  private static func runPiece(
    _ jobs: UnsafeMutablePointer<CryptoJob>, _ count: Int, _ worker: UnsafeMutablePointer<IPsecMBWorker>,
    _ slots: Slots, isSeal: Bool, isAEAD: Bool
  ) {
    let manager = worker.pointee.manager
    let tags = worker.pointee.tags
    guard let next = manager.pointee.get_next_burst, let submit = manager.pointee.submit_burst_nocheck,
      let flush = manager.pointee.flush_burst
    else { return }
    // The manager is empty between bursts, so that it has room for all of this one.
    let room = Int(next(manager, UInt32(count), slots))
    var filled = 0
    var index = 0
    while index < count {
      prefetch(jobs, index, count)
      let job = jobs + index
      let record = job.pointee.session.assumingMemoryBound(to: IPsecMBRecord.self)
      job.pointee.succeeded = 0
      if job.pointee.text_length & record.pointee.blockMask == 0, filled < room, let slot = slots[filled] {
        let tag = isSeal ? job.pointee.icv : tags + filled &* IPsecMBWorker.tagSize
        fill(slot, job, record, tag, isAEAD: isAEAD)
        filled &+= 1
      }
      index &+= 1
    }
    var done = Int(submit(manager, UInt32(filled), slots))
    var remaining = filled
    while true {
      var slot = 0
      while slot < done {
        if let completed = slots[slot] { finish(completed, isSeal: isSeal, isAEAD: isAEAD) }
        slot &+= 1
      }
      remaining &-= done
      guard remaining > 0 else { return }
      done = Int(flush(manager, UInt32(remaining), slots))
      guard done > 0 else { return }
    }
  }

  @inline(__always)
  private static func prefetch(_ jobs: UnsafeMutablePointer<CryptoJob>, _ index: Int, _ count: Int) {
    guard index &+ Lookahead.session < count else { return }
    let ahead = jobs + (index &+ Lookahead.session)
    crypto_prefetch(ahead.pointee.text)
    guard ahead.pointee.session != (ahead - 1).pointee.session else { return }
    crypto_prefetch(ahead.pointee.session)
    crypto_prefetch(ahead.pointee.session + SessionMemory.line)
  }

  @inline(__always)
  private static func fill(
    _ slot: UnsafeMutablePointer<IMB_JOB>, _ job: UnsafeMutablePointer<CryptoJob>,
    _ record: UnsafeMutablePointer<IPsecMBRecord>, _ tag: UnsafeMutablePointer<UInt8>, isAEAD: Bool
  ) {
    let text = job.pointee.text
    let length = UInt64(job.pointee.text_length)
    slot.pointee.enc_keys = record.pointee.encryptionKeys
    slot.pointee.dec_keys = record.pointee.decryptionKeys
    slot.pointee.key_len_in_bytes = UInt64(record.pointee.keyLength)
    slot.pointee.dst = text
    slot.pointee.msg_len_to_cipher_in_bytes = length
    slot.pointee.iv = UnsafePointer(crypto_job_nonce(job))
    slot.pointee.iv_len_in_bytes = UInt64(record.pointee.ivLength)
    slot.pointee.auth_tag_output = tag
    slot.pointee.auth_tag_output_len_in_bytes = UInt64(record.pointee.icvLength)
    slot.pointee.cipher_mode = record.pointee.cipher
    slot.pointee.cipher_direction = record.pointee.direction
    slot.pointee.hash_alg = record.pointee.hash
    slot.pointee.chain_order = record.pointee.order
    slot.pointee.user_data = UnsafeMutableRawPointer(job)
    if isAEAD {
      slot.pointee.src = UnsafePointer(text)
      slot.pointee.cipher_start_src_offset_in_bytes = 0
      slot.pointee.hash_start_src_offset_in_bytes = 0
      slot.pointee.msg_len_to_hash_in_bytes = length
      // The AEADs have these two words in the same places; Swift does not import the members of those used here.
      slot.pointee.u.SNOW_V_AEAD.aad = UnsafeRawPointer(crypto_job_aad(job))
      slot.pointee.u.SNOW_V_AEAD.aad_len_in_bytes = UInt64(job.pointee.aad_length)
      return
    }
    // The library takes one run of bytes: the upper sequence number is put behind it and what stood there kept.
    let hashed = job.pointee.authenticated_length
    if job.pointee.has_sequence_high != 0 {
      let tail = UnsafeMutableRawPointer(job.pointee.authenticated + Int(hashed))
      job.pointee.kept = tail.loadUnaligned(as: UInt32.self)
      tail.storeBytes(of: job.pointee.sequence_high, as: UInt32.self)
    }
    slot.pointee.src = UnsafePointer(job.pointee.authenticated)
    slot.pointee.cipher_start_src_offset_in_bytes = UInt64(bitPattern: Int64(text - job.pointee.authenticated))
    slot.pointee.hash_start_src_offset_in_bytes = 0
    slot.pointee.msg_len_to_hash_in_bytes = UInt64(hashed &+ (job.pointee.has_sequence_high != 0 ? 4 : 0))
    if length == 0 { slot.pointee.cipher_mode = IMB_CIPHER_NULL }
    let mac = record.pointee.mac
    slot.pointee.u.XCBC._k1_expanded = mac.0?.assumingMemoryBound(to: UInt32.self)
    slot.pointee.u.XCBC._k2 = mac.1?.assumingMemoryBound(to: UInt8.self)
    slot.pointee.u.XCBC._k3 = mac.2?.assumingMemoryBound(to: UInt8.self)
  }

  @inline(__always)
  private static func finish(_ completed: UnsafeMutablePointer<IMB_JOB>, isSeal: Bool, isAEAD: Bool) {
    guard let job = completed.pointee.user_data?.assumingMemoryBound(to: CryptoJob.self) else { return }
    let length = UInt32(truncatingIfNeeded: completed.pointee.auth_tag_output_len_in_bytes)
    if !isAEAD, job.pointee.has_sequence_high != 0 { restoreTail(job, isReplaced: isSeal && length != 0) }
    guard completed.pointee.status == IMB_STATUS_COMPLETED else { return }
    guard !isSeal, let tag = completed.pointee.auth_tag_output else {
      job.pointee.succeeded = 1
      return
    }
    job.pointee.succeeded = crypto_icv_equal(tag, job.pointee.icv, length) != 0 ? 1 : 0
  }

  /// Puts back the bytes behind the authenticated ones, unless they are the ICV that was just written.
  @inline(__always)
  private static func restoreTail(_ job: UnsafeMutablePointer<CryptoJob>, isReplaced: Bool) {
    let tail = job.pointee.authenticated + Int(job.pointee.authenticated_length)
    if isReplaced, tail == job.pointee.icv { return }
    UnsafeMutableRawPointer(tail).storeBytes(of: job.pointee.kept, as: UInt32.self)
  }
}
