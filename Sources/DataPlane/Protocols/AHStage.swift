import CLayout
import DPDK
import Engines
import IPsec
import Wire

/// AH (RFC 4302): the packet itself becomes the image that the engine authenticates, and is put back when that is done.
enum AHStage {
  // MARK: Outbound

  /// True: `job`, number `index` of the burst, is filled. The room was checked.
  @inline(never)
  static func seal(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ job: UnsafeMutablePointer<CryptoJob>, index: Int
  ) -> Bool {
    let length = AH.headerLength(sa)
    let header: UnsafeMutableRawPointer
    let nextHeader: UInt8
    if sa.pointee.flags & GW_SA_TUNNEL.rawValue != 0 {
      nextHeader = packet.pointee.version == 4 ? IPProtocol.ipip : IPProtocol.ipv6
      header = packet.pointee.ip - length
      let outer = Int(sa.pointee.outer_length)
      OutboundStage.putOuterHeader(
        w, packet, sa, at: header - outer, length: Int(packet.pointee.length) &+ length &+ outer)
    } else {
      let position = Transport.position(packet)
      nextHeader = UnsafeRawPointer(packet.pointee.ip).byte(at: position.nextHeaderOffset)
      header = packet.pointee.ip + (position.offset &- length)
      Transport.moveHeader(
        packet, position, to: header, ipProtocol: AH.ipProtocol, length: Int(packet.pointee.length) &+ length)
    }
    AH.write(sa, at: header, nextHeader: nextHeader, sequence: packet.pointee.sequence)
    guard makeImage(w, packet, end: header - packet.pointee.ip, isSealing: true, index: index) else {
      w.drop(packet, sa, .ahUnsupportedHeader)
      return false
    }
    AH.fill(
      job, sa, image: packet.pointee.ip, length: Int(packet.pointee.length), icvField: header + AHHeader.fixedLength,
      iv: packet.pointee.sequence.bigEndian, sequence: packet.pointee.sequence, session: sa.sealingSession(of: w))
    return true
  }

  /// The engine is done with job `index`.
  @inline(never)
  static func sealed(_ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, index: Int) {
    let kept = w.keptImage(index)
    kept.restore(packet.pointee.ip)
    AH.writeIV(sa, at: packet.pointee.ip + kept.count, sequence: packet.pointee.sequence)
  }

  private static func makeImage(
    _ w: WorkerPointer, _ packet: PacketPointer, end: Int, isSealing: Bool, index: Int
  ) -> Bool {
    guard end <= AHImage.maximumLength else { return false }
    w.keptImage(index).keep(packet.pointee.ip, count: end)
    return AHImage.clear(packet.pointee.ip, end: end, version: packet.pointee.version, isSealing: isSealing)
  }

  // MARK: Inbound

  /// True: `job`, number `index` of the burst, is filled.
  @inline(never)
  static func open(
    _ w: WorkerPointer, _ packet: PacketPointer, _ opener: InboundSA, _ job: UnsafeMutablePointer<CryptoJob>, index: Int
  ) -> Bool {
    let sa = opener.record
    if packet.pointee.version == 6 { AtomicFragment.unwrap(packet) }
    let offset = Int(packet.pointee.payloadOffset)
    let header = packet.pointee.ip + offset
    guard let view = AHHeader(header, length: Int(packet.pointee.length) &- offset),
      AH.accepts(sa, headerLength: view.headerLength)
    else {
      w.drop(packet, sa, .ahMalformed)
      return false
    }
    if let reason = InboundStage.refusesSequence(packet, sa, low: view.sequence) {
      w.drop(packet, sa, reason)
      return false
    }
    guard hasTail(packet) else {
      w.drop(packet, sa, .noTailroom)
      return false
    }
    guard makeImage(w, packet, end: offset, isSealing: false, index: index) else {
      w.drop(packet, sa, .ahUnsupportedHeader)
      return false
    }
    let field = w.keptImage(index).icvField
    AH.takeICV(sa, from: header, to: field)
    AH.fill(
      job, sa, image: packet.pointee.ip, length: Int(packet.pointee.length), icvField: field,
      iv: field.load(as: UInt64.self), sequence: packet.pointee.sequence, session: opener.session(of: w))
    return true
  }

  /// Four bytes behind the packet, which an engine may use for the upper half of the sequence number.
  private static func hasTail(_ packet: PacketPointer) -> Bool {
    let mbuf = packet.pointee.mbuf
    let before = packet.pointee.ip - mbuf.pointee.buf_addr.unsafelyUnwrapped
    return Int(mbuf.pointee.buf_len) &- before &- Int(packet.pointee.length) >= 4
  }

  /// Job `index` authenticated the packet and its number was accepted: the header comes off.
  @inline(never)
  static func opened(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>, index: Int,
    _ count: inout SACount
  ) {
    w.keptImage(index).restore(packet.pointee.ip)
    let offset = Int(packet.pointee.payloadOffset)
    let header = packet.pointee.ip + offset
    guard let view = AHHeader(header, length: Int(packet.pointee.length) &- offset) else {
      w.drop(packet, sa, .ahMalformed)
      return
    }
    let payload = header + view.headerLength
    let length = Int(packet.pointee.length) &- offset &- view.headerLength
    count.add(bytes: length)
    InboundStage.unwrap(w, packet, sa, payload: payload, length: length, nextHeader: view.nextHeader)
  }
}
