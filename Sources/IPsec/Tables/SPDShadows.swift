import CLayout

/// What may be the policy of packets that hide something: of the policies that name what is hidden, the first by rank for
/// each pair of prefixes and protocol stands in a view of its own, without what it names. Control thread only.
final class SPDShadows<Key: PrefixKey> {
  typealias Policy = UnsafeMutablePointer<gw_policy>

  /// What packets hide.
  enum Hidden {
    case ports
    /// And the protocol.
    case all
  }

  private struct Name: Hashable {
    var source: PrefixName<Key>
    var destination: PrefixName<Key>
    /// Nil: any, or hidden.
    var ipProtocol: UInt8?
  }

  private struct Group {
    /// Of all policies, in order.
    var ranks: [UInt64]
    /// Has the first of them.
    var shadow: Policy
  }

  private let view: SPDView<Key>
  private let hidden: Hidden
  private var groups: [Name: Group] = [:]

  init(_ view: SPDView<Key>, hidden: Hidden) {
    self.view = view
    self.hidden = hidden
  }

  /// No reader may be left.
  deinit { for group in groups.values { Self.free(group.shadow) } }

  var footprint: Int {
    view.footprint + groups.values.reduce(0) { $0 + MemoryLayout<gw_policy>.stride + $1.ranks.capacity * 8 }
  }

  func publish() { view.publish() }

  /// Returns what to call when no reader can hold what it takes the place of.
  func insert(_ policy: Policy) -> (() -> Void)? {
    guard names(policy) else { return nil }
    let (name, rank) = (name(policy), policy.pointee.rank)
    guard let group = groups[name] else {
      groups[name] = Group(ranks: [rank], shadow: cast(of: policy, rank))
      return nil
    }
    groups[name]?.ranks.insert(rank, at: group.ranks.partition(below: rank))
    return rank < group.shadow.pointee.rank ? replace(name, rank) : nil
  }

  /// As `insert`.
  func remove(_ policy: Policy) -> (() -> Void)? {
    guard names(policy) else { return nil }
    let (name, rank) = (name(policy), policy.pointee.rank)
    guard let group = groups[name] else { return nil }
    let place = group.ranks.partition(below: rank)
    guard place < group.ranks.count, group.ranks[place] == rank else { return nil }
    groups[name]?.ranks.remove(at: place)
    guard let first = groups[name]?.ranks.first else {
      groups[name] = nil
      return take(group.shadow)
    }
    return first == group.shadow.pointee.rank ? nil : replace(name, first)
  }

  /// The new one stands before the old one goes.
  private func replace(_ name: Name, _ rank: UInt64) -> (() -> Void)? {
    guard let old = groups[name]?.shadow else { return nil }
    groups[name]?.shadow = cast(of: old, rank)
    return take(old)
  }

  private func cast(of policy: Policy, _ rank: UInt64) -> Policy {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<gw_policy>.stride, alignment: 64)
    let shadow = memory.initializeMemory(as: gw_policy.self, repeating: gw_policy(), count: 1)
    shadow.pointee.direction = policy.pointee.direction
    shadow.pointee.family = policy.pointee.family
    (shadow.pointee.source_high, shadow.pointee.source_low) = (policy.pointee.source_high, policy.pointee.source_low)
    shadow.pointee.destination_high = policy.pointee.destination_high
    shadow.pointee.destination_low = policy.pointee.destination_low
    (shadow.pointee.source4, shadow.pointee.destination4) = (policy.pointee.source4, policy.pointee.destination4)
    shadow.pointee.source_length = policy.pointee.source_length
    shadow.pointee.destination_length = policy.pointee.destination_length
    shadow.pointee.any_protocol = hidden == .all ? 1 : policy.pointee.any_protocol
    shadow.pointee.ip_protocol = hidden == .all ? 0 : policy.pointee.ip_protocol
    (shadow.pointee.source_port_high, shadow.pointee.destination_port_high) = (.max, .max)
    shadow.pointee.rank = rank
    view.insert(shadow)
    return shadow
  }

  private func take(_ shadow: Policy) -> (() -> Void)? {
    let release = view.remove(shadow)
    return {
      release?()
      Self.free(shadow)
    }
  }

  private static func free(_ shadow: Policy) { UnsafeMutableRawPointer(shadow).deallocate() }

  private func names(_ policy: Policy) -> Bool {
    SPDReader.namesPorts(policy) || hidden == .all && policy.pointee.any_protocol == 0
  }

  private func name(_ policy: Policy) -> Name {
    let isAny = hidden == .all || policy.pointee.any_protocol != 0
    return Name(
      source: SPDView<Key>.source(policy), destination: SPDView<Key>.destination(policy),
      ipProtocol: isAny ? nil : policy.pointee.ip_protocol)
  }
}

extension [UInt64] {
  /// Of an array in order the first place that is not below `value`.
  fileprivate func partition(below value: UInt64) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if self[middle] < value { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
