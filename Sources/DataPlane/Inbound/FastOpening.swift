import CDPDK
import CLayout
import Engines
import IPsec
import Wire

/// The usual packet to open: ESP of a counter-mode AEAD with an IV of 8 bytes and an ICV of 16, no UDP. Neighbours of one
/// SA are checked and described to the engine in one run, with all of the SA in registers.
enum FastOpening {
  /// ESP header and IV; and the ICV.
  private static var headerLength: Int { 16 }
  private static var icvLength: Int { 16 }

  @inline(__always)
  static func takes(_ sa: InboundSA) -> Bool { sa.record.pointee.flags & GW_SA_FAST_PATH.rawValue != 0 }

  // MARK: One SA

  /// Looks up the SA of the first packet and, if it is one of these, prepares that packet and those behind it that are
  /// the SA's and in order at a glance. Returns how many it took: none, if first and last are not of one SA.
  @inline(__always)
  static func prepareFirst(_ w: WorkerPointer, _ list: PacketList) -> Int {
    guard let esp = SimpleESP(list[0]), list[list.count &- 1].pointee.hash == esp.word,
      let sa = InboundStage.findFast(w, esp), takes(sa),
      sa.record.statusAtomic.pointee.load(ordering: .acquiring) & GW_SA_UNUSABLE.rawValue == 0
    else { return 0 }
    return isExtended(sa.record) ? extendedFirst(w, list, sa, esp) : first(w, list, sa, esp, isExtended: false)
  }

  /// ESN has a loop of its own: what it keeps beside the rest does not fit into registers.
  @inline(never)
  private static func extendedFirst(
    _ w: WorkerPointer, _ list: PacketList, _ sa: InboundSA, _ esp: SimpleESP
  ) -> Int { first(w, list, sa, esp, isExtended: true) }

  @inline(__always)
  private static func first(
    _ w: WorkerPointer, _ list: PacketList, _ opener: InboundSA, _ esp: SimpleESP, isExtended: Bool
  ) -> Int {
    let session = opener.session(of: w)
    let sa = opener.record
    let alignmentMask = Int(sa.pointee.alignment) &- 1
    var place = w.pointee.jobPackets.base
    var job = w.pointee.jobs
    var i = 0
    while i < list.count {
      let packet = list[i]
      let textLength = Int(packet.pointee.length) &- (IPv4Header.minimumLength &+ headerLength &+ icvLength)
      guard packet.pointee.hash == esp.word, textLength >= 2, textLength & alignmentMask == 0 else { break }
      i &+= 1
      packet.pointee.sa = sa
      let header = packet.pointee.ip + IPv4Header.minimumLength
      guard fill(job, w, packet, sa, session, header, textLength: textLength, isExtended: isExtended) else { continue }
      place.initialize(to: packet)
      place += 1
      job += 1
    }
    w.pointee.jobPackets.count = place - w.pointee.jobPackets.base
    return i
  }

  // MARK: Any

  /// Jobs for those of `count` packets of the SA that pass the checks, behind those that `jobPackets` has.
  @inline(__always)
  static func prepare(
    _ w: WorkerPointer, _ packets: UnsafeMutablePointer<PacketPointer>, _ count: Int, _ opener: InboundSA
  ) {
    let session = opener.session(of: w)
    let sa = opener.record
    var index = w.pointee.jobPackets.count
    var i = 0
    while i < count {
      let packet = packets[i]
      i &+= 1
      let offset = Int(packet.pointee.payloadOffset)
      let header = packet.pointee.ip + offset
      let textLength = Int(packet.pointee.length) &- offset &- (headerLength &+ icvLength)
      guard textLength >= 2, textLength & (Int(sa.pointee.alignment) &- 1) == 0, packet.marks & PacketMarks.unusual == 0
      else {
        refuse(w, packet, sa, header, length: textLength &+ (headerLength &+ icvLength))
        continue
      }
      let job = w.pointee.jobs + index
      guard fill(job, w, packet, sa, session, header, textLength: textLength, isExtended: isExtended(sa)) else {
        continue
      }
      (w.pointee.jobPackets.base + index).initialize(to: packet)
      index &+= 1
    }
    w.pointee.jobPackets.count = index
  }

  @inline(__always)
  private static func isExtended(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool {
    sa.pointee.flags & GW_SA_ESN.rawValue != 0
  }

  /// The job of a packet whose length is right; false: its number is refused, and the packet dropped.
  @inline(__always)
  private static func fill(
    _ job: UnsafeMutablePointer<CryptoJob>, _ w: WorkerPointer, _ packet: PacketPointer,
    _ sa: UnsafeMutablePointer<gw_sa>, _ session: UnsafeMutableRawPointer, _ header: UnsafeMutableRawPointer,
    textLength: Int, isExtended: Bool
  ) -> Bool {
    // SPI and the low half of the number, then the IV (RFC 4106 3).
    let identity = header.loadUnaligned(as: UInt64.self)
    let low = UInt32(truncatingIfNeeded: identity >> 32).bigEndian
    if isExtended || sa.pointee.replay_window != 0 {
      if let reason = InboundStage.refusesSequence(packet, sa, low: low) {
        w.drop(packet, sa, reason)
        return false
      }
    } else {
      packet.pointee.sequence = UInt64(low)
    }
    job.pointee.setNonce(salt: sa.pointee.salt, iv: header.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    ESP.describe(
      job, session: session, text: header + headerLength, textLength: textLength, identity: identity,
      isExtended: isExtended, high: UInt32(truncatingIfNeeded: packet.pointee.sequence >> 32).bigEndian)
    return true
  }

  @inline(never)
  private static func refuse(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ header: UnsafeMutableRawPointer,
    length: Int
  ) {
    w.drop(packet, sa, InboundStage.refuses(packet, sa, header, length) ?? .espTooShort)
  }
}
