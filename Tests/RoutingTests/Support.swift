import IPsec
import Wire

/// A generator whose run can be repeated from the printed seed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  /// SplitMix64.
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }

  /// A new seed, printed so that a failure can be repeated.
  static func printed(_ name: String) -> SeededGenerator {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("\(name): seed \(seed)")
    return SeededGenerator(seed: seed)
  }
}

/// Frees only when told to: shows what a reader could still hold.
final class HeldReclaimer: Reclaimer {
  private var held: [() -> Void] = []

  func retire(_ free: @escaping () -> Void) { held.append(free) }

  var count: Int { held.count }

  func release() {
    let due = held
    held = []
    due.forEach { $0() }
  }

  deinit { held.forEach { $0() } }
}

func address(_ text: String) -> IPAddress { IPAddress(text)! }
func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }

extension IPAddress {
  /// A random address; IPv6 ones share few leading bytes so that prefixes nest and collide.
  static func random(_ family: AddressFamily, clustered: Bool, using generator: inout SeededGenerator) -> IPAddress {
    var high = generator.next()
    var low = generator.next()
    if clustered {
      high &= 0x0300_0003_0003_0303
      low &= 0x0003_0003_0300_0103
    }
    guard family == .v4 else { return .v6(IPv6Address(high: high, low: low)) }
    return .v4(IPv4Address(rawValue: clustered ? UInt32(truncatingIfNeeded: high) & 0x0303_0303 : UInt32(high >> 32)))
  }
}
