import Engines
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  @Suite(.serialized) struct IPCompTests {
    static func pair(_ mode: SAMode, spi: UInt32 = 0x1000) throws -> Pair {
      let pair = try Pair()
      try pair.add(
        [Pair.sa(.ipcomp, mode, .v4, spi: spi)], for: mode == .tunnel ? Pair.subnets(.v4) : Pair.endpoints(.v4))
      return pair
    }

    /// An IPComp packet in transport mode, with any compressed bytes.
    static func packet(_ compressed: [UInt8], nextHeader: UInt8 = 17, cpi: UInt16 = 0x1000) -> [UInt8] {
      Packets.ip(
        from: Pair.wan4.0, to: Pair.wan4.1, number: 108,
        payload: [nextHeader, 0, UInt8(cpi >> 8), UInt8(cpi & 255)] + compressed)
    }

    @Test func compressesOnlyWhatShrinks() throws {
      var generator = SeededGenerator()
      let pair = try Self.pair(.transport)
      let text = [UInt8](repeating: 0x41, count: 1000)
      let packets = [
        Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: text),
        Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: generator.bytes(1000)),
        Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: [UInt8](repeating: 0, count: 80)),
      ]
      let sent = pair.a.sendFromHost(packets).sent
      #expect(sent[0].count < 100 && sent[0][9] == 108 && sent[0][20] == 17)
      #expect(sent[0][22] == 0x10 && sent[0][23] == 0)
      #expect(Array(sent[1...]) == Array(packets[1...]))
      #expect(Set(pair.b.receive(sent).host) == Set(packets))
    }

    @Test func tunnelWithoutCompressionIsIPInIP() throws {
      var generator = SeededGenerator()
      let pair = try Self.pair(.tunnel)
      let packet = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: generator.bytes(500))
      let sent = pair.a.receive([packet]).sent
      #expect(sent[0][9] == 4 && sent[0].count == packet.count + 20)
      #expect(pair.b.receive(sent).sent == [Packets.forwarded(packet, hops: 2)])
    }

    /// One family in the other, as charon and pluto have it: IPComp makes the tunnel, ESP or AH protect that.
    @Test(arguments: [AddressFamily.v4, .v6], [SAProtocol.ipcomp, .esp, .ipip])
    func oneFamilyInTheOther(_ inner: AddressFamily, _ tunnel: SAProtocol) throws {
      var generator = SeededGenerator()
      let outer: AddressFamily = inner == .v4 ? .v6 : .v4
      let pair = try Pair()
      var first = Pair.sa(tunnel, .tunnel, outer, transform: .esp(.aesGCM16))
      if tunnel == .ipip { first.selector = Pair.subnets(inner) }
      let layers = [
        first, Pair.sa(.esp, .transport, outer, spi: 0x2000, transform: .esp(.aesCBC, .hmacSHA256)),
        Pair.sa(.ah, .transport, outer, spi: 0x3000, transform: .ah(.hmacSHA256)),
      ]
      try pair.add(layers, for: Pair.subnets(inner))
      let hosts = Pair.hosts(inner)
      let packets = [[UInt8](repeating: 0x41, count: 1000), generator.bytes(700)].map {
        Packets.udp(from: hosts.0, to: hosts.1, payload: $0)
      }
      let sent = pair.a.receive(packets).sent
      #expect(sent.count == 2 && sent.allSatisfy { $0[0] >> 4 == (outer == .v4 ? 4 : 6) })
      #expect(sent.allSatisfy { $0[outer == .v4 ? 9 : 6] == 51 })
      if tunnel == .ipcomp { #expect(sent[0].count < 250) }
      let outcome = pair.b.receive(sent)
      #expect(outcome.drops == [:] && outcome.sent == packets.map { Packets.forwarded($0, hops: 2) })
    }

    @Test func wellKnownCPI() throws {
      let pair = try Self.pair(.transport, spi: UInt32(IPComp.deflateCPI))
      let packet = Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: [UInt8](repeating: 0x41, count: 1000))
      let sent = pair.a.sendFromHost([packet]).sent
      #expect(sent[0][22] == 0 && sent[0][23] == 2)
      #expect(pair.b.receive(sent).host == [packet])
      // Python: zlib.compressobj(9, zlib.DEFLATED, -15) of a UDP datagram of 24 bytes to port 7.
      let made: [UInt8] = [0x63, 0x61, 0x60, 0x60, 0x67, 0x50, 0x60, 0x60, 0x48, 0xc4, 0x01, 0x00]
      let datagram: [UInt8] = [4, 0, 0, 7, 0, 32, 0, 0] + [UInt8](repeating: 0x61, count: 24)
      let outcome = pair.b.receive([Self.packet(made, cpi: 2)])
      #expect(outcome.host == [Packets.ip(from: Pair.wan4.0, to: Pair.wan4.1, number: 17, payload: datagram)])
    }

    /// What was sent is the same whatever number of packets there were: IPComp has no sequence numbers to run out of.
    @Test func neverRunsOut() throws {
      let pair = try Pair()
      var sa = Pair.sa(.ipcomp, .transport, .v4)
      sa.sequence = UInt64(UInt32.max) - 2
      try pair.add([sa], for: Pair.endpoints(.v4))
      let packet = Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: [UInt8](repeating: 0x41, count: 500))
      for _ in 0..<4 { #expect(pair.a.sendFromHost([packet, packet, packet]).sent.count == 3) }
    }

    @Test func bombsAndGarbage() throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      let pair = try Self.pair(.transport)
      let deflate = try #require(Deflate())
      defer { deflate.deallocate() }
      // 70,000 zeros in some 90 bytes.
      let zeros = [UInt8](repeating: 0, count: 70_000)
      let length = deflate.compress(zeros, length: zeros.count, limit: 1000)
      #expect(length > 0 && length < 200)
      let bomb = Array(UnsafeRawBufferPointer(start: deflate.output, count: length))
      #expect(pair.b.receive([Self.packet(bomb)]).drops == [.decompression: 1])
      // The largest that fits.
      let most = [UInt8](repeating: 0x55, count: IPCompStage.maximumLength - 20)
      let mostLength = deflate.compress(most, length: most.count, limit: 1000)
      let packed = Array(UnsafeRawBufferPointer(start: deflate.output, count: mostLength))
      let large = pair.b.receive([Self.packet(packed)])
      #expect(large.drops == [:] && large.host.first?.count == IPCompStage.maximumLength)
      let over = pair.b.receive([Self.packet(bomb.dropLast(10))])
      #expect(over.drops == [.decompression: 1])
      let used = TestGateway.buffersInUse
      for _ in 0..<3000 {
        var garbage = generator.bytes(Int.random(in: 0...300, using: &generator))
        if Bool.random(using: &generator) { garbage = packed }
        if !garbage.isEmpty, Bool.random(using: &generator) {
          garbage[Int.random(in: 0..<garbage.count, using: &generator)] ^= UInt8.random(in: 1...255, using: &generator)
        }
        let next = UInt8.random(in: 0...255, using: &generator)
        _ = pair.b.receive([Self.packet(garbage, nextHeader: next)])
      }
      #expect(TestGateway.buffersInUse <= used, comment)
    }

    /// IPComp in IPComp in IPComp …: the depth ends it.
    @Test func nestedCompression() throws {
      let pair = try Self.pair(.transport)
      let deflate = try #require(Deflate())
      defer { deflate.deallocate() }
      var payload = [UInt8](repeating: 0, count: 3000)
      for level in 0..<6 {
        let length = deflate.compress(payload, length: payload.count, limit: 4000)
        #expect(length > 0)
        let made = Array(UnsafeRawBufferPointer(start: deflate.output, count: length))
        payload = [level == 0 ? 17 : 108, 0, 0x10, 0] + made
      }
      let packet = Packets.ip(from: Pair.wan4.0, to: Pair.wan4.1, number: 108, payload: payload)
      #expect(pair.b.receive([packet]).drops == [.nestingTooDeep: 1])
    }
  }
}
