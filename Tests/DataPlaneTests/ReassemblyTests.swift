import Engines
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Fragments that are put together: which, within which bounds, and what is never joined.
  @Suite(.serialized) struct ReassemblyTests {
    static func datagram(_ size: Int, _ family: AddressFamily = .v4, seed: UInt8 = 1) -> [UInt8] {
      let (from, to) = Pair.wan(family)
      let header = family == .v4 ? 28 : 48
      return Packets.udp(from: from, to: to, payload: (0..<size - header).map { UInt8(truncatingIfNeeded: $0) &* seed })
    }

    // MARK: Origin

    /// One half in clear, the other out of a tunnel, in either order: no datagram, least of all one of the tunnel's.
    @Test func clearAndTunnelAreNotJoined() throws {
      for clearIsFirst in [true, false] {
        let pair = try Pair()
        try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
        let packet = Packets.udp(from: Pair.host4.0, to: "10.2.0.1", payload: [UInt8](repeating: 7, count: 800))
        let pieces = Packets.cut(packet, payload: 400)
        for forged in 0..<pieces.count {
          let sealed = pair.a.receive(pieces.indices.filter { $0 != forged }.map { pieces[$0] }).sent
          // As the router before would forward it.
          let clear = [Packets.forwarded(pieces[forged], hops: 1)]
          let outcome = pair.b.receive(clearIsFirst ? clear + sealed : sealed + clear)
          #expect(outcome.host == [] && outcome.drops == [:])
          #expect(pair.b.expireFragments() == [.reassemblyTimeout: UInt64(pieces.count)])
        }
        let whole = pair.b.receive(pair.a.receive(pieces).sent)
        #expect(whole.host == [Packets.forwarded(packet, hops: 1)] && whole.drops == [:])
      }
    }

    /// Pieces that came out of different SAs, though each may carry them.
    @Test func piecesOfDifferentSAsAreNotJoined() throws {
      let pair = try Pair()
      let transform = CryptoTransform.esp(.aesGCM16)
      let sas = [0x1000, 0x1001].map { Pair.sa(.esp, .tunnel, .v4, spi: $0, transform: transform) }
      try pair.add([sas[0]], for: Pair.subnets(.v4))
      let packet = Packets.udp(from: Pair.host4.0, to: "10.2.0.1", payload: [UInt8](repeating: 7, count: 800))
      let pieces = Packets.cut(packet, payload: 408)
      let first = pair.a.receive([pieces[0]]).sent
      for gateway in [pair.a, pair.b] { try gateway.security.add(sas[1], origin: 0) }
      // The newer one of equals is used.
      let second = pair.a.receive([pieces[1]]).sent
      #expect(first[0][23] != second[0][23])
      let outcome = pair.b.receive(first + second)
      #expect(outcome.host == [] && outcome.drops == [:])
      #expect(pair.b.expireFragments() == [.reassemblyTimeout: 2])
    }

    @Test func theKeyTellsAllThatPiecesHaveInCommon() {
      func key(
        identification: UInt32 = 1, ipProtocol: UInt8 = 17, version: UInt8 = 4, origin: PacketOrigin = .clear,
        port: UInt16 = 0, layers: (UInt64, UInt64) = (0, 0), source: UInt64 = 1, destination: UInt64 = 2
      ) -> FragmentKey {
        var key = FragmentKey(
          source: (0, source), destination: (0, destination), identification: identification, ipProtocol: ipProtocol,
          version: version, origin: origin, port: port)
        key.layers = layers
        return key
      }
      let keys = [
        key(), key(identification: 2), key(ipProtocol: 50), key(version: 6), key(origin: .host), key(origin: .tunnel),
        key(port: 1), key(origin: .tunnel, layers: (1, 0)), key(origin: .tunnel, layers: (1 << 32, 0)),
        key(origin: .tunnel, layers: (0, 1)), key(source: 3), key(destination: 3),
      ]
      for (i, a) in keys.enumerated() {
        for (j, b) in keys.enumerated() { #expect((a == b) == (i == j), "\(i) \(j)") }
      }
    }

    // MARK: Size

    /// Datagrams of the kernel's and their ESP or AH, in as many pieces as they take, both ways.
    @Test(arguments: [AddressFamily.v4, .v6]) func sixtyFourKilobytes(_ family: AddressFamily) throws {
      let before = TestGateway.buffersInUse
      var generator = SeededGenerator()
      let transforms: [(SAProtocol, CryptoTransform)] = [
        (.esp, .esp(.aesGCM16)), (.esp, .esp(.aesCBC, .hmacSHA256)), (.esp, .esp(.chacha20Poly1305)),
        (.esp, .esp(.aesCTR, .hmacSHA1)), (.ah, .ah(.hmacSHA256)),
      ]
      for (saProtocol, transform) in transforms {
        for engines: (any CryptoEngine, any CryptoEngine) in [
          (OpenSSLEngine(), FastEngine()), (FastEngine(), OpenSSLEngine()),
        ] {
          let pair = try Pair(mtu: 1500, engines: engines)
          try pair.add([Pair.sa(saProtocol, .transport, family, transform: transform)], for: Pair.endpoints(family))
          for size in [1800, 9700, 20_000, 65_000] {
            let comment: Comment = "\(transform.encryption) \(family) \(size) seed \(generator.seed)"
            let wan = Pair.wan(family)
            let packet = Packets.udp(
              from: wan.0, to: wan.1, payload: generator.bytes(size - (family == .v4 ? 28 : 48)))
            let pieces = Packets.cut(packet, payload: 1440)
            let sent = pair.a.inBursts(pieces, pair.a.sendFromHost)
            #expect(sent.drops == [:] && sent.sent.allSatisfy { $0.count <= 1500 }, comment)
            let opened = pair.b.inBursts(sent.sent.shuffled(using: &generator), pair.b.receive)
            #expect(opened.drops == [:] && opened.host == [packet], comment)
          }
        }
      }
      #expect(TestGateway.buffersInUse == before)
    }

    /// Out of a tunnel, to a link that is smaller: cut again, if its sender allows.
    @Test func largeDatagramsLeaveATunnelInPieces() throws {
      let pair = try Pair(mtu: 1500)
      var selector = Pair.subnets(.v4)
      selector.ipProtocol = IPProtocol.udp
      selector.destinationPorts = 2000...2000
      try pair.add([Pair.sa(.esp, .tunnel, .v6, transform: .esp(.aesGCM16))], for: selector)
      let packet = Packets.udp(from: "10.1.0.1", to: Pair.host4.1, payload: [UInt8](repeating: 3, count: 60_000))
      let sent = pair.a.inBursts(Packets.cut(packet, payload: 1480), pair.a.sendFromHost)
      #expect(sent.drops == [:] && sent.sent.count == 42 && sent.sent.allSatisfy { $0[0] >> 4 == 6 })
      let opened = pair.b.inBursts(sent.sent, pair.b.receive)
      #expect(opened.drops == [:] && opened.sent.count == 41 && opened.sent.allSatisfy { $0.count <= 1500 })
      #expect(opened.sent.flatMap { $0[20...] } == Array(packet[20...]))
    }

    @Test func theLargestDatagram() throws {
      let pair = try Pair(mtu: 1500)
      for family in [AddressFamily.v4, .v6] {
        let largest = Self.datagram(Segments.largestPacket, family)
        let outcome = pair.b.inBursts(Packets.cut(largest, payload: 1440), pair.b.receive)
        #expect(outcome.host == [largest] && outcome.drops == [:])
        let larger = Packets.cut(Self.datagram(Segments.largestPacket + 1, family), payload: 1440)
        let refused = pair.b.inBursts(larger, pair.b.receive)
        #expect(refused.host == [] && refused.drops == [.fragmentLimit: 1])
        #expect(pair.b.expireFragments() == [.reassemblyTimeout: UInt64(larger.count - 1)])
        // More than the header can say.
        let last = Packets.fragment(of: largest, 60..<160, offset: 65_528, hasMore: false)
        #expect(pair.b.receive([last]).drops == [.fragmentMalformed: 1])
      }
    }

    /// A port's own headers before the fragment header, and what stands behind it, come through.
    @Test func headersAroundTheFragmentHeader() throws {
      let pair = try Pair()
      let (from, to) = Pair.wan6
      let udp = Array(Self.datagram(1000, .v6)[40...])
      let hops: [UInt8] = [IPProtocol.destinationOptions, 0, 1, 4, 0, 0, 0, 0]
      let options: [UInt8] = [IPProtocol.udp, 0, 1, 4, 0, 0, 0, 0]
      let packet = Packets.ip(from: from, to: to, number: IPProtocol.hopByHop, payload: hops + options + udp)
      let fragmentable = Array(packet[48...])
      func piece(_ range: Range<Int>) -> [UInt8] {
        let more: UInt8 = range.upperBound < fragmentable.count ? 1 : 0
        var bytes = Array(packet[..<48]) + [IPProtocol.destinationOptions, 0]
        bytes +=
          [UInt8(range.lowerBound >> 8), UInt8(range.lowerBound & 0xf8) | more, 0, 0, 0, 9] + fragmentable[range]
        bytes[40] = IPProtocol.fragment
        bytes.withUnsafeMutableBytes { IPv6Header.setPayloadLength($0.baseAddress!, UInt16($0.count - 40)) }
        return bytes
      }
      let outcome = pair.b.receive([piece(400..<fragmentable.count), piece(0..<400)])
      #expect(outcome.host == [packet] && outcome.drops == [:])
    }

    // MARK: Congestion

    /// RFC 3168 5.3.
    @Test func congestionIsNotForgotten() throws {
      let pair = try Pair()
      for (classes, expected) in [([2, 3], 3), ([3, 1], 3), ([2, 2], 2), ([0, 0], 0), ([0, 3], -1), ([3, 0], -1)] {
        for family in [AddressFamily.v4, .v6] {
          var pieces = Packets.cut(Self.datagram(900, family), payload: 480)
          for (index, value) in classes.enumerated() {
            if family == .v4 { pieces[index][1] = UInt8(value) } else { pieces[index][1] |= UInt8(value << 4) }
          }
          if family == .v4 { pieces = pieces.map(Packets.summed) }
          let outcome = pair.b.receive(pieces)
          if expected < 0 {
            #expect(outcome.drops == [.ecnCongestion: 1] && outcome.host == [])
          } else {
            let packet = try #require(outcome.host.first)
            #expect(Int(family == .v4 ? packet[1] : packet[1] >> 4) & 3 == expected)
            #expect(family == .v6 || Packets.summed(packet) == packet)
          }
        }
      }
    }

    // MARK: Bounds

    /// One source has half of the buffers, all together have all; the oldest give way, and who sends without long breaks
    /// is put together whatever others do.
    @Test func memoryIsBounded() throws {
      let pair = try Pair()
      let fragments = pair.b.worker.pointee.fragments
      let before = TestGateway.buffersInUse
      func beginning(_ source: String, _ identification: Int) -> [UInt8] {
        let packet = Packets.udp(from: source, to: Pair.wan4.1, payload: [UInt8](repeating: 1, count: 64))
        return Packets.cut(packet, payload: 40, identification: UInt32(identification))[0]
      }
      // Of each datagram one of the test's 64 places, and several buffers.
      func flood(_ source: String, _ range: Range<Int>) -> TestGateway.Outcome {
        let pieces = range.map { number in
          Packets.fragment(
            of: Self.datagram(900), 28..<44, offset: 16 * (number / 60), hasMore: true,
            identification: UInt32(number % 60))
        }
        let from = IPAddress(source)!.bytes
        return pair.b.inBursts(
          pieces.map { Packets.summed(Array($0[..<12]) + from + $0[16...]) }, pair.b.receive)
      }
      let one = flood("198.51.100.7", 0..<1000)
      #expect(fragments.buffers <= FragmentTable.mostOfSource && fragments.buffers > FragmentTable.mostOfSource - 20)
      #expect(one.drops == [.fragmentLimit: UInt64(1000 - fragments.buffers)])
      for source in 1..<10 { _ = flood("198.51.100.\(10 + source)", 0..<400) }
      #expect(fragments.buffers <= FragmentTable.mostBuffers)
      #expect(TestGateway.buffersInUse - before == fragments.buffers)
      // Among thousands of beginnings one after the other.
      let packet = Self.datagram(1000)
      let pieces = Packets.cut(packet, payload: 488)
      var flow: [[UInt8]] = []
      for number in 0..<30 { flow.append(beginning("198.51.100.\(100 + number)", number)) }
      let outcome = pair.b.receive([pieces[0]] + flow + [pieces[1]])
      #expect(outcome.host == [])
      #expect(pair.b.receive([pieces[2]]).host == [packet])
      _ = pair.b.expireFragments()
      #expect(fragments.buffers == 0 && TestGateway.buffersInUse == before)
    }

    @Test func overlapsAreDroppedWhole() throws {
      let pair = try Pair()
      for family in [AddressFamily.v4, .v6] {
        let packet = Self.datagram(family == .v4 ? 1020 : 1040, family)
        let start = family == .v4 ? 20 : 40
        func piece(_ from: Int, _ to: Int, more: Bool = true) -> [UInt8] {
          Packets.fragment(of: packet, start + from..<start + to, offset: from, hasMore: more)
        }
        let rest = [piece(0, 504), piece(504, 1000, more: false)]
        for pieces in [
          [piece(0, 504), piece(496, 1000, more: false)], [piece(0, 504), piece(0, 504)],
          [piece(504, 1000, more: false), piece(504, 1000, more: false)],
          // Beyond the end, and an end before what there is.
          [piece(104, 504, more: false), piece(504, 1000)], [piece(504, 1000), piece(104, 504, more: false)],
          [piece(0, 504), piece(800, 1000, more: false), piece(504, 600), piece(592, 800)],
        ] {
          // Nor is anything made of what comes later.
          let outcome = pair.b.receive(pieces + rest)
          #expect(outcome.host == [] && outcome.drops == [.fragmentOverlap: UInt64(pieces.count + 2)])
          #expect(pair.b.expireFragments() == [:])
          #expect(pair.b.receive(rest).host == [packet])
        }
      }
    }

    /// Pieces at random of few datagrams, against a model: what comes out is what was sent, nothing is lost or left.
    @Test func agreesWithAModel() throws {
      struct Model {
        var ranges: [Range<Int>] = []
        var total: Int?
        var isRefused = false
      }
      var random = SeededGenerator()
      let pair = try Pair()
      let before = TestGateway.buffersInUse
      for round in 0..<300 {
        var models: [UInt32: Model] = [:]
        let family = Bool.random(using: &random) ? AddressFamily.v4 : .v6
        let header = family == .v4 ? 20 : 40
        let packet = Self.datagram(header + 2048, family, seed: 3)
        var alive = true
        for step in 0..<60 where alive {
          let identification = UInt32.random(in: 0..<6, using: &random)
          let first = Int.random(in: 0..<16, using: &random) * 128
          let isLast = first == 1920 || Int.random(in: 0..<20, using: &random) == 0
          let last = first + 128 - (isLast && Bool.random(using: &random) ? 3 : 0)
          let piece = Packets.fragment(
            of: packet, header + first..<header + last, offset: first, hasMore: !isLast, identification: identification)
          // A whole datagram is no fragment.
          if first == 0, isLast { continue }
          var model = models[identification] ?? Model()
          let isNew = !model.ranges.contains { $0.overlaps(first..<last) }
          let isInside =
            model.total.map { last <= $0 && !isLast } ?? (!isLast || model.ranges.allSatisfy { $0.upperBound <= last })
          var expected: [[UInt8]] = []
          if model.isRefused || !isNew || !isInside {
            model = Model(isRefused: true)
          } else {
            model.ranges.append(first..<last)
            if isLast { model.total = last }
            if model.total == model.ranges.reduce(0, { $0 + $1.count }) {
              expected = [Array(packet[..<(header + model.total!)])]
              model = Model()
            }
          }
          models[identification] = model
          let outcome = pair.b.receive([piece])
          alive = outcome.host.map { $0[header...] } == expected.map { $0[header...] }
          #expect(alive, "seed \(random.seed), round \(round), step \(step)")
        }
        _ = pair.b.expireFragments()
      }
      #expect(TestGateway.buffersInUse == before)
    }
  }
}
