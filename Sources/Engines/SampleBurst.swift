import CCrypto

/// Made-up packets of one transform, for self-tests and calibration. Control thread only.
///
/// Each is an ESP header (SPI, sequence number), the IV, the text and the ICV, filled with a fixed pattern.
final class SampleBurst {
  let count: Int
  let textLength: Int
  let jobs: UnsafeMutablePointer<CryptoJob>
  private let transform: CryptoTransform
  private let packets: UnsafeMutableBufferPointer<UInt8>
  private let packetStride: Int
  private var headerLength: Int { 8 + transform.encryption.ivLength }

  /// `textLength` is rounded down to the cipher's block.
  init(_ transform: CryptoTransform, textLength wanted: Int, count: Int, hasSequenceHigh: Bool = false) {
    self.transform = transform
    self.count = count
    textLength = wanted - wanted % transform.encryption.alignment
    let iv = transform.encryption.ivLength
    packetStride = (8 + iv + textLength + transform.icvLength + 63) & ~63
    packets = .allocate(capacity: packetStride * count)
    jobs = .allocate(capacity: count)
    UnsafeMutableRawPointer(jobs).initializeMemory(
      as: UInt8.self, repeating: 0, count: MemoryLayout<CryptoJob>.stride * count)
    for index in 0..<count {
      let start = packets.baseAddress.unsafelyUnwrapped + index * packetStride
      let job = jobs + index
      job.pointee.text = start + 8 + iv
      job.pointee.authenticated = start
      job.pointee.icv = start + 8 + iv + textLength
      job.pointee.text_length = UInt32(textLength)
      job.pointee.authenticated_length = UInt32(8 + iv + textLength)
      job.pointee.aad_length = 8
      job.pointee.index = UInt16(truncatingIfNeeded: index)
      job.pointee.has_sequence_high = hasSequenceHigh ? 1 : 0
      job.pointee.sequence_high = UInt32(7).bigEndian
    }
    refill()
  }

  deinit {
    jobs.deallocate()
    packets.deallocate()
  }

  /// The pattern anew in every packet, IV and nonce.
  func refill() {
    for index in 0..<count {
      let start = packets.baseAddress.unsafelyUnwrapped + index * packetStride
      for offset in 0..<packetStride { start[offset] = UInt8(truncatingIfNeeded: offset &* 7 &+ index) }
      let job = jobs + index
      for offset in 0..<16 {
        crypto_job_nonce(job)[offset] = UInt8(truncatingIfNeeded: offset &+ 1 &+ index)
        crypto_job_aad(job)[offset] = start[offset & 7]
      }
      // The block counter of RFC 3686 starts at 1.
      if transform.encryption == .aesCTR {
        for offset in 12..<16 { crypto_job_nonce(job)[offset] = offset == 15 ? 1 : 0 }
      }
    }
  }

  /// Puts `session` into all jobs.
  func aim(_ session: CryptoSession, worker: Int = 0) {
    for index in 0..<count {
      jobs[index].session = session.base + session.stride * worker
      jobs[index].succeeded = 0
    }
  }

  /// Runs all jobs; true if all succeeded.
  func run(_ session: CryptoSession, worker: Int = 0) -> Bool {
    aim(session, worker: worker)
    session.burst(jobs, count)
    return haveSucceeded
  }

  var haveSucceeded: Bool { (0..<count).allSatisfy { jobs[$0].succeeded == 1 } }

  func text(_ index: Int) -> [UInt8] { Array(UnsafeBufferPointer(start: jobs[index].text, count: textLength)) }
  func icv(_ index: Int) -> [UInt8] { Array(UnsafeBufferPointer(start: jobs[index].icv, count: transform.icvLength)) }
}
