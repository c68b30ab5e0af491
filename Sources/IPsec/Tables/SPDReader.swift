import CLayout
import Synchronization

/// The SPD as workers see it: selectors → policy. A plain value; copying is free. The memory belongs to the `SPD`,
/// which must outlive every reader. A found policy is valid until the worker's next quiescent state.
///
/// Tuple-space search: the policies of a direction and family are grouped by the lengths of their prefixes and by
/// whether protocol and ports are named; a group, a tuple, is one hash look-up. With few tuples each is visited, in the
/// order of the best rank in them, until none that is left can win. With many, only those are visited that can match:
/// the destination lengths for which a prefix in use covers the packet's destination, and for each source length whose
/// prefix covers its source the destination lengths that this very prefix is used with.
///
/// Memory: `root` points to four words, the `gw_spd_view`s of (direction, family), and to the generation.
public struct SPDReader: @unchecked Sendable {
  @usableFromInline let root: UnsafeMutableRawPointer
  @usableFromInline let seed: UInt64

  @inlinable init(root: UnsafeMutableRawPointer, seed: UInt64) {
    self.root = root
    self.seed = seed
  }

  @inlinable static var generationOffset: Int { 32 }

  /// Changes with every change of what `lookup` finds; read it before the look-up whose result is kept.
  @inlinable @inline(__always)
  public var generation: UInt32 {
    atomicField(root, Self.generationOffset, as: UInt32.self).pointee.load(ordering: .acquiring)
  }

  /// The policy for a packet; nil: none. `key.family` must be 2 or 10, `key.direction` 0 or 1.
  @inlinable
  public func lookup(_ key: UnsafePointer<gw_flow_key>) -> UnsafeMutablePointer<gw_policy>? {
    let isV6 = key.pointee.family == 10
    let slot = Int(key.pointee.direction & 1) &* 2 &+ (isV6 ? 1 : 0)
    let address = atomicField(root, slot &* 8, as: UInt.self).pointee.load(ordering: .acquiring)
    let view = UnsafeMutablePointer<gw_spd_view>(bitPattern: address).unsafelyUnwrapped
    var search = Search(seed: seed, key: key, isV6: isV6)
    if view.pointee.sources == nil {
      search.visitAll(view)
    } else {
      search.visitPossible(view)
    }
    return search.best
  }

  /// One look-up under way.
  @usableFromInline
  struct Search {
    @usableFromInline let seed: UInt64
    @usableFromInline let key: UnsafePointer<gw_flow_key>
    @usableFromInline let isV6: Bool
    @usableFromInline var best: UnsafeMutablePointer<gw_policy>?
    @usableFromInline var bestRank = UInt64.max

    @inlinable @inline(__always)
    init(seed: UInt64, key: UnsafePointer<gw_flow_key>, isV6: Bool) {
      self.seed = seed
      self.key = key
      self.isV6 = isV6
    }

    @inlinable @inline(__always)
    mutating func visitAll(_ view: UnsafeMutablePointer<gw_spd_view>) {
      var tuple = view.pointee.tuples.unsafelyUnwrapped
      let end = tuple + Int(truncatingIfNeeded: view.pointee.count)
      while tuple < end, tuple.pointee.rank < bestRank {
        visit(tuple)
        tuple += 1
      }
    }

    @inlinable
    mutating func visitPossible(_ view: UnsafeMutablePointer<gw_spd_view>) {
      let columns = view.pointee.columns.unsafelyUnwrapped
      let matrix = view.pointee.matrix.unsafelyUnwrapped
      let destinations = matchingDestinations(view)
      if destinations == 0 { return }
      let sources = index(view.pointee.sources)
      let columnCount = Int(truncatingIfNeeded: view.pointee.column_count)
      var row = view.pointee.rows.unsafelyUnwrapped
      let end = row + Int(truncatingIfNeeded: view.pointee.row_count)
      while row < end, row.pointee.rank < bestRank {
        let hash = SPDReader.prefixHash(
          key.pointee.source_high, key.pointee.source_low, length: row.pointee.length, isV6: isV6)
        let value = sources.first(key: hash) { _ in true }
        if value != 0 {
          let words = UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: value)).unsafelyUnwrapped
          let tuples = matrix + Int(truncatingIfNeeded: row.pointee.matrix_row) &* columnCount &* 8
          var flags = 7
          while flags >= 0 {
            var bits = atomicField(words, flags &* 8, as: UInt64.self).pointee.load(ordering: .acquiring) & destinations
            while bits != 0 {
              let bit = 63 &- bits.leadingZeroBitCount
              bits &= ~(1 &<< UInt64(truncatingIfNeeded: bit))
              let column = Int(truncatingIfNeeded: columns[bit].column_of_bit)
              if let tuple = tuples[column &* 8 &+ flags], tuple.pointee.rank < bestRank { visit(tuple) }
            }
            flags &-= 1
          }
        }
        row += 1
      }
    }

    /// Bits of the destination lengths for which a prefix in use covers the packet's destination.
    @inlinable @inline(__always)
    func matchingDestinations(_ view: UnsafeMutablePointer<gw_spd_view>) -> UInt64 {
      let destinations = index(view.pointee.destinations)
      var column = view.pointee.columns.unsafelyUnwrapped
      let end = column + Int(truncatingIfNeeded: view.pointee.column_count)
      var bits: UInt64 = 0
      while column < end {
        let hash = SPDReader.prefixHash(
          key.pointee.destination_high, key.pointee.destination_low, length: column.pointee.length, isV6: isV6)
        if destinations.first(key: hash, where: { _ in true }) != 0 {
          bits |= 1 &<< UInt64(truncatingIfNeeded: column.pointee.bit)
        }
        column += 1
      }
      return bits
    }

    @inlinable @inline(__always)
    mutating func visit(_ tuple: UnsafeMutablePointer<gw_tuple>) {
      let portFlags = UInt8(GW_TUPLE_SOURCE_PORT.rawValue | GW_TUPLE_DESTINATION_PORT.rawValue)
      if key.pointee.opaque_ports != 0, tuple.pointee.flags & portFlags != 0 { return }
      let hash = isV6 ? SPDReader.hashV6(tuple, key) : SPDReader.hashV4(tuple, key)
      let (key, isV6) = (key, isV6)
      var (found, rank) = (best, bestRank)
      _ = index(tuple.pointee.index).first(key: hash) { value in
        let policy = UnsafeMutablePointer<gw_policy>(bitPattern: UInt(truncatingIfNeeded: value)).unsafelyUnwrapped
        if policy.pointee.rank < rank, SPDReader.matches(policy, tuple, key, isV6: isV6) {
          found = policy
          rank = policy.pointee.rank
        }
        return false
      }
      best = found
      bestRank = rank
    }

    @inlinable @inline(__always)
    func index(_ root: UnsafeMutableRawPointer?) -> HashIndexReader {
      HashIndexReader(root: root.unsafelyUnwrapped.assumingMemoryBound(to: Atomic<UInt>.self), seed: seed)
    }
  }

  /// What the prefix of this length around an address goes by in the tables of prefixes in use.
  @inlinable @inline(__always)
  static func prefixHash(_ high: UInt64, _ low: UInt64, length: UInt8, isV6: Bool) -> UInt64 {
    let (highMask, lowMask) = masks(length)
    if isV6 { return mix(mix(high & highMask, low & lowMask), UInt64(length)) }
    return mix(low & (highMask >> 32), UInt64(length))
  }

  @inlinable @inline(__always)
  static func matches(
    _ policy: UnsafeMutablePointer<gw_policy>, _ tuple: UnsafeMutablePointer<gw_tuple>,
    _ key: UnsafePointer<gw_flow_key>, isV6: Bool
  ) -> Bool {
    if isV6 {
      let (sourceHigh, sourceLow) = masks(tuple.pointee.source_length)
      let (destinationHigh, destinationLow) = masks(tuple.pointee.destination_length)
      let wrong =
        (key.pointee.source_high & sourceHigh) ^ policy.pointee.source_high
        | (key.pointee.source_low & sourceLow) ^ policy.pointee.source_low
        | (key.pointee.destination_high & destinationHigh) ^ policy.pointee.destination_high
        | (key.pointee.destination_low & destinationLow) ^ policy.pointee.destination_low
      if wrong != 0 { return false }
    } else {
      let wrong =
        (key.pointee.source_low & UInt64(tuple.pointee.source_mask)) ^ policy.pointee.source_low
        | (key.pointee.destination_low & UInt64(tuple.pointee.destination_mask)) ^ policy.pointee.destination_low
      if wrong != 0 { return false }
    }
    if policy.pointee.any_protocol == 0 && policy.pointee.ip_protocol != key.pointee.ip_protocol { return false }
    return portsMatch(policy, key)
  }

  /// Whether the packet's ports are among the policy's. A packet whose ports are hidden is only for policies that take
  /// all of them (RFC 4301 section 7, the first of its two choices).
  @inlinable @inline(__always)
  public static func portsMatch(
    _ policy: UnsafeMutablePointer<gw_policy>, _ key: UnsafePointer<gw_flow_key>
  ) -> Bool {
    let (source, destination) = (key.pointee.source_port, key.pointee.destination_port)
    if key.pointee.opaque_ports != 0 {
      return policy.pointee.source_port_low == 0 && policy.pointee.source_port_high == UInt16.max
        && policy.pointee.destination_port_low == 0 && policy.pointee.destination_port_high == UInt16.max
    }
    return source >= policy.pointee.source_port_low && source <= policy.pointee.source_port_high
      && destination >= policy.pointee.destination_port_low && destination <= policy.pointee.destination_port_high
  }

  @inlinable @inline(__always)
  static func hashV4(_ tuple: UnsafeMutablePointer<gw_tuple>, _ key: UnsafePointer<gw_flow_key>) -> UInt64 {
    let source = key.pointee.source_low & UInt64(tuple.pointee.source_mask)
    let destination = key.pointee.destination_low & UInt64(tuple.pointee.destination_mask)
    return mix(source << 32 | destination, upper(tuple, key))
  }

  @inlinable @inline(__always)
  static func hashV6(_ tuple: UnsafeMutablePointer<gw_tuple>, _ key: UnsafePointer<gw_flow_key>) -> UInt64 {
    let (sourceHigh, sourceLow) = masks(tuple.pointee.source_length)
    let (destinationHigh, destinationLow) = masks(tuple.pointee.destination_length)
    let source = mix(key.pointee.source_high & sourceHigh, key.pointee.source_low & sourceLow)
    let destination = mix(key.pointee.destination_high & destinationHigh, key.pointee.destination_low & destinationLow)
    return mix(mix(source, destination), upper(tuple, key))
  }

  /// What the tuple's selectors name of protocol and ports.
  @inlinable @inline(__always)
  static func upper(_ tuple: UnsafeMutablePointer<gw_tuple>, _ key: UnsafePointer<gw_flow_key>) -> UInt64 {
    let flags = UInt32(tuple.pointee.flags)
    var upper: UInt64 = 0
    if flags & GW_TUPLE_PROTOCOL.rawValue != 0 { upper = UInt64(key.pointee.ip_protocol) }
    if flags & GW_TUPLE_SOURCE_PORT.rawValue != 0 { upper |= UInt64(key.pointee.source_port) << 16 }
    if flags & GW_TUPLE_DESTINATION_PORT.rawValue != 0 { upper |= UInt64(key.pointee.destination_port) << 32 }
    return upper
  }

  @inlinable @inline(__always)
  static func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = (a ^ (b &* 0x9fb2_1c65_1e98_df25)) &* 0x9e37_79b9_7f4a_7c15
    return product ^ product >> 29 ^ b << 17
  }

  /// The two halves of a prefix mask.
  @inlinable @inline(__always)
  static func masks(_ length: UInt8) -> (UInt64, UInt64) {
    let bits = UInt64(length)
    let high = bits == 0 ? 0 : bits >= 64 ? UInt64.max : UInt64.max &<< (64 &- bits)
    let low = bits <= 64 ? 0 : UInt64.max &<< (128 &- bits)
    return (high, low)
  }
}
