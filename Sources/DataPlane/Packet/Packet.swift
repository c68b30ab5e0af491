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
  /// An ICMP error of the gateway's about a packet that left an SA: it quotes what was protected, and leaves protected or
  /// not at all.
  case answer = 3

  /// The gateway's own.
  @inline(__always) var isOwn: Bool { rawValue >= Self.host.rawValue }
}

/// One packet during one burst. Two cache lines; owned by one worker, reused burst after burst.
public struct Packet {
  // Line 0: the packet. Where its fields lie, `PacketHeader` and `PacketMarks` know too.
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
  /// Of `key`, in `policy`; in `inbound` what `SimpleESP` says, or 0.
  @usableFromInline var hash: UInt64
  /// Inbound UDP encapsulation: the outer source as (address low : 32, port : 16).
  @usableFromInline var peer: UInt64
  /// Rounds the record to its two lines.
  @usableFromInline var spare: UInt64
}

/// `payloadOffset` to `depth` as one word, as they lie in `Packet`: one store for six.
struct PacketHeader {
  static var offset: Int { 48 }
  /// What came before the parser: port, origin, depth.
  static var beforeParsing: UInt64 { 0xffff_0000_ffff_0000 }
  static var portMask: UInt64 { 0xffff_0000 }

  var word: UInt64

  @inline(__always)
  init(word: UInt64) { self.word = word }

  @inline(__always)
  init(port: Int, origin: PacketOrigin, depth: UInt8 = 0) {
    word = UInt64(UInt16(truncatingIfNeeded: port)) << 16 | UInt64(origin.rawValue) << 48 | UInt64(depth) << 56
  }

  @inline(__always)
  mutating func parsed(payloadOffset: Int, ipProtocol: UInt8, version: UInt8) {
    word =
      word & Self.beforeParsing | UInt64(UInt16(truncatingIfNeeded: payloadOffset)) | UInt64(ipProtocol) << 32
      | UInt64(version) << 40
  }

  /// Port and origin where a flow's key has them: see `Flow`.
  var flowBits: UInt64 {
    @inline(__always) get { word << 8 & Flow.originMask | word << 42 & Flow.portMask }
  }
}

/// `isFragment` to `dontFragment` as one word.
struct PacketMarks {
  static var offset: Int { 56 }
  /// Not encapsulated.
  @inline(__always)
  static func word(isFragment: Bool, trafficClass: UInt8, dontFragment: Bool) -> UInt32 {
    (isFragment ? 1 : 0) | UInt32(trafficClass) << 16 | (dontFragment ? 1 << 24 : 0)
  }
  /// Of a whole packet, by the first eight bytes of its IPv4 header, little-endian.
  @inline(__always)
  static func word(ipv4 first: UInt64) -> UInt32 {
    UInt32(truncatingIfNeeded: first << 8 & 0xff_0000 | first >> 30 & 0x100_0000)
  }
  /// `dontFragment`: 1 or 0.
  @inline(__always)
  static func word(trafficClass: UInt8, dontFragment: UInt32) -> UInt32 {
    UInt32(trafficClass) << 16 | dontFragment << 24
  }
  @inline(__always)
  static func trafficClass(_ word: UInt32) -> UInt8 { UInt8(truncatingIfNeeded: word >> 16) }
  /// 1 or 0.
  @inline(__always)
  static func dontFragment(_ word: UInt32) -> UInt32 { word >> 24 & 1 }
  /// A fragment, or encapsulated.
  static var unusual: UInt32 { 0x0101 }
  /// What an opened packet's outer header may have for the inner one: ECN; it was encapsulated.
  static var opened: UInt32 { 0x3_0100 }
}

extension UnsafeMutablePointer where Pointee == Packet {
  var header: PacketHeader {
    @inline(__always) get {
      PacketHeader(word: UnsafeRawPointer(self).load(fromByteOffset: PacketHeader.offset, as: UInt64.self))
    }
    @inline(__always) nonmutating set {
      UnsafeMutableRawPointer(self).storeBytes(of: newValue.word, toByteOffset: PacketHeader.offset, as: UInt64.self)
    }
  }

  var marks: UInt32 {
    @inline(__always) get { UnsafeRawPointer(self).load(fromByteOffset: PacketMarks.offset, as: UInt32.self) }
    @inline(__always) nonmutating set {
      UnsafeMutableRawPointer(self).storeBytes(of: newValue, toByteOffset: PacketMarks.offset, as: UInt32.self)
    }
  }

  /// A record's first use in a burst. The caller writes header, marks and length.
  @inline(__always)
  func begin(_ mbuf: Mbuf) {
    pointee.mbuf = mbuf
    pointee.sa = nil
    pointee.policy = nil
  }

  /// The buffer begins at the packet now, and ends with it.
  @inline(__always)
  func trim() {
    let mbuf = pointee.mbuf
    let offset = pointee.ip - mbuf.pointee.buf_addr.unsafelyUnwrapped
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: offset)
    mbuf.setLength(Int(pointee.length))
  }

  /// `trim`, if it came out of a tunnel, where nobody has.
  @inline(__always)
  func trimOpened() {
    if pointee.origin == .tunnel { trim() }
  }
}

/// Packets that wait for a stage, each once. The memory is the worker's and has room for all of its records.
@usableFromInline
struct PacketList {
  @usableFromInline let base: UnsafeMutablePointer<UnsafeMutablePointer<Packet>>
  @usableFromInline var count = 0

  @inline(__always)
  init(base: UnsafeMutablePointer<UnsafeMutablePointer<Packet>>) { self.base = base }

  @inlinable @inline(__always)
  mutating func append(_ packet: UnsafeMutablePointer<Packet>) {
    (base + count).initialize(to: packet)
    count &+= 1
  }

  @inlinable @inline(__always)
  subscript(_ index: Int) -> UnsafeMutablePointer<Packet> { base[index] }
}
