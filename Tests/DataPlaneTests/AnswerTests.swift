import Engines
import IPsec
import Routing
import Testing
import Wire

@testable import DataPlane

extension DataPlaneTests {
  /// Where ICMP errors go that quote what is protected.
  @Suite(.serialized) struct AnswerTests {
    private static let lan4 = (near: "10.1.0.0/16", far: "10.2.0.0/16", own: "10.1.0.1", host: "10.1.0.9")
    private static let lan6 = (
      near: "2001:db8:a::/48", far: "2001:db8:b::/48", own: "2001:db8:a::1", host: "2001:db8:a::9"
    )
    private static let far = (v4: "10.2.0.9", v6: "2001:db8:b::9")
    private static let secret = Array("what nobody on the way may see".utf8)

    /// A gateway with a WAN and a LAN, whose far end is a gateway with one port.
    private struct Site {
      let gateway: TestGateway
      let peer: TestGateway

      init(mtu: Int = TestEAL.mtu) throws {
        gateway = try TestGateway(
          own: ["198.51.100.1/24", "2001:db8:ffff::1/64"],
          far: [(lan4.far, "198.51.100.2"), (lan6.far, "2001:db8:ffff::2"), ("203.0.113.0/24", "198.51.100.3")],
          neighbors: [], lan: (["\(lan4.own)/16", "\(lan6.own)/48"], [lan4.host, lan6.host]), mtu: mtu)
        peer = try TestGateway(
          own: ["198.51.100.2/24", "2001:db8:ffff::2/64", "10.2.0.1/16", "2001:db8:b::1/48"],
          far: [(lan4.near, "198.51.100.1"), (lan6.near, "2001:db8:ffff::1")], neighbors: [far.v4, far.v6])
      }

      /// Tunnels both ways between the LANs.
      func addTunnels(_ family: AddressFamily, ipProtocol: UInt8? = nil) throws {
        let lans = family == .v4 ? (lan4.near, lan4.far) : (lan6.near, lan6.far)
        let wan = Pair.ends(family)
        for (spi, ends, lans) in [
          (UInt32(0x1000), wan, lans), (0x2000, (wan.1, wan.0), (lans.1, lans.0)),
        ] {
          var sa = SAParameters(
            spi: spi, source: ends.0, destination: ends.1, saProtocol: .esp, mode: .tunnel,
            transform: .esp(.aesGCM16), extendedSequenceNumbers: false)
          let selector = Selector(
            source: IPPrefix(lans.0)!, destination: IPPrefix(lans.1)!, ipProtocol: ipProtocol)
          for (side, isOut) in [(gateway, spi == 0x1000), (peer, spi != 0x1000)] {
            sa.direction = isOut ? .out : .in
            try side.security.add(sa, origin: 0)
            var policy = PolicyParameters(
              direction: isOut ? .out : .in, selector: selector,
              templates: [SATemplate(saProtocol: .esp, mode: .tunnel, source: ends.0, destination: ends.1)])
            policy.priority = 1000
            _ = try side.security.add(policy, replacing: false, origin: 0)
          }
        }
      }

      /// What the far host sends, as it comes in by the WAN.
      func sealed(_ packet: [UInt8]) -> [[UInt8]] { peer.receive([packet]).sent }
    }

    private static func isIn(_ packets: [[UInt8]], _ content: [UInt8] = secret) -> Bool {
      packets.contains { packet in packet.indices.contains { packet[$0...].starts(with: content) } }
    }

    private static func packet(
      _ family: AddressFamily, to destination: String? = nil, hops: UInt8 = 2, count: Int = 0,
      dontFragment: Bool = false
    ) -> [UInt8] {
      let (source, near) = family == .v4 ? (far.v4, lan4.host) : (far.v6, lan6.host)
      var packet = Packets.udp(
        from: source, to: destination ?? near, payload: secret + Array(repeating: 1, count: count),
        dontFragment: dontFragment)
      packet[family == .v4 ? 8 : 7] = hops
      return family == .v4 ? Packets.summed(packet) : packet
    }

    /// An ICMP error went through the tunnel to the far host, and nothing else anywhere.
    private static func expectAnswer(_ site: Site, _ outcome: TestGateway.Outcome, from source: String, type: UInt8) {
      #expect(!isIn(outcome.sent) && outcome.sent.count == 1 && outcome.host.isEmpty)
      let opened = site.peer.receive(outcome.sent)
      #expect(opened.drops.isEmpty && isIn(opened.sent))
      guard let answer = opened.sent.first else { return }
      let isV4 = answer[0] >> 4 == 4
      #expect(Array(isV4 ? answer[12..<16] : answer[8..<24]) == IPAddress(source)!.bytes)
      #expect(answer[isV4 ? 20 : 40] == type)
    }

    @Test(arguments: [AddressFamily.v4, .v6]) func hopsThatEndGoBackThroughTheTunnel(_ family: AddressFamily) throws {
      let site = try Site()
      try site.addTunnels(family)
      let outcome = site.gateway.receive(site.sealed(Self.packet(family)))
      #expect(outcome.drops == [.ttlExpired: 1])
      Self.expectAnswer(
        site, outcome, from: family == .v4 ? Self.lan4.own : Self.lan6.own, type: family == .v4 ? 11 : 3)
    }

    @Test func noRouteGoesBackThroughTheTunnel() throws {
      let site = try Site()
      try site.addTunnels(.v4)
      try site.gateway.routing.add(Route(IPPrefix("10.1.77.0/24")!, .unreachable))
      let outcome = site.gateway.receive(site.sealed(Self.packet(.v4, to: "10.1.77.1", hops: 9)))
      #expect(outcome.drops == [.unreachable: 1])
      Self.expectAnswer(site, outcome, from: Self.lan4.own, type: 3)
    }

    @Test func tooLargeForTheLANGoesBackThroughTheTunnel() throws {
      let site = try Site()
      try site.addTunnels(.v4)
      var interface = try #require(site.gateway.routing.interface(port: 1))
      interface.mtu = 600
      try site.gateway.routing.set(interface)
      let outcome = site.gateway.receive(
        site.sealed(Self.packet(.v4, hops: 9, count: 900, dontFragment: true)))
      #expect(outcome.drops == [.fragmentNeeded: 1])
      Self.expectAnswer(site, outcome, from: Self.lan4.own, type: 3)
    }

    /// No own address is within the policy: nothing is said.
    @Test func withoutAnAddressInThePolicyNothingIsSaid() throws {
      let site = try Site()
      try site.addTunnels(.v4)
      var interface = try #require(site.gateway.routing.interface(port: 1))
      interface.addresses = [LocalAddress("192.0.2.1/24")!]
      try site.gateway.routing.set(interface)
      try site.gateway.routing.add(Route(IPPrefix(Self.lan4.near)!, .connected(port: 1)))
      let outcome = site.gateway.receive(site.sealed(Self.packet(.v4)))
      #expect(outcome.sent.isEmpty && outcome.host.isEmpty)
      #expect(outcome.drops == [.ttlExpired: 1, .answerUnprotected: 1])
    }

    /// The way back is another tunnel's.
    @Test func anotherTunnelIsNoWayBack() throws {
      let site = try Site()
      try site.addTunnels(.v4)
      let elsewhere = IPAddress("198.51.100.3")!
      var sa = SAParameters(
        spi: 0x3000, source: Pair.ends(.v4).0, destination: elsewhere, saProtocol: .esp, mode: .tunnel,
        transform: CryptoTransform.esp(.aesGCM16).keyed(for: 0x3000), extendedSequenceNumbers: false)
      sa.direction = .out
      try site.gateway.security.add(sa, origin: 0)
      var policy = PolicyParameters(
        direction: .out, selector: Selector(source: IPPrefix(Self.lan4.near)!, destination: IPPrefix("10.2.0.9/32")!),
        templates: [SATemplate(saProtocol: .esp, mode: .tunnel, source: sa.source, destination: elsewhere)])
      policy.priority = 10
      _ = try site.gateway.security.add(policy, replacing: false, origin: 0)
      let outcome = site.gateway.receive(site.sealed(Self.packet(.v4)))
      #expect(outcome.sent.isEmpty && outcome.drops == [.ttlExpired: 1, .answerUnprotected: 1])
    }

    /// The SA of the way back goes while the answer waits: `use` would let anything else pass in clear.
    @Test func withoutAnSANothingIsSaid() throws {
      let site = try Site()
      try site.addTunnels(.v4)
      let sealed = site.sealed(Self.packet(.v4))
      try site.gateway.security.delete(
        SAIdentifier(spi: 0x1000, destination: Pair.ends(.v4).1, saProtocol: .esp), origin: 0)
      let outcome = site.gateway.receive(sealed)
      #expect(outcome.sent.isEmpty && outcome.drops == [.ttlExpired: 1, .answerUnprotected: 1])
    }

    /// About what a host on the LAN sends to be protected: in clear on the LAN, where it was in clear, and nowhere else.
    @Test func answersToTheLANStayThere() throws {
      let site = try Site()
      try site.addTunnels(.v4)
      func send(from source: String) -> TestGateway.Outcome {
        var packet = Packets.udp(from: source, to: Self.far.v4, payload: Self.secret)
        packet[8] = 1
        return site.gateway.receive([Packets.summed(packet)], port: 1)
      }
      let own = send(from: Self.lan4.host)
      #expect(own.sent.count == 1 && own.byLAN == own.sent && Self.isIn(own.byLAN) && own.drops == [.ttlExpired: 1])
    }

    /// A tunnel for UDP alone: an ICMP error about what came out of it is covered by no policy of its own, and goes the
    /// way of the traffic that it is about (RFC 4301 6.2), whoever sends it.
    @Test(arguments: [AddressFamily.v4, .v6]) func errorsOfOthersGoByThePolicyOfWhatTheyQuote(
      _ family: AddressFamily
    ) throws {
      let site = try Site()
      try site.addTunnels(family, ipProtocol: 17)
      let quoted = Self.packet(family)
      let (near, number): (String, UInt8) = family == .v4 ? (Self.lan4.host, 1) : (Self.lan6.host, 58)
      let unreachable: [UInt8] = family == .v4 ? [3, 3] : [1, 4]
      func error(about quoted: [UInt8]) -> [UInt8] {
        Packets.ip(
          from: near, to: family == .v4 ? Self.far.v4 : Self.far.v6, number: number,
          payload: unreachable + [UInt8](repeating: 0, count: 6) + quoted)
      }
      let outcome = site.gateway.receive([error(about: quoted)], port: 1)
      #expect(outcome.drops.isEmpty && outcome.sent.count == 1 && !Self.isIn(outcome.sent))
      // The same flow: what is quoted decides, packet by packet.
      var harmless = quoted
      harmless[family == .v4 ? 9 : 6] = 6
      let clear = site.gateway.receive([error(about: harmless)], port: 1)
      #expect(clear.drops.isEmpty && Self.isIn(clear.sent))
      let again = site.gateway.receive([error(about: quoted)], port: 1)
      #expect(again.sent.count == 1 && !Self.isIn(again.sent))
      // Quotations that are cut short are no reason to read on.
      for count in 0..<quoted.count {
        let short = site.gateway.receive([error(about: Array(quoted.prefix(count)))], port: 1)
        #expect(short.sent.count == 1 && !Self.isIn(short.sent, Self.secret))
      }
    }

    /// Of the gateway's own kernel, too.
    @Test func errorsOfTheKernelGoByThePolicyOfWhatTheyQuote() throws {
      let site = try Site()
      try site.addTunnels(.v4, ipProtocol: 17)
      let error = Packets.ip(
        from: Self.lan4.own, to: Self.far.v4, number: 1, payload: [3, 3, 0, 0, 0, 0, 0, 0] + Self.packet(.v4))
      let outcome = site.gateway.sendFromHost([error])
      #expect(outcome.drops.isEmpty && outcome.sent.count == 1 && !Self.isIn(outcome.sent))
    }
  }
}
