/// Numbers in an order that no prefetcher guesses, the same each time (xorshift64).
struct RandomOrder {
  private var state: UInt64 = 88_172_645_463_325_252

  @inline(__always)
  mutating func next(below count: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return Int(truncatingIfNeeded: ((state >> 32) &* UInt64(truncatingIfNeeded: count)) >> 32)
  }
}
