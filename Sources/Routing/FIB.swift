import Synchronization
import Wire

/// The forwarding table as a worker sees it: two tries of 8-bit strides with the leaves pushed down, so that a lookup
/// is at most 4 (IPv4) or 16 (IPv6) dependent loads. Where only one IPv6 prefix lies below a slot, a tail stands for the
/// chain of nodes that would lead to it. A plain copyable value; the memory belongs to `ForwardingTable`, which must
/// outlive every reader.
///
/// An entry is one 64-bit word:
///
///     bit 0 set            a leaf: adjacency index in bits 32...63, length of its prefix in bits 8...15 (writer only)
///     bit 0 clear, 1 set   the address of a tail, plus 2; in the IPv6 trie only
///     both clear           the address of a child node
///
/// Lookups: any thread, under RCU: what a lookup returns is valid until the reader's next quiescent state.
public struct FIB: @unchecked Sendable {
  public typealias Entry = Atomic<UInt64>

  @usableFromInline let v4Root: UnsafeMutablePointer<Entry>
  @usableFromInline let v6Root: UnsafeMutablePointer<Entry>

  init(v4Root: UnsafeMutablePointer<Entry>, v6Root: UnsafeMutablePointer<Entry>) {
    self.v4Root = v4Root
    self.v6Root = v6Root
  }

  /// The adjacency index for a destination in host byte order; 0: no route.
  @inlinable @inline(__always) public func lookup(v4 address: UInt32) -> UInt32 {
    var node = v4Root
    var rest = address
    while true {
      let entry = node[Int(truncatingIfNeeded: rest >> 24)].load(ordering: .acquiring)
      if entry & 1 != 0 { return UInt32(truncatingIfNeeded: entry >> 32) }
      node = Self.child(entry)
      rest <<= 8
    }
  }

  /// The adjacency index for a destination given as two halves in host byte order; 0: no route.
  @inlinable @inline(__always) public func lookup(v6High high: UInt64, low: UInt64) -> UInt32 {
    var node = v6Root
    var rest = high
    var next = low
    while true {
      let entry = node[Int(truncatingIfNeeded: rest >> 56)].load(ordering: .acquiring)
      if entry & 3 != 0 {
        let leaf = entry & 1 != 0 ? entry : Self.tail(entry).pointee.leaf(high, low)
        return UInt32(truncatingIfNeeded: leaf >> 32)
      }
      node = Self.child(entry)
      rest = rest << 8 | next >> 56
      next <<= 8
    }
  }

  @inlinable @inline(__always) public func lookup(v6 address: IPv6Address) -> UInt32 {
    lookup(v6High: address.high, low: address.low)
  }

  @inlinable @inline(__always) public func lookup(_ address: IPAddress) -> UInt32 {
    switch address {
    case .v4(let address): lookup(v4: address.rawValue)
    case .v6(let address): lookup(v6High: address.high, low: address.low)
    }
  }

  /// An entry with bits 0 and 1 clear is never zero: nodes are published before anything points to them.
  @inlinable @inline(__always) static func child(_ entry: UInt64) -> UnsafeMutablePointer<Entry> {
    UnsafeMutablePointer<Entry>(bitPattern: UInt(truncatingIfNeeded: entry)).unsafelyUnwrapped
  }
  @inlinable @inline(__always) static func tail(_ entry: UInt64) -> UnsafePointer<FIBTail> {
    UnsafePointer<FIBTail>(bitPattern: UInt(truncatingIfNeeded: entry & ~2)).unsafelyUnwrapped
  }
}

/// The only prefix below a slot: one cache line, immutable once published. `inside` and `outside` are leaf entries: for
/// addresses that the prefix holds, and for the others that come by the slot.
@usableFromInline struct FIBTail {
  @usableFromInline let keyHigh: UInt64
  @usableFromInline let keyLow: UInt64
  @usableFromInline let maskHigh: UInt64
  @usableFromInline let maskLow: UInt64
  @usableFromInline let inside: UInt64
  @usableFromInline let outside: UInt64

  init(keyHigh: UInt64, keyLow: UInt64, inside: FIBLeaf, outside: FIBLeaf) {
    (self.keyHigh, self.keyLow) = (keyHigh, keyLow)
    let length = UInt64(inside.length)
    maskHigh = length == 0 ? 0 : length >= 64 ? .max : .max << (64 - length)
    maskLow = length <= 64 ? 0 : .max << (128 - length)
    self.inside = inside.word
    self.outside = outside.word
  }

  @inlinable @inline(__always) func leaf(_ high: UInt64, _ low: UInt64) -> UInt64 {
    (high ^ keyHigh) & maskHigh | (low ^ keyLow) & maskLow == 0 ? inside : outside
  }
}
