import CLayout
import Engines
import IPsec
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Outer headers (RFC 4301 5.1.2, RFC 6040) in all four pairs of families, for every protocol that makes one.
  @Suite(.serialized) struct TunnelHeaderTests {
    static func sas(_ outer: AddressFamily) -> [SAParameters] {
      [
        Pair.sa(.esp, .tunnel, outer, transform: .esp(.aesGCM16)),
        Pair.sa(.ah, .tunnel, outer, transform: .ah(.hmacSHA256)), Pair.sa(.ipcomp, .tunnel, outer),
        Pair.sa(.ipip, .tunnel, outer),
      ]
    }

    struct Outer {
      var trafficClass: UInt8
      var flowLabel: UInt32
      var hops: UInt8
      var dontFragment: Bool
      var identification: UInt16

      init(_ packet: [UInt8]) {
        self = packet.withUnsafeBytes { bytes in
          let base = bytes.baseAddress!
          if bytes[0] >> 4 == 4 {
            let header = IPv4Header(base, length: bytes.count)!
            precondition(header.isChecksumValid && header.totalLength == bytes.count)
            return Outer(
              trafficClass: header.typeOfService, flowLabel: 0, hops: header.timeToLive,
              dontFragment: header.dontFragment, identification: header.identification)
          }
          let header = IPv6Header(base, length: bytes.count)!
          precondition(header.totalLength == bytes.count)
          return Outer(
            trafficClass: header.trafficClass, flowLabel: header.flowLabel, hops: header.hopLimit, dontFragment: true,
            identification: 0)
        }
      }

      private init(
        trafficClass: UInt8, flowLabel: UInt32, hops: UInt8, dontFragment: Bool, identification: UInt16
      ) {
        self.trafficClass = trafficClass
        self.flowLabel = flowLabel
        self.hops = hops
        self.dontFragment = dontFragment
        self.identification = identification
      }
    }

    static func seal(
      _ sa: SAParameters, _ inner: AddressFamily, trafficClass: UInt8 = 0, dontFragment: Bool = false
    ) throws -> (Pair, [UInt8], Outer) {
      let pair = try Pair()
      try pair.add([sa], for: Pair.subnets(inner))
      let hosts = Pair.hosts(inner)
      let packet = Packets.udp(
        from: hosts.0, to: hosts.1, payload: [UInt8](repeating: 7, count: 300), trafficClass: trafficClass,
        dontFragment: dontFragment)
      let sent = try #require(pair.a.receive([packet]).sent.first)
      return (pair, sent, Outer(sent))
    }

    @Test func dscpAndECNAreCopied() throws {
      for (inner, outer) in RoundTripTests.families {
        for sa in Self.sas(outer) {
          for trafficClass in [UInt8(0), 0xb8, 0xb9, 0x02, 0x03, 0xff] {
            let header = try Self.seal(sa, inner, trafficClass: trafficClass).2
            #expect(header.trafficClass == trafficClass, "\(sa.saProtocol) \(inner) in \(outer)")
            #expect(header.hops == 64)
            #expect(header.flowLabel == (inner == .v6 && outer == .v6 ? 0xabcde : 0))
          }
          var fixed = sa
          fixed.dscp = 10
          #expect(try Self.seal(fixed, inner, trafficClass: 0xb9).2.trafficClass == 10 << 2 | 1)
          var plain = sa
          plain.ecn = false
          #expect(try Self.seal(plain, inner, trafficClass: 0xb9).2.trafficClass == 0xb8)
        }
      }
    }

    @Test func dontFragmentIsCopiedSetOrCleared() throws {
      for sa in Self.sas(.v4) {
        for inner in [true, false] {
          for policy in [DFPolicy.copy, .set, .clear] {
            var sa = sa
            sa.df = policy
            let header = try Self.seal(sa, .v4, dontFragment: inner).2
            let expected = policy == .copy ? inner : policy == .set
            #expect(header.dontFragment == expected, "\(sa.saProtocol) \(policy)")
          }
        }
      }
    }

    /// RFC 6040, figure 4, cell by cell, through every protocol.
    @Test func congestionMarksOnTheWay() throws {
      let notECT: UInt8 = 0
      let (ect1, ect0, ce): (UInt8, UInt8, UInt8) = (1, 2, 3)
      let table: [UInt8: [UInt8: UInt8?]] = [
        notECT: [notECT: notECT, ect0: notECT, ect1: notECT, ce: nil],
        ect0: [notECT: ect0, ect0: ect0, ect1: ect1, ce: ce],
        ect1: [notECT: ect1, ect0: ect1, ect1: ect1, ce: ce],
        ce: [notECT: ce, ect0: ce, ect1: ce, ce: ce],
      ]
      for (inner, outer) in RoundTripTests.families {
        for sa in Self.sas(outer) {
          for (mark, row) in table {
            for (arriving, expected) in row {
              let (pair, sent, _) = try Self.seal(sa, inner, trafficClass: 0x28 | mark)
              var changed = sent
              if outer == .v4 {
                changed[1] = changed[1] & 0xfc | arriving
                changed = Packets.summed(changed)
              } else {
                changed[1] = changed[1] & 0xcf | arriving << 4
              }
              let outcome = pair.b.receive([changed])
              let comment: Comment = "\(sa.saProtocol) \(inner) in \(outer): \(mark) arriving as \(arriving)"
              if let expected {
                #expect(outcome.sent.first.map { Outer($0).trafficClass } == 0x28 | expected, comment)
              } else {
                #expect(outcome.sent.isEmpty && outcome.drops == [.ecnCongestion: 1], comment)
              }
            }
          }
        }
      }
    }

    /// RFC 3948 over IPv6, as Linux wants it.
    @Test func udpOverIPv6HasAChecksum() throws {
      for mode in [SAMode.tunnel, .transport] {
        var sa = Pair.sa(.esp, mode, .v6, transform: .esp(.aesGCM16))
        sa.encapsulation = UDPEncapsulation()
        let pair = try Pair()
        try pair.add([sa], for: mode == .tunnel ? Pair.subnets(.v6) : Pair.endpoints(.v6))
        let ends = mode == .tunnel ? Pair.host6 : Pair.wan6
        let packet = Packets.udp(from: ends.0, to: ends.1, payload: Array(0..<77))
        let outcome = mode == .tunnel ? pair.a.receive([packet]) : pair.a.sendFromHost([packet])
        let sent = try #require(outcome.sent.first)
        #expect(sent[6] == 17)
        sent.withUnsafeBytes { bytes in
          let header = IPv6Header(bytes.baseAddress!, length: bytes.count)!
          var sum = InternetChecksum()
          sum.addPseudoHeader(
            source: header.source, destination: header.destination, ipProtocol: 17, length: UInt32(bytes.count - 40))
          sum.add(header.payload, count: bytes.count - 40)
          #expect(sum.value == 0 && header.payload.big16(at: 6) != 0)
        }
      }
    }

    /// Behind a NAT the addresses that TCP and UDP were summed with are others (RFC 3948 3.1.2).
    @Test func transportChecksumsBehindANAT() throws {
      var sa = Pair.sa(.esp, .transport, .v4, transform: .esp(.aesGCM16))
      sa.encapsulation = UDPEncapsulation()
      let pair = try Pair()
      try pair.a.security.add(sa, origin: 0)
      var policy = PolicyParameters(
        direction: .out, selector: Pair.endpoints(.v4),
        templates: [SATemplate(mode: .transport, source: sa.source, destination: sa.destination)])
      policy.priority = 1
      _ = try pair.a.security.add(policy, replacing: false, origin: 0)
      try pair.b.security.add(sa, origin: 0)
      let sent = pair.a.sendFromHost([Packets.udp(from: Pair.wan4.0, to: Pair.wan4.1, payload: Array(0..<77))]).sent
      var translated = sent[0]
      translated[15] = 77
      translated[20] = 0x99
      // No policy names the translated address, but the SA may carry anything in transport mode to the gateway itself.
      policy = PolicyParameters(
        direction: .in,
        selector: Selector(source: IPPrefix("198.51.100.77/32")!, destination: IPPrefix("198.51.100.2/32")!),
        type: .bypass)
      _ = try pair.b.security.add(policy, replacing: false, origin: 0)
      let outcome = pair.b.receive([Packets.summed(translated)])
      let expected = Packets.udp(from: "198.51.100.77", to: Pair.wan4.1, payload: Array(0..<77))
      #expect(outcome.host == [expected])
      #expect(outcome.drops == [:])
    }
  }
}
