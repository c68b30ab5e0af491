/// The order in which policies apply: of all that match a packet, the one with the lowest rank.
///
/// Policies with a numeric priority (XFRM, PF_KEY on Linux) come first, in order of priority and then of age, as in
/// Linux. After them come those that are ranked by how specific they are (`ipsec.conf`, OpenBSD's PF_KEY), as
/// OpenBSD's radix tree finds them: longest source prefix, longest destination prefix, protocol named, narrowest
/// ports; then by age. So what a key daemon negotiated is never weakened by a broad rule of `ipsec.conf`, which holds
/// for the rest.
public enum PolicyRank {
  /// Between the ranks of two policies there is one that no policy has: that of the parts of the second one.
  ///
  /// - Parameter order: counts up with every policy added.
  public static func rank(priority: UInt32, order: UInt64) -> UInt64 {
    UInt64(priority) << 31 | (order & 0x3fff_ffff) << 1 | 1
  }

  public static func rank(of selector: Selector, order: UInt64) -> UInt64 {
    let ports = UInt64(portClass(selector.sourcePorts)) << 5 | UInt64(portClass(selector.destinationPorts))
    return bound(of: selector) | ports << 36 | (order & 0x7_ffff_ffff) << 1 | 1
  }

  /// For a part of the policy that has this rank: just before it.
  static func part(of rank: UInt64) -> UInt64 { rank & ~1 }

  /// No policy ranked by specificity with these prefix lengths and this kind of protocol ranks before it.
  static func bound(of selector: Selector) -> UInt64 {
    let bits = selector.family.bits
    let lengths = UInt64(bits - selector.source.length) << 55 | UInt64(bits - selector.destination.length) << 47
    return 1 << 63 | lengths | (selector.ipProtocol == nil ? 1 << 46 : 0)
  }

  /// 0 for one port, 16 for all.
  private static func portClass(_ ports: ClosedRange<UInt16>) -> Int {
    let width = UInt32(ports.upperBound - ports.lowerBound)
    return UInt32.bitWidth - width.leadingZeroBitCount
  }
}
