import CLayout
import Engines
import Testing
import Wire

@testable import DataPlane
@testable import IPsec

extension DataPlaneTests {
  /// What the gateway sealed itself, or what looks so, comes to it: no SA that seals opens a packet, or is charged for one.
  @Suite(.serialized) struct OwnPacketTests {
    private static let hardLimit: UInt64 = 500

    static func associations(_ outer: AddressFamily) -> [(name: String, sa: SAParameters)] {
      var list: [(String, SAParameters)] = []
      for mode in [SAMode.tunnel, .transport] {
        for transform in RoundTripTests.espTransforms {
          for esn in [false, true] {
            let sa = Pair.sa(.esp, mode, outer, transform: transform, esn: esn)
            list.append(("esp \(transform.encryption) \(mode), ESN \(esn)", sa))
          }
          var sa = Pair.sa(.esp, mode, outer, transform: transform)
          sa.encapsulation = UDPEncapsulation()
          list.append(("esp in udp \(transform.encryption) \(mode)", sa))
        }
        list.append(("ah \(mode)", Pair.sa(.ah, mode, outer, transform: .ah(.hmacSHA256))))
        list.append(("ipcomp \(mode)", Pair.sa(.ipcomp, mode, outer)))
      }
      list.append(("ipip", Pair.sa(.ipip, .tunnel, outer)))
      return list
    }

    /// A gateway that protects by `sa`, and takes from the other side what came by any SA of the kind, whoever the peer.
    private static func gateway(_ sa: SAParameters, inner: AddressFamily) throws -> TestGateway {
      let gateway = try TestGateway(
        own: ["198.51.100.1/24", "2001:db8:ffff::1/64", "10.1.0.1/16", "2001:db8:a::1/48"],
        far: [(Pair.lan4.1, Pair.wan4.1), (Pair.lan6.1, Pair.wan6.1)], neighbors: [Pair.host4.0, Pair.host6.0])
      try gateway.security.add(sa, origin: 0)
      let selector = sa.mode == .tunnel ? Pair.subnets(inner) : Pair.endpoints(inner)
      let back = Selector(source: selector.destination, destination: selector.source)
      let none = IPAddress.unspecified(sa.source.family)
      for (direction, selector, ends) in [
        (PolicyDirection.out, selector, (sa.source, sa.destination)), (.in, back, (none, none)),
      ] {
        var template = Pair.template(sa, direction)
        (template.source, template.destination) = ends
        var policy = PolicyParameters(direction: direction, selector: selector, templates: [template])
        policy.priority = 1000
        _ = try gateway.security.add(policy, replacing: false, origin: 0)
      }
      return gateway
    }

    /// From another address.
    private static func forged(_ packet: [UInt8]) -> [UInt8] {
      var packet = packet
      let isV4 = packet[0] >> 4 == 4
      packet[isV4 ? 15 : 23] ^= 0x40
      return isV4 ? Packets.summed(packet) : packet
    }

    /// Captured on its way out, and sent to the gateway again and again.
    private static func replay(_ name: String, _ sa: SAParameters, inner: AddressFamily, bursts: Int) throws {
      let comment: Comment = "\(name), \(inner) to \(sa.destination)"
      var sa = sa
      sa.hard.packets = hardLimit
      let gateway = try gateway(sa, inner: inner)
      let ends = sa.mode == .tunnel ? Pair.hosts(inner) : Pair.wan(inner)
      let packet = Packets.udp(from: ends.0, to: ends.1, payload: [UInt8](repeating: 0x61, count: 200))
      let first = sa.mode == .tunnel ? gateway.receive([packet]) : gateway.sendFromHost([packet])
      #expect(first.drops == [:] && first.sent.count == 1, comment)
      let sealed = try #require(first.sent.first, comment)
      for copy in [sealed, forged(sealed)] {
        // The CPIs of IPComp and the addresses of IP in IP are not the peer's alone to give away.
        let isNamed = sa.saProtocol == .esp || sa.saProtocol == .ah || sa.saProtocol == .ipcomp && copy == sealed
        for _ in 0..<bursts {
          let outcome = gateway.receive(Array(repeating: copy, count: 30))
          #expect(outcome.host.isEmpty, comment)
          if isNamed {
            #expect(outcome.drops == [.noSA: 30] && outcome.sent.isEmpty, comment)
          } else {
            #expect(outcome.sent.allSatisfy { $0 == Packets.forwarded(copy, hops: 1) }, comment)
          }
        }
      }
      let record = try #require(gateway.security.find(sa.identifier)?.sa, comment)
      let counted = gateway.memory.counters.read(slot: Int(record.pointee.slot))
      #expect(counted.packets == 1 && counted.drops == 0, comment)
      #expect(counted.replayed == 0 && counted.integrity_failures == 0, comment)
      #expect(record.usedPacketsAtomic.pointee.load(ordering: .relaxed) == 1, comment)
      #expect(record.statusAtomic.pointee.load(ordering: .relaxed) == 0, comment)
    }

    @Test(arguments: [AddressFamily.v4, .v6]) func tunnels(outer: AddressFamily) throws {
      for (name, sa) in Self.associations(outer) where sa.mode == .tunnel {
        for inner in [AddressFamily.v4, .v6] { try Self.replay(name, sa, inner: inner, bursts: 1) }
      }
    }

    @Test(arguments: [AddressFamily.v4, .v6]) func transports(family: AddressFamily) throws {
      for (name, sa) in Self.associations(family) where sa.mode == .transport {
        try Self.replay(name, sa, inner: family, bursts: 1)
      }
    }

    /// 900 of them end no limited SA.
    @Test func limitedSAs() throws {
      for saProtocol in [SAProtocol.esp, .ah] {
        let transform: CryptoTransform = saProtocol == .esp ? .esp(.aesGCM16) : .ah(.hmacSHA256)
        let sa = Pair.sa(saProtocol, .tunnel, .v4, transform: transform)
        try Self.replay("limited \(saProtocol)", sa, inner: .v4, bursts: 30)
      }
    }

    /// An SA of the way out whose far end is an address of the gateway's own.
    @Test func toAnOwnAddress() throws {
      for family in [AddressFamily.v4, .v6] {
        let own = Pair.ends(family).0
        var sa = Pair.sa(.esp, .tunnel, family, transform: .esp(.aesGCM16))
        sa.destination = own
        sa.direction = .out
        let gateway = try Self.gateway(sa, inner: family)
        let forged = Packets.ip(
          from: Pair.wan(family).1, to: "\(own)", number: IPProtocol.esp,
          payload: [0, 0, 0x10, 0, 0, 0, 0, 9] + [UInt8](repeating: 7, count: 64))
        #expect(gateway.receive([forged]).drops == [.noSA: 1])
      }
    }

    /// SPI 0 to 0.0.0.0: once it took the key of the packet before it, and went that one's way.
    @Test func theNameThatIsNone() throws {
      let pair = try Pair()
      let clear = Packets.udp(from: Pair.host4.0, to: Pair.host4.1, payload: [1, 2, 3])
      let esp = Packets.ip(
        from: Pair.wan4.1, to: "0.0.0.0", number: IPProtocol.esp, payload: [UInt8](repeating: 0, count: 64))
      let alone = pair.a.receive([esp])
      #expect(alone.sent.isEmpty && alone.host.isEmpty && alone.drops.values.reduce(0, +) == 1)
      // Records are used again in the order in which packets come.
      for _ in 0..<2 {
        _ = pair.a.receive([clear, clear])
        #expect(pair.a.receive([esp, clear]).drops == alone.drops)
        let outcome = pair.a.receive([clear, esp, esp])
        #expect(outcome.drops == alone.drops.mapValues { $0 * 2 })
        #expect(outcome.sent == [Packets.forwarded(clear, hops: 1)] && outcome.host.isEmpty)
      }
    }
  }
}
