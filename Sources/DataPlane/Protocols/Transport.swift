import CLayout
import DPDK
import Engines
import IPsec
import Wire

/// Transport mode: the packet keeps its own IP header, with ESP, AH or IPComp after it (RFC 4303 3.1.1).
enum Transport {
  /// Where the protection goes, and where the number of what it protects is written: offsets from the IP header.
  struct Position {
    var offset: Int
    var nextHeaderOffset: Int
  }

  @inline(__always)
  static func position(_ packet: PacketPointer) -> Position {
    if packet.pointee.version == 4 {
      return Position(offset: Int(packet.pointee.payloadOffset), nextHeaderOffset: 9)
    }
    let headers = IPv6ExtensionHeaders(IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip)))
    return Position(
      offset: Int(headers.unfragmentableEnd), nextHeaderOffset: Int(headers.unfragmentableNextHeaderOffset))
  }

  /// Moves the IP header of `position.offset` bytes so that it ends at `end`, with a new protocol and length.
  static func moveHeader(
    _ packet: PacketPointer, _ position: Position, to end: UnsafeMutableRawPointer, ipProtocol: UInt8, length: Int
  ) {
    let start = end - position.offset
    start.copyMemory(from: packet.pointee.ip, byteCount: position.offset)
    packet.pointee.ip = start
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    start.setByte(ipProtocol, at: position.nextHeaderOffset)
    if packet.pointee.version == 4 {
      start.setBig16(UInt16(truncatingIfNeeded: length), at: 2)
      IPv4Header.setChecksum(start, headerLength: position.offset)
    } else {
      IPv6Header.setPayloadLength(start, UInt16(truncatingIfNeeded: length &- IPv6Header.length))
    }
  }

  /// ESP around what follows the IP header, in UDP if the SA says so. The room was checked.
  static func frame(
    _ w: WorkerPointer, _ packet: PacketPointer, _ sa: UnsafeMutablePointer<gw_sa>,
    _ job: UnsafeMutablePointer<CryptoJob>
  ) {
    let position = position(packet)
    let nextHeader = UnsafeRawPointer(packet.pointee.ip).byte(at: position.nextHeaderOffset)
    let random: (UInt64, UInt64) =
      sa.pointee.crypto == UInt8(GW_CRYPTO_CBC.rawValue) ? w.pointee.random.next() : (0, 0)
    // The header moves before ESP is written: with little between them it would be overwritten.
    let payload = packet.pointee.ip + position.offset
    let length = Int(packet.pointee.length) &- position.offset
    let isEncapsulated = sa.pointee.flags & GW_SA_UDP_ENCAP.rawValue != 0
    let udp = isEncapsulated ? 8 : 0
    let espLength =
      ESP.headerLength &+ Int(sa.pointee.iv_length) &+ length &+ ESP.trailerLength(sa, payload: length)
      &+ Int(sa.pointee.icv_length)
    let headerEnd = payload - (ESP.headerLength &+ Int(sa.pointee.iv_length) &+ udp)
    moveHeader(
      packet, position, to: headerEnd, ipProtocol: isEncapsulated ? IPProtocol.udp : IPProtocol.esp,
      length: position.offset &+ udp &+ espLength)
    _ = ESP.frame(
      sa, payload: payload, length: length, nextHeader: nextHeader, sequence: packet.pointee.sequence, random: random,
      session: sa.sealingSession(of: w), job: job)
    if isEncapsulated { writeUDP(sa, at: headerEnd, length: udp &+ espLength) }
  }

  private static func writeUDP(_ sa: UnsafeMutablePointer<gw_sa>, at udp: UnsafeMutableRawPointer, length: Int) {
    let template = UnsafeRawPointer(sa.outerHeader) + Int(sa.pointee.outer_length) - 8
    udp.storeBytes(of: template.loadUnaligned(as: UInt32.self), as: UInt32.self)
    udp.setBig16(UInt16(truncatingIfNeeded: length), at: 4)
    udp.setBig16(0, at: 6)
  }

  /// Inbound: the IP header goes to `length` bytes of payload again. `packet.payloadOffset` is that of ESP.
  static func restore(_ packet: PacketPointer, payload: UnsafeMutableRawPointer, length: Int, nextHeader: UInt8) {
    let offset = Int(packet.pointee.payloadOffset) &- (packet.pointee.isEncapsulated ? 8 : 0)
    var nextHeaderOffset = 9
    if packet.pointee.version == 6 {
      let headers = IPv6ExtensionHeaders(IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip)))
      nextHeaderOffset = Int(headers.nextHeaderOffset)
    }
    moveHeader(
      packet, Position(offset: offset, nextHeaderOffset: nextHeaderOffset), to: payload, ipProtocol: nextHeader,
      length: offset &+ length)
    if packet.pointee.isEncapsulated { fixChecksum(packet, offset: offset, length: length, ipProtocol: nextHeader) }
  }

  /// Behind a NAT the sender summed other addresses than arrive here (RFC 3948 3.1.2): ESP has vouched for the payload,
  /// so the checksum is made anew.
  private static func fixChecksum(_ packet: PacketPointer, offset: Int, length: Int, ipProtocol: UInt8) {
    let at: Int
    switch ipProtocol {
    case IPProtocol.tcp where length >= 20: at = 16
    case IPProtocol.udp where length >= 8: at = 6
    default: return
    }
    let payload = packet.pointee.ip + offset
    if ipProtocol == IPProtocol.udp, packet.pointee.version == 4, UnsafeRawPointer(payload).big16(at: 6) == 0 { return }
    payload.setBig16(0, at: at)
    var sum = InternetChecksum()
    if packet.pointee.version == 4 {
      let header = IPv4Header(checked: UnsafeRawPointer(packet.pointee.ip))
      sum.addPseudoHeader(
        source: header.source, destination: header.destination, ipProtocol: ipProtocol,
        length: UInt16(truncatingIfNeeded: length))
    } else {
      let header = IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip))
      sum.addPseudoHeader(
        source: header.source, destination: header.destination, ipProtocol: ipProtocol, length: UInt32(length))
    }
    sum.add(payload, count: length)
    payload.setBig16(ipProtocol == IPProtocol.udp ? sum.udpValue : sum.value, at: at)
  }
}
