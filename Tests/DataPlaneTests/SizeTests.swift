import Engines
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Packets that do not fit their way, through every protocol.
  @Suite(.serialized) struct SizeTests {
    static func bundles(_ outer: AddressFamily) -> [(String, [SAParameters])] {
      var udp = Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesCBC, .hmacSHA256))
      udp.encapsulation = UDPEncapsulation()
      var padded = Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesGCM16))
      padded.tfcPadding = 1500
      return [
        ("esp", [Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesGCM16))]), ("udp", [udp]), ("tfc", [padded]),
        ("ah", [Pair.sa(.ah, .tunnel, outer, transform: .ah(.hmacSHA512))]), ("ipip", [Pair.sa(.ipip, .tunnel, outer)]),
        ("ipcomp", [Pair.sa(.ipcomp, .tunnel, outer)]),
        (
          "esp, ah",
          [
            Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesCBC, .hmacSHA1), requestID: 1),
            Pair.sa(.ah, .transport, outer, transform: .ah(.hmacSHA256), requestID: 2),
          ]
        ),
      ]
    }

    /// The MTU that the ICMP error names fits, and packets of that size do not exceed the link.
    @Test func theNamedMTUFits() throws {
      var generator = SeededGenerator()
      for (inner, outer) in RoundTripTests.families {
        for (name, layers) in Self.bundles(outer) {
          let comment: Comment = "\(name) \(inner) in \(outer)"
          let pair = try Pair(mtu: 1500)
          try pair.add(layers, for: Pair.subnets(inner))
          let hosts = Pair.hosts(inner)
          let header = inner == .v4 ? 28 : 48
          func packet(_ size: Int) -> [UInt8] {
            Packets.udp(
              from: hosts.0, to: hosts.1, payload: generator.bytes(size - header), dontFragment: true)
          }
          let outcome = pair.a.receive([packet(1500)])
          #expect(outcome.drops == [.fragmentNeeded: 1], comment)
          let error = try #require(outcome.sent.first, comment)
          let mtu = inner == .v4 ? Int(error[26]) << 8 | Int(error[27]) : Int(error[46]) << 8 | Int(error[47])
          #expect(inner == .v4 ? error[20] == 3 && error[21] == 4 : error[40] == 2, comment)
          #expect(mtu >= 1280 && mtu < 1500, comment)
          let fitting = packet(mtu)
          let sent = pair.a.receive([fitting])
          #expect(sent.drops == [:] && sent.sent.count == 1 && sent.sent[0].count <= 1500, comment)
          #expect(pair.b.receive(sent.sent).sent == [Packets.forwarded(fitting, hops: 2)], comment)
        }
      }
    }

    /// Without DF: in fragments, before or after protection, and whole again in the end.
    @Test func fragmentsBeforeAndAfter() throws {
      var generator = SeededGenerator()
      for after in [false, true] {
        for outer in [AddressFamily.v4, .v6] {
          for (name, layers) in Self.bundles(outer) {
            let comment: Comment = "\(name) in \(outer), after: \(after), seed \(generator.seed)"
            let pair = try Pair(mtu: 1500)
            pair.a.worker.pointee.shared.pointee.fragmentAfter.store(after, ordering: .relaxed)
            try pair.add(layers, for: Pair.subnets(.v4))
            let payload = generator.bytes(3000)
            let packet = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: payload)
            let sent = pair.a.receive([packet])
            #expect(sent.drops == [:] && sent.sent.count >= 3, comment)
            #expect(sent.sent.allSatisfy { $0.count <= 1500 }, comment)
            let opened = pair.b.receive(sent.sent)
            #expect(opened.drops == [:], comment)
            let pieces = opened.sent.sorted { Int($0[6] & 31) << 8 | Int($0[7]) < Int($1[6] & 31) << 8 | Int($1[7]) }
            #expect(pieces.flatMap { $0[20...] } == Array(packet[20...]), comment)
          }
        }
      }
    }

    /// What is cut after it was sealed leaves between its neighbours, in whose order the flow came.
    @Test func whatIsCutAfterwardsKeepsItsPlace() throws {
      for sizes in [[3000, 100, 100], [100, 3000, 100, 3000, 100], [1500, 1400, 1500, 1400, 100]] {
        let pair = try Pair(mtu: 1500)
        pair.a.worker.pointee.shared.pointee.fragmentAfter.store(true, ordering: .relaxed)
        try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
        let sent = pair.a.receive(
          sizes.map { size in
            Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [UInt8](repeating: 1, count: size - 28))
          }
        ).sent
        let firsts = sent.filter { $0[6] & 31 == 0 && $0[7] == 0 }
        #expect(sent.count > sizes.count && firsts.map { Int($0[27]) } == Array(1...sizes.count), "\(sizes)")
      }
    }

    /// A packet that does not fit leaves no gap in the numbers of those around it.
    @Test func refusedPacketsTakeNoNumbers() throws {
      let pair = try Pair(mtu: 1500)
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      func packet(_ size: Int) -> [UInt8] {
        Packets.udp(
          from: Pair.host4.0, to: Pair.host4.1, payload: [UInt8](repeating: 1, count: size - 28), dontFragment: true)
      }
      var numbers: [UInt8] = []
      for sizes in [[1500, 100, 1500, 100], [100, 1500], [1500], [100, 100]] {
        let outcome = pair.a.receive(sizes.map(packet))
        #expect(outcome.drops[.fragmentNeeded, default: 0] == UInt64(sizes.count { $0 == 1500 }))
        numbers += outcome.sent.filter { $0[9] == ESP.ipProtocol }.map { $0[27] }
      }
      #expect(numbers == [1, 2, 3, 4, 5])
    }

    /// Small IPv6 packets need not adapt: their outer packet is cut (RFC 8200 5).
    @Test func smallIPv6PacketsPass() throws {
      let pair = try Pair(mtu: 1290)
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: Pair.subnets(.v6))
      let packet = Packets.udp(from: Pair.host6.0, to: Pair.host6.1, payload: [UInt8](repeating: 9, count: 1232))
      let sent = pair.a.receive([packet])
      #expect(sent.drops == [:] && sent.sent.count == 2)
      #expect(pair.b.receive(sent.sent).sent == [Packets.forwarded(packet, hops: 2)])
    }

    /// What is cut outside is cut for what is known of the SA's path, as no router cuts IPv6: inner packets that nobody need
    /// make smaller, and those that may be cut.
    @Test func whatIsCutOutsideFitsThePath() throws {
      for path in [1280, 1300, 1355] {
        for (inner, size) in [(AddressFamily.v6, 1280), (.v4, 1400), (.v4, 8000)] {
          for (name, layers) in Self.bundles(.v6) {
            let comment: Comment = "\(name) \(inner), \(size) bytes over \(path)"
            let pair = try Pair(mtu: 1500)
            pair.a.worker.pointee.shared.pointee.fragmentAfter.store(true, ordering: .relaxed)
            try pair.add(layers, for: Pair.subnets(inner))
            let hosts = Pair.hosts(inner)
            let payload = [UInt8](repeating: 9, count: size - (inner == .v4 ? 28 : 48))
            let packet = Packets.udp(from: hosts.0, to: hosts.1, payload: payload)
            var last = try #require(pair.a.outboundSA(of: packet), comment)
            while let next = last.nextAtomic.pointee.load(ordering: .relaxed) { last = next }
            last.pathMTUAtomic.pointee.store(UInt32(path), ordering: .relaxed)
            let sent = pair.a.receive([packet])
            #expect(sent.drops == [:] && sent.sent.allSatisfy { $0.count <= path }, comment)
            let opened = pair.b.receive(sent.sent)
            #expect(opened.drops == [:], comment)
            let header = inner == .v4 ? 20 : 40
            #expect(opened.sent.flatMap { $0[header...] } == Array(packet[header...]), comment)
          }
        }
      }
    }

    /// What the gateway cut is refused piece by piece, and quoted with a fragment header: of the first, it says for which SA.
    @Test func theFirstPieceTellsThePath() throws {
      let pair = try Pair(mtu: 1500)
      pair.a.worker.pointee.shared.pointee.fragmentAfter.store(true, ordering: .relaxed)
      try pair.add([Pair.sa(.esp, .tunnel, .v6, transform: .esp(.aesGCM16))], for: Pair.subnets(.v4))
      let packet = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [UInt8](repeating: 1, count: 2000))
      let pieces = pair.a.receive([packet]).sent
      #expect(pieces.count == 2)
      for (piece, isFirst) in zip(pieces, [true, false]) {
        var message: [UInt8] = [2, 0, 0, 0, 0, 0, 5, 100] + piece.prefix(100)
        message.withUnsafeMutableBytes { bytes in
          var sum = InternetChecksum()
          sum.addPseudoHeader(
            source: IPv6Address(Pair.wan6.1)!, destination: IPv6Address(Pair.wan6.0)!, ipProtocol: IPProtocol.icmpv6,
            length: UInt32(bytes.count))
          sum.add(bytes.baseAddress!, count: bytes.count)
          bytes.baseAddress!.setBig16(sum.value, at: 2)
        }
        while pair.a.memory.events.pop() != nil {}
        _ = pair.a.receive([
          Packets.ip(from: Pair.wan6.1, to: Pair.wan6.0, number: IPProtocol.icmpv6, payload: message)
        ])
        let event = pair.a.memory.events.pop()
        #expect(isFirst ? event?.kind == .pathMTU && event?.value == 1380 : event == nil)
      }
    }

    /// Policies with ports are not for fragments: what they protect is cut outside, whatever is said of others.
    @Test func policiesWithPortsAreNotForFragments() throws {
      let pair = try Pair(mtu: 1500)
      var selector = Pair.subnets(.v4)
      selector.ipProtocol = IPProtocol.udp
      selector.destinationPorts = 2000...2000
      try pair.add([Pair.sa(.esp, .tunnel, .v4, transform: .esp(.aesGCM16))], for: selector)
      let packet = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [UInt8](repeating: 1, count: 3000))
      let sent = pair.a.receive([packet])
      #expect(sent.drops == [:] && sent.sent.count == 3)
      let opened = pair.b.receive(sent.sent)
      #expect(opened.drops == [:] && opened.sent.flatMap { $0[20...] } == Array(packet[20...]))
    }

    /// Transport mode protects whole datagrams: what the kernel cut is put together first, and cut again outside.
    @Test func fragmentsOfTheHost() throws {
      for family in [AddressFamily.v4, .v6] {
        for saProtocol in [SAProtocol.esp, .ah] {
          for path in [0, 1280] {
            let pair = try Pair(mtu: 1500)
            let transform: CryptoTransform = saProtocol == .esp ? .esp(.aesGCM16) : .ah(.hmacSHA256)
            try pair.add([Pair.sa(saProtocol, .transport, family, transform: transform)], for: Pair.endpoints(family))
            let wan = Pair.wan(family)
            let packet = Packets.udp(from: wan.0, to: wan.1, payload: [UInt8](repeating: 5, count: 2000))
            let sa = try #require(pair.a.outboundSA(of: packet))
            sa.pathMTUAtomic.pointee.store(UInt32(path), ordering: .relaxed)
            let sent = pair.a.sendFromHost(Packets.cut(packet, payload: 1448))
            #expect(sent.drops == [:] && sent.sent.count == 2 && sent.host == [])
            #expect(sent.sent.allSatisfy { $0.count <= (path == 0 || family == .v4 ? 1500 : path) })
            #expect(sent.sent.allSatisfy { $0[family == .v4 ? 9 : 40] == saProtocol.rawValue })
            let opened = pair.b.receive(sent.sent)
            #expect(opened.drops == [:] && opened.host == [packet])
          }
        }
      }
    }

    /// Also when they had to wait for the SA's keys.
    @Test func fragmentsOfTheHostWaitForKeys() throws {
      for family in [AddressFamily.v4, .v6] {
        let pair = try Pair(mtu: 1500, schedules: 1)
        // There is room for the keys of one.
        let other = Pair.sa(.esp, .tunnel, family == .v4 ? .v6 : .v4, spi: 0x2000, transform: .esp(.aesGCM16))
        try pair.a.security.add(other, origin: 0)
        try pair.add([Pair.sa(.esp, .transport, family, transform: .esp(.aesGCM16))], for: Pair.endpoints(family))
        let wan = Pair.wan(family)
        let packet = Packets.udp(from: wan.0, to: wan.1, payload: [UInt8](repeating: 5, count: 2000))
        let waiting = pair.a.sendFromHost(Packets.cut(packet, payload: 1448))
        #expect(waiting.sent == [] && waiting.drops == [:])
        let event = try #require(pair.a.memory.events.pop())
        pair.a.security.keysNeeded(serial: event.number)
        let sent = pair.a.releaseKeyed()
        #expect(sent.drops == [:] && sent.sent.count == 2)
      }
    }

    /// The gateway's own kernel learns the MTU, from an address that it believes.
    @Test func theKernelIsTold() throws {
      for family in [AddressFamily.v4, .v6] {
        let pair = try Pair(mtu: 1500)
        try pair.add([Pair.sa(.esp, .transport, family, transform: .esp(.aesGCM16))], for: Pair.endpoints(family))
        let wan = Pair.wan(family)
        let header = family == .v4 ? 28 : 48
        func packet(_ size: Int) -> [UInt8] {
          Packets.udp(
            from: wan.0, to: wan.1, payload: [UInt8](repeating: 1, count: size - header), dontFragment: true)
        }
        let outcome = pair.a.sendFromHost([packet(1500)])
        let error = try #require(outcome.host.first)
        let (from, to) = (IPAddress(wan.1)!.bytes, IPAddress(wan.0)!.bytes)
        if family == .v4 {
          #expect(Array(error[12..<16]) == from && Array(error[16..<20]) == to)
        } else {
          #expect(Array(error[8..<24]) == from && Array(error[24..<40]) == to)
        }
        let mtu = family == .v4 ? Int(error[26]) << 8 | Int(error[27]) : Int(error[46]) << 8 | Int(error[47])
        let sent = pair.a.sendFromHost([packet(mtu)])
        #expect(sent.sent.count == 1 && sent.sent[0].count <= 1500)
      }
    }
  }
}
