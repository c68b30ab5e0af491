import Testing

@testable import Wire

@Suite struct IPv6HeaderTests {
  static let source = IPv6Address("2001:db8:1::1")!
  static let destination = IPv6Address("2001:db8:2::9")!

  static func packet(_ next: UInt8, _ payload: [UInt8]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 40) + payload
    bytes.withUnsafeMutableBytes {
      IPv6Header.write(
        $0.baseAddress!, source: source, destination: destination, nextHeader: next, payloadLength: payload.count,
        hopLimit: 9, trafficClass: 0xb9, flowLabel: 0xabcde)
    }
    return bytes
  }

  static func walk(_ next: UInt8, _ payload: [UInt8]) -> IPv6ExtensionHeaders {
    let bytes = packet(next, payload)
    return withExact(bytes) { IPv6ExtensionHeaders(IPv6Header($0, length: bytes.count)!) }
  }

  @Test func writesWhatItReads() throws {
    let bytes = Self.packet(IPProtocol.tcp, [1, 2, 3, 4])
    try withExact(bytes) { base in
      let header = try #require(IPv6Header(base, length: 44))
      #expect(header.trafficClass == 0xb9 && header.dscp == 0x2e && header.ecn == 1 && header.flowLabel == 0xabcde)
      #expect(header.payloadLength == 4 && header.totalLength == 44)
      #expect(header.nextHeader == 6 && header.hopLimit == 9)
      #expect(header.source == Self.source && header.destination == Self.destination)
      #expect(IPv6Header.decrementHopLimit(base))
      IPv6Header.setTrafficClass(base, 0x42)
      #expect(header.hopLimit == 8 && header.trafficClass == 0x42 && header.flowLabel == 0xabcde)
      #expect(IPv6Header.fault(base, length: 43) == .totalLength)
      #expect(IPv6Header.fault(base, length: 39) == .truncated)
      base.setByte(0x45, at: 0)
      #expect(IPv6Header.fault(base, length: 44) == .version)
    }
  }

  @Test func noExtensions() {
    let found = Self.walk(IPProtocol.udp, [0, 1, 0, 2])
    #expect(found.fault == nil && found.upperProtocol == 17 && found.upperOffset == 40)
    #expect(found.nextHeaderOffset == 6 && found.unfragmentableEnd == 40 && !found.isFragment)
  }

  @Test func wholeChain() {
    // Hop-by-hop, destination options, routing (16 bytes, one segment left), fragment (first), destination options, TCP.
    let payload: [UInt8] =
      [60, 0, 1, 4, 0, 0, 0, 0] + [43, 0, 1, 4, 0, 0, 0, 0] + [44, 1, 0, 1] + [UInt8](repeating: 0, count: 12)
      + [60, 0, 0, 1, 0, 0, 0, 7] + [6, 0, 1, 4, 0, 0, 0, 0] + [0, 1, 0, 2]
    let found = Self.walk(IPProtocol.hopByHop, payload)
    #expect(found.fault == nil)
    #expect(found.upperProtocol == 6 && found.upperOffset == 88 && found.nextHeaderOffset == 80)
    #expect(found.unfragmentableEnd == 72 && found.unfragmentableNextHeaderOffset == 56)
    #expect(found.fragmentHeaderOffset == 72 && found.isFragment && found.moreFragments && found.fragmentOffset == 0)
    #expect(found.hasHopByHop && found.hasRouting && found.hasSegmentsLeft)
  }

  @Test func laterFragmentEndsTheWalk() {
    // What follows would be a hop-by-hop header in the wrong place.
    let found = Self.walk(IPProtocol.fragment, [60, 0, 0x05, 0xa8, 0, 0, 0, 7, 0xff, 0xff, 1, 2])
    #expect(found.fault == nil && found.isFragment && found.fragmentOffset == 1448 && !found.moreFragments)
    #expect(found.upperProtocol == 60 && found.upperOffset == 48)
    let atomic = Self.walk(IPProtocol.fragment, [17, 0, 0, 0, 0, 0, 0, 7])
    #expect(!atomic.isFragment && atomic.fragmentHeaderOffset == 40 && atomic.upperProtocol == 17)
  }

  @Test func espAndAHEndTheWalk() {
    #expect(Self.walk(IPProtocol.ah, [60, 4, 0, 0]).upperProtocol == 51)
    #expect(Self.walk(IPProtocol.hopByHop, [50, 0, 1, 4, 0, 0, 0, 0]).upperOffset == 48)
  }

  @Test func refuses() {
    let options: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
    #expect(Self.walk(IPProtocol.destinationOptions, [17, 0, 1, 4]).fault == .truncated)
    #expect(Self.walk(IPProtocol.destinationOptions, [17, 1, 1, 4, 0, 0, 0, 0]).fault == .truncated)
    #expect(Self.walk(60, Array([[UInt8]](repeating: options, count: 12).joined())).fault == .tooLong)
    #expect(Self.walk(60, [17, 64] + [UInt8](repeating: 0, count: 518)).fault == .tooLong)
    #expect(Self.walk(60, [0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]).fault == .order)
    #expect(Self.walk(44, [44, 0, 0, 1, 0, 0, 0, 1, 17, 0, 0, 1, 0, 0, 0, 1]).fault == .order)
  }
}
