import Engines
import Foundation
import IPsec
import SeededRandom
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  @Suite(.serialized) struct AHTests {
    struct Vector {
      var algorithm: AuthenticationAlgorithm
      var mode: SAMode
      var inner: AddressFamily
      var outer: AddressFamily
      var packet: [UInt8]
      var content: [UInt8]
    }

    static func vectors() throws -> [Vector] {
      let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Vectors/ah-scapy.txt")
      return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").filter { $0.first != "#" }.map {
        let words = $0.split(separator: " ").map(String.init)
        return Vector(
          algorithm: AuthenticationAlgorithm.allCases.first { "\($0)" == words[0] }!,
          mode: words[1] == "tunnel" ? .tunnel : .transport, inner: words[2].first == "4" ? .v4 : .v6,
          outer: words[2].last == "4" ? .v4 : .v6, packet: bytes(words[3]), content: bytes(words[4]))
      }
    }

    static func bytes(_ hex: String) -> [UInt8] {
      let digits = Array(hex.utf8).map { UInt8(Character(Unicode.Scalar($0)).hexDigitValue!) }
      return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    @Test func opensWhatScapyMade() throws {
      let vectors = try Self.vectors()
      #expect(vectors.count == 36)
      for vector in vectors {
        let pair = try Pair(engines: (OpenSSLEngine(), FastEngine()))
        let selector = vector.mode == .tunnel ? Pair.subnets(vector.inner) : Pair.endpoints(vector.outer)
        let sa = Pair.sa(.ah, vector.mode, vector.outer, transform: .ah(vector.algorithm))
        try pair.add([sa], for: selector)
        let outcome = pair.b.receive([vector.packet])
        let comment: Comment = "\(vector)"
        #expect(outcome.drops == [:], comment)
        if vector.mode == .tunnel {
          #expect(outcome.sent == [Packets.forwarded(vector.content, hops: 1)], comment)
        } else {
          #expect(outcome.host == [vector.content], comment)
        }
      }
    }

    /// A gateway pair with an AH transport SA, and a packet sealed by it.
    static func sealed(
      _ packet: [UInt8], _ family: AddressFamily, _ algorithm: AuthenticationAlgorithm = .hmacSHA256, esn: Bool = false
    ) throws -> (Pair, [UInt8]) {
      let pair = try Pair()
      try pair.add(
        [Pair.sa(.ah, .transport, family, transform: .ah(algorithm), esn: esn)], for: Pair.endpoints(family))
      let outcome = pair.a.sendFromHost([packet])
      return (pair, try #require(outcome.sent.first))
    }

    @Test func mutableFieldsOfIPv4MayChange() throws {
      // Router alert (covered), timestamp (not covered), end of list.
      let options: [UInt8] = [0x94, 4, 0, 0, 0x44, 8, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      let packet = Packets.udp(
        from: Pair.wan4.0, to: Pair.wan4.1, payload: Array(0..<99), trafficClass: 0x28, options: options)
      let (pair, sealed) = try Self.sealed(packet, .v4)
      var changed = sealed
      changed[1] = 0x03
      changed[8] -= 9
      changed[20 + 4 + 2] = 9
      changed[20 + 4 + 7] = 0x77
      let outcome = pair.b.receive([Packets.summed(changed)])
      var expected = packet
      expected[1] = 0x03
      expected[8] -= 9
      expected[20 + 4 + 2] = 9
      expected[20 + 4 + 7] = 0x77
      #expect(outcome.host == [Packets.summed(expected)])
      for offset in [4, 12, 15, 20 + 3] {
        let (pair, sealed) = try Self.sealed(packet, .v4)
        var forged = sealed
        forged[offset] ^= 1
        let outcome = pair.b.receive([Packets.summed(forged)])
        #expect(outcome.host.isEmpty && outcome.drops == [.integrity: 1], "offset \(offset)")
      }
    }

    @Test func mutableFieldsOfIPv6MayChange() throws {
      // Hop-by-hop: one option that may change, one that may not; destination options behind it.
      let udp = Array(Packets.udp(from: Pair.wan6.0, to: Pair.wan6.1, payload: Array(0..<50))[40...])
      let hopByHop: [UInt8] = [60, 1, 0x3e, 4, 1, 2, 3, 4, 0x1e, 4, 5, 6, 7, 8, 1, 0]
      let destination: [UInt8] = [17, 0, 0x1e, 4, 9, 9, 9, 9]
      let packet = Packets.ip(
        from: Pair.wan6.0, to: Pair.wan6.1, number: 0, payload: hopByHop + destination + udp)
      let (pair, sealed) = try Self.sealed(packet, .v6, .aesGMAC, esn: true)
      var changed = sealed
      changed[0] = 0x6f
      changed[1] = 0x12
      changed[2] = 0x34
      changed[7] -= 20
      changed[40 + 4] = 0x99
      let outcome = pair.b.receive([changed])
      var expected = packet
      for offset in [0, 1, 2, 7, 44] { expected[offset] = changed[offset] }
      #expect(outcome.host == [expected] && outcome.drops == [:])
      for offset in [23, 40 + 10, sealed.count - 1] {
        let (pair, sealed) = try Self.sealed(packet, .v6, .aesGMAC, esn: true)
        var forged = sealed
        forged[offset] ^= 1
        let outcome = pair.b.receive([forged])
        #expect(outcome.host.isEmpty && outcome.drops == [.integrity: 1], "offset \(offset)")
      }
    }

    /// RFC 6946: a datagram of one fragment is whole, and its fragment header is not what AH saw.
    @Test(arguments: [[], [60, 0, 0x1e, 4, 5, 6, 7, 8, 17, 0, 0x1e, 4, 9, 9, 9, 9]] as [[UInt8]])
    func atomicFragmentsAreWhole(extensions: [UInt8]) throws {
      let udp = Array(Packets.udp(from: Pair.wan6.0, to: Pair.wan6.1, payload: Array(0..<50))[40...])
      let packet = Packets.ip(
        from: Pair.wan6.0, to: Pair.wan6.1, number: extensions.isEmpty ? 17 : 0, payload: extensions + udp)
      let (pair, sealed) = try Self.sealed(packet, .v6)
      // AH stands behind the hop-by-hop options, where the fragment header goes too.
      let (end, number) = extensions.isEmpty ? (40, 6) : (48, 40)
      #expect(sealed[number] == 51)
      var atomic = Array(sealed[..<end]) + [51, 0, 0, 0, 1, 2, 3, 4] + sealed[end...]
      atomic[number] = 44
      Self.setLength(&atomic)
      var forged = atomic
      forged[end + 8 + 12] ^= 1
      let refused = pair.b.receive([forged])
      #expect(refused.host.isEmpty && refused.drops == [.integrity: 1])
      let outcome = pair.b.receive([atomic])
      #expect(outcome.host == [packet] && outcome.drops == [:])
    }

    /// Dummy packets are ESP's (RFC 4303 2.6). In AH next header 59 says what it says in IPv6: nothing follows.
    @Test func noNextHeaderIsNoDummy() throws {
      let packet = Packets.ip(from: Pair.wan6.0, to: Pair.wan6.1, number: 59, payload: [])
      let (pair, sealed) = try Self.sealed(packet, .v6)
      let outcome = pair.b.receive([sealed])
      #expect(outcome.host == [packet] && outcome.drops == [:])
    }

    @Test func headerLengthsAreChecked() throws {
      let packet = Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: Array(0..<99))
      for length in UInt8.min...UInt8.max {
        let (pair, sealed) = try Self.sealed(packet, .v4, .hmacSHA1)
        var lying = sealed
        lying[21] = length
        let outcome = pair.b.receive([lying])
        #expect(outcome.host.isEmpty == (length != sealed[21]))
        #expect(outcome.drops.values.reduce(0, +) == (length == sealed[21] ? 0 : 1))
      }
    }

    /// Nothing that was changed on the way comes out as if it had not been, and no buffer is lost.
    @Test func hostilePackets() throws {
      var generator = SeededGenerator()
      let comment: Comment = "seed \(generator.seed)"
      for family in [AddressFamily.v4, .v6] {
        let wan = Pair.wan(family)
        let packet = Packets.udp(from: wan.0, to: wan.1, payload: generator.bytes(120))
        let (pair, sealed) = try Self.sealed(packet, family, .hmacSHA384, esn: true)
        let used = TestGateway.buffersInUse
        let w = pair.b.worker
        let destination = IPAddress(wan.1)!
        let sa = try #require(pair.b.security.sad.lookup(spi: 0x1000, destination: destination, saProtocol: 51))
        var accepted: UInt64 = 0
        for _ in 0..<3000 {
          var hostile = sealed
          for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let offset = Int.random(in: 0..<hostile.count, using: &generator)
            hostile[offset] = UInt8.random(in: 0...255, using: &generator)
          }
          if Bool.random(using: &generator) {
            hostile.removeLast(Int.random(in: 0..<hostile.count, using: &generator))
            if hostile.count >= 40 { Self.setLength(&hostile) }
          }
          if family == .v4, hostile.count >= 60 { hostile = Self.summed(hostile) }
          let outcome = pair.b.receive([hostile])
          // Other packets than AH may go where they like.
          let count = w.pointee.counters.read(slot: Int(sa.pointee.slot)).packets
          if count != accepted, hostile != sealed {
            #expect(outcome.host.count == 1 && Self.sameButMutable(outcome.host[0], packet), comment)
          }
          accepted = count
        }
        // Fragments wait for their rest.
        #expect(TestGateway.buffersInUse <= used + 600, comment)
      }
    }

    static func setLength(_ packet: inout [UInt8]) {
      if packet[0] >> 4 == 4 {
        (packet[2], packet[3]) = (UInt8(packet.count >> 8), UInt8(packet.count & 255))
      } else {
        let length = packet.count - 40
        (packet[4], packet[5]) = (UInt8(length >> 8), UInt8(length & 255))
      }
    }

    static func summed(_ packet: [UInt8]) -> [UInt8] {
      var packet = packet
      let length = Int(packet[0] & 15) * 4
      guard length >= 20, length <= packet.count else { return packet }
      packet.withUnsafeMutableBytes { IPv4Header.setChecksum($0.baseAddress!, headerLength: length) }
      return packet
    }

    static func sameButMutable(_ a: [UInt8], _ b: [UInt8]) -> Bool {
      func image(_ packet: [UInt8]) -> [UInt8] {
        var packet = packet
        for offset in packet[0] >> 4 == 4 ? [1, 6, 7, 8, 10, 11] : [1, 2, 3, 7] { packet[offset] = 0 }
        packet[0] &= 0xf0
        return packet
      }
      return a.count == b.count && image(a) == image(b)
    }

    /// What Linux sends and expects over IPv4 unless told `align4`.
    @Test func alignmentTo64Bits() throws {
      let packet = Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: Array(0..<99))
      for (algorithm, lengths) in [(AuthenticationAlgorithm.hmacSHA256, (28, 32)), (.hmacSHA1, (24, 24))] {
        for wide in [false, true] {
          var sa = Pair.sa(.ah, .transport, .v4, transform: .ah(algorithm))
          sa.alignsAHTo64Bits = wide
          let pair = try Pair()
          try pair.add([sa], for: Pair.endpoints(.v4))
          let sent = pair.a.sendFromHost([packet]).sent
          #expect(sent[0].count == packet.count + (wide ? lengths.1 : lengths.0))
          #expect(pair.b.receive(sent).host == [packet])
          sa.alignsAHTo64Bits = !wide
          let other = try Pair()
          try other.add([sa], for: Pair.endpoints(.v4))
          #expect(other.b.receive(sent).host == [packet])
        }
      }
    }

    @Test func sequenceNumbersRunOut() throws {
      let wan = Pair.wan4
      let pair = try Pair()
      var sa = Pair.sa(.ah, .transport, .v4, transform: .ah(.hmacSHA1))
      sa.sequence = UInt64(UInt32.max) - 3
      try pair.add([sa], for: Pair.endpoints(.v4))
      let packets = (0..<8).map { Packets.udp(from: wan.0, to: wan.1, payload: [$0]) }
      let outcome = pair.a.sendFromHost(packets)
      #expect(outcome.sent.count < 4 && outcome.drops[.sequenceExhausted] == UInt64(8 - outcome.sent.count))
      #expect(pair.a.sendFromHost(packets).sent.isEmpty)
    }
  }
}
