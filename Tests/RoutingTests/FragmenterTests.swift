import SeededRandom
import Testing
import Wire

@testable import Routing

@Suite struct FragmenterTests {
  /// Cuts a packet as a caller would.
  private func cut4(_ packet: [UInt8], mtu: Int) -> [[UInt8]]? {
    packet.withUnsafeBytes { raw in
      let header = IPv4Header(raw.baseAddress!, length: raw.count)!
      guard let fragmenter = IPv4Fragmenter(header, mtu: mtu) else { return nil }
      return (0..<fragmenter.count).map { index in
        let piece = fragmenter.piece(index)
        var fragment = [UInt8](repeating: 0xaa, count: fragmenter.headerLength(piece))
        fragment.withUnsafeMutableBytes { fragmenter.writeHeader(piece, of: header, to: $0.baseAddress!) }
        let start = header.headerLength + piece.offset
        return fragment + packet[start..<start + piece.length]
      }
    }
  }

  /// Puts fragments together by their own headers: payload, and whether more follows the last.
  private func join4(_ fragments: [[UInt8]]) throws -> (payload: [UInt8], start: Int, more: Bool) {
    var parts: [(offset: Int, more: Bool, bytes: [UInt8])] = []
    for fragment in fragments {
      try fragment.withUnsafeBytes {
        let header = try #require(IPv4Header($0.baseAddress!, length: $0.count))
        #expect(header.isChecksumValid)
        #expect(header.totalLength == fragment.count)
        #expect(header.identification == 0x1234)
        parts.append((header.fragmentOffset, header.moreFragments, Array(fragment[header.headerLength...])))
      }
    }
    parts.sort { $0.offset < $1.offset }
    var payload: [UInt8] = []
    let start = parts[0].offset
    for (number, part) in parts.enumerated() {
      #expect(part.offset == start + payload.count)
      if number < parts.count - 1 { #expect(part.more) }
      payload += part.bytes
    }
    return (payload, start, parts.last!.more)
  }

  @Test func cutAndJoinedIsWhatItWas() throws {
    var generator = SeededGenerator.printed("IPv4Fragmenter")
    for _ in 0..<500 {
      let words = Int.random(in: 0...10, using: &generator)
      // "No operation" throughout: none of it goes beyond the first fragment.
      let options = [UInt8](repeating: 1, count: words * 4)
      let payload = Packet.random(Int.random(in: 1...9000, using: &generator), using: &generator)
      let packet = Packet.v4(options: options, payload: payload)
      let mtu = Int.random(in: 68...3000, using: &generator)
      let fragments = try #require(cut4(packet, mtu: mtu))
      #expect(fragments.allSatisfy { $0.count <= mtu })
      #expect(fragments.dropLast().allSatisfy { $0.count > mtu - 8 })
      let joined = try join4(fragments)
      #expect(joined.payload == payload)
      #expect(joined.start == 0)
      #expect(!joined.more)
    }
  }

  @Test func aFragmentIsCutFurther() throws {
    let payload = [UInt8](repeating: 3, count: 1600)
    let packet = Packet.v4(fragmentField: 0x2000 | 25, payload: payload)
    let joined = try join4(try #require(cut4(packet, mtu: 576)))
    #expect(joined.start == 200)
    #expect(joined.more)
    #expect(joined.payload == payload)
  }

  @Test func optionsWithTheCopiedFlagGoIntoEveryFragment() throws {
    let routerAlert: [UInt8] = [0x94, 4, 0, 0]
    let recordRoute: [UInt8] = [7, 7, 4, 0, 0, 0, 0]
    let looseRoute: [UInt8] = [0x83, 3, 4]
    let options = recordRoute + routerAlert + [1] + looseRoute + [0]
    let packet = Packet.v4(options: options, payload: [UInt8](repeating: 1, count: 200))
    let fragments = try #require(cut4(packet, mtu: 100))
    #expect(Array(fragments[0][20..<36]) == options)
    for fragment in fragments.dropFirst() {
      #expect(fragment[0] == 0x47)
      #expect(Array(fragment[20..<28]) == routerAlert + looseRoute + [0])
    }
  }

  @Test(arguments: [[UInt8(0x94), 0, 0, 0], [0x94, 1, 0, 0], [0x94, 5, 0, 0], [1, 1, 1, 0x94], [0x94, 255, 0, 0]])
  func malformedOptionsAreNotCopied(options: [UInt8]) throws {
    let packet = Packet.v4(options: options, payload: [UInt8](repeating: 1, count: 200))
    let fragments = try #require(cut4(packet, mtu: 100))
    for fragment in fragments.dropFirst() { #expect(fragment[0] == 0x45) }
  }

  @Test func boundaries() throws {
    let packet = Packet.v4(payload: [UInt8](repeating: 1, count: 80))
    #expect(cut4(packet, mtu: 100)?.count == 1)
    #expect(cut4(packet, mtu: 99)?.count == 2)
    #expect(cut4(packet, mtu: 28)?.count == 10)
    #expect(cut4(packet, mtu: 27) == nil)
    #expect(cut4(packet, mtu: 0) == nil)
    #expect(cut4(Packet.v4(fragmentField: 0x1fff, payload: [UInt8](repeating: 1, count: 80)), mtu: 60) == nil)
    #expect(try #require(cut4(packet, mtu: 100))[0] == packet)
  }

  // MARK: IPv6

  private func cut6(_ packet: [UInt8], mtu: Int) -> [[UInt8]]? {
    packet.withUnsafeBytes { raw in
      let header = IPv6Header(raw.baseAddress!, length: raw.count)!
      guard let fragmenter = IPv6Fragmenter(header, IPv6ExtensionHeaders(header), mtu: mtu) else { return nil }
      return (0..<fragmenter.count).map { index in
        let piece = fragmenter.piece(index)
        var fragment = [UInt8](repeating: 0xaa, count: fragmenter.headerLength)
        fragment.withUnsafeMutableBytes {
          fragmenter.writeHeaders(piece, of: header, identification: 0xdead_beef, to: $0.baseAddress!)
        }
        let start = fragmenter.unfragmentableLength + piece.offset
        return fragment + packet[start..<start + piece.length]
      }
    }
  }

  @Test(arguments: [false, true]) func cutAndJoinedIsWhatItWasInIPv6(withHopByHop: Bool) throws {
    var generator = SeededGenerator.printed("IPv6Fragmenter")
    let hopByHop: [UInt8] = withHopByHop ? [IPProtocol.udp, 0, 5, 2, 0, 0, 1, 0] : []
    for _ in 0..<300 {
      let payload = Packet.random(Int.random(in: 1...9000, using: &generator), using: &generator)
      let packet = Packet.v6(next: withHopByHop ? IPProtocol.hopByHop : IPProtocol.udp, payload: hopByHop + payload)
      let mtu = Int.random(in: 100...3000, using: &generator)
      let fragments = try #require(cut6(packet, mtu: mtu))
      #expect(fragments.allSatisfy { $0.count <= mtu })
      var joined: [UInt8] = []
      for (number, fragment) in fragments.enumerated() {
        try fragment.withUnsafeBytes {
          let header = try #require(IPv6Header($0.baseAddress!, length: $0.count))
          let walk = IPv6ExtensionHeaders(header)
          #expect(walk.fault == nil)
          #expect(walk.hasHopByHop == withHopByHop)
          #expect(walk.fragmentOffset == joined.count)
          #expect(walk.moreFragments == (number < fragments.count - 1))
          #expect(walk.upperProtocol == IPProtocol.udp)
          let fragmentHeader = $0.baseAddress! + Int(walk.fragmentHeaderOffset)
          #expect(fragmentHeader.big32(at: 4) == 0xdead_beef)
          joined += fragment[(Int(walk.fragmentHeaderOffset) + 8)...]
        }
      }
      #expect(joined == payload)
    }
  }

  @Test func whatIsAFragmentIsNotCutAgainInIPv6() {
    let fragment: [UInt8] = [IPProtocol.udp, 0, 0, 1, 0, 0, 0, 1] + [UInt8](repeating: 0, count: 400)
    #expect(cut6(Packet.v6(next: IPProtocol.fragment, payload: fragment), mtu: 200) == nil)
    #expect(cut6(Packet.v6(payload: [UInt8](repeating: 0, count: 400)), mtu: 55) == nil)
    #expect(cut6(Packet.v6(payload: [UInt8](repeating: 0, count: 400)), mtu: 56)?.count == 50)
  }
}
