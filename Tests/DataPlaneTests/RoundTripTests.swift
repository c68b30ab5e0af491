import CLayout
import Engines
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// What one gateway seals another opens: what comes out is what went in, less two hops.
  @Suite(.serialized) struct RoundTripTests {
    static let espTransforms: [CryptoTransform] = [
      .esp(.aesGCM16), .esp(.aesGCM8), .esp(.aesCBC, .hmacSHA1), .esp(.aesCBC, .hmacSHA256), .esp(.aesCTR, .hmacSHA512),
      .esp(.aesCCM12), .esp(.chacha20Poly1305), .esp(.null, .hmacSHA384), .esp(.aesGMAC),
      .esp(.tripleDESCBC, .hmacMD5), .esp(.null, .aesXCBC), .esp(.camelliaCBC, .aesCMAC),
    ]
    static let engines: (any CryptoEngine, any CryptoEngine) = (OpenSSLEngine(), FastEngine())
    static let families: [(AddressFamily, AddressFamily)] = [(.v4, .v4), (.v4, .v6), (.v6, .v4), (.v6, .v6)]

    /// Sizes around the blocks, small, large.
    static func sizes(_ generator: inout SeededGenerator, below limit: Int) -> [Int] {
      [0, 1, Int.random(in: 2...31, using: &generator), Int.random(in: 32...99, using: &generator)]
        + (0..<6).map { _ in Int.random(in: 100...limit, using: &generator) } + [limit]
    }

    static func tunnel(
      _ layers: [SAParameters], inner: AddressFamily, _ generator: inout SeededGenerator, comment: Comment,
      limit: Int = 8800, engines: (any CryptoEngine, any CryptoEngine) = Self.engines
    ) throws {
      let pair = try Pair(engines: engines)
      try pair.add(layers, for: Pair.subnets(inner))
      let hosts = Pair.hosts(inner)
      var packets: [[UInt8]] = []
      for size in sizes(&generator, below: limit) {
        packets.append(Packets.udp(from: hosts.0, to: hosts.1, payload: generator.content(size), trafficClass: 0xb8))
      }
      let used = TestGateway.buffersInUse
      let sealed = pair.a.receive(packets)
      #expect(sealed.drops == [:] && sealed.sent.count == packets.count, comment)
      let opened = pair.b.receive(sealed.sent)
      #expect(opened.drops == [:], comment)
      // Packets that need no engine overtake others.
      let expected = packets.map { Packets.forwarded($0, hops: 2) }
      #expect(opened.sent.sorted { $0.count < $1.count } == expected.sorted { $0.count < $1.count }, comment)
      #expect(TestGateway.buffersInUse == used, comment)
      // None is accepted twice, where there is protection.
      if layers.contains(where: { $0.saProtocol == .esp || $0.saProtocol == .ah }) {
        let again = pair.b.receive(sealed.sent)
        #expect(again.sent.isEmpty && again.drops == [.replayDuplicate: UInt64(packets.count)], comment)
      }
    }

    static func transport(
      _ layers: [SAParameters], _ family: AddressFamily, _ generator: inout SeededGenerator, comment: Comment,
      limit: Int = 8800
    ) throws {
      let pair = try Pair(engines: Self.engines)
      try pair.add(layers, for: Pair.endpoints(family))
      let wan = Pair.wan(family)
      var packets: [[UInt8]] = []
      for size in sizes(&generator, below: limit) {
        packets.append(Packets.udp(from: wan.0, to: wan.1, payload: generator.content(size), trafficClass: 0x28))
      }
      let sealed = pair.a.sendFromHost(packets)
      #expect(sealed.drops == [:] && sealed.sent.count == packets.count, comment)
      let opened = pair.b.receive(sealed.sent)
      #expect(opened.drops == [:], comment)
      #expect(opened.host.sorted { $0.count < $1.count } == packets.sorted { $0.count < $1.count }, comment)
    }

    @Test func espTunnels() throws {
      var generator = SeededGenerator()
      for transform in Self.espTransforms {
        for (inner, outer) in Self.families {
          for esn in [false, true] {
            try Self.tunnel(
              [Pair.sa(.esp, .tunnel, outer, transform: transform, esn: esn)], inner: inner, &generator,
              comment: "seed \(generator.seed): \(transform.encryption) \(inner) in \(outer), ESN \(esn)")
          }
        }
      }
    }

    /// What transport mode protects is no tunnel's, whatever it looks like and whatever its protocol.
    @Test func transportModeCarriesNoTunnel() throws {
      for esn in [false, true] {
        let pair = try Pair(engines: Self.engines)
        let sa = Pair.sa(.esp, .transport, .v4, transform: .esp(.aesGCM16), esn: esn)
        try pair.add([sa], for: Pair.endpoints(.v4))
        let inner = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [1, 2, 3])
        let packets = [UInt8(0), 59, 253, 255].map {
          Packets.ip(from: Pair.wan4.0, to: Pair.wan4.1, number: $0, payload: inner)
        }
        let sealed = pair.a.sendFromHost(packets)
        #expect(sealed.sent.count == packets.count && sealed.drops == [:])
        let opened = pair.b.receive(sealed.sent)
        #expect(opened.sent.isEmpty)
        // Protocol 59 is a dummy packet (RFC 4303 2.6).
        #expect(opened.host == [packets[0], packets[2], packets[3]] && opened.drops == [.espDummy: 1])
      }
    }

    /// Bursts of one policy, as the one before and not, and of two in any mixture: the ways through them differ.
    @Test func espTunnelsBurstAfterBurst() throws {
      var generator = SeededGenerator()
      for esn in [false, true] {
        let pair = try Pair(engines: Self.engines)
        for (spi, family) in [(UInt32(0x1000), AddressFamily.v4), (0x2000, .v6)] {
          let sa = Pair.sa(.esp, .tunnel, .v4, spi: spi, transform: .esp(.aesGCM16), esn: esn)
          try pair.add([sa], for: Pair.subnets(family))
        }
        let used = TestGateway.buffersInUse
        for round in 0..<60 {
          let comment: Comment = "seed \(generator.seed), round \(round), ESN \(esn)"
          let only = [AddressFamily.v4, .v6, nil].randomElement(using: &generator)!
          let packets = (0..<Int.random(in: 1...32, using: &generator)).map { _ in
            let hosts = Pair.hosts(only ?? (Bool.random(using: &generator) ? .v4 : .v6))
            return Packets.udp(
              from: hosts.0, to: hosts.1, payload: generator.content(.random(in: 0...300, using: &generator)),
              trafficClass: UInt8.random(in: 0...3, using: &generator), dontFragment: Bool.random(using: &generator))
          }
          let sealed = pair.a.receive(packets)
          #expect(sealed.drops == [:] && sealed.sent.count == packets.count, comment)
          let opened = pair.b.receive(sealed.sent)
          #expect(opened.drops == [:] && opened.sent == packets.map { Packets.forwarded($0, hops: 2) }, comment)
        }
        #expect(TestGateway.buffersInUse == used)
      }
    }

    @Test func espTransport() throws {
      var generator = SeededGenerator()
      for transform in Self.espTransforms {
        for family in [AddressFamily.v4, .v6] {
          for esn in [false, true] {
            try Self.transport(
              [Pair.sa(.esp, .transport, family, transform: transform, esn: esn)], family, &generator,
              comment: "seed \(generator.seed): \(transform.encryption) \(family), ESN \(esn)")
          }
        }
      }
    }

    @Test func espInUDP() throws {
      var generator = SeededGenerator()
      for family in [AddressFamily.v4, .v6] {
        var sa = Pair.sa(.esp, .tunnel, family, transform: .esp(.aesGCM16))
        sa.encapsulation = UDPEncapsulation()
        for inner in [AddressFamily.v4, .v6] {
          try Self.tunnel([sa], inner: inner, &generator, comment: "seed \(generator.seed): \(inner) in UDP \(family)")
        }
        sa.mode = .transport
        try Self.transport([sa], family, &generator, comment: "seed \(generator.seed): transport in UDP \(family)")
      }
    }

    @Test func ahTunnels() throws {
      var generator = SeededGenerator()
      for algorithm in AuthenticationAlgorithm.allCases {
        for (inner, outer) in Self.families {
          for esn in [false, true] {
            try Self.tunnel(
              [Pair.sa(.ah, .tunnel, outer, transform: .ah(algorithm), esn: esn)], inner: inner, &generator,
              comment: "seed \(generator.seed): \(algorithm) \(inner) in \(outer), ESN \(esn)")
          }
        }
      }
    }

    @Test func ahTransport() throws {
      var generator = SeededGenerator()
      for algorithm in AuthenticationAlgorithm.allCases {
        for family in [AddressFamily.v4, .v6] {
          for esn in [false, true] {
            try Self.transport(
              [Pair.sa(.ah, .transport, family, transform: .ah(algorithm), esn: esn)], family, &generator,
              comment: "seed \(generator.seed): \(algorithm) \(family), ESN \(esn)")
          }
        }
      }
    }

    @Test func ipcomp() throws {
      var generator = SeededGenerator()
      for (inner, outer) in Self.families {
        for _ in 0..<3 {
          let sa = Pair.sa(.ipcomp, .tunnel, outer)
          try Self.tunnel([sa], inner: inner, &generator, comment: "seed \(generator.seed): \(inner) in \(outer)")
        }
      }
      for family in [AddressFamily.v4, .v6] {
        for _ in 0..<3 {
          let sa = Pair.sa(.ipcomp, .transport, family)
          try Self.transport([sa], family, &generator, comment: "seed \(generator.seed): \(family)")
        }
      }
    }

    @Test func ipip() throws {
      var generator = SeededGenerator()
      for (inner, outer) in Self.families {
        let sa = Pair.sa(.ipip, .tunnel, outer)
        try Self.tunnel([sa], inner: inner, &generator, comment: "seed \(generator.seed): \(inner) in \(outer)")
      }
    }

    @Test func bundles() throws {
      var generator = SeededGenerator()
      for (inner, outer) in Self.families {
        for esn in [false, true] {
          let bundles: [(String, [SAParameters])] = [
            (
              "ESP tunnel, AH",
              [
                Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesGCM16), esn: esn, requestID: 1),
                Pair.sa(.ah, .transport, outer, transform: .ah(.hmacSHA256), esn: esn, requestID: 2),
              ]
            ),
            (
              "IPComp tunnel, ESP",
              [
                Pair.sa(.ipcomp, .tunnel, outer, requestID: 1),
                Pair.sa(.esp, .transport, outer, transform: .esp(.aesCBC, .hmacSHA1), esn: esn, requestID: 2),
              ]
            ),
            (
              "IPComp tunnel, ESP, AH",
              [
                Pair.sa(.ipcomp, .tunnel, outer, requestID: 1),
                Pair.sa(.esp, .transport, outer, transform: .esp(.aesCTR, .hmacSHA1), esn: esn, requestID: 2),
                Pair.sa(.ah, .transport, outer, transform: .ah(.aesGMAC), esn: esn, requestID: 3),
              ]
            ),
            (
              "AH tunnel, ESP",
              [
                Pair.sa(.ah, .tunnel, outer, transform: .ah(.aesCMAC), esn: esn, requestID: 1),
                Pair.sa(.esp, .transport, outer, transform: .esp(.chacha20Poly1305), esn: esn, requestID: 2),
              ]
            ),
          ]
          for (name, layers) in bundles {
            try Self.tunnel(
              layers, inner: inner, &generator, comment: "seed \(generator.seed): \(name), \(inner) in \(outer)",
              limit: 8700)
          }
        }
      }
      for family in [AddressFamily.v4, .v6] {
        try Self.transport(
          [
            Pair.sa(.ipcomp, .transport, family, requestID: 1),
            Pair.sa(.esp, .transport, family, transform: .esp(.aesGCM16), requestID: 2),
            Pair.sa(.ah, .transport, family, transform: .ah(.hmacSHA512), requestID: 3),
          ], family, &generator, comment: "seed \(generator.seed): IPComp, ESP, AH transport \(family)", limit: 8700)
      }
    }

    @Test func tfcPadding() throws {
      var generator = SeededGenerator()
      for (inner, outer) in Self.families {
        var sa = Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesGCM16))
        sa.tfcPadding = 1400
        try Self.tunnel([sa], inner: inner, &generator, comment: "seed \(generator.seed): \(inner) in \(outer)")
        let pair = try Pair()
        try pair.add([sa], for: Pair.subnets(inner))
        let hosts = Pair.hosts(inner)
        let packets = [0, 1, 500, 1300].map { Packets.udp(from: hosts.0, to: hosts.1, payload: generator.bytes($0)) }
        let lengths = Set(pair.a.receive(packets).sent.map(\.count))
        #expect(lengths.count == 1 && lengths.first! >= 1400)
      }
    }
  }
}
