import CLayout
import DPDK
import IPsec
import Wire

/// The usual header, by its words: IPv4 without options, a whole datagram, its length and checksum right. What was parsed
/// stays in registers until the packet is sorted, for what was stored a moment ago is slow to load. Every other header is
/// `IPParser`'s.
struct SimpleIPv4 {
  /// The source above, the destination below.
  let addresses: UInt64
  /// The upper layer's protocol.
  let number: UInt64
  /// Of the packet; at least 28.
  let length: Int
  /// As in `PacketMarks`.
  let marks: UInt32

  /// What the first word has but for length, identification, DF and traffic class: version and header length, no fragment.
  private static var fixedMask: UInt64 { 0xff3f_0000_0000_00ff }
  private static var fixed: UInt64 { 0x45 }
  /// With the header of UDP, or of ESP.
  private static var leastLength: Int { 28 }

  /// Nil: not the usual one, or wrong. `length` bytes are there, and in any case eight that may be read.
  @inline(__always)
  init?(_ ip: UnsafeRawPointer, length: Int) {
    let first = UInt64(littleEndian: ip.loadUnaligned(as: UInt64.self))
    let total = Int(UInt16(truncatingIfNeeded: first >> 16).bigEndian)
    guard first & Self.fixedMask == Self.fixed, total >= Self.leastLength, total <= length,
      IPv4Header.isShortChecksumValid(ip)
    else { return nil }
    self.length = total
    number = UInt64(ip.byte(at: 9))
    addresses = ip.big64(at: 12)
    marks = PacketMarks.word(ipv4: first)
  }

  /// What a packet's header word is with this header: port, origin and depth are the caller's.
  @inline(__always)
  static func header(port: Int, origin: PacketOrigin, depth: UInt8) -> PacketHeader {
    var header = PacketHeader(port: port, origin: origin, depth: depth)
    header.parsed(payloadOffset: IPv4Header.minimumLength, ipProtocol: 0, version: 4)
    return header
  }

  /// The same, out of the first SA around it.
  @inline(__always)
  static func header(opened outer: PacketHeader) -> PacketHeader {
    PacketHeader(word: header(port: 0, origin: .tunnel, depth: 1).word | outer.word & PacketHeader.portMask)
  }

  /// Into the packet's record, but for its buffer, `ip` and key.
  @inline(__always)
  func record(_ packet: PacketPointer, _ header: PacketHeader) {
    packet.pointee.length = Int32(truncatingIfNeeded: length)
    packet.header = PacketHeader(word: header.word | number << 32)
    packet.marks = marks
  }

  /// `rest`: the key's last word.
  @inline(__always)
  func recordKey(_ packet: PacketPointer, rest: UInt64) {
    packet.pointee.key.source_high = 0
    packet.pointee.key.source_low = addresses >> 32
    packet.pointee.key.destination_high = 0
    packet.pointee.key.destination_low = addresses & 0xffff_ffff
    IPParser.setRest(packet, rest)
  }
}

/// ESP behind a `SimpleIPv4`, from outside: what its SA is found by, in one word that is not 0. The packet has no key until
/// it is known that no SA takes it.
struct SimpleESP {
  let word: UInt64

  /// Nil: SPI 0 to 0.0.0.0, which would be taken for a packet that is none of these.
  @inline(__always)
  init?(spi: UInt32, destination: UInt64) {
    word = UInt64(spi) << 32 | destination
    if word == 0 { return nil }
  }

  /// Nil: another packet.
  @inline(__always)
  init?(_ packet: PacketPointer) {
    word = packet.pointee.hash
    if word == 0 { return nil }
  }

  /// As it lies in the packet.
  var spi: UInt32 {
    @inline(__always) get { UInt32(truncatingIfNeeded: word >> 32) }
  }
  var destination: UInt32 {
    @inline(__always) get { UInt32(truncatingIfNeeded: word) }
  }
}

extension UnsafeMutablePointer where Pointee == Worker {
  /// Parses and sorts the usual packet: TCP or UDP that is no IPsec, and ESP if `takesESP`. False: it is another, and
  /// nothing was done. `header` as `SimpleIPv4.header` makes it.
  @inline(__always)
  func sortPlain(
    _ packet: PacketPointer, _ plain: SimpleIPv4, _ ip: UnsafeRawPointer, _ header: PacketHeader, takesESP: Bool
  ) -> Bool {
    if takesESP, plain.number == UInt64(IPProtocol.esp) {
      let spi = ip.loadUnaligned(fromByteOffset: IPv4Header.minimumLength, as: UInt32.self)
      guard let esp = SimpleESP(spi: spi, destination: plain.addresses & 0xffff_ffff) else { return false }
      plain.record(packet, header)
      packet.pointee.hash = esp.word
      pointee.inbound.append(packet)
      return true
    }
    let ports = IPParser.ports(ip + IPv4Header.minimumLength)
    if plain.number == UInt64(IPProtocol.udp) {
      if takesEncapsulation(at: UInt16(truncatingIfNeeded: ports >> 16)) { return false }
    } else if plain.number != UInt64(IPProtocol.tcp) {
      return false
    }
    let rest = plain.number << 32 | IPParser.ipv4Family | header.flowBits | ports
    plain.record(packet, header)
    plain.recordKey(packet, rest: rest)
    enqueueForPolicy(packet, FlowCache.hash(addresses: plain.addresses, rest))
    return true
  }
}
