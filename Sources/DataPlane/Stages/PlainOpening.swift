import CDPDK
import CLayout
import Engines
import IPsec
import Wire

/// The usual packet to open: ESP of a counter-mode AEAD with an IV of 8 bytes and an ICV of 16, no UDP. Neighbours of one
/// SA are checked and described to the engine in one run, with all of the SA in registers.
enum PlainOpening {
  /// ESP header and IV; and the ICV.
  private static var headerLength: Int { 16 }
  private static var icvLength: Int { 16 }

  @inline(__always)
  static func takes(_ sa: UnsafeMutablePointer<gw_sa>) -> Bool { sa.pointee.flags & GW_SA_PLAIN.rawValue != 0 }

  /// Jobs for those of `count` packets of the SA that pass the checks, behind those that `sealed` has.
  @inline(__always)
  static func prepare(
    _ w: WorkerPointer, _ packets: UnsafeMutablePointer<PacketPointer>, _ count: Int, _ sa: UnsafeMutablePointer<gw_sa>
  ) {
    let session = sa.session(of: w)
    let sealed = w.pointee.sealed.base
    var index = w.pointee.sealed.count
    var job = w.pointee.jobs + index
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
      // SPI and the low half of the number, then the IV (RFC 4106 3).
      let identity = header.loadUnaligned(as: UInt64.self)
      let iv = header.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
      let low = UInt32(truncatingIfNeeded: identity >> 32).bigEndian
      let isExtended = sa.pointee.flags & GW_SA_ESN.rawValue != 0
      if isExtended || sa.pointee.replay_window != 0 {
        if let reason = InboundStage.refusesSequence(packet, sa, low: low) {
          InboundStage.drop(w, packet, sa, reason)
          continue
        }
      } else {
        packet.pointee.sequence = UInt64(low)
      }
      ESP.describe(
        job, session: session, header: header, text: header + headerLength, textLength: textLength, identity: identity,
        nonce: (UInt64(sa.pointee.salt) | iv << 32, iv >> 32), isExtended: isExtended,
        high: UInt32(truncatingIfNeeded: packet.pointee.sequence >> 32).bigEndian)
      (sealed + index).initialize(to: packet)
      index &+= 1
      job += 1
    }
    w.pointee.sealed.count = index
  }

  @inline(never)
  private static func refuse(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, _ header: UnsafeMutableRawPointer,
    length: Int
  ) {
    InboundStage.drop(w, packet, sa, InboundStage.refuses(packet, sa, header, length) ?? .espTooShort)
  }
}
