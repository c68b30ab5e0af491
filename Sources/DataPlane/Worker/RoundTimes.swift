import CDPDK

/// How long a worker's rounds with a full burst took, in buckets of 3 %: 32 to each power of two. Written by that worker
/// alone, read by anyone. Not freed.
struct RoundTimes: @unchecked Sendable {
  private static let steps: UInt64 = 32
  private static let stepBits = 5
  private static var count: Int { (64 - stepBits) * Int(steps) + Int(steps) }

  private let buckets = CounterBlock(count: count).base

  @inline(never)
  func record(_ cycles: UInt64) { (buckets + Self.bucket(cycles)).increment() }

  static func bucket(_ value: UInt64) -> Int {
    guard value >= steps else { return Int(value) }
    let shift = 63 &- value.leadingZeroBitCount &- stepBits
    return (shift &+ 1) &* Int(steps) &+ Int(value >> UInt64(shift) & (steps &- 1))
  }

  /// The highest value of a bucket.
  static func ceiling(_ bucket: Int) -> UInt64 {
    guard bucket >= Int(steps) else { return UInt64(bucket) }
    let shift = UInt64(bucket / Int(steps) - 1)
    let first = steps + UInt64(bucket % Int(steps))
    return (first << shift) + ((1 << shift) - 1)
  }

  /// Of the buckets that hold something: their highest value, and how many.
  var values: [(cycles: UInt64, count: UInt64)] {
    (0..<Self.count).compactMap { index in
      let count = (buckets + index).value
      return count == 0 ? nil : (Self.ceiling(index), count)
    }
  }
}
