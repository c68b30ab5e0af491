import Foundation

/// Steele, Lea and Flood's SplitMix64: repeatable random numbers, so that a failing test's printed seed brings its inputs
/// back.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  public let seed: UInt64
  private var state: UInt64

  public init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// `GW_TEST_SEED`, or a seed of its own.
  public init() {
    self.init(
      seed: ProcessInfo.processInfo.environment["GW_TEST_SEED"].flatMap(UInt64.init) ?? .random(in: 1...99999))
  }

  /// A new seed, printed so that a failure can be repeated.
  public static func printed(_ name: String) -> SeededGenerator {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("\(name): seed \(seed)")
    return SeededGenerator(seed: seed)
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  public mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }

  public mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
