import CDPDK

/// A packet buffer. Owned by whoever holds the pointer, on any one thread at a time.
public typealias Mbuf = UnsafeMutablePointer<cdpdk_mbuf>

extension UnsafeMutablePointer where Pointee == cdpdk_mbuf {
  /// First byte of the first segment.
  @inlinable @inline(__always) public var data: UnsafeMutableRawPointer {
    pointee.buf_addr.unsafelyUnwrapped + Int(pointee.data_off)
  }

  /// The pool's private area: `Mempool.privateSize` bytes, cache-line aligned, not cleared between packets.
  @inlinable @inline(__always) public var privateArea: UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(self) + MemoryLayout<cdpdk_mbuf>.size
  }

  /// Bytes before the packet.
  @inlinable @inline(__always) public var headroom: Int { Int(pointee.data_off) }

  /// Bytes after the data of a single-segment packet.
  @inlinable @inline(__always) public var tailroom: Int {
    Int(pointee.buf_len) &- Int(pointee.data_off) &- Int(pointee.data_len)
  }

  /// Grows a packet at its front; the caller has checked `headroom`.
  @inlinable @inline(__always) public func prepend(_ count: Int) {
    pointee.data_off &-= UInt16(truncatingIfNeeded: count)
    pointee.data_len &+= UInt16(truncatingIfNeeded: count)
    pointee.pkt_len &+= UInt32(truncatingIfNeeded: count)
  }

  /// Shrinks a packet at its front; the caller has checked `data_len`.
  @inlinable @inline(__always) public func trimFront(_ count: Int) {
    pointee.data_off &+= UInt16(truncatingIfNeeded: count)
    pointee.data_len &-= UInt16(truncatingIfNeeded: count)
    pointee.pkt_len &-= UInt32(truncatingIfNeeded: count)
  }

  /// Sets the length of a single-segment packet; the caller has checked the room.
  @inlinable @inline(__always) public func setLength(_ count: Int) {
    pointee.pkt_len = UInt32(truncatingIfNeeded: count)
    pointee.data_len = UInt16(truncatingIfNeeded: count)
  }
}
