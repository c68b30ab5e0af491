import CLayout
import SeededRandom
import Testing
import Wire

@testable import IPsec

@Suite struct ProtocolOuterHeaderTests {
  static func write(
    _ sa: UnsafeMutablePointer<gw_sa>, length: Int, trafficClass: UInt8, flowLabel: UInt32 = 0,
    dontFragment: Bool = false, identification: UInt16 = 0
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xee, count: 64)
    bytes.withUnsafeMutableBytes {
      OuterHeader.write(
        sa, at: $0.baseAddress!, length: length, trafficClass: trafficClass, flowLabel: flowLabel,
        dontFragment: dontFragment, identification: identification.bigEndian)
    }
    #expect(bytes[Int(sa.pointee.outer_length)...].allSatisfy { $0 == 0xee })
    return bytes
  }

  @Test func ipv4() {
    var generator = SeededGenerator()
    let (source, destination) = (Sample.v4(0xc633_6401), Sample.v4(0xcb00_7109))
    for round in 0..<2000 {
      let sa = Sample.sa(spi: 1, destination: destination)
      defer { sa.deallocate() }
      let isEncapsulated = round % 2 == 1
      let dscp: UInt8? = round % 3 == 0 ? UInt8.random(in: 0...63, using: &generator) : nil
      OuterHeader.prepare(
        sa, source: source, destination: destination, ipProtocol: 50,
        encapsulation: isEncapsulated ? UDPEncapsulation(sourcePort: 4500, destinationPort: 1234) : nil, dscp: dscp)
      if isEncapsulated { sa.pointee.flags |= GW_SA_UDP_ENCAP.rawValue }
      if dscp != nil { sa.pointee.flags |= GW_SA_DSCP_SET.rawValue }
      let trafficClass = UInt8.random(in: 0...255, using: &generator)
      let length = Int.random(in: 28...65535, using: &generator)
      let identification = UInt16.random(in: 0...UInt16.max, using: &generator)
      let bytes = Self.write(
        sa, length: length, trafficClass: trafficClass, dontFragment: round % 5 == 0, identification: identification)
      bytes.withUnsafeBytes { raw in
        let header = IPv4Header(checked: raw.baseAddress!)
        #expect(header.isChecksumValid && header.totalLength == length && header.timeToLive == 64)
        #expect(header.source.rawValue == 0xc633_6401 && header.destination.rawValue == 0xcb00_7109)
        #expect(header.typeOfService == dscp.map { $0 << 2 | trafficClass & 3 } ?? trafficClass)
        #expect(header.dontFragment == (round % 5 == 0) && header.identification == identification)
        #expect(header.ipProtocol == (isEncapsulated ? 17 : 50))
      }
      if isEncapsulated {
        let datagram = UInt16(length - 20)
        let udp: [UInt8] = [0x11, 0x94, 0x04, 0xd2, UInt8(datagram >> 8), UInt8(datagram & 255), 0, 0]
        #expect(Array(bytes[20..<28]) == udp)
      }
    }
  }

  @Test func ipv6() {
    var generator = SeededGenerator()
    let (source, destination) = (Sample.v6(0x2001_0db8_0000_0001, 1), Sample.v6(0x2001_0db8_0000_0002, 2))
    for round in 0..<2000 {
      let sa = Sample.sa(spi: 1, destination: destination)
      defer { sa.deallocate() }
      let dscp: UInt8? = round % 3 == 0 ? UInt8.random(in: 0...63, using: &generator) : nil
      OuterHeader.prepare(
        sa, source: source, destination: destination, ipProtocol: 51, encapsulation: nil, dscp: dscp)
      if dscp != nil { sa.pointee.flags |= GW_SA_DSCP_SET.rawValue }
      let noECN = round % 7 == 0
      if noECN { sa.pointee.flags |= GW_SA_NO_ECN.rawValue }
      let trafficClass = UInt8.random(in: 0...255, using: &generator)
      let label = UInt32.random(in: 0...0xf_ffff, using: &generator)
      let length = Int.random(in: 48...65535, using: &generator)
      let bytes = Self.write(sa, length: length, trafficClass: trafficClass, flowLabel: label)
      bytes.withUnsafeBytes { raw in
        let header = IPv6Header(checked: raw.baseAddress!)
        #expect(raw[0] >> 4 == 6 && header.totalLength == length && header.hopLimit == 64 && header.nextHeader == 51)
        #expect(header.source == IPv6Address(high: 0x2001_0db8_0000_0001, low: 1))
        #expect(header.destination == IPv6Address(high: 0x2001_0db8_0000_0002, low: 2))
        let copied = (dscp.map { $0 << 2 } ?? trafficClass & 0xfc) | (noECN ? 0 : trafficClass & 3)
        #expect(header.trafficClass == copied && header.flowLabel == label)
      }
    }
  }

  /// RFC 6040 figure 4.
  @Test func congestion() {
    let (notECT, ect1, ect0, ce): (UInt8, UInt8, UInt8, UInt8) = (0, 1, 2, 3)
    let table: [(inner: UInt8, row: [UInt8])] = [
      (notECT, [notECT, notECT, notECT, ECN.drop]), (ect0, [ect0, ect0, ect1, ce]), (ect1, [ect1, ect1, ect1, ce]),
      (ce, [ce, ce, ce, ce]),
    ]
    for (inner, row) in table {
      for (outer, expected) in zip([notECT, ect0, ect1, ce], row) {
        #expect(ECN.decapsulate(inner: 0x28 | inner, outer: 0xb8 | outer) == expected)
      }
    }
  }
}
