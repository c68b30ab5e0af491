/// Explicit congestion notification across tunnels (RFC 6040, figure 4).
public enum ECN {
  /// What `decapsulate` says when the packet must be dropped.
  public static let drop: UInt8 = 0xff

  /// The ECN field that the inner packet leaves the tunnel with; of the arguments the two low bits count.
  @inlinable @inline(__always)
  public static func decapsulate(inner: UInt8, outer: UInt8) -> UInt8 {
    let outer = outer & 3
    let inner = inner & 3
    switch outer {
    case 3: return inner == 0 ? drop : 3
    case 1: return inner == 2 ? 1 : inner
    default: return inner
    }
  }
}
