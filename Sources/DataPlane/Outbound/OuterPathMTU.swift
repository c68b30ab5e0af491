import CLayout
import IPsec
import Wire

/// ICMP "fragmentation needed" and "packet too big" from the untrusted side (RFC 4301 8.2.1): believed only where it
/// quotes an SPI in use between the SA's own ends, and never below 576 or 1280 bytes.
enum OuterPathMTU {
  /// Looks at a packet on its way to the host; says to the control thread what it learned.
  @inline(__always)
  static func note(_ w: WorkerPointer, _ packet: PacketPointer) {
    guard packet.pointee.origin == .clear, !packet.pointee.isFragment else { return }
    if packet.pointee.version == 4, packet.pointee.ipProtocol == IPProtocol.icmp { noteV4(w, packet) }
    if packet.pointee.version == 6, packet.pointee.ipProtocol == IPProtocol.icmpv6 { noteV6(w, packet) }
  }

  @inline(never)
  private static func noteV4(_ w: WorkerPointer, _ packet: PacketPointer) {
    let icmp = UnsafeRawPointer(packet.pointee.ip) + Int(packet.pointee.payloadOffset)
    let length = Int(packet.pointee.length) &- Int(packet.pointee.payloadOffset)
    // ICMP header, the quoted IPv4 header, and 16 bytes that hold an SPI behind UDP too.
    guard length >= 8 &+ 20 &+ 8, icmp.big16(at: 0) == 0x0304, InternetChecksum.of(icmp, count: length) == 0 else {
      return
    }
    let quoted = icmp + 8
    let headerLength = Int(quoted.byte(at: 0) & 15) &* 4
    guard quoted.byte(at: 0) >> 4 == 4, headerLength >= 20, 8 &+ headerLength &+ 8 <= length else { return }
    let spi = spi(
      quoted, at: headerLength, ipProtocol: quoted.byte(at: 9), available: length &- 8 &- headerLength)
    guard let (spi, saProtocol) = spi else { return }
    let sa = w.pointee.outboundSAs.lookup(spi: spi, destination4: quoted.big32(at: 16), saProtocol: saProtocol)
    guard let sa, sa.pointee.source_low == UInt64(quoted.big32(at: 12)) else { return }
    tell(w, sa, mtu: max(UInt32(icmp.big16(at: 6)), 576))
  }

  @inline(never)
  private static func noteV6(_ w: WorkerPointer, _ packet: PacketPointer) {
    let icmp = UnsafeRawPointer(packet.pointee.ip) + Int(packet.pointee.payloadOffset)
    let length = Int(packet.pointee.length) &- Int(packet.pointee.payloadOffset)
    guard length >= 8 &+ 40 &+ 8, icmp.big16(at: 0) == 0x0200, icmp.byte(at: 8) >> 4 == 6,
      hasChecksumV6(packet, icmp, length)
    else { return }
    let quoted = icmp + 8
    // What the gateway cut itself is quoted with its fragment header; the first piece has the SPI.
    let isPiece = quoted.byte(at: 6) == IPProtocol.fragment
    if isPiece, length < 8 &+ 40 &+ 16 || quoted.big16(at: 42) & 0xfff8 != 0 { return }
    let at = isPiece ? 48 : 40
    let found = spi(quoted, at: at, ipProtocol: quoted.byte(at: isPiece ? 40 : 6), available: length &- 8 &- at)
    guard let (spi, saProtocol) = found else { return }
    let sa = w.pointee.outboundSAs.lookup(
      spi: spi, destinationHigh: quoted.big64(at: 24), destinationLow: quoted.big64(at: 32), saProtocol: saProtocol)
    guard let sa, sa.pointee.source_high == quoted.big64(at: 8), sa.pointee.source_low == quoted.big64(at: 16) else {
      return
    }
    tell(w, sa, mtu: max(icmp.big32(at: 4), 1280))
  }

  private static func hasChecksumV6(_ packet: PacketPointer, _ icmp: UnsafeRawPointer, _ length: Int) -> Bool {
    let header = IPv6Header(checked: UnsafeRawPointer(packet.pointee.ip))
    let message = ICMPv6(icmp, length: length)
    return message?.isChecksumValid(source: header.source, destination: header.destination) == true
  }

  /// In network byte order, and the protocol it belongs to.
  private static func spi(
    _ quoted: UnsafeRawPointer, at offset: Int, ipProtocol: UInt8, available: Int
  ) -> (UInt32, UInt8)? {
    switch ipProtocol {
    case IPProtocol.esp: (quoted.loadUnaligned(fromByteOffset: offset, as: UInt32.self), IPProtocol.esp)
    case IPProtocol.ah: (quoted.loadUnaligned(fromByteOffset: offset &+ 4, as: UInt32.self), IPProtocol.ah)
    case IPProtocol.udp where available >= 12:
      (quoted.loadUnaligned(fromByteOffset: offset &+ 8, as: UInt32.self), IPProtocol.esp)
    default: nil
    }
  }

  private static func tell(_ w: WorkerPointer, _ sa: UnsafeMutablePointer<gw_sa>, mtu: UInt32) {
    let known = sa.pathMTUAtomic.pointee.load(ordering: .relaxed)
    guard known == 0 || mtu < known else { return }
    // Lost in a full ring, it comes again with the next ICMP message.
    _ = w.pointee.events.push(Event(.pathMTU, number: sa.pointee.serial, value: UInt64(mtu)))
  }
}
