import IPsec
import Wire

/// A datagram of one fragment (RFC 6946): put together by itself, whatever fragments share its identification.
enum AtomicFragment {
  /// Takes the fragment header out, as reassembly would: the sender's AH did not see it (RFC 4302 3.3.4).
  /// `packet` is parsed, IPv6, and no fragment of several.
  @inline(never)
  static func unwrap(_ packet: PacketPointer) {
    let headers = IPv6ExtensionHeaders(IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip)))
    let end = Int(headers.fragmentHeaderOffset)
    let size = 8
    guard end != 0, headers.fault == nil, !headers.isFragment else { return }
    let ip = packet.pointee.ip
    ip.setByte(UnsafeRawPointer(ip).byte(at: end), at: numberOffset(UnsafeRawPointer(ip), before: end))
    (ip + size).copyMemory(from: ip, byteCount: end)
    packet.pointee.ip = ip + size
    packet.pointee.length &-= Int32(size)
    packet.pointee.payloadOffset &-= UInt16(size)
    IPv6Header.setPayloadLength(
      packet.pointee.ip, UInt16(truncatingIfNeeded: Int(packet.pointee.length) &- IPv6Header.length))
  }

  /// Where the number of the header at `end` is written. The walk over the headers came by there.
  static func numberOffset(_ ip: UnsafeRawPointer, before end: Int) -> Int {
    var number = 6
    var offset = IPv6Header.length
    while offset < end {
      number = offset
      offset &+= Int(ip.byte(at: offset &+ 1)) &* 8 &+ 8
    }
    return number
  }
}
