import CIPsecMB

/// The library's two GCM codes against each other, on made-up texts. Control thread only.
final class IPsecMBGCMTrial {
  /// Strides of the texts that are timed; the AVX code is taken from the least of them from which on it always wins.
  private static let samples: [UInt16] = [6, 8, 11, 16, 32]
  /// It must be that much faster: two codes in turn cost the processor's front end.
  private static let margin = 0.98
  /// Some 8 ms for all: each text some 200 times.
  private static let (rounds, calls) = (48, 4)

  private static let longest = 33 * IPsecMBGCMCode.stride

  private let runs: [aes_gcm_enc_dec_t]
  private let memory: SessionMemory
  /// The AVX code's, with which both work.
  private var schedule: OpaquePointer { OpaquePointer(memory.record(0)) }
  private var context: UnsafeMutablePointer<gcm_context_data> {
    memory.sharedBase.assumingMemoryBound(to: gcm_context_data.self)
  }
  private var tag: UnsafeMutablePointer<UInt8> { (memory.sharedBase + 128).assumingMemoryBound(to: UInt8.self) }
  private var nonce: UnsafeMutablePointer<UInt8> { tag + 16 }
  private var text: UnsafeMutablePointer<UInt8> { tag + SessionMemory.line }

  /// Nil if they do not agree: then the library's own choice stands.
  init?(_ own: IPsecMBGCMFunctions, _ avx: IPsecMBGCMFunctions, _ key: IPsecMBGCMCode.Key) {
    guard let first = own.run(key.direction), let second = avx.run(key.direction) else { return nil }
    runs = [first, second]
    memory = SessionMemory(record: ipsecmb_gcm_key_size, count: 2, shared: 192 + Self.longest)
    let ownSchedule = OpaquePointer(memory.record(1))
    let sample = (0..<key.length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 11) }
    avx.expand(sample, schedule)
    own.expand(sample, ownSchedule)
    // Steps of 13 words: all remainders.
    for length in stride(from: 0, through: Self.longest, by: 52) {
      let expected = result(first, ownSchedule, length)
      guard expected == result(first, schedule, length), expected == result(second, schedule, length) else {
        return nil
      }
    }
  }

  deinit { memory.release() }

  /// Text and tag of one call.
  private func result(_ run: aes_gcm_enc_dec_t, _ schedule: OpaquePointer, _ length: Int) -> [UInt8] {
    for index in 0..<length { text[index] = UInt8(truncatingIfNeeded: index &* 7 &+ length) }
    call(run, schedule, length)
    return Array(UnsafeBufferPointer(start: text, count: length)) + Array(UnsafeBufferPointer(start: tag, count: 16))
  }

  @inline(__always)
  private func call(_ run: aes_gcm_enc_dec_t, _ schedule: OpaquePointer, _ length: Int) {
    run(schedule, context, text, text, UInt64(length), nonce, nonce, 8, tag, 16)
  }

  /// As `IPsecMBGCMCode.longFrom`.
  func longFrom() -> InlineArray<8, UInt16> {
    let count = Self.samples.count
    var best = [[Duration]](repeating: Array(repeating: .seconds(1), count: 8 * count), count: 2)
    let clock = ContinuousClock()
    // In turn, so that a busy moment of the machine meets both.
    for _ in 0..<Self.rounds {
      for index in 0..<8 * count {
        let length = Int(Self.samples[index % count]) * IPsecMBGCMCode.stride + index / count * 16 + 4
        for (code, run) in runs.enumerated() {
          let taken = clock.measure {
            for _ in 0..<Self.calls { call(run, schedule, length) }
          }
          best[code][index] = min(best[code][index], taken)
        }
      }
    }
    return InlineArray { remainder in
      var from = UInt16.max
      for sample in (0..<count).reversed() {
        let index = remainder * count + sample
        guard best[1][index] < best[0][index] * Self.margin else { break }
        from = Self.samples[sample]
      }
      return from
    }
  }
}
