import CLayout

/// The source prefixes that outbound policies protect, whatever the destination: workers ask by which port packets from
/// there may come in. Control thread only.
final class SPDProtectedSources<Key: PrefixKey> {
  typealias Policy = UnsafeMutablePointer<gw_policy>

  private let prefixes: SPDPrefixes<Key>

  /// - Parameter view: the memory of the outbound policies' `gw_spd_view`.
  init(view: UnsafeMutableRawPointer, reclaimer: any Reclaimer) {
    prefixes = SPDPrefixes(root: view + SPDReader.protectedSourcesOffset, reclaimer: reclaimer)
  }

  var footprint: Int { prefixes.footprint }

  func insert(_ policy: Policy) { for prefix in Self.sources(policy) { prefixes.insert(prefix) } }
  func remove(_ policy: Policy) { for prefix in Self.sources(policy) { prefixes.remove(prefix) } }
  func publish() { prefixes.order.publish() }

  /// Lengths 0 and 1 of IPv6 share a bit, by which a reader would take half of all addresses for all of them: the half is
  /// two quarters.
  private static func sources(_ policy: Policy) -> [PrefixName<Key>] {
    let type = UInt32(policy.pointee.type)
    guard policy.pointee.direction == GW_OUT.rawValue, type != GW_BYPASS.rawValue, type != GW_DENY.rawValue else {
      return []
    }
    let address = Key(high: policy.pointee.source_high, low: policy.pointee.source_low)
    guard policy.pointee.source_length == 1, Key.bit(ofLength: 0) == Key.bit(ofLength: 1) else {
      return [PrefixName(address, policy.pointee.source_length)]
    }
    return [PrefixName(address, 2), PrefixName(address | 1 << Key(Key.bits - 2), 2)]
  }
}
