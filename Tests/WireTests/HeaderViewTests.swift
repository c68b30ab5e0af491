import SeededRandom
import Testing

@testable import Wire

@Suite struct HeaderViewTests {
  @Test func ethernet() throws {
    let destination = MACAddress("02:00:00:00:00:02")!
    let source = MACAddress("02:aa:bb:cc:dd:ee")!
    try withExact([UInt8](repeating: 0, count: 18)) { base in
      Ethernet.write(base, destination: destination, source: source, etherType: EtherType.ipv4)
      let frame = try #require(Ethernet(base, length: 14))
      #expect(frame.destination == destination && frame.source == source)
      #expect(frame.etherType == EtherType.ipv4 && frame.headerLength == 14 && frame.vlan == nil)
      base.setBig16(EtherType.vlan, at: 12)
      base.setBig32(0xe123_86dd, at: 14)
      #expect(Ethernet(base, length: 17) == nil && Ethernet(base, length: 13) == nil)
      let tagged = try #require(Ethernet(base, length: 18))
      #expect(
        tagged.vlan == 0x123 && tagged.etherType == EtherType.ipv6 && tagged.payload == UnsafeRawPointer(base) + 18)
    }
  }

  @Test func arp() throws {
    try withExact([UInt8](repeating: 0xff, count: 28)) { base in
      #expect(ARP(base, length: 28) == nil)
      ARP.write(
        base, operation: .reply, senderHardware: MACAddress(rawValue: 0x0200_0000_0001),
        senderAddress: IPv4Address("10.0.0.1")!, targetHardware: MACAddress(rawValue: 0x0200_0000_0002),
        targetAddress: IPv4Address("10.0.0.2")!)
      let packet = try #require(ARP(base, length: 28))
      #expect(packet.operation == .reply)
      #expect(
        packet.senderHardware.description == "02:00:00:00:00:01" && packet.senderAddress.description == "10.0.0.1")
      #expect(
        packet.targetHardware.description == "02:00:00:00:00:02" && packet.targetAddress.description == "10.0.0.2")
      #expect(ARP(base, length: 27) == nil)
      base.setBig16(9, at: 6)
      #expect(ARP(base, length: 28)?.operation == nil)
    }
  }

  @Test func udp() throws {
    let source = IPv4Address("10.0.0.1")!
    let destination = IPv4Address("10.0.0.2")!
    let data: [UInt8] = [1, 2, 3, 4, 5]
    try withExact([UInt8](repeating: 0, count: 8) + data) { base in
      UDPHeader.write(base, sourcePort: 500, destinationPort: 4500, datagramLength: 13)
      UDPHeader.setChecksum(base, datagramLength: 13, source: source, destination: destination)
      let header = try #require(UDPHeader(base, length: 13))
      #expect(header.sourcePort == 500 && header.destinationPort == 4500 && header.payloadLength == 5)
      var sum = InternetChecksum()
      sum.addPseudoHeader(source: source, destination: destination, ipProtocol: 17, length: 13)
      sum.add(base, count: 13)
      #expect(sum.value == 0 && header.checksum != 0)
      #expect(UDPHeader(base, length: 12) == nil)
      base.setBig16(7, at: 4)
      #expect(UDPHeader(base, length: 13) == nil)
    }
  }

  @Test func icmp() throws {
    try withExact([UInt8](repeating: 0xa5, count: 36)) { base in
      ICMP.write(
        base, type: ICMP.MessageType.destinationUnreachable, code: ICMP.Unreachable.fragmentationNeeded, rest: 1400,
        length: 36)
      let message = try #require(ICMP(base, length: 36))
      #expect(message.isChecksumValid && message.isError && message.rest == 1400 && message.dataLength == 28)
      base.setByte(0, at: 20)
      #expect(!message.isChecksumValid && ICMP(base, length: 7) == nil)
    }
  }

  @Test func icmpv6() throws {
    let source = IPv6Address("fe80::1")!
    let destination = IPv6Address("ff02::1")!
    try withExact([UInt8](repeating: 0x5a, count: 33)) { base in
      ICMPv6.write(
        base, type: ICMPv6.MessageType.packetTooBig, code: 0, rest: 1280, length: 33, source: source,
        destination: destination)
      let message = try #require(ICMPv6(base, length: 33))
      #expect(message.isChecksumValid(source: source, destination: destination) && message.isError)
      #expect(!message.isChecksumValid(source: destination, destination: destination))
      #expect(!message.isNeighborDiscovery)
    }
  }

  @Test func securityHeaders() throws {
    try withExact([UInt8](repeating: 0, count: 24)) { base in
      ESPHeader.write(base, spi: 0xdead_beef, sequence: 7)
      let esp = try #require(ESPHeader(base, length: 8))
      #expect(esp.spi == 0xdead_beef && esp.sequence == 7 && ESPHeader(base, length: 7) == nil)
      AHHeader.write(base, nextHeader: 4, headerLength: 24, spi: 0x1000, sequence: 9)
      let ah = try #require(AHHeader(base, length: 24))
      #expect(ah.nextHeader == 4 && ah.headerLength == 24 && ah.icvLength == 12 && ah.spi == 0x1000 && ah.sequence == 9)
      #expect(AHHeader(base, length: 23) == nil)
      base.setByte(0, at: 1)
      #expect(AHHeader(base, length: 24) == nil)
      IPCompHeader.write(base, nextHeader: 6, cpi: 3)
      let ipcomp = try #require(IPCompHeader(base, length: 4))
      #expect(ipcomp.nextHeader == 6 && ipcomp.cpi == 3 && IPCompHeader(base, length: 3) == nil)
    }
  }

  /// Whatever the bytes, a view is refused or keeps within them (run under a sanitizer, reads beyond are seen).
  @Test func hostileBytes() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<20_000 {
      let length = 1 + random.below(120)
      var bytes = random.bytes(length)
      if random.below(2) == 0 { bytes[0] = random.below(2) == 0 ? 0x45 : 0x60 }
      if length > 6, random.below(2) == 0 {
        bytes[2] = 0
        bytes[4] = 0
        bytes[6] = [0, 43, 44, 60][random.below(4)]
      }
      withExact(bytes) { Self.readAll($0, length, "seed \(seed)") }
    }
  }

  static func readAll(_ base: UnsafeRawPointer, _ length: Int, _ comment: Comment) {
    if let header = IPv4Header(base, length: length) {
      #expect(header.totalLength <= length && header.headerLength <= header.totalLength, comment)
      _ = (header.isChecksumValid, header.ports, header.source, header.destination)
      #expect(header.payloadLength >= 0, comment)
    }
    if let header = IPv6Header(base, length: length) {
      #expect(header.totalLength <= length, comment)
      let found = IPv6ExtensionHeaders(header)
      #expect(Int(found.upperOffset) <= header.totalLength, comment)
      #expect(found.unfragmentableEnd <= found.upperOffset && found.nextHeaderOffset < found.upperOffset, comment)
    }
    if let frame = Ethernet(base, length: length) { #expect(frame.headerLength <= length, comment) }
    if let packet = ARP(base, length: length) { _ = (packet.operation, packet.targetAddress) }
    if let header = UDPHeader(base, length: length) { #expect(header.payloadLength >= 0, comment) }
    if let message = ICMP(base, length: length) { _ = (message.isChecksumValid, message.isError) }
    if let header = AHHeader(base, length: length) { #expect(header.headerLength <= length, comment) }
    for proto in UInt8.min...UInt8.max { _ = TransportPorts(ipProtocol: proto, base, length: length) }
  }
}
