import Synchronization
import Wire

/// The forwarding table as a worker sees it: two tries of 8-bit strides with the leaves pushed down, so that a lookup
/// is at most 4 (IPv4) or 16 (IPv6) dependent loads. A plain copyable value; the memory belongs to `ForwardingTable`,
/// which must outlive every reader.
///
/// An entry is one 64-bit word: bit 0 clear, the address of a child node; bit 0 set, a leaf with the adjacency index in
/// bits 32...63 and the length of the prefix it came from in bits 8...15 (read by the writer only).
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
      if entry & 1 != 0 { return UInt32(truncatingIfNeeded: entry >> 32) }
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

  /// An entry with bit 0 clear is never zero: nodes are published before anything points to them.
  @inlinable @inline(__always) static func child(_ entry: UInt64) -> UnsafeMutablePointer<Entry> {
    UnsafeMutablePointer<Entry>(bitPattern: UInt(truncatingIfNeeded: entry)).unsafelyUnwrapped
  }
}
