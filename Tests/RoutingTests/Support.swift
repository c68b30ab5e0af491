import IPsec
import SeededRandom
import Wire

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
