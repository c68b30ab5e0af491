import CDPDK
import CLayout
import DPDK

/// Where a packet on its way through a worker came from; what it is checked against depends on it.
public enum PacketOrigin: UInt8, Sendable {
  /// Received in clear.
  case clear = 0
  /// Left an SA on this gateway.
  case tunnel = 1
  /// Sent by the gateway's own kernel.
  case host = 2
}

/// One packet during one burst. Two cache lines; owned by one worker, reused burst after burst.
public struct Packet {
  // Line 0: the packet.
  @usableFromInline var mbuf: Mbuf
  /// The IP header.
  @usableFromInline var ip: UnsafeMutableRawPointer
  /// Of the IP packet, link padding cut off.
  @usableFromInline var length: Int32
  @usableFromInline var adjacency: UInt32
  @usableFromInline var sa: UnsafeMutablePointer<gw_sa>?
  @usableFromInline var policy: UnsafeMutablePointer<gw_policy>?
  @usableFromInline var sequence: UInt64
  /// From `ip`: the upper layer; ESP, AH or IPComp for inbound IPsec.
  @usableFromInline var payloadOffset: UInt16
  /// Index of the port it came in by.
  @usableFromInline var port: UInt16
  /// The upper layer's protocol number.
  @usableFromInline var ipProtocol: UInt8
  /// 4 or 6; of a dummy packet's content 0.
  @usableFromInline var version: UInt8
  @usableFromInline var origin: PacketOrigin
  /// SAs that it has passed through.
  @usableFromInline var depth: UInt8
  @usableFromInline var isFragment: Bool
  /// It came in UDP encapsulation.
  @usableFromInline var isEncapsulated: Bool
  @usableFromInline var trafficClass: UInt8
  @usableFromInline var dontFragment: Bool
  // Line 1: what it is looked up by.
  @usableFromInline var key: gw_flow_key
  @usableFromInline var hash: UInt64
  /// Inbound UDP encapsulation: the outer source as (address low : 32, port : 16).
  @usableFromInline var peer: UInt64
  /// Rounds the record to its two lines.
  @usableFromInline var spare: UInt64
}

extension UnsafeMutablePointer where Pointee == Packet {
  /// The buffer begins at the packet now, and ends with it.
  @inline(__always)
  func trim() {
    let mbuf = pointee.mbuf
    let offset = pointee.ip - mbuf.pointee.buf_addr.unsafelyUnwrapped
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: offset)
    mbuf.setLength(Int(pointee.length))
  }
}

/// Packets that wait for a stage. The memory is the worker's and has room for a whole burst.
@usableFromInline
struct PacketList {
  @usableFromInline let base: UnsafeMutablePointer<UnsafeMutablePointer<Packet>>
  @usableFromInline var count = 0

  init(capacity: Int) { base = .allocate(capacity: capacity) }

  @inline(__always)
  init(base: UnsafeMutablePointer<UnsafeMutablePointer<Packet>>) { self.base = base }

  @inlinable @inline(__always)
  mutating func append(_ packet: UnsafeMutablePointer<Packet>) {
    (base + count).initialize(to: packet)
    count &+= 1
  }

  @inlinable @inline(__always)
  subscript(_ index: Int) -> UnsafeMutablePointer<Packet> { base[index] }

  func deallocate() { base.deallocate() }
}
