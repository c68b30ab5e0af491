import CLayout
import Synchronization

/// Prefixes in use of one view, of destinations or of sources: for each address at which one begins, the lengths of those
/// that cover it. Control thread only.
final class SPDPrefixes<Key: PrefixKey> {
  let order: PrefixOrder<Key>
  /// Policies of each prefix.
  private var uses: [PrefixName<Key>: UInt32] = [:]

  init(root: UnsafeMutableRawPointer, reclaimer: any Reclaimer) {
    order = PrefixOrder(words: Key.bitWords, root: root, reclaimer: reclaimer)
  }

  var footprint: Int {
    order.footprint + uses.capacity * (MemoryLayout<PrefixName<Key>>.stride + MemoryLayout<UInt32>.stride)
  }

  func insert(_ prefix: PrefixName<Key>) {
    let standing = uses[prefix] ?? 0
    uses[prefix] = standing + 1
    guard standing == 0 else { return }
    if order.floor(prefix.address)?.address != prefix.address { addAddress(prefix.address) }
    mark(prefix)
  }

  func remove(_ prefix: PrefixName<Key>) {
    guard let standing = uses[prefix] else { return }
    uses[prefix] = standing == 1 ? nil : standing - 1
    // The memory of a table that is empty is not kept.
    if uses.isEmpty { uses = [:] }
    guard standing == 1 else { return }
    let bit = Key.bit(ofLength: prefix.length)
    order.forEach(prefix.address, prefix.last) { _, words in
      Self.word(words, bit).pointee.bitwiseAnd(~(1 << UInt64(bit & 63)), ordering: .relaxed)
    }
    if Key.bit(ofLength: 0) == Key.bit(ofLength: 1), prefix.length < 2 {
      // Those that share the bit.
      for other in uses.keys where other.length < 2 { mark(other) }
    }
    if !isStart(prefix.address) { order.remove(prefix.address) }
  }

  private func mark(_ prefix: PrefixName<Key>) {
    let bit = Key.bit(ofLength: prefix.length)
    order.forEach(prefix.address, prefix.last) { _, words in
      Self.word(words, bit).pointee.bitwiseOr(1 << UInt64(bit & 63), ordering: .relaxed)
    }
  }

  /// Whether a prefix in use begins here.
  private func isStart(_ address: Key) -> Bool {
    let shortest = Int(Key.bits) - address.trailingZeroBitCount
    return (shortest...Int(Key.bits)).contains { uses[PrefixName(address, UInt8($0))] != nil }
  }

  /// With the lengths of what covers it.
  private func addAddress(_ address: Key) {
    let before = order.floor(address)
    let covering = before.map { SPDLengths<Key>.covering($0.words, common: $0.address.common(address)) }
    order.insert(address)
    guard let covering else { return }
    order.forEach(address, address) { _, words in
      Self.word(words, 0).pointee.store(covering.low, ordering: .relaxed)
      if Key.bitWords > 1 { Self.word(words, 64).pointee.store(covering.high, ordering: .relaxed) }
    }
  }

  private static func word(_ words: UnsafeMutableRawPointer, _ bit: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    atomicField(words, bit / 64 * 8)
  }
}

/// Sets of prefix lengths as bits.
@usableFromInline
enum SPDLengths<Key: PrefixKey> {
  /// Of the lengths that stand with an address those whose prefix covers a packet's address as well, which has `common`
  /// leading bits in common with it.
  @inlinable @inline(__always)
  static func covering(_ words: UnsafeMutableRawPointer, common: UInt8) -> (low: UInt64, high: UInt64) {
    let low = atomicField(words, 0, as: UInt64.self).pointee.load(ordering: .relaxed)
    let bits = UInt64(truncatingIfNeeded: Key.bit(ofLength: common) &+ 1)
    if Key.bitWords == 1 { return (low & ((1 &<< bits) &- 1), 0) }
    let high = atomicField(words, 8, as: UInt64.self).pointee.load(ordering: .relaxed)
    if bits <= 64 { return (bits == 64 ? low : low & ((1 &<< bits) &- 1), 0) }
    return (low, bits >= 128 ? high : high & ((1 &<< (bits &- 64)) &- 1))
  }
}
