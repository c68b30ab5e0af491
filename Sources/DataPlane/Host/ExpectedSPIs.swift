import Synchronization

/// Which SPIs a key daemon has taken without having made their SAs yet, as workers ask it: 1,024 bits, so that what comes
/// by any other number is not held up. The control thread writes, any worker reads.
public struct ExpectedSPIs: ~Copyable {
  static var bitCount: Int { 1024 }

  private let words = InlineArray<16, Atomic<UInt64>> { _ in Atomic(0) }

  init() {}

  /// `spi` as it lies in a packet.
  @inline(__always)
  static func bit(_ spi: UInt32) -> Int { Int(truncatingIfNeeded: (spi &* 0x9e37_79b1) >> 22) }

  /// False: no SA with this number is expected. True: there may be one.
  @inline(__always)
  func mayHold(_ spi: UInt32) -> Bool {
    let bit = Self.bit(spi)
    return words[bit >> 6].load(ordering: .relaxed) >> UInt64(bit & 63) & 1 != 0
  }

  func set(_ bit: Int, _ isSet: Bool) {
    let mask: UInt64 = 1 << UInt64(bit & 63)
    if isSet {
      words[bit >> 6].bitwiseOr(mask, ordering: .relaxed)
    } else {
      words[bit >> 6].bitwiseAnd(~mask, ordering: .relaxed)
    }
  }
}

/// The same by their numbers, and those that were expected a moment ago, as the host thread asks. Behind a lock.
struct ExpectedSPIList {
  enum State: Equatable { case unknown, expected, settled }
  /// Seconds, once to twice as many, for which packets that were on their way here when the SA came are sent back to be
  /// looked up again.
  static let memory = 1.0

  private var expected: [UInt32: Int] = [:]
  private var counts = [UInt16](repeating: 0, count: ExpectedSPIs.bitCount)
  /// Settled since `start`, and in the time before.
  private var settled: Set<UInt32> = []
  private var settledBefore: Set<UInt32> = []
  private var start = 0.0

  /// Returns the bit that is to be set, if it is not.
  mutating func expect(_ spi: UInt32) -> Int? {
    let bit = ExpectedSPIs.bit(spi)
    expected[spi, default: 0] += 1
    counts[bit] += 1
    return counts[bit] == 1 ? bit : nil
  }

  /// Returns the bit that is to be cleared, if no other needs it.
  mutating func settle(_ spi: UInt32, now: Double) -> Int? {
    guard let count = expected[spi] else { return nil }
    expected[spi] = count > 1 ? count - 1 : nil
    forget(now)
    settled.insert(spi)
    let bit = ExpectedSPIs.bit(spi)
    counts[bit] -= 1
    return counts[bit] == 0 ? bit : nil
  }

  mutating func state(_ spi: UInt32, now: Double) -> State {
    if expected[spi] != nil { return .expected }
    forget(now)
    return settled.contains(spi) || settledBefore.contains(spi) ? .settled : .unknown
  }

  private mutating func forget(_ now: Double) {
    guard now - start >= Self.memory else { return }
    settledBefore = now - start < 2 * Self.memory ? settled : []
    settled = []
    start = now
  }
}
