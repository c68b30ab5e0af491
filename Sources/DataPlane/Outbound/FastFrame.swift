import CLayout
import DPDK
import Engines
import IPsec
import Routing
import Wire

/// The frames of one SA of `FastTunnel`, for as long as a run takes: header, trailer and job of a packet are written in
/// one go, down to the Ethernet header. One worker's.
///
/// The SA's fields are read where they are used: there are more of them than registers, and a copy would be written to
/// the stack and read from there.
struct FastFrame {
  /// ESP header and IV.
  private static var headerLength: Int { 16 }
  private static var outerLength: Int { 20 }
  private static var ethernetLength: Int { 14 }
  private static var icvLength: Int { 16 }
  /// What a frame is longer than its text.
  static var added: Int { ethernetLength + outerLength + headerLength + icvLength }
  /// In `CryptoJob.index`, which is the port otherwise: the outer packet is too large for its link.
  static var isTooLarge: UInt16 { .max }

  private let sa: UnsafeMutablePointer<gw_sa>
  private let adjacency: UnsafePointer<Adjacency>
  private let session: UnsafeMutableRawPointer
  /// What the outer header takes over of a packet's marks, and what it has of its own: bits as in `PacketMarks`.
  private let copiedMarks: UInt32
  private let ownMarks: UInt32
  /// The largest packet that goes through the tunnel whole, with all that is put around it.
  let limit: Int
  /// The last identification of an outer header without DF.
  var identification: UInt16

  @inline(__always)
  init(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ adjacency: UnsafePointer<Adjacency>) {
    self.sa = sa
    self.adjacency = adjacency
    session = sa.sealingSession(of: w)
    limit = sa.pathMTU(linkMTU: adjacency.pointee.mtu)
    identification = w.pointee.identification
    let flags = sa.pointee.flags
    let (setsDF, copiesDF) = (flags / GW_SA_DF_SET.rawValue & 1, flags / GW_SA_DF_COPY.rawValue & 1)
    copiedMarks = PacketMarks.word(trafficClass: OuterHeader.copiedClass(flags), dontFragment: copiesDF)
    ownMarks = PacketMarks.word(trafficClass: 0, dontFragment: setsDF)
  }

  /// Whether the packet goes through whole, and its buffer has room around it.
  @inline(__always)
  func isSimple(_ packet: PacketPointer) -> Bool {
    let mbuf = packet.pointee.mbuf
    let room = packet.pointee.ip - mbuf.pointee.buf_addr.unsafelyUnwrapped
    let grown = Int(packet.pointee.length) &+ Int(sa.pointee.overhead)
    let before = room &- (Self.outerLength &+ Self.headerLength &+ Self.ethernetLength)
    let behind = Int(mbuf.pointee.buf_len) &- room &- grown
    // None is negative.
    return (limit &- grown) | before | behind >= 0
  }

  /// Headers before a packet that is simple and the trailer behind it, in place, and its job.
  ///
  /// The outer packet is no larger than `isSimple` has found it to grow at most, and that goes through the link.
  @inline(__always)
  mutating func write(_ packet: PacketPointer, _ job: UnsafeMutablePointer<CryptoJob>, number: UInt64) {
    setBuffer(packet, job, writeESP(packet, job, number: number))
  }

  /// The same for a packet that has room around it: what is too large for its link is fragmented behind the engine.
  mutating func writeAny(_ packet: PacketPointer, _ job: UnsafeMutablePointer<CryptoJob>, number: UInt64) {
    let outer = writeESP(packet, job, number: number)
    if outer.length <= Int(adjacency.pointee.mtu) { return setBuffer(packet, job, outer) }
    packet.pointee.ip = outer.start
    packet.pointee.length = Int32(truncatingIfNeeded: outer.length)
    packet.pointee.version = 4
    packet.pointee.dontFragment = outer.isWhole
    job.pointee.index = Self.isTooLarge
  }

  /// An outer packet.
  private struct Outer {
    let start: UnsafeMutableRawPointer
    let length: Int
    let isWhole: Bool
  }

  /// All that is written around a packet.
  @inline(__always)
  private mutating func writeESP(
    _ packet: PacketPointer, _ job: UnsafeMutablePointer<CryptoJob>, number: UInt64
  ) -> Outer {
    let length = Int(packet.pointee.length)
    let text = packet.pointee.ip
    let alignmentMask = Int(sa.pointee.alignment) &- 1
    let textLength = (length &+ 2 &+ alignmentMask) & ~alignmentMask
    // RFC 4303 2.4: 1, 2, 3 …, over which pad length and next header are put.
    let padding = textLength &- 2 &- length
    let next = UInt16(packet.pointee.version == 4 ? IPProtocol.ipip : IPProtocol.ipv6)
    (text + length).storeBytes(of: UInt64(0x0807_0605_0403_0201).littleEndian, as: UInt64.self)
    (text + (textLength &- 2)).storeBytes(
      of: (next << 8 | UInt16(truncatingIfNeeded: padding)).littleEndian, as: UInt16.self)
    // The sequence number is the IV (RFC 4106 3.1); its low half is the one on the wire.
    let iv = number.bigEndian
    let identity = UInt64(sa.pointee.spi) | iv & 0xffff_ffff_0000_0000
    let esp = text - Self.headerLength
    esp.storeBytes(of: identity, as: UInt64.self)
    esp.storeBytes(of: iv, toByteOffset: 8, as: UInt64.self)

    job.pointee.setNonce(salt: sa.pointee.salt, iv: iv)
    ESP.describe(
      job, session: session, text: text, textLength: textLength, identity: identity,
      isExtended: sa.pointee.flags & GW_SA_ESN.rawValue != 0,
      high: UInt32(truncatingIfNeeded: iv))

    let start = esp - Self.outerLength
    let total = textLength &+ (Self.outerLength &+ Self.headerLength &+ Self.icvLength)
    let isWhole = writeOuter(packet, at: start, length: total)
    return Outer(start: start, length: total, isWhole: isWhole != 0)
  }

  @inline(__always)
  private func setBuffer(_ packet: PacketPointer, _ job: UnsafeMutablePointer<CryptoJob>, _ outer: Outer) {
    let mbuf = packet.pointee.mbuf
    let frame = outer.start - Self.ethernetLength
    adjacency.pointee.writeEthernetHeader(to: frame)
    mbuf.pointee.data_off = UInt16(truncatingIfNeeded: frame - mbuf.pointee.buf_addr.unsafelyUnwrapped)
    mbuf.setLength(outer.length &+ Self.ethernetLength)
    job.pointee.index = adjacency.pointee.port
  }

  /// Returns DF, 1 or 0.
  @inline(__always)
  private mutating func writeOuter(_ packet: PacketPointer, at start: UnsafeMutableRawPointer, length: Int) -> UInt64 {
    let marks = packet.marks & copiedMarks | ownMarks
    let isWhole = UInt64(PacketMarks.dontFragment(marks))
    let added = UInt64(PacketMarks.trafficClass(marks))
    let wireTotal = UInt64(UInt16(truncatingIfNeeded: length).bigEndian)
    // DF takes no identification (RFC 6864 4.1). No branch: packets with DF and without come mixed.
    identification &+= UInt16(truncatingIfNeeded: 1 &- isWhole)
    let identifier = UInt64(identification.bigEndian) & (isWhole &- 1)
    let fragment = isWhole << 6
    var sum = UInt64(sa.pointee.outer_sum) &+ added << 8 &+ wireTotal &+ identifier &+ fragment
    sum = (sum & 0xffff) &+ (sum >> 16)
    sum = (sum & 0xffff) &+ (sum >> 16)
    let outer = UnsafeRawPointer(sa.outerHeader)
    start.storeBytes(
      of: outer.load(as: UInt64.self) | added << 8 | wireTotal << 16 | identifier << 32 | fragment << 48,
      as: UInt64.self)
    start.storeBytes(
      of: outer.load(fromByteOffset: 8, as: UInt64.self) | (~sum & 0xffff) << 16, toByteOffset: 8, as: UInt64.self)
    start.storeBytes(of: outer.load(fromByteOffset: 16, as: UInt32.self), toByteOffset: 16, as: UInt32.self)
    return isWhole
  }
}
