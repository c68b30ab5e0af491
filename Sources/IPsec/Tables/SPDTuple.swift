import CLayout

/// What the selectors of one tuple have in common.
struct TupleShape: Hashable {
  let sourceLength: UInt8
  let destinationLength: UInt8
  /// `gw_tuple_flag`.
  let flags: UInt8
  let isV6: Bool

  init(_ policy: UnsafeMutablePointer<gw_policy>) {
    sourceLength = policy.pointee.source_length
    destinationLength = policy.pointee.destination_length
    isV6 = policy.pointee.family == 10
    var flags: UInt32 = policy.pointee.any_protocol == 0 ? GW_TUPLE_PROTOCOL.rawValue : 0
    if policy.pointee.source_port_low == policy.pointee.source_port_high { flags |= GW_TUPLE_SOURCE_PORT.rawValue }
    if policy.pointee.destination_port_low == policy.pointee.destination_port_high {
      flags |= GW_TUPLE_DESTINATION_PORT.rawValue
    }
    self.flags = UInt8(flags)
  }
}

/// One tuple of the SPD, the writer's side.
final class SPDTuple {
  let shape: TupleShape
  let index: HashIndex
  /// How many policies rank by each priority or, with the top bit set, by each degree of specificity.
  private var ranks: [UInt64: Int] = [:]
  /// No policy in it ranks before this.
  private(set) var rank = UInt64.max

  init(shape: TupleShape, index: HashIndex) {
    self.shape = shape
    self.index = index
  }

  /// Notes a policy that came (1) or went (-1). True if `rank` changed.
  func count(_ rank: UInt64, _ change: Int) -> Bool {
    // The age does not matter here.
    let kind = rank >> 63 == 0 ? rank & ~0x7fff_ffff : rank & ~0xf_ffff_ffff
    let old = self.rank
    ranks[kind, default: 0] += change
    if ranks[kind] == 0 {
      ranks[kind] = nil
      if kind == old { self.rank = ranks.keys.min() ?? .max }
    } else {
      self.rank = min(old, kind)
    }
    return self.rank != old
  }

  var layout: gw_tuple {
    var layout = gw_tuple()
    layout.rank = rank
    layout.index = UnsafeMutableRawPointer(index.reader.root)
    if !shape.isV6 {
      layout.source_mask = UInt32(truncatingIfNeeded: SPDReader.masks(shape.sourceLength).0 >> 32)
      layout.destination_mask = UInt32(truncatingIfNeeded: SPDReader.masks(shape.destinationLength).0 >> 32)
    }
    layout.source_length = shape.sourceLength
    layout.destination_length = shape.destinationLength
    layout.flags = shape.flags
    return layout
  }

  /// The hash of a policy's selector, as a packet that matches it makes it.
  func key(_ policy: UnsafeMutablePointer<gw_policy>) -> UInt64 {
    var key = gw_flow_key()
    key.source_high = policy.pointee.source_high
    key.source_low = policy.pointee.source_low
    key.destination_high = policy.pointee.destination_high
    key.destination_low = policy.pointee.destination_low
    key.source_port = policy.pointee.source_port_low
    key.destination_port = policy.pointee.destination_port_low
    key.ip_protocol = policy.pointee.ip_protocol
    var layout = layout
    return shape.isV6 ? SPDReader.hashV6(&layout, &key) : SPDReader.hashV4(&layout, &key)
  }
}
