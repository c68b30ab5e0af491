import CLayout
import Synchronization

/// The SPD as workers see it: selectors → policy. A plain value; copying is free. The memory belongs to the `SPD`,
/// which must outlive every reader. A found policy is valid until the worker's next quiescent state.
///
/// A look-up finds the longest source prefix in use that covers the packet's source, and from there all others by their
/// links, longest first, until none that is left can win. Each leads to cells, the policies of one selector but for
/// ranges of ports: up to ten stand in the prefix's own two cache lines, with a tag of their destination; beyond that
/// they are found in a hash table, asked only for those destination lengths that both the source prefix is used with and
/// that cover the packet's destination.
///
/// Memory: `root` points to four `gw_spd_view`s, by direction and family, then to the same of `SPDShadows` where ports are
/// hidden and where all is, and behind them to the generation.
public struct SPDReader: @unchecked Sendable {
  @usableFromInline let root: UnsafeMutableRawPointer
  @usableFromInline let seed: UInt64

  @inlinable init(root: UnsafeMutableRawPointer, seed: UInt64) {
    self.root = root
    self.seed = seed
  }

  @inlinable static var viewBytes: Int { 64 }
  @inlinable static var viewsOfKind: Int { 4 }
  @inlinable static var destinationsOffset: Int { 8 }
  @inlinable static var protectedSourcesOffset: Int { 32 }
  @inlinable static var generationOffset: Int { 3 &* viewsOfKind &* viewBytes }

  /// Changes with every change of what `lookup` finds; read it before the look-up whose result is kept.
  @inlinable @inline(__always)
  public var generation: UInt32 {
    atomicField(root, Self.generationOffset, as: UInt32.self).pointee.load(ordering: .acquiring)
  }

  /// The policy for a packet; nil: none. `key.family` must be 2 or 10, `key.direction` 0 or 1.
  @inlinable
  public func lookup(_ key: UnsafePointer<gw_flow_key>) -> UnsafeMutablePointer<gw_policy>? {
    let view = view(direction: key.pointee.direction, family: key.pointee.family)
    return key.pointee.family == 10
      ? Search<UInt128>.run(view, key, seed: seed) : Search<UInt32>.run(view, key, seed: seed)
  }

  /// The rank of the first policy that may be the one of a packet that does not show all that it is looked up by; `max`:
  /// there is none. It hides its ports, or, with `hidesProtocol`, the protocol too, which only IPv6 can.
  public func rankOfHidden(_ key: UnsafePointer<gw_flow_key>, hidesProtocol: Bool) -> UInt64 {
    let kind = UInt8(hidesProtocol ? 2 : 1)
    let found: UnsafeMutablePointer<gw_policy>?
    if key.pointee.family == 10 {
      let view = view(direction: key.pointee.direction, family: 10, kind: kind)
      found = Search<UInt128>.run(view, key, seed: seed)
    } else {
      let view = view(direction: key.pointee.direction, family: 2, kind: 1)
      found = Search<UInt32>.run(view, key, seed: seed)
    }
    return found?.pointee.rank ?? .max
  }

  /// Whether some outbound policy protects packets from this key's source, wherever they go.
  public func protectsSource(_ key: UnsafePointer<gw_flow_key>) -> Bool {
    key.pointee.family == 10 ? protectsSource(UInt128.self, key) : protectsSource(UInt32.self, key)
  }

  private func protectsSource<Key: PrefixKey>(_: Key.Type, _ key: UnsafePointer<gw_flow_key>) -> Bool {
    let view = view(direction: UInt8(truncatingIfNeeded: GW_OUT.rawValue), family: key.pointee.family)
    let order = PrefixOrderReader<Key>(root: UnsafeMutableRawPointer(view) + Self.protectedSourcesOffset)
    let source = Key(high: key.pointee.source_high, low: key.pointee.source_low)
    guard let place = order.floor(source, words: Key.bitWords) else { return false }
    let lengths = SPDLengths<Key>.covering(place.words, common: place.address.common(source))
    return lengths.low | lengths.high != 0
  }

  /// `kind`: 0 the policies, 1 and 2 their shadows.
  @inlinable @inline(__always)
  func view(direction: UInt8, family: UInt8, kind: UInt8 = 0) -> UnsafeMutablePointer<gw_spd_view> {
    let slot = Int(kind) &* Self.viewsOfKind &+ Int(direction & 1) &* 2 &+ (family == 10 ? 1 : 0)
    return (root + slot &* Self.viewBytes).assumingMemoryBound(to: gw_spd_view.self)
  }

  /// One look-up under way.
  @usableFromInline
  struct Search<Key: PrefixKey> {
    @usableFromInline let view: UnsafeMutablePointer<gw_spd_view>
    @usableFromInline let key: UnsafePointer<gw_flow_key>
    @usableFromInline let seed: UInt64
    @usableFromInline let source: Key
    @usableFromInline let destination: Key
    @usableFromInline var best: UnsafeMutablePointer<gw_policy>?
    @usableFromInline var bestRank = UInt64.max
    /// Lengths of the prefixes in use that cover the destination, once they were asked for.
    @usableFromInline var destinations: (low: UInt64, high: UInt64) = (0, 0)
    @usableFromInline var knowsDestinations = false

    @inlinable @inline(__always)
    init(_ view: UnsafeMutablePointer<gw_spd_view>, _ key: UnsafePointer<gw_flow_key>, seed: UInt64) {
      self.view = view
      self.key = key
      self.seed = seed
      source = Key(high: key.pointee.source_high, low: key.pointee.source_low)
      destination = Key(high: key.pointee.destination_high, low: key.pointee.destination_low)
    }

    @inlinable @inline(__always)
    static func run(
      _ view: UnsafeMutablePointer<gw_spd_view>, _ key: UnsafePointer<gw_flow_key>, seed: UInt64
    ) -> UnsafeMutablePointer<gw_policy>? {
      var search = Search(view, key, seed: seed)
      search.visitSources()
      return search.best
    }

    @inlinable @inline(__always)
    mutating func visitSources() {
      let sources = PrefixOrderReader<Key>(root: UnsafeMutableRawPointer(view))
      guard let place = sources.floor(source, words: 1) else { return }
      let common = place.address.common(source)
      let priorities = view.pointee.priorities.unsafelyUnwrapped
      let address = atomicField(place.words, 0, as: UInt.self).pointee.load(ordering: .acquiring)
      var next = UnsafeMutablePointer<gw_spd_node>(bitPattern: address)
      while let node = next {
        let link = node.linkAtomic.pointee.load(ordering: .acquiring)
        next = UnsafeMutablePointer.up(link)
        crypto_prefetch(next)
        let length = UnsafeMutablePointer<gw_spd_node>.length(link)
        // The first may be longer than what it has in common with the packet.
        if length > common { continue }
        let prioritised = atomicField(priorities, Int(length) &* 8, as: UInt64.self).pointee.load(ordering: .relaxed)
        if bestRank <= min(prioritised, Self.bound(source: length)) { return }
        let rank = node.rankAtomic.pointee.load(ordering: .relaxed)
        if rank < bestRank { visit(node, length, rank) }
      }
    }

    /// No policy ranked by specificity whose source prefix is not longer ranks before this.
    @inlinable @inline(__always)
    static func bound(source length: UInt8) -> UInt64 { 1 &<< 63 | UInt64(Key.bits &- length) &<< 55 }

    @inlinable @inline(__always)
    mutating func visit(_ node: UnsafeMutablePointer<gw_spd_node>, _ length: UInt8, _ rank: UInt64) {
      let cells = node.cellsAtomic.pointee.load(ordering: .acquiring)
      if let fan = SPDCells.fan(cells) {
        visit(fan, flags: UInt32(truncatingIfNeeded: cells >> 48), of: node, length, rank)
        return
      }
      let count = Int(truncatingIfNeeded: cells >> 1)
      var place = 0
      while place < count {
        let cell = node.cellAtomic(place).pointee.load(ordering: .acquiring)
        place &+= 1
        let masked = destination & Key.mask(Key.shortestLength(ofBit: SPDCells.bit(cell)))
        if masked.tag == cell >> 55, cell != 0 { visit(SPDCells.policy(cell)) }
      }
    }

    /// The cells of a source prefix with many.
    @inlinable
    mutating func visit(
      _ fan: UnsafeMutablePointer<gw_spd_fan>, flags inUse: UInt32, of node: UnsafeMutablePointer<gw_spd_node>,
      _ length: UInt8, _ rank: UInt64
    ) {
      if !knowsDestinations { findDestinations() }
      // A packet whose ports are hidden is not for cells that name one.
      let flags = key.pointee.opaque_ports != 0 ? inUse & 3 : inUse
      let cells = HashIndexReader(
        root: view.pointee.cells.unsafelyUnwrapped.assumingMemoryBound(to: Atomic<UInt>.self), seed: seed)
      var word = Key.bitWords &- 1
      while word >= 0 {
        let plain = Self.word(fan, word)
        var lengths = (word == 0 ? destinations.low : destinations.high) & (plain | Self.lengths(fan, flags, word))
        while lengths != 0 {
          let bit = 63 &- lengths.leadingZeroBitCount
          let mask: UInt64 = 1 &<< UInt64(truncatingIfNeeded: bit)
          lengths &= ~mask
          let shortest = Key.shortestLength(ofBit: word &* 64 &+ bit)
          let longest = shortest == 0 && Key.bitWords > 1 ? 1 : shortest
          let bound = Self.bound(source: length) | UInt64(Key.bits &- longest) &<< 47
          if rank >> 63 != 0 {
            if bestRank <= bound { return }
          } else if bestRank <= min(bound, Self.priority(fan, word &* 64 &+ bit) &<< 31) {
            continue
          }
          var asked = longest
          while true {
            if plain & mask != 0 { visitPair(fan, cells, node, asked) }
            if flags != 0 { visitNamed(fan, flags, cells, node, word, bit, asked) }
            // A bit that stands for two lengths.
            if asked == shortest { break }
            asked = shortest
          }
        }
        word &-= 1
      }
    }

    /// The cells that go by their prefixes alone, of one destination length.
    @inlinable @inline(__always)
    mutating func visitPair(
      _ fan: UnsafeMutablePointer<gw_spd_fan>, _ cells: HashIndexReader, _ node: UnsafeMutablePointer<gw_spd_node>,
      _ length: UInt8
    ) {
      let pair = SPDCells.key(node, destination & Key.mask(length), length: length, upper: 0)
      let mark = SPDCells.mark(pair)
      if Self.word(fan, 2 &+ mark.word) & mark.bit == 0 { return }
      _ = cells.first(key: pair) { cell in
        if SPDCells.isPossible(cell, key) { visit(SPDCells.policy(cell)) }
        return false
      }
    }

    /// The cells that go by protocol and ports too, of one destination length.
    @inlinable @inline(never)
    mutating func visitNamed(
      _ fan: UnsafeMutablePointer<gw_spd_fan>, _ flags: UInt32, _ cells: HashIndexReader,
      _ node: UnsafeMutablePointer<gw_spd_node>, _ word: Int, _ bit: Int, _ length: UInt8
    ) {
      let masked = destination & Key.mask(length)
      var rest = flags
      while rest != 0 {
        let flag = rest.trailingZeroBitCount
        rest &= rest &- 1
        if Self.lengths(fan, flag, word) >> UInt64(truncatingIfNeeded: bit) & 1 == 0 { continue }
        let upper = SPDCells.upper(
          UInt32(truncatingIfNeeded: flag), ipProtocol: key.pointee.ip_protocol, sourcePort: key.pointee.source_port,
          destinationPort: key.pointee.destination_port)
        _ = cells.first(key: SPDCells.key(node, masked, length: length, upper: SPDCells.named | upper)) { cell in
          visit(SPDCells.policy(cell))
          return false
        }
      }
    }

    /// Bits of the lengths that cells of a fan with any of these flags have.
    @inlinable @inline(__always)
    static func lengths(_ fan: UnsafeMutablePointer<gw_spd_fan>, _ flags: UInt32, _ word: Int) -> UInt64 {
      var lengths: UInt64 = 0
      var rest = flags
      while rest != 0 {
        lengths |= Self.lengths(fan, rest.trailingZeroBitCount, word)
        rest &= rest &- 1
      }
      return lengths
    }

    @inlinable @inline(__always)
    static func lengths(_ fan: UnsafeMutablePointer<gw_spd_fan>, _ flag: Int, _ word: Int) -> UInt64 {
      Self.word(fan, 8 &+ word &* 8 &+ flag)
    }

    @inlinable @inline(__always)
    static func priority(_ fan: UnsafeMutablePointer<gw_spd_fan>, _ bit: Int) -> UInt64 {
      UInt64(atomicField(UnsafeMutableRawPointer(fan + 1), bit &* 4, as: UInt32.self).pointee.load(ordering: .relaxed))
    }

    @inlinable @inline(__always)
    static func word(_ fan: UnsafeMutablePointer<gw_spd_fan>, _ place: Int) -> UInt64 {
      atomicField(UnsafeMutableRawPointer(fan), place &* 8, as: UInt64.self).pointee.load(ordering: .acquiring)
    }

    @inlinable @inline(__always)
    mutating func findDestinations() {
      knowsDestinations = true
      let order = PrefixOrderReader<Key>(root: UnsafeMutableRawPointer(view) + SPDReader.destinationsOffset)
      guard let place = order.floor(destination, words: Key.bitWords) else { return }
      destinations = SPDLengths<Key>.covering(place.words, common: place.address.common(destination))
    }

    /// The policies of a cell.
    @inlinable @inline(__always)
    mutating func visit(_ first: UnsafeMutablePointer<gw_policy>) {
      guard Key.covers(first, source: source, destination: destination) else { return }
      if first.pointee.any_protocol == 0 && first.pointee.ip_protocol != key.pointee.ip_protocol { return }
      var next: UnsafeMutablePointer<gw_policy>? = first
      while let policy = next, policy.pointee.rank < bestRank {
        if SPDReader.portsMatch(policy, key) {
          best = policy
          bestRank = policy.pointee.rank
          return
        }
        next = policy.nextAtomic.pointee.load(ordering: .acquiring)
      }
    }
  }

  /// Whether the packet's ports are among the policy's. A packet whose ports are hidden is only for policies that take
  /// all of them (RFC 4301 section 7, the first of its two choices).
  @inlinable @inline(__always)
  public static func portsMatch(
    _ policy: UnsafeMutablePointer<gw_policy>, _ key: UnsafePointer<gw_flow_key>
  ) -> Bool {
    let (source, destination) = (key.pointee.source_port, key.pointee.destination_port)
    if key.pointee.opaque_ports != 0 { return !namesPorts(policy) }
    return source >= policy.pointee.source_port_low && source <= policy.pointee.source_port_high
      && destination >= policy.pointee.destination_port_low && destination <= policy.pointee.destination_port_high
  }

  /// It is for some ports only.
  @inlinable @inline(__always)
  public static func namesPorts(_ policy: UnsafeMutablePointer<gw_policy>) -> Bool {
    policy.pointee.source_port_low != 0 || policy.pointee.source_port_high != UInt16.max
      || policy.pointee.destination_port_low != 0 || policy.pointee.destination_port_high != UInt16.max
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
