import CLayout
import Synchronization

/// Brings near what a look-up will read, for a burst of packets side by side: each of four steps asks memory for what
/// the next one reads, of all packets before the next step begins, so that they wait together. One for each packet and
/// direction. What it finds is a hint to the cache and no more, to be used up before the worker's next quiescent state.
public struct SPDPrefetch {
  @usableFromInline var source: UnsafeMutableRawPointer?
  @usableFromInline var destination: UnsafeMutableRawPointer?
  @usableFromInline var group = -1

  @inlinable @inline(__always)
  public init() {}

  /// Step 0, for the policies of a direction, whatever the key says of it.
  @inlinable @inline(__always)
  public mutating func begin(_ spd: SPDReader, _ key: UnsafePointer<gw_flow_key>, direction: gw_direction) {
    let view = spd.view(direction: UInt8(truncatingIfNeeded: direction.rawValue), family: key.pointee.family)
    if key.pointee.family == 10 { begin(UInt128.self, view, key) } else { begin(UInt32.self, view, key) }
  }

  /// Steps 1, 2 and 3.
  @inlinable @inline(__always)
  public mutating func advance(_ key: UnsafePointer<gw_flow_key>, step: Int) {
    if key.pointee.family == 10 { advance(UInt128.self, key, step) } else { advance(UInt32.self, key, step) }
  }

  @inlinable @inline(__always)
  mutating func begin<Key: PrefixKey>(
    _: Key.Type, _ view: UnsafeMutablePointer<gw_spd_view>, _ key: UnsafePointer<gw_flow_key>
  ) {
    let view = UnsafeMutableRawPointer(view)
    source = Self.chunk(view, Key(high: key.pointee.source_high, low: key.pointee.source_low))
    destination = Self.chunk(
      view + SPDReader.destinationsOffset, Key(high: key.pointee.destination_high, low: key.pointee.destination_low))
  }

  @inlinable @inline(__always)
  static func chunk<Key: PrefixKey>(_ root: UnsafeMutableRawPointer, _ key: Key) -> UnsafeMutableRawPointer? {
    // What is small is near.
    guard let top = PrefixOrderReader<Key>(root: root).top(), top.load(as: Int.self) > 4 else { return nil }
    let chunk = PrefixOrderReader<Key>.chunk(top, key)
    crypto_prefetch(chunk)
    return chunk
  }

  @inlinable @inline(__always)
  mutating func advance<Key: PrefixKey>(_: Key.Type, _ key: UnsafePointer<gw_flow_key>, _ step: Int) {
    if step == 1, let destination {
      let address = Key(high: key.pointee.destination_high, low: key.pointee.destination_low)
      _ = Self.group(destination, address, words: Key.bitWords)
    }
    guard let place = source else { return }
    let address = Key(high: key.pointee.source_high, low: key.pointee.source_low)
    switch step {
    case 1:
      group = Self.group(place, address, words: 1)
      if group < 0 { source = nil }
    case 2:
      source = Self.word(place, group, address)
      crypto_prefetch(source)
    default:
      // The node above, and what leads to the cells of this one.
      let node = place.assumingMemoryBound(to: gw_spd_node.self)
      crypto_prefetch(UnsafeMutablePointer<gw_spd_node>.up(node.linkAtomic.pointee.load(ordering: .acquiring)))
      crypto_prefetch(SPDCells.fan(node.cellsAtomic.pointee.load(ordering: .acquiring)))
    }
  }

  /// The group that an address is in; -1: there is none.
  @inlinable @inline(__always)
  static func group<Key: PrefixKey>(_ chunk: UnsafeMutableRawPointer, _ key: Key, words: Int) -> Int {
    typealias Reader = PrefixOrderReader<Key>
    let group = Reader.countNotAbove(key, chunk.assumingMemoryBound(to: Key.self)) &- 1
    if group < 0 { return group }
    let first = group &* Reader.groupCount
    crypto_prefetch(chunk + Reader.keysOffset + first &* Reader.keyBytes)
    crypto_prefetch(chunk + Reader.wordsOffset + first &* words &* 8)
    crypto_prefetch(chunk + Reader.wordsOffset + first &* words &* 8 + 64)
    return group
  }

  /// What the first word of an address leads to.
  @inlinable @inline(__always)
  static func word<Key: PrefixKey>(
    _ chunk: UnsafeMutableRawPointer, _ group: Int, _ key: Key
  ) -> UnsafeMutableRawPointer? {
    typealias Reader = PrefixOrderReader<Key>
    let first = group &* Reader.groupCount
    let keys = (chunk + Reader.keysOffset + first &* Reader.keyBytes).assumingMemoryBound(to: Key.self)
    let place = first &+ Reader.countNotAbove(key, keys) &- 1
    let word = atomicField(chunk + Reader.wordsOffset, place &* 8, as: UInt.self)
    return UnsafeMutableRawPointer(bitPattern: word.pointee.load(ordering: .acquiring))
  }
}
